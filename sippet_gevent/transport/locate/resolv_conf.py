"""/etc/resolv.conf and /etc/hosts: the name servers to ask, and the names known without them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from ...runtime.clock import Clock
from .rfc3263 import literal

READ_AGAIN_SECONDS = 5.0
"""Seconds between checks of the files for changes."""

SERVERS = 3
"""Name servers that are used, as resolv.conf(5) says."""

Address = tuple[str, int]


class Settings(NamedTuple):
    """The settings of resolv.conf(5) that are used here."""

    servers: tuple[Address, ...]
    rotate: bool = False


def read_resolv_conf(text: str) -> Settings:
    """Read resolv.conf(5): the name servers, or this machine if there are none, and `options
    rotate`."""
    servers = []
    rotate = False
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) > 1 and words[0] == "nameserver" and literal(words[1]) is not None:
            servers.append((literal(words[1]) or "", 53))
        elif words[:1] == ["options"]:
            rotate = rotate or "rotate" in words
    return Settings(tuple(dict.fromkeys(servers[:SERVERS])) or (("127.0.0.1", 53),), rotate)


def read_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Read hosts(5): return names in lower case to their addresses."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.split("#")[0].split() or [""]
        numeric = literal(address)
        if numeric is not None:
            for name in names:
                found[name.lower()] = (*found.get(name.lower(), ()), numeric)
    return found


T = TypeVar("T")


class WatchedFile(Generic[T]):
    """The contents of a file, read again when the file has changed. A missing file is empty.

    Args:
        clock: The clock of the stack.
        path: The file.
        read: Makes the value from the text of the file.
    """

    def __init__(self, clock: Clock, path: str, read: Callable[[str], T]) -> None:
        self._clock = clock
        self._path = path
        self._read = read
        self._looked = float("-inf")
        self._stamp: object = ()
        self._value = read("")

    @property
    def value(self) -> T:
        """The value that the function made from the file."""
        now = self._clock.now()
        if now - self._looked >= READ_AGAIN_SECONDS:
            self._looked = now
            try:
                status = os.stat(self._path)
                stamp: object = (status.st_mtime_ns, status.st_size, status.st_ino)
            except OSError:
                stamp = None
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    with open(self._path, encoding="utf-8", errors="replace") as file:
                        text = file.read()
                except OSError:
                    text = ""
                self._value = self._read(text)
        return self._value
