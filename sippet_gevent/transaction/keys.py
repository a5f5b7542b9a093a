"""Transaction keys, RFC 3261 §17.1.3 and §17.2.3. Pure.

A key is one text, so that a table of hundreds of thousands stays small and a log line can show it.
"""

from __future__ import annotations

from typing import Any

from ..errors import ParseError
from ..message.grammar import split_first
from ..message.headers import Headers
from ..message.mandatory import mandatory_of, read_mandatory, transaction_key
from ..message.scan import fastest as scan
from ..message.via import Via

_VIA = frozenset(("via", "v"))


def server_key(request: Any, method: str | None = None) -> str:
    """Return the key of the server transaction a request belongs to (§17.2.3).

    `method` stands in for the request's own: a CANCEL looks for its INVITE.
    """
    e = mandatory_of(request)
    if e.key is None:
        return _rfc2543_key(request, method or ("INVITE" if e.method == "ACK" else e.method))
    return e.key if method is None else f"{e.key.rpartition(' ')[0]} {method}"


def client_key(message: Any) -> str | None:
    """Return the key of the client transaction that a response, or our request, belongs to; None
    without our branch.

    §17.1.3 wants branch and method; with the sent-by in it, a response whose top Via is not ours
    finds nothing (§18.1.2). A response to an ACK, which there must not be (§17.1), is not one to
    its INVITE: the ACK would be repeated for it.
    """
    e = mandatory_of(message)
    return e.key if e.method != "ACK" else None


def quoted_key(quote: bytes) -> str | None:
    """Return the key of the client transaction that has sent what begins like this, as an ICMP
    error quotes it (§18.4).

    None where the quote ends before the top Via does: of half a branch nothing follows. It is empty
    for what has no client transaction, a response or an ACK. The Via is looked for in whole lines,
    and read no further than that.
    """
    whole, _, _ = quote.rpartition(b"\r\n")
    start, *lines = whole.decode("utf-8", "surrogateescape").split("\r\n")
    method = start.partition(" ")[0]
    if quote[:4] == b"SIP/" or method == "ACK":
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.rstrip().lower() in _VIA:
            try:
                via = Via.parse(split_first(value, ",")[0])
            except ParseError:
                return ""
            return transaction_key(via.transport, via.host, via.port, via.branch, method) or ""
    return None


def _rfc2543_key(request: Any, method: str) -> str:
    """The fallback for a peer without the magic cookie: Request-URI, From tag, Call-ID, CSeq number
    and top Via.

    The To tag is left out, for an ACK has the one our response gave; `acknowledges` checks it.
    """
    e = mandatory_of(request)
    # The first value only, for it is all an ACK repeats; received and rport we have filled in
    # ourselves.
    top = request.headers.top_via
    via = top._replace(parameters=top.parameters.without("received", "rport"))
    return f"{request.uri_text} {e.from_tag} {request.headers['Call-ID']} {e.cseq} {via} {method}"


def acknowledges(ack: Any, last: bytes | None) -> bool:
    """True when an ACK without the magic cookie carries the To tag of our last response
    (§17.2.3)."""
    e = mandatory_of(ack)
    if e.key is not None:
        return True
    if last is None or e.to_tag is None:
        return last is not None
    _, lines, fields, _ = scan(last, len(last), len(last))
    return read_mandatory(Headers(lines, fields), is_response=True).to_tag == e.to_tag


def merge_key(request: Any) -> int | None:
    """Return what two copies of one request share when they came by different ways (§8.2.2.2), or
    None within a dialog.

    The Request-URI belongs to it, so that a request which spirals through a proxy with a new one is
    no copy.
    """
    e = request.mandatory or mandatory_of(request)
    if e.to_tag is not None:
        return None
    return hash((e.from_tag, request.headers.fields["Call-ID"], e.cseq, e.method, request._uri))
