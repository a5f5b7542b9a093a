"""Middleware: wraps the core of a stack, and the requests that the stack sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..arguments import takes
from ..errors import excerpt
from ..message.message import Request
from .client.transaction import ClientTransaction
from .core import CoreFunction, check_core

Send = Callable[[Request], ClientTransaction]
"""Sends a request and returns its transaction; None for an ACK."""

Wrapper = Callable[[CoreFunction], CoreFunction]
"""Takes a core, and returns the core that serves in its place."""

Sent = TypeVar("Sent")


class Middleware:
    """Base class of middleware that sees requests both ways. Override what you need.

        class Numbered(Middleware):
            def __call__(self, core):
                def numbered(request, tx):
                    print("received", request.method)
                    return core(request, tx)
                return numbered

            def send(self, request, send):
                request.headers["X-Number"] = "7"
                return send(request)

        stack.use(Numbered())

    A function that takes a core and returns one is middleware, too. So is an object that has one of
    the two methods.
    """

    def __call__(self, core: CoreFunction) -> CoreFunction:
        """Return the core that serves requests in place of `core`."""
        return core

    def send(self, request: Request, send: Send) -> ClientTransaction:
        """Send a request by calling `send(request)`, and return what that returns.

        The request may be changed before. It can be one of our own, also an ACK or a request within
        a call, or one that is forwarded. Middleware sees neither CANCELs nor a request that is
        repeated for another target.

        Each call of `send` needs a request that has not left: `request`, or a copy of it. The
        caller gets the transaction of the last one. Without a call, the caller gets a TypeError. An
        exception keeps the request from being sent, and the caller gets the exception.
        """
        return send(request)


class Chain:
    """The middleware of a stack. The first one given sees each request first."""

    def __init__(self) -> None:
        self.senders: tuple[Callable[[Request, Callable[[Request], object]], object], ...] = ()
        """The `send` methods. Empty when no middleware sees sent requests."""
        self._wrappers: list[Wrapper] = []

    def add(self, middleware: object, core: CoreFunction) -> CoreFunction:
        """Add middleware behind the others, and return the core with all of it around.

        Raises TypeError, and adds nothing, for an object that is not middleware or returns no core.
        """
        send = None if isinstance(middleware, type) else getattr(middleware, "send", None)
        if not callable(middleware) and send is None:
            raise TypeError(
                f"use() takes a function of (core) or a Middleware, got {excerpt(middleware)}: "
                "write def middleware(core), which returns a function of (request, tx)"
            )
        if send is not None:
            takes(send, ("request", "send"), f"{type(middleware).__name__}.send()")
        wrappers = self._wrappers
        if callable(middleware):
            takes(middleware, ("core",), "middleware")
            wrappers = [*wrappers, middleware]
        wrapped = _wrap(core, wrappers)
        self._wrappers = wrappers
        if send is not None:
            self.senders += (send,)
        return wrapped

    def wrap(self, core: CoreFunction) -> CoreFunction:
        """Return a core with all middleware around it. Raises TypeError for middleware that returns
        no core."""
        return _wrap(core, self._wrappers)

    def send(self, request: Request, leave: Callable[[Request], Sent]) -> Sent:
        """Send a request through all middleware; the last one calls `leave(request)`."""
        for send in reversed(self.senders):
            leave = _link(send, leave)
        return leave(request)


def _wrap(
    core: CoreFunction, wrappers: list[Callable[[CoreFunction], CoreFunction]]
) -> CoreFunction:
    for wrapper in reversed(wrappers):
        core = wrapper(core)
        check_core(core)
    return core


def _link(
    send: Callable[[Request, Callable[[Request], object]], object],
    following: Callable[[Request], Sent],
) -> Callable[[Request], Sent]:
    return lambda request: send(request, following)  # type: ignore[return-value]  # it returns what following() does
