"""Digests: the published vectors, and an independent judge for everything between them."""

from __future__ import annotations

import hashlib

import httpx
import pytest
import requests.auth
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent.core.auth import digest
from sippet_gevent.core.auth.claim import Claim
from sippet_gevent.core.auth.digest import (
    ALGORITHMS,
    Session,
    can_answer,
    ha1,
    qop_of,
    response,
    session_key,
    strongest,
    userhash,
)
from sippet_gevent.errors import InvalidValue, ParseError
from sippet_gevent.message.fields.authentication import (
    AuthenticationInfo,
    Challenge,
    Credentials,
)

# RFC 7616 §3.9.1
MUFASA = {
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    "uri": "/dir/index.html",
    "method": "GET",
    "qop": "auth",
}
# RFC 7616 §3.9.2
JASON = "Jäsøn Doe"
PRINTED_HASH = "488869477bf257147b804c45308cd62ac4e25eb717b12b298c79e62dcea254ec"
PRINTED_RESPONSE = "ae66e67d6b427bd3f120414a82e4acff38e8ecd9101d6c861229025f607a79dd"
JASON_HASH = "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
DOE_RESPONSE = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
DOE = {
    "nonce": "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
    "cnonce": "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    "uri": "/doe.json",
    "method": "GET",
    "qop": "auth",
}

# RFC 2617 §3.5
CIRCLE = "6629fae49393a05397450978507c4ef1"

# draft-smith-sip-auth-examples: INVITE sip:bob@biloxi.com, with the body of §3.4 there
BODY = (
    b"v=0\r\n"
    b"o=bob 2890844526 2890844526 IN IP4 media.biloxi.com\r\n"
    b"s=-\r\n"
    b"c=IN IP4 media.biloxi.com\r\n"
    b"t=0 0\r\n"
    b"m=audio 49170 RTP/AVP 0\r\n"
    b"a=rtpmap:0 PCMU/8000\r\n"
    b"m=video 51372 RTP/AVP 31\r\n"
    b"a=rtpmap:31 H261/90000\r\n"
    b"m=video 53000 RTP/AVP 32\r\n"
    b"a=rtpmap:32 MPV/90000\r\n"
)
BILOXI = {
    "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093",
    "cnonce": "0a4f113b",
    "uri": "sip:bob@biloxi.com",
    "method": "INVITE",
}


def biloxi(algorithm, qop):
    key = ha1("bob", "biloxi.com", "zanzibar", algorithm)
    if algorithm.endswith("-sess"):
        key = session_key(key, algorithm, BILOXI["nonce"], BILOXI["cnonce"])
    return response(key, algorithm=algorithm, qop=qop, body=BODY, **BILOXI)


# ---- vectors


@pytest.mark.rfc("7616 3.9.1")
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_response_of_rfc_7616_with_md5_and_sha_256(algorithm, expected):
    key = ha1("Mufasa", "http-auth@example.org", "Circle of Life", algorithm)
    assert response(key, algorithm=algorithm, **MUFASA) == expected


@pytest.mark.rfc("7616 3.9.2")
@pytest.mark.rfc("7616 3.4.4")
def test_userhash_and_response_of_rfc_7616_with_sha_512_256():
    # as corrected by erratum 4897: the text of the RFC has SHA-512 cut to 256 bits
    key = ha1(JASON, "api@example.org", "Secret, or not?", "SHA-512-256")
    assert userhash(JASON, "api@example.org", "SHA-512-256") == JASON_HASH
    assert response(key, algorithm="SHA-512-256", **DOE) == DOE_RESPONSE


@pytest.mark.rfc("7616 3.9.2")
def test_printed_digests_of_rfc_7616_are_those_of_a_cut_sha_512(monkeypatch):
    class Cut:
        def __init__(self, data):
            self.data = data

        def hexdigest(self):
            return hashlib.sha512(self.data).hexdigest()[:64]

    monkeypatch.setitem(digest._HASH_OF, "SHA-512-256", Cut)
    key = ha1(JASON, "api@example.org", "Secret, or not?", "SHA-512-256")
    assert userhash(JASON, "api@example.org", "SHA-512-256") == PRINTED_HASH
    assert response(key, algorithm="SHA-512-256", **DOE) == PRINTED_RESPONSE


@pytest.mark.rfc("2617 3.5")
def test_response_of_rfc_2617():
    key = ha1("Mufasa", "testrealm@host.com", "Circle Of Life", "MD5")
    assert (
        response(
            key,
            method="GET",
            uri="/dir/index.html",
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
            qop="auth",
            cnonce="0a4f113b",
        )
        == CIRCLE
    )


@pytest.mark.rfc("3261 22.4")
@pytest.mark.parametrize(
    ("algorithm", "qop", "expected"),
    [
        ("MD5", None, "bf57e4e0d0bffc0fbaedce64d59add5e"),
        ("MD5", "auth", "89eb0059246c02b2f6ee02c7961d5ea3"),
        ("MD5-sess", "auth", "e4e4ea61d186d07a92c9e1f6919902e9"),
        ("MD5", "auth-int", "bdbeebb2da6adb6bca02599c2239e192"),
        ("MD5-sess", "auth-int", "91984da2d8663716e91554859c22ca70"),
    ],
)
def test_response_of_the_digest_examples_for_sip(algorithm, qop, expected):
    assert biloxi(algorithm, qop) == expected


@pytest.mark.rfc("7616 3.5")
def test_key_and_rspauth_of_a_session_algorithm():
    # the IMAP example of RFC 2831 §4, which is plain Digest with MD5-sess and this URI
    nonce, cnonce, uri = "OA6MG9tEQGm2hh", "OA6MHXh6VqTrRk", "imap/elwood.innosoft.com"
    key = session_key(
        ha1("chris", "elwood.innosoft.com", "secret", "MD5"), "MD5-sess", nonce, cnonce
    )
    shared = {
        "uri": uri,
        "nonce": nonce,
        "cnonce": cnonce,
        "qop": "auth",
        "algorithm": "MD5-sess",
    }
    assert response(key, method="AUTHENTICATE", **shared) == "26ef1190b643a36e879673066098379c"
    assert response(key, method="", **shared) == "c316c87a595a2cbfb4405784db016e34"


@pytest.mark.rfc("8760 2.6")
def test_empty_body_counts_as_the_hash_of_nothing():
    # rule 7 quotes the hash
    key = ha1("bob", "biloxi.com", "zanzibar", "SHA-256")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    ha2 = hashlib.sha256(f"INVITE:sip:bob@biloxi.com:{empty}".encode()).hexdigest()
    text = f"{key}:{BILOXI['nonce']}:00000001:0a4f113b:auth-int:{ha2}"
    assert (
        response(key, algorithm="SHA-256", qop="auth-int", **BILOXI)
        == hashlib.sha256(text.encode()).hexdigest()
    )


# ---- an independent judge

USERS = st.text(
    st.characters(codec="ascii", min_codepoint=33, max_codepoint=126, exclude_characters=':"\\'),
    min_size=1,
)
PASSWORDS = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126))
NONCES = st.text("abcdefABCDEF0123456789+/=", min_size=1, max_size=60)
REALMS = st.text("abcdef.@- 0123456789", min_size=1, max_size=40).map(str.strip).filter(bool)
BODIES = st.binary(max_size=200)


def challenge_of(realm, nonce, algorithm, qop='"auth"', more=""):
    return Challenge.parse(
        f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}'
        + (f", qop={qop}" if qop else "")
        + more
    )


@settings(max_examples=60)
@given(
    USERS, PASSWORDS, REALMS, NONCES,
    st.sampled_from(("MD5", "MD5-sess", "SHA-256", "SHA-256-sess")),
    st.sampled_from(("", '"auth"', '"auth,auth-int"')),
)  # fmt: skip
def test_answer_of_httpx_is_proved_by_our_ha1(user, password, realm, nonce, algorithm, qop):
    if not qop and algorithm != "MD5":
        return
    challenge = challenge_of(realm, nonce, algorithm, qop)
    asked = httpx.Request("INVITE", "http://example.com/bob;transport=tcp", content=b"v=0")
    flow = httpx.DigestAuth(user, password).auth_flow(asked)
    next(flow)
    refused = httpx.Response(401, headers={"www-authenticate": str(challenge)}, request=asked)
    text = flow.send(refused).headers["authorization"]
    claim = Claim.of(Credentials.parse(text))
    assert (claim.username, claim.realm, claim.nonce) == (user, realm, nonce)
    assert claim.qop == ("auth" if qop else None)
    assert claim.is_proved_by(ha1(user, realm, password, algorithm), "INVITE")
    assert not claim.is_proved_by(ha1(user, realm, password + "x", algorithm), "INVITE")
    assert not claim.is_proved_by(ha1(user, realm, password, algorithm), "BYE")


@settings(max_examples=60)
@given(
    USERS, PASSWORDS, REALMS, NONCES, st.sampled_from(("MD5", "MD5-SESS", "SHA-256")),
    st.sampled_from(("", '"auth"')), st.integers(1, 3),
)  # fmt: skip
def test_answer_of_ours_is_that_of_requests(user, password, realm, nonce, algorithm, qop, times):
    if not qop and algorithm != "MD5":
        return
    challenge = challenge_of(realm, nonce, algorithm, qop)
    judge = requests.auth.HTTPDigestAuth(user, password)
    judge.init_per_thread_state()
    judge._thread_local.chal = {name: challenge.parameters[name] for name in challenge.parameters}
    for _ in range(times):
        theirs = Credentials.parse(judge.build_digest_header("BYE", "http://example.com/bob"))
    session = Session(
        challenge, user, ha1(user, realm, password, algorithm), theirs.cnonce or "none"
    )
    session.count = times - 1
    ours = session.answer("BYE", "/bob")
    for name in ("username", "realm", "nonce", "uri", "response", "qop", "nc"):
        assert ours.parameters.get(name) == theirs.parameters.get(name), name


@settings(max_examples=60)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters=":")), st.text(), REALMS, NONCES,
    st.sampled_from([name + end for name in ALGORITHMS for end in ("", "-sess")]),
    st.sampled_from(('"auth"', '"auth-int"', '"auth, auth-int"', '"auth-int,other"', "")),
    st.booleans(), BODIES, BODIES,
)  # fmt: skip
def test_answer_survives_the_wire_and_proves_both_sides(
    user, password, realm, nonce, algorithm, qop, hides, body, answer
):
    more = ", userhash=true" if hides else ""
    challenge = challenge_of(realm, nonce, algorithm, qop, more)
    if not can_answer(challenge):
        assert not qop and algorithm.endswith("-sess")
        return
    key = ha1(user, realm, password, algorithm)
    session = Session(challenge, user, key, "0a4f113b")
    for count in (1, 2):
        written = session.answer("MESSAGE", "sip:bob@example.com", body)
        claim = Claim.of(Credentials.parse(str(written)))
        assert claim.is_proved_by(key, "MESSAGE", body)
        assert claim.number == (count if claim.qop else 0)
        assert claim.is_hashed is hides
        changed = claim.is_proved_by(key, "MESSAGE", body + b"x")
        assert changed == (claim.qop != "auth-int")
        info = AuthenticationInfo.parse(str(claim.info(key, answer)))
        assert session.check(info, "sip:bob@example.com", answer)
        wrong = AuthenticationInfo.parse(str(claim.info("0" * len(key), answer)))
        assert not session.check(wrong, "sip:bob@example.com", answer)


@settings(max_examples=60)
@given(st.text())
def test_credentials_of_any_text_are_read_or_refused(text):
    try:
        Claim.of(Credentials.parse("Digest " + text))
    except ParseError as error:
        assert error.status == 400


@settings(max_examples=200)
@given(
    USERS, REALMS, NONCES, st.sampled_from([name + end for name in ALGORITHMS for end in ("", "-sess")]),
    st.sampled_from((None, "auth", "auth-int", "other", "")), st.text("0123456789abcdefxyz_", max_size=9),
    st.text("abc=, \\", max_size=5), st.sampled_from((", ", ",", " ,", ",  ")),
    st.sampled_from(("", "userhash=true", "username=x", "charset=UTF-8", "x=", 'x="a\\"b"', "x")),
)  # fmt: skip
def test_quick_reader_of_credentials_agrees_with_the_whole_one(
    user, realm, nonce, algorithm, qop, nc, cnonce, comma, more
):
    pairs = [f'username="{user}"', f'realm="{realm}"', f'nonce="{nonce}"', 'uri="sip:b"']
    pairs += ['response="00ff"', f"algorithm={algorithm}", f'cnonce="{cnonce}"', f"nc={nc}"]
    pairs += [f"qop={qop}"] if qop is not None else []
    text = "Digest " + comma.join([*pairs, *([more] if more else [])])
    quick = Claim.read(text)
    if quick is not None:
        assert quick == Claim.of(Credentials.parse(text))


@settings(max_examples=200)
@given(st.text('abnonce="realm,uri sip:b\\\\\t\r\n=;', max_size=60))
def test_quick_reader_reads_no_text_that_the_whole_one_refuses(text):
    quick = Claim.read("Digest " + text)
    if quick is not None:
        assert quick == Claim.of(Credentials.parse("Digest " + text))


def test_quick_reader_reads_the_answers_of_phones():
    challenge = challenge_of("r", "n", "SHA-256")
    text = str(Session(challenge, "u", "0" * 64, "c").answer("BYE", "sip:b"))
    assert Claim.read(text) == Claim.of(Credentials.parse(text))


# ---- rules


@pytest.mark.rfc("7616 4")
def test_names_and_passwords_are_hashed_in_normal_form_c():
    assert ha1("J\u00e4s", "r", "\u00e9") == ha1("Ja\u0308s", "r", "e\u0301")


@pytest.mark.rfc("7616 3.3")
@pytest.mark.rfc("3261 22.4")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('qop="auth-int,auth"', "auth"),
        ('qop="auth-int"', "auth-int"),
        ('qop="AUTH"', "auth"),
        ("algorithm=MD5", None),
        ("stale=false", None),
        ("algorithm=SHA-256", "auth"),
    ],
)
def test_qop_of_an_answer(text, expected):
    challenge = Challenge.parse(f'Digest realm="r", nonce="n", {text}')
    assert qop_of(challenge) == expected


@pytest.mark.rfc("8760 2.6")
def test_qop_is_auth_where_rfc_2069_is_switched_off():
    challenge = Challenge.parse('Digest realm="r", nonce="n"')
    assert qop_of(challenge, rfc2069=False) == "auth"
    answer = Session(challenge, "u", ha1("u", "r", "p", "MD5"), "c", rfc2069=False).answer(
        "BYE", "sip:b"
    )
    assert (answer.qop, answer.nc) == ("auth", 1)


@pytest.mark.rfc("8760 2.4")
@pytest.mark.parametrize(
    "text",
    [
        'Basic realm="r", nonce="n"',
        'Digest realm="r"',
        'Digest nonce="n"',
        'Digest realm="r", nonce=""',
        'Digest realm="r", nonce="n", algorithm=SHA-1',
        'Digest realm="r", nonce="n", qop="other"',
        'Digest realm="r", nonce="n", qop=""',
        'Digest realm="r", nonce="n", algorithm=MD5-sess',
    ],
)
def test_challenge_that_is_not_understood_is_ignored(text):
    assert not can_answer(Challenge.parse(text))
    assert strongest([Challenge.parse(text)]) == []


@pytest.mark.rfc("8760 2.3")
@pytest.mark.rfc("3261 22.3")
def test_strongest_algorithm_of_each_realm_is_answered_for_each_server():
    texts = [
        'realm="a", nonce="1", qop="auth", algorithm=MD5',
        'realm="a", nonce="1", qop="auth", algorithm=SHA-256',
        'realm="b", nonce="2", qop="auth"',
        'realm="b", nonce="3", qop="auth"',
        'realm="b", nonce="3", qop="auth"',
        'realm="c", nonce="4", qop="auth", algorithm=unheard',
    ]
    chosen = strongest(Challenge.parse(f"Digest {text}") for text in texts)
    assert [(c.realm, c.nonce, c.algorithm) for c in chosen] == [
        ("a", "1", "SHA-256"),
        ("b", "2", None),
        ("b", "3", None),
    ]


@pytest.mark.rfc("7616 3.4")
def test_answer_repeats_algorithm_and_opaque_as_the_server_spells_them():
    challenge = Challenge.parse(
        'Digest realm="r", nonce="n", qop="auth", algorithm=sha-256, opaque="a\\"b"'
    )
    answer = str(Session(challenge, "u", "0" * 64, "c").answer("BYE", "sip:b"))
    assert "algorithm=sha-256" in answer
    assert 'opaque="a\\"b"' in answer
    assert 'uri="sip:b"' in answer  # quoted (RFC 8760 §2.6, rule 2)
    assert "nc=00000001" in answer
    assert "qop=auth" in answer


@pytest.mark.rfc("7616 3.5")
def test_nextnonce_is_used_from_the_next_request_on():
    challenge = Challenge.parse('Digest realm="r", nonce="n", qop="auth"')
    session = Session(challenge, "u", "0" * 32, "c")
    session.answer("BYE", "sip:b")
    session.answer("BYE", "sip:b")
    assert session.check(AuthenticationInfo.parse('nextnonce="m"'), "sip:b")
    answer = session.answer("BYE", "sip:b")
    assert (answer.nonce, answer.nc) == ("m", 1)


@pytest.mark.rfc("7616 3.5")
@pytest.mark.parametrize("other", ["nc=00000002", 'cnonce="other"', "nc=xyz"])
def test_authentication_info_for_another_request_is_wrong(other):
    challenge = Challenge.parse('Digest realm="r", nonce="n", qop="auth"')
    session = Session(challenge, "u", "0" * 32, "c")
    claim = Claim.of(Credentials.parse(str(session.answer("BYE", "sip:b"))))
    rspauth = claim.info("0" * 32)["rspauth"]
    assert session.check(AuthenticationInfo.parse(f'rspauth="{rspauth}"'), "sip:b")
    assert not session.check(AuthenticationInfo.parse(f'rspauth="{rspauth}", {other}'), "sip:b")


@pytest.mark.rfc("7616 3.4.1")
def test_digest_is_checked_as_the_client_has_spelled_qop_and_nc():
    key = ha1("u", "r", "p", "MD5")
    for qop, nc in (("AUTH", "0000000A"), ("Auth-Int", "0000000a")):
        given = response(
            key, method="BYE", uri="sip:b", nonce="n", qop=qop, nc=nc, cnonce="c", body=b"x"
        )
        text = (
            f'Digest username="u", realm="r", nonce="n", uri="sip:b", response="{given.upper()}", '
            f'qop={qop}, nc={nc}, cnonce="c"'
        )
        claim = Claim.of(Credentials.parse(text))
        assert claim.number == 10
        assert claim.is_proved_by(key, "BYE", b"x")


@pytest.mark.parametrize(
    "text",
    [
        'Basic username="u", realm="r", nonce="n", uri="sip:b", response="0"',
        'Digest realm="r", nonce="n", uri="sip:b", response="0"',
        'Digest username="u", realm="r", nonce="n", uri="sip:b"',
        'Digest username="u", realm="r", nonce="n", uri="sip:b", response=""',
        'Digest username="u", realm="r", nonce="n", uri="sip:b", response="0", qop=other',
        'Digest username="u", realm="r", nonce="n", uri="sip:b", response="0", qop=auth',
        'Digest username="u", realm="r", nonce="n", uri="sip:b", response="0", qop=auth, nc=1, cnonce="c"',
        'Digest username="u", realm="r", nonce="n", uri="sip:b", response="0", algorithm=MD5-sess',
        'Digest username="u", realm="r", nonce="n", uri="sip:b", response="0", algorithm=SHA-1',
    ],
)
def test_credentials_without_what_is_needed_are_refused(text):
    with pytest.raises(ParseError) as refused:
        Claim.of(Credentials.parse(text))
    assert refused.value.status == 400


def test_algorithm_that_this_python_lacks_is_a_clear_error(monkeypatch):
    monkeypatch.delitem(digest._KNOWN, "sha-512-256")
    with pytest.raises(InvalidValue, match="one of .*SHA-256.* got 'SHA-512-256'.*OpenSSL"):
        ha1("u", "r", "p", "SHA-512-256")
    challenge = Challenge.parse('Digest realm="r", nonce="n", qop="auth", algorithm=SHA-512-256')
    assert not can_answer(challenge)


def test_user_name_with_a_colon_is_refused():
    with pytest.raises(InvalidValue, match="no colon"):
        ha1("a:b", "r", "p")
