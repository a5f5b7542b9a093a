"""RecordRoute and Path: how a proxy stays on a route, on both of its sides, RFC 3261 §16.6 step 4,
RFC 3327 §5.2, RFC 5658 §5."""

from __future__ import annotations

from typing import Any, ClassVar

from ...message.message import Request
from ...transport.base import Flow
from .outbound import Reach, reach_of_sender
from .sips import wants_sips


class RecordRoute:
    """What stands in the Record-Route of a received request that is passed on: one value, or one
    for each side.

    Two when the sides differ in transport or listening point, so that each peer finds us where it
    can, or when a peer is reached by its flow alone, which the value on its side names. The upper
    one faces the callee.
    """

    name: ClassVar[str] = "Record-Route"

    def __init__(self, stack: Any, request: Request) -> None:
        self._names = stack.names
        self._request = request
        self._facing_sender = self._value_of_sender()

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Put our values before those in a copy that leaves by `flow`, `by_flow` when nothing else
        leads to its peer."""
        headers = copy.headers
        for value in reversed(self._values(flow, by_flow)):
            headers.add(self.name, value, first=self.name in headers.fields)

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Replace what write() has put into a copy that went by one flow and now goes by
        another."""
        old, new = self._values(before, False), self._values(flow, False)
        if old != new:
            copy.headers.replace(self.name, [*new, *copy.headers.all(self.name)[len(old) :]])

    def _values(self, flow: Flow, by_flow: bool) -> tuple[str, ...]:
        facing_callee = str(self._names.route_uri(self._request, flow, by_flow=by_flow))
        return tuple(dict.fromkeys((facing_callee, self._facing_sender)))

    def _value_of_sender(self) -> str:
        by_flow = reach_of_sender(self._request) is not Reach.AT_CONTACT
        return str(self._names.route_uri(self._request, self._request.flow, by_flow=by_flow))


class Path(RecordRoute):
    """The Path of a REGISTER: the way of requests to the phone that has sent it (RFC 3327 §5.2).
    One value, or one for each side.

    The value on the phone's side names its flow, by a token that is good for requests of any
    dialog. If the registrar cannot reach the phone's listener, the value above it names one that
    the registrar can reach. Both have "ob" if we are the first hop (RFC 5626 §5.1), because a
    registrar looks for it in the first URI (§6), and some take the upper one for that.

    It is written even for a phone without `Supported: path`, against the SHOULD NOT of RFC 3327
    §5.2, because nothing else leads to a phone behind this proxy. A registrar may answer 420 to
    that (§5.3); ours takes it.
    """

    name = "Path"

    def _values(self, flow: Flow, by_flow: bool) -> tuple[str, ...]:
        if self._names.is_same_side(flow, self._request.flow):
            return (self._facing_sender,)
        return self._value(flow, None), self._facing_sender

    def _value_of_sender(self) -> str:
        self._is_first_hop = self._request.headers.has_one("Via")
        flow = self._request.flow
        return self._value(flow, self._names.flow_name(flow))

    def _value(self, flow: Flow, name: str | None) -> str:
        secure = wants_sips(self._request)
        return str(self._names.path_uri(flow, name, is_first_hop=self._is_first_hop, secure=secure))
