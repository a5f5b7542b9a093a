"""Targets: the candidates of one request, and targets that failed lately, RFC 3263 §4.3 and RFC
3261 §18.1.1.

| class | contents |
|---|---|
| GreyList | targets that failed lately, of all requests |
| Detours | destinations of long requests, which go by TCP instead of UDP |
| Ways | the candidates of one request, and how it is written for each |

A UDP request may have 1300 bytes on a path of unknown MTU (§18.1.1), and the MTU of a path is
always unknown. The rule is a MUST, whatever the transport parameter of the URI says. It applies
only to requests, because responses return by the path of their request.
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
from ...transport.listener_choice import Wanted
from ...transport.locate.rfc3263 import Candidate

TRIES = 8
"""Most candidates tried for one request. After so many 503s or timers B the caller has given up."""

GREY_SECONDS = 60.0
"""Seconds during which a failed target is tried last, about two timers B. It is still tried,
because all targets may have failed."""

MOST_GREY_SECONDS = 300.0
"""Most seconds if the target asks for more by its Retry-After (RFC 3261 §21.5.4). A target must not
be able to take itself out of use."""

GREY_TARGETS = 1000
"""Most targets remembered. The oldest is forgotten first. Each silent address adds one, and
messages of strangers may name any number of them."""

DETOUR_SECONDS = 2.0
"""Seconds that the connection for a long request may take. A lost SYN is repeated after one second.
The time is short because UDP is tried afterwards, while a timer F upstream already runs."""

REFUSED_SECONDS = 300.0
"""How long to remember that a destination refused TCP. A phone without TCP will not have it soon,
and each try at a phone that drops SYNs costs 2 s."""

DESTINATIONS = 1000
"""Most destinations whose log line is remembered. The oldest is forgotten first."""

log = logging.getLogger("sippet_gevent.core")

NextHop = URI | str | Flow
"""Where a request goes instead of its Route or Request-URI (RFC 3261 §16.6 step 7): a URI, or a
flow (RFC 5626 §5.3)."""

AllowTarget = Callable[[Candidate], bool]
"""Decides if messages may be sent to a candidate, an address from DNS or from a stranger's
message."""

Target = tuple[str, str, int]
"""Transport, host and port."""


class RouteWriter(Protocol):
    """Writes this element's Record-Route or Path into a request that it forwards."""

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Write the values for the first flow of the request."""

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Replace the values for one flow by the values for another."""


class GreyList:
    """Targets that failed lately. `len()` counts them.

    Args:
        seconds: How long a target is remembered.
    """

    __slots__ = ("_until", "seconds")

    def __init__(self, seconds: float = GREY_SECONDS) -> None:
        self.seconds = seconds
        self._until: OrderedDict[Target, float] = OrderedDict()

    def add(self, target: Target, now: float, seconds: float | None = None) -> None:
        """Remember that a target failed, for `seconds` if the target asked for that."""
        self._until.pop(target, None)
        self._until[target] = now + (
            self.seconds if seconds is None else min(seconds, MOST_GREY_SECONDS)
        )
        if len(self._until) > GREY_TARGETS:
            self._until.popitem(last=False)

    def discard(self, target: Target) -> None:
        """Forget a target, because it has answered."""
        self._until.pop(target, None)

    def holds(self, target: Target, now: float) -> bool:
        """True while a target is remembered as failing."""
        return self._until.get(target, 0.0) > now

    def sort(self, candidates: list[Candidate], now: float) -> None:
        """Move the candidates on the grey list to the end, in the order in which they failed. The
        others keep their order."""
        self._until = OrderedDict(
            (target, until) for target, until in self._until.items() if until > now
        )
        candidates.sort(key=lambda candidate: self._until.get(candidate[:3], 0.0))

    def __len__(self) -> int:
        return len(self._until)


class Detours:
    """Decides which long requests go by TCP instead of UDP, and logs the decision.

    Args:
        size: Bytes of the longest request that goes by UDP; 0 for no limit.
        lines: Writes the log lines.
    """

    __slots__ = ("_lines", "_logged", "_refused", "size")

    def __init__(self, size: int, lines: LimitedLog | None = None) -> None:
        self._lines = lines or LimitedLog()
        self.size: float = size or float("inf")
        self._refused = GreyList(REFUSED_SECONDS)
        self._logged: dict[tuple[object, ...], None] = {}

    def lead_around(
        self, flow: Flow, size: int, transports: Iterable[Transport], now: float
    ) -> bool:
        """True when a request of `size` bytes is to be tried by TCP in place of this flow.

        False for a flow of a stream, where the stack has no TCP, and where TCP was refused.
        """
        host, port = flow.remote
        if flow.transport.reliable:
            return False
        if not any(t.name == "TCP" and (":" in t.local[0]) == (":" in host) for t in transports):
            self._log(flow, size, 'UDP reason="no TCP listener of this IP version"')
        elif self._refused.holds(("TCP", host, port), now):
            self._log(flow, size, 'UDP reason="TCP was refused there"')
        else:
            self._log(flow, size, 'TCP reason="RFC 3261 §18.1.1"')
            return True
        return False

    def refused(self, flow: Flow, now: float) -> None:
        """Remember that the peer of a flow does not accept TCP."""
        self._refused.add(("TCP", *flow.remote), now)

    def _log(self, flow: Flow, size: int, what: str) -> None:
        """Write a log line, once for each destination."""
        key = (*flow.remote, what)
        if key not in self._logged:
            if len(self._logged) >= DESTINATIONS:
                del self._logged[next(iter(self._logged))]
            self._logged[key] = None
            text = f"request too long for a datagram: bytes=%d flow=%r goes_by={what}"
            self._lines.line(log, logging.INFO, "too long", text, size, flow)


def is_too_long(failure: object) -> bool:
    """True when the kernel has refused a datagram for its length, because it knows the MTU of the
    path."""
    return (
        isinstance(failure, SIPError)
        and getattr(failure.__cause__, "errno", None) == errno.EMSGSIZE
    )


class Ways:
    """The candidates that one request has left, and how it is written for each.

    Args:
        left: The candidates, best first.
        mark: The end of each branch of this request.
        has_own_contact: True when the Contact is ours, so it changes with the next hop.
        now: The time at which the first try begins.
        listener: The listener by which the request leaves; see Stack.send().
        record_route: Writes a proxy's Record-Route, which also changes with the next hop.
    """

    __slots__ = (
        "_aimed", "branch", "detour", "detoured", "found_open", "has_own_contact", "is_renewed",
        "keep", "left", "listener", "mark", "record_route", "since", "taken", "written",
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
        """The time at which the latest try began."""
        self.left = left
        self.mark = mark
        self.has_own_contact = has_own_contact
        self.written: Flow | None = None
        """The flow that the request was written for last."""
        self.branch = ""
        """The branch that it had for that flow."""
        self.is_renewed = False
        """True once a dead connection was replaced by a new one to the same place."""
        self.keep = False
        """True when the request asks for keep-alives."""
        self.taken: Candidate | None = None
        """The candidate that is being tried."""
        self.found_open: tuple[Flow, int] | None = None
        """The connection of that candidate, if it was open before the request was sent, and the
        number of bytes received by it until then."""
        self.detour: tuple[str, int] | None = None
        """The place that is tried by TCP because of the request's length."""
        self.detoured: tuple[tuple[str, int], ...] = ()
        """All such places so far. Each has one such try."""
        self._aimed: tuple[str, tuple[str, int]] | None = None

    def aim(self, transport: str, remote: tuple[str, int]) -> bool:
        """Note where the request goes next. True when it went there before, so its branch stays.

        For a server that has read the request already, the same branch makes it a retransmission
        (RFC 3261 §17.2.3). Another target gets a new branch (RFC 3263 §4.3), and so does the same
        target after begin_anew(). A detour and the datagram that takes its place are one target:
        §18.1.1 retries the request at the same target.
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
        """Try the current candidate by TCP first. With `or_else`, try it unchanged afterwards."""
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
        """Drop the candidate of the detour. It was reached by TCP, and would answer the same by
        UDP."""
        self.left = [
            way for way in self.left if (way.host.partition("%")[0], way.port) != self.detour
        ]

    def renew(self, flow: Flow) -> bool:
        """Try the same candidate once more by a new connection, if the old one was already dead.

        The connection seemed open when the request was sent, and no byte arrived by it before it
        was found reset or closed. So the peer had closed it earlier, as servers do with idle
        connections. If the server has read the request anyway, the same branch makes it a
        retransmission.

        Returns:
            False when that does not apply, or when it was done before.
        """
        if (
            self.taken is None
            or self.is_renewed
            or not flow.is_lost
            or self.found_open != (flow, flow.bytes_received)
        ):
            return False
        self.is_renewed = True
        self.left.insert(0, self.taken)
        return True
