"""The programs of the guides about networks and media servers run and do what the guides say."""

from __future__ import annotations

import pytest
from gevent import socket

from sippet_gevent import Stack
from sippet_gevent.transport.memory import MemoryTransport
from tests.conditions import until

from ..core.b2bua.engine import Engine
from .blocks import block, on_free_ports


def test_transports_block_plans_each_address(tmp_path, monkeypatch):
    trustme = pytest.importorskip("trustme")
    certificate = trustme.CA().issue_cert("sip.example")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    monkeypatch.chdir(tmp_path)
    planned = block("transports").stack.planned
    assert [(transport.name, listener.port) for transport, listener in planned] == [
        ("UDP", 5060),
        ("TCP", 5060),
        ("TLS", 5061),
    ]


def test_listeners_block_lets_calls_through_each_way(sip):
    stack = block("listeners").stack
    names = {listener.name: str(listener.advertise or "") for _, listener in stack.planned}
    assert names == {"inside": "", "outside": "203.0.113.7"}
    border = Stack(core=stack.core, clock=sip.clock)
    for _, listener in stack.planned:
        border.listen(
            f"udp:{listener.host}:5060;name={listener.name}", MemoryTransport(sip.network)
        )
    sip.stacks.append(border.start())
    seen = []

    def answer(request, tx):
        seen.append(request)
        tx.accept().hangup()

    phones = [sip.stack(answer, host=host) for host in ("198.51.100.50", "10.0.0.20")]
    sip.run(phones[1].invite, "sip:bob@198.51.100.50", next_hop="sip:10.0.0.5")
    sip.run(phones[0].invite, "sip:bob@203.0.113.7", next_hop="sip:192.168.7.5")
    assert [str(request.uri) for request in seen] == ["sip:bob@198.51.100.50", "sip:10.0.0.20"]
    assert [request.via[0].host for request in seen] == ["192.168.7.5", "10.0.0.5"]
    sip.advance(1)
    assert [len(phone.dialogs) for phone in phones] == [0, 0]  # the BYEs have passed, too


def test_websockets_block_serves_a_page_and_asks_for_a_session():
    with block("websockets").edge as edge:
        with socket.create_connection(edge.engine.transports[0].local, timeout=10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
        with socket.create_connection(edge.engine.transports[0].local, timeout=10) as sock:
            sock.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://phone.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
            )
            assert sock.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_behind_nat_block_names_the_public_address():
    for _, listener in block("behind_nat").stack.planned:
        assert (listener.host, str(listener.advertise)) == ("10.0.0.5", "203.0.113.7")


def test_rtpengine_block_relays_the_media_of_a_call():
    bodies = []

    def callee(request, tx):
        bodies.append(request.body)
        with tx.accept(body=b"v=0 callee") as call:
            call.wait()

    with Stack("udp:127.0.0.1:0", core=callee) as phone, Engine() as engine:
        made = block("rtpengine")
        made.relay._place = engine.place
        target = phone.addresses[0].removeprefix("udp:")
        server = on_free_ports(made.stack)
        bridged = made.bridge

        def bridge(request, tx, uri, **options):
            return bridged(request, tx, uri.replace("192.0.2.20", target), **options)

        made.relayed.__globals__["bridge"] = bridge
        with server, Stack("udp:127.0.0.1:0") as caller:
            uri = f"sip:bob@{server.addresses[0].removeprefix('udp:')}"
            with caller.invite(uri, body=b"v=0 caller", timeout=10) as call:
                assert call.remote_body == b"v=0 callee relayed for caller"
            until(lambda: engine.names == ["offer", "answer", "delete"])
    assert bodies == [b"v=0 caller relayed for callee"]


def test_webrtc_block_says_what_each_side_gets():
    with Engine() as engine:
        relay = block("webrtc").relay
        relay._place = engine.place
        relay.offer("a", "caller", "callee", b"v=0")
        relay.answer("a", "caller", "callee", b"v=0")
        asked = [command["transport-protocol"] for command in engine.commands]
        assert asked == [b"RTP/AVP", b"UDP/TLS/RTP/SAVPF"]


@pytest.mark.parametrize("number, status", [("8001", 299), ("bob", 404)])
def test_freeswitch_block_sends_some_numbers_to_the_media_server(sip, number, status):
    sip.stack(lambda request, tx: 299, host="192.0.2.30", port=5080)
    asked = sip.ask(block("freeswitch").stack, f"MESSAGE sip:{number}@192.0.2.10")
    assert asked.statuses == [status]
