"""Bencode: how the control protocol of rtpengine writes dictionaries and lists. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

from ...errors import InvalidValue, ParseError, excerpt

Value = Union[bytes, int, "list[Value]", "dict[str, Value]"]
"""What decode() returns."""

Plain = Union[bytes, str, int, Sequence["Plain"], Mapping[str, "Plain"]]  # noqa: UP007
"""What encode() writes. Text becomes UTF-8."""

DEPTH = 16
"""The deepest nesting of lists and dictionaries. Statistics of rtpengine have 6 levels."""


def encode(value: Plain) -> bytes:
    """Return a value in bencode. Keys of dictionaries are sorted. Raises InvalidValue."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, Mapping):
        items = sorted((key.encode(), item) for key, item in value.items())
        return b"d" + b"".join(encode(key) + encode(item) for key, item in items) + b"e"
    if isinstance(value, Sequence):
        return b"l" + b"".join(map(encode, value)) + b"e"
    raise InvalidValue(f"bencode has no {type(value).__name__}, got {excerpt(value)}")


def decode(data: bytes) -> Value:
    """Return the value that some bytes are in bencode. Raises ParseError."""
    try:
        value, end = _decode(data, 0, DEPTH)
    except (ValueError, IndexError) as error:
        raise ParseError("not bencode", source=data) from error
    if end != len(data):
        raise ParseError("more than one value of bencode", source=data)
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    """Return the value that begins at a byte, and where it ends. Raises ValueError, IndexError."""
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return _number(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        if not depth:
            raise ValueError("too deep")
        items: list[Value] = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = _decode(data, at, depth - 1)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        if len(items) % 2:
            raise ValueError("a key without a value")
        found: dict[str, Value] = {}
        for key, item in zip(items[::2], items[1::2]):
            if not isinstance(key, bytes):
                raise ValueError("a key that is no text")
            found[key.decode()] = item
        return found, at + 1
    colon = data.index(b":", at)
    size = _number(data[at:colon])
    end = colon + 1 + size
    if size < 0 or end > len(data):
        raise ValueError("not so many bytes")
    return data[colon + 1 : end], end


def _number(text: bytes) -> int:
    if not text.removeprefix(b"-").isdigit() or len(text) > 20:
        raise ValueError("not a number")
    return int(text)
