"""Request validation: which requests a proxy refuses to forward, RFC 3261 §16.3. Pure."""

from __future__ import annotations

from collections.abc import Container

from ...errors import Reject
from ...message.message import Request
from ..option_tags import check_required
from ..routing.routes import top_route


def check_request(request: Request, supported: Container[str]) -> None:
    """Refuse a request that must not be forwarded (§16.3 items 3 and 5).

    Args:
        request: The request as it was received.
        supported: The option tags of this element, in lower case.

    Raises:
        Reject: 483 when Max-Forwards is 0, 420 when Proxy-Require has an unknown option tag.
    """
    if request.max_forwards == 0:
        raise Reject(483)
    check_required(request.proxy_require, supported)


def check_host(request: Request) -> None:
    """Refuse a request whose next hop has a host that is neither an address nor a name (§16.3 item
    1). Raises Reject(400).

    Hosts in other header fields, and in a Request-URI below a Route, are for other hops and are not
    checked.
    """
    first = top_route(request)
    uri = request.uri if first is None else first
    if not uri.has_valid_host:
        raise Reject(
            400,
            f"{'Request-URI' if first is None else 'Route'}: host is neither an address nor a name",
        )
