"""ServerTransaction: a request that a core serves, RFC 3261 §8.2, §9.2 and §13.3.

It is longer than other files, because its public methods are documented here. Its responses are
here, too: what sends them and what ends the request change the same attributes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gevent

from ..arguments import seconds as check_seconds
from ..engine.users import ServerRecord
from ..errors import (
    Cancelled,
    Challenged,
    InvalidValue,
    ParseError,
    Reject,
    TransactionStateError,
    TransportError,
)
from ..message.message import Request, Response
from ..message.scan import USUAL, Line
from ..message.sdp import MediaStream
from ..observe.log_values import Plain
from ..transaction.fsm import SENT
from ..transaction.keys import server_key
from ..transaction.machines import SEND_NOTHING
from ..transaction.timers import EXPIRES
from ..transport.base import Flow, Origin
from .capabilities import CONTACT_IN_SUCCESS
from .client.reason import reason_of
from .dialog.call import SESSION_TYPE, Call, OnOffer
from .dialog.description import description_of
from .dialog.end import End, reason_in
from .dialog.handlers import CallHandlers, check_handlers
from .dialog.media import Media
from .dialog.notifier import Notifier, State, accept
from .dialog.offer_answer import check_media, check_on_offer, media_address
from .dialog.referral import Referral
from .dialog.reliable import TAG as RELIABLE
from .dialog.reliable import lists
from .dialog.terms import Terms
from .forwarding import Edge, Forwarding
from .handler import Handler
from .inbox import Inbox, Waitable
from .option_tags import check_required
from .refusal import NEEDY, complete, refuse
from .resource_priority import check_priority
from .routing.own_route import OwnRoute
from .routing.sips import answer_wants_sips
from .user_agent import UserAgent

log = logging.getLogger("sippet_gevent.core")


class Guard(Protocol):
    """Checks which user has sent a request: Authenticator in auth/server.py."""

    def authenticate(self, request: Request, tx: Any) -> str | None:
        """Return the user name, None if the request needs none. Raises Reject."""


class ServerTransaction(Handler):
    """A request that a core serves: the second argument of each core, `core(request, tx)`.

        @stack.on("INVITE")
        def office(request, tx):
            tx.respond(180)
            with tx.accept(media=[AUDIO]) as call:
                call.wait(60)

    `request` is the request, `stack` the stack that has received it, and `user` the name of the
    user whose password was right. `call` is the call to which it belongs, or which its 2xx has
    begun. `answered` is the status of its final response, 0 before. `cancelled` is True when the
    caller has given up. All responses to a request have the same To tag (RFC 3261 §8.2.6.2).
    """

    stack: UserAgent
    """The stack that has received the request."""

    request: Request
    """The request."""

    answered = 0
    """Status of the final response that was sent; 0 before."""

    cancelled = False
    """True when the caller has given up (§9.2)."""

    transaction: ServerRecord
    """The state machine. None while an ACK is served, which has none (§17)."""

    provisional = 0
    """Status of the last provisional response that was sent; 0 before."""

    call: Call | None = None
    """The call that the request belongs to, or that its 2xx has begun."""

    user: str | None = None
    """Name of the user whose password was right. None before, and for a request that needs none."""

    admitted_by: Guard | None = None
    """The Authenticator that has let the request pass, by its password or as an exempt one."""

    complete_success: Callable[[Response], None] | None = None
    """Adds the header fields of an Authenticator to the final 2xx, such as Authentication-Info."""

    earlier: ServerTransaction | None = None
    """The request for which this stack has sent this one to itself; see proxy/spirals.py."""

    edge: Edge | None = None
    """What the request passes when it is forwarded, and its responses on their way back."""

    _referral: Referral | None = None

    terms: Terms | None = None
    """What the core wants of the session that its 2xx begins."""

    context: Forwarding | None = None
    """The branches of the request while it is forwarded."""

    forwarded = False
    """True once a proxy has begun to forward the request."""

    route_origin: Origin | None = None
    """The listener by which a request within a dialog goes on: that of our Record-Route (RFC 5658
    §5). Set by take_route()."""

    is_stateless = False
    """True for a request that is served without a transaction (§16.11). Its core forwards it, or
    returns a status."""

    _reply_flow: Flow | None = None
    _contact: Line | None = None  # of our last response
    _contact_flow: Flow | None = None  # which it is for
    _known: frozenset[str] = frozenset()
    _inbox: Inbox[None] | None = None
    _observers: tuple[Callable[[int], object], ...] = ()
    _own_route: OwnRoute | None = None

    def __init__(
        self, stack: UserAgent, request: Request, transaction: ServerRecord | None
    ) -> None:
        self.stack = stack
        self.request = request
        self.transaction = transaction  # type: ignore[assignment]  # None for an ACK
        if transaction is not None:
            transaction.user = self

    @property
    def is_decided(self) -> bool:
        """True once it is known whether a proxy or a UAS serves the request.

        That is when it is forwarded, answered, or has a 101 to 199.
        """
        return bool(self.forwarded or self.answered or self.provisional > 100)

    @property
    def referral(self) -> Referral | None:
        """The transfer that a REFER asks for, within a call or outside. None for other methods.

        Raises:
            Reject: 400, because the REFER has no Refer-To, or several (RFC 3515 §2.4.2).
        """
        if self._referral is None and self.request.method == "REFER":
            self._referral = Referral(self)
        return self._referral

    @referral.setter
    def referral(self, referral: Referral | None) -> None:
        self._referral = referral

    @property
    def flow(self) -> Flow:
        """The flow by which the responses leave (§18.2.2)."""
        transaction = self.transaction
        return self.request.flow if transaction is None else transaction.flow

    @property
    def reply_flow(self) -> Flow:
        """The flow by which a response without a transaction leaves."""
        return self._reply_flow or self.flow

    # ---- for cores

    def respond(
        self,
        status: int | Response,
        reason: str | None = None,
        *,
        reliable: bool = False,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> None:
        """Send a response.

            tx.respond(180)
            tx.respond(183, media=[AUDIO], reliable=True)
            tx.respond(302, contact="sip:bob@192.0.2.7")

        Args:
            status: A status, or a whole Response made with `request.response()`.
            reason: The reason phrase; by default that of the status.
            reliable: Repeat this provisional response to an INVITE until its PRACK comes, if the
                caller supports that (RFC 3262). All are reliable if the INVITE requires that. The
                next reliable response, and a 2xx after one with a body, then waits here for the
                PRACK. If the INVITE has no offer, the first reliable response must have ours, by
                `media` or `body` (RFC 3262 §5). Without one it leaves unreliably. If the INVITE
                requires 100rel, it does not leave at all, and the log says so.
            media: Streams for early media. A 101 to 199 to an INVITE then answers the caller's
                offer. The 2xx repeats that answer, or leaves it out after a reliable response. If
                the INVITE has no offer, only a reliable response may have ours (RFC 6337 §3.1.2).
            body: The body, in place of `media`.
            headers: Header fields, by attribute name.

        Raises:
            Cancelled: The caller has given up.
            TransactionTimeout: No PRACK has come in 64*T1. The INVITE was refused with 504.
            TransactionStateError: The request has a final response already, or its time is over.
            Reject: 420, because the request requires an extension that the stack does not have
                (§8.2.2.3). 488, because no stream of the offer can be accepted.
            ParseError: The offer cannot be read, and `media` was given.
            InvalidValue: The Response was not made of this request.
        """
        if self.interruptions:
            self.interrupt()
        if media is not None:
            body = self._describe_early(status, media, body, reliable=reliable)
            if body:
                headers.setdefault("content_type", SESSION_TYPE)
        if isinstance(status, Response):
            self._check_is_ours(status)
            response = status
        else:
            response = self.request.response(status, reason, body=body, **headers)
        if reliable:
            if self.request.method != "INVITE" or not 100 < response.status < 200:
                raise TransactionStateError(
                    f"{response.status} to {self.request.method} cannot be reliable: only "
                    "101 to 199 to an INVITE can (RFC 3262 §3)"
                )
            response.require = (*response.require, RELIABLE)
        self._send(response)

    def take_route(self) -> bool:
        """Remove this stack from the request's Route (§16.4).

        A proxy sends a request within a dialog to wherever the request says. So call this first.
        Anyone can write a To tag and a Route to us, but not the token in our Record-Route.

        Returns:
            True when this stack made the Route for this dialog.

        Raises:
            Reject: 403 for a `flow_uri()` that was forged, 430 for one whose flow has ended (RFC
                5626 §5.3.1).
        """
        route = self._own_route
        if route is None:
            route = self._own_route = OwnRoute()
            route.take(self.request, self.stack.names)
            self.route_origin = route.origin
        return route.is_of_dialog

    @property
    def leads_to_flow(self) -> bool:
        """True when the Route names a flow that has not ended. forward() uses that flow."""
        self.take_route()
        return self._own_route is not None and self._own_route.leads_to_flow

    def route_flow(self) -> Flow | None:
        """Return the flow that the Route names.

        None when it names no flow, or when the peer can be reached without the ended flow.

        Raises:
            FlowFailed: 430, because the flow has ended and the Request-URI cannot be reached (RFC
                5626 §5.3.1).
        """
        if self._own_route is None:
            self.take_route()
        route = self._own_route
        return None if route is None or not route.names_flow else route.flow(self.request.uri)

    def on_final(self, function: Callable[[int], object]) -> None:
        """Call `function(status)` when the request has its final response, as call records need.

            tx.on_final(lambda status: log.info("answered=%d", status))

        No greenlet waits for it. It is called at once if the request is answered already. It must
        not wait, because timers call it, too. An exception is logged.

        Args:
            function: Takes the status. It is 408 or 500 if the time of the request is over, and 503
                if the stack has stopped.
        """
        self._observers += (function,)
        if self.answered:
            self._tell_observers()

    def _tell_observers(self) -> None:
        observers, self._observers = self._observers, ()
        for function in observers:
            try:
                function(self.answered)
            except Exception as error:
                self.stack.engine.counters.core_errors += 1
                self._complain("on_final raised", exc_info=error)

    def wait(self, seconds: float | None = None, *, until: Waitable | None = None) -> bool:
        """Wait, for example while the phone rings.

            picked_up = gevent.event.Event()
            if not tx.wait(60, until=picked_up):
                return 480

        Before the answer, a CANCEL raises Cancelled here. After accept(), so does the end of the
        call, for which call.wait() returns True. To pause after a call, use stack.clock.sleep().

        Args:
            seconds: How long; None waits for `until` alone.
            until: What ends the wait: an Event, an AsyncResult or a greenlet of gevent.

        Returns:
            True when `until` is ready, which ends the wait early.

        Raises:
            Cancelled: The caller gives up meanwhile. After accept(): the call has ended, whichever
                side has ended it; see call.end.
            TypeError: There is nothing to wait for, or `until` is no such object.
        """
        if until is None and seconds is None:
            raise TypeError("wait() needs seconds or until: write tx.wait(30)")
        seconds, call = check_seconds("seconds", seconds), self.call
        if call is not None and self.request.method == "INVITE" and 200 <= self.answered < 300:
            return self._wait_in_call(call, seconds, until)
        inbox = self._inbox
        if inbox is None:  # an early call has one, in which nothing else waits meanwhile
            inbox = self._inbox = Inbox(self.stack.clock) if call is None else call._inbox
        return inbox.wait(None, seconds) if until is None else inbox.wait_until(until, seconds)

    def _wait_in_call(self, call: Call, seconds: float | None, until: Waitable | None) -> bool:
        """Wait as wait() does after the answer. Raises Cancelled when the call has ended."""
        inbox, has_ended = call._inbox, call.ended.is_set
        if until is None:
            inbox.wait(has_ended, seconds)
        elif inbox.wait_until(until, seconds, has_ended) and until.ready():
            return True
        if has_ended():
            raise Cancelled(f"the call has ended: {call.end}")
        return False

    def accept(
        self,
        *,
        media: Sequence[MediaStream] | None = None,
        handlers: CallHandlers | None = None,
        body: bytes | str = b"",
        on_offer: OnOffer | None = None,
        **headers: Any,
    ) -> Call:
        """Answer an INVITE with 200 and return the Call after the ACK has arrived (§13.3.1.4).

        The 200 is repeated until the ACK arrives. With `media`, it has the answer to the caller's
        offer. If the INVITE has no offer, the 200 has one, and the ACK brings the answer. The same
        streams answer what the caller changes later.

            AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA))
            with tx.accept(media=[AUDIO]) as call:
                call.wait(30)

            with tx.accept(body=answer, handlers={"MESSAGE": show}) as call:
                call.wait()

        Args:
            media: The streams that we accept or offer.
            handlers: Cores for requests within the call, by method. They are `core(request, tx)`,
                with the call as `tx.call`.
            body: The session description, in place of `media`.
            on_offer: Decides about offers of the caller that follow, `on_offer(offer, call)`; see
                Call.on_offer.
            headers: Header fields, by attribute name.

        Raises:
            Reject: 488, because no stream of the offer can be accepted.
            ParseError: The offer cannot be read. If the ACK has no answer to our offer, or none
                that can be read, the status is 502, and the call is hung up.
            TransactionTimeout: No ACK has come in 64*T1. The call is hung up.
            TransactionStateError: The request is no INVITE, or is answered already.
            Cancelled: The caller has given up.
        """
        if self.request.method != "INVITE":
            raise TransactionStateError(f"only an INVITE is accepted, not {self.request.method}")
        known = None if handlers is None else check_handlers(handlers)
        if self.call is not None:
            self.call.handlers = known or self.call.handlers
        if media is not None or on_offer is not None:
            check_media(media, body)
            check_on_offer(on_offer, "tx.accept(on_offer=function)")
        if not body and (media is not None or self.call is not None):
            body = self._describe(media)
        if on_offer is not None:
            self.terms = self.terms or Terms(None, on_offer)
            self.terms.on_offer = on_offer
            if self.call is not None:
                self.call.on_offer = on_offer
        self.respond(200, body=body, **headers)
        call = self.call
        assert call is not None  # a 2xx to an INVITE begins one
        call.handlers = known or call.handlers
        call._wait_for_ack()
        return call

    def accept_subscription(
        self,
        *events: str,
        body: State = b"",
        content_type: str = "",
        pending: bool = False,
        **headers: Any,
    ) -> Notifier:
        """Answer a SUBSCRIBE with 200, send the first NOTIFY, and return the Notifier (RFC 6665
        §4.2.1).

            @stack.on("SUBSCRIBE")
            def voicemail(request, tx):
                with tx.accept_subscription("message-summary", body=summary) as notifier:
                    while not notifier.wait(60):
                        notifier.notify()

        The duration granted is what the peer asks for, up to the longest of the package.

        Args:
            events: The event types that this core serves.
            body: The state that the NOTIFY tells: bytes, text, or a callable that returns the
                present state. It is asked whenever the stack sends a NOTIFY by itself.
            content_type: Its Content-Type, by default that of the package.
            pending: True while it is not decided yet if the peer may know the state. Call
                notifier.activate() or close() later.
            headers: Header fields of the 200.

        Raises:
            Reject: 489 with Allow-Events for another event type, 423 with Min-Expires for a
                duration that is too short, 503 at the limit of subscriptions.
            ParseError: The SUBSCRIBE has no Contact.
            TransactionStateError: The request is no SUBSCRIBE, or is answered already.
        """
        if self.request.method != "SUBSCRIBE":
            raise TransactionStateError(
                f"accept_subscription() is for SUBSCRIBE, not for {self.request.method}"
            )
        return accept(
            self, events, body, content_type=content_type, is_pending=pending, headers=headers
        )

    def authenticate(self, authenticator: Guard) -> str | None:
        """Return the user that has sent the request, which is also `tx.user` from then on.

            office = Authenticator(realm="example.com", users=users)

            @stack.on("MESSAGE")
            def message(request, tx):
                if tx.authenticate(office) != "100":
                    return 403

        Args:
            authenticator: An Authenticator. Make one for all requests, because it counts nonces and
                wrong passwords.

        Returns:
            The user name. None for a request that needs no password, such as an ACK.

        Raises:
            Reject: 401 or 407 with challenges, 403, or 400. Let it leave the core.
        """
        return authenticator.authenticate(self.request, self)

    def _describe(self, media: Sequence[MediaStream] | None, *, may_offer: bool = True) -> bytes:
        """Return the description for a response to this INVITE. Raises Reject and ParseError."""
        if self.call is not None:
            wanted = None if media is None else Media(media, media_address(self.flow))
            return self.call._describe(wanted, may_offer=may_offer)
        self.terms = Terms(media, None)
        return self.terms.answer(self.request, may_offer=may_offer)

    def _describe_early(
        self,
        status: int | Response,
        media: Sequence[MediaStream],
        body: bytes | str,
        *,
        reliable: bool,
    ) -> bytes:
        """Return the description for a 101 to 299 to this INVITE.

        Raises:
            TypeError: `media` is wrong, or has no place in this response.
            Reject, ParseError: As respond() does.
        """
        check_media(media, body)
        request = self.request
        if isinstance(status, Response) or request.method != "INVITE" or not 100 < status < 300:
            raise TypeError(
                f"media in {status!r} to {request.method}: write tx.respond(183, media=[stream])"
            )
        may_offer = (
            status >= 200 or lists(request, "Require") or (reliable and lists(request, "Supported"))
        )
        return self._describe(media, may_offer=may_offer)

    def check_required(self, known: frozenset[str] = frozenset()) -> None:
        """Refuse a request that requires an unknown extension (§8.2.2.3).

        Args:
            known: Option tags that the core implements, besides those of the stack.

        Raises:
            Reject: 420, with the unknown option tags in Unsupported. 417, if it requires a
                Resource-Priority, and has none that is configured (RFC 4412 §4.6.2).
        """
        self._known |= known
        if "Require" in self.request.headers.fields:
            check_required(self.request.require, self.stack.supported | self._known)
            check_priority(self.request, self.stack.engine.admission.priority)

    # ---- responses

    def _send(self, response: Response) -> None:
        """Send a response that this element made; see respond()."""
        status = response.status
        request = self.request
        method = request.method
        is_invite = method == "INVITE"
        if self.transaction is None:
            raise TransactionStateError(
                f"tx.respond() needs a transaction: return {status}"
                if self.is_stateless
                else "an ACK is never answered (§17)"
            )
        if self.answered:
            raise TransactionStateError(
                f"answered already with {self.answered}, so not with {status}"
            )
        if status < 200 and not is_invite:
            raise TransactionStateError(
                f"{status} to {method}: provisional responses are for INVITE (RFC 4320 §4.1)"
            )
        if 100 < status < 300:
            fields = request.headers.fields
            if "Require" in fields:
                self.check_required()
                if status < 200 and self._lacks_offer(response):
                    self._leave_out(response)
                    return
            if "Replaces" in fields and not is_invite:
                raise Reject(400, "Replaces Is For INVITE")  # RFC 3891 §3
            # each makes a dialog (§12.1.1)
            contacted = method in CONTACT_IN_SUCCESS if status >= 200 else is_invite
            if contacted and "Contact" not in response.headers.fields:
                flow, line = self.transaction.flow, self._contact
                if line is None or self._contact_flow is not flow:
                    secure = answer_wants_sips(request)
                    line = self._contact = self.stack.names.contact_line(flow, secure)
                    self._contact_flow = flow
                response.headers.extend((line,))
        if status > 100:
            self.stack.capabilities.complete_response(request, response)
        if status < 200:
            if status > 100:
                self.stack.dialogs.ring(self, response)
                if self.answered:  # while a rule held the response
                    raise TransactionStateError(f"answered meanwhile with {self.answered}")
            self.provisional = status
            if self.copies is not None:
                self.copies.wake()
            self.stack.engine.handle(self.transaction, SENT[1], response)  # type: ignore[arg-type]  # only SENT[0] is None
        elif status < 300 and is_invite:
            self.stack.dialogs.answer(self, response)
        else:
            if status in NEEDY:
                self._complete(response)
            if self.call is None or status >= 300 or method != "UPDATE":
                self._finish(status, response)
            else:
                self.call._responding(request, response)
                self._finish(status, response)
                self.call._refreshed(request, response, by_us=True)

    def keep_contact(self, contact: str) -> None:
        """Have later responses say this Contact, as an UPDATE within the call has said (RFC 3311
        §5.1)."""
        self._contact = "Contact", USUAL, contact
        self._contact_flow = self.transaction.flow

    def _lacks_offer(self, response: Response) -> bool:
        """True for a response of 101 to 199 that lacks the offer which it must have.

        It must be reliable if the INVITE requires 100rel, and then needs our offer if the INVITE
        has none (RFC 3262 §3, §5).
        """
        request, call = self.request, self.call
        if not lists(request, "Require") or description_of(response):
            return False
        return not description_of(request) if call is None else call._owes_offer

    def _leave_out(self, response: Response) -> None:
        """Log that a provisional response does not leave. The caller gets the next one."""
        self.stack.engine.counters.warn(
            "provisional response left out",
            self.stack.clock.now(),
            "provisional response left out: status=%d call_id=%s "
            'reason="the INVITE requires 100rel and has no offer, so this needs ours: write '
            'tx.respond(%d, media=[stream])"',
            response.status,
            Plain(self.request.headers.get("Call-ID")),
            response.status,
            log=log,
        )

    def _check_is_ours(self, response: Response) -> None:
        """Refuse a response that the caller could not match to its request (§17.1.3), such as a
        response to another request. Raises InvalidValue.
        """
        request = self.request
        theirs, ours = request.headers.fields, response.headers.fields
        if ours.get("Via") == theirs.get("Via") and ours.get("CSeq") == theirs.get("CSeq"):
            return
        try:  # an element on the path may spell the same values differently
            if response.via[0].branch == request.via[0].branch and response.cseq == request.cseq:
                return
        except (IndexError, ParseError):
            pass
        raise InvalidValue(
            f"{response!r} is no response to {request!r}, because its Via or CSeq is another (RFC "
            f"3261 §8.2.6.2): write request.response({response.status}, …)"
        )

    def _is_plain(self, status: int) -> bool:
        """True for a final status to which _send() would add nothing."""
        if 200 <= status < 300:
            request = self.request
            if self.complete_success is not None or request._method in CONTACT_IN_SUCCESS:
                return False
            fields = request.headers.fields
            return "Require" not in fields and "Replaces" not in fields
        return 300 <= status <= 699 and status not in NEEDY

    def _finish(self, status: int, response: Response | bytes) -> None:
        """Send the final response, whole or formatted. Only the transaction's record stays."""
        transaction, request = self.transaction, self.request
        before, self.answered = self.answered, status
        if self.complete_success is not None and status < 300 and not isinstance(response, bytes):
            self.complete_success(response)
        try:
            # RFC 4320 §4.2: a 408 comes too late anyway, unless it is for an INVITE
            late = status == 408 and request.method != "INVITE"
            event = SEND_NOTHING if late else SENT[status // 100]
            self.stack.engine.handle(transaction, event, response)  # type: ignore[arg-type]  # only SENT[0] is None
        except BaseException:
            self.answered = before
            raise
        if self.place is not None:
            self._recount()
        transaction.user = transaction.request = None
        if self.context is not None:
            self.context._answered()
        if self._observers:
            self._tell_observers()
        if self.call is not None and status >= 300:
            self.call._refused(request, status)
            self._end_early(status)

    def _end_early(self, status: int) -> None:
        """End the call of an initial INVITE that was refused or cancelled (§12.3).

        It also ends if a 2xx of another element was sent, because the dialog of that 2xx is another
        one (§13.2.2.4).
        """
        if self.call is not None and self.request.mandatory.to_tag is None:
            cancel = self._cancel
            reason = "" if cancel is None else reason_in(cancel)
            if status < 300:
                end = End("us", "answered elsewhere", status)
            elif self.cancelled:
                end = End("peer", "cancel", status, reason)
            else:
                end = End("us", "refused", status)
            self.call._finish_early(end)

    def _refuse(self, status: int, reason: str | None = None, **headers: Any) -> None:
        """Refuse the request with a status; see _reject()."""
        self._reject(Reject(status, reason, **headers))

    def _refuse_for_core(
        self, status: int, error: Exception | None, headers: dict[str, Any]
    ) -> None:
        """Refuse the request in place of its core, which gets `error`, or else Cancelled, at its
        next call of this library."""
        if self.answered:
            return
        self._refuse(status, **headers)
        if error is not None:
            self._end(error)
        else:
            self._give_up_by(self._cancel)
            if self.parked is not None:
                self.parked.wake()

    def _reject(self, refusal: Reject) -> None:
        """Send a refusal, unless a final response was sent.

        The answer has the header fields that FIELDS in refusal.py lists for its status, from the
        peer's response if there is one. A call that was answered before is hung up, because its
        core has ended.
        """
        if self.answered:
            if self.call is not None and self.request.mandatory.to_tag is None:
                self.call.hangup()
        elif self.transaction is not None and not self.transaction.is_terminated:
            response = refuse(self.request, refusal)
            if refusal.status in NEEDY:
                self._complete(response)
            self.stack.capabilities.complete_response(self.request, response)
            self._finish(refusal.status, response)
            if isinstance(refusal, Challenged) and self.request.method != "INVITE":
                # as a stateless server (§8.2.7); an INVITE needs its transaction for the ACK
                self.stack.engine.forget(self.transaction)

    def _complete(self, response: Response) -> None:
        """Add the header fields that the status of a refusal needs, and log those that are
        missing."""
        stack = self.stack
        missing = complete(self.request, response, stack.supported | self._known, stack.allowed)
        if missing:
            stack.engine.counters.warn(
                "incomplete refusal", stack.clock.now(),
                "refusal incomplete: answered=%d missing=%s method=%s call_id=%s",
                response.status, Plain(", ".join(missing)), Plain(self.request.method),
                Plain(self.request.headers.get("Call-ID")), log=log,
            )  # fmt: skip

    def _forward_response(self, response: Response) -> None:
        """Send a response of a next hop; see forward_response()."""
        if self.transaction is None:
            raise TransactionStateError("a request without a transaction is answered by its hash")
        if self.answered:
            raise TransactionStateError(
                f"answered already with {self.answered}, so not with {response.status}"
            )
        if not self.forwarded:
            self._note_forwarding()
        if response.status >= 200:
            self._finish(response.status, response)
        elif self.request.method == "INVITE":
            self.provisional = response.status
            self.stack.engine.respond(self.transaction, response)

    # ---- for the engine

    def receive(self, message: Request) -> None:
        """Ignore an ACK that the transaction delivers, because the call gets it from the engine."""

    def crashed(self, error: BaseException) -> None:
        """Answer 500, because the core has raised, and log one line with the traceback."""
        gevent.getcurrent().serving = None
        self._complain("core raised", exc_info=error)
        self._refuse(500)

    def _complain(
        self, event: str, more: str = "", *values: object, exc_info: BaseException | None = None
    ) -> None:
        """Log a mistake of the core; `more` are further `key=value` pairs for `values`."""
        request = self.request
        self.stack.engine.counters.error(
            event,
            self.stack.clock.now(),
            f'{event}: request="%r" call_id=%s{more}',
            request,
            Plain(request.headers.get("Call-ID")),
            *values,
            exc_info=exc_info,
            log=log,
        )

    def cancel(self, cancel: Request | None = None) -> None:
        """Take the CANCEL of the caller (§9.2).

        The core gets Cancelled where it waits in a call of this library, or at its next such call.
        """
        if self.answered or self.cancelled:
            return
        self._give_up_by(cancel)
        if self.context is not None:
            self.context.cancel(**reason_of(cancel))  # at once, wherever the core is (§16.10)
        if self.parked is not None:
            self.parked.wake()
        elif self.context is None:
            # the core is blocked elsewhere and has forwarded nothing: answer for it
            self._refuse(487)

    def fail(self, error: Exception) -> None:
        """Take the failure of the transaction. Its time is over, or a provisional response could
        not be sent.

        A lost provisional response does not end the transaction, which remains in its state (RFC
        3261 §17.2.4 as amended by RFC 6026 §8.8). The final response may be rerouted (§18.2.2). The
        engine has logged and counted the loss, so the core gets no error.
        """
        if isinstance(error, TransportError):
            return
        # its Expires has passed, which concerns a UAS and no proxy (§13.3.1, §16.10)
        if isinstance(error, Cancelled):
            if self.context is None:
                self.cancel()
            return
        self.transaction.user = self.transaction.request = None
        self._overdue(408 if self.request.method == "INVITE" else 500)
        if self.context is not None:
            self.context._answered()
        self._tell_observers()
        self._end_early(408)
        self._end(error)

    def leave(self, retry_after: int) -> None:
        """Refuse the request with 503, because the stack stops."""
        if self.call is not None:
            self.call._finish_early(End("stack", "stopped"))
        stopped = TransportError("the stack has stopped")
        self._refuse_for_core(503, stopped, {"retry_after": retry_after})

    def ended(self) -> None:
        """Note that the record is gone. If there was no answer, the stack has stopped."""
        if not self.answered:
            # as for a request that arrives while the stack stops: if the stack starts again, this
            # core must not count as a handler
            self.answered = 503
            self._recount()
            self._tell_observers()
            if self.call is not None:
                self.call._finish_early(End("stack", "stopped"))
            self._end(TransportError("the stack has stopped"))

    # ---- the request

    def _belongs(self) -> bool:
        """True when the request belongs to a call, a dialog or a route of ours. Limits on new work
        do not apply to it."""
        route = self._own_route
        return (route is not None and route.is_of_dialog) or self.stack.engine.cores.belongs(
            self.request
        )

    def _note_forwarding(self) -> None:
        """Note that a proxy has begun to forward the request. Overload does not count it as one of
        an unknown dialog, because a proxy need not know the dialogs of others."""
        self.forwarded = True
        strangers = self.stack.engine.overload.strangers
        if strangers.passed:
            strangers.give_back(server_key(self.request))

    def _expire_invite(self) -> None:
        """Start the timer after which an INVITE with a readable Expires is answered 487 (§13.3.1
        step 1)."""
        try:
            seconds = self.request.expires
        except ParseError:
            return
        if seconds is not None:
            self.transaction.restart(EXPIRES, self.stack.clock.now(), seconds)

    def __repr__(self) -> str:
        state = "" if self.transaction is None else f" {self.transaction.state}"
        return f"<ServerTransaction {self.request!r}{state}>"
