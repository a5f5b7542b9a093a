"""Breaker: keeps callers from a store that fails, and lets one try from time to time. Pure."""

from __future__ import annotations

import math
import random
from collections import deque

FAILURES = 5
"""Failures within WINDOW that open a breaker. One lost connection of a pool is fewer."""

WINDOW = 10.0
"""Seconds."""

LEAST, MOST = 0.2, 10.0
"""Seconds until the next try, while the store fails. The longest wait doubles from try to try, and
the wait itself is random, so that the processes of a cluster do not try together."""


class Breaker:
    """The state of a store: closed while it works, open while it fails.

    Args:
        seed: For the generator of random numbers; only tests give one.
    """

    __slots__ = (
        "_counted_at",
        "_failures",
        "_next_try",
        "_random",
        "_tries",
        "failing_since",
        "is_open",
    )

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._counted_at = -math.inf
        self._tries = 0
        self._next_try = 0.0
        self.is_open = False
        """True after FAILURES within WINDOW, until a call has succeeded."""
        self.failing_since: float | None = None
        """The time of the first failure after the last success, None while the store works."""

    def allow(self, now: float) -> bool:
        """Return True if the store may be called now: always while it is closed, and for one try
        at a time while it is open."""
        if not self.is_open:
            return True
        if now < self._next_try:
            return False
        self._wait(now)
        return True

    def succeeded(self) -> None:
        """Note that a call has succeeded in time."""
        self._failures.clear()
        self._tries = 0
        self.is_open = False
        self.failing_since = None

    def failed(self, began: float, now: float) -> bool:
        """Note that a call has failed or was late; return True if that opens the breaker.

        Calls that run at the same time meet the same trouble, such as a disk that stalls for 0.75
        s. So a call that began before the last failure was counted belongs to that failure.

        Args:
            began: When the call began.
            now: The time.
        """
        if self.failing_since is None:
            self.failing_since = now
        if began < self._counted_at:
            return False
        self._counted_at = now
        if self.is_open:
            self._tries += 1
            self._wait(now)
            return False
        self._failures.append(now)
        if len(self._failures) < FAILURES or now - self._failures[0] > WINDOW:
            return False
        self.is_open = True
        self._tries = 1
        self._wait(now)
        return True

    def _wait(self, now: float) -> None:
        longest = min(MOST, LEAST * 2.0 ** min(self._tries, 10))
        self._next_try = now + self._random.uniform(LEAST, longest)
