"""Reinvite: our INVITE within a call, RFC 3261 §14.1."""

from __future__ import annotations

from typing import Protocol

from ...message.message import Request, Response
from ..client.transaction import ClientTransaction
from ..element import Element


class Reinviting(Protocol):
    """The call that a re-INVITE belongs to."""

    stack: Element

    def _provisional(self, response: Response) -> bool:
        """Take a provisional response; False hides it from the application."""

    def _accepted(self, request: Request, response: Response) -> None:
        """Take the 2xx."""

    def _acknowledge(self, invite: Request) -> None:
        """Send the ACK."""


class Reinvite(ClientTransaction):
    """Our INVITE within a call. Its 2xx changes the call even if no greenlet waits for it any
    more."""

    __slots__ = ("_within",)

    def __init__(self, call: Reinviting, request: Request) -> None:
        super().__init__(call.stack, request)
        self._within = call

    def _ring(self, response: Response) -> bool:
        return self._within._provisional(response)

    def _accepted(self, response: Response) -> None:
        self._within._accepted(self.request, response)
        self._deliver(response)
        self._within._acknowledge(self.request)

    def _again(self, response: Response) -> None:
        self._within._acknowledge(self.request)
