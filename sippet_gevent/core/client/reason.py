"""Reason: what a received CANCEL passes on to our own CANCELs, RFC 3326 §2. Pure."""

from __future__ import annotations

from ...errors import ParseError, PeerCancel


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
