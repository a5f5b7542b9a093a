"""Resolver: a URI to the numeric addresses it may be reached at, in the order to try them, RFC 3263
§4."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ...arguments import number, whole
from ...errors import InvalidValue, excerpt
from ...message.uri import URI
from ...message.via import Via
from .rfc3263 import (
    ALL,
    NAPTR,
    SRV,
    Answer,
    Candidate,
    Question,
    Record,
    Steps,
    literal,
    select,
    select_for_response,
)

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
"""How long one URI may take in all, every step of it: longer than that, the caller's own patience
is at stake."""


class Resolver:
    """The plug: what `Stack(resolver=...)` takes, one for each stack. Derive, and give `ask()` or
    all of `resolve()`.

    `random` is where the choice among SRV records of one priority comes from: a function like
    random.random.
    """

    def __init__(self, *, random: Any = random.random) -> None:
        self.random = random

    def resolve(self, uri: URI, transports: Collection[str] = ALL) -> list[Candidate]:
        """Return where a SIP URI leads by these transports, best first (§4). Raises TransportError,
        never an empty list.

        Numeric hosts ask nobody.
        """
        return self._walk(select(uri, transports, self.random), uri)

    def resolve_response(self, via: Via) -> list[Candidate]:
        """Return where a response goes whose way back is gone: to the sent-by of the top Via (§5).
        Raises TransportError."""
        return self._walk(select_for_response(via, self.random), via)

    def _walk(self, steps: Steps, what: object) -> list[Candidate]:
        try:
            questions = next(steps)
        except StopIteration as at_once:
            return at_once.value  # type: ignore[no-any-return]
        budget = self.begin()
        try:
            while True:
                answers = self.ask(questions, budget)
                for question, answer in zip(questions, answers):
                    log.debug("resolve %s: %s: %s", what, question, answer)
                questions = steps.send(answers)
        except StopIteration as done:
            found: list[Candidate] = done.value
        log.debug("resolve %s: leads to %s", what, ", then ".join(map(str, found)))
        return found

    def begin(self) -> Any:
        """Return what `ask` gets to know of one resolution: when it must be over, say."""
        return None

    def ask(self, questions: tuple[Question, ...], budget: Any) -> tuple[Answer, ...]:
        """Return the answers to these questions, in their order. May wait; must not raise for what
        is not found."""
        raise TypeError(f"{type(self).__name__} lacks .ask()")

    def start(self, clock: Any) -> None:
        """The stack starts, and this is its clock."""

    def stop(self) -> None:
        """The stack stops."""


class StaticResolver(Resolver):
    """Records from a table, for tests and for networks without DNS: a name to its records.

    `StaticResolver({"example.com": ["192.0.2.1", "2001:db8::1"], "_sip._udp.example.org": [SRV(10,
    0, 5060, "a.example.org")]})` Texts are addresses. Raises InvalidValue for what is none.
    """

    def __init__(
        self, records: Mapping[str, Iterable[Record]], *, random: Any = random.random
    ) -> None:
        super().__init__(random=random)
        if not isinstance(records, Mapping):
            raise TypeError(
                f'records must map names, got {excerpt(records)}: write {{"example.com": ["192.0.2.1"]}}'
            )
        self.records = {}
        for name, values in records.items():
            if isinstance(values, (str, NAPTR, SRV)) or not isinstance(values, Iterable):
                raise TypeError(
                    f"the records of {name!r} must be a list, got {excerpt(values)}: write [{values!r}]"
                )
            self.records[_plain(name)] = tuple(values)
        for name, values in self.records.items():
            for value in values:
                if not isinstance(value, (NAPTR, SRV)) and literal(str(value)) is None:
                    raise InvalidValue(f"{name}: {value!r} is no address, SRV or NAPTR record")

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
    """The resolver of a stack that is given none: /etc/hosts and DNS, by name servers of its own or
    those of resolv.conf.

    `seconds` is what one URI may take in all; `servers` are numeric addresses, `"192.0.2.53"` or
    `("192.0.2.53", 5353)`.
    """

    def __init__(
        self,
        *,
        servers: Iterable[str | tuple[str, int]] = (),
        seconds: float = RESOLVE_SECONDS,
        random: Any = random.random,
    ) -> None:
        super().__init__(random=random)
        self.seconds = number("seconds", seconds, above=True)
        if isinstance(servers, str) or not isinstance(servers, Iterable):
            raise TypeError(
                f'servers must be a list of addresses, got {excerpt(servers)}: write servers=["192.0.2.53"]'
            )
        self.servers = [_server(server) for server in servers]
        self.client: Any = None
        """The DNS client; there is one when the stack has started."""

    def start(self, clock: Any) -> None:
        if self.client is None:
            from .dns import (
                # dnspython takes 40 ms to import: not for who has no resolver, and not while others
                # wait
                DNS,
            )

            self.client = DNS(clock, servers=self.servers)
        self._clock = clock

    def stop(self) -> None:
        if self.client is not None:
            self.client.stop()

    def begin(self) -> float:
        return self._clock.now() + self.seconds  # type: ignore[no-any-return]

    def ask(self, questions: tuple[Question, ...], budget: float) -> tuple[Answer, ...]:
        left = max(budget - self._clock.now(), 0.0)
        return self.client.ask(questions, left * PATIENCE.get(questions[0].kind, 1.0))  # type: ignore[no-any-return]


def _server(server: Any) -> tuple[str, int]:
    """Return a name server's address and port. Raises InvalidValue for a name, which only another
    name server could resolve."""
    host, port = (server, 53) if isinstance(server, str) or len(server) != 2 else server
    if not isinstance(host, str) or literal(host) is None:
        raise InvalidValue(
            f'a name server must be a numeric address, got {excerpt(server)}: write "192.0.2.53"'
        )
    return host, whole("the port of a name server", port, 1, 65535)


PATIENCE = {"NAPTR": 1 / 3, "SRV": 1 / 2}
"""How much of the time that is left a step may take: some servers never answer what they do not
know (RFC 4074), and those that come after it need time, too."""
