"""UserAgentClient: the requests that a stack sends by itself, RFC 3261 §8.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent

from .. import arguments
from ..engine.users import ClientUser
from ..errors import InvalidValue, Reject, Unauthorized
from ..message.address import NameAddr
from ..message.fields.extensions import Event as SubscribedEvent
from ..message.fields.rfc3261 import MAX_DELTA_SECONDS
from ..message.message import Request, Response
from ..message.sdp import MediaStream
from ..message.uri import URI
from ..transaction.timers import Timers
from ..transport.listener_choice import Wanted
from .argument_checks import check_alone, check_timers, check_wait, check_way
from .auth.credentials import Given, Keyring, keyring
from .client.cancelled_by import cancelled_by
from .client.retry import Retry
from .client.sender import Sender
from .client.targets import NextHop
from .client.transaction import ClientTransaction
from .dialog.call import SESSION_TYPE, Call, OnOffer, OnProgress, OnProvisional
from .dialog.event_package import package_of
from .dialog.expiry import Expiry
from .dialog.handlers import CallHandlers, check_handlers
from .dialog.offer_answer import check_media, check_on_offer
from .dialog.refer import refer, refer_to
from .dialog.reliable import without_reliable
from .dialog.subscription import Subscription
from .dialog.terms import Terms
from .inbox import Waitable, check_waitable
from .registration.registration import EXPIRES, OnChange, Registration
from .registration.requests import Registering


class UserAgentClient:
    """Sends requests, and places calls. A Stack is one, because it has what they need."""

    sender: Sender
    """Sends requests."""

    keyring: Keyring | None
    """The credentials of all requests."""

    supported: frozenset[str]
    """The option tags that the stack and its cores implement."""

    def send(
        self,
        request: Request,
        next_hop: NextHop | None = None,
        *,
        listener: Wanted = None,
        timers: Timers | None = None,
    ) -> ClientTransaction:
        """Send a request. Adds its Via, and the header fields of §8.1.1 that it lacks.

        The stack sends a copy, which is the transaction's `request`. The request itself is
        unchanged, so it may be sent again. Each copy is a new request. It gets a new Call-ID, From
        tag and CSeq unless the request has them (§8.1.1.4). To continue a sequence, such as that of
        a registration, set `call_id`, `from_` and `cseq`. If the target fails and its name resolved
        to others, the stack sends the request to the next one (RFC 3263 §4.3).

        Args:
            request: The request.
            next_hop: Where the request goes instead of its Route or Request-URI. A URI, or a Flow
                that a peer opened (RFC 5626 §5.3).
            listener: The name of the listener by which the request leaves, or the `origin` of a
                flow, which is preferred if it reaches the target. By default, the kernel's routes
                decide.
            timers: The timers of this request, in place of those of the stack, such as
                `Timers(b=3)` to try the next server after three seconds.

        Returns:
            The ClientTransaction, or None for an ACK.

        Raises:
            TransportError: No next hop can be reached, or the flow has ended.
            InvalidValue: No listener has this name. Or this is the `request` of a transaction,
                whose Route and Contact are for the next hop that it was sent to.
        """
        return self._send(request, next_hop, listener=listener, timers=timers)

    def _send(
        self,
        request: Request,
        next_hop: NextHop | None = None,
        *,
        user: ClientUser | None = None,
        listener: Wanted = None,
        timers: Timers | None = None,
    ) -> ClientTransaction:
        """Send a request as send() does. `user` gets its responses and its end, in place of a new
        ClientTransaction."""
        arguments.instance("request", request, Request, 'Request("OPTIONS", "sip:bob@example.com")')
        check_way(next_hop, listener)
        if timers is not None:
            check_timers(timers)
        if request.sent_via is not None:
            raise InvalidValue(
                f"{request!r} was sent already: send the Request it was made from, or a new one"
            )
        return self.sender.send(
            request.copy(),
            next_hop,
            user=user,
            listener=listener,
            timers=timers,
        )

    def request(
        self,
        method: str,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        credentials: Given | None = None,
        follow_redirects: bool = False,
        timers: Timers | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request and return its final response, whatever its status.

            response = stack.request("OPTIONS", "sip:example.com", timeout=5)

        Args:
            method: The method.
            uri: The Request-URI.
            next_hop: Where the request goes instead of its Route or Request-URI; see send().
            listener: The listener by which the request leaves; see send().
            timeout: Most seconds to wait.
            on_provisional: Called with each provisional response.
            credentials: Credentials, a list of them, or a callable of (realm, request) that returns
                some and may block. They answer a 401 or 407, in place of those of the stack.
            follow_redirects: Send the request to the Contacts of a 3xx, best q first, each once
                (§8.1.3.4). Never from a sips URI to a sip URI.
            timers: The timers of this request; see send().
            body: The body.
            headers: Header fields, such as `max_forwards=5`.

        Raises:
            TransactionTimeout: There is no final response in time.
            TransportError: There is no way to the peer, or the connection has ended.
            Cancelled: The request that this core serves was cancelled.
        """
        timeout = check_wait(timeout, on_provisional)
        check_way(next_hop, listener)
        request = Request(method, uri, body=body, **headers)
        check_alone(request.method)
        if timers is not None:
            check_timers(timers)
        retry = None
        if credentials is not None or follow_redirects is not False:
            retry = _retry_of(self.keyring, credentials, follow_redirects)
        return self.sender.send(
            request, next_hop, listener=listener, retry=retry, timers=timers
        ).final(on_provisional, timeout)

    def invite(
        self,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        media: Sequence[MediaStream] | None = None,
        handlers: CallHandlers | None = None,
        credentials: Given | None = None,
        follow_redirects: bool = False,
        timers: Timers | None = None,
        body: bytes | str = b"",
        on_offer: OnOffer | None = None,
        until: Waitable | None = None,
        **headers: Any,
    ) -> Call:
        """Call a peer, and return the Call after the peer has answered and the ACK is sent (§13.2).

        With `media`, the INVITE offers these streams. The same streams answer what the peer changes
        later. Without `media` and `body`, the INVITE asks the peer for an offer. `on_offer` returns
        the answer, which goes into the ACK, or into the PRACK if a reliable 183 has the offer.
        Without `on_offer`, the INVITE does not support 100rel, so the offer is in the 2xx. It is
        `call.offer`, and the ACK waits until `call.answer(media=[…])` is called.

            call = stack.invite("sip:bob@example.com", media=[AUDIO])

        If an exception leaves this method before the answer, the INVITE is cancelled. So it is when
        its Expires has passed, `expires=30`. The other arguments are those of request().

        Args:
            uri: The peer.
            media: The streams to offer.
            handlers: Cores for requests within the call, by method.
            body: The session description, in place of `media`.
            on_offer: Decides about the offers of the peer, `on_offer(offer, call)`; see
                Call.on_offer.
            until: What ends the ringing, such as `ended` of another call: an Event, an AsyncResult
                or a greenlet of gevent. When it is ready, the INVITE is cancelled, and Reject(487)
                follows, unless the peer has answered meanwhile.

        Raises:
            Reject: The peer has refused; `response` is its response. Unauthorized, a Reject, if
                it asks for credentials that are missing or wrong.
            TransactionTimeout: There is no final response in time.
            TransportError: There is no way to the peer, or the connection has ended.
            Cancelled: The request that this core serves was cancelled.
            ParseError: The Record-Route or the answer to `media` cannot be read, or is missing.
                The call is acknowledged and hung up. The status of this error is 502.
        """
        timeout = check_wait(timeout, on_provisional)
        check_way(next_hop, listener)
        if until is not None:
            check_waitable(until)
        known = check_handlers(handlers)
        terms = None
        if media is not None or on_offer is not None:
            check_media(media, body)
            terms = Terms(media, check_on_offer(on_offer, "stack.invite(uri, on_offer=function)"))
        if body:
            headers.setdefault("content_type", SESSION_TYPE)
        retry = None
        if credentials is not None or follow_redirects is not False:
            retry = _retry_of(self.keyring, credentials, follow_redirects)
        request = Request("INVITE", uri, body=body, **headers)
        if terms is None and not body:
            without_reliable(request, self.supported)
        if timers is not None:
            check_timers(timers)
        expires = request.expires  # before it is sent, because it may raise
        tx = self.sender.send(
            request, next_hop, listener=listener, record_route=terms, retry=retry, timers=timers
        )
        tx.handlers = known
        tx.terms = terms
        if expires is not None:
            Expiry(tx, expires)
        with cancelled_by(tx, until):
            response = tx.final(on_provisional, timeout)
        if not response.is_success:
            if tx.retry is not None and tx.retry.problem:
                raise Unauthorized(
                    response.status,
                    response.reason,
                    problem=tx.retry.problem,
                    response=response,
                )
            raise Reject(response.status, response.reason, response=response)
        call = tx.call
        assert call is not None  # every 2xx creates a call
        _hold(call)
        return call

    def subscribe(
        self: Registering,
        uri: URI | str,
        *,
        event: str,
        expires: int | None = None,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        credentials: Given | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Subscription:
        """Subscribe to the state of a resource, and return the Subscription after the 2xx (RFC 6665
        §4.1.2.1).

            with stack.subscribe("sip:bob@example.com", event="presence") as subscription:
                for notify in subscription:
                    print(notify.body)

        A 423 repeats the SUBSCRIBE with the duration that the notifier wants. The other arguments
        are those of request().

        Args:
            uri: The resource.
            event: The event type, such as "presence", with parameters or without.
            expires: Seconds to ask for, by default those of the event package. 0 asks once for the
                state, and the loop ends with it (§4.4.3).
            body: A filter that the event package defines.

        Raises:
            Reject: The peer has refused. Allow-Events in the `response` of a 489 says which event
                types it knows. Unauthorized, a Reject, as for invite().
            TransactionTimeout, TransportError, Cancelled: As for request().
        """
        timeout = check_wait(timeout, None)
        check_way(next_hop, listener)
        what = SubscribedEvent.parse(event)
        package = package_of(what)
        seconds = arguments.whole(
            "expires", package.default if expires is None else expires, 0, MAX_DELTA_SECONDS
        )
        request = Request(
            "SUBSCRIBE",
            uri,
            body=body,
            event=what,
            expires=seconds,
            **{**package.accepts, **headers},
        )
        check_alone(request.method)
        subscription = Subscription(self, request, package, refreshes=seconds or None)
        retry = None if credentials is None else _retry_of(self.keyring, credentials, False)
        subscription._send(self.sender, next_hop, listener, retry, timeout)
        _hold(subscription)
        return subscription

    def register(
        self: Registering,
        aor: URI | str,
        *,
        credentials: Given | None = None,
        contact: NameAddr | URI | str | None = None,
        expires: int = EXPIRES,
        registrar: URI | str | None = None,
        instance: str | None = None,
        next_hop: NextHop | None = None,
        outbound_proxies: tuple[URI | str, ...] = (),
        public_contact: bool = False,
        listener: Wanted = None,
        on_change: OnChange | None = None,
        **headers: Any,
    ) -> Registration:
        """Register an address-of-record, and keep it registered until the end (§10.2).

            with stack.register("sip:100@carrier.example", credentials=carrier) as registration:
                registration.wait(10)

        It returns at once. `registration.wait()` waits for the registrar.

        Args:
            aor: The address-of-record.
            credentials: Credentials, as for request().
            contact: Where requests for the address-of-record go. By default this stack, with the
                user of `aor`, by the flow of the REGISTER.
            expires: Seconds to ask for. A 423 makes them longer.
            registrar: The Request-URI, by default the host of `aor`.
            instance: A URN of this device, `urn:uuid:…`, which stays the same when it restarts.
                With it, REGISTER uses SIP Outbound and asks for GRUUs (RFC 5626, RFC 5627).
            next_hop: An outbound proxy; see send().
            outbound_proxies: Several of them, in place of `next_hop`. Each gets a flow of its own,
                so one of them can fail (RFC 5626 §4.2). They need `instance`.
            public_contact: Register the address at which the first hop sees us by UDP, for a
                registrar that does not help clients behind NATs.
            listener: The listener by which REGISTER leaves; see send().
            on_change: Called with the Registration after each change of `registered`, `refused`
                or `ended`, in a greenlet of its own.
            headers: Header fields of each REGISTER.

        Raises:
            InvalidValue: A URI, a time or a header field is wrong.
            TransactionStateError: The stack is not running.
        """
        check_way(next_hop, listener)
        if on_change is not None:
            arguments.takes(on_change, ("registration",), "on_change")
        registration = Registration(
            self,
            aor,
            credentials=credentials,
            contact=contact,
            expires=expires,
            registrar=registrar,
            instance=instance,
            next_hop=next_hop,
            listener=listener,
            on_change=on_change,
            headers=headers,
            outbound_proxies=outbound_proxies,
            public_contact=public_contact,
        )
        registration._start()
        return registration

    def refer(
        self: Registering,
        uri: URI | str,
        target: URI | str | Call,
        *,
        subscribe: bool = True,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        credentials: Given | None = None,
        **headers: Any,
    ) -> None:
        """Ask a peer to call somebody, by a REFER outside a call, and wait for the outcome (RFC
        3515).

            stack.refer("sip:desk@example.com", "sip:bob@example.com")

        The arguments that are not below are those of request().

        Args:
            uri: The peer, such as the phone of the user that clicks.
            target: The URI to call, or a call of this program. The peer then calls the peer of that
                call, and takes our place in it (RFC 5589 §7.3).
            subscribe: False asks the peer to send no NOTIFY (RFC 4488). Then this method returns
                when the peer has accepted.
            timeout: Seconds to wait for the outcome. None waits until the peer has sent no report
                for 180 seconds, or for another time that it grants in its reports.
            on_progress: Called with what the peer tells: a Fragment with `status` and `reason`.
            headers: Header fields of the REFER, such as `target_dialog` (RFC 4538).

        Raises:
            Reject: The peer refuses, or has not reached the target.
            TransactionTimeout: The outcome is not known in time, or the peer tells nothing.
            TransportError, Cancelled: As for request().
            InvalidValue: The target is no URI.
        """
        timeout = check_wait(timeout, on_progress)
        check_way(next_hop, listener)
        if not arguments.flag("subscribe", subscribe):
            headers.setdefault("refer_sub", "false")
        request = Request("REFER", uri, refer_to=refer_to(target), **headers)
        retry = None if credentials is None else _retry_of(self.keyring, credentials, False)
        refer(self, request, next_hop, listener, retry, timeout, on_progress)


def _retry_of(own: Keyring | None, credentials: Given | None, follow_redirects: bool) -> Retry:
    """Return how a request is tried again: with its credentials, or else those of the stack."""
    arguments.flag("follow_redirects", follow_redirects)
    given = keyring(credentials)
    return Retry(own if given is None else given, follow_redirects=follow_redirects)


def _hold(begun: Call | Subscription) -> None:
    """Note that the core which runs in this greenlet, if any, holds what it has begun."""
    serving = getattr(gevent.getcurrent(), "serving", None)
    if serving is not None and begun.end is None:
        serving._hold(begun)
