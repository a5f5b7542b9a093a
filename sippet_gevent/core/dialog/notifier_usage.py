"""NotifierUsage: a subscription of the peer within its dialog, RFC 6665 §4.2."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...errors import SIPError
from ...message.message import Request, Response
from ..client.transaction import ClientTransaction
from ..element import ServedRequest
from .end import End
from .event_package import Package, with_content_type
from .state import DialogState
from .subscription_state import NotifierState
from .subscription_usage import EventUsage


class NotifierUsage(EventUsage):
    """A subscription of the peer: sends it NOTIFYs.

    Args:
        dialog: The dialog.
        package: The event package.
        number: CSeq of the REFER that has created it. The Event of each NOTIFY has it as `id`.
        event_id: The id of Event.
        content_type: The Content-Type of bodies, in place of that of the package.
        state_of: Returns the present state, for a NOTIFY that follows a SUBSCRIBE or ends the
            subscription. By default it is the last one that was sent.
        on_end: Called when the subscription has ended.
    """

    def __init__(
        self,
        dialog: DialogState,
        package: Package,
        number: int | None = None,
        event_id: str | None = None,
        *,
        content_type: str = "",
        state_of: Callable[[], bytes] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(dialog, package, number, event_id)
        self.state = NotifierState(package.longest)
        self.content_type = content_type or package.content_type
        self._state_of = state_of
        self._on_end = on_end
        self._body = b""

    def begin(self, body: bytes, *, asked: int | None = None, is_pending: bool = False) -> None:
        """Grant the subscription, and send its first NOTIFY (§4.2.1.2). Raises SIPError."""
        self.state.subscribed(self.stack.clock.now(), asked)
        if is_pending:
            self.state.suspend()
        else:
            self.state.grant()
        self._plan(self.state.expires_at)
        self.notify(body)

    def notify(
        self, body: bytes, *, reason: str | None = None, retry_after: int | None = None
    ) -> None:
        """Send a NOTIFY, the last one if there is a reason (§4.2.2).

        Does nothing after the end: the subscriber may have ended the subscription.

        Raises:
            InvalidValue: The body has no Content-Type. Nothing has changed.
            SIPError: It cannot be sent. The subscription has ended then.
        """
        self._body = with_content_type(body, self.content_type, self.package)
        if self.end is not None:
            return
        if reason is not None:
            self.state.end(reason, retry_after)
        self._send()

    def _send(self) -> None:
        body, dialog = self._body, self.dialog
        try:
            notify = dialog.request(
                "NOTIFY", body=body, event=self.event,
                content_type=self.content_type if body else None,
                subscription_state=self.state.header(self.stack.clock.now()),
            )  # fmt: skip
        except SIPError:  # the application's content_type
            self._finish(End("us", "terminated"))
            raise
        if self.state.is_terminated:
            self._finish(End(*self.state.side, 0, self.state.reason or ""))
        dialog.send(notify, _Notify(self, notify), self)

    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        if request.method != "SUBSCRIBE" or not self.concerns(request):
            return NotImplemented  # type: ignore[no-any-return]  # leaves it to the core
        asked = self.package.check(request)
        granted = self.state.subscribed(self.stack.clock.now(), asked)
        if not granted:
            self.state.side = "peer", "unsubscribed"
        self._plan(self.state.expires_at if granted else math.inf)
        self._refresh_target(request)
        # a NOTIFY follows each SUBSCRIBE (§4.2.1.2), behind its 200
        self.stack.callbacks.spawn(self._try)
        return request.response(200, expires=granted)

    def _answered(self, status: int, reason: str = "") -> None:
        """Take the final response to a NOTIFY; 408 without one."""
        self.state.answered(status)
        if self.state.is_terminated:
            self._finish(End("peer", "refused", status, reason))

    def _finish(self, end: End) -> None:
        is_first = self.end is None
        super()._finish(end)
        if is_first and self._on_end is not None:
            self._on_end()

    def _expire(self, now: float) -> None:
        self.state.expire(now)
        if self.state.is_terminated and self.end is None:
            # the NOTIFY may have a name to resolve, and this is the hub
            self.state.side = "peer", "timeout"
            self.stack.callbacks.spawn(self._try)

    def _try(self) -> None:
        """Send a NOTIFY that no greenlet of the application waits for."""
        if self.end is not None:
            return  # the last one was sent meanwhile
        try:
            if self._state_of is not None:
                self._body = with_content_type(self._state_of(), self.content_type, self.package)
        except Exception as error:
            # the state is the application's, and a NOTIFY follows each SUBSCRIBE (§4.2.1.2)
            self.dialog.warn("state of a subscription not read", error)
        try:
            if self.end is None:  # the state may have taken its time
                self._send()
        except Exception as error:  # middleware may raise anything, and this greenlet is ours
            self.dialog.warn("NOTIFY not sent", error)


class _Notify(ClientTransaction):
    """A NOTIFY whose response no greenlet waits for."""

    __slots__ = ("_of",)

    def __init__(self, of: NotifierUsage, request: Request) -> None:
        super().__init__(of.stack, request)
        self._of = of

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Exception):
            self._of._answered(408)
        elif event.status >= 200:
            self._of._answered(event.status, event.reason)
            self._of._end_dialog(event)

    @property
    def _is_awaited(self) -> bool:
        return True
