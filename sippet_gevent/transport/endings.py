"""Endings: connections whose peers have gone, so many of them closed at each turn of the loop.

Ten thousand connections that a network takes with it all end in one moment. The loop is told of thousands in one turn,
and closing them all in it would keep everybody else waiting for a fifth of a second.
"""

from __future__ import annotations

from typing import Any

from .connection import CLOSED, Connection

ENDS = 16
"""Connections that end in one turn: some 30 us each, so that they take as long as one step of a handshake."""


class Endings:
    """Connections that wait to end, in the order in which their peers went; `len()` counts them."""

    def __init__(self) -> None:
        self._waiting: dict[Connection, OSError | None] = {}
        self._left = ENDS
        self._turn: Any = None

    def start(self, loop: Any) -> None:
        """Count the turns of this loop."""
        self._turn = loop.timer(0.0)

    def stop(self) -> None:
        """End nothing more: who stops closes all."""
        self._turn.stop()
        self._turn.close()
        self._turn = None
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def may_end(self, flow: Connection, error: OSError | None) -> bool:
        """True when this turn has room for one more; else `flow.end(error)` is called when its turn has come."""
        if not self._turn.active:
            self._turn.start(self._next)
        if self._left:
            self._left -= 1
            return True
        self._waiting[flow] = error
        return False

    def _next(self) -> None:
        self._left = ENDS
        waiting = self._waiting
        if waiting:
            self._turn.start(self._next)
        while waiting and self._left:
            flow = next(iter(waiting))
            error = waiting.pop(flow)
            if flow.state is not CLOSED:
                self._left -= 1
                flow.end(error)
