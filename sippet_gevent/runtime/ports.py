"""What to do if an address cannot be listened on: which program has its port, as Linux tells it in
/proc, and the like."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import TransportError

PROC = Path("/proc")

ADVICE = "stop it, or write another port"
"""What to do about another program that has a port."""

_ADDRESS = re.compile(r"cannot listen on (udp|tcp|tls|ws|wss):(.+):(\d+): ").match


def taken(error: TransportError) -> tuple[str, int] | None:
    """Return the transport and the port of an address that another program has; None for another
    error."""
    match = _ADDRESS(str(error))
    if match is None or _number(error) != errno.EADDRINUSE:
        return None
    return match[1], int(match[3])


def explained(error: TransportError) -> TransportError:
    """Return the error of an address that cannot be opened with what to do next. Its cause is the
    same."""
    match, number = _ADDRESS(str(error)), _number(error)
    hint = None if match is None or number is None else _HINTS.get(number)
    if match is None or hint is None:
        return error
    better = TransportError(f"{error}: {hint(match[1], match[2], int(match[3]))}")
    better.__cause__ = error.__cause__
    return better


def _number(error: TransportError) -> int | None:
    """Return the errno of the cause of an error; None if it has none."""
    number = getattr(error.__cause__, "errno", None)
    return number if isinstance(number, int) else None


def _of_taken(transport: str, host: str, port: int) -> str:
    kind = "udp" if transport == "udp" else "tcp"
    holder = holder_of(kind, port)
    if holder is None:
        return f"look for it with: ss -l{kind[0]}np 'sport = :{port}'; {ADVICE}"
    return f"{holder} has it; {ADVICE}"


def _of_forbidden(transport: str, host: str, port: int) -> str:
    if port < 1024:
        return (
            "ports below 1024 need a privilege: write another port, or let systemd give it "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE"
        )
    return "the system forbids it: look for rules of SELinux, AppArmor or seccomp"


def _of_foreign(transport: str, host: str, port: int) -> str:
    everywhere = f"{transport}:{'[::]' if host.startswith('[') else '0.0.0.0'}:{port}"
    return (
        "this machine has no such address: write one that 'ip address' shows, or "
        f"{everywhere} for all; behind NAT write {everywhere};advertise={host}"
    )


def _of_family(transport: str, host: str, port: int) -> str:
    return f"this machine has no IPv6: write {transport}:0.0.0.0:{port}"


def _of_files(transport: str, host: str, port: int) -> str:
    return "the process has too many open files: raise its limit with ulimit -n, or LimitNOFILE="


def _of_scope(transport: str, host: str, port: int) -> str:
    return f"write a link-local address with its interface: {transport}:[fe80::1%eth0]:{port}"


_HINTS = {
    errno.EADDRINUSE: _of_taken,
    errno.EACCES: _of_forbidden,
    errno.EPERM: _of_forbidden,
    errno.EADDRNOTAVAIL: _of_foreign,
    errno.EAFNOSUPPORT: _of_family,
    errno.EMFILE: _of_files,
    errno.ENFILE: _of_files,
    errno.EINVAL: _of_scope,
    errno.ENODEV: _of_scope,
}


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
