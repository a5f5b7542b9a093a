"""Channel: octets through the socket of one connection, with or without TLS, RFC 3261 §18. No
greenlet waits for a peer.

It reads and writes in callbacks of the loop, each of which does what can be done at once and
returns. What the kernel does not take stands in a queue of bounded length.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

from gevent import socket

from ...errors import TransportError
from ..base import Flow

READ = 16384
"""Octets asked of each read, a TLS record's worth: 40 messages may pass before the loop looks at
other connections."""

GATHER = 65536
"""Octets of waiting messages put into one write."""

PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""When the kernel asks a silent peer that is to be kept whether it is there: within what NATs
remember of a connection, and it is found dead two minutes after it was unplugged (RFC 1122
§4.2.3.6)."""

_RETRY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


class Channel(Flow):
    """A socket that stands or is about to, and what waits for it. Its subclass says what becomes of
    octets, and when it ends.

    That is `received(data)` with what has come, b"" at the end of it, `drained()` when all that had
    waited is written, `broke(error)` when the system says so, and `close()`.
    """

    __slots__ = ("_cipher", "_queue", "_queued", "_reader", "_socket", "_writer", "_writing")

    transport: Any
    """The listening point it belongs to: TCP or what derives from it."""

    def __init__(self, transport: Any, raw: Any) -> None:
        self.transport = transport
        self._socket = raw
        self._cipher: Any = None  # where there is TLS, a Cipher
        self._queue: deque[Any] = deque()  # what the kernel has not taken
        self._queued = 0
        loop = transport.loop
        self._reader = loop.io(raw.fileno(), 1)
        self._writer = loop.io(raw.fileno(), 2)
        self._writing = False

    # ---- what a subclass says

    def received(self, data: bytes) -> None:
        """Take octets of the peer's, ciphered where there is TLS; b"" when no more will come."""
        raise TypeError(f"{type(self).__name__} lacks .received()")

    def drained(self) -> None:
        """All that had waited is written."""

    def gone(self, error: OSError | None) -> None:
        """Reading has found that the peer sends no more or, with an error, that the connection is
        broken."""
        raise TypeError(f"{type(self).__name__} lacks .gone()")

    def broke(self, error: OSError) -> None:
        """The connection is reset, or whatever the system says: close."""
        raise TypeError(f"{type(self).__name__} lacks .broke()")

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None:
        """Close at once, counted under `reason`."""
        raise TypeError(f"{type(self).__name__} lacks .close()")

    @property
    def waiting(self) -> int:
        """Octets that wait to be written."""
        return self._queued

    # ---- reading

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ)
        except OSError as error:
            if error.errno not in _RETRY:
                self.gone(error)
            return
        if data:
            self.received(data)
        else:
            self.gone(None)

    def _has_more(self) -> bool:
        """True unless the peer has closed or reset the connection, seen or not."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError as error:
            return error.errno in _RETRY

    # ---- writing

    def write(self, data: bytes) -> None:
        """Send octets, ciphered where there is TLS; what the kernel does not take waits. Raises
        TransportError."""
        if self._socket is None:
            raise TransportError(f"{self!r} is closed", self)
        if self._cipher is not None:
            try:
                data = self._cipher.encipher(data)
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
        """Give the kernel what it takes at once; return how many octets that are. Raises
        TransportError when it broke."""
        try:
            return self._socket.send(data)
        except OSError as error:
            if error.errno in _RETRY:
                return 0
            self.broke(error)
            raise TransportError(
                f"cannot send to {self!r}: {error.strerror or error}", self
            ) from error

    def _wait(self, data: bytes) -> None:
        """Have octets wait for the kernel. Raises TransportError when there is no room for them."""
        self._make_room(len(data), len(self._queue))
        self._queue.append(data)
        self._want_write(True)

    def _make_room(self, octets: int, messages: int) -> None:
        """Note that so many octets wait; close when they are more than may. Raises
        TransportError."""
        limits = self.transport.limits
        if self._queued + octets > limits.queue_octets or messages >= limits.queue_messages:
            problem = f"{self._queued} octets, {messages} messages wait for the peer already"
            self.close("queue full", problem)
            raise TransportError(f"cannot send to {self!r}: {problem}", self)
        self._queued += octets

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

    def _say_no_more(self) -> None:
        """Tell the peer that no more will come, where there is TLS by it first. Raises OSError."""
        self._say_goodbye()
        self._socket.shutdown(socket.SHUT_WR)

    def _say_goodbye(self) -> None:
        if self._cipher is not None:
            farewell = self._cipher.goodbye()
            if farewell:
                self._socket.send(farewell)

    def _release(self) -> None:
        """Give the socket back to the system, and forget what waits."""
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._socket = self._cipher = None
        self._queue.clear()
        self._queued = 0

    def _have_kernel_probe(self) -> bool:
        """Have the kernel ask a silent peer now and then whether it is there; False when it
        cannot."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in PROBES.items():
                if hasattr(socket, name):  # not all systems let us say when
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        except OSError:
            return False  # it is broken, as reading will find
        return True
