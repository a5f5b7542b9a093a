"""Authenticated: a core that asks for a password before another core runs, RFC 3261 §22."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import excerpt
from ...message.message import Request, Response
from ..core import Core, CoreFunction, check_core
from ..forwarding import CoreResult
from ..server import ServerTransaction
from ..user_agent import UserAgent
from .bans import Bans
from .lookup import Secret, Users
from .server import Authenticator, Exempt, Owns


class Authenticated(Core):
    """A core that asks for a password before another core runs.

        users = {"100": "secret", "101": "other"}
        stack = Stack(core=Authenticated(RegistrarProxy(), realm="example.com", users=users))

    The core sees the user name as `tx.user`.

    Args:
        core: The core.
        realm: The realm, usually the domain.
        users: A dict from user name to password, User, or HA1 by algorithm. Or anything with
            `lookup(username, realm)`, such as SQLiteUsers.
        algorithms: The algorithms to offer, strongest first. By default those of SHA-256 and MD5
            that all users have an HA1 for.
        proxy: Ask by 407 and Proxy-Authenticate, except for REGISTER. By default if the core is a
            proxy that serves no methods itself.
        secret: The key of the nonces; random by default.
        bans: Counts wrong passwords; `Bans()` by default.
        owns: Decides if a user may use an address, `owns(username, uri)`.
        exempt: Decides if a request needs no password, `exempt(request, tx)`.
        authenticator: An Authenticator with further options, in place of all the others.

    Raises:
        InvalidValue: An algorithm cannot be computed, a user of a dict has no HA1 for it, or the
            realm is empty.
        StoreError: The users cannot be read.
        TypeError: An argument has the wrong type, or realm or users are missing.
    """

    def __init__(
        self,
        core: CoreFunction,
        *,
        realm: str | None = None,
        users: Users | Mapping[str, Secret] | None = None,
        algorithms: tuple[str, ...] | None = None,
        proxy: bool | None = None,
        secret: bytes | None = None,
        bans: Bans | None = None,
        owns: Owns | None = None,
        exempt: Exempt | None = None,
        authenticator: Authenticator | None = None,
    ) -> None:
        check_core(core)
        self.core = core
        self.allowed = getattr(core, "allowed", Core.allowed)
        if authenticator is None:
            if realm is None or users is None:
                raise TypeError(
                    'realm and users are missing: write realm="example.com", '
                    'users={"100": "secret"}'
                )
            authenticator = Authenticator(
                realm=realm,
                users=users,
                algorithms=algorithms,
                proxy=self.allowed == () if proxy is None else proxy,
                secret=secret,
                bans=bans,
                owns=owns,
                exempt=exempt,
            )
        elif realm is not None or users is not None:
            raise TypeError(
                f"{excerpt(authenticator)} has its realm and users: leave out realm= and users="
            )
        self.authenticator = authenticator

    _stack: UserAgent = None  # type: ignore[assignment]  # as Core.stack

    @property
    def stack(self) -> UserAgent:
        """The stack that runs this core."""
        return self._stack

    @stack.setter
    def stack(self, stack: UserAgent) -> None:
        self._stack = stack
        if isinstance(self.core, Core):
            self.core.stack = stack

    def receive_request(self, request: Request, tx: ServerTransaction) -> CoreResult:
        self.authenticator.authenticate(request, tx)
        return self.core(request, tx)

    def receive_response(self, response: Response, tx: None) -> None:
        if isinstance(self.core, Core):
            self.core.receive_response(response, tx)

    def receive_error(self, error: Exception, tx: object) -> None:
        if isinstance(self.core, Core):
            self.core.receive_error(error, tx)
