"""The packets of a pcap or pcapng file, read with dpkt: frames()."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import dpkt
from dpkt import pcapng as ng

BLOCK = 16 * 1024 * 1024
"""Most bytes of one packet or block of the file. Capture programs write up to 256 KiB, but a
damaged file may have any length there."""

# How a pcapng file begins. Any other file is read as pcap.
_MAGIC_NG = b"\x0a\x0d\x0d\x0a"


class CaptureError(Exception):
    """The capture file ends too early, or is damaged."""


class Readable(Protocol):
    """A binary file whose read() returns all bytes asked for, or those that are left."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, or fewer at the end of the file."""


class Frame(NamedTuple):
    """One packet of the file: seconds since 1970, the number of its link layer, its bytes."""

    time: float
    link: int
    data: bytes


def frames(head: bytes, file: Readable) -> Iterator[Frame]:
    """Yield the packets of a file.

    Args:
        head: the bytes of the file that are read already, at least four.
        file: the rest of the file.

    Raises:
        CaptureError: the file ends too early, or is damaged.
    """
    checked = _Checked(head, file)
    try:
        for frame in _pcapng(checked) if head[:4] == _MAGIC_NG else _pcap(checked):
            if checked.is_at_end:
                raise CaptureError("the file ends too early")
            yield frame
    except (dpkt.Error, struct.error, ValueError, LookupError, ArithmeticError) as error:
        raise CaptureError(f"the file is damaged: {type(error).__name__}") from error


class _Checked:
    """A file for dpkt, which does not look at how much a read() returns."""

    def __init__(self, head: bytes, file: Readable) -> None:
        self._head = head
        self._file = file
        self.is_at_end = False

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or b"" at the end of the file.

        Raises CaptureError if the file ends within them, or if no packet can be so long.
        """
        if not 0 <= size <= BLOCK:
            raise CaptureError(f"the file is damaged: a length of {size} bytes")
        data = self._head[:size]
        self._head = self._head[size:]
        data += self._file.read(size - len(data))
        self.is_at_end = len(data) < size
        if data and self.is_at_end:
            raise CaptureError("the file ends too early")
        return data


def _pcap(file: _Checked) -> Iterator[Frame]:
    reader = dpkt.pcap.Reader(file)
    link = reader.datalink() & 0xFFFF  # the higher bits are the length of a checksum
    for time, frame in reader:
        yield Frame(float(time), link, frame)


_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}

_PACKET_BLOCKS = {
    ng.PCAPNG_BT_EPB: {"<": ng.EnhancedPacketBlockLE, ">": ng.EnhancedPacketBlock},
    ng.PCAPNG_BT_PB: {"<": ng.PacketBlockLE, ">": ng.PacketBlock},
}


def _pcapng(file: _Checked) -> Iterator[Frame]:
    """Read the blocks of a pcapng file.

    The reader of dpkt knows one interface only, but programs capture on several.
    """
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
            yield Frame(time, interface.link, block[at : at + packet.caplen])
        elif kind == ng.PCAPNG_BT_SPB:
            (original,) = struct.unpack(f"{order}I", block[8:12])
            yield Frame(0.0, interfaces[0].link, block[12 : 12 + original][: length - 16])


class _Interface(NamedTuple):
    """An interface: its link layer, clock ticks per second, and seconds to add to each time."""

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
