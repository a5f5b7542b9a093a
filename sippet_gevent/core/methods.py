"""Methods: a core that gives each request to the function registered for its method, RFC 3261
§8.2.1 and §11."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from ..arguments import name_of
from ..errors import InvalidValue, excerpt
from ..message.grammar import is_token
from ..message.iana import METHODS, check_method_case
from ..message.message import Request
from .core import CoreFunction
from .server import ServerTransaction

ANY = "*"


def check_methods(methods: tuple[Any, ...]) -> None:
    """Check the arguments of `@stack.on(…)`. Raises TypeError and InvalidValue, which say what to
    write."""
    for method in methods:
        if callable(method):
            raise TypeError(
                f"stack.on needs parentheses, got the function {name_of(method)}: "
                'write @stack.on("INVITE"), '
                "or @stack.on() for all methods that have no function"
            )
        if not isinstance(method, str):
            raise TypeError(
                f'on() takes the names of methods, got {excerpt(method)}: write on("INVITE", "BYE")'
            )
        if not is_token(method):
            names = (
                ", ".join(f'"{name}"' for name in method.replace(",", " ").split()) or '"INVITE"'
            )
            raise InvalidValue(f"{excerpt(method)} is not a method: write on({names})")
        check_method_case(method)
        if method == "CANCEL":
            raise InvalidValue(
                "CANCEL never reaches a core, because the stack answers it (RFC 3261 §9.2): "
                "catch Cancelled"
            )


def near_method(method: str) -> str | None:
    """Return the method of an RFC that an unknown method resembles; None if there is none.

    An application may have methods of its own (§7.1).
    """
    near = [] if method in METHODS else get_close_matches(method.upper(), METHODS, 1, 0.75)
    return near[0] if near else None


class Methods:
    """A core that gives each request to the function registered for its method.

    Other requests are answered 405 with Allow, 481 within a dialog, or 501 (§8.2.1).
    """

    def __init__(self) -> None:
        self.handlers: dict[str, CoreFunction] = {}
        self.stateless: set[str] = set()
        """Methods that are served without a transaction (§16.11)."""

    def add(self, methods: tuple[str, ...], function: CoreFunction) -> None:
        """Register a function for these methods. Without methods, it serves all that have no other
        function.

        Raises InvalidValue when a method has another function already.
        """
        for method in methods or (ANY,):
            other = self.handlers.get(method, function)
            if other is not function:
                what = "every other method" if method == ANY else method
                raise InvalidValue(
                    f"{what} is served by {name_of(other)}() already: register one function "
                    "for each method"
                )
        for method in methods or (ANY,):
            self.handlers[method] = function

    def is_stateless(self, method: str) -> bool:
        """True for a method that is served without a transaction. ACK and CANCEL belong to the
        INVITE."""
        if method in ("ACK", "CANCEL") and method not in self.handlers:
            method = "INVITE"
        return (method if method in self.handlers else ANY) in self.stateless

    def handles(self, method: str) -> bool:
        """True when a function is registered for the method."""
        return method in self.handlers or ANY in self.handlers

    @property
    def allowed(self) -> tuple[str, ...]:
        """The Allow header's value."""
        named = dict.fromkeys(
            [m for m in self.handlers if m != ANY] + ["ACK", "CANCEL", "BYE", "OPTIONS"]
        )
        return tuple(sorted(named))

    def __call__(self, request: Request, tx: ServerTransaction) -> Any:
        # not the property, because this runs for each request
        handler = self.handlers.get(request._method) or self.handlers.get(ANY)
        if handler is None and tx.is_stateless:  # an ACK or CANCEL goes where its INVITE went
            handler = self.handlers.get("INVITE")
        if handler is not None:
            return handler(request, tx)
        if tx.call is None and (request.mandatory.to_tag is not None or request.method == "BYE"):
            return 481  # §12.2.2, §15.1.2: no call of ours
        if request.method == "OPTIONS":  # §11.2: every element answers it
            return 200  # capabilities.py adds the header fields
        if request.method in METHODS:
            return request.response(405, allow=self.allowed)
        return 501
