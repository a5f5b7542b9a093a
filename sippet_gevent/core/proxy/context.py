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
    TransactionTimeout,
    TransportError,
    WrongScheme,
)
from ...message.iana import reason_phrase
from ...message.message import Request, Response
from ...stores.bindings import Binding
from ...transaction.timers import CORE_NON_INVITE, F
from ...transport.egress import Wanted
from ..client.failures import LATER
from ..client.targets import NextHop
from ..client.transaction import ClientTransaction
from ..inbox import Inbox
from ..refusal import refuse
from ..routing.keepalive import REGISTRATION, withdraw
from ..routing.record_route import Path, RecordRoute
from ..server import ServerTransaction
from .copy import Target, check_target, prepare
from .rules import best_response, breadth_of, loop_mark

log = logging.getLogger("sippet_gevent.core")

BRANCHES = 32
"""Branches of one request, at most: what multiplies a request must be bounded (RFC 5393)."""

SHARE = 4
"""What part of the breadth that is left a branch gets when nobody says: enough to fork again, and
15 fit beside each other."""

COMPLETED_ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
"""The Reason of a CANCEL when another phone has answered: the cancelled phone shows no missed call
(RFC 3326 §2)."""

BRANCH_SECONDS = 2.0
"""How long it may take to send the branches of a request: their names are resolved first."""


class Branch(ClientTransaction):
    """One client transaction of a response context, which gets its responses; late 2xx it passes on
    by itself (§16.7)."""

    __slots__ = ("breadth", "context", "instead")

    def __init__(self, context: ResponseContext, request: Request, breadth: int) -> None:
        super().__init__(context.tx.stack, request)
        self.context = context
        self.breadth = breadth
        self.instead: Callable[[], None] | None = None

    def receive(self, response: Response) -> None:
        # §16.7 step 3; those below are for the hops that wrote them
        response.headers.delete_header_front("Via")
        super().receive(response)

    def receive_late(self, response: Response) -> None:
        response.headers.delete_header_front("Via")
        self.cancel(reason_header=COMPLETED_ELSEWHERE)  # the target that has the request now
        self.accepted(response)

    def may_go_on(self, failure: Response | Exception) -> bool:
        # After timer F nobody upstream waits for the answer any more: their own began before ours
        # (RFC 4320 §3)
        too_late = isinstance(failure, TransactionTimeout) and self.request.method != "INVITE"
        return not too_late and super().may_go_on(failure)

    def is_unheard(self, failure: Exception) -> bool:
        """True when a branch has failed for want of a way, or of any response."""
        return isinstance(failure, (TransportError, TransactionTimeout)) and self.may_go_on(failure)

    @property
    def is_awaited(self) -> bool:
        return True

    def give_up(self) -> None:
        # §16.8; what it answers to that is its response, a 2xx that crosses too, or 408 after 64*T1
        # (§9.1)
        self.cancel()

    def fail(self, error: Exception) -> None:
        if self.by_flow and isinstance(error, TransportError) and not isinstance(error, FlowFailed):
            # nothing else leads there (RFC 5626 §5.3.1)
            error = FlowFailed(str(error), error.flow, kind=error.kind)
        super().fail(error)

    def answer_to(self, error: SIPError) -> int | str:
        return self.context.answer_to(self, error)

    def deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Response) and not has_way_back(event):
            if event.status < 200:
                return
            event = Reject(502)  # §16.7 step 3: it must not be forwarded
        self.context.inbox.put((self, event))

    def withdrawn(self) -> None:
        self.fail(Reject(487))

    def accepted(self, response: Response) -> None:
        if self.context.closed or not has_way_back(response):
            self.again(response)
        if not self.context.closed:
            self.deliver(response)

    def again(self, response: Response) -> None:
        if has_way_back(response):
            # every 2xx to an INVITE goes upstream, repeated ones too (§16.7 step 5)
            self.context.forward(response)
            return
        # It is for us, then, so it is acknowledged and hung up as by a UAC (§16.7 step 3,
        # §13.2.2.4). The Record-Route that the request had when it left belongs to the hops before
        # us, and to us.
        sent = self.request.headers.copy()
        while "Record-Route" in sent.fields:
            sent.delete_header_back("Record-Route")
            response.headers.delete_header_back("Record-Route")
        super().again(response)


def has_way_back(response: Response) -> bool:
    """True when a response has a Via after our own was removed. Without one it must not be
    forwarded (§16.7 step 3)."""
    return "Via" in response.headers.fields


class ResponseContext:
    """The branches of one request and their responses (§16): fork, iterate, forward.

    Iterating yields each response but 100 until every branch has a final one; a branch that times
    out comes out as 408, one that cannot be reached as 503, one whose flow has ended, of a phone
    that has no other, as 430. Leaving the `with` block cancels branches that are still pending;
    when Cancelled leaves it, what they answer to that is awaited and goes upstream (§16.10). Raises
    Reject(482) for a request that has been here before, unchanged in what §16.6 step 8 names.
    """

    def __init__(
        self, tx: ServerTransaction, *, record_route: bool = False, add_path: bool = False
    ) -> None:
        if add_path and tx.request.method != REGISTRATION:
            raise InvalidValue(
                f"add_path is for REGISTER, not {tx.request.method}: write record_route=True for a dialog"
            )
        self.tx = tx
        self.stack = tx.stack
        admission, limits = self.stack.engine.admission, self.stack.engine.limits
        if not admission.may_forward(tx.request.method, tx.belongs):
            admission.refuse("forwarding", tx.request)
            raise Reject(503, retry_after=random.randint(*limits.retry_after))
        self._mark = loop_mark(tx.request, self.stack.engine.secret)
        if not record_route and tx.request.method != REGISTRATION:
            withdraw(tx.request)
        self._breadth = breadth_of(tx.request)
        written = Path if add_path else RecordRoute if record_route else None
        self._record_route = None if written is None else written(self.stack, tx.request)
        self._at_home = self._cancelled = False
        self.inbox = Inbox(tx.stack.clock)
        self.closed = False
        self._branches = 0
        self.coming = 0
        """Number of branches that are still to be forked, if it is known."""
        self._pending: set[Branch] = set()
        self._finals: list[tuple[Response, bool]] = []
        tx.context = self
        tx.forwarded = True
        self.stack.engine.forwarded(tx.transaction)
        tx.recount()
        if tx.request.method != "INVITE":
            # The branches have their timer F, all of it: an answer of ours before that would be
            # none of theirs (RFC 4320)
            patience = F.first(tx.transaction.timers) + BRANCH_SECONDS
            tx.transaction.restart(CORE_NON_INVITE, self.stack.clock.now(), patience)

    def fork(
        self,
        target: Target | None = None,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        share: int = SHARE,
        **headers: Any,
    ) -> None:
        """Send a copy of the request to `target`, or along its Route (§16.6). Raises Reject(440)
        for one too many.

        Of the branches that the request may still have at one time, this one gets one part of
        `share` (RFC 5393 §5.3.3). `listener` says by which one it leaves, as in Stack.send().
        Raises Reject(403) for a request to `target` whose Route leads on from here, unless it is
        that of a dialog on whose route we are; `route=` or `next_hop` say otherwise.
        """
        check_target(target)
        free = self._breadth - sum(branch.breadth for branch in self._pending)
        if free < 1 or self._branches >= BRANCHES:
            raise Reject(440)
        self._branches += 1
        breadth = max(1, free // share)
        self._at_home = self._at_home or isinstance(target, Binding)
        instead = partial(self.fork, next_hop=next_hop, listener=listener, share=share, **headers)
        try:
            copy, next_hop, origin = prepare(self.tx, target, next_hop, headers)
            copy.max_breadth = breadth
        except (
            InvalidValue,
            FlowFailed,
            WrongScheme,
        ) as error:  # what cannot be written or reached costs its branch alone
            if isinstance(error, InvalidValue):
                counters, now = self.stack.engine.counters, self.stack.clock.now()
                counters.error(
                    "branch",
                    now,
                    "branch of %r cannot be written",
                    self.tx.request,
                    exc_info=error,
                    log=log,
                )
            branch = self._begin(self.tx.request, breadth, target, instead)
            branch.fail(error)
            return
        branch = self._begin(copy, breadth, target, instead)
        try:
            self.stack.sender.send(
                copy,
                next_hop,
                user=branch,
                mark=self._mark,
                listener=origin if listener is None else listener,
                record_route=self._record_route,
            )
        except SIPError as error:
            branch.fail(error)  # §16.9: as if it had been answered
        except BaseException:  # a Timeout of the core's, while a name was resolved
            self._pending.discard(branch)
            raise

    def _begin(
        self, request: Request, breadth: int, target: Target | None, instead: Callable[..., None]
    ) -> Branch:
        branch = Branch(self, request, breadth)
        if isinstance(target, Binding) and target.others:
            following, *others = target.others
            branch.instead = partial(instead, following._replace(others=tuple(others)))
        self._pending.add(branch)
        return branch

    def _fork_instead(self, branch: Branch, event: Response | Exception) -> bool:
        """Replace a branch whose flow has failed by another flow of the same phone, if there is one
        (RFC 5626 §7).

        A flow has failed when somebody says 430, or when nothing is heard by it at all: its edge
        proxy is gone, say. What the phone has answered by one flow stands, and it is not asked
        again.
        """
        if branch.instead is None or self._cancelled or self.tx.answered:
            return False
        if isinstance(event, Response):
            if event.status != 430:
                return False
        elif not isinstance(event, FlowFailed) and not branch.is_unheard(event):
            return False
        self._pending.discard(branch)
        try:
            branch.instead()
        except Reject:  # one too many
            self._pending.add(branch)
            return False
        return True

    def __iter__(self) -> Iterator[Response]:
        while self._pending or self.inbox:
            branch, event = self.inbox.get()
            received = isinstance(event, Response)
            response = event if received else self._in_place_of(event)
            if response.status == 100 or (branch not in self._pending and not response.is_success):
                continue
            if response.status >= 300 and self._fork_instead(branch, event):
                continue
            if response.status >= 200:
                self._pending.discard(branch)
                self._finals.append((response, received))
            yield response

    def _in_place_of(self, error: SIPError) -> Response:
        """Return the response that a branch without one comes out as."""
        if isinstance(error, Reject):
            return refuse(self.tx.request, error)
        return self.tx.request.response(error.status)

    def forward(self, response: Response) -> None:
        """Send a response upstream (§16.7 step 9). After the final one only further 2xx to an
        INVITE go."""
        tx = self.tx
        is_invite = tx.request.method == "INVITE"
        if tx.transaction.is_terminated:  # then it is discarded (RFC 6026 §8.3)
            return
        if tx.answered:
            if is_invite and response.is_success:
                if tx.answered < 300:
                    self.stack.engine.respond(tx.transaction, response)
                else:
                    self._forward_late(response)
        elif response.status >= 200:
            tx.finish(response.status, response)
        elif is_invite:
            tx.provisional = response.status
            self.stack.engine.respond(tx.transaction, response)

    def _forward_late(self, response: Response) -> None:
        """Send a 2xx after our refusal past the transaction, which has no row for it (§16.7 step
        5)."""
        try:
            self.stack.engine.send(self.tx.flow, bytes(response))
        except TransportError as error:
            self.stack.engine.counters.warn(
                "2xx", self.stack.clock.now(), "cannot forward %r: %s", response, error, log=log
            )

    def answer_to(self, branch: Branch, error: SIPError) -> int | str:
        """Return the status for the log that goes upstream after this branch has failed, LATER
        while that is open."""
        if self.tx.answered:
            return self.tx.answered
        if self.coming or self._pending - {branch} or branch.instead is not None:
            return LATER
        return self._best([*self._finals, (self._in_place_of(error), False)]).status

    def best(self) -> Response:
        """Choose the final response to send upstream from those that came (§16.7 step 6)."""
        return self._best(self._finals)

    def _best(self, finals: list[tuple[Response, bool]]) -> Response:
        best = best_response(finals)
        if best is None:
            return self.tx.request.response(408)
        if best.status == 503:  # it would tell the caller that we are overloaded (§16.7 step 6)
            return self.tx.request.response(500)
        # it is for us, who know the bindings, and no phone (RFC 5626 §11.5)
        if best.status == 430 and self._at_home:
            return self.tx.request.response(480)
        # every challenge goes up as it came, so that the caller can answer all (§16.7 step 7)
        if best.status in (401, 407):
            challenging = [response for response, _ in finals if response.status in (401, 407)]
            for name in ("WWW-Authenticate", "Proxy-Authenticate"):
                challenges = dict.fromkeys(
                    text for response in challenging for text in response.headers.all(name)
                )
                if challenges:
                    best.headers[name] = challenges
        return best

    def cancel(self, **headers: Any) -> None:
        """Cancel the branches that are still pending (§16.10).

        `headers` are header fields of the CANCELs, as in `ClientTransaction.cancel()`. By default
        they have as Reason the 2xx or 6xx that has decided the request, if there is one (RFC 3326
        §2, §3.1).
        """
        self._cancelled = True
        headers = headers or self._reason()
        for branch in list(self._pending):
            branch.cancel(**headers)

    def _reason(self) -> dict[str, Any]:
        statuses = [response.status for response, _ in self._finals]
        if any(200 <= status < 300 for status in statuses):
            return {"reason_header": COMPLETED_ELSEWHERE}
        declined = next((status for status in statuses if status >= 600), None)
        return (
            {}
            if declined is None
            else {"reason_header": f'SIP;cause={declined};text="{reason_phrase(declined)}"'}
        )

    @property
    def pending(self) -> int:
        """Branches without a final response."""
        return len(self._pending)

    def __enter__(self) -> ResponseContext:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if isinstance(error, Cancelled):
                self._wind_up()
        finally:
            self.closed = True
            self.tx.context = None
            self.tx.recount()
            reason = self._reason()
            for branch in list(self._pending):
                branch.abandon(**reason)

    def _wind_up(self) -> None:
        self.cancel()
        for response in self:
            if response.is_success:
                self.forward(response)
        # else the 487 to come is the better answer
        if not self.tx.answered and any(received for _, received in self._finals):
            self.forward(self.best())
