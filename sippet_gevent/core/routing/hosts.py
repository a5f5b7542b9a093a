"""Hosts: the numeric addresses that a host has without DNS, RFC 3261 §19.1.4 and RFC 6761 §6.3.
Pure."""

from __future__ import annotations

from functools import lru_cache

from ...message.uri import normal_host
from ...transport.locate.rfc3263 import literal

LOCALHOST = "localhost"
"""Always a name of this element. It is also the domain of its addresses if no domain was given."""

LOOPBACK = ("127.0.0.1", "::1")
"""The addresses of localhost (RFC 6761 §6.3)."""

ADDRESS_LENGTH = 47
"""Characters of the longest numeric address, with brackets. A longer host is a name and needs no
look-up in the cache of addresses."""

HOSTS = 1024
"""Hosts that are remembered, none of them longer than ADDRESS_LENGTH."""


def addresses_of(host: str) -> tuple[str, tuple[str, ...]]:
    """Return the normal form of a host, and its numeric addresses; none for a name other than
    localhost."""
    return _remembered(host) if len(host) <= ADDRESS_LENGTH else (normal_host(host), ())


def numeric(host: str) -> tuple[str, ...]:
    """Return the numeric address that a host in its normal form is, () for a name."""
    if len(host) > ADDRESS_LENGTH or (host[:1] != "[" and host.strip("0123456789.")):
        return ()
    address = literal(host)
    return () if address is None else (address,)


@lru_cache(HOSTS)
def _remembered(host: str) -> tuple[str, tuple[str, ...]]:
    host = normal_host(host)
    return host, LOOPBACK if host == LOCALHOST else numeric(host)
