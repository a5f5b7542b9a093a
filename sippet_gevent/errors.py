"""Exceptions of the library, each with the status code that it counts as, RFC 3261 §21 and
§8.1.3.1."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from typing import Any, Protocol

EXCERPT = 80
"""Characters of a wrong value that an error quotes. They are enough to find the value, and too few
to flood a log."""

CREDENTIALS = frozenset(("Authorization", "Proxy-Authorization"))
"""Header fields whose text never appears in an error or a log line."""


def excerpt(text: object) -> str:
    """Return `repr(text)` for errors and log lines: cut to EXCERPT characters, and without
    passwords of URIs."""
    shown = repr(text if not isinstance(text, (str, bytes)) else text[: EXCERPT * 4])
    if "@" in shown or "uthorization" in shown:
        shown = _CREDENTIALS(r"\1...", _PASSWORD(r"\1:...@", shown))
    return shown if len(shown) <= EXCERPT + 2 else shown[:EXCERPT] + "…"


# A password (RFC 3261 §19.1.1), up to the last "@" of the word; credentials in the headers of a URI
# (§19.1.5).
_PASSWORD = re.compile(r"(sips?:[^:@\s<>]*):[^\s<>]*@", re.IGNORECASE).sub
_CREDENTIALS = re.compile(r"(authorization(?:=|%3D))[^&>\s]*", re.IGNORECASE).sub


# The rule for wrong arguments. TypeError: the value has another type than the argument, such as one
# text in place of a tuple of texts. The program is wrong, and `except SIPError` must not hide that.
# InvalidValue: the type is right and the value is wrong, which data may cause.


# This is the lowest floor, so it cannot import Request, Response and Flow. These protocols are the
# parts that an editor shows. After `isinstance(error.response, Response)` it shows all of them.


class HeaderTexts(Protocol):
    """The header fields of a message as text. They are a `Headers`."""

    def get(self, name: str) -> str | None:
        """Return the text of the first line of a header field, None if there is none."""

    def all(self, name: str) -> list[str]:
        """Return the texts of all lines of a header field."""

    def items(self) -> list[tuple[str, str]]:
        """Return names and texts of all lines, in their order."""

    def __getitem__(self, name: str) -> str: ...
    def __contains__(self, name: object) -> bool: ...


class PeerResponse(Protocol):
    """The response of a peer. It is a `Response`."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def reason(self) -> str:
        """The reason phrase."""

    @property
    def headers(self) -> HeaderTexts:
        """The header fields."""

    @property
    def body(self) -> bytes:
        """The body."""


class PeerReason(Protocol):
    """One value of a Reason header field (RFC 3326 §2)."""

    @property
    def protocol(self) -> str:
        """`SIP`, `Q.850` …"""

    @property
    def cause(self) -> int | None:
        """A SIP status, or the cause of another protocol."""

    @property
    def text(self) -> str | None:
        """The cause in words."""


class PeerCancel(Protocol):
    """A CANCEL of the caller. It is a `Request`."""

    @property
    def reason_header(self) -> Sequence[PeerReason]:
        """Why the caller has given up (RFC 3326). Raises ParseError."""

    @property
    def headers(self) -> HeaderTexts:
        """The header fields."""


class PeerTransport(Protocol):
    """The transport of a flow. It is a `Transport`."""

    @property
    def name(self) -> str:
        """The transport as a Via has it: `UDP`, `TLS` …"""


class PeerFlow(Protocol):
    """The flow to a peer. It is a `Flow`."""

    @property
    def transport(self) -> PeerTransport:
        """The transport that the flow belongs to."""

    @property
    def remote(self) -> tuple[str, int]:
        """The address of the peer: host and port."""

    @property
    def local(self) -> tuple[str, int]:
        """Our address as the peer sees it: host and port."""

    def is_alive(self) -> bool:
        """False after the connection has ended."""


class SIPError(Exception):
    """Base class of all exceptions of the library. If one leaves a core, the answer has its
    `status`."""

    status = 500
    reason: str | None = None


class ParseError(SIPError, ValueError):
    """Bytes or text break the grammar or a limit (RFC 3261 §25).

    If the text is part of the request that a core serves, the mistake is the caller's, and the
    answer is `status`. If it is any other text, such as a URI that the core wrote, the answer is
    500.

    Args:
        problem: What is wrong. It does not quote the text.
        header: The header field, or the part of the message.
        value: The wrong text.
        offset: The byte of the message, or the character of the value, at which the text is wrong.
        status: The answer: 400, 413, 414, 416, 501, 505 or 513; 502 for a response of a peer.
        source: The whole text that was read: a header field, a value, a message or a body.
    """

    status = 400

    def __init__(
        self,
        problem: str,
        *,
        header: str | None = None,
        value: object = None,
        offset: int | None = None,
        status: int = 400,
        source: object = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.header = header
        self.value = value
        self.offset = offset
        self.status = status
        self.source = value if source is None else source
        # Any, because a higher layer defines Request
        self.request: Any = None
        """The part of the request that could be read, if it is enough to answer it."""

    def __str__(self) -> str:
        text = f"{self.header}: {self.problem}" if self.header else self.problem
        if self.offset is not None:
            text += f" at byte {self.offset}"
        return (
            text
            if self.value is None or self.header in CREDENTIALS
            else f"{text}: {excerpt(self.value)}"
        )


class InvalidValue(SIPError, ValueError):
    """An argument has the right type and a wrong value, which is out of range or breaks the grammar
    (RFC 3261 §25).

    Text that must not be sent is such a value. Examples are CR, LF, NUL, and text that a header
    field cannot hold.
    """


class Reject(SIPError):
    """A refusal. A core raises it to refuse a request. A method that sends a request raises it if
    the peer refuses.

        raise Reject(405, allow=("INVITE", "ACK"))

    The answer also gets the header fields of `response` that its status needs, such as a challenge
    or Retry-After. See the table FIELDS in core/refusal.py.

    Args:
        status: 300 to 699.
        reason: The reason phrase; that of the status by default.
        response: The response of the peer; None for a refusal of your own.
        headers: Header fields of the answer.

    Raises:
        InvalidValue: The status is not a refusal.
        TypeError: The status is not a number.
    """

    also: frozenset[str] = frozenset()
    """Names of header fields of `response` that the answer gets besides those of its status."""

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        *,
        response: PeerResponse | None = None,
        **headers: Any,
    ) -> None:
        if not isinstance(status, int) or isinstance(status, bool):
            code = status if isinstance(status, str) and status.isdecimal() else 403
            raise TypeError(
                f"status must be a number of 300 to 699, got {excerpt(status)}: write "
                f"Reject({code})"
            )
        if not 300 <= status <= 699:
            write = f"tx.respond({status})" if 100 <= status < 300 else "Reject(603)"
            raise InvalidValue(
                f"status must be a number of 300 to 699, got {status!r}: write {write}"
            )
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.response = response
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.status} {self.reason}" if self.reason else str(self.status)


class Challenged(Reject):
    """A refusal that asks for credentials: 401 or 407 (RFC 3261 §22). It leaves no state."""


class Unauthorized(Reject):
    """The peer asks for credentials that are missing, or refuses those that it got (RFC 3261 §22).

    `problem` says which. It quotes the user and the realm, and no password.
    """

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        *,
        problem: str,
        response: PeerResponse | None = None,
    ) -> None:
        super().__init__(status, reason, response=response)
        self.problem = problem

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.problem}"


class WrongScheme(Reject):
    """A sips URI in place of a sip URI, or the reverse. It counts as a 480, and its Warning says
    which (RFC 5630 §5.3)."""

    def __init__(self, *, warning: object) -> None:
        super().__init__(480, warning=warning)


class Cancelled(SIPError):
    """The caller has given up (RFC 3261 §9.2).

    It is raised in a core, at its next call of this library. If it leaves the core, the answer is
    487. `cancel` is the CANCEL, whose `reason_header` says why (RFC 3326). It is None if the
    Expires of the INVITE has passed, or if the call has ended after its answer."""

    status = 487

    def __init__(self, *arguments: object, cancel: PeerCancel | None = None) -> None:
        super().__init__(*arguments)
        self.cancel = cancel


class TransactionTimeout(SIPError):
    """No final response in time, because timer B, F, H or C has fired, or your own timeout. It
    counts as a 408 (RFC 3261 §8.1.3.1)."""

    status = 408


_KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "connect_timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.EINVAL: "unreachable",
    errno.EACCES: "unreachable",
    errno.EPERM: "unreachable",
    errno.EMSGSIZE: "too_long",
    errno.EMFILE: "no_descriptor",
    errno.ENFILE: "no_descriptor",
}


class TransportError(SIPError, OSError):
    """Sending failed, or the peer cannot be reached. It counts as a 503 (RFC 3261 §8.1.3.1).

    `flow` is the Flow that has failed, if there was one.
    """

    status = 503

    def __init__(self, problem: str, flow: PeerFlow | None = None, *, kind: str = "") -> None:
        super().__init__(problem)
        self.flow = flow
        self._kind = kind

    @property
    def kind(self) -> str:
        """The kind of failure, as statistics count it: `refused`, `no_address`, `tls_name`,
        `forbidden`, …"""
        return self._kind or _KINDS.get(getattr(self.__cause__, "errno", None) or 0, "other")


class FlowFailed(TransportError):
    """The only flow that leads to the peer has ended (RFC 5626 §5.3.1)."""

    status = 430

    @property
    def kind(self) -> str:
        return self._kind or "flow_ended"


class StoreError(SIPError):
    """A store of bindings or users fails, or is full. It counts as a 503.

    The text says what is wrong, and what to do. A change may or may not be stored.
    """

    status = 503


class TransactionStateError(SIPError):
    """A method is called in the wrong state, for example for a second final response, or for a
    response after the end."""
