"""pick_up(): an INVITE with Replaces that takes a call which rings elsewhere, RFC 3891 §3.

RFC 3891 §3 lets it replace an early dialog that this element has begun. RFC 5359 §2.16 calls that
call pickup.

| offers | to the phone that picks up | to the caller | later |
|---|---|---|---|
| of both | 200 on hold | 200 with the answer | first a re-INVITE to the phone |
| of the caller | 200 with that offer | 200 with the answer of the ACK | |
| of the phone | 200 with the answer of the ACK | 200 with that offer | |
| none | 200 that offers a silent stream | 200 with the offer of the phone | see below |

If nobody has offered, a re-INVITE without an offer asks the phone for one. The caller gets it in
the 200, and its ACK has the answer (RFC 3725 §4.4). The first offer has a stream, because some
phones refuse a session without one.

The 200 to the phone cancels the INVITE to the callee.
"""

from __future__ import annotations

from typing import Protocol

from gevent.event import Event

from ...errors import Cancelled, Reject, TransactionStateError
from ...message import sdp
from ...message.message import Request
from ..client.reason import COMPLETED_ELSEWHERE
from ..client.transaction import ClientTransaction
from ..dialog.invite import InviteSession
from ..dialog.media import stream_of
from ..dialog.negotiation import OFFERED, same_session
from ..dialog.offer_answer import media_address, parsed
from ..dialog.replaces import replaced_by
from ..element import Element
from ..server import ServerTransaction
from .leg import Leg
from .third_party import ask_for_offer, reoffer

DISCARD = 9
"""The port of streams that flow nowhere (RFC 863)."""


class Bridging(Protocol):
    """A bridge that begins with an INVITE: an Inbound."""

    request: Request
    tx: ServerTransaction
    offer_given: bytes
    caller: Leg
    callee: Leg
    legs: list[Leg]
    is_picked_up: bool
    stack: Element

    def offer_to(self, source: Leg, target: Leg, description: bytes) -> bytes: ...
    def answer_to(self, source: Leg, target: Leg, description: bytes) -> bytes: ...
    def take(self, leg: Leg, tag: str = "") -> None: ...
    def connect(self, one: Leg, other: Leg) -> None: ...
    def _offer_again(self, caller: Leg, callee: Leg, found: bytes) -> None: ...


def replaced_leg(request: Request, tx: ServerTransaction) -> Leg | None:
    """Return the leg that an INVITE with Replaces takes the place of. Raises Reject."""
    if "Replaces" not in request.headers.fields:
        return None
    if len(request.headers.all("Replaces")) != 1 or "Join" in request.headers.fields:
        raise Reject(400, "Contradictory Replaces")
    call = replaced_by(request, tx.stack.dialogs, tx.stack.may_replace)
    leg = None if call is None else call.leg
    return leg if isinstance(leg, Leg) else None


def pick_up(bridge: Bridging, ringing: Bridging, replaced: Leg) -> None:
    """Connect the caller of a bridge whose callee rings with the phone that replaces the callee.

    The 2xx to its INVITE cancels the one to the callee; see Replacing in core/dialog/replaces.py.
    From then on, the caller gets that phone or a refusal.

    Args:
        bridge: The bridge of the INVITE with Replaces.
        ringing: The bridge whose callee rings.
        replaced: The leg of that callee.

    Raises:
        Reject: 603, because the caller has given up. 488, because an offer cannot be held, or was
            not answered.
        TransactionTimeout, TransportError, Cancelled: As for bridge().
    """
    kept = replaced.peer
    # a bridge that is over has no legs any more
    if kept not in ringing.legs or kept is not ringing.caller or ringing.tx.answered:
        raise Reject(488)
    if ringing.offer_given or not bridge.offer_given:
        _answer_phone_first(bridge, ringing, replaced)
    else:
        _answer_caller_first(bridge, ringing, replaced)


def _answer_phone_first(bridge: Bridging, ringing: Bridging, replaced: Leg) -> None:
    phone, kept, offer = bridge.caller, ringing.caller, ringing.offer_given
    address = media_address(bridge.request.flow)  # type: ignore[arg-type]  # it was received
    if not offer:
        body = silence(address)
    elif bridge.offer_given:
        # both have offered, so the phone is on hold until it has the offer of the caller
        body = on_hold(bridge.offer_given, address)
    else:
        body = bridge.offer_to(bridge.callee, phone, offer)  # the caller takes that place
    answer = bridge.request.response(200, body=body)
    phone.write_allowed(answer)
    ringing.is_picked_up = True
    try:
        bridge.tx.respond(answer)
    except BaseException:
        ringing.is_picked_up = False
        raise
    _connect(bridge, kept, replaced)
    try:
        call = _call_of(phone)
        call._wait_for_ack()
        if not offer:
            _offer_of_phone(bridge, ringing)
            return
        if bridge.offer_given:
            found = reoffer(bridge, kept, phone, offer)
        else:
            found, phone.shown = call.offers.remote, offer
        if not found:
            raise Reject(488)
        shown = bridge.answer_to(phone, kept, found)
        # the description of the callee in a reliable 183 was the answer already
        is_answer = kept.call is None or kept.negotiation.state == OFFERED
        before, kept.shown = kept.shown, found
        _respond(ringing, kept, shown if is_answer else b"")
        bridge.tx._hold(_call_of(kept))
        _call_of(kept)._wait_for_ack()
    except BaseException:
        _refuse(ringing, kept)
        raise
    if before and not same_session(found, before) and kept.shown is found:
        # the caller has seen the description of the callee, and may have taken it as the answer;
        # no UPDATE has changed the session before the ACK
        bridge.stack.callbacks.spawn(bridge._offer_again, kept, phone, found)


def _answer_caller_first(bridge: Bridging, ringing: Bridging, replaced: Leg) -> None:
    """Answer the caller, which has made no offer, with that of the phone, and then the phone."""
    phone, kept, offer = bridge.caller, ringing.caller, bridge.offer_given
    body = bridge.offer_to(phone, bridge.callee, offer)  # the caller takes that place
    ringing.is_picked_up = True
    try:
        _respond(ringing, kept, body)
    except BaseException:
        ringing.is_picked_up = False
        raise
    try:
        _connect(bridge, kept, replaced)
        bridge.tx._hold(_call_of(kept))
        found = _answer_of(kept)
        kept.shown = offer
        answer = bridge.request.response(200, body=bridge.answer_to(kept, phone, found))
        phone.write_allowed(answer)
        phone.shown = found
        bridge.tx.respond(answer)
    except BaseException:
        if replaced.call is not None:
            # no 2xx to the phone cancels it; a name may have to be resolved for that
            bridge.stack.callbacks.spawn(replaced.call.hangup)
        raise
    _call_of(phone)._wait_for_ack()


def _offer_of_phone(bridge: Bridging, ringing: Bridging) -> None:
    """Answer the caller, which has made no offer, with that of the phone, which has made none
    either."""
    phone, kept = bridge.caller, bridge.callee
    try:
        offer = ask_for_offer(phone)
        kept.shown = offer
        _respond(ringing, kept, bridge.offer_to(phone, kept, offer))
        bridge.tx._hold(_call_of(kept))
        found = _answer_of(kept)
        phone.take_answer(bridge.answer_to(kept, phone, found))
        phone.shown = found
    finally:
        phone.keep_session()


def _connect(bridge: Bridging, kept: Leg, replaced: Leg) -> None:
    """Connect the phone with the caller, which takes the place of a callee in its bridge."""
    replaced.peer = kept.peer = None
    bridge.legs.remove(bridge.callee)
    tag, bridge.callee = bridge.callee.tag, kept
    bridge.take(kept, tag)
    bridge.connect(bridge.caller, kept)


def _respond(ringing: Bridging, kept: Leg, body: bytes) -> None:
    """Answer the caller with 200. Its bridge may be over, so the leg is given. Raises Reject."""
    accepted = ringing.request.response(200, body=body)
    kept.write_allowed(accepted)
    try:
        ringing.tx.respond(accepted)
    except (Cancelled, TransactionStateError):
        raise Reject(603) from None  # RFC 3891 §3: the caller has given up


def _answer_of(kept: Leg) -> bytes:
    """Wait for the ACK of the caller, and return its answer.

    Raises:
        Reject: 488, because it has none.
        TransactionTimeout: No ACK has come.
    """
    call = _call_of(kept)
    call._wait_for_ack()
    found = b"" if call.end is not None else call.offers.remote
    if not found:
        raise Reject(488)
    return found


def _call_of(leg: Leg) -> InviteSession:
    assert leg.call is not None  # the 2xx has begun it, at the latest
    return leg.call


def _refuse(ringing: Bridging, kept: Leg) -> None:
    """Refuse the INVITE of the caller, unless it is answered."""
    call = kept.call
    if call is None:
        ringing.tx._refuse(480)
    elif not call.is_confirmed:
        call.hangup()


def silence(address: str) -> bytes:
    """Return an offer of audio in which nothing flows, for a phone that has made no offer."""
    stream = sdp.MediaStream("audio", DISCARD, (sdp.PCMU, sdp.PCMA), direction=sdp.INACTIVE)
    return bytes(sdp.initial_offer([stream], address=address))


def on_hold(offer: bytes, address: str) -> bytes:
    """Return an answer that accepts the streams of an offer, and lets nothing flow.

    Raises:
        Reject: 488, because the offer cannot be read, or has no stream that can be accepted.
    """
    offered = parsed(offer)
    if offered is None:
        raise Reject(488)
    streams = [
        stream_of(section, sdp.INACTIVE)._replace(port=DISCARD, connection=None)
        for section in offered.media
        if not section.is_disabled
    ]
    made = sdp.answer(offered, streams, address=address)
    if all(section.is_disabled for section in made.media):
        raise Reject(488)
    return bytes(made)


def wait_for_pickup(ringing: Bridging, out: ClientTransaction) -> None:
    """Wait until the caller is answered, because another phone has picked up. Raises Cancelled.

    The callee may have answered at the same time. It is hung up.
    """
    if out.call is not None:
        out.call.hangup(reason_header=COMPLETED_ELSEWHERE)
    answered = Event()
    ringing.tx.on_final(lambda _: answered.set())
    ringing.tx.wait(until=answered)
