"""The single steps of a proxy, for programs that combine them in another way than forward() does:
RFC 3261 §16.6, §16.7 and §16.11."""

from __future__ import annotations

from hashlib import blake2s
from typing import Any

from ...arguments import instance
from ...engine.feedback import strip_feedback
from ...errors import InvalidValue, TransactionStateError
from ...message.address import NameAddr
from ...message.identifiers import MAGIC_COOKIE, create_branch
from ...message.message import Request, Response
from ...message.uri import URI
from ...message.uri_arguments import given_uri
from ...message.via import Via
from ..client.targets import NextHop
from ..server import ServerTransaction
from .copy import Target, check_target, prepare
from .request_validation import check_request
from .stateless import stateless_branch

DERIVED = 16
"""Bytes of a derived branch: as many as a random one has."""


def add_via(
    request: Request, transport: str, host: str, port: int | None = None, *, branch: str = ""
) -> Via:
    """Add a Via in front of the others of a request (§16.6 step 8).

    The stack does this by itself for each request that it sends.

        add_via(request, "UDP", "192.0.2.1", 5060)

    Args:
        request: The request, which is changed.
        transport: The name of the transport.
        host: The host of the sent-by, IPv6 in brackets.
        port: Its port.
        branch: The branch. The magic cookie is added if it is missing. By default the branch is
            random.

    Returns:
        The Via.

    Raises:
        InvalidValue: A value cannot be sent.
    """
    branch = branch or create_branch()
    if not branch.startswith(MAGIC_COOKIE):
        branch = MAGIC_COOKIE + branch
    via = Via(transport.upper(), host, port).with_params(branch=branch)
    request.headers.put_header_front("Via", via)
    return via


def add_record_route(request: Request, uri: URI | str) -> None:
    """Add a Record-Route in front of the others of a request (§16.6 step 4). `lr` is added.

    `forward(record_route=True)` writes one with a token, by which `tx.take_route()` knows the
    dialog.

    Raises:
        InvalidValue: The URI cannot be sent, or the text is no URI.
    """
    given = given_uri("uri", uri)
    loose = given if given.is_loose_router else given.with_params(lr=None)
    request.headers.put_header_front("Record-Route", NameAddr(loose))


def derive_branch(request: Request, secret: bytes) -> str:
    """Return a branch that is the same for each retransmission of a request (§16.11).

    It is also the same for the CANCEL of the request, and for the ACK to its refusal.

    Args:
        request: The request as it was received.
        secret: A key of yours, so that nobody else can make the branch. At most 32 bytes are used.

    Raises:
        ParseError: A mandatory header field is missing or broken.
    """
    digest = blake2s(_identity(request), key=secret[:32], digest_size=DERIVED)
    return MAGIC_COOKIE + digest.hexdigest()


def _identity(request: Request) -> bytes:
    """Return what a request has in common with its retransmissions and its CANCEL (§16.11)."""
    via = request.headers.top_via
    branch = via.branch or ""
    if branch.startswith(MAGIC_COOKIE) and branch != MAGIC_COOKIE:
        text = f"{branch} {via.host.lower()} {via.port}"
    else:  # RFC 2543
        tag = request.from_.tag
        text = f"{via} {request.uri_text} {request.call_id} {tag} {request.cseq.number}"
    return text.encode("utf-8", "surrogateescape")


def forward_request(
    request: Request,
    tx: ServerTransaction,
    target: Target | None = None,
    *,
    next_hop: NextHop | None = None,
    **headers: Any,
) -> None:
    """Send one copy of a request to one target without a transaction (§16.6, §16.11): an ACK, or a
    request that is served with `stateless=True`.

    The copy has a Via of ours with a derived branch, one hop less in Max-Forwards, and no Route of
    ours. Its responses return to the sender of the request without a transaction. `forward()` in a
    function that was registered with `stateless=True` does the same.

    Args:
        request: The received request.
        tx: Its server transaction.
        target: A URI or binding. None for the Route and Request-URI of the request.
        next_hop: A URI or a flow where the copy goes instead.
        headers: Header fields to set in the copy.

    Raises:
        Reject: 483 when Max-Forwards is 0, 482 for a loop, 420, 404 or 403 as in forward().
        TransactionStateError: The request has a server transaction, which nothing would answer.
        TransportError: It cannot be sent.
        TypeError: An argument has another type.
    """
    instance("request", request, Request, "forward_request(request, tx, target)")
    instance("tx", tx, ServerTransaction, "forward_request(request, tx, target)")
    if not tx.is_stateless and request.method != "ACK":
        raise TransactionStateError(
            f"{request.method} has a server transaction, and forward_request() keeps none for its "
            "responses: write forward(request, tx, target), or register the function with "
            "stateless=True"
        )
    check_request(request, tx.stack.supported)
    check_target(target)
    copy, hop, origin, _ = prepare(tx, target, next_hop, headers)
    branch = stateless_branch(request, tx)
    tx._note_forwarding()
    tx.stack.sender.send(copy, hop, mark=branch, listener=origin)


def forward_response(response: Response, tx: ServerTransaction) -> None:
    """Send a response of the next hop to the sender of the request (§16.7 steps 3 and 9).

    Our Via is removed. The response goes through the server transaction of the request.

    Args:
        response: The response as it was received. It is not changed.
        tx: The server transaction of the request that was forwarded.

    Raises:
        InvalidValue: There is no other Via, so the response is for this stack (§16.7 step 3).
        TransactionStateError: The request has a final response already.
        TypeError: An argument has another type.
    """
    instance("response", response, Response, "forward_response(response, tx)")
    instance("tx", tx, ServerTransaction, "forward_response(response, tx)")
    copy = response.copy()
    copy.headers.delete_header_front("Via")
    if "Via" not in copy.headers.fields:
        raise InvalidValue(f"{response!r} has one Via, so it is for this stack: do not forward it")
    strip_feedback(copy.headers)
    tx._forward_response(copy)
