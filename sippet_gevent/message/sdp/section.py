"""Section: lines of the session or of a media description; Attributes. RFC 8866 §5. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from ...errors import InvalidValue, ParseError, excerpt
from .direction import DIRECTIONS
from .grammar import CRLF, T, is_email, is_phone, is_uri, matching, text_line
from .line import Line
from .values import Attribute, Bandwidth, Connection


def _free_text(what: str) -> Callable[[str], str]:
    return lambda value: text_line(value, what)


def _grammatical(check: Callable[[str], object], what: str) -> Callable[[str], str]:
    return lambda value: matching(check, text_line(value, what), what)


FREE_TEXT: dict[str, Callable[[str], str]] = {
    "s": _free_text("name"),
    "i": _free_text("information"),
    "u": _grammatical(is_uri, "uri"),
    "e": _grammatical(is_email, "an email address"),
    "p": _grammatical(is_phone, "a phone number"),
}
"""The line types that hold text, each with the function that checks the text. It raises
InvalidValue."""


class Attributes:
    """The a= lines of a section (§5.13): an ordered multi-map from names to values.

    Iteration yields Attribute values. Names are case-sensitive. A property attribute has the value
    None, so test for it with `in`. A change applies to the section at once:

        if "rtcp-mux" in section.attributes:
            section.attributes.set("mid", "audio")
    """

    __slots__ = ("_section",)

    def __init__(self, section: Section) -> None:
        self._section = section

    def __iter__(self) -> Iterator[Attribute]:
        return iter([Attribute.parse(line.value) for line in self._section._get("a")])

    def __len__(self) -> int:
        return len(self._section._get("a"))

    def __contains__(self, name: object) -> bool:
        return bool(self._section._get(f"a={name}"))

    def first(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first attribute of this name, or `default` if there is none."""
        lines = self._section._get(f"a={name}")
        return Attribute.parse(lines[0].value).value if lines else default

    def all(self, name: str) -> tuple[str | None, ...]:
        """Return the values of all attributes of this name, in order."""
        return tuple(Attribute.parse(line.value).value for line in self._section._get(f"a={name}"))

    def add(self, name: str, value: str | None = None) -> None:
        """Add an attribute behind all others. Raises InvalidValue."""
        self._section._insert(Line("a", str(Attribute(name, value))))

    def set(self, name: str, value: str | None = None) -> None:
        """Replace all attributes of this name by one, in the place of the first.

        Without such an attribute, add one behind all others. Raises InvalidValue.
        """
        self._section._put_attribute((name,), Attribute(name, value))

    def remove(self, name: str) -> None:
        """Remove all attributes of this name, if there are any."""
        self._section._put_attribute((name,), None)

    def __repr__(self) -> str:
        return f"<Attributes {', '.join(line.value for line in self._section._get('a'))}>"


class Lines:
    """The lines of one section, with an index of them.

    A media description knows the lines of its session, not the session itself. The session refers
    to its media descriptions, so the two would form a cycle.
    """

    __slots__ = ("_found", "all", "end")

    def __init__(self, lines: Iterable[Line], end: str) -> None:
        self.all = list(lines)
        self.end = end
        """The line end of lines that we add."""
        self._found: dict[str, list[Line]] | None = None

    def get(self, key: str) -> list[Line]:
        """Return the lines of a type, "c", of an attribute, "a=ptime", or of any "direction".

        They come from the index, because an answer asks many times.
        """
        if self._found is None:
            self._found = {}
            for line in self.all:
                self._found.setdefault(line.type, []).append(line)
                if line.type == "a":
                    name = Attribute.parse(line.value).name
                    self._found.setdefault(f"a={name}", []).append(line)
                    if name in DIRECTIONS:
                        self._found.setdefault("direction", []).append(line)
        return self._found.get(key, [])

    def set(self, lines: list[Line]) -> None:
        """Replace all lines."""
        self.all = lines
        self._found = None


class Section:
    """Consecutive lines of a description: the base of SDP (the session) and MediaDescription."""

    __slots__ = ("_get", "_own", "_set")
    _order: ClassVar[str]

    def __init__(self, lines: Iterable[Line], end: str = CRLF) -> None:
        self._own = Lines(lines, end)
        self._get = self._own.get
        self._set = self._own.set

    # ---- lines

    @property
    def _lines(self) -> list[Line]:
        return self._own.all

    def _place(self, kind: str) -> int:
        """Return the index for a new line of a type, by the order of §5."""
        rank = self._order.index(kind)
        for index in range(len(self._lines) - 1, -1, -1):
            if 0 <= self._order.find(self._lines[index].type or "?") <= rank:
                return index + 1
        return 0

    def _insert(self, line: Line) -> None:
        """Add a line behind the others of its type."""
        at = self._place(line.type)
        self._set([*self._lines[:at], line, *self._lines[at:]])

    def _put(self, kinds: str, new: list[Line]) -> None:
        """Replace all lines of these types.

        The new lines go where the first old one was, or else where the order of §5 wants them.
        """
        old = [index for index, line in enumerate(self._lines) if line.type and line.type in kinds]
        at = old[0] if old else self._place(kinds[0])
        self._set(
            [
                *self._lines[:at],
                *new,
                *[line for line in self._lines[at:] if not line.type or line.type not in kinds],
            ]
        )

    def _put_one(self, kind: str, value: T | None, read: Callable[[str], T]) -> None:
        """Replace the lines of a type by one, or by none. An equal line stays as it was written."""
        old = self._get(kind)
        if value is None:
            self._put(kind, [])
        elif not old or read(old[0].value) != value:
            self._put(kind, [Line(kind, str(value))])

    def _put_all(self, kind: str, values: Iterable[T], read: Callable[[str], T | None]) -> None:
        """Replace the lines of a type by these values. Equal lines stay as they were written."""
        known = {read(line.value): line for line in reversed(self._get(kind))}
        self._put(kind, [known.get(value) or Line(kind, str(value)) for value in values])

    def _put_attribute(self, names: tuple[str, ...], attribute: Attribute | None) -> None:
        """Replace all attributes of these names by one, in the place of the first, or by none."""
        text = None if attribute is None else str(attribute)
        lines: list[Line] = []
        done = attribute is None
        for line in self._lines:
            if line.type == "a" and Attribute.parse(line.value).name in names:
                if done:
                    continue
                line, done = (
                    line if Attribute.parse(line.value) == attribute else Line("a", text or ""),
                    True,
                )
            lines.append(line)
        self._set(lines)
        if not done:
            self._insert(Line("a", text or ""))

    def _written(self, end: str) -> str:
        """Return the lines as text. `end` ends those of our own."""
        parts: list[str] = []
        last = len(self._lines) - 1
        for index, line in enumerate(self._lines):
            parts.append(f"{line.type}={line.value}" if line.type else line.value)
            parts.append(line.end if line.end or (line.end is not None and index == last) else end)
        return "".join(parts)

    # ---- what the session and media descriptions have in common

    @property
    def attributes(self) -> Attributes:
        """The a= lines, to read and to change."""
        return Attributes(self)

    @property
    def information(self) -> str | None:
        """The i= line: free text, or None (§5.4)."""
        lines = self._get("i")
        return lines[0].value if lines else None

    @information.setter
    def information(self, value: str | None) -> None:
        self._put_one("i", None if value is None else FREE_TEXT["i"](value), str)

    @property
    def bandwidths(self) -> tuple[Bandwidth, ...]:
        """The b= lines that can be read (§5.8)."""
        read = [bandwidth_of(line.value) for line in self._get("b")]
        return tuple(bandwidth for bandwidth in read if bandwidth is not None)

    @bandwidths.setter
    def bandwidths(self, values: Iterable[Bandwidth]) -> None:
        self._put_all("b", values, bandwidth_of)

    @property
    def key(self) -> str | None:
        """The k= line, or None. It is obsolete, so only None may be assigned (§5.12)."""
        lines = self._get("k")
        return lines[0].value if lines else None

    @key.setter
    def key(self, value: None) -> None:
        if value is not None:
            raise InvalidValue("key must be None, because k= must not be sent (RFC 8866 §5.12)")
        self._put("k", [])


def bandwidth_of(text: str) -> Bandwidth | None:
    """Return the value of a b= line, or None if it cannot be read.

    Such a line is ignored like one of an unknown bwtype (§5.8), because it only limits media.
    """
    try:
        return Bandwidth.parse(text)
    except ParseError:
        return None


def connection_of(value: Connection | str | None) -> Connection | None:
    """Return an address as a Connection. Raises TypeError for any other type.

    A likely mistake is the (host, port) of a flow.
    """
    if isinstance(value, str):
        return Connection.make(value)
    if value is not None and not isinstance(value, Connection):
        host = value[0] if isinstance(value, tuple) and value else "192.0.2.1"
        raise TypeError(
            f'address must be text or a Connection, got {excerpt(value)}: write address="{host}"'
        )
    return value
