"""Collector: collects Python's garbage in short runs, so that no run stops the server for long.

Python begins a collection when 700 more objects were made than freed since the last one. A server
frees the transactions of half a minute ago (timer J, RFC 3261 §17.2.2) as fast as it makes new
ones. So the count stays near zero, and tens of thousands of new objects pile up. In the end one
collection looks at all of them. It takes 40 to 90 ms, in which nothing is served.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
from types import TracebackType
from typing import Any

import gevent

from .memory import resident

log = logging.getLogger("sippet_gevent")

INTERVAL = 0.02
"""Seconds between two collections of the objects that are new."""

FULL_COLLECTIONS = 1_000_000_000
"""Least number of such collections between two full ones that Python begins itself: months of them.

A full collection looks at all objects, which takes a quarter of a second with 20,000 ringing calls.
With Python's default it would come five times a second. Objects of this library form no cycles, so
a full collection finds little."""

LOOK = 600.0
"""Seconds between two looks at the memory of Python's objects, and at that of the process."""

GROWTH = 2.0
"""A full collection follows when one of them has grown by this factor, from its least value since
the last one. Cycles that are not collected are part of that growth, so it bounds them. The memory
of the process counts, because a cycle that holds a large buffer is only a few of Python's
objects."""

_NEW = 1  # the youngest generation and the one after it: what is left of them counts as old


class Collector:
    """Collects new objects every 20 ms, and all objects when their memory has doubled, at most
    every ten minutes. A stack that runs has one, unless it is made with `Stack(tune_gc=False)`.

    A program without a stack uses it as a context manager, in the thread of its loop:

        with Collector():
            main_loop()
    """

    __slots__ = ("_least", "_looks", "_thresholds", "_timer")

    def __init__(self) -> None:
        self._timer: Any = None
        self._looks: Any = None
        # blocks of memory and bytes of the process, since the last full collection
        self._least = (0, 0)
        self._thresholds = gc.get_threshold()

    def start(self) -> None:
        """Begin. Nothing happens if it has begun already, or if the program has switched Python's
        collector off."""
        if self._timer is not None or not gc.isenabled():
            return
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*self._thresholds[:2], max(self._thresholds[2], FULL_COLLECTIONS))
        loop = gevent.get_hub().loop
        self._timer = loop.timer(INTERVAL, repeat=INTERVAL, ref=False)
        self._timer.start(gc.collect, _NEW)
        if self._thresholds[2] <= FULL_COLLECTIONS:  # or else the program wants fewer
            self._least = _sizes()
            self._looks = loop.timer(LOOK, repeat=LOOK, ref=False)
            self._looks.start(self._look)
        log.info(
            "garbage collector set: thresholds=%s before=%s interval=%g",
            _shown(gc.get_threshold()),
            _shown(self._thresholds),
            INTERVAL,
        )

    def _look(self) -> None:
        """Collect all objects if their memory, or that of the process, has grown by GROWTH."""
        (blocks, size), (least_blocks, least_size) = _sizes(), self._least
        if blocks >= GROWTH * least_blocks or size >= GROWTH * (least_size or math.inf):
            gc.collect()
            self._least = _sizes()
        else:
            self._least = min(blocks, least_blocks), min(size, least_size)

    def stop(self) -> None:
        """End, and give Python back the thresholds that it had."""
        if self._timer is None:
            return
        for timer in (self._timer, self._looks):
            if timer is not None:
                timer.stop()
                timer.close()
        self._timer = self._looks = None
        gc.set_threshold(*self._thresholds)
        log.info("garbage collector restored: thresholds=%s", _shown(self._thresholds))

    def __enter__(self) -> Collector:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class SharedCollector:
    """One Collector for all stacks of the process. It begins with the first and ends with the
    last."""

    __slots__ = ("_collector", "_users")

    def __init__(self) -> None:
        self._collector = Collector()
        self._users: set[int] = set()

    def join(self, user: object) -> None:
        """Begin, unless another stack has begun."""
        self._users.add(id(user))
        self._collector.start()

    def leave(self, user: object) -> None:
        """End, unless another stack still runs."""
        if id(user) in self._users:
            self._users.remove(id(user))
            if not self._users:
                self._collector.stop()


COLLECTOR = SharedCollector()
"""That of this process."""


def _sizes() -> tuple[int, int]:
    """Return the blocks of memory of Python's objects, and the bytes of the process; 0 where the
    system does not tell."""
    return sys.getallocatedblocks(), resident()


def _shown(thresholds: tuple[int, ...]) -> str:
    return ",".join(map(str, thresholds))
