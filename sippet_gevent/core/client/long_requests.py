"""Long requests: those over 1300 bytes, which go by TCP instead of UDP, RFC 3261 §18.1.1.

The limit of 1300 bytes applies to paths of unknown MTU, and this stack never knows the MTU. The
rule is a MUST, whatever the transport parameter of the URI says. It does not apply to responses,
because they return the way the request came.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable

from ...errors import SIPError
from ...observe.counters import LimitedLog
from ...transport.base import Flow, Transport
from .targets import GreyList

DETOUR_SECONDS = 2.0
"""Seconds that the connection for a long request may take. A lost SYN is repeated after one second.
The time is short because UDP is tried afterwards, while a timer F upstream already runs."""

REFUSED_SECONDS = 300.0
"""How long to remember that a destination refused TCP. A phone without TCP will not have it soon,
and each try at a phone that drops SYNs costs 2 s."""

DESTINATIONS = 1000
"""Most destinations whose log line is remembered. The oldest is forgotten first."""

log = logging.getLogger("sippet_gevent.core")


class Detours:
    """Decides which long requests go by TCP instead of UDP, and logs the decision.

    Args:
        size: Bytes of the longest request that goes by UDP; 0 for no limit.
        lines: Writes the log lines.
    """

    __slots__ = ("_lines", "_logged", "_refused", "size")

    def __init__(self, size: int, lines: LimitedLog | None = None) -> None:
        self._lines = lines or LimitedLog()
        self.size: float = size or float("inf")
        self._refused = GreyList(REFUSED_SECONDS)
        self._logged: dict[tuple[object, ...], None] = {}

    def lead_around(
        self, flow: Flow, size: int, transports: Iterable[Transport], now: float
    ) -> bool:
        """True when a request of `size` bytes is to be tried by TCP in place of this flow.

        False for a flow of a stream, where the stack has no TCP, and where TCP was refused.
        """
        host, port = flow.remote
        if flow.transport.reliable:
            return False
        if not any(t.name == "TCP" and (":" in t.local[0]) == (":" in host) for t in transports):
            self._log(flow, size, 'UDP reason="no TCP listener of this IP version"')
        elif self._refused.holds(("TCP", host, port), now):
            self._log(flow, size, 'UDP reason="TCP was refused there"')
        else:
            self._log(flow, size, 'TCP reason="RFC 3261 §18.1.1"')
            return True
        return False

    def refused(self, flow: Flow, now: float) -> None:
        """Remember that the peer of a flow does not accept TCP."""
        self._refused.add(("TCP", *flow.remote), now)

    def _log(self, flow: Flow, size: int, what: str) -> None:
        """Write a log line, once for each destination."""
        key = (*flow.remote, what)
        if key not in self._logged:
            if len(self._logged) >= DESTINATIONS:
                del self._logged[next(iter(self._logged))]
            self._logged[key] = None
            text = f"request too long for a datagram: bytes=%d flow=%s goes_by={what}"
            self._lines.line(log, logging.INFO, "too long", text, size, flow)


def is_too_long(failure: object) -> bool:
    """True when the kernel has refused a datagram for its length, because it knows the MTU of the
    path."""
    return (
        isinstance(failure, SIPError)
        and getattr(failure.__cause__, "errno", None) == errno.EMSGSIZE
    )
