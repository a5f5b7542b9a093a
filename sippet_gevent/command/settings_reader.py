"""Reads settings from the table of a file and from the words of a command line. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from ..errors import InvalidValue, excerpt
from ..message.parser import ParserLimits
from ..runtime.limits import Limits, StreamLimits
from ..transport.listener import Listener
from .kinds import Files
from .settings import BY_TABLE, REPEATED, Row, Settings, TrunkSettings
from .toml_lines import Path

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")

_LIMITS: dict[str, type] = {
    "limits": Limits, "limits.streams": StreamLimits, "limits.parser": ParserLimits,
}  # fmt: skip


class Fault(NamedTuple):
    """What is wrong with a setting."""

    path: Path
    text: str


class Reading:
    """Reads a table of settings.

    Args:
        files: The files that settings name.

    `values` has each value by its key, `faults` what is wrong.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.values: dict[str, object] = {}
        self.faults: list[Fault] = []

    # ---- files

    def read(self, given: Mapping[str, object], table: str = "") -> None:
        """Read a table as a file has it."""
        path = tuple(table.split(".")) if table else ()
        for name, value in given.items():
            key = f"{table}.{name}" if table else name
            row = BY_TABLE.get(table, {}).get(name)
            if row is not None:
                self._value(row, (*path, name), value, key)
            elif key == "listen":
                self._listen(value)
            elif key == "trunks":
                self._trunks(value)
            elif key in BY_TABLE:
                if isinstance(value, Mapping):
                    self.read(value, key)
                else:
                    self._fault((*path, name), f"must be a table: write [{key}]")
            else:
                self._unknown((*path, name), table)

    def _value(self, row: Row, path: Path, value: object, key: str) -> None:
        try:
            found = row.kind.read(value, self.files)
            if row.table in _LIMITS:
                _check_limit(row, found)
        except InvalidValue as error:
            text = str(error)
            write = "" if "write " in text else f": write {row.name} = {row.example}"
            self._fault(path, text + write)
        else:
            self.values[key] = found

    def _listen(self, value: object) -> None:
        if not isinstance(value, list) or not value:
            self._fault(("listen",), f"must be a list, got {excerpt(value)}: write [[listen]]")
            return
        found = []
        for index, each in enumerate(value):
            path = ("listen", str(index))
            if isinstance(each, Mapping):
                address = self._address(each, path)
            else:
                address = self._checked_address(each, path)
            found.append(address or "")
        self.values["listen"] = tuple(found)

    def _address(self, given: Mapping[str, object], path: Path) -> str | None:
        """Return a table of `[[listen]]` as an address with parameters."""
        values = self._entry("listen", given, path)
        if "address" not in values:
            if "address" not in given:
                self._fault(path, 'address is missing: write address = "udp:192.0.2.10:5060"')
            return None
        address = str(values["address"])
        if self._checked_address(address, (*path, "address")) is None:
            return None
        for name in ("name", "advertise", "proxy"):
            if name not in values:
                continue
            value = values[name]
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            address += f";{name}={text}" if text else f";{name}"
            if self._checked_address(address, (*path, name)) is None:
                return None
        return address

    def _checked_address(self, value: object, path: Path) -> str | None:
        if not isinstance(value, str):
            self._fault(path, f'must be a text, got {excerpt(value)}: write "udp:192.0.2.10:5060"')
            return None
        try:
            Listener.parse(value, TRANSPORTS)
        except InvalidValue as error:
            self._fault(path, str(error))
            return None
        return value

    def _trunks(self, value: object) -> None:
        if not isinstance(value, Mapping) or not all(
            isinstance(each, Mapping) for each in value.values()
        ):
            self._fault(("trunks",), "must be tables: write [trunks.carrier]")
            return
        for name, given in value.items():
            self.add_trunk(name, given)

    def add_trunk(self, name: str, given: Mapping[str, object]) -> None:
        """Read the table of a trunk."""
        path = ("trunks", name)
        values = self._entry("trunks", given, path)
        if "account" not in given:
            self._fault(path, 'account is missing: write account = "sip:4930123@carrier.example"')
        if "password" in given and "password_file" in given:
            self._fault((*path, "password"), "there is a password_file, too: write one of them")
        trunks = cast(dict[str, TrunkSettings], self.values.setdefault("trunks", {}))
        trunks[name] = TrunkSettings(name, **cast(dict[str, Any], values))

    def _entry(self, table: str, given: Mapping[str, object], path: Path) -> dict[str, object]:
        """Return the values of one entry of a table that may occur several times."""
        held, self.values = self.values, {}
        try:
            for name, value in given.items():
                row = BY_TABLE[table].get(name)
                if row is None:
                    self._unknown((*path, name), table)
                else:
                    self._value(row, (*path, name), value, name)
            return self.values
        finally:
            self.values = held

    def _unknown(self, path: Path, table: str) -> None:
        known = [*BY_TABLE.get(table, {})]
        prefix = f"{table}." if table else ""
        tables = [*BY_TABLE, *REPEATED]
        known += [each.removeprefix(prefix) for each in tables if each.startswith(prefix) and each]
        known = list(dict.fromkeys(each for each in known if each and "." not in each))
        near = difflib.get_close_matches(path[-1], known, 1, 0.7)
        write = near[0] if near else f"one of {', '.join(sorted(known))}"
        if table and (path[-1] in BY_TABLE[""] or path[-1] in REPEATED):
            write = f"{path[-1]} above the first table of the file"
        self._fault(path, f"there is no such key: write {write}")

    def _fault(self, path: Path, text: str) -> None:
        self.faults.append(Fault(path, text))

    # ---- the command line

    def read_words(self, row: Row, given: object) -> None:
        """Read the value of an option: a word, a list of words, a flag, or a number that the parser
        of the command line has checked."""
        value = given
        if isinstance(given, list) and row.kind.is_many and row.name == "aliases":
            value = dict(_pair(word) for word in given)
        elif isinstance(given, str):
            value = row.kind.parse(given)
        self._value(row, tuple(row.key.split(".")), value, row.key)

    def read_listen(self, words: Iterable[str]) -> None:
        """Read the words of --listen."""
        self._listen(list(words))

    def read_limit(self, word: str) -> None:
        """Read a word of --limit, "handlers=200" or "streams.idle=600"."""
        name, _, text = word.partition("=")
        table, _, last = f"limits.{name}".rpartition(".")
        row = BY_TABLE.get(table, {}).get(last)
        if row is None:
            self._unknown((*table.split("."), last), table)
        else:
            self._value(row, tuple(row.key.split(".")), row.kind.parse(text), row.key)

    def read_trunk(self, text: str) -> None:
        """Read the text of --trunk: a name, then key=value."""
        try:
            name, *words = shlex.split(text)
        except ValueError as error:
            self._fault(("trunks",), f"{excerpt(text)} cannot be read: {error}")
            return
        given: dict[str, object] = {}
        for word in words:
            key, _, value = word.partition("=")
            if key == "password":
                self._fault(("trunks", name, key), "others could see it: write password_file=FILE")
                continue
            row = BY_TABLE["trunks"].get(key)
            given[key] = value if row is None else row.kind.parse(value)
        self.add_trunk(name, given)


def _pair(word: str) -> tuple[str, str]:
    name, _, domain = word.partition("=")
    return name, domain


def _check_limit(row: Row, value: object) -> None:
    """Raise InvalidValue for a limit that Limits refuses."""
    if isinstance(value, list):
        value = tuple(value)
    try:
        if row.table == "limits.parser":
            Limits(parser=ParserLimits(**{row.name: cast(int, value)}))
        else:
            _LIMITS[row.table](**{row.name: value})
    except (InvalidValue, TypeError) as error:
        text = str(error).removeprefix("parser.").removeprefix(f"{row.name} ")
        raise InvalidValue(text.partition(": write ")[0]) from None


def settings_of(values: Mapping[str, object]) -> Settings:
    """Return the settings of these values, by key."""
    own: dict[str, Any] = {}
    limits: dict[str, dict[str, Any]] = {table: {} for table in _LIMITS}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        if table in limits:
            limits[table][name] = tuple(value) if isinstance(value, list) else value
        elif key == "trunks":
            own["trunks"] = tuple(cast(dict[str, TrunkSettings], value).values())
        else:
            own[key.replace(".", "_")] = value
    if any(limits.values()):
        own["limits"] = Limits(
            streams=StreamLimits(**limits["limits.streams"]),
            parser=ParserLimits(**limits["limits.parser"]),
            **limits["limits"],
        )
    return Settings(**own)
