"""What the tests of the cores share: peers without a stack, and questions about what was seen on the wire."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gevent

from sippet_gevent import ParseError, Request, Response, Via
from sippet_gevent.core.dialog.description import description_of
from sippet_gevent.message.identifiers import create_branch, create_tag
from sippet_gevent.message.parser import parse
from sippet_gevent.testing import SERVER, Sip
from sippet_gevent.transport.memory import MemoryTransport

Message = Request | Response

AT_SERVER = f"sip:bob@{SERVER}"
"""A Request-URI that leads to the stack which sip.serve() makes first."""


class Peer:
    """A host that does nothing by itself: it notes what it receives and sends what it is told to.

    `answer`, when set, is called with each request; a status or Response it returns is sent back.
    """

    def __init__(
        self, sip: Sip, host: str, answer: Callable[[Request], Any] | None = None, port: int = 5060
    ) -> None:
        self.sip = sip
        self.host = host
        self.uri = f"sip:{host}:{port}"
        self.answer = answer
        self.received: list[Message] = []
        self._transport = MemoryTransport(sip.network)
        self._transport.start((host, port), self._receive)

    def _receive(self, data: bytes, flow: Any) -> None:
        message = parse(data)
        message.flow = flow
        self.received.append(message)
        if isinstance(message, Request) and self.answer is not None and message.method != "ACK":
            answer = self.answer(message)
            if answer is not None:
                flow.send(bytes(message.response(answer) if isinstance(answer, int) else answer))

    def request(self, method: str, uri: str = AT_SERVER, **headers: Any) -> Request:
        """Make a whole request of this peer's, with a Via, tags and all that §8.1.1 wants."""
        number = headers.pop("number", 1)
        headers.setdefault(
            "via",
            Via(
                "UDP",
                self.host,
                5060,
                Via.parse(f"SIP/2.0/UDP x;branch={create_branch()}").parameters,
            ),
        )
        headers.setdefault("from_", f"<sip:peer@{self.host}>;tag={create_tag()}")
        headers.setdefault("to", f"<{uri}>")
        headers.setdefault("call_id", create_branch())
        headers.setdefault("cseq", f"{number} {method}")
        headers.setdefault("max_forwards", 70)
        if method == "INVITE":
            headers.setdefault("contact", f"<{self.uri}>")
        return Request(method, uri, **headers)

    def send(self, *messages: Message | bytes, to: str = SERVER) -> None:
        """Send messages to a host at one moment, and let happen what follows at once."""
        for message in messages:
            self._transport.connect((to, 5060)).send(bytes(message))
        self.sip.settle()

    def ask(
        self, method: str, uri: str = AT_SERVER, *, at: str = SERVER, **headers: Any
    ) -> Request:
        """Make a request and send it to a host."""
        request = self.request(method, uri, **headers)
        self.send(request, to=at)
        return request

    def reply(self, request: Request, status: int | Response, **headers: Any) -> Response:
        """Answer a request that this peer has received."""
        response = request.response(status, **headers) if isinstance(status, int) else status
        request.flow.send(bytes(response))
        self.sip.settle()
        return response

    @property
    def requests(self) -> list[Request]:
        """The requests it has received."""
        return [message for message in self.received if isinstance(message, Request)]

    @property
    def responses(self) -> list[Response]:
        """The responses it has received."""
        return [message for message in self.received if isinstance(message, Response)]

    @property
    def statuses(self) -> list[int]:
        """The status codes it has received."""
        return [response.status for response in self.responses]

    @property
    def methods(self) -> list[str]:
        """The methods it has received."""
        return [request.method for request in self.requests]

    def last(self, method: str) -> Request:
        """Return the last request of this method."""
        return next(request for request in reversed(self.requests) if request.method == method)

    def within(self, invite: Request, response: Response, method: str, **headers: Any) -> Request:
        """Make the request that the caller sends within the dialog of its INVITE and a response to it."""
        number = headers.pop("number", invite.cseq.number + (method not in ("ACK", "CANCEL")))
        return self.request(
            method,
            str(response.contact[0].uri),
            from_=invite.from_,
            to=response.to,
            call_id=invite.call_id,
            number=number,
            **headers,
        )

    def back(self, invite: Request, response: Response, method: str, **headers: Any) -> Request:
        """Make the request that the callee sends within the dialog of the INVITE it has received and its response to it."""
        return self.request(
            method,
            str(invite.contact[0].uri),
            from_=response.to,
            to=invite.from_,
            call_id=invite.call_id,
            **headers,
        )


def sent(sip: Sip, source: str | None = None, to: str | None = None) -> list[str]:
    """Return what was sent so far, lost or not: methods and status codes, "INVITE", "100", "200", "ACK"."""
    return [
        label(carried.data)
        for carried in sip.network.trace
        if source in (None, carried.source[0]) and to in (None, carried.destination[0])
    ]


def messages(sip: Sip, what: str, source: str | None = None) -> list[Any]:
    """Return the messages with this method or status code, parsed."""
    return [
        parse(carried.data)
        for carried in sip.network.trace
        if label(carried.data) == what and source in (None, carried.source[0])
    ]


def times(sip: Sip, what: str, source: str | None = None) -> list[float]:
    """Return when messages with this method or status code were sent, in seconds after the first of them."""
    at = [
        c.time for c in sip.network.trace if label(c.data) == what and source in (None, c.source[0])
    ]
    return [round(time - at[0], 1) for time in at]


def label(data: bytes) -> str:
    """Return the method or the status code of a message."""
    first, second = data.split(b" ", 2)[:2]
    return (second if first == b"SIP/2.0" else first).decode()


def start(
    sip: Sip, function: Callable[..., Any], *arguments: Any, **options: Any
) -> gevent.Greenlet:
    """Start blocking code in a greenlet, and let happen what follows at once."""
    greenlet = gevent.spawn(function, *arguments, **options)
    sip.settle()
    return greenlet


def host_of(stack: Any) -> str:
    """Return the host a stack listens at."""
    return stack.engine.transports[0].local[0]


def broken_origins(sip: Sip, host: str) -> list[str]:
    """Return what is wrong with the o= lines of the descriptions that a host has sent.

    Within a dialog, the version goes up by one with each change, and nothing else in the line
    changes (RFC 3264 §8). What was agreed before an offer that was refused may be sent again.
    """
    found: list[str] = []
    sessions: dict[tuple[str, str, str], list[bytes]] = {}
    refused: set[bytes] = set()
    offers: dict[tuple[str, str, int], bytes] = {}
    for carried in sip.network.trace:
        try:
            message = parse(carried.data)
            description = description_of(message)
            call, cseq, ours, theirs = message.call_id, message.cseq, message.from_, message.to
        except ParseError:
            continue
        is_ours = carried.source[0] == host
        number = call, cseq.method, cseq.number
        if isinstance(message, Response):
            ours, theirs = theirs, ours
            if not is_ours and message.status >= 300 and number in offers:
                refused.add(offers[number])
        if not is_ours or not description:
            continue
        if isinstance(message, Request):
            offers[number] = description
        known = sessions.setdefault((call, str(ours.tag), str(theirs.tag)), [])
        known = known or sessions.setdefault((call, str(ours.tag), "None"), known)
        if description in known and all(
            each in refused for each in known[known.index(description) + 1 :]
        ):
            continue
        if known and known[-1] != description and not _follows(description, known[-1]):
            found.append(f"{description!r} after {known[-1]!r}")
        known.append(description)
    return found


def _follows(description: bytes, before: bytes) -> bool:
    one, other = (
        re.search(rb"o=(\S+ \S+) (\d+)( \S+ \S+ \S+)", each) for each in (before, description)
    )
    if one is None or other is None:
        return True  # no description that can be read
    return (one[1], int(one[2]) + 1, one[3]) == (other[1], int(other[2]), other[3])
