"""The programs of the guides about operation and about parts of your own run and do what the guides say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

from sippet_gevent.runtime.collector import FULL_COLLECTIONS, GROWTH, INTERVAL, LOOK

from .blocks import BLOCKS, block, run_script


def test_patching_block_runs_without_a_warning():
    assert run_script("patching") == ""


def test_filters_block_filters(capsys):
    made = block("filters")
    assert capsys.readouterr().out == "{} {}\n"
    flow = SimpleNamespace(remote=("127.0.0.1", 5060))
    assert made.ours_only(b"x" * 8001, flow) == "too_long"
    assert made.ours_only(b"x", flow) is True
    flow.remote = ("192.0.2.1", 5060)
    assert made.ours_only(b"x", flow) is False
    assert (
        made.stack.accept(b"INVITE sip:x SIP/2.0\r\nUser-Agent: sipcli\r\n\r\n", flow) == "scanner"
    )


def test_limits_block_prints_the_counters(capsys):
    stats = block("limits").stack.stats()
    assert capsys.readouterr().out == f"{stats}\n"


def run(program):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)


def test_logging_block_writes_a_json_object_to_a_line():
    done = run(
        BLOCKS["logging"]
        + """
log = logging.getLogger("sippet_gevent.core")
logging.getLogger("sippet_gevent.transport").info("not shown")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("core failed: call_id=%s", "abc")
"""
    )
    line = json.loads(done.stderr)
    assert (line["level"], line["logger"]) == ("ERROR", "sippet_gevent.core")
    assert line["event"] == "core failed: call_id=abc"
    assert "ZeroDivisionError" in line["traceback"]


def test_collector_block_collects_seldom():
    done = run(BLOCKS["collector"] + "print(gc.get_threshold()[2], gc.get_freeze_count() > 0)")
    assert done.stdout == f"{FULL_COLLECTIONS} True\n"
    assert (INTERVAL, LOOK, GROWTH) == (0.02, 600, 2)  # the figures of the guide


def test_header_block_prints_8():
    assert run_script("header") == "8\n"


def test_transport_block_talks_to_itself():
    with block("transport").stack as stack:
        assert stack.request("OPTIONS", "sip:127.0.0.1;transport=echo", timeout=5).status == 200


def test_machines_block_draws_the_figures(capsys):
    block("machines")
    assert capsys.readouterr().out.count("starts ") == 4


def test_metrics_block_shows_counters_and_the_numbers_in_dicts(sip):
    made = block("metrics")
    stack = sip.serve(made.stack)
    started = []
    sip.ask(stack, "OPTIONS sip:office@example.com")
    (text,) = made.page({}, lambda status, headers: started.append(status))
    lines = text.decode().splitlines()
    assert started == ["200 OK"]
    assert "sip_received 1" in lines
    assert "sip_overload_state 0" in lines
    assert all(re.fullmatch(r"[a-z][a-z0-9_]* [0-9.]+", line) for line in lines)
