"""Datagrams that the network refuses: by real ICMP of closed ports on loopback, and by forged messages of all kinds."""

from __future__ import annotations

import os
import subprocess
import sys

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from sippet_gevent import Request, TransactionTimeout, TransportError
from sippet_gevent.message.parser import parse
from sippet_gevent.message.uri import bracketed
from sippet_gevent.transport.datagram import stun
from sippet_gevent.transport.datagram import udp as udp_module
from sippet_gevent.transport.datagram.error_queue import AT_ONCE
from sippet_gevent.transport.datagram.send_queue import SENDS
from sippet_gevent.transport.datagram.udp import UDP, PinnedFlow
from tests.conditions import PATIENCE, until
from tests.ports import free_port

from .test_icmp import LOCAL, V4, extended_error

PORT_UNREACHABLE = (V4, 3, 3)


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@pytest.fixture(params=["127.0.0.1", "::1", "0.0.0.0", "::"])
def udp(request):
    """A started transport, and the loopback address of its IP version."""
    transport = UDP()
    transport.start((request.param, 0), lambda data, flow: None)
    transport.loopback = "::1" if ":" in request.param else "127.0.0.1"
    yield transport
    transport.stop()


@pytest.fixture
def peer(udp):
    """A peer that exists."""
    with socket.socket(family_of(udp.loopback), socket.SOCK_DGRAM) as sock:
        sock.bind((udp.loopback, 0))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.fixture
def silent():
    """A peer that exists and answers only when the test says so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        yield sock


def closed(host="127.0.0.1"):
    """Return an address with a closed port."""
    return host, free_port(host)


def forge(transport, *entries):
    """Put entries into the error queue of a transport, as if the kernel had them: (ancillary, quote, address)."""
    left = list(entries)

    def recvmsg(size, ancillary_size, flags):
        if not left:
            raise BlockingIOError(11, "there are no more")
        ancillary, quote, address = left.pop(0)
        return quote[:size], [ancillary], flags, address

    transport.errors._recvmsg = recvmsg
    transport.errors.take()


# ---- which transaction fails


@pytest.mark.rfc("3261 18.4", "3261 17.1.4", "3261 8.1.3.1")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0.0.0.0", "[::]"])
def test_request_to_a_closed_port_fails_at_once(listen, host, method):
    stack = listen(f"udp:{host}:0")
    where, port = closed("::1" if ":" in host else "127.0.0.1")
    tx = stack.send(Request(method, f"sip:{bracketed(where)}:{port}"))
    with (
        gevent.Timeout(PATIENCE),
        pytest.raises(TransportError, match="Connection refused") as failure,
    ):
        tx.final()
    assert failure.value.flow.remote == (where, port) and where in str(failure.value)
    assert stack.stats()["icmp"] == {"matched": 1} and stack.stats()["send_errors"] == 0


def test_request_by_another_address_than_the_usual_fails_at_once_too(listen):
    stack = listen("udp:0.0.0.0:0")
    flow = PinnedFlow(stack.engine.transports[0], closed(), "127.0.0.2")
    with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
        stack.request("OPTIONS", "sip:x.example", next_hop=flow)


def test_request_that_has_waited_for_the_kernel_fails_when_it_is_refused(listen):
    stack = listen("udp:127.0.0.1:0")
    transport = stack.engine.transports[0]
    real, full = transport.queue.sendto, [BlockingIOError(11, "full")]

    def sendto(data, address):
        if full:
            raise full.pop()
        return real(data, address)

    transport.queue.sendto = sendto
    host, port = closed()
    with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
        stack.request("OPTIONS", f"sip:{host}:{port}")
    assert transport.queue.waited == 1 and transport.queue.lost == 0


@pytest.fixture
def waiting(listen, silent):
    """Send a request of this method to a silent peer: return the transport, the transaction and the bytes."""

    def send(method):
        stack = listen("udp:127.0.0.1:0")
        host, port = silent.getsockname()
        tx = stack.send(Request(method, f"sip:{host}:{port}"))
        return stack.engine.transports[0], tx, silent.recv(65535)

    return send


@pytest.mark.rfc("3261 18.4")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_icmp_message_that_quotes_a_request_ends_it(waiting, silent, method):
    transport, tx, data = waiting(method)
    forge(transport, (extended_error(*PORT_UNREACHABLE), data[:300], silent.getsockname()))
    with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
        tx.final()
    assert transport.icmp == {"matched": 1}


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize(
    ("error", "method", "status", "ends"),
    [
        (PORT_UNREACHABLE, "INVITE", 0, True),
        ((V4, 3, 2), "OPTIONS", 0, True),
        ((V4, 3, 1), "OPTIONS", 0, False),  # host unreachable: a router has lost its way
        ((V4, 3, 13), "OPTIONS", 0, False),
        (PORT_UNREACHABLE, "INVITE", 180, False),  # it has answered since
    ],
)
def test_flow_ends_by_a_hard_error_for_a_waiting_request_only(
    waiting, silent, error, method, status, ends
):
    transport, tx, data = waiting(method)
    ended = []
    transport.events.flow_watch = ended.append
    if status:
        silent.sendto(bytes(parse(data).response(status, to="<sip:x@x>;tag=1")), transport.local)
        assert next(iter(tx)).status == status
    entry = (extended_error(*error), data, silent.getsockname())
    forge(transport, entry, (entry[0], branch_changed(data), entry[2]))
    gevent.sleep(0)
    assert ended == ([tx.transaction.flow] if ends else [])
    if status:
        tx.cancel()


def branch_changed(data):
    head, name, tail = data.partition(b";branch=z9hG4bK")
    return head + name + bytes((tail[0] ^ 1,)) + tail[1:]


@pytest.mark.rfc("3261 18.4")
@pytest.mark.parametrize(
    ("fate", "error", "change"),
    [
        ("unmatched", PORT_UNREACHABLE, branch_changed),
        ("unmatched", PORT_UNREACHABLE, lambda data: data.replace(b"OPTIONS", b"CANCEL")),
        ("unmatched", PORT_UNREACHABLE, lambda data: data.replace(b"OPTIONS", b"ACK")),
        ("unmatched", PORT_UNREACHABLE, lambda data: bytes(parse(data).response(200))),
        (
            "unmatched",
            PORT_UNREACHABLE,
            lambda data: data.replace(
                b"Via: SIP/2.0/UDP 127.0.0.1:", b"Via: SIP/2.0/UDP 127.0.0.2:"
            ),
        ),
        (
            "unmatched",
            PORT_UNREACHABLE,
            lambda data: data.replace(b"Via: ", b"Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx, "),
        ),
        ("unmatched", PORT_UNREACHABLE, lambda data: data.replace(b"Via: ", b"Via: \xff\xfe ")),
        ("unmatched", PORT_UNREACHABLE, lambda data: data.replace(b"Via: ", b'Via: "')),
        ("unmatched", PORT_UNREACHABLE, lambda data: stun.ask(bytes(12))),
        ("truncated", PORT_UNREACHABLE, lambda data: b""),
        ("truncated", PORT_UNREACHABLE, lambda data: data[:8]),
        ("truncated", PORT_UNREACHABLE, lambda data: data[: data.index(b"branch=") + 12]),
        (
            "truncated",
            PORT_UNREACHABLE,
            lambda data: data[: data.index(b"\r\n", data.index(b"Via: ")) + 1],
        ),
        ("truncated", PORT_UNREACHABLE, lambda data: bytes(100)),
        ("too_big", (V4, 3, 4), lambda data: data),
        ("ignored", (V4, 11, 0), lambda data: data),
        ("ignored", (V4, 4, 0), lambda data: data),
        (None, (LOCAL, 3, 3), lambda data: data),
    ],
)
def test_icmp_message_that_proves_nothing_changes_nothing(waiting, silent, fate, error, change):
    transport, tx, data = waiting("OPTIONS")
    forge(transport, (extended_error(*error), change(data), silent.getsockname()))
    with pytest.raises(TransactionTimeout):
        tx.final(timeout=0.01)
    assert transport.icmp == ({fate: 1} if fate else {})


def test_icmp_message_about_another_destination_changes_nothing(waiting, silent):
    transport, tx, data = waiting("OPTIONS")
    forge(transport, (extended_error(*PORT_UNREACHABLE), data, ("127.0.0.1", 9)))
    with pytest.raises(TransactionTimeout):
        tx.final(timeout=0.01)
    assert transport.icmp == {"unmatched": 1}


@pytest.mark.parametrize(
    ("method", "status", "fate"),
    [
        pytest.param(
            "INVITE", 180, "unmatched", marks=pytest.mark.rfc("6026 8.4")
        ),  # it is not sent any more
        pytest.param(
            "INVITE", 486, "unmatched", marks=pytest.mark.rfc("3261 17.1.1.2")
        ),  # its ACK was what failed, or nothing
        pytest.param("INVITE", 200, "unmatched", marks=pytest.mark.rfc("6026 8.4")),
        pytest.param("OPTIONS", 200, "unmatched", marks=pytest.mark.rfc("3261 17.1.2.2")),
        pytest.param(
            "OPTIONS", 100, "matched", marks=pytest.mark.rfc("3261 17.1.2.2")
        ),  # figure 6: it is sent on
    ],
)
def test_icmp_error_after_a_response_acts_as_the_tables_say(waiting, silent, method, status, fate):
    transport, tx, data = waiting(method)
    response = parse(data).response(status, contact=f"<sip:x@127.0.0.1:{silent.getsockname()[1]}>")
    response.to = response.to.with_params(tag="x")
    silent.sendto(bytes(response), transport.local)
    assert next(iter(tx)).status == status
    state = tx.transaction.state
    forge(transport, (extended_error(*PORT_UNREACHABLE), data, silent.getsockname()))
    if fate == "matched":
        with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
            tx.final()
    assert transport.icmp == {fate: 1}
    gevent.sleep(0)
    assert fate == "matched" or tx.transaction.state == state


@pytest.mark.rfc("3261 17.1.2.2")
def test_peer_that_ends_after_a_100_fails_the_request_at_the_next_copy(listen, waiting, silent):
    transport, tx, data = waiting("OPTIONS")
    silent.sendto(bytes(parse(data).response(100)), transport.local)
    assert next(iter(tx)).status == 100
    silent.close()
    transport.connect(tx.transaction.flow.remote).send(tx.transaction.last)
    with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
        tx.final()


def test_response_and_ack_that_are_refused_are_only_counted(listen):
    stack = listen("udp:127.0.0.1:0")
    transport = stack.engine.transports[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        host, port = sock.getsockname()
        request = Request(
            "OPTIONS", "sip:x.example", via=f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK1;rport", call_id="1", cseq="1 OPTIONS",
            from_="<sip:a@b.example>;tag=1", to="<sip:b@b.example>", max_forwards=70,
        )  # fmt: skip
        sock.sendto(bytes(request), transport.local)
    until(lambda: transport.icmp)
    assert transport.icmp == {"unmatched": 1}
    assert (
        stack.stats()["answered"] + stack.stats()["delivered"] == 1
        and stack.stats()["send_errors"] == 0
    )


@pytest.mark.rfc("5389 7.2.1", "5626 4.4.2")
def test_keep_alive_that_is_refused_is_unanswered_at_once(udp):
    flow = udp.connect(closed(udp.loopback))
    flow.probe()
    until(lambda: udp.stun)
    assert (
        udp.stun == {"keepalive_unanswered": 1}
        and udp.icmp == {"matched": 1}
        and not udp.stun_agent.pending
    )
    flow.probe()  # and it is not counted twice
    until(lambda: udp.stun["keepalive_unanswered"] == 2)


@pytest.mark.rfc("5389 7.2.1")
def test_keep_alive_that_a_router_cannot_deliver_waits_for_its_answer(udp, peer):
    host, port = peer.getsockname()[:2]
    flow = udp.connect((host, port))
    flow.probe()
    entry = (extended_error(V4, 3, 1), stun.ask(flow.asked), flow.address)
    forge(udp, entry)
    assert udp.icmp == {"ignored": 1} and not udp.stun and [*udp.stun_agent.pending] == [flow.asked]


def test_icmp_error_for_a_transaction_that_just_ended_is_ignored(waiting, silent):
    transport, tx, data = waiting("INVITE")
    entry = (extended_error(*PORT_UNREACHABLE), data, silent.getsockname())
    forge(transport, entry, entry)
    with gevent.Timeout(PATIENCE), pytest.raises(TransportError):
        tx.final()
    assert transport.icmp == {"matched": 2}


@pytest.mark.parametrize("change", [{"port": 9}, {"identity": bytes(12)}])
def test_refused_keep_alive_that_was_none_of_ours_changes_nothing(udp, peer, change):
    host, port = peer.getsockname()[:2]
    udp.connect((host, port)).probe()
    (identity,) = udp.stun_agent.pending
    quote = stun.ask(change.get("identity", identity))
    forge(
        udp,
        (
            extended_error(*PORT_UNREACHABLE),
            quote,
            udp.connect((host, change.get("port", port))).address,
        ),
    )
    assert udp.icmp == {"unmatched": 1} and not udp.stun and [*udp.stun_agent.pending] == [identity]


def test_icmp_error_at_another_listener_changes_nothing(listen, silent):
    stack = listen("udp:127.0.0.1:0;name=one", "udp:127.0.0.1:0;name=two")
    one, two = stack.engine.transports
    tx = stack.send(Request("OPTIONS", f"sip:127.0.0.1:{silent.getsockname()[1]}"), listener="one")
    forge(two, (extended_error(*PORT_UNREACHABLE), silent.recv(65535), silent.getsockname()))
    with pytest.raises(TransactionTimeout):
        tx.final(timeout=0.01)
    assert two.icmp == {"unmatched": 1} and not one.icmp


@pytest.mark.rfc("3261 17.1.1.2")
def test_response_before_the_icmp_error_is_handled_counts(waiting, silent):
    transport, tx, data = waiting("INVITE")
    response = parse(data).response(486)
    gevent.get_hub().loop.run_callback(
        tx.stack.engine.workers.run, bytes(response), tx.transaction.flow
    )
    forge(
        transport, (extended_error(*PORT_UNREACHABLE), data, silent.getsockname())
    )  # it waits for its turn behind that
    with gevent.Timeout(PATIENCE):
        assert tx.final().status == 486
    gevent.sleep(0)
    assert (
        transport.icmp == {"matched": 1} and tx.transaction.state == "completed"
    )  # and repeats its ACK


def test_icmp_error_is_not_handled_within_the_send_of_another_request(listen, silent):
    stack = listen("udp:127.0.0.1:0")
    refused, other = (
        stack.send(Request("OPTIONS", f"sip:127.0.0.1:{port}"))
        for port in (closed()[1], silent.getsockname()[1])
    )
    assert stack.stats()["icmp"] == {"matched": 1}  # for the second send has failed first
    assert refused.is_pending and other.is_pending
    with gevent.Timeout(PATIENCE), pytest.raises(TransportError):
        refused.final()
    assert other.is_pending and silent.recv(65535)


# ---- what others feel


def test_datagram_to_another_peer_goes_out_right_after_a_refused_one(udp, peer):
    udp.connect(closed(udp.loopback)).send(b"refused")
    udp.connect(peer.getsockname()[:2]).send(b"hello")  # the loop has had no turn yet
    assert peer.recv(100) == b"hello"
    assert udp.icmp == {"unmatched": 1} and not udp.queue.waited


def test_datagram_by_another_address_than_the_usual_goes_out_too():
    transport = UDP()
    transport.start(("0.0.0.0", 0), lambda data, flow: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(PATIENCE)
        PinnedFlow(transport, closed(), "127.0.0.2").send(b"refused")
        PinnedFlow(transport, peer.getsockname(), "127.0.0.2").send(b"hello")
        assert peer.recvfrom(100) == (b"hello", ("127.0.0.2", transport.local[1]))
    transport.stop()


def test_datagrams_that_wait_are_not_lost_for_what_others_have_met(udp, peer):
    nobody = udp.connect(closed(udp.loopback))
    flow = udp.connect(peer.getsockname()[:2])
    for number in range(3):
        udp.queue.put(b"refused", nobody)
        udp.queue.put(b"%d" % number, flow)
    assert [peer.recv(10) for _ in range(3)] == [b"0", b"1", b"2"]
    assert udp.lost == 0


def test_datagram_is_received_right_after_a_refused_one(udp, peer):
    arrived = Event()
    udp._receive = lambda data, flow: arrived.set()
    peer.sendto(b"hello", (udp.loopback, udp.local[1]))
    udp.connect(closed(udp.loopback)).send(b"refused")
    assert arrived.wait(PATIENCE)
    assert udp.read_errors == 0


def test_error_of_the_datagram_itself_is_its_own_whatever_others_have_met(udp):
    nobody = udp.connect(closed(udp.loopback))
    nobody.send(b"refused")
    with pytest.raises(TransportError, match="Message too long"):
        nobody.send(bytes(70000))
    with pytest.raises(TransportError, match="Message too long"):
        nobody.send(bytes(70000))
    assert udp.icmp == {"unmatched": 1}


@pytest.mark.parametrize("errors", [1, AT_ONCE * SENDS * 2])
def test_datagram_goes_out_behind_any_number_of_errors(udp, peer, errors):
    nobody = closed(udp.loopback)
    for _ in range(errors):
        while True:
            try:
                udp._socket.sendto(b"refused", nobody)
                break
            except ConnectionRefusedError:  # of the one before
                pass
    udp.connect(peer.getsockname()[:2]).send(b"hello")
    assert peer.recv(100) == b"hello"
    until(lambda: udp.icmp.get("unmatched") == errors)
    assert udp.queue.waited == (errors > AT_ONCE * SENDS)


@pytest.mark.parametrize("reported", [False, True])
def test_loop_does_not_spin_on_a_socket_with_errors(udp, reported, monkeypatch):
    reads, real = [], udp_module.read
    monkeypatch.setattr(udp_module, "read", lambda *read: (reads.append(read), real(*read))[1])
    nobody = closed(udp.loopback)
    udp._socket.sendto(b"refused", nobody)
    if reported:  # by a send, so that a read finds nothing, and an entry stays in the queue
        with pytest.raises(ConnectionRefusedError):
            udp._socket.sendto(b"refused", nobody)
    until(lambda: udp.icmp)
    gevent.sleep(0.05)
    assert len(reads) <= 2 and udp.icmp == {"unmatched": 1} and udp.read_errors == 0


# ---- where there is no such thing


def test_system_without_an_error_queue_goes_on_as_before(monkeypatch, listen, silent):
    monkeypatch.setattr("sippet_gevent.transport.datagram.error_queue._MSG_ERRQUEUE", None)
    stack = listen("udp:127.0.0.1:0")
    transport = stack.engine.transports[0]
    host, port = closed()
    with pytest.raises(TransactionTimeout):
        stack.request("OPTIONS", f"sip:{host}:{port}", timeout=0.05)
    transport.connect(silent.getsockname()).send(b"hello")
    assert silent.recv(100) == b"hello"
    with pytest.raises(TransportError, match="Message too long"):
        transport.connect((host, port)).send(bytes(70000))
    assert not transport.errors.is_open and stack.stats()["icmp"] == {}


def test_loop_that_could_not_bear_errors_hears_of_none():
    pytest.importorskip("gevent.libuv")
    program = (
        "import gevent\n"
        "from sippet_gevent import Stack\n"
        "with Stack('udp:127.0.0.1:0', core=lambda request, tx: 200) as server, Stack('udp:127.0.0.1:0') as client:\n"
        "    client.engine.transports[0].connect(('127.0.0.1', 9)).send(b'refused')\n"
        "    gevent.sleep(0.02)\n"  # the loop looks at its sockets
        "    port = server.engine.transports[0].local[1]\n"
        "    print(client.request('OPTIONS', f'sip:127.0.0.1:{port}', timeout=5).status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"GEVENT_LOOP": "libuv-cffi"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "200\n", done.stderr
