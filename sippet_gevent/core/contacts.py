"""ContactIndex: which addresses-of-record have a binding of a Contact URI, RFC 3261 §10.3 and §19.1.4. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..message.uri import URI, normal_host

SHARED = 10
"""Addresses-of-record remembered for one Contact, at most: phones have few lines, and a gateway's are all the same place."""


class ContactIndex:
    """Finds addresses-of-record by the Contact URIs of their bindings.

    It remembers one number for each Contact, made of the parts that §19.1.4 always compares, so what it finds is to be
    compared as a whole. `len()` is how many numbers there are: no more than there are bindings.
    """

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, ...]] = {}

    def update(self, name: str, before: Sequence[URI], after: Sequence[URI]) -> None:
        """Note that an address-of-record has other Contacts than before; the earliest addresses of a Contact stay."""
        if before == after:  # a refresh, as most are
            return
        old, new = {_number(uri) for uri in before}, {_number(uri) for uri in after}
        for number in old - new:
            left = tuple(other for other in self._names.get(number, ()) if other != name)
            if left:
                self._names[number] = left
            else:
                self._names.pop(number, None)
        for number in new - old:
            names = self._names.get(number, ())
            if name not in names and len(names) < SHARED:
                self._names[number] = (*names, name)

    def find(self, uri: URI) -> tuple[str, ...]:
        """Return the addresses-of-record that may have a binding of this Contact URI."""
        return self._names.get(_number(uri), ())

    def __len__(self) -> int:
        return len(self._names)


def _number(uri: URI) -> int:
    return hash((uri.scheme, uri.user, normal_host(uri.host), uri.port, uri.opaque))
