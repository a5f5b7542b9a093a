"""Boundaries of multiparts: the delimiter lines between parts, RFC 2046 §5.1.1. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import InvalidValue, ParseError, excerpt
from .fields.rfc3261 import MediaType
from .grammar import BLANKS
from .identifiers import create_tag

PARTS = 64
"""Most delimiter lines in a whole body, close delimiters included. Real bodies have under ten, and
each part is an object."""

BOUNDARY = 70
"""Most characters in a boundary (RFC 2046 §5.1.1)."""

# boundary := 0*69<bchars> bcharsnospace. This is what we write. A boundary that we read may have
# any printable character.
_is_boundary = re.compile(r"[A-Za-z0-9'()+_,\-./:=? ]{0,69}[A-Za-z0-9'()+_,\-./:=?]").fullmatch
_is_readable_boundary = re.compile(rf"[ -~]{{0,{BOUNDARY - 1}}}[!-~]").fullmatch

# The rest of a delimiter line: the hyphens of the close delimiter, and transport-padding.
_TAIL = re.compile(rb"(--)?[ \t]*(?=(\r?\n|\r?\Z))").match


class Division(NamedTuple):
    """Where the delimiter lines of a multipart are."""

    preamble: bytes
    spans: list[tuple[int, int]]
    """Begin and end of each part in the body."""
    epilogue: bytes
    is_closed: bool
    """False if the close delimiter is missing."""
    left: int
    """Delimiter lines that the rest of the whole body may still have."""


def boundary_of(media_type: MediaType) -> bytes:
    """Return the boundary without the blanks at its end, which an element on the path may add (RFC
    2046 §5.1.1). Raises ParseError."""
    given = [name for name in media_type.parameters if name.lower() == "boundary"]
    if len(given) != 1:
        raise ParseError(
            "one boundary is needed" if not given else "boundary appears twice",
            header="Content-Type",
        )
    boundary = (media_type.parameters["boundary"] or "").rstrip(BLANKS)
    if not _is_readable_boundary(boundary):
        raise ParseError(
            f"boundary is not 1 to {BOUNDARY} printable characters",
            header="Content-Type",
            value=boundary,
        )
    return boundary.encode()


def divide(body: bytes, boundary: bytes, left: int) -> Division:
    """Find the parts of a multipart in one pass. Text that only looks like a delimiter costs one
    match of the rest of its line. Raises ParseError.

    Args:
        body: The bytes of the multipart.
        boundary: Its boundary, without the hyphens.
        left: Delimiter lines that it may have.
    """
    # delimiter := CRLF dash-boundary. The first delimiter may lack its line break, so one is put in
    # front of the body.
    delimiter = b"\n--" + boundary
    data = b"\n" + body
    preamble = epilogue = b""
    spans: list[tuple[int, int]] = []
    begin: int | None = None  # of the part behind the last delimiter line
    at = data.find(delimiter)
    while at >= 0:
        tail = _TAIL(data, at + len(delimiter))
        if tail is not None:
            left -= 1
            if left < 0:
                raise ParseError(f"over {PARTS} delimiter lines", header="body", status=413)
            end = at - 1 if data[at - 1 : at] == b"\r" else at
            if begin is None:
                preamble = data[1:end]
            elif end >= begin:
                spans.append((begin - 1, end - 1))
            begin = tail.end(2)
            if tail[1]:
                epilogue = data[begin:]
                return Division(preamble, spans, epilogue, True, left)
        at = data.find(delimiter, at + len(delimiter))
    if begin is None:
        raise ParseError("no delimiter line", header="body", value=body)
    if begin < len(data):
        spans.append((begin - 1, len(data) - 1))
    return Division(preamble, spans, epilogue, False, left)


def join(boundary: str, pieces: Iterable[bytes]) -> bytes:
    """Return the body of a multipart that has these parts."""
    delimiter = b"--" + boundary.encode()
    parts = b"".join([b"%s\r\n%s\r\n" % (delimiter, piece) for piece in pieces])
    return parts + delimiter + b"--\r\n"


def fresh_boundary(pieces: list[bytes]) -> str:
    """Return a new boundary that occurs in none of the parts."""
    while True:
        boundary = create_tag()
        if not any(boundary.encode() in piece for piece in pieces):
            return boundary


def checked_boundary(boundary: str, pieces: list[bytes]) -> str:
    """Return a boundary that an application has chosen. Raises InvalidValue."""
    if not _is_boundary(boundary):
        raise InvalidValue(f"not a boundary (RFC 2046 §5.1.1): {excerpt(boundary)}")
    if any(b"--" + boundary.encode() in piece for piece in pieces):
        raise InvalidValue(f"boundary {boundary!r} occurs in a part")
    return boundary
