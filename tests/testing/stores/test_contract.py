"""StoreContract in the tests of an application: pytest runs it for a class that has a store."""

from __future__ import annotations

STORE = """
import time

import pytest
from sippet_gevent import Watchers
from sippet_gevent.testing.stores import StoreContract


class Mine:
    blocks = False

    def __init__(self):
        self.entries = {}
        self.watchers = Watchers()
        self.watch = self.watchers.add
        self.now = time.time

    def update(self, aor, change):
        return self.replace(aor, change, self.now())

    def replace(self, aor, change, now):
        before = self.entries.get(aor, ())
        after = self.entries[aor] = change(before)
        if not after:
            del self.entries[aor]
        self.watchers.tell(aor, before, after, now)
        return after

    def lookup(self, aor):
        return self.entries.get(aor, ())

    def find(self, contact):
        found = self.entries.items()
        return [aor for aor, all in found if any(b.uri.equivalent(contact) for b in all)]

    def expire(self, now, limit):
        ended = [(a, tuple(b for b in e if b.expires_at <= now)) for a, e in self.entries.items()]
        removed = [(aor, gone) for aor, gone in ended if gone][:limit]
        for aor, _ in removed:
            self.replace(aor, lambda before: tuple(b for b in before if b.expires_at > now), now)
        return removed

    def close(self):
        pass


class TestMine(StoreContract):
    @pytest.fixture
    def make(self):
        return Mine
"""


def test_application_derives_a_class_and_pytest_runs_the_contract(pytester):
    pytester.makepyfile(test_mine=STORE)
    result = pytester.runpytest_subprocess("-q", "--strict-markers", "-W", "error")
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"} and outcomes["passed"] > 30


def test_failure_shows_both_sides_of_the_comparison(pytester):
    pytester.makepyfile(test_mine=STORE.replace("return removed", "return removed[:1]"))
    result = pytester.runpytest_subprocess("-q", "-k", "limit")
    assert result.parseoutcomes() == {
        "failed": 1,
        "deselected": result.parseoutcomes()["deselected"],
    }
    result.stdout.fnmatch_lines(["*assert ?1, 1, 1, *== ?4, 4, 2, 0?*"])
