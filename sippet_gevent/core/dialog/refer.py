"""REFER: transfers that we ask for, and those that the peer asks for, within calls and outside of
them, RFC 3515, 3892, 4488 and 5589."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...arguments import seconds as check_seconds
from ...errors import ParseError, Reject, SIPError, TransactionStateError, TransactionTimeout
from ...message.fields.refer import ReferredBy, ReferTo
from ...message.fields.replaces import Replaces
from ...message.iana import reason_phrase
from ...message.message import Request, Response
from ...message.parameters import URIHeaders
from ...message.sdp import MediaStream
from ...message.sipfrag import Fragment
from ...message.uri import URI
from ..element import DialogTable, ServedRequest
from ..routing.routes import as_request_uri
from .call import Call, OnProgress, OnProvisional
from .dialog import Dialog
from .event_package import REFER
from .events import CallEvent
from .invite import InviteSession
from .rule import Rule, Session
from .state import DialogState
from .subscription import NotifierUsage, SubscriberUsage

NO_SUBSCRIPTION = "norefersub"
"""The option tag of RFC 4488."""

REFERRALS = 20
"""Most transfers that a peer may have under way in one dialog. Each holds a subscription, and costs
a call to its target."""


def replaces_of(dialog: Dialog) -> Replaces:
    """Return the Replaces with which our peer's dialog is replaced (RFC 3891 §4).

    The tags are as the peer sees them: its own one is the To tag of what it receives.
    """
    return Replaces.parse(
        f"{dialog.call_id};to-tag={dialog.remote.tag or 0};from-tag={dialog.local.tag or 0}"
    )


def refer_to(target: URI | str | Call) -> ReferTo:
    """Return the Refer-To for a target. Raises ParseError.

    A call stands for its peer. The peer gets an INVITE that replaces the call (RFC 5589 §7.3).
    """
    if isinstance(target, Call):
        uri = target.dialog.remote_target
        replaces = {"Replaces": str(replaces_of(target.dialog))}
        return ReferTo(uri._replace(headers=URIHeaders(replaces)))
    return ReferTo(URI.parse(target) if isinstance(target, str) else target)


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


# ---- transfers that we ask for


class ReferringSession(InviteSession):
    """A call that can be transferred."""

    def transfer(
        self,
        target: URI | str | Call,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        subscribe: bool = True,
        **headers: Any,
    ) -> None:
        timeout = check_seconds("timeout", timeout)
        now = self.stack.clock.now
        deadline = None if timeout is None else now() + timeout
        if not subscribe:
            headers.setdefault("refer_sub", "false")
        headers.setdefault("referred_by", ReferredBy(self.dialog.local.uri))
        progress = _Progress(self, on_progress)
        where = refer_to(target)
        subscription = progress.subscription = SubscriberUsage(
            self.dialog,
            REFER,
            self.dialog.local_cseq + 1,
            on_notify=progress.notified,
            on_end=self.wake,
        )
        subscription.subscribed()
        try:
            response = self.request("REFER", timeout=timeout, refer_to=where, **headers)
        except BaseException:
            subscription.cancel()
            raise
        subscription.answered(response.status)
        if not response.is_success:
            raise Reject(response.status, response.reason, response=response)
        if wants_none(response):  # RFC 4488 §4: the peer has created none
            subscription.cancel()
        elif subscribe:
            progress.wait(None if deadline is None else deadline - now())

    def _tell(self, notify: Request, status: int) -> None:
        """Add an event for a NOTIFY. After the end of the call no event follows."""
        if self.end is not None:
            return
        event = CallEvent("progress", notify, status=status)
        self.stack.dialogs.events_dropped += self._events().put(event)


class _Progress:
    """What the peer tells about one transfer."""

    def __init__(self, session: ReferringSession, on_progress: OnProgress | None) -> None:
        self._session = session
        self._on_progress = on_progress
        self.subscription: SubscriberUsage | None = None
        self.status = 100
        self.reason = ""

    def notified(self, notify: Request) -> None:
        """Take a NOTIFY. Raises Reject for one without a status."""
        fragment = fragment_of(notify)
        self.status, self.reason = fragment.status or 0, fragment.reason or ""
        self._session._tell(notify, self.status)
        if self._on_progress is not None:
            try:
                self._on_progress(fragment)
            except Exception as error:  # of the application
                self._session.warn("on_progress raised", error)

    def wait(self, seconds: float | None) -> None:
        """Wait for the outcome. Raises Reject if the target was not reached.

        A peer that hangs up has usually reached it (RFC 5589 §6.1). But a subscription that ends
        before a final status leaves the outcome unknown, because the last NOTIFY has to have one
        (RFC 3515 §2.4.5).
        """
        session, subscription = self._session, self.subscription
        assert subscription is not None  # transfer() has set it
        if not session._inbox.wait(
            lambda: subscription.end is not None or session.ended.is_set() or self.status >= 200,
            seconds,
        ):
            raise TransactionTimeout("the outcome of the transfer is not known in time")
        if self.status >= 300:
            raise Reject(self.status, self.reason)
        if self.status >= 200:
            return
        if session.end is not None:
            if session.end.by != "peer":
                raise TransactionStateError(f"the call has ended: {session.end}")
        elif subscription.end is not None:
            raise TransactionTimeout("the peer does not say how the transfer goes on")


# ---- transfers that the peer asks for


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
        """Refuse the transfer."""
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
            tx.referral = Referral(tx, number)  # type: ignore[attr-defined, arg-type]
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


def wants_none(message: Request | Response) -> bool:
    """True for `Refer-Sub: false` (RFC 4488 §4)."""
    try:
        value = message.refer_sub
    except ParseError:
        return False
    return value is not None and not value.is_wanted


def _line_of(response: int | Response) -> bytes:
    if isinstance(response, int):
        return status_line(response)
    return status_line(response.status, response.reason)
