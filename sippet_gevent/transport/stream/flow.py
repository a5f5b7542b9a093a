"""StreamFlow: a connection that carries messages one after the other, RFC 3261 §18.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...message.framer import PING, Framer
from ..base import Address
from .connection import Connection
from .pacing import MESSAGES
from .transport import Destination, StreamTransport

if TYPE_CHECKING:
    from _socket import socket as Socket


class StreamFlow(Connection):
    """A connection whose content is cut into messages by their Content-Length.

    A message goes to its worker in the callback that has read it, as a datagram does.
    """

    __slots__ = ("_backlog", "_framer", "_pings")

    is_stream = True

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
        self._backlog: list[bytes] = []  # the next one is the last
        self._pings = 0  # those of the peer that were answered
        super().__init__(transport, raw, remote, dialled=dialled, name=name)

    def feed(self, data: bytes) -> None:
        framer, transport = self._framer, self.transport
        if framer.dead:
            return
        if self.dialled is None:
            self._deadline = None
        if self._pinged:
            self._pinged = False
            self.keepalives_answered += 1
        messages = framer.feed(data)
        if len(messages) > MESSAGES:
            # without the lines that the framer has read, which take forty times as much
            self._backlog = [bytes(message) for message in messages[: MESSAGES - 1 : -1]]
            del messages[MESSAGES:]
        for message in messages:
            transport.receive(message, self)
            if not self.state.sends:  # serving the message has closed the connection
                return
        if self._backlog:
            self.hold()
        else:
            self._end_feed(bool(messages))

    def serve(self) -> bool:
        backlog = self._backlog
        if not backlog:
            return False
        for _ in range(min(len(backlog), MESSAGES)):
            self.transport.receive(backlog.pop(), self)
            if not self.state.sends:
                return True
        if backlog:
            self.hold()
        else:
            self._end_feed(True)
        return True

    def _end_feed(self, ends: bool) -> None:
        """Do what follows the messages of a read: answer its error or its pings. `ends` is true if
        there were any messages."""
        framer, transport = self._framer, self.transport
        if framer.error is not None:
            transport.count("malformed")
            transport.events.refuse(framer.error, self)
            self.finish()
            return
        if framer.pings != self._pings:
            new, self._pings = framer.pings - self._pings, framer.pings
            if not self._answer_pings(new):
                return
        if not framer.in_message:
            self._started = None
        elif ends or self._started is None:
            self._started = self._heard

    def close(
        self, reason: str | None = None, problem: str = "closed", error: BaseException | None = None
    ) -> None:
        super().close(reason, problem, error)
        # transactions know this flow for half a minute, and the rest of a message may be long
        self._framer = Framer(self.transport.parser_limits)
        self._backlog.clear()

    def ping(self) -> None:
        self._framer.awaits_pong = True
        self.write(PING)  # RFC 5626 §4.4.1

    @property
    def is_idle(self) -> bool:
        return not self._framer.pending and not self._backlog

    @property
    def in_header(self) -> bool:
        return not self._framer.in_body
