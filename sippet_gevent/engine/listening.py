"""Listening points: addresses to listen on, and the transports that do, RFC 3261 §18."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import arguments
from ..errors import InvalidValue, excerpt
from ..extras import missing
from ..runtime.limits import Limits
from ..transport.base import Transport
from ..transport.datagram.udp import UDP
from ..transport.listener import BOTH, Listener
from ..transport.stream.tcp import TCP
from ..transport.tls import TLS
from ..transport.websocket.settings import Web

Planned = tuple[Transport, Listener]
"""A transport, and the address that it is to listen on."""


def _ws(limits: Limits, tls: TLS, web: Web | None) -> Transport:
    try:  # not at the top: h11 and wsproto are optional, and their import takes a while
        from ..transport.websocket.ws import WS
    except ModuleNotFoundError as error:
        raise missing(error, "ws: addresses") from None
    return WS(limits.streams, limits.parser, web=web)


def _wss(limits: Limits, tls: TLS, web: Web | None) -> Transport:
    try:
        from ..transport.websocket.ws import WS
    except ModuleNotFoundError as error:
        raise missing(error, "wss: addresses") from None
    return WS(limits.streams, limits.parser, tls=tls, web=web)


FACTORIES: dict[str, Callable[[Limits, TLS, Web | None], Transport]] = {
    "udp": lambda limits, tls, web: UDP(limits.keep),
    "tcp": lambda limits, tls, web: TCP(limits.streams, limits.parser),
    "tls": lambda limits, tls, web: TCP(limits.streams, limits.parser, tls=tls),
    "ws": _ws,
    "wss": _wss,
}
"""What makes the transport of an address, by its first word."""


def plan(
    address: str,
    transport: Transport | None,
    others: Iterable[Planned],
    *,
    limits: Limits,
    tls: TLS | None,
    web: Web | None,
) -> list[Planned]:
    """Return the listening points of an address: one, or two for `*`, which is both IP versions.

    Args:
        address: `udp:host:port`, with parameters or without.
        transport: A transport of the application's; None for one of ours.
        others: The listening points that there are already.
        limits: What a new transport may take on.
        tls: Certificates for `tls:` and `wss:`.
        web: What a WebSocket port serves.

    Raises:
        InvalidValue: The address cannot be read, its name is taken, or it needs certificates.
        TypeError: A value has another type. The text says what to write.
    """
    if not isinstance(address, str):
        raise TypeError(
            f"an address must be a text, got {excerpt(address)}: write {_address_for(address)}"
        )
    arguments.optional(
        "transport", transport, Transport, "a class derived from Transport, and Class()"
    )
    known = (*FACTORIES, transport.name.lower()) if transport is not None else FACTORIES
    listener = Listener.parse(address, known)
    if listener.name and any(
        (listener.transport, listener.name) == (old.transport, old.name) for _, old in others
    ):
        raise InvalidValue(
            f"{address!r}: another {listener.transport} listener is named {listener.name!r} already"
        )
    if transport is not None:
        if listener.host == BOTH:
            raise InvalidValue(
                f"{address!r}: * is two sockets, and this is one transport: give it a host"
            )
        return [(transport, half) for half in listener.halves()]
    name = listener.transport
    if tls is None and name in ("tls", "wss"):
        raise InvalidValue(
            f'{name}: needs a certificate: write Stack(…, tls=TLS("chain.pem", "key.pem"))'
        )
    # a factory that needs certificates has them
    return [
        (FACTORIES[name](limits, tls, web), half)  # type: ignore[arg-type]
        for half in listener.halves()
    ]


def _address_for(value: Any) -> str:
    """Return what was probably meant by something that is no address."""
    if isinstance(value, int):
        return f'"udp:0.0.0.0:{value}"'
    if callable(value):
        return f'Stack("udp:0.0.0.0:5060", core={arguments.name_of(value)})'
    if isinstance(value, (list, tuple)):
        return "Stack(*addresses)"
    return '"udp:0.0.0.0:5060"'
