"""Event packages: the kinds of state that a peer can subscribe to, RFC 6665 §5. Pure.

A package is one row of ROWS.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import InvalidValue, ParseError, Reject
from ...message.fields.extensions import Event
from ...message.message import Request
from ...message.sipfrag import SIPFRAG

HOUR = 3600
"""No duration of an hour or more is too short (RFC 6665 §4.2.1.1)."""


class Package(NamedTuple):
    """An event package (RFC 6665 §5.4)."""

    name: str
    """The event type, as in Event."""
    content_type: str = ""
    """The Content-Type of the body of a NOTIFY."""
    longest: int = 24 * HOUR
    """The longest duration that a notifier grants, in seconds."""
    default: int = HOUR
    """The duration of a subscription that asks for none, in seconds."""
    shortest: int = 30
    """The shortest duration that a notifier grants, in seconds. 0 is always possible."""

    @property
    def accepts(self) -> dict[str, str]:
        """The header fields of a SUBSCRIBE that say which bodies we understand (§3.1.3)."""
        return {"accept": self.content_type} if self.content_type else {}

    def check(self, request: Request) -> int:
        """Return the seconds that a SUBSCRIBE asks for.

        Raises:
            Reject: 423 with Min-Expires, because they are too few (§4.2.1.1).
            ParseError: Its Expires cannot be read.
        """
        asked = request.expires
        if asked is None:
            return min(self.default, self.longest)
        if 0 < asked < min(self.shortest, HOUR):
            raise Reject(423, min_expires=self.shortest)
        return asked


REFER = Package("refer", SIPFRAG, 180, 180, 0)
"""Transfers (RFC 3515 §3); it lasts longer than timer C."""

ROWS = (
    REFER,
    Package("presence", "application/pidf+xml"),  # RFC 3856 §6
    Package("message-summary", "application/simple-message-summary"),  # RFC 3842 §3
    Package("dialog", "application/dialog-info+xml"),  # RFC 4235 §3
    Package("reg", "application/reginfo+xml", default=3761),  # RFC 3680 §4
)
"""The event packages. Another one is one more row."""

PACKAGES = {package.name: package for package in ROWS}
"""The event packages by name."""


def package_of(event: Event) -> Package:
    """Return the package of an event type; one without a Content-Type for an unknown type."""
    name = event.value.lower()
    return PACKAGES.get(name) or Package(name)


def with_content_type(body: bytes, content_type: str, package: Package) -> bytes:
    """Return the body of a NOTIFY, after a check that it has a Content-Type (RFC 3261 §20.15).
    Raises InvalidValue."""
    if body and not content_type:
        raise InvalidValue(
            f"the body of a NOTIFY of event {package.name} needs a Content-Type: write "
            'tx.accept_subscription(…, content_type="text/plain")'
        )
    return body


def event_of(request: Request, known: tuple[str, ...]) -> Event:
    """Return the Event of a SUBSCRIBE.

    Args:
        request: The SUBSCRIBE.
        known: The event types that are served.

    Raises:
        Reject: 489 with Allow-Events for another event type (§4.2.1.1, §7.3.1). 403 for event
            `refer`, which only a REFER can begin (RFC 3515 §2.4.4).
    """
    event: Event | None
    try:
        event = request.event  # type: ignore[assignment]  # one class, but mypy sees two
    except ParseError:
        event = None
    name = "" if event is None else event.value.lower()
    if name == REFER.name:
        raise Reject(403)
    if event is None or name not in {each.lower() for each in known}:
        raise Reject(489, allow_events=", ".join(known))
    return event
