"""Targets: the candidates that a request has left, and targets that failed lately, RFC 3263 §4.3.

| class | contents |
|---|---|
| GreyList | targets that failed lately, of all requests |
| Ways | the candidates of one request, and how it is written for each |

failover.py decides when a request goes on to the next target.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from ...message.message import Request
from ...message.uri import URI
from ...transport.base import Flow
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

    __slots__ = ("seconds", "until")

    def __init__(self, seconds: float = GREY_SECONDS) -> None:
        self.seconds = seconds
        self.until: OrderedDict[Target, float] = OrderedDict()
        """Until when each target is remembered. Do not change it."""

    def add(self, target: Target, now: float, seconds: float | None = None) -> None:
        """Remember that a target failed, for `seconds` if the target asked for that."""
        self.until.pop(target, None)
        self.until[target] = now + (
            self.seconds if seconds is None else min(seconds, MOST_GREY_SECONDS)
        )
        if len(self.until) > GREY_TARGETS:
            self.until.popitem(last=False)

    def discard(self, target: Target) -> None:
        """Forget a target, because it has answered."""
        self.until.pop(target, None)

    def holds(self, target: Target, now: float) -> bool:
        """True while a target is remembered as failing."""
        return self.until.get(target, 0.0) > now

    def sort(self, candidates: list[Candidate], now: float) -> None:
        """Move the candidates on the grey list to the end, in the order in which they failed. The
        others keep their order."""
        self.until = OrderedDict(
            (target, until) for target, until in self.until.items() if until > now
        )
        candidates.sort(key=lambda candidate: self.until.get(candidate[:3], 0.0))

    def __len__(self) -> int:
        return len(self.until)


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
        "keep", "key", "left", "listener", "mark", "next_hop", "record_route", "since", "taken",
        "written",
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
        self.next_hop: NextHop | None = None
        """The next hop that the application has given."""
        self.has_own_contact = has_own_contact
        self.written: Flow | None = None
        """The flow that the request was written for last."""
        self.branch = ""
        """The branch that it had for that flow."""
        self.key: str | None = None
        """The key of its transaction by that flow."""
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
        target after begin_anew(). A detour by TCP and the UDP datagram that replaces it count as
        one target, because §18.1.1 retries the same request there.
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
