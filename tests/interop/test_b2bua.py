"""examples/b2bua.py between two SIPps: rings, hold, digits, refusals, cancellation, and load.

`pytest -m slow` plays 100 calls a second for a minute, five times.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.ports import free_port

from .test_sipp import BAD, BAD_BESIDE_OTHERS, HERE, refused_by, sipp

pytest_plugins = ["tests.programs"]

SHORT = "Stack(timers=Timers(d=4.0, i=2.0, j=4.0, k=2.0, l=4.0, m=4.0))"
"""Short, but longer than the pauses in which SIPp repeats what was not answered at once."""


@pytest.fixture
def b2bua(serve, tmp_path):
    """Serve the example, with a gateway at this port."""

    def start(port, stack=SHORT):
        text = (ROOT / "examples" / "b2bua.py").read_text()
        text = text.replace("5070", str(port)).replace("stack = Stack()", f"stack = {stack}")
        path = tmp_path / "b2bua.py"
        path.write_text(text.replace("import Stack, bridge", "import Stack, Timers, bridge"))
        return serve(f"{path}:stack")

    return start


def memory_of(server):
    """Return the resident memory of a program, in KB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))


def test_phone_holds_dials_and_hangs_up_through_the_b2bua(b2bua, sipp):
    port = free_port()
    server = b2bua(port)
    callee = sipp("callee_in_call", port=port)
    sipp("phone_holds", "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)
    stats = server.wait_until_empty()
    assert "core_errors" not in stats


@pytest.mark.rfc("3261 14.1")
def test_hold_behind_the_ack_waits_for_the_late_ack_of_the_caller(b2bua, sipp):
    port = free_port()
    server = b2bua(port)
    callee = sipp("callee_holds_at_once", port=port, calls=10)
    caller = sipp("caller_acknowledges_late", "-s", "bob", "-r", 5, to=server.uri, calls=10)
    caller.wait_for_success(10)
    callee.wait_for_success(10)
    stats = server.wait_until_empty()
    assert "core_errors" not in stats


def test_caller_that_cancels_ends_the_ringing_of_the_callee(b2bua, sipp, tmp_path):
    port = free_port()
    server = b2bua(port)
    text = (HERE / "callee_is_cancelled.xml").read_text()  # there is one Via: that of the bridge
    one_via = [line for line in text.splitlines(keepends=True) if "below" not in line]
    scenario = tmp_path / "callee.xml"
    scenario.write_text("".join(one_via))
    callee = sipp(scenario, port=port)
    sipp("caller_cancels", "-s", "bob", to=server.uri).wait_for_success(1)
    callee.wait_for_success(1)
    server.wait_until_empty()


def play(server, sipp, port, *, rate, calls, bad=BAD):
    """Play calls at a rate. In every third call the caller holds, sends a digit and resumes."""
    callee = sipp("callee_in_call", port=port, calls=calls)
    caller = sipp("caller_in_call", "-s", "bob", "-r", rate, "-d", 500, to=server.uri, calls=calls)
    caller.wait_for_success(calls, seconds=calls / rate + 60, bad=bad)
    refused = refused_by(server, calls)
    assert bad is not BAD or not refused
    callee.wait_for_success(calls - refused, seconds=60, bad=bad)
    stats = server.wait_until_empty(seconds=60)
    assert not {"core_errors", "calls_unowned", "call_events_dropped"} & stats.keys()
    print("resident KB:", memory_of(server))
    return memory_of(server)


def test_calls_under_load_all_succeed_and_leave_nothing(b2bua, sipp):
    port = free_port()
    play(b2bua(port), sipp, port, rate=50, calls=150, bad=BAD_BESIDE_OTHERS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_100_calls_a_second_five_times_keeps_the_memory_flat(b2bua, sipp):
    port = free_port()
    server = b2bua(port, "Stack()")
    memory = [play(server, sipp, port, rate=100, calls=6000) for _ in range(5)]
    print("resident KB after each repetition:", memory)
    # the first one fills caches and free lists
    assert memory[-1] - memory[1] < 0.05 * memory[1]
