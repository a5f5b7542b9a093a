"""The line of each key in a TOML file, for messages about it. Pure.

Python's reader of TOML tells no positions of keys. This module reads only so much of the syntax
that it finds them: headers, keys at the beginning of a line, and where a value of several lines
ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str, ...]

_KEY = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
_KEYS = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEYS})[ \t]*\]\]?").match
_ASSIGNMENT = re.compile(rf"[ \t]*({_KEYS})[ \t]*=").match
_PARTS = re.compile(_KEY).findall
_TOKEN = re.compile(
    r"'''.*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'[^'\n]*'|\"(?:[^\"\\\n]|\\.)*\"|#[^\n]*|[\[\]{}]|\n"
    r"|[^'\"#\[\]{}\n]+|.",
    re.S,
).finditer


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, of each table and key by its path.

    The entries of an array of tables have their index in the path: `("listen", "0", "address")`.
    Keys in inline tables have no line of their own.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    for number, line in _beginnings(text):
        header = _HEADER(line)
        if header:
            table = _path(header[2])
            if header[1] == "[[":
                index = sum(1 for path in found if path[:-1] == table and path[-1].isdecimal())
                table = (*table, str(index))
            found.setdefault(table, number)
            continue
        assignment = _ASSIGNMENT(line)
        if assignment:
            found.setdefault((*table, *_path(assignment[1])), number)
    return found


def line_of(found: dict[Path, int], path: Path) -> int:
    """Return the line of a key, or of the innermost table or key around it that has one; 1 if there
    is none."""
    while path:
        if path in found:
            return found[path]
        path = path[:-1]
    return 1


def _path(text: str) -> Path:
    return tuple(part.strip("\"'") for part in _PARTS(text))


def _beginnings(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line on which a header or a key may begin, with its number."""
    depth, number, begins, start = 0, 1, True, 0
    for token in _TOKEN(text):
        if begins:
            start, begins = token.start(), False
            yield number, text[start : text.find("\n", start) % (len(text) + 1)]
        word = token[0]
        if word in "[{":
            depth += 1
        elif word in "]}":
            depth -= 1
        number += word.count("\n")
        if word == "\n" and depth <= 0:
            depth, begins = 0, True
