"""What a failed request within a dialog ends: the table of RFC 5057 §5.1."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject
from sippet_gevent.core.dialog.effects import (
    Effect,
    effect_of,
    effect_of_ours,
    effect_on_call,
)

from ..wire import Peer, start
from .test_call import Placed, Taken

TRANSACTION = (
    300, 302, 400, 401, 402, 403, 406, 407, 412, 413, 414, 415, 417, 420, 421, 422, 423, 428, 429,
    436, 437, 438, 486, 487, 488, 491, 493, 494, 499, 500, 503, 504, 505, 513, 580, 599, 600, 603,
    606, 699,
)  # fmt: skip
USAGE = (405, 408, 480, 481, 501)
DIALOG = (404, 410, 416, 482, 483, 484, 485, 502, 604)


@pytest.mark.rfc("5057 5.1")
@pytest.mark.parametrize("status", TRANSACTION)
def test_status_that_ends_its_transaction_alone(status):
    assert effect_of("INVITE", status) is Effect.TRANSACTION


@pytest.mark.rfc("5057 5.1", "5057 5.2", "3261 12.2.1.2")
@pytest.mark.parametrize("status", USAGE)
def test_status_that_ends_its_usage(status):
    assert effect_of("INVITE", status) is Effect.USAGE


@pytest.mark.rfc("5057 5.1")
@pytest.mark.parametrize("status", DIALOG)
@pytest.mark.parametrize("method", ["INVITE", "INFO", "OPTIONS", "NOTIFY"])
def test_status_that_ends_the_dialog(method, status):
    assert effect_of(method, status) is Effect.DIALOG


@pytest.mark.rfc("5057 5.1", "5057 5.3")
@pytest.mark.parametrize(
    ("method", "status", "effect"),
    [
        ("INFO", 405, Effect.TRANSACTION),
        ("INFO", 501, Effect.TRANSACTION),
        ("FROBNICATE", 501, Effect.TRANSACTION),
        ("NOTIFY", 405, Effect.USAGE),
        ("NOTIFY", 489, Effect.USAGE),
        ("INVITE", 489, Effect.TRANSACTION),
        ("OPTIONS", 480, Effect.TRANSACTION),
        ("MESSAGE", 480, Effect.TRANSACTION),
        ("OPTIONS", 481, Effect.USAGE),
        ("INFO", 481, Effect.USAGE),
        ("INFO", 480, Effect.USAGE),
        ("FROBNICATE", 480, Effect.TRANSACTION),
        ("FROBNICATE", 481, Effect.USAGE),
    ],
)
def test_method_decides_what_a_status_ends(method, status, effect):
    assert effect_of(method, status) is effect


@pytest.mark.rfc("5057 5.1", "5057 5.2", "5057 5.3", "3261 12.2.1.2")
@pytest.mark.parametrize(
    ("method", "status", "effect"),
    [
        ("REFER", 405, Effect.TRANSACTION),
        ("REFER", 480, Effect.TRANSACTION),
        ("REFER", 408, Effect.USAGE),
        ("REFER", 481, Effect.USAGE),
        ("REFER", 404, Effect.DIALOG),
        ("NOTIFY", 480, Effect.TRANSACTION),
        ("NOTIFY", 481, Effect.TRANSACTION),
        ("SUBSCRIBE", 408, Effect.TRANSACTION),
        ("SUBSCRIBE", 489, Effect.TRANSACTION),
        ("SUBSCRIBE", 502, Effect.DIALOG),
        ("INVITE", 480, Effect.USAGE),
        ("OPTIONS", 481, Effect.USAGE),
    ],
)
def test_end_of_a_subscription_leaves_the_call(method, status, effect):
    assert effect_on_call(method, status) is effect


@pytest.mark.rfc("5057 5.1", "3262 3", "4320 4.2")
@pytest.mark.parametrize(
    ("method", "status", "effect"),
    [
        ("PRACK", 481, Effect.TRANSACTION),
        ("PRACK", 404, Effect.DIALOG),
        ("INVITE", 408, Effect.USAGE),
        ("INFO", 408, Effect.TRANSACTION),
        ("INVITE", 483, Effect.TRANSACTION),
        ("INFO", 483, Effect.TRANSACTION),
        ("INFO", 481, Effect.USAGE),
        ("MESSAGE", 481, Effect.TRANSACTION),
        ("PUBLISH", 481, Effect.TRANSACTION),
        ("PUBLISH", 404, Effect.DIALOG),
        ("REFER", 480, Effect.TRANSACTION),
        ("REFER", 404, Effect.DIALOG),
        ("NOTIFY", 481, Effect.TRANSACTION),
        ("NOTIFY", 410, Effect.DIALOG),
    ],
)
def test_refusal_of_ours_has_the_effect_that_it_has_at_the_peer(method, status, effect):
    assert effect_of_ours(method, status) is effect


# ---- a dialog that a call and a subscription share

RESPONSES = (*TRANSACTION, *USAGE, 489, *DIALOG)

ENDS = {
    # by method: statuses that end the call alone, and the subscription alone
    "INFO": ({408, 480, 481}, set()),
    "INVITE": ({405, 408, 480, 481, 501}, set()),
    "MESSAGE": ({408, 481}, set()),
    "NOTIFY": (set(), {405, 408, 480, 481, 489, 501}),
}


class Sharing(Taken):
    """A call that our stack has taken, and the subscription of a REFER of the caller in it."""

    def __init__(self, sip):
        self.referral = None
        super().__init__(sip, self.serve)
        self.peer.answer = lambda request: 200
        self.ask("REFER", refer_to="<sip:sales@10.0.0.70>", contact=f"<{self.peer.uri}>")
        assert self.subscriptions == 1

    def serve(self, request, tx):
        self.referral = tx.referral
        tx.referral.accept()

    @property
    def subscriptions(self):
        return self.stack.stats()["subscriptions"]


@pytest.mark.rfc("5057 5.1", "5057 5.2", "5057 5.3")
@pytest.mark.parametrize("method", ENDS)
@pytest.mark.parametrize("status", RESPONSES)
def test_refusal_ends_what_the_table_says(sip, method, status):
    it = Sharing(sip)
    it.peer.answer = lambda request: 200 if request.method == "BYE" else status
    if method == "NOTIFY":
        start(sip, it.referral.progress, 180)
    else:
        start(sip, it.call.request, method)
    calls, subscriptions = ENDS[method]
    ends_call = status in calls or status in DIALOG
    ends_subscription = status in subscriptions or status in DIALOG
    assert it.call.ended.is_set() is ends_call
    assert it.subscriptions == (not ends_subscription)
    if ends_call:
        assert it.call.end[:3] == ("us", "refused", status)
        assert it.peer.methods[-1] == "BYE"  # that is how the dialog of a call ends
    it.peer.answer = lambda request: 200
    it.call.hangup()
    start(sip, it.referral.finish, 200)
    sip.settle()
    assert it.subscriptions == len(it.stack.dialogs) == len(it.stack.dialogs._others) == 0


@pytest.mark.rfc("5057 5.1")
@pytest.mark.parametrize("status", DIALOG)
def test_refusal_that_ends_the_dialog_ends_our_subscription_too(sip, status):
    it = Placed(sip)
    transfer = start(sip, it.call.transfer, "sip:sales@10.0.0.70")
    it.peer.reply(it.peer.last("REFER"), 202, contact=f"<{it.peer.uri}>")
    it.peer.answer = lambda request: 200 if request.method == "BYE" else status
    start(sip, it.call.request, "INFO")
    assert it.call.end[:3] == ("us", "refused", status)
    assert sip.client.stats()["subscriptions"] == 0
    assert transfer.ready()


@pytest.mark.rfc("5057 5.1", "5057 5.3")
@pytest.mark.parametrize("status", [405, 480, 486, 501, 603])
def test_refused_refer_leaves_the_call(sip, status):
    it = Placed(sip)
    it.peer.answer = lambda request: status if request.method == "REFER" else 200
    transfer = start(sip, it.call.transfer, "sip:sales@10.0.0.70")
    with pytest.raises(Reject) as refused:
        transfer.get()
    assert refused.value.status == status
    assert not it.call.ended.is_set()
    assert sip.client.stats()["subscriptions"] == 0
    it.call.hangup()


# ---- refusals of ours

OUR_ENDS = {
    "INFO": {480, 481},
    "INVITE": {405, 408, 480, 481, 501},
    "MESSAGE": set(),
    "NOTIFY": set(),
    "OPTIONS": set(),
    "UPDATE": {480, 481},
}
"""Our refusals that end the call, by the method of the peer's request."""


@pytest.mark.rfc("5057 5.1", "5057 5.3")
@pytest.mark.parametrize("method", OUR_ENDS)
@pytest.mark.parametrize("status", (300, 400, 486, 500, 603, *USAGE, 489, *DIALOG))
def test_our_refusal_ends_what_the_table_says(sip, method, status):
    it = Sharing(sip)
    it.call.handlers = {**it.call.handlers, method: lambda request, tx: status}
    if method == "INVITE":
        it.call._on_reinvite = it.call.handlers["INVITE"]
    headers = {"event": "x", "subscription_state": "active"} if method == "NOTIFY" else {}
    if method in ("INVITE", "UPDATE"):
        headers = {"contact": f"<{it.peer.uri}>"}
    it.ask(method, **headers)
    if method == "INVITE" or status != 408:  # no 408 is sent to other methods (RFC 4320 §4.2)
        assert it.peer.statuses[-1] == status
    ends_dialog = status in DIALOG and status != 483
    ends_call = ends_dialog or status in OUR_ENDS[method]
    assert it.call.ended.is_set() is ends_call
    assert it.subscriptions == (not ends_dialog)
    if ends_call:
        assert it.call.end[:3] == ("us", "refused", status)
        assert it.peer.methods[-1] == "BYE"
    it.call.hangup()
    start(sip, it.referral.finish, 200)
    sip.settle()
    assert it.subscriptions == len(it.stack.dialogs) == len(it.stack.dialogs._others) == 0


@pytest.mark.rfc("5057 5.1")
@pytest.mark.parametrize("status", [404, 480, 486])
def test_our_refusal_of_an_info_ends_an_early_call(sip, status):
    """The INVITE is refused with 480, because the dialog of the INFO has ended."""
    refused = []

    def core(request, tx):
        if request.method == "INFO":
            return status
        tx.respond(180)
        try:
            tx.wait(100)
        except Exception as error:
            refused.append(type(error).__name__)
            raise

    stack = sip.serve(core)
    peer = Peer(sip, "10.0.0.50")
    invite = peer.ask("INVITE")
    ringing = peer.responses[-1]
    peer.send(peer.within(invite, ringing, "INFO"))
    assert status in peer.statuses
    if status == 486:
        assert not refused
        peer.send(invite.cancel())
        assert peer.statuses[-1] == 487
    else:
        assert peer.statuses[-1] == 480
    sip.advance(64)
    assert refused == ["Cancelled"]
    assert stack.dialogs.early == 0


@pytest.mark.rfc("5057 5.1", "6665 4.1.3")
@pytest.mark.parametrize("status", [404, 481, 489, 500])
def test_our_refusal_of_a_notify_ends_our_subscription(sip, status):
    it = Placed(sip)
    refer = it.call.dialog
    it.peer.answer = None
    transfer = start(sip, it.call.transfer, "sip:sales@10.0.0.70")
    it.peer.reply(it.peer.last("REFER"), 202, contact=f"<{it.peer.uri}>")
    [usage] = [each for each in refer.usages if each is not it.call]

    def refuse(request):
        raise Reject(status)

    usage._on_notify = refuse
    it.ask(
        "NOTIFY",
        event="refer",
        subscription_state="active",
        body="SIP/2.0 180 Ringing\r\n",
        content_type="message/sipfrag",
    )
    assert it.peer.statuses[-1] == status
    assert sip.client.stats()["subscriptions"] == (status == 500)
    assert it.call.ended.is_set() is (status == 404)
    it.call.hangup()
    sip.advance(100)
    assert transfer.ready()
