"""How usages of a dialog end: End, RFC 5057 §4; Bridged, for both calls of a bridge. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import ParseError
from ...message.message import Message


class End(NamedTuple):
    """How a usage has ended, such as `call.end`.

    Attributes:
        by: The side that ended it: "us", "peer", or "stack" when the stack has stopped.
        cause: What happened: "bye", "cancel", "refused", "timeout", "no ack", "replaced",
            "expired", "answered elsewhere", "stopped" …
        status: The status of the response that ended it; 0 if no response did.
        reason: The value of the Reason header field (RFC 3326) or of the reason phrase, as it was
            received or sent.
    """

    by: str
    cause: str
    status: int = 0
    reason: str = ""

    def __str__(self) -> str:
        status = f" {self.status}" if self.status else ""
        return f"{self.cause}{status} by {self.by}" + (f" ({self.reason})" if self.reason else "")


class Bridged(NamedTuple):
    """How the two sides of a bridge have ended, as bridge() returns it.

    Attributes:
        caller: The end of the caller's call.
        callee: The end of the callee's call. None if another bridge goes on with it.
    """

    caller: End | None
    callee: End | None


def reason_in(message: Message) -> str:
    """Return the first readable Reason of a message as text (RFC 3326); empty without one."""
    try:
        reasons = message.reason_header if "Reason" in message.headers.fields else ()
    except ParseError:
        return ""
    return str(reasons[0]) if reasons else ""
