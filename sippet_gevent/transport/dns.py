"""DNS client: questions to name servers over gevent's sockets, with a cache; messages by dnspython. RFC 1035, 2308, 5452."""

from __future__ import annotations

import logging
import os
import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Group
from gevent.queue import Queue

from .selection import NAPTR, RECORDS, SRV, Answer, Question, Record, literal

log = logging.getLogger("sippet_gevent.transport")

LOOKUP_SECONDS = 6.0
"""How long one question may go on in the background: what comes late is still good for the next who asks."""

HEDGE_SECONDS = 0.5
"""How long a name server may be silent before the next one is asked too; what the first one says later still counts."""

STRAGGLER_SECONDS = 0.25
"""How much longer the other questions of a step are waited for once one has records: a server that drops AAAA is common."""

TRIES = 4
"""Datagrams sent for one question, at most, to all name servers together."""

STRANGE_ANSWERS = 16
"""Answers to one datagram that are none to it, before the question goes by TCP: somebody is guessing (RFC 5452 §9)."""

CHAIN = 8
"""CNAMEs followed from answer to answer; within one, dnspython follows 16."""

CACHE = 10_000
"""Answers remembered, the longest unused forgotten: a flood of names must not fill the memory."""

IN_FLIGHT = 128
"""Questions under way at one time: each has up to TRIES sockets, which must fit. Beyond them the answer is no, at once."""

MIN_TTL, MAX_TTL = 1.0, 86_400.0
"""Seconds an answer is remembered, whatever its TTL: 0 would ask again for every message, and a day is enough (RFC 8767 §4)."""

MAX_NEGATIVE_TTL = 60.0
"""Seconds it is remembered that there is nothing, at most: a name that is made now is found in a minute (RFC 2308 §5)."""

FAILURE_TTL = 1.0
"""Seconds it is remembered that no server would tell (RFC 9520 §3.2 wants one): long enough that a dead server is asked once
by all who wait, too short to keep anybody from a name that works again."""

STALE_SECONDS = 3600.0
"""How long after its end an answer is still used when no server tells any better (RFC 8767)."""

STALE_TTL = 30.0
"""How long it is good for then, before the servers are asked again (RFC 8767 §5)."""

PAYLOAD = 1232
"""Octets of UDP we tell servers to send at most: what passes without fragments (RFC 9715 §3)."""

ANSWER_OCTETS = 8192
"""Octets of an answer that are read: some 500 addresses, which takes 15 ms. 64 KiB of them would stop everybody for 0.1 s."""

BAD_SERVER_SECONDS = 30.0
"""How long a name server that was silent, or failed, comes last."""

READ_AGAIN_SECONDS = 5.0
"""How often /etc/hosts and resolv.conf are looked at for changes."""

Server = tuple[str, int]


class _Failed(Exception):
    """No server has told: not the same as a name that does not exist."""


class DNS:
    """Asks, remembers and waits. `servers` are numeric; without them those of resolv.conf are asked.

    Questions run in greenlets of their own, so that one asked for twice is sent once, and who asked may leave.
    """

    def __init__(
        self, clock: Any, *, servers: Iterable[Server] = (), resolv_conf: str = "/etc/resolv.conf", hosts: str = "/etc/hosts"
    ) -> None:
        self._clock = clock
        self._given = tuple(servers)
        self._settings = WatchedFile(clock, resolv_conf, read_resolv_conf)
        self._hosts = WatchedFile(clock, hosts, read_hosts)
        self._cache: OrderedDict[Question, _Entry] = OrderedDict()
        self._lookups: dict[Question, _Lookup] = {}
        self._bad: dict[Server, float] = {}
        self._turn = 0
        self._greenlets = Group()
        self.sent = 0
        """Questions sent to a server, by UDP or TCP."""

    # ---- asking

    def ask(self, questions: tuple[Question, ...], seconds: float) -> tuple[Answer, ...]:
        """Return the answers, waiting for them for so long; what has not come by then has that as its problem."""
        now = self._clock.now
        asked = [self._begin(question) for question in questions]
        lookups = [lookup for lookup in asked if isinstance(lookup, _Lookup)]
        if lookups:
            deadline = now() + seconds
            bell = Event()
            for lookup in lookups:
                lookup.bells.append(bell)
            try:
                in_haste = False
                while any(lookup.answer is None for lookup in lookups):
                    answers = [one.answer if isinstance(one, _Lookup) else one for one in asked]
                    if not in_haste and any(answer is not None and answer.records for answer in answers):
                        in_haste = True
                        deadline = min(deadline, now() + STRAGGLER_SECONDS)
                    bell.clear()
                    if not self._within(deadline - now(), bell.wait):
                        break
            finally:
                for lookup in lookups:
                    lookup.bells.remove(bell)
        late = Answer((), "no answer from DNS in time")
        return tuple((one.answer or late) if isinstance(one, _Lookup) else one for one in asked)

    def _begin(self, question: Question) -> Answer | _Lookup:
        question = Question(question.name.lower().rstrip("."), question.kind)
        local = self._in_hosts(question)
        if local is not None:
            return local
        entry = self._cache.get(question)
        if entry is not None:
            self._cache.move_to_end(question)
            if self._clock.now() < entry.expires:
                return entry.answer
        lookup = self._lookups.get(question)
        if lookup is None:
            if len(self._lookups) >= IN_FLIGHT:
                return Answer((), "too many names are being asked for")
            lookup = self._lookups[question] = _Lookup(question)
            self._greenlets.spawn(self._look_up, lookup)
        return lookup

    def _in_hosts(self, question: Question) -> Answer | None:
        """Answer for a name that /etc/hosts has, or that is this machine's (RFC 6761 §6.3): such a name has no SRV records."""
        labels = question.name.split(".")
        while len(labels) > 1 and labels[0].startswith("_"):
            del labels[0]
        addresses = self._hosts.value.get(".".join(labels))
        if addresses is None and labels[-1] == "localhost":
            addresses = ("127.0.0.1", "::1")
        if addresses is None:
            return None
        kind = {"A": ".", "AAAA": ":"}.get(question.kind)
        return Answer(tuple(address for address in addresses if kind is not None and kind in address))

    # ---- one question

    def _look_up(self, lookup: _Lookup) -> None:
        question = lookup.question
        answer = Answer((), "the question was given up")
        try:
            answer, ttl = self._answer(question)
            self._remember(question, answer, ttl)
        except _Failed as error:
            answer = self._stale(question, error) or Answer((), str(error))
            self._remember(question, answer, STALE_TTL if answer.records else FAILURE_TTL, stale=bool(answer.records))
        finally:
            self._lookups.pop(question, None)
            lookup.finish(answer)

    def _stale(self, question: Question, error: Exception) -> Answer | None:
        """Return what was true until lately, when no server tells what is true now (RFC 8767)."""
        entry = self._cache.get(question)
        if entry is None or not entry.answer.records or self._clock.now() >= entry.stale_until:
            return None
        log.warning("%s: %s; an old answer is used", question, error)
        return entry.answer

    def _remember(self, question: Question, answer: Answer, ttl: float, *, stale: bool = False) -> None:
        expires = self._clock.now() + min(max(ttl, MIN_TTL), MAX_TTL if answer.records else MAX_NEGATIVE_TTL)
        stale_until = self._cache[question].stale_until if stale else expires + STALE_SECONDS
        self._cache[question] = _Entry(answer, expires, stale_until)
        self._cache.move_to_end(question)
        while len(self._cache) > CACHE:
            self._cache.popitem(last=False)

    def _answer(self, question: Question) -> tuple[Answer, float]:
        """Return what the servers say, and for how long it holds. Raises _Failed."""
        name, ttl = question.name, MAX_TTL
        try:
            dns.name.from_text(name)
        except (dns.exception.DNSException, ValueError) as error:  # empty and overlong labels, say
            raise _Failed(f"not a name for DNS: {error}") from error
        deadline = self._clock.now() + LOOKUP_SECONDS
        for _ in range(CHAIN):
            message = self._query(Question(name, question.kind), deadline)
            try:
                result = message.resolve_chaining()
            except dns.exception.DNSException as error:
                raise _Failed(f"a senseless answer: {type(error).__name__}") from error
            ttl = min(ttl, result.minimum_ttl)
            if result.answer is not None:
                return Answer(_records(result.answer)), ttl
            if message.rcode() == dns.rcode.NXDOMAIN:
                return Answer((), "no such name"), ttl
            if not result.cnames or any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority):
                return Answer(), ttl
            name = result.canonical_name.to_text(omit_final_dot=True)  # a server that leaves the rest to us
        raise _Failed(f"more than {CHAIN} CNAMEs")

    def _query(self, question: Question, deadline: float) -> Any:
        """Return the first good message of any server. Raises _Failed.

        A server that fails is followed by the next one at once, one that is silent after a while, and is still listened to.
        """
        answers: Queue[Any] = Queue()
        attempts: dict[Any, Server] = {}
        problem = "no name server has answered"
        try:
            servers = self._in_order()
            plan = (servers * TRIES)[:TRIES]
            while plan or attempts:
                if plan:
                    server = plan.pop(0)
                    attempts[self._greenlets.spawn(self._attempt, server, question, answers)] = server
                left = deadline - self._clock.now()
                came = self._within(min(left, HEDGE_SECONDS) if plan else left, answers.get)
                if came is None:
                    self._bad[server] = self._clock.now() + BAD_SERVER_SECONDS
                    if self._clock.now() >= deadline:
                        break
                    continue
                attempt, outcome = came
                server = attempts.pop(attempt)
                if not isinstance(outcome, str):
                    self._bad.pop(server, None)
                    return outcome
                problem = outcome
                self._bad[server] = self._clock.now() + BAD_SERVER_SECONDS
        finally:
            for attempt in attempts:
                attempt.kill(block=False)
        raise _Failed(problem)

    def _in_order(self) -> list[Server]:
        """Return the servers in the order to ask them: those that failed lately come last, `rotate` shares the load."""
        settings = self._settings.value
        servers = list(self._given or settings.servers)
        if settings.rotate and not self._given:
            self._turn = (self._turn + 1) % len(servers)
            servers = servers[self._turn :] + servers[: self._turn]
        now = self._clock.now()
        self._bad = {server: until for server, until in self._bad.items() if until > now}
        return sorted(servers, key=lambda server: self._bad.get(server, 0.0))

    # ---- one server

    def _attempt(self, server: Server, question: Question, answers: Queue[Any]) -> None:
        try:
            outcome = self._exchange(server, question)
        except (OSError, EOFError) as error:
            outcome = f"name server {server[0]}: {getattr(error, 'strerror', None) or error}"
        except gevent.GreenletExit:
            return  # kept as the greenlet's value it would hold its frames, and they it, until the collector comes
        answers.put((gevent.getcurrent(), outcome))

    def _exchange(self, server: Server, question: Question) -> Any:
        """Return the server's answer as a message, or in words what is wrong with it.

        A socket of its own with a port of the kernel's choice, and a random id: 31 bits or so to be guessed (RFC 5452 §9.2).
        """
        query = Query(question, secrets.randbelow(65536))
        message = self._by_udp(server, query)
        if message is not None and message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            query.edns = False  # it knows none (RFC 6891 §6.2.2)
            message = self._by_udp(server, query)
        if message is None or message.flags & dns.flags.TC:
            message = self._by_tcp(server, query)
        if message is None:
            return f"name server {server[0]}: not an answer to the question"
        if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return f"name server {server[0]}: {dns.rcode.to_text(message.rcode())}"
        return message

    def _by_udp(self, server: Server, query: Query) -> Any:
        """Return the answer, or None when there are too many that are none. A connected socket hears its server only."""
        with socket.socket(_family(server), socket.SOCK_DGRAM) as udp:
            udp.connect(server)
            self.sent += 1
            udp.send(query.to_wire())
            for _ in range(STRANGE_ANSWERS):
                message = read_answer(udp.recv(65535), query)
                if message is not None:
                    return message
        return None

    def _by_tcp(self, server: Server, query: Query) -> Any:
        with socket.socket(_family(server), socket.SOCK_STREAM) as tcp:
            tcp.connect(server)
            self.sent += 1
            wire = query.to_wire()
            tcp.sendall(struct.pack("!H", len(wire)) + wire)  # RFC 1035 §4.2.2
            (length,) = struct.unpack("!H", _read(tcp, 2))
            return read_answer(_read(tcp, length), query)

    def _within(self, seconds: float, wait: Callable[[], Any]) -> Any:
        """Return what a call that waits returns, None when it takes longer."""
        timeout = self._clock.timeout(seconds)
        try:
            return wait()
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise
            return None
        finally:
            timeout.close()
            del timeout  # whose traceback holds this frame

    def stop(self) -> None:
        """End all questions under way; what is known stays."""
        self._greenlets.kill(block=False)
        for lookup in self._lookups.values():  # one that had not begun will never know
            lookup.finish(Answer((), "the resolver was stopped"))
        self._lookups.clear()


class Query:
    """One question as it is sent. dnspython's own takes seven times as long to make, and is for when an answer has come."""

    __slots__ = ("edns", "id", "question")

    def __init__(self, question: Question, id: int) -> None:
        self.question = question
        self.id = id
        self.edns = True

    def to_wire(self) -> bytes:
        """Return its octets: RFC 1035 §4.1, recursion desired, with an OPT record (RFC 6891 §6.1) unless it is to have none."""
        name = dns.name.from_text(self.question.name).to_wire() or b""
        header = struct.pack("!HHHHHH", self.id, dns.flags.RD, 1, 0, 0, self.edns)
        opt = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, PAYLOAD, 0, 0) if self.edns else b""
        return header + name + struct.pack("!HH", dns.rdatatype.from_text(self.question.kind), dns.rdataclass.IN) + opt

    def is_response(self, message: Any) -> bool:
        """True when a message answers this."""
        asked = dns.message.make_query(self.question.name, self.question.kind, id=self.id, use_edns=0 if self.edns else -1)
        return bool(asked.is_response(message))


class _Lookup:
    """One question under way, and the bells of those who wait for it."""

    __slots__ = ("answer", "bells", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.answer: Answer | None = None
        self.bells: list[Event] = []

    def finish(self, answer: Answer) -> None:
        """Tell those who wait."""
        if self.answer is None:
            self.answer = answer
            for bell in self.bells:
                bell.set()


class _Entry(NamedTuple):
    answer: Answer
    expires: float
    stale_until: float


def read_answer(data: bytes, query: Any) -> Any:
    """Return a datagram as a message when it answers this query, by id and question; else None, whatever it is."""
    if len(data) < 12 or data[:2] != struct.pack("!H", query.id):
        return None
    try:
        is_cut = len(data) > ANSWER_OCTETS or bool(data[2] & 0x02)  # by us, or by the server: TC
        message = dns.message.from_wire(data[:ANSWER_OCTETS], ignore_trailing=True, continue_on_error=is_cut)
    except (dns.exception.DNSException, ValueError, struct.error):
        return None
    return message if query.is_response(message) else None


def _records(rrset: Any) -> tuple[Record, ...]:
    """Return the records of an answer, RECORDS at most, those to be preferred first."""
    return tuple(sorted((_MAKE[rrset.rdtype](data) for data in rrset), key=_rank)[:RECORDS])


def _rank(record: Any) -> tuple[int, ...]:
    return record[:2] if isinstance(record, NAPTR) else record[:1] if isinstance(record, SRV) else ()


def _address(data: Any) -> str:
    return literal(data.address) or data.address


def _srv(data: Any) -> SRV:
    return SRV(data.priority, data.weight, data.port, _name(data.target))


def _naptr(data: Any) -> NAPTR:
    flags, service, regexp = [text.decode("ascii", "replace") for text in (data.flags, data.service, data.regexp)]
    return NAPTR(data.order, data.preference, flags, service, regexp, _name(data.replacement))


def _name(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)) if len(name) > 1 else "."


_MAKE: dict[Any, Callable[[Any], Record]] = {
    dns.rdatatype.A: _address,
    dns.rdatatype.AAAA: _address,
    dns.rdatatype.SRV: _srv,
    dns.rdatatype.NAPTR: _naptr,
}


def _family(server: Server) -> int:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET  # type: ignore[no-any-return]


def _read(tcp: Any, octets: int) -> bytes:
    data = b""
    while len(data) < octets:
        more = tcp.recv(octets - len(data))
        if not more:
            raise EOFError("closed in the middle of an answer")
        data += more
    return data


# ---- files of the system


class Settings(NamedTuple):
    """What resolv.conf(5) says that matters here."""

    servers: tuple[Server, ...]
    rotate: bool = False


def read_resolv_conf(text: str) -> Settings:
    """Read resolv.conf(5): name servers, three at most, this machine when there are none, and `options rotate`."""
    servers = []
    rotate = False
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) > 1 and words[0] == "nameserver" and literal(words[1]) is not None:
            servers.append((literal(words[1]) or "", 53))
        elif words[:1] == ["options"]:
            rotate = rotate or "rotate" in words
    return Settings(tuple(servers[:3]) or (("127.0.0.1", 53),), rotate)


def read_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Read hosts(5): names in lower case to their addresses."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.split("#")[0].split() or [""]
        numeric = literal(address)
        if numeric is not None:
            for name in names:
                found[name.lower()] = (*found.get(name.lower(), ()), numeric)
    return found


class WatchedFile:
    """A file's text, read by a function, and read again when it has changed. A file that is not there is empty."""

    def __init__(self, clock: Any, path: str, read: Callable[[str], Any]) -> None:
        self._clock = clock
        self._path = path
        self._read = read
        self._looked = float("-inf")
        self._stamp: object = ()
        self._value: Any = None

    @property
    def value(self) -> Any:
        """What the file says."""
        now = self._clock.now()
        if now - self._looked >= READ_AGAIN_SECONDS:
            self._looked = now
            try:
                status = os.stat(self._path)
                stamp: object = (status.st_mtime_ns, status.st_size, status.st_ino)
            except OSError:
                stamp = None
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    with open(self._path, encoding="utf-8", errors="replace") as file:
                        text = file.read()
                except OSError:
                    text = ""
                self._value = self._read(text)
        return self._value
