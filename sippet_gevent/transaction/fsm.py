"""Transaction: walks one table and returns effects, RFC 3261 §17. Pure: no clock, no socket."""

from __future__ import annotations

from typing import Any

from ..errors import TransactionStateError, TransportError, excerpt
from ..message.message import Message, Request
from ..slots import read_from_slots
from .machines import (
    CALLING,
    INVITE_CLIENT,
    INVITE_SERVER,
    LOCAL,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    NOTHING,
    PROCEEDING,
    RECV_1XX,
    RECV_2XX,
    RECV_300_UP,
    SEND_1XX,
    SEND_2XX,
    SEND_300_UP,
    TERMINATED,
    TRYING,
    Effects,
    Event,
    Machine,
    do,
)
from .timers import A, E, Timer, Timers

NEVER = float("inf")

# Events by the class of a status code, `status // 100`.
RECEIVED = (None, RECV_1XX, RECV_2XX, *[RECV_300_UP] * 4)
SENT = (None, SEND_1XX, SEND_2XX, *[SEND_300_UP] * 4)

DEFAULT_TIMERS = Timers()

Entry = tuple[float, Timer, float]
"""A running timer: when it fires, the timer, and its length."""

_END = (do.nothing, TERMINATED)
_UNANSWERED = frozenset((CALLING, TRYING, PROCEEDING))


class Plan:
    """What happens when a transaction of a machine enters a state, computed once for these timers.

    `starts` has by state: the state it leads to, the timers that start with their lengths, the
    shortest length, and whether another state lists one of these timers. A state that only waits
    for a timer of length zero leads to the end, so a reliable transport keeps no record. `endless`
    has by state the timers that start and do not end by themselves.
    """

    __slots__ = ("endless", "starts", "timers")

    def __init__(self, machine: Machine, timers: Timers, reliable: bool) -> None:
        self.timers = timers
        self.endless: dict[str, tuple[Entry, ...]] = {}
        self.starts: dict[str, tuple[str, tuple[tuple[float, Timer], ...], float, bool]] = {}
        for state, wanted in machine.timers.items():
            starts = []
            for timer in wanted:
                if reliable and timer.reliable == "none":
                    continue
                starts.append(
                    (0.0 if reliable and timer.reliable == "zero" else timer.first(timers), timer)
                )
            self.endless[state] = tuple(
                timer.endless for length, timer in starts if length == NEVER
            )
            shared = any(
                set(wanted) & set(other) for name, other in machine.timers.items() if name != state
            )
            if any(length == 0 and machine.table[state][timer] == _END for length, timer in starts):
                self.starts[state] = TERMINATED, (), NEVER, False
            else:
                self.starts[state] = (
                    state,
                    tuple(starts),
                    min((length for length, _ in starts), default=NEVER),
                    shared,
                )


def plan_of(machine: Machine, timers: Timers, reliable: bool) -> Plan:
    """Return the plan of a machine, made for a set of timers that keeps it from then on."""
    plan = timers._plans[machine.name, reliable] = Plan(machine, timers, reliable)
    return plan


class Transaction:
    """The record of one transaction. A stack may keep 100,000 of them, so each slot counts.

    `deadline` is the time at which `expire(now)` must be called next. `last` is the message that a
    retransmission repeats. The engine owns four attributes. `user` is the user of the transaction,
    and `flow` the flow that carries it. Copies of its request are found by the key `merge`. `wake`
    is the time at which the engine looks at it next. After the end, `request` is None.
    """

    __slots__ = (
        "_plan",
        "_running",
        "deadline",
        "flow",
        "key",
        "last",
        "machine",
        "merge",
        "method",
        "quiet_until",
        "reliable",
        "request",
        "state",
        "user",
        "wake",
    )

    def __init__(
        self,
        machine: Machine,
        key: str,
        request: Request,
        *,
        reliable: bool = False,
        timers: Timers = DEFAULT_TIMERS,
    ) -> None:
        self.machine = machine
        self.key = key
        self.request: Request | None = request
        self.method: str = request.method
        self.reliable = reliable
        self._plan = timers._plans.get((machine.name, reliable)) or plan_of(
            machine, timers, reliable
        )
        self.state = TERMINATED
        self.last: bytes | None = None
        self.quiet_until = 0.0
        self.deadline = NEVER
        self.wake = NEVER
        # The running timers. Until one but the first is needed, the time when the state was entered
        # represents them.
        # One alone, beside those without an end, represents all of them.
        self._running: float | Entry | tuple[Entry, ...] = ()
        # the records of the engine, which derive from this class, give these their types
        self.user: object = None
        self.flow: object = None
        self.merge: int | None = None

    def start(self, now: float) -> Effects:
        """Enter the first state. A client sends its request, a server delivers it."""
        action, state = self.machine.start
        # unless the caller has set the bytes of the request
        if self.machine.is_client and self.last is None:
            assert self.request is not None  # the engine drops it only after the end
            self.last = bytes(self.request)
        self._enter(state, float(now))
        return action(self, self.request, now)

    def begin(self, now: float) -> None:
        """Enter the first state of a server, as start() does. The caller delivers the request."""
        self._enter(self.machine.start[1], float(now))

    def handle(
        self, event: Event, now: float, message: Message | bytes | TransportError | None = None
    ) -> Effects:
        """Walk one row and return its effects. An event of the peer without a row has none.

        Args:
            event: a timer, or an event of machines.py.
            now: seconds of the clock that the deadline is on.
            message: the request, response or error of the event.

        Raises:
            TransactionStateError: the state has no row for an event of our own.
        """
        row = self.machine.table[self.state].get(event)
        if row is None:
            if event in LOCAL:
                raise TransactionStateError(f"cannot {event} when {self.state}: {self!r}")
            return NOTHING
        action, state = row
        # before the state changes, because a response that cannot be written raises
        effects = action(self, message, now)
        if state is not self.state:
            self._enter(state, float(now))
        if self.deadline <= now:  # a timer of length zero
            effects += self.expire(now)
        return effects

    def expire(self, now: float) -> Effects:
        """Fire the timers that are due and return their effects."""
        effects: Effects = NOTHING
        while self.deadline <= now:
            running = self._entries()
            due, timer, interval = min(running, key=_deadline)
            rest = tuple(entry for entry in running if entry[1] is not timer)
            if timer.again is not None:
                interval = timer.again(self.timers, interval, self.state is PROCEEDING)
                following = due + interval
                # we are late, and missed ones must not go out as a burst (§17.1.1.2 backs off)
                if following <= now:
                    following = now + interval
                rest = ((following, timer, interval), *rest)
            self._set(rest)
            effects += self.handle(timer, now)
        return effects

    def abandon(self) -> None:
        """End at once, without effects."""
        self.state = TERMINATED
        self._set(())

    def restart(self, timer: Timer, now: float, length: float | None = None) -> None:
        """Let a running timer start again, with the length it has or with `length` seconds."""
        running = []
        for entry in self._entries():
            if entry[1] is timer:
                seconds = entry[2] if length is None else length
                entry = now + seconds, timer, seconds
            running.append(entry)
        self._set(tuple(running))

    def _enter(self, state: str, now: float) -> None:
        """Stop timers that the new state does not list, and start those that only it lists."""
        planned = self._plan.starts.get(state)
        if planned is None:
            self.state = state
            self._running = ()
            self.deadline = NEVER
            return
        state, starts, shortest, shared = planned
        if not shared or self._running == ():
            self.state = state
            self._running = now if starts else ()
            self.deadline = now + shortest
            return
        running = {entry[1]: entry for entry in self._entries()}
        self.state = state
        self._set(
            tuple(running.get(timer) or (now + length, timer, length) for length, timer in starts)
        )

    def _entries(self) -> tuple[Entry, ...]:
        running: Any = self._running
        if type(running) is float:
            entries = []
            for length, timer in self._plan.starts[self.state][1]:
                entries.append(
                    (running + length, timer, length) if length < NEVER else timer.endless
                )
            return tuple(entries)
        if running and type(running[0]) is not tuple:
            return (running, *self._plan.endless[self.state])
        return running  # type: ignore[no-any-return]  # entries, or none

    def _set(self, running: tuple[Entry, ...]) -> None:
        deadline, ending = NEVER, 0
        for entry in running:
            if entry[0] < NEVER:
                ending += 1
                if entry[0] < deadline:
                    deadline = entry[0]
        is_alone = ending == 1 and running[1:] == self._plan.endless.get(self.state)
        self._running = running[0] if is_alone else running
        self.deadline = deadline

    @property
    def timers(self) -> Timers:
        """The lengths of its timers."""
        return self._plan.timers

    @property
    def is_terminated(self) -> bool:
        """True if the transaction has ended and its record can be dropped."""
        return self.state is TERMINATED

    @property
    def is_unanswered(self) -> bool:
        """True until its final response has been received, or sent."""
        return self.state in _UNANSWERED

    @property
    def sent_at(self) -> float:
        """When a client sent its request last, by the clock. NEVER if it is not repeated now."""
        for due, timer, length in self._entries():
            if timer is A or timer is E:
                return due - length
        return NEVER

    @property
    def running(self) -> dict[str, float]:
        """The time at which each running timer fires, by its letter."""
        return {timer.letter: due for due, timer, _ in self._entries()}

    def __repr__(self) -> str:
        return f"<Transaction {self.machine.name} {excerpt(self.key)[1:-1]} {self.state}>"


read_from_slots(Transaction, timers="_plan.timers")


def _deadline(entry: tuple[float, Timer, float]) -> float:
    return entry[0]


def client_machine(method: str) -> Machine:
    """Return the client table for a method."""
    return INVITE_CLIENT if method == "INVITE" else NON_INVITE_CLIENT


def server_machine(method: str) -> Machine:
    """Return the server table for a method."""
    return INVITE_SERVER if method == "INVITE" else NON_INVITE_SERVER
