"""What the failure of a request within a dialog ends, RFC 5057 §5.1. Pure."""

from __future__ import annotations

from enum import Enum


class Effect(Enum):
    """What a final response ends."""

    TRANSACTION = "transaction"
    USAGE = "usage"
    DIALOG = "dialog"


_EFFECTS = {
    404: Effect.DIALOG,
    405: Effect.USAGE,
    408: Effect.USAGE,  # as a timeout (note 4 and §5.2; RFC 3261 §12.2.1.2)
    410: Effect.DIALOG,
    416: Effect.DIALOG,
    480: Effect.USAGE,
    481: Effect.USAGE,
    482: Effect.DIALOG,
    483: Effect.DIALOG,
    484: Effect.DIALOG,
    485: Effect.DIALOG,
    489: Effect.USAGE,
    501: Effect.USAGE,
    502: Effect.DIALOG,
    604: Effect.DIALOG,
}
"""Tables 1 and 2. A status that is not here ends its transaction alone, unknown ones too."""

_ONLY = {
    # the method that the usage cannot do without (note 3)
    405: frozenset(("BYE", "INVITE", "NOTIFY", "SUBSCRIBE")),
    501: frozenset(("BYE", "INVITE", "NOTIFY", "SUBSCRIBE")),
    489: frozenset(("NOTIFY", "SUBSCRIBE")),  # note 12
}
"""Methods to which a status has its effect; to others it ends the transaction alone."""

_OF_CALLS = frozenset(("BYE", "INFO", "INVITE", "PRACK", "UPDATE"))
"""Methods that belong to the INVITE usage (§5.3)."""

_OF_SUBSCRIPTIONS = frozenset(("NOTIFY", "REFER", "SUBSCRIBE"))
"""Methods that belong to a subscription, which REFER creates (§5.3). Other methods, such as OPTIONS
and MESSAGE, belong to no usage, so only the end of the dialog concerns one."""

_LOST = frozenset((408, 481))
"""Statuses that end a call, whatever the method (RFC 3261 §12.2.1.2)."""


def effect_of(method: str, status: int) -> Effect:
    """Return what a final response to a request within a dialog ends.

    §5.3 says that MESSAGE, OPTIONS and unknown methods belong to no usage. But RFC 3261 §12.2.1.2
    ends the dialog after a 408 or 481 to any request, and applications send OPTIONS to find out.
    """
    effect = _EFFECTS.get(status, Effect.TRANSACTION)
    if method not in _ONLY.get(status, (method,)):
        return Effect.TRANSACTION
    if method in _OF_CALLS or method in _OF_SUBSCRIPTIONS or status in _LOST:
        return effect
    return Effect.TRANSACTION if effect is Effect.USAGE else effect


def effect_on_call(method: str, status: int) -> Effect:
    """Return what a final response to a request within a call ends, as far as it is about the call.

    The end of a subscription leaves the call (§5.1). A peer that does not know the call answers
    also a REFER with 481, because it looks for the dialog first (RFC 3261 §12.2.2).
    """
    effect = effect_of(method, status)
    is_other = method in _OF_SUBSCRIPTIONS and (status not in _LOST or method != "REFER")
    return Effect.TRANSACTION if effect is Effect.USAGE and is_other else effect
