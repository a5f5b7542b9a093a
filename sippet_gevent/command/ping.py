"""What `sippet ping` does: find a peer, RFC 3263, and ask whether it is there. RFC 3261 §11."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from ..engine.listening import FACTORIES
from ..errors import ParseError, SIPError
from ..message.message import Request
from ..message.uri import URI
from ..stack import Stack
from ..transport.locate.rfc3263 import SECURE
from ..transport.tls import TLS
from .terminal import Mistake, naming, tell
from .trace import host_of, log_to_stderr, show_messages

SCHEMES = ("sip:", "sips:", "tel:")
"""What is taken for a URI; before anything else `sip:` is put."""


_FOREIGN = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:(?![0-9]{1,5}(?:;|$))").match
"""The scheme of another URI: `mailto:`. A host and port, `localhost:5060`, has none."""


def _uri(text: str) -> URI:
    """Return the URI to ask. Raises Mistake, which says how to write one."""
    write = f"write sip:HOST, sip:USER@HOST:PORT, sips:HOST or HOST (RFC 3261 §19.1), not {text!r}"
    is_uri = text.lower().startswith(SCHEMES)
    if not is_uri and _FOREIGN(text):
        raise Mistake(f"only a SIP URI can be asked: {write}")
    try:
        uri = URI.parse(text if is_uri else f"sip:{text}")
    except ParseError as error:
        raise Mistake(f"this is not a SIP URI: {error}: {write}") from error
    if not uri.is_sip:
        raise Mistake(f"a {uri.scheme} URI names no host that could be asked: {write}")
    return uri


def ping(options: Any) -> int:
    """Send OPTIONS; print status, round trip and who answered. Returns 0 for a 2xx, 1 otherwise, 2
    for a mistake.

    When verbose, the resolver and the request log the answers of DNS and each target that is tried.
    Otherwise a failure is printed once, in place of the answer.
    """
    log_to_stderr(options.verbose, logging.ERROR)
    try:
        uri = _uri(options.uri)
        kind = uri.transport or "UDP"
        kind = (SECURE.get(kind, "TLS") if uri.is_secure else kind).lower()
        if kind not in FACTORIES:
            raise Mistake(
                f"{options.uri!r}: there is no transport {kind!r} here: write one of {', '.join(FACTORIES)}"
            )
        with naming("--ca"):
            tls = TLS(ca=options.ca)
        with naming("--listen"):
            stack = Stack(
                options.listen or f"{kind}:{'[::]' if ':' in uri.host else '0.0.0.0'}:0", tls=tls
            )
        if options.verbose:
            show_messages(stack)
        stack.start()
    except SIPError as error:
        return tell(error)
    with stack:
        try:
            # asks DNS before it sends, which is no part of the round trip
            asked = stack.send(Request("OPTIONS", uri))
            started = time.perf_counter()
            response = asked.final(timeout=options.timeout)
        except SIPError as error:
            return tell(f"{uri}: {error}", 1)
        elapsed = (time.perf_counter() - started) * 1000
    peer = response.flow.remote
    who = response.server or response.user_agent
    print(
        f"{response.status} {response.reason}  {elapsed:.1f} ms  from {host_of(peer)}:{peer[1]}"
        + (f"  {who}" if who else "")
    )
    return 0 if response.is_success else 1
