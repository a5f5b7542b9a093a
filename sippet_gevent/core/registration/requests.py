"""AccountRequests: requests and calls of an account, with its From, credentials and route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ...message.address import NameAddr
from ...message.message import Response
from ...message.sdp import MediaStream
from ...message.uri import URI
from ...transaction.timers import Timers
from ...transport.listener_choice import Wanted
from ..auth.credentials import Given
from ..capabilities import CONTACT_IN_REQUEST
from ..client.sender import Sender
from ..client.targets import NextHop
from ..dialog.call import Call, OnOffer, OnProvisional
from ..dialog.handlers import CallHandlers
from ..element import Element
from ..inbox import Waitable
from .registrations import Registrations


class Registering(Element, Protocol):
    """A stack, as registrations and accounts see it."""

    @property
    def sender(self) -> Sender:
        """Sends requests."""

    @property
    def registrations(self) -> Registrations:
        """All registrations."""

    def request(
        self,
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
        """Send a request and return its final response."""

    def invite(
        self,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        media: Sequence[MediaStream] | None = None,
        handlers: CallHandlers | None = None,
        credentials: Given | None = None,
        follow_redirects: bool = False,
        timers: Timers | None = None,
        body: bytes | str = b"",
        on_offer: OnOffer | None = None,
        until: Waitable | None = None,
        **headers: Any,
    ) -> Call:
        """Call a peer."""


class Way(NamedTuple):
    """What the requests of an account have unless a call says otherwise."""

    stack: Registering
    from_: NameAddr
    credentials: Given | None
    next_hop: NextHop | None
    listener: Wanted
    route: tuple[NameAddr, ...]
    """The Service-Route of the registrar (RFC 3608)."""
    contact: URI | None = None
    """The Contact that is registered, for requests that need one."""

    def headers(self, method: str, target: URI | str) -> dict[str, Any]:
        """Return the header fields of a request of the account."""
        own: dict[str, Any] = {"from_": self.from_}
        if self.route:
            own["route"] = self.route
        contact = self.contact
        if contact is not None and method in CONTACT_IN_REQUEST:
            wants_sips = str(target)[:5].lower() == "sips:" or any(
                each.uri.is_secure for each in self.route
            )
            # RFC 5630 §5.1.1: the stack writes the sips Contact that such a request needs
            if contact.is_secure or not wants_sips:
                own["contact"] = NameAddr(contact)
        return own


class AccountRequests:
    """Sends requests of an account. Base class of Registration and Account."""

    __slots__ = ()

    def _way(self) -> Way:
        raise TypeError(f"{type(self).__name__} lacks _way()")

    def request(
        self,
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
        """Send a request of this account: with its From, credentials and Service-Route.

        The arguments and exceptions are those of Stack.request(). What is given here comes first.
        """
        way = self._way()
        return way.stack.request(
            method,
            uri,
            next_hop=way.next_hop if next_hop is None else next_hop,
            listener=way.listener if listener is None else listener,
            timeout=timeout,
            on_provisional=on_provisional,
            credentials=way.credentials if credentials is None else credentials,
            follow_redirects=follow_redirects,
            timers=timers,
            body=body,
            **{**way.headers(method, uri), **headers},
        )

    def invite(
        self,
        uri: URI | str,
        *,
        next_hop: NextHop | None = None,
        listener: Wanted = None,
        timeout: float | None = None,
        on_provisional: OnProvisional | None = None,
        media: Sequence[MediaStream] | None = None,
        handlers: CallHandlers | None = None,
        credentials: Given | None = None,
        follow_redirects: bool = False,
        timers: Timers | None = None,
        body: bytes | str = b"",
        on_offer: OnOffer | None = None,
        until: Waitable | None = None,
        **headers: Any,
    ) -> Call:
        """Call a peer from this account: with its From, credentials and Service-Route.

        The arguments and exceptions are those of Stack.invite(). What is given here comes first.
        """
        way = self._way()
        return way.stack.invite(
            uri,
            next_hop=way.next_hop if next_hop is None else next_hop,
            listener=way.listener if listener is None else listener,
            timeout=timeout,
            on_provisional=on_provisional,
            media=media,
            handlers=handlers,
            credentials=way.credentials if credentials is None else credentials,
            follow_redirects=follow_redirects,
            timers=timers,
            body=body,
            on_offer=on_offer,
            until=until,
            **{**way.headers("INVITE", uri), **headers},
        )
