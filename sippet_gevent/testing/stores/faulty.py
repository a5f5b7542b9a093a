"""Faulty: a store of bindings that is slow, or fails as a test tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import gevent

from ...errors import InvalidValue, SIPError, StoreError
from ...message.uri import URI
from ...stores.base import BindingEvent, BindingStore, Change, Watch
from ...stores.bindings import Bindings

FAULTS = {
    "failing": "every call raises StoreError, and nothing is done",
    "raising": "every call raises OSError, and nothing is done",
    "killed": "every call ends with GreenletExit, as if its greenlet were killed",
    "half applied": "an update stores all bindings but the last, and raises OSError",
    "unsure": "an update is done, and raises StoreError, as if its answer had been lost",
    "run twice": "`change` runs twice on the same bindings, and the second result is stored",
    "conflict": "`change` runs on outdated bindings first, and again on those that are stored",
    "done twice": "an update is done, and then done again on its own result",
}
"""What `Faulty.fault` may be, and its meaning. The last three are no failures: any store may do so,
because a change may run again."""

FAILURES = ("failing", "raising", "killed", "half applied", "unsure")
"""The faults that a caller sees as a failure of the store."""


class Faulty:
    """A store that passes each call on to another store, late or with a fault.

        store = Faulty(MyStore(), sleep=sip.clock.sleep)
        store.latency = 0.75
        store.fault = "half applied"

    Args:
        store: The store that keeps the bindings.
        sleep: A function that waits for a number of seconds. With `sip.clock.sleep` the latency is
            a time of the clock of the test.
    """

    blocks = True

    latency = 0.0
    """Seconds before each call is passed on."""

    skew = 0.0
    """Seconds by which the clock of this store is ahead of that of the other store. Its bindings
    end later by as much."""

    later = 0.0
    """Seconds that have passed for this store alone, so that its bindings end earlier."""

    def __init__(
        self, store: BindingStore, *, sleep: Callable[[float], object] = gevent.sleep
    ) -> None:
        self.store = store
        self.sleep = sleep
        self.calls = 0
        """Calls so far, of all methods that may wait."""
        self.waiting = 0
        """Calls that have begun and have not ended."""
        self.inside = 0
        """Calls that the other store works on now."""
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong with each call from now on, a key of FAULTS; None if nothing is."""
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        if fault is not None and fault not in FAULTS:
            raise InvalidValue(f"fault must be one of {', '.join(FAULTS)}, got {fault!r}")
        self._fault = fault

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Wait for the latency, and fail before anything is done."""
        self.calls += 1
        self.waiting += 1
        try:
            if self.latency:
                self.sleep(self.latency)
            self._fail("failing", StoreError("the store fails, as the test says"))
            self._fail("raising", OSError("the connection was lost, as the test says"))
            self._fail("killed", gevent.GreenletExit())
            self.inside += 1
            try:
                yield
            finally:
                self.inside -= 1
        finally:
            self.waiting -= 1

    def _fail(self, fault: str, error: BaseException) -> None:
        if self._fault == fault:
            raise error

    # ---- the methods of a store

    def now(self) -> float:
        """Return the time of the other store, with the skew."""
        return self.store.now() + self.skew + self.later

    def update(self, aor: str, change: Change, /) -> Bindings:
        """Update the bindings of an address-of-record, as the fault says."""
        with self._call():
            update = self.store.update
            after = update(aor, self._changed(change))
            if self._fault == "done twice":
                after = update(aor, self._changed(change))
            self._fail("half applied", OSError("the disk is full, as the test says"))
            self._fail("unsure", StoreError("the answer was lost, as the test says"))
            return shifted(after, self.skew)

    def _changed(self, change: Change) -> Change:
        """Return a change by the clock of the other store, with the fault in it."""
        skew, fault = self.skew, self._fault

        def changed(before: Bindings) -> Bindings:
            before = shifted(before, skew)
            if fault in ("run twice", "conflict"):
                try:
                    change(before if fault == "run twice" else before[1:])
                except SIPError:
                    pass  # the second run decides
            after = change(before)
            return shifted(after[:-1] if fault == "half applied" else after, -skew)

        return changed

    def lookup(self, aor: str, /) -> Bindings:
        """Return the bindings of an address-of-record."""
        with self._call():
            return shifted(self.store.lookup(aor), self.skew)

    def find(self, contact: URI, /) -> Iterable[str]:
        """Return the addresses-of-record that have a binding of this Contact."""
        with self._call():
            return tuple(self.store.find(contact))

    def expire(self, now: float, limit: int, /) -> Iterable[tuple[str, Bindings]]:
        """Remove bindings that have ended, and return them."""
        with self._call():
            ended = self.store.expire(now - self.skew, limit)
            return [(aor, shifted(bindings, self.skew)) for aor, bindings in ended]

    def watch(self, callback: Callable[[BindingEvent], None], /) -> Watch:
        """Tell `callback` what changes."""

        def tell(event: BindingEvent) -> None:
            (binding,) = shifted((event.binding,), self.skew)
            callback(event._replace(binding=binding))

        return self.store.watch(tell)

    def close(self) -> None:
        """Close the other store."""
        self.store.close()


def shifted(bindings: Bindings, seconds: float) -> Bindings:
    """Return bindings as a clock shows them that is ahead by so many seconds."""
    if not seconds:
        return bindings
    return tuple(b._replace(expires_at=b.expires_at + seconds) for b in bindings)
