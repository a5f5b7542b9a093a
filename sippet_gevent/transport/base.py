"""Transport and Flow: base classes of transports, RFC 3261 §18. A transport of your own needs three
methods and three attributes.

The contract is in the docstrings of Transport, Flow and Events. `tests/transport/contract.py` has
the tests that any transport must pass.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol
from weakref import WeakValueDictionary

from ..errors import ParseError, TransportError
from ..message.message import Request
from ..message.uri import bracketed
from ..observe.counters import LimitedLog
from ..transaction.fsm import Transaction
from .listener import Listener
from .websocket.handshake import Handshake

__all__ = ["IGNORED", "Address", "Events", "Flow", "Origin", "Receive", "Transport"]

Address = tuple[str, int]
"""A host and a port. The host is numeric, IPv6 without brackets. It may be a name if the transport
`resolves` names itself."""

Receive = Callable[[bytes, "Flow"], None]
"""Takes a whole message, and the flow that it arrived by."""

FLOW_ID = 6
"""Random bytes in the id of a connection. They ensure that another process with the same secrets
has no flow with this id."""


class Origin(NamedTuple):
    """Where a message arrived. Later requests of its dialog are sent from there.

    Args:
        transport: The transport that received it.
        scope: The number of the interface that leads to a link-local peer, 0 for others.
    """

    transport: Transport
    scope: int = 0


class Flow:
    """A path to one peer, RFC 5626 §3. For UDP it is a pair of addresses, for a stream its
    connection.

    A derived class sets `transport` and `remote`, and has `local` and `send()`. The other members
    are for connections. A flow must bound the messages that wait for a slow peer, and close if the
    peer does not read.

    A flow is also a next hop:

        stack.send(request, next_hop=flow)
    """

    __slots__ = ("__weakref__", "_id", "remote", "transport")

    transport: Transport
    remote: Address
    """The peer's address."""
    _id: str

    transactions: set[Transaction] | None = None
    """The transactions that use this flow. The engine keeps them, because a connection can end
    before they do. None for datagrams."""
    peer_identity: tuple[str, ...] = ()
    """The domains in the peer's certificate, if it was verified (RFC 5922 §7.1)."""
    handshake: Handshake | None = None
    """The HTTP request that opened a WebSocket: path, query, cookies, Origin (RFC 6455 §4.1)."""
    scope: int = 0
    """The number of the interface that leads to a link-local peer. The kernel needs the number, and
    other hosts must not see it (RFC 4007 §11)."""

    is_open: bool = True
    """False before a connection is established, and after it has ended."""
    is_lost: bool = False
    """True when a connection has ended for another reason than our close."""
    is_stream: ClassVar[bool] = False
    """True for a connection on which messages follow each other without frames. Its send() takes
    several messages, joined."""
    bytes_received: int = 0
    """Bytes received by a connection, without those of TLS itself."""
    name: str | None = None
    """The domain that the peer had to prove, if we opened the connection."""
    keepalives_answered: int = 0
    """Keep-alives of ours that the peer has answered."""

    @property
    def local(self) -> Address:
        """Our own address as this peer sees it."""
        raise TypeError(f"{type(self).__name__} lacks .local")

    @property
    def sent_by(self) -> Address:
        """The host and port of Via and Contact. They are those that the listener advertises, or
        `local`."""
        advertised = self.transport.listener.advertise
        if advertised is None:
            return self.local
        return advertised.host, advertised.port or self.transport.local[1]

    @property
    def bound(self) -> Address:
        """The address of our socket, which the peer has as `remote` if no NAT is in between. The
        port of a connection that we have opened is not that of `local`."""
        return self.local

    @property
    def origin(self) -> Origin:
        """The value for `listener=` that sends a request from the listener of this flow."""
        transport, scope = self.transport, self.scope
        origin = transport.origins.get(scope)
        if origin is None:
            origin = Origin(transport, scope)
            transport.origins = {**transport.origins, scope: origin}
        return origin

    @property
    def host(self) -> str:
        """The peer's host in the form that connect() of the transport takes. A link-local host has
        its interface."""
        return f"{self.remote[0]}%{self.scope}" if self.scope else self.remote[0]

    def to_port(self, port: int) -> Flow:
        """Return the flow to another port of this peer. Raises TransportError."""
        return self.transport.connect((self.host, port))

    def send(self, data: bytes) -> None:
        """Send one whole message. Never blocks.

        Raises:
            TransportError: The message cannot be sent.
        """
        raise TypeError(f"{type(self).__name__} lacks .send()")

    def withdraw(self, data: bytes | None) -> bool:
        """Take back a message that waits to be sent.

        Returns:
            True when no byte of it was sent. False when it was sent, or will be.
        """
        return False

    def is_alive(self) -> bool:
        """False after the connection has ended, so that nothing can be sent. Flows of
        datagrams do not end."""
        return True

    def keep(self, seconds: float) -> None:
        """Do not end the flow for being idle within this time, because a user is reached only by
        this flow. Report its end by flow_ended() of the events. If keep-alives of a datagram flow
        have failed, count the unanswered ones from 0 again."""

    def is_kept_since(self, time: float) -> bool:
        """True if keep() was called after this time, such as when the peer has registered again.

        `time` is in seconds by the clock of the stack. False for a connection, because it has one
        end only."""
        return False

    @property
    def id(self) -> str:
        """A short text of lower-case letters and digits. `transport.find(id)` returns this flow
        while it lives.

        The id of a datagram flow is its remote address, so a later process finds it too. The id of
        a connection is random.
        """
        if not hasattr(self, "_id"):
            self._id = self.transport.name_flow(self)
        return self._id

    def wait_open(self) -> bool:
        """Wait until the connection is established. False when it ended before that."""
        return self.is_open

    probes: bool = False
    """True when probe() does something."""

    def probe(self) -> None:
        """Send a keep-alive that the peer answers. If the peer does not answer, end the flow (RFC
        5626 §4.4)."""

    def hurry(self, seconds: float) -> None:
        """Give up a connection that is not established within this time. Does nothing for
        datagrams."""

    def __repr__(self) -> str:
        host, port = self.remote
        return f"<Flow {self.transport.name} {bracketed(host)}:{port}>"

    def __str__(self) -> str:
        """Return the transport and the peer's address without blanks, for log lines."""
        host, port = self.remote
        return f"{self.transport.name}:{bracketed(host)}:{port}"


class Events(Protocol):
    """Events that a transport reports besides messages. The engine implements this class.

    Call refuse() and flow_ended() in the hub, where callbacks of the loop run. unreachable() may be
    called in any greenlet.
    """

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Report that the bytes of a stream cannot be read. The answer, if one is possible, is sent
        before this returns.

        Args:
            error: `framer.error` of the Framer that cuts the stream into messages.
            flow: The connection. Send the waiting bytes, then close it.
        """

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        """Report the end of a flow that has `transactions`, or for which keep() was called. Do not
        call it within send().

        Args:
            flow: The connection.
            error: Why it has ended.
        """

    def unreachable(
        self, flow: Flow, quote: bytes, error: TransportError, *, ends_flow: bool = False
    ) -> str:
        """Report that a datagram has not reached a flow's peer (§18.4).

        Args:
            flow: Where it was sent.
            quote: The beginning of the datagram.
            error: Why it was not delivered.
            ends_flow: True if nothing will be delivered by this flow any more, so the flow has
                ended if the datagram was a request that waits (RFC 5626 §7).

        Returns:
            `matched`, `unmatched` or `truncated`, the counter in `stack.stats()["icmp"]`.
        """

    def waited(
        self, source: object, seconds: float, *, stands: bool, dropped: bool = False
    ) -> Receive | None:
        """Report how long a message has waited in the kernel before it was read. Call it in the
        hub, once for a burst of messages at most.

        Args:
            source: The transport that reads, or what has measured the time.
            seconds: The time since its arrival.
            stands: True if messages have waited all the time since the last report.
            dropped: True if the kernel has dropped messages since the last report.

        Returns:
            None as long as the messages go to `receive`. While the stack is overloaded, the
            callable that takes this message and those behind it. It is quick, so read all that
            waits.
        """

    def is_noise(self, data: bytes, flow: Flow) -> bool:
        """Take a datagram without a line break, which is no message. Call it in the hub.

        Args:
            data: The datagram.
            flow: Its flow.

        Returns:
            True if it is one of many, and is counted. Otherwise give it to `receive`.
        """


class _Ignored:
    """Ignored events, for a transport that is started without an engine."""

    def refuse(self, error: ParseError, flow: Flow) -> None:
        pass

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        pass

    def unreachable(
        self, flow: Flow, quote: bytes, error: TransportError, *, ends_flow: bool = False
    ) -> str:
        return "unmatched"

    def waited(
        self, source: object, seconds: float, *, stands: bool, dropped: bool = False
    ) -> Receive | None:
        return None

    def is_noise(self, data: bytes, flow: Flow) -> bool:
        return False


IGNORED: Events = _Ignored()
"""Ignores all events."""


class Transport:
    """One listening point, and the flows that begin there.

    A derived class has `name`, `reliable` and `default_port`, and the methods start(), connect()
    and stop(). This example delivers each message to its own stack:

        class EchoFlow(Flow):
            def __init__(self, transport, remote):
                self.transport, self.remote = transport, remote

            @property
            def local(self):
                return self.transport.local

            def send(self, data):
                gevent.get_hub().loop.run_callback(self.transport.receive, data, self)

        class Echo(Transport):
            name, reliable, default_port = "ECHO", True, 5060

            def start(self, address, receive, events):
                self.local, self.receive = address, receive

            def connect(self, address):
                return EchoFlow(self, address)

            def stop(self):
                pass

        stack.listen("echo:127.0.0.1:5060", Echo())

    The transport calls `receive(data, flow)` in the hub, where callbacks of the loop run. A reading
    greenlet calls `gevent.get_hub().loop.run_callback(receive, data, flow)`, and yields now and
    then.

    A transport of streams cuts them into messages with a Framer, and reports errors to `events`.
    Its flows have `transactions`, a set that is empty at first. One connection has one flow object
    for its whole life, and is_alive() is False after its end.

    The transport parameter of a URI selects the transport. `sip:bob@192.0.2.1;transport=echo`
    selects the one whose `name` is ECHO. The stack resolves the URI's host first (RFC 3263), unless
    the transport `resolves` hosts itself. A SIPS URI leads to TLS and WSS only.
    """

    name: str = ""
    """The name of the transport in a Via, in upper case."""
    reliable: ClassVar[bool] = False
    """True when messages are not lost, so nothing is retransmitted (§17)."""
    secure: bool = False
    """True when messages go over TLS."""
    named: ClassVar[bool] = False
    """True when connect() takes the URI's domain as `name`. Secure transports always get it."""
    default_port: int = 5060
    """The port of a URI, Via or listening address without one."""
    resolves: ClassVar[bool] = False
    """True when connect() resolves a URI's host itself. It gets the host as written, in lower case,
    and the stack does not ask DNS."""

    keep_alive_seconds: int = 0
    """Seconds between the keep-alives of peers that offer them (RFC 6223 §4.4). 0 never asks for
    keep-alives."""
    offers_alias: bool = False
    """True when peers may send requests by our connections, because a certificate proves our domain
    (RFC 5923)."""

    local: Address = ("", 0)
    """The address it is bound to. start() sets it."""

    lines: LimitedLog = LimitedLog()
    """Writes the log lines that peers can cause. The engine sets it before start()."""

    events: Events = IGNORED
    """Takes the reports of the transport, from start() on."""

    listener: Listener = Listener()
    """The listening address with its parameters, such as the name for `listener=` and the
    advertised address. The stack sets it."""

    origins: Mapping[int, Origin] = MappingProxyType({})
    """The `origin` of its flows, by scope. All dialogs that begin here share them."""

    def start(self, address: Address, receive: Receive, events: Events = IGNORED) -> None:
        """Open the listening point.

        Args:
            address: The address to listen on. Port 0 takes a free port. A link-local host has its
                interface, `fe80::1%eth0`.
            receive: Takes each whole message, in the hub, and returns at once.
            events: Takes all other events.

        Raises:
            TransportError: The address is taken or not ours.
        """
        raise TypeError(f"{type(self).__name__} lacks .start()")

    def connect(self, address: Address, *, name: str | None = None) -> Flow:
        """Return the flow to an address. Never waits, because a new connection is opened in the
        background.

        Args:
            address: The address of the peer. A link-local host has its interface.
            name: The URI's domain, which the peer must prove (RFC 5922 §4). Only transports that
                are `secure` or `named` get it.

        Raises:
            TransportError: The address cannot be reached.
        """
        raise TypeError(f"{type(self).__name__} lacks .connect()")

    def name_flow(self, flow: Flow) -> str:
        """Return the id of a flow. It is the remote address, or for a connection a random id that
        is remembered."""
        if not self.reliable and not self.resolves:
            host, port = flow.remote
            return f"{ipaddress.ip_address(host).packed.hex()}{port:04x}"
        text = os.urandom(FLOW_ID).hex()
        self.__dict__.setdefault("_named", WeakValueDictionary())[text] = flow
        return text

    def find(self, id: str) -> Flow | None:
        """Return the flow of this id, None if it has ended or never existed."""
        if self.reliable or self.resolves:
            named: WeakValueDictionary[str, Flow] | None = self.__dict__.get("_named")
            return None if named is None else named.get(id)
        try:
            return self.connect(
                (str(ipaddress.ip_address(bytes.fromhex(id[:-4]))), int(id[-4:], 16))
            )
        except (ValueError, TransportError):
            return None

    def take_alias(self, flow: Flow, request: Request) -> None:
        """Take the offer of a peer, in the Via of this request, to get requests by the connection
        that it has opened (RFC 5923), or ignore it."""

    def is_ours(self, host: str) -> bool:
        """True when this numeric host, IPv6 without brackets, is one we listen on."""
        return host == self.local[0]

    def stop(self) -> None:
        """Close the listening point and all connections. May be called twice."""
        raise TypeError(f"{type(self).__name__} lacks .stop()")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {bracketed(self.local[0])}:{self.local[1]}>"
