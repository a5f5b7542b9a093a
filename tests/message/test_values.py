"""Header values: each type read, written and read again, with the spellings that the field really has."""

import locale
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message.address import STAR, Contact, NameAddr
from sippet_gevent.message.fields.authentication import AuthParameters, Challenge, Credentials
from sippet_gevent.message.fields.rfc3261 import (
    CallID,
    CSeq,
    Date,
    DeltaSeconds,
    MaxForwards,
    MediaType,
    MimeVersion,
    Number,
    RAck,
    RetryAfter,
    SessionExpires,
    Timestamp,
    Token,
    Valued,
    Warning,
)
from sippet_gevent.message.grammar import number, quote, split, unquote
from sippet_gevent.message.parameters import EMPTY, Parameters
from sippet_gevent.message.uri import URI
from sippet_gevent.message.via import Via

BOB = URI("sip", "bob", "biloxi.com")

# ---- reading: type, text, the value it is

READ = [
    (NameAddr, "<sip:bob@biloxi.com>", NameAddr(BOB)),
    (NameAddr, "sip:bob@biloxi.com", NameAddr(BOB)),
    (NameAddr, "Bob <sip:bob@biloxi.com>", NameAddr(BOB, "Bob")),
    (NameAddr, "Bob<sip:bob@biloxi.com>", NameAddr(BOB, "Bob")),
    (NameAddr, 'Bob\t The  Builder <sip:bob@biloxi.com>', NameAddr(BOB, "Bob\t The  Builder")),
    (NameAddr, '"Bob" <sip:bob@biloxi.com>', NameAddr(BOB, "Bob")),
    (NameAddr, '"Bob"<sip:bob@biloxi.com>', NameAddr(BOB, "Bob")),
    (NameAddr, '"" <sip:bob@biloxi.com>', NameAddr(BOB)),
    (NameAddr, r'"B\"o\\b" <sip:bob@biloxi.com>', NameAddr(BOB, r'B"o\b')),
    (NameAddr, '"<sip:evil@x>, y;z" <sip:bob@biloxi.com>', NameAddr(BOB, "<sip:evil@x>, y;z")),
    (NameAddr, "Jürgen <sip:bob@biloxi.com>", NameAddr(BOB, "Jürgen")),
    (NameAddr, "O'Hara <sip:bob@biloxi.com>", NameAddr(BOB, "O'Hara")),
    (NameAddr, "<sip:bob@biloxi.com>;tag=1", NameAddr(BOB, "", Parameters(tag="1"))),
    (NameAddr, "<sip:bob@biloxi.com> ; tag = 1 ;x", NameAddr(BOB, "", Parameters({"tag": "1", "x": None}))),
    (NameAddr, "<sip:bob@biloxi.com;tag=1>", NameAddr(BOB._replace(parameters=URI.parse("sip:b;tag=1").parameters))),
    (NameAddr, "sip:bob@biloxi.com;tag=1", NameAddr(BOB, "", Parameters(tag="1"))),
    (NameAddr, "sip:bob@biloxi.com ;tag = x", NameAddr(BOB, "", Parameters(tag="x"))),
    (NameAddr, "<tel:+1-201>", NameAddr(URI("tel", "+1-201"))),
    (Contact, "*", STAR),
    (Contact, '<sip:bob@biloxi.com>;+sip.instance="<urn:uuid:0>";reg-id=1',
    NameAddr(BOB, "", Parameters({"+sip.instance": "<urn:uuid:0>", "reg-id": "1"}))),
    (Contact, "<sip:bob@biloxi.com>;received=2001:db8::1", NameAddr(BOB, "", Parameters(received="2001:db8::1"))),
    (Via, "SIP/2.0/UDP pc33.atlanta.com", Via("UDP", "pc33.atlanta.com")),
    (Via, "SIP/2.0/TLS 192.0.2.1:5061;branch=z9hG4bK1", Via("TLS", "192.0.2.1", 5061, Parameters(branch="z9hG4bK1"))),
    (Via, "SIP/2.0/UDP [2001:db8::9:255]:5060", Via("UDP", "[2001:db8::9:255]", 5060)),
    (Via, "SIP / 2.0 / UDP\tfirst.example.com : 4000 ;ttl=16\t;maddr=224.2.0.1",
    Via("UDP", "first.example.com", 4000, Parameters(ttl="16", maddr="224.2.0.1"))),
    (Via, "sip/2.0/udp a_b.example", Via("UDP", "a_b.example")),
    (Via, "SIP/2.0/STOMP df7jal23ls0d.invalid;rport;received=192.0.2.1",
    Via("STOMP", "df7jal23ls0d.invalid", None, Parameters({"rport": None, "received": "192.0.2.1"}))),
    (Via, "SIP/2.0/TLS-SCTP a", Via("TLS-SCTP", "a")),
    (CSeq, "4711 INVITE", CSeq(4711, "INVITE")),
    (CSeq, "0009 INVITE", CSeq(9, "INVITE")),
    (CSeq, "1 \t INVITE", CSeq(1, "INVITE")),
    (CSeq, "1\t INVITE", CSeq(1, "INVITE")),
    (CSeq, "2147483647 re%47!", CSeq(2**31 - 1, "re%47!")),
    (Number, "0349", 349),
    (MaxForwards, "255", 255),
    (DeltaSeconds, "4294967295", 2**32 - 1),
    (Token, "INVITE", "INVITE"),
    (CallID, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@biloxi.com", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@biloxi.com"),
    (CallID, "a(b)<c>:\\\"/[d]?{e}", "a(b)<c>:\\\"/[d]?{e}"),
    (Valued, "presence;id=7", Valued("presence", Parameters(id="7"))),
    (Valued, "gzip", Valued("gzip")),
    (Valued, "en-gb ; q=0.8", Valued("en-gb", Parameters(q="0.8"))),
    (Valued, "<http://www.example.com/sounds/a;b.wav> ;appearance=2",
    Valued("<http://www.example.com/sounds/a;b.wav>", Parameters(appearance="2"))),
    (Valued, 'Q.850 ;cause=16 ;text="Terminated; by, x"', Valued("Q.850", Parameters(cause="16", text="Terminated; by, x"))),
    (Valued, "12345@149.112.118.3;to-tag=12345;from-tag=5FFE-3994;early-only",
    Valued("12345@149.112.118.3", Parameters({"to-tag": "12345", "from-tag": "5FFE-3994", "early-only": None}))),
    (MediaType, "application/sdp", MediaType("application", "sdp")),
    (MediaType, "Text/HTML ; charset=ISO-8859-4", MediaType("text", "html", Parameters(charset="ISO-8859-4"))),
    (MediaType, "multipart / mixed;boundary=\"a b\"", MediaType("multipart", "mixed", Parameters(boundary="a b"))),
    (MediaType, "*/*;q=0.1", MediaType("*", "*", Parameters(q="0.1"))),
    (RetryAfter, "18000;duration=3600", RetryAfter(18000, "", Parameters(duration="3600"))),
    (RetryAfter, "120 (I'm in a meeting)", RetryAfter(120, "I'm in a meeting")),
    (RetryAfter, "5 (a (nested) \\) one) ;x", RetryAfter(5, "a (nested) \\) one", Parameters(x=None))),
    (RetryAfter, '5;x=")("', RetryAfter(5, "", Parameters(x=")("))),
    (RetryAfter, '5 (a);x=")"', RetryAfter(5, "a", Parameters(x=")"))),
    (Timestamp, "54", Timestamp("54")),
    (Timestamp, "54.12 0.5", Timestamp("54.12", "0.5")),
    (Timestamp, "54. .", Timestamp("54.", ".")),
    (Warning, '307 isi.edu "Session parameter \'foo\' not understood"',
    Warning(307, "isi.edu", "Session parameter 'foo' not understood")),
    (Warning, '399 [2001:db8::1]:5060 "a \\"b\\", c"', Warning(399, "[2001:db8::1]:5060", 'a "b", c')),
    (MimeVersion, "1.0", MimeVersion(1, 0)),
    (RAck, "776656 1 INVITE", RAck(776656, 1, "INVITE")),
    (SessionExpires, "4000;refresher=uac", SessionExpires(4000, Parameters(refresher="uac"))),
    (Date, "Sat, 13 Nov 2010 23:29:00 GMT", datetime(2010, 11, 13, 23, 29, tzinfo=timezone.utc)),
    (Date, "Thu, 21 feb 2002 13:02:03 GMT", datetime(2002, 2, 21, 13, 2, 3, tzinfo=timezone.utc)),
    (Challenge, "Digest", Challenge("Digest", AuthParameters())),
    (Challenge, 'Digest realm="a, b", qop="auth,auth-int" ,stale=FALSE',
    Challenge("Digest", AuthParameters(realm="a, b", qop="auth,auth-int", stale="FALSE"))),
    (Challenge, 'Digest\trealm="x"', Challenge("Digest", AuthParameters(realm="x"))),
    (Challenge, "NoOneKnowsThisScheme opaque-data=here",
    Challenge("NoOneKnowsThisScheme", AuthParameters({"opaque-data": "here"}))),
]  # fmt: skip


def case(type_, text) -> str:
    return f"{type_.__name__} {text}"


@pytest.mark.rfc("3261 20")
@pytest.mark.parametrize(
    "type_, text, value", READ, ids=[case(type_, text) for type_, text, _ in READ]
)
def test_value_is_read(type_, text, value):
    assert type_.parse(text) == value


@pytest.mark.rfc("3261 20")
@pytest.mark.parametrize(
    "type_, text, value", READ, ids=[case(type_, text) for type_, text, _ in READ]
)
def test_value_that_was_read_is_written_so_that_it_reads_the_same(type_, text, value):
    assert (
        type_.parse(
            getattr(type_, "format", str)(type_.parse(text))
            if type_ is Date
            else str(type_.parse(text))
        )
        == value
    )


BROKEN = [
    (NameAddr, [
        "", "<>", "<sip:a@b", "sip:a@b>", '"A <sip:a@b>', '"A" sip:a@b', "<sip:a@b> x", "<sip:a@b>x=1", "A, B <sip:a@b>",
        "A <sip:a@b>;", "<sip:a@b>;;",
        "<sip:a@b>;=1", "<sip:a@b>;x=\"", "<sip:a@b>;x=a b", "< sip:a@b >", "<<sip:a@b>>", "sip:a@b?x=1", "<sip:a@b>;x y",
        "(c) <sip:a@b>", '"A""B" <sip:a@b>', "*",
    ]),
    (Via, [
        "", "SIP/2.0/UDP", "SIP/2.0/UDP ", "SIP/3.0/UDP a", "HTTP/1.1/TCP a", "SIP/2.0/UDP a:0", "SIP/2.0/UDP a:65536",
        "SIP/2.0/UDP a:x", "SIP/2.0/UDP a:",
        "SIP/2.0/UDP [::1", "SIP/2.0/UDP ::1", "SIP/2.0/UDP -", "SIP/2.0/UDP .", "SIP/2.0/UDP a b", "SIP/2.0/UDP a;;b",
        "SIP/2.0/UDP a;", "SIP/2.0/ a", "SIP/2.0/UDP a:٣",
    ]),
    (CSeq, ["", "1", "INVITE", "1INVITE", "-1 INVITE", "+1 INVITE", "1_0 INVITE", "2147483648 INVITE", "1 IN VITE",
    "١ INVITE", "1\xa0INVITE", "1 "]),
    (Number, ["", "-1", "+1", "1.0", "1_0", "0x1", " 1", "1 ", "١", "９", "4294967296", "9" * 5000]),
    (MaxForwards, ["256", "-1", "", "70 hops"]),
    (DeltaSeconds, ["4294967296", "1.5", ""]),
    (Token, ["", "a b", "a,b", "é", "a;b", '"a"']),
    (CallID, ["", "a b", "@a", "a\tb", "a\x7f"]),
    (Valued, ["", ";x", "<http://a", "<http://a> x", "<a>b;c", "a;", "a;b c"]),
    (MediaType, ["", "text", "text/", "/html", "te xt/html", "text/html/x", "text/html;", "text/html;q"[:-1]]),
    (Challenge,
    ["", "=", 'Digest realm="', "Digest a b=c", 'Digest realm="x" nonce="y"', "Digest ,"]),
    (RetryAfter, ["", "soon", "5 (", "5 (a", "5 (a) b", "5 (a\\)", "-5", "5;"]),
    (Timestamp, ["", ".", "-1", "1e5", "1 2 3", "1\xa02", "١"]),
    (Warning, ["", "301", "301 a", "301 a b", '301 a "b', '301 a "b" c', '30 a "b"', '3010 a "b"', '301 "b"', '301 a "b\\"']),
    (MimeVersion, ["", "1", "1.", ".0", "1.0.0", "a.b"]),
    (RAck, ["", "1 2", "1 2 3 4", "a 2 INVITE", "1 2\x85INVITE", "1 2147483648 INVITE"]),
    (SessionExpires, ["", "x", "-1", "1;", ";refresher=uac"]),
    (Date, [
        "", "Sat, 13 Nov 2010 23:29:00 EST", "Sat, 13 Nov 2010 23:29:00", "Sat, 31 Feb 2010 23:29:00 GMT",
        "Sat, 13 Foo 2010 23:29:00 GMT",
        "Sat, 13 Nov 2010 24:00:00 GMT", "2010-11-13T23:29:00Z", "Sat, 13 Nov 0000 00:00:00 GMT", "Sat, 1٣ Nov 2010 23:29:00 GMT",
    ]),
]  # fmt: skip
BROKEN_ONES = [(type_, text) for type_, texts in BROKEN for text in texts]


@pytest.mark.parametrize(
    "type_, text", BROKEN_ONES, ids=[case(type_, text[:40]) for type_, text in BROKEN_ONES]
)
def test_text_that_is_no_such_value_is_a_parse_error(type_, text):
    with pytest.raises(ParseError):
        type_.parse(text)


# ---- writing


WRITTEN = [
    (NameAddr(BOB), "<sip:bob@biloxi.com>"),
    (NameAddr(BOB, "Bob"), '"Bob" <sip:bob@biloxi.com>'),
    (NameAddr(BOB, 'B"o\\b'), '"B\\"o\\\\b" <sip:bob@biloxi.com>'),
    (NameAddr("sip:bob@biloxi.com", "", Parameters(tag="a")), "<sip:bob@biloxi.com>;tag=a"),
    (Via("UDP", "a", None, Parameters(branch="z", rport=None)), "SIP/2.0/UDP a;branch=z;rport"),
    (
        Via("UDP", "[::1]", 5060, Parameters(received="2001:db8::1")),
        "SIP/2.0/UDP [::1]:5060;received=2001:db8::1",
    ),
    (CSeq(1, "ACK"), "1 ACK"),
    (Valued("<http://a>", Parameters(purpose="icon")), "<http://a>;purpose=icon"),
    (MediaType("a", "b", Parameters(boundary="x:y")), 'a/b;boundary="x:y"'),
    (RetryAfter(5, "x", Parameters(duration=7)), "5 (x);duration=7"),
    (Timestamp("54", "0.5"), "54 0.5"),
    (Warning(1, "a", 'b"c'), '001 a "b\\"c"'),
    (MimeVersion(1, 0), "1.0"),
    (RAck(1, 2, "INVITE"), "1 2 INVITE"),
    (SessionExpires(90), "90"),
    (MaxForwards(70), "70"),
]


@pytest.mark.parametrize("value, text", WRITTEN)
def test_value_is_written(value, text):
    assert str(value) == text


@pytest.mark.rfc("3261 25.1")
def test_challenge_quotes_what_the_grammar_quotes():
    challenge = Challenge(
        "Digest",
        AuthParameters(
            realm="atlanta",
            nonce="84a4",
            opaque="x",
            domain="sip:a",
            stale="FALSE",
            algorithm="MD5",
            qop="auth,auth-int",
        ),
    )
    assert str(challenge) == (
        'Digest realm="atlanta", nonce="84a4", opaque="x", domain="sip:a", stale=FALSE, algorithm=MD5, qop="auth,auth-int"'
    )


@pytest.mark.rfc("3261 25.1")
def test_credentials_quote_what_the_grammar_quotes():
    credentials = Credentials(
        "Digest",
        AuthParameters(
            username="bob",
            uri="sip:a@b",
            response="0" * 32,
            cnonce="0a",
            nc="00000001",
            qop="auth",
            algorithm="MD5",
        ),
    )
    assert str(credentials) == (
        f'Digest username="bob", uri="sip:a@b", response="{"0" * 32}", cnonce="0a", nc=00000001, qop=auth, algorithm=MD5'
    )


@pytest.mark.rfc("3261 25.1")
@pytest.mark.parametrize(
    "value, text",
    [
        ("token", "token"), ("a.b-c", "a.b-c"), ("a b", '"a b"'), ("a;b", '"a;b"'), ("", '""'), ("a:b", '"a:b"'),
        ("a@b", '"a@b"'), ("<urn:x>", '"<urn:x>"'),
        ('"quoted"', '"\\"quoted\\""'), ('half"', '"half\\""'), ("back\\", '"back\\\\"'), ("192.0.2.1", "192.0.2.1"),
        ("[::1]", "[::1]"), ("2001:db8::1", "2001:db8::1"),
        (7, "7"), ("é", '"é"'),
    ],
)  # fmt: skip
def test_parameter_is_quoted_when_it_is_neither_token_nor_host(value, text):
    assert str(Parameters(x=value)) == f";x={text}"


@pytest.mark.parametrize(
    "value",
    [
        NameAddr("sip:a>;x <"), Via("U DP", "a"), Via("UDP", "::1"), Via("UDP", "a", 0), Via("UDP", "a", 65536),
        CSeq(-1, "ACK"), CSeq(2**31, "ACK"),
        CSeq(1, "A CK"), Valued("a;b"), Valued("a,b"), Valued(""), Valued("<a"), MediaType("a b", "c"), Challenge("a b"),
        RetryAfter(5, "a)"), RetryAfter(5, "("),
        Timestamp("x"), Warning(1, "a b", "c"), RAck(1, 2, ""),
    ],
    ids=repr,
)  # fmt: skip
def test_value_that_cannot_be_read_again_is_not_written(value):
    with pytest.raises((InvalidValue, ParseError)):
        str(value)


def test_date_is_written_in_english_whatever_the_locale():
    before = locale.setlocale(locale.LC_TIME)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
            try:
                locale.setlocale(locale.LC_TIME, name)
                break
            except locale.Error:
                continue
        written = Date.format(datetime(2010, 12, 5, 1, 2, 3, tzinfo=timezone.utc))
    finally:
        locale.setlocale(locale.LC_TIME, before)
    assert written == "Sun, 05 Dec 2010 01:02:03 GMT"


@pytest.mark.rfc("3261 20.17")
def test_date_of_another_zone_is_written_in_gmt():
    assert (
        Date.format(datetime(2010, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))))
        == "Thu, 31 Dec 2009 23:00:00 GMT"
    )


# ---- what values know


@pytest.mark.rfc("3261 20.10")
@pytest.mark.parametrize(
    "text, q",
    [
        ("", 1.0),
        (";q=0.5", 0.5),
        (";q=0", 0.0),
        (";q=1.000", 1.0),
        (';q="0.33"', 0.33),
        (";q=0.", 0.0),
        (";Q=0.7", 0.7),
    ],
)
def test_contact_has_a_q(text, q):
    assert NameAddr.parse(f"<sip:a>{text}").q == q


@pytest.mark.parametrize(
    "q", ["1.1", "2", "-1", "nan", "0x1", ".5", "1e-1", "٠.٥", "inf", "0.0000000000001"]
)
def test_q_that_is_none_is_a_parse_error(q):
    with pytest.raises(ParseError):
        _ = NameAddr.parse(f'<sip:a>;q="{q}"').q


def test_tag_is_found_in_any_case():
    assert NameAddr.parse("<sip:a>;TAG=x").tag == "x"


@pytest.mark.parametrize(
    "text, rport", [("", None), (";rport", None), (";rport=5060", 5060), (";RPORT=1", 1)]
)
def test_via_has_an_rport(text, rport):
    assert Via.parse(f"SIP/2.0/UDP a{text}").rport == rport


@pytest.mark.parametrize("rport", ["x", "65536", "-1", "1_0"])
def test_rport_that_is_none_is_a_parse_error(rport):
    with pytest.raises(ParseError):
        _ = Via.parse(f"SIP/2.0/UDP a;rport={rport}").rport


@pytest.mark.parametrize("text, sent_by", [("a", "a"), ("a:1", "a:1"), ("[::1]:5", "[::1]:5")])
def test_via_has_a_sent_by(text, sent_by):
    assert Via.parse(f"SIP/2.0/UDP {text}").sent_by == sent_by


def test_empty_branch_is_not_a_missing_one():
    assert (Via.parse("SIP/2.0/UDP a;branch=").branch, Via.parse("SIP/2.0/UDP a").branch) == (
        "",
        None,
    )


# ---- parameters


def test_parameters_come_in_order_and_are_blind_to_case():
    parameters = Parameters.parse(";b=1;A=2;c")
    assert (list(parameters), parameters["a"], "C" in parameters, parameters["c"]) == (
        ["b", "A", "c"],
        "2",
        True,
        None,
    )


def test_parameters_are_written_as_they_came():
    assert str(Parameters.parse('a = 1;b;c="d\\e" ; D=""')) == ';a=1;b;c="d\\e";D=""'


def test_parameter_that_appears_twice_has_its_first_value_and_is_kept():
    parameters = Parameters.parse(";a=1;A=2")
    assert (parameters["a"], str(parameters)) == ("1", ";a=1;A=2")


def test_equal_parameters_have_equal_hashes():
    one, other = Parameters.parse(';a="b";C=1'), Parameters.parse(";c=1;A=b")
    assert one == other and hash(one) == hash(other)


def test_parameters_equal_a_dict_of_what_they_mean():
    assert Parameters.parse(';a="b c";d') == {"A": "b c", "D": None}


def test_parameters_cannot_be_changed():
    with pytest.raises(AttributeError):
        EMPTY.x = 1


def test_replace_keeps_the_place_of_a_parameter_and_adds_others_behind():
    assert str(Parameters.parse(";a=1;b=2").replace(A="3", c="4 5")) == ';a=3;b=2;c="4 5"'


def test_without_takes_parameters_in_any_case():
    assert str(Parameters.parse(";a=1;b=2;c").without("A", "C", "x")) == ";b=2"


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "é", "a\r\n", '"a"'])
def test_parameter_name_that_is_no_token_is_refused(name):
    with pytest.raises(InvalidValue):
        Parameters({name: "1"})


# ---- the grammar's own tools


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("", [""]), ("a", ["a"]), (" a , b ", ["a", "b"]), ('"a,b",c', ['"a,b"', "c"]), ('"a\\",b",c', ['"a\\",b"', "c"]),
        ("<a,b>,c", ["<a,b>", "c"]),
        ('<a"b>,c', ['<a"b>', "c"]), ('"<",">"', ['"<"', '">"']), ("a,,b", ["a", "", "b"]), ("a;b,c", ["a;b", "c"]),
    ],
)  # fmt: skip
def test_split_cuts_outside_quotes_and_brackets(text, pieces):
    assert split(text, ",") == pieces


@pytest.mark.parametrize(
    "text", ['"a,', '"a,\\"', "<a,", "a>,", "<a<b>,", 'a"b,', "<<,", ',"', "a,>"]
)
def test_split_refuses_pieces_with_an_unclosed_quote_or_bracket(text):
    with pytest.raises(ParseError):
        split(text, ",")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1_0",
        " 1",
        "1 ",
        "0x1",
        "1.0",
        "١",
        "９",
        "²",
        "1\n",
        "9" * 11,
        "9" * 100000,
    ],
)
def test_number_takes_ascii_digits_only(text):
    with pytest.raises(ParseError):
        number(text)


@pytest.mark.parametrize(
    "text, value", [("0", 0), ("007", 7), ("0" * 100000 + "7", 7), ("4294967295", 2**32 - 1)]
)
def test_number_takes_leading_zeros(text, value):
    assert number(text) == value


TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=("Cs",)), max_size=20)


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_any_text_survives_quoting(text):
    assert unquote(quote(text)) == text


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from('ab,;<>"\\ '), max_size=20))
def test_split_loses_nothing_but_blanks(text):
    try:
        pieces = split(text, ",")
    except ParseError:
        return
    assert ",".join(pieces).replace(" ", "") == text.replace(" ", "")


# ---- round trips


def made(make, *parts):
    """Values of these parts, in order. (builds() would make up the parts that are left out.)"""
    return st.tuples(*parts).map(lambda drawn: make(*drawn))


TOKENS = st.text("azAZ09-.!%*_+`'~", min_size=1, max_size=8)
NAMES = st.text("abcxyz-", min_size=1, max_size=5)
# A value in quotes is taken for a quoted-string, so text that looks like one is not drawn.
MEANT = TEXT.filter(lambda text: text[:1] != '"')
PARAMETERS = st.dictionaries(NAMES, st.one_of(st.none(), MEANT), max_size=3).map(Parameters)
AUTH = st.dictionaries(st.sampled_from(["realm", "nc", "qop", "x"]), MEANT, max_size=4).map(
    AuthParameters
)
HOSTS = st.sampled_from(["a", "a.example", "192.0.2.1", "[2001:db8::1]"])
COMMENTS = st.text(st.characters(exclude_characters="\r\n\0()\\"), max_size=9)
LONGS = st.integers(0, 2**32 - 1)
SEQUENCES = st.integers(0, 2**31 - 1)

VALUES = {
    NameAddr: made(
        NameAddr,
        made(lambda user, host: URI("sip", user, host), TEXT.filter(bool), HOSTS),
        TEXT,
        PARAMETERS,
    ),
    Via: made(
        Via, TOKENS.map(str.upper), HOSTS, st.one_of(st.none(), st.integers(1, 65535)), PARAMETERS
    ),
    CSeq: made(CSeq, SEQUENCES, TOKENS),
    Valued: made(Valued, TOKENS, PARAMETERS),
    MediaType: made(MediaType, TOKENS.map(str.lower), TOKENS.map(str.lower), PARAMETERS),
    Challenge: made(Challenge, TOKENS, AUTH),
    RetryAfter: made(RetryAfter, LONGS, COMMENTS, PARAMETERS),
    Warning: made(Warning, st.integers(0, 999), HOSTS, TEXT),
    RAck: made(RAck, LONGS, SEQUENCES, TOKENS),
    SessionExpires: made(SessionExpires, LONGS, PARAMETERS),
    MimeVersion: made(MimeVersion, st.integers(0, 99), st.integers(0, 99)),
}


@pytest.mark.parametrize("type_", VALUES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_value_of_any_parts_survives_being_written_and_read(type_, data):
    value = data.draw(VALUES[type_])
    assert type_.parse(str(value)) == value


@settings(max_examples=40, deadline=None)
@given(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(timezone.utc)))
def test_date_survives_being_written_and_read(moment):
    assert Date.parse(Date.format(moment)) == moment.replace(microsecond=0)
