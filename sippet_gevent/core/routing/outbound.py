"""SIP Outbound: decides if a user agent is reached at its Contact or by the flow that it opened,
RFC 5626 §6 and §7, RFC 7118 §5. Pure. The 430 of §5.3.1 is in own_route.py."""

from __future__ import annotations

from enum import IntEnum

from ...errors import ParseError
from ...message.address import NameAddr
from ...message.flow import MessageFlow
from ...message.mandatory import mandatory_of
from ...message.message import Request, Response
from ...message.parameters import EMPTY, NO_URI_PARAMETERS
from ...message.uri import SCHEME_PORTS, URI, address_of, normal_host
from ...stores.bindings import flow_registered

WEB = frozenset(("WS", "WSS"))
"""Transports of browsers, which accept no connection, so no request can open one to them (RFC 7118
§1)."""

OUTBOUND = "outbound"
"""Option tag of user agents that support SIP Outbound (RFC 5626 §11.4)."""


class Reach(IntEnum):
    """How a user agent is reached: at its Contact, by its flow until that ends, or by its flow
    only."""

    AT_CONTACT, BY_FLOW, BY_FLOW_ONLY = range(3)


def can_be_dialled(uri: URI) -> bool:
    """True when a connection to a URI may be possible.

    That excludes the URI of a browser (RFC 7118 §5.2) and a host under `.invalid` (RFC 2606 §2).
    """
    if uri.transport in WEB:
        return False
    # the usual hosts are addresses or end in another domain
    host = uri.host
    return "invalid" not in host.lower() or not f".{normal_host(host)}".endswith(".invalid")


def reach_of(
    contact: NameAddr, sent_by: str, flow: MessageFlow, *, has_rport: bool, moved: bool = False
) -> Reach:
    """Decide how the sender of a request is reached.

    A user agent that supports SIP Outbound says that it wants to be reached by its flow, with "ob"
    or with reg-id and +sip.instance. RFC 5626 leaves the others to us:

    * A connection is used while it lives, because the port in the Contact may not be listened on.
    * For datagrams, the source address is better than a Contact behind NAT.
    * If the user agent asked for rport, it receives at the port that it sends from (RFC 3581 §3).
      So the source port is better than the port in the Contact.
    * A Contact with the host of another element, such as a gateway that was registered by hand, is
      used as it is.

    The rule about rport is a guess, because rport is about responses only (RFC 3581 §4). It does
    not apply when the Contact has moved.

    Args:
        contact: The Contact of the request.
        sent_by: The host in the Via that the sender itself wrote.
        flow: The flow by which the request came.
        has_rport: True when that Via has rport.
        moved: True for a target refresh that names another Contact than before, which must be
            followed (RFC 3261 §12.2).
    """
    uri, transport = contact.uri, flow.transport
    has_parameters = uri.parameters is not NO_URI_PARAMETERS  # most phones write none
    host = normal_host(uri.host)
    if (
        transport.name in WEB
        or host.endswith(".invalid")
        or host == "invalid"
        or (has_parameters and (uri.transport in WEB or "ob" in uri.parameters))
        or (
            contact.parameters is not EMPTY
            and contact.parameters.get("reg-id")
            and flow_registered(contact)
        )
    ):
        return Reach.BY_FLOW_ONLY
    scheme = uri.scheme
    if scheme not in SCHEME_PORTS or (scheme == "sips" and not transport.secure):
        return Reach.AT_CONTACT
    source = flow.remote[0]
    if host != source:
        source = normal_host(source)
    if host == source:
        if flow.scope:  # link-local: only the flow knows the interface (RFC 4007 §11)
            return Reach.BY_FLOW
        if has_parameters and uri.transport not in (None, transport.name):
            return Reach.AT_CONTACT
        port = uri.port or SCHEME_PORTS[scheme]
        by_flow = transport.reliable or (not moved and port != flow.remote[1] and has_rport)
    else:
        address, at = address_of(host), address_of(source)
        behind_nat = (
            address is not None and not address.is_global and at is not None and at.is_global
        )
        if host != normal_host(sent_by) and not behind_nat:
            return Reach.AT_CONTACT
        by_flow = transport.reliable or address is not None or has_rport
    return Reach.BY_FLOW if by_flow else Reach.AT_CONTACT


def reach_of_sender(request: Request, *, moved: bool = False) -> Reach:
    """Decide how the sender of a request is reached in the dialog that the request begins or
    refreshes; see reach_of().

    AT_CONTACT for a request that came through a proxy, because the proxy's Record-Route decides.
    Also AT_CONTACT for a request that cannot be parsed.
    """
    try:
        headers = request.headers
        there = headers.fields["Via"]
        if type(there) is not str or ("," in there and not headers.has_one("Via")):
            return Reach.AT_CONTACT
        via = mandatory_of(request)
        text = headers.fields.get("Contact")
        given: NameAddr | str | None
        if type(text) is str and text[:1] == "<" and "," not in text:
            given = NameAddr.parse(text)
        else:
            given = headers.get_header_front("Contact")
        contact = (
            given if isinstance(given, NameAddr) else NameAddr(URI("sip", None, via.host, via.port))
        )
        return reach_of(contact, via.host, request.flow, has_rport=via.has_rport, moved=moved)
    except ParseError:
        return Reach.AT_CONTACT


def reach_of_answerer(response: Response) -> Reach:
    """Decide how a peer is reached after its response to our target refresh named a new Contact."""
    try:
        contact = response.contact[0]
    except (ParseError, IndexError):
        return Reach.AT_CONTACT
    flow = response.flow
    # a response has no Via of its sender, so its source address serves as one
    return (
        reach_of(contact, flow.remote[0], flow, has_rport=False, moved=True)
        if isinstance(contact, NameAddr)
        else Reach.AT_CONTACT
    )


def first_hop_supports_outbound(request: Request) -> bool:
    """True when the first hop of a REGISTER supports SIP Outbound (RFC 5626 §6).

    The first hop is this element, or an edge proxy with "ob" in its Path. The Path of the first hop
    is the last value, because each proxy inserts its own in front (RFC 3327 §5.2), and only the
    first hop writes "ob" (RFC 5626 §5.1). A proxy that writes a Path but hides its Via counts as a
    hop, too.
    """
    headers = request.headers
    first_hop = headers.get_header_back("Path") if "Path" in headers.fields else None
    if first_hop is not None:
        return "ob" in first_hop.uri.parameters
    via = headers.fields["Via"]
    return type(via) is str and ("," not in via or headers.has_one("Via"))


def supports_outbound(request: Request) -> bool:
    """True when the sender of a request supports SIP Outbound, by its Supported or Require."""
    return any(tag.lower() == OUTBOUND for tag in (*request.supported, *request.require))
