"""Retransmission: a response that is repeated until something stops it: a 2xx until its ACK
comes (RFC 3261 §13.3.1.4), a reliable 1xx until its PRACK comes (RFC 3262 §3)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...engine.users import ServerRecord
from ...message.message import Response
from ..element import Element


class Retransmission(ABC):
    """A response that is sent again after T1, then after intervals that double.

    The repetition ends when `is_stopped` is set, or after 64*T1, when `_give_up()` runs in a
    greenlet of its own.

    Args:
        element: The element that sends.
        transaction: The server transaction of the response.
        response: The response, which was sent once before.
        longest: The longest interval between two copies, in seconds.
    """

    __slots__ = (
        "_element", "_give_up_at", "_interval", "_longest", "_repeat_at", "_response",
        "_transaction", "host", "is_stopped",
    )  # fmt: skip

    def __init__(
        self, element: Element, transaction: ServerRecord, response: Response, longest: float
    ) -> None:
        self._element = element
        self._transaction = transaction
        self._response = response
        self._longest = longest
        self._interval = t1 = transaction.timers.t1
        self.host: str = transaction.flow.remote[0]
        now = element.clock.now()
        self._repeat_at = now + t1
        self._give_up_at = now + 64 * t1
        self.is_stopped = False
        element.deadlines.add(self._repeat_at, self)

    def expire(self, now: float) -> None:
        """Send the response again, or give up."""
        if self.is_stopped:
            return
        element = self._element
        if now >= self._give_up_at:
            # a BYE may have a name to resolve, and this is the hub
            element.callbacks.spawn(self._give_up)
            return
        if now >= self._repeat_at:
            if not self._transaction.is_terminated and self._may_repeat():
                element.engine.respond(self._transaction, self._response)
            self._interval = min(self._interval * 2, self._longest)
            self._repeat_at = now + self._interval
        element.deadlines.add(min(self._repeat_at, self._give_up_at), self)

    def _may_repeat(self) -> bool:
        """True unless too much is repeated to sources that never acknowledged anything."""
        tx = self._transaction
        return self._element.engine.amplification.may_repeat(tx, self.host, len(tx.last or b""))

    def stop(self) -> None:
        """Stop, because the peer has acknowledged the response by a request with our tag."""
        self.is_stopped = True
        bound = self._element.engine.amplification
        if self.host not in bound.acknowledged:
            bound.acknowledge(self.host)
        bound.repeated.pop(self._transaction, None)

    @abstractmethod
    def _give_up(self) -> None:
        """Handle the end of the repetitions when nothing has stopped them."""
