"""Reads an account from a row of a table, or from a table of a configuration file.

| key | argument of Account |
|---|---|
| `aor` | aor |
| `user`, `password`, `ha1`, `realm`, `hosts` | credentials; `user` is that of the aor by default |
| `from` or `from_` | from_ |
| any other | the argument of this name |

A value of None, such as NULL of a database, means the default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from ...errors import InvalidValue, excerpt
from ...message.uri_arguments import given_aor
from ..auth.credentials import Credentials

_SECRET = ("user", "password", "ha1", "realm", "hosts")

_PLAIN = (
    "registrar", "display_name", "expires", "contact", "instance", "keep_up",
    "listener",
)  # fmt: skip

_FLAGS = ("register", "public_contact")

_LISTS = ("outbound_proxy", "peers")

KEYS = ("aor", *_SECRET, "from", "from_", *_FLAGS, *_LISTS, *_PLAIN)
"""The keys that a row may have."""


class Row(Protocol):
    """The values of an account by name: a dict, or a row of a database such as sqlite3.Row."""

    def keys(self) -> Iterable[str]:
        """Return the names."""

    def __getitem__(self, name: str, /) -> object:
        """Return a value."""


def arguments_of(row: Row) -> dict[str, Any]:
    """Return the arguments of Account() for a row.

    Raises:
        InvalidValue: A key is unknown, `aor` is missing, or a value cannot be used.
        TypeError: The row is no mapping, or a value has another type.
    """
    if not callable(getattr(row, "keys", None)):
        # without the value, which may have a password
        raise TypeError(
            f"an account must be a dict, got {type(row).__name__}: write "
            '{"aor": "sip:100@carrier.example", "password": "secret"}'
        )
    given: dict[str, Any] = {name: row[name] for name in row.keys()}  # noqa: SIM118 no dict
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in KEYS:
            raise InvalidValue(
                f"unknown key {excerpt(name)} of account {excerpt(given.get('aor'))}: write one "
                f"of {', '.join(KEYS)}"
            )
    if "aor" not in given:
        raise InvalidValue("an account must have the key aor: write sip:100@carrier.example")
    found = {name: given[name] for name in ("aor", *_PLAIN) if name in given}
    if "from_" in given or "from" in given:
        found["from_"] = given.get("from_", given.get("from"))
    for name in _FLAGS:
        if name in given:
            value = given[name]  # databases have 0 and 1
            found[name] = bool(value) if value in (0, 1) else value
    for name in _LISTS:
        if name in given:
            found[name] = _several(given[name])
    if "password" in given or "ha1" in given:
        found["credentials"] = Credentials(
            given["user"] if "user" in given else _user_of(given["aor"]),
            given.get("password"),
            ha1=given.get("ha1"),
            realm=given.get("realm"),
            hosts=_several(given["hosts"]) if "hosts" in given else None,
        )
    else:
        for name in ("user", "realm", "hosts"):
            if name in given:
                raise InvalidValue(
                    f"account {excerpt(given['aor'])} has {name} without a password: give "
                    "password or ha1, too"
                )
    return found


def _several(value: Any) -> Any:
    """Return a tuple of the texts in a column: `192.0.2.1, 192.0.2.2`. Other values are checked
    later."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return tuple(value) if isinstance(value, list) else value


def _user_of(aor: Any) -> str:
    return str(given_aor("aor", aor).user)
