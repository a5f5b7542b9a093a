"""Workers: recycled when a job runs straight through, retired when it yields, counted while it waits."""

from __future__ import annotations

import weakref
from contextvars import ContextVar

import gevent
import pytest
from gevent.event import Event
from greenlet import getcurrent

from sippet_gevent.runtime import workers as workers_module
from sippet_gevent.runtime.workers import Workers
from tests.conditions import PATIENCE, until


class Pool(Workers):
    """Workers whose jobs are functions, run from the hub as a transport does."""

    def __init__(self):
        self.errors = []
        self.told = []
        super().__init__(
            lambda job, flow: job(),
            crashed=lambda error, data, flow: self.errors.append(error),
            yielded=self.told.append,
            ended=self.told.append,
        )

    def do(self, *jobs):
        done = Event()

        def in_hub():
            for job in jobs:
                self.run(job, None)
            done.set()

        gevent.get_hub().loop.run_callback(in_hub)
        done.wait(PATIENCE)


@pytest.fixture
def pool():
    pool = Pool()
    yield pool
    pool.stop()
    assert pool.alive == 0


def test_job_that_runs_through_gives_its_greenlet_to_the_next(pool):
    seen = []
    pool.do(*[lambda: seen.append(getcurrent())] * 3)
    assert len(set(seen)) == 1 and pool.alive == 1 and pool.busy == 0


def test_job_that_yields_keeps_its_greenlet_and_the_next_gets_another(pool):
    seen, go = [], Event()

    def waits():
        seen.append(getcurrent())
        go.wait(PATIENCE)

    pool.do(waits, lambda: seen.append(getcurrent()))
    assert seen[0] is not seen[1] and pool.busy == 1
    go.set()
    until(lambda: pool.busy == 0)


def test_greenlet_whose_job_has_yielded_retires(pool):
    seen = []
    pool.do(lambda: (seen.append(getcurrent()), gevent.sleep(0.001)))
    until(lambda: pool.alive == 0)
    assert seen[0].dead


def test_yield_is_told_once(pool):
    pool.do(lambda: (gevent.sleep(0.001), gevent.sleep(0.001)), lambda: None)
    until(lambda: pool.busy == 0)
    assert len(pool.told) == 1


def test_job_that_raises_is_reported_and_the_greenlet_goes_on(pool):
    def fails():
        raise ValueError("broken")

    pool.do(fails, lambda: None)
    assert [str(error) for error in pool.errors] == ["broken"] and pool.alive == 1


def test_context_variables_do_not_pass_from_job_to_job(pool):
    variable, seen = ContextVar("variable", default="unset"), []
    pool.do(lambda: variable.set("mine"), lambda: seen.append(variable.get()))
    assert seen == ["unset"]


def test_worker_at_rest_keeps_no_context_variable_alive(pool):
    class Value:
        pass

    variable, seen = ContextVar("variable"), []

    def job():
        value = Value()
        variable.set(value)
        seen.append(weakref.ref(value))

    def fails():
        job()
        raise ValueError("broken")

    pool.do(job)
    pool.do(fails)
    pool.errors.clear()  # with the frames of the job
    assert pool.alive == 1 and [each() for each in seen] == [None, None]


def test_forgotten_timeout_ends_the_parked_greenlet_and_nothing_else(pool):
    pool.do(lambda: gevent.Timeout(0.01).start())
    assert pool.alive == 1
    until(lambda: pool.alive == 0)
    assert pool.busy == 0
    seen = []
    pool.do(lambda: seen.append(1))
    assert seen == [1]


def test_killed_job_is_no_longer_counted(pool):
    seen = []
    pool.do(lambda: (seen.append(getcurrent()), gevent.sleep(100)))
    assert pool.busy == 1
    gevent.get_hub().loop.run_callback(seen[0].throw, gevent.GreenletExit)
    until(lambda: pool.busy == pool.alive == 0)


def test_greenlets_beyond_the_parked_ones_are_let_go(pool, monkeypatch):
    monkeypatch.setattr(workers_module, "PARKED", 2)
    go = Event()
    pool.do(*[lambda: go.wait(PATIENCE)] * 10)
    assert pool.busy == 10
    go.set()
    until(lambda: pool.busy == 0)
    pool.do(*[lambda: None] * 5)
    assert pool.alive <= 2


def test_stop_ends_parked_greenlets(pool):
    pool.do(lambda: None)
    pool.stop()
    assert pool.alive == 0


def test_forgotten_timeout_with_its_own_exception_ends_the_parked_greenlet(pool):
    pool.do(lambda: gevent.Timeout(0.01, ValueError("forgotten")).start())
    until(lambda: pool.alive == 0)
    assert pool.busy == 0
    seen = []
    pool.do(lambda: seen.append(1))
    assert seen == [1]


def test_exception_that_is_no_exception_is_reported_too(pool):
    class Odd(BaseException):
        pass

    def fails():
        raise Odd("odd")

    pool.do(fails, lambda: None)
    assert [str(error) for error in pool.errors] == ["odd"]
