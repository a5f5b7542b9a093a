"""Engine: wires transports to transactions, RFC 3261 §17 and §18; carries out effects. Decides
nothing a table says."""

from __future__ import annotations

import logging
import os
import random
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import gevent

from ..errors import InvalidValue, ParseError, TransactionTimeout, TransportError
from ..message.headers import Headers
from ..message.iana import DIALOG_CREATING, METHODS
from ..message.mandatory import Mandatory, mandatory_of_via
from ..message.message import Request, Response
from ..message.parser import parse
from ..message.uri import bracketed, normal_host
from ..observe.counters import Counters
from ..runtime.clock import Clock
from ..runtime.limits import LARGE, Limits
from ..runtime.rates import TokenBuckets
from ..runtime.workers import Workers
from ..transaction.fsm import NEVER, RECEIVED, SENT, Transaction, client_machine
from ..transaction.keys import acknowledges, client_key, merge_key, quoted_key, server_key
from ..transaction.machines import (
    DELIVER,
    FAIL,
    INVITE_SERVER,
    NON_INVITE_SERVER,
    PROCEEDING,
    RECV_ACK,
    RECV_REQUEST,
    SEND,
    TERMINATED,
    TRANSPORT_ERROR,
    Effects,
)
from ..transaction.timers import Timers
from ..transport.base import Flow, Transport
from .admission import Admission

log = logging.getLogger("sippet_gevent.transport")

# Whose transaction a CANCEL may find (§9.2). One of a method without an RFC is not looked for, and
# its CANCEL gets 481.
_CANCELLED = ("INVITE", *sorted(METHODS.keys() - {"ACK", "CANCEL", "INVITE"}))

_KEPT_FOR = DIALOG_CREATING | {"REGISTER"}
"""What begins a registration or a dialog, with which keep-alives are agreed on (RFC 6223 §4.2)."""

_PLAIN_END = frozenset(("", ";"))  # what follows an rport without value

Accept = Callable[[bytes, Flow], "bool | str"]
"""Says whether a message is taken: True, or False, or the reason why not."""

CRASHES_KEPT = 16
"""Messages that broke us, kept for a look at them in `engine.crashes`."""


class Engine:
    """The floor below the cores: one table of transactions each way, and the way of a message
    through them.

    `serve(request, tx)` runs the core for a new server transaction; with a third argument, the
    request may be a copy of the one that this ServerTransaction serves. `cancel(request, tx)` tells
    that an INVITE was cancelled; `acknowledge(request)` and `stray(response)` take what belongs to
    no transaction; `fail(error, tx)` takes the end of a transaction that nobody waits on;
    `way_back(tx, response)` takes the octets of a response whose flow is gone, and is False when it
    knows no other; `belongs(request)` is True for one within a call, a dialog or a route of ours,
    which limits let pass. The stack sets them.
    """

    serve: Callable[..., None]
    acknowledge: Callable[[Request], bool]
    stray: Callable[[Response], bool]
    fail: Callable[[Exception, Transaction], None]
    way_back: Callable[[Transaction, bytes], bool]
    belongs: Callable[[Request], bool]

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        timers: Timers | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.timers = timers or Timers()
        self.limits = limits or Limits()
        self.counters = Counters(log, self.clock)
        self.accept: Accept | None = None
        self.transports: list[Transport] = []
        self.servers: dict[str, Transaction] = {}
        self.clients: dict[str, Transaction] = {}
        self.merged: dict[int, str] = {}
        self.admission = Admission(self.limits, self.timers, self.clock, self.counters)
        self.workers = Workers(
            self.receive,
            crashed=self._crashed,
            yielded=self._yielded,
            ended=self.admission.leave,
            lines=self.counters.lines,
        )
        self.crashes: deque[tuple[bytes, str]] = deque(maxlen=CRASHES_KEPT)
        self.draining = False
        self.detect_merged = True
        self.secret = os.urandom(16)
        self._now = self.clock.now
        self._deadlines = self.clock.deadlines(self._due)
        self._errors = TokenBuckets(
            self.limits.errors_per_second, self.limits.errors_burst, self.limits.sources
        )

    # ---- from the wire

    def _receive_accepted(self, data: bytes, flow: Flow) -> None:
        """Ask the filter, in the hub, and give the message to a worker, or drop and count it.

        A filter that raises has its message taken, as if there were no filter: what stands behind
        it holds against any octets, and who finds those that break it must not be able to close the
        server for others.
        """
        verdict: bool | str = True
        try:
            verdict = self.accept(data, flow)  # type: ignore[misc]
        except Exception as error:  # it is the user's, and the reader goes on whatever it does
            self.counters.filter_errors += 1
            self.counters.error(
                "filter failed",
                self._now(),
                "the filter failed at a message from %s, which is taken",
                flow,
                exc_info=error,
            )
        if verdict and not isinstance(verdict, str):
            self.workers.run(data, flow)
        else:
            self.counters.received += 1
            self.counters.filter(verdict if isinstance(verdict, str) else "")

    def receive(self, data: bytes, flow: Flow) -> None:
        """Carry one whole message to where it belongs. Runs in a greenlet of the message's own."""
        self.counters.received += 1
        try:
            message = parse(data, self.limits.parser)
        except ParseError as error:
            if data.strip(b"\r\n\0 "):
                self._refuse(error, data, flow)
            else:
                # RFC 5626 §3.5.1, and the zero octets of some phones: no line for each
                self.counters.drop("keepalive")
            return
        message.flow = flow
        if type(message) is Request:
            self._receive_request(message, flow, len(data))
        else:
            self._receive_response(message, flow)  # type: ignore[arg-type]

    def _receive_request(self, request: Request, flow: Flow, octets: int) -> None:
        mandatory = request.mandatory
        reply = self._note_source(request, mandatory, flow)
        method = mandatory.method
        key = mandatory.key or server_key(request)
        tx = self.servers.get(key)
        if tx is not None and (method != "ACK" or acknowledges(request, tx.last)):
            if (
                flow is not tx.flow
                and flow.remote[0] == tx.flow.remote[0]
                and not tx.flow.is_alive()
            ):
                self.move(tx, reply)  # repeated by a new connection, which takes the answer
            effects = tx.handle(RECV_ACK if method == "ACK" else RECV_REQUEST, self._now(), request)
            if effects and effects[0][0] is DELIVER:
                self.counters.delivered += 1
            else:
                self.counters.absorbed += 1
            self.drive(tx, effects)
        elif method == "ACK":
            if mandatory.to_tag is not None and mandatory.to_tag == self._stateless_tag(request):
                self.counters.absorbed += 1  # to an answer of ours that left no transaction
            else:
                self.counters.delivered += 1  # now: its core may be killed
                if not self.acknowledge(request):
                    self.counters.delivered -= 1
                    self.counters.drop(
                        "stray ACK", flow, request.headers.get("Call-ID"), self._now()
                    )
        elif method == "CANCEL":
            self._receive_cancel(request, key, reply)
        else:
            merge = merge_key(request) if mandatory.to_tag is None and self.detect_merged else None
            if (
                merge in self.merged
                or self.draining
                or not self.admission.is_open
                or octets > LARGE
                or len(self.servers) + len(self.clients) >= self.limits.transactions
            ):
                refusal = self._refusal(request, mandatory, merge, key, octets)
                if refusal is not None:
                    self.answer(reply, refusal)
                    return
                first = self.servers.get(self.merged.get(merge, ""))  # type: ignore[arg-type]
                if first is not None:
                    self.counters.delivered += 1
                    tx = self._new_server(request, key, reply, method == "INVITE")
                    if octets > LARGE:
                        self.admission.weigh(tx, octets)
                    self.serve(request, tx, first.user)
                    return
            self.counters.delivered += 1
            if method in _KEPT_FOR:
                _grant_keep(request, flow)
            tx = self._new_server(request, key, reply, method == "INVITE")
            if octets > LARGE:
                self.admission.weigh(tx, octets)
            if merge is not None:
                tx.merge = merge
                self.merged[merge] = key
            try:
                self.serve(request, tx)
            except BaseException:
                # a fault before its core runs leaves no transaction without its deadline
                self._plan(tx)
                raise

    def _new_server(self, request: Request, key: str, flow: Flow, is_invite: bool) -> Transaction:
        """Start a server transaction. Its first deadline is kept from when its greenlet yields, or
        it is driven."""
        machine = INVITE_SERVER if is_invite else NON_INVITE_SERVER
        tx = Transaction(
            machine, key, request, reliable=flow.transport.reliable, timers=self.timers
        )
        tx.flow = flow
        self.servers[key] = tx
        if flow.transactions is not None:
            flow.transactions.add(tx)
        tx.start(self._now())
        return tx

    def _yielded(self, worker: Any) -> None:
        """A core waits: from now on its transaction's timers count, the 100 of an INVITE first."""
        serving = worker.serving
        if serving is not None:
            self.admission.enter(worker, serving)
            if serving.transaction is not None:
                self._plan(serving.transaction)

    def _refusal(
        self, request: Request, mandatory: Mandatory, merge: int | None, key: str, octets: int
    ) -> Response | None:
        """Return the answer that makes a transaction needless, None when the request is served
        after all.

        That is 482 to a copy of a request being served (§8.2.2.2), and 503 while the stack drains
        or a limit is reached. A proxy refuses no copies (§16.3). A copy of a request whose core may
        still forward it waits until that is known.
        """
        first = self.servers.get(self.merged.get(merge, ""))  # type: ignore[arg-type]
        if first is not None and (first.user is None or first.user.is_decided):
            request.use_to_tag(self._stateless_tag(request))
            return request.response(482, "Request Merged")
        retry_after = self.admission.refused_lately(key)
        if retry_after is None:
            if self.draining:
                limit = None if mandatory.to_tag is not None else "draining"
            else:
                transactions = len(self.servers) + len(self.clients)
                limit = self.admission.limit_reached(
                    transactions, lambda: self.belongs(request), request.method, octets
                )
            if limit is None:
                return None
            self.admission.refuse(limit, request)
            retry_after = random.randint(*self.limits.retry_after)
            self.admission.remember(key, retry_after)
        request.use_to_tag(self._stateless_tag(request))
        return request.response(503, retry_after=retry_after)

    def _receive_cancel(self, cancel: Request, key: str, flow: Flow) -> None:
        """A CANCEL belongs to the request with its branch and sent-by, come from the same address.
        It ends an INVITE (§9.2)."""
        found = (self.servers.get(server_key(cancel, method)) for method in _CANCELLED)
        tx = next(filter(None, found), None)
        if tx is None or tx.flow.origin != flow.origin or tx.flow.remote[0] != flow.remote[0]:
            cancel.use_to_tag(self._stateless_tag(cancel))
            self.answer(flow, cancel.response(481))
            return
        user = tx.user
        tag = _tag_sent(tx) or (user.request.to_tag if user is not None else None)
        if tag is not None:
            cancel.use_to_tag(tag)  # that of the request's own responses (§9.2)
        if len(self.servers) + len(self.clients) < self.limits.transactions:
            self.counters.answered += 1
            self.respond(self._new_server(cancel, key, flow, False), cancel.response(200))
        else:
            self.answer(flow, cancel.response(200))
        if user is not None and tx.machine is INVITE_SERVER and tx.state is PROCEEDING:
            user.cancel(cancel)

    def _receive_response(self, response: Response, flow: Flow) -> None:
        tx = self.clients.get(client_key(response) or "")
        now = self._now()
        if tx is None:
            self.counters.delivered += 1
            if not self.stray(response):
                self.counters.delivered -= 1
                self.counters.drop("stray response", flow, response.headers.get("Call-ID"), now)
            return
        if (
            tx.flow.remote[0] != flow.remote[0]
            and not tx.reliable
            and not self.limits.any_response_source
        ):
            self.counters.drop(
                "response from another address", flow, response.headers.get("Call-ID"), now
            )
            return
        if not response.headers.has_one("Via") and _is_misrouted(response, tx):
            self.counters.drop(
                "response with a strange Via", flow, response.headers.get("Call-ID"), now
            )
            return
        effects = tx.handle(RECEIVED[response.status // 100], now, response)  # type: ignore[arg-type]
        if any(kind is DELIVER for kind, _ in effects):
            self.counters.delivered += 1
        else:
            self.counters.absorbed += 1
        self.drive(tx, effects)

    def _note_source(self, request: Request, mandatory: Mandatory, flow: Flow) -> Flow:
        """Write received and rport into the top Via (§18.2.1, RFC 3581 §4); return the flow the
        answers take (§18.2.2)."""
        host, port = flow.remote
        if flow.peer_identity:
            _take_alias(request, flow)
        if mandatory.has_rport:
            headers = request.headers
            at = 0
            while headers.lines[at][0] != "Via":
                at += 1
            head, found, tail = headers.lines[at][2].partition(";rport")
            if (
                found
                and tail[:1] in _PLAIN_END
                and not mandatory.has_received
                and "," not in head
                and '"' not in head
            ):
                headers.set_line(at, f"{head};rport={port};received={host}{tail}")
            else:
                _rewrite_via(headers, received=host, rport=port)
            return flow
        sent_by = mandatory.host
        if mandatory.has_received or (
            sent_by != host and normal_host(sent_by).strip("[]") != normal_host(host).strip("[]")
        ):
            _rewrite_via(request.headers, received=host)
        transport = flow.transport
        answer_port = mandatory.port or transport.default_port
        return flow if transport.reliable or answer_port == port else flow.to_port(answer_port)

    # ---- refusals without a transaction

    def _refuse(self, error: ParseError, data: bytes, flow: Flow) -> None:
        """Answer a broken request by its first lines, where they allow that; drop all else. Both
        are counted."""
        request = error.request
        now = self._now()
        if request is None or request.method == "ACK" or "Via" not in request.headers:
            self.counters.drop(
                "bad response" if data[:4] == b"SIP/" else "bad message", flow, error, now
            )
        elif not self._errors.take(flow.remote[0], now):
            self.counters.drop("too many errors", flow, error, now)
        else:
            self.counters.warn("refused", now, "refused request from %s: %s", flow, error)
            try:
                flow = self._note_source(request, mandatory_of_via(request.headers), flow)
            except ParseError:
                pass  # a Via that cannot be read goes back as it came, to where it came from
            request.use_to_tag(self._stateless_tag(request))
            self.answer(flow, request.response(error.status, _phrase(error)))

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Answer the message that has broken a stream, where its header section allows that; count
        it."""
        self.counters.received += 1
        self._refuse(error, error.value if isinstance(error.value, bytes) else b"", flow)

    def _stateless_tag(self, request: Request) -> str:
        """Return the To tag of answers without a transaction: the same for each repetition of the
        request (§8.2.7)."""
        headers = request.headers
        number = headers.get("CSeq", "").partition(" ")[0]
        text = f"{headers.get('Call-ID')} {headers.get('From')} {number}".encode(
            "utf-8", "surrogateescape"
        )
        return blake2b(text, digest_size=8, key=self.secret).hexdigest()

    def answer(self, flow: Flow, response: Response) -> None:
        """Send a response that no transaction will repeat, and count its request as answered by the
        stack."""
        self.counters.answered += 1
        try:
            flow.send(bytes(response))
        except TransportError as error:
            self.counters.send_errors += 1
            self.counters.warn("send", self._now(), "cannot answer %s: %s", flow, error)

    def _crashed(self, error: BaseException, data: bytes, flow: Flow) -> None:
        """An exception has left a message's greenlet: a core's, which is answered 500, or a fault
        of ours, which is kept."""
        serving = getattr(gevent.getcurrent(), "serving", None)
        if serving is not None:
            self.counters.core_errors += 1
            serving.crashed(error)
            return
        self.crashes.append((data, repr(error)))
        if self.counters.balance > 0:
            self.counters.drop("internal error", flow, repr(error), self._now())
        self.counters.error(
            "crashed", self._now(), "internal error at a message from %s", flow, exc_info=error
        )

    # ---- effects

    def drive(self, tx: Transaction, effects: Effects) -> None:
        """Carry out effects in order; a failed send feeds its error back into the transaction."""
        pending = effects
        try:
            while pending:
                effects, pending = pending, ()
                for kind, payload in effects:
                    if kind is SEND:
                        try:
                            tx.flow.send(payload)
                        except TransportError as error:
                            if not tx.machine.is_client:
                                if self.way_back(tx, payload):
                                    continue
                                self.counters.warn(
                                    "send", self._now(), "cannot answer %s: %s", tx.flow, str(error)
                                )
                            self.counters.send_errors += 1
                            error.flow = tx.flow
                            pending += tx.handle(TRANSPORT_ERROR, self._now(), error)
                    elif kind is DELIVER:
                        if tx.user is not None:
                            tx.user.receive(payload)
                        else:  # an ACK to a 2xx, whose INVITE is answered long since
                            self.acknowledge(payload)
                    elif kind is FAIL:
                        if isinstance(payload, TransactionTimeout):
                            self.counters.timeouts += 1
                            if tx.machine.is_client:
                                tx.flow.withdraw(tx.last)
                        if tx.user is not None:
                            tx.user.fail(payload)
                        else:
                            self.fail(payload, tx)
        finally:  # what a user raises leaves no transaction without its deadline
            self._plan(tx)

    def move(self, tx: Transaction, flow: Flow) -> None:
        """Give a server transaction another flow: what it sends from now on takes that."""
        if tx.state is TERMINATED:
            return
        if tx.flow.transactions is not None:
            tx.flow.transactions.discard(tx)
        tx.flow = flow
        if flow.transactions is not None:
            flow.transactions.add(tx)

    def undelivered(self, tx: Transaction, error: TransportError) -> None:
        """A response has found no way after all; who looked for it has counted that."""
        self.counters.warn("send", self._now(), "cannot answer %s: %s", tx.flow, error)
        if tx.state is not TERMINATED:
            self.drive(tx, tx.handle(TRANSPORT_ERROR, self._now(), error))

    def _plan(self, tx: Transaction) -> None:
        """Throw an ended transaction away, or see that its next deadline is kept."""
        if tx.state is TERMINATED:
            table = self.clients if tx.machine.is_client else self.servers
            if table.get(tx.key) is tx:
                del table[tx.key]
            if tx.merge is not None:
                self.forwarded(tx)
            if self.admission.large:
                self.admission.release(tx)
            if tx.flow.transactions is not None:
                tx.flow.transactions.discard(tx)
            if tx.user is not None:
                tx.user.ended()
                tx.user = None
            tx.request = None
        elif tx.deadline < tx.wake:
            tx.wake = tx.deadline
            self._deadlines.add(tx.deadline, tx)

    def _due(self, now: float, tx: Transaction) -> None:
        if tx.state is TERMINATED:
            return
        if tx.deadline <= now:
            tx.wake = now
            effects = tx.expire(now)
            tx.wake = NEVER
            self.drive(tx, effects)
        elif tx.wake <= now:
            tx.wake = NEVER
            # which it may not have: an INVITE that rings waits for nothing (RFC 6026 figure 5)
            self._plan(tx)

    def flow_ended(self, flow: Flow, error: TransportError) -> None:
        """End the client transactions of a flow that has ended. Responses find another way
        (§18.2.2).

        So may those to an INVITE of ours that rings, which no table ends; who knows that there is
        no other way ends it.
        """
        for tx in [*(flow.transactions or ())]:
            if (
                tx.machine.is_client
                and self.limits.flow_ends_transactions
                and tx.state is not TERMINATED
            ):
                self.drive(tx, tx.handle(TRANSPORT_ERROR, self._now(), error))
                if tx.state is PROCEEDING and tx.user is not None:
                    tx.user.flow_ended(error)

    def unreachable(self, flow: Flow, quote: bytes, error: TransportError) -> str:
        """Tell a client transaction, a little later, that its request has not reached this flow's
        peer (§18.4, §17.1.4).

        Anybody can write an ICMP message: this one must quote the branch of a transaction that
        waits, and have been sent where that has sent its request. Which states wait, the tables
        say: an INVITE that rings does not (RFC 6026 figure 5), for it is not sent any more, and a
        copy refused before says nothing. Other methods go on being sent and do, after a 100, too
        (RFC 3261 figure 6): who has said that is gone. What was refused after the final response,
        nobody waits for. This may be called from within send(), in the midst of other effects:
        hence later.
        """
        key = quoted_key(quote)
        if key is None:
            return "cut"
        tx = self.clients.get(key)
        if (
            tx is None
            or not _waits(tx)
            or tx.flow.transport is not flow.transport
            or tx.flow.remote != flow.remote
        ):
            return "unmatched"
        gevent.get_hub().loop.run_callback(self._not_delivered, tx, error)
        return "told"

    def _not_delivered(self, tx: Transaction, error: TransportError) -> None:
        if _waits(tx):
            self.drive(tx, tx.handle(TRANSPORT_ERROR, self._now(), error))

    # ---- from the cores

    def respond(self, tx: Transaction, response: Response) -> None:
        """Send a response through its server transaction. Raises TransactionStateError when it may
        not be sent now."""
        self.handle(tx, SENT[response.status // 100], response)  # type: ignore[arg-type]

    def forwarded(self, tx: Transaction) -> None:
        """Note that a request is forwarded, so that its copies are, too: only a UAS refuses copies
        (§8.2.2.2)."""
        merge, tx.merge = tx.merge, None
        if merge is not None and self.merged.get(merge) == tx.key:
            del self.merged[merge]

    def handle(self, tx: Transaction, event: str, message: Any = None) -> None:
        """Feed an event of our own to a transaction and carry out what follows."""
        self.drive(tx, tx.handle(event, self._now(), message))

    def request(
        self,
        request: Request,
        flow: Flow,
        user: Any,
        timers: Timers | None = None,
        *,
        data: bytes | None = None,
    ) -> Transaction:
        """Send a request through a new client transaction; `user` takes its responses and its end.

        `data` are its octets, where they are known.
        """
        key = client_key(request)
        if key is None:
            raise InvalidValue(
                "a request needs a Via with a branch of its own before it can be sent (§8.1.1.7)"
            )
        tx = Transaction(
            client_machine(request.method),
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

    def forget(self, tx: Transaction) -> None:
        """End a transaction at once, without a word to anybody. A request that still waits for its
        connection is not sent."""
        if tx.machine.is_client and tx.is_unanswered:
            tx.flow.withdraw(tx.last)
        tx.abandon()
        self._plan(tx)

    # ---- transports

    def listen(self, transport: Transport, address: tuple[str, int]) -> None:
        """Open a transport on an address. Raises TransportError."""
        transport.lines = self.counters.lines
        transport.start(
            address, self.workers.run if self.accept is None else self._receive_accepted, self
        )
        self.transports.append(transport)
        host, port = transport.local
        log.info("started plug %s:%d/%s", bracketed(host), port, transport.name.lower())

    def close(self, transport: Transport) -> None:
        """Close one transport; nothing happens when it is not open."""
        if transport in self.transports:
            self.transports.remove(transport)
            transport.stop()
            host, port = transport.local
            log.info("stopped plug %s:%d/%s", bracketed(host), port, transport.name.lower())

    def stop(self) -> None:
        """Close transports, forget transactions and deadlines, end parked greenlets."""
        for transport in [*self.transports]:
            self.close(transport)
        for tx in [*self.clients.values(), *self.servers.values()]:
            if tx.user is not None and tx.machine.is_client:
                tx.user.fail(TransportError("the stack has stopped"))
            self.forget(tx)
        self._deadlines.stop()
        self.admission.stop()
        self.workers.stop()
        self.counters.lines.stop()


def _waits(tx: Transaction) -> bool:
    """True for a client transaction that has sent its request and has no final response."""
    return tx.is_unanswered and TRANSPORT_ERROR in tx.machine.table[tx.state]


def _tag_sent(tx: Transaction) -> str | None:
    """Return the To tag of the last response of a server transaction; None before the first one
    that has a tag.

    A response that a proxy forwarded has the tag of the callee. The final response outlives the
    request, and its user.
    """
    try:
        return None if tx.last is None else parse(tx.last).to.tag
    except ParseError:
        return None


def _is_misrouted(response: Response, tx: Transaction) -> bool:
    """True for a response with further Vias to a request of ours that had none below it: it SHOULD
    be discarded (§8.1.3.3).

    Not a 2xx to an INVITE: it has our branch and comes from our callee, whose call would be dead
    without an ACK (§13.2.2.4).
    """
    if tx.method == "INVITE" and response.is_success:
        return False
    return tx.request is not None and tx.request.headers.has_one("Via")


def _take_alias(request: Request, flow: Flow) -> None:
    """Tell the transport of a proven peer that offers its connection for requests to it (RFC 5923
    §8.2)."""
    try:
        via = request.headers.top_via
    except ParseError:
        return
    if "alias" in via.parameters:
        flow.transport.take_alias(flow, via.port)


def _grant_keep(request: Request, flow: Flow) -> None:
    """Ask a peer that offers it for keep-alives: in the Via that all responses have (RFC 6223
    §4.4)."""
    seconds = flow.transport.keep_alive_seconds
    if not seconds or (request.mandatory.to_tag is not None and request.method != "REGISTER"):
        return
    if "keep" not in request.headers["Via"]:
        return

    try:
        via = request.headers.top_via
    except ParseError:
        return
    if "keep" in via.parameters and via.parameters["keep"] is None:
        request.headers.top_via = via.with_params(keep=seconds)


def _rewrite_via(headers: Headers, **parameters: object) -> None:
    """Set parameters of the top Via; those below it stay as they came, readable or not."""
    via = headers.top_via
    headers.top_via = via._replace(
        parameters=via.parameters.without("received").replace(parameters)
    )


def _phrase(error: ParseError) -> str:
    """Return a reason phrase that names the fault: 'Missing From', 'Duplicate To', 'CSeq: not a
    number'."""
    words = {"missing": "Missing", "stands twice": "Duplicate"}.get(error.problem)
    if words and error.header:
        return f"{words} {error.header}"
    return f"{error.header}: {error.problem}" if error.header else error.problem.capitalize()
