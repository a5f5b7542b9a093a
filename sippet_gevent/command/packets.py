"""Packets: from the frames of a capture to IP packets, with their fragments reassembled."""

from __future__ import annotations

from typing import Any, NamedTuple

import dpkt

FRAGMENTED = 256
"""Most datagrams that wait for more fragments. The oldest is given up first. Each is shorter than
64 KiB."""

FRAGMENTS = 256
"""Most fragments of one datagram. Even packets of 576 bytes make 64 KiB of 120 fragments."""

INCOMPLETE = "datagrams with missing fragments"

# By link layer: the offset of the Ethernet type, and the offset of the packet. The first is None if
# the packet itself has the IP version. https://www.tcpdump.org/linktypes.html
_LINKS: dict[int, tuple[int | None, int]] = {
    0: (None, 4),  # BSD loopback
    1: (12, 14),  # Ethernet
    12: (None, 0),  # raw IP, which has another number on some systems
    14: (None, 0),
    101: (None, 0),
    108: (None, 4),  # OpenBSD loopback
    113: (14, 16),  # Linux cooked
    228: (None, 0),  # raw IPv4
    229: (None, 0),  # raw IPv6
    276: (0, 20),  # Linux cooked, version 2
}
_TAGS = (
    0x8100,
    0x88A8,
    0x9100,
)  # VLAN, IEEE 802.1Q: four bytes, with the next type in the last two
_IP_TYPES = (0x0800, 0x86DD)
_FRAGMENT_HEADER = 44

_Key = tuple[bytes, bytes, int, int]  # source, destination, protocol, identification


class Packet(NamedTuple):
    """The payload of an IP packet. The capture program has cut off `missing` bytes of it."""

    protocol: int
    source: bytes
    destination: bytes
    data: bytes
    missing: int


class _IPv4(dpkt.ip.IP):  # type: ignore[misc]  # dpkt has no types
    _protosw: dict[int, Any] = {}  # noqa: RUF012 empty, so that dpkt leaves the payload as bytes


class _IPv6(dpkt.ip6.IP6):  # type: ignore[misc]  # dpkt has no types
    _protosw: dict[int, Any] = {}  # noqa: RUF012 empty, so that dpkt leaves the payload as bytes


class _Parts(dict[int, bytes]):
    """The fragments of a packet by their offsets."""

    has_last = False
    missing = 0


class Packets:
    """Reads frames. It keeps the fragments of packets that are not complete, up to FRAGMENTED.

    `counts` has the number of frames and packets left out, by description.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.fragments: dict[_Key, _Parts] = {}

    def count(self, what: str) -> None:
        """Count one thing that is left out."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def packet(self, link: int, frame: bytes) -> Packet | None:
        """Return the IP packet of a frame, or None if there is none or it is not complete yet.

        Raises dpkt.Error for a packet that cannot be read.
        """
        if link not in _LINKS:
            self.count(f"packets of the unknown link layer {link}")
            return None
        kind_at, at = _LINKS[link]
        if kind_at is not None:
            kind = int.from_bytes(frame[kind_at : kind_at + 2], "big")
            while kind in _TAGS:
                kind = int.from_bytes(frame[at + 2 : at + 4], "big")
                at += 4
            if kind not in _IP_TYPES:
                self.count("packets that are not IP")
                return None
        data = frame[at:]
        version = data[0] >> 4 if data else 0
        try:
            if version == 4:
                return self._ipv4(data)
            if version == 6:
                return self._ipv6(data)
        except (LookupError, AttributeError) as error:
            # dpkt does not expect this packet; it may have an encrypted extension header
            raise dpkt.UnpackError from error
        self.count("packets that are not IP")
        return None

    def finish(self) -> None:
        """Give up the packets that are not complete, at the end of the capture."""
        for _ in self.fragments:
            self.count(INCOMPLETE)
        self.fragments.clear()

    def _ipv4(self, data: bytes) -> Packet | None:
        ip = _IPv4(data)
        missing = max(0, ip.len - len(data))
        if not (ip.mf or ip.offset):
            return Packet(ip.p, ip.src, ip.dst, ip.data, missing)
        key = (ip.src, ip.dst, ip.p, ip.id)
        return self._whole(key, ip.offset * 8, ip.data, bool(ip.mf), missing)

    def _ipv6(self, data: bytes) -> Packet | None:
        ip = _IPv6(data)
        missing = max(0, ip.plen + 40 - len(data))
        fragment = ip.extension_hdrs.get(_FRAGMENT_HEADER)
        if fragment is None or not (fragment.m_flag or fragment.frag_off):
            return Packet(getattr(ip, "p", -1), ip.src, ip.dst, ip.data, missing)
        key = (ip.src, ip.dst, fragment.nxt, fragment.id)
        return self._whole(key, fragment.frag_off * 8, ip.data, bool(fragment.m_flag), missing)

    def _whole(
        self, key: _Key, offset: int, data: bytes, more: bool, missing: int
    ) -> Packet | None:
        """Return the packet that this fragment completes, or None (RFC 791 §3.2, RFC 8200 §4.5)."""
        source, destination, protocol, _ = key
        parts = self.fragments.setdefault(key, _Parts())
        parts.setdefault(offset, data)
        parts.has_last |= not more
        parts.missing += missing
        if parts.has_last:
            whole = bytearray()
            for at in sorted(parts):
                if at > len(whole):
                    break
                whole[at:] = parts[at]
            else:
                del self.fragments[key]
                return Packet(protocol, source, destination, bytes(whole), parts.missing)
        if len(parts) > FRAGMENTS or sum(map(len, parts.values())) > 65535:
            del self.fragments[key]
            self.count(INCOMPLETE)
        elif len(self.fragments) > FRAGMENTED:
            del self.fragments[next(iter(self.fragments))]
            self.count(INCOMPLETE)
        return None
