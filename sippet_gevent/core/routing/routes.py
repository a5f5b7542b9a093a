"""Routes: the next hop of a request, and strict routers, RFC 3261 §8.1.2, §12.2.1.1 and §16.6.
Pure."""

from __future__ import annotations

from ...errors import ParseError
from ...message.address import NameAddr
from ...message.message import Request
from ...message.parameters import NO_URI_HEADERS, NO_URI_PARAMETERS
from ...message.uri import URI, parse_uri

MAX_FORWARDS = 70
"""Max-Forwards of a request that has none (§8.1.1.6)."""


def take_next_hop(request: Request) -> URI:
    """Return the URI of the next hop: the topmost Route, or else the Request-URI (§8.1.2, §16.6
    step 7).

    If the next hop is a strict router, its URI becomes the Request-URI. The previous Request-URI
    becomes the last Route (§12.2.1.1, §16.6 step 6).
    """
    first = top_route(request) if "Route" in request.headers.fields else None
    if first is None:
        return parse_uri(request._uri)
    if not first.is_loose_router:
        target = NameAddr(request.uri)
        request.uri = as_request_uri(first)
        request.headers.delete_header_front("Route")
        request.headers.put_header_back("Route", target)
    return first


def top_route(request: Request) -> URI | None:
    """Return the URI of the topmost Route, None when there is none.

    The values below it are for other hops and are not parsed.
    """
    there = request.headers.fields.get("Route")
    if there is None:
        return None
    text = there[0] if type(there) is list else there
    if text and "," not in text:
        try:
            return NameAddr.parse(text).uri  # type: ignore[arg-type]  # a text
        except ParseError:
            pass  # raised below, with its source
    top: NameAddr | None = request.headers.get_header_front("Route")
    return None if top is None else top.uri


def as_request_uri(uri: URI) -> URI:
    """Return a URI without the parts that a Request-URI must not have: method and headers (§19.1.1
    table 1)."""
    if uri.parameters is NO_URI_PARAMETERS and uri.headers is NO_URI_HEADERS:
        return uri
    return uri._replace(parameters=uri.parameters.without("method"), headers=NO_URI_HEADERS)
