"""Keep-alives that peers negotiate, RFC 6223, and those of SIP Outbound, RFC 5626 §4.4.

Negotiation: `keep` in the Via of a request says that its sender is willing to ping. `keep=30` in
the Via of the response says that it should ping every 30 seconds (§4.3, §4.4). The engine answers a
peer's offer when it receives the request, so all responses to it have the same value.

Sending: with `Stack(keep=True)` our REGISTER and INVITE requests make the offer. We ping as soon as
the answer grants it, or a registrar says `Require: outbound` (RFC 5626 §4.2.1). Each interval is
drawn between 80 and 100 % of the negotiated time (§5, RFC 5626 §4.4). We ping until the
registration or call ends, or until a later registration is answered without the grant (§4.2). An
ACK makes no offer (§4.3).

Target refresh: the request may make the offer, too (§4.2.3). Our target refreshes make none, and we
grant none to the peer's, as §4.4 allows. A repeated offer must be ignored (§4.3). So an element
that grants keep-alives has to remember that for each dialog, and a proxy has no dialogs.

Refusals: a response that refuses the request has the value, too, because all responses have the
same Via (§4.4). The value grants nothing then, because keep-alives belong to the registration or
dialog that the request would have created (§4.2).
"""

from __future__ import annotations

import random

from ...errors import ParseError, TransportError
from ...message.message import Request, Response
from ...transport.base import Flow
from ..element import Element
from .outbound import OUTBOUND

REGISTRATION, CALL = "REGISTER", "INVITE"

AT_LEAST = 1
"""Least seconds between pings, whatever a peer asks for."""

AT_MOST = 86400
"""Most seconds between pings, whatever a peer asks for."""

ON_STREAMS, ON_DATAGRAMS = 120, 29
"""Seconds between pings when the peer lets us choose with keep=0. They are the longest of RFC 5626
§4.4.1 and §4.4.2."""

NEVER = float("inf")


class KeepAlives:
    """The flows of a stack that are kept alive. Each has owners: Call-IDs of registrations and
    calls."""

    def __init__(self, stack: Element) -> None:
        self.stack = stack
        self._flows: dict[Flow, Kept] = {}
        self._owners: dict[str, Kept] = {}

    @staticmethod
    def offers(request: Request) -> bool:
        """True for a request of ours that offers keep-alives."""
        return request.method == REGISTRATION or (request.method == CALL and request.to.tag is None)

    def take(self, request: Request, response: Response, flow: Flow) -> None:
        """Start, continue or end keep-alives, as a response grants them or not.

        Args:
            request: The request, for which offers() is true.
            response: Its response, provisional or final.
            flow: The flow of the request.
        """
        seconds = wanted_interval(response, flow)
        owner = request.headers["Call-ID"]
        now = self.stack.clock.now()
        if response.status >= 300:
            if request.method == CALL:
                self.drop(owner)  # a challenged REGISTER is sent again
        elif request.method == CALL:
            until = NEVER if response.is_success else now + self.stack.engine.timers.c
            known = self._owners.get(owner)
            if seconds is not None:
                self._add(owner, flow, seconds, until)
            elif known is not None:  # one of the responses is enough (§4.3)
                known.owners[owner] = (known.owners[owner][0], until)
        elif response.is_success and seconds is not None:
            self._add(owner, flow, seconds, now + lifetime(request, response))
        elif response.is_success:
            self.drop(owner)  # not granted again (§4.2.2)

    def _add(self, owner: str, flow: Flow, seconds: int, until: float) -> None:
        known = self._owners.get(owner)
        if known is not None and known.flow is not flow:
            self.drop(owner)
        kept = self._owners[owner] = self._flows.get(flow) or Kept(self, flow)
        self._flows[flow] = kept
        kept.owners[owner] = (seconds, until)
        kept.plan(self.stack.clock.now())

    def drop(self, owner: str) -> None:
        """End the keep-alives of a registration or call."""
        kept = self._owners.pop(owner, None)
        if kept is not None:
            del kept.owners[owner]
            if not kept.owners:
                self._flows.pop(kept.flow, None)

    def forget(self, kept: Kept) -> None:
        """End the keep-alives of a flow, for all its owners."""
        for owner in [*kept.owners]:
            self.drop(owner)

    def stop(self) -> None:
        """End all keep-alives."""
        self._flows.clear()
        self._owners.clear()

    def __contains__(self, owner: object) -> bool:
        return owner in self._owners

    def __len__(self) -> int:
        return len(self._flows)


class Kept:
    """One flow that is kept alive: for each owner the seconds between pings, and the end."""

    __slots__ = ("_due", "_keepalives", "flow", "owners")

    def __init__(self, keepalives: KeepAlives, flow: Flow) -> None:
        self._keepalives = keepalives
        self.flow = flow
        self.owners: dict[str, tuple[int, float]] = {}
        self._due = NEVER

    def plan(self, now: float) -> None:
        """Schedule the next ping, by the shortest interval of all owners."""
        seconds = min(seconds for seconds, _ in self.owners.values())
        # random, because pings of many clients at the same time would be a flood (RFC 5626 §4.4)
        due = now + seconds * random.uniform(0.8, 1.0)
        if due < self._due:
            self._due = due
            self._keepalives.stack.deadlines.add(due, self)

    def expire(self, now: float) -> None:
        """Ping and schedule the next ping, until no owner is left or the flow has ended."""
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
    """Return the seconds between the keep-alives that the peer asks for. None if it asks for none.

    A registrar that answers with `Require: outbound` wants them as well, with the interval of its
    Flow-Timer (RFC 5626 §4.2.1, §4.4).
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
    """Return the seconds that the registration of a 2xx lasts: the longest of its bindings."""
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
    """Remove the answer to an offer of keep-alives from a request's Via (§4.4).

    A proxy that is not on the route of the dialog needs no keep-alives for it.
    """
    there = request.headers.fields["Via"]
    if "keep=" not in (there if type(there) is str else there[0]):
        return
    try:
        via = request.headers.top_via
    except ParseError:
        return
    if via.parameters.get("keep"):
        request.headers.top_via = via.with_params(keep=None)
