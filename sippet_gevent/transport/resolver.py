"""Resolver: a URI to the numeric addresses it may be reached at, in the order to try them, RFC 3263 §4."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import gevent
from gevent import socket

from ..errors import TransportError
from ..message.uri import URI

RESOLVE_SECONDS = 5.0
"""How long one name may take in all: longer than that, the caller's own patience is at stake."""

DEFAULT_PORTS = {"TLS": 5061, "WSS": 443, "WS": 80}


class Candidate(NamedTuple):
    """One way to try: transport name, numeric host, port."""

    transport: str
    host: str
    port: int


def resolve(uri: URI) -> list[Candidate]:
    """Return where a SIP URI leads. Numeric hosts ask nobody (§4.1, §4.2). Raises TransportError."""
    if not uri.is_sip:
        raise TransportError(f"there is no way to a {uri.scheme} URI: translate it into a sip URI first")
    transport = uri.transport or ("TLS" if uri.is_secure else "UDP")
    host = uri.parameters.get("maddr") or uri.host
    port = uri.port or DEFAULT_PORTS.get(transport, 5061 if uri.is_secure else 5060)
    literal = host.strip("[]")
    try:
        return [Candidate(transport, str(ipaddress.ip_address(literal)), port)]
    except ValueError:
        pass
    try:
        with gevent.Timeout(RESOLVE_SECONDS, TransportError(f"{host}: no answer from DNS in {RESOLVE_SECONDS:g} s")):
            found = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)
    except TransportError:
        raise
    except (OSError, ValueError) as error:  # ValueError: empty or overlong labels, which the IDNA codec refuses
        raise TransportError(f"{host}: {getattr(error, 'strerror', None) or error}") from error
    return [Candidate(transport, address[0], port) for _, _, _, _, address in found]
