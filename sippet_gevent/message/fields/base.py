"""Values with parameters, RFC 3261 §7.3.1: what most header fields hold, and parameters as
attributes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, overload

from ...errors import InvalidValue, ParseError
from ..grammar import BLANKS, GEN_VALUE, QUOTED, TOKEN_CHARACTERS, is_token, unquote
from ..parameters import EMPTY, Parameters
from ..uri import URI

T = TypeVar("T")
AnyValued = TypeVar("AnyValued", bound="Valued")
AnyChoice = TypeVar("AnyChoice", bound="Choice")
AnyReference = TypeVar("AnyReference", bound="Reference")
AnyBareReference = TypeVar("AnyBareReference", bound="BareReference")


class Parameter(Generic[T]):
    """A parameter as an attribute: what `read` makes of its text; None where it is missing or has
    no value.

    Looking raises ParseError when the text is not what the RFC wants; the rest of the value can be
    used all the same.
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
    """A parameter that says yes by being there: `;early-only`."""

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.__doc__ = doc

    @overload
    def __get__(self, value: None, owner: Any = None) -> Flag: ...
    @overload
    def __get__(self, value: Any, owner: Any = None) -> bool: ...
    def __get__(self, value: Any, owner: Any = None) -> Flag | bool:
        return self if value is None else self.name in value.parameters


# qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ): more decimals are in the field (RFC
# 4475 §3.1.1.1)
_QVALUE = re.compile(r"0(?:\.[0-9]{0,9})?|1(?:\.0{0,9})?").fullmatch


def qvalue(text: str) -> float:
    """Return a qvalue as a number from 0.0 to 1.0. Raises ParseError."""
    if not _QVALUE(text):
        raise ParseError("not a q value", value=text)
    return float(text)


def lowered(text: str) -> str:
    """Return a word that means the same in any case, in lower case (RFC 3261 §7.3.1)."""
    return text.lower()


def listed(text: str) -> tuple[str, ...]:
    """Return the words of a list in quotes: `"auth,auth-int"`."""
    return tuple([piece.strip(BLANKS) for piece in text.split(",") if piece.strip(BLANKS)])


def in_brackets(text: str) -> str:
    """Return what is between angle brackets. Raises ParseError where there are none."""
    if len(text) < 3 or text[0] != "<" or text[-1] != ">":
        raise ParseError("not in angle brackets", value=text)
    return text[1:-1]


def uri_in_brackets(text: str) -> URI:
    """Return the URI between angle brackets. Raises ParseError."""
    return URI.parse(in_brackets(text))


# A URI in brackets, a quoted text, a token, or what the field has in its place: anything without
# separators.
_ANY = re.compile(rf"<[^<>]*>|{QUOTED}|[^\s,;<>\"](?:[^,;<>\"]*[^\s,;<>\"])?", re.DOTALL).fullmatch
# Whichever it is, then parameters.
_WITH_PARAMETERS = re.compile(rf"({QUOTED}|<[^<>]*>|[^;]*)[ \t]*(;.*)?", re.DOTALL).fullmatch


class _Valued(NamedTuple):
    value: str
    parameters: Parameters = EMPTY


class Valued(_Valued):
    """A value with parameters; the types of the fields say by `fits` what the value must be, and
    name the parameters."""

    __slots__ = ()
    fits: ClassVar[Any] = _ANY
    """Whether a text is such a value: a token, a quoted text or a <URI>, unless the field is
    stricter."""
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

    language-range = ( ( 1*8ALPHA *( "-" 1*8ALPHA ) ) / "*" ): digits as in es-419 came later (RFC
    5646), so any token is one.
    """

    __slots__ = ()

    @property
    def q(self) -> float:
        """How much it is wanted, 0.0 to 1.0, which it is when nothing is said. Raises
        ParseError."""
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
    """A URI without angle brackets, with the header's parameters: Policy-ID, Trigger-Consent."""

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
                f"a URI without brackets cannot have parameters, semicolons or commas: {uri!r}"
            )
        return f"{uri}{self.parameters}"


class LinkParameters(Parameters):
    """Parameters some of which have a URI in angle brackets and no quotes round it:
    `;info=<https://…>` (RFC 8224 §4)."""

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
    """One of the words an RFC lists, or what may be listed later: Geolocation-Routing,
    Attestation-Info.

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
