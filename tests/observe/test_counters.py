"""Log lines that a peer can cause are limited by reason, RFC 3261 §26.1.5: a flood of packets must not fill the disk."""

from __future__ import annotations

import logging
import random

import gevent
import pytest

from sippet_gevent import Stack, VirtualClock
from sippet_gevent.observe.counters import LINES, LOG_REASONS, SUMMARY_SECONDS, Counters, LimitedLog
from sippet_gevent.testing import SERVER
from sippet_gevent.transport.memory import MemoryTransport, Network

log = logging.getLogger("sippet_gevent.test")


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def lines(clock):
    return LimitedLog(clock)


@pytest.fixture
def written(caplog):
    """The messages that were logged so far, at INFO and above."""
    caplog.set_level(logging.INFO, "sippet_gevent")
    return lambda: [record.getMessage() for record in caplog.records]


# ---- the limit of one reason


def flood(lines, number, reason="flood", level=logging.WARNING):
    for index in range(number):
        lines.line(log, level, reason, "packet %d", index)


def test_flood_of_one_reason_is_ten_lines_and_a_summary_with_a_count(lines, clock, written):
    flood(lines, 1000)
    assert written() == [f"packet {number}" for number in range(10)]
    clock.advance(10)
    assert written()[10:] == [
        'log lines left out: reason="flood" count=990 seconds=10 first="packet 10"'
    ]
    assert lines.unlogged == 990


def test_flood_that_goes_on_is_one_summary_in_ten_seconds(lines, clock, written):
    for _ in range(60):
        flood(lines, 500)
        clock.advance(1)
    assert len(written()) == LINES + 60 / SUMMARY_SECONDS
    assert all("count=" in line for line in written()[LINES:])


def test_flood_of_dropped_messages_makes_no_text_for_lines_left_out(clock, written):
    class Costly:
        shown = 0

        def __str__(self):
            Costly.shown += 1
            return "detail"

        __repr__ = __str__

    counters = Counters(log, clock)
    for _ in range(LINES + 1):  # the summary quotes the first line that is left out
        counters.drop("flood", "flow", clock.now(), detail=Costly())
    before = Costly.shown
    for _ in range(1000 - LINES - 1):
        counters.drop("flood", "flow", clock.now(), detail=Costly())
    assert counters.dropped == {"flood": 1000}
    assert Costly.shown == before
    clock.advance(SUMMARY_SECONDS)
    assert len(written()) == LINES + 1
    assert 'reason="flood" count=990 ' in written()[-1]
    assert counters.unlogged == 990
    clock.advance(2 * SUMMARY_SECONDS)
    counters.drop("flood", "flow", clock.now(), detail=Costly())
    assert len(written()) == LINES + 2


def test_flood_without_a_clock_is_summarised_by_the_next_line(written, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sippet_gevent.observe.counters.time.monotonic", lambda: now[0])
    lines = LimitedLog()
    flood(lines, 20)
    now[0] = 11.0
    flood(lines, 1)
    assert written()[10:] == [
        'log lines left out: reason="flood" count=10 seconds=10 first="packet 10"'
    ]


def test_reason_that_drips_is_bounded_too(lines, clock, written):
    for _ in range(3600):
        flood(lines, 1)
        clock.advance(1)
    assert len(written()) <= LINES + 2 * 3600 / SUMMARY_SECONDS


def test_reason_that_was_quiet_has_its_lines_again(lines, clock, written):
    flood(lines, 20)
    clock.advance(SUMMARY_SECONDS)
    before = len(written())
    clock.advance(SUMMARY_SECONDS * LINES)
    flood(lines, LINES)
    assert len(written()) == before + LINES


def test_reasons_do_not_share_their_lines(lines, written):
    flood(lines, 20, "one")
    flood(lines, 20, "two")
    assert len(written()) == 2 * LINES


def test_reasons_without_end_share_the_lines_of_one(lines, clock, written):
    for number in range(10_000):
        flood(lines, 1, f"reason {number}")
    assert len(written()) == LOG_REASONS + LINES
    assert len(lines._floods) == LOG_REASONS + 1
    lines.stop()
    assert 'reason="other"' in written()[-1]


def test_lines_that_the_level_hides_use_up_nothing(lines, clock, caplog):
    caplog.set_level(logging.WARNING, "sippet_gevent")
    flood(lines, 100, level=logging.INFO)
    assert lines.unlogged == 0 and clock.pending == 0
    flood(lines, 1)
    assert len(caplog.records) == 1


def test_stopping_writes_the_summary_and_leaves_no_timer(lines, clock, written):
    flood(lines, 12)
    lines.stop()
    assert "count=2" in written()[-1]
    clock.advance(60)
    assert len(written()) == 11 and clock.pending == 0


def test_summary_has_the_level_of_the_worst_line_left_out(lines, clock, caplog):
    caplog.set_level(logging.INFO, "sippet_gevent")
    flood(lines, 11, level=logging.INFO)
    flood(lines, 1, level=logging.ERROR)
    lines.stop()
    assert [record.levelno for record in caplog.records][10:] == [logging.ERROR]


def test_handler_that_lets_others_run_loses_no_line_of_the_count(lines, clock):
    class Slow(logging.Handler):
        def emit(self, record):
            gevent.sleep(0)
            counted.append(record.args[1] if "left out" in record.msg else 1)

    counted, slow = [], Slow()
    log.addHandler(slow)
    try:
        for _ in range(2):
            gevent.joinall([gevent.spawn(flood, lines, 20) for _ in range(5)])
            gevent.spawn(setattr, clock, "_now", clock.now() + SUMMARY_SECONDS).join()
        gevent.joinall([gevent.spawn(flood, lines, 20) for _ in range(5)])
        lines.stop()
    finally:
        log.removeHandler(slow)
    assert sum(counted) == 300


def test_line_names_the_place_that_wrote_it(lines, caplog):
    Counters(log).warn("here", 0.0, "a line")
    flood(lines, 1)
    assert [record.filename for record in caplog.records] == ["test_counters.py"] * 2


class Peers:
    """What a peer may call itself."""

    def __repr__(self):
        return "peer\r\nERROR forged line \x1b[2J" + "x" * 10_000


@pytest.mark.parametrize(
    "value",
    ["a\r\nb" + "x" * 10_000, b"a\r\nb" + b"x" * 10_000, Peers()],
    ids=["text", "octets", "object"],
)
def test_wire_text_in_a_line_is_escaped_and_cut(lines, written, value):
    lines.line(log, logging.WARNING, "text", "from %s", value)
    (line,) = written()
    assert len(line) < 300 and line.isprintable()


def test_argument_whose_repr_fails_costs_no_summary(lines, written):
    class Broken:
        def __repr__(self):
            raise ValueError("no repr")

    flood(lines, 10)
    lines.line(log, logging.WARNING, "flood", "what came: %r", Broken())
    lines.stop()
    assert 'first="what came: %r"' in written()[-1]


def test_caller_that_asks_for_loud_lines_is_limited_too(clock, written):
    counters = Counters(log, clock)
    assert sum(counters.loud("core", clock.now()) for _ in range(100)) == LINES
    assert counters.unlogged == counters.as_dict()["unlogged"] == 90
    clock.advance(10)
    assert written() == ['log lines left out: reason="core" count=90 seconds=10']


# ---- floods from the wire

METHODS = ("INVITE", "OPTIONS", "REGISTER", "BYE", "ACK", "CANCEL", "FOO", "NOTIFY")
DAMAGE = (
    (b"Call-ID: ", b"X: "), (b"CSeq: 1 ", b"CSeq: x "), (b"CSeq: 1 ", b"CSeq: 1 X"), (b"From: <", b"From: <<"), (b"To: ", b"To"),
    (b"SIP/2.0\r\n", b"SIP/3.0\r\n"), (b" sip:", b" \x1b[2J:"), (b"Max-Forwards: 70", b"Max-Forwards: 700"), (b"\r\n\r\n", b""),
    (b"Content-Length: 0", b"Content-Length: 9"), (b"Via: ", b"V: "), (b"branch=z9hG4bK", b'branch="z9hG4bK\x1b[2J" ;x='),
    (b"SIP/2.0\r\nVia: SIP/2.0/UDP ", b"SIP/2.0\r\nVia: SIP/2.0/UDP :"),
)  # fmt: skip


def source(number):
    """Return an address of its own for each number but every ninth."""
    if number % 9 == 0:
        return "10.9.9.9"
    return f"10.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def forged(method, number, host):
    return (
        f"{method} sip:{'x' * (number % 50)}user{number}@{SERVER} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{number}\r\n"
        f"From: <sip:{number}@example.com>;tag={number}\r\nTo: <sip:bob@{SERVER}>\r\nCall-ID: {number}@{host}\r\n"
        f"CSeq: 1 {method}\r\nContact: <sip:{host}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def bad(number, host, chance):
    """Return a datagram that is wrong in one of many ways."""
    kind = number % 5
    if kind == 0:
        return b"junk \x1b[2J\r\nERROR forged " + chance.randbytes(number % 200)
    if kind == 1:
        return (
            f"SIP/2.0 200 OK {number}\r\n".encode()
            + forged("INVITE", number, host).partition(b"\r\n")[2]
        )
    if kind == 2:
        return f"SIP/2.0 {number}\r\n\r\n".encode()
    data = forged(METHODS[number % len(METHODS)], number, host)
    if METHODS[number % len(METHODS)] in ("ACK", "CANCEL") and kind == 3:
        return data
    return data.replace(*DAMAGE[number % len(DAMAGE)])


class Silence(Network):
    """A network with nobody on it but us, which keeps no record of what it was given."""

    def carry(self, source, destination, data):
        pass


def serve_floods(clock, *, invites, datagrams):
    """Send both floods to a server, let all transactions end, and return the server's statistics."""

    def core(request, tx):
        gevent.sleep(0)
        return 486

    chance = random.Random(1)
    with Stack(core=core, clock=clock) as stack:
        transport = MemoryTransport(Silence(clock))
        stack.listen(f"udp:{SERVER}:5060", transport)
        loop = gevent.get_hub().loop

        def arrive(make, numbers):
            for number in numbers:
                host = source(number)
                loop.run_callback(transport.arrive, make(number, host), (host, 5060))
            clock.advance(0.5)

        for start in range(0, invites, 100):
            arrive(lambda number, host: forged("INVITE", number, host), range(start, start + 100))
        for start in range(0, datagrams, 1000):
            arrive(lambda number, host: bad(number, host, chance), range(start, start + 1000))
        clock.advance(200)
        assert not stack.engine.servers
        return stack.stats()


def hold_floods(clock, written, *, invites, datagrams):
    stats = serve_floods(clock, invites=invites, datagrams=datagrams)
    lines = [line for message in written() for line in message.splitlines()]
    assert stats["received"] == invites + datagrams
    assert len(stats["dropped"]) >= 4 and stats["delivered"] >= invites
    assert stats["unlogged"] > invites / 2
    assert len(lines) < 200, f"{len(lines)} lines"
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 1000


def test_forged_invites_and_bad_datagrams_are_few_log_lines(clock, written):
    hold_floods(clock, written, invites=1000, datagrams=10_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_10000_forged_invites_and_100000_bad_datagrams_are_under_200_lines(clock, written):
    hold_floods(clock, written, invites=10_000, datagrams=100_000)
