"""Registrations: all registrations of a stack, their turns, their flows and their counters."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Protocol

from gevent.event import Event

from ...observe.log_values import Plain
from ...runtime.deadline import Deadline
from ...stores.bindings import FlowName
from ...transport.base import Address, Flow
from ..element import Element
from .turns import PENDING, UNREGISTER_SECONDS, Turns, Waiting, unregister_rate

log = logging.getLogger("sippet_gevent.core")

ADDRESS_SECONDS = 30.0
"""Seconds between two looks at our own addresses, which change when an interface does."""

COUNTERS = ("sent", "accepted", "failed", "refused", "expired", "flows_ended", "address_changed")


class Registered(Waiting, Protocol):
    """A registration by one flow, as this table sees it."""

    seconds: float
    """Seconds between two refreshes; 0 while it is not registered."""

    @property
    def is_registered(self) -> bool:
        """True while the registrar has the binding."""

    def _flow_ended(self) -> None:
        """The flow of the last REGISTER has ended."""

    def _stop(self) -> bool:
        """The stack stops. True if a REGISTER was sent that removes the binding."""

    def _look(self, addresses: dict[Flow, Address]) -> None:
        """Register again if our own address has changed. `addresses` has those that are known."""


class Registrations:
    """The registrations of a stack. `len()` counts them, each flow for itself."""

    def __init__(self, stack: Element) -> None:
        self._stack = stack
        self._all: dict[Registered, FlowName | None] = {}
        self._by_flow: dict[FlowName, dict[Registered, None]] = {}
        self._turns = Turns()
        self._is_watching = False
        self._deadline: Deadline | None = None
        self._look_at = 0.0
        self._looking: Looking | None = None
        self._left: Event | None = None
        self.counts = dict.fromkeys(COUNTERS, 0)
        """What has happened, by name."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def statistics(self) -> dict[str, int]:
        """Counters, and the registrations that exist, are registered and wait for their turn."""
        registered = sum(each.is_registered for each in self._all)
        return {
            **self.counts,
            "kept": len(self._all),
            "registered": registered,
            "waiting": len(self._turns),
        }

    def add(self, registration: Registered) -> None:
        """Keep a registration until it is removed."""
        self._all[registration] = None
        if not self._is_watching:
            self._is_watching = True
            self._stack.names.flow_watches.append(self._ended)
        if self._looking is None:
            self._looking = Looking(self)
            self._look_again()

    def remove(self, registration: Registered, key: Hashable) -> None:
        """Forget a registration."""
        self.bind(registration, None)
        self.spread(registration, 0.0)
        self._all.pop(registration, None)
        self._turns.withdraw(registration, key)
        self._plan()

    # ---- turns

    def ask(self, registration: Registered, key: Hashable, *, is_refresh: bool) -> None:
        """Ask for the turn of a registration, which may come at once.

        Args:
            registration: The registration.
            key: What stands for its registrar.
            is_refresh: True if the registrar has the binding, so it would be lost otherwise.
        """
        self._turns.ask(registration, key, self._stack.clock.now(), is_refresh=is_refresh)
        self._plan()

    def release(self, registration: Registered, error: Exception | None) -> None:
        """A REGISTER has ended: `error` says why the registrar has not answered."""
        self._turns.note(registration, error, self._stack.clock.now())
        self._turns.release(registration)
        self._plan()

    def spread(self, registration: Registered, seconds: float) -> None:
        """Note the seconds between two refreshes of a registration; 0 for none."""
        before, registration.seconds = registration.seconds, seconds
        if seconds != before:
            load = self._turns.load
            load += (1 / seconds if seconds else 0.0) - (1 / before if before else 0.0)
            self._turns.load = max(load, 0.0)

    def _plan(self) -> None:
        """Give the turns that are due, and have expire() called for the next one."""
        now = self._stack.clock.now()
        due = self._turns.give(now)
        deadline = self._deadline
        if due is None or (deadline is not None and deadline.due <= due):
            return
        if deadline is not None:
            deadline.owner = None
            self._stack.deadlines.remove(deadline.due, deadline)
        self._deadline = Deadline(self, due)
        self._stack.deadlines.add(due, self._deadline)

    def expire(self, now: float) -> None:
        """Give the turns that are due."""
        self._plan()

    def complain(self, call_id: str, error: Exception) -> None:
        """Count and log an exception of the application, such as one of its middleware."""
        counters = self._stack.engine.counters
        counters.core_errors += 1
        counters.error(
            "registration not sent",
            self._stack.clock.now(),
            'registration not sent: call_id=%s reason="%s"',
            Plain(call_id),
            error,
            exc_info=error,
            log=log,
        )

    # ---- flows

    def bind(self, registration: Registered, flow: Flow | None) -> None:
        """Note the flow that a registration depends on: a connection, or for datagrams what
        keep-alives have proved (RFC 5626 §4.4)."""
        if registration not in self._all:
            return
        before = self._all[registration]
        name = None
        if flow is not None:
            name = self._stack.names.stored_flow(flow)
        if name == before:
            return
        self._all[registration] = name
        if before is not None:
            others = self._by_flow.get(before, {})
            others.pop(registration, None)
            if not others:
                self._by_flow.pop(before, None)
        if name is not None:
            self._by_flow.setdefault(name, {})[registration] = None

    def _ended(self, name: FlowName) -> None:
        for registration in [*self._by_flow.get(name, ())]:
            self.bind(registration, None)
            registration._flow_ended()

    # ---- our own addresses

    def look(self) -> None:
        """Register again what our peers would look for at an old address of ours."""
        if not self._all:
            self._looking = None
            return
        addresses: dict[Flow, Address] = {}
        for registration in [*self._all]:
            registration._look(addresses)
        self._look_again()

    def _look_again(self) -> None:
        if self._looking is not None:
            due = self._stack.clock.now() + ADDRESS_SECONDS
            self._looking._deadline = Deadline(self._looking, due)
            self._stack.deadlines.add(due, self._looking._deadline)

    # ---- the end

    @property
    def is_leaving(self) -> bool:
        """True while the stack stops, and removes its bindings."""
        return self._left is not None

    def leave(self) -> bool:
        """Remove the bindings at a steady pace, if there are many, because the stack is about to
        stop. Waits for UNREGISTER_SECONDS at most.

        stop() ends what is left. Returns False if another greenlet has called it meanwhile.
        """
        registered = [each for each in self._all if each.is_registered]
        if len(registered) <= PENDING or self._left is not None:
            return True
        left = self._left = Event()
        clock = self._stack.clock
        begin, rate = clock.now(), unregister_rate(len(registered))
        try:
            for number, registration in enumerate(registered):
                due = begin + max(number + 1 - PENDING, 0) / rate
                wait = min(due, begin + UNREGISTER_SECONDS) - clock.now()
                if wait > 0 and clock.within(wait, left.wait):
                    return False
                if registration in self._all:  # it may have ended meanwhile
                    registration._stop()
                    self.bind(registration, None)
                    del self._all[registration]
        finally:
            if self._left is left:
                self._left = None
        return True

    def stop(self) -> None:
        """End all registrations. Each that is registered sends one REGISTER that removes it, and
        waits for no answer."""
        left, self._left = self._left, None
        if left is not None:
            left.set()
        for registration in [*self._all]:
            registration._stop()
        self._all.clear()
        self._by_flow.clear()
        self._turns.clear()
        for owner in (self, self._looking):
            deadline = None if owner is None else owner._deadline
            if owner is not None and deadline is not None:
                deadline.owner = owner._deadline = None
                self._stack.deadlines.remove(deadline.due, deadline)
        self._looking = None


class Looking:
    """The deadline of the next look at our own addresses."""

    __slots__ = ("_deadline", "_registrations")

    def __init__(self, registrations: Registrations) -> None:
        self._registrations = registrations
        self._deadline: Deadline | None = None

    def expire(self, now: float) -> None:
        """Look."""
        self._registrations.look()
