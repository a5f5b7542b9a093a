"""Ingress: the way of a received message to its transaction or core, RFC 3261 §8.2 and §17.2.

Every message that a stack receives enters by Ingress.receive(). Files beside this one have the
parts: received_rport.py, cancel.py, merged.py, keep.py, and stateless.py for what is answered or
dropped without a transaction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import gevent

from ..errors import ParseError
from ..message.mandatory import Mandatory
from ..message.message import Request, Response
from ..message.parser import parse
from ..message.peek import compiled_key
from ..observe.log_values import Plain
from ..runtime.limits import LARGE
from ..runtime.workers import Worker, Workers
from ..transaction.fsm import RECEIVED
from ..transaction.keys import acknowledges, client_key, server_key
from ..transaction.machines import ACCEPTED, DELIVER, RECV_ACK, RECV_REQUEST, TERMINATED
from ..transport.base import Flow, Receive
from .cancel import receive_cancel
from .feedback import may_have_feedback, take_feedback
from .keep import KEPT_FOR, grant_keep
from .layer import TransactionLayer
from .merged import merge_key, refusal_of_copy
from .overload import Overload
from .received_rport import note_source
from .stateless import TAG_LENGTH, Stateless, bad
from .users import ClientRecord, ServerRecord

Accept = Callable[[bytes, Flow], "bool | str"]
"""A filter of messages. It returns True to accept the message, or False or a reason as text to drop
it."""

CRASHES_KEPT = 16
"""Messages that caused an internal error, kept for debugging in `crashes`."""

OUT_OF_MEMORY = "out_of_memory"
"""Reason of messages that were dropped because the process could get no memory for them."""


class Ingress:
    """Carries each received message to its transaction or core, in a greenlet of its own."""

    def __init__(self, layer: TransactionLayer) -> None:
        self.accept: Accept | None = None
        """The filter that is called for each message before it is parsed."""
        self.crashes: deque[tuple[bytes, str]] = deque(maxlen=CRASHES_KEPT)
        """Messages that caused an internal error, with the error."""
        self._layer = layer
        self._counters = layer.counters
        self.limits = layer.limits
        """The limits of messages and transactions."""
        self._admission = layer.admission
        self._servers = layer.servers
        self._clients = layer.clients
        self._merged = layer.merged.keys
        self._amplification = layer.amplification
        self._acknowledged = layer.amplification.acknowledged
        self._repeated = layer.amplification.repeated
        self._now = layer.clock.now
        self.stateless = Stateless(layer)
        """Answers requests without a transaction."""
        self.workers = Workers(
            self.receive,
            crashed=self._crashed,
            yielded=self._yielded,
            ended=layer.admission.leave,
            lines=layer.counters.lines,
            clock=layer.clock,
        )
        self.overload = Overload(
            layer,
            serve=self.workers.run,
            repeat=self._receive_copy,
            refuse=self.stateless.refuse_overload,
            sends=self.stateless.send_joined,
            crashed=self._crashed,
        )
        """Sorts messages while more arrive than can be served."""

    def entrance(self, *, sorts: bool = False) -> Receive:
        """Return the callable that a transport calls with each message, in the hub.

        Args:
            sorts: True for connections while the stack is overloaded. Their messages are sorted in
                the hub then, because most of them need no greenlet.
        """
        if sorts:
            take = partial(self.overload.take, is_measured=False)
            return take if self.accept is None else partial(self._receive_accepted, accepted=take)
        return self.workers.run if self.accept is None else self._receive_accepted

    def waited(
        self, source: object, seconds: float, *, stands: bool, dropped: bool
    ) -> Receive | None:
        """Return the callable that takes messages instead of entrance(), while the stack is
        overloaded."""
        take = self.overload.waited(source, seconds, stands=stands, dropped=dropped)
        return take if take is None or self.accept is None else self._take_accepted

    def is_noise(self, data: bytes, flow: Flow) -> bool:
        """Count and drop a datagram without a line break, in the hub, while so many arrive that no
        log line tells of it. False if it must be taken as a message."""
        counters = self._counters
        reason = bad(data)
        if (
            self.accept is not None  # the filter sees each
            or self._layer.tap is not None
            or not data.strip(b"\0 ")  # receive() knows keep-alives
            or not counters.lines.leaves_out(reason, self._now())
        ):
            return False
        counters.received += 1
        counters.dropped[reason] = counters.dropped.get(reason, 0) + 1
        return True

    def _take_accepted(self, data: bytes, flow: Flow) -> None:
        self._receive_accepted(data, flow, self.overload.take)

    def _receive_accepted(self, data: bytes, flow: Flow, accepted: Receive | None = None) -> None:
        """Ask the filter, in the hub. Give the message to a worker or to `accepted`, or drop and
        count it.

        If the filter raises, the message is taken as if there were no filter. The library survives
        any bytes without a filter, and a filter that raises must not stop it.
        """
        verdict: bool | str = True
        try:
            verdict = self.accept(data, flow)  # type: ignore[misc]
        except Exception as error:  # the filter belongs to the application, and reading continues
            self._counters.filter_errors += 1
            self._counters.error(
                "filter failed",
                self._now(),
                'filter failed: source=%s reason="it raised, so the message is accepted"',
                flow,
                exc_info=error,
            )
        if verdict and not isinstance(verdict, str):
            (accepted or self.workers.run)(data, flow)
        else:
            self._counters.received += 1
            if self._layer.tap is not None:
                self._layer.tap.tell("in", data, flow, None)
            self._counters.filter(verdict if isinstance(verdict, str) else "")

    def receive(self, data: bytes, flow: Flow) -> None:
        """Bring one whole message to its transaction or core. Runs in a greenlet of its own."""
        overload = self.overload
        if overload.sorts and overload.set_aside(data, flow):
            return
        self._counters.received += 1
        if compiled_key is not None:
            tx = self._servers.get(compiled_key(data))  # type: ignore[arg-type]
            if tx is not None and not tx.reliable:
                is_ack = data[:4] == b"ACK "
                # the first ACK of a host is read, because its tag proves the source
                if not is_ack or (
                    tx.state is not ACCEPTED and tx.flow.remote[0] in self._acknowledged
                ):
                    self._receive_copy(tx, RECV_ACK if is_ack else RECV_REQUEST, data, flow)
                    return
        message: Request | Response
        try:
            if overload.parsed is not None and overload.parsed[0] is data:
                message, overload.parsed = overload.parsed[1], None
            else:
                message = parse(data, self.limits.parser)
        except ParseError as error:
            if self._layer.tap is not None:
                self._layer.tap.tell("in", data, flow, None)
            if data.strip(b"\r\n\0 "):
                self.stateless.answer_broken(error, data, flow)
            else:
                self._counters.drop("keepalive")  # RFC 5626 §3.5.1, and zero bytes of some phones
            return
        message.flow = flow
        if self._layer.tap is not None:
            key = server_key(message) if isinstance(message, Request) else client_key(message)
            self._layer.tap.tell("in", data, flow, key)
        if type(message) is Request:
            size = len(data)
            del data  # its core may wait, and must not keep the bytes
            self._receive_request(message, flow, size)
        else:
            self._receive_response(message, flow)  # type: ignore[arg-type]

    # ---- requests

    def _receive_copy(self, tx: ServerRecord, event: str, data: bytes, flow: Flow) -> None:
        """Take a retransmission, or the ACK to a refusal, which its branch has shown before it was
        parsed (§17.2.3). The transaction needs nothing of it but the event."""
        if self._layer.tap is not None:
            self._layer.tap.tell("in", data, flow, tx.key)
        self._counters.absorbed += 1
        effects = tx.handle(event, self._now())
        if effects:
            self._layer.drive(tx, effects)
        elif tx.state is TERMINATED or tx.deadline < tx.wake:
            self._layer.plan(tx)

    def _receive_request(self, request: Request, flow: Flow, size: int) -> None:
        mandatory = request.mandatory
        reply = note_source(request, mandatory, flow)
        method = mandatory.method
        key = mandatory.key or server_key(request)
        tx = self._servers.get(key)
        if tx is not None and (method != "ACK" or acknowledges(request, tx.last)):
            if (
                flow is not tx.flow
                and flow.remote[0] == tx.flow.remote[0]
                and not tx.flow.is_alive()
            ):
                self._layer.move(tx, reply)  # repeated by a new connection
            if method == "ACK" and tx.flow.remote[0] not in self._acknowledged:
                self._amplification.take_ack(tx, tx.flow.remote[0], request)
            effects = tx.handle(RECV_ACK if method == "ACK" else RECV_REQUEST, self._now(), request)
            if effects and effects[0][0] is DELIVER:
                self._counters.delivered += 1
            else:
                self._counters.absorbed += 1
            self._layer.drive(tx, effects)
        elif (
            self._layer.serves_statelessly is not None
            and (method == "ACK" or method == "CANCEL")
            and self._layer.serves_statelessly(request)
        ):
            # the proxy knows nothing of the request that they belong to (§16.10, §16.11)
            self._counters.delivered += 1
            self._layer.cores.serve_stateless(request, reply)
        elif method == "ACK":
            self._receive_ack(request, mandatory, flow)
        elif method == "CANCEL":
            receive_cancel(self._layer, self.stateless, request, key, reply)
        else:
            layer = self._layer
            admission, lately = self._admission, self._admission.lately
            core = merge = first = None
            is_new = mandatory.to_tag is None
            if not is_new or method == "BYE":
                core = layer.cores.core_within(request)
                if core is None:
                    self.stateless.refuse_stranger(request, reply)
                    return
            if is_new:
                merge = merge_key(request)
            if (
                merge in self._merged
                or layer.draining
                or not admission.is_open
                # while Overload sorts, it has let this request pass
                or (admission.is_overloaded and not self.overload.is_active)
                or (lately.keys and (hash(key) in lately.keys or hash(key) in lately.before))
                or size > LARGE
                or len(self._servers) + len(self._clients) >= admission.crowded
            ):
                first = layer.merged.first(merge)
                refusal = self._refusal(request, first, key, size)
                if refusal is not None:
                    layer.answer(reply, refusal)
                    return
            self._counters.delivered += 1
            if first is None and (
                layer.serves_statelessly is not None and layer.serves_statelessly(request)
            ):
                layer.cores.serve_stateless(request, reply)
                return
            feedback = ""
            text = request.headers.fields["Via"]
            if may_have_feedback(text if type(text) is str else text[0]):
                feedback = self.stateless.feedback.write(request, flow.remote[0])
            if method in KEPT_FOR:
                grant_keep(request, flow)
            tx = layer.new_server(request, key, reply, method == "INVITE")
            if feedback:
                layer.controlled[tx] = feedback
            if size > LARGE:
                self._admission.weigh(tx, size)
            del text, size  # its core may wait, and this frame with it
            if merge is not None and first is None:
                tx.merge = merge
                self._merged[merge] = key
            try:
                layer.cores.serve(request, tx, None if first is None else first.user, core)
            except BaseException:
                layer.plan(tx)  # a fault before its core runs must not cost the deadline
                raise

    def _receive_ack(self, ack: Request, mandatory: Mandatory, flow: Flow) -> None:
        """Take an ACK that belongs to no transaction. It is for a 2xx, or for an answer without a
        transaction."""
        tag = mandatory.to_tag
        if tag is not None and len(tag) == TAG_LENGTH and tag == self.stateless.tag(ack):
            self._counters.absorbed += 1
            return
        self._counters.delivered += 1  # before its core runs, which may be killed
        if not self._layer.cores.acknowledge(ack):
            self._counters.delivered -= 1
            self._counters.drop("stray_ack", flow, self._now(), ack)

    # ---- responses

    def _receive_response(self, response: Response, flow: Flow) -> None:
        e = response.mandatory
        key = client_key(response) if e is None or e.method == "ACK" else e.key
        tx = self._clients.get(key or "")
        now = self._now()
        if tx is None:
            self._counters.delivered += 1
            if not self._layer.cores.stray(response):
                self._counters.delivered -= 1
                self._counters.drop("stray_response", flow, now, response)
            return
        if (
            tx.flow.remote[0] != flow.remote[0]
            and not tx.reliable
            and not self.limits.any_response_source
        ):
            self._counters.drop("response_source_mismatch", flow, now, response)
            return
        if self._repeated and flow.remote[0] not in self._acknowledged:
            self._amplification.acknowledge(flow.remote[0])
        via = response.headers.fields.get("Via")
        if (type(via) is not str or "," in via) and _is_misrouted(response, tx):
            self._counters.drop("response_via_mismatch", flow, now, response)
            return
        if self._layer.feedback_taken is not None:
            take_feedback(self._layer, tx.flow, response)
        effects = tx.handle(RECEIVED[response.status // 100], now, response)  # type: ignore[arg-type]
        if effects and (effects[0][0] is DELIVER or effects[-1][0] is DELIVER):
            self._counters.delivered += 1
        else:
            self._counters.absorbed += 1
        self._layer.drive(tx, effects)

    # ---- refusals

    def _refusal(
        self, request: Request, first: ServerRecord | None, key: str, size: int
    ) -> Response | None:
        """Return the answer that makes a transaction needless; None if the request is served.

        That is 482 to a copy of a request that is being served (§8.2.2.2), and 503 while the stack
        drains or a limit is reached.
        """
        layer = self._layer
        refusal = refusal_of_copy(request, first, self.stateless.response)
        if refusal is not None:
            return refusal
        retry_after = self._admission.retry_after(
            request,
            key,
            size,
            len(self._servers) + len(self._clients),
            lambda: layer.cores.belongs(request) or self._admission.priority.has(request),
            is_draining=layer.draining,
        )
        if retry_after is None:
            return None
        return self.stateless.response(request, 503, retry_after=retry_after)

    # ---- greenlets

    def _yielded(self, worker: Worker) -> None:
        """Start the timers of a transaction whose core waits, the 100 of an INVITE first."""
        serving = worker.serving
        if serving is not None:
            worker.data = b""  # an exception of its core is told without them
            self._admission.enter(worker, serving)
            if serving.transaction is not None:
                self._layer.plan(serving.transaction)

    def _crashed(self, error: BaseException, data: bytes, flow: Flow) -> None:
        """Take an exception that has left a message's greenlet. If memory runs out even here, that
        costs this message alone."""
        try:
            self._take_crash(error, data, flow)
        except MemoryError:
            serving = getattr(gevent.getcurrent(), "serving", None)
            if serving is not None and serving.transaction is not None:
                self._layer.plan(serving.transaction)  # its timer answers in time
            if self._counters.balance > 0:
                self._counters.drop(OUT_OF_MEMORY)

    def _take_crash(self, error: BaseException, data: bytes, flow: Flow) -> None:
        """Answer 500 to a core's request. Log and keep an internal error."""
        serving = getattr(gevent.getcurrent(), "serving", None)
        if serving is not None:
            self._counters.core_errors += 1
            serving.crashed(error)
            return
        if isinstance(error, MemoryError):
            if self._counters.balance > 0:
                self._counters.drop(OUT_OF_MEMORY, flow, self._now())
            return
        self.crashes.append((data, repr(error)))
        if self._counters.balance > 0:
            self._counters.drop("internal_error", flow, self._now(), detail=Plain(repr(error)))
        self._counters.error(
            "crashed", self._now(), "internal error: source=%s", flow, exc_info=error
        )


def _is_misrouted(response: Response, tx: ClientRecord) -> bool:
    """True for a response with further Vias to a request of ours that had none below it. It SHOULD
    be discarded (§8.1.3.3).

    A 2xx to an INVITE is taken. It has our branch and comes from our callee, and without an ACK
    that call would be dead (§13.2.2.4).
    """
    # a proxy's branch, in most cases, whose request has several lines
    if tx.request is None or type(tx.request.headers.fields.get("Via")) is list:
        return False
    if tx.method == "INVITE" and response.is_success:
        return False
    return tx.request.headers.has_one("Via") and not response.headers.has_one("Via")
