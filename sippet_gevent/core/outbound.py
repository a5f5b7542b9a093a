"""Who is reached at his Contact, and who only by the flow that he has opened, RFC 5626 §6 and §7, RFC 7118 §5. Pure."""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from typing import Any

from ..errors import ParseError
from ..message.address import NameAddr
from ..message.message import Request
from ..message.uri import DEFAULT_PORTS, URI, normal_host
from ..message.via import Via

WEB = frozenset(("WS", "WSS"))
"""Transports of those who cannot be called back: a browser accepts no connection (RFC 7118 §1)."""


class Reach(IntEnum):
    """How a user agent is reached: at its Contact, by its flow while that lives, or by its flow and never otherwise."""

    AT_CONTACT, BY_FLOW, BY_FLOW_ONLY = range(3)


def can_be_dialled(uri: URI) -> bool:
    """False for a URI that nobody can connect to: that of a browser (RFC 7118 §5.2), or a host that is none (RFC 2606 §2)."""
    return uri.transport not in WEB and not f".{normal_host(uri.host)}".endswith(".invalid")


def reach_of(contact: NameAddr, via: Via, flow: Any) -> Reach:
    """Tell how the user agent that sent a request by `flow` is reached, by its Contact and the Via it wrote itself.

    RFC 5626 leaves to us who has not said that he wants to be reached by his flow ("ob", or reg-id and +sip.instance). A
    connection is there and is used; what stands in the Contact may be no port that anybody listens on. Of datagrams, the
    address they came from is better than a Contact behind NAT, and than another port for who has asked for rport, for he
    receives where he sends (RFC 3581 §3). Nobody's Contact but his own is meant: a gateway that was registered by hand is
    dialled.
    """
    uri, transport = contact.uri, flow.transport
    if transport.name in WEB or not can_be_dialled(uri) or "ob" in uri.parameters or flow_registered(contact):
        return Reach.BY_FLOW_ONLY
    if not uri.is_sip or (uri.is_secure and not transport.secure):
        return Reach.AT_CONTACT
    host, source = normal_host(uri.host), normal_host(flow.remote[0])
    if host == source:
        if flow.scope:  # a link-local host, which the flow alone has a link for (RFC 4007 §11)
            return Reach.BY_FLOW
        if uri.transport not in (None, transport.name):
            return Reach.AT_CONTACT
        port = uri.port or DEFAULT_PORTS[uri.scheme]
        by_flow = transport.reliable or (port != flow.remote[1] and "rport" in via.parameters)
    else:
        address, at = _address(host), _address(source)
        behind_nat = address is not None and not address.is_global and at is not None and at.is_global
        if host != normal_host(via.host) and not behind_nat:
            return Reach.AT_CONTACT
        by_flow = transport.reliable or address is not None or "rport" in via.parameters
    return Reach.BY_FLOW if by_flow else Reach.AT_CONTACT


def reach_of_sender(request: Request) -> Reach:
    """Tell how the sender of a received request is reached in the dialog it begins.

    AT_CONTACT as well when it came by a proxy, which has its Record-Route for that, and for what cannot be read.
    """
    try:
        if len(request.via) != 1:
            return Reach.AT_CONTACT
        via = request.via[0]
        given = request.contact
        contact = given[0] if given and isinstance(given[0], NameAddr) else NameAddr(URI("sip", None, via.host, via.port))
        return reach_of(contact, via, request.flow)
    except ParseError:
        return Reach.AT_CONTACT


def flow_registered(contact: NameAddr) -> tuple[str | None, str | None] | None:
    """Return +sip.instance and reg-id, which name one flow of one user agent; either alone means nothing (RFC 5626 §6)."""
    parameters = contact.parameters
    if "reg-id" not in parameters or "+sip.instance" not in parameters:
        return None
    return parameters["+sip.instance"], parameters["reg-id"]


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
