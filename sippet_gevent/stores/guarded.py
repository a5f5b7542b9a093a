"""GuardedStore: calls a store that may wait or fail, and lets callers wait a short time only."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable
from typing import NoReturn, TypeVar

import gevent

from ..errors import Reject, SIPError, StoreError
from ..message.fields.rfc3261 import RetryAfter
from ..message.uri import URI
from ..observe.counters import LimitedLog
from ..observe.log_values import Plain
from ..runtime.clock import Clock
from .base import BindingStore, Change
from .bindings import Bindings
from .breaker import Breaker
from .contacts import SHARED
from .local_copy import LocalCopy
from .store_calls import Call, Joined, Question, Wish

GREENLETS = 128
"""Most greenlets inside a store. A store of 20 ms then serves 6,000 calls a second; more would only
wait inside it."""

STUCK_SECONDS = 30.0
"""Seconds after which a call of the store is taken for one that never returns. Its greenlet does
not count any more, so that other addresses-of-record are served."""

STUCK = 1000
"""Most greenlets whose calls never return, each of some kilobytes. When there are more, the store
is left alone."""

WAITING = 2000
"""Most changes that wait for their turn. Each is a REGISTER that waits for its answer."""

RETRY_AFTER = (2, 10)
"""The Retry-After of a 503 because the store fails, in seconds. It is random, because thousands of
phones get it at the same time."""

log = logging.getLogger("sippet_gevent.core")

T = TypeVar("T")


class GuardedStore:
    """Calls a store in greenlets of its own, with a time-out, a breaker and a local copy.

    * The changes of one address-of-record have one queue. Those that wait while one is being
      stored are stored together, in order of arrival.
    * A caller waits at most `timeout` seconds, and gets Reject(503) then. The call of the store
      continues, because nobody knows if it can be interrupted, and its result is remembered.
    * A call that does not return within STUCK_SECONDS costs the changes of its address-of-record
      503 at once. Other addresses-of-record are served.
    * After some failures a breaker opens. Changes then get 503 at once, except for one try now and
      then. Look-ups have a breaker of their own.
    * Look-ups are answered from the local copy while the store fails, for `serve_stale` seconds
      since its last success.

    Args:
        store: The store.
        timeout: Most seconds that a caller waits.
        serve_stale: Seconds.
        copy_bytes: Most bytes of the local copy.
        changed: Is told of each address-of-record whose bindings were stored: before, and after.
    """

    def __init__(
        self,
        store: BindingStore,
        *,
        timeout: float,
        serve_stale: float,
        copy_bytes: int,
        changed: Callable[[str, Bindings, Bindings], None],
    ) -> None:
        self.store = store
        self.timeout = timeout
        self.serve_stale = serve_stale
        self.clock: Clock = Clock()
        self.lines = LimitedLog()
        self.copy = LocalCopy(copy_bytes)
        # apart, because a store that is full, or read-only, still answers look-ups
        self.reads, self.writes = Breaker(), Breaker()
        self.counts = {
            "store_errors": 0,
            "store_timeouts": 0,
            "store_retries": 0,
            "store_stale_lookups": 0,
            "store_breakers_open": 0,
        }
        self._changed = changed
        self._queues: dict[str, list[Wish]] = {}
        self._busy: dict[str, Call | None] = {}  # with the call of the store, if it has begun
        self._ready: deque[str] = deque()
        self._waiting = 0
        self.running = 0
        """Greenlets inside the store, without those that are stuck."""
        self.stuck = 0
        """Greenlets whose call of the store does not return."""
        self._calls: dict[Call, None] = {}  # inside the store, in their order

    # ---- changes

    def update(self, aor: str, change: Change) -> Bindings:
        """Store a change; see BindingStore.update().

        Raises:
            Reject: 503 when the store fails or is late, or too many changes wait.
        """
        if not self.writes.allow(self.clock.now()):
            self._refuse()
        ahead = self._busy.get(aor)
        if ahead is not None and self._is_old(ahead):  # to wait behind it would be in vain
            self._refuse("Store Timeout")
        if self._waiting >= WAITING:
            self._refuse("Store Busy")
        wish = Wish(change)
        self._queues.setdefault(aor, []).append(wish)
        self._waiting += 1
        if aor not in self._busy:
            self._busy[aor] = None
            self._ready.append(aor)
        if self._ready and self._has_room():
            self.running += 1
            gevent.spawn(self._run, self._ready.popleft())
        try:
            in_time = self.clock.within(self.timeout, wish.done.wait)
        finally:
            self._withdraw(aor, wish)
        if not in_time:
            self._late(wish.call, aor, self.timeout)
            self._refuse("Store Timeout")
        if wish.error is not None:
            raise wish.error
        if wish.is_lost:
            self._refuse()
        return wish.stored

    def _withdraw(self, aor: str, wish: Wish) -> None:
        """Take back a change whose turn has not come. Its caller has given up."""
        queue = self._queues.get(aor)
        if queue is not None and wish in queue:
            queue.remove(wish)
            self._waiting -= 1
            if not queue:
                del self._queues[aor]

    def _run(self, aor: str) -> None:
        """Store what waits for this address-of-record, then what waits for others."""
        try:
            while True:
                wishes = self._queues.pop(aor, None)
                try:
                    if wishes:
                        self._waiting -= len(wishes)
                        self._write(aor, wishes)
                finally:  # even if somebody kills this greenlet, the next change has its turn
                    if aor in self._queues:
                        self._ready.append(aor)
                    else:
                        self._busy.pop(aor, None)
                if not self._ready or self.running > GREENLETS:  # some were stuck
                    return
                aor = self._ready.popleft()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Note that a greenlet is no longer inside the store. A change that waits for that takes
        its place."""
        self.running -= 1
        if self._ready and self.running < GREENLETS:
            self.running += 1
            gevent.spawn(self._run, self._ready.popleft())

    def _is_old(self, call: Call) -> bool:
        return self.clock.now() - call.began >= STUCK_SECONDS

    def _has_room(self) -> bool:
        """True if one more greenlet may enter the store. The oldest one inside is given up if that
        makes room."""
        if self.running < GREENLETS:
            return True
        call = next(iter(self._calls), None)
        if call is None or not self._is_old(call) or self.stuck >= STUCK:
            return False
        del self._calls[call]
        call.is_stuck = True
        self.running -= 1
        self.stuck += 1
        return True

    def _returned(self, call: Call) -> None:
        """Note that a call of the store has returned, even one that was given up."""
        if call.is_stuck:
            self.stuck -= 1
            self.running += 1
        else:
            self._calls.pop(call, None)

    def _write(self, aor: str, wishes: list[Wish]) -> None:
        call = self._busy[aor] = Call(self.writes, self.clock.now())
        self._calls[call] = None
        for wish in wishes:
            wish.call = call
        joined = Joined(wishes)
        try:
            after = tuple(self.store.update(aor, joined))  # raises for None: the store forgot it
        except BaseException as error:
            self._not_stored(joined, call, aor, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        else:
            self._heard(call)
            # now, because a look-up that began before may have read what was there before
            self.copy.put(aor, after, self.clock.now(), is_stored=True)
            self._changed(aor, joined.before, after)
            for wish in wishes:
                wish.stored = after
        finally:
            self._busy[aor] = None
            self._returned(call)
            self.counts["store_retries"] += max(0, joined.runs - 1)
            for wish in wishes:
                wish.done.set()

    def _not_stored(self, joined: Joined, call: Call, aor: str, error: BaseException) -> None:
        if joined.has_refused(error):
            self._heard(call)
            return
        if isinstance(error, SIPError) and not isinstance(error, StoreError):
            self._heard(call)  # it refuses, because it is full for example
            for wish in joined.wishes:
                wish.error = wish.error or error
        else:
            self._failed(call, "update", aor, error)
            for wish in joined.wishes:
                wish.is_lost = True

    # ---- look-ups

    def lookup(self, aor: str) -> Bindings:
        """Return the stored bindings; see BindingStore.lookup().

        Raises:
            Reject: 503 when the store fails and the local copy does not have them.
        """
        question = self._ask_lookup(aor)
        return self._found(aor, self._answer(question, self.timeout))

    def lookup_contact(self, contact: URI) -> list[tuple[str, Bindings]]:
        """Return the addresses-of-record that may have a binding of this Contact, with their stored
        bindings. The caller waits `timeout` seconds at most for all of them together.

        Raises:
            Reject: 503 when the store fails and the local copy does not have them.
        """
        ends_at = self.clock.now() + self.timeout
        question = self._ask(
            self.reads, "find", contact, lambda: tuple(self.store.find(contact)), _forget
        )
        names = self._answer(question, self.timeout)
        if names is None:
            if not self._may_be_stale():
                self._refuse()
            self.counts["store_stale_lookups"] += 1
            names = self.copy.find(contact)
        found: list[tuple[str, Bindings]] = []
        for first in range(0, len(names), SHARED):
            # asked together, because one after the other they might take too long
            is_time_left = self.clock.now() < ends_at
            questions = [
                (name, self._ask_lookup(name) if is_time_left else None)
                for name in names[first : first + SHARED]
            ]
            for name, asked in questions:
                left = ends_at - self.clock.now()
                found.append((name, self._found(name, self._answer(asked, left))))
        return found

    def _ask_lookup(self, aor: str) -> Question[Bindings] | None:
        def remember(bindings: Bindings, began: float) -> None:
            self.copy.put(aor, bindings, began)

        return self._ask(self.reads, "lookup", aor, lambda: tuple(self.store.lookup(aor)), remember)

    def _found(self, aor: str, found: Bindings | None) -> Bindings:
        """Return what the store has answered, or else what the local copy has."""
        if found is None:
            found = self.copy.get(aor) if self._may_be_stale() else None
            if found is None:
                self._refuse()
            self.counts["store_stale_lookups"] += 1
        return found

    def expire(self, now: float, limit: int) -> list[tuple[str, Bindings]] | None:
        """Remove bindings that have ended; see BindingStore.expire(). None when the store fails."""
        question = self._ask(
            self.writes, "expire", "", lambda: list(self.store.expire(now, limit)), _forget
        )
        return self._answer(question, self.timeout)

    def _ask(
        self,
        breaker: Breaker,
        what: str,
        about: object,
        ask: Callable[[], T],
        remember: Callable[[T, float], None],
    ) -> Question[T] | None:
        """Ask the store in a greenlet of its own. None if it must not be asked now."""
        if not (self._has_room() and breaker.allow(self.clock.now())):
            return None
        question: Question[T] = Question(breaker, self.clock.now(), about)
        self._calls[question] = None

        def run() -> None:
            try:
                found = ask()
            except BaseException as error:
                self._failed(question, what, about, error)
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
            else:
                self._heard(question)
                question.answer = found
                remember(found, question.began)
            finally:
                self._returned(question)
                self._leave()
                question.done.set()

        self.running += 1
        gevent.spawn(run)
        return question

    def _answer(self, question: Question[T] | None, seconds: float) -> T | None:
        """Return the store's answer, None when it fails, is late or was not asked at all."""
        if question is None:
            return None
        if not question.done.is_set() and not self.clock.within(seconds, question.done.wait):
            self._late(question, question.about, seconds)
        return question.answer

    # ---- failures

    def _may_be_stale(self) -> bool:
        since = self.reads.failing_since
        if not self.serve_stale:
            return False
        return since is None or self.clock.now() - since <= self.serve_stale

    def _heard(self, call: Call) -> None:
        """Note that the store has answered. An answer that was too late is no success."""
        if call.is_late or self.clock.now() - call.began > self.timeout:
            return
        if call.breaker.is_open:
            since = call.breaker.failing_since or 0.0
            self.lines.line(
                log,
                logging.WARNING,
                "store works again",
                "store works again: seconds=%.1f",
                self.clock.now() - since,
            )
            self.counts["store_breakers_open"] -= 1
        call.breaker.succeeded()

    def _failed(self, call: Call, what: str, about: object, error: BaseException) -> None:
        self.counts["store_errors"] += 1
        self.lines.line(
            log,
            logging.ERROR,
            "store failed",
            'store failed: call=%s about=%s reason="%s"',
            Plain(what),
            Plain(about),
            Plain(str(error) or type(error).__name__),
        )
        if not call.is_late:
            self._count_failure(call)

    def _late(self, call: Call | None, about: object, seconds: float) -> None:
        """Note that a caller has waited in vain for so many seconds. Each call of the store is one
        failure, however many callers wait for it. It is none if it had less than the time-out."""
        self.counts["store_timeouts"] += 1
        if call is None or call.is_late or seconds < self.timeout:
            return
        call.is_late = True
        self.lines.line(
            log,
            logging.ERROR,
            "store late",
            "store is late: about=%s seconds=%g greenlets=%d waiting=%d",
            Plain(about),
            self.timeout,
            self.running,
            self._waiting,
        )
        self._count_failure(call)

    def _count_failure(self, call: Call) -> None:
        breaker = call.breaker
        if breaker.failed(call.began, self.clock.now()):
            self.counts["store_breakers_open"] += 1
            self.lines.line(
                log,
                logging.ERROR,
                "store unavailable",
                'store unavailable: calls=%s copy=%d seconds=%g hint="%s"',
                Plain("look-ups" if breaker is self.reads else "changes"),
                len(self.copy),
                self.serve_stale,
                Plain(
                    "look-ups are answered from the copy in memory for so many seconds"
                    if breaker is self.reads
                    else "registrations get 503"
                ),
            )

    def _refuse(self, reason: str = "Store Unavailable") -> NoReturn:
        raise Reject(503, reason, retry_after=RetryAfter(random.randint(*RETRY_AFTER)))


def _forget(answer: object, began: float) -> None:
    pass
