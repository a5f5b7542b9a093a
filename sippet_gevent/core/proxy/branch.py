"""Branch: one client transaction of a forwarded request, RFC 3261 §16.6 to §16.9. Timer C is the
ClientTransaction's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...engine.feedback import strip_feedback
from ...errors import FlowFailed, Reject, SIPError, TransactionTimeout, TransportError
from ...message.message import Request, Response
from ..client.attempt import Policy
from ..client.reason import COMPLETED_ELSEWHERE
from ..client.retry import FAIL_OVER
from ..client.transaction import ClientTransaction
from ..server import ServerTransaction


class BranchUser(Protocol):
    """The parts of a response context that a branch needs."""

    @property
    def tx(self) -> ServerTransaction:
        """The server transaction of the request that is forwarded."""

    @property
    def _closed(self) -> bool:
        """True when the context takes no events any more."""

    def forward(self, response: Response) -> None:
        """Send a response upstream."""

    def _receive(self, branch: Branch, event: Response | Exception) -> None:
        """Take a response or failure of a branch."""

    def _outcome_of(self, branch: Branch, error: SIPError) -> str:
        """Return the status that goes upstream after this branch has failed, for its log line."""


class Branch(ClientTransaction):
    """One client transaction of a response context.

    Its responses go to the context. It forwards late 2xx by itself (§16.7 step 5).
    """

    __slots__ = ("breadth", "context", "instead")

    begins_dialogs = False
    has_inbox = False

    def __init__(self, context: BranchUser, request: Request, breadth: int) -> None:
        super().__init__(context.tx.stack, request)
        self.context = context
        self.served = context.tx
        self.breadth = breadth
        self.instead: Callable[[], None] | None = None

    def receive(self, response: Response) -> None:
        # §16.7 step 3; the Via values below are for the hops that wrote them
        response.headers.delete_header_front("Via")
        strip_feedback(response.headers)
        super().receive(response)

    def _receive_late(self, response: Response) -> None:
        response.headers.delete_header_front("Via")
        strip_feedback(response.headers)
        # cancels the request at its present target
        self.cancel(reason_header=COMPLETED_ELSEWHERE)
        self._accepted(response)

    def _policies(self) -> tuple[Policy, ...]:
        return FAIL_OVER

    def _may_go_on(self, failure: Response | Exception) -> bool:
        # after timer F no client upstream waits any more, because its own timer began before ours
        # (RFC 4320 §3)
        too_late = isinstance(failure, TransactionTimeout) and self.request.method != "INVITE"
        return not too_late and super()._may_go_on(failure)

    def is_unheard(self, failure: Exception) -> bool:
        """True when a branch failed because no next hop was reached, or without any response."""
        return isinstance(failure, (TransportError, TransactionTimeout)) and self._may_go_on(
            failure
        )

    @property
    def _is_awaited(self) -> bool:
        return True

    def _give_up(self) -> None:
        # §16.8; the final response after the CANCEL counts, even a 2xx that crosses it; if there is
        # none in 64*T1, 408 (§9.1)
        self.cancel()

    def fail(self, error: Exception) -> None:
        if self.by_flow and isinstance(error, TransportError) and not isinstance(error, FlowFailed):
            # the phone can be reached only by this flow (RFC 5626 §5.3.1)
            error = FlowFailed(str(error), error.flow, kind=error.kind)
        super().fail(error)

    def _outcome_of(self, error: SIPError) -> str:
        return self.context._outcome_of(self, error)

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Response) and "Via" not in event.headers.fields:
            if event.status < 200:
                return
            event = Reject(502)  # §16.7 step 3: without Via it must not be forwarded
        self.context._receive(self, event)

    def _withdrawn(self) -> None:
        self.fail(Reject(487))

    def _accepted(self, response: Response) -> None:
        if self.context._closed or "Via" not in response.headers.fields:
            self._again(response)
        if not self.context._closed:
            self._deliver(response)

    def _again(self, response: Response) -> None:
        if has_way_back(response):
            # every 2xx to an INVITE goes upstream, repeated ones too (§16.7 step 5)
            self.context.forward(response)
            return
        # Without a Via it is for this element, which acknowledges it and hangs up as a UAC (§16.7
        # step 3, §13.2.2.4). The Record-Route values that the request had when it left belong to us
        # and the hops before us, so they are not part of this route.
        sent = self.request.headers.copy()
        while "Record-Route" in sent.fields:
            sent.delete_header_back("Record-Route")
            response.headers.delete_header_back("Record-Route")
        super()._again(response)


def has_way_back(response: Response) -> bool:
    """True when a response still has a Via after our own was removed.

    Without one it must not be forwarded (§16.7 step 3).
    """
    return "Via" in response.headers.fields
