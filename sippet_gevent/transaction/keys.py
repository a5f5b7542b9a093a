"""Transaction keys, RFC 3261 §17.1.3 and §17.2.3. Pure.

A key is one text, so that a table of hundreds of thousands stays small and a log line can show it.
"""

from __future__ import annotations

from typing import Any

from ..message.essentials import essentials_of
from ..message.identifiers import MAGIC_COOKIE
from ..message.uri import normal_host

_COOKIE_LENGTH = len(MAGIC_COOKIE)


def client_key(branch: str, method: str) -> str:
    """Return the key a response finds its client transaction by: our branch and the CSeq method (§17.1.3)."""
    return f"{branch} {method}"


def server_key(request: Any, method: str | None = None) -> str:
    """Return the key of the server transaction a request belongs to (§17.2.3).

    `method` stands in for the request's own: an ACK belongs to its INVITE, and a CANCEL looks for one.
    """
    e = essentials_of(request)
    branch = e.branch
    if method is None:
        method = "INVITE" if e.method == "ACK" else e.method
    if branch is None or not branch.startswith(MAGIC_COOKIE) or len(branch) == _COOKIE_LENGTH:
        return _rfc2543_key(request, method)
    host = e.host if e.host.islower() or e.host[-1:].isdigit() and "[" not in e.host else normal_host(e.host)
    return f"{branch} {host}:{e.port or 5060} {method}"


def _rfc2543_key(request: Any, method: str) -> str:
    """The fallback for a peer without the magic cookie: Request-URI, From tag, Call-ID, CSeq number and top Via.

    The To tag is left out, for an ACK has the one our response gave; `acknowledges` checks it.
    """
    e = essentials_of(request)
    via = request.headers["Via"]
    if e.has_received:  # filled in by us on arrival; the sender's own text is what repeats
        via = str(request.via[0]._replace(parameters=request.via[0].parameters.without("received", "rport")))
    return f"{request.uri_text} {e.from_tag} {request.headers['Call-ID']} {e.cseq} {via} {method}"


def acknowledges(ack: Any, last: bytes | None) -> bool:
    """True when an ACK without the magic cookie carries the To tag of our last response (§17.2.3)."""
    e = essentials_of(ack)
    if e.branch and e.branch.startswith(MAGIC_COOKIE):
        return True
    return last is not None and (e.to_tag is None or f";tag={e.to_tag}".encode() in last)


def merge_key(request: Any) -> int | None:
    """Return what two copies of one request share when they came by different ways (§8.2.2.2), or None within a dialog.

    The Request-URI belongs to it, so that a request which spirals through a proxy with a new one is no copy.
    """
    e = essentials_of(request)
    if e.to_tag is not None:
        return None
    return hash((e.from_tag, request.headers.fields["Call-ID"], e.cseq, e.method, request.uri_text))
