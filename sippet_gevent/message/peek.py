"""The transaction key and the To tag of a request, read from its bytes before it is parsed. Pure.

Overload and retransmissions are recognised here for a tenth of the price of parse(). Both functions
know only the usual spelling. For any other they return None, and the caller parses the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .iana import DEFAULT_PORT
from .speedups import c

_TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]"
_VALUE = r"[A-Za-z0-9\-.!%*_+`'~:\[\]]"
_OTHER = rf";(?!(?i:branch)[=;\r]){_TOKEN}+(?:={_VALUE}+)?"

# The Via must be the first header line, as nearly all peers write it, because only then it is
# surely the top one. Commas and quotes do not match.
_TOP = re.compile(
    rf"([A-Z]+) [^ \r\n]+ SIP/2\.0\r\n"
    rf"Via: SIP/2\.0/(?:UDP|TCP) ([a-z0-9][a-z0-9.-]*)(?::([0-9]{{1,5}}))?"
    rf"(?:{_OTHER})*;(?i:branch)=(z9hG4bK{_VALUE}+)(?:{_OTHER})*\r\n(?![ \t])".encode()
).match
_TO = re.compile(rb"\r\n[Tt][Oo]?[ \t]*:([^\r\n]*)(\r\n(?![ \t]))?").search

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
    method, host, port, branch = found.groups()
    number = int(port or DEFAULT_PORT)
    if not 0 < number < 65536 or len(method) + len(host) + len(branch) > LONGEST:
        return None
    name = "INVITE" if method == b"ACK" else method.decode()
    return f"{branch.decode()} {host.decode()}:{number} {name}"


def has_to_tag(data: bytes) -> bool:
    """True if the To of a request has a tag, or cannot be found in the usual spelling."""
    found = _TO(data)
    return found is None or found[2] is None or b"tag" in found[1].lower()


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
