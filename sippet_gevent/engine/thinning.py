"""Thinning: how much less clients with overload control should send, by the queue delay (RFC 7339
§5.3). Pure."""

from __future__ import annotations

FIRST = 0.5
"""The part when an overload begins, because its size is not known yet."""

STEP = 0.25
"""The change in a period for a delay that exceeds the target by `patience`."""

MOST_PERIODS = 10.0
"""Most periods that one reading makes up for."""


class Thinning:
    """The part of the requests that clients should not send.

    While new requests wait for longer than the target, it grows with their delay. Otherwise it
    falls, also after the end of the overload, so that what clients hold back does not return all at
    once.

    Args:
        period: Seconds between two changes.
        target: The queue delay that is wanted, in seconds.
        patience: The queue delay that is too much, in seconds.
    """

    __slots__ = ("_changed", "_patience", "_period", "_target", "part")

    def __init__(self, period: float, target: float, patience: float) -> None:
        self._period, self._target, self._patience = period, target, patience
        self._changed = 0.0
        self.part = 0.0
        """0 to 1."""

    def begin(self, now: float) -> None:
        """Begin with FIRST, or with what is left of the last overload."""
        self.part = max(self.part, FIRST)
        self._changed = now

    def follow(self, now: float, delay: float) -> float:
        """Return the part, after it has followed this queue delay."""
        periods = (now - self._changed) / self._period
        if periods >= 1:
            excess = min((delay - self._target) / self._patience, 1.0)
            change = STEP * excess * min(periods, MOST_PERIODS)
            self.part = min(max(self.part + change, 0.0), 1.0)
            self._changed = now
        return self.part
