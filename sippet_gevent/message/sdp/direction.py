"""Directions of media: sendrecv, sendonly …, RFC 8866 §6.7; in answers, RFC 3264 §6.1. Pure."""

from __future__ import annotations

from ...errors import InvalidValue

SENDRECV, SENDONLY, RECVONLY, INACTIVE = "sendrecv", "sendonly", "recvonly", "inactive"
DIRECTIONS = (SENDRECV, SENDONLY, RECVONLY, INACTIVE)
"""The four direction attributes (RFC 8866 §6.7)."""

ON_HOLD = {SENDRECV: SENDONLY, RECVONLY: INACTIVE, SENDONLY: SENDONLY, INACTIVE: INACTIVE}
"""The direction of a stream that is put on hold, by its direction before (RFC 3264 §8.4)."""

_SENDING = frozenset((SENDRECV, SENDONLY))
_RECEIVING = frozenset((SENDRECV, RECVONLY))
_BY_FLOW = {  # whether we send, whether we receive
    (True, True): SENDRECV,
    (True, False): SENDONLY,
    (False, True): RECVONLY,
    (False, False): INACTIVE,
}


def answer_direction(offered: str, wanted: str = SENDRECV) -> str:
    """Return the direction to answer with: `wanted`, limited by the offer (RFC 3264 §6.1).

    An offer with c=0.0.0.0 is answered by its direction attribute, like any other (RFC 6337 §5.4).

        answer_direction("sendonly")              # "recvonly"
        answer_direction("sendrecv", "sendonly")  # "sendonly"

    Args:
        offered: the direction in the offer, as the offering side sees it.
        wanted: the direction that we would like, as we see it.

    Raises:
        InvalidValue: one of them is no direction.
    """
    checked_direction(offered)
    checked_direction(wanted)
    return _BY_FLOW[
        wanted in _SENDING and offered in _RECEIVING, wanted in _RECEIVING and offered in _SENDING
    ]


def checked_direction(value: str) -> str:
    """Return a direction. Raises InvalidValue for any other text."""
    if value not in DIRECTIONS:
        raise InvalidValue(f"direction must be one of {', '.join(DIRECTIONS)}, got {value!r}")
    return value
