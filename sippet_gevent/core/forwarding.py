"""Forwarding and CoreResult: what a core may return (RFC 3261 §16)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

from ..message.message import Request, Response
from ..transport.base import Flow
from .client.targets import NextHop


class Forwarding(ABC):
    """The branches of a request that is forwarded: proxy/context.py. A core may return it, because
    it answers the request."""

    __slots__ = ()

    @abstractmethod
    def cancel(self, **headers: Any) -> None:
        """Cancel the branches, with these header fields."""

    def _answered(self) -> None:  # noqa: B027  a context whose core decides ignores it
        """Note that the request has its final response."""


CoreResult = int | Response | Forwarding | None
"""What a core may return: a status or a Response, what forward() has returned, or None when it has
answered itself."""


class Edge(Protocol):
    """Completes what a proxy passes on at the edge of a trust domain: identity.py."""

    def leaves(self, copy: Request, target: object, next_hop: NextHop | None) -> None:
        """Complete the copy of a request for one target."""

    def returns(self, response: Response, flow: Flow) -> None:
        """Complete a response that goes back by a flow."""
