"""Keep-alive: pings and pongs of one connection, both ways, RFC 5626 §3.5.1 and §4.4.1.

The pings of a peer are answered with a CRLF. Our own pings find out whether a silent peer is there.
A WebSocket has frames for both (RFC 6455 §5.5.2).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...errors import TransportError
from ...message.framer import PONG
from .deadlines import TimedChannel
from .transport import StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket

PONGS = 200
"""Most pings of one connection that are answered between two sweeps. A usual peer sends one in half
a minute."""


class KeptAlive(TimedChannel):
    """A channel that pings a silent peer, and answers the pings of the peer.

    A subclass implements `ping()`. When bytes come, it clears `_pinged`, and counts that in
    `keepalives_answered`.
    """

    __slots__ = ("_pinged", "_ponged", "_probed", "keepalives_answered")

    probes = True

    def __init__(self, transport: StreamTransport, raw: Socket) -> None:
        super().__init__(transport, raw)
        self._pinged = False
        self.keepalives_answered = 0
        self._probed = 0.0  # when we sent the last ping
        self._ponged = 0  # pings answered since the last sweep

    # ---- pings of ours

    def ping(self) -> None:
        """Ask the peer whether it is there. Raises TransportError."""
        raise TypeError(f"{type(self).__name__} lacks .ping()")

    @property
    def ping_after(self) -> float:
        """Seconds of silence after which we ping; 0 for never."""
        return 0.0

    def probe(self) -> None:
        if self.state.is_whole and not self._pinged and not self._queue:
            self._pinged = True
            self._probed = time.monotonic()
            self.ping()

    def _sweep_open(self, now: float) -> bool:
        """Ping a silent peer, and close the connection when it does not answer."""
        if self._pinged and now - self._probed >= self.transport.limits.pong:
            self.is_lost = True
            self.close("no_pong", "the peer does not answer a ping (RFC 5626 §4.4.1)")
            return True
        after = self.ping_after
        if not after or self._queue:
            return False
        if now - self._heard >= after:
            try:
                self.probe()
            except TransportError:
                pass  # the connection is closed
        return True

    # ---- pings of the peer

    def _answer_pings(self, number: int) -> bool:
        """Answer pings with as many pongs (RFC 5626 §4.4.1), up to PONGS between two sweeps.

        Returns False when the connection has ended.
        """
        owed = min(number, PONGS - self._ponged)
        if owed < number:
            self.transport.count("too_many_pings")
        if not owed:
            return True
        self._ponged += owed
        try:
            self.send(PONG * owed)
        except TransportError:
            return False
        return True

    def sweep(self, now: float) -> bool:
        self._ponged = 0
        return super().sweep(now)
