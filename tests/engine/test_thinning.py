"""Thinning: how much less clients with overload control should send (RFC 7339 §5.3)."""

from __future__ import annotations

import pytest

from sippet_gevent.engine.thinning import FIRST, MOST, Thinning

PERIOD, TARGET, PATIENCE = 0.1, 0.05, 0.25

pytestmark = pytest.mark.rfc("7339 5.3")


@pytest.fixture
def thinning():
    thinning = Thinning(PERIOD, TARGET, PATIENCE)
    thinning.begin(0.0)
    return thinning


def test_part_grows_while_requests_are_not_served(thinning):
    parts = []
    for period in range(1, 60):
        thinning.served, thinning.unserved = 10, 40
        parts.append(thinning.follow(PERIOD * period, 0.0))
    assert parts == sorted(parts)
    assert (parts[0] > FIRST, parts[-1]) == (True, MOST)


def test_part_grows_while_the_delay_in_the_kernel_exceeds_the_target(thinning):
    parts = [thinning.follow(PERIOD * (1 + n), 0.3) for n in range(20)]
    assert parts == sorted(parts)
    assert (parts[0] > FIRST, parts[-1]) == (True, MOST)


def test_part_falls_to_nothing_while_all_are_served(thinning):
    thinning.part = 0.9
    parts = [thinning.follow(PERIOD * (1 + n), 0.0) for n in range(60)]
    assert parts == sorted(parts, reverse=True)
    assert parts[0] > 0.85  # not all at once
    assert parts[-1] == 0.0


def test_part_stays_while_a_request_waits_for_long(thinning):
    parts = [thinning.follow(PERIOD * n, 0.0, 0.2) for n in range(1, 5)]
    assert parts == pytest.approx([FIRST] * 4)


def test_part_changes_once_in_a_period_however_often_it_is_read(thinning):
    once = thinning.follow(PERIOD, 0.3)
    assert [thinning.follow(PERIOD * 1.5, 0.3) for _ in range(50)] == [once] * 50


def test_next_overload_begins_with_what_is_left():
    thinning = Thinning(PERIOD, TARGET, PATIENCE)
    thinning.part = 0.8
    thinning.begin(1.0)
    assert thinning.part == 0.8


@pytest.mark.parametrize("load", [1.5, 2, 5, 10])
def test_part_settles_where_the_capacity_is_used_when_clients_follow_it(load):
    """Clients that offer `load` times the capacity. The newest of their requests are served, and
    the others are refused after PATIENCE."""
    thinning = Thinning(PERIOD, TARGET, PATIENCE)
    thinning.begin(0.0)
    capacity, waiting, used = 100, [], []
    for tick in range(1, 400):
        now = tick * PERIOD
        waiting += [now] * round(load * capacity * (1 - thinning.part))
        served = min(capacity, len(waiting))
        del waiting[len(waiting) - served :]
        late = sum(now - each >= PATIENCE for each in waiting)
        del waiting[:late]
        thinning.served += served
        thinning.unserved += late
        thinning.follow(now + PERIOD / 2 if tick == 1 else now, 0.0)
        used.append(served / capacity)
    settled = used[100:]
    assert sum(settled) / len(settled) > 0.95
    assert thinning.part == pytest.approx(1 - 1 / load, abs=0.1)
