"""RegistrarProxy: the default server. Phones register at it and call each other, RFC 3261 §10 and
§16."""

from __future__ import annotations

from ..message.iana import DIALOG_CREATING
from ..message.message import Request, Response
from ..stores.base import BindingStore
from ..stores.memory import Location
from .proxy.forward import forward
from .registrar.registrar import Registrar, serves
from .server import Core, ServerTransaction

_WITHIN = frozenset(("NOTIFY",))
"""Those that may begin another one from within a dialog (RFC 6665 §4.3)."""
_BEGINNERS = DIALOG_CREATING - _WITHIN
"""Methods that begin a dialog."""


class RegistrarProxy(Core):
    """Registrar and stateful proxy in one. Requests go to registered phones, and along routes that
    name us.

    Calls stay on our route (Record-Route), so their BYE passes here too. Phones behind NAT and
    browsers are reached by the flow they have registered or called by (RFC 5626 §5, RFC 7118). A
    request within a dialog goes on to wherever it says when its Route has the token we made for
    that dialog; else it gets 481. One outside goes to the phones of the user it names, or to the
    one phone whose Contact it names, as in an attended transfer (RFC 5589). It goes by their
    bindings, so it reaches nothing that is not registered here (404), nor does a Route lead it
    elsewhere (403).

    Nobody has to prove who he is: whoever may register may name any address as his Contact, and a
    party to a call any target in it. So keep it in your own network.
    """

    allowed = ()
    """A proxy has no methods of its own (§11.2)."""

    def __init__(self, location: BindingStore | None = None) -> None:
        self._location = location

    @property
    def location(self) -> BindingStore:
        """The bindings; in memory unless one was given."""
        if self._location is None:
            location = self._location = Location()
            location.stack = self.stack
        return self._location

    def receive_request(self, request: Request, tx: ServerTransaction) -> int | Response | None:
        stack = self.stack
        if request.method == "REGISTER":
            return Registrar(self.location)(request, tx)
        ours = tx.take_route()
        # Within a dialog the Request-URI is the Contact of a phone, which may be at another port of
        # our own host
        if tx.leads_to_flow or (ours and not stack.is_local(request.uri)):
            begins = request.method in (_WITHIN if ours else _BEGINNERS)
            forward(request, tx, record_route=begins)
            return None
        in_dialog = request.mandatory.to_tag is not None or request.method == "ACK"
        if request.method == "OPTIONS" and request.uri.user is None and serves(stack, request.uri):
            return 200  # without Allow: a proxy has no methods of its own (§11.2)
        targets = self.location.lookup(request.uri) if ours or not in_dialog else ()
        if not targets and not in_dialog:
            # a store of the user's may have none
            lookup_contact = getattr(self.location, "lookup_contact", None)
            targets = () if lookup_contact is None else lookup_contact(request.uri)
        if targets:
            forward(request, tx, *targets, record_route=request.method in _BEGINNERS)
            return None
        return 481 if in_dialog else 404
