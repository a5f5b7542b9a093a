"""TimeShare: a part of the time for one kind of request in overload. Pure."""

from __future__ import annotations

from ..runtime.rates import source_of
from .sources import SHARE, Sources

LEAST_COST = 0.0001
"""Seconds that one request takes at least, with what follows later: what a store does after a
REGISTER, or how long a transaction is kept."""


class TimeShare:
    """Counts the requests of one kind in windows of time, and bounds them by the time they take.

    Args:
        part: Part of the time that they may take.
        window: Seconds.
        sources: Knows which sources are exempt. Any other may have SHARE of these requests.
    """

    __slots__ = ("_by_source", "_cost", "_ends", "_part", "_sources", "_total", "_window", "passed")

    def __init__(self, part: float, window: float, sources: Sources) -> None:
        self._part, self._window = part, window
        self._sources = sources
        self._cost = LEAST_COST
        self._ends = 0.0
        self._total = 0
        self._by_source: dict[str, int] = {}
        self.passed: dict[int, str] = {}
        """The sources of the requests that have passed in this window, by the hash of the key of
        their transaction. The client chooses the length of a key."""

    def may_pass(self, host: str, key: str, now: float) -> bool:
        """True while there is time for these requests, and the source has some of it. Counts
        one."""
        if now >= self._ends:
            self._ends = now + self._window
            self._by_source.clear()
            self.passed.clear()
            self._total = 0
        most = max(self._part * self._window / self._cost, 1.0)
        source = source_of(host)
        has = self._by_source.get(source, 0)
        if self._total >= most:
            return False
        if has >= max(SHARE * most, 1.0) and not self._sources.is_exempt(host):
            return False
        self._by_source[source] = has + 1
        self._total += 1
        self.passed[hash(key)] = source
        return True

    def give_back(self, key: str) -> None:
        """Stop counting a request that has passed, because it was not of this kind."""
        source = self.passed.pop(hash(key), None)
        if source is not None:
            self._by_source[source] -= 1
            self._total -= 1

    def took(self, seconds: float) -> None:
        """Take the time that one has taken. More than a window is a pause of the process."""
        self._cost += (min(max(seconds, LEAST_COST), self._window) - self._cost) / 8
