"""Dialogs: the calls of a stack by dialog, including those that have just ended, RFC 3261 §12."""

from __future__ import annotations

import random

import gevent

from ...errors import Reject
from ...message.message import Request, Response
from ...transport.base import Flow
from ..core import CoreFunction
from ..element import Element, ServedRequest
from ..server import ServerTransaction
from .call import SESSION_TYPE, Call
from .dialog import DialogID, dialog_id
from .ended import STATUS as AFTER_THE_END
from .ended import EndedDialogs, after_the_end
from .invite import InviteSession
from .rules import RULES
from .state import DialogState

LEAVE_SECONDS = 5.0
"""Seconds that a stopping stack spends on resolving names for its last BYEs."""


class Dialogs:
    """The dialogs of a stack: finds the call of a BYE or an ACK. `len()` counts the calls."""

    def __init__(self, stack: Element) -> None:
        self.stack = stack
        self.rules = RULES
        """What RFCs add to calls. Another table applies to calls that begin later."""
        self.ended = EndedDialogs(stack)
        self._calls: dict[DialogID, InviteSession] = {}

    def answer(self, tx: ServedRequest, response: Response) -> Call:
        """Send a 2xx to an INVITE and return the call that it creates (§12.1.1).

        A re-INVITE has its call already.

        Raises:
            ParseError: The INVITE has no Contact.
            Reject: 481 for an INVITE in an unknown dialog (§12.2.2), 503 at the limit of calls.
        """
        if response.body and response.content_type is None:
            response.content_type = SESSION_TYPE
        call = tx.call
        if isinstance(call, InviteSession):
            call._responding(tx.request, response)
            tx._finish(response.status, response)
        else:
            call = self._begin(tx, response)
        call._answered(tx, response)
        return call

    def accepted(self, request: Request, response: Response) -> Call:
        """Return the call that the peer's 2xx creates. The caller acknowledges it."""
        flow: Flow = response.flow  # type: ignore[assignment]  # it was received by one of ours
        dialog = DialogState.of_uac(request, response)
        dialog.belongs_to(self.stack, flow.origin)
        call = InviteSession(self.stack, dialog, request, self.rules, is_caller=True)
        self._calls[dialog.id] = call
        for place in self.rules.begins:
            call.rules[place].begins(request, self)
        call._accepted(request, response)
        return call

    def inviting(self, request: Request) -> None:
        """Let the rules complete an INVITE of ours that begins a call."""
        for rule in self.rules.inviting:
            rule.inviting(self.stack, request)

    def _begin(self, tx: ServedRequest, response: Response) -> InviteSession:
        """Send the 2xx to an initial INVITE and return its new call. Raises Reject."""
        if tx.request.mandatory.to_tag is not None:
            raise Reject(481)
        admission, limits = self.stack.engine.admission, self.stack.engine.limits
        if len(self._calls) >= limits.calls:
            admission.refuse("calls", tx.request)
            raise Reject(503, retry_after=random.randint(*limits.retry_after))
        flow: Flow = tx.request.flow  # type: ignore[assignment]  # it was received by one of ours
        dialog = DialogState.of_uas(tx.request, response)
        dialog.belongs_to(self.stack, flow.origin)
        call = InviteSession(self.stack, dialog, tx.request, self.rules, is_caller=False)
        for place in self.rules.begins:
            call.rules[place].begins(tx.request, self)
        call._responding(tx.request, response)
        tx._hold(call)  # before the response is sent, so that the core is not counted as overdue
        try:
            tx._finish(response.status, response)
        except BaseException:
            call._let_go()
            raise
        tx.call = self._calls[call.dialog.id] = call
        if tx.transaction in admission.large:
            admission.weigh(call, admission.large[tx.transaction])
        return call

    def find(self, request: Request) -> InviteSession | None:
        """Return the call that a received request belongs to."""
        key = dialog_id(request)
        return None if key is None else self._calls.get(key)

    def knows(self, request: Request) -> bool:
        """True for a request within a call, and for a BYE within one that has just ended."""
        key = dialog_id(request)
        return key is not None and (
            key in self._calls or (request.method == "BYE" and key in self.ended)
        )

    def core_for(self, request: Request, core: CoreFunction) -> CoreFunction:
        """Return the core for a request with a To tag.

        A request within a call goes to the call first and then to `core`. If the call has ended,
        the result is after_the_end(). Otherwise it is `core`.
        """
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
        """Forget a call. If we ended the call, remember it for a BYE that crosses ours."""
        if call._keeps_alive:
            self.stack.keepalives.drop(call.dialog.call_id)
        self.stack.engine.admission.release(call)
        if self._calls.pop(call.dialog.id, None) is not None and by_us:
            self.ended.add(call.dialog.id)

    def stop(self) -> None:
        """Hang up all calls, without waiting for ACKs.

        The names in their targets are resolved for at most LEAVE_SECONDS. A ringing INVITE may be
        answered meanwhile. Its call is hung up too, because its core would wait forever otherwise.
        """
        leaving: dict[InviteSession, gevent.Greenlet] = {}
        with gevent.Timeout(LEAVE_SECONDS, False):
            while further := [call for call in self._calls.values() if call not in leaving]:
                leaving.update((call, gevent.spawn(call._leave)) for call in further)
                gevent.joinall([*leaving.values()])
        gevent.killall([*leaving.values()])
        for call in [*self._calls.values()]:
            call._drop()
        self._calls.clear()
        self.ended.stop()

    def __len__(self) -> int:
        return len(self._calls)


class _InCall:
    """The core for a request within a call: the call first, then the stack's core."""

    __slots__ = ("call", "core")

    def __init__(self, call: InviteSession, core: CoreFunction) -> None:
        self.call = call
        self.core = core

    def __call__(self, request: Request, tx: ServerTransaction) -> int | Response | None:
        tx.call = self.call
        result = self.call._receive(request, tx)
        if result is NotImplemented:
            result = self.core(request, tx)
        return result
