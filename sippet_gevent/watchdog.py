"""Watchdog: notices code that blocks the loop, and says which line it was."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import gevent
from gevent import monkey

log = logging.getLogger("sippet_gevent.core")

LAG = 0.25
"""Seconds the loop may stand still: more, and peers begin to retransmit (T1 is 0.5 s)."""


class Watchdog:
    """A native thread that watches a heartbeat of the loop. `blocked` counts the times it stood still for over `lag`.

    The stack that is logged is what the loop's thread was running: a blocking call that was not patched, or a long
    computation. One log line for each time.
    """

    def __init__(self, lag: float = LAG) -> None:
        self.lag = lag
        self.blocked = 0
        self.last_stack = ""
        self._beat = 0
        self._timer: Any = None
        self._running = False
        thread = "_thread"
        self._start_thread = monkey.get_original(thread, "start_new_thread")
        self._lock = monkey.get_original(thread, "allocate_lock")
        self._sleep = monkey.get_original("time", "sleep")
        self._ident = monkey.get_original(thread, "get_ident")

    def start(self) -> None:
        """Begin to watch the loop of the current thread."""
        self._watched = self._ident()
        self._running = True
        self._timer = gevent.get_hub().loop.timer(self.lag / 5, repeat=self.lag / 5, ref=False)
        self._timer.start(self._tick)
        self._start_thread(self._watch, ())

    def stop(self) -> None:
        """Watch no longer."""
        self._running = False
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _tick(self) -> None:
        self._beat += 1

    def _watch(self) -> None:
        seen, reported = self._beat, False
        while self._running:
            self._sleep(self.lag)
            if self._beat != seen:
                seen, reported = self._beat, False
            elif self._running and not reported:
                reported = True
                self.blocked += 1
                frame = sys._current_frames().get(self._watched)
                self.last_stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"
                log.warning("the loop has stood still for over %g s in:\n%s", self.lag, self.last_stack)
