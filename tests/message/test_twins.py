"""Two ways to one answer: each function of `_speedups.c` and its twin in Python."""

import os
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message import address, uri, via
from sippet_gevent.message import mandatory as mandatory
from sippet_gevent.message import scan as python
from sippet_gevent.message.address import NameAddr
from sippet_gevent.message.echo import echo
from sippet_gevent.message.fields import rfc3261 as values
from sippet_gevent.message.fields.rfc3261 import CSeq
from sippet_gevent.message.framer import usual_length
from sippet_gevent.message.head import head
from sippet_gevent.message.header import ROWS
from sippet_gevent.message.headers import Headers
from sippet_gevent.message.parameters import EMPTY, Parameters
from sippet_gevent.message.parser import DEFAULT_LIMITS, implementation, parse
from sippet_gevent.message.via import Via

from ..conformance import corpus

try:
    from sippet_gevent.message import _speedups as c
except ImportError:
    c = None
else:
    if implementation != "c":  # the modules do this when they take their C twins
        c.setup_scan(python.canonical, python.fail)
        c.setup_plain_mandatory(mandatory.Mandatory)
        c.setup_echo(echo)
        c.setup_head(head)
        c.setup_name_addr(NameAddr, Parameters, EMPTY, ParseError, address._known, NameAddr._parse)
        c.setup_via(Via, Parameters, via._known, Via._parse)
        c.setup_cseq(CSeq, CSeq.parse)
        c.setup_uri(uri.URI, uri.URIParameters, uri.NO_URI_PARAMETERS, uri.NO_URI_HEADERS)
    c.forget()

built = pytest.mark.skipif(c is None, reason="_speedups.c is not built here")

LIMITS = [(DEFAULT_LIMITS.headers, DEFAULT_LIMITS.line), (5, 60), (0, 10)]
"""Lines and bytes in a line, at most: the usual limits, and some that are met."""


def outcome(scan, data, lines, line):
    try:
        return scan(data, lines, line)
    except ParseError as error:
        return str(error), error.problem, error.offset, error.status, error.value


def differences(messages, limits=LIMITS):
    """The messages that the twins see with different eyes."""
    return [
        (data[:200], lines, line)
        for data in messages
        for lines, line in limits
        if outcome(c.scan, data, lines, line) != outcome(python.scan, data, lines, line)
    ]


def samples() -> list[bytes]:
    """Messages to break: the small ones of the corpus, or one of our own."""
    return [row.data for row in corpus.datagrams()[::7] if len(row.data) < 3000] or [corpus.OPTIONS]


PIECES = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\r\n ", b"\n\t", b":", b" :", b": ", b"::", b"\0", b"\x0b",
    b"\xff", b"\xc3", b"\xe2\x82", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"V", b"via: x", b"m:",
    b"X-" + b"y" * 50, b"",
]  # fmt: skip


def mutations(count: int, seed: int) -> list[bytes]:
    """Messages with pieces cut out, put in, doubled and cut off. The same ones every time."""
    chance = random.Random(seed)
    messages = samples()
    broken = []
    for _ in range(count):
        data = chance.choice(messages)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            to = min(len(data), at + chance.choice([0, 0, 1, 2, 5, 40]))
            data = data[:at] + chance.choice(PIECES) * chance.choice([1, 1, 1, 2, 30]) + data[to:]
        broken.append(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.1 else data)
    return broken


# ---- C and Python


def test_c_twin_is_built_where_it_must_be():
    if c is None and os.environ.get("SIPPET_BUILD_C") != "yes":
        pytest.skip("_speedups.c is not built here, and SIPPET_BUILD_C=yes does not ask for it")
    assert c is not None, (
        "SIPPET_BUILD_C=yes, and sippet_gevent.message._speedups cannot be imported"
    )


@built
@corpus.needed
def test_twins_agree_on_every_message_of_the_corpus():
    assert not differences([row.data for row in corpus.datagrams()])


@built
def test_twins_agree_on_broken_messages():
    assert not differences(mutations(3000, seed=3261))


def different_lengths(messages):
    """The messages that the twins find of different length, alone and behind another one, as bytes and as a bytearray."""
    return [
        (data[:200], at, limits)
        for data in messages
        for at, limits in [(0, (8192, *LIMITS[0])), (3, (120, *LIMITS[0])), (0, (8192, *LIMITS[1]))]
        if not c.usual_length(data, at, *limits)
        == c.usual_length(bytearray(data), at, *limits)
        == usual_length(data, at, *limits)
    ]


@built
@corpus.needed
def test_twins_find_the_same_end_of_every_message_of_the_corpus():
    messages = [row.data for row in corpus.datagrams()]
    assert not different_lengths(messages)
    found = [c.usual_length(data, 0, 32768, 256, 8192) for data in messages]
    assert sum(length == len(data) for length, data in zip(found, messages)) > len(messages) / 4


@built
def test_twins_find_the_same_end_of_broken_messages():
    assert not different_lengths(mutations(3000, seed=183))


LENGTHS = [
    "0",
    "7",
    "007",
    " 7\t",
    "",
    "-1",
    "+1",
    "1e1",
    "99999999",
    "999999999",
    "7 7",
    "\u0667",
    "7;a",
]


@built
@pytest.mark.parametrize(
    "line", ["Content-Length: {}", "L:{}", "content-length :{}", "Content-Length:\r\n {}", "X: {}"]
)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("more", ["", "l: 7\r\n", "X:\r\n 7\r\n", "X\r\n", "\n"])
def test_twins_find_the_same_end_by_a_content_length(line, length, more):
    data = f"OPTIONS sip:a SIP/2.0\r\n{line.format(length)}\r\n{more}\r\n1234567".encode()
    assert not different_lengths([data])


LINE_BREAKS = st.sampled_from(["\r\n"] * 8 + ["\n", "\r", "\n\r", "\r\n ", "\r\n\t \r\n "])
NAMES = st.one_of(
    st.sampled_from(
        [
            "Via",
            "v",
            "VIA",
            "From",
            "Call-ID",
            "call-id",
            "X-Odd",
            "x-odd",
            "",
            " ",
            "ſ",
            "K",
            "a b",
            "Via ",
        ]
    ),
    st.text("abVI-._~%:\x7f\x80", max_size=45),
)
VALUES = st.text(st.sampled_from('a:;,<>" \t\0\x0b\x85\u2028é漢\udc80\udcff'), max_size=20)


@st.composite
def messages(draw) -> bytes:
    parts = [
        draw(
            st.sampled_from(["", "\r\n", "OPTIONS sip:a SIP/2.0", "SIP/2.0 200 OK", "é\udcff", " "])
        ),
        draw(LINE_BREAKS),
    ]
    for name, colon, value, line_break in draw(
        st.lists(
            st.tuples(NAMES, st.sampled_from([":", ": ", " : ", ":  ", ""]), VALUES, LINE_BREAKS),
            max_size=8,
        )
    ):
        parts += [name, colon, value, line_break]
    parts.append(draw(st.sampled_from(["\r\n", "\n", "", "\r\nbody\r\n\r\n"])))
    return "".join(parts).encode("utf-8", "surrogateescape")


@built
@settings(max_examples=120, deadline=None)
@given(messages())
def test_twins_agree_on_whatever_hypothesis_makes_up(data):
    assert not differences([data])
    assert not different_lengths([data])


@built
@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_twins_agree_on_noise(data):
    assert not differences([data])
    assert not different_lengths([data])


def blocks_left(run) -> int:
    """Blocks of memory that two hundred runs leave behind, once whatever is kept on purpose is kept."""
    left = 0
    for _ in range(2):
        before = sys.getallocatedblocks()
        for _ in range(200):
            run()
        left = sys.getallocatedblocks() - before
    return left


LEAKY = [
    corpus.OPTIONS,
    corpus.OPTIONS[:-4],
    corpus.message("X: a\r\n b"),
    corpus.message("a b: c"),
    corpus.message("X: é\udcff"),
    corpus.message("From: é <sip:a@b>;tag=1"),
    corpus.message("Via: SIP/2.0/UDP a:0"),
]


@built
@pytest.mark.parametrize("data", LEAKY)
def test_scan_in_c_leaves_nothing_behind(data):
    assert blocks_left(lambda: outcome(c.scan, data, 256, 8192)) < 50


@built
@pytest.mark.parametrize("data", LEAKY)
def test_plain_mandatory_in_c_leaves_nothing_behind(data):
    try:
        fields = python.scan(data, 256, 8192)[2]
    except ParseError:
        fields = {}
    assert blocks_left(lambda: c.plain_mandatory(fields)) < 50


@built
def test_c_twin_forgets_a_spelling_when_a_header_gets_that_name():
    data = b"OPTIONS sip:a SIP/2.0\r\nx-twin-late: 1\r\n\r\n"
    before = c.scan(data, 9, 99)[1][0][0]
    python.register_name("x-Twin-LATE")
    c.forget()
    assert (before, c.scan(data, 9, 99)[1][0][0]) == ("X-Twin-Late", "x-Twin-LATE")


# ---- plain_mandatory and read_mandatory


def disagreement(data: bytes, vias: int = 256):
    """What plain_mandatory() and read_mandatory() say of a message, when it is not the same; thorough is shown so many Via lines."""
    try:
        _, lines, fields, _ = python.scan(data, 256, 8192)
    except ParseError:
        return None
    others = [line for line in lines if line[0] != "Via"]
    try:
        slow = mandatory.read_mandatory(
            Headers([line for line in lines if line[0] == "Via"][:vias] + others)
        )
    except ParseError as error:
        slow = error.problem
    try:
        quick = c.plain_mandatory(fields)
    except ParseError as error:
        quick = error.problem
    return None if quick is None or quick == slow else (quick, slow)


@built
@corpus.needed
def test_both_mandatory_readers_agree_on_every_message_of_the_corpus():
    found = [pair for row in corpus.datagrams() if (pair := disagreement(row.data))]
    assert not [
        (quick, slow) for quick, slow in found if quick._replace(key=slow.key) != slow
    ]  # the key: see REPORTED


SPELLINGS = {
    "Via": [
        "SIP/2.0/UDP 192.0.2.1", "SIP/2.0/TCP a.example.com:5060;branch=z9hG4bK1",
        "SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=z9hG4bK2",
        "SIP/2.0/UDP a;rport=1;received=2001:db8::1", "SIP/2.0/UDP a:0", "SIP/2.0/UDP a:65536", "SIP/2.0/UDP a:00080",
        "SIP/2.0/UDP -",
        "SIP/2.0/UDP .a", "SIP/2.0/UDP a..b", "SIP/2.0/UDP [::1", "SIP/2.0/udp a", "SIP/2.0/UDP a;branch=1;branch=2",
        "SIP/2.0/UDP a;xbranch=1",
        "SIP/2.0/UDP A.b;branch=z9hG4bK1", "SIP/2.0/UDP a;branch=z9hG4bK", "SIP/2.0/TLS a;branch=z9hG4bK1",
        "SIP/2.0/UDP a;branch=Z9hG4bK1",
        "SIP/2.0/UDP [2001:DB8::0:1];branch=z9hG4bK1", "SIP/2.0/UDP a;BRANCH=x;RPORT", "SIP/2.0/UDP a;x=;branch",
        "SIP/2.0/UDP a;received=[::1]", "SIP/2.0/UDP a;branch=x:y", "SIP/2.0/UDP a;",
        "SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2", "SIP/2.0/UDP a;rport \t, broken",
        "SIP/2.0/UDP a;branch=z9hG4bK1,", ", SIP/2.0/UDP a;branch=z9hG4bK1", 'SIP/2.0/UDP a;x="1, SIP/2.0/UDP b',
        'SIP/2.0/UDP a;x="1,2";branch=z9hG4bK1, SIP/2.0/UDP b', "SIP/2.0/UDP,a", "SIP/2.0/UDP a;x=,y",
        "SIP/2.0/UDP a;branch=z9hG4bK1,,SIP/2.0/UDP b",
    ],
    "From": [
        "<sip:a@b>;tag=1", "sip:a@b;tag=1", '"A \\" B" <sip:a@b>;tag=1', '"A" <sip:a@b>;TAG=1', "A B <sip:a@b>;xtag=2;tag=1",
        "<sip:a@b>",
        "<sip:a@b>;tag", "<sip:b:0>;tag=1", "<sips:a@b:5061;lr>;tag=1", "<sip:a:c@b>;tag=1", "<sip:a_b>;tag=1",
        "<SIP:a@b>;tag=1", "<sip:@b>;tag=1",
        "<sip:a@b;;x>;tag=1", "<sip:a@b;x=>;tag=1", "<sip:a@b;tag=3>;tag=1", "<tel:+1>;tag=1", "<urn:x>;tag=1",
        "<sip:a@b>;tag=1;tag=2", "<sip:a@b>;tag=a%3Bb", "é <sip:a@b>;tag=1",
    ],
    "CSeq": ["1 ACK", "1 OPTIONS", "0000000001 OPTIONS", "2147483648 OPTIONS", "999999999 OPTIONS", "1  OPTIONS",
    "1\tOPTIONS", "1 opt!ions"],
    "Call-ID": ["a@b", "a", "@b", "a@b@c", "é", "a b", "a<b>"],
}  # fmt: skip


@built
@pytest.mark.parametrize(
    "name, text", [(name, text) for name, texts in SPELLINGS.items() for text in texts]
)
def test_both_mandatory_readers_agree_on_a_spelling(name, text):
    assert disagreement(corpus.message(f"{name}: {text}")) is None


RARE = {
    "65 parameters": ["Via: SIP/2.0/UDP a" + ";x" * 65],
    "65 URI parameters": ["From: <sip:a@b" + ";x" * 65 + ">;tag=1"],
    "long branch": ["Via: SIP/2.0/UDP a;branch=z9hG4bK" + "x" * 600],
    "broken second Via": ["Via: SIP/2.0/UDP a\r\nVia: broken"],
}


@built
def test_top_via_is_read_in_c_where_others_share_its_line():
    _, _, fields, _ = python.scan(
        corpus.message("Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2"),
        256,
        8192,
    )
    assert c.plain_mandatory(fields).branch == "z9hG4bK1"


@built
@pytest.mark.parametrize("lines", RARE.values(), ids=RARE)
def test_both_mandatory_readers_agree_on_a_rare_spelling(lines):
    assert disagreement(corpus.message(*lines)) is None


@built
def test_both_mandatory_readers_agree_on_broken_messages():
    assert not [
        found for data in mutations(1500, seed=4475) if (found := disagreement(data, vias=1))
    ]


# ---- name_addr(), via(), cseq() and plain_uri()

VALUE_TWINS = {
    "NameAddr": (c and c.name_addr, address.parse_in_python),
    "Via": (c and c.via, via.parse_in_python),
    "CSeq": (c and c.cseq, values.parse_cseq_in_python),
    "URI": (c and c.plain_uri, uri.plain_in_python),
}
TEXTS = {
    "NameAddr": SPELLINGS["From"] + [
        '"a;tag=b" <sip:a@b>', '"a;tag=b" <sip:a@b>;tag=c', "<sip:a@b;tag=c>", "sip:a@b;tag=c;x", "<sip:a@b>;x=1;tag=2",
        "<sip:a@b>;tag=", "<sip:a@b>;tag=a;tag=b", ";tag=a", "", "*", "<sip:a@b>;tag=\"a\"", "<sip:a@b> ;tag=a",
        "\udcff <sip:a@b>;tag=1", '"\udcff" <sip:a@b>;tag=1', "<sip:é@b>;tag=1", "<sip:a@b>;tag=é", "x" * 5000 + ";tag=1",
        'sip:a@b;x="<y>"', 'sip:a@b;x="<y>";tag=1', 'sip:a@b;tag=1;x="<y>"', 'sip:a@b;x="<y;tag=1"', 'sip:a@b;x="\\"<;tag=1',
        'sip:a@b;x="\\"<,;>";tag=1', '<sip:a@b>;x=">;tag=1"', '"<" <sip:a@b>;x="<"',
    ],
    "Via": SPELLINGS["Via"] + [
        "SIP/2.0/UDP a;branch=z9hG4bK1;rport=5060;received=192.0.2.1", "SIP/2.0/UDP a;rport;branch=z9hG4bK1;alias",
        "SIP/2.0/UDP a;branch=", "SIP/2.0/UDP a;branch=;x", "SIP/2.0/UDP a;x=\";branch=1\"", "SIP/2.0/UDP a;x=\"a;branch=1;b\"",
        "SIP/2.0/UDP a;branch=\"1\"", "SIP / 2.0 / UDP a : 5 ;branch=1", "SIP/2.0/UDP a ;branch=1 ;x",
        "SIP/2.0/UDP a;branch=1;branch=2", ";branch=1", "", "SIP/2.0/UDP a;branch=é", "SIP/2.0/UDP \udcff;branch=1",
        "SIP/2.0/UDP a" + ";x" * 63 + ";branch=1", "SIP/2.0/UDP a" + ";x" * 64 + ";branch=1", "SIP/2.0/UDP a;branch=1" + ";x" * 64,
    ],
    "CSeq": SPELLINGS["CSeq"] + [
        "", " ", "1", "1 ", " INVITE", "1 INVITE ", "1234567890 INVITE", "١ INVITE", "1 é", "1 \udcff", "+1 INVITE", "1 Invite",
    ],
    "URI": [
        "sip:a", "sips:a", "sip:", "sip", "", "SIP:a", "sip:a@b", "sip:@b", "sip:a:b@c", "sip:a@b:5060", "sip:a@b:0",
        "sip:a@b:65535", "sip:a@b:65536", "sip:a@b:", "sip:a@b:123456", "sip:a@b:00080", "sip:a@b;lr", "sip:a@b;lr=", "sip:a@b;=x",
        "sip:a@b;;x", "sip:a@b;", "sip:a@b;x=a:b/[c]&d+e$f", "sip:a@b?x=y", "sip:%61@b", "sip:+1-(2)@b", "sip:a@b_c", "sip:a_b",
        "sip:a@[::1]", "sip:a@.b", "sip:a@b..c", "sip:é@b", "sip:a@b;x=\udcff", "sip:a\0@b", "sip:a@b;\0", "sip:a@b;x=\0", "tel:+1",
        "sip:" + "a" * 252, "sip:" + "a" * 253, "sip:a" + ";x" * 64, "sip:a" + ";x" * 65, "sipx:a", "sip:a@b@c",
    ],
}  # fmt: skip


def value_outcome(parse, text):
    try:
        value = parse(text)
    except ParseError as error:
        return str(error), error.problem, error.offset, error.status, error.value
    types = [type(value), *map(type, value or ())]
    return value, types, str(value) if isinstance(value, (Via, CSeq)) else repr(value)


@built
@pytest.mark.parametrize(
    "text",
    [
        "<sip:a;lr>",
        "<sip:a;lr>;tag=1",
        "<sip:a;lr>;x;tag=1",
        "sip:a;lr;tag=1",
        "<sip:a>;x=" + "y" * 300,
    ],
)
@pytest.mark.parametrize("name", ["Route", "Record-Route", "Path", "Contact", "From"])
def test_twins_read_an_address_field_as_the_same_type(name, text, monkeypatch):
    found = []
    for parse_address in VALUE_TWINS["NameAddr"]:
        monkeypatch.setattr(NameAddr, "parse", staticmethod(parse_address))
        found.append(type(ROWS[name].type.parse(text)))
    assert found == [NameAddr, NameAddr]


@built
@pytest.mark.parametrize(
    "kind, text", [(kind, text) for kind, texts in TEXTS.items() for text in texts]
)
def test_twins_read_the_same_value(kind, text):
    in_c, in_python = VALUE_TWINS[kind]
    assert value_outcome(in_c, text) == value_outcome(in_python, text)


PIECES_OF_VALUES = [
    "SIP/2.0/UDP ", "sip:a@b", ';x="', "sip:", "sips:", "a", "b.c", "@", ":", "5060", ";", ";tag=", ";branch=", "z9hG4bK", "<", ">", '"', "\\", "=",
    ";lr", "rport", " ", ",", "é", "\udcff", "\0", "%41", "+", "1", "INVITE", "*", "\t",
]  # fmt: skip


@built
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(VALUE_TWINS)),
    st.lists(st.sampled_from(PIECES_OF_VALUES), max_size=12).map("".join),
)
def test_twins_read_the_same_value_of_whatever_hypothesis_makes_up(kind, text):
    in_c, in_python = VALUE_TWINS[kind]
    assert value_outcome(in_c, text) == value_outcome(in_python, text)


@built
@corpus.needed
def test_twins_read_the_same_values_in_the_corpus():
    kinds = {
        "From": "NameAddr",
        "To": "NameAddr",
        "Contact": "NameAddr",
        "Route": "NameAddr",
        "Via": "Via",
        "CSeq": "CSeq",
    }
    different = []
    for row in corpus.datagrams():
        try:
            lines = python.scan(row.data, 256, 8192)[1]
        except ParseError:
            continue
        for name, _, text in lines:
            if name in kinds:
                in_c, in_python = VALUE_TWINS[kinds[name]]
                if value_outcome(in_c, text) != value_outcome(in_python, text):
                    different.append((row.file, text))
    assert not different


@built
@pytest.mark.parametrize("kind", VALUE_TWINS)
def test_value_in_c_leaves_nothing_behind(kind):
    in_c, _ = VALUE_TWINS[kind]
    left = {
        text: blocks
        for text in TEXTS[kind]
        if (blocks := blocks_left(lambda text=text: value_outcome(in_c, text))) > 50
    }
    assert not left


@built
@pytest.mark.parametrize("kind", VALUE_TWINS)
@pytest.mark.parametrize("text", [None, b"sip:a", 1])
def test_value_in_c_refuses_what_is_no_text(kind, text):
    with pytest.raises(TypeError):
        VALUE_TWINS[kind][0](text)


# ---- head(): start line and header lines


def head_outcome(function, *arguments):
    try:
        return function(*arguments)
    except InvalidValue as error:
        return str(error)


@built
def test_both_heads_are_the_same_of_every_message_of_the_corpus():
    different = []
    for row in corpus.datagrams():
        try:
            start_line, lines, _, at = python.scan(row.data, 256, 8192)
        except ParseError:
            continue
        for length in (len(row.data) - at, 0, 10**9):
            arguments = (start_line, lines, length)
            if head_outcome(head, *arguments) != head_outcome(c.head, *arguments):
                different.append(row.file)
    assert not different


HEADS = {
    "no lines": [],
    "a length": [("Content-Length", ": ", "4")],
    "a length with zeros": [("Content-Length", ": ", "004")],
    "a wrong length": [("Content-Length", ": ", "5")],
    "no number": [("Content-Length", ": ", "")],
    "two lengths": [("Content-Length", ": ", "4"), ("Content-Length", ": ", "5")],
    "two equal lengths": [("Content-Length", ": ", "4"), ("Content-Length", ": ", "4")],
    "compact": [("Content-Length", "l: 4", "4")],
    "folded": [("Subject", "Subject: a\r\n b", "a b")],
    "not UTF-8": [("Subject", ": ", "\udcff")],
    "not ASCII": [("Subject", ": ", "é")],
    "129 lines": [("Subject", ": ", "x")] * 129,
    "256 lines": [("Subject", ": ", "x" * number) for number in range(256)],
}


@built
@pytest.mark.parametrize("lines", HEADS.values(), ids=HEADS)
def test_both_heads_are_the_same_of_odd_lines(lines):
    for length in (4, 0):
        arguments = ("SIP/2.0 200 é", lines, length)
        assert head_outcome(head, *arguments) == head_outcome(c.head, *arguments)


@built
def test_head_in_c_leaves_nothing_behind():
    lines = [("Subject", ": ", "x"), ("To", "t:y", "y")]
    assert blocks_left(lambda: c.head("SIP/2.0 200 OK", lines, 4)) < 50


# ---- echo(): the answer that is nothing but a status

ECHOED = frozenset(("Via", "From", "To", "Call-ID", "CSeq", "Record-Route"))


@built
@pytest.mark.parametrize("tag", ["", "abc"])
def test_both_echo_the_same_of_every_message_of_the_corpus(tag):
    different = []
    for row in corpus.datagrams():
        try:
            lines = python.scan(row.data, 256, 8192)[1]
        except ParseError:
            continue
        arguments = (lines, ECHOED, "SIP/2.0 200 OK", tag)
        if echo(*arguments) != c.echo(*arguments):
            different.append(row.file)
    assert not different


@built
@pytest.mark.parametrize("lines", [[("To", "x")], [None], [("To", "x", "", "")]])
def test_echo_in_c_refuses_what_is_no_line(lines):
    with pytest.raises(TypeError):
        c.echo(lines, ECHOED, "SIP/2.0 200 OK", "")


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize(
    "to",
    ["<sip:b@c>", "<sip:b@c>;tag=x", "<sip:b@c>; TAG = x", "<sip:montag@c>", '"\udcff" <sip:b@c>'],
)
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
@pytest.mark.parametrize("status", [180, 200, 404, 699])
def test_bare_answer_is_the_response_without_the_detour(to, method, status):
    data = (
        f"{method} sip:b@c SIP/2.0\r\nv : SIP/2.0/UDP a;branch=z9hG4bK1\r\nRecord-Route: <sip:r;lr>\r\nTo: {to}\r\n"
        f"From: <sip:a@c>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    request = parse(data.encode("utf-8", "surrogateescape"))
    assert request.answer(status) == bytes(request.response(status))


def test_looking_up_a_name_that_is_none_lets_no_line_of_that_name_in():
    data = corpus.message("X y: 1")
    assert "X y" not in parse(corpus.OPTIONS).headers
    with pytest.raises(ParseError, match="header name is not a token"):
        python.scan(data, 256, 8192)
