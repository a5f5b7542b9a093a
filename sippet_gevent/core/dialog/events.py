"""CallEvent: what happens in a call, as `call.events()` tells it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ...errors import TransactionStateError
from ...message.message import Request, Response
from ...message.sdp import MediaStream
from ...message.uri import URI
from ..inbox import Inbox
from .end import End

EVENTS = 100
"""Most events that wait for one call. The oldest one is dropped first, because a peer can send any
number of digits to a call whose core reads none."""


class Following(Protocol):
    """A transfer that the peer asks for: a Referral of referral.py."""

    @property
    def uri(self) -> URI:
        """The URI to call."""

    def accept(self) -> None:
        """Accept it, for an application that reaches the target by itself."""

    def refuse(self, status: int = 603, reason: str | None = None, **headers: Any) -> None:
        """Refuse it."""

    def follow(
        self,
        *,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        timeout: float | None = None,
        **headers: Any,
    ) -> Any:
        """Accept it, call the target, and return that Call."""

    def progress(self, response: int | Response) -> None:
        """Tell the peer a provisional response of the target."""

    def finish(self, response: int | Response) -> None:
        """Tell the peer the final response of the target."""


class Answerable(Protocol):
    """A request that an event tells of: a ServerTransaction."""

    @property
    def answered(self) -> int:
        """Status of the final response; 0 before."""

    @property
    def cancelled(self) -> bool:
        """True when a BYE or CANCEL has ended it."""

    @property
    def referral(self) -> Following | None:
        """What a REFER asks for."""

    def respond(
        self,
        status: int | Response,
        reason: str | None = None,
        *,
        reliable: bool = False,
        body: bytes | str = b"",
        **headers: Any,
    ) -> None:
        """Send a response."""


class CallEvent:
    """Something that happened in a call.

    | kind | what happened |
    |---|---|
    | digit | the peer sent a `digit` by INFO, as application/dtmf-relay or application/dtmf |
    | transfer | the peer asks for a transfer, see `referral`, which accepts or refuses it |
    | progress | the peer tells how our transfer() goes on, by a `status` |
    | request | a `request` that neither a handler nor the core serves; respond() answers it |
    | identity | the peer has told another identity by a `request`; see `call.remote_identity` |
    | hold, resume | the peer has held or resumed the call; `call.remote_sdp` says how |
    | end | the call has ended, as `end` says; no event follows |

    `seconds` is how long the key of a digit was pressed.
    """

    __slots__ = ("digit", "end", "is_passed", "kind", "request", "seconds", "status", "tx")

    def __init__(
        self,
        kind: str,
        request: Request | None = None,
        *,
        digit: str = "",
        seconds: float = 0.0,
        status: int = 0,
        tx: Answerable | None = None,
        end: End | None = None,
    ) -> None:
        self.kind = kind
        """What happened, see the table."""
        self.request = request
        """The request of the peer, if there is one."""
        self.digit = digit
        """The key: 0 to 9, `*`, `#`, A to D, or `!` for a hook flash. Empty for other events."""
        self.seconds = seconds
        """How long the key was pressed."""
        self.status = status
        """The status of the target of a transfer; 0 for other events."""
        self.tx = tx
        self.end = end
        """How the call has ended."""
        self.is_passed = False
        """True when the core has gone on to the next event."""

    @property
    def method(self) -> str:
        """The method of the request; empty without one."""
        return "" if self.request is None else self.request.method

    @property
    def referral(self) -> Following | None:
        """The transfer that the peer asks for; None for other events."""
        return None if self.tx is None else self.tx.referral

    def respond(
        self,
        status: int | Response,
        reason: str | None = None,
        *,
        body: bytes | str = b"",
        **headers: Any,
    ) -> None:
        """Answer the request of the event. One that is not answered before the next event is
        refused, as if the core did not read events. Nothing happens if the peer has hung up.

        Args:
            status: A status, or a whole Response made with `event.request.response()`.
            reason: The reason phrase; by default that of the status.
            body: The body.
            headers: Header fields, by attribute name.

        Raises:
            TransactionStateError: The event has no request, or it is answered already.
        """
        if self.tx is None:
            raise TransactionStateError(f"a {self.kind} event has nothing to answer")
        if not self.tx.cancelled:
            self.tx.respond(status, reason, body=body, **headers)

    def __repr__(self) -> str:
        what = self.digit or self.method or str(self.end or "")
        return f"<CallEvent {self.kind} {what}>"


class EventQueue:
    """The events of one call that its core has not read.

    Args:
        inbox: Where greenlets of the call wait.
        end: How the call has ended, or None.
    """

    __slots__ = ("_events", "_inbox", "end", "is_read")

    def __init__(self, inbox: Inbox[None], end: End | None) -> None:
        self._inbox = inbox
        self.end = end
        """How the call has ended; None before."""
        self._events: deque[CallEvent] = deque()
        self.is_read: bool | None = None
        """True while the core reads events, and False once it waits for something else. None
        before, and between two loops."""

    def put(self, event: CallEvent) -> int:
        """Add an event. Returns how many were dropped at the limit, the oldest first: 0 or 1."""
        dropped = len(self._events) >= EVENTS
        if dropped:
            self._events.popleft().is_passed = True
        self._events.append(event)
        self._inbox.wake()
        return dropped

    def offer(self, event: CallEvent, tx: Answerable, patience: float) -> bool:
        """Offer a request to the core, which may read it. True when the core has answered it.

        Args:
            event: The event of the request.
            tx: The request.
            patience: Seconds to wait for a core that does not read events yet. It may be at its
                first line still, because this request has come right behind the ACK.
        """
        if self.is_read is False:
            return False
        self.put(event)

        def is_over() -> bool:
            return bool(tx.answered or event.is_passed or self.end is not None)

        try:
            if self.is_read is None:
                self._inbox.wait(lambda: self.is_read is not None or is_over(), patience)
            if self.is_read:
                self._inbox.wait(lambda: is_over() or not self.is_read)
        finally:
            if event in self._events:
                self._events.remove(event)
        return bool(tx.answered)

    def decline(self) -> None:
        """Note that the core waits for something else than events."""
        if self.is_read is None:
            self.is_read = False
            self._inbox.wake()

    def read(self, timeout: float | None) -> Iterator[CallEvent]:
        """Yield events, until none comes for `timeout` seconds, or the call has ended."""
        self.is_read = True
        self._inbox.wake()
        events, event = self._events, None
        try:
            while self._inbox.wait(lambda: events or self.end is not None, timeout):
                if not events:
                    yield CallEvent("end", end=self.end)
                    return
                event = events.popleft()
                yield event
                event.is_passed = True
                self._inbox.wake()
        finally:
            self.is_read = None
            if event is not None:
                event.is_passed = True
            self._inbox.wake()

    def __len__(self) -> int:
        return len(self._events)
