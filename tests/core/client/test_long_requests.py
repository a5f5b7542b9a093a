"""Long requests go by TCP, and by UDP where there is none, RFC 3261 §18.1.1. Real sockets on loopback."""

from __future__ import annotations

import socket as plain_socket

import gevent
import pytest
from gevent import socket

from sippet_gevent import Limits, Request, Stack, StreamLimits, TransportError, forward
from sippet_gevent.core.client import long_requests
from sippet_gevent.core.client.long_requests import DESTINATIONS, REFUSED_SECONDS, Detours
from sippet_gevent.core.client.targets import GREY_TARGETS
from sippet_gevent.message.parser import ParserLimits, parse
from sippet_gevent.transport.datagram.udp import UDP
from sippet_gevent.transport.locate.resolver import StaticResolver
from sippet_gevent.transport.locate.rfc3263 import Candidate
from tests.conditions import PATIENCE, until
from tests.ports import free_port

from ..wire import Peer

LONG = b"x" * 1300


class Phone:
    """A peer on 127.0.0.1 with one port for UDP and TCP, or for UDP alone. Keeps the way of each request."""

    def __init__(self, *transports, limits=None):
        self.seen = []
        self.answers = [200]
        self.port = free_port()
        addresses = [f"{name}:127.0.0.1:{self.port}" for name in ("udp", *transports)]
        self.stack = Stack(*addresses, limits=limits)
        self.stack.on()(self.serve)
        self.stack.start()
        self.uri = f"sip:127.0.0.1:{self.port}"

    def serve(self, request, tx):
        self.seen.append(request)
        return self.answers.pop() if len(self.answers) > 1 else self.answers[0]

    @property
    def ways(self):
        """What each request came by, and what its Via says of that."""
        return [(request.flow.transport.name, request.via[0].transport) for request in self.seen]


@pytest.fixture
def phones():
    """Make phones, at ports that are free for TCP, too: `phones("tcp")` listens there."""
    made = []

    def make(*transports, limits=None):
        made.append(Phone(*transports, limits=limits))
        return made[-1]

    yield make
    for phone in made:
        phone.stack.stop()


@pytest.fixture
def clients():
    """Make started stacks, with UDP and TCP by default."""
    made = []

    def make(*addresses, **options):
        made.append(Stack(*(addresses or ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")), **options))
        return made[-1].start()

    yield make
    for stack in made:
        stack.stop()


@pytest.fixture
def blackhole():
    """Let the kernel drop the SYNs to a port of 127.0.0.1: `blackhole(port)`."""
    socks = []

    def make(port):
        full = plain_socket.socket()
        full.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", port))
        full.listen(0)
        socks.append(full)
        for _ in range(4):  # its queue is full then
            filler = plain_socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            socks.append(filler)

    yield make
    for sock in socks:
        sock.close()


BY_TCP = ("TCP", "TCP")
BY_UDP = ("UDP", "UDP")


def ask(stack, uri, body=LONG, method="MESSAGE", **headers):
    with gevent.Timeout(PATIENCE):
        return stack.request(method, uri, body=body, content_type="text/plain", **headers).status


def size_of(stack, uri, size):
    """Send a request with a body of so many bytes; return the bytes of the request."""
    tx = stack.send(Request("MESSAGE", uri, body=b"x" * size, content_type="text/plain"))
    assert tx.final(timeout=PATIENCE).status == 200
    return len(tx.transaction.last)


# ---- what is too long


@pytest.mark.rfc("3261 18.1.1")
@pytest.mark.parametrize("parameter", ["", ";transport=udp"])
def test_long_request_goes_by_tcp_as_its_via_has_it(phones, clients, parameter):
    phone, client = phones("tcp"), clients()
    assert ask(client, phone.uri + parameter) == 200
    assert phone.ways == [BY_TCP]


def test_short_request_goes_by_udp(phones, clients):
    phone, client = phones("tcp"), clients()
    assert ask(client, phone.uri, b"short") == 200
    assert phone.ways == [BY_UDP]


@pytest.mark.rfc("3261 18.1.1")
def test_1300_bytes_are_not_too_long_and_1301_are(phones, clients):
    phone, client = phones("tcp"), clients()
    rest = size_of(client, phone.uri, 500) - 500
    assert [size_of(client, phone.uri, size - rest) for size in (1300, 1301)] == [1300, 1301]
    assert [way[0] for way in phone.ways] == ["UDP", "UDP", "TCP"]


def test_limit_can_be_moved_and_taken_away(phones, clients):
    phone = phones("tcp")
    ask(clients(limits=Limits(datagram=4000)), phone.uri)
    ask(clients(limits=Limits(datagram=0)), phone.uri, b"x" * 20_000)
    ask(clients(limits=Limits(datagram=200)), phone.uri, b"")
    assert phone.ways == [BY_UDP, BY_UDP, BY_TCP]


@pytest.mark.rfc("3261 18.2.2")
def test_long_response_goes_back_the_way_its_request_came(phones, clients):
    phone, client = phones("tcp"), clients()
    phone.stack.on("OPTIONS")(lambda request, tx: tx.respond(200, body=LONG))
    assert client.request("OPTIONS", phone.uri).flow.transport.name == "UDP"


def test_detour_does_not_change_the_contact(phones, clients):
    phone, client = phones("tcp"), clients()
    ask(client, phone.uri, method="SUBSCRIBE", event="presence")
    contact = phone.seen[0].contact[0].uri
    assert (contact.transport, contact.port) == (None, client.engine.transports[0].local[1])


@pytest.mark.rfc("3261 9.1")
def test_cancel_follows_its_long_invite(phones, clients):
    phone, client = phones("tcp"), clients()
    phone.stack.on("INVITE")(
        lambda request, tx: phone.seen.append(request) or tx.respond(180) or tx.wait(PATIENCE)
    )
    tx = client.send(Request("INVITE", phone.uri, body=LONG, content_type="text/plain"))
    assert tx.final(lambda ringing: tx.cancel(), timeout=PATIENCE).status == 487
    assert phone.ways == [BY_TCP]


def test_long_ack_goes_by_tcp(phones, clients):
    phone, client = phones("tcp"), clients()
    client.send(Request("ACK", phone.uri, cseq="1 ACK", body=LONG))
    until(lambda: phone.seen)
    assert phone.ways == [BY_TCP]


@pytest.mark.rfc("3261 16.6", "3261 18.1.1")
def test_request_too_long_with_the_proxy_s_via_is_forwarded_by_tcp(phones, clients):
    phone, client = phones("tcp"), clients()
    proxy = clients()
    proxy.on()(lambda request, tx: forward(request, tx, phone.uri))
    uri = proxy.addresses[0].replace("udp", "sip")
    for size in (500, 1300 - (size_of(client, uri, 500) - 500)):
        size_of(client, uri, size)
    assert [way[0] for way in phone.ways] == ["UDP", "UDP", "TCP"]
    assert [via.transport for via in phone.seen[-1].via] == ["TCP", "UDP"]


# ---- where there is no TCP


@pytest.mark.rfc("3261 18.1.1")
@pytest.mark.parametrize("drops", [False, True])
def test_long_ack_goes_by_udp_where_tcp_is_refused(phones, clients, blackhole, monkeypatch, drops):
    monkeypatch.setattr("sippet_gevent.core.client.sender.DETOUR_SECONDS", 0.05)
    phone, client = phones(), clients(limits=Limits(streams=StreamLimits(pong=0.1)))
    if drops:
        blackhole(phone.port)
    for number in (1, 2):
        client.send(Request("ACK", phone.uri, cseq=f"{number} ACK", body=LONG))
    until(lambda: len(phone.seen) >= 2)
    assert phone.ways == [BY_UDP] * 2
    assert sum(client.stats()["streams"].values()) == 1


@pytest.mark.rfc("3261 18.1.1")
def test_proxy_passes_on_a_long_ack_by_udp_where_tcp_is_refused(phones, clients):
    phone, client, proxy = phones(), clients(), clients()
    proxy.on()(lambda request, tx: forward(request, tx, phone.uri))
    client.send(Request("ACK", proxy.addresses[0].replace("udp", "sip"), body=LONG))
    until(lambda: phone.seen)
    assert phone.ways == [BY_UDP]


@pytest.mark.rfc("3261 18.1.1")
def test_refused_tcp_is_followed_by_udp(phones, clients):
    phone, client = phones(), clients()
    tx = client.send(Request("MESSAGE", phone.uri, body=LONG, content_type="text/plain"))
    assert tx.final(timeout=PATIENCE).status == 200
    assert phone.ways == [BY_UDP]
    assert len(phone.seen[0].via) == 1


@pytest.mark.rfc("3261 18.1.1")
def test_tcp_that_is_reset_at_once_is_followed_by_udp_with_the_same_branch(phones, clients):
    phone, client = phones(), clients()
    listener = socket.socket()
    listener.bind(("127.0.0.1", phone.port))
    listener.listen(1)
    tx = client.send(Request("MESSAGE", phone.uri, body=LONG, content_type="text/plain"))
    first = tx.request.via[0]
    listener.accept()[0].close()
    listener.close()
    assert tx.final(timeout=PATIENCE).status == 200
    assert (first.transport, phone.ways) == ("TCP", [BY_UDP])
    assert (
        phone.seen[0].via[0].branch == first.branch
    )  # it may have read it: this is the same request, retried


def test_tcp_that_does_not_answer_is_given_up_in_time_for_udp(
    phones, clients, blackhole, monkeypatch
):
    monkeypatch.setattr("sippet_gevent.core.client.sender.DETOUR_SECONDS", 0.05)
    phone, client = phones(), clients(limits=Limits(streams=StreamLimits(connect=60.0, pong=0.1)))
    blackhole(phone.port)
    assert ask(client, phone.uri) == 200
    assert phone.ways == [BY_UDP]
    assert client.stats()["streams"] == {"connect_timeout": 1}


def test_detour_takes_a_fraction_of_what_a_request_lives():
    assert long_requests.DETOUR_SECONDS <= 32 / 8


def test_destination_that_refused_tcp_is_not_asked_again_for_a_while(phones, clients):
    phone, client = phones(), clients()
    for _ in range(3):
        ask(client, phone.uri)
    assert phone.ways == [BY_UDP] * 3
    assert client.stats()["streams"] == {"connect_failed": 1}
    assert len(client.sender.grey) == 0


def test_refusal_is_forgotten():
    detours, flow = Detours(1300), UDP().connect(("192.0.2.1", 5060))
    tcp = [type("TCP", (UDP,), {"name": "TCP"})()]
    detours.refused(flow, 100.0)
    assert not detours.lead_around(flow, 2000, tcp, 100.0 + REFUSED_SECONDS - 1)
    assert detours.lead_around(flow, 2000, tcp, 100.0 + REFUSED_SECONDS)


@pytest.mark.parametrize("addresses", [("udp:127.0.0.1:0",), ("udp:127.0.0.1:0", "tcp:[::1]:0")])
def test_long_request_goes_by_udp_without_tcp_of_its_ip_version(phones, clients, addresses):
    phone, client = phones("tcp"), clients(*addresses)
    assert ask(client, phone.uri) == 200
    assert phone.ways == [BY_UDP]


def test_long_requests_are_logged_once_for_each_destination(phones, clients, caplog):
    with_tcp, without = phones("tcp"), phones()
    client, bare = clients(), clients("udp:127.0.0.1:0")
    caplog.set_level("INFO", "sippet_gevent.core")
    for _ in range(3):
        for stack, phone in ((client, with_tcp), (client, without), (bare, with_tcp)):
            ask(stack, phone.uri)
    lines = [
        record.getMessage().partition("goes_by=")[2]
        for record in caplog.records
        if "too long for a datagram: bytes=" in record.getMessage()
    ]
    assert sorted(lines) == [
        'TCP reason="RFC 3261 §18.1.1"',
        'TCP reason="RFC 3261 §18.1.1"',
        'UDP reason="TCP was refused there"',
        'UDP reason="no TCP listener of this IP version"',
    ]


def test_memory_of_detours_is_bounded():
    detours, udp = Detours(1300), UDP()
    udp.local = ("0.0.0.0", 5060)
    for number in range(3 * DESTINATIONS):
        flow = udp.connect(("192.0.2.1", number + 1))
        detours.lead_around(flow, 2000, [], 0.0)
        detours.refused(flow, 0.0)
    assert len(detours._logged) == DESTINATIONS
    assert len(detours._refused) == GREY_TARGETS


@pytest.mark.rfc("5923 8.1")
def test_kept_connection_that_was_dead_is_no_refusal_of_tcp(phones, clients):
    phone, client = phones("tcp"), clients()
    ask(client, phone.uri)
    tx = client.send(Request("MESSAGE", phone.uri, body=LONG, content_type="text/plain"))
    for flow in [*phone.stack.engine.transports[1].flows]:
        flow.close()
    assert tx.final(timeout=PATIENCE).status == 200
    ask(client, phone.uri)
    assert phone.ways == [BY_TCP] * 3
    assert client.stats()["streams"].get("connect_failed") is None


def test_detour_by_a_renewed_connection_ends_in_time_for_udp(
    phones, clients, blackhole, monkeypatch
):
    monkeypatch.setattr("sippet_gevent.core.client.sender.DETOUR_SECONDS", 0.05)
    phone, client = (
        phones("tcp"),
        clients(limits=Limits(streams=StreamLimits(connect=60.0, pong=0.1))),
    )
    ask(client, phone.uri)
    tx = client.send(Request("MESSAGE", phone.uri, body=LONG, content_type="text/plain"))
    for flow in [*phone.stack.engine.transports[1].flows]:
        flow.close()
    phone.stack.engine.close(phone.stack.engine.transports[1])
    blackhole(phone.port)
    assert tx.final(timeout=PATIENCE).status == 200
    assert phone.ways == [BY_TCP, BY_UDP]


# ---- among other targets


class Several(StaticResolver):
    """Leads to these phones by UDP, in their order."""

    def __init__(self, *phones):
        super().__init__({})
        self.found = [Candidate("UDP", "127.0.0.1", phone.port, "example.com") for phone in phones]

    def resolve(self, uri, transports):
        return [*self.found]


@pytest.mark.rfc("3263 4.3")
def test_order_of_targets_is_kept_each_by_tcp_and_then_udp(phones, clients):
    first, second = phones(), phones("tcp")
    first.answers = [503]
    client = clients(resolver=Several(first, second))
    assert ask(client, "sip:example.com") == 200
    assert (first.ways, second.ways) == ([BY_UDP], [BY_TCP])


def test_target_that_refuses_a_long_request_over_tcp_is_not_asked_by_udp(phones, clients):
    first, second = phones("tcp"), phones("tcp")
    first.answers = [503]
    client = clients(resolver=Several(first, second))
    assert ask(client, "sip:example.com") == 200
    assert (first.ways, second.ways) == ([BY_TCP], [BY_TCP])
    assert (
        ask(client, "sip:example.com", b"short") == 200
    )  # the first comes last now, whatever it was asked by
    assert (first.ways, second.ways) == ([BY_TCP], [BY_TCP, BY_UDP])


def test_503_of_all_targets_comes_from_the_one_reached_by_tcp(phones, clients):
    phone, client = phones("tcp"), clients()
    phone.answers = [503]
    assert ask(client, phone.uri) == 503
    assert phone.ways == [BY_TCP]


# ---- what the system will not send


def test_datagram_too_long_for_the_kernel_goes_by_tcp(phones, clients):
    wide = Limits(datagram=0, parser=ParserLimits(message=200_000))
    phone, client = phones("tcp", limits=wide), clients(limits=wide)
    assert ask(client, phone.uri, b"x" * 70_000) == 200
    assert phone.ways == [BY_TCP]
    assert len(client.sender.grey) == 0


def test_datagram_too_long_for_the_kernel_without_tcp_is_a_transport_error(phones, clients):
    client = clients("udp:127.0.0.1:0", limits=Limits(datagram=0))
    with pytest.raises(TransportError, match="Message too long"):
        ask(client, phones().uri, b"x" * 70_000)


# ---- without sockets


def test_virtual_network_has_no_tcp_and_carries_long_requests(sip):
    peer = Peer(sip, "10.0.0.77", lambda request: 200)
    assert (
        sip.run(
            sip.client.request, "MESSAGE", peer.uri, body=LONG, content_type="text/plain"
        ).status
        == 200
    )
    assert parse(bytes(peer.last("MESSAGE"))).via[0].transport == "UDP"
