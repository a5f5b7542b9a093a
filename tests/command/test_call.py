"""`sippet call`, as a user runs it: in a process of its own, against cores of the library."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import textwrap
import time
from itertools import groupby

import pytest

from sippet_gevent.__main__ import main

from ..programs import PATIENCE, SIPPET

pytest_plugins = ["tests.programs"]

CALLEE = """
    from sippet_gevent import Stack, sdp

    AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.TELEPHONE_EVENT))
    stack = Stack()

    @stack.on("INVITE")
    def answer(request, tx):
        print("from", request.from_.uri, "body", request.body, flush=True)
        tx.respond(180)
        tx.wait({ring})
        with tx.accept(media=[AUDIO]) as call:
            {talk}
            for event in call.events():
                print("event", event.kind, event.digit, event.end or "", flush=True)
"""


@pytest.fixture
def callee(serve, tmp_path):
    """Serve a core that rings and answers: `callee(ring=0, talk="call.hold()")`."""

    def start(ring=0, talk="pass", text=CALLEE):
        core = text.format(ring=ring, talk=talk)
        (tmp_path / "callee.py").write_text(textwrap.dedent(core))
        return serve("callee.py:stack")

    return start


@pytest.fixture
def call(run):
    """Start `sippet call`; returns the running Program."""

    def start(uri, *arguments):
        return run(*SIPPET, "call", uri, *arguments)

    return start


def wait_for_the_end(server):
    """Wait until the server has neither call nor core. Its transactions live on (timers I and J)."""
    deadline = time.monotonic() + PATIENCE
    while (stats := server.stats()) and ("calls" in stats or "handlers" in stats):
        assert time.monotonic() < deadline, stats
        time.sleep(0.05)


def refusing(status):
    return f"""
    from sippet_gevent import Stack
    stack = Stack(core=lambda request, tx: {status})
    """


def test_call_is_answered_and_hung_up_after_its_duration(sippet, callee):
    server = callee()
    ended = sippet("call", f"bob@127.0.0.1:{server.port}", "--duration", "0.3")
    assert re.fullmatch(
        rf" +\d+\.\d  calling sip:bob@127\.0\.0\.1:{server.port}\n"
        r" +\d+\.\d  ringing: 180 Ringing\n"
        rf" +\d+\.\d  answered by sip:127\.0\.0\.1:{server.port}, audio at 127\.0\.0\.1:4000\n"
        r" +\d+\.\d  ended by us: BYE\n",
        ended.stdout,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    server.wait_for("event end  bye by peer")
    wait_for_the_end(server)


def test_call_that_the_peer_ends_is_exit_code_0(sippet, callee):
    reason = """call.hangup(reason_header='Q.850;cause=16;text="bye"')"""
    ended = sippet("call", f"127.0.0.1:{callee(talk=reason).port}")
    assert ended.returncode == 0
    assert "ended by the peer: BYE, Q.850;cause=16" in ended.stdout


@pytest.mark.parametrize(
    ("status", "advice"),
    [(486, "try again later"), (488, "--sdp FILE"), (404, "user name"), (403, "--from")],
)
def test_refused_call_says_what_to_do_and_is_exit_code_1(sippet, callee, status, advice):
    ended = sippet("call", f"127.0.0.1:{callee(text=refusing(status)).port}")
    assert ended.returncode == 1
    assert f"refused by the peer: {status} " in ended.stdout
    assert advice in ended.stderr and ended.stderr.count("\n") == 1


def test_call_that_is_not_answered_in_time_is_cancelled(sippet, callee):
    server = callee(ring=60)
    ended = sippet("call", f"127.0.0.1:{server.port}", "--timeout", "1")
    assert ended.returncode == 1
    assert ended.stdout.endswith("not answered in time\n")
    assert ended.stderr == "sippet: wait longer: --timeout SECONDS\n"
    wait_for_the_end(server)


def test_call_to_a_silent_peer_is_exit_code_1(sippet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        uri = f"sip:127.0.0.1:{silent.getsockname()[1]}"
        ended = sippet("call", uri, "--timeout", "0.2")
    assert ended.returncode == 1
    assert "sippet: nothing came back: check address" in ended.stderr


def test_call_to_an_unknown_host_is_exit_code_1(sippet):
    ended = sippet("call", "no.such.host.invalid")
    assert ended.returncode == 1
    assert "not reached: no.such.host.invalid: " in ended.stdout
    assert "see how it is looked up with -v" in ended.stderr


def test_digits_are_sent_before_the_call_is_held_and_resumed(sippet, callee):
    server = callee()
    ended = sippet(
        "call", f"127.0.0.1:{server.port}", "--digits", "1#", "--hold", "--duration", "5.5"
    )
    assert ended.returncode == 0
    told = [line[9:] for line in ended.stdout.splitlines()]
    assert told[-4:] == ["digits sent 1#", "held by us", "resumed by us", "ended by us: BYE"]
    server.wait_for("event end")
    assert re.findall(r"event (\w+) (\S?)", server.text) == [
        ("digit", "1"), ("digit", "#"), ("hold", ""), ("resume", ""), ("end", ""),
    ]  # fmt: skip


def test_digits_that_the_peer_refuses_are_exit_code_3(sippet, callee):
    server = callee(talk="call.wait()")
    ended = sippet("call", f"127.0.0.1:{server.port}", "--digits", "1", "--duration", "2")
    assert ended.returncode == 3
    assert "digits refused by the peer: 405 Method Not Allowed\n" in ended.stdout
    assert "ended by us: BYE\n" in ended.stdout


def test_hold_that_the_peer_refuses_is_exit_code_3(sippet, callee):
    server = callee(talk="call.on_reinvite = lambda request, tx: 488")
    ended = sippet("call", f"127.0.0.1:{server.port}", "--hold", "--duration", "2")
    assert ended.returncode == 3
    assert "hold refused by the peer: 488 Not Acceptable Here\n" in ended.stdout


def test_what_the_peer_does_is_told(sippet, callee):
    talk = (
        "call.hold(); call.resume(); call.send_digits('5'); "
        "call.request('MESSAGE', body='x', content_type='text/plain'); "
        "call.request('REFER', refer_to='<sip:carol@192.0.2.9>'); call.hangup()"
    )
    ended = sippet("call", f"127.0.0.1:{callee(talk=talk).port}")
    assert [line[9:] for line in ended.stdout.splitlines()[3:]] == [
        "held by the peer",
        "resumed by the peer",
        "digit received: 5",
        "request refused: MESSAGE",
        "transfer refused: the peer asks for sip:carol@192.0.2.9",
        "ended by the peer: BYE",
    ]
    assert ended.returncode == 0


@pytest.mark.rfc("3261 9.1")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_a_call_that_rings(call, callee, number):
    server = callee(ring=60)
    program = call(f"sip:127.0.0.1:{server.port}")
    program.wait_for("ringing")
    program.signal(number)
    assert program.wait() == 130
    assert program.text.endswith("cancelled by us\n")
    wait_for_the_end(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [(), ("--hold",), ("--digits", "12345678")])
def test_signal_hangs_up(call, callee, number, arguments):
    server = callee()
    program = call(f"sip:127.0.0.1:{server.port}", *arguments)
    program.wait_for("held|digits" if "--hold" in arguments else "answered")
    if "--digits" in arguments:
        server.wait_for("event digit")
    program.signal(number)
    assert program.wait() == 0
    assert program.text.endswith("ended by us: BYE\n")
    server.wait_for("event end  bye by peer")
    wait_for_the_end(server)


def test_second_signal_ends_it_at_once(call):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        program = call(f"sip:127.0.0.1:{silent.getsockname()[1]}")
        program.wait_for("calling")
        silent.recv(9999)
        program.signal(signal.SIGINT)
        program.wait_for("cancelled by us")
        program.signal(signal.SIGINT)
        assert program.wait() == 130
    assert "Traceback" not in program.text


OFFER = "v=0\no=- 1 1 IN IP4 192.0.2.7\ns=-\nc=IN IP4 192.0.2.7\nt=0 0\nm=audio 4000 RTP/AVP 0\n"


def test_session_description_of_a_file_gets_the_line_ends_of_sdp(sippet, callee, tmp_path):
    server = callee()
    (tmp_path / "offer.sdp").write_text(OFFER)
    options = ("--sdp", "offer.sdp", "--duration", "0", "--from", '"Al" <sip:al@example.com>')
    assert sippet("call", f"127.0.0.1:{server.port}", *options).returncode == 0
    server.wait_for("event end")
    body = OFFER.replace("\n", "\r\n").encode()
    assert f"from sip:al@example.com body {body!r}\n" in server.text


def test_verbose_draws_a_ladder_between_ports_of_one_host(sippet, callee):
    server = callee()
    ended = sippet("call", f"127.0.0.1:{server.port}", "-v", "--duration", "0")
    head, *ladder = ended.stdout[ended.stdout.index("ended by us") :].splitlines()[1:]
    assert f"127.0.0.1:{server.port}" in head
    named = [re.sub(r"[^A-Za-z0-9 ]", "", line.split("|")[1]).split()[0] for line in ladder]
    # a busy machine may send one twice
    assert [name for name, _ in groupby(name for name in named if name != "100")] == [
        "INVITE",
        "180",
        "200",
        "ACK",
        "BYE",
        "200",
    ]
    assert "INVITE sip:" in ended.stderr


def test_terminal_shows_the_state_that_lasts(call, callee):
    server = callee(ring=2)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*SIPPET, "call", f"sip:127.0.0.1:{server.port}", "--duration", "1"],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "NO_COLOR": "1"},
    ) as program:  # fmt: skip
        os.close(theirs)
        text, deadline = "", time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                text += os.read(ours, 4096).decode()
            except OSError:  # the other end is closed
                break
        assert program.wait(PATIENCE) == 0
    os.close(ours)
    assert "0:01 ringing, Ctrl-C cancels" in text
    assert "0:00 talking, Ctrl-C hangs up" in text
    assert text.rpartition("\r\x1b[K")[2] in ("", "\n", "\r\n")
    assert "ended by us: BYE\r\n" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["tel:+1234"],
            "names no host to call: write sip:+1234@HOST;user=phone (RFC 3261 §19.1.6)",
        ),
        (["http://example.com"], "is not a SIP URI"),
        (["sip:x;transport=pigeon"], "unknown transport 'pigeon'"),
        (["sip:x", "--digits", "1x"], "write --digits 12#"),
        (["sip:x", "--from", "http://example.com"], "write sip:bob@example.com"),
        (["sip:x", "--from", "<sip:"], "write sip:bob@example.com"),
        (["sip:x", "--from", "anna@192.0.2.7"], "got 'anna@192.0.2.7': write sip:anna@192.0.2.7"),
        (["sip:x", "--sdp", "missing.sdp"], "--sdp: cannot read missing.sdp"),
        (["sip:x", "--sdp", os.devnull], "is not a session description"),
        (["sip:x", "--listen", "pigeon:x"], "--listen: "),
        (["sip:x", "--ca", "missing.pem"], "--ca: "),
        (["sip:x", "--duration", "-1"], "must be a number of seconds"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(capsys, arguments, problem):
    try:
        code = main(["call", *arguments])
    except SystemExit as stop:  # of argparse
        code = stop.code
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert problem in told.err.splitlines()[-1]
