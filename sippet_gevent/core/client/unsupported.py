"""Unsupported: repeats a request without what its server does not know, RFC 3261 §8.1.3.5.

| response | the request again |
|---|---|
| 420 | without the option tags in Unsupported, if it means the same without them |
| 415 | with the part of its multipart body that the server accepts |
| 416 | with the sip URI of a tel URI, if it has a Route |

A 413 is not answered by leaving out the body, because a request without its body is another one.
"""

from __future__ import annotations

from ...errors import InvalidValue, ParseError
from ...message.body import Part
from ...message.message import Response
from ...message.uri import URI
from ..routing.routes import top_route
from .attempt import Attempt, Policy

_OPTIONAL = frozenset(
    "100rel 199 answermode early-session from-change gruu histinfo norefersub outbound path pref "
    "record-aware timer trickle-ice uui".split()
)
"""Option tags without which a request asks for the same. Others, such as `privacy` or `replaces`,
were required because the request must fail without them."""


class Unsupported(Policy):
    """Repeats a request without an extension, body type or URI scheme that was refused."""

    statuses = frozenset((415, 416, 420))

    def __call__(self, attempt: Attempt) -> Attempt | None:
        response = attempt.failure
        if not isinstance(response, Response):
            return None
        change = _CHANGES.get(response.status)
        try:
            return None if change is None else change(attempt, response)
        except (ParseError, InvalidValue):
            return None


def _without_tags(attempt: Attempt, response: Response) -> Attempt | None:
    refused = {tag.lower() for tag in response.unsupported}
    request = attempt.request
    asked = {tag.lower() for tag in (*request.require, *request.proxy_require)} & refused
    if not asked or asked - _OPTIONAL:
        return None
    return attempt.again(
        f"without {', '.join(sorted(asked))}",
        require=_left(request.require, asked),
        proxy_require=_left(request.proxy_require, asked),
    )


def _left(tags: tuple[str, ...], refused: set[str]) -> tuple[str, ...] | None:
    return tuple(tag for tag in tags if tag.lower() not in refused) or None


def _accepted_part(attempt: Attempt, response: Response) -> Attempt | None:
    accepted = [str(value).partition(";")[0].strip().lower() for value in response.accept]
    if not accepted or not attempt.request.body:
        return None
    whole = Part.of(attempt.request)
    part = whole.find(*accepted)
    if part is None or part is whole:  # a body that was refused as it is
        return None
    following = attempt.again(f"with {part.media_type} alone")
    part.put_in(following.request)
    return following


def _with_sip_uri(attempt: Attempt, response: Response) -> Attempt | None:
    """The sip URI of the same number at the next hop (§19.1.6)."""
    uri = attempt.request.uri
    hop = top_route(attempt.request)
    if uri.scheme != "tel" or hop is None:
        return None
    number = str(uri).partition(":")[2]
    return attempt.again(
        "with a sip URI", uri=URI.parse(f"{hop.scheme}:{number}@{hop.host};user=phone")
    )


_CHANGES = {415: _accepted_part, 416: _with_sip_uri, 420: _without_tags}
