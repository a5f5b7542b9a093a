"""EventUsage: a subscription as a usage of a dialog, in both roles, RFC 6665 §4.

The roles are in subscriber_usage.py and notifier_usage.py, the states in subscription_state.py, the
event packages in event_package.py. A usage outlives the call of its dialog (RFC 5057 §4.2): the
dialog ends with its last usage.
"""

from __future__ import annotations

import math
from abc import abstractmethod

from ...errors import ParseError
from ...message.fields.extensions import Event
from ...message.iana import reason_phrase
from ...message.message import Request, Response
from .effects import Effect, effect_of
from .end import End
from .event_package import REFER, Package
from .state import DialogState
from .subscription_deadline import SubscriptionDeadline
from .usage import Usage


class EventUsage(Usage):
    """What both roles have: a package, an id, and a deadline.

    Args:
        dialog: The dialog.
        package: The event package.
        number: CSeq of the REFER that has created the subscription (RFC 3515 §2.4.6). Each id of
            Event is such a number.
        event_id: The id of Event, for other packages (RFC 6665 §8.2.1).
    """

    def __init__(
        self,
        dialog: DialogState,
        package: Package,
        number: int | None = None,
        event_id: str | None = None,
    ) -> None:
        self.stack = dialog.element
        self.dialog = dialog
        self.package = package
        self.number = number
        self.event_id = event_id
        self.end: End | None = None
        self._deadline: SubscriptionDeadline | None = None
        if dialog.usages:
            self.kept_credentials = dialog.usages[0].kept_credentials
        dialog.usages = (*dialog.usages, self)
        self.stack.dialogs.subscriptions += 1

    def concerns(self, request: Request) -> bool:
        """True if the Event of a request is that of this subscription (RFC 6665 §8.2.1)."""
        try:
            event = request.event
        except ParseError:
            return False
        if event is None or event.value.lower() != self.package.name:
            return False
        if self.package is not REFER:
            return event.id == self.event_id
        return event.id is None or self._has(event.id)

    def _has(self, number: str) -> bool:
        """True if a number is that of the REFER."""
        return self.number is None or number == str(self.number)

    @property
    def event(self) -> Event:
        """The Event of our requests."""
        number = self.event_id if self.number is None else self.number
        name = self.package.name
        return Event.parse(name if number is None else f"{name};id={number}")

    def _refresh_target(self, request: Request) -> None:
        """Take the target of a SUBSCRIBE or NOTIFY that was accepted (RFC 6665 §3.1, §3.2)."""
        if "Contact" in request.headers.fields:
            self.dialog.refresh_by(request)

    def _plan(self, due: float) -> None:
        """Have _expire() called at this time."""
        deadlines, deadline = self.stack.deadlines, self._deadline
        if deadline is not None:
            deadline.owner = self._deadline = None
            deadlines.remove(deadline.due, deadline)  # it may be an hour off
        if not math.isinf(due):
            self._deadline = SubscriptionDeadline(self, due)
            deadlines.add(due, self._deadline)

    @abstractmethod
    def _expire(self, now: float) -> None: ...

    def _finish(self, end: End) -> None:
        """Leave the dialog, which ends with its last usage."""
        if self.end is None:
            self.end = end
            self._plan(math.inf)
            self._leave_dialog()
            self.stack.dialogs.subscriptions -= 1
            self.stack.dialogs.release(self.dialog.id)

    def _drop(self) -> None:
        self._finish(End("stack", "stopped"))

    def _end_with_dialog(self, status: int, reason: str) -> None:
        self._finish(End("peer", "refused", status, reason))

    def _end_dialog(self, response: Response) -> None:
        """End all usages of the dialog, if the refusal of a request of ours does (RFC 5057
        §5.1)."""
        if effect_of(response.cseq.method, response.status) is Effect.DIALOG:
            self.dialog.ended_by(response.status, response.reason)

    def _refused(self, method: str, status: int) -> None:
        """End what our refusal of a request of the peer ends (RFC 5057 §5.1)."""
        effect = effect_of(method, status)
        if effect is Effect.DIALOG:
            self.dialog.ended_by(status, reason_phrase(status))
        elif effect is Effect.USAGE:
            self._end_with_dialog(status, reason_phrase(status))
