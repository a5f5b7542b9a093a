"""The table of rules: what RFCs after 3261 add to INVITE sessions, one row each."""

from __future__ import annotations

from .connected_identity import TAG as FROM_CHANGE
from .connected_identity import Announcing, ConnectedIdentity
from .refer import NO_SUBSCRIPTION
from .referral import Refer
from .reliable import TAG as RELIABLE
from .reliable import Reliable
from .replaces import REPLACES, Joining, Replacing
from .rule import Row, Rules
from .session_interval import TIMER
from .session_timer import SessionTimer
from .update import Update

RULES = Rules(
    (
        Row(RELIABLE, Reliable),  # RFC 3262
        Row(REPLACES, Replacing),  # RFC 3891
        Row(None, Joining),  # RFC 3911
        Row(TIMER, SessionTimer),  # RFC 4028
        Row(NO_SUBSCRIPTION, Refer),  # RFC 3515, RFC 4488
        Row(None, Update),  # RFC 3311
        Row(None, ConnectedIdentity),  # RFC 4916 §4.4.2
    )
)
"""The rules of every stack, in the order in which sessions ask them."""

ON_REQUEST = (Row(FROM_CHANGE, Announcing),)  # RFC 4916 §4.2
"""Rules of stacks that list their option tags in `supported`."""


def rules_for(supported: frozenset[str]) -> Rules:
    """Return the rules of a stack that lists these option tags."""
    more = [row for row in ON_REQUEST if row.option_tag in supported]
    return Rules((*RULES.rows, *more)) if more else RULES
