"""BridgePolicy: which header fields cross a bridge, RFC 7092, RFC 3323, RFC 3325."""

from __future__ import annotations

import pytest

from sippet_gevent import Authenticator, BridgePolicy, InvalidValue, Request
from sippet_gevent.core.b2bua.policy import OF_THE_LEG, Kind

from .phones import CALLEE, Phones, describe

ASSERTED = '"Alice" <sip:alice@example.com>'


def crossed(sip, policy=None, core=None, **fields):
    """Return the INVITE that a callee gets for one with these header fields."""
    phones = Phones(sip, policy=policy, invite=fields)
    phones.reply(486)
    return phones.inner


COPIED = {
    "privacy": "id",
    "diversion": "<sip:a@example.com>;reason=unconditional",
    "history_info": "<sip:a@example.com>;index=1",
    "alert_info": "<http://example.com/ring>",
    "user_to_user": "56a390f3;encoding=hex",
    "subject": "lunch",
    "priority": "urgent",
    "p_early_media": "supported",
    "accept_language": "da",
    "authorization": 'Digest username="a", realm="b", nonce="1", uri="sip:b", response="00"',
}


@pytest.mark.parametrize("name", COPIED)
def test_field_of_the_invite_is_copied(sip, name):
    known = name.replace("_", "-")
    assert crossed(sip, **{name: COPIED[name]}).headers.all(known) == [COPIED[name]]


@pytest.mark.rfc("3325 5")
@pytest.mark.parametrize("name", ["p_asserted_identity", "p_preferred_identity"])
def test_identity_for_trusted_sides_is_not_copied(sip, name):
    assert name.replace("_", "-") not in crossed(sip, **{name: ASSERTED}).headers


@pytest.mark.parametrize("is_trusted", [False, True])
def test_remote_party_id_is_copied_between_trusted_sides_alone(sip, is_trusted):
    invite = Request("INVITE", "sip:bob@example.com")
    invite.headers["remote-party-id"] = ASSERTED
    policy = BridgePolicy({"Remote-Party-ID": True} if is_trusted else {})
    assert [line[2] for line in policy.lines(invite, Kind.INVITE)] == [ASSERTED] * is_trusted


@pytest.mark.rfc("3325 5")
def test_asserted_identity_is_copied_between_trusted_sides(sip):
    policy = BridgePolicy(fields={"P-Asserted-Identity": True})
    got = crossed(sip, policy, p_asserted_identity=ASSERTED)
    assert got.headers.all("P-Asserted-Identity") == [ASSERTED]


def test_field_is_rewritten_by_a_text_or_a_function(sip):
    policy = BridgePolicy(
        fields={
            "From": '"Office" <sip:office@example.com>',
            "P-Asserted-Identity": "<sip:office@example.com>",
            "X-Caller": lambda request: request.from_.uri.user,
            "X-None": lambda request: None,
            "Subject": False,
        }
    )
    got = crossed(sip, policy, p_asserted_identity=ASSERTED, subject="lunch")
    assert got.from_.uri.user == "office"
    assert got.from_.display == "Office"
    assert got.from_.tag
    assert got.headers.all("P-Asserted-Identity") == ["<sip:office@example.com>"]
    assert got.headers.all("X-Caller") == ["peer"]
    assert "X-None" not in got.headers
    assert "Subject" not in got.headers


@pytest.mark.rfc("3323 4.1")
def test_caller_without_from_is_anonymous(sip):
    got = crossed(sip, BridgePolicy(fields={"From": False, "To": False}))
    assert str(got.from_.uri) == "sip:anonymous@anonymous.invalid"
    assert got.to.uri.host == CALLEE


@pytest.mark.parametrize(("unknown", "there"), [(True, ["1"]), (False, [])])
def test_unknown_fields_cross_unless_the_policy_says_no(unknown, there):
    request = Request("INVITE", "sip:a@b")
    request.headers["X-Account"] = "1"
    lines = BridgePolicy(unknown=unknown).lines(request, Kind.INVITE)
    assert [line[2] for line in lines if line[0] == "X-Account"] == there


@pytest.mark.parametrize("name", sorted(OF_THE_LEG))
def test_field_of_a_leg_never_crosses(name):
    assert not any(BridgePolicy().copies(name, kind) for kind in Kind)


def test_credentials_for_this_element_do_not_cross(sip):
    phones = Phones(sip, credentials=None, invite={"authorization": COPIED["authorization"]})
    assert "Authorization" in phones.inner.headers
    phones.reply(486)


def test_response_fields_cross(sip):
    phones = Phones(sip)
    response = phones.inner.response(180)
    response.headers["Call-Info"] = "<http://example.com/bob.jpg>;purpose=icon"
    response.headers["Server"] = "phone"
    response.headers["P-Asserted-Identity"] = "<sip:bob@example.com>"
    response.headers["X-Floor"] = "3"
    response.headers["Allow"] = "INVITE"
    phones.callee.reply(phones.inner, response)
    got = phones.last.headers
    assert got["Call-Info"] == "<http://example.com/bob.jpg>;purpose=icon"
    assert got["X-Floor"] == "3"
    assert "Server" not in got
    assert "P-Asserted-Identity" not in got
    phones.reply(200, describe(CALLEE), subject="yes")
    assert phones.last.headers["Subject"] == "yes"
    phones.ack()
    phones.end()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fields": {"Via": True}}, InvalidValue),
        ({"fields": {"Content-Type": "x"}}, InvalidValue),
        ({"fields": {"not a name": True}}, InvalidValue),
        ({"fields": {"X-A": "a\r\nVia: b"}}, InvalidValue),
        ({"fields": {"X-A": 3}}, TypeError),
        ({"fields": {7: True}}, TypeError),
        ({"refer": "maybe"}, InvalidValue),
        ({"methods": "INFO"}, TypeError),
        ({"unknown": "no"}, TypeError),
        ({"refer": "follow", "authenticator": {"alice": "secret"}}, TypeError),
        ({"authenticator": Authenticator(realm="office", users={})}, InvalidValue),
    ],
)
def test_policy_that_makes_no_sense_is_refused(options, error):
    with pytest.raises(error):
        BridgePolicy(**options)
