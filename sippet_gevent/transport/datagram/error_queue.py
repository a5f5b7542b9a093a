"""ErrorQueue: ICMP errors for datagrams that a socket has sent, RFC 3261 §18.4. Linux only;
elsewhere it reports nothing."""

from __future__ import annotations

import _socket
import sys
from collections.abc import Callable
from typing import Any

import gevent

from ..interfaces import SockAddr
from . import icmp

AT_ONCE = 64
"""Most entries read in a row. A flood of errors must not block the loop."""

_MSG_ERRQUEUE: int | None = (
    getattr(_socket, "MSG_ERRQUEUE", None) if sys.platform == "linux" else None
)

Undelivered = Callable[[bytes, SockAddr, icmp.Notice], str]
"""Takes the beginning of a datagram, its destination, and the error. Returns the name of the
counter for the report."""


class ErrorQueue:
    """Reads the errors that the kernel keeps for one socket, and counts them in `counts`.

    The queue has a price. An unconnected socket reports the error of an earlier datagram at its
    next send or read, to any peer. The loop finds the socket readable until the queue is empty.
    """

    __slots__ = ("_recvmsg", "_undelivered", "counts")

    def __init__(self, undelivered: Undelivered) -> None:
        self._undelivered = undelivered
        self._recvmsg: Callable[[int, int, int], Any] | None = None
        self.counts: dict[str, int] = {}

    def open(self, raw: _socket.socket) -> None:
        """Have the kernel keep the errors of a socket. Does nothing where the kernel or the loop
        cannot.

        For libev a socket with errors is readable. libuv ends the watcher of such a socket, so with
        libuv there is no queue.
        """
        if _MSG_ERRQUEUE is None or "libuv" in type(gevent.get_hub().loop).__module__:
            return
        level = _socket.IPPROTO_IPV6 if raw.family == _socket.AF_INET6 else _socket.IPPROTO_IP
        try:
            raw.setsockopt(level, icmp.OPTIONS[level], 1)
        except OSError:  # some kernels that claim to be Linux lack this option
            return
        self._recvmsg = raw.recvmsg

    def close(self) -> None:
        """Stop reading errors."""
        self._recvmsg = None

    @property
    def is_open(self) -> bool:
        """True while the kernel keeps errors."""
        return self._recvmsg is not None

    def take(self) -> int:
        """Read what the queue has. May be called in the middle of a send.

        Returns:
            How many of the entries are ICMP errors.
        """
        recvmsg = self._recvmsg
        if recvmsg is None or _MSG_ERRQUEUE is None:
            return 0
        found = 0
        for _ in range(AT_ONCE):
            try:
                quote, ancillary, _, address = recvmsg(icmp.QUOTE, icmp.ANCILLARY, _MSG_ERRQUEUE)
            except OSError:  # the queue is empty
                break
            notice = icmp.read(ancillary)
            if notice is not None:
                found += 1
                unreachable = notice.kind is icmp.UNREACHABLE
                fate = self._undelivered(quote, address, notice) if unreachable else notice.kind
                self.counts[fate] = self.counts.get(fate, 0) + 1
        return found
