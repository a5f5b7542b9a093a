"""Session interval: who refreshes, and how often, RFC 4028 §7 and §9."""

from __future__ import annotations

import pytest

from sippet_gevent import Request
from sippet_gevent.core.dialog.session_interval import (
    Agreed,
    Policy,
    TooSmall,
    agreed,
    answer,
    ask,
    least_of,
    line_of,
    raised,
    supports_timer,
)

BOB = "sip:bob@192.0.2.7"
POLICY = Policy()


def invite(expires=None, **headers):
    return Request("INVITE", BOB, session_expires=expires, **headers)


def ok(expires=None, request=None, **headers):
    return (request or invite()).response(200, session_expires=expires, **headers)


TABLE_2 = [  # does the caller support it, refresher in the request, refresher in our 2xx
    (False, None, "uas"),
    (False, "uac", "uas"),  # NA in the RFC
    (False, "uas", "uas"),  # NA in the RFC
    (True, None, "uac"),
    (True, "uac", "uac"),
    (True, "uas", "uas"),
]


@pytest.mark.rfc("4028 9")
@pytest.mark.parametrize(("supports", "asked", "answered"), TABLE_2)
def test_refresher_of_our_2xx_is_that_of_table_2(supports, asked, answered):
    expires = "1800" if asked is None else f"1800;refresher={asked}"
    request = invite(expires, supported="timer" if supports else None)
    assert answer(request, POLICY) == Agreed(1800, answered, supports)


@pytest.mark.rfc("4028 9")
@pytest.mark.parametrize("supported", [None, "100rel", "timer", "Timer, 100rel"])
def test_uas_refreshes_if_it_alone_wants_a_timer(supported):
    supports = supported is not None and "imer" in supported
    assert answer(invite(supported=supported), POLICY) == Agreed(1800, "uas", supports)


@pytest.mark.rfc("4028 9")
@pytest.mark.parametrize(
    ("asked", "least", "wanted", "interval"),
    [
        (1800, None, 1800, 1800),
        (3600, None, 1800, 1800),  # reduced
        (3600, 2400, 1800, 2400),  # not below Min-SE
        (600, None, 1800, 600),  # never increased
        (600, None, 0, 600),  # granted, though we ask for none
        (None, 2400, 1800, 2400),
        (None, 60, 90, 90),
    ],
)
def test_interval_of_our_2xx(asked, least, wanted, interval):
    request = invite(asked, min_se=least, supported="timer")
    assert answer(request, Policy(wanted)).interval == interval


@pytest.mark.rfc("4028 9")
def test_small_interval_is_refused_with_our_min_se():
    assert answer(invite(60, supported="timer"), POLICY) == TooSmall(90)
    assert answer(invite(200, supported="timer"), Policy(1800, 300)) == TooSmall(300)
    assert answer(invite(300, supported="timer"), Policy(1800, 300)) == Agreed(300, "uac", True)


@pytest.mark.rfc("4028 9")
def test_small_interval_of_a_proxy_is_not_refused_because_the_caller_knows_no_422():
    assert answer(invite(200), Policy(1800, 300)) == Agreed(200, "uas", False)
    assert answer(invite(20), Policy(1800, 300)) == Agreed(90, "uas", False)


def test_no_timer_if_neither_side_wants_one():
    assert answer(invite(supported="timer"), Policy(0)) is None


@pytest.mark.parametrize("value", ["never", "", "-5", "99999999999999999999999"])
def test_session_expires_that_cannot_be_read_counts_as_missing(value):
    request = Request("INVITE", BOB, supported="timer")
    request.headers["Session-Expires"] = value
    assert answer(request, POLICY) == Agreed(1800, "uas", True)


def test_refresher_that_cannot_be_read_counts_as_missing():
    assert answer(invite("600;refresher=me", supported="timer"), POLICY) == Agreed(600, "uac", True)


@pytest.mark.rfc("4028 7.2")
@pytest.mark.parametrize(
    ("asked", "answered", "expected"),
    [
        ("1800", "1800;refresher=uac", Agreed(1800, "uac", True)),
        ("1800", "600;refresher=uas", Agreed(600, "uas", True)),
        ("1800", "600", Agreed(600, "uac", True)),  # the refresher is missing
        ("1800", "5;refresher=uac", Agreed(90, "uac", True)),  # no refresh every two seconds
        ("1800", None, Agreed(1800, "uac", False)),  # for our benefit alone
        ("1800;refresher=uas", None, Agreed(1800, "uac", False)),
        (None, "1800;refresher=uas", Agreed(1800, "uas", True)),  # though we asked for none
        (None, None, None),
    ],
)
def test_uac_takes_what_the_2xx_says(asked, answered, expected):
    request = invite(asked)
    assert agreed(request, ok(answered, request)) == expected


@pytest.mark.rfc("4028 7.3")
@pytest.mark.parametrize(
    ("asked", "least", "answered", "again"),
    [(90, None, 600, 600), (1800, None, 600, None), (90, 600, 600, None), (90, None, None, None)],
)
def test_422_raises_min_se_unless_it_would_change_nothing(asked, least, answered, again):
    request = invite(asked, min_se=least)
    assert raised(request, request.response(422, min_se=answered)) == again


@pytest.mark.rfc("4028 7.1", "4028 7.4")
@pytest.mark.parametrize(
    ("interval", "least", "refresher", "lines"),
    [
        (1800, 0, None, {"Session-Expires": "1800"}),
        (1800, 600, None, {"Session-Expires": "1800", "Min-SE": "600"}),
        (90, 600, "uac", {"Session-Expires": "600;refresher=uac", "Min-SE": "600"}),
        (600, 0, "uas", {"Session-Expires": "600;refresher=uas"}),
        (0, 0, None, {}),
        (0, 600, None, {"Min-SE": "600"}),
    ],
)
def test_our_refresh_asks_for_at_least_min_se(interval, least, refresher, lines):
    request = invite()
    ask(request, interval, least=least, refresher=refresher)
    found = {name: request.headers.get(name) for name in ("Session-Expires", "Min-SE")}
    assert {name: value for name, value in found.items() if value is not None} == lines


def test_header_fields_of_the_application_stay():
    request = invite("300;refresher=uac", min_se=200)
    ask(request, 1800, least=600)
    assert request.headers.get("Session-Expires") == "300;refresher=uac"
    assert request.headers.all("Min-SE") == ["200"]


def test_agreed_writes_its_header_field():
    assert line_of(600, "uas")[::2] == ("Session-Expires", "600;refresher=uas")


def test_option_tag_is_found_in_supported_and_require():
    assert supports_timer(invite(supported="100rel, TIMER"))
    assert supports_timer(invite(require="timer"))
    assert not supports_timer(invite(supported="timers, nottimer"))


def test_least_is_zero_without_a_readable_min_se():
    assert least_of(invite(min_se=300)) == 300
    request = invite()
    request.headers["Min-SE"] = "much"
    assert (least_of(invite()), least_of(request)) == (0, 0)
