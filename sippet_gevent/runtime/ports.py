"""Which program has a port that we want to listen on, as Linux tells it in /proc."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import TransportError

PROC = Path("/proc")

_ADDRESS = re.compile(r"cannot listen on ([a-z]+):(.+):(\d+):").match


def taken(error: TransportError) -> tuple[str, int] | None:
    """Return the transport and the port of an address that another program has; None for another
    error."""
    cause = error.__cause__
    match = _ADDRESS(str(error))
    if match is None or not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
        return None
    return match[1], int(match[3])


def explained(error: TransportError, advice: str) -> TransportError:
    """Return an error that also says which program to look for.

    Args:
        error: Why an address was not opened.
        advice: What to do if another program has it.
    """
    found = taken(error)
    if found is None:
        return error
    transport, port = found
    kind = "udp" if transport == "udp" else "tcp"
    holder = holder_of(kind, port)
    if holder is None:
        look = f"look for it with: ss -l{kind[0]}np 'sport = :{port}'"
    else:
        look = f"{holder} has it"
    return TransportError(f"{error}: {look}; {advice}")


def holder_of(kind: str, port: int) -> str | None:
    """Return the program that listens on a port, "baresip (pid 123)"; None if that is not known.

    Without privileges, only programs of the same user are seen.
    """
    wanted = {f"socket:[{inode}]" for inode in _inodes(kind, port)}
    if not wanted:
        return None
    for folder in PROC.glob("[0-9]*"):
        try:
            for link in (folder / "fd").iterdir():
                if os.readlink(link) in wanted:
                    name = (folder / "comm").read_text().strip()
                    return f"{name} (pid {folder.name})"
        except OSError:  # of another user, or it has ended
            continue
    return None


def _inodes(kind: str, port: int) -> Iterator[str]:
    listening = {"tcp": "0A", "udp": "07"}[kind]
    for version in ("", "6"):
        try:
            lines = (PROC / "net" / f"{kind}{version}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == listening:
                yield fields[9]
