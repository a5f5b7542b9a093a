"""A phone that loses power in a call: nothing of the call is left after 31 minutes, RFC 4028 §10."""

from __future__ import annotations

import pytest

from sippet_gevent.core.dialog.rule import Rules
from sippet_gevent.core.dialog.rules import RULES
from sippet_gevent.core.dialog.session_interval import TIMER

from .flow import DELAY, Flow, left_by

DEAD = 31 * 60
"""Seconds after which nothing may be left: the session interval of 1800, and 64*T1."""

HALF = 900.0
"""Seconds until the refresh."""


def without_timer(stack):
    """Make a stack a peer that knows no session timers."""
    stack.dialogs.rules = Rules(row for row in RULES.rows if row.option_tag != TIMER)


class Cut:
    """Two phones in a call, one of which loses its power."""

    def __init__(self, sip, survivor, *, refresher="", has_timer=True, **options):
        self.flow = flow = Flow(sip)
        self.alice, self.bob = flow.phone("Alice"), flow.phone("Bob", **options)
        self.one, self.dead = (
            (self.alice, self.bob) if survivor == "caller" else (self.bob, self.alice)
        )
        if not has_timer:
            without_timer(self.dead.stack)
        headers = {"session_expires": f"1800;refresher={refresher}"} if refresher else {}
        self.placing = self.alice.invite(self.bob, **headers)

    def talk(self, seconds):
        """Let them talk."""
        self.flow.wait(1 + 2 * DELAY + seconds)

    def power_loss(self):
        """The phone goes silent: nothing reaches it, and it sends nothing."""
        self.flow.sip.network.partition(self.alice.host, self.bob.host)

    def check(self, *causes, seconds=DEAD):
        """Check that nothing is left on the stack that has survived."""
        self.flow.wait(seconds)
        stack = self.one.stack
        assert (len(stack.dialogs), stack.dialogs.early, stack.active) == (0, 0, 0)
        if causes:
            assert self.one.call.end.cause in causes
        # the other one would have gone on with its own timer, if it had any
        for phone in (self.alice, self.bob):
            for call in phone.calls:
                call.hangup()
        self.flow.wait(40)
        assert left_by(self.flow.sip) == []


MOMENTS = (1.0, HALF - 2 * DELAY, HALF, HALF + DELAY, HALF + 10, 2 * HALF + 10)
"""Seconds of the call at which the power goes: before, during and after a refresh."""


@pytest.mark.rfc("4028 10", "4028 7.2", "4028 9")
@pytest.mark.parametrize("seconds", MOMENTS)
@pytest.mark.parametrize(
    ("refresher", "has_timer"), [("uac", True), ("uas", True), ("", True), ("", False)]
)
@pytest.mark.parametrize("survivor", ["caller", "callee"])
def test_phone_loses_power(sip, survivor, refresher, has_timer, seconds):
    cut = Cut(sip, survivor, refresher=refresher, has_timer=has_timer)
    cut.talk(seconds)
    assert not cut.one.call.ended.is_set()
    cut.power_loss()
    cut.check("expired")
    bye = next(each.data for each in sip.network.trace if each.data.startswith(b"BYE"))
    assert b"\nReason: " in bye  # the peer may be there still (§10)


@pytest.mark.rfc("4028 10")
@pytest.mark.parametrize("action", ["hold", "update", "reinvite"])
@pytest.mark.parametrize("survivor", ["caller", "callee"])
def test_phone_loses_power_while_our_request_is_under_way(sip, survivor, action):
    cut = Cut(sip, survivor)
    cut.talk(5)
    cut.power_loss()
    asked = cut.one.do(action)
    cut.check("timeout", seconds=70)  # a request without a response ends the call (§12.2.1.2)
    assert asked.exception is not None


@pytest.mark.rfc("3261 12.2.1.2")
@pytest.mark.parametrize("survivor", ["caller", "callee"])
def test_phone_loses_power_during_a_transfer(sip, survivor):
    cut = Cut(sip, survivor, follows=60)
    cut.alice._follows = 60
    cut.talk(5)
    asked = cut.one.do("transfer", "sip:carol@10.0.0.99")
    cut.flow.wait(DELAY * 1.5)  # it has the REFER, and its 202 is lost
    cut.power_loss()
    cut.check(seconds=DEAD)
    assert asked.ready()


@pytest.mark.rfc("3261 13.3.1.4")
def test_caller_loses_power_before_its_ack(sip):
    cut = Cut(sip, "callee")
    cut.flow.wait(1 + DELAY + DELAY / 2)
    cut.power_loss()
    cut.flow.wait(40)
    assert len(cut.bob.stack.dialogs) == 0
    assert cut.bob.calls == []  # accept() has raised
    for call in [*cut.alice.stack.dialogs._calls.values()]:
        call.hangup()
    cut.flow.wait(70)
    assert left_by(sip) == []


@pytest.mark.rfc("3261 9.1", "3261 13.3.1.4")
def test_caller_loses_power_while_it_rings_here(sip):
    cut = Cut(sip, "callee", rings=30)
    cut.flow.wait(5)
    cut.power_loss()
    cut.flow.wait(30 + 40)
    assert (len(cut.bob.stack.dialogs), cut.bob.stack.dialogs.early) == (0, 0)
    cut.flow.wait(250)
    assert left_by(sip) == []


@pytest.mark.rfc("3261 16.8", "3261 9.1")
def test_callee_loses_power_while_it_rings(sip):
    cut = Cut(sip, "caller", answer=None)
    cut.flow.wait(5)
    cut.power_loss()
    cut.flow.wait(250)  # timer C, and 64*T1 for the CANCEL
    assert (len(cut.alice.stack.dialogs), cut.alice.stack.dialogs.early) == (0, 0)
    assert cut.placing.exception is not None
    cut.flow.wait(400)
    assert left_by(sip) == []


@pytest.mark.rfc("4028 10")
@pytest.mark.parametrize("survivor", ["caller", "callee"])
def test_phone_loses_power_while_the_call_is_held(sip, survivor):
    cut = Cut(sip, survivor)
    cut.talk(1)
    cut.one.do("hold")
    cut.flow.wait(1)
    assert cut.one.call.is_held
    cut.power_loss()
    cut.check("expired")


@pytest.mark.rfc("4028 10")
def test_both_phones_survive_a_network_that_is_cut(sip):
    cut = Cut(sip, "caller")
    cut.talk(1)
    cut.power_loss()
    cut.flow.wait(DEAD)
    assert left_by(sip) == []
    assert [phone.call.end.cause for phone in (cut.alice, cut.bob)] == ["expired"] * 2


@pytest.mark.rfc("4028 7.2")
@pytest.mark.parametrize("has_timer", [True, False])
def test_call_of_living_phones_outlives_its_session_intervals(sip, has_timer):
    cut = Cut(sip, "caller", has_timer=has_timer)
    cut.talk(10 * HALF)
    assert not cut.alice.call.ended.is_set() and not cut.bob.call.ended.is_set()
    cut.alice.do("hangup")
    cut.flow.wait(40)
    assert left_by(sip) == []
