"""Bindings of a registrar: the rules by which a Contact replaces another, and their size, RFC 3261
§10.3, RFC 3327 and RFC 5626. Pure.

A store only keeps bindings; the rules about them are functions of this file.

Bindings are kept compact, because parsed parameters take much memory: 64 parameters of three
characters take 9,500 bytes, 36 for each byte that was sent. Their text takes 300 bytes, and a
look-up parses it again in some microseconds. So a binding takes the bytes that the phone has sent,
and a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from sys import getsizeof
from typing import NamedTuple, TypeVar

from ..errors import Reject
from ..message.address import NameAddr
from ..message.parameters import (
    EMPTY,
    NO_URI_HEADERS,
    NO_URI_PARAMETERS,
    Parameters,
    URIHeaders,
    URIParameters,
)
from ..message.uri import URI, Escaped

CONTACTS = 10
"""Most bindings of one address-of-record. No user has more phones, and each is a branch of every
call."""

MOST_REG_ID = 2**31 - 1
"""The greatest reg-id (RFC 5626 §10)."""

ADDRESS = 300
"""Bytes of a name-addr and its URI besides their texts: two tuples, and the objects that hold its
parameters."""

BINDING = 700
"""Bytes of a binding besides its texts: the tuple, its numbers, and its flow, as tracemalloc
measures them."""

ENTRY = 600
"""Bytes of an address-of-record besides its key and bindings: its place in the store, and among
the entries that will expire."""

SHORT = 32
"""Most characters of parameters that bindings share, such as `;transport=udp` and `;lr;ob`. All the
phones of a model send the same ones."""

SHARED_TEXTS = 256
"""Texts that are shared."""

_UUID = "<urn:uuid:"

D = TypeVar("D")


class FlowName(NamedTuple):
    """The name of a flow, which any process can read. The process that has the flow finds it by
    this name.

    Args:
        node: The process that has the connection. "" for a flow of datagrams, which every process
            that listens at that address can use.
        name: Finds the flow there.
    """

    node: str
    name: str


class Binding(NamedTuple):
    """One Contact of an address-of-record, RFC 3261 §10.3.

    A registrar makes them, `Location.lookup()` returns them, and `forward()` takes them as targets.

    Attributes:
        uri: The Contact URI.
        expires_at: When the binding ends, in seconds since 1970, by the clock of its store.
        call_id: Call-ID of the REGISTER, which orders registrations together with `cseq` (§10.3
            step 7).
        cseq: CSeq number of the REGISTER.
        contact: The whole Contact value, with its parameters.
        path: The Path of the REGISTER, the Route of requests to this Contact (RFC 3327 §5.3).
        flow: The flow by which the user agent registered, if requests should use it (RFC 5626).
        by_flow_only: True when no other way leads to the Contact; the binding then ends with its
            flow.
        others: Further flows of the same user agent, for use when this one fails (RFC 5626 §7).
            Only targets have them; they are never stored.
        listener: The name of the listener at which it was registered. Requests leave by it.
        unknown: Fields that a later version has stored: name and packed value. They are kept.
    """

    uri: URI
    expires_at: float
    call_id: str
    cseq: int
    contact: NameAddr
    path: tuple[NameAddr, ...] = ()
    flow: FlowName | None = None
    by_flow_only: bool = False
    others: tuple[Binding, ...] = ()
    listener: str = ""
    unknown: tuple[tuple[str, bytes], ...] = ()

    def is_of(self, contact: NameAddr, *, has_outbound: bool = True) -> bool:
        """True when a registration of this Contact replaces the binding (§10.3 step 7, RFC 5626
        §6).

        It does if both are of the same flow, by +sip.instance and reg-id. These count if the first
        hop supports flows: this element itself, or an edge proxy with "ob" in its Path. Otherwise
        the URIs are compared. The flow comes first for two reasons. A browser invents a new host
        for each connection, and a phone with two flows may give the same Contact for both.

        Args:
            contact: A Contact of the new REGISTER.
            has_outbound: True when the first hop of that REGISTER supports flows. For the binding,
                its own flow and Path decide.
        """
        mine = None
        if self.flow is not None or (self.path and self._came_by_edge):
            mine = flow_registered(self.contact)
        theirs = flow_registered(contact) if mine is not None and has_outbound else None
        return same_resource(self.uri, contact.uri) if theirs is None else mine == theirs

    @property
    def _came_by_edge(self) -> bool:
        return bool(self.path) and "ob" in self.path[-1].uri.parameters

    @property
    def bytes(self) -> int:
        """The bytes that the binding takes in memory; the phone chooses most of them."""
        return binding_bytes(self.contact, self.path, self.call_id)


Bindings = tuple[Binding, ...]
"""The bindings of an address-of-record, best first."""


# ---- which resource


def in_clear(uri: URI) -> URI:
    """Return a sips URI as the sip URI with the same parts (RFC 5630 §5.3), and any other URI as
    it is."""
    return uri._replace(scheme="sip") if uri.scheme == "sips" else uri


def same_resource(one: URI, other: URI) -> bool:
    """True when two URIs are equivalent by RFC 3261 §19.1.4, apart from sip or sips (RFC 5630
    §4.1)."""
    if one.scheme != other.scheme:
        one, other = in_clear(one), in_clear(other)
    return one.equivalent(other)


def aor(uri: URI) -> str:
    """Return the address-of-record that a URI names, one text for both schemes (RFC 5630 §5.2)."""
    return in_clear(uri).aor if uri.scheme == "sips" else uri.aor


# ---- which user agent, and which of its flows


def instance_of(contact: NameAddr) -> str | None:
    """Return +sip.instance in the form for comparison: the URN of a UUID in lower case (RFC 5626
    §4.1, RFC 4122 §3)."""
    instance = contact.parameters.get("+sip.instance")
    return (
        instance.lower()
        if instance and instance[: len(_UUID)].lower() == _UUID
        else instance or None
    )


def reg_id_of(contact: NameAddr) -> int | None:
    """Return the reg-id; None when there is none, or it is not valid by RFC 5626 §10."""
    text = contact.parameters.get("reg-id")
    if not (text and text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    return int(text) if 1 <= int(text) <= MOST_REG_ID else None


def flow_registered(contact: NameAddr) -> tuple[str, int] | None:
    """Return +sip.instance and reg-id, which together name one flow of one user agent.

    None when either is missing, because a reg-id alone has no meaning (RFC 5626 §6).
    """
    reg_id = reg_id_of(contact)
    instance = None if reg_id is None else instance_of(contact)
    return None if instance is None or reg_id is None else (instance, reg_id)


# ---- a REGISTER changes bindings, §10.3 step 7


def never(binding: Binding) -> bool:
    """Return False."""
    return False


class Policy(NamedTuple):
    """How many bindings an address-of-record may have, and which gives way."""

    contacts: int = CONTACTS
    """Most bindings."""
    makes_room: bool = False
    """True when the bindings that end first give way to a new one. Otherwise it is refused."""
    one_per_instance: bool = False
    """True when a Contact replaces those with the same +sip.instance, unless both are flows."""


USUAL = Policy()
"""The policy of a registrar that was told no other."""


def _same_device(new: Binding, old: Binding) -> bool:
    """True when two bindings are of one user agent, and not two of its flows (RFC 5626 §4.2)."""
    instance = instance_of(new.contact)
    return (
        instance is not None
        and instance == instance_of(old.contact)
        and not (flow_registered(new.contact) and flow_registered(old.contact))
    )


def merged(
    bindings: Iterable[Binding],
    wanted: Sequence[Binding],
    now: float,
    *,
    has_outbound: bool,
    is_unusable: Callable[[Binding], bool] = never,
    policy: Policy = USUAL,
) -> Bindings:
    """Return the bindings after a REGISTER, best first: highest q, then newest.

    Args:
        bindings: The previous bindings. A binding that a new one replaces is left out.
        wanted: One binding for each Contact of the REGISTER. A binding that ends `now` is only
            removed.
        now: The time, in seconds of the clock of `expires_at`.
        has_outbound: See Binding.is_of().
        is_unusable: True for a binding that gives way if there are too many: its flow has ended.
        policy: How many there may be.

    Raises:
        Reject: 403 when there are more than the policy allows.
    """
    most = policy.contacts
    fresh = [b for b in wanted if b.expires_at > now]
    kept = []
    for old in bindings:
        for new in wanted:
            if old.is_of(new.contact, has_outbound=has_outbound):
                break
        else:
            kept.append(old)
    if not kept and len(fresh) == 1:  # the usual REGISTER, of a user with one phone
        return tuple(fresh)
    if policy.one_per_instance:
        kept = [b for b in kept if not any(_same_device(new, b) for new in fresh)]
    # a phone with a new port for each connection leaves unreachable bindings
    if len(fresh) + len(kept) > most:
        kept = [b for b in kept if not is_unusable(b)]
    if policy.makes_room and len(fresh) + len(kept) > most:
        kept.sort(key=lambda b: b.expires_at, reverse=True)
        del kept[max(0, most - len(fresh)) :]
    if len(fresh) + len(kept) > most:
        raise Reject(403, f"Over {most} Contacts")
    return tuple(sorted([*fresh, *kept], key=lambda b: b.contact.q, reverse=True))


def registered(
    bindings: Bindings,
    wanted: Sequence[Binding],
    now: float,
    *,
    has_outbound: bool,
    is_unusable: Callable[[Binding], bool] = never,
    policy: Policy = USUAL,
) -> Bindings:
    """Return the bindings after a REGISTER, as merged() does, if it is newer than they are.

    A REGISTER that finds its own result, with the same Call-ID, CSeq and Contact, is not older: a
    store may compute a change again that it has already made.

    Raises:
        Reject: 500 for a REGISTER that is out of order, 403 for more bindings than the policy
            allows.
    """
    for new in wanted:
        for old in bindings:
            if (
                old.call_id == new.call_id
                and new.cseq <= old.cseq
                and old.is_of(new.contact, has_outbound=has_outbound)
                and not (
                    old.cseq == new.cseq and new.expires_at > now and old.contact == new.contact
                )
            ):
                raise Reject(500, "Out of Order")
    return merged(
        bindings, wanted, now, has_outbound=has_outbound, is_unusable=is_unusable, policy=policy
    )


def check_order(bindings: Iterable[Binding], call_id: str, cseq: int) -> None:
    """Refuse a REGISTER that is older than one of these bindings (§10.3 step 7). Raises
    Reject(500)."""
    if any(b.call_id == call_id and cseq <= b.cseq for b in bindings):
        raise Reject(500, "Out of Order")


def events(before: Bindings, after: Bindings, now: float) -> list[tuple[str, Binding]]:
    """Return what has changed between two states of an address-of-record.

    Args:
        before: The previous bindings.
        after: The bindings from now on.
        now: The time, in seconds of the clock of `expires_at`.

    Returns:
        Pairs of a kind and a binding: `added`, `refreshed`, then `removed` and `expired`.
    """
    changes: list[tuple[str, Binding]] = []
    gone = [old for old in before if old not in after]
    for new in after:
        if new in before:
            continue
        has_outbound = new.flow is not None or new._came_by_edge
        replaced = [
            old
            for old in gone
            if old.expires_at > now and old.is_of(new.contact, has_outbound=has_outbound)
        ]
        changes.append(("refreshed" if replaced else "added", new))
        gone = [old for old in gone if old not in replaced]
    changes += [("removed" if old.expires_at > now else "expired", old) for old in gone]
    return changes


def with_others(phones: Iterable[list[Binding]]) -> Bindings:
    """Return the first binding of each phone, with the phone's other bindings in `others`."""
    return tuple(first._replace(others=tuple(others)) for first, *others in phones)


# ---- how many bytes


class _Compact(Parameters):
    """Parameters that keep only their text, and parse it at each access."""

    __slots__ = ()
    read: type[Parameters] = Parameters

    @property
    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        return self.read.parse(self._text).pairs

    def get(self, name: str, /, default: D | None = None) -> str | D | None:
        text = self._text
        # most parameters are not there, and then their names are nowhere in the text
        if name.lower() in text.lower() or "%" in text:
            return super().get(name, default)
        return default

    @classmethod
    def of(cls, pairs: tuple[tuple[str, str | None], ...]) -> Parameters:  # type: ignore[override]  # a changed copy is whole
        return cls.read.of(pairs)  # a changed copy is used at once, and not kept


class _CompactURIParameters(_Compact, URIParameters):
    __slots__ = ()
    read = URIParameters


class _CompactURIHeaders(_Compact, URIHeaders):
    __slots__ = ()
    read = URIHeaders


def _compacted(kind: type[_Compact], parameters: Parameters) -> Parameters:
    if isinstance(parameters, _Compact):
        return parameters
    # the text of parameters that were read as text, which may have been cut since then
    text = getattr(parameters, "_text", None) or str(parameters)
    if len(text) <= SHORT:
        return _shared(kind, text) if text else kind.read._empty()
    return kind.plain(text)


@lru_cache(SHARED_TEXTS)
def _shared(kind: type[_Compact], text: str) -> Parameters:
    """Return parameters that all bindings with this text have together."""
    return kind.plain(text)


def compact(address: NameAddr) -> NameAddr:
    """Return an address whose parameters, and those of its URI, are kept as text. It reads and
    formats as before."""
    uri, display, parameters = address
    if uri.parameters is not NO_URI_PARAMETERS or uri.headers is not NO_URI_HEADERS:
        uri = uri._replace(
            parameters=_compacted(_CompactURIParameters, uri.parameters),
            headers=_compacted(_CompactURIHeaders, uri.headers),
        )
    if parameters is not EMPTY:
        parameters = _compacted(_Compact, parameters)
    return tuple.__new__(type(address), (uri, display, parameters))


def address_bytes(address: NameAddr) -> int:
    """Return the bytes that a compact address takes in memory; a character takes one to four."""
    uri = address.uri
    size = ADDRESS
    for text in (address.display, uri.user, uri.host, uri.password, uri.opaque):
        if text:
            size += getsizeof(text)
    if isinstance(uri.user, Escaped):
        size += getsizeof(uri.user.escapes)
    for part in (address.parameters, uri.parameters, uri.headers):
        if part._pairs is None:
            size += getsizeof(part._text)
        elif part._pairs:
            size += getsizeof(str(part))
    return size


def binding_bytes(contact: NameAddr, path: Iterable[NameAddr], call_id: str) -> int:
    """Return the bytes that a binding takes in memory. The peer chooses the length of Contact, Path
    and Call-ID."""
    return BINDING + getsizeof(call_id) + address_bytes(contact) + sum(map(address_bytes, path))


def entry_bytes(aor: str, bindings: Iterable[int]) -> int:
    """Return the bytes that an address-of-record takes in memory, with the bytes of its
    bindings."""
    return ENTRY + getsizeof(aor) + sum(bindings)
