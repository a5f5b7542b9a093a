"""Location on a store that is slow, fails or is asked twice; restarts, flows that end, and events."""

from __future__ import annotations

import logging
import time

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from sippet_gevent import (
    URI,
    InvalidValue,
    Location,
    MemoryBindings,
    Registrar,
    RegistrarProxy,
    Request,
    SQLiteBindings,
    Stack,
    TransportError,
    forward,
)
from sippet_gevent.message.parser import parse
from sippet_gevent.stores import ended_bindings, guarded
from sippet_gevent.stores.breaker import MOST
from sippet_gevent.testing.stores import FAILURES, FAULTS, Faulty
from sippet_gevent.testing.stores.calls import PATIENCE
from sippet_gevent.testing.stores.samples import binding
from sippet_gevent.transport.datagram import udp

from ..conditions import until
from ..conformance.test_flows import DOMAIN, SERVER, Office
from ..core.wire import Peer
from ..transport.datagram.test_error_queue import forge
from ..transport.datagram.test_icmp import V4, extended_error

AOR = f"sip:alice@{DOMAIN}"


class Slow:
    """A default server with a store that takes a time, and peers that register alice."""

    def __init__(self, sip, latency=0.02, **options):
        self.sip = sip
        self.memory = MemoryBindings(sip.clock.wall)
        self.store = Faulty(self.memory, sleep=sip.clock.sleep)
        self.store.latency = latency
        self.location = Location(self.store, **options)
        self.stack = sip.stack(RegistrarProxy(self.location), SERVER, domains=(DOMAIN,))
        self.peer = Peer(sip, "198.51.100.7")
        self.number = 0

    def send(self, contact="<sip:alice@198.51.100.7>", *, user="alice", method="REGISTER", **more):
        """Send a request, and let no time pass."""
        self.number += 1
        aor = f"sip:{user}@{DOMAIN}"
        if method != "REGISTER":
            return self.peer.ask(method, aor, at=SERVER, **more)
        headers = {"to": f"<{aor}>", "contact": contact, "call_id": "c", "number": self.number}
        return self.peer.ask(method, f"sip:{DOMAIN}", at=SERVER, **(headers | more))

    def take(self):
        """Return the final responses so far, and forget them."""
        found = [response for response in self.peer.responses if response.status >= 200]
        self.peer.received.clear()
        return found

    def register(self, *arguments, wait=0.5, **more):
        """Send a REGISTER, wait for its answer, and return that."""
        self.take()
        self.send(*arguments, **more)
        self.sip.advance(wait)
        return self.take()[0]

    @property
    def stored(self):
        return {str(b.uri): b.cseq for b in self.memory.lookup(AOR)}


def during(sip, seconds, *calls):
    """Make calls in greenlets, let time pass, and return what they returned or raised."""
    jobs = [gevent.spawn(outcome, call) for call in calls]
    sip.advance(seconds)
    return [job.value for job in jobs]


def outcome(call):
    try:
        return call()
    except Exception as error:
        return error


def happens(sip, condition):
    """Wait for the thread of a store, which takes real time."""
    ends_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends_at
        gevent.sleep(0.002)
        sip.settle()


# ---- registrations at the same time


@pytest.mark.rfc("3261 10.3")
@pytest.mark.parametrize("count", [2, 10])
def test_phones_of_one_user_that_register_at_once_are_all_kept(sip, count):
    slow = Slow(sip)
    for n in range(count):
        slow.send(f"<sip:alice@198.51.100.{n}>", call_id=str(n))
    sip.advance(0.1)
    assert [answer.status for answer in slow.take()] == [200] * count
    assert len(slow.stored) == count
    assert slow.store.calls <= 3  # what waited was stored together


@pytest.mark.rfc("3261 10.3")
def test_fifty_registers_of_one_user_at_once_are_200_and_in_order_of_cseq(sip):
    slow = Slow(sip)
    for cseq in range(1, 6):
        for n in range(10):
            slow.send(f"<sip:alice@198.51.100.{n}>", call_id=str(n), number=cseq)
    sip.advance(0.1)
    assert [answer.status for answer in slow.take()] == [200] * 50
    assert slow.stored == {f"sip:alice@198.51.100.{n}": 5 for n in range(10)}


def test_registers_out_of_order_among_those_that_wait_fail_alone(sip):
    slow = Slow(sip)
    for cseq in (3, 5, 4, 6):
        slow.send(number=cseq)
    sip.advance(0.1)
    assert [answer.status for answer in slow.take()] == [200, 200, 500, 200]
    assert list(slow.stored.values()) == [6]


@pytest.mark.parametrize("count", [2, 10, 50])
def test_store_of_750_ms_costs_503_within_300_ms_and_nothing_half_applied(sip, count):
    slow = Slow(sip, 0.75)
    begun = sip.clock.now()
    for n in range(count):
        slow.send(f"<sip:alice@198.51.100.{n}>, <sip:a@198.51.101.{n}>", call_id=str(n))
    sip.advance(0.3)
    answers = slow.take()
    assert [answer.status for answer in answers] == [503] * count
    assert all(2 <= answer.retry_after.seconds <= 10 for answer in answers)
    assert sip.clock.now() - begun <= 0.31
    sip.advance(5)
    assert len(slow.stored) % 2 == 0  # whole registrations, or none
    assert slow.store.waiting == 0 and slow.location._guarded.running == 0
    assert slow.location._guarded._queues == {} and slow.location._guarded._waiting == 0
    slow.store.latency = 0.02
    slow.memory.update(AOR, lambda before: ())
    assert slow.register(number=9, call_id="later").status == 200
    # and the search for bindings that have ended
    assert slow.stack.stats()["store_timeouts"] == count + 1


def test_changes_that_wait_are_bounded(sip, monkeypatch):
    monkeypatch.setattr(guarded, "WAITING", 5)
    slow = Slow(sip)
    for n in range(9):
        slow.send(call_id=str(n), user=f"user{n}")
    answers = [(answer.status, answer.reason) for answer in slow.take()]
    assert answers == []  # one greenlet each
    monkeypatch.setattr(guarded, "GREENLETS", 2)
    for n in range(9):
        slow.send(f"<sip:alice@198.51.100.{n}>", call_id=str(n))
    assert {(answer.status, answer.reason) for answer in slow.take()} == {(503, "Store Busy")}
    sip.advance(1)
    assert all(answer.status == 200 for answer in slow.take())


# ---- failures


@pytest.mark.parametrize("fault", FAILURES)
def test_store_that_fails_costs_503_and_works_when_it_works(sip, caplog, fault):
    slow = Slow(sip)
    slow.register()
    slow.store.fault = fault
    answer = slow.register(call_id="again")
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert [r for r in caplog.messages if r.startswith("store failed: call=update")]
    slow.store.fault = None
    assert slow.register(call_id="again").status == 200
    assert slow.stack.stats()["store_errors"] == 1


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - set(FAILURES)))
def test_change_that_a_store_runs_again_is_200_once(sip, fault):
    slow = Slow(sip)
    slow.register()
    slow.store.fault = fault
    for _ in range(2):
        assert slow.register("<sip:alice@198.51.100.7>;q=0.5, <sip:b@198.51.100.8>").status == 200
    assert slow.stored == {"sip:alice@198.51.100.7": 3, "sip:b@198.51.100.8": 3}
    slow.store.fault = None
    assert slow.register("*", expires=0).status == 200 and slow.stored == {}


def test_register_whose_answer_was_lost_is_200_when_it_is_sent_again(sip):
    """The store had done it; the phone repeats the REGISTER, with the same CSeq, or a later one."""
    slow = Slow(sip)
    slow.store.fault = "unsure"
    assert slow.register(number=7).status == 503
    slow.store.fault = None
    assert slow.register(number=7).status == 200
    assert slow.register(number=8).status == 200
    assert slow.register(number=7).status == 500


def test_store_that_keeps_failing_is_left_alone(sip):
    slow = Slow(sip)
    slow.register()
    slow.store.fault = "failing"
    for _ in range(5):
        assert slow.register(wait=0.03).status == 503
    before, now = slow.store.calls, sip.clock.now()
    slow.send()
    (answer,) = slow.take()
    assert (answer.status, slow.store.calls) == (503, before)
    assert sip.clock.now() - now < 0.001
    assert 2 <= answer.retry_after.seconds <= 10
    assert slow.stack.stats()["store_breakers_open"] == 1
    slow.store.fault = None
    sip.advance(MOST)
    assert slow.register().status == 200
    assert slow.stack.stats()["store_breakers_open"] == 0
    assert slow.register().status == 200


@pytest.mark.parametrize(("latency", "fault"), [(0.02, "failing"), (0.75, None), (1e6, None)])
def test_calls_go_on_while_the_store_fails_for_as_long_as_is_given(sip, latency, fault):
    slow = Slow(sip, serve_stale=60)
    slow.register()
    slow.store.latency, slow.store.fault = latency, fault
    begun = sip.clock.now()
    for _ in range(15):
        slow.send(method="MESSAGE")
        sip.advance(0.3)
        assert slow.peer.methods == ["MESSAGE"]
        slow.peer.reply(slow.peer.last("MESSAGE"), 200)
        assert [answer.status for answer in slow.take()] == [200]
    assert slow.stack.stats()["store_stale_lookups"] == 15
    assert slow.location._guarded.running < 15  # the breaker is open
    slow.peer.ask("MESSAGE", "sip:alice@198.51.100.7", at=SERVER)  # and by the Contact
    sip.advance(1)
    slow.peer.reply(slow.peer.requests[0], 200)
    assert 200 in [answer.status for answer in slow.take()]
    sip.advance(begun + 62 - sip.clock.now())
    slow.take()
    slow.send(method="MESSAGE")
    sip.advance(0.3)
    assert [answer.status for answer in slow.take()] == [503]


HINTS = [
    (0.75, None, "Store Timeout", "store is slow"),
    (0.0, "failing", "Store Unavailable", "store fails"),
]


@pytest.mark.parametrize(("latency", "fault", "reason", "hint"), HINTS)
def test_register_that_the_store_fails_is_logged_with_a_hint_about_the_store(
    sip, caplog, latency, fault, reason, hint
):
    caplog.set_level(logging.INFO, "sippet_gevent.core")
    slow = Slow(sip, latency)
    slow.store.fault = fault
    assert slow.register().status == 503
    (line,) = [text for text in caplog.messages if text.startswith("registration refused")]
    assert f'reason="{reason}" hint="the {hint}' in line and "full" not in line


@pytest.mark.rfc("3261 19.1.4")
@pytest.mark.parametrize("kind", ["memory", "SQLite"])
def test_user_whose_bytes_are_not_utf_8_is_registered_in_every_store(sip, tmp_path, kind):
    """The key of the address-of-record has such bytes escaped, so every store can keep it."""
    store = SQLiteBindings(tmp_path / "b.db") if kind == "SQLite" else MemoryBindings()
    location = Location(store)
    sip.stack(RegistrarProxy(location), SERVER, domains=(DOMAIN,))
    peer = Peer(sip, "198.51.100.7")
    for number in (1, 2):
        peer.send(
            b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK%d\r\n"
            b"From: <sip:\xff\xfe@example.com>;tag=1\r\nTo: <sip:\xff\xfe@example.com>\r\n"
            b"Call-ID: \xff\r\nCSeq: %d REGISTER\r\nMax-Forwards: 70\r\n"
            b'Contact: "\xff" <sip:\xff@198.51.100.7>\r\nContent-Length: 0\r\n\r\n'
            % (number, number)
        )
        happens(sip, lambda number=number: len(peer.statuses) == number)
    assert peer.statuses == [200, 200]
    stored = store.lookup("sip:%FF%FE@example.com")
    assert [b.cseq for b in stored] == [2]
    peer.ask("MESSAGE", "sip:%ff%fe@example.com")
    happens(sip, lambda: peer.requests)
    assert peer.methods == ["MESSAGE"]
    location.close()


def test_address_that_a_store_cannot_keep_is_no_failure_of_the_store(sip, tmp_path):
    location = Location(SQLiteBindings(tmp_path / "bindings.db"))
    for _ in range(20):
        with pytest.raises(InvalidValue, match="cannot be stored"):
            location.update("sip:\ud800@example.com", lambda before: (binding(),))
    assert not location._guarded.writes.is_open
    assert location._guarded.counts["store_errors"] == 0
    assert location.get("sip:\ud800@example.com") == ()
    location.close()


def test_user_that_the_copy_does_not_know_is_503_while_the_store_fails(sip):
    slow = Slow(sip)
    slow.send(method="MESSAGE")
    sip.advance(0.1)
    assert [answer.status for answer in slow.take()] == [404]
    slow.store.fault = "failing"
    slow.send(method="MESSAGE")
    sip.advance(0.1)
    assert [answer.status for answer in slow.take()] == [503]


@pytest.mark.parametrize("latency", [0.02, 0.2, 0.75])
def test_look_up_of_a_contact_of_many_users_has_one_deadline(sip, latency):
    slow = Slow(sip, 0.0)
    for n in range(5):
        assert slow.register("<sip:shared@192.168.1.2>", user=str(n)).status == 200
    slow.store.latency = latency
    uri, begun = binding("<sip:shared@192.168.1.2>").uri, sip.clock.now()

    def look_up():
        (phone,) = slow.location.lookup_contact(uri)  # five users of one phone
        return 1 + len(phone.others), round(sip.clock.now() - begun, 3)

    (found,) = during(sip, 2, look_up)
    assert found == (5, min(2 * latency, 0.25))
    # an address that had less than the whole time is no failure of the store
    assert slow.location._guarded.counts["store_errors"] == 0
    assert (slow.location._guarded.reads.failing_since is None) == (latency < 0.25)


def test_binding_that_expires_while_the_store_fails_is_not_called(sip):
    slow = Slow(sip)
    slow.register(expires=60)
    slow.store.fault = "failing"
    sip.advance(61)
    slow.send(method="MESSAGE")
    sip.advance(0.3)
    assert slow.peer.methods == []


def test_look_ups_are_asked_of_a_store_that_refuses_to_write(sip):
    class Full(MemoryBindings):
        blocks = True
        is_full = False

        def update(self, aor, change):
            if self.is_full:
                raise OSError("no space left on device")
            return super().update(aor, change)

    store = Full(sip.clock.wall)
    location = Location(store)
    sip.stack(RegistrarProxy(location), SERVER)
    kept = binding(now=store.now())
    during(sip, 0.1, lambda: location.update(AOR, lambda before: (kept,)))
    store.is_full = True
    for _ in range(8):
        (error,) = during(sip, 0.1, lambda: location.update(AOR, lambda before: ()))
        assert error.status == 503
    assert during(sip, 0.1, lambda: location.get(AOR)) == [(kept,)]
    assert location._guarded.counts["store_stale_lookups"] == 0


def test_change_of_the_application_that_raises_fails_alone(sip):
    slow = Slow(sip)

    def adding(n):
        made = binding(f"<sip:{n}@192.0.2.1>", sip.clock.wall())
        return lambda: slow.location.update(AOR, lambda before: (*before, made))

    def refuse(before):
        raise KeyError("mine")

    results = during(
        sip, 0.1, adding(1), lambda: slow.location.update(AOR, refuse), adding(2), adding(3)
    )
    assert isinstance(results[1], KeyError)
    assert [b.uri.user for b in slow.memory.lookup(AOR)] == ["1", "2", "3"]
    (error,) = during(sip, 0.1, lambda: slow.location.update(AOR, refuse))
    assert isinstance(error, KeyError) and slow.location._guarded.counts["store_errors"] == 0


def test_caller_that_is_killed_withdraws_its_change(sip):
    slow = Slow(sip)
    first, second = (
        gevent.spawn(
            slow.location.update,
            AOR,
            lambda before, n=n: (*before, binding(f"<sip:{n}@h>", sip.clock.wall())),
        )
        for n in (1, 2)
    )
    sip.advance(0.001)
    third = gevent.spawn(slow.location.update, AOR, lambda before: ())
    sip.advance(0.001)
    third.kill()
    sip.advance(0.1)
    assert first.successful() and second.successful()
    assert len(slow.memory.lookup(AOR)) == 2
    assert slow.location._guarded._waiting == 0


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_store_whose_clock_is_an_hour_off_keeps_bindings_as_long_as_asked(sip, skew):
    slow = Slow(sip)
    slow.store.skew = skew
    assert slow.register(expires=600).contact[0].parameters["expires"] == "600"
    sip.advance(590)
    assert len(during(sip, 0.1, lambda: slow.location.get(AOR))[0]) == 1
    sip.advance(10)
    assert during(sip, 0.1, lambda: slow.location.get(AOR)) == [()]
    sip.advance(ended_bindings.END_SECONDS + 1)
    assert len(slow.memory) == 0


# ---- ends of bindings


def test_bindings_that_expire_are_removed_from_a_slow_store_in_batches(sip, monkeypatch):
    monkeypatch.setattr(ended_bindings, "ENDS_AT_ONCE", 10)
    slow = Slow(sip)
    told = []
    slow.location.watch(told.append)
    for n in range(35):
        slow.send(f"<sip:{n}@198.51.100.7>", user=str(n), expires=60)
    sip.advance(1)
    assert len(slow.memory) == 35
    sip.advance(60 + ended_bindings.END_SECONDS)
    assert len(slow.memory) == 0
    assert [event.kind for event in told] == ["added"] * 35 + ["expired"] * 35


def test_bindings_of_an_earlier_process_expire(sip):
    memory = MemoryBindings(sip.clock.wall)
    kept = binding(now=sip.clock.wall(), seconds=100)
    memory.update(AOR, lambda before: (kept,))
    slow = Slow(sip)
    slow.location.store.store = memory
    slow.register(user="bob")
    sip.advance(100 + ended_bindings.SWEEP_SECONDS)
    assert memory.lookup(AOR) == ()


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("latency", [None, 0.02])
def test_connections_that_end_remove_what_only_they_led_to(sip, monkeypatch, latency):
    monkeypatch.setattr(ended_bindings, "ENDS_AT_ONCE", 10)
    memory = MemoryBindings(sip.clock.wall)
    store = memory if latency is None else Faulty(memory, sleep=sip.clock.sleep)
    if latency:
        store.latency = latency
    location = Location(store)
    office, told, most = Office(sip, RegistrarProxy(location)), [], [0]
    phones = [office.phone("browser", f"user{n}") for n in range(30)]
    stays, tcp = office.phone("browser", "stays"), office.phone("TCP", "tcp")
    for phone in (*phones, stays, tcp):
        phone.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{phone.aor}>")
        sip.advance(0.1)
        assert phone.statuses == [200]
    assert len(memory) == 32
    location.watch(told.append)
    for phone in (*phones, tcp):
        flow = office.flow(phone)
        flow.end()
        office.stack.engine.flow_ended(flow, None)
    if latency is None:
        sip.advance(0.1)
    else:
        for _ in range(60):
            sip.advance(0.01)
            most[0] = max(most[0], store.waiting)
        assert 0 < most[0] <= ended_bindings.ENDERS
    assert len(memory) == 2 and memory.lookup(stays.aor) and memory.lookup(tcp.aor)
    assert {event.kind for event in told} == {"flow ended"} and len(told) == 30
    assert location._ends._by_flow.keys() == {memory.lookup(stays.aor)[0].flow}


def test_connection_that_ends_while_the_store_fails_is_removed_later(sip):
    memory = MemoryBindings(sip.clock.wall)
    store = Faulty(memory, sleep=sip.clock.sleep)
    office = Office(sip, RegistrarProxy(Location(store)))
    bob = office.phone("browser", "bob")
    bob.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{bob.aor}>")
    sip.advance(0.1)
    assert bob.statuses == [200]
    flow = office.flow(bob)
    store.fault = "failing"
    flow.end()
    office.stack.engine.flow_ended(flow, None)
    sip.advance(1)
    assert len(memory) == 1
    assert during(sip, 0.1, lambda: office.stack.core.location.get(bob.aor)) == [()]
    store.fault = None
    sip.advance(2 * ended_bindings.RETRY)
    assert len(memory) == 0


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("latency", [None, 0.02])
def test_stack_that_is_started_again_removes_what_only_its_connections_led_to(sip, latency):
    memory = MemoryBindings(sip.clock.wall)
    store = memory if latency is None else Faulty(memory, sleep=sip.clock.sleep)
    if latency:
        store.latency = latency
    office, most = Office(sip, RegistrarProxy(Location(store))), 0
    for n in range(30):
        phone = office.phone("browser", f"user{n}")
        phone.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{phone.aor}>")
    plain = office.phone("plain", "plain")
    plain.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{plain.aor}>")
    sip.advance(1)
    assert len(memory) == 31
    office.stack.stop()
    for flow in office.web.connections.values():
        flow.end()
    office.stack.start()
    plain.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{plain.aor}>", number=2)
    for _ in range(60):
        sip.advance(0.01)
        most = max(most, getattr(store, "waiting", 0))
    assert len(memory) == 1 and memory.lookup(plain.aor)
    assert most <= ended_bindings.ENDERS + 2  # and the REGISTER, and the search for what has ended


def test_phone_that_has_registered_again_keeps_its_new_connection(sip):
    memory = MemoryBindings(sip.clock.wall)
    office = Office(sip, RegistrarProxy(Location(memory)))
    first, second = (office.phone("browser", "bob") for _ in range(2))
    for phone in (first, second):
        contact = f'<{phone.uri}>;reg-id=1;+sip.instance="<urn:uuid:1>"'
        phone.register(contact=contact, call_id=phone.source[0])
    office.stack.engine.flow_ended(office.flow(first), None)
    sip.advance(1)
    assert [str(b.uri) for b in memory.lookup(second.aor)] == [second.uri]


# ---- a restart


@pytest.mark.rfc("5626 7", "3261 16.5")
def test_after_a_restart_phones_that_can_be_dialled_are_called_and_others_are_480_once_logged(
    sip, caplog
):
    caplog.set_level(logging.INFO, "sippet_gevent.core")
    memory = MemoryBindings(sip.clock.wall)
    office = Office(sip, RegistrarProxy(Location(memory)))
    kinds = {
        kind: office.phone(kind, kind.split()[-1].lower())
        for kind in ("plain", "NAT", "TCP", "browser")
    }
    for phone in kinds.values():
        phone.register()
    alice = office.phone("plain", "alice")
    office.stack.stop()

    office.__init__(sip, RegistrarProxy(Location(memory)))
    caplog.clear()
    for kind in ("plain", "NAT"):
        alice.ask("MESSAGE", kinds[kind].aor)
        assert kinds[kind].methods == ["MESSAGE"], kind
        kinds[kind].reply(kinds[kind].last("MESSAGE"), 200)
        assert alice.statuses.pop() == 200
        alice.received.clear()
    alice.ask("MESSAGE", kinds["TCP"].aor)  # is dialled, at the port of its Contact
    assert sip.network.trace[-2].destination == (kinds["TCP"].source[0], 5060)
    alice.received.clear()
    browser = kinds["browser"]
    for _ in range(3):
        alice.ask("MESSAGE", browser.aor)
        assert alice.statuses == [480] and browser.methods == []
        alice.received.clear()
    (line,) = [text for text in caplog.messages if text.startswith("registration unreachable")]
    assert f"aor={browser.aor} " in line and "answered=480" in line
    assert not [text for text in caplog.messages if text.startswith("registration ended")]
    browser.register()
    alice.ask("MESSAGE", browser.aor)
    assert browser.methods == ["MESSAGE"]
    browser.reply(browser.last("MESSAGE"), 200)


def test_bindings_of_an_earlier_process_are_found_before_the_first_register(sip):
    memory = MemoryBindings(sip.clock.wall)
    kept = binding("<sip:alice@198.51.100.7>", sip.clock.wall())
    memory.update(AOR, lambda before: (kept,))
    location = Location(memory)
    stack = sip.stack(None, SERVER, domains=(DOMAIN,))
    stack.on("REGISTER")(Registrar(location))

    @stack.on("MESSAGE")
    def message(request, tx):
        return forward(request, tx, *location.lookup(request.uri))

    phone = Peer(sip, "198.51.100.7")
    phone.ask("MESSAGE", f"sip:alice@{SERVER}:5060")
    assert phone.methods == ["MESSAGE"]


# ---- events


@pytest.mark.parametrize("latency", [None, 0.02])
def test_watch_tells_of_each_change_until_it_is_closed(sip, latency):
    memory = MemoryBindings(sip.clock.wall)
    slow = Slow(sip, latency or 0.0)
    if latency is None:
        slow.location = slow.stack.core._location = Location(memory)
    told = []
    watch = slow.location.watch(lambda event: told.append((event.kind, event.aor)))
    for more in ({}, {}, {"expires": 0}, {"expires": 60}):
        slow.register(**more)
    sip.advance(60 + 2 * ended_bindings.END_SECONDS)
    assert told == [(kind, AOR) for kind in "added refreshed removed added expired".split()]
    watch.close()
    watch.close()
    slow.register()
    assert len(told) == 5


def test_watch_that_raises_stops_neither_the_registration_nor_other_watches(sip, caplog):
    slow, told = Slow(sip), []
    slow.location.watch(lambda event: 1 / 0)
    slow.location.watch(told.append)
    assert slow.register().status == 200
    assert [event.kind for event in told] == ["added"]
    assert "watch of bindings failed: event='added'" in caplog.messages


def test_log_of_registrations_is_attached_once_and_only_while_it_is_read(sip, caplog):
    location = Location()
    stacks = [sip.stack(Registrar(location), f"10.0.0.{n}") for n in (1, 2)]
    peer = Peer(sip, "10.0.0.71")

    def register(at, level):
        caplog.set_level(level, "sippet_gevent.core")
        caplog.clear()
        peer.ask("REGISTER", "sip:h", at=at, to="<sip:a@h>", contact="<sip:a@10.0.0.71>")
        return len([text for text in caplog.messages if text.startswith("registration ")])

    assert [register(f"10.0.0.{n}", logging.INFO) for n in (1, 2, 1)] == [1, 1, 1]
    assert register("10.0.0.1", logging.WARNING) == 0
    assert location.registration_log is None and not len(location.store._watchers)
    assert register("10.0.0.2", logging.INFO) == 1
    assert peer.statuses == [200] * 5 and len(stacks) == 2


# ---- sockets


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("end", ["close", "shutdown"])
def test_tcp_connection_that_the_phone_ends_removes_its_binding_at_once(end):
    location, told = Location(), Event()
    location.watch(lambda event: event.kind == "flow ended" and told.set())
    with Stack("tcp:127.0.0.1:0", core=RegistrarProxy(location)) as stack:
        port = stack.engine.transports[0].local[1]
        phone = socket.create_connection(("127.0.0.1", port))
        phone.sendall(
            b"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bK1\r\n"
            b"From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: c\r\n"
            b"CSeq: 1 REGISTER\r\nMax-Forwards: 70\r\nContact: <sip:a@127.0.0.1:1;ob>\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        assert phone.recv(4096).startswith(b"SIP/2.0 200")
        assert len(location.store) == 1
        for tx in [*stack.engine.servers.values()]:  # as after 32 seconds
            tx.flow.transactions.clear()
        phone.close() if end == "close" else phone.shutdown(socket.SHUT_RDWR)
        assert told.wait(30)
        assert len(location.store) == 0
        phone.close()


# ---- flows of datagrams


class PhonePort:
    """A phone's UDP port that registers by its flow, over a real socket."""

    def __init__(self, stack):
        self.stack = stack
        self.where = stack.engine.transports[0].local
        self.cseq = 0
        self.open(0)

    def open(self, port):
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.socket.settimeout(PATIENCE)

    @property
    def port(self):
        return self.socket.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def register(self, user="alice", contact=";ob"):
        self.cseq += 1
        self.socket.sendto(
            f"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK{user}"
            f"{self.port}{self.cseq}\r\nFrom: <sip:{user}@127.0.0.1>;tag=1\r\nTo: <sip:{user}@127.0.0.1>\r\n"
            f"Call-ID: {user}{self.port}\r\nCSeq: {self.cseq} REGISTER\r\nMax-Forwards: 70\r\n"
            f"Contact: <sip:{user}@10.0.0.1:{self.port}{contact}>\r\nContent-Length: 0\r\n\r\n".encode(),
            self.where,
        )
        assert self.socket.recv(4096).startswith(b"SIP/2.0 200")


@pytest.fixture
def real():
    """A default server on a UDP socket, and its Location."""
    location = Location()
    with Stack("udp:127.0.0.1:0", core=RegistrarProxy(location)) as stack:
        yield stack, location


def called(stack, user="alice"):
    """Return the status of a call to a user of a server."""
    with Stack("udp:127.0.0.1:0") as caller, gevent.Timeout(PATIENCE):
        where = stack.engine.transports[0].local
        return caller.request("INVITE", f"sip:{user}@127.0.0.1:{where[1]}").status


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("contact", [";ob", ""])  # by its flow only, and behind NAT
def test_closed_udp_port_ends_all_bindings_of_its_flow(real, contact):
    stack, location = real
    told = []
    location.watch(told.append)
    with PhonePort(stack) as phone, PhonePort(stack) as other:
        for user in ("alice", "bob"):
            phone.register(user, contact)
        other.register("carol", contact)
        phone.socket.close()
        assert called(stack) == 480  # by ICMP, and not after 32 seconds
        until(lambda: len(location.store) == 1)
        assert called(stack, "bob") == 404  # without a try
    assert sorted((e.kind, e.binding.uri.user) for e in told[3:]) == [
        ("flow ended", "alice"),
        ("flow ended", "bob"),
    ]
    assert not location._ends.dead and len(location._ends._by_flow) == 1


@pytest.mark.rfc("5626 7")
def test_phone_that_registers_again_by_the_same_udp_port_is_called_again(real):
    stack, location = real
    with PhonePort(stack) as phone:
        phone.register()
        port = phone.port
        phone.socket.close()
        called(stack)
        until(lambda: not len(location.store))
        phone.open(port)
        for _ in range(2):
            phone.register()
        assert [b.uri.port for b in location.lookup(URI.parse("sip:alice@127.0.0.1"))] == [port]
        phone.socket.close()
        called(stack)
        until(lambda: not len(location.store))


@pytest.mark.rfc("5626 7", "3261 18.4")
@pytest.mark.parametrize("copies", [1, 2])
def test_late_icmp_error_ends_no_binding_that_was_registered_since(real, copies):
    stack, location = real
    transport = stack.engine.transports[0]
    with PhonePort(stack) as phone:
        phone.register()
        (binding,) = location.lookup(URI.parse("sip:alice@127.0.0.1"))
        flow = stack.names.live_flow(binding.flow)
        tx = stack.send(Request("OPTIONS", binding.uri), next_hop=flow)
        data = phone.socket.recv(65535)
        phone.register()  # the phone has started again meanwhile
        if copies == 2:
            assert phone.socket.recv(65535) == data  # so this copy has failed after that
        forge(transport, (extended_error(V4, 3, 3), data, phone.socket.getsockname()))
        with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
            tx.final()
        if copies == 1:
            gevent.sleep(0.05)
        until(lambda: len(location.store) == (copies == 1))
        assert transport.icmp == {"matched": 1}


@pytest.mark.rfc("5626 7", "3261 18.4")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["usual", "pinned"])
@pytest.mark.parametrize("flows", [1, 16384])
def test_late_icmp_error_is_known_by_the_address_of_the_phone(monkeypatch, host, flows):
    """A flow that is pinned to one of our addresses, or left out of a full table, is made anew."""
    monkeypatch.setattr(udp, "FLOWS", flows)
    location = Location()
    with Stack("udp:0.0.0.0:0", core=RegistrarProxy(location)) as stack, PhonePort(stack) as phone:
        transport = stack.engine.transports[0]
        phone.where = host, transport.local[1]
        phone.register()
        (binding,) = location.lookup(URI.parse("sip:alice@127.0.0.1"))
        flow = stack.names.live_flow(binding.flow)
        tx = stack.send(Request("OPTIONS", binding.uri), next_hop=flow)
        data = phone.socket.recv(65535)
        transport.connect(("127.0.0.1", 9))
        phone.register()  # the phone has started again meanwhile
        forge(transport, (extended_error(V4, 3, 3), data, phone.socket.getsockname()))
        with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
            tx.final()
        gevent.sleep(0.05)
        assert len(location.store) == 1


@pytest.mark.rfc("3261 18.4")
def test_icmp_error_fails_the_request_that_it_quotes_alone(real):
    stack, location = real
    transport = stack.engine.transports[0]
    with PhonePort(stack) as phone:
        phone.register()
        (binding,) = location.lookup(URI.parse("sip:alice@127.0.0.1"))
        flow = stack.names.live_flow(binding.flow)
        first, second = (
            stack.send(Request("OPTIONS", binding.uri), next_hop=flow) for _ in range(2)
        )
        data = phone.socket.recv(65535)
        forge(transport, (extended_error(V4, 3, 3), data, phone.socket.getsockname()))
        with gevent.Timeout(PATIENCE), pytest.raises(TransportError, match="Connection refused"):
            first.final()
        until(lambda: not len(location.store))
        assert second.is_pending
        phone.socket.sendto(bytes(parse(phone.socket.recv(65535)).response(200)), transport.local)
        with gevent.Timeout(PATIENCE):
            assert second.final().status == 200


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize(("latency", "first"), [(None, "end"), (0.02, "end"), (0.02, "REGISTER")])
def test_register_by_a_dead_udp_flow_keeps_its_binding(sip, latency, first):
    memory = MemoryBindings(sip.clock.wall)
    store = memory if latency is None else Faulty(memory, sleep=sip.clock.sleep)
    location = Location(store)
    office = Office(sip, RegistrarProxy(location))
    bob = office.phone("NAT", "bob").register()
    (binding,) = memory.lookup(bob.aor)
    flow = office.stack.names.live_flow(binding.flow)
    if latency:
        store.latency = latency
    if first == "end":
        office.stack.engine.flow_ended(flow, None)
    bob.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{bob.aor}>", call_id="bob", number=9)
    if first == "REGISTER":
        office.stack.engine.flow_ended(flow, None)
    sip.advance(1)
    assert [b.cseq for b in memory.lookup(bob.aor)] == [9] and not location._ends.dead
    office.stack.engine.flow_ended(flow, None)
    sip.advance(1)
    assert not memory.lookup(bob.aor) and not location._ends.dead and not location._ends._by_flow


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("first", ["end", "REGISTER"])
def test_register_that_waits_for_the_store_while_its_udp_flow_ends_keeps_its_binding(sip, first):
    memory = MemoryBindings(sip.clock.wall)
    store = Faulty(memory, sleep=sip.clock.sleep)
    location = Location(store)
    office = Office(sip, RegistrarProxy(location))
    bob = office.phone("NAT", "bob").register()
    flow = office.stack.names.live_flow(memory.lookup(bob.aor)[0].flow)
    other = office.phone("plain", "bob")
    store.latency = 0.02
    other.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{bob.aor}>", call_id="other", number=1)
    sip.advance(0.001)  # that is being stored, so what follows waits
    if first == "end":
        office.stack.engine.flow_ended(flow, None)
        sip.settle()
    bob.ask("REGISTER", f"sip:{DOMAIN}", to=f"<{bob.aor}>", call_id="bob", number=9)
    if first == "REGISTER":
        sip.settle()
        office.stack.engine.flow_ended(flow, None)
    sip.advance(1)
    assert sorted(b.cseq for b in memory.lookup(bob.aor)) == [1, 9]
    assert not location._ends.dead
    assert bob.responses[-1].status == 200
    assert bob.uri in bob.responses[-1].headers["Contact"], str(bob.responses[-1])


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("blocks", [False, True])
def test_udp_phone_of_an_earlier_process_that_registers_again_ends_with_its_flow(sip, blocks):
    memory = MemoryBindings(sip.clock.wall)
    store = Faulty(memory, sleep=sip.clock.sleep) if blocks else memory
    office = Office(sip, RegistrarProxy(Location(store)))
    bob = office.phone("NAT", "bob").register()
    office.stack.stop()
    office.stack = sip.stack(RegistrarProxy(Location(store)), SERVER, domains=(DOMAIN,))
    bob.register()
    (binding,) = memory.lookup(bob.aor)
    assert binding.cseq == 2
    office.stack.engine.flow_ended(office.stack.names.live_flow(binding.flow), None)
    sip.advance(1)
    assert not len(memory)


@pytest.mark.rfc("5626 7")
@pytest.mark.parametrize("blocks", [False, True])
def test_contact_that_stays_when_another_of_its_udp_flow_expires_ends_with_the_flow(sip, blocks):
    memory = MemoryBindings(sip.clock.wall)
    location = Location(Faulty(memory, sleep=sip.clock.sleep) if blocks else memory)
    office = Office(sip, RegistrarProxy(location))
    bob = office.phone("NAT", "bob").register()
    bob.register(contact=f"<sip:new@{bob.host}>", call_id="new")
    bob.register(contact=f"<{bob.uri}>;expires=60")
    sip.advance(200)
    (binding,) = memory.lookup(bob.aor)
    assert binding.uri.user == "new"
    office.stack.engine.flow_ended(office.stack.names.live_flow(binding.flow), None)
    sip.advance(1)
    assert not len(memory) and not location._ends._by_flow and not location._ends.dead


def test_flows_of_bindings_that_other_processes_remove_are_bounded(sip, monkeypatch):
    monkeypatch.setattr(ended_bindings, "NOTED_FLOWS", 3)
    memory = MemoryBindings(sip.clock.wall)
    location = Location(Faulty(memory, sleep=sip.clock.sleep))
    office = Office(sip, RegistrarProxy(location))
    phones = [office.phone("NAT", f"user{number}").register() for number in range(3)]
    phones[0].register()
    newest = office.phone("NAT", "newest").register()
    noted = {memory.lookup(phone.aor)[0].flow for phone in (phones[2], phones[0], newest)}
    assert location._ends._by_flow.keys() == noted


def test_udp_flow_that_ends_while_the_store_fails_is_left_out_and_removed_later(sip):
    memory = MemoryBindings(sip.clock.wall)
    store = Faulty(memory, sleep=sip.clock.sleep)
    location = Location(store)
    office = Office(sip, RegistrarProxy(location))
    bob = office.phone("NAT", "bob").register()
    store.fault = "failing"
    name = memory.lookup(bob.aor)[0].flow
    for _ in range(3):
        office.stack.engine.flow_ended(office.stack.names.live_flow(name), None)
        sip.advance(1)
    assert during(sip, 0.1, lambda: location.get(bob.aor)) == [()] and len(memory) == 1
    store.fault = None
    sip.advance(2 * ended_bindings.RETRY)
    assert len(memory) == 0 and not location._ends.dead
