"""How the addresses of a binding are kept in memory, and how many bytes that takes. Pure.

Parsed, 64 parameters of three characters are 9,500 bytes: 36 for each that was sent. Kept as text they are 300, and reading
them again costs a look-up some microseconds. So what a binding costs is what the phone has sent, and a constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import getsizeof

from ..message.address import NameAddr
from ..message.parameters import Parameters, URIHeaders, URIParameters
from ..message.uri import Escaped

ADDRESS = 300
"""Bytes of a name-addr and its URI besides their texts: two tuples, and the objects that hold its parameters."""

BINDING = 700
"""Bytes of a binding besides its texts: the tuple, its numbers, and the flow that it keeps, as tracemalloc measures them."""

ENTRY = 600
"""Bytes of an address-of-record besides its key and bindings: its place in the store, and among those that will end."""


class _Compact(Parameters):
    """Parameters that remember their text alone."""

    __slots__ = ()
    read: type[Parameters] = Parameters

    @property
    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        return self.read.parse(self._text).pairs

    @classmethod
    def of(cls, pairs: tuple[tuple[str, str | None], ...]) -> Parameters:
        return cls.read.of(pairs)  # what is made of them is to be used, not kept


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
    """Return an address whose parameters are kept as text, in its URI too; it reads and formats as before."""
    uri = address.uri
    uri = uri._replace(
        parameters=_compacted(_CompactURIParameters, uri.parameters), headers=_compacted(_CompactURIHeaders, uri.headers)
    )
    return address._replace(uri=uri, parameters=_compacted(_Compact, address.parameters))


def address_bytes(address: NameAddr) -> int:
    """Return what a compact address takes in memory: its texts as they are, one to four bytes a character."""
    uri = address.uri
    texts = (address.display, uri.user, uri.host, uri.password, uri.opaque)
    size = ADDRESS + sum(getsizeof(text) for text in texts if text)
    if isinstance(uri.user, Escaped):
        size += getsizeof(uri.user.escapes)
    return size + sum(getsizeof(str(part)) for part in (address.parameters, uri.parameters, uri.headers) if part)


def binding_bytes(contact: NameAddr, path: Iterable[NameAddr], call_id: str) -> int:
    """Return what a binding takes in memory: its Contact, its Path and its Call-ID, all of which the peer chooses."""
    return BINDING + getsizeof(call_id) + address_bytes(contact) + sum(map(address_bytes, path))


def entry_bytes(aor: str, bindings: Iterable[int]) -> int:
    """Return what an address-of-record takes in memory whose bindings take so many bytes each."""
    return ENTRY + getsizeof(aor) + sum(bindings)
