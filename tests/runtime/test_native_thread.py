"""Tests of runtime/native_thread.py: how the jobs of a thread come back to the loop."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent import monkey

from sippet_gevent.runtime import native_thread
from sippet_gevent.runtime.native_thread import AT_ONCE, SHARE, Call, NativeThread, are_busy


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


def in_turns(thread, disk, each_turn=lambda: None):
    """Let 200 greenlets wait for the disk. Return how many of them went on in each turn."""
    turns = [0]
    turn = gevent.get_hub().loop.check()  # runs once in each turn, when the sockets were read

    def began():
        turns[0] += 1
        each_turn()

    turn.start(began)
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
    assert thread.waiting == 0
    return [sum(1 for at, _ in came if at == each) for each in sorted({at for at, _ in came})]


def test_hundreds_that_waited_for_a_disk_go_on_a_few_in_each_turn_of_the_loop(
    thread, disk, monkeypatch
):
    monkeypatch.setattr(native_thread, "SHARE", 3600.0)  # however slow this machine is
    assert max(in_turns(thread, disk)) <= AT_ONCE


def test_more_go_on_in_a_turn_of_a_busy_loop_so_that_they_keep_up_with_it(thread, disk):
    def read_datagrams():  # without a sleep, which lets the loop turn in a patched process
        end = time.perf_counter() + 0.01
        while time.perf_counter() < end:
            pass

    assert len(in_turns(thread, disk, read_datagrams)) <= 200 * SHARE / 0.01 + 10


def test_a_thread_with_nothing_to_do_does_not_keep_the_loop_running(thread, disk):
    job = Call()
    thread.give(job)
    assert are_busy()
    disk.set()
    job.wait()
    gevent.sleep(0)
    assert not are_busy()
