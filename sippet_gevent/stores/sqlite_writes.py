"""The writes of SQLiteBindings, and how a group of them is carried out in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from . import database
from .database import GROUP


class Write(database.Write):
    """Stores a record if the file still has the one that it was computed from.

    Args:
        settle: Called with this write in the thread of the loop, before the waiting greenlet
            goes on.
        aor: The address-of-record.
        expected: The record that the file should have, None for none.
        record: The record to store, None to delete.
    """

    __slots__ = (
        "added", "aor", "count", "dropped", "expected", "found", "is_stored", "look_at", "moves",
        "record", "settle", "turn", "unreadable_since",
    )  # fmt: skip

    def __init__(
        self,
        settle: Callable[[Write], None],
        aor: str,
        expected: bytes | None,
        record: bytes | None,
    ) -> None:
        super().__init__()
        self.settle = settle
        self.aor = aor
        self.expected = expected
        self.record = record
        self.look_at = 0.0
        """When expire() should look at the entry."""
        self.moves = True
        """False if an entry that exists keeps its `look_at`."""
        self.count = 0
        """Number of bindings."""
        self.dropped: set[int] = set()
        self.added: set[int] = set()
        """Hashes of the Contacts that the write takes from the entry, and adds to it."""
        self.unreadable_since: float | None = None
        """If set, `expected` cannot be read, and is put aside."""
        self.turn = 0  # of the pending updates
        # results
        self.is_stored = False
        self.found: bytes | None = None

    def done(self) -> None:
        self.settle(self)
        super().done()


def apply(connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
    """Carry out writes in their order, inside a transaction. Runs in the thread of SQLite.

    Each write gets `is_stored`, or what the file has instead in `found`.

    Raises:
        sqlite3.Error: SQLite fails. The same writes may be tried again.
    """
    names = list(dict.fromkeys([write.aor for write in writes]))
    before = dict(zip(names, records(connection, names)))
    after = before.copy()
    last: dict[str, Write] = {}
    moved: set[str] = set()
    dropped: set[tuple[int, str]] = set()
    added: set[tuple[int, str]] = set()
    for write in writes:
        aor = write.aor
        write.is_stored = after[aor] == write.expected
        if not write.is_stored:
            write.found = after[aor]
            continue
        after[aor] = write.record
        last[aor] = write
        if write.moves:
            moved.add(aor)
        for contact in write.dropped:
            added.discard((contact, aor))
            dropped.add((contact, aor))
        for contact in write.added:
            dropped.discard((contact, aor))
            added.add((contact, aor))
        if write.unreadable_since is not None:
            connection.execute(
                "INSERT INTO unreadable VALUES (?, ?, ?)",
                (aor, write.expected, write.unreadable_since),
            )
            # its Contacts are unknown
            connection.execute("DELETE FROM contacts WHERE aor = ?", (aor,))
    _store(connection, last, moved)
    _each(connection, _drop_contacts, dropped)
    _each(connection, _add_contacts, added)


def _store(connection: sqlite3.Connection, last: dict[str, Write], moved: set[str]) -> None:
    kept = [write for aor, write in last.items() if write.record and aor not in moved]
    moving = [write for aor, write in last.items() if write.record and aor in moved]
    gone = [(aor,) for aor, write in last.items() if not write.record]
    for statement, stored in ((_refresh, kept), (_put, moving)):
        _each(connection, statement, [(w.aor, w.record, w.look_at, w.count) for w in stored])
    _each(connection, _delete, gone)


def records(connection: sqlite3.Connection, names: Sequence[str]) -> list[bytes | None]:
    """Return the records of addresses-of-record, None for each that has none. GROUP at most."""
    (row,) = connection.execute(_records(len(names)), names).fetchall()
    return list(row)


def _each(
    connection: sqlite3.Connection,
    statement: Callable[[int], str],
    rows: Iterable[Sequence[object]],
) -> None:
    """Execute a statement that takes several rows at once."""
    left = list(rows)
    while left:
        some, left = left[:GROUP], left[GROUP:]
        connection.execute(statement(len(some)), [value for row in some for value in row])


def _rows(values: int, count: int) -> str:
    return ", ".join(["(" + ", ".join("?" * values) + ")"] * count)


@lru_cache(GROUP)
def _records(count: int) -> str:
    one = "(SELECT record FROM bindings WHERE aor = ?)"
    return f"SELECT {', '.join([one] * count)}"


_UPSERT = (
    "INSERT INTO bindings (aor, record, look_at, count) VALUES {} ON CONFLICT (aor) DO UPDATE SET "
    "record = excluded.record, count = excluded.count"
)


@lru_cache(GROUP)
def _refresh(count: int) -> str:
    return _UPSERT.format(_rows(4, count))


@lru_cache(GROUP)
def _put(count: int) -> str:
    return f"{_UPSERT.format(_rows(4, count))}, look_at = excluded.look_at"


@lru_cache(GROUP)
def _delete(count: int) -> str:
    return f"DELETE FROM bindings WHERE (aor) IN (VALUES {_rows(1, count)})"


@lru_cache(GROUP)
def _drop_contacts(count: int) -> str:
    return f"DELETE FROM contacts WHERE (contact, aor) IN (VALUES {_rows(2, count)})"


@lru_cache(GROUP)
def _add_contacts(count: int) -> str:
    return f"INSERT OR IGNORE INTO contacts VALUES {_rows(2, count)}"
