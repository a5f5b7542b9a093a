"""Calls of a store that may wait, and the changes that wait for one. Used by GuardedStore."""

from __future__ import annotations

from typing import Generic, TypeVar

from gevent.event import Event

from .base import Change
from .bindings import Bindings
from .breaker import Breaker

T = TypeVar("T")


class Call:
    """One call of the store, in a greenlet that is never killed. Its callers wait for it, and no
    longer than the time-out."""

    __slots__ = ("began", "breaker", "is_late", "is_stuck")

    def __init__(self, breaker: Breaker, began: float) -> None:
        self.breaker = breaker
        self.began = began
        self.is_late = False
        self.is_stuck = False
        """True after its greenlet was given up, so that another one may enter the store."""


class Question(Call, Generic[T]):
    """A look-up, and its answer: None until there is one."""

    __slots__ = ("about", "answer", "done")

    def __init__(self, breaker: Breaker, began: float, about: object) -> None:
        super().__init__(breaker, began)
        self.about = about
        self.answer: T | None = None
        self.done = Event()


class Wish:
    """A change that waits for its turn, or for the store's answer."""

    __slots__ = ("call", "change", "done", "error", "is_lost", "stored")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.done = Event()
        self.call: Call | None = None
        self.stored: Bindings = ()
        self.error: BaseException | None = None  # of the change, or a refusal of the store
        self.is_lost = False


class Joined:
    """Changes of one address-of-record as one change, in the order of arrival.

    One that raises fails alone. A store may run this several times, so each run begins anew.
    """

    __slots__ = ("before", "runs", "wishes")

    def __init__(self, wishes: list[Wish]) -> None:
        self.wishes = wishes
        self.before: Bindings = ()
        self.runs = 0

    def __call__(self, before: Bindings) -> Bindings:
        self.runs += 1
        self.before = bindings = before
        refused: BaseException | None = None
        for wish in self.wishes:
            wish.error = None
            try:
                bindings = wish.change(bindings)
            except Exception as error:
                wish.error = refused = error
        if refused is not None and all(wish.error is not None for wish in self.wishes):
            raise refused  # nothing is to be stored
        return bindings

    def has_refused(self, error: BaseException) -> bool:
        """True for an exception of the last change, which is not the store's."""
        return any(wish.error is error for wish in self.wishes)
