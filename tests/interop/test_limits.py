"""SIPp calls beyond the limits of a server: each call that is answered ends well, each other one gets one 503."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import BLOCKS

from .test_sipp import GOAL, sipp

pytest_plugins = ["tests.programs"]

ANSWERING = BLOCKS["answering"]

SERVERS = {
    # name: (the limits, the core, whether 503 must appear)
    "the tutorial's answering core": ("Limits()", ANSWERING, False),
    "the tutorial's answering core, 50 calls": ("Limits(calls=50)", ANSWERING, True),
    "a core that accepts at once, 100 handlers": (
        "Limits(handlers=100)",
        "def core(request, tx):\n    with tx.accept() as call:\n        call.wait()\n",
        False,
    ),
    "a core that rings, 50 handlers": (
        "Limits(handlers=50)",
        "def core(request, tx):\n    tx.respond(180)\n    tx.wait(1)\n    with tx.accept() as call:\n        call.wait()\n",
        True,
    ),
}


@pytest.mark.parametrize(("limits", "core", "refuses"), SERVERS.values(), ids=SERVERS)
def test_each_bye_is_answered_200_and_each_refusal_is_one_503(
    sipp, serve, tmp_path, limits, core, refuses
):
    rate, talk, calls = (500, 3000, 4000) if GOAL else (100, 1000, 300)
    if GOAL:
        limits = limits.replace("50", "500")
    path = tmp_path / "core.py"
    path.write_text(
        "from sippet_gevent import Limits, Stack, Timers\n"
        f"offer = 'v=0'\n{core}\nstack = Stack(core=core, limits={limits}, timers=Timers(d=1.0, i=0.5, j=1.0, l=1.0))\n"
    )
    server = serve(f"{path}:stack")
    log = tmp_path / "sipp.log"
    program = sipp(
        "caller_may_be_refused",
        "-r",
        rate,
        "-d",
        talk,
        "-trace_logs",
        "-log_file",
        log,
        to=server.uri,
        calls=calls,
    )
    # On a busy machine SIPp sends a request twice, and gets the same answer twice: a message of a dead call to it.
    program.wait_for_success(calls, 60, bad=("FailedCall", "OutOfCallMsgs", "FatalErrors"))
    repeated = program.errors.read_text("utf-8", "replace") if program.errors.exists() else ""
    assert not re.search(
        r"Dead call[^\n]*received 'SIP/2.0 2\d\d(?:(?!Dead call).)*CSeq: 1 INVITE", repeated, re.S
    ), repeated
    stats = server.wait_until_empty(60)
    refused = re.findall(r"refused +(\d+)", log.read_text()) if log.exists() else []
    print(f"{calls - len(refused)} answered, {len(refused)} refused; {stats}")
    assert all(1 <= int(seconds) <= 10 for seconds in refused)
    assert not refuses or 0 < len(refused) < calls
    assert "overdue" not in stats and "core_errors" not in stats
    sipp("uac", "-d", 100, to=server.uri).wait_for_success(1)
