"""Terms: what an application wants of the session of a call that begins."""

from __future__ import annotations

from collections.abc import Sequence

from ...message.message import Request
from ...message.sdp import SDP, MediaStream
from ...transport.base import Flow
from .call import SESSION_TYPE, BridgedLeg, OnOffer
from .description import description_of
from .media import Media
from .offer_answer import media_address


class Terms:
    """What an application wants of the session of a call that begins.

    It writes the offer into an INVITE once the flow of the INVITE is known, because the flow gives
    the address for our media.

    Args:
        streams: The streams to offer or to accept; None if the application describes the session.
        on_offer: Decides about offers of the peer.
        leg: The side of a bridge that gets the call, if any.
    """

    __slots__ = ("_streams", "leg", "media", "on_offer")

    def __init__(
        self,
        streams: Sequence[MediaStream] | None,
        on_offer: OnOffer | None,
        leg: BridgedLeg | None = None,
    ) -> None:
        self._streams = streams
        self.on_offer = on_offer
        self.leg = leg
        self.media: Media | None = None
        """What the call offers and accepts from now on."""

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Write the offer into an INVITE of ours that is about to leave by a flow."""
        if self._streams is not None:
            self.media = Media(self._streams, media_address(flow))
            copy.body = bytes(self.media.offer())
            copy.content_type = SESSION_TYPE

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Write another offer, if the INVITE leaves by a flow with another address of ours."""
        if media_address(before) != media_address(flow):
            self.write(copy, flow)

    def answer(self, request: Request, *, may_offer: bool = True) -> bytes:
        """Return our description for a response to an INVITE of the peer: our answer, or our offer.

        Args:
            request: The INVITE.
            may_offer: False for a response that may have an answer only.

        Raises:
            ParseError: The offer cannot be read.
            Reject: 488, because the offer cannot be accepted.
        """
        flow: Flow = request.flow  # type: ignore[assignment]  # it was received by one of ours
        self.media = Media(self._streams or (), media_address(flow))
        offer = description_of(request)
        if offer:
            return bytes(self.media.answer(SDP.parse(offer)))
        return bytes(self.media.offer()) if may_offer else b""
