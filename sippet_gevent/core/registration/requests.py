"""AccountRequests: requests and calls of an account, with its From, credentials and route."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from ...message.address import NameAddr
from ...message.message import Response
from ...message.uri import URI
from ...transport.listener_choice import Wanted
from ..auth.credentials import Given
from ..capabilities import CONTACT_IN_REQUEST
from ..client.sender import Sender
from ..client.targets import NextHop
from ..dialog.call import Call
from ..user_agent import UserAgent
from .registrations import Registrations

M = TypeVar("M")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Registering(UserAgent, Protocol):
    """A stack, as registrations and accounts see it."""

    @property
    def sender(self) -> Sender:
        """Sends requests."""

    @property
    def registrations(self) -> Registrations:
        """All registrations."""


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

    def completed(self, method: str, uri: URI | str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a request, with those of the account where none are given."""
        options = {**self.headers(method, uri), **options}
        for name in ("next_hop", "listener", "credentials"):
            if options.get(name) is None:
                options[name] = getattr(self, name)
        return options


def signed_as(
    model: Callable[Concatenate[M, P], R],
) -> Callable[[Callable[Concatenate[S, ...], R]], Callable[Concatenate[S, P], R]]:
    """Give a method the signature of another one, so that it is written once.

    Editors, mypy and inspect.signature() show that signature.
    """

    def sign(method: Callable[Concatenate[S, ...], R]) -> Callable[Concatenate[S, P], R]:
        method.__signature__ = signature(model)  # type: ignore[attr-defined]
        return method

    return sign


class AccountRequests:
    """Sends requests of an account. Base class of Registration and Account."""

    __slots__ = ()

    def _way(self) -> Way:
        raise TypeError(f"{type(self).__name__} lacks _way()")

    @signed_as(UserAgent.request)
    def request(self, method: str, uri: URI | str, **options: object) -> Response:
        """Send a request of this account: with its From, credentials and Service-Route.

        The arguments and exceptions are those of Stack.request(). What is given here comes first.
        """
        way = self._way()
        return way.stack.request(method, uri, **way.completed(method, uri, options))

    @signed_as(UserAgent.invite)
    def invite(self, uri: URI | str, **options: object) -> Call:
        """Call a peer from this account: with its From, credentials and Service-Route.

        The arguments and exceptions are those of Stack.invite(). What is given here comes first.
        """
        way = self._way()
        return way.stack.invite(uri, **way.completed("INVITE", uri, options))
