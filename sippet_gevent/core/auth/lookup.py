"""Where users are looked up: a dict, or a store; and which algorithms all of them can prove a
password by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ...arguments import takes, texts
from ...errors import InvalidValue, excerpt
from ...stores.users import MemoryUsers, SQLiteUsers, User
from .digest import ALGORITHMS

Secret = User | Mapping[str, str] | str
"""A user as a store returns it: a User, HA1 by algorithm, or a password."""


class Users(Protocol):
    """Where users are looked up: `MemoryUsers`, `SQLiteUsers`, or a store of your own."""

    def lookup(self, username: str, realm: str, /) -> Secret | None:
        """Return a user of a realm, None if there is none. It may wait."""


def lookup_of(users: Users | Mapping[str, Secret]) -> Callable[[str, str], Secret | None]:
    """Return the look-up of the argument `users`. Raises TypeError, which shows no secret."""
    if isinstance(users, Mapping):
        for name, secret in users.items():
            if not isinstance(name, str) or not isinstance(secret, (str, User, Mapping)):
                raise TypeError(
                    f"users must map names to passwords or Users, got {type(secret).__name__} for "
                    f"{excerpt(name)}: write users={{'100': 'secret'}}"
                )
        return lambda username, realm: users.get(username)
    lookup = getattr(users, "lookup", None)
    if isinstance(users, type) or not callable(lookup):
        raise TypeError(
            f"users must be a dict or have lookup(username, realm), got {type(users).__name__}: "
            "write users={'100': 'secret'}"
        )
    takes(lookup, ("username", "realm"), "lookup")
    return lookup  # type: ignore[no-any-return]  # takes() has checked it


def offered(
    users: Users | Mapping[str, Secret],
    realm: str,
    algorithms: tuple[str, ...] | None,
    usual: tuple[str, ...],
) -> tuple[str, ...]:
    """Return the algorithms to offer.

    Args:
        users: The users.
        realm: Their realm.
        algorithms: What the program wants; None for those of `usual` that all users have.
        usual: The algorithms that are offered by default.

    Raises:
        InvalidValue: An algorithm cannot be computed, or a user cannot use it.
        StoreError: The users cannot be read.
        TypeError: The algorithms are no tuple of texts.
    """
    if algorithms is None:
        return common(users, realm, usual)
    algorithms = texts("algorithms", algorithms, "names")
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise InvalidValue(
                f"algorithms must be of {', '.join(ALGORITHMS)}, got {excerpt(algorithm)}"
            )
    if not algorithms:
        raise InvalidValue("algorithms must not be empty: write algorithms=('SHA-256',)")
    if isinstance(users, Mapping):
        check_all(users, algorithms)
    return algorithms


def common(
    users: Users | Mapping[str, Secret], realm: str, algorithms: Sequence[str]
) -> tuple[str, ...]:
    """Return the algorithms for which all users have an HA1, so that each phone may choose any of
    them. A store of your own cannot be asked, and is taken to have all. Raises InvalidValue if
    there are none, and StoreError.

    Args:
        users: The users.
        realm: Their realm.
        algorithms: The algorithms, strongest first.
    """
    lacking = {algorithm: _without(users, algorithm, realm) for algorithm in algorithms}
    found = tuple(algorithm for algorithm, name in lacking.items() if name is None)
    if not found:
        raise InvalidValue(
            f"users have no algorithm in common: {told(lacking)}: add an HA1 to these users, or "
            "write algorithms=…"
        )
    return found


def check_all(users: Mapping[str, Secret], algorithms: Sequence[str]) -> None:
    """Check that all users of a dict have an HA1 for these algorithms. Raises InvalidValue."""
    for algorithm in algorithms:
        name = _without(users, algorithm, "")
        if name is not None:
            raise InvalidValue(
                f"algorithms must be those of all users, and {excerpt(name)} has no HA1 for "
                f"{algorithm}: add one, or leave {algorithm} out"
            )


def told(lacking: Mapping[str, str | None]) -> str:
    """Return a user for each algorithm that has one without an HA1 for it, as an error text."""
    return ", ".join(
        f"{excerpt(name)} has no HA1 for {algorithm}"
        for algorithm, name in lacking.items()
        if name is not None
    )


def _without(users: Users | Mapping[str, Secret], algorithm: str, realm: str) -> str | None:
    """Return the name of a user without an HA1 for an algorithm; None if there is none."""
    if isinstance(users, Mapping):
        return next((name for name, each in users.items() if not _has(each, algorithm)), None)
    if isinstance(users, (MemoryUsers, SQLiteUsers)):
        return next(iter(users.without(algorithm, realm)), None)
    return None


def _has(secret: Secret, algorithm: str) -> bool:
    if isinstance(secret, str):
        return True
    return algorithm in (secret.ha1 if isinstance(secret, User) else secret)
