"""Admission: counts cores that wait, and decides which new requests get 503, RFC 3261 §21.5.4."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Callable

from ..message.message import Request
from ..observe.counters import Counters
from ..observe.log_values import Plain
from ..runtime.clock import Alarm, Clock
from ..runtime.limits import LARGE, Limits
from ..runtime.rates import source_of
from ..runtime.workers import Worker
from ..transaction.timers import Timers
from .priority import Priority
from .refused import RefusedLately
from .sources import SHARE, Sources
from .users import Place, WaitingCore

log = logging.getLogger("sippet_gevent.core")

OVERLOAD = "overload"
"""The name of requests that are refused or dropped because of overload, in `stats()`."""

ENDING = ("BYE", "PRACK")  # they end a call, or the wait of a core (RFC 3262 §3)


class Admission:
    """Counts each core that waits in one place, and compares the places with their limits.

    * `handlers`: cores whose request has no final response yet.
    * `forwarding_invites`, `forwarding`: INVITEs that are forwarded and not answered yet, and other
      such requests. Their cores may have ended.
    * `holding`: cores that have answered and hold a call or a subscription. That counts against
      `Limits.calls` or `Limits.subscriptions`, the core against nothing.
    * `overdue`: cores that still run although they have answered, or although their transaction has
      timed out.

    A core that never waits is not counted, because it has ended before the next message is read.
    """

    def __init__(self, limits: Limits, timers: Timers, clock: Clock, counters: Counters) -> None:
        self.handlers = Place()
        self.forwarding_invites = Place()
        self.forwarding = Place()
        self.holding = Place()
        self.overdue = Place()
        self.sources = Sources(limits)
        """What each source may have of the limits."""
        self.refused: dict[str, int] = {}
        """Requests refused with 503, by the limit that was reached."""
        self.large: dict[object, int] = {}
        """Transactions and calls that large requests have made, and the bytes of those requests."""
        self.large_bytes = 0
        self.lately = RefusedLately(64 * timers.t1)
        self.is_open = False
        """False while a limit on cores is nearly reached, memory is short, or sources have caps.
        Then call retry_after(). Call it for requests of `lately` and in overload, too."""
        self.crowded = 0.0
        """Number of transactions from which on limit_reached() has to be called."""
        self.admits = False
        """True while a new request is served in spite of the overload, because it is its turn."""
        self.is_overloaded = False
        """True while new requests outside dialogs are refused, unless it is their turn; see
        Overload."""
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._patience = 64 * timers.t1
        self.priority = _priority_of(limits)
        """Requests that pass before others."""
        self.shed_fraction: Callable[[str], float] = self._fullness
        """Returns the part of its requests that a client at a host should not send, 0 to 1 (RFC
        7339 §5.3). Another measure of load may take its place."""
        self.thinning: Callable[[str], float] = lambda host: 0.0
        """Returns the part that overload demands; Overload.thinning() takes its place."""
        self._lacks_memory = False
        self._told: set[WaitingCore] = set()
        self._since: dict[WaitingCore, float] = {}  # when overdue cores, and those of ACKs, came
        self._alarm: Alarm | None = None
        self._reserve(limits)
        self._settle()

    def use_limits(self, limits: Limits) -> None:
        """Use other limits from now on. What exceeds them stays until it ends."""
        self._limits = limits
        self.sources.use_limits(limits)
        self.priority = _priority_of(limits)
        self._reserve(limits)
        self._settle()

    def _reserve(self, limits: Limits) -> None:
        self._has_caps = bool(limits.transactions_per_source or limits.unanswered_per_source)
        self._handlers_crowded = (1 - SHARE) * limits.handlers
        self.crowded = (1 - SHARE) * limits.transactions
        self._handlers_reserve = _with_reserve(limits.handlers, limits)
        self._transactions_reserve = _with_reserve(limits.transactions, limits)
        self._large_reserve = _with_reserve(limits.large_bytes, limits)
        self._forwarding_reserve = _with_reserve(limits.forwarding, limits)

    def _fullness(self, host: str) -> float:
        """Return the part of the last quarter of a limit on cores that is used.

        While memory is short, it is at least a half. While messages wait, it is at least what their
        delay demands; see Overload.thinning().
        """
        limits = self._limits
        used = max(
            len(self.handlers) / limits.handlers if limits.handlers else 1.0,
            len(self.forwarding_invites) / max(limits.forwarding, 1),
        )
        least = max(0.5 if self._lacks_memory else 0.0, self.thinning(host))
        return min(max((used - (1 - SHARE)) / SHARE, least), 1.0)

    def use_memory(self, is_short: bool) -> None:
        """Refuse new work because memory is short, or stop that."""
        self._lacks_memory = is_short
        self._settle()

    # ---- places

    def enter(self, worker: Worker, tx: WaitingCore) -> None:
        """Begin to count the core that serves `tx` in `worker`, because it waits for the first
        time."""
        tx.worker = worker
        worker.counted = tx
        place = self._put(tx)
        if place is not self.holding or not self.is_open:
            self._settle()
        if place is self.overdue or tx.transaction is None:
            self._watch()

    def move(self, tx: WaitingCore) -> None:
        """Count a core in its new place, because its request was answered or forwarded, or its call
        has ended."""
        before = tx.place
        if tx.worker is None and (tx.answered or tx.context is None):
            self.leave(tx)
        elif before is not None and self._put(tx) is not before:
            self._settle()
            if tx.place is self.overdue:
                self._watch()

    def forwarding_begins(self, tx: WaitingCore) -> None:
        """Begin to count a request that is forwarded, whether its core waits or not."""
        if tx.place is None:
            self._put(tx)

    def leave(self, tx: WaitingCore) -> None:
        """Stop counting a core that has ended, unless its request is still forwarded."""
        tx.worker = None
        if tx.context is not None and not tx.answered and tx.place is not None:
            return
        place, tx.place = tx.place, None
        if place is not None and tx in place:
            source = place.pop(tx)
            place.sources[source] -= 1
            if not place.sources[source]:
                del place.sources[source]
        self._told.discard(tx)
        self._since.pop(tx, None)
        if not self.is_open:
            self._settle()

    def overloaded(self, is_overloaded: bool) -> None:
        """Refuse new requests outside dialogs, or stop that; see Overload."""
        self.is_overloaded = is_overloaded

    def _settle(self) -> None:
        """Decide if new requests are served, after a place that has a limit has grown, or while
        they are not."""
        limits = self._limits
        is_full = (
            len(self.handlers) >= self._handlers_crowded or len(self.overdue) >= limits.overdue
        )
        self.is_open = not (is_full or self._has_caps or self._lacks_memory)

    def _put(self, tx: WaitingCore) -> Place:
        """Put a request where it belongs now, and return that place."""
        if tx.answered:
            place = self.holding if tx.holds else self.overdue
        elif tx.context is None:
            place = self.handlers
        else:
            is_invite = tx.request._method == "INVITE"
            place = self.forwarding_invites if is_invite else self.forwarding
        before = tx.place
        if before is place:
            return place
        if before is None:
            host = tx.request.flow.remote[0]
            source = source_of(host) if ":" in host else host
        else:
            source = before.pop(tx)
            before.sources[source] -= 1
            if not before.sources[source]:
                del before.sources[source]
        tx.place = place
        place[tx] = source
        if place is self.overdue or tx.transaction is None:
            self._since[tx] = self._clock.now()
        elif self._since:
            self._since.pop(tx, None)
        place.sources[source] = place.sources.get(source, 0) + 1
        return place

    # ---- large requests

    def weigh(self, holder: object, size: int) -> None:
        """Count the bytes of the large request that has made a transaction or call."""
        self.large[holder] = size
        self.large_bytes += size

    def release(self, holder: object) -> None:
        """Stop counting the bytes of a transaction or call that has ended. Ignores one that was not
        counted."""
        self.large_bytes -= self.large.pop(holder, 0)

    # ---- limits

    def retry_after(
        self,
        request: Request,
        key: str,
        size: int,
        transactions: int,
        belongs: Callable[[], bool],
        *,
        is_draining: bool,
    ) -> int | None:
        """Return the Retry-After of the 503 that refuses a new request; None if it is served.

        Args:
            request: The request.
            key: The key that its transaction would have.
            size: Its bytes.
            transactions: The number of transactions.
            belongs: Returns True if the request belongs to a call, a dialog or a route of ours.
            is_draining: True while the stack refuses what is not within a dialog.
        """
        seconds = self.refused_lately(key)
        if seconds is not None:
            return seconds
        if is_draining:
            limit = None if request.mandatory.to_tag is not None else "draining"
        elif (
            self.is_overloaded
            and not self.admits
            and _begins(request)
            and not self.priority.has(request)
        ):
            limit = OVERLOAD
        else:
            limit = self.limit_reached(
                transactions, belongs, request.method, size, request.flow.remote[0]
            )
        if limit is None:
            return None
        self.refuse(limit, request)
        seconds = random.randint(*self._limits.retry_after)
        self.remember(key, seconds)
        return seconds

    def limit_reached(
        self, transactions: int, belongs: Callable[[], bool], method: str, size: int, host: str
    ) -> str | None:
        """Return the name of the limit that refuses a request; None if it is served.

        Requests that belong to a call, a dialog or a route of ours have a reserve of their own. Of
        these, ENDING are refused by the number of transactions alone, because a limit must never
        refuse the request that would free it.

        Args:
            transactions: The number of transactions.
            belongs: Returns True if the request belongs to one of those.
            method: Its method.
            size: Its bytes.
            host: Where it came from.
        """
        limits = self._limits
        if transactions >= limits.transactions:
            name = "transactions"
        elif len(self.handlers) >= limits.handlers:
            name = "handlers"
        elif len(self.overdue) >= limits.overdue:
            name = "overdue"
        elif size > LARGE and self.large_bytes + size > limits.large_bytes:
            name = "large_bytes"
        elif self._lacks_memory:
            name = "memory"
        else:
            rule = self._rule_of_source(host, transactions)
            return None if rule is None or belongs() else rule
        if not belongs() or transactions >= self._transactions_reserve:
            return name
        if size > LARGE and self.large_bytes + size > self._large_reserve:
            return "large_bytes"
        is_full = len(self.handlers) >= self._handlers_reserve and method not in ENDING
        return "handlers" if is_full else None

    def _rule_of_source(self, host: str, transactions: int) -> str | None:
        """Return the name of the rule that refuses new work to this source; None if none does."""
        limits, sources, source = self._limits, self.sources, source_of(host)
        waiting = self.handlers.sources.get(source, 0)
        unanswered = waiting + self.forwarding_invites.sources.get(source, 0)
        return (
            sources.limit_of(
                host,
                "transactions",
                sources.transactions.get(source, 0),
                transactions,
                limits.transactions,
                limits.transactions_per_source,
            )
            or sources.limit_of(host, "unanswered", unanswered, 0, 1, limits.unanswered_per_source)
            or sources.limit_of(host, "handlers", waiting, len(self.handlers), limits.handlers)
        )

    def may_acknowledge(self, belongs: Callable[[], bool]) -> bool:
        """True when there is room for one more core that serves an ACK."""
        handlers = len(self.handlers)
        return handlers < self._limits.handlers or (handlers < self._handlers_reserve and belongs())

    def may_forward(self, method: str, belongs: Callable[[], bool], host: str) -> bool:
        """True when there is room for one more forwarded request from this host. INVITEs are
        counted apart from other methods."""
        place = self.forwarding_invites if method == "INVITE" else self.forwarding
        limit = self._limits.forwarding
        if len(place) < (1 - SHARE) * limit:
            return True
        if len(place) < limit:
            has = place.sources.get(source_of(host), 0)
            rule = self.sources.limit_of(host, "forwarding", has, len(place), limit)
            return rule is None or belongs()
        return belongs() and (method in ENDING or len(place) < self._forwarding_reserve)

    def refused_lately(self, key: str) -> int | None:
        """Return the Retry-After of the 503 that this request had lately; None if it had none."""
        return self.lately.get(key, self._clock.now())

    def remember(self, key: str, retry_after: int) -> None:
        """Remember a refused request, so that its repetitions are refused, too."""
        self.lately.add([key], retry_after, self._clock.now())

    def refuse(self, limit: str, request: Request) -> None:
        """Count and log a request that this limit refuses."""
        self.refused[limit] = self.refused.get(limit, 0) + 1
        text = f"request refused at a limit: method=%s limit={limit} answered=503 call_id=%s"
        call_id = Plain(request.headers.get("Call-ID"))
        self._counters.warn(
            f"limit {limit}", self._clock.now(), text, Plain(request.method), call_id
        )

    # ---- cores that never end

    def tell(self, tx: WaitingCore) -> None:
        """Log the stack of an overdue core once, unless it waits in a function of this library,
        which will return."""
        if tx in self._told or tx.parked is not None or tx.worker is None:
            return
        self._told.add(tx)
        frame = tx.worker.gr_frame
        if frame is not None and self._counters.loud("overdue", self._clock.now()):
            log.warning(
                "core overdue: method=%s answered=%d call_id=%s stack=\n%s",
                Plain(tx.request.method), tx.answered, Plain(tx.request.headers.get("Call-ID")),
                "".join(traceback.format_stack(frame)),
            )  # fmt: skip

    def _watch(self) -> None:
        if self._alarm is None:
            self._alarm = self._clock.alarm(self._patience, self._look)

    def _look(self) -> None:
        """Find cores that still run 64*T1 after their answer, and cores that have served an ACK for
        so long."""
        self._alarm = None
        before = self._clock.now() - self._patience
        waiting = False
        for tx, since in [*self._since.items()]:
            if tx.place is self.overdue:
                if since <= before:
                    self.tell(tx)
            elif tx.place is self.handlers:
                waiting = True
                if since <= before:
                    tx.give_up()
        if waiting or self.overdue:
            self._watch()

    def stop(self) -> None:
        """Stop looking for overdue cores. Those that still run are counted as overdue until they
        end."""
        for tx in [*self.handlers]:
            tx.ended()  # ACKs have no transaction, whose end would have told them
        # transactions and calls have ended with the stack
        self.large.clear()
        self.large_bytes = 0
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None


def _begins(request: Request) -> bool:
    """True for a request that begins something. A REGISTER may refresh a binding, and a BYE without
    a tag costs one answer."""
    return request.mandatory.to_tag is None and request.method not in ("BYE", "REGISTER")


def _priority_of(limits: Limits) -> Priority:
    return Priority(limits.emergency, limits.resource_priority, limits.resource_priority_from)


def _with_reserve(limit: int, limits: Limits) -> int:
    return limit + max(1, round(limit * limits.reserve))
