"""Location: where the phones of an address-of-record are, RFC 3261 §10.3 and §16.5."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

from ..arguments import duration
from ..errors import excerpt
from ..message.address import NameAddr
from ..message.uri import URI, check_uri
from ..observe.log_values import Plain
from .base import BindingEvent, BindingStore, Change, Watch, Watchers
from .bindings import Binding, Bindings, FlowName, aor, instance_of, with_others
from .ended_bindings import EndedBindings, Owner
from .guarded import GuardedStore
from .late_events import PatientWatch
from .memory import MemoryBindings

STORE_TIMEOUT = 0.25
"""Seconds that a request waits for a store that blocks. The caller's own patience is 0.5 s, T1."""

SERVE_STALE = 300.0
"""Seconds for which look-ups are served from memory while a store fails."""

COPY_BYTES = 64 * 1024 * 1024
"""Most bytes of the copy from which they are served. 30,000 usual phones take as much."""

UNREACHABLE = 1000
"""Addresses-of-record that are remembered as logged, because their flow was to another process."""

log = logging.getLogger("sippet_gevent.core")


class Location:
    """The bindings of a registrar and its proxy, in a store.

    `Registrar(location)` fills it, and a proxy looks requests up in it::

        location = Location()
        stack.on("REGISTER")(Registrar(location))

        @stack.on("INVITE")
        def invite(request, tx):
            forward(request, tx, *location.lookup(request.uri), record_route=True)

    A store may wait for a disk or a network, and may fail. Then a Location calls it in greenlets of
    its own, and its callers wait at most `store_timeout` seconds. They get Reject(503) with
    Retry-After if that was too short. Look-ups are answered from a copy in memory while the store
    fails.

    Args:
        store: The store; a MemoryBindings by default.
        store_timeout: Most seconds to wait for a store that may wait.
        serve_stale: Seconds for which look-ups are answered from the copy while the store fails. 0
            never does.

    Raises:
        TypeError: The store has no update() and lookup().
        InvalidValue: A number of seconds is negative.
    """

    stack: Owner | None = None
    """The stack that gives its clock and domains. Unless one is assigned, it is the running stack
    with the Registrar, or the core, that was the first to use this Location."""

    def __init__(
        self,
        store: BindingStore | None = None,
        *,
        store_timeout: float = STORE_TIMEOUT,
        serve_stale: float = SERVE_STALE,
    ) -> None:
        if store is None:
            store = MemoryBindings()
        if isinstance(store, type) or not (hasattr(store, "update") and hasattr(store, "lookup")):
            raise TypeError(
                f"a Location keeps bindings in a store, got {excerpt(store)}: write Location(), or "
                'Location(SQLiteBindings("bindings.db"))'
            )
        timeout = duration("store_timeout", store_timeout, above=True)
        stale = duration("serve_stale", serve_stale)
        self.store = store
        """Keeps the bindings."""
        self._guarded = (
            GuardedStore(
                store,
                timeout=timeout,
                serve_stale=stale,
                copy_bytes=COPY_BYTES,
                changed=lambda aor, before, after: self._ends.changed(aor, before, after),
            )
            if getattr(store, "blocks", True)
            else None
        )
        self._ends = EndedBindings(self, self._guarded)
        self.registration_log: Watch | None = None
        """What logs the events, if a Registrar has found that somebody reads them."""
        self._unreachable: set[str] = set()
        self._watchers = Watchers()
        self._store_watch: Watch | None = None

    # ---- bindings of an address-of-record

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names, the key of get() and update()."""
        if type(uri) is not URI:
            check_uri("uri", uri)
        stack = self.stack or self._adopt()
        return aor(uri) if stack is None else stack.names.aor(uri)

    def now(self) -> float:
        """Return the time by which bindings end, in seconds since 1970."""
        self._begin()
        return self.store.now()

    def get(self, aor: str) -> Bindings:
        """Return the live bindings of an address-of-record, best first: highest q, then newest.

        A binding whose flow has ended is left out, unless its Contact may be tried.

        Raises:
            Reject: 503 when the store fails and the copy in memory does not help.
        """
        self._begin()
        if self._guarded is not None:
            return self.live(self._guarded.lookup(aor))
        stored = self.store.lookup(aor)
        if not stored:
            if not isinstance(aor, str):
                raise TypeError(
                    f"aor must be a text, got {excerpt(aor)}: "
                    "write lookup(uri), or get(location.aor(uri))"
                )
            return ()
        live = self.live(stored)
        if live is not stored:
            self.update(aor, self.live)
        return live

    def update(self, aor: str, change: Change, *, by: FlowName | None = None) -> Bindings:
        """Replace the bindings of an address-of-record by what `change` makes of them.

        Args:
            aor: The address-of-record.
            change: Gets the stored bindings, of which some may have ended, and returns the new
                ones. It may run several times, so it must depend on its argument alone, and must
                not wait. What it raises passes on, and nothing is stored.
            by: The flow that the REGISTER has come by, if its bindings end with that flow.

        Returns:
            The stored bindings.

        Raises:
            Reject: 503 when the store fails, is late or is full.
        """
        self._begin()
        if self._guarded is not None:
            if by is None or by.node:
                return self._guarded.update(aor, change)
            self._ends.begin_register(by)
            try:
                return self._guarded.update(aor, change)
            finally:
                self._ends.end_register(by)
        before = self.store.lookup(aor)  # the store lets nobody else run until update() is back
        after = self.store.update(aor, change)
        if after is not before:
            self._ends.changed(aor, before, after)
        return after

    def live(self, bindings: Bindings, now: float | None = None) -> Bindings:
        """Return those of these bindings that have not ended: the same tuple if none has.

        Args:
            bindings: Stored bindings.
            now: The time, by now() of this Location.
        """
        if now is None:
            now = self.store.now()
        dead = self._ends.dead
        for binding in bindings:
            if binding.expires_at <= now or (
                (binding.by_flow_only or dead) and self.has_ended(binding)
            ):
                return tuple(b for b in bindings if b.expires_at > now and not self.has_ended(b))
        return bindings

    def has_ended(self, binding: Binding) -> bool:
        """True when the only way to this Contact was a flow of this process that has ended, or when
        it uses a flow of datagrams that has (RFC 5626 §7)."""
        flow, stack = binding.flow, self.stack
        return flow in self._ends.dead or (
            binding.by_flow_only
            and flow is not None
            and stack is not None
            and flow.node == stack.names.node
            and stack.names.live_flow(flow) is None
        )

    def is_unusable(self, binding: Binding) -> bool:
        """True when a binding has a flow that this process cannot use, and no Path to another
        process."""
        flow, stack = binding.flow, self.stack
        return (
            flow is not None
            and stack is not None
            and not binding.path
            and stack.names.live_flow(flow) is None
        )

    # ---- targets of requests

    def lookup(self, uri: URI) -> Bindings:
        """Return the bindings to which a request for this URI goes, best first, as targets of
        forward() and fork().

        There is one for each phone. A phone may have several Contacts with the same +sip.instance.
        Its first binding then has the further ones in `others`, because one phone must not get the
        request more than once (RFC 5626 §7).

        A GRUU leads to the bindings of its instance alone (RFC 5627 §6.1).

        Raises:
            Reject: 503 when the store fails and the copy in memory does not help.
        """
        check_uri("uri", uri)
        found: dict[str | URI, list[Binding]] = {}
        if uri.parameters and "gr" in uri.parameters:
            name, bindings = self._of_gruu(uri)
        else:
            name = self.aor(uri)
            bindings = self.get(name)
        for binding in bindings:
            if binding.by_flow_only:
                self._log_unreachable(name, binding)
            found.setdefault(instance_of(binding.contact) or binding.uri, []).append(binding)
        return with_others(found.values())

    def _of_gruu(self, uri: URI) -> tuple[str, Bindings]:
        """Return the address-of-record of a GRUU, and the bindings that it leads to."""
        stack = self.stack or self._adopt()
        gruu = None if stack is None else stack.names.gruus.read(uri)
        if gruu is None:
            return "", ()
        name = self.aor(uri) if gruu.aor is None else gruu.aor
        return name, tuple(binding for binding in self.get(name) if gruu.reaches(binding))

    def lookup_contact(self, uri: URI) -> Bindings:
        """Return the bindings whose Contact is this URI, by the comparison of RFC 3261 §19.1.4.

        A request may be for one phone of a user: the Refer-To of an attended transfer names a
        Contact (RFC 5589 §7). If several phones have that Contact, such as one private address
        behind two NATs, each of them gets the request.

        Raises:
            Reject: 503 when the store fails and the copy in memory does not help.
        """
        check_uri("uri", uri)
        self._begin()
        if self._guarded is None:
            entries = [(name, self.get(name)) for name in self.store.find(uri)]
        else:
            stored = self._guarded.lookup_contact(uri)
            entries = [(name, self.live(bindings)) for name, bindings in stored]
        found: dict[str | _Way, list[Binding]] = {}
        for name, bindings in entries:
            for binding in bindings:
                if binding.uri.equivalent(uri):  # one phone may have several lines, and flows
                    if binding.by_flow_only:
                        self._log_unreachable(name, binding)
                    found.setdefault(
                        instance_of(binding.contact) or (binding.flow, binding.path), []
                    ).append(binding)
        return with_others(found.values())

    def _log_unreachable(self, aor: str, binding: Binding) -> None:
        """Log once that a phone was connected to another process, such as the one before a restart.
        The request for it gets 480 until it registers again."""
        flow, stack = binding.flow, self.stack
        if flow is None or not flow.node or stack is None or flow.node == stack.names.node:
            return
        if aor in self._unreachable or binding.path:
            return
        if len(self._unreachable) >= UNREACHABLE:
            self._unreachable.clear()
        self._unreachable.add(aor)
        stack.engine.counters.info(
            "registration unreachable",
            stack.clock.now(),
            "registration unreachable: aor=%s contact=%s answered=480 "
            'reason="its connection was to another process, or to this one before a restart" '
            "call_id=%s",
            Plain(aor),
            shown_uri(binding.uri),
            Plain(binding.call_id),
            log=log,
        )

    # ---- events

    def watch(self, callback: Callable[[BindingEvent], None]) -> Watch:
        """Call `callback(event)` for each binding that is added, refreshed or removed, that
        expires, or whose flow ends. It must not wait: an update waits for it, and the events of
        other updates are told when it has returned, 1000 of them at most.

        The events are those of this process: the other processes of a store have their own.
        """
        if self._store_watch is None:
            self._store_watch = self.store.watch(self._relay)
        return PatientWatch(self._watchers, callback)

    def _relay(self, event: BindingEvent) -> None:
        if event.kind == "removed" and self.has_ended(event.binding):
            event = event._replace(kind="flow ended")
        self._watchers.tell_event(event)
        if not len(self._watchers) and self._store_watch is not None:
            self._store_watch.close()
            self._store_watch = None

    # ---- the stack

    def _counts(self) -> dict[str, int]:
        """Return the numbers of the store for stack.stats()."""
        counts = {} if self._guarded is None else dict(self._guarded.counts)
        for name in ("retries", "unreadable_records"):  # the store knows more about its own
            number = getattr(self.store, name, None)
            if number is not None:
                counts[f"store_{name}"] = number
        return counts

    def _adopt(self) -> Owner | None:
        """Belong to the stack whose core runs in this greenlet, and return it; None elsewhere.

        A core may look a user up before its Registrar gets the first request. The bindings of an
        earlier process are found then, too, by each name of their domain.
        """
        serving = getattr(gevent.getcurrent(), "serving", None)
        if serving is not None:
            self.stack = serving.stack
        return self.stack

    def _begin(self) -> None:
        """Use the clock and the deadlines of this run of the stack."""
        stack = self.stack or self._adopt()
        if stack is None or (
            stack.deadlines is self._ends.deadlines and stack.deadlines.stops == self._ends.stops
        ):
            return
        store, guarded = self.store, self._guarded
        if isinstance(store, MemoryBindings):
            store.use_clock(stack.clock)
        counters = stack.engine.counters
        if guarded is not None:
            guarded.clock, guarded.lines = stack.clock, counters.lines
            counters.add_store(self._counts)
        if stack.is_running:
            self._ends.begin(stack)

    def close(self) -> None:
        """Close the store."""
        self.store.close()


_Way = tuple[FlowName | None, tuple[NameAddr, ...]]
"""The key of a phone without +sip.instance: its flow and the Path."""


def shown_uri(uri: URI) -> Plain:
    """Return a URI for log lines, without its password."""
    return Plain(uri if uri.password is None else uri._replace(password=None))
