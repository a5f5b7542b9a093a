"""Connection: the legs of a bridge, until the last one has ended."""

from __future__ import annotations

from itertools import count

import gevent
from gevent.event import Event

from ...message.identifiers import create_call_id
from ...message.message import Request
from ...message.scan import USUAL, Line
from ..capabilities import WITHIN_CALLS
from ..element import Element
from ..server import ServerTransaction
from .leg import Leg
from .policy import BridgePolicy
from .relay import MediaRelay
from .transfer import Transfer


class Connection:
    """The legs of one bridge.

    Args:
        stack: The element that the calls belong to.
        policy: Which header fields cross.
        media: What relays the media.
    """

    def __init__(self, stack: Element, policy: BridgePolicy, media: MediaRelay | None) -> None:
        self.stack = stack
        self.policy = policy
        self.media = media
        self.legs: list[Leg] = []
        """The legs whose end this bridge waits for."""
        methods = {*stack.allowed, *WITHIN_CALLS, *stack.allowed_in_calls, *policy.methods}
        self.allow: Line = ("Allow", USUAL, ", ".join(sorted(methods)))
        """The Allow of messages to both sides."""
        self._changed = Event()
        self._tags = count(1)
        self._media_id = ""

    @property
    def credentials_are_ours(self) -> bool:
        """True if the credentials of the caller were for this element."""
        return False

    # ---- legs

    def add_leg(self) -> Leg:
        """Return a new leg."""
        leg = Leg(self, self.new_tag())
        self.legs.append(leg)
        return leg

    def new_tag(self) -> str:
        """Return the tag of a leg for the media relay: "caller", "callee", then "leg3" …"""
        number = next(self._tags)
        return ("caller", "callee")[number - 1] if number < 3 else f"leg{number}"

    def take(self, leg: Leg, tag: str = "") -> None:
        """Take a leg of another bridge, which does not wait for its end any more. `tag` is one of
        new_tag() if the media relay knows it already."""
        other = leg.bridge
        assert isinstance(other, Connection)  # each bridge is one
        other.legs.remove(leg)
        other.wake()
        leg.bridge = self
        leg.tag = tag or self.new_tag()
        self.legs.append(leg)

    def take_back(self, leg: Leg, peer: Leg) -> None:
        """Take a leg back that another bridge has given up, and connect it as before."""
        leg.bridge = self
        self.legs.append(leg)
        self.connect(leg, peer)

    def connect(self, one: Leg, other: Leg) -> None:
        """Pass on what one leg receives to the other, from now on."""
        one.peer, other.peer = other, one
        self.wake()

    def wake(self) -> None:
        """Let until_over() look at the legs again."""
        self._changed.set()

    def until_over(self) -> None:
        """Wait until all legs have ended. The end of one leg is passed on to its other side."""
        while True:
            for leg in [*self.legs]:
                if leg.call is not None and not leg.is_over and not leg.is_open:
                    self._ended(leg)
            ends = [leg.call.ended for leg in self.legs if leg.is_open and leg.call is not None]
            if not ends:
                return
            self._changed.clear()
            gevent.wait([*ends, self._changed], count=1)

    def _ended(self, leg: Leg) -> None:
        leg.is_over = True
        if leg.inviting is not None:
            leg.inviting.cancel()  # nobody is left to be transferred
        if leg.is_leaving:
            return
        peer, call = leg.peer, leg.call
        leg.peer = None
        if peer is not None:
            peer.peer = None
            peer.hang_up(leg, None if call is None else call.end)

    def close(self) -> None:
        """Let go of the legs, and of the media."""
        for leg in self.legs:
            leg.let_go()
        self.legs.clear()
        if self.media is not None and self._media_id:
            self.media.delete(self._media_id)

    # ---- descriptions

    def offer_to(self, source: Leg, target: Leg, description: bytes) -> bytes:
        """Return an offer of one leg as the other one gets it. Raises SIPError."""
        if self.media is None or not description:
            return description
        self._media_id = self._media_id or create_call_id()
        return self.media.offer(self._media_id, source.tag, target.tag, description)

    def answer_to(self, source: Leg, target: Leg, description: bytes) -> bytes:
        """Return an answer of one leg as the other one gets it. Raises SIPError."""
        if self.media is None or not description:
            return description
        return self.media.answer(self._media_id, target.tag, source.tag, description)

    # ---- REFER

    def follow(self, leg: Leg, request: Request, tx: ServerTransaction) -> None:
        """Carry out a REFER of the peer of a leg. Raises Reject."""
        Transfer(self, leg, tx).run()
