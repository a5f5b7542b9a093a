"""Subscriptions outside of calls, ours and those of peers, RFC 6665; REFER outside a call, RFC 3515."""

from __future__ import annotations

import gc
import weakref

import pytest

from sippet_gevent import InvalidValue, Limits, Reject, TransactionTimeout

from ..wire import AT_SERVER, Peer, messages, sent, start
from .test_call import Placed

NOTIFIER = "10.0.0.80"
BOB = f"sip:bob@{NOTIFIER}"
SALES = "sip:sales@10.0.0.70"
TEXT = "text/plain"


class Watching:
    """Our stack subscribes at a peer."""

    def __init__(self, sip, event="presence", answer=200, granted=None, **options):
        self.sip = sip
        self.peer = Peer(sip, NOTIFIER)
        self.number = 0
        self.greenlet = start(sip, sip.client.subscribe, BOB, event=event, **options)
        self.subscribe = self.peer.last("SUBSCRIBE")
        self.event = event
        if answer:
            headers = {} if granted is None else {"expires": granted}
            self.response = self.peer.reply(
                self.subscribe, answer, contact=f"<{self.peer.uri}>", **headers
            )

    @property
    def subscription(self):
        return self.greenlet.get()

    def notify(self, state="active;expires=600", body="on", tag="", event=None, **headers):
        """The peer sends a NOTIFY. Returns the status that it gets."""
        self.number += 1
        number = headers.pop("number", self.number)
        to = self.response.to if not tag else f"<{BOB}>;tag={tag}"
        headers.setdefault("contact", f"<{self.peer.uri}>")
        headers = {name: value for name, value in headers.items() if value is not None}
        request = self.peer.request(
            "NOTIFY", str(self.subscribe.contact[0].uri), from_=to, to=self.subscribe.from_,
            call_id=self.subscribe.call_id, number=number, event=event or self.event,
            subscription_state=state, body=body, content_type=TEXT, **headers,
        )  # fmt: skip
        self.peer.send(request, to=self.sip.client.engine.transports[0].local[0])
        return self.peer.statuses[-1]


def read(sip, subscription, seen):
    def reading():
        for notify in subscription:
            seen.append((notify.subscription_state.state, notify.body))

    return start(sip, reading)


def bodies(sip, subscription):
    return sip.run(lambda: [notify.body for notify in subscription.notifies(1)])


@pytest.fixture(autouse=True)
def tables(sip):
    """After each test no subscription and no dialog is left."""
    yield
    sip.lossy(loss=0)
    sip.advance(200)
    for stack in sip.stacks:
        assert stack.stats()["subscriptions"] == 0
        assert not stack.dialogs._others
        assert not stack.dialogs._subscribing


def serving(sip, seen, **options):
    """A stack that accepts subscriptions and keeps their notifiers."""

    def core(request, tx):
        if request.method != "SUBSCRIBE":
            return 481
        seen.append(tx.accept_subscription("presence", **options))
        return None

    return sip.serve(core)


class Subscribed:
    """A peer that has subscribed at our stack."""

    def __init__(self, sip, expires=600, answer=200, **options):
        self.sip = sip
        self.notifiers = []
        options.setdefault("body", "on")
        if "expires_" in options:  # that of the core
            options["expires"] = options.pop("expires_")
        self.stack = serving(sip, self.notifiers, **options)
        self.peer = Peer(sip, "10.0.0.50", lambda request: answer)
        self.number = 1
        headers = {} if expires is None else {"expires": expires}
        self.request = self.peer.ask(
            "SUBSCRIBE", event="presence", contact=f"<{self.peer.uri}>", **headers
        )
        self.response = self.peer.responses[-1]

    def ask(self, method="SUBSCRIBE", **headers):
        self.number += 1
        headers.setdefault("event", "presence")
        request = self.peer.within(
            self.request, self.response, method, number=self.number, contact=f"<{self.peer.uri}>",
            **headers,
        )  # fmt: skip
        self.peer.send(request)
        return self.peer.responses[-1]

    @property
    def told(self):
        return [
            (request.subscription_state.state, request.subscription_state.reason, request.body)
            for request in self.peer.requests
            if request.method == "NOTIFY"
        ]


# ---- ours


@pytest.mark.rfc("6665 3.1.1", "6665 4.1.2.1")
def test_subscribe_has_event_expires_accept_and_contact(sip):
    it = Watching(sip, expires=600)
    request = it.subscribe
    assert (request.headers["Event"], request.expires) == ("presence", 600)
    assert request.headers["Accept"] == "application/pidf+xml"
    assert "Contact" in request.headers
    assert it.notify("terminated;reason=noresource") == 200


@pytest.mark.rfc("6665 4.1.3", "6665 4.4.1")
def test_notifies_are_read_until_the_notifier_ends_the_subscription(sip):
    it, seen = Watching(sip), []
    reading = read(sip, it.subscription, seen)
    assert it.notify("pending;expires=600", "") == 200
    assert it.subscription.state == "pending"
    assert it.notify() == 200
    assert it.notify("terminated;reason=probation;retry-after=30", "off") == 200
    assert reading.ready()
    assert seen == [("pending", b""), ("active", b"on"), ("terminated", b"off")]
    assert tuple(it.subscription.end) == ("peer", "terminated", 0, "probation")
    assert it.subscription.retry_after == 30
    assert it.notify() == 481


@pytest.mark.rfc("6665 4.1.3")
@pytest.mark.parametrize(
    ("reason", "again"),
    [
        ("deactivated;retry-after=9", 0.0), ("probation;retry-after=9", 9.0), ("rejected", None),
        ("timeout", 0.0), ("giveup;retry-after=9", 9.0), ("noresource", None),
        ("invariant;retry-after=9", None), ("new;retry-after=9", 9.0),
    ],
)  # fmt: skip
def test_reason_says_when_to_subscribe_again(sip, reason, again):
    it = Watching(sip)
    it.notify(f"terminated;reason={reason}")
    assert it.subscription.retry_after == again


@pytest.mark.rfc("6665 4.1.2.4", "6665 4.4.1")
def test_notify_may_come_before_the_200(sip):
    it = Watching(sip, answer=None)
    it.response = it.subscribe.response(200, contact=f"<{it.peer.uri}>", expires=600)
    it.response.to = f"<{BOB}>;tag=first"
    assert it.notify() == 200
    it.peer.reply(it.subscribe, it.response)
    assert bodies(sip, it.subscription) == [b"on"]
    it.notify("terminated")


@pytest.mark.rfc("6665 4.1.2.4", "6665 4.4.1")
def test_each_notify_with_another_tag_creates_a_subscription(sip):
    it, seen = Watching(sip), []
    reading = read(sip, it.subscription, seen)
    assert it.notify(body="a", tag="a") == 200
    assert it.notify(body="b", tag="b") == 200
    assert sip.client.stats()["subscriptions"] == 2
    assert it.notify("terminated;reason=noresource", "a", tag="a") == 200
    assert not reading.ready()
    assert it.notify(body="a", tag="a") == 481
    assert it.notify("terminated;reason=noresource", "b", tag="b") == 200
    assert reading.ready()
    assert [body for _, body in seen] == [b"a", b"b", b"a", b"b"]


@pytest.mark.rfc("6665 4.1.2.4")
def test_notify_of_a_new_fork_after_timer_n_gets_481(sip):
    it = Watching(sip)
    assert it.notify(tag="a") == 200
    sip.advance(33)
    assert it.notify(tag="b") == 481
    assert it.notify("terminated", tag="a") == 200


@pytest.mark.rfc("6665 4.1.2.4")
def test_subscription_without_notify_ends_with_timer_n(sip):
    it, seen = Watching(sip), []
    reading = read(sip, it.subscription, seen)
    sip.advance(33)
    assert reading.ready()
    assert tuple(it.subscription.end) == ("us", "timeout", 0, "")
    assert it.notify() == 481


@pytest.mark.rfc("6665 4.1.3")
@pytest.mark.parametrize(
    ("event", "state", "status"),
    [("dialog", "active", 481), ("presence;id=9", "active", 481), ("presence", None, 400)],
)
def test_notify_that_does_not_fit_is_refused_and_changes_nothing(sip, event, state, status):
    it = Watching(sip)
    assert it.notify(state, event=event) == status
    assert sip.client.stats()["subscriptions"] == 0
    assert it.notify() == 200
    assert it.notify(state, event=event) == status
    assert it.notify("terminated") == 200


def test_notify_without_contact_begins_no_dialog(sip):
    it = Watching(sip)
    assert it.notify(contact=None) == 400
    assert it.notify("terminated") == 200


@pytest.mark.rfc("6665 8.2.1")
def test_id_of_the_event_has_to_match(sip):
    it = Watching(sip, event="presence;id=7")
    assert it.notify(event="presence") == 481
    assert it.notify() == 200
    assert it.notify("terminated") == 200


@pytest.mark.rfc("6665 4.1.2.1")
def test_subscribe_that_is_refused_raises_with_the_events_that_are_known(sip):
    it = Watching(sip, event="nonsense", answer=None)
    it.peer.reply(it.subscribe, 489, allow_events="presence, dialog")
    with pytest.raises(Reject) as refused:
        it.greenlet.get()
    assert refused.value.status == 489
    assert tuple(str(each) for each in refused.value.response.allow_events) == (
        "presence",
        "dialog",
    )


def test_subscription_that_was_refused_after_a_notify_is_forgotten(sip):
    it = Watching(sip, answer=None)
    it.response = it.subscribe.response(403)
    it.response.to = f"<{BOB}>;tag=first"
    assert it.notify() == 200
    it.peer.reply(it.subscribe, it.response)
    with pytest.raises(Reject):
        it.greenlet.get()
    assert it.notify() == 481


@pytest.mark.rfc("6665 4.1.2.1", "3261 21.4.17")
def test_423_repeats_the_subscribe_with_the_duration_that_is_wanted(sip):
    it = Watching(sip, answer=None, expires=60)
    it.peer.reply(it.subscribe, 423, min_expires=900)
    again = it.peer.last("SUBSCRIBE")
    assert (again.expires, again.cseq.number) == (900, it.subscribe.cseq.number + 1)
    it.response = it.peer.reply(again, 200, contact=f"<{it.peer.uri}>", expires=900)
    assert it.notify("terminated") == 200
    assert it.subscription.end.cause == "terminated"


@pytest.mark.rfc("6665 4.1.2.1")
@pytest.mark.parametrize("least", [None, 60, 10**9])
def test_423_that_wants_nothing_possible_is_raised(sip, least):
    it = Watching(sip, answer=None, expires=60)
    it.peer.reply(it.subscribe, 423, **({} if least is None else {"min_expires": least}))
    with pytest.raises(Reject) as refused:
        it.greenlet.get()
    assert refused.value.status == 423


def test_timeout_of_the_subscribe_leaves_nothing(sip):
    it = Watching(sip, answer=None, timeout=5)
    sip.advance(6)
    with pytest.raises(TransactionTimeout):
        it.greenlet.get()


@pytest.mark.rfc("6665 4.1.2.2")
def test_subscription_is_refreshed_before_it_expires(sip):
    it = Watching(sip, expires=600, granted=600)
    it.notify("active;expires=600")
    sip.advance(560)
    assert it.peer.methods == ["SUBSCRIBE"]
    sip.advance(10)
    refresh = it.peer.last("SUBSCRIBE")
    assert refresh.cseq.number == it.subscribe.cseq.number + 1
    assert refresh.to.tag == it.response.to.tag
    assert (refresh.headers["Event"], refresh.expires) == ("presence", 600)
    it.peer.reply(refresh, 200, contact=f"<{it.peer.uri}>", expires=600)
    assert it.notify() == 200
    sip.advance(500)
    assert it.subscription.end is None
    it.notify("terminated")


@pytest.mark.rfc("6665 4.1.2.2")
@pytest.mark.parametrize("status", [481, 404, 489, 604])
def test_refresh_that_is_refused_ends_the_subscription(sip, status):
    it = Watching(sip, expires=100, granted=100)
    it.notify("active;expires=100")
    sip.advance(70)
    it.peer.reply(it.peer.last("SUBSCRIBE"), status)
    assert tuple(it.subscription.end)[:3] == ("peer", "refused", status)


@pytest.mark.rfc("6665 4.1.2.2")
def test_refresh_that_fails_otherwise_leaves_the_subscription_until_it_expires(sip):
    it = Watching(sip, expires=100, granted=100)
    it.peer.answer = lambda request: 500 if request.method == "SUBSCRIBE" else None
    it.notify("active;expires=100")
    sip.advance(90)
    assert it.subscription.end is None
    sip.advance(11)
    assert tuple(it.subscription.end) == ("us", "timeout", 0, "")
    assert 2 < len(it.peer.methods) < 20


@pytest.mark.rfc("3261 20.33", "5057 5.1")
@pytest.mark.parametrize("status", [500, 503])
def test_refused_refresh_is_repeated_after_its_retry_after(sip, status):
    it = Watching(sip, expires=600, granted=600)
    it.notify()
    asked = []

    def answer(request):
        asked.append(sip.clock.now())
        return request.response(status, retry_after=20)

    it.peer.answer = answer
    sip.advance(569)
    assert len(asked) == 1
    sip.advance(15)
    assert len(asked) == 1
    sip.advance(15)
    assert len(asked) == 2  # the next one would come after the end
    assert asked[1] - asked[0] >= 20
    assert it.subscription.end is None
    assert it.subscription.retry_after == 0
    sip.advance(20)
    assert len(asked) == 2
    assert it.subscription.end.cause == "timeout"


@pytest.mark.rfc("3261 20.33", "6665 4.1.2.2")
def test_retry_after_of_the_refusal_that_ended_the_subscription_is_told(sip):
    it = Watching(sip, expires=100, granted=100)
    it.notify("active;expires=100")
    sip.advance(70)
    it.peer.reply(it.peer.last("SUBSCRIBE"), 480, retry_after=120)
    assert it.subscription.end.status == 480
    assert it.subscription.retry_after == 120


@pytest.mark.rfc("6665 4.1.2.2", "6665 4.1.2.4")
def test_refresh_without_a_notify_ends_with_timer_n(sip):
    it = Watching(sip, expires=600, granted=600)
    it.notify()
    it.peer.answer = lambda request: request.response(200, expires=600)
    start(sip, it.subscription.refresh)
    sip.advance(33)
    assert it.subscription.end.cause == "timeout"


def test_refreshes_are_spaced_whatever_the_notifier_grants(sip):
    it = Watching(sip, expires=600)
    answers = {"count": 0}

    def answer(request):
        answers["count"] += 1
        return request.response(200, expires=2, contact=f"<{it.peer.uri}>")

    it.peer.answer = lambda request: answer(request) if request.method == "SUBSCRIBE" else None
    it.notify("active;expires=1")
    for _ in range(20):
        sip.advance(0.5)
        if it.subscription.end is None:
            it.notify("active;expires=1")
    assert answers["count"] <= 10
    it.notify("terminated")


@pytest.mark.rfc("6665 4.1.2.3")
def test_leaving_the_block_unsubscribes(sip):
    it = Watching(sip, expires=600, granted=600)
    it.notify()
    with it.subscription:
        pass
    sip.settle()
    last = it.peer.last("SUBSCRIBE")
    assert (last.expires, last.cseq.number) == (0, it.subscribe.cseq.number + 1)
    it.peer.reply(last, 200, expires=0, contact=f"<{it.peer.uri}>")
    assert it.notify("terminated;reason=timeout", "off") == 200
    assert tuple(it.subscription.end) == ("us", "unsubscribed", 0, "timeout")
    assert bodies(sip, it.subscription) == [b"on", b"off"]


def test_leaving_the_block_before_the_first_notify_ends_at_once(sip):
    it = Watching(sip)
    with it.subscription as subscription:
        pass
    assert tuple(subscription.end) == ("us", "unsubscribed", 0, "")
    assert it.notify() == 481


@pytest.mark.rfc("6665 4.1.2.3")
def test_unsubscribed_peer_that_is_silent_is_forgotten(sip):
    it = Watching(sip, expires=600, granted=600)
    it.notify()
    it.subscription.unsubscribe()
    sip.advance(33)
    assert tuple(it.subscription.end) == ("us", "unsubscribed", 0, "")


@pytest.mark.rfc("6665 4.1.2.3", "6665 4.1.2.4")
@pytest.mark.parametrize("status", [204, 403, 500, 503])
def test_unsubscribe_that_is_refused_ends_the_subscription_in_time(sip, status):
    it = Watching(sip, expires=600, granted=600)
    it.notify()
    it.subscription.unsubscribe()
    sip.settle()
    it.peer.reply(it.peer.last("SUBSCRIBE"), status)
    sip.advance(33)
    assert tuple(it.subscription.end) == ("us", "unsubscribed", 0, "")
    assert it.notify() == 481


@pytest.mark.rfc("6665 4.1.2.3", "6665 4.1.2.4")
@pytest.mark.parametrize("state", ["active", "active;expires=600", "pending"])
def test_notify_that_crosses_the_unsubscribe_does_not_prolong_the_subscription(sip, state):
    it = Watching(sip, expires=600, granted=600)
    it.notify()
    for _ in range(2):  # the second one does nothing
        it.subscription.unsubscribe()
    sip.settle()
    assert it.peer.methods.count("SUBSCRIBE") == 2
    it.peer.reply(it.peer.last("SUBSCRIBE"), 200, expires=0)
    assert it.notify(state) == 200
    assert it.subscription.end is None
    sip.advance(33)
    assert it.subscription.end.cause == "unsubscribed"


@pytest.mark.rfc("6665 4.4.3")
def test_subscribe_with_expires_0_asks_once(sip):
    it, seen = Watching(sip, expires=0, granted=0), []
    reading = read(sip, it.subscription, seen)
    assert it.notify("terminated;reason=timeout") == 200
    assert reading.ready()
    assert seen == [("terminated", b"on")]
    assert sent(sip).count("SUBSCRIBE") == 1


def test_stack_that_stops_ends_its_subscriptions(sip):
    it, seen = Watching(sip), []
    reading = read(sip, it.subscription, seen)
    it.notify()
    other = start(sip, sip.client.subscribe, SALES, event="dialog")
    sip.client.stop()
    sip.settle()
    assert reading.ready()
    assert tuple(it.subscription.end) == ("stack", "stopped", 0, "")
    assert other.ready()
    with pytest.raises(Exception):  # noqa: B017
        other.get()


def test_reader_that_is_slow_keeps_the_latest_notifies(sip):
    it = Watching(sip)
    for number in range(120):
        it.notify(body=str(number))
    kept = bodies(sip, it.subscription)
    assert (len(kept), kept[-1]) == (100, b"119")
    assert sip.client.stats()["call_events_dropped"] == 20
    it.notify("terminated")


@pytest.mark.rfc("3261 12.2.2")
def test_notify_out_of_order_gets_500(sip):
    it = Watching(sip)
    assert it.notify(number=7) == 200
    assert it.notify(number=6) == 500
    assert it.notify("terminated", number=8) == 200


@pytest.mark.rfc("5057 5.3")
@pytest.mark.parametrize("method", ["BYE", "INFO", "INVITE", "UPDATE"])
def test_request_of_a_call_in_a_subscription_gets_481(sip, method):
    it = Watching(sip)
    it.notify()
    request = it.peer.back(it.subscribe, it.response, method, number=20)
    it.peer.send(request, to=sip.client.engine.transports[0].local[0])
    assert 481 in it.peer.statuses
    if method == "INVITE":
        it.peer.send(
            it.peer.back(it.subscribe, it.peer.responses[-1], "ACK", number=20),
            to=sip.client.engine.transports[0].local[0],
        )
    assert it.notify("terminated", number=30) == 200


# ---- those of peers


@pytest.mark.rfc("6665 4.2.1.1", "6665 4.2.1.2", "6665 4.2.2")
def test_accepted_subscription_gets_200_and_a_notify(sip):
    it = Subscribed(sip)
    assert (it.response.status, it.response.expires) == (200, 600)
    assert "Contact" in it.response.headers
    assert it.told == [("active", None, b"on")]
    notify = it.peer.last("NOTIFY")
    assert notify.headers["Event"] == "presence"
    assert notify.headers["Content-Type"] == "application/pidf+xml"
    assert notify.subscription_state.expires == 600
    (notifier,) = it.notifiers
    notifier.notify("busy")
    notifier.close("gone")
    sip.settle()
    assert it.told[1:] == [("active", None, b"busy"), ("terminated", "noresource", b"gone")]
    assert tuple(notifier.end) == ("us", "terminated", 0, "noresource")
    notifier.notify("late")
    assert len(it.told) == 3


@pytest.mark.rfc("6665 4.2.1.1", "6665 7.2.1", "3515 2.4.4")
@pytest.mark.parametrize(("event", "status"), [("dialog", 489), (None, 489), ("refer", 403)])
def test_other_events_are_refused(sip, event, status):
    seen = []
    serving(sip, seen)
    peer = Peer(sip, "10.0.0.50")
    headers = {} if event is None else {"event": event}
    peer.ask("SUBSCRIBE", contact=f"<{peer.uri}>", **headers)
    assert peer.statuses == [status]
    if status == 489:
        assert peer.responses[-1].headers["Allow-Events"] == "presence"
    assert seen == []


@pytest.mark.rfc("6665 4.2.1.1")
def test_too_short_a_duration_gets_423(sip):
    it = Subscribed(sip, expires=5)
    assert (it.response.status, it.response.headers["Min-Expires"]) == (423, "30")


@pytest.mark.rfc("6665 4.2.1.1")
@pytest.mark.parametrize(("asked", "granted"), [(None, 3600), (10**9, 24 * 3600)])
def test_duration_is_that_of_the_package_or_shorter_than_asked(sip, asked, granted):
    it = Subscribed(sip, expires=asked)
    assert it.response.expires == granted
    it.notifiers[0].close()


def test_subscribe_without_contact_gets_400(sip):
    seen = []
    serving(sip, seen)
    peer = Peer(sip, "10.0.0.50")
    peer.ask("SUBSCRIBE", event="presence")
    assert peer.statuses == [400]


@pytest.mark.rfc("6665 4.2.1.1", "6665 4.2.1.4")
def test_refresh_gets_200_and_a_notify_with_the_state_of_now(sip):
    states = iter(["on", "busy", "off"])
    it = Subscribed(sip, body=lambda: next(states))
    sip.advance(500)
    assert it.ask(expires=600).expires == 600
    assert it.told == [("active", None, b"on"), ("active", None, b"busy")]
    sip.advance(599)
    assert it.notifiers[0].end is None
    sip.advance(2)
    assert it.told[2:] == [("terminated", "timeout", b"off")]
    assert tuple(it.notifiers[0].end) == ("peer", "timeout", 0, "timeout")
    assert it.ask(expires=600).status == 481


@pytest.mark.rfc("6665 4.2.1.1", "6665 4.2.2")
@pytest.mark.parametrize(("wanted", "granted"), [(60, 60), ("60", 60), (7200, 600), (0, 0)])
def test_expires_of_the_core_shortens_the_subscription(sip, wanted, granted):
    it = Subscribed(sip, expires_=wanted)
    assert it.response.expires == granted
    assert it.peer.last("NOTIFY").subscription_state.expires == (granted or None)
    sip.advance(granted + 1)
    assert it.told[-1][0] == "terminated"


@pytest.mark.rfc("6665 4.2.1.2")
def test_state_that_raises_begins_no_subscription(sip):
    it = Subscribed(sip, body=lambda: 1 / 0)
    assert (it.response.status, it.told) == (500, [])
    assert it.stack.stats()["subscriptions"] == 0


@pytest.mark.rfc("6665 4.2.1.2", "6665 4.2.1.4")
def test_state_that_raises_later_is_told_as_before(sip):
    states = iter(["on"])
    it = Subscribed(sip, body=lambda: next(states))
    it.ask(expires=600)
    assert it.told[1:] == [("active", None, b"on")]
    sip.advance(601)
    assert it.told[2:] == [("terminated", "timeout", b"on")]
    assert it.notifiers[0].wait(0) is True


def test_state_that_raises_does_not_keep_a_subscription_open(sip):
    states = iter(["on"])
    it = Subscribed(sip, body=lambda: next(states))
    with pytest.raises(StopIteration), it.notifiers[0]:
        pass
    sip.settle()
    assert it.told[1:] == [("terminated", "noresource", b"on")]
    assert it.notifiers[0].end.cause == "terminated"


@pytest.mark.rfc("3261 20.15")
def test_state_of_an_unknown_event_needs_a_content_type(sip):
    seen = []
    errors = []

    def core(request, tx):
        try:
            seen.append(tx.accept_subscription("weather", body=b"sunny"))
        except InvalidValue as error:
            errors.append(str(error))
            seen.append(tx.accept_subscription("weather"))

    stack = sip.serve(core)
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    peer.ask("SUBSCRIBE", event="weather", contact=f"<{peer.uri}>")
    assert peer.statuses == [200]
    assert "content_type=" in errors[0]
    with pytest.raises(InvalidValue):
        seen[0].notify("rain")
    assert seen[0].end is None
    seen[0]._state = b""
    seen[0].close()
    sip.settle()
    assert [request.body for request in peer.requests] == [b"", b""]
    assert stack.stats()["subscriptions"] == 0


def test_notify_that_cannot_be_written_leaves_no_subscription(sip):
    it = Subscribed(sip, content_type="text/plain\r\nX-Other: 1")
    sip.advance(601)
    assert it.stack.stats()["subscriptions"] == 0


@pytest.mark.rfc("6665 4.2.1.4")
def test_peer_that_unsubscribes_gets_a_last_notify(sip):
    it = Subscribed(sip)
    waiting = start(sip, it.notifiers[0].wait)
    response = it.ask(expires=0)
    assert (response.status, response.expires) == (200, 0)
    assert it.told[1:] == [("terminated", "timeout", b"on")]
    assert waiting.get() is True
    assert it.notifiers[0].end.by == "peer"
    assert it.notifiers[0].end.cause == "unsubscribed"


@pytest.mark.rfc("6665 4.4.3")
def test_peer_that_asks_once_gets_one_notify(sip):
    it = Subscribed(sip, expires=0)
    assert it.response.expires == 0
    assert it.told == [("terminated", "timeout", b"on")]


@pytest.mark.rfc("6665 4.2.2")
@pytest.mark.parametrize("status", [481, 404, 489])
def test_peer_that_refuses_a_notify_has_no_subscription_any_more(sip, status):
    it = Subscribed(sip, answer=status)
    assert tuple(it.notifiers[0].end)[:3] == ("peer", "refused", status)


@pytest.mark.rfc("6665 4.2.2")
def test_peer_that_is_gone_has_no_subscription_any_more(sip):
    it = Subscribed(sip, answer=None)
    sip.advance(33)
    assert tuple(it.notifiers[0].end)[:3] == ("peer", "refused", 408)


@pytest.mark.rfc("6665 4.2.1.3")
def test_pending_subscription_is_granted_or_rejected_later(sip):
    it = Subscribed(sip, pending=True, body="")
    (notifier,) = it.notifiers
    assert (notifier.state, it.told) == ("pending", [("pending", None, b"")])
    assert "Content-Type" not in it.peer.last("NOTIFY").headers
    notifier.activate("on")
    sip.settle()
    assert it.told[1:] == [("active", None, b"on")]
    with pytest.raises(InvalidValue):
        notifier.close(reason="because")
    notifier.close(reason="giveup", retry_after=60)
    sip.settle()
    assert it.peer.last("NOTIFY").headers["Subscription-State"] == (
        "terminated;reason=giveup;retry-after=60"
    )


def test_limit_of_subscriptions_gets_503(sip):
    seen = []

    def core(request, tx):
        seen.append(tx.accept_subscription("presence", body="on"))

    sip.serve(core, limits=Limits(subscriptions=1))
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    for _ in range(2):
        peer.ask("SUBSCRIBE", event="presence", contact=f"<{peer.uri}>")
    assert sorted(peer.statuses) == [200, 503]
    seen[0].close()
    sip.settle()


# ---- the core


def test_cores_that_wait_in_subscriptions_are_not_overdue(sip):
    def core(request, tx):
        if request.method != "SUBSCRIBE":
            return 200
        with tx.accept_subscription("presence", body="on") as notifier:
            while not notifier.wait(600):
                notifier.notify()
        return None

    stack = sip.serve(core, limits=Limits(overdue=2))
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    for _ in range(3):
        peer.ask("SUBSCRIBE", event="presence", contact=f"<{peer.uri}>", expires=60)
    assert (stack.stats()["subscriptions"], stack.stats()["overdue"]) == (3, 0)
    peer.ask("OPTIONS")
    assert peer.statuses == [200] * 4
    sip.advance(100)
    assert stack.engine.workers.busy == 0


def test_core_that_goes_on_after_its_subscription_is_overdue(sip):
    def core(request, tx):
        with tx.accept_subscription("presence", body="on") as notifier:
            notifier.wait()
        tx.stack.clock.sleep(600)

    stack = sip.serve(core)
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    peer.ask("SUBSCRIBE", event="presence", contact=f"<{peer.uri}>", expires=60)
    sip.advance(100)
    assert stack.stats()["overdue"] == 1
    sip.advance(600)
    assert stack.stats()["overdue"] == 0


def test_core_that_waits_in_a_subscription_of_its_own_is_not_overdue(sip):
    def presence(request, tx):
        with tx.accept_subscription("presence", body="on") as notifier:
            notifier.wait()

    sip.stack(presence, host="10.0.0.2")

    def core(request, tx):
        tx.respond(202)
        with tx.stack.subscribe("sip:bob@10.0.0.2", event="presence", expires=60) as subscription:
            for _ in subscription.notifies(timeout=30):
                pass

    stack = sip.serve(core)
    peer = Peer(sip, "10.0.0.50")
    peer.ask("MESSAGE")
    sip.advance(10)
    assert (stack.stats()["subscriptions"], stack.stats()["overdue"]) == (1, 0)
    sip.advance(100)


def test_notifier_does_not_keep_the_request_of_a_core_that_has_returned(sip):
    seen, requests = [], []

    def core(request, tx):
        requests.append(weakref.ref(tx))
        seen.append(tx.accept_subscription("presence", body="on"))

    sip.serve(core)
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    peer.ask("SUBSCRIBE", event="presence", contact=f"<{peer.uri}>")
    sip.advance(40)
    gc.collect()
    assert seen[0].end is None
    assert requests[0]() is None
    seen[0].close()


@pytest.mark.rfc("6665 4.1", "6665 4.2")
@pytest.mark.parametrize("seed", range(20))
def test_two_stacks_agree_although_messages_are_lost(sip, seed):
    sip.lossy(loss=0.1, delay=0.02, jitter=0.02, seed=seed)
    ends = []

    def presence(request, tx):
        with tx.accept_subscription("presence", body="0") as notifier:
            for number in range(1, 4):
                if notifier.wait(5):
                    break
                notifier.notify(str(number))
            notifier.wait(40)
        ends.append(notifier.end)

    stack = sip.serve(presence)

    def watch():
        with sip.client.subscribe(AT_SERVER, event="presence", expires=60) as subscription:
            return [notify.body for notify in subscription], subscription.end

    bodies, end = sip.run(watch)
    sip.advance(70)
    assert bodies == sorted(bodies)
    assert bodies[-1] == b"3"
    assert tuple(end) == ("peer", "terminated", 0, "noresource")
    assert tuple(ends[0]) == ("us", "terminated", 0, "noresource")
    assert stack.stats()["subscriptions"] == sip.client.stats()["subscriptions"] == 0


# ---- REFER outside a call


class Referring:
    """Our stack asks a peer to call somebody."""

    def __init__(self, sip, **options):
        self.sip = sip
        self.peer = Peer(sip, NOTIFIER)
        self.outcome = start(sip, sip.client.refer, BOB, SALES, **options)
        self.refer = self.peer.last("REFER")
        self.number = 0

    def accept(self, **headers):
        self.response = self.peer.reply(self.refer, 202, contact=f"<{self.peer.uri}>", **headers)

    def notify(self, line, state="active;expires=60", tag="", **headers):
        self.number += 1
        to = self.response.to if not tag else f"<{BOB}>;tag={tag}"
        request = self.peer.request(
            "NOTIFY", str(self.refer.contact[0].uri), from_=to, to=self.refer.from_,
            call_id=self.refer.call_id, number=self.number, event="refer",
            subscription_state=state, contact=f"<{self.peer.uri}>",
            body=f"SIP/2.0 {line}\r\n" if line else "", content_type="message/sipfrag", **headers,
        )  # fmt: skip
        self.peer.send(request, to=self.sip.client.engine.transports[0].local[0])
        return self.peer.statuses[-1]


@pytest.mark.rfc("3515 2.4.1", "3515 2.4.4")
def test_refer_outside_a_call_waits_for_the_outcome(sip):
    seen = []
    it = Referring(sip, on_progress=lambda fragment: seen.append(fragment.status))
    assert str(it.refer.refer_to.uri) == SALES
    assert it.refer.to.tag is None
    assert "Contact" in it.refer.headers
    it.accept()
    assert it.notify("100 Trying") == 200
    assert it.notify("180 Ringing") == 200
    assert it.notify("", "active") == 400
    assert not it.outcome.ready()
    assert it.notify("200 OK", "terminated;reason=noresource") == 200
    assert it.outcome.get() is None
    assert seen == [100, 180, 200]


@pytest.mark.rfc("3515 2.4.5")
def test_refer_whose_target_refuses_raises(sip):
    it = Referring(sip)
    it.accept()
    it.notify("486 Busy Here", "terminated;reason=noresource")
    with pytest.raises(Reject) as refused:
        it.outcome.get()
    assert (refused.value.status, refused.value.reason) == (486, "Busy Here")


@pytest.mark.rfc("3515 4.6")
def test_refer_that_was_forked_succeeds_with_the_first_success(sip):
    it = Referring(sip)
    it.accept()
    assert it.notify("100 Trying", tag="a") == 200
    assert it.notify("100 Trying", tag="b") == 200
    it.notify("486 Busy Here", "terminated;reason=noresource", tag="a")
    assert not it.outcome.ready()
    it.notify("200 OK", "terminated;reason=noresource", tag="b")
    assert it.outcome.get() is None


@pytest.mark.rfc("3515 4.6", "6665 4.1.2.4", "6665 4.4.1")
@pytest.mark.parametrize("arrives", [True, False])
def test_refer_that_was_forked_waits_for_a_branch_that_has_told_nothing(sip, arrives):
    """Branch a fails before the first NOTIFY of branch b, whose 202 we got."""
    it = Referring(sip)
    it.accept(to=f"<{BOB}>;tag=b")
    it.notify("486 Busy Here", "terminated;reason=noresource", tag="a")
    assert not it.outcome.ready()
    if arrives:
        sip.advance(5)
        assert it.notify("200 OK", "terminated;reason=noresource", tag="b") == 200
        assert it.outcome.get() is None
        return
    sip.advance(33)
    with pytest.raises(Reject) as refused:
        it.outcome.get()
    assert refused.value.status == 486


@pytest.mark.rfc("3515 2.4.5")
def test_refer_whose_last_notify_has_no_final_status_is_no_success(sip):
    it = Referring(sip)
    it.accept()
    assert it.notify("100 Trying", "terminated;reason=noresource") == 200
    with pytest.raises(TransactionTimeout):
        it.outcome.get()


def test_refer_that_is_refused_raises(sip):
    it = Referring(sip)
    it.peer.reply(it.refer, 603)
    with pytest.raises(Reject) as refused:
        it.outcome.get()
    assert refused.value.status == 603


@pytest.mark.rfc("4488 4")
@pytest.mark.parametrize("by", ["us", "peer"])
def test_refer_without_subscription_returns_with_the_202(sip, by):
    it = Referring(sip, subscribe=by == "peer")
    assert it.refer.headers.get("Refer-Sub") == ("false" if by == "us" else None)
    it.accept(**({"refer_sub": "false"} if by == "peer" else {}))
    assert it.outcome.get() is None
    # a peer that creates a subscription anyway is answered, if it has not said otherwise
    expected = 200 if by == "us" else 481
    assert it.notify("200 OK", "terminated;reason=noresource") == expected


@pytest.mark.rfc("6665 4.1.2.4")
def test_refer_whose_peer_tells_nothing_times_out(sip):
    it = Referring(sip)
    it.accept()
    sip.advance(33)
    with pytest.raises(TransactionTimeout):
        it.outcome.get()


def test_refer_takes_a_timeout(sip):
    it = Referring(sip, timeout=5)
    it.accept()
    it.notify("100 Trying")
    sip.advance(6)
    with pytest.raises(TransactionTimeout):
        it.outcome.get()
    assert it.notify("200 OK", "terminated;reason=noresource") == 200


class Referred:
    """A peer asks our stack to call somebody, by a REFER outside a call."""

    def __init__(self, sip, core, **headers):
        self.target = Peer(sip, "10.0.0.70")
        self.peer = Peer(sip, "10.0.0.50", lambda request: 200)
        sip.serve(core)
        headers.setdefault("refer_to", f"<{SALES}>")
        headers.setdefault("contact", f"<{self.peer.uri}>")
        headers = {name: value for name, value in headers.items() if value is not None}
        self.request = self.peer.ask("REFER", **headers)

    @property
    def told(self):
        return [
            (request.body.decode().split("\r\n")[0].partition(" ")[2], request.subscription_state.state)
            for request in self.peer.requests
            if request.method == "NOTIFY"
        ]  # fmt: skip


def following(request, tx):
    if request.method == "REFER":
        tx.referral.follow(body="offer").hangup()
        return None
    return 501


@pytest.mark.rfc("3515 2.4.2", "3515 2.4.4")
def test_refer_outside_a_call_is_followed_with_notifies(sip):
    it = Referred(sip, following)
    assert it.peer.statuses == [202]
    assert "Contact" in it.peer.responses[-1].headers
    invite = it.target.last("INVITE")
    it.target.reply(invite, 180)
    it.target.reply(invite, 200, contact=f"<{it.target.uri}>")
    assert it.told == [
        ("100 Trying", "active"), ("180 Ringing", "active"), ("200 OK", "terminated"),
    ]  # fmt: skip


def test_refer_outside_a_call_is_refused_by_the_core(sip):
    it = Referred(sip, lambda request, tx: tx.referral.refuse())
    assert (it.peer.statuses, it.told) == ([603], [])


@pytest.mark.rfc("3515 2.4.2")
@pytest.mark.parametrize("missing", ["refer_to", "contact"])
def test_refer_outside_a_call_that_lacks_something_gets_400(sip, missing):
    it = Referred(sip, following, **{missing: None})
    assert (it.peer.statuses, it.told) == ([400], [])


@pytest.mark.rfc("3515 2.4.4", "6665 4.2.1.4")
def test_referrer_outside_a_call_may_end_its_subscription(sip):
    it = Referred(sip, following)
    it.peer.send(
        it.peer.within(
            it.request,
            it.peer.responses[-1],
            "SUBSCRIBE",
            event="refer",
            expires=0,
            contact=f"<{it.peer.uri}>",
        )
    )
    assert it.peer.statuses == [202, 200]
    assert it.told[-1][1] == "terminated"
    it.target.reply(it.target.last("INVITE"), 486)
    assert len(it.told) == 2


@pytest.mark.parametrize("seed", range(10))
def test_refer_between_two_stacks_on_a_lossy_network(sip, seed):
    sip.lossy(loss=0.1, delay=0.02, seed=seed)
    target = Peer(sip, "10.0.0.70", lambda request: 486)
    sip.serve(following)
    with pytest.raises(Reject) as refused:
        sip.run(sip.client.refer, AT_SERVER, SALES)
    assert refused.value.status == 486
    assert "INVITE" in target.methods


# ---- subscriptions that outlive their call


@pytest.mark.rfc("5057 4.2", "5057 5.3")
def test_bye_ends_the_call_and_not_the_subscription(sip):
    it = Placed(sip)
    seen = []
    transfer = start(sip, it.call.transfer, SALES, on_progress=lambda f: seen.append(f.status))
    it.peer.reply(it.peer.last("REFER"), 202, contact=f"<{it.peer.uri}>")
    it.ask("BYE")
    assert it.call.ended.is_set()
    assert transfer.get() is None
    notify = {"event": "refer", "content_type": "message/sipfrag"}
    it.ask("NOTIFY", body="SIP/2.0 180 Ringing\r\n", subscription_state="active", **notify)
    assert it.peer.statuses[-1] == 200
    it.ask("INFO")
    assert it.peer.statuses[-1] == 481
    it.ask("NOTIFY", body="SIP/2.0 200 OK\r\n", subscription_state="terminated", **notify)
    assert it.peer.statuses[-1] == 200
    assert seen == [180, 200]
    it.ask("NOTIFY", body="SIP/2.0 200 OK\r\n", subscription_state="terminated", **notify)
    assert it.peer.statuses[-1] == 481
    assert sip.client.stats()["subscriptions"] == 0


@pytest.mark.rfc("5057 4.2")
def test_bye_of_ours_leaves_the_subscription_of_the_peer(sip):
    """A peer that was accepted is told the outcome after our BYE, and may unsubscribe."""
    referrals = []

    def core(request, tx):
        if request.method == "REFER":
            tx.referral.accept()
            referrals.append(tx.referral)
            return None
        tx.respond(200, body="answer")
        referrals.append(tx.call)
        return None

    sip.serve(core)
    peer = Peer(sip, "10.0.0.50", lambda request: 200)
    invite = peer.ask("INVITE", body="offer", content_type="application/sdp")
    response = peer.responses[-1]
    peer.send(peer.within(invite, response, "ACK"))
    peer.send(
        peer.within(
            invite, response, "REFER", number=2, refer_to=f"<{SALES}>", contact=f"<{peer.uri}>"
        )
    )
    referrals[0].hangup()
    sip.settle()
    assert "BYE" in peer.methods
    referrals[1].progress(180)
    sip.settle()
    states = [str(request.body) for request in peer.requests if request.method == "NOTIFY"]
    assert len(states) == 2
    peer.send(
        peer.within(
            invite,
            response,
            "SUBSCRIBE",
            number=3,
            event="refer",
            expires=0,
            contact=f"<{peer.uri}>",
        )
    )
    assert peer.statuses[-1] == 200
    assert messages(sip, "NOTIFY")[-1].subscription_state.state == "terminated"


# ---- parameters that cannot be read


@pytest.mark.rfc("6665 4.1.3")
@pytest.mark.parametrize("expires", ["99999999999", "soon", "-1"])
def test_notify_whose_expires_cannot_be_read_counts_as_without(sip, expires, caplog):
    """Such a NOTIFY was shown to the application, and answered 500 with a traceback."""
    it = Watching(sip)
    assert it.notify(f"active;expires={expires}") == 200
    assert it.subscription.state == "active"
    assert it.notify("terminated;reason=noresource") == 200
    assert it.subscription.end.reason == "noresource"
    assert not caplog.records


@pytest.mark.rfc("6665 4.1.3")
def test_retry_after_that_cannot_be_read_is_0(sip):
    it = Watching(sip)
    assert it.notify("terminated;reason=giveup;retry-after=later") == 200
    assert it.subscription.retry_after == 0
