"""Routes: next hops, RFC 3261 §8.1.2 and §16.6."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, Request
from sippet_gevent.core.routing.routes import as_request_uri, take_next_hop


def request(uri="sip:bob@example.com", *routes, **headers):
    return Request("INVITE", uri, route=routes, **headers)


def routes(message):
    return tuple(map(str, message.route))


# ---- next hop


@pytest.mark.rfc("3261 16.6")
@pytest.mark.parametrize(("uri", "given", "hop", "then"), [
    ("sip:bob@b", (), "sip:bob@b", ("sip:bob@b", ())),
    ("sip:bob@b", ("<sip:p;lr>",), "sip:p;lr", ("sip:bob@b", ("<sip:p;lr>",))),
    ("sip:bob@b", ("<sip:p;lr=on>",), "sip:p;lr=on", ("sip:bob@b", ("<sip:p;lr=on>",))),
    ("sip:bob@b", ("<sip:p;lr>", "<sip:s>"), "sip:p;lr", ("sip:bob@b", ("<sip:p;lr>", "<sip:s>"))),
    ("sip:bob@b", ("<sip:s>",), "sip:s", ("sip:s", ("<sip:bob@b>",))),
    ("sip:bob@b", ("<sip:s>", "<sip:p;lr>"), "sip:s", ("sip:s", ("<sip:p;lr>", "<sip:bob@b>"))),
    ("sip:bob@b;x=1", ("<sip:s;method=BYE;y=2?Subject=a>",), "sip:s;method=BYE;y=2?Subject=a", ("sip:s;y=2", ("<sip:bob@b;x=1>",))),
])  # fmt: skip
def test_next_hop_is_the_topmost_route_or_a_strict_one_as_request_uri(uri, given, hop, then):
    message = request(uri, *given)
    assert str(take_next_hop(message)) == hop
    assert (str(message.uri), routes(message)) == then


@pytest.mark.rfc("3261 19.1.1")
def test_request_uri_has_neither_method_nor_headers():
    assert (
        str(as_request_uri(URI.parse("sip:a@b;method=INVITE;transport=udp?Subject=x")))
        == "sip:a@b;transport=udp"
    )
