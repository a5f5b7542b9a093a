"""The privacy that a caller asks a proxy for, RFC 3323, RFC 3325 §7 and RFC 5079. Pure.

| Privacy | what a proxy does |
|---|---|
| `id` | removes P-Asserted-Identity, Remote-Party-ID before a message leaves the trust domain |
| `user` | removes Subject and the like; the caller has to write an anonymous From itself |
| `history` | leaves History-Info to `forward()`, which makes it anonymous (RFC 7044 §10.1) |
| `header`, `session` | nothing: only a B2BUA hides Via, Contact and media, such as `bridge()` |
| `none` | nothing, and P-Asserted-Identity stays |
| `critical` | refuses the request with 500, if one of the others cannot be done |

A request that a bridge takes over is not refused for `header`. So what is critical is checked where
a request leaves, not where it arrives.

The words whose work is done are removed from Privacy, so that no other proxy does it again.
"""

from __future__ import annotations

from collections.abc import Container

from ..errors import Reject
from ..message.headers import Headers
from ..message.message import Request, Response
from ..message.scan import canonical
from ..message.uri import URI

TAG = "privacy"
"""Option tag of Proxy-Require: a proxy that cannot read Privacy must refuse the request."""

ANONYMOUS_HOST = "anonymous.invalid"
"""The host of an anonymous URI (RFC 3323 §4.1.1.3)."""

REMOTE_PARTY = canonical("Remote-Party-ID")
"""The header field that said who calls before RFC 3325 (draft-ietf-sip-privacy-04). Many phones
still show it."""

INFORMATIONAL = (
    "Subject", "Call-Info", "Organization", "User-Agent", "Reply-To", "In-Reply-To",
)  # fmt: skip
"""Header fields about the caller that no peer needs (RFC 3323 §5.3)."""


def is_anonymous(uri: URI) -> bool:
    """True for the URI of a caller that does not say its name (RFC 3323 §4.1.1.3)."""
    return uri.host.lower() == ANONYMOUS_HOST


def privacy_of(message: Request | Response) -> tuple[str, ...]:
    """Return the words of Privacy in lower case. Raises ParseError."""
    if "Privacy" not in message.headers.fields:
        return ()
    return tuple(word.lower() for word in message.privacy or ())


BY_BRIDGE = frozenset(("header", "history", "id", "user"))
"""What a bridge can do, which has a Via, Contact, From and Call-ID of its own. Not `session`, which
needs a media relay (RFC 3323 §5.2)."""


def by_proxy(request: Request) -> frozenset[str]:
    """Return what a proxy can do for a request. Raises ParseError."""
    return _BY_PROXY_ANONYMOUS if is_anonymous(request.from_.uri) else _BY_PROXY


_BY_PROXY = frozenset(("history", "id"))
_BY_PROXY_ANONYMOUS = _BY_PROXY | {"user"}


def check_critical(request: Request, able: Container[str]) -> None:
    """Refuse a request whose privacy is critical and more than this element can do (RFC 3323 §5).

    Args:
        request: The request.
        able: The words of Privacy that are done: BY_BRIDGE or by_proxy().

    Raises:
        ParseError: Privacy cannot be read.
        Reject: 500.
    """
    words = privacy_of(request)
    if "critical" not in words or "none" in words:
        return
    unable = [word for word in words if word != "critical" and word not in able]
    if unable:
        raise Reject(500, f"Privacy Failure: {', '.join(unable)}")


def conceal(message: Request | Response, *, is_trusted: bool) -> None:
    """Do what a message asks for before it goes on.

    Args:
        message: A request or response that leaves; it is changed.
        is_trusted: True if it goes to an element of the trust domain, which still needs to know the
            caller, and will hide it later.

    Raises:
        ParseError: Privacy cannot be read.
    """
    words = privacy_of(message)
    if not words or "none" in words:
        return
    headers, done = message.headers, set()
    if "id" in words and not is_trusted:
        remove(headers, "P-Asserted-Identity")
        remove(headers, REMOTE_PARTY)
        done.add("id")
    if "user" in words:
        for name in INFORMATIONAL:
            remove(headers, name)
        if isinstance(message, Request) and is_anonymous(message.from_.uri):
            done.add("user")
    left = tuple(word for word in words if word not in done)
    if set(left) <= {"critical"}:
        remove(headers, "Privacy")
        if isinstance(message, Request):
            without_tag(message)
    elif done:
        message.privacy = left


def remove(headers: Headers, name: str) -> None:
    """Remove a header field, if it is there."""
    if name in headers.fields:
        del headers[name]


def without_tag(request: Request) -> bool:
    """Remove `privacy` from Proxy-Require (RFC 3323 §5). Returns True if it was there."""
    if "Proxy-Require" not in request.headers.fields:
        return False
    tags = request.proxy_require
    left = tuple(tag for tag in tags if tag.lower() != TAG)
    if len(left) == len(tags):
        return False
    request.proxy_require = left or None
    return True


def hides_its_caller(request: Request) -> bool:
    """True if the callee of a request does not learn who calls (RFC 5079 §4)."""
    words = privacy_of(request)
    if "none" in words:
        return False
    hides_identity = "id" in words or "P-Asserted-Identity" not in request.headers.fields
    return hides_identity and (is_anonymous(request.from_.uri) or "user" in words)
