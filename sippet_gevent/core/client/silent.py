"""SilentServers: next hops that do not answer, and when to ask again, RFC 7339 §5.9. Pure."""

from __future__ import annotations

from collections import OrderedDict

from .targets import GREY_TARGETS, Target

REPEATED = 3
"""Failures without a response between them after which a server gets no more requests."""

FIRST_PAUSE = 2.0
"""Seconds until the first probe. Each further pause is twice as long."""

LONGEST_PAUSE = 60.0
"""Most seconds between two probes."""


class SilentServers:
    """Servers that have failed repeatedly: by a timeout, or by a fatal transport error.

    Such a server gets no requests (RFC 7339 §5.9). Now and then one request goes to it as a probe.
    The pauses grow, so that probes do not make an overload worse. Any response ends that. The
    oldest server is forgotten beyond GREY_TARGETS.
    """

    __slots__ = ("failures", "probes")

    def __init__(self) -> None:
        self.failures: OrderedDict[Target, int] = OrderedDict()
        """How often each server has failed since its last response. Do not change it."""
        self.probes: dict[Target, tuple[float, float]] = {}
        """The time of the next probe of each silent server, and its pause. Do not change it."""

    def failed(self, target: Target, now: float) -> None:
        """Note that a request has got no response from a server."""
        count = self.failures.pop(target, 0) + 1
        self.failures[target] = count
        if count == REPEATED:
            self.probes[target] = now + FIRST_PAUSE, FIRST_PAUSE
        if len(self.failures) > GREY_TARGETS:
            oldest, _ = self.failures.popitem(last=False)
            self.probes.pop(oldest, None)

    def answered(self, target: Target) -> None:
        """Forget the failures of a server, because it has answered."""
        self.failures.pop(target, None)
        self.probes.pop(target, None)

    def may_send(self, target: Target, now: float, *, counts: bool = True) -> bool:
        """True if a server may get a request: it is not silent, or it is time for a probe.

        Args:
            target: The server.
            now: The time.
            counts: False if the server gets the request only if another one fails. Then it is no
                probe yet.
        """
        probe = self.probes.get(target)
        if probe is None:
            return True
        at, pause = probe
        if now < at:
            return False
        if counts:
            pause = min(2 * pause, LONGEST_PAUSE)
            self.probes[target] = now + pause, pause
        return True
