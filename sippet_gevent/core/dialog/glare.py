"""Glare: INVITE and UPDATE within a call that have to wait for each other, RFC 3261 §14.2. Pure.

| under way | INVITE | UPDATE with an offer | UPDATE without one | § |
|---|---|---|---|---|
| our INVITE | 491 | 491 | served | RFC 3261 14.2, RFC 3311 5.2 |
| our UPDATE with an offer | 491 | 491 | served | RFC 6337 4.3, RFC 3311 5.2 |
| our UPDATE without one | served | 491 | served | RFC 5407 3.3.2 |
| our offer in a 2xx, to be answered in the ACK | 491 | 491 | served | RFC 5407 3.1.5 |
| an INVITE of the peer | 500 | 500 | served | RFC 3261 14.2, RFC 3311 5.2 |
| our first INVITE, whose offer was answered | 491 | served | served | RFC 3311 5.1, 5.2 |
| the peer's first INVITE, whose offer was answered | 500 | served | served | RFC 3311 5.1, 5.2 |
| an UPDATE of the peer | 500 | 500 | 500 | RFC 6337 4.3, RFC 3311 5.2 |

A 500 has Retry-After, 0 to 10 seconds. While an offer waits for its answer, RFC 6337 §4.3 answers
500, but 491 tells the peer more (RFC 5407 §3.1.5). An INVITE without an offer also gets 491 then,
because it asks us for a second offer (RFC 3264 §4). If the 2xx had the answer and only its ACK is
missing, nothing is under way (RFC 5407 §3.1.4).

If two UPDATEs without an offer cross, both are served (RFC 3311 §5.2), because neither changes the
session. So are such an UPDATE and a re-INVITE that cross (RFC 5407 §3.3.2). RFC 6337 §4.3, which is
not normative, refuses them.

renegotiation.py repeats a request of ours that got 491, after a random time (§14.1).
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum


class Pending(Enum):
    """INVITE and UPDATE transactions, and offers, that may be under way in a call."""

    OUR_INVITE = "our INVITE"
    OUR_UPDATE = "our UPDATE with an offer"
    OUR_REFRESH = "our UPDATE without an offer"
    OUR_OFFER = "our offer in a 2xx"
    THEIR_INVITE = "an INVITE of the peer"
    THEIR_UPDATE = "an UPDATE of the peer"
    OUR_AGREED_INVITE = "our first INVITE, whose offer was answered"
    THEIR_AGREED_INVITE = "the peer's first INVITE, whose offer was answered"


_STATUS = {  # INVITE, UPDATE with an offer, UPDATE without
    Pending.OUR_INVITE: (491, 491, None),
    Pending.OUR_UPDATE: (491, 491, None),
    Pending.OUR_REFRESH: (None, 491, None),
    Pending.OUR_OFFER: (491, 491, None),
    Pending.THEIR_INVITE: (500, 500, None),
    Pending.THEIR_UPDATE: (500, 500, 500),
    Pending.OUR_AGREED_INVITE: (491, None, None),
    Pending.THEIR_AGREED_INVITE: (500, None, None),
}

GLARING = frozenset(("INVITE", "UPDATE"))
"""The methods that have to wait for each other."""


def glare(method: str, has_offer: bool, pending: Container[Pending]) -> int | None:
    """Return the status that refuses an INVITE or UPDATE, None when it may be served."""
    column = 0 if method == "INVITE" else 1 if has_offer else 2
    found = (row[column] for what, row in _STATUS.items() if what in pending)
    return next(filter(None, found), None)


def must_wait(
    method: str, has_offer: bool, pending: Container[Pending], *, acknowledged: bool
) -> bool:
    """True when an INVITE or UPDATE of ours would collide with another one.

    RFC 3261 §14.1, RFC 6337 §4.3, rules for the UAC.
    """
    if Pending.OUR_UPDATE in pending or Pending.OUR_REFRESH in pending:
        return True
    if method == "UPDATE" and not has_offer:
        return False
    return glare(method, has_offer, pending) is not None or (
        method == "INVITE" and not acknowledged
    )
