"""`sippet serve --config`: a server from one file, which SIGHUP reads again."""

from __future__ import annotations

import os
import random
import signal
import socket
import ssl
import time

import gevent
import pytest

from sippet_gevent import Authenticator, Credentials, Reject, Request, Stack, ha1

from ..conditions import PATIENCE, until
from ..ports import free_port
from ..programs import SIPPET, Server

pytest_plugins = ["tests.programs"]


@pytest.fixture
def client():
    with Stack("udp:127.0.0.1:0", "tcp:127.0.0.1:0") as stack:
        yield stack


@pytest.fixture
def configured(run, tmp_path):
    """Start `sippet serve --config sippet.toml` with this text; `reload(text)` replaces it, and sends SIGHUP."""
    path = tmp_path / "sippet.toml"

    def start(text, *options):
        path.write_text(text)
        server = run("--config", path, *options, kind=Server)

        def reload(text, *wait_for, log=None):
            """Replace the file, and return the log lines of its reload: all that are waited for."""
            wait_for = wait_for or ("configuration reloaded: ",)
            path.write_text(text)
            seen = len(server.text) if log is None else 0
            server.signal(signal.SIGHUP)
            deadline = time.monotonic() + PATIENCE
            while True:
                told = (
                    server.text[seen:] if log is None else (log.exists() and log.read_text()) or ""
                )
                if all(each in told for each in wait_for) and told.endswith("\n"):
                    return told
                assert server.process.poll() is None, f"the server has ended: {server.text}"
                assert time.monotonic() < deadline, told
                gevent.sleep(0.05)

        server.reload = reload
        return server

    return start


def register(
    client, server, user="alice", password="secret", domain="office.example", realm="office.example"
):
    """Register a phone. Return the status."""
    aor = f"sip:{user}@{domain}"
    credentials = Credentials(user, password, realm=realm, hosts=(domain, "127.0.0.1"))
    return client.request(
        "REGISTER", f"sip:{domain}", next_hop=server.uri, to=f"<{aor}>", from_=f"<{aor}>;tag=1",
        contact="<sip:a@127.0.0.1:9>", credentials=credentials, timeout=PATIENCE,
    ).status  # fmt: skip


LISTEN = '[[listen]]\naddress = "udp:127.0.0.1:0"\n'

OFFICE = f"""
domains = ["office.example"]
{LISTEN}
[users]
alice = "secret"
"""


def test_office_of_one_file_asks_for_passwords(configured, client, tmp_path):
    (tmp_path / "users").write_text(
        f"bob:office.example:{ha1('bob', 'office.example', 'other', 'MD5')}\n"
    )
    server = configured('users_file = "users"\n' + OFFICE, "--alias", "home.example")
    # bob has an HA1 of MD5 alone, so only MD5 is offered
    assert register(client, server) == 200
    assert register(client, server, domain="home.example", user="alice") == 200
    assert register(client, server, "bob", "other") == 200
    assert register(client, server, "bob", "secret") == 401
    assert "passwords: users=2 realm=office.example" in server.text
    server.wait_for("authentication failed: source=127.0.0.1 user=bob")


def test_check_says_what_is_wrong_and_opens_nothing(sippet, tmp_path):
    path = tmp_path / "sippet.toml"
    path.write_text('database = "phones.db"\ndomains = ["office.example"]\n' + LISTEN)
    ended = sippet("serve", "--config", path, "--check")
    assert (ended.returncode, ended.stdout) == (0, f"{path}: the settings can be used\n")
    assert not (tmp_path / "phones.db").exists()
    path.write_text('[tls]\ncertificate = "no.pem"\nkeys = 1\n')
    ended = sippet("serve", "--config", path, "--check")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"sippet: {path}:2: [tls] certificate: no such file 'no.pem': write the path of a PEM file",
        f"sippet: {path}:3: [tls] keys: there is no such key: write key",
    ]
    path.write_text('database = "phones.db"\n')
    ended = sippet("serve", "--config", path, "--check")
    assert ended.stderr.startswith(
        f'sippet: {path}:1: database: asks for the passwords of a domain: write domains = ["office.example"] in the top'
    )


def test_sample_is_printed(sippet, tmp_path):
    text = sippet("serve", "--sample").stdout
    (tmp_path / "sippet.toml").write_text(text)
    assert sippet("serve", "--config", "sippet.toml", "--check").returncode == 0


def test_core_of_a_file_is_beside_it_and_may_be_patched(run, client, tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "app.py").write_text(
        "from gevent import monkey\n"
        "def core(request, tx):\n    return 200 if monkey.is_module_patched('socket') else 500\n"
    )
    (folder / "sippet.toml").write_text('monkey = true\ncore = "app.py:core"\n' + LISTEN)
    server = run("--config", folder / "sippet.toml", kind=Server)
    assert client.request("MESSAGE", server.uri, timeout=PATIENCE).status == 200


# ---- SIGHUP


def test_sighup_reloads_users_domains_limits_filters_and_log(configured, client, tmp_path):
    server = configured(OFFICE)
    assert register(client, server) == 200
    assert register(client, server, "bob", "other") == 401
    (tmp_path / "users").write_text(
        f"carol:office.example:{ha1('carol', 'office.example', 'c', 'MD5')}\n"
    )
    users = OFFICE.replace('alice = "secret"', 'bob = "other"')
    changed = users.replace('.example"]', '.example", "new.example"]\nusers_file = "users"')
    told = server.reload(f"{changed}[filters]\nscanners = true\n[limits]\ntransactions = 9999\n")
    assert "changed=domains,users,users_file,filters.scanners,limits.transactions\n" in told
    assert register(client, server) == 401
    assert register(client, server, "bob", "other") == 200
    assert register(client, server, "carol", "c", domain="new.example") == 200
    scanner = client.send(Request("OPTIONS", server.uri, user_agent="friendly-scanner"))
    server.wait_for("messages filtered: count=1 source=127.0.0.1 reason=scanner")
    assert scanner.is_pending
    log = tmp_path / "sippet.log"
    server.reload(f'{changed}[log]\nfile = "sippet.log"\n', log=log)
    assert client.request("OPTIONS", server.uri, user_agent="friendly-scanner").status == 407
    log.rename(tmp_path / "sippet.log.1")
    server.reload(f'{changed}[log]\nfile = "sippet.log"\n', log=log)


@pytest.mark.parametrize(
    "change",
    [
        ("[users]", "[bans]\nseconds = 2000\n[users]"),
        ("domains", 'algorithms = ["MD5"]\ndomains'),
        ('["office.example"]', '["new.example", "office.example"]'),
    ],
    ids=["bans", "algorithms", "realm"],
)
def test_reload_keeps_bans(configured, client, change):
    text = OFFICE.replace("[users]", "[bans]\nfailures = 2\n[users]") + 'bob = "other"\n'
    server = configured(text)
    for _ in range(2):
        assert register(client, server, password="guess") == 401
    assert register(client, server) == 403
    changed = OFFICE.replace(*change) + 'bob = "other"\n'
    told = server.reload(changed)
    assert "changed=" in told and "changed=none" not in told
    realm = "new.example" if "new" in change[1] else "office.example"
    assert register(client, server, realm=realm) == 403
    assert register(client, server, "bob", "other", realm=realm) == 200


def test_reload_of_a_file_with_a_mistake_changes_nothing(configured, client):
    server = configured(OFFICE)
    told = server.reload(
        OFFICE.replace("secret", "other") + "[filters]\nrate = -1\nrat = 1\n",
        "[filters] rat:",
        "[filters] rate:",
    )
    assert 'configuration not reloaded: reason="' in told
    assert "sippet.toml:9: [filters] rate: must be greater than 0" in told
    assert 'hint="the old one stays"' in told
    assert register(client, server) == 200


def test_sighup_while_a_server_waits_for_its_port_reloads_once_it_runs(run, tmp_path):
    """A supervisor may reload a service that it has just started. By default, SIGHUP ends a program."""
    path = tmp_path / "sippet.toml"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        text = OFFICE.replace("1:0", f"1:{taken.getsockname()[1]}")
        path.write_text(text)
        server = run(*SIPPET, "serve", "--wait", "--config", path)
        server.wait_for("waiting for an address: ")
        path.write_text(f"{text}[bans]\nfailures = 4\n")
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGUSR1)
    server.wait_for("configuration reloaded: .* changed=bans.failures\n")
    server.wait_for(" stats: ")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_sighup_reaches_a_server_at_rest_each_time(configured):
    server = configured(OFFICE)
    for number in range(1, 31):
        gevent.sleep(random.uniform(0, 0.06))  # at any point between two ticks of the watchdog
        assert "changed=bans.failures\n" in server.reload(f"{OFFICE}[bans]\nfailures = {number}\n")


def test_last_file_of_a_burst_of_signals_is_used(configured, client, tmp_path):
    server = configured(OFFICE)
    for number in range(30):
        last = f"last{number}.example"
        (tmp_path / "new.toml").write_text(OFFICE.replace("office.example", last))
        os.replace(tmp_path / "new.toml", tmp_path / "sippet.toml")
        server.signal(signal.SIGHUP)
        gevent.sleep(random.choice((0, 0.002, 0.02)))
    deadline = time.monotonic() + PATIENCE
    while register(client, server, domain=last, realm=last) != 200:
        assert time.monotonic() < deadline, server.text
        gevent.sleep(0.05)
    assert "not reloaded" not in server.text


def test_reload_names_each_setting_that_needs_a_restart(configured, client):
    server = configured(OFFICE)
    told = server.reload(
        OFFICE.replace("udp:127.0.0.1:0", "tcp:127.0.0.1:0") + "[limits]\ndatagram = 0\n"
    )
    lines = [line.partition("setting not reloaded: ")[2] for line in told.splitlines()]
    assert [line for line in lines if line] == [
        'key=limits.datagram reason="it needs a restart"',
        'key=listen reason="it needs a restart"',
    ]
    assert register(client, server) == 200


def test_calls_go_on_during_a_reload(configured, client, tmp_path):
    (tmp_path / "app.py").write_text(
        "def core(request, tx):\n"
        "    if request.method != 'INVITE': return 200\n"
        "    tx.respond(180)\n    tx.wait(1)\n"
        "    with tx.accept(body=request.body) as call:\n        call.ended.wait()\n"
    )
    text = 'core = "app.py:core"\n' + LISTEN
    server = configured(text)
    ringing = gevent.spawn(client.invite, server.uri, body=OFFER, timeout=PATIENCE)
    early = client.invite(server.uri, body=OFFER, timeout=PATIENCE)
    server.reload(text + "[filters]\nrate = 1000\n")
    call = ringing.get(timeout=PATIENCE)
    assert not early.ended.is_set() and not call.ended.is_set()
    assert early.request("OPTIONS", timeout=PATIENCE).status == 200
    early.hangup()
    call.hangup()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


OFFER = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0\r\n"
)


def test_sighup_reads_certificates_again(configured, pem):
    pem("old.example")
    text = '[tls]\ncertificate = "cert.pem"\n[[listen]]\naddress = "tls:127.0.0.1:0"\n'
    server = configured(text)

    def names():
        context = ssl.create_default_context(cafile=pem.ca)
        context.check_hostname = False
        with (
            socket.create_connection(("127.0.0.1", server.port)) as raw,
            context.wrap_socket(raw) as sock,
        ):
            return sock.getpeercert()["subjectAltName"]

    assert names() == (("DNS", "old.example"),)
    pem("new.example", file="new.pem")
    server.reload(text.replace("cert.pem", "new.pem"))
    assert names() == (("DNS", "new.example"),)
    pem("again.example", file="new.pem")
    server.reload(text.replace("cert.pem", "new.pem"))
    assert names() == (("DNS", "again.example"),)


# ---- trunks


@pytest.fixture
def carrier():
    """Return a carrier on the loopback: a Stack with `registers` and `invites`."""

    def core(request, tx):
        tx.authenticate(gate)
        if request.method == "REGISTER":
            stack.registers.append(request)
            return request.response(200, contact=request.contact, expires=request.expires)
        stack.invites.append(request)
        return stack.status

    gate = Authenticator(
        realm="carrier", users={"100": "secret", "200": "other"}, owns=lambda user, uri: True
    )
    with Stack("udp:127.0.0.1:0", core=core) as stack:
        stack.registers, stack.invites, stack.status = [], [], 486
        stack.host = stack.addresses[0].removeprefix("udp:")
        yield stack


@pytest.fixture
def phone():
    """Return a phone at another address than the carrier, because a carrier is known by its address."""
    with Stack("udp:127.0.0.2:0") as stack:
        yield stack


def test_trunks_of_the_file_register_and_take_numbers(configured, phone, carrier, tmp_path):
    (tmp_path / "password").write_text("other\n")
    first = f"""
[trunks.first]
account = "sip:100@{carrier.host}"
password = "secret"
numbers = ["0"]
next_on = [486]
probe = 0
"""
    second = f"""
[trunks.second]
account = "sip:9@{carrier.host}"
user = "200"
password_file = "password"
numbers = ["0"]
strip = "0"
prepend = "+49"
caller_id = "+4930"
probe = 0
"""
    server = configured(OFFICE + first + second)
    until(lambda: len(carrier.registers) == 2)
    assert sorted(request.to.uri.user for request in carrier.registers) == ["100", "9"]
    alice = Credentials("alice", "secret", hosts=("office.example", "127.0.0.1"))

    def call(number):
        with pytest.raises(Reject) as refused:
            phone.invite(
                f"sip:{number}@office.example", next_hop=server.uri, body=OFFER, timeout=PATIENCE,
                from_="<sip:alice@office.example>", credentials=alice,
            )  # fmt: skip
        return refused.value.status

    assert call("030123") == 486
    numbers = [(each.uri.user, each.from_.uri.user) for each in carrier.invites]
    assert numbers == [("030123", "100"), ("+4930123", "+4930")]
    # the second trunk keeps its account, the first one unregisters
    told = server.reload(OFFICE + second.replace('numbers = ["0"]', 'numbers = ["00"]'))
    assert "changed=trunks" in told
    until(lambda: len(carrier.registers) == 3)
    last = carrier.registers[-1]
    assert (last.to.uri.user, last.expires) == ("100", 0)
    assert (call("030123"), call("0030123")) == (404, 486)
    assert len(carrier.registers) == 3


def test_trunk_needs_passwords_of_phones(sippet, tmp_path):
    path = tmp_path / "sippet.toml"
    path.write_text('open = true\n[trunks.a]\naccount = "sip:1@a.example"\n')
    ended = sippet("serve", "--config", path, "--check")
    assert ended.returncode == 2
    assert "open: would let everybody call at your expense by a trunk" in ended.stderr


# ---- ports


def test_taken_port_is_waited_for(run):
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        program = run(*SIPPET, "serve", "--wait", "--listen", f"udp:127.0.0.1:{port}")
        program.wait_for(f'waiting for an address: reason="cannot listen on udp:127.0.0.1:{port}:')
        assert "listening: " not in program.text
    program.wait_for(f"listening: address=udp:127.0.0.1:{port}")
