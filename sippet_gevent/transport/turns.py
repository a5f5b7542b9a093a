"""Handshakes: those under way at one port, of TLS bounded in number, and taken on one step at each turn of the loop.

A step is half a millisecond of arithmetic, or of HTTP where WebSockets are opened. A thousand phones that come back at one
time must not keep everybody else waiting for all of them, nor push one another out.
"""

from __future__ import annotations

import time
from typing import Any

from .connection import SHAKING_HANDS, UPGRADING, Connection

STALLED = 0.5
"""Seconds after which a peer in a handshake makes room for another: two round trips round the world."""


class Handshakes:
    """Handshakes in the order they began in; `len()` counts those of peers in TLS, `limit` of them at most."""

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
        """True while one more would push out who has hardly begun: the system's backlog keeps who comes."""
        return len(self._peers) >= self._limit and time.monotonic() - next(iter(self._peers.values())) < STALLED

    def begin(self, flow: Connection) -> None:
        """Note that a peer's handshake is under way. The oldest is the likeliest to stall, and makes room."""
        while len(self._peers) >= self._limit:
            next(iter(self._peers)).close("too many handshakes", "too many TLS handshakes are under way")
        self._peers[flow] = time.monotonic()

    def end(self, flow: Connection) -> bool:
        """Forget a handshake; False when there is none of this peer's."""
        self._waiting.pop(flow, None)
        return self._peers.pop(flow, None) is not None

    def may_step(self, flow: Connection) -> bool:
        """True when no other flow has taken a step in this turn; else `flow.take_step()` is called when its turn has come."""
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
