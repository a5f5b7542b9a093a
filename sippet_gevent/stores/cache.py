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

    __slots__ = ("_records", "age", "bytes", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0
        """Bytes of all entries."""
        self.age = 0
        """Grows with forget(): what was read before must not be kept any more."""
        self._records: OrderedDict[str, bytes | None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._records)

    def __getitem__(self, aor: str) -> bytes | None:
        record = self._records[aor]
        self._records.move_to_end(aor)
        return record

    def keep(self, aor: str, record: bytes | None, age: int) -> None:
        """Keep a record that was read or written at this age; None says that there is none."""
        if age != self.age:
            return
        records = self._records
        if aor in records:
            self.bytes -= _bytes(aor, records.pop(aor))
        records[aor] = record
        self.bytes += _bytes(aor, record)
        while self.bytes > self.most:
            self.bytes -= _bytes(*records.popitem(last=False))

    def clear(self) -> None:
        """Remove all entries."""
        self._records.clear()
        self.bytes = 0

    def forget(self) -> None:
        """Remove all entries, and those that are being read, too."""
        self.clear()
        self.age += 1


def _bytes(aor: str, record: bytes | None) -> int:
    return ENTRY + getsizeof(aor) + (0 if record is None else getsizeof(record))
