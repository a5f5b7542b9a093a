"""The transaction key (RFC 3261 §17.2.3) and the To tag of a request, before it is parsed. Pure.

Overload and retransmissions are recognised here for a tenth of the price of parse(). Both functions
know only the usual spelling. For any other they return None, and the caller parses the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import ParseError
from .iana import DEFAULT_PORTS
from .message import Request
from .parser import ParserLimits, parse
from .speedups import c

_TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]"
_VALUE = r"[A-Za-z0-9\-.!%*_+`'~:\[\]]"
_OTHER = rf";(?!(?i:branch)[=;\r]){_TOKEN}+(?:={_VALUE}+)?"

# The Via must be the first header line, as nearly all peers write it, because only then it is
# surely the top one. Commas and quotes do not match.
_TOP = re.compile(
    rf"([A-Z]+) [^ \r\n]+ SIP/2\.0\r\n"
    rf"Via: SIP/2\.0/(UDP|TCP|TLS|WSS|WS) ([a-z0-9][a-z0-9.-]*)(?::([0-9]{{1,5}}))?"
    rf"(?:{_OTHER})*;(?i:branch)=(z9hG4bK{_VALUE}+)(?:{_OTHER})*\r\n(?![ \t])".encode()
).match
_TO = re.compile(rb"\r\n[Tt][Oo]?[ \t]*:([^\r\n]*)(\r\n(?![ \t]))?").search
_CREDENTIALS = re.compile(rb"\r\nAuthorization[ \t]*:", re.IGNORECASE).search
_FIRST = re.compile(rb"\r\nCSeq[ \t]*:(?:\r\n)?[ \t]*0*1[ \t\r]", re.IGNORECASE).search

LONGEST = 512
"""Bytes of branch, host and method together. A longer key is left to parse()."""


def request_key(data: bytes) -> str | None:
    """Return the key of the server transaction of a request (RFC 3261 §17.2.3), as `mandatory` has
    it, before the message is parsed.

    Returns:
        The key. None for a response, and for a request in any but the usual spelling.
    """
    found = _TOP(data)
    if found is None:
        return None
    method, transport, host, port, branch = found.groups()
    number = int(port or DEFAULT_PORTS[transport.decode()])
    if not 0 < number < 65536 or len(method) + len(host) + len(branch) > LONGEST:
        return None
    name = "INVITE" if method == b"ACK" else method.decode()
    return f"{branch.decode()} {host.decode()}:{number} {name}"


def has_to_tag(data: bytes) -> bool:
    """True if the To of a request has a tag, or cannot be found in the usual spelling."""
    found = _TO(data)
    return found is None or found[2] is None or b"tag" in found[1].lower()


def has_to_tag_surely(data: bytes) -> bool:
    """True if the To of a request has a tag in the usual spelling. False if it may have none,
    although has_to_tag() is True."""
    found = _TO(data)
    return bool(found and found[2] and b";tag=" in found[1].rpartition(b">")[2])


def may_refresh(data: bytes) -> bool:
    """True for a REGISTER that looks as if it refreshes a binding: it has credentials, or is not
    the first of its Call-ID (RFC 3261 §10.2.4). Anybody can write such a request."""
    if not data.startswith(b"REGISTER "):
        return False
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[: end + 2]
    return _CREDENTIALS(head) is not None or _FIRST(head) is None


def read_request(data: bytes, limits: ParserLimits) -> Request | None:
    """Parse a request in an unusual spelling. None if it is no request, or a broken one."""
    if data[:4] == b"SIP/":
        return None
    try:
        message = parse(data, limits)
    except ParseError:
        return None
    return message if isinstance(message, Request) else None


fastest_key: Callable[[bytes], str | None] = request_key
"""The one of the twins to call."""
fastest_has_to_tag: Callable[[bytes], bool] = has_to_tag
"""The one of the twins to call."""
compiled_key: Callable[[bytes], str | None] | None = None
"""request_key() in C. None where the C extension is not built: the Python version costs more than
it would save for each message."""
if c is not None:
    compiled_key = fastest_key = c.request_key
    fastest_has_to_tag = c.has_to_tag
