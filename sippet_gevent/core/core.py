"""Core: serves requests, as a callable or an object with three callbacks, RFC 3261 §5, §8.2."""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import takes
from ..errors import excerpt
from ..message.message import Request, Response
from .forwarding import CoreResult
from .server import ServerTransaction
from .user_agent import UserAgent

CoreFunction = Callable[[Request, ServerTransaction], CoreResult]
"""A core, `core(request, tx)`. It returns a status or a Response, what forward() has returned, or
None when it has answered itself."""


class Core:
    """A core as a class. Subclass it and pass it to `Stack(core=MyCore())`.

        class Office(Core):
            allowed = ("OPTIONS", "MESSAGE")

            def receive_request(self, request, tx):
                return 200

    An instance is a core like any function: `core(request, tx)`.
    """

    stack: UserAgent = None  # type: ignore[assignment]  # set before it serves
    """The stack that runs this core. None until a stack has taken it, or until its first request if
    another core calls it."""

    _has_stack = False

    allowed: tuple[str, ...] = ("ACK", "BYE", "CANCEL", "INVITE", "OPTIONS")
    """The methods that this core serves. A 405 names them in Allow (RFC 3261 §8.2.1)."""

    def receive_request(self, request: Request, tx: ServerTransaction) -> CoreResult:
        """Serve a request.

        Returns:
            A final status, a final Response, what forward() has returned, or None when the request
            is answered. The return value for an ACK is ignored, because an ACK is never answered.
        """
        return 501

    def receive_response(self, response: Response, tx: None) -> None:
        """Take a response that belongs to no transaction; `tx` is None."""

    def receive_error(self, error: Exception, tx: object) -> None:
        """Take the failure of a transaction that no greenlet waits on.

        A greenlet that waits on the transaction, now or later, gets the error raised instead.

        Args:
            error: The failure.
            tx: The ClientTransaction that send() returned, or the record of an answered request.
                Both have a `method`.
        """

    def __call__(self, request: Request, tx: ServerTransaction) -> CoreResult:
        if not self._has_stack:  # a flag, because `stack` may be a property, and each request asks
            self._has_stack = True
            if self.stack is None:  # another core calls this one
                self.stack = tx.stack
        return self.receive_request(request, tx)


_CALLBACKS = (
    ("receive_request", ("request", "tx")),
    ("receive_response", ("response", "tx")),
    ("receive_error", ("error", "tx")),
)
"""The methods that a Core may define, and their arguments."""


def check_core(core: object) -> None:
    """Check that something can serve requests.

    Raises:
        TypeError: It cannot. The text says what to write.
    """
    if isinstance(core, type):
        name = core.__name__
        raise TypeError(
            f"a core must be a callable of (request, tx) or a Core, got the class {name}: "
            f"write {name}()"
        )
    if not callable(core):
        raise TypeError(
            "a core must be a callable of (request, tx), a Core or a Core class, "
            f"got {excerpt(core)}: write def core(request, tx)"
        )
    if isinstance(core, Core):
        for name, parameters in _CALLBACKS:
            takes(getattr(core, name), parameters, f"{type(core).__name__}.{name}()")
    takes(core, ("request", "tx"), "a core")
