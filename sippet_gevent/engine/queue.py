"""NewRequests: new requests that wait while a stack is overloaded, and whose turn it is, RFC 6357
§7.

The sources take turns, so that one source with many requests does not keep out the others. A source
that has just come is next. Of one source the newest request is next: its sender still waits, and
has not sent it again.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache

from ..message.scan import Framed
from ..runtime.rates import source_of
from ..transport.base import Flow
from .sources import Sources

SOURCES = 64
"""Most sources that are asked for a request that has not waited too long. The others are asked at
the next turn."""

WAITING_BYTES = 64 * 1024 * 1024
"""Most bytes of the requests that wait. One may be as long as a datagram, or as `Limits.parser`
allows."""

Message = tuple[bytes, Flow]
Waiting = tuple[float, bytes, Flow, "Message | None", str]
"""A new request that waits: its arrival, the message, its flow, its CANCEL if that has arrived, and
its source. A plain tuple, because most of them are dropped."""

_source_of_ipv6 = lru_cache(10_000)(source_of)


class NewRequests:
    """New requests that wait, by the key of their transaction.

    Args:
        sources: Knows the networks that share nothing with others (`Limits.exempt`). Each request
            from there counts as a source.
    """

    __slots__ = ("_by_source", "_sources", "bytes", "requests")

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.requests: OrderedDict[str, Waiting] = OrderedDict()
        """All that wait, oldest first. Only the methods add and remove any."""
        self.bytes = 0
        """Bytes of all that wait, with their CANCELs."""
        self._by_source: OrderedDict[str, dict[str, None]] = OrderedDict()  # the last is next

    def __len__(self) -> int:
        return len(self.requests)

    def put(
        self, key: str, arrival: float, data: bytes, flow: Flow, cancel: Message | None
    ) -> None:
        """Add a request."""
        # without the lines that a framer has read, which take forty times as much
        if type(data) is Framed:
            data = bytes(data)
        if cancel is not None and type(cancel[0]) is Framed:
            cancel = bytes(cancel[0]), cancel[1]
        source = flow.remote[0]
        if ":" in source:
            source = _source_of_ipv6(source)
        if self._sources.exempts and self._sources.is_exempt(flow.remote[0]):
            source = key
        self.requests[key] = (arrival, data, flow, cancel, source)
        self.bytes += len(data) + (0 if cancel is None else len(cancel[0]))
        keys = self._by_source.get(source)
        if keys is None:
            self._by_source[source] = {key: None}
        else:
            keys[key] = None

    def waits(self, host: str, now: float) -> tuple[float, float]:
        """Return for how many seconds the oldest request of a host's source waits, and the oldest
        one of all; 0.0 if none waits."""
        requests = self.requests
        if not requests:
            return 0.0, 0.0
        longest = now - next(iter(requests.values()))[0]
        if self._sources.is_exempt(host):
            return longest, longest
        keys = self._by_source.get(source_of(host))
        return (now - requests[next(iter(keys))][0] if keys else 0.0), longest

    def pop(self, key: str) -> Waiting | None:
        """Remove a request, and return it; None if it does not wait."""
        request = self.requests.pop(key, None)
        if request is not None:
            cancel = request[3]
            self.bytes -= len(request[1]) + (0 if cancel is None else len(cancel[0]))
            keys = self._by_source[request[4]]
            del keys[key]
            if not keys:
                del self._by_source[request[4]]
        return request

    def take_late(self, since: float, since_reliable: float) -> list[tuple[str, Waiting]]:
        """Remove and return the oldest requests, up to the first one that is not late.

        Args:
            since: Those are late that have arrived until this time.
            since_reliable: The same for requests on a connection, which are not repeated.
        """
        requests, by_source = self.requests, self._by_source
        late = []
        for item in requests.items():
            arrival, _, flow, _, _ = item[1]
            if arrival > since or (arrival > since_reliable and flow.transport.reliable):
                break
            late.append(item)
        for key, request in late:  # as pop() does, without a call for each
            del requests[key]
            cancel = request[3]
            self.bytes -= len(request[1]) + (0 if cancel is None else len(cancel[0]))
            keys = by_source[request[4]]
            del keys[key]
            if not keys:
                del by_source[request[4]]
        return late

    def take(self, since: float) -> tuple[str, Waiting] | None:
        """Remove and return the request whose turn it is. Then its source is the last.

        Requests that have arrived before `since` have no turn. None if there are no others.
        """
        by_source = self._by_source
        for _ in range(min(len(by_source), SOURCES)):
            source = next(reversed(by_source))
            keys = by_source[source]
            key, _ = keys.popitem()
            if self.requests[key][0] > since:
                if keys:
                    by_source.move_to_end(source, last=False)
                else:
                    del by_source[source]
                request = self.requests.pop(key)
                cancel = request[3]
                self.bytes -= len(request[1]) + (0 if cancel is None else len(cancel[0]))
                return key, request
            keys[key] = None
            by_source.move_to_end(source, last=False)
        return None

    def keep_cancel(self, key: str, now: float, cancel: Message) -> bool | None:
        """Keep a CANCEL behind its INVITE, and let that be next.

        Args:
            key: The key that the transaction of the CANCEL would have.
            now: The time.
            cancel: The CANCEL, and its flow.

        Returns:
            True if the INVITE had one already, which is replaced; None if no such INVITE waits.
        """
        invite = key[: -len("CANCEL")] + "INVITE"
        request = self.pop(invite)
        if request is None:
            return None
        _, data, flow, before, _ = request
        self.put(invite, now, data, flow, cancel)
        self.prefer(invite)
        return before is not None

    def prefer(self, key: str) -> None:
        """Let the newest request of the source of this one be next."""
        self._by_source.move_to_end(self.requests[key][4])
