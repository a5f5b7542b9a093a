"""Answer: our 2xx to an INVITE, repeated until its ACK comes, RFC 3261 §13.3.1.4."""

from __future__ import annotations

from collections.abc import Callable

from ...message.message import Response
from ..element import Element, ServedRequest
from .retransmission import Retransmission


class Answer(Retransmission):
    """Our 2xx to an INVITE, repeated until its ACK comes, over any transport.

    Args:
        element: The element that sends.
        tx: The INVITE.
        response: Its 2xx, which was sent once before.
        give_up: Called in a greenlet of its own when no ACK has come in 64*T1.
    """

    __slots__ = ("_when_given_up", "is_offer", "number")

    def __init__(
        self, element: Element, tx: ServedRequest, response: Response, give_up: Callable[[], None]
    ) -> None:
        transaction = tx.transaction
        super().__init__(element, transaction, response, transaction.timers.t2)
        self._when_given_up = give_up
        self.number = tx.request.mandatory.cseq
        # its answer comes in the ACK (§13.2.1)
        self.is_offer = not tx.request.body and bool(response.body)

    def _give_up(self) -> None:
        self._when_given_up()
