"""Parallel ringing: a bridge that calls several targets, and connects the one that answers first.

| what happens | the other INVITEs | the caller |
|---|---|---|
| a target rings | go on | its 1xx, as for one target |
| a target answers | CANCEL, with the Reason that another one has answered (RFC 3326) | its 2xx |
| two answer at the same time | the second one is hung up | the first 2xx |
| a target refuses | go on | nothing yet |
| a target refuses with 6xx | CANCEL (RFC 3261 §16.7 step 5) | its refusal |
| all have refused | | the best response (§16.7 step 6) |
| the flow of a phone has ended | goes by another flow of that phone (RFC 5626 §7) | nothing |

All INVITEs have one Call-ID, CSeq and From tag, like the branches of a proxy. So a phone that is
registered twice rings once, and refuses the copy with 482 (§8.2.2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from ...errors import (
    Cancelled,
    FlowFailed,
    Reject,
    SIPError,
    TransactionTimeout,
    TransportError,
    excerpt,
)
from ...message.address import NameAddr
from ...message.fields.rfc3261 import CSeq
from ...message.identifiers import create_tag
from ...message.message import Request, Response
from ...message.uri import URI
from ...message.uri_arguments import given_uri
from ...stores.bindings import Binding
from ...transaction.timers import Timers
from ...transport.listener_choice import Wanted
from ...transport.locate.rfc3263 import literal
from ..client.reason import COMPLETED_ELSEWHERE, reason_of
from ..client.retry import Retry
from ..client.targets import NextHop
from ..client.transaction import UNREAD, ClientTransaction
from ..dialog.expiry import Expiry, seconds_of
from ..element import Element
from ..inbox import Inbox
from ..proxy.best_response import response_upstream
from ..proxy.max_breadth import breadth_of
from ..routing.routes import as_request_uri
from .leg import Leg
from .pickup import Bridging, wait_for_pickup

RINGING = 32
"""Most targets of one call. Parallel ringing must be bounded, because it multiplies requests."""

FLOW_FAILED = 430
"""A proxy in front of the phone says that its flow has ended (RFC 5626 §11.5)."""

Target = URI | str | Binding
"""Where a bridge calls: a URI, or a binding with its Path or its flow."""


class Ringing(Bridging, Protocol):
    """A bridge whose callees ring: an Inbound."""

    def ringing(self, response: Response) -> None:
        """Pass on a provisional response."""

    def answered(self, out: ClientTransaction, response: Response) -> None:
        """Connect both sides, because a callee has answered."""


class Invited(ClientTransaction):
    """The INVITE to one of the targets. Its events go to the queue of all."""

    __slots__ = ("events", "others")

    def __init__(
        self, stack: Element, request: Request, events: Events, others: tuple[Binding, ...]
    ) -> None:
        super().__init__(stack, request)
        self.events = events
        self.others = others
        """Further flows of the same phone."""

    @property
    def _is_awaited(self) -> bool:
        return True

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Exception) or event.status >= 200 or len(self.events) < UNREAD:
            self.events.put((self, event))


Events = Inbox[tuple[Invited, "Response | Exception"]]


class Wish(NamedTuple):
    """What bridge() was given for the INVITEs."""

    next_hop: NextHop | None
    listener: Wanted
    timeout: float | None
    timers: Timers | None
    retry: Callable[[], Retry]


def check_targets(targets: object) -> tuple[Target, ...]:
    """Return the targets of a bridge, each once. Raises TypeError, InvalidValue and Reject."""
    if isinstance(targets, (bytes, dict)) or not isinstance(targets, Iterable):
        targets = (targets,)
    found = tuple(dict.fromkeys(targets))
    for each in found:
        if not isinstance(each, (URI, str, Binding)):
            raise TypeError(
                f"target must be a URI, a text, a Binding or a tuple of them, got {excerpt(each)}: "
                'write bridge(request, tx, ("sip:bob@192.0.2.20", "sip:bob@192.0.2.21"))'
            )
        if isinstance(each, str):
            given_uri("target", each)
    if not found:
        raise Reject(480)  # no phone is there at this moment (§21.4.18)
    if len(found) > RINGING:
        raise Reject(440)
    return found


class Parallel:
    """The INVITEs of one bridge to several targets.

    Args:
        bridge: The bridge.
        invite: The INVITE, for any of the targets.
        placed: Gets the Request-URIs of the INVITEs, by which a loop is found.
        wish: What bridge() was given.
    """

    def __init__(self, bridge: Ringing, invite: Request, placed: set[str], wish: Wish) -> None:
        self._bridge, self._invite, self._placed, self._wish = bridge, invite, placed, wish
        self._stack = bridge.stack
        self._events: Events = Inbox(bridge.stack.clock)
        self._pending: list[Invited] = []
        self._finals: list[tuple[Response, bool]] = []
        self._errors: list[Exception] = []
        self._is_registrar = False
        self._expires = seconds_of(invite)  # now, because nothing may raise once one has left
        invite.call_id = self._stack.identifiers.call_id()
        invite.cseq = CSeq(1, "INVITE")
        from_: NameAddr = invite.from_
        if from_.tag is None:
            invite.from_ = from_.with_params(tag=create_tag())

    def call(self, targets: tuple[Target, ...]) -> None:
        """Call all targets, and connect the caller with the first that answers.

        Raises:
            Reject: No target has answered; the best refusal.
            TransactionTimeout: None has answered in time.
            TransportError: There is no way to any of them.
            Cancelled: The caller has given up.
        """
        bridge, wish = self._bridge, self._wish
        if len(targets) > 1:  # proxies behind a Contact may fork, too (RFC 5393 §5.3.3)
            share = breadth_of(bridge.request) // len(targets)
            self._invite.headers.put("Max-Breadth", str(max(1, share)))
        now = self._stack.clock.now
        deadline = None if wish.timeout is None else now() + wish.timeout
        try:
            for target in sorted(targets, key=_needs_a_name):  # a name may have to be resolved
                self._send(target)
            while self._pending:
                if deadline is not None and not self._events.wait(
                    self._events.__len__, deadline - now()
                ):
                    if not bridge.is_picked_up:
                        raise TransactionTimeout(
                            f"no target has answered the INVITE within {wish.timeout:g} seconds"
                        )
                    self._picked_up(self._pending[0])
                    return
                out, event = self._events.get()
                if bridge.is_picked_up:
                    self._picked_up(out)
                    return
                if self._is_over(out, event):
                    return
            self._refuse()
        except BaseException as error:
            self._give_up(reason_of(error.cancel if isinstance(error, Cancelled) else None))
            raise
        finally:
            self._errors.clear()  # a raised error holds this frame by its traceback
            event = None  # type: ignore[assignment]

    # ---- INVITEs

    def _send(self, target: Target) -> None:
        """Send the INVITE to one target."""
        wish, stack = self._wish, self._stack
        copy = self._invite.copy()
        next_hop, listener = wish.next_hop, wish.listener
        others: tuple[Binding, ...] = ()
        failure: TransportError | None = None
        if isinstance(target, Binding):
            self._is_registrar = True
            others = target.others
            copy.uri = as_request_uri(target.uri)
            for hop in reversed(target.path):
                copy.headers.put_header_front("Route", hop)  # RFC 3327 §5.4
            if next_hop is None and not target.path:
                next_hop = None if target.flow is None else stack.names.live_flow(target.flow)
                if next_hop is None and target.by_flow_only:
                    failure = FlowFailed(f"the flow of {target.uri} has ended")
            if listener is None:
                listener = stack.names.listener(target.listener)
        else:
            copy.uri = as_request_uri(URI.parse(target) if isinstance(target, str) else target)
        self._placed.add(copy.uri_text)
        out = Invited(stack, copy, self._events, others)
        out.terms, out.served = self._bridge.callee.terms, self._bridge.tx
        self._pending.append(out)
        if failure is None:
            try:
                stack.sender.send(
                    copy, next_hop, user=out, listener=listener, timers=wish.timers,
                    retry=wish.retry(),  # type: ignore[call-arg]
                )  # fmt: skip
                if self._expires is not None:
                    Expiry(out, self._expires)
            except TransportError as error:
                failure = error
        if failure is not None:
            out._fail(failure)

    def _is_over(self, out: Invited, event: Response | Exception) -> bool:
        """Take an event of an INVITE. True if it was answered, and has connected the caller."""
        if isinstance(event, Response) and event.status < 200:
            self._bridge.ringing(event)
            return False
        self._pending.remove(out)
        if isinstance(event, Response) and event.is_success:
            # before the caller is answered, so that the others stop to ring
            self._give_up({"reason_header": COMPLETED_ELSEWHERE})
            self._bridge.answered(out, event)
            return True
        is_gone = isinstance(event, TransportError) or (
            isinstance(event, Response) and event.status == FLOW_FAILED
        )
        if is_gone and out.others and out.provisional is None:
            first, *others = out.others
            self._send(first._replace(others=tuple(others)))
        elif isinstance(event, Response):
            self._finals.append((event, True))
            if event.status >= 600:
                self._refuse()
        else:
            status = event.status if isinstance(event, SIPError) else 500
            self._errors.append(event)
            self._finals.append((out.request.response(status), False))
        return False

    def _refuse(self) -> None:
        """Raise the refusal that the caller gets."""
        if self._errors and not any(received for _, received in self._finals):
            raise self._errors[0]
        best = response_upstream(
            self._bridge.request, self._finals, is_registrar=self._is_registrar
        )
        callee: Leg = self._bridge.callee
        raise callee.refusal(best)

    def _give_up(self, headers: Mapping[str, object]) -> None:
        """Cancel the INVITEs that are pending, and hang up those that are answered."""
        for out in self._pending:
            out._abandon(**headers)
        self._pending.clear()

    def _picked_up(self, out: Invited) -> None:
        """Another phone has taken the call, by an INVITE with Replaces (RFC 3891 §3)."""
        self._give_up({"reason_header": COMPLETED_ELSEWHERE})
        wait_for_pickup(self._bridge, out)


def _needs_a_name(target: Target) -> bool:
    if isinstance(target, Binding):
        return not target.path and target.flow is None and literal(target.uri.host) is None
    uri = URI.parse(target) if isinstance(target, str) else target
    return literal(uri.host) is None
