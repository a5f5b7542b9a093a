"""`sippet ping`: find a peer, RFC 3263, and send it OPTIONS, RFC 3261 §11."""

from __future__ import annotations

import logging
import re
import time
from typing import Protocol

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
"""Text with one of these prefixes is a URI. Other text gets `sip:` in front."""


class Options(Protocol):
    """The arguments of `sippet ping`."""

    uri: str
    timeout: float
    listen: str | None
    ca: str | None
    verbose: bool


_FOREIGN = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:(?![0-9]{1,5}(?:;|$))").match
"""Matches the scheme of another URI, `mailto:`, but no host and port, `localhost:5060`."""


def _uri(text: str) -> URI:
    """Return a text as a SIP URI. Raises Mistake, which says how to write one."""
    write = "write sip:HOST, sip:USER@HOST:PORT, sips:HOST or HOST (RFC 3261 §19.1)"
    is_uri = text.lower().startswith(SCHEMES)
    if not is_uri and _FOREIGN(text):
        raise Mistake(f"{text!r} is not a SIP URI: {write}")
    try:
        uri = URI.parse(text if is_uri else f"sip:{text}")
    except ParseError as error:
        raise Mistake(f"not a SIP URI: {error}: {write}") from error
    if not uri.is_sip:
        raise Mistake(f"{text!r} is a {uri.scheme} URI, which names no host to ping: {write}")
    return uri


def ping(options: Options) -> int:
    """Send OPTIONS and print the status, the round-trip time and the address of the peer.

    With `verbose`, the resolver and the request log each DNS answer and each target tried.

    Returns:
        The exit code: 0 for a 2xx response, 1 for any other or none, 2 for a mistake.
    """
    log_to_stderr(options.verbose, logging.ERROR)
    try:
        uri = _uri(options.uri)
        kind = uri.transport or "UDP"
        kind = (SECURE.get(kind, "TLS") if uri.is_secure else kind).lower()
        if kind not in FACTORIES:
            raise Mistake(
                f"{options.uri!r} has the unknown transport {kind!r}: "
                f"write one of {', '.join(FACTORIES)}"
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
            # DNS queries end before this returns, so the round trip excludes them
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
