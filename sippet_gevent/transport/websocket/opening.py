"""Opening: checks the HTTP request that opens a WebSocket, RFC 6455 §4 and RFC 7118 §4. Pure."""

from __future__ import annotations

import base64
from typing import NamedTuple

import h11
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from .handshake import Handshake

SUBPROTOCOL = "sip"
"""The subprotocol of WebSockets that carry SIP (RFC 7118 §4)."""

_NEEDED_ONCE = ("host", "sec-websocket-key", "sec-websocket-version")


class Refusal(NamedTuple):
    """The HTTP answer to a request that opens no WebSocket: status, text and header fields."""

    status: int
    problem: str
    headers: tuple[tuple[str, str], ...] = ()


def wants_websocket(request: h11.Request) -> bool:
    """Return True for a request that asks for a WebSocket, well-formed or not.

    HTTP/1.0 has no upgrades (RFC 9110 §7.8, RFC 6455 §4.1).
    """
    return (
        request.method == b"GET"
        and request.http_version != b"1.0"
        and any(
            name == b"upgrade" and b"websocket" in value.lower() for name, value in request.headers
        )
    )


def open_websocket(request: h11.Request) -> tuple[Handshake, bytes] | Refusal:
    """Check a request for a WebSocket (RFC 6455 §4.2, RFC 7118 §4.2).

    Returns:
        The handshake and the bytes of the 101, or the refusal.
    """
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
    handshake = Handshake(request.target.decode("ascii"), headers)
    for wanted in _NEEDED_ONCE:
        if sum(name == wanted for name, _ in headers) > 1:
            return Refusal(400, f"{wanted} appears twice")
    if not _is_key(handshake.header("sec-websocket-key") or ""):
        return Refusal(400, "Sec-WebSocket-Key is not 16 bytes in base64 (RFC 6455 §4.1)")
    server = H11Handshake(ConnectionType.SERVER)
    try:
        # initiate_upgrade_connection() would write the same with an h11 client, in 20 us.
        server.receive_data(_head(request))
        (asked,) = server.events()
        assert isinstance(asked, Request)
    except RemoteProtocolError as error:
        hint = error.event_hint
        more = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in getattr(hint, "headers", ())
        ]
        return Refusal(getattr(hint, "status_code", 400), str(error), tuple(more))
    except ValueError as error:  # Host contains no name
        return Refusal(400, str(error))
    if SUBPROTOCOL not in asked.subprotocols:
        return Refusal(400, "the subprotocol sip is not offered (RFC 7118 §4.1)")
    return handshake, server.send(AcceptConnection(subprotocol=SUBPROTOCOL))


def _head(request: h11.Request) -> bytes:
    """Return the bytes of a GET with these fields. h11 has read them, so they have no line ends."""
    fields = [b"%b: %b\r\n" % field for field in request.headers]
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (request.target, b"".join(fields))


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except ValueError:
        return False
