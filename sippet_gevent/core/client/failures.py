"""Failures: counts and logs next hops that have failed, RFC 3261 §8.1.3.1, §16.9, RFC 3263 §4.3."""

from __future__ import annotations

import logging

from ...errors import TransactionTimeout, TransportError, excerpt
from ...message.message import Request, Response
from ...message.uri import bracketed
from ...observe.counters import Counters
from ...observe.log_values import Plain
from ...transport.base import Flow

log = logging.getLogger("sippet_gevent.core")

TIMEOUT = "timeout"
"""The reason if a next hop has not answered before timer B or F fires."""

LATER = "answered=later"
"""The outcome while other branches of the request are pending."""


class Failures:
    """Counts and logs next hops that have failed.

    The reasons are the kinds of TransportError, TIMEOUT, and `status_503` for a 503 after which the
    request goes to another target.
    """

    def __init__(self, counters: Counters) -> None:
        self.counts: dict[str, int] = {}
        """Number of failures by reason."""
        self._counters = counters

    def note(
        self,
        now: float,
        request: Request,
        failure: Response | Exception,
        *,
        flow: Flow | None = None,
        since: float | None = None,
        outcome: str = "",
        following: Flow | None = None,
        is_same_target: bool = False,
    ) -> None:
        """Count a failed next hop and write a WARNING about it, whose rate is limited.

        Args:
            now: The time.
            request: The request.
            failure: The response or exception by which the next hop has failed.
            flow: The flow of the try.
            since: The time at which the try began.
            outcome: `answered=` with the status that the caller gets; LATER; or `best=` with the
                best status so far, if only the core knows whether it forks further.
            following: The flow of the next try.
            is_same_target: The next try goes to the same host by another connection. This is not
                counted, and the log line has level INFO.
        """
        kind = _kind(failure)
        if not is_same_target:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        flow = flow or getattr(failure, "flow", None)
        text = "next hop failed: method=%s target=%s transport=%s"
        values: list[object] = [
            Plain(request.method),
            Plain(_target(request)),
            Plain(_transport(request, flow)),
        ]
        if flow is not None:
            text += " address=%s"
            values.append(Plain(f"{bracketed(flow.remote[0])}:{flow.remote[1]}"))
        if since is not None:
            text += " seconds=%.1f"
            values.append(now - since)
        text += ' reason="%s"'
        values.append(failure.status if isinstance(failure, Response) else failure)
        if following is not None:
            text += " next=%s"
            values.append(following)
        elif outcome:
            text += " %s"
            values.append(Plain(outcome))
        text += " call_id=%s"
        values.append(Plain(request.headers.get("Call-ID")))
        write = self._counters.info if is_same_target else self._counters.warn
        write(f"next hop: {kind}", now, text, *values, log=log)


def _kind(failure: Response | Exception) -> str:
    if isinstance(failure, Response):
        return f"status_{failure.status}"
    if isinstance(failure, TransactionTimeout):
        return TIMEOUT
    return failure.kind if isinstance(failure, TransportError) else "other"


def _target(request: Request) -> str:
    """Return the topmost Route of a request, or its Request-URI, without a password."""
    return excerpt(request.headers.get("Route") or request.uri_text)[1:-1]


def _transport(request: Request, flow: Flow | None) -> str:
    if flow is not None:
        return flow.transport.name
    return "TLS" if request.uri_text[:5].lower() == "sips:" else "unknown"
