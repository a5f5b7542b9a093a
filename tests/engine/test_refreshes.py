"""Refreshes: how many REGISTERs pass in overload because they look like refreshes."""

from __future__ import annotations

from sippet_gevent import Limits
from sippet_gevent.engine.refreshes import LEAST_COST, REFRESHES, Refreshes
from sippet_gevent.engine.sources import SHARE, Sources

WINDOW = 0.1
MOST = round(REFRESHES * WINDOW / LEAST_COST)


def passed(refreshes, number, host, now=0.0):
    return sum(refreshes.may_pass(host, now) for _ in range(number))


def test_one_source_has_a_share_and_all_have_a_part_of_the_time():
    refreshes = Refreshes(WINDOW, Sources(Limits()))
    counts = [passed(refreshes, MOST, f"192.0.2.{host}") for host in range(10)]
    assert counts[0] <= SHARE * MOST + 1
    assert sum(counts) == MOST


def test_exempt_source_has_all_of_the_part():
    refreshes = Refreshes(WINDOW, Sources(Limits(exempt=("192.0.2.0/24",))))
    assert passed(refreshes, 2 * MOST, "192.0.2.1") == MOST


def test_next_window_has_room_again():
    refreshes = Refreshes(WINDOW, Sources(Limits()))
    first = passed(refreshes, MOST, "192.0.2.1")
    assert passed(refreshes, MOST, "192.0.2.1", WINDOW / 2) == 0
    assert passed(refreshes, MOST, "192.0.2.1", WINDOW) == first


def test_costly_refreshes_are_fewer():
    refreshes = Refreshes(WINDOW, Sources(Limits()))
    for _ in range(100):
        refreshes.took(0.01)
    assert 1 <= sum(passed(refreshes, 10, f"192.0.2.{host}") for host in range(10)) <= 3


def test_addresses_of_one_ipv6_network_are_one_source():
    refreshes = Refreshes(WINDOW, Sources(Limits()))
    total = sum(refreshes.may_pass(f"2001:db8::{host:x}", 0.0) for host in range(MOST))
    assert total <= SHARE * MOST + 1
