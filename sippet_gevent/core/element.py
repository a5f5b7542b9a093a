"""Element: the stack as cores, transactions, dialogs and routing see it, RFC 3261 §6.

A `Stack` satisfies these protocols, and so does anything that has the same attributes. Modules of
this package name the protocol that they need, never the class `Stack`, which imports them all.

| protocol | contents |
|---|---|
| Element | the parts of a stack: engine, names, clock, sender, dialogs … |
| RequestSender | routes and sends requests: client/sender.py |
| InvitingRequest | an INVITE of ours, as its calls see it: client/transaction.py |
| DialogTable | the calls of a stack, by dialog: dialog/dialogs.py |
| Tried, Within | a request with a failed try, and the usage of a dialog that it belongs to |
| ServedRequest | a request that a core serves, as its call sees it: server.py |
| KeepAliveTable | flows that are kept alive: routing/keepalive.py |
| AccountTable | accounts at carriers: registration/accounts.py |

The last ones describe classes that need an Element themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, Protocol, TypeVar

from gevent.pool import Group

from ..engine.engine import Engine
from ..engine.users import ClientRecord, ClientUser, ServerRecord
from ..message.identifiers import Identifiers
from ..message.message import Request, Response
from ..message.uri import URI
from ..runtime.clock import Clock, Deadlines
from ..transaction.timers import Timers
from ..transport.base import Flow
from ..transport.listener_choice import ListenerChoice, Wanted
from ..transport.locate.resolver import Resolver
from ..transport.locate.rfc3263 import Candidate
from .auth.credentials import Kept, Keyring
from .capabilities import Capabilities
from .client.failures import Failures
from .client.long_requests import Detours
from .client.overloaded import OverloadedServers
from .client.targets import AllowTarget, GreyList, NextHop, RouteWriter, Ways
from .dialog.call import Call, Held, MayReplace
from .dialog.dialog import Dialog, DialogID
from .dialog.terms import Terms
from .routing.own_names import Names

Sent = TypeVar("Sent")


class Element(Protocol):
    """One SIP element, as the parts of its core layer see it."""

    @property
    def engine(self) -> Engine:
        """Transports and transactions, with `counters`, `limits`, `timers` and `admission`."""

    @property
    def clock(self) -> Clock:
        """The time, which is virtual in tests."""

    @property
    def deadlines(self) -> Deadlines:
        """Calls `expire(now)` of each item that was added, in the hub."""

    @property
    def callbacks(self) -> Group:
        """Greenlets for work from the hub that may block."""

    @property
    def names(self) -> Names:
        """Hosts, domains and flows of this element."""

    @property
    def resolver(self) -> Resolver:
        """Finds the addresses of names."""

    @property
    def capabilities(self) -> Capabilities:
        """Adds Allow, Supported and the like to messages."""

    @property
    def sender(self) -> RequestSender:
        """Sends requests."""

    @property
    def dialogs(self) -> DialogTable:
        """The calls, by dialog."""

    @property
    def keyring(self) -> Keyring | None:
        """The credentials of the stack, if it has any."""

    @property
    def accounts(self) -> AccountTable:
        """The accounts at carriers."""

    @property
    def keepalives(self) -> KeepAliveTable:
        """Flows that are kept alive."""

    @property
    def identifiers(self) -> Identifiers:
        """Makes branches, tags and Call-IDs."""

    @property
    def middleware(self) -> SendingMiddleware:
        """Middleware that sees requests before they are sent."""

    @property
    def supported(self) -> frozenset[str]:
        """Option tags that the cores implement, in lower case (§8.2.2.3)."""

    @property
    def allowed_in_calls(self) -> frozenset[str]:
        """Methods that calls serve by their rules."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """Methods that are served, as Allow names them (§20.5)."""

    @property
    def session_expires(self) -> int:
        """Seconds of the session interval that calls ask for; 0 for none (RFC 4028)."""

    @property
    def keep(self) -> bool:
        """True when requests ask for keep-alives (RFC 6223)."""

    @property
    def may_replace(self) -> MayReplace | None:
        """The application's decision which INVITEs may replace or join a call."""

    @property
    def allow_target(self) -> AllowTarget | None:
        """The application's filter of destinations."""

    @property
    def is_running(self) -> bool:
        """True from start() until stop()."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of this element besides its addresses."""

    def handles(self, method: str) -> bool:
        """True when the core serves a method."""

    def handles_by_name(self, method: str) -> bool:
        """True when a function is registered for this very method."""

    def is_local(self, uri: URI) -> bool:
        """True when a URI leads to this element."""

    def is_responsible_for(self, uri: URI) -> bool:
        """True when a URI is of one of this element's domains (§16.5)."""

    def aor(self, uri: URI) -> str:
        """Return the address-of-record that a URI names (§10.3 step 5)."""


class SendingMiddleware(Protocol):
    """Middleware that sees requests before they are sent, see middleware.py."""

    @property
    def senders(self) -> tuple[object, ...]:
        """The `send` methods of the middleware, empty when there are none."""

    def send(self, request: Request, leave: Callable[[Request], Sent]) -> Sent:
        """Pass a request through the middleware; then `leave` sends the result."""


class Numbered(Protocol):
    """A dialog, which numbers the requests within it (§12.2.1.1)."""

    local_cseq: int


class Within(Protocol):
    """What a request within a dialog belongs to: the INVITE session, or another usage."""

    @property
    def dialog(self) -> Numbered:
        """The dialog."""

    @property
    def kept_credentials(self) -> Kept | None:
        """The credentials of the request that began it, if it had any."""


class Tried(Protocol):
    """A request with a failed try, as the policies see it. A ClientTransaction is one."""

    stack: Element

    @property
    def request(self) -> Request:
        """The request, as it left."""

    @property
    def transaction(self) -> ClientRecord:
        """The transaction of the latest try."""

    @property
    def provisional(self) -> Response | None:
        """The last provisional response of this try."""

    @property
    def ways(self) -> Ways | None:
        """The next hops left to try. None for a request that goes by one flow."""

    @property
    def by_flow(self) -> bool:
        """True for a request that goes by one flow."""

    @property
    def within(self) -> Within | None:
        """The session or other usage of a dialog that the request belongs to."""

    def _may_go_on(self, failure: Response | Exception) -> bool:
        """True when another target may be asked."""


class RequestSender(Protocol):
    """Finds the next hops of each request, and tries the next one when one fails."""

    grey: GreyList
    """Targets that failed lately."""
    overloaded: OverloadedServers
    """Next hops that get fewer requests."""
    detours: Detours
    """Destinations of requests that are too long for a datagram."""
    repeated: dict[str, int]
    """Number of requests that were sent again, by the status or failure before."""
    failures: Failures
    """Counts and logs next hops that failed."""
    listener_choice: ListenerChoice
    """Chooses listeners."""

    def send(
        self,
        request: Request,
        next_hop: NextHop | None = None,
        *,
        user: ClientUser | None = None,
        mark: str = "",
        listener: Wanted = None,
        record_route: RouteWriter | None = None,
        within: Within | None = None,
        timers: Timers | None = None,
    ) -> object:
        """Send a request; its responses and its end go to `user`. Raises SIPError."""

    def acknowledge(self, ack: Request, next_hop: NextHop | None, listener: Wanted) -> Request:
        """Send an ACK, and return the request that was sent. Raises SIPError."""

    def send_next(self, request: Request, ways: Ways) -> tuple[Request, Flow, bytes] | None:
        """Return a failed request for its next candidate, with flow and bytes; None at the end."""

    def repeat(self, request: Request, tried: Tried) -> tuple[Request, Flow, bytes] | None:
        """Write a changed request for the server that has answered; None if its flow has ended."""

    def reroute(self, request: Request, tried: Tried, next_hop: URI | None) -> None:
        """Send a changed request to wherever it has to go now. Raises SIPError."""

    def flow_again(self, ways: Ways) -> Flow:
        """Return a new flow to the next hop of a pending request. Raises TransportError."""

    def flow_to(self, uri: URI, listener: Wanted = None) -> Flow:
        """Return a flow to where a URI leads. Raises TransportError."""

    def resolve(self, uri: URI, listener: Wanted = None) -> list[Candidate]:
        """Return the candidates of a URI, best first (RFC 3263). Raises TransportError."""

    def allowed(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return the candidates that the application allows. Raises TransportError for none."""


class ServedRequest(Protocol):
    """A request that a core serves, as its call sees it: a ServerTransaction."""

    call: Call | None
    """The call that the request belongs to, or that its 2xx has begun."""

    terms: Terms | None
    """What the application wants of the session that an INVITE begins."""

    @property
    def request(self) -> Request:
        """The request."""

    @property
    def transaction(self) -> ServerRecord:
        """Its server transaction."""

    @property
    def answered(self) -> int:
        """Status of the final response that was sent; 0 before."""

    @property
    def cancelled(self) -> bool:
        """True when a CANCEL or BYE has ended it."""

    def cancel(self, cancel: Request | None = None) -> None:
        """End the request with 487, unless it is answered. `cancel` is the CANCEL or BYE."""

    def respond(
        self,
        status: int | Response,
        reason: str | None = None,
        *,
        reliable: bool = False,
        body: bytes | str = b"",
        **headers: Any,
    ) -> None:
        """Send a response."""

    def check_required(self) -> None:
        """Refuse a request that requires an unknown extension. Raises Reject."""

    def keep_contact(self, contact: str) -> None:
        """Have later responses say this Contact."""

    def _finish(self, status: int, response: Response) -> None:
        """Send the final response."""

    def _hold(self, held: Held) -> None:
        """Note that the core holds a call or a subscription."""

    def _refuse_for_core(
        self, status: int, error: Exception | None, headers: dict[str, Any]
    ) -> None:
        """Refuse the request in place of its core, which gets `error`, or else Cancelled."""


class InvitingRequest(Protocol):
    """An INVITE of ours, as its calls see it: a ClientTransaction."""

    request: Request
    """The INVITE, as it left."""

    terms: Terms | None
    """What the application wants of the session."""

    @property
    def abandoned(self) -> bool:
        """True when no greenlet waits for its response any more."""

    @property
    def is_pending(self) -> bool:
        """True until the final response."""

    def cancel(self, **headers: Any) -> None:
        """Cancel it."""

    def _left(self) -> None:
        """Note that a BYE has ended an early dialog of it."""


class DialogTable(Protocol):
    """The calls of a stack, by dialog."""

    unowned: int
    """Calls that no program held any more."""

    events_dropped: int
    """Events of calls whose core has not read them."""

    subscriptions: int
    """Subscriptions of both roles."""

    def of_request(self, request: Request, response: Response) -> Dialog:
        """Return the dialog of a SUBSCRIBE, REFER or NOTIFY, a DialogState, a new one unless it is
        known. Raises ParseError."""

    def subscribing(self, call_id: str, tag: str, first: FirstNotify | None) -> None:
        """Give the NOTIFYs that create dialogs of a request of ours to `first` from now on; None
        ends that."""

    def admit_subscription(self, request: Request) -> None:
        """Refuse a subscription of a peer beyond the limit. Raises Reject."""

    def release(self, key: DialogID) -> None:
        """Forget a dialog without a call if its last subscription has ended."""

    def ring(self, tx: ServedRequest, response: Response) -> None:
        """Begin the early call of our first 101 to 199 with a tag, and complete the response.
        Raises Reject."""

    def answer(self, tx: ServedRequest, response: Response) -> Call:
        """Send a 2xx to an INVITE and return the call that it creates. Raises Reject."""

    def begin(self, tx: InvitingRequest, response: Response, only_way: Flow | None = None) -> Call:
        """Return the early call that a response to an INVITE of ours creates. `only_way` is the
        flow that alone reaches the peer."""

    def confirm(self, call: Call) -> None:
        """Note that an early call is answered."""

    def inviting(self, request: Request) -> None:
        """Complete an INVITE of ours that begins a call, by the rules."""

    def remove(self, call: Call, *, by_us: bool = False) -> None:
        """Forget a call."""

    def named(self, key: DialogID) -> Call | None:
        """Return the call of a dialog; None without one."""

    def has_ended(self, key: DialogID) -> bool:
        """True for the dialog of a call that we have just ended."""


class FirstNotify(Protocol):
    """A request of ours whose NOTIFYs create dialogs: a Subscription (RFC 6665 §4.4.1)."""

    def _serve(self, request: Request, tx: ServedRequest) -> int | Response | None:
        """Serve the first NOTIFY of a dialog. Raises Reject."""

    def _drop(self) -> None:
        """End without a message to the peer, because the stack has stopped."""


class AccountTable(Protocol):
    """The accounts of a stack, see registration/accounts.py."""

    @property
    def known(self) -> Sized:
        """All accounts."""

    def kept_for(self, request: Request) -> Kept | None:
        """Return the credentials for a call that a received INVITE begins, if an account has
        some."""


class KeepAliveTable(Protocol):
    """Flows that are kept alive, by the Call-ID of a registration or call (RFC 6223)."""

    def offers(self, request: Request) -> bool:
        """True for a request that offers keep-alives."""

    def take(self, request: Request, response: Response, flow: Flow) -> None:
        """Note what a response to a request with a keep-alive offer says."""

    def __contains__(self, owner: object) -> bool:
        """True while keep-alives are sent for a registration or call."""

    def drop(self, owner: str) -> None:
        """End the keep-alives that a registration or call asked for."""
