"""Web: the settings of a WebSocket port, for the pages that may use it and for other HTTP requests,
RFC 7118 §4 and RFC 6454. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from ...arguments import function, takes, texts
from ...errors import InvalidValue, excerpt
from .handshake import Handshake

_PATH = re.compile(r"/[!-~]*").fullmatch  # what a request line can hold (RFC 9112 §3.2.1)

_NAME = r"[A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:.]+\]"
_HOST = re.compile(rf"(?:{_NAME})(?::[0-9]{{1,5}})?").match
_ORIGIN = re.compile(rf"([A-Za-z][A-Za-z0-9+.\-]*)://({_NAME})(?::([0-9]{{1,5}}))?/?").fullmatch
_OWN_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application of the user's (PEP 3333)."""


def origin_of(text: str) -> str:
    """Return an origin as browsers write it (RFC 6454 §6.2): scheme, host, and a port that is not
    the default of the scheme.

    Raises:
        InvalidValue: No browser writes this, so every page would be refused.
    """
    if text == "*":
        raise InvalidValue("'*' is not an origin: leave origins out to accept all pages")
    if text.lower() == "null":  # a page without an origin of its own: a file, a sandboxed frame
        return "null"
    match = _ORIGIN(text)
    if not match:
        host = _HOST(text.partition("://")[2] or text)
        scheme = text.partition("://")[0] if "://" in text else "https"
        write = f"{scheme}://{host[0] if host else 'phone.example.com'}"
        raise InvalidValue(f"{excerpt(text)} is not an origin, as browsers write it: write {write}")
    scheme, name, port = match[1].lower(), match[2].lower(), match[3]
    return f"{scheme}://{name}" + (
        "" if port is None or _OWN_PORTS.get(scheme) == int(port) else f":{int(port)}"
    )


class Web:
    """The settings of WebSocket ports, for the pages that may use them and for other requests.

    `Stack("wss:0.0.0.0:443", tls=TLS("chain.pem"), web=Web(origins=["https://example.com"]))`

    Args:
        origins: The sites whose pages may open a WebSocket, as browsers write them in Origin (RFC
            6454); None for all. Programs that send no Origin are always accepted, because this
            check protects only the users of browsers.
        accept: A function of the handshake. It returns True, or the status of the refusal, such
            as 401. It must not block.
        app: A WSGI application for all other HTTP requests. Without one they get 426 (RFC 9110
            §15.5.22).
        path: The path that connections of ours ask for, with a query if you like.

    Raises:
        InvalidValue: An origin or the path is not valid.
        TypeError: An argument is of another type.
    """

    def __init__(
        self,
        *,
        origins: Collection[str] | None = None,
        accept: Callable[[Handshake], bool | int] | None = None,
        app: WSGIApp | None = None,
        path: str = "/",
    ) -> None:
        self.origins = (
            None
            if origins is None
            else frozenset(map(origin_of, texts("origins", origins, "origins")))
        )
        self.accept = function("accept", accept, "accept=a function of (handshake)")
        self.app = function(
            "app", app, "app=a WSGI application, a function of (environ, start_response)"
        )
        if accept is not None:
            takes(accept, ("handshake",), "accept")
        if not isinstance(path, str):
            raise TypeError(f'path must be a text, got {excerpt(path)}: write path="/sip"')
        if not _PATH(path):
            raise InvalidValue(
                f"path must be absolute and of visible ASCII, got {excerpt(path)}: "
                f"write path='/sip'"
            )
        self.path = path

    def refuses(self, handshake: Handshake) -> int:
        """Return the status to refuse a handshake with, 0 to accept it."""
        if (
            self.origins is not None
            and handshake.origin is not None
            and handshake.origin.lower() not in self.origins
        ):
            return 403
        if self.accept is None:
            return 0
        answer = self.accept(handshake)
        if answer is True:
            return 0
        return int(answer) or 403  # False is 0, which is no status
