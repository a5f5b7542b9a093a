"""TCP over real sockets on loopback: framing, keep-alives, limits, slow peers, ended and reused connections."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import socket as plain_socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from sippet_gevent import Limits, Request, Stack, TransactionTimeout, TransportError, forward
from sippet_gevent.message.framer import Framer
from sippet_gevent.message.parser import parse
from sippet_gevent.runtime.limits import StreamLimits
from sippet_gevent.transport.stream import tcp as tcp_module
from sippet_gevent.transport.stream import transport as sweep_module
from sippet_gevent.transport.stream.connection import CLOSED, OPEN
from sippet_gevent.transport.stream.flow import StreamFlow
from sippet_gevent.transport.stream.keepalive import PONGS
from sippet_gevent.transport.stream.pacing import ENDS, MESSAGES
from sippet_gevent.transport.stream.tcp import TCP
from tests.conditions import PATIENCE, until
from tests.conformance import corpus

from ..turns import most_in_a_turn, served_in_turns

OPTIONS = (
    "OPTIONS sip:x.example SIP/2.0\r\nVia: SIP/2.0/TCP {via};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n"
    "From: <sip:a@b.example>;tag=1\r\nTo: <sip:b@b.example>\r\nCall-ID: {number}\r\nCSeq: {number} OPTIONS\r\n"
    "Content-Length: 0\r\n\r\n"
)


def options(number=1, via="127.0.0.1:5060"):
    return OPTIONS.format(number=number, via=via).encode()


class Peer:
    """The other end of a connection."""

    def __init__(self, where, sock=None):
        self.sock = sock or socket.create_connection(where)
        self.sock.settimeout(PATIENCE)
        self.framer = Framer()
        self.ready = []

    def send(self, data):
        self.sock.sendall(data)

    def message(self):
        """Return the next message, parsed."""
        while not self.ready:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.ready += self.framer.feed(data)
        return parse(self.ready.pop(0))

    def rest(self):
        """All bytes up to the end of the connection."""
        parts = []
        while True:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return b"".join(parts)
            parts.append(data)

    def reset(self):
        """Break the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@pytest.fixture
def stacks():
    """Make started stacks. Keyword arguments are limits of their streams: `stacks(idle=0.1)`."""
    made = []

    def make(address="tcp:127.0.0.1:0", limits=None, **streams):
        stack = Stack(address, limits=limits or Limits(streams=StreamLimits(**streams)))
        stack.on("OPTIONS")(lambda request, tx: 200)
        made.append(stack)
        stack.start()
        stack.tcp = stack.engine.transports[0]
        stack.uri = f"sip:127.0.0.1:{stack.tcp.local[1]};transport=tcp"
        return stack

    yield make
    for stack in made:
        stack.stop()


@pytest.fixture
def connect():
    """Make peers: of a new connection to a stack, or of a given socket."""
    peers = []

    def make(stack=None, sock=None):
        peer = Peer(stack and stack.tcp.local, sock)
        peers.append(peer)
        return peer

    yield make
    for peer in peers:
        peer.sock.close()


@pytest.fixture
def listener():
    """A listening socket of the test."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(8)
    sock.settimeout(PATIENCE)
    yield sock
    sock.close()


def uri_of(listener):
    return f"sip:127.0.0.1:{listener.getsockname()[1]};transport=tcp"


# ---- requests and responses


def test_request_is_answered_on_its_own_connection(stacks, connect):
    peer = connect(stacks())
    peer.send(options())
    assert peer.message().status == 200


def test_message_byte_by_byte_is_answered(stacks, connect):
    peer = connect(stacks())
    for at in range(len(options())):
        peer.send(options()[at : at + 1])
    assert peer.message().status == 200


def test_pipelined_requests_are_answered_in_order(stacks, connect):
    peer = connect(stacks())
    peer.send(b"".join(options(number) for number in range(1, 301)))
    assert [peer.message().cseq.number for _ in range(300)] == list(range(1, 301))


def test_two_stacks_use_one_connection_for_many_requests(stacks):
    server, client = stacks(), stacks()
    for _ in range(10):
        assert client.request("OPTIONS", server.uri).status == 200
    assert server.tcp.counts == {"accepted": 1}
    assert len(client.tcp.pool) == 1


def test_via_and_contact_name_tcp(stacks):
    server, client = stacks(), stacks()
    seen = []
    server.on("SUBSCRIBE")(lambda request, tx: seen.append(request) or 200)
    client.request("SUBSCRIBE", server.uri, event="presence")
    assert seen[0].via[0].transport == "TCP"
    assert seen[0].contact[0].uri.transport == "TCP"
    assert seen[0].contact[0].uri.port == client.tcp.local[1]


def test_call_over_tcp(stacks):
    server, client = stacks(), stacks()
    ended = Event()

    @server.on("INVITE")
    def answer(request, tx):
        with tx.accept() as call:
            call.wait(PATIENCE)
            ended.set()

    with client.invite(server.uri):
        pass
    assert ended.wait(PATIENCE)


def test_ipv6_works(stacks):
    server, client = stacks("tcp:[::1]:0"), stacks("tcp:[::1]:0")
    assert client.request("OPTIONS", f"sip:[::1]:{server.tcp.local[1]};transport=tcp").status == 200


def test_address_that_is_taken_is_refused(stacks):
    with pytest.raises(TransportError, match="cannot listen on tcp:127.0.0.1:"):
        TCP().start(stacks().tcp.local, lambda data, flow: None)


@pytest.mark.rfc("5626 4.4.1")
def test_ping_is_answered_with_a_pong(stacks, connect):
    peer = connect(stacks())
    peer.send(b"\r\n\r\n")
    assert peer.sock.recv(10) == b"\r\n"


@pytest.mark.rfc("5626 4.4.1")
def test_each_of_several_pings_in_one_read_gets_its_pong(stacks, connect):
    peer = connect(stacks())
    peer.send(b"\r\n\r\n" * 7 + options())
    assert peer.message().status == 200
    assert peer.framer.pings * 2 + peer.framer.pongs == 7


@pytest.mark.rfc("5626 4.4.1")
def test_ping_that_crosses_our_own_gets_its_pong(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(options())
    peer.message()
    next(iter(stack.tcp.flows)).probe()
    assert peer.sock.recv(10) == b"\r\n\r\n"
    peer.send(b"\r\n\r\n" + b"\r\n")  # its ping, and the pong to ours
    assert peer.sock.recv(10) == b"\r\n"


@pytest.mark.rfc("5626 4.4.1")
def test_pongs_to_two_of_our_pings_are_no_ping(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(options())
    peer.message()
    flow = next(iter(stack.tcp.flows))
    for _ in range(2):
        flow.probe()
        assert peer.sock.recv(10) == b"\r\n\r\n"
        peer.send(b"\r\n")
        until(lambda: not flow._pinged)
    peer.send(options(2))
    assert peer.message().status == 200
    assert (flow._framer.pings, peer.framer.pongs) == (0, 0)


def test_flood_of_pings_is_answered_at_a_bounded_rate(stacks, connect):
    stack = stacks(
        idle=100, first=100, header=100, message=100, connect=100, handshake=100, pong=100
    )
    peer = connect(stack)
    peer.send(b"\r\n\r\n" * 100_000 + options())
    assert peer.message().status == 200
    assert (
        PONGS <= peer.framer.pings * 2 + peer.framer.pongs < 20 * PONGS
    )  # a sweep or more may come between
    assert stack.tcp.counts["too_many_pings"]


@pytest.mark.rfc("5626 4.4.1")
def test_connection_that_does_not_answer_pings_is_closed(stacks, connect, listener):
    client = stacks(ping=0.02, pong=0.05)
    asked = gevent.spawn(pytest.raises, TransportError, client.request, "OPTIONS", uri_of(listener))
    peer = connect(sock=listener.accept()[0])
    peer.message()
    assert peer.rest() == b"\r\n\r\n"
    asked.get(timeout=PATIENCE)
    assert client.tcp.counts == {"no_pong": 1}


@pytest.mark.rfc("5626 4.4.1")
def test_connection_that_answers_pings_stays(stacks):
    server, client = stacks(), stacks(ping=0.02, pong=0.5, idle=0.1)
    client.request("OPTIONS", server.uri)
    flow = next(iter(server.tcp.flows))
    until(lambda: flow._framer.pings >= 10)
    assert flow.state is OPEN
    assert not client.tcp.counts


# ---- malformed streams


@pytest.mark.parametrize("row", corpus.streams(), ids=lambda row: row.file)
def test_stream_of_the_corpus_gets_its_verdict_over_a_connection(stacks, connect, row):
    stack = stacks()
    peer = connect(stack)
    try:
        peer.send(row.data)
        peer.sock.shutdown(socket.SHUT_WR)
    except OSError:  # the stack has closed the malformed stream
        pass
    peer.rest()
    until(lambda: not stack.tcp.flows)
    framer = Framer()
    assert stack.engine.counters.received == len(framer.feed(row.data)) + framer.dead
    assert bool(stack.tcp.counts.get("malformed")) == framer.dead
    again = connect(stack)
    again.send(options())
    assert again.message().status == 200


def test_broken_request_is_answered_and_the_connection_closed(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(options().replace(b"Content-Length: 0", b"Content-Length: 1x"))
    assert peer.message().status == 400
    assert peer.rest() == b""
    assert stack.tcp.counts["malformed"] == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\r\n", b"\r \r\n", b"\r\0\r\n", b" \r\r\n"])
def test_stream_that_breaks_at_a_line_end_is_answered_400_and_logged(stacks, connect, caplog, end):
    stack = stacks()
    peer = connect(stack)
    peer.send(options().replace(b"Max-Forwards: 70\r\n", b"Max-Forwards: 70" + end))
    assert peer.message().status == 400
    assert peer.rest() == b""
    counters = stack.engine.counters
    assert (counters.received, counters.answered, counters.dropped) == (1, 1, {})
    assert "request refused: source=TCP:" in caplog.text


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"    ", b"\n\n", b"\r\r\n"])
def test_stream_of_blanks_is_a_bad_message_and_no_keepalive(stacks, connect, caplog, data):
    stack = stacks()
    peer = connect(stack)
    peer.send(data)
    assert peer.rest() == b""
    assert stack.engine.counters.dropped == {"bad_message": 1}
    assert "bad_message" in caplog.text


def test_message_over_the_limit_is_413_before_its_body_comes(stacks, connect):
    peer = connect(stacks())
    peer.send(options().replace(b"Content-Length: 0", b"Content-Length: 99999999"))
    assert peer.message().status == 413


def test_message_before_a_fault_is_answered_first(stacks, connect):
    peer = connect(stacks())
    peer.send(options(1) + options(2).replace(b"Content-Length: 0", b"Content-Length: -1"))
    assert [peer.message().status, peer.message().status] == [200, 400]


def test_http_is_closed_without_an_answer(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(b"\x16\x03\x01\x02\x00\x01")
    assert peer.rest() == b""


# ---- limits


@pytest.mark.parametrize(
    ("limits", "data", "reason"),
    [
        ({"first": 0.04}, b"", "silent"),
        ({"header": 0.04}, options()[:60], "slow_message"),
        ({"message": 0.04}, options().replace(b"Length: 0", b"Length: 9") + b"12", "slow_message"),
        ({"idle": 0.04}, b"\r\n", "idle"),
    ],
)
def test_slow_peer_is_closed(stacks, connect, limits, data, reason):
    stack = stacks(**limits)
    peer = connect(stack)
    peer.send(data)
    assert peer.rest() == b""
    assert stack.tcp.counts == {"accepted": 1, reason: 1}


def test_slow_loris_is_closed_though_it_never_pauses(stacks, connect):
    stack = stacks(header=0.1)
    peer = connect(stack)
    try:
        for byte in options()[:-2] * 1000:
            peer.send(bytes((byte,)))
            gevent.sleep(0.001)
    except OSError:
        pass
    assert stack.tcp.counts["slow_message"] == 1


@pytest.mark.parametrize("limit", ["connections", "connections_per_source"])
def test_connections_are_bounded(stacks, connect, limit):
    stack = stacks(**{limit: 3})
    good = [connect(stack) for _ in range(3)]
    for peer in good:
        peer.send(options())
        assert peer.message().status == 200
    assert connect(stack).rest() == b""
    good[0].sock.close()
    until(lambda: len(stack.tcp.flows) == 2)
    fresh = connect(stack)
    fresh.send(options())
    assert fresh.message().status == 200


def test_hundreds_of_idle_connections_delay_no_request(stacks, connect):
    stack = stacks()
    for _ in range(300):
        connect(stack)
    peer = connect(stack)
    peer.send(options())
    assert peer.message().status == 200
    assert stack.stats()["connections"] == 301
    assert stack.stats()["greenlets"] <= 2


def test_sweep_of_many_connections_is_split_into_parts(stacks, connect, monkeypatch):
    monkeypatch.setattr(sweep_module, "SWEPT", 4)
    stack = stacks(idle=0.05)
    for number in range(50):
        connect(stack).send(options(number))
    until(lambda: stack.tcp.counts.get("idle") == 50)
    assert not stack.tcp.flows


def test_peer_that_does_not_read_is_closed_and_others_are_served(stacks, connect):
    stack = stacks(queue_bytes=10_000)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.connect(stack.tcp.local)
    deaf, good = connect(sock=small), connect(stack)
    with pytest.raises(OSError, match=r"reset|pipe"):
        while True:
            deaf.send(b"".join(map(options, range(100))))
    assert stack.tcp.counts["queue_full"] == 1
    good.send(options())
    assert good.message().status == 200


def test_peer_that_reads_late_gets_everything_in_order(stacks, connect, listener):
    stack = stacks(queue_bytes=1 << 24, queue_messages=1 << 20)
    flow = stack.tcp.connect(listener.getsockname())
    size = 20_000
    for number in range(size):
        flow.send(options(number) + b"\r\n" * 10)
    peer = connect(sock=listener.accept()[0])
    assert [peer.message().cseq.number for _ in range(size)] == list(range(size))


EMFILE = """
import resource, sys, socket, gevent
from gevent import socket as cooperative
from sippet_gevent import Stack
sys.path.insert(0, {root!r})
from tests.transport.stream.test_tcp import options
stack = Stack("tcp:127.0.0.1:0")
stack.on("OPTIONS")(lambda request, tx: 200)
with stack:
    tcp = stack.engine.transports[0]
    peers = [cooperative.create_connection(tcp.local) for _ in range(20)]
    gevent.sleep(0.05)
    late = [socket.socket() for _ in range(20)]
    used = max(sock.fileno() for sock in late) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
    for sock in late:
        sock.connect(tcp.local)
    while not tcp.counts.get("no_descriptor"):
        gevent.sleep(0.01)
    for sock in peers:
        sock.close()
    data = b""
    late = [cooperative.socket(fileno=sock.detach()) for sock in late]
    for sock in late:
        sock.settimeout(5)
        sock.sendall(options())
        assert sock.recv(100).startswith(b"SIP/2.0 200"), "not answered"
    print("all answered")
"""


def test_accepting_goes_on_after_descriptors_ran_out():
    root = str(Path(__file__).parents[3])
    ran = subprocess.run(
        [sys.executable, "-c", EMFILE.format(root=root)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == "all answered\n", ran.stderr


def test_accepting_pauses_each_time_that_there_is_no_descriptor(stacks, connect):
    stack = stacks()
    waiting = plain_socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        began = time.monotonic()
        waiting.connect(stack.tcp.local)
        until(lambda: stack.tcp.counts.get("no_descriptor", 0) >= 3)
        assert time.monotonic() - began > 1.5 * tcp_module.PAUSE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.close()


def test_sweep_pauses_after_each_part(stacks, connect, monkeypatch):
    monkeypatch.setattr(sweep_module, "SWEPT", 1)
    monkeypatch.setattr(sweep_module, "BREATH", 0.05)
    looks = []

    monkeypatch.setattr(StreamFlow, "sweep", lambda flow, now: looks.append(now))
    stack = stacks(idle=0.04)
    peers = [connect(stack) for _ in range(4)]
    until(lambda: len(stack.tcp.flows) == len(peers) and len(looks) >= 12)
    pauses = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert (
        sum(pause > 0.03 for pause in pauses) >= 6
    )  # three in a round of four; the first one may be shorter


# ---- the end of a connection


def test_reset_in_the_middle_of_a_message_is_survived_and_counted(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(options()[:50])
    until(lambda: any(flow._framer.in_message for flow in stack.tcp.flows))
    peer.reset()
    until(lambda: not stack.tcp.flows)
    assert stack.tcp.counts == {"accepted": 1, "reset": 1}


def test_end_in_the_middle_of_a_message_is_counted(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(options()[:50])
    peer.sock.close()
    until(lambda: stack.tcp.counts.get("truncated"))
    until(lambda: not stack.tcp.flows)


def most_closed_in_a_turn(tcp):
    """Run the loop until no flow is left. Return the most flows that one turn has closed."""
    left = [len(tcp.flows)]
    watcher = tcp.loop.prepare()
    watcher.start(lambda: left.append(len(tcp.flows)))
    try:
        until(lambda: not tcp.flows)
        gevent.idle()
    finally:
        watcher.stop()
        watcher.close()
    return max(before - after for before, after in itertools.pairwise(left))


def end(peer):
    peer.sock.shutdown(socket.SHUT_WR)  # without a turn of the loop


@pytest.mark.parametrize(
    ("go", "counts"), [(end, {}), (Peer.reset, {"reset": 5 * ENDS})], ids=["end", "reset"]
)
def test_connections_that_end_together_are_closed_some_at_each_turn(stacks, connect, go, counts):
    stack = stacks()
    peers = [connect(stack) for _ in range(5 * ENDS)]
    until(lambda: len(stack.tcp.flows) == 5 * ENDS)
    for peer in peers:
        go(peer)
    assert most_closed_in_a_turn(stack.tcp) == ENDS
    assert stack.tcp.counts == {"accepted": 5 * ENDS, **counts}


def test_connections_that_are_late_together_are_closed_some_at_each_turn(stacks, connect):
    stack = stacks(idle=1.0)
    for _ in range(5 * ENDS):
        connect(stack)
    until(lambda: len(stack.tcp.flows) == 5 * ENDS)
    time.sleep(1.0)
    assert most_closed_in_a_turn(stack.tcp) == ENDS
    assert stack.tcp.counts == {"accepted": 5 * ENDS, "idle": 5 * ENDS}


def test_peers_are_served_before_all_ended_connections_are_closed(stacks, connect):
    stack = stacks()
    asking, *peers = [connect(stack) for _ in range(1 + 20 * ENDS)]
    until(lambda: len(stack.tcp.flows) == 1 + 20 * ENDS)
    for peer in peers:
        end(peer)
    asking.send(options())
    assert asking.message().status == 200
    assert len(stack.tcp.flows) > 10 * ENDS


def test_ended_connection_is_lost_while_it_waits_to_be_closed(stacks, connect):
    stack = stacks()
    peers = [connect(stack) for _ in range(20 * ENDS)]
    until(lambda: len(stack.tcp.flows) == 20 * ENDS)
    for peer in peers:
        end(peer)
    until(lambda: stack.tcp.endings)
    lost = [flow for flow in stack.tcp.flows if flow.is_lost]
    assert len(lost) == len(stack.tcp.endings)
    assert not any(flow.is_alive() for flow in lost)
    stack.stop()  # while they wait
    assert not stack.tcp.flows
    assert not stack.tcp.endings


def test_peer_that_has_closed_its_half_still_gets_its_answer(stacks, connect):
    stack = stacks()
    go = Event()
    stack.on("MESSAGE")(lambda request, tx: go.wait(PATIENCE) and 200)
    peer = connect(stack)
    peer.send(options().replace(b"OPTIONS", b"MESSAGE"))
    peer.sock.shutdown(socket.SHUT_WR)
    until(lambda: stack.tcp.counts.get("half_closed"))
    go.set()
    assert peer.message().status == 200
    assert peer.rest() == b""


@pytest.mark.rfc("3261 18.2.2")
def test_answer_is_sent_although_the_peer_ends_with_half_a_message(stacks, connect):
    stack = stacks()
    going = Event()
    stack.on("MESSAGE")(lambda request, tx: going.wait(PATIENCE) and 200)
    peer = connect(stack)
    peer.send(options().replace(b"OPTIONS", b"MESSAGE") + options(2)[:20])
    peer.sock.shutdown(socket.SHUT_WR)
    until(lambda: stack.tcp.counts.get("half_closed"))
    (flow,) = stack.tcp.flows
    flow.sweep(time.monotonic() + 60)
    going.set()
    assert peer.message().status == 200


def test_response_without_its_connection_goes_by_a_new_one_to_the_sent_by(
    stacks, connect, listener
):
    stack = stacks()
    go = Event()
    stack.on("MESSAGE")(lambda request, tx: go.wait(PATIENCE) and 200)
    peer = connect(stack)
    via = f"127.0.0.1:{listener.getsockname()[1]}"
    peer.send(options(via=via).replace(b"OPTIONS", b"MESSAGE"))
    until(lambda: stack.engine.servers)
    peer.reset()
    until(lambda: not stack.tcp.flows)
    go.set()
    assert connect(sock=listener.accept()[0]).message().status == 200


@pytest.mark.rfc("3261 18.4")
def test_connection_that_dies_ends_its_transactions_at_once(stacks, connect, listener):
    client = stacks()
    asked = gevent.spawn(pytest.raises, TransportError, client.request, "OPTIONS", uri_of(listener))
    peer = connect(sock=listener.accept()[0])
    peer.message()
    peer.reset()
    assert "has ended" in str(asked.get(timeout=PATIENCE).value)
    assert not client.engine.clients


def test_transactions_may_outlive_their_connection(stacks, connect, listener):
    client = stacks(limits=Limits(flow_ends_transactions=False))
    asked = gevent.spawn(client.request, "OPTIONS", uri_of(listener))
    peer = connect(sock=listener.accept()[0])
    request = peer.message()
    peer.reset()
    until(lambda: not client.tcp.flows)
    other = connect(client)  # the response finds its transaction by its branch (§17.1.3)
    other.send(bytes(request.response(200)))
    assert asked.get(timeout=PATIENCE).status == 200


def test_refused_connection_is_a_transport_error_at_once(stacks, listener):
    uri = uri_of(listener)
    listener.close()
    client = stacks()
    with pytest.raises(TransportError, match="refused"):
        client.request("OPTIONS", uri)
    assert client.tcp.counts == {"connect_failed": 1}


def test_connection_that_never_opens_is_given_up(stacks):
    full = plain_socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(4):  # fill the backlog, so that the kernel answers no SYN
        filler = plain_socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    client = stacks(connect=0.1)
    with pytest.raises(TransportError, match="connect timeout"):
        client.request("OPTIONS", uri_of(full))
    assert client.tcp.counts == {"connect_timeout": 1}
    for sock in (full, *fillers):
        sock.close()


def test_dead_pooled_connection_is_replaced_before_it_is_used(stacks, connect, listener):
    client = stacks()

    def ask():
        asked = gevent.spawn(client.request, "OPTIONS", uri_of(listener))
        peer = connect(sock=listener.accept()[0])
        peer.send(bytes(peer.message().response(200)))
        assert asked.get(timeout=PATIENCE).status == 200
        return peer

    plain = ask().sock._sock  # closed, and the loop does not see it
    plain.shutdown(socket.SHUT_RDWR)
    plain.close()
    ask()
    assert client.tcp.counts == {"stale": 1}


@pytest.mark.rfc("5923 9.1")
def test_connection_of_a_peer_is_not_used_for_the_address_it_claims(stacks, connect, listener):
    stack = stacks()
    thief = connect(stack)
    port = listener.getsockname()[1]
    thief.send(options(via=f"127.0.0.1:{port};alias"))
    assert thief.message().status == 200
    gevent.spawn(stack.send, Request("OPTIONS", uri_of(listener)))
    assert connect(sock=listener.accept()[0]).message().method == "OPTIONS"


def test_flow_of_a_peer_carries_requests_to_it(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(b"\r\n")
    until(lambda: stack.tcp.flows)
    next(iter(stack.tcp.flows)).send(options(7))
    assert peer.message().cseq.number == 7


def test_stop_closes_every_connection(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(options())
    assert peer.message().status == 200
    stack.stop()
    assert peer.rest() == b""
    assert not stack.tcp.flows


def test_sending_on_a_closed_flow_is_a_transport_error(stacks, connect):
    stack = stacks()
    flow = stack.tcp.connect(stack.tcp.local)
    stack.stop()
    with pytest.raises(TransportError, match="is closed"):
        flow.send(options())
    with pytest.raises(TransportError, match="not open"):
        stack.tcp.connect(("127.0.0.1", 9))


def test_messages_wait_for_the_connection_in_bounded_number(stacks, listener):
    stack = stacks(queue_messages=3)
    flow = stack.tcp.connect(listener.getsockname())
    for number in range(3):
        flow.send(options(number))
    with pytest.raises(TransportError, match="in 3 messages wait"):
        flow.send(options(4))
    assert flow.state is CLOSED


# ---- a pooled connection that is dead when it is used


@pytest.fixture
def pooled(stacks, connect, listener):
    """A client with a connection to the listener, its peer, and a function that sends a request by it."""
    client = stacks()

    def ask(method="MESSAGE"):
        asked = gevent.spawn(client.send(Request(method, uri_of(listener))).final, timeout=PATIENCE)
        gevent.sleep(0)
        return asked

    first = ask()
    peer = connect(sock=listener.accept()[0])
    peer.send(bytes(peer.message().response(200)))
    assert first.get().status == 200
    return client, peer, ask


@pytest.mark.rfc("5923 8.1", "3261 17.2.3")
@pytest.mark.parametrize("end", ["reset", "orderly", "unread"])
@pytest.mark.parametrize("method", ["MESSAGE", "INVITE"])
def test_request_on_a_dead_pooled_connection_goes_by_a_new_one(
    pooled, connect, listener, end, method
):
    client, peer, ask = pooled
    asked = ask(method)
    first = None if end == "unread" else peer.message()
    peer.sock.close() if end == "orderly" else peer.reset()
    fresh = connect(sock=listener.accept()[0])
    again = fresh.message()
    fresh.send(bytes(again.response(486)))
    assert asked.get().status == 486
    if first is not None:
        assert (
            first.via == again.via
        )  # for a server that has read the first one, this is a retransmission
        assert (first.call_id, first.cseq, first.from_) == (again.call_id, again.cseq, again.from_)
    assert len(client.sender.grey) == 0


def test_queued_request_is_sent_again_by_a_new_connection(stacks, connect, listener):
    client = stacks(queue_bytes=1 << 26, queue_messages=1 << 20)
    flow = client.tcp.connect(listener.getsockname())
    peer = connect(sock=listener.accept()[0])
    until(lambda: flow.is_open)
    while not flow._queue:
        flow.send(options() * 100)
    asked = gevent.spawn(client.send(Request("MESSAGE", uri_of(listener))).final, timeout=PATIENCE)
    gevent.sleep(0)
    peer.reset()
    fresh = connect(sock=listener.accept()[0])
    fresh.send(bytes(fresh.message().response(200)))
    assert asked.get().status == 200


def test_request_is_never_sent_by_a_second_new_connection(pooled, connect, listener):
    client, peer, ask = pooled
    asked = ask()
    peer.reset()
    fresh = connect(sock=listener.accept()[0])
    fresh.message()
    fresh.reset()
    with pytest.raises(TransportError):
        asked.get()
    assert len(client.sender.grey) == 1
    listener.settimeout(0.05)
    with pytest.raises(socket.timeout):
        listener.accept()


@pytest.mark.parametrize("answer", [b"100", b"180", b"\r\n"])
def test_request_is_not_sent_again_after_bytes_of_the_peer(pooled, listener, answer):
    client, peer, ask = pooled
    asked = ask()
    request = peer.message()
    flow = next(iter(client.tcp.flows))
    received = flow.bytes_received
    peer.send(bytes(request.response(int(answer))) if answer.isdigit() else answer)
    until(lambda: flow.bytes_received != received)
    peer.reset()
    with pytest.raises(TransportError):
        asked.get()
    listener.settimeout(0.05)
    with pytest.raises(socket.timeout):
        listener.accept()


@pytest.mark.rfc("3261 17.2.3", "3261 18.2.2")
@pytest.mark.parametrize("method", ["MESSAGE", "INVITE"])
def test_request_repeated_by_a_new_connection_is_answered_there_once(stacks, connect, method):
    server, seen, answer = stacks(), [], Event()
    server.on("MESSAGE", "INVITE")(
        lambda request, tx: seen.append(request) or (answer.wait() and 486)
    )
    request = options().replace(b"OPTIONS", method.encode())
    first = connect(server)
    first.send(request)
    until(lambda: seen)
    first.reset()
    until(lambda: not server.tcp.flows)
    second = connect(server)
    second.send(request)
    until(lambda: server.stats()["absorbed"])
    answer.set()
    response = second.message()
    while response.status == 100:
        response = second.message()
    assert (response.status, len(seen)) == (486, 1)


def test_request_repeated_from_another_host_does_not_take_the_answer(stacks, connect, listener):
    server, seen, answer = stacks(), [], Event()
    server.on("MESSAGE")(lambda request, tx: seen.append(request) or (answer.wait() and 486))
    request = options(via=f"127.0.0.1:{listener.getsockname()[1]}").replace(b"OPTIONS", b"MESSAGE")
    first = connect(server)
    first.send(request)
    until(lambda: seen)
    first.reset()
    until(lambda: not server.tcp.flows)
    stranger = connect(
        sock=socket.create_connection(server.tcp.local, source_address=("127.0.0.9", 0))
    )
    stranger.send(request)
    until(lambda: server.stats()["absorbed"])
    answer.set()
    assert connect(sock=listener.accept()[0]).message().status == 486
    stranger.sock.settimeout(0.05)
    with pytest.raises(socket.timeout):
        stranger.message()


# ---- requests that wait for a slow connection


@pytest.fixture
def slow():
    """A listener that accepts no connection before let_in() is called, and let_in()."""
    full = plain_socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(4):
        filler = plain_socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    slow = socket.socket(fileno=full.detach())

    def let_in():
        for filler in fillers:
            filler.close()
        while True:  # the closed fillers come first
            peer = slow.accept()[0]
            if peer.getpeername() not in gone:
                return peer
            peer.close()

    gone = {filler.getsockname() for filler in fillers}
    yield slow, let_in
    for sock in (slow, *fillers):
        sock.close()


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE"])
def test_request_given_up_before_its_connection_opens_is_not_sent(stacks, slow, connect, method):
    listener, let_in = slow
    client = stacks()
    given_up = client.send(Request(method, uri_of(listener), subject="given up"))
    with pytest.raises(TransactionTimeout):
        given_up.final(timeout=0.05)
    tx = client.send(Request("MESSAGE", uri_of(listener), subject="wanted"))
    peer = connect(sock=let_in())
    wanted = peer.message()
    assert wanted.subject == "wanted"
    peer.send(bytes(wanted.response(200)))
    assert tx.final(timeout=PATIENCE).status == 200
    assert not client.engine.clients


@pytest.mark.rfc("3261 9.1", "3261 8.1.3.1")
def test_invite_cancelled_before_its_connection_opens_is_487_and_not_sent(stacks, slow, connect):
    listener, let_in = slow
    client = stacks()
    invite = client.send(Request("INVITE", uri_of(listener)))
    tx = client.send(Request("MESSAGE", uri_of(listener)))
    invite.cancel()
    assert invite.final(timeout=PATIENCE).status == 487
    peer = connect(sock=let_in())
    message = peer.message()
    assert message.method == "MESSAGE"
    peer.send(bytes(message.response(200)))
    assert tx.final(timeout=PATIENCE).status == 200
    assert not client.engine.clients


@pytest.mark.rfc("3261 16.10")
def test_branch_of_a_cancelled_invite_is_not_sent_after_connecting(stacks, slow, connect):
    listener, let_in = slow
    proxy, caller = stacks(), stacks()
    proxy.on("INVITE")(lambda request, tx: forward(request, tx, uri_of(listener)))
    invite = caller.send(Request("INVITE", proxy.uri))
    until(lambda: proxy.engine.clients)
    until(lambda: invite.provisional)
    invite.cancel()
    assert invite.final(timeout=2).status == 487
    tx = proxy.send(Request("MESSAGE", uri_of(listener)))
    peer = connect(sock=let_in())
    message = peer.message()
    assert message.method == "MESSAGE"
    peer.send(bytes(message.response(200)))
    assert tx.final(timeout=PATIENCE).status == 200


def test_request_given_up_is_sent_whole_only_if_partly_written(stacks, connect, listener):
    client = stacks(queue_bytes=1 << 26, queue_messages=1 << 20)
    flow = client.tcp.connect(listener.getsockname())
    peer = connect(sock=listener.accept()[0])
    until(lambda: flow.is_open)

    def send(subject):
        return client.send(
            Request(
                "MESSAGE",
                uri_of(listener),
                subject=subject,
                body=b"x" * 50_000,
                content_type="text/plain",
            )
        )

    while not flow._queue:
        last = send("last")
    expected = ["last"] * len(client.engine.clients) + ["wanted"]
    if len(flow._queue[0]) == len(last.transaction.last):  # the kernel has taken no byte of it
        expected.remove("last")
    waiting = send("given up")
    wanted = send("wanted")
    last._abandon()
    waiting._abandon()
    received = [peer.message() for _ in expected]
    assert [message.subject for message in received] == expected
    for message in received:
        peer.send(bytes(message.response(200)))
    assert wanted.final(timeout=PATIENCE).status == 200


@pytest.mark.rfc("3261 9.1")
def test_cancel_goes_by_a_new_connection_after_that_of_its_invite(stacks, connect, listener):
    client = stacks()
    tx = client.send(Request("INVITE", uri_of(listener)))
    peer = connect(sock=listener.accept()[0])
    invite = peer.message()
    peer.send(bytes(invite.response(180)))
    until(lambda: tx.provisional)
    peer.reset()
    until(lambda: not client.tcp.flows)
    tx.cancel()
    fresh = connect(sock=listener.accept()[0])
    cancel = fresh.message()
    assert (cancel.method, cancel.via) == ("CANCEL", invite.via)
    fresh.send(bytes(cancel.response(200)) + bytes(invite.response(487)))
    assert tx.final(timeout=PATIENCE).status == 487


def test_request_is_not_sent_again_after_we_closed_the_connection(stacks, connect, listener):
    client = stacks(queue_messages=3)
    flow = client.tcp.connect(listener.getsockname())
    peer = connect(sock=listener.accept()[0])
    until(lambda: flow.is_open)
    while flow.is_open:
        tx = client.send(
            Request("MESSAGE", uri_of(listener), body=b"x" * 60_000, content_type="text/plain")
        )
    with pytest.raises(TransportError, match="wait for the peer"):
        tx.final(timeout=PATIENCE)
    assert not client.tcp.flows
    peer.sock.close()


# ---- turns


BROKEN = b"OPTIONS x\r\nVia: ?\r\nContent-Length: 0\r\n\r\n"


def test_connection_that_floods_has_a_few_messages_served_in_a_turn(stacks, connect):
    stack = stacks()
    flooder, other = connect(stack), connect(stack)
    for peer in (flooder, other):
        peer.send(options())
        assert peer.message().status == 200
    with served_in_turns(stack.tcp) as served:
        flooder.send(b"".join(options(number) for number in range(2, 302)))
        other.send(options())  # the loop has had no turn yet
        assert other.message().status == 200
        assert len(served) <= 4 * MESSAGES
        assert [flooder.message().cseq.number for _ in range(300)] == [*range(2, 302)]
    assert most_in_a_turn(served) == MESSAGES
    assert len(served) == 301


def test_connection_that_floods_with_garbage_has_a_few_messages_served_in_a_turn(stacks, connect):
    stack = stacks()
    flooder, other = connect(stack), connect(stack)
    other.send(options())
    assert other.message().status == 200
    with served_in_turns(stack.tcp) as served:
        flooder.send(BROKEN * 1000 + options(2))
        other.send(options(3))
        assert other.message().status == 200
        assert len(served) <= 4 * MESSAGES
        while flooder.message().status == 400:  # and few of them are answered
            pass
    assert most_in_a_turn(served) == MESSAGES
    assert len(served) == 1002


@pytest.mark.rfc("3261 18.3")
def test_error_behind_many_messages_is_answered_after_them_and_closes(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(b"".join(options(number) for number in range(1, 31)) + b"no start line\r\n\r\n" * 2)
    assert [peer.message().status for _ in range(30)] == [200] * 30
    peer.rest()  # the end
    until(lambda: not stack.tcp.flows)
    assert stack.tcp.counts["malformed"] == 1


@pytest.mark.rfc("5626 4.4.1")
def test_pings_and_the_end_behind_many_messages_are_seen(stacks, connect):
    stack = stacks()
    peer = connect(stack)
    peer.send(b"".join(options(number) for number in range(1, 31)) + b"\r\n\r\n" * 3)
    assert [peer.message().status for _ in range(30)] == [200] * 30
    peer.sock.shutdown(socket.SHUT_WR)
    peer.rest()
    until(lambda: not stack.tcp.flows)


def test_connection_that_is_closed_with_messages_left_has_none_of_them_served(stacks, connect):
    stack = stacks()
    served = []

    def core(request, tx):
        served.append(request)
        if len(served) == 3:
            request.flow.close()
        return 200

    stack.on("MESSAGE")(core)
    peer = connect(stack)
    peer.send(b"".join(options(n).replace(b"OPTIONS", b"MESSAGE") for n in range(1, 41)))
    peer.rest()
    until(lambda: not stack.tcp.flows)
    assert len(served) == 3 and not stack.tcp.backlogs._waiting


def test_many_connections_with_messages_left_take_turns(stacks, connect):
    stack = stacks()
    peers = [connect(stack) for _ in range(5)]
    with served_in_turns(stack.tcp) as served:
        for peer in peers:
            peer.send(b"".join(options(number) for number in range(1, 41)))
        for peer in peers:
            assert [peer.message().cseq.number for _ in range(40)] == [*range(1, 41)]
    assert most_in_a_turn(served) <= MESSAGES
    left = [flow for _, flow in served[5 * MESSAGES :]]
    assert len(set(left[: 5 * MESSAGES])) == 5


@pytest.mark.parametrize("number", [1, 40])
def test_requests_of_connections_that_wait_long_are_an_overload(stacks, connect, number):
    """By few connections the kernel has many bytes, by many of them each turn of the loop is long."""
    stack = stacks()

    def core(request, tx):
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            pass
        return 200

    stack.on("MESSAGE")(core)
    each = 2000 // number // 20
    many = b"".join(options(n).replace(b"OPTIONS", b"MESSAGE") for n in range(1, each + 1))
    peers = [connect(stack) for _ in range(number)]
    overload = stack.engine.overload
    deadline = time.monotonic() + 10
    while not overload.periods and time.monotonic() < deadline:
        for peer in peers:
            peer.send(many)
        gevent.sleep(0.5)
    assert overload.periods
    for peer in peers:
        peer.sock.close()
    until(lambda: not stack.tcp.flows)
    assert not stack.tcp.waits.marks


def test_messages_that_wait_take_no_more_memory_than_their_bytes(stacks, connect):
    stack = stacks()
    receive, kept = stack.tcp.receive, []

    def receiving(data, flow):
        kept.append([*flow._backlog])
        receive(data, flow)

    stack.tcp.receive = receiving
    peer = connect(stack)
    peer.send(b"".join(options(number) for number in range(1, 31)))
    assert [peer.message().status for _ in range(30)] == [200] * 30
    assert len(kept[0]) == 30 - MESSAGES
    assert not gc.get_referents(*kept[0]) and not any(map(gc.is_tracked, kept[0]))


def test_rest_of_a_message_behind_many_others_has_its_time_after_them(stacks, connect):
    stack = stacks()

    def core(request, tx):
        request.flow._heard -= 10.0  # their turns take so long
        return 200

    stack.on("MESSAGE")(core)
    peer, last = connect(stack), options(21)
    many = [options(number).replace(b"OPTIONS", b"MESSAGE") for number in range(1, 21)]
    peer.send(b"".join(many) + last[:40])
    assert [peer.message().cseq.number for _ in range(20)] == [*range(1, 21)]
    gevent.sleep(0.6)  # until the deadlines have been looked at
    peer.send(last[40:])
    assert peer.message().cseq.number == 21


def test_closed_connection_keeps_no_bytes_of_its_peer(stacks, connect):
    stack = stacks()
    flows = []
    stack.on("MESSAGE")(lambda request, tx: flows.append(request.flow) or 200)
    peer, whole = connect(stack), options(1).replace(b"OPTIONS", b"MESSAGE")
    peer.send(whole + whole.replace(b"Length: 0", b"Length: 60000") + b"x" * 50_000)
    until(lambda: flows and flows[0]._framer.pending > 50_000)
    peer.sock.close()
    until(lambda: flows[0].state is CLOSED)
    assert not flows[0]._framer.pending


def test_connection_that_is_closed_with_messages_left_keeps_none_of_them(stacks, connect):
    stack = stacks()
    flows = []

    def core(request, tx):
        flows.append(request.flow)
        request.flow.close()

    stack.on("MESSAGE")(core)
    peer = connect(stack)
    peer.send(b"".join(options(number).replace(b"OPTIONS", b"MESSAGE") for number in range(1, 31)))
    until(lambda: flows and flows[0].state is CLOSED)
    assert not flows[0]._backlog
    assert len(flows) == 1
