"""StunAgent: answers Binding requests on SIP's UDP port, and sends our own as keep-alives, RFC 5626
§8 and §4.4.2."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Protocol

from ...errors import TransportError
from ...observe.counters import LimitedLog
from ...runtime.rates import TokenBuckets, source_of
from ..base import Address
from . import stun
from .send_queue import SendQueue

PENDING = 4096
"""Most Binding requests that wait for their answer, one for each flow that we keep alive. The
oldest is forgotten first."""

UNANSWERED = 2
"""Binding requests without an answer, one after the other, after which a flow has failed. RFC 5626
§4.4.2 repeats one request for 40 seconds. Ours are up to 29 seconds apart, so that is as long."""

RATE, BURST, SOURCES = 500.0, 1000.0, 10_000
"""Answers per second to one source, the most at once, and the sources remembered.

Ten thousand phones behind one NAT ask every 20 seconds each (RFC 5626 §4.4.2). A victim whose
address is forged in requests gets no more than this, a quarter of a megabit per second."""

log = logging.getLogger("sippet_gevent.transport")


class KeptFlow(Protocol):
    """The parts of a flow that the agent needs."""

    remote: Address
    asked: bytes | None
    """The transaction of the last Binding request that we sent by it."""
    mapped: Address | None
    """Our address as the peer last saw it."""
    unanswered: int
    """Binding requests without an answer since the last answer."""
    keepalives_answered: int
    """Binding requests with an answer."""

    def send(self, data: bytes) -> None:
        """Send one datagram. Raises TransportError."""


class StunAgent:
    """Takes the STUN messages that arrive on a UDP socket for SIP.

    Args:
        queue: Sends the answers.
        failed: `failed(flow, reason)` is told of a flow that has failed (RFC 5626 §4.4.2). It may
            be called within send().
    """

    def __init__(self, queue: SendQueue, failed: Callable[[KeptFlow, str], None]) -> None:
        self._queue = queue
        self._failed = failed
        self.lines = LimitedLog()
        self.pending: dict[bytes, KeptFlow] = {}
        """Flows whose peer has not answered a Binding request yet, by its transaction."""
        self.rates = TokenBuckets(RATE, BURST, SOURCES)
        self.counts: dict[str, int] = {}
        """Counters of STUN messages by outcome.

        Requests of peers: `answered`; `refused` with a 420; `dropped`; `rate_limited`. Our own
        keep-alives: `keepalive_answered`; `keepalive_refused` by an error response, or by an answer
        that has to be discarded; `keepalive_unanswered`; `address_changed` when the answer shows
        that a NAT has given us another address."""

    def take(self, data: bytes, flow: KeptFlow) -> bool:
        """Answer a datagram at once if it is a Binding request (RFC 5626 §8).

        Answers are dropped while messages wait to be sent, and when the source is over its rate,
        because clients repeat their requests (RFC 5389 §7.2.1).

        Returns:
            True for STUN of any kind.
        """
        if data[4:8] != stun.COOKIE:
            return False
        reply = stun.answer(data, *flow.remote)
        fate = self._take_answer(data, flow) if reply is None else "dropped"
        if reply is not None and not self.rates.take(source_of(flow.remote[0]), time.monotonic()):
            fate = "rate_limited"
        elif reply is not None and not self._queue.must_wait:
            try:
                flow.send(reply)
                fate = "refused" if stun.is_error(reply) else "answered"
            except TransportError:
                pass
        self._count(fate)
        return True

    def probe(self, flow: KeptFlow) -> None:
        """Send a Binding request by a flow; the one before it counts as unanswered if it is
        pending. Raises TransportError."""
        if self.pending.pop(flow.asked or b"", None) is not None:
            self._count("keepalive_unanswered")
            self.lines.line(log, logging.INFO, "keep-alive", "keep-alive unanswered: flow=%s", flow)
            flow.unanswered += 1
            if flow.unanswered == UNANSWERED:
                self._failed(flow, "the peer does not answer keep-alives")
        if len(self.pending) >= PENDING:
            del self.pending[next(iter(self.pending))]
        flow.asked = os.urandom(12)
        self.pending[flow.asked] = flow
        flow.send(stun.ask(flow.asked))

    def unreachable(self, quote: bytes, flow: KeptFlow) -> str:
        """Take the report that a datagram with the STUN cookie did not reach a peer. Our Binding
        request then fails (RFC 5389 §7.2.1).

        Returns:
            `matched`, or `unmatched` if no request of ours to this peer is pending.
        """
        asked = self.pending.get(quote[8:20])
        if asked is None or asked.remote != flow.remote:
            return "unmatched"
        del self.pending[quote[8:20]]
        self._count("keepalive_unanswered")
        self.lines.line(log, logging.INFO, "keep-alive", "keep-alive undelivered: flow=%s", asked)
        self._failed(asked, "a keep-alive cannot be delivered")
        return "matched"

    def _take_answer(self, data: bytes, flow: KeptFlow) -> str:
        """Take the answer to a Binding request of ours, from the address that the request was sent
        to (RFC 5389 §7.3.3); return its counter.

        An error response of any code, an answer that has to be discarded, and a changed address
        fail the flow (RFC 5626 §4.4.2). Only the peer, and elements on the way to it, can know the
        transaction.
        """
        found = stun.read_answer(data)
        asked = None if found is None else self.pending.get(found[0])
        if found is None or asked is None or asked.remote != flow.remote:
            return "dropped"
        del self.pending[found[0]]
        asked.unanswered = 0
        if found[1] is None:
            self.lines.line(log, logging.INFO, "keep-alive", "keep-alive refused: flow=%s", asked)
            self._failed(asked, "the answer to a keep-alive is an error, or not understood")
            return "keepalive_refused"
        asked.keepalives_answered += 1
        before, asked.mapped = asked.mapped, found[1]
        if before not in (None, asked.mapped):
            text = 'address changed: flow=%s reason="the peer sees us at another address now"'
            self.lines.line(log, logging.WARNING, "address changed", text, asked)
            self._failed(asked, "the peer sees us at another address")
            return "address_changed"
        return "keepalive_answered"

    def _count(self, fate: str) -> None:
        self.counts[fate] = self.counts.get(fate, 0) + 1
