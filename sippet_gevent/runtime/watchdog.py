"""Watchdog: logs the line of code that blocks the loop, and ends a blocked process when signals ask
for it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Collection
from select import PIPE_BUF
from types import FrameType
from typing import Any

import gevent
from gevent import monkey
from gevent.hub import Hub

log = logging.getLogger("sippet_gevent.core")

LAG = 0.25
"""Seconds that the loop may be blocked. After more, peers begin to retransmit (T1 is 0.5 s)."""

END_SECONDS = 1.0
"""Seconds that the loop has for the second signal that asks the process to end. Then the watchdog
ends the process."""


_IN_PROGRAM = "this code did not return to the loop"
_IN_LOOP = "no Python code runs, so the machine is busy, or the process was stopped"


class Watchdog:
    """A native thread that watches a heartbeat of the loop.

    `blocked` counts the times that the loop was blocked for more than `lag` seconds. Each time, one
    log line shows the code that blocked, such as a blocking call that was not patched, or a long
    computation.

    A blocked loop handles no signals, so the thread receives the `ending` signals, too. When two of
    them have arrived and the loop does not move for END_SECONDS, the thread ends the process with
    the status that a shell shows for the signal. It receives a signal even while the loop is in C
    code, unless that holds Python's global lock.
    """

    def __init__(self, lag: float = LAG) -> None:
        self.lag = lag
        self.blocked = 0
        self.last_stack = ""
        self._ending: frozenset[int] = frozenset()
        self._beat = 0
        self._timer: Any = None
        self._running = False
        thread = "_thread"
        self._start_thread = monkey.get_original(thread, "start_new_thread")
        self._lock = monkey.get_original(thread, "allocate_lock")
        self._select = monkey.get_original("select", "select")
        self._monotonic = monkey.get_original("time", "monotonic")
        self._ident = monkey.get_original(thread, "get_ident")

    def start(self, ending: Collection[int] = ()) -> None:
        """Begin to watch the loop of the current thread.

        Args:
            ending: Numbers of signals that ask the process to end. With them, the thread must be
                the main thread.
        """
        self._ending = frozenset(ending)
        self._watched = self._ident()
        self._timer = gevent.get_hub().loop.timer(self.lag / 5, repeat=self.lag / 5, ref=False)
        self._timer.start(self._tick)
        self._signals = _Signals(wanted=bool(self._ending))
        self._running = True
        self._at_work = self._lock()
        self._at_work.acquire()
        self._start_thread(self._work, ())

    def stop(self) -> None:
        """Stop watching. Waits for the thread, which ends at once."""
        if self._timer is not None:
            self._running = False
            self._signals.wake()
            self._at_work.acquire()
            self._signals.close()
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _tick(self) -> None:
        self._beat += 1

    def _work(self) -> None:
        try:
            self._watch()
        finally:
            self._at_work.release()

    def _watch(self) -> None:
        seen, since, reported = self._beat, self._monotonic(), False
        asked: list[int] = []
        while self._running:
            self._select([self._signals.reader], [], [], self.lag)
            now = self._monotonic()
            if self._beat != seen:
                seen, since, reported = self._beat, now, False
                asked = asked[-1:]  # the loop has handled the earlier signals
            asked += [number for number in self._signals.heard() if number in self._ending]
            if len(asked) > 1 and now - since >= END_SECONDS:
                self._end(asked[-1])
            if now - since >= self.lag and not reported and self._running:
                reported = True
                self.blocked += 1
                frame = sys._current_frames().get(self._watched)  # it may run on meanwhile
                self.last_stack = _text(frame)
                idle = frame is not None and frame.f_code is Hub.run.__code__
                del frame  # it would keep the variables of the program
                self._start_thread(
                    self._report, (self.last_stack, _IN_LOOP if idle else _IN_PROGRAM)
                )

    def _report(self, stack: str, reason: str) -> None:
        """Log the stack, in a thread of its own. The loop may be blocked by the log itself, whose
        lock it holds."""
        log.warning('loop blocked: seconds=%g reason="%s" stack=\n%s', self.lag, reason, stack)

    def _end(self, number: int) -> None:
        """End the process without its main thread, which is blocked, and without its locks.

        Writes the text to stderr, or the part of it that stderr takes at once.
        """
        try:
            name = signal.Signals(number).name
            stack = _text(sys._current_frames().get(self._watched))
            text = f"loop takes no signals: ended_by={name} stack=\n{stack}"
            # else 2 is closed, or a socket of ours
            if sys.__stderr__ is not None and self._select([], [2], [], 0)[1]:
                os.write(2, text.encode("utf-8", "backslashreplace")[:PIPE_BUF])
        finally:
            os._exit(128 + number)


def _text(frame: FrameType | None) -> str:
    return "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"


class _Signals:
    """The numbers of signals that arrive. Python's C handler writes them into a socket at once.

    If the application has called signal.set_wakeup_fd() itself, nothing is received here.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.reader, self._writer = monkey.get_original("socket", "socketpair")()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self._is_set = False
        if wanted:
            before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._is_set = before == -1
            if not self._is_set:
                signal.set_wakeup_fd(before)

    def heard(self) -> bytes:
        """Return the numbers of the signals that have arrived since the last call. Never waits."""
        try:
            numbers: bytes = self.reader.recv(64)
        except BlockingIOError:
            return b""
        return numbers

    def wake(self) -> None:
        """Wake the thread that waits for the reader."""
        self._writer.send(b"\0")

    def close(self) -> None:
        """Stop receiving signals."""
        if self._is_set:
            signal.set_wakeup_fd(-1)
        self.reader.close()
        self._writer.close()
