"""Users with the keys that prove their passwords, RFC 3261 §22 and RFC 7616 §3.4.2.

A store keeps HA1 values, one for each algorithm, and never a password. An HA1 is as good as the
password within its realm, so nothing here shows one, and a file of users is for its owner only.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from ..errors import InvalidValue, excerpt
from . import database
from .database import MAX_BYTES, Database

HA1_LENGTHS = {"MD5": 32, "SHA-256": 64, "SHA-512-256": 64}
"""Hexadecimal digits of an HA1 by algorithm (RFC 8760 §2.1). The -sess forms have the same HA1."""

_HEXADECIMAL = re.compile(r"[0-9a-f]+").fullmatch


@dataclass(frozen=True)
class User:
    """A user of a realm, as a server checks digests.

        User("100", "example.com", {"SHA-256": ha1("100", "example.com", "secret")})

    Args:
        username: The user name, without a colon.
        realm: The realm, exactly as the server writes it in its challenges.
        ha1: HA1 in hexadecimal for each algorithm: MD5, SHA-256, SHA-512-256.

    Raises:
        InvalidValue: A value is wrong. The text never quotes an HA1.
        TypeError: A value is no text.
    """

    username: str
    realm: str
    ha1: Mapping[str, str] = field(repr=False, hash=False)

    def __post_init__(self) -> None:
        for name, text in (("username", self.username), ("realm", self.realm)):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be a text, got {excerpt(text)}: write {name}='100'")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InvalidValue(f"{name} has characters that are none: {excerpt(text)}") from (
                    None
                )
        if not self.username or ":" in self.username:
            raise InvalidValue(
                f"username must be a text without a colon, got {excerpt(self.username)}"
            )
        if not isinstance(self.ha1, Mapping):  # it may be a password, so it is not quoted
            raise TypeError(
                f"ha1 must map algorithms to HA1, got a {type(self.ha1).__name__}: write "
                'ha1={"SHA-256": …}'
            )
        object.__setattr__(
            self, "ha1", MappingProxyType(dict(_key(*item) for item in self.ha1.items()))
        )
        if not self.ha1:
            raise InvalidValue("ha1 is empty: give one for an algorithm, such as SHA-256")


def _key(algorithm: object, ha1: object) -> tuple[str, str]:
    """Return an algorithm and HA1 in their usual spelling. Raises InvalidValue, which does not
    quote what may be a password."""
    known = algorithm.upper() if isinstance(algorithm, str) else ""
    length = HA1_LENGTHS.get(known)
    if length is None:
        raise InvalidValue(
            f"algorithm of ha1 must be one of {', '.join(HA1_LENGTHS)}, got {excerpt(algorithm)}"
        )
    text = ha1.lower() if isinstance(ha1, str) else ""
    if len(text) != length or not _HEXADECIMAL(text):
        raise InvalidValue(
            f"ha1 of {known} must be {length} hexadecimal digits: compute it with ha1() of the "
            "password"
        )
    return known, text


class UserStore(Protocol):
    """A store of users. `MemoryUsers` and `SQLiteUsers` are two. A store of your own has this
    method."""

    def lookup(self, username: str, realm: str, /) -> User | None:
        """Return a user of a realm, None if there is none.

        It may wait, for example for a network. Raises StoreError when it fails.
        """


class MemoryUsers:
    """Users in the memory of this process.

    Args:
        users: The users at the start.
    """

    def __init__(self, users: Iterable[User] = ()) -> None:
        self._users: dict[tuple[str, str], User] = {}
        for user in users:
            self.add(user)

    def lookup(self, username: str, realm: str, /) -> User | None:
        """Return a user of a realm, None if there is none."""
        return self._users.get((realm, username))

    def add(self, user: User) -> None:
        """Add a user, or replace the one with the same name and realm."""
        self._users[user.realm, user.username] = _user(user)

    def remove(self, username: str, realm: str) -> bool:
        """Remove a user. Returns False if there was none."""
        return self._users.pop((realm, username), None) is not None

    def list(self, realm: str | None = None) -> list[User]:
        """Return the users of a realm, or all, in the order of realm and name."""
        return [
            user for _, user in sorted(self._users.items()) if realm is None or user.realm == realm
        ]

    def without(self, algorithm: str, realm: str) -> tuple[str, ...]:
        """Return the names of the users of a realm that have no HA1 for an algorithm."""
        return tuple(
            user.username
            for user in self._users.values()
            if user.realm == realm and algorithm not in user.ha1
        )

    def close(self) -> None:
        """Do nothing, as there is nothing to free."""


def _user(user: object) -> User:
    if not isinstance(user, User):
        raise TypeError(f"user must be a User, got a {type(user).__name__}: write User(…)")
    return user


class _Change(database.Write):
    """A change of users, which may run again: `change(connection)`."""

    __slots__ = ("change", "has_changed")

    def __init__(self, change: Callable[[sqlite3.Connection], bool]) -> None:
        super().__init__()
        self.change = change
        self.has_changed = False


def _apply(connection: sqlite3.Connection, changes: Iterable[_Change]) -> None:
    for each in changes:
        each.has_changed = each.change(connection)


class SQLiteUsers:
    """Users in a SQLite file, which may be that of SQLiteBindings. Several processes may use it.

        users = SQLiteUsers("/var/lib/sippet/sippet.db")
        users.add(User("100", "example.com", {"SHA-256": ha1("100", "example.com", "secret")}))

    A look-up sees at once what another process has changed. The file is created with mode 0600.

    Args:
        path: The file. Its directory must exist, on a local disk.
        max_bytes: Most bytes of the file.

    Raises:
        StoreError: The file cannot be used. The text says why, and what to do.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._database: Database[_Change] = Database(path, _apply, max_bytes=max_bytes)

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._database.path

    def lookup(self, username: str, realm: str, /) -> User | None:
        """Return a user of a realm, None if there is none. Raises StoreError."""
        if not (_is_text(username) and _is_text(realm)):
            return None
        found = self._database.read(
            lambda connection: connection.execute(
                "SELECT realm, username, algorithm, ha1 FROM users "
                "WHERE realm = ? AND username = ?",
                (realm, username),
            ).fetchall()
        )
        return next(iter(_users(found)), None)

    def add(self, user: User) -> None:
        """Add a user, or replace the one with the same name and realm. Raises StoreError."""
        name = (_user(user).realm, user.username)
        rows = [(*name, algorithm, ha1) for algorithm, ha1 in user.ha1.items()]

        def change(connection: sqlite3.Connection) -> bool:
            _delete(connection, name)
            connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", rows)
            return True

        self._change(change)

    def remove(self, username: str, realm: str) -> bool:
        """Remove a user. Returns False if there was none. Raises StoreError."""
        if not (_is_text(username) and _is_text(realm)):
            return False
        return self._change(lambda connection: _delete(connection, (realm, username)))

    def _change(self, change: Callable[[sqlite3.Connection], bool]) -> bool:
        write = _Change(change)
        self._database.give(write)
        self._database.wait(write)
        return write.has_changed

    def list(self, realm: str | None = None) -> list[User]:
        """Return the users of a realm, or all, in the order of realm and name. Raises
        StoreError."""
        where, values = ("", ()) if realm is None else (" WHERE realm = ?", (realm,))
        return _users(
            self._database.read(
                lambda connection: connection.execute(
                    f"SELECT realm, username, algorithm, ha1 FROM users{where} "
                    "ORDER BY realm, username, algorithm",
                    values,
                ).fetchall()
            )
        )

    def without(self, algorithm: str, realm: str) -> tuple[str, ...]:
        """Return the names of the users of a realm that have no HA1 for an algorithm. Raises
        StoreError."""
        known = tuple(HA1_LENGTHS)  # a later version may know more
        rows = self._database.read(
            lambda connection: connection.execute(
                "SELECT username FROM users "
                f"WHERE realm = ? AND algorithm IN ({', '.join('?' * len(known))}) "
                "GROUP BY username HAVING NOT MAX(algorithm = ?) ORDER BY username",
                (realm, *known, algorithm),
            ).fetchall()
        )
        return tuple(name for (name,) in rows)

    def close(self) -> None:
        """Finish the changes that wait, and close the file. May be called twice."""
        self._database.close()


def _delete(connection: sqlite3.Connection, name: tuple[str, str]) -> bool:
    statement = "DELETE FROM users WHERE realm = ? AND username = ?"
    return connection.execute(statement, name).rowcount > 0


def _is_text(text: object) -> bool:
    """True for a text that SQLite can keep. A peer chooses user names."""
    try:
        return isinstance(text, str) and text.encode() is not None
    except UnicodeEncodeError:
        return False


def _users(rows: Iterable[tuple[str, str, str, str]]) -> list[User]:
    """Return the users of rows, which are in the order of realm and name."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for realm, username, algorithm, ha1 in rows:
        # a later version may know more algorithms
        if algorithm in HA1_LENGTHS:
            found.setdefault((username, realm), {})[algorithm] = ha1
    return [User(*name, ha1) for name, ha1 in found.items()]
