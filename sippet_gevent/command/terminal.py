"""What the command's verbs have in common towards people: one-line mistakes, safe text, colours, a
progress line."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InvalidValue, SIPError

PROGRESS_AFTER = 2.0
"""Seconds without an end before a progress line appears: who waits longer wants to know that
something happens."""

PROGRESS_EVERY = 0.2
"""Seconds from one progress line to the next: fast enough to be seen moving, too slow to cost
anything."""

COLOURS = {"title": "1", "name": "36", "faint": "2", "bad": "1;31", "good": "32"}
"""What a text is for, to the parameters of its ANSI escape (ECMA-48 §8.3.117)."""


class Mistake(SIPError):
    """Something the caller of the command can mend: told in one line, exit code 2."""


@contextmanager
def naming(option: str) -> Iterator[None]:
    """Raise Mistake with the name of the command's option instead of InvalidValue, which names an
    argument of Python."""
    try:
        yield
    except InvalidValue as error:
        raise Mistake(f"{option}: {error}") from error


def tell(problem: object, code: int = 2) -> int:
    """Say on stderr what is wrong, in one line; return the exit code."""
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
    """Return a message with `...` in place of what its Authorization and Proxy-Authorization hold
    (RFC 3261 §22)."""
    return _IN_URI_BYTES(rb"\1...", _CREDENTIALS.sub(rb"\1 ...", data))


def without_password(text: str) -> str:
    """Return text with `...` in place of the passwords of SIP URIs, and of credentials in their
    headers (RFC 3261 §19.1)."""
    if ":" in text and "@" in text:
        text = _PASSWORD(r"\1:...@", text)
    return _IN_URI(r"\1...", text) if "uthorization" in text.lower() else text


def visible(text: str) -> str:
    """Return text of a peer's as it may reach a terminal: what is no printable character is written
    as an escape.

    Passwords of SIP URIs are left out.
    """
    text = without_password(text)
    return (
        text
        if text.isprintable()
        else "".join([char if char.isprintable() else _escape(char) for char in text])
    )


def _escape(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # an octet that is no UTF-8 (PEP 383)
        number -= 0xDC00
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


def painter(stream: Any) -> Callable[[str, str], str]:
    """Return `paint(text, what)`: with colours where the stream is a terminal that has them, and
    NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return lambda text, what: text
    return lambda text, what: f"\x1b[{COLOURS[what]}m{text}\x1b[0m"


class Progress:
    """A line on stderr that tells how far it has come: `progress.show(text)`; `clear()` before
    anything else is printed.

    Nothing is shown where stderr is no terminal, nor in the first two seconds.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_AFTER if sys.stderr.isatty() else float("inf")
        self._shown = False

    @property
    def is_due(self) -> bool:
        """True when it is time for the next line."""
        return time.monotonic() >= self._next

    def show(self, text: str) -> None:
        """Put this text in place of the last one."""
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()
        self._shown = True
        self._next = time.monotonic() + PROGRESS_EVERY

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
