"""Registrar: a core that serves REGISTER, RFC 3261 §10.3, RFC 3327 and RFC 5626."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, cast

from ...arguments import flag, whole
from ...errors import InvalidValue, ParseError, Reject, SIPError, excerpt
from ...message.address import STAR, NameAddr
from ...message.message import Request, Response
from ...message.uri import URI
from ...stores.bindings import (
    Binding,
    compact,
    entry_bytes,
    flow_registered,
    merged,
    never,
    reg_id_of,
)
from ...stores.memory import Location
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
from .log import log_changes, log_refusal

DEFAULT_EXPIRES = 3600
"""Seconds of a binding whose REGISTER asks for no time. The registrar may choose (§10.2.1.1)."""

MIN_EXPIRES = 60
"""Seconds of the shortest binding. A REGISTER for less gets 423 (§10.3 step 7). Phones behind NAT
ask for a minute."""

MAX_EXPIRES = 86400
"""Seconds of the longest binding. A longer time is shortened to this."""

MALFORMED_EXPIRES = 3600
"""Seconds that replace an expiration that cannot be read (§10.2, §20.10)."""

EXTENSIONS = frozenset((OUTBOUND, "path"))
"""Option tags that a REGISTER may require of a Registrar, besides what its stack supports (RFC 5626
§4.2.1, RFC 3327 §5.3)."""

BINDING_BYTES = 4096
"""Most bytes of one binding in memory. A VoLTE phone with all its feature tags and two Path values
takes 3,500."""

ADDRESS_BYTES = 16 * 1024
"""Most bytes of an address-of-record in memory. It has room for four of the largest bindings, or
for CONTACTS usual ones."""


def serves(stack: Element, uri: URI) -> bool:
    """True when a URI is in a domain of the stack, or when the stack has no domains."""
    return uri.is_sip and (not stack.domains or stack.is_responsible_for(uri))


class Registrar:
    """A core that serves REGISTER with a Location: `stack.on("REGISTER")(Registrar(location))`.

    Args:
        location: The store of bindings.
        default_expires: Seconds of a binding whose REGISTER asks for no time.
        min_expires: Seconds of the shortest binding. A REGISTER for less gets 423.
        max_expires: Seconds of the longest binding; more is shortened to this.
        strict_outbound: A phone may use SIP Outbound behind a first hop that does not support it.
            By default its REGISTER gets 439 (RFC 5626 §6). False registers it without SIP Outbound.
            JsSIP always uses SIP Outbound, and gives up at 439.

    Raises:
        InvalidValue: The times contradict each other.
        TypeError: The store has no get and put, or a time is not a number.
    """

    def __init__(
        self,
        location: Location,
        *,
        default_expires: int = DEFAULT_EXPIRES,
        min_expires: int = MIN_EXPIRES,
        max_expires: int = MAX_EXPIRES,
        strict_outbound: bool = True,
    ) -> None:
        if isinstance(location, type) or not (
            hasattr(location, "get") and hasattr(location, "put")
        ):
            raise TypeError(
                f"a Registrar keeps bindings in a Location, got {excerpt(location)}: "
                "write Registrar(Location())"
            )
        self.location = location
        self.default_expires = whole("default_expires", default_expires, 1)
        self.min_expires = whole("min_expires", min_expires)
        self.max_expires = whole("max_expires", max_expires, 1)
        if max_expires < max(min_expires, default_expires):
            raise InvalidValue(
                f"max_expires must be {max(min_expires, default_expires)} or more, as min_expires "
                f"and default_expires are, got {max_expires}: give all three"
            )
        flag("strict_outbound", strict_outbound)
        self.strict_outbound = strict_outbound

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
        tx.check_required(EXTENSIONS)  # before anything is stored (§10.3 step 2)
        if not request.to.uri.has_valid_host:
            raise Reject(400, "To: host is neither an address nor a name")
        if not serves(tx.stack, request.to.uri):
            raise Reject(404)  # §10.3 step 5
        now = tx.stack.clock.now()
        aor = self._aor(request.to.uri, tx.stack)
        before = bindings = self.location.get(aor)
        outbound = self._outbound(request)
        changes = bool(request.contact)
        if changes:
            check_registration(request)
            bindings = self._changed(request, tx, bindings, now)
            if entry_bytes(aor, (binding.bytes for binding in bindings)) > ADDRESS_BYTES:
                raise Reject(403, f"Address-of-Record Over {ADDRESS_BYTES} Bytes")
        response = request.response(
            200,
            contact=tuple(
                b.contact._replace(
                    parameters=b.contact.parameters.replace(
                        expires=max(1, round(b.expires_at - now))
                    )
                )
                for b in bindings
            ),
            path=request.path,  # RFC 3327 §5.3
            date=datetime.now(timezone.utc),
            **outbound,
        )
        # last, because a REGISTER is processed completely or not at all (§10.3 step 7)
        if changes:
            self.location.put(aor, bindings)
            flow: Flow = request.flow  # type: ignore[assignment]  # a received request has a Flow
            name = tx.stack.names.stored_flow(flow)
            for binding in bindings:
                if binding.flow == name:
                    flow.keep(binding.expires_at - now)
            log_changes(
                tx.stack, request, aor, before, bindings, first_hop_supports_outbound(request)
            )
        return response

    def _aor(self, uri: URI, stack: Element) -> str:
        """Return the address-of-record that a URI names, the same text that Location.lookup()
        uses."""
        location = self.location
        if not isinstance(location, Location):
            return stack.aor(uri)
        if location.stack is None or not location.stack.is_running:
            location.stack = stack
        return location.aor(uri)

    def _outbound(self, request: Request) -> dict[str, Any]:
        """Return the header fields of a 200 that concern flows: Require and Flow-Timer (RFC 5626
        §6).

        Flow-Timer is for a phone whose first hop we are. Its seconds are those that `keep` grants
        (RFC 6223 §5). A browser gets none, because it cannot ping and is pinged.

        Raises:
            Reject: 439 when the phone requires flows and its first hop does not support them.
            ParseError: Several Contacts with a reg-id.
        """
        contacts = [contact for contact in request.contact if contact != STAR]
        if not any(reg_id_of(contact) for contact in contacts):
            return {}
        if not first_hop_supports_outbound(request):
            if supports_outbound(request) and self.strict_outbound:
                raise Reject(439)
            return {}
        if not any(flow_registered(contact) for contact in contacts):
            return {}
        expires = request.headers.get("Expires")
        lasting = [
            contact for contact in contacts if contact.parameters.get("expires", expires) != "0"
        ]
        if len(lasting) > 1 and any(map(flow_registered, lasting)):
            raise ParseError(
                "several with a reg-id, which is for one alone", header="Contact", source=request
            )
        if not supports_outbound(request):
            return {}
        transport = cast(Flow, request.flow).transport
        seconds = 0 if request.path or transport.name in WEB else transport.keep_alive_seconds
        return {"require": (OUTBOUND,)} | ({"flow_timer": seconds} if seconds else {})

    def _changed(
        self, request: Request, tx: ServerTransaction, bindings: tuple[Binding, ...], now: float
    ) -> tuple[Binding, ...]:
        """Return the bindings after this REGISTER (§10.3 steps 6 and 7).

        All or nothing: raises Reject or ParseError if any Contact is invalid.
        """
        call_id, cseq = request.call_id, request.cseq.number
        if STAR in request.contact:
            if len(request.contact) > 1 or self._expires(request) != 0:
                raise ParseError(
                    "* must be the only Contact, with Expires: 0", header="Contact", source=request
                )
            check_order(bindings, call_id, cseq)
            return ()
        # from the user agent, without a proxy on the way (RFC 5626 §6)
        is_direct = request.headers.has_one("Via") and not request.path
        has_outbound = first_hop_supports_outbound(request)
        path = tuple(map(compact, request.path))
        wanted: list[Binding] = []
        for contact in request.contact:
            if isinstance(contact, str):  # the "*" that removes all is handled above
                continue
            if not contact.uri.has_valid_host:
                raise Reject(400, "Contact: host is neither an address nor a name")
            seconds = self._seconds(request, contact)
            check_order(
                (b for b in bindings if b.is_of(contact, has_outbound=has_outbound)), call_id, cseq
            )
            wanted = [b for b in wanted if not b.is_of(contact, has_outbound=has_outbound)]
            reach = (
                reach_of(contact, request.via[0], request.flow) if is_direct else Reach.AT_CONTACT
            )
            flow = None
            if reach is not Reach.AT_CONTACT:
                flow = tx.stack.names.stored_flow(cast(Flow, request.flow))
            only = reach is Reach.BY_FLOW_ONLY
            listener = tx.stack.names.stored_listener(cast(Flow, request.flow))
            if seconds:
                # an invalid q raises here, while the error can still quote the request
                float(contact.q)
            contact = compact(contact)
            binding = Binding(
                contact.uri,
                now + seconds,
                call_id,
                cseq,
                contact,
                path,
                flow,
                only,
                listener=listener,
            )
            if seconds and binding.bytes > BINDING_BYTES:
                raise Reject(403, f"Binding Over {BINDING_BYTES} Bytes")
            wanted.append(binding)
        return merged(
            bindings,
            wanted,
            now,
            has_outbound=has_outbound,
            is_unusable=getattr(self.location, "is_unusable", never),
        )

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


def check_order(bindings: Iterable[Binding], call_id: str, cseq: int) -> None:
    """Refuse a REGISTER that is older than one of these bindings. Raises Reject(500)."""
    if any(b.call_id == call_id and cseq <= b.cseq for b in bindings):
        raise Reject(500, "Out of Order")
