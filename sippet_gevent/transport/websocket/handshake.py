"""Handshake: the HTTP request that has opened a WebSocket, RFC 6455 §4.1. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from urllib.parse import parse_qsl, unquote

QUERY_FIELDS = 100
"""Most fields of a query that are read."""


class Handshake:
    """The request of a client for a WebSocket: `flow.handshake`, which other flows do not have.

    A core may find out from `path`, `query`, `cookies` and `origin` which user this is (RFC 7118
    §7): `request.flow.handshake.cookies.get("session")`.

    Args:
        target: The request target, path and query.
        headers: The header fields in order, with names in lower case.
    """

    def __init__(self, target: str, headers: Iterable[tuple[str, str]]) -> None:
        self.target = target
        self.headers = tuple(headers)

    def header(self, name: str) -> str | None:
        """Return a header field, its first line if there are several, or None."""
        name = name.lower()
        return next((value for found, value in self.headers if found == name), None)

    @property
    def path(self) -> str:
        """The path, decoded, without the query."""
        return unquote(self.target.partition("?")[0], errors="replace")

    @cached_property
    def query(self) -> dict[str, str]:
        """The fields of the query, decoded. The first one of a name counts; a query of over
        QUERY_FIELDS fields has none."""
        try:
            fields = parse_qsl(
                self.target.partition("?")[2], keep_blank_values=True, max_num_fields=QUERY_FIELDS
            )
        except ValueError:
            return {}
        return dict(reversed(fields))

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies (RFC 6265 §4.2.1). The first one of a name counts, which is the most specific
        one."""
        found: dict[str, str] = {}
        for name, line in self.headers:
            if name == "cookie":
                for pair in line.split(";"):
                    key, equals, value = pair.partition("=")
                    if equals:
                        found.setdefault(key.strip(), value.strip().strip('"'))
        return found

    @property
    def origin(self) -> str | None:
        """The Origin: the site whose page a browser shows. Programs may send any, or none."""
        return self.header("origin")

    def __repr__(self) -> str:
        # Without query and cookies, because they may contain credentials.
        return f"<Handshake {self.path}>"
