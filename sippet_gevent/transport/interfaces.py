"""Interfaces: which hosts are ours, as a listening point sees them, RFC 3261 §18.2.1."""

from __future__ import annotations

from gevent import socket

WILDCARDS = frozenset(("0.0.0.0", "::"))
"""Hosts that stand for every address of this machine."""

KNOWN = 16384
"""Answers remembered; forgotten all at once when there are more, since peers choose what is asked."""


class Interfaces:
    """Answers `is_ours(host)` for a listening point bound to one host, or to a wildcard: what the system lets us bind."""

    __slots__ = ("_bound", "_known")

    def __init__(self, bound: str) -> None:
        self._bound = bound
        self._known: dict[str, bool] = {}

    def is_ours(self, host: str) -> bool:
        """True when this numeric host, IPv6 without brackets, is one of ours."""
        if self._bound not in WILDCARDS:
            return host == self._bound
        known = self._known.get(host)
        if known is None:
            probe = socket._socket.socket(socket.AF_INET6 if ":" in self._bound else socket.AF_INET, socket.SOCK_DGRAM)
            try:
                probe.bind((host, 0))
                known = True
            except OSError:
                known = False
            finally:
                probe.close()
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[host] = known
        return known
