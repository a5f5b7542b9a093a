"""Changes of a session that we begin: hold, resume, re-INVITE and UPDATE, RFC 3261 §14.1, RFC 3311.

A request that meets one of the peer's gets 491. It is sent once more after a random time (§14.1).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...errors import Reject, SIPError, TransactionStateError
from ...message.message import Request, Response
from ...message.sdp import MediaStream
from ..inbox import Inbox
from .call import Flag
from .end import End
from .media import Media
from .negotiation import ACCEPTED, UPDATE_ACCEPTED
from .offer_answer import OfferAnswer, check_media, media_address
from .state import DialogState

OWNER = (210, 400)
"""Back-off after a 491 in units of 10 ms, if we have made the Call-ID (§14.1)."""

OTHER = (0, 200)
"""Back-off after a 491 in units of 10 ms, if the peer has made the Call-ID (§14.1)."""


WAITS = 5
"""How often a request waits for one that is under way, before it is given up."""


class Changing(Protocol):
    """The call that we change."""

    dialog: DialogState
    invite: Request
    is_caller: bool
    end: End | None
    offers: OfferAnswer
    acknowledged: bool
    _inbox: Inbox[None]

    @property
    def ended(self) -> Flag:
        """Set when the call has ended."""

    def request(
        self, method: str, *, timeout: float | None = None, body: bytes | str = b"", **headers: Any
    ) -> Response:
        """Send a request within the call, and return its final response."""

    def _collides(self, method: str, has_offer: bool) -> bool:
        """True when an INVITE or UPDATE of ours would collide with another one."""


def send_offer(
    call: Changing,
    method: str,
    describe: Callable[[], bytes | str],
    timeout: float | None = None,
    headers: dict[str, Any] | None = None,
    accepted: Callable[[], None] | None = None,
) -> Response:
    """Send an INVITE or UPDATE within a call, and return its 2xx. If it is refused, the session is
    as it was.

    Args:
        call: The call.
        method: INVITE or UPDATE.
        describe: Returns the session description to send, which depends on the state of the session
            at that time.
        timeout: Seconds to wait for each final response.
        headers: Header fields.
        accepted: Called when the 2xx has come, before anything else of the peer is served.

    Raises:
        Reject: The peer has refused.
        TransactionStateError: The call has ended, or another INVITE or UPDATE is under way still.
        TransactionTimeout: No final response came in time.
        TransportError: Nothing could be sent.
    """
    headers = headers or {}
    if method == "INVITE":  # §14.1: after the ACK
        call._inbox.wait(lambda: call.acknowledged or call.end is not None)
    response = _ask(call, method, describe, timeout, headers, accepted)
    if response.status == 491:
        back_off(call)
        if call.end is not None:
            raise Reject(491, response.reason, response=response)
        response = _ask(call, method, describe, timeout, headers, accepted)
    if not response.is_success:
        raise Reject(response.status, response.reason, response=response)
    return response


def _ask(
    call: Changing,
    method: str,
    describe: Callable[[], bytes | str],
    timeout: float | None,
    headers: dict[str, Any],
    accepted: Callable[[], None] | None,
) -> Response:
    """Send a request after those of the peer that would meet it, and return its final response."""
    offers = call.offers
    body = describe()
    for _ in range(WAITS):
        if call.end is not None or not call._collides(method, bool(body)):
            break
        _await_turn(call, method, has_offer=bool(body))
        body = describe()
    before = offers.accepted
    mine = offers.accepted = ACCEPTED if method == "INVITE" else UPDATE_ACCEPTED, accepted
    try:
        return call.request(method, timeout=timeout, body=body, **headers)
    except TransactionStateError:
        if offers.accepted is mine:  # nothing was sent; else a 2xx that follows a timeout counts
            offers.accepted = before
        raise


def _await_turn(call: Changing, method: str, *, has_offer: bool) -> None:
    """Wait until no INVITE or UPDATE is under way that a request would meet (§14.1), at most for
    the time of a back-off."""
    call._inbox.wait(
        lambda: call.end is not None or not call._collides(method, has_offer), _pause(call)
    )


def back_off(call: Changing) -> None:
    """Wait before a request that met one of the peer's is sent again, or until the call ends."""
    call._inbox.wait(call.ended.is_set, _pause(call))


def _pause(call: Changing) -> float:
    least, most = OWNER if call.is_caller else OTHER
    return random.randint(least, most) / 100


def change_hold(call: Changing, *, held: bool, timeout: float | None) -> None:
    """Hold or resume the call by a re-INVITE. Raises as send_offer() does."""
    offers = call.offers
    if offers.media is not None and offers.media.is_held == held:
        return

    def agree() -> None:
        if offers.media is not None:
            offers.media.is_held = held

    send_offer(call, "INVITE", lambda: offers.directed(held=held), timeout, accepted=agree)


def restore(call: Changing) -> None:
    """Offer what is agreed, so that both sides have the same session again (RFC 6141 §3.4).

    The peer has refused an INVITE after it had made some of its changes, such as by the answer in a
    reliable 183. It may not have undone them.
    """
    try:
        send_offer(call, "INVITE", call.offers.restore)
    except SIPError as error:
        if call.end is None:
            call.dialog.warn("session not restored", error)


def change_session(
    call: Changing,
    method: str,
    media: Sequence[MediaStream] | None,
    body: bytes | str,
    timeout: float | None,
    headers: dict[str, Any],
) -> Response:
    """Send an INVITE or UPDATE that changes or refreshes the session, and return its 2xx.

    Without `media` and `body`, an INVITE offers what is agreed, and an UPDATE offers nothing.
    Raises as send_offer() does.
    """
    offers = call.offers
    check_media(media, body)
    if media is None:
        if body or method == "UPDATE":
            return send_offer(call, method, lambda: body, timeout, headers)
        return send_offer(call, method, offers.refresh, timeout, headers)
    wanted = Media(media, media_address(call.invite.flow))  # type: ignore[arg-type]  # one of ours

    def describe() -> bytes:
        if offers.media is not None:
            wanted.is_held = offers.media.is_held
        return offers.offer_of(wanted)

    def agree() -> None:
        offers.media = wanted

    return send_offer(call, method, describe, timeout, headers, agree)
