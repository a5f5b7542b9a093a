"""RFC 5407, the races of calls, between two stacks: both roles are ours."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Reject, SIPError, TransactionTimeout

from .flow import AUDIO, DELAY, Flow, Flows, play

flows = Flows(5407)

ANSWERED = """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200
    Alice -> Bob: ACK
"""


def two(flow: Flow, **options):
    """Alice and Bob. Bob rings for a second, and then answers."""
    return flow.phone("Alice"), flow.phone("Bob", **options)


def talking(flow: Flow, **options):
    """Alice and Bob in a call that Alice has placed."""
    alice, bob = two(flow, **options)
    alice.invite(bob)
    flow.wait(1.5)
    return alice, bob


def early_call(phone):
    """The call of a phone that no program holds yet."""
    (call,) = phone.stack.dialogs._calls.values()
    return call


def raises(greenlet: gevent.Greenlet) -> BaseException:
    """Return what a greenlet has raised."""
    with pytest.raises(Exception) as raised:
        greenlet.get(timeout=1)
    return raised.value


# ---- 3.1 receiving messages in the moratorium state


@flows(
    "3.1.1",
    "callee receives a repeated INVITE while it waits for the ACK",
    """
    Alice -> Bob: INVITE
    Bob -x Alice: 180
    Alice -> Bob: INVITE
    Bob -> Alice: 200
    Alice -> Bob: ACK
    Alice -> Bob: BYE/200
    """,
)
def repeated_invite(flow):
    # T1 is 0.5 s: the INVITE is repeated while the 200 is under way
    alice, bob = two(flow, rings=0.5 - DELAY)
    flow.lose("180 (INVITE)")
    call = alice.invite(bob)
    flow.wait(1)
    assert call.get().acknowledged and bob.call.acknowledged
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.1.2",
    "callee receives a CANCEL while it waits for the ACK",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Alice -> Bob: CANCEL
    Bob -> Alice: 200 (INVITE)
    Bob -> Alice: 200 (CANCEL)
    Alice -> Bob: ACK
    Alice -> Bob: BYE/200
    """,
)
def cancel_meets_200(flow):
    alice, bob = two(flow)
    call = alice.invite(bob, timeout=1 + DELAY)  # then Bob answers
    flow.wait(2)
    assert isinstance(raises(call), TransactionTimeout)
    assert bob.call.end.by == "peer" and bob.call.end.cause == "bye"


@flows(
    "3.1.3",
    "callee receives the BYE of an early dialog while it waits for the ACK",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200 (INVITE)
    Alice -> Bob: BYE
    Bob -> Alice: 200 (BYE)
    Alice -> Bob: ACK
    """,
)
def early_bye_meets_200(flow):
    alice, bob = two(flow)
    call = alice.invite(bob)
    flow.wait(1 + DELAY - 0.00001)
    flow.go(early_call(alice).request, "BYE")
    flow.wait(2)
    assert call.get().ended.is_set() and call.get().end.by == "us"


@flows(
    "3.1.4",
    "callee receives a re-INVITE while the ACK with no answer is lost",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200
    Alice -x Bob: ACK
    Alice -> Bob: INVITE
    Bob -> Alice: 200
    Alice -> Bob: ACK
    Bob -> Alice: 200
    Alice -> Bob: ACK
    Alice -> Bob: BYE/200
    """,
)
def reinvite_before_the_ack(flow):
    alice, bob = two(flow)
    alice.invite(bob)
    flow.lose("ACK")
    flow.wait(1 + DELAY + 0.5 - 0.00001)  # T1 after its 200, Bob repeats it
    hold = alice.do("hold")
    flow.wait(1)
    hold.get(timeout=1)
    assert bob.call.is_confirmed and bob.stack.dialogs
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.1.5",
    "callee receives a re-INVITE while the ACK with its answer is lost",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200
    Alice -x Bob: ACK
    Alice -> Bob: INVITE
    Bob -> Alice: 200
    Alice -> Bob: ACK
    Bob -> Alice: 491
    Alice -> Bob: ACK
    Alice -> Bob: INVITE/200/ACK
    Alice -> Bob: BYE/200
    """,
)
def reinvite_before_the_answer(flow):
    from sippet_gevent import sdp

    alice, bob = two(flow)
    alice.invite(
        bob, media=None,
        on_offer=lambda offer, call: sdp.answer(
            offer, [AUDIO], address=alice.host, previous=call.local_sdp
        ),
    )  # fmt: skip
    flow.lose("ACK")
    flow.wait(1 + DELAY + 0.5 - 0.00001)
    hold = alice.do("hold")
    flow.wait(6)  # one more INVITE, 2.1 to 4 s after the 491 (RFC 3261 §14.1)
    hold.get(timeout=1)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.1.6",
    "callee receives a BYE while it waits for the ACK",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200 (INVITE)
    Alice -x Bob: ACK
    Alice -> Bob: BYE
    Bob -> Alice: 200 (INVITE)
    Alice -> Bob: ACK
    Bob -> Alice: 200 (BYE)
    """,
)
def bye_before_the_ack(flow):
    alice, bob = two(flow)
    alice.invite(bob)
    flow.lose("ACK")
    flow.wait(1 + DELAY + 0.5 - 0.00001)
    alice.do("hangup")
    flow.wait(1)


# ---- 3.2 receiving messages in the mortal state


@flows(
    "3.2.1",
    "both send a BYE",
    ANSWERED
    + """
    Alice -> Bob: BYE
    Bob -> Alice: BYE
    Alice -> Bob: 200 (BYE)
    Bob -> Alice: 200 (BYE)
    """,
)
def crossing_byes(flow):
    alice, bob = talking(flow)
    alice.call.hangup()
    bob.call.hangup()
    flow.wait(1)


@flows(
    "3.2.2",
    "a re-INVITE meets a BYE",
    ANSWERED
    + """
    Alice -> Bob: BYE
    Bob -> Alice: INVITE
    Alice -> Bob: 481 (INVITE)
    Bob -> Alice: 200 (BYE)
    Bob -> Alice: ACK
    """,
)
def reinvite_meets_bye(flow):
    alice, bob = talking(flow)
    alice.call.hangup()
    refused = bob.do("reinvite")
    flow.wait(1)
    assert isinstance(raises(refused), SIPError)


@flows(
    "3.2.3",
    "the 200 of a re-INVITE meets the BYE of its sender",
    ANSWERED
    + """
    Bob -> Alice: INVITE
    Bob -> Alice: BYE
    Alice -> Bob: 200 (INVITE)
    Alice -> Bob: 200 (BYE)
    Bob -> Alice: ACK
    """,
)
def answer_meets_bye(flow):
    alice, bob = talking(flow)
    bob.do("reinvite")
    flow.wait(DELAY - 0.00002)
    bob.do("hangup")
    flow.wait(1)


@flows(
    "3.2.4",
    "the ACK of the caller meets the BYE of the callee",
    """
    Alice -> Bob: INVITE
    Bob -> Alice: 180
    Bob -> Alice: 200 (INVITE)
    Alice -> Bob: ACK
    Bob -> Alice: BYE
    Alice -> Bob: 200 (BYE)
    """,
)
def ack_meets_bye(flow):
    # RFC 3261 §15 forbids the callee a BYE before the ACK, so Bob's waits for it
    alice, bob = two(flow)
    alice.invite(bob)
    flow.wait(1 + DELAY + 0.01)
    early_call(bob).hangup()
    flow.wait(1)


# ---- 3.3 others


@flows(
    "3.3.1",
    "two re-INVITEs cross",
    ANSWERED
    + """
    Alice -> Bob: INVITE
    Bob -> Alice: INVITE
    Alice -> Bob: 491
    Bob -> Alice: 491
    Alice -> Bob: ACK
    Bob -> Alice: ACK
    Bob -> Alice: INVITE
    Alice -> Bob: 200
    Bob -> Alice: ACK
    Alice -> Bob: INVITE/200/ACK
    Alice -> Bob: BYE/200
    """,
)
def crossing_reinvites(flow):
    alice, bob = talking(flow)
    hold, refresh = alice.do("hold"), bob.do("reinvite")
    refused_at = flow.sip.clock.now() + 2 * DELAY
    flow.wait(6)
    hold.get(timeout=1)
    refresh.get(timeout=1)
    again = [
        (time - refused_at, arrow.source)
        for time, arrow in flow.sent()[-12:]
        if arrow.label == "INVITE" and time > refused_at
    ]
    assert [source for _, source in again] == ["Bob", "Alice"]
    assert 0 <= again[0][0] <= 2.0  # it does not own the Call-ID (RFC 3261 §14.1)
    assert 2.1 <= again[1][0] <= 4.0  # the owner
    assert alice.call.is_held
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.3.2",
    "an UPDATE with an offer crosses a re-INVITE",
    ANSWERED
    + """
    Alice -> Bob: UPDATE
    Bob -> Alice: INVITE
    Alice -> Bob: 491 (INVITE)
    Bob -> Alice: 491 (UPDATE)
    Bob -> Alice: ACK
    Bob -> Alice: INVITE
    Alice -> Bob: 200
    Bob -> Alice: ACK
    Alice -> Bob: UPDATE/200
    Alice -> Bob: BYE/200
    """,
)
def update_crosses_reinvite(flow):
    alice, bob = talking(flow)
    update, refresh = alice.do("update", media=[AUDIO]), bob.do("reinvite")
    flow.wait(6)
    update.get(timeout=1)
    refresh.get(timeout=1)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.3.2 refresh",
    "an UPDATE without an offer crosses a re-INVITE",
    ANSWERED
    + """
    Alice -> Bob: UPDATE
    Bob -> Alice: INVITE
    Alice -> Bob: 200 (INVITE)
    Bob -> Alice: 200 (UPDATE)
    Bob -> Alice: ACK
    Alice -> Bob: BYE/200
    """,
)
def refresh_crosses_reinvite(flow):
    alice, bob = talking(flow)
    update, refresh = alice.do("update"), bob.do("reinvite")
    flow.wait(1)
    update.get(timeout=1)
    refresh.get(timeout=1)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.3.2 updates",
    "two UPDATEs without an offer cross",
    ANSWERED
    + """
    Alice -> Bob: UPDATE
    Bob -> Alice: UPDATE
    Alice -> Bob: 200
    Bob -> Alice: 200
    Alice -> Bob: BYE/200
    """,
)
def crossing_updates(flow):
    alice, bob = talking(flow)
    one, other = alice.do("update"), bob.do("update")
    flow.wait(1)
    one.get(timeout=1)
    other.get(timeout=1)
    alice.do("hangup")
    flow.wait(1)


@flows(
    "3.3.3",
    "a REFER meets a BYE",
    ANSWERED
    + """
    Alice -> Bob: BYE
    Bob -> Alice: REFER
    Alice -> Bob: 481 (REFER)
    Bob -> Alice: 200 (BYE)
    """,
)
def refer_meets_bye(flow):
    alice, bob = talking(flow)
    alice.call.hangup()
    refused = bob.do("transfer", "sip:carol@10.0.0.99")
    flow.wait(1)
    refusal = raises(refused)
    assert isinstance(refusal, Reject) and refusal.status == 481


@flows(
    "B",
    "a re-INVITE that was lost is repeated after the BYE",
    ANSWERED
    + """
    Alice -x Bob: INVITE
    Alice -> Bob: BYE/200
    Alice -> Bob: INVITE
    Bob -> Alice: 481
    Alice -> Bob: ACK
    """,
)
def reinvite_after_bye(flow):
    alice, _ = talking(flow)
    flow.lose("INVITE")
    refused = alice.do("reinvite")
    flow.wait(0.1)
    alice.do("hangup")
    flow.wait(1)
    assert isinstance(raises(refused), SIPError)


@pytest.mark.parametrize(("arrows", "script"), flows.parameters())
def test_flow(sip, arrows, script):
    play(sip, arrows, script)
