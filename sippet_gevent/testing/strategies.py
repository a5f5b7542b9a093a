"""Hypothesis strategies: URIs, addresses, header values, messages, and damaged messages.

    from hypothesis import given
    from sippet_gevent.testing import strategies

    @given(strategies.request(method="INVITE"))
    def test_core_answers_any_invite(request): ...

    @given(strategies.mangled())
    def test_server_survives_damaged_messages(data): ...

They draw what the grammar of RFC 3261 §25.1 allows, also what is unusual: escapes, quotes, IPv6,
compact forms. Only mangled() draws text that breaks the grammar.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ImportError as error:
    raise ImportError(
        "these strategies need Hypothesis: pip install 'sippet-gevent[test]'"
    ) from error

from ..message.address import NameAddr
from ..message.fields.rfc3261 import (
    CallID,
    CSeq,
    MaxForwards,
    MediaType,
)
from ..message.header import ROWS
from ..message.message import Request, Response
from ..message.uri import URI
from ..message.via import Via
from .damage import DAMAGES
from .elements import (
    CSEQS,
    KNOWN_OR_ANY_METHOD,
    METHODS,
    host,
    name_addr,
    parameters,
    sip_uri,
    text,
    token,
    uri,
    via,
)
from .header_values import VALUES, header_texts, header_values, value_of, without_brackets

__all__ = [
    "DAMAGES",
    "METHODS",
    "NEEDED",
    "VALUES",
    "header_texts",
    "header_values",
    "host",
    "mangled",
    "message",
    "name_addr",
    "parameters",
    "request",
    "response",
    "sip_uri",
    "spelled",
    "text",
    "token",
    "uri",
    "value_of",
    "via",
]

M = TypeVar("M", Request, Response)

NEEDED = ("Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length")
"""Header fields of each message that request() and response() draw; `headers` adds others."""


@st.composite
def request(
    draw: DrawFn,
    /,
    *,
    method: str | SearchStrategy[str] | None = None,
    uri: URI | str | SearchStrategy[URI] | SearchStrategy[str] | None = None,
    body: bytes | str | SearchStrategy[bytes] | None = None,
    extra: int = 4,
    **headers: object,
) -> Request:
    """Draw a request that parse() accepts, with the mandatory header fields (§8.1.1).

    Each argument may be a value, or a strategy that draws it.

        request(method="REGISTER", contact="<sip:me@192.0.2.1>", expires=st.integers(0, 3600))

    Args:
        method: the method. By default most are known ones.
        uri: the Request-URI.
        body: the body. It gets a Content-Type, unless `headers` has one.
        extra: most header fields that are added to the mandatory ones.
        headers: header fields as Request takes them. None leaves one out.
    """
    name = _drawn(draw, method, KNOWN_OR_ANY_METHOD)
    made = Request(name, _drawn(draw, uri, _URIS), body=_drawn(draw, body, _BODIES))
    made.max_forwards = draw(VALUES[MaxForwards])
    return _filled(draw, made, name, extra, headers)


@st.composite
def response(
    draw: DrawFn,
    /,
    *,
    status: int | SearchStrategy[int] | None = None,
    method: str | SearchStrategy[str] | None = None,
    body: bytes | str | SearchStrategy[bytes] | None = None,
    extra: int = 4,
    **headers: object,
) -> Response:
    """Draw a response that parse() accepts.

    To answer a request of yours, call its response(), which copies the fields that §8.2.6.2 wants.

    Args:
        status: the status code. By default most are usual ones.
        method: the method of the request, for the CSeq.
        body: as for request().
        extra: as for request().
        headers: as for request().
    """
    phrase = draw(st.none() | text())
    made = Response(_drawn(draw, status, _STATUSES), phrase, body=_drawn(draw, body, _BODIES))
    return _filled(draw, made, _drawn(draw, method, KNOWN_OR_ANY_METHOD), extra, headers)


_VIAS = st.lists(VALUES[Via], min_size=1, max_size=3)
_FROM = name_addr(tag=True)
_MAYBE = st.booleans()
_URIS = sip_uri()
_BODIES = st.just(b"") | st.just(b"v=0\r\n") | st.binary(max_size=60)
_STATUSES = st.sampled_from(
    [100, 180, 183, 200, 202, 302, 401, 404, 486, 500, 503, 603]
) | st.integers(100, 699)


# Any: a value of the user, or a strategy of one
def _drawn(draw: DrawFn, option: Any, otherwise: SearchStrategy[Any]) -> Any:
    if option is None:
        return draw(otherwise)
    return draw(option) if isinstance(option, SearchStrategy) else option


def _filled(draw: DrawFn, message: M, method: str, extra: int, given: dict[str, object]) -> M:
    """Give a message the mandatory header fields, some others, and those that were `given`."""
    message.via = draw(_VIAS)
    message.from_ = draw(_FROM)
    message.to = draw(VALUES[NameAddr])
    message.call_id = draw(VALUES[CallID])
    message.cseq = CSeq(draw(CSEQS), method)
    if message.body:
        message.content_type = draw(VALUES[MediaType])
    others = sorted(ROWS.keys() - set(NEEDED))
    for name in draw(st.lists(st.sampled_from(others), max_size=extra, unique=True)):
        message.headers.assign(ROWS[name], draw(header_values(name)))
    if extra > 0 and draw(_MAYBE):
        message.headers[f"X-{draw(token())}"] = draw(text())
    for attribute, option in given.items():
        setattr(message, attribute, draw(option) if isinstance(option, SearchStrategy) else option)
    return message


def message() -> SearchStrategy[Request | Response]:
    """Draw a request or a response."""
    return request() | response()


@st.composite
def spelled(draw: DrawFn, /, of: SearchStrategy[Request | Response] | None = None) -> bytes:
    """Draw the bytes of a valid message, in the spellings that peers choose (§7.3.1).

    These are compact forms, any case, spaces around the colon and at the end, lines folded at a
    space, and addresses without brackets. `of` draws the message, by default message().
    """
    drawn = draw(message() if of is None else of)
    head, _, body = bytes(drawn).partition(b"\r\n\r\n")
    start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    written = [start]
    for line in lines:
        name, _, value = line.partition(": ")
        row = ROWS.get(name)
        if row is not None:
            value = draw(st.sampled_from([value, *without_brackets(row, value)]))
        names = [
            name,
            name.upper(),
            name.lower(),
            *([row.compact] if row is not None and row.compact else []),
        ]
        colon = draw(st.sampled_from([": ", ": ", ":", " : ", ":\t", "\t :  "]))
        blanks = [
            at
            for at in range(1, len(value) - 1)
            if value[at] == " " and not {value[at - 1], value[at + 1]} & set(" \t")
        ]
        if draw(_MAYBE) and blanks:
            at = draw(st.sampled_from(blanks))
            value = (
                value[:at] + draw(st.sampled_from(["\r\n ", "\r\n\t", " \r\n  "])) + value[at + 1 :]
            )
        written.append(
            draw(st.sampled_from(names))
            + colon
            + value
            + draw(st.sampled_from(["", "", " ", "\t "]))
        )
    return "\r\n".join([*written, "", ""]).encode("utf-8", "surrogateescape") + body


@st.composite
def mangled(
    draw: DrawFn,
    /,
    *,
    of: SearchStrategy[bytes] | None = None,
    damages: Iterable[str] = tuple(DAMAGES),
    most: int = 3,
) -> bytes:
    """Draw bytes of a damaged message. Most are malformed, and some happen to be valid.

    Args:
        of: a strategy for the bytes before the damage, by default spelled().
        damages: the kinds of damage to choose from, keys of DAMAGES.
        most: most damages of one message.
    """
    data = draw(spelled() if of is None else of)
    for damage in draw(st.lists(st.sampled_from(list(damages)), min_size=1, max_size=most)):
        data = DAMAGES[damage](draw, data)
    return data
