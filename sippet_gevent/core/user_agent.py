"""UserAgent: the stack, as applications see it in a core, RFC 3261 §8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..message.address import NameAddr
from ..message.message import Request, Response
from ..message.sdp import MediaStream
from ..message.uri import URI
from ..transaction.timers import Timers
from ..transport.base import Flow
from ..transport.listener_choice import Wanted
from ..transport.locate.rfc3263 import Candidate
from .auth.credentials import Given
from .client.targets import NextHop
from .client.transaction import ClientTransaction
from .dialog.call import Call, OnOffer, OnProgress, OnProvisional
from .dialog.handlers import CallHandlers
from .dialog.subscription import Subscription
from .element import Element
from .inbox import Waitable
from .statistics import Statistics


class UserAgent(Element, Protocol):
    """An element that sends requests of its own: `tx.stack` and `self.stack` in a Core.

    A `Stack` has all of these methods, and describes them.
    """

    # ---- requests

    def send(
        self,
        request: Request,
        next_hop: NextHop | None = None,
        *,
        listener: Wanted = None,
        timers: Timers | None = None,
    ) -> ClientTransaction:
        """Send a request and return its ClientTransaction. Raises TransportError."""

    def request(
        self,
        /,
        method: str,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        credentials: Given | None = None,
        follow_redirects: bool = False,
        timers: Timers | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Response:
        """Send a request and return its final response. Raises TransactionTimeout, TransportError
        and Cancelled."""

    def invite(
        self,
        /,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        handlers: CallHandlers | None = None,
        media: Sequence[MediaStream] | None = None,
        credentials: Given | None = None,
        follow_redirects: bool = False,
        timers: Timers | None = None,
        body: bytes | str = b"",
        on_offer: OnOffer | None = None,
        until: Waitable | None = None,
        **headers: Any,
    ) -> Call:
        """Call a peer and return the Call after the peer has answered. Raises Reject with the
        peer's refusal."""

    def subscribe(
        self,
        uri: URI | str,
        *,
        event: str,
        expires: int | None = None,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        credentials: Given | None = None,
        body: bytes | str = b"",
        **headers: Any,
    ) -> Subscription:
        """Subscribe to the state of a resource (RFC 6665). Raises Reject with the peer's
        refusal."""

    def refer(
        self,
        uri: URI | str,
        target: URI | str | Call,
        *,
        subscribe: bool = True,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        credentials: Given | None = None,
        **headers: Any,
    ) -> None:
        """Ask a peer to call somebody, and wait for the outcome (RFC 3515). Raises Reject."""

    def resolve(self, uri: URI | str, listener: Wanted = None) -> list[Candidate]:
        """Return the candidates of a URI, best first (RFC 3263). Raises TransportError."""

    def flow_to(self, uri: URI | str, listener: Wanted = None) -> Flow:
        """Return a flow to where a URI leads. Raises TransportError."""

    # ---- names and flows

    @property
    def addresses(self) -> list[str]:
        """The addresses that the stack listens on, as `udp:host:port`."""

    def contact(self, flow: Flow, *, secure: bool = False) -> NameAddr:
        """Return the Contact by which the flow's peer reaches this element."""

    def flow_uri(self, flow: Flow) -> URI:
        """Return a URI for Path. Requests with this URI as their Route go by this flow (RFC 3327
        §5)."""

    def flow_name(self, flow: Flow) -> str:
        """Return the name of a flow, which find_flow() finds again."""

    def find_flow(self, name: str) -> Flow | None:
        """Return the flow of this name, None when it has ended."""

    # ---- life

    def stats(self) -> Statistics:
        """Return counters and gauges by name: numbers, and dicts of them."""

    def drain(self) -> None:
        """Refuse new requests with 503 from now on."""

    def stop(self, timeout: float | None = None) -> None:
        """Stop the stack, after at most `timeout` seconds of draining."""
