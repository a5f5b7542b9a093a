"""What crosses a bridge besides header fields: bodies, hop counts, reasons, ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ...errors import ParseError, Reject
from ...message.message import Message, Request, Response
from ...message.scan import USUAL, Line
from ..dialog.end import End
from .policy import CONTENT

VANISHED = {"timeout": 408, "no ack": 408, "expired": 408, "no answer": 488, "stopped": 503}
"""Statuses that the Reason of a BYE names if the other side has vanished, by the cause of its
end."""

REFERS = 32
"""Most REFERs of one leg whose numbers are known. The oldest is forgotten first."""


def content_lines(message: Message) -> list[Line]:
    """Return the lines that describe the body of a message."""
    if not message.body:
        return []
    return [line for line in message.headers.lines if line[0] in CONTENT]


def completion(lines: list[Line], bye: Request | None) -> Callable[[Request], None]:
    """Return a function that gives a BYE these lines, and the body of another BYE."""

    def complete(copy: Request) -> None:
        copy.headers.extend(lines)
        if bye is not None and bye.body:
            copy.body = bye.body
            copy.headers.extend(content_lines(bye))

    return complete


def allows_update(message: Message) -> bool | None:
    """True if the sender of a message knows UPDATE (RFC 3311 §4); None if it does not say."""
    if "Allow" not in message.headers.fields:
        return None
    allowed = ",".join(message.headers.all("Allow")).upper().split(",")
    return any(method.strip() == "UPDATE" for method in allowed)


def hops_left(request: Request) -> int:
    """Return the Max-Forwards of a request that is passed on (RFC 7332). Raises Reject(483)."""
    try:
        hops = request.max_forwards
    except ParseError:
        hops = None
    if hops == 0:
        raise Reject(483)
    return 70 if hops is None else hops - 1


def reason_for(end: End) -> str | None:
    """Return the Reason of a BYE (RFC 3326) that tells of the end of the other side."""
    if end.cause == "bye":
        return end.reason or None
    status = end.status or VANISHED.get(end.cause)
    if status is None:
        return None
    text = end.cause.replace('"', "")
    return f'SIP;cause={status};text="{text}"'


def with_description(
    message: Request | Response, found: bytes, description: bytes
) -> tuple[bytes, list[Line]]:
    """Return body and content lines of a message, with another description in place of its own."""
    if description == found:
        return message.body, content_lines(message)
    return description, [("Content-Type", USUAL, "application/sdp")]


def renumbered(line: Line, numbers: Mapping[int, int]) -> Line:
    """Return an Event line whose `id` is the CSeq of the REFER on the other leg (RFC 3515
    §2.4.6)."""
    if line[0] != "Event" or "id=" not in line[2]:
        return line
    package, _, number = line[2].partition("id=")
    digits = number.partition(";")[0].strip()
    known = numbers.get(int(digits)) if re.fullmatch("[0-9]{1,10}", digits) else None
    return line if known is None else (line[0], USUAL, f"{package}id={known}")


class ReferNumbers:
    """CSeq numbers of the REFERs that one leg has received, as received and as passed on. The id of
    Event is such a number (RFC 3515 §2.4.6)."""

    def __init__(self) -> None:
        self._received: dict[int, int] = {}  # by the number as passed on

    def note(self, passed_on: Request, received: Request) -> None:
        """Note a REFER that is passed on."""
        if len(self._received) >= REFERS:
            del self._received[next(iter(self._received))]
        self._received[passed_on.cseq.number] = received.cseq.number

    def as_received(self, lines: list[Line]) -> list[Line]:
        """Return the lines of a NOTIFY for the leg that has sent the REFER."""
        return [renumbered(line, self._received) for line in lines]

    def as_passed_on(self, lines: list[Line]) -> list[Line]:
        """Return the lines of a SUBSCRIBE for the leg that has received the REFER."""
        numbers = {received: passed_on for passed_on, received in self._received.items()}
        return [renumbered(line, numbers) for line in lines]
