"""Deadlines of one connection: that of its state, of a message, and idleness.

Timers would cost memory for each connection. Instead, the listening point sweeps all connections
now and then, and each connection checks its deadlines.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .channel import Channel
from .state import State
from .transport import StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket


class TimedChannel(Channel):
    """A channel that is closed at a missed deadline.

    A subclass notes in `_heard` when bytes came and in `_started` when an
    incomplete message began.
    """

    __slots__ = (
        "_deadline",
        "_heard",
        "_kept_until",
        "_started",
        "is_lost",
        "state",
        "transactions",
    )

    state: State[Any]
    """The row of the state table. Its functions take the subclass."""

    def __init__(self, transport: StreamTransport, raw: Socket) -> None:
        super().__init__(transport, raw)
        self.transactions = set()
        self.is_lost = False
        self._started: float | None = None  # when the first byte of an incomplete message came
        self._heard = time.monotonic()
        self._deadline: float | None = None
        self._kept_until = 0.0

    # ---- what a subclass implements

    @property
    def is_idle(self) -> bool:
        """True when there is no incomplete message from the peer."""
        return self._started is None

    @property
    def in_header(self) -> bool:
        """True while the header section of an incomplete message has not ended."""
        return True

    # ---- deadlines

    def allow(self, seconds: float | None) -> None:
        """Set the deadline of this state; None for none."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def hurry(self, seconds: float) -> None:
        if self.state.holds and self._deadline is not None:
            self._deadline = min(self._deadline, time.monotonic() + seconds)

    def keep(self, seconds: float) -> None:
        """Do not close for being idle within these seconds. The kernel probes the peer."""
        if not self._kept_until and self._socket is not None and not self._let_kernel_probe():
            return
        self._kept_until = max(self._kept_until, time.monotonic() + seconds)

    def is_alive(self) -> bool:
        """Return False when the peer has closed or reset the connection, also if that is unread.

        The transport calls this before it uses a connection again.
        """
        return self._is_connected() if self.state.is_whole else self.state.holds

    def sweep(self, now: float) -> bool:
        """Close the connection if it missed a deadline, or ping.

        Returns True when that has closed it.
        """
        if self._socket is None:
            return False
        state, started, limits = self.state, self._started, self.transport.limits
        if self._deadline is not None and now >= self._deadline:
            self.close(*state.late)
        elif started is not None and (
            now - started >= limits.message or (self.in_header and now - started >= limits.header)
        ):
            self.close("slow_message", "a message took too long to arrive")
        elif state.sweep is not None and state.sweep(self, now):
            pass
        elif (
            now - self._heard >= limits.idle
            and now >= self._kept_until
            and (not self.transactions or self._queue)
        ):
            self.close("idle", "idle too long")
        return self._socket is None

    def _sweep_half_closed(self, now: float) -> bool:
        """Close the connection when the peer waits for no response any more."""
        if self._owes_answers():
            return False
        self.close()
        return True

    def _owes_answers(self) -> bool:
        """Return True while requests of the peer are unanswered, or answers wait to be written."""
        waiting = (tx.is_unanswered and not tx.machine.is_client for tx in self.transactions or ())
        return bool(self._queue) or any(waiting)
