"""Via, RFC 3261 §20.42: one hop of the path of a request, which its response takes back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..errors import InvalidValue, ParseError
from .grammar import REMEMBERED, VIA, is_host, is_token, number
from .parameters import EMPTY, PARAMETERS, Parameters
from .speedups import c

CACHED_VIAS = 4096
"""Most Vias that are remembered, without their branches, because the same hops send them again. The
oldest is dropped first."""


class Via(NamedTuple):
    """One hop of the path of a request, which its response takes back (RFC 3261 §20.42).

    Attributes:
        transport: The transport in upper case: `UDP`, `TLS` …
        host: The host of the sent-by.
        port: Its port, or None if none is given.
        parameters: branch, received, rport …
    """

    transport: str
    host: str
    port: int | None = None
    parameters: Parameters = EMPTY

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one hop. Raises ParseError."""
        # Only the branch of a Via is new each time; the rest is remembered.
        before, branched, after = text.partition(";branch=")
        branch, semicolon, after = after.partition(";")
        if branched and len(text) <= REMEMBERED and is_token(branch):
            known = _known(before, semicolon + after)
            if known is not None:
                transport, host, port, first, last = known
                pairs = (*first, ("branch", branch), *last)
                return tuple.__new__(cls, (transport, host, port, Parameters.of(pairs)))
        return cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Via:
        match = VIA(text)
        if not match:
            raise ParseError("not SIP/2.0/TRANSPORT host[:port][;parameters]", value=text)
        transport, host, port, tail = match.groups()
        value = None
        if port is not None:
            value = number(port, 65535, noun="port")
            if not value:
                raise ParseError("sent-by port 0", value=text)
        return cls(transport.upper(), host, value, Parameters.parse(tail) if tail else EMPTY)

    @property
    def branch(self) -> str | None:
        """The branch, which names the transaction (RFC 3261 §8.1.1.7), or None (RFC 2543)."""
        return self.parameters.get("branch")

    @property
    def received(self) -> str | None:
        """The address that the request came from, if it is not the sent-by host (RFC 3261
        §18.2.1)."""
        return self.parameters.get("received")

    @property
    def rport(self) -> int | None:
        """The source port, if the sender asked for it (RFC 3581). None if it is missing or has no
        value yet. Raises ParseError."""
        value = self.parameters.get("rport")
        return number(value, 65535) if value else None

    @property
    def sent_by(self) -> str:
        """The sent-by host and port as text, `host` or `host:port`."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        if (
            not is_token(self.transport)
            or not is_host(self.host)
            or not (self.port is None or 0 < self.port < 65536)
        ):
            raise InvalidValue(f"not a Via sent-by: {self.transport!r} {self.host!r} {self.port!r}")
        return f"SIP/2.0/{self.transport} {self.sent_by}{self.parameters}"

    @property
    def ttl(self) -> int | None:
        """The time to live of a multicast request, 0 to 255, or None (RFC 3261 §20.42). Raises
        ParseError."""
        value = self.parameters.get("ttl")
        return None if value is None else number(value, 255)

    @property
    def maddr(self) -> str | None:
        """The host that gets the response instead of the sender, or None (RFC 3261 §18.2.2)."""
        return self.parameters.get("maddr")

    def with_params(self, values: Mapping[str, object] | None = None, **named: object) -> Via:
        """Return a copy with these parameters set; None is a parameter without value."""
        return self._replace(parameters=self.parameters.replace(values, **named))

    def without_params(self, *names: str) -> Via:
        """Return a copy that lacks these parameters."""
        return self._replace(parameters=self.parameters.without(*names))


Pairs = tuple[tuple[str, "str | None"], ...]


@lru_cache(CACHED_VIAS)
def _known(before: str, after: str) -> tuple[str, str, int | None, Pairs, Pairs] | None:
    """Read the text before and behind the branch: transport, host, port and parameters. None if it
    is anything else."""
    try:
        via = Via._parse(before)
        first, last = via.parameters.pairs, Parameters.parse(after).pairs
    except ParseError:
        return None
    return (
        (via.transport, via.host, via.port, first, last)
        if len(first) + len(last) < PARAMETERS
        else None
    )


parse_in_python = Via.parse
if c is not None:
    c.setup_via(Via, Parameters, _known, Via._parse)
    Via.parse = c.via  # type: ignore[method-assign]  # the twin in C
