"""Configuration: the settings of a file and of a command line, and where each was written."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import NamedTuple, cast

from ..errors import InvalidValue
from .settings import BY_TABLE, REPEATED, ROWS, Row, Settings, TrunkSettings
from .settings_reader import Fault, Reading, settings_of
from .terminal import Mistake
from .toml_lines import Path, line_of, lines_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPEATED_OPTIONS = {"listen": "--listen", "trunks": "--trunk", "limits": "--limit"}
"""Options with a text of their own for the tables of a file."""

MAX_FILE = 4 * 1024 * 1024

_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class Folder:
    """The files beside a configuration file, or those of the working directory."""

    def __init__(self, folder: FilePath) -> None:
        self.folder = folder

    def resolve(self, name: str) -> str:
        """Return the path of a name."""
        return str(self.folder / name)

    def problem(self, path: str) -> str | None:
        """Return why a file cannot be read; None if it can."""
        try:
            if stat.S_ISFIFO(os.stat(path).st_mode):
                return "cannot read a pipe"  # opening one would block the server
            with open(path, "rb"):
                return None
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                return "no such file"
            return f"cannot read ({error.strerror})"


class Words:
    """How messages name settings: by line and key of the file, or by option.

    Args:
        file: The configuration file, if there is one.
        lines: The lines of its keys.
        options: The keys that were given as options.
    """

    def __init__(
        self,
        file: str | None = None,
        lines: dict[Path, int] | None = None,
        options: frozenset[str] = frozenset(),
    ) -> None:
        self.file = file
        self._lines = lines or {}
        self._options = options

    def name(self, key: str) -> str:
        """Return where a key was written, "sippet.toml:14: [tls] certificate:", or its option."""
        row = _row(key)
        if self.file is None or key in self._options:
            return _option(row)
        return self.at(tuple(key.split(".")))

    def entry(self, table: str, entry: int | str, key: str = "") -> str:
        """Return where one of several tables was written, or a key of it: the number of an address,
        or the name of a trunk."""
        path: Path = (table, str(entry))
        is_option = table in self._options and (table == "listen" or path not in self._lines)
        if self.file is None or is_option:
            return REPEATED_OPTIONS[table] if table == "listen" else f"--trunk {entry}:"
        return self.at((*path, key) if key else path)

    def at(self, path: Path) -> str:
        """Return the file, line and key of a path in the file."""
        return f"{self.file}:{line_of(self._lines, path)}: {_shown(path)}:"

    def add(self, key: str, value: str) -> str:
        """Return what to add for a missing key."""
        row = _row(key)
        if self.file is None:
            return f"add {_option(row)} {value}".rstrip()
        table = REPEATED.get(row.table, f"[{row.table}]" if row.table else "the top")
        return f"write {row.name} = {row.example} in {table}"

    @contextmanager
    def naming(self, *keys: str, hints: Mapping[str, str | None] | None = None) -> Iterator[None]:
        """Turn InvalidValue, which names a Python argument, into a Mistake that names the keys.

        A file has each key on its own line. The line is that of the first key, unless the error has
        the hint of another one: its value, or a word.
        """
        try:
            yield
        except InvalidValue as error:
            if self.file is None:
                raise Mistake(f"{', '.join(map(self._bare, keys))}: {error}") from error
            text = str(error)
            found = (key for key, hint in (hints or {}).items() if hint and hint in text)
            raise Mistake(f"{self.name(next(found, keys[0]))} {text}") from error

    def _bare(self, key: str) -> str:
        return _option(_row(key))


class Configuration(NamedTuple):
    """Settings with the words for messages about them."""

    settings: Settings
    words: Words


class Mistakes(Mistake):
    """Several mistakes of a configuration: one line each."""


def read_configuration(options: Mapping[str, object]) -> Configuration:
    """Read the file of --config and the options. An option wins over the file.

    Args:
        options: The arguments of `sippet serve` by name. Those that were not given are None.

    Raises:
        Mistake: Something is wrong; one line for each mistake.
    """
    file = options.get("config")
    lines: dict[Path, int] = {}
    values: dict[str, object] = {}
    problems: list[str] = []
    words = Words()
    if isinstance(file, str):
        text = _content(file)
        lines = lines_of(text)
        words = Words(file, lines)
        reading = Reading(Folder(FilePath(file).parent))
        reading.read(_table(file, text))
        values = reading.values
        problems += [f"{words.at(fault.path)} {fault.text}" for fault in reading.faults]
    given = _options(options)
    problems += [_of_option(fault) for fault in given.faults]
    _merge(values, given.values)
    if problems:
        raise Mistakes("\n".join(problems))
    options_given = frozenset(given.values)
    return Configuration(settings_of(values), Words(words.file, lines, options_given))


def _merge(values: dict[str, object], options: Mapping[str, object]) -> None:
    for key, value in options.items():
        if key == "trunks" and key in values:
            trunks = cast(dict[str, TrunkSettings], values[key])
            values[key] = {**trunks, **cast(dict[str, TrunkSettings], value)}
        else:
            values[key] = value


def _options(options: Mapping[str, object]) -> Reading:
    """Return the settings that are options."""
    reading = Reading(Folder(FilePath()))
    for row in ROWS:
        if row.option is None:
            continue
        given = options.get(destination(row))
        if given is not None:
            reading.read_words(row, given)
    listen = cast("list[str] | None", options.get("listen"))
    if listen:
        reading.read_listen(listen)
    for word in cast(Iterable[str], options.get("limit") or ()):
        reading.read_limit(word)
    for text in cast(Iterable[str], options.get("trunk") or ()):
        reading.read_trunk(text)
    return reading


def destination(row: Row) -> str:
    """Return the name of the argument that has the option of a row."""
    return row.key.replace(".", "_")


def _content(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            held = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise Mistake(
            f"--config: cannot read {file}: {error.strerror}: write the path of a TOML file"
        ) from error
    if len(held) > MAX_FILE:
        raise Mistake(f"--config: {file} has over {MAX_FILE} bytes")
    try:
        # some editors write a byte order mark
        return held.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = held[: error.start].count(b"\n") + 1
        raise Mistake(f"{file}:{line}: the file is not UTF-8: save it as UTF-8") from error


def _table(file: str, text: str) -> dict[str, object]:
    try:
        return cast("dict[str, object]", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        at = _POSITION.search(str(error))
        line = int(at[1]) if at is not None and at[1] else text.count("\n") + 1
        problem = _POSITION.sub("", str(error))
        raise Mistake(
            f'{file}:{line}: {problem}: write key = "value" as in https://toml.io'
        ) from error
    except ValueError as error:  # of int()
        raise Mistake(f"{file}: a number has too many digits: write a shorter one") from error
    except RecursionError as error:
        raise Mistake(f"{file}: brackets are nested too deeply: write fewer") from error


def _row(key: str) -> Row:
    table, _, name = key.rpartition(".")
    return BY_TABLE[table][name]


def _option(row: Row) -> str:
    return REPEATED_OPTIONS.get(row.key.partition(".")[0]) or row.option or row.key


def _of_option(fault: Fault) -> str:
    """Return a fault of the command line."""
    path = [part for part in fault.path if not part.isdecimal()]
    key = REPEATED_OPTIONS.get(path[0])
    if key is not None:
        rest = " ".join(path[1:])
        return f"{key}: {fault.text}" if path[0] == "listen" else f"{key} {rest}: {fault.text}"
    row = _row(".".join(path))
    example = row.example.strip('[]"').partition('"')[0]
    text = fault.text.replace(f"write {row.name} = {row.example}", f"write {row.option} {example}")
    return f"{row.option}: {text}"


def _shown(path: Path) -> str:
    """Return a path as a reader of the file sees it: "[tls] certificate", "[[listen]] address"."""
    if not path:
        return "the file"
    table, name = list(path[:-1]), path[-1]
    if path[0] == "listen":
        return "[[listen]]" if name.isdecimal() else f"[[listen]] {name}".replace(" listen", "")
    if not table or (path[0] == "trunks" and len(path) == 2):
        return f"[{'.'.join(path)}]" if path[0] == "trunks" else name
    return f"[{'.'.join(table)}] {name}"


def wants_patching(file: str | None, option: object) -> bool:
    """True if the standard library is to be patched: by --monkey, or by the file if that can be
    read."""
    if option is not None:
        return bool(option)
    if file is None:
        return False
    try:
        with open(file, "rb") as opened:
            text = opened.read(MAX_FILE).decode("utf-8-sig")
        return tomllib.loads(text.replace("\r\n", "\n")).get("monkey") is True
    except (OSError, ValueError, RecursionError):
        return False  # read_configuration() tells what is wrong
