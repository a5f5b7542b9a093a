"""ClientTransaction: the answers to a request of ours, RFC 3261 §8.1.3, §9.1 and §13.2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import SIPError, TransactionTimeout
from ..message.message import Request, Response
from .inbox import Inbox

OnProvisional = Callable[[Response], Any]


class ClientTransaction:
    """A request that was sent. Iterate over its responses, or ask for the `final` one; `cancel()` an INVITE.

    Iterating ends with the final response; TransactionTimeout or TransportError is raised where one takes its place.
    """

    __slots__ = ("_cancel_wanted", "_gone", "_inbox", "_silence", "abandoned", "final_response", "provisional", "request", "stack", "transaction")

    def __init__(self, stack: Any, request: Request) -> None:
        self.stack = stack
        self.request = request
        self.transaction: Any = None
        self._inbox = Inbox(stack.clock)
        self.provisional: Response | None = None
        self.final_response: Response | None = None
        self.abandoned = False
        self._cancel_wanted = self._gone = False
        self._silence = float("inf")

    # ---- for users

    def __iter__(self) -> Iterator[Response]:
        while True:
            event = self._inbox.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if event.status >= 200:
                return

    def final(self, on_provisional: OnProvisional | None = None, timeout: float | None = None) -> Response:
        """Return the final response, waiting for it; `on_provisional(response)` is called for each before it.

        Raises TransactionTimeout after `timeout` seconds or by timers B, F or C, TransportError when nothing could be
        sent, Cancelled when the request being served is cancelled. However it is left early, by gevent.Timeout too, an
        INVITE is cancelled and the transaction cleaned up.
        """
        deadline = None if timeout is None else self.stack.clock.now() + timeout
        try:
            while True:
                try:
                    event = self._inbox.get(None if deadline is None else deadline - self.stack.clock.now())
                except TransactionTimeout:
                    raise TransactionTimeout(f"no final response to {self.request.method} within {timeout} seconds") from None
                if isinstance(event, Exception):
                    raise event
                if event.status >= 200:
                    return event  # type: ignore[no-any-return]
                if on_provisional is not None:
                    on_provisional(event)
        finally:
            if self.final_response is None and not self._gone:
                self.abandon()

    def cancel(self) -> None:
        """Cancel an INVITE (§9.1): at once when it has a provisional response, else as soon as one comes.

        Its final response, 487 usually, is still to come. For other methods, and after the end, nothing happens.
        """
        if self.request.method != "INVITE" or self.final_response is not None or self._gone or self._cancel_wanted:
            return
        self._cancel_wanted = True
        if self.provisional is not None:
            self._send_cancel()

    def abandon(self) -> None:
        """Want no answer any more: an INVITE is cancelled and hung up should it still be answered; others are forgotten."""
        if self._gone or self.abandoned:
            return
        self.abandoned = True
        if self.request.method == "INVITE":
            self.cancel()
        elif self.transaction is not None:
            self.stack.engine.forget(self.transaction)

    # ---- for the engine

    def receive(self, response: Response) -> None:
        """Take a response, in the greenlet that carries it."""
        if response.status < 200:
            first = self.provisional is None
            self.provisional = response
            if self._cancel_wanted:
                if first:
                    self._send_cancel()
            elif self.request.method == "INVITE" and (first or response.status > 100):
                self._watch(self.transaction.timers.c)  # §16.6 step 11, §16.7 step 2
            self.deliver(response)
        elif self.final_response is None:
            self.final_response = response
            self._silence = float("inf")
            if self.abandoned and response.is_success:
                self.stack.calls.hang_up(self.request, response)  # crossed with our CANCEL (§15.1.1)
            self.deliver(response)
        elif response.is_success:
            self.again(response)

    def deliver(self, event: Response | Exception) -> None:
        """Hand an event to who waits."""
        self._inbox.put(event)

    def again(self, response: Response) -> None:
        """A further 2xx to our INVITE: repeated, since our ACK was lost, or from another branch of a fork (§13.2.2.4)."""
        self.stack.calls.acknowledge_again(self.request, response)

    def fail(self, error: Exception) -> None:
        """The transaction ended without a final response."""
        if self.final_response is None and not self._gone:
            self._gone = True
            self.deliver(error)

    def ended(self) -> None:
        """The transaction's record is gone."""
        self._gone = True
        self._silence = float("inf")

    def expire(self, now: float) -> None:
        """Timer C, or 64*T1 after a CANCEL (§9.1): nobody will answer this any more."""
        if self._gone or self.final_response is not None:
            return
        if now < self._silence:
            if self._silence < float("inf"):
                self.stack.deadlines.add(self._silence, self)
            return
        if not self._cancel_wanted:
            self.fail_later(TransactionTimeout("timer C: no final response to INVITE in time"))
            return
        self.fail(TransactionTimeout("no final response to the cancelled INVITE"))
        self.stack.engine.forget(self.transaction)

    def fail_later(self, error: SIPError) -> None:
        """Report the end now and let the cancelled INVITE end by itself."""
        self.deliver(error)
        self.abandon()

    def _send_cancel(self) -> None:
        cancel = self.request.cancel()
        self.stack.engine.request(cancel, self.transaction.flow, _Nobody(), self.transaction.timers)
        self._watch(64 * self.transaction.timers.t1)

    def _watch(self, seconds: float) -> None:
        self._silence = self.stack.clock.now() + seconds
        self.stack.deadlines.add(self._silence, self)

    def __repr__(self) -> str:
        state = self.transaction.state if self.transaction is not None else "not sent"
        return f"<ClientTransaction {self.request!r} {state}>"


class _Nobody:
    """Who waits for the answer to a CANCEL or to the BYE of a call that nobody wanted."""

    __slots__ = ("transaction",)

    def receive(self, response: Response) -> None:
        pass

    def fail(self, error: Exception) -> None:
        pass

    def ended(self) -> None:
        pass


NOBODY = _Nobody
