"""DNS: a client that asks several name servers, takes the first good answer, and caches it. RFC
1035, 2308, 8767, 9520."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import gevent
from gevent.event import Event
from gevent.pool import Group
from gevent.queue import Queue

from ...observe.counters import LimitedLog
from ...runtime.clock import Clock
from .nameserver import NameServer
from .records import NAPTR, SRV, Answer, Question, Record
from .resolv_conf import Address, WatchedFile, read_hosts, read_resolv_conf
from .rfc3263 import RECORDS, literal

log = logging.getLogger("sippet_gevent.transport")

LOOKUP_SECONDS = 6.0
"""Seconds that one question may take in the background, because a late answer serves the next
request."""

HEDGE_SECONDS = 0.5
"""Seconds that a name server may be silent before the next one is asked, too. A later answer of the
first still counts."""

STRAGGLER_SECONDS = 0.25
"""Seconds to wait for the other questions of a step after one has records, because servers that
drop AAAA questions are common."""

TRIES = 4
"""Most datagrams sent for one question, to all name servers together. So no more servers than this
are asked."""

CHAIN = 8
"""CNAMEs followed from answer to answer. Within one answer dnspython follows 16."""

CACHE = 10_000
"""Most answers remembered. The longest unused is forgotten first. A flood of names must not fill
the memory."""

IN_FLIGHT = 128
"""Most questions in progress at the same time. Each has a socket for each server. A further
question replaces one that no greenlet waits for any more. If there is none, it fails at once."""

MIN_TTL, MAX_TTL = 1.0, 86_400.0
"""Bounds in seconds for the TTL of answers. With 0 we would ask again for every message, and a day
is enough (RFC 8767 §4)."""

MAX_NEGATIVE_TTL = 60.0
"""Most seconds for which a missing name is remembered, so that a new name is found within a minute
(RFC 2308 §5)."""

FAILURE_TTL = 1.0
"""Seconds for which a failure of all servers is remembered (RFC 9520 §3.2 requires one). So all
greenlets that wait ask a dead server once, and a name that works again is soon found."""

STALE_SECONDS = 3600.0
"""Seconds that an expired answer is still used if no server answers (RFC 8767)."""

STALE_TTL = 30.0
"""Seconds that an expired answer is used before the servers are asked again (RFC 8767 §5)."""

BAD_SERVER_SECONDS = 30.0
"""Seconds during which a name server that was silent or failed is asked last."""

NO_SERVER = "no name server answers"


class _Failed(Exception):
    """No server has answered, which is not the same as a name that does not exist."""


class DNS:
    """Asks name servers, and remembers their answers.

    Questions run in greenlets of their own. So a question of two greenlets is sent once, and a
    greenlet may stop waiting.

    Args:
        clock: The clock of the stack.
        servers: Numeric addresses; those of resolv.conf by default.
        resolv_conf: The path of resolv.conf(5).
        hosts: The path of hosts(5).
    """

    def __init__(
        self,
        clock: Clock,
        *,
        servers: Iterable[Address] = (),
        resolv_conf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
    ) -> None:
        self._clock = clock
        self._given = [*dict.fromkeys(servers)]
        self._settings = WatchedFile(clock, resolv_conf, read_resolv_conf)
        self._hosts = WatchedFile(clock, hosts, read_hosts)
        self._cache: OrderedDict[Question, _Entry] = OrderedDict()
        self._lookups: dict[Question, _Lookup] = {}
        self._servers: dict[Address, NameServer] = {}
        self._turn = 0
        self._greenlets = Group()
        self._lines = LimitedLog(clock)  # strangers choose the names that we ask for

    # ---- asking

    def ask(self, questions: tuple[Question, ...], seconds: float) -> tuple[Answer, ...]:
        """Return the answers to questions, in their order. An answer that does not arrive within
        this time has a problem that says so."""
        now = self._clock.now
        bell = Event()
        asked = [self._begin(question, bell) for question in questions]
        lookups = [lookup for lookup in asked if isinstance(lookup, _Lookup)]
        if lookups:
            deadline = now() + seconds
            try:
                in_haste = False
                while any(lookup.answer is None for lookup in lookups):
                    answers = [one.answer if isinstance(one, _Lookup) else one for one in asked]
                    if not in_haste and any(
                        answer is not None and answer.records for answer in answers
                    ):
                        in_haste = True
                        deadline = min(deadline, now() + STRAGGLER_SECONDS)
                    bell.clear()
                    if not self._clock.within(deadline - now(), bell.wait):
                        break
            finally:
                for lookup in lookups:
                    lookup.bells.remove(bell)
        late = Answer((), "no answer from DNS in time")
        return tuple((one.answer or late) if isinstance(one, _Lookup) else one for one in asked)

    def _begin(self, question: Question, bell: Event) -> Answer | _Lookup:
        question = Question(question.name.lower().rstrip("."), question.kind)
        local = self._in_hosts(question)
        if local is not None:
            return local
        entry = self._cache.get(question)
        if entry is not None:
            self._cache.move_to_end(question)
            if self._clock.now() < entry.expires:
                return entry.answer
        useful = [server.wanted() for server in self._known_servers()]
        if not any(useful):
            # not remembered: a flood would push out everything else
            return self._make_do(question, NO_SERVER) or Answer((), NO_SERVER)
        lookup = self._lookups.get(question)
        if lookup is None:
            if len(self._lookups) >= IN_FLIGHT and not self._make_room():
                return Answer((), "too many names are being looked up")
            lookup = self._lookups[question] = _Lookup(question)
            lookup.greenlet = self._greenlets.spawn(self._look_up, lookup)
        lookup.bells.append(bell)
        return lookup

    def _make_room(self) -> bool:
        """Give up the oldest question that no greenlet waits for. Return False if there is none."""
        for question, lookup in self._lookups.items():
            if not lookup.bells:
                del self._lookups[question]
                lookup.greenlet.kill(block=False)
                return True
        return False

    def _in_hosts(self, question: Question) -> Answer | None:
        """Answer for a name in /etc/hosts, or for localhost (RFC 6761 §6.3). Such names have no SRV
        records."""
        labels = question.name.split(".")
        while len(labels) > 1 and labels[0].startswith("_"):
            del labels[0]
        addresses = self._hosts.value.get(".".join(labels))
        if addresses is None and labels[-1] == "localhost":
            addresses = ("127.0.0.1", "::1")
        if addresses is None:
            return None
        kind = {"A": ".", "AAAA": ":"}.get(question.kind)
        return Answer(
            tuple(address for address in addresses if kind is not None and kind in address)
        )

    # ---- one question

    def _look_up(self, lookup: _Lookup) -> None:
        question = lookup.question
        answer = Answer((), "the question was given up")
        try:
            answer, ttl = self._answer(question)
            self._remember(question, answer, ttl)
        except _Failed as error:
            made_do = self._make_do(question, str(error))
            if made_do is None:
                answer = Answer((), str(error))
                self._remember(question, answer, FAILURE_TTL)
            else:
                answer = made_do
        except gevent.GreenletExit:
            # as the greenlet's value, the exception and its frames would form a reference cycle
            pass
        finally:
            if self._lookups.get(question) is lookup:  # not a newer one
                del self._lookups[question]
            lookup.finish(answer)

    def _make_do(self, question: Question, problem: str) -> Answer | None:
        """Return an expired answer when no server gives a new one (RFC 8767); None if there is
        none."""
        entry = self._cache.get(question)
        if entry is None or not entry.answer.records or self._clock.now() >= entry.stale_until:
            return None
        self._lines.line(
            log,
            logging.WARNING,
            "old answer",
            'expired answer used: question="%s" reason="%s"',
            question,
            problem,
        )
        self._remember(question, entry.answer, STALE_TTL, entry.stale_until)
        return entry.answer

    def _remember(
        self, question: Question, answer: Answer, ttl: float, stale_until: float | None = None
    ) -> None:
        expires = self._clock.now() + min(
            max(ttl, MIN_TTL), MAX_TTL if answer.records else MAX_NEGATIVE_TTL
        )
        self._cache[question] = _Entry(
            answer, expires, expires + STALE_SECONDS if stale_until is None else stale_until
        )
        self._cache.move_to_end(question)
        while len(self._cache) > CACHE:
            self._cache.popitem(last=False)

    def _answer(self, question: Question) -> tuple[Answer, float]:
        """Return the answer of the servers, and its TTL in seconds. Raises _Failed."""
        ttl = MAX_TTL
        try:
            name = dns.name.from_text(question.name)
        except (
            dns.exception.DNSException,
            ValueError,
        ) as error:  # for example empty or overlong labels
            raise _Failed(f"the name is not valid in DNS: {error}") from error
        deadline = self._clock.now() + LOOKUP_SECONDS
        for _ in range(CHAIN):
            message = self._query(name, question.kind, deadline)
            try:
                result = message.resolve_chaining()
            except dns.exception.DNSException as error:
                raise _Failed(f"a malformed answer: {type(error).__name__}") from error
            ttl = min(ttl, result.minimum_ttl)
            if result.answer is not None:
                return Answer(_records(result.answer)), ttl
            if message.rcode() == dns.rcode.NXDOMAIN:
                return Answer((), "no such name"), ttl
            if not result.cnames or any(
                rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority
            ):
                return Answer(), ttl
            name = result.canonical_name  # the server does not follow the CNAME to its end
        raise _Failed(f"more than {CHAIN} CNAMEs")

    def _query(self, name: dns.name.Name, kind: str, deadline: float) -> dns.message.QueryMessage:
        """Return the first good answer of any server. Raises _Failed.

        The next server is asked at once when one fails, and after a while when one is silent. A
        silent one may still answer.
        """
        outcomes: Any = Queue()
        attempts: dict[Any, NameServer] = {}
        problem = NO_SERVER
        servers = [server for server in self._in_order() if not server.down][:TRIES]
        every = HEDGE_SECONDS * len(servers)
        times = [len(range(place, TRIES, len(servers))) for place in range(len(servers))]
        try:
            while servers or attempts:
                if servers:
                    server = servers.pop(0)
                    attempts[
                        self._greenlets.spawn(
                            self._attempt, outcomes, server, name, kind, times.pop(0), every
                        )
                    ] = server
                left = deadline - self._clock.now()
                came = self._clock.within(
                    min(left, HEDGE_SECONDS) if servers else left, outcomes.get
                )
                if came is None:
                    for silent in attempts.values():
                        silent.bad_until = self._clock.now() + BAD_SERVER_SECONDS
                    if self._clock.now() >= deadline:
                        break
                    continue
                attempt, outcome = came
                server = attempts.pop(attempt)
                if not isinstance(outcome, str):
                    server.bad_until = 0.0
                    return cast(dns.message.QueryMessage, outcome)
                problem = outcome
                server.bad_until = self._clock.now() + BAD_SERVER_SECONDS
        finally:
            for attempt in attempts:
                attempt.kill(block=False)
        raise _Failed(problem)

    def _attempt(
        self,
        outcomes: Any,
        server: NameServer,
        name: dns.name.Name,
        kind: str,
        times: int,
        every: float,
    ) -> None:
        try:
            outcome = server.ask(name, kind, times, every)
        except gevent.GreenletExit:
            return  # as in _look_up()
        outcomes.put((gevent.getcurrent(), outcome))

    def _known_servers(self) -> list[NameServer]:
        addresses = self._given or [*self._settings.value.servers]
        if [*self._servers] != addresses:
            known = self._servers
            self._servers = {
                each: known.get(each) or NameServer(each, self._clock, self._greenlets.spawn)
                for each in addresses
            }
        return [*self._servers.values()]

    def _in_order(self) -> list[NameServer]:
        """Return the servers in the order to ask them: those that failed lately come last. The
        option `rotate` shares the load."""
        servers = self._known_servers()
        if self._settings.value.rotate and not self._given:
            self._turn = (self._turn + 1) % len(servers)
            servers = servers[self._turn :] + servers[: self._turn]
        now = self._clock.now()
        return sorted(
            servers, key=lambda server: server.bad_until if server.bad_until > now else 0.0
        )

    def stop(self) -> None:
        """End all questions in progress. The cache stays."""
        self._greenlets.kill(block=False)
        for lookup in self._lookups.values():  # a greenlet that has not begun will not finish it
            lookup.finish(Answer((), "the resolver was stopped"))
        self._lookups.clear()
        self._lines.stop()


class _Lookup:
    """A question in progress, and the events of the greenlets that wait for it."""

    __slots__ = ("answer", "bells", "greenlet", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.greenlet: Any = None
        self.answer: Answer | None = None
        self.bells: list[Event] = []

    def finish(self, answer: Answer) -> None:
        """Wake the greenlets that wait."""
        if self.answer is None:
            self.answer = answer
            for bell in self.bells:
                bell.set()


class _Entry(NamedTuple):
    answer: Answer
    expires: float
    stale_until: float


def _records(rrset: dns.rrset.RRset) -> tuple[Record, ...]:
    """Return the records of an answer, RECORDS at most, the preferred ones first."""
    return tuple(sorted((_MAKE[rrset.rdtype](data) for data in rrset), key=_rank)[:RECORDS])


def _rank(record: Record) -> tuple[int, ...]:
    return (
        record[:2] if isinstance(record, NAPTR) else record[:1] if isinstance(record, SRV) else ()
    )


def _address(data: Any) -> str:
    return literal(data.address) or data.address


def _srv(data: Any) -> SRV:
    return SRV(data.priority, data.weight, data.port, _name(data.target))


def _naptr(data: Any) -> NAPTR:
    flags, service, regexp = [
        text.decode("ascii", "replace") for text in (data.flags, data.service, data.regexp)
    ]
    return NAPTR(data.order, data.preference, flags, service, regexp, _name(data.replacement))


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True) if len(name) > 1 else "."


_MAKE: dict[dns.rdatatype.RdataType, Callable[[Any], Record]] = {
    dns.rdatatype.A: _address,
    dns.rdatatype.AAAA: _address,
    dns.rdatatype.SRV: _srv,
    dns.rdatatype.NAPTR: _naptr,
}
