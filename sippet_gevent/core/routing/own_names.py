"""Names: the hosts, domains and flows of this element, and the URIs that name them, RFC 3261
§8.1.1.8, §16.4 and §16.6 step 4.

There are two questions about a URI that may be ours:

* `is_local()`: does the URI lead to this element? The answer is needed for Route and maddr (§16.4),
  for the target of a request within a dialog, and against loops. The port of an address counts,
  because another port of our host is another element, such as a phone or a PBX.
* `is_responsible_for()` and `aor()`: is the URI in our domain? The answer is needed for REGISTER
  (§10.3 step 5), look-ups (§16.5) and OPTIONS (§11). Port and transport do not count, because an
  address-of-record has none (§19.1.1 Table 1).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from typing import TypeGuard

from ...arguments import texts
from ...errors import InvalidValue, ParseError
from ...message.address import NameAddr
from ...message.flow import MessageFlow
from ...message.iana import DEFAULT_PORT, DEFAULT_PORTS
from ...message.message import Request
from ...message.parameters import NO_URI_PARAMETERS, URIParameters
from ...message.scan import USUAL, Line
from ...message.uri import SCHEME_PORTS, URI, bracketed, normal_host, sip_aor
from ...stores.bindings import aor
from ...stores.gruu import Gruus
from ...transport.base import Flow, Transport
from ...transport.locate.rfc3263 import SECURE
from .domain_names import alias_pairs, domain_name
from .flow_names import FlowNames
from .hosts import LOCALHOST, addresses_of, numeric
from .routes import top_route
from .sips import wants_sips
from .tokens import ROUTE_SECRET, RouteTokens

CONTACT_LINES = 256
"""Most Contacts of ours that are kept as text: one for each address and transport."""


class Names:
    """Makes the Via sent-by, Contact, Record-Route and Path of this element; recognizes its URIs.

    Args:
        transports: The open listeners; the list is shared with the engine, which changes it.
        domains: The domains of this element besides its addresses.
        route_secret: The key of `route_tokens`, which prove that a URI was made here. Random by
            default.
        aliases: Further names of a domain, `{"example.net": "example.com"}`.

    Raises:
        InvalidValue: The secret is too short, or an alias leads to none of the domains.
    """

    def __init__(
        self,
        transports: list[Transport],
        domains: Iterable[str] = (),
        route_secret: bytes | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        secret = os.urandom(ROUTE_SECRET) if route_secret is None else route_secret
        self.route_tokens = RouteTokens(secret)
        self.gruus = Gruus(secret)
        self._use(transports)
        self._own: set[tuple[str, int]] = set()
        self._hosts: set[str] = set()
        # what sent_by() and route_text() have made, as many as we have addresses
        self._sent_by: dict[tuple[str, int], tuple[str, int]] = {}
        self._contact_lines: dict[tuple[str, int, str, bool], Line] = {}
        self._route_ends: dict[tuple[str, tuple[str, int], bool], tuple[str, str]] = {}
        self.serve(domains, aliases)

    # ---- domains

    def serve(self, domains: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        """Set the domains of this element. The addresses of the element become aliases of the first
        domain.

        Args:
            domains: Names such as `example.com`.
            aliases: Further names, or addresses, each with one of the domains.

        Raises:
            InvalidValue: An alias leads to none of the domains, or a text is not a name: a URI, or
                a name with a port.
        """
        self.domains = tuple(
            dict.fromkeys(domain_name(domain, "domain") for domain in texts("domains", domains))
        )
        self._home = self.domains[0] if self.domains else LOCALHOST
        self._domains = {domain: domain for domain in self.domains}
        for name, given in alias_pairs(aliases):
            domain = normal_host(given)
            if domain not in (self.domains or (LOCALHOST,)):
                known = ", ".join(self.domains) or f"{LOCALHOST}, as there are no domains"
                raise InvalidValue(
                    f"alias {name!r} leads to {given!r}, which is none of our domains: "
                    f"write one of {known}"
                )
            self._domains[domain_name(name, "alias")] = domain

    def domain_of(self, host: str) -> str | None:
        """Return the domain that a host is, or is an alias of; None for a host of other elements.

        Our addresses and localhost are aliases of the first domain unless `aliases` says otherwise.
        Given domains are never aliases of each other, even if DNS has the same address for them.
        """
        host = normal_host(host)
        domain = self._domains.get(host)
        return self._home if domain is None and self._is_own(host) else domain

    def is_responsible_for(self, uri: URI) -> bool:
        """True when a URI is of one of our domains, whatever its port and transport (§10.3 step 5,
        §16.5)."""
        return uri.is_sip and self.domain_of(uri.host) is not None

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names, one text for all names and ports of a
        domain (§10.3 step 5)."""
        if uri.scheme not in SCHEME_PORTS:
            return aor(uri)
        host = normal_host(uri.host)
        domain = self._domains.get(host)
        if domain is None and self._is_own(host):
            domain = self._home
        # one text for sip and sips (RFC 5630 §5.2)
        return sip_aor("sip", uri.user, domain or host)

    def of(self, transports: list[Transport]) -> Names:
        """Return a copy with the same domains and secret for other transports, none of them open
        yet."""
        names = copy.copy(self)
        names._use(transports)
        names._own, names._hosts = set(), set()
        names._sent_by, names._route_ends, names._contact_lines = {}, {}, {}
        return names

    def _use(self, transports: list[Transport]) -> None:
        self._transports = transports
        flows = self._flow_names = FlowNames(transports)
        self.node = flows.node
        """The name of this process in the names of flows that a store keeps."""
        self.flow_watches = flows.watches
        """Callables that get the name of each connection that ends."""
        self.flow_ended = flows.ended
        # attributes, because a request to a binding needs two of them
        self.stored_flow = flows.stored_flow
        self.live_flow = flows.live_flow
        self.stored_listener = flows.stored_listener
        self.listener = flows.listener

    # ---- hosts and ports

    def add(self, transport: Transport) -> None:
        """Add the addresses of an open transport: bound, given and advertised."""
        host, port = transport.local
        self._add(host, port)
        if transport.listener.host:
            self._add(transport.listener.host, port)
        advertised = transport.listener.advertise
        if advertised is not None:
            self._add(advertised.host, advertised.port or port)

    def add_address(self, host: str, port: int) -> None:
        """Add an address at which peers reach us, such as that of a NAT."""
        self._add(host, port)

    def _add(self, host: str, port: int) -> None:
        host = normal_host(host)
        self._own.add((host, port))
        self._hosts.add(host)

    def forget(self) -> None:
        """Remove all addresses."""
        self._own.clear()
        self._hosts.clear()
        self._sent_by.clear()
        self._contact_lines.clear()
        self._route_ends.clear()
        self._flow_names.forget()

    def sent_by(self, flow: Flow) -> tuple[str, int]:
        """Return our host (IPv6 in brackets) and port, as the peer of a flow sees them.

        From then on they count as ours, as after add().
        """
        address = flow.sent_by
        known = self._sent_by.get(address)
        if known is None:
            host, port = address
            self._add(host, port)
            known = self._sent_by[address] = (bracketed(host), port)
        return known

    def is_local(self, uri: URI) -> bool:
        """True when a URI leads to this element.

        It does if it has a host and port at which this element listens, or that it has given to
        peers. A domain may have any port, because SRV records or a NAT in front of us may name any.
        """
        if uri.port is not None and (uri.host, uri.port) in self._own:
            return uri.scheme in ("sip", "sips")  # the usual spelling of an own Route
        if uri.scheme not in ("sip", "sips"):
            return False
        host, hosts = addresses_of(uri.host)
        ports = _ports(uri) if uri.port is None else (uri.port,)
        for port in ports:
            if (host, port) in self._own:
                return True
        is_mine = False
        for transport in self._transports:
            for address in hosts:
                if transport.is_ours(address):
                    if transport.local[1] in ports:
                        return True
                    is_mine = True
        # a name, or the address of a NAT in front of us, given as a domain
        return not is_mine and host in self._domains

    def _is_own(self, host: str) -> bool:
        """True for an address, with any port, at which we listen or that we gave to peers. The host
        is in its normal form."""
        if host in self._hosts or host == LOCALHOST:
            return True
        return any(
            transport.is_ours(address)
            for address in numeric(host)
            for transport in self._transports
        )

    # ---- URIs of ours

    def contact(self, flow: Flow, *, secure: bool = False) -> NameAddr:
        """Return the Contact by which the peer of a flow reaches this element.

        Args:
            flow: The flow; its listener may advertise another address.
            secure: True when the request has a sips URI, so that the Contact has one, too (RFC 3261
                §12.1.1, RFC 5630 §5.1.1.1). Only for a flow over TLS.
        """
        host, port = self.sent_by(flow)
        name = flow.transport.name.lower()
        name = "ws" if name == "wss" else name  # URIs have no transport "wss" (RFC 7118 §5.2)
        is_sips = secure and flow.transport.secure
        # TLS is what a sips URI means without a transport, but not a WebSocket
        parameters = (
            NO_URI_PARAMETERS
            if name == "udp" or (is_sips and name == "tls")
            else URIParameters.parse(f"transport={name}")
        )
        return NameAddr(URI("sips" if is_sips else "sip", None, host, port, parameters))

    def contact_line(self, flow: Flow, secure: bool) -> Line:
        """Return contact() as a header line. Most calls have the same few, so they are kept."""
        key = (*flow.sent_by, flow.transport.name, secure and flow.transport.secure)
        line = self._contact_lines.get(key)
        if line is None:
            line = ("Contact", USUAL, str(self.contact(flow, secure=secure)))
            if len(self._contact_lines) < CONTACT_LINES:
                self._contact_lines[key] = line
        return line

    def route_uri(self, request: Request, flow: Flow, *, by_flow: bool = False) -> NameAddr:
        """Return the Record-Route value that keeps us on the route of a dialog (§16.6 step 4).

        Args:
            request: The received request that begins the dialog.
            flow: A flow to the peer that the value faces.
            by_flow: True when the dialog's requests to that peer must go by this flow. Otherwise
                they leave by its listener. The token names the listener if the URI does not,
                because two listeners may advertise the same address.
        """
        uri = self.contact(flow, secure=wants_sips(request)).uri
        token = self.route_tokens.make(
            request, self.flow_name(flow) if by_flow else self._listener_name(uri, flow)
        )
        return NameAddr(uri._replace(user=token, parameters=uri.parameters.replace(lr=None)))

    def route_text(self, request: Request, flow: Flow, *, by_flow: bool = False) -> str:
        """Return `str(route_uri())`, whose text around the token is made once for each of our
        addresses."""
        if by_flow or len(self._transports) > 1:
            return str(self.route_uri(request, flow, by_flow=by_flow))
        key = flow.transport.name, flow.sent_by, wants_sips(request)
        ends = self._route_ends.get(key)
        token = self.route_tokens.make(request)
        if ends is None:
            text = str(self.route_uri(request, flow))
            before, _, after = text.partition(token)
            ends = self._route_ends[key] = before, after
        return f"{ends[0]}{token}{ends[1]}"

    def made_route_of(self, request: Request) -> bool:
        """True when the next hop of a received request is a URI that we have made for its dialog
        (§16.4)."""
        try:
            return self.route_tokens.match(request, top_route(request) or request.uri)
        except ParseError:
            return False

    def flow_uri(self, flow: Flow) -> URI:
        """Return a URI for Path: requests with it as topmost Route go by this flow (RFC 3327 §5,
        RFC 5626 §5).

        The URI has "ob", so it is for a phone whose REGISTER had no other hop before us.
        `forward()` follows it. `tx.take_route()`, which forward() calls, refuses a forged URI with
        403. If the flow has ended, it refuses the URI with 430.

        The URI names the listener that the phone uses. If the registrar cannot reach that, use
        `forward(..., add_path=True)`, which writes a second value.
        """
        return self.path_uri(flow, self.flow_name(flow)).uri

    def path_uri(
        self,
        flow: Flow,
        name: str | None = None,
        *,
        is_first_hop: bool = True,
        secure: bool = False,
    ) -> NameAddr:
        """Return a Path value by which the peer of a flow reaches us.

        Args:
            flow: A flow to the peer that the value faces.
            name: The name of the flow by which requests go on, if any.
            is_first_hop: True when the REGISTER has passed no other proxy before; adds "ob".
            secure: True for a REGISTER to a sips URI, whose Path is sips, too (RFC 5630 §6.1).
        """
        uri = self.contact(flow, secure=secure).uri
        parameters = uri.parameters.replace(lr=None)
        if is_first_hop:
            parameters = parameters.replace(ob=None)
        user = None if name is None else self.route_tokens.make_for_flow(name)
        return NameAddr(uri._replace(user=user, parameters=parameters))

    def is_same_side(self, one: Flow, other: Flow) -> bool:
        """True when the peers of two flows reach us at the same address and transport."""
        return one.transport is other.transport and self.sent_by(one) == self.sent_by(other)

    # ---- listeners

    def listener_of(self, uri: URI) -> Transport | None:
        """Return the listener that a URI of ours names, in its token or by its address; None if
        there is only one listener.

        Requests of the dialog leave by it (RFC 5658 §5). Check the token first: anybody can write
        one.
        """
        if len(self._transports) < 2:
            return None
        number = self.route_tokens.flow_name(uri).partition("-")[0]
        return self._transport(number) if number else self._listener_at(uri)

    def _listener_name(self, uri: URI, flow: Flow) -> str:
        """Return the number of a flow's listener, or "" if the URI without a number leads to it."""
        transports = self._transports
        if (
            len(transports) < 2
            or self._listener_at(uri) is flow.transport
            or flow.transport not in transports
        ):
            return ""
        return str(transports.index(flow.transport))

    def _listener_at(self, uri: URI) -> Transport | None:
        """Return the listener at the host and port of a URI; of several, that of its transport."""
        host = normal_host(uri.host)
        there = [transport for transport in self._transports if is_at(transport, host, uri.port)]
        name = uri.transport or ("TLS" if uri.is_secure else "UDP")
        return next(
            (transport for transport in there if transport.name == name),
            there[0] if there else None,
        )

    def _transport(self, number: str) -> Transport | None:
        transports = self._transports
        known = number.isdecimal() and len(number) < 4 and int(number) < len(transports)
        return transports[int(number)] if known else None

    # ---- flows that peers have opened

    def is_usable(self, flow: MessageFlow | None) -> TypeGuard[Flow]:
        """True for a flow of this element that has not ended, so that it may be a next hop."""
        return flow is not None and flow.transport in self._transports and flow.is_alive()

    def flow_name(self, flow: Flow) -> str:
        """Return the name by which find_flow() finds a flow of this element."""
        return (
            f"{self._transports.index(flow.transport)}-{flow.id}"
            if flow.transport in self._transports
            else ""
        )

    def find_flow(self, name: str) -> Flow | None:
        """Return the flow of this name, None when it has ended.

        A name that came from a peer must be proved by a token first.
        """
        number, _, id = name.partition("-")
        transport = self._transport(number)
        flow = transport.find(id) if transport is not None else None
        return flow if self.is_usable(flow) else None


def _ports(uri: URI) -> tuple[int, ...]:
    """Return the port of a URI, or else its possible default ports (RFC 3263 §4.2)."""
    if uri.port is not None:
        return (uri.port,)
    name = uri.transport
    if uri.is_secure:
        return (DEFAULT_PORTS.get(SECURE.get(name or "TLS", ""), 5061),)
    if name == "WS":  # may be a WebSocket over TLS, whose URIs say ws, too (RFC 7118 §5.2)
        return DEFAULT_PORTS["WS"], DEFAULT_PORTS["WSS"]
    return (DEFAULT_PORTS.get(name or "", DEFAULT_PORT),)


def is_at(transport: Transport, host: str, port: int | None) -> bool:
    """True when a listener is at a host in its normal form and a port, or advertises them."""
    advertised = transport.listener.advertise
    if advertised is not None and (
        normal_host(advertised.host),
        advertised.port or transport.local[1],
    ) == (host, port):
        return True
    if transport.local[1] != port:
        return False
    address = numeric(host)
    return any(map(transport.is_ours, address)) if address else host == transport.local[0]
