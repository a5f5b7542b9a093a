"""Headers: the header lines of a message with their typed values, RFC 3261 §7.3. Pure.

The helpers named put_header, get_header_front and so on are those of Elixir Sippet. They take the
name of any header field, so their values have the type Any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..errors import InvalidValue, ParseError
from .grammar import BLANKS, split_first
from .header import EACH, LIST, ONE, ROWS, Header
from .lines import HeaderLines, named, safe
from .scan import USUAL, Line, canonical
from .via import Via

T = TypeVar("T")

_EMPTY = f",{BLANKS}"
"""Characters of empty elements at the ends of a list."""

FIRST, LAST = 0, -1
"""The two ends of a list of values."""


class Headers(HeaderLines):
    """The header lines of a message: ordered, blind to case and compact form, unchanged until
    assigned.

    `headers["m"]`, `headers["contact"]` and `headers["Contact"]` are the text of the first Contact
    line, as it came. The methods named after Elixir Sippet's take and return typed values if the
    header field is known, otherwise texts.
    """

    __slots__ = ()

    has_rested = False
    """True if the texts are other objects than when the message was read; see resting.py."""

    def copy(self) -> Headers:
        """Return an independent copy."""
        return Headers(list(self.lines), dict(self.fields))

    # ---- values

    def typed(self, row: Header[T]) -> T:
        """Return the typed value of a known header field, parsed on first use. Raises
        ParseError."""
        value: T | None = self.looked_at.get(row.name)
        if value is None:
            there = self.fields.get(row.name)
            if there is None:
                return row.missing
            try:
                value = self.looked_at[row.name] = row.read(there)
            except ParseError as error:
                error.source = there
                raise
        return value

    def assign(self, row: Header[Any], value: Any) -> None:
        """Set a known header field; None removes it. Lines whose value does not change are kept
        byte for byte."""
        if value is None:
            self.replace(row.name, [])
        elif type(value) in (tuple, list) and (kept := self._lines_by_value(row)):
            self._replace(
                row.name,
                [kept.get(id(item)) or (row.name, USUAL, row.write_one(item)) for item in value],
            )
        elif row.is_one:
            self.put(row.name, row.write_one(value))
        else:
            self.replace(row.name, row.write(value))

    def _lines_by_value(self, row: Header[Any]) -> dict[int, Line]:
        """Return the line of each typed value, by the identity of the value. Values that shared a
        line get one line each, which has the same meaning (§7.3.1)."""
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

    # ---- the top Via

    @property
    def top_via(self) -> Via:
        """The first Via. The others are not read, because they are for the hops that wrote them
        (§16.3 item 1).

        Assigning a Via replaces the first one. Those below it are unchanged, readable or not.
        Raises ParseError if there is none, or if it cannot be read.
        """
        there = self.fields.get("Via")
        if there is None:
            raise ParseError("missing", header="Via")
        text = there if type(there) is str else there[0]
        try:
            return Via.parse(text if "," not in text else split_first(text, ",")[0])
        except ParseError as error:
            error.header = "Via"
            raise

    @top_via.setter
    def top_via(self, via: Via) -> None:
        at = self.top_via_line
        text = self.lines[at][2]
        below = split_first(text, ",")[1] if "," in text else ""
        self.set_line(at, f"{via}, {below}" if below else str(via))

    @property
    def top_via_line(self) -> int:
        """The index of the line that has the first Via. Raises ParseError if there is none."""
        for at, line in enumerate(self.lines):
            if line[0] == "Via":
                return at
        raise ParseError("missing", header="Via")

    # ---- the helpers of Elixir Sippet

    def put_header(self, name: str, value: Any) -> None:
        """Set the header field, replacing its lines; None removes it."""
        row = ROWS.get(canonical(name))
        if row is None:
            self[name] = () if value is None else value
        elif row.kind is ONE and type(value) is tuple:  # from the helpers for the ends
            if len(value) > 1:
                raise InvalidValue(
                    f"{row.name}: holds one value, got {len(value)}: "
                    "write put_header() to replace it"
                )
            self.assign(row, value[0] if value else None)
        else:
            self.assign(row, value)

    def put_new_header(self, name: str, value: Any) -> None:
        """Set the header field if it is missing."""
        if name not in self:
            self.put_header(name, value)

    def put_new_lazy_header(self, name: str, make: Callable[[], Any]) -> None:
        """Set the header field to `make()` if it is missing."""
        if name not in self:
            self.put_header(name, make())

    def put_header_front(self, name: str, value: Any) -> None:
        """Add one value in front of the others; None adds nothing."""
        if value is not None:
            self._put_at_end(name, value, FIRST)

    def put_header_back(self, name: str, value: Any) -> None:
        """Add one value behind the others; None adds nothing."""
        if value is not None:
            self._put_at_end(name, value, LAST)

    def delete_header(self, name: str) -> None:
        """Remove the header field, if it is there."""
        self.replace(canonical(name), [])

    def delete_header_front(self, name: str) -> None:
        """Remove the first value, readable or not. The header field goes with its only value."""
        fields = self.fields
        there = fields.get(name)
        text = there[0] if type(there) is list else there
        if not text or "," in text:
            self._replace_at_end(name, FIRST, None)
            return
        # the usual case, for each response that a proxy forwards: a line that is one value
        lines = self.lines
        for at, line in enumerate(lines):
            if line[0] == name:
                del lines[at]
                break
        if type(there) is list:
            fields[name] = there[1] if len(there) == 2 else there[1:]
        else:
            del fields[name]
        self.wire = None
        self.looked_at.pop(name, None)

    def delete_header_back(self, name: str) -> None:
        """Remove the last value, readable or not. The header field goes with its only value."""
        self._replace_at_end(name, LAST, None)

    def drop_headers(self, names: Iterable[str]) -> None:
        """Remove all these header fields."""
        for name in names:
            self.delete_header(name)

    def has_header(self, name: str) -> bool:
        """True if the header field is there."""
        return name in self

    def fetch_header(self, name: str) -> Any:
        """Return the value of the header field. Raises KeyError if it is missing, and
        ParseError."""
        if name not in self:
            raise KeyError(name)
        return self.get_header(name)

    def fetch_header_front(self, name: str) -> Any:
        """Return the first value. Raises KeyError if there is none, and ParseError."""
        return self._fetch_at_end(name, FIRST)

    def fetch_header_back(self, name: str) -> Any:
        """Return the last value. Raises KeyError if there is none, and ParseError."""
        return self._fetch_at_end(name, LAST)

    def get_header(self, name: str, default: Any = None) -> Any:
        """Return the value of the header field, or `default`. Raises ParseError."""
        if name not in self:
            return default
        row = ROWS.get(canonical(name))
        return self.typed(row) if row is not None else tuple(self.all(name))

    def get_header_front(self, name: str, default: Any = None) -> Any:
        """Return the first value, or `default`. The others may be unreadable. Raises ParseError."""
        return self._get_at_end(name, FIRST, default)

    def get_header_back(self, name: str, default: Any = None) -> Any:
        """Return the last value, or `default`. The others may be unreadable. Raises ParseError."""
        return self._get_at_end(name, LAST, default)

    def update_header(self, name: str, initial: Any, change: Callable[[Any], Any]) -> None:
        """Set the header field to `change(value)`, or to `initial` if it is missing."""
        self.put_header(name, change(self.get_header(name)) if name in self else initial)

    def update_header_front(self, name: str, initial: Any, change: Callable[[Any], Any]) -> None:
        """Set the first value to `change(value)`, or the header field to `initial` if there is
        none."""
        self._update_at_end(name, FIRST, initial, change)

    def update_header_back(self, name: str, initial: Any, change: Callable[[Any], Any]) -> None:
        """Set the last value to `change(value)`, or the header field to `initial` if there is
        none."""
        self._update_at_end(name, LAST, initial, change)

    def pop_header(self, name: str, default: Any = None) -> Any:
        """Remove the header field and return its value, or `default`."""
        value = self.get_header(name, default)
        self.delete_header(name)
        return value

    def pop_header_front(self, name: str, default: Any = None) -> Any:
        """Remove the first value and return it, or `default`."""
        value = self.get_header_front(name, default)
        self.delete_header_front(name)
        return value

    def pop_header_back(self, name: str, default: Any = None) -> Any:
        """Remove the last value and return it, or `default`."""
        value = self.get_header_back(name, default)
        self.delete_header_back(name)
        return value

    def get_and_update_header(self, name: str, change: Callable[[Any], tuple[Any, Any]]) -> Any:
        """Call `change(value)`, which returns two things: the result of this call, and the new
        value. A missing header field has the value None, and a new value of None removes it."""
        result, value = change(self.get_header(name))
        self.put_header(name, value)
        return result

    def get_and_update_header_front(
        self, name: str, change: Callable[[Any], tuple[Any, Any]]
    ) -> Any:
        """The same for the first value; a new value of None removes it."""
        return self._get_and_update_at_end(name, FIRST, change)

    def get_and_update_header_back(
        self, name: str, change: Callable[[Any], tuple[Any, Any]]
    ) -> Any:
        """The same for the last value; a new value of None removes it."""
        return self._get_and_update_at_end(name, LAST, change)

    def has_one(self, name: str) -> bool:
        """True if a header field has exactly one value, readable or not."""
        there = self.fields.get(canonical(name))
        if type(there) is not str or "," not in there:
            return type(there) is str
        found = self._find_at_end(name, FIRST)
        return found is not None and not found[2]

    # ---- one value at an end; the others are for other hops and stay unread (§16.3 item 1)

    def _find_at_end(self, name: str, end: int) -> tuple[int, str, str] | None:
        """Return the index of the line that has the value at an end, the text of the value and the
        rest of the line. None if there is no value."""
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
                        pass  # a line that cannot be cut is one unreadable value
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
        known = canonical(named(name))
        row = ROWS.get(known)
        if row is not None and row.kind is not EACH:
            there = self._values(known)
            self.put_header(known, (value, *there) if end is FIRST else (*there, value))
            return
        text = safe(str(value), known).strip(BLANKS) if row is None else row.write_one(value)
        same = [at for at, line in enumerate(self.lines) if line[0] == known]
        at = len(self.lines) if not same else same[0] if end is FIRST else same[-1] + 1
        self.lines.insert(at, (known, USUAL, text))
        self._changed(known, [line[2] for line in self.lines if line[0] == known])

    def _replace_at_end(self, name: str, end: int, text: str | None) -> None:
        """Replace the value at an end by another text; None removes it. The other values stay byte
        for byte."""
        found = self._find_at_end(name, end)
        if found is None:
            return
        at, _, rest = found
        known = self.lines[at][0]
        texts = [part for part in ((text, rest) if end is FIRST else (rest, text)) if part]
        self.lines[at : at + 1] = [(known, USUAL, part) for part in texts]
        self._changed(known, [line[2] for line in self.lines if line[0] == known])

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
