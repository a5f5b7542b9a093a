"""Targets: what one request can still try, which targets failed lately, and TCP in place of UDP for
long requests.

RFC 3263 §4.3 and RFC 3261 §18.1.1. A request may have 1300 bytes on a path of unknown MTU, and the
MTU of a path is always unknown. The rule is a MUST whatever the URI's transport parameter says. It
is a rule about requests alone, because responses go back the way the request came.
"""

from __future__ import annotations

import errno
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from ...errors import SIPError
from ...message.message import Request
from ...message.uri import URI
from ...observe.counters import LimitedLog
from ...transport.base import Flow, Transport
from ...transport.egress import Wanted
from ...transport.locate.rfc3263 import Candidate

DETOUR_SECONDS = 2.0
"""How long a connection for a long request may take to stand: one lost SYN is repeated after a
second. UDP comes after it, and whoever waits for the answer, a timer F upstream say, has begun to
wait before us."""

REFUSED_SECONDS = 300.0
"""How long who has refused TCP is not asked again: a phone does not learn it, and one that drops
SYNs costs each try 2 s."""

DESTINATIONS = 1000
"""Destinations of which the log has been told, the oldest forgotten."""

log = logging.getLogger("sippet_gevent.core")

NextHop = URI | str | Flow
"""Where a request goes instead of its Route or Request-URI (RFC 3261 §16.6 step 7): a URI, or a
flow (RFC 5626 §5.3)."""

AllowTarget = Callable[[Candidate], bool]
"""Says whether something may be sent to a candidate, an address that DNS or a stranger's message
has named."""


class RouteWriter(Protocol):
    """Writes this element's Record-Route or Path into a request that it forwards."""

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Write for the first flow that the request leaves by."""

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Replace what was written for one flow by what another one needs."""


class Detours:
    """What is known of destinations that long requests go to. `octets` is the longest request that
    goes by UDP."""

    __slots__ = ("_lines", "_refused", "_told", "octets")

    def __init__(self, octets: int, lines: LimitedLog | None = None) -> None:
        self._lines = lines or LimitedLog()
        self.octets: float = octets or float("inf")
        self._refused = GreyList(REFUSED_SECONDS)
        self._told: dict[tuple[object, ...], None] = {}

    def lead_around(
        self, flow: Flow, size: int, transports: Iterable[Transport], now: float
    ) -> bool:
        """True when TCP is to be tried in place of a flow of datagrams; False where that is all
        there is. The log says why."""
        host, port = flow.remote
        if flow.transport.reliable:
            return False
        if not any(t.name == "TCP" and (":" in t.local[0]) == (":" in host) for t in transports):
            self._tell(
                flow, size, "there is no TCP transport of ours, so it goes by UDP all the same"
            )
        elif self._refused.holds(("TCP", host, port), now):
            self._tell(flow, size, "TCP was refused there, so it goes by UDP all the same")
        else:
            self._tell(flow, size, "it goes by TCP (RFC 3261 §18.1.1)")
            return True
        return False

    def refused(self, flow: Flow, now: float) -> None:
        """Remember that a detour has led nowhere: TCP is not spoken there."""
        self._refused.add(("TCP", *flow.remote), now)

    def _tell(self, flow: Flow, size: int, what: str) -> None:
        """Say it in the log, once for each destination."""
        key = (*flow.remote, what)
        if key not in self._told:
            if len(self._told) >= DESTINATIONS:
                del self._told[next(iter(self._told))]
            self._told[key] = None
            text = f"a request of %d octets to %r is too long for a datagram: {what}"
            self._lines.line(log, logging.INFO, "too long", text, size, flow)


def is_too_long(failure: object) -> bool:
    """True when the system would not take a datagram because of its length: the way's MTU is known,
    after all."""
    return (
        isinstance(failure, SIPError)
        and getattr(failure.__cause__, "errno", None) == errno.EMSGSIZE
    )


TRIES = 8
"""Candidates tried for one request, at most: who has waited for as many 503s, or timers B, is
gone."""

GREY_SECONDS = 60.0
"""How long a target that failed comes last: about two timers B. It is not left out, for all may be
grey."""

MOST_GREY_SECONDS = 300.0
"""The same for one that asks for more by its Retry-After (RFC 3261 §21.5.4): it must not be able to
end our use of it."""

GREY_TARGETS = 1000
"""Targets remembered, the oldest forgotten: there is one for each address that does not answer,
whoever names it."""

Target = tuple[str, str, int]


class GreyList:
    """Targets that failed lately. `seconds` is how long they come last; `len()` counts those that
    are remembered."""

    __slots__ = ("_until", "seconds")

    def __init__(self, seconds: float = GREY_SECONDS) -> None:
        self.seconds = seconds
        self._until: OrderedDict[Target, float] = OrderedDict()

    def add(self, target: Target, now: float, seconds: float | None = None) -> None:
        """Remember that a target, (transport, host, port), has failed."""
        self._until.pop(target, None)
        self._until[target] = now + (
            self.seconds if seconds is None else min(seconds, MOST_GREY_SECONDS)
        )
        if len(self._until) > GREY_TARGETS:
            self._until.popitem(last=False)

    def discard(self, target: Target) -> None:
        """Forget a target: it has answered."""
        self._until.pop(target, None)

    def holds(self, target: Target, now: float) -> bool:
        """True while a target is remembered as failing."""
        return self._until.get(target, 0.0) > now

    def sort(self, candidates: list[Candidate], now: float) -> None:
        """Put grey candidates last, the rest stays as it is; of the grey ones, who failed first is
        tried first."""
        self._until = OrderedDict(
            (target, until) for target, until in self._until.items() if until > now
        )
        candidates.sort(key=lambda candidate: self._until.get(candidate[:3], 0.0))

    def __len__(self) -> int:
        return len(self._until)


class Ways:
    """What is left of one request's candidates, and how the request is written for each.

    `mark` ends its branch; the Contact may be ours, and changes with the way. So does a proxy's
    Record-Route, with `record_route`. `listener` is what send() was told of how it is to leave.
    `since` is when the latest try began; `written` is the flow that the request was written for
    last, `branch` what it had in its Via then. `detour` is where it is tried over TCP because of
    its length, and `detoured` all such places so far: each has one such try. `taken` is the
    candidate under way; `found_open` its connection, with the octets that had come by it, where
    that stood already when the request was sent. With `keep` it asks for keep-alives.
    """

    __slots__ = (
        "_aimed", "branch", "detour", "detoured", "found_open", "has_own_contact", "is_renewed", "keep", "left",
        "listener", "mark", "record_route", "since", "taken", "written",
    )  # fmt: skip

    def __init__(
        self,
        left: list[Candidate],
        mark: str,
        *,
        has_own_contact: bool,
        now: float,
        listener: Wanted = None,
        record_route: RouteWriter | None = None,
    ) -> None:
        self.listener = listener
        self.record_route = record_route
        self.since = now
        self.left = left
        self.mark = mark
        self.has_own_contact = has_own_contact
        self.written: Flow | None = None
        self.is_renewed = False
        self.keep = False
        self.taken: Candidate | None = None
        self.found_open: tuple[Flow, int] | None = None
        self.detour: tuple[str, int] | None = None
        self.detoured: tuple[tuple[str, int], ...] = ()
        self.branch = ""
        self._aimed: tuple[str, tuple[str, int]] | None = None

    def aim(self, transport: str, remote: tuple[str, int]) -> bool:
        """Note where the request goes next; True when that is where it went before, so that its
        branch stays.

        A server that has read the request already takes the same branch for a retransmission (RFC
        3261 §17.2.3). Another target gets a new one (RFC 3263 §4.3), and so does the same after
        begin_anew(). A detour and the datagram that takes its place are one target: §18.1.1 has the
        request retried, and does not speak of a next one.
        """
        before, self._aimed = self._aimed, (transport, remote)
        return (
            before is not None
            and remote == before[1]
            and (transport == before[0] or remote in self.detoured)
        )

    def begin_anew(self) -> None:
        """Ask for a new branch at the next try, because the transaction has ended by a response or
        a timer."""
        self._aimed = None

    def insert_detour(self, remote: tuple[str, int], *, or_else: bool) -> None:
        """Try the candidate under way by TCP first, and then, `or_else`, as it is."""
        taken = self.taken
        if taken is not None:
            self.left[:0] = (
                (taken._replace(transport="TCP"), taken)
                if or_else
                else (taken._replace(transport="TCP"),)
            )
            self.detour = remote
            self.detoured += (remote,)

    def leave_detour(self) -> None:
        """Pass the place over: it was reached, and what it says over TCP it would say by UDP,
        too."""
        self.left = [
            way for way in self.left if (way.host.partition("%")[0], way.port) != self.detour
        ]

    def renew(self, flow: Flow) -> bool:
        """Try the same place once more, by a new connection, when the old one was dead before it
        could be used; never twice.

        It stood when the request was sent, and nothing has come by it since until it was found
        reset or closed: the peer had gone before, and had only not been heard of. A server that
        closes idle connections does so any time. If it has read the request nevertheless, the same
        branch tells it that this is a retransmission.
        """
        if (
            self.taken is None
            or self.is_renewed
            or not flow.is_lost
            or self.found_open != (flow, flow.octets)
        ):
            return False
        self.is_renewed = True
        self.left.insert(0, self.taken)
        return True
