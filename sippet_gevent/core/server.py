"""RegistrarProxy: the default server. Phones register at it and call each other, RFC 3261 §10 and §16."""

from __future__ import annotations

from typing import Any

from ..message.message import Request
from .proxy import forward
from .registrar import Location, Registrar
from .routing import take_own_route
from .uas import Core, ServerTransaction


class RegistrarProxy(Core):
    """Registrar and stateful proxy in one. Requests go to registered phones, and along routes that name us.

    A request outside a dialog to somebody who is not registered here gets 404. Calls stay on our route (Record-Route), so
    their BYE passes here too. Within a dialog the Route and the To tag are believed: who forges both is sent on wherever
    the Request-URI says, so keep it in your own network.
    """

    def __init__(self, location: Location | None = None) -> None:
        self._location = location

    @property
    def location(self) -> Location:
        """The bindings; in memory, on the stack's clock, unless one was given."""
        if self._location is None:
            self._location = Location(self.stack.clock.now)
        return self._location

    def receive_request(self, request: Request, tx: ServerTransaction) -> Any:
        stack = self.stack
        if request.method == "REGISTER":
            return Registrar(self.location)(request, tx)
        routed = take_own_route(request, stack.is_local)
        in_dialog = request.essentials.to_tag is not None
        if in_dialog and routed and not stack.is_local(request.uri):
            return forward(request, tx)
        if request.method == "OPTIONS" and request.uri.user is None and stack.is_local(request.uri):
            return 200  # without Allow: a proxy has no methods of its own (§11.2)
        targets = self.location.lookup(request.uri) if routed or not in_dialog else ()
        if targets:
            return forward(request, tx, *targets, record_route=request.method in ("INVITE", "SUBSCRIBE", "REFER"))
        return 481 if in_dialog else 404
