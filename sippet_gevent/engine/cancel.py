"""CANCEL: finds the request that a received CANCEL ends, and answers it, RFC 3261 §9.2. Those that
we send are made by Request.cancel()."""

from __future__ import annotations

from ..errors import ParseError
from ..message.iana import METHODS
from ..message.message import Request
from ..message.parser import parse
from ..transaction.keys import server_key
from ..transaction.machines import INVITE_SERVER, PROCEEDING
from ..transport.base import Flow
from .layer import TransactionLayer
from .stateless import Stateless
from .users import ServerRecord

# Methods whose transactions a CANCEL may find (§9.2). A CANCEL of a method without an RFC gets 481.
_CANCELLED = ("INVITE", *sorted(METHODS.keys() - {"ACK", "CANCEL", "INVITE"}))


def receive_cancel(
    layer: TransactionLayer, stateless: Stateless, cancel: Request, key: str, flow: Flow
) -> None:
    """Answer a CANCEL, and end the INVITE that it cancels (§9.2).

    That is the request with the same branch and sent-by that came from the same address.
    """
    tx = None
    servers = layer.servers
    if cancel.mandatory.key is not None:  # one call fewer for each method
        start = key[: -len("CANCEL")]
        for method in _CANCELLED:
            tx = servers.get(start + method)
            if tx is not None:
                break
    else:
        found = (servers.get(server_key(cancel, method)) for method in _CANCELLED)
        tx = next(filter(None, found), None)
    if tx is None or tx.flow.origin != flow.origin or tx.flow.remote[0] != flow.remote[0]:
        stateless.refuse_stranger(cancel, flow)
        return
    stateless.feedback.write(cancel, flow.remote[0])
    user = tx.user
    tag = _tag_sent(tx) or (user.request.to_tag if user is not None else None)
    if tag is not None:
        cancel.use_to_tag(tag)  # that of the request's own responses (§9.2)
    if len(layer.servers) + len(layer.clients) < layer.limits.transactions:
        layer.counters.answered += 1
        layer.respond(layer.new_server(cancel, key, flow, False), cancel.response(200))
    else:
        layer.answer(flow, cancel.response(200))
    if user is not None and tx.machine is INVITE_SERVER and tx.state is PROCEEDING:
        user.cancel(cancel)


def _tag_sent(tx: ServerRecord) -> str | None:
    """Return the To tag of the last response of a server transaction; None before the first
    response that has one.

    A response that a proxy forwarded has the tag of the callee. The transaction keeps its final
    response longer than its user.
    """
    try:
        return None if tx.last is None else parse(tx.last).to.tag
    except ParseError:
        return None
