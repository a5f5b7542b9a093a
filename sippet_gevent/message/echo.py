"""echo(): an answer that is nothing but a status, RFC 3261 §8.2.6.2. Pure.

The twin of echo() in `_scan.c`: same arguments, same result.
"""

from __future__ import annotations

from collections.abc import Callable

from .accelerator import c
from .scan import Line, as_it_came


def echo(lines: list[Line], echoed: frozenset[str], start_line: str, tag: str) -> bytes:
    """Return a response without body: the start line, those of `lines` whose names are in `echoed`, Content-Length.

    `tag` is the To tag to add; "" adds none.
    """
    parts = [start_line]
    for line in lines:
        if line[0] in echoed:
            parts.append(f"To: {line[2]};tag={tag}" if tag and line[0] == "To" else as_it_came(line))
    parts.append("Content-Length: 0\r\n\r\n")
    return "\r\n".join(parts).encode("utf-8", "surrogateescape")


fastest: Callable[[list[Line], frozenset[str], str, str], bytes] = echo
"""The one of the twins to call."""
if c is not None:
    c.setup_echo(echo)
    fastest = c.echo
