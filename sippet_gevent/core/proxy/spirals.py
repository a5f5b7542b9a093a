"""Spirals: requests that this element has sent to itself, RFC 3261 §6.

A Contact may name this element, as in call forwarding to another user of the same domain. The
request then arrives a second time, with another Request-URI, and without the credentials that were
for this element (§22.3). The INVITE of a bridge may arrive here, too.
"""

from __future__ import annotations

from ...message.message import Request
from ...message.parser import parse
from ...message.scan import Line
from ..client.transaction import ClientTransaction
from ..server import ServerTransaction


def earlier_pass(request: Request, tx: ServerTransaction) -> ServerTransaction | None:
    """Return the server transaction of the request for which this stack has sent this one to
    itself: forwarded, or as the INVITE of a bridge.

    The proof is our own client transaction, which waits for the answer. Its branch has 128 random
    bits, and the request has come from the very socket by which it was sent. So it is ours, and
    not one of an element that has seen the branch in a Via, even if that runs on this host.

    A NAT that leads our public address back to us changes the source (RFC 4787 §6). A balancer at
    that address does the same, and other elements behind it see the branch. So a request from
    another source has to be what we have sent, with nothing changed: an element that repeats it
    gains nothing that we have not asked for. Each branch counts once.

    Callers save the call unless `engine.clients` has the key of the request.

    Args:
        request: The request as it was received.
        tx: Its server transaction.

    Returns:
        None for a request that came from another element.
    """
    record = tx.stack.engine.clients.get(request.mandatory.key or "")
    ours = None if record is None else record.user
    if record is None or not isinstance(ours, ClientTransaction):
        return None
    served = ours.served
    if not isinstance(served, ServerTransaction):
        return None
    if request.flow.remote != record.flow.bound and not _is_unchanged(request, record.last):
        return None
    if ours.arrived != record.key:
        ours.arrived, tx.earlier = record.key, served
    return tx.earlier


def _is_unchanged(request: Request, sent: bytes | None) -> bool:
    """True if a received request is what we have sent, except for the parameters that we have added
    to its topmost Via since (§18.2.1)."""
    if sent is None:
        return False
    ours = parse(sent)
    return (
        isinstance(ours, Request)
        and (request.method, request.uri_text, request.body)
        == (ours.method, ours.uri_text, ours.body)
        and _without_top_via(request) == _without_top_via(ours)
    )


def _without_top_via(request: Request) -> list[Line]:
    lines = [*request.headers.lines]
    first = next(at for at, line in enumerate(lines) if line[0] == "Via")
    return lines[:first] + lines[first + 1 :]
