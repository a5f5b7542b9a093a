"""Waits of connections: what is measured behind a mark, and by the turns of the loop."""

from __future__ import annotations

import time

import gevent
import pytest

from sippet_gevent.transport.base import IGNORED
from sippet_gevent.transport.stream import waits as waits_module
from sippet_gevent.transport.stream.waits import LONG, OVERDUE, PROBE, REST, Waits

from ...conditions import until


class Flow:
    marked_at, before_mark, has_backlog = 0.0, 0, False

    def __init__(self, in_kernel=0):
        self.in_kernel = in_kernel

    def unread(self):
        return self.in_kernel


class Reports(list):
    def waited(self, source, seconds, *, stands, dropped=False):
        self.append((source, seconds, stands))


@pytest.fixture
def waits():
    """Waits of a transport named "tcp", and `waits.reports`."""

    class WaitsWithReports(Waits):
        reports = Reports()

    made = WaitsWithReports("tcp")
    made.reports.clear()
    made.start(made.reports)
    yield made
    made.stop()
    assert made._events is IGNORED and made.marks == 0


def test_wait_is_reported_when_all_bytes_before_the_mark_are_served(waits):
    flow = Flow(in_kernel=1000)
    waits.mark(flow)
    flow.marked_at -= 0.05
    flow.before_mark -= 999
    waits.served(flow)
    assert waits.reports == []
    flow.before_mark, flow.in_kernel = flow.before_mark - 1, 0
    waits.served(flow)
    ((source, seconds, stands),) = waits.reports
    assert source == "tcp" and 0.05 <= seconds < 5 and not stands
    assert not flow.marked_at and waits.marks == 0


@pytest.mark.parametrize(("before_mark", "has_backlog"), [(1, False), (0, True)])
def test_wait_that_takes_long_is_reported_before_the_mark_is_passed(
    waits, before_mark, has_backlog
):
    flow = Flow()
    waits.mark(flow)
    flow.before_mark, flow.has_backlog = before_mark, has_backlog
    flow.marked_at -= 0.05
    waits.served(flow)
    assert waits.reports == []
    flow.marked_at -= OVERDUE
    waits.served(flow)
    assert [(source, stands) for source, _, stands in waits.reports] == [("tcp", True)]
    assert OVERDUE <= waits.reports[0][1] < 5 and flow.marked_at
    waits.forget(flow)


def test_next_mark_follows_at_once_while_more_bytes_wait(waits):
    flow = Flow(in_kernel=10)
    waits.mark(flow)
    first = flow.marked_at
    for _ in range(2):
        flow.before_mark = 0
        waits.served(flow)
    assert [stands for _, _, stands in waits.reports] == [False, True]
    assert flow.marked_at > first and flow.before_mark == 10 and waits.marks == 1
    waits.forget(flow)


def test_mark_stays_where_it_is_until_it_is_passed(waits):
    flow = Flow(in_kernel=10)
    waits.mark(flow)
    first, flow.in_kernel = flow.marked_at, 99
    waits.mark(flow)
    assert (flow.marked_at, flow.before_mark, waits.marks) == (first, 10, 1)
    waits.forget(flow)
    waits.forget(flow)
    assert waits.marks == 0


def test_queues_stand_while_any_connection_has_a_mark(waits):
    flows = Flow(), Flow(), Flow()
    for flow in flows:
        waits.mark(flow)
    for flow in flows:
        waits.served(flow)
    waits.mark(flows[0])
    waits.served(flows[0])
    assert [stands for _, _, stands in waits.reports] == [False, True, True, False]


def turn(waits, seconds):
    """Read something, and keep the loop busy for so long after the timer was due."""
    waits.look()
    end = time.monotonic() + PROBE + seconds
    while seconds and time.monotonic() < end:
        pass
    until(lambda: not waits.probe_at)


def test_long_turns_of_the_loop_are_reported_and_the_first_short_one_after_them(waits, monkeypatch):
    monkeypatch.setattr(waits_module, "REST", 10.0)
    for seconds in (0.2, 0.2, 0.0):
        turn(waits, seconds)
    assert [stands for _, _, stands in waits.reports] == [False, True, True]
    assert min(late for _, late, _ in waits.reports[:2]) >= 0.2 > LONG


def test_short_turns_are_not_reported(waits, monkeypatch):
    monkeypatch.setattr(waits_module, "LONG", 10.0)  # however busy the machine is
    for _ in range(2):
        turn(waits, 0.0)
    assert waits.reports == []


def test_turns_are_long_one_after_the_other_only_while_the_loop_does_not_rest(waits):
    for _ in range(3):
        turn(waits, 0.1)
        gevent.sleep(2 * REST)
    assert [stands for _, _, stands in waits.reports] == [False] * 3


def test_probe_does_not_keep_the_loop_running(waits):
    waits.look()
    start = time.monotonic()
    gevent.get_hub().join(timeout=5)  # ends at once: nothing is left to wait for
    assert time.monotonic() - start < 4
