"""TCP and TLS, RFC 3261 §18 and §26.2.1: listening points, and connections cut into messages.

A message goes from the socket to its worker as a datagram does: read, cut and handed on in one
callback of the loop.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import time
from typing import Any, ClassVar

import gevent
from gevent import socket

from ...errors import TransportError
from ...message.framer import PING, PONG, Framer
from ...message.iana import TRANSPORTS
from ...message.parser import DEFAULT_LIMITS, ParserLimits
from ...message.uri import bracketed
from ...runtime.limits import StreamLimits
from ..base import IGNORED, Address, Events, Receive, Transport
from ..interfaces import WILDCARDS, Interfaces, is_link_local, sockaddr
from ..tls import TLS, names_peer
from .alias import Aliases
from .connection import CLOSED, SENDS, Connection
from .pacing import ENDS, Endings, Handshakes

ACCEPTS = 16
"""Connections taken before the loop looks at other things: some 60 us each."""

BACKLOG = 1024
"""Connections the kernel completes for us while we are busy. The system may grant less."""

PAUSE = 0.1
"""Seconds without accepting when the system has no descriptor or memory for one more, or too many
shake hands: an accept at once would spin."""

SWEEP = 0.5
"""Seconds between two looks at the deadlines of all connections, at most: their limits are whole
seconds."""

SWEPT = 100
"""Connections looked at before the loop looks at other things: thousands would take
milliseconds."""

BREATH = 0.002
"""Seconds until the next of them are looked at."""

PONGS = 200
"""Most pings of one connection that are answered between two sweeps; a usual peer sends one in half
a minute."""

log = logging.getLogger("sippet_gevent.transport")

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class StreamFlow(Connection):
    """A connection whose octets are messages, one after the other, cut by their Content-Length
    (§18.3)."""

    __slots__ = ("_framer", "_ponged")

    def __init__(
        self,
        transport: TCP,
        raw: Any,
        remote: Address,
        *,
        dialled: Any = None,
        name: str | None = None,
    ) -> None:
        self._framer = Framer(transport.parser_limits)
        self._ponged = 0  # pings answered since the last sweep
        super().__init__(transport, raw, remote, dialled=dialled, name=name)

    def feed(self, data: bytes) -> None:
        framer, transport = self._framer, self.transport
        if framer.dead:
            return
        if self.dialled is None:
            self._deadline = None
        self._pinged = False
        pings = framer.pings
        messages = framer.feed(data)
        for message in messages:
            transport.receive(message, self)
            if self.state not in SENDS:  # what was received has closed us
                return
        if framer.error is not None:
            transport.count("broken")
            transport.events.refuse(framer.error, self)
            self.finish()
            return
        if framer.pings != pings and not self._answer_pings(framer.pings - pings):
            return
        if not framer.in_message:
            self._started = None
        elif messages or self._started is None:
            self._started = self._heard

    def _answer_pings(self, number: int) -> bool:
        """Answer each ping with a pong (RFC 5626 §4.4.1), up to PONGS between two sweeps. False if
        the connection has ended."""
        owed = min(number, PONGS - self._ponged)
        if owed < number:
            self.transport.count("too many pings")
        if not owed:
            return True
        self._ponged += owed
        try:
            self.send(PONG * owed)
        except TransportError:
            return False
        return True

    def ping(self) -> None:
        self._framer.awaits_pong = True
        self.write(PING)  # RFC 5626 §4.4.1

    def sweep(self, now: float) -> None:
        self._ponged = 0
        super().sweep(now)

    @property
    def is_idle(self) -> bool:
        return not self._framer.pending

    @property
    def in_header(self) -> bool:
        return not self._framer.in_body


class TCP(Transport):
    """One listening TCP socket, IPv4 or IPv6, and the connections of both directions (RFC 3261
    §18).

    `limits` bounds connections, `parser_limits` messages. `counts` tells what became of
    connections, by reason. Connections we open are kept and used again for their destination
    (§18.1.1), also over TLS by its name; those of peers are used for what belongs to the requests
    they brought: an address alone proves nobody (RFC 5923 §9.1).
    """

    name = "TCP"
    reliable, secure, default_port = TRANSPORTS[name][1:4]

    @property
    def keep_alive_seconds(self) -> int:  # type: ignore[override]
        """How often peers that offer it are asked to ping."""
        return self.limits.keep

    flow_class: ClassVar[type[Connection]] = StreamFlow
    """What its connections are."""

    checks_names = False
    names_peer = staticmethod(names_peer)
    """Whether a certificate speaks for a domain."""

    def __init__(
        self, limits: StreamLimits | None = None, parser_limits: ParserLimits = DEFAULT_LIMITS
    ) -> None:
        self.limits = limits or StreamLimits()
        self.parser_limits = parser_limits
        self.flows: set[Connection] = set()
        """All connections there are."""
        self.pool: dict[Any, Connection] = {}
        """Those we have opened, by socket address and name."""
        self.counts: dict[str, int] = {}
        """Reasons connections ended or were refused for, other than a peer's orderly close, and how
        many were accepted."""
        self.handshakes = Handshakes(self.limits.handshakes)
        """Connections in the middle of a TLS handshake."""
        self.endings = Endings()
        """Connections whose peers have gone, and that are yet to be closed."""
        self.stopping = True
        self._sources: dict[str, int] = {}
        self._socket: Any = None
        self._acceptor: Any = None
        self._pause: Any = None
        self._sweeper: Any = None
        self._breath: Any = None
        self._unswept: list[Connection] = []
        self._interfaces = Interfaces("")
        self._scope = 0

    # ---- life

    def start(self, address: Address, receive: Receive, events: Events = IGNORED) -> None:
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        raw: Any = None
        try:
            raw = socket._socket.socket(family, socket.SOCK_STREAM)
            raw.setblocking(False)
            # Connections of an earlier process in TIME_WAIT must not keep us out; a listening one
            # still does.
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
        self.stopping = False
        self.loop = gevent.get_hub().loop
        limits = self.limits
        times = (
            limits.connect,
            limits.handshake,
            limits.first,
            limits.header,
            limits.message,
            limits.idle,
            limits.pong,
        )
        every = min(SWEEP, min(times) / 4)
        # one that repeats: libev forgets the length of another when it has fired
        self._pause = self.loop.timer(PAUSE, PAUSE)
        self._sweeper = self.loop.timer(every, every)
        self._breath = self.loop.timer(BREATH, BREATH)
        self.handshakes.start(self.loop)
        self.endings.start(self.loop)
        self._acceptor = self.loop.io(raw.fileno(), 1)
        self._acceptor.start(self._acceptable)

    def stop(self) -> None:
        if self._socket is None:
            return
        self.stopping = True
        for watcher in (self._acceptor, self._pause, self._sweeper, self._breath):
            watcher.stop()
            watcher.close()
        self._socket.close()
        for flow in [*self.flows]:
            flow.close()
        self.handshakes.stop()
        self.endings.stop()
        self._socket = self._acceptor = self._pause = self._sweeper = self._breath = None
        self._unswept.clear()
        self.pool.clear()
        self._sources.clear()

    def count(self, reason: str) -> None:
        """Count what became of a connection."""
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def context(self, is_server: bool) -> Any:
        """Return the SSL context for a new connection, None for none."""
        return None

    def is_ours(self, host: str) -> bool:
        """True when this numeric host is one we listen on: on a wildcard socket, any that the
        system lets us bind."""
        return self._interfaces.is_ours(host)

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
                    self.count("no descriptor")
                    self._acceptor.stop()
                    self._pause.again(self._resume)
                    text = "%r accepts nothing for %g s: %s"
                    self.lines.line(log, logging.WARNING, "accept pause", text, self, PAUSE, error)
                    return
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return
                # ECONNABORTED and the network errors of accept(2): that connection's alone
                self.count("accept failed")
                continue
            self._accept(
                socket._socket.socket(self._socket.family, socket.SOCK_STREAM, 0, number), address
            )
            if self._socket is None:
                return

    def _resume(self) -> None:
        self._pause.stop()
        self._acceptor.start(self._acceptable)

    def _accept(self, raw: Any, address: Any) -> None:
        host = address[0]
        networks = self.listener.proxy
        refusal = None
        if networks and not any(ipaddress.ip_address(host) in network for network in networks):
            refusal = "no load balancer of ours"
        elif len(self.flows) >= self.limits.connections:
            refusal = "too many connections"
        elif self.secure and self.context(True) is None:
            refusal = "no certificate"
        elif networks is None and not self.counts_in(
            host
        ):  # else its clients are counted, when it has told who they are
            refusal = "too many connections of one source"
        if refusal is not None:
            self.count(refusal)
            raw.close()
            return
        try:
            self._prepare(raw)
            self._note(self.flow_class(self, raw, (host, address[1])))
        except OSError:  # it is gone already
            self.count("accept failed")
            raw.close()
            if networks is None:
                self._release(host)
            return
        self.count("accepted")

    def counts_in(self, host: str) -> bool:
        """Count one more connection of a host; False when it has all it may have."""
        here = self._sources.get(host, 0)
        if here >= self.limits.connections_per_source:
            return False
        self._sources[host] = here + 1
        return True

    def handshake_ended(self, flow: Connection) -> None:
        """Forget a handshake, if there is one: there is room for who waits for it."""
        if self.handshakes.end(flow) and not self.stopping and not self._acceptor.active:
            self._resume()

    def _prepare(self, raw: Any) -> None:
        raw.setblocking(False)
        # a message is a whole: there is nothing to wait for
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _note(self, flow: Connection) -> None:
        if flow.state is CLOSED:
            return
        self.flows.add(flow)
        if not self._sweeper.active:
            self._sweeper.start(self._sweep)

    def _release(self, host: str) -> None:
        left = self._sources.get(host, 0) - 1
        if left > 0:
            self._sources[host] = left
        else:
            self._sources.pop(host, None)

    def forget(self, flow: Connection) -> None:
        """Take a closed flow out of all books."""
        self.flows.discard(flow)
        if flow.source is not None:
            self._release(flow.source)

    def _sweep(self) -> None:
        """Begin to look at all deadlines, if that is not under way."""
        if not self._unswept:
            self._unswept = [*self.flows]
            self._sweep_some()
        if not self.flows and self._sweeper is not None:
            self._sweeper.stop()

    def _sweep_some(self) -> None:
        self._breath.stop()
        now = time.monotonic()
        unswept = self._unswept
        looked = ended = 0
        # those who came in one moment are late in one moment, too
        while unswept and looked < SWEPT and ended < ENDS:
            flow = unswept.pop()
            looked += 1
            if flow.state is not CLOSED:
                flow.sweep(now)
                ended += flow.state is CLOSED
        if unswept:
            self._breath.again(self._sweep_some)

    # ---- connections of ours

    def connect(self, address: Address, *, name: str | None = None) -> Connection:
        """Return the flow to an address: one of ours that is alive, or a new one, whose messages
        wait until it stands."""
        if self._socket is None:
            raise TransportError("the transport is not open")
        full = sockaddr(*address, self._scope)
        host, port = full[:2]
        if (":" in host) != (":" in self.local[0]):
            raise TransportError(
                f"{self!r} has no way to {host}: the other IP version", kind="no_transport"
            )
        if is_link_local(host) and len(full) > 2 and not full[3]:
            raise TransportError(f"{host} is on every link: say by which listener it is reached")
        key = (full, name.lower() if name and self.secure else None)
        flow = self.pool.get(key)
        if flow is not None:
            if flow.is_alive():
                return flow
            flow.close("found dead", "the peer has closed the connection")
        if len(self.flows) >= self.limits.connections:
            self.count("too many connections")
            problem = f"{self!r} holds {len(self.flows)} connections, and may hold no more"
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
            flow = self.flow_class(self, raw, (host, port), dialled=key, name=name)
        except (OSError, OverflowError) as error:
            if raw is not None:
                raw.close()
            self.count("connect failed")
            reason = getattr(error, "strerror", None) or error
            raise TransportError(
                f"cannot connect to {self.name.lower()}:{bracketed(host)}:{port}: {reason}"
            ) from error
        self.pool[key] = flow
        self._note(flow)
        return flow


class TLSTransport(TCP):
    """TCP with TLS upon it (RFC 3261 §26.2.1, RFC 5922): `tls` says who we are and whom we trust.

    Without a certificate it connects, and accepts nobody.
    """

    name = "TLS"
    reliable, secure, default_port = TRANSPORTS[name][1:4]

    def __init__(
        self,
        tls: TLS,
        limits: StreamLimits | None = None,
        parser_limits: ParserLimits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(limits, parser_limits)
        self.tls = tls
        self.aliases = Aliases()
        """Connections of peers that may be used for requests to them (RFC 5923)."""

    @property
    def offers_alias(self) -> bool:  # type: ignore[override]
        """True when servers that ask for it are shown a certificate of ours."""
        # not WebSockets: they have a server and a client
        return self.name == "TLS" and self.tls.shows_certificate

    def take_alias(self, flow: Any, port: int | None) -> None:
        if (
            self.name == "TLS"
            and flow.dialled is None
            and flow.peer_identity
            and flow in self.flows
        ):
            self.aliases.add(flow, port or self.default_port)

    def forget(self, flow: Connection) -> None:
        super().forget(flow)
        self.aliases.remove(flow)

    def connect(self, address: Address, *, name: str | None = None) -> Connection:
        return self.aliases.find(*address, name) or super().connect(address, name=name)

    @property
    def checks_names(self) -> bool:  # type: ignore[override]
        """True unless the user has asked for connections to just anybody."""
        return self.tls.verify

    def context(self, is_server: bool) -> Any:
        return self.tls.server_context if is_server else self.tls.client_context
