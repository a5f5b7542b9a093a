"""Users of a configuration: those with a password in it, and those of a file of htdigest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..core.auth.digest import ha1
from ..core.auth.lookup import told
from ..core.auth.server import OFFERED
from ..errors import InvalidValue
from ..stores.users import MemoryUsers, User
from .configuration import Words
from .settings import ALGORITHMS, Settings
from .terminal import Mistake

if TYPE_CHECKING:
    from ..stores.users import SQLiteUsers

HA1_LENGTHS = {32: "MD5", 64: "SHA-256"}
"""The algorithm of an HA1 by its number of digits."""


class AskedUsers(NamedTuple):
    """The users of a configuration, and the algorithms that they are asked by."""

    configured: MemoryUsers
    algorithms: tuple[str, ...]


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

    def offered(self, settings: Settings, words: Words, configured: MemoryUsers) -> tuple[str, ...]:
        """Return the algorithms to offer. Each user has an HA1 for each of them, because a phone
        chooses the strongest that is offered, and an imported user may have one for MD5 only.

        Args:
            settings: The settings.
            words: How messages name them.
            configured: The users of the settings.

        Raises:
            Mistake: A user lacks an HA1 for an algorithm of the settings, or the users have none in
                common.
            StoreError: The database cannot be read.
        """
        realm = settings.domains[0]
        lacking = {
            algorithm: self._without(algorithm, realm, configured) for algorithm in ALGORITHMS
        }
        for algorithm in settings.algorithms:
            if lacking[algorithm] is not None:
                raise Mistake(
                    f"{words.name('algorithms')} {told({algorithm: lacking[algorithm]})}: "
                    f"{self._advice(settings)}, or leave {algorithm} out"
                )
        if settings.algorithms:
            return settings.algorithms
        common = tuple(name for name in ALGORITHMS if lacking[name] is None)
        if not common:
            where = words.name(_key_of(settings))
            raise Mistake(
                f"{where} the users have no algorithm in common, because {told(lacking)}: "
                f"{self._advice(settings)}"
            )
        # few phones know the strongest
        return tuple(name for name in OFFERED if name in common) or common

    def _without(self, algorithm: str, realm: str, configured: MemoryUsers) -> str | None:
        """Return the name of a user without an HA1 for an algorithm; None if there is none."""
        names = configured.without(algorithm, realm)
        if not names and self._database is not None:
            names = tuple(
                name
                for name in self._database.without(algorithm, realm)
                if configured.lookup(name, realm) is None
            )
        return min(names, default=None)

    def _advice(self, settings: Settings) -> str:
        if self._database is None:
            return "write lines with an HA1 for the same algorithm for all of them"
        return (
            f"set the password again: sippet user passwd NAME@{settings.domains[0]} --database "
            f"{settings.database}"
        )


def _key_of(settings: Settings) -> str:
    return "users_file" if settings.users_file is not None else "database"


def configured_users(settings: Settings) -> MemoryUsers:
    """Return the users of a configuration. Raises Mistake.

    Ten thousand of them take a third of a second, so a reload calls this in a thread. It must not
    call gevent.
    """
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
