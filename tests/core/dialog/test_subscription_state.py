"""Subscriptions: the state machines of subscriber and notifier, RFC 6665 §4.1.2 and §4.2.2."""

from __future__ import annotations

import math

import pytest

from sippet_gevent.core.dialog.subscription_state import (
    ENDING,
    NOTIFIER,
    SUBSCRIBER,
    Happened,
    NotifierState,
    State,
    SubscriberState,
    retry_after,
)
from sippet_gevent.message.fields.extensions import SubscriptionState

TIMER_N = 32.0


def header(text):
    return SubscriptionState.parse(text)


def subscriber(*states):
    it = SubscriberState(TIMER_N)
    it.subscribed(0.0)
    for text in states:
        it.notified(header(text), 1.0)
    return it


# ---- tables


@pytest.mark.rfc("6665 4.1.2", "6665 4.2.2")
@pytest.mark.parametrize("table", [SUBSCRIBER, NOTIFIER], ids=["subscriber", "notifier"])
def test_terminated_is_final_and_each_state_is_reached(table):
    assert table[State.TERMINATED] == {}
    reached = {state for row in table.values() for state in row.values()} | {State.INIT}
    assert reached == set(table)


@pytest.mark.rfc("6665 4.1.2")
@pytest.mark.parametrize(
    ("state", "event", "after"),
    [
        (State.NOTIFY_WAIT, Happened.TIMER_N, State.TERMINATED),
        (State.NOTIFY_WAIT, Happened.TERMINATED, State.TERMINATED),
        (State.NOTIFY_WAIT, Happened.REFUSED, State.TERMINATED),
        (State.NOTIFY_WAIT, Happened.PENDING, State.PENDING),
        (State.NOTIFY_WAIT, Happened.ACTIVE, State.ACTIVE),
        (State.PENDING, Happened.ACTIVE, State.ACTIVE),
        (State.PENDING, Happened.GONE, State.TERMINATED),
        (State.PENDING, Happened.EXPIRED, State.TERMINATED),
        (State.ACTIVE, Happened.GONE, State.TERMINATED),
        (State.ACTIVE, Happened.EXPIRED, State.TERMINATED),
        (State.ACTIVE, Happened.TERMINATED, State.TERMINATED),
    ],
)
def test_subscriber_moves_as_in_figure_1(state, event, after):
    assert SUBSCRIBER[state][event] is after


# ---- subscriber


@pytest.mark.rfc("6665 4.1.2.4")
def test_subscriber_without_notify_gives_up_with_timer_n():
    it = subscriber()
    assert (it.state, it.due) == (State.NOTIFY_WAIT, TIMER_N)
    it.expire(TIMER_N - 0.1)
    assert it.state is State.NOTIFY_WAIT
    it.expire(TIMER_N)
    assert (it.is_terminated, it.due) == (True, math.inf)


@pytest.mark.rfc("6665 4.1.3")
def test_duration_of_a_notify_counts():
    it = subscriber("active;expires=60")
    assert (it.state, it.due) == (State.ACTIVE, 61.0)
    it.notified(header("active;expires=10"), 20.0)
    assert it.due == 30.0
    it.expire(30.0)
    assert it.is_terminated


@pytest.mark.rfc("6665 4.1.3")
def test_expires_of_terminated_is_ignored():
    it = subscriber("terminated;reason=timeout;expires=60")
    assert (it.is_terminated, it.due, it.ended_by.reason) == (True, math.inf, "timeout")


@pytest.mark.rfc("6665 4.1.2.1")
@pytest.mark.parametrize("status", [403, 408, 500, 603])
def test_first_subscribe_that_is_refused_creates_nothing(status):
    it = subscriber()
    it.answered(status, 1.0)
    assert it.is_terminated


@pytest.mark.rfc("6665 4.1.2.2")
@pytest.mark.parametrize(
    ("status", "ends"),
    [(404, True), (481, True), (489, True), (604, True), (403, False), (500, False), (408, False)],
)
def test_refresh_that_is_refused_ends_the_subscription_by_its_status(status, ends):
    it = subscriber("active;expires=60")
    it.subscribed(30.0)
    it.answered(status, 31.0)
    assert it.is_terminated is ends
    if not ends:
        assert it.due == 61.0  # valid for as long as before


@pytest.mark.rfc("6665 4.1.2.2")
def test_refresh_without_notify_ends_with_timer_n():
    it = subscriber("active;expires=600")
    it.subscribed(300.0)
    it.answered(200, 301.0, 600)
    assert it.due == 300.0 + TIMER_N
    it.expire(it.due)
    assert it.is_terminated


@pytest.mark.rfc("6665 4.1.2.4")
def test_204_without_any_duration_leaves_timer_n():
    """A peer answers a REFER by 204, and never sends a NOTIFY."""
    it = SubscriberState(TIMER_N, 180)
    it.subscribed(0.0)
    it.answered(204, 1.0)
    assert it.due == TIMER_N
    it.expire(TIMER_N)
    assert it.is_terminated
    assert it.has_timed_out


@pytest.mark.rfc("6665 4.1.2.2")
def test_204_stops_timer_n():
    it = subscriber("active;expires=600")
    it.subscribed(300.0)
    it.answered(204, 301.0, 600)
    assert it.due == 901.0


def test_notify_that_comes_before_the_2xx_counts():
    it = subscriber("active;expires=60")
    it.answered(202, 2.0)
    assert (it.state, it.due) == (State.ACTIVE, 61.0)


def test_late_messages_do_not_revive_a_subscription():
    it = subscriber("terminated;reason=noresource")
    it.notified(header("active;expires=60"), 2.0)
    it.subscribed(3.0)
    assert it.is_terminated


@pytest.mark.rfc("6665 4.1.3")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("deactivated;retry-after=30", 0.0),
        ("probation;retry-after=30", 30.0),
        ("probation", 0.0),
        ("rejected;retry-after=30", None),
        ("timeout;retry-after=30", 0.0),
        ("giveup;retry-after=30", 30.0),
        ("noresource", None),
        ("invariant;retry-after=31536000", None),
        ("unheard-of;retry-after=30", 30.0),
    ],
)
def test_reason_says_when_to_subscribe_again(text, seconds):
    assert retry_after(header(f"terminated;reason={text}")) == seconds


def test_end_without_reason_allows_another_subscription():
    assert retry_after(header("terminated")) == 0.0
    assert retry_after(header("terminated;retry-after=5")) == 5.0


# ---- notifier


def notifier(asked=None, longest=180):
    it = NotifierState(longest)
    it.subscribed(0.0, asked)
    return it


@pytest.mark.rfc("6665 4.2.1.1")
@pytest.mark.parametrize(("asked", "granted"), [(None, 180), (600, 180), (60, 60), (0, 0)])
def test_notifier_may_shorten_but_never_lengthen(asked, granted):
    it = NotifierState(180)
    assert it.subscribed(0.0, asked) == granted


@pytest.mark.rfc("6665 4.2.2")
def test_notify_has_state_and_the_time_left():
    it = notifier()
    it.suspend()
    assert str(it.header(60.5)) == "pending;expires=120"
    it.grant()
    assert str(it.header(100.0)) == "active;expires=80"
    it.end("noresource")
    assert str(it.header(101.0)) == "terminated;reason=noresource"


@pytest.mark.rfc("6665 4.2.1.4")
def test_notifier_ends_with_timeout():
    it = notifier()
    it.grant()
    it.expire(179.0)
    assert not it.is_terminated
    it.expire(180.0)
    assert str(it.header(180.0)) == "terminated;reason=timeout"


@pytest.mark.rfc("6665 4.2.1.4", "6665 4.4.3")
def test_subscribe_with_expires_0_ends_with_timeout():
    it = notifier()
    it.grant()
    assert it.subscribed(10.0, 0) == 0
    assert str(it.header(10.0)) == "terminated;reason=timeout"


@pytest.mark.rfc("6665 4.2.2")
def test_notify_that_fails_ends_the_subscription_by_its_status():
    for status in range(300, 700):
        it = notifier()
        it.grant()
        it.answered(status)
        assert it.is_terminated is (status in ENDING or status == 408)


def test_first_reason_of_an_end_stays():
    it = notifier()
    it.end("giveup", 30)
    it.end("noresource")
    assert str(it.header(0.0)) == "terminated;reason=giveup;retry-after=30"
