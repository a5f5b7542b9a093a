"""MemoryBindings: the contract of all stores, its bounds, and its clock."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from sippet_gevent import MemoryBindings, Reject, VirtualClock
from sippet_gevent.message import address, uri
from sippet_gevent.stores import memory as limits
from sippet_gevent.stores.bindings import FlowName, compact
from sippet_gevent.testing.stores import StoreContract
from sippet_gevent.testing.stores.samples import binding

AOR = "sip:alice@example.com"


class TestMemoryBindings(StoreContract):
    @pytest.fixture
    def make(self):
        return MemoryBindings


def store_of(*seconds, now=0.0):
    """Make a store at a time, with an address-of-record for each number of seconds."""
    store = MemoryBindings(lambda: store.time)
    store.time = now
    for number, each in enumerate(seconds):
        kept = binding(f"<sip:{number}@192.0.2.1>", now, seconds=each)
        store.update(str(number), lambda before, kept=kept: (kept,))
    return store


def test_change_that_returns_its_argument_writes_nothing():
    store, told = store_of(60), []
    store.watch(told.append)
    before = store.lookup("0")
    assert store.update("0", lambda stored: stored) is before and told == []


@pytest.mark.parametrize("at", [60.0, 60.5, 64.0, 300.0])
def test_expire_removes_exactly_what_has_ended(at):
    store = store_of(60, 61, 3600)
    removed = store.expire(at, 10)
    assert [aor for aor, _ in removed] == [str(n) for n, s in enumerate((60, 61, 3600)) if s <= at]
    assert store.expire(at, 10) == []


def test_expire_in_batches_removes_everything_once_and_looks_at_few(monkeypatch):
    store = store_of(*[60 + n % 9 for n in range(200)])
    seen = []
    while removed := store.expire(100.0, 30):
        seen += [aor for aor, _ in removed]
        assert len(removed) <= 30
    assert sorted(map(int, seen)) == list(range(200))
    assert (len(store), store.bytes, store._ends, len(store._contacts)) == (0, 0, {}, 0)


def test_one_of_two_bindings_that_ends_leaves_the_other():
    store, told = store_of(), []
    pair = tuple(binding(f"<sip:a@192.0.2.{n}>", 0.0, seconds=60.0 * n) for n in (1, 2))
    store.update(AOR, lambda before: pair)
    store.watch(told.append)
    assert store.expire(70.0, 5) == [(AOR, pair[:1])]
    assert store.lookup(AOR) == pair[1:]
    assert [(event.kind, event.binding) for event in told] == [("expired", pair[0])]
    assert store.expire(125.0, 5) == [(AOR, pair[1:])]


def test_full_store_refuses_growth_and_removes_what_has_ended(monkeypatch):
    store = store_of(60, 3600)
    monkeypatch.setattr(limits, "STORE_BYTES", store.bytes)
    kept = binding(now=0.0)
    with pytest.raises(Reject) as refused:
        store.update(AOR, lambda before: (kept,))
    assert (refused.value.status, refused.value.headers["retry_after"].seconds) == (503, 60)
    store.update("1", lambda before: tuple(b._replace(cseq=2) for b in before))
    monkeypatch.setattr(limits, "STORE_BYTES", store.bytes + 60)
    store.time = 61.0
    store.update(AOR, lambda before: (kept,))  # now that it has made room
    assert [bool(store.lookup(aor)) for aor in ("0", "1", AOR)] == [False, True, True]


def test_clock_of_a_stack_leaves_bindings_the_time_that_they_have():
    store, clock = MemoryBindings(), VirtualClock()
    kept = binding(now=store.now(), seconds=600)
    store.update(AOR, lambda before: (kept,))
    store.use_clock(clock)
    assert store.lookup(AOR)[0].expires_at - clock.wall() == pytest.approx(600, abs=1)
    assert store.expire(clock.wall() + 599, 5) == []
    clock.advance(602)
    assert len(store.expire(store.now(), 5)) == 1
    other = MemoryBindings(lambda: 5.0)
    other.use_clock(clock)
    assert other.now() == 5.0


def test_step_of_the_system_clock_ends_no_binding(monkeypatch):
    store = MemoryBindings()
    before = store.now()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert before <= store.now() < before + 60


BUDGETS = {"one Contact of 60 bytes": (1250, {}), "with Path and instance": (1536, {"path": 2})}


@pytest.mark.parametrize("shape", BUDGETS)
def test_memory_of_a_binding(shape):
    most, more = BUDGETS[shape]

    def make(n):
        instance = f';+sip.instance="<urn:uuid:00000000-0000-4000-8000-{n:012}>";reg-id=1'
        made = binding(
            f"<sip:user{n:06}@203.0.113.{n % 250}:{10000 + n};transport=tcp;ob>"
            + (instance if more else ""),
            0.0,
            call_id=f"{n:032x}",
        )
        path = tuple(
            compact(binding(f"<sip:edge{i}.example.com:5061;transport=tls;lr;ob>").contact)
            for i in range(more.get("path", 0))
        )
        contact = compact(made.contact)
        return made._replace(
            uri=contact.uri,
            contact=contact,
            path=path,
            flow=FlowName("0123456789abcdef", f"tcp:192.0.2.1:5060/{n:032x}"),
            listener="tcp:192.0.2.1:5060",
        )

    def measured():
        """Return the bytes of a binding, as traced and as the store counts them."""
        store, count = MemoryBindings(lambda: 0.0), 2000
        store.update("warm", lambda before: (make(1),))
        address._known.cache_clear()
        uri._remembered.cache_clear()
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for n in range(count):
                made = make(n)
                store.update(f"sip:user{n:06}@example.com", lambda stored, made=made: (made,))
            del made
            address._known.cache_clear()
            uri._remembered.cache_clear()
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
        return each, store.bytes / (count + 1)

    # tables of the interpreter, such as that of interned texts, double at some time: not twice
    each, counted = min(measured(), measured())
    print(f"{shape}: {each:.0f} bytes, counted {counted:.0f}")
    assert each < most and each < counted * 1.05
