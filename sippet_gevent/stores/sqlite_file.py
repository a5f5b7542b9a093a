"""Opening a SQLite file: creates it, changes it to WAL and to this version of the schema, and says
what is wrong with it."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path

from gevent import monkey

from ..errors import InvalidValue, StoreError, excerpt
from .schema import prepare
from .sqlite_errors import failure_of, is_locked

_sleep = monkey.get_original("time", "sleep")  # in the thread of SQLite

OPEN_SECONDS = 5.0
"""Seconds until opening a file fails because another process has the lock. Several processes may
start at the same time."""

CHECKED_BYTES = 128 * 1024 * 1024
"""Bytes of the largest file that is checked for damage when it is opened, which takes a second."""

CHECKPOINT_PAGES = 4000
"""Pages of the write-ahead log before they are copied to the file. A page that changes often is
copied once."""

Rows = list[tuple[int | str, ...]]

STATEMENTS = 512
"""Statements of a connection that stay compiled: one for each number of rows."""


Inode = tuple[int, int]
"""Device and inode of a file."""

PARTS = ("", "-wal", "-shm")
"""The files of a database: itself, what was written last, and the index of that. SQLite puts them
beside the file to which a link leads."""

FileId = tuple["Inode | None", ...]
"""Which files the PARTS are, None for one that is missing."""


def file_id(path: str) -> FileId:
    """Return which files a path leads to."""
    real = os.path.realpath(path)
    return tuple([_inode(real + part) for part in PARTS])


def _inode(path: str) -> Inode | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_file(path: str, *, max_bytes: int, synchronous: str) -> tuple[sqlite3.Connection, FileId]:
    """Open a file, create it if it does not exist, and change it to this version of the schema.

    Args:
        path: The absolute path.
        max_bytes: Most bytes of the file.
        synchronous: FULL or NORMAL.

    Returns:
        The connection, and which files it has open.

    Raises:
        StoreError: The file cannot be used. The text says why, and what to do.
    """
    connection: sqlite3.Connection | None = None
    try:
        create(path)
        opened = file_id(path)[0]  # before, so that one that is put there meanwhile is noticed
        connection = _connect(path)
        ((mode,),) = patiently(connection, "PRAGMA journal_mode=WAL")
        if mode != "wal":
            raise StoreError(
                f"{path} is on a file system without shared memory, as network file "
                "systems are: choose a file on a local disk"
            )
        ((page_size,),) = patiently(connection, "PRAGMA page_size")
        for pragma in (
            f"synchronous={synchronous}",
            f"max_page_count={max(1, max_bytes // int(page_size))}",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            "journal_size_limit=67108864",
            "cache_size=-16000",
        ):
            patiently(connection, f"PRAGMA {pragma}")
        patiently(connection, "BEGIN IMMEDIATE")
        prepare(connection, path)
        connection.execute("COMMIT")
        if Path(path).stat().st_size <= CHECKED_BYTES:
            ((found,),) = patiently(connection, "PRAGMA quick_check(1)")
            if found != "ok":
                raise sqlite3.DatabaseError(f"database disk image is malformed: {found}")
        return connection, (opened, *file_id(path)[1:])
    except (sqlite3.Error, OSError, StoreError) as error:
        if connection is not None:
            close(connection)
        if isinstance(error, StoreError):
            raise
        raise failure_of(error, path) from error


def open_reader(path: str) -> sqlite3.Connection:
    """Return a connection that only reads a file that exists. Raises sqlite3.Error."""
    reader = _connect(f"{Path(path).as_uri()}?mode=rw", uri=True)
    try:
        patiently(reader, "PRAGMA query_only=1")
        patiently(reader, "PRAGMA cache_size=-8000")
    except sqlite3.Error:
        close(reader)
        raise
    return reader


def _connect(path: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=0.0,
        uri=uri,
        isolation_level=None,
        cached_statements=STATEMENTS,
    )


def close(connection: sqlite3.Connection) -> None:
    """Close a connection whose file may have failed."""
    try:
        connection.close()
    except sqlite3.Error:
        pass


def checked_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file. Raises InvalidValue and TypeError."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must name a file, got {excerpt(path)}: write 'sippet.db'")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text or text == ":memory:":
        raise InvalidValue(
            f"path must name a file, got {excerpt(text)}: write 'sippet.db', or use a store in "
            "memory"
        )
    return os.path.abspath(text)


def create(path: str) -> None:
    """Create a file with mode 0600 unless it exists. Raises OSError.

    SQLite gives the files that it makes beside it the same mode. A file that exists is not opened
    here: closing it would drop the locks that other connections of this process have.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass


def patiently(connection: sqlite3.Connection, statement: str) -> Rows:
    """Execute a statement of the opening, and wait for other processes that open the file. Return
    its rows.

    Changing a new file to WAL ignores the busy timeout. Raises sqlite3.Error.
    """
    ends_at = time.monotonic() + OPEN_SECONDS
    while True:
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() >= ends_at:
                raise
        _sleep(random.uniform(0.001, 0.02))
