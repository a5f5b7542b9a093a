"""Where a request goes next, and what a proxy changes in it, RFC 3261 §8.1.2, §12.2.1.1, §16.3 to §16.7. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from ..errors import Reject
from ..message.address import NameAddr
from ..message.message import Request, Response
from ..message.parameters import NO_URI_HEADERS
from ..message.uri import URI

MAX_FORWARDS = 70  # §8.1.1.6


def take_next_hop(request: Request) -> URI:
    """Return the URI that says where a request goes: the topmost Route, or the Request-URI (§8.1.2, §16.6 step 7).

    A strict router wants its own URI in the Request-URI, and what stood there as the last Route (§12.2.1.1, §16.6 step 6).
    """
    route = request.route
    if not route:
        return request.uri
    first = route[0].uri
    if not first.is_loose_router:
        target = NameAddr(request.uri)
        request.uri = as_request_uri(first)
        request.route = (*route[1:], target)
    return first


def as_request_uri(uri: URI) -> URI:
    """Return a URI without what must not stand in a Request-URI: method and headers (§19.1.1 table 1)."""
    return uri._replace(parameters=uri.parameters.without("method"), headers=NO_URI_HEADERS)


def take_own_route(request: Request, is_local: Callable[[URI], bool]) -> bool:
    """Undo what strict routers did and take ourselves off the route (§16.4). True when we were on it."""
    uri = request.uri
    taken = False
    if request.route and uri.is_loose_router and is_local(uri):
        # A strict router before us put our Record-Route URI into the Request-URI; the target waits as the last Route.
        *routes, last = request.route
        request.uri = uri = last.uri
        request.route = routes
        taken = True
    maddr = uri.parameters.get("maddr")
    if maddr is not None and is_local(uri._replace(host=maddr)):
        request.uri = uri._replace(port=None, parameters=uri.parameters.without("maddr", "transport"))
    while request.route and is_local(request.route[0].uri):
        request.route = request.route[1:]
        taken = True
    return taken


def unsupported(tags: Iterable[str], supported: Container[str]) -> tuple[str, ...]:
    """Return the option tags of a Require or Proxy-Require that are not supported (§8.2.2.3, §16.3 step 5)."""
    return tuple(tag for tag in tags if tag.lower() not in supported)


def check_request(request: Request, supported: Container[str]) -> None:
    """Refuse what a proxy must not pass on (§16.3): Max-Forwards at 0, an unknown Proxy-Require. Raises Reject."""
    if request.max_forwards == 0:
        raise Reject(483)
    missing = unsupported(request.proxy_require, supported)
    if missing:
        raise Reject(420, unsupported=missing)


def forwarded(request: Request, target: URI | str | None, is_local: Callable[[URI], bool]) -> Request:
    """Return the copy that a proxy sends on (§16.4, §16.6 steps 1 to 3): own Route off, new Request-URI, one hop less."""
    copy = request.copy()
    take_own_route(copy, is_local)
    if target is not None:
        copy.uri = as_request_uri(URI.parse(target) if isinstance(target, str) else target)
    copy.max_forwards = MAX_FORWARDS if copy.max_forwards is None else copy.max_forwards - 1
    return copy


# Within 4xx, those that help the caller to try again go first (§16.7 step 6).
_PREFERRED = (401, 407, 415, 420, 484)


def best_response(responses: Iterable[tuple[Response, bool]]) -> Response | None:
    """Choose what goes upstream from final responses, each with whether it was really received (§16.7 step 6).

    A 408 or 503 we made for a silent or dead branch never outranks a real answer: it is our guess.
    """

    def rank(entry: tuple[Response, bool]) -> tuple[bool, int, int]:
        response, received = entry
        group = response.status // 100
        within = 0 if response.status in _PREFERRED else 2 if response.status == 503 else 1
        return not received, 0 if group == 6 else group, within

    ranked = sorted(responses, key=rank)  # stable: among equals the first that came
    return ranked[0][0] if ranked else None
