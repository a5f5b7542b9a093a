"""Unowned: finds calls that no program holds any more, so nothing will hang them up."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Sequence, Sized
from typing import Protocol

from ...observe.log_values import Plain
from ..element import Element
from ..inbox import Inbox
from .call import Holder
from .dialog import Dialog
from .end import End
from .handlers import ReinviteCore

log = logging.getLogger("sippet_gevent.core")


class Ownable(Protocol):
    """A call, as this module sees it."""

    stack: Element
    end: End | None
    handlers: dict[str, ReinviteCore]
    _inbox: Inbox[None]
    _holder: Holder | None

    @property
    def rules(self) -> Sequence[object]:
        """Its rules, which refer to it; None for each that does not exist."""

    @property
    def _queue(self) -> Sized | None:
        """Its events, which refer to it."""

    @property
    def dialog(self) -> Dialog:
        """Its dialog."""


def _references_of_a_local() -> int:
    """Return how many references sys.getrefcount() counts for an object of one local variable."""
    thing = object()
    return _references(thing)


def _references(thing: object) -> int:
    return sys.getrefcount(thing) if hasattr(sys, "getrefcount") else 1 << 30


LOCAL = _references_of_a_local()

OWN = 3
"""References that the library holds: the table of dialogs, the dialog's usages, and the
offers and answers. Each rule has one more, and so have the queue of events and the INVITE that
began the call."""


class Unowned:
    """Looks at a call 64*T1 after its core has returned. Then nothing of the INVITE refers to it.

    A call that has handlers, or whose end a greenlet waits for, is in use. So is one that a
    variable of the program refers to. The others are counted, and logged once.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Ownable) -> None:
        self._call = weakref.ref(call)
        stack = call.stack
        stack.deadlines.add(stack.clock.now() + 64 * stack.engine.timers.t1 + 1, self)

    def expire(self, now: float) -> None:
        """Count the call if nothing uses it."""
        call = self._call()
        if call is None or call.end is not None or call.handlers or call._inbox.is_awaited:
            return
        rules = sum(rule is not None for rule in call.rules)
        ours = LOCAL + OWN + rules + (call._queue is not None)
        ours += getattr(call._holder, "call", None) is call
        if _references(call) > ours:
            return
        stack = call.stack
        stack.dialogs.unowned += 1
        stack.engine.counters.warn(
            "call unowned",
            now,
            'call unowned: call_id=%s reason="its core has returned and nothing refers to it" '
            'hint="write with tx.accept() as call:, or keep the call"',
            Plain(call.dialog.call_id),
            log=log,
        )
