"""The received and rport parameters of the top Via (RFC 3261 §18.2.1, RFC 3581 §4), and the
destination of responses (§18.2.2)."""

from __future__ import annotations

from ..message.headers import Headers
from ..message.mandatory import Mandatory
from ..message.message import Request
from ..message.uri import normal_host
from ..transport.base import Flow

_PLAIN_END = frozenset(("", ";"))  # what follows an rport without value


def note_source(request: Request, mandatory: Mandatory, flow: Flow) -> Flow:
    """Write received and rport into the top Via (§18.2.1, RFC 3581 §4).

    Returns the flow by which the answers leave (§18.2.2).
    """
    host, port = flow.remote
    if flow.peer_identity:
        flow.transport.take_alias(flow, request)  # RFC 5923
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


def usual_via(text: str, flow: Flow) -> str | None:
    """Return the text of a Via with received and rport, as note_source() writes it (RFC 3581 §4).

    None for a Via in an unusual spelling, for several Vias in a line, and for a flow that may be
    an alias. note_source() takes these.
    """
    head, found, tail = text.partition(";rport")
    if (
        not found
        or tail[:1] not in _PLAIN_END
        or "," in text
        or '"' in text
        or "received" in text.lower()
        or flow.peer_identity
    ):
        return None
    host, port = flow.remote
    return f"{head};rport={port};received={host}{tail}"


def _rewrite_via(headers: Headers, **parameters: object) -> None:
    """Set parameters of the top Via. Those below it remain as they came, readable or not."""
    via = headers.top_via
    headers.top_via = via._replace(
        parameters=via.parameters.without("received").replace(parameters)
    )
