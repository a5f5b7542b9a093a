"""Admission: where each waiting core is counted, and which new requests get 503 for it, RFC 3261 §21.5.4."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from .clock import Clock
from .counters import Counters, Plain
from .limits import LARGE, Limits
from .transaction.timers import Timers

log = logging.getLogger("sippet_gevent.core")

Place = dict[Any, float]
"""ServerTransactions whose cores are counted in one place, each with the time since when."""

REFUSED = 100_000
"""Requests refused lately whose repetitions must be refused, too, at most; each costs a key of some 100 bytes, twice."""


class Admission:
    """Counts the cores that wait, each in one place, and compares the places with their limits.

    `handlers` are cores whose request has no final response yet, `forwarding_invites` and `forwarding` those that wait
    for the responses to a forwarded request. `holding` are cores that have answered and hold a call, which counts
    against `Limits.calls` alone. `overdue` are all others that have answered, or whose transaction has timed out, and
    still run. A core that never waits is never counted: it has ended before the next message is read.
    """

    def __init__(self, limits: Limits, timers: Timers, clock: Clock, counters: Counters) -> None:
        self.handlers: Place = {}
        self.forwarding_invites: Place = {}
        self.forwarding: Place = {}
        self.holding: Place = {}
        self.overdue: Place = {}
        self.refused: dict[str, int] = {}
        """Requests refused with 503, by the limit that was reached."""
        self.large: dict[Any, int] = {}
        """Transactions and calls that large requests have made, and the bytes of those requests."""
        self.large_octets = 0
        self.lately = RefusedLately(64 * timers.t1)
        self.is_open = True
        """False while a limit on cores is reached or requests were refused lately: then each new request is looked at."""
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._patience = 64 * timers.t1
        self._told: set[Any] = set()
        self._alarm: Any = None
        self._handlers_reserve = _with_reserve(limits.handlers, limits)
        self._transactions_reserve = _with_reserve(limits.transactions, limits)
        self._large_reserve = _with_reserve(limits.large_octets, limits)
        self._forwarding_reserve = _with_reserve(limits.forwarding, limits)

    # ---- places

    def enter(self, worker: Any, tx: Any) -> None:
        """Count the core that serves `tx`, which waits for the first time, in `worker`."""
        tx.worker = worker
        worker.counted = tx
        tx.place = place = self._place(tx)
        place[tx] = self._clock.now()
        self._settle()
        if place is self.overdue or tx.transaction is None:
            self._watch()

    def move(self, tx: Any) -> None:
        """Count a core where it belongs now. Called when its request is answered, is forwarded, or its call has ended."""
        before, place = tx.place, self._place(tx)
        if before is not None and before is not place:
            del before[tx]
            tx.place = place
            place[tx] = self._clock.now()
            self._settle()
            if place is self.overdue:
                self._watch()

    def leave(self, tx: Any) -> None:
        """Count a core no longer: it has ended."""
        place, tx.place, tx.worker = tx.place, None, None
        place.pop(tx, None)
        self._told.discard(tx)
        self._settle()

    def _settle(self) -> None:
        limits = self._limits
        is_full = len(self.handlers) >= limits.handlers or len(self.overdue) >= limits.overdue
        self.is_open = not (is_full or self.lately.keys)

    def _place(self, tx: Any) -> Place:
        if not tx.answered:
            if tx.context is not None:
                return self.forwarding_invites if tx.request.method == "INVITE" else self.forwarding
            return self.handlers
        return self.holding if tx.holds else self.overdue

    # ---- large requests

    def weigh(self, holder: Any, octets: int) -> None:
        """Count the bytes of the large request that has made a transaction or call."""
        self.large[holder] = octets
        self.large_octets += octets

    def release(self, holder: Any) -> None:
        """Count the bytes of a transaction or call no longer: it has ended. Others are ignored."""
        self.large_octets -= self.large.pop(holder, 0)

    # ---- limits

    def limit_reached(self, transactions: int, belongs: Callable[[], bool], method: str, octets: int) -> str | None:
        """Return the name of the limit that refuses a request of so many bytes, None when it is served.

        A request that `belongs` to a call, a dialog or a route of ours has a reserve of its own, and a BYE of those is
        refused by the number of transactions alone: a limit must never refuse what would free it.
        """
        limits = self._limits
        if transactions >= limits.transactions:
            name = "transactions"
        elif len(self.handlers) >= limits.handlers:
            name = "handlers"
        elif len(self.overdue) >= limits.overdue:
            name = "overdue"
        elif octets > LARGE and self.large_octets + octets > limits.large_octets:
            name = "large_octets"
        else:
            return None
        if not belongs() or transactions >= self._transactions_reserve:
            return name
        if octets > LARGE and self.large_octets + octets > self._large_reserve:
            return "large_octets"
        return "handlers" if len(self.handlers) >= self._handlers_reserve and method != "BYE" else None

    def may_acknowledge(self, belongs: Callable[[], bool]) -> bool:
        """True when there is room for one more core that serves an ACK."""
        handlers = len(self.handlers)
        return handlers < self._limits.handlers or (handlers < self._handlers_reserve and belongs())

    def may_forward(self, method: str, belongs: Callable[[], bool]) -> bool:
        """True when there is room for one more forwarded request: INVITEs and other methods are counted apart."""
        place = self.forwarding_invites if method == "INVITE" else self.forwarding
        if len(place) < self._limits.forwarding:
            return True
        return belongs() and (method == "BYE" or len(place) < self._forwarding_reserve)

    def refused_lately(self, key: str) -> int | None:
        """Return the Retry-After that this request was told when it came before, None when it was not refused lately."""
        found = self.lately.get(key, self._clock.now())
        self._settle()
        return found

    def remember(self, key: str, retry_after: int) -> None:
        """Have repetitions of a request refused, too."""
        self.lately.add(key, retry_after, self._clock.now())
        self.is_open = False

    def refuse(self, limit: str, method: str) -> None:
        """Count and log a request that this limit refuses."""
        self.refused[limit] = self.refused.get(limit, 0) + 1
        text = f"request refused at a limit: method=%s limit={limit} answered=503"
        self._counters.warn(f"limit {limit}", self._clock.now(), text, method)

    # ---- cores that never end

    def tell(self, tx: Any) -> None:
        """Log, once, where an overdue core is, unless it waits in a call of this library, which will end."""
        if tx in self._told or tx.parked is not None or tx.worker is None:
            return
        self._told.add(tx)
        frame = tx.worker.gr_frame
        if frame is not None and self._counters.loud("overdue", self._clock.now()):
            log.warning(
                "core is overdue: method=%s answered=%d call_id=%s it is at:\n%s",
                Plain(tx.request.method), tx.answered, Plain(tx.request.headers.get("Call-ID")),
                "".join(traceback.format_stack(frame)),
            )  # fmt: skip

    def _watch(self) -> None:
        if self._alarm is None:
            self._alarm = self._clock.alarm(self._patience, self._look)

    def _look(self) -> None:
        """Look for cores whose request was answered a transaction's life ago, and for ACKs that are served that long."""
        self._alarm = None
        before = self._clock.now() - self._patience
        waiting = False
        for tx, since in [*self.handlers.items()]:
            if tx.transaction is None:
                waiting = True
                if since <= before:
                    tx.give_up()
        for tx, since in [*self.overdue.items()]:
            if since <= before:
                self.tell(tx)
        if waiting or self.overdue:
            self._watch()

    def stop(self) -> None:
        """Look no longer. Cores that still run stay counted until they end, as overdue."""
        for tx in [*self.handlers]:
            tx.ended()  # those of ACKs, which have no transaction that has ended with the stack
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None


class RefusedLately:
    """Keys of requests that were refused without a transaction, with the Retry-After they were told.

    A client that repeats such a request must get the same answer, not another one because there is room again: it may
    have taken the first (RFC 3261 §8.2.7). They are remembered for `seconds` to twice that, and REFUSED of them at most.
    """

    __slots__ = ("_before", "_seconds", "_since", "keys")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = 0.0
        self.keys: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def add(self, key: str, retry_after: int, now: float) -> None:
        """Remember that a request was refused."""
        if now >= self._since + self._seconds or len(self.keys) >= REFUSED:
            self._before = self.keys if now < self._since + 2 * self._seconds else {}
            self.keys = {}
            self._since = now
        self.keys[key] = retry_after

    def get(self, key: str, now: float) -> int | None:
        """Return the Retry-After that the request was told, None when it was not refused lately."""
        if now >= self._since + 2 * self._seconds:
            self.keys, self._before = {}, {}
            return None
        found = self.keys.get(key)
        return self._before.get(key) if found is None else found


def _with_reserve(limit: int, limits: Limits) -> int:
    return limit + max(1, round(limit * limits.reserve))
