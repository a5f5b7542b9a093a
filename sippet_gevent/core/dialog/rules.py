"""The table of rules: what RFCs after 3261 add to INVITE sessions, one row each."""

from __future__ import annotations

from .reliable import TAG as RELIABLE
from .reliable import Reliable
from .rule import Row, Rules
from .session_interval import TIMER
from .session_timer import SessionTimer
from .update import Update

RULES = Rules(
    (
        Row(RELIABLE, Reliable),  # RFC 3262
        Row(TIMER, SessionTimer),  # RFC 4028
        Row(None, Update),  # RFC 3311
    )
)
"""The rules of every stack, in the order in which sessions ask them."""
