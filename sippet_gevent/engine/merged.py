"""Merged requests: copies of one request that arrive by different paths, RFC 3261 §8.2.2.2.

A user agent server refuses such a copy with 482. A proxy forwards it (§16.3). If it is not known
yet whether the core forwards the first request, the copy waits.
"""

from __future__ import annotations

from collections.abc import Callable

from ..message.mandatory import mandatory_of
from ..message.message import Request, Response
from .users import ServerRecord


def merge_key(request: Request) -> int | None:
    """Return the key by which copies of one request are found, or None within a dialog (§8.2.2.2).

    Copies arrive by different paths after a fork. The Request-URI belongs to the key. So a request
    that spirals through a proxy and returns with another URI is no copy.
    """
    e = request.mandatory or mandatory_of(request)
    if e.to_tag is not None:
        return None
    return hash((e.from_tag, request.headers.fields["Call-ID"], e.cseq, e.method, request._uri))


class Merged:
    """The requests that are being served, by merge_key(). `len()` is their number.

    Args:
        servers: The table of server transactions.
    """

    __slots__ = ("_servers", "keys")

    def __init__(self, servers: dict[str, ServerRecord]) -> None:
        self._servers = servers
        self.keys: dict[int, str] = {}
        """Keys of server transactions by merge_key()."""

    def first(self, merge: int | None) -> ServerRecord | None:
        """Return the transaction of the request that came first; None if there is none."""
        return None if merge is None else self._servers.get(self.keys.get(merge, ""))

    def forget(self, tx: ServerRecord) -> None:
        """Stop refusing copies of a request, because it has ended or is forwarded."""
        merge, tx.merge = tx.merge, None
        if merge is not None and self.keys.get(merge) == tx.key:
            del self.keys[merge]

    def __len__(self) -> int:
        return len(self.keys)


def refusal_of_copy(
    request: Request, first: ServerRecord | None, response: Callable[..., Response]
) -> Response | None:
    """Return the 482 to a copy of a request; None if the request is no copy, or has to wait.

    Args:
        request: The request.
        first: The transaction of the request that came first, if it is a copy.
        response: Makes a response without a transaction, as Stateless.response() does.
    """
    if first is not None and (first.user is None or first.user.is_decided):
        return response(request, 482, "Request Merged")
    return None
