"""Tap: tells observers of each message that a stack receives and sends.

Observers are told after decryption and before encryption. Traces, ladders and captures use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import gevent

from ..errors import ParseError
from ..message.mandatory import mandatory_of
from ..message.parser import parse
from .counters import LimitedLog

Direction = Literal["in", "out"]

F = TypeVar("F")
"""The class of flows, which a higher layer defines."""
F_co = TypeVar("F_co", covariant=True)

log = logging.getLogger("sippet_gevent.transport")


@dataclass(frozen=True)
class Passage(Generic[F_co]):
    """One message that a stack has received or sent.

    Attributes:
        time: Seconds, by the clock of the stack.
        direction: `"in"` for a received message, `"out"` for a sent one.
        data: The whole message.
        flow: The flow by which it has come or left. It has `local`, `remote` and `transport`.
        transaction: Key of its transaction. None for a message that cannot be read, and for one
            that is sent outside of transactions: the ACK to a 2xx, or an answer that the stack
            gives by itself.
    """

    time: float
    direction: Direction
    data: bytes
    flow: F_co
    transaction: str | None

    @property
    def dialog(self) -> tuple[str, str | None, str | None] | None:
        """Call-ID, From tag and To tag; None for a message that cannot be read.

        The message is parsed at each call.
        """
        try:
            message = parse(self.data)
            call_id = message.headers.get("Call-ID", "")
            return call_id, message.from_.tag, mandatory_of(message).to_tag
        except ParseError:
            return None


Observer = Callable[[Passage[F]], object]
"""A callable that gets each message. It runs where the message is processed, so it must not
wait."""


class Tap(Generic[F]):
    """The observers of one stack."""

    def __init__(self, now: Callable[[], float], lines: LimitedLog) -> None:
        self._now = now
        self._lines = lines
        self.observations: tuple[Observation[F], ...] = ()

    def tell(self, direction: Direction, data: bytes, flow: F, transaction: str | None) -> None:
        """Tell the observers of a message. An observer that raises is logged."""
        passage = Passage(self._now(), direction, data, flow, transaction)
        for observation in self.observations:
            if observation.is_closed:
                continue
            observer = observation.observer
            try:
                observer(passage)
            # an application bug; the message is processed anyway
            except (Exception, gevent.Timeout) as error:
                text = 'tap failed: observer="%r" reason="%r"'
                self._lines.line(
                    log, logging.ERROR, "tap failed", text, observer, error, exc_info=error
                )


class Observation(Generic[F]):
    """An observer of messages, as `stack.tap(observer)` returns it.

    close(), or the end of its `with` block, ends the calls.
    """

    def __init__(self, observer: Observer[F], remove: Callable[[Observation[F]], None]) -> None:
        self.observer = observer
        self.is_closed = False
        self._remove = remove

    def close(self) -> None:
        """Tell the observer nothing more. Closing it again does nothing."""
        if not self.is_closed:
            self.is_closed = True
            self._remove(self)

    def __enter__(self) -> Observation[F]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
