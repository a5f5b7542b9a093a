"""ICMP errors for datagrams that we have sent, as Linux reports them, RFC 3261 §18.4. Pure.

A socket with IP_RECVERR has a queue of errors beside its queue of datagrams (ip(7), ipv6(7)). An
entry has the destination of the datagram, as much of it as the ICMP message quotes, and a control
message: struct sock_extended_err, then the address of the sender of the ICMP message, a router or
the peer. IPv4 hosts quote 520 bytes of a datagram. Old routers quote 8, which are the UDP header
and nothing of ours (RFC 1122 §3.2.2, RFC 1812 §4.3.2.3). IPv6 quotes up to 1232 (RFC 4443 §2.4
(c)).

An attacker that can forge a source address can forge these messages. So only the quoted datagram
proves something.

A request fails by each error of §18.4, because it can be sent elsewhere. A flow ends by a hard
error only, by which its peer says that nothing receives there. Routers that have lost their way say
so for a moment, and such soft errors must not end a connection (RFC 1122 §4.2.3.9).
"""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

OPTIONS = {0: 11, 41: 25}
"""Level to the socket option that turns the queue on: IP_RECVERR of IPPROTO_IP and IPV6_RECVERR of
IPPROTO_IPV6 on Linux. It is also the type of the control messages. Python lacks some of the
names."""

QUOTE = 2048
"""Bytes read of a quoted datagram: more than any ICMP message quotes. The branch is near the
beginning."""

ANCILLARY = 256
"""Bytes for the control messages: the error, and on a wildcard socket the local address that the
ICMP message came to."""

UNREACHABLE, TOO_BIG, IGNORED = "unreachable", "too_big", "ignored"
"""Kinds of errors: no way to the peer; the datagram exceeds the MTU of the path; all others."""

# SO_EE_ORIGIN_ICMP and _ICMP6. The send has already raised errors of our own system (1).
_ICMP, _ICMP6 = 2, 3

# Origin and type to kind. §18.4 ignores the rest, above all source quench (4) and time exceeded
# (11, 3).
_KINDS = {
    # RFC 792. Codes added later are also about networks and hosts (RFC 1122 §3.2.2.1, RFC 1812
    # §5.2.7.1).
    (_ICMP, 3): UNREACHABLE,
    (_ICMP, 12): UNREACHABLE,  # parameter problem, in the same list of §18.4
    (_ICMP6, 1): UNREACHABLE,  # RFC 4443 §3.1
    (_ICMP6, 2): TOO_BIG,  # §3.2
    (_ICMP6, 4): UNREACHABLE,  # §3.4: unrecognized next header, IPv6's protocol unreachable
}
_FRAGMENTATION_NEEDED = (_ICMP, 3, 4)
"""Not a failure, because Linux has already noted the MTU of the path, and sends the retransmission
in fragments."""

# Origin, type and code. RFC 1122 §3.2.2.1 has hosts send these two, and routers the others.
_HARD = frozenset(
    (
        (_ICMP, 3, 2),  # protocol unreachable
        (_ICMP, 3, 3),  # port unreachable
        (_ICMP6, 1, 4),  # RFC 4443 §3.1: port unreachable
        (_ICMP6, 4, 1),  # §3.4: unrecognized next header
    )
)

# struct sock_extended_err: errno, origin, type, code, padding, info, data
_EXTENDED_ERROR = struct.Struct("=iBBBxII")
_FAMILY = struct.Struct("=H")
# AF_INET and AF_INET6 of Linux to the bytes that are the address
_ADDRESSES = {2: slice(4, 8), 10: slice(8, 24)}


class Notice(NamedTuple):
    """An ICMP error: its kind, the problem in words, and whether it is hard (RFC 1122
    §4.2.3.9)."""

    kind: str
    problem: str
    is_hard: bool = False


def read(ancillary: Iterable[tuple[int, int, bytes]]) -> Notice | None:
    """Return the error in an entry of the queue, None if no ICMP message has caused it.

    Args:
        ancillary: The control messages of the entry: level, type, data.
    """
    for level, option, data in ancillary:
        if OPTIONS.get(level) != option or len(data) < _EXTENDED_ERROR.size:
            continue
        number, origin, type_, code, _, _ = _EXTENDED_ERROR.unpack_from(data)
        if origin not in (_ICMP, _ICMP6):
            return None
        kind = (
            TOO_BIG
            if (origin, type_, code) == _FRAGMENTATION_NEEDED
            else _KINDS.get((origin, type_), IGNORED)
        )
        problem = f"{os.strerror(number)}{_offender(data[_EXTENDED_ERROR.size :])}"
        return Notice(kind, problem, (origin, type_, code) in _HARD)
    return None


def _offender(data: bytes) -> str:
    """Return the sender of the ICMP message from a struct sockaddr; an empty text if there is
    none."""
    place = _ADDRESSES.get(_FAMILY.unpack_from(data)[0]) if len(data) >= _FAMILY.size else None
    if place is None or len(data) < place.stop:
        return ""
    return f" (ICMP from {ipaddress.ip_address(data[place])})"
