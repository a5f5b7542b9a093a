"""Changes of a session that wait for one that is pending on the other leg, RFC 3261 §14.1.

| pending on the other leg | a change that would be sent there |
|---|---|
| a session refresh of ours | waits for its final response |
| the ACK to our 2xx, so also to the first one | waits for it |
| a change of that side, whose answer the media relay is asked for | waits for answer and ACK |
| a change of that side that waits in turn, so both change the session | 491 (§14.2) |
| the first INVITE, which has no response with a To tag yet | waits for one |
| any of them for longer than PATIENCE | 491; for the first INVITE 500 |

A change that meets ours on its own leg gets 491 at once, by dialog/glare.py. Its peer answers ours
by 491, too, and that goes to the side that has begun. So each side has a timer of §14.1 and knows
if it still wants the change. The bridge sends neither change again: it would hold one pending, so
the repeated change of the other side would get 491 again (RFC 3725 §6). If both peers were called,
or both have called, their timers have the same range, so the changes may meet once more.

The offer is translated at the end of the wait. So a media relay gets it after the answer to the one
before (RFC 3264 §4), and gets none that is refused here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol, TypeVar

from ...errors import Reject
from ..dialog.invite import InviteSession

PATIENCE = 16
"""Most seconds to wait, as a multiple of T1. A peer that misses our 2xx, or whose ACK is lost, gets
it four more times meanwhile."""

T = TypeVar("T")


class WaitingLeg(Protocol):
    """A leg of a bridge."""

    call: InviteSession | None
    is_awaited: bool
    """True from the arrival of a change of the other side until it is sent to the peer."""

    @property
    def peer(self) -> WaitingLeg | None:
        """The other side, while both are connected."""


def await_call(leg: WaitingLeg) -> None:
    """Wait until the other side of a leg has a dialog. Its caller may have got no response with a
    To tag yet, because a media relay translates the answer. Raises Cancelled."""
    call, other = leg.call, leg.peer
    if call is not None and other is not None and other.call is None:
        call._inbox.wait(
            lambda: call.end is not None or leg.peer is not other or other.call is not None,
            PATIENCE * call.stack.engine.timers.t1,
        )


def in_turn(leg: WaitingLeg, method: str, describe: Callable[[], T]) -> T:
    """Wait until an INVITE, or an UPDATE with an offer, can be sent to the peer of a leg.

    Args:
        leg: The leg.
        method: INVITE or UPDATE.
        describe: Returns what is to be sent. It may wait for a media relay.

    Raises:
        Reject: 491, because both sides change the session, the wait was too long, or the other side
            is connected to another leg now. 481, because the call has ended.
        Cancelled: The request that waits was cancelled.
    """
    call, other = leg.call, leg.peer
    assert call is not None  # Leg._other() has looked
    if other is not None and other.is_awaited and call._collides(method, True):
        raise Reject(491)
    leg.is_awaited = True
    try:
        _await_turn(leg, call, other, method)
        described = describe()
        _await_turn(leg, call, other, method)  # a session refresh may have begun meanwhile
    finally:
        leg.is_awaited = False
    return described


def await_turn(leg: WaitingLeg, method: str) -> None:
    """Wait as in_turn() does, for a request whose description is made already, or that has none."""
    in_turn(leg, method, lambda: None)


def _await_turn(
    leg: WaitingLeg, call: InviteSession, other: WaitingLeg | None, method: str
) -> None:
    if call._collides(method, True):
        call._inbox.wait(
            lambda: call.end is not None or not call._collides(method, True),
            PATIENCE * call.stack.engine.timers.t1,
        )
    if call.end is not None:
        raise Reject(481)
    if leg.peer is not other or call._collides(method, True):
        raise Reject(491)


def later() -> Reject:
    """Return the refusal of a request that the other side cannot get yet (§14.2)."""
    return Reject(500, retry_after=random.randint(0, 10))
