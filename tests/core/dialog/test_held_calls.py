"""What a call keeps while nothing happens, which may be for hours."""

from __future__ import annotations

import pytest

from ..wire import start
from .described import Placed


@pytest.fixture
def placed(sip):
    placed = Placed(sip)
    yield placed
    placed.call.hangup()


@pytest.mark.rfc("3261 13.2.2.4", "6026 7.1")
def test_ack_is_repeated_for_64_t1_and_then_dropped_with_its_invite(sip, placed):
    call = placed.call
    placed.peer.send(placed.response, to=placed.at)
    assert placed.peer.methods == ["INVITE", "ACK", "ACK"]
    sip.advance(33)
    assert (call._reinvite, call.dialog.last_ack) == (None, None)
    assert call.sent_invite is call.invite


@pytest.mark.parametrize("method", ["hold", "update"])
def test_change_of_a_call_is_dropped_when_its_transaction_has_ended(sip, placed, method):
    call = placed.call
    greenlet = start(sip, getattr(call, method), **({} if method == "hold" else {"body": ""}))
    if method == "hold":
        placed.take_offer()
    else:
        placed.peer.reply(placed.peer.last("UPDATE"), 200, contact=f"<{placed.peer.uri}>")
    greenlet.get()
    sip.advance(33)
    assert (call._reinvite, call._update, call.dialog.last_ack) == (None, None, None)


def test_call_can_be_changed_again_after_its_invite_was_dropped(sip, placed):
    sip.advance(33)
    for change in (placed.call.hold, placed.call.resume):
        greenlet = start(sip, change)
        placed.take_offer()
        greenlet.get()
    assert placed.peer.methods[-1] == "ACK"
