"""The transaction layer, RFC 3261 §17: keeps the tables of transactions, and carries out the
effects of the state machines.

Every message that a stack sends leaves by TransactionLayer.send().
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import gevent

from ..errors import InvalidValue, TransactionTimeout, TransportError
from ..message.message import Message, Request, Response
from ..message.via import Via
from ..observe.counters import Counters
from ..observe.log_values import Plain, call_id_in
from ..observe.tap import Tap
from ..runtime.clock import LOOK_AGAIN, Clock
from ..runtime.limits import Limits
from ..runtime.rates import source_of
from ..transaction.fsm import NEVER, SENT, client_machine
from ..transaction.keys import client_key, quoted_key
from ..transaction.machines import (
    DELIVER,
    FAIL,
    INVITE_SERVER,
    NON_INVITE_SERVER,
    PROCEEDING,
    SEND,
    TERMINATED,
    TRANSPORT_ERROR,
    Effects,
)
from ..transaction.timers import Timers
from ..transport.base import Flow
from .admission import Admission
from .amplification import Amplification
from .merged import Merged
from .users import ClientRecord, ClientUser, CoreLayer, ServerRecord

log = logging.getLogger("sippet_gevent.transport")


class TransactionLayer:
    """One table of transactions for each direction, and the way of a message out of them.

    Args:
        cores: The core layer, which gets messages that belong to no user.
        clock: The time.
        timers: The lengths of the timers of RFC 3261.
        limits: The limits of transactions, cores and connections.
    """

    def __init__(self, cores: CoreLayer, clock: Clock, timers: Timers, limits: Limits) -> None:
        self.cores = cores
        self.clock = clock
        self.timers = timers
        self.limits = limits
        self.counters = Counters(log, clock)
        self.admission = Admission(limits, timers, clock, self.counters)
        self.amplification = Amplification(limits.unacknowledged)
        """Bounds what is repeated to sources that have never acknowledged anything."""
        self.sources = self.admission.sources
        self.servers: dict[str, ServerRecord] = {}
        self.clients: dict[str, ClientRecord] = {}
        self.merged = Merged(self.servers)
        """Requests whose copies are refused or wait (§8.2.2.2)."""
        self.draining = False
        """True while new requests are refused."""
        self.tap: Tap[Flow] | None = None
        """Called with each message. None without observers."""
        self.secret = os.urandom(16)
        self.controlled: dict[ServerRecord, str] = {}
        """Server transactions whose clients have offered overload control (RFC 7339 §5.1), with the
        parameters in the Via of their request."""
        self.write_feedback: Callable[[Response, str], str] | None = None
        """Writes the present feedback for a host into a response without a transaction, if its
        client has offered overload control."""
        self.renew_feedback: Callable[[Response | bytes, str, str], Response | bytes] | None = None
        """Writes the present feedback for a host into a response to one of those."""
        self.feedback_taken: Callable[[tuple[str, str, int], Via, float], None] | None = None
        """Takes a destination, our Via in its response, and the time, for overload control (RFC
        7339 §5.4). None if that is not asked for."""
        self.serves_statelessly: Callable[[Request], bool] | None = None
        """Tells which requests are served without a transaction. None if none are."""
        self._now = clock.now
        self._deadlines = clock.deadlines(self._due)

    # ---- the way out

    def send(self, flow: Flow, data: bytes, transaction: str | None = None) -> None:
        """Send one whole message. All messages leave here.

        Args:
            flow: The flow to send by.
            data: The message.
            transaction: The key of its transaction, if it has one.

        Raises:
            TransportError: It cannot be sent.
        """
        flow.send(data)
        if self.tap is not None:
            self.tap.tell("out", data, flow, transaction)

    def send_joined(self, flow: Flow, messages: list[bytes]) -> None:
        """Send several whole messages at once by a flow that is a stream. Raises TransportError."""
        flow.send(b"".join(messages))
        if self.tap is not None:
            for data in messages:
                self.tap.tell("out", data, flow, None)

    def answer(self, flow: Flow, response: Response) -> None:
        """Send a response that no transaction will repeat. Its request counts as answered."""
        self.counters.answered += 1
        if self.write_feedback is not None:
            self.write_feedback(response, flow.remote[0])
        try:
            self.send(flow, bytes(response))
        except TransportError as error:
            self.counters.send_errors += 1
            self._warn_unsent(flow, response, error)

    def _warn_unsent(self, flow: Flow, message: Message | bytes | None, problem: object) -> None:
        """Log a response that cannot be sent. `message` is the response or its request."""
        text = 'response not sent: destination=%s call_id=%s reason="%s"'
        if isinstance(message, Message):
            call_id = Plain(message.headers.get("Call-ID"))
        else:
            call_id = call_id_in(message)
        self.counters.warn("send", self._now(), text, flow, call_id, problem)

    # ---- effects

    def drive(self, tx: ClientRecord | ServerRecord, effects: Effects) -> None:
        """Carry out effects in order. The error of a failed send is an event of the transaction."""
        pending = effects
        try:
            while pending:
                effects, pending = pending, ()
                for kind, payload in effects:
                    if kind is SEND:
                        try:
                            self.send(tx.flow, payload, tx.key)
                        except TransportError as error:
                            if isinstance(tx, ServerRecord):
                                if self.cores.reroute(tx, payload):
                                    continue
                                self._warn_unsent(tx.flow, payload, Plain(str(error)))
                            self.counters.send_errors += 1
                            error.flow = tx.flow
                            pending += tx.handle(TRANSPORT_ERROR, self._now(), error)
                    elif kind is DELIVER:
                        if tx.user is not None:
                            tx.user.receive(payload)
                        else:  # the ACK to a 2xx: the INVITE has been answered, and has no user
                            self.cores.acknowledge(payload)
                    elif kind is FAIL:
                        if isinstance(payload, TransactionTimeout):
                            self.counters.timeouts += 1
                            if tx.machine.is_client:
                                tx.flow.withdraw(tx.last)
                        if tx.user is not None:
                            tx.user.fail(payload)
                        else:
                            self.cores.fail(payload, tx)
        finally:  # an exception of a user must not cost the transaction its deadline
            if tx.state is TERMINATED:
                self._drop(tx)
            elif tx.deadline < tx.wake:
                tx.wake = tx.deadline
                if tx.state is PROCEEDING:  # it may end long before its deadline
                    tx.wake = min(tx.wake, self._now() + LOOK_AGAIN)
                self._deadlines.add(tx.wake, tx, coarse=True)

    def plan(self, tx: ClientRecord | ServerRecord) -> None:
        """Drop a transaction that has ended, or make sure that its next deadline is kept."""
        if tx.state is TERMINATED:
            self._drop(tx)
        elif tx.deadline < tx.wake:
            tx.wake = tx.deadline
            if tx.state is PROCEEDING:  # as in drive()
                tx.wake = min(tx.wake, self._now() + LOOK_AGAIN)
            self._deadlines.add(tx.wake, tx, coarse=True)

    def _drop(self, tx: ClientRecord | ServerRecord) -> None:
        if isinstance(tx, ServerRecord):
            if self.servers.get(tx.key) is tx:
                del self.servers[tx.key]
                self.sources.transactions[tx.source] -= 1
            if tx.merge is not None:
                self.merged.forget(tx)
        elif self.clients.get(tx.key) is tx:
            del self.clients[tx.key]
        if self.controlled:
            self.controlled.pop(tx, None)  # type: ignore[arg-type]
        if self.admission.large:
            self.admission.release(tx)
        if self.amplification.repeated:
            self.amplification.repeated.pop(tx, None)
        if tx.flow.transactions is not None:
            tx.flow.transactions.discard(tx)
        if tx.user is not None:
            tx.user.ended()
            tx.user = None
        tx.request = None

    def _due(self, now: float, tx: ClientRecord | ServerRecord) -> None:
        if tx.state is TERMINATED:
            return
        if tx.deadline <= now:
            tx.wake = now
            effects = tx.expire(now)
            tx.wake = NEVER
            if (
                effects
                and effects[0][0] is SEND
                and not self.amplification.may_resend(tx, tx.flow.remote[0], effects[0][1])
            ):
                effects = effects[1:]
            self.drive(tx, effects)
        elif tx.wake <= now:
            tx.wake = NEVER
            # a ringing INVITE has no deadline (RFC 6026 figure 5)
            self.plan(tx)

    # ---- transactions

    def handle(
        self,
        tx: ClientRecord | ServerRecord,
        event: str,
        message: Response | bytes | None = None,
    ) -> None:
        """Feed an event of our own to a transaction and carry out the effects."""
        if self.controlled and tx in self.controlled and message and self.renew_feedback:
            message = self.renew_feedback(message, self.controlled[tx], tx.flow.remote[0])
        self.drive(tx, tx.handle(event, self._now(), message))

    def respond(self, tx: ServerRecord, response: Response) -> None:
        """Send a response through its server transaction. Raises TransactionStateError when it may
        not be sent now."""
        self.handle(tx, SENT[response.status // 100], response)  # type: ignore[arg-type]

    def request(
        self,
        request: Request,
        flow: Flow,
        user: ClientUser,
        timers: Timers | None = None,
        *,
        data: bytes | None = None,
        key: str | None = None,
    ) -> ClientRecord:
        """Send a request through a new client transaction.

        Args:
            request: The request. Its top Via has a branch of its own.
            flow: Where it goes.
            user: Takes the responses and the end of the transaction.
            timers: Those of the layer by default.
            data: The bytes of the request, if they are known.
            key: The key of its transaction, if it is known.

        Raises:
            InvalidValue: The request has no branch.
        """
        if key is None:
            key = client_key(request)
        if key is None:
            raise InvalidValue(
                "a request needs a Via with a branch of its own before it can be sent (§8.1.1.7)"
            )
        tx = ClientRecord(
            client_machine(request._method),
            key,
            request,
            reliable=flow.transport.reliable,
            timers=timers or self.timers,
        )
        tx.last = data
        tx.flow = flow
        tx.user = user
        user.transaction = tx
        self.clients[key] = tx
        if flow.transactions is not None:
            flow.transactions.add(tx)
        self.drive(tx, tx.start(self._now()))
        return tx

    def new_server(self, request: Request, key: str, flow: Flow, is_invite: bool) -> ServerRecord:
        """Start a server transaction. Its first deadline is kept from when its greenlet yields, or
        when the transaction is driven."""
        machine = INVITE_SERVER if is_invite else NON_INVITE_SERVER
        tx = ServerRecord(
            machine, key, request, reliable=flow.transport.reliable, timers=self.timers
        )
        tx.flow = flow
        self.servers[key] = tx
        host = flow.remote[0]
        source = tx.source = source_of(host) if ":" in host else host
        counts = self.sources.transactions
        has = counts.get(source)
        if has is None:
            self.sources.begin(source)
        else:
            counts[source] = has + 1
        if flow.transactions is not None:
            flow.transactions.add(tx)
        tx.begin(self._now())
        return tx

    def forget(self, tx: ClientRecord | ServerRecord) -> None:
        """End a transaction at once without telling its user. A request that still waits for its
        connection is not sent."""
        if tx.machine.is_client and tx.is_unanswered:
            tx.flow.withdraw(tx.last)
        tx.abandon()
        self.plan(tx)

    def move(self, tx: ServerRecord, flow: Flow) -> None:
        """Give a server transaction another flow, by which its responses leave from now on."""
        if tx.state is TERMINATED:
            return
        if tx.flow.transactions is not None:
            tx.flow.transactions.discard(tx)
        tx.flow = flow
        if flow.transactions is not None:
            flow.transactions.add(tx)

    # ---- ends of flows

    def undelivered(self, tx: ServerRecord, error: TransportError) -> None:
        """Fail a response that has found no other way. The caller has counted the send error."""
        self._warn_unsent(tx.flow, tx.last, error)
        if tx.state is not TERMINATED:
            self.drive(tx, tx.handle(TRANSPORT_ERROR, self._now(), error))

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        """End the client transactions of a flow that has ended. Responses find another way
        (§18.2.2).

        A ringing INVITE of ours stays, because its responses may find another way, too. Its user
        ends it if it knows that there is none.
        """
        for tx in [*(flow.transactions or ())]:
            if (
                isinstance(tx, ClientRecord)
                and self.limits.flow_ends_transactions
                and tx.state is not TERMINATED
            ):
                self.drive(tx, tx.handle(TRANSPORT_ERROR, self._now(), error))
                if tx.state is PROCEEDING and tx.user is not None:
                    tx.user.flow_ended(error)

    def unreachable(
        self, flow: Flow, quote: bytes, error: TransportError, *, ends_flow: bool = False
    ) -> str:
        """Tell a client transaction that its request has not reached the flow's peer (§18.4,
        §17.1.4).

        An error fails only the request that it quotes. Other requests to the same peer get errors
        of their own if its port is still closed. Later ones may reach a phone that has started
        again.

        Anybody can write an ICMP message. So this one must quote the branch of a transaction that
        waits, and name the address to which the transaction has sent its request. The tables say
        which states wait. An INVITE that rings does not (RFC 6026 figure 5). It is not sent any
        more, so the error is about an earlier copy. A request of another method is still repeated
        after a 100 (RFC 3261 figure 6), so its peer was there and is gone. After the final response
        nothing waits.

        If the error is a hard one, its flow has ended as well, for all bindings and registrations
        (RFC 5626 §7). One error is enough, because the branch proves that the message has come from
        the way to the peer, and the peer's host says that the port is closed. A phone that starts
        again soon registers again, and requests cannot reach it until then. An error about a copy
        that was sent before the latest REGISTER by the flow ends the request, and not the flow.

        This may be called from within send(), between two effects. So the transaction is told from
        a callback of the loop.

        Returns:
            A counter's name: "matched", "unmatched", or "truncated" if the quote is too short.
        """
        key = quoted_key(quote)
        if key is None:
            return "truncated"
        tx = self.clients.get(key)
        if (
            tx is None
            or not _waits(tx)
            or tx.flow.transport is not flow.transport
            or tx.flow.remote != flow.remote
        ):
            return "unmatched"
        gevent.get_hub().loop.run_callback(self._not_delivered, tx, error, ends_flow)
        return "matched"

    def _not_delivered(self, tx: ClientRecord, error: TransportError, ends_flow: bool) -> None:
        if _waits(tx):
            if ends_flow and not tx.flow.is_kept_since(tx.sent_at):
                # first, so that a REGISTER which fails by it is not repeated at once
                self.flow_ended(tx.flow, error)
            self.drive(tx, tx.handle(TRANSPORT_ERROR, self._now(), error))

    def stop(self) -> None:
        """Forget all transactions and deadlines."""
        for client in [*self.clients.values()]:
            if client.user is not None:
                client.user.fail(TransportError("the stack has stopped"))
            self.forget(client)
        for server in [*self.servers.values()]:
            self.forget(server)
        self._deadlines.stop()


def _waits(tx: ClientRecord) -> bool:
    """True for a client transaction that has sent its request and has no final response."""
    return tx.is_unanswered and TRANSPORT_ERROR in tx.machine.table[tx.state]
