"""Call: an answered INVITE you can talk in, RFC 3261 §13 to §15; Calls: all of a stack, by dialog."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent.event import Event

from ..errors import ParseError, SIPError, TransactionTimeout, TransportError
from ..message.message import Request, Response
from .dialog import Dialog, DialogID, dialog_id
from .inbox import Inbox
from .uac import NOBODY, OnProvisional

if TYPE_CHECKING:
    from .uas import ServerTransaction

CALLS = 100_000
"""Calls at one time; an INVITE answered beyond them gets 503: each holds two dialog ends and their texts."""


class Call:
    """One call. `dialog` is its state, `remote_body` the peer's last session description, `ended` an Event.

    Leaving a `with call:` block hangs up. BYE is answered by itself; a re-INVITE that changes nothing is answered with
    the body we sent, any other refused with 488, which leaves the session as it was (§14.2), unless `on_reinvite` is set:
    a core, `on_reinvite(request, tx)`. Other requests within the call go to the stack's core, with `tx.call` set.
    """

    def __init__(self, stack: Any, dialog: Dialog, *, local_body: bytes, local_type: str | None, remote_body: bytes) -> None:
        self.stack = stack
        self.dialog = dialog
        self.remote_body = remote_body
        self.local_body = local_body
        self.local_type = local_type
        self.ended = Event()
        self.on_reinvite: Callable[[Request, Any], Any] | None = None
        self.acknowledged = False
        self._failure: SIPError | None = None
        self._inbox = Inbox(stack.clock)
        self._tx: Any = None
        self._response: Response | None = None
        self._interval = self._repeat_at = self._give_up_at = 0.0
        self._ack: Request | None = None

    # ---- for users

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the call has ended, at most this long; True when it has. Raises Cancelled like any wait."""
        try:
            self._inbox.wait(self.ended.is_set, seconds)
        except TransactionTimeout:
            return False
        return True

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

        Raises TransactionTimeout and TransportError. 408 and 481, and no answer at all, end the call (§12.2.1.2).
        """
        request = self.dialog.request(method, body=body, **headers)
        try:
            tx = self.stack.send(request)
            response: Response = tx.final(on_provisional, timeout)
        except TransactionTimeout:
            if timeout is None:
                self._end()
            raise
        if method == "INVITE" and response.is_success:
            self.dialog.refresh(response)
            self.remote_body = response.body or self.remote_body
            self.local_body = request.body or self.local_body
            self._send_ack(self.dialog.ack(request.cseq.number))
        elif method == "UPDATE" and response.is_success:
            self.dialog.refresh(response)
        elif response.status in (408, 481):
            self._end()
        return response

    def hangup(self, **headers: Any) -> None:
        """End the call: a BYE is sent and not waited for (§15.1.1). Nothing happens when it has ended."""
        if self.ended.is_set():
            return
        self._end()
        try:
            bye = self.dialog.request("BYE", **headers)
            self.stack.send(bye, user=NOBODY())
        except TransportError as error:
            self.stack.engine.counters.warn("BYE", self.stack.clock.now(), "cannot send BYE: %s", str(error))

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hangup()

    # ---- our side answered

    def answered(self) -> None:
        """The 2xx is out: it is repeated until the ACK comes, over any transport (§13.3.1.4)."""
        timers = self.stack.engine.timers
        now = self.stack.clock.now()
        self._interval = timers.t1
        self._repeat_at = now + timers.t1
        self._give_up_at = now + 64 * timers.t1
        self.stack.deadlines.add(self._repeat_at, self)

    def expire(self, now: float) -> None:
        """Repeat the 2xx, or give the call up when no ACK has come in 64*T1."""
        if self.acknowledged or self.ended.is_set():
            return
        if now >= self._give_up_at:
            self._failure = TransactionTimeout("no ACK to the 200 in time")
            self.hangup()
            return
        if now >= self._repeat_at:
            self.stack.engine.respond(self._tx, self._response)
            self._interval = min(self._interval * 2, self.stack.engine.timers.t2)
            self._repeat_at = now + self._interval
        self.stack.deadlines.add(min(self._repeat_at, self._give_up_at), self)

    def wait_for_ack(self) -> None:
        """Wait until the ACK is here. Raises TransactionTimeout when none comes."""
        try:
            self._inbox.wait(lambda: self.acknowledged or self.ended.is_set())
        except BaseException:
            self.hangup()
            raise
        if self._failure is not None:
            raise self._failure

    # ---- from the wire

    def receive_ack(self, ack: Request) -> None:
        """Take the ACK to our 2xx."""
        if not self.acknowledged:
            self.acknowledged = True
            self._tx = self._response = None
            self.remote_body = ack.body or self.remote_body
            self._inbox.wake()

    def receive_request(self, request: Request, tx: ServerTransaction) -> Any:
        """Serve a request within the call; NotImplemented leaves it to the core."""
        if not self.dialog.receives(request):
            return 500  # §12.2.2: out of order
        if request.method == "BYE":
            self._end()
            return 200
        if request.method == "INVITE":
            return self._receive_reinvite(request, tx)
        return NotImplemented

    def _receive_reinvite(self, request: Request, tx: ServerTransaction) -> Any:
        if self.on_reinvite is not None:
            result = self.on_reinvite(request, tx)
            if tx.answered and tx.answered < 300:
                self.dialog.refresh(request)
            return result
        if request.body and request.body != self.remote_body:
            return 488
        self.dialog.refresh(request)
        tx.respond(200, body=self.local_body, content_type=self.local_type if self.local_body else None)
        return None

    def _end(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self._inbox.wake()
            self.stack.calls.remove(self)

    # ---- the peer answered

    def acknowledge(self, number: int) -> None:
        """Send the ACK to a 2xx, made once and repeated for each repetition of it (§13.2.2.4)."""
        if self._ack is None or self._ack.cseq.number != number:
            self._ack = self.dialog.ack(number)
        self._send_ack(self._ack)

    def _send_ack(self, ack: Request) -> None:
        self._ack = ack
        try:
            self.stack.send(ack)
        except SIPError as error:
            self.stack.engine.counters.warn("ACK", self.stack.clock.now(), "cannot send ACK: %s", str(error))

    def __repr__(self) -> str:
        return f"<Call {self.dialog!r}{' ended' if self.ended.is_set() else ''}>"


class Calls:
    """The calls of a stack, by dialog: what finds a BYE or an ACK its call."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self._calls: dict[DialogID, Call] = {}

    def answer(self, tx: ServerTransaction, response: Response) -> Call:
        """Make the call that this 2xx to an INVITE creates; a re-INVITE's is the one it has (§12.1.1)."""
        request = tx.request
        if not response.contact:
            response.contact = self.stack.contact(tx.flow)
        if response.body and response.content_type is None:
            response.content_type = "application/sdp"
        existing = self.find(request)
        if existing is not None:
            existing.local_body = response.body
            existing.remote_body = request.body or existing.remote_body
            existing.acknowledged = False
            call = existing
        else:
            if len(self._calls) >= CALLS:
                raise SIPError("too many calls")
            kind = response.content_type
            call = Call(
                self.stack,
                Dialog.of_uas(request, response),
                local_body=response.body,
                local_type=str(kind) if kind else None,
                remote_body=request.body,
            )
            self._calls[call.dialog.id] = call
        call._tx, call._response = tx.transaction, response
        return call

    def accepted(self, request: Request, response: Response) -> Call:
        """Make the call that the peer's 2xx creates, and acknowledge it (§13.2.2.4). Raises ParseError without Contact."""
        kind = request.content_type
        call = Call(
            self.stack,
            Dialog.of_uac(request, response),
            local_body=request.body,
            local_type=str(kind) if kind else None,
            remote_body=response.body,
        )
        call.acknowledged = True
        self._calls[call.dialog.id] = call
        call.acknowledge(request.cseq.number)
        return call

    def acknowledge_again(self, request: Request, response: Response) -> None:
        """Repeat the ACK to a repeated 2xx; a 2xx of another branch gets ACK and BYE, in this order (§13.2.2.4)."""
        e = response.essentials
        call = self._calls.get((response.headers["Call-ID"], e.from_tag or "", e.to_tag or ""))
        if call is not None:
            call.acknowledge(e.cseq)
        else:
            self.hang_up(request, response)

    def hang_up(self, request: Request, response: Response) -> None:
        """Acknowledge and end a call that nobody wants any more."""
        try:
            self.accepted(request, response).hangup()
        except ParseError as error:
            now = self.stack.clock.now()
            self.stack.engine.counters.warn("2xx", now, "cannot hang up a call without Contact: %s", str(error))

    def find(self, request: Request) -> Call | None:
        """Return the call a received request belongs to."""
        key = dialog_id(request)
        return None if key is None else self._calls.get(key)

    def remove(self, call: Call) -> None:
        """Forget a call."""
        self._calls.pop(call.dialog.id, None)

    def stop(self) -> None:
        """Hang up all."""
        for call in list(self._calls.values()):
            call.hangup()

    def __len__(self) -> int:
        return len(self._calls)
