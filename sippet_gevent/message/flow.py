"""MessageFlow: the flow of a message, as the message layer sees it, RFC 5626 §3. Pure."""

from __future__ import annotations

from typing import Any, Protocol


class MessageTransport(Protocol):
    """The transport of a flow: its name in a Via, and what it guarantees."""

    @property
    def name(self) -> str:
        """The transport of a Via: `UDP`, `TLS` …"""

    @property
    def reliable(self) -> bool:
        """True if it repeats lost data itself: TCP, TLS, WS, WSS."""

    @property
    def secure(self) -> bool:
        """True if it uses TLS."""

    @property
    def local(self) -> tuple[str, int]:
        """The address that it is bound to."""


class MessageFlow(Protocol):
    """The flow of a message, which is a `sippet_gevent.Flow`. This protocol has only a part of it,
    because the message layer does not know transports. `tx.flow` has all."""

    @property
    def transport(self) -> MessageTransport:
        """The listening point that the message came to."""

    @property
    def local(self) -> tuple[str, int]:
        """Our address as the peer sees it: host and port."""

    @property
    def remote(self) -> tuple[str, int]:
        """The address of the peer: host and port."""

    @property
    def scope(self) -> int:
        """The number of the interface of a link-local peer, otherwise 0."""

    @property
    def peer_identity(self) -> tuple[str, ...]:
        """The domains that the peer has proved by a certificate (RFC 5922 §7.1)."""

    @property
    def handshake(self) -> Any:
        """The opening request of a WebSocket: its path, query, cookies and origin."""

    def is_alive(self) -> bool:
        """True until nothing more can be sent."""

    def send(self, data: bytes) -> None:
        """Send one whole message. Raises TransportError."""
