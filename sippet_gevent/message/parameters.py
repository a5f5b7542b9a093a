"""Parameters: the `;name=value` tail of header values and URIs, RFC 3261 §7.3.1 and §19.1.1.
Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ..errors import InvalidValue, ParseError, excerpt
from .grammar import BLANKS, is_gen_value, is_quoted, is_token, is_unquoted, quote, split, unquote

AnyParameters = TypeVar("AnyParameters", bound="Parameters")
D = TypeVar("D")

PARAMETERS = 64
"""Most parameters of one value or URI. Real ones have under ten, so more is an attempt to exhaust
memory."""


# Quoted even if the value is a token: feature tags (RFC 3840 §9), as all names with a plus sign
# are, and the text of a Reason (RFC 3326 §2).
_ALWAYS_QUOTED = frozenset("description events extensions methods schemes text".split())


class Parameters(Mapping[str, "str | None"]):
    """An immutable mapping of header parameters, in order, blind to the case of names.

    A value is its text without quotes and escapes, or None for a parameter without value (`;lr`).
    `str()` adds quotes where they are needed, and repeats parsed values byte for byte.

    ```python
    Parameters(transport="tcp", lr=None)["transport"]
    ```
    """

    # A text that is known to be valid is cut on the first read.
    __slots__ = ("_pairs", "_text")
    _pairs: tuple[tuple[str, str | None], ...] | None
    _text: str
    separator = ";"
    opener = ";"

    def __init__(
        self, values: Mapping[str, object] | Iterable[tuple[str, object]] = (), **named: object
    ) -> None:
        pairs = list(values.items() if isinstance(values, Mapping) else values) + list(
            named.items()
        )
        self._pairs = tuple((name, self._written(name, value)) for name, value in pairs)
        if len(pairs) > 1 and len({name.lower() for name, _ in pairs}) < len(pairs):
            raise InvalidValue(
                "a parameter must appear once (RFC 3261 §7.3.1), "
                f"got {', '.join(name for name, _ in pairs)}: remove one"
            )

    @classmethod
    def parse(cls: type[AnyParameters], text: str) -> AnyParameters:
        """Read `a=1;b;c="d e"`, with or without the first separator. Raises ParseError."""
        if not text:
            return cls._empty()
        body = text[1:] if text[0] == cls.opener else text
        pieces = cls._cut(body)
        if len(pieces) > PARAMETERS:
            raise ParseError(f"over {PARAMETERS} parameters", value=text)
        items: list[tuple[str, str | None]] = []
        for piece in pieces:
            items.append(cls._pair(piece, text))
        return cls.of(tuple(items))

    @classmethod
    def plain(cls: type[AnyParameters], text: str) -> AnyParameters:
        """Return the parameters of a text such as `;a=1;b` that a grammar has matched, with tokens
        only, no quotes and no blanks. Raises ParseError if there are too many."""
        if text.count(";") > PARAMETERS:
            raise ParseError(f"over {PARAMETERS} parameters", value=text)
        made = cls.__new__(cls)
        made._pairs = None
        made._text = text
        return made

    @classmethod
    def of(cls: type[AnyParameters], pairs: tuple[tuple[str, str | None], ...]) -> AnyParameters:
        """Return the parameters of pairs (name, value as written) that are known to be valid."""
        made = cls.__new__(cls)
        made._pairs = pairs
        return made

    @property
    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        """Name and value of each parameter as written, with quotes and escapes."""
        pairs = self._pairs
        if pairs is None:
            cut = [piece.partition("=") for piece in self._text[1:].split(";")]
            pairs = self._pairs = tuple(
                [(name, value if equals else None) for name, equals, value in cut]
            )
        return pairs

    @classmethod
    def _empty(cls: type[AnyParameters]) -> AnyParameters:
        return EMPTY if cls is Parameters else cls.of(())  # type: ignore[return-value]  # EMPTY is a Parameters

    @classmethod
    def _cut(cls, text: str) -> list[str]:
        return split(text, cls.separator)

    @classmethod
    def _pair(cls, piece: str, text: str) -> tuple[str, str | None]:
        name, equals, value = piece.partition("=")
        return cls._checked(name.rstrip(BLANKS), value.lstrip(BLANKS) if equals else None, text)

    @classmethod
    def _checked(cls, name: str, value: str | None, text: str) -> tuple[str, str | None]:
        # generic-param = token [ EQUAL gen-value ]
        if not is_token(name):
            raise ParseError("parameter name is not a token", value=text)
        if value is not None and not (is_gen_value(value) or is_quoted(value)):
            raise ParseError("value of a parameter is neither a token nor quoted", value=text)
        return name, value

    @staticmethod
    def _read(value: str) -> str:
        return unquote(value)

    @classmethod
    def _written(cls, name: str, value: object) -> str | None:
        if not is_token(name):
            raise InvalidValue(f"parameter name {name!r} is not a token")
        if value is None or value is True:
            return None
        text = str(value)  # without quotes and escapes; quotes in it are characters
        return (
            text
            if is_unquoted(text) and name[0] != "+" and name.lower() not in _ALWAYS_QUOTED
            else quote(text)
        )

    def __getitem__(self, name: str) -> str | None:
        for key, value in self.pairs:
            if key == name or key.lower() == name.lower():
                return value if value is None else self._read(value)
        raise KeyError(name)

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: D) -> str | D | None: ...
    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a parameter, None if it has no value, or `default` if it is
        missing."""
        pairs = self._pairs
        for key, value in self.pairs if pairs is None else pairs:
            if key == name or key.lower() == name.lower():
                # letters and digits have neither quotes nor escapes
                return value if value is None or value.isalnum() else self._read(value)
        return default

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self.pairs])

    def __len__(self) -> int:
        return len(self.pairs)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str):
            pairs = self._pairs
            for key, _ in self.pairs if pairs is None else pairs:
                if key == name or key.lower() == name.lower():
                    return True
        return False

    def __hash__(self) -> int:
        return hash(frozenset((name.lower(), self[name]) for name in self))

    def __eq__(self, other: object) -> bool:
        if type(other) is type(self) and self._pairs is other._pairs is None:
            if self._text == other._text:
                return True
        elif not isinstance(other, Mapping):
            return NotImplemented
        mine = {name.lower(): self[name] for name in self}
        return mine == {str(name).lower(): value for name, value in other.items()}

    def replace(
        self: AnyParameters, values: Mapping[str, object] | None = None, **named: object
    ) -> AnyParameters:
        """Return a copy with these parameters set, in their old place or at the end."""
        wanted = {**(values or {}), **named}
        items: list[tuple[str, str | None]] = []
        left = {name.lower(): (name, value) for name, value in wanted.items()}
        for name, value in self.pairs:
            new = left.pop(name.lower(), None)
            items.append((name, value) if new is None else (name, self._written(name, new[1])))
        items += [(name, self._written(name, value)) for name, value in left.values()]
        return self.of(tuple(items))

    def without(self: AnyParameters, *names: str) -> AnyParameters:
        """Return a copy that lacks these parameters."""
        gone = {name.lower() for name in names}
        return self.of(tuple(item for item in self.pairs if item[0].lower() not in gone))

    def __str__(self) -> str:
        pairs = self._pairs
        if pairs is None:
            return self._text
        if not pairs:
            return ""
        return self.opener + self.separator.join([n if v is None else f"{n}={v}" for n, v in pairs])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


EMPTY = Parameters()

# unreserved = alphanum / "-" / "_" / "." / "!" / "~" / "*" / "'" / "(" / ")"
UNRESERVED = "-_.!~*'()"


def unescape(text: str) -> str:
    """Return the text with %-escapes undone once (RFC 3261 §19.1.2). Bytes that are not UTF-8
    become surrogates."""
    if "%" not in text:
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )


def escape(text: str, allowed: str) -> str:
    """Return the text with %-escapes for characters that are neither unreserved nor in `allowed`.
    Raises InvalidValue for a lone surrogate."""
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidValue(f"not Unicode: {excerpt(text)}") from error
    return quote_from_bytes(octets, safe=UNRESERVED + allowed)


class URIParameters(Parameters):
    """The `;name=value` parameters of a URI, %-escaped instead of quoted. Quotes around a value are
    read as a part of it.

    other-param = pname [ "=" pvalue ], paramchar = param-unreserved / unreserved / escaped,
    param-unreserved = "[" / "]" / "/" / ":" / "&" / "+" / "$"
    """

    __slots__ = ()
    allowed = "[]/:&+$"
    _characters = re.compile(r"[A-Za-z0-9\-_.!~*'()%\[\]/:&+$@,?|^`{}\x80-\U0010ffff]+").fullmatch
    _is_quoted: Any = staticmethod(is_quoted)

    @classmethod
    def _cut(cls, text: str) -> list[str]:
        return split(text, cls.separator) if '"' in text else text.split(cls.separator)

    @classmethod
    def _checked(cls, name: str, value: str | None, text: str) -> tuple[str, str | None]:
        if not cls._characters(name):
            raise ParseError("URI parameter without a proper name", value=text)
        if (
            value
            and not cls._characters(value.replace("=", ""))
            and value.strip("=")
            and not cls._is_quoted(value)
        ):
            raise ParseError("URI parameter with a character that must be escaped", value=text)
        if "%" in name and cls._characters(plain := unescape(name)) and "%" not in plain:
            name = plain  # %6C%72 is lr (§19.1.4, RFC 4475 §3.1.1.3)
        return name, value

    @staticmethod
    def _read(value: str) -> str:
        return unescape(value)

    @classmethod
    def _written(cls, name: str, value: object) -> str | None:
        if not cls._characters(name):
            raise InvalidValue(f"{name!r} cannot be the name of a URI parameter")
        return None if value is None or value is True else escape(str(value), cls.allowed)


class URIHeaders(URIParameters):
    """The `?name=value&name=value` headers of a URI.

    header = hname "=" hvalue, hnv-unreserved = "[" / "]" / "/" / "?" / ":" / "+" / "$"
    """

    __slots__ = ()
    allowed = "[]/?:+$"
    separator = "&"
    opener = "?"
    _is_quoted = staticmethod(lambda value: None)
    _characters = re.compile(r"[A-Za-z0-9\-_.!~*'()%\[\]/?:+$@,;|^`{}\x80-\U0010ffff]+").fullmatch


NO_URI_PARAMETERS = URIParameters()
NO_URI_HEADERS = URIHeaders()
