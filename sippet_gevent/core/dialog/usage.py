"""Usage: what a dialog is used for, an INVITE session or a subscription, RFC 5057 §4.

A dialog may have several usages at the same time. Each gets the requests that concern it, and ends
by itself. The dialog ends with its last usage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...message.message import Request, Response
from ...transport.base import Flow, Origin
from ..auth.credentials import Kept
from ..element import Element, ServedRequest
from .end import End
from .state import DialogState


class Usage(ABC):
    """One use of a dialog. `Dialogs` gives it each request within the dialog that concerns it."""

    stack: Element
    """The element that the usage belongs to."""

    dialog: DialogState
    """Tags, route set, remote target and sequence numbers."""

    kept_credentials: Kept | None = None
    """The credentials of the request that began it, which later requests have, too."""

    end: End | None
    """How the usage has ended; None before."""

    @property
    def flow(self) -> Flow | None:
        """The flow of the dialog, if it is the only way to the peer (RFC 5626 §5.3); else None."""
        return self.dialog.flow

    @flow.setter
    def flow(self, flow: Flow | None) -> None:
        self.dialog.flow = flow

    @property
    def origin(self) -> Origin | None:
        """The listener at which the dialog began."""
        return self.dialog.origin

    @abstractmethod
    def _receive(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Serve a request within the dialog; NotImplemented leaves it to the core. Raises
        Reject."""

    @abstractmethod
    def _drop(self) -> None:
        """End without a message to the peer, because the stack has stopped."""

    @abstractmethod
    def _end_with_dialog(self, status: int, reason: str) -> None:
        """End, because a response to a request of any usage has ended the dialog (RFC 5057
        §5.1)."""

    def _leave_dialog(self) -> None:
        """Remove this usage from its dialog."""
        usages = self.dialog.usages
        if usages == (self,):
            self.dialog.usages = ()
        elif self in usages:
            self.dialog.usages = tuple([usage for usage in usages if usage is not self])
