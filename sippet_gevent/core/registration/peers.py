"""The addresses and networks from which the requests of a carrier come. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from ...errors import InvalidValue, excerpt
from ...transport.locate.rfc3263 import literal


def check_peers(peers: tuple[str, ...]) -> tuple[str, ...]:
    """Check the addresses and networks of an account. Raises InvalidValue."""
    for address in peers:
        if network_of(address) is None:
            address_of(address)
    return peers


def network_of(address: str) -> IPv4Network | IPv6Network | None:
    """Return the network that a text names; None for an address. Raises InvalidValue."""
    if "/" not in address:
        return None
    try:
        return ip_network(address, strict=False)
    except ValueError as error:
        raise InvalidValue(
            f'peers must be addresses or networks, got {excerpt(address)}: write "192.0.2.0/24"'
        ) from error


def address_of(address: str) -> str:
    known = literal(address)
    if known is None:
        raise InvalidValue(
            f'peers must be addresses or networks, got {excerpt(address)}: write "192.0.2.7"'
        )
    return known
