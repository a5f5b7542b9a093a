"""Lateness: whether messages have been late for so long that it is an overload. Pure.

All times are parts of T1, because after T1 a client sends its request again.
"""

from __future__ import annotations

LATE = 0.1
"""Of T1, 50 ms: a wait in the kernel that is late. That alone is no overload; see STANDING."""

STANDING = 0.2
"""Of T1, 100 ms: for so long all waits must be late before the state is Refusing. The queue behind
a single pause of the process is served before that, and nobody is refused."""


class Lateness:
    """Takes the waits that sockets and timers report, and tells when they are an overload.

    Args:
        t1: T1, in seconds.
    """

    __slots__ = ("_late_since", "late", "standing")

    def __init__(self, t1: float) -> None:
        self.late = LATE * t1
        """Seconds. A shorter wait is not late."""
        self.standing = STANDING * t1
        """Seconds for which waits must be late."""
        self._late_since: dict[object, float] = {}

    def is_overload(self, source: object, seconds: float, now: float, *, stands: bool) -> bool:
        """Take a report; see Overload.waited(). True if the waits of its source are an overload."""
        if seconds < self.late:
            self._late_since.pop(source, None)
            return False
        since = self._late_since.setdefault(source, now) if stands else now
        self._late_since[source] = since
        return now - since >= self.standing

    def clear(self) -> None:
        """Forget all reports."""
        self._late_since.clear()
