"""Requests that a proxy refuses to forward, RFC 3261 §16.3."""

from __future__ import annotations

import pytest

from sippet_gevent import RegistrarProxy, Reject, Request, forward
from sippet_gevent.core.proxy.request_validation import check_request
from sippet_gevent.testing import SERVER

from ..wire import Peer, sent


def request(uri="sip:bob@example.com", *routes, **headers):
    return Request("INVITE", uri, route=routes, **headers)


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


# ---- next hops that are no SIP URI


@pytest.fixture
def dialog(sip):
    """A call from one phone to another through the default server: the caller, the callee, and the caller's next BYE."""
    sip.serve(RegistrarProxy())
    caller = Peer(sip, "10.0.0.50")
    callee = Peer(
        sip, "10.0.0.51", answer=lambda request: request.response(200, contact=callee.uri)
    )
    caller.ask("REGISTER", f"sip:{SERVER}", to=f"<sip:bob@{SERVER}>", contact=f"<{callee.uri}>")
    invite = caller.ask("INVITE", f"sip:bob@{SERVER}")
    accepted = caller.responses[-1]
    caller.received.clear()
    route = [str(value) for value in accepted.record_route]

    def leave(uri, route):
        bye = caller.within(invite, accepted, "BYE", route=route)
        bye.uri = uri
        caller.send(bye)

    return caller, callee, route, leave


@pytest.mark.rfc("3261 16.4")
@pytest.mark.rfc("3261 21.4.14")
@pytest.mark.parametrize("uri", ["tel:+4930123", "mailto:bob@example.com"])
@pytest.mark.parametrize("is_strict", [False, True])
def test_request_in_a_dialog_that_leads_to_no_sip_uri_is_416(dialog, uri, is_strict):
    caller, callee, route, leave = dialog
    if is_strict:  # the strict router before us has moved our URI, and the target is the last Route
        leave(route[0].strip("<>"), [f"<{uri}>"])
    else:
        leave(uri, route)
    assert caller.statuses == [416]
    assert callee.methods == ["INVITE"]


@pytest.mark.rfc("3261 16.4")
def test_strict_route_with_a_tel_uri_behind_another_hop_goes_there(dialog):
    caller, callee, route, leave = dialog
    leave(route[0].strip("<>"), [f"<{callee.uri}>", "<tel:+4930123>"])
    assert caller.statuses == [200]
    assert callee.methods == ["INVITE", "BYE"]


@pytest.mark.rfc("3261 16.6")
@pytest.mark.parametrize("route", ["<tel:+4930123>", f"<sip:{SERVER};lr>, <mailto:a@b>"])
def test_route_that_is_no_sip_uri_is_400(sip, route):
    sip.serve(lambda request, tx: forward(request, tx))
    caller = Peer(sip, "10.0.0.50")
    caller.ask("MESSAGE", "sip:bob@10.0.0.51", route=route)
    assert caller.statuses == [400]
    assert sent(sip, SERVER) == ["400"]
