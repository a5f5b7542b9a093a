"""Connection: one connection to a peer, from connecting to its end, RFC 3261 §18 and §26.2.1.

A connection is always in one of eight states. The table at the end of this file has a row for each
state. The row says what happens to bytes from the peer, what their end means, and which deadline
applies. The methods above it are the actions of the table, and the events that lead from row to
row.

Everything runs in callbacks of the loop, and one sweep keeps all deadlines. A peer that stalls
therefore costs a descriptor and some buffers, and no greenlet. Subclasses interpret the bytes.
StreamFlow cuts them into messages, WebSocketFlow into frames.

The module is long because the table and its actions belong together.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from gevent import socket
from gevent.event import Event

from ...errors import ParseError, TransportError
from ...observe.log_values import Quoted
from ..base import Address
from .channel import READ, RETRY
from .keepalive import KeptAlive
from .proxy_protocol import read as read_proxy_header
from .state import Late, State
from .tls_session import TLSSession
from .transport import Destination, StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket

LINGER = 2.0
"""Seconds in which a refused peer can read the answer. Closing a socket with unread bytes would
reset the connection, and the answer would be lost."""

log = logging.getLogger("sippet_gevent.transport")


class Connection(KeptAlive):
    """One connection. `state` is its row in the table.

    Subclasses implement `feed(data)` and `ping()`, and may implement `begin()`, `step()` and
    `farewell()`. Messages wait, in bounded number, until a subclass calls `opened()`.

    Args:
        transport: The listening point.
        raw: The connected or connecting socket. It does not block.
        remote: The address of the peer.
        dialled: The destination of a connection of ours. None for a connection of a peer.
        name: The domain that the peer of a connection of ours must prove.
    """

    __slots__ = (
        "_held", "_kind", "_opened", "_prefix", "before_mark", "bound", "bytes_received",
        "dialled", "has_backlog", "local", "marked_at", "name", "peer_identity", "scope", "source",
    )  # fmt: skip

    local: Address
    bound: Address
    state: State[Connection]

    half_closes = True
    """True when a peer that has sent its last bytes may still want responses."""

    def __init__(
        self,
        transport: StreamTransport,
        raw: Socket,
        remote: Address,
        *,
        dialled: Destination | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(transport, raw)
        self.remote = remote
        self.dialled = dialled
        self.name = name
        self.peer_identity = ()
        bound = raw.getsockname()
        self.local = (bound[0], transport.local[1])
        self.bound = bound[:2]
        self.scope = bound[3] if len(bound) > 2 else 0
        self._held: list[bytes] | None = []  # messages that wait for the connection to open
        self._kind = ""  # of the TransportError at its end, if it differs from the counted reason
        self._opened: Event | None = None  # for greenlets in wait_open()
        self.bytes_received = 0
        self.has_backlog = False
        self.marked_at, self.before_mark = 0.0, 0  # see Waits
        self._prefix = b""  # the bytes of a PROXY header that is not complete
        self.source: str | None = None
        self.state = CONNECTING
        if dialled is not None:
            self._enter(CONNECTING)
            self._writer.start(self._connected)
        elif transport.listener.proxy is not None:
            self._enter(PROXY_HEADER)
            self.resume()
        else:
            self.source = remote[0]
            self._established()

    # ---- what a subclass implements

    def begin(self) -> None:
        """Begin the protocol, after TCP, and TLS if used, are established."""
        self.opened()

    def feed(self, data: bytes) -> None:
        """Take content from the peer."""
        raise TypeError(f"{type(self).__name__} lacks .feed()")

    def serve(self) -> bool:
        """Serve messages that feed() has left, because they were more than one turn may serve.
        Returns False if there are none."""
        return False

    def step(self) -> None:
        """Take a step of an upgrade that had to wait for its turn."""

    def farewell(self) -> None:
        """Send the last bytes before an orderly end. Raises TransportError."""

    # ---- from row to row

    def _enter(self, state: State[Connection]) -> None:
        """Enter a state, with the deadline of its row."""
        self.state = state
        seconds = state.peer_deadline if self.dialled is None else state.own_deadline
        self.allow(None if seconds is None else seconds(self.transport.limits))

    def _connected(self) -> None:
        """The kernel has connected, or failed to."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            reason = os.strerror(code)
            self.close("connect_failed", f"cannot connect: {reason}", OSError(code, reason))
            return
        self._writer.stop()
        self._heard = time.monotonic()
        self._established()

    def _established(self) -> None:
        """Begin TLS, or else the protocol, because the TCP connection is established."""
        transport = self.transport
        tls = transport.tls
        self.resume()
        if tls is None:
            self.begin()
            return
        is_server = self.dialled is None
        context = tls.server_context if is_server else tls.client_context
        assert context is not None  # connections are accepted only while there is a certificate
        asked = None if is_server else (self.name or self.remote[0]).strip("[]")
        try:
            self._tls = TLSSession(context, asked, transport.matches_name if tls.verify else None)
        except TransportError as error:
            self._kind = error.kind
            self.close("handshake_failed", str(error), error.__cause__)
            return
        self._enter(TLS_HANDSHAKE)
        if is_server:
            transport.handshakes.begin(self)
        else:
            self._shake_hands()

    def _shake_hands(self) -> None:
        assert self._tls is not None
        try:
            proved = self._tls.shake_hands()
        except TransportError as error:
            self._flush()  # the alert that tells the peer the reason
            self._kind = error.kind
            self.close("handshake_failed", str(error), error.__cause__)
            return
        if proved is None:
            self._flush()
            return
        self.peer_identity = proved
        if self.dialled is None:
            self.transport.handshake_ended(self)
        self._flush()
        if self.state is TLS_HANDSHAKE:
            self.begin()

    def opened(self) -> None:
        """Enter OPEN, and send the messages that have waited."""
        self._enter(OPEN)
        waiting, self._held = self._held, None
        self._queued = sum(map(len, self._queue))
        for data in waiting or ():
            if not self.state.sends:
                return
            try:
                self.send(data)
            except TransportError:
                return
        if self._opened is not None:
            self._opened.set()

    # ---- bytes from the peer

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ)
        except OSError as error:
            if error.errno not in RETRY:
                self._gone(error)
            return
        if not data:
            self._gone(None)
            return
        self.before_mark -= len(data)
        self.state.take(self, data)
        if self.marked_at and not self.has_backlog:
            self.transport.waits.served(self)

    def _take_content(self, data: bytes) -> None:
        self._heard = time.monotonic()
        if not self.transport.waits.probe_at:
            self.transport.waits.look()
        if self._tls is None:
            self.bytes_received += len(data)
            self.feed(data)
        else:
            self._tls.take(data)
            self._read_tls()

    def _take_proxy_header(self, data: bytes) -> None:
        """Take bytes of the header with which a load balancer names its client."""
        self._heard = time.monotonic()
        self._prefix += data
        try:
            found = read_proxy_header(self._prefix)
        except ParseError as error:
            self.close("bad_proxy_header", str(error), error)
            return
        if found is None:
            return
        header, length = found
        rest, self._prefix = self._prefix[length:], b""
        if header.source is not None:
            host = header.source[0]
            self.remote = header.source
            self.scope = 0
            if not self.transport.count_source(host):
                problem = f"{host} has too many connections"
                self.close("too_many_connections_per_source", problem)
                return
            self.source = host
        self._established()
        if rest:
            self.state.take(self, rest)

    def _take_handshake(self, data: bytes) -> None:
        assert self._tls is not None
        self._heard = time.monotonic()
        self._tls.take(data)
        if self.transport.handshakes.may_step(self):
            self._step_handshake()
        else:
            self.pause()

    def _step_upgrade(self) -> None:
        self.step()

    def _step_handshake(self) -> None:
        self._shake_hands()
        self._read_tls()

    def _discard(self, data: bytes) -> None:
        """Ignore bytes that arrive too late."""

    def take_step(self) -> bool:
        step = self.state.step
        if step is None:
            return False
        self.resume()
        step(self)
        return True

    def hold(self) -> None:
        """Read no more until further messages have had their turns, by serve()."""
        self.has_backlog = True
        self._started = None  # the peer does not keep us waiting
        self.pause()
        self.transport.backlogs.wait(self)
        self.transport.waits.mark(self)

    def take_turn(self) -> bool:
        if self.state is CLOSED:
            return False
        self.has_backlog = False
        if self.state.reads and self.serve() and self._tls is not None and not self.has_backlog:
            self.hold()  # the rest of its records has another turn
        if not self.has_backlog and self.state is not CLOSED:
            self._heard = time.monotonic()  # the peer can go on from now on
            if self._started is not None:
                self._started = self._heard
            self.resume()
            if self._tls is not None:
                self._read_tls()
        if self.marked_at:
            self.transport.waits.served(self)
        return True

    def sweep(self, now: float) -> bool:
        # what the peer has sent meanwhile, such as a pong, is not read yet
        return not self.has_backlog and super().sweep(now)

    def _read_tls(self) -> None:
        """Read the content of all records that have arrived."""
        while self.state.reads and not self.has_backlog:
            assert self._tls is not None
            try:
                content = self._tls.decrypt()
            except TransportError as error:
                self.close("reset", str(error), error.__cause__)
                return
            if content is None:
                self._flush()
                return
            if not content:
                self._gone(None)
                return
            self.bytes_received += len(content)
            self.feed(content)

    # ---- the end of the peer's bytes

    def _gone(self, error: OSError | None) -> None:
        """The peer has sent its last bytes or, with an error, the connection is broken."""
        if self.transport.endings.may_end(self, error):
            self.end(error)
        else:
            self.is_lost = True
            self.pause()  # the socket would report it in each turn until this connection's own

    def end(self, error: OSError | None) -> bool:
        if self.state is CLOSED:
            return False
        if error is None:
            self.state.end(self)
        else:
            self.broke(error)
        return True

    def broke(self, error: OSError) -> None:
        self.is_lost = True
        self.close("reset", f"the connection broke: {error.strerror or error}", error)

    def _end_proxy_header(self) -> None:
        problem = "the peer closed the connection in its PROXY header"
        self.close("bad_proxy_header", problem, ParseError(problem))

    def _end_handshake(self) -> None:
        self.close("handshake_failed", "the peer closed the connection in the TLS handshake")

    def _end_upgrade(self) -> None:
        self._note_end()
        self.close(None, "the peer has closed the connection")

    def _end_content(self) -> None:
        """Wait for responses that the peer may still want, or close."""
        self._note_end()
        if not self.half_closes or not self._owes_answers():
            self.close(None, "the peer has closed the connection")
            return
        self.transport.count("half_closed")
        self.state = HALF_CLOSED  # the deadline stays what it is
        self._report_end("the peer sends no more")

    def _note_end(self) -> None:
        self._heard = time.monotonic()
        if not self.is_idle:
            self.transport.count("truncated")
        self.is_lost = True
        self._started = None  # the rest of an incomplete message will never arrive
        self._retire()
        self.pause()

    def _end_lingering(self) -> None:
        self.close()

    # ---- writing

    def send(self, data: bytes) -> None:
        if self.state.sends:
            self.write(data)
        elif self._held is not None and self.state.holds:
            self._reserve(len(data), len(self._held))
            self._held.append(data)
        else:
            raise TransportError(f"{self!r} is closed", self)

    def withdraw(self, data: bytes | None) -> bool:
        """Take back a message that waits for the connection, or for the kernel.

        Returns True when nothing of it is sent. A message that is partly written stays.
        """
        if data is None:
            return False
        waiting = self._queue if self._held is None else self._held
        for at, message in enumerate(waiting):
            # What is written in part, encrypted or framed is another object.
            if message is data:
                del waiting[at]
                self._queued -= len(data)
                return True
        return False

    def _flush(self) -> None:
        """Send what TLS itself has to send. It goes before messages, which wait for the end of the
        handshake."""
        assert self._tls is not None
        data = self._tls.flush()
        if not data:
            return
        try:
            sent = 0 if self._writing else self._give(data)
            if sent == len(data):
                return
            # The few KB of a handshake fit into an empty send buffer.
            if self.state is TLS_HANDSHAKE:
                self.close("handshake_failed", "the kernel has no room for a TLS handshake")
                return
            # A peer may request new keys at any rate, and never read (RFC 8446 §4.6.3).
            self._wait(data[sent:])
        except TransportError:
            pass  # the connection is closed

    def drained(self) -> None:
        if self.state is LINGERING:
            self._finish_sending()

    # ---- our end

    def finish(self, problem: str = "the bytes of the peer make no sense") -> None:
        """Send the waiting bytes, ignore further bytes, and close soon. Used after an error
        response."""
        if not self.state.reads:
            return
        self._retire()
        self._enter(LINGERING)
        self._report_end(problem)
        if not self._queue:
            self._finish_sending()

    def _finish_sending(self) -> None:
        """Tell the peer that nothing more is sent. The end of the peer's bytes, or the deadline,
        then closes the connection."""
        try:
            self._shut_down()
        except OSError:
            self.close()

    def _retire(self) -> None:
        if self.dialled is not None:
            self.transport.retire(self.dialled, self)

    def _report_end(self, problem: str, error: BaseException | None = None) -> None:
        """Report to the engine that no further response arrives by this flow.

        The report is a callback of its own, because the engine may be in the middle of sending.
        """
        if (self.transactions or self._kept_until) and not self.transport.stopping:
            failure = TransportError(f"{self!r} has ended: {problem}", self, kind=self._kind)
            failure.__cause__ = error
            self.transport.loop.run_callback(self.transport.events.flow_ended, self, failure)

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None:
        if self.state is CLOSED:
            return
        transport = self.transport
        transport.handshake_ended(self)
        if self.state.is_whole and not self._queue:
            try:
                self.farewell()
                self._send_close_notify()
            except OSError:  # or a TransportError, which is one
                pass
            if self.state is CLOSED:  # the farewell has found the connection broken
                return
        if reason is not None:
            transport.count(reason)
            if log.isEnabledFor(logging.DEBUG):
                text = 'connection closed: flow=%s reason=%s problem="%r"'
                log.debug(text, self, reason, Quoted(problem))
        if reason is not None and not self._kind and getattr(error, "errno", None) is None:
            self._kind = reason
        self._retire()
        self.state = CLOSED
        self._release()
        self._held = None
        transport.waits.forget(self)
        transport.forget(self)
        if self._opened is not None:
            self._opened.set()
        self._report_end(problem, error)

    # ---- whether it is open

    @property
    def is_open(self) -> bool:  # type: ignore[override]
        """True while messages are sent at once: neither before it is open nor after its end."""
        return self.state.sends

    def wait_open(self) -> bool:
        if self.state.holds:
            if self._opened is None:
                self._opened = Event()
            self._opened.wait()
        return self.is_open

    @property
    def ping_after(self) -> float:
        return self.transport.limits.ping if self.dialled is not None else 0.0


# The table. CONNECTING is the first state of our own connections, and PROXY_HEADER of those behind
# a load balancer. Other connections of peers begin with TLS, or with the protocol above it.

CONNECTING = State(
    "connecting",
    take=Connection._discard,
    end=Connection._end_content,
    own_deadline=lambda limits: limits.connect,
    late=Late("connect_timeout", "connect timeout"),
    holds=True,
)
"""The kernel connects."""

PROXY_HEADER = State(
    "awaiting a PROXY header",
    take=Connection._take_proxy_header,
    end=Connection._end_proxy_header,
    peer_deadline=lambda limits: limits.handshake,
    late=Late("bad_proxy_header", "no PROXY header came in time"),
    holds=True,
)
"""A load balancer has connected, and its PROXY header is not complete."""

TLS_HANDSHAKE = State(
    "TLS handshake",
    take=Connection._take_handshake,
    end=Connection._end_handshake,
    own_deadline=lambda limits: limits.handshake,
    peer_deadline=lambda limits: limits.handshake,
    late=Late("handshake_timeout", "handshake timeout"),
    step=Connection._step_handshake,
    holds=True,
)
"""TLS is not established yet."""

UPGRADING = State(
    "upgrading",
    take=Connection._take_content,
    end=Connection._end_upgrade,
    own_deadline=lambda limits: limits.handshake,
    peer_deadline=lambda limits: limits.first,
    late=Late("handshake_timeout", "handshake timeout"),
    step=Connection._step_upgrade,
    holds=True,
    reads=True,
)
"""HTTP, before the WebSocket is open."""

OPEN = State(
    "open",
    take=Connection._take_content,
    end=Connection._end_content,
    peer_deadline=lambda limits: limits.first,
    late=Late("silent", "the peer has connected and sent nothing"),
    sweep=Connection._sweep_open,
    sends=True,
    reads=True,
    is_whole=True,
)
"""Messages pass both ways."""

HALF_CLOSED = State(
    "half closed",
    take=Connection._take_content,
    end=Connection._end_content,
    sweep=Connection._sweep_half_closed,
    sends=True,
    reads=True,
)
"""The peer sends no more, and waits for responses."""

LINGERING = State(
    "lingering",
    take=Connection._discard,
    end=Connection._end_lingering,
    own_deadline=lambda limits: LINGER,
    peer_deadline=lambda limits: LINGER,
    late=Late(None, "lingering too long"),
)
"""Our last bytes are sent, and the peer may read them before the connection closes."""

CLOSED = State("closed", take=Connection._discard, end=Connection._end_lingering)
"""The socket is closed."""
