"""Users of other servers, for `sippet user import`: files of htdigest, and tables of Kamailio."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator

from ..core.auth.digest import ha1
from ..core.auth.server import OFFERED
from ..errors import InvalidValue
from ..stores.users import User
from .terminal import Mistake
from .users_file import HA1_LENGTHS, merged, users_of_lines

MAX_FILE = 256 * 1024 * 1024


def imported(path: str, form: str) -> list[User]:
    """Return the users of a file in one of FORMATS. Raises Mistake, which names the line.

    Args:
        path: The file; "-" is standard input.
        form: The name of the format.
    """
    try:
        if path == "-":
            text = sys.stdin.read(MAX_FILE)
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read(MAX_FILE)
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{path} is not UTF-8: save it as UTF-8") from error
    found = merged(FORMATS[form](path, text))
    if not found:
        raise Mistake(f"{path} has no users: see sippet user import --help")
    return found


def _htdigest(path: str, text: str) -> Iterator[User]:
    return users_of_lines(path, text.splitlines())


def _kamailio(path: str, text: str) -> Iterator[User]:
    """Yield the users of a subscriber table with a line of column names, as mysql --batch and
    sqlite3 -csv -header write it.

    `ha1` is taken if there is one. Otherwise it is computed of `password`.
    """
    head = text.partition("\n")[0]
    separator = next((each for each in ("\t", ",", "|") if each in head), "\t")
    rows = csv.DictReader(io.StringIO(text), delimiter=separator)
    columns = {name.strip().lower() for name in rows.fieldnames or ()}
    if not {"username", "domain"} <= columns or not columns & {"ha1", "password"}:
        raise Mistake(
            f"{path}:1: the first line must name the columns username, domain, and ha1 or "
            "password: see sippet user import --help"
        )
    for row in rows:
        values = {
            name.strip().lower(): (value or "").strip()
            for name, value in row.items()
            if isinstance(name, str) and not isinstance(value, list)
        }
        name, realm = values.get("username", ""), values.get("domain", "")
        key, password = values.get("ha1", ""), values.get("password", "")
        try:
            if not name or not realm:
                raise InvalidValue("username or domain is empty")
            if key and key.upper() != "NULL":
                if len(key) not in HA1_LENGTHS:
                    raise InvalidValue("ha1 must be 32 or 64 hexadecimal digits")
                yield User(name, realm, {HA1_LENGTHS[len(key)]: key})
            elif password:
                keys = {each: ha1(name, realm, password, each) for each in OFFERED}
                yield User(name, realm, keys)
            else:
                raise InvalidValue("ha1 and password are empty")
        except InvalidValue as error:
            raise Mistake(f"{path}:{rows.line_num}: {error}") from None


FORMATS: dict[str, Callable[[str, str], Iterator[User]]] = {
    "htdigest": _htdigest,
    "kamailio": _kamailio,
}
