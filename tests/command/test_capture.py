"""`sippet parse` of captures: the messages that it finds, and the counts of everything else."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from subprocess import PIPE

import pytest

import sippet_gevent
from tests.conformance.corpus import OPTIONS, message, without

from .captures import (
    ACK,
    ALICE,
    BOB,
    FIN,
    NULL,
    RAW,
    SLL,
    SLL2,
    SYN,
    TCP,
    TIME,
    UDP,
    block,
    enhanced,
    ethernet,
    interface,
    ip,
    null,
    pcap,
    section,
    sll,
    sll2,
    tcp,
    udp,
)

if os.environ.get("CI") != "true":  # there, it must not be missing
    pytest.importorskip("dpkt")

from sippet_gevent.command.capture import WAITING, Capture
from sippet_gevent.command.packets import FRAGMENTED
from sippet_gevent.command.pcap import CaptureError

pytest_plugins = ["tests.programs"]

OTHER = message("Call-ID: other", body=b"tea\r\n" * 240)
THIRD = message("Call-ID: third")


def opened(data):
    return Capture(data[:4], io.BytesIO(data[4:]))


def read(data):
    """Return the messages of a capture, its counts, and the problem at its end."""
    capture = opened(data)
    found, problem = [], None
    try:
        for one in capture:
            found.append(one)
    except CaptureError as error:
        problem = str(error)
    return found, capture.counts, problem


def messages(*packets):
    """Return the bytes of the messages in a capture of these IP packets."""
    found, _, problem = read(pcap(*map(ethernet, packets)))
    assert problem is None
    return [one.data for one in found]


def segments(*parts):
    """Return the IP packets of one direction of a TCP connection.

    Each part is `(sequence number, data[, flags])`.
    """
    return [ip(TCP, tcp(*part)) for part in parts]


# ---- link layers and addresses


FRAMES = {
    "Ethernet": (1, ethernet),
    "VLAN": (1, lambda packet: ethernet(packet, 7)),
    "VLAN within VLAN": (1, lambda packet: ethernet(packet, 7, 8)),
    "Linux cooked": (SLL, sll),
    "Linux cooked, version 2": (SLL2, sll2),
    "raw IP": (RAW, bytes),
    "loopback": (NULL, null),
}


@pytest.mark.parametrize("link", FRAMES)
def test_link_layer_is_read(link):
    number, frame = FRAMES[link]
    found, counts, problem = read(pcap(frame(ip(UDP, udp(OPTIONS))), link=number))
    assert ([one.data for one in found], counts, problem) == ([OPTIONS], {}, None)


def test_unknown_link_layer_is_counted():
    _, counts, problem = read(pcap(bytes(100), link=105))
    assert (counts, problem) == ({"packets of the unknown link layer 105": 1}, None)


def test_message_has_time_and_addresses():
    found, _, _ = read(pcap(ethernet(ip(UDP, udp(OPTIONS)))))
    one = found[0]
    assert (one.time, one.transport, one.source, one.destination) == (
        TIME + 0.25,
        "UDP",
        f"{ALICE}:5060",
        f"{BOB}:5070",
    )


def test_ipv6_is_read():
    found, _, _ = read(
        pcap(ethernet(ip(UDP, udp(OPTIONS), source="2001:db8::1", destination="2001:db8::2")))
    )
    assert [(one.data, one.source, one.destination) for one in found] == [
        (OPTIONS, "[2001:db8::1]:5060", "[2001:db8::2]:5070")
    ]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap_of_either_byte_order_and_resolution_is_read(order, nanoseconds):
    found, _, _ = read(pcap(ethernet(ip(UDP, udp(OPTIONS))), order=order, nanoseconds=nanoseconds))
    assert [(one.data, one.time) for one in found] == [(OPTIONS, TIME + 0.25)]


@pytest.mark.parametrize("order", "<>")
def test_pcapng_with_interfaces_and_sections_of_different_kinds_is_read(order):
    packet = ip(UDP, udp(OPTIONS))
    other = ">" if order == "<" else "<"
    name = block(0x0B, b"a block that nobody knows", order)
    data = section(order) + interface(1, order) + name + interface(SLL, order, resolution=9)
    data += enhanced(ethernet(packet), 0, order) + enhanced(
        sll(packet), 1, order, time=TIME * 10**9 + 250_000_000
    )
    data += section(other) + interface(RAW, other) + enhanced(packet, 0, other)
    found, counts, problem = read(data)
    assert [(one.data, one.time) for one in found] == [(OPTIONS, TIME + 0.25)] * 3
    assert (counts, problem) == ({}, None)


# ---- datagrams


def test_packets_without_sip_are_counted():
    other = [
        udp(b"\r\n\r\n"),
        udp(b""),
        udp(b"jaK"),
        udp(b"\x80" + bytes(171)),
        udp(b"<134>log: Via: SIP/2.0/UDP x\n"),
        udp(b"GET / HTTP/1.1\r\n"),
    ]
    found, counts, _ = read(
        pcap(
            *[ethernet(ip(UDP, data)) for data in other],
            ethernet(ip(1, b"ping")),
            bytes(12) + b"\x08\x06arp",
        )
    )
    assert found == []
    assert counts == {
        "keep-alives": 3,
        "other datagrams": 3,
        "packets of other protocols": 1,
        "packets that are not IP": 1,
    }


def test_broken_message_is_a_message():
    assert messages(ip(UDP, udp(b"INVITE sip:a b SIP/2.0\r\n\r\n"))) == [
        b"INVITE sip:a b SIP/2.0\r\n\r\n"
    ]


HOSTS = {"IPv4": {}, "IPv6": {"source": "2001:db8::1", "destination": "2001:db8::2"}}


@pytest.mark.parametrize("version", HOSTS)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 1, 2, 0)])
def test_fragments_in_any_order_are_reassembled(version, order):
    data = udp(OTHER)
    parts = [(7, 0, True), (7, 400, True), (7, 800, False)]
    fragments = [
        ip(
            UDP,
            data[part[1] : part[1] + 400] if part[2] else data[800:],
            fragment=part,
            **HOSTS[version],
        )
        for part in parts
    ]
    assert messages(*[fragments[index] for index in order]) == [OTHER]


def test_datagram_with_missing_fragments_is_counted():
    found, counts, _ = read(pcap(ethernet(ip(UDP, udp(OTHER)[:400], fragment=(7, 0, True)))))
    assert (found, counts) == ([], {"datagrams with missing fragments": 1})


def test_kept_fragments_are_bounded():
    packets = [
        ip(UDP, udp(OTHER)[:400], fragment=(number, 0, True)) for number in range(FRAGMENTED + 10)
    ]
    capture = opened(pcap(*map(ethernet, packets)))
    for frame in capture._frames:
        assert capture._ip.packet(frame.link, frame.data) is None
        assert len(capture._ip.fragments) <= FRAGMENTED


# ---- connections


def test_segments_are_reassembled_and_cut_into_messages():
    data = OPTIONS + OTHER + b"\r\n\r\n" + THIRD
    cuts = [data[at : at + 100] for at in range(0, len(data), 100)]
    packets = segments(
        (99, b"", SYN), *[(100 + 100 * index, part) for index, part in enumerate(cuts)]
    )
    assert messages(*packets) == [OPTIONS, OTHER, THIRD]


def test_late_and_repeated_segments_are_put_in_their_places():
    data = OPTIONS + OTHER + THIRD
    parts = [
        (100, data[:50]),
        (190, data[90:300]),
        (100, data[:50]),
        (150, data[50:120]),
        (400, data[300:]),
        (390, data[290:310]),
    ]
    assert messages(*segments((99, b"", SYN), *parts)) == [OPTIONS, OTHER, THIRD]


def test_sequence_numbers_may_wrap():
    data = OPTIONS + OTHER
    start = 2**32 - 100
    parts = [(start + 500, data[500:]), (start, data[:500])]
    assert messages(*segments((start - 1, b"", SYN), *parts)) == [OPTIONS, OTHER]


def test_connection_from_before_the_capture_is_read_from_its_next_message():
    assert messages(
        *segments((500, b"the end of a body\r\n" + OPTIONS), (519 + len(OPTIONS), THIRD))
    ) == [OPTIONS, THIRD]


def test_both_directions_are_read():
    answer = message(start="SIP/2.0 200 OK")
    packets = [
        ip(TCP, tcp(1, OPTIONS)),
        ip(TCP, tcp(9, answer, source=5070, destination=5060), source=BOB, destination=ALICE),
    ]
    assert messages(*packets) == [OPTIONS, answer]


def test_missing_segment_breaks_one_message_only():
    data = OPTIONS + OTHER + THIRD + OPTIONS
    gap = slice(len(OPTIONS) + 300, len(OPTIONS) + 400)
    found, counts, _ = read(
        pcap(*map(ethernet, segments((1, data[: gap.start]), (1 + gap.stop, data[gap.stop :]))))
    )
    assert [(one.data, one.missing) for one in found] == [
        (OPTIONS, 0),
        (OTHER[:300], 100),
        (THIRD, 0),
        (OPTIONS, 0),
    ]
    assert counts == {"gaps in TCP connections": 1}


def test_bytes_behind_a_gap_are_bounded():
    parts = [(1, OPTIONS)] + [(10_000 + 1400 * index, bytes(1400)) for index in range(100)]
    capture = opened(pcap(*map(ethernet, segments(*parts))))
    for frame in capture._frames:
        list(capture._messages(capture._ip.packet(frame.link, frame.data), 0.0))
        assert all(direction.size <= WAITING for direction in capture._directions.values())


def test_message_cut_off_by_a_fin_is_found_when_the_connection_ends():
    found, _, _ = read(
        pcap(
            *map(
                ethernet,
                segments(
                    (1, OTHER[:300]), (301, b"", FIN | ACK), (9000, b"", SYN), (9001, OPTIONS)
                ),
            )
        )
    )
    assert [one.data for one in found] == [OTHER[:300], OPTIONS]


def test_connection_without_sip_is_counted():
    found, counts, _ = read(pcap(*map(ethernet, segments((1, b"GET / HTTP/1.1\r\n\r\n")))))
    assert (found, counts) == ([], {"TCP directions without SIP": 1})


@pytest.mark.rfc("3261 20.14")
def test_message_without_content_length_in_a_connection_is_broken(sippet, tmp_path):
    (tmp_path / "call.pcap").write_bytes(pcap(ethernet(ip(TCP, tcp(1, without("Content-Length"))))))
    ended = sippet("parse", "call.pcap")
    assert ended.returncode == 1
    assert (
        "problem: Content-Length: missing, and nothing else in a stream marks the end of a message"
        in ended.stdout
    )


# ---- incomplete captures


def test_datagram_cut_by_the_capture_is_a_problem(sippet, tmp_path):
    (tmp_path / "call.pcap").write_bytes(pcap(ethernet(ip(UDP, udp(OTHER))), snaplen=500))
    ended = sippet("parse", "--json", "call.pcap")
    (found,) = map(json.loads, ended.stdout.splitlines())
    missing = len(OTHER) + 8 + 20 + 14 - 500
    assert f"{missing} bytes of it were not captured" in [
        problem["problem"] for problem in found["problems"]
    ]
    assert ended.returncode == 1


WHOLE = {
    "pcap": pcap(*[ethernet(ip(UDP, udp(OPTIONS)))] * 2),
    "pcapng": section() + interface(1) + enhanced(ethernet(ip(UDP, udp(OPTIONS)))) * 2,
}


@pytest.mark.parametrize("kind", WHOLE)
def test_capture_that_ends_anywhere_is_read_as_far_as_it_goes(kind):
    data = WHOLE[kind]
    assert read(data)[2] is None
    whole = (len(data) - len(read_head(kind))) // 2
    for length in range(4, len(data)):
        found, _, problem = read(data[:length])
        packets, rest = (
            divmod(length - len(read_head(kind)), whole)
            if length >= len(read_head(kind))
            else (0, 1)
        )
        assert [one.data for one in found] == [OPTIONS] * packets
        assert (problem is None) == (
            rest == 0 or (kind == "pcapng" and length == len(section()))
        ), length


def read_head(kind):
    return WHOLE[kind][:24] if kind == "pcap" else section() + interface(1)


def test_truncated_capture_is_one_line_after_its_messages_and_exit_code_1(sippet, tmp_path):
    (tmp_path / "call.pcap").write_bytes(WHOLE["pcap"][:-1])
    ended = sippet("parse", "call.pcap")
    assert ended.returncode == 1
    assert ended.stdout.count("OPTIONS sip:bob@example.com SIP/2.0\n") == 1
    assert ended.stderr == "sippet: call.pcap: the file ends too early, after packet 1\n"


@pytest.mark.parametrize(("kind", "at"), [("pcap", 24 + 8), ("pcapng", 4)])
def test_impossible_length_is_refused_before_memory_is_allocated(kind, at):
    data = WHOLE[kind]
    found, _, problem = read(data[:at] + b"\xff\xff\xff\x7f" + data[at + 4 :])
    assert found == []
    assert re.fullmatch(r"the file is damaged: a length of \d+ bytes, after packet 0", problem)


def test_damaged_packets_are_counted():
    packet = ethernet(ip(UDP, udp(OPTIONS), source="::1", destination="::2"))
    frames = [packet[:at] for at in range(0, 80)]
    frames += [packet[:20] + bytes([kind]) + packet[21:] for kind in range(256)]
    found, counts, problem = read(pcap(*frames))
    assert problem is None
    assert counts["packets that cannot be read"] > 10


# ---- the command


def test_capture_is_read_from_standard_input_with_addresses_and_time(popen):
    data = pcap(ethernet(ip(UDP, udp(OPTIONS))), ethernet(ip(UDP, udp(b"\r\n\r\n"))))
    with popen("parse", "-", stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        shown, told = process.communicate(data, 20)
    assert process.returncode == 0
    first, second, *_ = shown.decode().splitlines()
    assert first == "- #1  192.0.2.1:5060 -> 192.0.2.2:5070  UDP  2023-11-14T22:13:20.250000Z"
    assert second == "OPTIONS sip:bob@example.com SIP/2.0"
    assert told.decode() == "sippet: standard input: skipped 1 keep-alives\n"


def test_without_dpkt_only_captures_are_exit_code_2(sippet, tmp_path):
    (tmp_path / "dpkt.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'dpkt'\", name='dpkt')\n"
    )
    (tmp_path / "one.sip").write_bytes(OPTIONS)
    (tmp_path / "call.pcap").write_bytes(WHOLE["pcap"])
    path = os.pathsep.join([str(tmp_path), str(Path(sippet_gevent.__file__).parent.parent)])
    ended = sippet("parse", "call.pcap", "one.sip", PYTHONPATH=path)
    assert ended.returncode == 2
    assert (
        ended.stderr
        == "sippet: call.pcap: captures need the package dpkt: pip install 'sippet-gevent[capture]'\n"
    )
    assert ended.stdout.startswith("one.sip #1\nOPTIONS ")
