"""SendQueue: sends datagrams by a UDP socket, and queues them while the kernel has no room."""

from __future__ import annotations

import _socket
import errno
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ...errors import PeerFlow, TransportError
from ...observe.counters import LimitedLog
from ..interfaces import SockAddr
from .error_queue import ErrorQueue

UNSENT = 1024
"""Datagrams kept while the kernel's send buffer is full. A further one raises TransportError."""

PAUSE = 0.01
"""Seconds until another try when the network device's queue is full, which no watcher reports."""

SENDS = 4
"""Further tries to send a datagram when the kernel reports errors of other datagrams instead. After
these tries it waits in the queue."""

log = logging.getLogger("sippet_gevent.transport")

_NO_ROOM = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)

Ancillary = list[tuple[int, int, bytes]]
"""Control messages for sendmsg(): level, type, data."""


class DatagramFlow(PeerFlow, Protocol):
    """What the queue needs of a flow."""

    def emit(self, data: bytes) -> None:
        """Give a datagram to the kernel. Raises OSError."""


class SendQueue:
    """Sends datagrams at once, or in order of arrival when the kernel has room again.

    A flow calls `sendto` or `sendmsg` itself unless `must_wait` is true, because that is the hot
    path. It passes datagrams that must wait to `put()`, and errors to `failed()`.
    """

    def __init__(self, errors: ErrorQueue) -> None:
        self.must_wait = True
        """True while datagrams must not overtake those that wait, and while no socket is open."""
        self.sendto: Callable[[bytes, SockAddr], int] = _not_open
        self.sendmsg: Callable[[tuple[bytes], Ancillary, int, SockAddr], int] = _not_open
        self.waited = 0
        """Datagrams that had to wait for the kernel's send buffer."""
        self.lost = 0
        """Datagrams that waited, and then could not be sent."""
        self._errors = errors
        self._lines = LimitedLog()
        self._unsent: deque[tuple[bytes, DatagramFlow]] = deque()
        self._writer: Any = None  # watchers of the loop; gevent has no types
        self._pause: Any = None

    def __len__(self) -> int:
        return len(self._unsent)

    def open(self, raw: _socket.socket, loop: Any, lines: LimitedLog) -> None:
        """Send by this socket from now on; `loop` is gevent's, `lines` takes log lines."""
        self.sendto, self.sendmsg = raw.sendto, raw.sendmsg
        self._lines = lines
        self._writer = loop.io(raw.fileno(), 2)
        # a repeating timer, because libev forgets the length of another timer when it fires
        self._pause = loop.timer(PAUSE, PAUSE)
        self.must_wait = False

    def close(self) -> None:
        """Forget what waits. Call it before the socket is closed."""
        for watcher in (self._writer, self._pause):
            watcher.stop()
            watcher.close()
        self._writer = self._pause = None
        self.must_wait = True
        self._unsent.clear()

    def put(self, data: bytes, flow: DatagramFlow) -> None:
        """Send a datagram when the kernel has room.

        Raises:
            TransportError: Too many wait already, or the socket is not open.
        """
        if self._writer is None:
            raise TransportError("the transport is not open")
        if len(self._unsent) >= UNSENT:
            raise TransportError(f"{UNSENT} datagrams wait to be sent already")
        self.waited += 1
        self._unsent.append((data, flow))
        if not self.must_wait:
            self.must_wait = True
            self._writer.start(self._writable)

    def failed(self, data: bytes, flow: DatagramFlow, error: OSError | OverflowError) -> None:
        """Take the error with which the kernel has refused a datagram; queue it if there was no
        room. Raises TransportError."""
        own = self._own_error(data, flow, error) if isinstance(error, OSError) else error
        if own is None:
            return
        if getattr(own, "errno", None) not in _NO_ROOM:
            host, port = flow.remote
            problem = getattr(own, "strerror", None) or own
            raise TransportError(
                f"cannot send {len(data)} bytes to {host}:{port}: {problem}", flow
            ) from own
        self.put(data, flow)

    def _own_error(self, data: bytes, flow: DatagramFlow, error: OSError) -> OSError | None:
        """Return the error of this datagram itself, None if it is sent after all.

        The kernel also reports errors of earlier datagrams at a send.
        """
        errors = self._errors
        if not errors.is_open or error.errno in _NO_ROOM:
            return error
        for _ in range(SENDS):
            others = errors.take()
            try:
                flow.emit(data)
                return None
            except OSError as last:
                if not others or last.errno in _NO_ROOM:
                    return last
        return BlockingIOError(
            errno.EAGAIN, "errors of other datagrams come faster than they are read"
        )

    def _writable(self) -> None:
        while self._unsent:
            data, flow = self._unsent[0]
            error: OSError | None = None
            try:
                flow.emit(data)
            except OSError as failure:
                error = self._own_error(data, flow, failure)
            if error is not None:
                # the loop reports the socket as writable anyway, so try again a little later
                if error.errno == errno.ENOBUFS:
                    self._writer.stop()
                    self._pause.again(self._resume)
                    return
                if error.errno in _NO_ROOM:
                    return
                self.lost += 1
                text = 'datagram not sent: bytes=%d destination=%s reason="%s"'
                self._lines.line(log, logging.WARNING, "datagram", text, len(data), flow, error)
            self._unsent.popleft()
        self.must_wait = False
        self._writer.stop()

    def _resume(self) -> None:
        self._pause.stop()
        if self._unsent:
            self._writer.start(self._writable)


def _not_open(*arguments: object) -> int:
    raise TransportError("the transport is not open")
