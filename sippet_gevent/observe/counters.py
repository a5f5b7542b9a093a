"""Counters: count the outcome of each received message. LimitedLog: limits log lines that peers
cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypedDict

from .log_values import Plain, in_quotes, shown

LINES = 10
"""Log lines of one reason before further ones are summarised. They are enough to see the
problem."""

SUMMARY_SECONDS = 10.0
"""Seconds between two summaries of a reason. So a flood of any rate writes 8,640 lines a day."""

LOG_REASONS = 256
"""Most reasons with lines of their own. The others share the lines of OTHER. The library has fewer
than 50, all constants."""

OTHER = "other"

REASONS = 64
"""Most reasons by which dropped messages are counted. A filter of the application makes new ones,
and each is kept."""

FILTERED = "filtered"
"""Reason for messages whose filter tells none."""

LOGGED_EXAMPLE = 500
"""Characters that a summary quotes of the first line left out."""


def _formatted(text: str, arguments: tuple[object, ...]) -> str:
    try:
        return text % shown(text, arguments)
    except Exception:  # a repr() of the application fails; logging survives that, too
        return text


class _Flood:
    """State of one reason: lines that it may still write, and lines left out since the last
    summary."""

    __slots__ = ("alarm", "ends_at", "example", "left_out", "level", "log", "room")

    def __init__(self) -> None:
        self.room = LINES
        self.ends_at = 0.0
        self.left_out = self.level = 0
        self.log: Any = None
        self.alarm: Any = None
        self.example = ""


class Alarm(Protocol):
    """A scheduled call."""

    def close(self) -> None:
        """Prevent the call."""


class Timekeeper(Protocol):
    """The source of time for limits and summaries. A Clock is one."""

    @property
    def now(self) -> Callable[[], float]:
        """Returns the time in seconds."""

    def alarm(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Call `call()` after this many seconds."""


class Identified(Protocol):
    """A message with a Call-ID."""

    @property
    def headers(self) -> Any:
        """The header fields."""


class LimitedLog:
    """Writes log lines that a peer can cause. Each reason has LINES lines, then a summary every
    SUMMARY_SECONDS.

    A reason gets one line back after SUMMARY_SECONDS in which none of its lines was left out.
    Reasons are constants of the code, never text of a peer. Lines of `logging.DEBUG` need no limit,
    because they are written on request only.

    Args:
        clock: The time. Without one, a summary is written with the next line of its reason.
    """

    __slots__ = ("_clock", "_floods", "unlogged")

    def __init__(self, clock: Timekeeper | None = None) -> None:
        self._clock = clock
        self._floods: dict[str, _Flood] = {}
        self.unlogged = 0
        """Lines that were left out."""

    def line(
        self,
        log: logging.Logger,
        level: int,
        reason: str,
        text: str,
        *arguments: object,
        exc_info: Any = None,
        stacklevel: int = 2,
    ) -> bool:
        """Write a line unless this reason has used up its own. Text is escaped and cut.

        Args:
            log: The logger.
            level: The level of the line.
            reason: A constant, by which lines are counted.
            text: The line, with `%s` for each argument.
            arguments: Values, which may come from a peer.
            exc_info: The exception, whose traceback is written, too.
            stacklevel: The caller that the record names.

        Returns:
            True if the line is written.
        """
        if not log.isEnabledFor(level):
            return False
        flood = self._flood(reason)
        if flood.room > 0:
            flood.room -= 1
            log.log(level, text, *shown(text, arguments), exc_info=exc_info, stacklevel=stacklevel)
            return True
        if not flood.left_out:
            self._begin_summary(
                flood, reason, log, level, _formatted(text, arguments)[:LOGGED_EXAMPLE]
            )
        self._leave_out(flood, level)
        return False

    def leaves_out(self, reason: str, now: float) -> bool:
        """Return True, and count the line, if the last line of this reason was left out and this
        one would be, too. In a flood the caller then makes no text.

        Args:
            reason: That of line(). now: The time of the clock.
        """
        flood = self._floods.get(reason)
        if flood is None or not flood.left_out or now >= flood.ends_at:
            return False
        flood.left_out += 1
        self.unlogged += 1
        return True

    def loud(self, log: logging.Logger, reason: str) -> bool:
        """Return True if this reason may still write a line, which the caller writes then."""
        flood = self._flood(reason)
        if flood.room > 0:
            flood.room -= 1
            return True
        if not flood.left_out:
            self._begin_summary(flood, reason, log, logging.WARNING, "")
        self._leave_out(flood, logging.WARNING)
        return False

    def stop(self) -> None:
        """Write the pending summaries, and forget all reasons."""
        floods, self._floods = self._floods, {}
        for reason, flood in floods.items():
            self._summarise(flood, reason)

    def _flood(self, reason: str) -> _Flood:
        """Return the state of a reason. A reason that has been quiet may write lines again."""
        now = time.monotonic() if self._clock is None else self._clock.now()
        flood = self._floods.get(reason)
        if flood is None:
            if len(self._floods) >= LOG_REASONS:
                reason = OTHER
            flood = self._floods.setdefault(reason, _Flood())
        if now >= flood.ends_at:
            if not flood.left_out:  # one line back for each period without a line left out
                flood.room = min(
                    LINES, flood.room + 1 + int((now - flood.ends_at) / SUMMARY_SECONDS)
                )
            self._summarise(flood, reason)
            flood.ends_at = now + SUMMARY_SECONDS
        return flood

    def _begin_summary(
        self, flood: _Flood, reason: str, log: logging.Logger, level: int, example: str
    ) -> None:
        flood.log, flood.level, flood.example = log, level, example
        if self._clock is not None:
            flood.alarm = self._clock.alarm(
                flood.ends_at - self._clock.now(), lambda: self._due(flood, reason)
            )

    def _leave_out(self, flood: _Flood, level: int) -> None:
        flood.left_out += 1
        flood.level = max(flood.level, level)
        self.unlogged += 1

    def _due(self, flood: _Flood, reason: str) -> None:
        flood.alarm = None
        self._summarise(flood, reason)
        flood.ends_at += SUMMARY_SECONDS  # lines of the next period are summarised, too

    def _summarise(self, flood: _Flood, reason: str) -> None:
        if flood.alarm is not None:
            flood.alarm.close()
            flood.alarm = None
        if flood.left_out:
            text = 'log lines left out: reason="%s" count=%d seconds=%g%s'
            example = f' first="{in_quotes(flood.example)}"' if flood.example else ""
            # before a handler of the log lets others run
            count, flood.left_out, flood.example = flood.left_out, 0, ""
            flood.log.log(flood.level, text, reason, count, SUMMARY_SECONDS, example)


class Counts(TypedDict):
    """The numbers of Counters by name."""

    received: int
    delivered: int
    answered: int
    absorbed: int
    dropped: dict[str, int]
    core_errors: int
    filter_errors: int
    late_answers: int
    send_errors: int
    timeouts: int
    unlogged: int
    store_errors: int
    store_timeouts: int
    store_retries: int
    store_unreadable_records: int
    store_stale_lookups: int
    store_breakers_open: int


class Counters:
    """Numbers. Each received message ends in exactly one of delivered, answered, absorbed, dropped.

    * `delivered`: given to a core, a call or a client transaction.
    * `answered`: answered by the stack itself.
    * `absorbed`: a retransmission or an ACK, which its transaction has handled.
    * `dropped`: by reason.

    `lines` writes the log lines that peers cause.
    """

    __slots__ = (
        "_log",
        "_stores",
        "absorbed",
        "answered",
        "core_errors",
        "delivered",
        "dropped",
        "filter_errors",
        "late_answers",
        "lines",
        "received",
        "send_errors",
        "timeouts",
    )  # fmt: skip

    def __init__(self, log: logging.Logger, clock: Timekeeper | None = None) -> None:
        self._log = log
        self.lines = LimitedLog(clock)
        self._stores: list[Callable[[], Mapping[str, int]]] = []
        self.received = self.delivered = self.answered = self.absorbed = 0
        self.dropped: dict[str, int] = {}
        self.core_errors = self.filter_errors = self.late_answers = self.send_errors = (
            self.timeouts
        ) = 0

    def drop(
        self,
        reason: str,
        flow: Any = None,
        now: float | None = None,
        message: Identified | None = None,
        *,
        detail: object = None,
    ) -> None:
        """Count a dropped message. With `now`, log it unless the reason has used up its lines."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if now is None or self.lines.leaves_out(reason, now):
            return
        text, values = "message dropped: source=%s", [flow]
        if message is not None:
            text += " call_id=%s"
            values.append(Plain(message.headers.get("Call-ID")))
        text += f" reason={reason}"
        if detail is not None:
            text += ' detail="%s"'
            values.append(detail)
        self.lines.line(self._log, logging.WARNING, reason, text, *values, stacklevel=3)

    def filter(self, reason: str) -> None:
        """Count a message that a filter has dropped, by the reason it tells. It is not logged,
        because it may be part of a flood."""
        if not reason or (reason not in self.dropped and len(self.dropped) >= REASONS):
            reason = FILTERED
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def warn(
        self,
        reason: str,
        now: float,
        text: str,
        *arguments: object,
        log: logging.Logger | None = None,
    ) -> None:
        """Log a warning that a peer can cause; see LimitedLog.line()."""
        self.lines.line(log or self._log, logging.WARNING, reason, text, *arguments, stacklevel=3)

    def info(
        self,
        reason: str,
        now: float,
        text: str,
        *arguments: object,
        log: logging.Logger | None = None,
    ) -> None:
        """Log an event that a peer can cause and that needs no action; see LimitedLog.line()."""
        self.lines.line(log or self._log, logging.INFO, reason, text, *arguments, stacklevel=3)

    def error(
        self,
        reason: str,
        now: float,
        text: str,
        *arguments: object,
        exc_info: Any = None,
        log: logging.Logger | None = None,
    ) -> None:
        """Log a mistake of a core or of this library, with its traceback; see LimitedLog.line()."""
        self.lines.line(
            log or self._log,
            logging.ERROR,
            reason,
            text,
            *arguments,
            exc_info=exc_info,
            stacklevel=3,
        )

    def loud(self, reason: str, now: float) -> bool:
        """Return True if this reason may still write a line, which the caller writes then."""
        return self.lines.loud(self._log, reason)

    @property
    def unlogged(self) -> int:
        """Log lines that were left out."""
        return self.lines.unlogged

    def add_store(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Add the numbers of a store, `store_errors` and the like, to those of the others. Nothing
        happens if they were added before."""
        if counts not in self._stores:
            self._stores.append(counts)

    def _of_stores(self, name: str) -> int:
        return sum(counts().get(name, 0) for counts in self._stores)

    @property
    def balance(self) -> int:
        """Number of received messages that are not counted yet. 0 while no message is being
        processed."""
        return (
            self.received
            - self.delivered
            - self.answered
            - self.absorbed
            - sum(self.dropped.values())
        )

    def as_dict(self) -> Counts:
        """Return all numbers by name."""
        return {
            "absorbed": self.absorbed,
            "answered": self.answered,
            "core_errors": self.core_errors,
            "delivered": self.delivered,
            "filter_errors": self.filter_errors,
            "late_answers": self.late_answers,
            "received": self.received,
            "send_errors": self.send_errors,
            "timeouts": self.timeouts,
            "unlogged": self.unlogged,
            "dropped": dict(self.dropped),
            "store_errors": self._of_stores("store_errors"),
            "store_timeouts": self._of_stores("store_timeouts"),
            "store_retries": self._of_stores("store_retries"),
            "store_unreadable_records": self._of_stores("store_unreadable_records"),
            "store_stale_lookups": self._of_stores("store_stale_lookups"),
            "store_breakers_open": self._of_stores("store_breakers_open"),
        }
