"""What a sips URI asks of everybody on the way, RFC 3261 §26.2.2 and RFC 5630. Pure.

| who | has | does | § | |---|---|---|---| | who sends a request | a sips Request-URI | goes by TLS,
whatever Route or next hop say | 3261 8.1.2, 16.6 step 7 | | UAC | the same | makes all of its Route
sips | 5630 5.1.1 | | UAC | a sips Request-URI, or top Route | gives a sips Contact; one of the
user's that is not, is a mistake | 3261 8.1.1.8 | | UAC | neither | gives a sip Contact, over TLS
too | 5630 5.1.1.2 | | UAS | a sips Request-URI that came without TLS | 480, Warning 380; without
any TLS 416 | 5630 5.1.2, 3261 8.2.2.1 | | UAS | the same and a Contact that TLS cannot lead to |
400 | 5630 5.1.2 | | UAS | a sips Request-URI, top Record-Route, or Contact without that | gives a
sips Contact | 3261 12.1.1 | | dialog | begun by a sips Request-URI | takes the peer's target, and
each later one, as sips | 3261 12.1.1, 5630 5.1.1.2 | | proxy | a sips Request-URI, a sip target |
480, Warning 380 | 5630 5.3 | | proxy | a sip Request-URI, a sips target | makes a sip one of it,
and goes by TLS; else 480, Warning 381 | 5630 5.3 | | proxy | a sips Request-URI, or top Route |
gives a sips Record-Route | 3261 16.6 step 4 | | registrar | a sips Contact, and a sip Request-URI,
Contact or Path | 400 | 5630 5.2 | | registrar | addresses-of-record, or Contacts, that differ in
the scheme alone | takes them for one | 5630 5.2, 5.1.1.1 |

Nothing is ever tried again as sip that was asked for as sips. `transport=tls` is read: of a sip URI
it is the one way to ask for TLS where DNS is not asked, so a Contact of ours has it over TLS,
though §26.2.2 calls it deprecated.
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
"""Who warns: a pseudonym, since our host is the business of nobody (§20.43)."""

NOT_ALLOWED = SIPWarning(380, AGENT, "SIPS Not Allowed")
REQUIRED = SIPWarning(381, AGENT, "SIPS Required")


def is_secure(request: Request) -> bool:
    """True for a sips Request-URI."""
    return request.uri_text[:5].lower() == "sips:"


def secured(uri: URI) -> URI:
    """Return a sip URI as the sips one that names the same resource (RFC 3261 §19.1); any other as
    it is."""
    return uri._replace(scheme="sips") if uri.scheme == "sip" else uri


# ---- who sends


def wants_sips(request: Request) -> bool:
    """True when a request of ours needs a sips Contact, or one that we pass on a sips Record-Route
    (§8.1.1.8, §16.6 step 4)."""
    if is_secure(request):
        return True
    if "Route" not in request.headers.fields:
        return False
    try:
        top = request.headers.get_header_front("Route")
        return top is not None and bool(top.uri.is_secure)
    except ParseError:
        return False


def secure_route(request: Request) -> None:
    """Make the whole Route of a request to a sips URI sips, as its UAC (RFC 5630 §5.1.1)."""
    if request.route and not all(value.uri.is_secure for value in request.route):
        request.route = tuple(value._replace(uri=secured(value.uri)) for value in request.route)


def has_sip_contact(request: Request) -> bool:
    """True when a Contact is a sip URI."""
    return any(
        isinstance(value, NameAddr) and value.uri.scheme == "sip" for value in request.contact
    )


# ---- who receives


def check_received(request: Request, *, secure: bool, can_be: bool) -> None:
    """Refuse what a request to a sips URI must not be: come by a way that is not `secure`, or have
    a Contact in clear.

    `can_be` tells whether any way to us is secure. Raises Reject.
    """
    if not secure:
        raise WrongScheme(warning=(NOT_ALLOWED,)) if can_be else Reject(416)
    try:
        contacts = request.contact if request.method != "REGISTER" else ()
    except ParseError:  # it says nothing, and whoever needs it finds out
        return
    for value in contacts:
        uri = value.uri if isinstance(value, NameAddr) else None
        if uri is not None and uri.scheme == "sip" and SECURE.get(uri.transport or "TLS") is None:
            raise Reject(400, "SIPS Request-URI And SIP Contact")


def answer_wants_sips(request: Request) -> bool:
    """True when what we answer to a request that begins a dialog needs a sips Contact (§12.1.1)."""
    if is_secure(request):
        return True
    try:
        if "Record-Route" in request.headers.fields:
            top = request.headers.get_header_front("Record-Route")
            return top is not None and bool(top.uri.is_secure)
        return any(isinstance(value, NameAddr) and value.uri.is_secure for value in request.contact)
    except ParseError:
        return False


# ---- who passes on


def retarget(request: Request, target: URI) -> tuple[URI, URI | None]:
    """Return the Request-URI for a target, and the next hop that sees to TLS where that does not
    (RFC 5630 §5.3).

    Raises WrongScheme for a sip target of a request to a sips URI.
    """
    if is_secure(request):
        if target.scheme == "sip":
            raise WrongScheme(warning=(NOT_ALLOWED,))
        return target, None
    return (in_clear(target), target) if target.is_secure else (target, None)


def check_registration(request: Request) -> None:
    """Refuse to bind what is secure to what is not (RFC 5630 §5.2). Raises Reject(400)."""
    contacts = [value.uri for value in request.contact if isinstance(value, NameAddr)]
    if any(uri.is_secure for uri in contacts):
        others = [request.uri, *contacts, *(value.uri for value in request.path)]
        if any(uri.scheme == "sip" for uri in others):
            raise Reject(400, "SIPS Contact Among SIP URIs")
