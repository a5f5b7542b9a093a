"""Offers and answers: the exchanges of RFC 3264 §10, each of its rules, and hold by RFC 6337."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message.sdp import (
    DIRECTIONS,
    G722,
    G729,
    OPUS,
    PCMA,
    PCMU,
    SDP,
    TELEPHONE_EVENT,
    Attribute,
    Bandwidth,
    Codec,
    Connection,
    MediaDescription,
    MediaStream,
    Origin,
    add_stream,
    agree_fmtp,
    answer,
    answer_direction,
    answer_faults,
    check_answer,
    check_modification,
    hold,
    initial_offer,
    modification_faults,
    modify,
    remove_stream,
    resume,
)


def text(lines: str) -> str:
    return "\r\n".join(lines.strip("\n").split("\n")) + "\r\n"


ALICE = Origin("alice", 2890844526, 2890844526, "IN", "IP4", "host.anywhere.com")
BOB = Origin("bob", 2890844730, 2890844730, "IN", "IP4", "host.example.com")
G723 = Codec("G723", 8000)
H261 = Codec("H261", 90000)
MPV = Codec("MPV", 90000)
EVENTS = Codec("telephone-events", 8000, payload_type=110)  # sic: §10.1 has the plural


def described(origin: Origin, version: int, streams: str) -> str:
    head = f"v=0\no={origin._replace(session_version=version)}\ns= \nc=IN IP4 {origin.address}\nt=0 0\n"
    return text(head + streams.strip("\n"))


# ---- RFC 3264 §10.1

OFFER = described(ALICE, 2890844526, """
m=audio 49170 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 51372 RTP/AVP 31
a=rtpmap:31 H261/90000
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
""")  # fmt: skip
ANSWER = described(BOB, 2890844730, """
m=audio 49920 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 0 RTP/AVP 31
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
""")  # fmt: skip
SECOND_OFFER = described(BOB, 2890844731, """
m=audio 65422 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 0 RTP/AVP 31
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
m=audio 51434 RTP/AVP 110
a=rtpmap:110 telephone-events/8000
a=recvonly
""")  # fmt: skip
SECOND_ANSWER = described(ALICE, 2890844527, """
m=audio 49170 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 0 RTP/AVP 31
a=rtpmap:31 H261/90000
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
m=audio 53122 RTP/AVP 110
a=rtpmap:110 telephone-events/8000
a=sendonly
""")  # fmt: skip


@pytest.mark.rfc("3264 10.1")
def test_alice_offers_as_in_10_1():
    streams = [
        MediaStream("audio", 49170, [PCMU]),
        MediaStream("video", 51372, [H261]),
        MediaStream("video", 53000, [MPV]),
    ]
    assert str(initial_offer(streams, address="host.anywhere.com", origin=ALICE, name=" ")) == OFFER


@pytest.mark.rfc("3264 10.1")
def test_bob_answers_as_in_10_1():
    streams = [MediaStream("audio", 49920, [PCMU]), MediaStream("video", 53000, [MPV])]
    assert (
        str(answer(SDP.parse(OFFER), streams, address="host.example.com", origin=BOB, name=" "))
        == ANSWER
    )


@pytest.mark.rfc("3264 10.1")
def test_bob_offers_again_as_in_10_1():
    streams = [
        MediaStream("audio", 65422, [PCMU]),
        None,
        MediaStream("video", 53000, [MPV]),
        MediaStream("audio", 51434, [EVENTS], direction="recvonly"),
    ]
    assert str(modify(SDP.parse(ANSWER), streams)) == SECOND_OFFER


@pytest.mark.rfc("3264 10.1")
def test_alice_answers_again_as_in_10_1():
    streams = [
        MediaStream("audio", 49170, [PCMU]),
        MediaStream("video", 53000, [MPV]),
        MediaStream("audio", 53122, [EVENTS]),
    ]
    made = answer(SDP.parse(SECOND_OFFER), streams, previous=SDP.parse(OFFER))
    # §8.2: a stream with port 0 may keep its attributes, as hers does there, or not
    assert str(made) == SECOND_ANSWER.replace("a=rtpmap:31 H261/90000\r\n", "")


# ---- RFC 3264 §10.2

ONE_OF_N = described(ALICE, 2890844526, """
m=audio 62986 RTP/AVP 0 4 18
a=rtpmap:0 PCMU/8000
a=rtpmap:4 G723/8000
a=rtpmap:18 G729/8000
a=inactive
""")  # fmt: skip
TWO_OF_N = described(BOB, 2890844731, """
m=audio 54344 RTP/AVP 0 4
a=rtpmap:0 PCMU/8000
a=rtpmap:4 G723/8000
a=inactive
""")  # fmt: skip
LOCKED = described(ALICE, 2890844527, """
m=audio 62986 RTP/AVP 4
a=rtpmap:4 G723/8000
a=sendrecv
""")  # fmt: skip
LOCKED_ANSWER = described(BOB, 2890844732, """
m=audio 54344 RTP/AVP 4
a=rtpmap:4 G723/8000
a=sendrecv
""")  # fmt: skip
BOBS = [MediaStream("audio", 54344, [PCMU, G723])]


@pytest.mark.rfc("3264 10.2")
def test_alice_offers_as_in_10_2():
    streams = [MediaStream("audio", 62986, [PCMU, G723, G729], direction="inactive")]
    assert (
        str(initial_offer(streams, address="host.anywhere.com", origin=ALICE, name=" ")) == ONE_OF_N
    )


@pytest.mark.rfc("3264 10.2")
def test_bob_answers_as_in_10_2():
    origin = BOB._replace(session_version=2890844731)
    assert (
        str(answer(SDP.parse(ONE_OF_N), BOBS, address="host.example.com", origin=origin, name=" "))
        == TWO_OF_N
    )


@pytest.mark.rfc("3264 10.2")
def test_alice_locks_the_codec_as_in_10_2():
    assert str(modify(SDP.parse(ONE_OF_N), [MediaStream("audio", 62986, [G723])])) == LOCKED


@pytest.mark.rfc("3264 10.2")
def test_bob_accepts_the_codec_as_in_10_2():
    assert str(answer(SDP.parse(LOCKED), BOBS, previous=SDP.parse(TWO_OF_N))) == LOCKED_ANSWER


EXCHANGES = [
    (OFFER, ANSWER),
    (SECOND_OFFER, SECOND_ANSWER),
    (ONE_OF_N, TWO_OF_N),
    (LOCKED, LOCKED_ANSWER),
]
MODIFICATIONS = [
    (ANSWER, SECOND_OFFER),
    (OFFER, SECOND_ANSWER),
    (ONE_OF_N, LOCKED),
    (TWO_OF_N, LOCKED_ANSWER),
]


@pytest.mark.rfc("3264 10")
@pytest.mark.parametrize("offered, answered", EXCHANGES)
def test_answers_of_the_rfc_have_no_faults(offered, answered):
    assert answer_faults(SDP.parse(offered), SDP.parse(answered)) == []


@pytest.mark.rfc("3264 10")
@pytest.mark.parametrize("previous, new", MODIFICATIONS)
def test_later_descriptions_of_the_rfc_have_no_faults(previous, new):
    assert modification_faults(SDP.parse(previous), SDP.parse(new)) == []


@pytest.mark.parametrize("whole", [whole for exchange in EXCHANGES for whole in exchange])
def test_descriptions_of_the_rfc_come_back_as_they_were(whole):
    assert str(SDP.parse(whole)) == whole


# ---- offers


def offer_of(*streams: MediaStream) -> SDP:
    return initial_offer(streams, address="192.0.2.1")


def peer(*lines: str, session: str = "c=IN IP4 192.0.2.1\nt=0 0") -> SDP:
    return SDP.parse(text("\n".join(["v=0", "o=- 7 7 IN IP4 192.0.2.1", "s=-", session, *lines])))


def reply(offer: SDP, *streams: MediaStream, **more) -> SDP:
    return answer(offer, streams, address="192.0.2.2", **more)


AUDIO = MediaStream("audio", 4000, (PCMU, PCMA, TELEPHONE_EVENT))
VIDEO = MediaStream("video", 5000, (Codec("H264", 90000, fmtp="packetization-mode=1"),))
FAX = MediaStream(
    "image", 6000, proto="udptl", formats=("t38",), attributes=(Attribute("T38FaxVersion", "0"),)
)


@pytest.mark.rfc("3264 5")
def test_offer_may_have_no_streams():
    assert offer_of().media == ()


@pytest.mark.rfc("3551 6")
def test_codecs_get_static_payload_types_and_free_dynamic_ones():
    codecs = [OPUS, G722, PCMU, Codec("X", 8000, payload_type=96), TELEPHONE_EVENT]
    assert offer_of(MediaStream("audio", 4000, codecs)).media[0].formats == (
        "97",
        "9",
        "0",
        "96",
        "98",
    )


@pytest.mark.rfc("3264 5.1")
def test_every_codec_offered_has_its_rtpmap_and_parameters():
    section = offer_of(AUDIO).media[0]
    assert (len(section.attributes.all("rtpmap")), section.fmtps) == (3, {"96": "0-15"})


def test_stream_of_another_protocol_is_offered_by_its_formats():
    assert str(offer_of(FAX).media[0]) == "m=image 6000 udptl t38\r\na=T38FaxVersion:0\r\n"


@pytest.mark.parametrize(
    "stream",
    [
        AUDIO._replace(codecs=(Codec("X", 1, payload_type=96), Codec("Y", 1, payload_type=96))),
        AUDIO._replace(codecs=tuple(Codec(f"X{number}", 8000) for number in range(33))),
        AUDIO._replace(codecs=()),
        AUDIO._replace(direction="both"),
        AUDIO._replace(port=65536),
        AUDIO._replace(media="au dio"),
        AUDIO._replace(codecs=(Codec("X\r\n", 1),)),
    ],
)
def test_invalid_stream_cannot_be_offered(stream):
    with pytest.raises(InvalidValue):
        offer_of(stream)


@pytest.mark.rfc("3264 5")
@pytest.mark.parametrize("fields", [{"session_id": 2**63}, {"session_version": 2**62 - 1}])
def test_first_offer_has_numbers_that_do_not_roll_over(fields):
    with pytest.raises(InvalidValue):
        initial_offer(
            [AUDIO], address="192.0.2.1", origin=Origin.make("192.0.2.1")._replace(**fields)
        )


@pytest.mark.rfc("8866 5.7")
def test_stream_without_any_address_cannot_be_offered():
    with pytest.raises(InvalidValue):
        initial_offer([AUDIO], origin=Origin.make("192.0.2.1"))


# ---- answers


@pytest.mark.rfc("3264 6.1")
@pytest.mark.parametrize("offered", DIRECTIONS)
@pytest.mark.parametrize("wanted", DIRECTIONS)
def test_answered_direction_is_one_of_the_rfc(offered, wanted):
    allowed = {
        "sendrecv": set(DIRECTIONS),
        "sendonly": {"recvonly", "inactive"},
        "recvonly": {"sendonly", "inactive"},
        "inactive": {"inactive"},
    }
    assert answer_direction(offered, wanted) in allowed[offered]


@pytest.mark.rfc("3264 6.1")
@pytest.mark.parametrize(
    "offered, wanted, answered",
    [
        ("sendonly", "sendrecv", "recvonly"),
        ("recvonly", "sendrecv", "sendonly"),
        ("inactive", "sendrecv", "inactive"),
        ("sendrecv", "sendrecv", "sendrecv"),
        ("sendrecv", "recvonly", "recvonly"),
        ("sendonly", "sendonly", "inactive"),
    ],
)
def test_answered_direction_is_the_reverse_of_the_offer(offered, wanted, answered):
    made = reply(peer("m=audio 1 RTP/AVP 0", f"a={offered}"), AUDIO._replace(direction=wanted))
    assert made.media[0].direction == answered


@pytest.mark.rfc("6337 5.4")
@pytest.mark.parametrize(
    "line, answered",
    [("a=sendrecv", "sendrecv"), ("a=sendonly", "recvonly"), ("a=inactive", "inactive")],
)
def test_hold_by_address_is_answered_by_its_direction_attribute(line, answered):
    made = reply(peer("m=audio 1 RTP/AVP 0", "c=IN IP4 0.0.0.0", line), AUDIO)
    assert (made.media[0].direction, made.media[0].port) == (answered, 4000)


def test_unknown_direction_is_an_invalid_value():
    with pytest.raises(InvalidValue):
        answer_direction("sendrecv", "both")


@pytest.mark.rfc("3264 6.1")
def test_formats_have_the_order_and_numbers_of_the_offer():
    offered = peer(
        "m=audio 1 RTP/AVP 111 8 110 0",
        "a=rtpmap:111 OPUS/48000/2",
        "a=rtpmap:110 Telephone-Event/8000",
    )
    section = reply(offered, AUDIO).media[0]
    assert (section.formats, section.rtpmap(110).encoding) == (("8", "110", "0"), "Telephone-Event")


@pytest.mark.rfc("3264 6.1")
@pytest.mark.parametrize(
    "rtpmap, accepted",
    [
        ("pcmu/8000", True),
        ("PCMU/8000/1", True),
        ("PCMU/16000", False),
        ("PCMU/8000/2", False),
        ("PCMX/8000", False),
    ],
)
def test_codecs_are_compared_by_name_clock_rate_and_channels(rtpmap, accepted):
    section = reply(peer("m=audio 1 RTP/AVP 97", f"a=rtpmap:97 {rtpmap}"), AUDIO).media[0]
    assert section.is_disabled is not accepted


@pytest.mark.rfc("3264 6")
@pytest.mark.parametrize(
    "lines",
    [
        ("m=audio 1 RTP/AVP 3",),
        ("m=audio 1 RTP/AVP 96",),
        ("m=audio 0 RTP/AVP 0",),
        ("m=audio 1 RTP/SAVP 0",),
        ("m=audio 1 UDP/TLS/RTP/SAVPF 0",),
        ("m=audio 1 x 0",),
        ("m=text 1 RTP/AVP 0",),
        ("m=audio 0 RTP/AVP 0", "a=bundle-only", "a=mid:2"),
        ("m=audio 0 RTP/AVP",),
        ("m=audio 1 RTP/AVP 101", "a=rtpmap:101 L16/8000"),
        ("m=audio 1 RTP/AVP 18 101", "a=rtpmap:101 telephone-event/8000"),
    ],
)
def test_stream_that_we_cannot_do_is_rejected_by_port_0(lines):
    section = reply(peer(*lines), AUDIO).media[0]
    offered = lines[0].split()
    assert str(section) == f"{offered[0]} 0 {offered[2]} {(offered[3:] or ['0'])[0]}\r\n"


@pytest.mark.rfc("8866 5.7", "3264 6")
@pytest.mark.parametrize(
    "line",
    [
        "",
        "c=IN XX foo",
        "c=ATM NSAP 47.0091",
        "c=IN IP4 300.1.1.1",
        "c=IN IP4 1.2.3",
        "c=IN IP6 2001:db8::1::2",
        "c=IN IP4 a_b.example",
        "c=IN IP4 224.2.1.1",
        "c=IN IP4 ff02::1",
        "c=IN IP6 224.2.1.1",
        "c=IN IP6 ff02::1%eth0",
    ],
)
def test_stream_that_no_packet_can_reach_has_port_0_alone(line):
    streams = [
        "m=audio 1 RTP/AVP 0",
        *([line] if line else []),
        "m=audio 3 RTP/AVP 0",
        "c=IN IP4 192.0.2.9",
    ]
    made = reply(peer(*streams, session="t=0 0"), AUDIO, AUDIO)
    assert [section.port for section in made.media] == [0, 4000]


@pytest.mark.parametrize(
    "address",
    [
        "IN IP4 0.0.0.0",
        "IN IP6 ::",
        "IN IP4 x.example",
        "IN IP4 2001:db8::1",
        "IN IP6 192.0.2.1",
        "IN IP4 192.0.2.1/127",
    ],
)
def test_stream_at_an_odd_address_is_accepted(address):
    assert (
        reply(peer("m=audio 1 RTP/AVP 0", f"c={address}", session="t=0 0"), AUDIO).media[0].port
        == 4000
    )


@pytest.mark.rfc("3264 6.2")
@pytest.mark.parametrize(
    "lines",
    [("c=IN IP4 192.0.2.1",), ("a=ptime:x",), ("c=IN IP4 2001:db8::1", "c=IN IP4 224.2.1.1")],
)
def test_multicast_stream_that_we_would_change_has_port_0(lines):
    assert reply(peer(*GROUP[:3], *lines), AUDIO).media[0].is_disabled


def test_ptime_of_nine_digits_in_a_multicast_stream_is_answered():
    assert (
        reply(peer(*GROUP[:3], "a=ptime:123456789.5", "a=recvonly"), AUDIO).media[0].ptime
        == 123456789.5
    )


@pytest.mark.rfc("4733 2.5.1.1")
def test_stream_of_telephone_events_alone_is_accepted():
    section = reply(
        peer("m=audio 1 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"), AUDIO
    ).media[0]
    assert section.formats == ("101",)


@pytest.mark.rfc("3264 6")
def test_answer_has_the_streams_of_the_offer_in_order():
    offered = peer(
        "m=video 1 RTP/AVP 31",
        "m=image 1 UDPTL T38",
        "m=audio 1 RTP/AVP 0",
        "m=audio 2 RTP/AVP 8",
        "m=x 3 y z",
    )
    section = [(section.media, section.port) for section in reply(offered, AUDIO, FAX).media]
    assert section == [("video", 0), ("image", 6000), ("audio", 4000), ("audio", 0), ("x", 0)]


def test_streams_may_be_given_by_the_index_of_the_m_line():
    offered = peer("m=audio 1 RTP/AVP 0", "m=audio 2 RTP/AVP 0")
    made = answer(offered, {1: AUDIO}, address="192.0.2.2")
    assert [section.port for section in made.media] == [0, 4000]


@pytest.mark.rfc("3264 6")
def test_times_of_the_answer_are_those_of_the_offer():
    offered = peer("m=audio 1 RTP/AVP 0", session="c=IN IP4 192.0.2.1\nt=3724394400 0\nr=7d 1h 0")
    assert b"t=3724394400 0\r\nr=7d 1h 0\r\nm=" in bytes(reply(offered, AUDIO))


@pytest.mark.rfc("3264 6")
def test_origin_of_the_answer_is_ours():
    assert reply(peer(), AUDIO).origin.address == "192.0.2.2"


def test_key_does_not_come_back_in_a_later_answer():
    assert reply(peer(), previous=peer("k=prompt")).key is None


def test_answer_has_our_values_of_each_stream():
    local = AUDIO._replace(
        ptime=20,
        bandwidths=(Bandwidth("AS", 64),),
        attributes=(Attribute("x"),),
        connection="192.0.2.9",
    )
    section = reply(peer("m=audio 1 RTP/AVP 0"), local).media[0]
    assert str(section) == (
        "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\nb=AS:64\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=x\r\n"
    )


GROUP = (
    "m=audio 1000/2 RTP/AVP 0 8",
    "c=IN IP4 233.252.0.1/127/2",
    "b=AS:64",
    "a=ptime:40",
    "a=recvonly",
)


@pytest.mark.rfc("3264 6.2")
def test_multicast_stream_is_answered_by_its_address_port_and_direction():
    section = reply(peer(*GROUP), AUDIO._replace(ptime=20)).media[0]
    read = (
        section.port,
        section.port_count,
        str(section.connection),
        section.direction,
        section.ptime,
        section.bandwidths,
    )
    assert read == (1000, 2, "IN IP4 233.252.0.1/127/2", "recvonly", 40, (Bandwidth("AS", 64),))


@pytest.mark.rfc("3264 6.2")
def test_multicast_stream_of_another_direction_is_rejected():
    assert reply(peer(*GROUP), AUDIO._replace(direction="sendonly")).media[0].is_disabled


# ---- format parameters


@pytest.mark.parametrize(
    "codec, offered, agreed",
    [
        (TELEPHONE_EVENT, None, None),
        (TELEPHONE_EVENT, "0-15", "0-15"),
        (TELEPHONE_EVENT, "0-16", "0-15"),
        (TELEPHONE_EVENT, "0-11,66,70", "0-11"),
        (TELEPHONE_EVENT, "1,3-4,9,200", "1,3-4,9"),
        (TELEPHONE_EVENT, "32-40", False),
        (TELEPHONE_EVENT._replace(fmtp=None), "0-15,16", "0-15"),
        (Codec("iLBC", 8000), "mode=20", "mode=20"),
        (Codec("iLBC", 8000), None, None),
        (Codec("opus", 48000, 2, "useinbandfec=1"), "minptime=10", "useinbandfec=1"),
        (Codec("AMR", 8000, 1, "octet-align=1"), None, False),
        (Codec("H264", 90000, 1, "packetization-mode=1"), "profile-level-id=42e01f", False),
    ],
)
def test_format_parameters_are_agreed_on(codec, offered, agreed):
    assert agree_fmtp(codec, offered) == agreed


def amr(fmtp=None, encoding="AMR"):
    return Codec(encoding, 8000, 1, fmtp)


@pytest.mark.rfc("4867 8.3.1")
@pytest.mark.parametrize(
    "codec, offered, agreed",
    [
        # returned unmodified, or refused
        (amr("octet-align=1"), "octet-align=1; mode-set=7", "octet-align=1; mode-set=7"),
        (amr("mode-set=7"), "octet-align=0", "octet-align=0; mode-set=7"),
        (amr("mode-set=7"), "mode-set=7,0", False),
        (amr("mode-set=0,2,4,7"), "mode-set=7,0", "mode-set=7,0"),
        (amr("mode-set=0,2"), None, "mode-set=0,2"),
        (amr(""), "mode-set=8", False),
        (amr("", "AMR-WB"), "mode-set=8", "mode-set=8"),
        (amr(""), "mode-set=x", False),
        (amr("octet-align=1"), "octet-align=1; interleaving=30", False),
        (
            amr("octet-align=1; interleaving=30"),
            "octet-align=1;interleaving=30",
            "octet-align=1; interleaving=30",
        ),
        (amr("octet-align=1; interleaving=12"), "octet-align=1; interleaving=30", False),
        (amr("interleaving=12"), None, False),
        (amr("octet-align=1"), "octet-align=1; crc=1", False),
        (amr("octet-align=1; crc=1"), "crc=1", "crc=1"),  # which implies `octet-align=1` (§8.1)
        (
            amr("robust-sorting=1"),
            "OCTET-ALIGN=1;Robust-Sorting=1",
            "OCTET-ALIGN=1; Robust-Sorting=1",
        ),
        (amr(""), "octet-align=2", False),
        (
            amr(),
            "octet-align=1; interleaving=30; mode-set=0,2",
            "octet-align=1; interleaving=30; mode-set=0,2",
        ),
        # unknown ones are removed, declarations are ours
        (amr(), "octet-align=1; x=y; max-red=0", "octet-align=1"),
        (amr("max-red=220"), "max-red=0; mode-change-neighbor=1", "max-red=220"),
        # what one side wants, the other must be able to do
        (amr("max-red=0"), "mode-change-period=2", False),
        (amr("mode-change-capability=2"), "mode-change-period=2", "mode-change-capability=2"),
        (amr("mode-change-period=2"), "mode-change-capability=2", "mode-change-period=2"),
        (amr("mode-change-period=2"), None, False),
    ],
)
def test_amr_parameters_are_returned_unmodified_or_refused(codec, offered, agreed):
    assert agree_fmtp(codec, offered) == agreed


def h264(fmtp=None):
    return Codec("H264", 90000, 1, fmtp)


@pytest.mark.parametrize(
    "codec, offered, agreed",
    [
        (h264("profile-level-id=42e01f"), "profile-level-id=42e01f", "profile-level-id=42e01f"),
        (h264("profile-level-id=42e01f"), "profile-level-id=4d801f", "profile-level-id=4d801f"),  # constrained baseline, both
        (h264("profile-level-id=42e01f"), "profile-level-id=64001f", False),
        (h264("profile-level-id=42e01f"), "profile-level-id=42001f", False),
        (h264("profile-level-id=42e01f"), "profile-level-id=42e028", "profile-level-id=42e01f"),
        (h264("profile-level-id=42e028"), "profile-level-id=42e01f", "profile-level-id=42e01f"),
        (h264("profile-level-id=42e00b"), "profile-level-id=42f00b", "profile-level-id=42f00b"),  # level 1b
        (h264("profile-level-id=42e01f"), "profile-level-id=zz", False),
        (h264("profile-level-id=42e01f"), None, False),  # Baseline, level 1
        (h264("profile-level-id=42801f"), None, None),  # level 1 is the lower one
        (h264("packetization-mode=0"), "packetization-mode=1", False),
        (h264("packetization-mode=1"), "packetization-mode=1; profile-level-id=64001f", "packetization-mode=1; profile-level-id=64001f"),
        (
            h264("profile-level-id=42e028; level-asymmetry-allowed=1"),
            "level-asymmetry-allowed=1; profile-level-id=42e01f",
            "profile-level-id=42e028; level-asymmetry-allowed=1",
        ),
        (h264(), "profile-level-id=42e01f; sprop-parameter-sets=Z0,aM", "profile-level-id=42e01f"),
        (h264("max-br=2"), "max-br=9", "max-br=2"),
    ],
)  # fmt: skip
def test_h264_profile_and_packetization_are_returned_or_refused(codec, offered, agreed):
    assert agree_fmtp(codec, offered) == agreed


@pytest.mark.parametrize(
    "codec, offered, agreed",
    [
        (G729, "annexb=no", "annexb=no"),
        (G729, None, None),
        (G729._replace(fmtp="annexb=yes"), "annexb=no", "annexb=no"),
        (G729._replace(fmtp="annexb=no"), "annexb=yes", "annexb=no"),
        (G729._replace(fmtp="annexb=no"), None, "annexb=no"),
        (Codec("G723", 8000, 1, "annexa=yes;bitrate=6.3"), "annexa=no", "annexa=no; bitrate=6.3"),
        (Codec("iLBC", 8000, 1, "mode=20"), "mode=20", "mode=20"),
        (Codec("iLBC", 8000, 1, "mode=20"), None, "mode=30"),
        (Codec("iLBC", 8000, 1, "mode=30"), "mode=20", "mode=30"),
        (OPUS, "minptime=10;useinbandfec=1;sprop-stereo=1", None),
        (OPUS._replace(fmtp="useinbandfec=1"), None, "useinbandfec=1"),
    ],
)
def test_other_audio_parameters_follow_their_payload_format(codec, offered, agreed):
    assert agree_fmtp(codec, offered) == agreed


OPUS_AND_EVENTS = ("m=audio 1 RTP/AVP 96 101 102", "a=rtpmap:96 opus/48000/2", "a=rtpmap:101 telephone-event/8000",
                   "a=rtpmap:102 telephone-event/48000")  # fmt: skip
WIDE_EVENTS = TELEPHONE_EVENT._replace(clock_rate=48000)


@pytest.mark.rfc("4733 2.1")
@pytest.mark.parametrize(
    "codecs, formats",
    [
        ((OPUS, TELEPHONE_EVENT), ("96",)),
        ((OPUS, TELEPHONE_EVENT, WIDE_EVENTS), ("96", "102")),
        ((OPUS, PCMU, TELEPHONE_EVENT, WIDE_EVENTS), ("96", "101", "102", "0")),
    ],
)
def test_telephone_event_is_answered_at_the_clock_rate_of_the_audio(codecs, formats):
    offered = peer(OPUS_AND_EVENTS[0] + " 0", *OPUS_AND_EVENTS[1:])
    assert reply(offered, AUDIO._replace(codecs=codecs)).media[0].formats == formats


@pytest.mark.rfc("4588 8.1", "2198 5")
@pytest.mark.parametrize(
    "codecs, formats",
    [
        ((h264("packetization-mode=1"), Codec("rtx", 90000)), ("97", "99")),
        ((h264("packetization-mode=0"), Codec("rtx", 90000)), ("96", "98")),
        ((h264("packetization-mode=0"), Codec("red", 90000)), ("96",)),
        ((h264(), Codec("red", 90000)), ("96", "97", "100")),
    ],
)
def test_payload_type_that_refers_to_a_refused_one_is_refused(codecs, formats):
    lines = ["96 H264", "97 H264", "98 rtx", "99 rtx", "100 red"]
    fmtps = ["97 packetization-mode=1", "98 apt=96", "99 apt=97", "100 96/97"]
    offered = peer(
        "m=video 1 RTP/AVP 96 97 98 99 100",
        *[f"a=rtpmap:{line}/90000" for line in lines],
        *[f"a=fmtp:{fmtp}" for fmtp in fmtps],
    )
    assert reply(offered, VIDEO._replace(codecs=codecs)).media[0].formats == formats


@pytest.mark.parametrize(
    "payload_type, name, codec",
    [
        (18, "G729a/8000", G729),
        (18, "G729AB/8000", G729),
        (18, "g729b/8000/1", G729),
        (9, "G722/16000", G722),
    ],
)
def test_misnamed_static_payload_type_is_answered_as_it_is_spelled(payload_type, name, codec):
    section = reply(
        peer(f"m=audio 1 RTP/AVP {payload_type}", f"a=rtpmap:{payload_type} {name}"),
        AUDIO._replace(codecs=(codec,)),
    ).media[0]
    assert (section.formats, str(section.rtpmap(payload_type))) == (
        (str(payload_type),),
        f"{payload_type} {name}",
    )
    assert (
        reply(peer("m=audio 1 RTP/AVP 97", f"a=rtpmap:97 {name}"), AUDIO._replace(codecs=(codec,)))
        .media[0]
        .is_disabled
    )


H264_TWICE = peer(
    "m=video 1 RTP/AVP 97 98",
    "a=rtpmap:97 H264/90000",
    "a=fmtp:97 packetization-mode=0",
    "a=rtpmap:98 H264/90000",
    "a=fmtp:98 packetization-mode=1",
)


@pytest.mark.rfc("3264 6.1")
def test_codec_offered_twice_is_accepted_with_our_parameters():
    assert reply(H264_TWICE, VIDEO).media[0].formats == ("98",)


def test_fmtp_function_writes_and_refuses_parameters():
    asked = []

    def mine(codec, offered):
        asked.append((codec.encoding, offered))
        return "mine" if offered == "packetization-mode=0" else False

    section = reply(H264_TWICE, VIDEO, fmtp=mine).media[0]
    assert (section.fmtps, asked) == (
        {"97": "mine"},
        [("H264", "packetization-mode=0"), ("H264", "packetization-mode=1")],
    )


# ---- versions


@pytest.mark.rfc("3264 8")
def test_answer_that_changes_nothing_keeps_its_version():
    offered = peer("m=audio 1 RTP/AVP 0")
    first = reply(offered, AUDIO)
    assert answer(offered, [AUDIO], previous=first) == first


@pytest.mark.rfc("3264 8")
def test_answer_that_changes_has_the_next_version_of_the_same_origin():
    offered = peer("m=audio 1 RTP/AVP 0")
    first = reply(offered, AUDIO)
    second = answer(offered, [AUDIO._replace(port=4002)], previous=first)
    assert second.origin == first.origin._replace(session_version=first.origin.session_version + 1)


@pytest.mark.rfc("3264 8")
def test_offer_with_fewer_streams_than_before_cannot_be_answered():
    first = reply(peer("m=audio 1 RTP/AVP 0", "m=audio 2 RTP/AVP 0"), AUDIO)
    with pytest.raises(ParseError) as caught:
        answer(peer("m=audio 1 RTP/AVP 0"), [AUDIO], previous=first)
    assert caught.value.status == 488


@pytest.mark.rfc("3264 8")
def test_offer_that_changes_nothing_is_the_previous_one():
    first = offer_of(AUDIO, VIDEO)
    assert modify(first, [AUDIO, VIDEO]) == first


def test_arguments_are_not_changed():
    first = offer_of(AUDIO, VIDEO)
    before = bytes(first)
    for change in (
        hold,
        lambda sdp: remove_stream(sdp, 0),
        lambda sdp: add_stream(sdp, FAX),
        lambda sdp: reply(sdp, AUDIO),
    ):
        change(first)
    assert bytes(first) == before


# ---- adding and removing


@pytest.mark.rfc("3264 8.2")
def test_stream_that_is_removed_stays_with_port_0():
    first = offer_of(AUDIO, VIDEO)
    second = remove_stream(first, 0)
    assert ([section.port for section in second.media], str(second.media[0])) == (
        [0, 5000],
        "m=audio 0 RTP/AVP 0\r\n",
    )


@pytest.mark.rfc("3264 8.2")
def test_streams_left_out_are_removed_but_keep_their_m_lines():
    assert [section.port for section in modify(offer_of(AUDIO, VIDEO), []).media] == [0, 0]


@pytest.mark.rfc("3264 8.1")
def test_stream_is_added_below_the_others():
    assert [section.media for section in add_stream(offer_of(AUDIO), FAX).media] == [
        "audio",
        "image",
    ]


@pytest.mark.rfc("3264 8.1")
@pytest.mark.parametrize("reuse, ports", [(True, [6000, 5000]), (False, [0, 5000, 6000])])
def test_added_stream_takes_a_disabled_slot_unless_reuse_is_false(reuse, ports):
    first = remove_stream(offer_of(AUDIO, VIDEO), 0)
    assert [section.port for section in add_stream(first, FAX, reuse=reuse).media] == ports


@pytest.mark.rfc("3264 8.1")
def test_media_description_can_be_added():
    first = offer_of(AUDIO)
    second = modify(first, [first.media[0], MediaDescription.make("video", 7, [31])])
    assert str(second).endswith("m=video 7 RTP/AVP 31\r\n") and second.media[0] == first.media[0]


@pytest.mark.parametrize("index", [-1, 1])
def test_missing_stream_cannot_be_removed(index):
    with pytest.raises(InvalidValue):
        remove_stream(offer_of(AUDIO), index)


def test_none_cannot_be_added():
    with pytest.raises(InvalidValue):
        modify(offer_of(AUDIO), [AUDIO, None])


@pytest.mark.rfc("3264 8.3.2")
def test_dynamic_payload_types_keep_their_meaning():
    first = offer_of(MediaStream("audio", 4000, (OPUS, TELEPHONE_EVENT)))
    second = modify(first, [MediaStream("audio", 4000, (Codec("X", 8000), TELEPHONE_EVENT))])
    assert second.media[0].formats == ("98", "97")


@pytest.mark.rfc("3264 8.3.2")
def test_dynamic_payload_type_cannot_get_another_meaning():
    first = offer_of(MediaStream("audio", 4000, (OPUS,)))
    with pytest.raises(InvalidValue):
        modify(first, [MediaStream("audio", 4000, (Codec("X", 8000, payload_type=96),))])


@pytest.mark.rfc("3264 8.3.1")
def test_new_address_changes_the_connection_and_not_the_origin():
    first = offer_of(AUDIO)
    second = modify(first, [AUDIO], address="192.0.2.77")
    assert (second.connection.address, second.origin.address) == ("192.0.2.77", "192.0.2.1")


# ---- hold


@pytest.mark.rfc("3264 8.4")
@pytest.mark.parametrize(
    "before, after",
    [
        ("sendrecv", "sendonly"),
        ("recvonly", "inactive"),
        ("sendonly", "sendonly"),
        ("inactive", "inactive"),
    ],
)
def test_stream_is_put_on_hold(before, after):
    assert hold(offer_of(AUDIO._replace(direction=before))).media[0].direction == after


@pytest.mark.rfc("3264 8.4")
def test_held_sdp_has_the_next_version_and_is_on_hold():
    first = offer_of(AUDIO, VIDEO)
    held = hold(first)
    assert (held.is_hold, held.origin.session_version) == (True, first.origin.session_version + 1)


@pytest.mark.rfc("3264 8.4")
def test_one_stream_may_be_held_alone():
    held = hold(offer_of(AUDIO, VIDEO), streams=[1])
    assert [section.direction for section in held.media] == ["sendrecv", "sendonly"]


@pytest.mark.rfc("3264 8")
def test_hold_of_a_held_stream_changes_nothing():
    held = hold(offer_of(AUDIO))
    assert hold(held) == held


@pytest.mark.rfc("3264 8.4")
@pytest.mark.parametrize(
    "origin", ["A B 7 8 IN IP4 192.0.2.1", "- 7 8 IN IP4 2001:db8::1", "- x  8 IN IP4 233.252.0.1 "]
)
def test_description_of_a_peer_with_a_loose_origin_can_be_held(origin):
    held = hold(
        SDP.parse(str(peer("m=audio 1 RTP/AVP 0")).replace("- 7 7 IN IP4 192.0.2.1", origin))
    )
    assert str(held).split("\r\n")[1] == "o=" + origin.replace("8 IN", "9 IN")


@pytest.mark.rfc("3264 8.4")
def test_multicast_stream_is_not_put_on_hold():
    assert (
        hold(peer("m=audio 1 RTP/AVP 0", "c=IN IP4 233.252.0.1/1")).media[0].direction == "sendrecv"
    )


@pytest.mark.rfc("6337 5.3")
@pytest.mark.parametrize("line", ["a=sendonly", "a=inactive"])
def test_resume_offers_sendrecv(line):
    assert resume(peer("m=audio 1 RTP/AVP 0", line)).media[0].direction == "sendrecv"


def test_hold_and_resume_differ_in_version_and_direction_line_only():
    first = offer_of(AUDIO)
    back = resume(hold(first))
    expected = first.copy()
    expected.origin = first.origin._replace(session_version=first.origin.session_version + 2)
    assert str(back) == str(expected) + "a=sendrecv\r\n"


def test_resume_leaves_other_streams_unchanged():
    offered = peer("m=audio 1 RTP/AVP 0", "a=recvonly", "m=video 0 RTP/AVP 31", "a=sendonly")
    assert resume(offered) == offered


@pytest.mark.rfc("3264 8.4")
@pytest.mark.parametrize(
    "lines",
    [("m=audio 1 RTP/AVP 0", "c=IN IP4 0.0.0.0"), ("c=IN IP4 0.0.0.0", "m=audio 1 RTP/AVP 0")],
)
def test_hold_by_address_needs_an_address_to_resume(lines):
    held = peer(*lines, session="t=0 0")
    with pytest.raises(InvalidValue):
        resume(held)
    assert (
        resume(held, address="192.0.2.5").media[0].connection,
        resume(held, address="192.0.2.5").is_hold,
    ) == (
        Connection.make("192.0.2.5"),
        False,
    )


# ---- faults

PLAIN = peer("m=audio 1 RTP/AVP 0 97", "a=rtpmap:97 X/8000")


def amr_answer(fmtp=None, number=98):
    lines = [f"m=audio 1 RTP/AVP {number}", f"a=rtpmap:{number} AMR/8000"]
    return peer(*lines, *([] if fmtp is None else [f"a=fmtp:{number} {fmtp}"]))


def h264_of(fmtp=None):
    return peer(
        "m=video 1 RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        *([] if fmtp is None else [f"a=fmtp:96 {fmtp}"]),
    )


AMR_OFFER = amr_answer("octet-align=1; mode-set=0,2")
AMR_TWICE = peer(
    "m=audio 1 RTP/AVP 97 98",
    "a=rtpmap:97 AMR/8000",
    "a=rtpmap:98 AMR/8000",
    "a=fmtp:98 octet-align=1; mode-set=0,2",
)
FAULTY = {
    "fewer streams": (PLAIN, peer(), "the answer has 0 m= lines, the offer 1 (RFC 3264 §6)"),
    "another time": (PLAIN, peer("m=audio 1 RTP/AVP 0", session="c=IN IP4 192.0.2.1\nt=3724394400 0"), "t= differs from the offer"),
    "another media type": (PLAIN, peer("m=video 1 RTP/AVP 0"), "stream 0: video answers audio (RFC 3264 §6.1)"),
    "another protocol": (PLAIN, peer("m=audio 1 RTP/SAVP 0"), "stream 0: RTP/SAVP answers RTP/AVP"),
    "a port for port 0": (peer("m=audio 0 RTP/AVP 0"), peer("m=audio 1 RTP/AVP 0"), "stream 0: port 0 must be answered by port 0"),
    "no address": (PLAIN, peer("m=audio 1 RTP/AVP 0", session="t=0 0"), "stream 0: no c= line (RFC 8866 §5.7)"),
    "multicast": (PLAIN, peer("m=audio 1 RTP/AVP 0", "c=IN IP4 233.252.0.1/1"), "stream 0: 233.252.0.1 answers 192.0.2.1"),
    "another group": (peer(*GROUP), peer("m=audio 1000 RTP/AVP 0", "c=IN IP4 233.252.0.9/1", "a=recvonly"), "stream 0: address and port"),
    "another direction in the group": (peer(*GROUP), peer(*GROUP[:2], "a=sendonly"), "stream 0: sendonly answers recvonly of a multicast"),
    "other formats in the group": (peer(*GROUP), peer("m=audio 1000 RTP/AVP 0 3", *GROUP[1:]), "stream 0: formats that are not in the offer"),
    "both ways to sendonly": (hold(PLAIN), PLAIN, "stream 0: sendrecv answers sendonly (RFC 3264 §6.1)"),
    "nothing in common": (PLAIN, peer("m=audio 1 RTP/AVP 8"), "stream 0: no format in common with the offer"),
    "the number of another codec": (PLAIN, peer("m=audio 1 RTP/AVP 97", "a=rtpmap:97 Y/8000"), "stream 0: no format in common with the offer"),
    "an address no packet can reach": (PLAIN, peer("m=audio 1 RTP/AVP 0", "c=IN IP4 300.1.1.1"), "stream 0: no packet can reach IN IP4 300.1.1.1 (RFC 8866 §5.7)"),
    "another mode-set": (AMR_OFFER, amr_answer("octet-align=1; mode-set=7"), "stream 0: octet-align=1; mode-set=7 of AMR for octet-align=1; mode-set=0,2 (RFC 4867 §8.3.1)"),
    "no mode-set": (AMR_OFFER, amr_answer("octet-align=1"), "stream 0: octet-align=1 of AMR for octet-align=1; mode-set=0,2"),
    "no octet-align": (AMR_OFFER, amr_answer("mode-set=0,2"), "stream 0: mode-set=0,2 of AMR for octet-align=1"),
    "interleaving": (AMR_OFFER, amr_answer("octet-align=1; mode-set=0,2; interleaving=30"), "stream 0: octet-align=1; mode-set=0,2; inter"),
    "no parameters": (AMR_OFFER, amr_answer(), "stream 0: no parameters of AMR for octet-align=1"),
    "the parameters of another number": (AMR_TWICE, amr_answer("octet-align=1; mode-set=0,2", number=97), "stream 0: octet-align=1; mode-set=0,2 of AMR for none"),
    "another profile": (h264_of("profile-level-id=42e01f"), h264_of("profile-level-id=64001f"), "stream 0: profile-level-id=64001f of H264 for"),
    "another packetization": (h264_of("packetization-mode=1"), h264_of(), "stream 0: no parameters of H264 for packetization-mode=1 (RFC 6184"),
    "no rtpmap": (PLAIN, peer("m=audio 1 RTP/AVP 0 97"), "stream 0: payload type 97 has no a=rtpmap"),
}  # fmt: skip


@pytest.mark.rfc("3264 6")
@pytest.mark.parametrize("row", FAULTY)
def test_answer_that_breaks_a_rule_has_a_fault(row):
    offered, answered, problem = FAULTY[row]
    with pytest.raises(ParseError) as caught:
        check_answer(offered, answered)
    assert caught.value.problem.startswith(problem)


@pytest.mark.rfc("3264 6.1")
@pytest.mark.parametrize(
    "answered",
    [
        peer("m=audio 0 RTP/AVP 3"),
        peer("m=audio 2 RTP/AVP 99", "a=rtpmap:99 x/8000"),
        peer("m=audio 2 RTP/AVP 0 8", "a=recvonly"),
    ],
)
def test_answer_may_reject_renumber_and_add(answered):
    assert answer_faults(PLAIN, answered) == []


@pytest.mark.parametrize(
    "offered, answered",
    [
        (AMR_OFFER, amr_answer("mode-set=2,0;octet-align=1; max-red=0")),
        (AMR_TWICE, amr_answer("octet-align=1; mode-set=0,2", number=120)),
        (amr_answer(), amr_answer("octet-align=0; mode-set=7")),
        (h264_of("profile-level-id=42e01f"), h264_of("profile-level-id=42e028; max-br=9")),
        (
            peer(*OPUS_AND_EVENTS),
            peer("m=audio 1 RTP/AVP 96 101", *OPUS_AND_EVENTS[1:3]),
        ),  # many do so
    ],
)
def test_answer_that_keeps_the_parameters_has_no_faults(offered, answered):
    assert answer_faults(offered, answered) == []


def again(*lines: str, origin: str = "- 7 8 IN IP4 192.0.2.1") -> SDP:
    return SDP.parse(str(peer(*lines)).replace("- 7 7 IN IP4 192.0.2.1", origin))


UNMODIFIED = {
    "the same version": (peer("m=audio 2 RTP/AVP 0"), "changed, but still version 7"),
    "a later version": (again("m=audio 2 RTP/AVP 0", origin="- 7 9 IN IP4 192.0.2.1"), "version 9 after 7"),
    "another session": (again("m=audio 2 RTP/AVP 0", origin="- 8 8 IN IP4 192.0.2.1"), "o= has changed in more than its version"),
    "fewer streams": (again(), "0 m= lines after 1"),
    "an o= that cannot be read": (again("m=audio 2 RTP/AVP 0", origin="- x 8 IN IP4 192.0.2.1"), "o= cannot be read: not a number"),
    "another meaning": (again("m=audio 1 RTP/AVP 97", "a=rtpmap:97 Y/8000"), "stream 0: payload type 97 is Y, and was X (RFC 3264 §8.3.2)"),
}  # fmt: skip


@pytest.mark.rfc("3264 8")
@pytest.mark.parametrize("row", UNMODIFIED)
def test_later_offer_that_breaks_a_rule_has_a_fault(row):
    new, problem = UNMODIFIED[row]
    with pytest.raises(ParseError) as caught:
        check_modification(PLAIN, new)
    assert caught.value.problem.startswith(problem) and caught.value.status == 488


@pytest.mark.rfc("3264 8")
def test_same_description_again_is_no_fault():
    assert modification_faults(PLAIN, PLAIN.copy()) == []


# ---- whatever two parties do

CODECS = st.lists(
    st.sampled_from([PCMU, PCMA, G722, OPUS, TELEPHONE_EVENT, Codec("X", 8000)]),
    min_size=1,
    max_size=4,
    unique=True,
)
ONE = st.tuples(
    st.sampled_from(["audio", "video"]),
    st.integers(1, 65535),
    CODECS.map(tuple),
    st.sampled_from(DIRECTIONS),
).map(lambda drawn: MediaStream(*drawn[:3], direction=drawn[3]))
STREAMS = st.lists(ONE | st.just(FAX), max_size=4)


@pytest.mark.rfc("3264 6")
@given(STREAMS, STREAMS)
def test_our_answer_to_our_offer_has_no_faults(theirs, ours):
    offered = offer_of(*theirs)
    assert answer_faults(offered, SDP.parse(bytes(reply(offered, *ours)))) == []


LOOSE = st.lists(
    st.sampled_from(
        [
            "m=audio 1 RTP/AVP 0 9 18 96 101", "m=audio 1/2 RTP/AVP 96", "m=video 1 RTP/AVP 96", "m=image 1 udptl t38", "b=AS:x", "b=",
            "a=rtpmap:96 AMR/8000", "a=rtpmap:96 H264/90000", "a=rtpmap:18 G729a/8000", "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:96 mode-set=", "a=fmtp:96 ;;=;x", "a=fmtp:96 octet-align=1", "a=fmtp:101 0-15", "a=ptime:123456789", "a=ptime:x",
            "c=IN IP4 224.2.1.1/1", "c=IN IP4 224.2.1.1", "c=IN IP4 ff02::1", "c=IN IP6 ff02::1", "c=IN IP6 224.2.1.1", "c=IN XX y",
            "c=IN IP4 300.1.1.1", "c=IN IP4 192.0.2.1/1/1", "c=IN IP6 ff02::1/3", "c=IN IP4 2001:db8::1", "a=sendonly", "a=inactive",
        ]
    ),
    max_size=10,
)  # fmt: skip


@pytest.mark.rfc("8866 5.7", "3264 6")
@given(LOOSE, st.booleans())
def test_any_description_can_be_answered_held_and_resumed(lines, has_session_address):
    offered = peer(*lines, session="c=IN IP4 192.0.2.1\nt=0 0" if has_session_address else "t=0 0")
    local = [
        AUDIO._replace(codecs=(PCMU, G722, G729, amr(), amr("mode-set=7"), TELEPHONE_EVENT)),
        VIDEO,
        FAX,
    ]
    made = SDP.parse(bytes(reply(offered, *local)))
    assert len(made.media) == len(offered.media)
    assert made.version == SDP.parse(bytes(resume(hold(offered), address="192.0.2.5"))).version


@pytest.mark.rfc("3264 8")
@given(STREAMS, STREAMS)
def test_our_later_offer_has_no_faults(before, after):
    first = offer_of(*before)
    assert modification_faults(first, SDP.parse(bytes(modify(first, after)))) == []


@pytest.mark.rfc("3264 8")
@given(STREAMS, STREAMS, STREAMS)
def test_offer_after_an_answer_has_no_faults(theirs, ours, after):
    answered = reply(offer_of(*theirs), *ours)
    assert modification_faults(answered, modify(answered, after)) == []
