"""EndedBindings: removes bindings of a Location that expire, or whose only flow has ended, RFC 3261
§10.3 and RFC 5626 §7."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from gevent import Greenlet
from gevent.pool import Group

from ..errors import SIPError
from ..message.uri import URI
from ..observe.counters import Counters
from ..runtime.clock import Clock, Deadlines
from .base import BindingStore, Change
from .bindings import Bindings, FlowName
from .gruu import Gruus
from .guarded import GuardedStore
from .memory import END_SECONDS, MemoryBindings

ENDS_AT_ONCE = 32
"""Addresses-of-record whose bindings are removed in one turn of the loop, which takes a
millisecond. Thousands end in the same second if their phones were switched on together."""

SWEEP_SECONDS = 60.0
"""Seconds between two searches of a store for bindings that other processes have left."""

ENDED_FLOWS = 100_000
"""Most addresses-of-record whose flow has ended and whose store is still to be told. The bindings
of any others stay until they expire; look-ups leave them out."""

NOTED_FLOWS = 100_000
"""Most flows that are kept with the addresses-of-record whose bindings end with them. Beyond that,
the flow whose last REGISTER is the oldest is forgotten. If several processes share a store, each
of them may remove bindings that another one has noted."""

ENDERS = 8
"""Greenlets that tell a store that may wait of flows that have ended."""

RETRY = 2.0
"""Seconds until such a greenlet tries again after a failure."""

PAUSE = 0.005
"""Seconds between two batches of bindings that are removed from a store that may wait."""


class _Names(Protocol):
    @property
    def node(self) -> str: ...
    @property
    def live_flow(self) -> Callable[[FlowName], object | None]: ...
    @property
    def flow_watches(self) -> list[Callable[[FlowName], None]]: ...
    @property
    def aor(self) -> Callable[[URI], str]: ...
    @property
    def gruus(self) -> Gruus: ...


class _Engine(Protocol):
    @property
    def counters(self) -> Counters: ...


class Owner(Protocol):
    """The parts of a stack that a Location needs."""

    @property
    def engine(self) -> _Engine:
        """Has the counters, for log lines."""

    @property
    def names(self) -> _Names:
        """Finds flows by name."""

    @property
    def clock(self) -> Clock:
        """The time."""

    @property
    def deadlines(self) -> Deadlines:
        """Calls `expire(now)` of what was added, in the hub."""

    @property
    def callbacks(self) -> Group:
        """Greenlets for work from the hub that may block."""

    @property
    def is_running(self) -> bool:
        """True from start() until stop()."""

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names."""


class Owned(Protocol):
    """The parts of a Location that EndedBindings needs."""

    stack: Owner | None
    store: BindingStore

    def update(self, aor: str, change: Change) -> Bindings:
        """Replace the bindings of an address-of-record. Raises SIPError."""

    def live(self, bindings: Bindings, now: float | None = None) -> Bindings:
        """Return those of these bindings that have not ended."""


class EndedBindings:
    """The deadlines at which bindings of a Location end, and its bindings by connection.

    Args:
        location: The Location.
        guarded: Its store, if that may wait.
    """

    def __init__(self, location: Owned, guarded: GuardedStore | None) -> None:
        self._location = location
        self._guarded = guarded
        self.deadlines: Deadlines | None = None
        """Those of the running stack."""
        self.stops = 0
        """Of the deadlines, when these here were added. Each stop has forgotten those of before."""
        self._slots: set[int] = set()  # of END_SECONDS, which have a deadline
        self._by_flow: dict[FlowName, str | set[str]] = {}  # addresses-of-record
        # addresses-of-record whose flow has ended, and the flow
        self._cut_off: deque[tuple[str, FlowName]] = deque()
        self.dead: dict[FlowName, int] = {}
        """Flows of datagrams that have ended, with the addresses-of-record from which their
        bindings are still to be removed. A flow of datagrams has no end of its own, so a REGISTER
        that comes by it takes it out of here."""
        self._registering: dict[FlowName, int] = {}  # REGISTERs that are being stored
        self._is_removing = False  # from a store that does not wait
        self._enders: list[Greenlet[..., None]] = []  # which tell a store that may wait
        self._is_expiring = False

    def begin(self, stack: Owner) -> None:
        """Add the deadlines to those of a stack that has been started."""
        self.deadlines, self.stops = stack.deadlines, stack.deadlines.stops
        self._is_removing = self._is_expiring = False
        self._slots.clear()
        if self._flow_ended not in stack.names.flow_watches:
            stack.names.flow_watches.append(self._flow_ended)
        store = self._location.store
        if isinstance(store, MemoryBindings):
            for end in store.ends:
                self._plan(end - END_SECONDS)
        elif self._guarded is not None:
            self.deadlines.add(stack.clock.now(), _Sweep(self))
        # connections ended when this stack was stopped, and nobody was told then
        for flow, names in self._by_flow.items():
            if flow.node:
                self._cut(flow, names)
        self._start_enders(stack)

    def begin_register(self, flow: FlowName) -> None:
        """Note that a REGISTER by a flow of datagrams is going to be stored, so the flow lives. It
        does not end until end_register() is called.

        The store may join the change with others, such as one that removes what has ended. That
        one must not take the binding away of which the 200 tells the phone. The next copy that
        cannot be delivered ends the flow.
        """
        self.dead.pop(flow, None)
        self._registering[flow] = self._registering.get(flow, 0) + 1

    def end_register(self, flow: FlowName) -> None:
        """Note that a REGISTER by a flow of datagrams is stored, or has failed."""
        left = self._registering[flow] - 1
        if left:
            self._registering[flow] = left
        else:
            del self._registering[flow]

    def changed(self, aor: str, before: Bindings, after: Bindings) -> None:
        """Note when bindings end that were stored."""
        for binding in after:
            slot = int(binding.expires_at / END_SECONDS) + 1 if binding.expires_at < math.inf else 0
            if slot not in self._slots:
                self._plan(binding.expires_at)
        for binding in after + before:
            if binding.flow is not None:
                self._note_flows(aor, before, after)
                break

    def _plan(self, expires_at: float) -> None:
        stack = self._location.stack
        if stack is None or self.deadlines is None or not math.isfinite(expires_at):
            return
        slot = int(expires_at / END_SECONDS) + 1
        self._slots.add(slot)
        wait = slot * END_SECONDS - self._location.store.now()
        self.deadlines.add(stack.clock.now() + max(wait, 0.0), _End(self, slot))

    def end(self, slot: int, item: _End) -> None:
        """Remove the bindings that end in this slot, ENDS_AT_ONCE in one turn of the loop."""
        stack, deadlines = self._location.stack, self.deadlines
        if stack is None or deadlines is None or slot not in self._slots:
            return
        now = self._location.store.now()
        if slot * END_SECONDS > now:  # the clock was set back
            deadlines.add(stack.clock.now() + slot * END_SECONDS - now, item)
        elif self._guarded is not None:
            self._slots.discard(slot)
            self.sweep()
        else:
            removed = list(self._location.store.expire(now, ENDS_AT_ONCE))
            self._expired(removed)
            for aor, _ in removed:  # one of several has ended
                for binding in self._location.store.lookup(aor):
                    if int(binding.expires_at / END_SECONDS) + 1 not in self._slots:
                        self._plan(binding.expires_at)
            if len(removed) >= ENDS_AT_ONCE:
                deadlines.add(stack.clock.now(), item)
            else:
                self._slots.discard(slot)

    def sweep(self) -> None:
        """Remove what has ended from a store that may wait, in a greenlet."""
        stack = self._location.stack
        if not self._is_expiring and stack is not None and stack.is_running:
            self._is_expiring = True
            stack.callbacks.spawn(self._expire, self._guarded, stack.clock)

    def _expire(self, guarded: GuardedStore, clock: Clock) -> None:
        """Remove bindings that have ended from a store that may wait, some at a time."""
        try:
            while True:
                removed = guarded.expire(self._location.store.now(), ENDS_AT_ONCE)
                if removed is None:  # it fails; the next sweep tries again
                    return
                self._expired(removed)
                if len(removed) < ENDS_AT_ONCE:
                    return
                clock.sleep(PAUSE)
        finally:
            self._is_expiring = False

    def _expired(self, removed: Iterable[tuple[str, Bindings]]) -> None:
        for aor, bindings in removed:
            for binding in bindings:
                if binding.flow is not None:
                    left = self._left(aor)
                    self._note_flows(aor, bindings + left, left)
                    break

    def _left(self, aor: str) -> Bindings:
        """Return the bindings that an address-of-record has left, after some have expired."""
        if self._guarded is None:
            return self._location.store.lookup(aor)
        now = self._location.store.now()
        return tuple(b for b in self._guarded.copy.get(aor) or () if b.expires_at > now)

    def _note_flows(self, aor: str, before: Bindings, after: Bindings) -> None:
        """Note which addresses-of-record lose bindings with a flow."""
        old, new = _flows(before), _flows(after)
        if self.dead:
            for binding in after:
                if binding.flow in self.dead and binding not in before:  # registered by it anew
                    del self.dead[binding.flow]
        for name in old - new:
            names = self._by_flow.get(name)
            if isinstance(names, set):
                names.discard(aor)
            if not names or names == aor:
                self._by_flow.pop(name, None)
        for name in new:  # the old ones too: a process before this one may have stored them
            names = self._by_flow.pop(name, None)
            if isinstance(names, set):
                names.add(aor)
            elif names is not None and names != aor:
                names = {names, aor}
            self._by_flow[name] = names or aor
            if len(self._by_flow) > NOTED_FLOWS:
                del self._by_flow[next(iter(self._by_flow))]

    def _flow_ended(self, name: FlowName) -> None:
        """Remove the bindings that use this flow (RFC 5626 §7), in the hub."""
        if name.node:
            self._cut(name, self._by_flow.pop(name, ()))
        elif name not in self.dead and name not in self._registering:  # it may be used again
            self._cut(name, self._by_flow.get(name, ()))
        if self._location.stack is not None:
            self._start_enders(self._location.stack)

    def _cut(self, flow: FlowName, names: str | Iterable[str]) -> None:
        """Note addresses-of-record whose flow may have ended."""
        for aor in (names,) if isinstance(names, str) else names:
            if len(self._cut_off) < ENDED_FLOWS:
                self._cut_off.append((aor, flow))
                if not flow.node:
                    self.dead[flow] = self.dead.get(flow, 0) + 1

    def _removed(self, flow: FlowName) -> None:
        """Note that an address-of-record has no binding of a flow any more that has ended."""
        left = self.dead.get(flow, 0) - 1
        if left > 0:
            self.dead[flow] = left
        else:
            self.dead.pop(flow, None)

    def _start_enders(self, stack: Owner) -> None:
        """Remove the bindings of these, a bounded number at a time."""
        if self.deadlines is None or not self._cut_off:
            return
        if self._guarded is None:
            if not self._is_removing:
                self._is_removing = True
                self.deadlines.add(stack.clock.now(), _CutOff(self))
            return
        self._enders = [each for each in self._enders if not each.dead]
        for _ in range(min(len(self._cut_off), ENDERS - len(self._enders))):
            self._enders.append(stack.callbacks.spawn(self._remove_cut_off, stack.clock))

    def remove_some(self) -> None:
        """Remove bindings whose flow has ended from a store that does not wait."""
        self._is_removing = False
        for _ in range(min(len(self._cut_off), ENDS_AT_ONCE)):
            aor, flow = self._cut_off.popleft()
            self._location.update(aor, self._location.live)
            self._removed(flow)
        stack = self._location.stack
        if self._cut_off and stack is not None and self.deadlines is not None:
            self._is_removing = True
            self.deadlines.add(stack.clock.now(), _CutOff(self))

    def _remove_cut_off(self, clock: Clock) -> None:
        """Remove bindings whose flow has ended from a store that may wait, one at a time.

        Thousands of connections may end together, and registrations must not wait behind them.
        """
        while self._cut_off:
            aor, flow = self._cut_off.popleft()
            try:
                self._location.update(aor, self._location.live)
                self._removed(flow)
            except SIPError:
                self._cut_off.append((aor, flow))
                clock.sleep(RETRY)
            except BaseException:  # the stack is stopped; when it is started again, others go on
                self._cut_off.append((aor, flow))
                raise


def _flows(bindings: Bindings) -> set[FlowName]:
    """Return the flows with which some of these bindings end.

    A phone may listen at its Contact when its connection has ended, so only a connection that alone
    leads to it counts. A flow of datagrams leads to the port at which the phone listens.
    """
    return {b.flow for b in bindings if b.flow is not None and (b.by_flow_only or not b.flow.node)}


class _End:
    """A deadline at which bindings of a Location end."""

    __slots__ = ("_ends", "_slot")

    def __init__(self, ends: EndedBindings, slot: int) -> None:
        self._ends = ends
        self._slot = slot

    def expire(self, now: float) -> None:
        self._ends.end(self._slot, self)


class _CutOff:
    """A deadline for the removal of bindings, because their flow has ended."""

    __slots__ = ("_ends",)

    def __init__(self, ends: EndedBindings) -> None:
        self._ends = ends

    def expire(self, now: float) -> None:
        self._ends.remove_some()


class _Sweep(_CutOff):
    """A deadline at which a store is searched for bindings that have ended."""

    __slots__ = ()

    def expire(self, now: float) -> None:
        self._ends.sweep()
        if self._ends.deadlines is not None:
            self._ends.deadlines.add(now + SWEEP_SECONDS, self)
