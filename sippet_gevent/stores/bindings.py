"""How many bytes a binding takes in memory, and addresses that take few. Pure.

Parsed, 64 parameters of three characters take 9,500 bytes: 36 for each byte that was sent. Kept as
text they take 300 bytes, and a look-up reads them again in some microseconds. So a binding takes
the bytes that the phone has sent, and a constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import getsizeof

from ..message.address import NameAddr
from ..message.parameters import Parameters, URIHeaders, URIParameters
from ..message.uri import Escaped

ADDRESS = 300
"""Bytes of a name-addr and its URI besides their texts: two tuples, and the objects that hold its
parameters."""

BINDING = 700
"""Bytes of a binding besides its texts: the tuple, its numbers, and the flow that it keeps, as
tracemalloc measures them."""

ENTRY = 600
"""Bytes of an address-of-record besides its key and bindings: its place in the store, and among
those that will end."""


class _Compact(Parameters):
    """Parameters that keep their text alone, and read it each time."""

    __slots__ = ()
    read: type[Parameters] = Parameters

    @property
    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        return self.read.parse(self._text).pairs

    @classmethod
    def of(cls, pairs: tuple[tuple[str, str | None], ...]) -> Parameters:
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
    text = str(parameters)
    return kind.plain(text) if text else kind.read._empty()


def compact(address: NameAddr) -> NameAddr:
    """Return an address whose parameters are kept as text, in its URI too; it reads and formats as
    before."""
    uri = address.uri
    uri = uri._replace(
        parameters=_compacted(_CompactURIParameters, uri.parameters),
        headers=_compacted(_CompactURIHeaders, uri.headers),
    )
    return address._replace(uri=uri, parameters=_compacted(_Compact, address.parameters))


def address_bytes(address: NameAddr) -> int:
    """Return the bytes that a compact address takes in memory; a character takes one to four."""
    uri = address.uri
    texts = (address.display, uri.user, uri.host, uri.password, uri.opaque)
    size = ADDRESS + sum(getsizeof(text) for text in texts if text)
    if isinstance(uri.user, Escaped):
        size += getsizeof(uri.user.escapes)
    return size + sum(
        getsizeof(str(part)) for part in (address.parameters, uri.parameters, uri.headers) if part
    )


def binding_bytes(contact: NameAddr, path: Iterable[NameAddr], call_id: str) -> int:
    """Return the bytes that a binding takes in memory. The peer chooses the length of Contact, Path
    and Call-ID."""
    return BINDING + getsizeof(call_id) + address_bytes(contact) + sum(map(address_bytes, path))


def entry_bytes(aor: str, bindings: Iterable[int]) -> int:
    """Return the bytes that an address-of-record takes in memory, with the bytes of its
    bindings."""
    return ENTRY + getsizeof(aor) + sum(bindings)
