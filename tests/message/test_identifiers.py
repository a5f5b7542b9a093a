"""Identifiers: branches, tags and Call-IDs of one element."""

from __future__ import annotations

import re

import pytest

from sippet_gevent import InvalidValue
from sippet_gevent.message.identifiers import Identifiers


@pytest.mark.parametrize(
    ("owner", "mark"), [("", ""), ("a", "~a"), ("Z", "~Z")], ids=["none", "a", "Z"]
)
def test_identifiers_begin_with_their_owner(owner, mark):
    made = Identifiers(owner)
    assert re.fullmatch(f"z9hG4bK{mark}[0-9a-f]{{32}}", made.branch())
    assert re.fullmatch(f"{mark}[0-9a-f]{{16}}", made.tag())
    assert re.fullmatch(f"{mark}[0-9a-f]{{32}}", made.call_id())


@pytest.mark.parametrize("make", ["branch", "tag", "call_id"])
def test_identifiers_differ_each_time(make):
    made = Identifiers("a")
    assert len({getattr(made, make)() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("owner", ["ab", "1", "~", "\u00e4", " "])
def test_owner_that_is_no_letter_is_refused(owner):
    with pytest.raises(InvalidValue, match="owner must be one letter"):
        Identifiers(owner)
