"""Aliases: connections of peers that may carry requests to those peers, RFC 5923 §8.2. Pure.

A peer that writes `alias` into its Via offers its connection for requests to the port of its
sent-by. We accept that only from peers with a client certificate in the TLS handshake, and only for
the domains of that certificate. Requests ask for the domain of a URI, so an alias is used exactly
where a connection that we open would have been accepted (§9.2, §9.3). An address is no proof of
identity, so a TCP connection without TLS is never an alias.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from ...errors import ParseError
from ...message.message import Request

IDENTITIES = 16
"""Most domains of one certificate that get an entry, the first ones. A certificate may have
hundreds."""

Key = tuple[str, int, str]
"""Host, port and domain."""


class Proven(Protocol):
    """The parts of a connection that the alias table needs."""

    remote: tuple[str, int]
    peer_identity: tuple[str, ...]

    @property
    def dialled(self) -> object:
        """None for a connection that the peer has opened."""

    def is_alive(self) -> bool:
        """Return False when nothing can be sent any more."""
        ...


F = TypeVar("F", bound=Proven)


class Aliases(Generic[F]):
    """The alias table of one listening point: finds the connection of a peer by host, port and
    domain."""

    __slots__ = ("_flows", "_keys")

    def __init__(self) -> None:
        self._flows: dict[Key, F] = {}
        self._keys: dict[object, tuple[Key, ...]] = {}

    def take(self, flow: F, request: Request, default_port: int) -> None:
        """Add a connection whose peer offers it by `alias` in the top Via of this request (§8.2).

        Others are ignored: a connection that we have opened, and a peer without a certificate.
        """
        if flow.dialled is not None or not flow.peer_identity:
            return
        try:
            via = request.headers.top_via
        except ParseError:
            return
        if "alias" in via.parameters:
            self.add(flow, via.port or default_port)

    def add(self, flow: F, port: int) -> None:
        """Note the offer of a peer. Requests to this port of its host may take its connection.

        A connection is the alias of one port, the latest. If another connection makes the same
        offer, it replaces the older one: its certificate proves the same domain, so the peer has
        probably restarted.
        """
        keys = tuple((flow.remote[0], port, domain) for domain in flow.peer_identity[:IDENTITIES])
        if self._keys.get(flow) != keys:
            self.remove(flow)
            self._keys[flow] = keys
        for key in keys:
            self._flows[key] = flow

    def find(self, host: str, port: int, name: str | None) -> F | None:
        """Return the connection whose peer has proved this domain and offers this address, or
        None."""
        flow = self._flows.get((host, port, (name or "").lower().rstrip(".")))
        return flow if flow is not None and flow.is_alive() else None

    def remove(self, flow: object) -> None:
        """Forget a connection, if it is an alias."""
        for key in self._keys.pop(flow, ()):
            if self._flows.get(key) is flow:
                del self._flows[key]

    def __len__(self) -> int:
        return len(self._flows)
