"""Bans: counts wrong passwords by source, and refuses a source for a while, RFC 7616 §5.7. Pure.

A failure counts only with a nonce that was made for that source. So it has proved that it gets our
responses, and nobody can have another source banned by forged datagrams. There is no count by user
alone, because anybody could lock out users by it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from ...arguments import duration, function, takes, whole

FAILURES = 10
"""Wrong passwords for one user from one source before it is banned."""

SOURCE_FAILURES = 50
"""Wrong passwords from one source, for any users. An office has many phones behind one address."""

WITHIN = 300.0
"""Seconds in which they count."""

BANNED = 900.0
"""Seconds of a ban."""

SOURCES = 20_000
"""Most counts and bans that are remembered. The oldest is forgotten first."""


class Ban(NamedTuple):
    """A source that is refused for a while.

    Attributes:
        source: The address; for IPv6 its /64.
        user: The user whose password was guessed. Empty if all requests of the source are refused.
        failures: Wrong passwords that were counted.
        seconds: How long the ban lasts.
    """

    source: str
    user: str
    failures: int
    seconds: float


OnBan = Callable[[Ban], object]
"""A function that is told of each ban, for example to feed a packet filter."""


class Bans:
    """Counts wrong passwords, and bans sources.

        def drop(ban):
            subprocess.run(["fwtool", "drop", ban.source])

        Authenticated(core, realm="example.com", users=users, bans=Bans(on_ban=drop))

    Args:
        failures: Wrong passwords for one user from one source.
        source_failures: Wrong passwords from one source, for any users.
        within: Seconds in which they count.
        seconds: Seconds of a ban.
        on_ban: Called with each Ban, in a greenlet of its own, so it may block.

    Raises:
        InvalidValue: A number is out of range.
        TypeError: An argument has the wrong type.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        source_failures: int = SOURCE_FAILURES,
        *,
        within: float = WITHIN,
        seconds: float = BANNED,
        on_ban: OnBan | None = None,
    ) -> None:
        self._limits = (
            whole("failures", failures, 1),
            whole("source_failures", source_failures, 1),
        )
        self._within = duration("within", within)
        self._seconds = duration("seconds", seconds)
        if function("on_ban", on_ban, "a function of (ban)") is not None:
            takes(on_ban, ("ban",), "on_ban")
        self.on_ban = on_ban
        self.counts: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        """Time of the first failure and number, by source and user. The user is empty for all of a
        source. Do not change it: it is here so that a look costs no call while nobody guesses."""
        self.until: OrderedDict[tuple[str, str], float] = OrderedDict()
        """End of each ban by source and user, like `counts`."""

    def __len__(self) -> int:
        return len(self.until)

    def take_over(self, before: Bans) -> None:
        """Take over the counts and bans of another object, such as that of a configuration that was
        replaced. They end when they would have ended there."""
        self.counts, self.until = before.counts, before.until

    def holds(self, source: str, user: str, now: float) -> bool:
        """True while a source is banned for all users, or for this one. The user may be empty."""
        for key in ((source, ""), (source, user)):
            until = self.until.get(key)
            if until is not None:
                if until > now:
                    return True
                del self.until[key]
        return False

    def failed(self, source: str, user: str, now: float) -> list[Ban]:
        """Count a wrong password. Returns the bans that it begins."""
        bans = []
        for key, limit in zip(((source, user), (source, "")), self._limits):
            first, count = self.counts.pop(key, (now, 0))
            if now - first > self._within:
                first, count = now, 0
            count += 1
            if count < limit:
                _add(self.counts, key, (first, count))
            else:
                _add(self.until, key, now + self._seconds)
                bans.append(Ban(source, key[1], count, self._seconds))
        return bans

    def succeeded(self, source: str, user: str) -> None:
        """Forget the failures of a user from a source, after the right password.

        Those of the source stay, so that a user with a password cannot guess those of others.
        """
        self.counts.pop((source, user), None)


Value = TypeVar("Value")


def _add(table: OrderedDict[tuple[str, str], Value], key: tuple[str, str], value: Value) -> None:
    table[key] = value
    if len(table) > SOURCES:
        table.popitem(last=False)
