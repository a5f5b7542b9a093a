"""Shedding: refuses or drops the new requests that have waited too long in overload (RFC 3261
§21.5.4, RFC 6357)."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from ..transport.base import Flow, Receive
from .admission import OVERLOAD
from .layer import TransactionLayer
from .queue import NewRequests, Waiting
from .refused import RefusedLately
from .thinning import ThinningByClient

PATIENCE = 0.5
"""Of T1, 250 ms: a new request that has waited for so long is refused or dropped. An answer that is
later than T1 meets the first retransmission."""

REFUSALS = 0.15
"""Part of the time that refusals may take. One costs a tenth of the CPU of a call, so this is
enough for one to each call that is served. With all the time for refusals, no call is served."""

TOGETHER = 0.02
"""Of T1, 10 ms: with a request that is refused, those go that would be refused within this time. So
several refusals of one connection are sent together."""

SAVED = 0.05
"""Seconds for refusals that may be saved. The first ones come all at once."""

SHED_SECONDS = 1.0
"""Seconds for which the state is Shedding after a request was dropped."""

NEVER = float("-inf")


class Shedding:
    """Refuses requests with 503 while there is time for that, and drops the rest.

    Args:
        layer: Has the counters, the clock and the tap.
        waiting: The new requests that wait.
        thinning: Counts those that are not served.
        refuse: `refuse(data, flow, key, now)` answers a request with 503, without a transaction.
        sends: `sends()` sends the answers of refuse() that wait.
        passes: `passes(data, flow)` serves a message: the CANCEL of a request.
        crashed: `crashed(error, data, flow)` takes an error that a request has caused in the hub.
    """

    __slots__ = (
        "_crashed", "_earned", "_layer", "_now", "_passes", "_patience", "_sends",
        "_thinning", "_together", "_waiting", "budget", "dropped", "longest", "lost", "refuse",
        "refused", "shed_at",
    )  # fmt: skip

    def __init__(
        self,
        layer: TransactionLayer,
        waiting: NewRequests,
        thinning: ThinningByClient,
        refuse: Callable[[bytes, Flow, str, float], None],
        sends: Callable[[], None],
        passes: Receive,
        crashed: Callable[[BaseException, bytes, Flow], None],
    ) -> None:
        self._layer = layer
        self._now = layer.clock.now
        self._waiting, self._thinning = waiting, thinning
        self._patience = PATIENCE * layer.timers.t1
        self._together = TOGETHER * layer.timers.t1
        self.refuse, self._passes, self._crashed = refuse, passes, crashed
        self._sends = sends
        # the patience of a client on a connection, which repeats nothing
        self.longest = 64 * layer.timers.t1
        self.lost = RefusedLately(self.longest)
        """Requests that were dropped. Their copies are not served either."""
        self.budget = self._earned = 0.0
        """Seconds that refusals may take now."""
        self.shed_at = NEVER
        """When a request was dropped last."""
        self.refused = self.dropped = 0
        """Requests of this overload."""

    def begin(self, now: float) -> None:
        """Begin an overload."""
        self.refused = self.dropped = 0
        self.budget, self._earned = SAVED, now

    def earn(self, now: float) -> float:
        """Add the part of the time since the last turn to what refusals may take. Return that
        part."""
        earned = min((now - self._earned) * REFUSALS, SAVED)
        # no refusal costs more than SAVED: the process has paused within it
        self.budget = min(max(self.budget, -SAVED) + earned, SAVED)
        self._earned = now
        return earned

    def clear(self, now: float, until: float) -> None:
        """Refuse or drop requests that have waited for too long, the oldest first."""
        waiting, requests = self._waiting, self._waiting.requests
        patience = self._patience
        while requests and self.budget > 0:
            key = next(iter(requests))
            arrival, data, flow, cancel, _ = requests[key]
            if now - arrival < patience or now >= until:
                break
            patience = self._patience - self._together
            waiting.pop(key)
            self._thinning.total.unserved += 1
            if self._thinning.clients:
                self._thinning.count((flow.remote[0],), served=False)
            now = self._refuse(key, data, flow, now)
            if cancel is not None:
                now = self._send(now)  # the 503 goes before the answer to its CANCEL
                self._passes(*cancel)
        if patience < self._patience:
            now = self._send(now)
        if requests and now < until:
            late = waiting.take_late(now - self._patience, now - self.longest)
            if late:
                self._thinning.total.unserved += len(late)
                if self._thinning.clients:
                    hosts = [flow.remote[0] for _, (_, _, flow, _, _) in late]
                    self._thinning.count(hosts, served=False)
                self.drop(late, now)

    def refuse_one(self, key: str, data: bytes, flow: Flow, now: float) -> None:
        """Answer a request with 503 at once."""
        self._send(self._refuse(key, data, flow, now))

    def _send(self, now: float) -> float:
        """Send the answers of several requests. Return the time after that."""
        self._sends()
        after = self._now()
        self.budget -= after - now
        return after

    def _refuse(self, key: str, data: bytes, flow: Flow, now: float) -> float:
        """Answer a request with 503. Return the time after that."""
        self.refused += 1
        try:
            self.refuse(data, flow, key, now)
        except Exception as error:  # one that reaches the loop would end the reading of the socket
            self._crashed(error, data, flow)
        after = self._now()
        self.budget -= after - now
        return after

    def drop(self, requests: list[tuple[str, Waiting]], now: float) -> None:
        """Drop new requests, and remember them by their keys. Their CANCELs pass later, because
        this may be the greenlet of another message."""
        self.shed_at = now
        self.lost.add([key for key, _ in requests], 0, now)
        self.count(OVERLOAD, requests)
        for _, (_, _, _, cancel, _) in requests:
            if cancel is not None:
                gevent.get_hub().loop.run_callback(self._passes, *cancel)

    def drop_oldest(self) -> None:
        """Drop the oldest request that waits, because too many wait, or too many bytes."""
        key = next(iter(self._waiting.requests))
        oldest = self._waiting.pop(key)
        assert oldest is not None
        self._thinning.total.unserved += 1
        self._thinning.count((oldest[2].remote[0],), served=False)
        self.drop([(key, oldest)], self._now())

    def count(self, reason: str, requests: list[tuple[str, Waiting]]) -> None:
        """Count requests that are dropped, and tell the tap of them."""
        count, counters, tap = len(requests), self._layer.counters, self._layer.tap
        self.dropped += count
        counters.received += count
        counters.dropped[reason] = counters.dropped.get(reason, 0) + count
        if tap is not None:
            for key, (_, data, flow, _, _) in requests:
                tap.tell("in", data, flow, key)

    def stop(self, now: float) -> None:
        """Drop all that waits, with its CANCELs: the stack stops."""
        for key, (arrival, data, flow, cancel, _) in self._waiting.take_late(now, now):
            self.drop([(key, (arrival, data, flow, None, ""))], now)
            if cancel is not None:
                self.count(OVERLOAD, [(key, (arrival, *cancel, None, ""))])
        self.shed_at = NEVER
