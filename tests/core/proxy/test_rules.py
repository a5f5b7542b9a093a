"""Rules of a proxy: refusals, forwarded copies, the best response, RFC 3261 §16.3, §16.6 and §16.7."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, Request, Response
from sippet_gevent.core.proxy.rules import best_response, check_request, forwarded

US = ("10.0.0.1", 5060)
"""The address of this proxy."""


def is_local(uri):
    return (uri.host, uri.port or 5060) == US


def request(uri="sip:bob@example.com", *routes, **headers):
    return Request("INVITE", uri, route=routes, **headers)


def routes(message):
    return tuple(map(str, message.route))


# ---- refusals of a proxy


@pytest.mark.rfc("3261 16.3")
def test_request_without_a_hop_left_is_refused_with_483():
    with pytest.raises(Reject) as raised:
        check_request(request(max_forwards=0), ())
    assert raised.value.status == 483


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize("hops", [1, 70, 255, None])
def test_request_with_hops_left_is_passed(hops):
    check_request(request(max_forwards=hops), ())


@pytest.mark.rfc("3261 16.3")
def test_unknown_proxy_require_is_refused_with_420_and_named():
    with pytest.raises(Reject) as raised:
        check_request(request(proxy_require=("privacy", "Foo")), ("privacy",))
    assert (raised.value.status, raised.value.headers) == (420, {"unsupported": ("Foo",)})


@pytest.mark.rfc("3261 16.3")
def test_require_is_not_checked_by_a_proxy():
    check_request(request(require="100rel"), ())


# ---- the forwarded copy


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


# ---- the best response


def best(*statuses):
    """Choose from statuses; a negative one is a response that we have made."""
    chosen = best_response((Response(abs(status)), status > 0) for status in statuses)
    return None if chosen is None else chosen.status


@pytest.mark.rfc("3261 16.7")
@pytest.mark.parametrize(("statuses", "chosen"), [
    ((486,), 486),
    ((404, 486), 404),
    ((486, 404), 486),  # any of the class, the first one
    ((500, 404), 404),  # the lowest class
    ((404, 302), 302),
    ((302, 603), 603),  # 6xx first
    ((404, 600, 603), 600),
    ((503, 500), 500),  # 503 last
    ((503, 404), 404),
    ((503,), 503),
    ((404, 401), 401),  # statuses that help the caller to try again
    ((486, 407), 407),
    ((404, 415), 415),
    ((404, 420), 420),
    ((404, 484), 484),
    ((503, 407, 501, 404), 407),  # the example of §16.7
    ((-408, 486), 486),  # a received response before one that we have made
    ((-408, 500), 500),
    ((-503, 404), 404),
    ((-503, -408), 408),
    ((-408,), 408),
    ((), None),
])  # fmt: skip
def test_best_response(statuses, chosen):
    assert best(*statuses) == chosen
