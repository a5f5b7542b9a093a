"""Every exception of the library, each with the status code it amounts to. RFC 3261 §21,
§8.1.3.1."""

from __future__ import annotations

import errno
import re
from typing import Any

EXCERPT = 80
"""Characters of offending text quoted in an error: enough to find it, too few to flood a log."""


CREDENTIALS = frozenset(("Authorization", "Proxy-Authorization"))
"""Headers whose text goes into no error message and no log."""


def excerpt(text: object) -> str:
    """Return `repr(text)`, cut to EXCERPT characters and without the passwords of URIs, for errors
    and log lines."""
    shown = repr(text if not isinstance(text, (str, bytes)) else text[: EXCERPT * 4])
    if "@" in shown or "uthorization" in shown:
        shown = _CREDENTIALS(r"\1...", _PASSWORD(r"\1:...@", shown))
    return shown if len(shown) <= EXCERPT + 2 else shown[:EXCERPT] + "…"


# A password (RFC 3261 §19.1.1), up to the last "@" of the word; credentials in the headers of a URI
# (§19.1.5).
_PASSWORD = re.compile(r"(sips?:[^:@\s<>]*):[^\s<>]*@", re.IGNORECASE).sub
_CREDENTIALS = re.compile(r"(authorization(?:=|%3D))[^&>\s]*", re.IGNORECASE).sub


# The rule for wrong arguments. TypeError: the value is of another type than the argument has, so
# the program itself is wrong, and `except SIPError` must not hide it; a text where several are
# wanted is one of these. InvalidValue: the type is right, and this value cannot be, which data may
# cause.


class SIPError(Exception):
    """The root: anything that goes wrong in here. A core that lets one out answers its `status`."""

    status = 500
    reason: str | None = None


class ParseError(SIPError, ValueError):
    """The peer's bytes break the grammar or a limit (RFC 3261 §25).

    `header` names the field or part, `offset` is the octet in the message (or character in the
    value) where known, `value` the offending text, which `problem` never quotes; `status` what to
    answer: 400, or 413, 414, 416, 501, 505, 513; 502 where a peer's response breaks it. `source` is
    the text that was read: of a header field, a value, a message, a body. If it is part of the
    request that a core serves, the mistake is the caller's. If it is any other text, such as a URI
    of the core's own, the answer is 500.
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
        source: Any = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.header = header
        self.value = value
        self.offset = offset
        self.status = status
        self.source = value if source is None else source
        self.request: Any = None
        """As much of the request as could be read, when that is enough to answer it."""

    def __str__(self) -> str:
        text = f"{self.header}: {self.problem}" if self.header else self.problem
        if self.offset is not None:
            text += f" at octet {self.offset}"
        return (
            text
            if self.value is None or self.header in CREDENTIALS
            else f"{text}: {excerpt(self.value)}"
        )


class InvalidValue(SIPError, ValueError):
    """An argument has the right type and a wrong value: out of range, or not by the grammar (RFC
    3261 §25).

    So has text that must not go on the wire: CR, LF, NUL, or text that its header field cannot
    hold.
    """


class Reject(SIPError):
    """A refusal: raised by a core to refuse a request, raised to you when the peer refused yours.

    `status` and `reason` are the status line's. `response` is the peer's whole Response, or None
    when it is your own refusal; further keyword arguments become header fields of the answer:
    `Reject(405, allow=("INVITE", "ACK"))`. The answer also gets the header fields of `response`
    that its status needs, such as a challenge or Retry-After: see the table FIELDS in
    core/refusal.py.
    """

    def __init__(
        self, status: int, reason: str | None = None, *, response: Any = None, **headers: Any
    ) -> None:
        if not isinstance(status, int) or isinstance(status, bool):
            code = status if isinstance(status, str) and status.isdecimal() else 403
            raise TypeError(
                f"status must be a number of 300 to 699, got {excerpt(status)}: write Reject({code})"
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


class WrongScheme(Reject):
    """A sips URI where a sip one is wanted, or the other way round: a 480 whose Warning says which
    (RFC 5630 §5.3)."""

    def __init__(self, *, warning: Any) -> None:
        super().__init__(480, warning=warning)


class Cancelled(SIPError):
    """The caller gave up (RFC 3261 §9.2). Raised in a core at its next call into the library;
    leaving it answers 487.

    `cancel` is its CANCEL, whose `reason_header` says why (RFC 3326). It is None where the INVITE's
    own Expires has passed, or a BYE has come.
    """

    status = 487

    def __init__(self, *arguments: object, cancel: Any = None) -> None:
        super().__init__(*arguments)
        self.cancel = cancel


class TransactionTimeout(SIPError):
    """No final answer in time: timers B, F, H or C, or your own deadline (RFC 3261 §8.1.3.1 counts
    it as a 408)."""

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
    """Sending failed, or there is no way to the peer (RFC 3261 §8.1.3.1 counts it as a 503)."""

    status = 503

    def __init__(self, problem: str, flow: Any = None, *, kind: str = "") -> None:
        super().__init__(problem)
        self.flow = flow
        self._kind = kind

    @property
    def kind(self) -> str:
        """The kind of failure, as statistics count it: `refused`, `no_address`, `tls_name`,
        `forbidden`, …"""
        return self._kind or _KINDS.get(getattr(self.__cause__, "errno", None) or 0, "other")


class FlowFailed(TransportError):
    """The flow that alone leads to the peer has ended (RFC 5626 §5.3.1)."""

    status = 430

    @property
    def kind(self) -> str:
        return self._kind or "flow_ended"


class TransactionStateError(SIPError):
    """Your own request of the library came in the wrong state: a second final response, a response
    after the end."""
