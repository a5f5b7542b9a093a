"""Registrar: a core that serves REGISTER, RFC 3261 §10.3, RFC 3327 and RFC 5626."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

from ...arguments import duration, flag, texts, whole
from ...errors import InvalidValue, ParseError, Reject, SIPError, excerpt
from ...message.address import STAR, NameAddr
from ...message.fields.rfc3261 import MAX_DELTA_SECONDS
from ...message.mandatory import mandatory_of
from ...message.message import Request, Response
from ...message.scan import USUAL, Line
from ...message.uri import SCHEME_PORTS, URI
from ...stores.bindings import (
    CONTACTS,
    Binding,
    Bindings,
    Policy,
    check_order,
    compact,
    entry_bytes,
    flow_registered,
    reg_id_of,
    registered,
)
from ...stores.gruu import TAG
from ...stores.location import Location
from ...transport.base import Flow
from ..element import Element
from ..routing.outbound import (
    OUTBOUND,
    WEB,
    Reach,
    first_hop_supports_outbound,
    reach_of,
    supports_outbound,
)
from ..routing.sips import check_registration
from ..server import ServerTransaction
from .answer import Answer
from .contacts import route, supports_gruu, without_gruus
from .log import RegistrationLog, log, log_refusal
from .probe import Probe

DEFAULT_EXPIRES = 3600
"""Seconds of a binding whose REGISTER asks for no time. The registrar may choose (§10.2.1.1)."""

MIN_EXPIRES = 60
"""Seconds of the shortest binding. A REGISTER for less gets 423 (§10.3 step 7). Phones behind NAT
ask for a minute."""

MAX_EXPIRES = 86400
"""Seconds of the longest binding. A longer time is shortened to this."""

MALFORMED_EXPIRES = 3600
"""Seconds that replace an expiration that cannot be read (§10.2, §20.10)."""

EXTENSIONS = frozenset((OUTBOUND, "path", TAG))
"""Option tags that a REGISTER may require of a Registrar, besides what its stack supports (RFC 5626
§4.2.1, RFC 3327 §5.3, RFC 5627 §5.1)."""

BINDING_BYTES = 4096
"""Most bytes of one binding in memory. A VoLTE phone with all its feature tags and two Path values
takes 3,500."""

ALWAYS_FITS = 256
"""A binding without Path is not over BINDING_BYTES if its Contact and Call-ID have at most so many
characters together: eight bytes for each, and 1,700 for the objects."""

ADDRESS_BYTES = 16 * 1024
"""Most bytes of an address-of-record in memory. It has room for four of the largest bindings, or
for CONTACTS usual ones."""

SMALL = 3
"""So many bindings, of BINDING_BYTES each, always have room in an address-of-record."""


def serves(stack: Element, uri: URI) -> bool:
    """True when a URI is in a domain of the stack, or when the stack has no domains."""
    return uri.scheme in SCHEME_PORTS and (not stack.domains or stack.is_responsible_for(uri))


class Registrar:
    """A core that serves REGISTER with a Location: `stack.on("REGISTER")(Registrar(location))`.

    Args:
        location: The bindings, in memory or in a store of yours.
        default_expires: Seconds of a binding whose REGISTER asks for no time.
        min_expires: Seconds of the shortest binding. A REGISTER for less gets 423.
        max_expires: Seconds of the longest binding; more is shortened to this.
        strict_outbound: A phone may use SIP Outbound behind a first hop that does not support it.
            By default its REGISTER gets 439 (RFC 5626 §6). False registers it without SIP Outbound.
            JsSIP always uses SIP Outbound, and gives up at 439.
        max_contacts: Most bindings of an address-of-record. A REGISTER for more gets 403.
        makes_room: Remove the bindings that end first instead, so that a phone which has got a new
            address is not refused.
        one_per_instance: A phone that registers another Contact with the same +sip.instance
            replaces its former one, which it has lost with its address or by a restart.
        service_route: URIs of the proxies that requests of the phones should pass, in the
            Service-Route of a 200 (RFC 3608): `("sip:proxy.example.com;lr",)`.
        probe: Seconds between two OPTIONS by which a phone is asked if it is still there. After two
            without an answer, its binding is removed. None never asks.
        gruu: Assign GRUUs to phones that support them (RFC 5627). A proxy that looks requests up in
            the Location follows them.

    Raises:
        InvalidValue: The times contradict each other, or a URI of the Service-Route has no `lr`.
        TypeError: The location is no Location, or an argument has the wrong type.
    """

    def __init__(
        self,
        location: Location,
        *,
        default_expires: int = DEFAULT_EXPIRES,
        min_expires: int = MIN_EXPIRES,
        max_expires: int = MAX_EXPIRES,
        strict_outbound: bool = True,
        max_contacts: int = CONTACTS,
        makes_room: bool = False,
        one_per_instance: bool = False,
        service_route: Sequence[str] = (),
        gruu: bool = True,
        probe: float | None = None,
    ) -> None:
        if not isinstance(location, Location):
            is_store = hasattr(location, "lookup") and not isinstance(location, type)
            write = "Location(store)" if is_store else "Location()"
            raise TypeError(
                f"a Registrar keeps bindings in a Location, got {excerpt(location)}: "
                f"write Registrar({write})"
            )
        self.location = location
        self.default_expires = whole("default_expires", default_expires, 1, MAX_DELTA_SECONDS)
        self.min_expires = whole("min_expires", min_expires, 0, MAX_DELTA_SECONDS)
        self.max_expires = whole("max_expires", max_expires, 1, MAX_DELTA_SECONDS)
        if max_expires < max(min_expires, default_expires):
            raise InvalidValue(
                f"max_expires must be {max(min_expires, default_expires)} or more, as min_expires "
                f"and default_expires are, got {max_expires}: give all three"
            )
        flag("strict_outbound", strict_outbound)
        self.strict_outbound = strict_outbound
        flag("makes_room", makes_room)
        flag("one_per_instance", one_per_instance)
        self.policy = Policy(whole("max_contacts", max_contacts, 1), makes_room, one_per_instance)
        self.service_route = tuple(map(route, texts("service_route", service_route, "URIs")))
        self._lines: list[Line] = [
            ("Service-Route", USUAL, str(value)) for value in self.service_route
        ]
        flag("gruu", gruu)
        self.gruu = gruu
        self._probe = (
            None if probe is None else Probe(location, duration("probe", probe, above=True))
        )

    def attach(self, stack: Element) -> None:
        """Give the Location the clock and domains of the stack that this core belongs to.

        A stack calls it. So requests find bindings that an earlier process has stored.
        """
        if self.location.stack is None:
            self.location.stack = stack

    def __call__(self, request: Request, tx: ServerTransaction) -> Response:
        """Serve a REGISTER and return its 200. Raises Reject and ParseError, with a log line."""
        if request.method != "REGISTER":
            raise Reject(405, allow=("REGISTER",))
        try:
            return self._register(request, tx)
        except SIPError as error:
            log_refusal(tx.stack, request, error)
            raise

    def _register(self, request: Request, tx: ServerTransaction) -> Response:
        stack, location = tx.stack, self.location
        tx.check_required(EXTENSIONS)  # before anything is stored (§10.3 step 2)
        user, contacts = request.to.uri, request.contact
        if not user.has_valid_host:
            raise Reject(400, "To: host is neither an address nor a name")
        if not serves(stack, user):
            raise Reject(404)  # §10.3 step 5
        if location.stack is None or not location.stack.is_running:
            location.stack = stack
        if self._probe is not None:
            self._probe.begin(stack)
        aor, now = location.aor(user), location.now()
        has_outbound = first_hop_supports_outbound(request)
        # without a call of a function for each phone that names no flow, or no sips URI
        given = str(request.headers.fields.get("Contact", "")).lower()
        lines = self._lines
        if "reg-id" in given:
            lines = self._outbound(request, contacts, has_outbound) + lines
        gruus = None
        if self.gruu and supports_gruu(request.headers.fields):
            gruus = stack.names.gruus
        answer = Answer(request, now, user, aor, gruus, lines)
        if not contacts:
            return answer.listing(location.get(aor))
        if "sips" in given:
            check_registration(request)
        change = _Change(request, location, aor, now, answer, has_outbound, self.policy)
        if STAR in contacts:
            self._check_star(request)
        else:
            change.wanted = self._wanted(request, contacts, stack, now, has_outbound)
        by = change.wanted[0].flow if change.wanted else None
        events = self._log()
        if events is None:
            location.update(aor, change, by=by)
        else:
            events.update(request, aor, change, by)
        change.keep_flow()
        return change.response

    def _log(self) -> RegistrationLog | None:
        """Return the log of the Location, None if nobody reads such lines."""
        location = self.location
        events = location.registration_log
        if log.isEnabledFor(logging.INFO):
            if events is None:
                events = location.registration_log = RegistrationLog(location)
            return events if isinstance(events, RegistrationLog) else None
        if events is not None:
            events.close()
            location.registration_log = None
        return None

    def _outbound(
        self, request: Request, given: Sequence[NameAddr | str], has_outbound: bool
    ) -> list[Line]:
        """Return the header lines of a 200 that concern flows: Require and Flow-Timer (RFC 5626
        §6).

        Flow-Timer is for a phone whose first hop we are. Its seconds are those that `keep` grants
        (RFC 6223 §5). A browser gets none, because it cannot ping and is pinged.

        Raises:
            Reject: 439 when the phone requires flows and its first hop does not support them.
            ParseError: Several Contacts with a reg-id.
        """
        for contact in given:
            if isinstance(contact, NameAddr) and reg_id_of(contact):
                break
        else:
            return []
        contacts = [contact for contact in given if isinstance(contact, NameAddr)]
        if not has_outbound:
            if supports_outbound(request) and self.strict_outbound:
                raise Reject(439)
            return []
        if not any(flow_registered(contact) for contact in contacts):
            return []
        expires = request.headers.get("Expires")
        lasting = [
            contact for contact in contacts if contact.parameters.get("expires", expires) != "0"
        ]
        if len(lasting) > 1 and any(map(flow_registered, lasting)):
            raise ParseError(
                "several with a reg-id, which is for one alone", header="Contact", source=request
            )
        if not supports_outbound(request):
            return []
        transport = cast(Flow, request.flow).transport
        seconds = 0 if request.path or transport.name in WEB else transport.keep_alive_seconds
        lines: list[Line] = [("Require", USUAL, OUTBOUND)]
        return [*lines, ("Flow-Timer", USUAL, str(seconds))] if seconds else lines

    def _check_star(self, request: Request) -> None:
        """Check a REGISTER that removes all bindings (§10.3 step 6). Raises ParseError."""
        if len(request.contact) > 1 or self._expires(request) != 0:
            raise ParseError(
                "* must be the only Contact, with Expires: 0", header="Contact", source=request
            )

    def _wanted(
        self,
        request: Request,
        contacts: Sequence[NameAddr | str],
        stack: Element,
        now: float,
        has_outbound: bool,
    ) -> list[Binding]:
        """Return a binding for each Contact of a REGISTER; one that ends `now` is to be removed
        (§10.3 step 7).

        All or nothing: raises Reject or ParseError if any Contact is invalid.
        """
        read = mandatory_of(request)
        call_id = request.headers["Call-ID"]
        path = tuple(map(compact, request.path)) if "Path" in request.headers.fields else ()
        # from the user agent, without a proxy on the way (RFC 5626 §6)
        is_direct = not path and has_outbound
        came_by = cast(Flow, request.flow)
        listener = stack.names.stored_listener(came_by)
        wanted: list[Binding] = []
        # without a call of a function for each phone that names no instance
        given = str(request.headers.fields["Contact"])
        has_instance = "+sip.instance" in given.lower()
        may_be_large = bool(path) or len(given) + len(call_id) > ALWAYS_FITS
        for contact in contacts:
            if isinstance(contact, str):  # the "*" that removes all is handled above
                continue
            if not contact.uri.has_valid_host:
                raise Reject(400, "Contact: host is neither an address nor a name")
            seconds = self._seconds(request, contact)
            if wanted:
                wanted = [b for b in wanted if not b.is_of(contact, has_outbound=has_outbound)]
            reach = Reach.AT_CONTACT
            if is_direct:
                reach = reach_of(contact, read.host, came_by, has_rport=read.has_rport)
            if has_instance:
                if seconds:
                    self._check_loop(request, contact, stack)
                contact = without_gruus(contact)
            if seconds:
                # an invalid q raises here, while the error can still quote the request
                float(contact.q)
            contact = compact(contact)
            binding = Binding(
                contact.uri,
                now + seconds,
                call_id,
                read.cseq,
                contact,
                path,
                None if reach is Reach.AT_CONTACT else stack.names.stored_flow(came_by),
                reach is Reach.BY_FLOW_ONLY,
                (),
                listener,
            )
            if may_be_large and seconds and binding.bytes > BINDING_BYTES:
                raise Reject(403, f"Binding Over {BINDING_BYTES} Bytes")
            wanted.append(binding)
        return wanted

    @staticmethod
    def _check_loop(request: Request, contact: NameAddr, stack: Element) -> None:
        """Refuse a Contact of a user agent that leads back here: the address-of-record, or one of
        its GRUUs (RFC 5627 §5.1). Raises Reject(403)."""
        if "+sip.instance" not in contact.parameters:
            return
        uri = contact.uri
        is_gruu = "gr" in uri.parameters and serves(stack, uri)
        if not uri.is_sip or is_gruu or uri.equivalent(request.to.uri):
            raise Reject(403, "Contact Leads Back Here")

    def _seconds(self, request: Request, contact: NameAddr) -> int:
        """Return the seconds for which a Contact is bound (§10.3 step 7). Raises Reject(423)."""
        text = contact.parameters.get("expires")
        if text is not None:
            if not (text.isascii() and text.isdigit()):
                wanted = MALFORMED_EXPIRES
            else:
                wanted = int(text) if len(text) <= 10 else self.max_expires
        else:
            expires = self._expires(request)
            wanted = self.default_expires if expires is None else expires
        if (
            0 < wanted < min(self.min_expires, 3600)
        ):  # an hour or more is never too brief (§10.3 step 7)
            raise Reject(423, min_expires=self.min_expires)
        return min(wanted, self.max_expires)

    @staticmethod
    def _expires(request: Request) -> int | None:
        try:
            return request.expires
        except ParseError:
            return MALFORMED_EXPIRES


class _Change:
    """What a REGISTER makes of the bindings of its address-of-record, and the 200 that says so.

    A store may run it again, on other bindings or on its own result. It makes the response, too,
    because a REGISTER is processed completely or not at all (§10.3 step 7).
    """

    __slots__ = (
        "_answer",
        "_aor",
        "_bindings",
        "_has_outbound",
        "_location",
        "_now",
        "_policy",
        "_request",
        "response",
        "wanted",
    )

    def __init__(
        self,
        request: Request,
        location: Location,
        aor: str,
        now: float,
        answer: Answer,
        has_outbound: bool,
        policy: Policy,
    ) -> None:
        self._policy = policy
        self._request = request
        self._location = location
        self._aor = aor
        self._now = now
        self._answer = answer
        self._has_outbound = has_outbound
        self._bindings: Bindings = ()
        self.wanted: list[Binding] | None = None
        """A binding for each Contact; None to remove all."""
        self.response: Response
        """The 200 of the last run."""

    def __call__(self, stored: Bindings) -> Bindings:
        request, now = self._request, self._now
        bindings = self._location.live(stored, now)
        if self.wanted is None:
            check_order(bindings, request.call_id, request.cseq.number)
            bindings = ()
        else:
            bindings = registered(
                bindings,
                self.wanted,
                now,
                has_outbound=self._has_outbound,
                is_unusable=self._location.is_unusable,
                policy=self._policy,
            )
            if (len(bindings) > SMALL or len(self._aor) > BINDING_BYTES) and entry_bytes(
                self._aor, [b.bytes for b in bindings]
            ) > ADDRESS_BYTES:
                raise Reject(403, f"Address-of-Record Over {ADDRESS_BYTES} Bytes")
        self.response = self._answer.listing(bindings)
        self._bindings = bindings
        return bindings

    def keep_flow(self) -> None:
        """Keep the flow of the REGISTER open as long as its bindings."""
        for binding in self.wanted or ():
            if binding.flow is not None and binding in self._bindings:
                cast(Flow, self._request.flow).keep(binding.expires_at - self._now)
