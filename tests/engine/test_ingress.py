"""Bad input to a running stack, threats table 4b: the answer or the silence, the counter, the log line."""

from __future__ import annotations

import logging

import pytest
from gevent import socket

from sippet_gevent import Limits, ParseError, Stack
from sippet_gevent.message.parser import ParserLimits, parse
from sippet_gevent.transport.memory import MemoryTransport

from ..pace import is_within

GOOD = (
    b"OPTIONS sip:x@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@b.example>;tag=1\r\nTo: <sip:x@b.example>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


@pytest.fixture
def wire(sip):
    """Raw bytes to a stack that answers OPTIONS, and what comes back."""

    class Wire:
        def __init__(self):
            self.answers = []
            self.stack = sip.stack(host="10.0.0.1")
            self.stack.on("OPTIONS")(lambda request, tx: 200)
            point = MemoryTransport(sip.network)
            point.start(("10.0.0.9", 5060), lambda data, flow: self.answers.append(data))
            self.flow = point.connect(("10.0.0.1", 5060))
            self.sent = 0

        def send(self, data):
            """Send, and return the answers that come at once as (status, reason)."""
            self.answers.clear()
            self.flow.send(data)
            sip.settle()
            lines = [answer.partition(b"\r\n")[0].decode() for answer in self.answers]
            return [(int(line[8:11]), line[12:]) for line in lines]

        def good(self):
            self.sent += 1
            return GOOD % (self.sent, self.sent)

        def counters(self):
            stats = self.stack.stats()
            return {name: stats[name] for name in ("delivered", "answered", "absorbed")} | stats[
                "dropped"
            ]

        def still_answers(self):
            return self.send(self.good()) == [(200, "OK")]

    return Wire()


def without(data, name):
    lines = data.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(name))


@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq"])
def test_missing_header_is_400_that_names_it(wire, name):
    assert wire.send(without(wire.good(), name.encode())) == [(400, f"Missing {name}")]
    assert wire.counters() == {"delivered": 0, "answered": 1, "absorbed": 0}
    assert wire.still_answers()


@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq", "Max-Forwards"])
def test_header_that_appears_twice_is_400_that_names_it(wire, name):
    data = wire.good()
    line = next(line for line in data.split(b"\r\n") if line.startswith(name.encode()))
    assert wire.send(data.replace(line, line + b"\r\n" + line)) == [(400, f"Duplicate {name}")]


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        (b"SIP/2.0\r\nVia", b"SIP/7.0\r\nVia", 505),
        (b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE", 400),
        (b"OPTIONS sip:x@10.0.0.1", b"NEWMETHOD sip:x@10.0.0.1", 501),
        (b"Content-Length: 0", b"Content-Length: 9", 400),
        (b"Content-Length: 0", b"Content-Length: -1", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: 256", 400),
        (b"sip:x@10.0.0.1 ", b"http://10.0.0.1/ ", 416),
        (b"sip:x@10.0.0.1 ", b"sip:@ ", 400),
        (b"Max-Forwards: 70", b"X: a\rRoute: <sip:evil>", 400),
        (b"Max-Forwards: 70", b"X: a\nRoute: <sip:evil>", 400),
    ],
)
def test_fault_is_answered_with_its_status(wire, old, new, answer):
    assert [status for status, _ in wire.send(wire.good().replace(old, new))] == [answer]
    assert wire.still_answers()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\1\2 nothing like SIP", "bad_message"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad_message"),
        (b"\r\n\r\n", "keepalive"),
        (b"\0\0\0\0", "keepalive"),
        (b"SIP/2.0 999 Odd\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\n\r\n", "bad_response"),
    ],
)
def test_what_is_no_request_is_dropped_in_silence_and_counted(wire, data, reason):
    assert wire.send(data) == []
    assert wire.counters() == {"delivered": 0, "answered": 0, "absorbed": 0, reason: 1}
    assert wire.still_answers()


def test_missing_via_is_dropped(wire):
    assert wire.send(without(wire.good(), b"Via")) == []
    assert wire.counters()["bad_message"] == 1


def test_response_of_no_transaction_is_dropped(wire):
    response = bytes(parse(wire.good()).response(200))
    assert wire.send(response) == []
    assert wire.counters()["stray_response"] == 1


@pytest.mark.rfc("3261 17.1.1.3")
def test_stray_ack_is_never_answered(wire):
    assert wire.send(wire.good().replace(b"OPTIONS", b"ACK")) == []
    assert wire.counters()["stray_ack"] == 1


@pytest.mark.rfc("3261 9.2")
def test_cancel_of_nothing_is_481(wire):
    assert [status for status, _ in wire.send(wire.good().replace(b"OPTIONS", b"CANCEL"))] == [481]


def test_broken_ack_is_never_answered(wire):
    assert wire.send(without(wire.good().replace(b"OPTIONS", b"ACK"), b"Call-ID")) == []


def test_errors_to_one_source_are_limited(wire):
    broken = without(wire.good(), b"From")
    answers = sum(len(wire.send(broken)) for _ in range(100))
    assert 20 <= answers <= 22
    assert wire.counters()["too_many_errors"] == 100 - answers


def test_too_many_header_lines_are_513(wire):
    more = b"".join(b"X-%d: y\r\n" % n for n in range(300))
    assert [
        s for s, _ in wire.send(wire.good().replace(b"Max-Forwards", more + b"Max-Forwards"))
    ] == [513]


def test_limits_of_the_parser_are_the_stack_s(sip):
    stack = sip.stack(host="10.0.0.1", limits=Limits(parser=ParserLimits(message=300)))
    stack.on("OPTIONS")(lambda request, tx: 200)
    assert sip.ask(stack, "OPTIONS sip:x@10.0.0.1", body="x" * 300).statuses == [513]


def test_retransmission_storm_reaches_the_core_once(sip):
    served = []
    stack = sip.stack(host="10.0.0.1")
    stack.on("OPTIONS")(lambda request, tx: served.append(1) or 200)
    point, answers = MemoryTransport(sip.network), []
    point.start(("10.0.0.9", 5060), lambda data, flow: answers.append(data))
    for _ in range(10_000):
        point.connect(("10.0.0.1", 5060)).send(GOOD % (1, 1))
    sip.settle()
    assert len(served) == 1
    assert len(answers) <= 3  # the first, and repetitions at 20 a second
    assert stack.stats()["absorbed"] == 9_999


def test_log_shows_wire_text_escaped_and_few_lines_of_it(wire, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            wire.send(b"\x1b[2J evil \x07" + b"y" * 5000)
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= 15
    assert all("\x1b" not in line and len(line) < 500 for line in lines)
    assert wire.stack.stats()["unlogged"] >= 985


def test_fault_of_our_own_is_counted_kept_and_survived(wire, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("our fault")

    with monkeypatch.context() as patch:
        patch.setattr("sippet_gevent.engine.ingress.note_source", broken)
        wire.send(wire.good())
    assert wire.counters()["internal_error"] == 1
    assert "our fault" in caplog.text
    assert wire.stack.engine.crashes.pop()[1] == "RuntimeError('our fault')"
    assert wire.still_answers()


@pytest.mark.rfc("3261 8.2.7")
def test_answer_without_a_transaction_has_the_same_to_tag_each_time(sip):
    stack = sip.stack(host="10.0.0.1")
    stack.on("OPTIONS")(lambda request, tx: 200)
    stack.drain()
    point, answers = MemoryTransport(sip.network), []
    point.start(("10.0.0.9", 5060), lambda data, flow: answers.append(parse(data)))
    for _ in range(2):
        point.connect(("10.0.0.1", 5060)).send(GOOD % (1, 1))
        sip.settle()
    assert [answer.status for answer in answers] == [503, 503]
    assert answers[0].to.tag == answers[1].to.tag


@pytest.mark.rfc("3261 17.1.1.3")
def test_ack_to_a_refusal_of_the_stack_s_own_is_absorbed(sip):
    shown = []
    stack = sip.stack(lambda request, tx: shown.append(request.method))
    stack.drain()
    assert sip.ask(stack, "INVITE sip:x@example.com").statuses == [503]
    assert shown == []
    assert stack.stats()["absorbed"] == 1


def test_cancels_of_nothing_make_no_transactions(wire):
    for number in range(50):
        wire.send((GOOD % (number, number)).replace(b"OPTIONS", b"CANCEL"))
    assert wire.stack.stats()["server_transactions"] == 0


@pytest.mark.rfc("3261 18.2.2")
def test_refusal_goes_to_the_sent_by_port_when_no_rport_is_asked_for(sip, wire):
    other, answers = MemoryTransport(sip.network), []
    other.start(("10.0.0.9", 5070), lambda data, flow: answers.append(data))
    data = (
        without(wire.good(), b"From")
        .replace(b"10.0.0.9:5060", b"10.0.0.9:5070")
        .replace(b";rport", b"")
    )
    assert wire.send(data) == []
    assert answers[0].startswith(b"SIP/2.0 400 ")


@pytest.mark.parametrize("name", [b"Authorization", b"Proxy-Authorization"])
def test_broken_credentials_are_in_no_log(wire, caplog, name):
    with caplog.at_level(logging.DEBUG):
        wire.send(
            wire.good().replace(
                b"Max-Forwards", name + b"  x: Digest response=SECRET\r\nMax-Forwards"
            )
        )
        wire.send(
            wire.good().replace(
                b"Max-Forwards", name + b": " + b"SECRET" * 2000 + b"\r\nMax-Forwards"
            )
        )
    assert caplog.records and "SECRET" not in caplog.text


# ---- answers to requests whose lines cannot all be read, RFC 3261 §8.2.6.2

VIAS = [
    "SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1;rport=5060;received=10.0.0.9",
    "SIP/2.0/UDP p2.example.com;branch=z9hG4bK2;received=192.0.2.1, SIP/2.0/TCP p3.example.com;branch=z9hG4bK3",
    "SIP/2.0/UDP 192.0.2.77;branch=z9hG4bK4",
]
TWO_PROXIES = (
    b"OPTIONS sip:x@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n"
    b"v: SIP/2.0/UDP p2.example.com;branch=z9hG4bK2;received=192.0.2.1,\r\n\tSIP/2.0/TCP p3.example.com;branch=z9hG4bK3\r\n"
    b"From: <sip:a@b.example>;tag=1\r\nt:\r\n <sip:x@b.example>\r\n ;tag=there\r\nCall-ID: 7\r\nCSeq: 1 OPTIONS\r\n"
    b"VIA : SIP/2.0/UDP 192.0.2.77;branch=z9hG4bK4\r\n%sContent-Length: 0\r\n\r\n"
)
UNREADABLE = {
    "no colon": (b"bad line\r\n", 400),
    "no token": (b"b d: 1\r\n", 400),
    "fold of a bad line": (b"b d: 1\r\n Via: SIP/2.0/UDP folded\r\n", 400),
    "bare CR": (b"X: a\rb\r\n", 400),
    "bare LF": (b"X: a\nb\r\n", 400),
    "long line": (b"X: %s\r\n" % (b"x" * 9000), 400),
    "300 lines": (b"X: 1\r\n" * 300, 513),
}


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize("line, status", UNREADABLE.values(), ids=UNREADABLE)
def test_answer_beside_an_unreadable_line_has_all_vias_and_a_to_tag(wire, line, status):
    assert [found for found, _ in wire.send(TWO_PROXIES % line)] == [status]
    answer = parse(wire.answers[0])
    assert answer.headers.all("Via") == VIAS
    assert (answer.headers["To"], answer.to.tag) == ("<sip:x@b.example> ;tag=there", "there")
    assert (answer.from_.tag, answer.call_id, answer.cseq) == ("1", "7", (1, "OPTIONS"))


@pytest.mark.rfc("3261 8.2.6.2")
def test_answer_beside_an_unreadable_line_keeps_a_via_of_9000_bytes(wire):
    long = b"Via: SIP/2.0/UDP p4.example.com;branch=z9hG4bK5;x=%s\r\n" % (b"y" * 9000)
    assert [status for status, _ in wire.send(TWO_PROXIES % long)] == [400]
    assert parse(wire.answers[0], ParserLimits(line=10000)).headers.all("Via") == [
        *VIAS,
        long[5:-2].decode(),
    ]


@pytest.mark.rfc("3261 8.2.6.2")
def test_answer_beside_an_unreadable_line_adds_a_to_tag_where_there_is_none(wire):
    wire.send((TWO_PROXIES % b"bad line\r\n").replace(b"\r\n ;tag=there", b'\r\n ;note=">;tag="'))
    answer = parse(wire.answers[0])
    assert answer.headers["To"] == f'<sip:x@b.example> ;note=">;tag=";tag={answer.to.tag}'


@pytest.mark.rfc("3261 8.2.6.2")
@pytest.mark.parametrize(
    "line",
    [
        b"Via: SIP/2.0/UDP a;branch=z9hG4bK5\rb\r\n",
        b"Via: SIP/2.0/UDP a;branch=z9hG4bK5\nX: 1\r\n",
        b"Via: SIP/2.0/UDP a,\n SIP/2.0/UDP b\r\n",
        b"X: 1\nVia: SIP/2.0/UDP evil.example.com\r\n",
        b"Via SIP/2.0/UDP a;branch=z9hG4bK5\r\n",
        b"Via\r\n : SIP/2.0/UDP a;branch=z9hG4bK5\r\n",
    ],
)
def test_request_whose_vias_cannot_be_kept_whole_is_not_answered(wire, line):
    assert wire.send(TWO_PROXIES % line) == []
    assert wire.counters()["bad_message"] == 1


@pytest.mark.rfc("3261 8.2.6.2")
def test_request_that_is_cut_off_is_answered_unless_a_via_is_cut(wire):
    whole = TWO_PROXIES % b""
    assert [status for status, _ in wire.send(whole[:-4])] == [400]
    assert parse(wire.answers[0]).headers.all("Via") == VIAS
    assert wire.send(whole[: whole.index(b"192.0.2.77") + 5]) == []


@pytest.mark.parametrize("line", ["T", "To: <sip:a@b", "f", "Via", "To: x;tag=\x01"])
def test_64_kib_of_unreadable_lines_that_an_answer_needs_take_no_time(line):
    head = "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n"
    data = (head + f"{line}\r\n" * (60_000 // (len(line) + 2)) + "\r\n").encode()

    def refuse():
        with pytest.raises(ParseError):
            parse(data)

    assert is_within(0.03, refuse)


# ---- noise: datagrams without a line break


NOISE = [b"\x01\x02 noise", b"hello", b"SIP/2.0 200 OK", b"\0\0\0\0", b""]
FEW = 30
"""Datagrams of each kind: more than have a log line of their own."""


@pytest.mark.parametrize("seen", ["by nobody", "by a filter", "by an observer"])
def test_noise_is_counted_however_cheaply_it_is_dropped(caplog, seen):
    shown = []

    def accept(data, flow):
        shown.append(data)
        return True

    stack = Stack("udp:127.0.0.1:0", accept=accept if seen == "by a filter" else None)
    stack.on("OPTIONS")(lambda request, tx: 200)
    if seen == "by an observer":
        stack.tap(lambda passage: shown.append(passage.data))
    with stack, socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.settimeout(10)
        peer.connect(("127.0.0.1", int(stack.addresses[0].rpartition(":")[2])))
        for _ in range(FEW):
            for data in NOISE:
                peer.send(data)
        peer.send(GOOD % (1, 1))
        assert peer.recv(2000).startswith(b"SIP/2.0 200 ")
        stats = stack.stats()
    assert stats["dropped"] == {"bad_message": 2 * FEW, "bad_response": FEW, "keepalive": 2 * FEW}
    assert stats["received"] == len(NOISE) * FEW + 1
    assert seen == "by nobody" or shown.count(b"hello") == FEW
    lines = [line for line in caplog.messages if line.startswith("message dropped")]
    assert 0 < len(lines) <= 20
