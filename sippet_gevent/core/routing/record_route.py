"""RecordRoute: how a proxy stays on a route, on both of its sides, RFC 3261 §16.6 step 4 and RFC
5658 §5."""

from __future__ import annotations

from typing import ClassVar

from ...message.message import Request
from ...transport.base import Flow
from ..element import Element
from .outbound import Reach, reach_of_sender


class RecordRoute:
    """The Record-Route values of a forwarded request: one, or one for each side.

    There are two when the sides differ in transport or listener, so that each peer gets an address
    that it can reach. There are also two when a peer is reached only by its flow. The value on that
    side then names the flow. The upper value faces the callee.

    Args:
        stack: The element that forwards.
        request: The request as it was received.
    """

    name: ClassVar[str] = "Record-Route"

    def __init__(self, stack: Element, request: Request) -> None:
        self._names = stack.names
        self._request = request
        self._facing_sender = self._value_of_sender()

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Insert our values in front of those in a copy.

        Args:
            copy: The request that is to be sent.
            flow: The flow by which it leaves.
            by_flow: True when only this flow leads to the peer.
        """
        headers = copy.headers
        for value in reversed(self._values(flow, by_flow)):
            if self.name in headers.fields:
                headers.push(self.name, value)
            else:
                headers.put(self.name, value)

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Replace the values that write() inserted, because the copy now goes by another flow."""
        old, new = self._values(before, False), self._values(flow, False)
        if old != new:
            copy.headers.replace(self.name, [*new, *copy.headers.all(self.name)[len(old) :]])

    def _values(self, flow: Flow, by_flow: bool) -> tuple[str, ...]:
        sender = self._request.flow
        if not by_flow and not self._by_flow and flow.transport is sender.transport:
            names = self._names
            if names.sent_by(flow) == names.sent_by(sender):  # type: ignore[arg-type]  # each flow is one
                return (self._facing_sender,)
        facing_callee = self._names.route_text(self._request, flow, by_flow=by_flow)
        return tuple(dict.fromkeys((facing_callee, self._facing_sender)))

    def _value_of_sender(self) -> str:
        by_flow = self._by_flow = reach_of_sender(self._request) is not Reach.AT_CONTACT
        flow: Flow = self._request.flow  # type: ignore[assignment]  # each flow is one
        return self._names.route_text(self._request, flow, by_flow=by_flow)
