"""Inbox: greenlets that wait, and what is left of them."""

from __future__ import annotations

import gc
import weakref

import gevent
import pytest

from sippet_gevent.core.inbox import Inbox
from sippet_gevent.runtime.clock import Clock


@pytest.mark.parametrize("count", [1, 3])
def test_greenlets_that_are_killed_in_a_wait_are_freed(count):
    inbox = Inbox(Clock())
    waiting = [gevent.spawn(inbox.get) for _ in range(count)]
    gevent.sleep(0)
    gc.collect()  # it ignores from now on a tuple that has only a running greenlet
    left = [weakref.ref(greenlet) for greenlet in waiting]
    gevent.killall(waiting)
    gevent.sleep(0)
    waiting.clear()
    assert [greenlet() for greenlet in left] == [None] * count
    assert not inbox.is_awaited
