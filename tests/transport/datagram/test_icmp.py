"""Entries of the error queue, byte for byte as Linux writes them."""

from __future__ import annotations

import errno
import struct

import pytest
from gevent import socket
from hypothesis import example, given
from hypothesis import strategies as st

from sippet_gevent.transport.datagram import icmp
from sippet_gevent.transport.datagram.icmp import IGNORED, TOO_BIG, UNREACHABLE

LOCAL, V4, V6, TIMESTAMP = 1, 2, 3, 4
"""Origins of an error: our own system, ICMP, ICMPv6, none."""


def extended_error(origin, type_, code, number=errno.ECONNREFUSED, offender=None):
    """Return a control message with a struct sock_extended_err, as recvmsg() has it."""
    data = struct.pack("=IBBBxII", number, origin, type_, code, 0, 0)
    if origin == V6:
        host = socket.inet_pton(socket.AF_INET6, offender or "::")
        return (
            socket.IPPROTO_IPV6,
            25,
            data + struct.pack("=HHI16sI", 10 if offender else 0, 0, 0, host, 0),
        )
    host = socket.inet_aton(offender or "0.0.0.0")
    return socket.IPPROTO_IP, 11, data + struct.pack("=HH4s8x", 2 if offender else 0, 0, host)


@pytest.mark.rfc("3261 18.4")
@pytest.mark.parametrize(
    ("origin", "type_", "codes", "kind"),
    [
        (V4, 3, (0, 1, 2, 3), UNREACHABLE),  # network, host, protocol, port
        (V4, 3, (5, 6, 7, 9, 10, 11, 12, 13), UNREACHABLE),
        (V4, 3, (4,), TOO_BIG),
        (V4, 12, (0, 1, 2), UNREACHABLE),  # parameter problem
        (V4, 4, (0,), IGNORED),  # source quench
        (V4, 11, (0, 1), IGNORED),  # time exceeded
        (V4, 5, (0, 1), IGNORED),  # redirect
        (V6, 1, (0, 1, 2, 3, 4, 5, 6), UNREACHABLE),
        (V6, 2, (0,), TOO_BIG),
        (V6, 3, (0, 1), IGNORED),  # time exceeded
        (V6, 4, (0, 1, 2), UNREACHABLE),  # parameter problem
        (V6, 137, (0,), IGNORED),  # redirect
        (V6, 3, (4,), IGNORED),
    ],
)
def test_each_kind_of_icmp_error_counts_as_the_rfc_has_it(origin, type_, codes, kind):
    assert {icmp.read([extended_error(origin, type_, code)]).kind for code in codes} == {kind}


@pytest.mark.rfc("5626 7", "5389 7.2.1")
def test_only_what_the_host_itself_reports_is_a_hard_error():
    hard = {
        (origin, type_, code)
        for origin in (V4, V6)
        for type_ in range(256)
        for code in range(16)
        if icmp.read([extended_error(origin, type_, code)]).is_hard
    }
    assert hard == {(V4, 3, 2), (V4, 3, 3), (V6, 1, 4), (V6, 4, 1)}


@pytest.mark.parametrize(
    ("ancillary", "problem"),
    [
        (
            extended_error(V4, 3, 3, offender="192.0.2.7"),
            "Connection refused (ICMP from 192.0.2.7)",
        ),
        (
            extended_error(V6, 1, 3, errno.EHOSTUNREACH, "2001:db8::7"),
            "No route to host (ICMP from 2001:db8::7)",
        ),
        (extended_error(V4, 3, 3), "Connection refused"),
        ((0, 11, extended_error(V4, 3, 3, offender="192.0.2.7")[2][:16]), "Connection refused"),
        ((0, 11, extended_error(V4, 3, 3, offender="192.0.2.7")[2][:19]), "Connection refused"),
    ],
)
def test_error_has_a_text_with_the_sender_of_the_icmp_message(ancillary, problem):
    assert icmp.read([ancillary]).problem == problem


def test_error_is_found_behind_the_address_that_its_message_came_to():
    assert (
        icmp.read([(socket.IPPROTO_IP, 8, bytes(12)), extended_error(V4, 3, 3)]).kind == UNREACHABLE
    )


@pytest.mark.parametrize(
    "ancillary",
    [
        [],
        [extended_error(LOCAL, 0, 0, errno.EMSGSIZE)],
        [extended_error(LOCAL, 3, 3)],
        [extended_error(TIMESTAMP, 3, 3)],
        [(0, 11, extended_error(V4, 3, 3)[2][:15])],
        [(0, 11, b"")],
        [(0, 25, extended_error(V4, 3, 3)[2])],
        [(41, 11, extended_error(V6, 1, 4)[2])],
        [(1, 29, bytes(16))],
    ],
)
def test_error_without_icmp_message_is_none(ancillary):
    assert icmp.read(ancillary) is None


@given(st.sampled_from([(0, 11), (41, 25)]), st.binary(max_size=60))
@example((0, 11), struct.pack("=IBBBxII", 2**31, V4, 3, 3, 0, 0))
def test_no_bytes_raise(kind, data):
    icmp.read([(*kind, data)])
