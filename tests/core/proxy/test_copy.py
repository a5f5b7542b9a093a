"""The copy of a request that a proxy forwards, RFC 3261 §16.6."""

from __future__ import annotations

import pytest

from sippet_gevent import Request
from sippet_gevent.core.proxy.copy import forwarded

US = ("10.0.0.1", 5060)
"""The address of this proxy."""


def is_local(uri):
    return (uri.host, uri.port or 5060) == US


def request(uri="sip:bob@example.com", *routes, **headers):
    return Request("INVITE", uri, route=routes, **headers)


def routes(message):
    return tuple(map(str, message.route))


@pytest.mark.rfc("3261 16.6")
@pytest.mark.parametrize(("before", "after"), [(70, 69), (1, 0), (None, 70)])
def test_forwarded_request_has_one_hop_less(before, after):
    assert forwarded(request(max_forwards=before), None, is_local).max_forwards == after


@pytest.mark.rfc("3261 16.6")
def test_forwarded_request_has_its_target_as_request_uri():
    assert (
        str(forwarded(request(), "sip:bob@10.0.0.60;method=BYE;ob?Subject=x", is_local).uri)
        == "sip:bob@10.0.0.60;ob"
    )


@pytest.mark.rfc("3261 16.6")
def test_target_replaces_the_request_uri_behind_a_strict_router():
    message = forwarded(request("sip:10.0.0.1;lr", "<sip:bob@b>"), "sip:bob@10.0.0.60", is_local)
    assert (str(message.uri), routes(message)) == ("sip:bob@10.0.0.60", ())


@pytest.mark.rfc("3261 16.6")
def test_forwarding_does_not_change_the_request_itself():
    message = request("sip:bob@b", "<sip:10.0.0.1;lr>", max_forwards=70)
    before = bytes(message)
    forwarded(message, "sip:bob@10.0.0.60", is_local)
    assert bytes(message) == before


@pytest.mark.rfc("3261 16.6")
def test_all_other_header_fields_stay_unchanged_and_in_place():
    message = request(
        max_forwards=70, contact="<sip:alice@10.0.0.50>", subject="x", user_agent="y", body="z"
    )
    message.headers["X-Odd"] = "  kept"
    before = message.headers.items()
    after = forwarded(message, "sip:bob@10.0.0.60", is_local).headers.items()
    assert [line for line in after if line[0] != "Max-Forwards"] == [
        line for line in before if line[0] != "Max-Forwards"
    ]
    assert [name for name, _ in after] == [name for name, _ in before]
