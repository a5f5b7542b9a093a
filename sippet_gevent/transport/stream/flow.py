"""StreamFlow: a connection that carries messages one after the other, RFC 3261 §18.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import TransportError
from ...message.framer import PING, PONG, Framer
from ..base import Address
from .connection import Connection
from .transport import Destination, StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket

PONGS = 200
"""Most pings of one connection that are answered between two sweeps. A usual peer sends one in half
a minute."""


class StreamFlow(Connection):
    """A connection whose content is cut into messages by their Content-Length.

    A message goes to its worker in the callback that has read it, as a datagram does.
    """

    __slots__ = ("_framer", "_ponged")

    def __init__(
        self,
        transport: StreamTransport,
        raw: Socket,
        remote: Address,
        *,
        dialled: Destination | None = None,
        name: str | None = None,
    ) -> None:
        self._framer = Framer(transport.parser_limits)
        self._ponged = 0  # pings answered since the last sweep
        super().__init__(transport, raw, remote, dialled=dialled, name=name)

    def feed(self, data: bytes) -> None:
        framer, transport = self._framer, self.transport
        if framer.dead:
            return
        if self.dialled is None:
            self._deadline = None
        self._pinged = False
        pings = framer.pings
        messages = framer.feed(data)
        for message in messages:
            transport.receive(message, self)
            if not self.state.sends:  # serving the message has closed the connection
                return
        if framer.error is not None:
            transport.count("malformed")
            transport.events.refuse(framer.error, self)
            self.finish()
            return
        if framer.pings != pings and not self._answer_pings(framer.pings - pings):
            return
        if not framer.in_message:
            self._started = None
        elif messages or self._started is None:
            self._started = self._heard

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

    def ping(self) -> None:
        self._framer.awaits_pong = True
        self.write(PING)  # RFC 5626 §4.4.1

    def sweep(self, now: float) -> bool:
        self._ponged = 0
        return super().sweep(now)

    @property
    def is_idle(self) -> bool:
        return not self._framer.pending

    @property
    def in_header(self) -> bool:
        return not self._framer.in_body
