"""stack.tap(): an observer is told of each message that a stack receives and sends."""

from __future__ import annotations

import logging

import gevent
import pytest

from sippet_gevent import Request, Stack, TransportError
from sippet_gevent.observe.ladder import Ladder

from ..core.wire import Peer


@pytest.fixture
def peer(sip):
    return Peer(sip, "10.0.0.50", answer=lambda request: 200)


def lines(passages):
    """Return the direction and the first two words of each message."""
    return [(seen.direction, b" ".join(seen.data.split(b" ")[:2]).decode()) for seen in passages]


def test_request_and_its_answer_are_told_in_order(sip, peer):
    stack, seen = sip.serve(lambda request, tx: 200), []
    stack.tap(seen.append)
    peer.ask("OPTIONS")
    assert lines(seen) == [("in", "OPTIONS sip:bob@10.0.0.1"), ("out", "SIP/2.0 200")]
    assert {passage.transaction for passage in seen} == {seen[0].transaction} != {None}
    assert {passage.flow.remote for passage in seen} == {("10.0.0.50", 5060)}
    assert seen[0].data == sip.network.trace[0].data
    assert seen[0].time == pytest.approx(sip.network.trace[0].time, abs=1e-4)


def test_ack_to_2xx_and_dialog_are_told(sip, peer):
    stack, seen = sip.serve(lambda request, tx: tx.accept(body="b").hangup()), []
    stack.tap(seen.append)
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "ACK"))
    assert [line for _, line in lines(seen)] == [
        "INVITE sip:bob@10.0.0.1",
        "SIP/2.0 200",
        f"ACK {peer.responses[0].contact[0].uri}",
        "BYE sip:10.0.0.50:5060",
        "SIP/2.0 200",
    ]
    call_id, theirs, ours = seen[1].dialog
    assert (call_id, theirs) == (invite.call_id, invite.from_.tag)
    assert seen[3].dialog == (call_id, ours, theirs)


def test_ack_that_a_caller_sends_is_told(sip, peer):
    seen = []
    sip.client.tap(seen.append)
    peer.answer = lambda request: request.response(200, contact=f"<{peer.uri}>")
    call = sip.run(sip.client.invite, peer.uri)
    assert [line.split()[0] for _, line in lines(seen)] == ["INVITE", "SIP/2.0", "ACK"]
    sip.run(call.hangup)


def test_retransmission_is_told_each_time(sip):
    seen = []
    sip.client.tap(seen.append)
    sip.client.send(Request("OPTIONS", "sip:bob@10.0.0.77"), next_hop="sip:10.0.0.77")
    sip.advance(1.6)
    assert lines(seen) == [("out", "OPTIONS sip:bob@10.0.0.77")] * 3


@pytest.mark.parametrize(
    "data", [b"OPTIONS nonsense", b"OPTIONS sip:b@x SIP/2.0\r\n\r\n", b"\r\n\r\n"]
)
def test_message_that_cannot_be_read_is_told(sip, peer, data):
    stack, seen = sip.serve(lambda request, tx: 200), []
    stack.tap(seen.append)
    peer.send(data)
    assert seen[0].data == data
    assert (seen[0].transaction, seen[0].dialog) == (None, None)


def test_message_that_a_filter_drops_is_told(sip, peer):
    stack = sip.stack(lambda request, tx: 200, host="10.0.0.1", accept=lambda data, flow: False)
    seen = []
    stack.tap(seen.append)
    peer.ask("OPTIONS")
    assert lines(seen) == [("in", "OPTIONS sip:bob@10.0.0.1")]


def test_message_that_was_not_sent_is_not_told(sip):
    seen = []
    sip.client.tap(seen.append)
    sip.client.engine.transports[0].failure = "no route"
    tx = sip.client.send(Request("OPTIONS", "sip:bob@10.0.0.77"), next_hop="sip:10.0.0.77")
    with pytest.raises(TransportError, match="no route"):
        sip.run(tx.final)
    assert seen == []


def test_closed_observer_is_told_nothing_and_the_other_goes_on(sip, peer):
    stack, first, second = sip.serve(lambda request, tx: 200), [], []
    stack.tap(second.append)
    with stack.tap(first.append) as listening:
        peer.ask("OPTIONS")
    listening.close()
    peer.ask("OPTIONS")
    assert (len(first), len(second)) == (2, 4)


def test_last_closed_observer_leaves_nothing_to_tell():
    stack = Stack()
    stack.tap(print).close()
    assert stack.engine.tap is None


def test_observer_that_raises_is_logged_and_the_message_served(sip, peer, caplog):
    stack = sip.serve(lambda request, tx: 200)
    stack.tap(lambda passage: 1 / 0)
    with caplog.at_level(logging.ERROR):
        peer.ask("OPTIONS")
    assert peer.statuses == [200]
    assert "ZeroDivisionError" in caplog.text and "tap failed" in caplog.text


def test_stack_of_an_application_is_told_on_the_network_of_a_test(sip, peer):
    stack, seen = Stack("udp:10.0.0.1:5060", core=lambda request, tx: 200), []
    stack.tap(seen.append)
    sip.serve(stack)
    peer.ask("OPTIONS")
    assert len(seen) == 2


def test_ladder_draws_what_a_stack_receives_and_sends(sip, peer):
    stack, ladder = sip.serve(lambda request, tx: 200), Ladder()
    assert str(ladder) == "(no messages)"
    stack.tap(ladder)
    peer.ask("OPTIONS")
    hosts, request, answer = str(ladder).splitlines()
    assert hosts.split() == ["10.0.0.1", "10.0.0.50"]
    assert "<-OPTIONS sip:bob@10.0.0.1-" in request and "200 OK-" in answer and ">" in answer


@pytest.mark.parametrize("wrong", [None, 7, lambda: None, lambda one, two: None])
def test_observer_that_cannot_be_called_is_refused(sip, wrong):
    with pytest.raises(TypeError, match="tap"):
        sip.client.tap(wrong)


def test_observer_that_is_given_twice_is_closed_once_each(sip, peer):
    stack, seen = sip.serve(lambda request, tx: 200), []
    observe = seen.append
    first, second = stack.tap(observe), stack.tap(observe)
    first.close()
    first.close()
    peer.ask("OPTIONS")
    assert len(seen) == 2
    second.close()
    assert len(stack.engine.tap.observations) == 1  # the ladder of the fixture


def test_observer_that_raises_a_timeout_loses_no_message(sip, peer):
    def observe(passage):
        raise gevent.Timeout(1)

    sip.serve(lambda request, tx: 200).tap(observe)
    peer.ask("OPTIONS")
    assert peer.statuses == [200]
