"""Thinning: how much less clients with overload control should send (RFC 7339 §5.3)."""

from __future__ import annotations

import pytest

from sippet_gevent.engine.thinning import FIRST, Thinning

PERIOD, TARGET, PATIENCE = 0.1, 0.05, 0.25

pytestmark = pytest.mark.rfc("7339 5.3")


@pytest.fixture
def thinning():
    thinning = Thinning(PERIOD, TARGET, PATIENCE)
    thinning.begin(0.0)
    return thinning


def test_part_grows_while_the_delay_exceeds_the_target(thinning):
    parts = [thinning.follow(PERIOD * (1 + n), 0.3) for n in range(20)]
    assert parts == sorted(parts)
    assert (parts[0] > FIRST, parts[-1]) == (True, 1.0)


def test_part_falls_to_nothing_without_delay(thinning):
    parts = [thinning.follow(PERIOD * (1 + n), 0.0) for n in range(20)]
    assert parts == sorted(parts, reverse=True)
    assert parts[0] > 0  # not all at once
    assert parts[-1] == 0.0


def test_part_changes_once_in_a_period_however_often_it_is_read(thinning):
    once = thinning.follow(PERIOD, 0.3)
    assert [thinning.follow(PERIOD * 1.5, 0.3) for _ in range(50)] == [once] * 50


def test_next_overload_begins_with_what_is_left():
    thinning = Thinning(PERIOD, TARGET, PATIENCE)
    thinning.part = 0.8
    thinning.begin(1.0)
    assert thinning.part == 0.8


def test_part_settles_between_the_bounds_when_clients_follow_it(thinning):
    """Clients that offer 1.5 times the capacity, and a queue that grows by what is too much."""
    delay, parts = 0.0, []
    for period in range(1, 400):
        offered = 1.5 * (1 - thinning.part)
        delay = min(max(delay + (offered - 1) * PERIOD, 0.0), PATIENCE)
        parts.append(thinning.follow(period * PERIOD, delay))
    average = sum(parts[100:]) / len(parts[100:])
    assert 0.25 < average < 0.5
    assert max(parts[100:]) < 1.0
