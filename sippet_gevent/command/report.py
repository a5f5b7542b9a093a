"""report(): everything there is to say of one message, RFC 3261 §7 and §20, as plain values;
lines(): the same for people.

Every header field is read by its type, the optional ones too, and so are multiparts, session
descriptions and sipfrags in the body: an element on the way would leave all of these alone.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from ..errors import CREDENTIALS, EXCERPT, ParseError
from ..message import parser
from ..message.address import NameAddr
from ..message.body import Part
from ..message.fields.authentication import Challenge
from ..message.fields.base import Parameter
from ..message.grammar import BLANKS, is_token
from ..message.headers import Headers
from ..message.mandatory import NEEDED
from ..message.message import Message, Request, Response
from ..message.parameters import Parameters
from ..message.scan import USUAL, canonical
from ..message.scan import fastest as scan
from ..message.sdp import SDP
from ..message.uri import URI
from ..message.via import Via
from .terminal import visible, without_password

MEDIA_LINES = 16
"""Lines of a session description that are shown: each is a stream, and a call has two or three."""

SHOWN_OF_CREDENTIALS = frozenset(("realm", "algorithm", "qop"))
"""Parameters of credentials that tell how somebody proves who he is, and nothing of the proof (RFC
3261 §22.4)."""

DIGEST_PARAMETERS = SHOWN_OF_CREDENTIALS | frozenset(
    "username nonce uri response cnonce opaque nc userhash".split()
)
"""The parameters that are named, without their values: any other name may be a proof that went
astray."""

SCHEMES = frozenset(("basic", "bearer"))
"""Schemes that are named although nothing else of them is shown."""

HIDDEN = "..."
"""What stands in the place of a credential."""

EMPTY = "(empty)"
"""Shown for a header field without a value."""

_DESCRIPTION = "application/sdp"
_PLAIN_LINES = frozenset("vocbtrzma")  # neither k=, which is a key, nor what may be any line
_PLAIN_ATTRIBUTES = ("rtpmap:", "rtcp:", "ptime:", "maxptime:")
_FIELD_LINE = re.compile(rb"(?:([^\r\n:]*):)?[^\n]*(?:\n[ \t][^\n]*)*").match
_PROOF = re.compile(r"\b(Digest|Basic|Bearer)\b.*", re.IGNORECASE).sub
_EMPTY_LINES = (b"\r\n", b"\n")
_MEDIA = re.compile(rb"^[mc]=[^\r\n]*", re.MULTILINE).finditer


class Place(NamedTuple):
    """Where a message was found: `offset` in a file of messages, the rest in a capture; `missing`
    octets were not captured.

    `is_rest`: it stands behind a message and does not begin like one.
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


class _Field(NamedTuple):
    """A header line as it stands in the octets: canonical name, where it begins and ends."""

    name: str
    start: int
    end: int


def report(data: bytes, place: Place) -> dict[str, Any]:
    """Return what a message is, what its headers hold, and what is wrong with it; always the same
    keys.

    A value that cannot be read is None, its text beside it. Credentials and passwords are left out.
    """
    problems: list[ParseError] = []
    fields = [] if place.is_rest else _fields(data)
    if place.is_rest:
        message, headers, body = None, Headers(), b""
        problems.append(
            ParseError("no message begins so; is the Content-Length before it too small?", offset=0)
        )
    else:
        message, headers, body = _read(data, fields, problems)
        problems += _incomplete(headers, place, bool(problems))
    described = [_header(name, headers, problems) for name in headers]
    root, found = _parts(headers, body)
    problems += found
    return {
        "file": _clean(place.file),
        "number": place.number,
        "offset": place.offset,
        "time": place.time,
        "transport": place.transport,
        "source": place.source,
        "destination": place.destination,
        "octets": len(data),
        "kind": "request"
        if isinstance(message, Request)
        else "response"
        if isinstance(message, Response)
        else None,
        "start_line": _start_line(data, place.is_rest),
        "method": message.method if isinstance(message, Request) else None,
        "uri": _uri(message, problems),
        "status": message.status if isinstance(message, Response) else None,
        "reason": _clean(message.reason) if isinstance(message, Response) else None,
        "headers": described,
        "body": _body(body, headers, root),
        "problems": [
            _problem(error, data, fields, place.is_rest) for error in _different(problems)
        ],
        "ok": not problems,
    }


def _start_line(data: bytes, is_rest: bool) -> str:
    if _is_secret(0, data, []):
        return HIDDEN
    text = _clean(data.split(b"\n", 1)[0].rstrip(b"\r"))[: parser.DEFAULT_LIMITS.line]
    # the rest of a line may be that of credentials
    return _PROOF(rf"\1 {HIDDEN}", text) if is_rest else text


def _read(
    data: bytes, fields: list[_Field], problems: list[ParseError]
) -> tuple[Message | None, Headers, bytes]:
    """Return as much of the message as can be read: the message or None, its headers and its
    body."""
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
        # Some line is broken: the others are looked at nevertheless.
        texts = [(field.name, _value(data, field)) for field in fields[: limits.headers]]
        headers, body = (
            Headers([(name, USUAL, text) for name, text in texts if len(text) <= limits.line]),
            b"",
        )
    return problems[0].request, headers, body


def _incomplete(headers: Headers, place: Place, is_broken: bool) -> Iterator[ParseError]:
    """Yield what is missing."""
    if place.missing:
        yield ParseError(f"{place.missing} octets of it were not captured")
    for name in ("Via", *NEEDED):
        if headers and name not in headers:
            yield ParseError("missing", header=name)
    if place.transport == "TCP" and "Content-Length" not in headers and not is_broken:
        yield ParseError(
            "missing, and in a stream nothing else tells where a message ends",
            header="Content-Length",
        )


def _fields(data: bytes) -> list[_Field]:
    """Return the header lines that have a name, folded ones whole (§7.3.1), up to the first empty
    line."""
    fields = []
    at = data.find(b"\n") + 1 or len(data)
    while (
        at < len(data)
        and not data.startswith(_EMPTY_LINES, at)
        and (found := _FIELD_LINE(data, at))
    ):
        name = (found[1] or b"").decode("utf-8", "surrogateescape").rstrip(BLANKS)
        if is_token(name):
            fields.append(_Field(canonical(name), at, found.end()))
        at = found.end() + 1
    return fields


def _value(data: bytes, field: _Field) -> str:
    text = data[field.start : field.end].decode("utf-8", "surrogateescape").partition(":")[2]
    return " ".join(line.strip(" \t\r") for line in text.split("\n"))


# ---- values


def _uri(message: Any, problems: list[ParseError]) -> Any:
    if not isinstance(message, Request) or not message.uri_text:
        return None
    try:
        return parts(message.uri)
    except ParseError as error:
        error.header = error.header or "Request-URI"
        problems.append(error)
        return None


def _header(name: str, headers: Headers, problems: list[ParseError]) -> dict[str, Any]:
    is_secret = name in CREDENTIALS
    try:
        value = headers.get_header(name)
        values = [parts(item, is_secret) for item in (value if type(value) is tuple else (value,))]
    except ParseError as error:
        error.header = error.header or name
        problems.append(error)
        values = None
    return {
        "name": _clean(name),
        "text": None if is_secret else [_clean(text) for text in headers.all(name)],
        "values": values,
    }


def parts(value: Any, is_secret: bool = False) -> Any:
    """Return a typed value as numbers, texts, and dicts of its parts. Raises ParseError for a part
    that cannot be read."""
    if isinstance(value, Challenge) and is_secret:
        return _without_proof(value)
    if isinstance(value, URI):
        return {
            "text": _clean(str(value)),
            "scheme": value.scheme,
            "user": parts(value.user),
            "host": value.host or None,
            "port": value.port,
            "parameters": parts(value.parameters),
            "headers": parts(value.headers),
            "opaque": _clean(value.opaque) or None,
        }
    if isinstance(value, NameAddr):
        value.q  # noqa: B018 raises for what is none
        return {
            name: parts(getattr(value, name)) for name in ("display", "uri", "tag", "parameters")
        }
    if isinstance(value, Via):
        value.rport  # noqa: B018 raises for what is none
    for name, attribute in vars(type(value)).items():
        if isinstance(attribute, Parameter):
            getattr(value, name)  # raises for what its RFC does not have
    if isinstance(value, Parameters):
        return {
            _clean(name): HIDDEN if name.title() in CREDENTIALS else parts(item)
            for name, item in value.items()
        }
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "_asdict"):
        return {name: parts(item) for name, item in value._asdict().items()}
    if isinstance(value, int):
        return int(value)
    return None if value is None else _clean(str(value))


def _without_proof(credentials: Challenge) -> dict[str, Any]:
    # in any other, a name may be the secret itself, or what seems to be the scheme
    if credentials.scheme.lower() != "digest":
        return {
            "scheme": credentials.scheme if credentials.scheme.lower() in SCHEMES else HIDDEN,
            "parameters": {},
        }
    parameters = parts(credentials.parameters).items()
    named = [(name, value) for name, value in parameters if name.lower() in DIGEST_PARAMETERS]
    shown = {
        name: value if name.lower() in SHOWN_OF_CREDENTIALS else HIDDEN for name, value in named
    }
    return {"scheme": credentials.scheme, "parameters": shown}


def _parts(headers: Headers, body: bytes) -> tuple[Part | None, list[ParseError]]:
    """Return the body with its parts, None if it cannot be divided, and the problems of the parts
    that are read here."""
    if not body:
        return None, []
    try:
        # be it a response: only these two are looked at
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
        part.fragment  # noqa: B018 raises for what is none
        if part.media_type.name != _DESCRIPTION:
            return []
        return [_without_text(error) for error in SDP.parse(content).problems()]
    except ParseError as error:
        return [_without_text(error)]


def _without_text(error: ParseError, *shown: str) -> ParseError:
    """Remove the text of a problem in a body unless it cannot be a key: that of `shown` headers, or
    of SDP lines without keys."""
    line = (error.header or "")[-2:-1] if (error.header or "").endswith("=") else ""
    is_plain = isinstance(error.value, str) and error.value.startswith(
        _PLAIN_ATTRIBUTES if line == "a" else ""
    )
    if error.header not in shown and not (is_plain and line and line in _PLAIN_LINES):
        error.value = None
    return error


def _body(body: bytes, headers: Headers, root: Part | None) -> dict[str, Any]:
    kind = headers.get("Content-Type")
    described = (
        [part.body for part in root.walk() if part.media_type.name == _DESCRIPTION] if root else []
    )
    lines = itertools.chain.from_iterable(map(_MEDIA, described))
    media = [_clean(found[0]) for found in itertools.islice(lines, MEDIA_LINES)]
    return {"octets": len(body), "type": None if kind is None else _clean(kind), "media": media}


def _clean(text: str | bytes) -> str:
    """Return text without passwords and without the surrogates that stand for octets which are no
    UTF-8."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return without_password(data.decode("utf-8", "backslashreplace"))


# ---- problems


def _different(problems: list[ParseError]) -> list[ParseError]:
    """Return each problem once: parse() and the header's own reading may both have found it."""
    found: dict[Any, ParseError] = {}
    for error in problems:
        found.setdefault((error.header, error.problem), error)
    return list(found.values())


def _problem(error: ParseError, data: bytes, fields: list[_Field], is_rest: bool) -> dict[str, Any]:
    """Return a problem with the octet and line of the message where it is, as far as that is
    known."""
    offset: int | None
    # found by scan(), which knows octets and no headers
    if error.header is None and error.offset is not None:
        offset, octets = (
            error.offset,
            data[error.offset :].split(b"\n", 1)[0].rstrip(b"\r") or data[error.offset :][:1],
        )
    else:  # found in a value: an offset is in its text
        value: object = error.value[-1] if isinstance(error.value, list) else error.value
        octets = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else b""
        offset = _place(error.header, octets, data, fields)
        if (
            offset is not None
            and error.offset is not None
            and isinstance(value, str)
            and data.startswith(octets, offset)
        ):
            offset += len(value[: error.offset].encode("utf-8", "surrogateescape"))
    is_secret = error.header in CREDENTIALS or (
        offset is not None and _is_secret(offset, data, fields)
    )
    text = None if is_secret or not octets else _clean(octets)
    text = _start_line(data, True) if is_rest else text
    return {
        "header": error.header,
        # it may quote what it is about
        "problem": "cannot be read" if error.header in CREDENTIALS else error.problem,
        "offset": offset,
        "line": None if offset is None else data.count(b"\n", 0, offset) + 1,
        "text": text if text is None or len(text) <= EXCERPT else text[:EXCERPT] + "…",
    }


def _place(header: str | None, octets: bytes, data: bytes, fields: list[_Field]) -> int | None:
    """Return where the offending text stands: in the lines of its header, or in the start line;
    else where they begin."""
    lines = [field for field in fields if field.name == header]
    if not lines:
        at = data.split(b"\n", 1)[0].find(octets)
        return (
            max(0, at)
            if header in _START_LINE_PARTS or (header is None and octets and at >= 0)
            else None
        )
    for field in reversed(lines) if len(lines) > 1 and not octets else lines:
        colon = data.find(b":", field.start, field.end) + 1
        at = data.find(octets, colon, field.end) if octets else -1
        if at >= 0:
            return at
    return lines[-1 if not octets else 0].start


_START_LINE_PARTS = frozenset(("Request-Line", "Request-URI", "Status-Line", "SIP-Version"))


def _is_secret(offset: int, data: bytes, fields: list[_Field]) -> bool:
    """True for an octet in the lines of credentials, be they so broken that they are no header."""
    at = bisect.bisect_right(fields, offset, key=lambda field: field.start) - 1
    if at >= 0 and offset <= fields[at].end:
        return fields[at].name in CREDENTIALS
    begin = data.rfind(b"\n", 0, offset) + 1
    if at >= 0 and b":" not in data[fields[at].end : begin] and fields[at].name in CREDENTIALS:
        return True  # the rest of credentials, whose fold was lost
    return (
        data[begin:][:80].lower().startswith(tuple(name.lower().encode() for name in CREDENTIALS))
    )


# ---- for people


def lines(found: dict[str, Any], paint: Callable[[str, str], str]) -> Iterator[str]:
    """Yield a report as lines for a terminal."""
    title = f"{visible(found['file'])} #{found['number']}"
    if found["offset"]:
        title += f" at octet {found['offset']}"
    if found["source"]:
        title += (
            f"  {found['source']} -> {found['destination']}  {found['transport']}  {found['time']}"
        )
    yield paint(title, "title")
    yield visible(found["start_line"])
    if found["uri"]:
        yield _line("Request-URI", _shown(found["uri"]), paint)
    for header in found["headers"]:
        if header["values"] is None:
            for text in header["text"] or [HIDDEN]:
                yield _line(header["name"], paint(visible(text[:EXCERPT]), "bad"), paint)
        for value in header["values"] or ():
            yield _line(header["name"], _shown(value) or EMPTY, paint)
        if header["values"] == []:
            yield _line(header["name"], EMPTY, paint)
    body = found["body"]
    if body["octets"]:
        yield _line(
            "body",
            f"{body['octets']} octets" + (f"  {visible(body['type'])}" if body["type"] else ""),
            paint,
        )
        for text in body["media"]:
            yield _line("", visible(text), paint)
    for problem in found["problems"]:
        yield paint("  problem: ", "bad") + _sentence(problem)


def _line(name: str, text: str, paint: Callable[[str, str], str]) -> str:
    return f"  {paint(f'{visible(name):<20}', 'name')} {text}"


def _shown(value: Any) -> str:
    """Return a value's parts in one line: name=part, those that are not there left out; parameters
    with a semicolon."""
    if not isinstance(value, dict):
        return visible(str(value))
    pieces = []
    for name, part in value.items():
        if name == "uri" and isinstance(part, dict):
            part = part["text"]
        elif name == "tag" or (name == "text" and "scheme" in value):
            continue  # the other parts say it
        if isinstance(part, dict):
            mark = "?" if name == "headers" else ";"
            pieces += [
                f"{mark}{visible(key)}" + ("" if item is None else f"={visible(str(item))}")
                for key, item in part.items()
            ]
        elif part is not None and part != "":
            text = visible(str(part))
            pieces.append(f'{name}="{text}"' if " " in text else f"{name}={text}")
    return "  ".join(pieces)


def _sentence(problem: dict[str, Any]) -> str:
    text = (
        f"{visible(problem['header'])}: {problem['problem']}"
        if problem["header"]
        else problem["problem"]
    )
    if problem["offset"] is not None:
        text += f" (octet {problem['offset']}, line {problem['line']})"
    return visible(text) + (f": '{visible(problem['text'])}'" if problem["text"] else "")
