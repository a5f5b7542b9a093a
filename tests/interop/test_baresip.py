"""baresip, a soft phone: two of them register at `sippet serve` and call each other. No sound card is needed."""

from __future__ import annotations

import json
import socket
import time
from functools import partial
from pathlib import Path

import pytest

from tests.ports import free_port

from ..programs import PATIENCE, SIPPET

pytest_plugins = ["tests.programs"]

HERE = Path(__file__).parent

MODULES = next(
    (folder for folder in Path("/usr/lib").glob("**/baresip/modules")),
    Path("/usr/lib/baresip/modules"),
)

ANYWHERE = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tls:127.0.0.1:0")

CONFIG = """\
sip_listen 127.0.0.1:0
sip_cafile {ca}
sip_verify_server yes
net_interface 127.0.0.1
audio_player aubridge,{user}
audio_source aubridge,{user}
audio_alert aubridge,{user}
ctrl_tcp_listen 127.0.0.1:{control}
module_path {modules}
module g711.so
module aubridge.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
{more}
"""
"""Debian 12 has baresip 1.0.0, which does not know sip_verify_server yet."""


class Phone:
    """A running baresip, registered. Commands go over its control port, what happens comes out as text.

    It reaches the server by its transport, and its Contact names it, with the phone's own listening port. The domain is the
    same for all: host and port of the server's first address, or `domain`. `more` goes into its configuration, `extra` to its
    account.
    """

    def __init__(
        self,
        run,
        folder,
        user,
        server,
        transport,
        *,
        ca,
        more,
        extra,
        domain,
        password="none",
        username=None,
        expected="200 OK",
    ):
        control = free_port()
        folder.mkdir()
        (folder / "config").write_text(
            CONFIG.format(user=user, control=control, modules=MODULES, ca=ca, more=more)
        )
        self.uri = f"sip:{user}@{domain or f'127.0.0.1:{server.port}'}"
        account = f"<{self.uri}>;auth_pass={password};regint=600{extra}"
        if username is not None:
            account += f";auth_user={username}"
        way = f"sip:127.0.0.1:{server.port_of(transport)};transport={transport}"
        (folder / "accounts").write_text(f'{account};outbound="{way}"\n')
        (folder / "contacts").touch()
        self.program = run("baresip", "-f", folder)
        self.wait_for = self.program.wait_for
        if expected == "200 OK":
            expected = r"200 OK \(.*\) \[1 binding\]"
            expected = rf"/{transport.upper()}/v4}} {expected}"
        self.wait_for(expected)
        self.control = socket.create_connection(("127.0.0.1", control), timeout=20)

    def command(self, name, value=""):
        """Give it a command of its menu."""
        text = json.dumps({"command": name, "params": value})
        self.control.sendall(f"{len(text)}:{text},".encode())

    def quit(self):
        """Let it unregister and end."""
        self.command("quit")
        assert self.program.wait() == 0
        self.control.close()


@pytest.fixture
def phone(need, run, tmp_path, pem):
    """Start a phone: `phone("bob", server, "tcp")`; with `answers` it takes every call.

    Over TLS it also takes connections, with a certificate of its own, as RFC 3261 has it, unless `certified` is False.
    With `outbound` it wants to be called by the connection that it has registered by, as RFC 5626 has it.
    """
    need("baresip")
    phones = []

    def start(
        user, server, transport="udp", answers=False, certified=True, outbound=False, domain=None,
        **options,
    ):  # fmt: skip
        more = f"sip_certificate {pem('127.0.0.1', file=f'{user}.pem')}\n" if certified else ""
        more += "module_tmp uuid.so" if outbound else ""
        extra = (
            f";answermode={'auto' if answers else 'manual'}{';sipnat=outbound' if outbound else ''}"
        )
        phones.append(
            Phone(
                run,
                tmp_path / user,
                user,
                server,
                transport,
                ca=pem.ca,
                more=more,
                extra=extra,
                domain=domain,
                **options,
            )
        )
        return phones[-1]

    yield start
    for phone in phones:
        phone.control.close()


@pytest.fixture
def serve_all(serve, pem):
    """Start `sippet serve` over UDP, TCP and TLS; it trusts the phones' certificates."""

    def start(*arguments, names=("127.0.0.1",)):
        return serve(*arguments, "--cert", pem(*names), "--ca", pem.ca, listen=ANYWHERE)

    return start


ways = pytest.mark.parametrize(
    ("caller", "callee"),
    [
        ("udp", "udp"),
        ("tcp", "tcp"),
        ("tls", "tls"),
        ("udp", "tls"),
        ("tls", "udp"),
        ("tcp", "udp"),
    ],
    ids=["udp", "tcp", "tls", "udp to tls", "tls to udp", "tcp to udp"],
)
"""The transports by which the two phones reach the server."""


@ways
def test_baresip_phones_talk_until_the_caller_hangs_up(phone, serve_all, caller, callee):
    server = serve_all()
    alice, bob = phone("alice", server, caller), phone("bob", server, callee, answers=True)
    alice.command("dial", bob.uri)
    alice.wait_for("180 Ringing")
    for one in (alice, bob):
        one.wait_for("Call established")
    alice.command("hangup")
    bob.wait_for("session closed: Connection reset by peer")
    assert not server.problems


@pytest.mark.rfc("3261 22.2", "3261 22.3")
def test_baresip_phones_with_passwords_talk(phone, serve_all):
    server = serve_all(f"{HERE / 'cores.py'}:with_passwords")
    alice, bob = phone("alice", server), phone("bob", server, answers=True)
    alice.command("dial", bob.uri)
    for one in (alice, bob):
        one.wait_for("Call established")
    alice.command("hangup")
    bob.wait_for("session closed: Connection reset by peer")
    assert "authentication failed" not in server.text


@pytest.mark.rfc("3261 19.1.1", "3261 10.3")
@pytest.mark.parametrize(
    "domains", [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("office.example",) * 2]
)
@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_baresip_phones_without_a_port_in_their_domain_talk(phone, serve, pem, transport, domains):
    certificate = ("--cert", pem("127.0.0.1"), "--ca", pem.ca) if transport == "tls" else ()
    server = serve(*certificate, listen=f"{transport}:127.0.0.1:0")
    alice, bob = (
        phone(user, server, transport, answers=user == "bob", domain=domain)
        for user, domain in zip(("alice", "bob"), domains)
    )
    alice.command("dial", bob.uri)
    for one in (alice, bob):
        one.wait_for("Call established")
    alice.command("hangup")
    bob.wait_for("session closed: Connection reset by peer")


@ways
def test_baresip_callee_hangs_up(phone, serve_all, caller, callee):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    alice, bob = phone("alice", server, caller), phone("bob", server, callee, answers=True)
    alice.command("dial", bob.uri)
    bob.wait_for("Call established")
    alice.wait_for("Call established")
    bob.command("hangup")
    alice.wait_for("session closed: Connection reset by peer")
    server.wait_until_empty()


@ways
def test_baresip_callee_refuses(phone, serve_all, caller, callee):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    alice, bob = phone("alice", server, caller), phone("bob", server, callee)
    alice.command("dial", bob.uri)
    bob.wait_for("ncoming call")
    bob.command("hangup")
    alice.wait_for("session closed: 486")
    server.wait_until_empty()


@ways
def test_baresip_caller_gives_up_while_it_rings(phone, serve_all, caller, callee):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    alice, bob = phone("alice", server, caller), phone("bob", server, callee)
    alice.command("dial", bob.uri)
    bob.wait_for("ncoming call")
    alice.wait_for("180 Ringing")
    alice.command("hangup")
    bob.wait_for("session closed")
    server.wait_until_empty()


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_baresip_unregisters_when_it_quits(phone, serve_all, sippet, transport):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    bob = phone("bob", server, transport)
    assert sippet("ping", bob.uri).stdout.startswith("200 OK")
    bob.quit()
    deadline = time.monotonic() + PATIENCE  # the server may read its last bytes after its end
    while not (told := sippet("ping", bob.uri).stdout).startswith("404 Not Found"):
        assert time.monotonic() < deadline, told
    server.wait_until_empty()


def test_baresip_of_debian_accepts_a_certificate_for_another_name(phone, serve_all):
    # It reads sip_cafile and verifies nothing: its libre 1.1 asks no TLS peer of SIP who it is. The clients that do are
    # `sippet ping` and openssl, in test_streams.py. When this fails, baresip has learnt it: then it must refuse.
    server = serve_all(names=("other.example",))
    phone("bob", server, "tls")


# ---- phones that are reached by their own connection only, as most are


@pytest.fixture
def behind(phone):
    """Start a phone as `phone` does, without a certificate: no server can connect to it over TLS. It asks for RFC 5626."""
    return partial(phone, certified=False, outbound=True)


ways_behind = pytest.mark.parametrize(
    ("caller", "callee"),
    [("tcp", "tcp"), ("tls", "tls"), ("udp", "tls"), ("tls", "udp")],
    ids=["tcp", "tls", "udp to tls", "tls to udp"],
)


@pytest.mark.rfc("5626 5.3.2", "5626 7")
@ways_behind
def test_baresip_callee_hangs_up_with_outbound(behind, serve_all, caller, callee):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    alice, bob = behind("alice", server, caller), behind("bob", server, callee, answers=True)
    alice.command("dial", bob.uri)
    bob.wait_for("Call established")
    alice.wait_for("Call established")
    bob.command("hangup")
    alice.wait_for("session closed: Connection reset by peer")
    server.wait_until_empty()


@pytest.mark.rfc("5626 7")
@ways_behind
def test_baresip_caller_hangs_up_with_outbound(behind, serve_all, caller, callee):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    alice, bob = behind("alice", server, caller), behind("bob", server, callee, answers=True)
    alice.command("dial", bob.uri)
    bob.wait_for("Call established")
    alice.wait_for("Call established")
    alice.command("hangup")
    bob.wait_for("session closed: Connection reset by peer")
    connections = 2 - (caller, callee).count("udp")
    assert server.wait_until_empty()["connections"] == connections  # none but those of the phones


@pytest.mark.rfc("5626 7")
@ways_behind
def test_baresip_caller_with_outbound_gives_up_while_it_rings(behind, serve_all, caller, callee):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    alice, bob = behind("alice", server, caller), behind("bob", server, callee)
    alice.command("dial", bob.uri)
    bob.wait_for("ncoming call")
    alice.wait_for("180 Ringing")
    alice.command("hangup")
    bob.wait_for("session closed")
    server.wait_until_empty()


@pytest.mark.rfc("5626 6", "5626 4.4.2")
def test_baresip_with_outbound_pings_as_often_as_its_registrar_says(behind, serve_all):
    server = serve_all(
        f"{HERE / 'cores.py'}:asking_to_ping"
    )  # within a second; by itself it would within 29
    behind("alice", server, "udp")
    deadline = time.monotonic() + 10
    while "answered':3" not in str(server.stats().get("stun")):
        assert time.monotonic() < deadline, server.text
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("caller", "callee"), [("udp", "tls"), ("tls", "udp")], ids=["udp to tls", "tls to udp"]
)
def test_baresip_talks_over_tls_with_neither_certificate_nor_outbound(
    phone, serve_all, caller, callee
):
    server = serve_all(f"{HERE / 'cores.py'}:proxy")
    alice = phone("alice", server, caller, certified=False)
    bob = phone("bob", server, callee, answers=True, certified=False)
    alice.command("dial", bob.uri)
    bob.wait_for("Call established")
    alice.wait_for("Call established")
    bob.command("hangup")
    alice.wait_for("session closed: Connection reset by peer")
    server.wait_until_empty()


@pytest.mark.rfc("3264 8.4")
def test_baresip_is_called_held_and_resumed_by_the_command(phone, serve_all, sippet):
    server = serve_all()
    phone("bob", server, answers=True)
    ended = sippet("call", f"bob@127.0.0.1:{server.port}", "--hold", "--duration", "5")
    told = [line[9:] for line in ended.stdout.splitlines()]
    assert (ended.returncode, told[-3:]) == (
        0,
        ["held by us", "resumed by us", "ended by us: BYE"],
    )


def test_baresip_hangs_up_on_the_command(phone, serve_all, run):
    server = serve_all()
    bob = phone("bob", server)
    call = run(*SIPPET, "call", f"bob@127.0.0.1:{server.port}")
    call.wait_for("ringing")
    bob.command("accept")
    call.wait_for("answered by .*, audio at 127.0.0.1:")
    bob.command("hangup")
    assert call.wait() == 0
    assert call.text.endswith("ended by the peer: BYE\n")


def test_baresip_refuses_the_command(phone, serve_all, run):
    server = serve_all()
    bob = phone("bob", server)
    call = run(*SIPPET, "call", f"bob@127.0.0.1:{server.port}")
    bob.wait_for("ncoming call")
    bob.command("hangup")
    assert call.wait() == 1
    assert "refused by the peer: 486" in call.text
