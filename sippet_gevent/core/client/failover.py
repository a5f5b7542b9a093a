"""Failover: sends a request to another next hop after a try has failed, RFC 3263 §4.3.

| policy | after | the next try has |
|---|---|---|
| fail_over() | 503, no way to the target, timer B or F | another next hop |

A ClientTransaction asks the policies at one place, `ClientTransaction._retry()`. Each try is a new
transaction in the same ClientTransaction.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ...engine.users import ClientRecord
from ...errors import ParseError, TransactionTimeout, TransportError
from ...message.message import Request, Response
from ...transport.base import Flow
from ..element import RequestSender
from .long_requests import is_too_long
from .targets import Target, Ways


class Attempt(NamedTuple):
    """The next try of a request: the request, where it goes, and its bytes."""

    request: Request
    flow: Flow
    data: bytes


class Tried(Protocol):
    """A request with a failed try, as the policies see it. A ClientTransaction is one."""

    @property
    def request(self) -> Request:
        """The request, as it left."""

    @property
    def transaction(self) -> ClientRecord:
        """The transaction of the latest try."""

    @property
    def provisional(self) -> Response | None:
        """The last provisional response of this try."""

    @property
    def ways(self) -> Ways | None:
        """The next hops left to try. None for a request that goes by one flow."""

    def _may_go_on(self, failure: Response | Exception) -> bool:
        """True when another target may be asked."""


def fail_over(
    sender: RequestSender, tried: Tried, failure: Response | Exception, now: float
) -> Attempt | None:
    """Remember that a target failed. Return the try of the next target, or None if there is none.

    Only branch, Via and Contact of the request change.
    """
    ways = tried.ways
    if ways is None or not isinstance(failure, (Response, TransportError, TransactionTimeout)):
        return None
    _blame(sender, tried, ways, failure, now)
    if not tried._may_go_on(failure):
        return None
    if not isinstance(failure, TransportError):
        ways.begin_anew()
    following = sender.send_next(tried.request, ways)
    return None if following is None else Attempt(*following)


def target_of(ways: Ways | None, flow: Flow) -> Target:
    """Return where a request went, as a key of the grey list."""
    if ways is not None and ways.taken is not None:
        return ways.taken[:3]
    return flow.transport.name, flow.remote[0], flow.remote[1]


def _blame(
    sender: RequestSender, tried: Tried, ways: Ways, failure: Response | Exception, now: float
) -> None:
    """Remember that the target failed, or the TCP detour that a long request took (§18.1.1)."""
    flow, is_unheard = tried.transaction.flow, tried.provisional is None
    target = target_of(ways, flow)
    if ways.detour == flow.remote and flow.transport.reliable:
        # refused, reset, or no connection in time: the datagram comes next
        if isinstance(failure, TransportError):
            if is_unheard and not ways.renew(flow):
                sender.detours.refused(flow, now)
            return
        target = ("UDP", *flow.remote)
        ways.leave_detour()
    elif is_too_long(failure) and flow.remote not in ways.detoured:
        size = len(tried.transaction.last or b"")
        if sender.detours.lead_around(flow, size, sender.listener_choice.open(ways.listener), now):
            ways.insert_detour(flow.remote, or_else=False)
            return
    elif isinstance(failure, TransportError) and is_unheard and ways.renew(flow):
        return
    if is_unheard or isinstance(failure, Response):
        sender.grey.add(target, now, _patience_of(failure))


def _patience_of(failure: Response | Exception) -> float | None:
    """Return the seconds in the Retry-After of a 503 (RFC 3261 §21.5.4), or None."""
    try:
        wanted = failure.retry_after if isinstance(failure, Response) else None
    except ParseError:
        return None
    return None if wanted is None else float(wanted.seconds)
