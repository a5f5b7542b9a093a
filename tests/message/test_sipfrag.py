"""Fragments of messages, RFC 3420: read in any completeness, kept byte for byte, made of whole messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent.errors import ParseError
from sippet_gevent.message.body import Part
from sippet_gevent.message.message import Request
from sippet_gevent.message.multipart import multipart
from sippet_gevent.message.parser import parse
from sippet_gevent.message.sipfrag import SIPFRAG, Fragment

from ..conformance import corpus
from .test_body import SDP, crlf

FRAGMENTS = [
    "INVITE sip:alice@atlanta.com SIP/2.0",
    "SIP/2.0 603 Declined",
    """
    REGISTER sip:atlanta.com SIP/2.0
    To: sip:alice@atlanta.com
    Contact: <sip:alicepc@atlanta.com>;q=0.9,
             <sip:alicemobile@atlanta.com>;q=0.1
    """,
    """
    SIP/2.0 400 Bad Request
    Warning: 399 atlanta.com Your Event header field was malformed
    """,
    """
    From: Alice <sip:alice@atlanta.com>
    To: Bob <sip:bob@biloxi.com>
    Contact: <sip:alice@pc33.atlanta.com>
    Date: Thu, 21 Feb 2002 13:02:03 GMT
    Call-ID: a84b4c76e66710
    Cseq: 314159 INVITE
    """,
    """
    SIP/2.0 200 OK
    Content-Type: application/sdp
    Content-Length: 247

    v=0
    o=alice 2890844526 2890844526 IN IP4 host.anywhere.com
    """,
    """
    Content-Type: text/plain
    Content-Length: 11

    Hi There!
    """,
]


@pytest.mark.rfc("3420 3.1")
@pytest.mark.parametrize("text", FRAGMENTS)
def test_valid_examples_are_read_and_keep_their_bytes(text):
    assert bytes(Fragment.parse(crlf(text))) == crlf(text)


@pytest.mark.rfc("3420 3.2")
@pytest.mark.parametrize(
    "text",
    [
        "INVITE",
        "INVITE sip:alice@atlanta.com SIP/1.09",
        "SIP/2.0",
        "404 Not Found",
        "MESSAGE sip:alice@atlanta.com SIP/2.0\nHi There!",
        "SIP/2.0 99 Low",
        "SIP/2.0 700 High",
        "sip/2.0 200 OK",
        "SIP/2.0 200 OK\nSIP/2.0 200 OK",
        "INVITE  sip:alice@atlanta.com SIP/2.0",
        "INVITE atlanta SIP/2.0",
    ],
)
def test_invalid_examples_are_refused(text):
    with pytest.raises(ParseError) as caught:
        Fragment.parse(text.replace("\n", "\r\n").encode() + b"\r\n")
    assert caught.value.status == 400


@pytest.mark.rfc("3420 3.2")
@pytest.mark.parametrize(
    "line, attribute",
    [
        ("Via: SIP/2.0/UDP ;branch=z9hG4bK29342a", "via"),
        ("To: <>;tag=39234", "to"),
        ("Call-ID: this is invalid", "call_id"),
    ],
)
def test_invalid_header_field_is_refused_when_it_is_read(line, attribute):
    fragment = Fragment.parse(f"INVITE sip:alice@atlanta.com SIP/2.0\r\n{line}\r\n".encode())
    with pytest.raises(ParseError):
        getattr(fragment, attribute)


@pytest.mark.rfc("3515 2.4.5")
@pytest.mark.parametrize(
    "data",
    [
        b"SIP/2.0 180 Ringing",
        b"SIP/2.0 180 Ringing\r\n",
        b"SIP/2.0 180 Ringing\r\n\r\n",
        b"SIP/2.0 180 Ringing\n",
    ],
)
def test_report_of_a_refer_is_read_with_or_without_its_line_break(data):
    fragment = Fragment.parse(data)
    assert (fragment.status, fragment.reason, fragment.method, fragment.start_line) == (
        180,
        "Ringing",
        None,
        "SIP/2.0 180 Ringing",
    )
    assert bytes(fragment) == data


@pytest.mark.parametrize(
    "data, reason",
    [(b"SIP/2.0 180\r\n", ""), (b"SIP/2.0 180 \r\n", ""), (b"SIP/2.0 180 a  b\r\n", "a  b")],
)
def test_reason_phrase_is_the_text_of_the_status_line(data, reason):
    assert Fragment.parse(data).reason == reason


def test_request_line_is_method_and_uri():
    fragment = Fragment.parse(crlf(FRAGMENTS[0]))
    assert (fragment.method, fragment.uri.user, fragment.status, fragment.reason) == (
        "INVITE",
        "alice",
        None,
        None,
    )


def test_header_fields_of_a_fragment_are_attributes():
    fragment = Fragment.parse(crlf(FRAGMENTS[4]))
    assert (fragment.start_line, fragment.from_.display, fragment.cseq.number, fragment.via) == (
        "",
        "Alice",
        314159,
        (),
    )


def test_body_of_a_fragment_is_what_follows_the_empty_line():
    fragment = Fragment.parse(crlf(FRAGMENTS[6]))
    assert (fragment.body, Part.of(fragment).media_type.name) == (b"Hi There!\r\n", "text/plain")


@pytest.mark.parametrize(
    "data, body", [(b"", b""), (b"\r\n", b""), (b"\r\nbody", b"body"), (b"\nbody", b"body")]
)
def test_fragment_may_have_nothing_of_a_message_but_its_body(data, body):
    fragment = Fragment.parse(data)
    assert (fragment.start_line, len(fragment.headers), fragment.body, bytes(fragment)) == (
        "",
        0,
        body,
        data,
    )


def test_content_length_does_not_cut_a_fragment():
    assert Fragment.parse(b"Content-Length: 2\r\n\r\nHi There").body == b"Hi There"


@pytest.mark.parametrize(
    "data, status",
    [
        (b"X: 1\r\n" * 257, 413),
        (b"X: " + b"x" * 9000 + b"\r\n", 400),
        (b"X: 1\r\nY: 1\nZ: 1\r\n", 400),
    ],
)
def test_fragment_keeps_the_limits_of_messages(data, status):
    with pytest.raises(ParseError) as caught:
        Fragment.parse(data)
    assert caught.value.status == status


RINGING = parse(corpus.OPTIONS).response(
    180, warning='399 example.com "Odd"', body="v=0", content_type="application/sdp"
)


@pytest.mark.rfc("3515 2.4.5")
def test_fragment_of_a_response_is_its_status_line_and_nothing_else():
    assert bytes(Fragment.of(RINGING)) == b"SIP/2.0 180 Ringing\r\n"


@pytest.mark.rfc("3420 6")
def test_fragment_has_the_header_fields_that_are_asked_for():
    assert bytes(Fragment.of(RINGING, "i", "WARNING")) == (
        b'SIP/2.0 180 Ringing\r\nCall-ID: a84b4c76e66710\r\nWarning: 399 example.com "Odd"\r\n'
    )


@pytest.mark.rfc("3420 2")
def test_fragment_with_a_body_has_what_describes_it():
    assert bytes(Fragment.of(RINGING, body=True)) == (
        b"SIP/2.0 180 Ringing\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0"
    )


def test_fragment_may_go_without_its_start_line():
    assert (
        bytes(Fragment.of(parse(corpus.OPTIONS), "CSeq", start_line=False))
        == b"CSeq: 63104 OPTIONS\r\n"
    )


def test_fragment_of_a_request_has_its_request_line():
    assert Fragment.of(parse(corpus.OPTIONS)).uri.host == "example.com"


def test_fragment_that_is_changed_is_written_anew():
    fragment = Fragment.parse(b"SIP/2.0 200 OK\r\nX:1\r\nContent-Length: 5\r\n\r\nhello")
    fragment.body = b"bye"
    fragment.subject = "x"
    assert bytes(fragment) == b"SIP/2.0 200 OK\r\nX:1\r\nSubject: x\r\nContent-Length: 3\r\n\r\nbye"


def test_fragment_without_the_body_it_had_has_no_empty_line():
    fragment = Fragment.parse(b"SIP/2.0 200 OK\r\n\r\nhello")
    fragment.body = b""
    assert bytes(fragment) == b"SIP/2.0 200 OK\r\n"


@given(st.binary(max_size=80), st.sampled_from([crlf(text) for text in FRAGMENTS]))
def test_any_fragment_that_is_read_keeps_its_bytes(tail, head):
    for data in (tail, head + tail, head + b"\r\n" + tail):
        try:
            fragment = Fragment.parse(data)
        except ParseError:
            continue
        assert bytes(fragment) == data


def test_every_message_is_a_fragment_too():
    assert bytes(Fragment.parse(corpus.OPTIONS)) == corpus.OPTIONS


@corpus.needed
def test_real_messages_are_fragments_that_keep_their_bytes():
    for row in corpus.rows_of("rfc3665-flows", "realworld-udp", expected="accept"):
        assert bytes(Fragment.parse(row.data)) == row.data


def test_fragment_travels_in_a_part():
    notify = Request(
        "NOTIFY", "sip:alice@example.com", body=bytes(Fragment.of(RINGING)), content_type=SIPFRAG
    )
    assert Part.of(notify).fragment.status == 180


def test_fragment_in_a_tree_is_found_decoded():
    part = Part("U0lQLzIuMCAxODAgUmluZ2luZw0K", SIPFRAG, content_transfer_encoding="base64")
    assert multipart("mixed", [SDP, part]).find("message/sipfrag").fragment.status == 180


@pytest.mark.parametrize("attribute", ["fragment", "message"])
def test_part_of_another_type_is_no_message(attribute):
    assert getattr(SDP, attribute) is None
