"""`sippet ping`: find a peer, RFC 3263, and send it OPTIONS, RFC 3261 §11."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from ..errors import SIPError
from ..message.message import Request
from .peer import outbound_proxy, peer_stack, peer_uri
from .terminal import tell
from .trace import host_of, log_to_stderr, show_messages


class Options(Protocol):
    """The arguments of `sippet ping`."""

    uri: str
    timeout: float
    listen: str | None
    ca: str | None
    outbound_proxy: str | None
    verbose: bool


def ping(options: Options) -> int:
    """Send OPTIONS and print the status, the round-trip time and the address of the peer.

    With `verbose`, the resolver and the request log each DNS answer and each target tried.

    Returns:
        The exit code: 0 for a 2xx response, 1 for any other or none, 2 for a mistake.
    """
    log_to_stderr(options.verbose, logging.ERROR)
    try:
        uri = peer_uri(options.uri, "ping")
        proxy = outbound_proxy(options)
        stack = peer_stack(options, proxy or uri)
        if options.verbose:
            show_messages(stack)
        stack.start()
    except SIPError as error:
        return tell(error)
    with stack:
        try:
            # DNS queries end before this returns, so the round trip excludes them
            asked = stack.send(Request("OPTIONS", uri), proxy)
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
