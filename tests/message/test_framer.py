"""Framer: streams of the corpus get their verdicts, and how a stream is cut into pieces makes no difference."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent.errors import ParseError
from sippet_gevent.message import framer as framer_module
from sippet_gevent.message.framer import HEADER_SECTION, PING, PONG, Framer, usual_length
from sippet_gevent.message.message import Message
from sippet_gevent.message.parser import DEFAULT_LIMITS, ParserLimits, parse
from sippet_gevent.message.scan import Framed

from ..conformance import corpus
from ..pace import is_within

OPTIONS = corpus.OPTIONS
MESSAGE = corpus.message(
    "Content-Type: text/plain", start="MESSAGE sip:bob@example.com SIP/2.0", body=b"hello world"
)
SPOKEN = MESSAGE.replace(b" OPTIONS\r\n", b" MESSAGE\r\n")
RESPONSE = b"SIP/2.0 200 OK\r\nl:0\r\n\r\n"


def fed(*pieces: bytes, limits: ParserLimits = DEFAULT_LIMITS) -> tuple[list[bytes], Framer]:
    """The messages of these pieces, and the framer when all are read or the stream is dead."""
    framer = Framer(limits)
    messages: list[bytes] = []
    for piece in pieces:
        messages += framer.feed(piece)
        if framer.dead:
            break
    return messages, framer


def seen(messages: list[bytes], framer: Framer) -> tuple[object, ...]:
    """Everything a connection acts on. Not the error's excerpt: how much is here to quote depends on the pieces."""
    error = framer.error
    fault = None
    if error is not None:
        lines = None if error.request is None else error.request.headers.lines
        fault = (error.problem, error.header, error.status, error.offset, lines)
    return (
        messages,
        fault,
        framer.pings,
        framer.pongs,
        framer.pending,
        framer.in_message,
        framer.in_body,
    )


def error_of(*pieces: bytes, limits: ParserLimits = DEFAULT_LIMITS) -> ParseError:
    _, framer = fed(*pieces, limits=limits)
    assert framer.error is not None
    return framer.error


def in_octets(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# ---- the streams of the corpus


STREAMS = corpus.streams()
each_stream = pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.file)

EITHER = {
    "own-streams/cl-more.stream": None,
    "own-streams/crlf-1m.stream": None,
    "own-streams/lf-only-stream.stream": 400,
}
"""What becomes of streams that may be treated in more than one way: read on, read on, refused."""


def frames_of(row: corpus.Row) -> int:
    """How many messages the row wants: `frames=50`, or '3 start lines' in its note."""
    return int(
        (row.status if row.status.startswith("frames=") else row.note)
        .split("=")[-1]
        .split("; ")[-1]
        .split(" ")[0]
    )


@corpus.needed
def test_there_are_streams_of_every_verdict():
    assert {row.expected for row in STREAMS} == {"accept", "reject", "either"}


@each_stream
def test_stream_gets_its_verdict(row):
    messages, framer = fed(row.data)
    status = framer.error and framer.error.status
    if row.expected == "accept":
        assert (len(messages), framer.pending, status) == (frames_of(row), 0, None)
    elif row.expected == "either":
        assert (messages, status) == ([], EITHER[row.file])
    elif row.status == "close":
        assert (messages, framer.in_message, status) == ([], True, None)
    else:
        assert messages == []
        assert str(status) in row.status.partition(";")[0].split("|")


@each_stream
def test_refused_stream_can_be_answered_when_it_names_a_via(row):
    error = fed(row.data)[1].error
    if error is not None and row.data.startswith((b"OPTIONS", b"MESSAGE")) and b"\r\n" in row.data:
        assert "Via" in error.request.headers
    elif error is not None:
        assert error.request is None


@each_stream
def test_every_message_of_an_accepted_stream_is_read_to_its_last_byte(row):
    for message in fed(row.data)[0]:
        try:
            assert bytes(parse(message)) == message
        except ParseError as error:
            assert error.header == "Via"  # resp-then-req: the junk response


@each_stream
def test_stream_is_the_same_in_any_two_pieces_and_byte_by_byte(row):
    data = row.data if len(row.data) < 5000 else row.data[:1000]
    whole = seen(*fed(data))
    assert seen(*fed(*in_octets(data))) == whole
    for at in range(len(data)):
        assert seen(*fed(data[:at], data[at:])) == whole


# ---- every message of the corpus, in pieces

SETS = list(dict.fromkeys(row.set for row in corpus.datagrams()))
SMALL = 2000
"""Bytes up to which a message is cut at every place."""
CUTS = 40
"""Places in a larger one, besides those round its first line ends."""


def cuts(data: bytes) -> list[int]:
    """Where to cut: everywhere in a small message; else round the first line ends and the blank line, and in strides."""
    size = len(data)
    if size <= SMALL:
        return list(range(1, size))
    ends: list[int] = []
    at = data.find(b"\n")
    while at >= 0 and len(ends) < 12:
        ends.append(at)
        at = data.find(b"\n", at + 1)
    ends.append(data.find(b"\r\n\r\n") + 3)
    near = {end + step for end in ends for step in (-3, -2, -1, 0, 1, 2)}
    return sorted({at for at in near | set(range(1, size, max(7, size // CUTS))) if 0 < at < size})


@pytest.mark.timeout(300)  # of CPU it takes half a minute without the C functions
@pytest.mark.parametrize("name", SETS)
def test_message_of_the_corpus_is_the_same_in_two_pieces(name):
    """Small ones are cut at every place; larger ones round twelve line ends and the blank line, and in forty strides."""
    different = []
    for row in corpus.rows_of(name):
        data = row.data
        whole = seen(*fed(data))
        different += [
            (row.file, at) for at in cuts(data) if seen(*fed(data[:at], data[at:])) != whole
        ]
    assert not different


@pytest.mark.parametrize("name", SETS)
def test_message_of_the_corpus_is_the_same_byte_by_byte(name):
    different = []
    for row in corpus.rows_of(name):
        if seen(*fed(*in_octets(row.data))) != seen(*fed(row.data)):
            different.append(row.file)
    assert not different


def fits_a_stream(data: bytes, message: Message) -> bool:
    """True for what a stream takes as a datagram is taken: CRLFs throughout, Content-Length, limits of a stream."""
    start = data.lstrip(b"\r\n")
    before = data[: len(data) - len(start)]
    head = start.partition(b"\r\n\r\n")[0]
    return (
        before == b"\r\n" * (len(before) // 2)
        and b"\n" not in head.replace(b"\r\n", b"")
        and "Content-Length" in message.headers
        and len(head) + 4 <= HEADER_SECTION
    )


def outcome(data: bytes) -> Message | ParseError:
    try:
        return parse(data)
    except ParseError as error:
        return error


@pytest.mark.parametrize("name", SETS)
def test_framer_and_parser_see_one_length(name):
    different = []
    for row in corpus.rows_of(name):
        data = row.data
        messages, _ = fed(data)
        found = outcome(data)
        if (
            not isinstance(found, ParseError)
            and fits_a_stream(data, found)
            and (not messages or parse(messages[0]) != found)
        ):
            different.append((row.file, "parsed, and not framed like that"))
        for message in messages:
            found = outcome(message)
            if isinstance(found, ParseError):
                if found.header == "Content-Length" or found.offset is not None:
                    different.append(
                        (row.file, f"framed, and of no length for the parser: {found}")
                    )
            elif bytes(found) != corpus.forwarded(message):
                different.append((row.file, "framed, and bytes left for the parser"))
    assert not different


LENGTH_LINES = st.lists(
    st.tuples(
        st.sampled_from(["Content-Length", "content-LENGTH", "l", "L", "Content-Length ", "l\t", "Content\u017fLength", "Subject",
                         "Content_Length", " l", "Content-Length\r\n "]),
        st.sampled_from([":", ": ", ":\t", ":\r\n ", ":\n", ":\r", "", "::"]),
        st.sampled_from(["5", "0", "005", "+5", "-1", "5_0", "1_1", "5,5", "5, 5", "５", "١", "", "5 5", "0x5", "5\r\n 5",
                         "4294967301", "18446744073709551621", "9" * 400, "5;x", "5\0", "5\xa0", "5\x0b", "5\x85", "5.0"]),
        st.sampled_from(["\r\n"] * 6 + ["\n", "\r", " \r\n", "\t\r\n", "\r\n \r\n", "\r\r\n", "\n\r\n"]),
    ),
    max_size=3,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(LENGTH_LINES, st.binary(max_size=12))
def test_framer_and_parser_see_one_length_however_it_is_spelled(lines, body):
    text = "".join("".join(parts) for parts in lines)
    head = (
        corpus.without("Content-Length")[:-2] + b"X: what a fold goes on with\r\n" + text.encode()
    )
    messages, _ = fed(head + b"\r\n" + body + OPTIONS)
    if messages:
        assert bytes(parse(messages[0])) == messages[0]
        assert parse(messages[0]).content_length == len(messages[0].partition(b"\r\n\r\n")[2])


# ---- pipelining and keep-alives


@pytest.mark.rfc("3261 7.5")
@given(st.lists(st.sampled_from([OPTIONS, MESSAGE, RESPONSE, PONG, PING]), max_size=12), st.data())
@settings(max_examples=150, deadline=None)
def test_messages_come_out_whole_and_in_order_however_they_are_cut(parts, data):
    stream = b"".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)])]
    messages, framer = fed(*pieces)
    assert messages == [part for part in parts if part not in (PING, PONG)]
    assert (framer.pending, framer.error) == (0, None)
    assert seen(messages, framer) == seen(*fed(stream))


@pytest.mark.rfc("5626 4.4.1")
@pytest.mark.parametrize(
    ("stream", "pings", "pongs"),
    [
        (b"", 0, 0),
        (PONG, 0, 1),
        (PING, 1, 0),
        (PING + PONG, 1, 1),
        (PING * 3, 3, 0),
        (OPTIONS + PING + OPTIONS, 1, 0),
        (PONG + OPTIONS + PONG, 0, 2),
        (PING + RESPONSE + PONG + RESPONSE + PING, 2, 1),
        (corpus.message(body=PING), 0, 0),
        (MESSAGE + b"\r", 0, 0),
    ],
)
def test_keep_alives_are_counted_between_messages(stream, pings, pongs):
    for pieces in ([stream], in_octets(stream)):
        _, framer = fed(*pieces)
        assert (framer.pings, framer.pongs, framer.in_message, framer.error) == (
            pings,
            pongs,
            False,
            None,
        )


@pytest.mark.rfc("5626 4.4.1")
def test_pong_counts_at_once():
    framer = Framer()
    framer.feed(b"\r")
    assert framer.pongs == 0
    framer.feed(b"\n")
    assert framer.pongs == 1


@pytest.mark.rfc("5626 4.4.1")
def test_keep_alive_inside_a_header_section_ends_it():
    messages, framer = fed(OPTIONS[:-2] + PING)
    assert (messages, framer.pings, framer.pongs) == ([OPTIONS], 0, 1)


def test_junk_response_does_not_stand_in_the_way_of_a_request():
    assert fed(RESPONSE + OPTIONS)[0] == [RESPONSE, OPTIONS]


def test_body_may_hold_what_looks_like_messages():
    data = corpus.message(body=OPTIONS + PING + OPTIONS)
    assert fed(data + OPTIONS)[0] == [data, OPTIONS]


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("length", [None, usual_length], ids=["scanned", "measured"])
def test_framed_message_is_read_like_the_same_bytes(pieces, length, monkeypatch):
    monkeypatch.setattr(framer_module, "fastest_length", length)
    framer = Framer()
    at = len(SPOKEN) // 2 if pieces == 2 else 0
    (framed,) = framer.feed(SPOKEN[:at]) + framer.feed(SPOKEN[at:])
    was_scanned = isinstance(framed, Framed) and framed.scanned is not None
    assert was_scanned == (length is None or pieces == 2)  # else this proves nothing
    found, plain = parse(framed), parse(SPOKEN)
    assert (found.headers.lines, found.headers.fields, found.body) == (
        plain.headers.lines,
        plain.headers.fields,
        plain.body,
    )
    assert bytes(found) == SPOKEN


def test_framed_message_read_twice_is_two_messages():
    (framed,) = Framer().feed(SPOKEN)
    first, second = parse(framed), parse(framed)
    first.headers["Subject"] = "changed"
    assert bytes(second) == SPOKEN == framed


def test_limits_of_the_reader_count_whatever_those_of_the_stream_were():
    (framed,) = Framer().feed(SPOKEN)
    with pytest.raises(ParseError, match="too many header lines"):
        parse(framed, ParserLimits(headers=2))


# ---- what a connection's timers look at


def test_state_follows_a_message():
    framer = Framer()
    states = []
    for piece in (b"", PONG, MESSAGE[:1], MESSAGE[1:-20], MESSAGE[-20:-5], MESSAGE[-5:]):
        framer.feed(piece)
        states.append((framer.in_message, framer.in_body, framer.pending))
    size = len(MESSAGE)
    assert states == [
        (False, False, 0),
        (False, False, 0),
        (True, False, 1),
        (True, False, size - 20),
        (True, True, size - 5),
        (False, False, 0),
    ]


def test_next_message_waits_with_its_own_state():
    framer = Framer()
    assert framer.feed(MESSAGE + OPTIONS[:10]) == [MESSAGE]
    assert (framer.in_message, framer.in_body, framer.pending) == (True, False, 10)


def test_start_line_of_each_message_is_looked_at():
    framer = Framer()
    framer.feed(OPTIONS[:50])
    assert framer.feed(OPTIONS[50:] + OPTIONS[:35] + b"\nVia") == [OPTIONS]
    assert framer.dead


def test_half_a_line_break_is_no_message():
    _, framer = fed(OPTIONS + b"\r")
    assert (framer.in_message, framer.pending) == (False, 0)


# ---- faults


@pytest.mark.rfc("3261 18.3")
@pytest.mark.parametrize(
    "data", [corpus.without("Content-Length"), corpus.without("Content-Length") + b"hello"]
)
def test_message_without_content_length_is_400_and_can_be_answered(data):
    error = error_of(data)
    assert (error.status, str(error), error.request.method) == (
        400,
        "Content-Length: missing",
        "OPTIONS",
    )


def test_messages_before_a_fault_are_returned():
    messages, framer = fed(OPTIONS + MESSAGE + b"\0")
    assert (messages, framer.dead) == ([OPTIONS, MESSAGE], True)


def test_dead_stream_takes_no_more_and_keeps_nothing():
    _, framer = fed(OPTIONS[:-2] + b"a b: c\r\n\r\n")
    assert (framer.dead, framer.pending, framer.in_message, framer.in_body) == (
        True,
        0,
        False,
        False,
    )
    with pytest.raises(ParseError, match="header name is not a token"):
        framer.feed(OPTIONS)


@pytest.mark.parametrize(
    "first",
    [octet for octet in range(256) if not re.match(rb"[A-Za-z0-9.!%*_+`'~\r-]", bytes([octet]))],
)
def test_data_that_is_no_message_is_recognized_by_its_first_byte(first):
    error = error_of(bytes([first]))
    assert (error.status, error.problem, error.request) == (400, "not the start of a message", None)


@pytest.mark.parametrize("data", [b"\rOPTIONS", b"\r\r\n", b"\r\n\n", b"\r\n\rX", PING + b" "])
def test_only_crlf_may_stand_between_messages(data):
    assert error_of(OPTIONS + data).problem == "not the start of a message"


@pytest.mark.rfc("3261 7")
def test_sender_of_bare_lfs_is_refused_at_its_first_line():
    assert error_of(OPTIONS[:35] + b"\n").problem == "line break that is not CRLF"


@pytest.mark.rfc("3261 7")
def test_message_of_bare_lfs_is_refused_with_a_whole_one_behind_it():
    messages, framer = fed(OPTIONS.replace(b"\r\n", b"\n") + OPTIONS)
    assert (messages, framer.dead) == ([], True)


def test_lines_that_cannot_be_read_have_no_length():
    error = error_of(corpus.message("X: a\nContent-Length: 5") + OPTIONS)
    assert (error.problem, error.request.method) == ("line break that is not CRLF", "OPTIONS")


def test_request_without_via_cannot_be_answered():
    assert error_of(corpus.without("Via").replace(b"Content-Length", b"X")).request is None


def test_response_cannot_be_answered():
    assert error_of(corpus.message("Content-Length: x", start="SIP/2.0 200 OK")).request is None


# ---- limits


@pytest.mark.rfc("3261 21.4.11")
@pytest.mark.parametrize("length", [65536, 4_000_000_000])
def test_body_over_the_limit_is_413_from_the_header_section_alone(length):
    error = error_of(corpus.message(f"Content-Length: {length}"))
    assert (error.status, error.header, error.request.method) == (413, "Content-Length", "OPTIONS")


def test_message_of_exactly_the_limit_is_taken():
    size = len(corpus.message("Content-Length: 00000"))
    data = corpus.message(f"Content-Length: {65536 - size:05}", body=b"x" * (65536 - size))
    assert [len(message) for message in fed(data)[0]] == [65536]
    assert error_of(data.replace(b"Content-Length: 6", b"Content-Length: 7")).status == 413


def section_of(size: int) -> bytes:
    """OPTIONS with a header section of so many bytes."""
    lines = [f"X: {'x' * 4000}"] * 7
    lines.append("Y: " + "y" * (size - len(corpus.message("\r\n".join([*lines, "Y: "])))))
    return corpus.message("\r\n".join(lines))


def test_header_section_of_the_limit_is_taken():
    data = section_of(HEADER_SECTION)
    assert fed(data)[0] == fed(*in_octets(data))[0] == [data]


@pytest.mark.rfc("3261 21.5.7")
def test_header_section_over_the_limit_is_513_and_can_be_answered():
    data = section_of(HEADER_SECTION + 1)
    for pieces in ([data], in_octets(data), [data[:-1]], [data[:HEADER_SECTION]]):
        error = error_of(*pieces)
        assert (error.status, error.request.method) == (513, "OPTIONS")


def test_start_line_of_the_limit_is_taken():
    line = "SIP/2.0 200 " + "x" * (DEFAULT_LIMITS.line - 12)
    data = corpus.message(start=line)
    assert fed(*in_octets(data))[0] == fed(data)[0] == [data]


def test_start_line_is_over_the_limit_when_it_has_no_end_there():
    data = b"x" * (DEFAULT_LIMITS.line + 2)
    assert (fed(data[:-1])[1].dead, fed(data)[1].dead) == (False, True)


def test_start_line_over_the_limit_is_refused_before_its_end():
    data = b"OPTIONS sip:" + b"x" * DEFAULT_LIMITS.line
    whole = seen(*fed(data))
    assert whole == seen(*fed(*in_octets(data))) == seen(*fed(data + b" SIP/2.0\r\n\r\n"))
    assert error_of(data).problem == "header line too long"


@pytest.mark.parametrize(
    ("limits", "status"),
    [(ParserLimits(message=100), 513), (ParserLimits(message=len(OPTIONS)), None), (ParserLimits(headers=3), 513),
     (ParserLimits(line=40), 400), (ParserLimits(message=len(OPTIONS) - 1), 513)],
)  # fmt: skip
def test_limits_of_ones_own_are_kept(limits, status):
    whole = seen(*fed(OPTIONS, limits=limits))
    assert whole == seen(*fed(*in_octets(OPTIONS), limits=limits))
    _, framer = fed(OPTIONS, limits=limits)
    assert (framer.error and framer.error.status) == status


# ---- time and memory


def endless(line: bytes) -> bytes:
    return b"OPTIONS sip:a@b SIP/2.0\r\n" + line * (65536 // len(line))


GROWING = {
    "a body": lambda size: corpus.message(body=b"\r\n" * (size // 2)),
    "a header section": lambda size: corpus.message(
        "X: 1\r\n" * 200 + "Y: " + "y" * min(8000, size // 9)
    ),
    "line breaks": lambda size: b"\r\n" * (size // 2),
    "the shortest messages": lambda size: RESPONSE * (size // len(RESPONSE)),
    "a header line without end": lambda size: b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"x" * size,
    "header lines without end": lambda size: (
        b"OPTIONS sip:a@b SIP/2.0\r\n" + b"X: 1\r\n" * (size // 6)
    ),
    "a start line without end": lambda size: b"x" * size,
}


@pytest.mark.parametrize("shape", GROWING)
@pytest.mark.parametrize(
    "cut", [in_octets, lambda data: [data]], ids=["byte by byte", "in one piece"]
)
def test_time_grows_as_the_stream_does_with(shape, cut):
    """64 KiB take 50 ms at most, byte by byte; looking at a header section anew for each byte takes five to ten times that."""
    pieces = cut(GROWING[shape](65000))
    assert is_within(0.2, lambda: fed(*pieces))


def test_mebibyte_of_line_breaks_takes_no_time_and_no_memory():
    data = b"\r\n" * (1 << 19)
    tracemalloc.start()
    try:
        _, framer = fed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (framer.pings, framer.pongs, framer.error) == (1 << 18, 0, None)
    assert peak < 65536
    assert is_within(0.1, lambda: fed(data))


@pytest.mark.parametrize(
    "stream", ["body", "header section", "header line", "start line", "line breaks"]
)
def test_no_more_is_kept_than_one_message(stream):
    data = {
        "body": corpus.message("Content-Length: 65000") + b"x" * 64000,
        "header section": endless(b"X: " + b"x" * 1000 + b"\r\n"),
        "header line": endless(b"x"),
        "start line": b"x" * 1_000_000,
        "line breaks": PING * 250_000,
    }[stream]
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    tracemalloc.start()
    try:
        fed(*pieces)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 65536


def test_declared_length_takes_no_memory():
    data = corpus.message("Content-Length: 65000")
    framer = Framer()
    tracemalloc.start()
    try:
        framer.feed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert framer.in_body
    assert peak < 16384
