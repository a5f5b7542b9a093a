"""OfferAnswer: the session of a call, as its messages agree on it, RFC 3264, RFC 3261 §13 and §14.

It knows which messages carry offers and answers (negotiation.py), and what to offer and answer
(media.py). The INVITE session shows it each message.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from ...arguments import function, takes
from ...errors import ParseError, Reject, excerpt
from ...message import sdp
from ...message.fields.rfc3261 import Warning as SIPWarning
from ...message.message import Message, Request, Response
from ...message.sdp import SDP, MediaStream
from ...transport.base import Flow
from ..routing.sips import AGENT
from .call import SESSION_TYPE, OnOffer
from .description import description_of, type_of
from .media import Media, fits, is_hold, keep, successor
from .negotiation import (
    ACCEPTED,
    ASKED,
    INVITE,
    OFFERED,
    PRACK,
    PRACK_ACCEPTED,
    RELIABLE,
    UNRELIABLE,
    UPDATE,
    UPDATE_ACCEPTED,
    Means,
    Negotiation,
    continuing,
    following,
    same_session,
)

_ACCEPTS = {INVITE: ACCEPTED, UPDATE: UPDATE_ACCEPTED}

CANNOT_CHANGE = SIPWarning(399, AGENT, "The Session Cannot Be Changed")
"""The Warning of a 488 to an offer (§14.2)."""


def carrier_of(response: Response) -> str:
    """Return what a response to an INVITE is, for Negotiation."""
    if response.status >= 200:
        return ACCEPTED
    return RELIABLE if is_reliable(response) else UNRELIABLE


def is_reliable(response: Response) -> bool:
    """True for a provisional response that a PRACK acknowledges: it requires 100rel, and its RSeq
    can be read (RFC 3262 §3, §4)."""
    fields = response.headers.fields
    if "RSeq" not in fields or "Require" not in fields:
        return False
    try:
        return response.rseq is not None and any(
            tag.lower() == "100rel" for tag in response.require
        )
    except ParseError:
        return False


def media_address(flow: Flow) -> str:
    """Return the address of ours that the peer of a flow sees, without brackets."""
    host, _ = flow.sent_by
    return host.strip("[]")


def parsed(description: bytes) -> SDP | None:
    """Return a description, None if there is none or it cannot be read."""
    try:
        return SDP.parse(description) if description else None
    except ParseError:
        return None


def as_bytes(description: SDP | bytes | str) -> bytes:
    """Return what `on_offer` has decided as bytes. Raises TypeError."""
    if isinstance(description, SDP):
        return bytes(description)
    if isinstance(description, str):
        return description.encode()
    if isinstance(description, bytes):
        return description
    raise TypeError(
        f"on_offer must return an SDP, bytes or None, got {excerpt(description)}: "
        "write return sdp.answer(offer, [stream])"
    )


def check_on_offer(on_offer: OnOffer | None, write: str) -> OnOffer | None:
    """Check the argument `on_offer`. Raises TypeError."""
    if function("on_offer", on_offer, write) is not None:
        takes(on_offer, ("offer", "call"), "on_offer")
    return on_offer


def check_media(media: Sequence[MediaStream] | None, body: bytes | str | SDP) -> None:
    """Check the argument `media`. Raises TypeError."""
    if media is not None:
        if body:
            raise TypeError("media and body were given: write media=[stream], or body=bytes(sdp)")
        Media(media)


class Described(Protocol):
    """The call that a session belongs to."""

    def _changed(self, kind: str) -> None:
        """Tell that the peer has held or resumed the call, "hold" or "resume"."""


class OfferAnswer(Negotiation):
    """The session of a call.

    Args:
        call: The call.
    """

    __slots__ = (
        "_invite", "_made", "_pending", "accepted", "call", "is_relayed", "local_type", "media",
        "on_offer",
    )  # fmt: skip

    def __init__(self, call: Described) -> None:
        super().__init__()
        self.call: Described | None = call
        """The call; None after its end."""
        self.media: Media | None = None
        """What we offer and accept; None until it is needed, if the application gave bytes."""
        self.on_offer: OnOffer | None = None
        self.accepted: tuple[str, Callable[[], None] | None] | None = None
        """The message that would accept a change which we have sent, and what is to be done
        then."""
        self.is_relayed = False
        """True for a bridged call, whose descriptions come from the other side."""
        self.local_type = SESSION_TYPE
        """The Content-Type of our descriptions."""
        self._made = b""  # the last description that was not the application's own
        self._pending: Request | None = None  # the peer's request that has an offer or asks for one
        self._invite: Request | None = None  # the peer's last INVITE, whose refusal undoes much

    # ---- messages

    def give(self, carrier: str, message: Message) -> Means:
        """Note a message that we are about to send. Raises TransactionStateError."""
        description = description_of(message)
        if description and self.last_sent and description not in (self.local, self._made):
            described = self.continued(description)
            if described != description and description in message.body:
                message.body = message.body.replace(description, described)
                description = described
        if description and description != self._made:
            self.local_type = type_of(message)
            if self.media is not None and self.media.is_derived:
                self.media = None  # the application has described the session anew
        before = self.remote
        means = self.sent(carrier, description)
        if before and means is Means.ANSWER:
            self._tell(before)
        return means

    def continued(self, description: bytes) -> bytes:
        """Return a description of the application, or of the other side of a bridge, as our peer
        gets it.

        What is agreed may be repeated. Anything else has an o= line that follows what we have sent
        last; see following() for a bridge, and continuing() for an application.
        """
        if not description or description == self.local:
            return description
        follow = following if self.is_relayed else continuing
        return follow(description, self.last_sent)

    def take(self, carrier: str, message: Message) -> Means:
        """Note a response or an ACK of the peer. A body that cannot be read counts as none."""
        try:
            description = description_of(message)
        except ParseError:
            description = b""
        means = self._take_description(carrier, description)
        if self.accepted is not None and self.accepted[0] == carrier:
            # not when the greenlet runs: a request of the peer may be right behind its 2xx
            (_, agree), self.accepted = self.accepted, None
            if agree is not None:
                agree()
        return means

    def _take_description(self, carrier: str, description: bytes) -> Means:
        before = self.remote
        means = self._take(carrier, description, False)
        if before and means is Means.ANSWER:
            self._tell(before)
        return means

    def take_request(self, request: Request) -> None:
        """Note an INVITE, UPDATE or PRACK of the peer, which `lose` may undo. Raises ParseError."""
        before = self.state
        self._take_description(request.method, description_of(request))
        self._pending = request if self.state != before else None
        if request.method == INVITE:
            self._invite = request

    def check_prack(self, prack: Request) -> None:
        """Refuse a PRACK whose offer would be a second one (RFC 3264 §4, RFC 6337 §2.2).

        One that only repeats the offer which waits is no offer (RFC 6337 §2.4).

        Raises:
            Reject: 491 if our offer waits, or 500 with Retry-After if the peer's does.
            ParseError: The body cannot be read.
        """
        status = None if self.takes_prack else self.refusal(PRACK, has_description=True)
        if status is None or same_session(description_of(prack) or self.offer, self.offer):
            return
        if status == 500:
            raise Reject(500, retry_after=random.randint(0, 10))
        raise Reject(status)

    def lose(self, request: Request) -> None:
        """Note that a request of the peer was refused, unless it was refused before it was
        noted.

        An INVITE may have been answered in a reliable 1xx (RFC 6141 §3.1). A PRACK or UPDATE was
        noted since then.
        """
        if request is self._pending or request is self._invite:
            self._pending = None
            self.failed(request.method)

    def failed(self, carrier: str) -> bool:
        if self.accepted is not None and self.accepted[0] == _ACCEPTS.get(carrier):
            self.accepted = None
        before = self.remote
        changed = super().failed(carrier)
        if changed:
            self._tell(before)  # what the application was told is undone, too (RFC 6141 §3.1)
        return changed

    def _tell(self, before: bytes) -> None:
        """Tell the call that the peer has held or resumed it."""
        if self.call is not None and before and self.remote and before is not self.remote:
            held = is_hold(self.remote)
            if held != is_hold(before):
                self.call._changed("hold" if held else "resume")

    # ---- what we answer and offer

    def response_to(self, request: Request) -> Response:
        """Return the 200 to an INVITE, UPDATE or PRACK of the peer, with our answer or our offer.

        Raises:
            Reject: 488, because the offer cannot be accepted.
        """
        if self.owes_answer and request is self._pending:
            response = self._with(request, self.answer())
            if request.method == PRACK:
                self.give(PRACK_ACCEPTED, response)  # nothing else notes it
            return response
        if request.method == INVITE:
            return self._with(request, self.next_offer())
        return request.response(200)

    def _with(self, request: Request, description: bytes) -> Response:
        return request.response(
            200, body=description, content_type=self.local_type if description else None
        )

    def answer(self) -> bytes:
        """Return the answer to the offer that waits.

        By default, an offer that changes nothing but its o= line gets our description again, unless
        that was an offer of which the peer has accepted only a part.
        Any other gets an answer by the SDP engine. If the application has described the session by
        itself, the engine answers changes of directions and codecs. It refuses other addresses,
        because the application would not send its media there.

        Raises:
            Reject: 488, because it cannot be accepted.
        """
        offer, local = parsed(self.offer), parsed(self.local)
        if self.on_offer is not None and offer is not None:
            decided = self.on_offer(offer, self.call)
            if decided is not None:
                return self.decided(decided)
        if (
            self.local
            and same_session(self.offer, self.remote)
            and (self.local_is_answer or offer is None or local is None or fits(local, offer))
        ):
            return self.local
        media = self._media(local)
        remote = parsed(self.remote)
        if offer is None or media is None or (remote is not None and media.moves(offer, remote)):
            raise Reject(488, warning=(CANNOT_CHANGE,))
        return self._note(media.answer(offer, local), local)

    def next_offer(self) -> bytes:
        """Return the offer that the peer has asked for by an INVITE without one."""
        if self.on_offer is not None:
            decided = self.on_offer(None, self.call)
            if decided is not None:
                return self.decided(decided)
        local = parsed(self.local)
        media = self._media(local)
        if media is None or (local is None and media.is_derived):
            return self.local  # the application's own, such as a body that is no SDP
        return self._note(media.offer(local), local)

    def decided(self, description: SDP | bytes | str) -> bytes:
        """Return a description that the application has decided on as bytes.

        An SDP gets the o= line that follows what we have sent last, because `sdp.answer()` makes a
        new one unless it gets `previous`. Bytes and text keep theirs unless it breaks a rule; see
        continued(). Raises TypeError.
        """
        if isinstance(description, SDP):
            return following(bytes(description), self.last_sent)
        return as_bytes(description)

    def directed(self, *, held: bool) -> bytes:
        """Return an offer that holds or resumes the streams that are agreed.

        Raises:
            Reject: 488, because nothing is agreed that can be held.
        """
        local = parsed(self.local)
        media = self._media(local)
        if media is None or local is None:
            raise Reject(488, warning=(CANNOT_CHANGE,))
        before, media.is_held = media.is_held, held
        try:
            return self._note(media.redirect(local), local)
        finally:
            media.is_held = before

    def describe(self, media: Media | None, *, may_offer: bool = True) -> bytes:
        """Return our description for a response to an INVITE that waits for one.

        It is the preview that we have sent, if there is one, because all descriptions in responses
        to an INVITE are the same (RFC 3261 §13.2.1). It is empty if a reliable 1xx had it.

        Args:
            media: What we offer and accept from now on; None for what was given before.
            may_offer: False for a response that may have an answer only.

        Raises:
            Reject: 488, because the offer cannot be accepted.
        """
        waits = self.state in (OFFERED, ASKED)
        if media is not None:
            self.media = media
            ours = self.preview if waits else self.local_body
            described = parsed(ours)
            if described is not None:
                media.describes(described)
        if not waits or self.preview or self.media is None:
            return self.preview if waits else b""
        if self.state == OFFERED:
            return self.answer()
        return self.next_offer() if may_offer else b""

    def refresh(self) -> bytes:
        """Return an offer of what is agreed, with the directions that we want (RFC 6337 §5.3)."""
        if self.is_relayed:
            return self.local
        local = parsed(self.local)
        media = self._media(local)
        if media is None or local is None:
            return self.local
        return self._note(media.redirect(local), local)

    def restore(self, before: bytes | None = None) -> bytes:
        """Return an offer of what is agreed, after a refused INVITE whose changes were undone.

        Its version follows that of the undone description, which the peer may still use (RFC 6141
        §3.4).

        Args:
            before: What was agreed before a change that the peer has accepted, and that is to be
                undone.
        """
        self._made = following(self.local if before is None else before, self.last_sent)
        return self._made

    def offer_of(self, media: Media) -> bytes:
        """Return an offer of these media, which takes the place of what is agreed."""
        local = parsed(self.local)
        return self._note(media.offer(local), local)

    def _media(self, local: SDP | None) -> Media | None:
        """Return the media of this call; derived from our description, if need be."""
        if self.media is None and local is not None:
            self.media = Media.of(local, parsed(self.remote) if self.local_is_answer else None)
        return self.media

    def _note(self, made: SDP, local: SDP | None) -> bytes:
        if local is not None:
            made = successor(made, local, self.last_sent)
        self._made = bytes(made)
        return self._made

    def kept(self, address: str) -> bytes:
        """Return an answer to the offer that waits which keeps what is agreed, or else refuses."""
        offer, local = parsed(self.offer), parsed(self.local)
        if offer is None or local is None:
            return self.local
        try:
            return self._note(keep(local, offer), local)
        except Reject:
            return self.refused_offer(address)

    def refused_offer(self, address: str) -> bytes:
        """Return an answer that refuses all streams of the offer that waits (RFC 6337 §5.2.4)."""
        offer = parsed(self.offer)
        if offer is None:
            return b""
        return following(bytes(sdp.answer(offer, [], address=address)), self.last_sent)

    # ---- what applications see

    @property
    def local_body(self) -> bytes:
        """Our description: that which was agreed last, or else the one that we offer."""
        return self.local or (self.offer if self.offer_is_ours else b"")

    @property
    def remote_body(self) -> bytes:
        """The peer's description that was agreed last, or else its offer or preview."""
        return self.remote or self.preview or (b"" if self.offer_is_ours else self.offer)
