"""Statistics: counters and gauges of one stack."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Protocol

from ..engine.engine import Engine
from ..observe.counters import Counts
from .element import RequestSender


class Statistics(Counts):
    """Counters and gauges of one stack by name, as `stack.stats()` returns them.

        stack.stats()["refused"]  # {"handlers": 3}: requests that got 503 at a limit

    The page "Counters" of the documentation describes each one.
    """

    server_transactions: int
    client_transactions: int
    calls: int
    early_dialogs: int
    calls_unowned: int
    call_events_dropped: int
    subscriptions: int
    handlers: int
    forwarding: int
    overdue: int
    large_bytes: int
    unacknowledged: dict[str, int]
    refused: dict[str, int]
    greenlets: int
    transports: int
    connections: int
    streams: dict[str, int]
    next_hop_failures: dict[str, int]
    requests_held_back: dict[str, int]
    requests_repeated: dict[str, int]
    icmp: dict[str, int]
    stun: dict[str, int]
    registrations: dict[str, int]
    accounts: dict[str, int]
    kernel_drops: int
    overload: dict[str, int]


class MeasuredDialogs(Sized, Protocol):
    """The dialogs of a stack. Their length is the number of calls."""

    unowned: int
    events_dropped: int
    subscriptions: int

    @property
    def early(self) -> int:
        """Number of early dialogs."""


class Counted(Protocol):
    """What has counters of its own."""

    @property
    def statistics(self) -> dict[str, int]:
        """The counters and gauges by name."""


class Measured(Protocol):
    """The parts of a stack that have counters."""

    @property
    def engine(self) -> Engine:
        """Transports and transactions."""

    @property
    def sender(self) -> RequestSender:
        """Counts next hops that have failed."""

    @property
    def dialogs(self) -> MeasuredDialogs:
        """The calls."""

    @property
    def registrations(self) -> Counted:
        """Registrations of our own."""

    @property
    def accounts(self) -> Counted:
        """Accounts at carriers."""

    @property
    def rerouted(self) -> Sized:
        """The responses that are being rerouted."""


def statistics(stack: Measured) -> Statistics:
    """Return counters and gauges as one dict of numbers, and of dicts of numbers."""
    engine = stack.engine
    admission, transports = engine.admission, engine.transports
    return {
        **engine.counters.as_dict(),
        "server_transactions": len(engine.servers),
        "client_transactions": len(engine.clients),
        "calls": len(stack.dialogs),
        "early_dialogs": stack.dialogs.early,
        "calls_unowned": stack.dialogs.unowned,
        "call_events_dropped": stack.dialogs.events_dropped,
        "subscriptions": stack.dialogs.subscriptions,
        "handlers": len(admission.handlers),
        "forwarding": len(admission.forwarding_invites) + len(admission.forwarding),
        "overdue": len(admission.overdue),
        "large_bytes": admission.large_bytes,
        "unacknowledged": engine.amplification.statistics,
        "refused": dict(admission.refused),
        "greenlets": engine.workers.alive,
        "transports": len(transports),
        "connections": sum(len(getattr(each, "flows", ())) for each in transports),
        "streams": _summed(getattr(each, "counts", {}) for each in transports),
        "requests_held_back": dict(stack.sender.overloaded.refused),
        "requests_repeated": dict(stack.sender.repeated),
        "next_hop_failures": dict(stack.sender.failures.counts),
        "registrations": stack.registrations.statistics,
        "accounts": stack.accounts.statistics,
        "kernel_drops": sum(getattr(each, "kernel_drops", 0) for each in transports),
        "overload": engine.overload.statistics,
        "icmp": _summed(getattr(each, "icmp", {}) for each in transports),
        "stun": _summed(getattr(each, "stun", {}) for each in transports),
        "send_errors": engine.counters.send_errors
        + sum(getattr(each, "lost", 0) for each in transports),
    }


def unfinished(stack: Measured) -> int:
    """Return the number of items that a drain waits for: transactions without final response,
    running cores, calls, and responses that are being rerouted."""
    engine = stack.engine
    transactions = [*engine.clients.values(), *engine.servers.values()]
    unanswered = sum(tx.is_unanswered for tx in transactions)
    return unanswered + engine.workers.busy + len(stack.dialogs) + len(stack.rerouted)


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in counts:
        for reason, number in part.items():
            total[reason] = total.get(reason, 0) + number
    return total
