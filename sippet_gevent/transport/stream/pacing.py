"""Pacing: handshakes and ends of connections, a bounded number of them at each turn of the loop.

* A step of a handshake takes half a millisecond of arithmetic, or of HTTP where WebSockets are
  opened. A thousand phones that connect at the same time must not keep all others waiting, nor push
  one another out.
* When a network fails, ten thousand connections end in one moment. The loop hears of thousands in
  one turn. Closing all of them in that turn would keep all others waiting for a fifth of a second.
"""

from __future__ import annotations

import time
from typing import Any

from .connection import CLOSED, SHAKING_HANDS, UPGRADING, Connection

ENDS = 16
"""Connections that end in one turn: some 30 us each, so that they take as long as one step of a
handshake."""


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
        """True when this turn has room for one more; else `flow.end(error)` is called when its turn
        has come."""
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


STALLED = 0.5
"""Seconds after which a peer in a handshake makes room for another: two round trips round the
world."""


class Handshakes:
    """Handshakes in the order they began in; `len()` counts those of peers in TLS, `limit` of them
    at most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._peers: dict[Connection, float] = {}
        self._waiting: dict[Connection, None] = {}
        self._turn: Any = None

    def start(self, loop: Any) -> None:
        """Count the turns of this loop."""
        self._turn = loop.timer(0.0)

    def stop(self) -> None:
        """Take no further step."""
        self._turn.stop()
        self._turn.close()
        self._turn = None
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def is_full(self) -> bool:
        """True while one more would push out who has hardly begun: the system's backlog keeps who
        comes."""
        return (
            len(self._peers) >= self._limit
            and time.monotonic() - next(iter(self._peers.values())) < STALLED
        )

    def begin(self, flow: Connection) -> None:
        """Note that a peer's handshake is under way. The oldest is the likeliest to stall, and
        makes room."""
        while len(self._peers) >= self._limit:
            next(iter(self._peers)).close(
                "too many handshakes", "too many TLS handshakes are under way"
            )
        self._peers[flow] = time.monotonic()

    def end(self, flow: Connection) -> bool:
        """Forget a handshake; False when there is none of this peer's."""
        self._waiting.pop(flow, None)
        return self._peers.pop(flow, None) is not None

    def may_step(self, flow: Connection) -> bool:
        """True when no other flow has taken a step in this turn; else `flow.take_step()` is called
        when its turn has come."""
        if self._turn.active:
            self._waiting[flow] = None
            return False
        self._turn.start(self._next)
        return True

    def _next(self) -> None:
        waiting = self._waiting
        while waiting:
            flow = next(iter(waiting))
            del waiting[flow]
            if flow.state is SHAKING_HANDS or flow.state is UPGRADING:
                self._turn.start(self._next)
                flow.take_step()
                return
