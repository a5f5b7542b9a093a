"""Returns: the way of a response whose flow is gone, RFC 3261 §18.2.2 and RFC 3263 §5.

| the request came by | first | then the sent-by, by DNS where it is a name |
|---|---|---|
| a stream, which has ended | where it came from, by a new connection to the sent-by's port | yes |
| datagrams, which cannot be sent | maddr in place of the sent-by, where there is one | yes |
| a WebSocket | nothing: nobody can be connected to (RFC 7118 §5) | no |

Over TLS whoever is connected to must prove to be the sent-by. A connection that does not come to
stand is told apart from one that does, so this waits, in a greenlet of its own: whoever sends a
response, the hub too, goes on at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from gevent import Greenlet, getcurrent
from gevent.pool import Group

from ...engine.users import ServerRecord
from ...errors import ParseError, TransportError
from ...message.iana import DEFAULT_PORT, DEFAULT_PORTS
from ...message.parser import parse
from ...message.via import Via
from ...runtime.rates import source_of
from ...transport.base import Flow, Transport
from ...transport.locate.rfc3263 import Candidate, literal
from ..element import Element

RETURNS = 1000
"""Responses that look for their way back at one time, by transaction; more are given up. Each holds
a greenlet."""

RETURNS_OF_SOURCE = 250
"""The same of one source, the oldest given up for a new one: a quarter, so that who makes and
breaks connections all the time leaves room for others, and a proxy that starts anew has most of
what it waits for."""

RESPONSES = 8
"""Responses of one transaction that wait for the way meanwhile: provisional ones, and a final one.
More are lost."""

RESPONSES_BYTES = 128 * 1024
"""Bytes that they have together, at most: two of the longest messages. The peer chooses how long
its Via and Record-Route are, which each response repeats, and RETURNS of RESPONSES of 64 KB would
be 512 MB."""

TRIES = 4
"""Addresses tried by name, at most: a sent-by is a stranger's word, and each is a connection
somewhere."""

NOBODY_LISTENS = frozenset(("WS", "WSS"))
"""Transports whose clients cannot be connected to."""

log = logging.getLogger("sippet_gevent.core")


class Returns:
    """Responses that look for another way back. Each way that leads nowhere is a send error."""

    def __init__(self, stack: Element) -> None:
        self.stack = stack
        self._waiting: dict[ServerRecord, list[bytes]] = {}
        self._searches: dict[str, dict[ServerRecord, Greenlet]] = {}
        self._greenlets = Group()

    def send(self, tx: ServerRecord, response: bytes) -> bool:
        """Take a response that could not be sent by its transaction's flow; False when there is no
        other way to try."""
        waiting = self._waiting.get(tx)
        if waiting is not None:
            has_room = (
                len(waiting) < RESPONSES
                and sum(map(len, waiting)) + len(response) <= RESPONSES_BYTES
            )
            if has_room and response not in waiting:  # a 2xx is repeated until its ACK comes
                waiting.append(response)
            return True
        flow = tx.flow
        source = source_of(flow.remote[0])
        mine = self._searches.get(source, {})
        if (
            len(self._waiting) >= RETURNS and len(mine) < RETURNS_OF_SOURCE
        ) or flow.transport.name in NOBODY_LISTENS:
            return False
        try:
            via = parse(response).headers.top_via
        except ParseError:
            return False
        if not self._leads_anywhere(flow, via):
            return False
        oldest = next(iter(mine)) if len(mine) >= RETURNS_OF_SOURCE else None
        if oldest is not None:
            mine[oldest].kill(block=False)
            self._forget(oldest)
        self._waiting[tx] = [response]
        self._searches.setdefault(source, {})[tx] = self._greenlets.spawn(self._find, tx, flow, via)
        if oldest is not None:
            self.stack.engine.counters.send_errors += 1
            error = TransportError(
                f"{RETURNS_OF_SOURCE} later responses to {source} look for a way", oldest.flow
            )
            self.stack.engine.undelivered(oldest, error)
        return True

    def _forget(self, tx: ServerRecord) -> list[bytes] | None:
        """Take a transaction off those that wait; return its responses, None when it was forgotten
        before."""
        source = source_of(tx.flow.remote[0])
        mine = self._searches.get(source, {})
        mine.pop(tx, None)
        if not mine:
            self._searches.pop(source, None)
        return self._waiting.pop(tx, None)

    def _find(self, tx: ServerRecord, gone: Flow, via: Via) -> None:
        """Try one way after the other; what has waited goes by the first that stands, and what is
        to come, too."""
        try:
            fresh = self._first_open(tx, gone, via)
            waiting = self._forget(tx)
            if waiting is None:  # the stack has stopped meanwhile
                return
            if fresh is None:
                self.stack.engine.undelivered(
                    tx, TransportError(f"no way back to {via.sent_by}, and {gone!r} is gone", gone)
                )
                return
            engine = self.stack.engine
            engine.counters.info(
                "another way",
                engine.clock.now(),
                "the response for %r goes to %r",
                gone,
                fresh,
                log=log,
            )
            self.stack.engine.move(tx, fresh)
            for response in waiting[1:]:
                self.stack.engine.send(fresh, response, tx.key)
        except TransportError as error:  # it has ended again
            self.stack.engine.undelivered(tx, error)
        finally:
            if self._searches.get(source_of(gone.remote[0]), {}).get(tx) is getcurrent():
                self._forget(tx)

    def _first_open(self, tx: ServerRecord, gone: Flow, via: Via) -> Flow | None:
        """Send the first of what waits by the first way that stands; return that."""
        stack = self.stack
        end = stack.clock.now() + 64 * tx.timers.t1  # nobody waits for it any longer
        for transport, host, port in self._ways(gone, via):
            if stack.clock.now() >= end or not stack.is_running:
                break
            try:
                name = {"name": via.host} if transport.secure or transport.named else {}
                fresh: Flow = transport.connect((host, port), **name)
                stack.engine.send(fresh, self._waiting[tx][0], tx.key)
            except TransportError as error:
                problem: object = error
            else:
                if fresh.wait_open():
                    return fresh
                problem = f"{fresh!r} has ended"
            stack.engine.counters.send_errors += 1
            log.debug("a response for %r does not go to %s:%d: %s", gone, host, port, problem)
        return None

    def _leads_anywhere(self, gone: Flow, via: Via) -> bool:
        """False when there is nothing to try but what has failed just now."""
        return (
            gone.transactions is not None
            or via.maddr is not None
            or self._numeric(via) != gone.remote
        )

    def _ways(self, gone: Flow, via: Via) -> Iterator[tuple[Transport, str, int]]:
        transport = gone.transport
        port = via.port or DEFAULT_PORTS.get(transport.name, DEFAULT_PORT)
        tried = [] if gone.transactions is not None else [gone.remote]
        if gone.transactions is not None:
            tried.append((gone.remote[0], port))
            if self._allowed([Candidate(transport.name, gone.host, port, via.host)]):
                yield transport, gone.host, port
        elif via.maddr is not None:
            via = via._replace(host=via.maddr)
        try:
            candidates = self.stack.resolver.resolve_response(
                via._replace(transport=transport.name)
            )
        except TransportError as error:
            self.stack.engine.counters.send_errors += 1
            log.debug("no way back to %s: %s", via.sent_by, error)
            return
        for candidate in self._allowed(candidates)[:TRIES]:
            address = candidate.host, candidate.port
            if address not in tried:
                yield self._transport(transport, candidate.host), *address

    def _allowed(self, candidates: list[Candidate]) -> list[Candidate]:
        try:
            return self.stack.sender.allowed(candidates)
        except TransportError as error:
            log.debug("a response goes nowhere: %s", error)
        except Exception as error:  # it is the user's, and whoever waits for the response hears of its end all the same
            text, now = "allow_target failed, and a response goes nowhere", self.stack.clock.now()
            self.stack.engine.counters.error("allow_target", now, text, exc_info=error, log=log)
        self.stack.engine.counters.send_errors += 1
        return []

    def _transport(self, like: Transport, host: str) -> Transport:
        """Return the transport of the same kind that leads to a host: of its IP version."""
        for transport in (like, *self.stack.engine.transports):
            if transport.name == like.name and (":" in transport.local[0]) == (":" in host):
                return transport
        return like

    @staticmethod
    def _numeric(via: Via) -> tuple[str, int] | None:
        host = literal(via.host)
        return (
            None
            if host is None
            else (host, via.port or DEFAULT_PORTS.get(via.transport, DEFAULT_PORT))
        )

    def stop(self) -> None:
        """Give up all of them."""
        self._greenlets.kill(block=False)
        self._waiting.clear()
        self._searches.clear()

    def __len__(self) -> int:
        return len(self._waiting)
