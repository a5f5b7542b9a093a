"""What to do if an address cannot be listened on: which program has its port, and the like."""

from __future__ import annotations

import errno
import os
import socket
import sys

import pytest

from sippet_gevent import Stack, TransportError
from sippet_gevent.runtime import ports
from sippet_gevent.runtime.ports import explained, holder_of, taken


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


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("is_running", [False, True])
def test_start_on_a_taken_port_says_what_to_do_next(transport, is_running, monkeypatch):
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as held, Stack("udp:127.0.0.1:0") as other:
        held.bind(("127.0.0.1", 0))
        if transport == "tcp":
            held.listen()
        port = held.getsockname()[1]
        address = f"{transport}:127.0.0.1:{port}"

        def open_it():
            with pytest.raises(TransportError) as refused:
                other.listen(address) if is_running else Stack(address).start()
            assert taken(refused.value) == (transport, port)
            assert isinstance(refused.value.__cause__, OSError)
            return str(refused.value)

        told = f"cannot listen on {address}: Address already in use: "
        if sys.platform == "linux":
            text = open_it()
            assert text.startswith(told)
            assert text.endswith(f" (pid {os.getpid()}) has it; stop it, or write another port")
        monkeypatch.setattr(ports, "holder_of", lambda kind, port: None)
        assert open_it() == (
            f"{told}look for it with: ss -l{transport[0]}np 'sport = :{port}'; stop it, or write "
            "another port"
        )


def test_start_on_an_address_of_others_says_what_to_write():
    with pytest.raises(TransportError) as refused:
        Stack("udp:198.51.100.1:5060").start()
    assert str(refused.value) == (
        "cannot listen on udp:198.51.100.1:5060: Cannot assign requested address: this machine has "
        "no such address: write one that 'ip address' shows, or udp:0.0.0.0:5060 for all; behind "
        "NAT write udp:0.0.0.0:5060;advertise=198.51.100.1"
    )


@pytest.mark.parametrize(
    ("number", "address", "hint"),
    [
        (errno.EACCES, "udp:127.0.0.1:506", "ports below 1024 need a privilege: write another port, "
         "or let systemd give it AmbientCapabilities=CAP_NET_BIND_SERVICE"),
        (errno.EACCES, "tls:[::1]:5061", "the system forbids it: look for rules of SELinux"),
        (errno.EADDRNOTAVAIL, "tcp:[2001:db8::1]:5060", "[::]:5060;advertise=[2001:db8::1]"),
        (errno.EAFNOSUPPORT, "udp:[::1]:5060", "has no IPv6: write udp:0.0.0.0:5060"),
        (errno.EMFILE, "tcp:127.0.0.1:0", "ulimit -n"),
        (errno.EINVAL, "udp:[fe80::1]:5060", "write a link-local address with its interface"),
    ],
)  # fmt: skip
def test_each_reason_has_its_hint(number, address, hint):
    error = TransportError(f"cannot listen on {address}: {os.strerror(number)}")
    error.__cause__ = OSError(number, os.strerror(number))
    better = explained(error)
    assert str(better).startswith(f"{error}: ")
    assert hint in str(better)
    assert better.__cause__ is error.__cause__


@pytest.mark.parametrize("cause", [None, ValueError("x"), OSError(errno.EIO, "x")])
def test_error_without_a_hint_stays(cause):
    error = TransportError("cannot listen on udp:127.0.0.1:5060: x")
    error.__cause__ = cause
    assert explained(error) is error
    other = TransportError("cannot listen on unix:hello:5060: Address already in use")
    other.__cause__ = OSError(errno.EADDRINUSE, "Address already in use")
    assert explained(other) is other
