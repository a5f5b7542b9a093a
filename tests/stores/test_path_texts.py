"""Paths that a store in memory keeps as text."""

from __future__ import annotations

import pytest

from sippet_gevent import MemoryBindings, NameAddr, VirtualClock
from sippet_gevent.stores.bindings import compact
from sippet_gevent.stores.path_texts import PathTexts, keep_paths, read_paths
from sippet_gevent.testing.stores.samples import binding

AOR = "sip:alice@example.com"
PATHS = (
    ("<sip:edge.example.com;lr;ob>",),
    ("<sip:t0ken%2f+@[2001:db8::1]:5061;lr=on;ob;transport=tls>",),
    ('"Edge, \\"one\\"\\n" <sips:1@edge.example.com;lr>;x="a, b;c";y', "<sip:192.0.2.1;lr>"),
    ("<sip:edge%6C.example.com@192.0.2.1;LR?subject=a%0Ab>", "<sip:b@h;lr>", "<sip:c@h;lr>"),
    ("Edge  <sip:%C3%A9t%25@h;a=%22>;q=0.1",),
)


def bound(*path, parts=compact, **more):
    return binding(**more)._replace(path=tuple(parts(NameAddr.parse(text)) for text in path))


@pytest.mark.rfc("3327 5.3")
@pytest.mark.parametrize("path", PATHS)
def test_path_is_read_from_its_text_as_it_was(path):
    bindings = (bound(*path), binding("<sip:b@192.0.2.9>"))
    kept = keep_paths(bindings)
    assert type(kept) is PathTexts and [type(b.path) for b in kept] == [str, tuple]
    found = read_paths(kept)
    assert type(found) is tuple and found == bindings
    assert [str(value) for value in found[0].path] == [str(value) for value in bindings[0].path]
    assert keep_paths(found) == kept  # however often


@pytest.mark.parametrize(
    "address",
    [
        NameAddr.parse("<sip:edge.example.com>").with_params(x="a b"),
        NameAddr(NameAddr.parse("<sip:h>").uri.with_params(lr=None)),
        NameAddr(NameAddr.parse("<sip:h>").uri._replace(host="no host")),
    ],
)
def test_path_that_an_application_has_made_is_kept_as_it_is(address):
    bindings = (binding()._replace(path=(address,)),)
    assert keep_paths(bindings) is bindings
    store = MemoryBindings()
    store.update(AOR, lambda before: bindings)
    assert store.lookup(AOR) is bindings


@pytest.mark.parametrize("path", PATHS)
def test_memory_returns_the_path_in_every_answer(path):
    store, told = MemoryBindings(), []
    pair = (bound(*path, now=store.now()), bound(*path, contact="<sip:b@192.0.2.9>", seconds=9e9))
    store.watch(told.append)
    assert store.update(AOR, lambda before: pair) == pair
    assert store.lookup(AOR) == pair and type(store.lookup(AOR)) is tuple
    seen = []
    assert store.update(AOR, lambda before: seen.append(before) or before) == pair == seen[0]
    store.update(AOR, lambda before: (before[0]._replace(cseq=2), before[1]))
    assert [event.kind for event in told] == ["added", "added", "refreshed"]
    removed = store.expire(store.now() + 7200, 5)
    assert removed == [(AOR, (pair[0]._replace(cseq=2),))]
    assert told[-1].kind == "expired" and told[-1].binding.path == pair[0].path
    assert store.lookup(AOR) == pair[1:]
    store.update(AOR, lambda before: ())
    assert told[-1].binding == pair[1] and store.bytes == 0


def test_clock_of_a_stack_keeps_the_path():
    store, clock = MemoryBindings(), VirtualClock()
    kept = bound(*PATHS[0], now=store.now())
    store.update(AOR, lambda before: (kept,))
    store.use_clock(clock)
    (found,) = store.lookup(AOR)
    assert found._replace(expires_at=0.0) == kept._replace(expires_at=0.0)
