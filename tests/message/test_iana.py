"""The methods, option tags and status codes, held against their registries at IANA as of 2026-03."""

import pytest

from sippet_gevent.message.grammar import is_token
from sippet_gevent.message.iana import (
    DEFAULT_PORTS,
    DIALOG_CREATING,
    METHODS,
    OPTION_TAGS,
    STATUSES,
    TARGET_REFRESHING,
    TRANSPORTS,
)

METHODS_AT_IANA = {
    "ACK": 3261, "BYE": 3261, "CANCEL": 3261, "INFO": 6086, "INVITE": 3261, "MESSAGE": 3428, "NOTIFY": 6665, "OPTIONS": 3261,
    "PRACK": 3262, "PUBLISH": 3903, "REFER": 3515, "REGISTER": 3261, "SUBSCRIBE": 6665, "UPDATE": 3311,
}  # fmt: skip

OPTION_TAGS_AT_IANA = {
    "100rel": 3262, "199": 6228, "answermode": 5373, "early-session": 3959, "eventlist": 4662, "explicitsub": 7614, "from-change": 4916,
    "geolocation-http": 6442, "geolocation-sip": 6442, "gin": 6140, "gruu": 5627, "histinfo": 7044, "ice": 5768, "join": 3911,
    "multiple-refer": 5368, "norefersub": 4488, "nosub": 7614, "outbound": 5626, "path": 3327, "policy": 6794, "precondition": 3312,
    "pref": 3840, "privacy": 3323, "recipient-list-invite": 5366, "recipient-list-message": 5365, "recipient-list-subscribe": 5367,
    "record-aware": 7866, "replaces": 3891, "resource-priority": 4412, "sdp-anat": 4092, "sec-agree": 3329, "siprec": 7866,
    "tdialog": 4538, "timer": 4028, "trickle-ice": 8840, "uui": 7433,
}  # fmt: skip

STATUSES_AT_IANA = {
    100, 180, 181, 182, 183, 199, 200, 202, 204, 300, 301, 302, 305, 380, 400, 401, 402, 403, 404, 405, 406, 407, 408, 410, 412,
    413, 414, 415, 416, 417, 420, 421, 422, 423, 424, 425, 428, 429, 430, 433, 436, 437, 438, 439, 440, 469, 470, 480, 481, 482,
    483, 484, 485, 486, 487, 488, 489, 491, 493, 494, 500, 501, 502, 503, 504, 505, 513, 555, 580, 600, 603, 604, 606, 607, 608,
}  # fmt: skip


@pytest.mark.rfc("3261 27.4")
def test_methods_are_those_of_the_registry():
    assert {name: method.rfc for name, method in METHODS.items()} == METHODS_AT_IANA


@pytest.mark.rfc("3261 27.1")
def test_option_tags_are_those_of_the_registry():
    assert {name: tag.rfc for name, tag in OPTION_TAGS.items()} == OPTION_TAGS_AT_IANA


@pytest.mark.rfc("3261 27.4")
def test_status_codes_are_those_of_the_registry():
    assert set(STATUSES) == STATUSES_AT_IANA


@pytest.mark.rfc("3261 19.2")
def test_option_tags_are_tokens_in_lower_case():
    assert all(is_token(name) and name == name.lower() for name in OPTION_TAGS)


@pytest.mark.rfc("3261 12.2")
def test_method_that_begins_a_dialog_refreshes_its_target():
    assert all(method.refreshes_target for method in METHODS.values() if method.creates_dialog)


@pytest.mark.rfc("3261 12.1")
def test_four_methods_begin_dialogs():
    assert {name for name, method in METHODS.items() if method.creates_dialog} == {
        "INVITE",
        "NOTIFY",
        "REFER",
        "SUBSCRIBE",
    }


@pytest.mark.rfc("3311 5.1")
def test_update_refreshes_the_target_of_a_dialog_it_cannot_begin():
    assert (METHODS["UPDATE"].creates_dialog, METHODS["UPDATE"].refreshes_target) == (False, True)


@pytest.mark.rfc("3261 27.4")
def test_transports_are_those_of_the_registry():
    assert {name: row.rfc for name, row in TRANSPORTS.items()} == {
        "SCTP": 4168, "TCP": 3261, "TLS": 3261, "TLS-SCTP": 4168, "UDP": 3261, "WS": 7118, "WSS": 7118,
    }  # fmt: skip


@pytest.mark.rfc("7118 5.5")
def test_default_ports_differ_for_tls_and_websockets():
    others = {name: port for name, port in DEFAULT_PORTS.items() if port != 5060}
    assert others == {"TLS": 5061, "TLS-SCTP": 5061, "WS": 80, "WSS": 443}


def test_sets_of_methods_follow_from_the_table():
    assert {name for name in METHODS if METHODS[name].creates_dialog} == DIALOG_CREATING
    assert DIALOG_CREATING | {"UPDATE"} == TARGET_REFRESHING
