"""TCP and TLS, RFC 3261 §18 and §26.2.1: connections driven by the loop's watchers. No greenlet waits for a peer.

A connection reads, shakes hands and writes in callbacks of the loop, each of which does what can be done at once and
returns; one sweep keeps every deadline. So a peer that stalls costs its descriptor and its buffers, and a message goes
from the socket to its worker as a datagram does.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from typing import Any

import gevent
from gevent import socket, ssl

from ..errors import TransportError
from ..limits import StreamLimits
from ..message.framer import PING, PONG, Framer
from ..message.parser import DEFAULT_LIMITS, ParserLimits
from .base import Address, Flow, Receive, Transport
from .interfaces import WILDCARDS, Interfaces
from .tls import TLS, identities, names_peer

READ = 16384
"""Octets asked of each read, a TLS record's worth: 40 messages may pass before the loop looks at other connections."""

ACCEPTS = 64
"""Connections taken before the loop looks at other things."""

BACKLOG = 1024
"""Connections the kernel completes for us while we are busy. The system may grant less."""

PAUSE = 0.1
"""Seconds without accepting when the system has no descriptor or memory for one more: an accept at once would spin."""

SWEEP = 0.5
"""Seconds between two looks at the deadlines of all connections, at most: their limits are whole seconds."""

LINGER = 2.0
"""Seconds a refused peer has to take the answer: closing with its octets unread would reset it away."""

GATHER = 65536
"""Octets of waiting messages put into one write."""

log = logging.getLogger("sippet_gevent.transport")

_RETRY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

CONNECTING, SHAKING_HANDS, OPEN, HALF_CLOSED, LINGERING, CLOSED = (
    "connecting", "shaking hands", "open", "half closed", "lingering", "closed",
)  # fmt: skip

_SENDS = frozenset((OPEN, HALF_CLOSED))


class StreamFlow(Flow):
    """One connection. `state` says how far it is; `dialled` is the key of one we have opened, None of a peer's."""

    __slots__ = (
        "_deadline", "_framer", "_heard", "_incoming", "_outgoing", "_pinged", "_queue", "_queued", "_reader", "_socket",
        "_started", "_tls", "_writer", "_writing", "dialled", "local", "name", "peer_identity", "state", "transactions",
    )  # fmt: skip

    transport: TCP
    local: Address

    def __init__(self, transport: TCP, raw: Any, remote: Address, *, dialled: Any = None, name: str | None = None) -> None:
        limits = transport.limits
        self.transport = transport
        self.remote = remote
        self.dialled = dialled
        self.name = name
        self.peer_identity = ()
        self.transactions = set()
        self._socket = raw
        host = raw.getsockname()[0].partition("%")[0]
        self.local = (host, transport.local[1])
        self._framer = Framer(transport.parser_limits)
        self._queue: deque[Any] = deque()  # messages while shaking hands; then what the kernel has not taken
        self._queued = 0
        self._tls: Any = None
        self._pinged = False
        self._started: float | None = None  # when the message under way began
        self._heard = time.monotonic()
        self._deadline: float | None = None
        loop = transport.loop
        self._reader = loop.io(raw.fileno(), 1)
        self._writer = loop.io(raw.fileno(), 2)
        self._writing = False
        if dialled is not None:
            self.state = CONNECTING
            self._deadline = self._heard + limits.connect
            self._want_write(True)
        else:
            self._deadline = self._heard + limits.first
            self._stands()

    # ---- from its birth to the first message

    def _stands(self) -> None:
        """The connection stands: shake hands, or begin."""
        transport = self.transport
        is_server = self.dialled is None
        context = transport.context(is_server)
        self._reader.start(self._readable)
        if context is None:
            self._opened()
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
            transport.handshakes[self] = None
        else:
            self._shake_hands()

    @property
    def _asked(self) -> str:
        """The name that the peer of a connection of ours must prove."""
        return (self.name or self.remote[0]).strip("[]")

    def _opened(self) -> None:
        self.state = OPEN
        waiting, self._queue = self._queue, deque()
        self._queued = 0
        if self.dialled is not None:
            self._deadline = None
        for data in waiting:
            if self.state is not OPEN:
                return
            try:
                self.send(data)
            except TransportError:
                return

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
        if self.dialled is not None and self.transport.checks_names and not names_peer(peer, self._asked):
            known = ", ".join(self.peer_identity) or "nobody by name"
            self.close("handshake failed", f"TLS peer is not {self._asked}: its certificate is for {known} (RFC 5922 §7.2)")
            return
        if self.dialled is None:
            self.transport.handshakes.pop(self, None)
            self._deadline = time.monotonic() + self.transport.limits.first
        self._flush_tls()
        if self.state is SHAKING_HANDS:
            self._opened()

    # ---- reading

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ)
        except OSError as error:
            if error.errno not in _RETRY:
                self.close("reset", f"the connection broke: {error.strerror or error}", error)
            return
        if self.state is LINGERING:
            if not data:
                self.close()
            return
        self._heard = time.monotonic()
        if self._tls is None:
            if data:
                self._feed(data)
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
            self._shake_hands()
        while self.state in _SENDS:
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
            self._feed(text)
        if self.state in _SENDS:
            self._flush_tls()  # session tickets, key updates

    def _feed(self, data: bytes) -> None:
        framer, transport = self._framer, self.transport
        if framer.dead:
            return
        if self.dialled is None:
            self._deadline = None
        pinged, self._pinged = self._pinged, False
        pings = framer.pings
        messages = framer.feed(data)
        for message in messages:
            transport.receive(message, self)
            if self.state not in _SENDS:  # what was received has closed us
                return
        if framer.error is not None:
            transport.count("broken")
            transport.refuse(framer.error, self)
            self._finish()
            return
        if framer.pings != pings and not pinged:  # pongs with nothing between them look like one
            try:
                self.send(PONG)  # one is enough for however many came at once (RFC 5626 §4.4.1)
            except TransportError:
                return
        if not framer.in_message:
            self._started = None
        elif messages or self._started is None:
            self._started = self._heard

    def _ended(self) -> None:
        """The peer will send no more. It may still want the answers to what it sent."""
        if self._framer.pending:
            self.transport.count("cut off")
        self._forget_dialled()
        self._reader.stop()
        if not self._owes_answers():
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
        if self.state in _SENDS:
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
                        self.close("reset", f"the connection broke: {error.strerror or error}", error)
                        raise TransportError(f"cannot send to {self!r}: {error.strerror or error}", self) from error
                    sent = 0
                if sent == len(data):
                    return
                data = data[sent:]
                self._want_write(True)
        elif self.state is CLOSED or self.state is LINGERING:
            raise TransportError(f"{self!r} is closed", self)
        limits = self.transport.limits
        if self._queued + len(data) > limits.queue_octets or len(self._queue) >= limits.queue_messages:
            problem = f"{self._queued} octets, {len(self._queue)} messages wait for the peer already"
            self.close("queue full", problem)
            raise TransportError(f"cannot send to {self!r}: {problem}", self)
        self._queue.append(data)
        self._queued += len(data)

    def _flush_tls(self) -> None:
        """Send what TLS itself has to say. It goes before messages, which wait for the handshake's end."""
        data = self._outgoing.read()
        if not data or self._socket is None:
            return
        try:
            sent = 0 if self._writing else self._socket.send(data)
        except OSError as error:
            if error.errno not in _RETRY:
                self.close("reset", f"the connection broke: {error.strerror or error}", error)
                return
            sent = 0
        if sent == len(data):
            return
        if self.state is SHAKING_HANDS:  # a few KB, which an empty send buffer holds: who has no room for them is no peer
            self.close("handshake failed", "the kernel has no room for a TLS handshake")
            return
        self._queue.append(data[sent:])
        self._queued += len(data) - sent
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
                    self.close("reset", f"the connection broke: {error.strerror or error}", error)
                    return
                sent = 0
            self._queued -= sent
            if sent < len(data):
                queue.appendleft(data[sent:])
                return
        self._want_write(False)
        if self.state is LINGERING:
            self._shut()

    def _want_write(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._writer.start(self._writable)
        elif not wanted and self._writing:
            self._writer.stop()
        self._writing = wanted

    # ---- the end

    def _finish(self) -> None:
        """Send what waits, read no more, close: after an answer to what made no sense."""
        if self.state not in _SENDS:
            return
        self._forget_dialled()
        self.state = LINGERING
        self._deadline = time.monotonic() + LINGER
        self._tell("what the peer sent made no sense")
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
        transport.handshakes.pop(self, None)
        if self.state is OPEN and self._tls is not None and not self._queue:
            try:
                self._say_goodbye()
            except OSError:
                pass
        if reason is not None:
            transport.count(reason)
            log.debug("%r: %s: %s", self, reason, problem)
        self._forget_dialled()
        self.state = CLOSED
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._socket = self._tls = self._incoming = self._outgoing = None
        self._queue.clear()
        self._queued = 0
        transport.forget(self)
        self._tell(problem, error)

    def is_alive(self) -> bool:
        """True unless the peer has closed or reset the connection, seen or not: asked before it is used once more."""
        if self.state is not OPEN:
            return self.state in (CONNECTING, SHAKING_HANDS)
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
            late = {CONNECTING: "connect timeout", SHAKING_HANDS: "handshake timeout", OPEN: "never spoke"}.get(state)
            self.close(late, late or f"{state} too long")
        elif self._started is not None and (
            now - self._started >= limits.message or (not self._framer.in_body and now - self._started >= limits.header)
        ):
            self.close("slow message", "a message took too long to come whole")
        elif state is HALF_CLOSED and not self._owes_answers():
            self.close()
        elif state is OPEN and self._pinged and silent >= limits.ping + limits.pong:
            self.close("no pong", "the peer does not answer a ping (RFC 5626 §4.4.1)")
        elif state is OPEN and limits.ping and self.dialled is not None:
            if silent >= limits.ping and not self._pinged and not self._queue:
                self._pinged = True
                try:
                    self.send(PING)
                except TransportError:
                    pass
        elif silent >= limits.idle and (not self.transactions or self._queue):
            self.close("idle", "idle too long")


class TCP(Transport):
    """One listening TCP socket, IPv4 or IPv6, and the connections of both directions (RFC 3261 §18).

    `limits` bounds connections, `parser_limits` messages. `counts` tells what became of connections, by reason.
    Connections we open are kept and used again for their destination (§18.1.1), also over TLS by its name; those of peers
    are used for what belongs to the requests they brought: an address alone proves nobody (RFC 5923 §9.1).
    """

    name, reliable, default_port = "TCP", True, 5060

    checks_names = False

    def __init__(self, limits: StreamLimits | None = None, parser_limits: ParserLimits = DEFAULT_LIMITS) -> None:
        self.limits = limits or StreamLimits()
        self.parser_limits = parser_limits
        self.flows: set[StreamFlow] = set()
        """All connections there are."""
        self.pool: dict[Any, StreamFlow] = {}
        """Those we have opened, by host, port and name."""
        self.counts: dict[str, int] = {}
        """Reasons connections ended or were refused for, other than a peer's orderly close, and how many were accepted."""
        self.handshakes: dict[StreamFlow, None] = {}
        """Peers in the middle of a TLS handshake, the oldest first."""
        self.stopping = True
        self._sources: dict[str, int] = {}
        self._socket: Any = None
        self._acceptor: Any = None
        self._pause: Any = None
        self._sweeper: Any = None
        self._interfaces = Interfaces("")

    # ---- life

    def start(self, address: Address, receive: Receive) -> None:
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        raw = socket._socket.socket(family, socket.SOCK_STREAM)
        try:
            raw.setblocking(False)
            # Connections of an earlier process in TIME_WAIT must not keep us out; a listening one still does.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            raw.bind((host, port))
            raw.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            raw.close()
            reason = getattr(error, "strerror", None) or error
            shown = f"[{host}]" if ":" in host else host
            raise TransportError(f"cannot listen on {self.name.lower()}:{shown}:{port}: {reason}") from error
        self._socket = raw
        self.local = raw.getsockname()[:2]
        self._interfaces = Interfaces(self.local[0])
        self.receive = receive
        self.stopping = False
        self.loop = gevent.get_hub().loop
        limits = self.limits
        times = (limits.connect, limits.handshake, limits.first, limits.header, limits.message, limits.idle, limits.pong)
        every = min(SWEEP, min(times) / 4)
        self._pause = self.loop.timer(PAUSE)
        self._sweeper = self.loop.timer(every, every)
        self._acceptor = self.loop.io(raw.fileno(), 1)
        self._acceptor.start(self._acceptable)

    def stop(self) -> None:
        if self._socket is None:
            return
        self.stopping = True
        for watcher in (self._acceptor, self._pause, self._sweeper):
            watcher.stop()
            watcher.close()
        self._socket.close()
        for flow in [*self.flows]:
            flow.close()
        self._socket = self._acceptor = self._pause = self._sweeper = None
        self.pool.clear()
        self._sources.clear()

    def count(self, reason: str) -> None:
        """Count what became of a connection."""
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def context(self, is_server: bool) -> Any:
        """Return the SSL context for a new connection, None for none."""
        return None

    def is_ours(self, host: str) -> bool:
        """True when this numeric host is one we listen on: on a wildcard socket, any that the system lets us bind."""
        return self._interfaces.is_ours(host)

    # ---- connections of peers

    def _acceptable(self) -> None:
        for _ in range(ACCEPTS):
            try:
                number, address = self._socket._accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self.count("no descriptor")
                    self._acceptor.stop()
                    self._pause.start(self._resume)
                    log.warning("%r accepts nothing for %g s: %s", self, PAUSE, error.strerror)
                    return
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return
                self.count("accept failed")  # ECONNABORTED and the network errors of accept(2): that connection's alone
                continue
            self._accept(socket._socket.socket(self._socket.family, socket.SOCK_STREAM, 0, number), address)
            if self._socket is None:
                return

    def _resume(self) -> None:
        self._acceptor.start(self._acceptable)

    def _accept(self, raw: Any, address: Any) -> None:
        host = address[0].partition("%")[0]
        limits = self.limits
        here = self._sources.get(host, 0)
        refusal = None
        if len(self.flows) >= limits.connections:
            refusal = "too many connections"
        elif here >= limits.connections_per_source:
            refusal = "too many connections of one source"
        elif self.secure and self.context(True) is None:
            refusal = "no certificate"
        if refusal is not None:
            self.count(refusal)
            raw.close()
            return
        if len(self.handshakes) >= limits.handshakes:  # the oldest is the likeliest to stall, and makes room
            next(iter(self.handshakes)).close("too many handshakes", "too many TLS handshakes are under way")
        self._sources[host] = self._sources.get(host, 0) + 1
        try:
            self._prepare(raw)
            self._note(StreamFlow(self, raw, (host, address[1])))
        except OSError:  # it is gone already
            self.count("accept failed")
            raw.close()
            self._release(host)
            return
        self.count("accepted")

    def _prepare(self, raw: Any) -> None:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a message is a whole: there is nothing to wait for

    def _note(self, flow: StreamFlow) -> None:
        if flow.state is CLOSED:
            return
        self.flows.add(flow)
        if not self._sweeper.active:
            self._sweeper.start(self._sweep)

    def _release(self, host: str) -> None:
        left = self._sources.get(host, 0) - 1
        if left > 0:
            self._sources[host] = left
        else:
            self._sources.pop(host, None)

    def forget(self, flow: StreamFlow) -> None:
        """Take a closed flow out of all books."""
        self.flows.discard(flow)
        if flow.dialled is None:
            self._release(flow.remote[0])

    def _sweep(self) -> None:
        now = time.monotonic()
        for flow in [*self.flows]:
            if flow.state is not CLOSED:
                flow.sweep(now)
        if not self.flows and self._sweeper is not None:
            self._sweeper.stop()

    # ---- connections of ours

    def connect(self, address: Address, *, name: str | None = None) -> StreamFlow:
        """Return the flow to an address: one of ours that is alive, or a new one, whose messages wait until it stands."""
        if self._socket is None:
            raise TransportError("the transport is not open")
        host, port = address
        if (":" in host) != (":" in self.local[0]):
            raise TransportError(f"{self!r} has no way to {host}: the other IP version")
        key = (host, port, name.lower() if name and self.secure else None)
        flow = self.pool.get(key)
        if flow is not None:
            if flow.is_alive():
                return flow
            flow.close("found dead", "the peer has closed the connection")
        if len(self.flows) >= self.limits.connections:
            self.count("too many connections")
            raise TransportError(f"{self!r} holds {len(self.flows)} connections, and may hold no more")
        raw: Any = None
        try:
            raw = socket._socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            self._prepare(raw)
            if self.local[0] not in WILDCARDS:
                raw.bind((self.local[0], 0))
            code = raw.connect_ex((host, port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            flow = StreamFlow(self, raw, address, dialled=key, name=name)
        except (OSError, OverflowError) as error:
            if raw is not None:
                raw.close()
            self.count("connect failed")
            reason = getattr(error, "strerror", None) or error
            raise TransportError(f"cannot connect to {self.name.lower()}:{host}:{port}: {reason}") from error
        self.pool[key] = flow
        self._note(flow)
        return flow


class TLSTransport(TCP):
    """TCP with TLS upon it (RFC 3261 §26.2.1, RFC 5922): `tls` says who we are and whom we trust.

    Without a certificate it connects, and accepts nobody.
    """

    name, secure, default_port = "TLS", True, 5061

    def __init__(self, tls: TLS, limits: StreamLimits | None = None, parser_limits: ParserLimits = DEFAULT_LIMITS) -> None:
        super().__init__(limits, parser_limits)
        self.tls = tls

    @property
    def checks_names(self) -> bool:  # type: ignore[override]
        """True unless the user has asked for connections to just anybody."""
        return self.tls.verify

    def context(self, is_server: bool) -> Any:
        return self.tls.server_context if is_server else self.tls.client_context
