"""StoreCalls: what each method of a store of bindings does, one by one and at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import gevent
import greenlet
import pytest

from ...errors import Reject, SIPError, StoreError
from ...message.uri import URI
from ...stores.base import BindingEvent, BindingStore
from ...stores.bindings import Binding, Bindings
from .samples import AORS, CONTACTS, binding, full_binding, shown

AOR = "sip:alice@example.com"
OTHER = "sip:bob@example.com"

PATIENCE = 30.0
"""Most seconds of real time that anything here may take."""

DAY = 86400.0


class StoreCalls:
    """Tests of the methods of BindingStore."""

    @pytest.fixture
    def make(self) -> Callable[[], BindingStore]:
        """Return what makes a store, `make()`, which is empty in each test. Derived classes have
        this fixture."""
        raise NotImplementedError("write a fixture `make` that returns what makes a store")

    @pytest.fixture
    def store(self, make: Callable[[], BindingStore]) -> Iterator[BindingStore]:
        """The store of a test, which is closed afterwards."""
        store = make()
        with gevent.Timeout(PATIENCE):
            yield store
        store.close()

    # ---- the clock

    def test_now_is_in_seconds_since_1970_and_does_not_run_back(self, store: BindingStore) -> None:
        times = [store.now() for _ in range(100)]
        assert times == sorted(times)
        assert abs(times[0] - time.time()) < 366 * DAY

    # ---- update and lookup

    def test_unknown_address_has_no_bindings(self, store: BindingStore) -> None:
        assert tuple(store.lookup(AOR)) == ()
        seen: list[Bindings] = []
        assert update(store, AOR, lambda before: noted(seen, before, ())) == ()
        assert set(seen) == {()}

    def test_update_stores_and_returns_what_change_returns(self, store: BindingStore) -> None:
        added = binding(now=store.now())
        assert shown(update(store, AOR, lambda before: (added,))) == shown((added,))
        assert shown(store.lookup(AOR)) == shown((added,))
        assert isinstance(store.lookup(AOR), tuple)

    def test_change_gets_what_is_stored(self, store: BindingStore) -> None:
        first, second = binding(now=store.now()), binding(CONTACTS[1], store.now())
        update(store, AOR, lambda before: (first,))
        seen: list[Bindings] = []
        after = update(store, AOR, lambda before: noted(seen, before, (first, second)))
        assert shown((first,)) in [shown(each) for each in seen]
        assert all(isinstance(each, tuple) for each in seen) and isinstance(seen[-1][0], Binding)
        assert shown(after) == shown((first, second))

    def test_update_to_nothing_deletes(self, store: BindingStore) -> None:
        update(store, AOR, lambda before: (binding(now=store.now()),))
        assert update(store, AOR, lambda before: ()) == ()
        assert tuple(store.lookup(AOR)) == ()
        assert AOR not in store.find(binding().uri)
        assert list(store.expire(store.now() + DAY, 10)) == []

    def test_every_field_of_a_binding_is_kept(self, store: BindingStore) -> None:
        now = store.now()
        bindings = tuple(full_binding(text, now, n) for n, text in enumerate(CONTACTS))
        update(store, AOR, lambda before: bindings)
        stored = store.lookup(AOR)
        assert shown(stored) == shown(bindings)
        for kept, given in zip(stored, bindings):
            assert abs(kept.expires_at - given.expires_at) < 0.001
            assert kept.contact == given.contact and kept.path == given.path
            assert kept.uri == given.uri and kept.others == ()

    def test_fields_of_a_later_version_are_kept_by_a_refresh(self, store: BindingStore) -> None:
        later = full_binding(CONTACTS[0], store.now(), 1)
        update(store, AOR, lambda before: (later,))
        update(store, AOR, lambda before: tuple(b._replace(cseq=7) for b in before))
        (kept,) = store.lookup(AOR)
        assert (kept.cseq, kept.unknown) == (7, later.unknown)

    def test_order_of_bindings_is_kept(self, store: BindingStore) -> None:
        bindings = tuple(
            binding(f"<sip:{n * 7 % 10}@192.0.2.1>;q=0.{n}", store.now()) for n in range(10)
        )
        update(store, AOR, lambda before: bindings)
        update(store, AOR, lambda before: tuple(sorted(before, key=lambda b: b.uri.user or "")))
        assert [b.uri.user for b in store.lookup(AOR)] == sorted(map(str, range(10)))
        update(store, AOR, lambda before: bindings[::-1])
        assert shown(store.lookup(AOR)) == shown(bindings[::-1])

    def test_bindings_of_different_addresses_are_apart(self, store: BindingStore) -> None:
        now = store.now()
        for number, aor in enumerate(AORS):
            update(store, aor, adding(f"<sip:{number}@192.0.2.1>", now))
        for number, aor in enumerate(AORS):
            assert [b.uri.user for b in store.lookup(aor)] == [str(number)], aor
        update(store, AORS[0], lambda before: ())
        assert [aor for aor in AORS if not store.lookup(aor)] == [AORS[0]]
        for number, aor in enumerate(AORS[1:], 1):
            assert aor in store.find(URI.parse(f"sip:{number}@192.0.2.1"))

    # ---- a change that raises

    @pytest.mark.parametrize("error", [Reject(403), KeyError("a fault of the program")])
    def test_change_that_raises_stores_nothing(self, store: BindingStore, error: Exception) -> None:
        kept = binding(now=store.now())
        update(store, AOR, lambda before: (kept,))
        events = watched(store)

        def change(before: Bindings) -> Bindings:
            raise error

        for aor in (AOR, OTHER):
            with pytest.raises(type(error)) as raised:
                store.update(aor, change)
            assert raised.value is error or isinstance(error, KeyError)
        assert (shown(store.lookup(AOR)), tuple(store.lookup(OTHER))) == (shown((kept,)), ())
        assert events == []
        assert len(update(store, AOR, adding(CONTACTS[1], store.now()))) == 2

    def test_change_that_raises_does_not_fail_other_updates(self, store: BindingStore) -> None:
        def refusing(before: Bindings) -> Bindings:
            raise Reject(403)

        now = store.now()
        changes = [refusing, adding(CONTACTS[0], now), refusing, adding(CONTACTS[1], now)]
        jobs = [gevent.spawn(outcome, store, AOR, change) for change in changes]
        gevent.joinall(jobs, raise_error=True)
        assert [type(job.value) for job in jobs] == [Reject, tuple, Reject, tuple]
        assert len(store.lookup(AOR)) == 2

    # ---- at the same time

    @pytest.mark.parametrize("count", [2, 10, 50])
    def test_updates_at_the_same_time_are_all_kept(self, store: BindingStore, count: int) -> None:
        contacts = [f"<sip:{number}@192.0.2.1>" for number in range(count)]
        now = store.now()
        at_once(lambda contact: update(store, AOR, adding(contact, now)), contacts)
        assert {b.uri.user for b in store.lookup(AOR)} == {str(n) for n in range(count)}
        at_once(lambda contact: update(store, AOR, removing(contact)), contacts[1:])
        assert [b.uri.user for b in store.lookup(AOR)] == ["0"]

    def test_lookup_during_updates_sees_whole_updates(self, store: BindingStore) -> None:
        now = store.now()
        done = False

        def write() -> None:
            nonlocal done
            for cseq in range(1, 21):
                pair = tuple(binding(text, now, cseq=cseq) for text in CONTACTS[:2])
                update(store, AOR, lambda before, pair=pair: pair)
            done = True

        def read() -> list[int]:
            seen = []
            while not done:
                found = store.lookup(AOR)
                assert len({b.cseq for b in found}) <= 1 and len(found) in (0, 2)
                seen += [b.cseq for b in found[:1]]
                gevent.sleep(0)
            return seen

        jobs = [gevent.spawn(write), gevent.spawn(read), gevent.spawn(read)]
        gevent.joinall(jobs, raise_error=True)
        for job in jobs[1:]:
            assert job.value == sorted(job.value)
        assert [b.cseq for b in store.lookup(AOR)] == [20, 20]

    def test_thousand_addresses_are_kept_and_found(self, store: BindingStore) -> None:
        names = [f"sip:{number}@example.com" for number in range(1000)]
        now = store.now()

        def contact_of(aor: str) -> str:
            return f"<{aor.partition('@')[0]}@192.0.2.1>"

        at_once(lambda aor: update(store, aor, adding(contact_of(aor), now)), names)
        assert all(len(store.lookup(aor)) == 1 for aor in names[::50])
        assert all(list(store.find(binding(contact_of(a)).uri)) == [a] for a in names[::50])
        ended: list[str] = []
        for _ in range(20):  # some batches, because a store may remove fewer than `limit`
            ended += [aor for aor, _ in store.expire(now + DAY, 100)]
        assert sorted(ended) == sorted(names)

    def test_caller_that_is_killed_does_not_stop_the_store(self, store: BindingStore) -> None:
        now = store.now()
        jobs = [gevent.spawn(update, store, AOR, adding(c, now)) for c in CONTACTS[:3]]
        gevent.sleep(0)  # each has begun, and waits if the store does
        gevent.killall(jobs[:2])
        assert len(jobs[2].get()) in (1, 2, 3)
        with gevent.Timeout(PATIENCE):
            after = update(store, AOR, adding(CONTACTS[3], now))
        assert {str(binding(c).uri) for c in CONTACTS[2:4]} <= {str(b.uri) for b in after}

    def test_store_that_does_not_block_never_yields(self, store: BindingStore) -> None:
        if getattr(store, "blocks", True):
            return  # such a store may yield
        switches: list[str] = []
        before = greenlet.settrace(lambda event, _: switches.append(event))
        try:
            now = store.now()
            store.update(AOR, adding(CONTACTS[0], now))
            store.lookup(AOR)
            list(store.find(binding().uri))
            list(store.expire(now + DAY, 10))
        finally:
            greenlet.settrace(before)
        assert switches == []

    # ---- find

    def test_find_returns_addresses_with_a_binding_of_the_contact(
        self, store: BindingStore
    ) -> None:
        now = store.now()
        for aor in (AOR, OTHER):
            update(store, aor, adding("<sip:line@192.0.2.1>", now))
        update(store, OTHER, adding("<sip:bob@192.0.2.2>", now))
        assert sorted(store.find(URI.parse("sip:line@192.0.2.1"))) == [AOR, OTHER]
        assert list(store.find(URI.parse("sip:bob@192.0.2.2"))) == [OTHER]
        for text in ("sip:line@192.0.2.3", "sip:carol@192.0.2.1", "sip:line@192.0.2.1:5070"):
            assert list(store.find(URI.parse(text))) == [], text
        update(store, AOR, lambda before: (binding("<sip:new@192.0.2.1>", now),))
        assert list(store.find(URI.parse("sip:line@192.0.2.1"))) == [OTHER]
        assert list(store.find(URI.parse("sip:new@192.0.2.1"))) == [AOR]

    @pytest.mark.parametrize(
        "contact, asked",
        [
            ("sip:alice@Phone.Example.COM", "sip:alice@phone.example.com"),
            ("sip:%61lice@phone.example.com", "sip:alice@phone.example.com"),
            ("sip:a%20b@phone.example.com", "sip:a%20b@phone.example.com"),
            ("sip:alice@p.example;transport=TCP;x=1", "sip:alice@p.example;x=1;transport=tcp"),
            ("sip:alice@[2001:DB8::1]:5070", "sip:alice@[2001:db8:0::1]:5070"),
        ],
    )
    def test_find_compares_contacts_by_rfc_3261_19_1_4(
        self, store: BindingStore, contact: str, asked: str
    ) -> None:
        update(store, AOR, adding(f"<{contact}>", store.now()))
        assert list(store.find(URI.parse(asked))) == [AOR]
        assert list(store.find(URI.parse(asked.replace("sip:a", "sip:A", 1)))) == []

    # ---- expire

    def test_expire_removes_what_has_ended_and_returns_it(self, store: BindingStore) -> None:
        now = store.now()
        ends, stays = binding(CONTACTS[0], now, seconds=60), binding(CONTACTS[1], now, seconds=600)
        update(store, AOR, lambda before: (ends, stays))
        update(store, OTHER, lambda before: (stays,))
        assert list(store.expire(now + 59, 10)) == []
        ended = [(aor, shown(bindings)) for aor, bindings in store.expire(now + 61, 10)]
        assert ended == [(AOR, shown((ends,)))]
        assert shown(store.lookup(AOR)) == shown((stays,))
        assert list(store.find(ends.uri)) == []
        assert list(store.expire(now + 61, 10)) == []
        assert sorted(aor for aor, _ in store.expire(now + 601, 10)) == [AOR, OTHER]
        assert tuple(store.lookup(AOR)) == tuple(store.lookup(OTHER)) == ()

    def test_expire_removes_at_most_limit_addresses(self, store: BindingStore) -> None:
        now = store.now()
        names = [f"sip:{number}@example.com" for number in range(10)]
        for number, aor in enumerate(names):
            update(store, aor, lambda before, n=number: (binding(now=now, seconds=60 + n),))
        batches = [[aor for aor, _ in store.expire(now + DAY, 4)] for _ in range(4)]
        assert [len(batch) for batch in batches] == [4, 4, 2, 0]
        assert sorted(aor for batch in batches for aor in batch) == names

    def test_binding_that_was_refreshed_does_not_expire(self, store: BindingStore) -> None:
        now = store.now()
        update(store, AOR, lambda before: (binding(now=now, seconds=60),))
        update(store, AOR, lambda before: (binding(now=now, seconds=600, cseq=2),))
        assert list(store.expire(now + 300, 10)) == []
        assert [b.cseq for b in store.lookup(AOR)] == [2]

    def test_refresh_while_expiring_is_not_lost(self, store: BindingStore) -> None:
        now = store.now()
        for cseq in range(1, 21):
            update(store, AOR, lambda before: (binding(now=now, seconds=60),))
            fresh = binding(now=now, seconds=600, cseq=cseq + 1)
            jobs = [
                gevent.spawn(store.expire, now + 61, 10),
                gevent.spawn(update, store, AOR, lambda before, fresh=fresh: (fresh,)),
                gevent.spawn(store.expire, now + 61, 10),
            ]
            gevent.joinall(jobs[cseq % 2 :], raise_error=True)
            gevent.joinall(jobs, raise_error=True)
            assert shown(store.lookup(AOR)) == shown((fresh,))

    # ---- watch

    def test_watch_tells_of_added_refreshed_removed_and_expired(self, store: BindingStore) -> None:
        events, now = watched(store), store.now()
        one, two = binding(CONTACTS[0], now), binding(CONTACTS[1], now, seconds=60)
        update(store, AOR, lambda before: (one,))
        update(store, AOR, lambda before: (one._replace(cseq=2, expires_at=now + 4000), two))
        update(store, AOR, removing(CONTACTS[0]))
        list(store.expire(now + 61, 10))
        assert [(e.kind, e.aor, str(e.binding.uri)) for e in settled(events, 5)] == [
            ("added", AOR, str(one.uri)),
            ("refreshed", AOR, str(one.uri)),
            ("added", AOR, str(two.uri)),
            ("removed", AOR, str(one.uri)),
            ("expired", AOR, str(two.uri)),
        ]
        assert [e.binding.cseq for e in events] == [1, 2, 1, 2, 1]

    def test_watch_that_is_closed_tells_nothing_more(self, store: BindingStore) -> None:
        first: list[BindingEvent] = []
        watch, second = store.watch(first.append), watched(store)
        update(store, AOR, adding(CONTACTS[0], store.now()))
        settled(first, 1)
        watch.close()
        watch.close()
        update(store, AOR, adding(CONTACTS[1], store.now()))
        assert (len(settled(second, 2)), len(first)) == (2, 1)

    def test_callback_that_raises_fails_neither_update_nor_others(
        self, store: BindingStore
    ) -> None:
        def callback(event: BindingEvent) -> None:
            raise KeyError("a fault of the program")

        store.watch(callback)
        events = watched(store)
        assert len(update(store, AOR, adding(CONTACTS[0], store.now()))) == 1
        assert len(store.lookup(AOR)) == len(settled(events, 1)) == 1

    # ---- close

    def test_closed_store_raises_store_error_and_never_hangs(self, store: BindingStore) -> None:
        update(store, AOR, adding(CONTACTS[0], store.now()))
        store.close()
        store.close()
        calls: list[Callable[[], object]] = [
            lambda: store.update(AOR, adding(CONTACTS[1], 0.0)),
            lambda: store.lookup(AOR),
            lambda: list(store.find(binding().uri)),
            lambda: list(store.expire(0.0, 10)),
        ]
        for call in calls:
            try:
                call()
            except StoreError as error:
                assert error.status == 503

    def test_close_during_updates_leaves_no_caller_waiting(self, store: BindingStore) -> None:
        now = store.now()
        jobs = [gevent.spawn(outcome, store, AOR, adding(c, now)) for c in CONTACTS]
        gevent.sleep(0)
        store.close()
        gevent.joinall(jobs, timeout=PATIENCE)
        assert all(isinstance(job.value, (tuple, StoreError)) for job in jobs)


# ---- what the tests are made of


def update(store: BindingStore, aor: str, change: Callable[..., Bindings]) -> Bindings:
    """Update, and check that the store returns a tuple."""
    after = store.update(aor, change)
    assert isinstance(after, tuple)
    return after


def outcome(
    store: BindingStore, aor: str, change: Callable[[Bindings], Bindings]
) -> Bindings | SIPError:
    """Return what an update returns or raises."""
    try:
        return store.update(aor, change)
    except SIPError as error:
        return error


def noted(seen: list[Bindings], before: Bindings, after: Bindings) -> Bindings:
    """Add to the list what a change was called with. Return the result of the change."""
    seen.append(before)
    return after


def adding(contact: str, now: float) -> Callable[[Bindings], Bindings]:
    """Return a change that adds a binding of this Contact, once however often it runs."""
    new = binding(contact, now)
    return lambda before: (*(b for b in before if b.uri != new.uri), new)


def removing(contact: str) -> Callable[[Bindings], Bindings]:
    """Return a change that removes the binding of this Contact."""
    uri = binding(contact).uri
    return lambda before: tuple(b for b in before if b.uri != uri)


def watched(store: BindingStore) -> list[BindingEvent]:
    """Return a list that grows by the events of a store."""
    events: list[BindingEvent] = []
    store.watch(events.append)
    return events


def settled(events: list[BindingEvent], count: int) -> list[BindingEvent]:
    """Return the events once there are so many, and no more of them come."""
    with gevent.Timeout(PATIENCE):
        while len(events) < count:
            gevent.sleep(0.001)
    gevent.sleep(0.01)
    return events


def at_once(call: Callable[[str], object], arguments: Iterable[str]) -> None:
    """Call with each argument, in greenlets that run at the same time."""
    gevent.joinall([gevent.spawn(call, each) for each in arguments], raise_error=True)
