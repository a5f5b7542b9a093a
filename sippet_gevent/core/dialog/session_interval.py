"""Session interval: what two user agents agree on in a session refresh, RFC 4028 §7 and §9. Pure.

A session refresh is an INVITE or UPDATE with its 2xx. Table 2 of §9 says who refreshes next:

| caller has `timer` | refresher in request | refresher in our 2xx | |
|---|---|---|---|
| no | none | uas | we refresh alone |
| no | uac | uas | not allowed, but the caller could not refresh |
| no | uas | uas | not allowed, and the caller would get what it asked for |
| yes | none, with Session-Expires | uac | ours to choose |
| yes | none, without Session-Expires | uas | ours to choose: it is us that want the timer |
| yes | uac | uac | |
| yes | uas | uas | |
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ...errors import ParseError
from ...message.fields.rfc3261 import SessionExpires
from ...message.message import Request, Response
from ...message.scan import USUAL, Line

TIMER = "timer"
"""The option tag (§7.1)."""

SMALLEST = 90
"""Seconds. No session interval and no Min-SE is smaller (§4, §5)."""

DEFAULT = 1800
"""Seconds of a session interval, unless the application chooses another (§4 recommends it)."""

UAC, UAS = "uac", "uas"

REQUIRED: Line = ("Require", USUAL, TIMER)
"""The Require of a 2xx whose receiver takes part (§9)."""


@lru_cache(64)  # calls have few different ones
def line_of(seconds: int, refresher: str | None) -> Line:
    """Return a Session-Expires as a header line."""
    text = str(seconds) if refresher is None else f"{seconds};refresher={refresher}"
    return "Session-Expires", USUAL, text


class Policy(NamedTuple):
    """What this side wants of a session timer."""

    interval: int = DEFAULT
    """Seconds of the session interval that we ask for. 0 asks for none, and grants a peer its
    own."""
    smallest: int = SMALLEST
    """The smallest interval that we accept, in seconds."""
    refresher: str | None = None
    """Refresher in our 2xx, `uac` or `uas`, if the choice is ours. None chooses as the table
    does."""


class Agreed(NamedTuple):
    """The session timer that the latest 2xx to a session refresh has set."""

    interval: int
    """Seconds from that 2xx to the expiration of the session."""
    refresher: str
    """`uac` or `uas`, by the roles in that transaction."""
    is_shared: bool
    """True if the peer takes part. Else the timer is for our own benefit (§7.2)."""


class TooSmall(NamedTuple):
    """The refusal of an interval: a 422 with this Min-SE (§9)."""

    smallest: int


def supports_timer(message: Request | Response) -> bool:
    """True if the sender of a message has the option tag `timer` in Supported or Require."""
    # nearly all calls have one of a few texts, so each is read once
    fields = message.headers.fields
    text = fields.get("Supported")
    if type(text) is str and len(text) < REMEMBERED and _has_timer(text):
        return True
    for name in ("Supported", "Require"):
        if name in fields and any(map(_has_timer.__wrapped__, message.headers.all(name))):
            return True
    return False


def least_of(message: Request | Response) -> int:
    """Return the Min-SE of a message in seconds, 0 if it has none that can be read."""
    if "Min-SE" not in message.headers.fields:
        return 0
    try:
        value = message.min_se
    except ParseError:
        return 0
    return 0 if value is None else value.seconds


def seconds_of(message: Request | Response) -> int | None:
    """Return the seconds of Session-Expires, None without one that can be read."""
    return _session_expires(message)[0]


def refresher_of(message: Request | Response) -> str | None:
    """Return the refresher of Session-Expires, None without one that can be read."""
    return _session_expires(message)[1]


def answer(request: Request, policy: Policy) -> Agreed | TooSmall | None:
    """Return what our 2xx to a received session refresh says (§9).

    Args:
        request: An INVITE or UPDATE.
        policy: What we want.

    Returns:
        The timer to write into the 2xx. TooSmall if the caller understands a 422. None if neither
        side wants a timer.
    """
    fields = request.headers.fields
    asked, chosen = _session_expires(request) if "Session-Expires" in fields else _NONE
    is_shared = supports_timer(request)
    least = max(least_of(request), SMALLEST) if "Min-SE" in fields else SMALLEST
    if asked is None:
        if not policy.interval:
            return None
        refresher = policy.refresher if is_shared else None
        return Agreed(max(policy.interval, least), refresher or UAS, is_shared)
    # without `timer` in the request a proxy asks, and the caller would not understand (§9)
    if is_shared and asked < max(policy.smallest, SMALLEST):
        return TooSmall(max(policy.smallest, SMALLEST))
    # it may be reduced, but not below Min-SE, and must not be increased
    interval = max(min(asked, policy.interval or asked), least)
    refresher = (chosen or policy.refresher or UAC) if is_shared else UAS
    return Agreed(interval, refresher, is_shared)


def agreed(request: Request, response: Response) -> Agreed | None:
    """Return what the peer's 2xx to a session refresh of ours has set (§7.2).

    Without Session-Expires in the 2xx, our own stays in force and we refresh alone. None if there
    is none in our request either, because then nothing expires.
    """
    interval, refresher = _session_expires(response)
    if interval is not None:
        # its refresher must be there; if it is not, one of two has to refresh
        return Agreed(max(interval, SMALLEST), refresher or UAC, is_shared=True)
    interval, _ = _session_expires(request)
    return None if interval is None else Agreed(interval, UAC, is_shared=False)


def raised(request: Request, response: Response) -> int | None:
    """Return the Min-SE with which a request is sent again after a 422, in seconds (§7.3).

    None if that would change nothing: the same server would answer the same (§10).
    """
    smallest, (asked, _) = least_of(response), _session_expires(request)
    if smallest <= max(least_of(request), 0 if asked is None else asked):
        return None
    return smallest


def ask(request: Request, interval: int, *, least: int = 0, refresher: str | None = None) -> None:
    """Write Session-Expires and Min-SE into a session refresh of ours, unless they are there.

    Args:
        request: The INVITE or UPDATE (§7.1, §7.4).
        interval: Seconds that we ask for; 0 for none.
        least: The largest Min-SE that was learned for this dialog, in seconds. 0 for none.
        refresher: `uac` or `uas` to keep the roles as they are, None to let the peer choose.
    """
    fields = request.headers.fields
    if least and "Min-SE" not in fields:
        request.min_se = SessionExpires(least)
    if interval and "Session-Expires" not in fields:
        seconds = max(interval, least, SMALLEST)
        request.headers.extend([line_of(seconds, refresher)])


def _session_expires(message: Request | Response) -> tuple[int | None, str | None]:
    """Return the seconds and the refresher of a message, None for what is missing or unreadable."""
    text = message.headers.fields.get("Session-Expires")
    # nearly all calls have one of a few texts, so each is read once
    return _read(text) if type(text) is str and len(text) < REMEMBERED else _NONE


REMEMBERED = 100
"""Longest text that is remembered. A longer Session-Expires is no session timer."""

_NONE = (None, None)


@lru_cache(64)
def _read(text: str) -> tuple[int | None, str | None]:
    try:
        value = SessionExpires.parse(text)
    except ParseError:
        return _NONE
    try:
        return value.seconds, value.refresher
    except ParseError:
        return value.seconds, None


@lru_cache(64)
def _has_timer(text: str) -> bool:
    return TIMER in (tag.strip().lower() for tag in text.split(","))
