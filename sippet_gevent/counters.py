"""Counters: what became of each message received, and the log lines of those that were dropped."""

from __future__ import annotations

import logging
from typing import Any

from .errors import excerpt
from .limits import TokenBuckets

LINES_PER_SECOND = 10.0
"""Log lines for one reason, at most: a flood of bad packets must not fill the disk."""

REASONS = 64
"""Reasons a filter of the user's may count by, at most, with our own: each is a key that stays."""

FILTERED = "filtered"
"""What a message is dropped for whose filter tells no reason."""

LOGGED_TEXT = 256
"""Characters of wire text in a log line."""


class Counters:
    """Plain numbers. Every message received ends in exactly one of delivered, answered, absorbed or dropped.

    `delivered`: handed to a core, a call, or the client transaction that waits for it. `answered`: by the stack itself.
    `absorbed`: a retransmission or ACK that its transaction dealt with. `dropped`: reason to number.
    """

    __slots__ = (
        "_log", "_rates", "absorbed", "answered", "core_errors", "delivered", "dropped", "filter_errors", "late_answers",
        "received", "send_errors", "timeouts", "unlogged",
    )  # fmt: skip

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._rates = TokenBuckets(LINES_PER_SECOND, LINES_PER_SECOND, 100)
        self.received = self.delivered = self.answered = self.absorbed = 0
        self.dropped: dict[str, int] = {}
        self.core_errors = self.filter_errors = self.late_answers = self.send_errors = self.timeouts = self.unlogged = 0

    def drop(self, reason: str, flow: Any = None, detail: object = None, now: float | None = None) -> None:
        """Count a message dropped for `reason`; with the time, log it unless the reason has used up its lines."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if now is not None:
            self.warn(reason, now, f"dropped message from %s: {reason}: %s", flow, detail)

    def filter(self, reason: str) -> None:
        """Count a message dropped by a filter, under the reason it tells. There is no line for it: it may be a flood."""
        if not reason or (reason not in self.dropped and len(self.dropped) >= REASONS):
            reason = FILTERED
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def warn(self, reason: str, now: float, text: str, *arguments: object) -> None:
        """Log a warning, at most LINES_PER_SECOND for each reason; wire text comes out escaped and cut."""
        if self._rates.take(reason, now):
            self._log.warning(text, *[excerpt(a)[:LOGGED_TEXT] if isinstance(a, (str, bytes)) else a for a in arguments])
        else:
            self.unlogged += 1

    def loud(self, reason: str, now: float) -> bool:
        """True while this reason may still log at length."""
        if self._rates.take(reason, now):
            return True
        self.unlogged += 1
        return False

    @property
    def balance(self) -> int:
        """Messages received less those that ended in a counter: 0 whenever no message is being carried."""
        return self.received - self.delivered - self.answered - self.absorbed - sum(self.dropped.values())

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers."""
        return {name: getattr(self, name) for name in sorted(self.__slots__) if not name.startswith("_")} | {
            "dropped": dict(self.dropped)
        }
