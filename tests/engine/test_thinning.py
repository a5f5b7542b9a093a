"""Thinning: how much less clients with overload control should send (RFC 7339 §5.3)."""

from __future__ import annotations

import pytest

from sippet_gevent.engine.thinning import (
    CLIENTS,
    FIRST,
    MOST,
    SEEN,
    UNSEEN,
    Thinning,
    ThinningByClient,
)

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


# ---- by client


@pytest.fixture
def by_client():
    thinning = ThinningByClient(PERIOD, TARGET, PATIENCE)
    thinning.begin(0.0)
    return thinning


def test_client_that_is_served_is_asked_for_nothing_beside_one_that_is_not(by_client):
    for period in range(1, 60):
        by_client.total.served, by_client.total.unserved = 20, 40
        by_client.count(["192.0.2.1"] * 10 + ["192.0.2.2"] * 10, served=True)
        by_client.count(["192.0.2.1"] * 40 + ["192.0.2.3"], served=False)
        one, two = (
            by_client.follow(host, PERIOD * period, 0.3, 0.0, 0.3)
            for host in ("192.0.2.1", "192.0.2.2")
        )
    assert (one, two) == (MOST, 0.0)


def test_client_with_few_requests_is_asked_by_those_of_several_periods(by_client):
    parts = []
    by_client.follow("192.0.2.1", 0.0, 0.0, 0.0, 0.0)
    for period in range(1, SEEN + 1):
        by_client.count(["192.0.2.1"], served=False)
        parts.append(by_client.follow("192.0.2.1", PERIOD * period, 0.0, 0.0, 0.0))
    assert parts[:-1] == [FIRST] * (SEEN - 1) and parts[-1] > FIRST
    by_client.count(["192.0.2.1"], served=False)
    later = PERIOD * (SEEN + UNSEEN)
    assert parts[-1] < by_client.follow("192.0.2.1", later, 0.0, 0.0, 0.0)


def test_clients_beyond_the_most_are_asked_by_all_requests_until_others_are_silent(by_client):
    by_client.total.part = 0.5
    for number in range(CLIENTS):
        by_client.follow(f"10.0.{number // 256}.{number % 256}", 0.0, 0.0, 1.0, 1.0)
    assert by_client.follow("192.0.2.1", 0.0, 0.0, 1.0, 1.0) == 0.5
    assert len(by_client.clients) == CLIENTS
    by_client.follow("192.0.2.1", PERIOD * UNSEEN, 0.0, 1.0, 1.0)
    assert [*by_client.clients] == ["192.0.2.1"]


def test_client_that_comes_long_after_the_overload_is_asked_for_nothing(by_client):
    for host in ("192.0.2.1", "192.0.2.2"):
        by_client.follow(host, 0.0, 0.0, 0.0, 0.0)
        by_client.count([host] * SEEN, served=False)  # and then the overload ends
    by_client.total.unserved = 2 * SEEN
    for period in range(1, 200):  # one of them is there again at once
        by_client.follow("192.0.2.1", PERIOD * period, 0.0, 0.0, 0.0, is_over=True)
    assert by_client.follow("192.0.2.2", PERIOD * 200, 0.0, 0.0, 0.0, is_over=True) == 0.0
    assert not by_client.asks


def test_overload_long_after_another_begins_with_the_first_part(by_client):
    by_client.total.part = 0.9
    by_client.begin(1.0)
    assert by_client.total.part == 0.9
    by_client.begin(3600.0)
    assert by_client.total.part == FIRST


def test_first_client_long_after_the_overload_is_asked_for_nothing(by_client):
    by_client.follow("192.0.2.1", 0.0, 0.0, 0.0, 0.0)
    by_client.count(["192.0.2.1"] * SEEN, served=False)
    by_client.total.unserved = SEEN
    assert by_client.follow("192.0.2.2", 3600.0, 0.0, 0.0, 0.0, is_over=True) == 0.0
    assert not by_client.asks


def test_after_the_overload_clients_are_forgotten_one_by_one(by_client):
    assert by_client.follow("192.0.2.1", 0.0, 0.0, 0.0, 0.0) == FIRST
    parts = [
        by_client.follow("192.0.2.1", PERIOD * n, 0.0, 0.0, 0.0, is_over=True) for n in range(1, 60)
    ]
    assert parts[-1] == 0.0 and not by_client.clients and not by_client.asks
    assert by_client.follow("192.0.2.2", PERIOD * 60, 0.0, 0.0, 0.0, is_over=True) == 0.0
    assert not by_client.clients
