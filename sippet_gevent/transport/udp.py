"""UDP, RFC 3261 §18: our own watcher on a plain socket, a burst of datagrams at a time."""

from __future__ import annotations

import errno
import logging
from collections import deque
from typing import Any

import gevent
from gevent import socket

from ..errors import TransportError
from . import stun
from .base import Address, Flow, Receive, Transport
from .interfaces import WILDCARDS, Interfaces

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

FLOWS = 16384
"""Flows remembered by address, so that those of one peer are one object; forgotten all at once when there are more."""

log = logging.getLogger("sippet_gevent.transport")

_RETRY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)


class UDPFlow(Flow):
    """A peer's address and the socket that talks to it: answers leave by the socket the request came to."""

    __slots__ = ("address",)

    transport: UDP

    def __init__(self, transport: UDP, address: Any) -> None:
        self.transport = transport
        self.address = address
        self.remote = address if len(address) == 2 else (address[0].partition("%")[0], address[1])

    @property
    def local(self) -> Address:
        return self.transport.source_for(self.address)

    def send(self, data: bytes) -> None:
        transport = self.transport
        if transport.must_wait:
            transport.send_later(data, self.address)
            return
        try:
            transport.sendto(data, self.address)
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) not in _RETRY:
                host, port = self.remote
                problem = getattr(error, "strerror", None) or error
                raise TransportError(f"cannot send {len(data)} octets to {host}:{port}: {problem}", self) from error
            transport.send_later(data, self.address)


class UDP(Transport):
    """One UDP socket, IPv4 or IPv6. No SO_REUSEADDR: a second process must not take the port over."""

    name, reliable, default_port = "UDP", False, 5060

    def __init__(self) -> None:
        self._socket: Any = None
        self._reader: Any = None
        self._writer: Any = None
        self._pause: Any = None
        self._unsent: deque[tuple[bytes, Any]] = deque()
        self.must_wait = True
        """True while datagrams must not overtake those that wait for the kernel, and when it is not open."""
        self.sendto: Any = None
        self._flows: dict[Any, UDPFlow] = {}
        self._sources: dict[str, Address] = {}
        self._interfaces = Interfaces("")
        self.read_errors = 0
        """Reads that failed: ICMP errors of earlier sends, mostly."""
        self.queued = 0
        """Datagrams that had to wait for the kernel's send buffer."""
        self.lost = 0
        """Datagrams that had waited, and then could not be sent."""
        self.stun: dict[str, int] = {}
        """What became of STUN messages, which are none of SIP: "answered", "refused" with a 420, "dropped"."""

    def start(self, address: Address, receive: Receive) -> None:
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        raw = socket._socket.socket(family, socket.SOCK_DGRAM)  # the plain one: nothing here may yield
        try:
            raw.setblocking(False)
            if family == socket.AF_INET6:
                # IPv4 peers would come as ::ffff:192.0.2.1 and match nothing; listen on both instead.
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            raw.bind((host, port))
        except (OSError, OverflowError) as error:
            raw.close()
            reason = getattr(error, "strerror", None) or error
            shown = f"[{host}]" if ":" in host else host
            raise TransportError(f"cannot listen on udp:{shown}:{port}: {reason}") from error
        self._socket = raw
        self.local = raw.getsockname()[:2]
        self._interfaces = Interfaces(self.local[0])
        self._recvfrom = raw.recvfrom
        self.sendto = raw.sendto
        self.must_wait = False
        self._receive = receive
        loop = gevent.get_hub().loop
        self._writer = loop.io(raw.fileno(), 2)
        self._pause = loop.timer(PAUSE)
        self._reader = loop.io(raw.fileno(), 1)
        self._reader.start(self._readable)

    def stop(self) -> None:
        if self._socket is None:
            return
        for watcher in (self._reader, self._writer, self._pause):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._socket = self._reader = self._writer = self._pause = None
        self.must_wait = True
        self._unsent.clear()
        self._flows.clear()

    def _readable(self) -> None:
        recvfrom, flows, receive, below_text = self._recvfrom, self._flows, self._receive, stun.BELOW_TEXT
        for _ in range(BURST):
            try:
                data, address = recvfrom(DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                self.read_errors += 1
                return
            if data < below_text and self._take_stun(data, flows.get(address) or self._flow(address)):
                continue
            receive(data, flows.get(address) or self._flow(address))
            if self._socket is None:  # what was received has stopped us
                return

    def _take_stun(self, data: bytes, flow: UDPFlow) -> bool:
        """Answer a Binding request at once, if that is what it is (RFC 5626 §8); True for STUN of any kind.

        While messages wait to be sent, answers are dropped: who asks repeats the question (RFC 5389 §7.2.1).
        """
        if data[4:8] != stun.COOKIE:
            return False
        reply = stun.answer(data, *flow.remote)
        fate = "dropped"
        if reply is not None and not self.must_wait:
            try:
                flow.send(reply)
                fate = "refused" if stun.is_error(reply) else "answered"
            except TransportError:
                pass
        self.stun[fate] = self.stun.get(fate, 0) + 1
        return True

    def _flow(self, address: Any) -> UDPFlow:
        flows = self._flows
        if len(flows) >= FLOWS:
            flows.clear()
        flow = flows[address] = UDPFlow(self, address)
        return flow

    def connect(self, address: Address, *, name: str | None = None) -> UDPFlow:
        host, port = address
        if (":" in host) != (":" in self.local[0]):
            raise TransportError(f"{self!r} has no way to {host}: the other IP version")
        if ":" in host:
            try:
                full = socket._socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0][4]
            except OSError as error:
                raise TransportError(f"{host} is not an IPv6 address") from error
            return self._flows.get(full) or self._flow(full)
        return self._flows.get(address) or self._flow((host, port))

    def send_later(self, data: bytes, address: Any) -> None:
        """Send a datagram when the kernel has room. Raises TransportError when too many wait, or it is not open."""
        if self._socket is None:
            raise TransportError("the transport is not open")
        if len(self._unsent) >= UNSENT:
            raise TransportError(f"{UNSENT} datagrams wait to be sent already")
        self.queued += 1
        self._unsent.append((data, address))
        if not self.must_wait:
            self.must_wait = True
            self._writer.start(self._writable)

    def _writable(self) -> None:
        while self._unsent:
            data, address = self._unsent[0]
            try:
                self.sendto(data, address)
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # the socket says it is writable all the same: look again a little later
                    self._writer.stop()
                    self._pause.start(self._resume)
                    return
                if error.errno in _RETRY:
                    return
                self.lost += 1
                log.warning("cannot send %d octets to %s: %s", len(data), address[0], error.strerror)
            self._unsent.popleft()
        self.must_wait = False
        self._writer.stop()

    def _resume(self) -> None:
        if self._unsent:
            self._writer.start(self._writable)

    def is_ours(self, host: str) -> bool:
        """True when this numeric host is one we listen on: on a wildcard socket, any that the system lets us bind."""
        return self._interfaces.is_ours(host)

    def source_for(self, address: Any) -> Address:
        """Return our address as the peer sees it: on a wildcard socket, what the kernel's routes choose."""
        host, port = self.local
        if host not in WILDCARDS:
            return host, port
        source = self._sources.get(address[0])
        if source is None:
            probe = socket._socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            try:
                probe.connect(address)  # sends nothing: it asks for a route
                source = (probe.getsockname()[0], port)
            except OSError as error:
                raise TransportError(f"no route to {address[0]}: {error.strerror}") from error
            finally:
                probe.close()
            if len(self._sources) >= FLOWS:
                self._sources.clear()
            self._sources[address[0]] = source
        return source
