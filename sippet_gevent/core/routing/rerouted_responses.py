"""ReroutedResponses: sends responses to another address when their flow has ended, RFC 3261
§18.2.2, RFC 3263 §5.

| the request came by | first | then by the sent-by of its Via (RFC 3263 §5) |
|---|---|---|
| a connection that has ended | its source address, at the port of the sent-by | yes |
| datagrams that cannot be sent | the maddr of the Via instead of the sent-by, if any | yes |
| a WebSocket | nothing, because browsers accept no connection (RFC 7118 §5) | no |

Over TLS the peer of a new connection must have a certificate for the sent-by.

A new connection may fail, so the search for an address has to wait. It waits in a greenlet of its
own. The sender of the response, which may be the hub, continues at once.
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
from ...observe.log_values import Plain, Quoted
from ...runtime.rates import source_of
from ...transport.base import Flow, Transport
from ...transport.locate.rfc3263 import Candidate, literal
from ..element import Element
from .outbound import WEB

SEARCHES = 1000
"""Most transactions whose responses are rerouted at the same time. Further ones are given up. Each
holds a greenlet."""

SEARCHES_OF_SOURCE = 250
"""Most of these transactions for one source. The oldest is given up for a new one. A quarter
leaves room for others when one source opens and closes connections all the time. It also suffices
for most of the responses that a restarted proxy waits for."""

RESPONSES = 8
"""Most responses of one transaction that wait, provisional ones and a final one. Further ones are
lost."""

RESPONSES_BYTES = 128 * 1024
"""Most bytes of these responses, enough for two of the longest messages. Each response repeats Via
and Record-Route, whose length the peer chooses, and SEARCHES times RESPONSES of 64 KB would be 512
MB."""

TRIES = 4
"""Most addresses of a sent-by that are tried. Any peer can write a sent-by, and each try opens a
connection to a stranger."""

log = logging.getLogger("sippet_gevent.core")


class ReroutedResponses:
    """Responses that are sent to another address than their flow. Each address that fails counts as
    a send error."""

    def __init__(self, stack: Element) -> None:
        self.stack = stack
        self._waiting: dict[ServerRecord, list[bytes]] = {}
        self._searches: dict[str, dict[ServerRecord, Greenlet]] = {}
        self._greenlets = Group()

    def send(self, tx: ServerRecord, response: bytes) -> bool:
        """Reroute a response that its transaction's flow could not send. Never waits.

        Args:
            tx: The server transaction.
            response: The whole response.

        Returns:
            False when there is no other address to try, or no room for a further search.
        """
        waiting = self._waiting.get(tx)
        if waiting is not None:
            has_room = (
                len(waiting) < RESPONSES
                and sum(map(len, waiting)) + len(response) <= RESPONSES_BYTES
            )
            if has_room and response not in waiting:  # a 2xx is repeated until its ACK arrives
                waiting.append(response)
            return True
        flow = tx.flow
        source = source_of(flow.remote[0])
        mine = self._searches.get(source, {})
        if (
            len(self._waiting) >= SEARCHES and len(mine) < SEARCHES_OF_SOURCE
        ) or flow.transport.name in WEB:
            return False
        try:
            via = parse(response).headers.top_via
        except ParseError:
            return False
        if not self._leads_anywhere(flow, via):
            return False
        oldest = next(iter(mine)) if len(mine) >= SEARCHES_OF_SOURCE else None
        if oldest is not None:
            mine[oldest].kill(block=False)
            self._forget(oldest)
        self._waiting[tx] = [response]
        self._searches.setdefault(source, {})[tx] = self._greenlets.spawn(self._find, tx, flow, via)
        if oldest is not None:
            self.stack.engine.counters.send_errors += 1
            error = TransportError(
                f"given up for {SEARCHES_OF_SOURCE} later responses to {source}", oldest.flow
            )
            self.stack.engine.undelivered(oldest, error)
        return True

    def _forget(self, tx: ServerRecord) -> list[bytes] | None:
        """Remove a transaction from the search, and return its waiting responses. None when it was
        removed before."""
        source = source_of(tx.flow.remote[0])
        mine = self._searches.get(source, {})
        mine.pop(tx, None)
        if not mine:
            self._searches.pop(source, None)
        return self._waiting.pop(tx, None)

    def _find(self, tx: ServerRecord, gone: Flow, via: Via) -> None:
        """Try one address after another. The waiting responses, and all later ones, go by the first
        connection that opens."""
        try:
            fresh = self._first_open(tx, gone, via)
            waiting = self._forget(tx)
            if waiting is None:  # the stack has stopped meanwhile
                return
            if fresh is None:
                self.stack.engine.undelivered(
                    tx,
                    TransportError(
                        f"no way back to {via.sent_by}, because {gone!r} has ended", gone
                    ),
                )
                return
            engine = self.stack.engine
            engine.counters.info(
                "response rerouted",
                engine.clock.now(),
                "response rerouted: transaction=%s flow=%s by=%s",
                Plain(tx.key),
                gone,
                fresh,
                log=log,
            )
            self.stack.engine.move(tx, fresh)
            for response in waiting[1:]:
                self.stack.engine.send(fresh, response, tx.key)
        except TransportError as error:  # the new flow has ended, too
            self.stack.engine.undelivered(tx, error)
        finally:
            if self._searches.get(source_of(gone.remote[0]), {}).get(tx) is getcurrent():
                self._forget(tx)

    def _first_open(self, tx: ServerRecord, gone: Flow, via: Via) -> Flow | None:
        """Send the first waiting response to each address until a connection opens. Return its
        flow."""
        stack = self.stack
        end = stack.clock.now() + 64 * tx.timers.t1  # after that the client has given up
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
            text = 'response not sent: flow=%s target=%s:%d reason="%s"'
            log.debug(text, Plain(gone), Plain(host), port, Quoted(problem))
        return None

    def _leads_anywhere(self, gone: Flow, via: Via) -> bool:
        """False when the only address is the one that has just failed."""
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
            text = 'sent-by not resolved: sent_by=%s reason="%s"'
            log.debug(text, Plain(via.sent_by), Quoted(error))
            return
        for candidate in self._allowed(candidates)[:TRIES]:
            address = candidate.host, candidate.port
            if address not in tried:
                yield self._transport(transport, candidate.host), *address

    def _allowed(self, candidates: list[Candidate]) -> list[Candidate]:
        try:
            return self.stack.sender.allowed(candidates)
        except TransportError as error:
            log.debug('response not sent: reason="%s"', Quoted(error))
        except Exception as error:  # allow_target belongs to the application
            text = 'allow_target failed: reason="it raised, so the response is not sent"'
            now = self.stack.clock.now()
            self.stack.engine.counters.error("allow_target", now, text, exc_info=error, log=log)
        self.stack.engine.counters.send_errors += 1
        return []

    def _transport(self, like: Transport, host: str) -> Transport:
        """Return the listener of the same transport for the IP version of a host."""
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
        """Give up all searches."""
        self._greenlets.kill(block=False)
        self._waiting.clear()
        self._searches.clear()

    def __len__(self) -> int:
        return len(self._waiting)
