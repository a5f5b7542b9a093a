"""Leg: one side of a bridge, and what it passes on to the other side, RFC 7092. It is longer than
other files, because the requests of both directions meet here.

| the peer of a leg | the other leg | answer |
|---|---|---|
| changes the session by INVITE or UPDATE | the same, or INVITE in place of UPDATE | the other's |
| asks for an offer: INVITE without one | the same; its ACK has the answer | the other's offer |
| refreshes: the same description, or none | nothing, each leg has its own timer | 200 |
| offers in a PRACK | an UPDATE with that offer | its answer |
| sends INFO, MESSAGE, NOTIFY … | the same | the other's, whole |
| sends REFER | by the policy | by the policy |
| changes the session while the other side does | see pending.py | 491 (RFC 3261 §14.2) |
"""

from __future__ import annotations

from typing import Protocol

from ...errors import Reject, TransactionStateError, TransactionTimeout
from ...message.message import Request, Response
from ...message.scan import USUAL, Line
from ...message.sdp import SDP
from ..client.transaction import ClientTransaction
from ..dialog.call import OnProvisional
from ..dialog.described_call import DescribedCall
from ..dialog.description import description_of
from ..dialog.end import End
from ..dialog.glare import GLARING
from ..dialog.handlers import ReinviteCore
from ..dialog.invite import InviteSession
from ..dialog.negotiation import same_session
from ..dialog.offer_answer import OfferAnswer
from ..dialog.ruled import CROSSING
from ..dialog.terms import Terms
from ..server import ServerTransaction
from .crossing import (
    ReferNumbers,
    allows_update,
    completion,
    content_lines,
    hops_left,
    reason_for,
    with_description,
)
from .pending import await_call, await_turn, in_turn, later
from .policy import CONTENT, FOLLOW, PASS, BridgePolicy, Kind
from .undo import undone_if_refused

_NO_UPDATE = frozenset((405, 501))


class Shared(Protocol):
    """The bridge that a leg belongs to."""

    policy: BridgePolicy
    allow: Line

    @property
    def credentials_are_ours(self) -> bool:
        """True if the credentials of the caller were for this element."""

    def offer_to(self, source: Leg, target: Leg, description: bytes) -> bytes:
        """Return an offer of one leg as the other one gets it. Raises SIPError."""

    def answer_to(self, source: Leg, target: Leg, description: bytes) -> bytes:
        """Return an answer of one leg as the other one gets it. Raises SIPError."""

    def take_back(self, leg: Leg, peer: Leg) -> None:
        """Take a leg back, and connect it as before."""

    def follow(self, leg: Leg, request: Request, tx: ServerTransaction) -> None:
        """Carry out a REFER."""


class Leg:
    """One side of a bridge.

    Args:
        bridge: The bridge.
        tag: Names the leg within the bridge, for the media relay.
    """

    def __init__(self, bridge: Shared, tag: str) -> None:
        self.bridge = bridge
        self.tag = tag
        self.terms = Terms(None, None, self)
        """For the transactions of this leg, so that their calls become its calls."""
        self.call: InviteSession | None = None
        """The call, early or answered. If a callee has forked, the branch that rang last."""
        self.peer: Leg | None = None
        """The other side, while both are connected."""
        self.shown = b""
        """The latest description of the other side that this side has received."""
        self.updates: bool | None = None
        """True if the peer knows UPDATE; None if that is unknown."""
        self.bye: Request | None = None
        """The BYE of the peer."""
        self.served: ServerTransaction | None = None
        """The INVITE by which the peer has called; None if the peer was called."""
        self.is_leaving = False
        """True while a transfer of the peer is carried out. Its BYE ends only this leg then."""
        self.inviting: ClientTransaction | None = None
        """The INVITE to the target that the peer is being transferred to."""
        self.is_over = False
        """True once the end of the call was passed on."""
        self.is_awaited = False
        """True from the arrival of a change of the other side until it is sent to the peer."""
        self._calls: list[InviteSession] = []
        self.refers = ReferNumbers()
        """The REFERs of the peer that were passed on."""
        methods = bridge.policy.methods - {"UPDATE", "REFER"}
        self._handlers: dict[str, ReinviteCore] = dict.fromkeys(methods, self.serve)
        self._handlers.update(UPDATE=self.change, REFER=self.refer)

    # ---- calls

    def begins(self, call: DescribedCall) -> None:
        """Take a call of this leg, early or not: it passes on what it receives from now on."""
        assert isinstance(call, InviteSession)
        call.leg = self
        call.handlers = {**call.handlers, **self._handlers}
        call._on_reinvite = self.change
        call.offers.is_relayed = True
        call.offers.on_offer = self.offered
        for ended in [each for each in self._calls if each.end is not None]:
            self._release(ended)
            self._calls.remove(ended)
        self._calls.append(call)  # a client transaction limits those that have not ended
        if self.call is None:
            self.call = call
            if self.peer is not None and self.peer.call is not None:
                self.peer.call.wake()  # a change of the session may wait for it

    def rings(self, response: Response) -> None:
        """Note a provisional response of the callee, whose branch is the leg from now on."""
        tag = response.mandatory.to_tag
        for call in self._calls:
            if call.dialog.remote.tag == tag:
                self.call = call
        self.note_allowed(response)

    def note_allowed(self, message: Request | Response) -> None:
        """Note whether the peer knows UPDATE, if a message of it says so (RFC 3311 §4)."""
        self.updates = self.updates if (known := allows_update(message)) is None else known

    def write_allowed(self, message: Request | Response) -> None:
        """Write Allow, with the methods that the bridge passes on."""
        message.headers.extend((self.bridge.allow,))

    def left_by(self, bye: Request) -> None:
        """Note the BYE of the peer, whose header fields the other leg gets."""
        self.bye = bye

    def let_go(self) -> None:
        """Pass on nothing any more, and forget the calls."""
        for call in self._calls:
            self._release(call)
        self._calls.clear()
        self._handlers.clear()
        self.peer = None
        self.terms.leg = None

    def _release(self, call: InviteSession) -> None:
        """Pass on nothing any more that a call receives, unless another leg has taken it."""
        if call.leg is self:
            call.leg = None
            call.handlers = {}
            call._on_reinvite = None
            call.offers.is_relayed = False
            call.offers.on_offer = None

    @property
    def is_open(self) -> bool:
        """True while its call goes on."""
        return self.call is not None and self.call.end is None

    @property
    def negotiation(self) -> OfferAnswer:
        """The offers and answers of its call."""
        assert self.call is not None  # it was called
        return self.call.offers

    # ---- requests of the peer, which handlers of its call get

    def serve(self, request: Request, tx: ServerTransaction) -> int | Response | None:
        """Pass a request on, and its response back."""
        if "Require" in request.headers.fields:
            tx.check_required()
        response = self._other().ask(request, lines=self._crossing(request))
        return self.success(request, response, response.body, content_lines(response))

    def change(self, request: Request, tx: ServerTransaction) -> int | Response | None:
        """Serve a re-INVITE or an UPDATE."""
        call = tx.call
        assert isinstance(call, InviteSession)
        if "Require" in request.headers.fields:
            tx.check_required()
        self.note_allowed(request)
        offer = description_of(request)
        if request.method == "UPDATE" and not offer:
            return call.offers.response_to(request)
        if offer and call.offers.local and same_session(offer, call.offers.remote):
            return call.offers.response_to(request)
        await_call(self)
        there = self._other()
        if not offer:
            return self._ask_for_offer(request, tx, call, there)
        method = there.method_for(request.method)

        def describe() -> tuple[bytes, list[Line]]:
            return self._described(request, self.bridge.offer_to(self, there, offer))

        body, lines = in_turn(there, method, describe)
        with undone_if_refused(there):
            response = there.ask(
                request, method, body=body, lines=lines, on_provisional=_ringing(tx)
            )
            if response.status in _NO_UPDATE and request.method == "UPDATE" and there._is_confirmed:
                there.updates = False
                await_turn(there, "INVITE")  # which has to follow the ACK, unlike an UPDATE
                response = there.ask(request, "INVITE", body=body, lines=lines)
            found = description_of(response)
            if response.is_success and not found:
                raise Reject(488)  # the other side has no answer
            answer = self.bridge.answer_to(there, self, found) if response.is_success else b""
        self.shown, there.shown = found or self.shown, offer if found else there.shown
        return self.success(request, response, *with_description(response, found, answer))

    def refer(self, request: Request, tx: ServerTransaction) -> int | Response | None:
        """Serve a REFER, as the policy says."""
        how = self.bridge.policy.refer
        if how == FOLLOW:
            self.bridge.follow(self, request, tx)
            return None
        if how != PASS or "REFER" not in self.bridge.policy.methods:
            return 603
        there = self._other()
        response = there.ask(request, lines=self._crossing(request), numbers=self.refers)
        return self.success(request, response, response.body, content_lines(response))

    def offered(self, offer: SDP | None, call: InviteSession) -> bytes | None:
        """Return the other side's answer to an offer in a PRACK. None leaves a refresh to the call.
        Raises Reject."""
        offers = call.offers
        if offer is None or same_session(offers.offer, offers.remote):
            return None
        there = self._other()
        if call is not self.call or there.call is None or call.is_caller:
            raise Reject(488)  # no offer was asked for
        description = in_turn(
            there, "UPDATE", lambda: self.bridge.offer_to(self, there, offers.offer)
        )
        with undone_if_refused(there):
            response = there.ask(call.sent_invite, "UPDATE", body=description, lines=[])
            found = description_of(response)
            if not response.is_success or not found:
                raise Reject(488)
            answer = self.bridge.answer_to(there, self, found)
        self.shown, there.shown = found, offers.offer
        return answer

    def _ask_for_offer(
        self, request: Request, tx: ServerTransaction, call: InviteSession, there: Leg
    ) -> int | Response | None:
        """Serve a re-INVITE without an offer. The other side makes one, and its ACK has our peer's
        answer."""
        await_turn(there, "INVITE")
        response = there.ask(request, lines=self._crossing(request), on_provisional=_ringing(tx))
        if not response.is_success:
            raise self.refusal(response)
        try:
            found = there.negotiation.offer if there.negotiation.owes_answer else b""
            if not found:
                raise Reject(488)
            offer = self.bridge.offer_to(there, self, found)
            with undone_if_refused(self):  # the other side keeps its session then
                tx.respond(
                    self.success(request, response, *with_description(response, found, offer))
                )
                self.shown = found
                call._wait_for_ack()
                answer = b"" if call.end is not None else call.offers.remote
                if answer:
                    there.take_answer(self.bridge.answer_to(self, there, answer))
                    there.shown = answer
        finally:
            there.keep_session()
        return None

    # ---- requests to the peer

    def ask(
        self,
        request: Request,
        method: str | None = None,
        *,
        body: bytes | None = None,
        lines: list[Line],
        on_provisional: OnProvisional | None = None,
        numbers: ReferNumbers | None = None,
    ) -> Response:
        """Send a request of the other side to our peer, and return the final response.

        Args:
            request: The request as it was received.
            method: The method, if it differs from the request's.
            body: The body, if it differs from the request's.
            lines: The header lines that cross.
            on_provisional: Gets each provisional response.
            numbers: Notes the CSeq of a REFER, which names a subscription.

        Raises:
            Reject: 483 for a Max-Forwards of 0, 491 if another change of the session is under way,
                481 if the call has ended.
            TransactionTimeout, TransportError, Cancelled: As for Call.request().
        """
        call = self.call
        assert call is not None  # _other() has looked
        hops = hops_left(request)

        def complete(copy: Request) -> None:
            headers = copy.headers
            if lines:
                for name in {line[0] for line in lines} & CONTENT:
                    headers.delete_header(name)
                headers.extend(lines)
            copy.max_forwards = hops
            if copy.method in GLARING:
                self.write_allowed(copy)
            if numbers is not None:
                numbers.note(copy, request)

        try:
            return call.request(
                method or request.method,
                body=request.body if body is None else body,
                on_provisional=on_provisional,
                crossing=complete,
            )
        except TransactionTimeout:
            if request.method != "INVITE":
                # the request that we serve has run out of time a little before ours
                call._hang_up(End("us", "timeout"))
            raise
        except TransactionStateError:
            raise Reject(481 if call.end is not None else 491) from None

    def method_for(self, method: str) -> str:
        """Return the method by which a change of the session is passed on to our peer.

        Raises:
            Reject: 500, because no UPDATE can be sent before the peer has answered.
        """
        if method == "UPDATE" and self.updates is False:
            if not self._is_confirmed:
                raise later()
            return "INVITE"
        return method

    def take_answer(self, answer: bytes) -> None:
        """Answer the offer in the 2xx of our peer, whose ACK waits for it."""
        call = self.call
        if call is not None and call._late is not None:
            call.answer(body=answer)

    def keep_session(self) -> None:
        """Answer a pending offer by the session that was agreed before."""
        call = self.call
        if call is None or call._late is None or call.end is not None:
            return
        if call.offers.local:
            call.answer(body=call.offers.kept(call._media_address))
        else:
            call.hangup()  # it has no session

    def hang_up(self, other: Leg | None = None, end: End | None = None) -> None:
        """End the call, because the other side has ended. The BYE has the Reason of that end."""
        call = self.call
        if call is None or call.end is not None:
            return
        if not call.is_confirmed:
            call.hangup()
            return
        bye = None if other is None else other.bye
        lines = (
            [] if bye is None else self.bridge.policy.lines(bye, Kind.REQUEST, credentials=False)
        )
        reason = None if bye is not None or end is None else reason_for(end)
        if reason is not None:
            lines.append(("Reason", USUAL, reason))
        complete = completion(lines, bye)
        text = next((line[2] for line in lines if line[0] == "Reason"), "")
        call._hang_up(End("us", "bye", 0, text), {CROSSING: complete} if lines or bye else None)

    # ---- responses

    def success(
        self, request: Request, response: Response, body: bytes, lines: list[Line]
    ) -> Response:
        """Return the 2xx to our peer's request for that of the other side. Raises Reject."""
        if not response.is_success:
            raise self.refusal(response)
        answer = request.response(response.status, response.reason, body=body)
        crossing = self.bridge.policy.lines(response, Kind.SUCCESS)
        answer.headers.extend([*crossing, *lines])
        if request.method in GLARING:
            self.write_allowed(answer)
        return answer

    def refusal(self, response: Response) -> Reject:
        """Return the refusal of our peer's request for that of the other side."""
        refusal = Reject(response.status, response.reason, response=response)
        refusal.also = self.bridge.policy.names_in_refusal(response)
        return refusal

    # ---- parts

    @property
    def _is_confirmed(self) -> bool:
        return self.call is not None and self.call.is_confirmed

    def _other(self) -> Leg:
        """Return the other side. Raises Reject if it cannot be asked now."""
        peer = self.peer
        if peer is None or peer.call is None:
            raise later()
        if peer.call.end is not None:
            raise Reject(481)  # its end is being passed on
        return peer

    def _crossing(self, request: Request) -> list[Line]:
        """Return the header lines of our peer's request that cross, with those of its body."""
        policy = self.bridge.policy
        lines = policy.lines(
            request, Kind.REQUEST, credentials=not self.bridge.credentials_are_ours
        )
        lines += content_lines(request)
        if request.method == "SUBSCRIBE":
            lines = self.refers.as_passed_on(lines)
        elif request.method == "NOTIFY" and self.peer is not None:
            lines = self.peer.refers.as_received(lines)
        return lines

    def _described(self, request: Request, offer: bytes) -> tuple[bytes, list[Line]]:
        """Return the body and the header lines of a change of the session that is passed on."""
        lines = [line for line in self._crossing(request) if line[0] not in CONTENT]
        body, content = with_description(request, description_of(request), offer)
        return body, lines + content

    def __repr__(self) -> str:
        return f"<Leg {self.tag} {self.call!r}>"


def _ringing(tx: ServerTransaction) -> OnProvisional:
    """Return a function that passes on the 180 to a re-INVITE."""

    def ringing(response: Response) -> None:
        if response.status > 100 and tx.request.method == "INVITE" and not tx.answered:
            tx.respond(response.status, response.reason)

    return ringing
