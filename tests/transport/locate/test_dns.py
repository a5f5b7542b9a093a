"""The DNS client against a name server of the tests' own: fail-over, cache, what is not believed. RFC 1035, 2308, 5452."""

from __future__ import annotations

import itertools
import os
import struct
import time

import dns.message
import dns.rcode
import gevent
import pytest

from sippet_gevent import URI, Stack, TransportError
from sippet_gevent.runtime.clock import Clock
from sippet_gevent.transport.locate import dns as client
from sippet_gevent.transport.locate import nameserver
from sippet_gevent.transport.locate.dns import DNS
from sippet_gevent.transport.locate.nameserver import read_answer
from sippet_gevent.transport.locate.resolv_conf import WatchedFile, read_hosts, read_resolv_conf
from sippet_gevent.transport.locate.resolver import Answer, DNSResolver, Question

from ...conditions import PATIENCE, at_once, until
from ...pace import is_within
from .nameserver import NameServer, dead_address

A = Question("host.example", "A")
ONE = "192.0.2.1"


class ShiftedClock(Clock):
    """Real time, ahead by what a test says."""

    def __init__(self):
        self.ahead = 0.0
        self.now = lambda: time.monotonic() + self.ahead


@pytest.fixture
def server():
    """A name server that knows one host."""
    server = NameServer({"host.example": ["300 A 192.0.2.1"]})
    yield server
    server.close()


@pytest.fixture
def make(tmp_path):
    """Make clients that know no file of this system."""
    made = []

    def make(*servers, clock=None):
        asker = DNS(
            clock or Clock(),
            servers=[getattr(server, "address", server) for server in servers],
            resolv_conf=str(tmp_path / "resolv.conf"),
            hosts=str(tmp_path / "hosts"),
        )
        made.append(asker)
        return asker

    yield make
    for asker in made:
        asker.stop()
    gevent.sleep(0)


def ask(asker, question=A, seconds=3.0):
    """Return the answer to one question."""
    return asker.ask((question,), seconds)[0]


# ---- answers


def test_address_is_found(server, make):
    assert ask(make(server)) == Answer((ONE,))


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("60 AAAA 2001:db8::1", "AAAA", "2001:db8::1"),
        ("60 SRV 10 20 5070 Target.example.", "SRV", "10 20 5070 Target.example"),
        ("60 SRV 0 0 0 .", "SRV", "0 0 0 ."),
        (
            '60 NAPTR 50 51 "s" "SIP+D2U" "" _sip._udp.example.',
            "NAPTR",
            "50 51 s SIP+D2U  _sip._udp.example",
        ),
    ],
)
def test_records_are_read(make, server, line, kind, text):
    server.zone["x.example"] = [line]
    assert str(ask(make(server), Question("x.example", kind))) == text


def test_questions_of_one_step_are_asked_at_once(server, make):
    server.mangle = lambda wire, query: until(lambda: len(server.seen) == 2) and [wire]
    server.zone["host.example"].append("300 AAAA 2001:db8::1")
    answers = make(server).ask((Question("host.example", "AAAA"), A), PATIENCE)
    assert [answer.records for answer in answers] == [("2001:db8::1",), (ONE,)]


@pytest.mark.parametrize("follow", [True, False])
def test_cname_is_followed_by_the_server_or_by_us(server, make, follow):
    server.follow = follow
    server.zone |= {"a.example": ["60 CNAME b.example."], "b.example": ["60 CNAME host.example."]}
    assert ask(make(server), Question("a.example", "A")) == Answer((ONE,))


@pytest.mark.parametrize("follow", [True, False])
def test_cnames_in_a_circle_are_given_up(server, make, follow):
    server.follow = follow
    server.zone |= {"a.example": ["60 CNAME b.example."], "b.example": ["60 CNAME a.example."]}
    answer = ask(make(server), Question("a.example", "A"))
    assert answer.records == () and answer.problem
    assert len(server.seen) <= 10


@pytest.mark.rfc("6891 6.2.2")
def test_server_that_knows_no_edns_is_asked_without(server, make):
    seen = []

    def refuse_edns(wire, query):
        seen.append(query.edns)
        if query.edns < 0:
            return [wire]
        response = dns.message.make_response(
            dns.message.make_query("host.example", "A", id=query.id)
        )
        response.set_rcode(dns.rcode.FORMERR)
        return [response.to_wire()]

    server.mangle = refuse_edns
    assert ask(make(server)) == Answer((ONE,))
    assert seen == [0, -1]


def test_truncated_answer_is_asked_for_by_tcp(server, make):
    server.truncate = True
    assert ask(make(server)) == Answer((ONE,))
    assert [transport for transport, _, _ in server.seen] == ["udp", "tcp"]


def test_flood_of_records_is_cut_with_the_preferred_ones_kept(server, make):
    server.zone["x.example"] = [f"60 SRV {200 - n} 0 5060 h{n}.example." for n in range(200)]
    server.truncate = True
    records = ask(make(server), Question("x.example", "SRV")).records
    assert [record.priority for record in records] == list(range(1, 33))


def test_answer_of_64_kib_is_read_in_part_and_in_no_time(server, make):
    server.zone["x.example"] = [f"60 A 10.0.{n // 250}.{n % 250}" for n in range(4000)]
    server.truncate = True
    query = dns.message.make_query("x.example", "A", id=7)
    response = dns.message.make_response(query)
    server._fill(response, query.question[0])
    wire = response.to_wire(max_size=65535)
    assert len(wire) > 64_000 and is_within(0.05, lambda: read_answer(wire, query))
    assert len(ask(make(server), Question("x.example", "A")).records) == 32


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", "a." * 130 + "example"])
def test_name_that_dns_cannot_hold_is_not_asked_for(server, make, name):
    assert "not valid in DNS" in ask(make(server), Question(name, "A")).problem
    assert server.seen == []


# ---- servers that fail


@pytest.mark.parametrize(
    "rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR]
)
def test_server_that_fails_is_followed_by_the_next(server, make, rcode):
    bad = NameServer()
    bad.rcode = rcode
    assert ask(make(bad, server)) == Answer((ONE,))
    bad.close()


def test_server_that_is_not_there_is_followed_by_the_next_at_once(server, make, monkeypatch):
    monkeypatch.setattr(client, "HEDGE_SECONDS", 3 * PATIENCE)  # nothing else asks the next one
    assert ask(make(dead_address(), server), seconds=PATIENCE) == Answer((ONE,))


def test_silent_server_is_followed_by_the_next_and_comes_last_from_then_on(
    server, make, monkeypatch
):
    silent = NameServer()
    silent.silent = True
    asker = make(silent, server)
    assert ask(asker) == Answer((ONE,))
    server.zone["other.example"] = ["60 A 192.0.2.2"]
    monkeypatch.setattr(client, "HEDGE_SECONDS", 3 * PATIENCE)
    assert ask(asker, Question("other.example", "A"), PATIENCE) == Answer(("192.0.2.2",))
    assert [name for _, _, name in silent.seen] == ["host.example"]
    silent.close()


def test_slow_server_is_still_listened_to_when_the_next_is_asked(make):
    slow = NameServer({"host.example": ["300 A 192.0.2.1"]})
    slow.delay = 0.8
    silent = NameServer()
    silent.silent = True
    assert ask(make(slow, silent)) == Answer((ONE,))
    slow.close()
    silent.close()


def test_server_that_never_answers_costs_the_deadline_and_no_more(server, make):
    server.silent = True
    started = time.monotonic()
    with gevent.Timeout(PATIENCE):  # a hundred times as long
        assert ask(make(server), seconds=0.2).problem == "no answer from DNS in time"
    assert time.monotonic() - started > 0.19


def test_server_that_drops_aaaa_does_not_hold_up_the_rest(server, make):
    server.silent_kinds = ("AAAA",)
    with gevent.Timeout(PATIENCE):
        answers = make(server).ask((Question("host.example", "AAAA"), A), 3 * PATIENCE)
    assert answers[1].records == (ONE,)


def test_failure_says_which_server_and_why(server, make):
    server.rcode = dns.rcode.SERVFAIL
    assert ask(make(server)).problem == f"name server 127.0.0.1 port {server.address[1]}: SERVFAIL"


def test_server_that_fails_is_not_asked_the_same_again_at_once(server, make):
    server.rcode = dns.rcode.SERVFAIL
    ask(make(server))
    assert len(server.seen) == 1


def test_question_is_repeated_by_the_same_socket_with_the_same_id(server, make):
    seen = []
    handle = server._datagram_came
    server._datagram._handle = lambda data, address: (
        seen.append((address, data)),
        handle(data, address),
    )
    server.mangle = lambda wire, query: [wire] if len(seen) == 2 else []
    assert ask(make(server)) == Answer((ONE,))
    assert len(seen) == 2 and len(set(seen)) == 1


# ---- servers that are not there at all


def ask_many(asker, number=20, start=0):
    """Ask for so many names at once that none is waited for, and wait a moment."""
    for n in range(start, start + number):
        ask(asker, Question(f"{n}.example", "A"), seconds=0.001)


@pytest.fixture
def brisk(monkeypatch):
    """Have a server suspected and checked in hundredths of a second."""
    monkeypatch.setattr(nameserver, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(nameserver, "CHECK_SECONDS", 0.1)


@pytest.fixture
def patient(brisk, monkeypatch):
    """Have a server that is suspected answer its check in time on any machine."""
    monkeypatch.setattr(nameserver, "CHECK_SECONDS", PATIENCE)


@pytest.fixture
def only(make):
    """Make a client of one server; give back both it and what it knows of that server."""

    def only(server, clock=None):
        asker = make(server, clock=clock)
        return asker, asker._known_servers()[0]

    return only


def go_down(asker, known):
    """Ask a silent server for names until it is known to be down."""
    ask_many(asker)
    gevent.sleep(nameserver.SILENT_SECONDS)
    more = itertools.count(1000)  # a name that is being asked for is not sent again
    until(lambda: ask_many(asker, 1, next(more)) or known.down)


def test_silent_server_is_checked_and_then_asked_for_no_names(server, only, brisk):
    server.silent = True
    asker, known = only(server)
    go_down(asker, known)
    assert ("udp", "NS", "") in [(way, kind, name.strip(".")) for way, kind, name in server.seen]
    before = [question for question in server.seen if question[1] == "A"]
    answer = at_once(ask, asker, Question("new.example", "A"))
    assert answer == Answer((), "no name server answers")
    assert [
        question for question in server.seen if question[1] == "A" and question[2] == "new.example"
    ] == []
    assert len(before) >= 20


def test_server_that_comes_back_is_asked_for_names_at_once(server, only, brisk, caplog):
    server.silent = True
    asker, known = only(server)
    go_down(asker, known)
    server.silent = False
    until(lambda: not known.down)
    assert ask(asker) == Answer((ONE,))
    told = [
        record.getMessage() for record in caplog.records if record.name == "sippet_gevent.transport"
    ]
    assert told == [
        f'name server down: server="{known}" reason="no answers; no names are asked for until it answers"',
        f'name server up: server="{known}"',
    ]


def test_server_that_answers_for_other_names_is_not_down(server, only, patient):
    server.silent_kinds = ("A",)
    asker, known = only(server)
    for start in range(0, 400, 40):
        ask_many(asker, 40, start)
        gevent.sleep(0.03)
    until(lambda: "NS" in server.kinds)
    until(lambda: known._checker is None)
    assert not known.down


def test_server_that_knows_one_zone_is_not_down_for_other_names(server, only, brisk, caplog):
    server.zone["other.example"] = ["300 A 192.0.2.1"]
    server.silent_names = lambda name: (
        name not in server.zone
    )  # it forwards no other names, not even the root
    asker, known = only(server)
    assert ask(asker) == Answer((ONE,))
    ask_many(asker)
    gevent.sleep(nameserver.SILENT_SECONDS)
    ask_many(asker, 1)
    until(lambda: "NS" in server.kinds)
    until(lambda: not known._checker)
    assert not known.down
    assert ask(asker, Question("other.example", "A")) == Answer((ONE,))
    assert "name server down" not in caplog.text


def test_server_is_checked_again_after_a_check_that_never_began(server, only, brisk, monkeypatch):
    server.silent = True
    asker, known = only(server)
    with monkeypatch.context() as patient:
        patient.setattr(nameserver, "SILENT_SECONDS", 3600.0)  # a busy machine begins no check
        ask_many(asker)
    gevent.sleep(nameserver.SILENT_SECONDS)
    known.wanted()
    assert known._checker and not known._checker.dead
    asker.stop()
    assert not known._checker
    go_down(asker, known)


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.SERVFAIL])
def test_server_that_refuses_to_tell_of_the_root_is_there(server, only, patient, rcode):
    server.silent_kinds = ("A",)
    server.rcode = rcode
    asker, known = only(server)
    ask_many(asker)
    gevent.sleep(nameserver.SILENT_SECONDS)
    ask_many(asker, 1)
    until(lambda: "NS" in server.kinds)
    until(lambda: known._checker is None)
    assert not known.down


def test_few_questions_that_are_not_answered_prove_nothing(server, only, brisk, monkeypatch):
    monkeypatch.setattr(client, "HEDGE_SECONDS", 60.0)  # a busy machine sends none twice
    server.silent = True
    asker, known = only(server)
    ask_many(asker, nameserver.SILENT_QUESTIONS - 2)
    gevent.sleep(nameserver.SILENT_SECONDS)
    ask_many(asker, 1)
    gevent.sleep(2 * nameserver.CHECK_SECONDS)
    assert "NS" not in server.kinds and not known.down


def test_port_that_is_closed_is_down_too_and_asked_no_faster(only, brisk):
    asker, known = only(dead_address())
    ask_many(asker)
    gevent.sleep(nameserver.SILENT_SECONDS)
    until(lambda: ask_many(asker, 1, 99) or known.down)
    before = known.sent
    gevent.sleep(nameserver.CHECK_SECONDS)
    assert known.sent - before <= nameserver.CHECKS + 1


def test_check_of_an_unwanted_server_ends_and_the_server_counts_as_up(server, only, brisk):
    clock = ShiftedClock()
    server.silent = True
    asker, known = only(server, clock)
    go_down(asker, known)
    clock.ahead = nameserver.UNWANTED_SECONDS
    until(lambda: known._checker is None)
    assert not known.down
    server.silent = False
    assert ask(asker) == Answer((ONE,))


def test_old_answer_is_used_at_once_while_the_server_is_down(server, only, brisk):
    clock = ShiftedClock()
    asker, known = only(server, clock)
    ask(asker)
    server.silent = True
    clock.ahead = 400
    go_down(asker, known)
    assert at_once(ask, asker) == Answer((ONE,))


def test_names_that_are_not_asked_for_are_not_remembered(server, only, brisk):
    server.silent = True
    asker, known = only(server)
    go_down(asker, known)
    before = len(asker._cache)
    ask_many(asker, 100, start=1000)
    assert len(asker._cache) == before


def test_other_servers_are_asked_while_one_is_down(server, make, brisk):
    silent = NameServer()
    silent.silent = True
    asker = make(silent, server)
    known = asker._known_servers()[0]
    known.down = True
    assert ask(asker) == Answer((ONE,))
    assert silent.seen == []
    silent.close()


# ---- what is not believed


def wrong_id(wire, query):
    return [bytes([wire[0] ^ 1]) + wire[1:], wire]


def wrong_question(wire, query):
    other = dns.message.make_query("other.example", "A", id=query.id)
    response = dns.message.make_response(other)
    response.answer.append(dns.rrset.from_text("other.example.", 60, "IN", "A", "203.0.113.66"))
    return [response.to_wire(), wire]


def a_query(wire, query):
    return [query.to_wire(), wire]


def noise(wire, query):
    return [
        b"",
        wire[:7],
        struct.pack("!H", query.id) + os.urandom(60),
        wire[:2] + b"\xff" * 80,
        wire,
    ]


def foreign_records(wire, query):
    response = dns.message.from_wire(wire)
    response.answer.insert(0, dns.rrset.from_text("other.example.", 60, "IN", "A", "203.0.113.66"))
    response.additional.append(dns.rrset.from_text("bank.example.", 60, "IN", "A", "203.0.113.66"))
    return [response.to_wire()]


@pytest.mark.rfc("5452 9.1")
@pytest.mark.parametrize("mangle", [wrong_id, wrong_question, a_query, noise, foreign_records])
def test_answer_to_another_question_is_ignored(server, make, mangle):
    server.mangle = mangle
    asker = make(server)
    assert ask(asker) == Answer((ONE,))
    assert [question.name for question in asker._cache] == ["host.example"]


@pytest.mark.rfc("5452 9.1")
def test_datagram_from_another_address_is_ignored(server, make):
    other = NameServer({"host.example": ["300 A 203.0.113.66"]})
    sendto = other._datagram.sendto
    server._datagram.sendto, reply = (
        lambda wire, to: (forge(to, wire), reply(wire, to)),
        server._datagram.sendto,
    )

    def forge(to, wire):
        sendto(wire.replace(bytes([192, 0, 2, 1]), bytes([203, 0, 113, 66])), to)

    assert ask(make(server)) == Answer((ONE,))
    other.close()


@pytest.mark.rfc("5452 9")
def test_guesser_of_ids_drives_the_question_to_tcp(server, make):
    server.mangle = lambda wire, query: [bytes([wire[0] ^ 1 + n]) + wire[1:] for n in range(100)]
    assert ask(make(server)) == Answer((ONE,))
    assert [transport for transport, _, _ in server.seen] == ["udp", "tcp"]


@pytest.mark.rfc("5452 9.2")
def test_ids_and_ports_are_not_the_same_twice(server, make):
    ids, ports = set(), set()
    server.mangle = lambda wire, query: ids.add(query.id) or [wire]
    handle = server._datagram_came
    server._datagram._handle = lambda data, address: (ports.add(address[1]), handle(data, address))
    asker = make(server)
    for n in range(50):
        ask(asker, Question(f"{n}.example", "A"))
    assert len(ids) > 40 and len(ports) > 40


def test_any_bytes_are_an_answer_or_none(server):
    query = dns.message.make_query("host.example", "SRV", id=7)
    response = dns.message.make_response(query)
    response.answer.append(
        dns.rrset.from_text("host.example.", 60, "IN", "SRV", "1 2 3 a.host.example.")
    )
    wire = response.to_wire()
    for at in range(2, len(wire)):
        for value in (0, 0xC0, 0xFF, wire[at] ^ 1):
            read_answer(wire[:at] + bytes([value]) + wire[at + 1 :], query)
        read_answer(wire[:at], query)


# ---- the cache


def test_answer_is_remembered_for_its_ttl(server, make):
    clock = ShiftedClock()
    asker = make(server, clock=clock)
    for ahead in (0, 299, 301):
        clock.ahead = ahead
        ask(asker)
    assert server.kinds == ["A", "A"]


@pytest.mark.rfc("2308 5")
@pytest.mark.parametrize(
    ("name", "problem"), [("nowhere.example", "no such name"), ("empty.example", "")]
)
def test_missing_name_is_remembered_for_the_negative_ttl_of_the_zone(server, make, name, problem):
    server.zone["empty.example"] = ["60 TXT x"]
    clock = ShiftedClock()
    asker = make(server, clock=clock)
    for ahead in (0, 29, 31):
        clock.ahead = ahead
        assert ask(asker, Question(name, "A")) == Answer((), problem)
    assert len(server.seen) == 2


@pytest.mark.parametrize(("ttl", "kept", "gone"), [(0, 0.5, 1.5), (2**31 - 1, 86_000, 86_500)])
def test_ttl_is_kept_within_bounds(server, make, ttl, kept, gone):
    server.zone["host.example"] = [f"{ttl} A 192.0.2.1"]
    clock = ShiftedClock()
    asker = make(server, clock=clock)
    for ahead in (0, kept, gone):
        clock.ahead = ahead
        ask(asker)
    assert len(server.seen) == 2


def test_negative_ttl_has_a_lower_bound_of_its_own(server, make):
    server.soa_minimum = 86_400
    clock = ShiftedClock()
    asker = make(server, clock=clock)
    for ahead in (0, 59, 61):
        clock.ahead = ahead
        ask(asker, Question("nowhere.example", "A"))
    assert len(server.seen) == 2


@pytest.mark.rfc("9520 3.2")
def test_failure_is_forgotten_soon(server, make):
    clock = ShiftedClock()
    asker = make(server, clock=clock)
    server.rcode = dns.rcode.SERVFAIL
    assert ask(asker).problem
    server.rcode = None
    assert ask(asker).problem, "within a second nobody asks again"
    clock.ahead = 1.1
    assert ask(asker) == Answer((ONE,))


@pytest.mark.rfc("8767 4")
def test_old_answer_is_used_while_all_servers_fail(server, make):
    clock = ShiftedClock()
    asker = make(server, clock=clock)
    ask(asker)
    server.rcode = dns.rcode.SERVFAIL
    clock.ahead = 400
    assert ask(asker) == Answer((ONE,))
    clock.ahead = 300 + client.STALE_SECONDS + 100
    assert ask(asker).records == ()


def test_cache_is_bounded(server, make, monkeypatch):
    monkeypatch.setattr(client, "CACHE", 10)
    asker = make(server)
    for n in range(30):
        ask(asker, Question(f"{n}.example", "A"))
    assert len(asker._cache) == 10


def test_names_are_one_whatever_their_case_and_final_dot(server, make):
    asker = make(server)
    for name in ("host.example", "HOST.example", "host.example."):
        assert ask(asker, Question(name, "A")) == Answer((ONE,))
    assert len(server.seen) == 1


# ---- many questions at the same time


def test_question_under_way_is_not_sent_twice(server, make):
    server.delay = 0.1
    asker = make(server)
    asking = [gevent.spawn(ask, asker) for _ in range(20)]
    gevent.joinall(asking, raise_error=True)
    assert {greenlet.value for greenlet in asking} == {Answer((ONE,))}
    assert len(server.seen) == 1


def test_first_greenlet_may_leave_and_the_others_get_the_answer(server, make):
    server.delay = 0.1
    asker = make(server)
    first, second = (gevent.spawn(ask, asker) for _ in range(2))
    until(lambda: server.seen)
    first.kill()
    assert second.get() == Answer((ONE,))


def test_questions_under_way_are_bounded(server, make, monkeypatch):
    monkeypatch.setattr(client, "IN_FLIGHT", 3)
    server.silent = True
    asker = make(server)
    asking = [gevent.spawn(ask, asker, Question(f"{n}.example", "A"), 0.1) for n in range(5)]
    gevent.joinall(asking)
    assert (
        sum(greenlet.value.problem == "too many names are being looked up" for greenlet in asking)
        == 2
    )


def test_question_without_waiting_greenlet_makes_room(server, make, monkeypatch):
    monkeypatch.setattr(client, "IN_FLIGHT", 3)
    server.silent_names = lambda name: name != A.name
    asker = make(server)
    for n in range(3):
        assert not ask(asker, Question(f"{n}.example", "A"), 0.01).records
    assert ask(asker) == Answer((ONE,))
    names = ["1.example", "2.example", "3.example"]
    waiting = [gevent.spawn(ask, asker, Question(name, "A"), PATIENCE) for name in names]
    until(lambda: [question.name for question in asker._lookups] == names)
    assert ask(asker, Question("late.example", "A")).problem == "too many names are being looked up"
    gevent.killall(waiting)


def test_questions_of_one_step_do_not_push_one_another_out(server, make, monkeypatch):
    monkeypatch.setattr(client, "IN_FLIGHT", 1)
    asker = make(server)
    answers = asker.ask((A, Question("host.example", "AAAA")), 3)
    assert [answer.records or answer.problem for answer in answers] == [
        (ONE,),
        "too many names are being looked up",
    ]


def test_question_that_was_given_up_may_be_asked_anew(server, make, monkeypatch):
    monkeypatch.setattr(client, "IN_FLIGHT", 1)
    server.silent_names = lambda name: True
    asker = make(server)
    ask(asker, seconds=0.01)
    ask(asker, Question("other.example", "A"), seconds=0.01)
    server.silent_names = lambda name: False
    assert ask(asker) == Answer((ONE,))
    assert not asker._lookups


def test_stopping_ends_what_waits(server, make):
    server.silent = True
    asker = make(server)
    asking = gevent.spawn(ask, asker, A, 3 * PATIENCE)
    until(lambda: server.seen)
    asker.stop()
    assert asking.get(timeout=PATIENCE).records == ()


# ---- files


def test_hosts_file_answers_before_dns(server, make, tmp_path):
    (tmp_path / "hosts").write_text(
        "# ours\n192.0.2.77 Host.example other # comment\n2001:db8::7 host.example\nnonsense x\n"
    )
    asker = make(server)
    asked = (
        A,
        Question("host.example", "AAAA"),
        Question("host.example", "NAPTR"),
        Question("_sip._udp.host.example", "SRV"),
    )
    assert [answer.records for answer in asker.ask(asked, 1)] == [
        ("192.0.2.77",),
        ("2001:db8::7",),
        (),
        (),
    ]
    assert server.seen == []


@pytest.mark.rfc("6761 6.3")
def test_localhost_never_reaches_dns(server, make):
    assert ask(make(server), Question("sip.localhost", "A")) == Answer(("127.0.0.1",))
    assert server.seen == []


def test_file_that_has_changed_is_read_again(tmp_path):
    clock = ShiftedClock()
    path = tmp_path / "hosts"
    hosts = WatchedFile(clock, str(path), read_hosts)
    assert hosts.value == {}
    path.write_text("192.0.2.1 a\n")
    assert hosts.value == {}, "not yet"
    clock.ahead = 6
    assert hosts.value == {"a": ("192.0.2.1",)}


@pytest.mark.parametrize(
    ("text", "servers", "rotate"),
    [
        ("", [("127.0.0.1", 53)], False),
        (
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\n",
            [("192.0.2.1", 53), ("2001:db8::1", 53)],
            False,
        ),
        (
            "; x\nnameserver 192.0.2.1 # y\noptions timeout:1 rotate\nsearch example.com\n",
            [("192.0.2.1", 53)],
            True,
        ),
        ("nameserver nonsense\nnameserver\noptions\n", [("127.0.0.1", 53)], False),
        ("nameserver 10.0.0.1\n" * 5, [("10.0.0.1", 53)], False),
        (
            "".join(f"nameserver 10.0.0.{n}\n" for n in range(5)),
            [(f"10.0.0.{n}", 53) for n in range(3)],
            False,
        ),
    ],
)
def test_resolv_conf_is_read(text, servers, rotate):
    assert read_resolv_conf(text) == (tuple(servers), rotate)


def test_rotation_shares_the_load_among_servers(make, tmp_path):
    (tmp_path / "resolv.conf").write_text(
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions rotate\n"
    )
    asker = make()
    assert [asker._in_order()[0].address[0] for _ in range(4)] == ["10.0.0.2", "10.0.0.1"] * 2


# ---- the whole way


ZONE = {
    "example.com": [
        '60 NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.example.com.',
        '60 NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.example.com.',
    ],
    "_sip._udp.example.com": ["60 SRV 20 0 5070 b.example.com.", "60 SRV 10 0 5060 a.example.com."],
    "a.example.com": ["60 A 192.0.2.1", "60 AAAA 2001:db8::1"],
    "b.example.com": ["60 CNAME c.example.com."],
    "c.example.com": ["60 AAAA 2001:db8::3"],
}


@pytest.fixture
def resolver(server):
    """A DNSResolver that asks our server."""
    server.zone |= ZONE
    resolver = DNSResolver(servers=[server.address])
    resolver.start(Clock())
    yield resolver
    resolver.stop()
    gevent.sleep(0)


@pytest.mark.rfc("3263 4.1", "3263 4.2")
def test_naptr_leads_to_srv_and_srv_to_addresses_of_both_versions(resolver):
    found = resolver.resolve(URI.parse("sip:bob@example.com"), ("UDP",))
    assert [str(way) for way in found] == [
        "udp:[2001:db8::1]:5060",
        "udp:192.0.2.1:5060",
        "udp:[2001:db8::3]:5070",
    ]


def test_server_that_never_answers_costs_one_deadline_for_all_steps(server, resolver):
    server.silent = True
    resolver.seconds = 1.0
    started = time.monotonic()
    with pytest.raises(
        TransportError,
        match="NAPTR example.com: no answer from DNS in time; SRV .* A example.com: no answer",
    ):
        resolver.resolve(URI.parse("sip:example.com"))
    assert 0.98 < time.monotonic() - started < 2.0  # two steps would take as long as two deadlines


def test_server_that_drops_naptr_leaves_time_for_the_rest(server, resolver):
    server.silent_kinds = ("NAPTR",)
    resolver.seconds = 0.9
    assert resolver.resolve(URI.parse("sip:example.com"), ("UDP",))[0].port == 5060


def test_stack_that_waits_for_dns_serves_everybody_else(server):
    server.silent = True
    with Stack(
        "udp:127.0.0.1:0",
        resolver=DNSResolver(servers=[server.address], seconds=2.0),
        core=lambda request, tx: 200,
    ) as stack:
        waiting = gevent.spawn(stack.request, "OPTIONS", "sip:bob@example.com")
        until(lambda: server.seen)
        assert stack.request("OPTIONS", "sip:" + stack.addresses[0].partition(":")[2]).status == 200
        assert not waiting.ready()
        with pytest.raises(TransportError, match="no answer from DNS"):
            waiting.get()


def test_request_finds_its_way_by_dns(server):
    with Stack("udp:127.0.0.1:0", core=lambda request, tx: 200) as callee:
        port = callee.engine.transports[0].local[1]
        server.zone |= {
            "_sip._udp.pbx.example": [f"60 SRV 0 0 {port} h.pbx.example."],
            "h.pbx.example": ["60 A 127.0.0.1"],
        }
        with Stack("udp:127.0.0.1:0", resolver=DNSResolver(servers=[server.address])) as caller:
            response = caller.request("OPTIONS", "sip:bob@pbx.example")
    assert response.status == 200
