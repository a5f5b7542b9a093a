"""MediaRelay: changes the descriptions that cross a bridge, as RTPEngine does. Pure."""

from __future__ import annotations

from typing import Protocol


class MediaRelay(Protocol):
    """Relays the media of bridges: each description passes through it on its way to the other leg.

    `call_id` names the bridge. `from_tag` names the leg that has made the offer, and `to_tag` the
    leg that answers. Each method may wait. It raises a SIPError if it fails.
    """

    def offer(self, call_id: str, from_tag: str, to_tag: str, description: bytes) -> bytes:
        """Return an offer as the answering leg gets it."""

    def answer(self, call_id: str, from_tag: str, to_tag: str, description: bytes) -> bytes:
        """Return an answer as the offering leg gets it."""

    def delete(self, call_id: str) -> None:
        """Forget a bridge. Must not raise a SIPError."""
