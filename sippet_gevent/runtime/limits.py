"""Limits: how much of everything a stack takes on, with the reason beside each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from ..arguments import flag, instance, number, whole
from ..errors import InvalidValue
from ..message.parser import DEFAULT_LIMITS, ParserLimits


def _check(limits: Any) -> None:
    """Check each limit by its annotation. Raises TypeError and InvalidValue."""
    for limit in fields(limits):
        value, kind = getattr(limits, limit.name), _KINDS.get(str(limit.type))
        if kind is not None:
            kind(limit.name, value)


_KINDS: dict[str, Callable[[str, Any], Any]] = {"int": whole, "float": number, "bool": flag}


@dataclass(frozen=True)
class StreamLimits:
    """The limits of each listening point for streams: `Limits(streams=StreamLimits(idle=600.0))`.
    Times are seconds.

    Header section and body are bounded by `Limits.parser`, as everywhere.
    """

    connections: int = 10_000
    """Connections at one time, both ways; more are closed at once. Each holds a descriptor and 2
    KB, 20 KB with TLS, and 4 KB more with a WebSocket, as bench/flows.py measures."""
    connections_per_source: int = 1_000
    """Connections accepted from one address at one time: phones behind one NAT, not a flood from
    one host."""
    handshakes: int = 64
    """TLS handshakes of peers at one time; who comes then waits in the system's backlog, until one
    ends or the oldest has had half a second: that one makes room. A good peer's takes two round
    trips, a stalled one waits."""
    connect: float = 5.0
    """Until a connection of ours stands: two lost SYNs; who needs longer cannot answer within a
    transaction's life."""
    handshake: float = 5.0
    """For a TLS handshake: a few round trips, and a slow phone's arithmetic."""
    first: float = 20.0
    """Until a peer who has connected has sent its first octet: silent connections are cheap to make
    by the thousand."""
    header: float = 10.0
    """From a message's first octet to the end of its header section; who is slower keeps us waiting
    on purpose."""
    message: float = 20.0
    """From a message's first octet to its last."""
    idle: float = 180.0
    """Without an octet from the peer and without transactions. Who keeps a flow alive pings each
    120 s (RFC 5626 §4.4.1)."""
    keep: int = 120
    """Seconds in which peers that offer to ping are asked to (RFC 6223): within `idle`, and within
    what RFC 5626 §4.4.1 has them do by themselves; 0 never."""
    ping: float = 0.0
    """Silence after which we ping on connections of our own (RFC 5626 §4.4.1), instead of closing
    them when idle; 0 never."""
    websocket_ping: float = 50.0
    """The same for WebSockets, those of peers too: no script can ping, and web proxies end what is
    silent for a minute."""
    pong: float = 10.0
    """How long a peer may take to answer a ping; then the connection is dead (RFC 5626 §4.4.1)."""
    queue_octets: int = 256 * 1024
    """What may wait for a peer that reads slowly; then its connection is closed. Four of the
    longest messages."""
    queue_messages: int = 512
    """Messages that may wait for it: small ones weigh more than their octets."""

    def __post_init__(self) -> None:
        _check(self)


LARGE = 4096
"""Bytes of a request from which on its memory is counted: a million transactions of usual requests
cost 1 KB each."""


@dataclass(frozen=True)
class Limits:
    """The limits of one stack: `Stack(..., limits=Limits(handlers=200))`."""

    parser: ParserLimits = field(default=DEFAULT_LIMITS)
    """What one message may measure."""
    handlers: int = 1000
    """Cores that wait at the same time and have not answered yet; a new request beyond them gets
    503. Each holds a greenlet of some 10 KB. A core whose request is answered is not among them: it
    holds a call, or is overdue."""
    forwarding: int = 10_000
    """Forwarded INVITEs at the same time without final response, and as many forwarded requests of
    other methods; one more is refused with 503. Each holds some 19 KB with its greenlet: phones
    that ring must not use up `handlers`."""
    calls: int = 100_000
    """Calls at the same time; an INVITE that a core accepts beyond them gets 503. Each holds two
    dialog ends and their texts, some 4 KB, and the greenlet of its core, if that waits for it."""
    overdue: int = 10_000
    """Cores that still run although their request is answered or timed out; beyond them new
    requests get 503. A core that never returns holds its greenlet for ever; a log line has its
    stack."""
    transactions: int = 1_000_000
    """Transactions at the same time; a new request beyond them gets 503. 20,000 requests a second
    linger as 640,000."""
    large_bytes: int = 256 * 1024 * 1024
    """Bytes of large requests, those over LARGE, whose transactions or calls exist; a further large
    one gets 503. A transaction keeps what it was asked and what it answers for 32 s, and peers
    choose how long both are."""
    reserve: float = 0.5
    """Of `handlers`, `forwarding`, `transactions` and `large_bytes`, the part kept in addition for
    requests that belong to a call, a dialog or a route of ours. A limit must never refuse what
    would free it: ACK, CANCEL and BYE are served first."""
    retry_after: tuple[int, int] = (1, 10)
    """Seconds, from and to: Retry-After of a 503 is drawn between them, so that clients do not come
    back at once."""
    errors_per_second: float = 10.0
    """400s and their like to one source, at most: a forged source must not be flooded through
    us."""
    errors_burst: float = 20.0
    """How many of them at once."""
    sources: int = 10_000
    """Sources whose error rate is remembered; forgotten all at once when there are more."""
    datagram: int = 1300
    """Octets of the longest request that goes by UDP; a longer one goes by TCP where there is a way
    (RFC 3261 §18.1.1). 1300 is the RFC's number for paths of unknown MTU; 0 sends them all by
    UDP."""
    keep: int = 29
    """Seconds in which peers that offer to ping over UDP are asked to (RFC 6223): many NATs forget
    a flow after 30, and RFC 5626 §4.4.2 has phones ask within 29; 0 never."""
    streams: StreamLimits = field(default_factory=StreamLimits)
    """What connections may cost."""
    flow_ends_transactions: bool = True
    """A connection that ends takes the client transactions that wait on it with it; False lets them
    wait for their timers."""
    any_response_source: bool = False
    """True takes responses from an address the request was not sent to, as some multi-homed servers
    send them."""

    def __post_init__(self) -> None:
        _check(self)
        instance("streams", self.streams, StreamLimits, "streams=StreamLimits(idle=600.0)")
        for name, value in (
            instance("parser", self.parser, ParserLimits, "parser=ParserLimits(message=65536)")
            ._asdict()
            .items()
        ):
            whole(f"parser.{name}", value, 1)
        try:
            least, most = self.retry_after
        except (TypeError, ValueError):
            raise TypeError(
                f"retry_after must be two numbers, got {self.retry_after!r}: write retry_after=(1, 10)"
            ) from None
        if whole("retry_after", least) > whole("retry_after", most):
            raise InvalidValue(
                f"retry_after must be the least and the most seconds, got {self.retry_after!r}: write (1, 10)"
            )
