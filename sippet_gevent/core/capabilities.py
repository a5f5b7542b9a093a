"""Capabilities: the header fields that the stack adds to its messages if the application has not
set them, RFC 3261 §11.2, §13.2.1 and §20.

A proxy adds none of them to what it forwards. This table says which fields each message gets:

| method | our request | our 2xx | why |
|---|---|---|---|
| INVITE | Allow, Supported, Contact | the same | RFC 3261 §13.2.1, §13.3.1.4, §12.1 |
| OPTIONS | Accept | Accept, Allow, Supported | §11.1, §11.2 |
| UPDATE | Contact | Contact | RFC 3311 §5.1, §5.2, table 1 |
| SUBSCRIBE | Contact | Contact, Expires | RFC 6665 §3.1.1, §4.2.1.1, RFC 3265 table 2 |
| REFER | Contact | Contact | RFC 3515 §2.2, table 1 |
| NOTIFY | Contact | | RFC 3265 table 2: its 2xx needs none |

An INVITE within a dialog has the same fields as an initial one (§14.1). If the stack supports any
extension, Supported is in each request but ACK and CANCEL (§8.1.1.9; tables 2 and 3 of §20, RFC
3262 table 1). Where the table above has Supported, the field is sent even if it is empty (§20.37).

Sender and ServerTransaction write Contact, because they know the flow. Accept-Encoding and
Accept-Language, which §11.2 names too, are left out. Without them a peer assumes `identity` and any
language (§20.2, §20.3), which is correct here.

The defaults of `Stack(headers=...)` are in all requests and responses of a core, and in those that
the stack sends for it. User-Agent is in requests only, Server in responses only (§20.35, §20.41).
Messages of the transaction layer have none of these fields. They are the 100, the CANCEL and its
200, the ACK to a refusal, and the 400, 482 and 503 that are sent without a core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from ..errors import InvalidValue, ParseError, excerpt
from ..message.grammar import BLANKS, is_token
from ..message.header import ROWS
from ..message.headers import Headers
from ..message.iana import TARGET_REFRESHING
from ..message.lines import safe
from ..message.message import Request, Response
from ..message.scan import USUAL, Line, canonical

IN_REQUEST: dict[str, tuple[str, ...]] = {
    "INVITE": ("Allow", "Supported"),
    "OPTIONS": ("Accept",),
}

IN_SUCCESS: dict[str, tuple[str, ...]] = {
    "INVITE": ("Allow", "Supported"),
    "OPTIONS": ("Accept", "Allow", "Supported"),
    "SUBSCRIBE": ("Expires",),
}

CONTACT_IN_REQUEST = TARGET_REFRESHING
"""Methods whose requests begin a dialog or refresh its target."""

CONTACT_IN_SUCCESS = TARGET_REFRESHING - {"NOTIFY"}
"""Methods whose 2xx begins a dialog or refreshes its target."""

WITHOUT_SUPPORTED = frozenset(("ACK", "CANCEL"))

WITHIN_CALLS = ("ACK", "BYE", "CANCEL", "INVITE", "OPTIONS")
"""Methods that a call serves even if the core does not. Allow names them for a core that serves
INVITE alone (§13.2.1)."""

ACCEPT = "application/sdp"
"""Types of bodies that are understood, unless `Stack(headers={"Accept": ...})` has others
(§20.1)."""

SUBSCRIPTION_SECONDS = 3600
"""Expires of the 2xx to a SUBSCRIBE without Expires. This is the default of most event packages
(RFC 3856 §6.4, RFC 4235 §3.4)."""

OF_THE_STACK = frozenset(
    (
        "Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact", "Route",
        "Record-Route", "Path", "Expires", "Require", "Proxy-Require", "Unsupported",
        "Content-Length", "Content-Type", "Authorization", "Proxy-Authorization",
        "WWW-Authenticate", "Proxy-Authenticate", "Retry-After", "Max-Breadth", "RSeq", "RAck",
        "Event",
    )
)  # fmt: skip
"""Header fields that differ from message to message, so they cannot have a default."""

_INSTEAD = {"Allow": "register the methods with @stack.on()", "Supported": "write supported=(...)"}

END = b"Content-Length: 0\r\n\r\n"
"""End of a response that has a status and nothing else."""

BEFORE_END = -len(END)
"""Where END begins in such a response."""


class Served(Protocol):
    """What an element serves."""

    @property
    def supported(self) -> frozenset[str]:
        """Option tags, in lower case."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """Methods."""

    @property
    def allowed_in_calls(self) -> frozenset[str]:
        """Methods that calls serve by their rules."""


class Capabilities:
    """Adds header fields to the messages of one stack.

    The lines are made once for each method, and again after forget().

    Args:
        element: The element, which knows the option tags and methods that are served.
        headers: The defaults of all messages, by name.

    Raises:
        TypeError: A name or value is no text.
        InvalidValue: A header field cannot have a default, or its value cannot be sent.
    """

    def __init__(self, element: Served, headers: Mapping[str, str] | None) -> None:
        self._element = element
        given = _checked({} if headers is None else headers)
        self._accept = given.pop("Accept", ACCEPT)
        self.in_requests: list[Line] = [
            (name, USUAL, text) for name, text in given.items() if name != "Server"
        ]
        self.in_responses: list[Line] = [
            (name, USUAL, text) for name, text in given.items() if name != "User-Agent"
        ]
        self._requests: dict[str, list[Line]] = {}
        self._successes: dict[str, list[Line]] = {}
        self.ends: dict[str, bytes] = {}
        """Results of success_end() by method."""
        self.refusal_end = _text(self.in_responses)
        """The end of a response of 300 to 699 that has a status and nothing else."""

    def forget(self) -> None:
        """Discard the lines, because other methods are served from now on."""
        self._requests.clear()
        self._successes.clear()
        self.ends.clear()

    def complete_request(self, request: Request) -> None:
        """Add the header fields that a request of ours lacks."""
        method = request.method
        lines = self._requests.get(method)
        if lines is None:
            names = list(IN_REQUEST.get(method, ()))
            if (
                self._element.supported
                and method not in WITHOUT_SUPPORTED
                and "Supported" not in names
            ):
                names.append("Supported")
            lines = _remember(self._requests, method, self._lines(names, method) + self.in_requests)
        _add_missing(request.headers, lines)

    def complete_response(self, request: Request, response: Response) -> None:
        """Add the header fields that a response of ours lacks."""
        if not 200 <= response.status < 300:
            if self.in_responses:
                _add_missing(response.headers, self.in_responses)
            return
        method = request.method
        lines = self._successes.get(method)
        if lines is None:
            lines = self._in_success(method)
        if lines:
            _add_missing(response.headers, lines)
        if method == "SUBSCRIBE" and "Expires" not in response.headers.fields:
            response.expires = _subscription_seconds(request)

    def success_end(self, method: str) -> bytes:
        """Return the end of a 2xx to this method that has a status and nothing else."""
        return _remember(self.ends, method, _text(self._in_success(method)))

    def _in_success(self, method: str) -> list[Line]:
        lines = self._successes.get(method)
        if lines is None:
            names = [name for name in IN_SUCCESS.get(method, ()) if name != "Expires"]
            lines = _remember(
                self._successes, method, self._lines(names, method) + self.in_responses
            )
        return lines

    def _lines(self, names: Iterable[str], method: str) -> list[Line]:
        allowed: Iterable[str] = self._element.allowed
        if method == "INVITE":
            allowed = sorted({*allowed, *WITHIN_CALLS, *self._element.allowed_in_calls})
        elif "INVITE" in self._element.allowed:
            allowed = sorted({*allowed, *self._element.allowed_in_calls})
        texts = {
            "Accept": self._accept,
            "Allow": ", ".join(allowed),
            "Supported": ", ".join(sorted(self._element.supported)),
        }
        return [(name, USUAL, texts[name]) for name in names if texts[name] or name == "Supported"]


METHODS_REMEMBERED = 64
"""Limit on methods whose lines are kept, because a peer may make up any number of methods."""

T = TypeVar("T")


def _remember(where: dict[str, T], method: str, what: T) -> T:
    if len(where) < METHODS_REMEMBERED:
        where[method] = what
    return what


def _add_missing(headers: Headers, lines: list[Line]) -> None:
    there = headers.fields
    missing = [line for line in lines if line[0] not in there]
    if missing:
        headers.extend(missing)


def _text(lines: list[Line]) -> bytes:
    head = "".join(f"{name}: {text}\r\n" for name, _, text in lines)
    return head.encode("utf-8", "surrogateescape") + END


def _subscription_seconds(request: Request) -> int:
    """Return the seconds that the SUBSCRIBE asks for. A 2xx must not lengthen them (RFC 6665
    §4.2.1.1)."""
    try:
        asked = request.expires
    except ParseError:
        asked = None
    return SUBSCRIPTION_SECONDS if asked is None else asked


_WRITE = """headers={"User-Agent": "office/1.0"}"""


def _checked(headers: object) -> dict[str, str]:
    """Return canonical names and texts of default header fields. Raises TypeError and
    InvalidValue."""
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must map names to texts, got {excerpt(headers)}: write {_WRITE}")
    found: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str):
            raise TypeError(
                f"headers must map names to texts, got the name {excerpt(name)}: write {_WRITE}"
            )
        if not is_token(name):
            raise InvalidValue(f"headers: {excerpt(name)} is not a header name: write {_WRITE}")
        known = canonical(name)
        if known in _INSTEAD:
            raise InvalidValue(
                f"headers: {known} follows from what the stack serves: {_INSTEAD[known]}"
            )
        if known in OF_THE_STACK:
            raise InvalidValue(
                f"headers: {known} belongs to one message and has no default: set it where you send"
            )
        row = ROWS.get(known)
        if row is None and not isinstance(value, str):
            raise TypeError(
                f"headers must map names to texts, got {excerpt(value)} for {known}: "
                f'write {{"{known}": "{value}"}}'
            )
        texts = row.write(value) if row is not None else [value]
        if len(texts) != 1 or not texts[0].strip(BLANKS):
            raise InvalidValue(
                f"headers: {known} must be one text that is not empty, got {excerpt(value)}: "
                f"write {_WRITE}"
            )
        found[known] = safe(texts[0], known).strip(BLANKS)
    return found
