"""PatientWatch: a callback of `Location.watch()` that waits holds one update, and not all of them.

A callback must not wait, but some do: `put()` of a bounded queue that nobody reads, for example.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import gevent

from ..errors import excerpt
from .base import BindingEvent, Watch, Watchers

LATE = 1000
"""Most events that wait for such a callback. Further ones are lost."""

log = logging.getLogger("sippet_gevent.core")


class PatientWatch:
    """Calls a callback for each event of some watchers. While the callback waits, for the update
    whose event it got, the events of others wait for it in their order.

    Args:
        watchers: The callbacks to which it belongs.
        callback: Is called with each event.
    """

    __slots__ = ("_callback", "_late", "_lost", "_teller", "_watch")

    def __init__(self, watchers: Watchers, callback: Callable[[BindingEvent], None]) -> None:
        self._callback = callback
        self._late: deque[BindingEvent] = deque()
        self._lost = 0
        self._teller: object = None
        """The greenlet that is in the callback."""
        self._watch: Watch = watchers.add(self._tell)

    def close(self) -> None:
        """Tell no further event. May be called twice."""
        self._watch.close()
        self._late.clear()

    def _tell(self, event: BindingEvent) -> None:
        teller, here = self._teller, gevent.getcurrent()
        if self._late or (teller is not None and teller is not here):
            self._keep(event)
            return
        self._teller = here
        try:
            self._callback(event)
        finally:
            self._teller = teller
            if self._late and teller is None:
                gevent.spawn(self._tell_late)

    def _keep(self, event: BindingEvent) -> None:
        late = self._late
        if not late:
            self._lost = 0
            log.error(
                'watch of bindings waits: callback=%s hint="it must return at once, as '
                'put_nowait() of a queue does"',
                excerpt(self._callback),
            )
        if len(late) < LATE:
            late.append(event)
            return
        if not self._lost:
            log.error("events of bindings are lost: callback=%s", excerpt(self._callback))
        self._lost += 1

    def _tell_late(self) -> None:
        """Tell the events that have come meanwhile."""
        late, self._teller = self._late, gevent.getcurrent()
        try:
            while late:
                # it stays the first until it is told, so that those that come now are kept, too
                event = late[0]
                try:
                    self._callback(event)
                except Exception:
                    log.exception("watch of bindings failed: event=%r", event.kind)
                finally:
                    if late:  # close() may have emptied it
                        late.popleft()
        finally:
            self._teller = None
            if late:  # somebody has killed this greenlet
                gevent.spawn(self._tell_late)
