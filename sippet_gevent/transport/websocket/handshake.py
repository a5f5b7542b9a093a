"""Handshake: the HTTP request that opened a WebSocket, RFC 6455 §4 and RFC 7118 §4; what must hold
of it. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

import h11
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

SUBPROTOCOL = "sip"
"""What a WebSocket must speak to carry SIP (RFC 7118 §4)."""

QUERY_FIELDS = 100
"""Fields of a query that are read, at most."""

_NEEDED_ONCE = ("host", "sec-websocket-key", "sec-websocket-version")


class Refusal(NamedTuple):
    """A status and what goes with it, in place of a WebSocket."""

    status: int
    problem: str
    headers: tuple[tuple[str, str], ...] = ()


class Handshake:
    """What a client has asked for: `flow.handshake` of a WebSocket flow, None of others.

    `target` is the request's, `headers` are its fields in order, names in lower case. `path`,
    `query`, `cookies` and `origin` are what they say: a core may look there for who this is (RFC
    7118 §7).
    """

    def __init__(self, target: str, headers: Iterable[tuple[str, str]]) -> None:
        self.target = target
        self.headers = tuple(headers)

    def header(self, name: str) -> str | None:
        """Return a field, its first line where there are several; None for none."""
        name = name.lower()
        return next((value for found, value in self.headers if found == name), None)

    @property
    def path(self) -> str:
        """The path, decoded, without the query."""
        return unquote(self.target.partition("?")[0], errors="replace")

    @cached_property
    def query(self) -> dict[str, str]:
        """The fields of the query, decoded; of those that stand several times the first. Too many
        are none."""
        try:
            fields = parse_qsl(
                self.target.partition("?")[2], keep_blank_values=True, max_num_fields=QUERY_FIELDS
            )
        except ValueError:
            return {}
        return dict(reversed(fields))

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies (RFC 6265 §4.2.1); of those that stand several times the first, which is the
        most specific."""
        found: dict[str, str] = {}
        for name, line in self.headers:
            if name == "cookie":
                for pair in line.split(";"):
                    key, equals, value = pair.partition("=")
                    if equals:
                        found.setdefault(key.strip(), value.strip().strip('"'))
        return found

    @property
    def origin(self) -> str | None:
        """The Origin: which page a browser is showing. Programs need not have one, and can write
        any."""
        return self.header("origin")

    def __repr__(self) -> str:
        # neither query nor cookies: they may be what proves somebody's identity
        return f"<Handshake {self.path}>"


def wants_websocket(request: h11.Request) -> bool:
    """True for a request that asks for a WebSocket, well or not. In HTTP/1.0 nobody can (RFC 9110
    §7.8, RFC 6455 §4.1)."""
    return (
        request.method == b"GET"
        and request.http_version != b"1.0"
        and any(
            name == b"upgrade" and b"websocket" in value.lower() for name, value in request.headers
        )
    )


def open_websocket(request: h11.Request) -> tuple[Handshake, bytes] | Refusal:
    """Return what was asked and the octets of the 101, or why there is none (RFC 6455 §4.2, RFC
    7118 §4.2)."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
    handshake = Handshake(request.target.decode("ascii"), headers)
    for wanted in _NEEDED_ONCE:
        if sum(name == wanted for name, _ in headers) > 1:
            return Refusal(400, f"{wanted} stands twice")
    if not _is_key(handshake.header("sec-websocket-key") or ""):
        return Refusal(400, "Sec-WebSocket-Key is not 16 octets in base64 (RFC 6455 §4.1)")
    server = H11Handshake(ConnectionType.SERVER)
    try:
        # initiate_upgrade_connection() has an h11 client of its own write the same: 20 us
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
    except ValueError as error:  # a Host that is no name
        return Refusal(400, str(error))
    if SUBPROTOCOL not in asked.subprotocols:
        return Refusal(400, "the subprotocol sip is not offered (RFC 7118 §4.1)")
    return handshake, server.send(AcceptConnection(subprotocol=SUBPROTOCOL))


def _head(request: h11.Request) -> bytes:
    """The octets of a GET in HTTP/1.1 with these fields, which h11 has read, and found to have no
    line end in them."""
    fields = [b"%b: %b\r\n" % field for field in request.headers]
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (request.target, b"".join(fields))


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except ValueError:
        return False
