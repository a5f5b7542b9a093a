"""Referral: what a REFER of the peer asks for, within calls and outside of them, RFC 3515, 3892 and
5589."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...errors import ParseError, Reject, SIPError
from ...message.fields.refer import ReferredBy
from ...message.fields.replaces import Replaces
from ...message.message import Request, Response
from ...message.sdp import MediaStream
from ...message.uri import URI
from ..element import DialogTable, ServedRequest
from ..routing.routes import as_request_uri
from .call import Call, OnProvisional
from .event_package import REFER
from .notifier_usage import NotifierUsage
from .refer import (
    status_line,
    wants_none,
)
from .rule import Rule, Session
from .state import DialogState
from .subscriber_usage import SubscriberUsage

REFERRALS = 20
"""Most transfers that a peer may have under way in one dialog. Each holds a subscription, and costs
a call to its target."""


class Inviting(Protocol):
    """What places calls: a Stack."""

    @property
    def dialogs(self) -> DialogTable:
        """The dialogs, for the subscription of a REFER outside a call."""

    def invite(
        self,
        uri: URI | str,
        *,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Call:
        """Call a peer."""


class ReferRequest(ServedRequest, Protocol):
    """A REFER that a core serves: a ServerTransaction."""

    referral: Referral | None
    """What the REFER asks for."""

    @property
    def stack(self) -> Inviting:
        """The stack that has received it."""

    def respond(
        self,
        status: int | Response,
        reason: str | None = None,
        *,
        body: bytes | str = b"",
        **headers: Any,
    ) -> None:
        """Send a response."""


class Referral:
    """A transfer that the peer asks for by a REFER, within a call or outside: `tx.referral`.

    The application accepts it or refuses it. follow() accepts it and does all the rest:

        @stack.on("REFER")
        def transfer(request, tx):
            new = tx.referral.follow(body=offer)

    An application that reaches the target by itself calls accept(), progress() and finish().

    Args:
        tx: The REFER.
        number: CSeq of the REFER, None for the first one in its dialog (RFC 3515 §2.4.6).

    Raises:
        Reject: 400, because the REFER has no Refer-To or several (RFC 3515 §2.4.2).
    """

    __slots__ = ("_number", "_subscription", "_tx", "target")

    def __init__(self, tx: ReferRequest, number: int | None = None) -> None:
        if len(tx.request.headers.all("Refer-To")) != 1:
            raise Reject(400, "Needs One Refer-To")
        target = tx.request.refer_to
        assert target is not None
        self.target = target
        """The Refer-To."""
        self._tx = tx
        self._number = number
        self._subscription: NotifierUsage | None = None

    @property
    def uri(self) -> URI:
        """The URI to call, without method and headers."""
        return as_request_uri(self.target.uri)

    @property
    def replaces(self) -> Replaces | None:
        """The dialog to replace, in an attended transfer. Raises ParseError."""
        return self.target.replaces

    @property
    def referred_by(self) -> ReferredBy | None:
        """The peer that asks (RFC 3892). Raises ParseError."""
        return self._tx.request.referred_by

    def accept(self) -> None:
        """Answer 202, and tell the peer "100 Trying" by a first NOTIFY.

        If the REFER asks for no subscription, there is none (RFC 4488 §4). Outside a call, the
        subscription has a dialog of its own.

        Raises:
            TransactionStateError: The REFER has a final response already.
            ParseError: A REFER outside a call has no Contact.
            Reject: 503, because there are too many subscriptions.
        """
        tx = self._tx
        if wants_none(tx.request):
            tx.respond(202, refer_sub="false")
            return
        response, dialogs = tx.request.response(202), tx.stack.dialogs
        dialogs.admit_subscription(tx.request)
        dialog = dialogs.of_request(tx.request, response)
        assert isinstance(dialog, DialogState)  # of a stack
        try:
            tx.respond(response)
            self._subscription = NotifierUsage(dialog, REFER, self._number)
        finally:
            dialogs.release(dialog.id)  # if it has none
        self._notify(lambda it: it.begin(status_line(100)))

    def refuse(self, status: int = 603, reason: str | None = None, **headers: Any) -> None:
        """Refuse the transfer with this status; see ServerTransaction.respond()."""
        self._tx.respond(status, reason, **headers)

    def progress(self, response: int | Response) -> None:
        """Tell the peer a provisional response of the target, by a NOTIFY."""
        body = _line_of(response)
        self._notify(lambda it: it.notify(body))

    def finish(self, response: int | Response) -> None:
        """Tell the peer the final response of the target, by the last NOTIFY (RFC 3515 §2.4.7)."""
        body = _line_of(response)
        self._notify(lambda it: it.notify(body, reason="noresource"))

    def follow(
        self,
        *,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        timeout: float | None = None,
        **headers: Any,
    ) -> Call:
        """Accept the transfer and call its target, with NOTIFYs about the progress.

        The INVITE has the Replaces of Refer-To, the Referred-By of the REFER, and `Require:
        replaces` if Refer-To asks for it (RFC 5589 §7.5). The first call stays: usually the peer
        hangs up when it hears that the target has answered.

        Args:
            media: The streams to offer.
            body: The session description of the INVITE, in place of `media`.
            timeout: Seconds to wait for the answer.
            headers: Header fields of the INVITE.

        Returns:
            The call to the target.

        Raises:
            Reject: The target has refused. Or the REFER asks for something else than a call, and
                was refused with 501.
            TransactionTimeout, TransportError, Cancelled: As for invite().
        """
        uri = self.uri
        if self.target.method.upper() != "INVITE" or uri.scheme not in ("sip", "sips", "tel"):
            self.refuse(501)
            raise Reject(501)
        if self.replaces is not None:
            headers.setdefault("replaces", self.replaces)
            if self.target.requires_replaces:
                headers.setdefault("require", "replaces")
        if self.referred_by is not None:
            headers.setdefault("referred_by", self.referred_by)
        if not self._tx.answered:
            self.accept()
        try:
            call = self._tx.stack.invite(
                uri,
                timeout=timeout,
                on_provisional=self._provisional,
                media=media,
                body=body,
                **headers,
            )
        except SIPError as error:
            self.finish(error.status if error.status >= 300 else 500)
            raise
        except BaseException:  # the application gives up
            self.finish(487)
            raise
        self.finish(200)
        return call

    def _provisional(self, response: Response) -> None:
        if response.status > 100:
            self.progress(response)

    def _notify(self, send: Callable[[NotifierUsage], None]) -> None:
        """Send a NOTIFY, if the peer wants any. A failure ends the subscription alone."""
        if self._subscription is None:
            return
        try:
            send(self._subscription)
        except SIPError as error:
            self._subscription.dialog.warn("NOTIFY not sent", error)

    def __repr__(self) -> str:
        return f"<Referral {self.target}>"


class Refer(Rule):
    """REFER, NOTIFY and SUBSCRIBE of event refer, within a call."""

    __slots__ = ("_is_first",)

    takes = ("NOTIFY", "REFER", "SUBSCRIBE")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._is_first = True

    def received(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Read a REFER for the application, and refuse what belongs to no subscription."""
        method = request.method
        if method == "REFER":
            dialog = self.session.dialog
            assert isinstance(dialog, DialogState)  # of a call of a stack
            if sum(isinstance(usage, NotifierUsage) for usage in dialog.usages) >= REFERRALS:
                stack = self.session.stack
                raise Reject(503, retry_after=random.randint(*stack.engine.limits.retry_after))
            number = None if self._is_first else request.cseq.number
            tx.referral = Referral(tx, number)  # type: ignore[attr-defined, arg-type]  # a ServerTransaction
            self._is_first = False
        elif method in _UNKNOWN and method not in self.session.handlers and _is_refer(request):
            dialog = self.session.dialog
            assert isinstance(dialog, DialogState)
            if not any(_concerns(usage, request) for usage in dialog.usages):
                raise Reject(_UNKNOWN[method])
        return None


_UNKNOWN = {"NOTIFY": 481, "SUBSCRIBE": 403}
"""Answers to requests for a subscription that does not exist (RFC 6665 §4.1.3, RFC 3515 §2.4.4)."""


def _is_refer(request: Request) -> bool:
    try:
        event = request.event
    except ParseError:
        return False
    return event is not None and event.value.lower() == REFER.name


def _concerns(usage: object, request: Request) -> bool:
    kind = SubscriberUsage if request.method == "NOTIFY" else NotifierUsage
    return isinstance(usage, kind) and usage.concerns(request)


def _line_of(response: int | Response) -> bytes:
    if isinstance(response, int):
        return status_line(response)
    return status_line(response.status, response.reason)
