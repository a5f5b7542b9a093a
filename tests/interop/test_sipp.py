"""SIPp calls a core of ours, and calls itself through our proxy; SIPp judges. Loads are short; LOAD=20 runs the goals."""

from __future__ import annotations

import ast
import csv
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.conditions import PATIENCE
from tests.ports import free_port

pytest_plugins = ["tests.programs"]

HERE = Path(__file__).parent

GOAL = float(os.environ.get("LOAD", "0"))
"""Seconds for which the loads run at the rates that are the goal; 0 is a suite's short run."""


def wait_until_taken(port, transport="udp"):
    """Wait until a program listens on a port of this host."""
    deadline = time.monotonic() + PATIENCE
    while f"0100007F:{port:04X} 00000000:0000 " not in Path(f"/proc/net/{transport}").read_text():
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.01)


BAD = ("FailedCall", "OutOfCallMsgs", "DeadCallMsgs", "FatalErrors")
"""SIPp's counters that must be 0: calls that went wrong, and messages that belong to none or to one that has ended."""

BAD_BESIDE_OTHERS = ("FailedCall", "OutOfCallMsgs", "FatalErrors") if not GOAL else BAD
"""Where other tests take the processor, SIPp repeats a BYE, and counts the second 200 as a message of a dead call."""

SHOWN = (
    "SuccessfulCall",
    "FailedCall",
    "FailedUnexpectedMessage",
    "OutOfCallMsgs",
    "DeadCallMsgs",
    "Retransmissions",
)


def media_port():
    """Return the port of the audio of a SIPp, whose video has the next but one.

    Without it each looks for two from 6000 on, and gives up after 100 that others have taken.
    """
    return free_port(count=3)


class SIPp:
    """A running SIPp."""

    def __init__(self, run, folder, arguments, port, calls):
        self.calls = calls
        self.statistics = folder / f"{port}.{time.monotonic_ns()}.csv"
        self.errors = self.statistics.with_suffix(".err")
        traces = (
            "-trace_stat",
            "-fd",
            "1",
            "-stf",
            self.statistics,
            "-trace_err",
            "-error_file",
            self.errors,
        )
        self.program = run(
            "sipp", "-m", calls, *arguments, "-i", "127.0.0.1", "-bind_local", "-p", port, "-nostdin", *traces,
            "-mp", media_port(),
        )  # fmt: skip

    @property
    def counts(self):
        """The last line of its statistics."""
        with self.statistics.open(newline="") as file:
            *_, last = csv.DictReader(file, delimiter=";")
        return {
            name.removesuffix("(C)"): value
            for name, value in last.items()
            if name and name.endswith("(C)")
        }

    def wait_for_success(self, calls, seconds=PATIENCE, bad=BAD):
        """Wait for its end; every call must have gone as its scenario says, and the `bad` counters must be 0.

        With fewer calls than it has been started for, it need not wait for the others.
        """
        if calls < self.calls:
            self.program.signal(signal.SIGUSR1)
        code = self.program.wait(seconds)
        errors = self.errors.read_text("utf-8", "replace") if self.errors.exists() else ""
        counts = self.counts
        print(self.program, {name: counts[name] for name in SHOWN})
        assert code == 0, errors
        assert int(counts["SuccessfulCall"]) == calls
        assert {name: counts[name] for name in bad} == dict.fromkeys(bad, "0"), errors


def refused_by(server, calls):
    """Return how many of these calls a server has refused because the machine is busy.

    With more than half of them a test proves too little. None must be refused at a goal.
    """
    refused = ast.literal_eval(server.stats().get("refused", "{}"))
    print("refused:", refused)
    assert refused.keys() <= {"overload"}
    assert sum(refused.values()) <= (0 if GOAL else calls / 2)
    return sum(refused.values())


@pytest.fixture
def sipp(need, run, tmp_path):
    """Start SIPp: `sipp("caller", to=server.uri)`. The scenario is one of ours, or one of its own.

    Over "tcp" it has one connection, or takes them all.
    """
    need("sipp")

    def start(scenario, *arguments, to=None, port=None, calls=1, transport="udp"):
        file = scenario if isinstance(scenario, Path) else HERE / f"{scenario}.xml"
        which = ["-sf", file] if file.exists() else ["-sn", scenario]
        where = [to.removeprefix("sip:")] if to else []
        how = ["-t", "t1"] if transport == "tcp" else []
        program = SIPp(
            run,
            tmp_path,
            [*which, *where, *how, *arguments],
            port or free_port(),
            calls,
        )
        if not to:
            wait_until_taken(port, transport)
        return program

    return start


@pytest.fixture
def register(sipp):
    """Register a user at a server: `register("bob", server)` returns the port of the phone, where it takes calls.

    It registers over UDP also when its Contact says that calls are to come over TCP.
    """

    def register(user, server, transport="udp"):
        port = free_port()
        contact = f"{port};transport={transport}"
        source = port if transport == "udp" else None
        sipp(
            "register", "-s", user, "-key", "contact", contact, to=server.uri, port=source
        ).wait_for_success(1)
        return port

    return register


@pytest.fixture
def refused(tmp_path):
    """Make the scenario of a caller that is refused with this status."""

    def make(status):
        path = tmp_path / f"caller_gets_{status}.xml"
        path.write_text(
            (HERE / "caller_is_refused.xml").read_text().replace('"486"', f'"{status}"')
        )
        return path

    return make


# ---- a core that answers


def test_sipp_calls_a_core_that_answers(sipp, serve):
    rate, seconds = (500, GOAL) if GOAL else (100, 3)
    server = serve(f"{HERE / 'cores.py'}:answering")
    calls = int(rate * seconds)
    caller = sipp("caller", "-s", "bob", "-d", 0, "-r", rate, to=server.uri, calls=calls)
    caller.wait_for_success(calls, PATIENCE + seconds, bad=BAD_BESIDE_OTHERS)
    refused = refused_by(server, calls)
    stats = server.wait_until_empty(60)
    assert stats["delivered"] == 3 * (calls - refused)
    handled = stats["delivered"] + stats.get("absorbed", 0) + stats.get("answered", 0)
    assert handled == stats["received"]


# ---- two phones and the proxy between them


def test_sipp_users_call_each_other_through_the_default_server(sipp, serve, register):
    rate, seconds = (100, GOAL) if GOAL else (50, 3)
    server = serve()
    register("alice", server)
    bob = register("bob", server)
    calls = int(rate * seconds)
    callee = sipp("callee", port=bob, calls=calls)
    caller = sipp("caller", "-s", "bob", "-d", 200, "-r", rate, to=server.uri, calls=calls)
    caller.wait_for_success(calls, PATIENCE + seconds, bad=BAD_BESIDE_OTHERS)
    callee.wait_for_success(calls - refused_by(server, calls), bad=BAD_BESIDE_OTHERS)


def test_no_transaction_is_left_when_calls_have_gone_through_the_proxy(sipp, serve, register):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    callee = sipp("callee", port=register("bob", server), calls=20)
    caller = sipp("caller", "-s", "bob", "-d", 10, "-r", 20, to=server.uri, calls=20)
    caller.wait_for_success(20, bad=BAD_BESIDE_OTHERS)
    callee.wait_for_success(20 - refused_by(server, 20), bad=BAD_BESIDE_OTHERS)
    server.wait_until_empty()


def test_caller_hears_that_the_callee_is_busy(sipp, serve, register, refused):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    callee = sipp("callee_refuses", port=register("bob", server))
    sipp(refused(486), "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)
    server.wait_until_empty()


def test_caller_cancels_while_it_rings(sipp, serve, register):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    callee = sipp("callee_is_cancelled", port=register("bob", server))
    sipp("caller_cancels", "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)
    server.wait_until_empty()


@pytest.mark.rfc("3261 16.7")
def test_caller_gets_408_when_the_callee_is_silent(sipp, serve, register, refused):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", register("bob", server)))
        sipp(refused(408), "-s", "bob", to=server.uri).wait_for_success(1)
    server.wait_until_empty()


@pytest.mark.rfc("3261 16.8")
def test_callee_that_rings_forever_is_cancelled_and_caller_gets_487(sipp, serve, register, refused):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    callee = sipp("callee_is_cancelled", port=register("bob", server))
    sipp(refused(487), "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)
    server.wait_until_empty()


def test_caller_of_an_unknown_user_gets_404(sipp, serve, refused):
    server = serve(f"{HERE / 'cores.py'}:proxy")
    sipp(refused(404), "-s", "nobody", to=server.uri).wait_for_success(1)
    server.wait_until_empty()


# ---- sippet ping


def test_ping_is_answered_by_sipp(sipp, sippet):
    port = free_port()
    sipp("uas", "-aa", port=port)
    ended = sippet("ping", f"sip:127.0.0.1:{port}")
    assert ended.returncode == 0
    assert ended.stdout.startswith("200 OK  ")
    assert f"from 127.0.0.1:{port}" in ended.stdout


def test_ping_is_answered_by_sippet(serve, sippet):
    ended = sippet("ping", serve().uri)
    assert (ended.returncode, ended.stdout[:6]) == (0, "200 OK")


def test_sipp_is_called_by_the_command(sipp, sippet):
    port = free_port()
    callee = sipp("uas", port=port)
    ended = sippet("call", f"sip:service@127.0.0.1:{port}", "--duration", "0.2")
    assert ended.returncode == 0, ended.stdout
    callee.wait_for_success(1)


def test_sipp_refuses_the_command(sipp, sippet):
    port = free_port()
    callee = sipp("callee_refuses", port=port)
    ended = sippet("call", f"sip:service@127.0.0.1:{port}")
    assert (ended.returncode, "refused by the peer: " in ended.stdout) == (1, True)
    callee.wait_for_success(1)
