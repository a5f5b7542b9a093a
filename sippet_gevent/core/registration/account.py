"""Account: an account at a carrier or another server, with all that its requests need.

It is longer than other files, because its public attributes and methods are documented here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Any, Protocol, TypeVar

from ... import arguments
from ...errors import InvalidValue, SIPError, TransactionStateError, excerpt
from ...message.address import NameAddr
from ...message.fields.rfc3261 import MAX_DELTA_SECONDS
from ...message.message import Request
from ...message.uri import URI, normal_host
from ...message.uri_arguments import given_address, given_aor, given_sip_uri, given_uri
from ...observe.log_values import Plain
from ...transaction.timers import Timers
from ...transport.base import Address
from ...transport.listener_choice import Wanted
from ...transport.locate.rfc3263 import literal
from ..argument_checks import check_way
from ..auth.credentials import Given, own_credentials
from ..b2bua.bridge import bridge
from ..b2bua.policy import BridgePolicy
from ..b2bua.relay import MediaRelay
from ..client.targets import NextHop
from ..dialog.end import Bridged
from ..inbox import Inbox
from ..server import ServerTransaction
from .peers import check_peers
from .probes import Probes, Target
from .registration import (
    EXPIRES,
    UNREGISTER,
    Registration,
    checked_instance,
    contact_of,
    registrar_of,
    shared_uri,
    with_shared_host,
)
from .requests import AccountRequests, Registering, Way
from .row import Row, arguments_of

log = logging.getLogger("sippet_gevent.core")

Self = TypeVar("Self", bound="Account")

OnAccountChange = Callable[["Account"], object]
"""A function that is told of each change of an account."""


ADDRESSES = 8
"""Most addresses of a server that are remembered. The oldest is forgotten first."""


_LINE_BREAKS = frozenset("\r\n\0")


class AccountTable(Protocol):
    """The accounts of a stack, as one of them sees them: an Accounts."""

    stack: Registering
    probes: Probes

    def owner_of(self, request: Request) -> Account | None:
        """Return the account that a received request is for."""

    def is_from(self, account: Account, request: Request) -> bool:
        """True for a received request that comes from a server of an account."""

    def bind(self, account: Account, address: str, port: int = 0) -> None:
        """Note an address or network from which requests for an account come, by any port or by
        one."""

    def unbind(self, account: Account, address: str, port: int = 0) -> None:
        """Forget an address or network of an account."""

    def remove(self, account: Account, timeout: float = UNREGISTER) -> None:
        """End an account."""


class Account(AccountRequests):
    """An account at a carrier or another server: what a trunk needs, in one object.

        carrier = Account(
            "sip:100@carrier.example",
            Credentials("100", "secret"),
            outbound_proxy="sip:sbc.carrier.example",
            keep_up=30,
        )
        stack.accounts.add(carrier)

        call = carrier.invite("sip:+493012345@carrier.example", media=[AUDIO])

    Its requests have its From, its credentials, the outbound proxy or else the Service-Route, and
    the Contact that is registered. It starts with its stack, or at once if that runs, and keeps
    itself registered like stack.register(). A trunk by IP address needs no REGISTER: write
    `register=False`.

    `is_up` is True while calls can be made by it, and `error` says why it is not up. `refused` is
    True if the registrar refuses the account. `registration` is its Registration, None without
    REGISTER.

    Args:
        aor: The address-of-record.
        credentials: Credentials, a list of them, or a callable, as for Stack.request(). Those
            without `hosts` are for the hosts of this account.
        registrar: The Request-URI of REGISTER, by default the host of `aor`.
        outbound_proxy: Where all requests of the account go first: a URI. A tuple of URIs with an
            `instance` registers by each of them, and requests go by one that works (RFC 5626 §4.2).
        from_: The From of its requests, by default `aor` with `display_name`.
        display_name: The display name of that From.
        register: False for a trunk that is known by its IP address.
        expires: Seconds to register for. A 423 makes them longer.
        contact: The Contact to register, by default this stack with the user of `aor`.
        instance: A URN of this device; see Stack.register().
        public_contact: Register the address at which a NAT shows us; see Stack.register().
        keep_up: Seconds between two OPTIONS that ask the server if it answers. None sends none.
            Accounts with the same server share them.
        peers: Addresses or networks from which requests for the account come, besides those that
            registering and OPTIONS have found: `("192.0.2.0/24",)`.
        listener: The listener by which its requests leave; see Stack.send().
        on_change: Called with the Account after each change of `is_up`, `refused` or `ended`, in a
            greenlet of its own.

    Raises:
        InvalidValue: A URI, an address or a time is wrong, or `aor` is to be registered and has no
            user.
        TypeError: A value has another type.
    """

    __slots__ = (
        "_changes", "_contact", "_copies", "_expires", "_instance", "_is_known", "_keep_up",
        "_on_change", "_probe_error", "_probed_at", "_public_contact", "_servers", "_table", "aor",
        "credentials", "ended", "error", "from_", "is_up", "listener", "outbound_proxies", "peers",
        "refused", "registers", "registrar", "registration",
    )  # fmt: skip

    def __init__(
        self,
        aor: URI | str,
        credentials: Given | None = None,
        *,
        registrar: URI | str | None = None,
        outbound_proxy: URI | str | tuple[URI | str, ...] | None = None,
        from_: NameAddr | URI | str | None = None,
        display_name: str = "",
        register: bool = True,
        expires: int = EXPIRES,
        contact: NameAddr | URI | str | None = None,
        instance: str | None = None,
        public_contact: bool = False,
        keep_up: float | None = None,
        peers: tuple[str, ...] = (),
        listener: Wanted = None,
        on_change: OnAccountChange | None = None,
    ) -> None:
        check_way(None, listener)
        if on_change is not None:
            arguments.takes(on_change, ("account",), "on_change")
        # a trunk that is known by its address may be a domain
        self.aor = with_shared_host((given_aor if register else given_sip_uri)("aor", aor))
        """The address-of-record."""
        self.registrar = (
            registrar_of(self.aor)
            if registrar is None
            else shared_uri(given_sip_uri("registrar", registrar))
        )
        """The Request-URI of REGISTER and OPTIONS."""
        self.outbound_proxies = proxies_of(outbound_proxy)
        """Where the requests of the account go first, in the order of preference."""
        self.from_ = _from_of(self.aor, from_, display_name)
        """The From of its requests."""
        self.registers = arguments.flag("register", register)
        """False for a trunk that is known by its IP address."""
        self.peers = check_peers(arguments.texts("peers", peers, "addresses"))
        """Addresses and networks from which requests for the account come."""
        self.listener = listener
        """The listener by which its requests leave."""
        self.credentials, self._copies = own_credentials(credentials, self._hosts())
        self._servers: tuple[Address, ...] = ()
        self.is_up = False
        """True while calls can be made: it is registered, and its server answers OPTIONS. An
        account without REGISTER and OPTIONS is up while its stack runs."""
        self.refused = False
        """True if the registrar has refused the account; `error` says why."""
        self.error: SIPError | None = None
        """Why it is not up; None if it is, or if nothing has failed yet."""
        self.ended = False
        """True after close()."""
        self.registration: Registration | None = None
        """Its registration while the stack runs, with GRUU and Service-Route. None without
        REGISTER."""
        self._keep_up = (
            None if keep_up is None else arguments.duration("keep_up", keep_up, above=True)
        )
        self._expires = arguments.whole("expires", expires, 1, MAX_DELTA_SECONDS)
        self._public_contact = arguments.flag("public_contact", public_contact)
        self._contact, self._instance = contact_of(contact), checked_instance(instance)
        if len(self.outbound_proxies) > 1 and instance is None:
            raise InvalidValue(
                "an account with several outbound proxies needs instance=, which names this "
                "device in all flows (RFC 5626 §4.2)"
            )
        self._on_change = on_change
        self._table: AccountTable | None = None
        self._probe_error: SIPError | None = None
        self._probed_at: Target | None = None
        self._is_known = False
        self._changes: Inbox[None] | None = None

    @classmethod
    def of_row(cls: type[Self], row: Row, *, on_change: OnAccountChange | None = None) -> Self:
        """Return the account of a row of a database, or of a table in a configuration file.

            Account.of_row({"aor": "sip:100@carrier.example", "password": "secret"})

        Args:
            row: The arguments of Account() by name. `user`, `password` or `ha1`, `realm` and
                `hosts` make its credentials. None, as NULL of a database, means the default.
            on_change: That of the Account.

        Raises:
            InvalidValue: A key is unknown, or a value cannot be used.
            TypeError: A value has another type.
        """
        return cls(**arguments_of(row), on_change=on_change)

    # ---- for applications

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the account is up, refused or ended. True if it is up.

        Args:
            timeout: Most seconds to wait.

        Raises:
            TransactionStateError: The account is in no stack.
            Cancelled: The request that this greenlet serves was cancelled.
        """
        timeout = arguments.seconds("timeout", timeout)
        if self.ended:
            return False
        if self._changes is None:
            self._changes = Inbox(self._stack.clock)
        self._changes.wait(lambda: self.is_up or self.refused or self.ended, timeout)
        return self.is_up

    def uri(self, user: str) -> URI:
        """Return the URI of a user, or of a number, at the host of this account."""
        return URI(self.aor.scheme, user, self.aor.host, self.aor.port)

    def owns(self, request: Request) -> bool:
        """True for a received request that comes from the server of this account, and is for it.

            @stack.on("INVITE")
            def invite(request, tx):
                if carrier.owns(request):
                    ...  # a call from the carrier

        A request for an unknown user that comes from the server of one account alone is for that
        account, because carriers call all numbers of a trunk. Over UDP an address can be forged
        wherever the network lets it pass.

        A datagram, or a connection, must come from address and port of the server, so a phone on
        its host is not the server. The connection by which the account registers has this port. One
        that the server opens has an arbitrary port, so it counts if a certificate proves the name
        of the server (RFC 5922 §7.3). Any port counts for `peers`.
        """
        return self._table is not None and self._table.owner_of(request) is self

    def _is_from_server(self, request: Request) -> bool:
        """True for a received request that comes from the server of this account, even if it may be
        for another one."""
        return self._table is not None and self._table.is_from(self, request)

    def bridge(
        self,
        request: Request,
        tx: ServerTransaction,
        target: URI | str,
        *,
        policy: BridgePolicy | None = None,
        media: MediaRelay | None = None,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        timers: Timers | None = None,
        credentials: Given | None = None,
        follow_redirects: bool = False,
        **headers: Any,
    ) -> Bridged:
        """Call the target by this account for a caller, and connect both; see bridge().

            @stack.on("INVITE")
            def to_carrier(request, tx):
                carrier.bridge(request, tx, carrier.uri(request.uri.user))

        The callee gets the From of this account, and `target` as To, unless `from_=` and `to=` say
        otherwise. The arguments and exceptions are those of bridge(): `timeout=20` lets the callee
        ring for 20 seconds. What is given here comes first.

        Raises:
            TransactionStateError: The account is in no stack, or as for bridge().
        """
        way = self._way()
        target = given_uri("target", target)
        return bridge(
            request,
            tx,
            target,
            policy=policy,
            media=media,
            next_hop=way.next_hop if next_hop is None else next_hop,
            listener=way.listener if listener is None else listener,
            timeout=timeout,
            timers=timers,
            credentials=way.credentials if credentials is None else credentials,
            follow_redirects=follow_redirects,
            **{"to": NameAddr(target), **way.headers("INVITE", target), **headers},
        )

    def refresh(self) -> None:
        """Register now, in place of the next refresh or try."""
        if self.registration is not None:
            self.registration.refresh()

    def close(self, timeout: float = UNREGISTER) -> None:
        """Unregister, wait for the registrar, and leave the stack. Does nothing after the end.

        Args:
            timeout: Most seconds to wait.
        """
        timeout = arguments.number("timeout", timeout)
        if self._table is not None:
            self._table.remove(self, timeout)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "up" if self.is_up else "down"
        return f"<Account {self.aor} {state}>"

    # ---- for the table of accounts

    def _join(self, table: AccountTable) -> None:
        """Become an account of a stack."""
        self._table = table
        self._servers = ()
        self.ended = self.refused = False
        self.error = None
        for network in self.peers:
            table.bind(self, network)
        for uri in dict.fromkeys((self.aor, self.registrar, *self.outbound_proxies)):
            address = literal(uri.host)
            if address is not None:
                self._learn(address, _port_of(uri))

    def _start(self) -> None:
        """Register, and begin to ask the server if it answers. The stack runs."""
        table, stack = self._table, self._stack
        assert table is not None  # it is in a stack
        if self.registers:
            registration = self.registration = Registration(
                stack,
                self.aor,
                credentials=self.credentials,
                contact=self._contact,
                expires=self._expires,
                registrar=self.registrar,
                instance=self._instance,
                next_hop=self.outbound_proxies[0] if len(self.outbound_proxies) == 1 else None,
                listener=self.listener,
                on_change=None,
                headers={},
                outbound_proxies=self.outbound_proxies if len(self.outbound_proxies) > 1 else (),
                public_contact=self._public_contact,
            )
            registration._observer = self
            registration._start()
        else:
            stack.callbacks.spawn(self._resolve)
        if self._keep_up is not None:
            self._probed_at = self._target
            table.probes.add(self, self._probed_at, self._keep_up)
        self._update()

    def _resolve(self) -> None:
        """Learn all addresses of a server by its name, because each may send calls."""
        for uri in self.outbound_proxies or (self.registrar,):
            try:
                found = self._stack.sender.resolve(uri, self.listener)
            except SIPError as error:
                if self._table is not None:
                    self._log("account not resolved", str(error))
                return
            for candidate in found[:ADDRESSES]:
                self._learn(candidate.host, candidate.port)

    def _stop(self) -> None:
        """The stack has stopped. The account stays in it."""
        self.registration = self._probe_error = None
        self._is_known = False
        self._update()

    def _end(self, timeout: float) -> None:
        """Unregister, and leave the stack."""
        table, registration = self._table, self.registration
        if self.ended or table is None:
            return
        if self._probed_at is not None:
            table.probes.remove(self, self._probed_at)
        try:
            self._update(ended=True)
            if registration is not None:
                registration.close(timeout)
        finally:
            self.registration = None
            self._table = None

    @property
    def _stack(self) -> Registering:
        table = self._table
        if table is None:
            raise TransactionStateError(
                f"{self!r} is in no stack: write stack.accounts.add(account)"
            )
        return table.stack

    @property
    def _target(self) -> Target:
        return Target(self.registrar, self._next_hop, self.listener)

    @property
    def _next_hop(self) -> NextHop | None:
        proxies, registration = self.outbound_proxies, self.registration
        if registration is not None and len(proxies) > 1:
            return registration.next_hop
        return proxies[0] if proxies else None

    @property
    def contact_user(self) -> str | None:
        """The user of the Request-URI of requests for this account."""
        return self.aor.user if self._contact is None else self._contact.uri.user

    def _is_server(self, identity: tuple[str, ...]) -> bool:
        """True if the domains that a certificate has proved name the server of this account."""
        proved = {normal_host(name) for name in identity}
        uris = (self.aor, self.registrar, *self.outbound_proxies)
        return any(normal_host(uri.host) in proved for uri in uris)

    def _hosts(self) -> tuple[str, ...]:
        """Return the hosts that may ask for the credentials."""
        proxies = (proxy.host for proxy in self.outbound_proxies)
        hosts = (self.aor.host, self.registrar.host, *proxies)
        return (*dict.fromkeys(hosts), *self.peers)

    def _way(self) -> Way:
        stack, registration = self._stack, self.registration
        route: tuple[NameAddr, ...] = ()
        contact = None
        if registration is not None:
            route, contact = registration.service_route, registration.own_contact
        return Way(
            stack,
            self.from_,
            self.credentials,
            self._next_hop,
            self.listener,
            route,
            contact,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of the server that are known, without `peers`."""
        return tuple(dict.fromkeys(host for host, _ in self._servers))

    def _learn(self, address: str, port: int) -> None:
        """Note an address of the server: requests for the account come from there, and it may ask
        for the credentials."""
        table = self._table
        if table is None or (address, port) in self._servers:
            return
        if len(self._servers) >= ADDRESSES:
            table.unbind(self, *self._servers[0])
            self._servers = self._servers[1:]
        is_new = all(host != address for host, _ in self._servers)
        self._servers = _shared_servers((*self._servers, (address, port)))
        table.bind(self, address, port)
        if not is_new:
            return
        for credentials in self._copies:
            if not credentials.is_for((address,)):
                credentials.trust(address)

    def _changed(self, registration: Registration) -> None:
        """Take a change of the registration, or of its flow."""
        if registration is self.registration and not self.ended:
            flow = registration._best().flow
            if flow is not None:
                self._learn(*flow.remote)
            self._update()

    def _probed(self, error: SIPError | None, address: Address | None) -> None:
        """The server has answered from this address; or it has not, and why."""
        if self.ended or self._table is None:
            return
        was_down = self._is_silent
        self._probe_error, self._is_known = error, True
        if error is None and address is not None:
            self._learn(*address)
        registration = self.registration
        if was_down and error is None and registration is not None and not registration.refused:
            registration.again()  # it may have lost its bindings
        self._update()

    @property
    def _is_silent(self) -> bool:
        return self._probe_error is not None

    # ---- state

    def _update(self, *, ended: bool = False) -> None:
        """Compute the state, and tell of a change."""
        registration, table = self.registration, self._table
        before = self.is_up, self.refused, self.ended
        self.ended = self.ended or ended
        is_up = table is not None and table.stack.is_running and not self.ended
        self.refused, error = False, self._probe_error
        if self._keep_up is not None and not self.registers:
            is_up = is_up and self._is_known
        if registration is not None:
            self.refused = registration.refused
            is_up = is_up and registration.registered
            error = registration.error or error
        elif self.registers:
            is_up = False
        self.is_up, self.error = is_up and self._probe_error is None, error
        if before == (self.is_up, self.refused, self.ended):
            return
        if self.is_up != before[0]:
            self._note()
        if self._changes is not None:
            self._changes.wake()
        if self._on_change is not None and table is not None:
            table.stack.callbacks.spawn(self._on_change, self)

    def _note(self) -> None:
        if self.is_up:
            self._log("account up", "it is registered" if self.registers else "its server answers")
        elif self.ended or not self._stack.is_running:
            self._log("account down", "it has ended")
        else:
            self._log("account down", str(self.error or "its registration has ended"))

    def _log(self, event: str, reason: str) -> None:
        stack = self._stack
        stack.engine.counters.info(
            event,
            stack.clock.now(),
            f'{event}: aor=%s reason="%s"',
            Plain(str(self.aor)),
            Plain(reason),
            log=log,
        )


@lru_cache(maxsize=64)
def _shared_servers(servers: tuple[Address, ...]) -> tuple[Address, ...]:
    """Return one tuple for all equal ones, because thousands of accounts have the same servers."""
    return servers


def _port_of(uri: URI) -> int:
    """Return the port of a URI with an address (RFC 3263 §4.2)."""
    if uri.port is not None:
        return uri.port
    is_tls = uri.is_secure or (uri.parameters.get("transport") or "").lower() == "tls"
    return 5061 if is_tls else 5060


@lru_cache(maxsize=64)
def _shared_tuple(proxies: tuple[URI, ...]) -> tuple[URI, ...]:
    return proxies


def proxies_of(given: URI | str | tuple[URI | str, ...] | None) -> tuple[URI, ...]:
    """Return the outbound proxies of an account. Raises InvalidValue and ParseError."""
    if given is None:
        return ()
    every = (given,) if isinstance(given, (str, URI)) else tuple(given)
    return _shared_tuple(tuple(given_sip_uri("outbound_proxy", each) for each in every))


def _from_of(aor: URI, given: NameAddr | URI | str | None, display_name: str) -> NameAddr:
    arguments.instance("display_name", display_name, str, 'display_name="Example Ltd"')
    if not _LINE_BREAKS.isdisjoint(display_name):  # else each request of the account would fail
        raise InvalidValue(
            f"display_name must be one line, got {excerpt(display_name)}: write "
            'display_name="Example Ltd"'
        )
    if given is None:
        return NameAddr(aor, display_name)
    if isinstance(given, URI):
        return NameAddr(given, display_name)
    arguments.instance("from_", given, (NameAddr, str), 'from_="sip:+493012345@carrier.example"')
    address = given_address("from_", given)
    address = address._replace(parameters=address.parameters.without("tag"))
    return address._replace(display=display_name) if display_name else address
