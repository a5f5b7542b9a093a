"""Transport and Flow: the plug, RFC 3261 §18. Write a transport of your own with three methods and three attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ParseError, TransportError

Address = tuple[str, int]
"""A numeric host, IPv6 without brackets, and a port."""

Receive = Callable[[bytes, "Flow"], None]
"""What a transport calls with each whole message and the flow it came by."""


class Flow:
    """A way to one peer, RFC 5626 §3: for UDP a pair of addresses, for a stream its connection.

    `transport`, `local` and `remote` are attributes. `send(data)` sends one whole message and never blocks; it raises
    TransportError when that cannot be done.
    """

    __slots__ = ("__weakref__", "remote", "transport")

    transport: Transport
    remote: Address

    transactions: set[Any] | None = None
    """What the engine notes of the transactions that use this flow, where it can end before they do: streams."""
    peer_identity: tuple[str, ...] = ()
    """The domains that the peer has proved to be, by a certificate that was verified (RFC 5922 §7.1)."""
    handshake: Any = None
    """What the client of a WebSocket has asked for: path, query, cookies, Origin (RFC 6455 §4.1)."""

    @property
    def local(self) -> Address:
        """Our own address as this peer sees it: what Via and Contact name."""
        raise TypeError(f"{type(self).__name__} lacks .local")

    def send(self, data: bytes) -> None:
        """Send one whole message. Raises TransportError."""
        raise TypeError(f"{type(self).__name__} lacks .send()")

    def __repr__(self) -> str:
        host, port = self.remote
        return f"<Flow {self.transport.name} {'[' + host + ']' if ':' in host else host}:{port}>"


class Transport:
    """One listening point. `name` is the Via transport, `reliable` tells the timers, `secure` says TLS is beneath.

    `start(address, receive)` opens it and calls `receive(data, flow)` for each whole message from then on, in the hub:
    `receive` returns at once. `connect(address)` returns the Flow to a peer. `stop()` closes everything.

    A transport of streams also calls `refuse(error, flow)` before it closes a flow whose octets make no sense, and
    `flow_ended(flow, error)`, in the hub, when a flow has ended: the engine sets both.
    """

    name: ClassVar[str] = ""
    reliable: ClassVar[bool] = False
    secure: ClassVar[bool] = False
    named: ClassVar[bool] = False
    """True when connect() wants to know the URI's domain; secure ones do in any case."""
    default_port: ClassVar[int] = 5060

    local: Address = ("", 0)
    """What it is bound to, after start()."""

    def start(self, address: Address, receive: Receive) -> None:
        """Open the listening point. Raises TransportError when the address is taken or not ours."""
        raise TypeError(f"{type(self).__name__} lacks .start()")

    def connect(self, address: Address, *, name: str | None = None) -> Flow:
        """Return the flow to this numeric address. Raises TransportError.

        `name` is the URI's domain, which the peer must prove to be (RFC 5922 §4); those that are `secure` or `named` get it.
        """
        raise TypeError(f"{type(self).__name__} lacks .connect()")

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Take what is wrong with a flow's octets; the answer, if there can be one, is sent before this returns."""

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        """Take the end of a flow that transactions are using."""

    def is_ours(self, host: str) -> bool:
        """True when this numeric host, IPv6 without brackets, is one we listen on."""
        return host == self.local[0]

    def stop(self) -> None:
        """Close all."""
        raise TypeError(f"{type(self).__name__} lacks .stop()")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local[0]}:{self.local[1]}>"
