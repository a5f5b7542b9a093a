"""Essentials: what every element needs to know of a message, checked and found in one pass, RFC 3261 §8.1.1. Pure.

Via, From, To, Call-ID and CSeq must stand there and be readable before anything else happens. Nearly all messages
spell them plainly; `plain` reads those quickly and says None to all others, which `thorough` reads by their types.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..errors import ParseError
from .grammar import PLAIN_NAME_ADDR, PLAIN_VIA, split
from .headers import Headers
from .identifiers import MAGIC_COOKIE
from .message import Message
from .parameters import PARAMETERS
from .scan import Fields
from .uri import normal_host, parse_uri
from .via import Via

METHODS = frozenset(
    "ACK BYE CANCEL INFO INVITE MESSAGE NOTIFY OPTIONS PRACK PUBLISH REFER REGISTER SUBSCRIBE UPDATE".split()
)
"""The methods that have an RFC: for these a wrong CSeq method is a mistake, for others the method is what is unknown."""

NEEDED = ("From", "To", "Call-ID", "CSeq")
"""What must stand exactly once. Two lines are refused, even equal ones: which of them did the last hop believe?"""


class Essentials(NamedTuple):
    """The top Via's parts, the tags, the CSeq, and the transaction key they make.

    `has_rport` and `has_received` tell whether these parameters stand there. `key` is `branch host:port method`, the
    sent-by in normal form, INVITE for an ACK (§17.1.3, §17.2.3); None without the magic cookie.
    """

    transport: str
    host: str
    port: int | None
    branch: str | None
    has_rport: bool
    has_received: bool
    from_tag: str | None
    to_tag: str | None
    cseq: int
    method: str
    key: str | None


# The port of a sent-by that names none (§18.1.1, RFC 7118 §5.5); other transports have 5060.
_DEFAULT_PORTS = {"TLS": 5061, "WS": 80, "WSS": 443}


def transaction_key(transport: str, host: str, port: int | None, branch: str | None, method: str) -> str | None:
    """Return the key, or None for a branch that is not unique by itself (§8.1.1.7)."""
    if branch is None or not branch.startswith(MAGIC_COOKIE) or branch == MAGIC_COOKIE:
        return None
    host = normal_host(host) if host[0] == "[" else host.lower()
    return f"{branch} {host}:{port or _DEFAULT_PORTS.get(transport, 5060)} {'INVITE' if method == 'ACK' else method}"


# callid = word [ "@" word ]
_PLAIN_CALL_ID = re.compile(r"[!-?A-~][!-~]*").fullmatch
_PLAIN_CSEQ = re.compile(r"([0-9]{1,9}) ([A-Z]+)").fullmatch


def plain(fields: Fields) -> Essentials | None:
    """Read the usual spellings; None when anything is not one of them, broken or only rare."""
    try:
        via = PLAIN_VIA(fields["Via"] if type(fields["Via"]) is str else fields["Via"][0])
        from_ = PLAIN_NAME_ADDR(fields["From"])  # type: ignore[arg-type]
        to = PLAIN_NAME_ADDR(fields["To"])  # type: ignore[arg-type]
        cseq = _PLAIN_CSEQ(fields["CSeq"])  # type: ignore[arg-type]
        call_id = _PLAIN_CALL_ID(fields["Call-ID"])  # type: ignore[arg-type]
    except (KeyError, TypeError):
        return None
    if not (via and from_ and to and cseq and call_id):
        return None
    transport, host, digits, tail = via.groups()
    if max(tail.count(";"), from_[4].count(";"), to[4].count(";")) > PARAMETERS:
        return None
    try:
        parse_uri(from_[3]), parse_uri(to[3])
    except ParseError:
        return None
    port = None if digits is None else int(digits)
    if port is not None and not 0 < port < 65536:
        return None
    branch = _parameter(tail, ";branch") or None
    return Essentials(
        transport,
        host,
        port,
        branch,
        _parameter(tail, ";rport") is not None,
        _parameter(tail, ";received") is not None,
        _parameter(from_[4], ";tag") or None,
        _parameter(to[4], ";tag") or None,
        int(cseq[1]),
        cseq[2],
        transaction_key(transport, host, port, branch, cseq[2]),
    )


def _parameter(tail: str, name: str) -> str | None:
    """Return a parameter of a tail without quotes; "" for one without value."""
    if not tail:
        return None
    lowered = tail.lower()
    at = lowered.find(name)
    while at >= 0:
        after = at + len(name)
        following = tail[after : after + 1]
        if following == "=":
            end = tail.find(";", after)
            return tail[after + 1 : end if end >= 0 else len(tail)]
        if following in ("", ";"):
            return ""
        at = lowered.find(name, after)
    return None


def thorough(headers: Headers) -> Essentials:
    """Read any spelling by the header types. Raises ParseError that names what is missing, double or broken."""
    fields = headers.fields
    if "Via" not in fields:
        raise ParseError("missing", header="Via")
    for name in NEEDED:
        value = fields.get(name)
        if value is None:
            raise ParseError("missing", header=name)
        if type(value) is not str:
            raise ParseError("stands twice", header=name, value=value)
    via = _top_via(headers)
    cseq: Any = headers.typed(Message.cseq)
    from_: Any = headers.typed(Message.from_)
    to: Any = headers.typed(Message.to)
    headers.typed(Message.call_id)
    return Essentials(
        via.transport,
        via.host,
        via.port,
        via.branch,
        "rport" in via.parameters,
        "received" in via.parameters,
        from_.tag,
        to.tag,
        cseq.number,
        cseq.method,
        transaction_key(via.transport, via.host, via.port, via.branch, cseq.method),
    )


def essentials_of_via(headers: Headers) -> Essentials:
    """Return what the top Via says, the rest empty: enough to answer a request that is broken elsewhere. Raises ParseError."""
    via = _top_via(headers)
    parameters = via.parameters
    return Essentials(
        via.transport, via.host, via.port, via.branch, "rport" in parameters, "received" in parameters, None, None, 0, "", None
    )


def _top_via(headers: Headers) -> Via:
    """Read the first Via line alone: those below it are for the hops that wrote them."""
    try:
        top, *_ = [Via.parse(text) for text in split(headers["Via"], ",")]
        return top
    except ParseError as error:
        error.header = "Via"
        raise


def essentials_of(message: Any) -> Essentials:
    """Return the essentials of a message, found once. Raises ParseError."""
    found = message.essentials
    if found is None:
        found = message.essentials = thorough(message.headers)
    return found  # type: ignore[no-any-return]
