"""Deadlines of one connection, for its state, a message, a pong and idleness.

Timers would cost memory for each connection. Instead, the listening point sweeps all connections
now and then, and each connection checks its deadlines.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...errors import TransportError
from .channel import Channel
from .state import State
from .transport import StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket


class TimedChannel(Channel):
    """A channel that is closed at a missed deadline.

    A subclass implements `ping()`, and notes in `_heard` when bytes came and in `_started` when an
    incomplete message began.
    """

    __slots__ = (
        "_deadline",
        "_heard",
        "_kept_until",
        "_pinged",
        "_probed",
        "_started",
        "is_lost",
        "state",
        "transactions",
    )

    probes = True
    state: State[Any]
    """The row of the state table. Its functions take the subclass."""

    def __init__(self, transport: StreamTransport, raw: Socket) -> None:
        super().__init__(transport, raw)
        self.transactions = set()
        self.is_lost = False
        self._pinged = False
        self._probed = 0.0  # when we sent the last ping
        self._started: float | None = None  # when the first byte of an incomplete message came
        self._heard = time.monotonic()
        self._deadline: float | None = None
        self._kept_until = 0.0

    # ---- what a subclass implements

    def ping(self) -> None:
        """Ask the peer whether it is there. Raises TransportError."""
        raise TypeError(f"{type(self).__name__} lacks .ping()")

    @property
    def ping_after(self) -> float:
        """Seconds of silence after which we ping; 0 for never."""
        return 0.0

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

    def probe(self) -> None:
        if self.state.is_whole and not self._pinged and not self._queue:
            self._pinged = True
            self._probed = time.monotonic()
            self.ping()

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

    def _sweep_open(self, now: float) -> bool:
        """Ping a silent peer, and close the connection when it does not answer."""
        if self._pinged and now - self._probed >= self.transport.limits.pong:
            self.is_lost = True
            self.close("no_pong", "the peer does not answer a ping (RFC 5626 §4.4.1)")
            return True
        after = self.ping_after
        if not after or self._queue:
            return False
        if now - self._heard >= after:
            try:
                self.probe()
            except TransportError:
                pass  # the connection is closed
        return True

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
