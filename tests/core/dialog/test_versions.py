"""The o= lines of descriptions that an application gives as bytes, RFC 3264 §8."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, sdp

from ..wire import start
from .described import PHONE, Placed, Taken, body, phone_offer

ODD = (
    b"v=0\r\no=app 7 41 IN IP4 10.0.0.1\r\ns=a name of its own\r\nc=IN IP4 10.0.0.1\r\n"
    b"t=0 0\r\na=x-first:1\r\nm=audio 4000 RTP/AVP 8 0\r\na=ptime:20\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:8 PCMA/8000\r\n"
)
"""A description whose lines are in another order than those of ours."""


@pytest.fixture(params=[Placed, Taken])
def odd(request, sip):
    """A call whose application has described the session by bytes of its own."""
    if request.param is Placed:
        odd = Placed(sip, body=ODD)
    else:
        odd = Taken(sip, phone_offer(), body=ODD, content_type="application/sdp")
    yield odd
    if not odd.call.ended.is_set():
        odd.call.hangup()


def changed(session=b"7", version=b"41"):
    """Other bytes of the application, with this o= line."""
    here = ODD.replace(b"PCMA/8000\r\n", b"PCMA/8000\r\na=sendonly\r\n")
    return here.replace(b"app 7 41", b"app " + session + b" " + version)


def offered(odd, change, *arguments, **options):
    """Return what the peer gets of a change of ours, which it accepts."""
    greenlet = start(odd.sip, change, *arguments, **options)
    request = odd.peer.last("INVITE")
    odd.take_offer(stream=PHONE)
    greenlet.get()
    return request.body


def origin(data):
    return next(line for line in data.split(b"\r\n") if line.startswith(b"o="))


@pytest.mark.rfc("3264 8", "4028 7.4")
def test_refresh_repeats_the_bytes_of_the_application(odd):
    assert offered(odd, odd.call.reinvite) == ODD
    assert offered(odd, odd.call.reinvite) == ODD


@pytest.mark.rfc("3264 8")
def test_change_with_the_version_before_gets_the_next_one(odd):
    sent = offered(odd, odd.call.reinvite, body=changed())
    assert sent == changed(version=b"42")
    assert odd.call.local_body == sent
    assert offered(odd, odd.call.reinvite, body=changed()) == sent  # nothing changes
    assert origin(offered(odd, odd.call.reinvite, body=ODD)) == b"o=app 7 43 IN IP4 10.0.0.1"


@pytest.mark.rfc("3264 8")
def test_version_that_the_application_raises_is_its_own(odd):
    assert offered(odd, odd.call.reinvite, body=changed(version=b"57")) == changed(version=b"57")
    assert origin(offered(odd, odd.call.hold)) in (
        b"o=app 7 57 IN IP4 10.0.0.1",  # it is held already
        b"o=app 7 58 IN IP4 10.0.0.1",
    )


@pytest.mark.rfc("3264 8")
def test_origin_of_another_session_becomes_that_of_the_call(odd):
    sent = offered(odd, odd.call.reinvite, body=changed(session=b"99", version=b"1"))
    assert sent == changed(version=b"42")


@pytest.mark.rfc("3264 8", "4028 7.4")
def test_hold_and_resume_count_on_from_the_bytes_of_the_application(odd):
    versions = [41]
    for change in (odd.call.hold, odd.call.reinvite, odd.call.resume, odd.call.reinvite):
        sent = offered(odd, change)
        versions.append(sdp.SDP.parse(sent).origin.session_version)
    assert versions == [41, 42, 42, 43, 43]


@pytest.mark.rfc("3264 8", "3261 14.1")
def test_change_that_got_491_has_the_same_version_again(odd):
    greenlet = start(odd.sip, odd.call.reinvite, body=changed())
    first = odd.peer.last("INVITE")
    odd.peer.reply(first, 491)
    odd.sip.advance(4)
    second = odd.peer.last("INVITE")
    assert second.cseq.number > first.cseq.number
    assert second.body == first.body == changed(version=b"42")
    odd.take_offer(stream=PHONE)
    greenlet.get()


@pytest.mark.rfc("3264 8", "3311 5.1")
def test_update_with_the_version_before_gets_the_next_one(odd):
    greenlet = start(odd.sip, odd.call.update, body=changed())
    assert odd.peer.last("UPDATE").body == changed(version=b"42")
    odd.take_offer("UPDATE", stream=PHONE)
    greenlet.get()


@pytest.mark.rfc("3264 8.3")
def test_answer_of_a_core_to_a_reinvite_gets_the_next_version(odd):
    def answer(request, tx):
        return request.response(200, body=changed(), content_type="application/sdp")

    odd.call.on_reinvite = answer
    response = odd.offer(phone_offer(PHONE._replace(port=9100)))
    assert (response.status, response.body) == (200, changed(version=b"42"))


@pytest.mark.rfc("3264 8.3")
def test_bytes_of_on_offer_get_the_next_version(odd):
    odd.call.on_offer = lambda offer, call: changed()
    response = odd.offer(phone_offer(PHONE._replace(port=9100)))
    assert (response.status, response.body) == (200, changed(version=b"42"))


def test_body_that_is_no_description_stays_as_it_is(sip):
    call = Placed(sip, body=ODD)
    greenlet = start(sip, call.call.reinvite, body=b"fax 2", content_type="application/x-fax")
    request = call.peer.last("INVITE")
    assert request.body == b"fax 2"
    call.peer.reply(request, 488)
    with pytest.raises(Reject):
        greenlet.get()
    call.call.hangup()


@pytest.mark.rfc("3264 8")
def test_answer_in_the_ack_gets_the_next_version(sip):
    call = Placed(sip, body=ODD)
    greenlet = start(sip, call.call.request, "INVITE")  # asks the peer for an offer
    offer = phone_offer(PHONE._replace(port=9100))
    contact = f"<{call.peer.uri}>"
    call.call.on_offer = lambda offer, call: changed()
    call.peer.reply(call.peer.last("INVITE"), 200, contact=contact, **body(offer))
    greenlet.get()
    assert call.peer.last("ACK").body == changed(version=b"42")
    call.call.hangup()
