"""OwnRoute: our own URIs on the Route of a request, and the flow or listener that they name, RFC
3261 §16.4. A request for a flow that has ended gets 430 (Flow Failed), RFC 5626 §5.3.1."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import FlowFailed, Reject
from ...message.message import Request
from ...message.uri import URI
from ...transport.base import Flow, Origin
from .outbound import can_be_dialled
from .own_names import Names
from .routes import top_route


class OwnRoute:
    """Removes the URIs of this element from a Route, and finds the listener or flow that they
    name."""

    __slots__ = ("_flow", "_names_flow", "is_of_dialog", "origin")

    def __init__(self) -> None:
        self.is_of_dialog = False
        """True when one of the URIs was made here for the dialog of the request."""
        self.origin: Origin | None = None
        """The listener by which a request within a dialog goes on: that of our Record-Route (RFC
        5658 §5)."""
        self._names_flow = False
        self._flow: Flow | None = None

    def take(self, request: Request, names: Names) -> None:
        """Remove our URIs from the Route of a request, and note the flow or listener that they
        name.

        Raises:
            Reject: 403 for a forged `flow_uri()`, 430 for one whose flow has ended (RFC 5626
                §5.3.1).
        """
        if "Route" not in request.headers.fields and ";" not in request._uri:
            return
        taken = take_own_route(request, names.is_local)
        matched = False
        for uri in taken:
            matched = names.route_tokens.match(request, uri)
            self.is_of_dialog = self.is_of_dialog or matched
        if taken:
            self._take_side(request, names, taken[-1], matched)

    def _take_side(self, request: Request, names: Names, uri: URI, is_of_dialog: bool) -> None:
        """Set the listener or flow by which the request leaves. Our last URI names it."""
        tokens = names.route_tokens
        name = tokens.flow_name(uri)
        if is_of_dialog:
            listener = names.listener_of(uri)
            self.origin = None if listener is None else Origin(listener)
            if "-" in name:
                self._names_flow, self._flow = True, names.find_flow(name)
        elif name and tokens.match_flow(uri):
            flow, source = names.find_flow(name), request.flow
            if flow is None:
                raise Reject(430)
            # a request that came by this same flow is outgoing, and goes along its Route (RFC 5626
            # §5.3)
            if flow.transport is not source.transport or flow.remote != source.remote:
                self._names_flow, self._flow = True, flow
        elif uri.user is not None and "ob" in uri.parameters:
            raise Reject(403)

    @property
    def leads_to_flow(self) -> bool:
        """True when the Route names a flow that has not ended."""
        return self._flow is not None

    @property
    def names_flow(self) -> bool:
        """True when the Route names a flow, which may have ended."""
        return self._names_flow

    def flow(self, uri: URI) -> Flow | None:
        """Return the flow that the Route names, for a request to `uri`.

        None when it names no flow. Also None when the flow has ended and `uri` can be reached.

        Raises:
            FlowFailed: The flow has ended and `uri` cannot be reached. It counts as a 430 (RFC 5626
                §5.3.1).
        """
        if self._names_flow and self._flow is None and not can_be_dialled(uri):
            raise FlowFailed("the flow that the Route names has ended")
        return self._flow


def take_own_route(request: Request, is_local: Callable[[URI], bool]) -> tuple[URI, ...]:
    """Remove our own URIs from the route of a request, and undo what strict routers did (§16.4).

    Args:
        request: The request, which is changed.
        is_local: True for a URI that leads to this element.

    Returns:
        The removed URIs, in the order of the route.
    """
    headers = request.headers
    taken: tuple[URI, ...] = ()
    if ";" in request._uri:  # it may have lr or maddr
        taken = _take_from_request_uri(request, is_local)
    while "Route" in headers.fields and (top := top_route(request)) is not None and is_local(top):
        taken += (top,)
        headers.delete_header_front("Route")
    return taken


def _take_from_request_uri(request: Request, is_local: Callable[[URI], bool]) -> tuple[URI, ...]:
    """Undo what strict routers, and senders that write maddr, did to the Request-URI (§16.4)."""
    uri, headers = request.uri, request.headers
    taken: tuple[URI, ...] = ()
    if uri.is_loose_router and headers.get_header_back("Route") is not None and is_local(uri):
        # a strict router before us has moved our Record-Route URI to the Request-URI, and the
        # target to the last Route
        taken = (uri,)
        request.uri = uri = headers.pop_header_back("Route").uri
    maddr = uri.parameters.get("maddr")
    if maddr is not None and is_local(uri._replace(host=maddr)):
        request.uri = uri._replace(
            port=None, parameters=uri.parameters.without("maddr", "transport")
        )
    return taken
