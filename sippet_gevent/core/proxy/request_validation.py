"""Request validation: which requests a proxy refuses to forward, RFC 3261 §16.3. Pure."""

from __future__ import annotations

from collections.abc import Container

from ...errors import Reject
from ...message.message import Request
from ...message.uri import URI
from ...transport.locate.rfc3263 import literal
from ..option_tags import check_required
from ..routing.routes import MAX_FORWARDS

RECOMMENDED = str(MAX_FORWARDS)
"""The value that nearly all clients write (§8.1.1.6)."""


def check_request(request: Request, supported: Container[str]) -> None:
    """Refuse a request that must not be forwarded (§16.3 items 3 and 5).

    Args:
        request: The request as it was received.
        supported: The option tags of this element, in lower case.

    Raises:
        Reject: 483 when Max-Forwards is 0, 420 when Proxy-Require has an unknown option tag.
    """
    if request.headers.fields.get("Max-Forwards") != RECOMMENDED and hops_left(request) == 0:
        raise Reject(483)
    if "Proxy-Require" in request.headers.fields:
        check_required(request.proxy_require, supported)


def hops_left(request: Request) -> int | None:
    """Return Max-Forwards, None if there is none. Raises ParseError."""
    there = request.headers.fields.get("Max-Forwards")
    if there is None:
        return None
    if type(there) is str and there.isdecimal() and there.isascii() and len(there) < 4:
        return int(there)
    return request.max_forwards  # the rare spellings, and the errors


def check_next_hop(uri: URI, is_route: bool) -> None:
    """Refuse a request whose next hop has another scheme than sip and sips (§16.3 item 2), or a
    host that is neither an address nor a name (item 1).

    Other header fields, and a Request-URI below a Route, are for other hops and are not checked.
    The Request-URI may be that of the last Route, which a strict router has put there (§16.4).

    Args:
        uri: The topmost Route, or else the Request-URI.
        is_route: True if it is a Route.

    Raises:
        Reject: 416 for the scheme of the Request-URI (§21.4.14), and else 400.
    """
    if not uri.is_sip:
        raise Reject(400, "Route Is Not A SIP URI") if is_route else Reject(416)
    if literal(uri.host) is None and not uri.has_valid_host:
        raise Reject(
            400,
            f"{'Route' if is_route else 'Request-URI'}: host is neither an address nor a name",
        )
