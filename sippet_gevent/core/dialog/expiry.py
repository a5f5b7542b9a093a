"""Expiry: an INVITE of ours is cancelled when its Expires has passed, RFC 3261 §13.2.1."""

from __future__ import annotations

from ..client.transaction import ClientTransaction, Watch


class Expiry(Watch):
    """The deadline of an INVITE of ours: it sends a CANCEL unless a final response has come.

    The transaction clears it at its end, as it clears its other deadlines.

    Args:
        tx: The INVITE.
        seconds: Its Expires.
    """

    __slots__ = ()

    def __init__(self, tx: ClientTransaction, seconds: int) -> None:
        super().__init__(tx)
        tx._watches.append(self)
        tx.stack.deadlines.add(tx.stack.clock.now() + seconds, self)

    def expire(self, now: float) -> None:
        tx = self.owner
        if tx is not None and tx.is_pending:
            tx.cancel()
