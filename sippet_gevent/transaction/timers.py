"""T1, T2, T4 and the timers A to M, RFC 3261 table 4, RFC 6026 §8.11. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any, Literal

from ..arguments import duration


@dataclass(frozen=True)
class Timers:
    """The lengths of the timers of a stack, in seconds.

        stack = Stack("udp:127.0.0.1:5060", timers=Timers(t1=0.2, core_non_invite=10))

    `t1` estimates the round trip. `t2` is the longest interval of retransmissions. `t4` is how long
    a message may stay in the network. `a` to `m` are the timers of the RFC. One that is None has
    the length that RFC 3261 derives from T1, T2 and T4. `trying` is the time until an INVITE gets
    100. `core_invite` and `core_non_invite` are the times after which the stack answers in place of
    a silent core.

    Raises:
        TypeError: A length is not a number.
        InvalidValue: A length is negative or longer than a year, or 0 for a timer that repeats.
    """

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    a: float | None = None
    b: float | None = None
    c: float = 181.0
    """Longest time from one provisional response to an INVITE to the next. It must exceed three
    minutes (§16.6 step 11)."""
    d: float | None = None
    e: float | None = None
    f: float | None = None
    g: float | None = None
    h: float | None = None
    i: float | None = None
    j: float | None = None
    k: float | None = None
    l: float | None = None  # noqa: E741 the RFC's letter
    m: float | None = None
    trying: float = 0.2
    """Time after which an INVITE without a response gets 100 (§17.2.1)."""
    core_invite: float | None = None
    """Time after which the stack answers 408 to an INVITE in place of a silent core.

    By default it is C + 64*T1 + 2 seconds, 215 in all. After timer C a proxy sends CANCEL, and the
    callee then has 64*T1 to answer (§16.8, §9.1). Two more seconds let the proxy's answer be first.
    """
    core_non_invite: float = 30.0
    """Time after which the stack answers 500 to any other request in place of a silent core.

    That is two seconds before timer F of the client, after which an answer is useless.
    """
    # Any: a Plan of fsm.py, a module above this one; by machine name, and whether the transport is
    # reliable
    _plans: dict[tuple[str, bool], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for length in fields(self):
            value = getattr(self, length.name)
            if length.init and value is not None:
                duration(length.name, value, above=length.name in _REPEATED)


_REPEATED = frozenset(("t1", "t2", "t4", "a", "e", "g"))
"""Lengths that must not be 0, because a timer that repeats would then never let time pass."""


class Timer:
    """One timer: its letter, its first length, and its next ones if it repeats.

    `first(timers)` is its length in seconds. `again(timers, last, proceeding)` is the next interval
    of a timer that repeats. `reliable` says what it does over a reliable transport, such as TCP:
    "same" is no difference, "none" never starts, "zero" fires at once.
    """

    __slots__ = ("again", "endless", "first", "letter", "reliable")

    def __init__(
        self,
        letter: str,
        first: Callable[[Timers], float],
        *,
        again: Callable[[Timers, float, bool], float] | None = None,
        reliable: Literal["same", "none", "zero"] = "same",
    ) -> None:
        self.letter = letter
        self.first = first
        self.again = again
        self.reliable = reliable
        self.endless = inf, self, inf
        """What each transaction notes of this timer while it runs without an end."""

    def __repr__(self) -> str:
        return f"timer {self.letter}"


def _given(length: float | None, derived: float) -> float:
    return derived if length is None else length


def _until_t2(timers: Timers) -> float:
    """Return the time until a client's timer E is first set to T2 (RFC 4320 §4.1).

    By default that is 0.5 + 1 + 2 seconds.
    """
    total, interval = timers.t1, timers.t1 * 2
    while interval < timers.t2:
        total += interval
        interval *= 2
    return total


# INVITE client (§17.1.1.2)
A = Timer("A", lambda t: _given(t.a, t.t1), again=lambda t, last, _: last * 2, reliable="none")
B = Timer("B", lambda t: _given(t.b, 64 * t.t1))
D = Timer("D", lambda t: _given(t.d, max(32.0, 64 * t.t1)), reliable="zero")
M = Timer("M", lambda t: _given(t.m, 64 * t.t1))
# non-INVITE client (§17.1.2.2)
E = Timer(
    "E",
    lambda t: _given(t.e, t.t1),
    again=lambda t, last, proceeding: t.t2 if proceeding else min(last * 2, t.t2),
    reliable="none",
)
F = Timer("F", lambda t: _given(t.f, 64 * t.t1))
K = Timer("K", lambda t: _given(t.k, t.t4), reliable="zero")
# INVITE server (§17.2.1)
TRYING_100 = Timer("100", lambda t: t.trying)
CORE_INVITE = Timer("core", lambda t: _given(t.core_invite, t.c + 64 * t.t1 + 2))
# restarted with the Expires of an INVITE, which most lack (§13.3.1 step 1)
EXPIRES = Timer("Expires", lambda t: float("inf"))
G = Timer(
    "G", lambda t: _given(t.g, t.t1), again=lambda t, last, _: min(last * 2, t.t2), reliable="none"
)
H = Timer("H", lambda t: _given(t.h, 64 * t.t1))
I = Timer("I", lambda t: _given(t.i, t.t4), reliable="zero")  # noqa: E741 the RFC's letter
L = Timer("L", lambda t: _given(t.l, 64 * t.t1))
# non-INVITE server (§17.2.2, RFC 4320 §4.1)
DELAYED_100 = Timer("delayed 100", _until_t2)
CORE_NON_INVITE = Timer("core", lambda t: t.core_non_invite)
J = Timer("J", lambda t: _given(t.j, 64 * t.t1), reliable="zero")
