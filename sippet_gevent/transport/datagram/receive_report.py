"""ReceiveReport: how long datagrams wait in the kernel, and how many it has dropped, by
SO_TIMESTAMPNS and SO_RXQ_OVFL of socket(7)."""

from __future__ import annotations

import _socket
import logging
import struct
import sys
import time
from collections.abc import Iterable

from ...observe.counters import LimitedLog

_TIMESTAMPNS, _RXQ_OVFL = (35, 40) if sys.platform == "linux" else (None, None)

ANCILLARY = 128
"""Bytes for the control messages of a datagram received: the time of its arrival, the number of
dropped ones, and the local address that it was sent to."""

LINE_EVERY = 10.0
"""Seconds between two log lines about dropped datagrams. Each has the number since the last."""

LONGEST = 60.0
"""Seconds. A longer wait is taken for a step of the system's clock, which the kernel's times are
on."""

log = logging.getLogger("sippet_gevent.transport")

_TIMESPEC = struct.Struct("@ll")
_COUNT = struct.Struct("@I")


class ReceiveReport:
    """Reads the kernel's reports of one socket, one of each burst of datagrams.

    `drops` is the number of datagrams that the kernel has dropped because its buffer was full.
    """

    __slots__ = ("_counted", "_told_at", "_untold", "drops", "wall")

    def __init__(self) -> None:
        self.drops = 0
        self.wall = time.time
        self._counted = 0  # by the kernel, of this socket
        self._untold = 0
        self._told_at = float("-inf")

    def ask_for(self, raw: _socket.socket) -> bool:
        """Have the kernel report times and drops of a new socket. False where it cannot."""
        self._counted = 0
        if _TIMESTAMPNS is None or _RXQ_OVFL is None:
            return False
        try:
            raw.setsockopt(_socket.SOL_SOCKET, _TIMESTAMPNS, 1)
            raw.setsockopt(_socket.SOL_SOCKET, _RXQ_OVFL, 1)
        except OSError:
            return False
        return True

    def read(
        self, ancillary: Iterable[tuple[int, int, bytes]], lines: LimitedLog, where: object
    ) -> float:
        """Return the seconds that a datagram has waited in the kernel. Count what was dropped.

        Args:
            ancillary: The control messages of the datagram.
            lines: Limits log lines.
            where: The transport, for the log.
        """
        waited = 0.0
        for level, kind, value in ancillary:
            if level != _socket.SOL_SOCKET:
                continue
            if kind == _TIMESTAMPNS and len(value) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                waited = self.wall() - seconds - nanoseconds * 1e-9
            elif kind == _RXQ_OVFL and len(value) == _COUNT.size:
                (count,) = _COUNT.unpack(value)
                if count != self._counted:
                    self._note(count, lines, where)
        return waited if 0.0 < waited < LONGEST else 0.0

    def _note(self, count: int, lines: LimitedLog, where: object) -> None:
        """Take the kernel's counter, which has 32 bits and wraps."""
        dropped = (count - self._counted) & 0xFFFFFFFF
        self._counted = count
        self.drops += dropped
        self._untold += dropped
        now = time.monotonic()
        if now - self._told_at < LINE_EVERY:
            return
        self._told_at = now
        untold, self._untold = self._untold, 0
        lines.line(
            log,
            logging.WARNING,
            "kernel drops",
            'datagrams dropped by the kernel: count=%d listener=%s reason="its receive buffer '
            'was full"',
            untold,
            where,
        )
