"""Names: what this element calls itself and knows again, RFC 3261 §8.1.1.8, §16.4 and §16.6 step 4: hosts, domains, flows."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import ParseError
from ..message.address import NameAddr
from ..message.grammar import split
from ..message.message import Request
from ..message.parameters import NO_URI_PARAMETERS, URIParameters
from ..message.uri import URI, bracketed, normal_host
from ..transport.base import Flow, Transport
from .routing import ROUTE_SECRET, RouteTokens
from .sips import wants_sips


class Names:
    """The sent-by, Contact, Record-Route and Path that we write, the URIs that are ours, and the flows that some of them name.

    `domains` are ours besides the addresses; `route_tokens` tell the URIs we have made from those that others write. Raises
    InvalidValue for a secret that is too short; None makes a random one.
    """

    def __init__(self, transports: list[Transport], domains: Iterable[str] = (), route_secret: bytes | None = None) -> None:
        self.domains = frozenset(domain.lower() for domain in domains)
        self.route_tokens = RouteTokens(os.urandom(ROUTE_SECRET) if route_secret is None else route_secret)
        self._transports = transports
        self._own: set[tuple[str, int]] = set()

    # ---- hosts and ports

    def add(self, transport: Transport) -> None:
        """Know the address of an open transport as ours, and what its listener advertises."""
        host, port = transport.local
        self._own.add((normal_host(host), port))
        advertised = transport.listener.advertise
        if advertised is not None:
            self._own.add((normal_host(advertised.host), advertised.port or port))

    def forget(self) -> None:
        """Know no address any more."""
        self._own.clear()

    def sent_by(self, flow: Flow) -> tuple[str, int]:
        """Return host, IPv6 in brackets, and port that we name to a flow's peer, and know as ours from now on."""
        host, port = flow.sent_by
        self._own.add((normal_host(host), port))
        return bracketed(host), port

    def is_local(self, uri: URI) -> bool:
        """True when a URI names this element: an address it listens on or has told, or one of its domains."""
        if not uri.is_sip:
            return False
        host = normal_host(uri.host)
        port = uri.port or (5061 if uri.is_secure else 5060)
        if host in self.domains or (host, port) in self._own:
            return True
        if not host.startswith("[") and host.strip("0123456789."):
            return False  # a name of others
        return any(transport.local[1] == port and transport.is_ours(host.strip("[]")) for transport in self._transports)

    # ---- URIs of ours

    def contact(self, flow: Flow, *, secure: bool = False) -> NameAddr:
        """Return the Contact that reaches this element by the flow's way, or as its listener advertises.

        `secure` is for what was asked for with a sips URI: the Contact is one too (RFC 3261 §12.1.1, RFC 5630 §5.1.1.1).
        """
        host, port = self.sent_by(flow)
        if secure and flow.transport.secure:
            return NameAddr(URI("sips", None, host, port))
        name = flow.transport.name.lower()
        name = "ws" if name == "wss" else name  # "wss" is no transport of URIs (RFC 7118 §5.2)
        parameters = NO_URI_PARAMETERS if name == "udp" else URIParameters.parse(f"transport={name}")
        return NameAddr(URI("sip", None, host, port, parameters))

    def route_uri(self, request: Request, flow: Flow, *, by_flow: bool = False) -> NameAddr:
        """Return the Record-Route value that keeps us on the route of the dialog a request begins (§16.6 step 4).

        It faces the peer at the other end of `flow`; with `by_flow` the requests of the dialog to him go by it.
        """
        uri = self.contact(flow, secure=wants_sips(request)).uri
        token = self.route_tokens.make(request, self.flow_name(flow) if by_flow else "")
        return NameAddr(uri._replace(user=token, parameters=uri.parameters.replace(lr=None)))

    def made_route_of(self, request: Request) -> bool:
        """True when the next hop of a received request is a URI that we have made for the dialog it is in (§16.4)."""
        try:
            route = request.headers.get("Route")
            first = NameAddr.parse(split(route, ",")[0]).uri if route else request.uri
            return self.route_tokens.match(request, first)
        except ParseError:
            return False

    def flow_uri(self, flow: Flow) -> URI:
        """Return a URI of ours for Path: requests that have it as topmost Route go by this flow (RFC 3327 §5, RFC 5626 §5).

        For who came straight to us: the URI has "ob". `forward()` follows it; `tx.take_route()`, which it calls, refuses a
        forged one with 403 and one whose flow has ended with 430.
        """
        uri = self.contact(flow).uri
        parameters = uri.parameters.replace(lr=None, ob=None)
        return uri._replace(user=self.route_tokens.make_for_flow(self.flow_name(flow)), parameters=parameters)

    # ---- flows that peers have opened

    def is_usable(self, flow: Flow | None) -> bool:
        """True for a flow of this element that has not ended: it may be a next hop."""
        return flow is not None and flow.transport in self._transports and flow.is_alive()

    def flow_name(self, flow: Flow) -> str:
        """Return the name of a flow among all of this element: what find_flow() finds again."""
        return f"{self._transports.index(flow.transport)}-{flow.id}" if flow.transport in self._transports else ""

    def find_flow(self, name: str) -> Flow | None:
        """Return the flow of this name, None when it has ended. Believe no name that a peer could have made up."""
        number, _, id = name.partition("-")
        transports = self._transports
        if not (number.isdecimal() and len(number) < 4 and int(number) < len(transports)):
            return None
        flow = transports[int(number)].find(id)
        return flow if self.is_usable(flow) else None
