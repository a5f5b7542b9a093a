"""Call: an answered INVITE you can talk in, RFC 3261 §13 to §15; Calls: all of a stack, by
dialog."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent.event import Event

from ...arguments import function, takes
from ...arguments import seconds as check_seconds
from ...errors import (
    ParseError,
    Reject,
    SIPError,
    TransactionStateError,
    TransactionTimeout,
    TransportError,
)
from ...message.body import Part
from ...message.fields.rfc3261 import Warning as SIPWarning
from ...message.message import Request, Response
from ...transport.base import Flow, Origin
from ..client.transaction import ClientTransaction, OnProvisional
from ..element import Element
from ..inbox import Inbox
from ..routing.outbound import Reach, can_be_dialled, reach_of_answerer, reach_of_sender
from ..routing.sips import AGENT
from .dialog import Dialog, DialogID, dialog_id
from .ended import STATUS as AFTER_THE_END
from .ended import EndedDialogs, after_the_end
from .glare import GLARING, Pending, glare

if TYPE_CHECKING:
    from ..server import CoreFunction, ServerTransaction

log = logging.getLogger("sippet_gevent.core")

LEAVE_SECONDS = 5.0
"""How long a stack that stops resolves names to send its last BYEs."""

SESSION_TYPE = "application/sdp"
"""Content-Type of a session description that comes without one (§13.2.1)."""

CANNOT_CHANGE = SIPWarning(399, AGENT, "The Session Cannot Be Changed")
"""The Warning of a 488 to a re-INVITE (§14.2)."""

_SERVED = frozenset(("BYE", "INVITE"))
_THEIRS = {"INVITE": Pending.THEIR_INVITE, "UPDATE": Pending.THEIR_UPDATE}


class Call:
    """One call. `dialog` is its state, `remote_body` the peer's last session description, `ended`
    an Event.

    Leaving a `with call:` block hangs up. BYE is answered by itself; a re-INVITE that changes
    nothing is answered with the body we sent, any other refused with 488, which leaves the session
    as it was (§14.2), unless `on_reinvite` is set: a core, `on_reinvite(request, tx)`. Other
    requests within the call go to the stack's core, with `tx.call` set. No core sees a request that
    is refused for its CSeq, for an extension that it requires, or because of glare (glare.py).

    Our requests go along the route set to the remote target: the Contact of the peer's last target
    refresh that was accepted (§12.2.1.1). Without a route set they go by a flow instead, if the
    peer is reached by that flow alone (RFC 5626 §5.3, RFC 7118 §5), or if its Contact seems to lead
    nowhere, as behind NAT; see reach_of(). Each target refresh decides that again. If it names
    another Contact than before, the new Contact counts, even if the peer uses rport, because RFC
    3581 §4 is about responses alone.
    """

    def __init__(self, stack: Element, dialog: Dialog, origin: Origin | None = None) -> None:
        self.stack = stack
        self.dialog = dialog
        self.origin = origin
        """Where the dialog came in; our requests leave there, where that leads to their target."""
        self.local_body = self.remote_body = b""
        self.local_type = SESSION_TYPE
        self.ended = Event()
        self.flow: Flow | None = None
        """The flow of the call, if it is the only way to the peer (RFC 5626 §5.3); else None."""
        self.keeps_alive = False
        """True when a flow is pinged for as long as it lasts (RFC 6223 §4.2.3); other calls may
        have the same Call-ID."""
        self._on_reinvite: Callable[[Request, Any], Any] | None = None
        self.acknowledged = False
        self.holder: ServerTransaction | None = None
        """The request whose core has accepted or made this call, until the call ends. That core is
        not counted as a handler."""
        self._inbox = Inbox(stack.clock)
        self._serving: list[ServerTransaction] = []
        self._reinvite: ClientTransaction | None = None
        self._update: ClientTransaction | None = None
        self._answer: Answer | None = None
        self._ack: Request | None = None
        self._bye: dict[str, Any] | None = None  # the headers of a BYE that waits for the ACK
        self._failure: SIPError | None = None

    # ---- for users

    @property
    def on_reinvite(self) -> Callable[[Request, Any], Any] | None:
        """The core that serves the peer's re-INVITEs, `on_reinvite(request, tx)`. Assigning what is
        no core is a TypeError."""
        return self._on_reinvite

    @on_reinvite.setter
    def on_reinvite(self, core: Callable[[Request, Any], Any] | None) -> None:
        if function("on_reinvite", core, "call.on_reinvite = core") is not None:
            takes(core, ("request", "tx"), "on_reinvite")
        self._on_reinvite = core

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the call has ended, at most this long; True when it has. Raises Cancelled like
        any wait."""
        return self._inbox.wait(self.ended.is_set, check_seconds("seconds", seconds))

    def request(
        self,
        method: str,
        *,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request within the call and return its final response; a re-INVITE is acknowledged
        (§12.2.1, §14.1).

        Raises TransactionTimeout and TransportError; TransactionStateError when the call has ended,
        and for an INVITE or UPDATE that has to wait for another one. 408 and 481, and no answer at
        all, end the call (§12.2.1.2).
        """
        timeout = check_seconds("timeout", timeout)
        is_invite, is_update = method == "INVITE", method == "UPDATE"
        if self.ended.is_set():
            raise TransactionStateError(f"the call has ended: no {method} can be sent in it")
        if method in GLARING and self._must_wait(method, bool(body)):
            raise TransactionStateError(
                f"another INVITE or UPDATE is under way: send the {method} when that has its answer"
            )
        if is_invite and body:
            headers.setdefault("content_type", self.local_type)
        if method == "BYE":
            # it follows the ACK (§15)
            self._inbox.wait(lambda: self.acknowledged or self.ended.is_set())
        request = self.dialog.request(method, body=body, **headers)
        if method == "BYE":
            self._end()
            self._forget(by_us=True)
        tx: ClientTransaction
        if is_invite:
            tx = self._reinvite = Reinvite(self, request)
        else:
            tx = ClientTransaction(self.stack, request)
            if is_update:
                self._update = tx
        try:
            self.stack.sender.send(request, self._next_hop, user=tx, listener=self.origin)
        except SIPError as error:
            tx.fail(error)  # so that it is no longer under way
            raise
        except BaseException:  # a Timeout of the core's, while a name was resolved: nor is that
            tx.abandon()
            tx.ended()
            raise
        try:
            response = tx.final(on_provisional, timeout)
        except TransactionTimeout:
            if tx.failed:  # not only the user's own patience
                self.hangup()
            raise
        if response.status in (408, 481):
            self.hangup()
        elif response.is_success and is_update:
            self._refresh(response)
        return response

    def hangup(self, **headers: Any) -> None:
        """End the call: a BYE is sent and not waited for (§15.1.1). Nothing happens when it has
        ended.

        On the wire the BYE follows the ACK, whichever side sends that (§15): when it is there, or
        overdue.
        """
        if self.ended.is_set():
            return
        if headers:
            # raises now for what could not be sent then
            Request("BYE", self.dialog.remote_target, **headers)
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
        """Our 2xx is out: it is repeated until its ACK comes, and what its INVITE asked for is
        agreed."""
        request = tx.request
        before = self.dialog.remote_target
        self.agree(response, request)
        self._follow(request, moved=self.dialog.remote_target != before)
        self.acknowledged = False
        self._answer = Answer(self, tx, response)

    def refreshed(self, request: Request) -> None:
        """Take the target of an UPDATE of the peer's that was accepted (RFC 3311 §5.2)."""
        before = self.dialog.remote_target
        self._take_target(request)
        self._follow(request, moved=self.dialog.remote_target != before)

    def _follow(self, request: Request, *, moved: bool) -> None:
        """Set the flow by which the peer is reached from now on, None for its Contact, as its last
        target refresh says."""
        is_at_contact = reach_of_sender(request, moved=moved) is Reach.AT_CONTACT
        self.flow = None if is_at_contact else cast(Flow, request.flow)

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

    def drop(self) -> None:
        """End the call without a word to the peer: the stack has stopped."""
        self._end()
        self._answer = None

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
        if self._answer is not None and self._answer.number == ack.mandatory.cseq:
            self.remote_body = ack.body or self.remote_body
            self.confirm()

    def receive_request(self, request: Request, tx: ServerTransaction) -> Any:
        """Serve a request within the call; NotImplemented leaves it to the core.

        A request is refused before it has changed anything (§8.2, §12.2.2). Raises Reject.
        """
        self._inspect(request, tx)
        if request.method == "BYE":
            self._bye = None
            self._end()
            self._forget()
            for pending in self._serving:
                pending.cancel()  # 487 to what is still unanswered (§15.1.2)
            return 200
        self._serving.append(tx)
        if request.method != "INVITE":
            return NotImplemented
        if self._on_reinvite is not None:
            return self._on_reinvite(request, tx)
        return request.response(
            200, body=self.local_body, content_type=self.local_type if self.local_body else None
        )

    def _inspect(self, request: Request, tx: ServerTransaction) -> None:
        """Refuse what cannot be served, in the order of §8.2: method, header fields, Require,
        content. Raises Reject.

        Nothing is changed but the remote sequence number, which §12.2.2 wants noted of each request
        that is in order. A method that the core does not serve is left to it: 405 or 501 comes
        before what else is wrong (§8.2.1).
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

    # ---- the peer answered

    def agree(self, ours: Request | Response, theirs: Request | Response) -> None:
        """Note what an INVITE and its 2xx have settled: session descriptions and the peer's target
        (§13.2.1, §12.2)."""
        if ours.body:
            self.local_body, self.local_type = ours.body, str(ours.content_type or SESSION_TYPE)
        self.remote_body = theirs.body or self.remote_body
        if isinstance(theirs, Response):
            self._refresh(theirs)
        else:
            self._take_target(theirs)

    def acknowledge(self, invite: Request) -> None:
        """Send the ACK to a 2xx, made once and repeated for each repetition of it (§13.2.2.4)."""
        number = invite.cseq.number
        try:
            if self._ack is None or self._ack.cseq.number != number or not self._repeat(self._ack):
                ack = self.dialog.ack(
                    number,
                    authorization=invite.authorization,
                    proxy_authorization=invite.proxy_authorization,
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
        """The peer's flow; None if the route set or the remote target leads to the peer, or may do
        so when the flow has ended."""
        flow, dialog = self.flow, self.dialog
        if flow is None or dialog.route_set:
            return None
        return (
            flow
            if self.stack.names.is_usable(flow) or not can_be_dialled(dialog.remote_target)
            else None
        )

    def _repeat(self, ack: Request) -> bool:
        """Send an ACK once more by the way it took; False when that is gone, and another is to be
        found."""
        data = bytes(ack)
        flow = cast(Flow, ack.flow)
        try:
            self.stack.engine.send(flow, data)
        except TransportError:
            detours = self.stack.sender.detours
            # nobody has told us that its detour was refused: it has no transaction
            if len(data) > detours.octets:
                detours.refused(flow, self.stack.clock.now())
            return False
        return True

    def _must_wait(self, method: str, has_offer: bool) -> bool:
        """True when an INVITE or UPDATE of ours would get in the way of another one (§14.1, RFC
        6337 §4.3, UAC rules)."""
        pending = self._pending()
        if method == "UPDATE" and not has_offer:
            return Pending.OUR_UPDATE in pending
        return glare(method, has_offer, pending) is not None or (
            method == "INVITE" and not self.acknowledged
        )

    def _take_target(self, message: Request | Response) -> None:
        try:
            self.dialog.refresh(message)
        except ParseError as error:  # agreed all the same: the old target stays
            self._warn("Contact", error)

    def _refresh(self, response: Response) -> None:
        """Take the target of the peer's 2xx to a target refresh of ours.

        A flow that led to the old target is not used for the new one, unless it is the only way to
        it.
        """
        before = self.dialog.remote_target
        self._take_target(response)
        if self.dialog.remote_target != before:
            reach = reach_of_answerer(response)
            if reach is Reach.AT_CONTACT:
                self.flow = None
            elif self.flow is None and reach is Reach.BY_FLOW_ONLY:
                self.flow = cast(Flow, response.flow)

    def let_go(self) -> None:
        """Tell the core that it no longer holds this call."""
        holder, self.holder = self.holder, None
        if holder is not None:
            holder.release()

    def _end(self) -> None:
        self.ended.set()
        self._inbox.wake()
        self.let_go()

    def _forget(self, *, by_us: bool = False) -> None:
        self._answer = None
        self.stack.calls.remove(self, by_us=by_us)

    def _send_bye(self) -> None:
        headers, self._bye = self._bye, None
        self._forget(by_us=True)
        try:
            self.stack.sender.send(
                self.dialog.request("BYE", **headers or {}), self._next_hop, listener=self.origin
            )
        except SIPError as error:
            self._warn("BYE", error)

    def _warn(self, what: str, error: SIPError) -> None:
        self.stack.engine.counters.warn(
            what, self.stack.clock.now(), f"{what} in %r: %s", self, error, log=log
        )

    def __repr__(self) -> str:
        return f"<Call {self.dialog!r}{' ended' if self.ended.is_set() else ''}>"


class Answer:
    """Our 2xx to an INVITE, repeated until its ACK comes, over any transport (§13.3.1.4)."""

    __slots__ = (
        "_call",
        "_give_up_at",
        "_interval",
        "_repeat_at",
        "_response",
        "_transaction",
        "is_offer",
        "number",
    )

    def __init__(self, call: Call, tx: ServerTransaction, response: Response) -> None:
        self._call = call
        self._transaction = tx.transaction
        self._response = response
        self.number = tx.request.mandatory.cseq
        # its answer comes in the ACK (§13.2.1)
        self.is_offer = bool(response.body) and not tx.request.body
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
            # its BYE may have a name to resolve, and this is the hub
            call.stack.callbacks.spawn(call.give_up)
            return
        if now >= self._repeat_at:
            if not self._transaction.is_terminated:
                call.stack.engine.respond(self._transaction, self._response)
            self._interval = min(self._interval * 2, self._transaction.timers.t2)
            self._repeat_at = now + self._interval
        call.stack.deadlines.add(min(self._repeat_at, self._give_up_at), self)


class Reinvite(ClientTransaction):
    """Our INVITE within a call: its 2xx changes the call there is, also when nobody waits for it
    any more (§14.1)."""

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

    def __init__(self, stack: Element) -> None:
        self.stack = stack
        self.ended = EndedDialogs(stack)
        self._calls: dict[DialogID, Call] = {}

    def answer(self, tx: ServerTransaction, response: Response) -> Call:
        """Send a 2xx to an INVITE and return the call it creates; a re-INVITE's is the one it has
        (§12.1.1).

        Raises ParseError for an INVITE without Contact, Reject(481) for one in a dialog we do not
        know (§12.2.2).
        """
        if response.body and response.content_type is None:
            response.content_type = SESSION_TYPE
        call: Call | None = tx.call
        if call is None:
            if tx.request.mandatory.to_tag is not None:
                raise Reject(481)
            limits = self.stack.engine.limits
            if len(self._calls) >= limits.calls:
                self.stack.engine.admission.refuse("calls", tx.request)
                raise Reject(503, retry_after=random.randint(*limits.retry_after))
            origin = cast(Flow, tx.request.flow).origin
            call = Call(self.stack, Dialog.of_uas(tx.request, response), origin)
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
            admission = self.stack.engine.admission
            if tx.transaction in admission.large:
                admission.weigh(call, admission.large[tx.transaction])
        call.answered(tx, response)
        return call

    def accepted(self, request: Request, response: Response) -> Call:
        """Return the call that the peer's 2xx creates; it is still to be acknowledged."""
        origin = cast(Flow, response.flow).origin
        call = Call(self.stack, Dialog.of_uac(request, response), origin)
        call.agree(request, response)
        self._calls[call.dialog.id] = call
        return call

    def find(self, request: Request) -> Call | None:
        """Return the call a received request belongs to."""
        key = dialog_id(request)
        return None if key is None else self._calls.get(key)

    def knows(self, request: Request) -> bool:
        """True for a request within a call, or the BYE within one that has just ended."""
        key = dialog_id(request)
        return key is not None and (
            key in self._calls or (request.method == "BYE" and key in self.ended)
        )

    def core_for(self, request: Request, core: CoreFunction) -> CoreFunction:
        """Return the core for a request with a To tag: its call and then `core`, after_the_end()
        for an ended call, or `core`."""
        if not self._calls and not self.ended:
            return core
        key = dialog_id(request)
        if key is None:
            return core
        call = self._calls.get(key)
        if call is not None:
            return _InCall(call, core)
        return after_the_end if request.method in AFTER_THE_END and key in self.ended else core

    def remove(self, call: Call, *, by_us: bool = False) -> None:
        """Forget a call; one that was ended by us is remembered for the BYE that may have crossed
        ours."""
        if call.keeps_alive:
            self.stack.keepalives.drop(call.dialog.call_id)
        self.stack.engine.admission.release(call)
        if self._calls.pop(call.dialog.id, None) is not None and by_us:
            self.ended.add(call.dialog.id)

    def stop(self) -> None:
        """Hang up all, without waiting for ACKs any more, nor longer than LEAVE_SECONDS for the
        names in their targets.

        What rings may be answered meanwhile, and its core must not wait for ever in a call that
        nobody knows.
        """
        leaving: dict[Call, Any] = {}
        with gevent.Timeout(LEAVE_SECONDS, False):
            while further := [call for call in self._calls.values() if call not in leaving]:
                leaving.update((call, gevent.spawn(call.leave)) for call in further)
                gevent.joinall([*leaving.values()])
        gevent.killall([*leaving.values()])
        for call in [*self._calls.values()]:
            call.drop()
        self._calls.clear()
        self.ended.stop()

    def __len__(self) -> int:
        return len(self._calls)


class _InCall:
    """The core for a request within a call: the call first, then the stack's core."""

    __slots__ = ("call", "core")

    def __init__(self, call: Call, core: CoreFunction) -> None:
        self.call = call
        self.core = core

    def __call__(self, request: Request, tx: ServerTransaction) -> Any:
        tx.call = self.call
        result = self.call.receive_request(request, tx)
        if result is NotImplemented:
            result = self.core(request, tx)
        return result
