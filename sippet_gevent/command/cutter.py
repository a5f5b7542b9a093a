"""Cutter: text with many messages in it, a file or a TCP connection, cut into single ones. RFC 3261
§7, §18.3.

A server that reads a connection must give up where a length is wrong. Who looks for the fault wants
to see the messages after it too, so this one goes on at the next line that looks like a start line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..message.grammar import TOKEN_CHARACTERS
from ..message.parser import DEFAULT_LIMITS

LIMIT = DEFAULT_LIMITS.message
"""Octets of one message, at most: parse() refuses more. What is kept of a text without messages is
no more, either."""

# Request-Line = Method SP Request-URI SP SIP-Version CRLF, Status-Line = SIP-Version SP Status-Code
# SP Reason-Phrase CRLF; no header line can look so: its name is a token, and a colon follows. A
# longer method is the end of a body before it.
_START = re.compile(
    rb"^(?:[%s]{1,64}[ \t]+[^\s:]\S*[ \t]+SIP/[0-9]+\.[0-9]+[ \t]*\r?$|SIP/[0-9]+\.[0-9]+[ \t]+[1-6][0-9]{2}(?![0-9]))"
    % TOKEN_CHARACTERS.encode(),
    re.MULTILINE | re.IGNORECASE,
).search
_BLANK_LINE = re.compile(rb"\n\r?\n").search
_LENGTH = re.compile(
    rb"^(?:content-length|l)[ \t]*:[ \t]*(?:\r?\n[ \t]+)?([0-9]{1,10})[ \t]*\r?$",
    re.MULTILINE | re.IGNORECASE,
).findall
_line_breaks: Callable[[bytearray], re.Match[bytes]] = re.compile(rb"[\r\n]*").match  # type: ignore[assignment]


class Piece(NamedTuple):
    """One message: `data`, which began at octet `offset` of the text. `is_rest`: octets behind one,
    and themselves none."""

    offset: int
    data: bytes
    is_rest: bool = False


class Cutter:
    """Takes text as it comes and returns the messages that are complete: `feed(data)`, and
    `finish()` at the end.

    With `skip`, what precedes the first start line is passed over: a capture begins in the middle
    of things.
    """

    def __init__(self, *, skip: bool = False) -> None:
        self._text = bytearray()
        self._offset = 0
        self._skip = skip
        self._is_begun = False
        self._wanted = 0  # octets that the first message has, once its Content-Length is known
        # octets that were searched in vain; again only when there are twice as many
        self._searched = 0

    def feed(self, data: bytes) -> list[Piece]:
        """Return the messages that this text completes."""
        self._text += data
        size = len(self._text)
        if size < self._wanted or (
            not self._wanted and size <= LIMIT and not self._is_worth_a_look(data, size)
        ):
            return []  # so that octets that come one by one are not searched again for each
        pieces = self._pieces(False)
        self._searched = 0 if pieces else len(self._text)
        return pieces

    def _is_worth_a_look(self, data: bytes, size: int) -> bool:
        """True when a line has ended that may be a blank one or a start line's, or much has come
        since the last look."""
        if b"\n" not in data:
            return False
        return (
            size >= 2 * self._searched
            or b"\n\r\n" in self._text[-len(data) - 3 :]
            or b"\n\n" in self._text[-len(data) - 1 :]
        )

    def finish(self) -> list[Piece]:
        """Return what is left: complete now that nothing follows, or broken off."""
        return self._pieces(True)

    def _pieces(self, at_end: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while True:
            if self._skip and not self._find_start(at_end):
                return pieces
            text = self._text
            self._drop(_line_breaks(text).end())
            if not text:
                return pieces
            end = self._end(at_end)
            if end is None:
                return pieces
            data = bytes(text[:end])
            pieces.append(
                Piece(
                    self._offset,
                    data,
                    self._is_begun and b"sip/" not in data.split(b"\n", 1)[0].lower(),
                )
            )
            self._is_begun = True
            self._wanted = 0
            self._drop(end)

    def _end(self, at_end: bool) -> int | None:
        """Return where the first message ends, or None when that is not known yet."""
        text = self._text
        blank = _BLANK_LINE(text)
        # The next start line; one that stands before the blank line shows that this message has
        # been broken off.
        second = text.find(b"\n") + 1 or len(text)
        following = self._next_start(second, blank.start() if blank else len(text), at_end)
        if blank and following is None:
            lengths = _LENGTH(text, 0, blank.end())
            end = blank.end() + (int(lengths[0]) if len(lengths) == 1 else LIMIT)
            if len(lengths) == 1 and end <= min(len(text), LIMIT):
                return end
            self._wanted = end if end <= LIMIT else 0
            following = (
                self._next_start(blank.end(), len(text), at_end) if at_end or end > LIMIT else None
            )
        if following is not None and following <= LIMIT:
            return following
        if len(text) > LIMIT:
            return self._too_long()
        return len(text) if at_end else None

    def _too_long(self) -> int:
        self._skip = True
        return LIMIT + 1

    def _next_start(self, at: int, end: int, at_end: bool) -> int | None:
        found = _START(self._text, at, end)
        # A line may go on that ends with the text, unless nothing follows.
        return (
            None
            if found is None or (found.end() == len(self._text) and not at_end)
            else found.start()
        )

    def _find_start(self, at_end: bool) -> bool:
        """Drop what precedes the next start line; False when there is none yet."""
        start = _START(self._text)
        if start is not None and (at_end or start.end() < len(self._text)):
            self._drop(start.start())
            self._skip = False
            return True
        line = self._text.rfind(b"\n") + 1
        if len(self._text) - line > LIMIT:
            self._drop(len(self._text) - 1)
            self._text[:1] = b"\0"  # the rest of the line is not the beginning of one
        else:
            self._drop(line)
        return False

    def _drop(self, octets: int) -> None:
        del self._text[:octets]
        self._offset += octets
