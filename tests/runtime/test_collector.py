"""Collector: new objects are looked at by the clock, old ones seldom."""

import gc
import sys
from collections import Counter, deque

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import Collector, Stack, TransportError
from sippet_gevent.runtime import collector as module
from sippet_gevent.runtime.collector import FULL_COLLECTIONS, INTERVAL
from tests.conditions import PATIENCE


@pytest.fixture
def collections():
    """The collections of each generation since the last clear()."""
    seen = Counter()

    def count(phase, info):
        if phase == "stop":
            seen[info["generation"]] += 1

    gc.callbacks.append(count)
    yield seen
    gc.callbacks.remove(count)


def work(old, turns):
    """Make objects and free as many old ones, as a busy server does."""
    for _ in range(turns):
        for _ in range(20):
            old.append([])
            old.popleft()
        gevent.sleep(INTERVAL / 4)


def test_new_objects_are_looked_at_while_as_many_old_ones_are_freed(collections):
    old = deque([] for _ in range(5000))
    gc.collect()
    collections.clear()
    with Collector():
        work(old, 30)
    assert collections[1] >= 3


def test_collector_finds_a_cycle_that_is_new(collections):
    found = []

    class Cycle:
        def __del__(self):
            found.append(self.name)

    gc.collect()
    cycle = Cycle()
    cycle.cycle, cycle.name = cycle, "new"
    del cycle
    with Collector():
        gevent.sleep(INTERVAL * 3)
        assert found == ["new"]


def test_collector_gives_the_thresholds_back():
    before = gc.get_threshold()
    collector = Collector()
    with collector:
        collector.start()  # begun already
        assert gc.get_threshold() == (*before[:2], max(before[2], FULL_COLLECTIONS))
    collector.stop()  # ended already
    assert gc.get_threshold() == before


def test_collector_leaves_a_rarer_threshold_of_the_program(collections):
    before = gc.get_threshold()
    gc.set_threshold(700, 10, FULL_COLLECTIONS * 2)
    try:
        with Collector() as collector:
            assert gc.get_threshold() == (700, 10, FULL_COLLECTIONS * 2)
            assert collector._looks is None
    finally:
        gc.set_threshold(*before)


@pytest.fixture
def blocks(monkeypatch):
    """The blocks of memory that Python has allocated, as the test sets them."""
    blocks = [1000]
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: blocks[0])
    return blocks


def test_all_objects_are_looked_at_when_their_memory_has_doubled(collections, blocks):
    with Collector() as collector:
        for blocks[0], full in (
            (1999, 0), (2000, 1), (3999, 1), (4000, 2),  # as calls begin
            (4000, 2), (4100, 2),  # and as many go on
            (1500, 2), (2999, 2), (3000, 3),  # from the least since then
        ):  # fmt: skip
            collector._look()
            assert collections[2] == full, blocks


def test_all_objects_are_looked_at_when_the_process_has_doubled(collections, blocks, monkeypatch):
    size = [1000]  # of large buffers, which few objects hold
    monkeypatch.setattr(module, "resident", lambda: size[0])
    with Collector() as collector:
        for size[0], full in ((1999, 0), (2000, 1), (3999, 1), (1500, 1), (3000, 2), (0, 2)):
            collector._look()
            assert collections[2] == full, size


def test_system_that_tells_no_size_has_the_blocks_looked_at(collections, blocks, monkeypatch):
    monkeypatch.setattr(module, "resident", lambda: 0)
    with Collector() as collector:
        for blocks[0], full in ((1999, 0), (2000, 1)):
            collector._look()
            assert collections[2] == full


def test_old_cycles_are_freed_when_the_memory_has_doubled(monkeypatch, blocks):
    monkeypatch.setattr(module, "LOOK", 0.01)
    freed = Event()

    class Cycle:
        def __del__(self):
            freed.set()

    with Collector():
        cycle = Cycle()
        cycle.cycle = cycle
        gc.collect()  # it is old
        del cycle
        gevent.sleep(0.05)
        assert not freed.is_set()
        blocks[0] = 2000
        assert freed.wait(PATIENCE)


def test_collector_stays_off_where_the_program_has_switched_it_off(collections):
    gc.disable()
    try:
        with Collector():
            gevent.sleep(INTERVAL * 3)
            assert not collections
    finally:
        gc.enable()


def test_collector_keeps_no_loop_running():
    with Collector():
        assert gevent.wait(timeout=5)


# ---- the collector of stacks


def test_running_stack_sets_the_thresholds_and_the_last_one_restores_them(caplog):
    before = gc.get_threshold()
    first, second = Stack("udp:127.0.0.1:0"), Stack("udp:127.0.0.1:0")
    with caplog.at_level("INFO", "sippet_gevent"), first:
        assert gc.get_threshold() == (*before[:2], max(before[2], FULL_COLLECTIONS))
        with second:
            pass
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
    told = [line for line in caplog.messages if line.startswith("garbage collector")]
    assert [line.partition(":")[0] for line in told] == [
        "garbage collector set",
        "garbage collector restored",
    ]


def test_stack_can_leave_the_thresholds_alone():
    before = gc.get_threshold()
    with Stack("udp:127.0.0.1:0", tune_gc=False):
        assert gc.get_threshold() == before


def test_stack_whose_address_is_taken_restores_the_thresholds():
    before = gc.get_threshold()
    with Stack("udp:127.0.0.1:0") as stack, pytest.raises(TransportError):
        Stack(*stack.addresses).start()
    assert gc.get_threshold() == before


def test_tune_gc_must_be_a_flag():
    with pytest.raises(TypeError, match="tune_gc"):
        Stack(tune_gc="yes")
