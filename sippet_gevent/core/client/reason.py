"""Reason: what a received CANCEL passes on to our own CANCELs, RFC 3326 §2. Pure."""

from __future__ import annotations

from ...errors import ParseError, PeerCancel

COMPLETED_ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
"""Reason for a phone when another one has answered, so that it shows no missed call (RFC 3326
§2)."""


def reason_of(cancel: PeerCancel | None) -> dict[str, object]:
    """Return the header fields of a received CANCEL that our own CANCELs repeat.

    That is a readable Reason (RFC 3326 §2).
    """
    try:
        return (
            {"reason_header": cancel.reason_header}
            if cancel is not None and cancel.reason_header
            else {}
        )
    except ParseError:
        return {}
