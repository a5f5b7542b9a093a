"""Log lines about registrations: made, refreshed, removed, or refused with a hint."""

from __future__ import annotations

import logging

from ...errors import ParseError, SIPError
from ...message.iana import STATUSES
from ...message.message import Request
from ...message.uri import bracketed
from ...observe.counters import Plain
from ...stores.bindings import Binding
from ...stores.memory import log_ended, shown_uri
from ..element import Element

log = logging.getLogger("sippet_gevent.core")

_HELP = {
    403: "let the phone remove its old Contacts, or register fewer and shorter ones",
    404: "serve that domain too: sippet serve --domain, or Stack(domains=...)",
    423: "let the phone ask for a longer time, or give the Registrar a shorter min_expires",
    439: "let the first hop write a Path with ob, or use Registrar(strict_outbound=False)",
    500: "let the phone raise its CSeq with each REGISTER, or begin with a new Call-ID",
    503: "the store is full: let bindings end sooner, or spread the users",
}
"""Hints for the administrator, by the status of the refusal."""


def _source(request: Request) -> Plain:
    host, port = request.flow.remote
    return Plain(f"{request.flow.transport.name}:{bracketed(host)}:{port}")


def log_changes(
    stack: Element,
    request: Request,
    aor: str,
    before: tuple[Binding, ...],
    after: tuple[Binding, ...],
    has_outbound: bool,
) -> None:
    """Log each binding that a REGISTER has made, refreshed or removed.

    Args:
        stack: The element whose counters limit log lines.
        request: The REGISTER.
        aor: The address-of-record.
        before: Its bindings before the REGISTER.
        after: Its bindings from now on.
        has_outbound: True when both sides support SIP Outbound, see Binding.is_of().
    """
    if not log.isEnabledFor(logging.INFO):
        return
    now = stack.clock.now()
    over = [old for old in before if not any(old is binding for binding in after)]
    for binding in after:
        if any(binding is old for old in before):
            continue
        replaced = [old for old in over if old.is_of(binding.contact, has_outbound=has_outbound)]
        over = [old for old in over if old not in replaced]
        event = "registration refreshed" if replaced else "registration made"
        stack.engine.counters.info(
            event,
            now,
            f"{event}: aor=%s contact=%s expires=%d source=%s by=%s call_id=%s",
            Plain(aor),
            shown_uri(binding.uri),
            round(binding.expires_at - now),
            _source(request),
            Plain("contact" if binding.flow is None else "flow"),
            Plain(binding.call_id),
            log=log,
        )
    log_ended(stack, aor, over, "removed by the phone")


def log_refusal(stack: Element, request: Request, error: SIPError) -> None:
    """Log that a REGISTER was refused, with the reason and a hint."""
    status = error.status
    try:
        aor = shown_uri(request.to.uri)
    except ParseError:  # an invalid To may be the reason
        aor = Plain("unknown")
    reason = (
        str(error) if isinstance(error, ParseError) else error.reason or STATUSES.get(status, "")
    )
    stack.engine.counters.info(
        "registration refused",
        stack.clock.now(),
        'registration refused: aor=%s status=%d reason="%s" hint="%s" source=%s call_id=%s',
        aor,
        status,
        Plain(reason),
        Plain(_HELP.get(status, "")),
        _source(request),
        Plain(request.call_id),
        log=log,
    )
