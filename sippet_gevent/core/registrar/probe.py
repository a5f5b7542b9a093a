"""Probe: asks registered phones if they are still there, by OPTIONS (RFC 3261 §11)."""

from __future__ import annotations

import logging
from typing import NamedTuple

from ...errors import SIPError
from ...message.message import Request
from ...observe.log_values import Plain
from ...stores.base import BindingEvent
from ...stores.bindings import Binding, Bindings
from ...stores.location import Location, shown_uri
from ..user_agent import UserAgent

log = logging.getLogger("sippet_gevent.core")

FAILURES = 2
"""Probes without an answer, one after the other, until a binding is removed."""

AT_ONCE = 50
"""Most probes that are sent in one turn of the loop. The others follow PAUSE later."""

PAUSE = 0.1
"""Seconds until then."""

GONE = frozenset((408, 430))
"""Responses that say that no phone is there: those of an edge proxy. Any other is of the phone."""


class _Key(NamedTuple):
    aor: str
    uri: str
    path: str


class _State(NamedTuple):
    due: float
    binding: Binding
    failures: int


class Probe:
    """Probes each binding that was made or refreshed in this process, and removes dead ones.

    A REGISTER proves that the phone is there, so a probe follows it `every` seconds later, and then
    again. Besides, the OPTIONS keeps the NAT in front of the phone open.

    Args:
        location: The bindings.
        every: Seconds between two probes of a binding.
    """

    def __init__(self, location: Location, every: float) -> None:
        self._location = location
        self._every = every
        self._states: dict[_Key, _State] = {}  # in the order of `due`
        self._stack: UserAgent | None = None
        self._stops = -1
        self._armed = False

    def __len__(self) -> int:
        return len(self._states)

    def begin(self, stack: UserAgent) -> None:
        """Begin to probe with the requests of a stack, if that has not been done in this run."""
        if self._stack is stack and self._stops == stack.deadlines.stops:
            return
        if self._stack is None:
            self._location.watch(self._told)
        self._stack, self._stops, self._armed = stack, stack.deadlines.stops, False
        self._arm(stack.clock.now())

    def _told(self, event: BindingEvent) -> None:
        key = _key(event.aor, event.binding)
        self._states.pop(key, None)
        if event.kind in ("added", "refreshed") and self._stack is not None:
            now = self._stack.clock.now()
            self._states[key] = _State(now + self._every, event.binding, 0)
            self._arm(now)

    def _arm(self, now: float) -> None:
        if self._armed or not self._states or self._stack is None:
            return
        self._armed = True
        due = next(iter(self._states.values())).due
        self._stack.deadlines.add(max(now, due), self)

    def expire(self, now: float) -> None:
        """Send the probes that are due. The deadlines of the stack call it."""
        stack, self._armed = self._stack, False
        if stack is None or not stack.is_running:
            return
        due: list[_Key] = []
        for key, state in self._states.items():
            if state.due > now or len(due) == AT_ONCE:
                break
            due.append(key)
        for key in due:
            # behind the others, until its outcome is known
            state = self._states.pop(key)
            self._states[key] = state._replace(due=now + self._every)
            stack.callbacks.spawn(self._probe, stack, key, state)
        self._arm(now + PAUSE if len(due) == AT_ONCE else now)

    def _probe(self, stack: UserAgent, key: _Key, state: _State) -> None:
        reason = self._ask(stack, key, state.binding)
        now = self._states.get(key)
        if now is None or now.binding is not state.binding:
            return  # it has been refreshed or removed meanwhile
        failures = state.failures + 1 if reason else 0
        if failures < FAILURES:
            self._states[key] = now._replace(failures=failures)
            return
        stack.engine.counters.info(
            "registration probe failed",
            stack.clock.now(),
            "registration probe failed: aor=%s contact=%s probes=%d removed=yes call_id=%s "
            'reason="%s"',
            Plain(key.aor),
            shown_uri(state.binding.uri),
            failures,
            Plain(state.binding.call_id),
            Plain(reason),
            log=log,
        )
        self._remove(stack, key, state.binding)

    def _ask(self, stack: UserAgent, key: _Key, binding: Binding) -> str:
        """Send OPTIONS to a phone. Returns why it is not there, "" if it is."""
        names = stack.names
        hop = None
        if binding.flow is not None and not binding.path:
            hop = names.live_flow(binding.flow)
            if hop is None and binding.by_flow_only:
                return "its flow has ended"
        address = f"<{key.aor}>"
        request = Request("OPTIONS", binding.uri, from_=address, to=address)
        if binding.path:
            request.route = binding.path
        try:
            response = stack.send(request, hop, listener=names.listener(binding.listener)).final()
        except SIPError as error:
            return str(error) or type(error).__name__
        return f"status {response.status}" if response.status in GONE else ""

    def _remove(self, stack: UserAgent, key: _Key, dead: Binding) -> None:
        def change(stored: Bindings) -> Bindings:
            return tuple(
                each
                for each in stored
                if (each.uri, each.path, each.call_id, each.cseq)
                != (dead.uri, dead.path, dead.call_id, dead.cseq)
            )

        try:
            self._location.update(key.aor, change)
        except SIPError as error:  # the store fails; the next probe tries again
            stack.engine.counters.warn(
                "binding not removed",
                stack.clock.now(),
                'binding not removed: aor=%s call_id=%s reason="%s"',
                Plain(key.aor),
                Plain(dead.call_id),
                error,
                log=log,
            )


def _key(aor: str, binding: Binding) -> _Key:
    return _Key(aor, str(binding.uri), ",".join(map(str, binding.path)))
