"""The copy of a request that a proxy sends to one target, and its next hop, RFC 3261 §16.6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...engine.feedback import strip_feedback
from ...errors import FlowFailed, Reject, WrongScheme, excerpt
from ...message.message import Request
from ...message.uri import URI
from ...message.uri_arguments import given_sip_uri, given_uri
from ...stores.bindings import Binding
from ...transport.base import Flow, Origin
from ..client.targets import NextHop
from ..routing.own_names import Names
from ..routing.own_route import take_own_route
from ..routing.routes import MAX_FORWARDS, as_request_uri, top_route
from ..routing.sips import REQUIRED, retarget
from ..server import ServerTransaction
from .request_validation import check_next_hop, hops_left

Target = URI | str | Binding
"""Where a branch goes: a Request-URI, or a binding with its Path or its flow."""


def check_target(target: object, next_hop: NextHop | None = None) -> None:
    """Check a target and its next hop, because text that a core wrote wrongly fails the core and
    not only a branch. Raises TypeError or InvalidValue, which say what to write."""
    if isinstance(next_hop, str):
        given_sip_uri("next_hop", next_hop)
    if target is None or isinstance(target, (URI, Binding)):
        return
    if isinstance(target, str):
        given_uri("target", target)
        return
    how = (
        "forward(request, tx, *targets)"
        if isinstance(target, (tuple, list))
        else '"sip:bob@192.0.2.1"'
    )
    raise TypeError(
        f"a target must be a URI, a text or a Binding, got {excerpt(target)}: write {how}"
    )


def prepare(
    tx: ServerTransaction, target: Target | None, next_hop: NextHop | None, headers: dict[str, Any]
) -> tuple[Request, NextHop | None, Origin | None, URI | None]:
    """Return the copy of a request for one target, its next hop, and its listener (§16.6).

    The copy has no Route values of ours, one hop less in Max-Forwards, the Path of a binding as
    Route, and the given header fields.

    Args:
        tx: The server transaction of the request.
        target: The destination of the copy. None for the Route and Request-URI of the request.
        next_hop: A URI or flow that the application gives.
        headers: Header fields to set in the copy.

    Returns:
        The copy.
        The next hop: the given one, or else the flow of the binding, or the flow that the Route
        names. None if Route and Request-URI of the copy decide.
        The listener to prefer. It is the one at which the binding was registered, or within a
        dialog the one that our Record-Route named (RFC 5658 §5). A NAT in front of the peer may
        accept no other.
        The topmost Route of the copy, or else its Request-URI; None if there is a next hop and no
        Route.

    Raises:
        FlowFailed: The flow that alone leads to the target has ended.
        InvalidValue: A header field cannot be written.
        Reject: 403 for a target if the request has a Route that this stack did not make. 404 for a
            Request-URI of this element without a target. 400 for an invalid host of the next hop.
        WrongScheme: A sips request would become sip, or TLS does not lead to a sips target (RFC
            5630 §5.3).
    """
    stack = tx.stack
    names: Names = stack.names
    next_hop = given_sip_uri("next_hop", next_hop) if isinstance(next_hop, str) else next_hop
    uri = (
        target.uri
        if isinstance(target, Binding)
        else URI.parse(target)
        if isinstance(target, str)
        else target
    )
    secure_hop = None
    if uri is not None:
        uri, secure_hop = retarget(tx.request, uri)
    if target is None and next_hop is None and "route" not in headers:
        next_hop = tx.route_flow()
    copy = forwarded(tx.request, uri, names.is_local)
    first = top_route(copy) if "Route" in copy.headers.fields else None
    is_led = first is not None
    if (
        is_led
        and target is not None
        and next_hop is None
        and "route" not in headers
        and not tx.take_route()
    ):
        # the Route leads to an address that a stranger has written, not to the target
        raise Reject(403)
    if isinstance(target, Binding):
        for hop in reversed(target.path):
            copy.headers.put_header_front("Route", hop)  # RFC 3327 §5.4
    if headers:
        copy._set(headers)
    if headers or isinstance(target, Binding):
        first = top_route(copy)
        is_led = first is not None
    if isinstance(target, Binding) and next_hop is None and not is_led:
        next_hop = None if target.flow is None else names.live_flow(target.flow)
        if next_hop is None and target.by_flow_only:
            raise FlowFailed(f"the flow of {target.uri} has ended")
    if tx.edge is not None:
        tx.edge.leaves(copy, target, next_hop)
    if secure_hop is not None and not is_led:
        next_hop = next_hop or secure_hop
        ways = (next_hop.transport,) if isinstance(next_hop, Flow) else stack.engine.transports
        if not any(transport.secure for transport in ways):
            raise WrongScheme(warning=(REQUIRED,))
    if next_hop is None and not is_led and copy._uri[:4].lower() == "urn:":
        raise Reject(416)  # a name that only a location service resolves (§16.3 item 2, RFC 5031)
    if next_hop is None:
        if first is None:
            first = copy.uri
        if is_led or target is None:
            check_next_hop(first, is_led)
        if target is None and not is_led and names.is_local(first):
            raise Reject(404)  # the request is for this element, and has no target (§16.5)
    origin = names.listener(target.listener) if isinstance(target, Binding) else tx.route_origin
    return copy, next_hop, origin, first


def forwarded(
    request: Request, target: URI | str | None, is_local: Callable[[URI], bool]
) -> Request:
    """Return the copy of a request that a proxy sends on (§16.4, §16.6 steps 1 to 3).

    Our own Route values are removed, the Request-URI becomes the target, and Max-Forwards is
    decremented.

    Args:
        request: The request as it was received.
        target: The new Request-URI; None keeps the old one.
        is_local: True for a URI that leads to this element.

    Raises:
        Reject: 483 when Max-Forwards is 0 (§16.3 item 3).
        ParseError: A target in text is not a URI.
    """
    hops = hops_left(request)
    if hops == 0:
        raise Reject(483)
    copy = request.copy()
    strip_feedback(copy.headers)
    if ";" in copy._uri or "Route" in copy.headers.fields:
        take_own_route(copy, is_local)
    if target is not None:
        copy.uri = as_request_uri(URI.parse(target) if isinstance(target, str) else target)
    copy.headers.put("Max-Forwards", str(MAX_FORWARDS if hops is None else hops - 1))
    return copy
