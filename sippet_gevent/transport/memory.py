"""A network inside the process for tests: loss, delay, duplication, reordering and partitions, all
repeatable by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, NamedTuple

from ..arguments import number
from ..errors import TransportError
from ..message.iana import TRANSPORTS
from ..message.uri import bracketed
from ..runtime.clock import Clock
from .base import IGNORED, Address, Events, Flow, Receive, Transport

FIRST_PORT = 40000

_PROPERTIES = ("name", "reliable", "secure", "named", "default_port", "resolves")


Fate = Literal["carried", "lost", "cut", "nobody there"]
"""The fate of a message: delivered, lost by chance, stopped at a partition, or without a transport
at its destination."""


class Carried(NamedTuple):
    """One message as the network saw it."""

    time: float
    source: Address
    destination: Address
    data: bytes
    fate: Fate
    transport: str = "UDP"


class Network:
    """Carries messages between MemoryTransports.

    `trace` is the list of all messages sent. `on_send`, if set, is called with each. The same seed
    has the same effects. On a reliable transport only `delay` and partitions have an effect.

    Args:
        clock: A Clock or VirtualClock.
        seed: For the generator of random numbers.
        loss: The probability that a datagram is lost, 0 to 1.
        duplicate: The probability that a datagram arrives twice.
        reorder: The probability that a datagram is held back for another `delay + jitter`.
        delay: The shortest time under way, in seconds.
        jitter: The longest time added to the delay, in seconds.

    Raises:
        InvalidValue: A probability or a time is out of range.
        TypeError: One is not a number.
    """

    def __init__(
        self,
        clock: Clock,
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
        """Check one of the probabilities and times. Raises TypeError and InvalidValue."""
        if name in ("delay", "jitter"):
            number(name, value)
        elif name in ("loss", "duplicate", "reorder"):
            number(name, value, 0, 1)

    def transport(self) -> MemoryTransport:
        """Return a new transport on this network."""
        return MemoryTransport(self)

    def partition(self, one: str, other: str) -> None:
        """Stop all messages between two hosts."""
        self._cuts.add(frozenset((one, other)))

    def heal(self) -> None:
        """End all partitions."""
        self._cuts.clear()

    def attach(self, transport: MemoryTransport, address: Address) -> Address:
        """Put a transport at an address, and return the address. Port 0 takes a free port. Raises
        TransportError when the address is taken."""
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
        """Return the transport of this name at an address, or another one there, because a test may
        use one for all names."""
        here = self._points.get(address, {})
        return here.get(name) or next(iter(here.values()), None)

    def carry(self, transport: MemoryTransport, destination: Address, data: bytes) -> Fate:
        """Take a message, and return its fate, which the seed decides."""
        source, reliable = transport.local, transport.reliable
        fate: Fate = "carried"
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
        """Drop all messages under way."""
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
                f"cannot connect to {bracketed(self.remote[0])}:{self.remote[1]}: nothing "
                "listens there",
                self,
            )


class MemoryTransport(Transport):
    """UDP without sockets. If `failure` is set to a text, every send raises TransportError with
    that text."""

    name = "UDP"
    reliable, secure, default_port = TRANSPORTS[name][1:4]

    def __init__(self, network: Network) -> None:
        self.network = network
        self.failure: str | None = None
        self._receive: Receive | None = None

    @classmethod
    def like(cls, network: Network, transport: Transport) -> MemoryTransport:
        """Return a new transport on this network that has the name and properties of another one:
        TCP, TLS, or an application's own."""
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
        """Give a message to the engine."""
        if self._receive is not None:
            self._receive(data, MemoryFlow(self, source))

    def stop(self) -> None:
        if self.is_open:
            self._receive = None
            self.network.detach(self)
