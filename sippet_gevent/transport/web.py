"""Web: what a WebSocket port tells browsers: who may come, and what a plain HTTP request gets. RFC 7118 §4, RFC 6454."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue, excerpt

if TYPE_CHECKING:
    from .handshake import Handshake

_PATH = re.compile(r"/[!-~]*").fullmatch  # what a request line can hold (RFC 9112 §3.2.1)

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Web:
    """Who may open a WebSocket, and what else the port serves: `Stack("wss:0.0.0.0:443", web=Web(origins=["https://example.com"]))`.

    `origins` are the pages whose scripts may come, as browsers tell it (RFC 6454); None for all. Programs that tell no
    Origin may always: it protects the users of browsers, and nobody else. `accept(handshake)` is asked then: True, or the
    status to refuse with, such as 401; it must not block. `app` is a WSGI application for all other requests, which get
    426 without one (RFC 9110 §15.5.22). `path` is what connections of ours ask for, with a query if you like. Raises
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
        self.origins = None if origins is None else frozenset(origin.lower().rstrip("/") for origin in origins)
        self.accept = accept
        self.app = app
        if not _PATH(path):
            raise InvalidValue(f"a path is an absolute one of visible ASCII, as in path='/sip', and not {excerpt(path)}")
        self.path = path

    def refuses(self, handshake: Handshake) -> int:
        """Return 0 for who may come, else the status that says why not."""
        if self.origins is not None and handshake.origin is not None and handshake.origin.lower() not in self.origins:
            return 403
        if self.accept is None:
            return 0
        answer = self.accept(handshake)
        if answer is True:
            return 0
        return int(answer) or 403  # False is 0, and 0 is no status: it lets nobody in
