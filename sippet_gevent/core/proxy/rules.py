"""Rules of a proxy: loops, Max-Breadth and what is refused, RFC 3261 §16.3, §16.6 and RFC 5393.
Pure."""

from __future__ import annotations

from collections.abc import Container
from hashlib import blake2s

from ...errors import Reject
from ...message.message import Request
from ..option_tags import check_required
from ..routing.routes import top_route

LOOP_MARK = 8
"""Bytes of the hash in our branches. Two different requests of 70 hops do not share one by chance
(RFC 5393 §4.2.4)."""

MAX_BREADTH = 60
"""Most branches that a request may have at the same time from here on, at all proxies together (RFC
5393 §5.3.3)."""


def loop_mark(request: Request, secret: bytes) -> str:
    """Return the hash that tells a loop from a spiral, for the branches of the copies (§16.6 step
    8, RFC 5393 §4.2.1).

    A request that comes back unchanged has the same hash, and a request that spirals has another.
    The hash is keyed, so only our own Via values can match. The hash itself is public, because it
    is in the branch that the next hop sees.

    Args:
        request: The request as it was received.
        secret: The key, which is the same for the life of the stack.

    Raises:
        Reject: 482 when a Via of the request already has this hash (§16.3 item 4).
    """
    e, headers = request.mandatory, request.headers
    # not the method, because CANCEL and ACK have the branch of their INVITE (§16.6 step 8)
    parts = [request.uri_text, headers["Call-ID"], f"{e.cseq} {e.from_tag} {e.to_tag}"]
    for name in ("Route", "Proxy-Require", "Proxy-Authorization"):
        if name in headers.fields:
            parts += (name, *headers.all(name))
    mark = blake2s(
        "\n".join(parts).encode("utf-8", "surrogateescape"), key=secret, digest_size=LOOP_MARK
    ).hexdigest()
    if any(mark in via for via in headers.all("Via")):
        raise Reject(482, "Loop Detected")
    return mark


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


def breadth_of(request: Request) -> int:
    """Return how many branches a request may have at the same time from here on (RFC 5393 §5.3.3).
    Raises ParseError."""
    given = request.max_breadth
    return MAX_BREADTH if given is None else min(given, MAX_BREADTH)
