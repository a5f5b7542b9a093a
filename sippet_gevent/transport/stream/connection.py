"""Connection: the life of a channel to one peer, RFC 3261 §18 and §26.2.1: handshakes, messages,
deadlines, the end.

It connects and shakes hands in callbacks of the loop, as it reads and writes; one sweep keeps every
deadline. So a peer that stalls costs its descriptor and its buffers. What the octets mean is its
subclasses' matter: StreamFlow cuts them into messages, WebSocketFlow into frames.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from gevent import socket
from gevent.event import Event

from ...errors import ParseError, TransportError
from ..base import Address
from .channel import Channel
from .proxy_protocol import read as read_proxy_header
from .tls_session import Cipher

LINGER = 2.0
"""Seconds a refused peer has to take the answer: closing with its octets unread would reset it
away."""

log = logging.getLogger("sippet_gevent.transport")

CONNECTING, INTRODUCED, SHAKING_HANDS, UPGRADING, OPEN, HALF_CLOSED, LINGERING, CLOSED = (
    "connecting", "being introduced", "shaking hands", "upgrading", "open", "half closed", "lingering", "closed",
)  # fmt: skip

BEFORE = frozenset((CONNECTING, INTRODUCED, SHAKING_HANDS, UPGRADING))
"""States in which messages wait."""

SENDS = frozenset((OPEN, HALF_CLOSED))
"""States in which messages go out."""

_READS = frozenset((UPGRADING, OPEN, HALF_CLOSED))


class Connection(Channel):
    """One connection. `state` says how far it is; `dialled` is the key of one we have opened, None
    of a peer's.

    A subclass says what stands at its beginning, `begin()`, what octets mean, `feed(data)`, and how
    to `ping()`. It is OPEN when it says so, `opened()`; until then messages wait, in bounded
    number.
    """

    __slots__ = (
        "_deadline", "_heard", "_held", "_kept_until", "_kind", "_pinged", "_prefix", "_probed", "_standing", "_started",
        "dialled", "is_lost", "local", "name", "octets", "peer_identity", "scope", "source", "state", "transactions",
    )  # fmt: skip

    local: Address
    probes = True

    half_closes = True
    """True where a peer that sends no more may still want answers."""

    def __init__(
        self,
        transport: Any,
        raw: Any,
        remote: Address,
        *,
        dialled: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(transport, raw)
        limits = transport.limits
        self.remote = remote
        self.dialled = dialled
        self.name = name
        self.peer_identity = ()
        self.transactions = set()
        bound = raw.getsockname()
        self.local = (bound[0], transport.local[1])
        self.scope = bound[3] if len(bound) > 2 else 0
        self._held: list[bytes] | None = []  # messages that wait for the connection to be open
        # of the TransportError that its end is, where that is not the reason it is counted by
        self._kind = ""
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
        if dialled is not None:
            self.state = CONNECTING
            self._deadline = self._heard + limits.connect
            self._writer.start(self._connected)
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
        names_peer = transport.names_peer if transport.checks_names else None
        try:
            self._cipher = (
                Cipher(context) if is_server else Cipher(context, self._asked, names_peer)
            )
        except TransportError as error:
            self._kind = error.kind
            self.close("handshake failed", str(error), error.__cause__)
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
            self.close(
                "connect failed",
                f"cannot connect: {os.strerror(code)}",
                OSError(code, os.strerror(code)),
            )
            return
        self._writer.stop()
        self._heard = time.monotonic()
        self._stands()

    def _shake_hands(self) -> None:
        try:
            proved = self._cipher.shake_hands()
        except TransportError as error:
            self._flush()  # the alert that tells the peer why
            self._kind = error.kind
            self.close("handshake failed", str(error), error.__cause__)
            return
        if proved is None:
            self._flush()
            return
        self.peer_identity = proved
        if self.dialled is None:
            self.transport.handshake_ended(self)
            self._deadline = time.monotonic() + self.transport.limits.first
        self._flush()
        if self.state is SHAKING_HANDS:
            self.begin()

    # ---- reading

    def received(self, data: bytes) -> None:
        if self.state is LINGERING:
            if not data:
                self.close()
            return
        self._heard = time.monotonic()
        if self.state is INTRODUCED:
            self._introduce(data)
        elif self._cipher is not None:
            self._received_ciphered(data)
        elif data:
            self.octets += len(data)
            self.feed(data)
        else:
            self._ended()

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
                self.close(
                    "too many connections of one source",
                    f"{header.source[0]} has too many connections",
                )
                return
            self.source = header.source[0]
        self._deadline = self._heard + self.transport.limits.first
        self._stands()
        if rest and self.state is not CLOSED:
            self.received(rest)

    def _received_ciphered(self, data: bytes) -> None:
        if data:
            self._cipher.take(data)
            if self.state is SHAKING_HANDS:
                if not self.transport.handshakes.may_step(self):
                    self._reader.stop()  # no more is taken before its turn has come
                    return
                self._shake_hands()
            self._read_ciphered()
        elif self.state is SHAKING_HANDS:
            self.close("handshake failed", "the peer closed the connection in the TLS handshake")
        else:
            self._ended()

    def take_step(self) -> None:
        """It is this connection's turn to go on with its handshake."""
        self._reader.start(self._readable)
        self._shake_hands()
        self._read_ciphered()

    def _read_ciphered(self) -> None:
        cipher = self._cipher
        while self.state in _READS:
            try:
                text = cipher.decipher()
            except TransportError as error:
                self.close("reset", str(error), error.__cause__)
                return
            if text is None:
                self._flush()
                return
            if not text:
                self.gone(None)
                return
            self.octets += len(text)
            self.feed(text)

    def gone(self, error: OSError | None) -> None:
        if self.transport.endings.may_end(self, error):
            self.end(error)
        else:
            self.is_lost = True
            self._reader.stop()  # it would say so again at every turn until it is this one's

    def end(self, error: OSError | None) -> None:
        """It is this connection's turn to end, as its peer did."""
        if error is None:
            self.received(b"")
        else:
            self.broke(error)

    def broke(self, error: OSError) -> None:
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
        """True while answers to what the peer has sent are still to be made, or wait to be
        written."""
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

    def withdraw(self, data: bytes | None) -> bool:
        """Take back a message that waits for the connection, or for the kernel. One that is partly
        written stays."""
        if data is None:
            return False
        waiting: Any = self._queue if self._held is None else self._held
        for at, message in enumerate(waiting):
            if message is data:  # what is written in part, enciphered or framed is another object
                del waiting[at]
                self._queued -= len(data)
                return True
        return False

    def _flush(self) -> None:
        """Send what TLS itself has to say. It goes before messages, which wait for the handshake's
        end."""
        data = self._cipher.flush()
        if not data:
            return
        try:
            sent = 0 if self._writing else self._give(data)
            if sent == len(data):
                return
            # a few KB, which an empty send buffer holds: who has no room for them is no peer
            if self.state is SHAKING_HANDS:
                self.close("handshake failed", "the kernel has no room for a TLS handshake")
                return
            # a peer may ask for new keys as often as it likes, and never read (RFC 8446 §4.6.3)
            self._wait(data[sent:])
        except TransportError:
            pass  # it is closed

    def drained(self) -> None:
        if self.state is LINGERING:
            self._shut()

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
            self._say_no_more()
        except OSError:
            self.close()

    def _forget_dialled(self) -> None:
        pool = self.transport.pool
        if self.dialled is not None and pool.get(self.dialled) is self:
            del pool[self.dialled]

    def _tell(self, problem: str, error: BaseException | None = None) -> None:
        """Tell the engine that no response will come by this flow, once nobody is in the middle of
        using it."""
        if self.transactions and not self.transport.stopping:
            failure = TransportError(f"{self!r} has ended: {problem}", self, kind=self._kind)
            failure.__cause__ = error
            self.transport.loop.run_callback(self.transport.events.flow_ended, self, failure)

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None:
        """Close at once, counted under `reason`. Its client transactions end. Does nothing when
        closed already."""
        if self.state is CLOSED:
            return
        transport = self.transport
        transport.handshake_ended(self)
        if self.state is OPEN and not self._queue:
            try:
                self.farewell()
                self._say_goodbye()
            except OSError:  # a TransportError is one, too
                pass
            if self.state is CLOSED:  # the farewell has found it broken
                return
        if reason is not None:
            transport.count(reason)
            log.debug("%r: %s: %s", self, reason, problem)
        if reason is not None and not self._kind and getattr(error, "errno", None) is None:
            self._kind = reason.replace(" ", "_")
        self._forget_dialled()
        self.state = CLOSED
        self._release()
        self._held = None
        transport.forget(self)
        if self._standing is not None:
            self._standing.set()
        self._tell(problem, error)

    # ---- whether it lives, and how long

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
        """True unless the peer has closed or reset the connection, seen or not: asked before it is
        used once more."""
        if self.state is not OPEN:
            return self.state in BEFORE
        return self._has_more()

    def sweep(self, now: float) -> None:
        """Keep the deadlines: what is too late is closed and counted."""
        limits = self.transport.limits
        state = self.state
        silent = now - self._heard
        if self._deadline is not None and now >= self._deadline:
            late = _LATE.get(state)
            self.close(late, late or f"{state} too long")
        elif self._started is not None and (
            now - self._started >= limits.message
            or (self.in_header and now - self._started >= limits.header)
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
        elif (
            silent >= limits.idle
            and now >= self._kept_until
            and (not self.transactions or self._queue)
        ):
            self.close("idle", "idle too long")

    def keep(self, seconds: float) -> None:
        """Be silent within these seconds without being closed for it; the kernel asks whether the
        peer is there."""
        if not self._kept_until and self._socket is not None and not self._have_kernel_probe():
            return
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
