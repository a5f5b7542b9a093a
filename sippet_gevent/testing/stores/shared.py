"""SharedStoreContract: a store whose data several stores use, one after another or at the same
time."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from ...stores.base import BindingStore
from .calls import AOR, PATIENCE, adding, at_once, removing, update, watched
from .contract import StoreContract
from .samples import CONTACTS, binding, full_binding, shown

Maker = Callable[[], BindingStore]


class SharedStoreContract(StoreContract):
    """The contract of a store whose data outlives it, such as one of a data base.

    The fixture `make` returns what makes a store on the same data each time: the first call in a
    test finds no bindings, and a second call finds those of the first.
    """

    def test_bindings_are_there_after_the_store_was_closed(self, make: Maker) -> None:
        first = make()
        bindings = tuple(full_binding(c, first.now(), n) for n, c in enumerate(CONTACTS))
        update(first, AOR, lambda before: bindings)
        first.close()
        second = make()
        assert shown(second.lookup(AOR)) == shown(bindings)
        assert list(second.find(bindings[0].uri)) == [AOR]
        ended = [aor for aor, _ in second.expire(second.now() + 86400, 10)]
        assert ended == [AOR]
        second.close()

    def test_two_stores_at_the_same_time_lose_no_update(self, make: Maker) -> None:
        stores = [make(), make()]
        now = stores[0].now()
        contacts = [f"<sip:{number}@192.0.2.1>" for number in range(50)]
        with gevent.Timeout(PATIENCE):
            at_once(lambda c: update(stores[len(c) % 2], AOR, adding(c, now)), contacts)
            at_once(lambda c: update(stores[hash(c) % 2], AOR, adding(c, now)), contacts)
            for store in stores:
                assert len(store.lookup(AOR)) == 50
            at_once(lambda c: update(stores[hash(c) % 2], AOR, removing(c)), contacts[1:])
            for store in stores:
                assert [b.uri.user for b in store.lookup(AOR)] == ["0"]
        for store in stores:
            store.close()

    def test_store_sees_at_once_what_another_has_stored(self, make: Maker) -> None:
        one, other = make(), make()
        for cseq in range(1, 20):
            fresh = binding(CONTACTS[0], one.now(), cseq=cseq)
            update(one, AOR, lambda before, fresh=fresh: (fresh,))
            assert [b.cseq for b in other.lookup(AOR)] == [cseq]
            assert list(other.find(fresh.uri)) == [AOR]
            one, other = other, one
        update(one, AOR, lambda before: ())
        assert (other.lookup(AOR), list(other.find(binding(CONTACTS[0]).uri))) == ((), [])
        for store in (one, other):
            store.close()

    def test_expired_bindings_are_returned_by_one_store_only(self, make: Maker) -> None:
        one, other = make(), make()
        now = one.now()
        names = {f"sip:{number}@example.com" for number in range(40)}
        for name in names:
            update(one, name, adding(CONTACTS[0], now))
        found: list[str] = []
        with gevent.Timeout(PATIENCE):
            while len(found) < len(names):
                jobs = [gevent.spawn(s.expire, now + 86400, 5) for s in (one, other)]
                gevent.joinall(jobs, raise_error=True)
                found += [aor for job in jobs for aor, _ in job.value]
        assert (len(found), set(found)) == (len(names), names)
        for store in (one, other):
            store.close()

    def test_close_of_one_store_leaves_the_other(self, make: Maker) -> None:
        one, other = make(), make()
        events = watched(other)
        one.close()
        assert len(update(other, AOR, adding(CONTACTS[0], other.now()))) == 1
        assert len(events) == 1
        other.close()
