"""Priority: requests that pass before others, emergency calls and those of RFC 4412. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..message.message import Request

_FIELD = re.compile(rb"\r\nResource-Priority[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE)
_URN = "urn:service:sos"


class Priority:
    """Knows the requests that have priority.

    Args:
        emergency: Users of the Request-URIs of emergency calls. With any, calls to urn:service:sos
            are emergency calls, too (RFC 5031 §4.2).
        resource: Values of Resource-Priority, or namespaces.
    """

    __slots__ = ("_resource", "_users", "is_configured")

    def __init__(self, emergency: Sequence[str], resource: Sequence[str]) -> None:
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
        return "Resource-Priority" in request.headers.fields and any(
            self._counts(value) for value in request.headers.all("Resource-Priority")
        )

    def is_in(self, data: bytes) -> bool:
        """True if a request that is not parsed has priority."""
        uri = data[:512].split(b" ", 2)[1:2]
        if uri and self.is_emergency(uri[0].decode("utf-8", "replace")):
            return True
        head = data[: data.find(b"\r\n\r\n") + 1 or None]
        return bool(self._resource) and any(
            self._counts(found.decode("utf-8", "replace")) for found in _FIELD.findall(head)
        )

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
