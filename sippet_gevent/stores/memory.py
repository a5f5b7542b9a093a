"""Location: bindings in the memory of this process, RFC 3261 §10.3."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, Protocol

from ..errors import Reject, excerpt
from ..message.address import NameAddr
from ..message.fields.rfc3261 import RetryAfter
from ..message.uri import URI, check_uri
from ..observe.counters import Counters, Plain
from ..runtime.clock import Clock, Deadlines
from .bindings import Binding, FlowName, aor, entry_bytes, instance_of, with_others
from .contacts import ContactIndex

ADDRESSES = 100_000
"""Most addresses-of-record in memory."""

STORE_BYTES = 256 * 1024 * 1024
"""Most bytes that a Location takes in memory. ADDRESSES with one usual phone each take 200 MB."""

END_SECONDS = 5.0
"""Most seconds between the end of a binding and its removal. The bindings that end within five
seconds are removed together."""

ENDS_AT_ONCE = 500
"""Addresses-of-record whose bindings are removed in one turn of the loop, which takes some
milliseconds."""

SWEEP_SECONDS = 60
"""Least seconds between two searches of a full store for bindings that have ended, and the
Retry-After of the 503 that a full store gives: a search looks at all bindings."""

log = logging.getLogger("sippet_gevent.core")


class _Engine(Protocol):
    @property
    def counters(self) -> Counters: ...


class _Flow(Protocol):
    def is_alive(self) -> bool: ...


class _Names(Protocol):
    @property
    def node(self) -> str: ...
    @property
    def live_flow(self) -> Callable[[FlowName], _Flow | None]: ...


class Owner(Protocol):
    """The parts of a stack that a Location needs."""

    @property
    def names(self) -> _Names:
        """Finds flows by name."""

    @property
    def engine(self) -> _Engine:
        """Has the counters, for log lines."""

    @property
    def clock(self) -> Clock:
        """The time by which bindings end."""

    @property
    def deadlines(self) -> Deadlines:
        """Calls `expire(now)` of what was added, in the hub."""

    @property
    def is_running(self) -> bool:
        """True from start() until stop()."""

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names."""


class Location:
    """Bindings in memory, by address-of-record.

    `Registrar(location)` fills it, and a proxy looks requests up in it::

        location = Location()
        stack.on("REGISTER")(Registrar(location))

        @stack.on("INVITE")
        def invite(request, tx):
            forward(request, tx, *location.lookup(request.uri), record_route=True)

    A store of your own has the same methods: get, put, lookup, lookup_contact.

    Args:
        now: A function that returns the time in seconds, for a Location without a stack.
    """

    stack: Owner | None = None
    """The stack whose clock and domains are used: the running one whose Registrar was the first to
    use this Location, unless another is assigned."""

    def __init__(self, now: Callable[[], float] = Clock.now) -> None:
        if not callable(now):
            raise TypeError(
                f"a Location takes its time from the stack it serves, got {excerpt(now)}: "
                "write Location()"
            )
        self._clock = self._by = now
        self._stops = 0  # of the stack's deadlines: each stop has forgotten those of before
        self._entries: dict[str, _Entry] = {}
        # by slots of END_SECONDS: the addresses-of-record whose first binding ends then
        self._ends: dict[int, dict[str, None]] = {}
        self._contacts = ContactIndex()
        self._swept = 0.0
        self.bytes = 0
        """Bytes that all bindings take in memory."""

    def _now(self) -> float:
        stack = self.stack
        now: Callable[[], float] = self._clock if stack is None else stack.clock.now
        is_running = stack is not None and getattr(stack, "is_running", False)
        stops = stack.deadlines.stops if stack is not None and is_running else self._stops
        if now != self._by or stops != self._stops:
            self._go_by(now, stops)
        return now()

    def _go_by(self, now: Callable[[], float], stops: int) -> None:
        """Use the clock of this run of the stack from now on. Bindings keep the time that they have
        left."""
        later, is_same_clock = now() - self._by(), now == self._by
        self._by, self._stops, self._swept = now, stops, 0.0
        # a new run of the same stack; looking at 100,000 entries would take half a second
        if is_same_clock and self.stack is not None:
            for slot in self._ends:
                self.stack.deadlines.add(slot * END_SECONDS, _End(self, slot))
            return
        self._ends.clear()
        for name, entry in self._entries.items():
            bindings = tuple(b._replace(expires_at=b.expires_at + later) for b in entry.bindings)
            self._entries[name] = entry._replace(
                bindings=bindings, slot=self._will_end(name, bindings)
            )

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names, the key of get() and put()."""
        return aor(uri) if self.stack is None else self.stack.aor(uri)

    def get(self, aor: str) -> tuple[Binding, ...]:
        """Return the live bindings of an address-of-record, best first: highest q, then newest.

        A binding whose flow has ended is left out, unless its Contact may be tried.
        """
        now = self._now()
        entry = self._entries.get(aor)
        if entry is None:
            if not isinstance(aor, str):
                raise TypeError(
                    f"aor must be a text, got {excerpt(aor)}: "
                    "write lookup(uri), or get(location.aor(uri))"
                )
            return ()
        expired = [binding for binding in entry.bindings if binding.expires_at <= now]
        cut_off = [
            binding
            for binding in entry.bindings
            if binding.expires_at > now and self.has_ended(binding)
        ]
        if not expired and not cut_off:
            return entry.bindings
        live = tuple(
            binding
            for binding in entry.bindings
            if binding.expires_at > now and binding not in cut_off
        )
        self.put(aor, live)
        if self.stack is not None:
            log_ended(self.stack, aor, expired, "expired")
            log_ended(self.stack, aor, cut_off, "connection closed")
        return live

    def has_ended(self, binding: Binding) -> bool:
        """True when the only way to this Contact was a flow of this process that has ended (RFC
        5626 §7)."""
        return binding.by_flow_only and self.is_unusable(binding)

    def is_unusable(self, binding: Binding) -> bool:
        """True when the flow of a binding was of this process and has ended."""
        flow, stack = binding.flow, self.stack
        return (
            flow is not None
            and stack is not None
            and flow.node == stack.names.node
            and stack.names.live_flow(flow) is None
        )

    def put(self, aor: str, bindings: tuple[Binding, ...]) -> None:
        """Replace all bindings of an address-of-record at once. Raises Reject(503) when the store
        is full."""
        now, size = self._now(), 0
        if bindings:
            size = entry_bytes(aor, (binding.bytes for binding in bindings))
            if self._is_over(aor, size):
                if now >= self._swept + SWEEP_SECONDS:
                    self._swept = now
                    self.expire()
                if self._is_over(aor, size):
                    raise Reject(503, "Registrar Full", retry_after=RetryAfter(SWEEP_SECONDS))
        old = self._entries.pop(aor, _NONE)
        self.bytes += size - old.bytes
        self._ends.get(old.slot, {}).pop(aor, None)
        self._index(aor, old.bindings, bindings)
        if bindings:
            self._entries[aor] = _Entry(bindings, size, self._will_end(aor, bindings))

    def _is_over(self, aor: str, size: int) -> bool:
        """True when the store has no room for so many bytes. There is always room for an entry that
        does not grow."""
        old = self._entries.get(aor, _NONE)
        is_one_too_many = old is _NONE and len(self._entries) >= ADDRESSES
        return is_one_too_many or (size > old.bytes and self.bytes - old.bytes + size > STORE_BYTES)

    def _will_end(self, aor: str, bindings: tuple[Binding, ...]) -> int:
        """Schedule the end of the first of these bindings; return its slot in `_ends`."""
        first = min(binding.expires_at for binding in bindings)
        if not math.isfinite(first):  # the clock of a test that is over, for example
            return 0
        slot = int(first / END_SECONDS) + 1
        if slot not in self._ends:
            self._ends[slot] = {}
            deadlines = getattr(self.stack, "deadlines", None)
            if deadlines is not None:
                deadlines.add(slot * END_SECONDS, _End(self, slot))
        self._ends[slot][aor] = None
        return slot

    def _index(self, aor: str, before: tuple[Binding, ...], after: tuple[Binding, ...]) -> None:
        self._contacts.update(
            aor, [binding.uri for binding in before], [binding.uri for binding in after]
        )

    def lookup(self, uri: URI) -> tuple[Binding, ...]:
        """Return the bindings to which a request for this URI goes, best first, as targets of
        forward() and fork().

        There is one for each phone. If a phone has several Contacts with the same +sip.instance,
        its first binding has the further ones in `others`, because all of them together would get
        the request more than once (RFC 5626 §7).
        """
        check_uri("uri", uri)
        found: dict[str | URI, list[Binding]] = {}
        for binding in self.get(self.aor(uri)):
            found.setdefault(instance_of(binding.contact) or binding.uri, []).append(binding)
        return with_others(found.values())

    def lookup_contact(self, uri: URI) -> tuple[Binding, ...]:
        """Return the bindings whose Contact is this URI, by the comparison of RFC 3261 §19.1.4.

        A request may be for one phone of a user: the Refer-To of an attended transfer names a
        Contact (RFC 5589 §7). If several phones have that Contact, such as one private address
        behind two NATs, each of them gets the request.
        """
        check_uri("uri", uri)
        found: dict[str | _Way, list[Binding]] = {}
        for name in self._contacts.find(uri):
            for binding in self.get(name):
                if binding.uri.equivalent(uri):  # one phone may have several lines, and flows
                    found.setdefault(
                        instance_of(binding.contact) or (binding.flow, binding.path), []
                    ).append(binding)
        return with_others(found.values())

    def expire(self) -> None:
        """Remove the bindings that have ended, all of them at once."""
        for name in list(self._entries):
            self.get(name)

    def _end(self, slot: int) -> bool:
        """Remove ENDS_AT_ONCE of the bindings that end in this slot; False when there are more."""
        names = self._ends.get(slot, {})
        if slot * END_SECONDS > self._now():
            return True  # a deadline by the clock of another stack
        for name in list(islice(names, ENDS_AT_ONCE)):
            self.get(name)
            names.pop(name, None)
        if not names:
            self._ends.pop(slot, None)
        return not names

    def __len__(self) -> int:
        """Return the number of addresses-of-record."""
        return len(self._entries)


_Way = tuple[FlowName | None, tuple[NameAddr, ...]]
"""The key of a phone without +sip.instance: its flow and the Path."""


class _Entry(NamedTuple):
    """The bindings of an address-of-record, the bytes they take, and the slot of `_ends` for the
    first that ends."""

    bindings: tuple[Binding, ...] = ()
    bytes: int = 0
    slot: int = 0


_NONE = _Entry()


class _End:
    """A deadline of a stack at which bindings of a Location end."""

    __slots__ = ("_location", "_slot")

    def __init__(self, location: Location, slot: int) -> None:
        self._location = location
        self._slot = slot

    def expire(self, now: float) -> None:
        """Remove the bindings that have ended: ENDS_AT_ONCE now, the others in the next turns of
        the loop."""
        stack = self._location.stack
        if not self._location._end(self._slot) and stack is not None:
            stack.deadlines.add(now, self)


def shown_uri(uri: URI) -> Plain:
    """Return a URI for log lines, without its password."""
    return Plain(uri if uri.password is None else uri._replace(password=None))


def log_ended(stack: Owner, aor: str, bindings: Iterable[Binding], reason: str) -> None:
    """Log that bindings have ended, because the phone removed them, they expired, or their
    connection ended."""
    for binding in bindings:
        stack.engine.counters.info(
            "registration ended",
            stack.clock.now(),
            'registration ended: aor=%s contact=%s reason="%s" call_id=%s',
            Plain(aor),
            shown_uri(binding.uri),
            Plain(reason),
            Plain(binding.call_id),
            log=log,
        )
