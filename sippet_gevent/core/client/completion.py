"""Completion: the header fields that each request needs, RFC 3261 §8.1.1. Pure."""

from __future__ import annotations

from ...message.address import NameAddr
from ...message.fields.rfc3261 import CSeq
from ...message.identifiers import Identifiers
from ...message.message import Request
from ...message.uri import URI
from ..routing.routes import MAX_FORWARDS

_NOT_IN_TO = ("method", "maddr", "ttl", "transport", "lr")


def complete(request: Request, identifiers: Identifiers) -> None:
    """Add the header fields of §8.1.1 that a request lacks."""
    fields = request.headers.fields
    if "From" not in fields:
        request.from_ = NameAddr(URI("sip", "anonymous", "anonymous.invalid"))  # §8.1.1.3
    if "Via" not in fields and request.from_.tag is None:
        request.from_ = request.from_._replace(
            parameters=request.from_.parameters.replace(tag=identifiers.tag())
        )
    if "To" not in fields:
        request.to = NameAddr(_for_to(request.uri))
    if "Call-ID" not in fields:
        request.call_id = identifiers.call_id()
    if "CSeq" not in fields:
        request.cseq = CSeq(1, request.method)
    if "Max-Forwards" not in fields:
        request.max_forwards = MAX_FORWARDS


def _for_to(uri: URI) -> URI:
    """Return a URI without the port and parameters that only a Request-URI may have.

    §8.1.1.2, table 1 of §19.1.1.
    """
    return (
        uri._replace(
            port=None, parameters=uri.parameters.without(*_NOT_IN_TO), headers=URI().headers
        )
        if uri.is_sip
        else uri
    )
