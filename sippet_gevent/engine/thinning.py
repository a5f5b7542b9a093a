"""Thinning: the value of oc that clients with overload control get, by the share of new requests
that is not served (RFC 7339 §5.3). Pure.

Each client is asked by what becomes of its own requests. Sources take turns, so a client that sends
no more than its turns allow is soon asked for nothing. Another one that does not support overload
control, or says so and sends as much as before, is refused what exceeds its turns. It gains nothing
from the obedience of the others (§5.10.2, §11). So nobody has to judge if a client obeys, which a
server cannot see when the client itself gets more to do.

feedback.py writes the value. What servers ask of us is in core/client/overloaded.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..runtime.rates import source_of

FIRST = 0.1
"""The part when an overload begins. Its size is not known yet, and it is measured soon."""

GAIN = 0.3
"""How much of the share that was not served counts in one period. A request waits for two or three
periods before it is refused, so each excess is seen as often."""

RETURN = 1.05
"""Factor in a period for what clients send, while all is served. So they return within a second or
two, and not all at once."""

MOST = 0.98
"""The greatest part. A client that sends nothing hears nothing, so its control would end while the
overload lasts, and all that it holds back would come."""

MOST_PERIODS = 10.0
"""Most periods that one reading makes up for."""

SEEN = 8
"""Requests of one client that are enough to ask it for less, if one of them was not served. Where
fewer come, several periods count as one."""

UNSEEN = 50.0
"""Most periods that count as one."""

CLIENTS = 1000
"""Most clients that are asked by their own requests. Any further one is asked by those of all."""


class Thinning:
    """The part of the requests that clients should not send.

    A delay alone does not show the size of an overload. In a small one, too, the oldest request
    waits as long as it may. So the part follows the share of the new requests that is refused or
    dropped. With the right part, that share is 0.

    Args:
        period: Seconds between two changes.
        target: The delay in the kernel that is wanted, in seconds.
        patience: The delay in the kernel that is too much, in seconds.
        seen: Requests that are enough to ask for less.
    """

    __slots__ = (
        "_patience", "_period", "_seen", "_target",
        "changed", "part", "served", "share", "unserved",
    )  # fmt: skip

    def __init__(self, period: float, target: float, patience: float, seen: int = 0) -> None:
        self._period, self._target, self._patience = period, target, patience
        self._seen = seen
        self.share = 0.0
        """The part of the requests of the last period that was not served."""
        self.changed = 0.0
        """When the part was computed last."""
        self.part = 0.0
        """0 to MOST."""
        self.served = self.unserved = 0
        """New requests of this period. Overload counts them here."""

    def begin(self, now: float) -> None:
        """Begin with FIRST, or with what is left of the last overload."""
        self.part = max(self.part, FIRST)
        self.served = self.unserved = 0
        self.changed = now

    def follow(self, now: float, delay: float, oldest: float = 0.0) -> float:
        """Return the part, after it has followed the requests of the period.

        Args:
            now: The time.
            delay: The delay in the kernel.
            oldest: For how long the oldest new request waits. While that exceeds the target, the
                part does not fall, because the request may not be served.
        """
        periods = (now - self.changed) / self._period
        count = self.served + self.unserved
        late = min(max((delay - self._target) / self._patience, 0.0), 1.0)
        is_clear = count >= self._seen or periods >= UNSEEN or not self.unserved
        if periods >= 1 and (is_clear or late):
            self.share = self.unserved / max(count, 1)
            excess = max(self.share, late)
            factor = 1 - GAIN * excess if excess else 1.0 if oldest > self._target else RETURN
            factor **= min(periods, MOST_PERIODS)
            if excess:  # no more than would have been enough
                factor = max(factor, 1 - excess)
            self.part = min(max(1 - (1 - self.part) * factor, 0.0), MOST)
            self.served = self.unserved = 0
            self.changed = now
        return self.part


class ThinningByClient:
    """The parts of the clients that have offered overload control, by their sources.

    Args:
        period: Seconds between two changes.
        target: The delay in the kernel that is wanted, in seconds.
        patience: The delay in the kernel that is too much, in seconds.
    """

    __slots__ = ("_looked", "_periods", "clients", "total")

    def __init__(self, period: float, target: float, patience: float) -> None:
        self._periods = period, target, patience
        self._looked = 0.0
        self.total = Thinning(period, target, patience)
        """The part by the requests of all sources."""
        self.clients: dict[str, Thinning] = {}
        """The parts of clients, by their sources. While there are any, count() must be called."""

    @property
    def asks(self) -> bool:
        """True while anybody may be asked for less."""
        return bool(self.total.part or self.clients)

    def begin(self, now: float) -> None:
        """Begin an overload."""
        if self.total.changed < now - UNSEEN * self._periods[0]:
            self.total.part = 0.0
        self.total.begin(now)
        self._forget(now)
        for client in self.clients.values():
            client.begin(now)

    def clear(self) -> None:
        """Ask nobody for less."""
        self.total.part = 0.0
        self.clients.clear()

    def count(self, hosts: Iterable[str], *, served: bool) -> None:
        """Count new requests for the clients that have sent them; `total` has been counted."""
        for host in hosts:
            client = self.clients.get(source_of(host))
            if client is None:
                continue
            if served:
                client.served += 1
            else:
                client.unserved += 1

    def follow(
        self,
        host: str,
        now: float,
        delay: float,
        oldest: float,
        oldest_of_all: float,
        *,
        is_over: bool = False,
    ) -> float:
        """Return the part for a client, after it has followed the client's requests.

        Args:
            host: The host of the client.
            now: The time.
            delay: The delay in the kernel.
            oldest: For how long the oldest new request of the client waits.
            oldest_of_all: The same for all sources.
            is_over: True after an overload, when clients are forgotten one by one.
        """
        since = now - UNSEEN * self._periods[0]
        if is_over and self.total.changed < since:
            self.clear()  # what was refused long ago says nothing of now
            return 0.0
        total = self.total.follow(now, delay, oldest_of_all)
        source = source_of(host)
        client = self.clients.get(source)
        if is_over and client is not None and client.changed < since:
            client = None
            del self.clients[source]
        if client is None:
            if is_over or (len(self.clients) >= CLIENTS and not self._has_room(now)):
                return total
            client = self.clients[source] = Thinning(*self._periods, SEEN)
            client.begin(now)
        if self.total.share and not client.unserved:
            delay = 0.0  # the sources that send more than their turns allow cause it
        part = client.follow(now, delay, oldest)
        if is_over and not part:
            del self.clients[source]
        return part

    def _has_room(self, now: float) -> bool:
        """Forget the clients that have had no response for long. False if no other has room."""
        if now - self._looked < UNSEEN * self._periods[0]:
            return False
        self._looked = now
        self._forget(now)
        return len(self.clients) < CLIENTS

    def _forget(self, now: float) -> None:
        """Forget the clients that have had no response for long."""
        since = now - UNSEEN * self._periods[0]
        self.clients = {
            source: each for source, each in self.clients.items() if each.changed > since
        }
