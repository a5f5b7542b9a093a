"""Channel: the socket of one connection and its write queue, with or without TLS, RFC 3261 §18.

Sockets are read and written in callbacks of the loop. A callback does what is possible at once and
returns, so no greenlet waits for a peer. Bytes that the kernel does not take wait in a bounded
queue.
"""

from __future__ import annotations

import errno
from array import array
from collections import deque
from fcntl import ioctl
from termios import FIONREAD
from typing import TYPE_CHECKING, Any

from gevent import socket

from ...errors import TransportError
from ..base import Flow
from .tls_session import TLSSession
from .transport import StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket

READ = 16384
"""Bytes asked of each read, the size of a TLS record: about 40 messages. Other connections are
served between them (see pacing.py)."""

GATHER = 65536
"""Bytes of waiting messages that are joined into one write."""

PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Times at which the kernel probes a silent peer (RFC 1122 §4.2.3.6). NATs remember a connection
longer than that, and an unplugged peer is detected after two minutes."""

RETRY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)
"""Errors after which a read or write is tried again."""


class Channel(Flow):
    """A connected or connecting socket and its write queue.

    A subclass reads, and implements `drained()`, `broke(error)` and `close()`.
    """

    __slots__ = ("_queue", "_queued", "_reader", "_socket", "_tls", "_writer", "_writing")

    transport: StreamTransport

    def __init__(self, transport: StreamTransport, raw: Socket) -> None:
        self.transport = transport
        self._socket = raw
        self._tls: TLSSession | None = None
        self._queue: deque[bytes] = deque()  # what the kernel has not taken
        self._queued = 0
        loop = transport.loop
        self._reader = loop.io(raw.fileno(), 1)
        self._writer = loop.io(raw.fileno(), 2)
        self._writing = False

    # ---- what a subclass implements

    def drained(self) -> None:
        """All bytes of the queue are written."""

    def broke(self, error: OSError) -> None:
        """Close, because the connection is broken."""
        raise TypeError(f"{type(self).__name__} lacks .broke()")

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None:
        """Close at once.

        Args:
            reason: The counter of such ends; None counts nothing.
            problem: The reason as text, for errors and log lines.
            error: The exception that caused it.
        """
        raise TypeError(f"{type(self).__name__} lacks .close()")

    @property
    def waiting(self) -> int:
        """Bytes that wait to be written."""
        return self._queued

    # ---- reading

    def pause(self) -> None:
        """Read no more until resume()."""
        self._reader.stop()

    def resume(self) -> None:
        """Read what the peer sends."""
        self._reader.start(self._readable)

    def _readable(self) -> None:
        raise TypeError(f"{type(self).__name__} lacks ._readable()")

    def unread(self) -> int:
        """Return the number of bytes of the peer that wait in the kernel."""
        count = array("i", [0])
        ioctl(self._socket.fileno(), FIONREAD, count)
        return count[0]

    def _is_connected(self) -> bool:
        """Return False when the peer has closed or reset the connection, also if that is unread."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError as error:
            return error.errno in RETRY

    # ---- writing

    def write(self, data: bytes) -> None:
        """Send bytes, encrypted if there is TLS. What the kernel does not take is queued.

        Raises:
            TransportError: The connection is closed or broken, or the queue is full.
        """
        if self._socket is None:
            raise TransportError(f"{self!r} is closed", self)
        if self._tls is not None:
            try:
                data = self._tls.encrypt(data)
            except TransportError as error:
                self.close("reset", str(error), error.__cause__)
                raise TransportError(
                    f"cannot send to {self!r}: TLS broke", self
                ) from error.__cause__
        if not self._queue:
            sent = self._give(data)
            if sent == len(data):
                return
            data = data[sent:]
        self._wait(data)

    def _give(self, data: bytes) -> int:
        """Give bytes to the kernel.

        Returns the number of bytes that it has taken. Raises TransportError if the connection is
        broken.
        """
        try:
            return self._socket.send(data)
        except OSError as error:
            if error.errno in RETRY:
                return 0
            self.broke(error)
            raise TransportError(
                f"cannot send to {self!r}: {error.strerror or error}", self
            ) from error

    def _wait(self, data: bytes) -> None:
        """Queue bytes for the kernel. Raises TransportError if the queue is full."""
        self._reserve(len(data), len(self._queue))
        self._queue.append(data)
        self._want_write(True)

    def _reserve(self, size: int, messages: int) -> None:
        """Count bytes as waiting, or close the connection if too much is waiting.

        Raises:
            TransportError: The limits allow no more. The connection is closed.
        """
        limits = self.transport.limits
        if self._queued + size > limits.queue_bytes or messages >= limits.queue_messages:
            problem = f"{self._queued} bytes in {messages} messages wait for the peer already"
            self.close("queue_full", problem)
            raise TransportError(f"cannot send to {self!r}: {problem}", self)
        self._queued += size

    def _writable(self) -> None:
        queue = self._queue
        while queue:
            data = queue.popleft()
            if queue and len(data) < GATHER:
                parts, size = [data], len(data)
                while queue and size < GATHER:
                    parts.append(queue.popleft())
                    size += len(parts[-1])
                data = b"".join(parts)
            try:
                sent = self._give(data)
            except TransportError:
                return
            self._queued -= sent
            if sent < len(data):
                queue.appendleft(data[sent:])
                return
        self._want_write(False)
        self.drained()

    def _want_write(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._writer.start(self._writable)
        elif not wanted and self._writing:
            self._writer.stop()
        self._writing = wanted

    # ---- the end

    def _shut_down(self) -> None:
        """Tell the peer that nothing more is sent. Raises OSError."""
        self._send_close_notify()
        self._socket.shutdown(socket.SHUT_WR)

    def _send_close_notify(self) -> None:
        if self._tls is not None:
            farewell = self._tls.close_notify()
            if farewell:
                self._socket.send(farewell)

    def _release(self) -> None:
        """Close the socket and forget the queue."""
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._socket.close()
        released: Any = None  # nothing uses the socket of a closed connection but write()
        self._socket = released
        self._tls = None
        self._queue.clear()
        self._queued = 0

    def _let_kernel_probe(self) -> bool:
        """Have the kernel probe a silent peer. Returns False when the connection is broken."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in PROBES.items():
                if hasattr(socket, name):  # some systems lack these options
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        except OSError:
            return False  # the next read finds what is wrong
        return True
