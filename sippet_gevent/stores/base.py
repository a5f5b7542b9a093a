"""BindingStore: what a store of bindings has to do, and what events it tells, RFC 3261 §10.3."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from ..message.uri import URI
from .bindings import Binding, Bindings, events

log = logging.getLogger("sippet_gevent.core")

Change = Callable[[Bindings], Bindings]
"""Computes the bindings of an address-of-record from the stored ones. It is pure, it may run again,
and a second run on its own result returns the same. It never waits. It may raise a SIPError; then
nothing is stored."""


class BindingEvent(NamedTuple):
    """A change of one binding, as `watch()` tells it.

    Nothing may depend on events for correctness: an event of a process that dies is lost.

    Attributes:
        kind: `added`, `refreshed`, `removed`, `expired` or `flow ended`.
        aor: The address-of-record.
        binding: The binding as it is from now on, or as it was at its end.
    """

    kind: str
    aor: str
    binding: Binding


class Watch(Protocol):
    """A callback that is told of events, as `watch()` of a store or Location returns it."""

    def close(self) -> None:
        """End the calls of the callback. May be called twice."""


class BindingStore(Protocol):
    """A store of bindings by address-of-record, which a `Location` uses.

    `MemoryBindings` and `SQLiteBindings` are two. A store of your own has these methods, and
    `tests/stores/contract.py` checks it. A method may wait, for example for a network, and may be
    called by several greenlets at the same time. It raises StoreError when it fails.

    A store may have an attribute `blocks`. False says that no method ever lets other greenlets run.
    Without the attribute, a Location calls the store in greenlets of its own.
    """

    def now(self) -> float:
        """Return the time by which bindings end, in seconds since 1970. All processes that use the
        store should agree about it. Must not wait."""

    def update(self, aor: str, change: Change, /) -> Bindings:
        """Replace the bindings of an address-of-record by what `change` makes of them.

        No other update of this address-of-record may come between the reading and the writing: the
        store holds a lock, or runs `change` again on the newer bindings. An update to () deletes
        the entry. The order of bindings is kept.

        Args:
            aor: The address-of-record.
            change: See Change. What it raises passes on, and nothing is stored.

        Returns:
            What is stored from now on.

        Raises:
            StoreError: The store fails, or is full. The change may or may not be stored.
        """

    def lookup(self, aor: str, /) -> Bindings:
        """Return the stored bindings, () for none. Some may have ended. Raises StoreError."""

    def find(self, contact: URI, /) -> Iterable[str]:
        """Return the addresses-of-record that have a binding of this Contact URI (§19.1.4), and
        possibly others. Raises StoreError."""

    def expire(self, now: float, limit: int, /) -> Iterable[tuple[str, Bindings]]:
        """Remove bindings whose `expires_at` is not after `now`.

        Args:
            now: The time, by now() of the store.
            limit: Most addresses-of-record to change in this call.

        Returns:
            The addresses-of-record and their removed bindings. There may be more if there are
            `limit`.

        Raises:
            StoreError: The store fails.
        """

    def watch(self, callback: Callable[[BindingEvent], None], /) -> Watch:
        """Call `callback(event)` for each change from now on. It must not wait. See Watchers."""

    def close(self) -> None:
        """Free what the store holds: files, connections, threads. May be called twice."""


class Watchers:
    """The callbacks of a store: two lines for `watch()` in a store of your own.

    Example:
        class Bindings:
            def __init__(self):
                self.watchers = Watchers()
                self.watch = self.watchers.add

            def update(self, aor, change):
                ...
                self.watchers.tell(aor, before, after, self.now())
    """

    __slots__ = ("_watches",)

    def __init__(self) -> None:
        self._watches: tuple[_Watch, ...] = ()

    def __len__(self) -> int:
        """Return the number of callbacks."""
        return len(self._watches)

    def add(self, callback: Callable[[BindingEvent], None], /) -> Watch:
        """Call `callback(event)` for each event until the returned watch is closed."""
        watch = _Watch(self, callback)
        self._watches = (*self._watches, watch)
        return watch

    def tell(self, aor: str, before: Bindings, after: Bindings, now: float) -> None:
        """Tell what has changed.

        Args:
            aor: The address-of-record.
            before: Its bindings before the change.
            after: Its bindings from now on.
            now: The time of the store. A binding that is gone after its end has expired, and is
                removed otherwise.
        """
        if self._watches:
            for kind, binding in events(before, after, now):
                self.tell_event(BindingEvent(kind, aor, binding))

    def tell_event(self, event: BindingEvent) -> None:
        """Tell one event. An exception of a callback is logged, and the others are told."""
        for watch in self._watches:
            try:
                watch.callback(event)
            except Exception:
                log.exception("watch of bindings failed: event=%r", event.kind)


class _Watch:
    __slots__ = ("_watchers", "callback")

    def __init__(self, watchers: Watchers, callback: Callable[[BindingEvent], None]) -> None:
        self._watchers = watchers
        self.callback = callback

    def close(self) -> None:
        watchers = self._watchers
        watchers._watches = tuple(watch for watch in watchers._watches if watch is not self)
