"""CANCEL: where a core gets Cancelled, when a caller sends CANCEL, and the races between them, RFC 3261 §9 and §15."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import (
    Cancelled,
    InvalidValue,
    Reject,
    Request,
    TransactionStateError,
    TransactionTimeout,
    forward,
)

from ..core.wire import Peer, messages, sent, start

CALLEE = "10.0.0.60"
BOB = f"sip:bob@{CALLEE}"


def ringing(request, tx):
    """A core that rings and waits."""
    tx.respond(180)
    tx.wait(30)
    return 486


# ---- the side that is called


@pytest.mark.rfc("3261 9.2")
def test_cancel_ends_a_ringing_invite_with_487(sip):
    asked = sip.ask(ringing, "INVITE sip:bob@example.com")
    asked.cancel()
    assert asked.statuses == [180, 487]


@pytest.mark.rfc("3261 9.2")
def test_cancel_is_answered_before_its_invite(sip):
    sip.ask(ringing, "INVITE sip:bob@example.com").cancel()
    assert sent(sip, "10.0.0.1") == ["180", "200", "487"]


@pytest.mark.rfc("3261 9.2")
def test_cancel_and_invite_are_answered_with_one_to_tag(sip):
    asked = sip.ask(ringing, "INVITE sip:bob@example.com")
    asked.cancel()
    assert messages(sip, "200")[0].to.tag == asked.response.to.tag


def core_that_notes(errors, *, catch=None, then=487):
    """A core that keeps each Cancelled it gets."""

    def core(request, tx):
        tx.respond(180)
        for _ in range(3):
            try:
                tx.wait(1)
            except Cancelled as error:
                errors.append(error)
        return then

    return core


def test_cancelled_is_raised_once(sip):
    errors = []
    asked = sip.ask(core_that_notes(errors), "INVITE sip:bob@example.com")
    asked.cancel()
    sip.advance(5)
    assert len(errors) == 1


@pytest.mark.parametrize("then", [486, 200, None, 603])
def test_any_result_of_a_core_after_cancelled_is_487(sip, then):
    asked = sip.ask(core_that_notes([], then=then), "INVITE sip:bob@example.com")
    asked.cancel()
    sip.advance(5)
    assert asked.statuses == [180, 487]


def test_core_may_answer_otherwise_when_it_has_caught_cancelled(sip):
    def core(request, tx):
        try:
            ringing(request, tx)
        except Cancelled:
            tx.respond(486)

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    asked.cancel()
    assert asked.statuses == [180, 486]


def test_core_blocked_elsewhere_goes_on_and_its_caller_gets_487_at_once(sip):
    database = Event()
    met = []

    def core(request, tx):
        tx.respond(180)
        database.wait()  # as a query of some database
        met.append("answer of the database")
        tx.respond(200)

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    asked.cancel()
    assert (asked.statuses, met) == ([180, 487], [])
    database.set()
    sip.settle()
    assert met == ["answer of the database"]


def test_core_blocked_elsewhere_gets_cancelled_at_its_next_call(sip):
    database = Event()
    errors = []

    def core(request, tx):
        tx.respond(180)
        database.wait()
        for call in (tx.respond, tx.respond):
            try:
                call(200)
            except (Cancelled, TransactionStateError) as error:
                errors.append(type(error))

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    asked.cancel()
    database.set()
    assert asked.statuses == [180, 487]
    assert errors == [Cancelled, TransactionStateError]


@pytest.mark.parametrize("result", [200, 486])
def test_core_that_answers_after_487_has_gone_out_is_counted(sip, result):
    database = Event()
    stack = sip.serve(lambda request, tx: database.wait() and result)
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(0.3)
    asked.cancel()
    database.set()
    assert asked.statuses == [100, 487]
    assert stack.stats()["late_answers"] == 1


@pytest.mark.rfc("3261 9.2")
def test_cancel_after_the_final_response_changes_nothing(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: 486)
    invite = peer.ask("INVITE")
    peer.send(invite.cancel())
    assert peer.statuses == [486, 200]


@pytest.mark.rfc("3261 9.2")
@pytest.mark.parametrize("status", [200, 302, 486, 603])
def test_200_to_cancel_has_the_to_tag_of_the_final_response_before_it(sip, status):
    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    sip.serve(lambda request, tx: status)
    invite = peer.ask("INVITE")
    peer.send(invite.cancel())
    assert [response.cseq.method for response in peer.responses] == ["INVITE", "CANCEL"]
    assert peer.responses[0].to.tag == peer.responses[1].to.tag


@pytest.mark.rfc("3261 9.2")
@pytest.mark.parametrize("status", [180, 486])
def test_200_of_a_proxy_to_cancel_has_the_to_tag_of_the_callee(sip, status):
    peer = Peer(sip, "10.0.0.50")
    callee = Peer(
        sip, "10.0.0.60", answer=lambda request: status if request.method == "INVITE" else 200
    )
    sip.serve(lambda request, tx: forward(request, tx, BOB))
    invite = peer.ask("INVITE")
    peer.send(invite.cancel())
    answered = {response.status: response.to.tag for response in peer.responses}
    assert answered[200] == answered[status]
    if status == 180:
        callee.reply(callee.last("INVITE"), 487)


@pytest.mark.rfc("3261 9.2")
def test_cancel_of_an_accepted_invite_leaves_the_call_up(sip):
    peer = Peer(sip, "10.0.0.50")
    stack = sip.serve(lambda request, tx: 200)
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "ACK"))
    peer.send(invite.cancel())
    assert peer.statuses == [200, 200]
    assert stack.stats()["calls"] == 1
    peer.send(peer.within(invite, peer.responses[0], "BYE"))


@pytest.mark.rfc("3261 9.2")
def test_cancel_of_nothing_gets_481(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(ringing)
    peer.send(peer.request("INVITE").cancel())
    assert peer.statuses == [481]


@pytest.mark.rfc("3261 9.2")
@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "REGISTER"])
def test_cancel_of_another_method_is_answered_200_and_does_not_end_it(sip, method):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: tx.wait(1) or 202)
    peer.send(peer.ask(method).cancel())
    assert peer.statuses == [200]
    sip.advance(1.1)
    assert peer.statuses == [200, 202]
    assert peer.responses[0].to.tag == peer.responses[1].to.tag


@pytest.mark.rfc("3261 9.2")
def test_cancel_of_another_method_that_is_answered_is_200_too(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: 404)
    peer.send(peer.ask("OPTIONS").cancel())
    assert peer.statuses == [404, 200]


@pytest.mark.rfc("3261 17.2.3")
def test_cancel_of_another_method_finds_it_without_magic_cookie(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: tx.wait(1) or 202)
    peer.send(peer.ask("OPTIONS", via="SIP/2.0/UDP 10.0.0.50:5060;branch=1").cancel())
    sip.advance(1.1)
    assert peer.statuses == [200, 202]


@pytest.mark.rfc("3261 17.2.2")
def test_repeated_cancel_gets_200_again_and_raises_nothing(sip):
    errors = []
    peer = Peer(sip, "10.0.0.50")
    sip.serve(core_that_notes(errors))
    cancel = peer.ask("INVITE").cancel()
    for _ in range(3):
        peer.send(cancel)
        sip.advance(0.1)
    assert [r.status for r in peer.responses if r.cseq.method == "CANCEL"] == [200, 200, 200]
    assert len(errors) == 1


@pytest.mark.rfc("3261 8.2.2.3")
def test_require_in_a_cancel_is_ignored(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(ringing)
    cancel = peer.ask("INVITE").cancel()
    cancel.require = ("100rel",)
    peer.send(cancel)
    assert peer.statuses == [180, 200, 487]


def test_cancel_that_arrives_with_its_invite_is_raised_at_the_first_wait(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(ringing)
    invite = peer.request("INVITE")
    peer.send(invite, invite.cancel())
    assert peer.statuses == [180, 200, 487]


def test_cancel_that_overtakes_its_invite_ends_nothing(sip):
    peer = Peer(sip, "10.0.0.50")
    sip.serve(lambda request, tx: 486)
    invite = peer.request("INVITE")
    peer.send(invite.cancel())
    peer.send(invite)
    assert peer.statuses == [481, 486]


# ---- the side that calls


@pytest.fixture
def peer(sip):
    """A callee that does what the test says."""
    return Peer(sip, CALLEE)


@pytest.fixture
def tx(sip, peer):
    """An INVITE to it, with all that a CANCEL must and must not copy."""
    tx = sip.client.send(
        Request(
            "INVITE",
            BOB,
            route=(f"<sip:{CALLEE};lr>", "<sip:10.0.0.61;lr>"),
            require="timer",
            proxy_require="x",
            body="offer",
        )
    )
    sip.settle()
    return tx


@pytest.mark.rfc("3261 9.1")
def test_cancel_waits_for_a_provisional_response(sip, peer, tx):
    tx.cancel()
    sip.advance(0.3)
    assert peer.methods == ["INVITE"]
    peer.reply(peer.requests[0], 100)
    assert peer.methods == ["INVITE", "CANCEL"]


@pytest.mark.rfc("3261 9.1")
def test_cancel_is_sent_at_once_after_a_provisional_response(sip, peer, tx):
    peer.reply(peer.requests[0], 180)
    tx.cancel()
    sip.settle()
    assert peer.methods == ["INVITE", "CANCEL"]


@pytest.mark.rfc("3261 9.1")
def test_cancel_is_sent_once(sip, peer, tx):
    peer.reply(peer.requests[0], 100)
    tx.cancel()
    tx.cancel()
    peer.reply(peer.requests[0], 180)
    peer.reply(peer.requests[0], 183)
    assert peer.methods == ["INVITE", "CANCEL"]


@pytest.mark.rfc("3261 9.1")
def test_cancel_is_made_of_its_invite(sip, peer, tx):
    peer.reply(peer.requests[0], 180)
    tx.cancel()
    sip.settle()
    invite, cancel = peer.requests
    for name in ("from_", "to", "call_id", "route"):
        assert getattr(cancel, name) == getattr(invite, name), name
    assert (cancel.uri, cancel.via, cancel.cseq.number) == (
        invite.uri,
        invite.via,
        invite.cseq.number,
    )
    assert (cancel.require, cancel.proxy_require, cancel.body) == ((), (), b"")


@pytest.mark.rfc("3261 9.1")
def test_cancel_after_the_final_response_is_not_sent(sip, peer, tx):
    peer.reply(peer.requests[0], 486)
    tx.cancel()
    sip.settle()
    assert "CANCEL" not in peer.methods


@pytest.mark.rfc("3261 9.1")
def test_cancel_of_another_method_is_not_sent(sip, peer):
    tx = sip.client.send(Request("OPTIONS", BOB))
    sip.settle()
    peer.reply(peer.requests[0], 100)
    tx.cancel()
    sip.settle()
    assert "CANCEL" not in peer.methods
    peer.reply(peer.requests[0], 200)


def test_response_to_a_cancelled_invite_is_still_shown(sip, peer, tx):
    peer.reply(peer.requests[0], 180)
    tx.cancel()
    peer.reply(peer.requests[0], 487)
    assert [response.status for response in tx] == [180, 487]


@pytest.mark.rfc("3261 9.1")
def test_cancelled_invite_without_final_response_ends_after_64_t1(sip, peer, tx):
    greenlet = start(sip, tx.final)
    peer.reply(peer.requests[0], 180)
    tx.cancel()
    sip.advance(31.9)
    assert not greenlet.ready()
    sip.advance(0.2)
    assert isinstance(greenlet.exception, TransactionTimeout)
    assert sip.client.stats()["client_transactions"] == 0


@pytest.mark.rfc("3261 9.1")
def test_cancelled_invite_without_any_response_ends_by_timer_b(sip, peer, tx):
    greenlet = start(sip, tx.final)
    tx.cancel()
    sip.advance(33)
    assert isinstance(greenlet.exception, TransactionTimeout)
    assert "CANCEL" not in peer.methods


# ---- a 200 that crosses with the CANCEL


def give_up(sip, peer):
    """Call the peer, let it ring, give up, and return the INVITE."""
    greenlet = start(sip, sip.client.invite, BOB, timeout=2)
    invite = peer.last("INVITE")
    peer.reply(invite, 180)
    sip.advance(2.1)
    assert isinstance(greenlet.exception, TransactionTimeout)
    return invite


@pytest.mark.rfc("3261 15")
def test_200_that_crosses_with_cancel_gets_ack_and_bye_in_this_order(sip, peer):
    invite = give_up(sip, peer)
    peer.reply(invite, 200, contact=f"<{peer.uri}>")
    assert peer.methods == ["INVITE", "CANCEL", "ACK", "BYE"]


@pytest.mark.rfc("3261 13.2.2.4")
def test_repeated_200_that_crosses_gets_its_ack_and_no_second_bye(sip, peer):
    peer.answer = lambda request: 200 if request.method == "BYE" else None
    invite = give_up(sip, peer)
    response = peer.reply(invite, 200, contact=f"<{peer.uri}>")
    peer.reply(invite, response)
    peer.reply(invite, response)
    assert peer.methods.count("BYE") == 1
    assert len({bytes(request) for request in peer.requests if request.method == "ACK"}) == 1
    assert peer.methods.count("ACK") == 3


def test_200_that_crosses_leaves_no_call_behind(sip, peer):
    invite = give_up(sip, peer)
    peer.reply(invite, 200, contact=f"<{peer.uri}>")
    assert sip.client.stats()["calls"] == 0


@pytest.mark.rfc("3261 15")
def test_200_to_an_invite_that_waited_to_be_cancelled_gets_ack_and_bye(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB, timeout=2)
    sip.advance(2.1)
    peer.reply(peer.last("INVITE"), 200, contact=f"<{peer.uri}>")
    assert [method for method in peer.methods if method != "INVITE"] == ["ACK", "BYE"]
    assert isinstance(greenlet.exception, TransactionTimeout)


@pytest.mark.rfc("3261 15")
def test_ack_and_bye_follow_the_record_route(sip, peer):
    invite = give_up(sip, peer)
    invite.record_route = (f"<sip:{CALLEE};lr>",)
    peer.reply(invite, 200, contact="<sip:bob@10.0.0.99>")
    assert [str(request.uri) for request in peer.requests[-2:]] == ["sip:bob@10.0.0.99"] * 2
    assert peer.methods[-2:] == ["ACK", "BYE"]


# ---- a 200 after a refusal


@pytest.mark.rfc("3261 13.2.2.4")
@pytest.mark.parametrize("times", [1, 2])
def test_200_after_a_refusal_is_acknowledged_and_hung_up(sip, peer, times):
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    peer.reply(invite, 486)
    response = invite.response(200, contact=f"<{peer.uri}>")
    for _ in range(times):
        peer.reply(invite, response)
    assert isinstance(greenlet.exception, Reject)
    assert peer.methods == ["INVITE", "ACK", "ACK", "BYE", "ACK"][: 3 + times]
    peer.reply(peer.last("BYE"), 200)
    assert len(sip.client.dialogs) == 0


@pytest.mark.rfc("3261 13.2.2.4", "6026 8.2")
def test_200_after_the_transaction_of_a_refusal_has_ended_is_a_stray(sip, peer):
    start(sip, sip.client.invite, BOB)
    peer.reply(peer.last("INVITE"), 486)
    sip.advance(33)
    peer.reply(peer.last("INVITE"), 200, contact=f"<{peer.uri}>")
    assert (peer.methods, sip.client.stats()["dropped"]) == (
        ["INVITE", "ACK"],
        {"stray_response": 1},
    )


# ---- Reason (RFC 3326)

REASON = 'SIP;cause=200;text="Call completed elsewhere"'


def bridge(request, tx):
    """A B2BUA that calls the peer for its caller."""
    with tx.stack.invite(BOB) as callee, tx.accept() as caller:
        gevent.wait([caller.ended, callee.ended], count=1)


@pytest.mark.rfc("3326 2")
@pytest.mark.parametrize("given", [[REASON], []])
def test_reason_of_a_cancel_crosses_a_b2bua(sip, peer, given):
    asked = sip.ask(bridge, "INVITE sip:bob@example.com")
    peer.reply(peer.last("INVITE"), 180)
    sip.advance(0.3)
    asked.cancel(reason_header=given)
    assert peer.last("CANCEL").headers.all("Reason") == given
    peer.reply(peer.last("INVITE"), 487)
    assert asked.statuses[-1] == 487


@pytest.mark.rfc("3326 2")
def test_reason_of_a_cancel_is_in_the_bye_to_a_callee_that_answered(sip, peer):
    asked = sip.ask(bridge, "INVITE sip:bob@example.com")
    sip.advance(0.3)
    invite = peer.last("INVITE")
    invite.flow.send(bytes(invite.response(200, contact=f"<{peer.uri}>")))
    asked.cancel(reason_header=REASON)
    assert (asked.statuses, peer.last("BYE").headers["Reason"]) == ([100, 487], REASON)


@pytest.mark.rfc("3326 2")
def test_cancelled_has_the_reason_of_the_cancel(sip):
    met = []

    def core(request, tx):
        try:
            tx.wait(5)
        except Cancelled as error:
            met.append(error.cancel.reason_header[0].cause)
            raise

    asked = sip.ask(core, "INVITE sip:bob@example.com")
    sip.advance(0.3)
    asked.cancel(reason_header=REASON)
    assert (met, asked.statuses) == ([200], [100, 487])


@pytest.mark.rfc("3326 2")
def test_reason_given_before_the_first_response_is_in_the_cancel(sip, peer, tx):
    tx.cancel(reason_header=REASON)
    peer.reply(peer.requests[0], 180)
    assert peer.last("CANCEL").headers["Reason"] == REASON
    peer.reply(peer.requests[0], 487)


def test_reason_that_cannot_be_sent_is_refused_at_once(sip, peer, tx):
    with pytest.raises(InvalidValue):
        tx.cancel(reason_header="SIP\r\nX: 1")
    assert peer.methods == ["INVITE"]
    tx.cancel()
    peer.reply(peer.requests[0], 180)
    assert peer.methods == ["INVITE", "CANCEL"]


# ---- Expires (§13.3.1 step 1)


@pytest.mark.rfc("3261 13.3.1")
def test_invite_that_expires_unanswered_gets_487(sip):
    met = []

    def core(request, tx):
        tx.respond(180)
        try:
            tx.wait(60)
        except Cancelled as error:
            met.append(error.cancel)
            raise

    asked = sip.ask(core, "INVITE sip:bob@example.com", expires=5)
    sip.advance(4.9)
    assert asked.statuses == [180]
    sip.advance(0.2)
    assert (asked.statuses, met) == ([180, 487], [None])


@pytest.mark.rfc("3261 13.3.1")
def test_invite_that_expires_while_its_core_is_blocked_gets_487(sip):
    go = Event()
    asked = sip.ask(lambda request, tx: go.wait() and None, "INVITE sip:bob@example.com", expires=1)
    sip.advance(1.1)
    assert asked.statuses == [100, 487]
    go.set()
    sip.settle()


@pytest.mark.rfc("3261 13.3.1")
def test_invite_that_expires_at_a_b2bua_is_cancelled_at_the_callee(sip, peer):
    asked = sip.ask(bridge, "INVITE sip:bob@example.com", expires=5)
    peer.reply(peer.last("INVITE"), 180)
    sip.advance(5.1)
    assert (peer.methods, asked.statuses[-1]) == (["INVITE", "CANCEL"], 487)
    peer.reply(peer.last("INVITE"), 487)


@pytest.mark.rfc("3261 13.3.1")
@pytest.mark.parametrize("expires", ["soon", "4294967296", "", "5;x"])
def test_expires_that_says_nothing_ends_no_invite(sip, expires):
    request = Request("INVITE", "sip:bob@example.com")
    request.headers["Expires"] = expires
    asked = sip.ask(lambda request, tx: tx.wait(60) or 486, request)
    sip.advance(61)
    assert asked.statuses == [100, 486]


@pytest.mark.rfc("3261 13.3.1")
def test_invite_that_was_answered_in_time_expires_no_more(sip):
    def core(request, tx):
        with tx.accept() as call:
            call.wait(20)

    asked = sip.ask(core, "INVITE sip:bob@example.com", expires=5)
    sip.advance(10)
    assert (asked.statuses, asked.call.ended.is_set()) == ([200], False)


@pytest.mark.rfc("3261 13.3.1")
def test_expires_of_another_method_ends_nothing(sip):
    asked = sip.ask(
        lambda request, tx: tx.wait(3) or 200, "SUBSCRIBE sip:bob@example.com", expires=1
    )
    sip.advance(4)
    assert asked.statuses[-1] == 200
