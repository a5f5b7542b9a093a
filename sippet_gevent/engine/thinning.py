"""Thinning: how much less clients with overload control should send, by the share of new requests
that is not served (RFC 7339 §5.3). Pure."""

from __future__ import annotations

FIRST = 0.1
"""The part when an overload begins. Its size is not known yet, and it is measured soon."""

GAIN = 0.3
"""How much of the share that was not served counts in one period. A request waits for two or three
periods before it is refused, so each excess is seen as often."""

RETURN = 1.05
"""Factor in a period for what clients send, while all is served. So they return within a second or
two, and not all at once."""

MOST = 0.98
"""The greatest part. A client that sends nothing hears nothing, so its control would end while the
overload lasts, and all that it holds back would come."""

MOST_PERIODS = 10.0
"""Most periods that one reading makes up for."""


class Thinning:
    """The part of the requests that clients should not send.

    A delay alone does not tell how much is too much: the oldest of the requests that wait is as old
    as it may become in a small overload, too. So the part follows the share of the new requests
    that is refused or dropped. With the right part, that share is nothing.

    Args:
        period: Seconds between two changes.
        target: The delay in the kernel that is wanted, in seconds.
        patience: The delay in the kernel that is too much, in seconds.
    """

    __slots__ = ("_changed", "_patience", "_period", "_target", "part", "served", "unserved")

    def __init__(self, period: float, target: float, patience: float) -> None:
        self._period, self._target, self._patience = period, target, patience
        self._changed = 0.0
        self.part = 0.0
        """0 to MOST."""
        self.served = self.unserved = 0
        """New requests of this period. Overload counts them here."""

    def begin(self, now: float) -> None:
        """Begin with FIRST, or with what is left of the last overload."""
        self.part = max(self.part, FIRST)
        self.served = self.unserved = 0
        self._changed = now

    def follow(self, now: float, delay: float, oldest: float = 0.0) -> float:
        """Return the part, after it has followed the requests of the period.

        Args:
            now: The time.
            delay: The delay in the kernel.
            oldest: For how long the oldest new request waits. While that exceeds the target, the
                part does not fall, because the request may not be served.
        """
        periods = min((now - self._changed) / self._period, MOST_PERIODS)
        if periods >= 1:
            share = self.unserved / max(self.served + self.unserved, 1)
            late = min(max((delay - self._target) / self._patience, 0.0), 1.0)
            excess = max(share, late)
            factor = 1 - GAIN * excess if excess else 1.0 if oldest > self._target else RETURN
            self.part = min(max(1 - (1 - self.part) * factor**periods, 0.0), MOST)
            self.served = self.unserved = 0
            self._changed = now
        return self.part
