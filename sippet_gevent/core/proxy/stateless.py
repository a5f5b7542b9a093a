"""Stateless forwarding: branches that bring a response back without a transaction, RFC 3261 §16.11
and RFC 6026 §7.3.

A branch of ours has the hash of the request's branch, the hash that tells loops, the name of the
flow by which the request came, and a MAC over all of that. So nobody else can write one, and a
response goes back to where its request came from, and nowhere else.
"""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest

from ...engine.feedback import strip_feedback
from ...errors import ParseError, Reject, TransportError
from ...message.message import Request, Response
from ...observe.log_values import Plain
from ..element import Element
from ..server import ServerTransaction
from .loops import LOOP_MARK

_KIND = "s"
"""The letter in front of these hashes."""

_HASH = 16
"""Characters of each of the three hashes."""


def stateless_branch(request: Request, tx: ServerTransaction) -> str:
    """Return the branch of the copy of a request that is forwarded without a transaction.

    It is the same for a retransmission, a CANCEL, and the ACK to a refusal (§16.11). So it depends
    on none of the header fields in which these differ.

    Raises:
        Reject: 482 when this stack has forwarded the request before (§16.3 item 4).
    """
    stack = tx.stack
    secret = stack.engine.secret
    e, fields = request.mandatory, request.headers.fields
    via = request.headers.top_via
    route = fields.get("Route", "")
    if e.key is not None:
        own = f"{e.branch} {e.host} {e.port}"
    else:  # RFC 2543
        own = f"{via} {e.from_tag} {e.cseq}"
    place = f"{request._uri}\n{route}\n{request.headers['Call-ID']}\n{e.cseq} {e.from_tag}"
    mark = _hash(place, secret, b"mark")
    for line in request.headers.all("Via"):
        if mark in line:
            raise Reject(482, "Loop Detected")
    text = f"{_KIND}{_hash(own, secret, b'branch')}{mark}"
    flow = stack.names.flow_name(tx.reply_flow)
    prefix = stack.identifiers.prefix
    return f"{prefix}{text}{_hash(f'{text}-{flow}', secret, b'mac')}-{flow}"


def _hash(text: str, secret: bytes, person: bytes) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return blake2s(data, key=secret, digest_size=LOOP_MARK, person=person).hexdigest()


def return_statelessly(stack: Element, response: Response) -> bool:
    """Send a response without a transaction back to where its request came from.

    Returns:
        False if its branch is none of ours, so that it must not be forwarded (RFC 6026 §7.3).
    """
    e = response.mandatory
    branch = e.branch or ""
    before, dash, flow_name = branch.partition("-")
    prefix = stack.identifiers.prefix
    text, mac = before[len(prefix) : -_HASH], before[-_HASH:]
    if not dash or not before.startswith(prefix) or text[:1] != _KIND:
        return False
    expected = _hash(f"{text}-{flow_name}", stack.engine.secret, b"mac")
    if not compare_digest(mac.encode("utf-8", "surrogateescape"), expected.encode()):
        return False
    response.headers.delete_header_front("Via")
    strip_feedback(response.headers)
    flow = stack.names.find_flow(flow_name)
    try:
        if flow is None or "Via" not in response.headers.fields:
            raise TransportError("the flow of the request has ended")
        stack.engine.send(flow, bytes(response))
    except (TransportError, ParseError) as error:
        counters = stack.engine.counters
        counters.send_errors += 1
        counters.warn(
            "stateless response",
            stack.clock.now(),
            'response not returned: status=%d call_id=%s reason="%s"',
            response.status,
            Plain(response.headers.get("Call-ID")),
            error,
        )
    return True
