"""How fast this machine is at this moment: limits of CPU time are for the machine they were set on, at rest."""

from __future__ import annotations

import time
from collections.abc import Callable

TEXT = "m=audio 49170 RTP/AVP 0 8 97\r\n" * 200

AT_REST = 0.00145
"""Seconds of CPU that work() took on the machine where the limits were set, when nothing else ran."""


def work() -> float:
    """Do what a parser does, cut, compare and look up texts; return the seconds of CPU that took."""
    start = time.process_time()
    found: dict[str, int] = {}
    for line in TEXT * 5, TEXT * 5:
        for piece in line.split(" "):
            if piece not in found and piece.strip("\r\n"):
                found[piece] = len(found)
            found[piece] = found.get(piece, 0) + 1
    return time.process_time() - start


def slowness() -> float:
    """Return how many times slower than at rest this machine is now, 1.0 at least. A neighbour may take half of it."""
    return max(1.0, min(work() for _ in range(3)) / AT_REST)


def is_within(bound: float, took: Callable[[], float], times: int = 6) -> bool:
    """Return True if one of several runs has taken no more CPU seconds than this machine needs for a bound.

    Args:
        bound: The seconds for the machine at rest.
        took: Does the work, and returns the seconds of CPU it has taken.
        times: The most runs. A neighbour slows some of them down, and work that is too much all of them.
    """
    return any((seconds := took()) <= bound or seconds <= bound * slowness() for _ in range(times))
