"""Callbacks of `Location.watch()` that wait, which they must not."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue

from sippet_gevent import Location, MemoryBindings
from sippet_gevent.stores import late_events
from sippet_gevent.testing.stores import Faulty
from sippet_gevent.testing.stores.samples import binding


@pytest.fixture(params=["memory", "a store that may wait"])
def location(request):
    store = MemoryBindings()
    return Location(store if request.param == "memory" else Faulty(store), store_timeout=5.0)


def add(location, number):
    kept = binding(f"<sip:{number}@192.0.2.1>", location.now())
    return location.update(f"sip:{number}@example.com", lambda before: (kept,))


def number_of(event):
    return int(event.binding.uri.user)


class Reader:
    """A callback that waits until `go` is set."""

    def __init__(self):
        self.go, self.told = Event(), []

    def __call__(self, event):
        self.go.wait()
        self.told.append(number_of(event))


def test_callback_that_waits_holds_one_update_and_others_are_stored(location, caplog):
    reader, others = Reader(), []
    location.watch(reader)
    location.watch(lambda event: others.append(number_of(event)))
    first = gevent.spawn(add, location, 0)
    gevent.sleep(0.01)
    for number in range(1, 20):
        assert len(add(location, number)) == 1
    assert not first.ready() and reader.told == [] and others == list(range(1, 20))
    reader.go.set()
    first.get(timeout=5)
    gevent.sleep(0.01)
    assert reader.told == list(range(20)) and sorted(others) == list(range(20))
    add(location, 20)
    assert reader.told[-1] == 20
    (line,) = caplog.messages
    assert line.startswith("watch of bindings waits: callback=") and "Reader" in line


def test_queue_that_nobody_reads_costs_one_address(location, monkeypatch, caplog):
    monkeypatch.setattr(late_events, "LATE", 10)
    queue = Queue(maxsize=3)
    watch = location.watch(queue.put)
    stuck = gevent.spawn(lambda: [add(location, number) for number in range(4)])
    gevent.sleep(0.01)
    for number in range(4, 50):
        add(location, number)
    assert not stuck.ready()
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "watch of bindings waits",
        "events of bindings are lost",
    ]
    seen = []
    while len(seen) < 14:
        seen.append(number_of(queue.get(timeout=5)))
        gevent.sleep(0)
    assert seen == list(range(14))
    stuck.get(timeout=5)
    watch.close()


def test_events_that_come_while_late_ones_are_told_keep_their_order(location):
    told, gates = [], {0: Event(), 1: Event()}

    def callback(event):
        number = number_of(event)
        if number in gates:
            gates[number].wait()
        told.append(number)

    location.watch(callback)
    first = gevent.spawn(add, location, 0)
    gevent.sleep(0.01)
    add(location, 1)
    gates[0].set()
    first.get(timeout=5)
    for number in (2, 3):  # while 1 is told
        add(location, number)
        gevent.sleep(0.01)
    assert told == [0]
    gates[1].set()
    gevent.sleep(0.01)
    assert told == [0, 1, 2, 3]


def test_closed_watch_tells_nothing_that_was_late(location):
    reader = Reader()
    watch = location.watch(reader)
    first = gevent.spawn(add, location, 0)
    gevent.sleep(0.01)
    add(location, 1)
    watch.close()
    watch.close()
    reader.go.set()
    first.get(timeout=5)
    gevent.sleep(0.01)
    assert reader.told == [0]


def test_callback_that_is_killed_or_raises_late_does_not_stop_the_others(location, caplog):
    told = []

    def callback(event):
        number = number_of(event)
        if number in (0, 2):
            gevent.sleep(0.02)
        if number == 1:
            raise RuntimeError("late")
        if number == 2:
            raise gevent.GreenletExit
        told.append(number)

    location.watch(callback)
    first = gevent.spawn(add, location, 0)
    gevent.sleep(0.005)
    for number in range(1, 5):
        add(location, number)
    first.get(timeout=5)
    gevent.sleep(0.1)
    assert told == [0, 3, 4]
    assert "watch of bindings failed: event='added'" in caplog.messages


def test_callback_that_changes_bindings_is_told_of_them_at_once():
    location, told = Location(), []

    def callback(event):
        told.append(number_of(event))
        if told[-1] == 0:
            add(location, 1)
            assert told == [0, 1]

    location.watch(callback)
    add(location, 0)
    assert told == [0, 1]
