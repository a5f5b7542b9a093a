"""Log lines about registrations: made, refreshed, removed, or refused with a hint."""

from __future__ import annotations

import logging

from ...errors import ParseError, SIPError
from ...message.iana import STATUSES
from ...message.message import Request
from ...message.uri import bracketed
from ...observe.log_values import Plain
from ...stores.base import BindingEvent, Change, Watch
from ...stores.bindings import FlowName
from ...stores.location import Location, shown_uri
from ..element import Element

log = logging.getLogger("sippet_gevent.core")

_HELP = {
    403: "let the phone remove its old Contacts, or register fewer and shorter ones",
    404: "serve that domain too: sippet serve --domain, or Stack(domains=...)",
    423: "let the phone ask for a longer time, or give the Registrar a shorter min_expires",
    439: "let the first hop write a Path with ob, or use Registrar(strict_outbound=False)",
    500: "let the phone raise its CSeq with each REGISTER, or begin with a new Call-ID",
}
"""Hints for the administrator, by the status of the refusal."""

_STORE_HELP = {
    "Registrar Full": "the store is full: let bindings end sooner, or spread the users",
    "Store Busy": "too many REGISTERs wait: use a faster store, or spread the users",
    "Store Timeout": "the store is slow: check its disk or network, or raise store_timeout",
    "Store Unavailable": "the store fails: see the last line 'store failed' or 'store is late'",
}
"""Hints for a 503 by its reason: each failure of a store asks for something else."""


def _source(request: Request) -> Plain:
    host, port = request.flow.remote
    return Plain(f"{request.flow.transport.name}:{bracketed(host)}:{port}")


_REASONS = {
    "removed": "removed by the phone",
    "expired": "expired",
    "flow ended": "connection closed",
}
"""Why a registration has ended, by the kind of the event."""


class RegistrationLog:
    """Logs the events of a Location: each binding that is made, refreshed or ends.

    Args:
        location: The Location, whose stack limits the lines.
    """

    __slots__ = ("_location", "_sources", "_watch")

    def __init__(self, location: Location) -> None:
        self._location = location
        self._sources: dict[str, Plain] = {}
        self._watch: Watch = location.watch(self._log)

    def close(self) -> None:
        """Log no further event."""
        self._watch.close()

    def update(self, request: Request, aor: str, change: Change, by: FlowName | None) -> None:
        """Make the change of a REGISTER. Its events have the source of this request."""
        self._sources[request.call_id] = _source(request)
        try:
            self._location.update(aor, change, by=by)
        finally:
            self._sources.pop(request.call_id, None)

    def _log(self, event: BindingEvent) -> None:
        stack, binding = self._location.stack, event.binding
        if stack is None:
            return
        reason = _REASONS.get(event.kind)
        if reason is not None:
            stack.engine.counters.info(
                "registration ended",
                stack.clock.now(),
                'registration ended: aor=%s contact=%s reason="%s" call_id=%s',
                Plain(event.aor),
                shown_uri(binding.uri),
                Plain(reason),
                Plain(binding.call_id),
                log=log,
            )
            return
        text = "registration refreshed" if event.kind == "refreshed" else "registration made"
        stack.engine.counters.info(
            text,
            stack.clock.now(),
            f"{text}: aor=%s contact=%s expires=%d source=%s by=%s call_id=%s",
            Plain(event.aor),
            shown_uri(binding.uri),
            round(binding.expires_at - self._location.now()),
            self._sources.get(binding.call_id, Plain("unknown")),
            Plain("contact" if binding.flow is None else "flow"),
            Plain(binding.call_id),
            log=log,
        )


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
        Plain(_STORE_HELP.get(reason, "") if status == 503 else _HELP.get(status, "")),
        _source(request),
        Plain(request.call_id),
        log=log,
    )
