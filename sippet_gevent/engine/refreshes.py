"""Refreshes: REGISTERs that do not wait in overload because they look like refreshes of bindings
(RFC 3261 §10.2.4). Pure."""

from __future__ import annotations

from ..runtime.rates import source_of
from .sources import SHARE, Sources

REFRESHES = 0.25
"""Part of the time that they may take. Anybody can write credentials or a high CSeq, so those
beyond this part wait, as new requests do."""

LEAST_COST = 0.0001
"""Seconds that one takes at least, with what a store does after it."""


class Refreshes:
    """Counts refreshes in windows of time.

    Args:
        window: Seconds.
        sources: Knows which sources are exempt. Any other may have SHARE of the refreshes.
    """

    __slots__ = ("_by_source", "_cost", "_ends", "_sources", "_total", "_window")

    def __init__(self, window: float, sources: Sources) -> None:
        self._window = window
        self._sources = sources
        self._cost = LEAST_COST
        self._ends = 0.0
        self._total = 0
        self._by_source: dict[str, int] = {}

    def may_pass(self, host: str, now: float) -> bool:
        """True while there is time for refreshes, and the source has some of it. Counts one."""
        if now >= self._ends:
            self._ends = now + self._window
            self._by_source.clear()
            self._total = 0
        most = max(REFRESHES * self._window / self._cost, 1.0)
        source = source_of(host)
        has = self._by_source.get(source, 0)
        if self._total >= most:
            return False
        if has >= max(SHARE * most, 1.0) and not self._sources.is_exempt(host):
            return False
        self._by_source[source] = has + 1
        self._total += 1
        return True

    def took(self, seconds: float) -> None:
        """Take the time that one has taken."""
        self._cost += (max(seconds, LEAST_COST) - self._cost) / 8
