"""Granted: what a registrar has granted, read from its 200, RFC 3261 §10.2.4. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import ParseError
from ...message.address import NameAddr
from ...message.message import Request, Response
from ...message.uri import URI, bracketed
from ...stores.bindings import compact, flow_registered, same_resource


class Granted(NamedTuple):
    """A binding of ours, as the registrar keeps it."""

    seconds: int
    """Seconds that it lasts. 0 if the registrar does not have it."""
    contact: NameAddr | None
    """Our Contact in the 200; None if the registrar lists none."""
    service_route: tuple[NameAddr, ...]
    """The Route for requests of the account (RFC 3608)."""
    gruu: URI | None
    """The public GRUU (RFC 5627 §5.3)."""
    temp_gruu: URI | None
    """The latest temporary GRUU."""


def granted(request: Request, response: Response) -> Granted:
    """Return what the 2xx to a REGISTER with one Contact grants."""
    contact = own_contact(request, response)
    seconds = None if contact is None else _number(contact.parameters.get("expires"))
    if seconds is None:
        seconds = _expires(response)
    if seconds is None:
        seconds = _expires(request)
    if contact is None and _contacts(response):
        seconds = 0  # other devices are listed, and ours is not
    try:
        route = tuple(response.service_route)
    except ParseError:
        route = ()
    return Granted(
        seconds or 0, contact, route, _gruu(contact, "pub-gruu"), _gruu(contact, "temp-gruu")
    )


def kept(found: Granted, uri: URI) -> Granted:
    """Return what was granted in the form that an account keeps, because there may be thousands:
    with `uri` in place of an equal one, and parameters as text."""
    contact = found.contact
    if contact is None:
        return found
    if contact.uri == uri:
        contact = contact._replace(uri=uri)
    return found._replace(contact=compact(contact))


def own_uri(request: Request) -> URI:
    """Return the URI of the Contact that a REGISTER of ours registers."""
    return _contacts(request)[0].uri


def seen_at(response: Response) -> tuple[str, int] | None:
    """Return the address at which the first hop has seen us: `received` and `rport` of our Via
    (RFC 3581 §4). None if the Via does not say both."""
    try:
        via = response.via[0]
    except (ParseError, IndexError):
        return None
    if via.rport is None:
        return None
    return bracketed(via.received or via.host), via.rport


def own_contact(request: Request, response: Response) -> NameAddr | None:
    """Return the Contact of a 2xx that is the one of the request (§10.2.4, §19.1.4).

    A registrar, or a NAT helper before it, may rewrite the address. So a Contact with our instance
    and reg-id is ours (RFC 5626 §6), and so is the only one.
    """
    ours, found = _contacts(request)[0], _contacts(response)
    flow = flow_registered(ours)
    for contact in found:
        if flow is not None and flow_registered(contact) == flow:
            return contact
    for contact in found:
        if same_resource(contact.uri, ours.uri):
            return contact
    return found[0] if len(found) == 1 else None


def _contacts(message: Request | Response) -> list[NameAddr]:
    try:
        return [contact for contact in message.contact if isinstance(contact, NameAddr)]
    except ParseError:
        return []


def _expires(message: Request | Response) -> int | None:
    try:
        return message.expires
    except ParseError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 10 else None


def _gruu(contact: NameAddr | None, name: str) -> URI | None:
    text = None if contact is None else contact.parameters.get(name)
    try:
        return URI.parse(text) if text else None
    except ParseError:
        return None
