"""baresip, a soft phone: two of them register at `sippet serve` and call each other. No sound card is needed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

pytest_plugins = ["tests.programs"]

HERE = Path(__file__).parent

MODULES = next((folder for folder in Path("/usr/lib").glob("**/baresip/modules")), Path("/usr/lib/baresip/modules"))

CONFIG = """\
sip_listen 127.0.0.1:0
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
"""


class Phone:
    """A running baresip, registered. Commands go over its control port, what happens comes out as text."""

    def __init__(self, run, folder, user, server, answers):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            control = probe.getsockname()[1]
        folder.mkdir()
        (folder / "config").write_text(CONFIG.format(user=user, control=control, modules=MODULES))
        account = f"<sip:{user}@127.0.0.1:{server.port}>;auth_pass=none;regint=600"
        (folder / "accounts").write_text(f"{account};answermode={'auto' if answers else 'manual'}\n")
        (folder / "contacts").touch()
        self.uri = f"sip:{user}@127.0.0.1:{server.port}"
        self.program = run("baresip", "-f", folder)
        self.wait_for = self.program.wait_for
        self.wait_for(r"200 OK \(.*\) \[1 binding\]")
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
def phone(need, run, tmp_path):
    """Start a phone: `phone("bob", server)`; with `answers` it takes every call."""
    need("baresip")
    phones = []

    def start(user, server, answers=False):
        phones.append(Phone(run, tmp_path / user, user, server, answers))
        return phones[-1]

    yield start
    for phone in phones:
        phone.control.close()


def test_baresip_phones_talk_until_the_caller_hangs_up(phone, serve):
    server = serve()
    alice, bob = phone("alice", server), phone("bob", server, answers=True)
    alice.command("dial", bob.uri)
    alice.wait_for("180 Ringing")
    for one in (alice, bob):
        one.wait_for("Call established")
    alice.command("hangup")
    bob.wait_for("session closed: Connection reset by peer")
    assert "ERROR" not in server.text
    assert "WARNING" not in server.text


def test_baresip_callee_hangs_up(phone, serve):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    alice, bob = phone("alice", server), phone("bob", server, answers=True)
    alice.command("dial", bob.uri)
    bob.wait_for("Call established")
    alice.wait_for("Call established")
    bob.command("hangup")
    alice.wait_for("session closed: Connection reset by peer")
    server.wait_until_empty()


def test_baresip_callee_refuses(phone, serve):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    alice, bob = phone("alice", server), phone("bob", server)
    alice.command("dial", bob.uri)
    bob.wait_for("ncoming call")
    bob.command("hangup")
    alice.wait_for("session closed: 486")
    server.wait_until_empty()


def test_baresip_caller_gives_up_while_it_rings(phone, serve):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    alice, bob = phone("alice", server), phone("bob", server)
    alice.command("dial", bob.uri)
    bob.wait_for("ncoming call")
    alice.wait_for("180 Ringing")
    alice.command("hangup")
    bob.wait_for("session closed")
    server.wait_until_empty()


def test_baresip_unregisters_when_it_quits(phone, serve, sippet):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    bob = phone("bob", server)
    bob.quit()
    assert sippet("ping", bob.uri).stdout.startswith("404 Not Found")
    server.wait_until_empty()
