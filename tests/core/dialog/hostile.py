"""Hostile: a peer that answers at random and sends random requests within each dialog that it knows."""

from __future__ import annotations

from typing import Any, NamedTuple

import gevent

from sippet_gevent import Request, Response
from sippet_gevent.message.identifiers import create_tag

from ..wire import Peer

REFUSALS = (
    300, 302, 400, 401, 403, 404, 405, 407, 408, 410, 412, 415, 416, 420, 421, 422, 423, 480, 481,
    482, 483, 484, 485, 486, 487, 488, 489, 491, 493, 494, 499, 500, 501, 502, 503, 504, 505, 513,
    580, 600, 603, 604, 606, 699,
)  # fmt: skip
METHODS = (
    "INVITE", "INVITE", "UPDATE", "UPDATE", "PRACK", "BYE", "BYE twice", "INFO", "REFER", "REFER",
    "NOTIFY", "SUBSCRIBE", "MESSAGE", "OPTIONS", "ACK", "CANCEL", "FROBNICATE",
)  # fmt: skip
STORMS = ("422", "491", "3xx", "401", "1xx", "two tags", "PRACK")


class Known(NamedTuple):
    """A dialog, as the peer knows it."""

    call_id: str
    local: str
    remote: str
    target: str
    host: str


class Hostile(Peer):
    """The peer.

    Args:
        sip: The network.
        host: Its address.
        rng: What it decides by.
        victims: The URIs of user agents to call, and to name in Refer-To.
    """

    def __init__(self, sip, host, rng, victims=()):
        super().__init__(sip, host, self.react)
        self.random = rng
        self.victims = (*victims, self.uri, "sip:nobody@10.9.9.9", "tel:+123")
        self.storm = rng.choice((None, None, *STORMS))
        self.budget = 80
        self.known: list[Known] = []
        self.invites: list[Request] = []
        self.counts: dict[str, int] = {}
        self.number = rng.randint(1, 50)

    # ---- sending

    def put(self, message: Any, to: str) -> None:
        """Send a message, unless it has sent enough."""
        if self.budget > 0:
            self.budget -= 1
            self._transport.connect((to, 5060)).send(bytes(message))

    def later(self, seconds: float, function: Any, *arguments: Any) -> None:
        def run() -> None:
            self.sip.clock.sleep(seconds)
            function(*arguments)

        if self.budget > 0:
            gevent.spawn(run)

    def pause(self):
        return self.random.choice((0.001, 0.1, 0.4, 1.5, 7.0))

    def body(self):
        """Header arguments with an offer, an answer, or what is neither."""
        port, version = self.random.choice((0, 9, 4000)), self.random.randint(1, 4)
        direction = self.random.choice(("sendrecv", "sendonly", "inactive"))
        good = (
            f"v=0\r\no=- 7 {version} IN IP4 {self.host}\r\ns=-\r\nc=IN IP4 {self.host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0\r\na={direction}\r\n"
        )
        two = good + "m=video 5000 RTP/AVP 31\r\n"
        body = self.random.choice((good, good, good, two, "", "v=0\r\nx\r\n"))
        return {"body": body, "content_type": "application/sdp"} if body else {}

    # ---- what it receives

    def react(self, request: Request) -> None:
        """Answer a request of the victim in one of many ways."""
        host = request.flow.remote[0]
        if request.method == "INVITE":
            self.invites.append(request)
            self.answer_invite(request, host)
        elif request.method == "CANCEL":
            self.answer_with(request, self.random.choice((200, 200, 481, 500)), host)
            if self.random.random() < 0.7 and self.invites:
                self.answer_with(self.invites[-1], 487, host)
        elif self.random.random() < 0.6:
            self.answer_with(request, self.random.choice((200, 200, 202, 204)), host)
        elif self.random.random() < 0.8:
            self.answer_with(request, self.random.choice(REFUSALS), host)
        if self.random.random() < 0.4:
            self.later(self.pause(), self.attack)

    def answer_invite(self, request: Request, host: str) -> None:
        tag = request.to.tag or create_tag()
        kind = self.storm or self.random.choice((*STORMS, "refuse", "silence", *("ok",) * 8))
        if self.random.random() < 0.2:
            kind = "ok"
        if kind == "silence":
            return
        if kind == "1xx":
            for place in range(self.random.randint(1, 12)):
                status = self.random.choice((100, 180, 181, 183, 199))
                at = create_tag() if self.random.random() < 0.2 else tag
                self.later(place * 3.0, self.answer_with, request, status, host, at)
            self.later(self.pause() * 5, self.answer_with, request, 200, host, tag)
            return
        if kind == "PRACK":
            first = self.random.choice((1, 7, 2**31))
            for step in self.random.choice(((0,), (0, 1), (1, 0), (0, 0), (0, 5))):
                self.answer_with(request, 183, host, tag, require="100rel", rseq=first + step)
            self.later(self.pause(), self.answer_with, request, 200, host, tag)
            return
        if kind in ("ok", "two tags"):
            if self.random.random() < 0.5:
                self.answer_with(request, self.random.choice((180, 183)), host, tag)
            self.later(self.pause(), self.answer_with, request, 200, host, tag)
            if kind == "two tags" and request.to.tag is None:
                self.later(self.pause(), self.answer_with, request, 200, host, create_tag())
            return
        status = {"422": 422, "491": 491, "3xx": 302, "401": 401}.get(
            kind, self.random.choice(REFUSALS)
        )
        self.answer_with(request, status, host, tag)

    def answer_with(self, request, status, host, tag=None, **headers):
        """Send one response, with the header fields that its status needs."""
        count = self.counts[str(status)] = self.counts.get(str(status), 0) + 1
        if status == 422:
            headers["min_se"] = str(90 + 400 * count)
        elif status in (300, 302):
            headers["contact"] = f"<sip:x{count}@{self.host}>"
        elif status in (401, 407):
            name = "www_authenticate" if status == 401 else "proxy_authenticate"
            headers[name] = f'Digest realm="x", nonce="{count}", algorithm=MD5, stale=true'
        elif status == 420:
            headers["unsupported"] = self.random.choice(("timer", "100rel", "replaces", "x"))
        elif status == 423:
            headers["min_expires"] = str(3600 * count)
        elif status in (480, 500, 503):
            headers["retry_after"] = str(self.random.choice((0, 1, 3000)))
        elif status < 300 and request.method in ("INVITE", "UPDATE", "REFER", "SUBSCRIBE"):
            if self.random.random() < 0.9:
                headers.setdefault("contact", f"<{self.uri}>")
            if request.method in ("INVITE", "UPDATE"):
                headers.update(self.body())
                if self.random.random() < 0.3:
                    headers["session_expires"] = self.random.choice(
                        ("90;refresher=uac", "90;refresher=uas", "1800", "5;refresher=uas")
                    )
        response: Response = request.response(status, **headers)
        if tag is not None and request.to.tag is None and status > 100:
            response.to = response.to.with_params(tag=tag)
        if request.method == "INVITE" and 100 < status < 300 and response.to.tag:
            self.know(
                str(request.call_id), str(response.to), str(request.from_),
                str(request.contact[0].uri), host,
            )  # fmt: skip
        self.put(response, host)
        if self.random.random() < 0.1:
            self.put(response, host)

    def know(self, *dialog: str) -> None:
        if Known(*dialog) not in self.known:
            self.known.append(Known(*dialog))

    # ---- what it sends by itself

    def call(self, uri: str, host: str) -> None:
        """Send an INVITE that begins a call, and go on with it whatever comes."""
        headers = self.body() if self.random.random() < 0.8 else {}
        for name, value, odds in (
            ("require", "100rel", 0.15), ("supported", "100rel, timer", 0.4), ("expires", "2", 0.1),
            ("session_expires", "90;refresher=uas", 0.2), ("min_se", "90", 0.1),
            ("replaces", "x;to-tag=a;from-tag=b", 0.1), ("max_forwards", 0, 0.03),
        ):  # fmt: skip
            if self.random.random() < odds:
                headers[name] = value
        known = self.random.choice(self.known) if self.known else None
        if known is not None and "replaces" in headers:
            tags = [text.partition("tag=")[2] for text in (known.remote, known.local)]
            headers["replaces"] = f"{known.call_id};to-tag={tags[0]};from-tag={tags[1]}"
        invite = self.request("INVITE", uri, **headers)
        self.put(invite, host)
        before = len(self.received)
        self.later(self.pause(), self.go_on, invite, before, host)
        if self.random.random() < 0.25:
            self.later(self.pause(), lambda: self.put(invite.cancel(), host))

    def go_on(self, invite: Request, before: int, host: str) -> None:
        """Send ACKs, or none, to what the victim has answered."""
        for response in [r for r in self.received[before:] if isinstance(r, Response)]:
            if (response.call_id, response.cseq.method) != (invite.call_id, "INVITE"):
                continue
            if response.to.tag is None:
                continue
            if response.status < 300:
                target = str(response.contact[0].uri) if response.contact else str(invite.uri)
                self.know(str(invite.call_id), str(invite.from_), str(response.to), target, host)
            if 200 <= response.status < 300 and self.random.random() < 0.8:
                ack = self.body() if self.random.random() < 0.5 else {}
                self.put(self.within(invite, response, "ACK", **ack), host)
        for _ in range(self.random.randint(0, 4)):
            self.later(self.pause(), self.attack)

    def attack(self) -> None:
        """Send a random request within one of the dialogs."""
        if not self.known:
            return
        dialog = self.random.choice(self.known)
        method = self.random.choice(METHODS)
        twice, method = method == "BYE twice", method.partition(" ")[0]
        self.number += 1
        number = self.random.choice((self.number,) * 6 + (1, self.number - 1, 2**31 - 1))
        headers: dict[str, Any] = {}
        if method in ("INVITE", "UPDATE", "ACK", "PRACK"):
            headers = self.body()
        if method in ("INVITE", "UPDATE", "REFER", "SUBSCRIBE", "NOTIFY"):
            headers["contact"] = f"<{self.uri}>"
        if method in ("INVITE", "UPDATE") and self.random.random() < 0.3:
            headers["session_expires"] = "90;refresher=uas"
        if method == "PRACK":
            headers["rack"] = f"{self.random.choice((1, 2, 2**31))} {self.number} INVITE"
        if method == "REFER":
            to = self.random.choice(self.victims)
            headers["refer_to"] = self.random.choice((f"<{to}>", f"<{to}>", f"<{to};method=BYE>"))
        if method in ("NOTIFY", "SUBSCRIBE"):
            headers["event"] = self.random.choice(("refer", "refer;id=1", "presence", "dialog"))
        if method == "NOTIFY":
            state = ("active;expires=60", "terminated;reason=noresource", "active;expires=0")
            headers["subscription_state"] = self.random.choice(state)
            status = self.random.choice(("100 Trying", "200 OK", "603 Decline", "no status"))
            headers.update(content_type="message/sipfrag", body=f"SIP/2.0 {status}\r\n")
        if method == "INFO":
            kind = self.random.choice(("application/dtmf-relay", "application/dtmf", "text/plain"))
            headers.update(content_type=kind, body="Signal=1\r\nDuration=100\r\n")
        if self.random.random() < 0.1:
            headers["require"] = self.random.choice(("100rel", "timer", "unknown"))
        local, remote = dialog.local, dialog.remote
        if self.random.random() < 0.05:
            remote = f"<{dialog.target}>;tag=other"
        request = self.request(
            method, dialog.target, from_=local, to=remote, call_id=dialog.call_id, number=number,
            **headers,
        )  # fmt: skip
        self.put(request, dialog.host)
        if twice:
            self.number += 1
            again = self.request(
                method, dialog.target, from_=local, to=remote, call_id=dialog.call_id,
                number=self.number,
            )  # fmt: skip
            self.put(again, dialog.host)
        if method == "INVITE" and self.random.random() < 0.8:
            ack = self.request(
                "ACK", dialog.target, from_=local, to=remote, call_id=dialog.call_id,
                number=number, **(self.body() if self.random.random() < 0.4 else {}),
            )  # fmt: skip
            self.later(self.pause(), lambda: self.put(ack, dialog.host))
        if self.random.random() < 0.5:
            self.later(self.pause(), self.attack)

    def stop(self) -> None:
        """Say nothing any more."""
        self.budget = 0
