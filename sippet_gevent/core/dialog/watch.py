"""Watch: what a deadline refers to, so that an ended subscription can be freed before."""

from __future__ import annotations

from typing import Protocol


class Expiring(Protocol):
    """What has a deadline."""

    def _expire(self, now: float) -> None:
        """Take the deadline."""


class Watch:
    """A reference to a subscription for a deadline, which the subscription can clear."""

    __slots__ = ("due", "owner")

    def __init__(self, owner: Expiring, due: float) -> None:
        self.owner: Expiring | None = owner
        self.due = due

    def expire(self, now: float) -> None:
        if self.owner is not None:
            self.owner._expire(now)
