"""Breaker: when a store that fails may be called again."""

from __future__ import annotations

import pytest

from sippet_gevent.stores.breaker import FAILURES, LEAST, MOST, WINDOW, Breaker


def opened(now=0.0, seed=1):
    breaker = Breaker(seed)
    for _ in range(FAILURES):
        breaker.failed(now, now)
    return breaker


def tries(breaker, begin, end, step=0.01):
    """Return the times at which the store may be tried, when each try fails."""
    times, now = [], begin
    while now < end:
        if breaker.allow(now):
            times.append(now)
            breaker.failed(now, now)
        now += step
    return times


def test_breaker_opens_at_the_fifth_failure_in_ten_seconds():
    breaker = Breaker()
    told = [breaker.failed(n, n) for n in range(FAILURES)]
    assert told == [False] * (FAILURES - 1) + [True]
    assert breaker.is_open and not breaker.allow(FAILURES - 1) and breaker.failing_since == 0


def test_breaker_stays_closed_at_a_slow_rate_of_failures_and_after_a_success():
    breaker = Breaker()
    for n in range(20):
        breaker.failed(n * WINDOW / 2, n * WINDOW / 2)
    assert not breaker.is_open
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed(200.0, 200.0)
    assert breaker.allow(200.0) and breaker.failing_since == 200.0


def test_calls_that_fail_together_are_one_failure():
    breaker = Breaker()
    for n in range(50):  # a store that stalls from 0 to 0.75, with a time-out of 0.25
        assert not breaker.failed(began=n / 100, now=n / 100 + 0.25)
    assert not breaker.is_open and breaker.failing_since == 0.25
    for n in range(FAILURES):
        breaker.failed(began=n + 1.0, now=n + 1.25)
    assert breaker.is_open


def test_calls_from_before_the_breaker_opened_do_not_delay_the_next_try():
    breaker = opened(now=1.0)
    due = breaker._next_try
    for _ in range(50):
        breaker.failed(began=0.9, now=1.1)
    assert breaker._next_try == due and breaker.allow(1.0 + 2 * LEAST)


def test_one_success_closes_the_breaker():
    breaker = opened()
    breaker.succeeded()
    assert (breaker.is_open, breaker.failing_since, breaker.allow(0.0)) == (False, None, True)


def test_tries_are_rarer_and_rarer_and_within_bounds():
    times = tries(opened(), 0.0, 120.0)
    waits = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    assert all(LEAST <= wait <= MOST + 0.02 for wait in waits)
    assert 12 < len(times) < 40 and sum(waits[:3]) < 3 < max(waits)


def test_tries_of_two_processes_are_not_at_the_same_times():
    assert tries(opened(seed=1), 0, 60) != tries(opened(seed=2), 0, 60)


@pytest.mark.parametrize("seed", range(5))
def test_try_whose_outcome_is_never_heard_is_followed_by_another(seed):
    breaker = opened(seed=seed)
    assert not breaker.allow(LEAST / 2)
    assert breaker.allow(MOST) and not breaker.allow(MOST)
    assert breaker.allow(2 * MOST + 0.1)
