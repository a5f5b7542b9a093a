"""Keep: grants the keep-alives that a peer offers to send, RFC 6223 §4.4."""

from __future__ import annotations

from ..errors import ParseError
from ..message.iana import DIALOG_CREATING
from ..message.message import Request
from ..transport.base import Flow

KEPT_FOR = DIALOG_CREATING | {"REGISTER"}
"""Methods that begin a registration or a dialog. Peers agree on keep-alives for one of these (RFC
6223 §4.2)."""


def grant_keep(request: Request, flow: Flow) -> None:
    """Ask a peer that offers keep-alives to send them (RFC 6223 §4.4).

    The interval is written into the top Via of the request, which all responses copy.
    """
    seconds = flow.transport.keep_alive_seconds
    if not seconds or (request.mandatory.to_tag is not None and request.method != "REGISTER"):
        return
    vias = request.headers.fields["Via"]
    if "keep" not in (vias if type(vias) is str else vias[0]):
        return
    try:
        via = request.headers.top_via
    except ParseError:
        return
    if "keep" in via.parameters and via.parameters["keep"] is None:
        request.headers.top_via = via.with_params(keep=seconds)
