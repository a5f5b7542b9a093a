"""Transaction keys, RFC 3261 §17.1.3 and §17.2.3. Pure.

A key is one text, so that a table of hundreds of thousands stays small and a log line can show it.
"""

from __future__ import annotations

from typing import Any

from ..message.essentials import essentials_of, thorough
from ..message.grammar import split
from ..message.headers import Headers
from ..message.identifiers import MAGIC_COOKIE
from ..message.parser import scan
from ..message.uri import normal_host
from ..message.values import Via

# The port of a sent-by that names none (§18.1.1, RFC 7118 §5.5); other transports have 5060.
_DEFAULT_PORTS = {"TLS": 5061, "WS": 80, "WSS": 443}


def client_key(branch: str, host: str, port: int | None, method: str) -> str:
    """Return the key a response finds its client transaction by: our branch, our sent-by, the CSeq method.

    §17.1.3 wants branch and method; with the sent-by in it, a response whose top Via is not ours finds nothing (§18.1.2).
    """
    return f"{branch} {_normal(host)}:{port or 5060} {method}"


def server_key(request: Any, method: str | None = None) -> str:
    """Return the key of the server transaction a request belongs to (§17.2.3).

    `method` stands in for the request's own: an ACK belongs to its INVITE, and a CANCEL looks for one.
    """
    e = essentials_of(request)
    branch = e.branch
    if method is None:
        method = "INVITE" if e.method == "ACK" else e.method
    if not _is_unique(branch):
        return _rfc2543_key(request, method)
    return f"{branch} {_normal(e.host)}:{e.port or _DEFAULT_PORTS.get(e.transport, 5060)} {method}"


def _is_unique(branch: str | None) -> bool:
    """True for a branch of RFC 3261: the cookie and something after it (§8.1.1.7)."""
    return branch is not None and branch.startswith(MAGIC_COOKIE) and branch != MAGIC_COOKIE


def _normal(host: str) -> str:
    """Return one spelling of a sent-by host (§18.1.2 compares them)."""
    return normal_host(host) if host[0] == "[" else host.lower()


def _rfc2543_key(request: Any, method: str) -> str:
    """The fallback for a peer without the magic cookie: Request-URI, From tag, Call-ID, CSeq number and top Via.

    The To tag is left out, for an ACK has the one our response gave; `acknowledges` checks it.
    """
    e = essentials_of(request)
    # The first value only, for it is all an ACK repeats; received and rport we have filled in ourselves.
    top = Via.parse(split(request.headers["Via"], ",")[0])
    via = top._replace(parameters=top.parameters.without("received", "rport"))
    return f"{request.uri_text} {e.from_tag} {request.headers['Call-ID']} {e.cseq} {via} {method}"


def acknowledges(ack: Any, last: bytes | None) -> bool:
    """True when an ACK without the magic cookie carries the To tag of our last response (§17.2.3)."""
    e = essentials_of(ack)
    if _is_unique(e.branch):
        return True
    if last is None or e.to_tag is None:
        return last is not None
    _, lines, fields, _ = scan(last, len(last), len(last))
    return thorough(Headers(lines, fields)).to_tag == e.to_tag


def merge_key(request: Any) -> int | None:
    """Return what two copies of one request share when they came by different ways (§8.2.2.2), or None within a dialog.

    The Request-URI belongs to it, so that a request which spirals through a proxy with a new one is no copy.
    """
    e = essentials_of(request)
    if e.to_tag is not None:
        return None
    return hash((e.from_tag, request.headers.fields["Call-ID"], e.cseq, e.method, request.uri_text))
