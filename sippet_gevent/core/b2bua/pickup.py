"""pick_up(): an INVITE with Replaces that takes a bridged call which rings at another phone.

RFC 3891 §3 lets it replace an early dialog that this element has begun. RFC 5359 §2.16 calls that
call pickup.

| step | caller | phone that picks up | callee |
|---|---|---|---|
| it rings | its offer waits | | 180 |
| INVITE with Replaces and an offer | | 200 on hold | CANCEL |
| or without an offer | | 200 with the caller's offer | CANCEL |
| after its ACK | | re-INVITE with the caller's offer, if it has none yet | |
| the answer | 200 with it | | |
"""

from __future__ import annotations

from typing import Protocol

from ...errors import Reject
from ...message import sdp
from ...message.message import Request
from ..client.reason import COMPLETED_ELSEWHERE
from ..client.transaction import ClientTransaction
from ..dialog.media import stream_of
from ..dialog.negotiation import OFFERED, same_session
from ..dialog.offer_answer import media_address, parsed
from ..dialog.replaces import replaced_by
from ..element import Element
from ..server import ServerTransaction
from .leg import Leg
from .third_party import reoffer

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
        Reject: 488, because the caller made no offer, or that of the phone cannot be held.
        TransactionTimeout, TransportError, Cancelled: As for bridge().
    """
    kept, offer = ringing.caller, ringing.offer_given
    call = kept.call
    if kept is not replaced.peer or call is None or not offer:
        raise Reject(488)
    has_offer = bool(bridge.offer_given)
    if has_offer:
        # both have offered, so the phone is on hold until it has the offer of the caller
        body = on_hold(bridge.offer_given, media_address(bridge.request.flow))  # type: ignore[arg-type]
    else:
        body = bridge.offer_to(kept, bridge.caller, offer)
    answer = bridge.request.response(200, body=body)
    bridge.caller.write_allowed(answer)
    ringing.is_picked_up = True
    try:
        bridge.tx.respond(answer)
    except BaseException:
        ringing.is_picked_up = False
        raise
    replaced.peer = kept.peer = None
    bridge.legs.remove(bridge.callee)
    bridge.callee = kept
    bridge.take(kept)
    bridge.connect(bridge.caller, kept)
    bridge.tx._hold(call)
    try:
        phone = bridge.caller.call
        assert phone is not None  # the 2xx has begun it
        phone._wait_for_ack()
        if has_offer:
            found = reoffer(bridge, kept, bridge.caller, offer)
        else:
            found, bridge.caller.shown = phone.offers.remote, offer
        if not found:
            raise Reject(488)
        shown = bridge.answer_to(bridge.caller, kept, found)
        # the description of the callee in a reliable 183 was the answer already
        is_answer = call.offers.state == OFFERED
        accepted = ringing.request.response(200, body=shown if is_answer else b"")
        kept.write_allowed(accepted)
        ringing.tx.respond(accepted)
        call._wait_for_ack()
    except BaseException:
        if not call.is_confirmed:
            call.hangup()  # refuses the INVITE of the caller
        raise
    before, kept.shown = kept.shown, found
    if before and not same_session(found, before):
        # the caller has seen the description of the callee, and may have taken it as the answer
        bridge.stack.callbacks.spawn(bridge._offer_again, kept, bridge.caller, found)


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
    call = ringing.caller.call
    assert call is not None  # it was picked up
    call._inbox.wait(lambda: ringing.tx.answered or call.ended.is_set())
