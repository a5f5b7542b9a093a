"""Amplification: what is repeated to sources that never acknowledge anything is bounded, RFC 3261 §13.3.1.4, §17.2.1."""

from __future__ import annotations

from collections import Counter

import gevent
import pytest

from sippet_gevent import Limits, Reject, forward, parse
from sippet_gevent.engine.amplification import ACKNOWLEDGED, BYES, COPIES, Amplification
from sippet_gevent.testing import SERVER

from ..core.wire import Peer

CALLER = "10.0.0.50"
RFC_COPIES = 11
"""Of a final response, at 0, 0.5, 1.5, 3.5, 7.5, 11.5 … 31.5 seconds."""


def busy(request, tx):
    return 486


def answering(request, tx):
    """Rings, answers and returns, as a core that hands its calls over."""
    if request.method != "INVITE":
        return 200
    tx.respond(180)
    tx.accept()
    return None


class Forger(Peer):
    """Sends INVITEs, and acknowledges nothing. Counts the packets of each INVITE."""

    def __init__(self, sip, host):
        self.packets = Counter()
        self.size = 0
        self.sent = 0
        super().__init__(sip, host)

    def _receive(self, data, flow):
        message = parse(data)
        self.packets[message.call_id] += 1
        self.size += len(data)

    def forge(self, number):
        """Send this many INVITEs at one moment."""
        for _ in range(number):
            self.sent += 1
            invite = self.request("INVITE", call_id=f"{self.host}-{self.sent}")
            self._transport.connect((SERVER, 5060)).send(bytes(invite))
        self.sip.settle()


def flood(sip, forger, *, seconds, rate, step=0.1):
    """Let an attack go on for some seconds."""
    for _ in range(round(seconds / step)):
        forger.forge(round(rate * step))
        sip.clock.advance(step)


def call(stack):
    """Call the server, hang up when it answers, and return its final status."""
    try:
        with stack.invite(f"sip:bob@{SERVER}") as made:
            return made.response.status
    except Reject as refusal:
        return refusal.status


# ---- below the bound


@pytest.mark.rfc("3261 17.2.1")
@pytest.mark.parametrize("core", [busy, answering], ids=["486", "200"])
def test_schedule_of_the_rfc_holds_for_a_hundred_sources(sip, core):
    stack = sip.serve(core)
    forger = Forger(sip, CALLER)
    forger.forge(100)
    sip.clock.advance(31.9)
    assert set(forger.packets.values()) == {RFC_COPIES + (core is answering)}
    assert stack.stats()["unacknowledged"]["repeating"] == 100
    assert stack.stats()["unacknowledged"]["copies_stopped"] == 0
    sip.clock.advance(64)
    assert stack.stats()["unacknowledged"]["repeating"] == 0


@pytest.mark.rfc("3261 17.2.1")
def test_copies_stop_at_the_first_source_over_the_bound(sip):
    stack = sip.serve(busy, limits=Limits(unacknowledged=5))
    forger = Forger(sip, CALLER)
    forger.forge(5)
    sip.clock.advance(7.6)
    assert set(forger.packets.values()) == {5}
    forger.forge(1)
    sip.clock.advance(20)
    # until the sixth was repeated, the others were repeated by the schedule
    assert forger.packets.pop(f"{CALLER}-6") == COPIES
    assert set(forger.packets.values()) == {5}
    assert stack.stats()["unacknowledged"]["copies_stopped"] > 0


def test_bound_of_0_keeps_the_schedule(sip):
    sip.serve(busy, limits=Limits(unacknowledged=0))
    forger = Forger(sip, CALLER)
    forger.forge(150)
    sip.clock.advance(31.9)
    assert set(forger.packets.values()) == {RFC_COPIES}


def test_bound_can_change_while_the_stack_runs(sip):
    stack = sip.serve(busy)
    stack.engine.use_limits(Limits(unacknowledged=3))
    forger = Forger(sip, CALLER)
    forger.forge(4)
    sip.clock.advance(31.9)
    assert set(forger.packets.values()) == {COPIES}


# ---- above it


@pytest.mark.parametrize("core", [busy, answering], ids=["486", "200"])
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_forged_invites_get_8_packets_and_honest_callers_are_served(sip, core, loss):
    stack = sip.serve(core)
    if loss:
        sip.lossy(loss=loss, seed=11)
    forger = Forger(sip, CALLER)
    honest = []
    for second in range(4):
        flood(sip, forger, seconds=0.3, rate=1000)
        caller = sip.stack(host=f"10.0.1.{second}")
        honest += [gevent.spawn(call, caller) for _ in range(4)]
    sip.clock.advance(120)
    assert [each.get() for each in honest] == [486 if core is busy else 200] * len(honest)
    assert len(forger.packets) >= 1200 * (1 - 2 * loss)
    over = [number for number in forger.packets.values() if number > 8]
    assert len(over) <= 100
    counts = stack.stats()["unacknowledged"]
    assert 0 < counts["bytes"] < forger.size / (1 - 2 * loss)
    assert counts["copies_stopped"] > 0
    assert (counts["repeating"], stack.stats()["server_transactions"]) == (0, 0)


def test_bye_to_a_source_that_never_acknowledged_is_sent_twice(sip):
    sip.serve(answering, limits=Limits(unacknowledged=2))
    forger = Forger(sip, CALLER)
    forger.forge(6)
    sip.clock.advance(120)
    assert set(forger.packets.values()) == {1 + COPIES + BYES}


@pytest.mark.rfc("3262 3")
def test_reliable_183_and_its_504_share_the_copies_of_one_request(sip):
    def early(request, tx):
        tx.respond(183, reliable=True)
        tx.wait(300)

    sip.serve(early, limits=Limits(unacknowledged=2))
    forger = Forger(sip, CALLER)
    for number in range(4):
        invite = forger.request("INVITE", call_id=f"{number}", supported="100rel")
        forger.send(invite)
    sip.clock.advance(120)
    assert max(forger.packets.values()) <= 8


def test_relayed_200_is_bounded_in_a_proxy(sip):
    callee = Forger(sip, "10.0.0.61")

    def _answer(data, flow):
        message = parse(data)
        if message.method == "INVITE":
            response = message.response(200, contact="<sip:bob@10.0.0.61>")
            for _ in range(RFC_COPIES):
                flow.send(bytes(response))

    callee._transport.receive = _answer
    stack = sip.serve(
        lambda request, tx: forward(request, tx, "sip:10.0.0.61"), limits=Limits(unacknowledged=2)
    )
    forger = Forger(sip, CALLER)
    forger.forge(6)
    sip.clock.advance(100)
    assert stack.stats()["unacknowledged"]["repeating"] == 0
    if forger.packets:
        assert min(forger.packets.values()) <= COPIES + 1


# ---- what proves a source


def ring_and_flood(sip, stack, caller, prove):
    """Let `caller` prove itself, and then not acknowledge a call amid forged ones. Returns its copies."""
    prove()
    forger = Forger(sip, "10.0.0.99")
    forger.forge(20)
    before = len(caller.responses)
    caller.ask("INVITE")
    sip.clock.advance(31.9)
    finals = [r for r in caller.responses[before:] if r.cseq.method == "INVITE" and r.status >= 200]
    return len(finals)


def test_ack_to_a_refusal_proves_its_source(sip):
    stack = sip.serve(busy, limits=Limits(unacknowledged=5))
    caller = Peer(sip, CALLER)

    def prove():
        invite = caller.ask("INVITE")
        refusal = caller.responses[-1]
        caller.send(
            caller.request(
                "ACK", via=invite.via, from_=invite.from_, to=refusal.to, call_id=invite.call_id,
                cseq="1 ACK",
            )
        )  # fmt: skip

    assert ring_and_flood(sip, stack, caller, prove) == RFC_COPIES
    assert stack.stats()["unacknowledged"]["acknowledged_sources"] == 1


def test_ack_without_our_tag_proves_nothing(sip):
    stack = sip.serve(busy, limits=Limits(unacknowledged=5))
    caller = Peer(sip, CALLER)

    def forge_ack():
        invite = caller.ask("INVITE")
        caller.send(
            caller.request(
                "ACK", via=invite.via, from_=invite.from_, to=f"{invite.to};tag=guessed",
                call_id=invite.call_id, cseq="1 ACK",
            )
        )  # fmt: skip

    assert ring_and_flood(sip, stack, caller, forge_ack) == COPIES
    assert stack.stats()["unacknowledged"]["acknowledged_sources"] == 0


def test_ack_of_a_call_proves_its_source(sip):
    stack = sip.serve(answering, limits=Limits(unacknowledged=5))
    caller = Peer(sip, CALLER)

    def prove():
        invite = caller.ask("INVITE")
        caller.send(caller.within(invite, caller.responses[-1], "ACK"))

    assert ring_and_flood(sip, stack, caller, prove) == RFC_COPIES
    assert stack.stats()["unacknowledged"]["acknowledged_sources"] == 1


def test_hosts_that_have_acknowledged_are_bounded():
    bound = Amplification(100)
    for number in range(ACKNOWLEDGED + 10):
        bound.acknowledge(f"host{number}")
    assert len(bound.acknowledged) == ACKNOWLEDGED
    assert "host0" not in bound.acknowledged and f"host{ACKNOWLEDGED}" in bound.acknowledged
