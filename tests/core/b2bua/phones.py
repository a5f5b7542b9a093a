"""Two phones without a stack, and a bridge between them."""

from __future__ import annotations

from sippet_gevent import bridge, sdp

from ..wire import Peer

CALLER, CALLEE, OURS = "10.0.0.50", "10.0.0.60", "10.0.0.1"
TARGET = "10.0.0.70"
BOB = f"sip:bob@{CALLEE}"

PHONE = sdp.MediaStream("audio", 9000, (sdp.PCMA, sdp.PCMU))


def describe(host=CALLER, *, version=1, direction="sendrecv", port=9000):
    """Return a description as a phone writes it."""
    return (
        f"v=0\r\no=- 7 {version} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0\r\na={direction}\r\n"
    ).encode()


def body(description):
    """Header arguments for a message with a description."""
    return {"body": description, "content_type": "application/sdp"} if description else {}


class Phones:
    """A caller and a callee, and the stack between them.

    Args:
        sip: The fixture.
        options: Arguments of bridge().
        offer: The caller's offer; b"" for none.
        invite: Header fields of the INVITE.
    """

    def __init__(self, sip, *, core=None, offer=None, invite=None, stack=None, **options):
        self.sip = sip
        self.results = []
        self.errors = []

        def bridging(request, tx):
            if request.to.tag is not None:
                return 481
            try:
                self.results.append(bridge(request, tx, BOB, **options))
            except BaseException as error:
                self.errors.append(error)
                raise
            return None

        self.stack = sip.serve(core or bridging, **(stack or {}))
        self.caller, self.callee = Peer(sip, CALLER), Peer(sip, CALLEE)
        self.offer = describe() if offer is None else offer
        self.invite = self.caller.ask("INVITE", **body(self.offer), **(invite or {}))
        self.number, self.back_number = self.invite.cseq.number, 10
        self.response = None
        self.inner_response = None

    @property
    def inner(self):
        """The INVITE that the callee has received first."""
        return next(request for request in self.callee.requests if request.method == "INVITE")

    def reply(self, status, description=b"", **headers):
        """The callee answers the INVITE."""
        headers.setdefault("contact", f"<{self.callee.uri}>")
        self.inner_response = self.callee.reply(self.inner, status, **body(description), **headers)
        return self.inner_response

    @property
    def heard(self):
        """Statuses that the caller has got for its INVITE, without 100."""
        return [
            response.status
            for response in self.caller.responses
            if response.cseq.method == "INVITE" and response.status > 100
        ]

    @property
    def last(self):
        """The last response that the caller has got."""
        return self.caller.responses[-1]

    def answer(self, description=None, **headers):
        """The callee answers with 200, and the caller acknowledges."""
        description = describe(CALLEE) if description is None else description
        self.reply(200, description, **headers)
        self.response = self.last
        self.ack()
        return self.response

    def ack(self, description=b""):
        """The caller acknowledges its INVITE."""
        self.response = self.last
        ack = self.caller.within(
            self.invite, self.response, "ACK", number=self.number, **body(description)
        )
        self.caller.send(ack)

    def ask(self, method, description=b"", **headers):
        """The caller sends a request within the call."""
        self.number = headers.pop("number", self.number + (method != "ACK"))
        if method in ("INVITE", "UPDATE", "SUBSCRIBE", "REFER"):
            headers.setdefault("contact", f"<{self.caller.uri}>")
        headers = {**body(description), **headers}
        request = self.caller.within(
            self.invite, self.response or self.last, method, number=self.number, **headers
        )
        self.caller.send(request)
        return request

    def ask_back(self, method, description=b"", **headers):
        """The callee sends a request within its call."""
        self.back_number = headers.pop("number", self.back_number + (method != "ACK"))
        if method in ("INVITE", "UPDATE", "SUBSCRIBE", "REFER"):
            headers.setdefault("contact", f"<{self.callee.uri}>")
        headers = {**body(description), **headers}
        request = self.callee.back(
            self.inner, self.inner_response, method, number=self.back_number, **headers
        )
        self.callee.send(request)
        return request

    def end(self):
        """The caller hangs up, and the callee answers."""
        self.ask("BYE")
        self.callee.reply(self.callee.last("BYE"), 200)


class Relay:
    """A media relay that changes nothing, and keeps the tags of each command."""

    def __init__(self):
        self.tags = []

    def offer(self, call_id, from_tag, to_tag, description):
        self.tags.append((call_id, from_tag, to_tag))
        return description

    answer = offer

    def delete(self, call_id):
        pass
