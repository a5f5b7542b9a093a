"""Reading what waits at a UDP socket: receive() in C, and its twin in Python."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
import time

import pytest

from sippet_gevent.transport.datagram import bursts, pktinfo
from sippet_gevent.transport.datagram.receive_report import ReceiveReport

try:
    from sippet_gevent.transport.datagram import _bursts as c
except ImportError:
    c = None

both = pytest.mark.parametrize(
    "receive",
    [
        pytest.param(bursts.receive, id="python"),
        pytest.param(
            getattr(c, "receive", None),
            id="c",
            marks=pytest.mark.skipif(
                c is None
                and (os.environ.get("SIPPET_BUILD_C") != "yes" or sys.platform != "linux"),
                reason="_bursts.c is not built here, and SIPPET_BUILD_C=yes does not ask for it",
            ),
        ),
    ],
)

HOSTS = ["127.0.0.1", "0.0.0.0", "::1", "::"]


def opened(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    raw = socket.socket(family, socket.SOCK_DGRAM)
    raw.setblocking(False)
    ReceiveReport().ask_for(raw)
    if host in ("0.0.0.0", "::"):
        pktinfo.ask_for(raw, family)
    raw.bind((host, 0))
    return raw


@pytest.fixture(params=HOSTS)
def raw(request):
    with opened(request.param) as raw:
        yield raw


@pytest.fixture
def peer(raw):
    """A socket that is connected to the other one."""
    loopback = "::1" if raw.family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(raw.family, socket.SOCK_DGRAM) as peer:
        peer.bind((loopback, 0))
        peer.connect((loopback, raw.getsockname()[1]))
        yield peer


def everywhere(raw) -> bool:
    return raw.getsockname()[0] in ("0.0.0.0", "::")


@both
def test_datagrams_come_in_order_with_source_and_local_address(receive, raw, peer):
    sent = [b"one", b"", b"\0\xff" * 700, b"four", b"five"]
    for data in sent:
        peer.send(data)
    datagrams, control, error = receive(raw, 64, 3, everywhere(raw))
    assert [data for data, _, _ in datagrams] == sent
    assert {address for _, address, _ in datagrams} == {peer.getsockname()}
    assert error in bursts.EMPTY
    for _, _, local in datagrams:
        assert (local is not None) == everywhere(raw)
        if local is not None:
            assert pktinfo.destination(local) == peer.getsockname()[0]
    assert control is not None and (socket.SOL_SOCKET, 35) in {item[:2] for item in control}


@both
def test_control_messages_are_those_that_recvmsg_reports(receive, raw, peer):
    peer.send(b"one")
    expected = raw.recvmsg(10, 128, socket.MSG_PEEK)[1]
    assert receive(raw, 64, 0, True)[1] == expected


@both
def test_longest_datagram_is_whole(receive, raw, peer):
    size = 65507 if raw.family == socket.AF_INET else 65527
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    data = os.urandom(size)
    peer.send(data)
    assert receive(raw, 1, 3, False)[0][0][0] == data


@both
@pytest.mark.parametrize("most", [1, 31, 32, 33, 64])
def test_no_more_than_asked_for_are_read_and_the_rest_stays(receive, raw, peer, most):
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for number in range(70):
        peer.send(b"%d" % number)
    datagrams, control, error = receive(raw, most, 3, everywhere(raw))
    assert (len(datagrams), error) == (most, 0)
    assert (control is None) == (most < 4)
    rest, _, error = receive(raw, 99, 98, everywhere(raw))
    assert [data for data, _, _ in datagrams + rest] == [b"%d" % number for number in range(70)]
    assert error in bursts.EMPTY


@both
def test_socket_without_datagrams_is_empty(receive, raw):
    assert receive(raw, 64, 3, False) == ([], None, errno.EAGAIN)


@both
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's error queue is Linux's")
def test_error_of_an_earlier_datagram_is_told_once_the_datagrams_are_read(receive):
    with opened("127.0.0.1") as raw, socket.socket(type=socket.SOCK_DGRAM) as other:
        raw.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
        other.bind(("127.0.0.1", 0))
        other.sendto(b"first", raw.getsockname())
        raw.sendto(b"refused", ("127.0.0.1", 9))
        time.sleep(0.05)
        told = [receive(raw, 64, 3, False) for _ in range(3)]
        assert [data for datagrams, _, _ in told for data, _, _ in datagrams] == [b"first"]
        errors = {error for _, _, error in told}
        assert errno.ECONNREFUSED in errors and errors <= {errno.ECONNREFUSED, *bursts.EMPTY}


@both
def test_closed_socket_is_an_error(receive):
    raw = opened("127.0.0.1")
    raw.close()
    try:
        assert receive(raw, 64, 3, False)[2] == errno.EBADF
    except ValueError:  # of the one in C, which asks the socket for its number
        assert receive is not bursts.receive


@both
def test_many_sources_are_not_mixed_up(receive, raw):
    loopback = "::1" if raw.family == socket.AF_INET6 else "127.0.0.1"
    peers = [socket.socket(raw.family, socket.SOCK_DGRAM) for _ in range(300)]
    try:
        for peer in peers:
            peer.bind((loopback, 0))
        for _ in range(2):
            for at in range(0, len(peers), 50):
                for peer in peers[at : at + 50]:
                    peer.sendto(str(peer.getsockname()).encode(), (loopback, raw.getsockname()[1]))
                datagrams = receive(raw, 64, 3, False)[0]
                assert len(datagrams) == 50
                for data, address, _ in datagrams:
                    assert data.decode() == str(address)
    finally:
        for peer in peers:
            peer.close()


@both
def test_reading_leaves_nothing_behind(receive, raw, peer):
    def round_() -> None:
        for _ in range(40):
            peer.send(b"x" * 400)
        receive(raw, 64, 3, everywhere(raw))
        receive(raw, 64, 3, everywhere(raw))

    for _ in range(20):
        round_()
    before = sys.getallocatedblocks()
    for _ in range(200):
        round_()
    assert sys.getallocatedblocks() - before < 50


@pytest.mark.skipif(c is None, reason="_bursts.c is not built here")
def test_read_within_a_read_disturbs_nothing(raw, peer):
    """A collection of garbage may run anything, also another thread."""
    seen = []

    class Ring:
        def __init__(self):
            self.me = self

        def __del__(self):
            seen.append(c.receive(raw, 64, 3, False))

    for number in range(60):
        peer.send(b"%d" % number)
    before = gc.get_threshold()
    datagrams = []
    try:
        gc.collect()
        Ring()
        gc.set_threshold(5)
        while True:
            some, _, error = c.receive(raw, 64, 3, everywhere(raw))
            datagrams += some
            if not some and error in bursts.EMPTY:
                break
    finally:
        gc.set_threshold(*before)
    gc.collect()
    datagrams += [each for some, _, _ in seen for each in some]
    assert sorted(int(data) for data, _, _ in datagrams) == list(range(60))
