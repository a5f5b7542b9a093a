"""Line: a line of a session description as written; lines_of() cuts text, RFC 8866 §5. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...errors import ParseError, excerpt
from ..grammar import BLANKS
from .grammar import CRLF, LINES, T


class Line(NamedTuple):
    """A line as it was written.

    `type` is the letter before `=`, or "" for a blank line. `value` is the text behind it. `end` is
    the line end, or None for a line of our own. `number` counts from 1, or is 0 for a line of our
    own.
    """

    type: str
    value: str
    end: str | None = None
    number: int = 0

    def read(self, parse: Callable[[str], T], value: str | None = None) -> T:
        """Return `parse(value)`, where the value is by default that of this line.

        Its ParseError names this line.
        """
        try:
            return parse(self.value if value is None else value)
        except ParseError as error:
            raise self.error(error.problem) from None

    def error(self, problem: str) -> ParseError:
        """Return a ParseError that names this line by number and type, and quotes it."""
        where = f"SDP line {self.number}" if self.number else "SDP"
        text = f"{self.type}={self.value}" if self.type else self.value
        source = text.encode("utf-8", "surrogateescape")
        return ParseError(
            problem,
            header=f"{where}, {self.type}=" if self.type else where,
            value=self.value,
            source=source,
        )


def lines_of(text: bytes | str) -> list[Line]:
    """Cut a description into lines and check the form of each: `type=value`, or blank.

    Raises:
        ParseError: a line has another form, there are more than LINES, or it cannot be encoded.
        TypeError: `text` is neither bytes nor text.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    elif not isinstance(text, str):
        raise TypeError(
            f"a session description must be bytes or text, got {excerpt(text)}: "
            "write SDP.parse(request.body)"
        )
    else:
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ParseError(
                "text with surrogates that cannot be encoded", header="SDP", value=text
            ) from None
    if text.count("\n") > LINES:
        raise ParseError(f"more than {LINES} lines", header="SDP")
    pieces = text.split("\n")
    unfinished = pieces.pop()
    lines = []
    for number, piece in enumerate(pieces, 1):
        if piece.endswith("\r"):
            lines.append(_line(piece[:-1], CRLF, number))
        else:
            lines.append(_line(piece, "\n", number))
    if unfinished:
        lines.append(_line(unfinished, "", len(pieces) + 1))
    return lines


def _line(text: str, end: str, number: int) -> Line:
    if "\0" in text or "\r" in text:
        raise Line("", text, end, number).error("NUL or CR in a line")
    if text[1:2] == "=" and "!" <= text[0] <= "~":
        return Line(text[0], text[2:], end, number)
    if text.strip(BLANKS):
        raise Line("", text, end, number).error("not type=value")
    return Line("", text, end, number)
