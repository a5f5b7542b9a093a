"""Handler: interrupts and counts the core that runs for a request, RFC 3261 §9.2."""

from __future__ import annotations

from typing import Any

from ..engine.users import Place, ServerRecord
from ..errors import Cancelled, TransactionTimeout
from ..message.message import Request
from ..runtime.workers import Worker
from .dialog.call import Held
from .inbox import Inbox
from .user_agent import UserAgent


class Handler:
    """The base of ServerTransaction, without anything for applications.

    A core is interrupted only at its calls of this library, by Cancelled or by the error that ended
    its transaction. While it waits, Admission counts it in one of its places.

    Attributes that most requests never need have their defaults in the classes, because one object
    is made for each request.
    """

    # of ServerTransaction
    stack: UserAgent
    request: Request
    transaction: ServerRecord | None
    context: object | None
    answered: int
    cancelled: bool

    parked: Inbox[Any] | None = None
    """Where the core waits in a call of this library."""

    copies: Inbox[None] | None = None
    """The queue in which copies of the request wait until it is answered or forwarded."""

    place: Place | None = None
    """Where Admission counts the core while it waits."""

    worker: Worker | None = None
    """The greenlet in which the core waits."""

    holds = 0
    """Number of calls and subscriptions that the core has accepted or made, and that have not
    ended."""

    _held: tuple[Held, ...] = ()
    _cancel: Request | None = None

    interruptions: tuple[Exception, ...] = ()
    """What happened to the request since the core's last call of this library: Cancelled, or the
    error that has ended its transaction. If there is any, each such call begins with
    interrupt()."""

    # ---- interruption

    def interrupt(self) -> None:
        """Raise the first of the interruptions in the core. Each is raised once."""
        error, *later = self.interruptions
        self.interruptions = tuple(later)
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def _give_up_by(self, cancel: Request | None) -> None:
        """Note that the caller has given up, by this CANCEL if there is one."""
        self.cancelled = True
        self._cancel = cancel
        self.interruptions += (Cancelled("the caller has given up", cancel=cancel),)

    def _end(self, error: Exception) -> None:
        """Raise this error at the core's next call of this library."""
        self.interruptions += (error,)
        if self.parked is not None:
            self.parked.wake()

    # ---- places

    def ended(self) -> None:
        """Note that the stack has stopped while the core ran."""

    def give_up(self) -> None:
        """Count the core as overdue, because it has served an ACK for 64*T1."""
        self._overdue(408)
        self._end(
            TransactionTimeout("the core served this ACK for 64*T1, the life of a transaction")
        )

    def _overdue(self, status: int) -> None:
        """Count the core as overdue, because it still runs after the time of its request is
        over."""
        self.answered = status
        self._recount()
        if self.place is not None:
            self.stack.engine.admission.tell(self)

    def _hold(self, held: Held) -> None:
        """Note that the core holds a call or a subscription, until _release()."""
        held._holder = self
        self.holds += 1
        self._held = (*self._held, held)
        if self.place is not None:
            self._recount()

    def _release(self, held: Held) -> None:
        """Note that a call or subscription which the core has held has ended."""
        self.holds -= 1
        if held in self._held:
            others = [*self._held]
            others.remove(held)
            self._held = tuple(others)
        self._recount()

    def _returned(self) -> None:
        """Note that the core has returned while it held calls or subscriptions."""
        held, self._held = self._held, ()
        for each in held:
            each._core_returned()

    def _recount(self) -> None:
        """Count the core where it belongs now, if it waits."""
        if self.place is not None:
            self.stack.engine.admission.move(self)
        if self.copies is not None:
            self.copies.wake()
