"""After every test nothing may be left: transactions, deadlines, greenlets, descriptors, messages in no counter."""

from __future__ import annotations

import os

import gevent
import pytest

from sippet_gevent.engine import Engine

pytest_plugins = ["pytester"]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_leaks(monkeypatch):
    """Hold every engine a test makes to leaving nothing behind once it has stopped, and the process to its descriptors."""
    engines = []
    make = Engine.__init__

    def made(self, *args, **kwargs):
        make(self, *args, **kwargs)
        engines.append(self)

    monkeypatch.setattr(Engine, "__init__", made)
    gevent.get_hub()  # the loop's own descriptors are there before we count
    gevent.sleep(0)
    before = descriptors()
    yield
    monkeypatch.undo()
    for engine in engines:
        gevent.idle()
        left = {
            "open transports": engine.transports,
            "server transactions": engine.servers,
            "client transactions": engine.clients,
            "merge keys": engine.merged,
            "cores still running": engine.workers.busy,
            "greenlets": engine.workers.alive,
            "deadlines": len(engine._deadlines),
            "messages in no counter": engine.counters.balance,
            "internal errors": list(engine.crashes),
        }
        left = {name: value for name, value in left.items() if value}
        assert not left, f"left over after the test: {left}"
    if engines:
        assert descriptors() <= before, "file descriptors were left open"
