"""LocalCopy: what look-ups are answered from while a store fails."""

from __future__ import annotations

from sippet_gevent import URI
from sippet_gevent.stores.bindings import entry_bytes
from sippet_gevent.stores.local_copy import LocalCopy
from sippet_gevent.testing.stores.samples import binding


def one(number):
    return (binding(f"<sip:{number}@192.0.2.1>", now=0.0),)


def test_copy_returns_what_was_put_and_finds_it_by_contact():
    copy = LocalCopy(100_000)
    copy.put("a", one(1), 1.0)
    assert copy.get("a") == one(1) and copy.get("b") is None
    assert copy.find(URI.parse("sip:1@192.0.2.1")) == ("a",)
    copy.put("a", one(2), 2.0)
    assert copy.find(URI.parse("sip:1@192.0.2.1")) == ()
    copy.put("a", (), 3.0)
    assert (copy.get("a"), copy.bytes, len(copy), len(copy._contacts)) == (None, 0, 0, 0)


def test_answer_of_an_older_call_changes_nothing():
    copy = LocalCopy(100_000)
    copy.put("a", one(2), 2.0)
    copy.put("a", one(1), 1.0)
    copy.put("a", (), 1.0)
    assert copy.get("a") == one(2)


def test_copy_is_bounded_in_bytes_and_forgets_what_was_put_least_recently():
    size = entry_bytes("a", [one(1)[0].bytes])
    copy = LocalCopy(3 * size + 10)
    for number, aor in enumerate("abc"):
        copy.put(aor, one(number), 1.0)
    copy.put("a", one(0), 2.0)
    copy.put("d", one(4), 3.0)
    assert [aor for aor in "abcd" if copy.get(aor)] == ["a", "c", "d"]
    assert copy.bytes <= copy.most and len(copy._contacts) == 3


def test_entry_larger_than_the_copy_is_not_kept():
    copy = LocalCopy(100)
    copy.put("a", one(1), 1.0)
    assert (len(copy), copy.bytes) == (0, 0)
