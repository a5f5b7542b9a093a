"""Third-party call control: connects calls that are answered already, RFC 3725.

| call_a | call_b | what is sent | |
|---|---|---|---|
| its offer waits | invited with that offer | the ACK to A, with B's answer | flow I, §4.1 |
| has a session | its offer waits | A: re-INVITE with B's offer; B: ACK | flow IV, §4.4 |
| its offer waits | has another session | B: re-INVITE with A's offer; A: ACK | flow IV |
| has a session | has a session | A: re-INVITE without offer; as above | §7 |
| its offer waits | its offer waits | A: ACK that accepts no stream; then flow IV | |

An offer waits if the call was placed without `media` and `body`. Each ACK has the other peer's
answer.

Use flow I if B answers at once, as an announcement or a gateway does. The peer of call_a repeats
its 2xx until the ACK, and gives up after 64*T1. Use flow IV if B is a person, because A has a
session while B rings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...errors import Reject, TransactionStateError
from ...message.message import Response
from ..dialog.description import description_of
from ..dialog.invite import InviteSession
from ..dialog.negotiation import same_session
from ..dialog.renegotiation import send_offer
from .leg import Leg


class Describing(Protocol):
    """The bridge of two legs."""

    def offer_to(self, source: Leg, target: Leg, description: bytes) -> bytes:
        """Return an offer of one leg as the other one gets it. Raises SIPError."""

    def answer_to(self, source: Leg, target: Leg, description: bytes) -> bytes:
        """Return an answer of one leg as the other one gets it. Raises SIPError."""


def reoffer(bridge: Describing, source: Leg, target: Leg, description: bytes) -> bytes:
    """Offer the description of one leg to the other by a re-INVITE, and return the answer as it
    came.

    Raises:
        Reject: The peer has refused, or its 2xx has no answer. 481 if the call has ended.
        TransactionTimeout, TransportError, Cancelled: As for Call.reinvite().
    """
    call = target.call
    assert call is not None  # it is answered
    offer = bridge.offer_to(source, target, description)
    response = _reinvite(call, lambda: offer)
    answer = description_of(response)
    if not answer:
        raise Reject(488)
    target.shown = description
    return answer


def ask_for_offer(leg: Leg) -> bytes:
    """Ask the peer of a leg for an offer, by a re-INVITE without one, and return it as it came.

    The ACK waits until the leg gets its answer, by take_answer() or keep_session().

    Raises:
        Reject: The peer has refused, or made no offer. 481 if the call has ended.
        TransactionTimeout, TransportError, Cancelled: As for Call.reinvite().
    """
    call = leg.call
    assert call is not None  # it is answered
    _reinvite(call, bytes)
    if not call.offers.owes_answer:
        raise Reject(488)
    return call.offers.offer


def answer_in_ack(call: InviteSession) -> bytes:
    """Return the answer of a peer to the offer in our 2xx. Raises Reject if its ACK has none."""
    if not call.offers.remote:
        raise Reject(488)
    return call.offers.remote


def _reinvite(call: InviteSession, offer: Callable[[], bytes]) -> Response:
    try:
        return send_offer(call, "INVITE", offer)
    except TransactionStateError:
        # it has ended while the re-INVITE waited for its turn, or the peer changes the session
        raise Reject(481 if call.end is not None else 491) from None


def connect_sessions(bridge: Describing, a: Leg, b: Leg, *, is_relayed: bool) -> None:
    """Connect the sessions of two answered calls, see the table above.

    Args:
        bridge: The bridge of both legs.
        a: One leg.
        b: The other leg.
        is_relayed: True if something relays the media, so that no description is final.

    Raises:
        Reject: A peer has refused. Its session is as it was.
        TransactionTimeout, TransportError, Cancelled: As for Call.reinvite().
    """
    first, second = a.call, b.call
    assert first is not None and second is not None  # both are answered
    if first._late is not None and second._late is not None:
        first.refuse_late_offer()
    if second._late is not None:
        a, b, first, second = b, a, second, first
    try:
        if first._late is not None:
            offer = first.offers.offer
            agreed = second.offers.remote
            if agreed and not is_relayed and same_session(offer, second.offers.local):
                answer, b.shown = agreed, offer
            else:
                answer = reoffer(bridge, a, b, offer)
        else:
            offer = ask_for_offer(a)
            answer = reoffer(bridge, a, b, offer)
        a.take_answer(bridge.answer_to(b, a, answer))
        a.shown = answer
    finally:
        a.keep_session()
