"""Where users are looked up: a dict, or a store. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ...arguments import takes
from ...errors import excerpt
from ...stores.users import User

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
    return lookup  # type: ignore[no-any-return]
