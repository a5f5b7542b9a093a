"""Upgrades: HTTP on a connection until its WebSocket is open, RFC 6455 §4 and RFC 7118 §4.

A connection has one upgrade, and drops it when the WebSocket is open. `ServerUpgrade` serves a
client, whose first requests may not ask for a WebSocket. `ClientUpgrade` asks a server.
"""

from __future__ import annotations

import logging
import re

import h11
from gevent.pool import Group
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from ...errors import TransportError
from ..stream.connection import UPGRADING
from .handshake import Handshake
from .http import BODY, REQUESTS, Exchange, HTTPConnection, answer
from .opening import SUBPROTOCOL, Refusal, open_websocket, wants_websocket
from .settings import Web, WSGIApp

log = logging.getLogger("sippet_gevent.transport")

HEAD = 8192
"""Most bytes of an HTTP head, and of the lines between and behind the chunks of a body. Cookies are
the largest part.

h11 itself counts only an incomplete head, so its limit depends on the segments. This one does not.
"""

_ONLY_WEBSOCKETS = Refusal(
    426,
    "this server speaks SIP over WebSocket",
    (("Upgrade", "websocket"), ("Connection", "Upgrade, close")),
)
_LONG_HEAD = Refusal(431, f"a head of over {HEAD} bytes")
_ONLY_GET = Refusal(405, "only GET is supported", (("Allow", "GET, HEAD"),))
_BUSY = Refusal(503, "too many requests at the same time", (("Retry-After", "5"),))
_BARE_LF = re.compile(rb"(?<!\r)\n").search
_HEAD_END = b"\r\n\r\n"


class UpgradingConnection(HTTPConnection):
    """A connection that an upgrade works on."""

    __slots__ = ()

    def upgraded(
        self, side: ConnectionType, rest: bytes, handshake: Handshake | None = None
    ) -> None:
        """Switch to WebSocket frames.

        Args:
            side: Whether we are the client or the server.
            rest: Bytes behind the HTTP head, which begin the first frame.
            handshake: What the client has asked for, if we are the server.
        """
        raise TypeError(f"{type(self).__name__} lacks .upgraded()")


class ClientUpgrade:
    """Asks a server for a WebSocket.

    Args:
        path: The path to ask for, with a query if there is one.
    """

    __slots__ = ("_answer", "_connection", "_http", "_path")

    _connection: UpgradingConnection

    def __init__(self, path: str) -> None:
        self._path = path
        self._http = H11Handshake(ConnectionType.CLIENT)
        self._answer = b""  # the head of an answer that is not complete

    def begin(self, connection: UpgradingConnection) -> None:
        """Send the request."""
        self._connection = connection
        host = connection.name or connection.remote[0]
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        if connection.remote[1] != connection.transport.default_port:
            host = f"{host}:{connection.remote[1]}"
        request = Request(host=host, target=self._path, subprotocols=[SUBPROTOCOL])
        try:
            connection.write(self._http.send(request))
        except (TransportError, ValueError) as error:  # the idna codec cannot encode the name
            self._fail(f"cannot ask for a WebSocket: {error}", error)

    def feed(self, data: bytes) -> None:
        """Take bytes of the server's answer."""
        self._answer += data
        head, end, rest = self._answer.partition(_HEAD_END)
        if len(head) + len(end) > HEAD:
            self._fail(f"the server's answer is over {HEAD} bytes")
            return
        if not end:
            return
        try:
            self._http.receive_data(head + end)
            event = next(self._http.events())
        except (RemoteProtocolError, StopIteration, ValueError) as error:
            self._fail(f"the server opens no WebSocket: {error}", error)
            return
        if isinstance(event, RejectConnection):
            self._fail(f"the server opens no WebSocket: it answers {event.status_code}")
        elif not isinstance(event, AcceptConnection) or event.subprotocol != SUBPROTOCOL:
            self._fail("the server does not speak sip on its WebSocket (RFC 7118 §4.1)")
        else:
            self._connection.upgraded(ConnectionType.CLIENT, rest)

    def step(self) -> None:
        """Do nothing, because a client never waits for its turn."""

    def _fail(self, problem: str, error: Exception | None = None) -> None:
        self._connection.close("handshake_failed", problem, error)


class ServerUpgrade:
    """Serves a client until it has asked for a WebSocket.

    Args:
        web: Which handshakes are accepted, and which application gets other requests.
        exchanges: The greenlets in which the application works.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_exchanges",
        "_http",
        "_is_busy",
        "_request",
        "_unread",
        "_web",
    )

    _connection: UpgradingConnection

    def __init__(self, web: Web, exchanges: Group) -> None:
        self._web = web
        self._exchanges = exchanges
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD)
        self._request: h11.Request | None = None
        self._body = b""
        self._unread = b""  # bytes that arrived before their turn
        self._is_busy = False  # the application is answering

    def begin(self, connection: UpgradingConnection) -> None:
        """Wait for requests."""
        self._connection = connection

    def feed(self, data: bytes) -> None:
        """Take bytes of requests, now or in a later turn of the loop."""
        if self._connection.transport.handshakes.may_step(self._connection):
            self._feed(data)
        else:
            self._unread += data
            self._connection.pause()

    def step(self) -> None:
        """Take the bytes that had to wait for this turn."""
        data, self._unread = self._unread, b""
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._next_request()
        # A client that does not wait for our answers is not read until they are sent.
        if self._is_busy and self._is_upgrading and len(self._http.trailing_data[0]) > HEAD:
            self._connection.pause()

    @property
    def _is_upgrading(self) -> bool:
        return self._connection.state is UPGRADING

    def _next_request(self) -> None:
        http = self._http
        while self._is_upgrading:
            waiting = http.trailing_data[0]
            if http.their_state is h11.IDLE:
                head, end, _ = waiting.partition(_HEAD_END)
                if _BARE_LF(head):
                    # h11 takes a bare LF for a line end. A web proxy before us may not, and would
                    # then see another request (RFC 9112 §2.2).
                    self._refuse(Refusal(400, "a line ends in a bare LF"))
                    return
                if len(head) + len(end) > HEAD:
                    self._refuse(_LONG_HEAD)
                    return
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(Refusal(error.error_status_hint or 400, str(error)))
                return
            content = len(event.data) if isinstance(event, h11.Data) else 0
            if len(waiting) - len(http.trailing_data[0]) - content > HEAD:
                self._refuse(_LONG_HEAD)
                return
            # RFC 9110 §10.1.1
            if event is h11.NEED_DATA and http.they_are_waiting_for_100_continue:
                self._continue()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > BODY:
                    self._refuse(Refusal(413, f"a body of over {BODY} bytes"))
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._serve(self._request)
            else:
                self._connection.close()

    def _continue(self) -> None:
        response = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
        try:
            self._connection.write(self._http.send(response) or b"")
        except TransportError:
            pass  # the connection is closed

    def _serve(self, request: h11.Request) -> None:
        app = self._web.app
        if wants_websocket(request):
            self._open(request)
        elif app is None:
            is_read = request.method in (b"GET", b"HEAD")
            self._refuse(_ONLY_WEBSOCKETS if is_read else _ONLY_GET, "not_websocket")
        elif len(self._exchanges) >= REQUESTS:
            self._refuse(_BUSY, "too_many_http_requests")
        else:
            self._connection.allow(None)
            self._is_busy = True
            exchange = Exchange(self._connection, self._http, request, self._body)
            self._exchanges.spawn(self._exchange, exchange, app)

    def _exchange(self, exchange: Exchange, app: WSGIApp) -> None:
        goes_on = False
        try:
            goes_on = exchange.run(app)
        finally:
            # Back to the hub. The next request may open the WebSocket, and messages are received
            # in the hub alone.
            self._connection.transport.loop.run_callback(self._answered, goes_on)

    def _answered(self, goes_on: bool) -> None:
        """Continue after the application's answer: serve the next request, or close."""
        self._is_busy = False
        if not self._is_upgrading:
            return
        self._connection.resume()
        if goes_on and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._request = None
            self._connection.allow(self._connection.transport.limits.first)
            self._next_request()
        else:
            self._connection.finish("the answer was the last one")

    def _open(self, request: h11.Request) -> None:
        """Open the WebSocket that was asked for, or refuse it."""
        opened = open_websocket(request)
        if isinstance(opened, Refusal):
            self._refuse(opened)
            return
        handshake, accepted = opened
        status = self._status(handshake)
        if status:
            text = "WebSocket refused: origin=%s path=%s answered=%d source=%s"
            self._connection.transport.lines.line(
                log,
                logging.INFO,
                "handshake refused",
                text,
                handshake.origin,
                handshake.path,
                status,
                self._connection,
            )
            self._refuse(Refusal(status, "not for you"), "handshake_refused")
            return
        rest = self._http.trailing_data[0]
        try:
            self._connection.write(accepted)
        except TransportError:
            return
        self._connection.upgraded(ConnectionType.SERVER, rest, handshake)

    def _status(self, handshake: Handshake) -> int:
        """Return the status to refuse a handshake with, 0 to accept it."""
        try:
            return self._web.refuses(handshake)
        except Exception as error:
            text = "Web.accept raised: path=%s source=%s"
            self._connection.transport.lines.line(
                log,
                logging.ERROR,
                "Web.accept",
                text,
                handshake.path,
                self._connection,
                exc_info=error,
            )
            return 500

    def _refuse(self, refusal: Refusal, reason: str = "handshake_failed") -> None:
        connection, http = self._connection, self._http
        connection.transport.count(reason)
        try:
            if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                connection.write(
                    answer(http, self._request, refusal.status, refusal.problem, refusal.headers)
                )
            connection.finish(refusal.problem)
        except (TransportError, h11.LocalProtocolError):
            connection.close()
