"""The `sippet` command, as a user runs it: in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import textwrap
import time
from pathlib import Path

import gevent
import pytest

from sippet_gevent import Request, Stack, TransactionTimeout, __version__

from ..conditions import PATIENCE
from ..programs import SIPPET

pytest_plugins = ["tests.programs"]

ANSWER_200 = "def core(request, tx):\n    return 200\n"

RINGS = """
    def core(request, tx):
        if request.method == "INVITE":
            tx.respond(180)
            tx.wait({seconds})
            return 603
        return 200
"""


@pytest.fixture
def write(tmp_path):
    """Write a Python file where the command is run: `write("app", "def core…")`."""

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def client():
    with Stack("udp:127.0.0.1:0") as stack:
        yield stack


def ring(client, uri):
    """Send an INVITE. Return its transaction once it rings."""
    tx = client.send(Request("INVITE", uri))
    with gevent.Timeout(PATIENCE):
        assert any(response.status == 180 for response in tx)
    return tx


# ---- sippet serve: cores and domains


def test_without_a_core_phones_register_and_are_found(serve, client):
    server = serve()
    bodies = []

    @client.on("MESSAGE")
    def phone(request, tx):
        bodies.append(request.body)
        return 200

    bob = f"sip:bob@127.0.0.1:{server.port}"
    contact = f"<sip:bob@{client.addresses[0].removeprefix('udp:')}>"
    assert client.request("MESSAGE", bob, timeout=PATIENCE).status == 404
    assert (
        client.request(
            "REGISTER", server.uri, to=f"<{bob}>", contact=contact, timeout=PATIENCE
        ).status
        == 200
    )
    assert (
        client.request(
            "MESSAGE", bob, body="hello", content_type="text/plain", timeout=PATIENCE
        ).status
        == 200
    )
    assert bodies == [b"hello"]


def bind(client, server, aor):
    """Register a phone at a running server. Return the status."""
    return client.request(
        "REGISTER",
        server.uri,
        to=f"<{aor}>",
        contact=client.addresses[0].replace("udp", "<sip") + ">",
    ).status


@pytest.mark.rfc("3261 10.3")
def test_without_a_domain_any_domain_is_served(serve, client):
    server = serve()
    server.wait_for(r"registrar: domains=any reason=\"without --domain phones")
    assert bind(client, server, "sip:alice@office.example") == 200
    server.wait_for(
        r"registration made: aor=sip:alice@office.example contact=sip:127.0.0.1:\d+ expires=3600 source=UDP:127"
    )
    assert client.request("OPTIONS", "sip:office.example", next_hop=server.uri).status == 200


@pytest.mark.rfc("3261 10.3")
def test_only_given_domains_and_aliases_are_served(serve, client):
    names = (
        "--domain",
        "office.example",
        "--domain",
        "home.example",
        "--alias",
        "pbx.example",
        "--alias",
        "192.0.2.7=home.example",
    )
    server = serve(*names)
    server.wait_for("registrar: domains=office.example,home.example")
    assert [
        bind(client, server, f"sip:a@{host}")
        for host in ("pbx.example", "192.0.2.7", "other.example")
    ] == [200, 200, 404]
    server.wait_for("aor=sip:a@office.example")
    server.wait_for("aor=sip:a@home.example")
    server.wait_for(
        r"registration refused: aor=sip:a@other.example status=404 .* hint=\"serve that domain too: sippet serve --domain"
    )


def test_domain_of_a_stack_in_a_file_may_be_given(serve, write, client):
    write(
        "app",
        "from sippet_gevent import *\nstack = Stack()\nstack.on('REGISTER')(Registrar(Location()))\n",
    )
    server = serve("app:stack", "--domain", "office.example")
    assert [
        bind(client, server, f"sip:a@{host}") for host in ("office.example", "other.example")
    ] == [200, 404]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("--domain", "sip:office.example"),
            "'sip:office.example' is not a host name: write it without scheme and port",
        ),
        (
            ("--domain", "office.example", "--alias", "a.example=b.example"),
            "write one of office.example",
        ),
        (("--alias", "a.example"), "--alias needs a domain: add --domain"),
    ],
)
def test_domain_that_is_no_host_name_is_one_line_and_exit_code_2(sippet, arguments, problem):
    ended = sippet("serve", *arguments)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1) and problem in ended.stderr


def test_core_is_found_by_module_in_the_current_folder(serve, write, client):
    write("app", ANSWER_200)
    assert client.request("MESSAGE", serve("app:core").uri, timeout=PATIENCE).status == 200


def test_core_is_found_by_file_with_the_modules_beside_it(serve, write, client):
    write("folder/beside", "STATUS = 299\n")
    path = write(
        "folder/app", "from beside import STATUS\ndef core(request, tx):\n    return STATUS\n"
    )
    assert client.request("MESSAGE", serve(f"{path}:core").uri, timeout=PATIENCE).status == 299


@pytest.mark.parametrize("name", ["Mine", "mine", "stack", "box.core"])
def test_core_may_be_a_class_an_instance_a_stack_or_an_attribute(serve, write, client, name):
    write(
        "app",
        """
        from types import SimpleNamespace
        from sippet_gevent import Core, Stack

        class Mine(Core):
            def receive_request(self, request, tx):
                return 299 if self.stack is not None else 500

        mine = Mine()
        stack = Stack(core=Mine)
        box = SimpleNamespace(core=lambda request, tx: 299)
        """,
    )
    assert client.request("MESSAGE", serve(f"app:{name}").uri, timeout=PATIENCE).status == 299


def test_each_given_address_is_listened_on(serve, write, client):
    write("app", ANSWER_200)
    server = serve("app:core", "--listen", "udp:127.0.0.2:0")
    for host in ("127.0.0.1", "127.0.0.2"):
        port = server.wait_for(rf"listening: address=udp:{re.escape(host)}:(\d+)")[1]
        assert client.request("MESSAGE", f"sip:{host}:{port}", timeout=PATIENCE).status == 200


def test_ipv6_address_is_listened_on(serve, write):
    write("app", ANSWER_200)
    server = serve("app:core", listen="udp:[::1]:0")
    with Stack("udp:[::1]:0") as client:
        assert client.request("MESSAGE", f"sip:[::1]:{server.port}", timeout=PATIENCE).status == 200


def test_verbose_shows_each_message_without_credentials(serve, write, client):
    write("app", ANSWER_200)
    server = serve("app:core", "-v")
    secret = 'Digest username="bob", realm="r", nonce="n", uri="sip:r", response="0123456789abcdef0123456789abcdef"'
    client.request(
        "MESSAGE",
        server.uri,
        authorization=secret,
        body="tea?\x1b[2J",
        content_type="text/plain",
        timeout=PATIENCE,
    )
    server.wait_for(r"message sent: destination=UDP:127\.0\.0\.1:\d+ bytes=\d+\n    SIP/2.0 200 OK")
    assert f"    MESSAGE {server.uri} SIP/2.0\n" in server.text
    assert "    Authorization: Digest ...\n" in server.text
    assert "0123456789abcdef" not in server.text
    assert "tea?\\x1b[2J" in server.text  # no escape of a peer may reach the terminal


# ---- sippet serve: how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_refuses_new_requests_and_finishes_others(serve, write, client, number):
    write("app", RINGS.format(seconds=1))
    server = serve("app:core")
    call = ring(client, server.uri)
    server.signal(number)
    server.wait_for("stopping: active=")
    refused = client.request("MESSAGE", server.uri, timeout=PATIENCE)
    assert refused.status == 503
    assert refused.retry_after is not None
    assert call.final(timeout=PATIENCE).status == 603
    assert server.wait() == 0


def test_signal_ends_it_when_the_deadline_has_passed(serve, write, client):
    write("app", RINGS.format(seconds=60))
    server = serve("app:core", "--drain", "0.3")
    ring(client, server.uri)
    asked = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - asked >= 0.3


def test_second_signal_ends_it_at_once(serve, write, client):
    write("app", RINGS.format(seconds=60))
    server = serve("app:core")
    ring(client, server.uri)
    server.signal(signal.SIGINT)
    server.wait_for("stopping: ")
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert "stopping at once: active=2" in server.text


def test_signal_ends_an_idle_server_at_once_with_a_summary(serve, write, client):
    write("app", ANSWER_200)
    server = serve("app:core")
    client.request("MESSAGE", server.uri, timeout=PATIENCE)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert f"listening ended: address=udp:127.0.0.1:{server.port}" in server.text
    assert "stopped: delivered=1 received=1" in server.text


def test_sigusr1_logs_counters_and_gauges(serve, write, client):
    write("app", ANSWER_200)
    server = serve("app:core")
    client.request("MESSAGE", server.uri, timeout=PATIENCE)
    stats = server.stats()
    assert (stats["received"], stats["delivered"], stats["server_transactions"]) == (1, 1, 1)


def test_signal_while_the_core_loads_causes_no_traceback(run, write):
    write("app", "import time\nprint('loading')\ntime.sleep(60)\n")
    program = run(sys.executable, "-m", "sippet_gevent", "serve", "app:core")
    program.wait_for("loading")
    program.signal(signal.SIGINT)
    assert program.wait() == 130
    assert "Traceback" not in program.text


# ---- sippet serve --monkey


PATCHED = """
    import socket, ssl
    import requests, urllib3
    from socket import socket as held
    from gevent import monkey

    def core(request, tx):
        from gevent.socket import socket as cooperative
        names = ["socket", "ssl", "select", "threading", "time", "queue", "os", "subprocess"]
        missing = [name for name in names if not monkey.is_module_patched(name)]
        return 200 if not missing and held is cooperative else 500
"""


def test_monkey_patches_before_the_core_imports_anything(serve, write, client):
    write("app", PATCHED)
    server = serve(
        "app:core", "--monkey", PYTHONWARNINGS="error::RuntimeWarning"
    )  # warnings of gevent if it patches too late
    assert client.request("MESSAGE", server.uri, timeout=PATIENCE).status == 200
    assert "Warning" not in server.text


def test_monkey_lets_blocking_cores_wait_at_the_same_time(serve, write, client):
    write(
        "app",
        """
        import time
        waiting = most = 0

        def core(request, tx):
            global waiting, most
            waiting += 1
            most = max(most, waiting)
            time.sleep(0.5)
            waiting -= 1
            return request.response(200, subject=str(most))
        """,
    )
    server = serve("app:core", "--monkey")
    waiting = [
        gevent.spawn(client.request, "MESSAGE", server.uri, timeout=PATIENCE) for _ in range(20)
    ]
    answers = [greenlet.get(timeout=PATIENCE) for greenlet in waiting]
    assert {answer.status for answer in answers} == {200}
    assert max(int(answer.subject) for answer in answers) > 5


def test_without_monkey_a_blocking_line_is_named(serve, write, client):
    write("app", "import time\ndef core(request, tx):\n    time.sleep(0.8)\n    return 200\n")
    server = serve("app:core")
    client.request("MESSAGE", server.uri, timeout=PATIENCE)
    server.wait_for(r"loop blocked: seconds=0\.25")
    server.wait_for(r'app\.py", line 3, in core')


# ---- sippet serve --filter-scanners --rate


def test_scanners_are_dropped_and_others_answered(serve, write, client):
    write("app", ANSWER_200)
    server = serve("app:core", "--filter-scanners")
    with pytest.raises(TransactionTimeout):
        client.request("MESSAGE", server.uri, user_agent="friendly-scanner", timeout=0.3)
    assert client.request("MESSAGE", server.uri, timeout=PATIENCE).status == 200
    server.wait_for(
        "messages filtered: count=1 source=127.0.0.1 reason=scanner user_agent='friendly-scanner'"
    )


def test_source_over_its_rate_is_dropped_and_logged(serve, write, client):
    write("app", ANSWER_200)
    server = serve("app:core", "--rate", "5", "--exempt", "192.0.2.0/24")
    asked = [client.send(Request("MESSAGE", server.uri)) for _ in range(25)]
    server.wait_for(
        "messages filtered: count=1 source=127.0.0.1 reason=rate_limited rate=5 burst=20"
    )
    assert {tx.final(timeout=25).status for tx in asked} == {
        200
    }  # some of them after a retransmission


def test_loopback_has_no_rate_by_default(serve, write, client):
    write("app", ANSWER_200)
    server = serve("app:core", "--rate", "0.1")
    assert [client.request("MESSAGE", server.uri, timeout=PATIENCE).status for _ in range(25)] == [
        200
    ] * 25


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--rate", "0"],
            "argument --rate: must be greater than 0 messages a second, got '0': write 50",
        ),
        (["--rate", "x"], "argument --rate: must be greater than 0 messages a second, got 'x'"),
        (["--drain", "-1"], "argument --drain: must be a number of seconds, 0 or more, got '-1'"),
        (["--exempt", "192.0.2.0/24"], "--exempt needs a rate: add --rate 50"),
        (
            ["--rate", "1", "--exempt", "nowhere"],
            "sippet: --exempt: 'nowhere' is not a network: write 192.0.2.0/24",
        ),
        (
            ["--rate", "1", "--exempt", "192.0.2.1/24"],
            "write 192.0.2.0/24, or 192.0.2.1 for one address",
        ),
        (["app.py:stack", "--rate", "1"], "app.py:stack has a filter of its own"),
    ],
)
def test_invalid_filter_is_one_line(run, write, arguments, line):
    write("app", "from sippet_gevent import Filter, Stack\nstack = Stack(accept=Filter())\n")
    program = run(*SIPPET, "serve", *arguments)
    assert program.wait() == 2
    assert line in program.text.splitlines()[-1]


# ---- sippet serve: mistakes


MISTAKES = {
    "no such module": ("nowhere:core", "cannot load nowhere: No module named 'nowhere'"),
    "no such file": ("nowhere.py:core", "there is no file nowhere.py: write its path"),
    "no name": ("app", "'app' does not name a core: write module:name or path/to/file.py:name"),
    "no such name": ("app:cone", "app has no cone: write app:NAME"),
    "nothing to call": (
        "app:number",
        "app:number must be a callable, a Core or a Stack, got 3: write def core(request, tx)",
    ),
    "other arguments": (
        "app:other",
        "app:other is not a core: a core must take (request, tx), got other(request): write def other(request, tx)",
    ),
    "a class that wants more": (
        "app:Wanting",
        "cannot load app:Wanting: TypeError: Wanting.__init__() missing 1 required",
    ),
    "syntax error": ("broken:core", "cannot load broken: '(' was never closed (broken.py, line 1)"),
    "exception": ("raising.py:core", "cannot load raising.py: RuntimeError: no database ("),
    "exit": ("leaving:core", "cannot load leaving: SystemExit: 3 ("),
    "its import is missing": ("lacking:core", "cannot load lacking: No module named 'nowhere' ("),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_core_that_cannot_be_run_is_one_line_and_exit_code_2(sippet, write, case):
    write("app", "from sippet_gevent import Core\nnumber = 3\ndef other(request): pass\nclass Wanting(Core):\n"
          "    def __init__(self, more): pass\n")  # fmt: skip
    write("broken", "def core(\n")
    write("raising", "def core(request, tx): return 200\nraise RuntimeError('no\\n database')\n")
    write("leaving", "raise SystemExit(3)\n")
    write("lacking", "import nowhere\n")
    name, line = MISTAKES[case]
    ended = sippet("serve", "--listen", "udp:127.0.0.1:0", name)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"sippet: {line}")
    assert ended.stderr.count("\n") == 1


def test_verbose_shows_the_traceback_of_a_core_that_cannot_be_loaded(sippet, write):
    write("raising", "raise RuntimeError('no database')\n")
    ended = sippet("serve", "-v", "raising:core")
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(
        "sippet: cannot load raising: RuntimeError: no database ("
    )


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("udp:127.0.0.1:99999", "--listen: 'udp:127.0.0.1:99999': a port is 0 to 65535, got 99999"),
        (
            "sctp:127.0.0.1:0",
            "--listen: 'sctp:127.0.0.1:0' is not an address: write udp:192.0.2.1:5060",
        ),
        ("udp:127.0.0.1:sip", "--listen: 'udp:127.0.0.1:sip' is not an address"),
        ("udp:198.51.100.1:0", "cannot listen on udp:198.51.100.1:0: "),
        ("udp:no.such.host.invalid:0", "cannot listen on udp:no.such.host.invalid:0: "),
    ],
)
def test_bad_address_is_one_line_and_exit_code_2(sippet, address, problem):
    ended = sippet("serve", "--open", "--listen", address)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"sippet: {problem}")
    assert ended.stderr.count("\n") == 1


MISFITS = {
    "no certificate": (
        ["--listen", "tls:127.0.0.1:0"],
        "--listen tls:127.0.0.1:0 needs a certificate: add --cert FILE, and",
    ),
    "no TLS address": (
        ["--cert", "cert.pem"],
        "--cert needs an address with TLS: add --listen tls:HOST:5061",
    ),
    "no certificate file": (
        ["--listen", "wss:127.0.0.1:0", "--cert", "nobody.pem"],
        "--cert: no such file 'nobody.pem': write the path of a PEM file",
    ),
    "no key in it": (
        ["--listen", "tls:127.0.0.1:0", "--cert", "chain.pem"],
        "--cert, --key, --ca, --client-ca: 'chain.pem' has a certificate and no private key in it: give the file of the key",
    ),
    "no authority": (
        ["--ca", "nobody.pem"],
        "--ca: no such file 'nobody.pem': write the path of a PEM file",
    ),
    "a host for an origin": (
        ["--listen", "ws:127.0.0.1:0", "--origin", "phone.example.com"],
        "--origin: 'phone.example.com' is not an origin, as browsers write it: write https://phone.example.com",
    ),
    "any origin": (
        ["--listen", "ws:127.0.0.1:0", "--origin", "*"],
        "--origin must not be '*': leave --origin out",
    ),
    "no WebSockets": (
        ["--origin", "https://a.example"],
        "--origin needs an address with WebSockets: add --listen",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_invalid_option_is_one_line_with_what_to_write(sippet, pem, tmp_path, case):
    trustme = pytest.importorskip("trustme")
    trustme.CA().issue_cert("a.example").cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    pem("a.example")
    options, told = MISFITS[case]
    ended = sippet("serve", *options)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"sippet: {told}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (
            "mailto:x@y",
            "'mailto:x@y' is not a SIP URI: write sip:HOST, sip:USER@HOST:PORT, sips:HOST or HOST",
        ),
        ("http://example.com", "'http://example.com' is not a SIP URI: write sip:HOST"),
        (
            "tel:+15551234",
            "'tel:+15551234' is a tel URI, which names no host to ping: "
            "write sip:+15551234@HOST;user=phone (RFC 3261 §19.1.6)",
        ),
        ("sip:exa mple", "not a SIP URI: "),
        (
            "sip://anna@127.0.0.1",
            "'sip://anna@127.0.0.1' is not a SIP URI, because // is no part of a SIP URI: write "
            "sip:anna@127.0.0.1",
        ),
        ("//anna@127.0.0.1", "'//anna@127.0.0.1' is not a SIP URI, because // is no part of a SIP"),
        (
            "sip:127.0.0.1;transport=sctp",
            "'sip:127.0.0.1;transport=sctp' has the unknown transport 'sctp': write one of udp",
        ),
    ],
)
def test_ping_of_another_uri_says_what_to_write(sippet, uri, told):
    ended = sippet("ping", uri)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"sippet: {told}")
    assert ended.stderr.count("\n") == 1


def test_taken_port_is_exit_code_2(sippet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        ended = sippet("serve", "--listen", f"udp:127.0.0.1:{taken.getsockname()[1]}")
    assert ended.returncode == 2
    assert ended.stderr.startswith("sippet: cannot listen on udp:127.0.0.1:")
    assert (
        f"Address already in use: {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()}) has it; stop it,"
        in ended.stderr
    )
    assert ended.stderr.count("\n") == 1


# ---- sippet ping


def test_ping_prints_status_round_trip_time_and_peer(sippet, serve, write):
    write("app", "def core(request, tx):\n    return request.response(200, server='tea/1.0')\n")
    server = serve("app:core")
    ended = sippet("ping", f"sip:bob@127.0.0.1:{server.port}")
    assert ended.returncode == 0
    assert re.fullmatch(
        rf"200 OK  \d+\.\d ms  from 127\.0\.0\.1:{server.port}  tea/1\.0\n", ended.stdout
    )
    assert ended.stderr == ""


def test_ping_accepts_a_host(sippet, serve):
    ended = sippet("ping", f"localhost:{serve().port}")
    assert (ended.returncode, ended.stdout[:6]) == (0, "200 OK")


@pytest.mark.rfc("3263 4.2")
def test_verbose_ping_shows_how_the_name_is_resolved(sippet, serve):
    port = serve().port
    told = sippet("ping", "-v", f"localhost:{port}").stderr
    steps = [
        line.partition(f'target="sip:localhost:{port}" ')[2]
        for line in told.splitlines()
        if f'target="sip:localhost:{port}"' in line
    ]
    assert 'question="A localhost" answer="127.0.0.1"' in steps
    assert steps[-1].startswith("candidates=") and f"udp:127.0.0.1:{port}" in steps[-1]


def test_ping_answered_with_a_refusal_is_exit_code_1(sippet, serve):
    ended = sippet("ping", f"sip:nobody@127.0.0.1:{serve().port}")
    assert (ended.returncode, ended.stdout[:13]) == (1, "404 Not Found")


def test_ping_without_an_answer_is_one_line_and_exit_code_1(sippet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        uri = f"sip:127.0.0.1:{silent.getsockname()[1]}"
        ended = sippet("ping", uri, "--timeout", "0.2")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"sippet: {uri}: no final response to OPTIONS within 0.2 seconds\n"


def test_ping_to_an_unknown_host_is_one_line_and_exit_code_1(sippet):
    ended = sippet("ping", "no.such.host.invalid")
    assert ended.returncode == 1
    assert ended.stderr.startswith("sippet: sip:no.such.host.invalid: no.such.host.invalid: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("uri", ["tel:+1234", "http://example.com", "", "sip:a b"])
def test_ping_of_no_sip_uri_is_exit_code_2(sippet, uri):
    ended = sippet("ping", uri)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sippet: ")
    assert ended.stderr.count("\n") == 1


# ---- help


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["user"],
        ["user", "add"],
        ["user", "import"],
        ["register"],
        ["message"],
        ["call"],
        ["ping"],
        ["parse"],
    ],
)
def test_help_has_examples(sippet, arguments):
    ended = sippet(*arguments, "--help")
    assert ended.returncode == 0
    assert "examples:\n  sippet " in ended.stdout


def test_version_names_the_scanner(sippet):
    ended = sippet("--version")
    assert re.fullmatch(
        rf"sippet_gevent {re.escape(__version__)} \(scanner: (c|python)\)\n", ended.stdout
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--drain", "nan"],
        ["ping", "x", "--timeout", "-1"],
        ["parse", "--xml"],
        ["dance"],
        [],
    ],
)
def test_wrong_arguments_are_exit_code_2(sippet, arguments):
    ended = sippet(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("sippet")
