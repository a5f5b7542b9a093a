"""Offers that must not be, and answers that are missing: RFC 3262 §5, RFC 3311 §5, RFC 6337 §2."""

from __future__ import annotations

import pytest

from sippet_gevent import sdp

from ..wire import start
from .described import AUDIO, OURS, PHONE, Placed, Taken, body, phone_offer
from .test_reliable import Alerting

OFFER = phone_offer()
OTHER = sdp.modify(OFFER, [PHONE._replace(port=9100)])


def alerting(sip):
    """A phone whose INVITE has an offer, and gets a reliable 180 without an answer."""

    def steps(tx):
        tx.respond(180, reliable=True)
        tx.wait(5)
        tx.accept(media=[AUDIO])

    return Alerting(sip, steps, body=bytes(OFFER))


@pytest.mark.rfc("3262 5", "6337 2.2", "3261 14.2")
def test_offer_in_the_prack_while_that_of_the_invite_waits_is_500(sip):
    phone = alerting(sip)
    response = phone.prack(**body(OTHER))
    assert response.status == 500
    assert 0 <= response.retry_after.seconds <= 10
    assert phone.tx.call.remote_body == bytes(OFFER)
    assert phone.prack(phone.provisional[0]).status == 200  # without it
    sip.advance(6)
    phone.hang_up()


@pytest.mark.rfc("6337 2.4")
def test_offer_of_the_invite_that_the_prack_repeats_is_ignored(sip):
    phone = alerting(sip)
    response = phone.prack(**body(OFFER))
    assert (response.status, response.body) == (200, b"")
    sip.advance(6)
    phone.hang_up()


@pytest.mark.rfc("3311 5.2")
@pytest.mark.parametrize("kind", [Placed, Taken])
def test_200_without_an_answer_to_our_update_has_accepted_it(sip, kind):
    two = kind(sip)
    remote = two.call.remote_body
    greenlet = start(sip, two.call.update, media=[AUDIO._replace(codecs=(sdp.PCMA,))])
    update = two.peer.last("UPDATE")
    two.peer.reply(update, 200, contact=f"<{two.peer.uri}>")
    assert greenlet.get().status == 200
    assert (two.call.local_body, two.call.remote_body) == (update.body, remote)
    two.call.hangup()


def progressing(sip, step):
    """A phone that has acknowledged our answer in a reliable 183, and what then happens."""

    def steps(tx):
        answer = bytes(sdp.answer(OFFER, [AUDIO], address=OURS))
        tx.respond(183, body=answer, content_type="application/sdp", reliable=True)
        tx.wait(1)
        step(tx)
        tx.wait(1)

    phone = Alerting(sip, steps, body=bytes(OFFER))
    phone.prack()
    return phone


def said(message):
    return [str(contact.uri) for contact in message.contact]


@pytest.mark.rfc("3311 5.1")
def test_2xx_has_the_contact_of_our_update_before_it(sip):
    phone = progressing(sip, lambda tx: start(sip, tx.call.update, contact="<sip:us@10.0.0.1>"))
    sip.advance(1.5)
    phone.peer.reply(phone.peer.last("UPDATE"), 200, contact=f"<{phone.peer.uri}>")
    sip.advance(1)
    accepted = phone.peer.responses[-1]
    assert (accepted.status, said(accepted)) == (200, ["sip:us@10.0.0.1"])
    phone.hang_up()


@pytest.mark.rfc("3311 5.1")
def test_2xx_has_the_contact_of_our_response_to_an_update_before_it(sip):
    def update(request, tx):
        return request.response(200, contact="<sip:us@10.0.0.1>")

    phone = progressing(sip, lambda tx: setattr(tx.call, "handlers", {"UPDATE": update}))
    sip.advance(1.5)
    phone.number += 1
    request = phone.peer.within(phone.invite, phone.provisional[0], "UPDATE", number=phone.number)
    phone.peer.send(request)
    assert said(phone.peer.responses[-1]) == ["sip:us@10.0.0.1"]
    sip.advance(1)
    accepted = phone.peer.responses[-1]
    assert (accepted.cseq.method, said(accepted)) == ("INVITE", ["sip:us@10.0.0.1"])
    phone.hang_up()
