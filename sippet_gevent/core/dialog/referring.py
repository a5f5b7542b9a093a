"""REFER outside a call: waits for the outcome that its NOTIFYs tell, RFC 3515 §2.4."""

from __future__ import annotations

from typing import Protocol

from ...errors import Reject, TransactionTimeout
from ...message.fields.refer import ReferredBy
from ...message.message import Request
from ...transport.listener_choice import Wanted
from ..client.completion import complete
from ..client.retry import Retry
from ..client.sender import Sender
from ..client.targets import NextHop
from ..element import Element
from .call import OnProgress
from .event_package import REFER
from .refer import fragment_of, wants_none
from .subscriber import Subscription


class SendingElement(Element, Protocol):
    """An element with its Sender: a Stack."""

    @property
    def sender(self) -> Sender:
        """Sends requests."""


def refer(
    stack: SendingElement,
    request: Request,
    next_hop: NextHop | None,
    listener: Wanted,
    retry: Retry | None,
    timeout: float | None,
    on_progress: OnProgress | None,
) -> None:
    """Send a REFER and wait for its outcome; see Stack.refer().

    If a proxy forks the REFER, each peer that accepts it tells its own outcome (RFC 3515 §4.6). The
    first success is the outcome, or else the last failure.
    """
    now = stack.clock.now
    deadline = None if timeout is None else now() + timeout
    complete(request, stack.identifiers)
    if "Referred-By" not in request.headers.fields:
        request.referred_by = ReferredBy(request.from_.uri)  # RFC 3892 §2.1
    subscription = Subscription(stack, request, REFER, check=fragment_of)
    response = subscription._send(stack.sender, next_hop, listener, retry, timeout)
    if wants_none(response):  # RFC 4488 §4: the peer has created none
        subscription._forget()
        return
    if wants_none(subscription.request):
        return
    status, reason = 0, ""
    failed: set[str | None] = set()
    while status < 200 or (status >= 300 and subscription._others(failed)):
        left = None if deadline is None else deadline - now()
        for notify in subscription.notifies(left):
            fragment = fragment_of(notify)
            status, reason = fragment.status or 0, fragment.reason or ""
            if status >= 300:
                failed.add(notify.from_.tag)
            if on_progress is not None:
                on_progress(fragment)
            break
        else:
            break
    if status >= 300:
        raise Reject(status, reason)
    if status < 200:
        raise TransactionTimeout("the outcome of the REFER is not known in time")
