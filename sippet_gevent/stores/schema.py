"""The tables of a SQLite file of this library, and the way from one version to the next.

A file of an earlier version is changed when it is opened. A later version of the schema is refused,
because an earlier program would not keep its rules.
"""

from __future__ import annotations

import os
import sqlite3

from ..errors import StoreError

APPLICATION = 0x53697074
"""`PRAGMA application_id` of our files, the letters Sipt: nobody writes into a file of another
program."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # `look_at` is a time at or before the first end of a binding. A refresh leaves it, and
        # expire() moves it on. So a usual refresh changes one page of the file, and no index.
        """
        CREATE TABLE bindings (
            aor TEXT PRIMARY KEY,
            record BLOB NOT NULL,
            look_at REAL NOT NULL,
            count INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX bindings_to_look_at ON bindings (look_at)",
        # a hash of each Contact URI
        "CREATE TABLE contacts (contact INTEGER, aor TEXT, PRIMARY KEY (contact, aor))"
        " WITHOUT ROWID",
        # records that could not be read when they had to make way for others
        "CREATE TABLE unreadable (aor TEXT, record BLOB, moved_at REAL)",
        """
        CREATE TABLE users (
            realm TEXT,
            username TEXT,
            algorithm TEXT,
            ha1 TEXT NOT NULL,
            PRIMARY KEY (realm, username, algorithm)
        ) WITHOUT ROWID
        """,
    ),
    ("CREATE TABLE secrets (name TEXT PRIMARY KEY, secret BLOB NOT NULL) WITHOUT ROWID",),
)
"""The statements that lead from each version to the next. A released one never changes."""

SECRET_BYTES = 32


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables or change them to this version, inside a transaction.

    Raises:
        StoreError: The file is of another program, or of a later version.
        sqlite3.Error: SQLite fails.
    """
    ((application,),) = connection.execute("PRAGMA application_id").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if application != APPLICATION:
        ((tables,),) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
        if application or version or tables:
            raise StoreError(f"{path} is a database of another program: name another file")
        connection.execute(f"PRAGMA application_id={APPLICATION}")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} has schema version {version}, and this version knows those up to "
            f"{len(MIGRATIONS)}: install the version that wrote it, or a later one"
        )
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute(
            "INSERT OR IGNORE INTO secrets VALUES ('route', ?)", (os.urandom(SECRET_BYTES),)
        )
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
