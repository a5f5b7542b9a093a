"""Refusals: the header fields a status needs, and those that cross a B2BUA, RFC 3261 §20. Pure.

A core raises Reject(response=...) to refuse its caller because the core's own request was refused.
The answer is a new response of this element. The status says what is wrong. FIELDS lists the header
fields that the caller needs to react. The rest of the peer's response belongs to the other leg:

| not passed on | because |
|---|---|
| Via, From, To, Call-ID, CSeq, Timestamp, Record-Route | of the other transaction (§8.2.6) |
| Contact, except in 3xx and 485 | it is the target of the other dialog (§12.1.2) |
| Allow, Supported, Accept, unless in FIELDS | they say what the callee can do, not this element |
| Require, except in 421 and 494; RSeq | extensions of the other response (§8.2.4, RFC 3262) |
| Server, Organization, Date, Identity, P-Asserted-Identity | they name the sender of the response |
| session descriptions (488, 606, 580) | addresses and codecs of the other session (§21.4.26) |

A challenge (401, 407) is passed on, because without it the caller could not try again (§22.2). The
caller's credentials are then for the peer. A B2BUA has to pass on Authorization and
Proxy-Authorization, and the Request-URI that they cover.

A 503 says that *this* element is overloaded for so many seconds (§21.5.4). Callers may take all of
their requests elsewhere. A proxy changes it to 500 (§16.7 step 6). A B2BUA that has other targets
left raises Reject(500) itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..errors import ParseError, Reject
from ..message.iana import STATUSES
from ..message.message import Request, Response
from .option_tags import unsupported


class Fields(NamedTuple):
    """The parts of a response with one status: required header fields, optional ones, and if it has
    a body."""

    needed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    body: bool = False


_RETRY = Fields(others=("Retry-After",))  # §20.33, RFC 3261 table 3
_ELSEWHERE = Fields(others=("Contact",))  # §8.1.3.4
_CHALLENGES = ("Proxy-Authenticate", "WWW-Authenticate")

FIELDS: dict[int, Fields] = {
    300: Fields(others=("Contact",), body=True),  # §21.3.1
    301: _ELSEWHERE,
    302: Fields(others=("Contact", "Expires")),  # §21.3.3
    305: _ELSEWHERE,
    380: Fields(others=("Contact",), body=True),  # §21.3.5: the alternatives are in the body
    401: Fields(("WWW-Authenticate",), ("Proxy-Authenticate",)),  # §21.4.2; §22.3 joins both
    404: _RETRY,
    405: Fields(("Allow",)),  # §21.4.6
    407: Fields(("Proxy-Authenticate",), ("WWW-Authenticate",)),  # §21.4.8, §22.3
    413: _RETRY,  # §21.4.11
    415: Fields(others=("Accept", "Accept-Encoding", "Accept-Language")),  # §21.4.13
    417: Fields(others=("Accept-Resource-Priority",)),  # RFC 4412 §4.7.1
    420: Fields(("Unsupported",)),  # §21.4.15
    421: Fields(("Require",), ("Security-Server", *_CHALLENGES)),  # §21.4.16, RFC 3329 §2.3.1
    422: Fields(("Min-SE",)),  # RFC 4028 §6
    423: Fields(("Min-Expires",)),  # §21.4.17
    424: Fields(  # RFC 6442 §4.3
        ("Geolocation-Error",), ("Geolocation", "Geolocation-Routing"), body=True
    ),
    425: Fields(("AlertMsg-Error",)),  # RFC 8876 §5.1
    469: Fields(("Recv-Info",)),  # RFC 6086 §4.2.2
    470: Fields(others=("Permission-Missing",)),  # RFC 5360 §5.9.2
    480: _RETRY,  # §21.4.18
    485: _ELSEWHERE,  # §21.4.23
    486: _RETRY,  # §21.4.24
    489: Fields(others=("Allow-Events",)),  # RFC 6665 §4.4.4, where RFC 3265 §7.2 wanted it
    493: Fields(body=True),  # §21.4.28, §23.2: the certificate to encrypt for
    # RFC 3329 §2.3.1: with what the client needs to begin, the challenge of "digest" for example
    494: Fields(("Security-Server",), ("Require", *_CHALLENGES)),
    500: _RETRY,  # §21.5.1
    503: _RETRY,  # §21.5.4
    600: _RETRY,  # §21.6.1
    603: _RETRY,  # §21.6.2
    608: Fields(others=("Call-Info",)),  # RFC 8688 §3.1: where to object
}

ANY = ("Error-Info", "Reason", "Warning")
"""Header fields that any refusal may have: §20.18, RFC 6432 §3, §20.43."""

_OF_BODY = (
    "Content-Type", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-ID",
    "MIME-Version",
)  # fmt: skip

_NONE = Fields()


def fields_of(status: int) -> Fields:
    """Return the row of a status. An unknown status counts as the x00 of its class (§8.1.3.2)."""
    known = status in FIELDS or status in STATUSES
    return FIELDS.get(status if known else status // 100 * 100, _NONE)


NEEDY = frozenset(status for status, fields in FIELDS.items() if fields.needed)
"""Statuses whose responses must have a header field of their own."""


def refuse(request: Request, refusal: Reject) -> Response:
    """Return the response of a refusal, with the header fields that it passes on.

    Lines of the peer's response are copied unchanged.

    Raises:
        InvalidValue: A header field of the refusal cannot be written.
        TypeError: A header field of the refusal has a value of the wrong type.
    """
    response = request.response(refusal.status, refusal.reason, **refusal.headers)
    peers = refusal.response
    if isinstance(peers, Response):
        fields = fields_of(refusal.status)
        wanted = {*fields.needed, *fields.others, *ANY, *refusal.also}
        if fields.body and peers.body:
            wanted.update(_OF_BODY)
            response.body = peers.body
        there = response.headers.fields
        response.headers.extend(
            [line for line in peers.headers.lines if line[0] in wanted and line[0] not in there]
        )
    return response


def complete(
    request: Request, response: Response, supported: Iterable[str], allowed: Iterable[str]
) -> tuple[str, ...]:
    """Add Allow to a 405 (§8.2.1) and Unsupported to a 420 (§8.2.2.3).

    Args:
        request: The request that is refused.
        response: The refusal.
        supported: The option tags that are known here.
        allowed: The methods that are served here.

    Returns:
        The names of header fields that the refusal must have, and still lacks.
    """
    there = response.headers.fields
    missing = [name for name in fields_of(response.status).needed if name not in there]
    for name in [*missing]:
        fill = _KNOWN.get(name)
        value = fill(request, supported, allowed) if fill is not None else ()
        if value:
            response.headers[name] = ", ".join(value)
            missing.remove(name)
    return tuple(missing)


def _allow(request: Request, supported: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    return tuple(method for method in allowed if method != request.method)


def _unsupported(
    request: Request, supported: Iterable[str], allowed: Iterable[str]
) -> tuple[str, ...]:
    try:
        return unsupported((*request.require, *request.proxy_require), frozenset(supported))
    except ParseError:  # the option tags cannot be read
        return ()


_KNOWN: dict[str, Callable[[Request, Iterable[str], Iterable[str]], tuple[str, ...]]] = {
    "Allow": _allow,
    "Unsupported": _unsupported,
}
