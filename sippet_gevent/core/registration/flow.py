"""FlowRegistration: keeps one address-of-record registered by one flow, RFC 3261 §10.2, RFC 5626
§4.2.

It has no greenlet while it waits. Its REGISTERs have one Call-ID, and only one of them is pending
at a time (§10.2). This file is longer than others, because the rules meet here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from typing import Protocol

from gevent.event import Event

from ...errors import (
    InvalidValue,
    ParseError,
    Reject,
    SIPError,
    TransactionStateError,
    TransactionTimeout,
    TransportError,
    Unauthorized,
)
from ...message.address import NameAddr
from ...message.fields.rfc3261 import CSeq
from ...message.iana import STATUSES
from ...message.message import Request, Response
from ...message.uri import URI
from ...runtime.deadline import Deadline
from ...transport.base import Address, Flow
from ...transport.listener_choice import Wanted
from ..auth.credentials import Keyring
from ..client.min_expires import MinExpires
from ..client.retry import Retry
from ..client.targets import NextHop
from ..client.transaction import ClientTransaction
from ..element import Element
from .binding import Granted, granted, kept, own_uri, seen_at
from .requests import Registering
from .schedule import BASE, BASE_BESIDE, LONGEST_WANTED, in_step, pause, refresh_after
from .turns import Lane

TOO_BRIEF = 2
"""Most consecutive 423s after each of which the REGISTER is repeated at once."""

STEADY = 120.0
"""Least seconds that a flow lasts if its end does not count as a failure."""

NOTHING = Granted(0, None, (), None, None)
"""What a registrar grants that has no binding."""

LACKS_OUTBOUND = 439
"""First Hop Lacks Outbound Support (RFC 5626 §11.6)."""

MOVES = 3
"""Most consecutive REGISTERs after each of which the registrar sees us elsewhere. A NAT that moves
us each time would have us register for ever."""

_AGAIN_LATER = frozenset((408, 480, 500, 502, 503, 504, 600))
"""Refusals that say nothing about the account."""


class Owner(Protocol):
    """The Registration of which this is one flow."""

    aor: URI
    ended: bool
    expires: int
    keyring: Keyring | None
    given: NameAddr | None
    public: bool
    listener: Wanted
    stack: Registering

    def template(self, flow: FlowRegistration) -> Request:
        """Return a REGISTER without its Contact."""

    def complete(self, contact: NameAddr, reg_id: int) -> NameAddr:
        """Return a Contact with the parameters of SIP Outbound, if it is used."""

    def is_alive_beside(self, flow: FlowRegistration) -> bool:
        """True when another flow is registered."""

    def note(self, event: str, flow: FlowRegistration, reason: str, seconds: float | None) -> None:
        """Write a log line."""

    def update(self) -> None:
        """Compute the state of the Registration."""

    def stopped(self) -> None:
        """End with the stack."""


class FlowRegistration:
    """One flow of a Registration.

    Args:
        owner: The Registration.
        next_hop: Where its REGISTERs go instead of the registrar.
        reg_id: Its number among the flows of SIP Outbound; 0 without.
        key: What stands for its registrar when REGISTERs take turns.
    """

    __slots__ = (
        "_answers", "_bound", "_brief", "_by_flow", "_deadline", "_due", "_failures", "_idle",
        "_is_pending", "_is_refresh", "_moves", "_owner", "_since", "_stack", "_tried", "_tx",
        "_was_bound", "address", "call_id", "cseq", "error", "expires_at", "flow", "granted",
        "is_registered", "key", "lane", "next_hop", "refused", "reg_id", "seconds", "seen", "uri",
    )  # fmt: skip

    def __init__(self, owner: Owner, next_hop: NextHop | None, reg_id: int, key: Hashable) -> None:
        self._owner, self._stack = owner, owner.stack
        self.next_hop, self.reg_id, self.key = next_hop, reg_id, key
        # one Call-ID for all REGISTERs of a flow (§10.2.4), and none for two (RFC 5626 §4.2.1)
        self.call_id = owner.stack.identifiers.call_id()
        self.cseq = 0
        self.is_registered = self.refused = False
        self.error: SIPError | None = None
        self.expires_at: float | None = None
        self.granted = NOTHING
        """What the latest 200 grants."""
        self.uri: URI | None = None
        """The URI of our Contact at the registrar; it outlives a failure."""
        self.address: str | None = None
        self.flow: Flow | None = None
        """The flow of the latest successful REGISTER."""
        self.lane: Lane | None = None
        self.seconds = 0.0
        self.seen: tuple[str, int] | None = None
        """Where the registrar sees us, behind a NAT."""
        self._moves = 0
        self._tried: URI | None = None  # the URI of a REGISTER without an answer
        self._failures = self._brief = 0
        # when the flow was registered first; infinite if its keep-alives were not answered
        self._since = 0.0
        # keep-alives that had been answered then; None once the flow has failed
        self._answers: int | None = None
        self._bound = False  # the registrar may have a binding of ours
        self._was_bound = False  # before the last REGISTER
        self._by_flow = False  # the pending REGISTER goes by the flow of the one before
        self._tx: Register | None = None
        self._is_pending = False
        self._idle: Event | None = None  # for close(), while a REGISTER is pending
        self._due = math.inf
        self._is_refresh = False
        self._deadline: Deadline | None = None

    def start(self) -> None:
        """Register as soon as it is its turn."""
        self._stack.registrations.add(self)
        self.plan(self._stack.clock.now(), is_refresh=False)

    def refresh(self) -> None:
        """Register now, in place of the next refresh or try."""
        if self._owner.ended:
            return
        if not self._is_pending:
            self.plan(self._stack.clock.now(), is_refresh=True)
        elif self.lane is None:  # it waits for its turn
            self._stack.registrations.ask(self, self.key, is_refresh=True)

    def again(self) -> None:
        """Register in turn, because the registrar may have lost the binding."""
        if not self._owner.ended and not self._is_pending and not self.refused:
            self.plan(self._stack.clock.now(), is_refresh=False)

    # ---- deadlines

    def plan(self, due: float, *, is_refresh: bool) -> None:
        """Plan the next REGISTER.

        Args:
            due: When it is sent, or asks for its turn.
            is_refresh: True if it comes before those that begin anew.
        """
        self._due, self._is_refresh = due, is_refresh
        self._plan_deadline()

    def _plan_deadline(self) -> None:
        """Have expire() called at the next refresh or try, or when the binding ends."""
        due = math.inf
        if not self._owner.ended:
            due = min(self._due, self.expires_at or math.inf)
        deadline = self._deadline
        if deadline is not None:
            if deadline.due <= due < math.inf:
                return  # it comes first, and plans the next one
            deadline.owner = self._deadline = None
            self._stack.deadlines.remove(deadline.due, deadline)  # it may be an hour off
        if due < math.inf:
            self._deadline = Deadline(self, due)
            self._stack.deadlines.add(due, self._deadline)

    def expire(self, now: float) -> None:
        """Register if it is time, and note the end of a binding."""
        if self._owner.ended or self._stack.registrations.is_leaving:
            return
        if self.expires_at is not None and now >= self.expires_at:
            self._stack.registrations.counts["expired"] += 1
            self._owner.note("registration expired", self, "no refresh was accepted", None)
            self._unregistered(self.error)
        if now >= self._due and not self._is_pending:
            self._due = math.inf
            self._is_pending = True
            self._stack.registrations.ask(self, self.key, is_refresh=self._is_refresh)
        self._plan_deadline()

    def _turn(self, now: float) -> None:
        """It is its turn. Sends a REGISTER."""
        # it may have a name to resolve, and this is the hub
        self._stack.callbacks.spawn(self._send, self._owner.expires)

    def _stuck(self, error: Exception) -> None:
        """It waits, because its registrar fails for this reason."""
        if self.error is None and isinstance(error, SIPError):
            self.error = error
            self._owner.update()

    # ---- REGISTER

    def _send(self, expires: int, *, by_flow: bool = False) -> None:
        """Send a REGISTER, whose end is told to answered()."""
        if not self._stack.is_running or (self._owner.ended and expires):
            self._free()
            return
        request = self._owner.template(self)
        self.cseq += 1
        request.cseq = CSeq(self.cseq, "REGISTER")
        request.expires = expires
        given = self._owner.given
        if given is not None:
            request.contact = self._owner.complete(given, self.reg_id)
        tx = self._tx = Register(self, self._stack, request)
        next_hop = self.next_hop
        # RFC 5626 §4.2.2: what refreshes a binding goes over its flow
        self._by_flow = bool(self.reg_id) and self._stack.names.is_usable(self.flow)
        if self._by_flow or by_flow:
            next_hop = self.flow
        keyring = self._owner.keyring
        self._stack.registrations.counts["sent"] += 1
        self._was_bound = self._bound
        try:
            self._stack.sender.send(
                request,
                next_hop,
                user=tx,
                listener=self._owner.listener,
                record_route=self if given is None else None,
                # _learn() takes a 423, because later REGISTERs ask for that time, too
                retry=Retry(
                    self._stack.keyring if keyring is None else keyring, without=(MinExpires,)
                ),
            )
            self._bound = True
        except SIPError as error:
            self.answered(tx, error)
        except Exception as error:  # middleware may raise anything
            self.answered(tx, error)
            self._stack.registrations.complain(self.call_id, error)
        except BaseException:
            self.forget()
            raise

    def write(self, copy: Request, flow: Flow, *, by_flow: bool = False) -> None:
        """Write the Contact for the flow by which a REGISTER leaves."""
        owner = self._owner
        contact = self._stack.names.contact(flow, secure=owner.aor.is_secure)
        uri = contact.uri._replace(user=owner.aor.user)
        if self.seen is not None and not flow.transport.reliable:
            uri = uri._replace(host=self.seen[0], port=self.seen[1])
        ours = owner.complete(contact._replace(uri=uri), self.reg_id)
        former = [each for each in (self.uri, self._tried) if each is not None and each != uri]
        self._tried = uri
        if self.reg_id or not former:
            copy.contact = ours  # a new address of the same flow takes the place of the old one
        else:
            removed = [NameAddr(each).with_params(expires=0) for each in dict.fromkeys(former)]
            copy.contact = (ours, *removed)

    def rewrite(self, copy: Request, before: Flow, flow: Flow) -> None:
        """Write the Contact for another flow."""
        self.write(copy, flow)

    # ---- its end

    def answered(self, tx: Register, event: Response | Exception) -> None:
        """Take the end of a REGISTER."""
        if tx is not self._tx:
            return
        self.cseq = max(self.cseq, tx.request.cseq.number)
        self._free(None if isinstance(event, Response) else event)
        if self._owner.ended:
            return
        if isinstance(event, Response) and event.is_success:
            self._accepted(tx, event)
        elif isinstance(event, Response):
            self._refused(tx, event)
        elif isinstance(event, SIPError):
            self._failed(event)
        else:
            self._failed(TransactionStateError(str(event) or repr(event)))

    def _free(self, error: Exception | None = None) -> None:
        """No REGISTER is pending any more."""
        self._tx = None
        self._is_pending = False
        silent = isinstance(error, (TransactionTimeout, TransportError))
        self._stack.registrations.release(self, error if silent else None)
        if self._idle is not None:
            self._idle.set()

    def _accepted(self, tx: Register, response: Response) -> None:
        found, now = granted(tx.request, response), self._stack.clock.now()
        if not found.seconds:
            error = InvalidValue("the registrar does not list our Contact in its 200")
            self._failed(error, lost=True)
            return
        flow = tx.transaction.flow
        if flow is not self.flow or math.isinf(self._since):
            self.flow, self._since, self._answers = flow, now, None
        if self._answers is None:
            self._answers = flow.keepalives_answered
        flow.keep(found.seconds)  # requests for us come by it, and its end is reported
        table = self._stack.registrations
        table.counts["accepted"] += 1
        table.bind(self, flow)
        self._brief = 0  # the failures are over once the flow has proved itself, see _settle()
        is_new = not self.is_registered
        uri = own_uri(tx.request)
        # one object for equal ones: that of before, or the one that has the user of the account
        uri = next((each for each in (self.uri, self._tried) if each == uri), uri)
        self.uri, self._tried = uri, None
        self.granted, self.address = kept(found, uri), flow.remote[0]
        self.is_registered, self.refused, self.error = True, False, None
        self.expires_at = now + found.seconds
        after = refresh_after(found.seconds, random.random())
        table.spread(self, after)
        due = now if self._has_moved(response, flow) else in_step(now + after, found.seconds)
        self.plan(due, is_refresh=True)
        if is_new:
            reason = f"{response.status} {response.reason}"
            self._owner.note("registered", self, reason, found.seconds)
        self._owner.update()

    def _has_moved(self, response: Response, flow: Flow) -> bool:
        """Take the address at which the first hop sees us (RFC 3581 §4). True if it has to be
        registered."""
        owner = self._owner
        if not owner.public or owner.given is not None or flow.transport.reliable:
            return False
        seen = seen_at(response)
        if seen is None or self.uri is None or seen == (self.uri.host, self.uri.port or 5060):
            self._moves = 0
            return False
        self.seen = seen
        self._moves += 1
        self._stack.names.add_address(*seen)
        self._stack.registrations.counts["address_changed"] += 1
        owner.note("registration address", self, f"the registrar sees {seen[0]}:{seen[1]}", None)
        return self._moves <= MOVES

    def _refused(self, tx: Register, response: Response) -> None:
        status, now = response.status, self._stack.clock.now()
        if status == 423 and self._learn(tx.request, response):
            self.plan(now, is_refresh=True)
            return
        if status == LACKS_OUTBOUND and self.reg_id and not self._owner.is_alive_beside(self):
            # RFC 5626 §4.2.1, §11.6: without reg-id, hence without Outbound
            self.reg_id = 0
            reason = "the first hop lacks outbound support"
            self._owner.note("registration without outbound", self, reason, None)
            self.plan(now, is_refresh=True)
            return
        problem = "" if tx.retry is None else tx.retry.problem
        error: Reject
        if problem:
            error = Unauthorized(status, response.reason, problem=problem, response=response)
        else:
            error = Reject(status, response.reason, response=response)
        try:
            wanted = response.retry_after
        except ParseError:
            wanted = None
        retry_after = None if wanted is None else float(wanted.seconds)
        # §8.1.3.2: an unknown status counts as the x00 of its class
        known = status if status in STATUSES else status // 100 * 100
        self._failed(error, retry_after, refused=known not in _AGAIN_LATER)

    def _learn(self, request: Request, response: Response) -> bool:
        """Take the Min-Expires of a 423 (§10.2.8). False if a new REGISTER would not help."""
        try:
            least, asked = response.min_expires, request.expires
        except ParseError:
            return False
        self._brief += 1
        if least is None or asked is None or not asked < least <= LONGEST_WANTED:
            return False
        if self._brief > TOO_BRIEF:
            return False
        self._owner.expires = max(self._owner.expires, least)
        return True

    def _failed(
        self,
        error: SIPError,
        retry_after: float | None = None,
        *,
        refused: bool = False,
        lost: bool = False,
    ) -> None:
        """Plan the next try (RFC 5626 §4.5). `lost` is true if the registrar has no binding."""
        now, table = self._stack.clock.now(), self._stack.registrations
        table.counts["refused" if refused else "failed"] += 1
        self._settle()
        self._brief = 0
        if retry_after is None and self._by_flow and not isinstance(error, Reject):
            self.flow = None  # it is dead, though nothing has said so
            table.bind(self, None)
            if now - self._since >= STEADY:
                self.error = error
                self._owner.note("registration flow failed", self, str(error), 0.0)
                self.plan(now, is_refresh=False)
                self._owner.update()
                return
        self._failures += 1
        # an account that is refused is not asked often, because registrars ban guessers
        failures = 16 if refused else self._failures
        base = BASE_BESIDE if self._owner.is_alive_beside(self) else BASE
        seconds = pause(failures, random.random(), retry_after, base)
        if retry_after == 0 and self._failures == 1 and not refused:
            seconds = 0.0  # RFC 5626 §4.2.1; a registrar that repeats it has to wait
        self.error, self.refused = error, refused
        self.plan(now + seconds, is_refresh=False)
        self._owner.note("registration failed", self, str(error), seconds)
        if refused:
            self._bound = self._was_bound  # a refused REGISTER binds nothing (§10.3)
        if refused or lost:
            self._unregistered(error)
        else:
            self._owner.update()

    def _unregistered(self, error: SIPError | None) -> None:
        """The registrar has no binding of ours any more."""
        self.is_registered = False
        self.error = error
        self.expires_at = None
        self.granted = NOTHING  # the Service-Route ends with the binding (RFC 3608 §6.1)
        self._stack.registrations.spread(self, 0.0)
        self._plan_deadline()
        self._owner.update()

    # ---- flows and addresses

    def _settle(self) -> None:
        """Count failures from 0 again if the flow that fails now was successful (RFC 5626 §4.5).

        A flow is successful if a REGISTER succeeded and, if keep-alives are in use, one of them was
        answered. So the pause grows each time while keep-alives get no answer.
        """
        flow, before = self.flow, self._answers
        if flow is None or before is None:
            return
        self._answers = None
        if flow.keepalives_answered > before or self.call_id not in self._stack.keepalives:
            self._failures = 0
        else:
            self._since = math.inf

    def _flow_ended(self) -> None:
        """Register by a new flow: at once if the old one was steady (RFC 5626 §4.5)."""
        now = self._stack.clock.now()
        self._settle()
        self.flow = None
        if self._owner.ended or self._is_pending:
            return
        self._stack.registrations.counts["flows_ended"] += 1
        due = now
        if now - self._since < STEADY:
            self._failures += 1
            base = BASE_BESIDE if self._owner.is_alive_beside(self) else BASE
            due += pause(self._failures, random.random(), None, base)
            if not self.reg_id:  # without Outbound the binding may still work
                due = min(due, self._due)
        reason = "the flow has ended"
        self._owner.note("registration flow ended", self, reason, due - now)
        self.plan(due, is_refresh=False)

    def _look(self, addresses: dict[Flow, Address]) -> None:
        """Register again if our own address has changed. `addresses` has those that are known."""
        flow, uri = self.flow, self.uri
        if (
            flow is None or uri is None or self._owner.given is not None or self.seen is not None
            or not self.is_registered or self._is_pending or flow.transport.reliable
        ):  # fmt: skip
            return
        here = addresses.get(flow)
        if here is None:
            here = addresses[flow] = self._stack.names.sent_by(flow)
        if here != (uri.host, uri.port):
            self._stack.registrations.counts["address_changed"] += 1
            reason = f"our address is {here[0]}:{here[1]} now"
            self._owner.note("registration address", self, reason, None)
            self.plan(self._stack.clock.now(), is_refresh=True)

    # ---- the end

    def close(self, timeout: float) -> None:
        """Unregister, and wait for the registrar."""
        stack, now = self._stack, self._stack.clock.now
        deadline = now() + timeout
        self._plan_deadline()
        try:
            # no REGISTER while another one is pending (§10.2)
            if self._is_pending and self.lane is not None:
                self._wait(timeout)
            if self._bound and self._tx is None and stack.is_running:
                self._is_pending = True
                stack.clock.within(max(deadline - now(), 0.0), self._send_last)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave no trace, also after an interrupted close()."""
        self.forget()
        self._stack.registrations.remove(self, self.key)

    def _wait(self, timeout: float | None) -> None:
        idle = self._idle = Event()
        if self._is_pending:
            if timeout is None:
                idle.wait()
            else:
                self._stack.clock.within(timeout, idle.wait)

    def _send_last(self) -> None:
        self._send(0)
        self._wait(None)

    def _stop(self) -> bool:
        """End with the stack: unregister by the flow that exists, and wait for nothing. True if a
        REGISTER was sent."""
        self._owner.stopped()
        self._plan_deadline()
        is_bound = self._bound and self._tx is None and self._stack.names.is_usable(self.flow)
        if is_bound:
            self._is_pending = True
            self._send(0, by_flow=True)
        self.forget()
        return is_bound

    def forget(self) -> None:
        """Let go of the pending REGISTER."""
        tx, self._tx = self._tx, None
        if tx is not None and tx.is_pending:
            tx._abandon()
        self._free()


class Register(ClientTransaction):
    """One REGISTER and its repetitions. Its end is told to the registration, so no greenlet
    waits."""

    __slots__ = ("_registration",)

    def __init__(self, registration: FlowRegistration, stack: Element, request: Request) -> None:
        super().__init__(stack, request)
        self._registration = registration

    @property
    def _is_awaited(self) -> bool:
        return True

    def _deliver(self, event: Response | Exception) -> None:
        if isinstance(event, Exception) or event.status >= 200:
            self._registration.answered(self, event)
