"""Clock, Deadlines and VirtualClock: never early, hardly late, nothing left."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from sippet_gevent.runtime.clock import FAR, TICK, Clock, VirtualClock
from tests.conditions import PATIENCE


def test_deadline_is_never_early_and_fires_in_the_next_turn_of_the_loop():
    clock, fired, turns, done = Clock(), [], [], Event()

    def fire(now, item):
        fired.append((now, item))
        if len(fired) == 20:
            done.set()

    turn = gevent.get_hub().loop.timer(0, repeat=0.001)
    turn.start(lambda: turns.append(clock.now()))

    deadlines = clock.deadlines(fire)
    for index in range(20):
        deadlines.add(clock.now() + 0.003 * index, clock.now() + 0.003 * index)
    assert done.wait(PATIENCE)
    turn.stop()
    turn.close()
    for now, due in fired:
        assert now >= due
        # a turn that begins just before the tick does not know it yet
        assert sum(due + TICK + 0.002 < at < now for at in turns) <= 2


def test_deadline_after_a_busy_callback_is_not_early():
    clock, fired, done = Clock(), [], Event()
    deadlines = clock.deadlines(lambda now, item: (fired.append(now), done.set()))
    until = clock.now() + 0.05
    while clock.now() < until:  # the loop's own idea of now is stale meanwhile
        pass
    due = clock.now() + 0.03
    deadlines.add(due, "x")
    assert done.wait(PATIENCE)
    assert fired[0] >= due


def test_deadlines_of_one_tick_share_one_alarm():
    clock = Clock()
    deadlines = clock.deadlines(lambda now, item: None)
    due = clock.now() + 100
    for _ in range(1000):
        deadlines.add(due, "x")
    assert len(deadlines._alarms) == 1 and len(deadlines) == 1000
    deadlines.stop()
    assert len(deadlines) == 0


def test_stopped_deadlines_do_not_fire():
    clock, fired = VirtualClock(), []
    deadlines = clock.deadlines(lambda now, item: fired.append(item))
    deadlines.add(clock.now() + 1, "x")
    deadlines.stop()
    clock.advance(10)
    assert fired == []


def test_timeout_is_a_gevent_timeout_for_the_current_greenlet():
    timeout = Clock().timeout(0.01)
    with pytest.raises(gevent.Timeout) as caught:
        gevent.sleep(5)
    assert caught.value is timeout


def test_virtual_time_passes_in_advance_only():
    clock = VirtualClock()
    before = clock.now()
    gevent.sleep(0.01)
    assert clock.now() == before


def test_virtual_alarms_ring_in_order_at_their_time():
    clock, rung = VirtualClock(), []
    start = clock.now()
    for seconds in (3.0, 1.0, 2.0):
        clock.alarm(seconds, lambda seconds=seconds: rung.append((seconds, clock.now() - start)))
    clock.advance(2.5)
    assert rung == [(1.0, 1.0), (2.0, 2.0)]


def test_alarm_set_by_an_alarm_rings_in_the_same_advance():
    clock, rung = VirtualClock(), []
    clock.alarm(1, lambda: clock.alarm(1, lambda: rung.append(clock.now())))
    start = clock.now()
    clock.advance(5)
    assert rung == [start + 2]


def test_closed_virtual_alarm_stays_silent():
    clock, rung = VirtualClock(), []
    clock.alarm(1, lambda: rung.append(1)).close()
    clock.advance(5)
    assert rung == [] and clock.pending == 0


def test_virtual_timeout_is_thrown_into_its_greenlet():
    clock, result = VirtualClock(), []

    def waits():
        timeout = clock.timeout(30)
        try:
            gevent.sleep(1000)
        except gevent.Timeout as caught:
            result.append(caught is timeout)

    greenlet = gevent.spawn(waits)
    clock.advance(29)
    assert result == []
    clock.advance(2)
    greenlet.join(1)
    assert result == [True]


@pytest.mark.parametrize("seconds", [30, 2000])
def test_virtual_timeout_limits_a_block(seconds):
    """The `with` block that the documentation shows raised AssertionError."""
    clock, result = VirtualClock(), []

    def waits():
        try:
            with clock.timeout(seconds) as timeout:
                clock.sleep(1000)
        except gevent.Timeout as caught:
            result.append(caught is timeout)
        else:
            result.append(timeout.pending)

    greenlet = gevent.spawn(waits)
    clock.advance(29)
    assert result == []
    clock.advance(2000)
    greenlet.join(1)
    assert result == [seconds == 30]
    assert clock.pending == 0


def test_deadline_that_fails_costs_no_other_its_turn(caplog):
    clock, fired = VirtualClock(), []

    def fire(now, item):
        if item == "bad":
            raise ValueError("broken")
        fired.append(item)

    deadlines = clock.deadlines(fire)
    for item in ("a", "bad", "b"):
        deadlines.add(clock.now() + 1, item)
    clock.advance(2)
    assert fired == ["a", "b"]
    assert "broken" in caplog.text


# ---- deadlines that are removed


@pytest.fixture
def fired():
    return []


def test_removed_items_are_not_fired(fired):
    clock = VirtualClock()
    deadlines = clock.deadlines(lambda now, item: fired.append(item))
    items = list("abcdefgh")
    for item in items:
        deadlines.add(1005.0, item)
    for item in "bdh":
        deadlines.remove(1005.0, item)
    clock.advance(6)
    assert fired == list("acefg")
    assert len(deadlines) == clock.pending == 0
    deadlines.remove(1005.0, "a")  # fired already


def test_removed_items_are_freed_before_their_deadline(fired):
    clock = VirtualClock()
    deadlines = clock.deadlines(lambda now, item: fired.append(item))
    for item in range(1000):
        deadlines.add(2800.0, item)
    for item in range(1000):
        deadlines.remove(2800.0, item)
        assert len(deadlines) <= 2 * (1000 - item)
    assert len(deadlines) == clock.pending == 0  # the alarm is closed, too
    deadlines.add(2800.0, "again")
    clock.advance(1801)
    assert fired == ["again"]


def test_stop_forgets_what_was_removed(fired):
    clock = VirtualClock()
    deadlines = clock.deadlines(lambda now, item: fired.append(item))
    for item in "abc":
        deadlines.add(1005.0, item)
    deadlines.remove(1005.0, "a")
    deadlines.stop()
    deadlines.add(1005.0, "a")
    clock.advance(6)
    assert fired == ["a"]


# ---- coarse deadlines


def test_coarse_deadlines_that_are_far_off_share_an_alarm():
    clock = Clock()
    deadlines = clock.deadlines(lambda now, item: None)
    start = clock.now()
    for index in range(100):
        deadlines.add(start + 32 + index * 0.01, index, coarse=True)
    assert len(deadlines._alarms) <= 11 and len(deadlines) == 100
    for slot, batch in deadlines._batches.items():
        for index in batch:
            late = slot * TICK - (start + 32 + index * 0.01)
            assert 0 <= late <= 0.1 + TICK
    deadlines.stop()


def test_coarse_deadlines_that_are_near_are_as_exact_as_others():
    clock = Clock()
    deadlines = clock.deadlines(lambda now, item: None)
    due = clock.now() + FAR - 1
    deadlines.add(due, "x", coarse=True)
    (slot,) = deadlines._batches
    assert 0 <= slot * TICK - due <= TICK + 1e-9
    deadlines.stop()
