"""Failures: next hops that have failed, counted by reason and logged, RFC 3261 §8.1.3.1, §16.9, RFC
3263 §4.3."""

from __future__ import annotations

import logging
from typing import Any

from ...errors import TransactionTimeout, TransportError, excerpt
from ...message.message import Request, Response
from ...message.uri import bracketed
from ...observe.counters import Counters, Plain
from ...transport.base import Flow

log = logging.getLogger("sippet_gevent.core")

TIMEOUT = "timeout"
"""The reason of a next hop that was silent until timer B or F."""

LATER = "later"
"""Stands for the status that the caller gets, while other branches of its request are pending."""


class Failures:
    """Next hops that have failed. `counts` is reason to number; the reasons are the kinds of
    TransportError, and TIMEOUT.

    A 503 that sends a request on to another target is counted as `status_503`.
    """

    def __init__(self, counters: Counters) -> None:
        self.counts: dict[str, int] = {}
        self._counters = counters

    def note(
        self,
        now: float,
        request: Request,
        failure: Response | Exception,
        *,
        flow: Flow | None = None,
        since: float | None = None,
        answered: int | str = "",
        following: Flow | None = None,
        is_same_target: bool = False,
    ) -> None:
        """Count a failed next hop, and write one limited WARNING about it.

        `since` is the time at which the try began, `answered` the status that the caller gets.
        `following` is the flow of the next try. With `is_same_target` it leads to the same host by
        another connection: an INFO line, and not counted.
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
            text += " next=%r"
            values.append(following)
        elif answered:
            text += " answered=%s"
            values.append(Plain(answered))
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


def _transport(request: Request, flow: Any) -> str:
    if flow is not None:
        return flow.transport.name  # type: ignore[no-any-return]
    return "TLS" if request.uri_text[:5].lower() == "sips:" else "unknown"
