"""Workers: recycled greenlets. Each carries one message from the socket to the end of its core.

A new greenlet costs about 10 us on CPython 3.11 and later, a parked one 0.6 us. So a worker whose
job has not yielded parks itself, and the next message wakes it. A worker whose job has yielded ends
with the job, because the job may have left something in its greenlet: a running Timeout, or
greenlet-local values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import gevent
from greenlet import greenlet

from ..observe.counters import LimitedLog
from .clock import Clock
from .waits import Waits

log = logging.getLogger("sippet_gevent.core")

PARKED = 256
"""Most workers that are parked. More messages are hardly ever carried at the same time without
yielding."""


class Worker(greenlet):  # type: ignore[misc]  # gevent has no types
    """A greenlet that runs jobs.

    `serving` is the ServerTransaction whose core it runs, or None. `counted` is the one that is
    counted as waiting. `data` and `flow` are the message of its job. They are no arguments of the
    greenlet, because those live as long as it does, and a core may wait for hours. `workers` are
    those that it belongs to, and `due` is the end of its long wait, if it has one.
    """

    # an attribute in a slot takes 8 bytes, and a dict of four takes 184
    __slots__ = ("counted", "data", "due", "flow", "serving", "workers")

    def __lt__(self, other: Worker) -> bool:
        """Order workers, in a heap of those that are resumed at the same time."""
        return id(self) < id(other)


class Workers:
    """Runs a job for each message, in a greenlet of its own.

    `busy` is the number of jobs that have yielded and not ended.

    Args:
        job: `job(data, flow)` carries one message.
        crashed: `crashed(error, data, flow)` takes an exception that leaves a job.
        yielded: `yielded(worker)` is called when a job yields for the first time.
        ended: `ended(counted)` is called when a job that has yielded ends, with the value that
            `yielded` has set as `worker.counted`.
        lines: Limits log lines.
        clock: The clock of their waits; real time by default.
    """

    # Any, because higher layers define flows and counted transactions
    def __init__(
        self,
        job: Callable[[bytes, Any], None],
        *,
        crashed: Callable[[BaseException, bytes, Any], None],
        yielded: Callable[[Worker], None],
        ended: Callable[[Any], None],
        lines: LimitedLog | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._job = job
        self._crashed = crashed
        self._yielded = yielded
        self._ended = ended
        self._lines = lines or LimitedLog()
        self.waits = Waits(clock or Clock())
        """Their long waits."""
        self._parked: list[Worker] = []
        self._running: Any = None
        # a set would take twice as much for each
        self._alive: dict[Worker, None] = {}
        self.busy = 0

    def run(self, data: bytes, flow: object) -> None:
        """Run the job for this message in a greenlet of its own, until it ends or yields. Call it
        in the hub."""
        worker = self._parked.pop() if self._parked else self._new()
        worker.data, worker.flow = data, flow
        self._running = worker
        worker.switch()
        # back without having parked: the job has yielded, or its worker has died
        if self._running is worker:
            self._running = None
            if not worker.dead:
                self.busy += 1
                self._yielded(worker)

    def _new(self) -> Worker:
        worker = Worker(Workers._work, gevent.get_hub())
        worker.workers = self
        worker.serving = worker.counted = worker.data = worker.flow = worker.due = None
        self._alive[worker] = None
        return worker

    @staticmethod
    def _work() -> None:
        """Run the jobs of the worker that is the current greenlet.

        This is no bound method. The C frame that calls one would be part of the stack that greenlet
        keeps of each core that waits, with 144 bytes.
        """
        me = gevent.getcurrent()
        self, hub = me.workers, me.parent
        parked = self._parked
        try:
            while True:
                try:
                    self._job(me.data, me.flow)
                except gevent.GreenletExit:  # it was killed, and serves no more messages
                    return
                except BaseException as error:
                    self._crashed(error, me.data, me.flow)
                    if not isinstance(error, Exception):
                        if isinstance(error, (KeyboardInterrupt, SystemExit)):
                            raise
                        return
                me.gr_context = None  # context variables end with their message
                me.data = me.flow = None  # a worker at rest must keep no message alive
                if self._running is not me or len(parked) >= PARKED:
                    return
                self._running = None
                parked.append(me)
                try:
                    hub.switch()
                except BaseException as error:  # a job's forgotten Timeout, or our own stop()
                    if me in parked:
                        parked.remove(me)
                    self._running = me
                    if not isinstance(error, (gevent.Timeout, gevent.GreenletExit)):
                        text = (
                            'exception in a parked greenlet: reason="%r" '
                            'hint="close the Timeouts of the core"'
                        )
                        self._lines.line(log, logging.WARNING, "parked greenlet", text, error)
                    return
        finally:
            self._alive.pop(me, None)
            if self._running is me:
                self._running = None
            else:
                self.busy -= 1
                counted, me.counted = me.counted, None
                if counted is not None:
                    self._ended(counted)

    def stop(self) -> None:
        """End the parked workers. Those that run a core continue, because the core belongs to the
        application."""
        while self._parked:
            worker = self._parked.pop()
            self._alive.pop(worker, None)
            self._retire(worker)

    def _retire(self, worker: Worker) -> None:
        worker.parent = gevent.getcurrent()
        worker.throw()

    @property
    def greenlets(self) -> Collection[Worker]:
        """All greenlets, parked ones included."""
        return self._alive.keys()

    @property
    def alive(self) -> int:
        """Number of greenlets, parked ones included."""
        return len(self._alive)
