"""Users of a configuration: those with a password in it, and those of a file of htdigest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..core.auth.digest import ha1
from ..core.auth.server import OFFERED
from ..errors import InvalidValue
from ..stores.users import MemoryUsers, User
from .settings import Settings
from .terminal import Mistake

if TYPE_CHECKING:
    from ..stores.users import SQLiteUsers

HA1_LENGTHS = {32: "MD5", 64: "SHA-256"}
"""The algorithm of an HA1 by its number of digits."""


class OfficeUsers:
    """The users of the default server: those of the configuration, then those of the database.

    Args:
        database: The users of `sippet user`, or None.
    """

    def __init__(self, database: SQLiteUsers | None) -> None:
        self._database = database
        self.configured = MemoryUsers()
        """The users of the configuration; a reload replaces them."""

    def lookup(self, username: str, realm: str, /) -> User | None:
        """Return a user of a realm, None if there is none. Raises StoreError."""
        found = self.configured.lookup(username, realm)
        if found is None and self._database is not None:
            return self._database.lookup(username, realm)
        return found

    def list(self, realm: str) -> list[User]:
        """Return the users of a realm. Raises StoreError."""
        found = self.configured.list(realm)
        if self._database is not None:
            names = {user.username for user in found}
            found += [user for user in self._database.list(realm) if user.username not in names]
        return found

    def algorithms(self, realm: str) -> tuple[str, ...]:
        """Return the algorithms to offer: those of OFFERED that each user has an HA1 for.

        An imported user may have one for MD5 only, and a phone chooses the strongest that is
        offered.
        """
        users = self.list(realm)
        common = tuple(name for name in OFFERED if all(name in user.ha1 for user in users))
        return common or OFFERED


def configured_users(settings: Settings) -> MemoryUsers:
    """Return the users of a configuration. Raises Mistake."""
    users = MemoryUsers()
    if settings.users_file is not None:
        for user in users_of_htdigest(settings.users_file):
            users.add(user)
    for name, password in settings.users.items():
        realm = settings.domains[0]
        keys = {each: ha1(name, realm, password, each) for each in settings.algorithms or OFFERED}
        users.add(User(name, realm, keys))
    return users


def users_of_htdigest(path: str) -> list[User]:
    """Return the users of a file of htdigest. Raises Mistake, which names the line."""
    try:
        with open(path, encoding="utf-8") as file:
            return list(merged(users_of_lines(path, file)))
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{path} is not UTF-8: save it as UTF-8") from error


def users_of_lines(path: str, file: Iterable[str]) -> Iterator[User]:
    """Yield a user for each line, `user:realm:HA1`. Empty lines and comments are left out."""
    for number, line in enumerate(file, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        username, _, rest = text.partition(":")
        realm, _, key = rest.rpartition(":")
        try:
            if not realm or len(key) not in HA1_LENGTHS:
                raise InvalidValue("write user:realm:HA1, with 32 or 64 hexadecimal digits")
            yield User(username, realm, {HA1_LENGTHS[len(key)]: key})
        except InvalidValue as error:
            raise Mistake(f"{path}:{number}: {error}") from None


def merged(users: Iterable[User]) -> list[User]:
    """Return one user for all entries with the same name and realm."""
    found: dict[tuple[str, str], User] = {}
    for user in users:
        name = (user.username, user.realm)
        before = found.get(name)
        keys = {**before.ha1, **user.ha1} if before is not None else user.ha1
        found[name] = User(*name, keys)
    return list(found.values())
