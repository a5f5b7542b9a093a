"""Output for people, for all verbs: one-line mistakes, safe text, colours, a progress line."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ..errors import InvalidValue, SIPError

PROGRESS_AFTER = 2.0
"""Seconds before a progress line appears. A user waiting longer needs a sign that the command
works."""

PROGRESS_EVERY = 0.2
"""Seconds between progress lines. Frequent enough to show progress, and rare enough to cost
nothing."""

COLOURS = {"title": "1", "name": "36", "faint": "2", "bad": "1;31", "good": "32"}
"""Maps the purpose of a text to the parameters of its ANSI escape (ECMA-48 §8.3.117)."""


Paint = Callable[[str, str], str]
"""Returns a text with the colour of its purpose (see COLOURS)."""


class Mistake(SIPError):
    """A mistake that the user of the command can correct: one line on stderr, exit code 2."""


@contextmanager
def naming(option: str) -> Iterator[None]:
    """Turn InvalidValue, which names a Python argument, into a Mistake that names the option."""
    try:
        yield
    except InvalidValue as error:
        raise Mistake(f"{option}: {error}") from error


def tell(problem: object, code: int = 2) -> int:
    """Print on stderr what is wrong, in one line. Return the exit code."""
    print(f"sippet: {problem}", file=sys.stderr)
    return code


_CREDENTIALS = re.compile(
    rb"^((?:Proxy-)?Authorization[ \t]*:(?:[ \t]*(?:Digest|Basic|Bearer)\b)?).*$(?:\r?\n[ \t].*$)*",
    re.I | re.M,
)
_PASSWORD = re.compile(r"(sips?:[^:@\s<>\"]*):[^\s<>\"]*@", re.I).sub
_IN_URI_BYTES = re.compile(rb"((?:\?|&)(?:proxy-)?authorization=)[^&>\s]*", re.I).sub
_IN_URI = re.compile(r"(authorization(?:=|%3D))[^&>\s\"]*", re.I).sub


def without_credentials(data: bytes) -> bytes:
    """Return a message with `...` in place of the values of Authorization and Proxy-Authorization
    (RFC 3261 §22)."""
    return _IN_URI_BYTES(rb"\1...", _CREDENTIALS.sub(rb"\1 ...", data))


def without_password(text: str) -> str:
    """Return text with `...` in place of the passwords of SIP URIs, and of the credentials in their
    header fields (RFC 3261 §19.1)."""
    if ":" in text and "@" in text:
        text = _PASSWORD(r"\1:...@", text)
    return _IN_URI(r"\1...", text) if "uthorization" in text.lower() else text


def visible(text: str) -> str:
    """Return a peer's text in a form that is safe on a terminal.

    Characters that are not printable become escapes, and passwords of SIP URIs become `...`.
    """
    text = without_password(text)
    return (
        text
        if text.isprintable()
        else "".join([char if char.isprintable() else _escape(char) for char in text])
    )


def _escape(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8 (PEP 383)
        number -= 0xDC00
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


def painter(stream: TextIO) -> Paint:
    """Return `paint(text, purpose)`. It adds colours if the stream is a terminal that has them.

    It adds none if NO_COLOR is set, or if TERM is "dumb".
    """
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return lambda text, purpose: text
    return lambda text, purpose: f"\x1b[{COLOURS[purpose]}m{text}\x1b[0m"


class Progress:
    """A progress line on stderr. It appears only on a terminal, and only after the first two
    seconds.

        if progress.is_due:
            progress.show("3 of 7 MB")
        progress.clear()  # before anything else is printed
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_AFTER if sys.stderr.isatty() else float("inf")
        self._shown = False

    @property
    def is_due(self) -> bool:
        """True if it is time for the next line."""
        return time.monotonic() >= self._next

    def show(self, text: str) -> None:
        """Replace the line by this text."""
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()
        self._shown = True
        self._next = time.monotonic() + PROGRESS_EVERY

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
