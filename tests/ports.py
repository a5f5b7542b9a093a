"""Ports for what cannot be given port 0: a second transport on the port of a first, and programs of
others.

A port that the kernel has just given and taken back is soon given to another socket. So these ports
are outside the range from which the kernel chooses, and none is given twice in a run.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

FIRST, LAST = 10_000, 32_000
GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole parts, are far apart for numbers that are near each other."""

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _candidates() -> Iterator[int]:
    """Yield ports outside the kernel's range; two runs at the same time begin far from each other.

    What one of them has used may still be sent to, or be asked for by a program that has not bound it yet.
    """
    low, high = map(int, _RANGE.read_text().split()) if _RANGE.exists() else (32768, 60999)
    ports = [port for port in range(FIRST, LAST) if not low <= port <= high]
    ports = ports or list(range(FIRST, LAST))
    start = int(os.getpid() * GOLDEN % 1 * len(ports))
    yield from itertools.cycle(ports[start:] + ports[:start])


_PORTS = _candidates()


def _bind(host: str, kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def free_port(*hosts: str, count: int = 1) -> int:
    """Return a port without a listener that is free on these hosts (127.0.0.1 if none is given),
    for UDP and TCP. With `count`, the first of so many in a row."""
    for port in _PORTS:
        with ExitStack() as bound:
            try:
                for each in range(port, port + count):
                    for host in hosts or ("127.0.0.1",):
                        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                            bound.enter_context(_bind(host, kind, each))
            except OSError:
                continue
            for _ in range(count - 1):
                next(_PORTS)
            return port
    raise AssertionError("unreachable: the candidates never end")
