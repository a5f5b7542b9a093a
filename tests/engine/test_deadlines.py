"""Deadlines: what has ended is not kept for the minutes that it could have rung, RFC 3261 §13.3.1 and §16.6 step 11."""

from __future__ import annotations

import pytest

from sippet_gevent import Timers, TransactionTimeout
from sippet_gevent.runtime.clock import LOOK_AGAIN
from tests.core.wire import Peer, start

LINGER = 64 * Timers().t1 + 1
"""Seconds after which no timer of an ended call runs."""


def ring_for(seconds):
    def core(request, tx):
        tx.respond(180)
        tx.wait(seconds)
        return 486

    return core


@pytest.mark.rfc("3261 13.3.1", "3261 17.2.1")
def test_refused_invite_leaves_no_deadline(sip):
    stack = sip.serve(ring_for(2))
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(2)
    assert asked.statuses == [180, 486]
    sip.advance(LINGER)
    assert len(stack.engine._deadlines) == 0


def test_answered_invite_leaves_no_deadline(sip):
    def core(request, tx):
        tx.respond(180)
        tx.wait(2)
        with tx.accept(body=b"v=0\r\n") as call:
            call.wait(1)

    stack = sip.serve(core)
    sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(3)
    sip.advance(LINGER)
    assert (len(stack.engine._deadlines), len(stack.deadlines)) == (0, 0)


@pytest.mark.rfc("3261 16.6", "3261 17.1.1")
@pytest.mark.parametrize("headers", [{}, {"expires": 120}], ids=["no Expires", "Expires"])
@pytest.mark.parametrize("status", [200, 486])
def test_invite_of_ours_leaves_no_deadline(sip, status, headers):
    peer = Peer(sip, "10.0.0.60")
    greenlet = start(sip, sip.client.invite, peer.uri, **headers)
    invite = peer.last("INVITE")
    peer.reply(invite, 180)
    sip.advance(2)
    peer.reply(invite, status, contact=f"<{peer.uri}>")
    if status == 200:
        greenlet.get().hangup()
        sip.settle()
        peer.reply(peer.last("BYE"), 200)
    sip.advance(LINGER)
    assert (len(sip.client.engine._deadlines), len(sip.client.deadlines)) == (0, 0)
    assert greenlet.ready()


@pytest.mark.rfc("3261 13.3.1")
def test_core_that_does_not_answer_is_ended_at_its_deadline(sip):
    """The record looks at its deadline several times before that."""
    stack = sip.serve(ring_for(1000), timers=Timers(core_invite=5 * LOOK_AGAIN + 3))
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(5 * LOOK_AGAIN + 2.5)
    assert asked.statuses == [180]
    sip.advance(0.6)
    assert asked.statuses == [180, 408]


@pytest.mark.rfc("3261 16.8")
def test_invite_of_ours_is_cancelled_at_timer_c(sip):
    peer = Peer(sip, "10.0.0.60")
    greenlet = start(sip, sip.client.invite, peer.uri)
    peer.reply(peer.last("INVITE"), 180)
    sip.advance(Timers().c - 0.1)
    assert "CANCEL" not in peer.methods
    sip.advance(0.3)
    assert peer.methods.count("CANCEL") == 1
    with pytest.raises(TransactionTimeout):
        greenlet.get()
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(peer.last("INVITE"), 487)
