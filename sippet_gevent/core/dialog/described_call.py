"""DescribedCall: a call with its session, which offers and answers agree on, RFC 3264.

It connects what an application asks for with offer_answer.py, late_offer.py and renegotiation.py.
The messages are those of invite.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from ...arguments import seconds as check_seconds
from ...errors import ParseError, Reject, TransactionStateError
from ...message.address import NameAddr
from ...message.body import Part
from ...message.message import Message, Request, Response
from ...message.sdp import SDP, MediaStream
from ...runtime.clock import Clock
from ..client.transaction import ClientTransaction
from ..element import Element, InvitingRequest, ServedRequest
from .answer import Answer
from .call import SESSION_TYPE, BridgedLeg, Call, OnOffer
from .connected_identity import change_identity
from .end import End
from .events import CallEvent
from .glare import Pending, must_wait
from .late_offer import LateOffer, answer_in_ack, answer_in_prack
from .media import Media
from .negotiation import ACK, ASKED, Means
from .offer_answer import (
    OfferAnswer,
    check_media,
    check_on_offer,
    media_address,
    parsed,
)
from .renegotiation import change_hold, change_session, restore
from .rule import Session
from .state import DialogState
from .terms import Terms

_THEIRS = {"INVITE": Pending.THEIR_INVITE, "UPDATE": Pending.THEIR_UPDATE}

_AGREED = {
    Pending.OUR_INVITE: Pending.OUR_AGREED_INVITE,
    Pending.THEIR_INVITE: Pending.THEIR_AGREED_INVITE,
}

NO_ANSWER = End("us", "no answer")
"""The end of a call whose peer has sent no answer that can be used."""


class DescribedCall(Call):
    """A call with its session.

    Args:
        clock: The clock of the stack.
        dialog: The dialog.
        terms: What the application wants of the session, if it has said so already.
    """

    stack: Element
    dialog: DialogState
    invite: Request
    is_caller: bool
    _serving: tuple[ServedRequest, ...]
    _reinvite: InvitingRequest | None
    _update: ClientTransaction | None
    _answer: Answer | None

    leg: BridgedLeg | None = None
    """The side of a bridge that holds this call, if any."""

    def __init__(self, clock: Clock, dialog: DialogState, terms: Terms | None) -> None:
        super().__init__(clock, dialog)
        self.offers = OfferAnswer(self)
        self._late: LateOffer | None = None
        self._accepted_by: Response | None = None
        if terms is not None:
            self.offers.media = terms.media
            self.offers.on_offer = terms.on_offer
            if terms.leg is not None:
                terms.leg.begins(self)

    # ---- for applications

    @property
    def local_body(self) -> bytes:
        return self.offers.local_body

    @property
    def local_type(self) -> str:
        return self.offers.local_type

    @property
    def remote_body(self) -> bytes:
        return self.offers.remote_body

    @property
    def local_sdp(self) -> SDP | None:
        return parsed(self.offers.local_body)

    @property
    def remote_sdp(self) -> SDP | None:
        return parsed(self.offers.remote_body)

    @property
    def offer(self) -> SDP | None:
        return parsed(self.offers.offer) if self.offers.owes_answer else None

    @property
    def on_offer(self) -> OnOffer | None:
        return self.offers.on_offer

    @on_offer.setter
    def on_offer(self, on_offer: OnOffer | None) -> None:
        self.offers.on_offer = check_on_offer(on_offer, "call.on_offer = function")

    @property
    def is_held(self) -> bool:
        return self.offers.media is not None and self.offers.media.is_held

    def answer(
        self, *, media: Sequence[MediaStream] | None = None, body: bytes | str | SDP = b""
    ) -> None:
        check_media(media, body)
        late = self._late
        if late is None:
            raise TransactionStateError("no offer of the peer waits for an answer")
        if media is not None:
            self.offers.media = Media(media, self._media_address)
            try:
                body = self.offers.answer()
            except BaseException:
                self.offers.media = None
                raise
        elif not body:
            raise TypeError(
                "answer() needs media or body: write media=[stream], or body=bytes(sdp)"
            )
        self._send_ack(late.invite, self.offers.decided(body))

    def hold(self, *, timeout: float | None = None) -> None:
        change_hold(self, held=True, timeout=check_seconds("timeout", timeout))

    def resume(self, *, timeout: float | None = None) -> None:
        change_hold(self, held=False, timeout=check_seconds("timeout", timeout))

    def identify(self, identity: NameAddr | str, *, timeout: float | None = None) -> bool:
        timeout = check_seconds("timeout", timeout)
        peers = self._accepted_by if self.is_caller else self.invite
        method = change_identity(cast(Session, self), peers, identity)
        if method is not None:
            change_session(self, method, None, b"", timeout, {})
        return method is not None

    def reinvite(
        self,
        *,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        timeout: float | None = None,
        **headers: Any,
    ) -> Response:
        timeout = check_seconds("timeout", timeout)
        return change_session(self, "INVITE", media, body, timeout, headers)

    def update(
        self,
        *,
        media: Sequence[MediaStream] | None = None,
        body: bytes | str = b"",
        timeout: float | None = None,
        **headers: Any,
    ) -> Response:
        timeout = check_seconds("timeout", timeout)
        return change_session(self, "UPDATE", media, body, timeout, headers)

    # ---- for the session

    @property
    def _media_address(self) -> str:
        return media_address(self.invite.flow)  # type: ignore[arg-type]  # it was sent or received

    def _describe(self, media: Media | None, *, may_offer: bool = True) -> bytes:
        return self.offers.describe(media, may_offer=may_offer)

    @property
    def _owes_offer(self) -> bool:
        """True while an INVITE of the peer without an offer waits for ours (§13.2.1)."""
        return self.offers.state == ASKED

    def _changed(self, kind: str) -> None:
        """Tell that the peer has held or resumed the call, "hold" or "resume"."""
        self.tell(CallEvent(kind))

    def tell(self, event: CallEvent) -> None:
        self.stack.dialogs.events_dropped += self._events().put(event)

    def wait_for_ack(self) -> bool:
        self._inbox.wait(lambda: self.acknowledged or self.end is not None)
        return self.end is None

    def _take_answer(self, carrier: str, message: Message) -> None:
        """Note the 2xx or the ACK of the peer, which may have the answer to our offer.

        If the call made the offer, and no answer can be read, the call ends: it has no session. So
        it does if an offer in the 2xx cannot be read, which the ACK cannot answer (§13.2.2.4). An
        application that gives bytes judges those of the peer by itself.
        """
        offers = self.offers
        if isinstance(message, Response):
            self._accepted_by = message
        means = offers.take(carrier, message)
        media = offers.media
        is_unreadable = (
            means is Means.OFFER
            and (media is not None or offers.on_offer is not None)
            and parsed(offers.offer) is None
        )
        if offers.is_relayed or (not is_unreadable and (media is None or media.is_derived)):
            return
        if (
            is_unreadable
            or means is Means.NO_ANSWER
            or means is Means.NO_OFFER
            or (means is Means.ANSWER and parsed(offers.remote) is None)
        ):
            fault = ParseError(
                f"no session description that can be read in {carrier}",
                header="SDP", status=502, source=message.body,
            )  # fmt: skip
            self.dialog.fault = self.dialog.fault or fault
            self._fail(fault, NO_ANSWER)

    def _check_type(self, request: Request) -> None:
        """Refuse a body that is no session description. Raises Reject."""
        if request.body != self.remote_body and Part.of(request).not_understood(SESSION_TYPE):
            raise Reject(415, accept=SESSION_TYPE)  # §8.2.3

    @abstractmethod
    def _fail(self, fault: BaseException, end: End) -> None:
        """End the call, because the peer has broken a rule. Our ACK precedes the BYE."""

    def answer_to(self, response: Response) -> bytes:
        self.dialog.refresh_from(response)  # and its PRACK goes to the new target (RFC 6141 §4.7)
        return answer_in_prack(self, response)

    def _acknowledge(self, invite: Request) -> None:
        """Send the ACK to a 2xx, with our answer if the 2xx has an offer (§13.2.1)."""
        body = answer_in_ack(self, invite)
        if body is not None:
            self._send_ack(invite, body)

    def _send_ack(self, invite: Request, body: bytes = b"") -> None:
        self._late = None
        if self.offers.owes_answer_in(ACK):
            body = self.offers.continued(body)
            self.offers.sent(ACK, body)
        self.dialog.acknowledge(invite, body, self.offers.local_type)
        self._acknowledged()

    @abstractmethod
    def _acknowledged(self) -> None:
        """Continue after our ACK."""

    def refuse_late_offer(self) -> None:
        """Send the ACK that waits for the application, with an answer that accepts no stream."""
        if self._late is not None:
            self._send_ack(self._late.invite, self.offers.refused_offer(self._media_address))

    def _undone(self) -> None:
        """Offer the session as it was, after a refused INVITE whose changes had been made."""
        if self.end is None:
            # it waits for the answer, and this is the greenlet of the refusal
            self.stack.callbacks.spawn(restore, self)

    # ---- glare

    def _pending(self) -> set[Pending]:
        """Return the INVITE and UPDATE transactions that others have to wait for."""
        serving = [tx.request.method for tx in self._serving if not tx.answered]
        pending = {_THEIRS[method] for method in serving if method in _THEIRS}
        if self._reinvite is not None and self._reinvite.is_pending:
            pending.add(Pending.OUR_INVITE)
        if self.offers.may_offer:  # a response before the 2xx has ended the exchange
            pending = {_AGREED.get(each, each) for each in pending}
        if self._update is not None and self._update.is_pending:
            has_offer = bool(self._update.request.body)
            pending.add(Pending.OUR_UPDATE if has_offer else Pending.OUR_REFRESH)
        if self._answer is not None and self._answer.is_offer:
            pending.add(Pending.OUR_OFFER)
        return pending

    def _collides(self, method: str, has_offer: bool) -> bool:
        """True when an INVITE or UPDATE of ours would collide with another one."""
        return must_wait(method, has_offer, self._pending(), acknowledged=self.acknowledged)
