"""Memory: how much memory the process uses and may use, and a watch on that.

A process that takes more than its container may have is killed by the kernel, with all its calls.
So new work is refused before that.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getpagesize, getrusage
from typing import Any

import gevent

log = logging.getLogger("sippet_gevent.core")

INTERVAL = 0.1
"""Seconds between two looks. 30,000 requests a second take 9 MB meanwhile."""

LEAST_WORK = 1000
"""Transactions and calls that are served in any case. If other things of the process take the
memory, its few calls must not be refused forever."""

ROOM = 0.9
"""Part of the work at which the limit was reached that is served from then on. Python keeps freed
memory for new objects, so the size of the process tells little once it has been large."""

GROWTH = 1.02
"""Growth since then, after which less work is served."""

COLLECTS = 60.0
"""Least seconds between two collections of all garbage while the limit is exceeded. One takes a
quarter of a second with 20,000 ringing calls."""

_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 for no limit


def resident() -> int:
    """Return the bytes of memory that this process has; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


def most_resident() -> int:
    """Return the most bytes that this process has had.

    It reads no file. Each system call that does gives Python's lock to another thread, such as that
    of SQLite, and the loop waits until it has the lock again.
    """
    most = getrusage(RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # the systems differ


def allowed(root: str = "") -> int:
    """Return the bytes of memory that this process may have; 0 where the system does not tell.

    That is the least of the limits of its control groups and the memory of the machine.

    Args:
        root: The folder in which /proc and /sys are found, for tests.
    """
    found = []
    for line in _lines(f"{root}/proc/meminfo"):
        if line.startswith("MemTotal:"):
            found.append(int(line.split()[1]) * 1024)
    for line in _lines(f"{root}/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = f"{root}/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = f"{root}/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        folder = Path(path.lstrip("/"))
        for part in (folder, *folder.parents):  # the limits of all groups around it hold, too
            for value in _lines(f"{base}/{part}/{name}"):
                if value.isdecimal() and int(value) < _UNLIMITED:
                    found.append(int(value))
    return min(found, default=0)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


class MemoryWatch:
    """Looks at the memory of the process ten times a second, and tells a stack to refuse new work.

    Args:
        work: Returns how much work the stack has: transactions and calls.
        tell: Called with True when new work has to be refused, and with False afterwards.
        used: Returns the bytes that the process has.
        peak: Returns the most that it has had, which costs less. `used` is asked when that exceeds
            the limit.
    """

    __slots__ = (
        "_collected", "_is_over", "_most", "_peak", "_tell", "_timer", "_used", "_work", "_worst",
        "limit",
    )  # fmt: skip

    def __init__(
        self,
        work: Callable[[], int],
        tell: Callable[[bool], None],
        used: Callable[[], int] = resident,
        peak: Callable[[], int] = most_resident,
    ) -> None:
        self.limit = 0
        """The bytes beyond which new work is refused; 0 for no limit."""
        self._work = work
        self._tell = tell
        self._used = used
        self._peak = peak
        self._is_over = False
        self._most = 0.0  # work that is served while the limit is exceeded
        self._worst = 0.0
        self._collected = -COLLECTS
        self._timer: Any = None

    def start(self, limit: int) -> None:
        """Begin to look. Nothing happens without a limit, or where memory cannot be measured."""
        self.stop()
        self.limit = limit
        if limit and self._used():
            self._timer = gevent.get_hub().loop.timer(INTERVAL, repeat=INTERVAL, ref=False)
            self._timer.start(self.look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._set(False)
        self._worst = 0.0

    def look(self) -> None:
        """Compare memory and limit, and tell the stack."""
        used = self._peak()
        if used >= self.limit:
            used = self._used()
        if used < self.limit:
            self._worst = 0.0
            self._set(False)
            return
        self._collect()  # garbage in cycles must not cause refusals
        work = self._work()
        if used > self._worst:
            self._worst = used * GROWTH
            most = max(ROOM * work, LEAST_WORK)
            self._most = most if not self._is_over else min(most, self._most)
        self._set(work >= self._most)

    def _collect(self) -> None:
        """Collect all garbage, unless the program has switched the collector off. The process may
        stay as large, but its next objects take the memory that was freed."""
        now = time.monotonic()
        if now - self._collected >= COLLECTS and gc.isenabled():
            self._collected = now
            gc.collect()

    def _set(self, is_over: bool) -> None:
        if is_over is not self._is_over:
            self._is_over = is_over
            self._tell(is_over)
