"""Keep-alives as peers agree on them, RFC 6223: who is asked for them, who sends them, how often
and how long.

A `keep` in the Via of a request says that its sender would ping; a `keep=30` in the Via of the
response that it should, every 30 seconds (§4.3, §4.4). The peer is answered when the request is
received, by the engine: all its responses then say the same. We ask where `Stack(keep=True)`, for a
registration and for a call, and ping from the answer on, at moments drawn between 80 and 100 % of
that time (§5, RFC 5626 §4.4), also where a registrar says `Require: outbound` (§4.2.1 there): until
the registration ends, or the next one is answered without either, or until the call ends (§4.2). An
ACK asks for nothing (§4.3).

A target refresh within a dialog may ask, too (§4.2.3). We do not, and grant nothing to who does, as
§4.4 leaves to us: one that was granted keep-alives before must be ignored (§4.3), so whoever grants
them has to remember that for each dialog, and a proxy remembers none.

A refusal has the value, too, because all responses to a request have the same Via (§4.4). It grants
nothing, because keep-alives belong to the registration or dialog that the request would have made
(§4.2).
"""

from __future__ import annotations

import random
from typing import Any

from ...errors import ParseError, TransportError
from ...message.message import Request, Response
from ...transport.base import Flow
from .outbound import OUTBOUND

REGISTRATION, CALL = "REGISTER", "INVITE"

AT_LEAST = 1
"""Seconds between pings, at least, whatever a peer wants."""

AT_MOST = 86400
"""The same, at most: more digits are no number of seconds."""

ON_STREAMS, ON_DATAGRAMS = 120, 29
"""Seconds where the peer leaves it to us, keep=0: the longest of RFC 5626 §4.4.1 and §4.4.2."""

NEVER = float("inf")


class KeepAlives:
    """The flows of a stack that are kept alive, and for what: each owner is the Call-ID of a
    registration or call."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self._flows: dict[Flow, Kept] = {}
        self._owners: dict[str, Kept] = {}

    @staticmethod
    def asks(request: Request) -> bool:
        """True for a request of ours that asks the peer whether it wants keep-alives."""
        return request.method == REGISTRATION or (request.method == CALL and request.to.tag is None)

    def take(self, request: Request, response: Response, flow: Flow) -> None:
        """Take what a response to such a request says of it."""
        seconds = wanted_interval(response, flow)
        owner = request.headers["Call-ID"]
        now = self.stack.clock.now()
        if response.status >= 300:
            if request.method == CALL:
                self.drop(owner)  # a REGISTER is challenged, and goes again
        elif request.method == CALL:
            until = NEVER if response.is_success else now + self.stack.engine.timers.c
            known = self._owners.get(owner)
            if seconds is not None:
                self._add(owner, flow, seconds, until)
            elif known is not None:  # one of the responses need say it (§4.3)
                known.owners[owner] = (known.owners[owner][0], until)
        elif response.is_success and seconds is not None:
            self._add(owner, flow, seconds, now + lifetime(request, response))
        elif response.is_success:
            self.drop(owner)  # it was not agreed on again (§4.2.2)

    def _add(self, owner: str, flow: Flow, seconds: int, until: float) -> None:
        known = self._owners.get(owner)
        if known is not None and known.flow is not flow:
            self.drop(owner)
        kept = self._owners[owner] = self._flows.get(flow) or Kept(self, flow)
        self._flows[flow] = kept
        kept.owners[owner] = (seconds, until)
        kept.plan(self.stack.clock.now())

    def drop(self, owner: str) -> None:
        """End what a registration or call has wanted."""
        kept = self._owners.pop(owner, None)
        if kept is not None:
            del kept.owners[owner]
            if not kept.owners:
                self._flows.pop(kept.flow, None)

    def forget(self, kept: Kept) -> None:
        """End all that a flow is kept alive for."""
        for owner in [*kept.owners]:
            self.drop(owner)

    def stop(self) -> None:
        """End all of them."""
        self._flows.clear()
        self._owners.clear()

    def __len__(self) -> int:
        return len(self._flows)


class Kept:
    """One flow that is kept alive: for each owner how often, and until when."""

    __slots__ = ("_due", "_keepalives", "flow", "owners")

    def __init__(self, keepalives: KeepAlives, flow: Flow) -> None:
        self._keepalives = keepalives
        self.flow = flow
        self.owners: dict[str, tuple[int, float]] = {}
        self._due = NEVER

    def plan(self, now: float) -> None:
        """See to the next ping, as early as anybody wants it."""
        seconds = min(seconds for seconds, _ in self.owners.values())
        # together they would come as a flood (RFC 5626 §4.4)
        due = now + seconds * random.uniform(0.8, 1.0)
        if due < self._due:
            self._due = due
            self._keepalives.stack.deadlines.add(due, self)

    def expire(self, now: float) -> None:
        """Ping, and plan the next one, for as long as somebody wants it and the flow lives."""
        if now < self._due or self._keepalives._flows.get(self.flow) is not self:
            return
        self._due = NEVER
        for owner, (_, until) in [*self.owners.items()]:
            if until <= now:
                self._keepalives.drop(owner)
        if not self.owners:
            return
        try:
            if self.flow.is_alive():
                self.flow.probe()
                self.plan(now)
                return
        except TransportError:
            pass
        self._keepalives.forget(self)


def wanted_interval(response: Response, flow: Flow) -> int | None:
    """Return the seconds that the peer wants keep-alives in, None when it wants none.

    A registrar that keeps the flow wants them, too, as often as its Flow-Timer says (RFC 5626
    §4.2.1, §4.4).
    """
    try:
        value = response.headers.top_via.parameters.get("keep")
        is_bound = response.is_success and response.cseq.method == REGISTRATION
        if value is None and is_bound and any(tag.lower() == OUTBOUND for tag in response.require):
            value = str(response.flow_timer or 0)
    except ParseError:
        return None
    if not value or not (value.isascii() and value.isdigit()) or len(value) > 10:
        return None
    seconds = int(value) or (ON_STREAMS if flow.transport.reliable else ON_DATAGRAMS)
    return min(max(seconds, AT_LEAST), AT_MOST)


def lifetime(request: Request, response: Response) -> float:
    """Return how long the registration of a 2xx lasts: of several bindings the longest."""
    found = [0.0]
    try:
        for contact in response.contact:
            text = contact.parameters.get("expires") if not isinstance(contact, str) else None
            if text and text.isascii() and text.isdigit() and len(text) <= 10:
                found.append(float(text))
        if len(found) == 1 and response.contact:
            found.append(float(response.expires or request.expires or 0))
    except ParseError:
        pass
    return max(found)


def withdraw(request: Request) -> None:
    """Take back that a request's sender may ping: a proxy that leaves the dialog's route wants no
    keep-alives (§4.4)."""
    if "keep=" not in request.headers["Via"]:
        return
    try:
        via = request.headers.top_via
    except ParseError:
        return
    if via.parameters.get("keep"):
        request.headers.top_via = via.with_params(keep=None)
