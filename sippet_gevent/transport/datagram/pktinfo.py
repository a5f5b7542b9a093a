"""The local address of one datagram on a socket that listens on all addresses, by IP_PKTINFO of
ip(7) and IPV6_PKTINFO of RFC 3542 §6."""

from __future__ import annotations

import _socket
import struct
import sys

from .send_queue import Ancillary

_IP_PKTINFO: int | None = getattr(_socket, "IP_PKTINFO", 8 if sys.platform == "linux" else None)

_IN6_PKTINFO = 20
"""Bytes of struct in6_pktinfo: an address and the number of an interface."""


def ask_for(raw: _socket.socket, family: int) -> bool:
    """Have the kernel report the local address of each datagram received. False where it cannot.
    Raises OSError."""
    if family == _socket.AF_INET6:
        raw.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_RECVPKTINFO, 1)
        return True
    if _IP_PKTINFO is None:
        return False
    raw.setsockopt(_socket.IPPROTO_IP, _IP_PKTINFO, 1)
    return True


def reported_by(ancillary: Ancillary) -> bytes | None:
    """Return the kernel's report of the local address among these control messages, None without
    one. It is the last of them."""
    if not ancillary or ancillary[-1][0] == _socket.SOL_SOCKET:
        return None
    return ancillary[-1][2]


def destination(info: bytes) -> str:
    """Return the local address that a datagram was sent to, from the kernel's report."""
    if len(info) == _IN6_PKTINFO:
        return _socket.inet_ntop(_socket.AF_INET6, info[:16])
    return _socket.inet_ntop(_socket.AF_INET, info[4:8])


def from_host(host: str) -> Ancillary:
    """Return the control message that sends a datagram from this local address, by any
    interface."""
    if ":" in host:
        info = _socket.inet_pton(_socket.AF_INET6, host) + bytes(4)
        return [(_socket.IPPROTO_IPV6, _socket.IPV6_PKTINFO, info)]
    if _IP_PKTINFO is None:  # the kernel has not reported a local address either
        return []
    info = struct.pack("=i4s4x", 0, _socket.inet_pton(_socket.AF_INET, host))
    return [(_socket.IPPROTO_IP, _IP_PKTINFO, info)]
