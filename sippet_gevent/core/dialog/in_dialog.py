"""InCall, InDialog: the cores for a request within a dialog, RFC 3261 §12.2.2, RFC 5057 §5.3."""

from __future__ import annotations

from functools import partial

from ...errors import Reject
from ...message.iana import reason_phrase
from ...message.message import Request
from ..core import CoreFunction
from ..forwarding import CoreResult
from ..server import ServerTransaction
from .dtmf import digit_of
from .effects import Effect, effect_of
from .events import CallEvent
from .invite import InviteSession
from .state import DialogState

_WITHOUT_CALL = frozenset(("BYE", "INFO", "INVITE", "NOTIFY", "PRACK", "SUBSCRIBE", "UPDATE"))
"""Methods of usages, which get 481 in a dialog without such a usage (RFC 5057 §5.3)."""


class InDialog:
    """The core for a request within a dialog that has subscriptions and no call.

    Args:
        dialog: The dialog.
        core: The core of the stack.
    """

    __slots__ = ("core", "dialog")

    def __init__(self, dialog: DialogState, core: CoreFunction) -> None:
        self.dialog = dialog
        self.core = core

    def __call__(self, request: Request, tx: ServerTransaction) -> CoreResult:
        if not self.dialog.receives(request):
            raise Reject(500, "Out of Order")  # §12.2.2
        for usage in self.dialog.usages:
            result = usage._receive(request, tx)
            if result is not NotImplemented:
                return result
        if request.method in _WITHOUT_CALL:
            raise Reject(481)
        tx.on_final(partial(self._answered, request.method))
        return self.core(request, tx)

    def _answered(self, method: str, status: int) -> None:
        """End the subscriptions if our refusal of a request ends the dialog (RFC 5057 §5.1)."""
        if effect_of(method, status) is Effect.DIALOG:
            self.dialog.ended_by(status, reason_phrase(status))


class InCall:
    """Serves a request within a call: by its usages, handlers or events, or by the stack's core.

    A digit is an event even if the core serves INFO, because the core may read events later. Then
    the stack's core also gets the INFO, unless the core of the call reads events already. A core
    that reads events gets other requests as events, too, before a function of the stack that serves
    all methods.

    Args:
        call: The call.
        core: The core of the stack.
    """

    __slots__ = ("call", "core")

    def __init__(self, call: InviteSession, core: CoreFunction) -> None:
        self.call = call
        self.core = core

    def __call__(self, request: Request, tx: ServerTransaction) -> CoreResult:
        tx.call = call = self.call
        if not call.dialog.receives(request):
            raise Reject(500, "Out of Order")  # §12.2.2
        if call.leg is not None and request.method == "BYE":
            call.leg.left_by(request)
        for usage in call.dialog.usages:
            result = usage._receive(request, tx)
            if result is not NotImplemented:
                return result
        handler = call.handlers.get(request.method)
        if handler is not None:
            return handler(request, tx)
        handles = call.stack.handles(request.method)
        digit = digit_of(request) if request.method == "INFO" else None
        if digit is not None:
            events = call._events()
            # a core in call.wait() reads none, and the peer should know
            if handles or events.is_read is not False:
                event = CallEvent("digit", request, digit=digit.digit, seconds=digit.seconds)
                call.stack.dialogs.events_dropped += events.put(event)
                if events.is_read or not handles:
                    return 200
        elif call.end is None and (not handles or self._reads_first(call, request)):
            kind = "request" if tx.referral is None else "transfer"
            offered = CallEvent(kind, request, tx=tx)
            # a core that runs may look soon; a greenlet of the program has only to begin
            patience = 0.0 if call._holder is None else tx.transaction.timers.t1
            if call._events().offer(offered, tx, patience):
                return None
        return self.core(request, tx)

    def _reads_first(self, call: InviteSession, request: Request) -> bool:
        """True if the core reads events, and the stack has no function for this very method."""
        queue = call._queue
        return (
            queue is not None
            and bool(queue.is_read)
            and not call.stack.handles_by_name(request.method)
        )
