"""TCP, with or without TLS, RFC 3261 §18 and §26.2.1: listens, accepts and connects."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
from typing import TYPE_CHECKING, Any, ClassVar

from gevent import socket

from ...errors import TransportError
from ...message.iana import TRANSPORTS
from ...message.message import Request
from ...message.parser import DEFAULT_LIMITS, ParserLimits
from ...message.uri import bracketed
from ...runtime.limits import StreamLimits
from ..base import IGNORED, Address, Events, Flow, Receive
from ..interfaces import WILDCARDS, Interfaces, is_link_local, sockaddr
from ..tls import TLS
from .alias import Aliases
from .connection import CLOSED, Connection
from .flow import StreamFlow
from .pacing import Paced
from .transport import Destination, Member, StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket

ACCEPTS = 16
"""Connections accepted before the loop serves others. Each takes about 60 us."""

BACKLOG = 1024
"""Connections that the kernel completes while we are busy. The system may grant less."""

PAUSE = 0.1
"""Seconds without accepting when the system has no descriptor or memory left, or too many peers
are in a handshake. Without a pause, accepting would spin."""

log = logging.getLogger("sippet_gevent.transport")

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TCP(StreamTransport):
    """One listening TCP socket, IPv4 or IPv6, and the connections of both directions.

    Connections that we open are used again for their destination (RFC 3261 §18.1.1), and with TLS
    for their name. Connections of peers are used only for responses and dialogs of the requests
    that arrived by them, because an address alone proves nothing (RFC 5923 §9.1). With TLS they may
    also be aliases (RFC 5923).

    Args:
        limits: The limits of its connections.
        parser_limits: The limits of their messages.
        tls: Certificates and trust. The transport is then called TLS. Without a certificate it
            opens connections, and accepts none.
    """

    name = "TCP"
    secure_name: ClassVar[str] = "TLS"
    """The name with TLS."""
    has_aliases: ClassVar[bool] = True
    """True when connections of peers with a certificate may be aliases."""

    def __init__(
        self,
        limits: StreamLimits | None = None,
        parser_limits: ParserLimits = DEFAULT_LIMITS,
        *,
        tls: TLS | None = None,
    ) -> None:
        super().__init__(limits, parser_limits, tls=tls)
        self.aliases: Aliases[Connection] | None = None
        """Connections of peers that may be used for requests to them (RFC 5923)."""
        if tls is not None:
            self.name = self.secure_name
            if self.has_aliases:
                self.aliases = Aliases()
                # Peers may use our connections if a certificate tells them who we are.
                self.offers_alias = tls.shows_certificate
        self.secure, self.default_port = TRANSPORTS[self.name][2:4]
        self.pool: dict[Destination, Connection] = {}
        """Connections that we have opened."""
        self._socket: Any = None
        self._acceptor: Any = None
        self._pause: Any = None
        self._interfaces = Interfaces("")
        self._scope = 0

    # ---- start and stop

    def start(self, address: Address, receive: Receive, events: Events = IGNORED) -> None:
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        raw: Any = None
        try:
            raw = socket._socket.socket(family, socket.SOCK_STREAM)
            raw.setblocking(False)
            # Connections of an earlier process in TIME_WAIT must not prevent this. A listening
            # socket of another process still does.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            raw.bind(sockaddr(host, port))
            raw.listen(BACKLOG)
        except (OSError, OverflowError, TransportError) as error:
            if raw is not None:
                raw.close()
            reason = getattr(error, "strerror", None) or error
            raise TransportError(
                f"cannot listen on {self.name.lower()}:{bracketed(host)}:{port}: {reason}"
            ) from error
        self._socket = raw
        bound = raw.getsockname()
        self.local = bound[:2]
        self._scope = bound[3] if len(bound) > 2 else 0
        self._interfaces = Interfaces(self.local[0])
        self.receive, self.events = receive, events
        self._start_shared()
        # A repeating timer, because libev forgets the length of another timer when it fires.
        self._pause = self.loop.timer(PAUSE, PAUSE)
        self._acceptor = self.loop.io(raw.fileno(), 1)
        self._acceptor.start(self._acceptable)

    def stop(self) -> None:
        if self._socket is None:
            return
        self.stopping = True
        for watcher in (self._acceptor, self._pause):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._stop_shared()
        self._socket = self._acceptor = self._pause = None
        self.pool.clear()

    def is_ours(self, host: str) -> bool:
        """True when this numeric host is one we listen on: on a wildcard socket, any that the
        system lets us bind."""
        return self._interfaces.is_ours(host)

    def __repr__(self) -> str:
        return f"<{self.name} {bracketed(self.local[0])}:{self.local[1]}>"

    # ---- connections of peers

    def _acceptable(self) -> None:
        for _ in range(ACCEPTS):
            if self.handshakes.is_full:
                self._acceptor.stop()
                self._pause.again(self._resume)
                return
            try:
                number, address = self._socket._accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self.count("no_descriptor")
                    self._acceptor.stop()
                    self._pause.again(self._resume)
                    text = 'accepting paused: transport="%r" seconds=%g reason="%s"'
                    self.lines.line(log, logging.WARNING, "accept pause", text, self, PAUSE, error)
                    return
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return
                # ECONNABORTED and the network errors of accept(2) concern this connection alone.
                self.count("accept_failed")
                continue
            self._accept(
                socket._socket.socket(self._socket.family, socket.SOCK_STREAM, 0, number), address
            )
            if self._socket is None:
                return

    def _resume(self) -> None:
        self._pause.stop()
        self._acceptor.start(self._acceptable)

    def handshake_ended(self, flow: Paced) -> None:
        """Forget a handshake, if there was one. There is room for the next peer then."""
        if self.handshakes.finish(flow) and not self.stopping and not self._acceptor.active:
            self._resume()

    def _accept(self, raw: Socket, address: tuple[str, int]) -> None:
        host = address[0]
        refusal = self._refusal(host)
        if refusal is not None:
            self.count(refusal)
            raw.close()
            return
        try:
            self._prepare(raw)
            self._note(self._make_flow(raw, (host, address[1]), None, None))
        except OSError:  # the peer has gone already
            self.count("accept_failed")
            raw.close()
            if self.listener.proxy is None:
                self._release_source(host)
            return
        self.count("accepted")

    def _refusal(self, host: str) -> str | None:
        """Return why a connection of a host is refused, None when it is accepted and counted."""
        networks = self.listener.proxy
        if networks and not any(ipaddress.ip_address(host) in network for network in networks):
            return "unknown_load_balancer"
        if len(self.flows) >= self.limits.connections:
            return "too_many_connections"
        if self.tls is not None and self.tls.server_context is None:
            return "no_certificate"
        # A load balancer's clients are counted instead, when the PROXY header has named them.
        if networks is None and not self.count_source(host):
            return "too_many_connections_per_source"
        return None

    def _note(self, flow: Connection) -> None:
        if flow.state is not CLOSED:
            self._add(flow)

    def _make_flow(
        self, raw: Socket, remote: Address, dialled: Destination | None, name: str | None
    ) -> Connection:
        """Return the connection of a socket; `dialled` is None for a connection of a peer."""
        return StreamFlow(self, raw, remote, dialled=dialled, name=name)

    def _prepare(self, raw: Socket) -> None:
        raw.setblocking(False)
        # Each write is a whole message, so there is nothing to wait for.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def forget(self, flow: Member) -> None:
        super().forget(flow)
        if self.aliases is not None:
            self.aliases.remove(flow)

    def take_alias(self, flow: Flow, request: Request) -> None:
        if self.aliases is not None and isinstance(flow, Connection) and flow in self.flows:
            self.aliases.take(flow, request, self.default_port)

    # ---- connections of ours

    def connect(self, address: Address, *, name: str | None = None) -> Connection:
        """Return a connection that leads to an address, an existing or a new one.

        Messages of a new one wait until it is open.
        """
        if self.aliases is not None:
            alias = self.aliases.find(*address, name)
            if alias is not None:
                return alias
        if self._socket is None:
            raise TransportError("the transport is not open")
        full = sockaddr(*address, self._scope)
        host, port = full[:2]
        if (":" in host) != (":" in self.local[0]):
            raise TransportError(
                f"{self!r} has no way to {host}: the other IP version", kind="no_transport"
            )
        if is_link_local(host) and len(full) > 2 and not full[3]:
            raise TransportError(
                f"{host} is on every link: say by which listener it is reached, in listener="
            )
        key = (full, name.lower() if name and self.secure else None)
        flow = self.pool.get(key)
        if flow is not None:
            if flow.is_alive():
                return flow
            flow.close("stale", "the peer has closed the connection")
        if len(self.flows) >= self.limits.connections:
            self.count("too_many_connections")
            problem = f"{self!r} has {len(self.flows)} connections, and may have no more"
            raise TransportError(problem, kind="too_many_connections")
        raw: Any = None
        try:
            raw = socket._socket.socket(
                socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM
            )
            self._prepare(raw)
            if self.local[0] not in WILDCARDS:
                raw.bind(sockaddr(self.local[0], 0, self._scope))
            code = raw.connect_ex(full)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            flow = self._make_flow(raw, (host, port), key, name)
        except (OSError, OverflowError) as error:
            if raw is not None:
                raw.close()
            self.count("connect_failed")
            reason = getattr(error, "strerror", None) or error
            raise TransportError(
                f"cannot connect to {self.name.lower()}:{bracketed(host)}:{port}: {reason}"
            ) from error
        self.pool[key] = flow
        self._note(flow)
        return flow

    def retire(self, destination: Destination, flow: Flow) -> None:
        if self.pool.get(destination) is flow:
            del self.pool[destination]
