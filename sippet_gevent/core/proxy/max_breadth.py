"""Max-Breadth: how many branches a request may have at the same time, RFC 5393 §5.3. Pure."""

from __future__ import annotations

from ...message.message import Request

MAX_BREADTH = 60
"""Most branches that a request may have at the same time from here on, at all proxies together (RFC
5393 §5.3.3)."""


def breadth_of(request: Request) -> int:
    """Return how many branches a request may have at the same time from here on (RFC 5393 §5.3.3).
    Raises ParseError."""
    if "Max-Breadth" not in request.headers.fields:
        return MAX_BREADTH
    given = request.max_breadth
    return MAX_BREADTH if given is None else min(given, MAX_BREADTH)
