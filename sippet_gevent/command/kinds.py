"""Kinds of settings: what a value may be, in a file and as a word of the command line. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import NamedTuple, Protocol

from ..arguments import MOST, YEAR
from ..errors import InvalidValue, excerpt
from ..message.fields.rfc3261 import MAX_DELTA_SECONDS
from ..message.uri import URI
from ..message.uri_arguments import given_sip_uri, given_user

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]").search


class Files(Protocol):
    """The files that settings name, as the reader of a configuration sees them."""

    def resolve(self, name: str) -> str:
        """Return the path of a name, which is relative to the folder of the configuration."""

    def problem(self, path: str) -> str | None:
        """Return why a file cannot be read, such as "no such file"; None if it can."""


class Kind(NamedTuple):
    """What a setting may be."""

    read: Callable[[object, Files], object]
    """Returns the value of a setting. Raises InvalidValue, which says what it must be."""
    parse: Callable[[str], object] = str
    """Turns a word of the command line into what the file has. Raises InvalidValue."""
    is_many: bool = False
    """True if the option is repeatable."""
    is_flag: bool = False
    is_number: bool = False


def _text(value: object, files: Files) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"must be a text, got {excerpt(value)}")
    if not value.strip():
        raise InvalidValue("must not be empty")
    return _one_line(value)


def _one_line(value: str) -> str:
    """Return a text without control characters. With them, it is no name of a file, and no value of
    a header field."""
    if _CONTROLS(value):
        raise InvalidValue(f"must have no line breaks or control characters, got {excerpt(value)}")
    return value


def _texts(value: object, files: Files) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise InvalidValue(f"must be a list of texts, got {excerpt(value)}")
    return tuple(map(_one_line, value))


def _pairs(value: object, files: Files) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(each, str) for name, each in value.items()
    ):
        raise InvalidValue(f"must be a table of texts, got {excerpt(value)}")
    return {_one_line(name): _one_line(each) for name, each in value.items()}


def _secrets(value: object, files: Files) -> dict[str, str]:
    """Return passwords by name. The errors do not quote them."""
    if not isinstance(value, Mapping):
        raise InvalidValue(f"must be a table of passwords, got {type(value).__name__}")
    for name, secret in value.items():
        if not isinstance(secret, str) or not secret:
            raise InvalidValue(f"the password of {excerpt(name)} must be a text")
        _username(name, files)
    return dict(value)


def _username(value: object, files: Files) -> str:
    """Return the name of a user, which a digest has in front of a colon (RFC 7616 §3.4.2)."""
    text = _text(value, files)
    if ":" in text:
        raise InvalidValue(f"a user name must have no colon, got {excerpt(text)}")
    return text


def _expires(value: object, files: Files) -> int:
    seconds = _count(value, files)
    if seconds > MAX_DELTA_SECONDS:
        raise InvalidValue(f"must be {MAX_DELTA_SECONDS} seconds at most, got {seconds}")
    return seconds


def _secret(value: object, files: Files) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValue(f"must be a text, got {type(value).__name__}")
    return value


def _flag(value: object, files: Files) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue(f"must be true or false, got {excerpt(value)}")
    return value


def _as_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # an int may be too large for isfinite()
    return value if isinstance(value, int) or math.isfinite(value) else None


def _seconds(value: object, files: Files) -> float:
    seconds = _as_number(value)
    if seconds is None or seconds < 0:
        raise InvalidValue(f"must be a number of seconds, 0 or more, got {excerpt(value)}")
    if seconds > YEAR:
        raise InvalidValue(f"must be a number of seconds, {YEAR} or less, got {excerpt(value)}")
    return float(seconds)


def _rate(value: object, files: Files) -> float:
    rate = _as_number(value)
    if rate is None or rate <= 0:
        raise InvalidValue(f"must be greater than 0 messages a second, got {excerpt(value)}")
    if rate > MOST:
        raise InvalidValue(f"must be {MOST} messages a second or less, got {excerpt(value)}")
    return float(rate)


def _count(value: object, files: Files) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValue(f"must be a whole number of 1 or more, got {excerpt(value)}")
    if value > MOST:
        raise InvalidValue(f"must be a whole number of {MOST} or less, got {excerpt(value)}")
    return value


def _plain(value: object, files: Files) -> object:
    """Return a value that what uses it checks."""
    return value


def _file(value: object, files: Files) -> str:
    path = files.resolve(_text(value, files))
    problem = files.problem(path)
    if problem is not None:
        raise InvalidValue(f"{problem} {excerpt(value)}")
    return path


def _pem(value: object, files: Files) -> str:
    try:
        return _file(value, files)
    except InvalidValue as error:
        raise InvalidValue(f"{error}: write the path of a PEM file") from None


def _path(value: object, files: Files) -> str:
    return files.resolve(_text(value, files))


def _core(value: object, files: Files) -> str:
    """Return the name of a core; that of a file is beside the configuration."""
    where, colon, name = _text(value, files).rpartition(":")
    return f"{files.resolve(where)}:{name}" if where.endswith(".py") else f"{where}{colon}{name}"


def _networks(value: object, files: Files) -> tuple[str, ...]:
    texts = _texts(value, files)
    for text in texts:
        try:
            ip_network(text)
        except ValueError:
            raise InvalidValue(_network_problem(text)) from None
    return texts


def _network_problem(text: str) -> str:
    try:
        meant = f"{ip_network(text, strict=False)}, or {text.partition('/')[0]} for one address"
    except ValueError:
        meant = "192.0.2.0/24"
    return f"{excerpt(text)} is not a network: write {meant}"


def _uri(value: object, files: Files) -> str:
    text = _text(value, files)
    try:
        given_sip_uri("", text)
    except InvalidValue as error:  # the name of the setting comes in front
        raise InvalidValue(str(error).lstrip()) from None
    return text


def _aor(value: object, files: Files) -> str:
    text = _uri(value, files)
    if URI.parse(text).user is None:
        raise InvalidValue(f"must have a user, got {excerpt(text)}")
    return text


def _user(value: object, files: Files) -> str:
    return _checked_user(_text(value, files))


def _users(value: object, files: Files) -> dict[str, str]:
    """Return users by number, or numbers by user."""
    pairs = _pairs(value, files)
    return {_checked_user(name): _checked_user(each) for name, each in pairs.items()}


def _checked_user(text: str) -> str:
    try:
        return given_user("", text)
    except InvalidValue as error:  # the name of the setting comes in front
        raise InvalidValue(str(error).lstrip()) from None


def _pattern(value: object, files: Files) -> str:
    text = _text(value, files)
    try:
        re.compile(text)
    except re.error as error:
        raise InvalidValue(f"is not a regular expression: {excerpt(text)}: {error}") from None
    return text


def _statuses(value: object, files: Files) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(
        isinstance(each, int) and not isinstance(each, bool) and 300 <= each <= 699
        for each in value
    ):
        raise InvalidValue(f"must be a list of statuses from 300 to 699, got {excerpt(value)}")
    return tuple(value)


def one_of(*words: str) -> Kind:
    """Return the kind of a setting that is one of some words."""

    def read(value: object, files: Files) -> str:
        if value not in words:
            raise InvalidValue(f"must be one of {', '.join(words)}, got {excerpt(value)}")
        return str(value)

    return Kind(read)


def some_of(*words: str) -> Kind:
    """Return the kind of a setting that is a list of some words."""

    def read(value: object, files: Files) -> tuple[str, ...]:
        texts = _texts(value, files)
        for text in texts:
            if text not in words:
                raise InvalidValue(f"must be of {', '.join(words)}, got {excerpt(text)}")
        return texts

    return Kind(read, is_many=True)


def parse_number(text: str) -> object:
    """Return a word of the command line as a number, or the word itself if it is none."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _parse_flag(text: str) -> object:
    return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)


def _parse_list(text: str) -> object:
    return text.split(",")


def _parse_numbers(text: str) -> object:
    return [parse_number(word) for word in text.split(",")]


def _parse_pairs(text: str) -> object:
    return {name: value for name, _, value in (word.partition(":") for word in text.split(","))}


TEXT = Kind(_text)
TEXTS = Kind(_texts, _parse_list, is_many=True)
PAIRS = Kind(_pairs, _parse_pairs, is_many=True)
FLAG = Kind(_flag, _parse_flag, is_flag=True)
SECONDS = Kind(_seconds, parse_number, is_number=True)
RATE = Kind(_rate, parse_number, is_number=True)
USERNAME = Kind(_username)
EXPIRES = Kind(_expires, parse_number, is_number=True)
COUNT = Kind(_count, parse_number, is_number=True)
NUMBER = Kind(_plain, parse_number, is_number=True)
NUMBERS = Kind(_plain, _parse_numbers)
SECRET = Kind(_secret)
SECRETS = Kind(_secrets)
FILE = Kind(_file)
PEM = Kind(_pem)
PATH = Kind(_path)
CORE = Kind(_core)
NETWORKS = Kind(_networks, _parse_list, is_many=True)
SIP_URI = Kind(_uri)
AOR = Kind(_aor)
USER = Kind(_user)
USERS = Kind(_users, _parse_pairs, is_many=True)
PATTERN = Kind(_pattern)
STATUSES = Kind(_statuses, _parse_numbers)
