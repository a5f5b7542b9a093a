"""The lines of a request that its response repeats, and the To tag, RFC 3261 §8.2.6.2. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import ParseError
from .address import NameAddr
from .grammar import QUOTED, TOKEN_CHARACTERS, split
from .scan import Line, as_it_came
from .speedups import c

# A tag without value, which some phones send in a request. The tag of the response replaces it.
_EMPTY_TAG = re.compile(r'tag[ \t]*(?:=[ \t]*(?:"")?)?', re.IGNORECASE).fullmatch

# The tag that an unreadable To probably has, so that its sender recognizes the answer. Text in
# quotes or brackets is no parameter of the To.
_ENCLOSED = re.compile(rf"{QUOTED}|<[^<>]*>", re.DOTALL).sub
_ANY_TAG = re.compile(rf";[ \t]*tag[ \t]*=[ \t]*([{TOKEN_CHARACTERS}]+)", re.IGNORECASE).search


def tagged(to: str, tag: str) -> str:
    """Return the text of a To with this tag, which replaces a tag without value. The rest is
    unchanged (§8.2.6.2)."""
    try:
        address, *parameters = split(to, ";")
    except ParseError:  # an unreadable To stays as it is
        return f"{to};tag={tag}"
    kept = [parameter for parameter in parameters if not _EMPTY_TAG(parameter)]
    return (
        f"{to};tag={tag}"
        if len(kept) == len(parameters)
        else ";".join([address, *kept, f"tag={tag}"])
    )


def tag_of(to: str) -> str | None:
    """Return the tag in the text of a To, or None. For an unreadable To, return the tag that it
    probably has."""
    try:
        return NameAddr.parse(to).tag
    except ValueError:
        match = _ANY_TAG(_ENCLOSED("", to))
        return match[1] if match else None


def echo(lines: list[Line], echoed: frozenset[str], start_line: str, tag: str) -> bytes:
    """Return a response without body: the start line, the echoed lines and a Content-Length.

    Args:
        lines: The header lines of the request.
        echoed: The canonical names of the lines to repeat.
        start_line: The status line, without line break.
        tag: The To tag to add; "" adds none.
    """
    parts = [start_line]
    for line in lines:
        if line[0] in echoed:
            parts.append(
                f"To: {line[2]};tag={tag}" if tag and line[0] == "To" else as_it_came(line)
            )
    parts.append("Content-Length: 0\r\n\r\n")
    return "\r\n".join(parts).encode("utf-8", "surrogateescape")


fastest_echo: Callable[[list[Line], frozenset[str], str, str], bytes] = echo
"""The function to call: the C version if it is built, otherwise the Python version."""
if c is not None:
    c.setup_echo(echo)
    fastest_echo = c.echo
