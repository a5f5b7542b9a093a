"""NextHops: finds the candidates of a URI and opens flows to them, RFC 3261 §8.1.2 and RFC 3263."""

from __future__ import annotations

from ...errors import FlowFailed, TransportError
from ...message.message import Request
from ...message.parameters import NO_URI_PARAMETERS
from ...message.uri import URI
from ...transport.base import Flow, Transport
from ...transport.listener_choice import ListenerChoice, Wanted
from ...transport.locate.resolver import Resolver
from ...transport.locate.rfc3263 import Candidate, literal
from ..element import Element
from .targets import GreyList

NUMERIC = 4096
"""Most addresses whose candidates are remembered. All are forgotten at once when there are more."""


class NextHops:
    """The part of a Sender that finds next hops."""

    def __init__(self, stack: Element) -> None:
        self.stack = stack
        self.grey = GreyList()
        """Targets that failed lately."""
        self.listener_choice = ListenerChoice(stack.engine.transports)
        # candidates of hosts that are addresses, and the transports that they were made for
        self._numeric: dict[tuple[str, str, int | None], tuple[Candidate, ...]] = {}
        self._numeric_for: list[Transport] = []

    def resolve(self, uri: URI, listener: Wanted = None, *, branch: str = "") -> list[Candidate]:
        """Return the candidates of a URI, best first; those that failed lately are last (RFC 3263).

        With a branch, the order depends on the branch alone, not on chance or on what has failed
        (RFC 3261 §16.11, RFC 3263 §4.4).

        Raises:
            TransportError: There is none.
        """
        stack = self.stack
        if not stack.is_running:
            raise TransportError("the stack is not running: start() it first")
        key = uri.scheme, uri.host, uri.port
        is_usual = uri.parameters is NO_URI_PARAMETERS and not isinstance(listener, str)
        if is_usual and self._numeric_for == stack.engine.transports:
            numeric = self._numeric.get(key)
            if numeric is not None:
                return [*numeric] if stack.allow_target is None else self.allowed([*numeric])
        ports = {
            transport.name: transport.default_port
            for transport in self.listener_choice.open(listener)
        }
        resolver = stack.resolver
        candidates = self._by_name(uri, listener) or [
            *(
                resolver.resolve_steadily(uri, ports, key=branch)
                if branch
                else resolver.resolve(uri, ports)
            )
        ]
        if is_usual and len(candidates) == 1 and self._asks_nothing(uri):
            if self._numeric_for != stack.engine.transports or len(self._numeric) >= NUMERIC:
                self._numeric_for = [*stack.engine.transports]
                self._numeric = {}
            self._numeric[key] = tuple(candidates)
        candidates = self.allowed(candidates)
        if len(candidates) > 1 and self.grey and not branch:
            self.grey.sort(candidates, stack.clock.now())
        return candidates

    def _asks_nothing(self, uri: URI) -> bool:
        """True when the host of a URI is an address, and the resolver leaves such hosts alone."""
        resolve = getattr(self.stack.resolver.resolve, "__func__", None)
        return resolve is Resolver.resolve and literal(uri.host) is not None

    def allowed(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return the candidates that `allow_target` allows. Raises TransportError for none."""
        allow = self.stack.allow_target
        if allow is None:
            return candidates
        left = [candidate for candidate in candidates if allow(candidate)]
        if not left:
            raise TransportError(
                f"allow_target forbids {', '.join(map(str, candidates))}", kind="forbidden"
            )
        return left

    def _by_name(self, uri: URI, listener: Wanted) -> list[Candidate]:
        """Return the candidate of a transport that resolves the URI's host itself, if there is
        one."""
        if uri.scheme == "sip":
            host = uri.parameters.get("maddr") or uri.host
            for transport in self.stack.engine.transports:
                fits = not isinstance(listener, str) or transport.listener.name == listener
                if fits and transport.resolves and transport.name == uri.transport:
                    return [
                        Candidate(
                            transport.name,
                            host.strip("[]").lower(),
                            uri.port or transport.default_port,
                            uri.host,
                        )
                    ]
        return []

    def flow_to(self, uri: URI, listener: Wanted = None) -> Flow:
        """Return a flow to where a URI leads, by the listener that suits best.

        Raises:
            TransportError: There is no way.
        """
        return self._connect(self.resolve(uri, listener), listener)

    def _connect(self, candidates: list[Candidate], listener: Wanted = None) -> Flow:
        """Take candidates off the list until one has a flow, and return the flow.

        Raises:
            TransportError: No candidate can be reached.
        """
        problem: TransportError | None = None
        while candidates:
            candidate = candidates.pop(0)
            for transport, address in self.listener_choice.ways(candidate, listener):
                try:
                    # its certificate must be for the URI's domain (RFC 5922 §4)
                    if transport.secure or transport.named:
                        flow = transport.connect(address, name=candidate.name)
                    else:
                        flow = transport.connect(address)
                    flow.local  # noqa: B018 raises where the system has no route
                    return flow
                except TransportError as error:
                    problem = error
        raise problem or TransportError(
            "no listener of this stack can reach the destination: add one with its transport",
            kind="no_transport",
        )

    def _check_flow(self, flow: Flow, *, secure: bool) -> None:
        """Check that a request may go by a flow.

        Raises:
            TransportError: The flow has ended, is not ours, or is not secure although the request
                has a sips URI (§26.2.2).
        """
        if not self.stack.is_running:
            raise TransportError("the stack is not running: start() it first")
        if not self.stack.names.is_usable(flow):
            raise FlowFailed(f"{flow!r} has ended", flow)
        if secure and not flow.transport.secure:
            raise TransportError(
                f"{flow!r} is not secure, but the request has a sips URI", flow, kind="not_secure"
            )

    def _passes_first(self, request: Request) -> bool:
        """True for requests within dialogs and those with priority, which are thinned last (RFC
        7339 §5.10.1)."""
        return request.to.tag is not None or self.stack.engine.admission.priority.has(request)
