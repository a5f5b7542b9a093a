"""ContactIndex: finds the addresses-of-record that have a binding of a Contact URI, RFC 3261 §10.3
and §19.1.4. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..message.uri import URI, normal_host

SHARED = 10
"""Most addresses-of-record indexed for one Contact. A phone has few lines. A gateway has many, and
any one of them leads to it."""


_BITS = (1 << 30) - 1  # the greatest integer that takes the least memory


class ContactIndex:
    """Finds addresses-of-record by the Contact URIs of their bindings.

    It stores one hash for each Contact, of the parts that §19.1.4 always compares. Two URIs may
    have the same hash, so the caller of find() compares the whole URIs. `len()` is the number of
    hashes, which is at most the number of bindings.
    """

    __slots__ = ("_names",)

    def __init__(self) -> None:
        # most Contacts are of one address-of-record, and need no tuple
        self._names: dict[int, str | tuple[str, ...]] = {}

    def update(self, name: str, before: Sequence[URI], after: Sequence[URI]) -> None:
        """Replace the Contacts of an address-of-record.

        Args:
            name: The address-of-record.
            before: Its previous Contact URIs.
            after: Its Contact URIs from now on. A Contact that has SHARED addresses-of-record gets
                no further one.
        """
        if before == after:  # most are refreshes
            return
        old, new = {_number(uri) for uri in before}, {_number(uri) for uri in after}
        for number in old - new:
            left = tuple(other for other in self._of(number) if other != name)
            if left:
                self._names[number] = left[0] if len(left) == 1 else left
            else:
                self._names.pop(number, None)
        for number in new - old:
            names = self._of(number)
            if name not in names and len(names) < SHARED:
                self._names[number] = (*names, name) if names else name

    def find(self, uri: URI) -> tuple[str, ...]:
        """Return the addresses-of-record that may have a binding of this Contact URI."""
        return self._of(_number(uri))

    def _of(self, number: int) -> tuple[str, ...]:
        names = self._names.get(number, ())
        return (names,) if isinstance(names, str) else names

    def __len__(self) -> int:
        return len(self._names)


def _number(uri: URI) -> int:
    whole = hash((uri.scheme, uri.user, normal_host(uri.host), uri.port, uri.opaque))
    return whole & _BITS
