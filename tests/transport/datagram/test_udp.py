"""UDP over real sockets on loopback: whole datagrams, flows, errors."""

from __future__ import annotations

import errno
import resource
import socket as plain_socket
import time
from typing import ClassVar

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from sippet_gevent import Stack, TransportError
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.datagram import send_queue
from sippet_gevent.transport.datagram import udp as udp_module
from sippet_gevent.transport.datagram.udp import UDP
from tests.conditions import until

OPTIONS = (
    "OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b.example>;tag=1\r\n"
    "To: <sip:b@b.example>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\n{more}Content-Length: {length}\r\n\r\n{body}"
)


def options(
    via="192.0.2.9:5060;branch=z9hG4bK1;rport", *, call_id="1", more="", body="", host="x.example"
):
    return OPTIONS.format(
        host=host, via=via, call_id=call_id, more=more, length=len(body), body=body
    ).encode()


@pytest.fixture
def udp():
    """A started transport and the list of what it has received."""
    got = []
    arrived = Event()

    def receive(data, flow):
        got.append((data, flow))
        arrived.set()

    transport = UDP()
    transport.start(("127.0.0.1", 0), receive)
    transport.got, transport.arrived = got, arrived
    yield transport
    transport.stop()


@pytest.fixture
def peer():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    yield sock
    sock.close()


@pytest.fixture
def server():
    """A stack that answers OPTIONS with 200, and its address."""
    stack = Stack("udp:127.0.0.1:0")
    stack.on("OPTIONS")(lambda request, tx: 200)
    with stack:
        stack.where = stack.engine.transports[0].local
        yield stack


def test_port_zero_takes_a_free_port(udp):
    assert udp.local[0] == "127.0.0.1" and udp.local[1] > 0


def test_datagram_of_65507_bytes_arrives_whole(udp, peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    peer.sendto(b"x" * 65507, udp.local)
    assert udp.arrived.wait(5)
    assert len(udp.got[0][0]) == 65507


def test_second_listener_on_the_same_port_is_refused(udp):
    with pytest.raises(TransportError, match="cannot listen on udp:127.0.0.1"):
        UDP().start(udp.local, lambda data, flow: None)


def test_another_process_cannot_take_the_port_with_reuseaddr(udp):
    thief = plain_socket.socket(plain_socket.AF_INET, plain_socket.SOCK_DGRAM)
    thief.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_REUSEADDR, 1)
    with pytest.raises(OSError, match="in use"):
        thief.bind(udp.local)
    thief.close()


def test_flow_sends_from_the_socket_the_datagram_came_to(udp, peer):
    peer.sendto(b"hello", udp.local)
    assert udp.arrived.wait(5)
    udp.got[0][1].send(b"answer")
    assert peer.recvfrom(100) == (b"answer", udp.local)


def test_datagrams_of_one_peer_come_by_one_flow(udp, peer):
    peer.sendto(b"1", udp.local)
    peer.sendto(b"2", udp.local)
    while len(udp.got) < 2:
        assert udp.arrived.wait(5)
        udp.arrived.clear()
    assert udp.got[0][1] is udp.got[1][1]


def test_flows_are_forgotten_when_there_are_too_many(udp, monkeypatch):
    monkeypatch.setattr(udp_module, "FLOWS", 10)
    for port in range(1000, 1100):
        udp.connect(("127.0.0.1", port))
    assert len(udp._flows) <= 10


def test_datagram_that_is_too_long_is_a_transport_error(udp):
    with pytest.raises(TransportError, match="cannot send 70000 bytes to 127.0.0.1:9"):
        udp.connect(("127.0.0.1", 9)).send(b"x" * 70000)


def test_sending_after_stop_is_a_transport_error():
    transport = UDP()
    transport.start(("127.0.0.1", 0), lambda data, flow: None)
    flow = transport.connect(("127.0.0.1", 9))
    transport.stop()
    with pytest.raises(TransportError, match="not open"):
        flow.send(b"x")


def test_transport_can_be_started_again_after_stop():
    transport = UDP()
    for _ in range(2):
        transport.start(("127.0.0.1", 0), lambda data, flow: None)
        transport.stop()


def test_full_send_buffer_queues_in_order_and_counts(udp, peer, monkeypatch):
    real, refusals = udp.queue.sendto, [BlockingIOError(11, "full")] * 3

    def sendto(data, address):
        if refusals:
            raise refusals.pop()
        return real(data, address)

    udp.queue.sendto = sendto
    flow = udp.connect(peer.getsockname())
    for text in (b"1", b"2", b"3"):
        flow.send(text)
    assert [peer.recv(10) for _ in range(3)] == [b"1", b"2", b"3"]
    assert udp.queue.waited == 3


def test_more_unsent_datagrams_than_allowed_are_a_transport_error(udp, peer, monkeypatch):
    monkeypatch.setattr(send_queue, "UNSENT", 2)

    def full(data, address):
        raise BlockingIOError(11, "full")

    udp.queue.sendto = full
    flow = udp.connect(peer.getsockname())
    flow.send(b"1")
    flow.send(b"2")
    with pytest.raises(TransportError, match="wait to be sent already"):
        flow.send(b"3")


def test_wildcard_socket_names_the_address_the_peer_sees():
    transport = UDP()
    transport.start(("0.0.0.0", 0), lambda data, flow: None)
    assert transport.connect(("127.0.0.1", 9)).local == ("127.0.0.1", transport.local[1])
    transport.stop()


def test_other_ip_version_is_no_way(udp):
    with pytest.raises(TransportError, match="other IP version"):
        udp.connect(("::1", 5060))


@pytest.mark.rfc("3581 4")
def test_answer_goes_to_the_source_port_when_rport_is_asked_for(server, peer):
    peer.sendto(options(), server.where)
    response = parse(peer.recv(65535))
    assert response.status == 200
    assert response.via[0].rport == peer.getsockname()[1]
    assert response.via[0].received == "127.0.0.1"


@pytest.mark.rfc("3261 18.2.2")
def test_answer_goes_to_the_sent_by_port_without_rport(server, peer):
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 0))
    other.settimeout(5)
    peer.sendto(options(f"127.0.0.1:{other.getsockname()[1]};branch=z9hG4bK2"), server.where)
    assert parse(other.recv(65535)).status == 200
    other.close()


@pytest.mark.rfc("3261 18.2.1")
def test_received_is_added_to_the_top_via_when_sent_by_is_another_host(server, peer):
    lower = "192.0.2.77:5060;branch=z9hG4bKlower"
    more = f"Via: SIP/2.0/UDP {lower}\r\n"
    peer.sendto(
        options(f"192.0.2.9:{peer.getsockname()[1]};branch=z9hG4bK3", more=more), server.where
    )
    via = parse(peer.recv(65535)).via
    assert via[0].received == "127.0.0.1"
    assert via[1].received is None


@pytest.mark.rfc("3581 4")
def test_received_and_rport_on_input_are_overwritten_with_the_real_source(server, peer):
    peer.sendto(options("192.0.2.9;branch=z9hG4bK4;received=203.0.113.1;rport=9"), server.where)
    via = parse(peer.recv(65535)).via[0]
    assert (via.received, via.rport) == ("127.0.0.1", peer.getsockname()[1])


def test_twelve_kilobyte_request_is_answered(server, peer):
    peer.sendto(options(body="x" * 12000), server.where)
    assert parse(peer.recv(65535)).status == 200


def test_ipv6_answers_as_ipv4_does():
    stack = Stack("udp:[::1]:0")
    stack.on("OPTIONS")(lambda request, tx: 200)
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("::1", 0))
    sock.settimeout(5)
    with stack:
        sock.sendto(
            options("[2001:db8::9]:5060;branch=z9hG4bK6;rport"), stack.engine.transports[0].local
        )
        response = parse(sock.recv(65535))
    sock.close()
    assert (response.status, response.via[0].received) == (200, "::1")


def test_stack_calls_a_stack_over_ipv6():
    server, client = Stack("udp:[::1]:0"), Stack("udp:[::1]:0")
    server.on("OPTIONS")(lambda request, tx: 200)
    with server, client:
        port = server.engine.transports[0].local[1]
        assert client.request("OPTIONS", f"sip:[::1]:{port}", timeout=5).status == 200


def test_refused_datagram_does_not_stop_the_reader(server, peer):
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.bind(("127.0.0.1", 0))
    closed.sendto(options("127.0.0.1;branch=z9hG4bK7;rport"), server.where)
    closed.close()  # the answer meets a closed port, and an ICMP error comes back
    gevent.sleep(0)
    peer.sendto(options("127.0.0.1;branch=z9hG4bK8;rport", call_id="8"), server.where)
    assert parse(peer.recv(65535)).status == 200


def test_datagrams_wait_again_and_again_while_the_device_s_queue_is_full(udp):
    transport = udp

    class Full(udp_module.UDPFlow):
        tries: ClassVar[list[float]] = []

        def emit(self, data):
            self.tries.append(time.monotonic())
            if len(self.tries) < 6:
                raise OSError(errno.ENOBUFS, "no buffer space")

    transport.queue.put(b"x", Full(transport, ("127.0.0.1", 9)))
    until(lambda: not transport.queue.must_wait)
    assert len(Full.tries) == 6
    assert Full.tries[-1] - Full.tries[0] > 3 * send_queue.PAUSE


def test_is_ours_raises_503_while_no_descriptor_is_free():
    with Stack("udp:0.0.0.0:0") as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(TransportError, match="cannot tell whether 127.0.0.77 is ours"):
                stack.engine.transports[0].is_ours("127.0.0.77")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert stack.engine.transports[0].is_ours("127.0.0.77")
