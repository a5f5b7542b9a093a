"""Capture: the SIP messages of a pcap or pcapng capture, from UDP datagrams and TCP connections.

Its memory is bounded, whatever the length of the capture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

import dpkt

from .cutter import Cutter, Piece
from .packets import Packet, Packets
from .pcap import CaptureError, Readable, frames

CONNECTIONS = 2048
"""Most directions of TCP connections that are followed. The one that is silent longest is given up
first."""

WAITING = 65536
"""Most bytes that wait behind a gap in one direction of a TCP connection. If there are more, the
gap was not captured."""

SEGMENTS = 256
"""Most segments that wait behind a gap."""

_TCP, _UDP = 6, 17

# A first line that names SIP, even in a malformed message.
_SIP_LINE = re.compile(
    rb"[\r\n]*(?:SIP/[0-9]|[^\r\n]{0,8000}?[ \t]SIP/[0-9.]+[ \t]*[\r\n])", re.IGNORECASE
).match
# RFC 5626 §4.4.1, and other texts that phones send
_KEEP_ALIVE = re.compile(rb"[\r\n\0 ]*|jaK\0?").fullmatch

_Key = tuple[bytes, int, bytes, int]  # source, port, destination, port


class Found(NamedTuple):
    """One message of a capture. `missing` bytes of its datagram or connection were not captured.

    `is_rest` is True for text of a connection that follows a message and has no start line.
    """

    data: bytes
    time: float
    transport: str
    source: str
    destination: str
    missing: int = 0
    is_rest: bool = False


class _Direction:
    """One direction of a TCP connection, whose next byte has the sequence number `next`."""

    __slots__ = ("cutter", "end", "has_spoken", "next", "size", "waiting")

    def __init__(self, next: int) -> None:
        self.cutter = Cutter(skip=True)
        self.next = next
        self.end: int | None = None
        self.waiting: dict[int, bytes] = {}
        self.size = 0
        self.has_spoken = False


class Capture:
    """The messages of one capture. Iterate over it once.

        with open("call.pcap", "rb") as file:
            for found in Capture(file.read(4), file):
                print(found.source, found.data)

    `counts` says how much else the capture has, by description. `packets` is the number of packets.

    Args:
        head: the bytes of the file that have been read already, at least four.
        file: the rest of the file.
    """

    def __init__(self, head: bytes, file: Readable) -> None:
        self.packets = 0
        self._frames = frames(head, file)
        self._ip = Packets()
        self.counts = self._ip.counts
        self._directions: dict[_Key, _Direction] = {}

    def __iter__(self) -> Iterator[Found]:
        """Yield the messages.

        Raises CaptureError, after the messages before it, if the file ends too early or is damaged.
        """
        time = 0.0
        try:
            for time, link, frame in self._frames:
                self.packets += 1
                try:
                    packet = self._ip.packet(link, frame)
                    if packet is not None:
                        yield from self._messages(packet, time)
                except dpkt.Error:
                    self._ip.count("packets that cannot be read")
        except CaptureError as error:
            yield from self._rest(time)
            raise CaptureError(f"{error}, after packet {self.packets}") from None
        yield from self._rest(time)

    def _messages(self, packet: Packet, time: float) -> Iterator[Found]:
        if packet.protocol == _UDP:
            udp = dpkt.udp.UDP(packet.data)
            data = udp.data[: udp.ulen - 8] if udp.ulen >= 8 else udp.data
            missing = max(packet.missing, udp.ulen - 8 - len(data))
            if _KEEP_ALIVE(data) and not missing:
                self._ip.count("keep-alives")
            elif _SIP_LINE(data):
                source, destination = (
                    _address(packet.source, udp.sport),
                    _address(packet.destination, udp.dport),
                )
                yield Found(data, time, "UDP", source, destination, missing)
            else:
                self._ip.count("other datagrams")
        elif packet.protocol == _TCP:
            tcp = dpkt.tcp.TCP(packet.data)
            key = (packet.source, tcp.sport, packet.destination, tcp.dport)
            yield from self._segment(key, tcp, packet.missing, time)
        else:
            self._ip.count("packets of other protocols")

    def _segment(self, key: _Key, tcp: dpkt.tcp.TCP, missing: int, time: float) -> Iterator[Found]:
        """Put a segment in its place (RFC 9293 §3.4). Yield the messages that are now complete."""
        if missing:
            self._ip.count("TCP segments cut short by the capture")
        direction = self._directions.pop(key, None)
        if tcp.flags & dpkt.tcp.TH_SYN:
            if direction is not None and direction.next != _add(tcp.seq, 1):
                yield from self._close(key, direction, time)
                direction = None
            self._directions[key] = direction or _Direction(_add(tcp.seq, 1))
            return
        if direction is None:
            if not tcp.data:
                return
            direction = _Direction(tcp.seq)
        # to the end of the dict, because the first one there is given up first
        self._directions[key] = direction
        if tcp.flags & (dpkt.tcp.TH_FIN | dpkt.tcp.TH_RST):
            direction.end = _add(tcp.seq, len(tcp.data) + missing)
        if tcp.data and len(direction.waiting.get(tcp.seq, b"")) < len(tcp.data):
            direction.size += len(tcp.data) - len(direction.waiting.get(tcp.seq, b""))
            direction.waiting[tcp.seq] = tcp.data
        yield from self._in_order(key, direction, time)
        while direction.size > WAITING or len(direction.waiting) > SEGMENTS:
            yield from self._skip_gap(key, direction, time)
        if direction.end is not None and _distance(direction.end, direction.next) <= 0:
            del self._directions[key]
            yield from self._close(key, direction, time)
        if len(self._directions) > CONNECTIONS:
            silent = next(iter(self._directions))
            yield from self._close(silent, self._directions.pop(silent), time)

    def _in_order(self, key: _Key, direction: _Direction, time: float) -> Iterator[Found]:
        """Read the waiting segments up to the next gap. Earlier bytes are retransmissions."""
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

    def _skip_gap(self, key: _Key, direction: _Direction, time: float) -> Iterator[Found]:
        """Give up the missing bytes before the waiting segments, because they were not captured."""
        sequence = min(direction.waiting, key=lambda number: _distance(number, direction.next))
        missing = _distance(sequence, direction.next)
        if direction.has_spoken:
            self._ip.count("gaps in TCP connections")
        yield from self._found(key, direction, direction.cutter.finish(), time, missing)
        direction.cutter = Cutter(skip=True)
        direction.next = sequence
        yield from self._in_order(key, direction, time)

    def _close(self, key: _Key, direction: _Direction, time: float) -> Iterator[Found]:
        while direction.waiting:
            yield from self._skip_gap(key, direction, time)
        yield from self._found(key, direction, direction.cutter.finish(), time)
        if not direction.has_spoken:
            self._ip.count("TCP directions without SIP")

    def _found(
        self,
        key: _Key,
        direction: _Direction,
        pieces: Iterable[Piece],
        time: float,
        missing: int = 0,
    ) -> Iterator[Found]:
        source, source_port, destination, destination_port = key
        for piece in pieces:
            direction.has_spoken = True
            addresses = _address(source, source_port), _address(destination, destination_port)
            yield Found(piece.data, time, "TCP", *addresses, missing, piece.is_rest)

    def _rest(self, time: float) -> Iterator[Found]:
        """Yield the messages left in the connections at the end of the capture."""
        for key, direction in self._directions.items():
            yield from self._close(key, direction, time)
        self._directions.clear()
        self._ip.finish()


def _address(host: bytes, port: int) -> str:
    return f"[{ip_address(host)}]:{port}" if len(host) == 16 else f"{ip_address(host)}:{port}"


def _add(sequence: int, count: int) -> int:
    return (sequence + count) & 0xFFFFFFFF


def _distance(sequence: int, other: int) -> int:
    """Return how far a sequence number is ahead of another, modulo 2**32 (RFC 9293 §3.4)."""
    return ((sequence - other + 2**31) & 0xFFFFFFFF) - 2**31
