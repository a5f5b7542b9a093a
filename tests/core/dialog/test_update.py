"""UPDATE and PRACK with offers and answers, in early dialogs too, RFC 3311, RFC 3262 §5."""

from __future__ import annotations

import pytest
from gevent.event import Event

from sippet_gevent import Reject, TransactionStateError, sdp

from ..wire import Peer, start
from .described import AUDIO, HOST, OURS, PHONE, body, description, directions, phone_offer

REL = {"require": "100rel", "rseq": 7}


class Alerting:
    """An INVITE of a phone with 100rel, which our core answers in a reliable 183.

    The core waits until `answered` is true, then accepts.
    """

    def __init__(self, sip, offer=None, ours=None, **accept):
        self.sip = sip
        self.txs = []
        self.go_on = False
        self.calls = []

        def core(request, tx):
            if request.method != "INVITE":
                return 501
            self.txs.append(tx)
            tx.respond(183, reliable=True, **body(ours))
            while not self.go_on:
                tx.wait(0.1)
            self.calls.append(tx.accept(**accept))
            return None

        self.stack = sip.serve(core)
        self.peer = Peer(sip, HOST)
        self.invite = self.peer.ask("INVITE", supported="100rel", **(body(offer) if offer else {}))
        self.early = self.peer.responses[-1]
        self.number = self.invite.cseq.number

    def ask(self, method, **headers):
        self.number += 1
        self.peer.send(
            self.peer.within(self.invite, self.early, method, number=self.number, **headers)
        )
        return next((r for r in reversed(self.peer.responses) if r.cseq.method == method), None)

    def prack(self, **headers):
        return self.ask(
            "PRACK", rack=f"{self.early.rseq} {self.invite.cseq.number} INVITE", **headers
        )

    @property
    def call(self):
        return self.txs[0].call

    def finish(self):
        """The core accepts, and the phone acknowledges and hangs up."""
        self.go_on = True
        self.sip.advance(0.2)
        final = next(
            r for r in self.peer.responses if r.status == 200 and r.cseq.method == "INVITE"
        )
        self.peer.send(self.peer.within(self.invite, final, "ACK"))
        self.ask("BYE")
        return final


def alerting(sip, **accept):
    offer = phone_offer()
    ours = sdp.answer(offer, [AUDIO], address=OURS)
    made = Alerting(sip, offer, ours, **accept)
    made.offer, made.ours = offer, ours
    return made


# ---- the phone calls


@pytest.mark.rfc("3311 5.1", "6337 3.2")
def test_update_of_the_caller_modifies_an_early_session(sip):
    phone = alerting(sip)
    phone.prack()
    held = sdp.hold(phone.offer)
    response = phone.ask("UPDATE", **body(held))
    assert (response.status, directions(response)) == (200, ["recvonly"])
    assert phone.call.remote_sdp == held
    assert phone.finish().body == b""  # RFC 6337 §3.1.1


@pytest.mark.rfc("6337 4.3", "3311 5.2")
def test_update_with_an_offer_before_the_prack_is_500(sip):
    phone = alerting(sip)
    response = phone.ask("UPDATE", **body(sdp.hold(phone.offer)))
    assert response.status == 500
    assert 0 <= response.retry_after.seconds <= 10
    phone.prack()
    phone.finish()


@pytest.mark.rfc("3262 5", "6337 2.2")
def test_offer_in_the_prack_is_answered_in_its_200(sip):
    phone = alerting(sip)
    held = sdp.hold(phone.offer)
    response = phone.prack(**body(held))
    assert (response.status, directions(response)) == (200, ["recvonly"])
    assert phone.call.remote_sdp == held
    phone.finish()


@pytest.mark.rfc("6337 2.3")
def test_offer_in_the_prack_that_cannot_be_accepted_is_488(sip):
    phone = alerting(sip)
    response = phone.prack(**body(sdp.modify(phone.offer, [PHONE._replace(codecs=(sdp.G729,))])))
    assert response.status == 488
    assert phone.call.remote_sdp == phone.offer
    phone.finish()


@pytest.mark.rfc("6337 2.3", "3262 3")
def test_prack_that_was_refused_may_come_again_without_its_offer(sip):
    """The second one got 481, which ends the call of many phones."""
    phone = alerting(sip)
    unknown = sdp.modify(phone.offer, [PHONE._replace(codecs=(sdp.G729,))])
    assert phone.prack(**body(unknown)).status == 488
    assert phone.prack().status == 200
    assert phone.prack().status == 481
    phone.finish()


@pytest.mark.rfc("3262 5", "6337 2.2")
def test_answer_to_the_offer_of_a_reliable_183_comes_in_the_prack(sip):
    ours = sdp.initial_offer([AUDIO], address=OURS)
    phone = Alerting(sip, None, ours)
    answer = sdp.answer(ours, [PHONE], address=HOST)
    assert phone.prack(**body(answer)).status == 200
    assert (phone.call.local_sdp, phone.call.remote_sdp) == (ours, answer)
    assert phone.finish().body == b""


@pytest.mark.rfc("3261 13.2.1")
def test_accept_with_media_after_a_reliable_answer_sends_no_description(sip):
    phone = alerting(sip, media=[AUDIO])
    phone.prack()
    assert phone.finish().body == b""
    assert phone.calls[0].local_sdp == phone.ours


@pytest.mark.rfc("3311 5.1")
def test_update_of_ours_modifies_an_early_session(sip):
    phone = alerting(sip)
    with pytest.raises(TransactionStateError):  # the PRACK is missing
        phone.call.request("UPDATE", **body(sdp.hold(phone.ours)))
    phone.prack()
    greenlet = start(sip, phone.call.request, "UPDATE", **body(sdp.hold(phone.ours)))
    update = phone.peer.last("UPDATE")
    answer = sdp.answer(description(update), [PHONE], address=HOST, previous=phone.offer)
    phone.peer.reply(update, 200, contact=f"<{phone.peer.uri}>", **body(answer))
    assert greenlet.get().status == 200
    assert (phone.call.local_sdp, phone.call.remote_sdp) == (description(update), answer)
    phone.finish()


# ---- we call


class Ringing:
    """An INVITE of ours to a phone that answers in a reliable 183."""

    def __init__(self, sip, **options):
        self.sip = sip
        self.peer = Peer(sip, HOST)
        self.greenlet = start(sip, sip.client.invite, f"sip:bob@{HOST}", **options)
        self.invite = self.peer.last("INVITE")
        self.number = 0
        self.at = sip.client.engine.transports[0].local[0]

    def progress(self, **headers):
        self.early = self.peer.reply(
            self.invite, 183, contact=f"<{self.peer.uri}>", **REL, **headers
        )
        prack = self.peer.last("PRACK")
        self.peer.reply(prack, 200)
        return prack

    def ask(self, method, **headers):
        self.number += 1
        self.peer.send(
            self.peer.back(self.invite, self.early, method, number=self.number, **headers),
            to=self.at,
        )
        return self.peer.responses[-1]

    def finish(self, **headers):
        response = self.invite.response(200, contact=f"<{self.peer.uri}>", **headers)
        response.to = self.early.to
        self.peer.reply(self.invite, response)
        return self.greenlet.get()


@pytest.mark.rfc("6141 4.7", "6141 4.9")
def test_reliable_response_refreshes_the_target_of_an_early_dialog(sip):
    phone = Ringing(sip, media=[AUDIO])
    phone.progress()
    moved = f"sip:moved@{HOST}"
    for number, fields in ((9, {}), (8, {"require": "100rel", "rseq": 8})):
        response = phone.invite.response(
            183, contact=f"<{moved if fields else f'sip:other{number}@{HOST}'}>", **fields
        )
        response.to = phone.early.to
        phone.peer.reply(phone.invite, response)
    prack = phone.peer.last("PRACK")
    assert (str(prack.rack), str(prack.uri)) == (f"8 {phone.invite.cseq.number} INVITE", moved)
    phone.peer.reply(prack, 200)
    answer = sdp.answer(description(phone.invite), [PHONE], address=HOST)
    call = phone.finish(**body(answer))
    call.hangup()


@pytest.mark.rfc("3261 20.11")
def test_body_of_another_type_in_a_reliable_183_is_no_answer(sip):
    """It was taken as the answer, and the description in the 200 was ignored."""
    phone = Ringing(sip, media=[AUDIO])
    phone.progress(body="<charge/>", content_type="application/xml")
    answer = sdp.answer(description(phone.invite), [PHONE], address=HOST)
    call = phone.finish(**body(answer))
    assert call.remote_sdp == answer
    call.hangup()


@pytest.mark.rfc("3262 5", "6337 2.2")
def test_answer_in_a_reliable_183_agrees_on_the_session(sip):
    phone = Ringing(sip, media=[AUDIO])
    answer = sdp.answer(description(phone.invite), [PHONE], address=HOST)
    assert phone.progress(**body(answer)).body == b""
    call = phone.finish()
    assert call.remote_sdp == answer
    call.hangup()


@pytest.mark.rfc("6337 3.1.1")
def test_other_description_behind_the_answer_is_ignored(sip):
    phone = Ringing(sip, media=[AUDIO])
    answer = sdp.answer(description(phone.invite), [PHONE], address=HOST)
    phone.progress(**body(answer))
    call = phone.finish(**body(sdp.hold(answer)))
    assert call.remote_sdp == answer
    call.hangup()


@pytest.mark.rfc("3311 5.1", "6337 3.2")
def test_update_of_the_callee_modifies_an_early_session(sip):
    phone = Ringing(sip, media=[AUDIO])
    answer = sdp.answer(description(phone.invite), [PHONE], address=HOST)
    phone.progress(**body(answer))
    held = sdp.hold(answer)
    response = phone.ask("UPDATE", **body(held))
    assert (response.status, directions(response)) == (200, ["recvonly"])
    call = phone.finish()
    assert call.remote_sdp == held
    call.hangup()


@pytest.mark.rfc("3311 5.2", "6337 4.3")
def test_update_with_an_offer_before_our_offer_is_answered_is_491(sip):
    phone = Ringing(sip, media=[AUDIO])
    phone.progress()
    answer = sdp.answer(description(phone.invite), [PHONE], address=HOST)
    assert phone.ask("UPDATE", **body(sdp.hold(answer))).status == 491
    phone.finish(**body(answer)).hangup()


@pytest.mark.rfc("3262 5")
def test_offer_in_a_reliable_183_is_answered_in_the_prack(sip):
    phone = Ringing(sip, on_offer=lambda offer, call: sdp.answer(offer, [AUDIO], address=OURS))
    offer = phone_offer()
    prack = phone.progress(**body(offer))
    assert sdp.answer_faults(offer, description(prack)) == []
    call = phone.finish()
    assert (call.local_body, call.remote_sdp) == (prack.body, offer)
    call.hangup()


@pytest.mark.rfc("3262 5", "6337 2.3")
def test_offer_in_a_reliable_183_that_nobody_answers_is_refused_in_the_prack(sip, caplog):
    phone = Ringing(sip)
    prack = phone.progress(**body(phone_offer()))
    assert [stream.port for stream in description(prack).media] == [0]
    call = phone.finish()
    assert phone.peer.methods[-1] == "ACK"
    call.hangup()
    caplog.clear()


# ---- failures


@pytest.mark.rfc("3311 5.3")
def test_refused_update_leaves_the_session_as_it_was(sip):
    phone = alerting(sip)
    phone.prack()
    greenlet = start(sip, phone.call.update, body=bytes(sdp.hold(phone.ours)))
    phone.peer.reply(phone.peer.last("UPDATE"), 488)
    with pytest.raises(Reject):
        greenlet.get()
    assert phone.call.local_sdp == phone.ours
    phone.finish()


@pytest.mark.rfc("3261 14.2")
def test_on_offer_that_rejects_an_update_is_488(sip):
    phone = alerting(sip)

    def on_offer(offer, call):
        raise Reject(488)

    phone.call.on_offer = on_offer
    phone.prack()
    assert phone.ask("UPDATE", **body(sdp.hold(phone.offer))).status == 488
    assert phone.call.remote_sdp == phone.offer
    phone.finish()


# ---- an UPDATE whose answer takes a while


class Undecided(Ringing):
    """A call of ours. Its callee has answered in a reliable 183, and has sent an UPDATE with an
    offer since, which the application has not decided about."""

    def __init__(self, sip):
        self.decided = Event()

        def decide(offer, call):
            self.decided.wait()

        super().__init__(sip, media=[AUDIO], on_offer=decide)
        self.answer = sdp.answer(description(self.invite), [PHONE], address=HOST)
        self.progress(**body(self.answer))
        self.peer.send(
            self.peer.back(
                self.invite, self.early, "UPDATE", number=1, **body(sdp.hold(self.answer))
            ),
            to=self.at,
        )

    def decide(self):
        """The application decides now. Return the response to the UPDATE."""
        self.decided.set()
        self.sip.settle()
        return self.peer.responses[-1]


@pytest.mark.rfc("3311 5.2", "6337 2.2")
def test_ack_has_no_answer_to_the_offer_of_an_update(sip):
    """The callee answers the INVITE while its UPDATE waits. No ACK could be made."""
    phone = Undecided(sip)
    call = phone.finish()
    assert phone.peer.methods[-1] == "ACK"
    assert phone.peer.last("ACK").body == b""
    response = phone.decide()
    assert (response.status, response.cseq.method) == (200, "UPDATE")
    assert directions(response) == ["recvonly"]
    assert call.remote_sdp == sdp.hold(phone.answer)
    call.hangup()


@pytest.mark.rfc("3311 5.2", "3262 5")
def test_prack_has_no_answer_to_the_offer_of_an_update(sip):
    """The callee sends another reliable 180 while its UPDATE waits. No PRACK could be made."""
    phone = Undecided(sip)
    again = phone.invite.response(
        180, contact=f"<{phone.peer.uri}>", require="100rel", rseq=REL["rseq"] + 1
    )
    again.to = phone.early.to
    phone.peer.reply(phone.invite, again)
    prack = phone.peer.last("PRACK")
    assert prack.rack.response == REL["rseq"] + 1
    assert prack.body == b""
    phone.peer.reply(prack, 200)
    assert directions(phone.decide()) == ["recvonly"]
    phone.finish().hangup()
