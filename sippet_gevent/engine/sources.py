"""Sources: how much of each limit one source may have, so that the others are served."""

from __future__ import annotations

from ..runtime.limits import Limits
from .networks import Networks

SHARE = 0.25
"""Part of a limit that a source may have whatever the others need. The last such part of each limit
is for sources that have less."""


class Sources:
    """Counts the server transactions of each source, and compares sources with their limits.

    A source is an IPv4 address or an IPv6 /64. Two rules apply to it, unless it is exempt:

    * a cap, such as `Limits.transactions_per_source`, if one is set;
    * the share rule. If a source has a quarter of a limit, it gets nothing of the last quarter of
      that limit, while other sources are known. So one source cannot use up a limit.

    Args:
        limits: The limits of the stack.
    """

    __slots__ = ("_exempt", "_least", "_sweep_at", "exempts", "transactions")

    def __init__(self, limits: Limits) -> None:
        self.transactions: dict[str, int] = {}
        """Server transactions by source. Sources without one are kept for a while, because they may
        return."""
        self.use_limits(limits)

    def use_limits(self, limits: Limits) -> None:
        """Use other limits from now on."""
        self._least = self._sweep_at = limits.sources
        self._exempt = Networks(limits.exempt)
        self.exempts = bool(limits.exempt)
        """True if any network is exempt."""

    def limit_of(
        self, host: str, name: str, has: int, total: int, limit: int, cap: int = 0
    ) -> str | None:
        """Return the name of the rule that refuses one more to a source; None if it may have it.

        Args:
            host: The host of the source.
            name: What is limited.
            has: How many the source has.
            total: How many there are.
            limit: How many there may be.
            cap: How many a source may have; 0 for any number.
        """
        if cap and has >= cap:
            rule = f"{name}_per_source"
        elif has >= SHARE * limit and total >= (1 - SHARE) * limit and self.has_others:
            rule = f"{name}_share"
        else:
            return None
        return None if self.is_exempt(host) else rule

    @property
    def has_others(self) -> bool:
        """True while more than one source is known."""
        return len(self.transactions) > 1

    def begin(self, source: str) -> None:
        """Count the first transaction of a source. Sources that have none are forgotten when there
        are too many."""
        if len(self.transactions) >= self._sweep_at:
            self.transactions = {each: has for each, has in self.transactions.items() if has}
            self._sweep_at = max(self._least, 2 * len(self.transactions))
        self.transactions[source] = 1

    def is_exempt(self, host: str) -> bool:
        """True for a host of `Limits.exempt`."""
        return self.exempts and host in self._exempt
