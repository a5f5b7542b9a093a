"""Exchange: one HTTP request that is not for a WebSocket, and its answer, RFC 9110 and PEP 3333."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

import h11
from gevent.event import Event

from ...errors import InvalidValue, TransportError
from ..stream.connection import Connection
from .settings import WSGIApp

log = logging.getLogger("sippet_gevent.transport")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

BODY = 65536
"""Most bytes of the body of an HTTP request. Requests to a SIP port are small."""

REQUESTS = 100
"""Requests that an application works on at the same time. One more gets 503."""

WAITING = 65536
"""Most bytes of an answer that are written at once. While they wait to be read, the application
waits, too."""

PATIENCE = 20.0
"""Seconds in which a client may read nothing of an answer. Then the connection is closed."""


class HTTPConnection(Connection):
    """A connection that carries HTTP. `on_drained` is called when the kernel has all bytes, and at
    the end of the connection."""

    __slots__ = ("on_drained",)

    on_drained: Callable[[], None] | None

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


def answer(
    http: h11.Connection,
    request: h11.Request | None,
    status: int,
    text: str,
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return the bytes of a whole answer, after which the connection is closed.

    An answer to HEAD has no body (RFC 9110 §9.3.2).
    """
    body = f"{status} {text}\n".encode()
    fields = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    kept = [
        field for field in fields if field[0].lower() not in {name.lower() for name, _ in headers}
    ]
    response = h11.Response(
        status_code=status, headers=[*kept, *headers], reason=phrase_of(status).encode()
    )
    if request is not None and request.method == b"HEAD":
        body = b""
    return b"".join(
        http.send(event) or b"" for event in (response, h11.Data(data=body), h11.EndOfMessage())
    )


def phrase_of(status: int) -> str:
    """Return the reason phrase of an HTTP status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class Exchange:
    """One HTTP request and the answer of the application.

    It runs in a greenlet of its own, which waits while the client reads slowly.
    """

    def __init__(
        self, flow: HTTPConnection, http: h11.Connection, request: h11.Request, body: bytes
    ) -> None:
        self._flow = flow
        self._lines = flow.transport.lines
        self._http = http
        self._request = request
        self._body = body
        self._begun: tuple[str, list[tuple[str, str]]] | None = None
        self._sent = False
        self._drained = Event()

    def run(self, app: WSGIApp) -> bool:
        """Have the application answer.

        Returns True when the connection may carry another request.
        """
        try:
            self._answer(app)
            if self._http.our_state is h11.DONE:
                return True
            self._wait()  # the connection ends then, and soon drops the bytes that still wait
        except TransportError as error:  # the peer has gone
            self._lose(error)
        except Exception as error:
            text = "WSGI application failed: source=%s"
            self._lines.line(log, logging.ERROR, "WSGI", text, self._flow, exc_info=error)
            if not self._sent:
                self._refuse()
        return False

    def _answer(self, app: WSGIApp) -> None:
        result = app(self.environ, self._start_response)
        try:
            for part in result:
                if part:
                    self._write(part)
            self._head()
            self._send(h11.EndOfMessage())
        finally:
            if hasattr(result, "close"):
                result.close()

    def _refuse(self) -> None:
        try:
            self._flow.write(answer(self._http, self._request, 500, "the application has failed"))
        except (TransportError, h11.LocalProtocolError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        text = 'HTTP answer not sent: source=%s reason="%s"'
        self._lines.line(log, logging.INFO, "HTTP", text, self._flow, error)

    @property
    def environ(self) -> dict[str, Any]:
        """The environment of the application (PEP 3333), whose values have many types."""
        request, flow = self._request, self._flow
        path, _, query = request.target.partition(b"?")
        host, port = flow.local
        environ = {
            "REQUEST_METHOD": request.method.decode("ascii"),
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": f"HTTP/{request.http_version.decode('ascii')}",
            "REMOTE_ADDR": flow.remote[0],
            "REMOTE_PORT": str(flow.remote[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if flow.transport.secure else "http",
            "wsgi.input": io.BytesIO(self._body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for raw, value in request.headers:
            # It would look like the name with hyphens, which a web proxy before us may have set.
            if b"_" in raw:
                continue
            name = raw.decode("latin-1").upper().replace("-", "_")
            key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        return environ

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self._sent:
            raise exc_info[1].with_traceback(exc_info[2])
        self._begun = (status, headers)
        return self._write

    def _head(self) -> None:
        if self._sent:
            return
        if self._begun is None:
            raise InvalidValue("the application has not called start_response()")
        status, headers = self._begun
        number, _, phrase = status.partition(" ")
        self._send(
            h11.Response(status_code=int(number), headers=headers, reason=phrase.encode("latin-1"))
        )
        self._sent = True

    def _write(self, data: bytes) -> None:
        self._head()
        if self._request.method == b"HEAD":
            return
        # The queue of the connection has room for a piece.
        piece = max(1, min(WAITING, self._flow.transport.limits.queue_bytes // 2))
        for at in range(0, len(data), piece):
            self._send(h11.Data(data=data[at : at + piece]))

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._wait()
            self._flow.write(data)

    def _wait(self) -> None:
        """Wait until the kernel has taken all written bytes."""
        flow = self._flow
        while flow.waiting:
            self._drained.clear()
            flow.on_drained = self._drained.set
            if not self._drained.wait(PATIENCE):
                flow.close("slow_reader", "the client reads nothing of an HTTP answer")
        flow.on_drained = None
