"""The bindings of an address-of-record as bytes, for stores that keep bytes, RFC 3261 §10.3. Pure.

A record is a head of six bytes and a body:

    byte 0      the version that wrote the record
    byte 1      the least version that can read it
    bytes 2-5   CRC-32 of bytes 0 and 1 and of the body, most significant byte first
    body        msgpack: an array of bindings, each a map from short names to values

Two versions may use one store at the same time, for example during an upgrade. So a later version
that only adds fields raises byte 0, and leaves byte 1. An earlier version then reads the fields it
knows, and packs the others again unchanged. A version that changes the meaning of a field raises
byte 1, and an earlier one leaves its records alone.

A field with its default value is left out. Addresses are texts, as the phone has sent them, because
parsing is quick, and parsed parameters take thirty times as many bytes. The checksum is there
because SQLite has none: a bit that flips in a Contact would send calls to somebody else.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from math import isfinite
from typing import TypeVar

import msgpack

from ..errors import SIPError, excerpt
from ..message.address import NameAddr
from ..message.uri import URI
from .bindings import Binding, Bindings, FlowName

T = TypeVar("T")

VERSION = 1
"""The version that this module writes."""

READABLE_SINCE = 1
"""The least version that can read what this module writes."""

HEAD = 6
"""Bytes before the body."""

MOST_BINDINGS = 1000
"""Most bindings of a record. A registrar allows ten."""


class UnreadableRecord(SIPError, ValueError):
    """Bytes that are no record of bindings: damaged, of something else, or of a later version.

    A store skips such a record, counts and logs it, and never deletes it.
    """


# Names of the fields, in the order in which they are written.
CONTACT, URI_, ENDS, CALL_ID, CSEQ = "c", "u", "e", "i", "s"
PATH, FLOW, BY_FLOW_ONLY, LISTENER = "p", "f", "o", "l"
FIELDS = frozenset((CONTACT, URI_, ENDS, CALL_ID, CSEQ, PATH, FLOW, BY_FLOW_ONLY, LISTENER))


def pack(bindings: Iterable[Binding]) -> bytes:
    """Return bindings as bytes, the same bytes for the same bindings.

    Raises:
        TypeError: A binding has values of wrong types.
        InvalidValue: An address cannot be written.
    """
    body = _pack([_fields(binding) for binding in bindings])
    return _WRITTEN + zlib.crc32(body, _WRITTEN_CRC).to_bytes(4, "big") + body


def unpack(data: bytes) -> Bindings:
    """Return the bindings of a record. Raises UnreadableRecord."""
    if len(data) < HEAD:
        raise UnreadableRecord(f"record of bindings has {len(data)} bytes, which is too few")
    if zlib.crc32(data[HEAD:], zlib.crc32(data[:2])).to_bytes(4, "big") != data[2:HEAD]:
        raise UnreadableRecord("record of bindings is damaged: its checksum differs")
    if data[1] > VERSION:
        raise UnreadableRecord(
            f"record of bindings has version {data[0]}, which versions of {data[1]} and later can "
            f"read; this is version {VERSION}: install the version that wrote it"
        )
    try:
        found = _unpack(data[HEAD:])
        bindings: list[object] = _of(list, found)
        if len(bindings) > MOST_BINDINGS:
            raise UnreadableRecord(f"record has {len(bindings)} bindings, over {MOST_BINDINGS}")
        return tuple([_binding(fields) for fields in bindings])
    except UnreadableRecord:
        raise
    except Exception as error:  # msgpack, the parsers and the constructors raise many kinds
        raise UnreadableRecord(f"record of bindings cannot be read: {excerpt(str(error))}") from (
            error
        )


def _unpack(packed: bytes) -> object:
    # a field of a later version may be a map with any keys
    value: object = msgpack.unpackb(packed, strict_map_key=False, unicode_errors=_NOT_UTF_8)
    return value


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors=_NOT_UTF_8)
    return packed


_NOT_UTF_8 = "surrogateescape"  # a phone may send other bytes, and the parser keeps them so
_WRITTEN = bytes((VERSION, READABLE_SINCE))
_WRITTEN_CRC = zlib.crc32(_WRITTEN)


def _fields(binding: Binding) -> dict[str, object]:
    contact = str(binding.contact)
    fields: dict[str, object] = {CONTACT: contact}
    if binding.uri is not binding.contact.uri and binding.uri != binding.contact.uri:
        fields[URI_] = str(binding.uri)
    fields[ENDS] = float(binding.expires_at)
    fields[CALL_ID] = binding.call_id
    fields[CSEQ] = binding.cseq
    if binding.path:
        fields[PATH] = [str(address) for address in binding.path]
    if binding.flow is not None:
        fields[FLOW] = tuple(binding.flow)
    if binding.by_flow_only:
        fields[BY_FLOW_ONLY] = True
    if binding.listener:
        fields[LISTENER] = binding.listener
    for name, packed in binding.unknown:
        # after the known ones: a field that this version knows by now is not unknown any more
        if name not in FIELDS:
            fields[name] = _unpack(packed)
    return fields


def _binding(found: object) -> Binding:
    fields: dict[str, object] = _of(dict, found)
    contact = NameAddr.parse(_of(str, fields[CONTACT]))
    uri = fields.get(URI_)
    ends = _of(float, fields[ENDS])
    flow, flow_name = fields.get(FLOW), None
    if flow is not None:
        node, name = _of(list, flow)
        flow_name = FlowName(_of(str, node), _of(str, name))
    if not isfinite(ends):
        raise UnreadableRecord(f"a binding ends at {ends}")
    return Binding(
        contact.uri if uri is None else URI.parse(_of(str, uri)),
        ends,
        _of(str, fields[CALL_ID]),
        _of(int, fields[CSEQ]),
        contact,
        tuple([NameAddr.parse(_of(str, text)) for text in _of(list, fields.get(PATH, []))]),
        flow_name,
        _of(bool, fields.get(BY_FLOW_ONLY, False)),
        listener=_of(str, fields.get(LISTENER, "")),
        unknown=() if fields.keys() <= FIELDS else _unknown(fields),
    )


def _unknown(fields: dict[str, object]) -> tuple[tuple[str, bytes], ...]:
    """Return the fields of a later version, with their values packed again."""
    return tuple(
        [(_of(str, name), _pack(value)) for name, value in fields.items() if name not in FIELDS]
    )


def _of(kind: type[T], value: object) -> T:
    """Return a value that has exactly this type. Raises UnreadableRecord."""
    if type(value) is not kind:
        raise UnreadableRecord(f"a field of a binding is no {kind.__name__}: {excerpt(value)}")
    return value
