"""EndedDialogs: calls that have just ended while requests within them may be under way, RFC 5407
§3.2."""

from __future__ import annotations

from collections.abc import Callable

from ...message.message import Request
from ..element import Element
from .dialog import DialogID

CoreFunction = Callable[[Request, object], int]

ENDED = 10_000
"""Limit on dialogs remembered; the oldest are forgotten first. It is enough for 300 ended calls a
second."""

STATUS = {"BYE": 200, "INFO": 481, "INVITE": 481, "PRACK": 481, "REFER": 481, "UPDATE": 481}
"""Answers within an ended call: 200 to a BYE that crosses ours (RFC 5407 §3.2.1), or 481 (§3.2.2,
§3.3.3).

Other methods may belong to a subscription in the same dialog (RFC 5057), so the core gets them.
"""


class EndedDialogs:
    """Ids of ended dialogs. Each is kept for 64*T1. For that time the peer may repeat a request
    that was lost, or that crossed our BYE (RFC 5407 appendix B)."""

    def __init__(self, stack: Element) -> None:
        self.stack = stack
        # by the hash of the id, because the peer chooses the id's length; in the order of their end
        self._until: dict[int, tuple[float, CoreFunction]] = {}

    def add(self, dialog: DialogID, *, early: bool = False, by_us: bool = True) -> None:
        """Remember a dialog from now on. An early one has ended by our refusal of its INVITE."""
        stack, until, number = self.stack, self._until, hash(dialog)
        until.pop(number, None)
        if len(until) >= ENDED:
            del until[next(iter(until))]
        due = stack.clock.now() + 64 * stack.engine.timers.t1
        if not until:
            stack.deadlines.add(due, self)
        core = after_a_refusal if early else after_the_end if by_us else after_the_peer
        until[number] = due, core

    def expire(self, now: float) -> None:
        """Forget the dialogs that were kept for 64*T1, and set the deadline of the next one."""
        until = self._until
        for number, (due, _) in [*until.items()]:
            if due > now:
                self.stack.deadlines.add(due, self)
                break
            del until[number]

    def core_of(self, dialog: DialogID) -> CoreFunction:
        """Return the core for a request within a dialog that is remembered."""
        return self._until[hash(dialog)][1]

    def stop(self) -> None:
        """Forget all."""
        self._until.clear()

    def __contains__(self, dialog: DialogID) -> bool:
        return hash(dialog) in self._until

    def __len__(self) -> int:
        return len(self._until)


def after_the_end(request: Request, tx: object) -> int:
    """Refuse or answer a request within a call that our BYE has ended; a core."""
    return STATUS[request.method]


def after_the_peer(request: Request, tx: object) -> int:
    """Refuse a request within a call that a BYE of the peer has ended; a core."""
    return 481


def after_a_refusal(request: Request, tx: object) -> int:
    """Refuse or answer a request within an early dialog whose INVITE we have refused; a core.

    A PRACK may be under way to a response that we sent before (RFC 3262 §3).
    """
    return 200 if request.method == "PRACK" else STATUS[request.method]
