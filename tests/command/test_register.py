"""`sippet register` and `sippet message`, at a server that asks for passwords."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import time

import pytest

from sippet_gevent.__main__ import main

from ..programs import HERE, PATIENCE, SIPPET

pytest_plugins = ["tests.programs"]


@pytest.fixture
def office(serve, tmp_path):
    """Return a server with the user alice, whose password is "secret"."""
    (tmp_path / "sippet.toml").write_text(
        'domains = ["office.example"]\n[users]\nalice = "secret"\nbob = "other"\n'
    )
    (tmp_path / "alice").write_text("secret\n")
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "app.py").write_text(
        "def core(request, tx):\n    return 202 if request.body == b'later' else 488\n"
    )
    return serve("--config", "sippet.toml")


def typed(tmp_path, arguments, text):
    """Run `sippet` at a terminal, type a line when it asks, and return its exit code and output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*SIPPET, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path,
        env={**os.environ, **HERE}, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    told, deadline = b"", time.monotonic() + PATIENCE
    try:
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the terminal is closed: it has ended
                break
            if not piece:
                break
            told += piece
            if b"Password of " in told and text:
                os.write(ours, text)
                text = b""
            assert time.monotonic() < deadline, told
    finally:
        os.close(ours)
    return process.wait(PATIENCE), told.decode()


def test_register_registers_and_unregisters(office, sippet, tmp_path):
    way = ["--registrar", office.uri, "--duration", "0"]
    ended = sippet("register", "sip:alice@office.example", "--password-file", "alice", *way)
    assert ended.returncode == 0, ended
    lines = [line[9:] for line in ended.stdout.splitlines()]
    assert lines[0] == "registering sip:alice@office.example"
    assert lines[1].startswith("registered for 3600 s, Contact sip:alice@")
    assert lines[2] == "unregistered"
    office.wait_for("registration ended: aor=sip:alice@office.example .*removed by the phone")


@pytest.mark.parametrize(
    ("user", "options", "code", "told"),
    [
        ("alice", ["--password-file", "wrong"], 1, "refused by the registrar: 401 Unauthorized"),
        ("alice", [], 1, "it asks for a password: --password-file FILE, or --password-stdin"),
        ("bob", ["--password-file", "alice", "--user", "alice"], 1, "the registrar: 403 "),
        ("alice", ["--password-file", "none"], 2, "cannot read none: No such file"),
        ("alice", ["--password-file", "alice", "--password-stdin"], 2, "give one of them"),
        ("alice", ["--password", "secret"], 2, "ambiguous option: --password"),
        ("alice", ["--password-stdin"], 2, "--password-stdin: standard input is empty"),
    ],
)
def test_register_that_fails_says_why(office, sippet, user, options, code, told):
    ended = sippet(
        "register", f"sip:{user}@office.example", "--registrar", office.uri, "--duration", "0",
        *options,
    )  # fmt: skip
    assert (ended.returncode, told in ended.stdout + ended.stderr) == (code, True), ended


@pytest.mark.parametrize("status", [500, 503, 600])
def test_register_waits_no_longer_after_a_refusal(serve, sippet, tmp_path, status):
    (tmp_path / "busy.py").write_text(f"def core(request, tx):\n    return {status}\n")
    server = serve("busy.py:core")
    # the time-out is longer than the patience of this test
    ended = sippet("register", server.uri.replace("sip:", "sip:a@"), "--timeout", "600")
    assert ended.returncode == 1, ended
    assert f"refused by the registrar: {status} " in ended.stdout


def test_register_stays_registered_until_ctrl_c(office, run):
    program = run(
        *SIPPET, "register", "sip:alice@office.example", "--registrar", office.uri,
        "--password-file", "alice",
    )  # fmt: skip
    program.wait_for("registered for 3600 s")
    program.signal(signal.SIGINT)
    assert program.wait() == 0
    assert "unregistered" in program.text


def test_register_without_an_answer_is_exit_code_1(sippet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        uri = f"sip:a@127.0.0.1:{silent.getsockname()[1]}"
        ended = sippet("register", uri, "--timeout", "0.5")
    assert ended.returncode == 1
    assert "not registered in time" in ended.stdout


def test_password_is_asked_for_at_a_terminal(office, tmp_path):
    arguments = [
        "register",
        "sip:alice@office.example",
        "--registrar",
        office.uri,
        "--duration",
        "0",
    ]
    code, told = typed(tmp_path, arguments, b"secret\n")
    assert code == 0, told
    assert "Password of alice for office.example: " in told and "registered for" in told
    assert "secret" not in told
    host = office.uri.removeprefix("sip:")
    arguments = ["message", f"sip:bob@{host}", "Hi", "--from", "sip:alice@office.example"]
    code, told = typed(tmp_path, arguments, b"secret\n")
    assert code == 1 and "refused: 404 Not Found" in told, told


def test_message_is_delivered_or_refused(office, serve, sippet, tmp_path):
    server = serve("app.py:core")
    ended = sippet("message", f"sip:bob@127.0.0.1:{server.port}", "later")
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1][9:] == "kept for later: 202 Accepted"
    ended = sippet("message", f"sip:bob@127.0.0.1:{server.port}", "Grüße")
    assert ended.returncode == 1
    assert "refused: 488 " in ended.stdout
    ended = sippet("message", office.uri, "Hi")
    assert (ended.returncode, "it asks for a password" in ended.stdout) == (1, True)
    ended = sippet(
        "message", f"sip:bob@127.0.0.1:{office.port}", "Hi", "--from", "sip:alice@office.example",
        "--password-file", "alice",
    )  # fmt: skip
    assert "refused: 404 Not Found" in ended.stdout


def test_call_answers_the_challenge_with_the_password_of_a_file(office, sippet):
    uri = f"sip:bob@127.0.0.1:{office.port}"
    ended = sippet("call", uri)
    assert (ended.returncode, "--password-file FILE" in ended.stderr) == (1, True), ended
    way = ["--from", "sip:alice@office.example", "--password-file"]
    ended = sippet("call", uri, *way, "wrong")
    assert (ended.returncode, "refused by the peer: 407" in ended.stdout) == (1, True), ended
    ended = sippet("call", uri, *way, "alice")
    assert (ended.returncode, "refused by the peer: 404" in ended.stdout) == (1, True), ended


@pytest.mark.rfc("3261 8.1.2")
def test_requests_go_to_the_outbound_proxy(office, sippet):
    way = ["--outbound-proxy", office.uri]
    mine = ["--from", "sip:alice@office.example", "--password-file", "alice"]
    ended = sippet(
        "register", "sip:alice@office.example", *way, "--duration", "0", "--password-file", "alice"
    )
    assert ended.returncode == 0, ended
    ended = sippet("call", "sip:bob@office.example", *way, *mine)
    assert (ended.returncode, "refused by the peer: 404" in ended.stdout) == (1, True), ended
    ended = sippet("message", "sip:bob@office.example", "Hi", *way, *mine)
    assert (ended.returncode, "refused: 404 Not Found" in ended.stdout) == (1, True), ended
    ended = sippet("ping", "sip:office.example", *way)
    assert (ended.returncode, ended.stdout[:4]) == (1, "407 "), ended
    assert f"from {office.uri.removeprefix('sip:')}" in ended.stdout


@pytest.mark.parametrize("verb", ["register", "call", "message", "ping"])
@pytest.mark.parametrize("proxy", ["tel:+4930", "sip:", "sip:127.0.0.1;transport=sctp"])
def test_outbound_proxy_that_cannot_be_used_is_a_mistake(capsys, verb, proxy):
    text = ["Hi"] if verb == "message" else []
    assert main([verb, "sip:alice@office.example", *text, "--outbound-proxy", proxy]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "SIP URI" in line or "tel URI" in line or "sctp" in line


@pytest.mark.rfc("3428 8")
def test_message_checks_its_text(sippet):
    for text, told in (("", "the text is empty"), ("x" * 1301, "over 1300 bytes")):
        ended = sippet("message", "sip:127.0.0.1", text)
        assert (ended.returncode, told in ended.stderr) == (2, True)
    ended = sippet("message", "sip:127.0.0.1", "-", "--password-stdin")
    assert "cannot both be standard input" in ended.stderr


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        (
            "--registrar",
            "sip://192.0.2.7",
            "--registrar: 'sip://192.0.2.7' is not a SIP URI, because",
        ),
        ("--registrar", "tel:+49", "--registrar: 'tel:+49' is a tel URI, which names no host to"),
        (
            "--contact",
            "sip://a@b",
            "--contact must be an address, got 'sip://a@b', which is wrong: ",
        ),
    ],
)
def test_mistake_in_an_option_is_the_only_line(sippet, option, value, problem):
    ended = sippet("register", "sip:alice@office.example", option, value)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"sippet: {problem}") and ended.stderr.count("\n") == 1


@pytest.mark.rfc("3261 10.2.1")
@pytest.mark.parametrize(
    ("contact", "write"),
    [
        ("tel:+493012345", "sip:USER@HOST, for a number sip:+493012345@HOST"),
        ("<mailto:alice@office.example>", "sip:USER@HOST"),
    ],
)
def test_contact_that_is_no_sip_uri_has_a_warning(office, sippet, tmp_path, contact, write):
    ended = sippet(
        "register", f"sip:alice@{office.uri.removeprefix('sip:')}", "--contact", contact,
        "--password-file", tmp_path / "alice", "--duration", "0",
    )  # fmt: skip
    uri = contact.strip("<>")
    assert (
        f"--contact {uri} is no SIP URI: most proxies cannot call it, write {write}\n"
        in ended.stdout
    )
    assert "registered" in ended.stdout  # it is allowed, as for a redirect


def test_registrar_may_be_a_host(office, sippet):
    host = office.uri.removeprefix("sip:")
    ended = sippet("register", "sip:alice@office.example", "--registrar", host, "--duration", "0")
    assert "refused by the registrar: 401" in ended.stdout
