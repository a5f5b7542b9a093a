"""The Python calls of a unit of work, which only ever become fewer.

One call of a Python function costs about 0.3 us, so their number is the CPU time of the unit without
the noise of a machine. A change that needs more of them raises the number here and says why.
"""

from __future__ import annotations

import socket as plain_socket
import sys
from pathlib import Path

import gevent
import pytest

import sippet_gevent
from sippet_gevent import Authenticated, Location, Registrar, Stack, TrustDomain, forward, parse
from sippet_gevent.core.auth.digest import Session, ha1
from sippet_gevent.engine import shedding
from sippet_gevent.engine.lateness import STANDING
from sippet_gevent.engine.shedding import PATIENCE
from sippet_gevent.transaction.timers import Timers

PACKAGE = str(Path(sippet_gevent.__file__).parent)
WARM = 20
UNITS = 20

MOST = {
    "c": {
        "options": 37,
        "call": 250,
        "overloaded": 272,
        "proxied": 505,
        "register": 118,
        "password": 141,
        "stranger": 19,
        "cancels_nothing": 18,
        "stray_ack": 20,
        "stray_response": 13,
        "dropped": 3.5,
        "absorbed": 8.5,
        "refused": 13.5,
    },
    "python": {
        "options": 69,
        "call": 353,
        "overloaded": 380,
        "proxied": 730,
        "register": 148,
        "password": 171,
        "stranger": 56,
        "cancels_nothing": 51,
        "stray_ack": 51,
        "stray_response": 44,
        "dropped": 5.5,
        "absorbed": 9.5,
        "refused": 26,
    },
}[sippet_gevent.implementation]
"""Calls of functions of the package for one unit of work, with the C functions and without. The
last three are units of overload, in bursts of BURST messages."""

T1 = Timers().t1

BURST = 50
"""Messages of overload that arrive together, as a socket reads them."""

BUDGET = 60.0
"""Seconds for refusals, so that a pause of the machine turns none into a drop."""

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 6002 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
)


class Peer:
    """A phone whose messages are made by hand from the bytes of those before."""

    def __init__(self, to=None):
        self.sock = plain_socket.socket(type=plain_socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self.to = to

    def send(self, text, to=None):
        self.sock.sendto(text.encode(), to or self.to)

    def take(self):
        """Return the next message and its source."""
        for _ in range(10_000):
            try:
                data, source = self.sock.recvfrom(65535)
            except BlockingIOError:
                gevent.sleep(0)
            else:
                return data.decode(), source
        raise AssertionError("no message came")

    def take_status(self, status):
        text, _ = self.take()
        assert text.startswith(f"SIP/2.0 {status} "), text
        return text

    def request(self, method, uri, number, *, cseq=1, to="", more="", body=""):
        self.send(
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{method}{number};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:alice@127.0.0.1>;tag=a{number}\r\n"
            f"To: <sip:bob@127.0.0.1>{to}\r\nCall-ID: call-{number}\r\nCSeq: {cseq} {method}\r\n"
            f"{more}Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def answer(self, request, source, status, *, body=""):
        kept = [
            line if not line.startswith("To:") or ";tag=" in line else line + ";tag=callee"
            for line in request.split("\r\n")
            if line.startswith(("Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"))
        ]
        contact = f"Contact: <sip:bob@127.0.0.1:{self.port}>"
        lines = [f"SIP/2.0 {status}", *kept, contact, f"Content-Length: {len(body)}", "", body]
        self.send("\r\n".join(lines), source)


def values(text, name):
    return [line.partition(": ")[2] for line in text.split("\r\n") if line.startswith(name + ":")]


def within(answer):
    """Return the target, To parameters and Route lines of a dialog."""
    (contact,), (to,) = values(answer, "Contact"), values(answer, "To")
    route = "".join(f"Route: {value}\r\n" for value in reversed(values(answer, "Record-Route")))
    return contact[1 : contact.index(">")], to[to.index(";tag=") :], route


def options(stack, peer, _callee):
    stack.on("OPTIONS")(lambda request, tx: 200)

    def unit(number):
        peer.request("OPTIONS", "sip:127.0.0.1", number)
        peer.take_status(200)

    return unit


def invite(peer, number):
    more = f"Contact: <sip:alice@127.0.0.1:{peer.port}>\r\nContent-Type: application/sdp\r\n"
    peer.request("INVITE", "sip:bob@127.0.0.1", number, more=more, body=SDP.decode())


def call(stack, peer, _callee):
    @stack.on("INVITE")
    def answered(request, tx):
        tx.respond(180)
        with tx.accept(body=SDP, content_type="application/sdp") as call:
            call.wait()

    def unit(number):
        invite(peer, number)
        peer.take_status(180)
        target, to, _ = within(peer.take_status(200))
        peer.request("ACK", target, number, to=to)
        peer.request("BYE", target, number, to=to, cseq=2)
        peer.take_status(200)

    return unit


def proxied(stack, peer, callee):
    @stack.on()
    def route(request, tx):
        if tx.take_route() and not stack.is_local(request.uri):
            return forward(request, tx)
        if request.method == "ACK" or request.to.tag is not None:
            return 481
        return forward(request, tx, f"sip:bob@127.0.0.1:{callee.port}", record_route=True)

    def unit(number):
        invite(peer, number)
        request, source = callee.take()
        callee.answer(request, source, "180 Ringing")
        peer.take_status(180)
        callee.answer(request, source, "200 OK", body=SDP.decode())
        target, to, route = within(peer.take_status(200))
        peer.request("ACK", target, number, to=to, more=route)
        assert callee.take()[0].startswith("ACK ")
        peer.request("BYE", target, number, to=to, cseq=2, more=route)
        callee.answer(*callee.take(), "200 OK")
        peer.take_status(200)

    return unit


def registers(peer, number, more=""):
    peer.send(
        "REGISTER sip:127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:{peer.port};branch=z9hG4bKr{number};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:bob@127.0.0.1>;tag={number}\r\n"
        f"To: <sip:bob@127.0.0.1>\r\nCall-ID: register\r\nCSeq: {number} REGISTER\r\n{more}"
        f"Contact: <sip:bob@127.0.0.1:{peer.port}>;expires=3600\r\nContent-Length: 0\r\n\r\n"
    )


def register(stack, peer, _callee):
    stack.on("REGISTER")(Registrar(Location()))

    def unit(number):
        registers(peer, number)
        peer.take_status(200)

    return unit


def password(stack, peer, _callee):
    """The same with a password, by a nonce that the phone already has."""
    key = ha1("bob", "127.0.0.1", "secret", "SHA-256")
    office = TrustDomain(Registrar(Location()))
    stack.on("REGISTER")(
        Authenticated(office, realm="127.0.0.1", users={"bob": {"SHA-256": key}})
    )  # fmt: skip
    registers(peer, 0)
    challenges = parse(peer.take_status(401).encode()).www_authenticate
    session = Session(challenges[0], "bob", key, "0a4f113b")

    def unit(number):
        count = sys.getprofile()
        sys.setprofile(None)  # what the phone computes is no work of the server
        value = session.answer("REGISTER", "sip:127.0.0.1")
        more = f"Authorization: {value}\r\n"
        sys.setprofile(count)
        registers(peer, number, more)
        peer.take_status(200)

    return unit


def answering(stack):
    @stack.on("INVITE")
    def answered(request, tx):
        with tx.accept() as call:
            call.wait()


def stranger(stack, peer, _callee):
    """A BYE of a dialog that is not known, as anybody can write it."""
    answering(stack)

    def unit(number):
        peer.request("BYE", "sip:bob@127.0.0.1", number, to=";tag=forged")
        peer.take_status(481)

    return unit


def cancels_nothing(stack, peer, _callee):
    answering(stack)

    def unit(number):
        peer.request("CANCEL", "sip:bob@127.0.0.1", number)
        peer.take_status(481)

    return unit


def is_dropped(stack, count):
    while sum(stack.engine.counters.dropped.values()) < count:
        gevent.sleep(0)


def stray_ack(stack, peer, _callee):
    answering(stack)

    def unit(number):
        peer.request("ACK", "sip:bob@127.0.0.1", number, to=";tag=forged")
        is_dropped(stack, number)

    return unit


def stray_response(stack, peer, _callee):
    def unit(number):
        peer.send(
            f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK{number}\r\n"
            f"From: <sip:bob@127.0.0.1>;tag=a{number}\r\nTo: <sip:alice@127.0.0.1>;tag=forged\r\n"
            f"Call-ID: call-{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        is_dropped(stack, number)

    return unit


def texts(method, numbers, peer, to=""):
    """Return a burst of requests, as bytes."""
    return [
        (
            f"{method} sip:bob@127.0.0.1 SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{peer.port};branch=z9hG4bK{number};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:alice@127.0.0.1>;tag=a{number}\r\n"
            f"To: <sip:bob@127.0.0.1>{to}\r\nCall-ID: call-{number}\r\nCSeq: 1 {method}\r\n"
            f"Contact: <sip:alice@127.0.0.1:{peer.port}>\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        for number in numbers
    ]


def arrive(stack, peer, burst, budget=BUDGET):
    """Let a burst arrive in overload that has waited for long in the kernel, with so many seconds
    for refusals."""
    seconds = 2 * PATIENCE * T1
    overload, (transport, *_) = stack.engine.overload, stack.engine.transports
    flow = transport.connect(("127.0.0.1", peer.port))

    def read():
        take = overload.waited("test", seconds, stands=True)
        overload.shedding.budget = budget
        for data in burst:
            take(data, flow)

    while overload.waited("test", seconds, stands=True) is None:
        gevent.sleep(STANDING * T1 / 4)
    gevent.get_hub().loop.run_callback(read)
    gevent.sleep(0)
    while overload.waiting.requests:
        gevent.sleep(0)


def overloaded(stack, peer, _callee):
    """A call that is served in overload."""
    overload, (transport, *_) = stack.engine.overload, stack.engine.transports
    unit = call(stack, peer, None)
    overload._begin(overload._now())
    transport._measure = lambda ancillary: overload.take

    def pressed(number):
        overload._pressed = overload._arrival = overload._now()
        unit(number)

    return pressed


def dropped(stack, peer, _callee):
    """New INVITEs in overload, while there is no time for refusals."""
    counts = stack.engine.counters.dropped

    def unit(number):
        before = counts.get("overload", 0)
        burst = texts("INVITE", range(number * BURST, (number + 1) * BURST), peer)
        arrive(stack, peer, burst, float("-inf"))
        assert counts["overload"] - before == BURST

    return unit


def absorbed(stack, peer, _callee):
    """Retransmissions in overload of INVITEs that ring; each gets its 180 again."""

    @stack.on("INVITE")
    def ring(request, tx):
        tx.respond(180)
        tx.wait(60)

    burst = texts("INVITE", range(BURST), peer)
    for data in burst:
        peer.send(data.decode())
        peer.take_status(180)

    def unit(number):
        before = stack.engine.counters.absorbed
        for tx in stack.engine.servers.values():
            tx.quiet_until = 0.0  # here they come sooner than T1
        arrive(stack, peer, burst)
        assert stack.engine.counters.absorbed - before == BURST
        for _ in burst:
            peer.take_status(180)

    return unit


def refused(stack, peer, _callee):
    """New INVITEs in overload that get 503, and their ACKs."""
    counters, refusals = stack.engine.counters, stack.engine.admission.refused

    def unit(number):
        numbers = range(number * BURST, (number + 1) * BURST)
        before = refusals.get("overload", 0), counters.absorbed
        arrive(stack, peer, texts("INVITE", numbers, peer))
        for _ in numbers:
            peer.take_status(503)
        arrive(stack, peer, texts("ACK", numbers, peer, ";tag=ours"))
        assert refusals["overload"] - before[0] == BURST
        assert counters.absorbed - before[1] == BURST

    return unit


def calls_of(make, messages=1):
    """Return the calls of one unit of so many messages, by function of the package."""
    counts = {}

    def count(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            name = f"{frame.f_code.co_filename[len(PACKAGE) :]}:{frame.f_code.co_name}"
            counts[name] = counts.get(name, 0) + 1

    with Stack("udp:127.0.0.1:0") as stack:
        peer, callee = Peer(stack.engine.transports[0].local), Peer()
        with peer.sock, callee.sock:
            unit = make(stack, peer, callee)
            for number in range(1, WARM + 1):
                unit(number)
            sys.setprofile(count)
            try:
                for number in range(WARM + 1, WARM + UNITS + 1):
                    unit(number)
            finally:
                sys.setprofile(None)
    return {name: number / UNITS / messages for name, number in counts.items()}


def check(make, messages=1):
    """Check that a unit of work makes no more calls than MOST says."""
    for _ in range(12):  # a busy machine makes more ticks of the clock, in some runs
        counts = calls_of(make, messages)
        spent = sum(counts.values())
        if spent <= MOST[make.__name__]:
            break
    top = sorted(counts.items(), key=lambda item: -item[1])[:15]
    assert spent <= MOST[make.__name__], f"{spent:.1f} calls, most of them: " + ", ".join(
        f"{name} {number:.1f}" for name, number in top
    )
    assert spent > MOST[make.__name__] * 0.75, f"{spent:.1f} calls: lower the number"


@pytest.mark.parametrize(
    "make", [options, call, overloaded, proxied, register, password], ids=lambda make: make.__name__
)
def test_unit_of_work_makes_no_more_python_calls(make):
    check(make)


@pytest.mark.parametrize(
    "make", [stranger, cancels_nothing, stray_ack, stray_response], ids=lambda make: make.__name__
)
def test_message_that_belongs_to_nothing_makes_no_more_python_calls(make):
    check(make)


@pytest.mark.parametrize("make", [dropped, absorbed, refused], ids=lambda make: make.__name__)
def test_message_in_overload_makes_no_more_python_calls(make, monkeypatch):
    monkeypatch.setattr(shedding, "SAVED", BUDGET)
    check(make, BURST)


def test_password_makes_at_most_half_as_many_calls_again():
    """Of the CPU, `bench/passwords.py` says the same."""
    without, guarded = sum(calls_of(register).values()), sum(calls_of(password).values())
    assert without < guarded <= without * 1.5
