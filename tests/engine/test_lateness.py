"""When waits are an overload: soon when a queue grows or the kernel drops, and never behind a single pause."""

from __future__ import annotations

import pytest

from sippet_gevent.engine.lateness import DROPPING, LATE, LOOP, STANDING, Lateness

T1 = 0.5
MS = 0.001


def begins(reports, source="socket"):
    """Return the milliseconds of the report that is an overload; None if none is. A report is the time and the wait in
    milliseconds, and True if the kernel has dropped since the last one."""
    lateness = Lateness(T1)
    for time, wait, *dropped in reports:
        if lateness.is_overload(
            source, wait * MS, time * MS, stands=time > 0, dropped=bool(dropped)
        ):
            return time
    return None


@pytest.mark.parametrize(("load", "most"), [(10, 60), (5, 70), (2, 120)])
def test_queue_that_grows_is_an_overload_when_it_is_late(load, most):
    # a message that is read now has come `wait` ago: of 1 ms that passes, the wait grows by 1 - 1 / load
    reports = [(time, time * (1 - 1 / load)) for time in range(0, 1000, 10)]
    assert LATE * T1 * 1000 <= begins(reports) <= most


@pytest.mark.parametrize("pause", [30, 60, 150, 400])
def test_queue_behind_a_pause_is_no_overload(pause):
    assert (
        begins(
            [
                (0, 5),
                (10, 6),
                *((20 + pause + t, pause - 4 * t) for t in range(0, pause // 4, 5) if t < 90),
            ]
        )
        is None
    )


def test_queue_behind_two_pauses_is_no_overload():
    assert (
        begins([(0, 0), (40, 40), (50, 30), (90, 60), (100, 50), (110, 40), (120, 30), (130, 10)])
        is None
    )


def test_burst_of_answers_to_a_queue_behind_a_pause_is_no_overload():
    assert (
        begins(
            [
                (0, 5),
                (110, 100),
                (120, 60),
                (130, 45),
                (140, 60),
                (150, 75),
                (160, 90),
                (200, 60),
                (220, 40),
            ]
        )
        is None
    )


def test_queue_behind_a_pause_is_an_overload_if_it_stays_late():
    assert begins([(t, 80) for t in range(0, 300, 10)]) == STANDING * T1 * 1000


def test_short_queue_that_grows_is_no_overload():
    assert begins([(t, min(t, 45)) for t in range(0, 1000, 10)]) is None


def test_drops_that_go_on_are_an_overload_although_no_wait_is_late():
    reports = [(t, 20, *([True] if t >= 100 else [])) for t in range(0, 500, 10)]
    assert 0 <= begins(reports) - 100 - DROPPING * T1 * 1000 <= 10


def test_drops_with_reports_between_them_are_an_overload():
    reports = [(t, 20, *([True] if t % 30 == 0 else [])) for t in range(0, 500, 10)]
    assert begins(reports) == 60


def test_drops_in_one_pause_are_no_overload():
    # the buffer has filled in the pause: the datagram behind the drops is read after those before it
    reports = [(0, 0), (110, 100), (120, 90), (130, 80, True), (140, 45), (150, 30), (160, 10)]
    assert begins(reports) is None


def test_drops_long_after_others_are_no_overload():
    assert begins([(0, 10, True), *((t, 10) for t in range(10, 300, 10)), (300, 10, True)]) is None


@pytest.mark.parametrize(("every", "is_overload"), [(20, True), (60, False)])
def test_drops_are_an_overload_although_each_burst_empties_a_small_buffer(every, is_overload):
    lateness = Lateness(T1)
    found = [
        lateness.is_overload("socket", 0.01, time * MS, stands=False, dropped=True)
        for time in range(0, 500, every)
    ]
    assert any(found) == is_overload


def test_growing_delay_of_timers_is_an_overload_only_when_it_lasts():
    reports = [(0, 50), (30, 80), (60, 110), (99, 140), (100, 140)]
    assert begins(reports, LOOP) == 100
