"""Our INVITE and UPDATE within a call, RFC 3261 §14.1, RFC 3311."""

from __future__ import annotations

from typing import Any, Protocol

from ...errors import TransactionTimeout
from ...message.message import Request, Response
from ..client.transaction import ClientTransaction
from ..element import Element
from ..inbox import Inbox
from .effects import Effect, effect_of
from .negotiation import UPDATE_ACCEPTED
from .offer_answer import OfferAnswer


class Reinviting(Protocol):
    """The call that a re-INVITE belongs to."""

    stack: Element
    offers: OfferAnswer
    _inbox: Inbox[None]

    def _provisional(self, response: Response) -> bool:
        """Take a provisional response; False hides it from the application."""

    def _accepted(self, request: Request, response: Response) -> None:
        """Take the 2xx."""

    def _acknowledge(self, invite: Request) -> None:
        """Send the ACK."""

    def _refreshed(self, update: Request, response: Response, *, by_us: bool) -> None:
        """Take the remote target and the session timer of an UPDATE that was accepted."""

    def _undone(self) -> None:
        """Note that a refusal has undone changes which both sides had made."""

    def _transaction_ended(self, tx: object) -> None:
        """Let go of a transaction that has ended."""

    def _unawaited(self, method: str, outcome: Response | None) -> None:
        """Take the refusal of a request that no greenlet waits for any more, None for a timeout."""


class Modification(ClientTransaction):
    """Our UPDATE within a call. Its outcome changes the session even if no greenlet waits for it
    any more."""

    __slots__ = ("_is_settled", "_within")

    def __init__(self, call: Reinviting, request: Request) -> None:
        super().__init__(call.stack, request)
        self._within = call
        self._is_settled = False

    def _deliver(self, event: Response | Exception) -> None:
        response = event if isinstance(event, Response) else None
        if not (self._is_settled or (response is not None and response.status < 200)):
            self._settle(response)
            if self.abandoned:
                if response is not None:
                    self._within._unawaited(self.method, response)
                elif isinstance(event, TransactionTimeout) and self.provisional is None:
                    # timer B. Without an answer to its CANCEL, an INVITE counts as cancelled (§9.1)
                    self._within._unawaited(self.method, None)
        super()._deliver(event)
        if response is None or response.status >= 200:
            self._within._inbox.wake()  # another request may have waited for this one (§14.1)

    def ended(self) -> None:
        super().ended()
        if self._ended and not self._is_settled:  # it was given up before it left
            self._settle(None)
        self._within._transaction_ended(self)

    def _abandon(self, **headers: Any) -> None:
        if self.method == "INVITE" or not self.is_pending:
            super()._abandon(**headers)
        else:  # it is not forgotten as others are: the peer may have the new session by now
            self.abandoned = True

    def _settle(self, response: Response | None) -> None:
        """Tell the session of the final response, once; None if the request has failed."""
        self._is_settled = True
        if response is not None and response.status < 300:
            # at once, because an UPDATE of the peer may follow it (RFC 6141 §4.8)
            self._within.offers.take(UPDATE_ACCEPTED, response)
            self._within._refreshed(self.request, response, by_us=False)
        elif (
            self._within.offers.failed(self.method)
            and response is not None
            and effect_of(self.method, response.status) is Effect.TRANSACTION
        ):
            self._within._undone()


class Reinvite(Modification):
    """Our INVITE within a call."""

    __slots__ = ()

    def _ring(self, response: Response) -> bool:
        return self._within._provisional(response)

    def _accepted(self, response: Response) -> None:
        self._is_settled = True  # _accepted() of the call takes the answer
        self._within._accepted(self.request, response)
        self._deliver(response)
        self._within._acknowledge(self.request)

    def _again(self, response: Response) -> None:
        self._within._acknowledge(self.request)
