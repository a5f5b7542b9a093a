"""CANCEL, BYE, re-INVITE and INFO in one burst: right behind the ACK, before a core's first line, and
wherever a core of an example waits."""

from __future__ import annotations

import itertools
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest

from sippet_gevent import SIPError, Stack
from sippet_gevent.core.inbox import Inbox
from sippet_gevent.message.parser import parse

from ..core.wire import Peer, start

EXAMPLES = Path(__file__).parents[2] / "examples"

METHODS = ("CANCEL", "BYE", "INVITE", "INFO")

BURSTS = [
    burst
    for length in range(1, len(METHODS) + 1)
    for burst in itertools.permutations(METHODS, length)
]
"""Each selection of the methods, in each order."""

OFFER = {
    "body": "v=0\r\no=- 1 1 IN IP4 10.0.0.50\r\ns=-\r\nc=IN IP4 10.0.0.50\r\nt=0 0\r\n"
    "m=audio 9000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n",
    "content_type": "application/sdp",
}
DIGIT = {"body": "Signal=5\r\n", "content_type": "application/dtmf-relay"}


class Caller(Peer):
    """A caller that writes its requests by hand, and one call of it."""

    def __init__(self, sip, uri="sip:bob@10.0.0.1"):
        super().__init__(sip, "10.0.0.50", self.serve)
        self.invite = self.request("INVITE", uri, **OFFER)
        self.sent = []

    def serve(self, request):
        return 200

    def within_call(self, response, burst):
        """Make the requests of a burst."""
        found = []
        for place, method in enumerate(burst):
            if method == "CANCEL":
                found.append(self.invite.cancel())
                continue
            headers = {"INVITE": OFFER, "INFO": DIGIT}.get(method, {})
            number = self.invite.cseq.number + 1 + place
            found.append(self.within(self.invite, response, method, number=number, **headers))
        self.sent += found
        return found

    def throw(self, *messages):
        """Send messages, without letting anything happen."""
        for message in messages:
            self._transport.connect(("10.0.0.1", 5060)).send(bytes(message))

    def finals(self, request):
        """Return the final statuses of a request, each once."""
        return {r.status for r in self.responses if r.status >= 200 and r.cseq == request.cseq}

    def acknowledge(self):
        """Send the ACKs of the 2xx that have none."""
        done = {request.cseq.number for request in self.sent if request.method == "ACK"}
        for response in [r for r in self.responses if r.is_success and r.cseq.method == "INVITE"]:
            if response.cseq.number not in done:
                done.add(response.cseq.number)
                ack = self.within(self.invite, response, "ACK", number=response.cseq.number)
                self.sent.append(ack)
                self.throw(ack)
        self.sip.settle()

    def leave(self):
        """End the call if it is there still, and check that each request got one answer."""
        self.acknowledge()
        self.sip.advance(70)
        self.acknowledge()
        ok = [r for r in self.responses if r.is_success and r.cseq.method == "INVITE"]
        if ok:
            self.throw(self.within(self.invite, ok[-1], "BYE", number=90))
        self.sip.advance(70)
        assert self.finals(self.invite)
        for request in self.sent:
            if request.method != "ACK":
                assert len(self.finals(request)) == 1, f"{request!r}: {self.finals(request)}"
        for stack in self.sip.stacks:
            assert (len(stack.dialogs), stack.dialogs.early) == (0, 0)


def check(burst, caller, requests, *, own):
    """Check the answers to a burst in a confirmed call (RFC 3261 §9.2, §14.2, §15.1.2)."""
    over = False
    for method, request in zip(burst, requests, strict=True):
        expected = {"CANCEL": {200}, "BYE": {200}, "INVITE": {200}, "INFO": own}[method]
        if over and method != "CANCEL":
            expected = {481}
        got = caller.finals(request)
        assert len(got) == 1 and got <= expected, f"{method} of {burst}: {got}"
        over = over or method == "BYE"


# ---- behind the ACK

KINDS = {
    # what the core does in its call: the statuses that an INFO may get
    "events": {200},
    "handler": {200},
    "wait": {501},
    "busy": {200, 501},
}


@pytest.mark.rfc("3261 9.2", "3261 14.2", "3261 15.1.2", "5407 3.1.2", "5407 3.1.6")
@pytest.mark.parametrize("burst", BURSTS, ids="-".join)
@pytest.mark.parametrize("kind", KINDS)
def test_burst_behind_the_ack(sip, kind, burst):
    seen, ends = [], []

    def core(request, tx):
        if request.to.tag is not None:
            return 501
        handlers = {"INFO": handle} if kind == "handler" else None
        with tx.accept(body=OFFER["body"], handlers=handlers) as call:
            if kind == "busy":
                tx.stack.clock.sleep(0.1)  # as in a database
            if kind in ("events", "busy"):
                for event in call.events(timeout=30):
                    if event.digit:
                        seen.append(event.digit)
            else:
                call.wait(30)
            ends.append(call.end)
        return None

    def handle(request, tx):
        seen.append(request.body)
        return 200

    stack = Stack(clock=sip.clock)
    stack.on("INVITE")(core)
    if kind != "events" and kind != "busy":
        stack.on("INFO")(lambda request, tx: 501)
    sip.serve(stack)
    caller = Caller(sip)
    caller.send(caller.invite)
    ok = caller.responses[-1]
    requests = caller.within_call(ok, burst)
    ack = caller.within(caller.invite, ok, "ACK", number=caller.invite.cseq.number)
    caller.sent.append(ack)
    caller.throw(ack, *requests)
    sip.advance(1)
    check(burst, caller, requests, own=KINDS[kind])
    sip.advance(31)
    served = [request for request in requests if caller.finals(request) == {200}]
    digits = [request for request in served if request.method == "INFO"]
    if "BYE" in burst:
        assert ends[0].by == "peer"
    assert len(seen) >= len(digits)  # a digit that was answered 200 has reached the core
    caller.leave()


# ---- before the core's first line


@pytest.mark.rfc("3261 9.2")
@pytest.mark.parametrize("again", [False, True], ids=["once", "repeated"])
@pytest.mark.parametrize("first", ["INVITE", "CANCEL"])
def test_cancel_arrives_before_the_core_s_first_line(sip, first, again):
    began = []

    def core(request, tx):
        if request.to.tag is not None:
            return 481
        began.append(request)
        with tx.accept(body=OFFER["body"]) as call:
            call.wait(5)
        return None

    sip.serve(core)
    caller = Caller(sip)
    cancel = caller.invite.cancel()
    order = [caller.invite, cancel] if first == "INVITE" else [cancel, caller.invite, cancel]
    if again:
        order.append(caller.invite)
    caller.sent.append(cancel)
    caller.throw(*order)
    sip.settle()
    # a CANCEL that comes before its INVITE has nothing to cancel: 481 without a transaction (§9.2),
    # so that its repetition finds the INVITE
    assert caller.finals(cancel) == ({200} if first == "INVITE" else {200, 481})
    caller.sent.clear()
    caller.leave()
    assert len(began) == 1


@pytest.mark.rfc("3261 13.2.2.4", "3261 15", "5407 3.1")
@pytest.mark.parametrize("burst", [each for each in BURSTS if "CANCEL" not in each], ids="-".join)
def test_burst_of_the_callee_behind_its_200(sip, burst):
    seen = []

    def handle(request, tx):
        seen.append(request.body)
        return 200

    peer = Peer(sip, "10.0.0.60", lambda request: 200 if request.method == "BYE" else None)
    placing = start(
        sip, sip.client.invite, "sip:bob@10.0.0.60", body=OFFER["body"], handlers={"INFO": handle}
    )
    invite = peer.last("INVITE")
    ok = invite.response(200, contact=f"<{peer.uri}>", **OFFER)
    requests = [
        peer.back(
            invite, ok, method, number=1 + place, **{"INVITE": OFFER, "INFO": DIGIT}.get(method, {})
        )
        for place, method in enumerate(burst)
    ]
    at = sip.client.engine.transports[0].local[0]
    peer.send(ok, *requests, to=at)
    finals = [
        {r.status for r in peer.responses if r.cseq == request.cseq and r.status >= 200}
        for request in requests
    ]
    over = False
    for method, got in zip(burst, finals, strict=True):
        assert got == ({481} if over else {200})
        over = over or method == "BYE"
    call = placing.get(block=False)
    assert call.ended.is_set() is ("BYE" in burst)
    for method, request in zip(burst, requests, strict=True):
        if method == "INVITE":
            peer.send(peer.back(invite, ok, "ACK", number=request.cseq.number), to=at)
    call.hangup()
    sip.advance(70)
    assert len(sip.client.dialogs) == 0
    assert len(seen) == [
        200 for method, got in zip(burst, finals, strict=True) if method == "INFO" and got == {200}
    ].count(200)


# ---- at each point where a core of an example waits


def load(name):
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / name)))


def gateway(request, tx):
    """The core of a phone that rings, answers, and hangs up."""
    if request.to.tag is not None:
        return 200
    tx.respond(180)
    tx.wait(2)
    with tx.accept(body=OFFER["body"]) as call:
        call.wait(10)
    return None


def b2bua(sip):
    module = load("b2bua.py")
    module.b2bua.__globals__.update(GATEWAY="10.0.0.60", PORT=5060)
    sip.serve(module.stack)
    sip.stack(gateway, host="10.0.0.60")
    return "sip:bob@10.0.0.1"


def softphone(sip):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LISTEN", "udp:10.0.0.1:5060")
        patch.setenv("ANSWER", "2")
        module = load("softphone.py")
    module.phone.say = lambda text: None
    sip.serve(module.stack)
    return "sip:me@10.0.0.1"


def ivr(sip):
    stack = load("ivr.py").stack
    sip.serve(stack)
    return "sip:ivr@10.0.0.1"


def hello(sip):
    stack = load("hello.py").stack
    sip.serve(stack)
    return "sip:anything@10.0.0.1"


def proxy(sip):
    stack = load("registrar_proxy.py").stack
    sip.serve(stack)

    callee = sip.stack(gateway, host="10.0.0.60")
    aor = f"sip:bob@{stack.engine.transports[0].local[0]}"
    response = sip.run(
        callee.request, "REGISTER", "sip:10.0.0.1", next_hop="sip:10.0.0.1",
        from_=f"<{aor}>", to=f"<{aor}>", contact="<sip:bob@10.0.0.60>",
    )  # fmt: skip
    assert response.status == 200
    return aor


def unix(sip):
    """The core of the transport's example; it is served on the network of the tests."""
    stack = Stack(clock=sip.clock)
    stack.on("INVITE")(load("unix_transport.py").hello)
    sip.serve(stack)
    return "sip:hello@10.0.0.1"


def redirecting(sip):
    """The core that blocks in HTTP, Redis and a thread: each of them lets others run for a second."""

    def blocks(result=None):
        def call(*_, **__):
            Thrower.yields()
            sip.clock.sleep(1)
            return result

        return call

    found = SimpleNamespace(
        status_code=200, text="sip:bob@10.0.0.60", raise_for_status=lambda: None
    )
    counters = SimpleNamespace(incr=blocks(1), expire=blocks())
    client = SimpleNamespace(from_url=lambda url: counters)
    pool = SimpleNamespace(threadpool=SimpleNamespace(apply=blocks()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "redis", SimpleNamespace(Redis=client))
        patch.setitem(sys.modules, "requests", SimpleNamespace(get=blocks(found)))
        module = load("blocking_core.py")
    module.core.__globals__["gevent"] = SimpleNamespace(get_hub=lambda: pool)
    sip.serve(module.core)
    return "sip:bob@10.0.0.1"


EXAMPLE = {
    "b2bua.py": b2bua,
    "blocking_core.py": redirecting,
    "hello.py": hello,
    "ivr.py": ivr,
    "registrar_proxy.py": proxy,
    "softphone.py": softphone,
    "unix_transport.py": unix,
}

POINTS = range(1, 6)
"""The waits of a core. After the last one of an example, nothing is thrown."""

AT_POINTS = [burst for burst in BURSTS if len(burst) in (1, 2, 4)][::3]


class Thrower:
    """Throws a burst of the caller at a wait of a core."""

    yields = staticmethod(lambda: None)
    """What a core's blocking call of others tells, too."""

    def __init__(self, sip, monkeypatch, caller, point, burst):
        self.sip = sip
        self.caller = caller
        self.burst = burst
        self.requests = None
        self.waits = 0
        wait = Inbox.wait

        def yields():
            if getattr(gevent.getcurrent(), "serving", None) is not None:
                self.waits += 1
                if self.waits == point:
                    self.throw()

        def counting(inbox, ready, timeout=None):
            yields()
            return wait(inbox, ready, timeout)

        monkeypatch.setattr(Inbox, "wait", counting)
        monkeypatch.setattr(Thrower, "yields", staticmethod(yields))

    def throw(self):
        """Send the burst behind what was sent to the caller, an ACK first if that is a 2xx."""
        caller = self.caller
        told = [
            parse(carried.data)
            for carried in self.sip.network.trace
            if carried.destination[0] == caller.host and carried.data.startswith(b"SIP/2.0")
        ]
        told = [r for r in told if r.cseq.method == "INVITE" and r.to.tag]
        last = told[-1] if told else None
        burst = [m for m in self.burst if m == "CANCEL" or (last is not None and last.contact)]
        if last is not None and last.is_success:
            ack = caller.within(caller.invite, last, "ACK", number=caller.invite.cseq.number)
            caller.sent.append(ack)
            caller.throw(ack)
        self.requests = caller.within_call(last, burst)
        caller.throw(*self.requests)


@pytest.mark.rfc("3261 9.2", "3261 14.2", "3261 15", "3261 15.1.2", "5407 3")
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("example", EXAMPLE)
def test_burst_wherever_a_core_of_an_example_waits(sip, monkeypatch, example, point):
    uri = EXAMPLE[example](sip)
    for burst in AT_POINTS:
        with monkeypatch.context() as patch:
            caller = Caller(sip, uri)
            thrower = Thrower(sip, patch, caller, point, burst)
            caller.throw(caller.invite)
            for _ in range(30):
                sip.advance(0.5)
                caller.acknowledge()
            if thrower.requests is not None and {"BYE", "CANCEL"} & set(burst):
                assert caller.finals(caller.invite)
            caller.leave()
            caller._transport.stop()


# ---- the example that only calls: its phones act


class Callee:
    """A phone that rings, answers, and hangs up after a while."""

    def __init__(self, sip, host):
        self.calls = []
        self.stack = sip.stack(self.ring, host=host)

    def ring(self, request, tx):
        if request.to.tag is not None:
            return 200
        tx.respond(180)
        tx.wait(1)
        with tx.accept(body=OFFER["body"]) as call:
            self.calls.append(call)
            call.wait(20)
        return None

    def act(self, method):
        """Send a request within the call, if there is one."""
        for call in self.calls:
            try:
                if method == "BYE":
                    call.hangup()
                elif method == "INVITE":
                    call.reinvite(body=OFFER["body"])
                else:
                    call.request("INFO", **DIGIT)
            except SIPError:
                pass  # the call has ended, or another request was faster


ACTS = [
    burst
    for length in (1, 2, 3)
    for burst in itertools.permutations(("BYE", "INVITE", "INFO"), length)
]


@pytest.mark.rfc("3725 4.4", "3261 15")
@pytest.mark.parametrize("leaver", [0, 1])
@pytest.mark.parametrize("point", range(1, 11))
def test_phones_act_wherever_the_click_to_call_example_waits(sip, monkeypatch, point, leaver):
    with monkeypatch.context() as patch:
        patch.setenv("PAGE", "127.0.0.1:0")
        module = load("click_to_call.py")
    module.server.stop()
    sip.serve(module.stack)
    phones = [Callee(sip, "10.0.0.50"), Callee(sip, "10.0.0.60")]
    uris = ("sip:a@10.0.0.50", "sip:b@10.0.0.60")
    wait = Inbox.wait
    for burst in ACTS:
        waits, connecting = [], []

        def counting(inbox, ready, timeout=None, burst=burst, waits=waits, connecting=connecting):
            if gevent.getcurrent() in connecting:
                waits.append(inbox)
                if len(waits) == point:
                    for method in burst:
                        gevent.spawn(phones[leaver].act, method)
            return wait(inbox, ready, timeout)

        with monkeypatch.context() as patch:
            patch.setattr(Inbox, "wait", counting)
            connecting.append(gevent.spawn(module.connect, *uris))
            for _ in range(60):
                sip.advance(0.5)
        assert connecting[0].dead, module.calls
        assert module.calls[uris].startswith(("ended: ", "not connected: "))
        sip.advance(70)
        for stack in (module.stack, *(phone.stack for phone in phones)):
            stats = stack.stats()
            assert [stats[name] for name in ("calls", "early_dialogs", "handlers")] == [0, 0, 0]
            assert stats["server_transactions"] == stats["client_transactions"] == 0
        for phone in phones:
            phone.calls.clear()
