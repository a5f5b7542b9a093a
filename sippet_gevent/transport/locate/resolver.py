"""Resolver: from a URI to numeric addresses, in the order to try them, RFC 3263 §4.

Resolver is the base class. StaticResolver has a table of records, DNSResolver asks name servers.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...arguments import number, whole
from ...errors import InvalidValue, excerpt
from ...message.uri import URI
from ...message.via import Via
from ...observe.log_values import Quoted
from ...runtime.clock import Clock
from .records import NAPTR, SRV, Answer, Question, Random, Record
from .rfc3263 import ALL, Candidate, Steps, literal, select, select_for_response

if TYPE_CHECKING:
    from .dns import DNS

__all__ = [
    "NAPTR",
    "SRV",
    "Answer",
    "Candidate",
    "DNSResolver",
    "Question",
    "Resolver",
    "StaticResolver",
]

log = logging.getLogger("sippet_gevent.transport")

RESOLVE_SECONDS = 3.0
"""Seconds that all steps for one URI may take together. A caller would not wait longer."""


class Resolver:
    """Finds the addresses of URIs. `Stack(resolver=...)` takes one, and each stack needs its own.

    Derive from it, and write ask(). If you do not want RFC 3263, write resolve():

        class Office(Resolver):
            def resolve(self, uri, transports=()):
                return [Candidate("UDP", "192.0.2.1", 5060, uri.host)]

    Args:
        random: Chooses among SRV records of the same priority: a function like random.random.
    """

    def __init__(self, *, random: Random = random.random) -> None:
        self.random = random

    def resolve(self, uri: URI, transports: Collection[str] = ALL) -> list[Candidate]:
        """Return the candidates of a SIP URI, best first (§4). Never an empty list.

        Args:
            uri: A SIP or SIPS URI. For a numeric host no question is asked.
            transports: The names of the transports that we have.

        Raises:
            TransportError: There is no address, or no transport.
        """
        return self._walk(select(uri, transports, self.random), uri)

    def resolve_steadily(
        self, uri: URI, transports: Collection[str] = ALL, *, key: str
    ) -> list[Candidate]:
        """Return the candidates of a SIP URI in an order that depends on a key alone, as a
        stateless proxy needs it (§4.4).

        If you have written resolve(), it decides, and must give a retransmission the same order.

        Args:
            uri: A SIP or SIPS URI.
            transports: The names of the transports that we have.
            key: What retransmissions, CANCEL and ACK have in common: the branch of the copy.

        Raises:
            TransportError: There is no address, or no transport.
        """
        if type(self).resolve is not Resolver.resolve:
            return self.resolve(uri, transports)
        return self._walk(select(uri, transports, key=key), uri)

    def resolve_response(self, via: Via) -> list[Candidate]:
        """Return where to send a response whose flow has ended: the sent-by of its top Via (§5).

        Raises:
            TransportError: There is no address.
        """
        return self._walk(select_for_response(via, self.random), via)

    def _walk(self, steps: Steps, what: object) -> list[Candidate]:
        try:
            questions = next(steps)
        except StopIteration as at_once:
            known: list[Candidate] = at_once.value
            return known
        budget = self.begin()
        try:
            while True:
                answers = self.ask(questions, budget)
                for question, answer in zip(questions, answers):
                    log.debug(
                        'name asked: target="%s" question="%s" answer="%s"',
                        Quoted(what),
                        Quoted(question),
                        Quoted(answer),
                    )
                questions = steps.send(answers)
        except StopIteration as done:
            found: list[Candidate] = done.value
        candidates = " ".join(map(str, found))
        log.debug('target resolved: target="%s" candidates="%s"', Quoted(what), Quoted(candidates))
        return found

    def begin(self) -> Any:
        """Return an object of your own that ask() gets as `budget` for one resolution, such as its
        deadline. None by default."""
        return None

    def ask(self, questions: tuple[Question, ...], budget: Any) -> tuple[Answer, ...]:
        """Return the answers to questions, in their order. May wait.

        Args:
            questions: The questions of one step.
            budget: The object that begin() returned.

        Returns:
            One Answer for each question. A name that is not found gets an Answer with a problem,
            not an exception.
        """
        raise TypeError(f"{type(self).__name__} lacks .ask()")

    def start(self, clock: Clock) -> None:
        """Begin to resolve, by the clock of the stack. Called when the stack starts."""

    def stop(self) -> None:
        """End all questions. Called when the stack stops."""


class StaticResolver(Resolver):
    """Records from a table, for tests and for networks without DNS.

        StaticResolver(
            {
                "_sip._udp.example.com": [SRV(10, 0, 5060, "a.example.com")],
                "a.example.com": ["192.0.2.1", "2001:db8::1"],
            }
        )

    Args:
        records: Names to lists of records. Texts are numeric addresses.
        random: Chooses among SRV records of the same priority.

    Raises:
        InvalidValue: A record is neither an address nor an SRV or NAPTR.
        TypeError: The records are no mapping of lists.
    """

    def __init__(
        self, records: Mapping[str, Iterable[Record]], *, random: Random = random.random
    ) -> None:
        super().__init__(random=random)
        if not isinstance(records, Mapping):
            raise TypeError(
                f"records must map names, got {excerpt(records)}: write "
                f'{{"example.com": ["192.0.2.1"]}}'
            )
        self.records: dict[str, tuple[Record, ...]] = {}
        for name, values in records.items():
            if isinstance(values, (str, NAPTR, SRV)) or not isinstance(values, Iterable):
                raise TypeError(
                    f"the records of {name!r} must be a list, got {excerpt(values)}: write "
                    f"[{values!r}]"
                )
            self.records[_plain(name)] = tuple(values)
        for name, values in self.records.items():
            for value in values:
                if not isinstance(value, (NAPTR, SRV)) and literal(str(value)) is None:
                    raise InvalidValue(
                        f"{name}: a record must be a numeric address, an SRV or a NAPTR, "
                        f'got {value!r}: write "192.0.2.1"'
                    )

    def ask(self, questions: tuple[Question, ...], budget: Any) -> tuple[Answer, ...]:
        return tuple(self._answer(question) for question in questions)

    def _answer(self, question: Question) -> Answer:
        records = self.records.get(_plain(question.name))
        if records is None:
            return Answer((), "no such name")
        return Answer(tuple(record for record in records if _kind(record) == question.kind))


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _kind(record: Record) -> str:
    if isinstance(record, str):
        return "AAAA" if ":" in record else "A"
    return type(record).__name__


class DNSResolver(Resolver):
    """The default resolver of a stack: /etc/hosts, then DNS.

    Args:
        servers: Numeric addresses of name servers, `"192.0.2.53"` or `("192.0.2.53", 5353)`; those
            of /etc/resolv.conf by default.
        seconds: How long all steps for one URI may take together.
        random: Chooses among SRV records of the same priority.

    Raises:
        InvalidValue: A server is not a numeric address, or `seconds` is not above 0.
        TypeError: The servers are no list.
    """

    def __init__(
        self,
        *,
        servers: Iterable[str | tuple[str, int]] = (),
        seconds: float = RESOLVE_SECONDS,
        random: Random = random.random,
    ) -> None:
        super().__init__(random=random)
        self.seconds = number("seconds", seconds, above=True)
        if isinstance(servers, str) or not isinstance(servers, Iterable):
            raise TypeError(
                f"servers must be a list of addresses, got {excerpt(servers)}: write "
                'servers=["192.0.2.53"]'
            )
        self.servers = [_server(server) for server in servers]
        self.client: DNS | None = None
        """The DNS client, once the stack has started."""
        self._clock = Clock()

    def start(self, clock: Clock) -> None:
        if self.client is None:
            # dnspython takes 40 ms to import, so import it now, when no request waits
            from .dns import DNS

            self.client = DNS(clock, servers=self.servers)
        self._clock = clock

    def stop(self) -> None:
        if self.client is not None:
            self.client.stop()

    def begin(self) -> float:
        return self._clock.now() + self.seconds

    def ask(self, questions: tuple[Question, ...], budget: float) -> tuple[Answer, ...]:
        if self.client is None:
            return (Answer((), "the resolver is not started"),) * len(questions)
        left = max(budget - self._clock.now(), 0.0)
        return self.client.ask(questions, left * PATIENCE.get(questions[0].kind, 1.0))


def _server(server: Any) -> tuple[str, int]:
    """Return the address and port of a name server. Raises InvalidValue for a name, which only
    another name server could resolve."""
    host, port = (server, 53) if isinstance(server, str) or len(server) != 2 else server
    if not isinstance(host, str) or literal(host) is None:
        raise InvalidValue(
            f'a name server must be a numeric address, got {excerpt(server)}: write "192.0.2.53"'
        )
    return host, whole("the port of a name server", port, 1, 65535)


PATIENCE = {"NAPTR": 1 / 3, "SRV": 1 / 2}
"""The share of the remaining time that a step may take. Some servers never answer unknown names
(RFC 4074), and later steps need time, too."""
