"""Pacing: how many messages, handshakes and ends of connections the loop handles in each of its
turns.

* One step of a handshake takes half a millisecond: arithmetic of TLS, or HTTP of a WebSocket. If
  a thousand phones connect at the same time, other peers must be served between the steps.
* When a network fails, the loop learns of thousands of ended connections in one turn. Closing all
  of them in that turn would keep other peers waiting for a fifth of a second.
* One read may bring thousands of messages, if a peer sends short ones that are broken. So each
  connection has MESSAGES of them served, and is not read until it has had turns for the others.
  Then the peer cannot send more than that, because the buffers of the kernel are full.

`Turns` is the rule for all: so many connections act in one turn, and the others wait in order.
`Endings`, `Handshakes` and `Backlogs` are its uses.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import gevent

ENDS = 16
"""Connections that end in one turn. Each takes about 30 us, so all take as long as one step of a
handshake."""

STEPS = 1
"""Steps of handshakes in one turn."""

MESSAGES = 8
"""Messages of one connection that are served in one turn: about a millisecond."""

BACKLOGS = 1
"""Connections that have messages served in one turn which they have sent before."""

STALLED = 0.5
"""Seconds after which a peer in a handshake makes room for another one: two round trips around the
world."""


class Paced(Protocol):
    """A connection that waits for its turn."""

    def take_step(self) -> bool:
        """Take a step of the handshake. Returns False when there is no handshake any more."""
        ...

    def end(self, error: OSError | None) -> bool:
        """End as the peer did. Returns False when the connection was closed before."""
        ...

    def take_turn(self) -> bool:
        """Serve MESSAGES more of those that wait. Returns False when there are none any more."""
        ...

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None: ...


class Turns:
    """Lets some connections act in each turn of the loop; the others wait in order."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._waiting: dict[Paced, OSError | None] = {}
        self._timer: Any = None

    def start(self) -> None:
        """Count the turns of the loop of this thread."""
        self._timer = gevent.get_hub().loop.timer(0.0)

    def stop(self) -> None:
        """Let no connection act any more."""
        self._timer.stop()
        self._timer.close()
        self._timer = None
        self._waiting.clear()

    def _may_act(self, flow: Paced, error: OSError | None = None) -> bool:
        """Return True when this turn has room for one more; else _act() is called later."""
        if not self._timer.active:
            self._timer.start(self._next)
        if self._left:
            self._left -= 1
            return True
        self._waiting[flow] = error
        return False

    def _next(self) -> None:
        self._left = self._limit
        waiting = self._waiting
        if waiting:
            self._timer.start(self._next)
        while waiting and self._left:
            flow = next(iter(waiting))
            error = waiting.pop(flow)
            # Counted before it acts, because acting may bring another connection here.
            self._left -= 1
            if not self._act(flow, error):
                self._left += 1

    def _act(self, flow: Paced, error: OSError | None) -> bool:
        """Let a connection act. Returns False when there is nothing to do for it any more."""
        raise TypeError(f"{type(self).__name__} lacks ._act()")


class Endings(Turns):
    """Connections that their peers have ended. ENDS of them are closed in a turn.

    `len()` counts those that wait.
    """

    def __init__(self) -> None:
        super().__init__(ENDS)

    def __len__(self) -> int:
        return len(self._waiting)

    def may_end(self, flow: Paced, error: OSError | None) -> bool:
        """Return True when the connection may end in this turn; else its end() is called later."""
        return self._may_act(flow, error)

    def _act(self, flow: Paced, error: OSError | None) -> bool:
        return flow.end(error)


class Handshakes(Turns):
    """Handshakes under way: bounded in number, and STEPS of them at a turn.

    `len()` counts the peers in a TLS handshake. There are never more than `limit`.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(STEPS)
        self._room = limit
        self._peers: dict[Paced, float] = {}  # in the order in which they began

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def is_full(self) -> bool:
        """True while one more would displace a peer that has only just begun.

        New connections then wait in the system's backlog.
        """
        return (
            len(self._peers) >= self._room
            and time.monotonic() - next(iter(self._peers.values())) < STALLED
        )

    def begin(self, flow: Paced) -> None:
        """Note that a handshake has begun. The oldest one is closed to make room, because it is
        the likeliest to have stalled."""
        while len(self._peers) >= self._room:
            next(iter(self._peers)).close(
                "too_many_handshakes", "too many TLS handshakes are under way"
            )
        self._peers[flow] = time.monotonic()

    def finish(self, flow: Paced) -> bool:
        """Forget a handshake. Returns False when there was none of this connection."""
        self._waiting.pop(flow, None)
        return self._peers.pop(flow, None) is not None

    def may_step(self, flow: Paced) -> bool:
        """Return True when the connection may take its step in this turn; else its take_step() is
        called later."""
        return self._may_act(flow)

    def _act(self, flow: Paced, error: OSError | None) -> bool:
        return flow.take_step()


class Backlogs(Turns):
    """Connections with messages that were read and wait to be served."""

    def __init__(self) -> None:
        super().__init__(BACKLOGS)

    def wait(self, flow: Paced) -> None:
        """Call take_turn() of a connection in one of the next turns."""
        if not self._timer.active:
            self._timer.start(self._next)
        self._waiting[flow] = None

    def _act(self, flow: Paced, error: OSError | None) -> bool:
        return flow.take_turn()
