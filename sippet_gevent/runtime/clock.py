"""Clock: every deadline of the library, as gevent.Timeouts. VirtualClock: time for tests, which
moves when advance() is called."""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, ParamSpec, Protocol, TypeVar

import gevent
from gevent import Timeout
from gevent.event import Event

from ..arguments import number
from ..observe.counters import LimitedLog
from .native_thread import are_busy

TICK = 0.005
"""Seconds. Deadlines are rounded up to this, and those of one tick share one Timeout. So they are
never early, and late by 5 ms at most."""

LATE = 0.05
"""Seconds. A tick that is later shows that the loop is busy."""

FAR = 8.0
"""Seconds. A deadline that is farther off is rounded up to a coarse tick, if it may be."""

LOOK_AGAIN = 32.0
"""Seconds, as long as timers H, J and L. What has a deadline that is farther off and cannot be
removed is fired after this time, and looks again. So what has ended is not kept for minutes."""

EPOCH = 1_800_000_000.0
"""The time since 1970 at which a VirtualClock shows 0. It is a whole number, so that sums are
exact."""

LONG = 1.0
"""Seconds. Waits of cores that may be longer share one alarm. There are few shorter ones at the
same time."""

log = logging.getLogger("sippet_gevent.transport")

P = ParamSpec("P")
T = TypeVar("T")

# Any: the items of each collection have a type of their own.
Fire = Callable[[float, Any], None]


class Alarm(Protocol):
    """A call that `clock.alarm(seconds, call)` has scheduled."""

    def close(self) -> None:
        """Prevent the call."""


class _Alarm(Timeout):  # type: ignore[misc]  # gevent has no types
    """A gevent.Timeout that calls a function in the hub. It raises in no greenlet."""

    call: Callable[[], object]

    def _on_expiration(self, prev_greenlet: object, ex: object) -> None:
        self.close()
        self.call()


class Clock:
    """Real time in seconds. It is monotonic, so a step of the system's clock does not change
    timers."""

    tick = TICK

    coarse = 20
    """Ticks of one coarse tick, 0.1 s: one of 320 parts of the time for which a transaction
    lingers."""

    long = LONG
    """Seconds. Longer waits of cores share an alarm."""

    now = staticmethod(time.monotonic)

    wall = staticmethod(time.time)
    """The time in seconds since 1970, which other processes and machines share. Unlike now(), it
    jumps when somebody sets the system's clock."""

    def alarm(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Call `call()` in the hub after this many seconds, unless the returned alarm is closed."""
        try:
            alarm = _Alarm(max(seconds, 0.0))
        except TypeError:
            number("seconds", seconds)
            raise
        alarm.call = call
        alarm.start()
        return alarm

    def timeout(self, seconds: float) -> Timeout:
        """Return a started gevent.Timeout for the current greenlet. The caller closes it. Raises
        TypeError if `seconds` is not a number."""
        try:
            timeout = Timeout(max(seconds, 0.0))
        except TypeError:
            number("seconds", seconds)
            raise
        timeout.start()
        return timeout

    def within(
        self, seconds: float, wait: Callable[P, T], *args: P.args, **named: P.kwargs
    ) -> T | None:
        """Call `wait` with these arguments and return its result; None if it takes longer than
        `seconds`."""
        timeout = self.timeout(seconds)
        try:
            return wait(*args, **named)
        except Timeout as expired:
            if expired is not timeout:
                raise
            return None
        finally:
            timeout.close()
            del timeout  # its traceback holds this frame

    def sleep(self, seconds: float) -> None:
        """Let time pass in the current greenlet, by this clock: `stack.clock.sleep(3)`.

        A core calls `tx.wait(3)` instead, which a CANCEL interrupts.
        """
        woken = Event()
        alarm = self.alarm(seconds, woken.set)
        try:
            woken.wait()
        finally:
            alarm.close()

    def _note_failure(self, error: Exception) -> None:
        """Take an exception that has left a callback of a deadline, after it was logged."""

    def deadlines(self, fire: Fire) -> Deadlines:
        """Return a new collection of deadlines, which calls `fire(now, item)` for each that is
        due."""
        return Deadlines(self, fire)


class Deadlines:
    """Items by the tick at which they are due, with one alarm a tick.

    `fire(now, item)` is called for each, in the hub. An item that is not due any more may ignore
    the call, so the cost of a timer is one append. An item whose deadline is far off is removed
    instead. Requests that linger for 32 seconds need 320 alarms, because their deadlines are
    coarse.
    """

    __slots__ = (
        "_alarms", "_batches", "_clock", "_fire", "_lines", "_per_second", "_removed", "late",
        "stops",
    )  # fmt: skip

    def __init__(self, clock: Clock, fire: Fire) -> None:
        self._clock = clock
        self._fire = fire
        self._lines = LimitedLog(clock)
        self._per_second = 1 / clock.tick
        self._batches: dict[int, list[object]] = {}
        self._alarms: dict[int, Alarm] = {}
        self._removed: dict[int, set[object]] = {}  # of each batch, until half of it is removed
        self.late: Callable[[float], None] | None = None
        """Called with the seconds that a tick is late, if those are more than LATE."""
        self.stops = 0
        """Number of calls of stop(). An item that needs its deadline after that adds it again."""

    def add(self, deadline: float, item: object, *, coarse: bool = False) -> None:
        """Fire `item` when the time `deadline` has passed. With `coarse`, a deadline more than FAR
        off may be late by 0.1 s, and cannot be removed."""
        slot = int(deadline * self._per_second) + 1
        batch = self._batches.get(slot)
        if batch is None:
            now = self._clock.now()
            if coarse and deadline - now > FAR:
                slot += -slot % self._clock.coarse
                batch = self._batches.get(slot)
        if batch is not None:
            batch.append(item)
            return
        self._batches[slot] = [item]
        self._alarms[slot] = self._clock.alarm(
            slot / self._per_second - now, partial(self._due, slot)
        )

    def remove(self, deadline: float, item: object) -> None:
        """Do not fire an item, which was added with this deadline.

        It is freed with others, when half of those of its tick are removed.
        """
        slot = int(deadline * self._per_second) + 1
        batch = self._batches.get(slot)
        if batch is None:
            return
        removed = self._removed.setdefault(slot, set())
        removed.add(item)
        if 2 * len(removed) < len(batch):
            return
        del self._removed[slot]
        if len(removed) < len(batch):
            batch[:] = [each for each in batch if each not in removed]
        else:
            del self._batches[slot]
            self._alarms.pop(slot).close()

    def _due(self, slot: int) -> None:
        del self._alarms[slot]
        now = self._clock.now()
        if now - slot / self._per_second > LATE and self.late is not None:
            self.late(now - slot / self._per_second)
        removed = self._removed.pop(slot, ())
        for item in self._batches.pop(slot):
            if removed and item in removed:
                continue
            try:
                self._fire(now, item)
            except Exception as error:  # the other items must keep their deadlines
                self._lines.line(
                    log,
                    logging.ERROR,
                    "deadline",
                    'deadline failed: item="%r"',
                    item,
                    exc_info=error,
                )
                self._clock._note_failure(error)

    def stop(self) -> None:
        """Forget all deadlines."""
        self.stops += 1
        for alarm in self._alarms.values():
            alarm.close()
        self._alarms.clear()
        self._batches.clear()
        self._removed.clear()
        self._lines.stop()

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches.values())


class VirtualClock(Clock):
    """Time that passes only in advance(). Everything that is due then happens in order, without
    delay."""

    tick = 1e-6
    coarse = 1
    long = math.inf

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = count()
        self._alarms: list[tuple[float, int, _VirtualAlarm]] = []
        self.now = lambda: self._now
        self.wall = lambda: EPOCH + self._now
        self.failures: list[Exception] = []
        """Exceptions that have left callbacks of deadlines and alarms, which a test should see."""

    def _note_failure(self, error: Exception) -> None:
        self.failures.append(error)

    def alarm(self, seconds: float, call: Callable[[], None]) -> Alarm:
        alarm = _VirtualAlarm(call, self.failures)
        try:
            due = self._now + max(seconds, 0.0)
        except TypeError:
            number("seconds", seconds)
            raise
        heapq.heappush(self._alarms, (due, next(self._order), alarm))
        return alarm

    def timeout(self, seconds: float) -> Timeout:
        return _VirtualTimeout(self, seconds)

    def advance(self, seconds: float) -> None:
        """Let this much time pass. Call it from a greenlet that is not tested, such as the main
        one."""
        until = self._now + seconds
        self.settle()
        while self._alarms and self._alarms[0][0] <= until:
            due, _, alarm = heapq.heappop(self._alarms)
            if alarm.call is not None:
                self._now = max(self._now, due)
                gevent.get_hub().loop.run_callback(alarm.fire)
                self.settle()
        self._now = until
        self.settle()

    def advance_to_next(self) -> bool:
        """Let time pass until something is due. False if nothing is."""
        while self._alarms and self._alarms[0][2].call is None:
            heapq.heappop(self._alarms)
        if not self._alarms:
            return False
        self.advance(max(self._alarms[0][0] - self._now, 0.0))
        return True

    def end(self) -> None:
        """Set the time to infinity, so that everything has expired for code that still has this
        clock."""
        self._now = math.inf

    def settle(self) -> None:
        """Let greenlets run until all of them wait, and no thread works for them. A database
        takes real time, and none of this clock."""
        for _ in range(2):
            gevent.idle()
        while are_busy():
            gevent.sleep(0.0005)
            for _ in range(2):
                gevent.idle()

    @property
    def pending(self) -> int:
        """Number of pending alarms."""
        return sum(alarm.call is not None for _, _, alarm in self._alarms)


class _VirtualAlarm:
    __slots__ = ("_failures", "call")

    def __init__(self, call: Callable[[], None], failures: list[Exception]) -> None:
        self.call: Callable[[], None] | None = call
        self._failures = failures

    def fire(self) -> None:
        call, self.call = self.call, None
        if call is not None:
            try:
                call()
            except Exception as error:
                self._failures.append(error)
                raise  # the hub shows it

    def close(self) -> None:
        self.call = None


class _VirtualTimeout(Timeout):  # type: ignore[misc]  # gevent has no types
    """A gevent.Timeout on virtual time."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        super().__init__(None)
        self.seconds = seconds
        self._clock = clock
        self._alarm: Alarm | None = None
        self.start()

    @property
    def pending(self) -> bool:
        return self._alarm is not None

    def start(self) -> None:
        greenlet = gevent.getcurrent()

        def fire() -> None:
            self._alarm = None
            greenlet.throw(self)

        self._alarm = self._clock.alarm(self.seconds, fire)

    def cancel(self) -> None:
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    def close(self) -> None:
        self.cancel()
        super().close()
