"""Dispatcher: what a stack's core and identifiers do for a received message."""

from __future__ import annotations

from sippet_gevent.message.identifiers import Identifiers

from .wire import Peer


def test_stack_with_an_owner_marks_what_it_makes(sip):
    stack = sip.serve(lambda request, tx: 200)
    stack.identifiers = Identifiers("k")
    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    peer.ask("OPTIONS")
    assert peer.responses[0].to.tag.startswith("~k")
    sip.run(stack.request, "OPTIONS", peer.uri)
    request = peer.last("OPTIONS")
    assert request.via[0].branch.startswith("z9hG4bK~k")
    assert request.from_.tag.startswith("~k") and request.call_id.startswith("~k")


def test_stack_without_an_owner_marks_nothing(sip):
    stack = sip.serve(lambda request, tx: 200)
    peer = Peer(sip, "10.0.0.50", answer=lambda request: 200)
    sip.run(stack.request, "OPTIONS", peer.uri)
    assert "~" not in str(peer.last("OPTIONS"))
