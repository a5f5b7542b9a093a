"""SubscriberUsage: a subscription of ours within its dialog, RFC 6665 §4.1."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...errors import ParseError, Reject, SIPError
from ...message.fields.extensions import SubscriptionState
from ...message.message import Request, Response
from ..client.transaction import ClientTransaction
from ..element import ServedRequest
from .end import End
from .event_package import Package
from .state import DialogState
from .subscription_state import SubscriberState
from .subscription_usage import EventUsage

LEAST = 1.0
"""Least seconds between two refreshes of a subscription, whatever durations the peer grants."""


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
            return NotImplemented  # type: ignore[no-any-return]  # leaves it to the core
        text = request.headers.get("Subscription-State")
        if text is None:
            raise Reject(400, "Missing Subscription-State")  # §4.1.3
        state = SubscriptionState.parse(text)
        try:
            self._on_notify(request)  # which may refuse it, so nothing has changed before
        except Reject as refusal:
            self._refused("NOTIFY", refusal.status)
            raise
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
