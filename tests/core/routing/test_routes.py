"""Routes: next hops, and our own Route values, RFC 3261 §8.1.2 and §16.4."""

from __future__ import annotations

import pytest

from sippet_gevent import URI, Request
from sippet_gevent.core.routing.routes import as_request_uri, take_next_hop, take_own_route

US = ("10.0.0.1", 5060)
"""The address of this proxy."""


def is_local(uri):
    return (uri.host, uri.port or 5060) == US


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


# ---- our own Route


@pytest.mark.rfc("3261 16.4")
@pytest.mark.parametrize(("uri", "given", "taken", "then"), [
    # no Route of ours
    ("sip:bob@b", (), False, ("sip:bob@b", ())),
    ("sip:bob@b", ("<sip:p;lr>",), False, ("sip:bob@b", ("<sip:p;lr>",))),
    ("sip:10.0.0.1", (), False, ("sip:10.0.0.1", ())),
    ("sip:bob@b", ("<sip:10.0.0.1:5070;lr>",), False, ("sip:bob@b", ("<sip:10.0.0.1:5070;lr>",))),
    # ours on top
    ("sip:bob@b", ("<sip:10.0.0.1;lr>",), True, ("sip:bob@b", ())),
    ("sip:bob@b", ("<sip:10.0.0.1:5060;lr>", "<sip:p;lr>"), True, ("sip:bob@b", ("<sip:p;lr>",))),
    # twice, as a proxy with two sides writes it; a third one further down stays
    ("sip:bob@b", ("<sip:10.0.0.1;lr>", "<sip:10.0.0.1:5060;lr>"), True, ("sip:bob@b", ())),
    ("sip:bob@b", ("<sip:10.0.0.1;lr>", "<sip:p;lr>", "<sip:10.0.0.1;lr>"), True, ("sip:bob@b", ("<sip:p;lr>", "<sip:10.0.0.1;lr>"))),
    # a strict router before us has put our URI into the Request-URI
    ("sip:10.0.0.1;lr", ("<sip:bob@b>",), True, ("sip:bob@b", ())),
    ("sip:10.0.0.1;lr", ("<sip:p;lr>", "<sip:bob@b>"), True, ("sip:bob@b", ("<sip:p;lr>",))),
    ("sip:10.0.0.1;lr", ("<sip:10.0.0.1;lr>", "<sip:bob@b>"), True, ("sip:bob@b", ())),
    # our URI without lr is not from our Record-Route
    ("sip:10.0.0.1", ("<sip:p;lr>",), False, ("sip:10.0.0.1", ("<sip:p;lr>",))),
    # maddr
    ("sip:bob@b;maddr=10.0.0.1", (), False, ("sip:bob@b", ())),
    ("sip:bob@b:5060;maddr=10.0.0.1;transport=udp;x=1", (), False, ("sip:bob@b;x=1", ())),
    ("sip:bob@b:5070;maddr=10.0.0.1", (), False, ("sip:bob@b:5070;maddr=10.0.0.1", ())),
    ("sip:bob@b;maddr=10.0.0.2", (), False, ("sip:bob@b;maddr=10.0.0.2", ())),
    # other schemes
    ("tel:+15551234", ("<sip:10.0.0.1;lr>",), True, ("tel:+15551234", ())),
])  # fmt: skip
def test_own_route_is_removed(uri, given, taken, then):
    message = request(uri, *given)
    assert bool(take_own_route(message, is_local)) is taken
    assert (str(message.uri), routes(message)) == then
