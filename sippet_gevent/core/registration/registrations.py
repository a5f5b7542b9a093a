"""Registrations: all registrations of a stack, their rate and their flows."""

from __future__ import annotations

from typing import Protocol

from ...stores.bindings import FlowName
from ...transport.base import Flow
from ..element import Element

RATE = 20.0
"""Most registrations a second that begin anew or after a failure. A registrar that asks for
passwords gets twice as many requests. Refreshes are not counted, because they are spread anyway."""


class Registered(Protocol):
    """A registration, as this table sees it."""

    def _flow_ended(self) -> None:
        """The flow of the last REGISTER has ended."""

    def _stop(self) -> None:
        """The stack stops."""


class Registrations:
    """The registrations of a stack. `len()` counts them."""

    def __init__(self, stack: Element) -> None:
        self._stack = stack
        self._all: dict[Registered, FlowName | None] = {}
        self._by_flow: dict[FlowName, dict[Registered, None]] = {}
        self._next = 0.0
        self._is_watching = False

    def __len__(self) -> int:
        return len(self._all)

    def add(self, registration: Registered) -> None:
        """Keep a registration until it is removed."""
        self._all[registration] = None
        if not self._is_watching:
            self._is_watching = True
            self._stack.names.flow_watches.append(self._ended)

    def remove(self, registration: Registered) -> None:
        """Forget a registration."""
        self.bind(registration, None)
        self._all.pop(registration, None)

    def slot(self, now: float) -> float:
        """Return the time at which a registration that is due may begin: `now`, or its turn."""
        due = max(now, self._next)
        self._next = due + 1 / RATE
        return due

    def bind(self, registration: Registered, flow: Flow | None) -> None:
        """Note the connection that a registration depends on."""
        if registration not in self._all:
            return
        before = self._all[registration]
        name = None
        if flow is not None and flow.transport.reliable:
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

    def stop(self) -> None:
        """End all registrations. Each that is registered sends one REGISTER that removes it, and
        waits for no answer."""
        for registration in [*self._all]:
            registration._stop()
        self._all.clear()
        self._by_flow.clear()
        self._next = 0.0
