"""Mandatory: the parts of a message that every element needs, checked and found in one pass, RFC
3261 §8.1.1. Pure.

Via, From, To, Call-ID and CSeq must exist and be readable before anything else happens.
`read_mandatory` reads them by their types. Nearly all messages spell them plainly.
`plain_mandatory()` in `_speedups.c` reads such messages without making the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import ParseError
from .address import NameAddr
from .fields.rfc3261 import CallID, CSeq
from .grammar import unquote
from .headers import Headers
from .iana import DEFAULT_PORT, DEFAULT_PORTS
from .identifiers import MAGIC_COOKIE
from .scan import Fields
from .speedups import c
from .uri import normal_host

NEEDED = ("From", "To", "Call-ID", "CSeq")
"""Fields that must appear exactly once. Two lines are refused, even equal ones, because the last
hop may have used either."""


class Mandatory(NamedTuple):
    """The top Via's parts, the tags, the CSeq, and the transaction key they make.

    `has_rport` and `has_received` are True if the top Via has these parameters. `key` is `branch
    host:port method`, with the sent-by in normal form, and with INVITE for an ACK (§17.1.3,
    §17.2.3). It is None without the magic cookie.
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


def transaction_key(
    transport: str, host: str, port: int | None, branch: str | None, method: str
) -> str | None:
    """Return the key of a transaction, or None for a branch that is not unique by itself
    (§8.1.1.7)."""
    if branch is None or not branch.startswith(MAGIC_COOKIE) or branch == MAGIC_COOKIE:
        return None
    host = normal_host(host) if host[0] == "[" else host.lower()
    port = port or DEFAULT_PORTS.get(transport, DEFAULT_PORT)
    return f"{branch} {host}:{port} {'INVITE' if method == 'ACK' else method}"


def read_mandatory(headers: Headers, *, is_response: bool = False) -> Mandatory:
    """Read any spelling by the types of the header fields. Raises ParseError, which names the field
    that is missing, doubled or broken.

    A response may have an unreadable From, because the client knows the From that it sent (§17.1.3,
    §8.2.6.2).
    """
    fields = headers.fields
    looked_at = headers.looked_at
    name = "Via"
    try:
        via = headers.top_via
        name = "From"
        from_ = _from(headers, is_response)
        name = "To"
        to = looked_at[name] = NameAddr.parse(_only(fields[name]))
        name = "Call-ID"
        CallID.check(_only(fields[name]))
        name = "CSeq"
        number, method = looked_at[name] = CSeq.parse(_only(fields[name]))
    except KeyError:
        raise ParseError("missing", header=name) from None
    except ParseError as error:
        error.header = name
        error.status = 400  # 414 is for the Request-URI
        raise
    transport, host, port, parameters = via
    branch: str | None = None
    names = set()
    for parameter, text in parameters.pairs:
        parameter = parameter.lower()
        if parameter == "branch":
            if "branch" in names:
                raise ParseError("branch appears twice", header="Via", value=headers["Via"])
            branch = text
        names.add(parameter)
    if branch is not None and branch[:1] == '"':
        branch = unquote(branch)
    return tuple.__new__(
        Mandatory,
        (
            transport,
            host,
            port,
            branch,
            "rport" in names,
            "received" in names,
            _tag("From", from_),
            _tag("To", to),
            number,
            method,
            transaction_key(transport, host, port, branch, method),
        ),
    )


def _from(headers: Headers, is_response: bool) -> NameAddr | None:
    try:
        found = NameAddr.parse(_only(headers.fields["From"]))
    except (KeyError, ParseError):
        if is_response:
            return None
        raise
    headers.looked_at["From"] = found
    return found


def _tag(name: str, address: NameAddr | None) -> str | None:
    if address is None:
        return None
    pairs = address.parameters.pairs
    if len(pairs) > 1 and sum(parameter.lower() == "tag" for parameter, _ in pairs) > 1:
        raise ParseError("tag appears twice", header=name, value=str(address))
    return address.tag if pairs else None


def _only(value: str | list[str]) -> str:
    if type(value) is not str:
        raise ParseError("appears twice", value=value)
    return value


def mandatory_of_via(headers: Headers) -> Mandatory:
    """Return the parts of the top Via, with the rest empty. That is enough to answer a request that
    is broken elsewhere. Raises ParseError."""
    via = headers.top_via
    parameters = via.parameters
    return Mandatory(
        via.transport,
        via.host,
        via.port,
        via.branch,
        "rport" in parameters,
        "received" in parameters,
        None,
        None,
        0,
        "",
        None,
    )


plain_mandatory: Callable[[Fields], Mandatory | None] | None = None
"""read_mandatory() for the usual spellings, in C; it returns None for any other. None where the C
extension is not built."""
if c is not None:
    c.setup_plain_mandatory(Mandatory)
    plain_mandatory = c.plain_mandatory


def mandatory_of(message: Any) -> Mandatory:
    """Return the mandatory parts of a message, which are found once. Raises ParseError."""
    found: Mandatory | None = message.mandatory
    if found is None:
        found = message.mandatory = read_mandatory(
            message.headers, is_response=hasattr(message, "status")
        )
    return found
