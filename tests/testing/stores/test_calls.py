"""The contract of stores finds what is wrong with a store: each broken store here fails a test of it."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.lock import BoundedSemaphore

from sippet_gevent.errors import StoreError
from sippet_gevent.stores.base import BindingEvent, Watchers
from sippet_gevent.testing.stores import calls
from sippet_gevent.testing.stores.calls import StoreCalls


class Dict:
    """A correct store, from which the broken ones derive."""

    def __init__(self):
        self.entries = {}
        self.watchers = Watchers()
        self.watch = self.watchers.add

    def now(self):
        return time.time()

    def update(self, aor, change):
        gevent.sleep(0)
        return self.store(aor, change, self.now())

    def store(self, aor, change, now):
        before = self.entries.get(aor, ())
        after = change(before)
        self.entries[aor] = after
        if not after:
            del self.entries[aor]
        self.watchers.tell(aor, before, after, now)
        return after

    def lookup(self, aor):
        return self.entries.get(aor, ())

    def find(self, contact):
        return [
            aor
            for aor, b in self.entries.items()
            if any(each.uri.equivalent(contact) for each in b)
        ]

    def expire(self, now, limit):
        found = [
            (aor, tuple(b for b in e if b.expires_at <= now)) for aor, e in self.entries.items()
        ]
        found = [(aor, ended) for aor, ended in found if ended][:limit]
        for aor, _ in found:
            self.store(aor, lambda before: tuple(b for b in before if b.expires_at > now), now)
        return found

    def close(self):
        pass


class LosesUpdates(Dict):
    def update(self, aor, change):
        before = self.entries.get(aor, ())
        gevent.sleep(0)
        self.entries[aor] = before
        return self.store(aor, change, self.now())


class StoresOneByOne(Dict):
    def update(self, aor, change):
        for count in range(1, 3):
            after = self.store(aor, lambda before, n=count: change(before)[:n], self.now())
            gevent.sleep(0)
        return self.store(aor, lambda before: change(before), self.now()) or after


class ReturnsOldBindings(Dict):
    def update(self, aor, change):
        before = self.lookup(aor)
        super().update(aor, change)
        return before


class ReturnsLists(Dict):
    def lookup(self, aor):
        return list(super().lookup(aor))


class IgnoresEmptyUpdates(Dict):
    def store(self, aor, change, now):
        return super().store(aor, lambda before: change(before) or before, now)


class ForgetsFieldsItDoesNotKnow(Dict):
    def update(self, aor, change):
        return super().update(
            aor, lambda before: tuple(b._replace(unknown=()) for b in change(before))
        )


class ForgetsFlows(Dict):
    def update(self, aor, change):
        return super().update(
            aor, lambda before: tuple(b._replace(flow=None) for b in change(before))
        )


class SortsBindings(Dict):
    def update(self, aor, change):
        return super().update(
            aor, lambda before: tuple(sorted(change(before), key=lambda b: b.uri.user or ""))
        )


class ComparesWithoutCase(Dict):
    def update(self, aor, change):
        return super().update(aor.lower(), change)

    def lookup(self, aor):
        return super().lookup(aor.lower())


class CutsLongKeys(Dict):
    def update(self, aor, change):
        return super().update(aor[:255], change)

    def lookup(self, aor):
        return super().lookup(aor[:255])


class StoresBeforeItAsks(Dict):
    def store(self, aor, change, now):
        before = self.entries.pop(aor, ())
        self.entries.update({aor: before} if (after := change(before)) == before else {})
        return super().store(aor, lambda _: after, now)


class KeepsItsLock(Dict):
    def __init__(self):
        super().__init__()
        self.lock = BoundedSemaphore()

    def update(self, aor, change):
        self.lock.acquire()
        gevent.sleep(0.01)
        after = super().update(aor, change)
        self.lock.release()
        return after


class YieldsAndSaysNot(Dict):
    blocks = False


class FindsByText(Dict):
    def find(self, contact):
        return [
            aor for aor, b in self.entries.items() if any(str(e.uri) == str(contact) for e in b)
        ]


class FindsOldContacts(Dict):
    def __init__(self):
        super().__init__()
        self.contacts = set()

    def update(self, aor, change):
        after = super().update(aor, change)
        self.contacts |= {(b.uri, aor) for b in after}
        return after

    def find(self, contact):
        return [aor for uri, aor in self.contacts if uri.equivalent(contact)]


class ExpiresEverything(Dict):
    def expire(self, now, limit):
        found = super().expire(now, limit)
        for aor, _ in found:
            self.entries.pop(aor, None)
        return found


class ExpiresWithoutLimit(Dict):
    def expire(self, now, limit):
        return super().expire(now, 1000)


class ExpiresFromOutdatedReads(Dict):
    def expire(self, now, limit):
        found = {aor: tuple(b for b in e if b.expires_at > now) for aor, e in self.entries.items()}
        gevent.sleep(0.001)
        for aor, live in found.items():
            self.store(aor, lambda before, live=live: live, now)
        return []


class TellsNothingOfItsExpiry(Dict):
    def expire(self, now, limit):
        watchers, self.watchers = self.watchers, Watchers()
        found = super().expire(now, limit)
        self.watchers = watchers
        return found


class TellsTwice(Dict):
    def update(self, aor, change):
        before = self.lookup(aor)
        after = super().update(aor, change)
        self.watchers.tell(aor, before, after, self.now())
        return after


class FailsWithItsCallbacks(Dict):
    def __init__(self):
        super().__init__()
        self.callbacks = []
        self.watch = self.callbacks.append

    def store(self, aor, change, now):
        after = super().store(aor, change, now)
        for callback in self.callbacks:
            callback(BindingEvent("added", aor, after[0]))
        return after


class HangsAfterItsClose(Dict):
    closed = False

    def close(self):
        self.closed = True

    def lookup(self, aor):
        if self.closed:
            gevent.sleep(1000)
        return super().lookup(aor)


class FailsWithAnotherErrorAfterItsClose(Dict):
    def close(self):
        self.entries = None


class ClockOfTheMachine(Dict):
    def now(self):
        return time.monotonic()


PATIENCE = 1.0

BROKEN = [
    (LosesUpdates, "updates_at_the_same_time_are_all_kept", {"count": 10}),
    (StoresOneByOne, "lookup_during_updates_sees_whole_updates", {}),
    (ReturnsOldBindings, "update_stores_and_returns_what_change_returns", {}),
    (ReturnsLists, "update_stores_and_returns_what_change_returns", {}),
    (IgnoresEmptyUpdates, "update_to_nothing_deletes", {}),
    (ForgetsFieldsItDoesNotKnow, "fields_of_a_later_version_are_kept_by_a_refresh", {}),
    (ForgetsFlows, "every_field_of_a_binding_is_kept", {}),
    (SortsBindings, "order_of_bindings_is_kept", {}),
    (ComparesWithoutCase, "bindings_of_different_addresses_are_apart", {}),
    (CutsLongKeys, "bindings_of_different_addresses_are_apart", {}),
    (StoresBeforeItAsks, "change_that_raises_stores_nothing", {"error": KeyError()}),
    (KeepsItsLock, "caller_that_is_killed_does_not_stop_the_store", {}),
    (KeepsItsLock, "change_that_raises_does_not_fail_other_updates", {}),
    (YieldsAndSaysNot, "store_that_does_not_block_never_yields", {}),
    (FindsByText, "find_compares_contacts_by_rfc_3261_19_1_4", {
        "contact": "sip:alice@Phone.Example.COM", "asked": "sip:alice@phone.example.com"}),
    (FindsOldContacts, "find_returns_addresses_with_a_binding_of_the_contact", {}),
    (ExpiresEverything, "expire_removes_what_has_ended_and_returns_it", {}),
    (ExpiresWithoutLimit, "expire_removes_at_most_limit_addresses", {}),
    (ExpiresFromOutdatedReads, "refresh_while_expiring_is_not_lost", {}),
    (TellsNothingOfItsExpiry, "watch_tells_of_added_refreshed_removed_and_expired", {}),
    (TellsTwice, "watch_tells_of_added_refreshed_removed_and_expired", {}),
    (FailsWithItsCallbacks, "callback_that_raises_fails_neither_update_nor_others", {}),
    (HangsAfterItsClose, "closed_store_raises_store_error_and_never_hangs", {}),
    (FailsWithAnotherErrorAfterItsClose, "closed_store_raises_store_error_and_never_hangs", {}),
    (ClockOfTheMachine, "now_is_in_seconds_since_1970_and_does_not_run_back", {}),
]  # fmt: skip


def run(kind, name, more, monkeypatch):
    monkeypatch.setattr(calls, "PATIENCE", PATIENCE)
    with gevent.Timeout(PATIENCE * 2):
        getattr(StoreCalls(), f"test_{name}")(kind(), **more)


@pytest.mark.parametrize(
    "kind, name, more", BROKEN, ids=lambda value: getattr(value, "__name__", None)
)
def test_broken_store_fails_the_contract(monkeypatch, kind, name, more):
    run(Dict, name, more, monkeypatch)
    with pytest.raises((Exception, gevent.Timeout)):
        run(kind, name, more, monkeypatch)


def test_store_that_is_closed_may_raise_store_error(monkeypatch):
    class Closes(Dict):
        is_closed = False

        def close(self):
            self.is_closed = True

        def lookup(self, aor):
            if self.is_closed:
                raise StoreError("the store is closed")
            return super().lookup(aor)

    run(Closes, "closed_store_raises_store_error_and_never_hangs", {}, monkeypatch)
