"""The server's side: who is asked for a password, what is accepted, and what guessing costs."""

from __future__ import annotations

import logging
import sys

import pytest

from sippet_gevent import Limits, RegistrarProxy, Reject, Request, StaticResolver, forward, parse
from sippet_gevent.core.auth.authenticated import Authenticated
from sippet_gevent.core.auth.bans import FAILURES, SOURCE_FAILURES, Bans
from sippet_gevent.core.auth.claim import Claim
from sippet_gevent.core.auth.credentials import Credentials
from sippet_gevent.core.auth.digest import Session, ha1
from sippet_gevent.core.auth.server import Authenticator
from sippet_gevent.errors import InvalidValue, ParseError, StoreError
from sippet_gevent.message.fields.authentication import Challenge
from sippet_gevent.message.fields.authentication import Credentials as Authorization
from sippet_gevent.stores.users import MemoryUsers, SQLiteUsers, User

from ...pace import is_within

DOMAIN = "example.com"
URI = f"sip:{DOMAIN}"
USERS = {"100": "secret", "101": "other"}
ALICE = f"sip:100@{DOMAIN}"
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\n"
)


def serve(sip, core=lambda request, tx: 200, *, stack=None, **options):
    options = {"realm": DOMAIN, "users": USERS} | options
    guarded = Authenticated(core, **options)
    return sip.stack(
        guarded, host="10.0.0.1", domains=(DOMAIN,), resolver=StaticResolver({}), **(stack or {})
    )


def client_of(sip, host="10.0.0.50", **options):
    resolver = StaticResolver({DOMAIN: ["10.0.0.1"], "new.example": ["10.0.0.2"]})
    return sip.stack(host=host, resolver=resolver, **options)


def ask(sip, client, method="OPTIONS", uri=URI, user="100", password="secret", **options):
    options.setdefault("from_", f"sip:{user}@{DOMAIN}")
    if method == "REGISTER":
        options.setdefault("to", f"sip:{user}@{DOMAIN}")
    mine = None if password is None else Credentials(user, password, hosts=(DOMAIN,))
    return sip.run(client.request, method, uri, credentials=mine, **options)


def challenge_of(response):
    values = response.www_authenticate or response.proxy_authenticate
    return values[0]


def authorization(challenge, method, *, user="100", password="secret", uri=URI, count=1, **options):
    key = ha1(user, challenge.realm, password, challenge.algorithm)
    session = Session(challenge, user, key, "cnonce", **options)
    session.count = count - 1
    return session.answer(method, uri)


# ---- challenges


@pytest.mark.rfc("8760 2.3")
@pytest.mark.rfc("3261 22.2")
def test_request_without_credentials_gets_a_challenge_for_each_algorithm(sip):
    serve(sip, algorithms=("SHA-512-256", "SHA-256", "MD5"))
    response = ask(sip, client_of(sip), password=None)
    assert response.status == 401
    challenges = response.www_authenticate
    assert [each.algorithm for each in challenges] == ["SHA-512-256", "SHA-256", "MD5"]
    assert {each.realm for each in challenges} == {DOMAIN}
    assert {each.qop for each in challenges} == {("auth",)}
    assert not any(each.stale for each in challenges)


@pytest.mark.rfc("3261 22.3")
@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 407), ("REGISTER", 401)])
def test_proxy_asks_by_407_and_a_registrar_by_401(sip, method, status):
    serve(sip, RegistrarProxy())
    assert ask(sip, client_of(sip), method, password=None).status == status


@pytest.mark.parametrize(
    "options", [{}, {"algorithms": ("MD5",)}, {"algorithms": ("SHA-512-256",)}]
)
@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "REGISTER"])
def test_right_password_passes(sip, options, method):
    seen = []

    def core(request, tx):
        seen.append(tx.user)
        return 200

    serve(sip, core, **options)
    assert ask(sip, client_of(sip), method).status == 200
    assert seen == ["100"]


@pytest.mark.parametrize(
    "users",
    [
        MemoryUsers([User("100", DOMAIN, {"SHA-256": ha1("100", DOMAIN, "secret")})]),
        {"100": User("100", DOMAIN, {"SHA-256": ha1("100", DOMAIN, "secret")})},
        {"100": {"SHA-256": ha1("100", DOMAIN, "secret")}},
    ],
)
def test_users_may_be_a_store_or_a_dict_of_keys(sip, users):
    serve(sip, users=users)
    client = client_of(sip)
    assert ask(sip, client).status == 200
    assert ask(sip, client, user="7").status == 401


@pytest.mark.rfc("7616 3.4.3")
def test_body_is_covered_by_choice(sip):
    guard = Authenticator(realm=DOMAIN, users=USERS, integrity=True)
    core = Authenticated(lambda request, tx: 200, authenticator=guard)
    sip.stack(core, host="10.0.0.1", domains=(DOMAIN,))
    client = client_of(sip)
    response = ask(sip, client, "MESSAGE", password=None)
    challenge = challenge_of(response)
    assert challenge.qop == ("auth", "auth-int")
    only = challenge._replace(parameters=challenge.parameters.replace(qop="auth-int"))
    session = Session(only, "100", ha1("100", DOMAIN, "secret"), "c")
    for body, status in ((b"hello", 200), (b"other", 401)):
        value = session.answer("MESSAGE", URI, b"hello")
        asked = {"authorization": value, "body": body, "content_type": "text/plain"}
        assert ask(sip, client, "MESSAGE", password=None, **asked).status == status


# ---- refusals


@pytest.mark.rfc("3261 22.1")
@pytest.mark.parametrize(
    ("user", "password"), [("100", "wrong"), ("nobody", "secret"), ("100", "")]
)
def test_wrong_password_and_unknown_user_get_the_same_challenge(sip, user, password):
    serve(sip)
    response = ask(sip, client_of(sip), user=user, password=password)
    assert response.status == 401
    assert len(response.www_authenticate) == 2
    assert not challenge_of(response).stale
    assert [name for name, _ in response.headers.items()] == [
        name for name, _ in ask(sip, client_of(sip, "10.0.0.51"), password="x").headers.items()
    ]


@pytest.mark.rfc("7616 3.3")
def test_expired_nonce_is_stale(sip):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    sip.advance(301)
    value = authorization(challenge, "OPTIONS")
    response = ask(sip, client, password=None, authorization=value)
    assert response.status == 401
    assert challenge_of(response).stale


@pytest.mark.rfc("7616 3.3")
def test_expired_nonce_with_a_wrong_password_is_not_stale(sip):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    sip.advance(301)
    value = authorization(challenge, "OPTIONS", password="x")
    assert not challenge_of(ask(sip, client, password=None, authorization=value)).stale


@pytest.mark.rfc("7616 5.5")
def test_replayed_credentials_are_stale(sip):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    value = authorization(challenge, "OPTIONS")
    assert ask(sip, client, password=None, authorization=value).status == 200
    response = ask(sip, client, password=None, authorization=value)
    assert response.status == 401
    assert challenge_of(response).stale


@pytest.mark.rfc("7616 3.4")
def test_counts_may_overtake_each_other(sip):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    for count, status in ((3, 200), (1, 200), (3, 401), (1, 401), (2, 200), (100, 200), (4, 401)):
        value = authorization(challenge, "OPTIONS", count=count)
        assert ask(sip, client, password=None, authorization=value).status == status, count


@pytest.mark.rfc("2617 3.2.2.1")
@pytest.mark.parametrize("rfc2069", [True, False])
def test_old_phone_uses_each_nonce_once(sip, rfc2069):
    guard = Authenticator(realm=DOMAIN, users=USERS, rfc2069=rfc2069)
    core = Authenticated(lambda request, tx: 200, authenticator=guard)
    sip.stack(core, host="10.0.0.1", domains=(DOMAIN,))
    client = client_of(sip)
    challenge = ask(sip, client, password=None).www_authenticate[1]
    old = challenge._replace(parameters=challenge.parameters.without("qop"))
    value = authorization(old, "OPTIONS")
    assert value.qop is None
    statuses = [ask(sip, client, password=None, authorization=value).status for _ in range(2)]
    assert statuses == ([200, 401] if rfc2069 else [401, 401])


def test_algorithm_that_is_not_offered_is_not_accepted(sip):
    serve(sip, algorithms=("SHA-256",))
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    weak = challenge._replace(parameters=challenge.parameters.replace(algorithm="MD5"))
    value = authorization(weak, "OPTIONS")
    assert ask(sip, client, password=None, authorization=value).status == 401


def test_nonce_of_another_secret_is_stale_with_the_right_password(sip):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    forged = challenge._replace(parameters=challenge.parameters.replace(nonce="A" * 32))
    response = ask(sip, client, password=None, authorization=authorization(forged, "OPTIONS"))
    assert response.status == 401
    assert challenge_of(response).stale


def test_secret_makes_nonces_good_at_another_process(sip):
    secret = b"0123456789abcdef"
    one = Authenticator(realm=DOMAIN, users=USERS, secret=secret)
    other = Authenticator(realm=DOMAIN, users=USERS, secret=secret)
    core = lambda guard: Authenticated(lambda request, tx: 200, authenticator=guard)  # noqa: E731
    sip.stack(core(one), host="10.0.0.1", domains=(DOMAIN,))
    sip.stack(core(other), host="10.0.0.2", domains=("new.example", DOMAIN))
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    value = authorization(challenge, "OPTIONS", uri="sip:new.example")
    assert ask(sip, client, uri="sip:new.example", password=None, authorization=value).status == 200


@pytest.mark.parametrize("bind", [True, False])
def test_nonce_is_bound_to_its_source_by_choice(sip, bind):
    guard = Authenticator(realm=DOMAIN, users=USERS, bind_source=bind)
    core = Authenticated(lambda request, tx: 200, authenticator=guard)
    sip.stack(core, host="10.0.0.1", domains=(DOMAIN,))
    challenge = challenge_of(ask(sip, client_of(sip), password=None))
    value = authorization(challenge, "OPTIONS")
    response = ask(sip, client_of(sip, "10.0.0.51"), password=None, authorization=value)
    assert response.status == (401 if bind else 200)


@pytest.mark.rfc("8760 2.6")
def test_credentials_for_another_uri_are_refused(sip):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    for uri, status in ((f"sip:premium@{DOMAIN}", 400), ("sip:other.example", 400), ("%", 400)):
        value = authorization(challenge, "OPTIONS", uri=uri)
        assert ask(sip, client, password=None, authorization=value).status == status
    value = authorization(challenge, "OPTIONS", uri=f"{URI};transport=tcp")
    assert ask(sip, client, password=None, authorization=value).status == 200


@pytest.mark.rfc("7616 3.4.6")
def test_refused_credentials_are_logged_with_user_source_and_reason(sip, caplog):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    value = authorization(challenge, "OPTIONS", uri="sip:10.0.0.1", user="100")
    for text in (str(value), "Digest ,"):
        request = Request("OPTIONS", URI, from_=ALICE)
        request.headers.add("Authorization", text)
        assert sip.run(client.send(request).final).status == 400
    other, unreadable = (line for line in caplog.messages if "credentials refused" in line)
    assert other.startswith(
        "credentials refused: source=10.0.0.50 user=100 realm=example.com method=OPTIONS "
        'answered=400 reason="they are for another URI" uri=sip:10.0.0.1 '
        "request_uri=sip:example.com call_id="
    )
    assert unreadable.startswith(
        'credentials refused: source=10.0.0.50 method=OPTIONS answered=400 reason="'
    )
    assert value.response not in caplog.text


def test_flood_of_refused_credentials_writes_few_lines_and_forges_no_field(sip, caplog):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    user = "x source=192.0.2.9 " + "y" * 1000
    for count in range(100):
        value = authorization(challenge, "OPTIONS", uri=f"sip:{count}@a", user=user)
        assert ask(sip, client, password=None, authorization=value).status == 400
    lines = [line for line in caplog.messages if "credentials refused" in line]
    assert 0 < len(lines) <= 12
    assert all(line.count(" source=") == 1 and len(line) < 1200 for line in lines)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('Digest username="100", realm="example.com", nonce="n", uri="sip:example.com"', 401),
        ('Digest username="100", realm="example.com", nonce="", uri="sip:example.com", response=""', 401),
        ('Digest username="100", realm="example.com", nonce="n", uri="sip:example.com", response="0", qop=auth', 400),
        ('Digest username="100", realm="example.com", nonce="n", uri="sip:example.com", response="0", qop=other', 400),
        ('Digest username="100", realm="other", nonce="n", uri="sip:example.com", response="0"', 401),
        ('Basic MTAwOnNlY3JldA==', 401),
        ("Digest", 401),
        ("Digest ,", 400),
        ('Digest username="a:b", realm="example.com", nonce="n", uri="sip:example.com", response="0"', 401),
    ],
)  # fmt: skip
def test_credentials_that_say_nothing_are_answered_and_logged_by_nobody(sip, text, status):
    stack = serve(sip)
    request = Request("OPTIONS", URI, from_=ALICE)
    request.headers.add("Authorization", text)
    tx = client_of(sip).send(request)
    assert sip.run(tx.final).status == status
    assert stack.stats()["core_errors"] == 0


# ---- addresses


# ---- proof of the server


def mutual(core=lambda request, tx: 200, **options):
    guard = Authenticator(realm=DOMAIN, users=USERS, mutual=True, **options)
    return Authenticated(core, authenticator=guard)


@pytest.mark.rfc("7616 3.5")
@pytest.mark.rfc("7616 3.8")
@pytest.mark.rfc("3261 20.6")
@pytest.mark.parametrize("integrity", [False, True])
@pytest.mark.parametrize("proxy", [False, True])
def test_success_proves_the_server_by_choice(sip, proxy, integrity):
    def core(request, tx):
        return request.response(200, body=b"hello", content_type="text/plain")

    sip.stack(
        mutual(core, proxy=proxy, integrity=integrity), host="10.0.0.1", domains=(DOMAIN,)
    )  # fmt: skip
    response = ask(sip, client_of(sip), "MESSAGE")
    assert response.status == 200
    info = response.proxy_authentication_info if proxy else response.authentication_info
    assert (info.qop, info.nc, info.nextnonce) == ("auth", 1, None)
    assert len(info.rspauth) == 64
    other = response.authentication_info if proxy else response.proxy_authentication_info
    assert other is None


@pytest.mark.rfc("7616 3.5")
def test_plain_status_and_call_are_proved_and_refusals_are_not(sip):
    def core(request, tx):
        if request.method == "INVITE":
            return tx.accept(body=SDP) and None
        return 200 if request.method == "OPTIONS" else 486

    sip.stack(mutual(core), host="10.0.0.1", domains=(DOMAIN,))
    client = client_of(sip)
    assert ask(sip, client).authentication_info.rspauth
    assert "Authentication-Info" not in ask(sip, client, "MESSAGE").headers
    mine = Credentials("100", "secret", hosts=(DOMAIN,))
    call = sip.run(client.invite, URI, from_=ALICE, credentials=mine)
    assert call.response.authentication_info.rspauth


@pytest.mark.rfc("7616 3.5")
def test_next_nonce_comes_before_the_old_one_ends(sip):
    sip.stack(mutual(), host="10.0.0.1", domains=(DOMAIN,))
    client = client_of(sip)
    mine = Credentials("100", "secret", hosts=(DOMAIN,))

    def ask_again():
        return sip.run(client.request, "OPTIONS", URI, from_=ALICE, credentials=mine)

    assert ask_again().authentication_info.nextnonce is None
    for _ in range(10):  # 1600 s, without a further challenge
        sip.advance(160)
        response = ask_again()
        assert response.status == 200
        assert response.cseq.number == 1
        assert response.authentication_info.nextnonce


@pytest.mark.rfc("7616 3.5")
def test_client_notices_that_a_server_does_not_know_its_password(sip, caplog):
    """The server lets everybody in, and cannot compute rspauth."""
    guard = Authenticator(realm=DOMAIN, users=USERS, mutual=True)

    def core(request, tx):
        tx.authenticate(guard)
        tx.complete_success = None
        return request.response(200, authentication_info=f'rspauth="{"0" * 64}", qop=auth')

    sip.stack(core, host="10.0.0.1", domains=(DOMAIN,))
    assert ask(sip, client_of(sip)).status == 200
    assert "server does not know the password" in caplog.text


@pytest.mark.rfc("7616 3.8")
def test_proxy_proves_itself_in_a_forwarded_response(sip, caplog):
    def core(request, tx):
        forward(request, tx, "sip:200@10.0.0.2")

    sip.stack(mutual(core, proxy=True), host="10.0.0.1", domains=(DOMAIN,))
    callee = sip.stack(host="10.0.0.2")
    callee.on("MESSAGE")(lambda request, tx: 200)
    response = ask(sip, client_of(sip), "MESSAGE", f"sip:200@{DOMAIN}")
    assert response.status == 200
    assert response.proxy_authentication_info.rspauth
    assert "does not know" not in caplog.text


# ---- whose address


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"to": f"sip:101@{DOMAIN}"}, 403),
        ({"to": "sip:100@elsewhere.example"}, 403),
        ({"to": ALICE}, 200),
    ],
)
def test_user_registers_its_own_address_alone(sip, options, status):
    serve(sip)
    assert ask(sip, client_of(sip), "REGISTER", **options).status == status


@pytest.mark.rfc("3325 5")
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"from_": f"sip:101@{DOMAIN}"}, 403),
        ({"from_": "sip:100@elsewhere.example"}, 403),
        ({"from_": "sip:anonymous@anonymous.invalid"}, 200),
        ({"from_": "sips:100@example.com"}, 200),
        ({"p_asserted_identity": f"<sip:101@{DOMAIN}>"}, 403),
        ({"p_asserted_identity": f"<{ALICE}>"}, 200),
        ({"p_asserted_identity": "<tel:+15551>"}, 403),
        ({"p_preferred_identity": f"<sip:101@{DOMAIN}>"}, 403),
    ],
)
def test_user_calls_by_its_own_address_alone(sip, options, status, caplog):
    serve(sip)
    assert ask(sip, client_of(sip), "MESSAGE", **options).status == status
    assert ("address of another user: user=100" in caplog.text) == (status == 403)


def test_application_decides_which_addresses_a_user_has(sip):
    serve(sip, owns=lambda username, uri: uri.user in ("100", "sales"))
    client = client_of(sip)
    assert ask(sip, client, "MESSAGE", from_=f"sip:sales@{DOMAIN}").status == 200
    assert ask(sip, client, "MESSAGE", from_=f"sip:101@{DOMAIN}").status == 403


# ---- what needs no password


@pytest.mark.rfc("3261 22.1")
def test_ack_and_requests_in_a_call_are_not_asked(sip):
    seen = []

    def core(request, tx):
        seen.append((request.method, tx.user))
        if request.method == "INVITE":
            with tx.accept(body=SDP, content_type="application/sdp") as call:
                call.wait(60)
            return None
        return 200

    serve(sip, core)
    client = client_of(sip)
    mine = Credentials("100", "secret", hosts=(DOMAIN,))
    call = sip.run(client.invite, f"sip:101@{DOMAIN}", from_=ALICE, credentials=mine)
    call.kept_credentials = None
    assert sip.run(call.request, "INFO").status == 200
    call.hangup()
    sip.settle()
    assert seen == [("INVITE", "100"), ("INFO", None)]


def test_to_tag_alone_is_no_call(sip):
    serve(sip)
    response = ask(sip, client_of(sip), "MESSAGE", password=None, to=f"<{URI}>;tag=x")
    assert response.status == 401


def test_exempt_request_needs_no_password(sip):
    serve(sip, exempt=lambda request, tx: tx.flow.remote[0] == "10.0.0.51")
    assert ask(sip, client_of(sip, "10.0.0.51"), password=None).status == 200
    assert ask(sip, client_of(sip), password=None).status == 401


# ---- proxies and cores


@pytest.mark.rfc("3261 22.3")
def test_default_server_calls_and_registers_with_passwords(sip):
    phone_requests = []

    def phone(request, tx):
        phone_requests.append(request)
        if request.method == "INVITE":
            with tx.accept(body=SDP, content_type="application/sdp") as call:
                call.wait(60)
            return None
        return 200

    server = serve(sip, RegistrarProxy())
    bob = client_of(sip, "10.0.0.51", core=None)
    bob.core = phone
    alice = client_of(sip)
    response = ask(sip, bob, "REGISTER", user="101", password="other", contact="sip:101@10.0.0.51")
    assert response.status == 200
    assert len(response.contact) == 1
    mine = Credentials("100", "secret", hosts=(DOMAIN,))
    call = sip.run(alice.invite, f"sip:101@{DOMAIN}", from_=ALICE, credentials=mine)
    (invite, *_) = phone_requests
    assert not invite.proxy_authorization  # the phone must not get it
    assert sip.run(call.request, "INFO").status == 200
    call.hangup()
    sip.settle()
    assert len(server.engine.servers) <= 40


def test_credentials_for_another_realm_go_on(sip):
    seen = []

    def core(request, tx):
        seen.append(request)
        return 200

    sip.stack(core, host="10.0.0.2")
    serve(sip, lambda request, tx: forward(request, tx, "sip:10.0.0.2"), proxy=True)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    other = 'Digest username="u", realm="other", nonce="n", uri="sip:a", response="0"'
    response = ask(
        sip, client, password=None,
        proxy_authorization=[str(authorization(challenge, "OPTIONS")), other],
    )  # fmt: skip
    assert response.status == 200
    assert [value.realm for value in seen[0].proxy_authorization] == ["other"]


def test_core_decides_by_itself(sip):
    guard = Authenticator(realm=DOMAIN, users=USERS)

    def core(request, tx):
        if request.method == "OPTIONS":
            return 200
        assert tx.user is None
        return 200 if tx.authenticate(guard) == tx.user == "100" else 403

    sip.stack(core, host="10.0.0.1", domains=(DOMAIN,))
    client = client_of(sip)
    assert ask(sip, client, password=None).status == 200
    assert ask(sip, client, "MESSAGE", password=None).status == 401
    assert ask(sip, client, "MESSAGE").status == 200
    assert ask(sip, client, "MESSAGE", user="101", password="other").status == 403


def test_core_behind_it_knows_its_stack_and_methods(sip):
    proxy = RegistrarProxy()
    server = serve(sip, proxy)
    assert proxy.stack is server
    assert server.allowed == ()


# ---- what it costs


def test_challenge_leaves_no_state(sip):
    server = serve(sip)
    client = client_of(sip)
    for _ in range(20):
        assert ask(sip, client, "REGISTER", password=None).status == 401
    assert len(server.engine.servers) == 0
    assert len(server.core.authenticator._nonces) == 0


def test_challenge_of_an_invite_is_acknowledged_to_its_transaction(sip):
    seen = []

    def core(request, tx):
        seen.append(request.method)
        return 200

    serve(sip, core)
    client = client_of(sip)
    with pytest.raises(Exception, match="401"):
        sip.run(client.invite, URI, from_=ALICE)
    sip.settle()
    assert seen == []


def test_guessing_is_banned_after_the_limit_and_others_are_not(sip, caplog):
    caplog.set_level(logging.INFO, "sippet_gevent")
    told = []
    server = serve(sip, bans=Bans(10, 30, seconds=600, on_ban=told.append))
    attacker, other = client_of(sip), client_of(sip, "10.0.0.51")
    statuses = [ask(sip, attacker, password=f"guess{n}").status for n in range(40)]
    assert statuses[:10] == [401] * 10
    assert set(statuses[10:]) == {403}
    assert ask(sip, attacker, user="101", password="other").status == 200
    assert ask(sip, other).status == 200
    for n in range(100):
        ask(sip, attacker, user=f"user{n}", password="guess")
    assert ask(sip, attacker, user="101", password="other").status == 403
    assert ask(sip, attacker, password=None).status == 403
    assert ask(sip, other).status == 200
    sip.settle()
    assert [(ban.source, ban.user) for ban in told] == [("10.0.0.50", "100"), ("10.0.0.50", "")]
    sip.advance(601)
    assert ask(sip, attacker).status == 200
    assert server.stats()["core_errors"] == 0


@pytest.mark.rfc("7616 5.5")
@pytest.mark.parametrize("realm", [DOMAIN, "new.example"])
def test_authenticator_that_replaces_another_keeps_bans_and_used_counts(sip, realm):
    options = {"secret": b"k" * 32, "users": USERS}
    server = serve(sip, bans=Bans(3, 50, seconds=600), **options)
    attacker, other = client_of(sip), client_of(sip, "10.0.0.51")
    for _ in range(3):
        ask(sip, attacker, password="guess")
    for _ in range(2):
        ask(sip, attacker, user="101", password="guess")
    challenge = challenge_of(ask(sip, other, password=None))
    used = authorization(challenge, "OPTIONS")
    assert ask(sip, other, password=None, authorization=used).status == 200
    for name in (realm, DOMAIN):  # another one, and back
        authenticator = Authenticator(realm=name, bans=Bans(3, 50, seconds=60), **options)
        authenticator.take_over(server.core.authenticator)
        server.core.authenticator = authenticator
        assert ask(sip, attacker).status == 403
        sip.advance(61)
        assert ask(sip, attacker).status == 403
    assert challenge_of(ask(sip, other, password=None, authorization=used)).stale
    following = authorization(challenge, "OPTIONS", count=2)
    assert ask(sip, other, password=None, authorization=following).status == 200
    assert ask(sip, attacker, user="101", password="guess").status == 401  # the third
    assert ask(sip, attacker, user="101", password="other").status == 403
    sip.advance(600 - 120)
    assert ask(sip, attacker).status == 200


@pytest.mark.rfc("7616 5.7")
@pytest.mark.parametrize("users", [1, 1000])
def test_a_thousand_guesses_are_banned_and_write_few_lines(sip, caplog, users):
    """One user's password, or that of each user in turn."""
    caplog.set_level(logging.INFO, "sippet_gevent")
    serve(sip)
    attacker, other = client_of(sip), client_of(sip, "10.0.0.51")
    caplog.clear()
    statuses = []
    for n in range(1000):
        user = "100" if users == 1 else f"user{n}"
        statuses.append(ask(sip, attacker, user=user, password=f"guess{n}").status)
        if n % 100 == 0:  # also while the guesses go on
            assert ask(sip, other).status == 200
            sip.advance(0.5)
    limit = FAILURES if users == 1 else SOURCE_FAILURES
    assert statuses == [401] * limit + [403] * (1000 - limit)
    assert ask(sip, other, user="101", password="other").status == 200
    sip.advance(60)  # lines about what was left out
    lines = [record.getMessage() for record in caplog.records]
    clients = ("challenge not answered", "request sent again")  # they are in this process, too
    lines = [line for line in lines if not any(text in line for text in clients)]
    assert 2 < len(lines) < 20, lines
    first = "100" if users == 1 else "user0"
    assert f"source=10.0.0.50 user={first} realm=example.com method=OPTIONS call_id=" in lines[0]
    (ban,) = [line for line in lines if "source banned" in line]
    user = "100" if users == 1 else ""
    assert f"source=10.0.0.50 user={user} failures={limit} seconds=900" in ban
    assert "guess" not in caplog.text


def test_nobody_can_have_another_source_banned(sip):
    """A forged datagram has no nonce that was made for the source it names."""
    server = serve(sip, bans=Bans(3, 5))
    attacker, victim = client_of(sip), client_of(sip, "10.0.0.51")
    challenge = challenge_of(ask(sip, attacker, password=None))
    wrong = authorization(challenge, "OPTIONS", password="x")
    for _ in range(20):  # as if the attacker had written the victim's address
        ask(sip, victim, password=None, authorization=wrong)
    assert ask(sip, victim).status == 200
    assert len(server.core.authenticator._bans) == 0


def test_hook_that_raises_is_logged(sip, caplog):
    def on_ban(ban):
        raise RuntimeError("no nft here")

    server = serve(sip, bans=Bans(1, on_ban=on_ban))
    assert ask(sip, client_of(sip), password="x").status == 401
    sip.settle()
    assert "on_ban raised: source=10.0.0.50" in caplog.text
    assert server.stats()["core_errors"] == 1


class Noted:
    """A store whose users are noted in order of their look-up, known or not."""

    def __init__(self):
        self.looked_up = []

    def lookup(self, username, realm):
        self.looked_up.append(username)
        known = {"MD5": ha1("100", DOMAIN, "secret", "MD5")}
        return known if username == "100" else None


@pytest.mark.parametrize("users", [USERS, Noted()])
def test_unknown_user_costs_the_same_calls_as_a_known_one(sip, users):
    """T28: the same work, counted in calls, because a clock would judge the machine."""
    guard = Authenticator(realm=DOMAIN, users=users, algorithms=("MD5",), bans=Bans(1000, 1000))
    core = Authenticated(lambda request, tx: 200, authenticator=guard)
    sip.stack(core, host="10.0.0.1", domains=(DOMAIN,))
    counts = []

    def counted(user):
        calls = 0

        def profile(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        challenge = challenge_of(ask(sip, client, password=None))
        value = authorization(challenge, "OPTIONS", user=user, password="x")
        request = parse(
            f"OPTIONS {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.50;branch=z9hG4bK1\r\n"
            f"From: <{ALICE}>;tag=1\r\nTo: <{URI}>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n"
            f"Authorization: {value}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        tx = Tx(server)
        sys.setprofile(profile)
        try:
            guard.authenticate(request, tx)
        except Reject as refusal:
            assert refusal.status == 401
        finally:
            sys.setprofile(None)
        return calls

    class Tx:
        call = user = None

        def __init__(self, stack):
            self.stack = stack
            self.flow = stack.engine.transports[0].connect(("10.0.0.50", 5060))

    server = sip.stacks[0]
    client = client_of(sip)
    for user in ("100", "777", "100", "777"):
        counts.append(counted(user))
    assert counts[2] == counts[3]


# ---- attacks and failures


class Failing:
    """A store that fails."""

    def __init__(self, error):
        self.error = error

    def lookup(self, username, realm):
        if self.error is not None:
            raise self.error
        return USERS.get(username)


@pytest.mark.rfc("3261 21.5.4")
@pytest.mark.parametrize("error", [StoreError("disk full"), ConnectionError("no database")])
def test_store_that_fails_is_answered_503_and_bans_nobody(sip, caplog, error):
    users = Failing(error)
    server = serve(sip, users=users)
    client = client_of(sip, limits=Limits(closed_seconds=0))  # which asks again at once
    for _ in range(30):
        response = ask(sip, client)
        assert response.status == 503
        assert response.retry_after is not None
    lines = [r for r in caplog.records if "users not looked up" in r.getMessage()]
    assert 0 < len(lines) <= 20
    assert str(error) in lines[0].getMessage()
    assert "secret" not in caplog.text
    users.error = None
    assert ask(sip, client).status == 200
    assert server.stats()["core_errors"] == 0


def test_forged_nonces_ban_nobody_and_leave_nothing(sip):
    server = serve(sip)
    client = client_of(sip)
    guard = server.core.authenticator
    challenge = challenge_of(ask(sip, client, password=None))
    for n in range(60):
        forged = challenge._replace(parameters=challenge.parameters.replace(nonce=f"{n:032d}"))
        ask(
            sip, client, password=None, authorization=authorization(forged, "OPTIONS", password="x")
        )
        right = ask(sip, client, password=None, authorization=authorization(forged, "OPTIONS"))
        assert right.status == 401
        assert challenge_of(right).stale
    assert len(guard._bans) == len(guard._nonces) == 0
    assert ask(sip, client).status == 200


@pytest.mark.parametrize("more", ["a", ",", "=", '"', "\\", ", a=", ', a="b"', " ", "a=b "])
def test_huge_credentials_are_read_in_linear_time(more):
    """No pattern may take quadratic time for a long header field."""
    for text in (f'Digest username="u", {more * 60_000}', f'Digest {more * 60_000}, realm="r"'):

        def read(text=text):
            assert Claim.read(text) is None
            try:
                Claim.of(Authorization.parse(text))
            except ParseError as error:
                assert len(str(error)) < 1000

        assert is_within(1.0, read)


@pytest.mark.parametrize("step", [-3600, 3600])
def test_step_of_the_system_clock_ends_no_nonce(sip, step):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    first, second = (authorization(challenge, "OPTIONS", count=n) for n in (1, 2))
    assert ask(sip, client, password=None, authorization=first).status == 200
    sip.clock.wall = lambda: 1_000_000_000.0 + step
    assert ask(sip, client, password=None, authorization=second).status == 200
    assert ask(sip, client, password=None, authorization=first).status == 401


@pytest.mark.rfc("7616 5.5")
def test_counts_far_apart_are_accepted_once_and_old_ones_are_not(sip):
    serve(sip)
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))

    def send(count):
        value = authorization(challenge, "OPTIONS", count=count)
        return ask(sip, client, password=None, authorization=value).status

    assert send(1) == 200
    assert send(0xFFFFFFFF) == 200  # the greatest count
    assert send(0xFFFFFFFF) == 401
    assert send(0xFFFFFFFF - 63) == 200  # the window's last
    assert send(0xFFFFFFFF - 63) == 401
    assert send(0xFFFFFFFF - 64) == 401
    assert send(2) == 401


@pytest.mark.rfc("7616 5.5")
def test_two_servers_with_one_secret_accept_each_nonce_for_its_time_only(sip):
    """They do not share counts: a nonce may be replayed once at the other server, and no longer."""
    one = Authenticator(realm=DOMAIN, users=USERS, secret=b"s" * 32)
    two = Authenticator(realm=DOMAIN, users=USERS, secret=b"s" * 32, seconds=60)
    for host, guard in (("10.0.0.1", one), ("10.0.0.2", two)):
        core = Authenticated(lambda request, tx: 200, authenticator=guard)
        sip.stack(core, host=host, domains=(DOMAIN, "new.example"))
    client = client_of(sip)
    challenge = challenge_of(ask(sip, client, password=None))
    value = authorization(challenge, "OPTIONS")
    uri = "sip:new.example"
    other = authorization(challenge, "OPTIONS", uri=uri)
    assert ask(sip, client, password=None, authorization=value).status == 200
    assert ask(sip, client, uri=uri, password=None, authorization=other).status == 200
    assert ask(sip, client, uri=uri, password=None, authorization=other).status == 401
    sip.advance(61.5)
    late = authorization(challenge, "OPTIONS", uri=uri, count=2)
    response = ask(sip, client, uri=uri, password=None, authorization=late)
    assert response.status == 401
    assert challenge_of(response).stale


# ---- users without an HA1 for each algorithm

STRONG = User("100", DOMAIN, {"SHA-256": ha1("100", DOMAIN, "secret")})
WEAK = User("101", DOMAIN, {"MD5": ha1("101", DOMAIN, "other", "MD5")})


@pytest.mark.parametrize(
    ("users", "offered"),
    [
        ({"100": STRONG}, ["SHA-256"]),
        ({"100": {"MD5": "0" * 32}}, ["MD5"]),
        ({"100": "secret", "101": WEAK}, ["MD5"]),
        ({"100": "secret"}, ["SHA-256", "MD5"]),
        ({}, ["SHA-256", "MD5"]),
        (MemoryUsers([STRONG]), ["SHA-256"]),
        (MemoryUsers([WEAK, User("100", "other.example", STRONG.ha1)]), ["MD5"]),
    ],
)
def test_algorithm_that_a_user_has_no_ha1_for_is_not_offered(sip, users, offered):
    serve(sip, users=users)
    challenges = ask(sip, client_of(sip), password=None).www_authenticate
    assert [each.algorithm for each in challenges] == offered


def test_algorithm_that_a_user_of_a_file_has_no_ha1_for_is_not_offered(sip, tmp_path):
    users = SQLiteUsers(tmp_path / "users.db")
    users.add(WEAK)
    users.add(User("100", DOMAIN, {**STRONG.ha1, "MD5": ha1("100", DOMAIN, "secret", "MD5")}))
    serve(sip, users=users)
    challenges = ask(sip, client_of(sip), password=None).www_authenticate
    assert [each.algorithm for each in challenges] == ["MD5"]
    users.close()


def test_users_without_a_common_algorithm_are_an_error_at_the_start():
    for users in ({"100": STRONG, "101": WEAK}, MemoryUsers([STRONG, WEAK])):
        with pytest.raises(InvalidValue) as refused:
            Authenticator(realm=DOMAIN, users=users)
        assert str(refused.value) == (
            "users have no algorithm in common: '101' has no HA1 for SHA-256, '100' has no HA1 for "
            "MD5: add an HA1 to these users, or write algorithms=…"
        )


def test_algorithm_that_a_user_of_a_dict_cannot_use_is_an_error_at_the_start():
    with pytest.raises(InvalidValue) as refused:
        Authenticator(realm=DOMAIN, users={"100": STRONG}, algorithms=("SHA-256", "MD5"))
    assert str(refused.value) == (
        "algorithms must be those of all users, and '100' has no HA1 for MD5: add one, or leave MD5 "
        "out"
    )


@pytest.mark.rfc("7616 3.3")
def test_answer_with_an_algorithm_of_before_a_reload_is_stale_once(sip):
    """The phone tries again by itself. One that always answers with MD5 must not try for ever."""
    old, secret = {"algorithms": ("MD5",)}, b"s" * 32
    stack = serve(sip, secret=secret, **old)
    client = client_of(sip)
    before = challenge_of(ask(sip, client, password=None))
    sip.clock.advance(1)
    guarded = Authenticated(
        lambda request, tx: 200, realm=DOMAIN, users=USERS, secret=secret, algorithms=("SHA-256",)
    )
    guarded.authenticator.take_over(stack.core.authenticator)
    stack.core = guarded
    late = authorization(before, "OPTIONS")
    for _ in range(2):
        answer = ask(sip, client, password=None, authorization=late)
        assert (answer.status, challenge_of(answer).algorithm) == (401, "SHA-256")
        assert challenge_of(answer).stale
    fresh = challenge_of(answer)
    passed = ask(sip, client, password=None, authorization=authorization(fresh, "OPTIONS"))
    assert passed.status == 200
    wrong = Challenge.parse(str(fresh).replace("SHA-256", "MD5"))
    answer = ask(sip, client, password=None, authorization=authorization(wrong, "OPTIONS"))
    assert (answer.status, challenge_of(answer).stale) == (401, False)


def test_user_of_a_store_without_an_ha1_is_named_in_the_log(sip, caplog):
    users = MemoryUsers()
    serve(sip, users=users, algorithms=("SHA-256",))
    users.add(User("101", DOMAIN, WEAK.ha1))
    client = client_of(sip)
    assert ask(sip, client, user="101", password="other").status == 401
    (line,) = [each for each in caplog.messages if each.startswith("authentication failed")]
    assert " user=101 " in line
    assert line.endswith(
        ' reason="no HA1 for SHA-256" hint="set the password again, or do not offer the algorithm"'
    )


# ---- arguments


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"realm": 5}, "realm must be text"),
        ({"users": "100:secret"}, "users must be a dict"),
        ({"users": {"100": 5}}, "users must map names"),
        ({"users": MemoryUsers}, "users must be a dict"),
        ({"algorithms": "MD5"}, "algorithms"),
        ({"owns": 5}, "owns"),
        ({"owns": lambda user: True}, "owns must take"),
        ({"exempt": lambda: True}, "exempt must take"),
        ({"proxy": 1}, "proxy"),
        ({"realm": None}, "realm and users are missing"),
        ({"users": None}, "realm and users are missing"),
        ({"authenticator": Authenticator(realm="r", users={})}, "leave out realm"),
    ],
)
def test_wrong_argument_is_a_type_error(options, error):
    with pytest.raises(TypeError, match=error) as refused:
        Authenticated(lambda request, tx: 200, **({"realm": "r", "users": USERS} | options))
    assert "secret" not in str(refused.value).replace("'secret'", "").replace('"secret"', "")


@pytest.mark.parametrize("options", [{"realm": ""}, {"algorithms": ()}, {"algorithms": ("SHA-1",)}])
def test_wrong_value_is_refused(options):
    with pytest.raises(InvalidValue):
        Authenticator(**({"realm": "r", "users": USERS} | options))


@pytest.mark.parametrize(
    "options", [{"failures": 0}, {"within": -1}, {"seconds": "x"}, {"on_ban": 5}]
)
def test_wrong_argument_of_bans_is_refused(options):
    with pytest.raises((TypeError, InvalidValue)):
        Bans(**options)
