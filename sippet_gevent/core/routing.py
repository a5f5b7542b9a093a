"""Where a request goes next, and what a proxy changes in it, RFC 3261 §8.1.2, §12.2.1.1, §16.4 to §16.7. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import Reject
from ..message.message import Request, Response
from ..message.uri import URI
from ..message.values import NameAddr

MAX_FORWARDS = 70  # §8.1.1.6


def next_hop_of(request: Request) -> URI:
    """Return the URI that says where a request goes: the topmost Route, or the Request-URI (§8.1.2, §16.6 step 7)."""
    route = request.route
    return route[0].uri if route and route[0].uri.is_loose_router else request.uri


def apply_route_set(request: Request, route_set: tuple[NameAddr, ...]) -> None:
    """Write a dialog's route set into a request (§12.2.1.1): to a strict router, its URI becomes the Request-URI."""
    if not route_set:
        return
    first = route_set[0].uri
    if first.is_loose_router:
        request.route = route_set
        return
    target = NameAddr(request.uri)
    request.uri = first._replace(parameters=first.parameters.without("method"), headers=type(first.headers)())
    request.route = (*route_set[1:], target)


def take_own_route(request: Request, is_local: Callable[[URI], bool]) -> bool:
    """Undo what strict routers did and take ourselves off the route (§16.4). True when we were on it."""
    if is_local(request.uri) and request.route and "lr" in request.uri.parameters:
        # A strict router before us put our Record-Route URI into the Request-URI; the target waits as the last Route.
        *routes, last = request.route
        request.uri = last.uri
        request.route = tuple(routes) or None
        if not (request.route and is_local(request.route[0].uri)):
            return True
    taken = False
    while request.route and is_local(request.route[0].uri):
        request.route = request.route[1:] or None
        taken = True
    return taken


def check_request(request: Request) -> None:
    """Refuse what a proxy must not pass on (§16.3): Max-Forwards at 0, a Proxy-Require. Raises Reject."""
    if request.max_forwards == 0:
        raise Reject(483)
    if request.proxy_require:
        raise Reject(420, unsupported=request.proxy_require)


def forwarded(request: Request, target: URI | str | None) -> Request:
    """Return the copy that a proxy sends on (§16.6 steps 1 to 3): new Request-URI, one hop less."""
    copy = request.copy()
    if target is not None:
        uri = URI.parse(target) if isinstance(target, str) else target
        # §16.6 step 2: what §19.1.1 forbids in a Request-URI goes; a branch of ours must not look like theirs
        copy.uri = uri._replace(parameters=uri.parameters.without("method"), headers=type(uri.headers)())
    copy.max_forwards = MAX_FORWARDS if copy.max_forwards is None else copy.max_forwards - 1
    return copy


def postpone_strict_route(request: Request) -> None:
    """Before sending to a strict router, swap its URI with the Request-URI (§16.6 step 6)."""
    route = request.route
    if route and not route[0].uri.is_loose_router:
        target = NameAddr(request.uri)
        request.uri = route[0].uri
        request.route = (*route[1:], target)


# Within 4xx, those that help the caller to try again go first (§16.7 step 6); a made 408 or 503 never outranks a real answer.
_PREFERRED_4XX = (401, 407, 415, 420, 484)


def best_response(responses: Iterable[tuple[Response, bool]]) -> Response | None:
    """Choose what goes upstream from final responses, each with whether it was really received (§16.7 step 6)."""

    def rank(entry: tuple[int, tuple[Response, bool]]) -> tuple[int, int, int, int]:
        index, (response, received) = entry
        group = response.status // 100
        order = {6: 0, 2: 0, 3: 2, 4: 3, 5: 4}[group]
        within = 0 if response.status in _PREFERRED_4XX else 2 if response.status in (408, 503) and not received else 1
        return order, within, 0 if received else 1, index

    ranked = sorted(enumerate(responses), key=rank)
    return ranked[0][1][0] if ranked else None
