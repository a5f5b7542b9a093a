"""ClientTransaction: the answers to a request of ours, RFC 3261 §8.1.3, §9.1 and §13.2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ParseError, TransactionTimeout
from ..message.message import Request, Response
from .inbox import Inbox

if TYPE_CHECKING:
    from .call import Call

OnProvisional = Callable[[Response], Any]

FORKS = 32
"""Branches of a fork that may answer one INVITE of ours: each further one makes us send an ACK and a BYE."""

NEVER = float("inf")


class ClientTransaction:
    """A request that was sent. Iterate over its responses, or ask for the `final` one; `cancel()` an INVITE.

    Iterating ends with the final response; TransactionTimeout or TransportError is raised where one takes its place.
    An INVITE that is answered is acknowledged, and has its `call` from then on.
    """

    __slots__ = (
        "_calls", "_cancel_wanted", "_ended", "_inbox", "_silence", "_wake", "_watches", "abandoned", "call", "failure",
        "final_response", "provisional", "request", "stack", "transaction",
    )  # fmt: skip

    def __init__(self, stack: Any, request: Request) -> None:
        self.stack = stack
        self.request = request
        self.transaction: Any = None
        self._inbox = Inbox(stack.clock)
        self.provisional: Response | None = None
        self.final_response: Response | None = None
        self.failure: Exception | None = None
        self.call: Call | None = None
        self._calls: dict[str | None, Call] = {}
        self.abandoned = self._cancel_wanted = self._ended = False
        self._silence = self._wake = NEVER
        self._watches: list[Watch] = []

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
        INVITE is cancelled, or hung up, and the transaction cleaned up.
        """
        inbox, now = self._inbox, self.stack.clock.now
        deadline = None if timeout is None else now() + timeout
        try:
            while True:
                if deadline is not None and not inbox.wait(inbox.__len__, deadline - now()):
                    raise TransactionTimeout(f"no final response to {self.request.method} within {timeout:g} seconds")
                event = inbox.get()
                if isinstance(event, Exception):
                    raise event
                if event.status >= 200:
                    return event  # type: ignore[no-any-return]
                if on_provisional is not None:
                    on_provisional(event)
        except BaseException:
            self.abandon()
            raise

    def cancel(self) -> None:
        """Cancel an INVITE (§9.1): at once when it has a provisional response, else as soon as one comes.

        Its final response, 487 usually, is still to come. For other methods, and after the end, nothing happens.
        """
        if self.request.method != "INVITE" or self._cancel_wanted or not self.is_pending:
            return
        self._cancel_wanted = True
        if self.provisional is not None:
            self._send_cancel()

    @property
    def is_pending(self) -> bool:
        """True until the final response, or the failure that takes its place."""
        return self.final_response is None and not self._ended

    def abandon(self) -> None:
        """Want no answer any more: an INVITE is cancelled, or hung up when it is answered; others are forgotten."""
        if self.abandoned:
            return
        self.abandoned = True
        if self.call is not None:
            self.call.hangup()
        elif self.request.method == "INVITE":
            self.cancel()
        elif self.is_pending and self.transaction is not None:
            self.stack.engine.forget(self.transaction)

    # ---- for the engine

    def receive(self, response: Response) -> None:
        """Take a response, in the greenlet that carries it."""
        is_invite = self.request.method == "INVITE"
        if response.status < 200:
            first = self.provisional is None
            self.provisional = response
            if self._cancel_wanted:
                if first:
                    self._send_cancel()
            elif is_invite and (first or response.status > 100):
                self._watch(self.transaction.timers.c)  # §16.6 step 11, §16.7 step 2
            self.deliver(response)
        elif self.final_response is None:
            self.final_response = response
            if is_invite and response.is_success:
                self.accepted(response)
            else:
                self.deliver(response)
        elif response.is_success:
            self.again(response)

    def deliver(self, event: Response | Exception) -> None:
        """Hand an event to who waits."""
        self._inbox.put(event)

    def accepted(self, response: Response) -> None:
        """Our INVITE is answered: the call is made, told and acknowledged, in this order (§13.2.2.4).

        So a BYE that follows at once finds the call, and nobody waits for the ACK's name resolution.
        """
        try:
            call = self.call = self._calls[response.essentials.to_tag] = self.stack.calls.accepted(self.request, response)
        except ParseError as error:  # its Record-Route leads nowhere
            self.deliver(error)
            return
        if self.abandoned:  # crossed with our CANCEL; the BYE waits for the ACK
            call.hangup()
        self.deliver(response)
        call.acknowledge(self.request)

    def again(self, response: Response) -> None:
        """A further 2xx to our INVITE: repeated, since our ACK was lost, or from another branch of a fork (§13.2.2.4)."""
        tag = response.essentials.to_tag
        call = self._calls.get(tag)
        if call is None and 0 < len(self._calls) < FORKS:
            try:
                call = self._calls[tag] = self.stack.calls.accepted(self.request, response)
            except ParseError:  # its Record-Route leads nowhere, and so would an ACK
                return
            call.hangup()
        if call is not None:
            call.acknowledge(self.request)

    def fail(self, error: Exception) -> None:
        """The transaction ended without a final response."""
        if self.is_pending:
            self._ended = True
            self.failure = error
            self.deliver(error)

    def ended(self) -> None:
        """The transaction's record is gone."""
        self._ended = True
        for watch in self._watches:
            watch.owner = None  # a deadline cannot be taken back, but it need not hold all this till then
        self._watches.clear()

    def expire(self, now: float) -> None:
        """Timer C, or 64*T1 after a CANCEL (§9.1): nobody will answer this any more."""
        self._wake = NEVER
        if not self.is_pending:
            return
        if now < self._silence:
            self._watch(self._silence - now)
        elif self._cancel_wanted:
            self.fail(TransactionTimeout("no final response to the cancelled INVITE"))
            self.stack.engine.forget(self.transaction)
        else:
            self.deliver(TransactionTimeout("timer C: no final response to INVITE in time"))
            self.abandon()

    def _send_cancel(self) -> None:
        self.stack.engine.request(self.request.cancel(), self.transaction.flow, Nobody(), self.transaction.timers)
        self._watch(64 * self.transaction.timers.t1)

    def _watch(self, seconds: float) -> None:
        """Have expire() called after so many seconds, or earlier: then it watches on."""
        self._silence = self.stack.clock.now() + seconds
        if self._silence < self._wake:
            self._wake = self._silence
            self._watches.append(watch := Watch(self))
            self.stack.deadlines.add(self._silence, watch)

    def __repr__(self) -> str:
        state = self.transaction.state if self.transaction is not None else "not sent"
        return f"<ClientTransaction {self.request!r} {state}>"


class Watch:
    """What a deadline holds of a transaction: enough to find it, as long as it is there."""

    __slots__ = ("owner",)

    def __init__(self, owner: ClientTransaction) -> None:
        self.owner: ClientTransaction | None = owner

    def expire(self, now: float) -> None:
        if self.owner is not None:
            self.owner.expire(now)


class Nobody:
    """Who waits for the answer to a CANCEL, or to a BYE."""

    __slots__ = ("transaction",)

    def receive(self, response: Response) -> None:
        pass

    def fail(self, error: Exception) -> None:
        pass

    def ended(self) -> None:
        pass
