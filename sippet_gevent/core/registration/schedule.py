"""When to register again: refreshes, and pauses after failures, RFC 3261 §10.2.4 and RFC 5626 §4.5.
Pure.

`chance` is a random number from 0 to 1, so that many registrations do not act at the same moment.
"""

from __future__ import annotations

BASE = 30.0
"""Seconds that double with each failure if no flow is left (RFC 5626 §4.5)."""

BASE_BESIDE = 90.0
"""The same if another flow of the registration works."""

LONGEST = 1800.0
"""Most seconds of a pause after failures (RFC 5626 §4.5)."""

LONGEST_WANTED = 24 * 3600.0
"""Most seconds that a registrar can make us wait, or ask for, by Retry-After and Min-Expires."""

MARGIN = 5.0
"""Seconds before its end at which a binding is refreshed at the latest."""


def refresh_after(granted: float, chance: float) -> float:
    """Return the seconds until the refresh of a binding that lasts `granted` seconds (§10.2.4).

    80 to 90 percent of them, and not within the last five seconds. Half of them if the binding
    lasts ten seconds or less; never less than one, so that no registrar makes us send in a loop.
    """
    due = min(granted * (0.8 + 0.1 * chance), max(granted - MARGIN, granted / 2))
    return max(due, 1.0)


def in_step(due: float, granted: float) -> float:
    """Return the time of a refresh, a little earlier, so that many share one timer of the system.

    It is a multiple of a 4000th of the time granted: 0.9 seconds of an hour.
    """
    step = granted / 4000
    return due - due % step


def pause(
    failures: int, chance: float, retry_after: float | None = None, base: float = BASE
) -> float:
    """Return the seconds until the next try after consecutive failures (RFC 5626 §4.5).

    Args:
        failures: Number of consecutive failures, 1 after the first.
        chance: A random number from 0 to 1.
        retry_after: The Retry-After of the response; the pause is that long at least.
        base: BASE, or BASE_BESIDE if another flow works.
    """
    longest = min(LONGEST, base * 2.0 ** min(failures, 16))
    seconds = longest * (0.5 + 0.5 * chance)
    if retry_after is not None:
        # spread, because all clients of a registrar get the same value
        seconds = max(seconds, min(retry_after, LONGEST_WANTED) * (1 + 0.1 * chance))
    return seconds
