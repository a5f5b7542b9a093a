"""Watch: what a deadline refers to in place of its owner, so that the owner can be freed before."""

from __future__ import annotations

from typing import Protocol


class Watching(Protocol):
    """What has one deadline at a time."""

    _watch: Watch | None

    def expire(self, now: float) -> None:
        """Take the deadline."""


class Watch:
    """A reference to something with a deadline, which that can clear.

    Args:
        owner: What has the deadline. Its `_watch` is None when its expire() is called.
        due: The deadline, for `Deadlines.remove()`.
    """

    __slots__ = ("due", "owner")

    def __init__(self, owner: Watching, due: float) -> None:
        self.owner: Watching | None = owner
        self.due = due

    def expire(self, now: float) -> None:
        owner = self.owner
        if owner is not None:
            owner._watch = None
            owner.expire(now)
