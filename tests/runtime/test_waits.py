"""Waits: never over early, one alarm for all, and nothing left."""

from __future__ import annotations

import gevent
import pytest
from greenlet import greenlet

from sippet_gevent.runtime.clock import Clock
from sippet_gevent.runtime.waits import EXPIRED, Waits
from tests.conditions import until


class Sleeper(greenlet):
    """A greenlet that notes when it is resumed, and with what."""

    __slots__ = ("clock", "due", "resumed")

    def __init__(self, clock):
        super().__init__(self.sleep, gevent.get_hub())
        self.clock, self.resumed = clock, []
        self.switch()

    def sleep(self):
        self.resumed.append((gevent.get_hub().switch(), self.clock.now()))

    def __lt__(self, other):
        return id(self) < id(other)


def sleepers(waits, clock, seconds):
    """Start a greenlet for each of these waits; return them with the times at which they are over."""
    found = []

    def start():
        for each in seconds:
            sleeper = Sleeper(clock)
            waits.add(each, sleeper)
            found.append((sleeper, sleeper.due))

    gevent.get_hub().loop.run_callback(start)
    until(lambda: len(found) == len(seconds))
    return found


def test_long_wait_is_never_over_early():
    clock = Clock()
    waits = Waits(clock)
    found = sleepers(waits, clock, [0.03, 0.01, 0.02, 0.01, 0.0])
    until(lambda: all(sleeper.resumed for sleeper, _ in found))
    for sleeper, due in found:
        [(value, at)] = sleeper.resumed
        assert value is EXPIRED and at >= due and sleeper.due is None
    assert len(waits) == 0 and waits._alarm is None


def test_long_waits_share_one_alarm():
    clock = Clock()
    waits = Waits(clock)
    found = sleepers(waits, clock, [100.0, 50.0, 200.0])
    assert len(waits) == 3 and waits._alarm.seconds == pytest.approx(50, abs=1)
    for sleeper, _ in found:
        waits.remove(sleeper)
    assert len(waits) == 0 and waits._alarm is None
    assert not any(sleeper.resumed for sleeper, _ in found)


def test_ended_long_waits_are_let_go_when_they_are_half_of_all():
    clock = Clock()
    waits = Waits(clock)
    found = sleepers(waits, clock, [100.0] * 100)
    for sleeper, _ in found[:51]:
        waits.remove(sleeper)
    assert len(waits) == len(waits._entries) == 49
    for sleeper, _ in found:
        waits.remove(sleeper)


def test_greenlet_that_waits_again_is_resumed_for_its_new_wait_alone():
    clock = Clock()
    waits = Waits(clock)
    [(sleeper, _), (other, _)] = sleepers(waits, clock, [0.01, 100.0])
    waits.remove(sleeper)
    waits.add(0.05, sleeper)
    due = sleeper.due
    until(lambda: sleeper.resumed)
    assert sleeper.resumed[0][1] >= due
    waits.remove(other)
