"""Registration: keeps one address-of-record registered, RFC 3261 §10.2.

It is longer than other files, because its public attributes and methods are documented here.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

from gevent.event import Event

from ... import arguments
from ...errors import (
    InvalidValue,
    ParseError,
    Reject,
    SIPError,
    TransactionStateError,
    Unauthorized,
    excerpt,
)
from ...message.address import NameAddr
from ...message.fields.rfc3261 import CSeq
from ...message.message import Request, Response
from ...message.uri import URI
from ...observe.counters import Plain
from ...runtime.watch import Watch
from ...transport.base import Flow
from ...transport.listener_choice import Wanted
from ..auth.credentials import Given, Keyring, keyring
from ..client.retry import Retry
from ..client.targets import NextHop
from ..client.transaction import ClientTransaction
from ..element import Element
from ..inbox import Inbox
from .binding import granted, own_uri
from .requests import AccountRequests, Registering, Way
from .schedule import LONGEST_WANTED, pause, refresh_after

log = logging.getLogger("sippet_gevent.core")

EXPIRES = 3600
"""Seconds that a registration asks for by default."""

UNREGISTER = 4.0
"""Most seconds that close() waits for the registrar."""

TOO_BRIEF = 2
"""Most consecutive 423s after each of which the REGISTER is repeated at once."""

STEADY = 120.0
"""Least seconds that a flow lasts if its end does not count as a failure."""

_AGAIN_LATER = frozenset((408, 480, 500, 502, 503, 504, 600))
"""Refusals that say nothing about the account."""

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
    """

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
    ) -> None:
        self.aor = sip_uri("aor", aor)
        """The address-of-record."""
        self.credentials = credentials
        """The credentials of the account."""
        self.registered = False
        """True while the registrar has our binding."""
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
        self._stack = stack
        self._keyring: Keyring | None = keyring(credentials)
        self._given = contact_of(contact)
        self._instance = instance
        self._next_hop, self._listener = next_hop, listener
        self._on_change = on_change
        self._expires = arguments.whole("expires", expires, 1)
        registrar = (
            URI(self.aor.scheme, None, self.aor.host, self.aor.port)
            if registrar is None
            else sip_uri("registrar", registrar)
        )
        address = NameAddr(self.aor)
        own = address.with_params(tag=stack.identifiers.tag())
        # one Call-ID for all of them (§10.2.4); a wrong header field raises here
        self._request = Request(
            "REGISTER",
            registrar,
            **{"from_": own, "to": address, "call_id": stack.identifiers.call_id(), **headers},
        )
        if "Supported" not in self._request.headers.fields:
            tags = {"path", "gruu", "outbound"} if instance else {"path"}
            self._request.supported = tuple(sorted(tags | stack.supported))
        checked_instance(instance)
        self._cseq = 0
        self._failures = self._brief = 0
        self._flow: Flow | None = None
        self._since = 0.0  # when the flow was registered first
        self._bound = False  # the registrar may have a binding of ours
        self._tx: _Register | None = None
        self._idle = Event()
        self._idle.set()
        self._due = math.inf
        self._is_paced = True
        self._watch: Watch | None = None
        self._changes: Inbox[None] = Inbox(stack.clock)

    def _start(self) -> None:
        if not self._stack.is_running:
            raise TransactionStateError("the stack is not running: start it before register()")
        self._stack.registrations.add(self)
        self._plan(self._stack.clock.now(), paced=True)

    # ---- for applications

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is registered, refused or ended. True if it is registered.

        Args:
            timeout: Most seconds to wait.

        Raises:
            Cancelled: The request that this greenlet serves was cancelled.
        """
        self._changes.wait(
            lambda: self.registered or self.refused or self.ended,
            arguments.seconds("timeout", timeout),
        )
        return self.registered

    def refresh(self) -> None:
        """Register now, in place of the next refresh or try."""
        if not self.ended and self._idle.is_set():
            self._plan(self._stack.clock.now(), paced=False)

    def _again(self) -> None:
        """Register again in turn, because the registrar was down and may have lost the binding."""
        now = self._stack.clock.now()
        if not self.ended and self._idle.is_set() and self._due > now:
            self._plan(now, paced=True)

    def _way(self) -> Way:
        return Way(
            self._stack,
            NameAddr(self.aor),
            self.credentials,
            self._next_hop,
            self._listener,
            self.service_route,
            self.own_contact,
        )

    def close(self, timeout: float = UNREGISTER) -> None:
        """Unregister, and wait for the registrar. Does nothing after the end.

        Args:
            timeout: Most seconds to wait.
        """
        timeout = arguments.number("timeout", timeout)
        if self.ended:
            return
        stack, now = self._stack, self._stack.clock.now
        deadline = now() + timeout
        self._end()
        try:
            # no REGISTER while another one is pending (§10.2)
            if not self._idle.is_set():
                stack.clock.within(timeout, self._idle.wait)
            if self._bound and self._idle.is_set() and stack.is_running:
                self._idle.clear()
                stack.clock.within(max(deadline - now(), 0.0), self._send_last)
        finally:
            self._forget()
            stack.registrations.remove(self)

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

    # ---- the end

    def _send_last(self) -> None:
        self._send(0)
        self._idle.wait()

    def _stop(self) -> None:
        """End with the stack: unregister by the flow that exists, and wait for nothing."""
        self._end()
        if self._bound and self._idle.is_set() and self._stack.names.is_usable(self._flow):
            self._next_hop = self._flow
            self._idle.clear()
            self._send(0)
        self._forget()

    def _end(self) -> None:
        self.ended = True
        self._due = math.inf
        self._plan_watch()
        self._set(registered=False, error=self.error)

    def _forget(self) -> None:
        """Let go of the pending REGISTER."""
        tx, self._tx = self._tx, None
        if tx is not None and tx.is_pending:
            tx._abandon()
        self._idle.set()

    # ---- deadlines

    def _plan(self, due: float, *, paced: bool) -> None:
        self._due, self._is_paced = due, paced
        self._plan_watch()

    def _plan_watch(self) -> None:
        """Have expire() called at the next refresh or try, or when the binding ends."""
        due = math.inf
        if not self.ended:
            due = min(self._due, self.expires_at or math.inf)
        watch = self._watch
        if watch is not None:
            if watch.due <= due < math.inf:
                return  # it comes first, and plans the next one
            watch.owner = self._watch = None
            self._stack.deadlines.remove(watch.due, watch)  # it may be an hour off
        if due < math.inf:
            self._watch = Watch(self, due)
            self._stack.deadlines.add(due, self._watch)

    def expire(self, now: float) -> None:
        """Register if it is time, and note the end of a binding."""
        if self.ended:
            return
        if self.expires_at is not None and now >= self.expires_at:
            self._note("registration expired", "no refresh was accepted")
            self._set(registered=False, error=self.error)
        if now >= self._due and self._idle.is_set():
            turn = self._stack.registrations.slot(now) if self._is_paced else now
            self._is_paced = False
            self._due = turn
            if turn <= now:
                self._due = math.inf
                self._idle.clear()
                # it may have a name to resolve, and this is the hub
                self._stack.callbacks.spawn(self._send, self._expires)
        self._plan_watch()

    # ---- REGISTER

    def _send(self, expires: int) -> None:
        """Send a REGISTER, whose end is told to _answered()."""
        if not self._stack.is_running or (self.ended and expires):
            self._idle.set()
            return
        request = self._request.copy()
        self._cseq += 1
        request.cseq = CSeq(self._cseq, "REGISTER")
        request.expires = expires
        if self._given is not None:
            request.contact = self._complete(self._given)
        tx = self._tx = _Register(self, self._stack, request)
        try:
            self._stack.sender.send(
                request,
                self._next_hop,
                user=tx,
                listener=self._listener,
                record_route=self if self._given is None else None,
                retry=Retry(self._stack.keyring if self._keyring is None else self._keyring),
            )
            self._bound = True
        except SIPError as error:
            self._answered(tx, error)
        except Exception as error:  # middleware may raise anything
            self._answered(tx, error)
            counters, now = self._stack.engine.counters, self._stack.clock.now()
            counters.core_errors += 1
            counters.error(
                "registration not sent",
                now,
                'registration not sent: call_id=%s reason="%s"',
                Plain(request.call_id),
                error,
                exc_info=error,
                log=log,
            )
        except BaseException:
            self._forget()
            raise

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Write the Contact for the flow by which a REGISTER leaves."""
        contact = self._stack.names.contact(flow, secure=self.aor.is_secure)
        user = self.aor.user
        copy.contact = self._complete(contact._replace(uri=contact.uri._replace(user=user)))

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Write the Contact for another flow."""
        self.write(copy, flow)

    def _complete(self, contact: NameAddr) -> NameAddr:
        return contact if self._instance is None else _with_instance(contact, self._instance)

    def _answered(self, tx: _Register, event: Response | Exception) -> None:
        """Take the end of a REGISTER."""
        if tx is not self._tx:
            return
        self._tx = None
        self._cseq = max(self._cseq, tx.request.cseq.number)
        self._idle.set()
        if self.ended:
            return
        if isinstance(event, Response) and event.is_success:
            self._accepted(tx, event)
        elif isinstance(event, Response):
            self._refused(tx, event)
        elif isinstance(event, SIPError):
            self._failed(event)
        else:
            self._failed(TransactionStateError(str(event) or repr(event)))

    def _accepted(self, tx: _Register, response: Response) -> None:
        found, now = granted(tx.request, response), self._stack.clock.now()
        if not found.seconds:
            error = InvalidValue("the registrar does not list our Contact in its 200")
            self._failed(error, lost=True)
            return
        flow = tx.transaction.flow
        if flow is not self._flow:
            self._flow, self._since = flow, now
        flow.keep(found.seconds)  # requests for us come by it, and its end is reported
        self._stack.registrations.bind(self, flow)
        self._failures = self._brief = 0
        self.contact, self.service_route = found.contact, found.service_route
        self.gruu, self.temp_gruu = found.gruu, found.temp_gruu
        self.own_contact = found.gruu or own_uri(tx.request)
        self.address = flow.remote[0]
        is_new = not self.registered
        self.expires_at = now + found.seconds
        self._plan(now + refresh_after(found.seconds, random.random()), paced=False)
        if is_new:
            self._note("registered", f"{response.status} {response.reason}", found.seconds)
        self._set(registered=True)

    def _refused(self, tx: _Register, response: Response) -> None:
        status = response.status
        if status == 423 and self._learn(response):
            self._plan(self._stack.clock.now(), paced=False)
            return
        error: Reject
        problem = "" if tx.retry is None else tx.retry.problem
        if problem:
            error = Unauthorized(status, response.reason, problem=problem, response=response)
        else:
            error = Reject(status, response.reason, response=response)
        try:
            wanted = response.retry_after
        except ParseError:
            wanted = None
        retry_after = None if wanted is None else float(wanted.seconds)
        self._failed(error, retry_after, refused=status not in _AGAIN_LATER)

    def _learn(self, response: Response) -> bool:
        """Take the Min-Expires of a 423 (§10.2.8). False if a new REGISTER would not help."""
        try:
            least = response.min_expires
        except ParseError:
            return False
        self._brief += 1
        if least is None or not self._expires < least <= LONGEST_WANTED or self._brief > TOO_BRIEF:
            return False
        self._expires = least
        return True

    def _failed(
        self,
        error: SIPError,
        retry_after: float | None = None,
        *,
        refused: bool = False,
        lost: bool = False,
    ) -> None:
        """Plan the next try (RFC 5626 §4.5). `lost` is true if the registrar has no binding."""
        self._failures += 1
        self._brief = 0
        # an account that is refused is not asked often, because registrars ban guessers
        failures = 16 if refused else self._failures
        seconds = pause(failures, random.random(), retry_after)
        self.error = error
        self._plan(self._stack.clock.now() + seconds, paced=True)
        self._note("registration failed", str(error), seconds)
        if refused:
            self._set(registered=False, refused=True, error=error)
        else:
            self._set(registered=self.registered and not lost, error=error)

    def _flow_ended(self) -> None:
        """Register by a new connection: at once if the old one was steady (RFC 5626 §4.5)."""
        now = self._stack.clock.now()
        if self.ended or not self._idle.is_set():
            return
        self._flow = None
        due = now
        if now - self._since < STEADY:
            self._failures += 1
            due += pause(self._failures, random.random())
        self._note("registration flow ended", "the connection has ended", due - now)
        self._plan(due, paced=True)

    # ---- state

    def _set(
        self, *, registered: bool, refused: bool = False, error: SIPError | None = None
    ) -> None:
        before = self.registered, self.refused, self.ended
        self.registered, self.refused = registered, refused
        self.error = error
        if not registered:
            self.expires_at = self.own_contact = None
            self.service_route = ()  # it ends with the binding (RFC 3608 §6.1)
            self._plan_watch()
        self._changes.wake()
        if self._observer is not None:
            self._observer._changed(self)
        if self._on_change is not None and before != (registered, refused, False):
            self._stack.callbacks.spawn(self._on_change, self)

    def _note(self, event: str, reason: str, seconds: float | None = None) -> None:
        later = "" if seconds is None else f" seconds={seconds:.0f}"
        self._stack.engine.counters.info(
            event,
            self._stack.clock.now(),
            f'{event}: aor=%s{later} call_id=%s reason="%s"',
            Plain(str(self.aor)),
            Plain(self._request.call_id),
            Plain(reason),
            log=log,
        )


class _Register(ClientTransaction):
    """One REGISTER and its repetitions. Its end is told to the registration, so no greenlet
    waits."""

    __slots__ = ("_registration",)

    def __init__(self, registration: Registration, stack: Element, request: Request) -> None:
        super().__init__(stack, request)
        self._registration = registration

    @property
    def _is_awaited(self) -> bool:
        return True

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Exception) or event.status >= 200:
            self._registration._answered(self, event)


def sip_uri(name: str, value: URI | str) -> URI:
    """Return a sip or sips URI. Raises InvalidValue and ParseError."""
    uri = URI.parse(value) if isinstance(value, str) else value
    if not isinstance(uri, URI) or not uri.is_sip:
        raise InvalidValue(
            f"{name} must be a sip or sips URI, got {excerpt(value)}: write sip:100@example.com"
        )
    return uri


def contact_of(value: NameAddr | URI | str | None) -> NameAddr | None:
    """Return the Contact that a program gives, without expires. Raises ParseError."""
    if value is None:
        return None
    if isinstance(value, URI):
        return NameAddr(value)
    contact = NameAddr.parse(value) if isinstance(value, str) else value
    # it would overrule the Expires of each REGISTER, the last one's 0, too (§10.2.1.1)
    return contact._replace(parameters=contact.parameters.without("expires"))


def checked_instance(instance: str | None) -> str | None:
    """Return the URN of a device. Raises InvalidValue if a Contact cannot have it."""
    if instance is not None:
        _with_instance(NameAddr(URI("sip", None, "example.com")), instance)
    return instance


def _with_instance(contact: NameAddr, instance: str) -> NameAddr:
    """Return a Contact with +sip.instance and the reg-id of its only flow (RFC 5626 §4.2)."""
    parameters = contact.parameters.replace({"+sip.instance": f"<{instance}>", "reg-id": 1})
    return contact._replace(parameters=parameters)
