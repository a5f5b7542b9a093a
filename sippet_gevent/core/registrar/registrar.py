"""Registrar: a core for REGISTER, RFC 3261 §10.3; Location: where its bindings live."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from itertools import islice
from typing import Any, NamedTuple

from ...arguments import flag, whole
from ...errors import InvalidValue, ParseError, Reject, SIPError, excerpt
from ...message.address import STAR, NameAddr
from ...message.fields.rfc3261 import RetryAfter
from ...message.message import Request, Response
from ...message.uri import URI, check_uri
from ...runtime.clock import Clock
from ...stores.bindings import binding_bytes, compact, entry_bytes
from ...stores.contacts import ContactIndex
from ...transport.base import Origin
from ..routing.outbound import (
    OUTBOUND,
    WEB,
    Reach,
    first_hop_knows_flows,
    flow_registered,
    instance_of,
    reach_of,
    reg_id_of,
    says_outbound,
)
from ..routing.sips import aor, check_registration, same_resource
from ..server import ServerTransaction
from . import registration_log as registrations

DEFAULT_EXPIRES = 3600  # §10.2.1.1 leaves it to the registrar
MIN_EXPIRES = 60  # §10.3 step 7: less is 423; a minute is what NATed phones ask for
MAX_EXPIRES = 86400
MALFORMED_EXPIRES = 3600  # what an expiration counts as that nobody can read (§10.2, §20.10)
EXTENSIONS = frozenset((OUTBOUND, "path"))
"""What a REGISTER may require of a Registrar, besides what its stack supports (RFC 5626 §4.2.1, RFC
3327 §5.3)."""
CONTACTS = 10
"""Bindings of one address-of-record, at most: nobody has more phones, and each is a branch of every
call."""
ADDRESSES = 100_000
"""Addresses-of-record in memory, at most."""
BINDING_BYTES = 4096
"""Bytes that a binding may take in memory: a VoLTE phone's, with all its feature tags and a Path of
two, takes 3,500."""
ADDRESS_BYTES = 16 * 1024
"""The same of an address-of-record, all bindings together: four of the largest, or CONTACTS usual
ones."""
STORE_BYTES = 256 * 1024 * 1024
"""The same of a Location: ADDRESSES with one usual phone each take 200 MB, and a machine has that
to spare."""
END_SECONDS = 5.0
"""Most seconds between the end of a binding and its removal: the bindings that end in five seconds
are removed together."""
ENDS_AT_ONCE = 500
"""Addresses-of-record whose bindings are removed in one turn of the loop, which takes some
milliseconds."""


class Binding(NamedTuple):
    """One contact of an address-of-record: its URI, when it ends (clock seconds), and what ordered
    it (§10.3 step 7).

    `flow` is the way that a user agent has opened whose Contact leads nowhere; with `by_flow_only`
    the binding ends with it. `others` are further flows of the same one, for when this one fails.
    `origin` is the listener it was registered at.
    """

    uri: URI
    expires_at: float
    call_id: str
    cseq: int
    contact: NameAddr
    path: tuple[NameAddr, ...] = ()
    flow: Any = None
    by_flow_only: bool = False
    others: tuple[Binding, ...] = ()
    origin: Origin | None = None

    def is_of(self, contact: NameAddr, *, knows_flows: bool = True) -> bool:
        """True when a registration of this Contact replaces the binding: the same flow of the same
        phone, or else the same URI.

        A browser makes up a new host for each connection, and a phone with two flows may give one
        Contact for both; +sip.instance and reg-id are what tells (RFC 5626 §6), if the first hop is
        we or has said that it knows flows: of the binding we remember that, of the Contact
        `knows_flows` says it.
        """
        mine = (
            flow_registered(self.contact) if self.flow is not None or self._came_by_edge else None
        )
        theirs = flow_registered(contact) if mine is not None and knows_flows else None
        return same_resource(self.uri, contact.uri) if theirs is None else mine == theirs

    @property
    def _came_by_edge(self) -> bool:
        return bool(self.path) and "ob" in self.path[-1].uri.parameters

    @property
    def bytes(self) -> int:
        """The bytes that it takes in memory; the phone chooses most of them."""
        return binding_bytes(self.contact, self.path, self.call_id)

    @property
    def has_ended(self) -> bool:
        """True when what alone led to this contact is gone (RFC 5626 §7)."""
        return self.by_flow_only and self.flow is not None and not self.flow.is_alive()


class Location:
    """Bindings in memory, by address-of-record. A store of your own has the same methods: get, put,
    lookup, lookup_contact.

    `stack` gives the time and the domains. It is the running stack whose Registrar was the first to
    use this Location, unless it is assigned. Without a stack `now` gives the time.
    """

    stack: Any = None

    def __init__(self, now: Callable[[], float] = Clock.now) -> None:
        if not callable(now):
            raise TypeError(
                f"a Location takes its time from the stack it serves, got {excerpt(now)}: write Location()"
            )
        self._clock = self._by = now
        self._stops = 0  # of the stack's deadlines: those of before have gone with each
        self._entries: dict[str, _Entry] = {}
        # by END_SECONDS: the addresses of which a binding ends then
        self._ends: dict[int, dict[str, None]] = {}
        self._contacts = ContactIndex()
        self._swept = 0.0
        self.bytes = 0
        """The bytes that all bindings take in memory."""

    def _now(self) -> float:
        stack = self.stack
        now: Callable[[], float] = self._clock if stack is None else stack.clock.now
        stops = stack.deadlines.stops if getattr(stack, "is_running", False) else self._stops
        if now != self._by or stops != self._stops:
            self._go_by(now, stops)
        return now()

    def _go_by(self, now: Callable[[], float], stops: int) -> None:
        """Use the clock of this run of the stack from now on. Bindings keep the time that they have
        left."""
        later, is_same_clock = now() - self._by(), now == self._by
        self._by, self._stops, self._swept = now, stops, 0.0
        # a new run of the same stack: to look at 100,000 entries takes half a second
        if is_same_clock:
            for slot in self._ends:
                self.stack.deadlines.add(slot * END_SECONDS, _End(self, slot))
            return
        self._ends.clear()
        for name, entry in self._entries.items():
            bindings = tuple(b._replace(expires_at=b.expires_at + later) for b in entry.bindings)
            self._entries[name] = entry._replace(
                bindings=bindings, slot=self._will_end(name, bindings)
            )

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names: what get() and put() take."""
        return aor(uri) if self.stack is None else self.stack.aor(uri)

    def get(self, aor: str) -> tuple[Binding, ...]:
        """Return the live bindings of an address-of-record, the best first (q, then the newest).

        One whose flow has ended is not among them, unless its Contact may be tried.
        """
        now = self._now()
        entry = self._entries.get(aor)
        if entry is None:
            if not isinstance(aor, str):
                raise TypeError(
                    f"aor must be a text, got {excerpt(aor)}: write lookup(uri), or get(location.aor(uri))"
                )
            return ()
        expired = [binding for binding in entry.bindings if binding.expires_at <= now]
        cut_off = [
            binding for binding in entry.bindings if binding.expires_at > now and binding.has_ended
        ]
        if not expired and not cut_off:
            return entry.bindings
        live = tuple(
            binding
            for binding in entry.bindings
            if binding.expires_at > now and binding not in cut_off
        )
        self.put(aor, live)
        if self.stack is not None:
            registrations.ended(self.stack, aor, expired, "expired")
            registrations.ended(self.stack, aor, cut_off, "connection closed")
        return live

    def put(self, aor: str, bindings: tuple[Binding, ...]) -> None:
        """Replace all bindings of an address-of-record at once. Raises Reject(503) when the store
        is full."""
        now, size = self._now(), 0
        if bindings:
            size = entry_bytes(aor, (binding.bytes for binding in bindings))
            if self._is_over(aor, size):
                if now >= self._swept + MIN_EXPIRES:  # no oftener: it looks at all of them
                    self._swept = now
                    self.expire()
                if self._is_over(aor, size):
                    raise Reject(503, "Registrar Full", retry_after=RetryAfter(MIN_EXPIRES))
        old = self._entries.pop(aor, _NONE)
        self.bytes += size - old.bytes
        self._ends.get(old.slot, {}).pop(aor, None)
        self._index(aor, old.bindings, bindings)
        if bindings:
            self._entries[aor] = _Entry(bindings, size, self._will_end(aor, bindings))

    def _is_over(self, aor: str, size: int) -> bool:
        """True when the store has no room for so many bytes; there is always room for what takes no
        more than before."""
        old = self._entries.get(aor, _NONE)
        is_one_too_many = old is _NONE and len(self._entries) >= ADDRESSES
        return is_one_too_many or (size > old.bytes and self.bytes - old.bytes + size > STORE_BYTES)

    def _will_end(self, aor: str, bindings: tuple[Binding, ...]) -> int:
        """Schedule the end of the first of these bindings; return the slot of `_ends` that has
        it."""
        first = min(binding.expires_at for binding in bindings)
        if not math.isfinite(first):  # the clock of a test that is over, say
            return 0
        slot = int(first / END_SECONDS) + 1
        if slot not in self._ends:
            self._ends[slot] = {}
            deadlines = getattr(self.stack, "deadlines", None)
            if deadlines is not None:
                deadlines.add(slot * END_SECONDS, _End(self, slot))
        self._ends[slot][aor] = None
        return slot

    def _index(self, aor: str, before: tuple[Binding, ...], after: tuple[Binding, ...]) -> None:
        self._contacts.update(
            aor, [binding.uri for binding in before], [binding.uri for binding in after]
        )

    def lookup(self, uri: URI) -> tuple[Binding, ...]:
        """Return the bindings a request for this URI goes to, best first: what forward() and fork()
        take as targets.

        Of several contacts of one phone, as +sip.instance tells, the first, which has the others:
        they would all get the request (RFC 5626 §7).
        """
        check_uri("uri", uri)
        found: dict[Any, list[Binding]] = {}
        for binding in self.get(self.aor(uri)):
            found.setdefault(instance_of(binding.contact) or binding.uri, []).append(binding)
        return _with_others(found)

    def lookup_contact(self, uri: URI) -> tuple[Binding, ...]:
        """Return the bindings whose Contact is this very URI, by the comparison of RFC 3261
        §19.1.4.

        A request may be for one phone of a user: the Refer-To of an attended transfer names a
        Contact (RFC 5589 §7). If several phones have that Contact, such as one private address
        behind two NATs, each of them gets the request.
        """
        check_uri("uri", uri)
        found: dict[Any, list[Binding]] = {}
        for name in self._contacts.find(uri):
            for binding in self.get(name):
                if binding.uri.equivalent(uri):  # one phone may have several lines, and flows
                    way = (
                        None
                        if binding.flow is None
                        else (binding.flow.transport, binding.flow.remote)
                    )
                    found.setdefault(
                        instance_of(binding.contact) or (way, binding.path), []
                    ).append(binding)
        return _with_others(found)

    def expire(self) -> None:
        """Drop the bindings that have ended, all of them at once."""
        for name in list(self._entries):
            self.get(name)

    def _end(self, slot: int) -> bool:
        """Remove ENDS_AT_ONCE of the bindings that end in this slot; False when there are more."""
        names = self._ends.get(slot, {})
        if slot * END_SECONDS > self._now():
            return True  # that was a deadline of another stack's clock
        for name in list(islice(names, ENDS_AT_ONCE)):
            self.get(name)
            names.pop(name, None)
        if not names:
            self._ends.pop(slot, None)
        return not names

    def __len__(self) -> int:
        return len(self._entries)


class _Entry(NamedTuple):
    """The bindings of an address-of-record, the bytes they take, and the slot of `_ends` for the
    first that ends."""

    bindings: tuple[Binding, ...] = ()
    bytes: int = 0
    slot: int = 0


_NONE = _Entry()


class _End:
    """A deadline of a stack: bindings of a Location end."""

    __slots__ = ("_location", "_slot")

    def __init__(self, location: Location, slot: int) -> None:
        self._location = location
        self._slot = slot

    def expire(self, now: float) -> None:
        """Remove the bindings that have ended: ENDS_AT_ONCE now, the others in the next turns of
        the loop."""
        if not self._location._end(self._slot):
            self._location.stack.deadlines.add(now, self)


def _with_others(found: dict[Any, list[Binding]]) -> tuple[Binding, ...]:
    """Return the first binding of each phone, which has the others."""
    return tuple(first._replace(others=tuple(others)) for first, *others in found.values())


def serves(stack: Any, uri: URI) -> bool:
    """True when bindings may be kept for a URI: it is of a domain of this stack, or the stack was
    given no domains."""
    return uri.is_sip and (not stack.domains or stack.is_responsible_for(uri))


class Registrar:
    """A core that serves REGISTER with a Location: `stack.on("REGISTER")(Registrar(location))`.

    Expirations are in seconds. Who counts on flows behind a first hop that knows none gets 439 (RFC
    5626 §6), unless `strict_outbound` is False: then he is registered as if he did not. JsSIP
    always does, and gives up at 439.
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
                f"a Registrar keeps bindings in a Location, got {excerpt(location)}: write Registrar(Location())"
            )
        self.location = location
        self.default_expires = whole("default_expires", default_expires, 1)
        self.min_expires = whole("min_expires", min_expires)
        self.max_expires = whole("max_expires", max_expires, 1)
        if max_expires < max(min_expires, default_expires):
            raise InvalidValue(
                f"max_expires must be {max(min_expires, default_expires)} or more, as min_expires and default_expires "
                f"are, got {max_expires}: give all three"
            )
        flag("strict_outbound", strict_outbound)
        self.strict_outbound = strict_outbound

    def __call__(self, request: Request, tx: ServerTransaction) -> Response:
        if request.method != "REGISTER":
            raise Reject(405, allow=("REGISTER",))
        try:
            return self._register(request, tx)
        except SIPError as error:
            registrations.refused(tx.stack, request, error)
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
        # after all that may refuse it: a REGISTER is processed completely or not at all (§10.3 step
        # 7)
        if changes:
            self.location.put(aor, bindings)
            for binding in bindings:
                if binding.flow is request.flow:
                    request.flow.keep(binding.expires_at - now)
            registrations.changed(
                tx.stack, request, aor, before, bindings, first_hop_knows_flows(request)
            )
        return response

    def _aor(self, uri: URI, stack: Any) -> str:
        """Return the key of the bindings that a URI names: one that a look-up of ours finds."""
        location = self.location
        if not isinstance(location, Location):
            return stack.aor(uri)  # type: ignore[no-any-return]
        if location.stack is None or not location.stack.is_running:
            location.stack = stack
        return location.aor(uri)

    def _outbound(self, request: Request) -> dict[str, Any]:
        """Return what a 200 says of flows: that they are kept, and when a phone that came straight
        is to ping (RFC 5626 §6).

        Flow-Timer has the same seconds as are asked for by `keep` (RFC 6223 §5); a browser cannot
        ping, and is pinged. Raises Reject(439) to who counts on flows where his first hop does not,
        and Reject(400) for one flow with several Contacts.
        """
        contacts = [contact for contact in request.contact if contact != STAR]
        if not any(reg_id_of(contact) for contact in contacts):
            return {}
        if not first_hop_knows_flows(request):
            if says_outbound(request) and self.strict_outbound:
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
                "several, and a reg-id is for one alone", header="Contact", source=request
            )
        if not says_outbound(request):
            return {}
        transport = request.flow.transport
        seconds = 0 if request.path or transport.name in WEB else transport.keep_alive_seconds
        return {"require": (OUTBOUND,)} | ({"flow_timer": seconds} if seconds else {})

    def _changed(
        self, request: Request, tx: ServerTransaction, bindings: tuple[Binding, ...], now: float
    ) -> tuple[Binding, ...]:
        """Return the bindings as the request wants them (§10.3 steps 6 and 7). Raises for all of it
        when any part is wrong."""
        call_id, cseq = request.call_id, request.cseq.number
        if STAR in request.contact:
            if len(request.contact) > 1 or self._expires(request) != 0:
                raise ParseError(
                    "* stands alone, with Expires: 0", header="Contact", source=request
                )
            self._check_order(bindings, call_id, cseq)
            return ()
        # from the user agent, by no proxy (RFC 5626 §6)
        is_straight = request.headers.has_one("Via") and not request.path
        knows_flows = first_hop_knows_flows(request)
        path = tuple(map(compact, request.path))
        wanted: list[Binding] = []
        for contact in request.contact:
            if not contact.uri.has_valid_host:
                raise Reject(400, "Contact: host is neither an address nor a name")
            seconds = self._seconds(request, contact)
            self._check_order(
                (b for b in bindings if b.is_of(contact, knows_flows=knows_flows)), call_id, cseq
            )
            wanted = [b for b in wanted if not b.is_of(contact, knows_flows=knows_flows)]
            reach = (
                reach_of(contact, request.via[0], request.flow) if is_straight else Reach.AT_CONTACT
            )
            flow = None
            if reach is not Reach.AT_CONTACT:
                flow = request.flow
            only = reach is Reach.BY_FLOW_ONLY
            origin = request.flow.origin
            if seconds:
                # one that cannot be read is refused while it is the request's own text
                float(contact.q)
            contact = compact(contact)
            binding = Binding(
                contact.uri, now + seconds, call_id, cseq, contact, path, flow, only, origin=origin
            )
            if seconds and binding.bytes > BINDING_BYTES:
                raise Reject(403, f"Binding Over {BINDING_BYTES} Bytes")
            wanted.append(binding)
        kept = [
            b
            for b in bindings
            if not any(b.is_of(new.contact, knows_flows=knows_flows) for new in wanted)
        ]
        result = [*(b for b in wanted if b.expires_at > now), *kept]
        # a phone that has a new port for each connection leaves what leads nowhere behind
        if len(result) > CONTACTS:
            result = [b for b in result if b.flow is None or b.flow.is_alive()]
        if len(result) > CONTACTS:
            raise Reject(403, f"Over {CONTACTS} Contacts")
        return tuple(sorted(result, key=lambda b: b.contact.q, reverse=True))

    def _seconds(self, request: Request, contact: NameAddr) -> int:
        """Return how long a contact is to be bound (§10.3 step 7). Raises Reject(423)."""
        text = contact.parameters.get("expires")
        if text is not None:
            if not (text.isascii() and text.isdigit()):
                wanted = MALFORMED_EXPIRES
            else:
                wanted = int(text) if len(text) <= 10 else self.max_expires
        else:
            expires = self._expires(request)
            wanted = self.default_expires if expires is None else expires
        if 0 < wanted < min(self.min_expires, 3600):  # over an hour is never too brief
            raise Reject(423, min_expires=self.min_expires)
        return min(wanted, self.max_expires)

    @staticmethod
    def _expires(request: Request) -> int | None:
        try:
            return request.expires
        except ParseError:
            return MALFORMED_EXPIRES

    @staticmethod
    def _check_order(bindings: Iterable[Binding], call_id: str, cseq: int) -> None:
        if any(b.call_id == call_id and cseq <= b.cseq for b in bindings):
            raise Reject(500, "Out of Order")
