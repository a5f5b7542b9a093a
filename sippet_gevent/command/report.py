"""report(): a message and its faults as plain values, RFC 3261 §7 and §20.

All header fields are read by their types, optional ones too, and so are multiparts, session
descriptions and sipfrags in the body. A proxy or phone ignores most of these faults.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

from ..errors import CREDENTIALS, ParseError
from ..message import parser
from ..message.body import Part
from ..message.headers import Headers
from ..message.mandatory import NEEDED
from ..message.message import Message, Request, Response
from ..message.scan import USUAL
from ..message.scan import fastest as scan
from ..message.sdp import SDP
from .plain import Plain, clean, parts
from .problems import FieldLine, Problem, different, field_lines, placed, start_line, value_of

MEDIA_LINES = 16
"""Most lines of session descriptions that are shown. Each stream has one or two, and a call has two
or three streams."""

_DESCRIPTION = "application/sdp"
# SDP lines that may be quoted: neither k=, which is a key, nor lines with free text
_PLAIN_LINES = frozenset("vocbtrzma")
_PLAIN_ATTRIBUTES = ("rtpmap:", "rtcp:", "ptime:", "maxptime:")
_MEDIA = re.compile(rb"^[mc]=[^\r\n]*", re.MULTILINE).finditer


class Place(NamedTuple):
    """Where a message was found.

    `offset` is its first byte in a text file. The other attributes are set for a message from a
    capture. `missing` is the number of its bytes that were not captured. `is_rest` is True for text
    that follows a message and has no start line.
    """

    file: str
    number: int
    offset: int | None = None
    time: str | None = None
    transport: str | None = None
    source: str | None = None
    destination: str | None = None
    missing: int = 0
    is_rest: bool = False


class HeaderField(TypedDict):
    """A header field: the text of each line, and the values, or None if they cannot be read.

    `text` is None for credentials.
    """

    name: str
    text: list[str] | None
    values: list[Plain] | None


class Body(TypedDict):
    """A body: its length, its Content-Type, and the m= and c= lines of its descriptions."""

    bytes: int
    type: str | None
    media: list[str]


class Report(TypedDict):
    """A message and its problems, as `sippet parse --json` prints them."""

    file: str
    number: int
    offset: int | None
    time: str | None
    transport: str | None
    source: str | None
    destination: str | None
    bytes: int
    kind: str | None
    start_line: str
    method: str | None
    uri: Plain
    status: int | None
    reason: str | None
    headers: list[HeaderField]
    body: Body
    problems: list[Problem]
    ok: bool


def report(data: bytes, place: Place) -> Report:
    """Return a message, its header fields and its faults. It always has the same keys.

    A value that cannot be read is None, with its text beside it. Credentials and passwords are left
    out.
    """
    problems: list[ParseError] = []
    fields = [] if place.is_rest else field_lines(data)
    message: Message | None
    if place.is_rest:
        message, headers, body = None, Headers(), b""
        problems.append(
            ParseError(
                "not the beginning of a message: is the Content-Length before it too small?",
                offset=0,
            )
        )
    else:
        message, headers, body = _read(data, fields, problems)
        problems += _incomplete(headers, place, bool(problems))
    described = [_header(name, headers, problems) for name in headers]
    root, found = _parts(headers, body)
    problems += found
    request = message if isinstance(message, Request) else None
    response = message if isinstance(message, Response) else None
    return {
        "file": clean(place.file),
        "number": place.number,
        "offset": place.offset,
        "time": place.time,
        "transport": place.transport,
        "source": place.source,
        "destination": place.destination,
        "bytes": len(data),
        "kind": "request" if request else "response" if response else None,
        "start_line": start_line(data, place.is_rest),
        "method": request.method if request else None,
        "uri": _uri(request, problems),
        "status": response.status if response else None,
        "reason": clean(response.reason) if response else None,
        "headers": described,
        "body": _body(body, headers, root),
        "problems": [placed(error, data, fields, place.is_rest) for error in different(problems)],
        "ok": not problems,
    }


def _read(
    data: bytes, fields: list[FieldLine], problems: list[ParseError]
) -> tuple[Message | None, Headers, bytes]:
    """Return the message, or None, with its headers and its body, as far as they can be read."""
    try:
        message = parser.parse(data)
        return message, message.headers, message.body
    except ParseError as error:
        problems.append(error)
    limits = parser.DEFAULT_LIMITS
    try:
        _, lines, found, at = scan(data, limits.headers, limits.line)
        headers, body = Headers(lines, found), data[at:]
    except ParseError:
        # One line is malformed. The others are read anyway.
        texts = [(field.name, value_of(data, field)) for field in fields[: limits.headers]]
        headers, body = (
            Headers([(name, USUAL, text) for name, text in texts if len(text) <= limits.line]),
            b"",
        )
    return problems[0].request, headers, body


def _incomplete(headers: Headers, place: Place, is_broken: bool) -> Iterator[ParseError]:
    """Yield a problem for each part that is missing."""
    if place.missing:
        yield ParseError(f"{place.missing} bytes of it were not captured")
    for name in ("Via", *NEEDED):
        if headers and name not in headers:
            yield ParseError("missing", header=name)
    if place.transport == "TCP" and "Content-Length" not in headers and not is_broken:
        yield ParseError(
            "missing, and nothing else in a stream marks the end of a message",
            header="Content-Length",
        )


# ---- values


def _uri(request: Request | None, problems: list[ParseError]) -> Plain:
    if request is None or not request.uri_text:
        return None
    try:
        return parts(request.uri)
    except ParseError as error:
        error.header = error.header or "Request-URI"
        problems.append(error)
        return None


def _header(name: str, headers: Headers, problems: list[ParseError]) -> HeaderField:
    is_secret = name in CREDENTIALS
    values: list[Plain] | None
    try:
        value = headers.get_header(name)
        values = [parts(item, is_secret) for item in (value if type(value) is tuple else (value,))]
    except ParseError as error:
        error.header = error.header or name
        problems.append(error)
        values = None
    return {
        "name": clean(name),
        "text": None if is_secret else [clean(text) for text in headers.all(name)],
        "values": values,
    }


# ---- the body


def _parts(headers: Headers, body: bytes) -> tuple[Part | None, list[ParseError]]:
    """Return the body with its parts, or None if it cannot be divided, and their problems."""
    if not body:
        return None, []
    try:
        # a Request even for a response, because only headers and body matter here
        root = Part.of(Request.read("", "", headers, body))
    except ParseError as error:
        return None, [_without_text(error, "Content-Type")]
    problems = []
    for part in root.walk():
        if part.is_multipart and not part.is_closed:
            problems.append(
                ParseError(
                    "multipart without close delimiter: its end may be missing", header="body"
                )
            )
        elif not part.is_multipart:
            problems += _part_problems(part)
    return root, problems


def _part_problems(part: Part) -> list[ParseError]:
    try:
        content = part.content
        part.fragment  # noqa: B018 raises if it is no sipfrag
        if part.media_type.name != _DESCRIPTION:
            return []
        return [_without_text(error) for error in SDP.parse(content).problems()]
    except ParseError as error:
        return [_without_text(error)]


def _without_text(error: ParseError, *shown: str) -> ParseError:
    """Remove the text of a problem in a body, because it may be a key.

    It stays for the header fields `shown`, and for SDP lines that have no keys.
    """
    line = (error.header or "")[-2:-1] if (error.header or "").endswith("=") else ""
    is_plain = isinstance(error.value, str) and error.value.startswith(
        _PLAIN_ATTRIBUTES if line == "a" else ""
    )
    if error.header not in shown and not (is_plain and line and line in _PLAIN_LINES):
        error.value = None
    return error


def _body(body: bytes, headers: Headers, root: Part | None) -> Body:
    kind = headers.get("Content-Type")
    described = (
        [part.body for part in root.walk() if part.media_type.name == _DESCRIPTION] if root else []
    )
    lines = itertools.chain.from_iterable(map(_MEDIA, described))
    media = [clean(found[0]) for found in itertools.islice(lines, MEDIA_LINES)]
    return {"bytes": len(body), "type": None if kind is None else clean(kind), "media": media}
