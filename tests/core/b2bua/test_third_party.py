"""call_a.bridge(call_b): third-party call control, RFC 3725."""

from __future__ import annotations

import pytest

from sippet_gevent import InvalidValue, Reject, TransactionStateError, bridge
from sippet_gevent.core.b2bua.third_party import ask_for_offer, reoffer
from sippet_gevent.core.dialog.negotiation import same_session

from ..wire import Peer, host_of, start
from .phones import CALLEE, CALLER, Phones, body, describe

NOTHING = describe("10.0.0.2", port=0, direction="inactive")


class Pair:
    """Two calls that a program places, and their peers."""

    def __init__(self, sip):
        self.sip = sip
        self.alice, self.bob = Peer(sip, CALLER), Peer(sip, CALLEE)
        self.stack = sip.client
        self.at = host_of(sip.client)

    def place(self, peer, description, answer):
        greenlet = start(self.sip, self.stack.invite, peer.uri, body=description)
        self.reply(peer, answer)
        return greenlet.get()

    def reply(self, peer, description):
        request = peer.last("INVITE")
        response = peer.reply(request, 200, contact=f"<{peer.uri}>", **body(description))
        peer.first = getattr(peer, "first", (request, response))

    def hang_up(self, peer, other):
        request, response = peer.first
        peer.send(peer.back(request, response, "BYE"), to=self.at)
        other.reply(other.last("BYE"), 200)


@pytest.fixture
def pair(sip):
    return Pair(sip)


ALICE, BOB = describe(CALLER), describe(CALLEE)


@pytest.mark.rfc("3725 4.1")
def test_flow_i_answers_the_first_peer_in_the_ack(pair):
    alice = pair.place(pair.alice, b"", ALICE)
    bob = pair.place(pair.bob, alice.remote_body, BOB)
    bridged = start(pair.sip, alice.bridge, bob)
    assert pair.alice.methods == ["INVITE", "ACK"]
    assert pair.alice.last("ACK").body == BOB
    assert pair.bob.methods == ["INVITE", "ACK"]
    assert pair.bob.last("INVITE").body == ALICE
    pair.hang_up(pair.bob, pair.alice)
    ends = bridged.get()
    assert (ends.caller.by, ends.callee.by) == ("us", "peer")


@pytest.mark.rfc("3725 4.4")
def test_flow_iv_moves_the_first_peer_to_the_offer_of_the_second(pair):
    alice = pair.place(pair.alice, NOTHING, ALICE)
    bob = pair.place(pair.bob, b"", BOB)
    bridged = start(pair.sip, alice.bridge, bob)
    assert pair.alice.methods == ["INVITE", "ACK", "INVITE"]
    assert same_session(pair.alice.last("INVITE").body, BOB)
    assert pair.bob.methods == ["INVITE"]
    pair.reply(pair.alice, describe(CALLER, version=2))
    assert pair.bob.methods == ["INVITE", "ACK"]
    assert pair.bob.last("ACK").body == describe(CALLER, version=2)
    pair.hang_up(pair.alice, pair.bob)
    assert bridged.get().caller.by == "peer"


@pytest.mark.rfc("3725 7")
def test_calls_with_sessions_are_connected_by_two_reinvites(pair):
    alice = pair.place(pair.alice, NOTHING, ALICE)
    bob = pair.place(pair.bob, NOTHING, BOB)
    bridged = start(pair.sip, alice.bridge, bob)
    assert pair.alice.last("INVITE").body == b""
    pair.reply(pair.alice, describe(CALLER, version=2))
    assert same_session(pair.bob.last("INVITE").body, describe(CALLER, version=2))
    pair.reply(pair.bob, describe(CALLEE, version=2))
    assert same_session(pair.alice.last("ACK").body, describe(CALLEE, version=2))
    # what one side sends then reaches the other
    request, response = pair.alice.first
    pair.alice.send(pair.alice.back(request, response, "INFO", number=7), to=pair.at)
    pair.bob.reply(pair.bob.last("INFO"), 200)
    assert pair.alice.statuses[-1] == 200
    pair.alice.send(pair.alice.back(request, response, "BYE", number=8), to=pair.at)
    pair.bob.reply(pair.bob.last("BYE"), 200)
    assert bridged.get()


def test_both_offers_wait_and_the_first_is_refused(pair):
    alice = pair.place(pair.alice, b"", ALICE)
    bob = pair.place(pair.bob, b"", BOB)
    bridged = start(pair.sip, alice.bridge, bob)
    assert b"m=audio 0 " in pair.alice.last("ACK").body
    assert same_session(pair.alice.last("INVITE").body, BOB)
    pair.reply(pair.alice, describe(CALLER, version=2))
    assert pair.bob.last("ACK").body == describe(CALLER, version=2)
    pair.hang_up(pair.alice, pair.bob)
    assert bridged.get()


def test_peer_that_refuses_the_session_ends_both_calls(pair):
    alice = pair.place(pair.alice, NOTHING, ALICE)
    bob = pair.place(pair.bob, b"", BOB)
    bridged = start(pair.sip, alice.bridge, bob)
    pair.alice.reply(pair.alice.last("INVITE"), 488)
    for peer in (pair.alice, pair.bob):
        assert peer.methods[-1] == "BYE"
        peer.reply(peer.last("BYE"), 200)
    assert pair.bob.methods == ["INVITE", "ACK", "BYE"]
    with pytest.raises(Reject):
        bridged.get()


def test_call_that_cannot_be_bridged_is_an_error(pair):
    alice = pair.place(pair.alice, NOTHING, ALICE)
    bob = pair.place(pair.bob, NOTHING, BOB)
    with pytest.raises(InvalidValue):
        alice.bridge(alice)
    with pytest.raises(TypeError, match=r"write call\.bridge\(stack\.invite\(target\)\)"):
        alice.bridge("sip:bob@example.com")
    bob.hangup()
    pair.sip.settle()
    pair.bob.reply(pair.bob.last("BYE"), 200)
    with pytest.raises(TransactionStateError):
        alice.bridge(bob)
    alice.hangup()
    pair.sip.settle()
    pair.alice.reply(pair.alice.last("BYE"), 200)


def test_side_that_has_ended_meanwhile_is_refused_with_481(sip):
    served = []

    def core(request, tx):
        served.append(tx)
        bridge(request, tx, f"sip:bob@{CALLEE}")

    phones = Phones(sip, core=core)
    phones.answer()
    leg = served[0].call.leg.peer
    connection = leg.bridge
    phones.end()
    for ask in (ask_for_offer, lambda leg: reoffer(connection, leg, leg, describe())):
        with pytest.raises(Reject) as refused:
            sip.run(ask, leg)
        assert refused.value.status == 481


def test_bridge_after_the_answer_says_how_to_connect_the_call(sip):
    told = []

    def core(request, tx):
        with tx.accept(body=NOTHING):
            try:
                bridge(request, tx, "sip:bob@192.0.2.20")
            except TransactionStateError as error:
                told.append(str(error))

    sip.ask(core, "INVITE sip:bob@example.com", **body(ALICE))
    sip.settle()
    assert told == [
        "the request is answered already with 200: write call.bridge(stack.invite(target))"
    ]
