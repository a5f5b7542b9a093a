"""Stateless answers: responses to requests that have no transaction, RFC 3261 §8.2.6 and §8.2.7."""

from __future__ import annotations

from hashlib import blake2b
from random import random
from typing import Any

from ..errors import ParseError, TransportError
from ..message.echo import fastest_echo as echo
from ..message.headers import Headers
from ..message.mandatory import mandatory_of_via, plain_mandatory, read_mandatory
from ..message.message import Request, Response
from ..message.scan import USUAL, Fields, Line
from ..message.scan import fastest as scan
from ..observe.log_values import Plain
from ..runtime.rates import TokenBuckets
from ..transport.base import Flow
from .admission import OVERLOAD
from .feedback import Feedback, may_have_feedback
from .layer import TransactionLayer
from .received_rport import note_source, usual_via

TAG_LENGTH = 20
"""Characters of the To tag of an answer without a transaction. Other tags of ours are shorter, so
the hash that this tag is need not be computed for most ACKs."""

_UNAVAILABLE = "SIP/2.0 503 Service Unavailable\r\nRetry-After: "
_GONE = "SIP/2.0 481 Call/Transaction Does Not Exist"
_ECHOED = frozenset(("Via", "From", "To", "Call-ID", "CSeq"))
_ONE_EACH = {str}
"""The types of the values of fields that each have one line."""


def bad(data: bytes) -> str:
    """Return the name under which broken bytes without an answer are counted."""
    return "bad_response" if data[:4] == b"SIP/" else "bad_message"


class Stateless:
    """Answers requests without a transaction.

    Args:
        layer: Sends the answers, and has the limits.
    """

    def __init__(self, layer: TransactionLayer) -> None:
        self._layer = layer
        self._counters = layer.counters
        self._now = layer.clock.now
        self.feedback = Feedback(layer)
        """Tells clients how much less to send (RFC 7339)."""
        self.joined: dict[Flow, list[bytes]] = {}
        """Refusals that wait for send_joined(), by their connections."""
        self._keyed = blake2b(digest_size=TAG_LENGTH // 2, key=layer.secret)
        self._errors = TokenBuckets(
            layer.limits.errors_per_second, layer.limits.errors_burst, layer.limits.sources
        )

    def refuse(self, error: ParseError, flow: Flow) -> None:
        """Answer the message that has broken a stream, if its header section allows that. Count
        it."""
        self._counters.received += 1
        data = error.value if isinstance(error.value, bytes) else b""
        if self._layer.tap is not None:
            self._layer.tap.tell("in", data, flow, None)
        self.answer_broken(error, data, flow)

    def answer_broken(self, error: ParseError, data: bytes, flow: Flow) -> None:
        """Answer a broken request if its first lines allow that; drop everything else."""
        request = error.request
        now = self._now()
        if request is None or request.method == "ACK" or "Via" not in request.headers:
            self._counters.drop(bad(data), flow, now, detail=error)
        elif not self._errors.take(flow.remote[0], now):
            self._counters.drop("too_many_errors", flow, now, request, detail=error)
        else:
            text = 'request refused: source=%s answered=%d call_id=%s reason="%s"'
            call_id = Plain(request.headers.get("Call-ID"))
            self._counters.warn("refused", now, text, flow, error.status, call_id, error)
            try:
                flow = note_source(request, mandatory_of_via(request.headers), flow)
            except ParseError:
                pass  # the Via cannot be read: copy it unchanged, and answer to the source address
            self._layer.answer(flow, self.response(request, error.status, _phrase(error)))

    def refuse_overload(self, data: bytes, flow: Flow, key: str, now: float) -> None:
        """Answer a new request with 503 because of overload, and remember it. Only what the answer
        repeats is read (§8.2.6).

        The 503 has a Retry-After although RFC 7339 §5.10.2 wants none for clients without overload
        control. Those know no other sign (RFC 3261 §21.5.4), and a phone without it tries again at
        once. A request that was refused before gets the same seconds again.

        The answers of one stream wait for send_joined(), because encrypting and sending takes as
        long for several as for one.

        Args:
            data: The request, outside a dialog.
            flow: Its flow.
            key: The key that its transaction would have.
            now: The time.
        """
        layer, admission, counters = self._layer, self._layer.admission, self._counters
        counters.received += 1
        if layer.tap is not None:
            layer.tap.tell("in", data, flow, key)
        limits = layer.limits.parser
        try:
            if len(data) > limits.message:
                raise ParseError(f"over {limits.message} bytes", status=513)
            # line breaks before the start line are skipped (§7.5)
            start_line, lines, fields, _ = scan(data.lstrip(b"\r\n"), limits.headers, limits.line)
            via, reply = fields.get("Via"), flow
            usual = (
                usual_via(via, flow)
                if type(via) is str
                and {*map(type, map(fields.get, _ECHOED))} == _ONE_EACH
                and not may_have_feedback(via)
                else None
            )
            if usual is None:
                reply = self._read(start_line, lines, fields, flow)
            else:  # most requests: no object is made of them
                at = 0
                while lines[at][0] != "Via":
                    at += 1
                lines[at] = "Via", USUAL, usual
        except ParseError as error:
            counters.drop("bad_message", flow, now, detail=error)
            return
        least, most = layer.limits.retry_after
        seconds = least + int(random() * (most - least + 1))
        known = admission.lately.take(key, seconds, now)
        if known is not None:
            seconds = known
        else:
            admission.refused[OVERLOAD] = admission.refused.get(OVERLOAD, 0) + 1
        counters.answered += 1
        answer = echo(lines, _ECHOED, f"{_UNAVAILABLE}{seconds}", self._tag_of(fields))
        if reply.is_stream:
            self.joined.setdefault(reply, []).append(answer)
            return
        try:
            layer.send(reply, answer)
        except TransportError as error:
            counters.send_errors += 1
            request = Request.read("INVITE", "", Headers(lines, fields), b"")
            layer._warn_unsent(reply, request, error)

    def send_joined(self) -> None:
        """Send the refusals of each connection together."""
        joined, self.joined = self.joined, {}
        for flow, answers in joined.items():
            try:
                self._layer.send_joined(flow, answers)
            except TransportError as error:
                self._counters.send_errors += len(answers)
                # lines that nobody has read: what they repeat may be broken
                _, lines, fields, _ = scan(answers[0], len(answers[0]), len(answers[0]))
                request = Request.read("INVITE", "", Headers(lines, fields), b"")
                self._layer._warn_unsent(flow, request, error)

    def _read(self, start_line: str, lines: list[Line], fields: Fields, flow: Flow) -> Flow:
        """Read a request in any spelling, and write our parameters into its Via. Return the flow of
        its answer. Raises ParseError."""
        method, _, rest = start_line.partition(" ")
        request = Request.read(method, rest.partition(" ")[0], Headers(lines, fields), b"")
        request.flow = flow
        mandatory = request.mandatory = (
            plain_mandatory and plain_mandatory(fields)
        ) or read_mandatory(request.headers)
        reply = note_source(request, mandatory, flow)
        self.feedback.write(request, flow.remote[0])
        return reply

    def refuse_stranger(self, request: Request, flow: Flow) -> None:
        """Answer a request 481 that belongs to no dialog, or a CANCEL of nothing. Only what the
        answer repeats is written, because anybody can send many of them.

        Args:
            request: The request.
            flow: The flow of its answer.
        """
        headers = request.headers
        via = headers.fields["Via"]
        if may_have_feedback(via if type(via) is str else via[0]):
            self.feedback.write(request, flow.remote[0])
        self._counters.answered += 1
        tag = "" if request.mandatory.to_tag is not None else self._tag_of(headers.fields)
        try:
            self._layer.send(flow, echo(headers.lines, _ECHOED, _GONE, tag))
        except TransportError as error:
            self._counters.send_errors += 1
            self._layer._warn_unsent(flow, request, error)

    def response(
        self, request: Request, status: int, reason: str | None = None, **headers: Any
    ) -> Response:
        """Return a response without a transaction, with the To tag of tag()."""
        request.use_to_tag(self.tag(request))
        return request.response(status, reason, **headers)

    def tag(self, request: Request) -> str:
        """Return the To tag of answers without a transaction. It is the same for each
        retransmission of the request (§8.2.7)."""
        return self._tag_of(request.headers.fields)

    def _tag_of(self, fields: Fields) -> str:
        number = str(fields.get("CSeq", "")).partition(" ")[0]
        text = f"{fields.get('Call-ID')} {fields.get('From')} {number}".encode(
            "utf-8", "surrogateescape"
        )
        tag = self._keyed.copy()  # it has read the key already
        tag.update(text)
        return tag.hexdigest()


def _phrase(error: ParseError) -> str:
    """Return a reason phrase that names the fault: 'Missing From', 'Duplicate To', 'CSeq: not a
    number'."""
    words = {"missing": "Missing", "appears twice": "Duplicate"}.get(error.problem)
    if words and error.header:
        return f"{words} {error.header}"
    return f"{error.header}: {error.problem}" if error.header else error.problem.capitalize()
