"""Expiry: an INVITE of ours is cancelled when its Expires has passed, RFC 3261 §13.2.1."""

from __future__ import annotations

from ...errors import ParseError
from ...message.message import Request
from ...runtime.clock import LOOK_AGAIN
from ..client.transaction import ClientTransaction, TransactionDeadline


def seconds_of(invite: Request) -> int | None:
    """Return the Expires of an INVITE; None without one that can be read."""
    try:
        return invite.expires
    except ParseError:
        return None


class Expiry(TransactionDeadline):
    """The deadline of an INVITE of ours: it sends a CANCEL unless a final response has come.

    The transaction clears it at its end, as it clears its other deadlines.

    Args:
        tx: The INVITE.
        seconds: Its Expires.
    """

    __slots__ = ("_until",)

    def __init__(self, tx: ClientTransaction, seconds: int) -> None:
        super().__init__(tx)
        now = tx.stack.clock.now()
        self._until = now + seconds
        tx._deadlines.append(self)
        self._plan(tx, now)

    def _plan(self, tx: ClientTransaction, now: float) -> None:
        # a caller of a bridge chooses its Expires, up to 2**32 - 1 seconds
        tx.stack.deadlines.add(min(self._until, now + LOOK_AGAIN), self)

    def expire(self, now: float) -> None:
        tx = self.owner
        if tx is None or not tx.is_pending:
            return
        if now < self._until:
            self._plan(tx, now)
        else:
            tx.cancel()
