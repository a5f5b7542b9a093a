"""Deadline: an item of Deadlines that its owner can clear, so that the owner is freed before."""

from __future__ import annotations

from typing import Protocol


class HasDeadline(Protocol):
    """An object with one deadline at a time."""

    _deadline: Deadline | None

    def expire(self, now: float) -> None:
        """Take the deadline."""


class Deadline:
    """An item of Deadlines. It refers to its owner, until the owner sets `owner` to None.

    Args:
        owner: The object that has the deadline. Its `_deadline` is None when expire() is called.
        due: The time in seconds of the clock, for `Deadlines.remove()`.
    """

    __slots__ = ("due", "owner")

    def __init__(self, owner: HasDeadline, due: float) -> None:
        self.owner: HasDeadline | None = owner
        self.due = due

    def expire(self, now: float) -> None:
        owner = self.owner
        if owner is not None:
            owner._deadline = None
            owner.expire(now)
