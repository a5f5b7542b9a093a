"""Stateless forwarding over connections, on real sockets: where responses return, and what a failure is answered with."""

from __future__ import annotations

import gevent
import gevent.event
import pytest
from gevent import socket

from sippet_gevent import Stack, forward
from tests.conditions import PATIENCE
from tests.ports import free_port

MESSAGE = (
    "{method} sip:bob@office.example SIP/2.0\r\n"
    "Via: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{branch}\r\n"
    "From: <sip:alice@office.example>;tag={tag}\r\nTo: <sip:bob@office.example>\r\n"
    "Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: {length}\r\n\r\n{body}"
)


def message(branch, call_id="c", body="", method="MESSAGE"):
    return MESSAGE.format(
        method=method, branch=branch, tag=branch, call_id=call_id, body=body, length=len(body)
    ).encode()


class Client:
    """A peer with one connection to the proxy."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.read = b""

    def send(self, *messages):
        self.socket.sendall(b"".join(messages))

    def responses(self, number):
        """Return the start lines and Call-IDs of that many responses."""
        while self.read.count(b"\r\n\r\n") < number:
            data = self.socket.recv(65536)
            assert data, self.read
            self.read += data
        found = []
        for head in self.read.split(b"\r\n\r\n")[:number]:
            lines = head.decode().split("\r\n")
            call_id = next(line for line in lines if line.lower().startswith("call-id"))
            found.append((lines[0].split()[1], call_id.partition(": ")[2]))
        return found

    def close(self):
        self.socket.close()


@pytest.fixture
def proxy():
    """Start a stateless proxy to a URI: `proxy("sip:127.0.0.1:5060;transport=tcp")`."""
    stacks = []

    def start(target, *, methods=("MESSAGE", "INVITE")):
        stack = Stack("tcp:127.0.0.1:0", "udp:127.0.0.1:0")
        stack.on(*methods, stateless=True)(lambda request, tx: forward(request, tx, target))
        stacks.append(stack.start())
        stack.port = int(stack.addresses[0].rpartition(":")[2])
        return stack

    yield start
    for stack in stacks:
        stack.stop()


@pytest.fixture
def phone():
    """A stack that answers 200 over TCP, and counts what it gets."""
    got = []
    with Stack("tcp:127.0.0.1:0", core=lambda request, tx: got.append(request) or 200) as stack:
        stack.got = got
        stack.port = int(stack.addresses[0].rpartition(":")[2])
        stack.target = f"sip:bob@127.0.0.1:{stack.port};transport=tcp"
        yield stack


@pytest.fixture
def client():
    """Connect a client: `client(port)`."""
    clients = []

    def connect(port):
        clients.append(Client(port))
        return clients[-1]

    yield connect
    for each in clients:
        each.close()


def patiently(function, *arguments):
    """Return what a function returns that waits for a peer."""
    with gevent.Timeout(PATIENCE):
        return function(*arguments)


@pytest.mark.rfc("3261 16.11")
def test_response_returns_by_the_connection_of_its_request(proxy, phone, client):
    stack = proxy(phone.target)
    first, second = client(stack.port), client(stack.port)
    for number in range(20):  # two callers may have chosen the same branch
        first.send(message(f"same{number}", f"first{number}"))
        second.send(message(f"same{number}", f"second{number}"))
    assert patiently(first.responses, 20) == [("200", f"first{n}") for n in range(20)]
    assert patiently(second.responses, 20) == [("200", f"second{n}") for n in range(20)]
    assert len(stack.engine.servers) == len(stack.engine.clients) == 0


@pytest.mark.rfc("3261 16.11")
def test_requests_in_one_segment_and_in_pieces_are_all_forwarded_in_order(proxy, phone, client):
    stack = proxy(phone.target)
    peer = client(stack.port)
    messages = b"".join(message(f"b{n}", f"c{n}", "text" * n) for n in range(50))
    peer.send(messages[:7])
    gevent.sleep(0.05)
    peer.send(messages[7:-9])
    gevent.sleep(0.05)
    peer.send(messages[-9:])
    assert {call_id for _, call_id in patiently(peer.responses, 50)} == {f"c{n}" for n in range(50)}
    assert [len(request.body) for request in phone.got] == [4 * n for n in range(50)]


@pytest.mark.rfc("3261 16.9")
@pytest.mark.parametrize("method", ["MESSAGE", "INVITE"])
def test_next_hop_that_refuses_connections_is_a_503(proxy, client, method):
    """Over a connection the caller does not repeat its request, so it would wait for 32 seconds."""
    stack = proxy(f"sip:bob@127.0.0.1:{free_port()};transport=tcp")
    peer = client(stack.port)
    peer.send(message("refused", method=method))
    assert patiently(peer.responses, 1) == [("503", "c")]


@pytest.mark.rfc("3261 16.9")
def test_next_hop_that_has_restarted_gets_the_next_request(proxy, client):
    port, got = free_port(), []

    def core(request, tx):
        got.append(request)
        return 200

    stack = proxy(f"sip:bob@127.0.0.1:{port};transport=tcp")
    peer = client(stack.port)
    for number in range(3):
        with Stack(f"tcp:127.0.0.1:{port}", core=core):
            peer.send(message(f"b{number}", f"c{number}"))
            patiently(peer.responses, number + 1)
        gevent.sleep(0.05)
    assert patiently(peer.responses, 3) == [("200", f"c{n}") for n in range(3)]
    assert len(got) == 3


def test_response_to_a_caller_that_has_left_is_counted_and_dropped(proxy, client, phone):
    stack = proxy(phone.target)
    wait = gevent.event.Event()
    phone.core = lambda request, tx: (wait.wait(PATIENCE), 200)[1]
    peer = client(stack.port)
    peer.send(message("left"))
    with gevent.Timeout(PATIENCE):
        while not phone.stats()["handlers"]:
            gevent.sleep(0.01)
        peer.close()
        while len(stack.engine.transports[0].flows) > 1:
            gevent.sleep(0.01)
        wait.set()
        while not stack.stats()["send_errors"]:
            gevent.sleep(0.01)
    other = client(stack.port)
    other.send(message("stays"))
    assert patiently(other.responses, 1) == [("200", "c")]
