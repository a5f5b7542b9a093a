"""Bodies as trees of parts, RFC 5621, RFC 2046 §5.1, RFC 2387. Pure.

`Part.of(message)` reads a body, and `multipart("mixed", [part, part])` makes one. Nothing is read
before it is needed. A body is bytes until `Part.of()`, and `content` undoes an encoding.

The table says how parts that break RFC 2046 §5.1.1 are treated. It makes this file longer than
others. A number is the status of the ParseError. Parts that are taken are kept unchanged. Parts
that the library makes always follow the grammar.

| a multipart with | is |
|---|---|
| no boundary parameter | 400 |
| two boundary parameters | 400 |
| an empty boundary | 400 |
| a boundary over 70 characters | 400 |
| a boundary with control characters or beyond US-ASCII | 400 |
| a boundary with other printable characters | taken |
| an unquoted boundary that should be quoted | taken |
| a boundary that ends with blanks | taken without them |
| a body without a delimiter line | 400 |
| an empty body | 400 |
| a close delimiter and no part | taken: no parts |
| no close delimiter | taken: the last part goes on to the end, `is_closed` is False |
| no close delimiter and nothing after the last delimiter line | taken: that line begins no part |
| blanks after a delimiter | taken |
| text after a delimiter | taken as content: no delimiter |
| a delimiter that does not begin a line | taken as content |
| a delimiter that begins after a bare CR | taken as content |
| a boundary that another one begins with | taken: only the whole line counts |
| two delimiter lines in a row | taken: no part between them |
| line ends of LF only | taken |
| a delimiter after a bare LF, other line ends being CRLF | taken |
| line ends of both kinds within one header section | 400 |
| a delimiter of the outer one inside the inner one | taken: it ends the inner one (§5.1.2) |
| the inner boundary equal to the outer one | 400 |
| text before the first and after the last delimiter | taken as preamble and epilogue |
| delimiter lines after the close delimiter | taken as epilogue |
| a part without header fields | taken as text/plain |
| a part without the empty line | taken: header fields, no body |
| a part with a line that is no header field | 400 |
| a part with a broken Content-Type | 400 |
| a part with two Content-Types that differ | 400 |
| a part with a broken Content-Disposition | 400 |
| a part with header names in compact form | taken |
| an encoding other than 7bit, 8bit and binary | 400 |
| a Content-Encoding | taken as one part: nothing is inflated |
| more levels than DEPTH | 413 |
| more delimiter lines than PARTS | 413 |
| a part with more header lines than PART_LINES | 413 |
| a part with a header section over PART_HEADER | 413 |

`multipart/related` whose start names none of its parts has its first part as root.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from ..errors import InvalidValue, ParseError, excerpt
from .boundary import PARTS, boundary_of, divide
from .fields.extensions import ContentID as ContentID
from .fields.rfc3261 import MediaType, Text, Token
from .grammar import BLANKS, QUOTED, TOKEN_CHARACTERS
from .header import ONE, Header
from .headers import Headers
from .message import Message, Request, Response
from .parameters import unescape
from .parser import parse
from .scan import USUAL, Line
from .sipfrag import Fragment, cut_head, describes, read_headers
from .transfer_encoding import AS_IT_IS, DECODERS
from .uri import URI

DEPTH = 8
"""Most levels of multiparts inside each other. Signed, mixed and alternative are three, and each
level reads the body once more."""

PART_LINES = 32
"""Most header lines of a part. Only eight header fields have a meaning in a part."""

PART_HEADER = 8192
"""Most bytes in the header section of a part: the length that one header line of a message may
have."""

# media-type = m-type SLASH m-subtype *(SEMI m-parameter), m-parameter = m-attribute EQUAL (token /
#   quoted-string)
# Content-Disposition = disp-type *( SEMI disp-param ), disp-param = handling-param / generic-param
_TOKEN = rf"[{TOKEN_CHARACTERS}]+"
_is_media_type = re.compile(
    rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{QUOTED}))*"
).fullmatch
_is_disposition = re.compile(
    rf"{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}(?:=(?:{_TOKEN}|{QUOTED}))?)*"
).fullmatch
_STRICTLY = {"Content-Type": _is_media_type, "Content-Disposition": _is_disposition}

_TEXT_PLAIN = MediaType("text", "plain")
_RFC822 = MediaType("message", "rfc822")

# The type of a part whose Content-Type is missing (RFC 2045 §5.2), by the subtype of the multipart
# around it (RFC 2046 §5.1.5).
_DEFAULT_TYPES = {"digest": _RFC822}

# The disposition of a part whose Content-Disposition is missing (RFC 3261 §20.11, RFC 3204 §3.1,
# §3.2). Of all other types it is "render".
_DEFAULT_DISPOSITIONS = {
    "application/sdp": "session",
    "application/isup": "signal",
    "application/qsig": "signal",
}

_UNDONE = ("identity",)  # a Content-Encoding that changes nothing


def _bare(text: str) -> str:
    """Return a Content-ID without its brackets. Nothing else is checked, because peers forget the
    brackets and the "@"."""
    text = text.strip(BLANKS)
    return text[1:-1] if text[:1] == "<" and text[-1:] == ">" else text


class Part:
    """A body or a body part: its header fields, its bytes and, for a multipart, the parts in it.

    ```python
    Part(sdp, "application/sdp", content_disposition="session")
    ```

    A part is a value: `replace()` and `multipart()` make others.

    Args:
        body: Its bytes; text becomes UTF-8.
        content_type: Its media type.
        **headers: The header fields below.

    Raises:
        InvalidValue: A header field breaks its grammar, or the type is a multipart and the body is
            not.
        TypeError: A keyword is not a header field of a part.
    """

    __slots__ = (
        "_default",
        "_spans",
        "body",
        "epilogue",
        "headers",
        "is_closed",
        "is_multipart",
        "parts",
        "preamble",
    )

    #                                     name                 compact kind type
    content_description = Header("Content-Description", None, ONE, Text)  # RFC 2045 §8
    content_disposition = Message.content_disposition
    content_encoding = Message.content_encoding
    content_id = Message.content_id
    content_language = Message.content_language
    content_transfer_encoding = Header("Content-Transfer-Encoding", None, ONE, Token)  # RFC 2045 §6
    content_type = Message.content_type
    mime_version = Message.mime_version

    def __init__(self, body: bytes | str, content_type: MediaType | str, **headers: Any) -> None:
        self._set(Headers(), body.encode() if isinstance(body, str) else bytes(body))
        for name, value in {"content_type": content_type, **headers}.items():
            row = getattr(Part, name, None)
            if not isinstance(row, Header):
                raise TypeError(
                    f"{name} is no header field of a part: write content_disposition= or another "
                    "content_… field"
                )
            self.headers.assign(row, value)
        for name, text in self.headers.items():
            strictly = _STRICTLY.get(name)
            if not text.isascii() or (strictly and not strictly(text)):
                raise InvalidValue(
                    f"{name}: not by the grammar (RFC 2046 §5.1, RFC 3261 §25.1): {excerpt(text)}"
                )
        try:
            _divide(self, 1, PARTS)
        except ParseError as error:
            raise InvalidValue(f"body of a part: {error}") from error

    def _set(self, headers: Headers, body: bytes, default: MediaType = _TEXT_PLAIN) -> Part:
        self.headers = headers
        """Its header lines. `headers.wire` has the bytes that they came in, with the empty line."""
        self.body = body
        """Its bytes, still encoded. Those of a multipart include the delimiters."""
        self.parts: tuple[Part, ...] = ()
        """The parts of a multipart, in order."""
        self.preamble = self.epilogue = b""
        self.is_multipart = False
        self.is_closed = True
        """False for a multipart without close delimiter, whose end is missing."""
        self._default = default
        self._spans: list[tuple[int, int]] = []  # begin and end of each part in the body
        return self

    @classmethod
    def of(cls, message: Message) -> Part:
        """Read the body of a message, with the header fields that describe it (RFC 8262 §3.3).
        Raises ParseError.

        A body that is not a multipart is one part, even if it is empty. All levels of multiparts
        are read at once. Later only `content`, `fragment` and `message` raise.
        """
        if not hasattr(message, "headers"):
            raise TypeError(
                f"message must be a Request or a Response, got {excerpt(message)}: "
                "write Part.of(request)"
            )
        lines: list[Line] = [
            (name, USUAL, text) for name, text in message.headers.items() if describes(name)
        ]
        part = cls.__new__(cls)._set(Headers(lines), message.body)
        try:
            _divide(part, 1, PARTS)
        except ParseError as error:
            error.source = message
            raise
        return part

    def put_in(self, message: Message) -> None:
        """Make this the body of `message`. Its header fields replace those that described the old
        body (RFC 8262 §3.3)."""
        message.body = self.body
        for name in list(message.headers):
            if describes(name):
                del message.headers[name]
        for name, text in self.headers.items():
            message.headers.add(name, text)

    # ---- what it is

    @property
    def media_type(self) -> MediaType:
        """Its Content-Type, or the default: text/plain, in a digest message/rfc822 (RFC 2045 §5.2,
        RFC 2046 §5.1.5)."""
        given = self.content_type
        return self._default if given is None else given

    @property
    def disposition(self) -> str:
        """Its disposition type in lower case, or the default for its media type (RFC 3261 §20.11,
        RFC 3204 §3)."""
        given = self.content_disposition
        return (
            _DEFAULT_DISPOSITIONS.get(self.media_type.name, "render")
            if given is None
            else given.value.lower()
        )

    @property
    def is_optional(self) -> bool:
        """True with `handling=optional`. A user agent that does not understand an optional part
        ignores it (RFC 3204 §3.1). Every other part is required."""
        given = self.content_disposition
        return given is not None and (given.parameters.get("handling") or "").lower() == "optional"

    @property
    def content(self) -> bytes:
        """Its bytes with the Content-Transfer-Encoding undone. SIP bodies seldom have one (RFC 5621
        §3.2).

        Raises ParseError: 415 for an unknown encoding, 400 for broken base64.
        """
        decoder = DECODERS.get(self._encoding)
        if decoder is None:
            encoding = self._encoding
            raise ParseError(
                "unknown",
                header="Content-Transfer-Encoding",
                value=encoding,
                status=415,
                source=self.body,
            )
        try:
            return decoder(self.body)
        except ParseError as error:
            error.source = self.body
            raise

    @property
    def _encoding(self) -> str:
        return (self.content_transfer_encoding or "binary").lower()

    @property
    def fragment(self) -> Fragment | None:
        """Its message/sipfrag or message/sip; None for other types. Raises ParseError."""
        if self.media_type.name not in ("message/sipfrag", "message/sip"):
            return None
        try:
            return Fragment.parse(self.content)
        except ParseError as error:
            error.source = self.body
            raise

    @property
    def message(self) -> Request | Response | None:
        """The whole message of a message/sip (RFC 3261 §23.4); None for other types. Raises
        ParseError.

        A message that lacks a mandatory field can be read as `fragment`.
        """
        if self.media_type.name != "message/sip":
            return None
        try:
            return parse(self.content)
        except ParseError as error:
            # The request to answer is the one that carries this message.
            error.request = None
            error.source = self.body
            raise

    # ---- what is in it

    def walk(self) -> Iterator[Part]:
        """Yield this part and all below it, in their order."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def find(self, *types: str) -> Part | None:
        """Return the part to use of these media types, the first of `find_all`, or None."""
        return next(iter(self.find_all(*types)), None)

    def find_all(self, *types: str) -> list[Part]:
        """Return the parts of these media types, `type/subtype` or `type/*`.

        Of a multipart/alternative only the last part that has any is searched (RFC 2046 §5.1.4), so
        name all types that you understand. A multipart/related is searched from its root on. A part
        that is found is not searched itself. Empty parts are left out, because peers send a
        Content-Type without a body, which is allowed (RFC 3261 §20.15).
        """
        return self._find({name.lower() for name in types})

    def _find(self, wanted: set[str]) -> list[Part]:
        if self._is_one_of(wanted):
            return [self] if self.body else []
        found: list[Part] = []
        alternative = self._is_alternative
        for part in reversed(self.parts) if alternative else self._from_root():
            found += part._find(wanted)
            if found and alternative:
                break
        return found

    def _is_one_of(self, types: Collection[str]) -> bool:
        media_type = self.media_type
        return any(name in types for name in (media_type.name, f"{media_type.type}/*", "*/*"))

    @property
    def _is_alternative(self) -> bool:
        return self.is_multipart and self.media_type.subtype == "alternative"

    @property
    def root(self) -> Part | None:
        """The root of a multipart/related: the part that `start` names, or the first part (RFC 2387
        §3.2). None for other types."""
        if not self.parts or self.media_type.subtype != "related":
            return None
        start = _bare(self.media_type.parameters.get("start") or "")
        return next((part for part in self.parts if start and part._is_named(start)), self.parts[0])

    def _from_root(self) -> list[Part]:
        root = self.root
        return (
            list(self.parts)
            if root is None
            else [root, *[part for part in self.parts if part is not root]]
        )

    def by_id(self, content_id: ContentID | URI | str) -> Part | None:
        """Return the part, this one included, that a Content-ID or `cid:` URL names, or None (RFC
        2392, RFC 8262 §5)."""
        wanted = content_id.id if isinstance(content_id, ContentID) else str(content_id)
        wanted = unescape(wanted[4:]) if wanted[:4].lower() == "cid:" else _bare(wanted)
        return next((part for part in self.walk() if part._is_named(wanted)), None)

    def _is_named(self, content_id: str) -> bool:
        text = self.headers.get("Content-ID")
        return text is not None and _bare(text) == content_id

    def not_understood(
        self,
        *types: str,
        dispositions: Collection[str] | None = None,
        encodings: Collection[str] = (),
    ) -> list[Part]:
        """Return the parts that are required and not understood. A core refuses a request with such
        parts with 415 (RFC 5621 §8.4).

        A part of an optional multipart is optional. An alternative is understood if one of its
        parts is, whatever their own handling is (§8.2, §8.3). A message without body and
        Content-Type has nothing to understand. The disposition of a by-reference part (§9.4) must
        be named.

        Args:
            *types: The media types that are understood.
            dispositions: The disposition types that are understood; None for all.
            encodings: The Content-Encodings that are understood (RFC 3261 §8.2.3).
        """
        known = {name.lower() for name in types}
        uses = None if dispositions is None else {name.lower() for name in dispositions}
        return (
            []
            if self.is_optional
            else self._not_understood(known, uses, {*_UNDONE, *map(str.lower, encodings)})
        )

    def _not_understood(
        self, types: set[str], uses: set[str] | None, encodings: set[str]
    ) -> list[Part]:
        if self._is_alternative:
            ok = any(not part._not_understood(types, uses, encodings) for part in self.parts)
            return [] if ok else [self]
        if self.is_multipart:
            required = [part for part in self.parts if not part.is_optional]
            return [
                found for part in required for found in part._not_understood(types, uses, encodings)
            ]
        if not self.body and "Content-Type" not in self.headers:
            return []
        understood = (
            self._is_one_of(types)
            and (uses is None or self.disposition in uses)
            and self._encoding in DECODERS
            and encodings.issuperset(self._encodings())
        )
        return [] if understood else [self]

    def _encodings(self) -> set[str]:
        return {name.lower() for name in self.content_encoding}

    # ---- bytes

    def replace(self, old: Part, new: Part) -> Part:
        """Return a copy of this tree that has `new` in the place of `old`. All other bytes stay.

        Raises InvalidValue if `old` is not in the tree, or if a boundary around it occurs in `new`.
        """
        changed = self._replace(old, new)
        if changed is None:
            raise InvalidValue(f"{old!r} is not a part of {self!r}")
        return changed

    def _replace(self, old: Part, new: Part) -> Part | None:
        if self is old:
            return new
        for (begin, end), part in zip(self._spans, self.parts):
            changed = part._replace(old, new)
            if changed is not None:
                octets = bytes(changed)
                if b"--" + boundary_of(self.media_type) in octets:
                    raise InvalidValue(f"{new!r} has the boundary of {self!r} in it")
                headers = self.headers.copy()
                headers.wire = self.headers.wire
                whole = Part.__new__(Part)._set(
                    headers, self.body[:begin] + octets + self.body[end:], self._default
                )
                _divide(whole, 1, PARTS)
                return whole
        return None

    def __bytes__(self) -> bytes:
        """Header fields, empty line and body, as between two delimiters (RFC 2046 §5.1.1)."""
        head = self.headers.wire
        return (
            f"{self.headers.text()}\r\n".encode("utf-8", "surrogateescape")
            if head is None
            else head
        ) + self.body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.headers == other.headers and self.body == other.body

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def __repr__(self) -> str:
        within = f", parts {len(self.parts)}" if self.is_multipart else ""
        return f"<Part {self.media_type.name}{within}, {len(self.body)} bytes>"


# ---- reading

# Read at once, so that they do not raise later.
_USED: tuple[Header[Any], ...] = (
    Part.content_type,
    Part.content_disposition,
    Part.content_encoding,
    Part.content_transfer_encoding,
)


def _divide(part: Part, depth: int, left: int) -> int:
    """Find the parts of a multipart, and their parts. The body may have `left` more delimiter
    lines; returns how many remain."""
    for row in _USED:
        part.headers.typed(row)
    media_type = part.media_type
    if media_type.type != "multipart" or not part._encodings().issubset(_UNDONE):
        return left
    if depth > DEPTH:
        raise ParseError(f"multiparts over {DEPTH} levels deep", header="body", status=413)
    if part._encoding not in AS_IT_IS:  # RFC 2046 §5.1
        raise ParseError(
            "not for a multipart", header="Content-Transfer-Encoding", value=part._encoding
        )
    part.is_multipart = True
    division = divide(part.body, boundary_of(media_type), left)
    part.preamble, part._spans, part.epilogue, part.is_closed, left = division
    default = _DEFAULT_TYPES.get(media_type.subtype, _TEXT_PLAIN)
    parts = []
    for begin, end in part._spans:
        inner = _read(part.body[begin:end], default)
        left = _divide(inner, depth + 1, left)
        parts.append(inner)
    part.parts = tuple(parts)
    return left


def _read(data: bytes, default: MediaType) -> Part:
    # body-part := MIME-part-headers [CRLF *OCTET]
    head, line_break, body = cut_head(data)
    if len(head) > PART_HEADER:
        raise ParseError(f"header section over {PART_HEADER} bytes", header="body part", status=413)
    headers = (
        read_headers(b"x" + line_break + head, line_break, PART_LINES, PART_HEADER, "body part")
        if head
        else Headers()
    )
    section = data[: len(data) - len(body)]
    # Others are written again, with CRLFs and the empty line.
    if section in (head + b"\r\n\r\n", b"\r\n"):
        headers.wire = section
    return Part.__new__(Part)._set(headers, body, default)
