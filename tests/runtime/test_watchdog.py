"""Watchdog: code that blocks the loop is counted and named."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time

import gevent

from sippet_gevent.runtime.watchdog import Watchdog
from tests.conditions import until


def block_the_loop(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_blocked_loop_is_counted_once_and_its_line_is_logged(caplog):
    watchdog = Watchdog(lag=0.05)
    watchdog.start()
    with caplog.at_level(logging.WARNING, "sippet_gevent.core"):
        gevent.sleep(0.12)
        block_the_loop(0.4)
        gevent.sleep(0.12)
    watchdog.stop()
    # a busy machine may have stopped the process before and after
    lines = [line for line in caplog.messages if "block_the_loop" in line]
    assert len(lines) == 1
    assert 'reason="this code did not return to the loop"' in lines[0]
    assert watchdog.blocked == len(caplog.records)
    assert len(lines) == sum("did not return" in line for line in caplog.messages)
    if watchdog.blocked == 1:
        assert "block_the_loop" in watchdog.last_stack


def test_process_that_gets_no_time_of_the_machine_is_not_blamed_on_the_program(caplog):
    reason = 'reason="no Python code runs, so the machine is busy'
    with caplog.at_level(logging.WARNING, "sippet_gevent.core"):
        for _ in range(20):  # a busy machine may also stop the process between these lines
            watchdog = Watchdog(lag=0.05)
            watchdog.start()
            watchdog._timer.stop()  # the loop is idle and does not tick, as if it had got no time
            gevent.sleep(0.4)
            watchdog.stop()
            assert watchdog.blocked == 1
            if reason in caplog.text:
                break
    assert reason in caplog.text


def test_stack_and_reason_of_a_log_line_are_of_the_same_moment(caplog, monkeypatch):
    here, there = sys._getframe(), gevent.get_hub().gr_frame
    watchdog = Watchdog(lag=0.05)
    watchdog.start()
    watchdog._timer.stop()
    looks = iter([{watchdog._watched: here}])
    monkeypatch.setattr(sys, "_current_frames", lambda: next(looks, {watchdog._watched: there}))
    with caplog.at_level(logging.WARNING, "sippet_gevent.core"):
        until(lambda: "loop blocked" in caplog.text)
    watchdog.stop()
    assert 'reason="this code did not return to the loop"' in caplog.text
    assert "test_stack_and_reason_of_a_log_line" in caplog.text


def test_waiting_greenlets_do_not_block_the_loop(caplog):
    watchdog = Watchdog(lag=0.25)
    watchdog.start()
    gevent.sleep(0.6)
    watchdog.stop()
    # a busy machine may have stopped the process
    assert watchdog.blocked == caplog.text.count("the machine is busy")


def test_watchdog_that_stops_gives_its_descriptors_back():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        watchdog = Watchdog()
        watchdog.start(ending=(signal.SIGTERM,))
        watchdog.stop()
    assert len(os.listdir("/proc/self/fd")) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_watchdog_leaves_the_wakeup_descriptor_of_an_application_alone():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        try:
            watchdog = Watchdog()
            watchdog.start(ending=(signal.SIGTERM,))
            watchdog.stop()
        finally:
            assert signal.set_wakeup_fd(-1) == theirs.fileno()
