"""MinExpires: subscribes again with the duration that a 423 wants, RFC 6665 §4.1.2.1, RFC 3261
§21.4.17."""

from __future__ import annotations

from ...errors import ParseError
from ...message.message import Response
from .attempt import Attempt, Policy

LONGEST = 24 * 3600
"""The longest duration that a 423 makes us ask for, in seconds. A peer that wants more is not
served."""


class MinExpires(Policy):
    """Repeats a SUBSCRIBE after a 423, if its Min-Expires is longer than what was asked for.

    The sender of a REGISTER or PUBLISH repeats it, because it counts the duration.
    """

    statuses = frozenset((423,))

    def __call__(self, attempt: Attempt) -> Attempt | None:
        response, request = attempt.failure, attempt.request
        if (
            not isinstance(response, Response)
            or response.status != 423
            or request.method != "SUBSCRIBE"
        ):
            return None
        try:
            least, asked = response.min_expires, request.expires
        except ParseError:
            return None
        if least is None or not (asked or 0) < least <= LONGEST:
            return None
        return attempt.again(f"with Expires {least}", expires=least)
