"""ClientTransaction: the answers to a request of ours, RFC 3261 §8.1.3, §9.1 and §13.2; fail-over,
RFC 3263 §4.3."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from ...arguments import seconds
from ...engine.users import NullUser
from ...errors import Cancelled, ParseError, SIPError, TransactionTimeout, TransportError
from ...message.message import Request, Response
from ...transport.base import Flow
from ..element import Element
from ..inbox import Inbox
from .targets import is_too_long

if TYPE_CHECKING:
    from ..dialog.call import Call
    from .targets import Target, Ways

log = logging.getLogger("sippet_gevent.core")

OnProvisional = Callable[[Response], Any]

FORKS = 32
"""Branches of a fork that may answer one INVITE of ours: each further one makes us send an ACK and
a BYE."""

NEVER = float("inf")


class ClientTransaction:
    """A request that was sent. Iterate over its responses, or ask for the `final` one; `cancel()`
    an INVITE.

    Iterating ends with the final response; TransactionTimeout or TransportError is raised where one
    takes its place. An INVITE that is answered is acknowledged, and has its `call` from then on.
    When a target fails and its name has led to others, the request goes on to the next one, with a
    new branch, in this same object (RFC 3263 §4.3): `request` and `transaction` are those of the
    latest try, and what the last one comes to is what comes out. `request` is what left.
    """

    __slots__ = (
        "_calls", "_cancelling", "_ended", "_inbox", "_silence", "_wake", "_watches", "abandoned", "by_flow", "call",
        "failed", "final_response", "provisional", "request", "stack", "transaction", "ways",
    )  # fmt: skip

    def __init__(self, stack: Element, request: Request) -> None:
        self.stack = stack
        self.request = request
        self.transaction: Any = None
        self.ways: Ways | None = None
        self._inbox = Inbox(stack.clock)
        self.provisional: Response | None = None
        self.final_response: Response | None = None
        self.failed = False
        self.call: Call | None = None
        self._calls: dict[str | None, Call] = {}
        self.abandoned = self.by_flow = self._ended = False
        # the header fields of the CANCEL that is wanted, or sent
        self._cancelling: dict[str, Any] | None = None
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

    def final(
        self, on_provisional: OnProvisional | None = None, timeout: float | None = None
    ) -> Response:
        """Return the final response, waiting for it; `on_provisional(response)` is called for each
        before it.

        Raises TransactionTimeout after `timeout` seconds or by timers B, F or C, TransportError
        when nothing could be sent, Cancelled when the request being served is cancelled. However it
        is left early, by gevent.Timeout too, an INVITE is cancelled, or hung up, and the
        transaction cleaned up.
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
                    return event  # type: ignore[no-any-return]
                if on_provisional is not None:
                    on_provisional(event)
        except BaseException as error:
            self.abandon(**reason_of(error.cancel if isinstance(error, Cancelled) else None))
            raise
        finally:
            event = None  # the traceback of one that was raised holds this frame

    def cancel(self, **headers: Any) -> None:
        """Cancel an INVITE (§9.1): at once when it has a provisional response, else as soon as one
        comes.

        Its final response, 487 usually, is still to come. An INVITE that still waits for its
        connection is not sent, and ends with a 487 of our own. For other methods, and after the
        end, nothing happens.

        `headers` are header fields of the CANCEL: `cancel(reason_header='SIP;cause=200;text="Call
        completed elsewhere"')` (RFC 3326). Raises InvalidValue for one that cannot be sent.
        """
        if self.request.method != "INVITE" or self._cancelling is not None or not self.is_pending:
            return
        if headers:
            # raises now for what could not be sent then
            Request("CANCEL", self.request.uri_text, **headers)
        self._cancelling = headers
        if self.provisional is not None:
            self._send_cancel()
        elif self.transaction is not None and self.transaction.flow.withdraw(self.transaction.last):
            self.withdrawn()
            self.stack.engine.forget(self.transaction)

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.method

    @property
    def is_pending(self) -> bool:
        """True until the final response, or the failure that takes its place."""
        return self.final_response is None and not self._ended

    def abandon(self, **headers: Any) -> None:
        """Stop to wait for an answer: an INVITE is cancelled, or hung up when it is answered;
        others are forgotten.

        `headers` are header fields of the CANCEL or BYE.
        """
        if self.abandoned:
            return
        self.abandoned = True
        if self.call is not None:
            self.call.hangup(**headers)
        elif self.request.method == "INVITE":
            self.cancel(**headers)
        elif self.is_pending and self.transaction is not None:
            self.stack.engine.forget(self.transaction)

    # ---- for the engine

    def receive(self, response: Response) -> None:
        """Take a response, in the greenlet that carries it.

        The deadline of the transaction is set first, so that no exception further down leaves it
        without one.
        """
        is_invite = self.request.method == "INVITE"
        if response.status < 200 and self.final_response is None:
            first = self.provisional is None
            self.provisional = response
            if self._cancelling is not None:
                if first:
                    self._send_cancel()
            elif is_invite and (first or response.status > 100):
                self._watch(self.transaction.timers.c)  # §16.6 step 11, §16.7 step 2
        if self.stack.sender.grey and response.status != 503:
            self.stack.sender.grey.discard(self._target)
        # what comes later may belong to a call that has ended
        if self.final_response is None and self._offers_keep:
            self.stack.keepalives.take(self.request, response, self.transaction.flow)
        if response.status < 200:
            self.deliver(response)
        elif self.final_response is None:
            if response.status == 503 and self._fail_over(response):
                return
            self.final_response = response
            if is_invite and response.is_success:
                self.accepted(response)
            else:
                self.deliver(response)
        elif response.is_success:
            self.again(response)

    def receive_late(self, response: Response) -> None:
        """Take a 2xx of a target that has failed before."""
        self.again(response)

    def deliver(self, event: Response | Exception) -> None:
        """Hand an event to who waits."""
        self._inbox.put(event)

    def accepted(self, response: Response) -> None:
        """Our INVITE is answered: the call is made, told and acknowledged, in this order
        (§13.2.2.4).

        So a BYE that follows at once finds the call, and nobody waits for the ACK's name
        resolution. Where the Record-Route cannot be read, the ACK goes along what can be, then a
        BYE, and the ParseError is told instead (§13.2.2.4).
        """
        call = self.call = self._calls[response.mandatory.to_tag] = self._accepted(response)
        call.keeps_alive = self._offers_keep
        fault = call.dialog.fault
        # crossed with our CANCEL, or of no use; the BYE waits for the ACK
        if self.abandoned or fault is not None:
            call.hangup()
        self.deliver(response if fault is None else fault)
        call.acknowledge(self.request)

    def _accepted(self, response: Response) -> Call:
        call: Call = self.stack.calls.accepted(self.request, response)
        if self.by_flow:
            call.flow = cast(Flow, self.request.flow)
        return call

    def again(self, response: Response) -> None:
        """Acknowledge a further 2xx to our INVITE, and end its call unless that is our call
        (§13.2.2.4).

        The 2xx is repeated because our ACK was lost, or it comes from another branch of a fork,
        which may have refused before.
        """
        tag = response.mandatory.to_tag
        call = self._calls.get(tag)
        if call is None and len(self._calls) < FORKS:
            call = self._calls[tag] = self._accepted(response)
            call.hangup()
        if call is not None:
            call.acknowledge(self.request)

    def withdrawn(self) -> None:
        """Answer an INVITE that was cancelled before it left with a 487 of our own, because no peer
        will (§8.1.3.1)."""
        self.final_response = response = self.request.response(487)
        response.flow = self.transaction.flow
        self.deliver(response)

    def fail(self, error: Exception) -> None:
        """The transaction ended without a final response."""
        if self.is_pending and not self._fail_over(error):
            self._ended = True
            self.failed = True
            if isinstance(error, (TransportError, TransactionTimeout)) and self.stack.is_running:
                self.stack.sender.failures.note(
                    self.stack.clock.now(),
                    self.request,
                    error,
                    flow=None if self.transaction is None else self.transaction.flow,
                    since=None if self.ways is None else self.ways.since,
                    answered=self.answer_to(error),
                )
            is_awaited = self.is_awaited
            self.deliver(error)
            if not is_awaited:
                self.stack.engine.cores.fail(error, self)

    def answer_to(self, error: SIPError) -> int | str:
        """Return the status that a failure counts as (§8.1.3.1), for the log."""
        return error.status

    @property
    def is_awaited(self) -> bool:
        """True while a greenlet waits for a response, or after abandon()."""
        return self._inbox.is_awaited or self.abandoned

    def flow_ended(self, error: TransportError) -> None:
        """The flow by which an INVITE went is gone while it rings: a peer that is reached by it
        alone cannot answer any more."""
        if self.by_flow and self.is_pending:
            self.fail(error)
            self.stack.engine.forget(self.transaction)

    def ended(self) -> None:
        """Note that the transaction's record is gone. A greenlet that still waits gets a
        TransactionTimeout."""
        if self.is_pending and not self.abandoned:
            self._ended = True
            self.deliver(
                TransactionTimeout(
                    f"the transaction of {self.request.method} has ended without a final response"
                )
            )
        self._ended = True
        self._unwatch()

    def expire(self, now: float) -> None:
        """Timer C, or 64*T1 after a CANCEL (§9.1): nobody will answer this any more."""
        self._wake = NEVER
        if not self.is_pending:
            return
        if now < self._silence:
            self._watch(self._silence - now)
        elif self._cancelling is not None:
            self.fail(TransactionTimeout("no final response to the cancelled INVITE"))
            self.stack.engine.forget(self.transaction)
        else:
            self.give_up()

    def give_up(self) -> None:
        """Timer C has fired: deliver a timeout and cancel the INVITE. If it is answered at this
        moment, its call is hung up."""
        self.deliver(TransactionTimeout("timer C: no final response to INVITE in time"))
        self.abandon()

    def may_go_on(self, failure: Response | Exception) -> bool:
        """True when a target's failure sends the request on to the next one (RFC 3263 §4.3).

        That is a 503, a transport error, or timer B or F without any response. Whoever has said
        that it works on the request is not replaced: it would be done twice. Nobody else is asked
        for a request that was cancelled.
        """
        if self._cancelling is not None or self.abandoned:
            return False
        first = self.provisional
        if isinstance(failure, TransactionTimeout):
            return first is None
        return not isinstance(failure, TransportError) or first is None or first.status == 100

    def _fail_over(self, failure: Response | Exception) -> bool:
        """Remember that the target has failed; send the request to the next one, if it may be, and
        there is one."""
        transaction, stack = self.transaction, self.stack
        if transaction is None or not isinstance(
            failure, (Response, TransportError, TransactionTimeout)
        ):
            return False
        if not stack.is_running:  # then it is we who have failed
            return False
        ways, now = self.ways, stack.clock.now()
        if ways is None:
            return False
        self._blame(failure, ways, now)
        if not self.may_go_on(failure):
            return False
        if not isinstance(failure, TransportError):
            ways.begin_anew()
        following = stack.sender.send_next(self.request, ways)
        if following is None:
            return False
        self.request, flow, data = following
        before = transaction.flow
        stack.sender.failures.note(
            now,
            self.request,
            failure,
            flow=before,
            since=ways.since,
            following=flow,
            is_same_target=before.remote == flow.remote,
        )
        ways.since = now
        transaction.user = Former(self)  # it lingers, and repeats the ACK to that 503
        self.provisional = None
        self._unwatch()
        stack.engine.request(self.request, flow, self, transaction.timers, data=data)
        return True

    @property
    def _offers_keep(self) -> bool:
        """True when the request says that we would ping (RFC 6223 §4.3)."""
        return (self.request.sent_via or "").endswith(";keep")

    @property
    def _target(self) -> Target:
        """Where the request went, as the grey list has it."""
        if self.ways is not None and self.ways.taken is not None:
            return self.ways.taken[:3]
        flow = self.transaction.flow
        return flow.transport.name, flow.remote[0], flow.remote[1]

    def _blame(self, failure: Response | Exception, ways: Ways, now: float) -> None:
        """Remember what has failed: the target, or the detour to it that a long request took
        (§18.1.1)."""
        sender, flow = self.stack.sender, self.transaction.flow
        target = self._target
        if ways.detour == flow.remote and flow.transport.reliable:
            # refused, reset, or no connection in time: the datagram comes next
            if isinstance(failure, TransportError):
                if self.provisional is None and not ways.renew(flow):
                    sender.detours.refused(flow, now)
                return
            target = ("UDP", *flow.remote)
            ways.leave_detour()
        elif is_too_long(failure) and flow.remote not in ways.detoured:
            if sender.detours.lead_around(
                flow, len(self.transaction.last or b""), sender.egress.open(ways.listener), now
            ):
                ways.insert_detour(flow.remote, or_else=False)
                return
        elif isinstance(failure, TransportError) and self.provisional is None and ways.renew(flow):
            return
        if self.provisional is None or isinstance(failure, Response):
            sender.grey.add(target, now, patience_of(failure))

    def _send_cancel(self) -> None:
        self._watch(64 * self.transaction.timers.t1)
        flow = self.transaction.flow
        # it goes to the same place all the same (§9.1)
        if self.ways is not None and not flow.is_alive():
            try:
                flow = self.stack.sender.flow_again(self.ways)
            except TransportError as error:
                now = self.stack.clock.now()
                self.stack.engine.counters.info(
                    "CANCEL", now, "%r cannot be cancelled: %s", self, error, log=log
                )
        cancel = self.request.cancel()
        cancel._set(self._cancelling or {})
        self.stack.engine.request(cancel, flow, NullUser(), self.transaction.timers)

    def _watch(self, seconds: float) -> None:
        """Have expire() called after so many seconds, or earlier: then it watches on."""
        self._silence = self.stack.clock.now() + seconds
        if self._silence < self._wake:
            self._wake = self._silence
            self._watches.append(watch := Watch(self))
            self.stack.deadlines.add(self._silence, watch)

    def _unwatch(self) -> None:
        for watch in self._watches:
            # a deadline cannot be taken back, but it need not hold all this till then
            watch.owner = None
        self._watches.clear()
        self._silence = self._wake = NEVER

    def __repr__(self) -> str:
        state = self.transaction.state if self.transaction is not None else "not sent"
        return f"<ClientTransaction {self.request!r} {state}>"


def patience_of(failure: Response | Exception) -> float | None:
    """Return the seconds a 503 asks for by its Retry-After (RFC 3261 §21.5.4), None when it does
    not say, or not well."""
    try:
        wanted = failure.retry_after if isinstance(failure, Response) else None
    except ParseError:
        return None
    return None if wanted is None else float(wanted.seconds)


def reason_of(cancel: Request | None) -> dict[str, Any]:
    """Return the header fields that a received CANCEL passes on to our CANCELs: its Reason (RFC
    3326 §2), if it is readable."""
    try:
        return (
            {"reason_header": cancel.reason_header}
            if cancel is not None and cancel.reason_header
            else {}
        )
    except ParseError:
        return {}


class Watch:
    """What a deadline holds of a transaction: enough to find it, as long as it is there."""

    __slots__ = ("owner",)

    def __init__(self, owner: ClientTransaction) -> None:
        self.owner: ClientTransaction | None = owner

    def expire(self, now: float) -> None:
        if self.owner is not None:
            self.owner.expire(now)


class Former(NullUser):
    """The user of a transaction whose request has gone on to another target. A 2xx after the 503 is
    a further one (§13.2.2.4)."""

    __slots__ = ("owner",)

    def __init__(self, owner: ClientTransaction) -> None:
        self.owner = owner

    def receive(self, response: Response) -> None:
        if response.is_success:
            self.owner.receive_late(response)
