"""When a session takes place: t=, r= and z= lines, RFC 8866 §5.9 to §5.11. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import InvalidValue, ParseError
from .grammar import TIME_FIELDS, UNITS, fields_of, integer, typed_time, written_number
from .line import Line


class Repeat(NamedTuple):
    """An r= line (§5.10). All numbers are seconds.

    `r=7d 1h 0 25h` is Repeat(604800, 3600, (0, 90000)): each week, for one hour, at the start time
    and 25 hours later.
    """

    interval: int
    duration: int
    offsets: tuple[int, ...] = (0,)

    @classmethod
    def parse(cls, text: str) -> Repeat:
        """Read what follows r=. Raises ParseError."""
        times = [_seconds(field) for field in _time_fields(text)]
        if len(times) < 3 or min(times) < 0 or not times[0]:
            raise ParseError("r= must be an interval, a duration and offsets", value=text)
        return cls(times[0], times[1], tuple(times[2:]))

    def __str__(self) -> str:
        if not self.offsets:
            raise InvalidValue("offsets must not be empty: write offsets=(0,)")
        return " ".join(
            [
                written_number(self.interval, least=1),
                *map(written_number, (self.duration, *self.offsets)),
            ]
        )


class Adjustment(NamedTuple):
    """One pair of a z= line (§5.11): from `time` on, repeats are shifted by `offset` seconds."""

    time: int
    offset: int

    @classmethod
    def parse_all(cls, text: str) -> tuple[Adjustment, ...]:
        """Read all pairs of a z= line. Raises ParseError."""
        fields = _time_fields(text)
        if not fields or len(fields) % 2:
            raise ParseError("z= must be pairs of a time and an offset", value=text)
        return tuple(
            cls(integer(time), _seconds(offset)) for time, offset in zip(fields[::2], fields[1::2])
        )

    def __str__(self) -> str:
        return (
            f"{_time(self.time)} {'-' if self.offset < 0 else ''}{written_number(abs(self.offset))}"
        )


class Time(NamedTuple):
    """A time description (§5.9): a t= line with its r= and z= lines.

    `start` and `stop` are seconds since 1900. Time() is `t=0 0`, as in every call.
    """

    start: int = 0
    stop: int = 0
    repeats: tuple[Repeat, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Time:
        """Read what follows t=, without repeats. Raises ParseError."""
        fields = fields_of(text)
        if len(fields) != 2:
            raise ParseError("t= must be a start and a stop time", value=text)
        return cls(integer(fields[0]), integer(fields[1]))

    def __str__(self) -> str:
        return f"{_time(self.start)} {_time(self.stop)}"

    def _lines(self) -> list[Line]:
        if self.adjustments and not self.repeats:
            raise InvalidValue(
                "adjustments change repeats, and this Time has none: write repeats=…"
            )
        lines = [Line("t", str(self)), *[Line("r", str(repeat)) for repeat in self.repeats]]
        return (
            [*lines, Line("z", " ".join(map(str, self.adjustments)))] if self.adjustments else lines
        )


def _seconds(text: str) -> int:
    match = typed_time(text)
    if not match:
        raise ParseError("not a time", value=text)
    value = integer(match[2]) * UNITS[match[3]]
    return -value if match[1] else value


def _time_fields(text: str) -> list[str]:
    fields = fields_of(text)
    if len(fields) > TIME_FIELDS:
        raise ParseError(f"more than {TIME_FIELDS} numbers", value=text)
    return fields


def _time(value: int) -> str:
    # time = POS-DIGIT 9*DIGIT, start-time = time / "0"
    return written_number(value, least=10**9) if value else "0"
