"""rtpengine in user space relays the RTP of a bridge. `pytest -m slow` runs it; Debian: rtpengine-daemon."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent import socket

from sippet_gevent import RTPEngine, Stack, TransportError, bridge, sdp
from tests.conditions import until
from tests.ports import free_port

pytest_plugins = ["tests.programs"]


@pytest.fixture
def relay(need, run, tmp_path):
    """Return the relay of a running rtpengine."""
    need("rtpengine")
    port = free_port()
    program = run(
        "rtpengine", "--foreground", "--log-stderr", "--table=-1", "--interface=127.0.0.1",
        f"--listen-ng=127.0.0.1:{port}", "--port-min=41000", "--port-max=41400",
    )  # fmt: skip
    relay = RTPEngine(f"127.0.0.1:{port}")
    deadline = time.monotonic() + 20
    while True:
        try:
            relay.ping()
            return relay
        except TransportError:
            assert time.monotonic() < deadline, program.text
            gevent.sleep(0.1)


def media(sock):
    """Return the stream of a phone that receives RTP on a socket."""
    return sdp.MediaStream("audio", sock.getsockname()[1], (sdp.PCMU,))


@pytest.fixture
def sockets():
    """Return the sockets on which two phones receive RTP."""
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in made:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
    yield made
    for sock in made:
        sock.close()


PACKET = bytes((0x80, 0, 0, 1)) + bytes(8) + b"\xff" * 160


def speak(sock, call):
    """Send some RTP to where a description says; rtpengine learns the address from it."""
    stream = call.remote_sdp.media[0]
    for _ in range(5):
        sock.sendto(PACKET, ("127.0.0.1", stream.port))
        gevent.sleep(0.02)
    return stream.port


@pytest.mark.slow
def test_rtp_of_a_bridge_passes_rtpengine_before_and_after_hold(relay, sockets):
    ours, theirs = sockets
    calls = []

    def callee(request, tx):
        with tx.accept(media=[media(theirs)]) as call:
            calls.append(call)
            call.wait()

    with Stack("udp:127.0.0.1:0") as phone, Stack("udp:127.0.0.1:0") as server:
        phone.on("INVITE")(callee)
        target = f"sip:bob@{phone.addresses[0].removeprefix('udp:')}"
        server.on("INVITE")(lambda request, tx: bridge(request, tx, target, media=relay) and None)
        uri = f"sip:bob@{server.addresses[0].removeprefix('udp:')}"
        with (
            Stack("udp:127.0.0.1:0") as client,
            client.invite(uri, media=[media(ours)], timeout=10) as call,
        ):
            port = speak(ours, call)
            assert port != theirs.getsockname()[1]
            assert theirs.recv(2000) == PACKET
            speak(theirs, calls[0])
            assert ours.recv(2000) == PACKET
            call.hold(timeout=10)
            assert calls[0].remote_sdp.is_hold
            call.resume(timeout=10)
            assert call.remote_sdp.media[0].port == port
            call_id = relay.command("list")["calls"][0].decode()
            assert relay.command("query", {"call-id": call_id})["result"] == b"ok"
        until(lambda: not relay.command("list")["calls"])
