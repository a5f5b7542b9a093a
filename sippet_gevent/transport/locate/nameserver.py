"""NameServer: asks one name server by UDP and TCP, and finds out whether it is reachable. RFC 1035
§4.2, 5452, 6891. dnspython reads and writes the messages."""

from __future__ import annotations

import _socket
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

from ...observe.log_values import Quoted
from ...runtime.clock import Clock
from .resolv_conf import Address

PAYLOAD = 1232
"""Most bytes of UDP that servers are asked to send. So much passes without fragments (RFC 9715
§3)."""

ANSWER_BYTES = 8192
"""Most bytes of an answer that are read. That is some 500 addresses, which take 15 ms. 64 KiB would
block the loop for 0.1 s."""

STRANGE_ANSWERS = 16
"""After so many datagrams that answer another question, ours is sent by TCP, because a forger is
guessing (RFC 5452 §9)."""

SILENT_QUESTIONS = 16
"""Datagrams without any answer after which a server is suspected. Fewer prove nothing: servers
never answer for some names."""

SILENT_SECONDS = 1.0
"""Seconds without an answer that are also needed, because sixteen questions at the same time prove
nothing."""

CHECK_SECONDS = 1.0
"""Seconds that a suspected server has to answer a question that every server can answer, or one
that it answered before. If it does not answer, it gets no other questions until it does."""

CHECKS = 4
"""Questions within that time. A server that is reachable again is used a quarter of a second
later."""

UNWANTED_SECONDS = 10.0
"""After so many seconds without a question, the check ends. The server then counts as reachable."""

log = logging.getLogger("sippet_gevent.transport")


class NameServer:
    """One server at a numeric address.

    It is `down` when it has not answered any question for a while, and then does not answer two
    test questions. One asks for the name servers of the root, which most servers answer, if only
    with a refusal. The other asks for the last name it had records for. The second is for servers
    that do not forward. They know their own zones, and are silent about the other names that
    strangers make us ask for.

    While it is down, questions do not wait. 40 names a second that wait for 3 seconds each would be
    120 hanging requests, and a tenth of a processor.

    Args:
        address: Numeric host and port.
        clock: The clock of the stack.
        spawn: Starts a greenlet.
    """

    def __init__(self, address: Address, clock: Clock, spawn: Callable[..., Any]) -> None:
        self.address = address
        self.bad_until = float("-inf")
        """The time until which it is asked after the others, because it was silent or failed."""
        self.sent = 0
        """Questions sent, by UDP or TCP."""
        self._clock = clock
        self._spawn = spawn
        self.down = False
        """True while it is known not to answer at all."""
        self._unanswered = 0  # questions sent since its last answer
        self._silent_since = 0.0  # when the first of them was sent
        self._suspected = False
        self._checker: Any = None
        self._wanted = 0.0
        self._known: tuple[dns.name.Name, str] | None = None  # the last question it had records for

    def __repr__(self) -> str:
        host, port = self.address
        return f"name server {host}" if port == 53 else f"name server {host} port {port}"

    # ---- asking

    def ask(
        self, name: dns.name.Name, kind: str, times: int, every: float
    ) -> dns.message.Message | str:
        """Ask a question. Waits until the greenlet is killed.

        Each question has its own socket with a port chosen by the kernel, and a random id. So a
        forger has some 31 bits to guess (RFC 5452 §9.2).

        Args:
            name: The name to ask for.
            kind: "NAPTR", "SRV", "A", "AAAA" or "NS".
            times: How many times to send the question.
            every: Seconds between two of them.

        Returns:
            The answer, or a text that says what is wrong.
        """
        query = dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD)
        try:
            message = self._by_udp(query, times, every)
            if message is not None and message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
                query.use_edns(False)  # the server lacks EDNS (RFC 6891 §6.2.2)
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
            self._known = name, kind
        return message

    def _by_udp(
        self, query: dns.message.Message, times: int, every: float
    ) -> dns.message.Message | None:
        """Return the answer, None after too many datagrams that are no answer. A connected socket
        receives from its server only."""
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
                        self._answered()
                        return message
                    strange += 1
                    if strange == STRANGE_ANSWERS:
                        return None
        return None

    def _by_tcp(self, query: dns.message.Message) -> dns.message.Message | None:
        with socket.socket(self._family, socket.SOCK_STREAM) as tcp:
            tcp.connect(self.address)
            self._sends()
            wire = query.to_wire()
            tcp.sendall(struct.pack("!H", len(wire)) + wire)  # RFC 1035 §4.2.2
            (length,) = struct.unpack("!H", _read(tcp, 2))
            message = read_answer(_read(tcp, length), query)
        if message is not None:
            self._answered()
        return message

    @property
    def _family(self) -> int:
        return _socket.AF_INET6 if ":" in self.address[0] else _socket.AF_INET

    # ---- whether it is reachable

    def wanted(self) -> bool:
        """True when the server is worth asking. Starts a check in the background if it seems to be
        down."""
        self._wanted = now = self._clock.now()
        is_silent = (
            self._unanswered >= SILENT_QUESTIONS and now - self._silent_since >= SILENT_SECONDS
        )
        if is_silent:
            self._suspected = True
            if not self._checker:  # a greenlet killed before it began is false
                self._checker = self._spawn(self._check)
        return not self.down

    def _sends(self) -> None:
        self.sent += 1
        if not self._unanswered:
            self._silent_since = self._clock.now()
        self._unanswered += 1

    def _answered(self) -> None:
        self._unanswered = 0
        self._suspected = False
        if self.down:
            self.down = False
            log.warning('name server up: server="%s"', Quoted(self))

    def _check(self) -> None:
        """Ask for the servers of the root, and for the last name it had records for, until either
        is answered or no name is wanted any more."""
        every = CHECK_SECONDS / CHECKS
        try:
            while self._suspected and self._clock.now() - self._wanted < UNWANTED_SECONDS:
                aside = (
                    self._spawn(self._ask_aside, *self._known, CHECKS, every)
                    if self._known is not None
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
                            'name server down: server="%s" '
                            'reason="no answers; no names are asked for until it answers"',
                            Quoted(self),
                        )
                    if problem is not None:  # it failed at once
                        gevent.sleep(every)
        finally:
            self._checker = None
            self._unanswered = 0
            self._suspected = self.down = False

    def _ask_aside(self, name: dns.name.Name, kind: str, times: int, every: float) -> None:
        try:
            self.ask(name, kind, times, every)
        except gevent.GreenletExit:
            pass  # as the value of the greenlet it would form a reference cycle with its frames


def read_answer(data: bytes, query: dns.message.Message) -> dns.message.Message | None:
    """Return the message in a datagram if its id and question are those of the query. None
    otherwise."""
    if len(data) < 12 or data[:2] != struct.pack("!H", query.id):
        return None
    try:
        is_truncated = len(data) > ANSWER_BYTES or bool(
            data[2] & 0x02
        )  # by us, or by the server (TC)
        message = dns.message.from_wire(
            data[:ANSWER_BYTES], ignore_trailing=True, continue_on_error=is_truncated
        )
    except (dns.exception.DNSException, ValueError, struct.error):
        return None
    return message if query.is_response(message) else None


def _read(tcp: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = tcp.recv(size - len(data))
        if not more:
            raise EOFError("the connection was closed in the middle of an answer")
        data += more
    return data
