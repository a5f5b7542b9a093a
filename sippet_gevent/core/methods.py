"""Methods: a core that gives each request to the function registered for its method, RFC 3261 §8.2.1 and §11."""

from __future__ import annotations

from typing import Any

from ..message.essentials import METHODS
from ..message.message import Request
from .uas import CoreFunction, ServerTransaction

ANY = "*"


class Methods:
    """What `@stack.on("INVITE")` fills. Others are answered as §8.2.1 says: 405 with Allow, 481 within a dialog, 501."""

    def __init__(self) -> None:
        self.handlers: dict[str, CoreFunction] = {}

    def add(self, methods: tuple[str, ...], function: CoreFunction) -> None:
        """Register a function for these methods; none means all that have no other."""
        for method in methods or (ANY,):
            self.handlers[method] = function

    def handles(self, method: str) -> bool:
        """True when a function is registered for the method."""
        return method in self.handlers or ANY in self.handlers

    @property
    def allowed(self) -> tuple[str, ...]:
        """The Allow header's value."""
        named = dict.fromkeys([m for m in self.handlers if m != ANY] + ["ACK", "CANCEL", "BYE", "OPTIONS"])
        return tuple(sorted(named))

    def __call__(self, request: Request, tx: ServerTransaction) -> Any:
        handler = self.handlers.get(request.method) or self.handlers.get(ANY)
        if handler is not None:
            return handler(request, tx)
        if tx.call is None and (request.essentials.to_tag is not None or request.method == "BYE"):
            return 481  # §12.2.2, §15.1.2: no call of ours
        if request.method == "OPTIONS":  # §11.2: every element answers it
            return request.response(200, allow=self.allowed, supported=tuple(sorted(tx.stack.supported)))
        if request.method in METHODS:
            return request.response(405, allow=self.allowed)
        return 501
