"""Subscriptions as usages of a dialog: ours, and those of the peer, RFC 6665 §4.

The states are in subscription_state.py. PACKAGES has a row for each event package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ...errors import ParseError, Reject, SIPError
from ...message.fields.extensions import Event, SubscriptionState
from ...message.message import Request, Response
from ...message.sipfrag import SIPFRAG
from ..client.transaction import ClientTransaction
from ..element import ServedRequest
from .end import End
from .state import DialogState
from .subscription_state import Notifier, Subscriber
from .usage import Usage


class Package(NamedTuple):
    """An event package (RFC 6665 §5.4)."""

    name: str
    """The event type, as in Event."""
    content_type: str
    """The Content-Type of the body of a NOTIFY."""
    longest: int
    """The longest duration that a notifier grants, in seconds."""


REFER = Package("refer", SIPFRAG, 180)  # RFC 3515 §3; longer than timer C

PACKAGES = {package.name: package for package in (REFER,)}
"""The event packages by name."""


class _Subscription(Usage):
    """What both roles have: a package, an id, and a deadline.

    Args:
        dialog: The dialog.
        package: The event package.
        number: CSeq of the REFER that has created the subscription (RFC 3515 §2.4.6). Each id of
            Event is such a number.
    """

    def __init__(self, dialog: DialogState, package: Package, number: int | None = None) -> None:
        self.stack = dialog.element
        self.dialog = dialog
        self.package = package
        self.number = number
        self.end: End | None = None
        self._watch: Watch | None = None
        if dialog.usages:
            self.kept_credentials = dialog.usages[0].kept_credentials
        dialog.usages.append(self)

    def concerns(self, request: Request) -> bool:
        """True if the Event of a request is that of this subscription (RFC 6665 §8.2.1)."""
        try:
            event = request.event
        except ParseError:
            return False
        if event is None or event.value.lower() != self.package.name:
            return False
        return event.id is None or self._has(event.id)

    def _has(self, number: str) -> bool:
        """True if a number is that of the REFER."""
        return self.number is None or number == str(self.number)

    def _refresh_target(self, request: Request) -> None:
        """Take the target of a SUBSCRIBE or NOTIFY that was accepted (RFC 6665 §3.1, §3.2)."""
        if "Contact" in request.headers.fields:
            self.dialog.refresh_by(request)

    def _plan(self, due: float) -> None:
        """Have _expire() called at this time."""
        if self._watch is not None:
            self._watch.owner = None
            self._watch = None
        if not math.isinf(due):
            self._watch = Watch(self)
            self.stack.deadlines.add(due, self._watch)

    def _expire(self, now: float) -> None:
        raise NotImplementedError

    def _finish(self, end: End) -> None:
        """Leave the dialog."""
        if self.end is None:
            self.end = end
            self._plan(math.inf)
            if self in self.dialog.usages:
                self.dialog.usages.remove(self)

    def _drop(self) -> None:
        self._finish(End("stack", "stopped"))


class Subscription(_Subscription):
    """A subscription of ours: gets the NOTIFYs of the peer.

    Args:
        dialog: The dialog.
        package: The event package.
        number: CSeq of the REFER that has created it.
        on_notify: Called with each NOTIFY, before it is answered with 200.
        on_end: Called when the subscription has ended.
    """

    def __init__(
        self,
        dialog: DialogState,
        package: Package,
        number: int | None = None,
        *,
        on_notify: Callable[[Request], object],
        on_end: Callable[[], object],
    ) -> None:
        super().__init__(dialog, package, number)
        self.state = Subscriber(64 * self.stack.engine.timers.t1)
        self._on_notify = on_notify
        self._on_end = on_end
        self._last = math.inf  # the highest CSeq that the REFER may have had

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

    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        if request.method != "NOTIFY" or not self.concerns(request):
            return NotImplemented  # type: ignore[no-any-return]
        text = request.headers.get("Subscription-State")
        if text is None:
            raise Reject(400, "Missing Subscription-State")  # §4.1.3
        self.state.notified(SubscriptionState.parse(text), self.stack.clock.now())
        self._on_notify(request)
        self._check()
        self._refresh_target(request)
        return 200

    def _expire(self, now: float) -> None:
        self.state.expire(now)
        self._check()

    def _check(self) -> None:
        if self.state.is_terminated:
            self._finish(
                End("peer", "terminated", 0, self.state.ended_by.reason or "")
                if self.state.ended_by is not None
                else End("us", "timeout")
            )
            self._on_end()
        elif self.end is None:
            self._plan(self.state.due)


class Notification(_Subscription):
    """A subscription of the peer: sends it NOTIFYs.

    Args:
        dialog: The dialog.
        package: The event package.
        number: CSeq of the REFER that has created it. The Event of each NOTIFY has it as `id`.
    """

    def __init__(self, dialog: DialogState, package: Package, number: int | None = None) -> None:
        super().__init__(dialog, package, number)
        self.state = Notifier(package.longest)
        self._body = b""

    def begin(self, body: bytes) -> None:
        """Grant the subscription, and send its first NOTIFY (§4.2.1.2). Raises SIPError."""
        self.state.subscribed(self.stack.clock.now())
        self.state.grant()
        self._plan(self.state.expires_at)
        self.notify(body)

    def notify(self, body: bytes, *, reason: str | None = None) -> None:
        """Send a NOTIFY, the last one if there is a reason (§4.2.2).

        Does nothing after the end: the subscriber may have ended the subscription.

        Raises:
            SIPError: It cannot be sent. The subscription has ended then.
        """
        self._body = body
        if self.end is not None:
            return
        if reason is not None:
            self.state.end(reason)
        self._send()

    def _send(self) -> None:
        dialog, package = self.dialog, self.package
        event = package.name if self.number is None else f"{package.name};id={self.number}"
        notify = dialog.request(
            "NOTIFY",
            body=self._body,
            content_type=package.content_type,
            event=Event.parse(event),
            subscription_state=self.state.header(self.stack.clock.now()),
        )
        if self.state.is_terminated:
            self._finish(End("us", "terminated", 0, self.state.reason or ""))
        dialog.send(notify, _Notify(self, notify), self)

    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        if request.method != "SUBSCRIBE" or not self.concerns(request):
            return NotImplemented  # type: ignore[no-any-return]
        granted = self.state.subscribed(self.stack.clock.now(), request.expires)
        self._plan(self.state.expires_at if granted else math.inf)
        self._refresh_target(request)
        # a NOTIFY follows each SUBSCRIBE (§4.2.1.2), behind its 200
        self.stack.callbacks.spawn(self._try)
        return request.response(200, expires=granted)

    def _answered(self, status: int) -> None:
        """Take the final response to a NOTIFY; 408 without one."""
        self.state.answered(status)
        if self.state.is_terminated:
            self._finish(End("peer", "refused", status))

    def _expire(self, now: float) -> None:
        self.state.expire(now)
        if self.state.is_terminated and self.end is None:
            # the NOTIFY may have a name to resolve, and this is the hub
            self.stack.callbacks.spawn(self._try)

    def _try(self) -> None:
        """Send a NOTIFY that no greenlet of the application waits for."""
        if self.end is not None:
            return  # the last one was sent meanwhile
        try:
            self._send()
        except SIPError as error:
            self.dialog.warn("NOTIFY not sent", error)


class _Notify(ClientTransaction):
    """A NOTIFY whose response no greenlet waits for."""

    __slots__ = ("_of",)

    def __init__(self, of: Notification, request: Request) -> None:
        super().__init__(of.stack, request)
        self._of = of

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Exception):
            self._of._answered(408)
        elif event.status >= 200:
            self._of._answered(event.status)

    @property
    def _is_awaited(self) -> bool:
        return True


class Watch:
    """A reference to a subscription for a deadline, which the subscription can clear."""

    __slots__ = ("owner",)

    def __init__(self, owner: _Subscription) -> None:
        self.owner: _Subscription | None = owner

    def expire(self, now: float) -> None:
        if self.owner is not None:
            self.owner._expire(now)
