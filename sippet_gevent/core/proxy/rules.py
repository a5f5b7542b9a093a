"""Rules of a proxy, RFC 3261 §16.3, §16.6 and §16.7, RFC 5393: what it refuses, copies, prefers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from hashlib import blake2s

from ...errors import Reject
from ...message.message import Request, Response
from ...message.uri import URI
from ..refusal import unsupported
from ..routing.routes import MAX_FORWARDS, as_request_uri, take_own_route, top_route

LOOP_MARK = 8
"""Octets of the hash in our branches: two requests of 70 hops each that share it do not occur (RFC
5393 §4.2.4)."""

MAX_BREADTH = 60
"""Branches at one time that a request may have from here on, all proxies together (RFC 5393
§5.3.3)."""


def loop_mark(request: Request, secret: bytes) -> str:
    """Return what tells a request that comes back as it was from one that spirals (§16.6 step 8,
    RFC 5393 §4.2.1).

    It stands in the branches we make for it. The secret makes it ours, so no Via of others must be
    read to find it, but it is nothing to be shared: the next proxy may get the very same request.
    Raises Reject(482) when it stands there (§16.3).
    """
    e, headers = request.mandatory, request.headers
    # never the method
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
    """Refuse what a proxy must not pass on (§16.3): Max-Forwards at 0, an unknown Proxy-Require.
    Raises Reject."""
    if request.max_forwards == 0:
        raise Reject(483)
    missing = unsupported(request.proxy_require, supported)
    if missing:
        raise Reject(420, unsupported=missing)


def check_host(request: Request) -> None:
    """Refuse a request whose next hop has a host that is neither an address nor a name (§16.3 item
    1). Raises Reject(400).

    Hosts in other header fields, and in a Request-URI behind a Route, are not checked: other hops
    use them.
    """
    first = top_route(request)
    uri = request.uri if first is None else first
    if not uri.has_valid_host:
        raise Reject(
            400,
            f"{'Request-URI' if first is None else 'Route'}: host is neither an address nor a name",
        )


def breadth_of(request: Request) -> int:
    """Return how many branches at one time a request may have from here on (RFC 5393 §5.3.3).
    Raises ParseError."""
    given = request.max_breadth
    return MAX_BREADTH if given is None else min(given, MAX_BREADTH)


def forwarded(
    request: Request, target: URI | str | None, is_local: Callable[[URI], bool]
) -> Request:
    """Return the copy that a proxy sends on (§16.4, §16.6 steps 1 to 3): own Route off, new
    Request-URI, one hop less.

    Raises Reject(483) when there is no hop left (§16.3 item 3).
    """
    if request.max_forwards == 0:
        raise Reject(483)
    copy = request.copy()
    take_own_route(copy, is_local)
    if target is not None:
        copy.uri = as_request_uri(URI.parse(target) if isinstance(target, str) else target)
    copy.max_forwards = MAX_FORWARDS if copy.max_forwards is None else copy.max_forwards - 1
    return copy


# Within 4xx, those that help the caller to try again go first (§16.7 step 6).
_PREFERRED = (401, 407, 415, 420, 484)


def best_response(responses: Iterable[tuple[Response, bool]]) -> Response | None:
    """Choose what goes upstream from final responses, each with whether it was really received
    (§16.7 step 6).

    A 408 or 503 we made for a silent or dead branch never outranks a real answer: it is our guess.
    """

    def rank(entry: tuple[Response, bool]) -> tuple[bool, int, int]:
        response, received = entry
        group = response.status // 100
        within = 0 if response.status in _PREFERRED else 2 if response.status == 503 else 1
        return not received, 0 if group == 6 else group, within

    ranked = sorted(responses, key=rank)  # stable: among equals the first that came
    return ranked[0][0] if ranked else None
