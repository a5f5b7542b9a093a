"""Problem: what is wrong with a message, with its header field, byte and line."""

from __future__ import annotations

import bisect
import re
from typing import NamedTuple, TypedDict

from ..errors import CREDENTIALS, EXCERPT, ParseError
from ..message import parser
from ..message.grammar import BLANKS, is_token
from ..message.scan import canonical
from .plain import HIDDEN, clean

_FIELD_LINE = re.compile(rb"(?:([^\r\n:]*):)?[^\n]*(?:\n[ \t][^\n]*)*").match
_PROOF = re.compile(r"\b(Digest|Basic|Bearer)\b.*", re.IGNORECASE).sub
_EMPTY_LINES = (b"\r\n", b"\n")
_START_LINE_PARTS = frozenset(("Request-Line", "Request-URI", "Status-Line", "SIP-Version"))


class Problem(TypedDict):
    """One problem: the header field, what is wrong, where, and the text there.

    `offset` is a byte of the message, and `line` counts from 1. Each is None where it is not known.
    """

    header: str | None
    problem: str
    offset: int | None
    line: int | None
    text: str | None


class FieldLine(NamedTuple):
    """A header line, folded lines included: its canonical name, its first byte and its end."""

    name: str
    start: int
    end: int


def field_lines(data: bytes) -> list[FieldLine]:
    """Return the header lines that have a name, up to the first empty line (§7.3.1)."""
    fields = []
    at = data.find(b"\n") + 1 or len(data)
    while (
        at < len(data)
        and not data.startswith(_EMPTY_LINES, at)
        and (found := _FIELD_LINE(data, at))
    ):
        name = (found[1] or b"").decode("utf-8", "surrogateescape").rstrip(BLANKS)
        if is_token(name):
            fields.append(FieldLine(canonical(name), at, found.end()))
        at = found.end() + 1
    return fields


def value_of(data: bytes, field: FieldLine) -> str:
    """Return the value of a header line, in one line."""
    text = data[field.start : field.end].decode("utf-8", "surrogateescape").partition(":")[2]
    return " ".join(line.strip(" \t\r") for line in text.split("\n"))


def start_line(data: bytes, is_rest: bool) -> str:
    """Return the first line of a message without credentials.

    `is_rest` is True for text behind a message that does not begin another message. Its first line
    may be the rest of a line with credentials.
    """
    if _is_secret(0, data, []):
        return HIDDEN
    text = clean(data.split(b"\n", 1)[0].rstrip(b"\r"))[: parser.DEFAULT_LIMITS.line]
    return _PROOF(rf"\1 {HIDDEN}", text) if is_rest else text


def different(problems: list[ParseError]) -> list[ParseError]:
    """Return each problem once, because parse() and the types may find the same one."""
    found: dict[tuple[str | None, str], ParseError] = {}
    for error in problems:
        found.setdefault((error.header, error.problem), error)
    return list(found.values())


def placed(error: ParseError, data: bytes, fields: list[FieldLine], is_rest: bool) -> Problem:
    """Return a problem with its place in the message, if the place is known."""
    offset: int | None
    # scan() found it, and scan() knows bytes but no header fields
    if error.header is None and error.offset is not None:
        offset, quoted = (
            error.offset,
            data[error.offset :].split(b"\n", 1)[0].rstrip(b"\r") or data[error.offset :][:1],
        )
    else:  # it is in a value, and the offset counts from the beginning of the value
        value: object = error.value[-1] if isinstance(error.value, list) else error.value
        quoted = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else b""
        offset = _place(error.header, quoted, data, fields)
        if (
            offset is not None
            and error.offset is not None
            and isinstance(value, str)
            and data.startswith(quoted, offset)
        ):
            offset += len(value[: error.offset].encode("utf-8", "surrogateescape"))
    is_secret = error.header in CREDENTIALS or (
        offset is not None and _is_secret(offset, data, fields)
    )
    text = None if is_secret or not quoted else clean(quoted)
    text = start_line(data, True) if is_rest else text
    return {
        "header": error.header,
        # the problem text of a credentials header may quote the credentials
        "problem": "cannot be read" if error.header in CREDENTIALS else error.problem,
        "offset": offset,
        "line": None if offset is None else data.count(b"\n", 0, offset) + 1,
        "text": text if text is None or len(text) <= EXCERPT else text[:EXCERPT] + "…",
    }


def _place(header: str | None, quoted: bytes, data: bytes, fields: list[FieldLine]) -> int | None:
    """Return the offset of the offending text in the lines of its header, or in the start line.

    If it is in none of these lines, return where they begin.
    """
    lines = [field for field in fields if field.name == header]
    if not lines:
        at = data.split(b"\n", 1)[0].find(quoted)
        return (
            max(0, at)
            if header in _START_LINE_PARTS or (header is None and quoted and at >= 0)
            else None
        )
    for field in reversed(lines) if len(lines) > 1 and not quoted else lines:
        colon = data.find(b":", field.start, field.end) + 1
        at = data.find(quoted, colon, field.end) if quoted else -1
        if at >= 0:
            return at
    return lines[-1 if not quoted else 0].start


def _is_secret(offset: int, data: bytes, fields: list[FieldLine]) -> bool:
    """True if a byte is in a line of credentials, even in one that is no valid header line."""
    at = bisect.bisect_right(fields, offset, key=lambda field: field.start) - 1
    if at >= 0 and offset <= fields[at].end:
        return fields[at].name in CREDENTIALS
    begin = data.rfind(b"\n", 0, offset) + 1
    if at >= 0 and b":" not in data[fields[at].end : begin] and fields[at].name in CREDENTIALS:
        return True  # the rest of credentials whose fold is broken
    return (
        data[begin:][:80].lower().startswith(tuple(name.lower().encode() for name in CREDENTIALS))
    )
