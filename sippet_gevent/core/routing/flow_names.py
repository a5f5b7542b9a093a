"""FlowNames: names of flows and listeners that another process can read, RFC 5626 §5."""

from __future__ import annotations

import os
from collections.abc import Callable

from ...stores.bindings import FlowName
from ...transport.base import Flow, Origin, Transport

NODE = 8
"""Bytes of the random name of a process. No two processes of a store have the same."""

KNOWN = 4096
"""Flows of datagrams that are remembered by name. All are forgotten at once when there are more."""


class FlowNames:
    """Names the flows and listeners of this element for a store, and finds them again.

    A listener is named by its transport and its `name=`, or by the address that it is bound to. So
    a process that is started again with a further listener still finds it. A connection is found by
    the process that has it, and a flow of datagrams by every process that has the listener.

    Args:
        transports: The open listeners; the list is shared with the engine, which changes it.
    """

    def __init__(self, transports: list[Transport]) -> None:
        self.node = os.urandom(NODE).hex()
        """The name of this process. It is random, because connections end with the process."""
        self.watches: list[Callable[[FlowName], None]] = []
        """Called with the name of each connection that ends, in the hub."""
        self._transports = transports
        self._listeners: dict[Transport, str] = {}
        self._origins: dict[str, Origin] = {}
        self._known: dict[FlowName, Flow] = {}

    def forget(self) -> None:
        """Forget all listeners."""
        self._listeners.clear()
        self._origins.clear()
        self._known.clear()

    def ended(self, flow: Flow) -> None:
        """Tell that a flow has ended."""
        if self.watches:
            name = self.stored_flow(flow)
            for watch in self.watches:
                watch(name)

    def stored_flow(self, flow: Flow) -> FlowName:
        """Return the name under which a store keeps a flow of this element."""
        transport = flow.transport
        is_datagram = not transport.reliable and not transport.resolves
        return FlowName(
            "" if is_datagram else self.node, f"{self._listener_of(transport)}/{flow.id}"
        )

    def live_flow(self, name: FlowName) -> Flow | None:
        """Return the flow of this name, None if it has ended or is of another process."""
        known = self._known.get(name)
        if known is not None and known.transport in self._transports:
            return known
        if name.node and name.node != self.node:
            return None
        listener, _, id = name.name.rpartition("/")
        for transport in self._transports:
            if self._listener_of(transport) != listener:
                continue
            flow = transport.find(id)  # of two listeners of one name, one has the IP version
            if flow is not None and flow.is_alive():
                if not name.node:
                    if len(self._known) >= KNOWN:
                        self._known.clear()
                    self._known[name] = flow
                return flow
        return None

    def stored_listener(self, flow: Flow) -> str:
        """Return the name under which a store keeps the listener of a flow, with the interface of a
        link-local peer."""
        name = self._listener_of(flow.transport)
        return f"{name}%{flow.scope}" if flow.scope else name

    def listener(self, name: str) -> Origin | None:
        """Return the listener of this name, None if it is not open here."""
        origin = self._origins.get(name)
        if origin is not None and origin.transport in self._transports:
            return origin
        listener, percent, scope = name.rpartition("%")
        if not percent or not scope.isdecimal() or len(scope) > 10:  # [fe80::1%eth0]:5060
            listener, scope = name, "0"
        for transport in self._transports:
            if self._listener_of(transport) == listener:
                origin = self._origins[name] = Origin(transport, int(scope))
                return origin
        return None

    def _listener_of(self, transport: Transport) -> str:
        name = self._listeners.get(transport)
        if name is None:
            listener = transport.listener
            name = listener.name or listener.address
            kind = transport.name.lower()
            if not name.startswith(f"{kind}:"):  # a given name, unique for one transport only
                name = f"{kind}:{name}"
            if transport in self._transports:
                self._listeners[transport] = name
        return name
