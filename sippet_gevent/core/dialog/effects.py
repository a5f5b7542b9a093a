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

ENDING = frozenset(_EFFECTS)
"""Statuses that may end more than their transaction."""

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


_KEPT = {
    "BYE": frozenset((408, 483)),
    "INFO": frozenset((408, 483)),
    "INVITE": frozenset((483,)),
    "PRACK": frozenset((408, 481, 483)),
    "UPDATE": frozenset((408, 483)),
}
"""Refusals of ours after which the call goes on. A 481 to a PRACK says that no response waits for
it (RFC 3262 §3). After a 483 the peer may raise Max-Forwards (note 10). The 408 is never sent (RFC
4320 §4.2)."""

_KEPT_OF_OTHERS = frozenset((408, 481, 483))
"""The same for other methods. A core may refuse by 481 what it does not serve within a call."""


def effect_of_ours(method: str, status: int) -> Effect:
    """Return what our refusal of a request within a call ends, as far as it is about the call.

    The effect at the server is the same as at the client (§5.1). What is left to the client in the
    notes ends nothing here.
    """
    if status in _KEPT.get(method, _KEPT_OF_OTHERS):
        return Effect.TRANSACTION
    return effect_on_call(method, status)
