"""RecordCache: packed records in memory, bounded in bytes; the longest unused go first. Pure."""

from __future__ import annotations

from collections import OrderedDict
from sys import getsizeof

ENTRY = 200
"""Bytes of an entry besides its texts, as tracemalloc measures them."""


class RecordCache:
    """Records by address-of-record, and that there is none. `cache[aor]` raises KeyError if the
    cache does not know.

    Args:
        most: Most bytes. 0 keeps nothing.
    """

    __slots__ = ("_records", "bytes", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0
        """Bytes of all entries."""
        self._records: OrderedDict[str, bytes | None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._records)

    def __contains__(self, aor: str) -> bool:
        """True if the cache knows the record, or that there is none."""
        return aor in self._records

    def __getitem__(self, aor: str) -> bytes | None:
        record = self._records[aor]
        self._records.move_to_end(aor)
        return record

    def keep(self, aor: str, record: bytes | None) -> None:
        """Keep a record that was read or written; None says that there is none."""
        self.forget(aor)
        records = self._records
        records[aor] = record
        self.bytes += _bytes(aor, record)
        while self.bytes > self.most:
            self.bytes -= _bytes(*records.popitem(last=False))

    def forget(self, aor: str) -> None:
        """Remove an entry, if there is one."""
        if aor in self._records:
            self.bytes -= _bytes(aor, self._records.pop(aor))


def _bytes(aor: str, record: bytes | None) -> int:
    return ENTRY + getsizeof(aor) + (0 if record is None else getsizeof(record))
