"""rest(): keeps only the bytes of header lines that nothing may need for long. Pure.

Lines that were read take five times as much. The next use of a line reads them again, so nothing
else sees a difference.
"""

from __future__ import annotations

from typing import SupportsIndex

from .headers import Headers
from .lines import HeaderLines
from .scan import as_it_came
from .scan import fastest as scan

_START = "start"
"""Stands for the start line, which the message keeps."""

_SLOT = HeaderLines.__dict__["lines"]


def rest(headers: Headers) -> None:
    """Let lines rest. Nothing happens if they do."""
    if type(headers) is _AtRest:
        return
    packed = headers.wire
    if packed is None:
        text = "\r\n".join([_START, *map(as_it_came, headers.lines), "\r\n"])
        packed = text.encode("utf-8", "surrogateescape")
    del headers.fields, headers.looked_at
    headers.lines = packed  # type: ignore[assignment]  # as _AtRest has it
    headers.__class__ = _AtRest


def _wake(headers: Headers) -> None:
    """Read the lines that rest."""
    packed: bytes = _SLOT.__get__(headers)
    headers.__class__ = _Woken
    # they were read before, so they are within the limits of the parser
    _, headers.lines, headers.fields, _ = scan(packed, len(packed), len(packed))
    headers.looked_at = {}


def _waking(name: str) -> property:
    """Return a property that reads the lines, and then has this slot of them."""

    def read(headers: Headers) -> object:
        _wake(headers)
        return getattr(headers, name)

    def write(headers: Headers, value: object) -> None:
        _wake(headers)
        setattr(headers, name, value)

    return property(read, write)


class _Woken(Headers):
    """Lines that have rested."""

    __slots__ = ()

    has_rested = True


class _AtRest(Headers):
    """Lines that rest. The slot `lines` has their bytes.

    It has properties in place of the slots, because the interpreter reads a slot of Headers without
    a look-up, and __getattr__ would end that.
    """

    __slots__ = ()

    lines = _waking("lines")
    fields = _waking("fields")
    looked_at = _waking("looked_at")

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[object, ...]:
        """Read the lines again for copy and pickle, which take the slots of the class that the
        lines then have."""
        _wake(self)
        return self.__reduce_ex__(protocol)
