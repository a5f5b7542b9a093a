"""The engine, RFC 3261 §17 and §18: transports below, transactions in the middle, cores above."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable

from ..errors import ParseError, TransportError
from ..message.uri import bracketed
from ..observe.log_values import Plain, Quoted
from ..observe.tap import Observation, Tap
from ..runtime.clock import Clock
from ..runtime.limits import Limits
from ..runtime.ports import explained
from ..transaction.timers import Timers
from ..transport.base import Flow, Receive, Transport
from ..transport.listener import Listener
from ..transport.stream.transport import StreamTransport
from .ingress import Accept, Ingress
from .layer import TransactionLayer
from .listening import Planned
from .users import CoreLayer

log = logging.getLogger("sippet_gevent.transport")
cores_log = logging.getLogger("sippet_gevent.core")

_NO_SUCH_VERSION = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
"""Errors of an address whose IP version the machine does not have."""


class Engine(TransactionLayer):
    """The layers below the cores: the transaction layer, its transports, and the entry of received
    messages.

    Args:
        cores: The core layer, which gets messages that belong to no user.
        clock: The time; real time by default.
        timers: The lengths of the timers of RFC 3261.
        limits: The limits of transactions, cores and connections.
    """

    def __init__(
        self,
        cores: CoreLayer,
        *,
        clock: Clock | None = None,
        timers: Timers | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(cores, clock or Clock(), timers or Timers(), limits or Limits())
        self.ingress = Ingress(self)
        self.overload = self.ingress.overload
        """Sorts messages while more arrive than can be served."""
        self._deadlines.late = self.overload.loop_is_late
        self.overload.changed = self._let_streams_sort
        self.workers = self.ingress.workers
        self.crashes = self.ingress.crashes
        self.transports: list[Transport] = []
        self.flow_watch: Callable[[Flow], None] | None = None
        """Called with each connection that has ended, in the hub."""

    @property
    def accept(self) -> Accept | None:
        """The filter that is called for each message before it is parsed."""
        return self.ingress.accept

    @accept.setter
    def accept(self, accept: Accept | None) -> None:
        self.ingress.accept = accept

    def use_limits(self, limits: Limits) -> None:
        """Use other limits from now on.

        Four of the old limits stay until the stack starts again: the rate of answers to broken
        requests, the size from which requests go by TCP, handshakes, and offers of keep-alives.
        """
        self.limits = self.ingress.limits = limits
        self.admission.use_limits(limits)
        self.amplification.most = limits.unacknowledged
        for transport in self.transports:
            if isinstance(transport, StreamTransport):
                transport.limits = limits.streams

    def open(self, planned: Iterable[Planned]) -> list[Transport]:
        """Open transports on their addresses, all or none, and return those that are open.

        Of an address of both IP versions, one may be missing on this machine. Raises
        TransportError, whose text says what to do next.
        """
        opened: list[Transport] = []
        for transport, listener in planned:
            try:
                self._open(transport, listener)
            except TransportError as error:
                if listener.is_half and getattr(error.__cause__, "errno", None) in _NO_SUCH_VERSION:
                    cores_log.warning(
                        'IP version skipped: address=%s reason="%s"',
                        Plain(listener.address),
                        Quoted(error),
                    )
                    continue
                for each in opened:
                    self.close(each)
                raise explained(error) from error.__cause__
            opened.append(transport)
        return opened

    def _open(self, transport: Transport, listener: Listener) -> None:
        transport.listener = listener
        transport.lines = self.counters.lines
        port = transport.default_port if listener.port is None else listener.port
        transport.start((listener.host, port), self.ingress.entrance(), self)
        self.transports.append(transport)
        self._let_streams_sort()
        host, port = transport.local
        log.info("listening: address=%s:%s:%d", transport.name.lower(), bracketed(host), port)
        transport.listener = listener.bound(transport.name.lower(), port)

    def _let_streams_sort(self) -> None:
        """Have the messages of connections sorted while the stack is overloaded."""
        receive = self.ingress.entrance(sorts=self.overload.is_active)
        for transport in self.transports:
            if isinstance(transport, StreamTransport):
                transport.receive = receive

    def close(self, transport: Transport) -> None:
        """Close one transport; nothing happens if it is not open."""
        if transport in self.transports:
            self.transports.remove(transport)
            transport.stop()
            transport.origins = {}  # they refer to it
            host, port = transport.local
            name = transport.name.lower()
            log.info("listening ended: address=%s:%s:%d", name, bracketed(host), port)

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        super().flow_ended(flow, error)
        if self.flow_watch is not None:
            self.flow_watch(flow)

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Answer the unreadable message of a stream, if its header section allows that."""
        self.ingress.stateless.refuse(error, flow)

    def waited(
        self, source: object, seconds: float, *, stands: bool, dropped: bool = False
    ) -> Receive | None:
        """Take a transport's report of how long a message has waited; see Events."""
        return self.ingress.waited(source, seconds, stands=stands, dropped=dropped)

    def is_noise(self, data: bytes, flow: Flow) -> bool:
        """Take a datagram without a line break; see Events."""
        return self.ingress.is_noise(data, flow)

    def add_observation(self, observation: Observation[Flow]) -> None:
        """Tell an observer of each message from now on."""
        tap = self.tap or Tap(self.clock.now, self.counters.lines)
        tap.observations = (*tap.observations, observation)
        self.tap = tap

    def remove_observation(self, observation: Observation[Flow]) -> None:
        """Tell an observer of no further message; nothing happens if it was not added."""
        if self.tap is not None:
            left = tuple(each for each in self.tap.observations if each is not observation)
            self.tap.observations = left
            if not left:
                self.tap = None

    def stop(self) -> None:
        """Close transports, forget transactions and deadlines, end parked greenlets."""
        for transport in [*self.transports]:
            self.close(transport)
        super().stop()
        self.overload.stop()
        self.admission.stop()
        self.workers.stop()
        self.counters.lines.stop()
