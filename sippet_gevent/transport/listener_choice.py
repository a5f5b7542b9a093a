"""ListenerChoice: chooses the listener by which a request leaves, if several could send it, RFC
3261 §18.1.1."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import InvalidValue, TransportError
from .base import Address, Origin, Transport
from .interfaces import WILDCARDS, Routes, is_link_local, sockaddr
from .locate.rfc3263 import Candidate, literal

Wanted = str | Origin | None
"""The name of the listener by which a request must leave. Or the listener at which its dialog
arrived, which is preferred if it reaches the target."""

DIALOG, BESIDE, NEARBY, ROUTED, WILDCARD, ANY, OTHER_VERSION = range(7)
"""How well a listener suits, the best first:

* DIALOG: the dialog's own.
* BESIDE: of the same name, or the same host and port, over another transport.
* NEARBY: of the same host.
* ROUTED: bound to the address that the kernel sends from.
* WILDCARD: bound to all addresses.
* ANY: every other one.
* OTHER_VERSION: of the other IP version, whose connect() refuses.
"""


class ListenerChoice:
    """Chooses among the open transports of a stack.

    Args:
        transports: The list that the engine keeps.
    """

    def __init__(self, transports: list[Transport]) -> None:
        self._transports = transports
        self._routes = Routes()

    def open(self, wanted: Wanted = None) -> list[Transport]:
        """Return the transports by which a request may leave. Raises InvalidValue for a name that
        no listener has."""
        if not isinstance(wanted, str):
            return self._transports
        found = [transport for transport in self._transports if transport.listener.name == wanted]
        if not found:
            known = ", ".join(
                dict.fromkeys(transport.listener.name for transport in self._transports)
            )
            raise InvalidValue(f"no listener is named {wanted!r}: write one of {known}")
        return found

    def ways(
        self, candidate: Candidate, wanted: Wanted = None
    ) -> Iterable[tuple[Transport, Address]]:
        """Return the transports that can reach a candidate, the best first, each with the address
        for its connect()."""
        name, host, port = candidate[:3]
        if isinstance(wanted, Origin) and wanted.scope and is_link_local(host) and "%" not in host:
            host = f"{host}%{wanted.scope}"
        transports = self.open(wanted) if isinstance(wanted, str) else self._transports
        if len(transports) == 1:  # the usual case
            only = transports[0]
            return ((only, (host, port)),) if only.name == name else ()
        fitting = [transport for transport in transports if transport.name == name]
        if len(fitting) > 1:
            rank = self._ranks((host, port), wanted)
            fitting.sort(key=rank)
        return [(transport, (host, port)) for transport in fitting]

    def _ranks(self, address: Address, wanted: Wanted) -> Callable[[Transport], int]:
        full, source = None, ""
        if literal(address[0]) is not None:  # only a transport that resolves names itself gets one
            try:
                full = sockaddr(*address)
                source = self._routes.source(full)
            except TransportError:
                pass  # the kernel has no route

        def rank(transport: Transport) -> int:
            local = transport.local[0]
            if (":" in local) != (":" in address[0]):
                return OTHER_VERSION
            if isinstance(wanted, Origin):
                near = wanted.transport
                beside = (
                    transport.listener.name == near.listener.name or transport.local == near.local
                )
                kind = DIALOG if transport is near else BESIDE if beside else NEARBY
                kin = kind < NEARBY or local == near.local[0]
                if kin and (
                    full is None or local in WILDCARDS or self._routes.lead_from(local, full)
                ):
                    return kind
            return ROUTED if local == source else WILDCARD if local in WILDCARDS else ANY

        return rank
