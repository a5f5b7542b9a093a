"""LocalCopy: what a store has answered lately, for look-ups while it fails. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from ..message.uri import URI
from .bindings import Bindings, entry_bytes
from .contacts import ContactIndex


class _Known(NamedTuple):
    bindings: Bindings
    bytes: int
    as_of: float


class LocalCopy:
    """Bindings by address-of-record, bounded in bytes. The ones used least recently go first.

    Args:
        most: Most bytes that it takes.
    """

    __slots__ = ("_contacts", "_entries", "bytes", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0
        """Bytes that all bindings take in memory."""
        self._entries: OrderedDict[str, _Known] = OrderedDict()
        self._contacts = ContactIndex()

    def put(self, aor: str, bindings: Bindings, as_of: float, *, is_stored: bool = False) -> None:
        """Remember what is stored for an address-of-record.

        Args:
            aor: The address-of-record.
            bindings: What is stored.
            as_of: Since when this is so: the end of an update, the beginning of a look-up. What is
                older than the known changes nothing.
            is_stored: True if an update has stored this. Only then that there is nothing is
                remembered, because anybody may ask for users that do not exist.
        """
        old = self._entries.get(aor)
        if old is not None:
            if as_of < old.as_of:
                return
            if (bindings or is_stored) and (bindings is old.bindings or bindings == old.bindings):
                self._entries[aor] = old._replace(as_of=as_of)
                self._entries.move_to_end(aor)
                return
            self._remove(aor)
        if not (bindings or is_stored):
            return
        size = entry_bytes(aor, [binding.bytes for binding in bindings])
        if size > self.most:
            return
        self._entries[aor] = _Known(bindings, size, as_of)
        self.bytes += size
        self._contacts.update(aor, (), [binding.uri for binding in bindings])
        while self.bytes > self.most:
            self._remove(next(iter(self._entries)))

    def _remove(self, aor: str) -> None:
        old = self._entries.pop(aor)
        self.bytes -= old.bytes
        self._contacts.update(aor, [binding.uri for binding in old.bindings], ())

    def get(self, aor: str) -> Bindings | None:
        """Return the bindings of an address-of-record, None if they are not known."""
        known = self._entries.get(aor)
        return None if known is None else known.bindings

    def find(self, contact: URI) -> tuple[str, ...]:
        """Return the known addresses-of-record that may have a binding of this Contact URI."""
        return self._contacts.find(contact)

    def __len__(self) -> int:
        """Return the number of addresses-of-record."""
        return len(self._entries)
