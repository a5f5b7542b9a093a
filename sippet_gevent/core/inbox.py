"""Inbox: events that stay until somebody looks, and the one way in which a core waits for them."""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent

from ..clock import Clock
from ..errors import TransactionTimeout


class Inbox:
    """A queue of events of one transaction, call or response context.

    What comes before anybody looks is still there later. Waiting in `get` is where a core can be interrupted: when the
    request it serves is cancelled, Cancelled is raised there, and nowhere in other people's code.
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

    def get(self, timeout: float | None = None) -> Any:
        """Return the oldest event, waiting for one. Raises TransactionTimeout after `timeout` seconds, and Cancelled."""
        self.wait(lambda: bool(self._items), timeout)
        return self._items.popleft()

    def wait(self, ready: Any, timeout: float | None = None) -> None:
        """Wait until `ready()`; wake() makes it look. Raises TransactionTimeout after `timeout` seconds, and Cancelled."""
        me = gevent.getcurrent()
        serving = getattr(me, "serving", None)
        if serving is not None:
            serving.check()
        if ready():
            return
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
            raise TransactionTimeout(f"nothing came within {timeout} seconds") from None
        finally:
            self._waiters.remove(me)
            if serving is not None:
                serving.parked = None
            if timer is not None:
                timer.close()

    def __len__(self) -> int:
        return len(self._items)
