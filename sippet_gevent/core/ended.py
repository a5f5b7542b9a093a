"""EndedDialogs: calls that our BYE has ended while the peer's may be under way, RFC 5407 §3.2.1."""

from __future__ import annotations

from typing import Any

from ..message.message import Request
from .dialog import DialogID

ENDED = 10_000
"""Dialogs remembered, at most; the oldest go first. Enough for 300 calls a second ended by us."""

STATUS = {"BYE": 200, "INFO": 481, "INVITE": 481, "PRACK": 481, "UPDATE": 481}
"""Answers within an ended call: 200 to a BYE that crosses ours (RFC 5407 §3.2.1), or 481 (§3.2.2).

Further methods may be those of a subscription in the same dialog (RFC 5057), and are the core's.
"""


class EndedDialogs:
    """Dialogs by their id, each for 64*T1: as long as a BYE that crossed ours may be sent again."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self._until: dict[DialogID, float] = {}  # in the order in which they end

    def add(self, dialog: DialogID) -> None:
        """Remember a dialog from now on."""
        stack, until = self.stack, self._until
        until.pop(dialog, None)
        if len(until) >= ENDED:
            del until[next(iter(until))]
        if not until:
            stack.deadlines.add(stack.clock.now() + 64 * stack.engine.timers.t1, self)
        until[dialog] = stack.clock.now() + 64 * stack.engine.timers.t1

    def expire(self, now: float) -> None:
        """Forget those whose time is over, and look again when the next one's is."""
        until = self._until
        for dialog, due in [*until.items()]:
            if due > now:
                self.stack.deadlines.add(due, self)
                break
            del until[dialog]

    def stop(self) -> None:
        """Forget all."""
        self._until.clear()

    def __contains__(self, dialog: DialogID) -> bool:
        return dialog in self._until

    def __len__(self) -> int:
        return len(self._until)


def after_the_end(request: Request, tx: Any) -> int:
    """Serve a request within a call that has ended: a core."""
    return STATUS[request.method]
