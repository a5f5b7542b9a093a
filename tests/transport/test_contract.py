"""Our transports, and the one among the examples, keep the contract that a transport of anybody's has to keep."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from sippet_gevent import Clock
from sippet_gevent.transport.datagram.udp import UDP
from sippet_gevent.transport.memory import Network
from sippet_gevent.transport.stream.tcp import TCP
from sippet_gevent.transport.websocket.flow import WS

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
