"""MinSE: repeats a session refresh with the interval that a 422 wants, RFC 4028 §7.3 and §7.4."""

from __future__ import annotations

from ...errors import ParseError
from ...message.fields.rfc3261 import SessionExpires
from ...message.message import Response
from ..dialog.session_interval import raised
from .attempt import Attempt, Policy


class MinSE(Policy):
    """Repeats an INVITE or UPDATE after a 422, if that changes anything.

    The new one has Min-SE, so the largest value of several servers is kept (§7.4).
    """

    statuses = frozenset((422,))

    def __call__(self, attempt: Attempt) -> Attempt | None:
        response = attempt.failure
        if not isinstance(response, Response) or response.status != 422:
            return None
        least = raised(attempt.request, response)
        if least is None:
            return None
        try:
            asked = attempt.request.session_expires
        except ParseError:
            asked = None
        return attempt.again(
            f"with Min-SE {least}",
            min_se=SessionExpires(least),
            session_expires=None if asked is None else asked._replace(seconds=least),
        )
