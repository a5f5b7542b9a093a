"""Sender: completes, routes and sends requests, our own and forwarded ones, RFC 3261 §8.1.1,
§8.1.2, §16.6, §18.1.1."""

from __future__ import annotations

from ...engine.users import ClientUser
from ...errors import Cancelled, InvalidValue, TransactionStateError, TransportError
from ...message.identifiers import MAGIC_COOKIE
from ...message.mandatory import transaction_key
from ...message.message import Request
from ...message.uri import URI
from ...message.uri_arguments import given_sip_uri
from ...transaction.timers import Timers
from ...transport.base import Flow
from ...transport.listener_choice import Wanted
from ...transport.locate.rfc3263 import Candidate
from ..capabilities import CONTACT_IN_REQUEST
from ..element import Element, Tried, Within
from ..inbox import check_serving
from ..routing.routes import take_next_hop
from ..routing.sips import has_sip_contact, is_secure, secure_route, secured, wants_sips
from .completion import complete
from .failures import Failures
from .long_requests import DETOUR_SECONDS, Detours
from .next_hops import NextHops
from .overloaded import FREE, OverloadedServers
from .retry import Retry
from .targets import TRIES, NextHop, RouteWriter, Ways
from .transaction import ClientTransaction

_WHEN_LEAVING = frozenset(("ACK", "BYE", "CANCEL"))

_Way = tuple[
    "NextHop | None", "ClientUser | None", str, Wanted, "RouteWriter | None", "Retry | None",
    "Within | None", "Timers | None",
]  # fmt: skip
"""How a request leaves: the arguments of Sender.send() after the request."""


class Sender(NextHops):
    """Finds the next hops of each request, writes Via, Contact and Route for them, and tries the
    next one when one fails."""

    def __init__(self, stack: Element) -> None:
        super().__init__(stack)
        self.failures = Failures(stack.engine.counters)
        """Counts and logs next hops that failed."""
        self.detours = Detours(stack.engine.limits.datagram, stack.engine.counters.lines)
        """Destinations of requests that are too long for a datagram."""
        control = self._offers_control = stack.engine.limits.overload_control
        self.overloaded = OverloadedServers(
            lambda: stack.engine.limits.closed_seconds, watches=control
        )
        """Next hops that have asked for fewer requests."""
        if self._offers_control:
            stack.engine.feedback_taken = self.overloaded.take_feedback
        self.repeated: dict[str, int] = {}
        """Number of requests that were sent again, by the status or failure before."""

    def send(
        self,
        request: Request,
        next_hop: NextHop | None = None,
        *,
        user: ClientUser | None = None,
        mark: str = "",
        listener: Wanted = None,
        record_route: RouteWriter | None = None,
        retry: Retry | None = None,
        within: Within | None = None,
        timers: Timers | None = None,
    ) -> ClientTransaction:
        """Send a request, and write Via, Contact and Route into it; see Stack.send(), which passes
        a copy.

        If a next hop fails before the request is sent, `user` counts and logs it, or this method if
        there is no user.

        Args:
            request: The request, which is changed.
            next_hop: Where it goes instead of its Route or Request-URI.
            user: Takes the responses; by default a new ClientTransaction.
            mark: The end of the Via branch. If it begins with the magic cookie, it is the whole
                branch, and the request is sent without a transaction (§16.11).
            listener: The listener by which the request leaves.
            record_route: Writes a proxy's Record-Route.
            retry: How it is tried again, if the application has said so.
            within: The session or other usage that the request belongs to.
            timers: The timers of its transactions, by default those of the stack.

        Returns:
            The user; None for an ACK, and for what is sent without a transaction.

        Raises:
            TransportError: No next hop can be reached, or the flow has ended.
            TransactionStateError: The stack is draining, and the request would begin a new
                transaction.
            InvalidValue: A header field or the name of the listener is wrong.
            Cancelled: The request that this greenlet serves was cancelled.
        """
        try:
            if self.stack.middleware.senders:
                way = next_hop, user, mark, listener, record_route, retry, within, timers
                return self._send_through_middleware(request, way)[1]
            return self._send(
                request, next_hop, user, mark, listener, record_route, retry, within, timers
            )
        except TransportError as error:
            if user is None:
                self._note_unsent(request, error)
            raise

    def _note_unsent(self, request: Request, error: TransportError) -> None:
        """Count and log a next hop that failed before the request was sent."""
        if self.stack.is_running:
            outcome = f"answered={error.status}"
            self.failures.note(self.stack.clock.now(), request, error, outcome=outcome)

    def acknowledge(self, ack: Request, next_hop: NextHop | None, listener: Wanted) -> Request:
        """Send an ACK, and return the request that was sent: `ack`, unless middleware sent a copy.

        Raises the same as send().
        """
        if not self.stack.middleware.senders:
            self.send(ack, next_hop, listener=listener)
            return ack
        way = next_hop, None, "", listener, None, None, None, None
        try:
            return self._send_through_middleware(ack, way)[0]
        except TransportError as error:
            self._note_unsent(ack, error)
            raise

    def _send_through_middleware(
        self, request: Request, way: _Way
    ) -> tuple[Request, ClientTransaction]:
        """Return the request that middleware sent, and its transaction.

        What a `send` method returns is not used, because only the transaction can be it. Raises
        TypeError if no method has sent the request.
        """
        sent: list[tuple[Request, ClientTransaction]] = []

        def leave(request: Request) -> ClientTransaction:
            if request.sent_via is not None:
                raise InvalidValue(f"{request!r} has left already: send request.copy() before it")
            transaction = self._send(request, *way)
            sent.append((request, transaction))
            return transaction

        self.stack.middleware.send(request, leave)
        if not sent:
            raise TypeError(
                f"middleware returned without sending {request!r}: call send(request), or raise "
                "Reject(403) to refuse it"
            )
        return sent[-1]

    def _send(
        self,
        request: Request,
        next_hop: NextHop | None,
        user: ClientUser | None,
        mark: str,
        listener: Wanted,
        record_route: RouteWriter | None,
        retry: Retry | None,
        within: Within | None,
        timers: Timers | None,
    ) -> ClientTransaction:
        ours = "Via" not in request.headers.fields
        complete(request, self.stack.identifiers)
        if ours:
            self.stack.capabilities.complete_request(request)
            if request._method == "INVITE" and request.to.tag is None:
                self.stack.dialogs.inviting(request)
        if (
            ours
            and self.stack.engine.draining
            and request.method not in _WHEN_LEAVING
            and request.to.tag is None
            and not (request.method == "REGISTER" and request.expires == 0)  # it leaves, too
        ):
            error = TransactionStateError(
                f"the stack is draining: no new {request.method} is begun"
            )
            # a core that sends this request answers with this status (§21.5.4), because it made no
            # mistake
            error.status = 503
            raise error
        secure = is_secure(request)
        sips_contact = has_own_contact = False
        if ours and secure:
            secure_route(request)
        if ours and request.method in CONTACT_IN_REQUEST:
            sips_contact = wants_sips(request)
            has_own_contact = "Contact" not in request.headers.fields
            if sips_contact and has_sip_contact(request):
                raise InvalidValue(
                    f"Contact: a sip URI in a {request.method} whose Request-URI or Route is sips: "
                    "leave out the Contact, or write a sips URI (§8.1.1.8)"
                )
        candidates: list[Candidate] = []
        if isinstance(next_hop, Flow):
            self._check_flow(next_hop, secure=secure)
            hop = next_hop.remote[0]
            if self.overloaded.are_limited and request._method not in FREE:
                self.overloaded.check_flow(
                    next_hop, self.stack.clock.now(), is_within=self._passes_first(request)
                )
        else:
            uri = take_next_hop(request) if next_hop is None else next_hop
            if isinstance(uri, str):
                uri = given_sip_uri("next_hop", uri)
            hop = uri.host
            # §8.1.2, §16.6 step 7
            if secure:
                uri = secured(uri)
            candidates = (
                self.resolve(uri, listener, branch=mark)
                if mark[:7] == MAGIC_COOKIE
                else self.resolve(uri, listener)
            )
            if self.overloaded.are_limited and request._method not in FREE:
                candidates = self.overloaded.allowed(
                    candidates, self.stack.clock.now(), is_within=self._passes_first(request)
                )
        # a CANCEL may have come while the name was resolved
        if user is None:
            if request.method not in _WHEN_LEAVING and not mark:
                check_serving()
        elif (
            isinstance(user, ClientTransaction)
            and user._cancelling is not None
            and user.transaction is None
        ):
            raise Cancelled("the request was cancelled before it was sent")
        if retry is None and within is not None and isinstance(user, ClientTransaction):
            retry = user.retry
        if retry is None and ours and request.method != "ACK":
            kept = None if within is None else within.kept_credentials
            if kept is not None or self.stack.keyring is not None:
                retry = Retry.within(kept, self.stack.keyring)
        if retry is not None:
            if isinstance(user, ClientTransaction):
                user._resume()
            retry.begin(request, hop, is_within=within is not None)
        ways = Ways(
            candidates,
            mark,
            has_own_contact=has_own_contact,
            now=self.stack.clock.now(),
            listener=listener,
            record_route=record_route,
        )
        ways.next_hop = next_hop
        ways.keep = self.stack.keep and ours and self.stack.keepalives.offers(request)
        if isinstance(next_hop, Flow):
            flow, data = (
                next_hop,
                self._write(request, next_hop, ways, secure=sips_contact, by_flow=True),
            )
        else:
            flow, data = self._depart(request, ways, secure=sips_contact)
            del ways.left[TRIES - 1 :]
        if request.method == "ACK" or mark[:7] == MAGIC_COOKIE:
            # an ACK has no transaction that could fall back to a datagram
            if ways.detour is not None and not flow.wait_open():
                self.detours.refused(flow, self.stack.clock.now())
                flow, data = self._depart(request, ways, secure=sips_contact)
            self.stack.engine.send(flow, data)
            # no transaction would be told of it (§16.9); a later request must not overtake this one
            if request.method != "ACK" and not flow.wait_open():
                raise TransportError(f"{flow!r} has ended before the request was sent")
            return None  # type: ignore[return-value]  # as for each ACK
        tx = user or ClientTransaction(self.stack, request)
        if isinstance(tx, ClientTransaction):
            tx.request = request
            tx.by_flow = flow is next_hop
            tx.ways = None if tx.by_flow else ways
            tx.within = within
            if retry is not None:
                tx.retry = retry
        self.stack.engine.request(request, flow, tx, timers, data=data, key=ways.key)
        return tx  # type: ignore[return-value]  # of the class that the caller has given

    def _depart(self, request: Request, ways: Ways, *, secure: bool) -> tuple[Flow, bytes]:
        """Write a request for the next hop that can be reached, and return the flow and the bytes.

        A request that is too long for a datagram is tried by TCP first (§18.1.1).

        Raises:
            TransportError: No next hop is left.
        """
        flow = self._take(ways)
        ways.detour = (
            flow.remote if flow.transport.reliable and flow.remote in ways.detoured else None
        )
        data = self._write(request, flow, ways, secure=secure)
        if len(data) > self.detours.size and flow.remote not in ways.detoured:
            now = self.stack.clock.now()
            if self.detours.lead_around(
                flow, len(data), self.listener_choice.open(ways.listener), now
            ):
                ways.insert_detour(flow.remote, or_else=True)
                refused, flow = flow, self._take(ways)
                if not flow.transport.reliable:
                    # a host in the same network refuses a closed TCP port at once
                    self.detours.refused(refused, now)
                data = self._write(request, flow, ways, secure=secure)
        if ways.detour is not None:
            flow.hurry(DETOUR_SECONDS)
        ways.found_open = (
            (flow, flow.bytes_received) if flow.transport.reliable and flow.is_open else None
        )
        return flow, data

    def _take(self, ways: Ways) -> Flow:
        """Return the flow of the next candidate that opens. Raises TransportError for none."""
        before = ways.left.copy()
        flow = self._connect(ways.left, ways.listener)
        ways.taken = before[len(before) - len(ways.left) - 1]
        return flow

    def flow_again(self, ways: Ways) -> Flow:
        """Return a new flow to the next hop of a pending request, because the old one has ended.

        Raises:
            TransportError: The next hop cannot be reached.
        """
        return self._connect([ways.taken] if ways.taken is not None else [], ways.listener)

    def _write(
        self, request: Request, flow: Flow, ways: Ways, *, secure: bool, by_flow: bool = False
    ) -> bytes:
        """Write Via, our Contact and our Record-Route for a flow, and return the request's bytes.

        A detour by TCP changes only the Via, because the length of one request does not change
        where peers reach us.
        """
        request.flow = flow
        request.mandatory = None  # type: ignore[assignment]  # found again
        if not ways.aim(flow.transport.name, flow.remote):
            ways.branch = (
                ways.mark
                if ways.mark[:7] == MAGIC_COOKIE
                else self.stack.identifiers.branch() + ways.mark
            )
        sent_by = self.stack.names.sent_by(flow)
        via = self._via(flow, sent_by, ways.branch)
        if self._offers_control:
            via += ';oc;oc-algo="loss"'  # RFC 7339 §4.1, §4.2
        request.sent_via = via + ";keep" if ways.keep and flow.probes else via
        ways.key = transaction_key(flow.transport.name, *sent_by, ways.branch, request._method)
        before = ways.written
        if before is None:
            request.headers.push("Via", request.sent_via)
        else:
            # the Vias below stay as they came, readable or not
            request.headers.set_line(request.headers.top_via_line, request.sent_via)
        if ways.detour is None:
            ways.written = flow
            if ways.has_own_contact:
                request.contact = self.stack.names.contact(flow, secure=secure)
            if ways.record_route is not None:
                if before is None:
                    ways.record_route.write(request, flow, by_flow=by_flow)
                else:
                    ways.record_route.rewrite(request, before, flow)
        return bytes(request)

    @staticmethod
    def _via(flow: Flow, sent_by: tuple[str, int], branch: str) -> str:
        """Return a Via of our own for this flow (§8.1.1.7, §16.6 step 8)."""
        host, port = sent_by
        # the peer may send us requests by this connection (RFC 5923 §8.1)
        offered = ";alias" if flow.transport.offers_alias else ""
        return f"SIP/2.0/{flow.transport.name} {host}:{port};branch={branch};rport{offered}"

    def send_next(self, request: Request, ways: Ways) -> tuple[Request, Flow, bytes] | None:
        """Write a request that failed for its next candidate (RFC 3263 §4.3).

        Only branch, Via and Contact change. The branch stays if the candidate is the one that has
        failed, by a new connection.

        Returns:
            The new request, its flow and its bytes; None when no candidate is left.
        """
        again = request.copy()
        secure = False
        if ways.has_own_contact:
            contact = request.contact[0]
            secure = not isinstance(contact, str) and contact.uri.is_secure
        try:
            flow, data = self._depart(again, ways, secure=secure)
        except TransportError:
            return None
        return again, flow, data

    def repeat(self, request: Request, tried: Tried) -> tuple[Request, Flow, bytes] | None:
        """Write a changed request for the server that has answered the one before.

        It goes to that server itself, because others do not know its nonces.

        Returns:
            The request, its flow and its bytes; None when its flow has ended.
        """
        ways, flow = tried.ways, tried.transaction.flow
        if ways is None:
            if not self.stack.names.is_usable(flow):
                return None
            ways = Ways([], "", has_own_contact=False, now=self.stack.clock.now())
            ways.written = flow
            return request, flow, self._write(request, flow, ways, secure=False, by_flow=True)
        if ways.taken is not None:
            ways.left.insert(0, ways.taken)
        ways.begin_anew()
        return self.send_next(request, ways)

    def reroute(self, request: Request, tried: Tried, next_hop: URI | None) -> None:
        """Send a changed request to wherever it has to go now. This may wait for a name.

        Args:
            request: The request, with the Via and Contact of the one before.
            tried: Its transaction object, which is told of the new transaction.
            next_hop: Where it goes instead of the next hop that the application has given.

        Raises:
            TransportError: There is no way.
            InvalidValue: A header field is wrong for the new Request-URI.
            Cancelled: The request was cancelled meanwhile.
        """
        assert isinstance(tried, ClientTransaction)  # whose request is tried again
        ways = tried.ways
        request.headers.delete_header_front("Via")
        request.sent_via = None
        way: NextHop | None = next_hop
        listener: Wanted = None
        if ways is not None:
            way = ways.next_hop if way is None else way
            listener = ways.listener
            if ways.has_own_contact:
                request.contact = None  # it is written again
        elif way is None:
            way = tried.transaction.flow
        timers = None if tried.transaction is None else tried.transaction.timers
        self._send(request, way, tried, "", listener, None, tried.retry, tried.within, timers)
