"""Names: what this element calls itself and knows again, RFC 3261 §8.1.1.8, §16.4 and §16.6 step 4:
hosts, domains, flows.

Two questions are asked about a URI that may be ours, and a port matters for one of them only:

`is_local()`: does it lead to this element? Asked for Route and maddr (§16.4), for the target of a
request within a dialog, and against loops. Of an address the port counts, because another port of
our host is another element: a phone, or a PBX.

`is_responsible_for()` and `aor()`: is it of our domain? Asked for REGISTER (§10.3 step 5), for
look-ups (§16.5) and for OPTIONS (§11). Port and transport do not count, because an
address-of-record has none (§19.1.1 Table 1).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from typing import TypeGuard

from ...arguments import texts
from ...errors import InvalidValue, ParseError, excerpt
from ...message.address import NameAddr
from ...message.grammar import is_host
from ...message.iana import DEFAULT_PORT, DEFAULT_PORTS
from ...message.message import Request
from ...message.parameters import NO_URI_PARAMETERS, URIParameters
from ...message.uri import URI, bracketed, is_valid_host, normal_host
from ...stores.bindings import BoundFlow, aor
from ...transport.base import Flow, Transport
from ...transport.locate.rfc3263 import SECURE, literal
from .routes import top_route
from .sips import wants_sips
from .tokens import ROUTE_SECRET, RouteTokens

LOCALHOST = "localhost"
"""Always a name of ours. It is also the domain of our addresses if no domain was given, because it
does not change."""

LOOPBACK = ("127.0.0.1", "::1")
"""The addresses of localhost (RFC 6761 §6.3)."""

ADDRESS_LENGTH = 47
"""Characters of the longest numeric address, in brackets. A longer host is a name, and not looked
up in a cache of addresses."""


class Names:
    """The sent-by, Contact, Record-Route and Path that we write, the URIs that are ours, and the
    flows that some of them name.

    `domains` are ours besides the addresses; `route_tokens` prove that a URI was made here. Without
    a secret a random one is made. Raises InvalidValue for a secret that is too short, and for an
    alias that leads to no domain of ours.
    """

    def __init__(
        self,
        transports: list[Transport],
        domains: Iterable[str] = (),
        route_secret: bytes | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.route_tokens = RouteTokens(
            os.urandom(ROUTE_SECRET) if route_secret is None else route_secret
        )
        self._transports = transports
        self._own: set[tuple[str, int]] = set()
        self._hosts: set[str] = set()
        self.serve(domains, aliases)

    # ---- domains

    def serve(self, domains: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        """Be responsible for these domains. Our addresses are aliases of the first one.

        `aliases` maps further names, or addresses, to one of the domains. Raises InvalidValue for
        an alias that leads to none of them, and for a text that is not a name: a URI, or a name
        with a port.
        """
        self.domains = tuple(
            dict.fromkeys(_name(domain, "domain") for domain in texts("domains", domains))
        )
        self._home = self.domains[0] if self.domains else LOCALHOST
        self._domains = {domain: domain for domain in self.domains}
        for name, given in _pairs(aliases):
            domain = normal_host(given)
            if domain not in (self.domains or (LOCALHOST,)):
                known = ", ".join(self.domains) or f"{LOCALHOST}, as there are no domains"
                raise InvalidValue(
                    f"alias {name!r} leads to {given!r}, which is none of our domains: write one of {known}"
                )
            self._domains[_name(name, "alias")] = domain

    def domain_of(self, host: str) -> str | None:
        """Return the domain that a host is, or is an alias of; None when it is not ours.

        Our addresses and localhost are aliases of the first domain unless `aliases` says otherwise.
        The domains that were given stay apart, even if DNS has the same address for them.
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
        domain = self.domain_of(uri.host) if uri.is_sip else None
        return aor(uri if domain is None else uri._replace(host=domain))

    def of(self, transports: list[Transport]) -> Names:
        """Return the same domains and secret for other transports, of which none is open yet."""
        names = copy.copy(self)
        names._transports = transports
        names._own, names._hosts = set(), set()
        return names

    # ---- hosts and ports

    def add(self, transport: Transport) -> None:
        """Know the address of an open transport as ours, and what its listener was given and
        advertises."""
        host, port = transport.local
        self._add(host, port)
        if transport.listener.host:
            self._add(transport.listener.host, port)
        advertised = transport.listener.advertise
        if advertised is not None:
            self._add(advertised.host, advertised.port or port)

    def _add(self, host: str, port: int) -> None:
        host = normal_host(host)
        self._own.add((host, port))
        self._hosts.add(host)

    def forget(self) -> None:
        """Know no address any more."""
        self._own.clear()
        self._hosts.clear()

    def sent_by(self, flow: Flow) -> tuple[str, int]:
        """Return host, IPv6 in brackets, and port that we name to a flow's peer, and know as ours
        from now on."""
        host, port = flow.sent_by
        self._add(host, port)
        return bracketed(host), port

    def is_local(self, uri: URI) -> bool:
        """True when a URI leads to this element: by host and port that it listens on or has told to
        peers, or by a domain.

        Every port of a domain's name is ours, because SRV records, or a NAT before us, may name
        any.
        """
        if not uri.is_sip:
            return False
        host = normal_host(uri.host)
        ports = _ports(uri)
        if any((host, port) in self._own for port in ports):
            return True
        hosts = LOOPBACK if host == LOCALHOST else _address(host)
        mine = [transport for transport in self._transports if any(map(transport.is_ours, hosts))]
        if not mine:  # a name, or an address that was given as a domain: that of the NAT before us
            return host in self._domains
        return any(transport.local[1] in ports for transport in mine)

    def _is_own(self, host: str) -> bool:
        """True for an address that we listen on or have told to peers, in its normal form, whatever
        the port."""
        if host in self._hosts or host == LOCALHOST:
            return True
        return any(
            transport.is_ours(address)
            for address in _address(host)
            for transport in self._transports
        )

    # ---- URIs of ours

    def contact(self, flow: Flow, *, secure: bool = False) -> NameAddr:
        """Return the Contact that reaches this element by the flow's way, or as its listener
        advertises.

        `secure` is for what was asked for with a sips URI: the Contact is one too (RFC 3261
        §12.1.1, RFC 5630 §5.1.1.1).
        """
        host, port = self.sent_by(flow)
        if secure and flow.transport.secure:
            return NameAddr(URI("sips", None, host, port))
        name = flow.transport.name.lower()
        name = "ws" if name == "wss" else name  # "wss" is no transport of URIs (RFC 7118 §5.2)
        parameters = (
            NO_URI_PARAMETERS if name == "udp" else URIParameters.parse(f"transport={name}")
        )
        return NameAddr(URI("sip", None, host, port, parameters))

    def route_uri(self, request: Request, flow: Flow, *, by_flow: bool = False) -> NameAddr:
        """Return the Record-Route value that keeps us on the route of the dialog a request begins
        (§16.6 step 4).

        It faces the peer at the other end of `flow`; with `by_flow` the dialog's requests to that
        peer go by the flow. Otherwise they leave by its listener, which the token names if the URI
        does not: two listeners may advertise the same address.
        """
        uri = self.contact(flow, secure=wants_sips(request)).uri
        token = self.route_tokens.make(
            request, self.flow_name(flow) if by_flow else self._listener_name(uri, flow)
        )
        return NameAddr(uri._replace(user=token, parameters=uri.parameters.replace(lr=None)))

    def made_route_of(self, request: Request) -> bool:
        """True when the next hop of a received request is a URI that we have made for the dialog it
        is in (§16.4)."""
        try:
            return self.route_tokens.match(request, top_route(request) or request.uri)
        except ParseError:
            return False

    def flow_uri(self, flow: Flow) -> URI:
        """Return a URI of ours for Path: requests that have it as topmost Route go by this flow
        (RFC 3327 §5, RFC 5626 §5).

        For a phone that came straight to us: the URI has "ob". `forward()` follows it;
        `tx.take_route()`, which it calls, refuses a forged one with 403 and one whose flow has
        ended with 430. It names the listener the phone uses, which a registrar may be unable to
        reach: `forward(..., add_path=True)` writes a second value for that.
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
        """Return a Path value that leads to us from the peer of a flow, and on by the flow of this
        name.

        `secure` is for a REGISTER to a sips URI: its Path is sips, too (RFC 5630 §6.1).
        """
        uri = self.contact(flow, secure=secure).uri
        parameters = uri.parameters.replace(lr=None)
        if is_first_hop:
            parameters = parameters.replace(ob=None)
        user = None if name is None else self.route_tokens.make_for_flow(name)
        return NameAddr(uri._replace(user=user, parameters=parameters))

    def is_same_side(self, one: Flow, other: Flow) -> bool:
        """True when the peers of two flows find us at the same place."""
        return one.transport is other.transport and self.sent_by(one) == self.sent_by(other)

    # ---- listeners

    def listener_of(self, uri: URI) -> Transport | None:
        """Return the listener that a URI of ours names, in its token or by its address; None where
        there is but one.

        Requests of the dialog leave by it (RFC 5658 §5). Believe no token that was not matched.
        """
        if len(self._transports) < 2:
            return None
        number = self.route_tokens.flow_name(uri).partition("-")[0]
        return self._transport(number) if number else self._listener_at(uri)

    def _listener_name(self, uri: URI, flow: Flow) -> str:
        """Return the number of a flow's listener, or "" where a URI of ours leads to it by
        itself."""
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
        there = [transport for transport in self._transports if _is_at(transport, host, uri.port)]
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

    def is_usable(self, flow: BoundFlow | None) -> TypeGuard[Flow]:
        """True for a flow of this element that has not ended: it may be a next hop."""
        return flow is not None and flow.transport in self._transports and flow.is_alive()

    def flow_name(self, flow: Flow) -> str:
        """Return the name of a flow among all of this element: what find_flow() finds again."""
        return (
            f"{self._transports.index(flow.transport)}-{flow.id}"
            if flow.transport in self._transports
            else ""
        )

    def find_flow(self, name: str) -> Flow | None:
        """Return the flow of this name, None when it has ended. Believe no name that a peer could
        have made up."""
        number, _, id = name.partition("-")
        transport = self._transport(number)
        flow = transport.find(id) if transport is not None else None
        return flow if self.is_usable(flow) else None


def _address(host: str) -> tuple[str, ...]:
    """Return the numeric address that a host in its normal form is, () for a name."""
    if len(host) > ADDRESS_LENGTH or (host[:1] != "[" and host.strip("0123456789.")):
        return ()
    address = literal(host)
    return () if address is None else (address,)


def _pairs(aliases: Mapping[str, str] | None) -> Iterable[tuple[str, str]]:
    """Return the aliases and their domains. Raises TypeError."""
    if aliases is None:
        return ()
    if not isinstance(aliases, Mapping):
        wrong: list[object] = [aliases]
    else:
        wrong = [text for text in (*aliases, *aliases.values()) if not isinstance(text, str)]
    if wrong:
        raise TypeError(
            f"aliases must map names, got {excerpt(wrong[0])}: "
            'write aliases={"example.net": "example.com"}'
        )
    return aliases.items()


def _name(text: str, what: str) -> str:
    """Return a domain or alias in its normal form. Raises InvalidValue."""
    host = bracketed(text.strip("[]"))
    if not (is_host(host) and is_valid_host(host)):
        raise InvalidValue(
            f"{what} {text!r} is not a host name: write it without scheme and port, like office.example"
        )
    return normal_host(text)


def _ports(uri: URI) -> tuple[int, ...]:
    """Return the port of a URI, or those that it may mean by default (RFC 3263 §4.2)."""
    if uri.port is not None:
        return (uri.port,)
    name = uri.transport
    if uri.is_secure:
        return (DEFAULT_PORTS.get(SECURE.get(name or "TLS", ""), 5061),)
    if name == "WS":  # of a page at wss: too: there is no other name for it (RFC 7118 §5.2)
        return DEFAULT_PORTS["WS"], DEFAULT_PORTS["WSS"]
    return (DEFAULT_PORTS.get(name or "", DEFAULT_PORT),)


def _is_at(transport: Transport, host: str, port: int | None) -> bool:
    """True when a listener is at a host in its normal form and a port, or advertises them."""
    advertised = transport.listener.advertise
    if advertised is not None and (
        normal_host(advertised.host),
        advertised.port or transport.local[1],
    ) == (host, port):
        return True
    if transport.local[1] != port:
        return False
    address = _address(host)
    return any(map(transport.is_ours, address)) if address else host == transport.local[0]
