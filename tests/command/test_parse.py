"""`sippet parse`, as a user runs it: output and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import time

import pytest

from sippet_gevent.command.report import Place, report
from tests.conditions import PATIENCE
from tests.conformance.corpus import OPTIONS, message

pytest_plugins = ["tests.programs"]

BROKEN = message("CSeq: tea OPTIONS")
KEYS = """file number offset time transport source destination bytes kind start_line method uri status reason headers body
    problems ok""".split()


@pytest.fixture
def write(tmp_path):
    """Write a file where the command is run: `write("one.sip", data)`."""

    def write(name, *data):
        (tmp_path / name).write_bytes(b"".join(data))
        return name

    return write


@pytest.fixture
def objects(sippet, write):
    """Let `sippet parse --json` read a text. Return its objects."""

    def objects(*data):
        return [
            json.loads(line)
            for line in sippet("parse", "--json", write("text.sip", *data)).stdout.splitlines()
        ]

    return objects


@pytest.fixture
def on_terminal(popen):
    """Run `sippet parse` with stdout and stderr on a terminal. Return what the terminal gets.

    `feed(input, shown)` is called with the command's standard input and what is shown so far, until it returns False.
    """

    def run(*arguments, feed=lambda input, shown: False, **environment):
        ours, theirs = pty.openpty()
        # Sphinx, which other tests import, sets NO_COLOR in this process
        environment = {"TERM": "xterm", "NO_COLOR": "", **environment}
        with popen(
            "parse",
            *arguments,
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
            environment=environment,
        ) as process:
            os.close(theirs)
            shown = b""
            deadline = time.monotonic() + PATIENCE
            while True:
                assert time.monotonic() < deadline, shown
                if process.stdin and not process.stdin.closed and not feed(process.stdin, shown):
                    process.stdin.close()
                if select.select([ours], [], [], 0.05)[0]:
                    try:
                        data = os.read(ours, 65536)
                    except OSError:  # the other end is closed
                        data = b""
                    if not data:
                        break
                    shown += data
        os.close(ours)
        return shown.decode()

    return run


# ---- exit codes


def test_whole_message_is_exit_code_0(sippet, write):
    ended = sippet("parse", write("one.sip", OPTIONS))
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "line",
    ["CSeq: tea OPTIONS", "Expires: tea", "Contact: <sip:x", "Contact: <sip:x>;q=2", "Date: today"],
)
def test_malformed_header_is_exit_code_1(sippet, write, line):
    assert sippet("parse", write("one.sip", message(line))).returncode == 1


def test_one_broken_message_among_others_is_exit_code_1(sippet, write):
    ended = sippet("parse", write("three.sip", OPTIONS, BROKEN, OPTIONS))
    assert ended.returncode == 1
    assert ended.stdout.count("OPTIONS sip:bob@example.com SIP/2.0") == 3


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n"])
def test_file_without_a_message_is_exit_code_1(sippet, write, data):
    ended = sippet("parse", write("empty.sip", data))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "sippet: empty.sip: no message found\n"


def test_unreadable_file_is_exit_code_2_and_the_others_are_read(sippet, write, tmp_path):
    (tmp_path / "folder").mkdir()
    ended = sippet("parse", "nowhere.sip", "folder", write("one.sip", OPTIONS))
    assert ended.returncode == 2
    assert (
        ended.stderr
        == "sippet: nowhere.sip: No such file or directory\nsippet: folder: Is a directory\n"
    )
    assert "one.sip #1" in ended.stdout


def test_compressed_file_is_one_line_and_exit_code_2(sippet, write):
    ended = sippet("parse", write("call.pcap.gz", b"\x1f\x8b\x08\0"))
    assert ended.returncode == 2
    assert "gunzip" in ended.stderr


def test_closed_pipe_ends_it_without_a_traceback(popen, write):
    name = write("many.sip", OPTIONS * 5000)
    with popen("parse", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(100)
        process.stdout.close()
        assert (process.wait(PATIENCE), process.stderr.read()) == (141, b"")


# ---- input


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_standard_input_is_read(popen, arguments):
    with popen("parse", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        shown, _ = process.communicate(OPTIONS, PATIENCE)
    assert (process.returncode, shown[:5]) == (0, b"- #1\n")


def test_messages_of_all_files_have_numbers_and_offsets(sippet, write):
    ended = sippet("parse", "--json", write("a.sip", OPTIONS, BROKEN), write("b.sip", OPTIONS))
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(one["file"], one["number"], one["offset"], one["ok"]) for one in found] == [
        ("a.sip", 1, 0, True),
        ("a.sip", 2, len(OPTIONS), False),
        ("b.sip", 3, 0, True),
    ]


def test_long_file_without_messages_is_one_broken_message(sippet, tmp_path):
    with (tmp_path / "long.sip").open("wb") as file:
        file.truncate(100_000_000)
    ended = sippet("parse", "--json", "long.sip")
    assert ended.returncode == 1
    (found,) = map(json.loads, ended.stdout.splitlines())
    assert [problem["problem"] for problem in found["problems"]] == ["over 65536 bytes"]


# ---- output


def test_json_always_has_the_same_keys(objects):
    found = objects(OPTIONS, b"tea\r\n", OPTIONS, BROKEN, b"SIP/2.0 200 OK" + OPTIONS[35:])
    assert [one["kind"] for one in found] == ["request", None, "request", "request", "response"]
    for one in found:
        assert list(one) == KEYS


def test_json_has_the_parts_of_a_request(objects):
    data = message("Contact: <sip:a@[2001:db8::1]:5070;lr>;expires=60, sip:b@c", "X-Tea: green")
    (found,) = objects(data)
    assert (found["method"], found["uri"]["host"], found["bytes"], found["problems"]) == (
        "OPTIONS",
        "example.com",
        len(data),
        [],
    )
    headers = {header["name"]: header for header in found["headers"]}
    assert headers["From"]["values"][0]["display"] == "Alice"
    assert headers["From"]["values"][0]["uri"]["text"] == "sip:alice@example.org"
    assert headers["From"]["values"][0]["tag"] == "1928301774"
    assert headers["Via"]["values"] == [
        {
            "transport": "UDP",
            "host": "192.0.2.1",
            "port": 5060,
            "parameters": {"branch": "z9hG4bKnashds8"},
        }
    ]
    assert headers["CSeq"]["values"] == [{"number": 63104, "method": "OPTIONS"}]
    assert [contact["uri"]["port"] for contact in headers["Contact"]["values"]] == [5070, None]
    assert headers["X-Tea"] == {"name": "X-Tea", "text": ["green"], "values": ["green"]}


def test_json_has_the_parts_of_a_response(objects):
    (found,) = objects(message(start="SIP/2.0 486 Busy Here"))
    assert (found["kind"], found["status"], found["reason"], found["method"]) == (
        "response",
        486,
        "Busy Here",
        None,
    )


def test_body_is_described_briefly(objects):
    session = b"v=0\r\no=- 0 0 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\na=crypto:1 secret\r\n"
    (found,) = objects(message("Content-Type: application/sdp", body=session))
    media = ["c=IN IP4 192.0.2.1", "m=audio 4000 RTP/AVP 0"]
    assert found["body"] == {"bytes": len(session), "type": "application/sdp", "media": media}


SESSION = b"v=0\r\no=- 0 0 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
MIXED = "Content-Type: multipart/mixed;boundary=b"


def parts_of(*bodies):
    return b"".join(b"--b\r\nContent-Type: " + body + b"\r\n" for body in bodies) + b"--b--\r\n"


BROKEN_BODIES = {
    "no SDP": ("Content-Type: application/sdp", b"hello", "problem: SDP line 1: not type=value"),
    "a broken m=": ("Content-Type: application/sdp", SESSION.replace(b"AVP 0", b"AVP"), "problem: SDP line 6, m=: m= without a format: 'audio 4000 RTP/AVP'"),
    "a broken b=": ("Content-Type: application/sdp", SESSION + b"b=AS:x\r\n", "problem: SDP line 7, b=: not a number: 'AS:x'"),
    "a broken o=": ("Content-Type: application/sdp", SESSION.replace(b"o=- 0 0", b"o=- x 0"), "problem: SDP line 2, o=: not a number: '- x 0 IN IP4 192.0.2.1'"),
    "a broken rtpmap": ("Content-Type: application/sdp", SESSION + b"a=rtpmap:0 PCMU\r\n", "problem: SDP line 7, a=: rtpmap must be payload type, encoding/clock rate[/channels]: 'rtpmap:0 PCMU'"),
    "a broken ptime": ("Content-Type: application/sdp", SESSION + b"a=ptime:x\r\n", "problem: SDP line 7, a=: ptime must be a number greater than 0: 'ptime:x'"),
    "an impossible address": ("Content-Type: application/sdp", SESSION.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 300.1.1.1"), "problem: SDP line 4, c=: no packet can reach this address: 'IN IP4 300.1.1.1'"),
    "no c=": ("Content-Type: application/sdp", SESSION.replace(b"c=IN IP4 192.0.2.1\r\n", b""), "problem: SDP line 5, m=: the stream has no c= line: 'audio 4000 RTP/AVP 0'"),
    "SDP in a multipart": (MIXED, parts_of(b"application/sdp\r\n\r\nv=1"), "problem: SDP line 1, v=: number not in 0 to 0: '1'"),
    "no boundary": ("Content-Type: multipart/mixed", parts_of(b"text/plain\r\n\r\na"), "problem: Content-Type: one boundary is needed"),
    "no delimiter": (MIXED, b"secret hush", "problem: body: no delimiter line"),
    "no close delimiter": (MIXED, parts_of(b"text/plain\r\n\r\na")[:-7], "problem: body: multipart without close delimiter: its end may be missing"),
    "an unknown encoding": (MIXED, parts_of(b"a/b\r\nContent-Transfer-Encoding: hush\r\n\r\na"), "problem: Content-Transfer-Encoding: unknown"),
    "no sipfrag": ("Content-Type: message/sipfrag", b"hush\r\n", "problem: sipfrag: "),
    "a key": ("Content-Type: application/sdp", SESSION + b"a=crypto:1 inline:hush\0\r\n", "problem: SDP line 7: NUL or CR in a line"),
}  # fmt: skip


@pytest.mark.parametrize("row", BROKEN_BODIES)
def test_body_that_cannot_be_read_is_a_problem_and_exit_code_1(sippet, write, row):
    line, body, problem = BROKEN_BODIES[row]
    ended = sippet("parse", write("one.sip", message(line, body=body)))
    assert ended.returncode == 1
    (found,) = [text.strip() for text in ended.stdout.splitlines() if text.startswith("  problem")]
    assert found.startswith(problem)
    assert "hush" not in ended.stdout


@pytest.mark.parametrize(
    "line, body",
    [
        ("Content-Type: application/sdp", SESSION),
        (MIXED, parts_of(b"application/sdp\r\n\r\n" + SESSION)),
    ],
)
def test_body_that_can_be_read_has_its_streams_shown(sippet, write, line, body):
    ended = sippet("parse", write("one.sip", message(line, body=body)))
    assert ended.returncode == 0
    assert [text.strip() for text in ended.stdout.splitlines() if " m=" in text] == [
        "m=audio 4000 RTP/AVP 0"
    ]


@pytest.mark.parametrize(
    "line", ["Supported:", "Subject:", "Accept-Language:", "X-Tea:", "Allow: "]
)
def test_header_field_without_a_value_is_shown(sippet, write, line):
    ended = sippet("parse", write("one.sip", message(line)))
    name = line.partition(":")[0]
    assert f"  {name:<20} (empty)" in ended.stdout.splitlines()


def test_problem_has_header_offset_line_and_text(objects):
    data = message("Expires: a while")
    (found,) = objects(data)
    (problem,) = found["problems"]
    assert (problem["header"], problem["problem"], problem["text"]) == (
        "Expires",
        "not a number",
        "a while",
    )
    assert data[problem["offset"] :].startswith(b"a while")
    assert problem["line"] == 9


def test_problem_within_a_list_has_its_own_offset(objects):
    data = message("Contact: <sip:ä@b>, <sip:c, <sip:d>")
    (problem,) = objects(data)[0]["problems"]
    assert data[problem["offset"] :].startswith(b"<sip:c, ")


def test_all_problems_of_a_message_are_listed(objects):
    (found,) = objects(
        message("CSeq: tea", "Expires: tea", "Date: tea", start="OPTIONS  sip:x SIP/2.0")
    )
    assert [problem["header"] for problem in found["problems"]] == [None, "CSeq", "Expires", "Date"]


def test_missing_header_is_a_problem(objects):
    lines = [line for line in OPTIONS.split(b"\r\n") if not line.startswith((b"From", b"Call-ID"))]
    (found,) = objects(b"\r\n".join(lines))
    assert [(problem["header"], problem["problem"]) for problem in found["problems"]] == [
        ("From", "missing"),
        ("Call-ID", "missing"),
    ]


def test_headers_beside_a_broken_line_are_listed(objects):
    (found,) = objects(message("Expires: tea").replace(b"Max-Forwards: 70", b"Max-Forwards 70"))
    assert [problem["problem"] for problem in found["problems"]] == [
        "header line without a colon",
        "not a number",
    ]
    assert [header["name"] for header in found["headers"]][-2:] == ["Content-Length", "Expires"]


def test_text_names_each_header_with_its_parts_and_the_problems(sippet, write):
    ended = sippet("parse", write("one.sip", message("Expires: tea")))
    assert ended.stdout.splitlines() == [
        "one.sip #1",
        "OPTIONS sip:bob@example.com SIP/2.0",
        "  Request-URI          scheme=sip  user=bob  host=example.com",
        "  Via                  transport=UDP  host=192.0.2.1  port=5060  ;branch=z9hG4bKnashds8",
        "  Max-Forwards         70",
        "  From                 display=Alice  uri=sip:alice@example.org  ;tag=1928301774",
        "  To                   display=Bob  uri=sip:bob@example.com",
        "  Call-ID              a84b4c76e66710",
        "  CSeq                 number=63104  method=OPTIONS",
        "  Content-Length       0",
        "  Expires              tea",
        "  problem: Expires: not a number (byte 267, line 9): 'tea'",
        "",
    ]


# ---- hidden values


SECRETS = [
    [
        "Authorization: Digest username=bob, realm=r, nonce=hush1, response=hush2, uri=hush3",
        "Proxy-Authorization: Basic aHVzaA==",
    ],
    ["Authorization: hush=,;;,", 'Proxy-Authorization: "hush'],
    ["Authorization: hush", 'Proxy-Authorization : Digest x=\r\n "hush, hush=hush'],
    ["Authorization: Digest hush", 'Proxy-Authorization:\r\n Digest hush="hush'],
    ["Max-Forwards 70", "X: y", "Authorization: Digest a=\rhush"],
    ["Authorization Digest a=hush"],
    ["Max-Forwards 70 sip:" + "x" * 60 + ":hush@example.com"],
    ["Contact: <sip:bob:hush@example.com>", "Reply-To: <sip:bob:hush@>"],
    ["Contact: <sips:bob:hush@example.com", "Subject: sip:bob:hush@example.com"],
]


@pytest.mark.parametrize("lines", SECRETS)
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_credentials_and_passwords_are_never_shown(sippet, write, arguments, lines):
    data = message(start="OPTIONS sip:bob:hush@example.com SIP/2.0")
    data = data.replace(b"Max-Forwards: 70", "\r\n".join(lines).encode())
    ended = sippet("parse", *arguments, write("one.sip", data))
    assert "OPTIONS sip:bob:...@example.com SIP/2.0" in ended.stdout
    assert "hush" not in ended.stdout + ended.stderr
    assert "aHVz" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "rest",
    ["Authorization: Digest a=hush\r\n", "zation: Digest a=hush\r\n", "Proxy-Authorization hush"],
)
def test_credentials_exposed_by_a_wrong_content_length_are_not_shown(sippet, write, rest):
    ended = sippet("parse", write("one.sip", OPTIONS, rest.encode()))
    assert "not the beginning of a message" in ended.stdout
    assert "hush" not in ended.stdout


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_escapes_of_a_peer_cannot_reach_the_terminal(sippet, write, arguments):
    evil = "\x1b[2J\x07\x9b\u202e\u2028\udcff"
    lines = [
        f"Subject: {evil}",
        f"Contact: {evil}",
        f"X{evil}: y",
        f'From: "{evil}" <sip:a@b>;tag=\x1b',
        f"Content-Type: {evil}",
    ]
    data = message(*lines, start=f"OPTIONS sip:b@c{evil} SIP/2.0")
    for text in (data, data.replace(f"X{evil}: y\r\n".encode("utf-8", "surrogateescape"), b"")):
        ended = sippet("parse", *arguments, write("one.sip", text), "no\x1b[2Jfile")
        shown = ended.stdout + ended.stderr
        assert [char for char in shown if not char.isprintable() and char != "\n"] == []


# ---- the terminal


def test_colours_appear_on_a_terminal_only(on_terminal, sippet, write, tmp_path):
    name = write("one.sip", BROKEN)
    assert "\x1b[1;31m" in on_terminal(tmp_path / name)
    assert "\x1b" not in sippet("parse", name).stdout


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_switched_off(on_terminal, write, tmp_path, environment):
    assert "\x1b" not in on_terminal(tmp_path / write("one.sip", BROKEN), **environment)


def test_json_has_no_colours(on_terminal, write, tmp_path):
    assert "\x1b" not in on_terminal("--json", tmp_path / write("one.sip", BROKEN))


def test_progress_appears_after_two_seconds_and_is_removed(on_terminal):
    def feed(input, shown):
        with contextlib.suppress(BrokenPipeError):
            input.write(OPTIONS)
            input.flush()
        return b"MB read" not in shown

    started = time.monotonic()
    shown = on_terminal("--json", feed=feed)
    assert time.monotonic() - started > 2
    assert re.search(r"\r\d+\.\d MB read, \d+ messages", shown)
    assert "\r\x1b[K" in shown


def test_progress_does_not_appear_earlier(on_terminal, write, tmp_path):
    assert "read" not in on_terminal(tmp_path / write("one.sip", OPTIONS))


@pytest.mark.parametrize("line", ["Subscription-State: active;expires=soon", "Session-Expires: x"])
def test_parameters_are_read_too(line):
    found = report(message(line), Place("a", 1))
    assert [problem["header"] for problem in found["problems"]] == [line.partition(":")[0]]
