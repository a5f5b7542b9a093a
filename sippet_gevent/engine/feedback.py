"""Feedback: tells clients how much less to send, loss-based overload control (RFC 7339)."""

from __future__ import annotations

from ..errors import ParseError
from ..message.grammar import split_first
from ..message.message import Request, Response
from ..transport.base import Flow
from .layer import TransactionLayer

VALIDITY = 500
"""Milliseconds for which a value holds, the RFC's default. A loaded server answers often, so each
client has a newer value long before."""


class Feedback:
    """Writes the parameters oc, oc-algo, oc-validity and oc-seq into the Via of clients that ask.

    They are written into the top Via of the request, which all its responses copy (§5.2). So a
    response that is repeated has the values of its first copy, as §5.2 allows.

    Args:
        layer: Has the clock, and the measure of load, `admission.shed_fraction`.
    """

    __slots__ = ("_admission", "_now", "_since")

    def __init__(self, layer: TransactionLayer) -> None:
        self._admission = layer.admission
        self._now = layer.clock.now
        self._since = layer.clock.wall() - layer.clock.now()

    def write(self, request: Request) -> None:
        """Write the present values, if the client has offered the parameters (§5.1)."""
        text = request.headers.fields.get("Via")
        if text is None or ";oc" not in (text if type(text) is str else text[0]).replace(" ", ""):
            return
        try:
            via = request.headers.top_via
        except ParseError:
            return
        parameters = via.parameters
        if "oc" not in parameters or parameters["oc"] is not None:
            return
        offered = (parameters.get("oc-algo") or "").strip('"').lower()
        if "loss" not in [each.strip() for each in offered.split(",")]:
            return
        loss = round(100 * min(max(self._admission.shed_fraction(), 0.0), 1.0))
        headers = request.headers
        answered = via.without_params("oc-algo").with_params(
            {
                "oc": str(loss),
                "oc-validity": str(VALIDITY if loss else 0),
                # a time, so it increases (§4.4)
                "oc-seq": f"{self._since + self._now():.3f}",
            }
        )
        at = headers.top_via_line
        below = split_first(headers.lines[at][2], ",")[1]
        # quoted, as §9 has it, although one word needs no quotes
        text = f'{answered};oc-algo="loss"'
        headers.set_line(at, f"{text}, {below}" if below else text)


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
