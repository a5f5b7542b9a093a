"""Ingress: the way of a received message to its transaction or core, RFC 3261 §8.2, §17.2 and
§18.2.

Every message that a stack receives enters by Ingress.receive(). Requests get their `received` and
`rport` here (§18.2.1, RFC 3581 §4), and peers their alias (RFC 5923) and keep-alives (RFC 6223).
What needs no transaction is answered or dropped here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b

import gevent

from ..errors import ParseError
from ..message.headers import Headers
from ..message.iana import DIALOG_CREATING, METHODS
from ..message.mandatory import Mandatory, mandatory_of_via
from ..message.message import Request, Response
from ..message.parser import parse
from ..message.uri import normal_host
from ..runtime.limits import LARGE
from ..runtime.rates import TokenBuckets
from ..runtime.workers import Worker, Workers
from ..transaction.fsm import RECEIVED
from ..transaction.keys import acknowledges, client_key, merge_key, server_key
from ..transaction.machines import DELIVER, INVITE_SERVER, PROCEEDING, RECV_ACK, RECV_REQUEST
from ..transport.base import Flow, Receive
from .layer import TransactionLayer
from .users import ClientRecord, ServerRecord

Accept = Callable[[bytes, Flow], "bool | str"]
"""A filter: says whether a message is taken. True, or False, or the reason why not."""

CRASHES_KEPT = 16
"""Messages that caused an internal error, kept for debugging in `crashes`."""

# Methods whose transactions a CANCEL may find (§9.2). A CANCEL of a method without an RFC gets 481.
_CANCELLED = ("INVITE", *sorted(METHODS.keys() - {"ACK", "CANCEL", "INVITE"}))

_KEPT_FOR = DIALOG_CREATING | {"REGISTER"}
"""Methods that begin a registration or a dialog, which keep-alives are agreed for (RFC 6223
§4.2)."""

_PLAIN_END = frozenset(("", ";"))  # what follows an rport without value


class Ingress:
    """Carries each received message to its transaction or core, in a greenlet of its own."""

    def __init__(self, layer: TransactionLayer) -> None:
        self.accept: Accept | None = None
        """The filter that is asked about each message before it is parsed."""
        self.crashes: deque[tuple[bytes, str]] = deque(maxlen=CRASHES_KEPT)
        """Messages that caused an internal error, with the error."""
        self._layer = layer
        self._counters = layer.counters
        self._limits = layer.limits
        self._admission = layer.admission
        self._servers = layer.servers
        self._clients = layer.clients
        self._merged = layer.merged
        self._now = layer.clock.now
        self._errors = TokenBuckets(
            layer.limits.errors_per_second, layer.limits.errors_burst, layer.limits.sources
        )
        self.workers = Workers(
            self.receive,
            crashed=self._crashed,
            yielded=self._yielded,
            ended=layer.admission.leave,
            lines=layer.counters.lines,
        )

    def entrance(self) -> Receive:
        """Return what a transport calls with each message, in the hub."""
        return self.workers.run if self.accept is None else self._receive_accepted

    def _receive_accepted(self, data: bytes, flow: Flow) -> None:
        """Ask the filter, in the hub. Give the message to a worker, or drop and count it.

        If the filter raises, the message is taken as if there were no filter. The library must
        stand any bytes without one, and a message that breaks the filter must not close the server
        for others.
        """
        verdict: bool | str = True
        try:
            verdict = self.accept(data, flow)  # type: ignore[misc]
        except Exception as error:  # it is the application's, and the reader goes on
            self._counters.filter_errors += 1
            self._counters.error(
                "filter failed",
                self._now(),
                "the filter failed at a message from %s, which is taken",
                flow,
                exc_info=error,
            )
        if verdict and not isinstance(verdict, str):
            self.workers.run(data, flow)
        else:
            self._counters.received += 1
            if self._layer.tap is not None:
                self._layer.tap.tell("in", data, flow, None)
            self._counters.filter(verdict if isinstance(verdict, str) else "")

    def receive(self, data: bytes, flow: Flow) -> None:
        """Carry one whole message to where it belongs. Runs in a greenlet of the message's own."""
        self._counters.received += 1
        try:
            message = parse(data, self._limits.parser)
        except ParseError as error:
            if self._layer.tap is not None:
                self._layer.tap.tell("in", data, flow, None)
            if data.strip(b"\r\n\0 "):
                self._refuse(error, data, flow)
            else:
                self._counters.drop("keepalive")  # RFC 5626 §3.5.1, and zero bytes of some phones
            return
        message.flow = flow
        if self._layer.tap is not None:
            key = server_key(message) if isinstance(message, Request) else client_key(message)
            self._layer.tap.tell("in", data, flow, key)
        if type(message) is Request:
            self._receive_request(message, flow, len(data))
        else:
            self._receive_response(message, flow)  # type: ignore[arg-type]

    # ---- requests

    def _receive_request(self, request: Request, flow: Flow, size: int) -> None:
        mandatory = request.mandatory
        reply = self._note_source(request, mandatory, flow)
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
            effects = tx.handle(RECV_ACK if method == "ACK" else RECV_REQUEST, self._now(), request)
            if effects and effects[0][0] is DELIVER:
                self._counters.delivered += 1
            else:
                self._counters.absorbed += 1
            self._layer.drive(tx, effects)
        elif method == "ACK":
            self._receive_ack(request, mandatory, flow)
        elif method == "CANCEL":
            self._receive_cancel(request, key, reply)
        else:
            layer = self._layer
            merge = merge_key(request) if mandatory.to_tag is None else None
            if (
                merge in self._merged
                or layer.draining
                or not self._admission.is_open
                or size > LARGE
                or len(self._servers) + len(self._clients) >= self._limits.transactions
            ):
                refusal = self._refusal(request, mandatory, merge, key, size)
                if refusal is not None:
                    layer.answer(reply, refusal)
                    return
                first = self._servers.get(self._merged.get(merge, ""))  # type: ignore[arg-type]
                if first is not None:
                    self._counters.delivered += 1
                    tx = layer.new_server(request, key, reply, method == "INVITE")
                    if size > LARGE:
                        self._admission.weigh(tx, size)
                    layer.cores.serve(request, tx, first.user)
                    return
            self._counters.delivered += 1
            if method in _KEPT_FOR:
                _grant_keep(request, flow)
            tx = layer.new_server(request, key, reply, method == "INVITE")
            if size > LARGE:
                self._admission.weigh(tx, size)
            if merge is not None:
                tx.merge = merge
                self._merged[merge] = key
            try:
                layer.cores.serve(request, tx)
            except BaseException:
                layer.plan(tx)  # a fault before its core runs must not cost the deadline
                raise

    def _receive_ack(self, ack: Request, mandatory: Mandatory, flow: Flow) -> None:
        """Take an ACK of no transaction: to a 2xx, or to an answer without a transaction."""
        if mandatory.to_tag is not None and mandatory.to_tag == self._stateless_tag(ack):
            self._counters.absorbed += 1
            return
        self._counters.delivered += 1  # before its core runs, which may be killed
        if not self._layer.cores.acknowledge(ack):
            self._counters.delivered -= 1
            self._counters.drop("stray ACK", flow, ack.headers.get("Call-ID"), self._now())

    def _receive_cancel(self, cancel: Request, key: str, flow: Flow) -> None:
        """Take a CANCEL. It belongs to the request with its branch and sent-by that has come from
        the same address, and ends an INVITE (§9.2)."""
        layer = self._layer
        found = (self._servers.get(server_key(cancel, method)) for method in _CANCELLED)
        tx = next(filter(None, found), None)
        if tx is None or tx.flow.origin != flow.origin or tx.flow.remote[0] != flow.remote[0]:
            cancel.use_to_tag(self._stateless_tag(cancel))
            layer.answer(flow, cancel.response(481))
            return
        user = tx.user
        tag = _tag_sent(tx) or (user.request.to_tag if user is not None else None)
        if tag is not None:
            cancel.use_to_tag(tag)  # that of the request's own responses (§9.2)
        if len(self._servers) + len(self._clients) < self._limits.transactions:
            self._counters.answered += 1
            layer.respond(layer.new_server(cancel, key, flow, False), cancel.response(200))
        else:
            layer.answer(flow, cancel.response(200))
        if user is not None and tx.machine is INVITE_SERVER and tx.state is PROCEEDING:
            user.cancel(cancel)

    def _note_source(self, request: Request, mandatory: Mandatory, flow: Flow) -> Flow:
        """Write received and rport into the top Via (§18.2.1, RFC 3581 §4).

        Returns the flow by which the answers leave (§18.2.2).
        """
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

    # ---- responses

    def _receive_response(self, response: Response, flow: Flow) -> None:
        tx = self._clients.get(client_key(response) or "")
        now = self._now()
        if tx is None:
            self._counters.delivered += 1
            if not self._layer.cores.stray(response):
                self._counters.delivered -= 1
                self._counters.drop("stray response", flow, response.headers.get("Call-ID"), now)
            return
        if (
            tx.flow.remote[0] != flow.remote[0]
            and not tx.reliable
            and not self._limits.any_response_source
        ):
            self._counters.drop(
                "response from another address", flow, response.headers.get("Call-ID"), now
            )
            return
        if not response.headers.has_one("Via") and _is_misrouted(response, tx):
            self._counters.drop(
                "response with a strange Via", flow, response.headers.get("Call-ID"), now
            )
            return
        effects = tx.handle(RECEIVED[response.status // 100], now, response)  # type: ignore[arg-type]
        if any(kind is DELIVER for kind, _ in effects):
            self._counters.delivered += 1
        else:
            self._counters.absorbed += 1
        self._layer.drive(tx, effects)

    # ---- refusals without a transaction

    def _refusal(
        self, request: Request, mandatory: Mandatory, merge: int | None, key: str, size: int
    ) -> Response | None:
        """Return the answer that makes a transaction needless; None if the request is served.

        That is 482 to a copy of a request that is being served (§8.2.2.2), and 503 while the stack
        drains or a limit is reached. A proxy refuses no copies (§16.3). A copy of a request whose
        core may still forward it waits until that is known.
        """
        layer = self._layer
        first = self._servers.get(self._merged.get(merge, ""))  # type: ignore[arg-type]
        if first is not None and (first.user is None or first.user.is_decided):
            request.use_to_tag(self._stateless_tag(request))
            return request.response(482, "Request Merged")
        retry_after = self._admission.retry_after(
            request,
            key,
            size,
            len(self._servers) + len(self._clients),
            lambda: layer.cores.belongs(request),
            is_draining=layer.draining,
        )
        if retry_after is None:
            return None
        request.use_to_tag(self._stateless_tag(request))
        return request.response(503, retry_after=retry_after)

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Answer the message that has broken a stream, if its header section allows that. Count
        it."""
        self._counters.received += 1
        data = error.value if isinstance(error.value, bytes) else b""
        if self._layer.tap is not None:
            self._layer.tap.tell("in", data, flow, None)
        self._refuse(error, data, flow)

    def _refuse(self, error: ParseError, data: bytes, flow: Flow) -> None:
        """Answer a broken request if its first lines allow that; drop everything else."""
        request = error.request
        now = self._now()
        if request is None or request.method == "ACK" or "Via" not in request.headers:
            self._counters.drop(
                "bad response" if data[:4] == b"SIP/" else "bad message", flow, error, now
            )
        elif not self._errors.take(flow.remote[0], now):
            self._counters.drop("too many errors", flow, error, now)
        else:
            self._counters.warn("refused", now, "refused request from %s: %s", flow, error)
            try:
                flow = self._note_source(request, mandatory_of_via(request.headers), flow)
            except ParseError:
                pass  # a Via that cannot be read goes back as it came, to where it came from
            request.use_to_tag(self._stateless_tag(request))
            self._layer.answer(flow, request.response(error.status, _phrase(error)))

    def _stateless_tag(self, request: Request) -> str:
        """Return the To tag of answers without a transaction: the same for each repetition of the
        request (§8.2.7)."""
        headers = request.headers
        number = headers.get("CSeq", "").partition(" ")[0]
        text = f"{headers.get('Call-ID')} {headers.get('From')} {number}".encode(
            "utf-8", "surrogateescape"
        )
        return blake2b(text, digest_size=8, key=self._layer.secret).hexdigest()

    # ---- greenlets

    def _yielded(self, worker: Worker) -> None:
        """Start the timers of a transaction whose core waits, the 100 of an INVITE first."""
        serving = worker.serving
        if serving is not None:
            self._admission.enter(worker, serving)
            if serving.transaction is not None:
                self._layer.plan(serving.transaction)

    def _crashed(self, error: BaseException, data: bytes, flow: Flow) -> None:
        """Take an exception that has left a message's greenlet. A core's request is answered 500;
        an internal error is logged and kept."""
        serving = getattr(gevent.getcurrent(), "serving", None)
        if serving is not None:
            self._counters.core_errors += 1
            serving.crashed(error)
            return
        self.crashes.append((data, repr(error)))
        if self._counters.balance > 0:
            self._counters.drop("internal error", flow, repr(error), self._now())
        self._counters.error(
            "crashed", self._now(), "internal error at a message from %s", flow, exc_info=error
        )


def _tag_sent(tx: ServerRecord) -> str | None:
    """Return the To tag of the last response of a server transaction; None before the first
    response that has one.

    A response that a proxy forwarded has the tag of the callee. The final response outlives the
    request and its user.
    """
    try:
        return None if tx.last is None else parse(tx.last).to.tag
    except ParseError:
        return None


def _is_misrouted(response: Response, tx: ClientRecord) -> bool:
    """True for a response with further Vias to a request of ours that had none below it. It SHOULD
    be discarded (§8.1.3.3).

    A 2xx to an INVITE is taken: it has our branch and comes from our callee, whose call would be
    dead without an ACK (§13.2.2.4).
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
    """Ask a peer that offers it for keep-alives, in the Via that all responses have (RFC 6223
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
    """Set parameters of the top Via. Those below it remain as they came, readable or not."""
    via = headers.top_via
    headers.top_via = via._replace(
        parameters=via.parameters.without("received").replace(parameters)
    )


def _phrase(error: ParseError) -> str:
    """Return a reason phrase that names the fault: 'Missing From', 'Duplicate To', 'CSeq: not a
    number'."""
    words = {"missing": "Missing", "appears twice": "Duplicate"}.get(error.problem)
    if words and error.header:
        return f"{words} {error.header}"
    return f"{error.header}: {error.problem}" if error.header else error.problem.capitalize()
