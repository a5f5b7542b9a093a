"""Ruled: a usage that asks rules, as an INVITE session does."""

from __future__ import annotations

from typing import Any

from ...errors import TransactionStateError
from ...message.message import Request, Response
from ..element import DialogTable
from ..inbox import Inbox
from .call import Flag
from .rule import Rule, Rules
from .usage import Usage


class Ruled(Usage):
    """A usage with an instance of each rule of a table. Hooks that no rule has are not called."""

    plan: Rules
    """The table, with the places of the rules that have each hook."""

    rules: tuple[Rule, ...]
    """The rules, in the order of the table."""

    ended: Flag
    _inbox: Inbox[None]

    def _begin(self, request: Request, dialogs: DialogTable) -> None:
        """Ask the rules about the INVITE that begins the call. Raises Reject."""
        for place in self.plan.begins:
            self.rules[place].begins(request, dialogs)

    def _within(self, method: str, body: bytes | str, headers: dict[str, Any]) -> Request:
        """Return a request within the dialog, which the rules have completed."""
        request = self.dialog.request(method, body=body, **headers)
        for place in self.plan.requesting:
            self.rules[place].requesting(request)
        return request

    def _is_shown(self, response: Response) -> bool:
        """Give the rules a 101 to 199 to our INVITE. False hides it from the application."""
        # a loop without a generator: most calls have a provisional response
        shown = True
        for place in self.plan.provisional:
            shown = shown and self.rules[place].provisional(response)
        return shown

    def _hold(self, response: Response) -> None:
        """Wait until no rule holds a response of ours to an INVITE any more.

        Raises:
            Cancelled: The caller has given up, or the INVITE was refused meanwhile.
            TransactionStateError: The call has ended meanwhile.
        """
        for place in self.plan.holds:
            if self.rules[place].holds(response):
                self._inbox.wait(lambda: self.ended.is_set() or not self._is_held(response))
                if self.ended.is_set():
                    raise TransactionStateError(f"the call has ended: {self.end}")
                return

    def _is_held(self, response: Response) -> bool:
        return any(self.rules[place].holds(response) for place in self.plan.holds)

    def _responding(self, request: Request, response: Response) -> None:
        """Let the rules complete our response to an INVITE or UPDATE. Raises Reject."""
        for place in self.plan.responding:
            self.rules[place].responding(request, response)
