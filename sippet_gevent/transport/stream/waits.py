"""Waits: how long messages of connections wait to be served, which shows an overload.

The kernel tells no time of arrival for the bytes of a connection. So two things are measured, and
both only while something is read:

* A connection that has sent more messages than one turn may serve gets a mark, behind the bytes
  that wait in the kernel. The time until all bytes before the mark are served is the wait there.
* Many connections with few messages each make the turns of the loop long. A timer shows how long.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import gevent

from ..base import IGNORED, Events, Transport

PROBE = 0.05
"""Seconds from a read until the timer, which is late by the length of a turn."""

OVERDUE = 0.25
"""Seconds after which the wait is reported before the mark is passed. It takes that long at
least."""

LONG = 0.02
"""Seconds of a long turn. Turns in which a burst is served are shorter."""

REST = 0.02
"""Seconds without a read after a long turn. Then nothing has waited for a while."""


class Marked(Protocol):
    """A connection that may have a mark."""

    marked_at: float
    """When it got its mark, 0.0 for none."""
    before_mark: int
    """Bytes before the mark that are still to be read."""
    has_backlog: bool
    """True while messages that were read wait for their turn."""

    def unread(self) -> int:
        """Return the number of bytes that wait in the kernel."""
        ...


class Waits:
    """Measures the waits of the connections of one listening point, and reports them.

    Args:
        transport: The listening point.
    """

    __slots__ = (
        "_events", "_probed_at", "_stands", "_timer", "_transport", "_was_long", "marks",
        "probe_at",
    )  # fmt: skip

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._events: Events = IGNORED
        self._timer: Any = None
        self.probe_at = 0.0
        """When the timer is due, 0.0 if it does not run."""
        self._probed_at = 0.0
        self._stands = self._was_long = False
        self.marks = 0
        """Connections that have a mark."""

    def start(self, events: Events) -> None:
        """Report to `events` from now on."""
        self._events = events
        # A repeating timer, because libev forgets the length of another timer when it fires. It
        # does not keep the loop running.
        self._timer = gevent.get_hub().loop.timer(PROBE, PROBE, ref=False)

    def stop(self) -> None:
        """Report nothing more."""
        self._events = IGNORED
        self._timer.stop()
        self._timer.close()
        self._timer = None
        self.probe_at, self.marks, self._stands, self._was_long = 0.0, 0, False, False

    # ---- marks

    def mark(self, flow: Marked) -> None:
        """Set a mark behind what a connection has sent, unless it has one."""
        if not flow.marked_at:
            flow.marked_at, flow.before_mark = time.monotonic(), flow.unread()
            self.marks += 1

    def served(self, flow: Marked) -> None:
        """Take it that messages of a connection with a mark were served. If these are all before
        the mark, report the wait, and set the next mark if more bytes wait."""
        now = time.monotonic()
        waited = now - flow.marked_at
        if flow.before_mark > 0 or flow.has_backlog:
            if waited >= OVERDUE:
                self._events.waited(self._transport, waited, stands=True)
            return
        left = flow.unread()
        if left:
            flow.marked_at, flow.before_mark = now, left
        else:
            self.forget(flow)
        stands, self._stands = self._stands, self.marks > 0
        self._events.waited(self._transport, waited, stands=stands)

    def forget(self, flow: Marked) -> None:
        """Take away the mark of a connection, if it has one."""
        if flow.marked_at:
            flow.marked_at = 0.0
            self.marks -= 1

    # ---- turns of the loop

    def look(self) -> None:
        """Measure the turn of the loop in which something is read. Call it if `probe_at` is 0."""
        now = time.monotonic()
        self.probe_at = now + PROBE
        if now - self._probed_at >= REST:
            self._was_long = False
        self._timer.again(self._probed)

    def _probed(self) -> None:
        self._timer.stop()
        now = self._probed_at = time.monotonic()
        late, self.probe_at = max(now - self.probe_at, 0.0), 0.0
        was_long, self._was_long = self._was_long, late >= LONG
        if was_long or self._was_long:  # most turns are short, and say nothing of other transports
            self._events.waited(self, late, stands=was_long)
