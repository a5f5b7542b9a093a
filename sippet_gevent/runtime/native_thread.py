"""NativeThread: a thread of the operating system for calls that block, such as those of SQLite.

gevent's own thread pool has a new wake-up of the loop for each call, which costs 70 us. This thread
takes all waiting jobs at once, and hands them back with one wake-up. It uses the primitives that
gevent has not patched, so it is the same in a patched process.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import gevent
from gevent import monkey
from gevent.event import AsyncResult

from ..errors import StoreError

T = TypeVar("T")

# Not those of a patched process, which switch greenlets and know nothing of threads.
_start, _thread_id = monkey.get_original("_thread", ("start_new_thread", "get_ident"))
_now = time.perf_counter
_Queue, Empty = monkey.get_original("queue", ("SimpleQueue", "Empty"))

AT_ONCE = 4
"""Greenlets that go on in one turn of the loop. Hundreds wait for a disk that stalls. If all of
them went on in one turn, everything else would wait."""

SHARE = 0.0003
"""Seconds of the turn before for which one more greenlet goes on. In a turn of a busy loop, many
datagrams are read. If no more than AT_ONCE greenlets went on beside them, the jobs would come back
more slowly than they are given."""

_busy: set[NativeThread] = set()
"""Threads that have jobs to do."""


def are_busy() -> bool:
    """True while a thread that serves this loop has jobs to do, which take real time."""
    here, process = _thread_id(), os.getpid()
    return any(thread._loop_thread == here and thread._pid == process for thread in list(_busy))


class Job:
    """Something that a NativeThread has to do."""

    __slots__ = ("_result", "error")

    def __init__(self) -> None:
        self.error: Exception | None = None
        """Why it has failed; the thread sets it."""
        self._result = AsyncResult()

    def done(self) -> None:
        """Let the waiting greenlets go on. Called in the thread of the loop."""
        self._result.set(None)

    def wait_quietly(self) -> None:
        """Wait in a greenlet until the job is done, or has failed."""
        self._result.wait()


class Call(Job, Generic[T]):
    """A job with a result. The thread sets `value` or `error`."""

    __slots__ = ("value",)

    value: T

    def wait(self) -> T:
        """Wait in a greenlet until the job is done. Return its value, or raise its error."""
        self._result.wait()
        if self.error is not None:
            raise self.error
        return self.value


class NativeThread:
    """Runs jobs in one thread of the operating system.

    `run(thread)` is the function of the thread. It calls `take()` for jobs, and `hand_back()` with
    those that are done. It must never call gevent, nor anything of an application that might.

    Jobs are done in the order in which hand_back() gets them. All greenlets that give jobs belong
    to the loop of one thread.
    """

    __slots__ = (
        "_done", "_has_ended", "_has_more", "_jobs", "_loop_thread", "_pid", "_turned_at", "_wake",
        "waiting",
    )  # fmt: skip

    def __init__(self, run: Callable[[NativeThread], None]) -> None:
        self._jobs = _Queue()
        self._done: deque[Job] = deque()
        self._loop_thread = _thread_id()
        self._pid = os.getpid()
        self._has_ended = False
        self._has_more = False  # are left to hand back in the next turn
        self._turned_at = 0.0
        self.waiting = 0
        """Jobs that were given and are not done yet."""
        # While nothing waits, the watcher does not keep the loop running.
        self._wake = gevent.get_hub().loop.async_(ref=False)
        self._wake.start(self._finish)
        _start(self._run, (run,))

    def _run(self, run: Callable[[NativeThread], None]) -> None:
        try:
            run(self)
        finally:
            self._has_ended = True

    # ---- in the thread of the loop

    def give(self, job: Job) -> None:
        """Give a job to the thread. Raises StoreError in another thread, or after a fork."""
        if os.getpid() != self._pid:
            raise StoreError(
                "a store was opened before a fork and is used after it: open it in each process"
            )
        if _thread_id() != self._loop_thread:
            raise StoreError(
                "a store is used in another thread than it was opened in: open one in each thread"
            )
        if not self.waiting:
            self._wake.ref = True
            _busy.add(self)
        self.waiting += 1
        self._jobs.put(job)

    def _finish(self) -> None:
        done, now = self._done, _now()
        # the time of a turn without jobs to hand back says nothing
        most = AT_ONCE + int((now - self._turned_at) / SHARE) if self._has_more else AT_ONCE
        self._turned_at = now
        for _ in range(min(len(done), most)):
            self.waiting -= 1
            done.popleft().done()
        self._has_more = bool(done)
        if done:
            self._wake.send()  # the loop reads its sockets before it comes back
        if not self.waiting:
            self._wake.ref = False
            _busy.discard(self)

    def close(self) -> None:
        """Wait for the end of the thread, which has handed back its last job, and free the
        watcher."""
        while not self._has_ended:  # it may be between hand_back() and its end
            gevent.sleep(0.0005)
        _busy.discard(self)
        self._wake.stop()
        self._wake.close()

    # ---- in the thread of the operating system

    def take(self, most: int, seconds: float | None = None) -> list[Job]:
        """Wait for a job and return it with those behind it, `most` at most.

        Args:
            most: Most jobs.
            seconds: Longest time to wait; then the list may be empty. None for no limit.
        """
        get, jobs = self._jobs.get, []
        try:
            jobs.append(get(True, seconds))
            while len(jobs) < most:
                jobs.append(get(False))
        except Empty:
            pass
        return jobs

    def hand_back(self, jobs: Sequence[Job]) -> None:
        """Let the greenlets go on that wait for these jobs, AT_ONCE of them in a turn of the
        loop."""
        self._done.extend(jobs)
        self._wake.send()
