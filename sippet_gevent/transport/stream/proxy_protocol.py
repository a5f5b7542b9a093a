"""The PROXY protocol, versions 1 and 2: the header in which a load balancer names its client. Pure.

Sections are those of haproxy's proxy-protocol.txt. Version 1 is a line of text (§2.1), version 2
is binary (§2.2). The header goes before all other bytes of a connection.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import NamedTuple

from ...errors import ParseError

LINE = 107
"""Most bytes of a version 1 line with its CRLF (§2.1)."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""The first bytes of version 2. No other protocol begins with them (§2.2)."""

LENGTH = 4096
"""Most bytes of a version 2 header. The addresses take up to 232. Names and certificates, which may
follow, are skipped."""

_FIXED = len(SIGNATURE) + 4
_V1 = b"PROXY "
_PORT = re.compile("0|[1-9][0-9]{0,4}").fullmatch  # no leading zeros (§2.1)

LOCAL, PROXY = 0, 1
UNSPEC, INET, INET6, UNIX = range(4)
STREAM = 1

_BLOCKS = {INET: struct.Struct("!4s4sHH"), INET6: struct.Struct("!16s16sHH")}

ADDRESSES = {UNSPEC: 0, INET: 12, INET6: 36, UNIX: 216}
"""Bytes of both addresses and ports of each family (§2.2)."""


class ProxyHeader(NamedTuple):
    """The client of a connection: `source` and `destination` as (host, port).

    Both are None when those of the connection itself apply. That is the case for a health check of
    the load balancer, and when it has no IP addresses to name.
    """

    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None


def read(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Read the header at the beginning of some bytes.

    Returns:
        The header and its length, or None while it is not complete.

    Raises:
        ParseError: The bytes cannot become a header, whatever follows.
    """
    if SIGNATURE.startswith(data[: len(SIGNATURE)]):
        return _read_binary(data)
    if _V1.startswith(data[: len(_V1)]):
        return _read_line(data)
    raise ParseError("not a PROXY header")


def _read_line(data: bytes) -> tuple[ProxyHeader, int] | None:
    # PROXY SP ("TCP4" / "TCP6") SP source SP destination SP port SP port CRLF; PROXY SP UNKNOWN
    # *any CRLF
    end = data.find(b"\r\n", 0, LINE)
    if end < 0:
        if len(data) >= LINE:
            raise ParseError(f"PROXY header without an end within {LINE} bytes")
        return None
    words = data[len(_V1) : end].decode("latin-1").split(" ")
    if words[0] == "UNKNOWN":
        return ProxyHeader(), end + 2
    if words[0] not in ("TCP4", "TCP6") or len(words) != 5:
        raise ParseError("PROXY header without protocol, two addresses and two ports")
    version = 4 if words[0] == "TCP4" else 6
    source, destination = (_endpoint(words[at], words[at + 2], version) for at in (1, 2))
    return ProxyHeader(source, destination), end + 2


def _endpoint(host: str, port: str, version: int) -> tuple[str, int]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ParseError("PROXY header with a broken address") from None
    if address.version != version or "%" in host:
        raise ParseError(f"PROXY header with an address that is not of TCP{version}")
    if not _PORT(port) or int(port) > 65535:
        raise ParseError("PROXY header with a broken port")
    return _plain(address), int(port)


def _read_binary(data: bytes) -> tuple[ProxyHeader, int] | None:
    if len(data) < _FIXED:
        return None
    version, command = divmod(data[12], 16)
    family, protocol = divmod(data[13], 16)
    length = int.from_bytes(data[14:16], "big")
    if version != 2 or command not in (LOCAL, PROXY):
        raise ParseError("PROXY header of another version or command")
    if family not in ADDRESSES or protocol > 2:
        raise ParseError("PROXY header of an unknown family or protocol")
    if _FIXED + length > LENGTH:
        raise ParseError(f"PROXY header over {LENGTH} bytes")
    if command == PROXY and length < ADDRESSES[family]:
        raise ParseError("PROXY header too short for its addresses")
    end = _FIXED + length
    if len(data) < end:
        return None
    if command == LOCAL or protocol != STREAM or family not in (INET, INET6):
        return ProxyHeader(), end
    source, destination, source_port, destination_port = _BLOCKS[family].unpack_from(data, _FIXED)
    header = ProxyHeader((_plain(source), source_port), (_plain(destination), destination_port))
    return header, end


def _plain(address: bytes | ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address as text, an IPv4-mapped one as IPv4."""
    parsed = ipaddress.ip_address(address) if isinstance(address, bytes) else address
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
