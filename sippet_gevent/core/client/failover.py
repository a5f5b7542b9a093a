"""Failover: sends a request to another next hop after a try has failed, RFC 3263 §4.3."""

from __future__ import annotations

from ...errors import ParseError, TransactionTimeout, TransportError
from ...message.message import Response
from ...transport.base import Flow
from ..element import RequestSender, Tried
from .attempt import Attempt, Policy
from .long_requests import is_too_long
from .targets import Target, Ways


class FailOver(Policy):
    """After a 503, or when there is no way to the target or no response from it, tries the next
    target.

    It also remembers which targets have failed. Only branch, Via and Contact of the request change,
    and its CSeq stays, because the failed target did not serve it.
    """

    statuses = frozenset((503,))

    def __call__(self, attempt: Attempt) -> Attempt | None:
        tried, failure = attempt.tried, attempt.failure
        ways = tried.ways
        if ways is None or not (
            attempt.status in self.statuses
            or isinstance(failure, (TransportError, TransactionTimeout))
        ):
            return None
        assert failure is not None  # it has one of these
        sender = tried.stack.sender
        _blame(sender, tried, ways, failure, tried.stack.clock.now())
        if not tried._may_go_on(failure):
            return None
        if not isinstance(failure, TransportError):
            ways.begin_anew()
        departure = sender.send_next(tried.request, ways)
        if departure is None:
            return None
        request, flow, data = departure
        following = Attempt(tried, request, None, attempt.number)
        following.departure = flow, data
        return following


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
        patience = _patience_of(failure)
        sender.grey.add(target, now, patience)
        if not isinstance(failure, Response):
            sender.overloaded.failed(target, now)
        if patience is not None:
            sender.overloaded.close(target, now, patience)


def _patience_of(failure: Response | Exception) -> float | None:
    """Return the seconds in the Retry-After of a 503 (RFC 3261 §21.5.4), or None."""
    try:
        wanted = failure.retry_after if isinstance(failure, Response) else None
    except ParseError:
        return None
    return None if wanted is None else float(wanted.seconds)
