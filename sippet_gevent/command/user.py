"""`sippet user`: the users of a database, with their passwords as HA1 values (RFC 7616 §3.4.2)."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Callable
from typing import Protocol

from ..core.auth.digest import ALGORITHMS, ha1
from ..core.auth.server import OFFERED
from ..errors import SIPError, excerpt
from ..stores.users import SQLiteUsers, User
from .imports import imported
from .password import MAX_PASSWORD
from .terminal import Mistake, naming, painter, tell, visible

_SCHEME = re.compile(r"(sips?:|tel:)/*", re.IGNORECASE).match
"""Matches the beginning of a URI. No user name begins so, because it has no colon (RFC 7616
§3.4.2)."""


class Options(Protocol):
    """The arguments of `sippet user`."""

    action: str
    user: str
    file: str
    format: str
    realm: str | None
    database: str
    algorithm: list[str] | None


def user(options: Options) -> int:
    """Add, change, remove or list users.

    Returns:
        The exit code: 0; 1 if a user to add exists, or another does not; 2 for a mistake, which is
        printed on stderr in one line.
    """
    try:
        if options.action not in _CREATE and not os.path.exists(options.database):
            raise Mistake(
                f"--database: no such file {excerpt(options.database)}: check its name, or add a "
                f"first user with sippet user add USER --database {options.database}"
            )
        with naming("--database"):
            users = SQLiteUsers(options.database)
        try:
            return _ACTIONS[options.action](users, options)
        finally:
            users.close()
    except SIPError as error:
        return tell(error)
    except KeyboardInterrupt:
        print(file=sys.stderr)  # behind the prompt
        return tell("nothing was changed", 130)


def _add(users: SQLiteUsers, options: Options) -> int:
    username, realm = _name(options.user)
    if users.lookup(username, realm) is not None:
        return tell(
            f"{options.user} exists: give it another password with sippet user passwd "
            f"{options.user}",
            1,
        )
    users.add(_user(username, realm, options))
    print(f"{options.user} added")
    return 0


def _passwd(users: SQLiteUsers, options: Options) -> int:
    username, realm = _name(options.user)
    if users.lookup(username, realm) is None:
        return _unknown(options)
    users.add(_user(username, realm, options))
    print(f"{options.user} has a new password")
    return 0


def _remove(users: SQLiteUsers, options: Options) -> int:
    if not users.remove(*_name(options.user)):
        return _unknown(options)
    print(f"{options.user} removed")
    return 0


def _list(users: SQLiteUsers, options: Options) -> int:
    paint = painter(sys.stdout)
    found = users.list(options.realm)
    names = [visible(f"{user.username}@{user.realm}") for user in found]
    width = max(map(len, names), default=0)
    for text, each in zip(names, found):
        print(f"{text:{width}}  {paint(' '.join(sorted(each.ha1)), 'faint')}")
    return 0


def _import(users: SQLiteUsers, options: Options) -> int:
    """Add all users of a file, or none if a line is wrong. Those that exist are replaced."""
    found = imported(options.file, options.format)
    for each in found:
        users.add(each)
    print(f"users imported: {len(found)}")
    weak = sum(1 for each in found if set(each.ha1) == {"MD5"})
    if weak:
        print(
            f"{weak} of them have an HA1 for MD5 only: restart the server, or send it SIGHUP, so "
            "that it offers MD5 alone"
        )
    return 0


_ACTIONS: dict[str, Callable[[SQLiteUsers, Options], int]] = {
    "add": _add,
    "passwd": _passwd,
    "remove": _remove,
    "list": _list,
    "import": _import,
}


_CREATE = ("add", "import")
"""Actions that create the database. For the others, a missing file is a mistyped name."""


def _unknown(options: Options) -> int:
    return tell(
        f"{options.user} does not exist: see sippet user list --database {options.database}", 1
    )


def _name(text: str) -> tuple[str, str]:
    """Return the user name and the realm of "alice@example.com". Raises Mistake."""
    scheme = _SCHEME(text)
    if scheme is not None:
        raise Mistake(
            f"USER must be a name and a domain, without {scheme[1]}, got {excerpt(text)}: "
            f"write {visible(text[scheme.end() :]) if '@' in text else 'alice@example.com'}"
        )
    username, _, realm = text.rpartition("@")
    if not username or not realm:
        raise Mistake(
            f"USER must have a name and a domain, got {excerpt(text)}: write alice@example.com"
        )
    return username, realm


def _user(username: str, realm: str, options: Options) -> User:
    """Ask for a password, and return the user with it. Raises Mistake, InvalidValue."""
    algorithms = options.algorithm or OFFERED
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise Mistake(
                f"--algorithm must be one of {', '.join(ALGORITHMS)}, got {excerpt(algorithm)}"
            )
    password = _password(f"{username}@{realm}")
    keys = {algorithm: ha1(username, realm, password, algorithm) for algorithm in algorithms}
    with naming("USER"):
        return User(username, realm, keys)


def _password(whose: str) -> str:
    """Return the password from a prompt, or the first line of standard input. Raises Mistake."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {visible(whose)}: ")
        if getpass.getpass("The same again: ") != password:
            raise Mistake("the passwords differ: nothing was changed")
    else:
        password = sys.stdin.readline(MAX_PASSWORD + 2).rstrip("\r\n")
    if not password:
        raise Mistake("the password is empty: write it, or give it as a line of standard input")
    if len(password) > MAX_PASSWORD:
        raise Mistake(f"the password has over {MAX_PASSWORD} characters")
    return password
