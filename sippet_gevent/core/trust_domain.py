"""TrustDomain: the identity of callers, asserted at the edge of a trust domain, RFC 3325.

| request from | P-Asserted-Identity |
|---|---|
| a trusted element | stays |
| a user with the right password | the user's identity, in place of what the user wrote |
| anybody else | is removed |

P-Preferred-Identity never goes on. Remote-Party-ID was used before RFC 3325, and many phones show
it. It stays if a trusted element has written it. On the way out, the privacy that the caller wants
is kept, as `privacy.py` describes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from ..arguments import function, takes, texts
from ..errors import InvalidValue, ParseError, Reject, excerpt
from ..message.address import NameAddr
from ..message.grammar import is_host
from ..message.message import Request, Response
from ..message.uri import URI, normal_host
from ..message.uri_arguments import given_address
from ..stores.bindings import Binding
from ..transport.base import Flow
from .client.targets import NextHop
from .core import Core, CoreFunction, check_core
from .forwarding import CoreResult
from .privacy import (
    ANONYMOUS_HOST,
    REMOTE_PARTY,
    by_proxy,
    check_critical,
    conceal,
    hides_its_caller,
    privacy_of,
    remove,
    without_tag,
)
from .proxy.spirals import earlier_pass
from .routing.routes import top_route
from .server import ServerTransaction
from .user_agent import UserAgent

Identities = Callable[[str], Sequence[str]]
"""Returns the identities of a user, `identities(username)`: URIs, or whole values with a name. The
first one is asserted unless the user prefers another."""

_ASSERTED, _PREFERRED = "P-Asserted-Identity", "P-Preferred-Identity"


class TrustDomain(Core):
    """A core that asserts the identity of callers before another core runs, and hides the identity
    if the caller asks for that (RFC 3325, RFC 3323).

        users = {"100": "secret"}
        office = TrustDomain(RegistrarProxy(), trusted=("192.0.2.7", "carrier.example"))
        stack = Stack(core=Authenticated(office, realm="example.com", users=users))

    Put it inside Authenticated, because it needs `tx.user`.

    Args:
        core: The core.
        trusted: Elements of the trust domain: addresses, networks, and names for requests that go
            there. What they assert is believed. Phones are none.
        is_trusted: Decides in addition if a request comes from an element of the trust domain,
            `is_trusted(request, tx)`, such as the carrier of a trunk.
        identities: Returns the identities of a user. By default a user has its own addresses, which
            Authenticated has checked: its P-Preferred-Identity, or else its From, or else its name
            in the first domain.
        allow_anonymous: Decides if a callee wants anonymous calls, `allow_anonymous(uri)`. If not,
            they get 433 (RFC 5079). With Trunks as the core, the URI for a call of a carrier is
            that of the user that it is for.

    Raises:
        InvalidValue: A trusted element is no address, network or name.
        TypeError: An argument has the wrong type.
    """

    def __init__(
        self,
        core: CoreFunction,
        *,
        trusted: Sequence[str] = (),
        is_trusted: Callable[[Request, ServerTransaction], bool] | None = None,
        identities: Identities | None = None,
        allow_anonymous: Callable[[URI], bool] | None = None,
    ) -> None:
        check_core(core)
        self.core = core
        self.allowed = getattr(core, "allowed", Core.allowed)
        self._networks: list[IPv4Network | IPv6Network] = []
        self._names: set[str] = set()
        for text in texts("trusted", trusted, "addresses"):
            self._trust(text)
        for name, given, parameters in (
            ("is_trusted", is_trusted, ("request", "tx")),
            ("identities", identities, ("username",)),
            ("allow_anonymous", allow_anonymous, ("uri",)),
        ):
            if function(name, given, f"a function of ({', '.join(parameters)})") is not None:
                takes(given, parameters, name)
        self._is_trusted = is_trusted
        self._identities = identities
        self._allow_anonymous = allow_anonymous
        callee: Callable[[Request], URI] | None = getattr(core, "callee", None)
        self._callee = callee if callable(callee) else _request_uri

    def _trust(self, text: str) -> None:
        try:
            self._networks.append(ip_network(text.strip("[]")))
        except ValueError:
            if "/" in text or not is_host(text):
                raise InvalidValue(
                    f"trusted must be addresses, networks or names, got {excerpt(text)}: "
                    "write trusted=('192.0.2.0/24', 'carrier.example')"
                ) from None
            self._names.add(normal_host(text))

    _stack: UserAgent = None  # type: ignore[assignment]  # as Core.stack

    @property
    def stack(self) -> UserAgent:
        """The stack that runs this core."""
        return self._stack

    @stack.setter
    def stack(self, stack: UserAgent) -> None:
        self._stack = stack
        if isinstance(self.core, Core):
            self.core.stack = stack

    # ---- requests that arrive

    def receive_request(self, request: Request, tx: ServerTransaction) -> CoreResult:
        if request.method != "REGISTER":
            if not self._believes(request, tx):
                self._assert(request, tx)
            privacy_of(request)  # one that cannot be read is 400
            self._check_anonymous(request)
            tx.edge = _Edge(self, requires_privacy=without_tag(request))
        return self.core(request, tx)

    def receive_response(self, response: Response, tx: None) -> None:
        if isinstance(self.core, Core):
            self.core.receive_response(response, tx)

    def receive_error(self, error: Exception, tx: object) -> None:
        if isinstance(self.core, Core):
            self.core.receive_error(error, tx)

    def _believes(self, request: Request, tx: ServerTransaction) -> bool:
        if self._trusts(tx.flow.remote[0]):
            return True
        if self._is_trusted is not None and self._is_trusted(request, tx):
            return True
        if request.mandatory.key not in tx.stack.engine.clients:
            return False
        earlier = earlier_pass(request, tx)  # then this element itself has asserted it
        edge = None if earlier is None else earlier.edge
        return isinstance(edge, _Edge) and edge._domain is self

    def _assert(self, request: Request, tx: ServerTransaction) -> None:
        """Replace what a stranger asserts by what we know (RFC 3325 §5, §6)."""
        fields = request.headers.fields
        if REMOTE_PARTY in fields:
            del request.headers[REMOTE_PARTY]
        preferred: tuple[NameAddr, ...] = ()
        if _PREFERRED in fields:
            preferred = request.p_preferred_identity
            request.p_preferred_identity = None
        if tx.user is None:
            if _ASSERTED in fields:
                request.p_asserted_identity = None
            return
        request.p_asserted_identity = self._identity(request, tx.user, preferred) or None

    def _identity(
        self, request: Request, user: str, preferred: tuple[NameAddr, ...]
    ) -> tuple[NameAddr, ...]:
        """Return what is asserted: at most one SIP URI and one tel URI (RFC 3325 §9.1)."""
        wanted = preferred or (request.from_,)
        if self._identities is not None:
            known = [_value(text) for text in self._identities(user)]
            if not known:
                return ()
            chosen = [
                value for given in wanted for value in known if value.uri.equivalent(given.uri)
            ] or known[:1]
        else:
            # Authenticated has checked them; a display name is checked by nobody
            chosen = [
                NameAddr(value.uri) for value in wanted if value.uri.host.lower() != ANONYMOUS_HOST
            ]
            if not chosen:
                domains = self.stack.domains
                host = user.rpartition("@")[2] if "@" in user else domains[0] if domains else ""
                name = user.rpartition("@")[0] or user
                chosen = [NameAddr(URI("sip", name, host))] if host else []
        sip = [value for value in chosen if value.uri.is_sip][:1]
        tel = [value for value in chosen if value.uri.scheme == "tel"][:1]
        return tuple(sip + tel)

    def _check_anonymous(self, request: Request) -> None:
        """Refuse an anonymous call to a callee that wants none (RFC 5079 §4). Raises
        Reject(433)."""
        decide = self._allow_anonymous
        if (
            decide is not None
            and request.method == "INVITE"
            and request.mandatory.to_tag is None
            and hides_its_caller(request)
            and not decide(self._callee(request))
        ):
            raise Reject(433)

    # ---- messages that leave

    def _trusts(self, host: str) -> bool:
        """True for the host of an element of the trust domain."""
        if not self._networks and not self._names:
            return False
        if normal_host(host) in self._names:
            return True
        try:
            address = ip_address(host.strip("[]").partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def _trusts_hop(self, request: Request, target: object, next_hop: NextHop | None) -> bool:
        if isinstance(next_hop, Flow):
            return self._trusts(next_hop.remote[0])
        if next_hop is None and isinstance(target, Binding) and not target.path:
            return False  # anybody may register the name of a trusted host as its Contact
        uri = next_hop or top_route(request) or request.uri
        return isinstance(uri, URI) and self._trusts(uri.host)


class _Edge:
    """What a request passes on its way out, and its responses on their way back."""

    __slots__ = ("_domain", "_requires_privacy")

    def __init__(self, domain: TrustDomain, *, requires_privacy: bool) -> None:
        self._domain = domain
        self._requires_privacy = requires_privacy

    def leaves(self, copy: Request, target: object, next_hop: NextHop | None) -> None:
        """Complete the copy of a request for one target."""
        if "Privacy" in copy.headers.fields:
            check_critical(copy, by_proxy(copy))
            if self._requires_privacy:
                copy.proxy_require = (*copy.proxy_require, "privacy")
            conceal(copy, is_trusted=self._domain._trusts_hop(copy, target, next_hop))

    def returns(self, response: Response, flow: Flow) -> None:
        """Complete a response that goes back by a flow. It may be one of ours."""
        fields = response.headers.fields
        if _PREFERRED in fields:
            response.p_preferred_identity = None
        asserts = _ASSERTED in fields or REMOTE_PARTY in fields
        if asserts and not self._domain._trusts(response.flow.remote[0]):
            remove(response.headers, _ASSERTED)
            remove(response.headers, REMOTE_PARTY)
        if "Privacy" in fields:
            try:
                conceal(response, is_trusted=self._domain._trusts(flow.remote[0]))
            except ParseError:  # a peer cannot keep its answer from the caller by that
                remove(response.headers, _ASSERTED)
                remove(response.headers, REMOTE_PARTY)


def _request_uri(request: Request) -> URI:
    return request.uri


def _value(text: str) -> NameAddr:
    return given_address("identities", text if "<" in text else f"<{text}>")
