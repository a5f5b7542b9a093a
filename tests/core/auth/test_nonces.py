"""Nonces: made without state, good for a time, and each count once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippet_gevent.core.auth import nonces
from sippet_gevent.core.auth.nonces import WINDOW, Age, Nonces

SOURCE = "192.0.2.1"


def test_nonce_is_valid_for_its_time():
    made = Nonces("r", seconds=300)
    nonce = made.make(1000.0, SOURCE)
    assert made.check(nonce, 1000.0) is made.check(nonce, 1299.9) is Age.VALID
    assert made.check(nonce, 1301.0) is Age.STALE
    assert made.is_for(nonce, SOURCE)
    assert not made.is_for(nonce, "192.0.2.2")


@pytest.mark.rfc("7616 5.5")
def test_nonce_from_the_future_is_stale():
    """It was made before a clock was set back, or the machine was started again."""
    made, other = Nonces("r", b"s" * 32), Nonces("r", b"s" * 32)
    nonce = made.make(1e6, SOURCE)
    assert other.check(nonce, 1e6 - 30.0) is Age.VALID
    assert other.check(nonce, 1e6 - 61.0) is other.check(nonce, 100.0) is Age.STALE


def test_nonces_differ():
    made = Nonces("r")
    assert len({made.make(1.0, SOURCE) for _ in range(1000)}) == 1000


def test_nonce_of_another_realm_or_secret_is_unknown():
    nonce = Nonces("r", b"s" * 16).make(1.0, SOURCE)
    assert Nonces("r", b"s" * 16).check(nonce, 1.0) is Age.VALID
    assert Nonces("other", b"s" * 16).check(nonce, 1.0) is Age.UNKNOWN
    assert Nonces("r", b"t" * 16).check(nonce, 1.0) is Age.UNKNOWN


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_any_text_is_unknown(text):
    made = Nonces("r")
    assert made.check(text, 1.0) is Age.UNKNOWN
    assert not made.is_for(text, SOURCE)


def test_nonce_with_any_letter_changed_is_unknown():
    made = Nonces("r")
    nonce = made.make(1.0, SOURCE)
    for at in range(len(nonce)):
        for letter in "A_z9!":
            if nonce[at] != letter:
                changed = nonce[:at] + letter + nonce[at + 1 :]
                assert made.check(changed, 1.0) is Age.UNKNOWN
    assert made.check(nonce + "=", 1.0) is Age.UNKNOWN


@settings(max_examples=100)
@given(st.lists(st.integers(1, 200), max_size=80))
def test_each_count_is_accepted_once(counts):
    made = Nonces("r")
    nonce = made.make(1.0, SOURCE)
    used: set[int] = set()
    for count in counts:
        fresh = count not in used and (not used or count > max(used) - WINDOW)
        assert made.use(nonce, count, 1.0) is fresh
        used.add(count) if fresh else None


@pytest.mark.rfc("7616 5.5")
def test_nonce_that_was_forgotten_cannot_be_used_again(monkeypatch):
    monkeypatch.setattr(nonces, "NONCES", 10)
    made = Nonces("r")
    replayed = made.make(1.0, SOURCE)
    assert made.use(replayed, 1, 1.0)
    for number in range(20):
        now = 2.0 + number / 100
        assert made.use(made.make(now, SOURCE), 1, now)
    assert len(made) == 10
    assert made.check(replayed, 3.0) is Age.STALE


def test_nonces_that_have_ended_are_forgotten():
    made = Nonces("r", seconds=10)
    for now in range(1000):
        assert made.use(made.make(float(now), SOURCE), 1, float(now))
    assert len(made) < 15


def test_order_of_use_does_not_matter(monkeypatch):
    monkeypatch.setattr(nonces, "NONCES", 5)
    made = Nonces("r")
    fresh = [made.make(float(now), SOURCE) for now in range(10)]
    random.Random(7).shuffle(fresh)
    for nonce in fresh:
        if made.check(nonce, 10.0) is Age.VALID:
            assert made.use(nonce, 1, 10.0)
            assert not made.use(nonce, 1, 10.0) or made.check(nonce, 10.0) is Age.STALE
    assert all(
        made.check(nonce, 10.0) is Age.STALE or not made.use(nonce, 1, 10.0) for nonce in fresh
    )
