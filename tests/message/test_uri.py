"""URIs: parsed, written, compared by RFC 3261 §19.1.4; tel by RFC 3966; hosts that look like addresses and are none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message import uri as uri_module
from sippet_gevent.message.parameters import URIHeaders, URIParameters
from sippet_gevent.message.uri import CACHED_URIS, URI, URI_LENGTH, normal_host

# ---- comparing

EQUAL = [
    # the RFC's own
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
    ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    # more
    ("sip:a@b", "SIP:a@B"),
    ("sip:a@b;%6cr", "sip:a@b;LR"),
    ("sip:a@b;x=%41", "sip:a@b;X=a"),
    ("sip:a@b;lr", "sip:a@b"),
    ("sip:a@[2001:db8::1]", "sip:a@[2001:0DB8:0:0:0:0:0:1]"),
    ("sip:a@[::ffff:192.0.2.1]", "sip:a@192.0.2.1"),
    ("sip:a@b.example.", "sip:a@B.example"),
    ("sip:a@b?Subject=x", "sip:a@b?subject=x"),
    ("urn:service:sos", "URN:service:sos"),
]

UNEQUAL = [
    # the RFC's own
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    # more
    ("sip:a@b", "sips:a@b"),
    ("sip:a@b", "sip:b"),
    ("sip:a@b", "sip:a:secret@b"),
    ("sip:a:x@b", "sip:a:X@b"),
    ("sip:a@b;security=on", "sip:a@b;security=off"),
    ("sip:a@b;user=phone", "sip:a@b"),
    ("sip:a@b;ttl=1", "sip:a@b"),
    ("sip:a@b;method=INVITE", "sip:a@b"),
    ("sip:a@b;maddr=c", "sip:a@b"),
    ("sip:a@b?x=1", "sip:a@b?x=2"),
    ("sip:a@127.1", "sip:a@127.0.0.1"),
    ("sip:a@0x7f000001", "sip:a@127.0.0.1"),
    ("sip:a@b;x=%2541", "sip:a@b;x=A"),
    ("sip:a@b", "tel:+1"),
    ("urn:service:sos", "urn:service:police"),
]


@pytest.mark.rfc("3261 19.1.4")
@pytest.mark.parametrize("one, other", EQUAL)
def test_uris_are_equivalent_both_ways(one, other):
    assert (URI.parse(one).equivalent(other), URI.parse(other).equivalent(one)) == (True, True)


@pytest.mark.rfc("3261 19.1.4")
@pytest.mark.parametrize("one, other", UNEQUAL)
def test_uris_are_not_equivalent_either_way(one, other):
    assert (URI.parse(one).equivalent(other), URI.parse(other).equivalent(one)) == (False, False)


@pytest.mark.rfc("3261 19.1.4")
def test_equivalence_is_not_transitive():
    on, plain, off = (
        URI.parse(f"sip:carol@chicago.com{tail}") for tail in (";security=on", "", ";security=off")
    )
    assert (on.equivalent(plain), plain.equivalent(off), on.equivalent(off)) == (True, True, False)


@pytest.mark.parametrize("text", [pair[0] for pair in EQUAL + UNEQUAL])
def test_uri_is_equivalent_to_itself(text):
    assert URI.parse(text).equivalent(text)


# ---- parsing and writing

PARTS = {
    "sip:bob@example.com": URI("sip", "bob", "example.com"),
    "sip:example.com": URI("sip", None, "example.com"),
    "sips:bob:secret@example.com:5061": URI("sips", "bob", "example.com", 5061, password="secret"),
    "sip:+1-212-555-1212:1234@gateway.com;user=phone": URI(
        "sip", "+1-212-555-1212", "gateway.com", None, URIParameters(user="phone"), password="1234"
    ),
    "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com": URI(
        "sip",
        None,
        "atlanta.com",
        None,
        URIParameters(method="REGISTER"),
        URIHeaders(to="alice@atlanta.com"),
    ),
    "sip:alice;day=tuesday@atlanta.com": URI("sip", "alice;day=tuesday", "atlanta.com"),
    "sip:a?b@c": URI("sip", "a?b", "c"),
    "sip:[2001:db8::10]:5070": URI("sip", None, "[2001:db8::10]", 5070),
    "sip:b;lr;maddr=[::1];x=a%20b": URI(
        "sip", None, "b", None, URIParameters({"lr": None, "maddr": "[::1]", "x": "a b"})
    ),
    "tel:+1-201-555-0123;ext=7": URI("tel", "+1-201-555-0123", parameters=URIParameters(ext="7")),
    "tel:7042;phone-context=example.com": URI(
        "tel", "7042", parameters=URIParameters({"phone-context": "example.com"})
    ),
    "urn:service:sos": URI("urn", opaque="service:sos"),
    "http://a/b?c#d": URI("http", opaque="//a/b?c#d"),
    "soap.beep://192.0.2.103:3002": URI("soap.beep", opaque="//192.0.2.103:3002"),
}


@pytest.mark.rfc("3261 19.1.1")
@pytest.mark.parametrize("text", PARTS)
def test_uri_is_read_into_its_parts(text):
    assert URI.parse(text) == PARTS[text]


@pytest.mark.rfc("3261 19.1.1")
@pytest.mark.parametrize("text", PARTS)
def test_uri_is_written_from_its_parts(text):
    assert str(PARTS[text]) == text


BROKEN = [
    "", "sip", "sip:", ":", "sip:@", "sip:@b", "sip:bob@", "sip:a@b@c", "sip:a b@c", "sip:a@b c", "sip:a@b:", "sip:a@b:x",
    "sip:a@b:0", "sip:a@b:65536",
    "sip:a@b:99999999999999999999", "sip:a@b:1_0", "sip:a@b:+1", "sip:a@b:١", "sip:a@[::1", "sip:a@::1", "sip:a@[gggg]",
    "sip:a@b;x y", "sip:<a@b>",
    'sip:"a"@b', "sip:a@b\r\n", "sip:a@b\0", "*", "1sip:a", "sip:a@bücher.example", "tel:", "tel:abc-x", "sip:a@b;\x7f",
    "sip:a@-b", "sip:a@.b",
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_text_that_is_no_uri_is_a_parse_error(text):
    with pytest.raises(ParseError):
        URI.parse(text)


@pytest.mark.rfc("3261 21.4.12")
def test_uri_over_the_limit_is_414():
    with pytest.raises(ParseError) as caught:
        URI.parse("sip:" + "a" * URI_LENGTH)
    assert caught.value.status == 414


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3", "1.2.3.4.5", "256.1.1.1"]
)
def test_odd_spellings_of_an_address_stay_names(host):
    assert (URI.parse(f"sip:{host}").host, normal_host(host)) == (host, host)


@pytest.mark.parametrize(
    "host, normal",
    [
        ("EXAMPLE.com", "example.com"), ("example.com.", "example.com"), ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("2001:db8::1", "[2001:db8::1]"), ("[::ffff:192.0.2.1]", "192.0.2.1"), ("[:::]", "[:::]"),
        ("[FE80::1%eth0]", "[fe80::1]"),
    ],
)  # fmt: skip
def test_host_has_one_normal_form(host, normal):
    assert normal_host(host) == normal


@pytest.mark.rfc("3261 19.1.2")
def test_escapes_are_undone_once():
    assert URI.parse("sip:%2541@b").user == "%41"


@pytest.mark.rfc("3261 19.1.2")
def test_characters_that_need_escapes_are_escaped_once():
    assert str(URI("sip", "a@b:c%d e", "host")) == "sip:a%40b%3Ac%25d%20e@host"


@pytest.mark.rfc("3261 19.1.2")
def test_characters_allowed_in_a_user_part_are_not_escaped():
    assert str(URI("sip", "a&=+$,;?/-_.!~*'()z", "host")) == "sip:a&=+$,;?/-_.!~*'()z@host"


@pytest.mark.rfc("3261 19.1.2")
def test_question_mark_and_a_slash_are_escaped_in_a_password():
    assert str(URI("sip", "a", "host", password="?/")) == "sip:a:%3F%2F@host"


def test_bytes_that_are_no_utf_8_survive():
    assert str(URI.parse("sip:%FF%fe@b")) == "sip:%FF%fe@b"
    assert str(URI("sip", URI.parse("sip:%FF%fe@b").user[:], "b")) == "sip:%FF%FE@b"


def test_user_of_no_text_is_no_user():
    assert str(URI("sip", "", "b")) == "sip:b"


@pytest.mark.parametrize(
    "uri",
    [
        URI("sip", "a"), URI("sip", "a", "::1"), URI("sip", "a", "b c"), URI("sip", "a", "b", 0), URI("sip", "a", "b", 65536),
        URI("sip", "a", "-"),
        URI("tel"), URI("tel", "abc def"), URI("urn"), URI("urn", opaque="a b"), URI("u rn", opaque="a"), URI("", opaque="a"),
    ],
)  # fmt: skip
def test_parts_that_make_no_uri_are_refused_when_written(uri):
    with pytest.raises(InvalidValue):
        str(uri)


@pytest.mark.parametrize("name", ["", "a;b", "a=b", "a b", "a\r\n", 'a"b', "a<b", "é\n"])
def test_name_that_would_break_the_uri_is_refused(name):
    with pytest.raises(InvalidValue):
        URIParameters({name: "1"})


# ---- parameters and headers as mappings


def test_parameters_are_blind_to_case():
    assert URI.parse("sip:a@b;Transport=TCP").parameters["transport"] == "TCP"


def test_parameter_without_a_value_is_none_and_with_an_empty_one_is_empty():
    assert dict(URI.parse("sip:a@b;lr;x=").parameters) == {"lr": None, "x": ""}


def test_headers_are_a_mapping_of_unescaped_text():
    assert dict(URI.parse("sip:a@b?Route=%3Csip:c%3E&x=").headers) == {"Route": "<sip:c>", "x": ""}


def test_replace_keeps_the_place_of_a_parameter():
    uri = URI.parse("sip:a@b;x=1;y=2")
    assert str(uri._replace(parameters=uri.parameters.replace(X="a b"))) == "sip:a@b;x=a%20b;y=2"


def test_without_takes_a_parameter_away():
    uri = URI.parse("sip:a@b;x=1;y=2")
    assert str(uri._replace(parameters=uri.parameters.without("X"))) == "sip:a@b;y=2"


@pytest.mark.parametrize(
    "text, expected",
    [("sip:a@b;transport=tcp", "TCP"), ("sip:a@b", None), ("sip:a@b;transport", None)],
)
def test_transport_is_upper_case_or_none(text, expected):
    assert URI.parse(text).transport == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("sip:a;lr", True),
        ("sip:a;lr=on", True),
        ("sip:a;LR=true", True),
        ("sip:a;xlr", False),
        ("sip:lr@a", False),
    ],
)
def test_loose_router_has_lr_with_any_value(text, expected):
    assert URI.parse(text).is_loose_router is expected


def test_sip_and_sips_are_told_apart():
    assert [(u.is_sip, u.is_secure) for u in map(URI.parse, ("sip:a", "sips:a", "tel:1"))] == [
        (True, False),
        (True, True),
        (False, False),
    ]


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    "text, aor",
    [
        ("sip:bob@Example.COM;transport=tcp?x=1", "sip:bob@example.com"),
        ("sip:%62ob@example.com:5060", "sip:bob@example.com"),
        ("sip:bob@example.com:5070", "sip:bob@example.com"),  # §19.1.1 Table 1: no port in To
        ("sips:bob:secret@example.com:5061", "sips:bob@example.com"),
        ("sip:example.com", "sip:example.com"),
        ("sip:a%3Bb@c", "sip:a;b@c"),
        ("tel:+1-201-555(0123)", "tel:+12015550123"),
        ("urn:service:sos", "urn:service:sos"),
    ],
)
def test_address_of_record_has_one_spelling(text, aor):
    assert URI.parse(text).aor == aor


def test_address_of_record_is_a_uri_that_is_its_own():
    assert URI.parse(URI.parse("sip:a%40b@C:5060").aor).aor == "sip:a%40b@c"


# ---- tel


@pytest.mark.rfc("3966 4")
@pytest.mark.parametrize(
    "one, other, equal",
    [
        ("tel:+1-201-555-0123", "tel:+12015550123", True),
        ("tel:+1(201)555.0123", "TEL:+12015550123", True),
        ("tel:2015550123", "tel:+2015550123", False),
        ("tel:7042;phone-context=Example.com", "tel:7042;phone-context=example.COM", True),
        ("tel:7042;phone-context=+1-201", "tel:7042;phone-context=+1201", True),
        ("tel:7042;phone-context=example.com", "tel:7042;phone-context=example.org", False),
        ("tel:+12;ext=1-2", "tel:+12;ext=12", True),
        ("tel:+12;ext=12", "tel:+12;ext=13", False),
        ("tel:+12;a=1;b=2", "tel:+12;b=2;a=1", True),
        ("tel:+12;a=1", "tel:+12", False),
        ("tel:863-1234;phone-context=+1-914-555", "tel:8631234;phone-context=+1-914-555", True),
    ],
)
def test_tel_uris_compare_by_digits_and_all_their_parameters(one, other, equal):
    assert (URI.parse(one).equivalent(other), URI.parse(other).equivalent(one)) == (equal, equal)


@pytest.mark.rfc("3966 5.1.5")
def test_local_number_is_another_address_of_record_in_another_context():
    assert (
        URI.parse("tel:7042;phone-context=a.example").aor
        != URI.parse("tel:7042;phone-context=b.example").aor
    )


# ---- round trips

NAMES = st.text("abcxyz019-.", max_size=7).map("n{}".format)
TEXT = st.text(max_size=8)
HOSTS = st.one_of(
    NAMES, st.sampled_from(["192.0.2.1", "[2001:db8::1]", "[::ffff:192.0.2.1]", "[::]"])
)
URIS = st.tuples(
    st.sampled_from(["sip", "sips"]),
    st.one_of(st.none(), TEXT.filter(bool)),
    HOSTS,
    st.one_of(st.none(), st.integers(1, 65535)),
    st.dictionaries(NAMES, st.one_of(st.none(), TEXT), max_size=3).map(URIParameters),
    st.dictionaries(NAMES, TEXT, max_size=3).map(URIHeaders),
).map(lambda parts: URI(*parts))


@settings(max_examples=150, deadline=None)
@given(URIS)
def test_uri_of_any_parts_survives_being_written_and_read(uri):
    assert URI.parse(str(uri)) == uri


@settings(max_examples=100, deadline=None)
@given(URIS)
def test_uri_read_is_written_as_it_came(uri):
    assert str(URI.parse(str(uri))) == str(uri)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from('sip:@ab;=?&%40[]1.<>" é'), max_size=20))
def test_any_text_is_a_uri_or_a_parse_error(text):
    try:
        uri = URI.parse("sip:" + text)
    except ParseError:
        return
    assert URI.parse(str(uri)).equivalent(uri)


def test_cache_of_uris_is_bounded():
    assert uri_module._remembered.cache_info().maxsize == CACHED_URIS


@pytest.mark.rfc("3261 25.1")
@pytest.mark.parametrize("text", ["sip:a@b??x=1", "sip:a@b???x", "sip:a@b?/?=1&?y=2"])
def test_question_mark_may_stand_in_the_name_of_a_header(text):
    uri = URI.parse(text)
    assert (
        str(uri),
        URI.parse(str(uri)),
        text.partition("?")[2][0] in next(iter(uri.headers)),
    ) == (text, uri, True)


@pytest.mark.rfc("3261 19.1.4")
def test_escapes_of_reserved_characters_are_kept_and_tell_uris_apart():
    uri = URI.parse("sip:tok%2Fen%3B%2b%61@h")
    assert (uri.user, str(uri), str(uri._replace(port=5070))) == (
        "tok/en;+a",
        "sip:tok%2Fen%3B%2b%61@h",
        "sip:tok%2Fen%3B%2b%61@h:5070",
    )
    assert not URI.parse("sip:a%3Bb@h").equivalent("sip:a;b@h")
    assert URI.parse("sip:a%3bb@h").equivalent("sip:a%3Bb@h")
    assert URI.parse("sip:%61b@h").equivalent("sip:ab@h")
    assert URI.parse("sip:a%40b@h").equivalent(URI("sip", "a@b", "h"))


@pytest.mark.rfc("8141 3", "5031 3", "4122 3")
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("urn:service:sos.fire", "URN:Service:SOS.Fire", True),
        (
            "urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
            "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            True,
        ),
        ("urn:example:a%2fB", "URN:EXAMPLE:a%2FB", True),
        ("urn:example:a?+r?=q#f", "urn:example:a", True),
        ("urn:example:a", "urn:example:A", False),
        ("urn:example:a%62", "urn:example:ab", False),
        ("urn:service:sos", "urn:service:sos.fire", False),
    ],
)
def test_urns_are_compared_by_their_namespace(one, other, same):
    assert URI.parse(one).equivalent(other) is same
    assert (URI.parse(one).aor == URI.parse(other).aor) is same


@pytest.mark.parametrize("text", ['sip:bob@h;thinfo="a;b,c=d"', 'sips:h:5061;lr;x="";y'])
def test_quoted_uri_parameter_is_read_and_written_as_it_came(text):
    assert str(URI.parse(text)) == text


@pytest.mark.rfc("3261 25.1")
@pytest.mark.parametrize(
    "text",
    [
        'sip:h;x="a',
        'sip:h;"x"',
        'sip:"h"',
        'sip:h?x="a"',
        'sip:"a"@h',
        'tel:+1;x="a"',
        'sip:h;x="a b"',
        'sip:h;x=a"b"',
        'urn:x:"a"',
    ],
)
def test_quote_in_a_uri_is_refused_unless_around_a_parameter_value(text):
    with pytest.raises(ParseError):
        URI.parse(text)


def test_port_that_cannot_exist_is_named_by_the_error():
    with pytest.raises(ParseError, match="port over 65535: '99999'"):
        URI.parse("sip:bob@127.0.0.1:99999")
