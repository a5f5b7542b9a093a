"""MinExpires: asks again for the duration that a 423 wants, RFC 3261 §10.2.8, RFC 6665 §4.1.2.1,
RFC 3903 §4."""

from __future__ import annotations

from typing import Any

from ...errors import ParseError
from ...message.address import NameAddr
from ...message.message import Request, Response
from .attempt import Attempt, Policy

LONGEST = 24 * 3600
"""The longest duration that a 423 makes us ask for, in seconds. A peer that wants more is not
served."""

_METHODS = frozenset(("SUBSCRIBE", "REGISTER", "PUBLISH"))


class MinExpires(Policy):
    """Repeats a SUBSCRIBE, REGISTER or PUBLISH after a 423, if its Min-Expires is longer than what
    was asked for.

    A registration of ours does without it, because it asks for that duration from then on.
    """

    statuses = frozenset((423,))

    def __call__(self, attempt: Attempt) -> Attempt | None:
        response, request = attempt.failure, attempt.request
        if (
            not isinstance(response, Response)
            or response.status != 423
            or request.method not in _METHODS
        ):
            return None
        try:
            least = response.min_expires
            if least is None or least > LONGEST:
                return None
            return _longer(attempt, request, least)
        except ParseError:
            return None


def _longer(attempt: Attempt, request: Request, least: int) -> Attempt | None:
    """Return the request with this duration where less was asked for; None if nowhere was.

    What is removed by 0 stays removed. A REGISTER may name a duration for each Contact (§10.2.1.1).
    """
    asked = request.expires
    given = request.contact if request.method == "REGISTER" else ()
    contacts = tuple(contact for contact in given if isinstance(contact, NameAddr))
    if len(contacts) < len(given):
        return None  # "*", which removes all
    raised = tuple(
        contact.with_params({"expires": str(least)})
        if 0 < (contact.expires or 0) < least
        else contact
        for contact in contacts
    )
    wanted: dict[str, Any] = {}
    if raised != contacts:
        wanted["contact"] = raised
    names_all = contacts and all(contact.expires is not None for contact in contacts)
    if (0 < asked < least) if asked is not None else not names_all:
        wanted["expires"] = least
    return attempt.again(f"with Expires {least}", **wanted) if wanted else None
