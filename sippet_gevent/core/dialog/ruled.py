"""Ruled: a usage that asks rules, as an INVITE session does.

Each loop over a hook skips the rules that the session has not met. It has no generator and no
function of its own, because each call of a function costs more than the loop.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeVar, cast

from ...errors import TransactionStateError
from ...message.message import Request, Response
from ..element import DialogTable
from ..inbox import Inbox
from .rule import Rule, Rules, Session
from .usage import Usage

R = TypeVar("R", bound=Rule)

CROSSING = "crossing"
"""Key among the header fields of a request that a bridge passes on. Its value is a function that
completes the request with what crosses, see core/b2bua."""


class Ruled(Usage):
    """A usage with the rules of a table. Hooks that no rule has are not called."""

    plan: Rules
    """The table, with the places of the rules that have each hook."""

    rules: list[Rule | None] | tuple[None, ...]
    """The rules, in the order of the table; None for each that the session has not met. All
    sessions that have met none share one tuple."""

    _inbox: Inbox[None]

    def rule_of(self, kind: type[R]) -> R | None:
        """Return the rule of a class, which is made if the session has not met it. None if the
        table has no such rule."""
        if kind not in self.plan.classes:
            return None
        return cast(R, self._make(self.plan.classes.index(kind)))

    def wake(self) -> None:
        """Let the greenlets go on that wait for something in the call."""
        self._inbox.wake()

    def warn(self, event: str, error: BaseException) -> None:
        """Log that something has failed, with the Call-ID."""
        self.dialog.warn(event, error)

    def _make(self, place: int) -> Rule:
        rule = self.rules[place]
        if rule is None:
            if isinstance(self.rules, tuple):
                self.rules = [*self.rules]
            rule = self.rules[place] = self.plan.classes[place](cast(Session, self))
        return rule

    def _meet(self, fields: Container[str], method: str = "") -> None:
        """Make the rules that a message concerns by its header fields or its method."""
        for name, place in self.plan.by_field:
            if name in fields:
                self._make(place)
        for place in self.plan.by_method.get(method, ()):
            self._make(place)

    def _begin(self, request: Request, dialogs: DialogTable) -> None:
        """Ask the rules about the INVITE that begins the call. Raises Reject."""
        plan, fields = self.plan, request.headers.fields
        if not plan.fields.isdisjoint(fields):
            self._meet(fields)
        for place in plan.begins:
            rule = self.rules[place]
            if rule is not None:
                rule.begins(request, dialogs)

    def _within(self, method: str, body: bytes | str, headers: dict[str, Any]) -> Request:
        """Return a request within the dialog, which the rules have completed."""
        crossing = headers.pop(CROSSING, None)
        request = self.dialog.request(method, body=body, **headers)
        if crossing is not None:
            crossing(request)
        for place in self.plan.requesting:
            rule = self.rules[place]
            if rule is not None:
                rule.requesting(request)
        return request

    def _is_shown(self, response: Response) -> bool:
        """Give the rules a 101 to 199 to our INVITE. False hides it from the application."""
        plan, fields = self.plan, response.headers.fields
        if not plan.fields.isdisjoint(fields):
            self._meet(fields)
        shown = True
        for place in plan.provisional:
            rule = self.rules[place]
            if rule is not None:
                shown = shown and rule.provisional(response)
        return shown

    def _hold(self, response: Response) -> None:
        """Wait until no rule holds a response of ours to an INVITE any more.

        Raises:
            Cancelled: The caller has given up, or the INVITE was refused meanwhile.
            TransactionStateError: The call has ended meanwhile.
        """
        self._inbox.wait(lambda: self.end is not None or not self._is_held(response))
        if self.end is not None:
            raise TransactionStateError(f"the call has ended: {self.end}")

    def _note_answer(self, request: Request, response: Response, *, by_us: bool) -> None:
        """Tell the rules of a 2xx to an INVITE or UPDATE."""
        for place in self.plan.answered:
            rule = self.rules[place]
            if rule is not None:
                rule.answered(request, response, by_us=by_us)

    def _is_held(self, response: Response) -> bool:
        for place in self.plan.holds:
            rule = self.rules[place]
            if rule is not None and rule.holds(response):
                return True
        return False
