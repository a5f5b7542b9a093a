"""A network inside the process: loss, delay, duplication, reordering and partitions, each by a
seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from ..arguments import number
from ..errors import TransportError
from ..message.iana import TRANSPORTS
from ..message.uri import bracketed
from .base import IGNORED, Address, Events, Flow, Receive, Transport

FIRST_PORT = 40000

_PROPERTIES = ("name", "reliable", "secure", "named", "default_port", "resolves")


class Carried(NamedTuple):
    """One message as the network saw it. `fate` is "carried", "lost", "cut" or "nobody there"."""

    time: float
    source: Address
    destination: Address
    data: bytes
    fate: str
    transport: str = "UDP"


class Network:
    """Carries messages between MemoryTransports, on a Clock or VirtualClock. Probabilities are 0 to
    1, times in seconds.

    A reliable transport loses, doubles and reorders nothing: only `delay` and partitions concern
    it. `delay` is the least time under way, `jitter` the most that is added to it; `reorder` holds
    a datagram back for another `delay + jitter`. The same seed does the same things. `trace` is all
    that was sent; `on_send` sees it too.
    """

    def __init__(
        self,
        clock: Any,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        delay: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        for name, value in (
            ("loss", loss),
            ("duplicate", duplicate),
            ("reorder", reorder),
            ("delay", delay),
            ("jitter", jitter),
        ):
            self.check(name, value)
        self.clock = clock
        self.seed = seed
        self.random = random.Random(seed)
        self.loss = loss
        self.duplicate = duplicate
        self.reorder = reorder
        self.delay = delay
        self.jitter = jitter
        self.trace: list[Carried] = []
        self.on_send: Callable[[Carried], None] | None = None
        self.under_way = 0
        self._points: dict[Address, dict[str, MemoryTransport]] = {}
        self._cuts: set[frozenset[str]] = set()
        self._ports = FIRST_PORT
        self._deadlines = clock.deadlines(self._arrive)

    @staticmethod
    def check(name: str, value: float) -> None:
        """Check how the network is to behave. Raises TypeError and InvalidValue."""
        if name in ("delay", "jitter"):
            number(name, value)
        elif name in ("loss", "duplicate", "reorder"):
            number(name, value, 0, 1)

    def transport(self) -> MemoryTransport:
        """Return a new transport on this network."""
        return MemoryTransport(self)

    def partition(self, one: str, other: str) -> None:
        """Let nothing pass between two hosts."""
        self._cuts.add(frozenset((one, other)))

    def heal(self) -> None:
        """End all partitions."""
        self._cuts.clear()

    def attach(self, transport: MemoryTransport, address: Address) -> Address:
        """Give a transport its address; port 0 is any free one. Raises TransportError when it is
        taken."""
        host, port = address
        if port == 0:
            self._ports += 1
            port = self._ports
        if transport.name in self._points.setdefault((host, port), {}):
            raise TransportError(f"cannot listen on memory:{host}:{port}: address already in use")
        self._points[host, port][transport.name] = transport
        return host, port

    def detach(self, transport: MemoryTransport) -> None:
        """Take a transport off the network."""
        here = self._points.get(transport.local, {})
        here.pop(transport.name, None)
        if not here:
            self._points.pop(transport.local, None)

    def _at(self, name: str, address: Address) -> MemoryTransport | None:
        """Return the transport of this name at an address, or any other one there, because a test
        may have one for all."""
        here = self._points.get(address, {})
        return here.get(name) or next(iter(here.values()), None)

    def carry(self, transport: MemoryTransport, destination: Address, data: bytes) -> str:
        """Take a message and return its fate, which the seed decides."""
        source, reliable = transport.local, transport.reliable
        fate = "carried"
        if frozenset((source[0], destination[0])) in self._cuts:
            fate = "cut"
        elif destination not in self._points:
            fate = "nobody there"
        elif not reliable and self.loss and self.random.random() < self.loss:
            fate = "lost"
        carried = Carried(self.clock.now(), source, destination, data, fate, transport.name)
        self.trace.append(carried)
        if self.on_send is not None:
            self.on_send(carried)
        if fate != "carried":
            return fate
        copies = (
            2 if not reliable and self.duplicate and self.random.random() < self.duplicate else 1
        )
        for _ in range(copies):
            wait = self.delay
            if not reliable:
                wait += self.random.random() * self.jitter if self.jitter else 0.0
                if self.reorder and self.random.random() < self.reorder:
                    wait += self.delay + self.jitter
            self.under_way += 1
            self._deadlines.add(self.clock.now() + wait, carried)
        return fate

    def _arrive(self, now: float, carried: Carried) -> None:
        self.under_way -= 1
        transport = self._at(carried.transport, carried.destination)
        if transport is not None:
            transport.arrive(carried.data, carried.source)

    def stop(self) -> None:
        """Forget what is under way."""
        self._deadlines.stop()
        self.under_way = 0


class MemoryFlow(Flow):
    """A pair of addresses on a Network."""

    __slots__ = ()
    transport: MemoryTransport

    def __init__(self, transport: MemoryTransport, remote: Address) -> None:
        self.transport = transport
        self.remote = remote

    @property
    def local(self) -> Address:
        return self.transport.local

    def send(self, data: bytes) -> None:
        if self.transport.failure is not None:
            raise TransportError(self.transport.failure, self)
        if not self.transport.is_open:
            raise TransportError("the transport is not open", self)
        fate = self.transport.network.carry(self.transport, self.remote, data)
        if fate == "nobody there" and self.transport.reliable:
            raise TransportError(
                f"cannot connect to {bracketed(self.remote[0])}:{self.remote[1]}: nobody listens there",
                self,
            )


class MemoryTransport(Transport):
    """UDP without sockets. Set `failure` to a text and every send raises TransportError with it.

    `MemoryTransport.like(network, tcp)` makes one with the name and the properties of another
    transport.
    """

    name = "UDP"
    reliable, secure, default_port = TRANSPORTS[name][1:4]

    def __init__(self, network: Network) -> None:
        self.network = network
        self.failure: str | None = None
        self._receive: Receive | None = None

    @classmethod
    def like(cls, network: Network, transport: Transport) -> MemoryTransport:
        """Return a new transport on this network that stands for another one: TCP, TLS, your
        own."""
        properties = {name: getattr(transport, name) for name in _PROPERTIES}
        made: MemoryTransport = type(f"Memory{transport.name}", (cls,), properties)(network)
        return made

    def start(self, address: Address, receive: Receive, events: Events = IGNORED) -> None:
        self.local = self.network.attach(self, address)
        self._receive, self.events = receive, events

    @property
    def is_open(self) -> bool:
        """True from start() until stop()."""
        return self._receive is not None

    def connect(self, address: Address, *, name: str | None = None) -> MemoryFlow:
        return MemoryFlow(self, address)

    def arrive(self, data: bytes, source: Address) -> None:
        """Hand a datagram to the engine."""
        if self._receive is not None:
            self._receive(data, MemoryFlow(self, source))

    def stop(self) -> None:
        if self.is_open:
            self._receive = None
            self.network.detach(self)
