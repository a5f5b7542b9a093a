"""Types of header fields of RFC 3261 §20: immutable values, each with parse() and str(). Pure.

RAck (RFC 3262) and SessionExpires (RFC 4028) are here too. The types of other RFCs are in
extensions.py, history.py, identity.py, p_headers.py, refer.py and replaces.py.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import format_datetime
from functools import lru_cache
from typing import NamedTuple

from ...errors import InvalidValue, ParseError
from ..grammar import (
    BLANKS,
    NUMBER_DIGITS,
    REMEMBERED,
    TOKEN_CHARACTERS,
    is_quoted,
    is_token,
    number,
    quote,
    unquote,
)
from ..parameters import EMPTY, Parameters
from ..speedups import c
from ..uri import URI
from .base import Parameter, Reference, Word, lowered, qvalue, uri_in_brackets
from .base import Valued as Valued

MAX_CSEQ = 2**31 - 1  # RFC 3261 §8.1.1.5: less than 2**31
MAX_DELTA_SECONDS = 2**32 - 1  # RFC 3261 §20.19

# The names of weekdays and months in a SIP-date are English in any locale (RFC 3261 §25.1), unlike
# those of strptime().
_DATE = re.compile(
    r"[A-Za-z]{3}, ?([0-9]{1,2}) ([A-Za-z]{3}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
).fullmatch
_MONTHS = {
    name: index
    for index, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}


class CSeq(NamedTuple):
    """Sequence number and method (RFC 3261 §20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        # CSeq = 1*DIGIT LWS Method
        digits, _, method = text.partition(" ")
        if text.isascii() and digits.isdigit() and method.isalpha() and len(digits) < NUMBER_DIGITS:
            return tuple.__new__(cls, (int(digits), method))
        match = _CSEQ(text)
        if not match:
            raise ParseError("not a number and a method", value=text)
        return cls(number(match[1], MAX_CSEQ), match[2])

    def __str__(self) -> str:
        if not 0 <= self.number <= MAX_CSEQ or not is_token(self.method):
            raise InvalidValue(f"not a CSeq: {self.number!r} {self.method!r}")
        return f"{self.number} {self.method}"


_CSEQ = re.compile(rf"([0-9]+)[ \t]+([{TOKEN_CHARACTERS}]+)").fullmatch

parse_cseq_in_python = CSeq.parse
if c is not None:
    c.setup_cseq(CSeq, CSeq.parse)
    CSeq.parse = c.cseq  # type: ignore[method-assign]  # the twin in C


class Number(int):
    """A number up to 2**32 - 1: Content-Length, RSeq, Min-SE …"""

    @classmethod
    def parse(cls, text: str) -> Number:
        return cls(number(text))


class MaxForwards(int):
    """0 to 255 (RFC 3261 §20.22)."""

    @classmethod
    def parse(cls, text: str) -> MaxForwards:
        return cls(number(text, 255))


class DeltaSeconds(int):
    """Seconds up to 2**32 - 1: Expires, Min-Expires (RFC 3261 §20.19, RFC 4475 §3.1.2.4)."""

    @classmethod
    def parse(cls, text: str) -> DeltaSeconds:
        return cls(number(text, MAX_DELTA_SECONDS))


class Token(str):
    """One token, such as a method or an option tag."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Token:
        if not is_token(text):
            raise ParseError("not a token", value=text)
        return cls(text)


class CallID(str):
    """callid = word [ "@" word ]: text without blanks, compared byte by byte (RFC 3261 §20.8)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> CallID:
        cls.check(text)
        return cls(text)

    @staticmethod
    def cut(text: str) -> list[str]:
        """Cut a list at its commas. Quotes and brackets are characters of a word (§25.1)."""
        return [piece.strip(BLANKS) for piece in text.split(",")]

    @staticmethod
    def check(text: str) -> None:
        """Raise ParseError if `text` is no Call-ID."""
        if text.isascii() and text.isprintable() and " " not in text and text[:1] not in _NO_START:
            return
        if not _CALL_ID(text):
            raise ParseError("empty, or blanks in it", value=text)


_NO_START = frozenset(("", "@"))
_CALL_ID = re.compile(r"[^@\x00-\x20\x7f][^\x00-\x20\x7f]*").fullmatch


class Text(str):
    """Free text as it came (TEXT-UTF8-TRIM)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Text:
        return cls(text)


class AlertInfo(Valued):
    """The ring tone of a call: a URI in brackets with parameters (RFC 3261 §20.4).

    alert-param = LAQUOT absoluteURI RAQUOT *( SEMI generic-param ). Real phones are also sent
    `Bellcore-dr3`, `<Bellcore-dr3>` and `info=alert-internal`. These are read, and their `uri`
    raises ParseError.
    """

    __slots__ = ()

    @property
    def uri(self) -> URI:
        """The URI between the brackets. Raises ParseError if there is none."""
        return uri_in_brackets(self.value)


class CallInfo(Reference):
    """A URI in brackets about the caller or callee, with its purpose (RFC 3261 §20.9)."""

    __slots__ = ()
    purpose = Parameter(
        "purpose", lowered, "`icon`, `info`, `card` or another word, in lower case."
    )


class ContentDisposition(Word):
    """The use of a body, `session`, `render` or another word, and its handling (RFC 3261
    §20.11)."""

    __slots__ = ()

    @property
    def handling(self) -> str:
        """`optional` or `required`, in lower case; `required` by default."""
        return lowered(self.parameters.get("handling") or "required")


def _tail(text: str) -> Parameters:
    """Read the parameters behind a bracket. Raises ParseError for any other text."""
    text = text.lstrip(BLANKS)
    if text and text[0] != ";":
        raise ParseError("text after the value", value=text)
    return Parameters.parse(text)


class MediaType(NamedTuple):
    """type/subtype and parameters, in lower case: Content-Type, Accept (RFC 3261 §20.15)."""

    type: str
    subtype: str
    parameters: Parameters = EMPTY

    @classmethod
    def parse(cls, text: str) -> MediaType:
        return _media_type(text) if len(text) <= REMEMBERED else _media_type.__wrapped__(text)

    @property
    def name(self) -> str:
        """`type/subtype`."""
        return f"{self.type}/{self.subtype}"

    @property
    def charset(self) -> str | None:
        """The charset in lower case, or None, which means UTF-8 (RFC 3261 §7.4.1)."""
        return lowered(self.parameters.get("charset") or "") or None

    @property
    def boundary(self) -> str | None:
        """The boundary of a multipart, or None (RFC 2046 §5.1.1)."""
        return self.parameters.get("boundary")

    def __str__(self) -> str:
        if not (is_token(self.type) and is_token(self.subtype)):
            raise InvalidValue(f"not a media type: {self.name!r}")
        return f"{self.type}/{self.subtype}{self.parameters}"


@lru_cache(256)
def _media_type(text: str) -> MediaType:
    value, semicolon, tail = text.partition(";")
    major, slash, minor = value.partition("/")
    major, minor = major.strip(BLANKS).lower(), minor.strip(BLANKS).lower()
    if not (is_token(major) and is_token(minor)):
        raise ParseError("not type/subtype", value=text)
    return MediaType(major, minor, Parameters.parse(semicolon + tail))


class MediaRange(MediaType):
    """A media type that may be `*/*` or `text/*`, with a q: Accept (RFC 3261 §20.1)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> MediaRange:
        # media-range = ( "*/*" / ( m-type SLASH "*" ) / ( m-type SLASH m-subtype ) ) *( SEMI
        #   m-parameter )
        found = cls._make(_media_type(text))
        if found.type == "*" != found.subtype:
            raise ParseError("not a media range", value=text)
        return found

    @property
    def q(self) -> float:
        """The preference from 0.0 to 1.0, 1.0 by default. Raises ParseError."""
        text = self.parameters.get("q")
        return 1.0 if text is None else qvalue(text)

    def includes(self, media: MediaType) -> bool:
        """True if `media` is in this range. Parameters are not compared."""
        return self.type in ("*", media.type) and self.subtype in ("*", media.subtype)


class RetryAfter(NamedTuple):
    """Seconds, with a comment and parameters (RFC 3261 §20.33)."""

    seconds: int
    comment: str = ""
    parameters: Parameters = EMPTY

    @property
    def duration(self) -> int | None:
        """The seconds for which the peer can be reached then, or None. Raises ParseError."""
        text = self.parameters.get("duration")
        return None if text is None else number(text)

    @classmethod
    def parse(cls, text: str) -> RetryAfter:
        # Retry-After = delta-seconds [ comment ] *( SEMI retry-param )
        head, opening, rest = text.partition("(")
        if not opening or ";" in head:
            seconds, semicolon, tail = text.partition(";")
            return cls(number(seconds.strip(BLANKS)), "", Parameters.parse(semicolon + tail))
        end = _comment_end(rest)
        if end < 0:
            raise ParseError("comment without end", value=text)
        return cls(number(head.strip(BLANKS)), rest[:end], _tail(rest[end + 1 :]))

    def __str__(self) -> str:
        if not self.comment:
            return f"{self.seconds}{self.parameters}"
        if _comment_end(f"{self.comment})") != len(self.comment):
            raise InvalidValue(f"not a comment: {self.comment!r}")
        return f"{self.seconds} ({self.comment}){self.parameters}"


_PARENTHESES = re.compile(r"\\.|[()]", re.DOTALL).finditer


def _comment_end(text: str) -> int:
    """Return the index at which the comment ends that begins with this text, or -1. comment =
    LPAREN *(ctext / quoted-pair / comment) RPAREN."""
    depth = 1
    for match in _PARENTHESES(text):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return -1


class Timestamp(NamedTuple):
    """The time at the client in its own seconds, and the delay at the server (RFC 3261 §20.38).
    Both are texts, so that they are repeated exactly."""

    value: str
    delay: str | None = None

    @classmethod
    def parse(cls, text: str) -> Timestamp:
        match = _TIMESTAMP(text)
        if not match:
            raise ParseError("not a timestamp", value=text)
        return cls(*match.groups())

    def __str__(self) -> str:
        text = self.value if self.delay is None else f"{self.value} {self.delay}"
        if not _TIMESTAMP(text):
            raise InvalidValue(f"not a timestamp: {text!r}")
        return text


# 1*(DIGIT) [ "." *(DIGIT) ] [ LWS delay ], delay = *(DIGIT) [ "." *(DIGIT) ]
_TIMESTAMP = re.compile(r"([0-9]+(?:\.[0-9]*)?)(?:[ \t]+([0-9]*(?:\.[0-9]*)?))?").fullmatch


class Warning(NamedTuple):
    """warn-code, warn-agent and text (RFC 3261 §20.43)."""

    code: int
    agent: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Warning:
        match = _WARNING(text)
        if not match or not is_quoted(match[3]):
            raise ParseError("not code, agent and quoted text", value=text)
        return cls(number(match[1], 999), match[2], unquote(match[3]))

    def __str__(self) -> str:
        text = f"{self.code:03d} {self.agent} {quote(self.text)}"
        if not _WARNING(text):
            raise InvalidValue(f"not a warning: {text!r}")
        return text


# warning-value = warn-code SP warn-agent SP warn-text. The agent is a hostport or a pseudonym.
_WARNING = re.compile(r'([0-9]{3})[ \t]+([^\s",;<>]+)[ \t]+(".*)', re.DOTALL).fullmatch


class MimeVersion(NamedTuple):
    """major.minor (RFC 3261 §20.24)."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> MimeVersion:
        major, _, minor = text.partition(".")
        return cls(number(major), number(minor))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Date:
    """A SIP-date, which is read as an aware datetime in GMT (RFC 3261 §20.17)."""

    @staticmethod
    def parse(text: str) -> datetime:
        match = _DATE(text)
        month = _MONTHS.get(match[2].title()) if match else None
        if match is None or month is None:
            raise ParseError("not a SIP date in GMT", value=text)
        try:
            return datetime(
                int(match[3]),
                month,
                int(match[1]),
                int(match[4]),
                int(match[5]),
                int(match[6]),
                tzinfo=timezone.utc,
            )
        except ValueError as error:
            raise ParseError(str(error), value=text) from error

    @staticmethod
    def format(value: datetime) -> str:
        return format_datetime(value.astimezone(timezone.utc), usegmt=True)


class RAck(NamedTuple):
    """RSeq, CSeq number and method of the response that a PRACK acknowledges (RFC 3262 §7.2)."""

    response: int
    cseq: int
    method: str

    @classmethod
    def parse(cls, text: str) -> RAck:
        match = _RACK(text)
        if not match:
            raise ParseError("not two numbers and a method", value=text)
        return cls(number(match[1]), number(match[2], MAX_CSEQ), match[3])

    def __str__(self) -> str:
        text = f"{self.response} {self.cseq} {self.method}"
        if not _RACK(text):
            raise InvalidValue(f"not a RAck: {text!r}")
        return text


# RAck = response-num LWS CSeq-num LWS Method
_RACK = re.compile(rf"([0-9]+)[ \t]+([0-9]+)[ \t]+([{TOKEN_CHARACTERS}]+)").fullmatch


class SessionExpires(NamedTuple):
    """Seconds and parameters: Session-Expires, Min-SE (RFC 4028 §4, §5)."""

    seconds: int
    parameters: Parameters = EMPTY

    @property
    def refresher(self) -> str | None:
        """`uac` or `uas` in lower case, or None if no refresher is chosen. Raises ParseError."""
        # refresher-param = "refresher" EQUAL ("uas" / "uac")
        text = self.parameters.get("refresher")
        if text is not None and text.lower() not in ("uac", "uas"):
            raise ParseError("refresher is neither uac nor uas", value=text)
        return text and text.lower()

    @classmethod
    def parse(cls, text: str) -> SessionExpires:
        seconds, semicolon, tail = text.partition(";")
        return cls(number(seconds.strip(BLANKS)), Parameters.parse(semicolon + tail))

    def __str__(self) -> str:
        return f"{self.seconds}{self.parameters}"
