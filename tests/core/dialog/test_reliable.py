"""Reliable: provisional responses with PRACK in both roles, RFC 3262."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sippet_gevent import Cancelled, TransactionStateError, TransactionTimeout, TransportError
from sippet_gevent.core.dialog.state import DialogState

from ..wire import Peer, sent, start
from .test_early import Calling

CALLER = "10.0.0.50"


class Alerting:
    """A call from a peer whose core does what `steps(tx)` does, and then answers 200."""

    def __init__(self, sip, steps, *, handlers=None, **headers):
        self.sip = sip
        self.raised = []
        self.done = False
        self.tx = None
        headers.setdefault("supported", "100rel")
        headers.setdefault("body", "offer")

        def core(request, tx):
            if request.to.tag is not None:
                return 200
            self.tx = tx
            try:
                steps(tx)
                tx.respond(200, body=b"answer")
            except Exception as error:
                self.raised.append(error)
                raise
            self.done = True

        self.stack = sip.serve(core)
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.ask("INVITE", content_type="application/sdp", **headers)
        self.number = self.invite.cseq.number

    def prack(self, response=None, *, rack=None, number=None, **headers):
        """The caller acknowledges a reliable response, the last one unless another is given."""
        response = response or self.peer.responses[-1]
        self.number = number or self.number + 1
        rack = rack or f"{response.rseq} {response.cseq.number} INVITE"
        request = self.peer.within(
            self.invite, self.provisional[0], "PRACK", number=self.number, rack=rack, **headers
        )
        self.peer.send(request)
        return next(r for r in reversed(self.peer.responses) if r.cseq.method == "PRACK")

    @property
    def provisional(self):
        return [r for r in self.peer.responses if 100 < r.status < 200]

    def finals(self):
        return [
            r.status for r in self.peer.responses if r.status >= 200 and r.cseq.method == "INVITE"
        ]

    def hang_up(self):
        """The caller acknowledges the 200 and hangs up."""
        ok = next(r for r in self.peer.responses if r.status == 200 and r.cseq.method == "INVITE")
        self.peer.send(self.peer.within(self.invite, ok, "ACK"))
        self.peer.send(self.peer.within(self.invite, ok, "BYE", number=self.number + 1))


def session(tx):
    tx.respond(183, body=b"answer", content_type="application/sdp", reliable=True)


# ---- UAS


@pytest.mark.rfc("3262 3")
def test_reliable_response_has_require_and_rseq(sip):
    alerting = Alerting(sip, session)
    (response,) = alerting.provisional
    assert response.require == ("100rel",)
    assert 1 <= response.rseq <= 2**31 - 1
    assert alerting.prack().status == 200
    alerting.hang_up()


@pytest.mark.rfc("3311 4")
def test_reliable_response_with_a_session_names_update_in_allow(sip):
    alerting = Alerting(sip, session)
    assert "UPDATE" in alerting.provisional[0].allow
    alerting.prack()
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_2xx_waits_for_the_prack_of_a_1xx_with_a_session(sip):
    alerting = Alerting(sip, session)
    assert (alerting.finals(), alerting.done) == ([], False)
    alerting.prack()
    assert (alerting.finals(), alerting.done) == ([200], True)
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_2xx_does_not_wait_for_the_prack_of_a_1xx_without_a_session(sip):
    alerting = Alerting(sip, lambda tx: tx.respond(180, reliable=True))
    assert alerting.finals() == [200]
    ringing, ok = alerting.provisional[0], alerting.peer.responses[-1]
    before = len(alerting.provisional)
    alerting.peer.send(alerting.peer.within(alerting.invite, ok, "ACK"))
    sip.advance(10)
    assert len(alerting.provisional) == before, "no repetition after a final response"
    assert alerting.prack(ringing).status == 200, "a late PRACK is served"
    alerting.peer.send(alerting.peer.within(alerting.invite, ok, "BYE", number=9))


@pytest.mark.rfc("3262 3")
def test_invite_that_requires_100rel_makes_each_1xx_reliable(sip):
    def steps(tx):
        tx.respond(180)
        tx.respond(183)

    alerting = Alerting(sip, steps, supported=None, require="100rel")
    assert [r.status for r in alerting.provisional] == [180]
    alerting.prack()
    assert [r.status for r in alerting.provisional] == [180, 183]
    first, second = alerting.provisional
    assert second.rseq == first.rseq + 1
    assert alerting.prack(second).status == 200
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_second_reliable_response_waits_for_the_prack_of_the_first(sip):
    def steps(tx):
        tx.respond(180, reliable=True)
        tx.respond(182)
        tx.respond(181, reliable=True)

    alerting = Alerting(sip, steps)
    assert [r.status for r in alerting.provisional] == [180, 182]
    alerting.prack(alerting.provisional[0])
    assert [r.status for r in alerting.provisional] == [180, 182, 181]
    assert alerting.provisional[1].rseq is None
    alerting.prack(alerting.provisional[2])
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_reliable_response_is_repeated_at_intervals_that_double_without_limit(sip):
    alerting = Alerting(sip, session)
    times = []
    for _ in range(64):
        before = len(alerting.provisional)
        sip.advance(0.5)
        if len(alerting.provisional) > before:
            times.append(round(sip.clock.now() % 1e6, 1))
    gaps = [round(b - a, 1) for a, b in pairwise(times)]
    assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0]
    sip.advance(2)
    assert alerting.finals()[0] == 504


@pytest.mark.rfc("3262 3")
def test_reliable_response_without_prack_in_64_t1_refuses_the_invite(sip):
    alerting = Alerting(sip, session)
    sip.advance(33)
    assert set(alerting.finals()) == {504}
    (error,) = alerting.raised
    assert isinstance(error, TransactionTimeout) and "PRACK" in str(error)
    assert alerting.stack.dialogs.early == 0


@pytest.mark.rfc("3262 3")
def test_prack_stops_the_repetition(sip):
    alerting = Alerting(sip, lambda tx: session(tx) or tx.wait(20))
    alerting.prack()
    sip.advance(15)
    assert len(alerting.provisional) == 1
    sip.advance(6)
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
@pytest.mark.parametrize("wrong", ["{next} {cseq} INVITE", "{rseq} {other} INVITE", "{rseq} {cseq} UPDATE"])  # fmt: skip
def test_prack_that_matches_no_response_is_481(sip, wrong):
    alerting = Alerting(sip, session)
    response = alerting.provisional[0]
    cseq = response.cseq.number
    rack = wrong.format(rseq=response.rseq, next=response.rseq + 1, cseq=cseq, other=cseq + 7)
    assert alerting.prack(rack=rack).status == 481
    assert alerting.finals() == []
    assert alerting.prack(response).status == 200
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_second_prack_for_one_response_is_481(sip):
    alerting = Alerting(sip, lambda tx: session(tx) or tx.wait(1))
    response = alerting.provisional[0]
    assert alerting.prack(response).status == 200
    assert alerting.prack(response).status == 481
    sip.advance(1.1)
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_prack_whose_body_cannot_be_read_does_not_hold_the_2xx(sip):
    alerting = Alerting(sip, session)
    bad = alerting.prack(body="offer", content_type="multipart/mixed")  # without a boundary
    assert bad.status == 400
    assert alerting.finals() == [200]
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_refused_reinvite_ends_its_reliable_response(sip):
    def modify(request, tx):
        if modified.append(request) or len(modified) > 1:
            return 200
        tx.respond(183, body=b"answer", content_type="application/sdp", reliable=True)
        return 488

    modified = []
    alerting = Alerting(sip, lambda tx: None)
    alerting.tx.call.on_reinvite = modify
    ok = alerting.peer.responses[-1]
    alerting.peer.send(alerting.peer.within(alerting.invite, ok, "ACK"))
    for number in (2, 3):
        headers = {"supported": "100rel", "body": "offer", "content_type": "application/sdp"}
        again = alerting.peer.within(alerting.invite, ok, "INVITE", number=number, **headers)
        alerting.peer.send(again)
        if number == 2:
            assert alerting.peer.statuses[-2:] == [183, 488]
            alerting.peer.send(again.ack(alerting.peer.responses[-1]))
            sip.advance(10)
            assert alerting.peer.statuses.count(183) == 1
    assert alerting.peer.statuses[-1] == 200
    alerting.number = 3
    alerting.peer.send(alerting.peer.within(alerting.invite, ok, "ACK", number=3))
    alerting.peer.send(alerting.peer.within(alerting.invite, ok, "BYE", number=4))


def test_prack_without_rack_is_400(sip):
    alerting = Alerting(sip, session)
    request = alerting.peer.within(alerting.invite, alerting.provisional[0], "PRACK", number=2)
    alerting.peer.send(request)
    assert alerting.peer.statuses[-1] == 400
    alerting.number = 2
    alerting.prack(alerting.provisional[0])
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_response_is_not_reliable_for_a_caller_that_lacks_100rel(sip):
    alerting = Alerting(sip, session, supported=None)
    (response,) = alerting.provisional
    assert (response.rseq, response.require) == (None, ())
    assert alerting.finals() == [200]
    alerting.hang_up()


@pytest.mark.rfc("3262 3")
def test_only_a_provisional_response_to_an_invite_can_be_reliable(sip):
    alerting = Alerting(sip, lambda tx: tx.respond(200, reliable=True))
    (error,) = alerting.raised
    assert isinstance(error, TransactionStateError)
    assert set(alerting.finals()) == {500}


@pytest.mark.rfc("3262 5")
def test_answer_in_a_prack_is_the_session_description_of_the_peer(sip):
    alerting = Alerting(sip, lambda tx: tx.respond(183, body=b"our offer", reliable=True), body=b"")
    alerting.prack(body="their answer", content_type="application/sdp")
    assert alerting.tx.call.remote_body == b"their answer"
    alerting.hang_up()


@pytest.mark.rfc("3262 5")
def test_offer_in_a_prack_that_changes_nothing_is_answered_in_its_200(sip):
    alerting = Alerting(sip, session)
    answer = alerting.prack(body="offer", content_type="application/sdp")
    assert (answer.status, answer.body) == (200, b"answer")
    alerting.hang_up()


@pytest.mark.rfc("3311 5.1", "3311 5.2")
def test_update_with_an_offer_is_served_after_a_reliable_answer(sip):
    alerting = Alerting(sip, lambda tx: session(tx) or tx.wait(1))
    alerting.prack()
    update = alerting.peer.within(
        alerting.invite, alerting.provisional[0], "UPDATE", number=8, body="offer",
        content_type="application/sdp",
    )  # fmt: skip
    alerting.peer.send(update)
    assert [r.status for r in alerting.peer.responses if r.cseq.method == "UPDATE"] == [200]
    sip.advance(1.1)
    alerting.number = 8
    alerting.hang_up()


def test_cancel_reaches_a_core_that_waits_for_a_prack(sip):
    alerting = Alerting(sip, session)
    alerting.peer.send(alerting.invite.cancel())
    assert alerting.finals() == [487]
    assert isinstance(alerting.raised[0], Cancelled)
    before = len(alerting.provisional)
    sip.advance(33)
    assert len(alerting.provisional) == before


@pytest.mark.rfc("3262 3")
def test_late_prack_after_a_refusal_is_served(sip):
    def steps(tx):
        tx.respond(180, reliable=True)
        tx.respond(486)

    alerting = Alerting(sip, steps)
    assert set(alerting.finals()) == {486}
    assert alerting.prack(alerting.provisional[0]).status == 200


def test_bye_ends_a_call_whose_1xx_waits_for_its_prack(sip):
    alerting = Alerting(sip, session)
    bye = alerting.peer.within(alerting.invite, alerting.provisional[0], "BYE", number=5)
    alerting.peer.send(bye)
    assert alerting.finals() == [487]
    sip.advance(40)
    assert len(alerting.provisional) == 1


def test_reliable_response_survives_loss(sip):
    sip.lossy(loss=0.4, seed=11)

    def core(request, tx):
        if request.to.tag is not None:
            return 200
        tx.respond(183, body=b"early", reliable=True)
        tx.respond(200, body=b"answer")
        tx.call.wait()

    stack = sip.serve(core)
    call = sip.run(sip.client.invite, "sip:bob@10.0.0.1", body="offer")
    assert len(stack.dialogs) == 1
    call.hangup()


# ---- UAC


def reliable(calling, tag, rseq, status=183, **headers):
    """A branch answers reliably."""
    return calling.reply(status, tag, require="100rel", rseq=rseq, **headers)


def pracks(calling):
    return [(r.to.tag, str(r.rack)) for r in calling.peer.requests if r.method == "PRACK"]


@pytest.mark.rfc("3262 4")
def test_invite_supports_100rel_and_allows_prack(sip):
    calling = Calling(sip)
    assert "100rel" in calling.invite.supported
    assert "PRACK" in calling.invite.allow
    calling.reply(486, "one")


@pytest.mark.rfc("3262 4")
def test_reliable_response_is_acknowledged_within_its_early_dialog(sip):
    calling = Calling(sip)
    reliable(calling, "one", 77, contact="<sip:early@10.0.0.60>")
    prack = calling.peer.last("PRACK")
    number = calling.invite.cseq.number
    assert str(prack.rack) == f"77 {number} INVITE"
    assert (prack.cseq.number, str(prack.uri)) == (number + 1, "sip:early@10.0.0.60")
    calling.peer.reply(prack, 200)
    calling.reply(486, "one")


@pytest.mark.rfc("3262 4")
def test_each_early_dialog_has_its_own_order(sip):
    calling = Calling(sip)
    reliable(calling, "one", 5)
    reliable(calling, "two", 900)
    reliable(calling, "one", 6)
    number = calling.invite.cseq.number
    assert pracks(calling) == [
        ("one", f"5 {number} INVITE"), ("two", f"900 {number} INVITE"), ("one", f"6 {number} INVITE"),
    ]  # fmt: skip
    for request in [r for r in calling.peer.requests if r.method == "PRACK"]:
        calling.peer.reply(request, 200)
    calling.reply(486, "one")


@pytest.mark.rfc("3262 4")
def test_repeated_and_early_responses_are_not_acknowledged_nor_shown(sip):
    seen = []
    calling = Calling(sip, on_provisional=lambda response: seen.append(response.status))
    reliable(calling, "one", 5, status=180)
    reliable(calling, "one", 5, status=180)
    reliable(calling, "one", 7, status=183)
    assert (len(pracks(calling)), seen) == (1, [180])
    calling.peer.reply(calling.peer.last("PRACK"), 200)
    reliable(calling, "one", 6, status=182)
    assert (len(pracks(calling)), seen) == (2, [180, 182])
    calling.peer.reply(calling.peer.last("PRACK"), 200)
    calling.reply(486, "one")


@pytest.mark.rfc("3262 4")
def test_unreliable_response_is_not_acknowledged(sip):
    calling = Calling(sip, "one")
    assert pracks(calling) == []
    calling.reply(486, "one")


@pytest.mark.rfc("3262 4")
def test_100rel_in_a_100_is_ignored(sip):
    calling = Calling(sip)
    calling.reply(100, "one", require="100rel", rseq=1)
    assert pracks(calling) == []
    calling.reply(486, "one")


@pytest.mark.parametrize("rseq", [None, "many"])
def test_reliable_response_without_a_readable_rseq_is_shown_and_not_acknowledged(sip, rseq):
    seen = []
    calling = Calling(sip, on_provisional=lambda response: seen.append(response.status))
    response = calling.invite.response(183, require="100rel", contact=f"<{calling.peer.uri}>")
    response.to = "<sip:bob@10.0.0.60>;tag=one"
    if rseq is not None:
        response.headers["RSeq"] = rseq
    calling.peer.reply(calling.invite, response)
    assert (pracks(calling), seen) == ([], [183])
    calling.reply(486, "one")


def test_prack_is_repeated_until_it_is_answered(sip):
    calling = Calling(sip)
    reliable(calling, "one", 5)
    sip.advance(2)
    assert len({r.cseq.number for r in calling.peer.requests if r.method == "PRACK"}) == 1
    assert calling.peer.methods.count("PRACK") >= 2
    calling.peer.reply(calling.peer.last("PRACK"), 200)
    calling.reply(486, "one")


def test_reliable_response_to_a_cancelled_invite_is_still_acknowledged(sip):
    calling = Calling(sip, "one", timeout=1)
    sip.advance(1.1)
    reliable(calling, "one", 5)
    assert len(pracks(calling)) == 1
    calling.peer.reply(calling.peer.last("PRACK"), 200)
    calling.peer.reply(calling.peer.last("CANCEL"), 200)
    calling.reply(487, "one")


def test_two_stacks_use_100rel_between_them(sip):
    def core(request, tx):
        if request.to.tag is not None:
            return 200
        tx.respond(183, body=b"early answer", reliable=True)
        with tx.accept(body=b"answer") as call:
            call.wait()

    sip.serve(core)
    call = sip.run(sip.client.invite, "sip:bob@10.0.0.1", body="offer", require="100rel")
    call.hangup()
    sip.settle()
    assert [each for each in sent(sip) if each != "100"] == [
        "INVITE", "183", "PRACK", "200", "200", "ACK", "BYE", "200",
    ]  # fmt: skip


def test_reinvite_with_a_reliable_response_is_acknowledged(sip):
    calling = Calling(sip)
    calling.responses["one"] = calling.reply(200, "one")
    call = calling.greenlet.get()
    greenlet = start(sip, call.request, "INVITE", body="offer 2")
    again = calling.peer.last("INVITE")
    response = again.response(183, require="100rel", rseq=3, contact=f"<{calling.peer.uri}>")
    calling.peer.reply(again, response)
    prack = calling.peer.last("PRACK")
    assert str(prack.rack) == f"3 {again.cseq.number} INVITE"
    calling.peer.reply(prack, 200)
    calling.peer.reply(again, 200, contact=f"<{calling.peer.uri}>")
    assert greenlet.get().status == 200
    calling.hangup(call)


@pytest.mark.rfc("3262 4", "3262 5")
def test_prack_that_could_not_leave_follows_the_repeated_response_with_its_body(sip, monkeypatch):
    calling = Calling(sip)
    send = DialogState.send

    def failing(dialog, request, *arguments):
        if request.method == "PRACK":
            raise TransportError("no way to the peer")
        send(dialog, request, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(DialogState, "send", failing)
        first = reliable(calling, "one", 7, body="answer", content_type="application/sdp")
        offering = next(iter(sip.client.dialogs._calls.values()))
        assert offering.remote_body == b"answer"
    assert pracks(calling) == []
    calling.peer.reply(calling.invite, first)
    assert pracks(calling) == [("one", f"7 {calling.invite.cseq.number} INVITE")]
    calling.peer.reply(calling.invite, first)
    assert len(pracks(calling)) == 1
    calling.reply(486, "one")
