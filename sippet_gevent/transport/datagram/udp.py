"""UDP, RFC 3261 §18: our own watcher on a plain socket, a burst of datagrams at a time."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import struct
import sys
import time
from collections import deque
from typing import Any

import gevent
from gevent import socket

from ...errors import TransportError
from ...message.iana import TRANSPORTS
from ...message.uri import bracketed
from ...runtime.rates import TokenBuckets, source_of
from ..base import IGNORED, Address, Events, Flow, Receive, Transport
from ..interfaces import WILDCARDS, Interfaces, Routes, is_link_local, sockaddr
from . import stun
from .error_queue import ErrorQueue

DATAGRAM = 65535
"""Octets asked of each read: no UDP payload is longer, so none is ever cut."""

BURST = 64
"""Datagrams read before the loop may look at its timers: 64 of them are a millisecond or two."""

RECEIVE_BUFFER = 4 << 20
"""Octets the kernel may hold for us: a second's worth at full rate. The system may grant less."""

UNSENT = 1024
"""Datagrams kept while the kernel's send buffer is full; the next one is a TransportError."""

PAUSE = 0.01
"""Seconds until another try when the network device's queue is full, which no watcher reports."""

ASKED = 4096
"""Binding requests that wait for their answer, the oldest forgotten: there is one for each flow
that we keep alive."""

SENDS = 4
"""Further tries to send a datagram while errors of others come in its place; then it waits."""

STUN_RATE, STUN_BURST, STUN_SOURCES = 500.0, 1000.0, 10_000
"""Answers to Binding requests a second of one source, how many at once, and sources remembered: ten
thousand phones behind one NAT, each of which asks every 20 seconds (RFC 5626 §4.4.2). Whoever is
flooded by way of us, by requests that forge his address, gets no more than these; to plain requests
they are a quarter of a megabit."""

FLOWS = 16384
"""Flows remembered by address, so that those of one peer are one object; forgotten all at once when
there are more."""

log = logging.getLogger("sippet_gevent.transport")

_RETRY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)

ANCILLARY = 64
"""Octets for what the kernel says of a datagram: to which address of ours it came."""

_ZONE, _PINNED = "z", "p"  # in the id of a flow; the rest is hexadecimal

_IP_PKTINFO: Any = getattr(socket, "IP_PKTINFO", 8 if sys.platform == "linux" else None)


class UDPFlow(Flow):
    """A peer's address and the socket that talks to it: answers leave by the socket the request
    came to."""

    __slots__ = ("address", "asked", "mapped")

    transport: UDP
    probes = True

    def __init__(self, transport: UDP, address: Any) -> None:
        self.transport = transport
        self.address = address
        self.remote = address[:2]
        self.asked: bytes | None = None  # the transaction of our last Binding request
        self.mapped: Address | None = None
        """Where the peer sees us, as it has told last (RFC 5626 §4.4.2)."""

    @property
    def scope(self) -> int:  # type: ignore[override]
        """The number of the interface a link-local peer is on."""
        return self.address[3] if len(self.address) > 2 else 0

    @property
    def local(self) -> Address:
        return self.transport.source_for(self.address)

    def send(self, data: bytes) -> None:
        transport = self.transport
        if transport.must_wait:
            transport.send_later(data, self)
            return
        try:
            transport.sendto(data, self.address)
        except (OSError, OverflowError) as error:
            self._not_sent(data, error)

    def probe(self) -> None:
        asked = self.transport.asked
        if asked.pop(self.asked or b"", None) is not None:
            self.transport.count_stun("unanswered")
            self.transport.lines.line(
                log, logging.INFO, "keep-alive", "%r has not answered a keep-alive", self
            )
        if len(asked) >= ASKED:
            del asked[next(iter(asked))]
        self.asked = os.urandom(12)
        asked[self.asked] = self
        self.send(stun.ask(self.asked))

    def emit(self, data: bytes) -> None:
        """Give the kernel a datagram. Raises OSError."""
        self.transport.sendto(data, self.address)

    def own_error(self, data: bytes, error: OSError) -> OSError | None:
        """Return the error that is this datagram's own, None when it is sent after all: others' are
        told in its place, too."""
        errors = self.transport.errors
        if not errors.is_open or error.errno in _RETRY:
            return error
        for _ in range(SENDS):
            others = errors.take()
            try:
                self.emit(data)
                return None
            except OSError as last:
                if not others or last.errno in _RETRY:
                    return last
        return BlockingIOError(
            errno.EAGAIN, "errors of other datagrams come faster than they are read"
        )

    def _not_sent(self, data: bytes, error: OSError | OverflowError) -> None:
        own = self.own_error(data, error) if isinstance(error, OSError) else error
        if own is None:
            return
        if getattr(own, "errno", None) not in _RETRY:
            host, port = self.remote
            problem = getattr(own, "strerror", None) or own
            raise TransportError(
                f"cannot send {len(data)} octets to {host}:{port}: {problem}", self
            ) from own
        self.transport.send_later(data, self)


class PinnedFlow(UDPFlow):
    """A flow of a socket on all addresses, by one that the kernel would not send from by itself
    (RFC 3581 §4)."""

    __slots__ = ("ancillary", "ours")

    def __init__(self, transport: UDP, address: Any, ours: str) -> None:
        super().__init__(transport, address)
        self.ours = ours
        self.ancillary = _from_host(ours)

    @property
    def local(self) -> Address:
        return self.ours, self.transport.local[1]

    def send(self, data: bytes) -> None:
        if self.transport.must_wait:
            self.transport.send_later(data, self)
            return
        try:
            self.emit(data)
        except (OSError, OverflowError) as error:
            self._not_sent(data, error)

    def emit(self, data: bytes) -> None:
        self.transport.sendmsg((data,), self.ancillary, 0, self.address)

    def to_port(self, port: int) -> Flow:
        return PinnedFlow(self.transport, (self.address[0], port, *self.address[2:]), self.ours)


def _from_host(host: str) -> list[tuple[int, int, bytes]]:
    """Return what tells the kernel from which address to send: in_pktinfo and in6_pktinfo, of any
    interface."""
    if ":" in host:
        info = socket.inet_pton(socket.AF_INET6, host) + bytes(4)
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
    return [
        (
            socket.IPPROTO_IP,
            _IP_PKTINFO,
            struct.pack("=i4s4x", 0, socket.inet_pton(socket.AF_INET, host)),
        )
    ]


def _host_of(info: bytes) -> str:
    """Return the address of ours that a datagram came to, of what the kernel says."""
    if len(info) == 20:
        return socket.inet_ntop(socket.AF_INET6, info[:16])
    return socket.inet_ntop(socket.AF_INET, info[4:8])


class UDP(Transport):
    """One UDP socket, IPv4 or IPv6. No SO_REUSEADDR: a second process must not take the port
    over."""

    name = "UDP"
    reliable, secure, default_port = TRANSPORTS[name][1:4]

    def __init__(self, keep: int = 0) -> None:
        self.keep_alive_seconds = keep
        self._socket: Any = None
        self._reader: Any = None
        self._writer: Any = None
        self._pause: Any = None
        self._unsent: deque[tuple[bytes, UDPFlow]] = deque()
        self.must_wait = True
        """True while datagrams must not overtake those that wait for the kernel, and when it is not
        open."""
        self.sendto: Any = None
        self.sendmsg: Any = None
        self._flows: dict[Any, UDPFlow] = {}
        self._routes = Routes()
        self._scope = 0
        self._interfaces = Interfaces("")
        self.read_errors = 0
        """Reads that failed, for no ICMP error that we know of."""
        self.errors = ErrorQueue(self._undelivered)
        """What the kernel knows of datagrams that could not be delivered."""
        self.icmp = self.errors.counts
        """What became of ICMP errors: "told" when a transaction ended by it, "unmatched" when what
        it quotes is no request of ours that waits, "cut" when it quotes too little to tell, "too
        big", and "ignored" for the kinds that §18.4 ignores."""
        self.queued = 0
        """Datagrams that had to wait for the kernel's send buffer."""
        self.lost = 0
        """Datagrams that had waited, and then could not be sent."""
        self.asked: dict[bytes, UDPFlow] = {}
        """Who has not answered a Binding request of ours yet, by its transaction."""
        self._stun_rates = TokenBuckets(STUN_RATE, STUN_BURST, STUN_SOURCES)
        self.stun: dict[str, int] = {}
        """What became of STUN messages, which are none of SIP: "answered", "refused" with a 420,
        "dropped", "over rate" of their source; and of our own Binding requests: "heard" when they
        were answered, "unanswered", "moved" when a NAT has given us another address."""

    def start(self, address: Address, receive: Receive, events: Events = IGNORED) -> None:
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        raw: Any = None
        try:
            # the plain one: nothing here may yield
            raw = socket._socket.socket(family, socket.SOCK_DGRAM)
            raw.setblocking(False)
            if family == socket.AF_INET6:
                # IPv4 peers would come as ::ffff:192.0.2.1 and match nothing; listen on both
                # instead.
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            tells = host in WILDCARDS and self._ask_for_hosts(raw, family)
            self.errors.open(raw)
            raw.bind(sockaddr(host, port))
        except (OSError, OverflowError, TransportError) as error:
            self.errors.close()
            if raw is not None:
                raw.close()
            reason = getattr(error, "strerror", None) or error
            raise TransportError(
                f"cannot listen on udp:{bracketed(host)}:{port}: {reason}"
            ) from error
        self._socket = raw
        bound = raw.getsockname()
        self.local = bound[:2]
        self._scope = bound[3] if len(bound) > 2 else 0
        self._interfaces = Interfaces(self.local[0])
        self._recvfrom, self._recvmsg = raw.recvfrom, raw.recvmsg
        self.sendto, self.sendmsg = raw.sendto, raw.sendmsg
        self.must_wait = False
        self._receive, self.events = receive, events
        loop = gevent.get_hub().loop
        self._writer = loop.io(raw.fileno(), 2)
        # one that repeats: libev forgets the length of another when it has fired
        self._pause = loop.timer(PAUSE, PAUSE)
        self._reader = loop.io(raw.fileno(), 1)
        self._reader.start(self._readable_anywhere if tells else self._readable)

    @staticmethod
    def _ask_for_hosts(raw: Any, family: int) -> bool:
        """Have the kernel say to which address of ours each datagram came. False where it
        cannot."""
        if family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif _IP_PKTINFO is not None:
            raw.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        return family == socket.AF_INET6 or _IP_PKTINFO is not None

    def stop(self) -> None:
        if self._socket is None:
            return
        for watcher in (self._reader, self._writer, self._pause):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._socket = self._reader = self._writer = self._pause = None
        self.must_wait = True
        self.errors.close()
        self._unsent.clear()
        self._flows.clear()
        self.asked.clear()

    def _readable(self) -> None:
        recvfrom, flows, receive, below_text = (
            self._recvfrom,
            self._flows,
            self._receive,
            stun.BELOW_TEXT,
        )
        for done in range(BURST):
            try:
                data, address = recvfrom(DATAGRAM)
            except BlockingIOError:
                if not done:  # what the loop has found to read are errors
                    self.errors.take()
                return
            except OSError:  # told in place of a datagram
                if not self.errors.take():
                    self.read_errors += 1
                return
            if data < below_text and self._take_stun(
                data, flows.get(address) or self._flow(address)
            ):
                continue
            receive(data, flows.get(address) or self._flow(address))
            if self._socket is None:  # what was received has stopped us
                return

    def _readable_anywhere(self) -> None:
        recvmsg, flows, receive, below_text = (
            self._recvmsg,
            self._flows,
            self._receive,
            stun.BELOW_TEXT,
        )
        for done in range(BURST):
            try:
                data, ancillary, _, address = recvmsg(DATAGRAM, ANCILLARY)
            except BlockingIOError:
                if not done:  # what the loop has found to read are errors
                    self.errors.take()
                return
            except OSError:  # told in place of a datagram
                if not self.errors.take():
                    self.read_errors += 1
                return
            key = (address, ancillary[0][2]) if ancillary else address
            flow = flows.get(key) or self._flow_here(address, key)
            if data < below_text and self._take_stun(data, flow):
                continue
            receive(data, flow)
            if self._socket is None:  # what was received has stopped us
                return

    def _undelivered(self, quote: bytes, address: Any, problem: str) -> str:
        """Tell whose datagram cannot be delivered; return what became of that."""
        flow = self._flows.get(address) or self._flow(address)
        if quote[4:8] == stun.COOKIE and quote < stun.BELOW_TEXT:
            return self._not_asked(quote, flow)
        host, port = flow.remote
        failure = TransportError(
            f"no way to {bracketed(host)}:{port}: {problem}", flow, kind="unreachable"
        )
        return self.events.unreachable(flow, quote, failure)

    def _not_asked(self, quote: bytes, flow: UDPFlow) -> str:
        """Take a Binding request of ours as failed (RFC 5389 §7.2.1), if that is what has not
        reached whom it was sent to."""
        asked = self.asked.get(quote[8:20])
        if asked is None or asked.remote != flow.remote:
            return "unmatched"
        del self.asked[quote[8:20]]
        self.count_stun("unanswered")
        self.lines.line(
            log, logging.INFO, "keep-alive", "%r cannot be reached by a keep-alive", asked
        )
        return "told"

    def _flow_here(self, address: Any, key: Any) -> UDPFlow:
        """Return the flow of a datagram that came to one of all addresses: answers come from that
        one."""
        flow = self._flows.get(address) or self._flow(address)
        if key is not address:
            host = _host_of(key[1])
            try:
                usual = self._routes.source(address)
            except TransportError:
                usual = ""
            if host != usual:
                flow = PinnedFlow(self, address, host)
            if len(self._flows) >= FLOWS:
                self._flows.clear()
            self._flows[key] = flow
        return flow

    def _take_stun(self, data: bytes, flow: UDPFlow) -> bool:
        """Answer a Binding request at once, if that is what it is (RFC 5626 §8); True for STUN of
        any kind.

        While messages wait to be sent, answers are dropped, and so are those over a source's rate:
        who asks repeats the question (RFC 5389 §7.2.1).
        """
        if data[4:8] != stun.COOKIE:
            return False
        reply = stun.answer(data, *flow.remote)
        fate = self._hear(data, flow) if reply is None else "dropped"
        if reply is not None and not self._stun_rates.take(
            source_of(flow.remote[0]), time.monotonic()
        ):
            fate = "over rate"
        elif reply is not None and not self.must_wait:
            try:
                flow.send(reply)
                fate = "refused" if stun.is_error(reply) else "answered"
            except TransportError:
                pass
        self.count_stun(fate)
        return True

    def _hear(self, data: bytes, flow: UDPFlow) -> str:
        """Take the answer to a Binding request of ours, from whom it was sent to (RFC 5389 §7.3.3);
        say what became of it."""
        found = stun.heard(data)
        asked = None if found is None else self.asked.get(found[0])
        if found is None or asked is None or asked.remote != flow.remote:
            return "dropped"
        del self.asked[found[0]]
        before, asked.mapped = asked.mapped, found[1]
        if before not in (None, asked.mapped):
            text = "%r sees us at another address now: what is registered there leads nowhere"
            self.lines.line(log, logging.WARNING, "another address", text, asked)
            return "moved"
        return "heard"

    def count_stun(self, fate: str) -> None:
        """Count what became of a STUN message."""
        self.stun[fate] = self.stun.get(fate, 0) + 1

    def _flow(self, address: Any) -> UDPFlow:
        flows = self._flows
        if len(flows) >= FLOWS:
            flows.clear()
        flow = flows[address] = UDPFlow(self, address)
        return flow

    def connect(self, address: Address, *, name: str | None = None) -> UDPFlow:
        full: Any = sockaddr(*address, self._scope) if ":" in address[0] else address
        if (":" in full[0]) != (":" in self.local[0]):
            raise TransportError(
                f"{self!r} has no way to {full[0]}: the other IP version", kind="no_transport"
            )
        if is_link_local(full[0]) and not full[3]:
            raise TransportError(f"{full[0]} is on every link: say by which listener it is reached")
        return self._flows.get(full) or self._flow(full)

    def name_flow(self, flow: Flow) -> str:
        """Return the id of a flow: its remote address, then the interface of a link-local one, and
        our own if it is pinned."""
        name = super().name_flow(flow)
        if flow.scope:
            name += f"{_ZONE}{flow.scope:x}"
        return (
            name + _PINNED + ipaddress.ip_address(flow.ours).packed.hex()
            if isinstance(flow, PinnedFlow)
            else name
        )

    def find(self, id: str) -> Flow | None:
        """Return the flow of this id, None for what is none."""
        name, _, ours = id.partition(_PINNED)
        name, _, scope = name.partition(_ZONE)
        try:
            host, port = str(ipaddress.ip_address(bytes.fromhex(name[:-4]))), int(name[-4:], 16)
            flow = self.connect((f"{host}%{int(scope, 16)}" if scope else host, port))
            return (
                PinnedFlow(self, flow.address, str(ipaddress.ip_address(bytes.fromhex(ours))))
                if ours
                else flow
            )
        except (ValueError, TransportError):
            return None

    def send_later(self, data: bytes, flow: UDPFlow) -> None:
        """Send a datagram when the kernel has room. Raises TransportError when too many wait, or it
        is not open."""
        if self._socket is None:
            raise TransportError("the transport is not open")
        if len(self._unsent) >= UNSENT:
            raise TransportError(f"{UNSENT} datagrams wait to be sent already")
        self.queued += 1
        self._unsent.append((data, flow))
        if not self.must_wait:
            self.must_wait = True
            self._writer.start(self._writable)

    def _writable(self) -> None:
        while self._unsent:
            data, flow = self._unsent[0]
            error: OSError | None = None
            try:
                flow.emit(data)
            except OSError as failure:
                error = flow.own_error(data, failure)
            if error is not None:
                # the socket says it is writable all the same: look again a little later
                if error.errno == errno.ENOBUFS:
                    self._writer.stop()
                    self._pause.again(self._resume)
                    return
                if error.errno in _RETRY:
                    return
                self.lost += 1
                text = "cannot send %d octets to %r: %s"
                self.lines.line(log, logging.WARNING, "datagram", text, len(data), flow, error)
            self._unsent.popleft()
        self.must_wait = False
        self._writer.stop()

    def _resume(self) -> None:
        self._pause.stop()
        if self._unsent:
            self._writer.start(self._writable)

    def is_ours(self, host: str) -> bool:
        """True when this numeric host is one we listen on: on a wildcard socket, any that the
        system lets us bind."""
        return self._interfaces.is_ours(host)

    def source_for(self, address: Any) -> Address:
        """Return our address as the peer sees it: on a wildcard socket, what the kernel's routes
        choose."""
        host, port = self.local
        if host not in WILDCARDS:
            return host, port
        return self._routes.source(address), port
