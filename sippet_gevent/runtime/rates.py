"""Rates by source: token buckets, and what counts as one source."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

NETWORK_BITS = 64
"""Bits of an IPv6 address that name a source. One customer chooses the others (RFC 4291 §2.5.4)."""


@lru_cache(10_000)
def source_of(host: str) -> str:
    """Return the source of a host, by which limits count: an IPv4 address, or an IPv6 /64.

    A text that is no address is returned as it is.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), NETWORK_BITS), strict=False))
    return str(address)


class TokenBuckets:
    """A rate for each key. When there are more than `keys` of them, all are forgotten.

    Args:
        rate: Tokens a second.
        burst: Tokens at once.
        keys: Most keys that are remembered.
    """

    __slots__ = ("_burst", "_keys", "_levels", "_rate")

    def __init__(self, rate: float, burst: float, keys: int) -> None:
        self._rate = rate
        self._burst = burst
        self._keys = keys
        self._levels: dict[object, tuple[float, float]] = {}

    def take(self, key: object, now: float) -> bool:
        """Take one token of this key; False if there is none left."""
        level, at = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        if len(self._levels) >= self._keys and key not in self._levels:
            self._levels.clear()
        self._levels[key] = (level - 1 if level >= 1 else level, now)
        return level >= 1
