"""After every test nothing may be left: transactions, deadlines, greenlets, descriptors, messages in no counter."""

from __future__ import annotations

import os

import gevent
import pytest
from hypothesis import HealthCheck, settings

from sippet_gevent.engine.engine import Engine

pytest_plugins = ["pytester"]

# How fast a machine draws examples says nothing of the code: others may want its processor, too.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples every time, so that a red run is the commit's doing.
settings.register_profile("steady", settings.get_profile("patient"), derandomize=True)
settings.load_profile("steady" if os.environ.get("CI") else "patient")


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
    hub = gevent.get_hub()  # the loop's own descriptors are there before we count
    failures = []
    handle_error = hub.handle_error

    def failed(context, kind, error, traceback):
        if type(context).__name__ in (
            "callback",
            "timer",
        ):  # our own; what a greenlet raises is its maker's concern
            failures.append(repr(error))
        handle_error(context, kind, error, traceback)

    monkeypatch.setattr(hub, "handle_error", failed)
    gevent.sleep(0)
    before = descriptors()
    yield
    monkeypatch.undo()
    assert not failures, f"errors in the hub: {failures}"
    for engine in engines:
        gevent.idle()
        left = {
            "open transports": engine.transports,
            "server transactions": engine.servers,
            "client transactions": engine.clients,
            "merge keys": engine.merged.keys,
            "cores still running": engine.workers.busy,
            "greenlets": engine.workers.alive,
            "deadlines": len(engine._deadlines),
            "messages in no counter": engine.counters.balance,
            "internal errors": list(engine.crashes),
        }
        left = {name: value for name, value in left.items() if value}
        assert not left, f"left over after the test: {left}"
    if engines:
        # a server of the test may not have seen yet that a browser was killed
        for _ in range(100):
            if descriptors() <= before:
                break
            gevent.sleep(0.01)
        assert descriptors() <= before, "file descriptors were left open"


def pytest_addoption(parser):
    parser.addoption(
        "--rfc", action="store_true", help="run nothing; list the sections that tests prove"
    )


def pytest_configure(config):
    if config.getoption("--rfc"):
        config.option.collectonly = True


def pytest_terminal_summary(terminalreporter, config):
    """Print the conformance table: each RFC, its sections, and how many tests prove each."""
    if not config.getoption("--rfc"):
        return
    table = {}
    for item in config._rfc_items:
        for mark in item.iter_markers("rfc"):
            for rule in mark.args:
                table.setdefault(rule, []).append(item.nodeid.partition("[")[0])
    terminalreporter.section("RFC sections proved by tests")
    for rule in sorted(
        table,
        key=lambda rule: [
            int(part) if part.isdigit() else 0 for part in rule.replace(".", " ").split()
        ],
    ):
        rfc, _, section = rule.partition(" ")
        files = sorted({name.partition("::")[0] for name in table[rule]})
        terminalreporter.write_line(
            f"RFC {rfc:<5} §{section or '-':<12} {len(table[rule]):4} tests  {', '.join(files)}"
        )


def pytest_collection_finish(session):
    session.config._rfc_items = session.items
