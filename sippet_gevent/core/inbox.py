"""Inbox: events that stay until somebody looks, and the one way in which a core waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gevent

from ..runtime.clock import Clock


class Inbox:
    """A queue of events of one transaction, call or response context.

    What comes before anybody looks is still there later. Waiting in `get` is where a core can be
    interrupted: when the request it serves is cancelled, Cancelled is raised there, and nowhere in
    other people's code.
    """

    __slots__ = ("_clock", "_items", "_waiters")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: deque[Any] = deque()
        self._waiters: list[Any] = []

    def put(self, item: Any) -> None:
        """Add an event and wake who waits."""
        self._items.append(item)
        self.wake()

    def wake(self) -> None:
        """Let those who wait look again, soon, from the hub."""
        if self._waiters:
            gevent.get_hub().loop.run_callback(self._resume)

    def _resume(self) -> None:
        for waiter in list(self._waiters):
            if waiter in self._waiters:
                waiter.switch()

    def get(self) -> Any:
        """Return the oldest event, waiting for one. Raises Cancelled."""
        self.wait(self._items.__len__)
        return self._items.popleft()

    def wait(self, ready: Callable[[], Any], timeout: float | None = None) -> bool:
        """Wait until `ready()`, which wake() makes it look at; False when `timeout` seconds have
        passed. Raises Cancelled."""
        me = gevent.getcurrent()
        serving = getattr(me, "serving", None)
        if serving is not None:
            serving.check()
        if ready():
            return True
        hub = gevent.get_hub()
        timer = None if timeout is None else self._clock.timeout(timeout)
        self._waiters.append(me)
        if serving is not None:
            serving.parked = self
        try:
            while not ready():
                hub.switch()
                if serving is not None:
                    serving.check()
        except gevent.Timeout as expired:
            if expired is not timer:
                raise
            return bool(ready())  # what came at the last moment has come in time
        finally:
            self._waiters.remove(me)
            if serving is not None:
                serving.parked = None
            if timer is not None:
                timer.close()
                del timer  # whose traceback, if it went off, holds this frame
        return True

    @property
    def is_awaited(self) -> bool:
        """True while a greenlet waits for the next item."""
        return bool(self._waiters)

    def __len__(self) -> int:
        return len(self._items)
