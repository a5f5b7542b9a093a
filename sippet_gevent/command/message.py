"""`sippet message`: send a text to a peer, RFC 3428."""

from __future__ import annotations

import logging
import sys
from typing import Any, Protocol

from ..core.auth.credentials import Credentials
from ..errors import SIPError, TransactionTimeout
from ..message.message import Response
from ..message.uri import URI
from ..stack import Stack
from .call import caller_of
from .interrupts import Interrupted, interruptible
from .password import asked, can_ask, credentials_of
from .peer import outbound_proxy, peer_stack, peer_uri
from .status_lines import StatusLines
from .terminal import Mistake, tell
from .trace import log_to_stderr, show_messages

NOT_SENT, INTERRUPTED = 1, 130

LONGEST = 1300
"""Bytes of the longest text that MESSAGE carries (RFC 3428 §8)."""

ADVICE = {
    401: "it asks for a password: --from sip:USER@DOMAIN --password-file FILE",
    403: "try another sender: --from sip:USER@DOMAIN",
    404: "check the user name in the URI",
    405: "the peer takes no messages",
    407: "it asks for a password: --from sip:USER@DOMAIN --password-file FILE",
    480: "the user has no phone there at this moment: try again later",
    503: "the peer is overloaded or stops: try again later",
}
"""What to do next after a refusal, by its status."""


class Options(Protocol):
    """The arguments of `sippet message`."""

    uri: str
    text: str
    from_: str | None
    user: str | None
    password_stdin: bool
    password_file: str | None
    timeout: float
    listen: str | None
    ca: str | None
    outbound_proxy: str | None
    verbose: bool


def message(options: Options) -> int:
    """Send a text, and print what the peer says to it.

    Returns:
        The exit code: 0 when the peer has taken it, 1 when it was refused or has got no answer, 2
        for a mistake, 130 for Ctrl-C.
    """
    log_to_stderr(options.verbose, logging.ERROR)
    try:
        uri = peer_uri(options.uri, "send to")
        sender = caller_of(options.from_)
        user = None if sender is None else sender.uri.user
        text = _text_of(options)
        credentials = credentials_of(options, user)
        proxy = outbound_proxy(options)
        stack = peer_stack(options, proxy or uri)
        if options.verbose:
            show_messages(stack)
        stack.start()
    except SIPError as error:
        return tell(error)
    headers: dict[str, Any] = {"next_hop": proxy}
    if sender is not None:
        headers["from_"] = sender
    lines = StatusLines(sys.stdout, live=not options.verbose)
    with stack:
        try:
            lines.tell(f"sending {len(text)} bytes to {uri}", live="waiting for the answer")
            answer = _send(options, stack, uri, text, credentials, headers)
            name = options.user or user
            if answer.status in (401, 407) and credentials is None and name and can_ask(options):
                lines.clear()
                challenge = (*answer.www_authenticate, *answer.proxy_authenticate)[0]
                found = asked(options, name, str(challenge.realm or uri.host))
                answer = _send(options, stack, uri, text, found, headers)
        except TransactionTimeout:
            lines.tell("no answer in time", "bad")
            lines.tell("check address, transport and firewall: --verbose", "faint")
            return NOT_SENT
        except Mistake as error:
            return tell(error)
        except SIPError as error:
            lines.tell(f"not sent: {error}", "bad")
            return NOT_SENT
        except (Interrupted, KeyboardInterrupt):
            lines.tell("given up")
            return INTERRUPTED
        finally:
            lines.close()
        if answer.is_success:
            # 202 says that it is kept for later (RFC 3428 §7)
            kept = "kept for later" if answer.status == 202 else "delivered"
            lines.tell(f"{kept}: {answer.status} {answer.reason}", "good")
            return 0
        lines.tell(f"refused: {answer.status} {answer.reason}", "bad")
        if answer.status in ADVICE:
            lines.tell(ADVICE[answer.status], "faint")
        return NOT_SENT


def _send(
    options: Options,
    stack: Stack,
    uri: URI,
    text: bytes,
    credentials: Credentials | None,
    headers: dict[str, Any],
) -> Response:
    with interruptible():
        return stack.request(
            "MESSAGE",
            uri,
            body=text,
            content_type="text/plain;charset=utf-8",
            credentials=credentials,
            timeout=options.timeout,
            **headers,
        )


def _text_of(options: Options) -> bytes:
    """Return the text to send. Raises Mistake."""
    if options.text != "-":
        text = options.text.encode("utf-8", "surrogateescape")
    elif options.password_stdin:
        raise Mistake("text and password cannot both be standard input: use --password-file FILE")
    else:
        text = sys.stdin.buffer.read(LONGEST + 1)
    if not text:
        raise Mistake("the text is empty: write it behind the URI, or - for standard input")
    if len(text) > LONGEST:
        raise Mistake(f"the text has over {LONGEST} bytes, which no MESSAGE carries (RFC 3428 §8)")
    return text
