"""call.end in each way in which a call can end, in both roles: side, cause, status and Reason."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, Request, SIPError, TransactionTimeout

from ..wire import Peer, start
from .test_call import BOB, CALLEE, CALLER, Placed, Taken

ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
BUSY = 'Q.850;cause=17;text="User busy"'
OFFER = {"body": "offer", "content_type": "application/sdp"}


@pytest.fixture(params=[Placed, Taken])
def two(request, sip):
    """An answered call between our stack and a peer, as callee and as caller."""
    two = request.param(sip)
    two.stack = sip.client if request.param is Placed else two.stack
    yield two
    two.call.hangup()


# ---- answered calls, both roles


@pytest.mark.rfc("3261 15.1.1", "3326 2")
@pytest.mark.parametrize("reason", ["", BUSY])
@pytest.mark.parametrize("by", ["hangup", "request"])
def test_our_bye(two, reason, by):
    headers = {"reason_header": reason} if reason else {}
    if by == "hangup":
        two.call.hangup(**headers)
    else:
        two.peer.answer = lambda request: 200
        start(two.sip, two.call.request, "BYE", **headers)
    two.sip.settle()
    assert two.call.end == ("us", "bye", 0, reason)
    assert two.peer.last("BYE").headers.get("Reason", "") == reason


@pytest.mark.rfc("3261 15.1.2", "3326 2")
@pytest.mark.parametrize("reason", ["", BUSY])
def test_bye_of_the_peer(two, reason):
    two.ask("BYE", **({"reason_header": reason} if reason else {}))
    assert two.call.end == ("peer", "bye", 0, reason)


@pytest.mark.rfc("3261 12.2.1.2", "5057 5.1")
@pytest.mark.parametrize(("status", "phrase"), [(481, "Gone"), (408, "Late"), (404, "Who")])
def test_request_whose_refusal_ends_the_call(two, status, phrase):
    asked = start(two.sip, two.call.request, "INFO")
    response = two.peer.last("INFO").response(status, phrase)
    two.peer.reply(two.peer.last("INFO"), response)
    assert asked.get().status == status
    assert two.call.end == ("us", "refused", status, phrase)


@pytest.mark.rfc("3261 12.2.1.2")
def test_request_without_an_answer(two):
    asked = start(two.sip, two.call.request, "INFO")
    two.sip.advance(33)
    with pytest.raises(TransactionTimeout):
        asked.get()
    assert two.call.end == ("us", "timeout", 0, "")


def test_stop_of_the_stack_during_a_call(two):
    two.stack.stop()
    two.sip.settle()
    assert two.call.end == ("stack", "stopped", 0, "")
    assert two.peer.methods.count("BYE") == 1


def test_end_is_told_once(two):
    two.ask("BYE", reason_header=BUSY)
    two.call.hangup(reason_header=ELSEWHERE)
    two.stack.stop()
    assert two.call.end == ("peer", "bye", 0, BUSY)


@pytest.mark.rfc("4028 10")
@pytest.mark.parametrize("role", ["caller", "callee"])
def test_session_that_is_not_refreshed(sip, role):
    timer = {"session_expires": "100;refresher=uas", "supported": "timer"}
    if role == "caller":
        peer = Peer(sip, CALLEE)
        calling = start(sip, sip.client.invite, BOB, body="offer", session_expires=100)
        peer.reply(
            peer.last("INVITE"), 200, contact=f"<{peer.uri}>", body="answer",
            content_type="application/sdp", require="timer", session_expires="100;refresher=uas",
        )  # fmt: skip
        call = calling.get()
    else:
        calls = []

        def core(request, tx):
            tx.respond(200, body="answer", session_expires="100;refresher=uac")
            calls.append(tx.call)

        sip.serve(core)
        peer = Peer(sip, CALLER)
        timer["session_expires"] = "100;refresher=uac"
        invite = peer.ask("INVITE", **timer, **OFFER)
        peer.send(peer.within(invite, peer.responses[-1], "ACK"))
        (call,) = calls
    sip.advance(101)
    assert tuple(call.end)[:3] == ("us", "expired", 408)
    assert call.end.reason.startswith("SIP;cause=408")
    assert peer.last("BYE").headers["Reason"] == call.end.reason


# ---- those of a caller


def calling(sip, **options):
    peer = Peer(sip, CALLEE)
    tx = sip.client.send(Request("INVITE", BOB, **OFFER, **options))
    sip.settle()
    peer.reply(peer.last("INVITE"), 180, contact=f"<{peer.uri}>")
    (call,) = tx._calls.values()
    return peer, tx, call


@pytest.mark.rfc("3261 12.3")
def test_early_call_that_the_peer_refuses(sip):
    peer, _, call = calling(sip)
    peer.reply(peer.last("INVITE"), peer.last("INVITE").response(486, "Busy"))
    assert call.end == ("peer", "refused", 486, "Busy")


@pytest.mark.rfc("3261 9.1", "3326 2")
def test_early_call_that_we_cancel(sip):
    peer, tx, call = calling(sip)
    tx.cancel(reason_header=BUSY)
    sip.settle()
    assert peer.last("CANCEL").headers["Reason"] == BUSY
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(peer.last("INVITE"), 487)
    assert tuple(call.end)[:3] == ("us", "cancel", 487)


@pytest.mark.rfc("3261 9.1")
def test_early_call_whose_cancel_is_not_answered(sip):
    _, tx, call = calling(sip)
    tx.cancel()
    sip.advance(33)
    assert tuple(call.end)[:2] == ("us", "cancel")


@pytest.mark.rfc("3261 15.1.2")
def test_early_call_whose_callee_says_bye(sip):
    peer, _, call = calling(sip)
    invite = peer.last("INVITE")
    bye = peer.request(
        "BYE", str(invite.contact[0].uri), from_=call.dialog.remote, to=invite.from_,
        call_id=invite.call_id, number=1, reason_header=BUSY,
    )  # fmt: skip
    peer.send(bye, to=sip.client.engine.transports[0].local[0])
    assert call.end == ("peer", "bye", 0, BUSY)
    peer.reply(invite, 487)


def test_early_call_of_a_stack_that_stops(sip):
    _, _, call = calling(sip)
    sip.client.stop()
    sip.settle()
    assert call.end.by == "stack"
    assert call.end.cause == "stopped"


@pytest.mark.rfc("3261 13.2.2.4", "3326 2")
def test_losers_of_a_fork(sip):
    peer = Peer(sip, CALLEE)
    answering = start(sip, sip.client.invite, BOB, body="offer")
    invite = peer.last("INVITE")
    for tag, status in (("a", 180), ("b", 180), ("b", 200), ("c", 200)):
        response = invite.response(status, contact=f"<{peer.uri}>", **OFFER)
        response.to = f"<{BOB}>;tag={tag}"
        peer.reply(invite, response)
    call = answering.get()
    others = {each.dialog.remote.tag: each for each in call._reinvite._calls.values()}
    assert others["c"].end == ("us", "bye", 0, ELSEWHERE)
    bye = peer.last("BYE")
    assert (bye.to.tag, bye.headers["Reason"]) == ("c", ELSEWHERE)
    sip.advance(33)
    assert others["a"].end == ("us", "answered elsewhere", 0, "")
    assert call.end is None
    call.hangup()


# ---- those of a callee


class Ringing:
    """A call of a peer that rings at our stack."""

    def __init__(self, sip):
        self.errors, self.calls, self.txs = [], [], []

        def core(request, tx):
            tx.respond(180)
            self.calls.append(tx.call)
            self.txs.append(tx)
            try:
                tx.wait(300)
            except SIPError as error:
                self.errors.append(error)
                raise

        self.stack = sip.serve(core)
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.ask("INVITE", **OFFER)
        self.ringing = self.peer.responses[-1]
        (self.call,) = self.calls


@pytest.mark.rfc("3261 9.2", "3326 2")
@pytest.mark.parametrize("reason", ["", ELSEWHERE])
def test_ringing_call_that_is_cancelled(sip, reason):
    it = Ringing(sip)
    cancel = it.invite.cancel()
    if reason:
        cancel.headers["Reason"] = reason
    it.peer.send(cancel)
    assert it.call.end == ("peer", "cancel", 487, reason)


@pytest.mark.rfc("3261 15.1.2", "3326 2")
def test_ringing_call_whose_caller_says_bye(sip):
    it = Ringing(sip)
    it.peer.send(it.peer.within(it.invite, it.ringing, "BYE", reason_header=BUSY))
    assert it.call.end == ("peer", "bye", 0, BUSY)
    assert it.peer.statuses[-2:] in ([200, 487], [487, 200])


@pytest.mark.rfc("3261 12.3")
def test_ringing_call_that_we_refuse(sip):
    it = Ringing(sip)
    it.call.hangup()
    sip.settle()
    assert it.call.end == ("us", "refused", 480, "")


def test_ringing_call_whose_core_refuses(sip):
    calls = []

    def core(request, tx):
        tx.respond(180)
        calls.append(tx.call)
        raise Reject(603)

    sip.serve(core)
    Peer(sip, CALLER).ask("INVITE", **OFFER)
    assert calls[0].end == ("us", "refused", 603, "")


@pytest.mark.rfc("3261 13.3.1")
def test_ringing_call_whose_invite_expires(sip):
    calls = []

    def core(request, tx):
        tx.respond(180)
        calls.append(tx.call)
        tx.wait(300)

    sip.serve(core)
    Peer(sip, CALLER).ask("INVITE", expires=20, **OFFER)
    sip.advance(21)
    assert tuple(calls[0].end)[:3] == ("peer", "cancel", 487)


def test_ringing_call_of_a_stack_that_stops(sip):
    it = Ringing(sip)
    it.stack.stop()
    sip.settle()
    assert it.call.end == ("stack", "stopped", 0, "")


@pytest.mark.rfc("3261 13.3.1.4")
def test_answered_call_without_an_ack(sip):
    calls = []

    def core(request, tx):
        tx.respond(200, body="answer")
        calls.append(tx.call)

    sip.serve(core)
    peer = Peer(sip, CALLER)
    peer.ask("INVITE", **OFFER)
    sip.advance(33)
    assert calls[0].end == ("us", "no ack", 0, "")
    assert "BYE" in peer.methods
