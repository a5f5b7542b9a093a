"""examples/click_to_call.py and softphone.py, as programs, with baresip and SIPp as their peers."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from tests.docs.blocks import ROOT
from tests.ports import free_port

from .test_baresip import phone, serve_all
from .test_sipp import sipp

__all__ = ["phone", "serve_all", "sipp"]

pytest_plugins = ["tests.programs"]

EXAMPLES = ROOT / "examples"


@pytest.fixture
def softphone(run):
    """Start the soft phone; returns `(program, type)`."""

    def start(**environment):
        environment = {"LISTEN": "udp:127.0.0.1:0", **environment}
        program = run(
            sys.executable, EXAMPLES / "softphone.py", stdin=subprocess.PIPE, **environment
        )
        program.wait_for("listening: address=udp:")

        def type_(line):
            program.process.stdin.write(f"{line}\n".encode())
            program.process.stdin.flush()

        return program, type_

    return start


@pytest.mark.rfc("3264 8.4")
def test_softphone_calls_holds_and_hangs_up_on_baresip(phone, serve_all, softphone):
    server = serve_all()
    bob = phone("bob", server, answers=True)
    program, write = softphone()
    write(f"call {bob.uri}")
    program.wait_for("connected to sip:bob@127.0.0.1")
    bob.wait_for("Call established")
    write("hold")
    write("resume")
    write("hangup")
    bob.wait_for("session closed: Connection reset by peer")
    program.wait_for("ended: bye by us")
    assert "hold:" not in program.text and "resume:" not in program.text
    write("quit")
    assert program.wait() == 0


def test_softphone_answers_baresip_which_hangs_up(phone, serve_all, softphone):
    server = serve_all()
    user = f"sip:alice@127.0.0.1:{server.port}"
    program, write = softphone(REGISTER=user)
    program.wait_for("registered: 200 OK")
    bob = phone("bob", server)
    bob.command("dial", user)
    program.wait_for("calls: answer or reject")
    write("answer")
    bob.wait_for("Call established")
    bob.command("hangup")
    program.wait_for("ended: bye by peer")
    write("quit")
    assert program.wait() == 0
    server.wait_for("registration ended: aor=sip:alice@")


def test_softphone_without_a_keyboard_answers_by_itself(softphone, sipp):
    program, _ = softphone(ANSWER="0.2")
    port = program.wait_for(r"address=udp:127.0.0.1:(\d+)")[1]
    sipp("phone_holds", "-s", "x", to=f"sip:127.0.0.1:{port}").wait_for_success(1)
    program.wait_for("the peer: digit 5")
    program.wait_for("ended: bye by peer")


@pytest.mark.rfc("3725 4.4")
@pytest.mark.parametrize("leaver", [0, 1])
def test_click_connects_two_baresip_phones(phone, serve_all, run, leaver):
    server, page = serve_all(), free_port()
    phones = [phone("alice", server, answers=True), phone("bob", server, answers=True)]
    program = run(sys.executable, EXAMPLES / "click_to_call.py", PAGE=f"127.0.0.1:{page}")
    program.wait_for("started: ")
    form = urlencode({"a": phones[0].uri, "b": phones[1].uri}).encode()
    assert b"<form" in urlopen(f"http://127.0.0.1:{page}/", form, timeout=10).read()
    for one in phones:
        one.wait_for("Call established")
    while b"connected" not in (shown := urlopen(f"http://127.0.0.1:{page}/").read()):
        assert program.process.poll() is None
    phones[leaver].command("hangup")
    phones[1 - leaver].wait_for("session closed: Connection reset by peer")
    while b"ended: bye by " not in (shown := urlopen(f"http://127.0.0.1:{page}/").read()):
        assert b"not connected" not in shown


def test_click_from_another_site_places_no_call(run):
    page = free_port()
    program = run(sys.executable, EXAMPLES / "click_to_call.py", PAGE=f"127.0.0.1:{page}")
    program.wait_for("started: ")
    form = urlencode({"a": "sip:<x>@127.0.0.1:9", "b": "sip:y@127.0.0.1:9"}).encode()
    url = f"http://127.0.0.1:{page}/"
    urlopen(Request(url, form, {"Sec-Fetch-Site": "cross-site"}), timeout=10)
    assert b"sip:y@" not in urlopen(url, timeout=10).read()
    urlopen(Request(url, form, {"Sec-Fetch-Site": "same-origin"}), timeout=10)
    assert b"sip:&lt;x&gt;@" in urlopen(url, timeout=10).read()
