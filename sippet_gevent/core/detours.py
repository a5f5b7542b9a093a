"""Detours: a request too long for a datagram goes by TCP, and by UDP after all where TCP is refused, RFC 3261 §18.1.1.

1300 octets are what the section allows where nobody knows the path's MTU, which is always: 1500 less the 200 that the
response may be longer. It says MUST, whatever the URI's transport parameter says, and it says it of requests alone: their
responses go back the way they came.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable

from ..counters import LimitedLog
from ..errors import SIPError
from ..transport.base import Flow, Transport
from .failover import GreyList

DETOUR_SECONDS = 2.0
"""How long a connection for a long request may take to stand: one lost SYN is repeated after a second. UDP comes after it,
and whoever waits for the answer, a timer F upstream say, has begun to wait before us."""

REFUSED_SECONDS = 300.0
"""How long who has refused TCP is not asked again: a phone does not learn it, and one that drops SYNs costs each try 2 s."""

DESTINATIONS = 1000
"""Destinations of which the log has been told, the oldest forgotten."""

log = logging.getLogger("sippet_gevent.core")


class Detours:
    """What is known of destinations that long requests go to. `octets` is the longest request that goes by UDP."""

    __slots__ = ("_lines", "_refused", "_told", "octets")

    def __init__(self, octets: int, lines: LimitedLog | None = None) -> None:
        self._lines = lines or LimitedLog()
        self.octets: float = octets or float("inf")
        self._refused = GreyList(REFUSED_SECONDS)
        self._told: dict[tuple[object, ...], None] = {}

    def lead_around(self, flow: Flow, size: int, transports: Iterable[Transport], now: float) -> bool:
        """True when TCP is to be tried in place of a flow of datagrams; False where that is all there is. The log says why."""
        host, port = flow.remote
        if flow.transport.reliable:
            return False
        if not any(t.name == "TCP" and (":" in t.local[0]) == (":" in host) for t in transports):
            self._tell(flow, size, "there is no TCP transport of ours, so it goes by UDP all the same")
        elif self._refused.holds(("TCP", host, port), now):
            self._tell(flow, size, "TCP was refused there, so it goes by UDP all the same")
        else:
            self._tell(flow, size, "it goes by TCP (RFC 3261 §18.1.1)")
            return True
        return False

    def refused(self, flow: Flow, now: float) -> None:
        """Remember that a detour has led nowhere: TCP is not spoken there."""
        self._refused.add(("TCP", *flow.remote), now)

    def _tell(self, flow: Flow, size: int, what: str) -> None:
        """Say it in the log, once for each destination."""
        key = (*flow.remote, what)
        if key not in self._told:
            if len(self._told) >= DESTINATIONS:
                del self._told[next(iter(self._told))]
            self._told[key] = None
            text = f"a request of %d octets to %r is too long for a datagram: {what}"
            self._lines.line(log, logging.INFO, "too long", text, size, flow)


def is_too_long(failure: object) -> bool:
    """True when the system would not take a datagram because of its length: the way's MTU is known, after all."""
    return isinstance(failure, SIPError) and getattr(failure.__cause__, "errno", None) == errno.EMSGSIZE
