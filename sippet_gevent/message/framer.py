"""Framer: cuts the bytes of a stream (TCP, TLS) into whole messages, RFC 3261 §7.5 and §18.3, RFC
5626 §3.5.1. Pure.

scan() and number() find the end of a message, and parse() uses the same functions. So both find the
same length, and a header section that parse() cannot read has no length. A stream is read more
strictly than a datagram, because a wrong length turns the body of one sender into a message of
another (RFC 4475 §3.3.9). So there must be exactly one Content-Length, and each line must end with
CRLF. After a fault the rest of a stream cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..arguments import received
from ..errors import ParseError
from .grammar import TOKEN_CHARACTERS
from .message import Request, Response
from .parser import DEFAULT_LIMITS, ParserLimits, content_length, parse
from .scan import BAD_BREAK, LONG_LINE, Framed, Scanned, fail
from .scan import fastest as scan
from .speedups import c

HEADER_SECTION = 32768
"""Most bytes from the start line to the blank line, half of those of a message. More is a 513. No
more is kept of a header section without end."""

PONG = b"\r\n"
"""The answer to a ping (RFC 5626 §4.4.1)."""

PING = PONG + PONG
"""The ping of a client that keeps its flow alive (RFC 5626 §4.4.1)."""

_END = b"\r\n\r\n"
_MANY = PONG * 512  # skipped at once, because a regular expression would remember each of them
# Method and SIP-Version begin with a character of a token. So TLS, STUN and other protocols are
# recognized by their first byte.
_STARTS = frozenset(b"".join(re.findall(rf"[{TOKEN_CHARACTERS}]".encode(), bytes(range(128)))))

_CR = 13
_USUAL_DIGITS = re.compile(r"[0-9]{1,8}").fullmatch


def usual_length(
    data: bytes | bytearray, at: int, section: int, max_lines: int, max_line: int
) -> int:
    """Return the length of a message without a folded line and with one Content-Length, as _measure
    finds it. 0 for any other message, and before its header section is complete.

    It makes no object for each header line, because most messages in overload are never read.

    Args:
        data: Bytes of a stream.
        at: Index of the start line.
        section: Most bytes of the header section.
        max_lines: Most header lines.
        max_line: Most bytes in a header line.
    """
    end = data.find(_END, at, at + section)
    head = bytes(data[at : end + 4])
    try:
        _, lines, fields, length = scan(head, max_lines, max_line)
    except ParseError:
        return 0
    value = fields.get("Content-Length")
    if (
        length != len(head)
        or type(value) is not str
        or not _USUAL_DIGITS(value)
        or any("\r" in text for _, text, _ in lines)
    ):
        return 0
    return length + int(value)


fastest_length: Callable[[bytes | bytearray, int, int, int, int], int] | None = None
"""usual_length() in C. None where the C extension is not built: the Python version costs more than
it would save for each message."""
if c is not None:
    fastest_length = c.usual_length


class Framer:
    """Cut one direction of one connection into messages. `feed()` takes the bytes that were read,
    in pieces of any size.

    It keeps at most one message within `limits`, and no byte of a body until its Content-Length is
    known to fit. `pings` and `pongs` count keep-alives (RFC 5626 §3.5.1).

    ```python
    framer = Framer()
    for data in framer.feed(sock.recv(65536)):
        message = parse(data)
    if framer.dead:
        sock.close()
    ```
    """

    __slots__ = (
        "_breaks",
        "_kept",
        "_limits",
        "_lined",
        "_needed",
        "_searched",
        "_section",
        "awaits_pong",
        "error",
        "pings",
        "pongs",
    )

    def __init__(self, limits: ParserLimits = DEFAULT_LIMITS) -> None:
        self.error: ParseError | None = None
        """The fault that ended the stream, or None. Its `request` is set if an answer is possible
        before closing."""
        self.pings = 0
        """Double CRLFs so far. Each must be answered with a PONG (RFC 5626 §4.4.1)."""
        self.pongs = 0
        """Single CRLFs so far. A CRLF counts at once, and no longer counts if a second CRLF makes
        it a ping."""
        self.awaits_pong = False
        """True after a ping of ours: the next CRLF is its pong and not half of a ping."""
        self._limits = limits
        self._section = min(HEADER_SECTION, limits.message)
        self._kept = bytearray()  # the first bytes of a message, or half a CRLF
        self._needed = 0  # bytes of the whole message, once its header section is complete
        self._searched = 0  # kept bytes that need no second search
        self._lined = False  # the start line is complete
        self._breaks = 0  # CRLFs since the last message

    @property
    def dead(self) -> bool:
        """True after a fault, because the rest of the stream cannot be trusted. Answer
        `error.request`, if there is one, and close the connection."""
        return self.error is not None

    @property
    def pending(self) -> int:
        """Bytes of a message that is not complete. At the end of the stream they are lost."""
        return len(self._kept) if self.in_message else 0

    @property
    def in_message(self) -> bool:
        """True from the first byte of a message to its last, while the deadline of a message
        applies."""
        return bool(self._kept) and self._kept[0] != _CR

    @property
    def in_body(self) -> bool:
        """True if the header section is complete and the body is not, so that the deadline of the
        header section is met."""
        return self._needed > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the messages that they complete, each for parse(). Look at `error`
        and `pings` afterwards.

        The messages before a fault are returned, and `error` is the fault: 400, 413 or 513. A
        message that parse() refuses leaves the stream in order: drop a broken response, answer a
        broken request, and close the connection if it is neither.

        Raises:
            ParseError: The stream was dead before.
            TypeError: The data is no bytes.
        """
        if self.error is not None:
            raise self.error
        if isinstance(data, str):
            data = received("data", data, "feed({})")
        messages: list[bytes] = []
        limits = self._limits
        source: bytes | bytearray = data
        if self._kept:
            self._kept += data
            source = self._kept
        at, size = 0, len(source)
        try:
            while at < size:
                if not self._searched and source[at] not in _STARTS:
                    at = self._start(source, at)
                    if at == size or source[at] == _CR:
                        break
                needed, scanned = self._needed, None
                if not needed:
                    if fastest_length is not None and not self._searched:
                        section, headers = self._section, limits.headers
                        needed = fastest_length(source, at, section, headers, limits.line)
                    if not needed or needed > limits.message:
                        needed, scanned = self._measure(source, at, size)
                if not needed or needed > size - at:
                    self._needed = needed
                    break
                if scanned is None:
                    messages.append(bytes(source[at : at + needed]))
                else:
                    message = Framed(source[at : at + needed])
                    message.scanned, message.limits = scanned, limits
                    messages.append(message)
                at += needed
                self._needed = self._searched = self._breaks = 0
                self._lined = False
        except ParseError as error:
            self.error = error
            self._kept = bytearray()
            self._needed = 0
            return messages
        if source is self._kept:
            del self._kept[:at]
        elif at < size:
            self._kept += data[at:]
        return messages

    def _start(self, source: bytes | bytearray, at: int) -> int:
        """Skip and count the CRLFs before a start line (§7.5). Return the index of the start line
        or of half a CRLF. Raises ParseError."""
        if source[at] == _CR:
            before = at
            while source.startswith(_MANY, at):
                at += len(_MANY)
            while source.startswith(PONG, at):
                at += len(PONG)
            breaks = self._breaks + (at - before) // len(PONG)
            if self.awaits_pong and at > before:
                self.awaits_pong = False
                self.pongs += 1
                breaks -= 1
            self.pings += breaks // 2 - self._breaks // 2
            self.pongs += breaks % 2 - self._breaks % 2
            self._breaks = breaks
            if at == len(source) or (source[at] == _CR and at + 1 == len(source)):
                return at
        if source[at] not in _STARTS:
            raise ParseError(
                "not the start of a message", value=bytes(source[at : at + 81]), offset=0
            )
        return at

    def _measure(self, source: bytes | bytearray, at: int, size: int) -> tuple[int, Scanned | None]:
        """Return the length of the message that begins at `at`, and what scan() found in it. The
        length is 0 until the header section is complete.

        Raises ParseError.
        """
        last = at + self._section
        searched = self._searched
        end = source.find(_END, at + searched - 3 if searched > 3 else at, last)
        if end < 0:
            self._look_at_start_line(source, at, size)
            if size >= last:
                error = ParseError(f"header section over {self._section} bytes", status=513)
                raise self._answerable(error, bytes(source[at:last]))
            self._searched = size - at
            return 0, None
        head = bytes(source[at : end + 4])
        limits = self._limits
        try:
            scanned = scan(head, limits.headers, limits.line)
            fields, length = scanned[2:]
            if length != len(head):
                fail(BAD_BREAK, head, head.index(b"\n"))  # bare LFs have ended it earlier
            if fields.get("Content-Length") != "0":
                length += content_length(fields)
            if length > limits.message:
                raise ParseError(
                    f"makes the message one of over {limits.message} bytes",
                    header="Content-Length",
                    value=fields["Content-Length"],
                    status=413,
                )
        except ParseError as error:
            self._look_at_start_line(source, at, size)
            raise self._answerable(error, head) from None
        self._searched = size - at
        return length, scanned

    def _look_at_start_line(self, source: bytes | bytearray, at: int, size: int) -> None:
        """Refuse data that is not text, and a peer that ends lines with bare LFs, before the header
        section is complete. No blank line would ever end it."""
        if self._lined:
            return
        longest = at + self._limits.line + 2
        end = source.find(b"\n", at + self._searched, longest)
        if end >= 0:
            if source[end - 1] != _CR:
                fail(BAD_BREAK, bytes(source[at : end + 1]), end - at)
            self._lined = True
        elif size >= longest:
            fail(LONG_LINE, bytes(source[at:longest]), 0)

    def _answerable(self, error: ParseError, head: bytes) -> ParseError:
        """Set the request of an error to the one that parse() finds in the header section, for the
        answer."""
        try:
            message: Request | Response | None = parse(head, self._limits)
        except ParseError as found:
            message = found.request
        if isinstance(message, Request) and "Via" in message.headers:
            error.request = message
        return error
