"""Calls with session descriptions between our stack and a peer without one."""

from __future__ import annotations

from sippet_gevent import sdp

from ..wire import Peer, start

HOST = "10.0.0.50"
OURS = "10.0.0.1"
AUDIO = sdp.MediaStream("audio", 4000, (sdp.PCMU, sdp.PCMA, sdp.TELEPHONE_EVENT))
PHONE = sdp.MediaStream("audio", 9000, (sdp.PCMA, sdp.PCMU))


def phone_offer(*streams, **options):
    """An offer of the peer's."""
    return sdp.initial_offer(streams or [PHONE], address=HOST, **options)


def body(description):
    """Header arguments for a message with a description."""
    return {"body": bytes(description), "content_type": "application/sdp"}


def description(message):
    return sdp.SDP.parse(message.body)


def directions(message):
    return [stream.direction for stream in description(message).media]


class _Described:
    """A call and its peer. `mine` is the last description of the peer."""

    def ask(self, method, **headers):
        """The peer sends a request within the call."""
        self.number = headers.pop("number", self.number + (method != "ACK"))
        request = self._request(method, number=self.number, **headers)
        self.peer.send(request, to=self.at)
        return request

    def offer(self, description, method="INVITE", **headers):
        """The peer sends an offer, acknowledges a 200, and returns the response."""
        self.ask(method, **body(description), **headers)
        response = self.peer.responses[-1]
        if method == "INVITE" and response.status == 200:
            self.ask("ACK")
        if response.status == 200:
            self.mine = description
        return response

    def take_offer(self, method="INVITE", stream=PHONE):
        """The peer accepts our offer, and returns it."""
        request = self.peer.last(method)
        answer = sdp.answer(description(request), [stream], address=HOST, previous=self.mine)
        self.mine = answer
        self.peer.reply(request, 200, contact=f"<{self.peer.uri}>", **body(answer))
        return description(request)

    @property
    def last(self):
        return self.peer.responses[-1]


class Taken(_Described):
    """A call that our stack has taken, with `accept(**options)`."""

    def __init__(self, sip, offer=None, core=None, **options):
        self.sip = sip
        self.at = OURS
        self.calls = []
        self.accepted = []

        def accepting(request, tx):
            if tx.call is not None and tx.call.is_confirmed:
                return 501 if core is None else core(request, tx)
            self.accepted.append(start_accepting(tx))
            return None

        def start_accepting(tx):
            call = tx.accept(**(options or {"media": [AUDIO]}))
            self.calls.append(call)
            return call

        self.stack = sip.serve(accepting)
        self.peer = Peer(sip, HOST)
        self.mine = phone_offer() if offer is None else offer
        self.invite = (
            self.peer.ask("INVITE", **body(self.mine)) if self.mine else self.peer.ask("INVITE")
        )
        self.number = self.invite.cseq.number
        self.response = self.peer.responses[-1]
        if self.mine and self.response.status == 200:
            self.peer.send(self._request("ACK", number=self.number))

    def _request(self, method, **headers):
        return self.peer.within(self.invite, self.response, method, **headers)

    @property
    def call(self):
        return self.calls[0]


class Placed(_Described):
    """A call that our stack has placed, with `invite(**options)`."""

    def __init__(self, sip, answer=True, **options):
        self.sip = sip
        self.stack = sip.client
        self.peer = Peer(sip, HOST)
        self.greenlet = start(
            sip, sip.client.invite, f"sip:bob@{HOST}", **(options or {"media": [AUDIO]})
        )
        self.invite = self.peer.last("INVITE")
        self.number = 0
        self.mine = None
        self.at = sip.client.engine.transports[0].local[0]
        if answer:
            self.mine = (
                sdp.answer(description(self.invite), [PHONE], address=HOST)
                if self.invite.body
                else phone_offer()
            )
            self.reply(200, **body(self.mine))

    def reply(self, status, **headers):
        self.response = self.peer.reply(
            self.invite, status, contact=f"<{self.peer.uri}>", **headers
        )
        return self.response

    def _request(self, method, **headers):
        return self.peer.back(self.invite, self.response, method, **headers)

    @property
    def call(self):
        return self.greenlet.get()
