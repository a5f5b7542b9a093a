"""Counters: what became of each message received; LimitedLog: log lines that a peer can cause,
limited by reason."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import excerpt

LINES = 10
"""Log lines of one reason before the others are summarised: enough to see what is wrong."""

SUMMARY_SECONDS = 10.0
"""Seconds between two summaries of a reason: a flood writes 8,640 lines a day, whatever its
rate."""

LOG_REASONS = 256
"""Reasons with lines of their own, at most; the rest share those of OTHER. The library has under
50, all constants."""

OTHER = "other"

REASONS = 64
"""Reasons a filter of the user's may count by, at most, with our own: each is a key that stays."""

FILTERED = "filtered"
"""What a message is dropped for whose filter tells no reason."""

LOGGED_TEXT = 256
"""Characters of one value in a log line, which may quote wire text."""

LOGGED_EXAMPLE = 500
"""Characters of the first line left out that a summary quotes."""


class Plain:
    """Shows an object, or a text without quotes, in a log line: on one line and cut, because it may
    quote a peer."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return _UNSHOWN(_escaped, str(self._value)[:LOGGED_TEXT])

    def __repr__(self) -> str:
        return _UNSHOWN(_escaped, repr(self._value)[:LOGGED_TEXT])


# Characters that end a line or move a cursor, and code points that are no characters.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]").sub


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _shown(argument: object) -> object:
    if isinstance(argument, (str, bytes)):
        return excerpt(argument)
    return argument if isinstance(argument, (int, float)) else Plain(argument)


def _formatted(text: str, arguments: tuple[object, ...]) -> str:
    try:
        return text % tuple(map(_shown, arguments))
    except Exception:  # a repr() of the user's own fails; logging survives that, too
        return text


class _Flood:
    """State of one reason: how many lines it may still write, and how many were left out since the
    last summary."""

    __slots__ = ("alarm", "ends_at", "example", "left_out", "level", "log", "room")

    def __init__(self) -> None:
        self.room = LINES
        self.ends_at = 0.0
        self.left_out = self.level = 0
        self.log: Any = None
        self.alarm: Any = None
        self.example = ""


class Alarm(Protocol):
    """A call that is to come."""

    def close(self) -> None:
        """Prevent the call."""


class Timekeeper(Protocol):
    """What limits and summaries read the time from: a Clock."""

    @property
    def now(self) -> Callable[[], float]:
        """Returns the time in seconds."""

    def alarm(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Call `call()` after this many seconds."""


class LimitedLog:
    """Writes log lines that a peer can cause: LINES for a reason, then one summary each
    SUMMARY_SECONDS.

    A reason gets one line back for each SUMMARY_SECONDS in which none of its lines was left out.
    Reasons are constants of the code, never text of a peer. Lines of `logging.DEBUG` need no limit,
    because they are written only on request.

    Args:
        clock: what has `now()` and `alarm(seconds, call)`. Without one, a summary waits for the
            reason's next line.
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
        """Write a line unless this reason has used up its own; wire text comes out escaped and cut.
        True when it is written."""
        if not log.isEnabledFor(level):
            return False
        flood = self._flood(reason)
        if flood.room > 0:
            flood.room -= 1
            log.log(level, text, *map(_shown, arguments), exc_info=exc_info, stacklevel=stacklevel)
            return True
        if not flood.left_out:
            self._begin_summary(
                flood, reason, log, level, _formatted(text, arguments)[:LOGGED_EXAMPLE]
            )
        self._leave_out(flood, level)
        return False

    def loud(self, log: logging.Logger, reason: str) -> bool:
        """Return True while this reason may still write a line; the caller writes it."""
        flood = self._flood(reason)
        if flood.room > 0:
            flood.room -= 1
            return True
        if not flood.left_out:
            self._begin_summary(flood, reason, log, logging.WARNING, "")
        self._leave_out(flood, logging.WARNING)
        return False

    def stop(self) -> None:
        """Write the summaries that are still to come, and forget all reasons."""
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
            if not flood.left_out:  # one line back for each time that it has kept within its own
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
        flood.ends_at += SUMMARY_SECONDS  # what comes in the next ones is summarised, too

    def _summarise(self, flood: _Flood, reason: str) -> None:
        if flood.alarm is not None:
            flood.alarm.close()
            flood.alarm = None
        if flood.left_out:
            text = 'log lines left out: reason="%s" count=%d seconds=%g%s'
            example = f", the first: {flood.example}" if flood.example else ""
            # before a handler of the log lets others run
            count, flood.left_out, flood.example = flood.left_out, 0, ""
            flood.log.log(flood.level, text, reason, count, SUMMARY_SECONDS, example)


class Counters:
    """Plain numbers. Every message received ends in exactly one of delivered, answered, absorbed or
    dropped.

    `delivered`: handed to a core, a call, or the client transaction that waits for it. `answered`:
    by the stack itself. `absorbed`: a retransmission or ACK that its transaction dealt with.
    `dropped`: reason to number. `lines` is the log of what peers cause.
    """

    __slots__ = (
        "_log", "absorbed", "answered", "core_errors", "delivered", "dropped", "filter_errors", "late_answers", "lines",
        "received", "send_errors", "timeouts",
    )  # fmt: skip

    def __init__(self, log: logging.Logger, clock: Timekeeper | None = None) -> None:
        self._log = log
        self.lines = LimitedLog(clock)
        self.received = self.delivered = self.answered = self.absorbed = 0
        self.dropped: dict[str, int] = {}
        self.core_errors = self.filter_errors = self.late_answers = self.send_errors = (
            self.timeouts
        ) = 0

    def drop(
        self, reason: str, flow: Any = None, detail: object = None, now: float | None = None
    ) -> None:
        """Count a message dropped for `reason`; with the time, log it unless the reason has used up
        its lines."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if now is not None:
            text = f"dropped message from %s: {reason}: %s"
            self.lines.line(self._log, logging.WARNING, reason, text, flow, detail, stacklevel=3)

    def filter(self, reason: str) -> None:
        """Count a message dropped by a filter, under the reason it tells. There is no line for it:
        it may be a flood."""
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
        """Log a warning that a peer can cause, limited by reason; wire text comes out escaped and
        cut. See LimitedLog."""
        self.lines.line(log or self._log, logging.WARNING, reason, text, *arguments, stacklevel=3)

    def info(
        self,
        reason: str,
        now: float,
        text: str,
        *arguments: object,
        log: logging.Logger | None = None,
    ) -> None:
        """Log an event that a peer can cause and that asks for no action; see warn()."""
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
        """Log a mistake, a core's or ours, that a peer can bring to light, with its traceback; see
        warn()."""
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
        """Return True while this reason may write a line of its own; the caller writes it. Prefer
        warn() and error()."""
        return self.lines.loud(self._log, reason)

    @property
    def unlogged(self) -> int:
        """Log lines that were left out because their reason floods."""
        return self.lines.unlogged

    @property
    def balance(self) -> int:
        """Messages received less those that ended in a counter: 0 whenever no message is being
        carried."""
        return (
            self.received
            - self.delivered
            - self.answered
            - self.absorbed
            - sum(self.dropped.values())
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers."""
        return {name: getattr(self, name) for name in _NUMBERS} | {
            "unlogged": self.unlogged,
            "dropped": dict(self.dropped),
        }


_NUMBERS = [name for name in sorted(Counters.__slots__) if name not in ("_log", "dropped", "lines")]
