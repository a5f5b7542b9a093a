"""How fast this machine is at this moment: limits of CPU time are for the machine they were set on, at rest."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TEXT = "m=audio 49170 RTP/AVP 0 8 97\r\n" * 7000

AT_REST = 0.0083
"""Seconds of CPU that do_as_a_parser() took on the machine where the limits were set, when nothing else ran."""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Do some work and return the seconds of CPU that it took in this thread.

    The garbage collector looks at nothing meanwhile that the tests before this one have left in memory.
    """
    gc.freeze()
    try:
        start = time.thread_time()
        work()
        return time.thread_time() - start
    finally:
        gc.unfreeze()


def do_as_a_parser() -> None:
    """Cut, compare and look up texts and keep what is found: neighbours slow memory down more than the processor."""
    known: dict[str, str] = {}
    kept = []
    for line in TEXT.splitlines():
        name, _, value = line.partition("=")
        pieces = [known.setdefault(piece, piece) for piece in value.split(" ")]
        kept.append((name.lower(), pieces, {"line": line, "value": value}))


def slowness() -> float:
    """Return how many times slower than at rest this machine is now, 1.0 at least. A neighbour may take half of it."""
    return max(1.0, min(cpu_seconds(do_as_a_parser) for _ in range(3)) / AT_REST)


def is_within(bound: float, work: Callable[[], object], times: int = 6) -> bool:
    """Return True if one of several runs has taken no more CPU seconds than this machine needs for a bound.

    Args:
        bound: The seconds for the machine at rest.
        work: What is measured.
        times: The most runs. A neighbour slows some of them down, and work that is too much all of them.
    """
    return any(
        (seconds := cpu_seconds(work)) <= bound or seconds <= bound * slowness()
        for _ in range(times)
    )
