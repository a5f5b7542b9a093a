"""Filter: drops messages of scanners, and of sources over their rate, before they are parsed.

It looks at bytes and addresses only. The time it takes grows with the length of a message, whatever
the message says. It keeps load and noise away and is no protection, because a sender writes any
User-Agent it likes. A core refuses what must not be served.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from ..arguments import number, texts
from ..errors import InvalidValue, excerpt
from ..observe.counters import LimitedLog
from ..observe.log_values import Plain
from ..runtime.clock import Clock
from ..runtime.rates import TokenBuckets, source_of
from ..transport.base import Flow

SCANNERS = (
    "friendly-scanner",
    "sipvicious",
    "sipcli",
    "sundayddr",
    "sip-scan",
    "pplsip",
    "VaxSIPUserAgent",
    "iWar",
)
"""User-Agents of tools that look for open servers and weak passwords. sipsak is not among them,
because it is also used for monitoring."""

LOOPBACK = ("127.0.0.0/8", "::1")
"""Networks that have no rate by default: programs of this machine, such as load balancers."""

LEAST_BURST = 20.0
"""Messages that any source may send at once by default. A phone that starts, registers and calls
sends ten."""

SOURCES = 10_000
"""Sources that are remembered. When there are more, all are forgotten: a flood from forged
addresses must not take memory."""

LINE_EVERY = 10.0
"""Seconds between two log lines about one source. Each line says how many messages were dropped."""

SCANNER, RATE_LIMITED = "scanner", "rate_limited"
"""The reasons that `refused` and `stats()` count dropped messages by."""

log = logging.getLogger("sippet_gevent.transport")

_ENDS = (b"\r\n\r\n", b"\n\n")  # of the header section: a body may quote any User-Agent
# Two patterns, because one that begins with plain bytes is found fast. Folded lines (§7.3.1) are
# read to their end.
_AGENTS = [
    re.compile(rb"\n%s[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)" % name).finditer
    for name in (b"user-agent", b"server")
]


class Filter:
    """Drops the messages of scanners, and of sources that send more than `rate` a second.

        stack = Stack("udp:0.0.0.0:5060", accept=Filter(rate=50))

    A source is an IPv4 address or an IPv6 /64. `refused` counts dropped messages by reason,
    "scanner" or "rate_limited". One log line in ten seconds tells of each source.

    Args:
        scanners: Words of a User-Agent or Server, in any case; `()` for none.
        rate: Messages a second from one source, requests and responses; None for any number.
        burst: Messages at the same moment. By default those of two seconds, and at least 20.
        exempt: Networks that have no rate.
        clock: Measures the rate; a Stack that is given the Filter sets its own.

    Raises:
        InvalidValue: A rate or network is invalid.
        TypeError: A value has another type.
    """

    def __init__(
        self,
        *,
        scanners: Iterable[str] = SCANNERS,
        rate: float | None = None,
        burst: float | None = None,
        exempt: Iterable[str] = LOOPBACK,
        clock: Clock | None = None,
    ) -> None:
        scanners = texts("scanners", scanners, "words")
        if rate is not None:
            number("rate", rate, above=True)
        if burst is not None:
            number("burst", burst, 1)
        self._exempt = [_network(network) for network in texts("exempt", exempt, "networks")]
        self.clock = clock or Clock()
        """Measures the rate."""
        self.rate = rate
        self.burst = burst if burst is not None else max(2 * (rate or 0.0), LEAST_BURST)
        self.refused: dict[str, int] = {}
        """Messages dropped, by reason."""
        self._is_scanner = _words(scanners)
        self._buckets = None if rate is None else TokenBuckets(rate, self.burst, SOURCES)
        self._source = lru_cache(SOURCES)(self._find_source)
        self.lines = LimitedLog(self.clock)
        """Limits and summarises log lines; a Stack that is given the Filter sets its own."""
        self._untold: dict[tuple[str, str], tuple[float, int]] = {}

    def attach(self, clock: Clock, lines: LimitedLog) -> None:
        """Measure rates by this clock and log by these limits: those of the stack it is given to.

        Another clock begins anew, because the times of two clocks cannot be compared.
        """
        if clock is not self.clock and self.rate is not None:
            self._buckets = TokenBuckets(self.rate, self.burst, SOURCES)
        self.clock, self.lines = clock, lines

    def __call__(self, data: bytes, flow: Flow) -> bool | str:
        """Return True for a message to accept, or the reason why it is dropped."""
        if self._buckets is not None:
            source = self._source(flow.remote[0])
            if source is not None and not self._buckets.take(source, self.clock.now()):
                return self._refuse(RATE_LIMITED, source, b"")
        if self._is_scanner is not None:
            head = data.lstrip(b"\r\n")  # as the parser does (RFC 3261 §7.5)
            for end in _ENDS:
                at = head.find(end)
                if at >= 0:
                    head = head[:at]
                    break
            head = head.lower()
            for agents in _AGENTS:
                for agent in agents(head):
                    if self._is_scanner(agent[1]):
                        return self._refuse(SCANNER, flow.remote[0], agent[1].strip())
        return True

    def _find_source(self, host: str) -> str | None:
        """Return the source that a host belongs to; None if it has no rate."""
        try:
            address = ip_address(host)
        except ValueError:
            return host  # a transport may have no IP addresses
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address in network for network in self._exempt):
            return None
        return source_of(host)

    def _refuse(self, reason: str, source: str, agent: bytes) -> str:
        """Count a dropped message. Log its source and the reason unless that was logged lately."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        now = self.clock.now()
        told, untold = self._untold.get((reason, source), (-math.inf, 0))
        untold += 1
        if now - told >= LINE_EVERY:
            if reason is RATE_LIMITED:
                why = f"rate={self.rate:g} burst={self.burst:g}"
            else:
                why = f"user_agent={Plain(excerpt(agent)[1:])}"
            line = _Line(untold, source, reason, why)
            if self.lines.line(
                log, logging.WARNING, f"filter: {reason}", "messages filtered: %s", line
            ):
                told, untold = now, 0
        if len(self._untold) >= SOURCES and (reason, source) not in self._untold:
            self._untold.clear()
        self._untold[reason, source] = told, untold
        return reason


class _Line(NamedTuple):
    """Part of a log line: dropped messages of one source."""

    number: int
    source: str
    reason: str
    why: str

    def __str__(self) -> str:
        return f"count={self.number} source={self.source} reason={self.reason} {self.why}"


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = f"{ip_network(text, strict=False)}, or {text.partition('/')[0]} for one address"
    except ValueError:
        meant = "192.0.2.0/24"
    raise InvalidValue(f"{excerpt(text)} is not a network: write {meant}")


def _words(scanners: Iterable[str]) -> Callable[[bytes], object] | None:
    """Return a function that finds one of these whole words in lower-case bytes; None if there are
    none. Raises InvalidValue."""
    words = [scanner.lower().encode() for scanner in scanners]
    if not all(word.strip() for word in words):
        raise InvalidValue("scanners: an empty text would be every User-Agent")
    if not words:
        return None
    return re.compile(rb"(?<![a-z])(?:%s)(?![a-z])" % b"|".join(map(re.escape, words))).search
