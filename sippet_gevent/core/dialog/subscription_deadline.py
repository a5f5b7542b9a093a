"""SubscriptionDeadline: when a subscription expires, or its timer N, RFC 6665 §4.1.2.4."""

from __future__ import annotations

from typing import Protocol


class Expiring(Protocol):
    """A subscription, or its usage of one dialog."""

    def _expire(self, now: float) -> None:
        """Take the deadline."""


class SubscriptionDeadline:
    """An item of Deadlines that a subscription can clear, so that it is freed when it has ended.

    Args:
        owner: The subscription, or its usage of one dialog.
        due: The time in seconds of the clock, for `Deadlines.remove()`.
    """

    __slots__ = ("due", "owner")

    def __init__(self, owner: Expiring, due: float) -> None:
        self.owner: Expiring | None = owner
        self.due = due

    def expire(self, now: float) -> None:
        if self.owner is not None:
            self.owner._expire(now)
