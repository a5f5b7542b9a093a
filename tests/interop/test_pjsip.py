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


@pytest.fixture
def phone(run):
    """Start a phone that registers: `phone("bob", server, "tls")`."""
    if find_spec("pjsua2") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "run: pip install pjsua2-python"
        )

    def start(user, server, transport):
        return run(user, transport, uri(server, transport), kind=Phone)

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


@pytest.mark.timeout(60)
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
    assert "WARNING" not in server.text and "ERROR" not in server.text
