"""The examples do what their docstrings say: each is run, as a program where sockets matter, on virtual time where waits do."""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import gevent
import pytest

from sippet_gevent import Cancelled, Framer, Request, Stack, TransportError, sdp
from tests.conditions import PATIENCE, until
from tests.ports import free_port

pytest_plugins = ["tests.programs"]

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES = sorted(path.name for path in EXAMPLES.glob("*.py"))


def example(name):
    """Return what an example defines."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / name)))


@pytest.fixture
def phone():
    """Make phones: stacks on free ports."""
    phones = []

    def make(core=None):
        stack = Stack("udp:127.0.0.1:0", core=core).start()
        phones.append(stack)
        return stack

    yield make
    for stack in phones:
        stack.stop()


def contact(stack, user):
    return f"<sip:{user}@{stack.addresses[0].removeprefix('udp:')}>"


@pytest.mark.parametrize("name", FILES)
def test_example_says_how_to_run_it(name):
    text = (EXAMPLES / name).read_text()
    assert text.startswith('"""')
    assert f"sippet serve examples/{name}:" in text.split('"""')[1]
    assert f"examples/{name} " in text.split("    python ")[1].split("sippet serve")[0]
    assert 'if __name__ == "__main__":\n' in text


@pytest.mark.parametrize("name", [name for name in FILES if name != "unix_transport.py"])
def test_example_ends_with_a_line_if_its_port_is_taken(run, name):
    port = free_port()
    start = (
        "import runpy, sys; from sippet_gevent import stack; "
        f"stack.DEFAULT_ADDRESS = 'udp:127.0.0.1:{port}'; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, socket.socket() as page:
        taken.bind(("127.0.0.1", port))
        page.bind(("127.0.0.1", port))
        page.listen()
        program = run(
            sys.executable, "-c", start, EXAMPLES / name, PAGE=f"127.0.0.1:{port}",
            LISTEN=f"udp:127.0.0.1:{port}", TRUNK_PASSWORD="x", PHONE_PASSWORD="x",
        )  # fmt: skip
        assert program.wait() == 1
    assert "Traceback" not in program.text
    *before, line = program.text.splitlines()
    assert all(" INFO " in each for each in before)
    assert re.search(f"(not started: |PAGE: ).*127.0.0.1.*{port}", line)
    assert "PAGE" in line or f"(pid {os.getpid()}) has it; stop it, or write another" in line


# ---- hello


def test_hello_rings_and_is_busy(sip):
    asked = sip.ask(example("hello.py").hello, "INVITE sip:anything@example.com")
    assert asked.statuses == [180]
    sip.advance(3)
    assert asked.statuses == [180, 486]


def test_hello_takes_giving_up_for_an_answer(sip):
    asked = sip.ask(example("hello.py").hello, "INVITE sip:anything@example.com")
    asked.cancel()
    assert asked.statuses == [180, 487]


def test_hello_runs(serve, phone):
    server = serve(f"{EXAMPLES / 'hello.py'}:stack")
    alice = phone()
    assert alice.request("OPTIONS", server.uri, timeout=PATIENCE).status == 200
    call = alice.send(Request("INVITE", server.uri))
    assert any(response.status == 180 for response in call)
    call.cancel()
    assert call.final(timeout=PATIENCE).status == 487


# ---- registrar and proxy


def test_registrar_proxy_rings_all_phones_of_the_callee(serve, phone):
    server = serve(f"{EXAMPLES / 'registrar_proxy.py'}:stack")
    bob = f"sip:bob@127.0.0.1:{server.port}"
    fates = []

    def desk(request, tx):
        tx.respond(180)
        try:
            tx.wait(20)
        except Cancelled:
            fates.append("the other phone was faster")
            raise
        return 486

    def mobile(request, tx):
        tx.respond(180)
        tx.wait(0.1)
        with tx.accept(body="v=0 mobile", content_type="application/sdp") as call:
            fates.append("hung up" if call.wait(10) else "forgotten")

    alice = phone()
    for core in (desk, mobile):
        one = phone(core)
        answer = one.request(
            "REGISTER", server.uri, to=f"<{bob}>", contact=contact(one, "bob"), timeout=PATIENCE
        )
        assert answer.status == 200
    assert len(answer.contact) == 2

    with alice.invite(bob, next_hop=server.uri, timeout=PATIENCE) as call:
        assert call.remote_body == b"v=0 mobile"
        assert server.port in [route.uri.port for route in call.dialog.route_set]
    until(lambda: len(fates) >= 2)
    assert set(fates) == {"the other phone was faster", "hung up"}


def test_registrar_proxy_is_no_open_relay(serve, phone):
    server = serve(f"{EXAMPLES / 'registrar_proxy.py'}:stack")
    bystander = phone(lambda request, tx: pytest.fail("relayed"))
    alice = phone()
    uri = contact(bystander, "bob").strip("<>")
    us = f"sip:alice@127.0.0.1:{server.port}"
    assert (
        alice.request(
            "REGISTER", server.uri, to=f"<{us}>", contact=contact(alice, "alice"), timeout=PATIENCE
        ).status
        == 200
    )

    def status(uri, **headers):
        return alice.request(
            "MESSAGE", uri, next_hop=server.uri, timeout=PATIENCE, **headers
        ).status

    assert status(uri) == 404
    assert status(us, route=(f"<{uri};lr>",)) == 403
    assert status(uri, route=(f"<{server.uri};lr>",), to=f"<{uri}>;tag=forged") == 481
    assert alice.request("OPTIONS", server.uri, timeout=PATIENCE).status == 200


# ---- interactive voice response


def test_ivr_answers_and_hangs_up(sip):
    asked = sip.ask(example("ivr.py").answer, "INVITE sip:ivr@example.com")
    assert asked.statuses == [180]
    sip.advance(2)
    assert asked.statuses == [180, 200]
    assert b"a=inactive\r\n" in asked.response.body
    sip.advance(9)
    assert not asked.call.ended.is_set()
    sip.advance(2)
    assert asked.call.ended.is_set()


OFFER = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP %s\r\nm=video 4002 RTP/AVP 99\r\n"


@pytest.mark.rfc("3264 6")
def test_ivr_answers_each_stream_of_an_offer(sip):
    core = example("ivr.py").answer
    asked = sip.ask(
        core, "INVITE sip:ivr@example.com", body=OFFER % "8 0", content_type="application/sdp"
    )
    sip.advance(2)
    audio, video = sdp.SDP.parse(asked.response.body).media
    assert (audio.formats, audio.direction, video.is_disabled) == (("8", "0"), "inactive", True)
    asked.call.hangup()


def test_ivr_refuses_a_caller_without_a_codec_in_common(sip):
    core = example("ivr.py").answer
    asked = sip.ask(
        core, "INVITE sip:ivr@example.com", body=OFFER % "96", content_type="application/sdp"
    )
    sip.advance(2)
    assert asked.statuses == [180, 488]


def test_ivr_caller_may_hang_up_first(sip, caplog):
    caplog.set_level("INFO")
    asked = sip.ask(
        example("ivr.py").answer,
        "INVITE sip:ivr@example.com",
        from_="<sip:alice@example.com>;tag=1",
    )
    sip.advance(5)
    asked.call.hangup()
    sip.settle()
    assert "sip:alice@example.com: bye by peer" in caplog.text


def test_ivr_caller_may_give_up_while_it_rings(sip):
    asked = sip.ask(example("ivr.py").answer, "INVITE sip:ivr@example.com")
    asked.cancel()
    assert asked.statuses == [180, 487]


def test_ivr_runs(serve, phone):
    server = serve(f"{EXAMPLES / 'ivr.py'}:stack")
    with phone().invite(server.uri, timeout=PATIENCE) as call:
        assert b"\r\nc=IN IP4 127.0.0.1\r\n" in call.remote_body
    server.wait_for("INFO +ivr: sip:anonymous@anonymous.invalid: bye by peer")


# ---- a transport of one's own


@pytest.fixture
def unix(tmp_path):
    """Make stacks on socket files of one folder: `unix(name, core)`."""
    module, stacks = example("unix_transport.py"), []

    def make(name, core=None, port=5060):
        stacks.append(Stack(core=core))
        stacks[-1].listen(f"unix:{name}:{port}", module.Unix(tmp_path / "s"))
        return stacks[-1].start()

    yield make
    for stack in stacks:
        stack.stop()


def test_unix_transport_runs_and_is_called(serve_unix, unix):
    program = serve_unix()
    alice = unix("alice")
    with alice.invite("sip:hello;transport=unix", timeout=PATIENCE) as call:
        assert str(call.dialog.remote_target) == "sip:hello:5060;transport=unix"
    until(lambda: not alice.active)
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert "listening ended: address=unix:hello:5060" in program.text


def test_unix_transport_calls_by_itself(serve_unix, run, tmp_path):
    serve_unix()
    caller = run(sys.executable, EXAMPLES / "unix_transport.py", SIP_SOCKETS=str(tmp_path / "s"))
    assert caller.wait() == 0
    assert caller.text == "hello has answered: sip:hello:5060;transport=unix\n"


def test_unix_transport_writes_its_last_messages_when_it_stops(unix):
    ends = []

    def core(request, tx):
        with tx.accept() as call:
            call.wait(PATIENCE)
        ends.append(str(call.end))

    unix("hello", core)
    alice = unix("alice")
    with alice.invite("sip:hello;transport=unix", timeout=PATIENCE):
        pass
    alice.stop()
    until(lambda: ends)
    assert ends == ["bye by peer"]


def test_unix_peer_that_dies_ends_the_transaction(serve_unix, unix):
    program = serve_unix()
    alice = unix("alice")
    assert alice.request("OPTIONS", "sip:hello;transport=unix", timeout=PATIENCE).status == 200
    program.signal(signal.SIGSTOP)  # it will not answer
    tx = alice.send(Request("OPTIONS", "sip:hello;transport=unix"))
    program.signal(signal.SIGKILL)
    with pytest.raises(TransportError, match="<Flow UNIX hello:5060> has ended: "):
        tx.final(timeout=PATIENCE)
    program.wait()
    with pytest.raises(
        TransportError, match="cannot connect to unix:hello:5060: Connection refused"
    ):
        alice.request("OPTIONS", "sip:hello;transport=unix")
    assert not alice.engine.transports[0].flows


def test_unix_socket_file_of_a_dead_process_is_taken_over_and_of_a_living_one_not(serve_unix, unix):
    program = serve_unix()
    with pytest.raises(
        TransportError, match="cannot listen on unix:hello:5060: Address already in use"
    ):
        unix("hello")
    program.signal(signal.SIGKILL)
    program.wait()
    hello = unix("hello", lambda request, tx: 299)
    assert (
        unix("alice").request("MESSAGE", "sip:HELLO;transport=unix", timeout=PATIENCE).status == 299
    )
    assert hello.addresses == ["unix:hello:5060"]


def test_unix_transport_answers_what_is_broken_and_hangs_up_on_what_makes_no_sense(unix, tmp_path):
    unix("hello", lambda request, tx: 299)
    text = (
        "MESSAGE sip:hello SIP/2.0\r\nVia: SIP/2.0/UNIX x;branch=z9hG4bK{0};rport\r\nFrom: <sip:x@x>;tag=1\r\nTo: <sip:hello>\r\n"
        "Call-ID: {0}\r\nCSeq: {1} MESSAGE\r\nMax-Forwards: 70\r\nContent-Length: {2}\r\n\r\n"
    )
    with gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(5)
        peer.connect(str(tmp_path / "s" / "hello:5060"))
        peer.sendall(b"\r\n\r\n")
        assert peer.recv(99) == b"\r\n"
        framer, answers = Framer(), []
        for number, (cseq, length) in enumerate([("one", 0), ("2", 0), ("3", "nought"), ("4", 0)]):
            peer.sendall(text.format(number, cseq, length).encode())
        while data := peer.recv(9999):
            answers += framer.feed(data)
        assert [answer[:11] for answer in answers] == [
            b"SIP/2.0 400",
            b"SIP/2.0 299",
            b"SIP/2.0 400",
        ]


def test_unix_folder_lets_its_owner_in_only(unix, tmp_path):
    unix("hello")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def serve_unix(run, tmp_path):
    """Start the example's server: on hello:5060 of the folder that `unix` uses."""

    def start():
        arguments = [
            sys.executable,
            "-m",
            "sippet_gevent",
            "serve",
            f"{EXAMPLES / 'unix_transport.py'}:stack",
        ]
        program = run(*arguments, SIP_SOCKETS=str(tmp_path / "s"))
        program.wait_for("listening: address=unix:hello:5060")
        return program

    return start


# ---- a core that blocks

HTTP = """
from gevent.event import Event
from gevent.pywsgi import WSGIServer

go = Event()

def answer(environ, start_response):  # http://HOST:PORT/held answers once /go was asked for, others at once
    if environ["PATH_INFO"] == "/held":
        go.wait()
    elif environ["PATH_INFO"] == "/go":
        go.set()
    known = "bob" in environ["QUERY_STRING"]
    start_response("200 OK" if known else "404 Not Found", [("Content-Type", "text/plain")])
    return [b"sip:bob@192.0.2.4" if known else b""]

server = WSGIServer(("127.0.0.1", 0), answer, log=None, error_log=None, backlog=4096)
server.start()
print("answers on port", server.server_port, "of HTTP")
server.serve_forever()
"""


@pytest.fixture
def backends(need, run, tmp_path):
    """Start what blocking_core.py asks; returns the environment that tells it where: `backends("held")`."""
    need("redis-server")

    def start(path="at_once"):
        (tmp_path / "backend.py").write_text(HTTP)
        port = run(sys.executable, "backend.py").wait_for(r"port (\d+) of HTTP")[1]
        redis = run(
            "redis-server", "--port", 0, "--unixsocket", tmp_path / "redis.sock", "--save", ""
        )
        redis.wait_for("eady to accept connections")
        return {
            "ROUTES": f"http://127.0.0.1:{port}/{path}",
            "REDIS": f"unix://{tmp_path / 'redis.sock'}",
            "CALLS": str(tmp_path / "calls.sqlite"),
        }

    return start


def test_blocking_core_redirects_counts_and_writes_down(backends, serve, phone, tmp_path):
    server = serve(f"{EXAMPLES / 'blocking_core.py'}:core", "--monkey", **backends())
    alice = phone()
    calls = [
        alice.request("INVITE", f"sip:{user}@127.0.0.1:{server.port}", timeout=PATIENCE)
        for user in ("bob", "carol")
    ]
    assert [call.status for call in calls] == [302, 404]
    assert str(calls[0].contact[0].uri) == "sip:bob@192.0.2.4"
    more = [
        alice.request("INVITE", f"sip:bob@127.0.0.1:{server.port}", timeout=PATIENCE).status
        for _ in range(9)
    ]
    assert more == [302] * 8 + [480]
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as database:
        [(caller, target)] = database.execute("SELECT DISTINCT caller, target FROM calls")
    assert (caller, target) == ("sip:anonymous@anonymous.invalid", "sip:bob@192.0.2.4")
    assert alice.request("OPTIONS", server.uri, timeout=PATIENCE).status == 200


def test_blocking_core_answers_500_while_redis_is_away(backends, serve, phone):
    server = serve(
        f"{EXAMPLES / 'blocking_core.py'}:core",
        "--monkey",
        **{**backends(), "REDIS": "unix:///nowhere.sock"},
    )
    alice = phone()
    assert alice.request("INVITE", server.uri, timeout=PATIENCE).status == 500
    assert alice.request("OPTIONS", server.uri, timeout=PATIENCE).status == 200
    server.wait_for("redis.exceptions.ConnectionError")


BLOCKED = 1000
BLOCKED_CORE = """
import os
import requests
from sippet_gevent import Limits, Stack

stack = Stack(limits=Limits(handlers=2000))

@stack.on("MESSAGE")
def ask(request, tx):
    return requests.get(os.environ["ROUTES"], params={"callee": "bob"}, timeout=150).status_code
"""


SO_RCVBUFFORCE = 33


class Wire:
    """A bare UDP socket that sends requests to a port of this host."""

    def __init__(self, port):
        self.port = port
        self.count = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 21)
        except OSError:  # for root on Linux alone
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(30)
        self.here = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def send(self, method):
        self.count += 1
        self.socket.send(
            f"{method} sip:127.0.0.1:{self.port} SIP/2.0\r\nVia: SIP/2.0/UDP {self.here};branch=z9hG4bK{self.count}\r\n"
            f"From: <sip:{self.here}>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: {self.count}@{self.here}\r\n"
            f"CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n".encode()
        )

    def receive(self):
        """Return the status of the next final response."""
        while (status := int(self.socket.recv(4096)[8:11])) < 200:
            pass  # 100 says after 3.5 s that somebody is at work (RFC 4320)
        return status

    def ask(self, method):
        """Send a request; return the seconds until its 200. A server on a busy machine may refuse it at first."""
        started = time.perf_counter()
        self.send(method)
        while (status := self.receive()) != 200:
            assert status == 503
            time.sleep(0.1)
            self.send(method)
        return time.perf_counter() - started


def resident(process):
    """Memory of a process, in KB."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_thousand_cores_blocked_in_requests_delay_nobody_and_weigh_little(
    backends, serve, tmp_path
):
    (tmp_path / "blocked.py").write_text(BLOCKED_CORE)
    environment = backends("held")
    server = serve("blocked.py:stack", "--monkey", **environment)
    load, other = Wire(server.port), Wire(server.port)

    def p99_of_options(count=100):
        times = []
        for _ in range(count):
            times.append(other.ask("OPTIONS") * 1000)
            time.sleep(0.002)
        return sorted(times)[count * 99 // 100]

    def blocked():
        return server.stats().get("handlers", 0)

    idle, empty = min(p99_of_options() for _ in range(4)), resident(server.process)
    deadline = time.monotonic() + 3 * PATIENCE
    while (missing := BLOCKED - blocked()) > 0:  # a busy machine refuses some
        assert time.monotonic() < deadline, server.stats()
        for number in range(missing):
            load.send("MESSAGE")
            if number % 5 == 0:  # as fast as it takes them: the kernel's buffers are small
                other.ask("OPTIONS")
        other.ask("OPTIONS")
    # others on this machine take its time for a while, but blocked cores would always do
    busy, full = min(p99_of_options() for _ in range(4)), resident(server.process)
    count = blocked()
    assert count >= BLOCKED
    with urlopen(environment["ROUTES"].replace("/held", "/go?bob"), timeout=PATIENCE):
        pass
    while count:
        count -= load.receive() == 200
    each = (full - empty) / BLOCKED
    print(
        f"p99 of OPTIONS: {idle:.1f} ms idle, {busy:.1f} ms with {BLOCKED} blocked cores of {each:.1f} KB each"
    )
    load.socket.close()
    other.socket.close()
    assert busy < idle + 20
    assert each < 64


# ---- b2bua


def bridged(sip, core):
    """Call through the B2BUA to a gateway with this core."""
    sip.stack(core, host="127.0.0.1", port=5070)
    offer = sdp.initial_offer([SPEECH], address="10.0.0.9")
    return sip.ask(
        example("b2bua.py").stack,
        "INVITE sip:+15550100@example.com;user=phone",
        body=bytes(offer),
        content_type="application/sdp",
    )


SPEECH = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA))


def test_b2bua_connects_and_passes_hold_and_digits_on(sip):
    calls, digits = [], []

    def gateway(request, tx):
        tx.respond(180)
        tx.wait(2)
        with tx.accept(media=[SPEECH]) as call:
            calls.append((request, call))
            digits.extend(event.digit or event.kind for event in call.events())

    asked = bridged(sip, gateway)
    sip.advance(2)
    assert asked.statuses == [180, 200]
    request, call = calls[0]
    assert (request.uri.user, request.uri.parameters.get("user")) == ("+15550100", "phone")
    sip.run(asked.call.hold)
    sip.run(asked.call.send_digits, "42")
    sip.run(asked.call.resume)
    assert call.remote_sdp.media[0].direction == sdp.SENDRECV
    asked.call.hangup()
    sip.settle()
    assert digits == ["hold", "4", "2", "resume", "end"]
    assert call.end.by == "peer"


def test_b2bua_refuses_as_the_gateway_does(sip, caplog):
    with caplog.at_level("INFO", "b2bua"):
        assert bridged(sip, lambda request, tx: 486).statuses == [486]
    assert "answered=486" in caplog.text


def test_b2bua_ends_the_call_of_a_gateway_that_loses_power(sip):
    def gateway(request, tx):
        tx.accept(media=[SPEECH]).wait()

    asked = bridged(sip, gateway)
    assert asked.statuses == [200]
    sip.network.partition("10.0.0.1", "127.0.0.1")
    sip.advance(31 * 60)
    sip.network.heal()
    sip.advance(31 * 60)  # and that of the gateway
    assert asked.call.ended.is_set()
    assert asked.call.end.reason.startswith("SIP;cause=408")


def test_b2bua_core_is_short():
    text = (EXAMPLES / "b2bua.py").read_text().split('"""')[2].split("if __name__")[0]
    assert len([line for line in text.splitlines() if line.strip()]) <= 15


# ---- a queue

AGENT_URIS = ["sip:anna@192.0.2.20", "sip:ben@192.0.2.21"]


def queued(sip, queue):
    """Call the queue as a caller with audio."""
    offer = sdp.initial_offer([SPEECH], address="192.0.2.7")
    return sip.ask(
        queue.stack,
        "INVITE sip:queue@example.com",
        body=bytes(offer),
        content_type="application/sdp",
        from_='"Carol" <sip:carol@example.com>',
    )


def agent(asked, *, rings=0.0, talks=30.0, status=0):
    """Return the core of an agent that rings, and then talks or refuses."""

    def core(request, tx):
        asked.append(request)
        tx.respond(180)
        tx.wait(rings)
        if status:
            return status
        with tx.accept(media=[SPEECH]) as call:
            call.wait(talks)
        return None

    return core


def test_queue_connects_the_caller_with_the_first_free_agent(sip):
    queue, anna, ben = example("call_queue.py"), [], []
    sip.stack(agent(anna), "192.0.2.20")
    sip.stack(agent(ben), "192.0.2.21")
    asked = queued(sip, queue)
    assert asked.statuses == [180, 200]
    assert (len(anna), len(ben)) == (1, 0)
    assert anna[0].from_.uri.user == "carol"
    sip.run(asked.call.hold)
    sip.run(asked.call.resume)
    sip.advance(31)
    assert asked.call.ended.is_set()
    assert list(queue.free) == AGENT_URIS[::-1]


@pytest.mark.parametrize("status", [0, 486])
def test_queue_calls_the_next_agent_when_one_does_not_answer(sip, status):
    queue, anna, ben = example("call_queue.py"), [], []
    sip.stack(agent(anna, rings=0 if status else 60, status=status), "192.0.2.20")
    sip.stack(agent(ben), "192.0.2.21")
    asked = queued(sip, queue)
    sip.advance(11)
    assert (len(anna), len(ben)) == (1, 1)
    asked.call.hangup()
    sip.advance(10)
    assert sorted(queue.free) == AGENT_URIS


def test_queue_stops_ringing_when_the_caller_hangs_up(sip):
    queue, anna, ben = example("call_queue.py"), [], []
    sip.stack(agent(anna, rings=60), "192.0.2.20")
    sip.stack(agent(ben), "192.0.2.21")
    asked = queued(sip, queue)
    sip.advance(3)
    asked.call.hangup()
    sip.advance(10)
    assert (len(anna), len(ben)) == (1, 0)
    assert sorted(queue.free) == AGENT_URIS


def test_queue_forgets_a_caller_that_hangs_up_while_it_waits(sip):
    queue = example("call_queue.py")
    queue.free.clear()
    asked = queued(sip, queue)
    sip.advance(3)
    assert len(queue.waiting) == 1
    asked.call.hangup()
    sip.settle()
    assert not queue.waiting
    assert not queue.free


def test_queue_connects_a_waiting_caller_when_an_agent_is_free_again(sip):
    queue, anna = example("call_queue.py"), []
    queue.free.remove("sip:ben@192.0.2.21")
    sip.stack(agent(anna), "192.0.2.20")
    first, second = queued(sip, queue), queued(sip, queue)
    sip.advance(20)
    assert len(anna) == 1
    sip.advance(11)
    assert len(anna) == 2
    assert first.call.ended.is_set()
    sip.advance(31)
    assert second.call.ended.is_set()
    assert list(queue.free) == ["sip:anna@192.0.2.20"]
