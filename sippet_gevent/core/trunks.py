"""Trunks: calls between the phones of a server and the accounts that it has at carriers.

| call | goes to |
|---|---|
| from a phone, to a number that is registered here | that phone, as without trunks |
| from a phone, to a number of a trunk | the first such trunk that is up, as a call of its account |
| the same, refused with one of its `next_on` | the next such trunk |
| from the carrier of a trunk | all phones of the user that the number belongs to |

Calls are bridged, because the carrier asks us for the password, not the phone. It may do that for a
re-INVITE or a BYE of a phone that it has called, too. Only an element with a dialog of its own can
answer, because the second try has another CSeq (RFC 3261 §22.2). All phones of a user ring. Other
requests of a carrier, such as MESSAGE, are forwarded to all phones.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..arguments import duration, flag, instance
from ..errors import InvalidValue, Reject, TransactionTimeout, TransportError, excerpt
from ..message.address import NameAddr
from ..message.message import Request
from ..message.uri import URI
from ..message.uri_arguments import given_user
from ..observe.log_values import Plain
from ..transaction.timers import Timers
from .argument_checks import check_timers
from .b2bua.bridge import bridge
from .b2bua.policy import BridgePolicy, Treatment
from .core import Core
from .forwarding import CoreResult
from .privacy import BY_BRIDGE, INFORMATIONAL, check_critical, hides_its_caller, privacy_of
from .proxy.forward import forward
from .registrar_proxy import RegistrarProxy
from .registration.account import Account
from .server import ServerTransaction
from .user_agent import UserAgent

log = logging.getLogger("sippet_gevent.core")

NEXT_ON = (408, 480, 500, 502, 503, 504)
"""Responses of a trunk that try the next one: the carrier has failed, not the callee."""

_SEPARATORS = str.maketrans("", "", "-.()")  # visual-separator of RFC 3966 §3


def _asserted(invite: Request) -> str | None:
    """Return the caller that a carrier asserts, unless it has to be hidden from phones (RFC 3325
    §7)."""
    if _wants_privacy(invite):
        return None
    return ", ".join(invite.headers.all("P-Asserted-Identity")) or None


def _called(invite: Request) -> str | None:
    return invite.headers.get("P-Called-Party-ID")


def _history(invite: Request) -> str | None:
    """Return how the call came here, unless that has to be hidden (RFC 7044 §10.1)."""
    if "history" in privacy_of(invite):
        return None
    return ", ".join(invite.headers.all("History-Info")) or None


def _wants_privacy(request: Request) -> bool:
    words = privacy_of(request)
    return "none" not in words and not {"id", "user", "header"}.isdisjoint(words)


_ANONYMOUS = NameAddr.parse('"Anonymous" <sip:anonymous@anonymous.invalid>')  # RFC 3323 §4.1.1.3

_OF_THE_CARRIER: dict[str, Treatment] = {
    "P-Asserted-Identity": _asserted,
    "P-Called-Party-ID": _called,
    "History-Info": _history,
}
_HIDDEN: dict[str, Treatment] = {
    # User-Agent is that of each leg anyway
    **{name: False for name in INFORMATIONAL if name != "User-Agent"},
    "History-Info": _history,
}

_INCOMING = BridgePolicy(_OF_THE_CARRIER)
"""What phones get of a call of a carrier, which they trust (RFC 3325 §7, RFC 7315 §4.2)."""

_INCOMING_HIDDEN = BridgePolicy({**_OF_THE_CARRIER, **_HIDDEN, "From": str(_ANONYMOUS)})
"""The same for a caller that wants user-level privacy (RFC 3323 §5.3)."""

_OUTGOING_HIDDEN = BridgePolicy(_HIDDEN)
"""What a carrier gets of a call whose caller wants privacy, besides From."""


@dataclass(frozen=True)
class Trunk:
    """An account at a carrier, and the calls that go to it and come from it.

        Trunk(Account("sip:100@carrier.example", carrier), numbers=("0",), strip="0", prepend="+49")

    Args:
        account: The account.
        numbers: Beginnings of the numbers that go to this trunk.
        pattern: A regular expression of whole numbers that go to it.
        strip: The beginning that is taken off such a number.
        prepend: What is put there then.
        caller_id: The number that callees see, by default that of the account.
        caller_ids: The same by user, which comes first.
        next_on: Statuses of refusals that try the next trunk.
        ring: Most seconds until a call by this trunk is answered. Then the next trunk is tried, and
            after the last one the caller gets 408. None is as long as the callee rings.
        timers: The timers of its INVITEs, in place of those of the stack: with `Timers(b=4)`, a
            carrier that does not respond at all makes way for the next one after 4 seconds.
        anonymous: False refuses calls of the carrier whose caller hides its number, by 433 (RFC
            5079).
        incoming: The user that gets its calls.
        incoming_numbers: Users by the number that was called, which come first.

    Raises:
        InvalidValue: The pattern is not a regular expression, `ring` is not above 0, or a URI is
            in place of a user or a number.
        TypeError: `account` is no Account, or another argument has another type.
    """

    account: Account
    numbers: tuple[str, ...] = ()
    pattern: str | None = None
    strip: str = ""
    prepend: str = ""
    caller_id: str | None = None
    caller_ids: Mapping[str, str] = field(default_factory=dict)
    next_on: tuple[int, ...] = NEXT_ON
    incoming: str | None = None
    incoming_numbers: Mapping[str, str] = field(default_factory=dict)
    ring: float | None = None
    timers: Timers | None = None
    anonymous: bool = True

    def __post_init__(self) -> None:
        instance("account", self.account, Account, 'Trunk(Account("sip:100@carrier.example"))')
        if isinstance(self.numbers, str):
            raise TypeError(f"numbers must be a tuple, got a text: write ({self.numbers!r},)")
        flag("anonymous", self.anonymous)
        for name in ("caller_id", "incoming"):
            value = getattr(self, name)
            if value is not None:
                given_user(name, value)
        for name in ("caller_ids", "incoming_numbers"):
            for pair in getattr(self, name).items():
                for value in pair:
                    given_user(name, value)
        if self.ring is not None:
            duration("ring", self.ring, above=True)
        if self.timers is not None:
            check_timers(self.timers)
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise InvalidValue(
                f"pattern must be a regular expression, got {excerpt(self.pattern)}: {error}"
            ) from None

    def number(self, dialled: str) -> str | None:
        """Return the number to call at the carrier; None if this trunk does not have it.

        Example:
            A trunk with `numbers=("0",), strip="0", prepend="+49"` calls +4930123 for 030123.
        """
        number = dialled.partition(";")[0].translate(_SEPARATORS)
        if not number or not (
            number.startswith(self.numbers)
            or (self.pattern is not None and re.fullmatch(self.pattern, number))
        ):
            return None
        return self.prepend + number.removeprefix(self.strip)

    def user(self, request: Request) -> str | None:
        """Return the user that gets a call of the carrier; None if nobody does.

        The number is in the Request-URI, in P-Called-Party-ID (RFC 7315 §4.2) or in To. Carriers
        that call the registered Contact have it in one of the others.
        """
        return self.number_called(request) or self.incoming

    def number_called(self, request: Request) -> str | None:
        """Return the user of `incoming_numbers` whose number was called; None for none."""
        if self.incoming_numbers:
            called = request.p_called_party_id
            uris = [request.uri, request.to.uri]
            if called is not None:
                uris.insert(1, called.uri)
            for uri in uris:
                number = (uri.user or "").partition(";")[0]
                found = self.incoming_numbers.get(number)
                if found is not None:
                    return found
        return None

    def identity(self, user: str | None) -> NameAddr:
        """Return the caller that callees see for calls of a user."""
        own = self.account.from_
        number = self.caller_ids.get(user or "", self.caller_id)
        if number is None:
            return own
        return NameAddr(self.account.uri(number), own.display)


class Trunks(Core):
    """A registrar and proxy with trunks.

        carrier = Trunk(Account("sip:100@carrier.example", credentials), numbers=("0",))
        office = Trunks(RegistrarProxy(), [carrier])
        stack = Stack(
            core=Authenticated(
                office, realm="example.com", users=users, exempt=office.is_from_carrier
            )
        )
        for trunk in office.trunks:
            stack.accounts.add(trunk.account)

    Only a request with a password reaches a carrier, unless `is_open`.

    Args:
        core: The registrar and proxy.
        trunks: The trunks, in the order in which they are tried.
        is_open: True lets callers without a password call at your expense.

    Raises:
        TypeError: `core` is no RegistrarProxy.
    """

    allowed = ()

    def __init__(
        self, core: RegistrarProxy, trunks: Iterable[Trunk] = (), *, is_open: bool = False
    ) -> None:
        instance("core", core, RegistrarProxy, "Trunks(RegistrarProxy(), trunks)")
        self.core = core
        self.trunks: tuple[Trunk, ...] = tuple(trunks)
        """The trunks. They may be replaced at any time; calls go on."""
        self._is_open = is_open

    _stack: UserAgent = None  # type: ignore[assignment]  # as Core.stack

    @property
    def stack(self) -> UserAgent:
        """The stack that runs this core."""
        return self._stack

    @stack.setter
    def stack(self, stack: UserAgent) -> None:
        self._stack = stack
        self.core.stack = stack

    def is_from_carrier(self, request: Request, tx: ServerTransaction) -> bool:
        """True for a request of a carrier, which needs no password. Never for REGISTER."""
        return request.method != "REGISTER" and self._origin(request) is not None

    def _origin(self, request: Request) -> Trunk | None:
        """Return the trunk whose carrier has sent a request.

        Trunks may share an account or a carrier. Then the number that was called says which it is.
        """
        found = None
        for trunk in self.trunks:
            account = trunk.account
            if account.owns(request):
                if trunk.user(request) is not None:
                    return trunk
                found = found or trunk
            elif trunk.number_called(request) is not None and account._is_from_server(request):
                return trunk
        return found

    def receive_request(self, request: Request, tx: ServerTransaction) -> CoreResult:
        if request.method != "REGISTER" and request.mandatory.to_tag is None:
            origin = self._origin(request)
            if origin is not None:
                return self._receive_call(origin, request, tx)
            if request.method == "INVITE":
                ways = self._ways(request)
                if ways and not self.core.location.lookup(request.uri):
                    self._place_call(ways, request, tx)
                    return None
        return self.core.receive_request(request, tx)

    # ---- from a carrier

    def _receive_call(self, trunk: Trunk, request: Request, tx: ServerTransaction) -> int | None:
        if request.method == "OPTIONS":
            return 200
        tx.take_route()
        user = trunk.user(request)
        if user is None:
            return 404
        if request.method == "INVITE" and not trunk.anonymous and hides_its_caller(request):
            return 433
        targets = self.core.location.lookup(self._address_of(user, request))
        if not targets:
            return 480  # the user is known, and has no phone at this moment (§21.4.18)
        if request.method == "INVITE":
            check_critical(request, BY_BRIDGE)
            words = privacy_of(request)
            is_hidden = "user" in words and "none" not in words
            policy = _INCOMING_HIDDEN if is_hidden else _INCOMING
            bridge(request, tx, targets, policy=policy)
        else:
            forward(request, tx, *targets)
        return None

    def _address_of(self, user: str, request: Request) -> URI:
        domains = self._stack.domains
        return URI("sip", user, domains[0] if domains else request.uri.host)

    def callee(self, request: Request) -> URI:
        """Return the address-of-record that a request is for.

        The Request-URI of a carrier is the Contact that the account has registered, so the number
        that was called says which user it is. TrustDomain asks it, for `allow_anonymous`.
        """
        origin = self._origin(request)
        user = None if origin is None else origin.user(request)
        return request.uri if user is None else self._address_of(user, request)

    # ---- to a carrier

    def _ways(self, request: Request) -> list[tuple[Trunk, str]]:
        """Return the trunks for a number, each with the number to call."""
        uri = request.uri
        if uri.user is None or not self._stack.is_responsible_for(uri):
            return []
        found = [(trunk, trunk.number(uri.user)) for trunk in self.trunks]
        return [(trunk, number) for trunk, number in found if number is not None]

    def _place_call(
        self, ways: list[tuple[Trunk, str]], request: Request, tx: ServerTransaction
    ) -> None:
        if tx.user is None and not self._is_open:
            raise Reject(403)
        check_critical(request, BY_BRIDGE)
        up = [way for way in ways if way[0].account.is_up]
        if not up:
            self._note(request, ways[0][0], "no trunk is up")
            raise Reject(503)
        tx.take_route()
        last = up[-1]
        for way in up:
            trunk, number = way
            try:
                _bridge(trunk, number, request, tx)
                return
            except Reject as refusal:
                if refusal.status not in trunk.next_on or way is last or tx.answered:
                    raise
                self._note(request, trunk, f"{refusal.status} {refusal.reason}")
            except (TransactionTimeout, TransportError) as error:
                if way is last or tx.answered:
                    raise
                self._note(request, trunk, str(error))

    def _note(self, request: Request, trunk: Trunk, reason: str) -> None:
        counters, now = self._stack.engine.counters, self._stack.clock.now()
        counters.warn(
            "trunk failed",
            now,
            'trunk failed: account=%s reason="%s" call_id=%s',
            Plain(str(trunk.account.aor)),
            Plain(excerpt(reason)[1:-1]),
            Plain(request.headers.get("Call-ID")),
            log=log,
        )


def _bridge(trunk: Trunk, number: str, request: Request, tx: ServerTransaction) -> None:
    """Place a call by a trunk, and wait until it has ended.

    A caller that wants privacy is anonymous in From, and the carrier alone learns its number (RFC
    3325 §9.2). The bridge hides its Via and Contact (RFC 3323 §5.1). What only the carrier can do
    is left to it, and stays critical.
    """
    caller = request.from_.uri
    own = trunk.identity(tx.user if tx.user is not None else caller.user)
    target = trunk.account.uri(number)
    if caller.host.lower() == _ANONYMOUS.uri.host or _wants_privacy(request):
        left = [word for word in privacy_of(request) if word in ("session", "critical")]
        trunk.account.bridge(
            request, tx, target, policy=_OUTGOING_HIDDEN, from_=_ANONYMOUS,
            p_preferred_identity=own, privacy=";".join(["id", *left]), timeout=trunk.ring,
            timers=trunk.timers,
        )  # fmt: skip
    else:
        trunk.account.bridge(
            request, tx, target, from_=own, timeout=trunk.ring, timers=trunk.timers
        )
