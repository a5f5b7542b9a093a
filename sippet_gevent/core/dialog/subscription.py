"""Subscriptions as usages of a dialog: ours, and those of the peer, RFC 6665 §4.

The states are in subscription_state.py, the event packages in event_package.py. A usage outlives
the call of its dialog (RFC 5057 §4.2): the dialog ends with its last usage.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

from ...errors import ParseError, Reject, SIPError
from ...message.fields.extensions import Event, SubscriptionState
from ...message.message import Request, Response
from ..client.transaction import ClientTransaction
from ..element import ServedRequest
from .effects import Effect, effect_of
from .end import End
from .event_package import REFER, Package, with_content_type
from .state import DialogState
from .subscription_state import NotifierState, SubscriberState
from .usage import Usage
from .watch import Watch

LEAST = 1.0
"""Least seconds between two refreshes of a subscription, whatever durations the peer grants."""


class EventUsage(Usage):
    """What both roles have: a package, an id, and a deadline.

    Args:
        dialog: The dialog.
        package: The event package.
        number: CSeq of the REFER that has created the subscription (RFC 3515 §2.4.6). Each id of
            Event is such a number.
        event_id: The id of Event, for other packages (RFC 6665 §8.2.1).
    """

    def __init__(
        self,
        dialog: DialogState,
        package: Package,
        number: int | None = None,
        event_id: str | None = None,
    ) -> None:
        self.stack = dialog.element
        self.dialog = dialog
        self.package = package
        self.number = number
        self.event_id = event_id
        self.end: End | None = None
        self._watch: Watch | None = None
        if dialog.usages:
            self.kept_credentials = dialog.usages[0].kept_credentials
        dialog.usages.append(self)
        self.stack.dialogs.subscriptions += 1

    def concerns(self, request: Request) -> bool:
        """True if the Event of a request is that of this subscription (RFC 6665 §8.2.1)."""
        try:
            event = request.event
        except ParseError:
            return False
        if event is None or event.value.lower() != self.package.name:
            return False
        if self.package is not REFER:
            return event.id == self.event_id
        return event.id is None or self._has(event.id)

    def _has(self, number: str) -> bool:
        """True if a number is that of the REFER."""
        return self.number is None or number == str(self.number)

    @property
    def event(self) -> Event:
        """The Event of our requests."""
        number = self.event_id if self.number is None else self.number
        name = self.package.name
        return Event.parse(name if number is None else f"{name};id={number}")

    def _refresh_target(self, request: Request) -> None:
        """Take the target of a SUBSCRIBE or NOTIFY that was accepted (RFC 6665 §3.1, §3.2)."""
        if "Contact" in request.headers.fields:
            self.dialog.refresh_by(request)

    def _plan(self, due: float) -> None:
        """Have _expire() called at this time."""
        deadlines, watch = self.stack.deadlines, self._watch
        if watch is not None:
            watch.owner = self._watch = None
            deadlines.remove(watch.due, watch)  # it may be an hour off
        if not math.isinf(due):
            self._watch = Watch(self, due)
            deadlines.add(due, self._watch)

    @abstractmethod
    def _expire(self, now: float) -> None: ...

    def _finish(self, end: End) -> None:
        """Leave the dialog, which ends with its last usage."""
        if self.end is None:
            self.end = end
            self._plan(math.inf)
            self._leave_dialog()
            self.stack.dialogs.subscriptions -= 1
            self.stack.dialogs.release(self.dialog.id)

    def _drop(self) -> None:
        self._finish(End("stack", "stopped"))

    def _end_with_dialog(self, status: int, reason: str) -> None:
        self._finish(End("peer", "refused", status, reason))

    def _end_dialog(self, response: Response) -> None:
        """End all usages of the dialog, if the refusal of a request of ours does (RFC 5057
        §5.1)."""
        if effect_of(response.cseq.method, response.status) is Effect.DIALOG:
            self.dialog.ended_by(response.status, response.reason)


class SubscriberUsage(EventUsage):
    """A subscription of ours: gets the NOTIFYs of the peer.

    Args:
        dialog: The dialog.
        package: The event package.
        number: CSeq of the REFER that has created it.
        event_id: The id of Event.
        on_notify: Called with each NOTIFY, before it is answered with 200.
        on_end: Called when the subscription has ended.
        refreshes: Seconds that each refresh asks for. None refreshes nothing.
    """

    def __init__(
        self,
        dialog: DialogState,
        package: Package,
        number: int | None = None,
        event_id: str | None = None,
        *,
        on_notify: Callable[[Request], object],
        on_end: Callable[[], object],
        refreshes: int | None = None,
    ) -> None:
        super().__init__(dialog, package, number, event_id)
        self.state = SubscriberState(64 * self.stack.engine.timers.t1, package.default)
        self.refreshes = refreshes
        self._on_notify = on_notify
        self._on_end = on_end
        self._last = math.inf  # the highest CSeq that the REFER may have had
        self._refresh_at = math.inf
        self._refreshed_at = -math.inf
        self._is_leaving = False
        self._refusal: Response | None = None
        self._not_before = -math.inf

    def _has(self, number: str) -> bool:
        # a REFER that was challenged has another CSeq than the first one
        return self.number is None or (
            len(number) < 11 and number.isdecimal() and self.number <= int(number) <= self._last
        )

    def subscribed(self) -> None:
        """Note that the request that asks for the subscription leaves now."""
        self.state.subscribed(self.stack.clock.now())
        self._plan(self.state.due)

    def answered(self, status: int, expires: int | None = None) -> None:
        """Note the final response to that request."""
        self._last = self.dialog.local_cseq
        self.state.answered(status, self.stack.clock.now(), expires)
        self._check()

    def cancel(self) -> None:
        """Forget the subscription, because the peer has created none (RFC 4488 §4)."""
        self._finish(End("peer", "refused"))

    # ---- SUBSCRIBE within the dialog

    def subscribe(self, seconds: int) -> None:
        """Send a SUBSCRIBE that refreshes the subscription, or ends it with 0 (§4.1.2.2,
        §4.1.2.3). Raises SIPError."""
        if self.end is not None or self._is_leaving:
            return
        if not seconds:
            self._is_leaving = True
            self.state.leave()
        self._refresh_at = math.inf
        self._refreshed_at = self.stack.clock.now()
        self.subscribed()
        request = self.dialog.request(
            "SUBSCRIBE", event=self.event, expires=seconds, **self.package.accepts
        )
        self.dialog.send(request, _Subscribe(self, request), self)

    def _subscribe(self, seconds: int) -> None:
        """Send a SUBSCRIBE that no greenlet of the application waits for."""
        try:
            self.subscribe(seconds)
        except SIPError as error:
            self.dialog.warn("SUBSCRIBE not sent", error)

    def _resubscribed(self, response: Response) -> None:
        """Take the final response to a SUBSCRIBE within the dialog."""
        if self.end is not None:
            return
        if response.is_success:
            if "Contact" in response.headers.fields:
                self.dialog.refresh_from(response)
        else:
            self._refusal = response
            self._not_before = self.stack.clock.now() + (self.retry_after or 0)
        try:
            expires = None if self._is_leaving else response.expires
        except ParseError:
            expires = None
        self.answered(response.status, expires)
        self._end_dialog(response)

    @property
    def retry_after(self) -> float | None:
        """The Retry-After of a SUBSCRIBE within the dialog that was refused; None without one."""
        try:
            value = None if self._refusal is None else self._refusal.retry_after
        except ParseError:
            return None
        return None if value is None else value.seconds

    # ---- NOTIFY

    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        if request.method != "NOTIFY" or not self.concerns(request):
            return NotImplemented  # type: ignore[no-any-return]
        text = request.headers.get("Subscription-State")
        if text is None:
            raise Reject(400, "Missing Subscription-State")  # §4.1.3
        state = SubscriptionState.parse(text)
        self._on_notify(request)  # which may refuse it, so nothing has changed before
        self.state.notified(state, self.stack.clock.now())
        self._check()
        self._refresh_target(request)
        return 200

    def _expire(self, now: float) -> None:
        if now >= self._refresh_at and self.refreshes and now < self.state.due:
            self._refresh_at = math.inf
            self._plan(self.state.due)
            # a name may have to be resolved, and this is the hub
            self.stack.callbacks.spawn(self._subscribe, self.refreshes)
            return
        self.state.expire(now)
        self._check()

    def _check(self) -> None:
        if self.state.is_terminated:
            if self.end is None:
                self._finish(self._how())
                self._on_end()
        elif self.end is None:
            self._refresh_at = self._next_refresh()
            self._plan(min(self.state.due, self._refresh_at))

    def _how(self) -> End:
        """Return how the subscription has ended."""
        by = self.state.ended_by
        reason = "" if by is None else by.reason or ""
        if self._is_leaving:
            return End("us", "unsubscribed", 0, reason)
        if by is not None:
            return End("peer", "terminated", 0, reason)
        if self._refusal is not None and not self.state.has_timed_out:
            return End("peer", "refused", self._refusal.status, self._refusal.reason)
        return End("us", "timeout")

    def _next_refresh(self) -> float:
        """Return when to refresh: 64*T1 before the end, so that the SUBSCRIBE may be repeated, or
        after half of a shorter duration."""
        expires_at = self.state.expires_at
        if not self.refreshes or self._is_leaving or math.isinf(expires_at):
            return math.inf
        if not math.isinf(self.state.notify_by):
            return math.inf  # one is under way
        now = self.stack.clock.now()
        lead = min((expires_at - now) / 2, 64 * self.stack.engine.timers.t1)
        return max(
            expires_at - lead,
            self._refreshed_at + LEAST,
            self._not_before,  # RFC 5057 §5.1 note 13; it may end the subscription
        )

    def _drop(self) -> None:
        super()._drop()
        self._on_end()

    def _end_with_dialog(self, status: int, reason: str) -> None:
        if self.end is None:
            super()._end_with_dialog(status, reason)
            self._on_end()


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
            return NotImplemented  # type: ignore[no-any-return]
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
        except Exception as error:  # of the application; the NOTIFY has to follow anyway
            self.dialog.warn("state of a subscription not read", error)
        try:
            if self.end is None:  # the state may have taken its time
                self._send()
        except Exception as error:
            self.dialog.warn("NOTIFY not sent", error)


class _Subscribe(ClientTransaction):
    """A SUBSCRIBE within a dialog whose response no greenlet waits for."""

    __slots__ = ("_of",)

    def __init__(self, of: SubscriberUsage, request: Request) -> None:
        super().__init__(of.stack, request)
        self._of = of

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Exception):
            self._of.answered(408)
        elif event.status >= 200:
            self._of._resubscribed(event)

    @property
    def _is_awaited(self) -> bool:
        return True


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
