"""Tests of runtime/native_thread.py: how the jobs of a thread come back to the loop."""

from __future__ import annotations

import gevent
import pytest
from gevent import monkey

from sippet_gevent.runtime.native_thread import AT_ONCE, Call, NativeThread, are_busy


class Last(Call):
    """The job after which the thread ends."""


@pytest.fixture
def disk():
    """An event of the operating system; the thread waits until it is set, as for a disk."""
    return monkey.get_original("threading", "Event")()


@pytest.fixture
def thread(disk):
    def run(thread):
        jobs = []
        while not any(isinstance(job, Last) for job in jobs):
            jobs = thread.take(1000)
            disk.wait(10)
            for number, job in enumerate(jobs):
                job.value = number
            thread.hand_back(jobs)

    thread = NativeThread(run)
    yield thread
    disk.set()
    last = Last()
    thread.give(last)
    last.wait()
    thread.close()
    assert not are_busy()


def test_hundreds_that_waited_for_a_disk_go_on_a_few_in_each_turn_of_the_loop(thread, disk):
    turns = [0]
    turn = gevent.get_hub().loop.check()  # runs once in each turn, when the sockets were read
    turn.start(lambda: turns.__setitem__(0, turns[0] + 1))
    came = []

    def caller(job):
        job.wait()
        came.append((turns[0], job))

    jobs = [Call() for _ in range(200)]
    greenlets = [gevent.spawn(caller, job) for job in jobs]
    gevent.sleep(0)
    for job in jobs:
        thread.give(job)
    assert thread.waiting == 200
    disk.set()
    gevent.joinall(greenlets)
    turn.stop()
    turn.close()
    assert [job for _, job in came] == jobs  # in order
    in_one_turn = [sum(1 for at, _ in came if at == each) for each in {at for at, _ in came}]
    assert max(in_one_turn) <= AT_ONCE
    assert thread.waiting == 0


def test_a_thread_with_nothing_to_do_does_not_keep_the_loop_running(thread, disk):
    job = Call()
    thread.give(job)
    assert are_busy()
    disk.set()
    job.wait()
    gevent.sleep(0)
    assert not are_busy()
