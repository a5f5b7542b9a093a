"""State: one row of the state table of connections. The table is in connection.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ...runtime.limits import StreamLimits

C = TypeVar("C")

Seconds = Callable[[StreamLimits], float]
"""Picks the length of a deadline out of the limits."""


class Late(NamedTuple):
    """What happens at a missed deadline: the counter of such ends, and the reason as text."""

    reason: str | None
    problem: str


_LATE = Late(None, "the deadline has passed")


@dataclass(frozen=True, eq=False, slots=True)
class State(Generic[C]):
    """How a connection of class C behaves in one state. States are compared by identity."""

    name: str
    take: Callable[[C, bytes], None]
    """What happens to bytes from the peer."""
    end: Callable[[C], None]
    """What the end of the peer's bytes means."""
    own_deadline: Seconds | None = None
    """How long a connection of ours may be in this state. None for no limit."""
    peer_deadline: Seconds | None = None
    """How long a connection of a peer may be in this state. In OPEN, until its first bytes."""
    late: Late = _LATE
    """Why a connection is closed at its deadline."""
    step: Callable[[C], None] | None = None
    """A step of a handshake that had to wait for its turn."""
    sweep: Callable[[C, float], bool] | None = None
    """A further check of each sweep. True when the connection must not be closed for idleness."""
    holds: bool = False
    """True when messages wait for the connection to open."""
    sends: bool = False
    """True when messages are sent."""
    reads: bool = False
    """True when content of the peer is read, decrypted if there is TLS."""
    is_whole: bool = False
    """True when both directions are open, for pings and an orderly end."""

    def __repr__(self) -> str:
        return f"<State {self.name}>"
