"""InviteSession: the protocol of a call, RFC 3261 §13 to §15.

Re-INVITE and UPDATE with their glare, the ACK to a 2xx and the BYE are here. The application sees
the base class `Call` in call.py.
"""

from __future__ import annotations

import logging
import random
from typing import Any

import gevent

from ...arguments import seconds as check_seconds
from ...errors import Reject, SIPError, TransactionStateError, TransactionTimeout
from ...message.body import Part
from ...message.fields.rfc3261 import Warning as SIPWarning
from ...message.message import Request, Response
from ...observe.counters import Plain
from ...transport.base import Flow, Origin
from ..auth.credentials import Given, keyring
from ..client.retry import Retry
from ..client.transaction import ClientTransaction
from ..element import Element, ServedRequest
from ..routing.sips import AGENT
from .call import SESSION_TYPE, Call, OnProvisional
from .end import End
from .glare import GLARING, Pending, glare
from .retransmission import Retransmission
from .rule import Rule, Rules
from .state import DialogState
from .usage import Usage

log = logging.getLogger("sippet_gevent.core")

CANNOT_CHANGE = SIPWarning(399, AGENT, "The Session Cannot Be Changed")
"""The Warning of a 488 to a re-INVITE (§14.2)."""

BYE = End("us", "bye")

_SERVED = frozenset(("BYE", "INVITE"))
_THEIRS = {"INVITE": Pending.THEIR_INVITE, "UPDATE": Pending.THEIR_UPDATE}


class InviteSession(Call, Usage):
    """A call with its protocol. Sends and receives the messages within the call.

    Args:
        stack: The element that the call belongs to.
        dialog: The dialog.
        invite: The INVITE that begins the call.
        plan: The rules that the session asks.
        is_caller: True when the INVITE is ours.
    """

    dialog: DialogState

    def __init__(
        self, stack: Element, dialog: DialogState, invite: Request, plan: Rules, *, is_caller: bool
    ) -> None:
        super().__init__(stack.clock, dialog)
        self.stack = stack
        self.invite = invite
        self.is_caller = is_caller
        self.is_confirmed = True
        self.plan = plan
        self.rules: tuple[Rule, ...] = tuple([rule(self) for rule in plan.classes])
        dialog.usages.append(self)
        self._serving: list[ServedRequest] = []
        self._reinvite: ClientTransaction | None = None
        self._update: ClientTransaction | None = None
        self._answer: Answer | None = None
        self._ack: Request | None = None
        self._bye: dict[str, Any] | None = None  # the header fields of a BYE that waits for the ACK
        self._failure: SIPError | None = None

    @property
    def flow(self) -> Flow | None:
        return self.dialog.flow

    @flow.setter
    def flow(self, flow: Flow | None) -> None:
        self.dialog.flow = flow

    @property
    def origin(self) -> Origin | None:
        return self.dialog.origin

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
        given = keyring(credentials)
        timeout = check_seconds("timeout", timeout)
        is_invite, is_update = method == "INVITE", method == "UPDATE"
        if self.ended.is_set():
            raise TransactionStateError(f"the call has ended: no {method} can be sent in it")
        if method in GLARING and self._must_wait(method, bool(body)):
            raise TransactionStateError(
                f"another INVITE or UPDATE is under way: send the {method} after its final response"
            )
        if is_invite and body:
            headers.setdefault("content_type", self.local_type)
        if method == "BYE":
            # it follows the ACK (§15)
            self._inbox.wait(lambda: self.acknowledged or self.ended.is_set())
        request = self.dialog.request(method, body=body, **headers)
        for place in self.plan.requesting:
            self.rules[place].requesting(request)
        if method == "BYE":
            self._end(BYE)
            self._forget(by_us=True)
        tx: ClientTransaction
        if is_invite:
            tx = self._reinvite = Reinvite(self, request)
        else:
            tx = ClientTransaction(self.stack, request)
            if is_update:
                self._update = tx
        if given is not None:
            tx.retry = Retry(given)
        try:
            self.stack.sender.send(
                request,
                self.dialog.next_hop,
                user=tx,
                listener=self.dialog.origin,
                within=self,
            )
        except SIPError as error:
            tx.fail(error)  # so that it is no longer under way
            raise
        except BaseException:  # the core's Timeout, while a name was resolved: end it too
            tx._abandon()
            tx.ended()
            raise
        try:
            response = tx.final(on_provisional, timeout)
        except TransactionTimeout:
            if tx.failed:  # the transaction, not only the caller's `timeout`
                self.hangup()
            raise
        if response.status in (408, 481):
            self.hangup()
        elif response.is_success and is_update:
            self._refreshed(tx.request, response, by_us=False)
        return response

    def hangup(self, **headers: Any) -> None:
        if self.ended.is_set():
            return
        if headers:
            # an invalid header field raises here, not when the BYE is sent
            Request("BYE", self.dialog.remote_target, **headers)
        self._bye = headers
        self._end(BYE)
        if self.acknowledged:
            self._send_bye()

    # ---- our 2xx and its ACK

    def _answered(self, tx: ServedRequest, response: Response) -> None:
        """Repeat the 2xx that we sent until its ACK arrives, and note what was agreed."""
        request = tx.request
        self._agree(response, request)
        self.dialog.refresh_by(request)
        self.acknowledged = False
        if self._answer is not None:
            self._stop_answer(self._answer)
        self._answer = Answer(self, tx, response)
        for place in self.plan.answered:
            self.rules[place].answered(request, response, by_us=True)

    def _wait_for_ack(self) -> None:
        """Wait for the ACK. Raises TransactionTimeout when none arrives."""
        try:
            self._inbox.wait(lambda: self.acknowledged or self.ended.is_set())
        except BaseException:
            self.hangup()
            raise
        if self._failure is not None:
            raise self._failure

    def _receive_ack(self, ack: Request) -> None:
        """Take the ACK to our 2xx. An ACK to an earlier 2xx is ignored."""
        if self._answer is not None and self._answer.number == ack.mandatory.cseq:
            self.remote_body = ack.body or self.remote_body
            self._confirm()

    def _give_up(self) -> None:
        """End the call with a BYE, because no ACK has come in 64*T1 (§13.3.1.4)."""
        self._failure = TransactionTimeout("no ACK to the 200 in time")
        self.hangup()
        self._confirm()

    def _confirm(self) -> None:
        """Continue after the ACK or its timeout. Sends a BYE that waited for the ACK."""
        self.acknowledged = True
        if self._answer is not None:
            self._stop_answer(self._answer)
        self._inbox.wake()
        if self._bye is not None:
            self._send_bye()

    def _stop_answer(self, answer: Answer) -> None:
        answer.is_stopped = True
        self._answer = None

    # ---- the peer's requests

    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Serve a request within the call; NotImplemented leaves it to the core.

        A request is refused before it has changed anything (§8.2, §12.2.2). Raises Reject.
        """
        self._inspect(request, tx)
        for place in self.plan.received:
            answer = self.rules[place].received(request, tx)
            if answer is not None:
                return answer
        if request.method == "BYE":
            self._bye = None
            self._end(End("peer", "bye"))
            self._forget()
            for pending in self._serving:
                pending.cancel()  # 487 to what is still unanswered (§15.1.2)
            return 200
        self._serving.append(tx)
        if request.method != "INVITE":
            return NotImplemented  # type: ignore[no-any-return]
        if self._on_reinvite is not None:
            return self._on_reinvite(request, tx)
        return request.response(
            200, body=self.local_body, content_type=self.local_type if self.local_body else None
        )

    def _inspect(self, request: Request, tx: ServedRequest) -> None:
        """Refuse a request that cannot be served, in the order of §8.2. Raises Reject.

        That order is method, header fields, Require, content. Only the remote sequence number
        changes: §12.2.2 wants it noted for each request that is in order. A method that the core
        does not serve is left to the core, because its 405 or 501 comes first (§8.2.1).
        """
        method = request.method
        if self.ended.is_set() and method != "BYE":
            raise Reject(481)  # RFC 5407 §3.2.2
        if not self.dialog.receives(request):
            raise Reject(500, "Out of Order")  # §12.2.2
        if method in _SERVED or self.stack.handles(method):
            tx.check_required()
        self._serving = [other for other in self._serving if not other.answered]
        if method in GLARING:
            status = glare(method, bool(request.body), self._pending())
            if status == 500:
                raise Reject(500, retry_after=random.randint(0, 10))
            if status is not None:
                raise Reject(status)
            if (
                method == "INVITE"
                and self._on_reinvite is None
                and request.body
                and request.body != self.remote_body
            ):
                if Part.of(request).not_understood(SESSION_TYPE):
                    raise Reject(415, accept=SESSION_TYPE)  # §8.2.3
                raise Reject(488, warning=(CANNOT_CHANGE,))  # §14.2

    def _responding(self, request: Request, response: Response) -> None:
        """Let the rules complete our response to an INVITE or UPDATE. Raises Reject."""
        for place in self.plan.responding:
            self.rules[place].responding(request, response)

    def _refreshed(self, update: Request, response: Response, *, by_us: bool) -> None:
        """Take the target of an UPDATE, ours or the peer's, that was accepted (RFC 3311 §5)."""
        if by_us:
            self.dialog.refresh_by(update)
        else:
            self.dialog.refresh_from(response)
        for place in self.plan.answered:
            self.rules[place].answered(update, response, by_us=by_us)

    # ---- glare

    def _pending(self) -> set[Pending]:
        """Return the INVITE and UPDATE transactions that others have to wait for."""
        serving = [tx.request.method for tx in self._serving if not tx.answered]
        pending = {_THEIRS[method] for method in serving if method in _THEIRS}
        if self._reinvite is not None and self._reinvite.is_pending:
            pending.add(Pending.OUR_INVITE)
        if self._update is not None and self._update.is_pending:
            pending.add(Pending.OUR_UPDATE)
        if self._answer is not None and self._answer.is_offer:
            pending.add(Pending.OUR_OFFER)
        return pending

    def _must_wait(self, method: str, has_offer: bool) -> bool:
        """True when an INVITE or UPDATE of ours would collide with another one.

        RFC 3261 §14.1, RFC 6337 §4.3, rules for the UAC.
        """
        pending = self._pending()
        if method == "UPDATE" and not has_offer:
            return Pending.OUR_UPDATE in pending
        return glare(method, has_offer, pending) is not None or (
            method == "INVITE" and not self.acknowledged
        )

    # ---- the peer's 2xx

    def _agree(self, ours: Request | Response, theirs: Request | Response) -> None:
        """Note the session descriptions of an INVITE and its 2xx (§13.2.1)."""
        if ours.body:
            self.local_body, self.local_type = ours.body, str(ours.content_type or SESSION_TYPE)
        self.remote_body = theirs.body or self.remote_body

    def _accepted(self, request: Request, response: Response) -> None:
        """Take the peer's 2xx to an INVITE of ours."""
        self._agree(request, response)
        self.dialog.refresh_from(response)
        for place in self.plan.answered:
            self.rules[place].answered(request, response, by_us=False)

    def _acknowledge(self, invite: Request) -> None:
        """Send the ACK to a 2xx. Each repetition of the 2xx gets the same ACK (§13.2.2.4)."""
        number = invite.cseq.number
        try:
            if (
                self._ack is None
                or self._ack.cseq.number != number
                or not self.dialog.repeat(self._ack)
            ):
                ack = self.dialog.ack(
                    number,
                    authorization=invite.authorization,
                    proxy_authorization=invite.proxy_authorization,
                )
                self._ack = self.stack.sender.acknowledge(
                    ack, self.dialog.next_hop, self.dialog.origin
                )
        except (Exception, gevent.Timeout) as error:  # middleware may raise anything
            self._warn("ACK not sent", error)
        if not self.acknowledged and self._answer is None:
            self._confirm()

    # ---- the end

    def _leave(self) -> None:
        """Hang up without waiting for the ACK."""
        self.hangup()
        self._confirm()

    def _drop(self) -> None:
        """End the call without a message to the peer, because the stack has stopped."""
        self._end(End("stack", "stopped"))
        if self._answer is not None:
            self._stop_answer(self._answer)

    def _let_go(self) -> None:
        """Note that the core no longer holds this call."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder._release()

    def _end(self, end: End) -> None:
        if self.end is not None:
            return
        self.end = end
        self.ended.set()
        self._inbox.wake()
        self._let_go()
        for place in self.plan.ended:
            self.rules[place].ended(end)

    def wake(self) -> None:
        self._inbox.wake()

    def _forget(self, *, by_us: bool = False) -> None:
        if self._answer is not None:
            self._stop_answer(self._answer)
        self.stack.dialogs.remove(self, by_us=by_us)

    def _send_bye(self) -> None:
        headers, self._bye = self._bye, None
        self._forget(by_us=True)
        bye = self.dialog.request("BYE", **headers or {})
        for place in self.plan.requesting:
            self.rules[place].requesting(bye)
        try:
            self.stack.sender.send(
                bye, self.dialog.next_hop, listener=self.dialog.origin, within=self
            )
        except Exception as error:  # middleware may raise anything
            self._warn("BYE not sent", error)

    def _warn(self, event: str, error: BaseException) -> None:
        text = f'{event}: call_id=%s reason="%s"'
        now, call_id = self.stack.clock.now(), Plain(self.dialog.call_id)
        counters = self.stack.engine.counters
        if isinstance(error, SIPError):
            counters.warn(event, now, text, call_id, str(error), log=log)
        else:
            counters.core_errors += 1
            counters.error(event, now, text, call_id, error, exc_info=error, log=log)


class Answer(Retransmission):
    """Our 2xx to an INVITE, repeated until its ACK comes, over any transport (§13.3.1.4)."""

    __slots__ = ("_call", "is_offer", "number")

    def __init__(self, call: InviteSession, tx: ServedRequest, response: Response) -> None:
        transaction = tx.transaction
        super().__init__(call.stack, transaction, response, transaction.timers.t2)
        self._call = call
        self.number = tx.request.mandatory.cseq
        # its answer comes in the ACK (§13.2.1)
        self.is_offer = bool(response.body) and not tx.request.body

    def _give_up(self) -> None:
        self._call._give_up()


class Reinvite(ClientTransaction):
    """Our INVITE within a call. Its 2xx changes the call even if no greenlet waits for it any more
    (§14.1)."""

    __slots__ = ("_within",)

    def __init__(self, call: InviteSession, request: Request) -> None:
        super().__init__(call.stack, request)
        self._within = call

    def _accepted(self, response: Response) -> None:
        self._within._accepted(self.request, response)
        self._deliver(response)
        self._within._acknowledge(self.request)

    def _again(self, response: Response) -> None:
        self._within._acknowledge(self.request)
