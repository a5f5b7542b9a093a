"""ClientTransaction: the responses to a request of ours, RFC 3261 §8.1.3, §9.1 and §13.2.

It is longer than other files, because its public methods are documented here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from ...arguments import seconds
from ...engine.users import ClientRecord, NullUser, ServerUser
from ...errors import Cancelled, SIPError, TransactionTimeout, TransportError
from ...message.message import Request, Response
from ...observe.log_values import Plain
from ...runtime.clock import LOOK_AGAIN
from ..dialog.call import Call, OnProvisional
from ..dialog.end import End
from ..dialog.handlers import ReinviteCore
from ..dialog.terms import Terms
from ..element import Element, Within
from ..inbox import Inbox
from .attempt import Attempt
from .failover import target_of
from .reason import COMPLETED_ELSEWHERE, reason_of
from .retry import RETRIED, Retry
from .targets import Ways
from .tries import Tries

log = logging.getLogger("sippet_gevent.core")

FORKS = 32
"""Most branches of a fork that may answer one INVITE of ours. Each further one costs an ACK and a
BYE."""

UNREAD = 100
"""Most responses that wait for the program to read them. Further provisional ones are dropped,
because a peer can send any number of them."""

NEVER = float("inf")


class ClientTransaction(Tries):
    """A request that was sent. Iterate over its responses, or ask for the `final` one.

        tx = stack.send(Request("INVITE", "sip:bob@example.com"))
        for response in tx:
            print(response.status)

    Iterating ends with the final response. If the request fails, iterating raises
    TransactionTimeout or TransportError. An INVITE that is answered is acknowledged, and has its
    `call` from then on. `provisional` and `final_response` are the last responses, None before.

    If a target fails and its name resolved to others, the request is sent to the next one (RFC 3263
    §4.3). If a server asks for credentials, it is sent again with them (§22). See retry.py for all
    cases. Each try has a new branch and keeps this object. `request` and `transaction` are then
    those of the latest try, and the last try decides the outcome.
    """

    __slots__ = (
        "_calls", "_deadlines", "_ended", "_inbox", "_is_left", "_silence", "_wake", "arrived",
        "call", "failed", "handlers", "served", "terms",
    )  # fmt: skip

    begins_dialogs = True
    """False for a proxy's branch, whose responses begin dialogs of others."""

    has_inbox = True
    """False for a proxy's branch, whose responses go to its context."""

    def __init__(self, stack: Element, request: Request) -> None:
        self.stack = stack
        self.request = request
        """The request, as it left."""
        self.transaction: ClientRecord = None  # type: ignore[assignment]  # set before responses come
        """The state machine of the latest try; None until the request leaves."""
        self.ways: Ways | None = None
        """The next hops left to try. None for a request that goes by one flow."""
        # None only in a branch, which never reads it
        self._inbox: Inbox[Response | Exception] = Inbox(stack.clock) if self.has_inbox else None  # type: ignore[assignment]  # unused without
        self.provisional: Response | None = None
        """The last provisional response of the latest try."""
        self.final_response: Response | None = None
        """The final response."""
        self.failed = False
        """True when the request has ended without a final response."""
        self.call: Call | None = None
        """The call that the 2xx to an INVITE has begun."""
        self.handlers: dict[str, ReinviteCore] | None = None
        """The handlers of its calls."""
        self.terms: Terms | None = None
        """What the application wants of the session that an INVITE begins."""
        self.served: ServerUser | None = None
        """The request that this one forwards, or for which a bridge has sent it."""
        self.arrived = ""
        """The key of its latest try that has come back to this stack."""
        self._calls: dict[str | None, Call] = {}
        # _is_left: a BYE has ended the early dialogs of the INVITE, all of them
        self.abandoned = self.by_flow = self._ended = self._is_left = False
        self.retry: Retry | None = None
        """How the request is tried again. None until it fails, unless the application has said."""
        self.within: Within | None = None
        """The session or other usage of a dialog that the request belongs to."""
        # the failed try, while it is being decided what follows it
        self._waiting: Attempt | None = None
        # the header fields of the CANCEL that is wanted, or sent
        self._cancelling: dict[str, Any] | None = None
        self._silence = self._wake = NEVER
        self._deadlines: list[TransactionDeadline] = []

    # ---- for applications

    def __iter__(self) -> Iterator[Response]:
        while True:
            event = self._inbox.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if event.status >= 200:
                return

    def final(
        self, on_provisional: OnProvisional | None = None, timeout: float | None = None
    ) -> Response:
        """Wait for the final response and return it.

        If this method raises, or a gevent.Timeout interrupts it, the transaction is cleaned up. An
        INVITE is cancelled, or hung up if it was answered.

        Args:
            on_provisional: Called with each provisional response.
            timeout: Seconds to wait.

        Raises:
            TransactionTimeout: `timeout`, or timer B, C or F, has passed.
            TransportError: Nothing could be sent.
            Cancelled: The request that this greenlet serves was cancelled.
        """
        timeout = seconds("timeout", timeout)
        inbox, now = self._inbox, self.stack.clock.now
        deadline = None if timeout is None else now() + timeout
        try:
            while True:
                if deadline is not None and not inbox.wait(inbox.__len__, deadline - now()):
                    raise TransactionTimeout(
                        f"no final response to {self.request.method} within {timeout:g} seconds"
                    )
                event = inbox.get()
                if isinstance(event, Exception):
                    raise event
                if event.status >= 200:
                    return event
                if on_provisional is not None:
                    on_provisional(event)
        except BaseException as error:
            self._abandon(**reason_of(error.cancel if isinstance(error, Cancelled) else None))
            raise
        finally:
            event = None  # type: ignore[assignment]  # a raised event holds this frame by its traceback

    def cancel(self, **headers: Any) -> None:
        """Cancel an INVITE (§9.1): now if it has a provisional response, else when it gets one.

        The final response to the INVITE, usually 487, arrives later. An INVITE that still waits for
        its connection is not sent, and ends with a 487 of our own. For other methods, and after the
        end, nothing happens.

            tx.cancel(reason_header='SIP;cause=200;text="Call completed elsewhere"')

        Args:
            headers: Header fields of the CANCEL, such as its Reason (RFC 3326).

        Raises:
            InvalidValue: A header field cannot be sent.
        """
        self._cancel(headers)

    def _cancel(self, headers: dict[str, Any]) -> None:
        if self.request.method != "INVITE" or self._cancelling is not None or not self.is_pending:
            return
        if headers:
            # an invalid header field raises here, not when the CANCEL is sent
            Request("CANCEL", self.request.uri_text, **headers)
        self._cancelling = headers
        if self._waiting is not None:  # nothing is pending that a CANCEL could end
            self._waiting = None
            self._withdrawn()
        elif self.provisional is not None:
            self._send_cancel()
        elif self.transaction is not None and self.transaction.flow.withdraw(self.transaction.last):
            self._withdrawn()
            self.stack.engine.forget(self.transaction)

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.method

    @property
    def is_pending(self) -> bool:
        """True until the final response, or the failure that takes its place."""
        return self.final_response is None and not self._ended

    def _abandon(self, **headers: Any) -> None:
        """Stop waiting for an answer.

        An INVITE is cancelled, or hung up if it is answered; others are forgotten. `headers` are
        header fields of the CANCEL or BYE.
        """
        if self.abandoned:
            return
        self.abandoned = True
        if self.call is not None:
            self.call.hangup(**headers)
        elif self.request.method == "INVITE":
            self._cancel(headers)  # not by cancel(), which a subclass may override
        elif self.is_pending and self.transaction is not None:
            self.stack.engine.forget(self.transaction)

    # ---- for the engine

    def receive(self, response: Response) -> None:
        """Take a response, in the greenlet that received it.

        The deadline of the transaction is set first, so that no exception further down leaves it
        without one.
        """
        is_invite = self.request._method == "INVITE"
        if response.status < 200 and self.final_response is None:
            first = self.provisional is None
            # a branch has forwarded it, and needs only to know that there was one
            self.provisional = response if self.has_inbox else _HEARD[response.status > 100]
            if self._cancelling is not None:
                if first:
                    self._send_cancel()
            elif is_invite and (first or response.status > 100) and not self._is_left:
                self._watch(self.transaction.timers.c)  # §16.6 step 11, §16.7 step 2
        sender = self.stack.sender
        if sender.grey.until or sender.overloaded.silent.failures:
            target = target_of(self.ways, self.transaction.flow)
            sender.overloaded.answered(target)
            if response.status != 503:
                sender.grey.discard(target)
        # a later response may belong to a call that has ended
        if self.final_response is None and self._offers_keep:
            self.stack.keepalives.take(self.request, response, self.transaction.flow)
        if response.status < 200:
            if (
                is_invite
                and response.status > 100
                and self.begins_dialogs
                and not self._ring(response)
            ):
                return
            if not self.has_inbox or len(self._inbox._items) < UNREAD:
                self._deliver(response)
        elif self.final_response is None:
            if (
                response.status >= 300
                and (response.status in RETRIED or self.retry is not None)
                and self._retry(response)
            ):
                if self._calls:
                    self._end_early("refused", response.status, response.reason)
                return
            self.final_response = response
            if self.retry is not None:
                self.retry.received(response, self.request, self.stack)
            if is_invite and response.is_success:
                self._accepted(response)
            else:
                if self._calls:
                    self._end_early("refused", response.status, response.reason)
                self._deliver(response)
        elif response.is_success:
            self._again(response)

    def _receive_late(self, response: Response) -> None:
        """Take a 2xx of a target that has failed before."""
        self._again(response)

    def _deliver(self, event: Response | Exception) -> None:
        """Deliver an event to the waiting greenlet."""
        self._inbox.put(event)

    def _accepted(self, response: Response) -> None:
        """Begin the call of our INVITE, deliver the 2xx and acknowledge it, in this order
        (§13.2.2.4).

        So a BYE that follows at once finds the call, and no greenlet waits for the name resolution
        of the ACK. If the Record-Route cannot be read, the ACK goes along its readable values, a
        BYE follows, and the ParseError is delivered in place of the 2xx.
        """
        call = self.call = self._call_of(response)
        assert call is not None  # only further ones are limited
        call._keeps_alive = self._offers_keep
        call._accepted(self.request, response)
        fault = call.dialog.fault
        # the 2xx crossed our CANCEL, or cannot be used; the BYE follows the ACK
        if self.abandoned or fault is not None:
            call.hangup()
        self._deliver(response if fault is None else fault)
        call._acknowledge(self.request)

    def _ring(self, response: Response) -> bool:
        """Give a provisional response to its early call, which it may begin. False if the
        application must not see it."""
        call = None if response.mandatory.to_tag is None else self._call_of(response)
        return call is None or call._provisional(response)

    def _call_of(self, response: Response) -> Call | None:
        """Return the call of a response's To tag, which begins unless it is known (§12.1.2).

        None if too many branches of a fork have answered. The first 2xx always begins a call.
        """
        tag = response.mandatory.to_tag
        call = self._calls.get(tag)
        is_first = self.call is None and response.is_success
        if call is None and (len(self._calls) < FORKS or is_first):
            only_way = self.transaction.flow if self.by_flow else None
            call = self._calls[tag] = self.stack.dialogs.begin(self, response, only_way)
            if self._is_left:  # another branch of the fork rings
                self._is_left = False
                self._watch(self.transaction.timers.c)
            if self.handlers is not None:
                call.handlers = self.handlers
        if call is not None and self.retry is not None:
            address = self.transaction.flow.remote[0]
            call.kept_credentials = self.retry.kept_credentials(address)
        return call

    def _left(self) -> None:
        """Note that a BYE has ended an early dialog of the INVITE, from either side.

        The callee has to answer the INVITE anyway, usually with 487 (§15.1.2). A callee may not
        send such a BYE (§15), and one that does so may not know that rule either. So if no other
        branch rings, the INVITE is cancelled after 64*T1, the time for which a final response that
        got lost is repeated (timer H).
        """
        if (
            self._cancelling is None
            and self.is_pending
            and all(call.end is not None for call in self._calls.values())
        ):
            self._is_left = True
            self._watch(64 * self.transaction.timers.t1)

    def _end_early(self, cause: str, status: int = 0, reason: str = "") -> None:
        """End the calls that are early still (§12.3)."""
        by = "peer" if status and self._cancelling is None else "us"
        end = End(by, cause if self._cancelling is None else "cancel", status, reason)
        for call in self._calls.values():
            call._finish_early(end)

    def _again(self, response: Response) -> None:
        """Acknowledge a further 2xx to our INVITE. If it begins another call, end that call
        (§13.2.2.4).

        The 2xx is repeated because the ACK was lost, or it comes from another branch of a fork.
        That branch may have sent a refusal before.
        """
        call = self._call_of(response)
        if call is None:
            return
        if not call.is_confirmed:
            call._accepted(self.request, response)
            if self.call is None:
                call.hangup()
            else:
                call.hangup(reason_header=COMPLETED_ELSEWHERE)
        call._acknowledge(self.request)

    def _withdrawn(self) -> None:
        """Deliver a 487 of our own for an INVITE that was cancelled before it left (§8.1.3.1)."""
        self.final_response = response = self.request.response(487)
        response.flow = self.transaction.flow
        self._deliver(response)

    def fail(self, error: Exception) -> None:
        """Take the failure of the transaction, which has no final response."""
        if self.is_pending:
            if not self._retry(error):
                self._fail(error)
            elif self._calls:
                self._end_early("failed")

    def _fail(self, error: Exception) -> None:
        """Deliver the failure of the last try."""
        if self.is_pending:
            self._ended = True
            self.failed = True
            if self._calls:
                self._end_early("timeout" if isinstance(error, TransactionTimeout) else "failed")
            if isinstance(error, (TransportError, TransactionTimeout)) and self.stack.is_running:
                self.stack.sender.failures.note(
                    self.stack.clock.now(),
                    self.request,
                    error,
                    flow=None if self.transaction is None else self.transaction.flow,
                    since=None if self.ways is None else self.ways.since,
                    outcome=self._outcome_of(error),
                )
            is_awaited = self._is_awaited
            self._deliver(error)
            if not is_awaited:
                self.stack.engine.cores.fail(error, self)

    def _outcome_of(self, error: SIPError) -> str:
        """Return the status that a failure counts as (§8.1.3.1), for its log line."""
        return f"answered={error.status}"

    @property
    def _is_awaited(self) -> bool:
        """True while a greenlet waits for a response, or after _abandon()."""
        return self._inbox.is_awaited or self.abandoned

    def flow_ended(self, error: TransportError) -> None:
        """Take the end of the flow of an INVITE that rings.

        A peer that is reached by this flow alone cannot answer any more.
        """
        if self.by_flow and self.is_pending:
            self.fail(error)
            self.stack.engine.forget(self.transaction)

    def ended(self) -> None:
        """Note that the transaction's record is gone. A greenlet that still waits gets a
        TransactionTimeout."""
        if self.is_pending and not self.abandoned:
            self._ended = True
            self._deliver(
                TransactionTimeout(
                    f"the transaction of {self.request.method} has ended without a final response"
                )
            )
        self._ended = True
        if self._calls:
            self._end_early("answered elsewhere")  # 64*T1 after the first 2xx (§13.2.2.4)
        self._unwatch()
        call = self.call
        if call is not None and call.is_confirmed:
            call._transaction_ended(self)

    def expire(self, now: float) -> None:
        """End the wait: timer C has fired, or 64*T1 have passed since a CANCEL (§9.1)."""
        self._wake = NEVER
        if not self.is_pending:
            return
        if self._waiting is not None and now >= self._silence:
            self._conclude(self._waiting)
        elif now < self._silence:
            self._watch(self._silence - now)
        elif self._is_left and self._cancelling is None:
            self._cancel({})
        elif self._cancelling is not None:
            self.fail(TransactionTimeout("no final response to the cancelled INVITE"))
            self.stack.engine.forget(self.transaction)
        else:
            self._give_up()

    def _give_up(self) -> None:
        """Deliver a timeout and cancel the INVITE, because timer C has fired.

        If the INVITE is answered at this moment, its call is hung up.
        """
        self._deliver(TransactionTimeout("timer C: no final response to INVITE in time"))
        self._abandon()

    def _may_go_on(self, failure: Response | Exception) -> bool:
        """True when a target's failure sends the request on to the next one (RFC 3263 §4.3).

        That is a 503, a transport error, or timer B or F without any response. After a provisional
        response no other target is tried, because the request would be served twice. A cancelled
        request goes to no other target.
        """
        if self._cancelling is not None or self.abandoned:
            return False
        first = self.provisional
        if isinstance(failure, TransactionTimeout):
            return first is None
        return not isinstance(failure, TransportError) or first is None or first.status == 100

    @property
    def _offers_keep(self) -> bool:
        """True when the request says that we would ping (RFC 6223 §4.3)."""
        return (self.request.sent_via or "").endswith(";keep")

    def _send_cancel(self) -> None:
        self._watch(64 * self.transaction.timers.t1)
        flow = self.transaction.flow
        # the CANCEL goes to the same place, by another flow if need be (§9.1)
        if self.ways is not None and not flow.is_alive():
            try:
                flow = self.stack.sender.flow_again(self.ways)
            except TransportError as error:
                self.stack.engine.counters.info(
                    "CANCEL not sent",
                    self.stack.clock.now(),
                    'CANCEL not sent: call_id=%s reason="%s"',
                    Plain(self.request.headers.get("Call-ID")),
                    error,
                    log=log,
                )
        cancel = self.request.cancel()
        cancel._set(self._cancelling or {})
        self.stack.engine.request(cancel, flow, NullUser(), self.transaction.timers)

    def _watch(self, seconds: float) -> None:
        """Call expire() after this many seconds. It waits again if the deadline has moved
        meanwhile."""
        now = self.stack.clock.now()
        self._silence = now + seconds
        if self._silence < self._wake:
            self._wake = min(self._silence, now + LOOK_AGAIN)
            self._deadlines.append(deadline := TransactionDeadline(self))
            self.stack.deadlines.add(self._wake, deadline, coarse=True)

    def _unwatch(self) -> None:
        for deadline in self._deadlines:
            # a deadline cannot be removed, but it can drop its reference to this object
            deadline.owner = None
        self._deadlines.clear()
        self._silence = self._wake = NEVER

    def __repr__(self) -> str:
        state = self.transaction.state if self.transaction is not None else "not sent"
        return f"<ClientTransaction {self.request!r} {state}>"


_HEARD = Response(100), Response(180)
"""What stands for a provisional response that a branch has received."""


class TransactionDeadline:
    """An item of Deadlines that a client transaction can clear, so that it is freed at its end."""

    __slots__ = ("owner",)

    def __init__(self, owner: ClientTransaction) -> None:
        self.owner: ClientTransaction | None = owner

    def expire(self, now: float) -> None:
        if self.owner is not None:
            self.owner.expire(now)
