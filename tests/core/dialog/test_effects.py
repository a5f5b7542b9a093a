"""What a failed request within a dialog ends: the table of RFC 5057 §5.1."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject
from sippet_gevent.core.dialog.effects import Effect, effect_of, effect_on_call

from ..wire import start
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
