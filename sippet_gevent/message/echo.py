"""echo(): an answer that is nothing but a status, RFC 3261 §8.2.6.2. Pure.

The twin of echo() in `_scan.c`: same arguments, same result.
"""

from __future__ import annotations

from collections.abc import Callable

from .scan import Line


def echo(lines: list[Line], echoed: frozenset[str], start_line: str, tag: str) -> bytes:
    """Return a response without body: the start line, those of `lines` whose names are in `echoed`, Content-Length.

    `tag` is the To tag to add; "" adds none.
    """
    parts = [start_line]
    for name, value, raw in lines:
        if name in echoed:
            parts.append(f"To: {value};tag={tag}" if tag and name == "To" else raw or f"{name}: {value}")
    parts.append("Content-Length: 0\r\n\r\n")
    return "\r\n".join(parts).encode("utf-8", "surrogateescape")


fastest: Callable[[list[Line], frozenset[str], str, str], bytes] = echo
"""The one of the twins to call; parser.py sets it."""
