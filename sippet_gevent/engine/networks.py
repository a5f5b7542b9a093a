"""Networks: which hosts belong to the networks that a setting names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

REMEMBERED = 10_000
"""Most hosts whose answer is remembered. All are forgotten at once when there are more."""


class Networks:
    """Networks of hosts. `host in networks` says if one of them has it.

    Args:
        networks: The networks, such as "192.0.2.0/24".
    """

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, host: str) -> bool:
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[host] = self._find(host)
        return known

    def _find(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False  # a transport may have no IP addresses
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
