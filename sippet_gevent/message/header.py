"""Header: one row of the table of known header fields, RFC 3261 §7.3.1 and §20. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, overload

from ..errors import CREDENTIALS, InvalidValue, ParseError, excerpt
from . import scan as scanning
from .grammar import BLANKS, number, split, split_first, split_last
from .lines import safe
from .scan import Fields
from .uri import URI
from .uri_arguments import how_to_write

T = TypeVar("T")
"""The result of reading a header field: one value, one value or None, or a tuple."""
V = TypeVar("V")
"""One value."""
V_co = TypeVar("V_co", covariant=True)
I = TypeVar("I", bound=int)  # noqa: E741
W = TypeVar("W", bound=tuple[str, ...])

VALUES = 100
"""Most values of one header field. It is more than the hops that Max-Forwards allows, and more than
the contacts of a user."""


class Kind(Enum):
    """How many values a header field has, and on how many lines."""

    ONE = "one value, one line"
    LIST = "values separated by commas, on any number of lines, which we write on one line"
    EACH = "as LIST, but we write one value a line, because each hop adds or reads the first value"
    LINES = "one value a line, on any number of lines, because credentials contain commas"


ONE: Final = Kind.ONE
LIST: Final = Kind.LIST
EACH: Final = Kind.EACH
LINES: Final = Kind.LINES

Many = Literal[Kind.LIST, Kind.EACH, Kind.LINES]
"""The kinds that are read as a tuple."""


class ValueType(Protocol[V_co]):
    """A class of header field values: it reads one from its text. `str(value)` writes it."""

    def parse(self, text: str, /) -> V_co: ...


class TypedLines(Protocol):
    """The header lines of a message, as a row reads and writes them."""

    looked_at: dict[str, Any]

    @property
    def fields(self) -> Fields: ...
    def typed(self, row: Header[T]) -> T: ...
    def assign(self, row: Header[Any], value: Any) -> None: ...
    def delete_header(self, name: str) -> None: ...


class HasHeaders(Protocol):
    """An object with header fields as attributes: a message, a fragment or a body part."""

    @property
    def headers(self) -> TypedLines: ...


def _cut(text: str) -> list[str]:
    return split(text, ",", VALUES)


Ends = tuple[Callable[[str], tuple[str, str]], Callable[[str], tuple[str, str]]]


def _ends_of(cut: Callable[[str], list[str]]) -> Ends:
    """Return two functions that cut a line into its first value and the rest, and into its last
    value and the rest."""
    if cut is _cut:
        return (lambda text: split_first(text, ",")), (lambda text: split_last(text, ",")[::-1])

    def first(text: str) -> tuple[str, str]:
        value, *others = cut(text)
        return value, ", ".join(others)

    def last(text: str) -> tuple[str, str]:
        *others, value = cut(text)
        return value, ", ".join(others)

    return first, last


class Header(Generic[T]):
    """One known header field: its name, compact form, kind and type. As an attribute of Message it
    reads and writes the field.

    `T` is the type of the attribute: one value or None for ONE, a tuple for the other kinds. A
    `mandatory` field of kind ONE has no None, because parse() refuses a message without it. Only a
    message that an application is building can lack it, and then the attribute is None.

    Args:
        name: The canonical name.
        compact: The compact form (§7.3.3), or None.
        kind: ONE, LIST, EACH or LINES.
        type: A class with `parse(text)` and `str()`; `str` and `int` serve as they are. A class
            whose lists are not cut at commas outside quotes and brackets has `cut(text)`. One that
            writes a text differently from the way it was assigned has `written(text)`.
        mandatory: True for a field that every message has.

    Reading parses on first use and raises ParseError if the text does not fit. A missing ONE is
    None, and a missing LIST, EACH or LINES is (). To change a field, assign it.
    """

    __slots__ = (
        "commas",
        "compact",
        "cut",
        "ends",
        "format",
        "is_one",
        "kind",
        "mandatory",
        "missing",
        "name",
        "parse",
        "type",
        "written",
    )

    # The pairs of overloads are for classes with parse(), and for str, int and their subclasses,
    # of which a type checker does not see that they have parse().
    @overload
    def __init__(
        self: Header[V],
        name: str,
        compact: str | None,
        kind: Literal[Kind.ONE],
        type: ValueType[V],
        *,
        mandatory: Literal[True],
    ) -> None: ...
    @overload
    def __init__(
        self: Header[V],
        name: str,
        compact: str | None,
        kind: Literal[Kind.ONE],
        type: type[V],
        *,
        mandatory: Literal[True],
    ) -> None: ...
    @overload
    def __init__(
        self: Header[V | None],
        name: str,
        compact: str | None,
        kind: Literal[Kind.ONE],
        type: ValueType[V],
    ) -> None: ...
    @overload
    def __init__(
        self: Header[V | None],
        name: str,
        compact: str | None,
        kind: Literal[Kind.ONE],
        type: type[V],
    ) -> None: ...
    @overload
    def __init__(
        self: Header[tuple[V, ...]],
        name: str,
        compact: str | None,
        kind: Many,
        type: ValueType[V],
        *,
        mandatory: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self: Header[tuple[V, ...]], name: str, compact: str | None, kind: Many, type: type[V]
    ) -> None: ...
    @overload
    def __init__(
        self: Header[Any], name: str, compact: str | None, kind: Kind, type: Any
    ) -> None: ...
    def __init__(
        self,
        name: str,
        compact: str | None,
        kind: Kind,
        type: Any,
        *,
        mandatory: bool = False,
    ) -> None:
        self.name = name
        self.compact = compact
        self.kind = kind
        self.type = type
        self.mandatory = mandatory
        self.parse: Callable[[str], Any] = number if type is int else getattr(type, "parse", type)
        self.format: Callable[[Any], str] = (
            getattr(type, "format", str) if not issubclass(type, str) else str
        )
        self.is_one = kind is ONE
        self.missing: T = None if kind is ONE else ()  # type: ignore[assignment]  # T is that of the kind
        self.written: Callable[[str], str] | None = getattr(type, "written", None)
        self.cut: Callable[[str], list[str]] = getattr(type, "cut", _cut)
        self.commas = kind is LIST or kind is EACH
        self.ends = _ends_of(self.cut)
        scanning.register_name(name, compact)
        ROWS[name] = self

    @overload
    def __get__(self, message: None, owner: Any = None) -> Header[T]: ...
    @overload
    def __get__(self, message: HasHeaders, owner: Any = None) -> T: ...
    def __get__(self, message: Any, owner: Any = None) -> Any:
        if message is None:
            return self
        headers = message.headers
        looked_at = headers.looked_at
        value = looked_at.get(self.name)
        if value is not None:
            return value
        there = headers.fields.get(self.name)
        try:  # the usual case: one line, or several without commas
            if type(there) is str:
                if self.is_one:
                    value = looked_at[self.name] = self.parse(there)
                    return value
                if there and "," not in there:
                    value = looked_at[self.name] = (self.parse(there),)
                    return value
            elif (
                there
                and self.commas
                and "" not in there
                and "," not in "".join(there)
                and len(there) <= VALUES
            ):
                value = looked_at[self.name] = tuple(map(self.parse, there))
                return value
        except ValueError:
            pass  # typed() raises the error
        return headers.typed(self)

    @overload
    def __set__(
        self: Header[tuple[V, ...]],
        message: HasHeaders,
        value: V | URI | str | Iterable[V | URI | str] | None,
    ) -> None: ...
    @overload
    def __set__(self: Header[I | None], message: HasHeaders, value: int | str | None) -> None: ...
    @overload
    def __set__(
        self: Header[W | None], message: HasHeaders, value: Iterable[str] | None
    ) -> None: ...
    @overload
    def __set__(self, message: HasHeaders, value: T | URI | str | None) -> None: ...
    def __set__(self, message: HasHeaders, value: Any) -> None:
        message.headers.assign(self, value)

    def __delete__(self, message: HasHeaders) -> None:
        message.headers.delete_header(self.name)

    def read(self, there: str | list[str]) -> T:
        """Return the value in the text of the only line, or in the texts of all lines. Raises
        ParseError."""
        text = ""
        try:
            texts = [there] if isinstance(there, str) else there
            if self.kind is ONE:
                text = texts[0]
                if any(other != text for other in texts):
                    raise ParseError("appears twice", value=texts)
                value: T = self.parse(text)
                return value
            parse = self.parse
            values: Any = []
            for text in texts:
                if not self.commas:
                    values.append(parse(text))
                elif "," in text:
                    pieces = self.cut(text)
                    if len(pieces) > VALUES:
                        raise ParseError(f"over {VALUES} values", status=513)
                    for text in pieces:
                        if (
                            text
                        ):  # empty elements are ignored, because the #rule of RFC 2543 allowed them
                            values.append(parse(text))
                elif text:
                    values.append(parse(text))
            if len(values) > VALUES and self.commas:
                raise ParseError(f"over {VALUES} values", status=513)
            return tuple(values)  # type: ignore[return-value]  # T is a tuple here
        except ParseError as error:
            error.header = error.header or self.name
            # 414 is for the Request-URI (§21.4.15)
            error.status = 400 if error.status == 414 else error.status
            raise
        except ValueError as error:
            raise ParseError(str(error), header=self.name, value=text) from error

    def write(self, value: Any) -> list[str]:
        """Return the texts of the lines for `value`. Raises InvalidValue."""
        if self.kind is ONE:
            return [self.write_one(value)]
        if (
            isinstance(value, (str, bytes))
            or not isinstance(value, Iterable)
            or hasattr(value, "_fields")
        ):
            value = (value,)
        texts = [self.write_one(item) for item in value]
        return [", ".join(texts)] if self.kind is LIST and texts else texts

    def write_one(self, value: Any) -> str:
        """Return one value as safe text. It is parsed, so that what we send can be read. Raises
        InvalidValue."""
        try:
            if value is None or isinstance(value, (bytes, bytearray, memoryview)):
                raise TypeError("a value is a text or a typed value, not bytes or None")
            # str() of a subclass is a plain str
            text = str(value) if isinstance(value, str) else self.format(value)
            text = safe(text, self.name).strip(BLANKS)
            if type(value) is str and self.written is not None:
                text = ", ".join(
                    [self.written(piece) for piece in (self.cut(text) if self.commas else [text])]
                )
            if self.commas and isinstance(value, str):
                pieces = self.cut(text)
                if len(pieces) > 1 and type(value) is not str:
                    raise InvalidValue("a comma within one of several values")
                for piece in pieces:
                    self.parse(piece)
            else:
                self.parse(text)
            return text
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            if self.name in CREDENTIALS:  # the problem may quote them
                raise InvalidValue(f"{self.name}: cannot hold these credentials") from None
            if str(error).startswith(self.name):
                raise
            problem = getattr(error, "problem", error)
            raise InvalidValue(
                f"{self.name}: cannot hold {excerpt(value)}: {problem}{how_to_write(error)}"
            ) from error

    def __repr__(self) -> str:
        return f"Header({self.name!r}, {self.compact!r}, {self.kind.name}, {self.type.__name__})"


ROWS: dict[str, Header[Any]] = {}
"""Canonical name of each known header to its row."""
