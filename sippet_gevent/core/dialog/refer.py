"""REFER: what it and its NOTIFYs say, and refer(), which sends one outside of calls, RFC 3515, 3892
and 4488.

Transfers of calls that we ask for are in transfer.py, and what peers ask for is in referral.py.
"""

from __future__ import annotations

from typing import Protocol

from ...errors import ParseError, Reject, TransactionTimeout
from ...message.fields.refer import ReferredBy, ReferTo
from ...message.fields.replaces import Replaces
from ...message.iana import reason_phrase
from ...message.message import Request, Response
from ...message.parameters import URIHeaders
from ...message.sipfrag import Fragment
from ...message.uri import URI
from ...message.uri_arguments import given_uri
from ...transport.listener_choice import Wanted
from ..client.completion import complete
from ..client.retry import Retry
from ..client.sender import Sender
from ..client.targets import NextHop
from ..element import Element
from .call import Call, OnProgress
from .dialog import Dialog
from .event_package import REFER
from .subscription import Subscription

NO_SUBSCRIPTION = "norefersub"
"""The option tag of RFC 4488."""


def replaces_of(dialog: Dialog) -> Replaces:
    """Return the Replaces with which our peer's dialog is replaced (RFC 3891 §4).

    The tags are as the peer sees them: its own one is the To tag of what it receives.
    """
    return Replaces.parse(
        f"{dialog.call_id};to-tag={dialog.remote.tag or 0};from-tag={dialog.local.tag or 0}"
    )


def refer_to(target: URI | str | Call) -> ReferTo:
    """Return the Refer-To for a target. Raises InvalidValue.

    A call stands for its peer. The peer gets an INVITE that replaces the call (RFC 5589 §7.3).
    """
    if isinstance(target, Call):
        uri = target.dialog.remote_target
        replaces = {"Replaces": str(replaces_of(target.dialog))}
        return ReferTo(uri._replace(headers=URIHeaders(replaces)))
    return ReferTo(given_uri("target", target))


def status_line(status: int, reason: str | None = None) -> bytes:
    """Return the body of a NOTIFY: a status line and nothing else (RFC 3515 §2.4.5, §5.3)."""
    return f"SIP/2.0 {status} {reason or reason_phrase(status)}\r\n".encode()


def fragment_of(notify: Request) -> Fragment:
    """Return what a NOTIFY of event refer tells. Raises Reject for one without a status."""
    try:
        fragment = Fragment.parse(notify.body)
    except ParseError:
        raise Reject(400, "Not a sipfrag") from None
    if fragment.status is None:  # RFC 3515 §2.4.5
        raise Reject(400, "No Status-Line")
    return fragment


def wants_none(message: Request | Response) -> bool:
    """True for `Refer-Sub: false` (RFC 4488 §4)."""
    try:
        value = message.refer_sub
    except ParseError:
        return False
    return value is not None and not value.is_wanted


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
