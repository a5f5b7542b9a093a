"""Our transports, and the one among the examples, keep the contract of every transport."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from sippet_gevent import TLS, Clock
from sippet_gevent.message.iana import DEFAULT_PORTS, TRANSPORTS
from sippet_gevent.transport.datagram.udp import UDP
from sippet_gevent.transport.locate.rfc3263 import ALL, SECURE, SERVICES
from sippet_gevent.transport.memory import Network
from sippet_gevent.transport.stream.tcp import TCP
from sippet_gevent.transport.websocket.ws import WS

from .contract import StreamContract, TransportContract

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "unix_transport.py"


class TestUDP(TransportContract):
    @pytest.fixture
    def make(self):
        return UDP


class TestUDPOfIPv6(TransportContract):
    host = "::1"

    @pytest.fixture
    def make(self):
        return UDP


class TestTCP(StreamContract):
    @pytest.fixture
    def make(self):
        return TCP


class TestWebSocket(TransportContract):
    @pytest.fixture
    def make(self):
        return WS


class TestMemory(TransportContract):
    @pytest.fixture
    def make(self):
        network = Network(Clock())
        yield network.transport
        network.stop()


class TestUnix(StreamContract):
    host = "alice"

    @pytest.fixture
    def make(self, tmp_path):
        unix = runpy.run_path(str(EXAMPLE))["Unix"]
        return lambda: unix(tmp_path / "s")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (UDP, "UDP"),
        (TCP, "TCP"),
        (lambda: TCP(tls=TLS()), "TLS"),
        (WS, "WS"),
        (lambda: WS(tls=TLS()), "WSS"),
    ],
)
def test_transport_says_what_the_table_of_rfcs_says(make, name):
    transport = make()
    row = TRANSPORTS[transport.name]
    assert transport.name == name
    assert (transport.reliable, transport.secure) == (row.reliable, row.secure)
    assert transport.default_port == row.default_port
    assert (
        isinstance(transport.default_port, int)
        and transport.default_port == DEFAULT_PORTS[transport.name]
    )


def test_table_of_transports_has_the_values_of_the_rfcs():
    ours = {name: DEFAULT_PORTS[name] for name in ALL}
    assert ours == {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}
    assert SECURE == {"TCP": "TLS", "TLS": "TLS", "WS": "WSS", "WSS": "WSS"}
    assert SERVICES["SIPS+D2W"] == "WSS" and len(SERVICES) == len(ALL)
    assert [name for name, row in TRANSPORTS.items() if not row.reliable] == ["UDP"]
