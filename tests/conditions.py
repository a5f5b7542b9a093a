"""Waiting for a condition, while the loop runs: how long that takes says nothing of what is tested."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

import gevent

PATIENCE = 45
"""Seconds within which what is waited for happens on a busy machine; at rest it takes milliseconds."""

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Run the loop until a condition is true; return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {_text(condition)}"
        gevent.sleep(0.001)
    return value


def at_once(function: Callable[..., T], *arguments: object, turns: int = 10) -> T:
    """Return what a function returns that waits for nothing: some turns of the loop are enough for it."""
    greenlet = gevent.spawn(function, *arguments)
    for _ in range(turns):
        gevent.sleep(0)
        if greenlet.ready():
            return greenlet.get()  # type: ignore[no-any-return]
    greenlet.kill()
    raise AssertionError(f"{_text(function)} waits")


def _text(function: Callable[..., object]) -> str:
    try:
        return inspect.getsource(function).strip()
    except (OSError, TypeError):
        return repr(function)
