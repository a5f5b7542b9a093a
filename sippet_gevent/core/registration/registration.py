"""Registration: keeps one address-of-record registered, RFC 3261 §10.2.

flow.py does the work: a Registration has one FlowRegistration, or one for each outbound proxy (RFC
5626 §4.2).
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
from ...message.uri import URI
from ...message.uri_arguments import given_address, given_aor, given_sip_uri
from ...observe.log_values import Plain
from ...transport.listener_choice import Wanted
from ..auth.credentials import Given, Keyring, keyring
from ..client.targets import NextHop
from ..inbox import Inbox
from .flow import FlowRegistration
from .requests import AccountRequests, Registering, Way

log = logging.getLogger("sippet_gevent.core")

EXPIRES = 3600
"""Seconds that a registration asks for by default."""

UNREGISTER = 4.0
"""Most seconds that close() waits for the registrar."""

_NO_HEADERS: dict[str, Any] = {}

Self = TypeVar("Self", bound="Registration")

OnChange = Callable[["Registration"], object]
"""A function that is told of each change of a registration."""


class Observer(Protocol):
    """What a registration belongs to: an Account."""

    def _changed(self, registration: Registration) -> None:
        """The state of the registration, or its flow, has changed."""


class Registration(AccountRequests):
    """A registration that refreshes itself; `stack.register()` makes it.

        with stack.register("sip:100@carrier.example", credentials=carrier) as registration:
            if not registration.wait(10):
                print("not registered:", registration.error)

    The stack refreshes it in time. After a failure it tries again, with growing pauses (RFC 5626
    §4.5) and not before the Retry-After of the registrar. It replaces a connection that ends, at
    once if that has lasted two minutes. Leaving the `with` block unregisters.

    `registered` is True while the registrar has a binding, until `expires_at` by
    `stack.clock.now()`. `refused` is True if it refuses the account, and `error` is the exception
    of the latest REGISTER that failed. `contact`, `service_route`, `gruu` and `temp_gruu` are what
    the registrar has granted.
    """

    __slots__ = (
        "__weakref__", "_changes", "_flows", "_headers", "_instance", "_observer", "_on_change",
        "_registrar", "_tag", "address", "aor", "contact", "credentials", "ended", "error",
        "expires", "expires_at", "given", "gruu", "keyring", "listener", "own_contact", "public",
        "refused", "registered", "service_route", "stack", "temp_gruu",
    )  # fmt: skip

    def __init__(
        self,
        stack: Registering,
        aor: URI | str,
        *,
        credentials: Given | None,
        contact: NameAddr | URI | str | None,
        expires: int,
        registrar: URI | str | None,
        instance: str | None,
        next_hop: NextHop | None,
        listener: Wanted,
        on_change: OnChange | None,
        headers: dict[str, Any],
        outbound_proxies: tuple[URI | str, ...] = (),
        public_contact: bool = False,
    ) -> None:
        self.aor = with_shared_host(given_aor("aor", aor))
        """The address-of-record."""
        self.credentials = credentials
        """The credentials of the account."""
        self.registered = False
        """True while the registrar has our binding, by one flow at least."""
        self.refused = False
        """True if the registrar has refused the account; `error` says why. The stack tries again
        after 15 to 30 minutes."""
        self.error: SIPError | None = None
        """Why the latest REGISTER has failed; None after a success."""
        self.expires_at: float | None = None
        """When the binding ends, by `stack.clock.now()`; None if there is none."""
        self.contact: NameAddr | None = None
        """Our Contact, as the registrar lists it."""
        self.service_route: tuple[NameAddr, ...] = ()
        """The Route that the registrar wants for requests of this account (RFC 3608)."""
        self.gruu: URI | None = None
        """The public GRUU of this user agent, if the registrar assigns one (RFC 5627)."""
        self.temp_gruu: URI | None = None
        """The latest temporary GRUU, which does not show the address-of-record (RFC 5627)."""
        self.ended = False
        """True after close(), and after the stack has stopped."""
        self.own_contact: URI | None = None
        """The Contact of our requests while it is registered: the GRUU, or the URI that the latest
        REGISTER had."""
        self.address: str | None = None
        """The address of the registrar, or of the proxy before it, that accepted the latest
        REGISTER."""
        self._observer: Observer | None = None
        self.stack = stack
        self.keyring: Keyring | None = keyring(credentials)
        self.given = contact_of(contact)
        self.public = arguments.flag("public_contact", public_contact)
        self.listener = listener
        self.expires = arguments.whole("expires", expires, 1, MAX_DELTA_SECONDS)
        """Seconds that REGISTERs ask for."""
        self._instance = checked_instance(instance)
        self._on_change = on_change
        self._registrar = (
            registrar_of(self.aor) if registrar is None else given_sip_uri("registrar", registrar)
        )
        self._tag = stack.identifiers.tag()
        self._headers = headers or _NO_HEADERS
        self._changes: Inbox[None] | None = None
        self._flows = self._make_flows(next_hop, outbound_proxies)
        self.template(self._flows[0])  # a wrong header field raises here

    def _make_flows(
        self, next_hop: NextHop | None, proxies: tuple[URI | str, ...]
    ) -> tuple[FlowRegistration, ...]:
        """Return the flows: one, or one for each outbound proxy. Raises InvalidValue, TypeError."""
        reg_id = 0 if self._instance is None else 1
        if not proxies:
            key = next_hop or _turn_key(self._registrar.host, self._registrar.port)
            return (FlowRegistration(self, next_hop, reg_id, key),)
        if isinstance(proxies, (str, URI)):
            raise TypeError(
                f"outbound_proxies must be a tuple of URIs, got {excerpt(proxies)}: write "
                'outbound_proxies=("sip:a.example.com", "sip:b.example.com")'
            )
        if not reg_id or next_hop is not None:
            raise InvalidValue(
                "outbound_proxies needs instance=, which names this device in all flows, and "
                "no next_hop= (RFC 5626 §4.2)"
            )
        uris = [given_sip_uri("outbound_proxies", proxy) for proxy in proxies]
        return tuple(
            FlowRegistration(self, uri, number, uri) for number, uri in enumerate(uris, reg_id)
        )

    def _start(self) -> None:
        if not self.stack.is_running:
            raise TransactionStateError("the stack is not running: start it before register()")
        for flow in self._flows:
            flow.start()

    # ---- for applications

    @property
    def flows(self) -> int:
        """Number of flows by which it is registered; at most 1 without `outbound_proxies`."""
        return sum(flow.is_registered for flow in self._flows)

    @property
    def next_hop(self) -> NextHop | None:
        """Where requests of the account go: an outbound proxy whose flow is registered, if there
        are some."""
        return self._best().next_hop

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is registered, refused or ended. True if it is registered.

        Args:
            timeout: Most seconds to wait.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
        """
        self._wait_until(lambda: False, arguments.seconds("timeout", timeout))
        return self.registered

    def _wait_until(self, is_enough: Callable[[], bool], timeout: float | None) -> None:
        """Wait until it is registered, refused or ended, or something else is enough."""
        if self._changes is None:
            self._changes = Inbox(self.stack.clock)
        self._changes.wait(
            lambda: self.registered or self.refused or self.ended or is_enough(), timeout
        )

    def refresh(self) -> None:
        """Register now, in place of the next refresh or try."""
        for flow in self._flows:
            flow.refresh()

    def close(self, timeout: float = UNREGISTER) -> None:
        """Unregister, and wait for the registrar. Does nothing after the end.

        Args:
            timeout: Most seconds to wait.
        """
        timeout = arguments.number("timeout", timeout)
        if self.ended:
            return
        now = self.stack.clock.now
        deadline = now() + timeout
        self._end()
        try:
            for flow in self._flows:
                flow.close(max(deadline - now(), 0.0))
        finally:
            for flow in self._flows:
                flow.abandon()

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
        state = "ended" if self.ended else "registered" if self.registered else "not registered"
        return f"<Registration {self.aor} {state}>"

    def _way(self) -> Way:
        return Way(
            self.stack,
            NameAddr(self.aor),
            self.credentials,
            self.next_hop,
            self.listener,
            self.service_route,
            self.own_contact,
        )

    # ---- for its flows

    def template(self, flow: FlowRegistration) -> Request:
        """Return a REGISTER without its Contact."""
        request = Request(
            "REGISTER",
            self._registrar,
            **{
                "from_": NameAddr(self.aor).with_params(tag=self._tag),
                "to": NameAddr(self.aor),
                "call_id": flow.call_id,
                **self._headers,
            },
        )
        if "Supported" not in request.headers.fields:
            tags = {"path", "gruu"} if self._instance is not None else {"path"}
            if flow.reg_id:
                tags.add("outbound")
            request.supported = tuple(sorted(tags | self.stack.supported))
        return request

    def complete(self, contact: NameAddr, reg_id: int) -> NameAddr:
        """Return a Contact with the parameters of SIP Outbound, if it is used."""
        return contact if self._instance is None else with_instance(contact, self._instance, reg_id)

    def is_alive_beside(self, flow: FlowRegistration) -> bool:
        """True when another flow is registered."""
        return any(each.is_registered and each is not flow for each in self._flows)

    def again(self) -> None:
        """Register again in turn, because the registrar was down and may have lost the binding."""
        for flow in self._flows:
            flow.again()

    def stopped(self) -> None:
        """End with the stack."""
        if not self.ended:
            self._end()

    def _end(self) -> None:
        before = self.registered, self.refused, self.ended
        self.ended = True
        self._set(before, registered=False, refused=False)

    def _best(self) -> FlowRegistration:
        """Return the flow that counts: the first one that is registered."""
        return next((flow for flow in self._flows if flow.is_registered), self._flows[0])

    def update(self) -> None:
        """Compute the state from that of the flows, and tell of a change."""
        if self.ended:
            return
        before = self.registered, self.refused, self.ended
        best = self._best()
        found = best.granted
        self.error, self.address = best.error, best.address
        self.expires_at = best.expires_at
        if best.is_registered:
            self.contact = found.contact
            self.gruu, self.temp_gruu = found.gruu, found.temp_gruu
            self.own_contact = found.gruu or best.uri
        self.service_route = found.service_route
        refused = all(flow.refused for flow in self._flows)
        self._set(before, registered=best.is_registered, refused=refused)

    def _set(self, before: tuple[bool, bool, bool], *, registered: bool, refused: bool) -> None:
        self.registered, self.refused = registered, refused
        if not registered:
            self.expires_at = self.own_contact = None
            self.service_route = ()  # it ends with the binding (RFC 3608 §6.1)
        if self._changes is not None:
            self._changes.wake()
        if self._observer is not None:
            self._observer._changed(self)
        if self._on_change is not None and before != (registered, refused, self.ended):
            self.stack.callbacks.spawn(self._on_change, self)

    def note(self, event: str, flow: FlowRegistration, reason: str, seconds: float | None) -> None:
        """Write a log line about a flow."""
        later = "" if seconds is None else f" seconds={seconds:.0f}"
        number = f" reg_id={flow.reg_id}" if flow.reg_id else ""
        self.stack.engine.counters.info(
            event,
            self.stack.clock.now(),
            f'{event}: aor=%s{number}{later} call_id=%s reason="%s"',
            Plain(str(self.aor)),
            Plain(flow.call_id),
            Plain(reason),
            log=log,
        )


def registrar_of(aor: URI) -> URI:
    """Return the host of an address-of-record, one URI for all of its accounts (§10.2)."""
    return _shared(URI(aor.scheme, None, aor.host, aor.port))


@lru_cache(maxsize=64)
def _shared(uri: URI) -> URI:
    return uri


@lru_cache(maxsize=64)
def _turn_key(host: str, port: int | None) -> tuple[str, int | None]:
    return host, port


def with_shared_host(aor: URI) -> URI:
    """Return an address-of-record that has the host of registrar_of(), not a copy of it."""
    if not aor.is_sip:
        return aor
    registrar = registrar_of(aor)
    return aor._replace(scheme=registrar.scheme, host=registrar.host)


def shared_uri(uri: URI) -> URI:
    """Return one URI for all that are equal, because thousands of accounts have the same."""
    return _shared(uri)


def contact_of(value: NameAddr | URI | str | None) -> NameAddr | None:
    """Return the Contact that a program gives, without expires. Raises InvalidValue."""
    if value is None:
        return None
    if isinstance(value, URI):
        return NameAddr(value)
    contact = given_address("contact", value)
    # it would overrule the Expires of each REGISTER, the last one's 0, too (§10.2.1.1)
    return contact._replace(parameters=contact.parameters.without("expires"))


def checked_instance(instance: str | None) -> str | None:
    """Return the URN of a device. Raises InvalidValue if a Contact cannot have it."""
    if instance is not None:
        with_instance(NameAddr(URI("sip", None, "example.com")), instance, 1)
    return instance


def with_instance(contact: NameAddr, instance: str, reg_id: int) -> NameAddr:
    """Return a Contact with +sip.instance, and the reg-id of a flow if it has one (RFC 5626
    §4.2)."""
    added: dict[str, str | int] = {"+sip.instance": f"<{instance}>"}
    if reg_id:
        added["reg-id"] = reg_id
    return contact._replace(parameters=contact.parameters.replace(added))
