"""ErrorQueue: which datagrams of a socket the network has refused, RFC 3261 §18.4. On Linux;
elsewhere there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket

from . import icmp

AT_ONCE = 64
"""Entries read in a row, at most: a flood of them must leave the loop its turn."""

_MSG_ERRQUEUE: Any = getattr(socket, "MSG_ERRQUEUE", None) if sys.platform == "linux" else None

Undelivered = Callable[[bytes, Any, str], str]
"""Takes what is quoted of a datagram, where it was sent to, and what the network says; says what
became of that."""


class ErrorQueue:
    """The errors that the kernel keeps of one socket, once open() has asked for them. `counts` is
    what became of them.

    With it a socket that is connected to nobody tells of an earlier datagram's error at the next
    send or read, whoever that is for; and the loop finds the socket readable for as long as there
    are entries.
    """

    __slots__ = ("_recvmsg", "_undelivered", "counts")

    def __init__(self, undelivered: Undelivered) -> None:
        self._undelivered = undelivered
        self._recvmsg: Any = None
        self.counts: dict[str, int] = {}

    def open(self, raw: Any) -> None:
        """Have the kernel keep the errors of a socket; nothing happens where it cannot, or where
        the loop could not bear it.

        libev finds a socket with errors readable; libuv ends its watcher.
        """
        if _MSG_ERRQUEUE is None or "libuv" in type(gevent.get_hub().loop).__module__:
            return
        level = socket.IPPROTO_IPV6 if raw.family == socket.AF_INET6 else socket.IPPROTO_IP
        try:
            raw.setsockopt(level, icmp.OPTIONS[level], 1)
        except OSError:  # not every kernel that passes for Linux has it
            return
        self._recvmsg = raw.recvmsg

    def close(self) -> None:
        """Look at it no more."""
        self._recvmsg = None

    @property
    def is_open(self) -> bool:
        """True while errors are kept."""
        return self._recvmsg is not None

    def take(self) -> int:
        """Read what there is; return of how many ICMP errors it tells. This may be called in the
        midst of a send."""
        recvmsg = self._recvmsg
        found = 0
        for _ in range(AT_ONCE if recvmsg is not None else 0):
            try:
                quote, ancillary, _, address = recvmsg(icmp.QUOTE, icmp.ANCILLARY, _MSG_ERRQUEUE)
            except OSError:  # there is nothing left
                break
            notice = icmp.read(ancillary)
            if notice is not None:
                found += 1
                unreachable = notice.kind is icmp.UNREACHABLE
                fate = (
                    self._undelivered(quote, address, notice.problem)
                    if unreachable
                    else notice.kind
                )
                self.counts[fate] = self.counts.get(fate, 0) + 1
        return found
