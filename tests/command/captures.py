"""Makers of captures for tests: pcap and pcapng, link layers, IP, UDP, TCP. No tests here."""

from __future__ import annotations

import struct
from ipaddress import ip_address

ETHERNET, NULL, RAW, SLL, SLL2 = 1, 0, 101, 113, 276
IPV4, IPV6, VLAN = 0x0800, 0x86DD, 0x8100
TCP, UDP = 6, 17
FIN, SYN, ACK = 1, 2, 16

ALICE, BOB = "192.0.2.1", "192.0.2.2"
TIME = 1_700_000_000


def udp(data, source=5060, destination=5070, length=None):
    return (
        struct.pack("!HHHH", source, destination, 8 + len(data) if length is None else length, 0)
        + data
    )


def tcp(sequence, data=b"", flags=ACK, source=5060, destination=5070):
    return (
        struct.pack(
            "!HHIIBBHHH", source, destination, sequence & 0xFFFFFFFF, 0, 5 << 4, flags, 65535, 0, 0
        )
        + data
    )


def ip(protocol, data, *, source=ALICE, destination=BOB, fragment=None):
    """Return an IP packet of the version of its addresses. `fragment` is (identification, offset, more)."""
    hosts = ip_address(source).packed + ip_address(destination).packed
    identification, offset, more = fragment or (0, 0, False)
    if len(hosts) == 8:
        head = struct.pack(
            "!BBHHHBBH",
            0x45,
            0,
            20 + len(data),
            identification,
            more << 13 | offset // 8,
            64,
            protocol,
            0,
        )
        return head + hosts + data
    if fragment:
        data = struct.pack("!BBHI", protocol, 0, offset | more, identification) + data
        protocol = 44
    return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + hosts + data


def ethernet(packet, *tags):
    kind = IPV4 if packet[0] >> 4 == 4 else IPV6
    kinds = b"".join(struct.pack("!HH", VLAN, tag) for tag in tags) + struct.pack("!H", kind)
    return bytes(12) + kinds + packet


def sll(packet):
    return struct.pack("!HHH8sH", 0, 1, 6, b"", IPV4) + packet


def sll2(packet):
    return struct.pack("!HHIHBB8s", IPV4, 0, 1, 1, 0, 6, b"") + packet


def null(packet):
    return struct.pack("<I", 2) + packet


def pcap(*frames, link=ETHERNET, snaplen=65535, order="<", nanoseconds=False):
    """Return a pcap file with one packet a second, each cut to `snaplen`."""
    parts = [
        struct.pack(
            f"{order}IHHIIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, link
        )
    ]
    for index, frame in enumerate(frames):
        cut = frame[:snaplen]
        fraction = 250_000_000 if nanoseconds else 250_000
        parts += struct.pack(f"{order}IIII", TIME + index, fraction, len(cut), len(frame)), cut
    return b"".join(parts)


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order="<"):
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link, order="<", resolution=6):
    options = struct.pack(f"{order}HHBxxxHH", 9, 1, resolution, 0, 0)
    return block(1, struct.pack(f"{order}HHI", link, 0, 65535) + options, order)


def enhanced(frame, number=0, order="<", time=TIME * 1_000_000 + 250_000):
    head = struct.pack(
        f"{order}IIIII", number, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame)
    )
    return block(6, head + frame, order)
