"""UDP, RFC 3261 §18: our own watcher on a plain socket, a burst of datagrams at a time."""

from __future__ import annotations

import _socket
import ipaddress
import time
from typing import Any

import gevent

from ...errors import TransportError
from ...message.iana import TRANSPORTS
from ...message.uri import bracketed
from ..base import IGNORED, Address, Events, Flow, Receive, Transport
from ..interfaces import WILDCARDS, Interfaces, Routes, SockAddr, is_link_local, sockaddr
from . import icmp, pktinfo, stun
from .bursts import EMPTY
from .bursts import fastest as read
from .error_queue import ErrorQueue
from .receive_report import ReceiveReport
from .send_queue import Ancillary, SendQueue
from .stun_agent import UNANSWERED, KeptFlow, StunAgent

LINE_FEED = 10
"""A number, because `b"\n" in data` costs an exception that the interpreter raises and drops."""

BURST = 64
"""Datagrams read before the loop may check its timers. 64 datagrams take a millisecond or two."""

RECEIVE_BUFFER = 4 << 20
"""Bytes that the kernel may buffer for us, enough for a second at full rate. The system may grant
less."""

FLOWS = 16384
"""Flows remembered by address, so that a peer's flow is one object. All are forgotten at once when
there are more."""

MEASURED = 3
"""Datagrams of a burst that are read before one whose wait is measured. Where fewer wait, there is
no queue, and reading the kernel's report costs as much as two counters."""

SLOW = 0.02
"""Seconds. If a burst takes longer because cores are slow, the next one is half as long, so that
timers are kept."""

LATEST = 16.0
"""Most seconds after which a late ICMP error may come, so that it is to be known if the peer has
registered since. A client repeats its request after 16 seconds at most (RFC 3261 §17.1.1.2)."""

SHORTEST = 8
"""Datagrams of the shortest burst."""

SORTED = 1024
"""Most datagrams read at a time while the stack is overloaded. Sorting them takes two
milliseconds."""

_ZONE, _PINNED = "z", "p"  # in the id of a flow; the rest is hexadecimal

FlowKey = SockAddr | tuple[SockAddr, bytes]
"""A peer, or a peer and the kernel's report of the local address that it has used."""


class UDPFlow(Flow):
    """A peer's address and the socket for it. Answers leave by the socket at which their request
    arrived."""

    __slots__ = (
        "_queue", "address", "asked", "keepalives_answered", "mapped", "scope", "unanswered",
    )  # fmt: skip

    transport: UDP
    probes = True

    def __init__(self, transport: UDP, address: SockAddr) -> None:
        self.transport = transport
        self.address = address
        self.remote = address[:2]
        self.scope = address[3] if len(address) > 2 else 0
        """The number of the interface that leads to a link-local peer, 0 for others."""
        self._queue = transport.queue
        self.asked: bytes | None = None
        """The transaction of our last Binding request."""
        self.mapped: Address | None = None
        """Our address as the peer has last reported it (RFC 5626 §4.4.2)."""
        self.keepalives_answered = 0
        self.unanswered = 0
        """Our Binding requests without an answer since the last answer."""

    @property
    def local(self) -> Address:
        transport = self.transport
        return transport.source_for(self.address) if transport.is_wildcard else transport.local

    @property
    def sent_by(self) -> Address:
        transport = self.transport
        if transport.is_wildcard or transport.listener.advertise is not None:
            return super().sent_by
        return transport.local

    def send(self, data: bytes) -> None:
        queue = self._queue
        if queue.must_wait:
            queue.put(data, self)
            return
        try:
            queue.sendto(data, self.address)
        except (OSError, OverflowError) as error:
            queue.failed(data, self, error)

    def keep(self, seconds: float) -> None:
        now, transport = time.monotonic(), self.transport
        if now - transport.kept_from > LATEST:
            transport.kept_before, transport.kept, transport.kept_from = transport.kept, {}, now
        transport.kept[self.address] = now
        if self.unanswered >= UNANSWERED:
            self.unanswered = 0  # it had failed, and counts as a new flow (RFC 5626 §4.5)

    def is_kept_since(self, time: float) -> bool:
        # by the address, because the same flow may have several objects one after the other
        address, transport = self.address, self.transport
        return any(
            kept.get(address, 0.0) > time for kept in (transport.kept, transport.kept_before)
        )

    def probe(self) -> None:
        self.transport.stun_agent.probe(self)

    def emit(self, data: bytes) -> None:
        """Give a datagram to the kernel. Raises OSError."""
        self._queue.sendto(data, self.address)


class PinnedFlow(UDPFlow):
    """A flow of a socket on all addresses that sends from one certain address, because the kernel
    would choose another one (RFC 3581 §4)."""

    __slots__ = ("ancillary", "ours")

    def __init__(self, transport: UDP, address: SockAddr, ours: str) -> None:
        super().__init__(transport, address)
        self.ours = ours
        self.ancillary = pktinfo.from_host(ours)

    @property
    def local(self) -> Address:
        return self.ours, self.transport.local[1]

    def send(self, data: bytes) -> None:
        queue = self._queue
        if queue.must_wait:
            queue.put(data, self)
            return
        try:
            queue.sendmsg((data,), self.ancillary, 0, self.address)
        except (OSError, OverflowError) as error:
            queue.failed(data, self, error)

    def emit(self, data: bytes) -> None:
        self._queue.sendmsg((data,), self.ancillary, 0, self.address)

    def to_port(self, port: int) -> Flow:
        host, _, *rest = self.address
        address: Any = (host, port, *rest)
        return PinnedFlow(self.transport, address, self.ours)


class UDP(Transport):
    """One UDP socket, IPv4 or IPv6. It does not set SO_REUSEADDR, because a second process must not
    take over the port."""

    name = "UDP"
    reliable, secure, default_port = TRANSPORTS[name][1:4]

    def __init__(self, keep: int = 0) -> None:
        self.keep_alive_seconds = keep
        self._socket: _socket.socket | None = None
        self._reader: Any = None  # a watcher of the loop; gevent has no types
        self._flows: dict[FlowKey, UDPFlow] = {}
        self.kept: dict[SockAddr, float] = {}
        """When keep() was called last, by the address of the peer, since `kept_from`."""
        self.kept_before: dict[SockAddr, float] = {}
        """The same for the LATEST seconds or more before that."""
        self.kept_from = 0.0
        self._routes = Routes()
        self._scope = 0
        self.is_wildcard = False
        """True when it listens on all addresses, so that our address depends on the peer."""
        self._interfaces = Interfaces("")
        self.read_errors = 0
        """Reads that failed for another reason than an ICMP error that we know of."""
        self.errors = ErrorQueue(self._undelivered)
        """The kernel's reports of datagrams that could not be delivered."""
        self.icmp = self.errors.counts
        """ICMP errors by what they meant: `matched` when a transaction or keep-alive waited for
        that datagram's answer; `unmatched` when none did; `truncated` when the quote is too short
        to tell; `too_big`; and `ignored` for the kinds that §18.4 ignores."""
        self.queue = SendQueue(self.errors)
        """Sends datagrams, and queues those that must wait."""
        self.report = ReceiveReport()
        """The kernel's reports of waiting and dropped datagrams."""
        self._is_reported = False
        self._was_emptied = True  # since the last report
        self._burst = BURST
        self._measured_at = 0.0
        self._take: Receive | None = None  # takes messages while the stack is overloaded
        self.stun_agent = StunAgent(self.queue, self._failed)
        """Answers Binding requests and sends ours."""
        self.stun = self.stun_agent.counts
        """STUN messages by outcome."""

    @property
    def lost(self) -> int:
        """Datagrams that waited for room in the kernel, and then could not be sent."""
        return self.queue.lost

    @property
    def kernel_drops(self) -> int:
        """Datagrams that the kernel has dropped, because they came faster than they were read."""
        return self.report.drops

    def start(self, address: Address, receive: Receive, events: Events = IGNORED) -> None:
        host, port = address
        family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
        raw: _socket.socket | None = None
        try:
            # the plain one: nothing here may yield
            raw = _socket.socket(family, _socket.SOCK_DGRAM)
            raw.setblocking(False)
            if family == _socket.AF_INET6:
                # IPv4 peers would come as ::ffff:192.0.2.1 and match nothing; listen on both
                # instead.
                raw.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
            raw.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, RECEIVE_BUFFER)
            reports_local = host in WILDCARDS and pktinfo.ask_for(raw, family)
            self._is_reported = self.report.ask_for(raw)
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
        self.is_wildcard = self.local[0] in WILDCARDS
        self._interfaces = Interfaces(self.local[0])
        self._receive, self.events = receive, events
        loop = gevent.get_hub().loop
        self.queue.open(raw, loop, self.lines)
        self.stun_agent.lines = self.lines
        self._reader = loop.io(raw.fileno(), 1)
        self._reports_local = reports_local
        self._was_emptied, self._burst = True, BURST
        self._reader.start(self._readable)

    def stop(self) -> None:
        if self._socket is None:
            return
        self._reader.stop()
        self._reader.close()
        self.queue.close()
        self._socket.close()
        self._socket = self._reader = None
        self.errors.close()
        self._flows.clear()
        self.kept, self.kept_before = {}, {}
        self._take = None
        self.stun_agent.pending.clear()

    # ---- receiving

    def _readable(self) -> None:
        """Read a burst. While the stack is overloaded, read all that waits, up to SORTED datagrams:
        then the receiver only sorts new requests."""
        most, measured, bursts = self._burst, MEASURED, 1
        if self._take is not None:
            most, measured, bursts = BURST, 0, SORTED // BURST
        flows, below_text = self._flows, stun.BELOW_TEXT
        for _ in range(bursts):
            raw, receive = self._socket, self._take or self._receive
            if raw is None:  # the receiver has stopped us
                return
            datagrams, ancillary, error = read(raw, most, measured, self._reports_local)
            for index, (data, address, local) in enumerate(datagrams):
                if index == measured and ancillary is not None and self._is_reported:
                    receive = self._measure(ancillary)
                flow = (
                    flows.get(address) or self._flow(address)
                    if local is None
                    else flows.get((address, local)) or self._flow_here(address, local)
                )
                if data < below_text and self.stun_agent.take(data, flow):
                    continue
                if LINE_FEED not in data and self.events.is_noise(data, flow):
                    continue
                receive(data, flow)
                if self._socket is None:
                    return
            if not error:
                continue
            if error not in EMPTY:  # reported in place of a datagram
                self.read_errors += not self.errors.take()
                return
            self._was_emptied = True
            if not datagrams:  # the loop has found errors to read, not datagrams
                self.errors.take()
            return

    def _measure(self, ancillary: Ancillary) -> Receive:
        """Report how long a datagram has waited, and return what takes it and those behind it."""
        now = time.monotonic()
        if not self._was_emptied:
            is_slow = now - self._measured_at > SLOW
            self._burst = max(SHORTEST, self._burst // 2) if is_slow else BURST
        self._measured_at = now
        before = self.report.drops
        waited = self.report.read(ancillary, self.lines, self)
        dropped = self.report.drops != before
        stands = not self._was_emptied
        self._take = self.events.waited(self, waited, stands=stands, dropped=dropped)
        self._was_emptied = False
        return self._take or self._receive

    def _failed(self, flow: KeptFlow, reason: str) -> None:
        """Report a flow that has failed by its keep-alives. A registration by it is renewed (RFC
        5626 §4.4.2, §4.5)."""
        if self._reader is not None and isinstance(flow, UDPFlow):
            error = TransportError(f"{flow} has failed: {reason}", flow, kind="flow_ended")
            gevent.get_hub().loop.run_callback(self.events.flow_ended, flow, error)

    def _undelivered(self, quote: bytes, address: SockAddr, notice: icmp.Notice) -> str:
        """Report a datagram of ours that could not be delivered; return what the report meant."""
        flow = self._flows.get(address) or self._flow(address)
        if quote[4:8] == stun.COOKIE and quote < stun.BELOW_TEXT:
            # a Binding request fails by hard errors only (RFC 5389 §7.2.1)
            return self.stun_agent.unreachable(quote, flow) if notice.is_hard else icmp.IGNORED
        host, port = flow.remote
        failure = TransportError(
            f"cannot reach {bracketed(host)}:{port}: {notice.problem}", flow, kind="unreachable"
        )
        return self.events.unreachable(flow, quote, failure, ends_flow=notice.is_hard)

    # ---- flows

    def _flow(self, address: SockAddr) -> UDPFlow:
        flows = self._flows
        if len(flows) >= FLOWS:
            flows.clear()
        flow = flows[address] = UDPFlow(self, address)
        return flow

    def _flow_here(self, address: SockAddr, info: bytes) -> UDPFlow:
        """Return the flow of a datagram that arrived at one of our addresses, by the kernel's
        report. Answers leave from that address."""
        flow = self._flows.get(address) or self._flow(address)
        host = pktinfo.destination(info)
        try:
            usual = self._routes.source(address)
        except TransportError:
            usual = ""
        if host != usual:
            flow = PinnedFlow(self, address, host)
        if len(self._flows) >= FLOWS:
            self._flows.clear()
        self._flows[address, info] = flow
        return flow

    def connect(self, address: Address, *, name: str | None = None) -> UDPFlow:
        full = sockaddr(*address, self._scope) if ":" in address[0] else address
        if (":" in full[0]) != (":" in self.local[0]):
            raise TransportError(
                f"{self!r} has no way to {full[0]}: the other IP version", kind="no_transport"
            )
        if len(full) > 2 and not full[3] and is_link_local(full[0]):
            raise TransportError(
                f"{full[0]} is an address on every link: write its interface, as in "
                f"{full[0]}%eth0, "
                "or the listener that leads there"
            )
        return self._flows.get(full) or self._flow(full)

    def name_flow(self, flow: Flow) -> str:
        """Return the id of a flow: its remote address, then the interface of a link-local peer, and
        our own address if the flow is pinned to it."""
        name = super().name_flow(flow)
        if flow.scope:
            name += f"{_ZONE}{flow.scope:x}"
        return (
            name + _PINNED + ipaddress.ip_address(flow.ours).packed.hex()
            if isinstance(flow, PinnedFlow)
            else name
        )

    def find(self, id: str) -> Flow | None:
        """Return the flow of this id, None for a text that is no id."""
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

    # ---- addresses

    def is_ours(self, host: str) -> bool:
        """True when we listen on this numeric host. On a wildcard socket, these are all hosts that
        the system lets us bind."""
        return self._interfaces.is_ours(host)

    def source_for(self, address: SockAddr) -> Address:
        """Return our address as the peer sees it. On a wildcard socket, the kernel's routes choose
        it."""
        host, port = self.local
        if host not in WILDCARDS:
            return host, port
        return self._routes.source(address), port
