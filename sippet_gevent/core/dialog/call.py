"""Call: an answered INVITE, as an application holds it, RFC 3261 §13 to §15.

It is longer than other files, because its public methods are documented here.

This file has no protocol. Each call is an `InviteSession` of invite.py, which has the methods that
send something. The two are apart because that class imports transactions, and transactions name the
call that they made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from gevent.event import Event

from ...arguments import function, takes
from ...arguments import seconds as check_seconds
from ...errors import Reject
from ...message.address import NameAddr
from ...message.message import Request, Response
from ...message.sdp import SDP, MediaStream
from ...message.sipfrag import Fragment
from ...message.uri import URI
from ...runtime.clock import Clock
from ...transport.base import Flow, Origin
from ..auth.credentials import Given, Kept
from ..b2bua.policy import BridgePolicy
from ..b2bua.relay import MediaRelay
from ..inbox import Inbox, Waitable
from .dialog import Dialog
from .dtmf import PLAIN, RELAY, SECONDS, check_digits, relay
from .end import Bridged, End
from .events import CallEvent, EventQueue
from .handlers import ReinviteCore
from .media import Media

SESSION_TYPE = "application/sdp"
"""Content-Type of a session description that comes without one (§13.2.1)."""

OnOffer = Callable[[SDP | None, Any], SDP | bytes | str | None]
"""A callable that decides about offers of session descriptions, `on_offer(offer, call)`.

It returns the answer. If the peer asks for an offer of ours, `offer` is None, and it returns that
offer. None leaves the decision to the call. Reject(488) refuses the offer. The type of `call` is
Any, because the class Call names this callable.
"""

OnProvisional = Callable[[Response], object]
"""A callable that gets each provisional response to a request."""

OnProgress = Callable[[Fragment], object]
"""A callable that gets the lines in which the peer tells how a transfer goes on."""


MayReplace = Callable[[Request, Any], bool]
"""A function of (request, call) which decides if an INVITE may replace a call, or join it, or if a
REFER that a bridge carries out may replace it. `call` is a Call, which is described below."""


class Flag(Waitable, Protocol):
    """What gevent's Event is, with types: it is set once, and greenlets wait for it."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class BridgedLeg(Protocol):
    """One side of a bridge, as its call sees it: a Leg of core/b2bua."""

    def begins(self, call: Any) -> None:
        """Take a call that begins, early or not. The type of `call` is Any, because the class Call
        names this protocol."""

    def left_by(self, bye: Request) -> None:
        """Note the BYE of the peer, whose header fields the other leg gets."""


class Held(Protocol):
    """A call or a subscription that a core has begun, and may wait for after its answer."""

    _holder: Holder | None
    """The request whose core holds it, until it ends or the core returns."""

    def _core_returned(self) -> None:
        """Note that the core has returned, and this has not ended."""


class Holder(Protocol):
    """The request whose core holds calls and subscriptions. That core does not count toward the
    handler limit, and is not overdue."""

    def _release(self, held: Held) -> None:
        """Note that a call or subscription has ended."""


Self = TypeVar("Self", bound="Call")

_NONE: dict[str, ReinviteCore] = {}


class Call(ABC):
    """One call: an INVITE that was answered with 2xx.

    Leaving a `with call:` block hangs up:

        with tx.accept(body=answer) as call:
            call.wait(30)

    `ended` is set when the call has ended, and `end` then says which side has ended it, and why.
    `invite` is the INVITE that has begun it, `response` the 2xx that has answered it, and `dialog`
    has the tags and the remote target.

    The call answers a BYE with 200. It answers the peer's re-INVITEs and UPDATEs:

    | the peer | answer |
    |---|---|
    | holds or resumes the call | 200 with the direction that follows (RFC 3264 §6.1) |
    | sends the same description again, with a higher version or not | 200 with ours |
    | changes codecs or streams | 200, within `media` or within what was agreed |
    | moves its media to another address | 200 with `media`; 488 with `body` |
    | asks for an offer by a re-INVITE without one | 200 with what we have (RFC 6337 §5.2.5) |
    | offers nothing that we can accept | 488, and the session is as it was (§14.2) |

    An application decides about offers by `on_offer`, or serves re-INVITEs and UPDATEs whole by
    `on_reinvite`. Other requests within the call go to `handlers`, or else to the stack's core,
    with `tx.call` set. Digits are events(), and so are requests that none of them serves. No core
    sees a request that is refused for its CSeq, for an extension that it requires, or because of
    glare (glare.py).

    Our requests go along the route set to the remote target, the Contact of the peer's last target
    refresh that was accepted (§12.2.1.1). Without a route set they go by a flow in two cases.
    Either the peer is reached by that flow alone (RFC 5626 §5.3, RFC 7118 §5), or its Contact seems
    unreachable, as behind NAT; see reach_of(). Each target refresh decides again. If it names a new
    Contact, our requests go to the new Contact, even if the peer uses rport, because RFC 3581 §4 is
    about responses alone.
    """

    dialog: Dialog
    """Tags, route set, remote target and sequence numbers."""

    kept_credentials: Kept | None = None
    """The credentials of the INVITE that began the call. Our later ones in it have them, too."""

    end: End | None
    """How the call has ended: side, cause, status and Reason. None before."""

    invite: Request
    """The INVITE that has begun the call, ours or the peer's."""

    response: Response | None = None
    """The 2xx that has answered it, the peer's or ours. None while the call is early."""

    is_confirmed: bool
    """True once the INVITE was answered with 2xx; false while the call is early (§12)."""

    handlers: dict[str, ReinviteCore]
    """Cores for requests within the call by method, `core(request, tx)`. They come before the core
    of the stack. Give them to accept() or invite(), so that each request finds them."""

    acknowledged: bool
    """True after the ACK to the last 2xx was received or sent, or after the wait for it has
    ended."""

    def __init__(self, clock: Clock, dialog: Dialog) -> None:
        self.dialog = dialog
        self.end = None
        self._ended: Flag | None = None
        self.acknowledged = False
        self.handlers = _NONE
        self._on_reinvite: ReinviteCore | None = None
        self._queue: EventQueue | None = None
        self._inbox: Inbox[None] = Inbox(clock)
        self._holder: Holder | None = None
        self._waits = False
        """True once the core has called wait(), so it does not read events."""
        self._keeps_alive = False
        """True when a flow is pinged until the call ends (RFC 6223 §4.2.3). Other calls may have
        the same Call-ID."""

    @property
    def ended(self) -> Flag:
        """Set when the call has ended. `end` tells the same without an object to wait for."""
        flag = self._ended
        if flag is None:  # made when it is asked for: many calls ring, and few are waited for
            flag = self._ended = Event()
            if self.end is not None:
                flag.set()
        return flag

    @property
    @abstractmethod
    def flow(self) -> Flow | None:
        """The flow of the call, if it is the only way to the peer (RFC 5626 §5.3); else None."""

    @flow.setter
    @abstractmethod
    def flow(self, flow: Flow | None) -> None: ...

    @property
    @abstractmethod
    def origin(self) -> Origin | None:
        """The listener at which the dialog began. Our requests leave by it, if it reaches their
        target."""

    # ---- the session

    @property
    @abstractmethod
    def local_body(self) -> bytes:
        """Our session description that was agreed last, or else the one that we offer."""

    @property
    @abstractmethod
    def local_type(self) -> str:
        """The Content-Type of `local_body`."""

    @property
    @abstractmethod
    def remote_body(self) -> bytes:
        """The peer's session description that was agreed last, or else its offer or preview."""

    @property
    @abstractmethod
    def local_sdp(self) -> SDP | None:
        """`local_body`, parsed. None if it is no session description."""

    @property
    @abstractmethod
    def remote_sdp(self) -> SDP | None:
        """`remote_body`, parsed. None if it is no session description."""

    @property
    @abstractmethod
    def offer(self) -> SDP | None:
        """The peer's offer that waits for our answer; None if there is none."""

    @property
    @abstractmethod
    def is_held(self) -> bool:
        """True from hold() to resume()."""

    @property
    @abstractmethod
    def on_offer(self) -> OnOffer | None:
        """Decides about the peer's offers, `on_offer(offer, call)`.

            def on_offer(offer, call):
                if offer is None:            # the peer asks for an offer
                    return call.local_sdp
                return sdp.answer(offer, [AUDIO], previous=call.local_sdp)

        It returns an SDP or bytes, our answer or our offer. None leaves the decision to the call,
        and Reject(488) refuses the offer. An offer in a 2xx cannot be refused. Reject ends the call
        then. An UPDATE needs its answer soon, so do not ask anybody first (RFC 3311 §5.2).

        Raises:
            TypeError: The value is no callable of (offer, call).
        """

    @on_offer.setter
    @abstractmethod
    def on_offer(self, on_offer: OnOffer | None) -> None: ...

    @abstractmethod
    def answer(
        self, *, media: Sequence[MediaStream] | None = None, body: bytes | str | SDP = b""
    ) -> None:
        """Answer the offer in the 2xx to our INVITE, which had none, and send the ACK (§13.2.1).

            call = stack.invite("sip:bob@example.com")
            call.answer(media=[AUDIO])

        Leaving the call without an answer refuses all streams and hangs up. So does the call after
        64*T1, because the peer gives up then.

        Args:
            media: The streams that we accept.
            body: The answer, in place of `media`.

        Raises:
            TransactionStateError: No offer waits.
            Reject: 488, because no stream can be accepted. The offer still waits.
        """

    @abstractmethod
    def hold(self, *, timeout: float | None = None) -> None:
        """Hold the call by a re-INVITE: we receive nothing until resume() (RFC 3264 §8.4).

        Does nothing if a call with `media` is held already. If our request meets one of the peer's,
        it is sent once more after a random time (§14.1).

        Args:
            timeout: Seconds to wait for the final response. None waits as long as the transaction.

        Raises:
            Reject: The peer has refused. The session is as it was.
            TransactionStateError: The call has ended, or another INVITE or UPDATE is under way.
            TransactionTimeout: No final response came in time.
            TransportError: Nothing could be sent.
        """

    @abstractmethod
    def resume(self, *, timeout: float | None = None) -> None:
        """Resume a call that hold() has held. The argument and exceptions are those of hold()."""

    @abstractmethod
    def reinvite(
        self,
        *,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        timeout: float | None = None,
        **headers: Any,
    ) -> Response:
        """Change the session by a re-INVITE, and return its 2xx (§14.1).

        Without `media` and `body` it refreshes the session and the remote target.

        Args:
            media: The streams that we offer from now on, in place of all others.
            body: The offer, in place of `media`. If it changes the session, but its o= line is not
                that of our last description with a higher version, it gets that (RFC 3264 §8).
            timeout: Seconds to wait for the final response.
            headers: Header fields, by attribute name.

        Raises:
            Reject, TransactionStateError, TransactionTimeout, TransportError: As hold() does.
            TypeError: Both `media` and `body` are given.
        """

    @abstractmethod
    def update(
        self,
        *,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        timeout: float | None = None,
        **headers: Any,
    ) -> Response:
        """Change the session by an UPDATE, and return its 2xx (RFC 3311).

        Without `media` and `body` it has no offer, and refreshes the remote target. The arguments
        and exceptions are those of reinvite(). A peer without UPDATE refuses it with 405 or 501.
        """

    # ---- identities

    @property
    def remote_identity(self) -> NameAddr:
        """The address of the peer, as it told it last: From or To of the INVITE, or the From of its
        re-INVITE or UPDATE since then (RFC 4916). Nothing proves it."""
        remote = self.dialog.remote
        return NameAddr(remote.uri, remote.display)

    @property
    def local_identity(self) -> NameAddr:
        """Our address, as our requests tell it."""
        local = self.dialog.local
        return NameAddr(local.uri, local.display)

    @abstractmethod
    def identify(self, identity: NameAddr | str, *, timeout: float | None = None) -> bool:
        """Tell the peer another identity, such as that of the user that a call was transferred to
        (RFC 4916 §4.3).

            call.identify("Sales <sip:sales@example.com>")

        The identity is the From of an UPDATE, or of a re-INVITE to a peer without UPDATE, and of
        all our later requests. A stack that lists `from-change` in `supported` also tells its
        identity after each INVITE that it answers, and peers may tell theirs. An identity of the
        peer is an event of kind `identity`.

        Args:
            identity: The new identity.
            timeout: Seconds to wait for the final response.

        Returns:
            False if the peer does not list `from-change` in its Supported. Nothing was changed.

        Raises:
            InvalidValue: The identity is no address.
            Reject: The peer has refused it.
            TransactionTimeout, TransportError, TransactionStateError, Cancelled: As for request().
        """

    # ---- requests

    @property
    def on_reinvite(self) -> ReinviteCore | None:
        """The core that serves the peer's re-INVITEs, `on_reinvite(request, tx)`. If there is one,
        UPDATEs go to the core of the stack. So do they if `@stack.on("UPDATE")` has a function.

        Raises:
            TypeError: The value is no callable of (request, tx).
        """
        return self._on_reinvite

    @on_reinvite.setter
    def on_reinvite(self, core: ReinviteCore | None) -> None:
        if function("on_reinvite", core, "call.on_reinvite = core") is not None:
            takes(core, ("request", "tx"), "on_reinvite")
        self._on_reinvite = core

    def wait(self, seconds: float | None = None, *, until: Waitable | None = None) -> bool:
        """Wait until the call has ended, for at most `seconds`.

            agent_is_free = gevent.event.Event()
            if call.wait(600, until=agent_is_free):
                return  # the caller has hung up

        Args:
            seconds: How long; None waits until the call has ended.
            until: What ends the wait early: an Event, an AsyncResult or a greenlet of gevent.

        Returns:
            True when the call has ended. False when the time is up, or `until` is ready and the
            call has not ended.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
            TypeError: `until` is no such object.
        """
        if seconds is not None:
            seconds = check_seconds("seconds", seconds)
        if self._queue is not None:
            self._queue.decline()
        self._waits = True
        if until is None:
            return self._inbox.wait(partial(getattr, self, "end"), seconds)
        self._inbox.wait_until(until, seconds, partial(getattr, self, "end"))
        return self.end is not None

    def events(self, timeout: float | None = None) -> Iterator[CallEvent]:
        """Return an iterator over what happens in the call: digits, requests, and its end.

            for event in call.events(timeout=30):
                if event.digit == "1":
                    return play(call)

        Events that came before the first loop are kept, and come first. The last one is of kind
        `end`. Loops may follow each other, as in a menu, but only one runs at a time.

        Args:
            timeout: Seconds to wait for the next event. The loop ends when none comes in time.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
        """
        return self._events().read(check_seconds("timeout", timeout))

    def _events(self) -> EventQueue:
        if self._queue is None:
            self._queue = EventQueue(self._inbox, self.end)
            if self._waits:
                self._queue.is_read = False
        return self._queue

    def send_digits(self, digits: str, *, seconds: float = SECONDS, pause: float = 0.1) -> None:
        """Send digits by INFO, one after the other, each after the response to the one before.

        The first is sent as application/dtmf-relay. If the peer does not understand that (415), all
        are sent as application/dtmf.

            call.send_digits("12#")

        Args:
            digits: 0 to 9, `*`, `#` and A to D.
            seconds: How long each is pressed, as the peer is told.
            pause: Seconds between two digits.

        Raises:
            InvalidValue: A character is no digit.
            Reject: The peer has refused a digit.
            TransactionTimeout, TransportError, TransactionStateError, Cancelled: As for request().
        """
        kind = RELAY
        for place, digit in enumerate(check_digits(digits)):
            if place:
                self._inbox.wait(self.ended.is_set, check_seconds("pause", pause))
            body = relay(digit, seconds) if kind is RELAY else digit
            response = self.request("INFO", body=body, content_type=kind)
            if response.status == 415 and kind is RELAY:
                kind = PLAIN
                response = self.request("INFO", body=digit, content_type=kind)
            if not response.is_success:
                raise Reject(response.status, response.reason, response=response)

    @abstractmethod
    def request(
        self,
        method: str,
        *,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        credentials: Given | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request within the call and return its final response (§12.2.1).

        A re-INVITE that is answered with 2xx is acknowledged (§14.1). A 408, a 481 or a missing
        final response ends the call (§12.2.1.2).

            call.request("INFO", body="Signal=5", content_type="application/dtmf-relay")

        Args:
            method: The method.
            timeout: Seconds to wait for the final response.
            on_provisional: Called with each provisional response.
            credentials: Credentials in place of those of the INVITE that began the call.
            body: The body.
            headers: Header fields, by attribute name.

        Raises:
            InvalidValue: The method is ACK or CANCEL, which the call sends by itself.
            TransactionStateError: The call has ended, or an INVITE or UPDATE has to wait for
                another one.
            TransactionTimeout: No final response came in time.
            TransportError: Nothing could be sent.
            Cancelled: The request that this greenlet serves was cancelled.
        """

    @abstractmethod
    def transfer(
        self,
        target: URI | str | Call,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        subscribe: bool = True,
        **headers: Any,
    ) -> None:
        """Ask the peer to call somebody else, and wait for the outcome (RFC 3515, RFC 5589).

        After a transfer, hang up. If it fails, the call goes on.

            call.transfer("sip:sales@example.com")

        With another call as target, the two peers are connected to each other, and that other call
        ends (attended transfer):

            call.transfer(consultation)

        What the peer tells meanwhile are events() of kind `progress`, too.

        Args:
            target: The URI to call, or another call of this program.
            timeout: Seconds to wait for the outcome. None waits until the peer has sent no report
                for 180 seconds, or for another time that it grants in its reports.
            on_progress: Called with what the peer tells: a Fragment with `status` and `reason`.
            subscribe: False asks the peer to tell nothing (RFC 4488). Then this method returns when
                the peer has accepted.
            headers: Header fields of the REFER.

        Raises:
            Reject: The peer refuses, or has not reached the target.
            TransactionStateError: The call has ended.
            TransactionTimeout: The outcome is not known in time. The call goes on.
            TransportError: Nothing could be sent.
            Cancelled: The request that this greenlet serves was cancelled.
            InvalidValue: The target is no URI.
        """

    @abstractmethod
    def bridge(
        self, other: Call, *, policy: BridgePolicy | None = None, media: MediaRelay | None = None
    ) -> Bridged:
        """Connect the peers of two answered calls, and wait until both calls have ended (RFC 3725).

            alice = stack.invite("sip:alice@example.com", body=nothing)
            bob = stack.invite("sip:bob@example.com")
            alice.bridge(bob)

        The sessions are connected by re-INVITEs, see core/b2bua/third_party.py. Later requests and
        the end of one call are passed on to the other, as by bridge().

        Args:
            other: The other call.
            policy: Which header fields cross, and whether the bridge carries out a REFER.
            media: What relays the media, such as an RTPEngine.

        Returns:
            How both calls have ended: this one as `caller`, the other as `callee`.

        Raises:
            Reject: A peer has refused the session of the other. Both calls are hung up, as they
                are after each exception.
            TransactionStateError: A call has ended, or is bridged already.
            TransactionTimeout, TransportError, Cancelled: As for reinvite().
        """

    @abstractmethod
    def hangup(self, **headers: Any) -> None:
        """End the call with a BYE that has these `headers`. Does nothing if the call has ended.

        This method does not wait for the response to the BYE (§15.1.1). The BYE is sent after the
        ACK to the 2xx, or after the wait for that ACK has timed out (§15).

        Raises:
            InvalidValue: A header field cannot be sent.
        """

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hangup()

    def __repr__(self) -> str:
        return f"<Call {self.dialog!r}{' ended' if self.end is not None else ''}>"

    # ---- for transactions, in invite.py

    @abstractmethod
    def _wait_for_ack(self) -> None: ...

    @abstractmethod
    def _provisional(self, response: Response) -> bool: ...

    @abstractmethod
    def _hold(self, response: Response) -> None: ...

    @abstractmethod
    def _accepted(self, request: Request, response: Response) -> None: ...

    @abstractmethod
    def _acknowledge(self, invite: Request) -> None: ...

    @abstractmethod
    def _transaction_ended(self, tx: object) -> None: ...

    @abstractmethod
    def _core_returned(self) -> None: ...

    @abstractmethod
    def _finish_early(self, end: End) -> None: ...

    @property
    @abstractmethod
    def _owes_offer(self) -> bool: ...

    @abstractmethod
    def _describe(self, media: Media | None, *, may_offer: bool = True) -> bytes: ...

    @abstractmethod
    def _refused(self, request: Request, status: int) -> None: ...

    @abstractmethod
    def _responding(self, request: Request, response: Response) -> None: ...

    @abstractmethod
    def _refreshed(self, update: Request, response: Response, *, by_us: bool) -> None: ...
