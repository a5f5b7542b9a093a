"""Transport and Flow: the plug, RFC 3261 §18. Write a transport of your own with three methods and
three attributes."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol
from weakref import WeakValueDictionary

from ..errors import ParseError, TransportError
from ..message.uri import bracketed
from ..observe.counters import LimitedLog
from .listener import Listener

Address = tuple[str, int]
"""A numeric host, IPv6 without brackets, and a port. Of a transport that resolves by itself, a host
may be a name."""

Receive = Callable[[bytes, "Flow"], None]
"""What a transport calls with each whole message and the flow it came by."""

FLOW_ID = 6
"""Random octets in the id of a connection: another process with the same secrets has none of that
name."""


class Origin(NamedTuple):
    """Where something came in: what has later requests of the same dialog leave there. `scope` is a
    link-local peer's link."""

    transport: Transport
    scope: int = 0


class Flow:
    """A way to one peer, RFC 5626 §3: for UDP a pair of addresses, for a stream its connection.

    `transport`, `local` and `remote` are attributes. `send(data)` sends one whole message and never
    blocks; it raises TransportError when that cannot be done. What waits for a slow peer is
    bounded: who does not read loses the flow. A flow is a next hop, too: `stack.send(request,
    next_hop=flow)`.
    """

    __slots__ = ("__weakref__", "_id", "remote", "transport")

    transport: Transport
    remote: Address
    _id: str

    transactions: set[Any] | None = None
    """What the engine notes of the transactions that use this flow, where it can end before they
    do: streams."""
    peer_identity: tuple[str, ...] = ()
    """The domains that the peer has proved to be, by a certificate that was verified (RFC 5922
    §7.1)."""
    handshake: Any = None
    """What the client of a WebSocket has asked for: path, query, cookies, Origin (RFC 6455
    §4.1)."""
    scope: int = 0
    """The number of the interface a link-local peer is on: the kernel wants it, others must not see
    it (RFC 4007 §11)."""

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
        """Our own address as this peer sees it."""
        raise TypeError(f"{type(self).__name__} lacks .local")

    @property
    def sent_by(self) -> Address:
        """What Via and Contact name: `local`, or what the listener advertises; a host or a name,
        and a port."""
        advertised = self.transport.listener.advertise
        if advertised is None:
            return self.local
        return advertised.host, advertised.port or self.transport.local[1]

    @property
    def origin(self) -> Origin:
        """Its listener, for `listener=`: what is sent later is to leave where this came in, where
        that leads there."""
        return Origin(self.transport, self.scope)

    @property
    def host(self) -> str:
        """The peer's host as the transport's connect() takes it: that of a link-local peer with its
        interface."""
        return f"{self.remote[0]}%{self.scope}" if self.scope else self.remote[0]

    def to_port(self, port: int) -> Flow:
        """Return the flow to another port of this peer. Raises TransportError."""
        return self.transport.connect((self.host, port))

    def send(self, data: bytes) -> None:
        """Send one whole message. Raises TransportError."""
        raise TypeError(f"{type(self).__name__} lacks .send()")

    def withdraw(self, data: bytes | None) -> bool:
        """Take back a message that still waits in send(). True when nothing of it has left, False
        when it stays."""
        return False

    def is_alive(self) -> bool:
        """False once nothing more can be sent: a connection that has ended. Datagrams have no
        end."""
        return True

    def keep(self, seconds: float) -> None:
        """Do not end the flow for being idle within these seconds: somebody is reached by it alone.
        Datagrams need nothing."""

    @property
    def id(self) -> str:
        """A short text of lower-case letters and digits by which `transport.find(id)` returns this
        flow, while it lives.

        That of a datagram's flow is its remote address, which finds it in a later process too; of a
        connection, random.
        """
        if not hasattr(self, "_id"):
            self._id = self.transport.name_flow(self)
        return self._id

    def wait_open(self) -> bool:
        """Wait until it stands; False when it has ended before that."""
        return self.is_open

    probes: bool = False
    """True when probe() does something."""

    def probe(self) -> None:
        """Ask the peer whether it is there, to keep the flow alive; end it when there is no answer
        (RFC 5626 §4.4)."""

    def hurry(self, seconds: float) -> None:
        """Give up what does not stand after this many seconds. For datagrams there is nothing to
        wait for."""

    def __repr__(self) -> str:
        host, port = self.remote
        return f"<Flow {self.transport.name} {bracketed(host)}:{port}>"


class Events(Protocol):
    """What a transport reports besides messages. The engine implements it; all calls come from the
    hub."""

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Take what is wrong with the bytes of a stream. The answer, if one is possible, is sent
        before this returns."""

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        """Take the end of a flow that has `transactions`."""

    def unreachable(self, flow: Flow, quote: bytes, error: TransportError) -> str:
        """Take that a datagram which begins with `quote` did not reach the flow's peer (§18.4).

        Unlike the others, it may be called from anywhere.

        Returns:
            What the report meant, as `stack.stats()["icmp"]` counts it.
        """


class _Ignored:
    """Events that nobody takes: for a transport that is started without an engine."""

    def refuse(self, error: ParseError, flow: Flow) -> None:
        pass

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        pass

    def unreachable(self, flow: Flow, quote: bytes, error: TransportError) -> str:
        return "unmatched"


IGNORED: Events = _Ignored()


class Transport:
    """One listening point. `name` is the Via transport, `reliable` tells the timers, `secure` says
    TLS is beneath.

    `start(address, receive, events)` opens it and calls `receive(data, flow)` for each whole message
    from then on, in the hub: `receive` returns at once. `connect(address)` returns the Flow to a peer.
    `stop()` closes everything.

    A transport of streams cuts them with a Framer, and reports, in the hub:

    | when | what |
    |---|---|
    | the bytes make no sense: `framer.error` | `events.refuse(error, flow)`; then it sends what waits, and closes the flow |
    | a flow has ended that has `transactions` | `events.flow_ended(flow, error)`, not from within `send()` |

    Such a flow has `transactions`, a set, empty at first; it is one object for as long as it lives,
    and `is_alive()` says so. The hub is where callbacks of the loop run; a greenlet that reads gets
    there by `gevent.get_hub().loop.run_callback(receive, data, flow)`, and gives way now and then.

    One of datagrams may learn that one was not delivered. It calls
    `events.unreachable(flow, quote, error)` then, from anywhere.

    A URI leads here by its transport parameter: `sip:bob@192.0.2.1;transport=xyz` to the transport
    whose `name` is XYZ. Its host is resolved first (RFC 3263), to addresses and `default_port`,
    unless the transport `resolves` by itself. A `sips` URI leads to TLS and WSS only.
    """

    name: str = ""
    reliable: ClassVar[bool] = False
    secure: bool = False
    named: ClassVar[bool] = False
    """True when connect() wants to know the URI's domain; secure ones do in any case."""
    default_port: int = 5060
    resolves: ClassVar[bool] = False
    """True when connect() finds a URI's host by itself, and gets it as it stands, in lower case,
    names too: DNS is not asked."""

    keep_alive_seconds: int = 0
    """How often peers that offer it are asked to ping (RFC 6223 §4.4); 0 for never."""
    offers_alias: bool = False
    """True when peers may use our connections for requests of theirs, since a certificate tells
    them who we are (RFC 5923)."""

    local: Address = ("", 0)
    """What it is bound to, after start()."""

    lines: LimitedLog = LimitedLog()
    """Writes the log lines that peers can cause. The engine sets that of its counters."""

    events: Events = IGNORED
    """What takes its reports, from start() on."""

    listener: Listener = Listener()
    """What it was opened for: its name, by which `listener=` finds it, and what it advertises. The
    stack sets it."""

    def start(self, address: Address, receive: Receive, events: Events = IGNORED) -> None:
        """Open the listening point.

        Args:
            address: Where to listen; port 0 takes a free one. The host of a link-local address has
                its interface, `fe80::1%eth0`, also in connect().
            receive: Takes each whole message, in the hub, and returns at once.
            events: Takes what happens besides.

        Raises:
            TransportError: The address is taken or not ours.
        """
        raise TypeError(f"{type(self).__name__} lacks .start()")

    def connect(self, address: Address, *, name: str | None = None) -> Flow:
        """Return the flow to this numeric address, or to a name where it resolves; never wait.
        Raises TransportError.

        `name` is the URI's domain, which the peer must prove to be (RFC 5922 §4); those that are
        `secure` or `named` get it.
        """
        raise TypeError(f"{type(self).__name__} lacks .connect()")

    def name_flow(self, flow: Flow) -> str:
        """Return the id for a flow: its remote address, or, where that finds nobody, a random one
        that is remembered."""
        if not self.reliable and not self.resolves:
            host, port = flow.remote
            return f"{ipaddress.ip_address(host).packed.hex()}{port:04x}"
        text = os.urandom(FLOW_ID).hex()
        self.__dict__.setdefault("_named", WeakValueDictionary())[text] = flow
        return text

    def find(self, id: str) -> Flow | None:
        """Return the flow of this id, None when there is none any more, or never was."""
        if self.reliable or self.resolves:
            named: WeakValueDictionary[str, Flow] | None = self.__dict__.get("_named")
            return None if named is None else named.get(id)
        try:
            return self.connect(
                (str(ipaddress.ip_address(bytes.fromhex(id[:-4]))), int(id[-4:], 16))
            )
        except (ValueError, TransportError):
            return None

    def take_alias(self, flow: Flow, port: int | None) -> None:
        """Take a peer's offer to send what is for this port of its by its own connection (RFC
        5923); or leave it."""

    def is_ours(self, host: str) -> bool:
        """True when this numeric host, IPv6 without brackets, is one we listen on."""
        return host == self.local[0]

    def stop(self) -> None:
        """Close all."""
        raise TypeError(f"{type(self).__name__} lacks .stop()")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {bracketed(self.local[0])}:{self.local[1]}>"
