"""Inbox: keeps events until a core takes them, and lets the core wait for them."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Generic, Protocol, TypeVar

import gevent
from gevent.exceptions import LoopExit

from ..errors import TransactionStateError
from ..runtime.clock import Clock
from ..runtime.waits import EXPIRED
from ..runtime.workers import Worker

Event = TypeVar("Event")


class Waitable(Protocol):
    """What gevent can wait for: an Event, an AsyncResult or a greenlet."""

    def ready(self) -> bool:
        """True once the wait is over."""

    def rawlink(self, callback: Callable[[object], object]) -> object:
        """Call back when it is ready."""

    def unlink(self, callback: Callable[[object], object]) -> object:
        """Undo rawlink()."""


def check_waitable(until: Waitable) -> None:
    """Check that something is an object of gevent that can be waited for. Raises TypeError."""
    if not callable(getattr(until, "rawlink", None)):
        raise TypeError(
            f"until must be an Event, an AsyncResult or a greenlet of gevent, got {until!r}: "
            "write until=gevent.event.Event()"
        )


class Inbox(Generic[Event]):
    """A queue of events of one transaction, call or response context.

    An event that arrives before a greenlet waits for it is kept. A waiting core can be interrupted.
    If the request that it serves is cancelled, Cancelled is raised here, and never inside another
    library.
    """

    __slots__ = ("_clock", "_items", "_waiters")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # few items wait at the same time, and a deque would take 760 bytes for as long as a call
        self._items: list[Event] | tuple[()] = ()
        self._waiters: tuple[Any, ...] = ()

    def put(self, item: Event) -> None:
        """Add an event and wake the waiting greenlets."""
        items = self._items
        if isinstance(items, tuple):
            items = self._items = []
        items.append(item)
        self.wake()

    def wake(self) -> None:
        """Schedule the waiting greenlets to check their conditions again."""
        if self._waiters:
            gevent.get_hub().loop.run_callback(self._resume)

    def _resume(self) -> None:
        for waiter in self._waiters:
            if waiter in self._waiters:
                waiter.switch()

    def get(self) -> Event:
        """Return the oldest event, waiting for one. Raises Cancelled."""
        self.wait(self.__len__)
        items = self._items
        assert isinstance(items, list)  # because it has an item
        item = items.pop(0)
        if not items:
            self._items = ()
        return item

    def wait(self, ready: Callable[[], object] | None, timeout: float | None = None) -> bool:
        """Wait until `ready()` is true; wake() has it called again. None is never true.

        Returns:
            False when `timeout` seconds have passed first.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
            TransactionStateError: The stack does not run, so the wait would last for ever.
        """
        me = gevent.getcurrent()
        serving = getattr(me, "serving", None)
        if serving is not None and serving.interruptions:
            serving.interrupt()
        if ready is not None and ready():
            return True
        timer = waits = None
        if timeout is not None:
            if isinstance(me, Worker) and self._clock.long < timeout < inf:
                waits = me.workers.waits
                waits.add(timeout, me)
            else:
                timer = self._clock.timeout(timeout)
        self._waiters = (*self._waiters, me)
        if serving is not None:
            serving.parked = self
        try:
            while True:
                if _park() is EXPIRED:
                    # an event that arrives at the same time still counts
                    return ready is not None and bool(ready())
                if serving is not None and serving.interruptions:
                    serving.interrupt()
                if ready is not None and ready():
                    return True
        except gevent.Timeout as expired:
            if expired is not timer:
                raise
            return ready is not None and bool(ready())
        except (
            LoopExit
        ) as error:  # of gevent, in the main greenlet: no watcher and no timer is left
            raise TransactionStateError(
                "nothing is left that could end this wait: call it while the stack runs, and in a "
                "test of the sip fixture write sip.run(call.send_digits, …)"
            ) from error
        finally:
            self._waiters = (
                tuple([waiter for waiter in self._waiters if waiter is not me])
                if len(self._waiters) > 1
                else ()
            )
            if serving is not None:
                serving.parked = None
            if waits is not None:
                waits.remove(me)
            # A greenlet that is killed keeps its exception, and that keeps this frame. The
            # collector would not free it, because it ignores a tuple of running greenlets.
            del me
            if timer is not None:
                timer.close()
                del timer  # the traceback of an expired timer would hold this frame

    def wait_until(
        self, until: Waitable, timeout: float | None, ready: Callable[[], object] | None = None
    ) -> bool:
        """Wait until an object of gevent is ready. False when `timeout` seconds have passed first.

        Args:
            until: The object.
            timeout: Most seconds to wait; None waits for ever.
            ready: Ends the wait, too, when it is true; wake() has it called again.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
            TypeError: It is no such object.
        """
        check_waitable(until)
        until.rawlink(self._wake_by)
        try:
            if ready is None:
                return self.wait(until.ready, timeout)
            return self.wait(lambda: ready() or until.ready(), timeout)
        finally:
            until.unlink(self._wake_by)

    def _wake_by(self, _: object) -> None:
        self.wake()

    @property
    def is_awaited(self) -> bool:
        """True while a greenlet waits for the next item."""
        return bool(self._waiters)

    def __len__(self) -> int:
        return len(self._items)


def _park() -> object:
    """Let others run, and return what this greenlet is resumed with.

    greenlet makes a frame object for the function that switches, and keeps it. That of a long
    function is larger, by 8 bytes for each local variable and each value on its stack.
    """
    return gevent.get_hub().switch()


def check_serving() -> None:
    """Raise Cancelled when the request that this greenlet serves was cancelled."""
    serving = getattr(gevent.getcurrent(), "serving", None)
    if serving is not None and serving.interruptions:
        serving.interrupt()
