"""StreamFlow: a connection that carries messages one after the other, RFC 3261 §18.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...message.framer import PING, Framer
from ..base import Address
from .connection import Connection
from .transport import Destination, StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket


class StreamFlow(Connection):
    """A connection whose content is cut into messages by their Content-Length.

    A message goes to its worker in the callback that has read it, as a datagram does.
    """

    __slots__ = ("_framer",)

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

    def ping(self) -> None:
        self._framer.awaits_pong = True
        self.write(PING)  # RFC 5626 §4.4.1

    @property
    def is_idle(self) -> bool:
        return not self._framer.pending

    @property
    def in_header(self) -> bool:
        return not self._framer.in_body
