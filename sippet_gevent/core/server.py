"""ServerTransaction: what a core answers a request with, RFC 3261 §8.2, §9.2 and §13.3; Core: three
callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

from ..arguments import seconds as check_seconds
from ..arguments import takes
from ..errors import (
    Cancelled,
    FlowFailed,
    InvalidValue,
    ParseError,
    Reject,
    SIPError,
    TransactionStateError,
    TransactionTimeout,
    TransportError,
    excerpt,
)
from ..message.message import Message, Request, Response
from ..message.uri import URI
from ..observe.counters import Plain
from ..transaction.fsm import SENT
from ..transaction.machines import SEND_NOTHING
from ..transaction.timers import EXPIRES
from ..transport.base import Origin
from .capabilities import BEFORE_END, CONTACT_IN_SUCCESS, END
from .client.transaction import reason_of
from .inbox import Inbox
from .refusal import NEEDY, complete, refuse, unsupported
from .routing.outbound import can_be_dialled
from .routing.routes import take_own_route
from .routing.sips import answer_wants_sips

if TYPE_CHECKING:
    from .dialog.call import Call

log = logging.getLogger("sippet_gevent.core")

CoreFunction = Callable[[Request, Any], Any]
"""core(request, tx) -> status, Response, or None when it has answered itself."""


class Core:
    """The ancestor's behaviour, blocking style: subclass it and pass it to `Stack(core=MyCore())`.

    `stack` is set when the stack takes it. An instance is a core like any function: `core(request,
    tx)`. `allowed` are the methods it serves: a 405 names them in Allow (RFC 3261 §8.2.1).
    """

    stack: Any = None
    allowed: tuple[str, ...] = ("ACK", "BYE", "CANCEL", "INVITE", "OPTIONS")

    def receive_request(self, request: Request, tx: ServerTransaction) -> Any:
        """Serve a request; return a status, a Response, or None when it is answered. An ACK is
        never answered."""
        return 501

    def receive_response(self, response: Response, tx: Any) -> None:
        """Take a response that no transaction of ours waits for; `tx` is None."""

    def receive_error(self, error: Exception, tx: Any) -> None:
        """Take the failure of a transaction while nobody waits on it.

        `tx` is the transaction that send() has returned, or the record of a request that was
        answered; both have a `method`. A greenlet that waits on the transaction gets the error
        raised instead. One that waits on it later gets it, too.
        """

    def __call__(self, request: Request, tx: ServerTransaction) -> Any:
        return self.receive_request(request, tx)


_CALLBACKS = (
    ("receive_request", ("request", "tx")),
    ("receive_response", ("response", "tx")),
    ("receive_error", ("error", "tx")),
)
"""The methods that a Core may define, and their arguments."""


def check_core(core: Any) -> None:
    """Check that something can serve requests. Raises TypeError, which says what to write."""
    if isinstance(core, type):
        name = core.__name__
        raise TypeError(
            f"a core must be a callable of (request, tx) or a Core, got the class {name}: write {name}()"
        )
    if not callable(core):
        raise TypeError(
            f"a core must be a callable of (request, tx), a Core or a Core class, got {excerpt(core)}: "
            "write def core(request, tx)"
        )
    if isinstance(core, Core):
        for name, parameters in _CALLBACKS:
            takes(getattr(core, name), parameters, f"{type(core).__name__}.{name}()")
    takes(core, ("request", "tx"), "a core")


class ServerTransaction:
    """A request being served. `request` and `flow` are what came, `answered` the final status sent
    (0 before).

    `cancelled` tells that the caller gave up. Its To tag is the request's: one for all responses.
    """

    # What most requests never need stands in the class: one of these is made for each request.
    answered = provisional = 0
    cancelled = _cancel_raised = False
    _cancel: Request | None = None
    parked: Any = None
    context: Any = None
    forwarded = False
    # where copies of the request wait until it is known whether it is forwarded
    copies: Inbox | None = None
    call: Any = None
    _known: frozenset[str] = frozenset()
    _along_our_route: bool | None = None
    route_origin: Origin | None = None
    """The listener by which a request within a dialog goes on: that of our Record-Route (RFC 5658
    §5). Set by take_route()."""
    _route_names_flow = False
    _route_flow: Any = None
    _failure: Exception | None = None
    _inbox: Inbox | None = None
    # where its core is counted while it waits, and the greenlet in which; see Admission
    place: Any = None
    worker: Any = None
    holds = 0  # calls that the core has accepted or made, and that have not ended

    def __init__(self, stack: Any, request: Request, transaction: Any) -> None:
        self.stack = stack
        self.request = request
        self.transaction = transaction
        if transaction is not None:  # None for an ACK, which has none (§17)
            transaction.user = self

    @property
    def is_decided(self) -> bool:
        """True once it is known whether a proxy or a UAS serves the request: it is forwarded,
        answered, or has a 101 to 199."""
        return bool(self.forwarded or self.answered or self.provisional > 100)

    @property
    def flow(self) -> Any:
        """The way the answers take (§18.2.2)."""
        return self.request.flow if self.transaction is None else self.transaction.flow

    # ---- for cores

    def respond(
        self,
        status: int | Response,
        reason: str | None = None,
        *,
        body: bytes | str = b"",
        **headers: Any,
    ) -> None:
        """Send a response: a status, or a whole Response made with `request.response()`.

        Raises Cancelled when the caller has given up, TransactionStateError for a second final
        response or one that comes too late, Reject(420) when the request requires an extension the
        stack does not have (§8.2.2.3), and InvalidValue for a Response that was not made of this
        request.
        """
        self.check()
        if isinstance(status, Response):
            self._check_is_ours(status)
            self.send(status)
        else:
            self.send(self.request.response(status, reason, body=body, **headers))

    def take_route(self) -> bool:
        """Take this stack off the request's Route (§16.4). True when the Route is one that we made
        for this very dialog.

        What a proxy sends on within a dialog it sends wherever the request says. Ask this first: a
        To tag and a Route that names us can be written by anybody, the token in our Record-Route
        cannot. Raises Reject(403) for a `flow_uri()` that was forged, Reject(430) for one whose
        flow has ended (RFC 5626 §5.3.1).
        """
        if self._along_our_route is None:
            taken = take_own_route(self.request, self.stack.names.is_local)
            tokens = self.stack.names.route_tokens
            matched = [tokens.match(self.request, uri) for uri in taken]
            self._along_our_route = any(matched)
            if taken:
                self._take_side(taken[-1], matched[-1])
        return self._along_our_route

    def _take_side(self, uri: URI, is_of_dialog: bool) -> None:
        """Set the listener or flow by which the request is to leave: the one that the last URI of
        ours on the Route names."""
        names = self.stack.names
        tokens = names.route_tokens
        name = tokens.flow_name(uri)
        if is_of_dialog:
            listener = names.listener_of(uri)
            self.route_origin = None if listener is None else Origin(listener)
            if "-" in name:
                self._route_names_flow, self._route_flow = True, names.find_flow(name)
        elif name and tokens.match_flow(uri):
            flow, source = names.find_flow(name), self.request.flow
            if flow is None:
                raise Reject(430)
            # A request that came by this very flow is on its way out, and goes along its Route (RFC
            # 5626 §5.3)
            if flow.transport is not source.transport or flow.remote != source.remote:
                self._route_names_flow, self._route_flow = True, flow
        elif uri.user is not None and "ob" in uri.parameters:
            raise Reject(403)

    @property
    def leads_to_flow(self) -> bool:
        """True when the Route names a flow that lives: forward() goes by it."""
        self.take_route()
        return self._route_flow is not None

    def route_flow(self) -> Any:
        """Return the flow that the Route names; None when it names none, or one that has ended
        while others ways are left.

        Raises FlowFailed, a 430, when it has ended and the Request-URI leads nowhere (RFC 5626
        §5.3.1).
        """
        self.take_route()
        if (
            self._route_names_flow
            and self._route_flow is None
            and not can_be_dialled(self.request.uri)
        ):
            raise FlowFailed("the flow that the Route names has ended")
        return self._route_flow

    def wait(self, seconds: float) -> None:
        """Let time pass, ringing for example. Raises Cancelled when the caller gives up
        meanwhile."""
        self._inbox = self._inbox or Inbox(self.stack.clock)
        self._inbox.wait(_never, check_seconds("seconds", seconds))

    def accept(self, *, body: bytes | str = b"", **headers: Any) -> Call:
        """Answer an INVITE with 200 and return the Call once the ACK is here (§13.3.1.4).

        The 200 is repeated until then. Raises TransactionTimeout when no ACK comes in 64*T1; the
        call is then hung up.
        """
        if self.request.method != "INVITE":
            raise TransactionStateError(f"only an INVITE is accepted, not {self.request.method}")
        self.respond(200, body=body, **headers)
        self.call.wait_for_ack()
        return self.call  # type: ignore[no-any-return]

    # ---- for the stack

    def send(self, response: Response) -> None:
        """Send a response of our own making; see respond()."""
        status = response.status
        request = self.request
        is_invite = request.method == "INVITE"
        if self.transaction is None:
            raise TransactionStateError("an ACK is never answered (§17)")
        if self.answered:
            raise TransactionStateError(
                f"answered already with {self.answered}, so not with {status}"
            )
        if status < 200 and not is_invite:
            raise TransactionStateError(
                f"{status} to {request.method}: provisional responses are for INVITE (RFC 4320 §4.1)"
            )
        if 100 < status < 300:
            if "Require" in request.headers.fields:
                self.check_required()
            # each makes a dialog (§12.1.1)
            contacted = request.method in CONTACT_IN_SUCCESS if status >= 200 else is_invite
            if contacted and "Contact" not in response.headers.fields:
                response.contact = self.stack.names.contact(
                    self.flow, secure=answer_wants_sips(request)
                )
        if status > 100:
            self.stack.capabilities.complete_response(request, response)
        if status < 200:
            self.provisional = status
            if self.copies is not None:
                self.copies.wake()
            self.stack.engine.respond(self.transaction, response)
        elif status < 300 and is_invite:
            self.stack.calls.answer(self, response)
        else:
            if status in NEEDY:
                self._complete(response)
            self.finish(status, response)
            if self.call is not None and status < 300 and request.method == "UPDATE":
                self.call.refreshed(request)

    def _check_is_ours(self, response: Response) -> None:
        """Refuse a response that the caller could not match to its request (§17.1.3), of another
        transaction for example.

        Raises InvalidValue.
        """
        request = self.request
        if all(
            response.headers.fields.get(name) == request.headers.fields.get(name)
            for name in ("Via", "CSeq")
        ):
            return
        try:  # an element on the way may write the same values in another spelling
            if response.via[0].branch == request.via[0].branch and response.cseq == request.cseq:
                return
        except (IndexError, ParseError):
            pass
        raise InvalidValue(
            f"{response!r} is no response to {request!r}, because its Via or CSeq is another (RFC 3261 §8.2.6.2): "
            f"write request.response({response.status}, …)"
        )

    def finish(self, status: int, response: Response | bytes) -> None:
        """Send the final response, whole or formatted; only the transaction's record stays."""
        transaction = self.transaction
        before, self.answered = self.answered, status
        try:
            self._hand_over(status, response)
        except BaseException:
            self.answered = before
            raise
        if self.place is not None:
            self.recount()
        transaction.user = transaction.request = None

    def _hand_over(self, status: int, response: Response | bytes) -> None:
        transaction = self.transaction
        # RFC 4320 §4.2: such an answer comes too late anyway
        if status == 408 and self.request.method != "INVITE":
            self.stack.engine.handle(transaction, SEND_NOTHING)
        else:
            self.stack.engine.handle(transaction, SENT[status // 100], response)

    def serve_ack(self, core: CoreFunction) -> None:
        """Show the core an ACK that belongs to no transaction; what it returns goes nowhere."""
        worker = gevent.getcurrent()
        worker.serving = self
        call_back(self.stack, core, self.request, self)
        worker.serving = None

    def serve(self, core: CoreFunction) -> None:
        """Run the core in this greenlet and answer with what it returns or raises."""
        worker = gevent.getcurrent()
        worker.serving = self
        try:
            request = self.request
            result = core(request, self)
            if self.transaction.is_terminated:
                pass  # the stack has stopped meanwhile: nobody is there to be answered
            elif result is None:
                if not self.answered:
                    self._unanswered()
            elif self.answered or self.cancelled:
                self._late(result)
            elif isinstance(result, int) and self._is_plain(result):
                capabilities = self.stack.capabilities
                if result < 300:
                    method = request._method  # not by the property: this runs for each request
                    end = capabilities.ends.get(method) or capabilities.success_end(method)
                else:
                    end = capabilities.refusal_end
                data = request.answer(result)
                self.finish(result, data if end is END else data[:BEFORE_END] + end)
            else:
                if isinstance(result, Response) and result.status >= 200:
                    self._check_is_ours(result)
                    response = result
                elif isinstance(result, int) and result >= 200:
                    response = request.response(result)
                else:
                    raise TypeError(_what_to_return(result))
                self.send(response)
        except Cancelled:
            self.refuse(487)
        except Reject as refusal:
            self.reject(refusal)
        except SIPError as error:
            if is_mistake(error, self.request):
                raise
            counters = self.stack.engine.counters
            counters.warn(
                "core gave up",
                self.stack.clock.now(),
                "core gave up on %r: %s",
                self.request,
                error,
                log=log,
            )
            self.refuse(error.status)
        except gevent.Timeout as timeout:
            self._complain(
                "core timed out",
                "gevent.Timeout(%s) has left the core that served %r",
                timeout.seconds,
                self.request,
            )
            self.refuse(500)
        except gevent.GreenletExit:
            self._complain("core killed", "the core that served %r was killed", self.request)
            self.refuse(500)
            raise
        worker.serving = None

    def refuse(self, status: int, reason: str | None = None, **headers: Any) -> None:
        """Refuse the request with a status; see reject()."""
        self.reject(Reject(status, reason, **headers))

    def reject(self, refusal: Reject) -> None:
        """Send a refusal unless a final response was sent; a call that was answered before is hung
        up, for its core is gone.

        The answer has what FIELDS in refusal.py says of its status, from the peer's response if
        there is one.
        """
        if self.answered:
            if self.call is not None and self.request.mandatory.to_tag is None:
                self.call.hangup()
        elif self.transaction is not None and not self.transaction.is_terminated:
            response = refuse(self.request, refusal)
            if refusal.status in NEEDY:
                self._complete(response)
            self.stack.capabilities.complete_response(self.request, response)
            self.finish(refusal.status, response)

    def _complete(self, response: Response) -> None:
        """Add the header fields that the status of a refusal needs. Log those that the stack cannot
        fill in."""
        stack = self.stack
        missing = complete(self.request, response, stack.supported | self._known, stack.allowed)
        if missing:
            stack.engine.counters.warn(
                "incomplete refusal", stack.clock.now(), "refusal incomplete: answered=%d missing=%s method=%s call_id=%s",
                response.status, Plain(", ".join(missing)), Plain(self.request.method),
                Plain(self.request.headers.get("Call-ID")), log=log,
            )  # fmt: skip

    def crashed(self, error: BaseException) -> None:
        """The core has raised: 500, and one log line with the traceback (threat T34)."""
        gevent.getcurrent().serving = None
        self._complain("core raised", "core raised at %r", self.request, exc_info=error)
        self.refuse(500)

    def _complain(self, reason: str, text: str, *arguments: object, exc_info: Any = None) -> None:
        """Log a mistake of the core."""
        now = self.stack.clock.now()
        self.stack.engine.counters.error(reason, now, text, *arguments, exc_info=exc_info, log=log)

    def cancel(self, cancel: Request | None = None) -> None:
        """The caller has given up (§9.2). Raised where the core waits in a call of ours; else told
        at its next one."""
        if self.answered or self.cancelled:
            return
        self.cancelled = True
        self._cancel = cancel
        if self.context is not None:
            self.context.cancel(**reason_of(cancel))  # at once, wherever the core is (§16.10)
        if self.parked is not None:
            self.parked.wake()
        elif (
            self.context is None
        ):  # blocked in somebody else's call with nothing forwarded: the caller need not wait
            self.refuse(487)

    def check(self) -> None:
        """Raise what happened to this request while the core was elsewhere: Cancelled, or that its
        time is over."""
        if self.cancelled and not self._cancel_raised:
            self._cancel_raised = True
            raise Cancelled("the caller has given up", cancel=self._cancel)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def fail(self, error: Exception) -> None:
        """Take the failure of the transaction: its time is over, or a provisional response could
        not be sent.

        A provisional response that is lost ends nothing: the transaction remains in its state (RFC
        3261 §17.2.4 as amended by RFC 6026 §8.8), and the final response may find another way
        (§18.2.2). The engine has logged and counted the loss, so the core is not told.
        """
        if isinstance(error, TransportError):
            return
        # its Expires has passed: for a UAS to see, and for no proxy (§13.3.1, §16.10)
        if isinstance(error, Cancelled):
            if self.context is None:
                self.cancel()
            return
        self.transaction.user = self.transaction.request = None
        self._overdue(408 if self.request.method == "INVITE" else 500)
        self._end(error)

    def _end(self, error: Exception) -> None:
        """Raise this error at the core's next call of ours."""
        self._failure = error
        if self.parked is not None:
            self.parked.wake()

    def belongs(self) -> bool:
        """True when the request belongs to a call, a dialog or a route of ours, so that limits on
        new work do not apply."""
        return bool(self._along_our_route) or self.stack.engine.cores.belongs(self.request)

    def _overdue(self, status: int) -> None:
        """Count the core as overdue: the time of its request is over, and it still runs."""
        self.answered = status
        self.recount()
        if self.place is not None:
            self.stack.engine.admission.tell(self)

    def give_up(self) -> None:
        """Count the core as overdue, because it has served an ACK for 64*T1."""
        self._overdue(408)
        self._end(TransactionTimeout("this ACK was served for as long as a transaction lives"))

    def hold(self, call: Call) -> None:
        """Note that the core holds a call, until release()."""
        call.holder = self
        self.holds += 1
        self.recount()

    def release(self) -> None:
        """Note that a call which the core has held has ended."""
        self.holds -= 1
        self.recount()

    def recount(self) -> None:
        """Count the core where it belongs now, if it waits."""
        if self.place is not None:
            self.stack.engine.admission.move(self)
        if self.copies is not None:
            self.copies.wake()

    def expire_invite(self) -> None:
        """Start the timer after which an INVITE with a readable Expires is answered 487 (§13.3.1
        step 1)."""
        try:
            seconds = self.request.expires
        except ParseError:
            return
        if seconds is not None:
            self.transaction.restart(EXPIRES, self.stack.clock.now(), seconds)

    def ended(self) -> None:
        """The transaction's record is gone before the core has answered: the stack has stopped."""
        if not self.answered:
            # as for a request that comes while it leaves: the core is no handler when it starts
            # again
            self.answered = 503
            self.recount()
            self._end(TransportError("the stack has stopped"))

    def _is_plain(self, status: int) -> bool:
        """True for a final status with which send() would do nothing but send it."""
        if 200 <= status < 300:
            request = self.request
            may_be = self.call is None and request._method not in CONTACT_IN_SUCCESS
            return may_be and "Require" not in request.headers.fields
        return 300 <= status <= 699 and status not in NEEDY

    def check_required(self, known: frozenset[str] = frozenset()) -> None:
        """Raise Reject(420) when the request requires what neither the stack has nor is `known` to
        its core (§8.2.2.3)."""
        self._known |= known
        missing = unsupported(self.request.require, self.stack.supported | self._known)
        if missing:
            raise Reject(420, unsupported=missing)

    def _unanswered(self) -> None:
        if self.cancelled:
            self.refuse(487)
            return
        text = "core returned None at %r without having answered: return a status, or call tx.respond()"
        self._complain("core returned None", text, self.request)
        self.stack.engine.counters.core_errors += 1
        self.refuse(500)

    def _late(self, result: Any) -> None:
        if self.cancelled and not self.answered:
            self.refuse(487)
            return
        counters = self.stack.engine.counters
        counters.late_answers += 1
        text = "core returned %r at %r, which was answered with %d already"
        counters.warn(
            "late answer",
            self.stack.clock.now(),
            text,
            result,
            self.request,
            self.answered,
            log=log,
        )

    def __repr__(self) -> str:
        state = "" if self.transaction is None else f" {self.transaction.state}"
        return f"<ServerTransaction {self.request!r}{state}>"


class Copied:
    """The core for a copy of a request, which has come by another way while the core of the first
    one was undecided.

    A UAS refuses the copy (§8.2.2.2), and a proxy forwards it (§16.3 has no such check). So the
    copy waits until the first request is answered or forwarded.
    """

    __slots__ = ("core", "first")

    def __init__(self, first: ServerTransaction, core: CoreFunction) -> None:
        self.first = first
        self.core = core

    def __call__(self, request: Request, tx: ServerTransaction) -> Any:
        first = self.first
        first.copies = first.copies or Inbox(tx.stack.clock)
        first.copies.wait(lambda: first.is_decided)
        if not first.forwarded:
            raise Reject(482, "Request Merged")
        return self.core(request, tx)


def _what_to_return(result: Any) -> str:
    """Return the text of the error for a core that has returned something else."""
    write = "486, or request.response(486)"
    if isinstance(result, Reject):
        write = f"raise Reject({result.status})"
    elif isinstance(result, str) and result.isdecimal():
        write = f"return {result}"
    elif isinstance(result, (int, Response)) and not isinstance(result, bool):
        status = result if isinstance(result, int) else result.status
        write = f"tx.respond({status}) for a provisional response" if 100 <= status < 200 else write
    elif isinstance(result, tuple):
        write = "request.response(486, reason)"
    return f"a core must return a final status, a final Response or None, got {excerpt(result)}: write {write}"


def check_serving() -> None:
    """Raise Cancelled when the request that this greenlet serves was given up by its caller."""
    serving = getattr(gevent.getcurrent(), "serving", None)
    if serving is not None:
        serving.check()


def call_back(stack: Any, function: Callable[..., Any], *arguments: Any) -> None:
    """Run what a core does where nothing can be answered; what it raises is counted and logged
    (threat T34)."""
    counters, now = stack.engine.counters, stack.clock.now()
    try:
        function(*arguments)
    except (Exception, gevent.Timeout) as error:
        what = arguments[0]
        if isinstance(error, (SIPError, gevent.Timeout)) and not is_mistake(error, what):
            counters.warn("core gave up", now, "core gave up on %r: %s", what, error, log=log)
        else:
            counters.core_errors += 1
            counters.error("core raised", now, "core raised at %r", what, exc_info=error, log=log)


def is_mistake(error: BaseException, message: Any) -> bool:
    """True for an error that the core has made: an error of ours that is a 500, or unreadable text
    from elsewhere than `message`.

    A ParseError that is a 502 is about a response to a request of the core, and the mistake of its
    sender; see Dialog.of_uac().
    """
    if isinstance(error, ParseError):
        return error.status != 502 and not (
            isinstance(message, Message) and message.is_source_of(error)
        )
    return isinstance(error, SIPError) and error.status == 500


def _never() -> bool:
    return False
