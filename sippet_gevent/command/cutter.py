"""Cutter: cuts the text of a file or a TCP connection into messages, RFC 3261 §7 and §18.3.

A server that reads a connection must give up at a wrong length. But a user that looks for the fault
needs the messages behind it, so the Cutter continues at the next line that looks like a start line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..message.grammar import TOKEN_CHARACTERS
from ..message.parser import DEFAULT_LIMITS

LIMIT = DEFAULT_LIMITS.message
"""Most bytes of one message, because parse() refuses more. The Cutter also keeps at most so many
bytes of text in which it finds no message."""

# Request-Line = Method SP Request-URI SP SIP-Version CRLF, Status-Line = SIP-Version SP Status-Code
# SP Reason-Phrase CRLF. A header line cannot match, because a colon follows its name. A method of
# more than 64 characters is taken for the end of the body of the message before.
_START = re.compile(
    rb"^(?:[%s]{1,64}[ \t]+[^\s:]\S*[ \t]+SIP/[0-9]+\.[0-9]+[ \t]*\r?$"
    rb"|SIP/[0-9]+\.[0-9]+[ \t]+[1-6][0-9]{2}(?![0-9]))" % TOKEN_CHARACTERS.encode(),
    re.MULTILINE | re.IGNORECASE,
).search
_BLANK_LINE = re.compile(rb"\n\r?\n").search
_LENGTH = re.compile(
    rb"^(?:content-length|l)[ \t]*:[ \t]*(?:\r?\n[ \t]+)?([0-9]{1,10})[ \t]*\r?$",
    re.MULTILINE | re.IGNORECASE,
).findall
_line_breaks: Callable[[bytearray], re.Match[bytes]] = re.compile(rb"[\r\n]*").match  # type: ignore[assignment]  # it matches always


class Piece(NamedTuple):
    """One message. `data` began at byte `offset` of the text.

    `is_rest` is True for bytes that follow a message and have no start line.
    """

    offset: int
    data: bytes
    is_rest: bool = False


class Cutter:
    """Cuts text into messages. The text may arrive in chunks of any size.

        cutter = Cutter()
        for data in chunks:
            pieces += cutter.feed(data)
        pieces += cutter.finish()

    With `skip`, it ignores the text before the first start line, because a capture may begin in the
    middle of a message.
    """

    def __init__(self, *, skip: bool = False) -> None:
        self._text = bytearray()
        self._offset = 0
        self._skip = skip
        self._is_begun = False
        self._wanted = 0  # length of the first message, once its Content-Length is known
        # bytes searched in vain; the next search waits for twice as many
        self._searched = 0

    def feed(self, data: bytes) -> list[Piece]:
        """Return the messages that this text completes."""
        self._text += data
        size = len(self._text)
        if size < self._wanted or (
            not self._wanted and size <= LIMIT and not self._is_worth_a_look(data, size)
        ):
            return []  # so that single bytes do not cause a search each
        pieces = self._pieces(False)
        self._searched = 0 if pieces else len(self._text)
        return pieces

    def _is_worth_a_look(self, data: bytes, size: int) -> bool:
        """True if a blank line or a start line may have ended, or if much text is new."""
        if b"\n" not in data:
            return False
        return (
            size >= 2 * self._searched
            or b"\n\r\n" in self._text[-len(data) - 3 :]
            or b"\n\n" in self._text[-len(data) - 1 :]
        )

    def finish(self) -> list[Piece]:
        """Return the remaining messages at the end of the text. The last one may be cut off."""
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
        """Return the end of the first message, or None if it is not known yet."""
        text = self._text
        blank = _BLANK_LINE(text)
        # The next start line. If it is before the blank line, this message is cut off.
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
        # The last line may not be complete, unless nothing follows.
        return (
            None
            if found is None or (found.end() == len(self._text) and not at_end)
            else found.start()
        )

    def _find_start(self, at_end: bool) -> bool:
        """Drop the text before the next start line. Return False if there is none yet."""
        start = _START(self._text)
        if start is not None and (at_end or start.end() < len(self._text)):
            self._drop(start.start())
            self._skip = False
            return True
        line = self._text.rfind(b"\n") + 1
        if len(self._text) - line > LIMIT:
            self._drop(len(self._text) - 1)
            self._text[:1] = b"\0"  # so that the rest of the line does not begin one
        else:
            self._drop(line)
        return False

    def _drop(self, count: int) -> None:
        del self._text[:count]
        self._offset += count
