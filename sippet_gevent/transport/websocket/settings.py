"""Web: what a WebSocket port tells browsers: who may come, and what a plain HTTP request gets. RFC
7118 §4, RFC 6454."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from ...arguments import function, takes, texts
from ...errors import InvalidValue, excerpt

if TYPE_CHECKING:
    from .handshake import Handshake

_PATH = re.compile(r"/[!-~]*").fullmatch  # what a request line can hold (RFC 9112 §3.2.1)

_NAME = r"[A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:.]+\]"
_HOST = re.compile(rf"(?:{_NAME})(?::[0-9]{{1,5}})?").match
_ORIGIN = re.compile(rf"([A-Za-z][A-Za-z0-9+.\-]*)://({_NAME})(?::([0-9]{{1,5}}))?/?").fullmatch
_OWN_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def origin_of(text: str) -> str:
    """Return a page's origin as browsers write it (RFC 6454 §6.2): scheme, host, and a port that is
    not the scheme's own.

    Raises InvalidValue for a text that no browser writes, because it would refuse every page.
    """
    if text == "*":
        raise InvalidValue("'*' is not an origin: leave origins out, and all pages may come")
    if text.lower() == "null":  # of a page without an origin of its own: a file, a sandboxed frame
        return "null"
    match = _ORIGIN(text)
    if not match:
        host = _HOST(text.partition("://")[2] or text)
        write = f"{text.partition('://')[0] if '://' in text else 'https'}://{host[0] if host else 'phone.example.com'}"
        raise InvalidValue(f"{excerpt(text)} is not an origin, as browsers write it: write {write}")
    scheme, name, port = match[1].lower(), match[2].lower(), match[3]
    return f"{scheme}://{name}" + (
        "" if port is None or _OWN_PORTS.get(scheme) == int(port) else f":{int(port)}"
    )


class Web:
    """Who may open a WebSocket, and what else the port serves: `Stack("wss:0.0.0.0:443",
    web=Web(origins=["https://example.com"]))`.

    `origins` are the pages whose scripts may come, as browsers tell it (RFC 6454); None for all.
    Programs that tell no Origin may always: it protects the users of browsers, and nobody else.
    `accept(handshake)` is asked then: True, or the status to refuse with, such as 401; it must not
    block. `app` is a WSGI application for all other requests, which get 426 without one (RFC 9110
    §15.5.22). `path` is what connections of ours ask for, with a query if you like. Raises
    InvalidValue.
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
                f"a path is an absolute one of visible ASCII, as in path='/sip', and not {excerpt(path)}"
            )
        self.path = path

    def refuses(self, handshake: Handshake) -> int:
        """Return 0 for who may come, else the status that says why not."""
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
        return int(answer) or 403  # False is 0, and 0 is no status: it lets nobody in
