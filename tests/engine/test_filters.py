"""Filters: what is asked of each message before it is parsed, and the ready-made Filter."""

from __future__ import annotations

from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from sippet_gevent import Filter, InvalidValue, Stack, TransactionStateError, VirtualClock
from sippet_gevent.engine import filters as filters_module
from sippet_gevent.message.framer import Framer
from sippet_gevent.message.parser import parse
from sippet_gevent.observe.counters import REASONS
from sippet_gevent.testing import strategies
from tests.conditions import until
from tests.pace import is_within

from ..transport.datagram.test_udp import options

VIA = "127.0.0.1:{};branch=z9hG4bK{};rport"


def by(host):
    """Return a flow from this host."""
    return SimpleNamespace(remote=(host, 5060))


def message(*lines, start="OPTIONS sip:x SIP/2.0", body="", end="\r\n"):
    return end.join(
        [start, "Call-ID: 1", *lines, f"Content-Length: {len(body)}", "", body]
    ).encode()


# ---- scanners


@pytest.mark.parametrize(
    "data",
    [
        message("User-Agent: friendly-scanner"),
        message("user-agent:FRIENDLY-SCANNER"),
        message("User-Agent \t: sipcli/v1.8"),
        message("User-Agent: a phone (no, sipvicious)"),
        message("User-Agent:\r\n pplsip"),
        message("User-Agent: a\r\n\tphone\r\n  sundayddr 1.2"),
        message("Server: VaxSIPUserAgent/3.1", start="SIP/2.0 200 OK"),
        message("User-Agent: a phone", "User-Agent: iWar"),
        message("User-Agent: sip-scan", end="\n"),
        b"\r\n\r\n" + message("User-Agent: friendly-scanner"),
        b"OPTIONS sip:x SIP/2.0\r\nUser-Agent: friendly-scanner",
    ],
)
def test_scanner_is_known_by_what_it_calls_itself(data):
    assert Filter()(data, by("192.0.2.1")) == "scanner"


@pytest.mark.parametrize(
    "data",
    [
        message(),
        message("User-Agent: a phone"),
        message("User-Agent: iWarehouse 2"),
        message("Subject: friendly-scanner"),
        message("X-User-Agent: friendly-scanner"),
        message("User-Agent: a phone", "Subject: friendly-scanner"),
        message(start="OPTIONS sip:friendly-scanner SIP/2.0"),
        message(body="SIP/2.0 200 OK\r\nServer: friendly-scanner\r\n"),
        message(body="Server: friendly-scanner\n", end="\n"),
        b"",
        b"\r\n",
    ],
)
def test_others_are_taken(data):
    assert Filter()(data, by("192.0.2.1")) is True


def test_scanners_are_those_you_name():
    named = Filter(scanners=("sipsak",))
    assert named(message("User-Agent: sipsak 0.9.7"), by("192.0.2.1")) == "scanner"
    assert named(message("User-Agent: friendly-scanner"), by("192.0.2.1")) is True
    assert Filter(scanners=())(message("User-Agent: friendly-scanner"), by("192.0.2.1")) is True


@given(st.binary(max_size=400) | strategies.mangled())
def test_no_bytes_raise(data):
    assert Filter(rate=1e6)(data, by("192.0.2.1")) in (True, "scanner")


@pytest.mark.parametrize(
    "piece",
    [
        b"\nuser-agent",
        b"\nuser-agent:",
        b" ",
        b"\n ",
        b"\r\n\t",
        b"\r",
        b"\nserver: friendly-scanne",
        b"\nuser-agent \t",
    ],
)
def test_time_grows_with_the_length_only(piece):
    data = b"OPTIONS sip:x SIP/2.0\r\nUser-Agent:" + piece * (1_000_000 // len(piece))
    sieve = Filter()

    assert is_within(
        2.0, lambda: sieve(data, by("192.0.2.1"))
    )  # a fifth of it; what grows with the square takes hours


# ---- rates


def limited(**arguments):
    clock = VirtualClock()
    return Filter(clock=clock, **{"rate": 10, "burst": 20, **arguments}), clock


def taken(sieve, host, times=100):
    return [sieve(message(), by(host)) for _ in range(times)].count(True)


def test_source_may_send_its_burst_and_then_its_rate():
    sieve, clock = limited()
    assert taken(sieve, "192.0.2.1") == 20
    clock.advance(1)
    assert taken(sieve, "192.0.2.1") == 10
    clock.advance(60)
    assert taken(sieve, "192.0.2.1") == 20
    assert sieve.refused == {"rate_limited": 250}


def test_sources_have_a_rate_each():
    sieve, _ = limited()
    assert taken(sieve, "192.0.2.1") == taken(sieve, "192.0.2.2") == 20


def test_ipv6_source_is_its_network_of_64_bits():
    sieve, _ = limited()
    assert taken(sieve, "2001:db8::1") == 20
    assert taken(sieve, "2001:db8::2:3") == 0
    assert taken(sieve, "2001:db8:0:1::1") == 20


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_has_no_rate(host):
    assert taken(limited()[0], host) == 100


def test_networks_that_you_exempt_have_no_rate_and_no_others():
    sieve, _ = limited(exempt=("192.0.2.0/24", "2001:db8::/32"))
    hosts = ["192.0.2.7", "2001:db8:7::7", "::ffff:192.0.2.7", "127.0.0.1"]
    assert [taken(sieve, host) for host in hosts] == [100, 100, 100, 20]


def test_exempt_sources_may_be_scanners_all_the_same():
    assert limited()[0](message("User-Agent: sipcli"), by("127.0.0.1")) == "scanner"


def test_host_that_is_no_address_is_a_source():
    sieve, _ = limited()
    assert taken(sieve, "alice") == taken(sieve, "bob") == 20


@pytest.mark.parametrize(("rate", "burst"), [(0.1, 20), (10, 20), (50, 100)])
def test_burst_is_two_seconds_and_never_less_than_a_phone_needs_to_start(rate, burst):
    assert taken(limited(rate=rate, burst=None)[0], "192.0.2.1", 200) == burst


def test_sources_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(filters_module, "SOURCES", 10)
    sieve, _ = limited(burst=1)
    for number in range(256):
        taken(sieve, f"192.0.2.{number}", 2)
    assert (
        len(sieve._buckets._levels) <= 10
        and len(sieve._untold) <= 10
        and sieve._source.cache_info().currsize <= 10
    )


def test_source_stays_refused_while_the_log_is_silent_about_it(caplog):
    sieve, clock = limited()
    for _ in range(25):
        taken(sieve, "203.0.113.7", 30)
        clock.advance(1)
    lines = [record.getMessage() for record in caplog.records]
    assert (
        lines[0]
        == "messages filtered: count=1 source=203.0.113.7 reason=rate_limited rate=10 burst=20"
    )
    assert lines[1].startswith(
        "messages filtered: count=190 source=203.0.113.7 reason=rate_limited "
    )
    assert len(lines) == 3


def test_log_lines_of_many_sources_are_bounded(caplog):
    sieve, _ = limited()
    for number in range(256):
        sieve(message("User-Agent: friendly-scanner\x1b[31m"), by(f"192.0.2.{number}"))
    lines = [record.getMessage() for record in caplog.records]
    assert (
        lines[0]
        == "messages filtered: count=1 source=192.0.2.0 reason=scanner user_agent='friendly-scanner\\x1b[31m'"
    )
    assert len(lines) == 10
    assert sieve.refused == {"scanner": 256}


@pytest.mark.parametrize(
    "arguments",
    [
        {"rate": 0}, {"rate": -1}, {"rate": float("nan")}, {"rate": float("inf")}, {"rate": 1, "burst": 0.5},
        {"exempt": ("nowhere",)}, {"exempt": ("192.0.2.1/24",)}, {"scanners": ("",)},
    ],
)  # fmt: skip
def test_filter_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(InvalidValue):
        Filter(**arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"exempt": "::1"},
            r"exempt must be a tuple of networks, got '::1': write exempt=\('::1',\)",
        ),
        (
            {"scanners": "sipsak"},
            r"scanners must be a tuple of words, got 'sipsak': write scanners=\('sipsak',\)",
        ),
        ({"rate": "50"}, "rate must be a number, got '50': write rate=50"),
    ],
)
def test_filter_with_an_argument_of_another_type_says_what_to_write(arguments, told):
    with pytest.raises(TypeError, match=told):
        Filter(**arguments)


# ---- in a stack


class Peer:
    """A stack with a filter, that answers 200, and a socket to ask it with."""

    def __init__(self, accept, name="udp"):
        self.stack = Stack(f"{name}:127.0.0.1:0", core=lambda request, tx: 200, accept=accept)
        self.stack.start()
        self.port = self.stack.engine.transports[0].local[1]
        self.socket = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM
        )
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", self.port))
        self.number = 0

    def send(self, more=""):
        self.number += 1
        data = options(VIA.format(self.port, self.number), call_id=str(self.number), more=more)
        self.socket.sendall(
            data.replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP") if self.is_stream else data
        )

    @property
    def is_stream(self):
        return self.socket.type == socket.SOCK_STREAM

    def answered(self):
        """Return the Call-ID of the next answer."""
        if not self.is_stream:
            return parse(self.socket.recv(65535)).call_id
        framer, messages = Framer(), []
        while not messages:
            messages = framer.feed(self.socket.recv(65535))
        return parse(messages[0]).call_id

    def balance(self):
        stats = self.stack.stats()
        return (
            stats["received"]
            - stats["delivered"]
            - stats["answered"]
            - stats["absorbed"]
            - sum(stats["dropped"].values())
        )


@pytest.fixture
def peer():
    peers = []

    def make(accept, name="udp"):
        peers.append(Peer(accept, name))
        return peers[-1]

    yield make
    for one in peers:
        one.socket.close()
        one.stack.stop()


@pytest.mark.parametrize("name", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(False, "filtered"), (None, "filtered"), ("too green", "too green"), ("", "filtered")],
)
def test_message_that_is_refused_is_dropped_and_counted_by_its_reason(peer, name, verdict, reason):
    asked = peer(lambda data, flow: verdict if b"X-Colour: green" in data else True, name)
    asked.send("X-Colour: green\r\n")
    asked.send()
    assert asked.answered() == "2"
    assert asked.stack.stats()["dropped"] == {reason: 1}
    assert asked.stack.stats()["received"] == 2 and asked.balance() == 0


def test_filter_gets_bytes_and_flow_and_no_greenlet(peer):
    seen = []

    def accept(data, flow):
        seen.append((data[:7], flow.remote, gevent.getcurrent() is gevent.get_hub()))
        return True

    asked = peer(accept)
    asked.send()
    assert asked.answered() == "1"
    assert seen == [(b"OPTIONS", asked.socket.getsockname(), True)]


def raises(data, flow):
    raise KeyError("a mistake")


def waits(data, flow):
    gevent.sleep(0)
    return False


@pytest.mark.parametrize("broken", [raises, waits])
def test_filter_that_fails_lets_messages_through_and_says_so(peer, broken, caplog):
    asked = peer(broken)
    for number in range(1, 31):
        asked.send()
        assert asked.answered() == str(number)
    stats = asked.stack.stats()
    assert (stats["filter_errors"], stats["delivered"], stats["dropped"]) == (30, 30, {})
    lines = [record for record in caplog.records if "filter failed" in record.getMessage()]
    assert lines[0].exc_info and 10 <= len(lines) < 30
    assert stats["unlogged"] == 30 - len(lines)


def test_reasons_are_bounded(peer):
    number = iter(range(1000))
    asked = peer(lambda data, flow: f"reason {next(number)}" if b"X-Bad" in data else True)
    for _ in range(REASONS + 10):
        asked.send("X-Bad: 1\r\n")
    asked.send()
    asked.answered()
    dropped = asked.stack.stats()["dropped"]
    assert len(dropped) == REASONS + 1 and dropped["filtered"] == 10


def test_transport_calls_the_worker_directly_without_a_filter():
    with Stack("udp:127.0.0.1:0") as stack:
        assert stack.engine.transports[0]._receive == stack.engine.workers.run


def test_ready_made_filter_tells_the_same_numbers_as_the_stack(peer, caplog):
    sieve = Filter(rate=0.001, burst=3, exempt=())
    asked = peer(sieve)
    asked.send("User-Agent: friendly-scanner\r\n")
    for _ in range(4):
        asked.send()
    assert [asked.answered(), asked.answered()] == ["2", "3"]
    until(lambda: asked.stack.stats()["received"] >= 5)
    assert asked.stack.stats()["dropped"] == sieve.refused == {"scanner": 1, "rate_limited": 2}
    assert "rate=0.001 burst=3" in caplog.text


def test_stack_gives_its_filter_its_clock():
    clock, sieve = VirtualClock(), Filter(rate=1)
    assert Stack(clock=clock, accept=sieve).accept is sieve
    assert sieve.clock is clock


def test_filter_that_cannot_be_called_is_refused():
    with pytest.raises(
        TypeError, match="accept must be a function or None, got 'sipvicious': write accept=Filter"
    ):
        Stack(accept="sipvicious")


def test_filter_of_a_running_stack_stays():
    with (
        Stack("udp:127.0.0.1:0") as stack,
        pytest.raises(TransactionStateError, match="before start"),
    ):
        stack.accept = Filter()
