"""Where a request goes next, and what a proxy changes in it, RFC 3261 §8.1.2, §12.2.1.1, §16.3 to
§16.7. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from hashlib import blake2s
from hmac import compare_digest

from ...errors import InvalidValue, Reject
from ...message.address import NameAddr
from ...message.message import Request, Response
from ...message.parameters import NO_URI_HEADERS
from ...message.uri import URI

MAX_FORWARDS = 70  # §8.1.1.6

ROUTE_SECRET = 16
"""Octets in the secret behind our Record-Route tokens, at least: who guesses it has us relay to
anywhere."""

ROUTE_TOKEN = 10
"""Octets in a token: it is guessed over the network only, one request each, and stands in every
request of a call."""


def take_next_hop(request: Request) -> URI:
    """Return the URI that says where a request goes: the topmost Route, or the Request-URI (§8.1.2,
    §16.6 step 7).

    A strict router wants its own URI in the Request-URI, and what stood there as the last Route
    (§12.2.1.1, §16.6 step 6).
    """
    first = top_route(request)
    if first is None:
        return request.uri
    if not first.is_loose_router:
        target = NameAddr(request.uri)
        request.uri = as_request_uri(first)
        request.headers.delete_header_front("Route")
        request.headers.put_header_back("Route", target)
    return first


def top_route(request: Request) -> URI | None:
    """Return the URI of the topmost Route, None when there is none. Those below it are for other
    hops, and not read."""
    if "Route" not in request.headers.fields:
        return None
    top: NameAddr | None = request.headers.get_header_front("Route")
    return None if top is None else top.uri


def as_request_uri(uri: URI) -> URI:
    """Return a URI without what must not stand in a Request-URI: method and headers (§19.1.1 table
    1)."""
    return uri._replace(parameters=uri.parameters.without("method"), headers=NO_URI_HEADERS)


LOOP_MARK = 8
"""Octets of the hash in our branches: two requests of 70 hops each that share it do not occur (RFC
5393 §4.2.4)."""

MAX_BREADTH = 60
"""Branches at one time that a request may have from here on, all proxies together (RFC 5393
§5.3.3)."""


class RouteTokens:
    """Makes the tokens that our Record-Route URIs carry as user part, and knows them again (§16.4,
    §16.6 step 4).

    Anybody can write a Route that names us, and a To tag. A token is a MAC of the dialog's Call-ID
    and the tag of who began it, all there is of a dialog when Record-Route is written. The requests
    of both sides have that tag, in From or in To. Raises InvalidValue for a secret under
    ROUTE_SECRET octets.

    Where a peer is reached by its flow alone, the flow's name follows the MAC, which then is one of
    the name, too. A token for a Path, which outlives dialogs, is of the name alone (RFC 5626 §5.2).
    """

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) < ROUTE_SECRET:
            kind = InvalidValue if isinstance(secret, bytes) else TypeError
            got = f"{len(secret)} of them" if isinstance(secret, bytes) else type(secret).__name__
            raise kind(
                f"route_secret must be at least {ROUTE_SECRET} bytes, got {got}: write os.urandom({ROUTE_SECRET})"
            )
        self._keyed = blake2s(
            key=blake2s(secret).digest(), digest_size=ROUTE_TOKEN, person=b"route"
        )

    def make(self, request: Request, flow: str = "") -> str:
        """Return the token for the dialog that a received request begins, or is in, and for the
        flow of this name."""
        return self._token(request, request.mandatory.from_tag, flow)

    def match(self, request: Request, uri: URI) -> bool:
        """True when a URI of ours that a request came along was made for the dialog it is in.

        A request without To tag begins a dialog, unless its caller had no tag (RFC 2543;
        §12.2.1.1).
        """
        e = request.mandatory
        tags = (e.to_tag,) if e.to_tag is None else (e.to_tag, e.from_tag)
        flow = self.flow_name(uri)
        return any(_same(uri.user, self._token(request, tag, flow)) for tag in tags)

    def make_for_flow(self, flow: str) -> str:
        """Return the token for the flow of this name, whatever goes by it."""
        return self._signed(f"\n\n\n{flow}", flow)

    def match_flow(self, uri: URI) -> bool:
        """True when a URI of ours was made for the flow that it names, and for no dialog."""
        return _same(uri.user, self.make_for_flow(self.flow_name(uri)))

    @staticmethod
    def flow_name(uri: URI) -> str:
        """Return the name of the flow in a URI of ours, "" for none; whether it is to be believed,
        the MAC says."""
        return (uri.user or "").partition("-")[2]

    def _token(self, request: Request, tag: str | None, flow: str) -> str:
        text = f"{request.headers['Call-ID']}\n{tag or ''}"  # no field has a LF
        return self._signed(f"{text}\n{flow}" if flow else text, flow)

    def _signed(self, text: str, flow: str) -> str:
        mac = self._keyed.copy()
        mac.update(text.encode("utf-8", "surrogateescape"))
        return f"{mac.hexdigest()}-{flow}" if flow else mac.hexdigest()


def _same(given: str | None, token: str) -> bool:
    return compare_digest(
        (given or "").encode("utf-8", "surrogateescape"), token.encode("utf-8", "surrogateescape")
    )


def take_own_route(request: Request, is_local: Callable[[URI], bool]) -> tuple[URI, ...]:
    """Undo what strict routers did and take ourselves off the route (§16.4). Returns our URIs that
    stood there."""
    uri, headers = request.uri, request.headers
    taken: tuple[URI, ...] = ()
    if uri.is_loose_router and headers.get_header_back("Route") is not None and is_local(uri):
        # A strict router before us put our Record-Route URI into the Request-URI; the target waits
        # as the last Route.
        taken = (uri,)
        request.uri = uri = headers.pop_header_back("Route").uri
    maddr = uri.parameters.get("maddr")
    if maddr is not None and is_local(uri._replace(host=maddr)):
        request.uri = uri._replace(
            port=None, parameters=uri.parameters.without("maddr", "transport")
        )
    while (top := top_route(request)) is not None and is_local(top):
        taken += (top,)
        headers.delete_header_front("Route")
    return taken


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


def unsupported(tags: Iterable[str], supported: Container[str]) -> tuple[str, ...]:
    """Return the option tags of a Require or Proxy-Require that are not supported (§8.2.2.3, §16.3
    step 5)."""
    return tuple(tag for tag in tags if tag.lower() not in supported)


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
