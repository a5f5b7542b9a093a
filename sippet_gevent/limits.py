"""Limits: how much of everything a stack takes on, with the reason beside each; TokenBuckets: rates by source."""

from __future__ import annotations

from dataclasses import dataclass, field

from .message.parser import DEFAULT_LIMITS, ParserLimits


@dataclass(frozen=True)
class Limits:
    """The limits of one stack: `Stack(..., limits=Limits(handlers=200))`."""

    parser: ParserLimits = field(default=DEFAULT_LIMITS)
    """What one message may measure."""
    handlers: int = 1000
    """Cores that wait at one time; a new request beyond them gets 503. Each holds a greenlet of some 10 KB."""
    transactions: int = 1_000_000
    """Transactions at one time; a new request beyond them gets 503. 20,000 requests a second linger as 640,000."""
    retry_after: tuple[int, int] = (1, 10)
    """Seconds, from and to: Retry-After of a 503 is drawn between them, so that clients do not come back at once."""
    errors_per_second: float = 10.0
    """400s and their like to one source, at most: a forged source must not be flooded through us."""
    errors_burst: float = 20.0
    """How many of them at once."""
    sources: int = 10_000
    """Sources whose error rate is remembered; forgotten all at once when there are more."""
    any_response_source: bool = False
    """True takes responses from an address the request was not sent to, as some multi-homed servers send them."""


class TokenBuckets:
    """A rate for each key: `take(key, now)` is False when the key has used its share. Bounded, the excess forgotten."""

    __slots__ = ("_burst", "_keys", "_levels", "_rate")

    def __init__(self, rate: float, burst: float, keys: int) -> None:
        self._rate = rate
        self._burst = burst
        self._keys = keys
        self._levels: dict[object, tuple[float, float]] = {}

    def take(self, key: object, now: float) -> bool:
        """Take one token of this key; False when there is none."""
        level, at = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        if len(self._levels) >= self._keys and key not in self._levels:
            self._levels.clear()
        self._levels[key] = (level - 1 if level >= 1 else level, now)
        return level >= 1
