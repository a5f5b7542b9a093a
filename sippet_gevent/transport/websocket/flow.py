"""WebSocket, RFC 7118 and RFC 6455, server and client: HTTP first, then frames, by wsproto; one SIP
message in each."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import h11
from gevent.pool import Group
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from ...errors import TransportError
from ...message.framer import PING, PONG
from ...message.iana import TRANSPORTS
from ..stream.connection import OPEN, UPGRADING, Connection
from ..stream.tcp import TCP, TLSTransport
from ..tls import names_web_server
from .handshake import SUBPROTOCOL, Handshake, Refusal, open_websocket, wants_websocket
from .http import BODY, REQUESTS, Exchange, answer
from .settings import Web

log = logging.getLogger("sippet_gevent.transport")

HANDSHAKE_OCTETS = 8192
"""Most bytes of an HTTP head, and of the lines between and behind the chunks of a body; cookies are
the largest part.

h11 itself counts only a head that has not come whole, so its limit depends on the segments. This
one does not.
"""

FRAGMENTS = 100
"""Frames of one message, at most: senders split by size, and a message of 64 KB is small."""

EMPTY_FRAMES = 200
"""Pings, pongs and keep-alives between two looks at the deadlines, half a second: each costs us
many times its six octets."""

_ONLY_WEBSOCKETS = Refusal(
    426, "here is SIP over WebSocket", (("Upgrade", "websocket"), ("Connection", "Upgrade, close"))
)
_LONG_HEAD = Refusal(431, f"a head of over {HANDSHAKE_OCTETS} octets")
_ONLY_GET = Refusal(405, "only GET is known here", (("Allow", "GET, HEAD"),))
_BARE_LF = re.compile(rb"(?<!\r)\n").search
_HEAD_END = b"\r\n\r\n"


class Cap(Extension):
    """Refuses a frame by its header when its payload is too long, before any of it is kept (RFC
    6455 §10.4)."""

    name = "length cap"  # never negotiated: no token has a blank

    def __init__(self, octets: int) -> None:
        self._octets = octets

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: object, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        return CloseReason.MESSAGE_TOO_BIG if payload_length > self._octets else _NO_RSV


_NO_RSV = RsvBits(False, False, False)


class WebSocketFlow(Connection):
    """A connection whose octets are HTTP until it is upgraded, and then frames. `handshake` is what
    the client asked for."""

    __slots__ = (
        "_body", "_empty", "_exchanging", "_fragments", "_frames", "_http", "_last", "_parts", "_request", "_unread",
        "handshake", "on_drained",
    )  # fmt: skip

    transport: WS

    half_closes = False

    def __init__(
        self, transport: WS, raw: Any, remote: Any, *, dialled: Any = None, name: str | None = None
    ) -> None:
        self.handshake: Handshake | None = None
        self.on_drained: Any = None
        self._frames: Any = None
        self._http: Any = None
        self._last = b""  # the head of an answer that has not come whole
        self._request: Any = None
        self._body = self._unread = b""
        self._exchanging = False  # the application is answering
        self._parts: bytearray | None = None  # what has come of a message
        self._fragments = self._empty = 0
        super().__init__(transport, raw, remote, dialled=dialled, name=name)

    # ---- before it is open: HTTP

    def begin(self) -> None:
        self.state = UPGRADING
        limits = self.transport.limits
        if self.dialled is None:
            self._deadline = time.monotonic() + limits.first
            self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HANDSHAKE_OCTETS)
            return
        self._deadline = time.monotonic() + limits.handshake
        host = self.name or self.remote[0]
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        if self.remote[1] != self.transport.default_port:
            host = f"{host}:{self.remote[1]}"
        self._http = H11Handshake(ConnectionType.CLIENT)
        asked = Request(host=host, target=self.transport.web.path, subprotocols=[SUBPROTOCOL])
        try:
            self.write(self._http.send(asked))
        except (TransportError, ValueError) as error:  # a name that idna does not know
            self.close("handshake failed", f"cannot ask for a WebSocket: {error}", error)

    def feed(self, data: bytes) -> None:
        if self._frames is not None:
            self._feed_frames(data)
        elif self.dialled is not None:
            self._feed_answer(data)
        elif self.transport.handshakes.may_step(self):
            self._feed_request(data)
        else:
            self._unread += data
            self._reader.stop()  # no more is taken before its turn has come

    def take_step(self) -> None:
        if self.state is not UPGRADING:
            super().take_step()
            return
        self._reader.start(self._readable)
        data, self._unread = self._unread, b""
        self._feed_request(data)

    def _feed_answer(self, data: bytes) -> None:
        """Take the server's answer to our request for a WebSocket."""
        self._last += data
        head, end, rest = self._last.partition(_HEAD_END)
        if len(head) + len(end) > HANDSHAKE_OCTETS:
            self.close("handshake failed", f"the server's answer is over {HANDSHAKE_OCTETS} octets")
            return
        if not end:
            return
        self._last = b""
        try:
            self._http.receive_data(head + end)
            event = next(self._http.events())
        except (RemoteProtocolError, StopIteration, ValueError) as error:
            self.close("handshake failed", f"the server opens no WebSocket: {error}", error)
            return
        if isinstance(event, RejectConnection):
            self.close(
                "handshake failed", f"the server opens no WebSocket: it answers {event.status_code}"
            )
        elif not isinstance(event, AcceptConnection) or event.subprotocol != SUBPROTOCOL:
            self.close(
                "handshake failed", "the server does not speak sip on its WebSocket (RFC 7118 §4.1)"
            )
        else:
            self._upgraded(ConnectionType.CLIENT, rest)

    def _feed_request(self, data: bytes) -> None:
        """Take HTTP from a client: a request for a WebSocket, or any other."""
        self._http.receive_data(data)
        self._next_request()
        if (
            self._exchanging
            and self.state is UPGRADING
            and len(self._http.trailing_data[0]) > HANDSHAKE_OCTETS
        ):
            self._reader.stop()  # who does not wait for our answers waits to be read

    def _next_request(self) -> None:
        http = self._http
        while self.state is UPGRADING:
            waiting = http.trailing_data[0]
            if http.their_state is h11.IDLE:
                head, end, _ = waiting.partition(_HEAD_END)
                if _BARE_LF(head):
                    # h11 takes them for line ends; a proxy that reads the request may not (RFC 9112
                    # §2.2)
                    self._refuse(Refusal(400, "a line ends in a bare LF"))
                    return
                if len(head) + len(end) > HANDSHAKE_OCTETS:
                    self._refuse(_LONG_HEAD)
                    return
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(Refusal(error.error_status_hint or 400, str(error)))
                return
            octets = len(event.data) if type(event) is h11.Data else 0
            if len(waiting) - len(http.trailing_data[0]) - octets > HANDSHAKE_OCTETS:
                self._refuse(_LONG_HEAD)
                return
            # RFC 9110 §10.1.1
            if event is h11.NEED_DATA and http.they_are_waiting_for_100_continue:
                try:
                    self.write(
                        http.send(
                            h11.InformationalResponse(
                                status_code=100, headers=[], reason=b"Continue"
                            )
                        )
                    )
                except TransportError:
                    pass
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            kind = type(event)
            if kind is h11.Request:
                self._request, self._body = event, b""
            elif kind is h11.Data:
                self._body += event.data
                if len(self._body) > BODY:
                    self._refuse(Refusal(413, f"a body of over {BODY} octets"))
            elif kind is h11.EndOfMessage:
                self._serve(self._request)
            else:
                self.close()

    def _serve(self, request: h11.Request) -> None:
        web = self.transport.web
        if wants_websocket(request):
            self._open(request, web)
        elif web.app is None:
            if request.method in (b"GET", b"HEAD"):
                self._refuse(_ONLY_WEBSOCKETS, "no WebSocket asked for")
            else:
                self._refuse(_ONLY_GET, "no WebSocket asked for")
        elif len(self.transport.exchanges) >= REQUESTS:
            self._refuse(
                Refusal(503, "too many requests at one time", (("Retry-After", "5"),)),
                "too many HTTP requests",
            )
        else:
            self._deadline = None
            self._exchanging = True
            exchange = Exchange(self, self._http, request, self._body)
            self.transport.exchanges.spawn(self._exchange, exchange, web.app)

    def _exchange(self, exchange: Exchange, app: Any) -> None:
        goes_on = False
        try:
            goes_on = exchange.run(app)
        finally:  # back to the hub: the next request may open the WebSocket, and messages are received nowhere else
            self.transport.loop.run_callback(self._answered, goes_on)

    def _answered(self, goes_on: bool) -> None:
        """The application has answered a request: go on with the next one, or end."""
        self._exchanging = False
        if self.state is not UPGRADING:
            return
        self._reader.start(self._readable)
        if goes_on and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._request = None
            self._deadline = time.monotonic() + self.transport.limits.first
            self._next_request()
        else:
            self.finish("the answer was the last one")

    def _open(self, request: h11.Request, web: Web) -> None:
        """Open the WebSocket that was asked for, or say why not."""
        opened = open_websocket(request)
        if isinstance(opened, Refusal):
            self._refuse(opened)
            return
        handshake, accepted = opened
        try:
            status = web.refuses(handshake)
        except Exception as error:
            text = "Web.accept raised at %r of %r"
            self.transport.lines.line(
                log, logging.ERROR, "Web.accept", text, handshake, self, exc_info=error
            )
            status = 500
        if status:
            text = "WebSocket refused: origin=%s path=%s answered=%d source=%s"
            self.transport.lines.line(
                log,
                logging.INFO,
                "handshake refused",
                text,
                handshake.origin,
                handshake.path,
                status,
                self,
            )
            self._refuse(Refusal(status, "not for you"), "handshake refused")
            return
        self.handshake = handshake
        rest = self._http.trailing_data[0]
        try:
            self.write(accepted)
        except TransportError:
            return
        self._deadline = time.monotonic() + self.transport.limits.first
        self._upgraded(ConnectionType.SERVER, rest)

    def _refuse(self, refusal: Refusal, reason: str = "handshake failed") -> None:
        self.transport.count(reason)
        try:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self.write(
                    answer(
                        self._http, self._request, refusal.status, refusal.problem, refusal.headers
                    )
                )
            self.finish(refusal.problem)
        except (TransportError, h11.LocalProtocolError):
            self.close()

    def _upgraded(self, side: ConnectionType, rest: bytes) -> None:
        self._http = self._request = None
        self._body = self._last = b""
        self._frames = Frames(side, [Cap(self.transport.parser_limits.message)])
        self.opened()
        if rest and self.state is OPEN:
            self._feed_frames(rest)

    # ---- frames

    def _feed_frames(self, octets: bytes) -> None:
        frames = self._frames
        if self.dialled is None:
            self._deadline = None
        self._pinged = False
        ping = None
        # no event at all: it is a part of a frame's header, or of a ping
        ends, is_header = False, True
        frames.receive_data(octets)
        for event in frames.events():
            is_header = False
            kind = type(event)
            if kind is TextMessage or kind is BytesMessage:
                data = event.data.encode("utf-8") if kind is TextMessage else event.data
                ends = ends or event.message_finished
                self._take(data, event.frame_finished, event.message_finished)
            elif kind is CloseConnection:
                self._closed(event)
            else:
                ping = event if kind is Ping else ping
                self._empty += 1
            if self.state is not OPEN:
                return
            if self._empty > EMPTY_FRAMES:
                break
        if ping is not None:  # the last one stands for those before it (RFC 6455 §5.5.3)
            try:
                self.write(frames.send(ping.response()))
            except TransportError:
                return
        if self._empty > EMPTY_FRAMES:
            self._fail(CloseReason.POLICY_VIOLATION, "too many frames without a message")
        elif self._parts is None and not is_header:
            self._started = None
        elif ends or self._started is None:
            self._started = self._heard

    def _take(self, data: bytes, ends_frame: bool, ends_message: bool) -> None:
        """Take a part of a message, all of it mostly."""
        if self._parts is not None or not ends_message:
            parts = self._parts = bytearray() if self._parts is None else self._parts
            parts += data
            self._fragments += ends_frame
            if len(parts) > self.transport.parser_limits.message:
                self._fail(CloseReason.MESSAGE_TOO_BIG, "the message is too long")
                return
            if not ends_message:
                if self._fragments > FRAGMENTS:
                    self._fail(
                        CloseReason.POLICY_VIOLATION, f"a message of over {FRAGMENTS} fragments"
                    )
                return
            data = bytes(parts)
            self._parts, self._fragments = None, 0
        if data == PING:  # RFC 7118 §6 has the CRLF keep-alive of RFC 5626 §3.5.1, too
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

    def _closed(self, event: CloseConnection) -> None:
        """The peer closes, or has broken the protocol."""
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self._say(event.response())
            self.finish("the peer has closed the WebSocket")
        else:
            self._fail(CloseReason(event.code), event.reason or "")

    def _fail(self, code: CloseReason, problem: str) -> None:
        """Close for a fault of the peer's."""
        self.transport.count("broken")
        self._say(CloseConnection(code=code, reason=problem[:100]))
        self.finish(problem)

    def _say(self, event: Any) -> None:
        try:
            self.write(self._frames.send(event))
        except TransportError:
            pass

    def send(self, data: bytes) -> None:
        if self.state is not OPEN:
            super().send(data)
            return
        try:
            event: Any = TextMessage(data=data.decode("utf-8"))
        except UnicodeDecodeError:
            event = BytesMessage(data=data)
        self.write(self._frames.send(event))

    def ping(self) -> None:
        self.write(self._frames.send(Ping()))

    @property
    def ping_after(self) -> float:
        limits = self.transport.limits
        return limits.ping or limits.websocket_ping

    @property
    def is_idle(self) -> bool:
        return self._parts is None and self._started is None

    @property
    def in_header(self) -> bool:
        return False

    def sweep(self, now: float) -> None:
        self._empty = 0
        super().sweep(now)

    def farewell(self) -> None:
        if self._frames is not None and self._frames.state is ConnectionState.OPEN:
            code = CloseReason.GOING_AWAY if self.transport.stopping else CloseReason.NORMAL_CLOSURE
            self.write(self._frames.send(CloseConnection(code=code)))

    def drained(self) -> None:
        super().drained()
        if self.on_drained is not None:
            self.on_drained()

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None:
        super().close(reason, problem, error)
        if self.on_drained is not None:
            self.on_drained()


class WS(TCP):
    """WebSockets on one listening TCP socket, and those we open (RFC 7118). `web` says who may
    come, and what else is there."""

    name = "WS"
    reliable, secure, default_port = TRANSPORTS[name][1:4]
    named = True
    flow_class = WebSocketFlow

    def __init__(self, *arguments: Any, web: Web | None = None) -> None:
        super().__init__(*arguments)
        self.web = web or Web()
        self.exchanges = Group()
        """The greenlets of HTTP requests; when the port closes, the application runs into its
        closed connection."""


class WSS(WS, TLSTransport):
    """WebSockets over TLS: `WSS(tls, limits, parser_limits, web=web)`."""

    name = "WSS"
    reliable, secure, default_port = TRANSPORTS[name][1:4]
    names_peer = staticmethod(names_web_server)
