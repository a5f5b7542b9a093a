"""Via, RFC 3261 §20.42: one hop of a request's way, and of the answer's way back. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import InvalidValue, ParseError
from .grammar import PLAIN_VIA, VIA, is_host, is_token, number
from .parameters import EMPTY, Parameters


class Via(NamedTuple):
    """One hop of a request's way, and of the answer's way back (RFC 3261 §20.42). `port` is None when not given."""

    transport: str
    host: str
    port: int | None = None
    parameters: Parameters = EMPTY

    @classmethod
    def parse(cls, text: str) -> Via:
        match = PLAIN_VIA(text)
        if match:
            transport, host, port, tail = match.groups()
            if port is None or 0 < (port := int(port)) < 65536:
                return tuple.__new__(cls, (transport, host, port, Parameters.plain(tail) if tail else EMPTY))
        match = VIA.fullmatch(text)
        if not match:
            raise ParseError("not SIP/2.0/TRANSPORT host[:port][;parameters]", value=text)
        transport, host, port, tail = match.groups()
        value = None
        if port is not None:
            value = number(port, 65535)
            if not value:
                raise ParseError("sent-by port 0", value=text)
        return cls(transport.upper(), host, value, Parameters.parse(tail) if tail else EMPTY)

    @property
    def branch(self) -> str | None:
        """The branch parameter: the transaction's name (RFC 3261 §8.1.1.7), or None (RFC 2543)."""
        return self.parameters.get("branch")

    @property
    def received(self) -> str | None:
        """Where the request came from, when that is not the sent-by host (RFC 3261 §18.2.1)."""
        return self.parameters.get("received")

    @property
    def rport(self) -> int | None:
        """The source port, when the sender asked for it (RFC 3581); None when absent or not yet filled in."""
        value = self.parameters.get("rport")
        return number(value, 65535) if value else None

    @property
    def sent_by(self) -> str:
        """The sent-by host and port as text, `host` or `host:port`."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        if not is_token(self.transport) or not is_host(self.host) or not (self.port is None or 0 < self.port < 65536):
            raise InvalidValue(f"not a Via sent-by: {self.transport!r} {self.host!r} {self.port!r}")
        return f"SIP/2.0/{self.transport} {self.sent_by}{self.parameters}"
