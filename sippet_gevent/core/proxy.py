"""ResponseContext and forward(): a stateful proxy, RFC 3261 §16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import Cancelled, Reject, SIPError
from ..message.message import Request, Response
from ..message.uri import URI
from .inbox import Inbox
from .routing import best_response, check_request, forwarded, take_own_route
from .uac import ClientTransaction
from .uas import ServerTransaction

BRANCHES = 32
"""Branches of one request, at most: what multiplies a request must be bounded (RFC 5393)."""


class Branch(ClientTransaction):
    """One client transaction of a response context; it tells the context, and passes late 2xx on by itself (§16.7)."""

    __slots__ = ("context",)

    def __init__(self, context: ResponseContext, request: Request) -> None:
        super().__init__(context.tx.stack, request)
        self.context = context

    def deliver(self, event: Response | Exception) -> None:
        self.context.inbox.put((self, event))

    def again(self, response: Response) -> None:
        self.context.forward(_without_top_via(response))  # every 2xx to an INVITE goes upstream, repeated ones too (§16.7 step 5)

    def receive(self, response: Response) -> None:
        if self.context.closed and response.is_success and self.final_response is None:
            self.final_response = response
            self.context.forward(_without_top_via(response))
        else:
            super().receive(response)

    def abandon(self) -> None:
        """Cancel; a 2xx that crosses with it belongs upstream, so nothing is hung up here."""
        if self.request.method == "INVITE":
            self.cancel()
        elif not self._gone and self.final_response is None and self.transaction is not None:
            self.stack.engine.forget(self.transaction)


class ResponseContext:
    """The branches of one request and their responses (§16): fork, iterate, forward.

    Iterating yields each response but 100 until every branch has a final one; a branch that times out comes out as 408,
    one that cannot be reached as 503. Leaving the `with` block cancels branches that are still pending.
    """

    def __init__(self, tx: ServerTransaction, *, record_route: bool = False) -> None:
        self.tx = tx
        self.stack = tx.stack
        self.record_route = record_route
        self.inbox = Inbox(tx.stack.clock)
        self.closed = False
        self._branches: list[Branch] = []
        self._pending: set[Branch] = set()
        self._finals: list[tuple[Response, bool]] = []
        tx.context = self

    def fork(self, target: URI | str | None = None, *, next_hop: URI | str | None = None, **headers: Any) -> None:
        """Send a copy of the request to `target`, or along its Route (§16.6). Raises Reject for one too many."""
        if len(self._branches) >= BRANCHES:
            raise Reject(440)
        copy = prepare(self.stack, self.tx.request, target, headers)
        if self.record_route:
            copy.record_route = (self.stack.route_uri(self.tx.flow), *copy.record_route)
        branch = Branch(self, copy)
        self._branches.append(branch)
        self._pending.add(branch)
        try:
            self.stack.send(copy, next_hop=next_hop, user=branch)
        except SIPError as error:
            branch._gone = True
            self.inbox.put((branch, error))

    def __iter__(self) -> Iterator[Response]:
        while self._pending:
            branch, event = self.inbox.get()
            if isinstance(event, Exception):
                if branch not in self._pending:
                    continue
                self._pending.discard(branch)
                response = self.tx.request.response(getattr(event, "status", 500))
                self._finals.append((response, False))
                yield response
                continue
            response = _without_top_via(event)
            if event.status >= 200:
                self._pending.discard(branch)
                self._finals.append((response, True))
            if event.status > 100:
                yield response

    def forward(self, response: Response) -> None:
        """Send a response upstream (§16.7 steps 8 and 9). After the final one only further 2xx go."""
        tx = self.tx
        transaction = tx.transaction
        if response.status >= 200 and tx.answered:
            if response.is_success and tx.answered < 300 and not transaction.is_terminated:
                self.stack.engine.respond(transaction, response)
            return
        if response.status >= 200:
            tx.finish(response.status, response)
        elif tx.request.method == "INVITE":
            tx.provisional = response.status
            self.stack.engine.respond(transaction, response)

    def best(self) -> Response:
        """Choose the final response to send upstream from those that came (§16.7 step 6)."""
        best = best_response(self._finals)
        if best is None:
            return self.tx.request.response(408)
        if best.status == 503:  # it would tell the caller that we are overloaded (§16.7 step 6)
            return self.tx.request.response(500)
        if best.status in (401, 407):  # every challenge goes up, so that the caller can answer all (§16.7 step 7)
            for row in ("www_authenticate", "proxy_authenticate"):
                values = [v for r, received in self._finals if received and r.status in (401, 407) for v in getattr(r, row)]
                if values:
                    setattr(best, row, tuple(values))
        return best

    def cancel(self) -> None:
        """Cancel the branches that are still pending (§16.10)."""
        for branch in list(self._pending):
            branch.cancel()

    @property
    def pending(self) -> int:
        """Branches without a final response."""
        return len(self._pending)

    def __enter__(self) -> ResponseContext:
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed = True
        for branch in list(self._pending):
            branch.abandon()


def prepare(stack: Any, request: Request, target: URI | str | None, headers: dict[str, Any]) -> Request:
    """Return the copy to send on: own Route taken off, one hop less, `headers` set (§16.4, §16.6)."""
    copy = forwarded(request, None)
    take_own_route(copy, stack.is_local)
    if target is not None:
        text = str(URI.parse(target) if isinstance(target, str) else target)
        copy.uri = URI.parse(text)._replace(headers=type(copy.uri.headers)())
    copy._set(headers)
    return copy


def forward(
    request: Request,
    tx: ServerTransaction,
    *targets: URI | str,
    next_hop: URI | str | None = None,
    record_route: bool = False,
    **headers: Any,
) -> None:
    """Proxy a request: to all targets at once, or without any along its Route and Request-URI (§16).

    Answers with the best response. CANCEL cancels every branch. An ACK is sent on without waiting for anything.
    `headers` are set in the copies. Raises Reject(483) at Max-Forwards 0 and Reject(420) for a Proxy-Require.
    """
    check_request(request)
    if request.method == "ACK":
        for target in targets or (None,):
            tx.stack.send(prepare(tx.stack, request, target, headers), next_hop=next_hop)
        return
    with ResponseContext(tx, record_route=record_route) as context:
        for target in targets or (None,):
            context.fork(target, next_hop=next_hop, **headers)
        while context.pending:
            try:
                _pass_on(context)
            except Cancelled:
                context.cancel()  # the branches answer 487, and the best of them goes up (§16.10)
        if not tx.answered:
            context.forward(context.best())


def _pass_on(context: ResponseContext) -> None:
    for response in context:
        if response.is_success:
            context.forward(response)
            context.cancel()
        elif response.is_provisional:
            context.forward(response)
        elif response.status >= 600:
            context.cancel()  # §16.7 step 5


def _without_top_via(response: Response) -> Response:
    """Take our Via off (§16.7 step 3)."""
    response.via = response.via[1:] or None
    return response
