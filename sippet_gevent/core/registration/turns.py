"""Turns: which REGISTER may be sent when, so that a registrar that was down gets no storm. Pure.

| rule | value |
|---|---|
| REGISTERs a second that begin anew or after a failure, of all registrars together | RATE |
| refreshes, while a registrar answers | at once, because they are spread anyway |
| REGISTERs in any second, those refreshes among them | MARGIN times RATE |
| refreshes a second that had to wait | RATE together with the others, and before them |
| REGISTERs without a final response, at one registrar | PENDING |
| REGISTERs that remove bindings when the stack stops | PENDING at once, then as unregister_rate() |

A silent registrar gets each REGISTER eleven times (timer E). So what bounds the datagrams that it
gets is PENDING. All other registrations wait for their turn meanwhile. RATE and PENDING grow with
the refreshes that the bindings of a stack need, so that thousands of them can be kept.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Protocol

RATE = 20.0
"""A registrar that asks for passwords gets twice as many requests, so 40 a second."""

PENDING = 16
"""Each of them is sent once or twice in a second, so at most 32 a second when all begin at once,
and 4 a second later."""

SETTLE = 4.5
"""Seconds after which the others begin when a registrar answers again. First come those that are
pending: all are repeated, and challenged, in T2 seconds."""

MARGIN = 1.25
"""How much faster than needed the refreshes that have waited are sent. Also how many more than RATE
begin in one second, because chance brings refreshes together. A registrar that has lost its nonces
challenges each of them, and gets 50 requests then."""


UNREGISTER_SECONDS = 10.0
"""Most seconds that the stop of a stack takes to remove its bindings. Then a service manager would
lose its patience; most wait for 90 seconds, some for 10."""


def unregister_rate(number: int) -> float:
    """Return how many REGISTERs a second remove the bindings of a stack that stops.

    That is RATE. It is more if `number` bindings would take longer than UNREGISTER_SECONDS.
    """
    return max(RATE, (number - PENDING) / UNREGISTER_SECONDS)


class Waiting(Protocol):
    """A registration, as the turns see it."""

    lane: Lane | None
    """The lane in which its REGISTER is pending."""

    def _turn(self, now: float) -> None:
        """It is its turn. Sends a REGISTER."""

    def _stuck(self, error: Exception) -> None:
        """It waits, because its registrar fails for this reason."""


class Lane:
    """The REGISTERs of one registrar: those without a final response, and those that wait."""

    __slots__ = ("error", "first", "key", "pending", "then")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.pending = 0
        self.first: OrderedDict[Waiting, None] = OrderedDict()
        """Refreshes that wait."""
        self.then: OrderedDict[Waiting, None] = OrderedDict()
        """Others that wait."""
        self.error: Exception | None = None
        """Why the latest REGISTER has got no answer; None if it has."""

    def __len__(self) -> int:
        return len(self.first) + len(self.then)


class Turns:
    """The lanes of a stack. `len()` counts the registrations that wait."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, Lane] = {}
        self._next = 0.0
        self._begun: deque[float] = deque()
        """When the REGISTERs of the last second began."""
        self.load = 0.0
        """Refreshes a second that the present bindings need."""

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    @property
    def rate(self) -> float:
        """REGISTERs a second that may begin in turn."""
        return max(RATE, MARGIN * self.load)

    @property
    def most_pending(self) -> float:
        """Most REGISTERs without a final response, at one registrar."""
        return max(PENDING, self.load)

    def ask(self, waiting: Waiting, key: Hashable, now: float, *, is_refresh: bool) -> None:
        """Ask for a turn, which may come at once."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        if (
            is_refresh and not lane and lane.error is None and lane.pending < self.most_pending
            and now >= self._room_at(now)
        ):  # fmt: skip
            self._give(lane, waiting, now)
            return
        lane.first.pop(waiting, None)
        lane.then.pop(waiting, None)
        (lane.first if is_refresh else lane.then)[waiting] = None
        if lane.error is not None:
            waiting._stuck(lane.error)

    def withdraw(self, waiting: Waiting, key: Hashable) -> None:
        """Wait for a turn no longer, and forget the pending REGISTER."""
        self.release(waiting)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.first.pop(waiting, None)
            lane.then.pop(waiting, None)
            if not lane.pending and not len(lane):
                del self._lanes[key]

    def release(self, waiting: Waiting) -> None:
        """A REGISTER has its final response, or was given up."""
        lane, waiting.lane = waiting.lane, None
        if lane is not None:
            lane.pending -= 1
            self._drop(lane)

    def note(self, waiting: Waiting, error: Exception | None, now: float) -> None:
        """Note if the registrar has answered a pending REGISTER, or why it has not."""
        lane = waiting.lane
        if lane is None:
            return
        before, lane.error = lane.error, error
        if before is not None and error is None:
            self._next = max(self._next, now + SETTLE)
        if before is None and error is not None:
            for each in (*lane.first, *lane.then):
                each._stuck(error)

    def give(self, now: float) -> float | None:
        """Give all turns that are due. Return the time of the next one, or None if all wait for
        responses."""
        while True:
            lanes = [
                lane
                for lane in self._lanes.values()
                if len(lane) and lane.pending < self.most_pending
            ]
            if not lanes:
                return None
            for lane in lanes:
                due = max(self._next, self._room_at(now))
                if now < due:
                    return due
                queue = lane.first or lane.then
                waiting, _ = queue.popitem(last=False)
                self._give(lane, waiting, now)
                # in turn: a lane that was served goes behind the others
                if self._lanes.get(lane.key) is lane:
                    self._lanes[lane.key] = self._lanes.pop(lane.key)

    def _room_at(self, now: float) -> float:
        """Return when one more REGISTER may begin, because less than the most of a second have."""
        begun = self._begun
        while begun and begun[0] <= now - 1:
            begun.popleft()
        return begun[0] + 1 if len(begun) >= MARGIN * self.rate else now

    def _give(self, lane: Lane, waiting: Waiting, now: float) -> None:
        self._begun.append(now)
        self._next = max(now, self._next) + 1 / self.rate
        lane.pending += 1
        waiting.lane = lane
        waiting._turn(now)

    def _drop(self, lane: Lane) -> None:
        if not lane.pending and not len(lane) and lane.error is None:
            self._lanes.pop(lane.key, None)

    def clear(self) -> None:
        """Forget everything. The stack has stopped."""
        self._lanes.clear()
        self._begun.clear()
        self._next = self.load = 0.0
