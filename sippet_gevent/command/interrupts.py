"""Ctrl-C and SIGTERM for commands that wait: an exception where the command waits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import gevent


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. No `except Exception` catches it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise Interrupted in this greenlet, where it waits; twice at most."""
    me, asked = gevent.getcurrent(), 0

    def interrupt() -> None:
        nonlocal asked
        asked += 1
        if asked <= 2:
            gevent.get_hub().loop.run_callback(me.throw, Interrupted)

    watchers = [gevent.signal_handler(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()


@contextmanager
def impatient() -> Iterator[None]:
    """Stop waiting at once at another Ctrl-C."""
    try:
        yield
    except Interrupted:
        pass
