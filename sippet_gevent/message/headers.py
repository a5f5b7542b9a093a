"""Headers: the ordered lines of a message; Header: one row of the table of known fields. RFC 3261
§7.3, §20. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from ..errors import CREDENTIALS, InvalidValue, ParseError, excerpt
from . import scan as scanning
from .grammar import BLANKS, is_token, number, split, split_first, split_last
from .scan import USUAL, Fields, Line, as_it_came, canonical

VALUES = 100
"""Values of one header, at most: more hops than Max-Forwards allows, more contacts than anybody
has."""

# Octets that are not UTF-8 are U+DC80 to U+DCFF in here; no other surrogate can be written as
# octets.
_UNSAFE = re.compile(r"[\r\n\0\ud800-\udc7f\udd00-\udfff]").search


class Kind(Enum):
    """How often a header may stand in a message."""

    ONE = "one value, one line"
    LIST = "values separated by commas, on any number of lines; written on one"
    EACH = "the same, but written one value to a line: every element on the way puts its own in front, or reads the first"
    LINES = "one value to a line, any number of lines: credentials have commas of their own"


ONE, LIST, EACH, LINES = Kind

_EMPTY = f",{BLANKS}"
"""Characters of empty elements at the ends of a list."""

FIRST, LAST = 0, -1
"""The two ends of a list of values."""


def safe(text: str, name: str) -> str:
    """Return `text`, or raise InvalidValue when CR, LF or NUL in it would break out of its line, or
    it is no Unicode."""
    if _UNSAFE(text):
        shown = "these credentials" if canonical(name) in CREDENTIALS else excerpt(text)
        raise InvalidValue(f"{name}: CR, LF, NUL or a lone surrogate in {shown}")
    return text


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


class Header:
    """One known header: its name, compact form, kind and type. As an attribute of Message it reads
    and writes it.

    `type` needs `parse(text)` and `str()`; `str` serves as it is, `int` is read by number(). A type
    whose lists are not cut at commas outside quotes and brackets has `cut(text)`; one whose text is
    not taken as you wrote it has `written(text)`. Reading parses on first use and raises ParseError
    for what does not fit; a missing ONE is None, a missing LIST or LINES is (). To change a header,
    assign it.
    """

    __slots__ = (
        "commas",
        "compact",
        "cut",
        "ends",
        "format",
        "is_one",
        "kind",
        "name",
        "parse",
        "type",
        "written",
    )

    def __init__(self, name: str, compact: str | None, kind: Kind, type: Any) -> None:
        self.name = name
        self.compact = compact
        self.kind = kind
        self.type = type
        self.parse: Callable[[str], Any] = number if type is int else getattr(type, "parse", type)
        self.format: Callable[[Any], str] = (
            getattr(type, "format", str) if not issubclass(type, str) else str
        )
        self.is_one = kind is ONE
        self.written: Callable[[str], str] | None = getattr(type, "written", None)
        self.cut: Callable[[str], list[str]] = getattr(type, "cut", _cut)
        self.commas = kind is LIST or kind is EACH
        self.ends = _ends_of(self.cut)
        scanning.register_name(name, compact)
        ROWS[name] = self

    def __get__(self, message: Any, owner: Any = None) -> Any:
        if message is None:
            return self
        headers = message.headers
        looked_at = headers.looked_at
        value = looked_at.get(self.name)
        if value is not None:
            return value
        there = (headers._fields or headers.fields).get(self.name)
        try:  # as nearly always: one line, or several without commas
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
            pass  # typed() says what is wrong
        return headers.typed(self)

    def __set__(self, message: Any, value: Any) -> None:
        message.headers.assign(self, value)

    def __delete__(self, message: Any) -> None:
        message.headers.delete_header(self.name)

    def read(self, there: str | list[str]) -> Any:
        """Return the value that the text of the only line, or the texts of all lines, spell."""
        text = ""
        try:
            texts = [there] if isinstance(there, str) else there
            if self.kind is ONE:
                text = texts[0]
                if any(other != text for other in texts):
                    raise ParseError("stands twice", value=texts)
                return self.parse(text)
            parse = self.parse
            values = []
            for text in texts:
                if not self.commas:
                    values.append(parse(text))
                elif "," in text:
                    pieces = self.cut(text)
                    if len(pieces) > VALUES:
                        raise ParseError(f"over {VALUES} values", status=513)
                    for text in pieces:
                        if text:  # an empty element is none: RFC 2543's #rule had them
                            values.append(parse(text))
                elif text:
                    values.append(parse(text))
            if len(values) > VALUES and self.commas:
                raise ParseError(f"over {VALUES} values", status=513)
            return tuple(values)
        except ParseError as error:
            error.header = error.header or self.name
            # which is for the Request-URI (§21.4.15)
            error.status = 400 if error.status == 414 else error.status
            raise
        except ValueError as error:
            raise ParseError(str(error), header=self.name, value=text) from error

    def write(self, value: Any) -> list[str]:
        """Return the texts of the lines that spell `value`."""
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
        """Return one value as safe text; text is parsed first, so what we send always parses."""
        try:
            if value is None or isinstance(value, (bytes, bytearray, memoryview)):
                raise TypeError("a value is text or typed")
            # str() drops a subclass
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
            if self.name in CREDENTIALS:  # what is wrong might quote them
                raise InvalidValue(f"{self.name}: cannot hold these credentials") from None
            if str(error).startswith(self.name):
                raise
            problem = getattr(error, "problem", error)
            raise InvalidValue(f"{self.name}: cannot hold {excerpt(value)}: {problem}") from error

    def __repr__(self) -> str:
        return f"Header({self.name!r}, {self.compact!r}, {self.kind.name}, {self.type.__name__})"


ROWS: dict[str, Header] = {}
"""Canonical name of each known header to its row."""


class Headers:
    """The header lines of a message: ordered, blind to case and compact form, unchanged until
    assigned.

    `headers["m"]`, `headers["contact"]` and `headers["Contact"]` are the text of the first Contact
    line, as it came. The methods with Elixir Sippet's names take and give typed values where the
    header is a known one.
    """

    __slots__ = ("_fields", "lines", "looked_at", "wire")

    def __init__(self, lines: Iterable[Line] = (), fields: Fields | None = None) -> None:
        self.lines: list[Line] = lines if type(lines) is list else list(lines)
        """Each line as (canonical name, how it came, value). Not for changing."""
        self._fields: Fields | None = fields
        self.looked_at: dict[str, Any] = {}
        """Canonical name to typed value of the known headers that somebody has looked at. Not for
        changing."""
        self.wire: bytes | None = None
        """The whole message these lines came in, octet for octet; None from the first change on."""

    # ---- text

    @property
    def fields(self) -> Fields:
        """Canonical name to text of its only line, or list of texts. Not for changing."""
        fields = self._fields
        if fields is None:
            fields = self._fields = {}
            for name, _, value in self.lines:
                there = fields.get(name)
                if there is None:
                    fields[name] = value
                elif type(there) is list:
                    there.append(value)
                else:
                    fields[name] = [there, value]  # type: ignore[list-item]
        return fields

    def all(self, name: str) -> list[str]:
        """Return the texts of all lines of this header, in order."""
        there = self.fields.get(canonical(name))
        return [] if there is None else [there] if isinstance(there, str) else list(there)

    def __getitem__(self, name: str) -> str:
        there = self.fields[canonical(name)]
        return there if isinstance(there, str) else there[0]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the text of the first line of this header, or `default`."""
        there = self.fields.get(canonical(name), default)
        return there[0] if type(there) is list else there

    def __setitem__(self, name: str, value: str | Iterable[str]) -> None:
        if isinstance(value, bytes):
            raise InvalidValue(f"{name}: a value is text, not {excerpt(value)}")
        if not isinstance(value, Iterable):
            raise TypeError(
                f'{name}: a value must be a text, or several, got {excerpt(value)}: write "{value}"'
            )
        texts = [value] if isinstance(value, str) else [str(item) for item in value]
        self.replace(canonical(_named(name)), [safe(text, name).strip(BLANKS) for text in texts])

    def __delitem__(self, name: str) -> None:
        if canonical(name) not in self.fields:
            raise KeyError(name)
        self.replace(canonical(name), [])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and canonical(name) in self.fields

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(line[0] for line in self.lines))

    def __len__(self) -> int:
        return len(self.lines)

    def items(self) -> list[tuple[str, str]]:
        """Return (canonical name, text) of each line, in order."""
        return [(name, value) for name, _, value in self.lines]

    def add(self, name: str, value: str, *, first: bool = False) -> None:
        """Add one line: before the header's other lines (at the very top when there are none), or
        after the last line."""
        known = canonical(_named(name))
        line: Line = (known, USUAL, safe(value, name).strip(BLANKS))
        at = len(self.lines)
        if first:
            at = next((index for index, other in enumerate(self.lines) if other[0] == known), 0)
        self.lines.insert(at, line)
        self._changed(known)

    def extend(self, lines: Iterable[Line]) -> None:
        """Add lines that are safe, after the last one."""
        self.lines += lines
        self._fields = self.wire = None

    def set_line(self, index: int, text: str) -> None:
        """Give the line at `index`, the first of its name, another text, which is safe: made of
        what scan() found."""
        name = self.lines[index][0]
        self.lines[index] = (name, USUAL, text)
        self.wire = None
        fields = self._fields
        if fields is not None:
            there = fields[name]
            fields[name] = [text, *there[1:]] if type(there) is list else text
        self.looked_at.pop(name, None)

    def replace(self, known: str, texts: list[str]) -> None:
        """Put these texts where the header's first line stood, or at the end; its other lines
        go."""
        self._replace(known, [(known, USUAL, text) for text in texts])

    def _replace(self, known: str, lines: list[Line]) -> None:
        at = None
        others: list[Line] = []
        for line in self.lines:
            if line[0] == known:
                at = len(others) if at is None else at
            else:
                others.append(line)
        at = len(others) if at is None else at
        others[at:at] = lines
        self.lines = others
        self._changed(known)

    def _changed(self, known: str) -> None:
        self._fields = self.wire = None
        self.looked_at.pop(known, None)

    def copy(self) -> Headers:
        """Return a copy that can be changed alone."""
        return Headers(list(self.lines), None if self._fields is None else dict(self._fields))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.items() == other.items()

    __hash__ = None  # type: ignore[assignment]

    def text(self) -> str:
        """Return all lines as they go on the wire."""
        return "".join([f"{as_it_came(line)}\r\n" for line in self.lines])

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self)}>"

    # ---- values

    def typed(self, row: Header) -> Any:
        """Return the typed value of a known header, parsed on first use."""
        value = self.looked_at.get(row.name)
        if value is None:
            there = (self._fields or self.fields).get(row.name)
            if there is None:
                return None if row.kind is ONE else ()
            try:
                value = self.looked_at[row.name] = row.read(there)
            except ParseError as error:
                error.source = there
                raise
        return value

    def assign(self, row: Header, value: Any) -> None:
        """Set a known header; None removes it. Lines whose value stays are left as they came, octet
        for octet."""
        if value is None:
            self.replace(row.name, [])
        elif type(value) in (tuple, list) and (kept := self._lines_by_value(row)):
            self._replace(
                row.name,
                [kept.get(id(item)) or (row.name, USUAL, row.write_one(item)) for item in value],
            )
        else:
            self.replace(row.name, row.write(value))

    def _lines_by_value(self, row: Header) -> dict[int, Line]:
        """The line each typed value came in, by identity; values that shared a line get one each
        (§7.3.1: no difference)."""
        old = self.looked_at.get(row.name)
        if not old or row.kind is ONE or row.kind is LIST:
            return {}
        lines: list[Line] = []
        for line in self.lines:
            if line[0] == row.name and line[2]:
                pieces = [piece for piece in row.cut(line[2]) if piece] if row.commas else [line[2]]
                lines += (
                    [line] if len(pieces) == 1 else [(row.name, USUAL, piece) for piece in pieces]
                )
        return {id(item): line for item, line in zip(old, lines)}

    # ---- the ancestor's helpers

    def put_header(self, name: str, value: Any) -> None:
        """Set the header, replacing what is there; None removes it."""
        row = ROWS.get(canonical(name))
        if row is None:
            self[name] = () if value is None else value
        elif row.kind is ONE and type(value) is tuple:  # from the front and back helpers
            if len(value) > 1:
                raise InvalidValue(f"{row.name}: holds one value, and has it")
            self.assign(row, value[0] if value else None)
        else:
            self.assign(row, value)

    def put_new_header(self, name: str, value: Any) -> None:
        """Set the header unless it is there."""
        if name not in self:
            self.put_header(name, value)

    def put_new_lazy_header(self, name: str, make: Callable[[], Any]) -> None:
        """Set the header to what `make()` returns unless it is there."""
        if name not in self:
            self.put_header(name, make())

    def put_header_front(self, name: str, value: Any) -> None:
        """Add one value before the others; None adds nothing."""
        if value is not None:
            self._put_at_end(name, value, FIRST)

    def put_header_back(self, name: str, value: Any) -> None:
        """Add one value after the others; None adds nothing."""
        if value is not None:
            self._put_at_end(name, value, LAST)

    def delete_header(self, name: str) -> None:
        """Remove the header; nothing happens when it is missing."""
        self.replace(canonical(name), [])

    def delete_header_front(self, name: str) -> None:
        """Remove the first value, whether it can be read or not; with the last one the header
        goes."""
        self._replace_at_end(name, FIRST, None)

    def delete_header_back(self, name: str) -> None:
        """Remove the last value, whether it can be read or not; with it, when it was the only one,
        the header."""
        self._replace_at_end(name, LAST, None)

    def drop_headers(self, names: Iterable[str]) -> None:
        """Remove all these headers."""
        for name in names:
            self.delete_header(name)

    def has_header(self, name: str) -> bool:
        """True when the header is there."""
        return name in self

    def fetch_header(self, name: str) -> Any:
        """Return the header's value. Raises KeyError when it is missing."""
        if name not in self:
            raise KeyError(name)
        return self.get_header(name)

    def fetch_header_front(self, name: str) -> Any:
        """Return the first value. Raises KeyError when there is none."""
        return self._fetch_at_end(name, FIRST)

    def fetch_header_back(self, name: str) -> Any:
        """Return the last value. Raises KeyError when there is none."""
        return self._fetch_at_end(name, LAST)

    def get_header(self, name: str, default: Any = None) -> Any:
        """Return the header's value, or `default`."""
        if name not in self:
            return default
        row = ROWS.get(canonical(name))
        return self.typed(row) if row is not None else tuple(self.all(name))

    def get_header_front(self, name: str, default: Any = None) -> Any:
        """Return the first value, or `default`. The others are not read, and may be unreadable."""
        return self._get_at_end(name, FIRST, default)

    def get_header_back(self, name: str, default: Any = None) -> Any:
        """Return the last value, or `default`. The others are not read."""
        return self._get_at_end(name, LAST, default)

    def update_header(self, name: str, initial: Any, change: Callable[[Any], Any]) -> None:
        """Set the header to `change(its value)`, or to `initial` when it is missing."""
        self.put_header(name, change(self.get_header(name)) if name in self else initial)

    def update_header_front(self, name: str, initial: Any, change: Callable[[Any], Any]) -> None:
        """Set the first value to `change(it)`, or the header to `initial` when there is none."""
        self._update_at_end(name, FIRST, initial, change)

    def update_header_back(self, name: str, initial: Any, change: Callable[[Any], Any]) -> None:
        """Set the last value to `change(it)`, or the header to `initial` when there is none."""
        self._update_at_end(name, LAST, initial, change)

    def pop_header(self, name: str, default: Any = None) -> Any:
        """Remove the header and return its value, or `default`."""
        value = self.get_header(name, default)
        self.delete_header(name)
        return value

    def pop_header_front(self, name: str, default: Any = None) -> Any:
        """Remove and return the first value, or return `default`."""
        value = self.get_header_front(name, default)
        self.delete_header_front(name)
        return value

    def pop_header_back(self, name: str, default: Any = None) -> Any:
        """Remove and return the last value, or return `default`."""
        value = self.get_header_back(name, default)
        self.delete_header_back(name)
        return value

    def get_and_update_header(self, name: str, change: Callable[[Any], tuple[Any, Any]]) -> Any:
        """Call `change(value or None)`, which returns (what to return, the new value; None removes
        the header)."""
        result, value = change(self.get_header(name))
        self.put_header(name, value)
        return result

    def get_and_update_header_front(
        self, name: str, change: Callable[[Any], tuple[Any, Any]]
    ) -> Any:
        """The same for the first value only; a new value of None removes it."""
        return self._get_and_update_at_end(name, FIRST, change)

    def get_and_update_header_back(
        self, name: str, change: Callable[[Any], tuple[Any, Any]]
    ) -> Any:
        """The same for the last value only; a new value of None removes it."""
        return self._get_and_update_at_end(name, LAST, change)

    def has_one(self, name: str) -> bool:
        """True when a header has exactly one value, which is not read."""
        there = self.fields.get(canonical(name))
        if type(there) is not str or "," not in there:
            return type(there) is str
        found = self._find_at_end(name, FIRST)
        return found is not None and not found[2]

    # ---- one value at an end, the others unread: they are for other hops (§16.3 item 1)

    def _find_at_end(self, name: str, end: int) -> tuple[int, str, str] | None:
        """Return the index of the line that has the value at an end, its text, and the rest of the
        line; None for no value."""
        known = canonical(name)
        row = ROWS.get(known)
        lines = self.lines
        for at in range(len(lines)) if end is FIRST else range(len(lines) - 1, -1, -1):
            there, _, text = lines[at]
            if there == known:
                if row is None or not row.commas:
                    return at, text, ""
                if not text:
                    continue
                if "," in text:
                    text = text.strip(_EMPTY)
                    if not text:
                        continue
                    try:
                        value, rest = row.ends[end](text)
                        return at, value, rest.strip(_EMPTY)
                    except ParseError:
                        pass  # what cannot be cut is one value, which nobody can read
                return at, text, ""
        return None

    def _get_at_end(self, name: str, end: int, default: Any) -> Any:
        known = canonical(name)
        row = ROWS.get(known)
        if row is not None and row.kind is ONE:
            value = self.typed(row)
            return default if value is None else value
        values = self.looked_at.get(known)
        if values:
            return values[end]
        if known not in self.fields:
            return default
        found = self._find_at_end(known, end)
        if found is None:
            return default
        if row is None:
            return found[1]
        try:
            return row.read(found[1])[0]
        except ParseError as error:
            error.source = self.lines[found[0]][2]
            raise

    def _fetch_at_end(self, name: str, end: int) -> Any:
        value = self._get_at_end(name, end, None)
        if value is None:
            raise KeyError(name)
        return value

    def _put_at_end(self, name: str, value: Any, end: int) -> None:
        known = canonical(_named(name))
        row = ROWS.get(known)
        if row is not None and row.kind is not EACH:
            there = self._values(known)
            self.put_header(known, (value, *there) if end is FIRST else (*there, value))
            return
        text = safe(str(value), known).strip(BLANKS) if row is None else row.write_one(value)
        same = [at for at, line in enumerate(self.lines) if line[0] == known]
        at = len(self.lines) if not same else same[0] if end is FIRST else same[-1] + 1
        self.lines.insert(at, (known, USUAL, text))
        self._changed(known)

    def _replace_at_end(self, name: str, end: int, text: str | None) -> None:
        """Replace the value at an end by another text, or remove it for None. The others stay as
        they came, byte for byte."""
        found = self._find_at_end(name, end)
        if found is None:
            return
        at, _, rest = found
        known = self.lines[at][0]
        texts = [part for part in ((text, rest) if end is FIRST else (rest, text)) if part]
        self.lines[at : at + 1] = [(known, USUAL, part) for part in texts]
        self._changed(known)

    def _update_at_end(
        self, name: str, end: int, initial: Any, change: Callable[[Any], Any]
    ) -> None:
        value = self._get_at_end(name, end, None)
        if value is None:
            self.put_header(name, initial)
        else:
            self._replace_at_end(name, end, self._written(name, change(value)))

    def _get_and_update_at_end(
        self, name: str, end: int, change: Callable[[Any], tuple[Any, Any]]
    ) -> Any:
        result, value = change(self._get_at_end(name, end, None))
        text = None if value is None else self._written(name, value)
        if self._find_at_end(name, end) is None:
            if text is not None:
                self._put_at_end(name, text, end)
        else:
            self._replace_at_end(name, end, text)
        return result

    def _written(self, name: str, value: Any) -> str:
        row = ROWS.get(canonical(name))
        return safe(str(value), name).strip(BLANKS) if row is None else row.write_one(value)

    def _values(self, name: str) -> tuple[Any, ...]:
        row = ROWS.get(canonical(name))
        if row is None:
            return tuple(self.all(name))
        value = self.typed(row)
        if row.kind is ONE:
            return () if value is None else (value,)
        return tuple(value)


def _named(name: str) -> str:
    if not is_token(name):
        raise InvalidValue(f"{excerpt(name)} is not a header name")
    return name
