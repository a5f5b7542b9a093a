"""The table of rules: what RFCs after 3261 add to INVITE sessions, one row each."""

from __future__ import annotations

from .rule import Rules
from .session_interval import TIMER
from .session_timer import SessionTimer

RULES = Rules(
    (
        (TIMER, SessionTimer),  # RFC 4028
    )
)
"""The rules of every stack, in the order in which sessions ask them."""
