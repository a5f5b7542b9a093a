"""normalise(): numbers as a country dials them, E.164 and back, and CLIR."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent import COUNTRIES, Country, InvalidValue, Request, hide_caller, normalise


def invite(uri, *, to=None, from_="sip:030100@x.example", **headers):
    return Request("INVITE", uri, to=f"<{to or uri}>", from_=f"Alice <{from_}>;tag=1", **headers)


@pytest.mark.parametrize(
    ("country", "dialled", "expected"),
    [
        ("DE", "030123456", "+4930123456"),
        ("DE", "030 / 12 34-56", "+4930123456"),
        ("DE", "0044 20 7946 0000", "+442079460000"),
        ("DE", "+44 (20) 7946-0000", "+442079460000"),
        ("DE", "+4930123456", "+4930123456"),
        ("DE", "112", None),
        ("DE", "116117", None),
        ("DE", "100", None),
        ("DE", "alice", None),
        ("DE", "0", None),
        ("DE", "00", None),
        ("DE", "+", None),
        ("DE", "+0123456", None),
        ("DE", "0000123456", None),
        ("DE", "+1234567890123456", None),
        ("DE", "+49301234567890", "+49301234567890"),
        ("DE", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666", None),
        ("US", "2125551212", "+12125551212"),
        ("US", "12125551212", "+12125551212"),
        ("US", "(212) 555-1212", "+12125551212"),
        ("US", "011 49 30 123456", "+4930123456"),
        ("US", "911", None),
        ("US", "100200", None),
        ("IT", "0612345678", "+390612345678"),
        ("ES", "912345678", "+34912345678"),
        ("ES", "061", None),
        ("GB", "020 7946 0000", "+442079460000"),
        ("AU", "0011 49 30 123456", "+4930123456"),
    ],
)
def test_number_becomes_e164(country, dialled, expected):
    assert COUNTRIES[country].to_e164(dialled) == expected


@pytest.mark.parametrize(
    ("country", "number", "expected"),
    [
        ("DE", "+4930123456", "030123456"),
        ("DE", "+44 20 7946 0000", "00442079460000"),
        ("US", "+12125551212", "12125551212"),
        ("US", "+4930123456", "0114930123456"),
        ("IT", "+390612345678", "0612345678"),
        ("DE", "030123456", None),
        ("DE", "100", None),
    ],
)
def test_e164_becomes_a_number_as_it_is_dialled(country, number, expected):
    assert COUNTRIES[country].from_e164(number) == expected


@settings(max_examples=200)
@given(st.sampled_from(sorted(COUNTRIES)), st.text("123456789", min_size=10, max_size=10))
def test_national_numbers_come_back(country, digits):
    rules = COUNTRIES[country]
    national = digits[: rules.bare[0]] if rules.bare else digits
    whole = f"+{rules.code}{national}"
    dialled = rules.from_e164(whole)
    assert rules.to_e164(dialled) == whole


@settings(max_examples=200)
@given(st.sampled_from(sorted(COUNTRIES)), st.text(max_size=20))
def test_any_text_is_a_whole_number_or_none(country, text):
    number = COUNTRIES[country].to_e164(text)
    assert number is None or (number[0] == "+" and number[1:].isdecimal() and len(number) <= 16)


def test_all_fields_of_a_request_are_changed():
    request = invite(
        "sip:030123456@example.com;user=phone", p_asserted_identity="<sip:030100@a>, <tel:030-100>"
    )
    assert normalise(request, country="de") is request
    assert str(request.uri) == "sip:+4930123456@example.com;user=phone"
    assert request.to.uri == request.uri
    assert str(request.from_) == '"Alice" <sip:+4930100@x.example>;tag=1'
    assert [str(v) for v in request.p_asserted_identity] == ["<sip:+4930100@a>", "<tel:+4930100>"]
    normalise(request, country="DE", national=True)
    assert str(request.uri) == "sip:030123456@example.com;user=phone"
    assert request.from_.uri.user == "030100"


@pytest.mark.parametrize(
    "uri", ["sip:100@x", "sip:alice@x", "sip:x.example", "urn:service:sos", "mailto:1@x"]
)
def test_what_is_no_number_stays(uri):
    request = invite("sip:100@x", to=uri, from_=uri)
    before = bytes(request)
    assert bytes(normalise(request, country="DE")) == before


@pytest.mark.rfc("3966 5.1.5")
@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("tel:030-123456;phone-context=+49", "tel:+4930123456"),
        ("tel:030-123456;phone-context=+43", "tel:030-123456;phone-context=+43"),
        ("tel:030123456;phone-context=example.com", "tel:030123456;phone-context=example.com"),
        ("tel:+49-30-123456", "tel:+4930123456"),
    ],
)
def test_tel_uri_is_read_where_it_is_dialled(uri, expected):
    request = normalise(invite("sip:100@x", to=uri), country="DE")
    assert str(request.to.uri) == expected
    assert str(normalise(request, country="DE", national=True).to.uri) == expected


@pytest.mark.rfc("3323 4.1.1.3")
@pytest.mark.parametrize(
    ("country", "prefix"), [("DE", "*31%23"), ("DE", "%2331%23"), ("US", "*67"), ("GB", "141")]
)
def test_prefix_of_clir_hides_the_caller(country, prefix):
    number = {"DE": "030123456", "US": "2125551212", "GB": "02079460000"}[country]
    request = invite(f"sip:{prefix}{number}@x", p_asserted_identity="<tel:+4930100>")
    normalise(request, country=country)
    assert request.uri.user == request.to.uri.user == COUNTRIES[country].to_e164(number)
    assert str(request.from_) == '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1'
    assert request.privacy == ("id",)
    assert [str(v) for v in request.p_asserted_identity] == ["<tel:+4930100>"]


def test_clir_may_be_decided_by_the_application():
    hidden = normalise(invite("sip:100@x"), country="DE", clir=True)
    assert (hidden.from_.uri.user, hidden.uri.user) == ("anonymous", "100")
    shown = normalise(invite("sip:*31%23030123456@x"), country="DE", clir=False)
    assert (shown.from_.uri.user, shown.uri.user) == ("+4930100", "+4930123456")


def test_feature_code_without_a_number_stays():
    request = normalise(invite("sip:*31%23@x"), country="DE")
    assert str(request.uri) == "sip:*31%23@x"
    assert "Privacy" not in request.headers


@pytest.mark.rfc("3323 4.2")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ("id",)),
        ("none", ("id",)),
        ("header;critical", ("id", "header", "critical")),
        ("id", ("id",)),
    ],
)
def test_hidden_caller_asks_for_privacy(before, after):
    request = invite("sip:100@x", **({"privacy": before} if before else {}))
    hide_caller(request)
    assert request.privacy == after


def test_country_of_your_own():
    russia = Country("7", trunk="8", international="810")
    assert normalise(invite("sip:84951234567@x"), country=russia).uri.user == "+74951234567"
    assert russia.to_e164("810 49 30 123456") == "+4930123456"


@pytest.mark.parametrize(
    ("request_", "country", "error"),
    [
        (invite("sip:a@x"), "XX", InvalidValue),
        (invite("sip:a@x"), 49, TypeError),
        ("INVITE", "DE", TypeError),
    ],
)
def test_wrong_argument_is_refused(request_, country, error):
    with pytest.raises(error):
        normalise(request_, country=country)
