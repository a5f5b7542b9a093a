"""Subscription: what a SUBSCRIBE or REFER of ours outside a call has begun, RFC 6665 §4.1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from ...arguments import seconds as check_seconds
from ...arguments import whole
from ...errors import ParseError, Reject
from ...message.fields.extensions import SubscriptionState
from ...message.fields.rfc3261 import MAX_DELTA_SECONDS
from ...message.message import Request, Response
from ...transport.listener_choice import Wanted
from ..client.completion import complete
from ..client.retry import Retry
from ..client.sender import Sender
from ..client.targets import NextHop
from ..client.transaction import FORKS, ClientTransaction
from ..element import Element, ServedRequest
from ..inbox import Inbox
from .call import Holder
from .end import End
from .event_package import REFER, Package
from .events import EVENTS
from .state import DialogState
from .subscriber_usage import SubscriberUsage
from .subscription_deadline import SubscriptionDeadline
from .subscription_state import retry_after

Self = TypeVar("Self", bound="Subscription")


class Subscription:
    """A subscription of ours: iterate over the NOTIFYs of the peer.

        with stack.subscribe("sip:bob@example.com", event="presence") as subscription:
            for notify in subscription:
                print(notify.subscription_state.state, notify.body)

    Each NOTIFY is a Request, which was answered with 200 already. The loop ends when the
    subscription has ended. Then `end` says how, and `retry_after` says when to subscribe again.
    Until then the stack refreshes the subscription in time (§4.1.2.2). Leaving the `with` block
    unsubscribes.

    If a proxy forks the SUBSCRIBE, each notifier has a dialog of its own (§4.4.1). The NOTIFYs of
    all are in this object, and differ by their From tag. It ends with the last of them.

    Args:
        stack: The element.
        request: The SUBSCRIBE or REFER. Its From, Call-ID and CSeq are completed here.
        package: The event package.
        refreshes: Seconds that each refresh asks for. None refreshes nothing.
        check: Called with each NOTIFY before it is answered. It refuses one by Reject.
    """

    def __init__(
        self,
        stack: Element,
        request: Request,
        package: Package,
        *,
        refreshes: int | None = None,
        check: Callable[[Request], object] | None = None,
    ) -> None:
        complete(request, stack.identifiers)
        event = request.event
        self.request = request
        """The SUBSCRIBE or REFER, as it was sent."""
        self.response: Response | None = None
        """Its final response."""
        self.end: End | None = None
        """How the subscription has ended; None before. The cause is "terminated" with the reason
        of the last NOTIFY, "unsubscribed", "refused", "timeout" or "stopped"."""
        self.event = package.name
        """The event type."""
        self._stack = stack
        self._package = package
        self._event_id = None if event is None else event.id
        self._refreshes = refreshes
        self._check = check
        self._inbox: Inbox[Request] = Inbox(stack.clock)
        self._usages: list[SubscriberUsage] = []
        self._tags: set[str | None] = set()  # of the notifiers that have or had a dialog
        self._tx: ClientTransaction | None = None
        self._key = request.call_id, request.from_.tag or ""
        self._until = 0.0  # timer N
        self._expires: int | None = None
        self._last: SubscriptionState | None = None
        self._last_end: End | None = None  # of the usage that has ended last
        self._retry_after: float | None = None  # of the refresh that was refused
        self._is_left = False
        self._holder: Holder | None = None

    # ---- for applications

    @property
    def state(self) -> str:
        """The state that the last NOTIFY told: "pending", "active", "terminated" or another word of
        the package. Empty before the first one."""
        return "" if self._last is None else self._last.state

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to subscribe again; None if that makes no sense (§4.1.3).

        It is also None if this program has ended the subscription, or the stack has stopped. It is
        0 before the end, and if the notifier has sent no NOTIFY about the end. If it has refused a
        refresh, its Retry-After counts.
        """
        if self.end is not None and self.end.cause in ("stopped", "unsubscribed"):
            return None
        if self._retry_after is not None:
            return self._retry_after
        return 0.0 if self._last is None else retry_after(self._last)

    def __iter__(self) -> Iterator[Request]:
        return self.notifies()

    def notifies(self, timeout: float | None = None) -> Iterator[Request]:
        """Return an iterator over the NOTIFYs.

        Args:
            timeout: Seconds to wait for the next one. The loop ends when none comes in time.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
        """
        return self._read(check_seconds("timeout", timeout))

    def _read(self, timeout: float | None) -> Iterator[Request]:
        inbox = self._inbox
        while inbox.wait(lambda: len(inbox) or self.end is not None, timeout):
            if not len(inbox):
                return
            yield inbox.get()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the subscription has ended. True when it has. Raises Cancelled."""
        return self._inbox.wait(lambda: self.end is not None, check_seconds("seconds", seconds))

    def refresh(self, expires: int | None = None) -> None:
        """Send a SUBSCRIBE now. The NOTIFY that follows has the whole state (§4.1.2.2).

        Args:
            expires: Seconds to ask for, from now on. By default as before.

        Raises:
            TransportError: It cannot be sent.
        """
        if expires is not None:
            self._refreshes = whole("expires", expires, 1, MAX_DELTA_SECONDS)
        for usage in [*self._usages]:
            usage.refreshes = self._refreshes
            usage.subscribe(self._refreshes or self._package.default)

    def unsubscribe(self) -> None:
        """End the subscription (§4.1.2.3). Does not wait for the last NOTIFY, which notifies()
        still yields. Does nothing after the end."""
        self._is_left = True
        if not self._usages and self.end is None:
            self._finish(End("us", "unsubscribed"))  # a NOTIFY that follows gets 481
        for usage in [*self._usages]:
            usage._subscribe(0)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.unsubscribe()

    def __repr__(self) -> str:
        return f"<Subscription {self.event} {self.end or self.state}>"

    # ---- the request

    def _send(
        self,
        sender: Sender,
        next_hop: NextHop | None,
        listener: Wanted,
        retry: Retry | None,
        timeout: float | None,
    ) -> Response:
        """Send the request, and return its 2xx. NOTIFYs may come before (§4.4.1).

        Raises:
            Reject: The peer has refused.
            TransactionTimeout, TransportError, Cancelled: As for Stack.request().
        """
        stack = self._stack
        stack.dialogs.subscribing(*self._key, self)
        self._begin_timer_n()
        number = self.request.cseq.number
        try:
            tx = self._tx = sender.send(self.request, next_hop, listener=listener, retry=retry)
            response = self.response = tx.final(None, timeout)
            if not response.is_success:
                raise Reject(response.status, response.reason, response=response)
        except BaseException:
            self._forget()
            raise
        self.request = tx.request
        if tx.request.cseq.number != number:  # the first one was challenged, or too brief
            self._begin_timer_n()
        try:
            self._expires = response.expires
        except ParseError:
            self._expires = None
        for usage in [*self._usages]:
            usage.answered(response.status, self._expires)
        return response

    def _forget(self) -> None:
        """Forget the subscription, because it was refused or is not wanted. A NOTIFY gets 481."""
        for usage in [*self._usages]:
            usage.cancel()
        self._finish(End("peer", "refused", 0 if self.response is None else self.response.status))

    # ---- timer N

    def _begin_timer_n(self) -> None:
        """Wait for NOTIFYs of new dialogs for 64*T1 (§4.1.2.4)."""
        stack = self._stack
        self._until = stack.clock.now() + 64 * stack.engine.timers.t1
        stack.deadlines.add(self._until, SubscriptionDeadline(self, self._until))

    def _expire(self, now: float) -> None:
        """Take the end of timer N."""
        if now >= self._until:
            self._stack.dialogs.subscribing(*self._key, None)
            if not self._usages:
                self._finish(self._last_end or End("us", "timeout"))

    # ---- NOTIFYs

    def _serve(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Serve the NOTIFY that creates a dialog and its subscription (§4.4.1)."""
        tag = request.from_.tag
        if self.end is not None or len(self._tags) >= FORKS or tag in self._tags:
            raise Reject(481)
        stack = self._stack
        dialog = stack.dialogs.of_request(request, request.response(200))
        assert isinstance(dialog, DialogState)  # of a stack
        sent = self._tx
        dialog.local_cseq = (self.request if sent is None else sent.request).cseq.number
        if sent is not None and sent.by_flow:
            dialog.flow = sent.transaction.flow
        usage = SubscriberUsage(
            dialog,
            self._package,
            event_id=self._event_id,
            on_notify=self._notified,
            on_end=self._usage_ended,
            refreshes=self._refreshes,
        )
        if sent is not None and sent.retry is not None:
            address = sent.transaction.flow.remote[0]
            usage.kept_credentials = sent.retry.kept_credentials(address)
        usage.subscribed()
        try:
            if self.response is not None:
                usage.answered(self.response.status, self._expires)
            self._usages.append(usage)
            self._tags.add(tag)  # before this NOTIFY ends the subscription
            result = usage._receive(request, tx)
        except BaseException:
            self._undo(usage)
            raise
        if result is NotImplemented:  # another event
            self._undo(usage)
            raise Reject(481)
        return result

    def _undo(self, usage: SubscriberUsage) -> None:
        usage.cancel()
        self._tags.discard(usage.dialog.remote.tag)
        if usage in self._usages:
            self._usages.remove(usage)

    def _notified(self, notify: Request) -> None:
        if self._check is not None:
            self._check(notify)
        self._last = SubscriptionState.parse(notify.headers["Subscription-State"])
        if len(self._inbox) >= EVENTS:  # the application reads none: keep the latest
            self._inbox.get()
            self._stack.dialogs.events_dropped += 1
        self._inbox.put(notify)

    def _usage_ended(self) -> None:
        """Note that one of the subscriptions has ended: the last one ends all.

        A REFER may have been forked, and another peer may reach the target. Its first NOTIFY can
        come until timer N has fired (§4.4.1, RFC 3515 §4.6).
        """
        ended = [usage for usage in self._usages if usage.end is not None]
        self._usages = [usage for usage in self._usages if usage.end is None]
        if not self._usages and ended:
            last = ended[-1]
            assert last.end is not None
            self._last_end, self._retry_after = last.end, last.retry_after
            waits = self._stack.clock.now() < self._until and last.end.cause != "stopped"
            if not (waits and self._package is REFER and self._is_forked):
                self._finish(last.end)

    @property
    def _is_forked(self) -> bool:
        """True if notifiers have answered that are not the one of the 2xx."""
        of_2xx = set() if self.response is None else {self.response.to.tag}
        return len(self._tags | of_2xx) > 1

    def _others(self, tags: set[str | None]) -> bool:
        """True if the subscription of another notifier, with none of these tags, still lasts, or
        may begin."""
        if not self._usages:
            return self.end is None
        return any(usage.dialog.remote.tag not in tags for usage in self._usages)

    def _finish(self, end: End) -> None:
        if self.end is None:
            self.end = end
            self._stack.dialogs.subscribing(*self._key, None)
            self._core_returned()
            self._inbox.wake()

    def _core_returned(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder._release(self)

    def _drop(self) -> None:
        """End without a message to the peer, because the stack has stopped."""
        self._finish(End("stack", "stopped"))
