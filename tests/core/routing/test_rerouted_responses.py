"""Responses whose flow has ended, RFC 3261 §18.2.2 and RFC 3263 §5: over TCP on loopback, and on the virtual network."""

from __future__ import annotations

import logging

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from sippet_gevent import Stack, TransportError
from sippet_gevent.core.routing import rerouted_responses as responses
from sippet_gevent.transport.locate.resolver import SRV, StaticResolver
from sippet_gevent.transport.memory import MemoryFlow
from tests.conditions import PATIENCE, until
from tests.ports import free_port
from tests.transport.stream.test_tcp import Peer as Connected
from tests.transport.stream.test_tcp import options

from ..wire import Peer

REQUEST = options(via="{via}").decode()


class Host:
    """Listens on a loopback address, at a port that is free on all addresses of the test."""

    def __init__(self, host, port=0):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((host, port))
        self.sock.listen(8)
        self.sock.settimeout(PATIENCE)
        self.port = self.sock.getsockname()[1]
        self.peers = []

    def accept(self):
        self.peers.append(Connected(None, self.sock.accept()[0]))
        return self.peers[-1]

    def close(self):
        for sock in (self.sock, *(peer.sock for peer in self.peers)):
            sock.close()


@pytest.fixture
def hosts():
    made = []

    def make(*arguments):
        made.append(Host(*arguments))
        return made[-1]

    yield make
    for host in made:
        host.close()


@pytest.fixture
def server():
    """A stack over TCP that answers when `go` is set; `records` is its DNS."""
    records = {}
    stack = Stack("tcp:127.0.0.1:0", resolver=StaticResolver({}))
    stack.resolver.records = records
    stack.go = Event()
    stack.records = records
    stack.seen = []

    def core(request, tx):
        stack.seen.append(tx)
        assert stack.go.wait(PATIENCE)
        return 200

    stack.on()(core)
    with stack:
        stack.tcp = stack.engine.transports[0]
        yield stack


def ask(server, via, method="MESSAGE"):
    """Send a request with this sent-by, and close its connection once the core has it."""
    peer = Connected(server.tcp.local)
    text = REQUEST.replace("{via}", via).replace("OPTIONS", method)
    if method == "INVITE":
        text = text.replace(
            "Max-Forwards",
            f"Contact: <sip:a@127.0.0.1:{via.rpartition(':')[2]};transport=tcp>\r\nMax-Forwards",
        )
    peer.send(text.encode())
    until(lambda: server.seen)
    peer.reset()
    until(lambda: not server.tcp.flows)


@pytest.mark.rfc("3261 18.2.2", "3263 5")
def test_response_goes_to_the_name_in_its_via_if_the_source_is_closed(server, hosts):
    other = hosts("127.0.0.2")
    server.records["phone.example"] = ("127.0.0.3", "127.0.0.2")
    ask(server, f"phone.example:{other.port}")
    server.go.set()
    assert other.accept().message().status == 200
    assert server.stats()["send_errors"] == 2
    assert server.tcp.counts == {"accepted": 1, "reset": 1, "connect_failed": 2}


def test_response_is_not_sent_to_a_target_that_is_not_allowed(server, hosts):
    other = hosts("127.0.0.2")
    server.records["phone.example"] = ("127.0.0.2",)
    forbidden = []
    server.allow_target = lambda candidate: forbidden.append(
        (candidate.host, candidate.port, candidate.name)
    )
    ask(server, f"phone.example:{other.port}")
    server.go.set()
    until(lambda: len(forbidden) == 2 and not len(server.rerouted))
    assert forbidden == [(host, other.port, "phone.example") for host in ("127.0.0.1", "127.0.0.2")]
    assert server.tcp.counts == {"accepted": 1, "reset": 1}
    assert server.stats()["send_errors"] == 2  # like any way that fails


def test_response_is_not_sent_and_logged_when_allow_target_fails(server, hosts, caplog):
    other = hosts("127.0.0.1")
    server.allow_target = lambda candidate: candidate.nonsense
    ask(server, f"127.0.0.1:{other.port}")
    server.go.set()
    until(lambda: "allow_target" in caplog.text and not len(server.rerouted))
    assert "allow_target failed" in caplog.text and "nonsense" in caplog.text
    assert server.tcp.counts == {"accepted": 1, "reset": 1}
    assert server.stats()["send_errors"] == 2


@pytest.mark.rfc("3261 18.2.2")
def test_source_address_is_tried_first(server, hosts):
    near = hosts("127.0.0.1")
    far = hosts("127.0.0.2", near.port)
    server.records["phone.example"] = ("127.0.0.2",)
    ask(server, f"phone.example:{near.port}")
    server.go.set()
    assert near.accept().message().status == 200
    far.sock.settimeout(0.05)
    with pytest.raises(socket.timeout):
        far.sock.accept()


@pytest.mark.rfc("6026 8.8", "3261 13.3.1.4", "3261 18.2.2")
def test_200_reaches_the_caller_that_returned_after_a_lost_180(server, hosts):
    lost = Event()

    @server.on("INVITE")
    def answer(request, tx):
        server.seen.append(tx)
        assert server.go.wait(PATIENCE)
        tx.respond(180)  # that port is closed
        assert lost.wait(PATIENCE)
        tx.respond(200)

    port = free_port()
    ask(server, f"127.0.0.1:{port}", "INVITE")
    server.go.set()
    until(lambda: server.stats()["send_errors"] and not len(server.rerouted))
    near = hosts("127.0.0.1", port)
    lost.set()
    assert near.accept().message().status == 200
    server.seen[0].call._leave()


@pytest.mark.rfc("3263 5")
def test_name_without_port_is_looked_up_as_a_service(server, hosts, monkeypatch):
    other = hosts("127.0.0.2")
    monkeypatch.setitem(responses.DEFAULT_PORTS, "TCP", free_port())
    server.records["_sip._tcp.phone.example"] = (SRV(10, 0, other.port, "b.example"),)
    server.records["b.example"] = ("127.0.0.2",)
    ask(server, "phone.example")
    server.go.set()
    assert other.accept().message().status == 200


@pytest.mark.rfc("3263 5")
def test_numeric_sent_by_other_than_the_source_is_tried(server, hosts):
    other = hosts("127.0.0.2")
    ask(server, f"127.0.0.2:{other.port}")
    server.go.set()
    assert other.accept().message().status == 200


@pytest.mark.rfc("3261 13.3.1.4")
def test_repeated_200_takes_the_found_way_until_its_ack(server, hosts):
    other = hosts("127.0.0.2")
    server.records["phone.example"] = ("127.0.0.2",)
    calls = []

    @server.on("INVITE")
    def answer(request, tx):
        server.seen.append(tx)
        assert server.go.wait(PATIENCE)
        with tx.accept() as call:
            calls.append(call)

    ask(server, f"phone.example:{other.port}", "INVITE")
    server.go.set()
    peer = other.accept()
    first, second = peer.message(), peer.message()
    assert [first.status, second.status] == [200, 200]
    assert bytes(first) == bytes(second)
    until(
        lambda: (
            [tx.flow.remote for tx in server.engine.servers.values()] == [("127.0.0.2", other.port)]
        )
    )
    ack = (
        REQUEST.replace("{via}", "x")
        .replace("OPTIONS", "ACK")
        .replace("To: <sip:b@b.example>", f"To: {first.to}")
    )
    peer.send(ack.encode())
    until(lambda: calls)


def test_responses_arrive_in_order(server, hosts):
    other = hosts("127.0.0.2")
    waited = Event()
    server.resolver = Slow(waited, {"phone.example": ["127.0.0.2"]})

    @server.on("INVITE")
    def answer(request, tx):
        server.seen.append(tx)
        assert server.go.wait(PATIENCE)
        tx.respond(180)
        tx.respond(183)
        return 486

    ask(server, f"phone.example:{other.port}", "INVITE")
    server.go.set()
    until(lambda: len(server.rerouted) == 1)
    waited.set()
    peer = other.accept()
    statuses = list(iter(lambda: peer.message().status, 486))
    assert [status for status in statuses if status != 100] == [180, 183]  # 100 after 200 ms


class Slow(StaticResolver):
    """Answers when the test allows it."""

    def __init__(self, go, records):
        super().__init__(records)
        self.go = go

    def ask(self, questions, budget):
        assert self.go.wait(PATIENCE)
        return super().ask(questions, budget)


def test_slow_name_server_delays_no_other_response(server, hosts):
    server.resolver = Slow(go := Event(), {})
    ask(server, f"phone.example:{free_port()}")
    server.go.set()
    until(lambda: len(server.rerouted) == 1)
    assert len(server.rerouted) == server.active == 1
    other = Connected(server.tcp.local)
    other.send(options(7))
    assert other.message().status == 200
    other.sock.close()
    go.set()
    until(lambda: not len(server.rerouted))


@pytest.mark.rfc("6026 8.8")
def test_provisional_response_without_a_way_is_counted(server, caplog):
    after = []

    @server.on("INVITE")
    def answer(request, tx):
        server.seen.append(tx)
        assert server.go.wait(PATIENCE)
        tx.respond(180)
        until(lambda: server.stats()["send_errors"] >= 2 and not len(server.rerouted))
        tx.wait(0.001)
        after.append(tx.transaction.state)
        return 486

    ask(server, f"phone.example:{free_port()}", "INVITE")
    server.go.set()
    until(lambda: after)
    assert after == ["proceeding"]  # the transaction remains in its state
    assert "no way back to phone.example" in caplog.text


def test_final_response_without_a_way_is_logged_with_its_call_id(server, caplog):
    caplog.set_level(logging.INFO, "sippet_gevent")
    ask(server, f"phone.example:{free_port()}", "INVITE")
    call_id = server.seen[0].request.call_id
    server.go.set()
    until(lambda: "transaction failed" in caplog.text)
    lines = [record.getMessage() for record in caplog.records]
    for event in ("response not sent: destination=", "transaction failed: "):
        (line,) = [line for line in lines if line.startswith(event)][:1]
        assert f" call_id={call_id} reason=" in line


def test_searches_for_a_way_are_bounded(server, monkeypatch):
    monkeypatch.setattr(responses, "SEARCHES", 0)
    ask(server, f"phone.example:{free_port()}")
    server.go.set()
    until(lambda: server.stats()["send_errors"] == 1)
    assert not server.tcp.counts.get("connect_failed")


def test_source_at_its_limit_gives_up_its_own_oldest_response(sip, deaf, monkeypatch):
    monkeypatch.setattr(responses, "SEARCHES", 4)
    monkeypatch.setattr(responses, "SEARCHES_OF_SOURCE", 2)
    go, hosts = Event(), ("10.0.0.76", "10.0.0.77")
    deaf.update(hosts)
    records = {f"p{number}.example": ["10.0.0.78"] for number in range(6)}
    server = sip.serve(lambda request, tx: 200, resolver=Slow(go, records))
    other, greedy, home = Peer(sip, hosts[0]), Peer(sip, hosts[1]), Peer(sip, "10.0.0.78")

    def ask(peer, number):
        via = f"SIP/2.0/UDP p{number}.example;branch=z9hG4bK{number}"
        peer.send(peer.request("OPTIONS", via=via, call_id=str(number)))

    ask(other, 0)
    for number in range(1, 6):
        ask(greedy, number)
    assert (len(server.rerouted), server.stats()["send_errors"]) == (3, 3)
    go.set()
    sip.settle()
    assert [response.call_id for response in home.responses] == ["0", "4", "5"]
    assert not server.rerouted._searches and not len(server.rerouted)


def test_stopping_ends_the_search(server):
    server.resolver = Slow(Event(), {})
    ask(server, f"phone.example:{free_port()}")
    server.go.set()
    until(lambda: len(server.rerouted))
    server.stop()
    assert len(server.rerouted) == 0


def test_search_that_ends_as_the_stack_stops_ends_quietly(server, monkeypatch):
    raised = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *error: raised.append(error))
    server.resolver = Slow(go := Event(), {"phone.example": ["127.0.0.2"]})
    ask(server, f"phone.example:{free_port()}")
    server.go.set()
    until(lambda: len(server.rerouted))
    (search,) = server.rerouted._greenlets
    go.set()
    server.stop()
    search.join(PATIENCE)
    assert search.dead and not raised


# ---- datagrams


@pytest.fixture
def deaf(monkeypatch):
    """Make sending to these hosts fail."""
    hosts = set()
    send = MemoryFlow.send

    def sent(self, data):
        if self.remote[0] in hosts:
            raise TransportError(f"no route to {self.remote[0]}", self)
        send(self, data)

    monkeypatch.setattr(MemoryFlow, "send", sent)
    return hosts


@pytest.mark.rfc("3261 18.2.2", "3263 5")
@pytest.mark.parametrize("maddr", ["", ";maddr=10.0.0.78", ";maddr=other.example"])
def test_unsendable_datagram_goes_to_maddr_or_to_the_name_in_its_via(sip, deaf, maddr):
    deaf.add("10.0.0.77")
    records = {name: ["10.0.0.78"] for name in ("phone.example", "other.example")}
    server = sip.serve(lambda request, tx: 200, resolver=StaticResolver(records))
    caller, other = Peer(sip, "10.0.0.77"), Peer(sip, "10.0.0.78")
    name = "gone.example" if maddr else "phone.example"
    caller.ask("OPTIONS", via=f"SIP/2.0/UDP {name}{maddr};branch=z9hG4bK1")
    assert (caller.statuses, other.statuses) == ([], [200])
    assert server.engine.counters.send_errors == 0


def test_unsendable_datagram_to_the_address_of_its_via_is_given_up(sip, deaf):
    deaf.add("10.0.0.77")
    server = sip.serve(lambda request, tx: 200)
    Peer(sip, "10.0.0.77").ask("OPTIONS")
    assert server.engine.counters.send_errors == 1


@pytest.mark.parametrize(("size", "taken"), [(100, responses.RESPONSES), (60_000, 2), (131_000, 1)])
def test_waiting_responses_are_bounded_in_bytes(size, taken):
    waiting = responses.ReroutedResponses(None)
    tx = object()
    waiting._waiting[tx] = [b"0" * size]
    for number in range(1, 20):
        assert waiting.send(tx, b"%02d" % number * (size // 2))
    assert len(waiting._waiting[tx]) == taken
