"""LateOffer: the peer's offer in the 2xx to an INVITE of ours without one, RFC 3261 §13.2.1.

The ACK has the answer. If the call knows what to answer, it answers at once. Otherwise the ACK
waits for `call.answer()`. The peer repeats its 2xx meanwhile, and gives up after 64*T1 (§13.3.1.4).
"""

from __future__ import annotations

from typing import Protocol

import gevent

from ...message.message import Request, Response
from ..element import Element, InvitingRequest
from .end import End
from .negotiation import ACK, PRACK, RELIABLE
from .offer_answer import OfferAnswer, media_address, parsed
from .state import DialogState

NO_OFFER = End("us", "offer not accepted", 488)
"""The end of a call whose peer has offered nothing that can be accepted."""


class Answering(Protocol):
    """The call whose INVITE was answered by an offer."""

    stack: Element
    dialog: DialogState
    end: End | None
    invite: Request
    offers: OfferAnswer
    _late: LateOffer | None
    _reinvite: InvitingRequest | None

    def hangup(self) -> None:
        """End the call. It sends the ACK first."""

    def _fail(self, fault: BaseException, end: End) -> None:
        """End the call. The BYE follows the ACK, which is about to be sent."""


class LateOffer:
    """An offer that waits for `call.answer()`, for 64*T1.

    Args:
        call: The call.
        invite: The INVITE whose 2xx has the offer.
    """

    __slots__ = ("_call", "invite")

    def __init__(self, call: Answering, invite: Request) -> None:
        self._call = call
        self.invite = invite
        stack = call.stack
        stack.deadlines.add(stack.clock.now() + 64 * stack.engine.timers.t1, self)

    def expire(self, now: float) -> None:
        """Hang up, because the application has not answered."""
        call = self._call
        if call._late is self:
            # the BYE may have a name to resolve, and this is the hub
            call.stack.callbacks.spawn(call.hangup)


def answer_in_prack(call: Answering, response: Response) -> bytes:
    """Note a reliable 1xx to our INVITE, and return the body of its PRACK.

    The PRACK cannot wait for the application. An offer that the call cannot accept by itself gets
    an answer with port 0 for all streams, which a re-INVITE may change later (RFC 6337 §2.3).
    """
    offers = call.offers
    offers.take(RELIABLE, response)
    body = b""
    if offers.owes_answer_in(PRACK):
        try:
            body = offers.answer()
        except (Exception, gevent.Timeout) as error:
            # on_offer may raise anything, and the 1xx has to be acknowledged anyway (RFC 3262 §4)
            call.dialog.warn("offer not accepted", error)
            body = offers.refused_offer(media_address(call.invite.flow))  # type: ignore[arg-type]  # one of ours
    body = offers.continued(body)
    offers.sent(PRACK, body)
    return body


def answer_in_ack(call: Answering, invite: Request) -> bytes | None:
    """Return the body of the ACK to a 2xx; None if the application has to answer first.

    An offer in a 2xx cannot be refused. If it cannot be accepted, all streams get port 0, and the
    call ends (RFC 6337 §2.3, §5.2.4).
    """
    offers = call.offers
    if not offers.owes_answer_in(ACK) or parsed(offers.offer) is None:
        return b""  # there is nothing to answer
    if call.end is None:
        reinvite = call._reinvite
        if offers.is_relayed and offers.local and reinvite is not None and reinvite.abandoned:
            # the side that has asked for the offer has given up
            return offers.kept(media_address(invite.flow))  # type: ignore[arg-type]  # one of ours
        if offers.is_relayed or (
            offers.media is None and offers.on_offer is None and not offers.local
        ):
            if call._late is None:
                call._late = LateOffer(call, invite)
            return None
        try:
            return offers.answer()
        except (Exception, gevent.Timeout) as error:
            # on_offer may raise anything, and a BYE has to follow the ACK (§13.2.2.4)
            call.dialog.warn("offer not accepted", error)
            call._fail(error, NO_OFFER)
    return offers.refused_offer(media_address(invite.flow))  # type: ignore[arg-type]  # one of ours
