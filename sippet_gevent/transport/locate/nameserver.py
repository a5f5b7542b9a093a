"""NameServer: one server asked by UDP and TCP, and whether it is there. RFC 1035 §4.2, 5452, 6891.
Messages by dnspython."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import gevent
from gevent import socket

from .resolv_conf import Address

PAYLOAD = 1232
"""Octets of UDP we tell servers to send at most: what passes without fragments (RFC 9715 §3)."""

ANSWER_OCTETS = 8192
"""Octets of an answer that are read: some 500 addresses, which takes 15 ms. 64 KiB of them would
stop everybody for 0.1 s."""

STRANGE_ANSWERS = 16
"""Datagrams that answer another question than ours, before ours goes by TCP: somebody is guessing
(RFC 5452 §9)."""

SILENT_QUESTIONS = 16
"""Datagrams without any answer after which a server is suspected: some names alone are never
answered, and few are asked."""

SILENT_SECONDS = 1.0
"""How long there must have been no answer, too: sixteen questions at one time prove nothing."""

CHECK_SECONDS = 1.0
"""How long a suspected server has to say what every server knows, or what it has told before. If it
does not, it is asked for no names until it does."""

CHECKS = 4
"""Questions within that time: a server that comes back is asked for names again a quarter of a
second later."""

UNWANTED_SECONDS = 10.0
"""How long nobody needs to have asked for a name until checking ends, and the server gets the
benefit of the doubt."""

log = logging.getLogger("sippet_gevent.transport")


class NameServer:
    """One server at a numeric address.

    It is `down` when it has been silent to everybody for a while and tells neither who serves the
    root, which most servers answer, be it with a refusal, nor what it has told before: one that
    forwards to nobody knows its own zones only, and is silent about all else that strangers have us
    ask for. Who asks for a name then need not wait: 40 names a second that wait for 3 seconds each
    are 120 requests that hang, and a tenth of a processor.
    """

    def __init__(self, address: Address, clock: Any, spawn: Callable[..., Any]) -> None:
        self.address = address
        self.bad_until = float("-inf")
        """Until when it comes after others: it was silent, or has failed."""
        self.sent = 0
        """Questions sent, by UDP or TCP."""
        self._clock = clock
        self._spawn = spawn
        self.down = False
        """True while it is known to answer nothing at all."""
        self._unanswered = 0  # questions sent since it was heard
        self._silent_since = 0.0  # when the first of them was
        self._suspected = False
        self._checker: Any = None
        self._wanted = 0.0
        self._told: tuple[dns.name.Name, str] | None = None  # what it has had records for, lately

    def __repr__(self) -> str:
        host, port = self.address
        return f"name server {host}" if port == 53 else f"name server {host} port {port}"

    # ---- asking

    def ask(self, name: dns.name.Name, kind: str, times: int, every: float) -> Any:
        """Return its answer as a message, or in words what is wrong with it; waits until it is
        killed.

        The question goes out so many times, this often. Its socket is its own with a port of the
        kernel's choice, and its id is random: 31 bits or so to be guessed (RFC 5452 §9.2).
        """
        query = dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD)
        try:
            message = self._by_udp(query, times, every)
            if message is not None and message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
                query.use_edns(False)  # it knows none (RFC 6891 §6.2.2)
                message = self._by_udp(query, times, every)
            if message is None or message.flags & dns.flags.TC:
                message = self._by_tcp(query)
        except (OSError, EOFError) as error:
            return f"{self}: {getattr(error, 'strerror', None) or error}"
        if message is None:
            return f"{self}: not an answer to the question"
        if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return f"{self}: {dns.rcode.to_text(message.rcode())}"
        if message.answer and name != dns.name.root:
            self._told = name, kind
        return message

    def _by_udp(self, query: dns.message.Message, times: int, every: float) -> Any:
        """Return the answer, or None when there are too many that are none. A connected socket
        hears its server only."""
        wire = query.to_wire()
        strange = 0
        with socket.socket(self._family, socket.SOCK_DGRAM) as udp:
            udp.connect(self.address)
            for left in reversed(range(times)):
                self._sends()
                udp.send(wire)
                while (
                    data := self._clock.within(every, udp.recv, 65535) if left else udp.recv(65535)
                ) is not None:
                    message = read_answer(data, query)
                    if message is not None:
                        self._heard()
                        return message
                    strange += 1
                    if strange == STRANGE_ANSWERS:
                        return None
        return None

    def _by_tcp(self, query: dns.message.Message) -> Any:
        with socket.socket(self._family, socket.SOCK_STREAM) as tcp:
            tcp.connect(self.address)
            self._sends()
            wire = query.to_wire()
            tcp.sendall(struct.pack("!H", len(wire)) + wire)  # RFC 1035 §4.2.2
            (length,) = struct.unpack("!H", _read(tcp, 2))
            message = read_answer(_read(tcp, length), query)
        if message is not None:
            self._heard()
        return message

    @property
    def _family(self) -> int:
        return socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET  # type: ignore[no-any-return]

    # ---- whether it is there

    def wanted(self) -> bool:
        """Somebody wants to ask it: return whether that is of use. One that seems to be gone is
        checked in the background."""
        self._wanted = now = self._clock.now()
        is_silent = (
            self._unanswered >= SILENT_QUESTIONS and now - self._silent_since >= SILENT_SECONDS
        )
        if is_silent:
            self._suspected = True
            if not self._checker:  # one that was killed before it began has cleared nothing
                self._checker = self._spawn(self._check)
        return not self.down

    def _sends(self) -> None:
        self.sent += 1
        if not self._unanswered:
            self._silent_since = self._clock.now()
        self._unanswered += 1

    def _heard(self) -> None:
        self._unanswered = 0
        self._suspected = False
        if self.down:
            self.down = False
            log.warning("%s answers again", self)

    def _check(self) -> None:
        """Ask who serves the root, and what it has told before, until either is answered, or nobody
        wants to know."""
        every = CHECK_SECONDS / CHECKS
        try:
            while self._suspected and self._clock.now() - self._wanted < UNWANTED_SECONDS:
                aside = (
                    self._spawn(self._ask_aside, *self._told, CHECKS, every)
                    if self._told is not None
                    else None
                )
                try:
                    problem = self._clock.within(
                        CHECK_SECONDS, self.ask, dns.name.root, "NS", CHECKS, every
                    )
                finally:
                    if aside is not None:
                        aside.kill(block=False)
                if self._suspected:
                    if not self.down:
                        self.down = True
                        log.warning(
                            "%s answers nothing: it is asked for no names until it does", self
                        )
                    if problem is not None:  # refused at once
                        gevent.sleep(every)
        finally:
            self._checker = None
            self._unanswered = 0
            self._suspected = self.down = False

    def _ask_aside(self, *question: Any) -> None:
        try:
            self.ask(*question)
        except gevent.GreenletExit:
            pass  # kept as the greenlet's value it would hold its frames, and they it


def read_answer(data: bytes, query: dns.message.Message) -> Any:
    """Return a datagram as a message when it answers this query, by id and question; else None,
    whatever it is."""
    if len(data) < 12 or data[:2] != struct.pack("!H", query.id):
        return None
    try:
        is_cut = len(data) > ANSWER_OCTETS or bool(data[2] & 0x02)  # by us, or by the server: TC
        message = dns.message.from_wire(
            data[:ANSWER_OCTETS], ignore_trailing=True, continue_on_error=is_cut
        )
    except (dns.exception.DNSException, ValueError, struct.error):
        return None
    return message if query.is_response(message) else None


def _read(tcp: Any, octets: int) -> bytes:
    data = b""
    while len(data) < octets:
        more = tcp.recv(octets - len(data))
        if not more:
            raise EOFError("closed in the middle of an answer")
        data += more
    return data
