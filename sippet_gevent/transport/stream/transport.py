"""StreamTransport: the parts that the connections of one listening point share, RFC 3261 §18.

It has their limits, TLS and counters, and keeps their deadlines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from ...message.parser import DEFAULT_LIMITS, ParserLimits
from ...runtime.limits import StreamLimits
from ..base import Flow, Receive, Transport
from ..certificate import Certificate, matches_sip_domain
from ..interfaces import SockAddr
from ..tls import TLS
from .pacing import ENDS, Backlogs, Endings, Handshakes, Paced
from .waits import Waits

SWEEP = 0.5
"""Most seconds between two checks of the deadlines of all connections. The limits are whole
seconds."""

SWEPT = 100
"""Connections checked before the loop serves other events. Thousands would take milliseconds."""

BREATH = 0.002
"""Seconds until the next of these connections are checked."""


Destination = tuple[SockAddr, str | None]
"""The destination of a connection of ours: a socket address, and the name that a certificate must
be valid for."""


class Member(Paced, Protocol):
    """A connection of the listening point."""

    source: str | None
    """The host that an accepted connection is counted for."""

    def sweep(self, now: float) -> bool:
        """Keep the deadlines. Returns True when that has closed the connection."""
        ...


class StreamTransport(Transport):
    """One listening point for connections, without its listening socket.

    Args:
        limits: The limits of its connections.
        parser_limits: The limits of their messages.
        tls: Certificates and trust, if there is TLS on the connections.
    """

    reliable = True

    receive: Receive
    """Takes each whole message, after start()."""
    matches_name: Callable[[Certificate, str], bool] = staticmethod(matches_sip_domain)
    """Decides if a certificate is valid for a name, by the rules of the protocol."""

    def __init__(
        self,
        limits: StreamLimits | None = None,
        parser_limits: ParserLimits = DEFAULT_LIMITS,
        *,
        tls: TLS | None = None,
    ) -> None:
        self.limits = limits or StreamLimits()
        self.parser_limits = parser_limits
        self.tls = tls
        self.keep_alive_seconds = self.limits.keep
        self.loop: Any = None
        self.flows: set[Member] = set()
        """All connections."""
        self.counts: dict[str, int] = {}
        """Counters: accepted connections, and why connections were refused or have ended, other
        than by an orderly close."""
        self.handshakes = Handshakes(self.limits.handshakes)
        """Connections in the middle of a TLS handshake."""
        self.endings = Endings()
        """Connections whose peers have ended them, and that are not closed yet."""
        self.backlogs = Backlogs()
        """Connections with messages that were read and wait to be served."""
        self.waits = Waits(self)
        """How long messages of connections wait."""
        self.stopping = True
        self._sources: dict[str, int] = {}
        self._sweeper: Any = None
        self._breath: Any = None
        self._unswept: list[Member] = []

    def count(self, reason: str) -> None:
        """Count an outcome of a connection."""
        self.counts[reason] = self.counts.get(reason, 0) + 1

    # ---- what a connection reports

    def retire(self, destination: Destination, flow: Flow) -> None:
        """Send no new requests by this connection of ours."""
        raise TypeError(f"{type(self).__name__} lacks .retire()")

    def handshake_ended(self, flow: Paced) -> None:
        """Forget a handshake, if there was one."""
        raise TypeError(f"{type(self).__name__} lacks .handshake_ended()")

    def count_source(self, host: str) -> bool:
        """Count one more accepted connection of a host; return False when it has too many."""
        here = self._sources.get(host, 0)
        if here >= self.limits.connections_per_source:
            return False
        self._sources[host] = here + 1
        return True

    def _release_source(self, host: str) -> None:
        left = self._sources.get(host, 0) - 1
        if left > 0:
            self._sources[host] = left
        else:
            self._sources.pop(host, None)

    def forget(self, flow: Member) -> None:
        """Forget a closed connection."""
        self.flows.discard(flow)
        if flow.source is not None:
            self._release_source(flow.source)

    # ---- deadlines

    def _start_shared(self) -> None:
        """Start what runs while the listening point is open."""
        self.loop = gevent.get_hub().loop
        limits = self.limits
        shortest = min(
            limits.connect,
            limits.handshake,
            limits.first,
            limits.header,
            limits.message,
            limits.idle,
            limits.pong,
        )
        every = min(SWEEP, shortest / 4)
        # Repeating timers, because libev forgets the length of another timer when it fires.
        self._sweeper = self.loop.timer(every, every)
        self._breath = self.loop.timer(BREATH, BREATH)
        self.handshakes.start()
        self.endings.start()
        self.backlogs.start()
        self.waits.start(self.events)
        self.stopping = False

    def _stop_shared(self) -> None:
        """Close all connections."""
        for watcher in (self._sweeper, self._breath):
            watcher.stop()
            watcher.close()
        for flow in [*self.flows]:
            flow.close()
        self.handshakes.stop()
        self.endings.stop()
        self.backlogs.stop()
        self.waits.stop()
        self._sweeper = self._breath = None
        self._unswept.clear()
        self._sources.clear()

    def _add(self, flow: Member) -> None:
        self.flows.add(flow)
        if not self._sweeper.active:
            self._sweeper.start(self._sweep)

    def _sweep(self) -> None:
        """Begin to look at all deadlines, unless that is under way."""
        if not self._unswept:
            self._unswept = [*self.flows]
            self._sweep_some()
        if not self.flows and self._sweeper is not None:
            self._sweeper.stop()

    def _sweep_some(self) -> None:
        self._breath.stop()
        now = time.monotonic()
        unswept = self._unswept
        looked = ended = 0
        # Connections that were opened at the same time also miss their deadlines at the same time.
        while unswept and looked < SWEPT and ended < ENDS:
            looked += 1
            if unswept.pop().sweep(now):
                ended += 1
        if unswept:
            self._breath.again(self._sweep_some)
