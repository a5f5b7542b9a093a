"""parse(): reads one whole message, RFC 3261 §7, §18.3 and §25. Pure.

It checks the fields that every element needs, and keeps the others as text.

The tables say how unusual and broken messages are treated. *Taken* text is passed on byte for byte.
*Mended* text is passed on in the form of the RFC. A status refuses the message. *Late* means at the
first read of the header field. *Closed* means that the stream ends. *Dropped* messages are counted
and not answered.

| on the wire | becomes | how it is understood |
|---|---|---|
| a folded line | taken | its pieces, with one blank between them (§7.3.1) |
| blanks before the colon | taken | as if they were not there (§7.3.1) |
| compact names, names in any case | taken | the header's one name (§7.3.3) |
| no value, no blank before it, blanks round it | taken | the text without the blanks, which may be "" |
| bytes that are not UTF-8 | taken | surrogates, which go out as the same bytes |
| control characters but CR and LF in a value | taken | text: neither VT nor U+0085 ends a line |
| unknown headers, methods, parameters, transports | taken | text, which a core may read |
| `_` in a host | taken | the name, because networks have such names |
| a host that cannot exist: `a..b`, `[1::2::3]`, `1.2.3` | taken | 400 from a proxy that sends there (§16.3) or a registrar |
| three colons before the IPv4 part of an IPv6 address | taken | two (RFC 5118 §4.10) |
| IPv6 without brackets in `received` | taken | RFC 5118 §4.5 |
| `lr=on` | taken | `lr`, whose value means nothing |
| a display name of UTF-8 without quotes | taken | the name |
| characters in a URI that should be escaped | taken | themselves |
| leading zeros, more than three decimals of `q` | taken | the number |
| no tags, no branch, no Max-Forwards | taken | absent, because RFC 2543 did not have them |
| blanks inside a Via | taken | as if they were not there (§7.3.1, RFC 4475 §3.1.1.1) |
| a broken Via below the top one | taken | not read, because it is for the hop that wrote it |
| a parameter that appears twice | taken | the first one; a doubled tag or branch is refused |

Values that are not spelled by their grammars:

| on the wire | becomes | how it is understood |
|---|---|---|
| `-` at the end of a label, a digit first in the last one | taken | the name, because networks have such names |
| an IPv4 address in brackets | taken | the address |
| leading zeros in a port or a length | taken | the number |
| a parameter with nothing behind its `=` | taken | `""` |
| a tag with nothing behind its `=` | taken | no tag, so the response adds one |
| characters in a parameter that should be in quotes: `:/@#$&?[]{}()` … | taken | themselves |
| quotes round a tag, a branch, a number or a word | taken | the text in the quotes |
| control characters in quotes, a backslash before any character | taken | themselves |
| `received` and `rport` with a value in a request | taken | replaced (§18.2.1, RFC 3581 §4) |
| quotes round the value of a URI parameter | taken | a part of it |
| a `%` in a URI that begins no escape | taken | itself |
| nothing behind the `;` or `?` of a URI | taken | no parameters, no headers |
| `=` in the value of a URI parameter, a URI header without `=` | taken | itself; a header without value |
| letters, or no digit, in a telephone number, a local one without a context | taken | the text unchanged |
| anything visible behind the scheme of a URI that is neither sip, sips nor tel | taken | the text unchanged |
| Route, Record-Route, Path, Service-Route … without brackets | taken | parameters belong to the URI, because only there `lr` has a meaning |
| Diversion, History-Info and others that need brackets without them | taken | parameters belong to the header field |
| no index in a History-Info, no info in an Identity | taken | None (RFC 4244, RFC 4474) |
| `+sip.instance` without brackets | taken | the URN (RFC 5626 §4.1) |
| a Call-ID with several `@`, or characters that are in no word | taken | byte for byte (§20.8) |
| empty elements of a list | taken | none |
| no value where there must be one: Contact, Route, Require … | taken | no value |
| an INVITE without Contact | taken | 400 from a UAS that accepts it, because a BYE would have no target (§8.1.1.8) |
| a Content-Type without a body | taken | `find()` returns no part; an INVITE without offer (§20.15) |
| a parameter without value in a Content-Type or Accept | taken | None |
| a wrong weekday, a month in any case, a day of one digit, no blank behind the comma | taken | the date |
| a language of any token | taken | itself (RFC 5646) |
| an Alert-Info without brackets, or that is no URI | taken | the text, because phones choose a ring by it |
| commas in Privacy | taken | semicolons |
| quotes too many or too few in challenges and credentials, no parameters in them | taken | the values |
| a Warning with any three digits and any agent | taken | the text unchanged |
| User-Agent, Server, Organization, Subject of any text | taken | the text |
| a response without a From that can be read | taken | the response, because the client knows its From (§17.1.3) |

What is mended, refused or dropped:

| on the wire | becomes | how it is understood |
|---|---|---|
| `sip/2.0` in any case | mended | SIP/2.0 (§7.1) |
| line breaks before the start line | mended | skipped (§7.5) |
| bare LFs at the end of every line | mended | CRLFs |
| bytes behind the body | mended | cut off (§18.3) |
| no Content-Length | mended | the body ends with the datagram (§18.3) |
| a status line without a reason and its blank | mended | the empty reason |
| another header, broken | 400 late | text in `headers` anyway |
| another header, of one value, that appears twice | 400 late | taken when both are alike |
| over 100 values of one header | 513 late | |
| a bare CR or LF in a message of CRLFs | 400 | the next hop could read a header there |
| a line without a colon, or whose name is no token | 400 | |
| a line over 8192 bytes, folds included | 400 | |
| no blank line behind the headers | 400 | |
| a Content-Length that is not 0 to 2**32 - 1, or appears twice | 400 | also with plus, comma or `_`, and for equal ones, see RFC 4475 §3.3.9 |
| a body shorter than its Content-Length | 400 | §18.3 |
| From, To, Call-ID or CSeq missing, twice or broken | 400 | §8.1.1 |
| a broken top Via, or port 0 in it | 400 | sent to the source of the request |
| a tag or a top branch that appears twice | 400 | the next hop might take the other one (§7.3.1) |
| CSeq with another known method, or of 2**31 and more | 400 | §8.1.1.5 |
| CSeq with another method than an unknown one | 501 | RFC 4475 §3.1.2.18 |
| Max-Forwards over 255, twice or no number | 400 | §20.22 |
| over 64 parameters of one value or URI | 400 | From, To and top Via; late in others |
| more blanks in the request line than two | 400 | RFC 4475 §3.1.2.8 to §3.1.2.10 |
| a broken Request-URI | 400 | no scheme, no host, port 0, in brackets … |
| a Request-URI over 4096 characters | 414 | in From, To and others it is 400 |
| a Request-URI with a scheme that is not served | 416 | from the stack, not from parse() (§8.2.2.1) |
| a version but SIP/2.0 | 505 | 400 when it is no version of SIP |
| over 256 header lines, over 65536 bytes | 513 | |
| no Via, no request line | dropped | an answer would have no destination |
| an unreadable line, and a Via that is cut off, or with or behind a bare CR or LF | dropped | an answer needs all Vias (§8.2.6.2) |
| a broken response, a broken ACK | dropped | neither is ever answered (§18.3, §17.1.1.3) |
| CRLFs, blanks, NULs and nothing else | dropped | keep-alives; see framer.py for streams |
| on a stream: no Content-Length, a bare LF, a line that cannot be read | 400 closed | the start of the next message is unknown (§18.3) |
| on a stream: a message made over 65536 bytes by its body | 413 closed | before the body arrives |
| on a stream: a header section over 32768 bytes | 513 closed | before its end arrives |
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..arguments import received
from ..errors import ParseError
from .grammar import TOKEN_CHARACTERS, is_token, number
from .headers import Headers
from .iana import METHODS
from .mandatory import plain_mandatory, read_mandatory
from .message import Request, Response
from .scan import Fields, Framed, Line, canonical
from .scan import fastest as scan
from .speedups import implementation as implementation
from .uri import parse_uri


class ParserLimits(NamedTuple):
    """The largest message that is read. A larger one is a ParseError: 513, or 400 for a line.

    Attributes:
        message: Most bytes of a message. More does not fit into a datagram, and no call needs it.
        headers: Most header lines. Real messages have under 50.
        line: Most bytes in one header line with its folds. An Identity or a long Route fits.
    """

    message: int = 65536
    headers: int = 256
    line: int = 8192


DEFAULT_LIMITS = ParserLimits()

_STATUS = re.compile(r"[1-6][0-9]{2}").fullmatch
_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE | re.ASCII).fullmatch
_LEADING = b"\r\n"
_MAX_FORWARDS = frozenset(map(str, range(256)))  # the usual spellings of 0 to 255
# Most lines that are searched for the answer to an unreadable message. A request cannot have more
# Vias than Max-Forwards allows.
_MOST_ANSWERED = 512

# In a message with unreadable lines: the end of its header section, with any line breaks, and the
# lines that its answer needs, with their folds and breaks. scan() decides which are readable.
_SECTION_END = re.compile(rb"\n\r?\n").search
_ANSWERED = re.compile(
    rb"^(v(?:ia)?|f(?:rom)?|to?|i|call-id|cseq)(?![%s]).*(?:\n[ \t].*)*\n?"
    % TOKEN_CHARACTERS.encode(),
    re.IGNORECASE | re.MULTILINE,
).finditer


def parse(data: bytes, limits: ParserLimits = DEFAULT_LIMITS) -> Request | Response:
    """Read one whole message, such as the content of a datagram.

    The start line, Via, From, To, Call-ID, CSeq, Max-Forwards and Content-Length are checked. Other
    header fields are checked on first use. Bytes behind the Content-Length are cut off (§18.3).
    Line breaks before the start line are skipped (§7.5).

    ```python
    request = parse(data)
    request.from_.uri.user
    ```

    Args:
        data: The bytes of the message.
        limits: The largest message that is read.

    Raises:
        ParseError: The message is broken or too large. Its `request` is set if it can be answered.
        TypeError: The data is not bytes.
    """
    if type(data) is Framed and data.scanned is not None and data.limits is limits:
        start_line, lines, fields, at = data.scanned
        data.scanned = None  # lines and fields belong to the message from now on
        return _read(start_line, Headers(lines, fields), data, at)
    if type(data) is not bytes:
        data = received("data", data, "parse({})")
    if len(data) > limits.message:
        raise _answerable(ParseError(f"over {limits.message} bytes", status=513), data, limits)
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(_LEADING)
    try:
        start_line, lines, fields, at = scan(data, limits.headers, limits.line)
    except ParseError as error:
        raise _answerable(error, data, limits) from None
    if start_line[:4].upper() == "SIP/":
        return _response(start_line, Headers(lines, fields), data, at)
    return _request(start_line, Headers(lines, fields), data, at)


def _read(start_line: str, headers: Headers, data: bytes, at: int) -> Request | Response:
    if start_line[:4].upper() == "SIP/":
        return _response(start_line, headers, data, at)
    return _request(start_line, headers, data, at)


def _request(start_line: str, headers: Headers, data: bytes, at: int) -> Request:
    # Request-Line = Method SP Request-URI SP SIP-Version CRLF
    parts = start_line.split(" ")
    if len(parts) != 3:
        raise _bad_start(start_line, headers)
    method, uri, version = parts
    fields = headers.fields
    request = Request.read(method, uri, headers, b"")
    try:
        if version != "SIP/2.0" and version.upper() != "SIP/2.0":
            raise _bad_version(version, start_line)
        if method not in METHODS and not is_token(method):
            raise ParseError("method is not a token", header="Request-Line", value=start_line)
        try:
            parse_uri(uri)
        except ParseError as error:
            error.header = "Request-URI"
            raise
        found = request.mandatory = (plain_mandatory and plain_mandatory(fields)) or read_mandatory(
            headers
        )
        if found.method != method:
            status = 400 if method in METHODS else 501  # RFC 4475 §3.1.2.18
            raise ParseError(
                "method is not the request's", header="CSeq", value=fields["CSeq"], status=status
            )
        request._method = found.method  # of which there is one text, in most cases
        forwards = fields.get("Max-Forwards")
        if forwards is not None and (type(forwards) is not str or forwards not in _MAX_FORWARDS):
            number(_once("Max-Forwards", forwards), 255, "Max-Forwards")
        request._body = _body(headers, fields, data, at)
    except ParseError as error:
        if "Via" in fields:
            error.request = Request.read(method, uri, _one_of_each(headers), b"")
        raise
    return request


def _response(start_line: str, headers: Headers, data: bytes, at: int) -> Response:
    # Status-Line = SIP-Version SP Status-Code SP Reason-Phrase CRLF
    version, _, rest = start_line.partition(" ")
    status, _, reason = rest.partition(" ")
    if version.upper() != "SIP/2.0":
        raise _bad_version(version, start_line)
    if not _STATUS(status):
        raise ParseError("status is not 100 to 699", header="Status-Line", value=start_line)
    fields = headers.fields
    response = Response.read(int(status), reason, headers, _body(headers, fields, data, at))
    response.mandatory = (plain_mandatory and plain_mandatory(fields)) or read_mandatory(
        headers, is_response=True
    )
    return response


def _one_of_each(headers: Headers) -> Headers:
    """Return the header lines for an answer, each field except Via once, so that the answer to a
    broken request is not broken too."""
    seen: set[str] = set()
    lines = []
    for line in headers.lines:
        if line[0] == "Via" or line[0] not in seen:
            lines.append(line)
        seen.add(line[0])
    return Headers(lines)


def _once(name: str, value: str | list[str]) -> str:
    if type(value) is not str:
        raise ParseError("appears twice", header=name, value=value)
    return value


def _body(headers: Headers, fields: Fields, data: bytes, at: int) -> bytes:
    """Return the body, cut to its Content-Length if there is one (§18.3)."""
    length = fields.get("Content-Length")
    body = data[at:]
    if length is None:
        return body
    wanted = len(body)
    if length != str(wanted):
        wanted = content_length(fields)
        body = data[at : at + wanted]
        if len(body) < wanted:
            raise ParseError(
                f"says {wanted}, but {len(body)} bytes are here", header="Content-Length"
            )
    # the line breaks are CRLF, so the message can be forwarded unchanged
    if data[at - 2] == 13:
        headers.wire = data if len(data) == at + wanted else data[: at + wanted]
    return body


def content_length(fields: Fields) -> int:
    """Return the Content-Length, which must appear exactly once (§18.3, §20.14). Raises
    ParseError."""
    text = fields.get("Content-Length")
    if text is None:
        raise ParseError("missing", header="Content-Length")
    if type(text) is not str:
        raise ParseError("appears twice", header="Content-Length", value=text)
    return number(text, header="Content-Length")


def _bad_start(start_line: str, headers: Headers) -> ParseError:
    error = ParseError("start line is not METHOD URI SIP/2.0 with single blanks", value=start_line)
    method = start_line.split(" ", 1)[0]
    version = start_line.rstrip().rsplit(" ", 1)[-1]
    if is_token(method) and "Via" in headers and _VERSION(version.strip()):
        error.request = Request.read(method, "", _one_of_each(headers), b"")
    return error


def _bad_version(version: str, start_line: str) -> ParseError:
    if _VERSION(version):
        return ParseError("version is not SIP/2.0", header="SIP-Version", value=version, status=505)
    return ParseError("not a SIP version", header="SIP-Version", value=start_line)


def _answerable(error: ParseError, data: bytes, limits: ParserLimits) -> ParseError:
    """Set the request of an error to the lines that its answer needs: Via, From, To, Call-ID and
    CSeq.

    A response has all Vias of its request, in order (§8.2.6.2). If one of them is cut off, the
    response could not return, so the error has no request. Of the other fields the first readable
    line is kept unchanged, with its folds.
    """
    if b"\n" not in data:
        return error  # a flood of noise costs no more than this
    data = data[: limits.message].lstrip(_LEADING)
    end = _SECTION_END(data)
    head = data if end is None else data[: end.start() + 1]
    start_line, _, _ = head.partition(b"\n")
    line_break = b"\r\n" if start_line.endswith(b"\r") else b"\n"
    parts = start_line.rstrip(b"\r").decode("utf-8", "surrogateescape").split(" ")
    if len(parts) != 3 or not is_token(parts[0]) or not _VERSION(parts[2]):
        return error
    lines: list[Line] = []
    for looked_at, found in enumerate(_ANSWERED(head)):
        if looked_at == _MOST_ANSWERED:
            return error  # another Via may follow
        name = canonical(found[1].decode())
        if name != "Via" and any(line[0] == name for line in lines):
            continue
        try:
            if not head.endswith(line_break, 0, found.start()):
                raise error  # it may continue the line before it
            lines += scan(b"x" + line_break + found[0] + line_break, 1, len(head))[1]
        except ParseError:
            if name == "Via":
                return error
    if any(line[0] == "Via" for line in lines):
        error.request = Request.read(parts[0], parts[1], Headers(lines), b"")
    return error
