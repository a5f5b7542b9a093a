"""scan(): cuts the bytes of a message into start line and header lines, RFC 3261 §7 and §25. Pure.

It is the twin of scan() in `_speedups.c`, with the same arguments, results and texts of ParseError.
Both only find lines. The other files of this folder interpret them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from ..errors import EXCERPT, ParseError
from .grammar import is_token
from .speedups import c

Line = tuple[str, str, str]
"""Canonical name, text as received, and value, unfolded and stripped. A line of the form `Name:
value` has USUAL in the middle, so its three parts joined are the line. Any other line has its whole
text in the middle."""

USUAL = ": "


def as_it_came(line: Line) -> str:
    """Return the text of a line, without its line break."""
    return "".join(line) if line[1] == USUAL else line[1]


Fields = dict[str, "str | list[str]"]
"""Canonical name to the value of the only line, or to a list of the values of all lines."""

Scanned = tuple[str, list[Line], Fields, int]
"""Start line, lines, fields, offset of the body."""


class Framed(bytes):
    """A whole message cut from a stream, with the result of scan(), which has found its end.

    The first parse() with the same `limits` takes `scanned`, which is None from then on.
    """

    scanned: Scanned | None = None
    limits: object = None


NAMES: dict[str, str] = {}
"""Lower-case spelling or compact form of each known header field to its canonical name.
`register_name` fills it."""

CACHED_NAMES = 1024
"""Most spellings that are remembered, so that a peer with new names in each message gains
nothing."""

_spelled: dict[str, str] = {}  # those of NAMES, and others seen
_USUAL_NAMES: set[str] = set()  # canonical spellings: those of NAMES, and others seen

PROBLEMS = (
    "header section has no end",
    "line break that is not CRLF",
    "header line without a colon",
    "header name is not a token",
    "too many header lines",
    "header line too long",
)
NO_END, BAD_BREAK, NO_COLON, BAD_NAME, MANY_LINES, LONG_LINE = range(len(PROBLEMS))


_NEAR = 2048  # bytes; broken lines of credentials are shorter


def fail(problem: int, data: bytes, offset: int) -> NoReturn:
    """Raise the ParseError number `problem`. Both twins call it."""
    status = 513 if problem == MANY_LINES else 400
    end = data.find(b"\n", offset + 1, offset + EXCERPT + 1)
    if end < 0:
        end = offset + EXCERPT + 1
    # no error quotes text near credentials
    secret = b"authorization" in data[max(0, offset - _NEAR) : end].lower()
    raise ParseError(
        PROBLEMS[problem], value=None if secret else data[offset:end], offset=offset, status=status
    )


def canonical(name: str) -> str:
    """Return the canonical name of a header field: that of `m`, `contact` and `CONTACT` is
    `Contact`. Unknown names become `Like-This`."""
    found = _spelled.get(name)
    if found is None:
        found = NAMES.get(name.lower()) or "-".join(
            [part[:1].upper() + part[1:].lower() for part in name.split("-")]
        )
        if len(_spelled) < CACHED_NAMES:
            _spelled[name] = found
            if name == found and is_token(name):  # a name that is looked up may be any text
                _USUAL_NAMES.add(name)
    return found


def register_name(name: str, compact: str | None = None) -> None:
    """Make `name` the canonical spelling of its header field, and `compact` its compact form."""
    NAMES[name.lower()] = name
    if compact:
        NAMES[compact.lower()] = name
    _spelled.clear()  # and know those of NAMES, before a peer fills the room with its own
    _spelled.update(NAMES)
    _USUAL_NAMES.clear()
    _USUAL_NAMES.update(NAMES.values())
    _spelled.update(zip(_USUAL_NAMES, _USUAL_NAMES))
    if c is not None:
        c.forget()


def remember_names() -> None:
    """Let the C twin know the spellings of `NAMES`, too, once those that stand together are
    registered."""
    if c is not None:
        every = "".join([f"{spelling}:\r\n" for spelling in _spelled])
        fastest(f"x\r\n{every}\r\n".encode(), len(_spelled), len(every))


def scan(data: bytes, max_lines: int, max_line: int) -> Scanned:
    """Cut a message into lines. Raises ParseError.

    Lines end with CRLF, and folded lines (§7.3.1) continue after CRLF and a blank. A message whose
    start line ends with a bare LF must end all its lines so. Otherwise a bare CR or LF is refused,
    because it could become a header line in the next hop. Bytes that are not UTF-8 become
    surrogates.

    Args:
        data: The message, from its start line on.
        max_lines: Most header lines.
        max_line: Most bytes in a header line with its folds.
    """
    return _scan_usual(data, max_lines, max_line) or _scan_any(data, max_lines, max_line)


def _scan_usual(data: bytes, max_lines: int, max_line: int) -> Scanned | None:
    """Return scan() of a message that has only usual lines, in a few operations on the whole text.
    None for any other message."""
    at = data.find(b"\r\n\r\n")
    if at <= 0 or at > max_line:
        return None
    texts = data[:at].decode("utf-8", "surrogateescape").split("\r\n")
    joined = "".join(texts)
    if "\r" in joined or "\n" in joined or len(texts) > max_lines + 1:
        return None
    start_line = texts[0]
    del texts[0]
    lines: list[Line] = [text.partition(USUAL) for text in texts]
    fields: Fields = {}
    for name, _, value in lines:
        if name in fields:
            add_field(fields, name, value)
        else:
            fields[name] = value
    if not _USUAL_NAMES.issuperset(fields) or [
        value for _, usual, value in lines if not usual or value.strip() != value
    ]:
        return None
    return start_line, lines, fields, at + 4


def _scan_any(data: bytes, max_lines: int, max_line: int) -> Scanned:
    first = data.find(b"\n")
    if first < 0:
        fail(NO_END, data, 0)
    crlf = data[first - 1 : first] == b"\r"
    line_break = b"\r\n" if crlf else b"\n"
    width = len(line_break)
    lines: list[Line] = []
    fields: Fields = {}
    end = _line_end(data, 0, line_break, max_line)
    start_line = data[:end].decode("utf-8", "surrogateescape")
    at = end + width
    while True:
        end = _line_end(data, at, line_break, max_line)
        if end == at:
            return start_line, lines, fields, at + width
        begin = at
        at = end + width
        folded = False
        while data[at : at + 1] in (b" ", b"\t"):
            folded = True
            end = _line_end(data, at, line_break, max_line)
            at = end + width
            if end - begin > max_line:
                fail(LONG_LINE, data, begin)
        if len(lines) >= max_lines:
            fail(MANY_LINES, data, begin)
        line = data[begin:end].decode("utf-8", "surrogateescape")
        if not _add_line(line, folded, line_break.decode(), lines, fields):
            fail(BAD_NAME if ":" in line else NO_COLON, data, begin)


def _add_line(line: str, folded: bool, line_break: str, lines: list[Line], fields: Fields) -> bool:
    """Add one line to both; False if it has no proper name."""
    name, colon, value = line.partition(":")
    spelled = name.rstrip(" \t")
    if not colon or not is_token(spelled):
        return False
    if folded:
        value = " ".join([piece.strip(" \t") for piece in value.split(line_break)]).strip(" ")
    known = canonical(spelled)
    stripped = value.strip(" \t")
    as_usual = not folded and name == known and value == " " + stripped
    if folded and line_break == "\n":
        line = line.replace("\n", "\r\n")  # so that it is sent as a fold, not as a bare LF
    lines.append((known, USUAL if as_usual else line, stripped))
    add_field(fields, known, stripped)
    return True


def add_field(fields: Fields, name: str, value: str) -> None:
    """Note the text of one more line. A list that is there must not be shared."""
    there = fields.get(name)
    if there is None:
        fields[name] = value
    elif type(there) is list:
        there.append(value)
    else:
        fields[name] = [there, value]  # type: ignore[list-item]  # a text


def _line_end(data: bytes, at: int, line_break: bytes, max_line: int) -> int:
    end = data.find(b"\n", at)
    if end < 0:
        if len(data) - at > max_line:
            fail(LONG_LINE, data, at)
        fail(NO_END, data, at)
    if len(line_break) == 2:
        end -= 1
        if end < at or data[end] != 13:
            fail(BAD_BREAK, data, end + 1)
    if data.find(b"\r", at, end) >= 0:
        fail(BAD_BREAK, data, data.find(b"\r", at, end))
    if end - at > max_line:
        fail(LONG_LINE, data, at)
    return end


fastest: Callable[[bytes, int, int], Scanned] = scan
"""The one of the twins to call."""
if c is not None:
    c.setup_scan(canonical, fail)
    fastest = c.scan
