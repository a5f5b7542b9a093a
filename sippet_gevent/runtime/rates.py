"""Rates by source: token buckets, and what counts as one source."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

NETWORK_BITS = 64
"""Of an IPv6 address, those that name a source: the rest of them is one customer's to choose (RFC
4291 §2.5.4)."""


@lru_cache(10_000)
def source_of(host: str) -> str:
    """Return what a host is known by where shares are by source: an IPv4 address, an IPv6 /64, or
    what is no address, itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), NETWORK_BITS), strict=False))
    return str(address)


class TokenBuckets:
    """A rate for each key: `take(key, now)` is False when the key has used its share. Bounded, the
    excess forgotten."""

    __slots__ = ("_burst", "_keys", "_levels", "_rate")

    def __init__(self, rate: float, burst: float, keys: int) -> None:
        self._rate = rate
        self._burst = burst
        self._keys = keys
        self._levels: dict[object, tuple[float, float]] = {}

    def take(self, key: object, now: float) -> bool:
        """Take one token of this key; False when there is none."""
        level, at = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        if len(self._levels) >= self._keys and key not in self._levels:
            self._levels.clear()
        self._levels[key] = (level - 1 if level >= 1 else level, now)
        return level >= 1
