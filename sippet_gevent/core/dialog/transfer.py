"""call.transfer(): a REFER of ours within a call, and its outcome by NOTIFYs, RFC 3515 and 5589."""

from __future__ import annotations

from typing import Any

from ...arguments import seconds as check_seconds
from ...errors import Reject, TransactionStateError, TransactionTimeout
from ...message.fields.refer import ReferredBy
from ...message.message import Request
from ...message.uri import URI
from .call import Call, OnProgress
from .event_package import REFER
from .events import CallEvent
from .invite import InviteSession
from .refer import (
    fragment_of,
    refer_to,
    wants_none,
)
from .subscriber_usage import SubscriberUsage


class ReferringSession(InviteSession):
    """A call that can be transferred."""

    def transfer(
        self,
        target: URI | str | Call,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        subscribe: bool = True,
        **headers: Any,
    ) -> None:
        timeout = check_seconds("timeout", timeout)
        now = self.stack.clock.now
        deadline = None if timeout is None else now() + timeout
        if not subscribe:
            headers.setdefault("refer_sub", "false")
        headers.setdefault("referred_by", ReferredBy(self.dialog.local.uri))
        progress = _Progress(self, on_progress)
        where = refer_to(target)
        subscription = progress.subscription = SubscriberUsage(
            self.dialog,
            REFER,
            self.dialog.local_cseq + 1,
            on_notify=progress.notified,
            on_end=self.wake,
        )
        subscription.subscribed()
        try:
            response = self.request("REFER", timeout=timeout, refer_to=where, **headers)
        except BaseException:
            subscription.cancel()
            raise
        subscription.answered(response.status)
        if not response.is_success:
            raise Reject(response.status, response.reason, response=response)
        if wants_none(response):  # RFC 4488 §4: the peer has created none
            subscription.cancel()
        elif subscribe:
            progress.wait(None if deadline is None else deadline - now())

    def _tell(self, notify: Request, status: int) -> None:
        """Add an event for a NOTIFY. After the end of the call no event follows."""
        if self.end is not None:
            return
        event = CallEvent("progress", notify, status=status)
        self.stack.dialogs.events_dropped += self._events().put(event)


class _Progress:
    """What the peer tells about one transfer."""

    def __init__(self, session: ReferringSession, on_progress: OnProgress | None) -> None:
        self._session = session
        self._on_progress = on_progress
        self.subscription: SubscriberUsage | None = None
        self.status = 100
        self.reason = ""

    def notified(self, notify: Request) -> None:
        """Take a NOTIFY. Raises Reject for one without a status."""
        fragment = fragment_of(notify)
        self.status, self.reason = fragment.status or 0, fragment.reason or ""
        self._session._tell(notify, self.status)
        if self._on_progress is not None:
            try:
                self._on_progress(fragment)
            except (
                Exception
            ) as error:  # of the application; the NOTIFY was in order, so it gets 200
                self._session.warn("on_progress raised", error)

    def wait(self, seconds: float | None) -> None:
        """Wait for the outcome. Raises Reject if the target was not reached.

        A peer that hangs up has usually reached it (RFC 5589 §6.1), and an application that hangs
        up does not want to know (RFC 5359 §2.4). But a call that fails, or a subscription that ends
        before a final status, leaves the outcome unknown, because the last NOTIFY has to have one
        (RFC 3515 §2.4.5).
        """
        session, subscription = self._session, self.subscription
        assert subscription is not None  # transfer() has set it
        if not session._inbox.wait(
            lambda: subscription.end is not None or session.end is not None or self.status >= 200,
            seconds,
        ):
            raise TransactionTimeout("the outcome of the transfer is not known in time")
        if self.status >= 300:
            raise Reject(self.status, self.reason)
        if self.status >= 200:
            return
        if session.end is not None:
            if session.end.cause != "bye" and session.end.by != "peer":
                raise TransactionStateError(f"the call has ended: {session.end}")
        elif subscription.end is not None:
            raise TransactionTimeout("the peer does not say how the transfer goes on")
