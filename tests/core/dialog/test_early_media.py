"""Early media: `tx.respond(183, media=[…])`, RFC 3261 §13.2.1, RFC 6337 §3.1."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, sdp

from ..wire import Peer, start
from .described import AUDIO, HOST, OURS, PHONE, body, description, directions, phone_offer

VIDEO = sdp.MediaStream("video", 4002, (sdp.Codec("H264", 90000),))


class Alerted:
    """A peer whose INVITE our core serves by `steps(tx)`, which returns the call."""

    def __init__(self, sip, steps, offer=True, **headers):
        self.calls = []
        self.raised = []

        def core(request, tx):
            if tx.call is not None and tx.call.is_confirmed:
                return 501
            try:
                self.calls.append(steps(tx))
            except Exception as error:
                self.raised.append(error)
                raise
            return None

        sip.serve(core)
        self.sip = sip
        self.peer = Peer(sip, HOST)
        if offer:
            headers |= body(phone_offer())
        self.invite = self.peer.ask("INVITE", **headers)
        self.number = self.invite.cseq.number

    def prack(self, response, **headers):
        self.number += 1
        rack = f"{response.rseq} {response.cseq.number} INVITE"
        self.peer.send(
            self.peer.within(
                self.invite, response, "PRACK", number=self.number, rack=rack, **headers
            )
        )

    def responses(self, status=None):
        """The responses to the INVITE, or those with a status."""
        return [
            response
            for response in self.peer.responses
            if response.cseq.method == "INVITE" and status in (None, response.status)
        ]

    def acknowledge(self, **headers):
        (ok,) = self.responses(200)
        self.peer.send(self.peer.within(self.invite, ok, "ACK", **headers))
        return self.calls[0]


def hold_and_hang_up(alerted):
    """Our stack holds the call, so the streams of the session are known to it."""
    call = alerted.calls[0]
    holding = start(alerted.sip, call.hold)
    invite = alerted.peer.last("INVITE")
    assert directions(invite) == ["sendonly"]
    answer = sdp.answer(description(invite), [PHONE], address=HOST)
    alerted.peer.reply(invite, 200, contact=f"<{alerted.peer.uri}>", **body(answer))
    holding.get()
    call.hangup()


AGAIN = {"nothing": {}, "the same media": {"media": [AUDIO]}}


@pytest.mark.rfc("3261 13.2.1", "6337 3.1.1")
@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("rings", [False, True])
def test_answer_in_a_183_is_repeated_in_the_200(sip, again, rings):
    def steps(tx):
        if rings:
            tx.respond(180)
        tx.respond(183, media=[AUDIO])
        return tx.accept(**AGAIN[again])

    alerted = Alerted(sip, steps)
    (early,), (ok,) = alerted.responses(183), alerted.responses(200)
    assert str(early.content_type) == "application/sdp"
    assert description(early).media[0].port == 4000
    assert early.body == ok.body
    call = alerted.acknowledge()
    assert call.local_sdp == description(ok)
    hold_and_hang_up(alerted)


@pytest.mark.rfc("6337 3.1.1")
def test_second_183_repeats_the_answer(sip):
    def steps(tx):
        tx.respond(183, media=[AUDIO])
        tx.respond(183, media=[AUDIO])
        return tx.accept()

    alerted = Alerted(sip, steps)
    assert len({response.body for response in alerted.responses()[-3:]}) == 1
    alerted.acknowledge().hangup()


@pytest.mark.rfc("3262 3", "6337 3.1.1")
@pytest.mark.parametrize("again", AGAIN)
def test_answer_in_a_reliable_183_is_not_repeated(sip, again):
    def steps(tx):
        tx.respond(183, media=[AUDIO], reliable=True)
        return tx.accept(**AGAIN[again])

    alerted = Alerted(sip, steps, supported="100rel")
    (early,) = alerted.responses(183)
    assert description(early).media[0].port == 4000
    assert not alerted.responses(200)
    alerted.prack(early)
    assert alerted.responses(200)[0].body == b""
    call = alerted.acknowledge()
    assert call.local_sdp == description(early)
    hold_and_hang_up(alerted)


@pytest.mark.rfc("6337 3.1.2")
@pytest.mark.parametrize("headers", [{}, {"supported": "100rel"}])
def test_unreliable_183_has_no_offer_and_the_200_has_it(sip, headers):
    def steps(tx):
        tx.respond(183, media=[AUDIO])
        return tx.accept()

    alerted = Alerted(sip, steps, offer=False, **headers)
    (early,), (ok,) = alerted.responses(183), alerted.responses(200)
    assert early.body == b""
    answer = sdp.answer(description(ok), [PHONE], address=HOST)
    call = alerted.acknowledge(**body(answer))
    assert call.remote_sdp == answer
    hold_and_hang_up(alerted)


@pytest.mark.rfc("6337 3.1.2")
def test_183_that_should_be_reliable_has_no_offer_for_a_caller_without_100rel(sip):
    def steps(tx):
        tx.respond(183, media=[AUDIO], reliable=True)
        return tx.accept()

    alerted = Alerted(sip, steps, offer=False)
    assert [response.body for response in alerted.responses(183)] == [b""]
    (ok,) = alerted.responses(200)
    alerted.acknowledge(**body(sdp.answer(description(ok), [PHONE], address=HOST))).hangup()


@pytest.mark.rfc("3262 5", "6337 3.1.2")
@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("demand", ["supported", "require"])
def test_reliable_183_to_an_invite_without_an_offer_has_one(sip, again, demand):
    def steps(tx):
        tx.respond(183, media=[AUDIO], reliable=demand == "supported")
        return tx.accept(**AGAIN[again])

    alerted = Alerted(sip, steps, offer=False, **{demand: "100rel"})
    (early,) = alerted.responses(183)
    answer = sdp.answer(description(early), [PHONE], address=HOST)
    alerted.prack(early, **body(answer))
    (ok,) = alerted.responses(200)
    assert ok.body == b""
    call = alerted.acknowledge()
    assert call.remote_sdp == answer
    hold_and_hang_up(alerted)


@pytest.mark.rfc("3262 5", "3261 13.2.1")
def test_180_without_an_offer_is_unreliable_if_the_caller_asked_for_an_offer(sip):
    def steps(tx):
        tx.respond(180, reliable=True)
        return tx.accept(media=[AUDIO])

    alerted = Alerted(sip, steps, offer=False, supported="100rel")
    (ringing,), (ok,) = alerted.responses(180), alerted.responses(200)
    assert (ringing.rseq, ringing.require, ringing.body) == (None, (), b"")
    alerted.acknowledge(**body(sdp.answer(description(ok), [PHONE], address=HOST))).hangup()


@pytest.mark.rfc("3262 3", "3262 5", "3261 13.2.1")
@pytest.mark.parametrize("options", [{}, {"reliable": True}], ids=["plain", "reliable"])
def test_180_that_lacks_a_due_offer_is_left_out_and_the_call_is_answered(sip, caplog, options):
    def steps(tx):
        tx.respond(180, **options)
        return tx.accept(media=[AUDIO])

    alerted = Alerted(sip, steps, offer=False, require="100rel")
    (ok,) = alerted.responses()
    assert ok.status == 200
    (line,) = [each.getMessage() for each in caplog.records if "left out" in each.getMessage()]
    assert "status=180" in line and "write tx.respond(180, media=[stream])" in line
    alerted.acknowledge(**body(sdp.answer(description(ok), [PHONE], address=HOST))).hangup()


@pytest.mark.rfc("3262 3", "3262 5")
def test_180_after_the_offer_in_a_reliable_183_needs_none(sip):
    def steps(tx):
        tx.respond(183, media=[AUDIO])
        tx.respond(180)
        return tx.accept()

    alerted = Alerted(sip, steps, offer=False, require="100rel")
    (early,) = alerted.responses()
    alerted.prack(early, **body(sdp.answer(description(early), [PHONE], address=HOST)))
    (ringing,) = alerted.responses(180)
    assert (ringing.rseq, ringing.body) == (early.rseq + 1, b"")
    alerted.prack(ringing)
    alerted.acknowledge().hangup()


@pytest.mark.rfc("3262 5")
def test_180_to_a_reinvite_that_asks_for_an_offer_is_left_out(sip):
    def changing(request, tx):
        tx.respond(180)
        tx.accept()

    alerted = Alerted(sip, lambda tx: tx.accept(media=[AUDIO]))
    call = alerted.acknowledge()
    call.on_reinvite = changing
    (ok,) = alerted.responses(200)
    again = alerted.peer.within(alerted.invite, ok, "INVITE", number=5, require="100rel")
    alerted.peer.send(again)
    response = alerted.responses()[-1]
    assert response.status == 200 and not alerted.responses(180)
    answer = sdp.answer(description(response), [PHONE], address=HOST)
    alerted.peer.send(alerted.peer.within(alerted.invite, ok, "ACK", number=5, **body(answer)))
    call.hangup()


@pytest.mark.rfc("3264 6")
def test_early_media_without_a_common_stream_is_488(sip):
    alerted = Alerted(sip, lambda tx: tx.respond(183, media=[VIDEO]))
    assert [response.status for response in alerted.responses()] == [488]
    assert isinstance(alerted.raised[0], Reject)


@pytest.mark.parametrize("status", [100, 486])
def test_media_has_no_place_in_other_responses(sip, status):
    alerted = Alerted(sip, lambda tx: tx.respond(status, media=[AUDIO]))
    assert isinstance(alerted.raised[0], TypeError)
    assert "write tx.respond(183, media=[stream])" in str(alerted.raised[0])


def test_media_and_body_in_a_183_are_refused(sip):
    alerted = Alerted(sip, lambda tx: tx.respond(183, media=[AUDIO], body=b"v=0"))
    assert isinstance(alerted.raised[0], TypeError)


def test_respond_with_media_and_200_begins_the_call(sip):
    def steps(tx):
        tx.respond(200, media=[AUDIO])
        return tx.call

    alerted = Alerted(sip, steps)
    assert description(alerted.responses(200)[0]).media[0].port == 4000
    alerted.acknowledge()
    hold_and_hang_up(alerted)


def test_two_stacks_agree_on_early_media(sip):
    def core(request, tx):
        tx.respond(183, media=[AUDIO], reliable=True)
        tx.wait(2)
        with tx.accept() as call:
            call.wait()

    sip.serve(core)
    early = []
    greenlet = start(
        sip,
        sip.client.invite,
        f"sip:bob@{OURS}",
        media=[PHONE],
        on_provisional=lambda response: early.append(response),
    )
    sip.advance(3)
    call = greenlet.get()
    assert [response.status for response in early] == [183]
    assert call.remote_sdp == description(early[0])
    call.hangup()
    sip.settle()
