"""Expiry: an INVITE of ours with Expires, RFC 3261 §13.2.1."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject

from ..wire import Peer, start

CALLEE = "10.0.0.60"
BOB = f"sip:bob@{CALLEE}"


def place(sip, **headers):
    peer = Peer(sip, CALLEE)
    return peer, start(sip, sip.client.invite, BOB, body="offer", **headers)


@pytest.mark.rfc("3261 13.2.1")
@pytest.mark.parametrize("status", [100, 180])
def test_invite_is_cancelled_when_its_expires_has_passed(sip, status):
    peer, greenlet = place(sip, expires=30)
    invite = peer.last("INVITE")
    peer.reply(invite, status)
    sip.advance(29)
    assert "CANCEL" not in peer.methods
    sip.advance(1.1)  # before the CANCEL is repeated
    assert peer.methods.count("CANCEL") == 1
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(invite, 487)
    with pytest.raises(Reject) as refused:
        greenlet.get()
    assert refused.value.status == 487


@pytest.mark.rfc("3261 13.2.1")
def test_answered_invite_is_not_cancelled(sip):
    peer, greenlet = place(sip, expires=30)
    peer.reply(peer.last("INVITE"), 200, contact=f"<{peer.uri}>")
    call = greenlet.get()
    sip.advance(31)
    assert "CANCEL" not in peer.methods
    assert not call.ended.is_set()
    call.hangup()


def test_invite_without_expires_rings_on(sip):
    peer, greenlet = place(sip)
    invite = peer.last("INVITE")
    peer.reply(invite, 180)
    sip.advance(100)
    assert "CANCEL" not in peer.methods
    peer.reply(invite, 486)
    with pytest.raises(Reject):
        greenlet.get()


@pytest.mark.rfc("3261 13.2.1")
def test_long_expires_is_looked_at_until_it_has_passed(sip):
    peer, greenlet = place(sip, expires=700)
    invite = peer.last("INVITE")
    for _ in range(7):
        peer.reply(invite, 180)
        sip.advance(99)
    assert "CANCEL" not in peer.methods
    sip.advance(7.1)
    assert peer.methods.count("CANCEL") == 1
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(invite, 487)
    with pytest.raises(Reject):
        greenlet.get()


@pytest.mark.rfc("3261 20.19")
def test_answered_invite_with_the_longest_expires_leaves_no_deadline(sip):
    """A caller of a bridge chooses the Expires of the INVITE to the callee."""
    peer, greenlet = place(sip, expires=2**32 - 1)
    peer.reply(peer.last("INVITE"), 200, contact=f"<{peer.uri}>")
    greenlet.get().hangup()
    sip.settle()
    peer.reply(peer.last("BYE"), 200)
    sip.advance(250)
    assert len(sip.client.deadlines) == 0
