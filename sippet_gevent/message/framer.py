"""Framer: cuts the octets of a stream (TCP, TLS) into whole messages, RFC 3261 §7.5 and §18.3, RFC
5626 §3.5.1. Pure.

Where a message ends is said by scan() and number(), which parse() reads it with: a message cannot
be of one length here and of another there, and a header section that parse() would not read line by
line has no length at all. A stream has less licence than a datagram, since one wrong length makes a
message of somebody else's body (RFC 4475 §3.3.9 shows it): Content-Length must stand there, once,
and every line ends with CRLF. After a fault the rest of a stream means nothing.
"""

from __future__ import annotations

import re

from ..arguments import received
from ..errors import ParseError
from .grammar import TOKEN_CHARACTERS
from .message import Request, Response
from .parser import DEFAULT_LIMITS, ParserLimits, content_length, parse
from .scan import BAD_BREAK, LONG_LINE, Framed, Scanned, fail
from .scan import fastest as scan

HEADER_SECTION = 32768
"""Octets from the start line to the blank line, at most (513): half a message; what has no end is
kept so far only."""

PONG = b"\r\n"
"""What answers a ping (RFC 5626 §4.4.1)."""

PING = PONG + PONG
"""What a client sends to keep its flow alive (RFC 5626 §4.4.1)."""

_END = b"\r\n\r\n"
_MANY = PONG * 512  # skipped at once; a regular expression would remember each of them
# Method and SIP-Version start with a token's character: TLS, STUN and other strangers are known by
# their first octet.
_STARTS = frozenset(b"".join(re.findall(rf"[{TOKEN_CHARACTERS}]".encode(), bytes(range(128)))))

_CR = 13


class Framer:
    """Cut one direction of one connection into messages: `feed()` takes what was read, in pieces of
    any size.

    How the stream is cut into pieces makes no difference. No more is kept than one message within
    `limits`, and no octet of a body before its Content-Length was found to fit. `pings` and `pongs`
    count keep-alives (RFC 5626 §3.5.1).
    """

    __slots__ = (
        "_breaks", "_kept", "_limits", "_lined", "_needed", "_searched", "_section", "awaits_pong", "error", "pings", "pongs",
    )  # fmt: skip

    def __init__(self, limits: ParserLimits = DEFAULT_LIMITS) -> None:
        self.error: ParseError | None = None
        """Why the stream is dead, or None. Its `request` is set when an answer is possible before
        closing."""
        self.pings = 0
        """Double CRLFs so far, each owed a PONG (RFC 5626 §4.4.1)."""
        self.pongs = 0
        """Single CRLFs so far. One counts at once, and no longer when a second makes a ping of
        it."""
        self.awaits_pong = False
        """Set after a ping of ours: the next CRLF is its pong and no half of a ping, however many
        come together."""
        self._limits = limits
        self._section = min(HEADER_SECTION, limits.message)
        self._kept = bytearray()  # a message's first octets, or half a CRLF
        self._needed = 0  # octets of the whole message, once its header section is here
        self._searched = 0  # octets kept that need not be searched again
        self._lined = False  # the start line is here
        self._breaks = 0  # CRLFs since the last message

    @property
    def dead(self) -> bool:
        """True after a fault: nothing on this stream can be trusted any more; answer
        `error.request` if any, and close."""
        return self.error is not None

    @property
    def pending(self) -> int:
        """Octets of a message that is not whole yet: at the end of the stream, what was lost."""
        return len(self._kept) if self.in_message else 0

    @property
    def in_message(self) -> bool:
        """True from a message's first octet to its last: the deadline of a whole message counts."""
        return bool(self._kept) and self._kept[0] != _CR

    @property
    def in_body(self) -> bool:
        """True when the header section is here and the body is not: the deadline of a header
        section has been met."""
        return self._needed > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take octets and return the messages they complete, each for parse(). Then look at `error`
        and at `pings`.

        The messages before a fault are returned, and the fault is `error`: 400, 413 or 513. Raises
        it again when the stream was dead before. A message that parse() refuses leaves the stream
        in order: a broken response is dropped, a broken request answered. What is neither comes
        from somebody who does not speak SIP: close.
        """
        if self.error is not None:
            raise self.error
        if isinstance(data, str):
            data = received("data", data, "feed({})")
        messages: list[bytes] = []
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
                    needed, scanned = self._measure(source, at, size)
                if not needed or needed > size - at:
                    self._needed = needed
                    break
                message = Framed(source[at : at + needed])
                if scanned is not None:
                    message.scanned, message.limits = scanned, self._limits
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
        """Skip and count the CRLFs before a start line (§7.5); return where it, or half a CRLF,
        starts. Raises ParseError."""
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
        """Return the octets of the message that starts here, 0 while its header section has no end,
        and what scan() found.

        Raises ParseError.
        """
        last = at + self._section
        searched = self._searched
        end = source.find(_END, at + searched - 3 if searched > 3 else at, last)
        if end < 0:
            self._look_at_start_line(source, at, size)
            if size >= last:
                error = ParseError(f"header section over {self._section} octets", status=513)
                raise self._answerable(error, bytes(source[at:last]))
            self._searched = size - at
            return 0, None
        head = bytes(source[at : end + 4])
        limits = self._limits
        try:
            scanned = scan(head, limits.headers, limits.line)
            fields, length = scanned[2:]
            if length != len(head):
                fail(BAD_BREAK, head, head.index(b"\n"))  # bare LFs have ended it before
            if fields.get("Content-Length") != "0":
                length += content_length(fields)
            if length > limits.message:
                raise ParseError(
                    f"makes the message one of over {limits.message} octets",
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
        """Refuse at once what is no text, and who ends lines with bare LFs: his blank line would be
        waited for in vain."""
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
        """Give an error the request that its answer needs, as much of it as parse() finds in the
        header section alone."""
        try:
            message: Request | Response | None = parse(head, self._limits)
        except ParseError as found:
            message = found.request
        if isinstance(message, Request) and "Via" in message.headers:
            error.request = message
        return error
