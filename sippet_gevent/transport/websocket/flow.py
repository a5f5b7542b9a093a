"""WebSocketFlow: a connection that carries messages in frames, RFC 7118 and RFC 6455 §5. Frames
are read and written by wsproto."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

from ...errors import TransportError
from ...message.framer import PING, PONG
from ..base import Address
from ..stream.connection import OPEN, UPGRADING
from ..stream.pacing import MESSAGES
from ..stream.transport import Destination, StreamTransport
from .handshake import Handshake
from .upgrade import ClientUpgrade, ServerUpgrade, UpgradingConnection

if TYPE_CHECKING:
    from _socket import socket as Socket

FRAGMENTS = 100
"""Most frames of one message. Senders split by size, and a message of 64 KB is small."""

EMPTY_FRAMES = 200
"""Most pings, pongs and keep-alives between two sweeps, which are half a second apart. Each costs
us far more than the peer, which sends six bytes."""


class LengthCap(Extension):
    """Refuses a frame by its header if its payload is too long, before any payload is kept (RFC
    6455 §10.4)."""

    name = "length cap"  # never negotiated, because a token contains no blank

    def __init__(self, size: int) -> None:
        self._size = size

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: object, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        return CloseReason.MESSAGE_TOO_BIG if payload_length > self._size else _NO_RSV


_NO_RSV = RsvBits(False, False, False)


class WebSocketFlow(UpgradingConnection):
    """A connection that an upgrade turns into a WebSocket.

    Args:
        upgrade: Speaks HTTP with the peer until the WebSocket is open.
        transport, raw, remote, dialled, name: As for Connection.
    """

    __slots__ = (
        "_empty", "_ends", "_events", "_fragments", "_frames", "_is_header", "_parts", "_ping",
        "_upgrade", "handshake",
    )  # fmt: skip

    half_closes = False

    def __init__(
        self,
        transport: StreamTransport,
        raw: Socket,
        remote: Address,
        upgrade: ClientUpgrade | ServerUpgrade,
        *,
        dialled: Destination | None = None,
        name: str | None = None,
    ) -> None:
        self.handshake: Handshake | None = None
        self._upgrade: ClientUpgrade | ServerUpgrade | None = upgrade
        self._frames: Frames | None = None
        self._parts: bytearray | None = None  # the content of an incomplete message
        self._fragments = self._empty = 0
        self._events: Iterator[Event] | None = None  # of the last bytes
        self._ping: Ping | None = None  # the last one among them
        self._ends = False  # a message ends among them
        self._is_header = True  # they had no event: a part of the header of a frame, or of a ping
        self.on_drained = None
        super().__init__(transport, raw, remote, dialled=dialled, name=name)

    # ---- before it is open: HTTP

    def begin(self) -> None:
        assert self._upgrade is not None
        self._enter(UPGRADING)
        self._upgrade.begin(self)

    def feed(self, data: bytes) -> None:
        if self._frames is not None:
            self._feed_frames(self._frames, data)
        elif self._upgrade is not None:
            self._upgrade.feed(data)

    def step(self) -> None:
        if self._upgrade is not None:
            self._upgrade.step()

    def upgraded(
        self, side: ConnectionType, rest: bytes, handshake: Handshake | None = None
    ) -> None:
        self.handshake = handshake
        self._upgrade = None
        frames = Frames(side, [LengthCap(self.transport.parser_limits.message)])
        self._frames = frames
        self.opened()
        if rest and self.state is OPEN:
            self._feed_frames(frames, rest)

    # ---- frames of the peer

    def _feed_frames(self, frames: Frames, data: bytes) -> None:
        if self.dialled is None:
            self._deadline = None
        if self._pinged:
            self._pinged = False
            self.keepalives_answered += 1
        self._ping, self._ends, self._is_header = None, False, True
        frames.receive_data(data)
        self._events = frames.events()
        self.serve()

    def serve(self) -> bool:
        if self._events is None or self._frames is None:
            return False
        self._serve_events(self._frames, self._events)
        return True

    def _serve_events(self, frames: Frames, events: Iterator[Event]) -> None:
        left = MESSAGES
        for event in events:
            self._is_header = False
            if isinstance(event, (TextMessage, BytesMessage)):
                content = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
                self._ends = self._ends or event.message_finished
                left -= 1
                self._take(content, event.frame_finished, event.message_finished)
            elif isinstance(event, CloseConnection):
                self._closed(frames, event)
            else:
                self._ping = event if isinstance(event, Ping) else self._ping
                self._empty += 1
            if self.state is not OPEN:
                return
            if self._empty > EMPTY_FRAMES:
                break
            if not left:
                self.hold()
                return
        self._events = None
        if self._ping is not None:  # a pong to the last one answers all of them (RFC 6455 §5.5.3)
            try:
                self.write(frames.send(self._ping.response()))
            except TransportError:
                return
        if self._empty > EMPTY_FRAMES:
            self._fail(CloseReason.POLICY_VIOLATION, "too many frames without a message")
        elif self._parts is None and not self._is_header:
            self._started = None
        elif self._ends or self._started is None:
            self._started = self._heard

    def _take(self, data: bytes, ends_frame: bool, ends_message: bool) -> None:
        """Take a part of a message, which usually is the whole of it."""
        if self._parts is not None or not ends_message:
            parts = self._parts = bytearray() if self._parts is None else self._parts
            parts += data
            self._fragments += ends_frame
            if len(parts) > self.transport.parser_limits.message:
                self._fail(CloseReason.MESSAGE_TOO_BIG, "the message is too long")
                return
            if not ends_message:
                if self._fragments > FRAGMENTS:
                    problem = f"a message of over {FRAGMENTS} fragments"
                    self._fail(CloseReason.POLICY_VIOLATION, problem)
                return
            data = bytes(parts)
            self._parts, self._fragments = None, 0
        if data == PING:  # the CRLF keep-alive of RFC 5626 §3.5.1 (RFC 7118 §6)
            self._empty += 1
            try:
                self.send(PONG)
            except TransportError:
                pass
        elif data == PONG or not data:
            self._empty += 1
        elif b"SIP/" in data[: data.find(b"\r\n")].upper():
            self.transport.receive(data, self)
        else:
            self._fail(CloseReason.INVALID_FRAME_PAYLOAD_DATA, "not a SIP message")

    def _closed(self, frames: Frames, event: CloseConnection) -> None:
        """The peer closes the WebSocket, or has violated the protocol."""
        if frames.state is ConnectionState.REMOTE_CLOSING:
            self._say(event.response())
            self.finish("the peer has closed the WebSocket")
        else:
            self._fail(CloseReason(event.code), event.reason or "")

    def _fail(self, code: CloseReason, problem: str) -> None:
        """Close because of a mistake of the peer."""
        self.transport.count("malformed")
        self._say(CloseConnection(code=code, reason=problem[:100]))
        self.finish(problem)

    # ---- frames of ours

    def _say(self, event: Event) -> None:
        try:
            self._write_frame(event)
        except TransportError:
            pass  # the connection is closed

    def _write_frame(self, event: Event) -> None:
        assert self._frames is not None
        self.write(self._frames.send(event))

    def send(self, data: bytes) -> None:
        frames = self._frames
        if frames is None or self.state is not OPEN:
            super().send(data)
            return
        event: Event
        try:
            event = TextMessage(data=data.decode("utf-8"))
        except UnicodeDecodeError:
            event = BytesMessage(data=data)
        self.write(frames.send(event))

    def ping(self) -> None:
        self._write_frame(Ping())

    def farewell(self) -> None:
        if self._frames is not None and self._frames.state is ConnectionState.OPEN:
            code = CloseReason.GOING_AWAY if self.transport.stopping else CloseReason.NORMAL_CLOSURE
            self._write_frame(CloseConnection(code=code))

    # ---- deadlines and the end

    @property
    def ping_after(self) -> float:
        limits = self.transport.limits
        return limits.ping or limits.websocket_ping

    @property
    def is_idle(self) -> bool:
        return self._parts is None and self._started is None and not self.has_backlog

    @property
    def in_header(self) -> bool:
        return False

    def sweep(self, now: float) -> bool:
        self._empty = 0
        return super().sweep(now)

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None:
        super().close(reason, problem, error)
        # transactions know this flow for half a minute, and the rest of a message may be long
        self._upgrade = self._frames = self._parts = self._events = None
