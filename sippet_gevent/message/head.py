"""head(): the start line and header lines of a message as bytes, RFC 3261 §7. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InvalidValue
from .scan import USUAL, Line
from .speedups import c

_CONTENT_LENGTH = "Content-Length"
_BREAK = "\r\n"


def head(start_line: str, lines: list[Line], length: int) -> bytes:
    """Return all of a message before its body.

    Args:
        start_line: The first line, without line break.
        lines: The header lines. Those that came are written as they came.
        length: The length of the body. A Content-Length is added if there is none.

    Raises:
        InvalidValue: The Content-Length is another number.
    """
    text = "\r\n".join(
        [name + came + value if came == USUAL else came for name, came, value in lines]
    )
    given = [line[2] for line in lines if line[0] == _CONTENT_LENGTH]
    if given and (given[0] == "" or given[0].lstrip("0") != str(length or "")):
        # the next message would begin inside this one
        raise InvalidValue(
            f"{_CONTENT_LENGTH}: must be the length of the body, {length} bytes, "
            f"got {given[0]!r}: remove it, and it is written for you"
        )
    if given:
        whole = f"{start_line}\r\n{text}\r\n\r\n"
    else:
        last = f"{_BREAK if text else ''}{_CONTENT_LENGTH}: {length}"
        whole = f"{start_line}\r\n{text}{last}\r\n\r\n"
    return whole.encode("utf-8", "surrogateescape")


fastest_head: Callable[[str, list[Line], int], bytes] = head
"""The function to call: the C version if it is built, otherwise the Python version."""
if c is not None:
    c.setup_head(head)
    fastest_head = c.head
