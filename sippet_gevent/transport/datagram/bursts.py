"""receive(): reads the datagrams that wait at a UDP socket.

It is the twin of receive() in `_bursts.c`, with the same arguments and results. The one in C makes
one system call for many datagrams, recvmmsg(2). Linux only.
"""

from __future__ import annotations

import _socket
import errno
from collections.abc import Callable

from ...message.speedups import wanted
from ..interfaces import SockAddr
from .pktinfo import reported_by
from .receive_report import ANCILLARY
from .send_queue import Ancillary

DATAGRAM = 65535
"""Bytes asked of each read. No UDP payload is longer, so none is ever truncated."""

INTERFACE = 1
"""INTERFACE of `_bursts.c`."""

EMPTY = (errno.EAGAIN, errno.EWOULDBLOCK)
"""Errors which say that no datagram waits."""

Datagram = tuple[bytes, SockAddr, "bytes | None"]
"""A datagram, its source, and the kernel's report of the local address that it was sent to."""


def receive(
    raw: _socket.socket, most: int, reported: int, wants_local: bool
) -> tuple[list[Datagram], Ancillary | None, int]:
    """Read datagrams until none waits.

    Args:
        raw: The socket, which does not block.
        most: Datagrams at most.
        reported: The index of a datagram whose control messages are wanted.
        wants_local: True for the local address of each.

    Returns:
        The datagrams, the control messages of that one, and the number of the error that has ended
        the reading; 0 after `most` datagrams.
    """
    datagrams: list[Datagram] = []
    control: Ancillary | None = None
    try:
        for index in range(most):
            if wants_local or index == reported:
                data, ancillary, _, address = raw.recvmsg(DATAGRAM, ANCILLARY)
                if index == reported:
                    control = ancillary
                datagrams.append((data, address, reported_by(ancillary)))
            else:
                data, address = raw.recvfrom(DATAGRAM)
                datagrams.append((data, address, None))
    except OSError as error:
        return datagrams, control, error.errno or errno.EIO
    return datagrams, control, 0


Receive = Callable[[_socket.socket, int, int, bool], tuple[list[Datagram], "Ancillary | None", int]]

c = wanted("sippet_gevent.transport.datagram._bursts", INTERFACE)

fastest: Receive = receive if c is None else c.receive
"""The one of the twins to call."""
