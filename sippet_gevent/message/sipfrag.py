"""Fragments of messages, message/sipfrag, RFC 3420. Pure.

A fragment may lack its last line break. Its Content-Length is a header field like others and cuts
nothing.
"""

from __future__ import annotations

import re

from ..errors import ParseError, excerpt
from .grammar import TOKEN_CHARACTERS
from .headers import Headers
from .message import Message
from .parser import DEFAULT_LIMITS
from .scan import canonical
from .scan import fastest as scan
from .uri import URI

SIPFRAG = "message/sipfrag;version=2.0"
"""The media type of a Fragment (RFC 3420 §5)."""

_TOKEN = rf"[{TOKEN_CHARACTERS}]+"


class Fragment(Message):
    """Some lines of a message: a start line or none, header fields, a body or none (RFC 3420 §2).

    Header fields are attributes, as on messages: `fragment.warning`, `fragment.from_`. Any of them
    may be missing, and is None then. The NOTIFY of a REFER has one as its body:

    ```python
    Fragment.parse(notify.body).status
    ```
    """

    __slots__ = ("_start_line", "method", "reason", "status", "uri")

    @classmethod
    def parse(cls, data: bytes) -> Fragment:
        """Read a fragment. Its header fields are checked on first use, as in messages. Raises
        ParseError."""
        head, line_break, body = cut_head(data)
        first = head.partition(line_break)[0].decode("utf-8", "surrogateescape")
        fragment = cls.__new__(cls)
        fragment._start("" if _HEADER_LINE(first) else first)
        headers = Headers()
        if head:
            with_start = head if fragment._start_line else b"x" + line_break + head
            headers = read_headers(
                with_start, line_break, DEFAULT_LIMITS.headers, DEFAULT_LIMITS.line, "sipfrag"
            )
        headers.wire = bytes(data)
        fragment._fill(headers, body)
        return fragment

    @classmethod
    def of(
        cls, message: Message, *names: str, start_line: bool = True, body: bool = False
    ) -> Fragment:
        """Return a fragment of a message.

        Only the parts that are named are copied, because the reader of a fragment may not be
        allowed to read the message (RFC 3420 §6).

        Args:
            message: The message.
            *names: The header fields to copy.
            start_line: True to copy the start line.
            body: True to copy the body and the fields that describe it.
        """
        fragment = cls.__new__(cls)
        fragment._start(message.start_line if start_line else "")
        wanted = {canonical(name) for name in names}
        lines = [
            line
            for line in message.headers.lines
            if line[0] in wanted or (body and describes(line[0]))
        ]
        fragment._fill(Headers(lines), message.body if body else b"")
        return fragment

    def _fill(self, headers: Headers, body: bytes) -> None:
        self.headers = headers
        self._body = body
        self.flow = None  # type: ignore[assignment]  # as the class says
        self.mandatory = None  # type: ignore[assignment]  # as the class says

    def _start(self, line: str) -> None:
        self._start_line = line
        self.method: str | None = None
        """The method of a Request-Line."""
        self.uri: URI | None = None
        """Its Request-URI."""
        self.status: int | None = None
        """The status of a Status-Line."""
        self.reason: str | None = None
        """Its phrase."""
        if not line:
            return
        if match := _STATUS_LINE(line):
            self.status, self.reason = int(match[1]), match[2] or ""
        elif match := _REQUEST_LINE(line):
            self.method, self.uri = match[1], URI.parse(match[2])
        else:
            raise ParseError(
                "start line is neither a request's nor a status of SIP/2.0",
                header="sipfrag",
                value=line,
            )

    @property
    def start_line(self) -> str:
        """The start line, "" when there is none."""
        return self._start_line

    def __bytes__(self) -> bytes:
        """Return the fragment as it came. After a change it has a Content-Length if there is a body
        (RFC 3420 §2)."""
        if self.headers.wire is not None:
            return self.headers.wire
        text = f"{self._start_line}\r\n" if self._start_line else ""
        text += self.headers.text()
        if self._body:
            text += (
                "\r\n"
                if "Content-Length" in self.headers
                else f"Content-Length: {len(self._body)}\r\n\r\n"
            )
        return text.encode("utf-8", "surrogateescape") + self._body

    def __repr__(self) -> str:
        size = f"{len(self.headers)} header lines, {len(self._body)} bytes"
        return f"<Fragment {excerpt(self._start_line)}, {size}>"


# Status-Line = SIP-Version SP Status-Code SP Reason-Phrase, Request-Line = Method SP Request-URI SP
# SIP-Version
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: ([^\r\n\0]*))?").fullmatch
_REQUEST_LINE = re.compile(rf"({_TOKEN}) (\S+) SIP/2\.0").fullmatch
_HEADER_LINE = re.compile(rf"{_TOKEN}[ \t]*:").match


# ---- header sections, of fragments and of body parts


def describes(name: str) -> bool:
    """True for a header field that describes the body of a message (RFC 8262 §3.3), except its
    length."""
    return (name.startswith("Content-") and name != "Content-Length") or name == "MIME-Version"


def cut_head(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the header lines without their last line break, their line break, and the bytes behind
    the empty line."""
    first = data.find(b"\n")
    line_break = b"\n" if first == 0 or (first > 0 and data[first - 1] != 13) else b"\r\n"
    if data.startswith(line_break):
        return b"", line_break, data[len(line_break) :]
    head, _, body = data.partition(line_break * 2)
    return head.removesuffix(line_break) if len(head) == len(data) else head, line_break, body


def read_headers(
    data: bytes, line_break: bytes, most_lines: int, longest: int, where: str
) -> Headers:
    """Read header lines behind a first line, which may be invented. Raises ParseError for
    `where`."""
    try:
        _, lines, fields, _ = scan(data + line_break * 2, most_lines, longest)
    except ParseError as error:
        status = 413 if error.status == 513 else error.status
        raise ParseError(error.problem, header=where, value=error.value, status=status) from None
    return Headers(lines, fields)
