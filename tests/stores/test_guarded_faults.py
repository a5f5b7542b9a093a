"""What a store does at its worst, and what callers of a Location get: greenlets that are killed, calls that overlap,
time-outs of applications, ten thousand failures."""

from __future__ import annotations

import gc
import logging

import gevent
import pytest
from gevent.event import Event

from sippet_gevent.errors import Reject, SIPError
from sippet_gevent.message.uri import URI
from sippet_gevent.stores.guarded import GREENLETS, STUCK_SECONDS, WAITING, GuardedStore
from sippet_gevent.stores.memory import MemoryBindings
from sippet_gevent.testing.stores import Faulty
from sippet_gevent.testing.stores.calls import AOR, adding
from sippet_gevent.testing.stores.samples import CONTACTS


class Guarded:
    """A guarded store on the clock of a test."""

    def __init__(self, sip):
        self.clock = sip.clock
        self.store = Faulty(MemoryBindings(), sleep=sip.clock.sleep)
        self.guard = GuardedStore(
            self.store,
            timeout=0.25,
            serve_stale=300.0,
            copy_bytes=1 << 20,
            changed=lambda aor, before, after: None,
        )
        self.guard.clock = sip.clock
        self.adding = [adding(contact, self.store.now()) for contact in CONTACTS]

    def start(self, call, *arguments):
        """Call in a greenlet, and let everything happen that needs no time."""
        greenlet = gevent.spawn(self.outcome, call, *arguments)
        self.clock.advance(0)
        return greenlet

    def outcome(self, call, *arguments):
        try:
            return call(*arguments)
        except SIPError as error:
            return error

    def update(self, change, aor=AOR):
        return self.start(self.guard.update, aor, change)

    def settle(self, seconds=1.0):
        self.clock.advance(seconds)

    @property
    def is_idle(self):
        guard = self.guard
        return not (guard.running or guard._waiting or guard._busy or guard._queues or guard._ready)


@pytest.fixture
def guarded(sip):
    return Guarded(sip)


def users(greenlet):
    """The users of the bindings that a call has returned."""
    assert isinstance(greenlet.value, tuple), greenlet.value
    return {str(binding.uri) for binding in greenlet.value}


def test_address_whose_store_call_was_killed_can_be_updated_again(guarded):
    guarded.store.fault = "killed"
    killed = guarded.update(guarded.adding[0])
    guarded.settle()
    assert killed.value.status == 503
    guarded.store.fault = None
    again = guarded.update(guarded.adding[1])
    guarded.settle()
    assert len(users(again)) == 1 and guarded.is_idle


def test_changes_that_wait_behind_a_killed_call_are_stored(guarded):
    guarded.store.latency = 0.1
    guarded.store.fault = "killed"
    first = guarded.update(guarded.adding[0])
    waiting = [guarded.update(change) for change in guarded.adding[1:3]]
    guarded.clock.advance(0.1)
    guarded.store.fault = None
    guarded.settle()
    assert first.value.status == 503
    assert [len(users(each)) for each in waiting] == [2, 2] and guarded.is_idle


def test_update_while_lookups_use_every_greenlet_is_stored_when_one_ends(guarded):
    guarded.store.latency = 0.15
    lookups = [guarded.start(guarded.guard.lookup, f"sip:{n}@x") for n in range(GREENLETS)]
    assert guarded.guard.running == GREENLETS
    late = guarded.update(guarded.adding[0])
    guarded.clock.advance(0.16)
    assert all(each.value == () for each in lookups)
    guarded.store.latency = 0.0
    guarded.settle()
    again = guarded.update(guarded.adding[0])
    guarded.settle()
    assert len(users(again)) == 1 and late.ready() and guarded.is_idle


def test_lookup_that_overlaps_an_update_does_not_bring_back_old_bindings(guarded):
    guarded.update(guarded.adding[0])
    guarded.store.latency = 0.1
    update = guarded.update(guarded.adding[1])
    guarded.clock.advance(0.05)
    old = guarded.store.store.lookup(AOR)
    guarded.store.store.lookup = lambda aor: old  # it reads before the update is done
    lookup = guarded.start(guarded.guard.lookup, AOR)
    guarded.settle()
    assert (len(update.value), len(lookup.value)) == (2, 1)
    guarded.store.fault = "failing"
    stale = guarded.start(guarded.guard.lookup, AOR)
    guarded.settle()
    assert len(users(stale)) == 2


def test_removal_is_remembered_while_the_store_fails(guarded):
    guarded.update(guarded.adding[0])
    guarded.update(lambda before: ())
    guarded.store.fault = "failing"
    lookup = guarded.start(guarded.guard.lookup, AOR)
    assert lookup.value == ()  # the caller gets 480, not 503


def test_time_out_of_the_application_ends_its_update_alone(guarded):
    guarded.store.latency = 0.1

    def impatient():
        timeout = guarded.clock.timeout(0.05)
        try:
            return guarded.guard.update(AOR, guarded.adding[0])
        except gevent.Timeout as expired:
            return expired is timeout
        finally:
            timeout.close()

    ended = guarded.start(impatient)
    waits = guarded.update(guarded.adding[1])
    guarded.settle()
    assert ended.value is True
    assert len(users(waits)) == 2 and guarded.is_idle


def test_caller_that_is_killed_while_its_change_waits_changes_nothing(guarded):
    guarded.store.latency = 0.1
    first = guarded.update(guarded.adding[0])
    second = guarded.update(guarded.adding[1])
    second.kill()
    guarded.settle()
    assert len(users(first)) == 1 and guarded.is_idle
    assert len(guarded.store.store.lookup(AOR)) == 1


def test_changes_over_the_limit_get_503_at_once(guarded):
    guarded.store.latency = 0.2
    calls = [guarded.update(guarded.adding[0], f"sip:{n}@x") for n in range(WAITING + 500)]
    refused = [call.value for call in calls if call.ready()]
    assert all(isinstance(error, Reject) and error.status == 503 for error in refused)
    assert len(refused) >= 300
    assert guarded.guard.running <= GREENLETS
    guarded.settle()
    assert all(call.ready() for call in calls) and guarded.is_idle


@pytest.mark.parametrize("fault", ["failing", "raising", "killed", "unsure"])
def test_ten_thousand_failing_updates_leave_nothing_behind(guarded, caplog, fault):
    logging.getLogger("sippet_gevent").setLevel(logging.CRITICAL)
    try:
        guarded.store.fault = fault

        def fail(count):
            for number in range(count):
                try:
                    guarded.guard.update(f"sip:{number}@x", guarded.adding[0])
                except SIPError:
                    pass
                if number % 100 == 0:
                    guarded.clock.sleep(1)  # so that the breaker tries again

        job = gevent.spawn(fail, 500)
        while not job.ready():
            guarded.clock.advance(1)
        gc.collect()
        before = sum(isinstance(each, gevent.Greenlet) for each in gc.get_objects())
        job = gevent.spawn(fail, 10_000)
        while not job.ready():
            guarded.clock.advance(1)
        gc.collect()
        after = sum(isinstance(each, gevent.Greenlet) for each in gc.get_objects())
    finally:
        logging.getLogger("sippet_gevent").setLevel(logging.NOTSET)
    assert after <= before + 1 and guarded.is_idle
    assert guarded.store.calls < 1000  # the breaker keeps the others from the store


def test_store_that_works_again_is_found_within_seconds(guarded):
    guarded.store.fault = "failing"
    for _ in range(200):
        guarded.update(guarded.adding[0])
        guarded.clock.advance(0.5)
    assert guarded.guard.writes.is_open
    guarded.store.fault = None
    seconds = 0
    while not isinstance(guarded.update(guarded.adding[0]).value, tuple):
        guarded.clock.advance(1)
        seconds += 1
    assert seconds <= 12
    assert not guarded.guard.writes.is_open


@pytest.mark.parametrize("fault", [None, 7])
def test_store_that_returns_no_bindings_fails(guarded, fault):
    """As one does that forgets its return statement."""
    guarded.store.store.update = lambda aor, change: fault
    guarded.store.store.lookup = lambda aor: fault
    update = guarded.update(guarded.adding[0])
    lookup = guarded.start(guarded.guard.lookup, AOR)
    assert (update.value.status, lookup.value.status) == (503, 503)
    assert guarded.guard.counts["store_errors"] == 2 and guarded.is_idle


def test_nothing_is_served_from_memory_without_serve_stale(guarded):
    guarded.guard.serve_stale = 0.0
    guarded.update(guarded.adding[0])
    guarded.store.fault = "failing"
    assert guarded.start(guarded.guard.lookup, AOR).value.status == 503


def test_one_stall_of_the_store_with_many_callers_opens_no_breaker(guarded):
    guarded.store.latency = 0.02
    begun, calls = guarded.clock.now(), []

    def stalls(seconds):
        guarded.clock.sleep(max(seconds, begun + 0.75 - guarded.clock.now()))

    guarded.store.sleep = stalls
    for n in range(100):  # 100 changes a second, of 50 users
        calls.append(guarded.update(guarded.adding[0], f"sip:{n % 50}@x"))
        calls.append(guarded.start(guarded.guard.lookup, f"sip:{n % 50}@x"))
        guarded.clock.advance(0.01)
    guarded.settle()
    errors = [call.value for call in calls if isinstance(call.value, Reject)]
    # look-ups that are late are Unavailable, because the copy does not have them yet
    assert {call.value.reason for call in calls[::2] if call.value in errors} == {"Store Timeout"}
    assert not (guarded.guard.writes.is_open or guarded.guard.reads.is_open)
    assert 50 <= len(errors) <= 120 and guarded.is_idle


def test_store_that_is_late_again_and_again_opens_the_breaker(guarded):
    guarded.store.latency = 0.75
    for n in range(200):
        guarded.update(guarded.adding[0], f"sip:{n}@x")
        guarded.clock.advance(0.01)
    assert guarded.guard.writes.is_open
    before = guarded.store.calls
    assert guarded.update(guarded.adding[0], "sip:other@x").value.reason == "Store Unavailable"
    assert guarded.store.calls == before


def hanging(guarded, *users):
    """Let the calls of these users never return until `wake` is set."""
    update, wake = guarded.store.store.update, Event()

    def hangs(aor, change):
        if aor in users:
            wake.wait()
        return update(aor, change)

    guarded.store.store.update = hangs
    return wake


def test_address_whose_store_call_never_returns_is_503_at_once_and_others_are_served(guarded):
    wake = hanging(guarded, AOR)
    first = guarded.update(guarded.adding[0])
    guarded.settle()
    assert first.value.reason == "Store Timeout"
    for _ in range(int(STUCK_SECONDS) - 1):  # until then each waits for its turn
        late = guarded.update(guarded.adding[1])
        assert not late.ready()
        other = guarded.update(guarded.adding[0], "sip:other@x")
        assert len(users(other)) == 1
        guarded.settle()
        assert late.value.reason == "Store Timeout"
    for _ in range(50):
        at_once = guarded.update(guarded.adding[1])
        assert at_once.value.status == 503 and "retry_after" in at_once.value.headers
        assert len(users(guarded.update(guarded.adding[0], "sip:other@x"))) == 1
        guarded.settle()
    assert (guarded.guard.running, guarded.guard._waiting) == (1, 0)
    wake.set()
    guarded.settle()
    assert len(users(guarded.update(guarded.adding[1]))) == 2 and guarded.is_idle


def test_more_calls_than_greenlets_that_never_return_leave_others_served(guarded, monkeypatch):
    monkeypatch.setattr("sippet_gevent.stores.guarded.GREENLETS", 4)
    monkeypatch.setattr("sippet_gevent.stores.guarded.STUCK", 8)
    names = [f"sip:{n}@x" for n in range(40)]
    wake, guard = hanging(guarded, *names), guarded.guard

    def served():
        return isinstance(guarded.update(guarded.adding[0], "sip:other@x").value, tuple)

    for _ in range(3):  # those that hang use up every greenlet, until they are old
        for name in names:
            guarded.update(guarded.adding[0], name)
            guarded.settle(0.01)
        guard.writes.succeeded()
        guarded.settle(STUCK_SECONDS)
        if guard.stuck < 8:
            assert served()
    assert guard.running <= 4 and guard.stuck <= 8
    assert guarded.store.waiting <= 4 + 8
    wake.set()
    guarded.settle()
    guard.writes.succeeded()
    assert served() and guarded.is_idle and guard.stuck == 0 and not guard._calls


def test_look_up_of_a_contact_of_very_many_addresses_asks_some_at_a_time(guarded):
    names, asked = [f"sip:{n}@x" for n in range(1000)], []
    guarded.store.store.find = lambda contact: names
    guarded.store.store.lookup = lambda aor: asked.append(guarded.guard.running) or ()
    found = guarded.start(guarded.guard.lookup_contact, URI.parse("sip:a@b"))
    assert [name for name, _ in found.value] == names and max(asked) <= 10
