"""Argument checks for a Stack and its methods, which applications call."""

from __future__ import annotations

from typing import Any

from .. import arguments
from ..engine.ingress import Accept
from ..errors import InvalidValue, excerpt
from ..message.uri import URI
from ..runtime.clock import Clock
from ..runtime.limits import Limits
from ..transaction.timers import Timers
from ..transport.base import Flow, Origin
from ..transport.locate.resolver import Resolver
from ..transport.tls import TLS
from ..transport.websocket.settings import Web
from .dialog.session_interval import SMALLEST

_TYPES: dict[str, tuple[type, str]] = {
    "clock": (Clock, "clock=Clock()"),
    "timers": (Timers, "timers=Timers(t1=0.5)"),
    "limits": (Limits, "limits=Limits(handlers=1000)"),
    "resolver": (Resolver, "resolver=StaticResolver({…}), or a class derived from Resolver"),
    "tls": (TLS, 'tls=TLS("chain.pem", "key.pem")'),
    "web": (Web, 'web=Web(origins=["https://example.com"])'),
}
"""The type of each option, and an example."""

_NOT_ALONE = {
    "ACK": "nothing answers it (RFC 3261 §17), and invite() sends its own",
    "CANCEL": "it belongs to a request that is pending (RFC 3261 §9.1), so write "
    "tx = stack.send(…), and tx.cancel()",
}
"""Methods that request() does not send, with the reason and what to do."""

# Any, because an application may pass a value of any type.


def check_options(
    *,
    sips_in_clear: Any,
    keep: Any,
    tune_gc: Any,
    allow_target: Any,
    may_replace: Any,
    **options: Any,
) -> None:
    """Check the options of a Stack. Raises TypeError, which says what to write."""
    for name, value in options.items():
        arguments.optional(name, value, *_TYPES[name])
    arguments.flag("sips_in_clear", sips_in_clear)
    arguments.flag("keep", keep)
    arguments.flag("tune_gc", tune_gc)
    if (
        arguments.function("allow_target", allow_target, "allow_target=a function of (candidate)")
        is not None
    ):
        arguments.takes(allow_target, ("candidate",), "allow_target")
    if (
        arguments.function("may_replace", may_replace, "may_replace=a function of (request, call)")
        is not None
    ):
        arguments.takes(may_replace, ("request", "call"), "may_replace")


def check_session_expires(seconds: Any) -> int:
    """Check a session interval (RFC 4028 §4). Raises TypeError and InvalidValue."""
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise TypeError(
            f"session_expires must be a whole number of seconds, got {excerpt(seconds)}: write "
            "session_expires=1800"
        )
    if seconds and seconds < SMALLEST:
        raise InvalidValue(
            f"session_expires must be 0 or at least {SMALLEST} seconds, got {seconds}: write 0 to "
            "ask for no session timer"
        )
    return seconds


def check_accept(accept: Accept | None) -> None:
    """Check a filter. Raises TypeError."""
    if accept is not None:
        arguments.function(
            "accept", accept, "accept=Filter(rate=50), or a function of (data, flow)"
        )
        arguments.takes(accept, ("data", "flow"), "accept")


def check_way(next_hop: Any, listener: Any) -> None:
    """Check the next hop and the listener of a request. Raises TypeError."""
    if next_hop is not None and not isinstance(next_hop, (str, URI, Flow)):
        arguments.instance("next_hop", next_hop, (URI, Flow, str), 'next_hop="sip:192.0.2.1"')
    if listener is not None and not isinstance(listener, (str, Origin)):
        arguments.instance(
            "listener", listener, (str, Origin), 'listener="inside", the name of one'
        )


def check_timers(timers: Any) -> None:
    """Check the timers of one request. Raises TypeError."""
    arguments.optional("timers", timers, *_TYPES["timers"])


def check_wait(timeout: Any, on_provisional: Any) -> float | None:
    """Check the arguments for waiting on a response, and return the seconds. Raises TypeError and
    InvalidValue."""
    if on_provisional is not None:
        arguments.function("on_provisional", on_provisional, "a function of (response)")
    return arguments.seconds("timeout", timeout)


def check_alone(method: str) -> None:
    """Check a method for request(). Raises InvalidValue for ACK and CANCEL, which request() cannot
    send."""
    if method in _NOT_ALONE:
        raise InvalidValue(f"request() cannot send {method}: {_NOT_ALONE[method]}")
