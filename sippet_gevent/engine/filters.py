"""Filter: whose messages are dropped before they are parsed: known scanners, and sources over their
rate.

It looks at octets and addresses only, in time that grows with the length of a message and not with
what it says. It is for load and noise, and no lock: a User-Agent is what its sender likes to call
himself. What must not be answered, a core refuses.
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
"""What the tools that look for open servers and weak passwords call themselves. sipsak is not among
them: it also monitors."""

LOOPBACK = ("127.0.0.0/8", "::1")
"""Who has no rate unless you say otherwise: programs of this machine, load balancers among them."""

LEAST_BURST = 20.0
"""Messages that any source may send at once, unless you say otherwise: a phone that starts,
registers and calls sends ten."""

SOURCES = 10_000
"""Sources remembered; forgotten all at once when there are more: a flood from forged addresses has
no rate, and no memory."""

LINE_EVERY = 10.0
"""Seconds between two log lines about one source, which say how many messages they stand for."""

SCANNER, OVER_RATE = "scanner", "over its rate"

log = logging.getLogger("sippet_gevent.transport")

_ENDS = (b"\r\n\r\n", b"\n\n")  # of the header section: what a body quotes is nobody's name
# Two of them, since what begins with so many plain octets is found at once; folded lines (§7.3.1)
# are read to their end.
_AGENTS = [
    re.compile(rb"\n%s[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)" % name).finditer
    for name in (b"user-agent", b"server")
]


class Filter:
    """A ready-made `Stack(accept=...)`: drop the messages of scanners, and of sources that send
    more than `rate` a second.

    `scanners` are words of a User-Agent or Server, in any case; `()` is none. `rate` is messages a
    second of one source, requests and responses, None for any number; `burst` how many at once, two
    seconds' worth by default and 20 at least. A source is an IPv4 address or an IPv6 /64; those in
    the networks `exempt` have no rate. `refused` tells how many messages were dropped for which
    reason, "scanner" or "over its rate"; a log line, every ten seconds for one source, tells whose
    and why. Raises InvalidValue.
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
        """What the rate is measured by; a Stack that is given the Filter sets its own."""
        self.rate = rate
        self.burst = burst if burst is not None else max(2 * (rate or 0.0), LEAST_BURST)
        self.refused: dict[str, int] = {}
        """Messages dropped, by reason."""
        self._is_scanner = _words(scanners)
        self._buckets = None if rate is None else TokenBuckets(rate, self.burst, SOURCES)
        self._source = lru_cache(SOURCES)(self._find_source)
        self.lines = LimitedLog(self.clock)
        """The log, where many sources are summarised; a Stack that is given the Filter sets its
        own."""
        self._untold: dict[tuple[str, str], tuple[float, int]] = {}

    def __call__(self, data: bytes, flow: Flow) -> bool | str:
        """Return True for a message to take, and for others the reason why not."""
        if self._buckets is not None:
            source = self._source(flow.remote[0])
            if source is not None and not self._buckets.take(source, self.clock.now()):
                return self._refuse(OVER_RATE, source, b"")
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
        """Return what a host is known by, None when it has no rate."""
        try:
            address = ip_address(host)
        except ValueError:
            return host  # of a transport that has no addresses
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address in network for network in self._exempt):
            return None
        return source_of(host)

    def _refuse(self, reason: str, source: str, agent: bytes) -> str:
        """Count a message, and tell whose it is and why, unless that was just told."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        now = self.clock.now()
        told, untold = self._untold.get((reason, source), (-math.inf, 0))
        untold += 1
        if now - told >= LINE_EVERY:
            if reason is OVER_RATE:
                why = f"more than rate={self.rate:g} a second, burst={self.burst:g} at once"
            else:
                why = f"it calls itself {excerpt(agent)}"
            line = _Line(untold, source, reason, why)
            if self.lines.line(
                log, logging.WARNING, f"filter: {reason}", "filter dropped %s", line
            ):
                told, untold = now, 0
        if len(self._untold) >= SOURCES and (reason, source) not in self._untold:
            self._untold.clear()
        self._untold[reason, source] = told, untold
        return reason


class _Line(NamedTuple):
    """The part of a log line about the messages of one source that were dropped."""

    number: int
    source: str
    reason: str
    why: str

    def __str__(self) -> str:
        messages = "a message" if self.number == 1 else f"{self.number} messages"
        return f"{messages} of {self.source}: {self.reason}: {self.why}"


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
    """Return what finds one of these words, whole, in lower-case octets, None when there are none.
    Raises InvalidValue."""
    words = [scanner.lower().encode() for scanner in scanners]
    if not all(word.strip() for word in words):
        raise InvalidValue("scanners: an empty text would be every User-Agent")
    if not words:
        return None
    return re.compile(rb"(?<![a-z])(?:%s)(?![a-z])" % b"|".join(map(re.escape, words))).search
