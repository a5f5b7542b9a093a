"""Digits in INFO requests (RFC 6086): application/dtmf-relay and application/dtmf. Pure.

No RFC defines them, but most phones and gateways send them:

    Signal=5
    Duration=160

is an `application/dtmf-relay`, and an `application/dtmf` has the digit alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...errors import InvalidValue, ParseError, excerpt
from ...message.message import Request

RELAY = "application/dtmf-relay"
PLAIN = "application/dtmf"

DIGITS = "0123456789*#ABCD"

SECONDS = 0.16
"""Length of a digit whose length is not said."""

LONGEST = 60.0
"""Longest length of a digit that is believed, in seconds."""

_SIGNAL = re.compile(r"^[ \t]*signal[ \t]*=[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
_DURATION = re.compile(r"^[ \t]*duration[ \t]*=[ \t]*(\d{1,6})", re.IGNORECASE | re.MULTILINE)
_NUMBERED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D", "16": "!"}
"""Events of RFC 4733 §3.2 that some phones write as numbers."""


class Digit(NamedTuple):
    """A digit that a phone has sent."""

    digit: str
    """0 to 9, `*`, `#`, A to D, or `!` for a hook flash."""

    seconds: float
    """How long it was pressed."""


def digit_of(request: Request) -> Digit | None:
    """Return the digit of an INFO; None if it has none that can be read."""
    if request.method != "INFO" or not request.body:
        return None
    try:
        kind = request.content_type
    except ParseError:
        return None
    name = "" if kind is None else kind.name
    text = request.body.decode("latin-1")
    if name == RELAY:
        signal = _SIGNAL.search(text)
        length = _DURATION.search(text)
        digit = "" if signal is None else signal[1]
        seconds = SECONDS if length is None else min(int(length[1]) / 1000, LONGEST)
    elif name == PLAIN:
        signal = _SIGNAL.search(text)
        digit = text.strip() if signal is None else signal[1]
        seconds = SECONDS
    else:
        return None
    digit = _NUMBERED.get(digit, digit.upper())
    return Digit(digit, seconds) if len(digit) == 1 and digit in DIGITS + "!" else None


def check_digits(digits: str) -> str:
    """Return digits to send, in upper case.

    Raises:
        InvalidValue: A character is no digit.
    """
    if not isinstance(digits, str) or not digits or set(digits.upper()) - set(DIGITS):
        raise InvalidValue(
            f'digits must be some of {DIGITS}, got {excerpt(digits)}: write send_digits("12#")'
        )
    return digits.upper()


def relay(digit: str, seconds: float) -> str:
    """Return the body of an application/dtmf-relay."""
    return f"Signal={digit}\r\nDuration={round(seconds * 1000)}\r\n"
