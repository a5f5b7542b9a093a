"""Spirals: requests that this element has forwarded to itself, RFC 3261 §6.

A Contact may name this element, as in call forwarding to another user of the same domain. The
request then arrives a second time, with another Request-URI, and without the credentials that were
for this element (§22.3).
"""

from __future__ import annotations

from ...message.message import Request
from ...message.uri import bracketed, normal_host
from ..routing.local import is_at
from ..server import ServerTransaction
from .branch import Branch


def earlier_pass(request: Request, tx: ServerTransaction) -> ServerTransaction | None:
    """Return the server transaction from which this stack has forwarded a request to itself.

    The proof is our own client transaction, which waits for the answer. Its branch has 128 random
    bits, and went to a listener of ours alone. So the first request with this branch is ours, if it
    has come from an address of ours: an advertised address may be that of a balancer, which gives
    the request to another element. Later elements see the branch in a Via, and prove nothing by it.
    A request with one line of Via was never forwarded, so callers save the call for it.

    Args:
        request: The request as it was received.
        tx: Its server transaction.

    Returns:
        None for a request that came from another element.
    """
    engine = tx.stack.engine
    record = engine.clients.get(request.mandatory.key or "")
    branch = None if record is None else record.user
    if record is None or not isinstance(branch, Branch):
        return None
    host, port = record.flow.remote
    host, name = normal_host(bracketed(host)), record.flow.transport.name
    if not any(each.name == name and is_at(each, host, port) for each in engine.transports):
        return None
    if not any(each.is_ours(tx.flow.remote[0]) for each in engine.transports):
        return None
    if branch.arrived is None:
        branch.arrived = tx
    return branch.context.tx if branch.arrived is tx else None
