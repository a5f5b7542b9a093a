"""WS: WebSockets on one listening TCP socket, with or without TLS, and those we open, RFC 7118."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.pool import Group

from ...message.parser import DEFAULT_LIMITS, ParserLimits
from ...runtime.limits import StreamLimits
from ..base import Address
from ..certificate import matches_web_host
from ..stream.tcp import TCP
from ..stream.transport import Destination
from ..tls import TLS
from .flow import WebSocketFlow
from .settings import Web
from .upgrade import ClientUpgrade, ServerUpgrade

if TYPE_CHECKING:
    from _socket import socket as Socket


class WS(TCP):
    """A listening point for WebSockets.

    Args:
        limits: The limits of its connections.
        parser_limits: The limits of their messages.
        tls: Certificates and trust. The transport is then called WSS.
        web: Which pages may open a WebSocket, and what other HTTP requests get.
    """

    name, secure_name, named = "WS", "WSS", True
    has_aliases = False  # a WebSocket has a client and a server
    matches_name = staticmethod(matches_web_host)

    def __init__(
        self,
        limits: StreamLimits | None = None,
        parser_limits: ParserLimits = DEFAULT_LIMITS,
        *,
        tls: TLS | None = None,
        web: Web | None = None,
    ) -> None:
        super().__init__(limits, parser_limits, tls=tls)
        self.web = web or Web()
        self.exchanges = Group()
        """The greenlets that answer other HTTP requests. When the port closes, their connections
        close, and the application gets an error when it writes."""

    def _make_flow(
        self, raw: Socket, remote: Address, dialled: Destination | None, name: str | None
    ) -> WebSocketFlow:
        upgrade = (
            ServerUpgrade(self.web, self.exchanges)
            if dialled is None
            else ClientUpgrade(self.web.path)
        )
        return WebSocketFlow(self, raw, remote, upgrade, dialled=dialled, name=name)
