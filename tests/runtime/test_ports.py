"""Which program has a port."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from sippet_gevent.runtime.ports import holder_of


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_holder_of_a_port_is_found(kind):
    with socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    ) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        if kind == "tcp":
            held.listen()
        assert f"(pid {os.getpid()})" in holder_of(kind, port)
    assert holder_of(kind, port) is None
