"""Aliases: connections of peers that requests to them may take, RFC 5923 §8.2. Pure.

A peer that writes `alias` into its Via offers its connection for what we have to send to the port
of its sent-by. That is believed of nobody but who has shown a client certificate in the TLS
handshake, and for the domains of that certificate alone: what is asked for is the domain of a URI,
so a connection is taken exactly where one that we opened would have been accepted (§9.2, §9.3). An
address proves nothing, and so a TCP connection is no alias of anything.
"""

from __future__ import annotations

from typing import Any

IDENTITIES = 16
"""Domains of one certificate that count, the first ones: each is an entry, and who issues
certificates may name hundreds."""

Key = tuple[str, int, str]


class Aliases:
    """The alias table of one listening point: address, port and domain to the connection of a
    peer."""

    __slots__ = ("_flows", "_keys")

    def __init__(self) -> None:
        self._flows: dict[Key, Any] = {}
        self._keys: dict[Any, tuple[Key, ...]] = {}

    def add(self, flow: Any, port: int) -> None:
        """Note the offer of a peer: this port of the host it comes from. A connection has one such
        port, the latest.

        Who comes later for the same domain has the entry: he has started anew, and is the same by
        his certificate.
        """
        keys = tuple((flow.remote[0], port, domain) for domain in flow.peer_identity[:IDENTITIES])
        if self._keys.get(flow) != keys:
            self.remove(flow)
            self._keys[flow] = keys
        for key in keys:
            self._flows[key] = flow

    def find(self, host: str, port: int, name: str | None) -> Any:
        """Return the connection of whoever has proved to be this domain and offers this address;
        None when there is none."""
        flow = self._flows.get((host, port, (name or "").lower().rstrip(".")))
        return flow if flow is not None and flow.is_alive() else None

    def remove(self, flow: Any) -> None:
        """Forget a connection."""
        for key in self._keys.pop(flow, ()):
            if self._flows.get(key) is flow:
                del self._flows[key]

    def __len__(self) -> int:
        return len(self._flows)
