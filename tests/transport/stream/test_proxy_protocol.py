"""The PROXY protocol: headers, broken ones, segments of any size, and the source of the requests behind them."""

from __future__ import annotations

import socket as plain_socket

import pytest
from gevent import ssl
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent import TLS, Limits, ParseError, StreamLimits
from sippet_gevent.message.parser import parse
from sippet_gevent.transport.stream.proxy_protocol import LENGTH, LINE, SIGNATURE, ProxyHeader, read
from tests.conditions import until
from tests.conformance import corpus

from ..conftest import port_of
from .test_tcp import Peer, options

CLIENT, SERVER = ("192.0.2.77", 40123), ("203.0.113.7", 5060)
CLIENT6, SERVER6 = ("2001:db8::77", 40123), ("2001:db8::7", 5060)


def line(source=CLIENT, destination=SERVER):
    kind = "TCP6" if ":" in source[0] else "TCP4"
    return f"PROXY {kind} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def binary(source=CLIENT, destination=SERVER, *, command=0x21, family=None, tlvs=b"", length=None):
    six = ":" in source[0]
    kind = plain_socket.AF_INET6 if six else plain_socket.AF_INET
    hosts = b"".join(plain_socket.inet_pton(kind, host) for host, _ in (source, destination))
    block = hosts + b"".join(port.to_bytes(2, "big") for _, port in (source, destination)) + tlvs
    head = bytes((command, (0x21 if six else 0x11) if family is None else family))
    return SIGNATURE + head + (len(block) if length is None else length).to_bytes(2, "big") + block


TLVS = b"\x02\x00\x0bsip.example" + b"\x04\x00\x03\0\0\0"

GOOD = [
    (line(), ProxyHeader(CLIENT, SERVER)),
    (line(CLIENT6, SERVER6), ProxyHeader(CLIENT6, SERVER6)),
    (
        line(("::ffff:192.0.2.77", 1), ("2001:DB8:0::7", 0)),
        ProxyHeader(("192.0.2.77", 1), ("2001:db8::7", 0)),
    ),
    (b"PROXY UNKNOWN\r\n", ProxyHeader()),
    (b"PROXY UNKNOWN ffff::1 whatever 65536 x\r\n", ProxyHeader()),
    (binary(), ProxyHeader(CLIENT, SERVER)),
    (binary(tlvs=TLVS), ProxyHeader(CLIENT, SERVER)),
    (binary(CLIENT6, SERVER6, tlvs=TLVS), ProxyHeader(CLIENT6, SERVER6)),
    (binary(("::ffff:192.0.2.77", 9), SERVER6), ProxyHeader(("192.0.2.77", 9), SERVER6)),
    (binary(command=0x20), ProxyHeader()),  # LOCAL: a health check
    (SIGNATURE + b"\x20\x00\x00\x00", ProxyHeader()),
    (SIGNATURE + b"\x21\x00\x00\x03abc", ProxyHeader()),  # UNSPEC
    (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), ProxyHeader()),  # UNIX
    (binary(family=0x12), ProxyHeader()),  # UDP, which has no connections
    (binary(tlvs=bytes(LENGTH - 16 - 12)), ProxyHeader(CLIENT, SERVER)),
]

BAD = [
    b"X",
    b"PROXX",
    b"PROXY\tTCP4",
    b"PROXY TCP4\r\n",
    b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n" + b"x" * LINE,
    b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \xb2\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 ::1 ::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
    b"PROXY UNKNOWN" + b" " * LINE + b"\r\n",
    b"\r\n\r\nX",
    SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1 in binary
    SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # command 2
    SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),  # family 4
    SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12),  # protocol 3
    SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
    SIGNATURE + b"\x21\x21\x00\x23" + bytes(35),
    SIGNATURE + b"\x21\x31\x00\xd7" + bytes(215),
    SIGNATURE + b"\x21\x11\xff\xff",
]


# ---- the parser


@pytest.mark.parametrize(("data", "header"), GOOD)
def test_header_is_read_and_the_rest_is_left(data, header):
    assert read(data) == (header, len(data))
    assert read(data + b"OPTIONS sip:") == (header, len(data))


@pytest.mark.parametrize(("data", "header"), GOOD)
def test_header_is_read_however_it_is_cut(data, header):
    assert [read(data[:at]) for at in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize("data", BAD)
def test_broken_header_is_a_parse_error(data):
    with pytest.raises(ParseError):
        read(data)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(SIGNATURE.__add__),
        st.binary(max_size=120).map(b"PROXY ".__add__),
    )
)
def test_random_bytes_raise_nothing_but_a_parse_error(data):
    try:
        found = read(data)
    except ParseError:
        return
    if found is None:
        assert len(data) < LENGTH
    else:
        assert 0 < found[1] <= len(data)


@given(
    st.sampled_from((4, 6)).flatmap(
        lambda v: st.tuples(*[st.tuples(st.ip_addresses(v=v).map(str), st.integers(0, 65535))] * 2)
    )
)
def test_both_versions_say_the_same(ends):
    in_text, in_binary = read(line(*ends)), read(binary(*ends))
    assert in_text[0] == in_binary[0]
    assert [port for _, port in in_text[0]] == [port for _, port in ends]


@given(st.sampled_from([data for data, _ in GOOD]), st.data())
def test_changed_byte_raises_nothing_but_a_parse_error(data, draw):
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:at] + bytes((draw.draw(st.integers(0, 255)),)) + data[at + 1 :]
    try:
        read(changed)
    except ParseError:
        pass


# ---- connections


@pytest.fixture
def balanced(listen):
    """Make a stack behind a load balancer: `balanced("tcp:127.0.0.1:0;proxy")`; it notes the source of each request."""

    def make(address="tcp:127.0.0.1:0;proxy", tls=None, **streams):
        served = []

        def core(request, tx):
            served.append(request.flow.remote)
            return 200

        stack = listen(address, core=core, limits=Limits(streams=StreamLimits(**streams)), tls=tls)
        stack.served, stack.tcp = served, stack.engine.transports[0]
        return stack

    return make


@pytest.fixture
def connect():
    peers = []

    def make(stack, data=b""):
        peer = Peer(("::1" if ":" in stack.tcp.local[0] else "127.0.0.1", port_of(stack)))
        peers.append(peer)
        peer.send(data)
        return peer

    yield make
    for peer in peers:
        peer.sock.close()


@pytest.mark.parametrize("header", [line(), binary(tlvs=TLVS)])
def test_request_has_the_source_that_the_load_balancer_names(balanced, connect, header):
    stack = balanced()
    response = connect(stack, header + options(via="192.0.2.9:5060;rport")).message()
    assert stack.served == [CLIENT]
    assert (response.status, response.via[0].received, response.via[0].rport) == (200, *CLIENT)


@pytest.mark.parametrize("header", [line(), binary()])
def test_header_byte_by_byte_is_read(balanced, connect, header):
    stack = balanced()
    peer = connect(stack)
    data = header + options()
    for at in range(len(data)):
        peer.send(data[at : at + 1])
    assert peer.message().status == 200
    assert stack.served == [CLIENT]


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", binary(command=0x20)])
def test_health_check_is_the_load_balancer_s_own(balanced, connect, header):
    stack = balanced()
    peer = connect(stack, header + options())
    assert peer.message().status == 200
    assert stack.served == [peer.sock.getsockname()]


@pytest.mark.parametrize("at_once", [True, False])
def test_header_goes_before_tls(balanced, connect, tmp_path, at_once):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.issue_cert("sip.example").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "cert.pem"
    )
    stack = balanced("tls:127.0.0.1:0;proxy", tls=TLS(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    peer = connect(stack)
    tls = TLSClient(
        context, peer.sock, "sip.example", before=binary(CLIENT6, SERVER6), at_once=at_once
    )
    tls.send(options())
    assert parse(tls.receive()).status == 200
    assert stack.served == [CLIENT6]


def test_header_goes_before_the_handshake_of_a_websocket(balanced, connect):
    pytest.importorskip("wsproto")
    stack = balanced("ws:127.0.0.1:0;proxy")
    peer = connect(stack, line())
    peer.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )
    assert peer.sock.recv(4096).startswith(b"HTTP/1.1 101")
    data = options()
    peer.send(b"\x82\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data)
    assert b"SIP/2.0 200 OK" in peer.sock.recv(4096)
    assert stack.served == [CLIENT]


class TLSClient:
    """A TLS client that sends its first bytes in one segment with those of `before`."""

    def __init__(self, context, sock, name, *, before, at_once):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        if not at_once:
            sock.sendall(before)
            before = b""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(before + self.outgoing.read())
                before = b""
                self.incoming.write(sock.recv(65536))

    def send(self, data):
        self.tls.write(data)
        self.sock.sendall(self.outgoing.read())

    def receive(self):
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.incoming.write(self.sock.recv(65536))


@pytest.mark.parametrize(
    "data",
    [
        options(),
        b"\x16\x03\x01\x02\x00",
        b"PROXY TCP4 nonsense\r\n",
        SIGNATURE + b"\xff\xff\xff\xff",
    ],
)
def test_connection_without_a_header_is_closed_and_counted(balanced, connect, data):
    stack = balanced()
    assert connect(stack, data).rest() == b""
    assert stack.tcp.counts == {"accepted": 1, "bad_proxy_header": 1}
    assert stack.served == [] and stack.stats()["received"] == 0


def test_connection_that_ends_within_the_header_is_counted(balanced, connect):
    stack = balanced()
    peer = connect(stack, line()[:20])
    peer.sock.shutdown(plain_socket.SHUT_WR)
    assert peer.rest() == b""
    assert stack.tcp.counts["bad_proxy_header"] == 1


def test_header_must_come_in_the_time_of_a_handshake(balanced, connect):
    stack = balanced(handshake=0.05)
    assert connect(stack, line()[:-1]).rest() == b""
    assert stack.tcp.counts["bad_proxy_header"] == 1


def test_clients_are_counted_instead_of_the_load_balancer(balanced, connect):
    stack = balanced(connections_per_source=2)
    waiting = [connect(stack) for _ in range(3)]
    until(lambda: len(stack.tcp.flows) == 3)
    peers = [connect(stack, line((f"192.0.2.{host}", 9)) + options()) for host in (1, 1, 2, 2, 3)]
    assert [peer.message().status for peer in peers] == [200] * 5
    assert connect(stack, line(("192.0.2.1", 10)) + options()).rest() == b""
    assert stack.tcp.counts["too_many_connections_per_source"] == 1
    peers[0].sock.close()
    until(lambda: len(stack.tcp.flows) == 7)
    assert (
        connect(stack, line(("::ffff:192.0.2.1", 11), SERVER6) + options()).message().status == 200
    )
    for peer in (*waiting, *peers):
        peer.sock.close()
    until(lambda: len(stack.tcp.flows) <= 1)
    assert stack.tcp._sources == {"192.0.2.1": 1}


@pytest.mark.parametrize(
    ("networks", "is_let_in"),
    [("127.0.0.0/8", True), ("192.0.2.0/24,127.0.0.1", True), ("192.0.2.0/24", False)],
)
def test_load_balancers_come_from_their_networks_only(balanced, connect, networks, is_let_in):
    stack = balanced(f"tcp:127.0.0.1:0;proxy={networks}")
    peer = connect(stack)
    if is_let_in:
        peer.send(line() + options())
        assert peer.message().status == 200
    else:
        assert peer.rest() == b""
        assert stack.tcp.counts == {"unknown_load_balancer": 1}


def test_load_balancer_over_ipv6_may_bring_ipv4_clients(balanced, connect):
    stack = balanced("tcp:[::1]:0;proxy=::1")
    assert connect(stack, line() + options()).message().status == 200
    assert stack.served == [CLIENT]


@corpus.needed
def test_header_without_proxy_parameter_is_malformed(listen, connect):
    stack = listen("tcp:127.0.0.1:0")
    stack.tcp = stack.engine.transports[0]
    peer = connect(stack, corpus.read("own-streams/haproxy-v1.stream"))
    assert b"SIP/2.0 200" not in peer.rest()
    assert stack.tcp.counts["malformed"] == 1
