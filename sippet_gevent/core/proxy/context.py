"""ResponseContext: the branches of a forwarded request and their responses, RFC 3261 §16."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ...errors import (
    Cancelled,
    FlowFailed,
    InvalidValue,
    Reject,
    SIPError,
    TransportError,
    WrongScheme,
)
from ...message.message import Request, Response
from ...message.uri import URI
from ...observe.log_values import Plain
from ...stores.bindings import Binding
from ...transaction.machines import TERMINATED
from ...transaction.timers import CORE_INVITE, CORE_NON_INVITE, F, Timers
from ...transport.listener_choice import Wanted
from ..argument_checks import check_timers
from ..client.failures import LATER
from ..client.targets import NextHop
from ..client.transaction import UNREAD
from ..forwarding import Forwarding
from ..inbox import Inbox
from ..refusal import refuse
from ..routing.history_info import TAG as HISTORY
from ..routing.history_info import History, anonymized, history_of
from ..routing.keepalive import REGISTRATION, withdraw
from ..routing.path import Path
from ..routing.record_route import RecordRoute
from ..server import ServerTransaction
from .best_response import cancel_reason, response_upstream
from .branch import Branch
from .copy import Target, check_target, prepare
from .loops import loop_mark
from .max_breadth import breadth_of

log = logging.getLogger("sippet_gevent.core")

BRANCHES = 32
"""Most branches of one request. Forking must be bounded, because it multiplies requests (RFC
5393)."""

SHARE = 4
"""Divisor of the remaining breadth: by default a branch gets one quarter. That is enough to fork
again, and leaves room for 15 branches at the same time."""

BRANCH_SECONDS = 2.0
"""Seconds allowed for sending the branches of a request, with the resolution of their names."""


class ResponseContext(Forwarding):
    """The branches of one request and their responses (§16): fork, iterate, forward.

    forward() is the short form for most proxies. With a context, the core decides about each
    response. This core tries one phone after another::

        with ResponseContext(tx, record_route=True) as context:
            for target in targets:
                context.fork(target)
                for response in context:
                    if response.status < 300:
                        context.forward(response)
                if tx.answered or context.best().status >= 600:
                    break
            if not tx.answered:
                context.forward(context.best())

    Iterating yields each response except 100, until every branch has a final one. A branch without
    one yields a response of our own: 408 for a timeout, 503 for an unreachable target, and 430 for
    a phone whose only flow has ended.

    Leaving the `with` block cancels the branches that are still pending. If the block raises
    Cancelled, the context waits for their responses and sends the best one upstream (§16.10).

    Args:
        tx: The server transaction of the request.
        record_route: True to stay on the route of the dialog that the request begins.
        add_path: True to add this stack to the Path of a REGISTER (RFC 3327 §5.2).
        timers: The timers of the branches, in place of those of the stack.

    Raises:
        InvalidValue: `add_path` for another method.
        ParseError: Max-Breadth, or another field that a proxy reads, is invalid.
        Reject: 482 for a loop, which is a request that this stack has forwarded before, and that
            has returned unchanged (§16.3 item 4). 503 when the stack is at its limit of forwarded
            requests.
    """

    __slots__ = (
        "_at_home", "_branches", "_breadth", "_cancelled", "_closed", "_coming", "_finals",
        "_history", "_inbox", "_mark", "_pending", "_record_route", "_timers", "stack", "tx",
    )  # fmt: skip

    def __init__(
        self,
        tx: ServerTransaction,
        *,
        record_route: bool = False,
        add_path: bool = False,
        timers: Timers | None = None,
    ) -> None:
        if timers is not None:
            check_timers(timers)
        self._timers = timers
        if add_path and tx.request.method != REGISTRATION:
            raise InvalidValue(
                f"add_path is for REGISTER, not {tx.request.method}: "
                "write record_route=True for a dialog"
            )
        self.tx = tx
        self.stack = tx.stack
        admission, limits = self.stack.engine.admission, self.stack.engine.limits
        if not admission.may_forward(tx.request._method, tx._belongs, tx.request.flow.remote[0]):
            admission.refuse("forwarding", tx.request)
            raise Reject(503, retry_after=random.randint(*limits.retry_after))
        self._mark = loop_mark(tx.request, self.stack.engine.secret)
        if not record_route and tx.request._method != REGISTRATION:
            withdraw(tx.request)
        self._breadth = breadth_of(tx.request)
        written = Path if add_path else RecordRoute if record_route else None
        self._record_route = None if written is None else written(self.stack, tx.request)
        fields = tx.request.headers.fields
        self._history: History | None = None
        # without a call of a function for each request that lacks both
        if "History-Info" in fields or (
            "Supported" in fields and HISTORY in str(fields["Supported"]).lower()
        ):
            self._history = history_of(tx.request)
        self._at_home = self._cancelled = False
        self._inbox: Inbox[tuple[Branch, Response | Exception]] | None = None
        self._closed = False
        self._branches = 0
        self._coming: int | None = None
        """Number of branches that the core will still fork. None if only the core knows."""
        self._pending: list[Branch] = []
        self._finals: list[tuple[Response, bool]] = []
        tx.context = self
        tx.forwarded = True
        if self.stack.engine.overload.strangers.passed:
            tx._note_forwarding()
        self.stack.engine.merged.forget(tx.transaction)
        tx._recount()
        if tx.request._method != "INVITE":
            # the branches may take all of their timer F, and we must not answer before them (RFC
            # 4320)
            patience = F.first(timers or tx.transaction.timers) + BRANCH_SECONDS
            tx.transaction.restart(CORE_NON_INVITE, self.stack.clock.now(), patience)
        elif timers is not None:  # so that we do not answer before timer C of the branches
            patience = CORE_INVITE.first(timers)
            tx.transaction.restart(CORE_INVITE, self.stack.clock.now(), patience)

    def fork(
        self,
        target: Target | None = None,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        share: int = SHARE,
        **headers: Any,
    ) -> None:
        """Send a copy of the request to a target (§16.6).

        If a branch cannot be sent, iterating yields a response for it, as for an answered branch.

        Args:
            target: A Request-URI, or a binding with its Path or flow. None sends the request along
                its Route, or to its own Request-URI.
            next_hop: A URI or a flow where the copy goes instead.
            listener: The name of the listener by which it leaves, as in Stack.send().
            share: The branch gets 1/`share` of the remaining breadth. The breadth is the number of
                branches that the request may have at the same time (RFC 5393 §5.3.3).
            headers: Header fields to set in the copy.

        Raises:
            Reject: 440 at the limit of branches. 403 for a `target` if the request also has a Route
                to another element, unless this stack made that Route for its dialog. Use `route=`
                or `next_hop` to replace the Route.
            TypeError: The target has another type.
        """
        check_target(target, next_hop)
        free = self._breadth
        for each in self._pending:
            free -= each.breadth
        if free < 1 or self._branches >= BRANCHES:
            raise Reject(440)
        self._branches += 1
        breadth = max(1, free // share)
        self._at_home = self._at_home or isinstance(target, Binding)
        instead = partial(self.fork, next_hop=next_hop, listener=listener, share=share, **headers)
        try:
            copy, next_hop, origin, first = prepare(self.tx, target, next_hop, headers)
            copy.headers.put("Max-Breadth", str(breadth))
        except (InvalidValue, FlowFailed, WrongScheme) as error:
            # a target that cannot be written or reached ends only its own branch
            if isinstance(error, InvalidValue):
                counters, now = self.stack.engine.counters, self.stack.clock.now()
                counters.error(
                    "branch",
                    now,
                    "branch cannot be written: method=%s call_id=%s",
                    Plain(self.tx.request.method),
                    Plain(self.tx.request.call_id),
                    exc_info=error,
                    log=log,
                )
            branch = self._begin(self.tx.request, breadth, target, instead)
            branch.fail(error)
            return
        branch = self._begin(copy, breadth, target, instead)
        if self._history is not None:
            self._write_history(branch, copy, target)
        self._leave(branch, next_hop, origin if listener is None else listener, first)

    def _leave(
        self, branch: Branch, next_hop: NextHop | None, listener: Wanted, first: URI | None
    ) -> None:
        """Send the copy of a branch. This may wait for the name in `first`, its Route or URI."""
        try:
            self.stack.sender.send(
                branch.request,
                next_hop,
                user=branch,
                mark=self._mark,
                listener=listener,
                record_route=self._record_route,
                timers=self._timers,
            )
        except SIPError as error:
            branch.fail(error)  # §16.9: like a response
        except BaseException:  # such as a Timeout of the core while a name was resolved
            if branch in self._pending:  # not cancelled meanwhile
                self._pending.remove(branch)
            raise

    def _write_history(self, branch: Branch, copy: Request, target: Target | None) -> None:
        """Write the History-Info of one copy (RFC 7044 §9.2)."""
        history, stack = self._history, self.stack
        assert history is not None
        entries = history.branch(branch, copy.uri, is_contact=isinstance(target, Binding))
        if not isinstance(target, Binding) and not stack.is_responsible_for(copy.uri):
            entries = anonymized(entries, stack.is_responsible_for, all_of_ours=history.is_private)
        copy.history_info = tuple(entries)

    def _begin(
        self, request: Request, breadth: int, target: Target | None, instead: Callable[..., None]
    ) -> Branch:
        branch = Branch(self, request, breadth)
        if isinstance(target, Binding) and target.others:
            following, *others = target.others
            branch.instead = partial(instead, following._replace(others=tuple(others)))
        self._pending.append(branch)
        return branch

    def _may_fork_instead(self, branch: Branch, event: Response | Exception) -> bool:
        """True when another flow of the same phone replaces a branch, because its flow has failed
        (RFC 5626 §7).

        A flow has failed if a 430 says so, or if no response arrives by it, for example because its
        edge proxy is gone. After a response of the phone itself, no other flow of the phone is
        tried.
        """
        if branch.instead is None or self._cancelled or self.tx.answered:
            return False
        if isinstance(event, Response):
            return event.status == 430
        return isinstance(event, FlowFailed) or branch.is_unheard(event)

    def _fork_instead(self, branch: Branch, event: Response | Exception) -> bool:
        """Replace a branch by another flow of the same phone. False if that is not possible."""
        if branch.instead is None or not self._may_fork_instead(branch, event):
            return False
        self._pending.remove(branch)
        try:
            branch.instead()
        except Reject:  # the limit of branches
            self._pending.append(branch)
            return False
        return True

    def __iter__(self) -> Iterator[Response]:
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = Inbox(self.stack.clock)
        while self._pending or inbox:
            response = self._take(*inbox.get())
            if response is not None:
                yield response

    def _receive(self, branch: Branch, event: Response | Exception) -> None:
        """Keep an event of a branch until the core takes it."""
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = Inbox(self.stack.clock)
        if len(inbox._items) < UNREAD or not isinstance(event, Response) or event.status >= 200:
            inbox.put((branch, event))

    def _take(self, branch: Branch, event: Response | Exception) -> Response | None:
        """Note an event of a branch. Return the response that it amounts to, or None if it concerns
        no one."""
        if isinstance(event, Response):
            received, response = True, event
        else:
            received, response = False, self._in_place_of(event)
        if self._history is not None:
            self._history.received(branch, response)
        status = response.status
        if status == 100 or (branch not in self._pending and not 200 <= status < 300):
            return None
        if status >= 300 and branch.instead is not None and self._fork_instead(branch, event):
            return None
        if status >= 200:
            if branch in self._pending:
                self._pending.remove(branch)
            self._finals.append((response, received))
        return response

    def _in_place_of(self, error: Exception) -> Response:
        """Return our response for a branch that failed without one."""
        if isinstance(error, Reject):
            return refuse(self.tx.request, error)
        status = error.status if isinstance(error, SIPError) else 500
        return self.tx.request.response(status)

    def forward(self, response: Response) -> None:
        """Send a response upstream (§16.7 step 9).

        After the final response, further 2xx to an INVITE are sent, and all others are discarded.
        """
        tx = self.tx
        if self._history is not None and response.status > 100:
            response.history_info = tuple(self._history.entries)  # RFC 7044 §9.4
        if tx.edge is not None:
            tx.edge.returns(response, tx.flow)
        is_invite = tx.request._method == "INVITE"
        if tx.transaction.state is TERMINATED:  # then responses are discarded (RFC 6026 §8.3)
            return
        if tx.answered:
            if is_invite and response.is_success:
                if tx.answered >= 300:
                    self._forward_late(response)
                elif self.stack.engine.amplification.may_repeat(
                    tx.transaction, tx.flow.remote[0], len(tx.transaction.last or b"")
                ):
                    self.stack.engine.respond(tx.transaction, response)
        elif response.status >= 200:
            tx._finish(response.status, response)
            if is_invite and response.is_success:
                tx._end_early(response.status)  # the early dialog of a 1xx of ours, such as a 181
        elif is_invite:
            tx.provisional = response.status
            self.stack.engine.respond(tx.transaction, response)

    def _forward_late(self, response: Response) -> None:
        """Send a 2xx that arrives after our refusal (§16.7 step 5). It bypasses the transaction,
        whose state table allows no 2xx any more."""
        try:
            self.stack.engine.send(self.tx.flow, bytes(response))
        except TransportError as error:
            self.stack.engine.counters.warn(
                "2xx",
                self.stack.clock.now(),
                'late 2xx not forwarded: status=%d call_id=%s reason="%s"',
                response.status,
                Plain(response.headers.get("Call-ID")),
                error,
                log=log,
            )

    def _outcome_of(self, branch: Branch, error: SIPError) -> str:
        """Return what goes upstream after a branch failed, for the log; see Failures.note()."""
        if self.tx.answered:
            return f"answered={self.tx.answered}"
        if (
            self._coming
            or any(each is not branch for each in self._pending)
            or branch.instead is not None
        ):
            return LATER
        finals = [*self._finals, (self._in_place_of(error), False)]
        best = response_upstream(self.tx.request, finals, is_registrar=self._at_home).status
        # a core of its own may fork to another target next
        return f"answered={best}" if self._coming == 0 else f"best={best}"

    def best(self) -> Response:
        """Return the final response to send upstream: the best one so far (§16.7 steps 6 and 7).

        408 when there is none, 500 for a 503. A 401 or 407 has the challenges of all branches.
        """
        return response_upstream(self.tx.request, self._finals, is_registrar=self._at_home)

    def cancel(self, **headers: Any) -> None:
        """Cancel the pending branches (§16.10). Iterate again to see a 2xx that crosses the CANCEL.

        Args:
            headers: Header fields of the CANCELs, as in `ClientTransaction.cancel()`. By default
                their Reason is the 2xx or 6xx that has decided the request, if there is one (RFC
                3326 §2, §3.1).
        """
        self._cancelled = True
        headers = headers or self._reason()
        for branch in list(self._pending):
            branch.cancel(**headers)

    def _reason(self) -> dict[str, str]:
        return cancel_reason([response.status for response, _ in self._finals])

    @property
    def pending(self) -> int:
        """Number of branches without a final response."""
        return len(self._pending)

    def __enter__(self) -> ResponseContext:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if isinstance(error, Cancelled):
                self._wind_up()
        finally:
            self._close()

    def _close(self) -> None:
        """Take no events any more, and cancel the branches that are still pending."""
        self._closed = True
        tx = self.tx
        tx.context = None
        if tx.place is not None or tx.copies is not None:
            tx._recount()
        if self._pending:
            reason = self._reason()
            for branch in list(self._pending):
                branch._abandon(**reason)

    def _wind_up(self) -> None:
        self.cancel()
        for response in self:
            if response.is_success:
                self.forward(response)
        # otherwise the 487 of the core's Cancelled is the better answer
        if not self.tx.answered and any(received for _, received in self._finals):
            self.forward(self.best())
