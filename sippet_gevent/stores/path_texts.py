"""Bindings whose Paths are kept as text, for a store that keeps very many, RFC 3327 §5.3. Pure.

A parsed Path value takes 370 bytes, and its text 90. A Path is read only when a request goes to its
Contact, and parsing its text then takes some microseconds.
"""

from __future__ import annotations

from typing import cast

from ..errors import SIPError
from ..message.address import NameAddr
from .bindings import Binding, Bindings, compact

_BETWEEN = "\n"  # no address that was read contains it

Path = tuple[NameAddr, ...]


class PathTexts(tuple[Binding, ...]):
    """Bindings whose `path` is a text. Only read_paths() may look at it."""

    __slots__ = ()


def keep_paths(bindings: Bindings) -> Bindings:
    """Return bindings with their Paths as text: PathTexts, or the same tuple if a Path cannot be
    written as text."""
    try:
        return PathTexts(
            [b._replace(path=cast(Path, _text(b.path))) if b.path else b for b in bindings]
        )
    except (SIPError, TypeError, ValueError):  # an application has made it
        return bindings


def read_paths(bindings: Bindings) -> Bindings:
    """Return bindings with their Paths read again."""
    return tuple([b._replace(path=_read(cast(str, b.path))) if b.path else b for b in bindings])


def _text(path: Path) -> str:
    for address in path:
        for part in (address.parameters, address.uri.parameters, address.uri.headers):
            # only what was read, and kept by compact(), is certain to be read as the same again
            if part._pairs:
                raise ValueError(f"{part} was not read")
    texts = [str(address) for address in path]
    if any(_BETWEEN in text for text in texts):
        raise ValueError("an address contains a line feed")
    return _BETWEEN.join(texts)


def _read(text: str) -> Path:
    # compact again, because some of the bindings that a change gets are kept
    return tuple([compact(NameAddr.parse(address)) for address in text.split(_BETWEEN)])
