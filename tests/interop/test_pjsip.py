"""pjsip, by pjsua2: phones that write no port in To register on any port of `sippet serve` and call each other both ways."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ..programs import Program

pytest_plugins = ["tests.programs"]

PHONE = Path(__file__).parent / "pjsip_phone.py"


class Phone(Program):
    """A running pjsip_phone.py, in a process of its own, for pjsua2 has threads and one endpoint for each process."""

    def __init__(self, arguments, output, **environment):
        super().__init__(
            [sys.executable, PHONE, *arguments], output, stdin=subprocess.PIPE, **environment
        )

    def command(self, text):
        """Give it a command."""
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def does(self, text, *told):
        """Give it a command, and expect these lines, one after the other."""
        self.command(text)
        for pattern in told:
            self.expect(pattern)

    def settles(self):
        """Wait until it has no transaction left that would refuse a command."""
        self.does("settled", "settled")


@pytest.fixture
def phone(run):
    """Start a phone that registers: `phone("bob", server, "tls")`. More arguments are its options.

    With None in place of the server it does not register.
    """
    if find_spec("pjsua2") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "run: pip install pjsua2-python"
        )

    def start(user, server, transport, *options):
        registrar = "none" if server is None else uri(server, transport)
        return run(user, transport, registrar, *options, kind=Phone)

    return start


def uri(server, transport, user=""):
    """Return the URI of a server, or of a user there, by a transport: with the port of that listener."""
    return f"sip:{user}{'@' if user else ''}127.0.0.1:{server.port_of(transport)};transport={transport}"


LISTENERS = {
    "udp alone": ("udp",),
    "tls alone": ("tls",),
    "tcp alone": ("tcp",),
    "udp and tls": ("udp", "tls"),
}


@pytest.mark.rfc("3261 19.1.1", "3261 10.3")
@pytest.mark.parametrize("listeners", LISTENERS)
def test_pjsip_phones_register_without_a_port_and_call_each_other(phone, serve, pem, listeners):
    transports = LISTENERS[listeners]
    certificate = ("--cert", pem("127.0.0.1")) if "tls" in transports else ()
    server = serve(
        *certificate, listen=tuple(f"{transport}:127.0.0.1:0" for transport in transports)
    )
    ways = {"alice": transports[0], "bob": transports[-1]}
    phones = {user: phone(user, server, way) for user, way in ways.items()}
    for one in phones.values():
        one.wait_for("registration 200")
    for number, (caller, callee) in enumerate((("alice", "bob"), ("bob", "alice")), 1):
        phones[caller].command(f"dial {uri(server, ways[caller], callee)}")
        for one in phones.values():
            one.wait_for(f"call {number} CONFIRMED 200")
        phones[callee].command("hangup")
        for one in phones.values():
            one.wait_for(f"call {number} DISCONNECTED 200")
    for user, one in phones.items():
        one.command("quit")
        server.wait_for(
            f'registration ended: aor=sip:{user}@localhost .* reason="removed by the phone"'
        )
    assert not server.problems


CORE = """
from sippet_gevent import Location, Registrar, Stack, Timers, sdp

stack = Stack(timers=Timers(d=1.0, i=0.5, j=1.0, k=0.5, l=1.0, m=1.0))
stack.on("REGISTER")(Registrar(Location()))
AUDIO = sdp.MediaStream("audio", 40000, (sdp.PCMU, sdp.PCMA, sdp.TELEPHONE_EVENT))


@stack.on("INVITE")
def core(request, tx):
    if request.uri.user == "holds":
        with tx.accept(media=[AUDIO]) as call:
            call.wait(0.5)
            call.hold()
            call.wait(0.5)
            call.resume()
            call.wait(0.5)
            call.update(media=[AUDIO._replace(codecs=(sdp.PCMA,))])
            call.wait()
    else:
        with tx.accept(media=[AUDIO]) as call:
            call.wait()
"""


@pytest.fixture
def core(tmp_path, serve):
    """Serve CORE."""
    path = tmp_path / "core.py"
    path.write_text(CORE, "utf-8")
    return serve(f"{path}:stack")


@pytest.mark.rfc("3264 8.4", "3311 5.2")
def test_pjsip_holds_resumes_and_updates_a_call(phone, core):
    alice = phone("alice", core, "udp")
    alice.wait_for("registration 200")
    alice.does(f"dial {uri(core, 'udp', 'waits')}", "media 1 ACTIVE")
    alice.settles()
    alice.does("hold", "media 1 LOCAL_HOLD")
    alice.settles()
    alice.does("unhold", "media 1 ACTIVE")
    alice.settles()
    alice.does("update", "media 1 ACTIVE")
    assert core.stats()["calls"] == 1
    alice.command("hangup")
    alice.wait_for("call 1 DISCONNECTED 200")
    alice.command("quit")
    core.wait_until_empty()


@pytest.mark.rfc("3264 8.4", "3311 5.1")
def test_pjsip_is_held_and_resumed(phone, core):
    alice = phone("alice", core, "udp", "codecs")
    alice.wait_for("registration 200")
    alice.does(f"dial {uri(core, 'udp', 'holds')}", "media 1 ACTIVE")
    for after in ("REMOTE_HOLD", "ACTIVE", "ACTIVE"):  # the last one is after our UPDATE
        alice.expect(f"media 1 {after}")
    alice.command("hangup")
    alice.wait_for("call 1 DISCONNECTED 200")
    alice.command("quit")
    core.wait_until_empty()
