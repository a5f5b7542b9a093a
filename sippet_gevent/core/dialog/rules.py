"""The table of rules: what RFCs after 3261 add to INVITE sessions, one row each."""

from __future__ import annotations

from .rule import Rules

RULES = Rules(())
"""The rules of every stack, in the order in which sessions ask them."""
