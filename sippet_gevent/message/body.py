"""Bodies as trees of parts, RFC 5621, RFC 2046 §5.1, RFC 2387. Pure.

`Part.of(message)` reads, `multipart("mixed", [part, part])` makes, and nothing is looked into
before it is asked for: a body is bytes until somebody wants its parts, an encoding is undone when
somebody reads `content`.

What peers send instead of RFC 2046 §5.1.1, and what becomes of it. A number is the status of the
ParseError. What is taken is kept as it came; what is written here is by the grammar always.

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
"""Levels of multiparts inside each other, at most: signed, mixed and alternative are three; each
level is one more reading."""

PART_LINES = 32
"""Header lines of a part, at most: there are eight fields that mean anything in one."""

PART_HEADER = 8192
"""Octets in the header section of a part, at most: as long as one header line of a message may
be."""

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

# What a part is when its Content-Type is missing (RFC 2045 §5.2), by the subtype it stands in (RFC
# 2046 §5.1.5).
_DEFAULT_TYPES = {"digest": _RFC822}

# What a part is for when its Content-Disposition is missing: RFC 3261 §20.11, RFC 3204 §3.1 and
# §3.2; else "render".
_DEFAULT_DISPOSITIONS = {
    "application/sdp": "session",
    "application/isup": "signal",
    "application/qsig": "signal",
}

_UNDONE = ("identity",)  # the Content-Encoding that is none


def _bare(text: str) -> str:
    """Return a Content-ID without its brackets, whatever else it is: peers forget the brackets and
    the "@"."""
    text = text.strip(BLANKS)
    return text[1:-1] if text[:1] == "<" and text[-1:] == ">" else text


class Part:
    """A body or a body part: its header fields, its octets and, for a multipart, the parts in it.

    `Part(sdp, "application/sdp", content_disposition="session")` makes one; keywords are the header
    fields below. Raises InvalidValue for what the grammar does not have, TypeError for an unknown
    keyword. A part is a value: `replace()` and `multipart()` make others.
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
                raise TypeError(f"{name} is no header of a part")
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
        """Its header lines; in `headers.wire` the octets they came in, with the empty line."""
        self.body = body
        """Its octets, still encoded; of a multipart all of them, delimiters included."""
        self.parts: tuple[Part, ...] = ()
        """The parts of a multipart, in order."""
        self.preamble = self.epilogue = b""
        self.is_multipart = False
        self.is_closed = True
        """False for a multipart without close delimiter: something is missing."""
        self._default = default
        self._spans: list[tuple[int, int]] = []  # where each of the parts stands in the body
        return self

    @classmethod
    def of(cls, message: Message) -> Part:
        """Read the body of a message, with the header fields that describe it (RFC 8262 §3.3).
        Raises ParseError.

        A body that is no multipart is one part, an empty one too. All levels of multiparts are read
        at once, so nothing that is asked of the parts later raises, but `content`, `fragment` and
        `message`.
        """
        if not hasattr(message, "headers"):
            raise TypeError(
                f"message must be a Request or a Response, got {excerpt(message)}: write Part.of(request)"
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
        """Make this the body of `message`: its header fields replace all that described the old one
        (RFC 8262 §3.3)."""
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
        """What it is for, in lower case: its disposition type, or the default (RFC 3261 §20.11, RFC
        3204 §3)."""
        given = self.content_disposition
        return (
            _DEFAULT_DISPOSITIONS.get(self.media_type.name, "render")
            if given is None
            else given.value.lower()
        )

    @property
    def is_optional(self) -> bool:
        """True with `handling=optional`: who does not understand it ignores it (RFC 3204 §3.1).
        Anything else is required."""
        given = self.content_disposition
        return given is not None and (given.parameters.get("handling") or "").lower() == "optional"

    @property
    def content(self) -> bytes:
        """Its octets with the Content-Transfer-Encoding undone; in SIP that is mostly none (RFC
        5621 §3.2).

        Raises ParseError: 415 for an encoding that nobody knows, 400 for broken base64.
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
        """The message/sipfrag, or message/sip, in it; None for other types. Raises ParseError."""
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

        One that lacks what every message must have can be read as `fragment`.
        """
        if self.media_type.name != "message/sip":
            return None
        try:
            return parse(self.content)
        except ParseError as error:
            # it is nobody's request: the one to answer is the message that carries it
            error.request = None
            error.source = self.body
            raise

    # ---- what is in it

    def walk(self) -> Iterator[Part]:
        """Yield this part and all below it, in the order they stand."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def find(self, *types: str) -> Part | None:
        """Return the part to use of these media types, or None: the first of `find_all`."""
        return next(iter(self.find_all(*types)), None)

    def find_all(self, *types: str) -> list[Part]:
        """Return the parts of these media types, `type/subtype` or `type/*`.

        Of a multipart/alternative only the last one that has any is looked at (RFC 2046 §5.1.4), so
        name all types that you understand; a multipart/related is looked through from its root on.
        What is found is not looked into. An empty part is not found: it is allowed (RFC 3261
        §20.15) but says nothing, and peers write a Content-Type without a body.
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
        """The part of a multipart/related to begin with: what `start` names, or the first (RFC 2387
        §3.2); else None."""
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
        """Return the parts for which a request is to be refused with a 415: required, and not
        understood (RFC 5621 §8.4).

        Understood is a part whose media type is one of `types` and disposition one of
        `dispositions` (None takes all), with no Content-Encoding but `encodings` (RFC 3261 §8.2.3).
        What stands in an optional multipart is optional with it; an alternative is understood when
        one of its parts is, whatever they say themselves (§8.2, §8.3). No body and no Content-Type
        are nothing to understand. A by-reference part (§9.4) needs its disposition named.
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

    # ---- as octets

    def replace(self, old: Part, new: Part) -> Part:
        """Return this tree with `new` in the place of `old`, one of its parts; every other octet
        stays.

        Raises InvalidValue when `old` is not in it, or when a boundary around it occurs in `new`.
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
        """Header fields, empty line and body, as they stand between two delimiters (RFC 2046
        §5.1.1)."""
        head = self.headers.wire
        return (
            f"{self.headers.text()}\r\n".encode("utf-8", "surrogateescape")
            if head is None
            else head
        ) + self.body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.headers == other.headers and self.body == other.body

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        within = f", parts {len(self.parts)}" if self.is_multipart else ""
        return f"<Part {self.media_type.name}{within}, {len(self.body)} octets>"


# ---- reading

# Read at once, so that a part that is there can be asked what it is.
_USED: tuple[Header[Any], ...] = (
    Part.content_type,
    Part.content_disposition,
    Part.content_encoding,
    Part.content_transfer_encoding,
)


def _divide(part: Part, depth: int, left: int) -> int:
    """Find the parts of a multipart, and theirs; `left` delimiter lines may be met, how many remain
    is returned."""
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
        raise ParseError(
            f"header section over {PART_HEADER} octets", header="body part", status=413
        )
    headers = (
        read_headers(b"x" + line_break + head, line_break, PART_LINES, PART_HEADER, "body part")
        if head
        else Headers()
    )
    section = data[: len(data) - len(body)]
    # others are written anew: what goes out has CRLFs and the empty line
    if section in (head + b"\r\n\r\n", b"\r\n"):
        headers.wire = section
    return Part.__new__(Part)._set(headers, body, default)
