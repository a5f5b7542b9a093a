"""Values with parameters, RFC 3261 §7.3.1: the base of most types, and parameters as attributes.
Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, overload

from ...errors import InvalidValue, ParseError, excerpt
from ..grammar import BLANKS, GEN_VALUE, QUOTED, TOKEN_CHARACTERS, is_token, unquote
from ..parameters import EMPTY, Parameters
from ..uri import URI

T = TypeVar("T")
AnyValued = TypeVar("AnyValued", bound="Valued")
AnyChoice = TypeVar("AnyChoice", bound="Choice")
AnyReference = TypeVar("AnyReference", bound="Reference")
AnyBareReference = TypeVar("AnyBareReference", bound="BareReference")


class Parameter(Generic[T]):
    """A parameter as an attribute. It is `read(text)`, or None if the parameter is missing or has
    no value.

    Reading it raises ParseError if its text breaks the RFC. The rest of the value is still usable.
    """

    def __init__(self, name: str, read: Callable[[str], T], doc: str) -> None:
        self.name = name
        self.read = read
        self.__doc__ = doc

    @overload
    def __get__(self, value: None, owner: Any = None) -> Parameter[T]: ...
    @overload
    def __get__(self, value: Any, owner: Any = None) -> T | None: ...
    def __get__(self, value: Any, owner: Any = None) -> Parameter[T] | T | None:
        if value is None:
            return self
        text = value.parameters.get(self.name)
        if text is None:
            return None
        try:
            return self.read(text)
        except ParseError as error:
            shown = None if getattr(value, "is_secret", False) else text
            raise ParseError(
                f"parameter {self.name}: {error.problem}", value=shown, source=value
            ) from None


class Flag:
    """A parameter as an attribute that is True if the parameter is there: `;early-only`."""

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.__doc__ = doc

    @overload
    def __get__(self, value: None, owner: Any = None) -> Flag: ...
    @overload
    def __get__(self, value: Any, owner: Any = None) -> bool: ...
    def __get__(self, value: Any, owner: Any = None) -> Flag | bool:
        return self if value is None else self.name in value.parameters


# qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ). Real peers send more decimals (RFC
# 4475 §3.1.1.1).
_QVALUE = re.compile(r"0(?:\.[0-9]{0,9})?|1(?:\.0{0,9})?").fullmatch


def qvalue(text: str) -> float:
    """Return a qvalue as a number from 0.0 to 1.0. Raises ParseError."""
    if not _QVALUE(text):
        raise ParseError("not a q value", value=text)
    return float(text)


def lowered(text: str) -> str:
    """Return a word in lower case, for words that are compared without case (RFC 3261 §7.3.1)."""
    return text.lower()


def listed(text: str) -> tuple[str, ...]:
    """Return the words of a list such as `auth,auth-int`."""
    return tuple([piece.strip(BLANKS) for piece in text.split(",") if piece.strip(BLANKS)])


def in_brackets(text: str) -> str:
    """Return the text between angle brackets. Raises ParseError if there are none."""
    if len(text) < 3 or text[0] != "<" or text[-1] != ">":
        raise ParseError("not in angle brackets", value=text)
    return text[1:-1]


def uri_in_brackets(text: str) -> URI:
    """Return the URI between angle brackets. Raises ParseError."""
    return URI.parse(in_brackets(text))


# A URI in brackets, a quoted text, a token, or any other text without separators.
_ANY = re.compile(rf"<[^<>]*>|{QUOTED}|[^\s,;<>\"](?:[^,;<>\"]*[^\s,;<>\"])?", re.DOTALL).fullmatch
# Any of these, then parameters.
_WITH_PARAMETERS = re.compile(rf"({QUOTED}|<[^<>]*>|[^;]*)[ \t]*(;.*)?", re.DOTALL).fullmatch


class _Valued(NamedTuple):
    value: str
    parameters: Parameters = EMPTY


class Valued(_Valued):
    """A value with parameters. Subclasses define the form of the value by `fits`, and name the
    parameters."""

    __slots__ = ()
    fits: ClassVar[Any] = _ANY
    """Returns a true value for a text that is such a value: by default a token, a quoted text or a
    <URI>."""
    what: ClassVar[str] = "a token, a quoted text or a <URI>"
    holds: ClassVar[type[Parameters]] = Parameters
    """The type of its parameters."""

    @classmethod
    def parse(cls: type[AnyValued], text: str) -> AnyValued:
        """Read `value *( SEMI generic-param )`. Raises ParseError."""
        match = _WITH_PARAMETERS(text)
        value = match[1].rstrip(BLANKS) if match else ""
        if match is None or not cls.fits(value):
            raise ParseError(f"not {cls.what}", value=text)
        return cls(value, cls.holds.parse(match[2] or ""))

    def with_params(
        self: AnyValued, values: Mapping[str, object] | None = None, **named: object
    ) -> AnyValued:
        """Return a copy with these parameters set; None is a parameter without value."""
        parameters = (
            self.parameters
            if isinstance(self.parameters, self.holds)
            else self.holds(self.parameters)
        )
        return self._replace(parameters=parameters.replace(values, **named))

    def without_params(self: AnyValued, *names: str) -> AnyValued:
        """Return a copy that lacks these parameters."""
        return self._replace(parameters=self.parameters.without(*names))

    def __str__(self) -> str:
        if not type(self).fits(self.value):
            raise InvalidValue(f"not {self.what}: {self.value!r}")
        return f"{self.value}{self.parameters}"


class Word(Valued):
    """A token with parameters."""

    __slots__ = ()
    fits = is_token
    what = "a token"


class Ranked(Word):
    """A token with parameters, q among them: Accept-Encoding, Accept-Language (RFC 3261 §20.2,
    §20.3).

    language-range = ( ( 1*8ALPHA *( "-" 1*8ALPHA ) ) / "*" ). Any token is accepted, because
    languages got digits later, as in es-419 (RFC 5646).
    """

    __slots__ = ()

    @property
    def q(self) -> float:
        """The preference from 0.0 to 1.0, 1.0 by default. Raises ParseError."""
        text = self.parameters.get("q")
        return 1.0 if text is None else qvalue(text)


class QuotedOrToken(Valued):
    """A token or a quoted-string with parameters: P-Visited-Network-ID, User-to-User."""

    __slots__ = ()
    fits = re.compile(rf"{QUOTED}|[{TOKEN_CHARACTERS}]+", re.DOTALL).fullmatch
    what = "a token or a quoted text"

    @property
    def text(self) -> str:
        """The value without quotes and escapes."""
        return unquote(self.value)


# LAQUOT absoluteURI RAQUOT *( SEMI generic-param )
_REFERENCE = re.compile(r"<([^<>]*)>[ \t]*(;.*)?", re.DOTALL).fullmatch


class Reference(NamedTuple):
    """A URI in angle brackets with parameters: Call-Info, Error-Info, Geolocation … (RFC 3261
    §20.9, §20.18)."""

    uri: URI
    parameters: Parameters = EMPTY

    @classmethod
    def parse(cls: type[AnyReference], text: str) -> AnyReference:
        """Read `LAQUOT absoluteURI RAQUOT *( SEMI generic-param )`. Raises ParseError."""
        match = _REFERENCE(text)
        if not match:
            raise ParseError("not a URI in angle brackets", value=text)
        return cls(URI.parse(match[1]), Parameters.parse(match[2]) if match[2] else EMPTY)

    def with_params(
        self: AnyReference, values: Mapping[str, object] | None = None, **named: object
    ) -> AnyReference:
        """Return a copy with these parameters set; None is a parameter without value."""
        return self._replace(parameters=self.parameters.replace(values, **named))

    def without_params(self: AnyReference, *names: str) -> AnyReference:
        """Return a copy that lacks these parameters."""
        return self._replace(parameters=self.parameters.without(*names))

    def __str__(self) -> str:
        return (
            f"<{self.uri if isinstance(self.uri, URI) else URI.parse(self.uri)}>{self.parameters}"
        )


class BareReference(NamedTuple):
    """A URI without angle brackets, with parameters of the field: Policy-ID, Trigger-Consent."""

    uri: URI
    parameters: Parameters = EMPTY

    @classmethod
    def parse(cls: type[AnyBareReference], text: str) -> AnyBareReference:
        """Read `absoluteURI *( SEMI generic-param )`. Raises ParseError."""
        uri, semicolon, tail = text.partition(";")
        return cls(URI.parse(uri.rstrip(BLANKS)), Parameters.parse(semicolon + tail))

    def __str__(self) -> str:
        uri = str(self.uri if isinstance(self.uri, URI) else URI.parse(self.uri))
        if ";" in uri or "," in uri:
            raise InvalidValue(
                "a URI without brackets must have no parameters, semicolons or commas, "
                f"got {excerpt(uri)}"
            )
        return f"{uri}{self.parameters}"


class LinkParameters(Parameters):
    """Parameters of which some are a URI in angle brackets without quotes: `;info=<https://…>` (RFC
    8224 §4)."""

    __slots__ = ()
    _link = re.compile(r'<[^<>"\s]*>').fullmatch

    @classmethod
    def _checked(cls, name: str, value: str | None, text: str) -> tuple[str, str | None]:
        if value is not None and is_token(name) and cls._link(value):
            return name, value
        return super()._checked(name, value, text)

    @classmethod
    def _written(cls, name: str, value: object) -> str | None:
        text = f"<{value}>" if isinstance(value, URI) else str(value)
        return text if is_token(name) and cls._link(text) else super()._written(name, value)


class Choice(str):
    """One of the words of an RFC, or a later one: Geolocation-Routing, Attestation-Info.

    generic-param = token [ EQUAL gen-value ]
    """

    __slots__ = ()

    @classmethod
    def parse(cls: type[AnyChoice], text: str) -> AnyChoice:
        """Read one generic-param. Raises ParseError."""
        if not _GENERIC(text):
            raise ParseError("not a word", value=text)
        return cls(text)


_GENERIC = re.compile(
    rf"[{TOKEN_CHARACTERS}]+(?:=(?:{QUOTED}|{GEN_VALUE.pattern}))?", re.DOTALL
).fullmatch
