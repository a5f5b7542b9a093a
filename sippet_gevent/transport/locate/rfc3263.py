"""The addresses of a SIP URI (RFC 3263 §4), or of the Via of a response (§5), in the order to try
them. Pure.

`select(uri)` is a generator. It yields questions for DNS step by step, is sent the answers, and
returns the candidates. So the rules know neither sockets nor time, and their tests need only a
table of records.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Generator, Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from random import Random as Generated
from typing import NamedTuple

from ...errors import TransportError, excerpt
from ...message.iana import DEFAULT_PORT, DEFAULT_PORTS, TRANSPORTS
from ...message.uri import URI, address_of, bracketed, is_valid_host
from ...message.uri_arguments import meant
from ...message.via import Via
from .records import NAPTR, SRV, Answer, Question, Random, Record, interleave, order_srv

RECORDS = 32
"""Most records used of one answer. The preferred ones are used, and the others are ignored."""

RULES = 5
"""Most NAPTR records followed. There is one for each transport."""

SRV_TARGETS = 8
"""Most hosts of SRV records whose addresses are asked for. Each costs two questions, and no request
tries more."""

CANDIDATES = 32
"""Most candidates returned."""

NOTES = 8
"""Questions named in the error when nothing was found."""

PREFERENCE = {"sip": ("UDP", "TCP", "TLS", "WS", "WSS"), "sips": ("TLS", "WSS")}
"""The transports of a scheme, in our order where the domain has none."""

ALL = frozenset(PREFERENCE["sip"])

SERVICES = {TRANSPORTS[name].service: name for name in PREFERENCE["sip"]}
"""The transport of a NAPTR record's service (§4.1). A SIPS URI may use only the secure ones."""

SECURE = {name: to for name in PREFERENCE["sip"] if (to := TRANSPORTS[name].secured) is not None}
"""The secure transport that the transport parameter of a SIPS URI selects. Other transports have no
secure form."""


class Candidate(NamedTuple):
    """An address to try.

    Args:
        transport: The name of the transport, "TLS".
        host: The numeric address.
        port: 1 to 65535.
        name: The domain that the TLS certificate must have. It is the domain of the URI, not a name
            from DNS, which may be forged (RFC 5922 §7.1, RFC 3263 §4.1).
    """

    transport: str
    host: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.transport.lower()}:{bracketed(self.host)}:{self.port}"


def _no_host(uri: URI) -> str:
    """Return why a URI that is neither sip nor sips leads nowhere, and what to write."""
    if ":" in uri.scheme:
        return f'{uri.scheme!r} is no scheme: write URI.parse("{uri.scheme}")'
    if uri.opaque.isdecimal():  # localhost:5060
        return f"{str(uri)!r} has no scheme: write {meant(str(uri))}"
    write = "say by next_hop= where it goes"
    text = excerpt(str(uri))[1:-1]
    if uri.scheme == "tel":
        number = text.partition(":")[2]
        write = f"write sip:{number}@HOST;user=phone (RFC 3261 §19.1.6), or {write}"
    return f"{text} names no host: {write}"


Steps = Generator[tuple[Question, ...], tuple[Answer, ...], list[Candidate]]
"""A selection in progress: yields questions, is sent their answers in the same order, and returns
the candidates."""


@lru_cache(maxsize=4096)
def literal(host: str) -> str | None:
    """Return a numeric host in its normal form, mapped IPv4 as IPv4; None for a name."""
    address = address_of(host)
    return None if address is None else str(getattr(address, "ipv4_mapped", None) or address)


@lru_cache(maxsize=4096)
def is_usable(address: str) -> bool:
    """True for an address that requests may be sent to: not multicast, broadcast or
    unspecified."""
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_multicast or parsed.is_unspecified or address == "255.255.255.255")


def transport_for(uri: URI, transports: Collection[str]) -> str:
    """Return the transport of a URI without asking DNS (§4.1).

    The default is UDP, or TLS for SIPS. A stack that has no UDP takes TCP, which §4.1 allows.

    Args:
        uri: A SIP or SIPS URI.
        transports: The names of the transports that we have.

    Raises:
        TransportError: We have no transport for it, or a SIPS URI asks for one without TLS.
    """
    wanted = uri.transport
    if uri.is_secure:
        wanted = SECURE.get(wanted or "TLS")
    elif wanted is None:
        wanted = "TCP" if "UDP" not in transports and "TCP" in transports else "UDP"
    if wanted is None:
        raise TransportError(
            f"{uri}: nothing is secure over {uri.transport} (RFC 3261 §26.2.2)", kind="not_secure"
        )
    if wanted not in transports:
        problem = (
            f"no transport leads to {uri}: listen on an address of its transport, {wanted.lower()}:"
        )
        raise TransportError(problem, kind="no_transport")
    return wanted


def default_port(transport: str, transports: Collection[str] = ALL) -> int:
    """Return the port of a URI or Via without one.

    For a transport of an application's own it is the value in `transports`, if that is a mapping.
    """
    if isinstance(transports, Mapping) and transport not in ALL:
        port: int = transports[transport]
        return port
    return DEFAULT_PORTS.get(transport, DEFAULT_PORT)


def select(
    uri: URI,
    transports: Collection[str] = ALL,
    random: Random = lambda: 0.0,
    *,
    key: str = "",
) -> Steps:
    """Find the candidates of a URI (§4.1, §4.2).

    Args:
        uri: A SIP or SIPS URI.
        transports: The names of the transports that we have. A mapping also has the default ports
            of those that RFC 3263 does not know.
        random: Chooses among SRV records of the same priority.
        key: Chooses in place of `random`, and of the order in which name servers answer. A
            stateless proxy gives what a request, its retransmissions and its CANCEL have in common.
            So they take the same way, and different requests spread by the weights (§4.4).

    Raises:
        TransportError: There are no candidates.

    | the URI has | transport | host and port |
    |---|---|---|
    | a numeric host, or maddr | its own, or the default | as written |
    | a port | its own, or the default | A and AAAA |
    | a transport | its own | SRV, else A and AAAA |
    | neither | NAPTR, else all that have SRV, else the default | SRV, else A and AAAA |
    """
    if not uri.is_sip:
        error = TransportError(_no_host(uri), kind="not_sip")
        error.status = 416  # for the URI of a request that a core serves (RFC 3261 §21.4.14)
        raise error
    target = uri.parameters.get("maddr") or uri.host
    numeric = literal(target)
    if numeric is not None:
        if "%" in numeric:  # others cannot know our interfaces (RFC 4007 §11)
            raise TransportError(
                f"{target}: an interface means nothing in a URI", kind="no_address"
            )
        if not is_usable(numeric):
            raise TransportError(f"{target} is not the address of one host", kind="no_address")
        transport = transport_for(uri, transports)
        return [
            Candidate(transport, numeric, uri.port or default_port(transport, transports), uri.host)
        ]
    search = _Search(_name(target), uri.host, random, transports, key=key)
    if uri.port is not None or uri.transport is not None:
        found = yield from search.with_transport(transport_for(uri, transports), uri.port)
    else:
        found = yield from search.with_naptr(uri, transports)
    return search.result(found)


def select_for_response(via: Via, random: Random = lambda: 0.0) -> Steps:
    """Find the candidates for a response when the flow of its request has ended. They are those of
    the sent-by of the client's Via (RFC 3263 §5).

    Raises:
        TransportError: There are no candidates.
    """
    numeric = literal(via.host)
    if numeric is not None:
        return [
            Candidate(
                via.transport,
                numeric,
                via.port or DEFAULT_PORTS.get(via.transport, DEFAULT_PORT),
                via.host,
            )
        ]
    search = _Search(_name(via.host), via.host, random)
    found = yield from search.with_transport(via.transport, via.port)
    return search.result(found)


def _name(host: str) -> str:
    """Return a host as a name to ask DNS for. Raises TransportError for one that cannot be a
    name."""
    if not is_valid_host(host):
        raise TransportError(
            f"{host} is neither an address nor a name: "
            "write a host such as sip.example.com or [2001:db8::1]"
        )
    return host.rstrip(".")


Found = Generator[tuple[Question, ...], tuple[Answer, ...], list[Candidate]]


class _Search:
    """One selection: the name to find, the transports, and the answers without records."""

    def __init__(
        self,
        target: str,
        domain: str,
        random: Random,
        transports: Collection[str] = ALL,
        *,
        key: str = "",
    ) -> None:
        self.key = key
        self.transports = transports
        self.target = target
        self.domain = domain
        self.random = random
        self.notes: list[str] = []
        self.refused = False

    def ask(
        self, *questions: Question
    ) -> Generator[tuple[Question, ...], tuple[Answer, ...], tuple[Answer, ...]]:
        answers = yield questions
        self.notes += [f"{q}: {a}" for q, a in zip(questions, answers) if not a.records]
        if self.key:
            return tuple(self.in_order(q, a) for q, a in zip(questions, answers))
        return answers

    def in_order(self, question: Question, answer: Answer) -> Answer:
        """Return an answer with its records in an order of our own (§4.4). Addresses begin at one
        that the key chooses."""
        records = sorted(answer.records, key=repr)
        if question.kind in ("A", "AAAA") and records:
            at = int(self.random_for(question.name)() * len(records))
            records = records[at:] + records[:at]
        return answer._replace(records=tuple(records))

    def random_for(self, name: str) -> Random:
        """Return what chooses among the records of a name. With a key, answers to other questions
        do not change it."""
        return Generated(f"{self.key} {name.lower()}").random if self.key else self.random

    def result(self, found: list[Candidate]) -> list[Candidate]:
        if not found:
            problem = (
                "the domain offers no such service"
                if self.refused
                else "no address found: " + "; ".join(self.notes[-NOTES:])
            )
            raise TransportError(f"{self.target}: {problem}", kind="no_address")
        return list(dict.fromkeys(found))[:CANDIDATES]

    def with_transport(self, transport: str, port: int | None) -> Found:
        if port is None and transport in ALL:
            found = yield from self.by_srv(
                [(transport, f"{TRANSPORTS[transport].srv}.{self.target}")]
            )
            if found or self.refused:
                return found
        return (yield from self.by_address(transport, port))

    def with_naptr(self, uri: URI, transports: Collection[str]) -> Found:
        (answer,) = yield from self.ask(Question(self.target, "NAPTR"))
        ours = [t for t in PREFERENCE[uri.scheme] if t in transports]
        rules = _usable_rules(answer.records, ours)
        if rules:
            found = []
            for flag, group in groupby(rules, key=lambda rule: rule[0]):
                if flag == "S":
                    found += yield from self.by_srv(
                        [(transport, name) for _, transport, name in group]
                    )
                else:  # the name of a host in place of SRV records, as RFC 3403 §4.1 allows
                    for _, transport, name in group:
                        found += yield from self.by_address(transport, None, name)
            return found
        found = yield from self.by_srv(
            [(transport, f"{TRANSPORTS[transport].srv}.{self.target}") for transport in ours]
        )
        if found or self.refused:
            return found
        return (yield from self.by_address(transport_for(uri, transports), None))

    def by_srv(self, names: list[tuple[str, str]]) -> Found:
        """Ask for SRV records in one step, and for the addresses of their hosts in another
        (§4.2)."""
        if not names:
            return []
        answers = yield from self.ask(*[Question(name, "SRV") for _, name in names])
        services = []
        refused = 0
        for (transport, name), answer in zip(names, answers):
            records = [r for r in answer.records if isinstance(r, SRV)]
            offered = [
                r for r in records if r.target != "." and r.port
            ]  # nothing listens on port 0
            refused += bool(records and not offered)
            services += [
                (transport, record)
                for record in order_srv(offered, self.random_for(name))[:RECORDS]
            ]
        if refused and not services:
            # "decidedly not available" (RFC 2782): its addresses must not be tried either
            self.refused = True
            return []
        hosts = list(dict.fromkeys(record.target for _, record in services))[:SRV_TARGETS]
        addresses = yield from self.addresses(hosts)
        return [
            Candidate(transport, address, record.port, self.domain)
            for transport, record in services
            for address in addresses.get(record.target, ())
        ]

    def by_address(self, transport: str, port: int | None, name: str | None = None) -> Found:
        host = name or self.target
        addresses = yield from self.addresses([host])
        port = port or default_port(transport, self.transports)
        return [Candidate(transport, address, port, self.domain) for address in addresses[host]]

    def addresses(
        self, hosts: list[str]
    ) -> Generator[tuple[Question, ...], tuple[Answer, ...], dict[str, list[str]]]:
        """Ask for the addresses of hosts, both IP versions, all in one step."""
        found = {host: [numeric] for host in hosts if (numeric := literal(host)) is not None}
        names = [host for host in hosts if host not in found]
        if names:
            answers = yield from self.ask(
                *[Question(name, kind) for name in names for kind in ("AAAA", "A")]
            )
            for index, name in enumerate(names):
                six, four = [
                    [r for r in answer.records[:RECORDS] if isinstance(r, str) and is_usable(r)]
                    for answer in answers[2 * index : 2 * index + 2]
                ]
                found[name] = interleave(six, four)
        return found


def _usable_rules(records: Iterable[Record], ours: list[str]) -> list[tuple[str, str, str]]:
    """Return flag, transport and name of the NAPTR records that we can use, in the domain's order
    (§4.1).

    Only those of the lowest order, because a client that can use them must ignore the others (RFC
    3403 §4.1). So a secure service that is down is not replaced by a later record for one without
    TLS.
    """
    rules = []
    for record in records:
        if isinstance(record, NAPTR) and not record.regexp and record.flags.upper() in ("S", "A"):
            transport = SERVICES.get(record.service.upper())
            if transport is not None and transport in ours and record.replacement not in ("", "."):
                rules.append(
                    (
                        record.order,
                        record.preference,
                        (record.flags.upper(), transport, record.replacement),
                    )
                )
    rules.sort(key=lambda rule: rule[:2])
    return [rule for order, _, rule in rules[:RULES] if order == rules[0][0]]
