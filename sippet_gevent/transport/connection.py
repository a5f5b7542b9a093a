"""Connection: octets to and from one peer, with or without TLS, RFC 3261 §18 and §26.2.1. No greenlet waits for a peer.

It connects, reads, shakes hands and writes in callbacks of the loop, each of which does what can be done at once and
returns; one sweep keeps every deadline. So a peer that stalls costs its descriptor and its buffers. What the octets mean
is its subclasses' matter: StreamFlow cuts them into messages, WebSocketFlow into frames.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from typing import Any

from gevent import socket, ssl
from gevent.event import Event

from ..errors import ParseError, TransportError
from .base import Address, Flow
from .proxy_protocol import read as read_proxy_header
from .tls import identities

READ = 16384
"""Octets asked of each read, a TLS record's worth: 40 messages may pass before the loop looks at other connections."""

LINGER = 2.0
"""Seconds a refused peer has to take the answer: closing with its octets unread would reset it away."""

GATHER = 65536
"""Octets of waiting messages put into one write."""

PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""When the kernel asks a silent peer that is to be kept whether it is there: within what NATs remember of a connection, and
it is found dead two minutes after it was unplugged (RFC 1122 §4.2.3.6)."""

log = logging.getLogger("sippet_gevent.transport")

_RETRY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)

CONNECTING, INTRODUCED, SHAKING_HANDS, UPGRADING, OPEN, HALF_CLOSED, LINGERING, CLOSED = (
    "connecting", "being introduced", "shaking hands", "upgrading", "open", "half closed", "lingering", "closed",
)  # fmt: skip

BEFORE = frozenset((CONNECTING, INTRODUCED, SHAKING_HANDS, UPGRADING))
"""States in which messages wait."""

SENDS = frozenset((OPEN, HALF_CLOSED))
"""States in which messages go out."""

_READS = frozenset((UPGRADING, OPEN, HALF_CLOSED))


class Connection(Flow):
    """One connection. `state` says how far it is; `dialled` is the key of one we have opened, None of a peer's.

    A subclass says what stands at its beginning, `begin()`, what octets mean, `feed(data)`, and how to `ping()`. It is
    OPEN when it says so, `opened()`; until then messages wait, in bounded number.
    """

    __slots__ = (
        "_deadline", "_heard", "_held", "_incoming", "_kept_until", "_outgoing", "_pinged", "_prefix", "_probed", "_queue",
        "_queued", "_reader", "_socket", "_standing", "_started", "_tls", "_writer", "_writing", "dialled", "is_lost", "local",
        "name", "octets", "peer_identity", "scope", "source", "state", "transactions",
    )  # fmt: skip

    transport: Any
    """The listening point it belongs to: TCP or what derives from it."""
    local: Address
    probes = True

    half_closes = True
    """True where a peer that sends no more may still want answers."""

    def __init__(self, transport: Any, raw: Any, remote: Address, *, dialled: Any = None, name: str | None = None) -> None:
        limits = transport.limits
        self.transport = transport
        self.remote = remote
        self.dialled = dialled
        self.name = name
        self.peer_identity = ()
        self.transactions = set()
        self._socket = raw
        bound = raw.getsockname()
        self.local = (bound[0], transport.local[1])
        self.scope = bound[3] if len(bound) > 2 else 0
        self._held: list[bytes] | None = []  # messages that wait for the connection to be open
        self._queue: deque[Any] = deque()  # what the kernel has not taken
        self._queued = 0
        self._tls: Any = None
        self._standing: Event | None = None  # who waits until it stands
        self._pinged = self.is_lost = False
        self.octets = 0
        self._probed = 0.0  # when we have pinged last
        self._prefix = b""  # what has come of a PROXY header
        self.source: str | None = None
        """The host that an accepted connection is counted for."""
        self._started: float | None = None  # when the message under way began
        self._heard = time.monotonic()
        self._deadline: float | None = None
        self._kept_until = 0.0
        loop = transport.loop
        self._reader = loop.io(raw.fileno(), 1)
        self._writer = loop.io(raw.fileno(), 2)
        self._writing = False
        if dialled is not None:
            self.state = CONNECTING
            self._deadline = self._heard + limits.connect
            self._want_write(True)
        elif transport.listener.proxy is not None:
            self.state = INTRODUCED
            self._deadline = self._heard + limits.handshake
            self._reader.start(self._readable)
        else:
            self.source = remote[0]
            self._deadline = self._heard + limits.first
            self._stands()

    # ---- what a subclass says

    def begin(self) -> None:
        """The connection stands, TLS too: say what comes first, or that it is open."""
        self.opened()

    def feed(self, data: bytes) -> None:
        """Take octets of the peer's."""
        raise TypeError(f"{type(self).__name__} lacks .feed()")

    def ping(self) -> None:
        """Ask the peer whether it is there. Raises TransportError."""
        raise TypeError(f"{type(self).__name__} lacks .ping()")

    def farewell(self) -> None:
        """Say what is to be said before an orderly end. Raises TransportError."""

    @property
    def waiting(self) -> int:
        """Octets that wait to be written."""
        return self._queued

    @property
    def is_idle(self) -> bool:
        """True when no message is under way from the peer."""
        return self._started is None

    @property
    def in_header(self) -> bool:
        """True while the header section of the message under way has not ended."""
        return True

    # ---- from its birth to the first message

    def _stands(self) -> None:
        """The connection stands: shake hands, or begin."""
        transport = self.transport
        is_server = self.dialled is None
        context = transport.context(is_server)
        self._reader.start(self._readable)
        if context is None:
            self.begin()
            return
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, is_server, None if is_server else self._asked)
        except ValueError as error:  # a name that no certificate could hold
            self.close("handshake failed", f"cannot ask for {self._asked!r}: {error}", error)
            return
        self.state = SHAKING_HANDS
        self._deadline = time.monotonic() + transport.limits.handshake
        if is_server:
            transport.handshakes.begin(self)
        else:
            self._shake_hands()

    @property
    def _asked(self) -> str:
        """The name that the peer of a connection of ours must prove."""
        return (self.name or self.remote[0]).strip("[]")

    def opened(self) -> None:
        """Messages may pass: those that have waited go."""
        self.state = OPEN
        waiting, self._held = self._held, None
        self._queued = sum(map(len, self._queue))
        if self.dialled is not None:
            self._deadline = None
        for data in waiting or ():
            if self.state is not OPEN:
                return
            try:
                self.send(data)
            except TransportError:
                return
        if self._standing is not None:
            self._standing.set()

    def _connected(self) -> None:
        """The kernel says how connecting went."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.close("connect failed", f"cannot connect: {os.strerror(code)}")
            return
        self._want_write(False)
        self._heard = time.monotonic()
        self._stands()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush_tls()
            return
        except (ssl.SSLError, ValueError) as error:
            self._flush_tls()  # the alert that tells the peer why
            self.close("handshake failed", f"TLS handshake failed: {getattr(error, 'reason', None) or error}", error)
            return
        peer = self._tls.getpeercert() or {}
        self.peer_identity = identities(peer)
        if self.dialled is not None and self.transport.checks_names and not self.transport.names_peer(peer, self._asked):
            known = ", ".join(self.peer_identity) or "nobody by name"
            self.close("handshake failed", f"TLS peer is not {self._asked}: its certificate is for {known} (RFC 5922 §7.2)")
            return
        if self.dialled is None:
            self.transport.handshake_ended(self)
            self._deadline = time.monotonic() + self.transport.limits.first
        self._flush_tls()
        if self.state is SHAKING_HANDS:
            self.begin()

    # ---- reading

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ)
        except OSError as error:
            if error.errno not in _RETRY:
                self._broke(error)
            return
        if self.state is LINGERING:
            if not data:
                self.close()
            return
        self._heard = time.monotonic()
        if self.state is INTRODUCED:
            self._introduce(data)
        else:
            self._received(data)

    def _introduce(self, data: bytes) -> None:
        """Take octets of the header in which a load balancer says whose connection this is."""
        self._prefix += data
        try:
            found = read_proxy_header(self._prefix)
            if found is None and not data:
                raise ParseError("the peer closed the connection in its PROXY header")
        except ParseError as error:
            self.close("bad PROXY header", str(error), error)
            return
        if found is None:
            return
        header, length = found
        rest, self._prefix = self._prefix[length:], b""
        if header.source is not None:
            self.remote = header.source
            self.scope = 0
            if not self.transport.counts_in(header.source[0]):
                self.close("too many connections of one source", f"{header.source[0]} has too many connections")
                return
            self.source = header.source[0]
        self._deadline = self._heard + self.transport.limits.first
        self._stands()
        if rest and self.state is not CLOSED:
            self._received(rest)

    def _received(self, data: bytes) -> None:
        if self._tls is None:
            if data:
                self.octets += len(data)
                self.feed(data)
            else:
                self._ended()
        elif data:
            self._decipher(data)
        elif self.state is SHAKING_HANDS:
            self.close("handshake failed", "the peer closed the connection in the TLS handshake")
        else:
            self._ended()

    def _decipher(self, data: bytes) -> None:
        self._incoming.write(data)
        if self.state is SHAKING_HANDS:
            if not self.transport.handshakes.may_step(self):
                self._reader.stop()  # no more is taken before its turn has come
                return
            self._shake_hands()
        self._read_ciphered()

    def take_step(self) -> None:
        """It is this connection's turn to go on with its handshake."""
        self._reader.start(self._readable)
        self._shake_hands()
        self._read_ciphered()

    def _read_ciphered(self) -> None:
        while self.state in _READS:
            try:
                text = self._tls.read(READ)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                text = b""
            except ssl.SSLError as error:
                self.close("reset", f"TLS broke: {error.reason or error}", error)
                return
            if not text:
                self._ended()
                return
            self.octets += len(text)
            self.feed(text)
            if self.state in _READS and not self._incoming.pending and not self._tls.pending():
                break  # all is read; asking once more to be told so by an exception would cost 4 us
        if self.state in _READS:
            self._flush_tls()  # session tickets, key updates

    def _broke(self, error: OSError) -> None:
        self.is_lost = True
        self.close("reset", f"the connection broke: {error.strerror or error}", error)

    def _ended(self) -> None:
        """The peer will send no more. It may still want the answers to what it sent."""
        if not self.is_idle:
            self.transport.count("cut off")
        self.is_lost = True
        self._started = None  # nobody waits for what will not come
        self._forget_dialled()
        self._reader.stop()
        if self.state is UPGRADING or not self.half_closes or not self._owes_answers():
            self.close(None, "the peer has closed the connection")
            return
        self.transport.count("half closed")
        self.state = HALF_CLOSED
        self._tell("the peer sends no more")

    def _owes_answers(self) -> bool:
        """True while answers to what the peer has sent are still to be made, or wait to be written."""
        waiting = (tx.is_unanswered and not tx.machine.is_client for tx in self.transactions or ())
        return bool(self._queue) or any(waiting)

    # ---- writing

    def send(self, data: bytes) -> None:
        if self.state in SENDS:
            self.write(data)
        elif self.state in BEFORE and self._held is not None:
            self._make_room(len(data), len(self._held))
            self._held.append(data)
        else:
            raise TransportError(f"{self!r} is closed", self)

    def write(self, data: bytes) -> None:
        """Send octets, ciphered where there is TLS; what the kernel does not take waits. Raises TransportError."""
        if self._socket is None:
            raise TransportError(f"{self!r} is closed", self)
        if self._tls is not None:
            try:
                view = memoryview(data)
                while view:
                    view = view[self._tls.write(view) :]
            except ssl.SSLError as error:
                self.close("reset", f"TLS broke: {error.reason or error}", error)
                raise TransportError(f"cannot send to {self!r}: TLS broke", self) from error
            data = self._outgoing.read()
        if not self._queue:
            try:
                sent = self._socket.send(data)
            except OSError as error:
                if error.errno not in _RETRY:
                    self._broke(error)
                    raise TransportError(f"cannot send to {self!r}: {error.strerror or error}", self) from error
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._want_write(True)
        self._make_room(len(data), len(self._queue))
        self._queue.append(data)

    def _make_room(self, octets: int, messages: int) -> None:
        """Note that so many octets wait; close when they are more than may. Raises TransportError."""
        limits = self.transport.limits
        if self._queued + octets > limits.queue_octets or messages >= limits.queue_messages:
            problem = f"{self._queued} octets, {messages} messages wait for the peer already"
            self.close("queue full", problem)
            raise TransportError(f"cannot send to {self!r}: {problem}", self)
        self._queued += octets

    def _flush_tls(self) -> None:
        """Send what TLS itself has to say. It goes before messages, which wait for the handshake's end."""
        data = self._outgoing.read()
        if not data or self._socket is None:
            return
        try:
            sent = 0 if self._writing else self._socket.send(data)
        except OSError as error:
            if error.errno not in _RETRY:
                self._broke(error)
                return
            sent = 0
        if sent == len(data):
            return
        if self.state is SHAKING_HANDS:  # a few KB, which an empty send buffer holds: who has no room for them is no peer
            self.close("handshake failed", "the kernel has no room for a TLS handshake")
            return
        try:  # a peer may ask for new keys as often as it likes, and never read (RFC 8446 §4.6.3)
            self._make_room(len(data) - sent, len(self._queue))
        except TransportError:
            return
        self._queue.append(data[sent:])
        self._want_write(True)

    def _writable(self) -> None:
        if self.state is CONNECTING:
            self._connected()
            return
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
                sent = self._socket.send(data)
            except OSError as error:
                if error.errno not in _RETRY:
                    self._broke(error)
                    return
                sent = 0
            self._queued -= sent
            if sent < len(data):
                queue.appendleft(data[sent:])
                return
        self._want_write(False)
        self.drained()

    def drained(self) -> None:
        """All that had waited is written."""
        if self.state is LINGERING:
            self._shut()

    def _want_write(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._writer.start(self._writable)
        elif not wanted and self._writing:
            self._writer.stop()
        self._writing = wanted

    # ---- the end

    def finish(self, problem: str = "what the peer sent made no sense") -> None:
        """Send what waits, read no more, close: after an answer to what made no sense."""
        if self.state not in _READS:
            return
        self._forget_dialled()
        self.state = LINGERING
        self._deadline = time.monotonic() + LINGER
        self._tell(problem)
        if not self._queue:
            self._shut()

    def _shut(self) -> None:
        """Say that no more will come; the peer's end, or LINGER, closes."""
        try:
            if self._tls is not None:
                self._say_goodbye()
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()

    def _say_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it wants the peer's close_notify too, and nobody waits for that
        farewell = self._outgoing.read()
        if farewell:
            self._socket.send(farewell)

    def _forget_dialled(self) -> None:
        pool = self.transport.pool
        if self.dialled is not None and pool.get(self.dialled) is self:
            del pool[self.dialled]

    def _tell(self, problem: str, error: BaseException | None = None) -> None:
        """Tell the engine that no response will come by this flow, once nobody is in the middle of using it."""
        if self.transactions and not self.transport.stopping:
            failure = TransportError(f"{self!r} has ended: {problem}", self)
            failure.__cause__ = error
            self.transport.loop.run_callback(self.transport.flow_ended, self, failure)

    def close(self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None) -> None:
        """Close at once, counted under `reason`. Its client transactions end. Does nothing when closed already."""
        if self.state is CLOSED:
            return
        transport = self.transport
        transport.handshake_ended(self)
        if self.state is OPEN and not self._queue:
            try:
                self.farewell()
                if self._tls is not None:
                    self._say_goodbye()
            except OSError:  # a TransportError is one, too
                pass
            if self.state is CLOSED:  # the farewell has found it broken
                return
        if reason is not None:
            transport.count(reason)
            log.debug("%r: %s: %s", self, reason, problem)
        self._forget_dialled()
        self.state = CLOSED
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._socket = self._tls = self._incoming = self._outgoing = self._held = None
        self._queue.clear()
        self._queued = 0
        transport.forget(self)
        if self._standing is not None:
            self._standing.set()
        self._tell(problem, error)

    @property
    def is_open(self) -> bool:  # type: ignore[override]
        """True while messages go out at once: neither before it stands nor after its end."""
        return self.state in SENDS

    def wait_open(self) -> bool:
        if self.state in BEFORE:
            if self._standing is None:
                self._standing = Event()
            self._standing.wait()
        return self.is_open

    def probe(self) -> None:
        if self.state is OPEN and not self._pinged and not self._queue:
            self._pinged = True
            self._probed = time.monotonic()
            self.ping()

    def hurry(self, seconds: float) -> None:
        if self.state in BEFORE and self._deadline is not None:
            self._deadline = min(self._deadline, time.monotonic() + seconds)

    def is_alive(self) -> bool:
        """True unless the peer has closed or reset the connection, seen or not: asked before it is used once more."""
        if self.state is not OPEN:
            return self.state in BEFORE
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError as error:
            return error.errno in _RETRY

    def sweep(self, now: float) -> None:
        """Keep the deadlines: what is too late is closed and counted."""
        limits = self.transport.limits
        state = self.state
        silent = now - self._heard
        if self._deadline is not None and now >= self._deadline:
            late = _LATE.get(state)
            self.close(late, late or f"{state} too long")
        elif self._started is not None and (
            now - self._started >= limits.message or (self.in_header and now - self._started >= limits.header)
        ):
            self.close("slow message", "a message took too long to come whole")
        elif state is HALF_CLOSED and not self._owes_answers():
            self.close()
        elif state is OPEN and self._pinged and now - self._probed >= limits.pong:
            self.is_lost = True
            self.close("no pong", "the peer does not answer a ping (RFC 5626 §4.4.1)")
        elif state is OPEN and self.ping_after and not self._queue:
            if silent >= self.ping_after:
                try:
                    self.probe()
                except TransportError:
                    pass
        elif silent >= limits.idle and now >= self._kept_until and (not self.transactions or self._queue):
            self.close("idle", "idle too long")

    def keep(self, seconds: float) -> None:
        """Be silent within these seconds without being closed for it; the kernel asks whether the peer is there."""
        if not self._kept_until and self._socket is not None:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in PROBES.items():
                    if hasattr(socket, name):  # not all systems let us say when
                        self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            except OSError:
                return  # it is broken, as reading will find
        self._kept_until = max(self._kept_until, time.monotonic() + seconds)

    @property
    def ping_after(self) -> float:
        """Seconds of silence after which we ping, 0 for never."""
        return self.transport.limits.ping if self.dialled is not None else 0.0


_LATE = {
    CONNECTING: "connect timeout",
    INTRODUCED: "bad PROXY header",
    SHAKING_HANDS: "handshake timeout",
    UPGRADING: "handshake timeout",
    OPEN: "never spoke",
}
"""What a deadline that has passed counts as, by the state it is found in."""
