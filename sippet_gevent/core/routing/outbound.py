"""Who is reached at his Contact, and who only by the flow that he has opened, RFC 5626 §6 and §7,
RFC 7118 §5. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from ...errors import ParseError
from ...message.address import NameAddr
from ...message.message import Request, Response
from ...message.uri import SCHEME_PORTS, URI, address_of, normal_host
from ...message.via import Via
from ...stores.bindings import flow_registered

WEB = frozenset(("WS", "WSS"))
"""Transports of those who cannot be called back: a browser accepts no connection (RFC 7118 §1)."""


OUTBOUND = "outbound"
"""The option tag of who knows flows (RFC 5626 §11.4)."""


class Reach(IntEnum):
    """How a user agent is reached: at its Contact, by its flow while that lives, or by its flow and
    never otherwise."""

    AT_CONTACT, BY_FLOW, BY_FLOW_ONLY = range(3)


def can_be_dialled(uri: URI) -> bool:
    """False for a URI that nobody can connect to: that of a browser (RFC 7118 §5.2), or a host that
    is none (RFC 2606 §2)."""
    return uri.transport not in WEB and not f".{normal_host(uri.host)}".endswith(".invalid")


def reach_of(contact: NameAddr, via: Via, flow: Any, *, moved: bool = False) -> Reach:
    """Tell how the user agent that sent a request by `flow` is reached, by its Contact and the Via
    it wrote itself.

    RFC 5626 leaves to us who has not said that he wants to be reached by his flow ("ob", or reg-id
    and +sip.instance). A connection is there and is used; what stands in the Contact may be no port
    that anybody listens on. Of datagrams, the address they came from is better than a Contact
    behind NAT, and than another port for who has asked for rport, for he receives where he sends
    (RFC 3581 §3). Nobody's Contact but his own is meant: a gateway that was registered by hand is
    dialled.

    The last rule is a guess, because rport is about responses alone (RFC 3581 §4). It does not hold
    when the Contact has `moved`: a target refresh that names another Contact than before is to be
    followed (RFC 3261 §12.2).
    """
    uri, transport = contact.uri, flow.transport
    if (
        transport.name in WEB
        or not can_be_dialled(uri)
        or "ob" in uri.parameters
        or flow_registered(contact)
    ):
        return Reach.BY_FLOW_ONLY
    if not uri.is_sip or (uri.is_secure and not transport.secure):
        return Reach.AT_CONTACT
    host, source = normal_host(uri.host), normal_host(flow.remote[0])
    if host == source:
        if flow.scope:  # a link-local host, which the flow alone has a link for (RFC 4007 §11)
            return Reach.BY_FLOW
        if uri.transport not in (None, transport.name):
            return Reach.AT_CONTACT
        port = uri.port or SCHEME_PORTS[uri.scheme]
        by_flow = transport.reliable or (
            not moved and port != flow.remote[1] and "rport" in via.parameters
        )
    else:
        address, at = address_of(host), address_of(source)
        behind_nat = (
            address is not None and not address.is_global and at is not None and at.is_global
        )
        if host != normal_host(via.host) and not behind_nat:
            return Reach.AT_CONTACT
        by_flow = transport.reliable or address is not None or "rport" in via.parameters
    return Reach.BY_FLOW if by_flow else Reach.AT_CONTACT


def reach_of_sender(request: Request, *, moved: bool = False) -> Reach:
    """Tell how the sender of a received request is reached in the dialog it begins, or refreshes;
    see reach_of().

    AT_CONTACT as well when it came by a proxy, which has its Record-Route for that, and for what
    cannot be read.
    """
    try:
        if not request.headers.has_one("Via"):
            return Reach.AT_CONTACT
        (via,), given = request.via, request.headers.get_header_front("Contact")
        contact = (
            given if isinstance(given, NameAddr) else NameAddr(URI("sip", None, via.host, via.port))
        )
        return reach_of(contact, via, request.flow, moved=moved)
    except ParseError:
        return Reach.AT_CONTACT


def reach_of_answerer(response: Response) -> Reach:
    """Tell how a peer is reached after its response to a target refresh of ours has named another
    Contact than before."""
    try:
        contact = response.contact[0]
    except (ParseError, IndexError):
        return Reach.AT_CONTACT
    flow = response.flow
    # a response does not have its sender's: it sent from there
    via = Via(flow.transport.name, *flow.remote)
    return (
        reach_of(contact, via, flow, moved=True)
        if isinstance(contact, NameAddr)
        else Reach.AT_CONTACT
    )


def first_hop_knows_flows(request: Request) -> bool:
    """True for a REGISTER that came straight to us, or by a first hop that has written "ob" into
    its Path (RFC 5626 §6).

    The first hop's Path stands last, for each proxy puts its own in front (RFC 3327 §5.2), and "ob"
    is for the first hop alone (RFC 5626 §5.1). One that writes a Path and hides its Via is believed
    to be there all the same.
    """
    first_hop = request.headers.get_header_back("Path")
    return request.headers.has_one("Via") if first_hop is None else "ob" in first_hop.uri.parameters


def says_outbound(request: Request) -> bool:
    """True when its sender knows RFC 5626: who requires it supports it."""
    return any(tag.lower() == OUTBOUND for tag in (*request.supported, *request.require))
