"""MemoryBindings: bindings in the memory of this process, RFC 3261 §10.3."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple, Protocol

from ..errors import Reject
from ..message.fields.rfc3261 import RetryAfter
from ..message.uri import URI
from .base import BindingEvent, Change, Watch, Watchers
from .bindings import Bindings, entry_bytes
from .contacts import ContactIndex
from .path_texts import keep_paths, read_paths

ADDRESSES = 100_000
"""Most addresses-of-record in memory."""

STORE_BYTES = 256 * 1024 * 1024
"""Most bytes that a MemoryBindings takes. ADDRESSES with one usual phone each take 200 MB."""

END_SECONDS = 5.0
"""Most seconds between the end of a binding and its removal. The bindings that end within five
seconds are removed together."""

LOOKED_AT = 10_000
"""Bindings that one call of expire() looks at without removing them, which takes some
milliseconds."""

SHARED_SIZES = 8192
"""The numbers of bytes below this are objects that entries share."""

RETRY_SECONDS = 60
"""The Retry-After of the 503 that a full store gives, in seconds."""

_STARTED = time.time() - time.monotonic()


def steady_time() -> float:
    """Return the seconds since 1970, which no step of the system's clock changes."""
    return _STARTED + time.monotonic()


class ClockLike(Protocol):
    """The times of a Clock."""

    @property
    def now(self) -> Callable[[], float]:
        """Returns seconds, from any start."""

    @property
    def wall(self) -> Callable[[], float]:
        """Returns seconds since 1970."""


class MemoryBindings:
    """Bindings in memory, by address-of-record. They are gone with the process.

    `Location()` makes one. No method lets other greenlets run.

    Args:
        now: Returns the time in seconds since 1970. By default it is the time of the stack whose
            Location uses this store. Steps of the system's clock do not change it.
    """

    blocks = False

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._has_clock = now is not None
        self._clock: ClockLike | None = None
        self.now: Callable[[], float] = now or steady_time
        """Returns the time by which bindings end, in seconds since 1970."""
        self._entries: dict[str, _Entry] = {}
        # by slots of END_SECONDS: the addresses-of-record whose first binding ends then
        self._ends: dict[int, dict[str, None]] = {}
        self._sizes: dict[int, int] = {}  # the same number is one object in all entries
        self._contacts = ContactIndex()
        self._watchers = Watchers()
        self.bytes = 0
        """Bytes that all bindings take in memory."""

    def use_clock(self, clock: ClockLike) -> None:
        """Go by another clock from now on, unless the store has one of its own. Bindings keep the
        time that they have left."""
        if self._has_clock or clock is self._clock:
            return
        self._clock = clock
        started, elapsed = clock.wall() - clock.now(), clock.now

        def now() -> float:
            return started + elapsed()

        later = now() - self.now()
        self.now = now
        self._ends.clear()
        for aor, entry in self._entries.items():
            kind = type(entry.bindings)
            bindings = kind([b._replace(expires_at=b.expires_at + later) for b in entry.bindings])
            self._entries[aor] = entry._replace(
                bindings=bindings, ends=self._will_end(aor, bindings)
            )

    @property
    def ends(self) -> tuple[float, ...]:
        """The times at which expire() has something to remove."""
        return tuple(slot * END_SECONDS for slot in self._ends)

    def update(self, aor: str, change: Change, /) -> Bindings:
        """Replace the bindings of an address-of-record by what `change` makes of them.

        Raises:
            Reject: 503 when the store is full. An entry that does not grow always has room.
        """
        old = self._entries.get(aor, _NONE)
        before = old.bindings
        if type(before) is not tuple:
            before = read_paths(before)
        after = change(before)
        if after is not before:
            self._put(aor, old, after)
            if len(self._watchers):
                self._watchers.tell(aor, before, after, self.now())
        return after

    def _put(self, aor: str, old: _Entry, bindings: Bindings) -> None:
        size = 0
        if bindings:
            size = entry_bytes(aor, [binding.bytes for binding in bindings])
            if self._is_over(old, size):
                self._expire(self.now(), len(self._entries))
                if self._is_over(old, size):
                    raise Reject(503, "Registrar Full", retry_after=RetryAfter(RETRY_SECONDS))
                old = self._entries.get(aor, _NONE)
        self.bytes += size - old.bytes
        before = old.bindings
        if not (len(bindings) == len(before) == 1 and bindings[0].uri == before[0].uri):
            self._contacts.update(aor, [b.uri for b in before], [b.uri for b in bindings])
        old.ends.pop(aor, None)
        if bindings:
            ends = self._will_end(aor, bindings)
            for binding in bindings:
                if binding.path:
                    bindings = keep_paths(bindings)
                    break
            if size < SHARED_SIZES:
                size = self._sizes.setdefault(size, size)
            self._entries[aor] = _Entry(bindings, size, ends)
        else:
            self._entries.pop(aor, None)

    def _is_over(self, old: _Entry, size: int) -> bool:
        is_one_too_many = old is _NONE and len(self._entries) >= ADDRESSES
        return is_one_too_many or (size > old.bytes and self.bytes - old.bytes + size > STORE_BYTES)

    def _will_end(self, aor: str, bindings: Bindings) -> dict[str, None]:
        """Note the end of the first of these bindings; return the names of its slot."""
        first = bindings[0].expires_at
        for binding in bindings:
            if binding.expires_at < first:
                first = binding.expires_at
        if not math.isfinite(first):  # the clock of a test that is over, for example
            return {}
        slot = int(first / END_SECONDS) + 1
        names = self._ends.get(slot)
        if names is None:
            names = self._ends[slot] = {}
        names[aor] = None
        return names

    def lookup(self, aor: str, /) -> Bindings:
        """Return the stored bindings, () for none. Some may have ended."""
        entry = self._entries.get(aor)
        if entry is None:
            return ()
        bindings = entry.bindings
        return bindings if type(bindings) is tuple else read_paths(bindings)

    def find(self, contact: URI, /) -> tuple[str, ...]:
        """Return the addresses-of-record that have a binding of this Contact URI, and possibly
        others."""
        return self._contacts.find(contact)

    def expire(self, now: float, limit: int, /) -> list[tuple[str, Bindings]]:
        """Remove bindings that have ended, of at most `limit` addresses-of-record, and return
        them."""
        return self._expire(now, limit)

    def _expire(self, now: float, limit: int) -> list[tuple[str, Bindings]]:
        removed: list[tuple[str, Bindings]] = []
        for slot in sorted(slot for slot in self._ends if (slot - 1) * END_SECONDS <= now):
            names = self._ends[slot]
            # in a slot that is not over, most bindings last longer
            looked_at = limit - len(removed) if slot * END_SECONDS <= now else LOOKED_AT
            for aor in list(islice(names, looked_at)):
                old = self._entries[aor]
                if min([b.expires_at for b in old.bindings]) <= now:
                    before = self.lookup(aor)
                    after = tuple([b for b in before if b.expires_at > now])
                    self._put(aor, old, after)
                    self._watchers.tell(aor, before, after, now)
                    removed.append((aor, tuple([b for b in before if b.expires_at <= now])))
                    if len(removed) >= limit:
                        break
            if not names:
                self._ends.pop(slot, None)
            if len(removed) >= limit:
                break
        return removed

    def watch(self, callback: Callable[[BindingEvent], None], /) -> Watch:
        """Call `callback(event)` for each change from now on."""
        return self._watchers.add(callback)

    def close(self) -> None:
        """Keep everything: there is nothing to free."""

    def __len__(self) -> int:
        """Return the number of addresses-of-record."""
        return len(self._entries)


class _Entry(NamedTuple):
    """The bindings of an address-of-record, the bytes they take, and the names of the slot of
    `_ends` in which the first of them ends."""

    bindings: Bindings  # PathTexts if one has a Path
    bytes: int
    ends: dict[str, None]


_NONE = _Entry((), 0, {})
