"""HeaderLines: the ordered header lines of a message, as text, RFC 3261 §7.3. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, overload

from ..errors import CREDENTIALS, InvalidValue, excerpt
from .grammar import BLANKS, is_token
from .scan import USUAL, Fields, Line, add_field, as_it_came, canonical

D = TypeVar("D")

# Bytes that are not UTF-8 are U+DC80 to U+DCFF in here. No other surrogate can be written as bytes.
_UNSAFE = re.compile(r"[\r\n\0\ud800-\udc7f\udd00-\udfff]").search


def safe(text: str, name: str) -> str:
    """Return `text`, or raise InvalidValue if CR, LF or NUL in it would break out of its line, or
    if it is not Unicode."""
    if _UNSAFE(text):
        shown = "these credentials" if canonical(name) in CREDENTIALS else excerpt(text)
        raise InvalidValue(f"{name}: CR, LF, NUL or a lone surrogate in {shown}")
    return text


class HeaderLines:
    """The header lines of a message: ordered, blind to case and compact form, unchanged until
    assigned.

    Headers adds the typed values.
    """

    __slots__ = ("fields", "lines", "looked_at", "wire")

    # Attributes in slots, and no __getattr__: the interpreter reads only those without a look-up.

    def __init__(self, lines: Iterable[Line] = (), fields: Fields | None = None) -> None:
        self.lines: list[Line] = lines if type(lines) is list else list(lines)
        """Each line as (canonical name, text as received, value). Do not change it."""
        self.fields: Fields = fields_of(self.lines) if fields is None else fields
        """Canonical name to the text of its only line, or a list of texts. Do not change it."""
        self.looked_at: dict[str, Any] = {}
        """Canonical name to typed value of the known header fields that were read so far. Do not
        change it."""
        self.wire: bytes | None = None
        """The bytes of the whole message that has these lines; None after the first change."""

    def all(self, name: str) -> list[str]:
        """Return the texts of all lines of this header field, in order."""
        fields = self.fields
        there = fields.get(name)
        if there is None:  # missing, or spelled in another way
            there = fields.get(canonical(name))
        return [] if there is None else [there] if isinstance(there, str) else list(there)

    def __getitem__(self, name: str) -> str:
        fields = self.fields
        there = fields.get(name)
        if there is None:
            there = fields[canonical(name)]
        return there if type(there) is str else there[0]

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: D) -> str | D: ...
    def get(self, name: str, default: Any = None) -> Any:
        """Return the text of the first line of this header field, or `default`."""
        fields = self.fields
        there = fields.get(name)
        if there is None:
            there = fields.get(canonical(name), default)
        return there[0] if type(there) is list else there

    def __setitem__(self, name: str, value: str | Iterable[str]) -> None:
        if isinstance(value, bytes):
            raise InvalidValue(f"{name}: a value is text, not {excerpt(value)}")
        if not isinstance(value, Iterable):
            raise TypeError(
                f'{name}: a value must be a text, or several, got {excerpt(value)}: write "{value}"'
            )
        texts = [value] if isinstance(value, str) else [str(item) for item in value]
        self.replace(canonical(named(name)), [safe(text, name).strip(BLANKS) for text in texts])

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
        """Add one line behind the last line. With `first`, add it in front of the other lines of
        this header field, or at the top if there are none. Raises InvalidValue."""
        known = canonical(named(name))
        text = safe(value, name).strip(BLANKS)
        if first:
            self.push(known, text)
        else:
            self.extend([(known, USUAL, text)])

    def extend(self, lines: Iterable[Line]) -> None:
        """Add lines that are safe behind the last line."""
        fields = self.fields
        for line in lines:
            self.lines.append(line)
            known, _, text = line
            there = fields.get(known)
            if there is None:
                fields[known] = text
            else:  # a new list, because copies share the old one
                fields[known] = [there, text] if type(there) is str else [*there, text]
            self.looked_at.pop(known, None)
        self.wire = None

    def set_line(self, index: int, text: str) -> None:
        """Change the text of the line at `index`, the first of its name. The text must be safe,
        made of what scan() found."""
        name = self.lines[index][0]
        self.lines[index] = (name, USUAL, text)
        self.wire = None
        fields = self.fields
        there = fields[name]
        fields[name] = [text, *there[1:]] if type(there) is list else text
        self.looked_at.pop(name, None)

    def push(self, known: str, text: str) -> None:
        """Add a line in front of the other lines of its header field, or at the top if there are
        none. The text must be safe."""
        at = 0
        for index, line in enumerate(self.lines):
            if line[0] == known:
                at = index
                break
        fields = self.fields
        self.lines.insert(at, (known, USUAL, text))
        self.wire = None
        there = fields.get(known)
        if there is None:
            fields[known] = text
        else:  # a new list, because copies share the old one
            fields[known] = [text, there] if type(there) is str else [text, *there]
        self.looked_at.pop(known, None)

    def put(self, known: str, text: str) -> None:
        """Make a text the only line of its header field, in place or at the end. It must be
        safe."""
        fields = self.fields
        there = fields.get(known)
        if there is None:
            self.lines.append((known, USUAL, text))
        elif type(there) is str:
            for index, line in enumerate(self.lines):
                if line[0] == known:
                    self.lines[index] = (known, USUAL, text)
                    break
        else:
            self.replace(known, [text])
            return
        fields[known] = text
        self.wire = None
        self.looked_at.pop(known, None)

    def replace(self, known: str, texts: list[str]) -> None:
        """Replace all lines of a header field by these texts, in the place of its first line or at
        the end."""
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
        self._changed(known, [line[2] for line in lines])

    def _changed(self, known: str, texts: list[str]) -> None:
        """Note the texts of all lines that a header field has now."""
        if texts:
            self.fields[known] = texts[0] if len(texts) == 1 else texts
        else:
            self.fields.pop(known, None)
        self.wire = None
        self.looked_at.pop(known, None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeaderLines) and self.items() == other.items()

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def text(self) -> str:
        """Return all lines as they go on the wire."""
        return "".join([f"{as_it_came(line)}\r\n" for line in self.lines])

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self)}>"


def fields_of(lines: Iterable[Line]) -> Fields:
    """Return canonical name to the text of its only line, or to a list of texts."""
    fields: Fields = {}
    for known, _, value in lines:
        add_field(fields, known, value)
    return fields


def named(name: str) -> str:
    if not is_token(name):
        raise InvalidValue(f'{excerpt(name)} is not a header name: write "X-Tenant"')
    return name
