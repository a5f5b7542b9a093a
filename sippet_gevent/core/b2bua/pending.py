"""Changes of a session that wait for one that is pending on the other leg, RFC 3261 §14.1.

| pending on the other leg | a change that would be sent there |
|---|---|
| a session refresh of ours | waits for its final response |
| the ACK to our 2xx, so also to the first one | waits for it |
| a change of that side, whose answer the media relay is asked for | waits for answer and ACK |
| a change of that side that waits in turn, so both change the session | 491 (§14.2) |
| any of them for longer than PATIENCE | 491 |

A change that meets ours on its own leg gets 491 at once, by dialog/glare.py.
"""

from __future__ import annotations

import random
from typing import Protocol

from ...errors import Reject
from ..dialog.invite import InviteSession

PATIENCE = 16
"""Most seconds to wait, as a multiple of T1. A peer that misses our 2xx, or whose ACK is lost, gets
it four more times meanwhile."""


class WaitingLeg(Protocol):
    """A leg of a bridge."""

    call: InviteSession | None
    is_awaited: bool
    """True while a change of the session waits until it can be sent to the peer."""

    @property
    def peer(self) -> WaitingLeg | None:
        """The other side, while both are connected."""


def await_turn(leg: WaitingLeg, method: str) -> None:
    """Wait until an INVITE, or an UPDATE with an offer, can be sent to the peer of a leg.

    Raises:
        Reject: 491, because both sides change the session, or the other side is connected to
            another leg now. 481, because the call has ended. After PATIENCE this returns, and
            Leg.ask() raises 491.
        Cancelled: The request that waits was cancelled.
    """
    call, other = leg.call, leg.peer
    if call is None or not call._collides(method, True):
        return
    if other is not None and other.is_awaited:
        raise Reject(491)
    leg.is_awaited = True
    try:
        call._inbox.wait(
            lambda: call.end is not None or not call._collides(method, True),
            PATIENCE * call.stack.engine.timers.t1,
        )
    finally:
        leg.is_awaited = False
    if leg.peer is not other:
        raise Reject(491 if call.end is None else 481)


def later() -> Reject:
    """Return the refusal of a request that the other side cannot get yet (§14.2)."""
    return Reject(500, retry_after=random.randint(0, 10))
