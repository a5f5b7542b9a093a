"""Call: an answered INVITE you can talk in, RFC 3261 §13 to §15; Calls: all of a stack, by dialog."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from ..errors import ParseError, Reject, SIPError, TransactionStateError, TransactionTimeout, TransportError
from ..message.message import Request, Response
from ..transport.base import Flow
from .dialog import Dialog, DialogID, dialog_id
from .inbox import Inbox
from .outbound import Reach, can_be_dialled, reach_of_sender
from .uac import ClientTransaction, OnProvisional

if TYPE_CHECKING:
    from .uas import ServerTransaction

LEAVE_SECONDS = 5.0
"""How long a stack that stops resolves names to send its last BYEs."""

SESSION_TYPE = "application/sdp"
"""Content-Type of a session description that comes without one (§13.2.1)."""


class Call:
    """One call. `dialog` is its state, `remote_body` the peer's last session description, `ended` an Event.

    Leaving a `with call:` block hangs up. BYE is answered by itself; a re-INVITE that changes nothing is answered with
    the body we sent, any other refused with 488, which leaves the session as it was (§14.2), unless `on_reinvite` is set:
    a core, `on_reinvite(request, tx)`. Other requests within the call go to the stack's core, with `tx.call` set.
    """

    def __init__(self, stack: Any, dialog: Dialog, origin: Any = None) -> None:
        self.stack = stack
        self.dialog = dialog
        self.origin = origin
        """Where the dialog came in; our requests leave there, where that leads to their target."""
        self.local_body = self.remote_body = b""
        self.local_type = SESSION_TYPE
        self.ended = Event()
        self.flow: Flow | None = None
        """By what the peer is reached who cannot be dialled: the flow he has called or was called by (RFC 5626 §5.3)."""
        self.keeps_alive = False
        """True when a flow is pinged for as long as it lasts (RFC 6223 §4.2.3); other calls may have the same Call-ID."""
        self.on_reinvite: Callable[[Request, Any], Any] | None = None
        self.acknowledged = False
        self.holder: ServerTransaction | None = None
        """The request whose core has accepted or made this call, until it ends: that core is not counted as a handler."""
        self._inbox = Inbox(stack.clock)
        self._serving: list[ServerTransaction] = []
        self._reinvite: ClientTransaction | None = None
        self._answer: Answer | None = None
        self._ack: Request | None = None
        self._bye: dict[str, Any] | None = None  # the headers of a BYE that waits for the ACK
        self._failure: SIPError | None = None

    # ---- for users

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the call has ended, at most this long; True when it has. Raises Cancelled like any wait."""
        return self._inbox.wait(self.ended.is_set, seconds)

    def request(
        self,
        method: str,
        *,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request within the call and return its final response; a re-INVITE is acknowledged (§12.2.1, §14.1).

        Raises TransactionTimeout and TransportError, TransactionStateError for a re-INVITE while another is under way.
        408 and 481, and no answer at all, end the call (§12.2.1.2).
        """
        is_invite = method == "INVITE"
        if self.ended.is_set():
            raise TransactionStateError(f"the call has ended: no {method} can be sent in it")
        if is_invite:
            if self._inviting():
                raise TransactionStateError("another INVITE is under way in this call (§14.1)")
            if body:
                headers.setdefault("content_type", self.local_type)
        if method == "BYE":
            self._inbox.wait(lambda: self.acknowledged or self.ended.is_set())  # it follows the ACK (§15)
        request = self.dialog.request(method, body=body, **headers)
        if method == "BYE":
            self._end()
        tx: ClientTransaction
        if is_invite:
            tx = self._reinvite = Reinvite(self, request)
        else:
            tx = ClientTransaction(self.stack, request)
        try:
            self.stack.sender.send(request, self._next_hop, user=tx, listener=self.origin)
        except SIPError as error:
            tx.fail(error)  # so that it is no longer under way
            raise
        try:
            response = tx.final(on_provisional, timeout)
        except TransactionTimeout:
            if tx.failed:  # not only the user's own patience
                self.hangup()
            raise
        if response.status in (408, 481):
            self.hangup()
        elif response.is_success and method == "UPDATE":
            self._refresh(response)
        return response

    def hangup(self, **headers: Any) -> None:
        """End the call: a BYE is sent and not waited for (§15.1.1). Nothing happens when it has ended.

        On the wire the BYE follows the ACK, whichever side sends that (§15): when it is there, or overdue.
        """
        if self.ended.is_set():
            return
        if headers:
            Request("BYE", self.dialog.remote_target, **headers)  # raises now for what could not be sent then
        self._bye = headers
        self._end()
        if self.acknowledged:
            self._send_bye()

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hangup()

    # ---- we answered

    def answered(self, tx: ServerTransaction, response: Response) -> None:
        """Our 2xx is out: it is repeated until its ACK comes, and what its INVITE asked for is agreed."""
        self.agree(response, tx.request)
        self.flow = None if reach_of_sender(tx.request) is Reach.AT_CONTACT else tx.request.flow
        self.acknowledged = False
        self._answer = Answer(self, tx, response)

    def wait_for_ack(self) -> None:
        """Wait until the ACK is here. Raises TransactionTimeout when none comes."""
        try:
            self._inbox.wait(lambda: self.acknowledged or self.ended.is_set())
        except BaseException:
            self.hangup()
            raise
        if self._failure is not None:
            raise self._failure

    def give_up(self) -> None:
        """No ACK has come in 64*T1: the call is there, and ended by a BYE (§13.3.1.4)."""
        self._failure = TransactionTimeout("no ACK to the 200 in time")
        self.hangup()
        self.confirm()

    def leave(self) -> None:
        """Hang up without waiting for the ACK."""
        self.hangup()
        self.confirm()

    def confirm(self) -> None:
        """The ACK is there, or not waited for any more: a BYE that waited for it goes."""
        self.acknowledged = True
        self._answer = None
        self._inbox.wake()
        if self._bye is not None:
            self._send_bye()

    # ---- from the wire

    def receive_ack(self, ack: Request) -> None:
        """Take the ACK to our 2xx; one to an earlier 2xx says nothing about it."""
        if self._answer is not None and self._answer.number == ack.essentials.cseq:
            self.remote_body = ack.body or self.remote_body
            self.confirm()

    def receive_request(self, request: Request, tx: ServerTransaction) -> Any:
        """Serve a request within the call; NotImplemented leaves it to the core."""
        if self.ended.is_set() and request.method != "BYE":
            return 481
        if not self.dialog.receives(request):
            return 500  # §12.2.2: out of order
        if request.method == "BYE":
            self._bye = None
            self._end()
            for pending in self._serving:
                pending.cancel()  # 487 to what is still unanswered (§15.1.2)
            return 200
        self._serving = [other for other in self._serving if not other.answered]
        if request.method == "INVITE":
            return self._receive_reinvite(request, tx)
        self._serving.append(tx)
        return NotImplemented

    def _receive_reinvite(self, request: Request, tx: ServerTransaction) -> Any:
        if self._reinvite is not None and self._reinvite.is_pending:
            return 491  # §14.2: both sides at once
        if any(other.request.method == "INVITE" for other in self._serving):
            raise Reject(500, retry_after=random.randint(0, 10))  # §14.2
        self._serving.append(tx)
        if self.on_reinvite is not None:
            tx.check_required()
            return self.on_reinvite(request, tx)
        if request.body and request.body != self.remote_body:
            return 488
        return request.response(200, body=self.local_body, content_type=self.local_type if self.local_body else None)

    # ---- the peer answered

    def agree(self, ours: Request | Response, theirs: Request | Response) -> None:
        """Note what an INVITE and its 2xx have settled: session descriptions and the peer's target (§13.2.1, §12.2)."""
        if ours.body:
            self.local_body, self.local_type = ours.body, str(ours.content_type or SESSION_TYPE)
        self.remote_body = theirs.body or self.remote_body
        self._refresh(theirs)

    def acknowledge(self, invite: Request) -> None:
        """Send the ACK to a 2xx, made once and repeated for each repetition of it (§13.2.2.4)."""
        number = invite.cseq.number
        try:
            if self._ack is None or self._ack.cseq.number != number or not self._repeat(self._ack):
                ack = self.dialog.ack(
                    number, authorization=invite.authorization, proxy_authorization=invite.proxy_authorization
                )
                self.stack.sender.send(ack, self._next_hop, listener=self.origin)
                self._ack = ack
        except SIPError as error:
            self._warn("ACK", error)
        if not self.acknowledged and self._answer is None:
            self.confirm()

    # ---- inside

    @property
    def _next_hop(self) -> Flow | None:
        """The peer's flow; None where the route set and the remote target lead to him, or may when it has ended."""
        flow, dialog = self.flow, self.dialog
        if flow is None or dialog.route_set:
            return None
        return flow if self.stack.names.is_usable(flow) or not can_be_dialled(dialog.remote_target) else None

    def _repeat(self, ack: Request) -> bool:
        """Send an ACK once more by the way it took; False when that is gone, and another is to be found."""
        data = bytes(ack)
        try:
            ack.flow.send(data)
        except TransportError:
            detours = self.stack.sender.detours
            if len(data) > detours.octets:  # nobody has told us that its detour was refused: it has no transaction
                detours.refused(ack.flow, self.stack.clock.now())
            return False
        return True

    def _inviting(self) -> bool:
        ours = self._reinvite is not None and self._reinvite.is_pending
        theirs = any(other.request.method == "INVITE" and not other.answered for other in self._serving)
        return ours or theirs or not self.acknowledged

    def _refresh(self, message: Request | Response) -> None:
        try:
            self.dialog.refresh(message)
        except ParseError as error:  # agreed all the same: the old target stays
            self._warn("Contact", error)

    def let_go(self) -> None:
        """Tell its core that it holds this call no longer."""
        holder, self.holder = self.holder, None
        if holder is not None:
            holder.release()

    def _end(self) -> None:
        self.ended.set()
        self._inbox.wake()
        self.let_go()
        if self._bye is None:
            self._answer = None
            self.stack.calls.remove(self)

    def _send_bye(self) -> None:
        headers, self._bye = self._bye, None
        self.stack.calls.remove(self)
        try:
            self.stack.sender.send(self.dialog.request("BYE", **headers or {}), self._next_hop, listener=self.origin)
        except SIPError as error:
            self._warn("BYE", error)

    def _warn(self, what: str, error: SIPError) -> None:
        self.stack.engine.counters.warn(what, self.stack.clock.now(), f"{what} in %r: %s", self, error)

    def __repr__(self) -> str:
        return f"<Call {self.dialog!r}{' ended' if self.ended.is_set() else ''}>"


class Answer:
    """Our 2xx to an INVITE, repeated until its ACK comes, over any transport (§13.3.1.4)."""

    __slots__ = ("_call", "_give_up_at", "_interval", "_repeat_at", "_response", "_transaction", "number")

    def __init__(self, call: Call, tx: ServerTransaction, response: Response) -> None:
        self._call = call
        self._transaction = tx.transaction
        self._response = response
        self.number = tx.request.essentials.cseq
        self._interval = t1 = tx.transaction.timers.t1
        now = call.stack.clock.now()
        self._repeat_at = now + t1
        self._give_up_at = now + 64 * t1
        call.stack.deadlines.add(self._repeat_at, self)

    def expire(self, now: float) -> None:
        """Repeat the 2xx, or give the call up."""
        call = self._call
        if call._answer is not self:
            return
        if now >= self._give_up_at:
            call.stack.callbacks.spawn(call.give_up)  # its BYE may have a name to resolve, and this is the hub
            return
        if now >= self._repeat_at:
            if not self._transaction.is_terminated:
                call.stack.engine.respond(self._transaction, self._response)
            self._interval = min(self._interval * 2, self._transaction.timers.t2)
            self._repeat_at = now + self._interval
        call.stack.deadlines.add(min(self._repeat_at, self._give_up_at), self)


class Reinvite(ClientTransaction):
    """Our INVITE within a call: its 2xx changes the call there is, also when nobody waits for it any more (§14.1)."""

    __slots__ = ("_within",)

    def __init__(self, call: Call, request: Request) -> None:
        super().__init__(call.stack, request)
        self._within = call

    def accepted(self, response: Response) -> None:
        self._within.agree(self.request, response)
        self.deliver(response)
        self._within.acknowledge(self.request)

    def again(self, response: Response) -> None:
        self._within.acknowledge(self.request)


class Calls:
    """The calls of a stack, by dialog: what finds a BYE or an ACK its call."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self._calls: dict[DialogID, Call] = {}

    def answer(self, tx: ServerTransaction, response: Response) -> Call:
        """Send a 2xx to an INVITE and return the call it creates; a re-INVITE's is the one it has (§12.1.1).

        Raises ParseError for an INVITE without Contact, Reject(481) for one in a dialog we do not know (§12.2.2).
        """
        if response.body and response.content_type is None:
            response.content_type = SESSION_TYPE
        call: Call | None = tx.call
        if call is None:
            if tx.request.essentials.to_tag is not None:
                raise Reject(481)
            limits = self.stack.engine.limits
            if len(self._calls) >= limits.calls:
                self.stack.engine.admission.refuse("calls", "INVITE")
                raise Reject(503, retry_after=random.randint(*limits.retry_after))
            call = Call(self.stack, Dialog.of_uas(tx.request, response), tx.request.flow.origin)
        if tx.call is None:
            tx.hold(call)  # before the answer is out, so that its core is not taken for overdue
        try:
            tx.finish(response.status, response)
        except BaseException:
            if tx.call is None:
                call.let_go()
            raise
        if tx.call is None:
            tx.call = self._calls[call.dialog.id] = call
        call.answered(tx, response)
        return call

    def accepted(self, request: Request, response: Response) -> Call:
        """Return the call that the peer's 2xx creates; it is still to be acknowledged. Raises ParseError."""
        call = Call(self.stack, Dialog.of_uac(request, response), response.flow.origin)
        call.agree(request, response)
        self._calls[call.dialog.id] = call
        return call

    def find(self, request: Request) -> Call | None:
        """Return the call a received request belongs to."""
        key = dialog_id(request)
        return None if key is None else self._calls.get(key)

    def remove(self, call: Call) -> None:
        """Forget a call."""
        if call.keeps_alive:
            self.stack.keepalives.drop(call.dialog.call_id)
        self._calls.pop(call.dialog.id, None)

    def stop(self) -> None:
        """Hang up all, without waiting for ACKs any more, nor longer than LEAVE_SECONDS for the names in their targets."""
        leaving = [gevent.spawn(call.leave) for call in list(self._calls.values())]
        gevent.joinall(leaving, timeout=LEAVE_SECONDS)
        gevent.killall(leaving)
        self._calls.clear()

    def __len__(self) -> int:
        return len(self._calls)
