"""Values in log lines, escaped so that no peer can forge a field or a line. Pure.

A line is an event, then `key=value` pairs. The place of a value says what has to be escaped:

| place | example | escaped |
|---|---|---|
| `key=%s` | `user=alice\\x20source=192.0.2.1` | blanks, quotes, controls |
| `key="%s"` | `reason="no user \\"bob\\""` | quotes, controls |
| elsewhere | | controls |

Controls are characters that end a line, move a cursor or change the direction of text, and code
points that are no characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, repeat

from ..errors import excerpt

LOGGED_TEXT = 256
"""Characters of one value in a log line."""

_CONTROLS = "\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_CONTROLS}]").sub
# A backslash is doubled only where the quote behind it would seem to be escaped.
_IN_QUOTES = re.compile(rf'[{_CONTROLS}"]|\\+(?="|\Z)').sub
_IN_FIELD = re.compile(rf'[{_CONTROLS}\s"]').sub

# The end of a text within the value of a key.
_IN_WORD = re.compile(r"=\S*\Z").search

_CONVERSION = re.compile(r"%(?:%|[-#0 +]*\d*(?:\.\d+)?[a-zA-Z])").finditer


def _escaped(match: re.Match[str]) -> str:
    found = match[0]
    if found == '"':
        return '\\"'
    if found == " ":
        return "\\x20"
    return found * 2 if found[0] == "\\" else found.encode("unicode_escape").decode("ascii")


class Text:
    """Shows a value in the words of a log line: on one line, escaped and cut."""

    __slots__ = ("_value",)
    _escape = staticmethod(_IN_TEXT)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return self._escape(_escaped, str(self._value)[:LOGGED_TEXT])

    def __repr__(self) -> str:
        return self._escape(_escaped, repr(self._value)[:LOGGED_TEXT])

    def at(self, kind: type[Text]) -> Text:
        """Return the same value for another place."""
        return self if type(self) is kind else kind(self._value)


class Plain(Text):
    """Shows a value without quotes, `key=%s`. LimitedLog also takes it for other places."""

    __slots__ = ()
    _escape = staticmethod(_IN_FIELD)


class Quoted(Text):
    """Shows a value within the quotes of a line, `key="%s"`."""

    __slots__ = ()
    _escape = staticmethod(_IN_QUOTES)


def in_quotes(text: str) -> str:
    """Return a text for a place within quotes. It is not cut."""
    return _IN_QUOTES(_escaped, text)


def shown(line: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
    """Return the arguments of a line, escaped for their places. Text is cut, and has no passwords
    of URIs.

    Args:
        line: The constant text, with `%s` for each argument.
        arguments: The values. A Plain is shown as it is; other text is shown by its repr().
    """
    kinds = _KINDS.get(line)
    if kinds is None:
        if len(_KINDS) >= _MOST_KINDS:
            _KINDS.clear()
        kinds = _KINDS[line] = tuple(_kinds(line))
    return tuple(map(_shown, chain(kinds, repeat(Text)), arguments))


_KINDS: dict[str, tuple[type[Text], ...]] = {}
_MOST_KINDS = 1024
"""Lines whose places are remembered. The library has about a hundred."""


def _kinds(line: str) -> Iterator[type[Text]]:
    """Yield the kind of each argument, by its place."""
    for conversion in _CONVERSION(line):
        if conversion[0] == "%%":
            continue
        before = line[: conversion.start()]
        if before.count('"') % 2:
            yield Quoted
        else:
            yield Plain if _IN_WORD(before) else Text


def _shown(kind: type[Text], argument: object) -> object:
    if isinstance(argument, Text):
        return argument.at(kind)
    if isinstance(argument, (int, float)):
        return argument
    return kind(excerpt(argument) if isinstance(argument, (str, bytes)) else argument)


_CALL_ID = re.compile(rb"^(?:Call-ID|i)[ \t]*:[ \t]*([^\r\n]*)", re.I | re.M).search


def call_id_in(message: bytes | None) -> Plain:
    """Return the Call-ID of a message that is kept as bytes alone, "" if it has none."""
    found = None if message is None else _CALL_ID(message)
    return Plain("" if found is None else found[1].decode("utf-8", "replace"))
