"""Priority: requests that pass before others, emergency calls and those of RFC 4412. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..message.message import Request
from .networks import Networks

_FIELD = re.compile(rb"\r\nResource-Priority[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE)
_URN = "urn:service:sos"


class Priority:
    """Knows the requests that have priority.

    Args:
        emergency: Users of the Request-URIs of emergency calls. With any, calls to urn:service:sos
            are emergency calls, too (RFC 5031 §4.2).
        resource: Values of Resource-Priority, or namespaces.
        trusted: Networks whose Resource-Priority counts (RFC 4412 §4.2 item 2); without any, that
            of all sources. That of others is ignored, as it may be (§4.7.3), and not refused: their
            requests are served as if they had none.
    """

    __slots__ = ("_resource", "_trusted", "_users", "is_configured")

    def __init__(
        self, emergency: Sequence[str], resource: Sequence[str], trusted: Sequence[str] = ()
    ) -> None:
        self._trusted = Networks(trusted) if trusted else None
        self._users = frozenset(emergency)
        self._resource = frozenset(value.lower() for value in resource)
        self.is_configured = bool(self._users or self._resource)
        """False if no request has priority."""

    def has(self, request: Request) -> bool:
        """True if a request has priority."""
        if not self.is_configured:
            return False
        if self.is_emergency(request.uri_text):
            return True
        fields = request.headers.fields
        return (
            "Resource-Priority" in fields
            and self.knows(request)
            # a request without a Via is our own, and may claim what it likes
            and (
                self._trusted is None
                or "Via" not in fields
                or request.flow.remote[0] in self._trusted
            )
        )

    def knows(self, request: Request) -> bool:
        """True if a request has a Resource-Priority that is configured, whatever its source."""
        return any(self._counts(value) for value in request.headers.all("Resource-Priority"))

    def is_in(self, data: bytes, host: str) -> bool:
        """True if a request from this host that is not parsed has priority."""
        uri = data[:512].split(b" ", 2)[1:2]
        if uri and self.is_emergency(uri[0].decode("utf-8", "replace")):
            return True
        if not self._resource or (self._trusted is not None and host not in self._trusted):
            return False
        head = data[: data.find(b"\r\n\r\n") + 1 or None]
        return any(self._counts(found.decode("utf-8", "replace")) for found in _FIELD.findall(head))

    @property
    def accepted(self) -> tuple[str, ...]:
        """The values of Resource-Priority that are configured, for Accept-Resource-Priority (RFC
        4412 §3.2). A namespace alone is not one of its values."""
        return tuple(sorted(value for value in self._resource if "." in value))

    @property
    def has_values(self) -> bool:
        """True if any value or namespace of Resource-Priority is configured."""
        return bool(self._resource)

    def is_emergency(self, uri: str) -> bool:
        """True for the Request-URI of an emergency call."""
        if not self._users:
            return False
        scheme, _, rest = uri.partition(":")
        if uri[: len(_URN)].lower() == _URN:
            return uri[len(_URN) : len(_URN) + 1] in ("", ".")
        user = rest.partition("@")[0] if scheme.lower() != "tel" else rest
        return user.partition(";")[0] in self._users

    def _counts(self, value: str) -> bool:
        for each in value.lower().split(","):
            wanted = each.strip()
            if wanted in self._resource or wanted.partition(".")[0] in self._resource:
                return True
        return False
