"""Feedback: tells clients how much less to send, loss-based overload control (RFC 7339)."""

from __future__ import annotations

import re

from ..errors import ParseError
from ..message.grammar import split, split_first
from ..message.headers import Headers
from ..message.message import Request, Response
from ..message.via import Via
from ..transport.base import Flow
from .layer import TransactionLayer

VALIDITY = 500
"""Milliseconds for which a value holds, the RFC's default. A loaded server answers often, so each
client has a newer value long before."""

LEAST_STEP = 0.00001
"""Least difference of two oc-seq, which has five digits of a fraction (§9)."""

PARAMETERS = frozenset(("oc", "oc-algo", "oc-validity", "oc-seq"))
"""The Via parameters of overload control (§4)."""

may_have_feedback = re.compile(r";\s*oc", re.IGNORECASE).search
"""Finds what may be one of them in the text of a Via. Most messages have none, and need no more
than this."""


class Feedback:
    """Writes the parameters oc, oc-algo, oc-validity and oc-seq into the Via of clients that ask.

    They are written into the top Via of the request, which all its responses copy (§5.2). Each
    response of a transaction then gets the values of the time when it is sent. A response that is
    repeated has those of its first copy, as §5.2 allows. A response without a transaction gets them
    itself. A response that returns to a request that was forwarded without a transaction has none,
    because nothing remembers that the client has offered them. A server is a server transaction
    here (§2).

    Args:
        layer: Has the clock, and the measure of load, `admission.shed_fraction`.
    """

    __slots__ = ("_admission", "_now", "_sequence", "_since")

    def __init__(self, layer: TransactionLayer) -> None:
        self._admission = layer.admission
        self._now = layer.clock.now
        self._since = layer.clock.wall() - layer.clock.now()
        self._sequence = 0.0
        layer.write_feedback = self.write
        layer.renew_feedback = self.renew

    def write(self, message: Request | Response, host: str) -> str:
        """Write the present values for a client at this host into a request, or into the response
        to it, if the client has offered the parameters (§5.1). Return what was written; "" if it
        has not."""
        headers = message.headers
        text = headers.fields.get("Via")
        if text is None or not may_have_feedback(text if type(text) is str else text[0]):
            return ""
        try:
            via = headers.top_via
        except ParseError:
            return ""
        parameters = via.parameters
        if "oc" not in parameters or parameters["oc"] is not None:
            return ""
        offered = (parameters.get("oc-algo") or "").strip('"').lower()
        if "loss" not in [each.strip() for each in offered.split(",")]:
            return ""
        return self._tell(headers, via, host)

    def renew(self, response: Response | bytes, written: str, host: str) -> Response | bytes:
        """Return a response with the present values in its top Via.

        What another element has written there does not count, because feedback is hop by hop
        (§5.4, §5.6).

        Args:
            response: A response to a client that has offered the parameters, whole or formatted.
            written: What write() returned for the request.
            host: The host of the client.
        """
        if isinstance(response, bytes):
            return response.replace(written.encode(), self._values(host).encode(), 1)
        try:
            strip_feedback(response.headers)
            self._tell(response.headers, response.headers.top_via, host)
        except ParseError:
            pass
        return response

    def _values(self, host: str) -> str:
        loss = round(100 * min(max(self._admission.shed_fraction(host), 0.0), 1.0))
        # oc-seq is a time, and increases within one moment, too (§4.4); the algorithm is quoted, as
        # §9 has it, although one word needs no quotes
        self._sequence = max(self._since + self._now(), self._sequence + LEAST_STEP)
        return (
            f";oc={loss};oc-validity={VALIDITY if loss else 0}"
            f';oc-seq={self._sequence:.5f};oc-algo="loss"'
        )

    def _tell(self, headers: Headers, via: Via, host: str) -> str:
        values = self._values(host)
        at = headers.top_via_line
        below = split_first(headers.lines[at][2], ",")[1]
        text = f"{via.without_params(*PARAMETERS)}{values}"
        headers.set_line(at, f"{text}, {below}" if below else text)
        return values


def strip_feedback(headers: Headers) -> None:
    """Remove the parameters of overload control from all Via values of a message that a proxy
    forwards.

    What a client has offered to this element is not for the next hop (RFC 7339 §5.6). What a server
    has written into a Via below its client's would be taken for ours (§5.4). A Via that cannot be
    read is left as it is.
    """
    vias = headers.fields.get("Via", "")
    if may_have_feedback(vias if type(vias) is str else ",".join(vias)) is None:
        return
    for at, (name, _, text) in enumerate([*headers.lines]):
        if name == "Via" and may_have_feedback(text) is not None:
            try:
                values = [
                    ";".join(
                        part
                        for part in split(value, ";")
                        if part.partition("=")[0].rstrip().lower() not in PARAMETERS
                    )
                    for value in split(text, ",")
                ]
            except ParseError:
                continue
            headers.set_line(at, ", ".join(values))


def take_feedback(layer: TransactionLayer, flow: Flow, response: Response) -> None:
    """Give our Via in a response to what obeys its parameters (§5.4)."""
    if layer.feedback_taken is None:
        return
    try:
        via = response.headers.top_via
    except ParseError:
        return
    target = flow.transport.name, flow.remote[0], flow.remote[1]
    layer.feedback_taken(target, via, layer.clock.now())
