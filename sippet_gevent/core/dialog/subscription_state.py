"""Subscriptions as state machines, of the subscriber and of the notifier, RFC 6665 §4.1.2 and
§4.2.2. Pure.

A row is `event: next state`. An event that is missing in a state changes nothing.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from ...errors import ParseError
from ...message.fields.extensions import SubscriptionState


class State(Enum):
    """The states of figures 1 and 2."""

    INIT = "init"
    NOTIFY_WAIT = "notify_wait"  # of a subscriber
    RESP_WAIT = "resp_wait"  # of a notifier
    PENDING = "pending"
    ACTIVE = "active"
    TERMINATED = "terminated"


class Happened(Enum):
    """The events of figures 1 and 2."""

    SUBSCRIBE = "SUBSCRIBE sent or received"
    ACTIVE = "NOTIFY with active"
    PENDING = "NOTIFY with pending"
    TERMINATED = "NOTIFY with terminated"
    REFUSED = "SUBSCRIBE refused"
    GONE = "a status that ends the usage"
    TIMER_N = "timer N fires"
    EXPIRED = "the subscription expires"


_INIT, _WAIT, _RESP = State.INIT, State.NOTIFY_WAIT, State.RESP_WAIT
_PENDING, _ACTIVE, _TERMINATED = State.PENDING, State.ACTIVE, State.TERMINATED

_END = {Happened.TERMINATED: _TERMINATED, Happened.GONE: _TERMINATED, Happened.EXPIRED: _TERMINATED}

Table = dict[State, dict[Happened, State]]

SUBSCRIBER: Table = {  # figure 1
    _INIT: {Happened.SUBSCRIBE: _WAIT},
    _WAIT: {
        Happened.ACTIVE: _ACTIVE,
        Happened.PENDING: _PENDING,
        Happened.REFUSED: _TERMINATED,  # §4.1.2.1
        Happened.TIMER_N: _TERMINATED,  # §4.1.2.4
        **_END,
    },
    _PENDING: {Happened.ACTIVE: _ACTIVE, Happened.TIMER_N: _TERMINATED, **_END},
    # a notifier may take its grant back (§4.2.1.3)
    _ACTIVE: {Happened.PENDING: _PENDING, Happened.TIMER_N: _TERMINATED, **_END},
    _TERMINATED: {},
}

NOTIFIER: Table = {  # figure 2
    _INIT: {Happened.SUBSCRIBE: _RESP},
    _RESP: {Happened.ACTIVE: _ACTIVE, Happened.PENDING: _PENDING, **_END},
    _PENDING: {Happened.ACTIVE: _ACTIVE, **_END},
    _ACTIVE: _END,
    _TERMINATED: {},
}

ENDING = frozenset((404, 405, 410, 416, *range(480, 486), 489, 501, 604))
"""Statuses that end the subscription: to a SUBSCRIBE that refreshes (§4.1.2.2), to a NOTIFY
(§4.2.2)."""

_OF_NOTIFY = {
    "active": Happened.ACTIVE,
    "pending": Happened.PENDING,
    "terminated": Happened.TERMINATED,
}


class Retry(NamedTuple):
    """What a reason of `terminated` says about another subscription (§4.1.3)."""

    may: bool
    """True if another attempt makes sense."""
    waits: bool
    """True if `retry-after` counts."""


REASONS = {
    "deactivated": Retry(may=True, waits=False),
    "probation": Retry(may=True, waits=True),
    "rejected": Retry(may=False, waits=False),
    "timeout": Retry(may=True, waits=False),
    "giveup": Retry(may=True, waits=True),
    "noresource": Retry(may=False, waits=False),
    "invariant": Retry(may=False, waits=False),
}
"""The reasons of §4.1.3. An unknown reason, or none, allows another attempt after
`retry-after`."""

UNKNOWN = Retry(may=True, waits=True)


def retry_after(state: SubscriptionState) -> float | None:
    """Return the seconds after which to subscribe again; None if it makes no sense (§4.1.3)."""
    retry = REASONS.get(state.reason or "", UNKNOWN)
    if not retry.may:
        return None
    return float(seconds_in(state, "retry-after") or 0) if retry.waits else 0.0


def seconds_in(state: SubscriptionState, name: str) -> int | None:
    """Return a parameter of Subscription-State in seconds. One that cannot be read counts as
    none, because the state itself can be read."""
    try:
        return state.expires if name == "expires" else state.retry_after
    except ParseError:
        return None


class SubscriberState:
    """The state of a subscription of ours.

    Args:
        timer_n: 64*T1 in seconds.
        default: The duration in seconds if neither a 2xx nor a NOTIFY names one. None for no end.
    """

    __slots__ = (
        "_default", "_is_leaving", "_timer_n", "ended_by", "expires_at", "has_timed_out",
        "notify_by", "state",
    )  # fmt: skip

    def __init__(self, timer_n: float, default: int | None = None) -> None:
        self._timer_n = timer_n
        self._default = default
        self._is_leaving = False
        self.state = State.INIT
        self.expires_at = math.inf
        """When the subscription ends unless it is refreshed."""
        self.notify_by = math.inf
        """When timer N fires."""
        self.ended_by: SubscriptionState | None = None
        """The Subscription-State that has ended it, None if no NOTIFY did."""
        self.has_timed_out = False
        """True when timer N or its duration has ended it."""

    @property
    def is_terminated(self) -> bool:
        """True when no NOTIFY is expected any more."""
        return self.state is State.TERMINATED

    @property
    def due(self) -> float:
        """When to call expire(); infinity if nothing is to expire."""
        return min(self.expires_at, self.notify_by)

    def subscribed(self, now: float) -> None:
        """Note that a SUBSCRIBE, or a REFER, was sent. Timer N starts (§4.1.2.4)."""
        self.notify_by = now + self._timer_n
        self._take(Happened.SUBSCRIBE)

    def answered(self, status: int, now: float, expires: int | None = None) -> None:
        """Note the final response to a SUBSCRIBE; a timeout counts as 408.

        Args:
            status: The status.
            now: The time.
            expires: The Expires of a 2xx, which may be shorter than what was asked for.
        """
        if 200 <= status < 300:
            if expires is not None:
                self.expires_at = now + expires
            if status == 204:  # no NOTIFY follows (§4.1.2.2, RFC 5839)
                if not math.isinf(self.expires_at):  # or else timer N is all that ends it
                    self.notify_by = math.inf
                if self._is_leaving:
                    self._take(Happened.GONE)
        elif self.state is State.NOTIFY_WAIT:
            self._take(Happened.REFUSED)
        elif status in ENDING:
            self._take(Happened.GONE)
        elif not self._is_leaving:  # else timer N is all that ends it, see leave()
            self.notify_by = math.inf  # it remains valid until it expires (§4.1.2.2)

    def notified(self, state: SubscriptionState, now: float) -> None:
        """Take the Subscription-State of a NOTIFY. An unknown state is like `active` (§4.1.3)."""
        event = _OF_NOTIFY.get(state.state, Happened.ACTIVE)
        if self._is_leaving and event is not Happened.TERMINATED:
            return  # it crosses our SUBSCRIBE; the last one is still to come
        self.notify_by = math.inf
        if event is Happened.TERMINATED:
            self.ended_by = state
        elif (expires := seconds_in(state, "expires")) is not None:
            self.expires_at = now + expires
        elif math.isinf(self.expires_at) and self._default is not None:
            self.expires_at = now + self._default  # so that it ends some day
        self._take(event)

    def leave(self) -> None:
        """Note that a SUBSCRIBE with Expires 0 leaves: only timer N bounds the wait for the last
        NOTIFY (§4.1.2.3)."""
        self.expires_at = math.inf
        self._is_leaving = True

    def expire(self, now: float) -> None:
        """End it if timer N or its duration is over."""
        if now >= self.due:
            self.has_timed_out = True
            self._take(Happened.TIMER_N if now >= self.notify_by else Happened.EXPIRED)

    def _take(self, event: Happened) -> None:
        self.state = SUBSCRIBER[self.state].get(event, self.state)
        if self.state is State.TERMINATED:
            self.expires_at = self.notify_by = math.inf


class NotifierState:
    """The state of a peer's subscription to us.

    Args:
        longest: The longest duration that we grant, in seconds.
    """

    __slots__ = ("_longest", "expires_at", "reason", "retry_after", "side", "state")

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self.state = State.INIT
        self.expires_at = math.inf
        """When the subscription ends unless it is refreshed."""
        self.reason: str | None = None
        """The reason of its end."""
        self.retry_after: int | None = None
        self.side = "us", "terminated"
        """The side that ends it, and what happened, as in End."""

    @property
    def is_terminated(self) -> bool:
        """True when the last NOTIFY was sent, or is to be sent."""
        return self.state is State.TERMINATED

    def subscribed(self, now: float, asked: int | None = None) -> int:
        """Take a SUBSCRIBE, or a REFER, and return the duration granted (§4.2.1.1, §4.2.1.4).

        It is never longer than what was asked for. 0 ends the subscription.
        """
        granted = self._longest if asked is None else min(asked, self._longest)
        self.expires_at = now + granted
        self._take(Happened.SUBSCRIBE)
        if not granted:
            self.end("timeout")
        return granted

    def grant(self) -> None:
        """Note that the subscription is authorized."""
        self._take(Happened.ACTIVE)

    def suspend(self) -> None:
        """Note that the authorization is not known yet."""
        self._take(Happened.PENDING)

    def end(self, reason: str, retry_after: int | None = None) -> None:
        """End the subscription for a reason of §4.1.3."""
        if not self.is_terminated:
            self.reason, self.retry_after = reason, retry_after
            self._take(Happened.TERMINATED)

    def answered(self, status: int) -> None:
        """Note the final response to a NOTIFY (§4.2.2); a timeout counts as 408."""
        if status in ENDING or status == 408:
            self._take(Happened.GONE)

    def expire(self, now: float) -> None:
        """End it if its duration is over."""
        if now >= self.expires_at:
            self.end("timeout")

    def header(self, now: float) -> SubscriptionState:
        """Return the Subscription-State of the next NOTIFY (§4.2.2)."""
        if self.state is State.TERMINATED:
            text = f"terminated;reason={self.reason or 'noresource'}"
            if self.retry_after is not None:
                text += f";retry-after={self.retry_after}"
        else:
            state = "pending" if self.state is State.PENDING else "active"
            text = f"{state};expires={max(math.ceil(self.expires_at - now), 0)}"
        return SubscriptionState.parse(text)

    def _take(self, event: Happened) -> None:
        self.state = NOTIFIER[self.state].get(event, self.state)
