"""Limits of the calls, transactions, connections and bytes of a stack, with reasons. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from typing import Any

from ..arguments import YEAR, duration, flag, instance, number, texts, whole
from ..errors import InvalidValue
from ..message.parser import DEFAULT_LIMITS, ParserLimits


def _check(limits: Any) -> None:
    """Check each limit by its annotation. Raises TypeError and InvalidValue."""
    for limit in fields(limits):
        value, kind = getattr(limits, limit.name), _KINDS.get(str(limit.type))
        if limit.name in _SECONDS:
            kind = _whole_seconds
        elif kind is number and isinstance(limits, StreamLimits):
            kind = duration
        if kind is not None:
            kind(limit.name, value)


def _whole_seconds(name: str, value: object) -> int:
    return whole(name, value, 0, YEAR)


_KINDS: dict[str, Callable[[str, Any], Any]] = {"int": whole, "float": number, "bool": flag}
_SECONDS = frozenset(("closed_seconds", "keep"))
"""Limits of whole numbers that are lengths of time."""


@dataclass(frozen=True)
class StreamLimits:
    """Limits of each listening point for streams: `Limits(streams=StreamLimits(idle=600.0))`.

    Times are in seconds. `Limits.parser` bounds header section and body here too. The page "Limits"
    of the reference describes each one, as does the source of this class.

    Raises:
        InvalidValue: A limit is out of range.
        TypeError: A limit has another type.
    """

    connections: int = 10_000
    """Connections at the same time, in both directions. Further ones are closed at once. Each holds
    a descriptor and 2 KB, 20 KB with TLS, and 4 KB more with a WebSocket (bench/flows.py)."""
    connections_per_source: int = 1_000
    """Connections from one address at the same time. This is enough for phones behind one NAT."""
    handshakes: int = 64
    """TLS handshakes of peers at the same time. A further peer waits in the backlog of the system
    until a handshake ends. After half a second the oldest one is closed to make room, because a
    good handshake takes two round trips."""
    connect: float = 5.0
    """Until a connection of ours is established. Two SYNs may be lost. A slower peer cannot answer
    within the life of a transaction."""
    handshake: float = 5.0
    """For a TLS handshake. It takes a few round trips, and the arithmetic of a slow phone."""
    first: float = 20.0
    """Until a peer that has connected sends its first byte. An attacker can open thousands of
    silent connections."""
    header: float = 10.0
    """From the first byte of a message to the end of its header section. A slower peer probably
    attacks by holding the connection."""
    message: float = 20.0
    """From the first byte of a message to its last."""
    idle: float = 180.0
    """Without a byte from the peer and without transactions. A peer that keeps its flow alive pings
    every 120 s (RFC 5626 §4.4.1)."""
    keep: int = 120
    """Seconds between the pings of peers that offer to ping (RFC 6223). 0 never asks for pings. It
    is less than `idle`, as RFC 5626 §4.4.1 recommends."""
    ping: float = 0.0
    """Silence after which we ping on connections that we opened (RFC 5626 §4.4.1), instead of
    closing them when idle. 0 never pings."""
    websocket_ping: float = 50.0
    """Silence after which we ping on all WebSockets. No script can ping, and web proxies close
    connections that are silent for a minute."""
    pong: float = 10.0
    """Until a ping is answered. After that the connection counts as dead (RFC 5626 §4.4.1)."""
    queue_bytes: int = 256 * 1024
    """Bytes that may wait for a peer that reads slowly. Beyond that its connection is closed. This
    is four of the longest messages."""
    queue_messages: int = 512
    """Messages that may wait for such a peer, because small messages take more memory than their
    bytes."""

    def __post_init__(self) -> None:
        _check(self)


LARGE = 4096
"""Bytes of a large request. Only the memory of larger requests is counted. The transaction of a
usual one takes 1 KB."""


@dataclass(frozen=True)
class Limits:
    """The limits of one stack: `Stack(..., limits=Limits(handlers=200))`.

    Beyond a limit, new requests get 503 with Retry-After, and `stack.stats()["refused"]` counts
    them. The page "Limits" of the reference describes each one, as does the source of this class.

    Raises:
        InvalidValue: A limit is out of range.
        TypeError: A limit has another type.
    """

    parser: ParserLimits = field(default=DEFAULT_LIMITS)
    """How long one message and its parts may be."""
    handlers: int = 1000
    """Cores that wait at the same time and have not answered yet. A further request gets 503. Each
    holds a greenlet of some 10 KB. A core that has answered does not count here, because it holds a
    call or a subscription, or is overdue."""
    forwarding: int = 10_000
    """Forwarded INVITEs without final response at the same time, and as many forwarded requests of
    other methods. A further one gets 503. Each holds some 7 KB, and a greenlet only if its core
    waits. They are counted apart because ringing phones must not use up `handlers`."""
    calls: int = 100_000
    """Calls at the same time. A further INVITE that a core accepts gets 503. Each holds its dialog,
    some 4 KB, and the greenlet of its core, if that waits for the call."""
    subscriptions: int = 100_000
    """Subscriptions at the same time, of both roles. A further SUBSCRIBE or REFER that a core
    accepts gets 503. Each holds its dialog, some 4 KB, and the greenlet of its core, if that waits
    for the subscription."""
    overdue: int = 10_000
    """Cores that still run although their request is answered or timed out, and that hold no call
    and no subscription. Beyond this number, new requests get 503. A core that never returns holds
    its greenlet forever. A log line shows where it waits."""
    transactions: int = 1_000_000
    """Transactions at the same time. A further request gets 503. At 20,000 requests a second,
    640,000 transactions wait for their last timer."""
    transactions_per_source: int = 0
    """Transactions of one source at the same time: of an IPv4 address, or an IPv6 /64. A further
    request gets 503. 0 sets no number. Then a source may have all while no other source is known.
    Otherwise the last quarter of a limit is closed to a source that has a quarter of it."""
    unanswered_per_source: int = 0
    """INVITEs of one source without final response, and other requests whose cores wait. 0 as
    above."""
    calls_per_source: int = 0
    """Calls that one source has begun. 0 as above."""
    exempt: tuple[str, ...] = ()
    """Networks that may have all of each limit, such as those of your trunks: `("192.0.2.0/24",)`.
    All that a trunk or a proxy sends comes from one source."""
    large_bytes: int = 256 * 1024 * 1024
    """Bytes of requests longer than LARGE whose transactions or calls exist. A further large
    request gets 503. A transaction keeps request and answer for 32 s, and peers choose how long
    both are."""
    memory: int = 0
    """Bytes of memory that the process may have. 0 takes the least limit of its control groups, as
    containers have them, or the memory of the machine. It is read when the stack starts."""
    memory_percent: int = 85
    """Percent of `memory` that the process has when new requests get 503. Without that, the kernel
    would kill it with all its calls. 0 never looks."""
    reserve: float = 0.5
    """Part of `handlers`, `forwarding`, `transactions` and `large_bytes` that is added for requests
    of a call, a dialog or a route of ours. A limit must never refuse the request that would free
    it."""
    retry_after: tuple[int, int] = (1, 10)
    """The least and the most seconds of Retry-After in a 503. The value is random, so that clients
    do not all return at the same time."""
    errors_per_second: float = 10.0
    """Answers to broken requests in a second to one source. If the source is forged, our answers
    must not flood it."""
    errors_burst: float = 20.0
    """Answers to broken requests at the same moment to one source."""
    unacknowledged: int = 100
    """INVITEs whose final response is repeated to a source that has never acknowledged anything.
    While there are more, such a source gets four copies of a final response, and two of a BYE. 0
    always keeps the schedule of RFC 3261, which sends eleven. If the sources are forged, our
    repetitions must not flood them."""
    sources: int = 10_000
    """Sources whose rate of errors is remembered. When there are more, all are forgotten."""
    closed_seconds: int = 300
    """Most seconds for which a destination that has answered 503 with Retry-After gets no new
    requests (RFC 3261 §21.5.4). Its Retry-After may say less. 0 sends them anyway."""
    overload_control: bool = False
    """True asks next hops for loss-based overload control in each Via, and sends them as much less
    as they ask for (RFC 7339). Clients that ask us for it always get it. Set it before the stack is
    made."""
    emergency: tuple[str, ...] = ()
    """Users of the Request-URIs of emergency calls, such as `("112", "911")`. Such a call, and one
    to urn:service:sos (RFC 5031), has the `reserve` of the limits, and passes in overload. Anybody
    may call them. With any user here, the core gets requests to urn:service:sos; otherwise they are
    answered 416 (RFC 3261 §8.2.2.1)."""
    resource_priority: tuple[str, ...] = ()
    """Values of Resource-Priority (RFC 4412) that have the same, such as `("ets.0", "wps")`.
    A namespace alone means all its values. Anybody can write this field, so name the networks that
    may do so in `resource_priority_from`."""
    resource_priority_from: tuple[str, ...] = ()
    """Networks whose Resource-Priority counts, such as that of a proxy that checks the sender:
    `("192.0.2.0/24",)` (RFC 4412 §4.2, §11.2). In requests of others it counts for nothing. Without
    any network, that of all peers counts."""
    datagram: int = 1300
    """Bytes of the longest request that is sent over UDP. A longer one is sent over TCP if possible
    (RFC 3261 §18.1.1). 1300 is the RFC's number for an unknown path MTU. 0 sends all requests over
    UDP."""
    keep: int = 29
    """Seconds between the pings over UDP of peers that offer to ping (RFC 6223). 0 never asks for
    pings. Many NATs forget a flow after 30 s, and RFC 5626 §4.4.2 recommends 29."""
    streams: StreamLimits = field(default_factory=StreamLimits)
    """Limits of connections."""
    flow_ends_transactions: bool = True
    """True ends the client transactions of a connection that ends. False lets them wait for their
    timers."""
    any_response_source: bool = False
    """True accepts responses from another address than the request was sent to. Some multi-homed
    servers send such responses."""

    def __post_init__(self) -> None:
        number("reserve", self.reserve, 0, 100)  # limits are whole numbers of a machine
        whole("memory_percent", self.memory_percent, 0, 100)
        _check(self)
        instance("streams", self.streams, StreamLimits, "streams=StreamLimits(idle=600.0)")
        for name, value in (
            instance("parser", self.parser, ParserLimits, "parser=ParserLimits(message=65536)")
            ._asdict()
            .items()
        ):
            whole(f"parser.{name}", value, 1)
        texts("emergency", self.emergency, "users")
        texts("resource_priority", self.resource_priority, "values")
        for name in ("exempt", "resource_priority_from"):
            for network in texts(name, getattr(self, name), "networks"):
                try:
                    ip_network(network)
                except ValueError as error:
                    raise InvalidValue(
                        f"{name} must be networks, got {network!r}, because {error}: write "
                        f'{name}=("192.0.2.0/24",)'
                    ) from None
        try:
            least, most = self.retry_after
        except (TypeError, ValueError):
            raise TypeError(
                f"retry_after must be two numbers, got {self.retry_after!r}: write "
                "retry_after=(1, 10)"
            ) from None
        if _whole_seconds("retry_after", least) > _whole_seconds("retry_after", most):
            raise InvalidValue(
                "retry_after must be the least and the most seconds, got "
                f"{self.retry_after!r}: write (1, 10)"
            )
