"""Notifier: a subscription of a peer, as the core holds it that has accepted it, RFC 6665 §4.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ...arguments import seconds as check_seconds
from ...arguments import whole
from ...errors import InvalidValue
from ...message.message import Request
from ...runtime.clock import Clock
from ..element import Element, ServedRequest
from ..inbox import Inbox
from .call import Holder
from .end import End
from .event_package import Package, event_of, package_of, with_content_type
from .notifier_usage import NotifierUsage
from .state import DialogState
from .subscription_state import REASONS

State = bytes | str | Callable[[], "bytes | str"]
"""The state that a NOTIFY tells: bytes, text, or a callable that returns the present one."""

Self = TypeVar("Self", bound="Notifier")


def as_bytes(state: State) -> bytes:
    """Return a state as bytes."""
    value = state() if callable(state) else state
    return value.encode() if isinstance(value, str) else bytes(value)


class Notifier:
    """A peer that has subscribed to us: tell it each new state by notify().

        @stack.on("SUBSCRIBE")
        def presence(request, tx):
            with tx.accept_subscription("presence", body=document) as notifier:
                while not notifier.wait(60):
                    notifier.notify(document())

    The stack answers the SUBSCRIBEs that refresh the subscription or end it, and sends the NOTIFY
    that follows each. It ends a subscription that was not refreshed in time (RFC 6665 §4.2.1.4).
    Leaving the `with` block ends it.
    """

    def __init__(self, clock: Clock, request: Request, body: State) -> None:
        self.request = request
        """The SUBSCRIBE that has begun it."""
        self._inbox: Inbox[None] = Inbox(clock)
        self._state = body
        self._usage: NotifierUsage
        self._holder: Holder | None = None

    def _begin(
        self,
        dialog: DialogState,
        package: Package,
        *,
        event_id: str | None,
        content_type: str,
        asked: int,
        is_pending: bool,
        first: bytes,
    ) -> None:
        """Send the first NOTIFY, with this state. Raises SIPError."""
        usage = self._usage = NotifierUsage(
            dialog,
            package,
            event_id=event_id,
            content_type=content_type,
            state_of=lambda: as_bytes(self._state),
            on_end=self._ended,
        )
        usage.begin(first, asked=asked, is_pending=is_pending)

    def _ended(self) -> None:
        self._core_returned()
        self._inbox.wake()

    def _core_returned(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder._release(self)

    @property
    def end(self) -> End | None:
        """How the subscription has ended; None before. The cause is "unsubscribed", "timeout",
        "refused" for a NOTIFY that was refused, "terminated" by close(), or "stopped"."""
        return self._usage.end

    @property
    def state(self) -> str:
        """ "pending", "active" or "terminated"."""
        return self._usage.state.state.value

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the subscription has ended, for at most `seconds`. True when it has.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
        """
        return self._inbox.wait(lambda: self.end is not None, check_seconds("seconds", seconds))

    def notify(self, body: State | None = None) -> None:
        """Send a NOTIFY with a new state (§4.2.2). Does nothing after the end.

        This method does not wait for the response. A peer that refuses it ends the subscription.

        Args:
            body: The state; by default the last one, or what its callable returns now.

        Raises:
            InvalidValue: The state has no Content-Type.
            TransportError: It cannot be sent. The subscription has ended then.
        """
        if body is not None:
            self._state = body
        if self.end is None:
            self._usage.notify(as_bytes(self._state))

    def activate(self, body: State | None = None) -> None:
        """Grant a subscription that is pending, and send a NOTIFY. Raises TransportError."""
        self._usage.state.grant()
        self.notify(body)

    def close(
        self,
        body: State | None = None,
        *,
        reason: str = "noresource",
        retry_after: int | None = None,
    ) -> None:
        """End the subscription by a last NOTIFY (§4.2.2). Does nothing after the end.

        Args:
            body: The last state.
            reason: Why, and whether the peer should subscribe again: a reason of §4.1.3,
                "deactivated", "probation", "rejected", "timeout", "giveup", "noresource" or
                "invariant".
            retry_after: Seconds after which the peer may subscribe again, for "probation" and
                "giveup".

        Raises:
            InvalidValue: The reason is unknown.
            TransportError: The NOTIFY cannot be sent. The subscription has ended anyway.
        """
        if reason not in REASONS:
            raise InvalidValue(
                f"reason must be one of {', '.join(sorted(REASONS))}, got {reason!r}: "
                'write reason="noresource"'
            )
        if retry_after is not None:
            whole("retry_after", retry_after)
        if body is not None:
            self._state = body
        if self.end is None:
            last = self._usage._body
            try:
                last = as_bytes(self._state)
            finally:  # the state may raise
                self._usage.notify(last, reason=reason, retry_after=retry_after)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Notifier {self._usage.package.name} {self.end or self.state}>"


class Subscribed(ServedRequest, Protocol):
    """A SUBSCRIBE that a core serves: a ServerTransaction."""

    @property
    def stack(self) -> Element:
        """The element that has received it."""


def accept(
    tx: Subscribed,
    events: tuple[str, ...],
    body: State,
    *,
    content_type: str,
    is_pending: bool,
    headers: dict[str, Any],
) -> Notifier:
    """Accept a SUBSCRIBE; see ServerTransaction.accept_subscription()."""
    if not events or not all(isinstance(event, str) for event in events):
        raise TypeError(
            "accept_subscription() takes the event types that are served: write "
            'tx.accept_subscription("presence", body=document)'
        )
    request, stack = tx.request, tx.stack
    event = event_of(request, events)
    package = package_of(event)
    asked = package.check(request)
    stack.dialogs.admit_subscription(request)
    granted = min(asked, package.longest)
    response = request.response(200, **headers)
    wanted = response.expires
    if wanted is not None:  # of the application, which may shorten it and not lengthen (§4.2.1.1)
        granted = min(granted, wanted)
    response.expires = granted
    notifier = Notifier(stack.clock, request, body)
    dialog = stack.dialogs.of_request(request, response)
    assert isinstance(dialog, DialogState)  # of a stack
    try:
        # it may raise, and a NOTIFY must follow the 200 (§4.2.1.2)
        first = with_content_type(as_bytes(body), content_type or package.content_type, package)
        tx._hold(notifier)  # before the response is sent, so that the core is not counted overdue
        tx.respond(response)
        notifier._begin(
            dialog, package, event_id=event.id, content_type=content_type, asked=granted,
            is_pending=is_pending, first=first,
        )  # fmt: skip
    except BaseException:
        notifier._core_returned()
        raise
    finally:
        stack.dialogs.release(dialog.id)  # if it has none
    return notifier
