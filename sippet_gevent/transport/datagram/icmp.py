"""ICMP errors that datagrams of ours have met, as Linux tells of them, RFC 3261 §18.4. Pure: octets
in, meaning out.

A socket with IP_RECVERR has a queue of errors beside that of datagrams (ip(7), ipv6(7)). Each is
where the datagram was sent to, as much of it as the ICMP message quotes, and a control message:
struct sock_extended_err, then the address of whoever has refused it, a router or the peer. IPv4
hosts quote 520 octets of a datagram, routers of old 8, which are the UDP header and nothing of ours
(RFC 1122 §3.2.2, RFC 1812 §4.3.2.3); IPv6 quotes up to 1232 (RFC 4443 §2.4 (c)).

Anybody who can forge a source address can forge these. What they say counts for what their quote
proves, no further.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

OPTIONS = {0: 11, 41: 25}
"""By level, the option that asks for the queue, which is the type of its control messages, too:
IP_RECVERR of IPPROTO_IP and IPV6_RECVERR of IPPROTO_IPV6, as Linux has them; Python names only some
of these."""

QUOTE = 2048
"""Octets asked for of a quoted datagram: more than any ICMP message quotes; the branch stands
early."""

ANCILLARY = 256
"""Octets for the control messages: the error, and on a socket on all addresses, where the ICMP
message came to."""

UNREACHABLE, TOO_BIG, IGNORED = "unreachable", "too big", "ignored"

# SO_EE_ORIGIN_ICMP and _ICMP6; what our own system has refused (1) was told to who sent it
_ICMP, _ICMP6 = 2, 3

# origin and type; whatever else there is, source quench (4) and time exceeded (11, 3) above all,
# §18.4 ignores
_KINDS = {
    # RFC 792; the codes added since are networks and hosts, too (RFC 1122 §3.2.2.1, RFC 1812
    # §5.2.7.1)
    (_ICMP, 3): UNREACHABLE,
    (_ICMP, 12): UNREACHABLE,  # parameter problem, which §18.4 has in the same list
    (_ICMP6, 1): UNREACHABLE,  # RFC 4443 §3.1
    (_ICMP6, 2): TOO_BIG,  # §3.2
    (_ICMP6, 4): UNREACHABLE,  # §3.4: unrecognized next header is its protocol unreachable
}
_FRAGMENTATION_NEEDED = (_ICMP, 3, 4)
"""No way that is closed: Linux has noted the path's MTU already, and what is sent again goes in
fragments."""

# errno as os.strerror() takes it, origin, type, code, padding, info, data
_EXTENDED_ERROR = struct.Struct("=iBBBxII")
_FAMILY = struct.Struct("=H")
# AF_INET and AF_INET6 of Linux: which octets are the address
_ADDRESSES = {2: slice(4, 8), 10: slice(8, 24)}


class Notice(NamedTuple):
    """What an ICMP message says: its kind, and the error in words."""

    kind: str
    problem: str


def read(ancillary: Iterable[tuple[int, int, bytes]]) -> Notice | None:
    """Return what an entry of the error queue says; None for one that no ICMP message has
    caused."""
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
        return Notice(kind, f"{os.strerror(number)}{_offender(data[_EXTENDED_ERROR.size :])}")
    return None


def _offender(data: bytes) -> str:
    """Return who says so, of a struct sockaddr; nothing where it is none."""
    place = _ADDRESSES.get(_FAMILY.unpack_from(data)[0]) if len(data) >= _FAMILY.size else None
    if place is None or len(data) < place.stop:
        return ""
    return f", says {ipaddress.ip_address(data[place])}"
