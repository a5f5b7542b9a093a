"""Session descriptions, RFC 8866: parsing, the table of tolerated lines, changes, making."""

from __future__ import annotations

import re
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message import sdp as module
from sippet_gevent.message.sdp import (
    FORMATS,
    G722,
    LINES,
    MEDIA_DESCRIPTIONS,
    OPUS,
    PCMA,
    PCMU,
    RTCP,
    SDP,
    TELEPHONE_EVENT,
    TIME_FIELDS,
    TIMES,
    Adjustment,
    Attribute,
    Bandwidth,
    Connection,
    MediaDescription,
    MediaField,
    MediaStream,
    Origin,
    Repeat,
    RTPMap,
    Time,
    answer,
    check_answer,
)

from ..conformance import corpus
from ..pace import is_within


def crlf(text: str) -> bytes:
    return text.strip("\n").replace("\n", "\r\n").encode() + b"\r\n"


def body(*lines: str, session: str = "c=IN IP4 192.0.2.1\nt=0 0") -> bytes:
    """Return a description with these lines at the end of the session part."""
    return crlf("\n".join(["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", session, *lines]))


def stream(*lines: str, field: str = "audio 49170 RTP/AVP 0") -> MediaDescription:
    """Return the only stream of a description, with these lines."""
    return SDP.parse(body(f"m={field}", *lines)).media[0]


def error_of(text: bytes | str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        SDP.parse(text)
    return caught.value


# ---- the examples of RFC 8866

SECTION_5 = crlf("""
v=0
o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1
s=Call to John Smith
i=SDP Offer #1
u=http://www.jdoe.example.com/home.html
e=Jane Doe <jane@jdoe.example.com>
p=+1 617 555-6011
c=IN IP4 198.51.100.1
t=0 0
m=audio 49170 RTP/AVP 0
m=audio 49180 RTP/AVP 0
m=video 51372 RTP/AVP 99
c=IN IP6 2001:db8::2
a=rtpmap:99 h263-1998/90000
""")

SECTION_6_7 = crlf("""
v=0
o=jdoe 3724395000 3724395001 IN IP6 2001:db8::1
s=-
c=IN IP6 2001:db8::1
t=0 0
a=inactive
m=audio 49170 RTP/AVP 0
a=sendrecv
m=audio 49180 RTP/AVP 0
m=video 51372 RTP/AVP 99
a=rtpmap:99 h263-1998/90000
""")


@pytest.mark.rfc("8866 5")
def test_session_part_of_the_example_is_read():
    sdp = SDP.parse(SECTION_5)
    read = (
        sdp.version,
        sdp.origin,
        sdp.name,
        sdp.information,
        sdp.uri,
        sdp.emails,
        sdp.phones,
        sdp.connection,
        sdp.times,
    )
    assert read == (
        0,
        Origin("jdoe", 3724394400, 3724394405, "IN", "IP4", "198.51.100.1"),
        "Call to John Smith",
        "SDP Offer #1",
        "http://www.jdoe.example.com/home.html",
        ("Jane Doe <jane@jdoe.example.com>",),
        ("+1 617 555-6011",),
        Connection("IN", "IP4", "198.51.100.1"),
        (Time(0, 0),),
    )


@pytest.mark.rfc("8866 5.14")
def test_streams_of_the_example_are_read():
    read = [
        (section.media, section.port, section.proto, section.formats)
        for section in SDP.parse(SECTION_5).media
    ]
    assert read == [
        ("audio", 49170, "RTP/AVP", ("0",)),
        ("audio", 49180, "RTP/AVP", ("0",)),
        ("video", 51372, "RTP/AVP", ("99",)),
    ]


@pytest.mark.rfc("8866 5.7")
def test_connection_of_the_session_is_that_of_streams_without_one():
    addresses = [section.connection.address for section in SDP.parse(SECTION_5).media]
    assert addresses == ["198.51.100.1", "198.51.100.1", "2001:db8::2"]


@pytest.mark.rfc("8866 6.7")
def test_direction_of_the_session_is_that_of_streams_without_one():
    assert [section.direction for section in SDP.parse(SECTION_6_7).media] == [
        "sendrecv",
        "inactive",
        "inactive",
    ]


@pytest.mark.rfc("8866 6.7")
def test_without_a_direction_attribute_a_stream_is_sendrecv():
    assert (stream().direction, stream().is_direction_written) == ("sendrecv", False)


@pytest.mark.rfc("8866 5")
def test_example_can_be_built():
    made = SDP.make(
        "198.51.100.1",
        [
            MediaDescription.make("audio", 49170, [0]),
            MediaDescription.make("audio", 49180, [0]),
            MediaDescription.make(
                "video", 51372, [RTPMap(99, "h263-1998", 90000)], connection="2001:db8::2"
            ),
        ],
        origin=Origin.make(
            "198.51.100.1", username="jdoe", session_id=3724394400, session_version=3724394405
        ),
        name="Call to John Smith",
        information="SDP Offer #1",
        uri="http://www.jdoe.example.com/home.html",
        emails=["Jane Doe <jane@jdoe.example.com>"],
        phones=["+1 617 555-6011"],
    )
    assert bytes(made) == SECTION_5


@pytest.mark.rfc("8866 5.11")
def test_times_with_repeats_and_adjustments_are_read_in_seconds():
    text = body(session="t=3724394400 3754123200\nr=7d 1h 0 25h\nz=3730928400 -1h 3749680800 0")
    adjustments = (Adjustment(3730928400, -3600), Adjustment(3749680800, 0))
    assert SDP.parse(text).times == (
        Time(3724394400, 3754123200, (Repeat(604800, 3600, (0, 90000)),), adjustments),
    )


@pytest.mark.rfc("8866 9")
def test_times_are_written_in_the_order_of_the_grammar():
    times = [
        Time(
            3724394400,
            3754123200,
            (Repeat(604800, 3600, (0, 90000)),),
            (Adjustment(3730928400, -3600),),
        ),
        Time(),
    ]
    made = SDP.make("192.0.2.1", times=times)
    assert str(made).endswith(
        "t=3724394400 3754123200\r\nr=604800 3600 0 90000\r\nz=3730928400 -3600\r\nt=0 0\r\n"
    )


@pytest.mark.rfc("8866 5.7")
@pytest.mark.parametrize(
    "text, connection",
    [
        ("IN IP4 233.252.0.1/127", Connection("IN", "IP4", "233.252.0.1", 127)),
        ("IN IP4 233.252.0.1/127/3", Connection("IN", "IP4", "233.252.0.1", 127, 3)),
        ("IN IP6 ff00::db8:0:101/3", Connection("IN", "IP6", "ff00::db8:0:101", None, 3)),
        ("IN IP6 ff00::db8:0:101", Connection("IN", "IP6", "ff00::db8:0:101")),
        ("IN IP4 host.example.com", Connection("IN", "IP4", "host.example.com")),
        ("ATM NSAP 47.0091/x/y/z", Connection("ATM", "NSAP", "47.0091/x/y/z")),
    ],
)
def test_connection_is_read_and_written(text, connection):
    assert (Connection.parse(text), str(connection)) == (connection, text)


@pytest.mark.rfc("8866 5.7")
def test_several_connections_of_a_stream_are_layers():
    section = stream("c=IN IP4 233.252.0.1/127", "c=IN IP4 233.252.0.2/127")
    assert [connection.address for connection in section.connections] == [
        "233.252.0.1",
        "233.252.0.2",
    ]


@pytest.mark.rfc("8866 5.14")
def test_number_of_ports_is_read():
    section = stream(field="video 49170/2 RTP/AVP 31")
    assert (section.port, section.port_count) == (49170, 2)


# ---- attributes

ATTRIBUTES = (
    "a=rtpmap:0 PCMU/8000",
    "a=sendonly",
    "a=candidate:1",
    "a=candidate:2",
    "a=note:",
    "a=x:a:b c",
)


@pytest.mark.rfc("8866 5.13")
def test_attributes_are_read_in_order():
    assert list(stream(*ATTRIBUTES).attributes) == [
        Attribute("rtpmap", "0 PCMU/8000"),
        Attribute("sendonly"),
        Attribute("candidate", "1"),
        Attribute("candidate", "2"),
        Attribute("note", ""),
        Attribute("x", "a:b c"),
    ]


def test_first_and_all_attributes_of_a_name_are_found():
    attributes = stream(*ATTRIBUTES).attributes
    found = (
        attributes.first("candidate"),
        attributes.all("candidate"),
        attributes.first("none"),
        attributes.all("none"),
    )
    assert found == ("1", ("1", "2"), None, ())


def test_property_attribute_is_asked_for_with_in():
    attributes = stream(*ATTRIBUTES).attributes
    assert (
        "sendonly" in attributes,
        attributes.first("sendonly", "x"),
        "SendOnly" in attributes,
    ) == (True, None, False)


def test_attribute_is_added_behind_the_others():
    section = stream(*ATTRIBUTES)
    section.attributes.add("rtcp-mux")
    assert str(section).endswith("a=x:a:b c\r\na=rtcp-mux\r\n")


def test_attribute_is_set_in_the_place_of_the_first_of_its_name():
    section = stream(*ATTRIBUTES)
    section.attributes.set("candidate", "3")
    assert str(section).split("\r\n")[2:5] == ["a=sendonly", "a=candidate:3", "a=note:"]


def test_all_attributes_of_a_name_are_removed():
    section = stream(*ATTRIBUTES)
    section.attributes.remove("candidate")
    assert (len(section.attributes), "candidate" in section.attributes) == (4, False)


def test_attribute_of_the_session_stands_before_the_streams():
    sdp = SDP.parse(SECTION_5)
    sdp.attributes.add("group", "BUNDLE a b")
    assert b"t=0 0\r\na=group:BUNDLE a b\r\nm=audio 49170" in bytes(sdp)


@pytest.mark.rfc("8866 6.6")
def test_payload_types_mean_what_rtpmap_says():
    section = stream(
        "a=rtpmap:96 L8/8000",
        "a=rtpmap:97 L16/8000",
        "a=rtpmap:98 L16/11025/2",
        field="audio 1 RTP/AVP 96 97 98",
    )
    assert [section.rtpmap(number) for number in (96, "97", 98)] == [
        RTPMap(96, "L8", 8000),
        RTPMap(97, "L16", 8000),
        RTPMap(98, "L16", 11025, 2),
    ]


@pytest.mark.rfc("3551 6")
@pytest.mark.parametrize(
    "number, name, rate",
    [(0, "PCMU", 8000), (8, "PCMA", 8000), (9, "G722", 8000), (31, "H261", 90000)],
)
def test_static_payload_types_need_no_rtpmap(number, name, rate):
    assert stream(field=f"audio 1 RTP/AVP {number}").rtpmap(number) == RTPMap(number, name, rate)


def test_payload_type_without_rtpmap_has_no_meaning():
    section = stream(field="audio 1 RTP/AVP 1 2 96 0")
    assert ([section.rtpmap(number) for number in (1, 2, 96)], list(section.rtpmaps)) == (
        [None, None, None],
        ["0"],
    )


def test_formats_of_other_protocols_have_no_static_meaning():
    section = stream(field="image 1 udptl 0")
    assert (section.is_rtp, section.rtpmap(0), section.rtpmaps) == (False, None, {})


@pytest.mark.rfc("8866 6.15")
def test_format_parameters_are_found_by_format():
    section = stream("a=fmtp:97 mode=20; x", "a=fmtp:101 0-15", field="audio 1 RTP/AVP 97 101")
    assert (section.fmtp(97), section.fmtp("101"), section.fmtp(0)) == ("mode=20; x", "0-15", None)


@pytest.mark.rfc("8866 6.15")
def test_first_of_two_fmtp_of_a_format_counts():
    assert stream("a=fmtp:0 a", "a=fmtp:0 b").fmtps == {"0": "a"}


@pytest.mark.rfc("8866 6.4")
def test_ptime_and_maxptime_are_milliseconds():
    section = stream("a=ptime:20", "a=maxptime:2.5")
    assert (section.ptime, section.maxptime, stream().ptime) == (20, 2.5, None)


@pytest.mark.rfc("3264 5.1")
@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1e3", "²", "20 30"])
def test_ptime_that_is_no_number_raises_when_read(text):
    section = stream(f"a=ptime:{text}")
    with pytest.raises(ParseError, match="SDP line 7, a=: ptime must be a number greater than 0"):
        _ = section.ptime


@pytest.mark.rfc("3605 2.1")
@pytest.mark.parametrize(
    "text, value",
    [
        ("53020", RTCP(53020)),
        ("53020 IN IP6 2001:db8::1", RTCP(53020, Connection("IN", "IP6", "2001:db8::1"))),
    ],
)
def test_rtcp_is_read_and_written(text, value):
    section = stream()
    section.rtcp = value
    assert (stream(f"a=rtcp:{text}").rtcp, section.attributes.first("rtcp")) == (value, text)


@pytest.mark.rfc("3264 8.4")
@pytest.mark.parametrize(
    "lines, held",
    [
        ((), False),
        (("a=sendrecv",), False),
        (("a=recvonly",), False),
        (("a=sendonly",), True),
        (("a=inactive",), True),
        (("c=IN IP4 0.0.0.0",), True),
        (("c=IN IP4 0.0.0.0", "a=recvonly"), True),
    ],
)
def test_stream_is_on_hold_when_its_sender_wants_to_receive_nothing(lines, held):
    assert stream(*lines).is_hold is held


@pytest.mark.rfc("3264 8.4")
@pytest.mark.parametrize(
    "lines, held",
    [
        (("m=audio 1 RTP/AVP 0", "a=sendonly", "m=video 0 RTP/AVP 31"), True),
        (("m=audio 1 RTP/AVP 0", "a=sendonly", "m=video 1 RTP/AVP 31"), False),
        (("m=audio 0 RTP/AVP 0", "a=sendonly"), False),
        ((), False),
    ],
)
def test_held_sdp_has_all_its_streams_on_hold(lines, held):
    assert SDP.parse(body(*lines)).is_hold is held


# ---- the table of leniencies, a row each

LENIENT = {
    "LF line ends": (body("m=audio 1 RTP/AVP 0").replace(b"\r\n", b"\n"), lambda sdp: sdp.media[0].port, 1),
    "no line end at the end": (body("m=audio 1 RTP/AVP 0")[:-2], lambda sdp: sdp.media[0].formats, ("0",)),
    "blank lines at the end": (body("m=audio 1 RTP/AVP 0") + b"\r\n\r\n", lambda sdp: len(sdp.media), 1),
    "blank lines inside": (body("", "a=x", " ", "m=audio 1 RTP/AVP 0"), lambda sdp: len(sdp.attributes), 1),
    "an unknown type letter": (body("x=y", "m=audio 1 RTP/AVP 0", "Z=y"), lambda sdp: len(sdp.media), 1),
    "an odd order": (
        crlf("v=0\nt=0 0\na=sendonly\nc=IN IP4 192.0.2.1\ns=x\no=- 1 1 IN IP4 192.0.2.1"),
        lambda sdp: (sdp.name, sdp.connection.address, sdp.direction),
        ("x", "192.0.2.1", "sendonly"),
    ),
    "an odd order in a stream": (
        body("m=audio 1 RTP/AVP 0", "a=x", "c=IN IP4 192.0.2.7"),
        lambda sdp: sdp.media[0].connection.address,
        "192.0.2.7",
    ),
    "lines of the session in a stream": (
        body("m=audio 1 RTP/AVP 0", "t=x", "e=x", "p=x", "u= ", "r=", "z=", session="i=-"),
        lambda sdp: (sdp.times, sdp.emails),
        ((Time(),), ()),
    ),
    "no s=": (crlf("v=0\no=- 1 1 IN IP4 192.0.2.1\nt=0 0"), lambda sdp: sdp.name, ""),
    "an empty s=": (crlf("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=\nt=0 0"), lambda sdp: sdp.name, ""),
    "no t=": (crlf("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-"), lambda sdp: sdp.times, (Time(0, 0),)),
    "no c=": (body("m=audio 0 RTP/AVP 0", session="t=0 0"), lambda sdp: sdp.media[0].connection, None),
    "a second c=, i= and u=": (
        body("c=IN IP4 192.0.2.2", "i=a", "i=b", "u=c", "u=d", "k=e", "k=f"),
        lambda sdp: (sdp.connection.address, sdp.information, sdp.uri, sdp.key),
        ("192.0.2.1", "a", "c", "e"),
    ),
    "several blanks in m=": (body("m=audio  1\tRTP/AVP  0  8 "), lambda sdp: sdp.media[0].formats, ("0", "8")),
    "several blanks in c=": (body(session="c=IN  IP4\t192.0.2.9 "), lambda sdp: sdp.connection.address, "192.0.2.9"),
    "several blanks in t=": (body(session="t=0  0 "), lambda sdp: sdp.times, (Time(),)),
    "blanks in b=": (body("b=AS: 64 "), lambda sdp: sdp.bandwidths, (Bandwidth("AS", 64),)),
    "an empty user name": (crlf("v=0\no= 1 2 IN IP4 192.0.2.1\ns=-"), lambda sdp: sdp.origin[:3], ("", 1, 2)),
    "a user name with blanks": (crlf("v=0\no=A B 1 2 IN IP4 192.0.2.1\ns=-"), lambda sdp: sdp.origin[:3], ("A B", 1, 2)),
    "an address of the other kind": (body(session="c=IN IP4 2001:db8::1"), lambda sdp: sdp.connection[1:3], ("IP4", "2001:db8::1")),
    "a short time": (body(session="t=1000 2000"), lambda sdp: sdp.times, (Time(1000, 2000),)),
    "z= without r=": (body(session="t=0 0\nz=3730928400 1h"), lambda sdp: sdp.times[0].adjustments, (Adjustment(3730928400, 3600),)),
    "b= that cannot be read": (
        body("b=AS:x", "b=AS", "b=", "b=AS:64", "m=audio 1 RTP/AVP 0", "b=TIAS:"),
        lambda sdp: (sdp.bandwidths, sdp.media[0].bandwidths),
        ((Bandwidth("AS", 64),), ()),
    ),
    "o= that cannot be read": (crlf("v=0\no=x\ns=-\nm=audio 1 RTP/AVP 0"), lambda sdp: sdp.media[0].port, 1),
    "an address no packet can reach": (body(session="c=IN IP4 300.1.1.1"), lambda sdp: sdp.connection.is_usable, False),
    "a group without TTL": (body(session="c=IN IP4 224.2.1.1"), lambda sdp: sdp.connection.is_usable, False),
    "a group of the other addrtype": (body(session="c=IN IP4 ff02::1"), lambda sdp: sdp.connection.is_usable, False),
    "a unicast address with a TTL": (body(session="c=IN IP4 192.0.2.1/127"), lambda sdp: sdp.connection.is_usable, True),
    "misnamed static payload types": (
        body("m=audio 1 RTP/AVP 9 18", "a=rtpmap:9 G722/16000", "a=rtpmap:18 G729a/8000"),
        lambda sdp: [rtpmap.key for rtpmap in sdp.media[0].rtpmaps.values()],
        [("g722", 8000, 1), ("g729", 8000, 1)],
    ),
    "b= of an unknown type": (body("b=X-Y:a b", "b=Z:7"), lambda sdp: sdp.bandwidths, (Bandwidth("Z", 7),)),
    "a rejected stream without formats": (body("m=audio 0 RTP/AVP"), lambda sdp: sdp.media[0].formats, ()),
    "an attribute without a name": (body("a=", "a=:x"), lambda sdp: list(sdp.attributes), [Attribute(""), Attribute("", "x")]),
    "an attribute that is no token": (body("a=ä@:x"), lambda sdp: sdp.attributes.first("ä@"), "x"),
    "blanks round an attribute": (body("a= sendonly ", "a=x :y"), lambda sdp: (sdp.direction, "x" in sdp.attributes), ("sendonly", True)),
    "blanks before a value": (
        body("m=audio 1 RTP/AVP 96", "a=rtpmap: 96\tX / 8000 / 2 ", "a=fmtp: 96  a ", "a=ptime: 20", "a=rtcp: 7"),
        lambda sdp: (sdp.media[0].rtpmap(96), sdp.media[0].fmtp(96), sdp.media[0].ptime, sdp.media[0].rtcp),
        (RTPMap(96, "X", 8000, 2), "a", 20, RTCP(7)),
    ),
    "bytes that are not UTF-8": (body("i=é").replace("é".encode(), b"\xe9"), lambda sdp: sdp.information, "\udce9"),
}  # fmt: skip


@pytest.mark.rfc("8866 5")
@pytest.mark.parametrize("row", LENIENT)
def test_line_that_peers_send_is_read(row):
    text, read, value = LENIENT[row]
    assert read(SDP.parse(text)) == value


@pytest.mark.parametrize("row", LENIENT)
def test_line_that_peers_send_is_written_unchanged(row):
    text = LENIENT[row][0]
    assert bytes(SDP.parse(text)) == text


def test_table_in_the_docstring_has_its_rows():
    rows = [line for line in module.__doc__.split("\n") if line.startswith("| ")]
    assert len(rows) - 1 == 24 and len(LENIENT) >= 24


# ---- refused descriptions

REFUSED = {
    "nothing": (b"", "SDP: v= is missing"),
    "blank lines alone": (b"\r\n\r\n", "SDP: v= is missing"),
    "no v=": (b"o=- 1 1 IN IP4 a.example\r\n", "SDP line 1, o=: a description must begin with v="),
    "no o=": (b"v=0\r\ns=-\r\nt=0 0\r\n", "SDP: o= is missing"),
    "two v=": (body("v=0"), "SDP line 6, v=: v= appears twice"),
    "two o=": (body("o=- 1 1 IN IP4 192.0.2.1"), "SDP line 6, o=: o= appears twice"),
    "two s=": (body("s=-"), "SDP line 6, s=: s= appears twice"),
    "two descriptions": (body("m=audio 1 RTP/AVP 0") + body(), "SDP line 7, v=: v= behind m=: there are two descriptions in one"),
    "version 1": (body().replace(b"v=0", b"v=1"), "SDP line 1, v=: number not in 0 to 0"),
    "no version": (body().replace(b"v=0", b"v="), "SDP line 1, v=: not a number"),
    "no equals sign": (body("a sendonly"), "SDP line 6: not type=value"),
    "a blank before the equals sign": (body("a =sendonly"), "SDP line 6: not type=value"),
    "a fold": (body("a=x", " y"), "SDP line 7: not type=value"),
    "a byte order mark": ("\ufeffv=0\r\n".encode(), "SDP line 1: not type=value"),
    "NUL": (body("a=x\0y"), "SDP line 6: NUL or CR in a line"),
    "CR": (body("a=x\ry"), "SDP line 6: NUL or CR in a line"),
    "CR CR LF": (body("a=x\r"), "SDP line 6: NUL or CR in a line"),
    "an escape in an address": (body(session="c=IN IP4 \x1b[2J"), "SDP line 4, c=: c= must be nettype, addrtype and address"),
    "two addresses": (body(session="c=IN IP4 192.0.2.1 192.0.2.2"), "SDP line 4, c=: c= must be nettype"),
    "no address": (body(session="c=IN IP4"), "SDP line 4, c=: c= must be nettype"),
    "nothing before the slash": (body(session="c=IN IP4 /127"), "SDP line 4, c=: c= has too many numbers behind its address, or no address"),
    "three slashes": (body(session="c=IN IP4 233.252.0.1/1/1/1"), "SDP line 4, c=: c= has too many numbers behind its address, or no address"),
    "a TTL of IP6": (body(session="c=IN IP6 ff00::1/1/1"), "SDP line 4, c=: c= has too many numbers behind its address, or no address"),
    "a TTL of 256": (body(session="c=IN IP4 233.252.0.1/256"), "SDP line 4, c=: number not in 0 to 255"),
    "no groups": (body(session="c=IN IP4 233.252.0.1/1/0"), "SDP line 4, c=: number not in 1 to"),
    "one time": (body(session="t=0"), "SDP line 4, t=: t= must be a start and a stop time"),
    "a negative time": (body(session="t=-1 0"), "SDP line 4, t=: not a number"),
    "Arabic digits": (body(session="t=٠ 0"), "SDP line 4, t=: not a number"),
    "r= before any t=": (body(session="r=1 1 1\nt=0 0"), "SDP line 4, r=: r= before any t="),
    "r= without offsets": (body(session="t=0 0\nr=1 1"), "SDP line 5, r=: r= must be an interval, a duration and offsets"),
    "r= with an unknown unit": (body(session="t=0 0\nr=1w 1 1"), "SDP line 5, r=: not a time"),
    "half a z=": (body(session="t=0 0\nz=1"), "SDP line 5, z=: z= must be pairs"),
    "a media type with a slash": (body("m=au/dio 1 RTP/AVP 0"), "SDP line 6, m=: m= must be media, port, proto and formats"),
    "no port": (body("m=audio RTP/AVP 0"), "SDP line 6, m=: not a number"),
    "port 65536": (body("m=audio 65536 RTP/AVP 0"), "SDP line 6, m=: number not in 0 to 65535"),
    "port -1": (body("m=audio -1 RTP/AVP 0"), "SDP line 6, m=: not a number"),
    "no ports": (body("m=audio 1/0 RTP/AVP 0"), "SDP line 6, m=: number not in 1 to"),
    "no formats": (body("m=audio 1 RTP/AVP"), "SDP line 6, m=: m= without a format"),
    "a proto that ends in a slash": (body("m=audio 1 RTP/ 0"), "SDP line 6, m=: m= must be media"),
    "a broken c= of a stream": (body("m=audio 1 RTP/AVP 0", "c=IN"), "SDP line 7, c=: c= must be nettype"),
    "text that cannot be encoded": ("v=0\r\ni=\ud800", "SDP: text with surrogates that cannot be encoded"),
}  # fmt: skip


@pytest.mark.rfc("8866 9")
@pytest.mark.parametrize("row", REFUSED)
def test_malformed_description_is_refused_by_line_and_type(row):
    text, problem = REFUSED[row]
    assert str(error_of(text)).startswith(problem)


def test_error_has_the_value_of_its_line():
    assert error_of(body("m=audio 1 RTP/AVP")).value == "audio 1 RTP/AVP"


@pytest.mark.parametrize(
    "line",
    [
        "31 LPC",
        "x PCMU/8000",
        "128 PCMU/8000",
        "0 PCMU/0",
        "0 PCMU/8000/0",
        "0 PCMU/x",
        "0 /8000",
        "0",
    ],
)
def test_broken_rtpmap_raises_only_when_read(line):
    section = stream(f"a=rtpmap:{line}", field="audio 1 RTP/AVP 96 31 0 x 128")
    with pytest.raises(ParseError, match="SDP line 7, a="):
        section.rtpmap(line.partition(" ")[0])


@pytest.mark.rfc("4475 3.1.1.1")
def test_broken_rtpmap_of_a_static_payload_type_keeps_its_meaning():
    assert stream("a=rtpmap:31 LPC", field="video 1 RTP/AVP 31").rtpmaps == {
        "31": RTPMap(31, "H261", 90000)
    }


@pytest.mark.rfc("8866 5.2")
@pytest.mark.parametrize(
    "text, problem",
    [
        ("- 1 1 IN IP4", "o= must have six fields"),
        ("- x 1 IN IP4 a.example", "not a number"),
        ("- -1 1 IN IP4 a.example", "not a number"),
        (f"- {'9' * 21} 1 IN IP4 a.example", "number not in"),
    ],
)
def test_broken_origin_raises_only_when_read(text, problem):
    sdp = SDP.parse(body().replace(b"- 1 1 IN IP4 192.0.2.1", text.encode()))
    with pytest.raises(ParseError, match=f"SDP line 2, o=: {problem}"):
        _ = sdp.origin


# ---- limits


def test_description_at_each_limit_is_read():
    assert len(SDP.parse(body(*["a=x"] * (LINES - 5))).attributes) == LINES - 5


@pytest.mark.parametrize(
    "text, problem",
    [
        (body(*["a=x"] * (LINES - 4)), f"more than {LINES} lines"),
        (
            body(*["m=audio 1 RTP/AVP 0"] * (MEDIA_DESCRIPTIONS + 1)),
            f"more than {MEDIA_DESCRIPTIONS} media descriptions",
        ),
        (body("m=audio 1 RTP/AVP" + " 0" * (FORMATS + 1)), f"more than {FORMATS} formats"),
        (body(*["t=0 0"] * TIMES), f"more than {TIMES} t=, r= and z= lines"),
        (body("r=1 1" + " 1" * (TIME_FIELDS - 1)), f"more than {TIME_FIELDS} numbers"),
    ],
    ids=["lines", "media descriptions", "formats", "times", "numbers"],
)
def test_description_over_a_limit_is_refused(text, problem):
    assert problem in error_of(text).problem


def test_streams_over_the_limit_cannot_be_assigned():
    sdp = SDP.parse(SECTION_5)
    with pytest.raises(InvalidValue):
        sdp.media = sdp.media[:1] * (MEDIA_DESCRIPTIONS + 1)


# ---- assigning


def changed(before: str, after: str) -> bytes:
    assert before.encode() in SECTION_5
    return SECTION_5.replace(before.encode(), after.encode())


CHANGES = {
    "origin": (
        lambda sdp: sdp.origin._replace(session_version=3724394406),
        "3724394405",
        "3724394406",
    ),
    "name": (lambda sdp: "-", "s=Call to John Smith", "s=-"),
    "information": (lambda sdp: "é", "i=SDP Offer #1", "i=é"),
    "uri": (lambda sdp: None, "u=http://www.jdoe.example.com/home.html\r\n", ""),
    "emails": (
        lambda sdp: (*sdp.emails, "a@b.example (A B)"),
        "e=Jane Doe <jane@jdoe.example.com>",
        "e=Jane Doe <jane@jdoe.example.com>\r\ne=a@b.example (A B)",
    ),
    "phones": (lambda sdp: (), "p=+1 617 555-6011\r\n", ""),
    "connection": (lambda sdp: "2001:db8::7", "c=IN IP4 198.51.100.1", "c=IN IP6 2001:db8::7"),
    "bandwidths": (
        lambda sdp: [Bandwidth("AS", 64), Bandwidth("CT", 128)],
        "t=0 0",
        "b=AS:64\r\nb=CT:128\r\nt=0 0",
    ),
    "times": (lambda sdp: [Time(3724394400, 0)], "t=0 0", "t=3724394400 0"),
    "direction": (lambda sdp: "inactive", "t=0 0\r\n", "t=0 0\r\na=inactive\r\n"),
    "media": (lambda sdp: sdp.media[::2], "m=audio 49180 RTP/AVP 0\r\n", ""),
}


@pytest.mark.parametrize("field", CHANGES)
def test_assigned_field_changes_only_its_line(field):
    value, before, after = CHANGES[field]
    sdp = SDP.parse(SECTION_5)
    setattr(sdp, field, value(sdp))
    assert bytes(sdp) == changed(before, after)


STREAM_CHANGES = {
    "media": ("text", "m=text 51372"),
    "port": (0, "m=video 0"),
    "port_count": (2, "m=video 51372/2"),
    "proto": ("RTP/SAVP", "m=video 51372 RTP/SAVP 99"),
    "formats": ((99, "31"), "m=video 51372 RTP/AVP 99 31"),
    "information": ("x", "99\r\ni=x\r\nc="),
    "connection": ("192.0.2.4", "c=IN IP4 192.0.2.4\r\na="),
    "connections": (
        (Connection.make("ff00::1"), Connection.make("ff00::2")),
        "c=IN IP6 ff00::1\r\nc=IN IP6 ff00::2\r\na=",
    ),
    "bandwidths": ((Bandwidth("TIAS", 64000),), "c=IN IP6 2001:db8::2\r\nb=TIAS:64000\r\na="),
    "ptime": (20, "90000\r\na=ptime:20\r\n"),
    "maxptime": (2.5, "90000\r\na=maxptime:2.5\r\n"),
    "rtcp": (RTCP(7), "90000\r\na=rtcp:7\r\n"),
    "direction": ("recvonly", "90000\r\na=recvonly\r\n"),
}


@pytest.mark.parametrize("field", STREAM_CHANGES)
def test_assigned_field_of_a_stream_has_its_place_in_the_grammar(field):
    value, text = STREAM_CHANGES[field]
    sdp = SDP.parse(SECTION_5)
    setattr(sdp.media[2], field, value)
    assert text in str(sdp) and SDP.parse(bytes(sdp)) == sdp


@pytest.mark.parametrize("field", [*CHANGES])
def test_assigned_equal_value_leaves_the_bytes_unchanged(field):
    text = body(
        "i=a ",
        "u=x:y",
        "e=a",
        "p=b",
        "b=AS:  064",
        "a=sendrecv ",
        "m=audio 00  RTP/AVP  0 ",
        session="t=0  00\nr=7d  1h 0\nc=IN  IP4 192.0.2.1",
    )
    sdp = SDP.parse(text)
    if field in ("emails", "phones"):
        setattr(sdp, field, ())
        text = bytes(sdp)
    setattr(sdp, field, getattr(sdp, field))
    assert bytes(sdp) == text


def test_line_end_of_a_new_line_is_that_of_the_others():
    sdp = SDP.parse(b"v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0")
    sdp.attributes.add("sendonly")
    assert bytes(sdp) == b"v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0\na=sendonly\n"


def test_missing_line_end_is_written_when_a_stream_follows():
    sdp = SDP.parse(body()[:-2])
    sdp.media = [MediaDescription.make("audio", 1, [0])]
    assert bytes(sdp) == body("m=audio 1 RTP/AVP 0")


def test_stream_of_another_description_is_copied():
    theirs, ours = SDP.parse(SECTION_5), SDP.parse(body())
    ours.media = theirs.media
    ours.media[0].port = 7
    assert bytes(theirs) == SECTION_5


def test_stream_assigned_twice_is_copied():
    sdp = SDP.parse(body("m=audio 1 RTP/AVP 0"))
    sdp.media = sdp.media * 2
    sdp.media[0].port = 2
    assert [section.port for section in sdp.media] == [2, 1]


def test_copy_can_be_changed_alone():
    sdp = SDP.parse(SECTION_5)
    copy = sdp.copy()
    copy.name, copy.media[0].port = "-", 1
    assert bytes(sdp) == SECTION_5


@pytest.mark.rfc("8866 5.12")
def test_key_can_be_read_and_removed_but_not_set():
    sdp = SDP.parse(body("k=clear:secret"))
    assert sdp.key == "clear:secret"
    sdp.key = None
    assert bytes(sdp) == body()
    with pytest.raises(InvalidValue):
        sdp.key = "prompt"


def test_assigned_direction_replaces_the_old_one():
    section = stream("a=sendonly", "a=ptime:20")
    section.direction = "sendrecv"
    assert str(section) == "m=audio 49170 RTP/AVP 0\r\na=sendrecv\r\na=ptime:20\r\n"


WRONG = {
    "name": ("", None, "a\nb", "a\rb", "a\0b", "\ud800", 7),
    "information": ("", "a\r\nb", "\0"),
    "uri": ("", "a b", "é", "a\r\nb"),
    "emails": (["jane"], ["a@b\r\n"], ["a@b (x"], ["<a@b"], ["a b@c"]),
    "phones": (["x"], ["1"], ["+1 617\r\n"], ["12 (x"]),
    "origin": (
        None,
        Origin("a b", 1, 1, "IN", "IP4", "192.0.2.1"),
        Origin("", 1, 1, "IN", "IP4", "192.0.2.1"),
        Origin("a\r\n", 1, 1, "IN", "IP4", "192.0.2.1"),
        Origin("-", -1, 1, "IN", "IP4", "192.0.2.1"),
        Origin("-", 1, 10**20, "IN", "IP4", "192.0.2.1"),
        Origin("-", 1, True, "IN", "IP4", "192.0.2.1"),
        Origin("-", 1, 1, "IN", "IP4", "233.252.0.1"),
        Origin("-", 1, 1, "IN", "IP4", "2001:db8::1"),
        Origin("-", 1, 1, "IN", "IP6", "192.0.2.1"),
        Origin("-", 1, 1, "I N", "IP4", "192.0.2.1"),
    ),
    "connection": (
        "",
        "256.0.0.1",
        "192.0.2.1\r\na=x",
        "fe80::1%eth0",
        "a_b.example",
        Connection.make("233.252.0.1"),
        Connection.make("233.252.0.1", ttl=256),
        Connection.make("192.0.2.1", ttl=1),
        Connection.make("192.0.2.1", numaddr=2),
        Connection.make("2001:db8::1", numaddr=2),
        Connection.make("ff00::1", ttl=1),
        Connection.make("ff00::1", numaddr=0),
    ),
    "bandwidths": ([Bandwidth("A S", 1)], [Bandwidth("AS", -1)], [Bandwidth("AS", 1.5)]),
    "times": (
        [],
        [Time(1, 0)],
        [Time(-1, 0)],
        [Time(0, 0, (Repeat(0, 1),))],
        [Time(0, 0, (Repeat(1, 1, ()),))],
        [Time(0, 0, (), (Adjustment(3730928400, 1),))],
    ),
    "direction": ("sendrecv\r\n", "both", "", None),
}


@pytest.mark.rfc("8866 9")
@pytest.mark.parametrize(
    "field, value", [(field, value) for field, values in WRONG.items() for value in values]
)
def test_value_outside_the_grammar_cannot_be_assigned(field, value):
    sdp = SDP.parse(SECTION_5)
    with pytest.raises(InvalidValue):
        setattr(sdp, field, value)
    assert bytes(sdp) == SECTION_5


STREAM_WRONG = {
    "media": ("", "au dio", "audio\r\n"),
    "port": (-1, 65536, "1", True, None),
    "port_count": (0, -1, 65536),
    "proto": ("", "RTP/", "RTP AVP", "RTP/AVP\n"),
    "formats": ((), ("0 8",), ("",), ("0\r\n",), range(FORMATS + 1)),
    "information": ("", "a\nb"),
    "connection": ("256.1.1.1", "a\nb"),
    "connections": ((Connection.make("233.252.0.1"),),),
    "bandwidths": ((Bandwidth("", 1),),),
    "ptime": (0, -20, "20", True, 1e300, float("nan")),
    "maxptime": (0, float("inf")),
    "rtcp": (RTCP(-1), RTCP(65536), RTCP(1, Connection.make("x\ny"))),
    "direction": ("SENDONLY", ""),
    "key": ("prompt",),
}


@pytest.mark.rfc("8866 9")
@pytest.mark.parametrize(
    "field, value", [(field, value) for field, values in STREAM_WRONG.items() for value in values]
)
def test_value_outside_the_grammar_cannot_be_assigned_to_a_stream(field, value):
    sdp = SDP.parse(SECTION_5)
    with pytest.raises(InvalidValue):
        setattr(sdp.media[2], field, value)
    assert bytes(sdp) == SECTION_5


@pytest.mark.parametrize(
    "name, value",
    [
        ("", None),
        ("a b", None),
        ("a:b", None),
        ("a", ""),
        ("a", "x\r\ny"),
        ("a", "\0"),
        ("é", None),
        ("a", 7),
    ],
)
def test_invalid_attribute_cannot_be_added_or_set(name, value):
    attributes = SDP.parse(SECTION_5).attributes
    with pytest.raises(InvalidValue):
        attributes.add(name, value)
    with pytest.raises(InvalidValue):
        attributes.set(name, value)


@pytest.mark.parametrize(
    "value",
    [
        RTPMap(128, "X", 1),
        RTPMap(0, "", 1),
        RTPMap(0, "a/b", 1),
        RTPMap(0, "X", 0),
        RTPMap(0, "X", 1, 0),
    ],
)
def test_invalid_rtpmap_cannot_be_a_format(value):
    with pytest.raises(InvalidValue):
        MediaDescription.make("audio", 1, [value])


@pytest.mark.parametrize("fmtp", [{0: ""}, {0: "a\r\nb"}, {8: "a"}])
def test_invalid_format_parameters_are_refused(fmtp):
    with pytest.raises(InvalidValue):
        MediaDescription.make("audio", 1, [0], fmtp=fmtp)


@pytest.mark.rfc("8866 5.7")
def test_description_without_an_address_cannot_be_made():
    section = MediaDescription.make("audio", 1, [0])
    with pytest.raises(InvalidValue):
        SDP.make(media=[section], origin=Origin.make("192.0.2.1"))


def test_description_without_origin_and_address_cannot_be_made():
    with pytest.raises(InvalidValue):
        SDP.make()


@pytest.mark.rfc("3264 5")
def test_session_ids_are_below_2_to_the_63_and_differ():
    ids = {Origin.make("192.0.2.1").session_id for _ in range(64)}
    assert len(ids) == 64 and max(ids) < 2**63


def test_descriptions_of_the_same_bytes_are_equal():
    same = SDP.parse(SECTION_5) == SDP.parse(SECTION_5.decode())
    assert (
        same
        and SDP.parse(SECTION_5) != SDP.parse(SECTION_6_7)
        and SDP.parse(SECTION_5) != SECTION_5
    )


def test_repr_is_one_line():
    sdp = SDP.parse(body("m=audio 49170 RTP/AVP 0", "a=sendonly"))
    assert (repr(sdp), repr(sdp.media[0])) == (
        "<SDP - 1 1 IN IP4 192.0.2.1: audio 49170 sendonly>",
        "<MediaDescription audio 49170 RTP/AVP 0 sendonly>",
    )


# ---- any text

PIECES = st.sampled_from(
    [
        "v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "t=0 0", "c=IN IP4 192.0.2.1", "m=audio 1 RTP/AVP 0", "a=sendonly", "a=rtpmap:0 X/1",
        "b=AS:1", "r=7d 1h 0", "z=1 -1h", "x=", "", " ", "k=prompt", "i=é", "a=fmtp:0 ;", "m=audio 0 RTP/AVP", "a=ptime:0", "e=", "=", "a",
    ]
)  # fmt: skip
TEXTS = st.lists(
    st.tuples(PIECES | st.text(max_size=12), st.sampled_from(["\r\n", "\n", "\r", ""])), max_size=24
).map(lambda lines: "".join(text + end for text, end in lines).encode("utf-8", "surrogatepass"))
START = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"


@given(TEXTS | TEXTS.map(START.__add__) | st.binary(max_size=80).map(START.__add__))
def test_any_bytes_come_back_unchanged_or_are_refused(text):
    try:
        sdp = SDP.parse(text)
    except ParseError:
        return
    assert bytes(sdp) == text == bytes(sdp.copy()) == bytes(SDP.parse(str(sdp)))


TOKENS = st.text("abcXYZ019-+.!", min_size=1, max_size=6)
WORDS = st.text(
    st.characters(blacklist_characters="\0\r\n", blacklist_categories=["Cs"]),
    min_size=1,
    max_size=12,
)
NUMBERS = st.integers(0, 2**63)
ADDRESSES = st.ip_addresses().filter(lambda ip: not ip.is_multicast).map(str) | st.just(
    "host.example.com"
)
ATTRIBUTE = st.builds(Attribute, TOKENS.map("x-".__add__), st.none() | WORDS)
BANDWIDTH = st.builds(Bandwidth, TOKENS, NUMBERS)
RTPMAPS = st.lists(
    st.builds(
        RTPMap, st.integers(0, 127), TOKENS, st.integers(1, 192000), st.none() | st.integers(1, 8)
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda rtpmap: rtpmap.payload_type,
)
DIRECTION = st.none() | st.sampled_from(module.DIRECTIONS)
STREAMS = st.builds(
    MediaDescription.make,
    TOKENS,
    st.integers(0, 65535),
    RTPMAPS,
    port_count=st.none() | st.integers(1, 9),
    information=st.none() | WORDS,
    connection=st.none() | ADDRESSES,
    bandwidths=st.lists(BANDWIDTH, max_size=2),
    ptime=st.none() | st.integers(1, 200) | st.just(2.5),
    direction=DIRECTION,
    attributes=st.lists(ATTRIBUTE, max_size=3),
)
ORIGINS = st.builds(
    lambda address, username, number, version: Origin.make(
        address, username=username, session_id=number, session_version=version
    ),
    ADDRESSES,
    TOKENS,
    NUMBERS,
    NUMBERS,
)
MADE = st.builds(
    SDP.make,
    ADDRESSES,
    st.lists(STREAMS, max_size=3),
    origin=st.none() | ORIGINS,
    name=WORDS,
    information=st.none() | WORDS,
    bandwidths=st.lists(BANDWIDTH, max_size=2),
    times=st.lists(
        st.sampled_from([Time(), Time(3724394400, 0), Time(0, 0, (Repeat(7, 1),))]),
        min_size=1,
        max_size=2,
    ),
    attributes=st.lists(ATTRIBUTE, max_size=3),
)

SESSION_ORDER = re.compile(r"vos(?:i)?u?e*p*c?b*(?:tr*z?)+a*(?:mi?c*b*a*)*")


@given(MADE)
def test_description_that_is_made_is_read_back(sdp):
    again = SDP.parse(bytes(sdp))
    fields = ("origin", "name", "information", "connection", "bandwidths", "times")
    assert [getattr(again, field) for field in fields] == [getattr(sdp, field) for field in fields]


@given(MADE)
def test_streams_that_are_made_are_read_back(sdp):
    fields = (
        "media",
        "port",
        "port_count",
        "formats",
        "connection",
        "bandwidths",
        "ptime",
        "direction",
        "rtpmaps",
    )
    for made, read in zip(sdp.media, SDP.parse(bytes(sdp)).media):
        assert [getattr(read, field) for field in fields] == [
            getattr(made, field) for field in fields
        ]
        assert list(read.attributes) == list(made.attributes)


@pytest.mark.rfc("8866 9")
@given(MADE)
def test_description_that_is_made_has_the_order_of_the_grammar(sdp):
    assert SESSION_ORDER.fullmatch("".join(line[0] for line in str(sdp).split("\r\n")[:-1]))


@pytest.mark.parametrize("kind", [Origin, Connection, Bandwidth, RTPMap, RTCP, MediaField, Repeat])
@given(text=st.text("0123456789 /:IPN-.tabAVR*", max_size=30))
def test_value_that_can_be_written_is_read_back_as_itself(kind, text):
    try:
        value = kind.parse(text)
        written = str(value)
    except (ParseError, InvalidValue):
        return
    assert kind.parse(written) == value


# ---- the corpus

PLACEHOLDERS = {
    rb"\[[^\]\s]*ip_type\]": b"4",
    rb"\[[^\]\s]*ip\]": b"192.0.2.9",
    rb"\[[^\]\s]*port[^\]\s]*\]": b"6000",
}


@lru_cache(1)
def bodies() -> dict[bytes, str]:
    """Return each description of the corpus and its file: bodies, parts, bodies of SIPp scenarios."""
    found: dict[bytes, str] = {}
    for row in corpus.datagrams():
        for start in re.finditer(rb"(?:\r\n\r\n|\n\n)(?=v=)", row.data):
            whole = row.data[start.end() :]
            # up to the boundary, if it is a part of a body
            found.setdefault(re.split(rb"\r?\n--", whole, maxsplit=1)[0], row.file)
    if corpus.PRESENT:
        for path in sorted(corpus.FOLDER.glob("sipp-*/**/*.xml")):
            for cdata in re.findall(
                rb"^[ \t]*(v=.*?)(?:\]\]>|\Z)", path.read_bytes(), re.DOTALL | re.MULTILINE
            ):
                text = b"\r\n".join(line.strip() for line in cdata.split(b"\n"))
                for pattern, value in PLACEHOLDERS.items():
                    text = re.sub(pattern, value, text)
                found.setdefault(text, path.name)
    return found


def read_all(text: bytes | str) -> SDP | None:
    """Parse a description and read all its values; None for one that is refused."""
    try:
        sdp = SDP.parse(text)
    except ParseError as error:
        str(error)
        return None
    for section in (sdp, *sdp.media):
        for name in dir(type(section)):
            if isinstance(getattr(type(section), name), property):
                try:
                    getattr(section, name)
                except ParseError as error:
                    str(error)
        list(section.attributes)
        repr(section)
    return sdp


@corpus.needed
def test_corpus_has_descriptions():
    assert len(bodies()) > 300


@corpus.needed
def test_description_of_the_corpus_comes_back_unchanged_or_is_refused():
    read = [(bytes(sdp), text) for text in bodies() if (sdp := read_all(text)) is not None]
    assert len(read) > 250 and [file for written, file in read if written != file] == []


NOT_SDP = {
    "rfc4475": {
        # in wsinv and dblreq; §5: no whitespace on either side of the equals sign
        "SDP line 7: not type=value: 'm =video 3227 RTP/AVP 31'",
        "SDP line 2: not type=value: 'testing=123'",
    }
}


@corpus.needed
@pytest.mark.parametrize(
    "folder", ["rfc3665-flows", "rfc4475", "rfc5118", "realworld-udp", "sip-message-examples"]
)
def test_descriptions_of_rfcs_and_of_peers_are_read(folder):
    refused = {
        str(error_of(text))
        for text, file in bodies().items()
        if file.startswith(folder) and read_all(text) is None
    }
    assert refused == NOT_SDP.get(folder, set())


# ---- another library: sdp-transform, written to the same RFCs by others


def theirs_of(text: bytes) -> dict:
    transform = pytest.importorskip("sdp_transform", reason="sdp-transform is not installed")
    return transform.parse(text.decode("utf-8", "surrogateescape"))


def number(value: object) -> object:
    """It converts all that looks like a number: the address 4294967296, the encoding 1e5."""
    try:
        return float(str(value))
    except ValueError:
        return value


def ours(sdp: SDP) -> list[dict]:
    found = []
    for section in sdp.media:
        connection = section.connection
        rtpmaps = [
            rtpmap
            for rtpmap in map(section.rtpmap, section.formats)
            if rtpmap is not None and _is_written(section, rtpmap)
        ]
        found.append(
            {
                "m=": [section.media, section.port, section.proto, " ".join(section.formats)],
                "codecs": {
                    fmt.payload_type: (number(fmt.encoding), fmt.clock_rate, fmt.channels)
                    for fmt in rtpmaps
                },
                "fmtp": {number(fmt): number(text) for fmt, text in section.fmtps.items()},
                "direction": section.direction,
                "connection": connection
                and (int(connection.addrtype[2:]), number(connection.address)),
                "ptime": section.ptime,
            }
        )
    return found


def _is_written(section: MediaDescription, rtpmap: RTPMap) -> bool:
    return any(
        (value or "").split()[:1] == [str(rtpmap.payload_type)]
        for value in section.attributes.all("rtpmap")
    )


def theirs(text: bytes) -> list[dict]:
    session = theirs_of(text)
    found = []
    for section in session["media"]:
        connection = section.get("connection", session.get("connection"))
        payloads = str(section.get("payloads", "")).split()
        codecs = [fmt for fmt in section["rtp"] if str(fmt["payload"]) in payloads]
        fmtp: dict = {}
        for row in section["fmtp"]:
            # it keeps a blank at the end of the line
            fmtp.setdefault(number(row["payload"]), number(str(row["config"]).strip()))
        found.append(
            {
                "m=": [
                    section.get("type"),
                    section.get("port"),
                    section.get("protocol"),
                    " ".join(payloads),
                ],
                "codecs": {
                    fmt["payload"]: (number(fmt["codec"]), fmt.get("rate"), fmt.get("encoding"))
                    for fmt in codecs
                },
                "fmtp": fmtp,
                "direction": section.get("direction", session.get("direction", "sendrecv")),
                "connection": connection
                and (connection["version"], number(str(connection["ip"]).partition("/")[0])),
                "ptime": section.get("ptime"),
            }
        )
    return found


# Where the two differ, and why we stay with what we read.
DIFFERENT = {
    "rtpmap without a clock rate": "8866 6.6: payload-type SP encoding-name / clock-rate; sdp-transform takes 'LPC' alone",
    "blanks in rtpmap": "8866 6.6 has none; we skip them (the table above), sdp-transform reads an empty payload type",
}


def differs_in(sdp: SDP, text: bytes) -> str | None:
    values = [value or "" for section in sdp.media for value in section.attributes.all("rtpmap")]
    if any(re.match(r"[ \t]|[^ ]+ [ \t]|[^ ]+[ \t]+[^/]*[ \t]", value) for value in values):
        return "blanks in rtpmap"
    if any(
        not re.fullmatch(r"[0-9]{1,3} [^/ ]+/[0-9]+(/[0-9]+)?[ \t]*", value) for value in values
    ):
        return "rtpmap without a clock rate"
    return None


@corpus.needed
def test_another_library_reads_the_corpus_as_we_do():
    different = []
    compared = 0
    for text, file in bodies().items():
        sdp = read_all(text)
        if sdp is None or differs_in(sdp, text):
            continue
        compared += 1
        if ours(sdp) != theirs(text):
            different.append(file)
    assert compared > 230 and different == []


@corpus.needed
@pytest.mark.rfc("8866 6.6")
@pytest.mark.parametrize("reason", DIFFERENT)
def test_another_library_differs_in_the_rtpmap_only(reason):
    found = [
        (sdp, text)
        for text in bodies()
        if (sdp := read_all(text)) is not None and differs_in(sdp, text) == reason
    ]
    assert found
    for sdp, text in found:
        mine, other = [
            [
                {name: value for name, value in section.items() if name != "codecs"}
                for section in sections
            ]
            for sections in (_without_broken(sdp), theirs(text))
        ]
        assert mine == other


def _without_broken(sdp: SDP) -> list[dict]:
    readable = sdp.copy()
    for section in readable.media:
        section.attributes.remove("rtpmap")
    return ours(readable)


# What sdp-transform takes in m= and rtpmap, [\w/] and [\w.-], where §9 has token; it knows no number of ports.
PLAIN = st.builds(
    MediaDescription.make,
    st.sampled_from(["audio", "video", "image"]),
    st.integers(0, 65535),
    st.lists(
        st.builds(
            RTPMap,
            st.integers(0, 127),
            st.sampled_from(["PCMU", "X-a.b", "opus"]),
            st.integers(1, 96000),
            st.none() | st.just(2),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda rtpmap: rtpmap.payload_type,
    ),
    proto=st.sampled_from(["RTP/AVP", "UDP/TLS/RTP/SAVPF"]),
    connection=st.none() | ADDRESSES,
    ptime=st.none() | st.integers(1, 200) | st.just(2.5),
    direction=DIRECTION,
)


@given(
    st.builds(SDP.make, ADDRESSES, st.lists(PLAIN, max_size=4)),
    st.sampled_from(["mode=20", "0-15", "a=b; c"]),
    DIRECTION,
)
def test_another_library_reads_what_we_make_as_we_do(sdp, parameters, direction):
    for section in sdp.media:
        section.attributes.add("fmtp", f"{section.formats[0]} {parameters}")
    if direction is not None:
        sdp.direction = direction
    assert ours(sdp) == theirs(bytes(sdp))


# ---- linear time

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = "m=audio 4000 RTP/AVP 0 101\r\n"
SIZE = 65536
FAST = 0.05
"""Seconds of processor time for 64 KiB, all fields read and the offer answered."""

SHAPES = [
    "1", "0", " ", "\t", "/", ",", "a", "-", ":", ".", "(", "<", "1 ", "1d ", "0-255,", "a=b;", "0/", "=", "é", "\udcff", "@", "[", "%",
    "0 PCMU/8000 ", "a@b ",
]  # fmt: skip
PLACES = [
    "v={}", "s={}", "i={}", "u={}", "e={}", "p={}", "o={}", "o=- 1 1 IN IP4 {}", "o={} 1 1 IN IP4 x.example",
    "c={}", "c=IN IP4 {}", "c=IN IP4 233.252.0.1/{}", "b={}", "b=AS:{}", "t={}", "r={}", "r=1 1 {}", "z={}", "k={}", "a={}", "{}",
    "m={}", "m=audio {}", "m=audio 4000 {}", "m=audio 4000 RTP/AVP {}",
    AUDIO + "a=rtpmap:{}", AUDIO + "a=rtpmap:0 {}", AUDIO + "a=fmtp:{}", AUDIO + "a=fmtp:0 {}", AUDIO + "a=ptime:{}", AUDIO + "a=rtcp:{}",
    AUDIO + "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 {}",
]  # fmt: skip
WHOLE = {
    "attributes": HEAD + AUDIO + "a=x\r\n" * (LINES - 10),
    "attributes of the session": HEAD + "a=x\r\n" * (LINES - 10) + AUDIO,
    "directions": HEAD + AUDIO + "a=sendonly\r\n" * (LINES - 10),
    "more lines than there may be": HEAD + "\n" * SIZE,
    "lines of nothing": HEAD + "\n" * (LINES - 10),
    "addresses": HEAD + AUDIO + "c=IN IP4 a.example\n" * 3400,
    "bandwidths": HEAD + AUDIO + "b=AS:1\n" * (LINES - 10),
    "email addresses": HEAD + "e=a\n" * (LINES - 10),
    "times": HEAD + "t=0 0\n" * (TIMES - 1),
    "too many times": HEAD + "t=0 0\n" * (LINES - 10),
    "repeats": HEAD + "r=1 1 1\n" * (TIMES - 1),
    "streams and attributes of the session": HEAD
    + "a=x\n" * 3700
    + "m=audio 1 RTP/AVP 0\n" * MEDIA_DESCRIPTIONS,
    "streams without an address": HEAD[:-28]
    + "t=0 0\n"
    + "a=x\n" * 3700
    + "m=audio 1 RTP/AVP 0\n" * MEDIA_DESCRIPTIONS,
    "streams of many formats": HEAD
    + ("m=audio 1 RTP/AVP" + " 96" * 70 + "\n") * MEDIA_DESCRIPTIONS,
    "streams to answer": HEAD
    + (AUDIO + "a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\n") * MEDIA_DESCRIPTIONS,
    "payload types": HEAD
    + AUDIO
    + "".join(f"a=rtpmap:{number % 128} X/8000\n" for number in range(3000)),
    "formats": HEAD
    + "m=audio 1 RTP/AVP"
    + "".join(f" {number}" for number in range(FORMATS))
    + "\na=rtpmap:7 X/8000\na=fmtp:7 x" * 1800,
}
LOCAL = [
    MediaStream("audio", 4000 + 2 * number, (PCMU, PCMA, G722, OPUS, TELEPHONE_EVENT))
    for number in range(4)
]


def read_and_answer(text: bytes) -> None:
    sdp = read_all(text)
    if sdp is not None:
        bytes(sdp)
        try:
            check_answer(sdp, answer(sdp, LOCAL, address="192.0.2.2"))
        except ParseError as error:
            str(error)


def slow(text: str) -> bool:
    data = text.encode("utf-8", "surrogateescape")[: 2 * SIZE]
    return not is_within(FAST, lambda: read_and_answer(data), times=8)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.replace("\r\n", " "))
def test_64_kib_in_one_place_take_less_than_50_ms(place):
    start = {"v": "", "o": HEAD[:5]}.get(place[0], HEAD)
    assert [
        shape
        for shape in SHAPES
        if slow(start + place.replace("{}", shape * (SIZE // len(shape))) + "\r\n")
    ] == []


@pytest.mark.parametrize("shape", WHOLE)
def test_64_kib_of_lines_take_less_than_50_ms(shape):
    assert not slow(WHOLE[shape])
