"""How fast this machine is at this moment: limits of CPU time are for the machine they were set on, at rest."""

from __future__ import annotations

import time

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
