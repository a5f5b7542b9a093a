"""ForwardedRequest: the response context of forward(), which lives on events, RFC 3261 §16.7.

Each response is handled to its end in the greenlet that has received it. So responses of one peer
leave in the order in which they came, and no greenlet waits for them.
"""

from __future__ import annotations

import logging

from ...errors import Cancelled
from ...message.message import Response
from ...message.parameters import NO_URI_PARAMETERS
from ...message.uri import URI, parse_uri
from ...observe.log_values import Plain
from ...transaction.timers import Timers
from ...transport.base import Flow
from ...transport.listener_choice import Wanted
from ...transport.locate.rfc3263 import literal
from ..client.targets import NextHop
from ..inbox import Inbox
from ..server import ServerTransaction
from .branch import Branch
from .context import ResponseContext

log = logging.getLogger("sippet_gevent.core")


class ForwardedRequest(ResponseContext):
    """A request that forward() has sent to its targets. It answers with the best response (§16.7).

    A core may return it, or end in any other way. To know the outcome, wait for it::

        status = forward(request, tx, *targets).wait()

    `tx.on_final()` tells the outcome without a greenlet.
    """

    __slots__ = ("_has_begun", "_waiters")

    def __init__(
        self,
        tx: ServerTransaction,
        *,
        record_route: bool = False,
        add_path: bool = False,
        timers: Timers | None = None,
    ) -> None:
        super().__init__(tx, record_route=record_route, add_path=add_path, timers=timers)
        self._has_begun = False
        self._waiters: Inbox[None] | None = None

    @classmethod
    def of_ack(cls, tx: ServerTransaction) -> ForwardedRequest:
        """Return the result of forwarding an ACK, which has no response, or of forwarding without a
        transaction."""
        tx._note_forwarding()
        context = cls.__new__(cls)
        context.tx, context.stack = tx, tx.stack
        context._waiters, context._closed, context._pending = None, True, []
        return context

    def wait(self) -> int:
        """Wait until the request has its final response.

        Returns:
            Its status. 0 if there is none, because the request is an ACK, the stack has stopped, or
            RFC 4320 §4.2 forbids one.

        Raises:
            Cancelled: The caller has cancelled, and all branches have ended. The caller has the
                best response of the branches, or else 487.
            TransactionTimeout: The time of the request is over.
        """
        tx = self.tx
        if self._waiters is None:
            self._waiters = Inbox(self.stack.clock)
        waiters = self._waiters
        try:
            waiters.wait(lambda: self._closed or (tx.answered > 0 and not tx.cancelled))
        except Cancelled:
            waiters.wait(lambda: self._closed)
            raise
        return tx.answered

    # ---- events

    def _launched(self) -> None:
        """Conclude when the branches have ended, because all of them have been sent."""
        self._has_begun = True
        if not self._pending:
            self._conclude()
        elif not self.tx.answered:
            engine = self.stack.engine
            engine.admission.forwarding_begins(self.tx)
            engine.plan(self.tx.transaction)  # its core may never wait, which starts the timers

    def _receive(self, branch: Branch, event: Response | Exception) -> None:
        try:
            response = self._take(branch, event)
            if response is not None:
                status = response.status
                if status < 300:
                    # after a CANCEL only a 2xx is news (§16.10)
                    if status >= 200 or not self.tx.cancelled:
                        self.forward(response)
                elif status >= 600:
                    self.cancel()  # §16.7 step 5
        except Exception as error:
            self._fail(error)
        if self._has_begun and not self._pending:
            self._conclude()

    def _answered(self) -> None:
        if self._pending:
            self.cancel()  # §16.7 step 10
        if self._waiters is not None:
            self._waiters.wake()

    def _conclude(self) -> None:
        """Answer with the best response, because all branches have ended (§16.7 step 6)."""
        if self._closed:
            return
        tx = self.tx
        try:
            if not tx.answered and self.stack.is_running:
                if tx.cancelled and not any(received for _, received in self._finals):
                    tx._refuse(487)
                else:
                    self.forward(self.best())
        except Exception as error:
            self._fail(error)
        finally:
            self._close()
            if self._waiters is not None:
                self._waiters.wake()

    def _fail(self, error: Exception) -> None:
        """Answer 500, because a response cannot be forwarded."""
        request, counters = self.tx.request, self.stack.engine.counters
        counters.error(
            "forwarding",
            self.stack.clock.now(),
            "response cannot be forwarded: method=%s call_id=%s",
            Plain(request.method),
            Plain(request.headers.get("Call-ID")),
            exc_info=error,
            log=log,
        )
        self.tx._refuse(500)

    # ---- what may wait has a greenlet of its own

    def _leave(
        self, branch: Branch, next_hop: NextHop | None, listener: Wanted, first: URI | None
    ) -> None:
        if not isinstance(next_hop, Flow):
            uri = next_hop or first
            if uri is None or isinstance(uri, str):
                uri = parse_uri(uri or branch.request._uri)
            host = uri.host
            if uri.parameters is not NO_URI_PARAMETERS:
                host = uri.parameters.get("maddr") or host
            if literal(host) is None:  # a name server may be asked
                self.stack.callbacks.spawn(super()._leave, branch, next_hop, listener, first)
                return
        super()._leave(branch, next_hop, listener, first)

    def _fork_instead(self, branch: Branch, event: Response | Exception) -> bool:
        if not self._may_fork_instead(branch, event):
            return False
        # this may be the hub, where a timer has fired
        self.stack.callbacks.spawn(self._fork_later, branch, event)
        return True

    def _fork_later(self, branch: Branch, event: Response | Exception) -> None:
        if not super()._fork_instead(branch, event):
            branch.instead = None
            self._receive(branch, event)
