"""Log lines of an Authenticator: refused passwords, addresses and credentials, and bans.

Each line is limited by its reason, because peers can cause any number of them.
"""

from __future__ import annotations

import logging

from ...errors import ParseError, excerpt
from ...message.message import Request
from ...message.uri import URI
from ...observe.log_values import Plain
from ..element import Element
from .bans import Ban
from .claim import Claim

log = logging.getLogger("sippet_gevent.core")


def _given(text: str) -> Plain:
    return Plain(excerpt(text)[1:-1])


def log_wrong_password(
    stack: Element, request: Request, source: str, claim: Claim, *, lacks: str | None
) -> None:
    """Log a wrong password. A program like fail2ban can read the line.

    Args:
        stack: The stack that has received the request.
        request: The request.
        source: Its source.
        claim: Its credentials.
        lacks: The algorithm that the user has no HA1 for. None if the password is wrong.
    """
    text = "authentication failed: source=%s user=%s realm=%s method=%s call_id=%s"
    if lacks is not None:
        text += (
            f' reason="no HA1 for {lacks}" hint="set the password again, or do not offer the '
            'algorithm"'
        )
    stack.engine.counters.warn(
        "authentication failed" if lacks is None else "user without an HA1",
        stack.clock.now(),
        text,
        Plain(source),
        _given(claim.username),
        Plain(claim.realm),
        Plain(request.method),
        Plain(request.headers.get("Call-ID")),
        log=log,
    )


def log_ban(stack: Element, ban: Ban, realm: str) -> None:
    """Log that a source has guessed too often."""
    stack.engine.counters.warn(
        "source banned",
        stack.clock.now(),
        "source banned: source=%s user=%s failures=%d seconds=%d realm=%s",
        Plain(ban.source),
        _given(ban.user),
        ban.failures,
        ban.seconds,
        Plain(realm),
        log=log,
    )


def log_other_address(stack: Element, request: Request, claim: Claim, uri: URI) -> None:
    """Log that a user has used the address of another one."""
    stack.engine.counters.warn(
        "address of another user",
        stack.clock.now(),
        "address of another user: user=%s address=%s method=%s call_id=%s answered=403",
        _given(claim.username),
        _given(str(uri)),
        Plain(request.method),
        Plain(request.headers.get("Call-ID")),
        log=log,
    )


def log_other_uri(stack: Element, request: Request, source: str, claim: Claim) -> None:
    """Log that credentials were made for another URI. The phone has to be set up in another way,
    or a proxy on the way has changed the Request-URI."""
    stack.engine.counters.warn(
        "credentials for another URI",
        stack.clock.now(),
        "credentials refused: source=%s user=%s realm=%s method=%s answered=400 "
        'reason="they are for another URI" uri=%s request_uri=%s call_id=%s',
        Plain(source),
        _given(claim.username),
        Plain(claim.realm),
        Plain(request.method),
        _given(claim.uri),
        _given(request.uri_text),
        Plain(request.headers.get("Call-ID")),
        log=log,
    )


def log_unreadable(stack: Element, request: Request, source: str, error: ParseError) -> None:
    """Log that credentials cannot be read. The error quotes none of them."""
    stack.engine.counters.warn(
        "credentials unreadable",
        stack.clock.now(),
        'credentials refused: source=%s method=%s answered=400 reason="%s" call_id=%s',
        Plain(source),
        Plain(request.method),
        error,
        Plain(request.headers.get("Call-ID")),
        log=log,
    )


def log_no_lookup(stack: Element, request: Request, realm: str, error: Exception) -> None:
    """Log that the users cannot be looked up."""
    stack.engine.counters.warn(
        "users not looked up",
        stack.clock.now(),
        'users not looked up: method=%s realm=%s answered=503 call_id=%s reason="%r"',
        Plain(request.method),
        Plain(realm),
        Plain(request.headers.get("Call-ID")),
        error,
        log=log,
    )


def log_hook_error(stack: Element, ban: Ban, error: Exception) -> None:
    """Log what the application's `on_ban` has raised, with its traceback."""
    counters = stack.engine.counters
    counters.core_errors += 1
    counters.error(
        "on_ban raised",
        stack.clock.now(),
        'on_ban raised: source=%s reason="%s"',
        Plain(ban.source),
        error,
        exc_info=error,
        log=log,
    )
