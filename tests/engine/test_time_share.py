"""TimeShare: how many requests of one kind pass in overload."""

from __future__ import annotations

from sippet_gevent import Limits
from sippet_gevent.engine.sources import SHARE, Sources
from sippet_gevent.engine.time_share import LEAST_COST, TimeShare

PART = 0.25
WINDOW = 0.1
MOST = round(PART * WINDOW / LEAST_COST)


def passed(share, number, host, now=0.0):
    return sum(share.may_pass(host, f"{host} {each}", now) for each in range(number))


def test_one_source_has_a_share_and_all_have_a_part_of_the_time():
    share = TimeShare(PART, WINDOW, Sources(Limits()))
    counts = [passed(share, MOST, f"192.0.2.{host}") for host in range(10)]
    assert counts[0] <= SHARE * MOST + 1
    assert sum(counts) == MOST


def test_exempt_source_has_all_of_the_part():
    share = TimeShare(PART, WINDOW, Sources(Limits(exempt=("192.0.2.0/24",))))
    assert passed(share, 2 * MOST, "192.0.2.1") == MOST


def test_next_window_has_room_again():
    share = TimeShare(PART, WINDOW, Sources(Limits()))
    first = passed(share, MOST, "192.0.2.1")
    assert passed(share, MOST, "192.0.2.1", WINDOW / 2) == 0
    assert passed(share, MOST, "192.0.2.1", WINDOW) == first


def test_costly_requests_are_fewer():
    share = TimeShare(PART, WINDOW, Sources(Limits()))
    for _ in range(100):
        share.took(0.01)
    assert 1 <= sum(passed(share, 10, f"192.0.2.{host}") for host in range(10)) <= 3


def test_pause_of_the_process_within_a_request_is_forgotten_within_a_second():
    share = TimeShare(PART, WINDOW, Sources(Limits()))
    share.took(5.0)
    counts = []
    for window in range(10):
        hosts = range(MOST)
        counts.append(
            sum(passed(share, 1, f"10.0.{host}.1", (window + 0.5) * WINDOW) for host in hosts)
        )
        for _ in range(counts[-1]):
            share.took(LEAST_COST)
    assert counts[-1] > 0.9 * MOST


def test_addresses_of_one_ipv6_network_are_one_source():
    share = TimeShare(PART, WINDOW, Sources(Limits()))
    total = sum(share.may_pass(f"2001:db8::{host:x}", f"{host}", 0.0) for host in range(MOST))
    assert total <= SHARE * MOST + 1


def test_request_that_is_given_back_leaves_its_place_once():
    share = TimeShare(PART, WINDOW, Sources(Limits()))
    first = passed(share, MOST, "192.0.2.1")
    for _ in range(2):
        share.give_back("192.0.2.1 0")
    share.give_back("unknown")
    assert passed(share, MOST, "192.0.2.1") == 1
    assert passed(share, 10 * MOST, "192.0.2.2") == first
