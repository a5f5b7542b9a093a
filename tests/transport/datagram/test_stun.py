"""STUN on the SIP port: Binding requests are answered (RFC 5626 §8), by the rules of RFC 5389."""

from __future__ import annotations

import ipaddress
import struct
import zlib

import gevent
import pytest
from gevent import socket
from hypothesis import example, given
from hypothesis import strategies as st

from sippet_gevent import Stack
from sippet_gevent.message.parser import parse
from sippet_gevent.runtime.rates import TokenBuckets
from sippet_gevent.transport.datagram import stun
from sippet_gevent.transport.datagram.udp import UDP

from .test_udp import options

COOKIE = 0x2112A442
IDENTITY = bytes.fromhex("b7e7a701bc34d686fa87dfae")

REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36"
    "000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
"""The sample request of RFC 5769 §2.1: of ICE, with a PRIORITY, whose comprehension is required."""


def message(*attributes, kind=0x0001, cookie=COOKIE, identity=IDENTITY, fingerprint=False):
    """Return a STUN message of (type, value) attributes."""
    body = b"".join(
        struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)
        for kind, value in attributes
    )
    data = struct.pack("!HHI", kind, len(body) + 8 * fingerprint, cookie) + identity + body
    return (
        data + struct.pack("!HHI", 0x8028, 4, zlib.crc32(data) ^ 0x5354554E)
        if fingerprint
        else data
    )


def read(data):
    """Return type, transaction and the attributes, a dict, of a message, whose length and FINGERPRINT are checked."""
    kind, length, cookie = struct.unpack("!HHI", data[:8])
    assert cookie == COOKIE and length == len(data) - 20 and length % 4 == 0
    attributes, at = {}, 20
    while at < len(data):
        name, size = struct.unpack("!HH", data[at : at + 4])
        attributes[name] = data[at + 4 : at + 4 + size]
        if name == 0x8028:
            assert attributes[name] == struct.pack("!I", zlib.crc32(data[:at]) ^ 0x5354554E)
        at += 4 + size + -size % 4
    return kind, data[8:20], attributes


def mapped(data):
    """Return the host and port of an answer's XOR-MAPPED-ADDRESS (RFC 5389 §15.2)."""
    kind, identity, attributes = read(data)
    assert kind == 0x0101
    value = attributes[0x0020]
    port = struct.unpack("!H", value[2:4])[0] ^ COOKIE >> 16
    mask = struct.pack("!I", COOKIE) + identity
    packed = bytes(a ^ b for a, b in zip(value[4:], mask))
    assert value[:2] == (b"\0\1" if len(packed) == 4 else b"\0\2")
    return str(ipaddress.ip_address(packed)), port


# ---- bytes in, bytes out


@pytest.mark.rfc("5389 15.2")
@pytest.mark.parametrize(
    ("host", "value"),
    [
        ("192.0.2.1", "0001a147e112a643"),  # RFC 5769 §2.2
        (
            "2001:db8:1234:5678:11:2233:4455:6677",
            "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
        ),  # §2.3
    ],
)
def test_address_is_written_as_the_test_vectors_have_it(host, value):
    kind, identity, attributes = read(stun.answer(message(), host, 32853))
    assert (kind, identity) == (0x0101, IDENTITY)
    assert attributes == {0x0020: bytes.fromhex(value)}


@pytest.mark.rfc("5389 7.3.1")
def test_sample_request_of_ice_gets_420_with_unknown_attributes():
    kind, identity, attributes = read(stun.answer(REQUEST, "192.0.2.1", 32853))
    assert (kind, identity) == (0x0111, IDENTITY)
    assert attributes[0x0009] == b"\0\0\x04\x14Unknown Attribute"
    assert attributes[0x000A] == b"\x00\x24"  # PRIORITY, and neither USERNAME nor what is optional
    assert 0x8028 in attributes  # as the request had one


@pytest.mark.rfc("5389 15.5")
def test_fingerprint_is_answered_with_a_fingerprint():
    assert mapped(stun.answer(message(fingerprint=True), "192.0.2.1", 1)) == ("192.0.2.1", 1)
    assert 0x8028 in read(stun.answer(message(fingerprint=True), "192.0.2.1", 1))[2]
    assert 0x8028 not in read(stun.answer(message(), "192.0.2.1", 1))[2]


@pytest.mark.rfc("5389 7.3")
@pytest.mark.parametrize(
    "at", [*range(100), *range(102, 108)]
)  # between them is the type FINGERPRINT
def test_one_wrong_octet_under_a_fingerprint_is_no_request(at):
    assert (
        stun.answer(REQUEST[:at] + bytes([REQUEST[at] ^ 0x40]) + REQUEST[at + 1 :], "192.0.2.1", 1)
        is None
    )


@pytest.mark.rfc("5389 15.5")
def test_fingerprint_that_is_not_the_last_attribute_is_no_request():
    whole = message(fingerprint=True)
    more = struct.pack("!HHI", 0x8022, 4, 0)
    longer = whole[:2] + struct.pack("!H", 16) + whole[4:20]
    right = struct.pack("!HHI", 0x8028, 4, zlib.crc32(longer) ^ 0x5354554E)
    assert stun.answer(longer + right + more, "192.0.2.1", 1) is None
    assert stun.answer(
        longer + more + struct.pack("!HHI", 0x8028, 4, zlib.crc32(longer + more) ^ 0x5354554E),
        "192.0.2.1",
        1,
    )


@pytest.mark.rfc("5389 7.3")
def test_known_and_optional_attributes_are_ignored():
    request = message(
        (0x0006, b"user"),
        (0x8022, b"a phone"),
        (0x0014, b"realm"),
        (0xFFFF, b""),
        (0x0008, b"x" * 20),
    )
    assert mapped(stun.answer(request, "192.0.2.1", 1)) == ("192.0.2.1", 1)


@pytest.mark.rfc("5389 15.4")
def test_attributes_after_message_integrity_are_ignored():
    request = message((0x0008, b"x" * 20), (0x0024, b"1234"))
    assert mapped(stun.answer(request, "192.0.2.1", 1)) == ("192.0.2.1", 1)


@pytest.mark.rfc("5389 15.9")
def test_each_unknown_attribute_is_named_once_in_order():
    request = message((0x0003, b"\0\0\0\6"), (0x7FFF, b""), (0x0003, b"\0\0\0\2"))
    kind, _, attributes = read(stun.answer(request, "192.0.2.1", 1))
    assert kind == 0x0111 and attributes[0x000A] == b"\x00\x03\x7f\xff"


@pytest.mark.rfc("5389 7.3")
@pytest.mark.parametrize(
    "data",
    [
        message(kind=0x0011),  # an indication
        message(kind=0x0101),  # a success response
        message(kind=0x0111),  # an error response
        message(kind=0x0003),  # a request of TURN, Allocate
        message(cookie=COOKIE + 1),
        message()[:-1],
        message() + b"\0",
        message() + b"\0\0\0\0",
        message((0x8022, b"1234"))[:-4] + b"12",
        message()[:2] + b"\0\4" + message()[4:] + b"\x80\x22\0\1",  # a value that is not there
        message((0x8022, b"x" * 1300)),
        b"\0\1",
        b"",
    ],
)
def test_malformed_binding_request_has_no_answer(data):
    assert stun.answer(data, "192.0.2.1", 1) is None


ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=12)


@given(st.binary(max_size=200).map(lambda tail: message() + tail) | st.binary(max_size=200))
@example(REQUEST)
def test_no_bytes_raise(data):
    stun.answer(data, "192.0.2.1", 5060)


@given(ATTRIBUTES, st.booleans(), st.ip_addresses().map(str), st.integers(1, 65535))
def test_answer_has_at_most_three_times_the_bytes_of_its_request(
    attributes, fingerprint, host, port
):
    attributes = [(kind, value) for kind, value in attributes if kind != 0x8028]
    request = message(*attributes, fingerprint=fingerprint)
    reply = stun.answer(request, host, port)
    assert len(reply) <= 3 * len(request)
    if read(reply)[0] == 0x0101:
        assert mapped(reply) == (host, port)


# ---- on the SIP port


@pytest.fixture(params=["127.0.0.1", "::1"])
def asked(request):
    """A stack that answers OPTIONS, its port, and a client's socket."""
    host = request.param
    stack = Stack(f"udp:[{host}]:0" if ":" in host else f"udp:{host}:0")
    stack.on("OPTIONS")(lambda request, tx: 200)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(5)
    with stack:
        sock.connect(stack.engine.transports[0].local)
        yield stack, sock
    sock.close()


@pytest.mark.rfc("5626 8", "5389 7.3.1.2")
def test_binding_request_is_answered_from_the_sip_port(asked):
    stack, sock = asked
    sock.send(message(fingerprint=True))
    assert (
        mapped(sock.recv(2000)) == sock.getsockname()[:2]
    )  # connected: only the SIP port is heard
    assert stack.stats()["stun"] == {"answered": 1}


@pytest.mark.rfc("5626 4.4.2", "5389 7.3.1")
def test_repeated_request_has_the_same_answer(asked):
    _, sock = asked
    sock.send(message())
    first = sock.recv(2000)
    sock.send(message())
    assert sock.recv(2000) == first


def test_stun_on_the_sip_port_is_not_counted_as_received(asked, caplog):
    stack, sock = asked
    via = "192.0.2.9:5060;branch=z9hG4bK1;rport"
    for data in (
        message(kind=0x0011),
        message(kind=0x0101),
        message() + b"broken",
        message((0x7FFF, b"")),
        options(via),
    ):
        sock.send(data)
    assert read(sock.recv(2000))[0] == 0x0111
    assert parse(sock.recv(2000)).status == 200
    stats = stack.stats()
    assert stats["stun"] == {"dropped": 3, "refused": 1}
    assert stats["received"] == 1 and not stats["dropped"]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_datagram_without_the_cookie_is_dropped_as_sip(asked):
    stack, sock = asked
    sock.send(b"\0\1\0\0 no cookie")
    sock.send(b"\0\0\0\0")
    sock.send(b"")
    sock.send(options("192.0.2.9:5060;branch=z9hG4bK1;rport"))
    assert parse(sock.recv(2000)).status == 200
    assert stack.stats()["dropped"] == {"bad_message": 1, "keepalive": 2}
    assert stack.stats()["stun"] == {}


def test_source_over_its_rate_has_no_answer_and_others_have(asked):
    stack, sock = asked
    (transport,) = stack.engine.transports
    transport.stun_agent.rates = TokenBuckets(0.001, 2, 10)
    for _ in range(5):
        sock.send(message())
    sock.send(options("192.0.2.9:5060;branch=z9hG4bK1;rport"))  # SIP is no part of it
    mapped(sock.recv(2000)), mapped(sock.recv(2000))
    assert parse(sock.recv(2000)).status == 200
    assert stack.stats()["stun"] == {"answered": 2, "rate_limited": 3}
    if sock.family == socket.AF_INET:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.2", 0))
            other.settimeout(5)
            other.sendto(message(), transport.local)
            assert mapped(other.recv(2000)) == other.getsockname()


def test_ten_thousand_phones_behind_one_nat_keep_their_flows(asked):
    stack, _ = asked
    (transport,) = stack.engine.transports
    assert all(
        transport.stun_agent.rates.take("192.0.2.1", index * 20 / 10_000) for index in range(10_000)
    )


def full(data, address):
    raise BlockingIOError(11, "full")


def broken(data, address):
    raise OSError(1, "not permitted")


@pytest.mark.parametrize(
    ("sendto", "fates", "waiting"),
    [(full, {"answered": 1, "dropped": 1}, 1), (broken, {"dropped": 2}, 0)],
)
def test_answers_that_cannot_be_sent_are_dropped_once_one_is_waiting(sendto, fates, waiting):
    transport = UDP()
    transport.start(("127.0.0.1", 0), lambda data, flow: None)
    transport.queue.sendto = sendto
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, gevent.Timeout(5):
        for _ in range(2):
            sock.sendto(message(), transport.local)
        while sum(transport.stun.values()) < 2:
            gevent.sleep(0.001)
    assert transport.stun == fates and len(transport.queue) == waiting
    transport.stop()


@pytest.mark.rfc("5389 7.3.1.2")
def test_answer_on_a_wildcard_leaves_from_the_address_that_was_asked():
    with Stack("udp:0.0.0.0:0") as stack, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(("127.0.0.1", 0))
        where = ("127.0.0.77", stack.engine.transports[0].local[1])
        sock.sendto(message(), where)
        reply, source = sock.recvfrom(2000)
        assert mapped(reply) == sock.getsockname() and source == where
