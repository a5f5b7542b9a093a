"""Message, Request and Response, RFC 3261 §7. Pure.

Both kinds share one base and create each other, so they are in one file. The argument lists make it
longer than others.
"""

from __future__ import annotations

import re
from contextlib import suppress
from difflib import get_close_matches
from operator import eq, is_
from typing import Any

from ..arguments import as_bytes
from ..arguments import status as check_status
from ..errors import InvalidValue, ParseError, excerpt
from ..slots import read_from_slots
from .echo import fastest_echo, tag_of, tagged
from .fields.table import HeaderFields
from .flow import MessageFlow
from .grammar import is_token, split_first
from .head import fastest_head
from .header import ONE, ROWS, Header, Kind
from .headers import Headers
from .iana import DIALOG_CREATING, METHODS, STATUSES, check_method_case, reason_phrase
from .identifiers import create_tag
from .lines import safe
from .mandatory import Mandatory
from .parameters import Parameters
from .scan import NAMES, USUAL, Fields, Line, remember_names
from .uri import URI, parse_uri
from .uri_arguments import SLASHES, has_slashes, how_to_write, meant, slashes_error

# The fields that a response copies from its request (§8.2.6.2), and those that it copies if it
# creates a dialog (§12.1.1).
_ECHOED = frozenset(("Via", "From", "To", "Call-ID", "CSeq"))
_ECHOED_IN_DIALOG = _ECHOED | {"Record-Route"}
# The fields that an ACK (§17.1.1.3) and a CANCEL (§9.1) copy from their INVITE.
_COPIED = frozenset(("Route", "From", "To", "Call-ID"))

_START_LINES = {status: f"SIP/2.0 {status} {phrase}" for status, phrase in STATUSES.items()}

_CONTENT_LENGTH = "Content-Length"

# The password of a URI, which is never shown (§19.1.1 calls it NOT RECOMMENDED).
_PASSWORD = re.compile(r"^(sips?:[^:@]*):[^@]*@", re.IGNORECASE).sub


def _instead_of(kind: type, name: str) -> str:
    """Return what to write instead of a keyword that names no header field."""
    if name == "headers":
        return (
            'write each as an argument of its own, subject="lunch", '
            'or set others by message.headers["X-Tenant"] = "7"'
        )
    plain = name.lower().replace("-", "_")
    known = [each for each in dir(kind) if isinstance(getattr(kind, each, None), Header)]
    for near in (plain, f"{plain}_", *get_close_matches(plain, known, 1)):
        if near in known:
            return f"write {near}="
    shown = "-".join(word.capitalize() for word in plain.split("_"))
    return (
        f'for one of your own, register_header({plain!r}, "{shown}"), '
        f'or set message.headers["{shown}"]'
    )


class Message(HeaderFields):
    """A request or a response: header fields as attributes, `headers` with all of them as text, and
    the body as bytes.

    `flow` is the flow by which it arrived, and `mandatory` has the parts of its mandatory fields.
    Both are None in a message that an application made, until the stack sends it. Assigning an
    unknown header name as a keyword is a TypeError.
    """

    __slots__ = ("_body", "flow", "headers", "mandatory")

    headers: Headers
    flow: MessageFlow
    mandatory: Mandatory

    @property
    def body(self) -> bytes:
        """The body as bytes. Assigning a body removes the Content-Length, which is then computed
        again."""
        return self._body

    @body.setter
    def body(self, value: bytes | str) -> None:
        self._body = as_bytes("body", value)
        self.headers.wire = None
        if _CONTENT_LENGTH in self.headers.fields:
            self.headers.replace(_CONTENT_LENGTH, [])

    @property
    def start_line(self) -> str:
        """The first line, without CRLF (§7.1, §7.2)."""
        raise TypeError("a Message is a Request or a Response")

    def _set(self, headers: dict[str, Any]) -> None:
        for name, value in headers.items():
            row = getattr(type(self), name, None)
            if not isinstance(row, Header):
                raise TypeError(
                    f"{name} is no header field of {type(self).__name__}: "
                    f"{_instead_of(type(self), name)}"
                )
            self.headers.assign(row, value)

    def is_source_of(self, error: ParseError) -> bool:
        """True if the unreadable text of an error is a part of this message or of a copy: its URI,
        a header field, its body.

        Texts and values are compared by identity. So a text of the application is not a part, even
        if it is equal to one. A single letter is the exception, because Python has one object for
        it. Another is a message whose lines have rested, because its texts are new objects since
        then. A body is read in pieces, so the text must be contained in it.
        """
        source = error.source
        if source is self:
            return True
        if isinstance(source, bytes):
            return source in self._body if source else not self._body
        wanted = [
            piece
            for piece in (source if type(source) is list else (source,))
            if piece is not None and piece != ""
        ]
        headers, is_same = self.headers, is_
        found = [getattr(self, "_uri", None), *(line[2] for line in headers.lines)]
        if headers.has_rested:
            is_same = eq
            for row in filter(None, map(ROWS.get, headers.fields)):
                with suppress(ParseError):
                    headers.typed(row)  # as something may have done before
        found += headers.looked_at.values()
        while found and wanted:
            piece = found.pop()
            if any(is_same(piece, one) for one in wanted):
                return True
            if isinstance(piece, tuple):
                found += piece
            elif isinstance(piece, Parameters):
                found += piece.pairs
        return False

    def __bytes__(self) -> bytes:
        """Return the message as it goes on the wire. Unchanged lines are sent as they were
        received, and a missing Content-Length is added. Raises InvalidValue for a wrong one."""
        wire = self.headers.wire
        if wire is not None and wire.startswith(
            f"{self.start_line}\r\n".encode("utf-8", "surrogateescape")
        ):
            return wire
        body = self._body
        return fastest_head(self.start_line, self.headers.lines, len(body)) + body

    def __str__(self) -> str:
        """Return the message as text for people. A body that is not text is shown by its length."""
        head = f"{self.start_line}\n" + "".join(
            f"{name}: {value}\n" for name, value in self.headers.items()
        )
        try:
            body = self._body.decode()
        except UnicodeDecodeError:
            body = f"({len(self._body)} bytes)"
        return f"{head}\n{body}" if body else head

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable


class Request(Message):
    """A request (§7.1).

    ```python
    Request("OPTIONS", "sip:bob@example.com", contact="<sip:me@192.0.2.1>", max_forwards=70)
    ```

    The stack adds what is missing when it sends the request: Via, From, To, Call-ID, CSeq …

    Args:
        method: A token, in upper case for known methods.
        uri: The Request-URI. As an attribute it is always a URI.
        body: Its body. Text becomes UTF-8.
        **headers: Header fields by their attribute names, as typed values or text.

    Raises:
        InvalidValue: A value cannot be sent.
        TypeError: A keyword names no header field, or a value has a wrong type.
    """

    __slots__ = ("_method", "_to_tag", "_uri", "sent_via")

    def __init__(
        self, method: str, uri: URI | str, *, body: bytes | str = b"", **headers: Any
    ) -> None:
        self.method = method
        self.headers = Headers()
        self.flow = None  # type: ignore[assignment]  # as the class says
        self.mandatory = None  # type: ignore[assignment]  # as the class says
        self._to_tag: str | None = None
        self.sent_via: str | None = None
        """The Via that the stack put in front when it sent the request, or None."""
        self._body = body if type(body) is bytes else as_bytes("body", body)
        self.uri = uri
        self._set(headers)

    @classmethod
    def read(cls, method: str, uri: str, headers: Headers, body: bytes) -> Request:
        """Return a request of parts that a parser has found. Nothing is checked."""
        request = cls.__new__(cls)
        request._method = method
        request._uri = uri
        request.headers = headers
        request._body = body
        request._to_tag = request.sent_via = None
        request.flow = None  # type: ignore[assignment]  # as the class says
        request.mandatory = None  # type: ignore[assignment]  # as the class says
        return request

    @property
    def method(self) -> str:
        """The method (§7.1). Assigning a text that is no token raises InvalidValue."""
        return self._method

    @method.setter
    def method(self, value: str) -> None:
        if type(value) is not str or value not in METHODS:
            if not isinstance(value, str):
                raise TypeError(
                    f"method must be a text, got {excerpt(value)}: "
                    'write Request("OPTIONS", "sip:…")'
                )
            if not is_token(value):
                raise InvalidValue(f'{excerpt(value)} is not a method: write "OPTIONS"')
            check_method_case(value)
        self._method = value

    @property
    def uri(self) -> URI:
        """The Request-URI (§8.1.1.1). Raises ParseError if it cannot be read."""
        return parse_uri(self._uri)

    @uri.setter
    def uri(self, value: URI | str) -> None:
        if not isinstance(value, (str, URI)):
            raise TypeError(
                f'uri must be a URI or text, got {excerpt(value)}: write "sip:bob@example.com"'
            )
        if type(value) is str and "//" in value and has_slashes(value):
            problem = f"Request-URI: {SLASHES}: {excerpt(value)}: write {meant(value)}"
            raise slashes_error(problem)
        try:
            text = safe(str(value), "Request-URI")
            URI.parse(text)
        except InvalidValue:
            raise
        except ValueError as error:
            raise InvalidValue(f"Request-URI: {error}{how_to_write(error)}") from error
        self._uri = text

    @property
    def uri_text(self) -> str:
        """The Request-URI as text, as in the start line."""
        return self._uri

    @property
    def start_line(self) -> str:
        return f"{self._method} {self._uri} SIP/2.0"

    @property
    def to_tag(self) -> str:
        """The To tag of every response to this request. It is the tag of the request, or a new tag
        that is made once (§8.2.6.2)."""
        tag = self._to_tag
        if tag is None:
            text = self.headers.get("To", "")
            self._to_tag = tag = ("tag" in text.lower() and tag_of(text)) or create_tag()
        return tag

    def use_to_tag(self, tag: str) -> None:
        """Use this To tag in responses, unless the To of the request has one (§8.2.6.2)."""
        self._to_tag = tag

    def response(
        self, status: int, reason: str | None = None, *, body: bytes | str = b"", **headers: Any
    ) -> Response:
        """Return a response to this request (§8.2.6) with those of its Via, From, To, Call-ID and
        CSeq that exist.

        The To gets a tag. A 100 has no To tag, but the Timestamp of the request (§8.2.6.1). 101 to
        299 for a method that creates dialogs have its Record-Route (§12.1.1).

        ```python
        request.response(486, retry_after=60)
        ```

        Args:
            status: 100 to 699.
            reason: The reason phrase; by default the registered one.
            body: Its body. Text becomes UTF-8.
            **headers: Further header fields.

        Raises:
            InvalidValue: The status is out of range, or a value cannot be sent.
            TypeError: A keyword names no header field, or a value has a wrong type.
        """
        if type(status) is not int or not 100 <= status <= 699:
            status = check_status(status)
        echoed = (
            _ECHOED_IN_DIALOG if 100 < status < 300 and self._method in DIALOG_CREATING else _ECHOED
        )
        ours, theirs = self.headers.lines, self.headers.fields
        fields = {name: theirs[name] for name in echoed if name in theirs}
        lines = [line for line in ours if line[0] in fields]
        if status > 100:
            there = fields.get("To")
            if there is not None:
                text = there if type(there) is str else there[0]
                known = None if self.mandatory is None else self.mandatory.to_tag
                # nearly all peers write a tag so
                if not known or not text.endswith(f">;tag={known}"):
                    self._tag_to(lines, fields, text)
        elif "Timestamp" in theirs:
            lines += [line for line in ours if line[0] == "Timestamp"]
            fields["Timestamp"] = theirs["Timestamp"]
        phrase = (
            STATUSES.get(status) or reason_phrase(status)
            if reason is None
            else safe(reason, "reason")
        )
        response = Response.read(status, phrase, Headers(lines, fields), b"")
        if type(body) is not bytes:
            body = as_bytes("body", body)
        if body:
            response._body = body
        if headers:
            response._set(headers)
        return response

    def _tag_to(self, lines: list[Line], fields: Fields, text: str) -> None:
        """Add our tag to the first To line of a response, unless its text has one (§8.2.6.2)."""
        is_without = "tag" not in text.lower()
        if not is_without and tag_of(text):
            return
        tag = self._to_tag
        if tag is None:
            tag = self._to_tag = create_tag()
        text = f"{text};tag={tag}" if is_without else tagged(text, tag)
        there = fields["To"]
        fields["To"] = text if type(there) is str else [text, *there[1:]]
        for at, line in enumerate(lines):
            if line[0] == "To":
                lines[at] = ("To", USUAL, text)
                break

    def answer(self, status: int) -> bytes:
        """Return `bytes(self.response(status))` without making a Response, because most answers
        have only a status."""
        if not 200 <= status <= 699:
            return bytes(self.response(status))
        echoed = _ECHOED_IN_DIALOG if status < 300 and self._method in DIALOG_CREATING else _ECHOED
        to = self.headers.get("To", "")
        tag = ""
        if "tag" not in to.lower():
            tag = self._to_tag = self._to_tag or create_tag()
        elif not tag_of(to):
            return bytes(self.response(status))
        start_line = _START_LINES.get(status) or f"SIP/2.0 {status} {reason_phrase(status)}"
        return fastest_echo(self.headers.lines, echoed, start_line, tag)

    def ack(self, response: Response) -> Request:
        """Return the ACK for a response of 300 to 699 to this INVITE (§17.1.1.3). It has the same
        branch, and the To of the response."""
        return self._same_transaction(
            "ACK", next((line for line in response.headers.lines if line[0] == "To"), None)
        )

    def cancel(self) -> Request:
        """Return the CANCEL of this request (§9.1). It has the same branch, Request-URI, Route,
        From, To, Call-ID and CSeq number."""
        return self._same_transaction("CANCEL", None)

    def _same_transaction(self, method: str, to: Line | None) -> Request:
        lines: list[Line] = []
        for line in self.headers.lines:
            if line[0] == "Via" and not (lines and lines[0][0] == "Via"):
                lines.insert(0, ("Via", USUAL, split_first(line[2], ",")[0]))
            elif line[0] == "To" and to is not None:
                lines.append(to)
            elif line[0] in _COPIED:
                lines.append(line)
        cseq = self.cseq
        if cseq is None:
            raise InvalidValue(
                f'CSeq: missing, so there is nothing to {method}: write cseq="1 {self.method}"'
            )
        lines.append(("CSeq", USUAL, f"{cseq.number} {method}"))
        lines.append(("Max-Forwards", USUAL, "70"))
        return Request.read(method, self._uri, Headers(lines), b"")

    def copy(self) -> Request:
        """Return an independent copy, as a proxy forwards it (§16.6 step 1)."""
        request = Request.read(self._method, self._uri, self.headers.copy(), self._body)
        request.flow = self.flow
        request.sent_via = self.sent_via
        return request

    def __repr__(self) -> str:
        uri = _PASSWORD(r"\1@", self._uri)
        return f"<Request {self.method} {excerpt(uri)[1:-1]}>"


class Response(Message):
    """A response (§7.2). `request.response(200)` makes one with the fields that it must copy.

    Args:
        status: 100 to 699.
        reason: The reason phrase; by default the registered one.
        body: Its body. Text becomes UTF-8.
        **headers: Header fields by their attribute names, as typed values or text.

    Raises:
        InvalidValue: The status is out of range, or a value cannot be sent.
        TypeError: A keyword names no header field, or a value has a wrong type.
    """

    __slots__ = ("_reason", "status")

    def __init__(
        self, status: int, reason: str | None = None, *, body: bytes | str = b"", **headers: Any
    ) -> None:
        self.status = status = check_status(status, call="Response({})")
        self.reason = reason_phrase(status) if reason is None else reason
        self.headers = Headers()
        self.flow = None  # type: ignore[assignment]  # as the class says
        self.mandatory = None  # type: ignore[assignment]  # as the class says
        self._body = body if type(body) is bytes else as_bytes("body", body)
        self._set(headers)

    @classmethod
    def read(cls, status: int, reason: str, headers: Headers, body: bytes) -> Response:
        """Return a response of parts that a parser has found. Nothing is checked."""
        response = cls.__new__(cls)
        response.status = status
        response._reason = reason
        response.headers = headers
        response._body = body
        response.flow = None  # type: ignore[assignment]  # as the class says
        response.mandatory = None  # type: ignore[assignment]  # as the class says
        return response

    @property
    def reason(self) -> str:
        """The reason phrase (§7.2). Assigning one with CR, LF or NUL raises InvalidValue."""
        return self._reason

    @reason.setter
    def reason(self, value: str) -> None:
        self._reason = safe(value, "reason")

    @property
    def start_line(self) -> str:
        return f"SIP/2.0 {self.status:d} {self._reason}"

    @property
    def is_provisional(self) -> bool:
        """True for 100 to 199."""
        return self.status < 200

    @property
    def is_success(self) -> bool:
        """True for 200 to 299."""
        return 200 <= self.status < 300

    def copy(self) -> Response:
        """Return an independent copy."""
        response = Response.read(self.status, self.reason, self.headers.copy(), self._body)
        response.flow = self.flow
        return response

    def __repr__(self) -> str:
        return f"<Response {self.status} {excerpt(self.reason)[1:-1]}>"


read_from_slots(Message, body="_body")
read_from_slots(Request, method="_method", uri_text="_uri")
read_from_slots(Response, reason="_reason")


def register_header(
    attribute: str, name: str, *, compact: str | None = None, kind: Kind = ONE, type: Any = str
) -> Header[Any]:
    """Give all messages a header field of your own as an attribute.

    ```python
    register_header("x_tenant", "X-Tenant", type=int)
    request.x_tenant = 7
    ```

    A type checker does not see such attributes.

    Args:
        attribute: The name of the attribute.
        name: The name of the header field.
        compact: Its compact form, if any.
        kind: How many values it has: ONE, LIST, EACH or LINES of sippet_gevent.message.header.
        type: The class of its values: str, int, or a class with `parse(text)` and `str()`.

    Returns:
        Its row.

    Raises:
        InvalidValue: A name is not a token, or is taken.
        TypeError: The type cannot be called.
    """
    if (
        not is_token(name)
        or not attribute.isidentifier()
        or not (compact is None or is_token(compact))
    ):
        raise InvalidValue(
            f"cannot register {attribute!r} for {name!r}, "
            "which must be an identifier and a header name: "
            'write register_header("x_tenant", "X-Tenant")'
        )
    if not callable(type):
        raise TypeError(
            f"type must be a class, got {excerpt(type)}: "
            "write type=int, or a class that has parse(text) and str()"
        )
    if name.lower() in NAMES or (compact and compact.lower() in NAMES):
        raise InvalidValue(
            f"{name} or {compact} is the name of a header field already: write another name"
        )
    if hasattr(Request, attribute) or hasattr(Response, attribute):
        raise InvalidValue(f"messages have an attribute {attribute} already: write another name")
    row: Header[Any] = Header(name, compact, kind, type)
    setattr(Message, attribute, row)
    remember_names()
    return row


remember_names()  # all rows above
