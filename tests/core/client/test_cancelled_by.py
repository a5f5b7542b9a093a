"""invite(until=): the INVITE is cancelled when something happens before the answer, RFC 3261 §9.1."""

from __future__ import annotations

import pytest
from gevent.event import AsyncResult, Event

from sippet_gevent import Reject

from ..wire import Peer, start

CALLEE = "10.0.0.60"
BOB = f"sip:bob@{CALLEE}"


@pytest.fixture(params=[Event, AsyncResult])
def until(request):
    return request.param()


@pytest.mark.rfc("3261 9.1")
def test_invite_that_rings_is_cancelled(sip, until):
    peer = Peer(sip, CALLEE)
    calling = start(sip, sip.client.invite, BOB, until=until)
    invite = peer.last("INVITE")
    peer.reply(invite, 180, contact=f"<{peer.uri}>")
    assert "CANCEL" not in peer.methods
    until.set()
    sip.settle()
    cancel = peer.last("CANCEL")
    assert cancel.via[0].branch == invite.via[0].branch
    peer.reply(cancel, 200)
    peer.reply(invite, 487)
    sip.settle()
    with pytest.raises(Reject) as refused:
        calling.get()
    assert refused.value.status == 487


def test_what_has_happened_before_cancels_after_the_first_response(sip, until):
    until.set()
    peer = Peer(sip, CALLEE)
    calling = start(sip, sip.client.invite, BOB, until=until)
    invite = peer.last("INVITE")
    assert "CANCEL" not in peer.methods  # not before a response (§9.1)
    peer.reply(invite, 180, contact=f"<{peer.uri}>")
    sip.settle()
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(invite, 487)
    sip.settle()
    with pytest.raises(Reject):
        calling.get()


def test_answer_that_crosses_the_cancel_is_a_call(sip, until):
    peer = Peer(sip, CALLEE)
    calling = start(sip, sip.client.invite, BOB, body="offer", until=until)
    invite = peer.last("INVITE")
    peer.reply(invite, 180, contact=f"<{peer.uri}>")
    until.set()
    peer.reply(invite, 200, contact=f"<{peer.uri}>", body="answer")
    sip.settle()
    assert calling.get().is_confirmed


def test_after_the_answer_nothing_happens(sip, until):
    peer = Peer(sip, CALLEE)
    calling = start(sip, sip.client.invite, BOB, body="offer", until=until)
    peer.reply(peer.last("INVITE"), 200, contact=f"<{peer.uri}>", body="answer")
    call = calling.get()
    until.set()
    sip.settle()
    assert not call.ended.is_set()
    assert "CANCEL" not in peer.methods


def test_other_objects_are_refused_before_anything_is_sent(sip):
    peer = Peer(sip, CALLEE)
    with pytest.raises(TypeError, match="until must be an Event, an AsyncResult or a greenlet"):
        sip.client.invite(BOB, until=True)
    sip.settle()
    assert "INVITE" not in peer.methods
