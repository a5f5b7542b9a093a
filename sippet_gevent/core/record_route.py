"""RecordRoute: how a proxy stays on the route of a dialog, on both of its sides, RFC 3261 §16.6 step 4, RFC 5658 §5."""

from __future__ import annotations

from typing import Any

from ..message.message import Request
from ..transport.base import Flow
from .outbound import Reach, reach_of_sender


class RecordRoute:
    """What stands in the Record-Route of a received request that is passed on: one value, or one for each side.

    Two when the sides differ in transport or listening point, so that each peer finds us where it can, or when a peer is
    reached by its flow alone, which the value on its side names. The upper one faces the callee.
    """

    def __init__(self, stack: Any, request: Request) -> None:
        self._names = stack.names
        self._request = request
        by_flow = reach_of_sender(request) is not Reach.AT_CONTACT
        self._facing_caller = str(self._names.route_uri(request, request.flow, by_flow=by_flow))

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Put our values before those in a copy that leaves by `flow`, `by_flow` when nothing else leads to its peer."""
        headers = copy.headers
        for value in reversed(self._values(flow, by_flow)):
            headers.add("Record-Route", value, first="Record-Route" in headers.fields)

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Replace what write() has put into a copy that went by one flow and now goes by another."""
        old, new = self._values(before, False), self._values(flow, False)
        if old != new:
            copy.headers.replace("Record-Route", [*new, *copy.headers.all("Record-Route")[len(old) :]])

    def _values(self, flow: Flow, by_flow: bool) -> tuple[str, ...]:
        facing_callee = str(self._names.route_uri(self._request, flow, by_flow=by_flow))
        return tuple(dict.fromkeys((facing_callee, self._facing_caller)))
