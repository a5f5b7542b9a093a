"""The single steps of a proxy, RFC 3261 §16.6, §16.7 and §16.11."""

from __future__ import annotations

import pytest

from sippet_gevent import (
    InvalidValue,
    Request,
    TransactionStateError,
    add_record_route,
    add_via,
    derive_branch,
    forward_request,
    forward_response,
)
from sippet_gevent.testing import SERVER

from ..wire import Peer

SECRET = b"0123456789abcdef"


@pytest.fixture
def caller(sip):
    return Peer(sip, "10.0.0.50")


@pytest.fixture
def phone(sip):
    return Peer(sip, "10.0.0.61")


@pytest.mark.rfc("3261 16.6")
def test_add_via_puts_a_via_in_front():
    request = Request("OPTIONS", "sip:b@c", via="SIP/2.0/UDP a;branch=z9hG4bK1")
    via = add_via(request, "tcp", "192.0.2.1", 5070, branch="x")
    assert request.headers.all("Via") == [
        "SIP/2.0/TCP 192.0.2.1:5070;branch=z9hG4bKx",
        "SIP/2.0/UDP a;branch=z9hG4bK1",
    ]
    assert via == request.via[0]
    assert add_via(request, "UDP", "[2001:db8::1]").branch.startswith("z9hG4bK")


def test_add_via_refuses_what_is_no_host():
    with pytest.raises(InvalidValue):
        add_via(Request("OPTIONS", "sip:b@c"), "UDP", "a b")


@pytest.mark.rfc("3261 16.6")
@pytest.mark.parametrize("uri", ["sip:192.0.2.1", "sip:192.0.2.1;lr"])
def test_add_record_route_adds_lr(uri):
    request = Request("INVITE", "sip:b@c", record_route="<sip:a;lr>")
    add_record_route(request, uri)
    assert request.headers.all("Record-Route") == ["<sip:192.0.2.1;lr>", "<sip:a;lr>"]


@pytest.mark.rfc("3261 16.11")
def test_derived_branch_is_that_of_the_retransmission_and_the_cancel(caller):
    invite, other = caller.request("INVITE"), caller.request("INVITE")
    branch = derive_branch(invite, SECRET)
    assert branch.startswith("z9hG4bK")
    assert branch == derive_branch(invite.copy(), SECRET) == derive_branch(invite.cancel(), SECRET)
    assert branch not in (derive_branch(other, SECRET), derive_branch(invite, SECRET[::-1]))


@pytest.mark.rfc("3261 16.11")
def test_derived_branch_of_a_request_without_the_magic_cookie(caller):
    old, other = (caller.request("INVITE", via="SIP/2.0/UDP a;branch=1") for _ in range(2))
    assert derive_branch(old, SECRET) == derive_branch(old.cancel(), SECRET)
    assert derive_branch(old, SECRET) != derive_branch(other, SECRET)


@pytest.mark.rfc("3261 16.11")
def test_forward_request_sends_one_copy_and_its_response_returns(sip, caller, phone):
    stack = sip.serve(lambda request, tx: forward_request(request, tx, phone.uri, subject="hi"))
    caller.ask("ACK", to=f"<{phone.uri}>;tag=1")
    assert (phone.last("ACK").subject, len(stack.engine.clients)) == ("hi", 0)


@pytest.mark.rfc("3261 16.7")
def test_forward_response_removes_our_via_and_sends_the_rest(sip, caller, phone):
    def core(request, tx):
        copy = request.copy()
        for response in tx.stack.send(copy, f"sip:{phone.host}"):
            if response.status != 100:
                forward_response(response, tx)

    sip.serve(core)
    caller.ask("MESSAGE")
    assert [via.host for via in phone.last("MESSAGE").via] == [SERVER, caller.host]
    phone.reply(phone.last("MESSAGE"), 202)
    assert caller.statuses == [202]
    assert [via.host for via in caller.responses[-1].via] == [caller.host]


@pytest.mark.rfc("3261 16.7")
def test_forward_response_refuses_one_that_is_for_this_stack(sip, caller, phone, caplog):
    seen = []

    def core(request, tx):
        with pytest.raises(InvalidValue):
            forward_response(request.response(200), tx)
        seen.append(1)
        return 200

    sip.serve(core)
    caller.ask("MESSAGE")
    assert (seen, caller.statuses) == ([1], [200])


@pytest.mark.rfc("3261 16.11")
def test_forward_request_refuses_a_request_that_nothing_would_answer(sip, caller, phone, caplog):
    stack = sip.stack(None, SERVER)
    errors = []

    @stack.on("OPTIONS")
    def core(request, tx):
        with pytest.raises(TransactionStateError) as raised:
            forward_request(request, tx, "sip:bob@10.0.0.61")
        errors.append(str(raised.value))
        return 480

    caller.ask("OPTIONS")
    assert (caller.statuses, phone.requests) == ([480], [])
    assert "write forward(request, tx, target)" in errors[0]
