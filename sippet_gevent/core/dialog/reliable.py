"""Reliable: provisional responses that are acknowledged by PRACK, RFC 3262."""

from __future__ import annotations

import random

from ...engine.users import ServerRecord
from ...errors import ParseError, Reject, SIPError, TransactionTimeout
from ...message.fields.rfc3261 import RAck
from ...message.message import Request, Response
from ..capabilities import WITHIN_CALLS
from ..client.transaction import ClientTransaction
from ..element import ServedRequest
from .description import description_of
from .end import End
from .negotiation import ASKED
from .retransmission import Retransmission
from .rule import Rule, Session
from .state import DialogState

TAG = "100rel"
"""The option tag (§8.1)."""

PRACKS = 8
"""Most PRACKs of one early dialog that wait for their responses. Each is repeated up to 10 times. A
peer sends its next reliable response after a PRACK (§3), so more of them mean that it answers none.
Further responses get no PRACK until the peer repeats them."""

FIRST = 2**31 - 1
"""Highest RSeq of the first reliable response of an INVITE (§3)."""


class Reliable(Rule):
    """Makes provisional responses reliable, and acknowledges those of the peer.

    A response of ours is reliable if the INVITE requires it, or if the core asks for it by
    `tx.respond(183, reliable=True)` and the caller supports it. If the INVITE has no offer, the
    first one must have ours (§5). A response without one leaves unreliably then. While one waits
    for its PRACK, the next reliable one waits too, and so does a 2xx if the one before had a
    session description (§3).
    """

    __slots__ = ("_pracks", "_seen", "_sent", "_unacknowledged", "_unsent")

    methods = takes = ("PRACK",)
    fields = ("Require",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._sent: tuple[int, int] | None = None  # CSeq and RSeq of our last reliable response
        self._seen: tuple[int, int] | None = None  # the same of the peer's last one
        self._unacknowledged: list[Unacknowledged] = []
        self._pracks: list[ClientTransaction] = []
        self._unsent: tuple[RAck, bytes] | None = (
            None  # a PRACK that could not leave, with its body
        )

    # ---- our responses

    def holds(self, response: Response) -> bool:
        if not self._unacknowledged:
            return False
        waiting = [each for each in self._unacknowledged if each.is_waiting]
        if not waiting:
            return False
        if response.status < 200:
            invite = self.session.served_invite
            return invite is not None and is_wanted(invite.request, response)
        return any(each.has_session for each in waiting)

    def responding(self, request: Request, response: Response) -> None:
        if response.status >= 200 or not is_wanted(request, response):
            return
        invite = self.session.served_invite
        if invite is None or invite.request is not request:
            return
        knows = lists(request, "Supported") or lists(request, "Require")
        if not knows or (self.session.offers.state == ASKED and not description_of(response)):
            # the core has asked for it, but the caller does not know it (§3), or it would be the
            # first reliable response to an INVITE without an offer, and needs an offer (§5)
            others = tuple(tag for tag in response.require if tag.lower() != TAG)
            response.require = others or None
            response.rseq = None
            return
        number = request.cseq.number
        rseq: int | None = response.rseq
        if rseq is None:
            last = self._sent
            rseq = random.randint(1, FIRST) if last is None or last[0] != number else last[1] + 1
            response.rseq = rseq
        if not lists(response, "Require"):
            response.require = (*response.require, TAG)
        if response.body and "Allow" not in response.headers.fields:
            stack = self.session.stack  # so that the caller may send an UPDATE (RFC 3311 §4)
            response.allow = tuple(sorted({*stack.allowed, *WITHIN_CALLS, *stack.allowed_in_calls}))
        if self.session.is_confirmed:  # a re-INVITE: its target holds from now on (RFC 6141 §4.6)
            dialog = self.session.dialog
            assert isinstance(dialog, DialogState)  # of a call of a stack
            dialog.refresh_by(request)
        self._sent = number, rseq
        waiting = [each for each in self._unacknowledged if each.is_waiting]
        self._unacknowledged = [
            *waiting,
            Unacknowledged(self, invite.transaction, request, response),
        ]

    def received(self, request: Request, tx: ServedRequest) -> int | Response | None:
        if request.method != "PRACK":
            return None
        if self._sent is None and self.session.stack.handles("PRACK"):
            return None  # a core may have reliable responses of its own
        rack = request.rack
        if rack is None:
            raise Reject(400, "Missing RAck")
        found = next((each for each in self._unacknowledged if each.matches(rack)), None)
        if found is None:
            raise Reject(481)  # §3
        found.stop()
        offers = self.session.offers
        try:
            if request.body:
                offers.check_prack(request)
            offers.take_request(request)  # the answer to our offer, or a further offer (§5)
            answer = offers.response_to(request)
        finally:
            self.session.wake()
        # a PRACK that was refused may come again without its offer (RFC 6337 §2.3)
        self._unacknowledged.remove(found)
        return answer

    def answered(self, request: Request, response: Response, *, by_us: bool) -> None:
        # no retransmissions after a final response, but a late PRACK is served (§3)
        if self._unacknowledged and by_us and request.method == "INVITE":
            self._stop()
        self._pracks = []

    def ended(self, reason: End) -> None:
        if self._unacknowledged:
            self._stop()

    def _stop(self) -> None:
        for each in self._unacknowledged:
            each.is_stopped = True

    def _give_up(self, response: Response) -> None:
        """Refuse the INVITE, because no PRACK has come in 64*T1 (§3)."""
        self._stop()
        self.session.refuse(
            504, TransactionTimeout(f"no PRACK to the reliable {response.status} in time")
        )
        self.session.wake()

    # ---- responses of the peer

    def provisional(self, response: Response) -> bool:
        if "Require" not in response.headers.fields or not lists(response, "Require"):
            return True
        try:
            number = response.rseq
        except ParseError:
            number = None
        if number is None:
            return True  # it cannot be acknowledged
        cseq = response.cseq.number
        last = self._seen
        if last is not None and last[0] == cseq and number != last[1] + 1:
            if self._unsent is not None and number == last[1]:
                self._send(*self._unsent)  # nothing else knows the answer in its body
            return False  # repeated, or one before it is missing: §4 forbids to process it
        self._pracks = [prack for prack in self._pracks if prack.is_pending]
        if len(self._pracks) >= PRACKS:
            return False
        self._seen = cseq, number
        # if it has an offer, the PRACK has the answer (§5)
        body = self.session.answer_to(response)
        self._send(RAck(number, cseq, response.cseq.method), body)
        return True

    def _send(self, rack: RAck, body: bytes) -> None:
        """Send a PRACK. If it cannot leave, the repetition of its response tries again."""
        session = self.session
        self._unsent = rack, body
        if session.end is not None:
            return
        try:
            prack = session.send(
                "PRACK",
                body=body,
                content_type=session.offers.local_type if body else None,
                rack=rack,
            )
        except SIPError as error:
            session.warn("PRACK not sent", error)
        else:
            self._pracks.append(prack)
            self._unsent = None


class Unacknowledged(Retransmission):
    """A reliable response of ours that waits for its PRACK. Its intervals double without limit
    (§3)."""

    __slots__ = ("_cseq", "_rseq", "_rule", "has_session")

    def __init__(
        self, rule: Reliable, transaction: ServerRecord, request: Request, response: Response
    ) -> None:
        super().__init__(rule.session.stack, transaction, response, float("inf"))
        self._rule = rule
        self._cseq = request.cseq.number
        self._rseq = response.rseq
        self.has_session = bool(response.body)

    @property
    def is_waiting(self) -> bool:
        """True until its PRACK has come, or its INVITE has a final response (§3)."""
        return not self.is_stopped and self._transaction.request is not None

    def expire(self, now: float) -> None:
        if self.is_waiting:
            super().expire(now)

    def matches(self, rack: RAck) -> bool:
        """True when a PRACK acknowledges this response."""
        return (rack.response, rack.cseq, rack.method) == (self._rseq, self._cseq, "INVITE")

    def _give_up(self) -> None:
        if self.is_waiting:
            self._rule._give_up(self._response)


def is_wanted(request: Request, response: Response) -> bool:
    """True when a provisional response is to be reliable, by its INVITE or by its core."""
    return ("Require" in request.headers.fields and lists(request, "Require")) or (
        "Require" in response.headers.fields and lists(response, "Require")
    )


def without_reliable(request: Request, supported: frozenset[str]) -> None:
    """Write a Supported without 100rel, unless the application has written that or a Require.

    If an INVITE has no offer, a reliable 1xx has one, which the PRACK must answer at once. If
    nothing can answer before the application does, the peer has to offer in the 2xx (RFC 6337
    §3.1.2).
    """
    fields = request.headers.fields
    if "Supported" not in fields and "Require" not in fields:
        request.headers["Supported"] = ", ".join(sorted(supported - {TAG}))


def lists(message: Request | Response, name: str) -> bool:
    """True when Supported or Require of a message lists the option tag."""
    try:
        tags = message.supported if name == "Supported" else message.require
    except ParseError:
        return False
    return any(tag.lower() == TAG for tag in tags)
