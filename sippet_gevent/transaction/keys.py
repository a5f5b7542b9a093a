"""Transaction keys, RFC 3261 §17.1.3 and §17.2.3. Pure.

A key is one string, so that a table of 100,000 keys stays small and a log line can show it.
"""

from __future__ import annotations

from ..errors import ParseError
from ..message.grammar import split_first
from ..message.headers import Headers
from ..message.mandatory import mandatory_of, read_mandatory, transaction_key
from ..message.message import Request, Response
from ..message.scan import fastest as scan
from ..message.via import Via

_VIA = frozenset(("via", "v"))


def server_key(request: Request, method: str | None = None) -> str:
    """Return the key of the server transaction that a request belongs to (§17.2.3).

    Args:
        request: the request, as received.
        method: the method of the transaction, if it is not the request's own. For example, a CANCEL
            looks for its INVITE.
    """
    e = mandatory_of(request)
    if e.key is None:
        return _rfc2543_key(request, method or ("INVITE" if e.method == "ACK" else e.method))
    return e.key if method is None else f"{e.key.rpartition(' ')[0]} {method}"


def client_key(message: Request | Response) -> str | None:
    """Return the key of the client transaction of a response, or of our own request.

    It is None for a branch without the magic cookie. §17.1.3 compares branch and method. The key
    has the sent-by as well, so a response whose top Via is not ours finds nothing (§18.1.2). A
    response to an ACK is forbidden (§17.1). It gets no key, because it would find the INVITE, and
    the ACK would be sent again.
    """
    e = mandatory_of(message)
    return e.key if e.method != "ACK" else None


def quoted_key(quote: bytes) -> str | None:
    """Return the key of the client transaction that has sent the message of an ICMP error (§18.4).

    Args:
        quote: the first bytes of the message, as the ICMP error quotes them. Only whole lines are
            read, and only until the top Via.

    Returns:
        The key. None if the quote ends before the top Via does, because half a branch proves
        nothing. "" for a message without a client transaction: a response, or an ACK.
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


def _rfc2543_key(request: Request, method: str) -> str:
    """Return the key for a peer without the magic cookie.

    It has Request-URI, From tag, Call-ID, CSeq number and top Via. The To tag is left out, because
    an ACK has the tag of our response. `acknowledges` checks that tag.
    """
    e = mandatory_of(request)
    # Only the top Via, because an ACK has no other. We have added received and rport ourselves.
    top = request.headers.top_via
    via = top._replace(parameters=top.parameters.without("received", "rport"))
    return f"{request.uri_text} {e.from_tag} {request.headers['Call-ID']} {e.cseq} {via} {method}"


def acknowledges(ack: Request, last: bytes | None) -> bool:
    """True if an ACK belongs to the transaction whose last response was `last` (§17.2.3).

    With the magic cookie its key has decided that. Without it, the To tag must be ours.
    """
    e = mandatory_of(ack)
    if e.key is not None:
        return True
    if last is None or e.to_tag is None:
        return last is not None
    _, lines, fields, _ = scan(last, len(last), len(last))
    return read_mandatory(Headers(lines, fields), is_response=True).to_tag == e.to_tag
