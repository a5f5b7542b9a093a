"""InviteSession: the protocol of a call, RFC 3261 §13 to §15.

Early and confirmed calls, re-INVITE and UPDATE with their glare, the ACK to a 2xx and the BYE are
here. The application sees the base class `Call` in call.py. What later RFCs add is in rules.
"""

from __future__ import annotations

import random
from typing import Any

from ...arguments import seconds as check_seconds
from ...errors import Reject, TransactionStateError, TransactionTimeout
from ...message.message import Request, Response
from ..argument_checks import check_alone
from ..auth.credentials import Given, keyring
from ..client.retry import Retry
from ..client.transaction import ClientTransaction
from ..element import Element, InvitingRequest, ServedRequest
from .answer import Answer
from .call import OnProvisional
from .effects import Effect, effect_on_call
from .end import End, reason_in
from .ending_call import EndingCall
from .glare import GLARING, glare
from .negotiation import ACCEPTED, ACK, UPDATE_ACCEPTED
from .offer_answer import carrier_of
from .reinvite import Modification, Reinvite
from .rule import Rules
from .state import DialogState

_SERVED = frozenset(("BYE", "INVITE"))


class InviteSession(EndingCall):
    """A call with its protocol. Sends and receives the messages within the call.

    It begins with its dialog, so it is early at first unless the first response is a 2xx (§12.1).

    Args:
        stack: The element that the call belongs to.
        dialog: The dialog.
        invite: The INVITE that begins the call.
        plan: The rules that the session asks.
        ours: The transaction of the INVITE, if it is ours.
        theirs: The transaction of the INVITE, if it is the peer's.
    """

    def __init__(
        self,
        stack: Element,
        dialog: DialogState,
        invite: Request,
        plan: Rules,
        *,
        ours: InvitingRequest | None = None,
        theirs: ServedRequest | None = None,
    ) -> None:
        begins = ours if theirs is None else theirs
        EndingCall.__init__(self, stack.clock, dialog, None if begins is None else begins.terms)
        self.stack = stack
        self.invite = invite
        self.is_caller = theirs is None
        self.is_confirmed = False
        self.plan = plan
        self.rules = plan.unmet
        for place in plan.always if theirs is None else plan.ringing:
            self._make(place)
        dialog.usages = (*dialog.usages, self) if dialog.usages else (self,)
        self._serving: tuple[ServedRequest, ...] = () if theirs is None else (theirs,)
        self._reinvite: InvitingRequest | None = ours
        self._update: ClientTransaction | None = None
        self._answer: Answer | None = None
        self._bye: dict[str, Any] | None = None  # the header fields of a BYE that waits for the ACK
        self._failure: BaseException | None = None
        if theirs is None:
            self.offers.give("INVITE", invite)
        else:
            self.offers.take_request(invite)

    # ---- for applications

    def request(
        self,
        method: str,
        *,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        credentials: Given | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        given, timeout = keyring(credentials), check_seconds("timeout", timeout)
        is_invite, is_update = method == "INVITE", method == "UPDATE"
        if self.end is not None:
            raise TransactionStateError(f"the call has ended: no {method} can be sent in it")
        if method in ("ACK", "CANCEL"):
            check_alone(method)
        if method in GLARING and self._collides(method, bool(body)):
            raise TransactionStateError(
                f"another INVITE or UPDATE is under way: send the {method} after its final response"
            )
        if body and method in GLARING:
            headers.setdefault("content_type", self.local_type)
        if method == "BYE" and (self.is_confirmed or not self.is_caller):
            if not self.is_confirmed:
                raise TransactionStateError(
                    "a callee sends no BYE before its 2xx (§15): refuse the INVITE, or hang up"
                )
            self._inbox.wait(lambda: self.acknowledged or self.end is not None)  # §15
        request = self._within(method, body, headers)
        if method == "BYE":
            self._end_by_bye(End("us", "bye", 0, reason_in(request)))
            self._forget(by_us=True)
        elif method in GLARING:
            self.offers.give(method, request)
            if is_update and "contact" in headers:
                self._keep_contact(request)
        tx: ClientTransaction
        if is_invite:
            tx = self._reinvite = Reinvite(self, request)
        elif is_update:
            tx = self._update = Modification(self, request)
        else:
            tx = ClientTransaction(self.stack, request)
        if given is not None:
            tx.retry = Retry(given)
        self.dialog.send(request, tx, self)
        try:
            response = tx.final(on_provisional, timeout)
        except TransactionTimeout:
            # the transaction, not only the caller's `timeout` (RFC 5057 §5.2)
            if tx.failed and effect_on_call(method, 408) is not Effect.TRANSACTION:
                self._hang_up(End("us", "timeout"))
            raise
        if not response.is_success:
            self._take_effect(method, response)
        return response

    def send(self, method: str, *, body: bytes | str = b"", **headers: Any) -> ClientTransaction:
        """Send a request within the session without waiting for its response. Raises SIPError."""
        request = self._within(method, body, headers)
        tx = ClientTransaction(self.stack, request)
        self.dialog.send(request, tx, self)
        return tx

    # ---- the early dialog

    def _provisional(self, response: Response) -> bool:
        """Take a 101 to 199 to our INVITE. False hides it from the application."""
        if not self.is_confirmed and self.dialog.remote_target == self.invite.uri:
            self.dialog.take_target(response)  # the first one may have had no Contact
        shown = self._is_shown(response)
        if shown and response.body:
            self.offers.take(carrier_of(response), response)
        return shown

    # ---- our 2xx and its ACK

    def _answered(self, tx: ServedRequest, response: Response) -> None:
        """Repeat the 2xx that we sent until its ACK arrives, and note what was agreed."""
        request = tx.request
        if self.is_confirmed:
            self.dialog.refresh_by(request)
        else:
            serving = self._serving
            self._serving = (
                () if serving == (tx,) else tuple([each for each in serving if each is not tx])
            )
            self._establish(response)
        if self._answer is not None:
            self._confirm()  # the peer has sent another INVITE, so it has that 2xx
        self.acknowledged = False
        self._answer = Answer(self.stack, tx, response, self._give_up)
        self._note_answer(request, response, by_us=True)

    def _wait_for_ack(self) -> None:
        """Wait for the ACK to this 2xx, not to a later one. Raises TransactionTimeout."""
        answer = self._answer
        try:
            self._inbox.wait(lambda: answer is None or answer.is_stopped or self.end is not None)
        except BaseException:
            self.hangup()
            raise
        if self._failure is not None:
            raise self._failure

    def _transaction_ended(self, tx: object) -> None:
        """Let go of an INVITE or UPDATE of ours whose transaction has ended, and of its ACK.

        A call may last for hours, and a 2xx that is repeated after 64*T1 gets no ACK.
        """
        if self._update is tx:
            self._update = None
        elif self._reinvite is tx:
            self._reinvite = self.dialog.last_ack = None

    def _receive_ack(self, ack: Request) -> None:
        """Take the ACK to our last 2xx. An earlier one is ignored."""
        if self._answer is not None and self._answer.number == ack.mandatory.cseq:
            if self.offers.offer:
                self._take_answer(ACK, ack)
            bound = self.stack.engine.amplification
            if self._answer.host not in bound.acknowledged:
                self._answer.stop()
            self._confirm()

    def _give_up(self) -> None:
        """End the call with a BYE, because no ACK has come in 64*T1 (§13.3.1.4)."""
        self._failure = TransactionTimeout("no ACK to the 200 in time")
        self._hang_up(End("us", "no ack"))
        self._confirm()

    def _establish(self, response: Response) -> None:
        """Note that the call is answered (§12.1, §13.2.2.4)."""
        self.is_confirmed, self.response = True, response
        self.stack.dialogs.confirm(self)

    def _confirm(self) -> None:
        """Continue after the ACK or its timeout. Sends a BYE that waited for the ACK."""
        self.acknowledged = True
        self._stop_answer()
        self._inbox.wake()
        if self._bye is not None:
            self._send_bye()

    def _stop_answer(self) -> None:
        if self._answer is not None:
            self._answer.is_stopped, self._answer = True, None

    # ---- the peer's requests

    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Serve a request within the call; NotImplemented leaves it to the core.

        A request is refused before it has changed anything (§8.2, §12.2.2). Raises Reject.
        """
        self._inspect(request, tx)
        method, plan, fields = request.method, self.plan, request.headers.fields
        if method in GLARING:
            self.offers.take_request(request)
        if method in plan.by_method or not plan.fields.isdisjoint(fields):
            self._meet(fields, method)
        for place in plan.received:
            rule = self.rules[place]
            answer = None if rule is None else rule.received(request, tx)
            if answer is not None:
                return answer
        if method == "BYE":
            self._bye = None
            serving = self._serving
            self._end_by_bye(End("peer", "bye", 0, reason_in(request)))
            self._forget()
            for pending in serving:
                pending.cancel(request)  # 487 to what is still unanswered (§15.1.2)
            return 200
        self._serving = (*self._serving, tx)
        if method != "INVITE":
            return NotImplemented  # type: ignore[no-any-return]  # leaves it to the core
        if self._on_reinvite is not None:
            return self._on_reinvite(request, tx)
        return self.offers.response_to(request)

    @property
    def served_invite(self) -> ServedRequest | None:
        for tx in self._serving:
            if tx.request.method == "INVITE" and not tx.answered:
                return tx
        return None

    @property
    def sent_invite(self) -> Request:
        return self.invite if self._reinvite is None else self._reinvite.request

    def _inspect(self, request: Request, tx: ServedRequest) -> None:
        """Refuse a request that cannot be served, in the order of §8.2. Raises Reject.

        That order is method, header fields, Require, content. Only the remote sequence number
        changes: §12.2.2 wants it noted for each request that is in order. A method that the core
        does not serve is left to the core, because its 405 or 501 comes first (§8.2.1).
        """
        method = request.method
        if self.end is not None and method != "BYE":
            raise Reject(481)  # RFC 5407 §3.2.2
        requires = "Require" in request.headers.fields
        if requires and (method in _SERVED or self.stack.handles(method)):
            tx.check_required()
        if self._serving:
            self._serving = tuple([other for other in self._serving if not other.answered])
        if method in GLARING:
            has_offer = bool(request.body)
            status = glare(method, has_offer, self._pending()) or self.offers.refusal(
                method, has_offer
            )
            if status == 500:
                raise Reject(500, retry_after=random.randint(0, 10))
            if status is not None:
                raise Reject(status)
            if has_offer and self._on_reinvite is None:
                self._check_type(request)

    def _responding(self, request: Request, response: Response) -> None:
        """Wait until no rule holds our response to an INVITE or UPDATE, and let them complete it.

        Raises:
            Reject: A rule refuses the request instead.
            Cancelled: The caller has given up, or the INVITE was refused meanwhile.
            TransactionStateError: The call has ended meanwhile.
        """
        plan, fields = self.plan, response.headers.fields
        if not plan.fields.isdisjoint(fields):
            self._meet(fields)
        if response.status >= 200:
            for place in plan.late:
                self._make(place)
        method = request.method
        if method == "INVITE":
            for place in plan.holds:
                rule = self.rules[place]
                if rule is not None and rule.holds(response):
                    self._hold(response)
                    break
        for place in plan.responding:
            rule = self.rules[place]
            if rule is not None:
                rule.responding(request, response)
        if method == "UPDATE" and "Contact" in fields:
            self._keep_contact(response)  # the core's own: the stack writes its own later
        if response.status >= 200 or response.body:
            carrier = carrier_of(response) if method == "INVITE" else UPDATE_ACCEPTED
            self.offers.give(carrier, response)

    def _keep_contact(self, update: Request | Response) -> None:
        """Have the 2xx to the peer's first INVITE say the Contact of our UPDATE, or of our response
        to one (RFC 3311 §5.1)."""
        invite = None if self.is_confirmed else self.served_invite
        text = update.headers.get("Contact")
        if invite is not None and text is not None:
            invite.keep_contact(text)

    def _refreshed(self, update: Request, response: Response, *, by_us: bool) -> None:
        """Take the target of an UPDATE, ours or the peer's, that was accepted (RFC 3311 §5)."""
        if by_us:
            self.dialog.refresh_by(update)
            self._inbox.wake()  # a request of ours may have waited for it (RFC 3311 §5.1)
        else:
            self.dialog.refresh_from(response)
        self._note_answer(update, response, by_us=by_us)

    # ---- the peer's 2xx

    def _accepted(self, request: Request, response: Response) -> None:
        """Take the peer's 2xx to an INVITE of ours."""
        if self.is_confirmed:
            self.dialog.refresh_from(response)
        else:
            self.dialog.establish(response)
            self._establish(response)
            if self.end is not None and self.end.by == "peer":
                self._bye = {}  # its BYE came before its 2xx, so our ACK is followed by one
        self._take_answer(ACCEPTED, response)
        self._note_answer(request, response, by_us=False)

    def _acknowledged(self) -> None:
        if not self.acknowledged and self._answer is None:
            self._confirm()
