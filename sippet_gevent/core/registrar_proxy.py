"""RegistrarProxy: the default server, at which phones register and call each other, RFC 3261 §10
and §16."""

from __future__ import annotations

from ..arguments import instance
from ..errors import Reject, excerpt
from ..message.iana import DIALOG_CREATING
from ..message.message import Request, Response
from ..message.uri import URI
from ..stores.bindings import Bindings
from ..stores.location import Location
from .core import Core
from .proxy.forward import forward
from .registrar.registrar import Registrar, serves
from .routing.routes import top_route
from .server import ServerTransaction
from .user_agent import UserAgent

_WITHIN = frozenset(("NOTIFY",))
"""Methods that may begin a further dialog from within a dialog (RFC 6665 §4.3)."""

_OUTSIDE = DIALOG_CREATING - _WITHIN
"""Methods that may begin a dialog outside of any dialog."""


class RegistrarProxy(Core):
    """Registrar and stateful proxy in one. Requests go to registered phones, and along routes that
    name us.

    Calls stay on our route by Record-Route, so their BYE passes here, too. Phones behind NAT and
    browsers are reached by the flow by which they registered or called (RFC 5626 §5, RFC 7118).

    A request within a dialog goes wherever its Route and Request-URI say, if the Route has the
    token that we made for that dialog. Otherwise it gets 481.

    A request outside of a dialog goes to the phones of the user that it names. It may also name the
    Contact of one phone, as in an attended transfer (RFC 5589). It goes only to bindings. A target
    that is not registered here gets 404, and a Route that leads elsewhere gets 403.

    There is no authentication. Any phone may register with any address as its Contact, and any
    party to a call may name any target in it. Use it in your own network only.

    A GRUU of a registered phone leads to that phone alone, within a dialog, too (RFC 5627 §6.1).

    Args:
        location: The bindings; a Location in memory by default.
        registrar: Serves REGISTER, with its own Location: `Registrar(Location(), max_contacts=1)`.

    Raises:
        TypeError: `location` is no Location, `registrar` no Registrar, or both are given.
    """

    allowed = ()
    """A proxy has no methods of its own (§11.2)."""

    def __init__(
        self, location: Location | None = None, *, registrar: Registrar | None = None
    ) -> None:
        if registrar is not None:
            instance("registrar", registrar, Registrar, "RegistrarProxy(registrar=Registrar(...))")
            if location is not None:
                raise TypeError("a Registrar has its Location: leave out location")
            location = registrar.location
        if location is not None and not isinstance(location, Location):
            given = "registrar=Registrar(...)" if isinstance(location, Registrar) else "Location()"
            raise TypeError(
                f"location must be a Location, got {excerpt(location)}: write "
                f"RegistrarProxy({given})"
            )
        self._location = location
        self._registrar = registrar

    @property
    def location(self) -> Location:
        """The bindings: the given Location, or one in memory."""
        location = self._location
        if location is None:
            location = self._location = Location()
        stack = self.stack
        if location.stack is not stack and (
            location.stack is None or (stack.is_running and not location.stack.is_running)
        ):
            location.stack = stack
        return location

    def receive_request(self, request: Request, tx: ServerTransaction) -> int | Response | None:
        stack = self.stack
        if request.method == "REGISTER":
            if self._registrar is None:
                self._registrar = Registrar(self.location)
            return self._registrar(request, tx)
        ours = tx.take_route()
        is_gruu = ";gr" in request.uri_text and _is_gruu(stack, request.uri)
        if is_gruu and (ours or not tx.leads_to_flow):
            targets = self.location.lookup(request.uri)
            # a Contact may look like a GRUU of ours, and its dialog has a flow (RFC 7118 §8.2)
            if targets or not tx.leads_to_flow:
                return self._to_gruu(request, tx, targets, ours=ours)
        # within a dialog the Request-URI is the Contact of a phone, which may be at another port of
        # our own host
        if tx.leads_to_flow or (ours and not stack.is_local(request.uri)):
            begins = request.method in (_WITHIN if ours else _OUTSIDE)
            forward(request, tx, record_route=begins)
            return None
        in_dialog = request.mandatory.to_tag is not None or request.method == "ACK"
        if request.method == "OPTIONS" and request.uri.user is None and serves(stack, request.uri):
            return 200  # without Allow: a proxy has no methods of its own (§11.2)
        targets = () if in_dialog and not ours else self._targets(request, in_dialog)
        if targets:
            forward(request, tx, *targets, record_route=request.method in _OUTSIDE)
            return None
        return 481 if in_dialog else 404

    def _to_gruu(
        self, request: Request, tx: ServerTransaction, targets: Bindings, *, ours: bool
    ) -> int | None:
        """Forward a request for a GRUU to its bindings (RFC 5627 §6.1)."""
        if not ours and (request.mandatory.to_tag is not None or request.method == "ACK"):
            return 481
        if not targets:
            # a temporary GRUU ends with its last binding, a public one does not (§5.3)
            return 404 if request.uri.parameters.get("gr") is None else 480
        if top_route(request) is not None:  # the dialog's route leads there, not the Path
            targets = tuple(b._replace(path=(), flow=None, by_flow_only=False) for b in targets[:1])
            forward(request, tx, *targets)
            return None
        forward(request, tx, *targets, record_route=request.method in _OUTSIDE)
        return None

    def _targets(self, request: Request, in_dialog: bool) -> Bindings:
        """Return the bindings that a request goes to: by its address-of-record, or by Contact."""
        failure: Reject | None = None
        try:
            targets = self.location.lookup(request.uri)
        except Reject as error:  # the store fails, and its copy may know the Contact
            targets, failure = (), error
        if not targets and not in_dialog:
            targets = self.location.lookup_contact(request.uri)
        if failure is not None and not targets:
            raise failure
        return targets


def _is_gruu(stack: UserAgent, uri: URI) -> bool:
    return "gr" in uri.parameters and serves(stack, uri)
