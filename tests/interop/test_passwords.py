"""Real phones with passwords at `sippet serve --database`: pjsip, baresip, and JsSIP in Chromium register and call."""

from __future__ import annotations

import socket
import time

import pytest

from sippet_gevent import TLS, Credentials, SQLiteUsers, Stack, User, ha1, parse
from sippet_gevent.core.auth.digest import Session
from tests.conditions import PATIENCE
from tests.docs.blocks import NAMED

from ..programs import Server
from .test_baresip import phone as baresip
from .test_browser import Browser, pin_of, script, site
from .test_pjsip import phone as pjsip

pytest_plugins = ["tests.programs"]

REALM = "127.0.0.1"
USERS = {"alice": "secret", "bob": "other"}


@pytest.fixture
def office(serve, tmp_path, pem):
    """Start a server with users: `office("udp", algorithms=("MD5",))`."""

    def start(*transports, algorithms=("SHA-256", "MD5"), arguments=()):
        path = tmp_path / "office.db"
        users = SQLiteUsers(path)
        for name, password in USERS.items():
            keys = {each: ha1(name, REALM, password, each) for each in ("SHA-256", "MD5")}
            users.add(User(name, REALM, keys))
        users.close()
        words = ["--database", path, "--domain", REALM]
        for algorithm in algorithms:
            words += ["--algorithm", algorithm]
        file = pem("127.0.0.1")
        if set(transports) & {"tls", "wss"}:
            words += ["--cert", file, "--ca", pem.ca]
        server = serve(
            *words, *arguments, listen=tuple(f"{each}:127.0.0.1:0" for each in transports)
        )
        server.certificate = file
        return server

    return start


@pytest.mark.rfc("3261 22.2")
@pytest.mark.rfc("8760 2.3")
@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_pjsip_registers_and_calls_with_a_password(pjsip, office, transport):
    server = office(transport)
    phones = {
        user: pjsip(user, server, transport, f"password={password}")
        for user, password in USERS.items()
    }
    for one in phones.values():
        one.wait_for("registration 200")
    way = f"sip:bob@127.0.0.1:{server.port_of(transport)};transport={transport}"
    phones["alice"].command(f"dial {way}")
    for one in phones.values():
        one.wait_for("call 1 CONFIRMED 200")
    phones["bob"].command("hangup")
    for one in phones.values():
        one.wait_for("call 1 DISCONNECTED 200")
        one.command("quit")
    assert "authentication failed" not in server.text


@pytest.mark.rfc("3261 22.2")
@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_baresip_registers_and_calls_with_a_password(baresip, office, transport):
    # baresip 1.0 gives up when it sees SHA-256
    server = office(transport, algorithms=("MD5",))
    alice, bob = (
        baresip(user, server, transport, answers=user == "bob", domain=REALM, password=password)
        for user, password in USERS.items()
    )
    alice.command("dial", bob.uri)
    alice.wait_for("Call established")
    alice.command("hangup")
    bob.wait_for("session closed|terminated")
    for one in (alice, bob):
        one.quit()
    assert "authentication failed" not in server.text


# ---- what each kind of phone does wrong, by each transport


GATE = """
import os
from sippet_gevent import Authenticated, Authenticator, RegistrarProxy, Reject

class Office(Authenticated):
    late = "LATE" in os.environ

    def receive_request(self, request, tx):
        for line in request.headers.all("Authorization"):
            print(f"credentials for {request.uri_text}: {line}", flush=True)
        if self.late and request.authorization:
            self.late = False
            tx.stack.clock.sleep(1.5)
        try:
            answer = super().receive_request(request, tx)
        except Reject as refusal:
            stale = "stale=true" in str(refusal.headers)
            print(f"{request.method} {refusal.status} stale={stale}", flush=True)
            raise
        print(f"{request.method} of {tx.user} passed", flush=True)
        return answer

seconds = 1.0 if "SHORT" in os.environ else 300.0
users = {"alice": "secret", "bob": "other"}
guard = Authenticator(realm="127.0.0.1", users=users, algorithms=("MD5",), seconds=seconds)
core = Office(RegistrarProxy(), authenticator=guard)
"""
"""A server that says what becomes of each request. With SHORT its nonces are good for a second. With LATE it looks at the first
credentials when their nonce has expired, because phones ask for another nonce before each refresh."""

EXPIRED = r"(?s)REGISTER 401 stale=False\n.*REGISTER 401 stale=True\n.*REGISTER of alice passed\n"

REFUSED = r"credentials for [^\n]*\n(?:[^\n]*\n)*?REGISTER 401 stale=False"


@pytest.fixture
def gate(serve, tmp_path, pem):
    """Start that server: `gate("tls", LATE="yes")`."""
    path = tmp_path / "core.py"
    path.write_text(GATE, "utf-8")

    def start(transport="udp", **environment):
        file = pem("127.0.0.1")
        words = ["--cert", file, "--ca", pem.ca] if transport in ("tls", "wss") else []
        server = serve(f"{path}:core", *words, listen=f"{transport}:127.0.0.1:0", **environment)
        server.certificate = file
        return server

    return start


def _pjsip(request, server, transport, user, password, username):
    options = [f"password={password}"] + ([f"username={username}"] if username else [])
    request.getfixturevalue("pjsip")(user, server, transport, *options)


def _baresip(request, server, transport, user, password, username):
    request.getfixturevalue("baresip")(
        user,
        server,
        transport,
        domain=REALM,
        password=password,
        username=username,
        expected="200 OK|40[13] ",
    )


def _browser(request, server, transport, user, password, username):
    run, site, folder = map(request.getfixturevalue, ("run", "site", "tmp_path"))
    server.pin = pin_of(server.certificate)
    page = Browser(run, site, folder, server, user)
    more = {"authorization_user": username} if username else {}
    page.command(
        "register", server=f"wss://127.0.0.1:{server.port}", uri=f"sip:{user}@{REALM}",
        password=password, **more,
    )  # fmt: skip


KINDS = {"pjsip": _pjsip, "baresip": _baresip, "browser": _browser}


@pytest.fixture(
    params=["pjsip-udp", "pjsip-tls", "baresip-udp", "baresip-tls", "browser-wss"], name="register"
)
def _register(request):
    """Have a phone of each kind register: `register(server, "alice", "secret")`. `register.transport` is its transport."""
    kind, _, transport = request.param.partition("-")

    def start(server, user, password, username=None):
        KINDS[kind](request, server, transport, user, password, username)

    start.transport = transport
    return start


@pytest.mark.rfc("3261 22.1")
@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("nobody", "secret")])
def test_phone_with_a_wrong_password_or_name_is_refused(register, gate, user, password):
    server = gate(register.transport)
    register(server, user, password)
    server.wait_for(REFUSED)
    server.wait_for(rf"authentication failed: source=127\.0\.0\.1 user={user} realm=")
    assert " passed" not in server.text


@pytest.mark.rfc("3261 10.3")
def test_phone_with_the_address_of_another_user_is_refused(register, gate):
    server = gate(register.transport)
    register(server, "alice", "other", "bob")
    server.wait_for("credentials for .*bob")
    server.wait_for("REGISTER 403 ")
    assert " passed" not in server.text


@pytest.mark.rfc("7616 3.3")
def test_phone_answers_the_challenge_for_an_expired_nonce(register, gate):
    server = gate(register.transport, SHORT="yes", LATE="yes")
    register(server, "alice", "secret")
    server.wait_for(EXPIRED)
    assert "authentication failed" not in server.text


@pytest.mark.rfc("7616 5.5")
def test_credentials_that_a_phone_has_used_cannot_be_replayed(register, gate, pem):
    server = gate(register.transport)
    register(server, "alice", "secret")
    server.wait_for("REGISTER of alice passed")
    uri, used = server.wait_for("credentials for (.*): (Digest .*)\n").groups()
    passed = server.text.count(" passed")
    kind = register.transport
    way = f"sip:127.0.0.1:{server.port};transport={kind}"
    if kind == "wss":
        way = f"sips:127.0.0.1:{server.port};transport=ws"
    tls = TLS(pem("127.0.0.1", file="thief.pem"), ca=pem.ca)
    with Stack(f"{kind}:127.0.0.1:0", tls=tls) as thief:
        answer = thief.request(
            "REGISTER", uri, to=f"<sip:alice@{REALM}>", from_=f"<sip:alice@{REALM}>;tag=1",
            contact="<sip:thief@192.0.2.66>", authorization=used, timeout=20,
            next_hop=way,
        )  # fmt: skip
    assert (answer.status, answer.www_authenticate[0].stale) == (401, True)
    assert server.text.count(" passed") == passed


@pytest.mark.rfc("7118 7")
@pytest.mark.rfc("3261 22.2")
def test_browsers_register_and_call_with_passwords(run, office, site, tmp_path):
    # JsSIP knows MD5 alone
    server = office("wss", algorithms=("MD5",), arguments=("--origin", site.origin))
    server.pin = pin_of(server.certificate)
    browsers = {user: Browser(run, site, tmp_path, server, user) for user in USERS}
    wss = f"wss://127.0.0.1:{server.port_of('wss')}"
    browsers["alice"].command("register", server=wss, uri=f"sip:alice@{REALM}", password="wrong")
    browsers["alice"].wait_for("registrationFailed")
    for user, browser in browsers.items():
        browser.command("register", server=wss, uri=f"sip:{user}@{REALM}", password=USERS[user])
        browser.wait_for("registered")
    browsers["alice"].command("dial", uri=f"sip:bob@{REALM}")
    for browser in browsers.values():
        browser.wait_for("confirmed")
    browsers["bob"].command("hangup")
    browsers["alice"].wait_for("ended", originator="remote")


PHONE = """<!DOCTYPE html><meta charset="utf-8"><script src="/jssip.js"></script><script>
const tell = (what) => fetch("/event?alice", {method: "POST", body: JSON.stringify({what})});
const typed = "secret";
tell("loaded");
%s
for (const event of ["registered", "registrationFailed"]) phone.on(event, () => tell(event));
</script>"""


@pytest.mark.rfc("7118 7")
def test_page_of_the_guide_registers_with_its_password(run, site, pem, tmp_path):
    """The file and the script of docs/howto/browser-passwords.md, word for word but for addresses."""
    text, page = NAMED["toml", "browsers"][0].text, NAMED["text", "jssip.js"][0].text
    certificate = pem("127.0.0.1")
    for here, there in (
        ("wss:192.0.2.10:443", "wss:127.0.0.1:0"),
        ("udp:192.0.2.10:5060", "udp:127.0.0.1:0"),
        ("chain.pem", str(certificate)),
        ("key.pem", str(certificate)),  # the file has both
        ("https://phone.example.com", site.origin),
    ):
        assert here in text
        text = text.replace(here, there)
    (tmp_path / "sippet.toml").write_text(text)
    users = SQLiteUsers(tmp_path / "phones.db")
    keys = {"MD5": ha1("alice", "office.example", "secret", "MD5")}
    users.add(User("alice", "office.example", keys))
    users.close()
    server = run("--config", "sippet.toml", kind=Server)
    server.pin = pin_of(certificate)
    assert "wss://192.0.2.10" in page
    page = page.replace("wss://192.0.2.10", f"wss://127.0.0.1:{server.port_of('wss')}")
    site.files["/"] = tmp_path / "page.html"
    site.files["/"].write_text(PHONE % page)
    Browser(run, site, tmp_path, server, "alice").wait_for("registered")
    server.wait_for("registration made: aor=sip:alice@office.example")


# ---- what no phone does


@pytest.fixture
def ask(office):
    """Send a REGISTER by hand: `ask(**parameters)` returns the response."""
    server = office("udp", algorithms=("MD5",))
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(PATIENCE)
    numbers = iter(range(1, 100))

    def send(user="alice", authorization=None, to=None):
        number = next(numbers)
        lines = [
            f"REGISTER sip:{REALM} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{sock.getsockname()[1]};branch=z9hG4bK{number}",
            f"From: <sip:{user}@{REALM}>;tag=1",
            f"To: <sip:{to or user}@{REALM}>",
            "Call-ID: by-hand",
            f"CSeq: {number} REGISTER",
            f"Contact: <sip:{user}@127.0.0.1>",
        ]
        if authorization is not None:
            lines.append(f"Authorization: {authorization}")
        text = "\r\n".join([*lines, "Content-Length: 0", "", ""])
        sock.sendto(text.encode(), ("127.0.0.1", server.port))
        while True:
            response = parse(sock.recv(65535))
            if response.cseq.number == number and response.status >= 200:
                return response

    yield send
    sock.close()


def session_of(response, user="alice", password="secret"):
    (challenge,) = response.www_authenticate
    key = ha1(user, challenge.realm, password, challenge.algorithm)
    return Session(challenge, user, key, "cnonce")


@pytest.mark.rfc("7616 5.5")
@pytest.mark.rfc("3261 10.3")
def test_replay_forged_nonce_and_foreign_address_are_refused(ask):
    session = session_of(ask())
    first = session.answer("REGISTER", f"sip:{REALM}")
    assert ask(authorization=first).status == 200
    replayed = ask(authorization=first)
    assert (replayed.status, replayed.www_authenticate[0].stale) == (401, True)
    # another user's address-of-record
    second = session.answer("REGISTER", f"sip:{REALM}")
    assert ask(authorization=second, to="bob").status == 403
    # a nonce that the server has never made is answered like one that has ended
    session.nonce = "A" * len(session.nonce)
    forged = ask(authorization=session.answer("REGISTER", f"sip:{REALM}"))
    assert (forged.status, forged.www_authenticate[0].stale) == (401, True)


@pytest.mark.rfc("3261 22.1")
def test_wrong_password_and_unknown_user_look_the_same(ask):
    answers = []
    for user in ("alice", "nobody"):
        session = session_of(ask(user), user, "wrong")
        response = ask(user, authorization=session.answer("REGISTER", f"sip:{REALM}"))
        answers.append((response.status, response.www_authenticate[0].stale))
    assert answers == [(401, False)] * 2


def test_our_own_client_registers_by_sha_256(office):
    server = office("udp")
    with Stack("udp:127.0.0.1:0") as stack:
        mine = Credentials("alice", "secret", hosts=(REALM,))
        response = stack.request(
            "REGISTER", f"sip:{REALM}:{server.port}", to=f"sip:alice@{REALM}",
            from_=f"sip:alice@{REALM}", contact="sip:alice@127.0.0.1", credentials=mine, timeout=10,
        )  # fmt: skip
    assert response.status == 200


@pytest.mark.rfc("7616 3.3")
def test_our_own_client_answers_the_challenge_for_an_expired_nonce(gate):
    server = gate(SHORT="yes")
    with Stack("udp:127.0.0.1:0") as stack:
        mine = Credentials("alice", "secret", hosts=(REALM,))
        for _ in range(2):
            response = stack.request(
                "REGISTER", f"sip:{REALM}:{server.port}", to=f"sip:alice@{REALM}",
                from_=f"sip:alice@{REALM}", contact="sip:alice@127.0.0.1", credentials=mine,
            )  # fmt: skip
            assert response.status == 200
            time.sleep(1.5)
    server.wait_for(
        r"(?s)REGISTER of alice passed\n.*REGISTER 401 stale=True\n.*REGISTER of alice passed\n"
    )
    assert "authentication failed" not in server.text
