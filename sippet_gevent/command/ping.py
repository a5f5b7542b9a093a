"""What `sippet ping` does: find a peer, RFC 3263, and ask whether it is there. RFC 3261 §11."""

from __future__ import annotations

import logging
import time
from typing import Any

from ..errors import InvalidValue, SIPError
from ..message.message import Request
from ..message.uri import URI
from ..stack import Stack
from ..transport.selection import SECURE
from ..transport.tls import TLS
from .terminal import tell
from .trace import host_of, log_to_stderr, show_messages

SCHEMES = ("sip:", "sips:", "tel:")
"""What is taken for a URI; before anything else `sip:` is put."""


def ping(options: Any) -> int:
    """Send OPTIONS; print status, round trip and who answered. Returns 0 for a 2xx, 1 otherwise, 2 for a mistake.

    When verbose, what DNS said and what is tried in which order are log lines of the resolver and of the request.
    """
    log_to_stderr(options.verbose, logging.WARNING)
    try:
        uri = URI.parse(options.uri if options.uri.lower().startswith(SCHEMES) else f"sip:{options.uri}")
        if not uri.is_sip:
            raise InvalidValue(f"{options.uri!r} is not a SIP URI")
        kind = uri.transport or "UDP"
        kind = (SECURE.get(kind, "TLS") if uri.is_secure else kind).lower()
        stack = Stack(options.listen or f"{kind}:{'[::]' if ':' in uri.host else '0.0.0.0'}:0", tls=TLS(ca=options.ca))
        if options.verbose:
            show_messages(stack)
        stack.start()
    except SIPError as error:
        return tell(error)
    with stack:
        try:
            asked = stack.send(Request("OPTIONS", uri))  # asks DNS before it sends, which is no part of the round trip
            started = time.perf_counter()
            response = asked.final(timeout=options.timeout)
        except SIPError as error:
            return tell(f"{uri}: {error}", 1)
        elapsed = (time.perf_counter() - started) * 1000
    peer = response.flow.remote
    who = response.server or response.user_agent
    print(f"{response.status} {response.reason}  {elapsed:.1f} ms  from {host_of(peer)}:{peer[1]}" + (f"  {who}" if who else ""))
    return 0 if response.is_success else 1
