"""Rules for sips URIs: what each element on the way has to do, RFC 3261 §26.2.2 and RFC 5630. Pure.

Any sender of a request with a sips Request-URI:

* It sends the request by TLS, whatever its Route or next hop say (RFC 3261 §8.1.2, §16.6 step 7).

UAC:

* With a sips Request-URI, all Route values become sips (RFC 5630 §5.1.1).
* With a sips Request-URI or top Route, the Contact is sips. If the application wrote a sip Contact,
  that is an error (RFC 3261 §8.1.1.8).
* With neither, the Contact is sip, over TLS as well (RFC 5630 §5.1.1.2).

UAS:

* A sips Request-URI that came without TLS gets 480 with Warning 380, or 416 if the stack has no TLS
  (RFC 5630 §5.1.2, RFC 3261 §8.2.2.1).
* If the Contact of such a request cannot be reached by TLS, it gets 400 (RFC 5630 §5.1.2).
* With a sips Request-URI or top Record-Route, or a sips Contact if there is no Record-Route, the
  Contact of the answer is sips (RFC 3261 §12.1.1).

Dialog that a sips Request-URI has begun:

* The remote target, and each later one, is used as a sips URI (RFC 3261 §12.1.1, RFC 5630
  §5.1.1.2).

Proxy:

* From a sips Request-URI to a sip target: 480 with Warning 380 (RFC 5630 §5.3).
* From a sip Request-URI to a sips target: the copy has the target as sip and goes by TLS. If that
  is not possible: 480 with Warning 381 (RFC 5630 §5.3).
* With a sips Request-URI or top Route, the Record-Route is sips (RFC 3261 §16.6 step 4).

Registrar:

* A sips Contact together with a sip Request-URI, Contact or Path gets 400 (RFC 5630 §5.2).
* Addresses-of-record, or Contacts, that differ only in sip or sips are the same (RFC 5630 §5.1.1.1,
  §5.2).

A sips request is never tried again as sip. `transport=tls` is understood, although §26.2.2 calls it
deprecated. Our sip Contact over TLS has it, because without DNS a sip URI cannot ask for TLS in any
other way.
"""

from __future__ import annotations

from ...errors import ParseError, Reject, WrongScheme
from ...message.address import NameAddr
from ...message.fields.rfc3261 import Warning as SIPWarning
from ...message.message import Request
from ...message.uri import URI
from ...stores.bindings import in_clear
from ...transport.locate.rfc3263 import SECURE

AGENT = "sippet_gevent"
"""Agent of our Warning values. It is a pseudonym, because our host name is private (§20.43)."""

NOT_ALLOWED = SIPWarning(380, AGENT, "SIPS Not Allowed")
REQUIRED = SIPWarning(381, AGENT, "SIPS Required")


def is_secure(request: Request) -> bool:
    """True for a request with a sips Request-URI."""
    return request._uri[:5].lower() == "sips:"


def secured(uri: URI) -> URI:
    """Return a sip URI as the sips URI of the same resource (RFC 3261 §19.1); return any other as
    it is."""
    return uri._replace(scheme="sips") if uri.scheme == "sip" else uri


# ---- requests of our own


def wants_sips(request: Request) -> bool:
    """True when the URI that we insert must be sips. That is the Contact of our own request, or the
    Record-Route of a forwarded one (§8.1.1.8, §16.6 step 4)."""
    if request._uri[:5].lower() == "sips:":  # is_secure(), for each forwarded INVITE
        return True
    if "Route" not in request.headers.fields:
        return False
    try:
        top = request.headers.get_header_front("Route")
        return top is not None and bool(top.uri.is_secure)
    except ParseError:
        return False


def secure_route(request: Request) -> None:
    """Make all Route values of a request of ours sips (RFC 5630 §5.1.1)."""
    if request.route and not all(value.uri.is_secure for value in request.route):
        request.route = tuple(value._replace(uri=secured(value.uri)) for value in request.route)


def has_sip_contact(request: Request) -> bool:
    """True when a request has a Contact with a sip URI."""
    return any(
        isinstance(value, NameAddr) and value.uri.scheme == "sip" for value in request.contact
    )


# ---- received requests


def check_received(request: Request, *, secure: bool, can_be: bool) -> None:
    """Refuse a request to a sips URI that came without TLS, or whose Contact is not reached by TLS.

    Args:
        request: The request, whose Request-URI is sips.
        secure: True when it came by TLS, or by what counts as TLS.
        can_be: True when this stack has any TLS listener.

    Raises:
        WrongScheme: 480 when it came without TLS.
        Reject: 416 when there is no TLS listener, 400 for its Contact.
    """
    if not secure:
        raise WrongScheme(warning=(NOT_ALLOWED,)) if can_be else Reject(416)
    try:
        contacts = request.contact if request.method != "REGISTER" else ()
    except ParseError:  # code that reads the Contact refuses it later
        return
    for value in contacts:
        uri = value.uri if isinstance(value, NameAddr) else None
        if uri is not None and uri.scheme == "sip" and SECURE.get(uri.transport or "TLS") is None:
            raise Reject(400, "SIPS Request-URI And SIP Contact")


def answer_wants_sips(request: Request) -> bool:
    """True when our response to a request that begins a dialog needs a sips Contact (§12.1.1)."""
    if request.uri_text[:5].lower() == "sips:":  # is_secure(), for each INVITE twice
        return True
    try:
        if "Record-Route" in request.headers.fields:
            top = request.headers.get_header_front("Record-Route")
            return top is not None and bool(top.uri.is_secure)
        contacts = request.contact
    except ParseError:
        return False
    for value in contacts:  # noqa: SIM110  # each INVITE asks twice, and a generator costs more
        if isinstance(value, NameAddr) and value.uri.scheme == "sips":
            return True
    return False


# ---- forwarded requests, and registrations


def retarget(request: Request, target: URI) -> tuple[URI, URI | None]:
    """Return the Request-URI for a target of a proxy, and a next hop if TLS needs one (RFC 5630
    §5.3).

    A sips target of a request to a sip URI becomes sip. The next hop is then the sips target, which
    is reached by TLS.

    Raises:
        WrongScheme: A sip target for a request to a sips URI.
    """
    if is_secure(request):
        if target.scheme == "sip":
            raise WrongScheme(warning=(NOT_ALLOWED,))
        return target, None
    return (in_clear(target), target) if target.is_secure else (target, None)


def check_registration(request: Request) -> None:
    """Refuse a REGISTER that binds a sips Contact together with sip URIs (RFC 5630 §5.2). Raises
    Reject(400)."""
    schemes = set()
    for value in request.contact:
        if isinstance(value, NameAddr):
            schemes.add(value.uri.scheme)
    if "sips" in schemes:
        schemes.update([request.uri.scheme, *[value.uri.scheme for value in request.path]])
        if "sip" in schemes:
            raise Reject(400, "SIPS Contact Among SIP URIs")
