"""Flows over loopback sockets: a phone that only connects is reached by its connection until that ends."""

from __future__ import annotations

import pytest
from gevent import socket
from wsproto.connection import Connection as WebSocket
from wsproto.connection import ConnectionType
from wsproto.events import TextMessage

from sippet_gevent import Limits, RegistrarProxy, Request, Response, Stack, TransportError, Via
from sippet_gevent.message.framer import Framer
from sippet_gevent.message.identifiers import create_branch
from sippet_gevent.message.parser import parse
from sippet_gevent.runtime.limits import StreamLimits
from tests.conditions import PATIENCE, until

from .websocket.test_ws import HELLO

DOMAIN = "example.com"


class Frames:
    """A browser's WebSocket, each frame a message."""

    def __init__(self, sock):
        self.sock, self.frames = sock, WebSocket(ConnectionType.CLIENT)
        sock.sendall(HELLO + b"\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert b" 101 " in head

    def sendall(self, data):
        self.sock.sendall(self.frames.send(TextMessage(data=data.decode())))

    def recv(self, size):
        while True:
            for event in self.frames.events():
                if isinstance(event, TextMessage):
                    return event.data.encode()
            self.frames.receive_data(self.sock.recv(size))

    def close(self):
        self.sock.close()


class Phone:
    """A phone on one connection, or one UDP socket, that sends nothing by itself."""

    def __init__(self, stack, name, transport="TCP", contact=None):
        self.name, self.transport = name, transport
        where = next(t.local for t in stack.engine.transports if t.name == transport)
        self.sock = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM if transport == "UDP" else socket.SOCK_STREAM
        )
        self.sock.connect(where)
        self.sock.settimeout(PATIENCE)
        port = self.sock.getsockname()[1]
        self.host = f"{name}.invalid" if contact is None else "127.0.0.1"
        self.port = None if contact is None else port
        self.uri = contact or f"sip:{name}@{name}.invalid;transport={transport.lower()}"
        self.uri = self.uri.replace("PORT", str(port))
        self.aor = f"sip:{name}@{DOMAIN}"
        self.framer, self.ready, self.seen, self.number = Framer(), [], set(), 0
        if transport == "WS":
            self.sock = Frames(self.sock)

    def request(self, method, uri, **headers):
        self.number += 1
        via = Via(
            self.transport,
            self.host,
            self.port,
            Via.parse(f"SIP/2.0/TCP x;branch={create_branch()};rport").parameters,
        )
        headers = {
            "via": via, "from_": f"<{self.aor}>;tag={self.name}", "to": f"<{uri}>", "call_id": create_branch(),
            "cseq": f"{self.number} {method}", "max_forwards": 70, "contact": f"<{self.uri}>",
        } | headers  # fmt: skip
        request = Request(method, uri, **headers)
        self.sock.sendall(bytes(request))
        return request

    def message(self):
        """Return the next message, except 100 and datagrams that are sent again."""
        while True:
            while not self.ready:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError
                self.ready += self.framer.feed(data) if self.transport == "TCP" else [data]
            data = self.ready.pop(0)
            if data in self.seen:
                continue
            self.seen.add(data)
            message = parse(data)
            if not isinstance(message, Response) or message.status > 100:
                return message

    def reply(self, request, status, **headers):
        response = request.response(status, **headers)
        self.sock.sendall(bytes(response))
        return response

    def register(self):
        self.request("REGISTER", f"sip:{DOMAIN}", to=f"<{self.aor}>", call_id=self.name)
        assert self.message().status == 200
        return self


@pytest.fixture
def idle():
    """Seconds for which a connection may be silent."""
    return 3 * PATIENCE


@pytest.fixture
def office(idle):
    """A server for TCP, UDP and WebSockets, and a maker of phones."""
    limits = Limits(streams=StreamLimits(idle=idle))
    addresses = [f"{transport}:127.0.0.1:0" for transport in ("tcp", "udp", "ws")]
    stack = Stack(*addresses, core=RegistrarProxy(), domains=(DOMAIN,), limits=limits)
    phones = []

    def make(*arguments, **options):
        phones.append(Phone(stack, *arguments, **options))
        return phones[-1].register()

    stack.start()
    stack.phone = make
    yield stack
    for phone in phones:
        phone.sock.close()
    stack.stop()


def talk(alice, bob):
    """Set up a call; return all that further requests from either side need."""
    invite = alice.request("INVITE", bob.aor)
    theirs = bob.message()
    assert (theirs.method, theirs.uri_text) == ("INVITE", bob.uri)
    bob.reply(theirs, 200, contact=f"<{bob.uri}>")
    ok = alice.message()
    assert ok.status == 200
    of_dialog = {"to": ok.to, "call_id": invite.call_id}
    alices = of_dialog | {"from_": ok.from_, "route": tuple(reversed(ok.record_route))}
    bobs = of_dialog | {"from_": ok.to, "to": ok.from_, "route": theirs.record_route}
    alice.request("ACK", bob.uri, **alices | {"cseq": f"{invite.cseq.number} ACK"})
    assert bob.message().method == "ACK"
    return alices, bobs


@pytest.mark.rfc("5626 5.3", "5626 7")
@pytest.mark.parametrize("side", ["caller", "callee"])
@pytest.mark.parametrize("transports", [("TCP", "TCP"), ("WS", "WS"), ("WS", "TCP"), ("TCP", "WS")])
def test_phones_with_invalid_contacts_talk_over_their_connections(office, side, transports):
    alice, bob = (
        office.phone(name, transport) for name, transport in zip(("alice", "bob"), transports)
    )
    alices, bobs = talk(alice, bob)
    if side == "caller":
        alice.request("BYE", bob.uri, **alices)
        first, second = alice, bob
    else:
        bob.request("BYE", alice.uri, **bobs)
        first, second = bob, alice
    bye = second.message()
    assert (bye.method, bye.uri_text, len(bye.route)) == ("BYE", second.uri, 0)
    second.reply(bye, 200)
    assert first.message().status == 200


@pytest.mark.rfc("5658 5")
def test_tcp_and_udp_phones_talk_with_two_record_routes(office):
    alice = office.phone("alice")
    bob = office.phone("bob", "UDP", contact="sip:bob@127.0.0.1:PORT")
    alices, bobs = talk(alice, bob)
    upper, lower = bobs["route"]
    assert (upper.uri.transport, lower.uri.transport) == (None, "TCP")
    alice.request("INFO", bob.uri, **alices)
    bob.reply(bob.message(), 200)
    assert alice.message().status == 200
    bob.request("BYE", alice.uri, **bobs)
    alice.reply(alice.message(), 200)
    assert bob.message().status == 200


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize(
    ("end", "transport"), [("close", "TCP"), ("reset", "TCP"), ("close", "WS")]
)
def test_phone_without_its_connection_is_404(office, end, transport):
    """Its binding ended with the connection, so it is 404 like any unregistered user."""
    alice, bob = office.phone("alice"), office.phone("bob", transport)
    if end == "reset":
        bob.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    bob.sock.close()
    alice.request("INVITE", bob.aor)
    assert alice.message().status == 404


@pytest.mark.rfc("5626 5.3.1")
@pytest.mark.parametrize("ringing", [True, False])
def test_connection_lost_while_ringing_ends_the_invite_at_once(office, ringing):
    alice, bob = office.phone("alice"), office.phone("bob")
    alice.request("INVITE", bob.aor)
    invite = bob.message()
    if ringing:
        bob.reply(invite, 180)
        assert alice.message().status == 180
    bob.sock.close()
    assert alice.message().status == 480


@pytest.mark.rfc("5626 5.3.1")
def test_request_within_a_dialog_to_a_lost_phone_is_430(office):
    alice, bob = office.phone("alice"), office.phone("bob")
    alices, _ = talk(alice, bob)
    bob.sock.close()
    alice.request("INFO", bob.uri, **alices)
    assert alice.message().status == 430


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("idle", [0.3])
def test_connection_of_a_silent_registered_phone_is_kept(office):
    alice, other, bob = office.phone("alice"), Phone(office, "eve"), office.phone("bob")
    other.request("OPTIONS", f"sip:{DOMAIN}")
    assert other.message().status == 200
    assert other.sock.recv(1) == b""  # closed because it was idle
    other.sock.close()
    talk(alice, bob)


def test_phone_that_reconnects_is_reached_by_its_new_connection(office):
    alice, old = office.phone("alice"), office.phone("bob")
    new = Phone(office, "bob")
    new.number = 1
    new.register()
    try:
        alice.request("MESSAGE", new.aor)
        message = new.message()
        assert message.method == "MESSAGE"
        new.reply(message, 200)
        assert alice.message().status == 200
        old.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            old.sock.recv(1)
    finally:
        new.sock.close()


def test_ended_connection_is_a_transport_error_and_is_not_found(office):
    office.phone("bob")
    (flow,) = office.engine.transports[0].flows
    name = office.flow_name(flow)
    assert office.find_flow(name) is flow
    flow.close()
    with pytest.raises(TransportError, match="ended"):
        office.request("OPTIONS", "sip:bob@bob.invalid", next_hop=flow)
    until(lambda: office.find_flow(name) is None)
