"""Transport and Flow: the plug, RFC 3261 §18. Write a transport of your own with three methods and three attributes."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from ..errors import ParseError, TransportError

Address = tuple[str, int]
"""A numeric host, IPv6 without brackets, and a port."""

Receive = Callable[[bytes, "Flow"], None]
"""What a transport calls with each whole message and the flow it came by."""

FLOW_ID = 6
"""Random octets in the id of a connection: another process with the same secrets has none of that name."""


class Flow:
    """A way to one peer, RFC 5626 §3: for UDP a pair of addresses, for a stream its connection.

    `transport`, `local` and `remote` are attributes. `send(data)` sends one whole message and never blocks; it raises
    TransportError when that cannot be done. A flow is a next hop, too: `stack.send(request, next_hop=flow)`.
    """

    __slots__ = ("__weakref__", "_id", "remote", "transport")

    transport: Transport
    remote: Address
    _id: str

    transactions: set[Any] | None = None
    """What the engine notes of the transactions that use this flow, where it can end before they do: streams."""
    peer_identity: tuple[str, ...] = ()
    """The domains that the peer has proved to be, by a certificate that was verified (RFC 5922 §7.1)."""
    handshake: Any = None
    """What the client of a WebSocket has asked for: path, query, cookies, Origin (RFC 6455 §4.1)."""

    is_open: bool = True
    """False while it does not stand yet, and once it has ended: streams."""
    is_lost: bool = False
    """True when it has ended by itself, and not by us: streams."""
    octets: int = 0
    """How many have come by it so far, those of TLS itself aside: streams."""
    name: str | None = None
    """The domain that its peer had to prove to be, where we have opened it."""

    @property
    def local(self) -> Address:
        """Our own address as this peer sees it: what Via and Contact name."""
        raise TypeError(f"{type(self).__name__} lacks .local")

    def send(self, data: bytes) -> None:
        """Send one whole message. Raises TransportError."""
        raise TypeError(f"{type(self).__name__} lacks .send()")

    def is_alive(self) -> bool:
        """False once nothing more can be sent: a connection that has ended. Datagrams have no end."""
        return True

    def keep(self, seconds: float) -> None:
        """Do not end the flow for being idle within these seconds: somebody is reached by it alone. Datagrams need nothing."""

    @property
    def id(self) -> str:
        """A short text of lower-case letters and digits by which `transport.find(id)` returns this flow, while it lives.

        That of a datagram's flow is its remote address, which finds it in a later process too; of a connection, random.
        """
        if not hasattr(self, "_id"):
            self._id = self.transport.name_flow(self)
        return self._id

    def wait_open(self) -> bool:
        """Wait until it stands; False when it has ended before that."""
        return self.is_open

    def hurry(self, seconds: float) -> None:
        """Give up what does not stand after this many seconds. For datagrams there is nothing to wait for."""

    def __repr__(self) -> str:
        host, port = self.remote
        return f"<Flow {self.transport.name} {'[' + host + ']' if ':' in host else host}:{port}>"


class Transport:
    """One listening point. `name` is the Via transport, `reliable` tells the timers, `secure` says TLS is beneath.

    `start(address, receive)` opens it and calls `receive(data, flow)` for each whole message from then on, in the hub:
    `receive` returns at once. `connect(address)` returns the Flow to a peer. `stop()` closes everything.

    A transport of streams also calls `refuse(error, flow)` before it closes a flow whose octets make no sense, and
    `flow_ended(flow, error)`, in the hub, when a flow has ended: the engine sets both. Its flows say when they have ended,
    too, by `is_alive()`, and each is one object for as long as it lives.
    """

    name: ClassVar[str] = ""
    reliable: ClassVar[bool] = False
    secure: ClassVar[bool] = False
    named: ClassVar[bool] = False
    """True when connect() wants to know the URI's domain; secure ones do in any case."""
    default_port: ClassVar[int] = 5060

    offers_alias: bool = False
    """True when peers may use our connections for requests of theirs, since a certificate tells them who we are (RFC 5923)."""

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

    def name_flow(self, flow: Flow) -> str:
        """Return the id for a flow: its remote address, or, of a reliable transport, a random one that is remembered."""
        if not self.reliable:
            host, port = flow.remote
            return f"{ipaddress.ip_address(host).packed.hex()}{port:04x}"
        text = os.urandom(FLOW_ID).hex()
        self.__dict__.setdefault("_named", WeakValueDictionary())[text] = flow
        return text

    def find(self, id: str) -> Flow | None:
        """Return the flow of this id, None when there is none any more, or never was."""
        if self.reliable:
            named: WeakValueDictionary[str, Flow] | None = self.__dict__.get("_named")
            return None if named is None else named.get(id)
        try:
            return self.connect((str(ipaddress.ip_address(bytes.fromhex(id[:-4]))), int(id[-4:], 16)))
        except (ValueError, TransportError):
            return None

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Take what is wrong with a flow's octets; the answer, if there can be one, is sent before this returns."""

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        """Take the end of a flow that transactions are using."""

    def take_alias(self, flow: Flow, port: int | None) -> None:
        """Take a peer's offer to send what is for this port of its by its own connection (RFC 5923); or leave it."""

    def is_ours(self, host: str) -> bool:
        """True when this numeric host, IPv6 without brackets, is one we listen on."""
        return host == self.local[0]

    def stop(self) -> None:
        """Close all."""
        raise TypeError(f"{type(self).__name__} lacks .stop()")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local[0]}:{self.local[1]}>"
