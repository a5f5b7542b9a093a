"""SIP messages out of a pcap or pcapng capture: packets to datagrams and connections to messages.

The file formats and the headers of IP, UDP and TCP are read by dpkt; this is what lies between
them. All that is kept of a capture is bounded, however long it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol

import dpkt
from dpkt import pcapng as ng

from .cutter import Cutter

BLOCK = 16 * 1024 * 1024
"""Octets of one packet or block of the file, at most: capture programs write 256 KiB, a damaged
length says anything."""

FRAGMENTED = 256
"""Datagrams that wait for their other fragments, at most; the oldest is given up first. Each is
under 64 KiB."""

FRAGMENTS = 256
"""Fragments of one datagram, at most: 64 KiB are 120 where packets are as small as 576 octets."""

CONNECTIONS = 2048
"""TCP connections followed at a time, each direction for itself; the one that was silent longest is
given up first."""

WAITING = 65536
"""Octets behind a gap in a direction of a TCP connection, at most: then what is missing was not
captured."""

SEGMENTS = 256
"""Segments behind a gap, at most, for the same reason."""

# How a pcapng file begins; any other is taken for pcap.
_MAGIC_NG = b"\x0a\x0d\x0d\x0a"

# Link layer: offset of the Ethernet type (None: there is none, the packet tells its version
# itself), and of the packet. https://www.tcpdump.org/linktypes.html
_LINKS: dict[int, tuple[int | None, int]] = {
    0: (None, 4),  # BSD loopback
    1: (12, 14),  # Ethernet
    12: (None, 0),  # raw IP: three numbers by operating system
    14: (None, 0),
    101: (None, 0),
    108: (None, 4),  # OpenBSD loopback
    113: (14, 16),  # Linux cooked
    228: (None, 0),  # raw IPv4
    229: (None, 0),  # raw IPv6
    276: (0, 20),  # Linux cooked, version 2
}
_TAGS = (0x8100, 0x88A8, 0x9100)  # VLAN, IEEE 802.1Q: four octets, the next type in the last two
_IP_TYPES = (0x0800, 0x86DD)
_TCP, _UDP = 6, 17
_FRAGMENT_HEADER = 44

# What calls itself SIP in its first line, even where that is broken.
_SIP_LINE = re.compile(
    rb"[\r\n]*(?:SIP/[0-9]|[^\r\n]{0,8000}?[ \t]SIP/[0-9.]+[ \t]*[\r\n])", re.IGNORECASE
).match
# RFC 5626 §4.4.1, and what phones send besides
_KEEP_ALIVE = re.compile(rb"[\r\n\0 ]*|jaK\0?").fullmatch

_INCOMPLETE = "datagrams whose fragments are not all there"


class Readable(Protocol):
    """A binary file, as far as it is used here: read() gives all that was asked for, or what is
    left."""

    def read(self, octets: int, /) -> bytes: ...


class CaptureError(Exception):
    """The capture file cannot be read further."""


class Found(NamedTuple):
    """One message of a capture. `missing` octets of its datagram or connection were not captured.

    `is_rest`: it stands behind a message of a connection and does not begin like one.
    """

    data: bytes
    time: float
    transport: str
    source: str
    destination: str
    missing: int = 0
    is_rest: bool = False


class _IPv4(dpkt.ip.IP):  # type: ignore[misc]
    _protosw: dict[int, Any] = {}  # noqa: RUF012 none: what is inside stays as it is


class _IPv6(dpkt.ip6.IP6):  # type: ignore[misc]
    _protosw: dict[int, Any] = {}  # noqa: RUF012 none: what is inside stays as it is


class _Packet(NamedTuple):
    """What IP has carried: `missing` octets of it were cut off by the capture program."""

    protocol: int
    source: bytes
    destination: bytes
    data: bytes
    missing: int


class _Parts(dict[int, bytes]):
    """The fragments of a packet by their offsets."""

    has_last = False
    missing = 0


class _Frame(NamedTuple):
    """One packet of the file: seconds since 1970, number of its link layer, octets."""

    time: float
    link: int
    data: bytes


class _Direction:
    """One direction of a TCP connection."""

    __slots__ = ("cutter", "end", "has_spoken", "next", "size", "waiting")

    def __init__(self) -> None:
        self.cutter = Cutter(skip=True)
        self.next: int | None = None
        self.end: int | None = None
        self.waiting: dict[int, bytes] = {}
        self.size = 0
        self.has_spoken = False


class Capture:
    """Reads one capture: iterate over it for its messages; `counts` tells of everything else that
    was in it.

    `head` is what has been read of the file already.
    """

    def __init__(self, head: bytes, file: Readable) -> None:
        self.counts: dict[str, int] = {}
        self.packets = 0
        self._frames = _frames(_Checked(head, file), head[:4])
        self._fragments: dict[tuple[Any, ...], _Parts] = {}
        self._directions: dict[tuple[Any, ...], _Direction] = {}

    def __iter__(self) -> Iterator[Found]:
        """Yield the messages. Raises CaptureError, after those before it, where the file ends too
        early or is damaged."""
        time = 0.0
        try:
            for time, link, frame in self._frames:
                self.packets += 1
                try:
                    packet = self._packet(link, frame)
                    if packet is not None:
                        yield from self._messages(packet, time)
                except dpkt.Error:
                    self._count("packets that cannot be read")
        except CaptureError as error:
            yield from self._rest(time)
            raise CaptureError(f"{error}, after packet {self.packets}") from None
        yield from self._rest(time)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # ---- IP

    def _packet(self, link: int, frame: bytes) -> _Packet | None:
        """Return what an IP packet carries, put together from its fragments; None for what is none,
        or not complete."""
        if link not in _LINKS:
            self._count(f"packets of link layer {link}, which is not read here")
            return None
        kind_at, at = _LINKS[link]
        if kind_at is not None:
            kind = int.from_bytes(frame[kind_at : kind_at + 2], "big")
            while kind in _TAGS:
                kind = int.from_bytes(frame[at + 2 : at + 4], "big")
                at += 4
            if kind not in _IP_TYPES:
                self._count("packets that are not IP")
                return None
        data = frame[at:]
        version = data[0] >> 4 if data else 0
        try:
            if version == 4:
                return self._ipv4(_IPv4(data), len(data))
            if version == 6:
                return self._ipv6(_IPv6(data), len(data))
        except (
            LookupError,
            AttributeError,
        ) as error:  # what dpkt does not look for: an extension header that is encrypted
            raise dpkt.UnpackError from error
        self._count("packets that are not IP")
        return None

    def _ipv4(self, ip: Any, length: int) -> _Packet | None:
        missing = max(0, ip.len - length)
        if not (ip.mf or ip.offset):
            return _Packet(ip.p, ip.src, ip.dst, ip.data, missing)
        key = (ip.src, ip.dst, ip.p, ip.id)
        return self._whole(key, ip.offset * 8, ip.data, bool(ip.mf), missing)

    def _ipv6(self, ip: Any, length: int) -> _Packet | None:
        missing = max(0, ip.plen + 40 - length)
        fragment = ip.extension_hdrs.get(_FRAGMENT_HEADER)
        if fragment is None or not (fragment.m_flag or fragment.frag_off):
            return _Packet(getattr(ip, "p", -1), ip.src, ip.dst, ip.data, missing)
        key = (ip.src, ip.dst, fragment.nxt, fragment.id)
        return self._whole(key, fragment.frag_off * 8, ip.data, bool(fragment.m_flag), missing)

    def _whole(
        self, key: tuple[Any, ...], offset: int, data: bytes, more: bool, missing: int
    ) -> _Packet | None:
        """Return the packet that this fragment completes (RFC 791 §3.2, RFC 8200 §4.5), or None."""
        source, destination, protocol, _ = key
        parts = self._fragments.setdefault(key, _Parts())
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
                del self._fragments[key]
                return _Packet(protocol, source, destination, bytes(whole), parts.missing)
        if len(parts) > FRAGMENTS or sum(map(len, parts.values())) > 65535:
            del self._fragments[key]
            self._count(_INCOMPLETE)
        elif len(self._fragments) > FRAGMENTED:
            del self._fragments[next(iter(self._fragments))]
            self._count(_INCOMPLETE)
        return None

    # ---- UDP and TCP

    def _messages(self, packet: _Packet, time: float) -> Iterator[Found]:
        if packet.protocol == _UDP:
            udp = dpkt.udp.UDP(packet.data)
            data = udp.data[: udp.ulen - 8] if udp.ulen >= 8 else udp.data
            missing = max(packet.missing, udp.ulen - 8 - len(data))
            if _KEEP_ALIVE(data) and not missing:
                self._count("keep-alives")
            elif _SIP_LINE(data):
                source, destination = (
                    _address(packet.source, udp.sport),
                    _address(packet.destination, udp.dport),
                )
                yield Found(data, time, "UDP", source, destination, missing)
            else:
                self._count("other datagrams")
        elif packet.protocol == _TCP:
            tcp = dpkt.tcp.TCP(packet.data)
            key = (packet.source, tcp.sport, packet.destination, tcp.dport)
            yield from self._segment(key, tcp, packet.missing, time)
        else:
            self._count("packets of other protocols")

    def _segment(
        self, key: tuple[Any, ...], tcp: Any, missing: int, time: float
    ) -> Iterator[Found]:
        """Put a segment in its place (RFC 9293 §3.4); yield the messages that have become
        complete."""
        if missing:
            self._count("TCP segments cut short by the capture")
        direction = self._directions.pop(key, None)
        if tcp.flags & dpkt.tcp.TH_SYN:
            if direction is not None and direction.next != _add(tcp.seq, 1):
                yield from self._close(key, direction, time)
                direction = None
            if direction is None:
                direction = _Direction()
                direction.next = _add(tcp.seq, 1)
            self._directions[key] = direction
            return
        if direction is None:
            if not tcp.data:
                return
            direction = _Direction()
            direction.next = tcp.seq
        self._directions[key] = direction  # now the one that has spoken last
        if tcp.flags & (dpkt.tcp.TH_FIN | dpkt.tcp.TH_RST):
            direction.end = _add(tcp.seq, len(tcp.data) + missing)
        if tcp.data and len(direction.waiting.get(tcp.seq, b"")) < len(tcp.data):
            direction.size += len(tcp.data) - len(direction.waiting.get(tcp.seq, b""))
            direction.waiting[tcp.seq] = tcp.data
        yield from self._in_order(key, direction, time)
        while direction.size > WAITING or len(direction.waiting) > SEGMENTS:
            yield from self._leap(key, direction, time)
        if direction.end is not None and _distance(direction.end, direction.next) <= 0:
            del self._directions[key]
            yield from self._close(key, direction, time)
        if len(self._directions) > CONNECTIONS:
            silent = next(iter(self._directions))
            yield from self._close(silent, self._directions.pop(silent), time)

    def _in_order(
        self, key: tuple[Any, ...], direction: _Direction, time: float
    ) -> Iterator[Found]:
        """Hand on what waits, as far as it goes on where the last segment ended; what came before
        is a retransmission."""
        while direction.waiting:
            sequence = min(direction.waiting, key=lambda number: _distance(number, direction.next))
            known = -_distance(sequence, direction.next)
            if known < 0:
                return
            data = direction.waiting.pop(sequence)
            direction.size -= len(data)
            if known < len(data):
                direction.next = _add(sequence, len(data))
                yield from self._found(key, direction, direction.cutter.feed(data[known:]), time)

    def _leap(self, key: tuple[Any, ...], direction: _Direction, time: float) -> Iterator[Found]:
        """Give up what is missing before the segments that wait: it was not captured."""
        sequence = min(direction.waiting, key=lambda number: _distance(number, direction.next))
        missing = _distance(sequence, direction.next)
        if direction.has_spoken:
            self._count("gaps in TCP connections")
        yield from self._found(key, direction, direction.cutter.finish(), time, missing)
        direction.cutter = Cutter(skip=True)
        direction.next = sequence
        yield from self._in_order(key, direction, time)

    def _close(self, key: tuple[Any, ...], direction: _Direction, time: float) -> Iterator[Found]:
        while direction.waiting:
            yield from self._leap(key, direction, time)
        yield from self._found(key, direction, direction.cutter.finish(), time)
        if not direction.has_spoken:
            self._count("TCP directions without SIP")

    def _found(
        self,
        key: tuple[Any, ...],
        direction: _Direction,
        pieces: Any,
        time: float,
        missing: int = 0,
    ) -> Iterator[Found]:
        source, source_port, destination, destination_port = key
        for piece in pieces:
            direction.has_spoken = True
            addresses = _address(source, source_port), _address(destination, destination_port)
            yield Found(piece.data, time, "TCP", *addresses, missing, piece.is_rest)

    def _rest(self, time: float) -> Iterator[Found]:
        """Yield what is left of the connections at the end of the capture."""
        for key, direction in self._directions.items():
            yield from self._close(key, direction, time)
        self._directions.clear()
        for _ in self._fragments:
            self._count(_INCOMPLETE)
        self._fragments.clear()


def _address(host: bytes, port: int) -> str:
    return f"[{ip_address(host)}]:{port}" if len(host) == 16 else f"{ip_address(host)}:{port}"


def _add(sequence: int, octets: int) -> int:
    return (sequence + octets) & 0xFFFFFFFF


def _distance(sequence: int, other: int | None) -> int:
    """Return how far a sequence number is ahead of another; numbers begin anew after 2**32 - 1 (RFC
    9293 §3.4)."""
    return ((sequence - (other or 0) + 2**31) & 0xFFFFFFFF) - 2**31


# ---- the file


class _Checked:
    """A file for dpkt, which takes what read() gives: here that is all that was asked for, or b""
    at the end of the file."""

    def __init__(self, head: bytes, file: Readable) -> None:
        self._head = head
        self._file = file
        self.is_at_end = False

    def read(self, octets: int) -> bytes:
        """Read so many octets. Raises CaptureError where the file ends within them, and for a
        length that cannot be."""
        if not 0 <= octets <= BLOCK:
            raise CaptureError("the file is damaged: it tells a length that cannot be")
        data = self._head[:octets]
        self._head = self._head[octets:]
        data += self._file.read(octets - len(data))
        self.is_at_end = len(data) < octets
        if data and self.is_at_end:
            raise CaptureError("the file ends too early")
        return data


def _frames(file: _Checked, magic: bytes) -> Iterator[_Frame]:
    """Yield the packets of the file. Raises CaptureError."""
    try:
        for frame in _frames_ng(file) if magic == _MAGIC_NG else _frames_classic(file):
            if file.is_at_end:
                raise CaptureError("the file ends too early")
            yield frame
    except (dpkt.Error, struct.error, ValueError, LookupError, ArithmeticError) as error:
        raise CaptureError(f"the file is damaged: {type(error).__name__}") from error


def _frames_classic(file: _Checked) -> Iterator[_Frame]:
    reader = dpkt.pcap.Reader(file)
    link = reader.datalink() & 0xFFFF  # what stands above is the length of a checksum
    for time, frame in reader:
        yield _Frame(float(time), link, frame)


_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}


def _frames_ng(file: _Checked) -> Iterator[_Frame]:
    """Read the blocks of a pcapng file: dpkt's own reader knows one interface only, and programs
    capture on several."""
    order = ""
    interfaces: list[_Interface] = []
    while head := file.read(8):
        if head[:4] == _MAGIC_NG:  # a section begins
            head += file.read(4)
            if head[8:] not in _ORDERS:
                raise CaptureError("the file is damaged: it has no byte order")
            order = _ORDERS[head[8:]]
            interfaces = []
        kind, length = struct.unpack(f"{order}II", head[:8])
        block = head + file.read(length - len(head))
        if file.is_at_end:
            raise CaptureError("the file ends too early")
        if kind == ng.PCAPNG_BT_IDB:
            interfaces.append(_interface(block, order))
        elif kind in _PACKET_BLOCKS:
            packet = _PACKET_BLOCKS[kind][order]()
            packet.unpack_hdr(block)
            interface = interfaces[packet.iface_id]
            time = interface.offset + (packet.ts_high << 32 | packet.ts_low) / interface.per_second
            at = packet.__hdr_len__ - 4  # the length is repeated at the end of the block
            yield _Frame(time, interface.link, block[at : at + packet.caplen])
        elif kind == ng.PCAPNG_BT_SPB:
            yield _Frame(
                0.0,
                interfaces[0].link,
                block[12 : 12 + struct.unpack(f"{order}I", block[8:12])[0]][: length - 16],
            )


_PACKET_BLOCKS = {
    ng.PCAPNG_BT_EPB: {"<": ng.EnhancedPacketBlockLE, ">": ng.EnhancedPacketBlock},
    ng.PCAPNG_BT_PB: {"<": ng.PacketBlockLE, ">": ng.PacketBlock},
}


class _Interface(NamedTuple):
    """Where packets were captured: link layer, units of time in a second, seconds to add."""

    link: int
    per_second: int
    offset: int


def _interface(block: bytes, order: str) -> _Interface:
    described = (ng.InterfaceDescriptionBlockLE if order == "<" else ng.InterfaceDescriptionBlock)(
        block
    )
    options = {option.code: option.data for option in described.opts}
    resolution = options.get(ng.PCAPNG_OPT_IF_TSRESOL, b"\6")[0]
    per_second = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    offset = struct.unpack(f"{order}q", options.get(ng.PCAPNG_OPT_IF_TSOFFSET, bytes(8)))[0]
    return _Interface(described.linktype, per_second, offset)
