"""RTPEngine: relays the media of bridges through rtpengine, by its NG protocol.

A command is one datagram, a cookie and a dictionary in bencode. So is its answer, with the same
cookie. A datagram may be lost, so the command is repeated. rtpengine knows the cookie, and repeats
its answer without doing anything twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import gevent
from gevent import socket

from ...arguments import seconds as check_seconds
from ...errors import InvalidValue, ParseError, TransportError, excerpt
from ...message.identifiers import create_tag
from ...observe import log_values
from ...observe.log_values import Quoted
from .bencode import Plain, Value, decode, encode

log = logging.getLogger("sippet_gevent.core")

FIRST_WAIT = 0.25
"""Seconds until a command is repeated for the first time. Then the interval doubles."""

LONGEST = 65535
"""Longest answer in bytes, that of the longest datagram."""

CALLER = "caller"
"""The tag of the leg that begins a bridge."""

_REPLACE = ("origin", "session-connection")
"""Lines of a description that name an address besides those of the streams."""


class RTPEngine:
    """A media relay that rtpengine controls, for `bridge(…, media=RTPEngine(…))`.

        relay = RTPEngine(
            "127.0.0.1:2223",
            caller={"transport-protocol": "UDP/TLS/RTP/SAVPF", "ICE": "force"},  # a browser
            callee={"transport-protocol": "RTP/AVP", "ICE": "remove"},           # a phone
        )

    Each command waits in its own greenlet. One object serves all bridges of a program.

    Args:
        address: Host and port of the NG protocol over UDP, as `listen-ng` of rtpengine says.
        timeout: Seconds to wait for each answer, all repetitions together.
        caller: Fields of the commands whose description goes to the caller.
        callee: Fields of the commands whose description goes to the callee, or to another leg.

    Raises:
        InvalidValue: The address has no port, or a field cannot be sent.
        TypeError: An argument has another type.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:2223",
        *,
        timeout: float = 2.0,
        caller: Mapping[str, Plain] | None = None,
        callee: Mapping[str, Plain] | None = None,
    ) -> None:
        self.address = address
        """Where the NG protocol is served."""
        self._place = _place(address)
        self._timeout = check_seconds("timeout", timeout) or 0.0
        self._fields = {True: dict(caller or {}), False: dict(callee or {})}
        for fields in self._fields.values():
            encode(fields)  # an error here, not in the first call

    # ---- for bridges

    def offer(self, call_id: str, from_tag: str, to_tag: str, description: bytes) -> bytes:
        """Return an offer with the addresses of rtpengine in it.

        Args:
            call_id: Names the bridge.
            from_tag: Names the leg that has made the offer.
            to_tag: Names the leg that gets it.
            description: The offer.

        Raises:
            TransportError: rtpengine does not answer, or cannot do it.
        """
        return self._describe("offer", call_id, from_tag, to_tag, description, to_tag)

    def answer(self, call_id: str, from_tag: str, to_tag: str, description: bytes) -> bytes:
        """Return an answer with the addresses of rtpengine in it.

        Args:
            call_id: Names the bridge.
            from_tag: Names the leg that has made the offer, and that gets the answer.
            to_tag: Names the leg that answers.
            description: The answer.

        Raises:
            TransportError: rtpengine does not answer, or cannot do it.
        """
        return self._describe("answer", call_id, from_tag, to_tag, description, from_tag)

    def delete(self, call_id: str) -> None:
        """Free the ports of a bridge. If rtpengine does not answer, it frees them by itself after a
        time without media."""
        try:
            # by default it waits 30 seconds, for a branch of a fork that may follow
            self.command("delete", {"call-id": call_id, "delete-delay": 0})
        except TransportError as error:
            log.warning(
                'media not deleted: call_id=%s reason="%s"',
                log_values.Plain(call_id),
                Quoted(error),
            )

    def ping(self) -> None:
        """Check that rtpengine answers. Raises TransportError if not."""
        self.command("ping")

    def _describe(
        self,
        command: str,
        call_id: str,
        from_tag: str,
        to_tag: str,
        description: bytes,
        target: str,
    ) -> bytes:
        fields: dict[str, Plain] = {
            "call-id": call_id,
            "from-tag": from_tag,
            "to-tag": to_tag,
            "sdp": description,
            "replace": _REPLACE,
            **self._fields[target == CALLER],
        }
        made = self.command(command, fields).get("sdp")
        if not isinstance(made, bytes):
            raise TransportError(f"rtpengine at {self.address} answered {command} without sdp")
        return made

    # ---- the NG protocol

    def command(self, name: str, fields: Mapping[str, Plain] | None = None) -> dict[str, Value]:
        """Send a command, and return the dictionary of its answer.

            relay.command("query", {"call-id": call_id})

        Args:
            name: The command.
            fields: Its fields.

        Raises:
            TransportError: There is no answer in time, or its result is "error".
            InvalidValue: A field cannot be sent.
        """
        cookie = create_tag().encode()
        question = cookie + b" " + encode({**(fields or {}), "command": name})
        try:
            with gevent.Timeout(self._timeout) as timer:
                answer = self._exchange(cookie, question)
        except gevent.Timeout as expired:
            if expired is not timer:
                raise
            raise TransportError(
                f"rtpengine at {self.address} does not answer {name} in {self._timeout:g} seconds"
            ) from None
        except (OSError, UnicodeError) as error:  # a name that no name server can be asked for
            raise TransportError(f"rtpengine at {self.address} not reached: {error}") from error
        if answer.get("result") not in (b"ok", b"pong"):
            reason = answer.get("error-reason", b"no reason given")
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
            raise TransportError(f"rtpengine at {self.address} refuses {name}: {excerpt(text)}")
        return answer

    def _exchange(self, cookie: bytes, question: bytes) -> dict[str, Value]:
        """Send a command until its answer comes. Raises OSError."""
        host, port = self._place
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.connect(place)  # so that the kernel tells of a closed port
            wait = FIRST_WAIT
            while True:
                sock.send(question)
                with gevent.Timeout(wait, False):
                    while True:
                        answer = _read(cookie, sock.recv(LONGEST))
                        if answer is not None:
                            return answer
                wait *= 2


def _read(cookie: bytes, data: bytes) -> dict[str, Value] | None:
    """Return the answer in a datagram; None for an answer to another command."""
    found, _, text = data.partition(b" ")
    if found != cookie:
        return None
    try:
        answer = decode(text)
    except ParseError:
        return None
    return answer if isinstance(answer, dict) else None


def _place(address: str) -> tuple[str, int]:
    """Return host and port. Raises InvalidValue and TypeError."""
    if not isinstance(address, str):
        raise TypeError(
            f"address must be a text, got {address!r}: write RTPEngine('127.0.0.1:2223')"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or not host:
        raise InvalidValue(f"address must be host:port, got {address!r}: write '127.0.0.1:2223'")
    return host.strip("[]"), int(port)
