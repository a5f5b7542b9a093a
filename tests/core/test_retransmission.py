"""Retransmission: the schedule of a response that is repeated, RFC 3261 §13.3.1.4 and RFC 3262 §3."""

from types import SimpleNamespace

import pytest

from sippet_gevent.core.dialog.retransmission import Retransmission
from sippet_gevent.engine.amplification import Amplification
from sippet_gevent.runtime.clock import VirtualClock
from sippet_gevent.transaction.timers import Timers

UNCAPPED = float("inf")


class Repeated(Retransmission):
    """Keeps the time at which it has given up."""

    __slots__ = ("given_up",)

    def _give_up(self):
        self.given_up = self._element.clock.now()


@pytest.fixture
def element():
    """An element that keeps the times at which it sends."""
    clock = VirtualClock()
    times = []
    return SimpleNamespace(
        clock=clock,
        times=times,
        deadlines=clock.deadlines(lambda now, item: item.expire(now)),
        engine=SimpleNamespace(
            respond=lambda tx, response: times.append(clock.now()), amplification=Amplification(100)
        ),
        callbacks=SimpleNamespace(spawn=lambda function: function()),
    )


def repeat(element, longest):
    """Start to repeat a response; return the repetition and the time of its start."""
    transaction = SimpleNamespace(
        timers=Timers(),
        is_terminated=False,
        reliable=True,
        last=b"",
        flow=SimpleNamespace(remote=("10.0.0.1", 5060)),
    )
    return Repeated(element, transaction, None, longest), element.clock.now()


def gaps(times, start):
    """Return the seconds between a start and the times after it, rounded to the clock's tick."""
    return [round(after - before, 1) for before, after in zip([start, *times], times)]


@pytest.mark.rfc("3261 13.3.1.4")
def test_interval_doubles_up_to_the_longest(element):
    _, start = repeat(element, longest=4.0)
    element.clock.advance(20)
    assert gaps(element.times, start) == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]


def test_interval_doubles_without_end_when_there_is_no_longest(element):
    _, start = repeat(element, longest=UNCAPPED)
    element.clock.advance(40)
    assert gaps(element.times, start) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]


def test_stopped_retransmission_sends_nothing_more(element):
    repeated, _ = repeat(element, longest=4.0)
    element.clock.advance(1)
    repeated.is_stopped = True
    element.clock.advance(40)
    assert len(element.times) == 1
    assert not hasattr(repeated, "given_up")


def test_retransmission_gives_up_after_64_t1(element):
    repeated, start = repeat(element, longest=4.0)
    element.clock.advance(40)
    assert round(repeated.given_up - start, 1) == 32.0
