"""Lateness: whether messages wait so long that it is an overload. Pure.

All times are parts of T1, because after T1 a client sends its request again.

A single pause of the process, for a collection of garbage or a slow write to a disk, is no
overload, and the queue behind it is served. After a pause the waits jump at once. In an overload
they rise from report to report, or the kernel drops again and again.
"""

from __future__ import annotations

LATE = 0.1
"""Of T1, 50 ms: a wait in the kernel that is longer is late. That alone is no overload."""

STANDING = 0.2
"""Of T1, 100 ms: it is an overload if all waits are late for so long."""

RISE = 0.05
"""Of T1, 25 ms: it is an overload at once if waits are late and have risen by more than this."""

JUMP = 0.025
"""Of T1, 12.5 ms: the most that counts of one rise, because a pause is a single large rise."""

DROPPING = 0.1
"""Of T1, 50 ms: it is an overload if the kernel drops for so long. Where the system grants a small
buffer, it is full before a wait is late."""

LOOP = "loop"
"""The source of reports of timers. They rise and fall with the turns of the loop."""


class Lateness:
    """Takes the waits that sockets and timers report, and tells when they are an overload.

    Args:
        t1: T1, in seconds.
    """

    __slots__ = ("_dropping", "_drops", "_jump", "_queues", "_rise", "late", "standing")

    def __init__(self, t1: float) -> None:
        self.late = LATE * t1
        """Seconds. A shorter wait is not late."""
        self.standing = STANDING * t1
        """Seconds for which waits must be late."""
        self._rise, self._jump, self._dropping = RISE * t1, JUMP * t1, DROPPING * t1
        self._queues: dict[object, _Queue] = {}
        self._drops: dict[object, tuple[float, float]] = {}  # the first report and the last

    def is_overload(
        self, source: object, seconds: float, now: float, *, stands: bool, dropped: bool = False
    ) -> bool:
        """Take a report; see Overload.waited(). True if the messages of its source wait so long
        that it is an overload."""
        if dropped and self._drops_stand(source, now):
            return True
        queue = self._queues.get(source) if stands else None
        if queue is None:
            if seconds < self.late and not stands:
                self._queues.pop(source, None)  # most reports: there is no queue
                return False
            queue = self._queues[source] = _Queue()
        rise = seconds - queue.wait
        queue.wait = seconds
        queue.is_behind_a_pause = queue.is_behind_a_pause or rise >= self.late
        queue.risen = max(queue.risen + min(rise, self._jump), 0.0)
        if seconds < self.late:
            queue.late_since = None
            return False
        if queue.late_since is None:
            queue.late_since = now
        if queue.risen > self._rise and not queue.is_behind_a_pause and source != LOOP:
            return True
        return now - queue.late_since >= self.standing

    def _drops_stand(self, source: object, now: float) -> bool:
        """Note that the kernel has dropped. True if it has done so again and again for DROPPING.

        The socket may be empty in between, because one burst may read a small buffer."""
        since, last = self._drops.get(source, (now, now))
        if now - last >= self._dropping:
            since = now
        self._drops[source] = since, now
        return now - since >= self._dropping

    def clear(self) -> None:
        """Forget all reports."""
        self._queues.clear()
        self._drops.clear()


class _Queue:
    """A queue that has not been empty since its first report."""

    __slots__ = ("is_behind_a_pause", "late_since", "risen", "wait")

    def __init__(self) -> None:
        self.wait = self.risen = 0.0
        self.is_behind_a_pause = False
        """True after one rise of LATE or more. After a pause the peers get all answers at once, and
        send their next messages in a burst. So later rises prove no overload."""
        self.late_since: float | None = None
