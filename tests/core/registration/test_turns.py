"""Turns: how many REGISTERs are pending at one registrar, and how many begin in a second."""

from __future__ import annotations

import random
from collections import deque

import pytest

from sippet_gevent.core.registration.turns import MARGIN, PENDING, RATE, Turns, unregister_rate


class Each:
    """A registration that notes its turns."""

    def __init__(self, began, name):
        self.began, self.name = began, name
        self.lane = None
        self.error = None

    def _turn(self, now):
        self.began.append((now, self.name))

    def _stuck(self, error):
        self.error = error


def many(number, turns, key="registrar", now=0.0, **options):
    began = []
    found = [Each(began, n) for n in range(number)]
    for each in found:
        turns.ask(each, key, now, **{"is_refresh": False, **options})
    return found, began


def play(turns, found, began, seconds, *, done):
    """Give turns for a while; each REGISTER is done after `done` seconds, or never."""
    now, finished, seen = 0.0, [], 0
    while now < seconds:
        turns.give(now)
        while seen < len(began):
            finished.append((began[seen][0] + done, began[seen][1]))
            seen += 1
        for at, name in [each for each in finished if each[0] <= now]:
            turns.release(found[name])
            finished.remove((at, name))
        now += 0.005


def test_turns_have_a_rate_and_an_order():
    turns = Turns()
    found, began = many(100, turns)
    play(turns, found, began, 10, done=0.05)
    assert [name for _, name in began] == list(range(100))
    assert began[-1][0] == pytest.approx(99 / RATE, abs=0.6)
    times = [at for at, _ in began]
    assert max(sum(at <= other < at + 1 for other in times) for at in times) <= RATE + 1
    assert len(turns) == 0 and not turns._lanes


def test_silent_registrar_has_few_pending_registers():
    turns = Turns()
    found, began = many(100, turns)
    play(turns, found, began, 30, done=1000)
    assert len(began) == PENDING
    assert turns.give(100.0) is None  # only responses bring turns
    for each in found:
        turns.withdraw(each, "registrar")
    assert not turns._lanes


def test_refresh_comes_at_once_while_the_registrar_answers():
    turns = Turns()
    _, began = many(PENDING, turns, is_refresh=True)
    assert len(began) == PENDING
    _, more = many(3, turns, is_refresh=True)
    assert not more  # too many are pending


def test_refreshes_that_chance_brings_together_make_no_burst():
    """As many as RATE on average, each at once, would be 33 in some seconds."""
    turns, chance, began = Turns(), random.Random(1), []
    due = sorted(chance.uniform(0, 30) for _ in range(600))
    waits, now = deque(), 0.0
    while now < 40:
        while due and due[0] <= now:
            waits.append(Each(began, len(due)))
            turns.ask(waits[-1], "registrar", due.pop(0), is_refresh=True)
        turns.give(now)
        while waits and waits[0].lane is not None:
            turns.release(waits.popleft())  # the registrar answers at once
        now += 0.01
    times = [at for at, _ in began]
    assert len(times) == 600 and len(turns) == 0
    assert max(sum(at <= other < at + 1 for other in times) for at in times) <= MARGIN * RATE
    assert times[-1] < 35


def test_refreshes_that_wait_come_before_the_others():
    turns = Turns()
    found, began = many(PENDING, turns, is_refresh=True)
    _, others = many(2, turns)
    _, refreshes = many(2, turns, is_refresh=True)
    for each in found:
        turns.release(each)
    turns.give(100.0)
    turns.give(101.0)
    assert len(refreshes) == 2 and not others
    assert len(began) == PENDING


def test_dead_registrar_does_not_hold_up_another():
    turns = Turns()
    found, began = many(50, turns, "dead")
    play(turns, found, began, 30, done=1000)
    _, alive = many(5, turns, "alive", now=40.0)
    for at in range(5):
        turns.give(41.0 + at)
    assert len(alive) == 5


def test_lanes_take_turns():
    turns = Turns()
    one, began_one = many(10, turns, "one")
    two, began_two = many(10, turns, "two")
    for step in range(10):
        turns.give(step / RATE)
    assert abs(len(began_one) - len(began_two)) <= 1 and len(began_one) >= 4
    for each in (*one, *two):
        turns.withdraw(each, "one")
        turns.withdraw(each, "two")
    assert not turns._lanes


def test_reason_of_a_failing_registrar_is_told_to_those_that_wait():
    turns = Turns()
    found, _ = many(PENDING + 2, turns)
    for step in range(PENDING):
        turns.give(float(step))
    waits = found[-1]
    assert waits.error is None
    error = TimeoutError("no answer")
    turns.note(found[0], error, 20.0)
    assert waits.error is error
    (late,), _ = many(1, turns)
    assert late.error is error
    turns.note(found[1], None, 21.0)
    (later,), _ = many(1, turns)
    assert later.error is None


def test_rate_and_pending_follow_the_refreshes_that_are_needed():
    turns = Turns()
    turns.load = 80.0  # 4000 bindings of 60 seconds
    assert turns.rate == 100.0 and turns.most_pending == 80.0
    turns.clear()
    assert turns.rate == RATE and turns.most_pending == PENDING


@pytest.mark.parametrize(("number", "rate"), [(1, 20.0), (216, 20.0), (2016, 200.0)])
def test_rate_of_removals_keeps_the_time_of_a_stop(number, rate):
    assert unregister_rate(number) == rate
