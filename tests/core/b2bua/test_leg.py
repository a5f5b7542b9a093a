"""Leg: requests within a bridged call, RFC 3261 §14, RFC 3311, RFC 6337."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import TransportError, bridge, sdp
from sippet_gevent.core.dialog.negotiation import same_session

from ..wire import sent
from .phones import BOB, CALLEE, CALLER, OURS, PHONE, Phones, Relay, body, describe


@pytest.fixture
def phones(sip):
    """Phones that a bridge has connected."""
    phones = Phones(sip)
    phones.answer()
    yield phones
    if not phones.results and not phones.errors:
        phones.end()


HELD = describe(version=2, direction="sendonly")
ACCEPTED = describe(CALLEE, version=2, direction="recvonly")


def agree(phones, offer, answer, method="INVITE"):
    """The caller offers, and the callee answers; return what the callee and the caller have got."""
    phones.ask(method, offer)
    got = phones.callee.last(method)
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(answer))
    response = phones.last
    if method == "INVITE":
        phones.ask("ACK")
    return got, response


# ---- hold and other changes


@pytest.mark.rfc("3264 8.4")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_hold_and_resume_reach_the_callee(phones, method):
    got, response = agree(phones, HELD, ACCEPTED, method)
    assert (got.body, response.status, response.body) == (HELD, 200, ACCEPTED)
    again, answer = describe(version=3), describe(CALLEE, version=3)
    got, response = agree(phones, again, answer, method)
    assert (got.body, response.body) == (again, answer)


def test_hold_of_the_callee_reaches_the_caller(phones):
    phones.ask_back("INVITE", describe(CALLEE, version=2, direction="inactive"))
    got = phones.caller.last("INVITE")
    answer = describe(version=2, direction="inactive")
    phones.caller.reply(got, 200, contact=f"<{phones.caller.uri}>", **body(answer))
    assert phones.caller.methods == ["INVITE", "ACK"]
    assert phones.callee.responses[-1].body == answer
    phones.ask_back("ACK")


@pytest.mark.rfc("3261 14.2")
def test_refused_change_leaves_both_sessions_as_they_were(phones):
    phones.ask("INVITE", HELD)
    phones.callee.reply(phones.callee.last("INVITE"), 488, warning='304 phone "no"')
    assert phones.last.status == 488
    assert phones.last.headers["Warning"] == '304 phone "no"'
    phones.ask("ACK")
    got, response = agree(phones, describe(version=3, port=9002), describe(CALLEE, version=2))
    assert (got.body, response.status) == (describe(version=3, port=9002), 200)


@pytest.mark.rfc("4028 7.4")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_refresh_is_answered_on_its_own_leg(phones, method):
    phones.ask(method, phones.offer)
    assert (phones.last.status, phones.last.body) == (200, describe(CALLEE))
    if method == "INVITE":
        phones.ask("ACK")
    assert phones.callee.methods == ["INVITE", "ACK"]


@pytest.mark.rfc("6337 5.2.5")
def test_reinvite_without_an_offer_is_passed_through(phones):
    phones.ask("INVITE")
    got = phones.callee.last("INVITE")
    assert got.body == b""
    offer = describe(CALLEE, version=2, port=9100)
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(offer))
    assert phones.last.body == offer
    assert phones.callee.methods == ["INVITE", "ACK", "INVITE"]
    answer = describe(version=2, port=9200)
    phones.ask("ACK", answer)
    assert phones.callee.methods == ["INVITE", "ACK", "INVITE", "ACK"]
    assert phones.callee.last("ACK").body == answer


def test_reinvite_without_an_offer_that_is_cancelled_keeps_the_session(phones):
    reinvite = phones.ask("INVITE")
    phones.caller.send(reinvite.cancel())
    assert phones.callee.methods[-1] == "INVITE"  # it has no response yet
    got = phones.callee.last("INVITE")
    offer = describe(CALLEE, version=2)
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(offer))
    assert [r.status for r in phones.caller.responses if r.cseq.number == phones.number][-1] == 487
    assert phones.callee.methods == ["INVITE", "ACK", "INVITE", "ACK"]
    assert phones.callee.last("ACK").body == phones.offer  # what was agreed before
    phones.ask("ACK")


@pytest.mark.rfc("3261 9.1")
def test_change_that_is_cancelled_too_late_is_put_back(phones):
    reinvite = phones.ask("INVITE", HELD)
    phones.caller.send(reinvite.cancel())
    phones.callee.reply(
        phones.callee.last("INVITE"), 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED)
    )
    assert phones.callee.methods == ["INVITE", "ACK", "INVITE", "ACK", "INVITE"]
    again = phones.callee.last("INVITE")
    assert again.body == describe(version=3)  # a change, which has a higher version (RFC 3264 §8)
    answer = describe(CALLEE, version=3)
    phones.callee.reply(again, 200, contact=f"<{phones.callee.uri}>", **body(answer))
    phones.ask("ACK")


@pytest.mark.rfc("3264 8", "3725 7")
def test_change_after_one_was_put_back_has_a_version_that_is_not_used(phones):
    """The caller does not know that the bridge has used the next version."""
    test_change_that_is_cancelled_too_late_is_put_back(phones)
    got, response = agree(phones, describe(version=3, port=9002), describe(CALLEE, version=4))
    assert (got.body, response.status) == (describe(version=4, port=9002), 200)
    got, _ = agree(phones, describe(version=4, port=9004), describe(CALLEE, version=4))
    assert got.body == describe(version=5, port=9004)


@pytest.mark.rfc("3264 8", "6337 5.2.5")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_change_without_a_higher_version_gets_one(phones, method):
    changed, answer = describe(port=9002), describe(CALLEE, port=9002)
    got, response = agree(phones, changed, answer, method)
    assert got.body == describe(version=2, port=9002)
    assert response.body == describe(CALLEE, version=2, port=9002)


@pytest.mark.rfc("3264 8", "5621 3")
def test_version_of_a_description_in_a_multipart_goes_up(phones):
    changed = describe(port=9002)
    whole = b"--x\r\nContent-Type: application/sdp\r\n\r\n" + changed + b"\r\n--x--\r\n"
    phones.ask("INVITE", None, body=whole, content_type="multipart/mixed;boundary=x")
    got = phones.callee.last("INVITE")
    assert got.body == whole.replace(changed, describe(version=2, port=9002))
    phones.callee.reply(got, 488)
    phones.ask("ACK")


class FailingRelay:
    """A media relay that changes nothing, and fails to answer once it is told to."""

    fails = False

    def offer(self, call_id, from_tag, to_tag, description):
        return description

    def answer(self, call_id, from_tag, to_tag, description):
        if self.fails:
            raise TransportError("the media relay does not answer")
        return description

    def delete(self, call_id):
        pass


def restored(phones, peer, before):
    """A peer gets an offer of the session before, and takes it. Then the call is hung up."""
    again = peer.last("INVITE")
    assert same_session(again.body, before)
    answer = describe(CALLEE, version=9)
    peer.reply(again, 200, contact=f"<{peer.uri}>", **body(answer))
    phones.end()


@pytest.mark.rfc("3261 14.2", "6337 2.3")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_change_whose_media_relay_fails_after_the_answer_is_put_back(sip, method):
    relay = FailingRelay()
    phones = Phones(sip, media=relay)
    phones.answer()
    relay.fails = True
    phones.ask(method, HELD)
    phones.callee.reply(
        phones.callee.last(method), 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED)
    )
    assert phones.last.status >= 500
    if method == "INVITE":
        phones.ask("ACK")
    restored(phones, phones.callee, phones.offer)


@pytest.mark.rfc("3261 14.2")
def test_accepted_change_without_an_answer_is_put_back(phones):
    phones.ask("INVITE", HELD)
    phones.callee.reply(phones.callee.last("INVITE"), 200, contact=f"<{phones.callee.uri}>")
    assert phones.last.status == 488
    phones.ask("ACK")
    restored(phones, phones.callee, phones.offer)


@pytest.mark.rfc("3262 5", "3311 5.3")
def test_offer_in_a_prack_whose_media_relay_fails_is_put_back(sip):
    relay = FailingRelay()
    phones = Phones(sip, invite={"supported": "100rel"}, media=relay)
    phones.reply(183, describe(CALLEE), require="100rel", rseq=1, allow="UPDATE, PRACK")
    phones.callee.reply(phones.callee.last("PRACK"), 200)
    phones.response = phones.last
    relay.fails = True
    rack = f"{phones.last.rseq} {phones.invite.cseq.number} INVITE"
    phones.ask("PRACK", HELD, rack=rack)
    got = phones.callee.last("UPDATE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    assert phones.last.status >= 488
    relay.fails = False
    number, phones.number = phones.number, phones.invite.cseq.number
    phones.answer(b"")
    phones.number = number
    sip.settle()
    restored(phones, phones.callee, phones.offer)


@pytest.mark.rfc("3261 13.2.1", "3264 6.1")
def test_late_answer_that_the_media_relay_does_not_translate_leaves_both_sessions(sip):
    """The caller asks for an offer, takes it, and its answer is lost at the relay."""
    relay = FailingRelay()
    phones = Phones(sip, media=relay)
    phones.answer()
    phones.ask("INVITE")
    got = phones.callee.last("INVITE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    relay.fails = True
    phones.ask("ACK", describe(version=3))
    kept = sdp.SDP.parse(phones.callee.last("ACK").body)  # what was agreed, as the offer allows
    before = sdp.SDP.parse(phones.offer)
    assert sdp.answer_faults(sdp.SDP.parse(ACCEPTED), kept) == []
    assert [(s.port, s.connection) for s in kept.media] == [
        (s.port, s.connection) for s in before.media
    ]
    restored(phones, phones.caller, describe(CALLEE))


def test_legs_of_a_fork_with_many_branches_are_released(sip):
    phones = Phones(sip)
    calls = []
    for number in range(40):
        branch = phones.inner.response(180, contact=f"<{phones.callee.uri}>")
        branch.to = f"<{phones.inner.to.uri}>;tag=branch{number}"
        phones.callee.reply(phones.inner, branch)
    calls = [call for call in phones.stack.dialogs._calls.values() if call.is_caller]
    assert len(calls) == 32
    phones.answer(to=f"<{phones.inner.to.uri}>;tag=branch40")
    calls += [call for call in phones.stack.dialogs._calls.values() if call not in calls]
    phones.end()
    sip.advance(33)
    assert phones.results
    assert [call.leg for call in calls] == [None] * 34


@pytest.mark.rfc("3261 14.2")
def test_changes_of_both_sides_at_the_same_time_get_491(phones):
    phones.ask("INVITE", HELD)
    phones.ask_back("INVITE", describe(CALLEE, version=2, direction="sendonly"))
    assert phones.callee.responses[-1].status == 491
    phones.ask_back("ACK")
    got = [r for r in phones.callee.requests if r.method == "INVITE"][1]
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    assert phones.last.body == ACCEPTED
    phones.ask("ACK")


# ---- a change that waits for another one, RFC 3261 §14.1

HELD_BACK = describe(CALLEE, version=2, direction="sendonly")
ACCEPTED_BACK = describe(version=2, direction="recvonly")


def accept_back(phones, method="INVITE"):
    """The caller accepts the hold of the callee, which gets that answer."""
    got = phones.caller.last(method)
    assert got.body == HELD_BACK
    phones.caller.reply(got, 200, contact=f"<{phones.caller.uri}>", **body(ACCEPTED_BACK))
    response = phones.callee.responses[-1]
    assert (response.cseq.method, response.status, response.body) == (method, 200, ACCEPTED_BACK)
    if method == "INVITE":
        phones.ask_back("ACK")


@pytest.mark.rfc("3261 14.1")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_hold_of_the_callee_waits_for_the_ack_of_the_caller(sip, method):
    phones = Phones(sip)
    phones.reply(200, describe(CALLEE))
    phones.response = phones.last
    phones.ask_back(method, HELD_BACK)
    if method == "INVITE":  # an UPDATE may cross the 2xx, whose ACK has no answer
        assert phones.caller.methods == []
    phones.ack()
    accept_back(phones, method)
    phones.end()


@pytest.mark.rfc("3261 14.1")
def test_hold_of_the_callee_waits_for_the_ack_to_the_hold_of_the_caller(phones):
    phones.ask("INVITE", HELD)
    got = phones.callee.last("INVITE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    back = describe(CALLEE, version=3, direction="inactive")
    phones.ask_back("INVITE", back)
    phones.sip.advance(3)  # the ACK is lost, and the 200 comes again
    assert phones.caller.methods == []
    phones.ask("ACK")
    assert phones.caller.last("INVITE").body == back
    answer = describe(version=3, direction="inactive")
    phones.caller.reply(
        phones.caller.last("INVITE"), 200, contact=f"<{phones.caller.uri}>", **body(answer)
    )
    assert phones.callee.responses[-1].body == answer
    phones.ask_back("ACK")


@pytest.mark.rfc("3261 14.2")
def test_hold_of_the_callee_gets_491_if_no_ack_of_the_caller_comes(phones):
    phones.ask("INVITE", HELD)
    got = phones.callee.last("INVITE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    phones.ask_back("INVITE", describe(CALLEE, version=3, direction="inactive"))
    phones.sip.advance(8.1)
    assert phones.callee.responses[-1].status == 491
    phones.ask_back("ACK")
    phones.ask("ACK")
    assert phones.caller.methods == []


@pytest.mark.rfc("3261 9.2")
def test_hold_that_waits_for_its_turn_can_be_cancelled(sip):
    phones = Phones(sip)
    phones.reply(200, describe(CALLEE))
    phones.response = phones.last
    held = phones.ask_back("INVITE", HELD_BACK)
    phones.callee.send(held.cancel())
    assert sorted(phones.callee.statuses[-2:]) == [200, 487]
    phones.ask_back("ACK")
    phones.ack()
    assert phones.caller.methods == []
    phones.end()


def test_hold_that_waits_for_its_turn_ends_with_the_call(sip):
    phones = Phones(sip)
    phones.reply(200, describe(CALLEE))
    phones.response = phones.last
    phones.ask_back("INVITE", HELD_BACK)
    phones.ask("BYE")
    assert phones.callee.methods == ["INVITE", "ACK", "BYE"]
    assert phones.callee.statuses[-1] in (481, 487)
    phones.ask_back("ACK")
    phones.callee.reply(phones.callee.last("BYE"), 200)
    assert phones.results


@pytest.mark.rfc("3261 14.1", "4028 7.4")
@pytest.mark.parametrize("allow", ["UPDATE", "INVITE"])
def test_hold_of_the_caller_waits_for_the_session_refresh_of_the_callee(sip, allow):
    phones = Phones(sip, invite={"supported": "timer", "session_expires": "600;refresher=uac"})
    phones.answer(supported="timer", session_expires="600;refresher=uac", allow=allow)
    sip.advance(301)
    refresh = phones.callee.last(allow)
    phones.ask("INVITE", HELD)
    assert phones.callee.requests[-1].cseq == refresh.cseq
    answer = {} if allow == "UPDATE" else body(describe(CALLEE))
    phones.callee.reply(
        refresh, 200, session_expires="600;refresher=uac", require="timer",
        contact=f"<{phones.callee.uri}>", **answer,
    )  # fmt: skip
    got = phones.callee.last("INVITE")
    assert got.body.count(b"a=sendonly") == 1
    phones.callee.reply(
        got, 200, contact=f"<{phones.callee.uri}>", session_expires="600;refresher=uac",
        require="timer", **body(ACCEPTED),
    )  # fmt: skip
    assert (phones.last.status, phones.last.body) == (200, ACCEPTED)
    phones.ask("ACK")
    phones.end()


@pytest.mark.rfc("3261 14.1", "3311 5.1")
@pytest.mark.parametrize("side", ["caller", "callee"])
def test_change_by_update_before_the_ack_is_not_undone_by_the_first_answer(sip, side):
    phones = Phones(sip)
    phones.reply(200, describe(CALLEE))
    phones.response = phones.last
    if side == "caller":  # its ACK is late
        phones.ask("UPDATE", HELD)
        got = phones.callee.last("UPDATE")
        phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
        assert (phones.last.status, phones.last.body) == (200, ACCEPTED)
    else:
        phones.ask_back("UPDATE", HELD_BACK)
        accept_back(phones, "UPDATE")
    ack = phones.caller.within(
        phones.invite, phones.response, "ACK", number=phones.invite.cseq.number
    )
    phones.caller.send(ack)
    sip.advance(1)
    assert "INVITE" not in phones.caller.methods
    assert phones.callee.methods.count("INVITE") == 1
    phones.end()


class Slow(Relay):
    """A media relay that answers when it is told to."""

    def __init__(self):
        super().__init__()
        self.commands = []
        self.gate = Event()
        self.gate.set()

    def offer(self, call_id, from_tag, to_tag, description):
        self.commands.append(f"offer of {from_tag}")
        self.gate.wait()
        return super().offer(call_id, from_tag, to_tag, description)

    def answer(self, call_id, from_tag, to_tag, description):
        self.gate.wait()
        self.commands.append(f"answer to {from_tag}")
        return super().answer(call_id, from_tag, to_tag, description)


@pytest.mark.rfc("3261 14.1")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_hold_of_the_callee_waits_until_the_caller_has_the_answer(sip, method):
    relay = Slow()
    phones = Phones(sip, media=relay)
    relay.gate.clear()
    phones.reply(200, describe(CALLEE))
    assert phones.heard == []
    held = phones.ask_back(method, HELD_BACK)
    assert not [r for r in phones.callee.responses if r.cseq == held.cseq and r.status >= 200]
    relay.gate.set()
    sip.settle()
    assert phones.heard == [200]
    phones.ack()
    accept_back(phones, method)
    phones.end()


@pytest.mark.rfc("3261 14.1", "3261 14.2")
def test_changes_that_meet_at_a_slow_relay_refuse_one_side(sip):
    relay = Slow()
    phones = Phones(sip, media=relay)
    phones.answer()
    relay.gate.clear()
    phones.ask("INVITE", HELD)
    phones.ask_back("INVITE", HELD_BACK)
    relay.gate.set()
    sip.settle()
    refused, other = (
        (phones.caller, phones.callee)
        if phones.caller.statuses[-1] == 491
        else (phones.callee, phones.caller)
    )
    assert refused.statuses[-1] == 491 and other.statuses[-1] != 491
    got = refused.last("INVITE")
    assert b"a=sendonly" in got.body
    answer = ACCEPTED if refused is phones.callee else ACCEPTED_BACK
    refused.reply(got, 200, contact=f"<{refused.uri}>", **body(answer))
    assert (other.responses[-1].status, other.responses[-1].body) == (200, answer)
    phones.ask("ACK")
    phones.ask_back("ACK")
    phones.end()


@pytest.mark.rfc("3261 14.2", "3264 4")
def test_relay_gets_no_offer_of_a_change_that_waits_in_vain(sip):
    relay = Slow()
    phones = Phones(sip, media=relay)
    phones.answer()
    phones.ask("INVITE", HELD)
    got = phones.callee.last("INVITE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    phones.ask_back("INVITE", describe(CALLEE, version=3, direction="inactive"))
    sip.advance(8.1)
    assert phones.callee.responses[-1].status == 491
    assert relay.commands[-1] == "answer to caller"
    phones.ask_back("ACK")
    phones.ask("ACK")
    phones.end()


@pytest.mark.rfc("3261 14.1")
def test_change_that_a_slow_relay_translates_waits_for_a_refresh_that_begins(sip):
    relay = Slow()
    interval = {"supported": "timer", "session_expires": "600;refresher=uac"}
    phones = Phones(sip, media=relay, invite=interval)
    phones.answer(**interval, allow="INVITE")
    sip.advance(299)
    relay.gate.clear()
    phones.ask("INVITE", HELD)
    sip.advance(2)
    refresh = phones.callee.last("INVITE")
    assert refresh.body == phones.offer
    relay.gate.set()
    sip.settle()
    assert phones.callee.last("INVITE") is refresh
    interval["require"] = "timer"
    contact = f"<{phones.callee.uri}>"
    phones.callee.reply(refresh, 200, contact=contact, **interval, **body(describe(CALLEE)))
    got = phones.callee.last("INVITE")
    assert b"a=sendonly" in got.body
    phones.callee.reply(got, 200, contact=contact, **interval, **body(ACCEPTED))
    assert (phones.last.status, phones.last.body) == (200, ACCEPTED)
    phones.ask("ACK")
    phones.end()


@pytest.mark.rfc("3261 14.1")
def test_change_waits_until_a_slow_relay_has_the_answer_to_another_one(sip):
    relay = Slow()
    phones = Phones(sip, media=relay)
    phones.answer()
    phones.ask("INVITE", HELD)
    relay.gate.clear()
    got = phones.callee.last("INVITE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    back = describe(CALLEE, version=3, direction="inactive")
    phones.ask_back("INVITE", back)
    relay.gate.set()
    sip.settle()
    assert (phones.last.status, phones.last.body) == (200, ACCEPTED)
    assert phones.caller.methods == []
    phones.ask("ACK")
    # RFC 3264 §4: the relay has the answer to one offer before it gets the next one
    assert relay.commands[-3:] == ["offer of caller", "answer to caller", "offer of callee"]
    assert phones.caller.last("INVITE").body == back
    answer = describe(version=3, direction="inactive")
    phones.caller.reply(
        phones.caller.last("INVITE"), 200, contact=f"<{phones.caller.uri}>", **body(answer)
    )
    assert phones.callee.responses[-1].body == answer
    phones.ask_back("ACK")
    phones.end()


@pytest.mark.rfc("3261 14.1", "3261 14.2")
def test_both_sides_that_hold_at_the_same_time_succeed_after_the_491(sip):
    ours = sip.stack(host=OURS)
    ours.on("INVITE")(lambda request, tx: bridge(request, tx, BOB) and None)
    calls = []

    def answering(request, tx):
        with tx.accept(media=[PHONE]) as call:
            calls.append(call)
            call.wait()

    alice, bob = sip.stack(host=CALLER), sip.stack(answering, host=CALLEE)
    caller = sip.run(alice.invite, f"sip:bob@{OURS}", media=[PHONE])
    callee = calls[0]
    sip.lossy(delay=0.05)
    sip.advance(1)
    holds = [gevent.spawn(call.hold) for call in (caller, callee)]
    sip.advance(10)
    for hold in holds:
        hold.get(timeout=0)
    assert "491" in sent(sip)
    assert caller.is_held and callee.is_held
    assert callee.local_sdp.media[0].direction == "inactive"  # it has answered the later one
    sip.run(caller.hangup)
    sip.advance(40)
    assert callee.end.by == "peer"
    assert not bob.engine.counters.core_errors


@pytest.mark.rfc("3261 14.1", "3311 4")
def test_update_that_becomes_an_invite_waits_for_the_ack_of_the_caller(sip):
    phones = Phones(sip)
    phones.reply(200, describe(CALLEE))
    phones.response = phones.last
    phones.ask_back("UPDATE", HELD_BACK)
    phones.caller.reply(phones.caller.last("UPDATE"), 405, allow="INVITE, ACK, BYE, CANCEL")
    assert phones.caller.methods == ["UPDATE"]
    phones.ack()
    got = phones.caller.last("INVITE")
    phones.caller.reply(got, 200, contact=f"<{phones.caller.uri}>", **body(ACCEPTED_BACK))
    response = phones.callee.responses[-1]
    assert (response.cseq.method, response.status) == ("UPDATE", 200)
    assert response.body == ACCEPTED_BACK
    phones.end()


@pytest.mark.rfc("3311 4")
def test_update_becomes_an_invite_for_a_callee_without_update(sip):
    phones = Phones(sip)
    phones.answer(allow="INVITE, ACK, BYE, CANCEL")
    phones.ask("UPDATE", HELD)
    got = phones.callee.last("INVITE")
    assert got.body == HELD
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    assert (phones.last.status, phones.last.body) == (200, ACCEPTED)
    phones.end()


@pytest.mark.rfc("3311 5.2")
def test_update_that_is_not_known_is_tried_as_an_invite(phones):
    phones.ask("UPDATE", HELD)
    phones.callee.reply(phones.callee.last("UPDATE"), 501)
    got = phones.callee.last("INVITE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    assert (phones.last.status, phones.last.body) == (200, ACCEPTED)


@pytest.mark.rfc("3311 5.1")
def test_update_in_the_early_dialog_crosses(sip):
    phones = Phones(sip, invite={"supported": "100rel"})
    phones.reply(183, describe(CALLEE), require="100rel", rseq=1, allow="UPDATE, PRACK")
    phones.callee.reply(phones.callee.last("PRACK"), 200)
    phones.response = phones.last
    phones.ask("PRACK", rack=f"{phones.last.rseq} {phones.invite.cseq.number} INVITE")
    phones.ask("UPDATE", HELD)
    got = phones.callee.last("UPDATE")
    assert got.body == HELD
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    assert (phones.last.status, phones.last.body) == (200, ACCEPTED)
    number, phones.number = phones.number, phones.invite.cseq.number
    phones.answer(b"")
    assert phones.last.body == b""
    phones.number = number
    phones.end()


@pytest.mark.rfc("3262 5")
def test_offer_in_a_prack_becomes_an_update(sip):
    phones = Phones(sip, invite={"supported": "100rel"})
    phones.reply(183, describe(CALLEE), require="100rel", rseq=1, allow="UPDATE, PRACK")
    phones.callee.reply(phones.callee.last("PRACK"), 200)
    phones.response = phones.last
    rack = f"{phones.last.rseq} {phones.invite.cseq.number} INVITE"
    phones.ask("PRACK", HELD, rack=rack)
    got = phones.callee.last("UPDATE")
    assert got.body == HELD
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    assert (phones.last.status, phones.last.body) == (200, ACCEPTED)
    number, phones.number = phones.number, phones.invite.cseq.number
    phones.answer(b"")
    phones.number = number
    phones.end()


def test_answer_of_another_branch_than_the_preview_is_offered_to_the_caller(sip):
    phones = Phones(sip, invite={"require": "100rel"})
    phones.reply(183, describe(CALLEE))  # to the caller it is reliable, so it is the answer
    phones.ask("PRACK", rack=f"{phones.last.rseq} {phones.invite.cseq.number} INVITE")
    phones.number = phones.invite.cseq.number
    other = describe("10.0.0.61", port=9300)
    branch = phones.inner.response(200, contact="<sip:10.0.0.60>", **body(other))
    branch.to = f"<{phones.inner.to.uri}>;tag=other"
    phones.callee.reply(phones.inner, branch)
    phones.inner_response = branch
    assert phones.last.body == b""
    phones.ack()
    got = phones.caller.last("INVITE")
    assert same_session(got.body, other)
    phones.caller.reply(got, 200, contact=f"<{phones.caller.uri}>", **body(describe()))
    phones.number += 1
    phones.end()


# ---- other requests


def test_digit_crosses_whole_and_so_does_its_answer(phones):
    phones.ask("INFO", body="Signal=5\r\n", content_type="application/dtmf-relay", info_package="x")
    got = phones.callee.last("INFO")
    assert (got.body, str(got.content_type)) == (b"Signal=5\r\n", "application/dtmf-relay")
    assert got.headers["Info-Package"] == "x"
    assert got.max_forwards == 69
    phones.callee.reply(got, 200, body="ok", content_type="text/plain")
    assert (phones.last.status, phones.last.body) == (200, b"ok")


def test_refused_info_is_refused_with_its_header_fields(phones):
    phones.ask_back("INFO", info_package="x")
    phones.caller.reply(phones.caller.last("INFO"), 469, recv_info="y")
    response = phones.callee.responses[-1]
    assert (response.status, response.headers["Recv-Info"]) == (469, "y")


def test_message_before_the_callee_rings_is_told_to_come_later(sip):
    phones = Phones(sip)
    phones.reply(180)
    phones.response = phones.last
    phones.ask("MESSAGE", body="x", content_type="text/plain")
    got = phones.callee.last("MESSAGE")
    phones.callee.reply(got, 200)
    assert phones.last.status == 200
    phones.number = phones.invite.cseq.number
    phones.reply(486)
    assert phones.heard[-1] == 486


def test_unknown_method_is_not_passed_on(phones):
    phones.ask("PUBLISH")
    assert phones.last.status in (405, 481, 501)
    assert phones.callee.methods == ["INVITE", "ACK"]


@pytest.mark.rfc("4028 10")
def test_each_leg_has_its_own_session_timer(sip):
    phones = Phones(sip, invite={"supported": "timer", "session_expires": "600;refresher=uac"})
    assert phones.inner.headers["Session-Expires"] != "600;refresher=uac"
    phones.answer(supported="timer", session_expires="900;refresher=uac", allow="UPDATE")
    assert phones.response.headers["Session-Expires"] == "600;refresher=uac"
    sip.advance(460)
    update = phones.callee.last("UPDATE")  # ours, of the inner leg
    phones.callee.reply(update, 200, session_expires="900;refresher=uac", require="timer",
                        contact=f"<{phones.callee.uri}>")  # fmt: skip
    assert "UPDATE" not in phones.caller.methods
    sip.advance(109.2)  # the caller has not refreshed: its leg expires, and the callee hears why
    assert phones.caller.methods == ["BYE"]
    assert "Reason" in phones.callee.last("BYE").headers
    phones.caller.reply(phones.caller.last("BYE"), 200)
    phones.callee.reply(phones.callee.last("BYE"), 200)


@pytest.mark.rfc("7332 4.1")
def test_request_whose_hops_are_used_up_is_refused(phones):
    request = phones.caller.within(phones.invite, phones.response, "INFO", number=8, max_forwards=0)
    phones.caller.send(request)
    phones.number = 8
    assert phones.last.status == 483
    assert phones.callee.methods == ["INVITE", "ACK"]


def test_requests_behind_the_ack_and_the_200_are_passed_on(sip):
    phones = Phones(sip)
    phones.reply(200, describe(CALLEE))
    phones.response = phones.last
    ack = phones.caller.within(phones.invite, phones.last, "ACK", number=phones.number)
    info = phones.caller.within(phones.invite, phones.last, "INFO", number=phones.number + 1)
    held = phones.caller.within(
        phones.invite, phones.last, "INVITE", number=phones.number + 2,
        contact=f"<{phones.caller.uri}>", **body(HELD),
    )  # fmt: skip
    phones.caller.send(ack, info, held)
    phones.number += 2
    assert phones.callee.methods == ["INVITE", "ACK", "INFO", "INVITE"]
    assert phones.callee.last("INVITE").body == HELD
    phones.callee.reply(phones.callee.last("INFO"), 200)
    got = phones.callee.last("INVITE")
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    phones.ask("ACK", number=phones.number)
    phones.end()


def test_bye_while_a_reinvite_is_passed_on_ends_everything(phones):
    phones.ask("INVITE", HELD)
    got = phones.callee.last("INVITE")
    phones.ask("BYE")
    assert phones.last.status in (200, 487)
    phones.callee.reply(got, 200, contact=f"<{phones.callee.uri}>", **body(ACCEPTED))
    assert "BYE" in phones.callee.methods
    phones.callee.reply(phones.callee.last("BYE"), 200)
    assert phones.results
