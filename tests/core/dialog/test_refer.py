"""REFER within calls: blind and attended transfers in all roles, RFC 3515, 4488 and 5589."""

from __future__ import annotations

import pytest

from sippet_gevent import Reject, TransactionStateError, TransactionTimeout
from sippet_gevent.core.dialog.event_package import REFER
from sippet_gevent.core.dialog.refer import refer_to
from sippet_gevent.core.dialog.referral import Refer

from ..wire import Peer, sent, start
from .test_call import CALLEE, CALLER, Placed, Taken

SALES = "sip:sales@10.0.0.70"
SIPFRAG = "message/sipfrag;version=2.0"


class Transferring(Placed):
    """A call of ours whose peer is asked to call somebody else."""

    def __init__(self, sip, **options):
        super().__init__(sip)
        self.outcome = start(sip, self.call.transfer, SALES, **options)
        self.refer = self.peer.last("REFER")

    def notify(self, line, state="active;expires=60", event="refer", **headers):
        """The peer sends a NOTIFY. Returns the status that it gets."""
        self.ask(
            "NOTIFY", body=f"SIP/2.0 {line}\r\n" if line else "", content_type=SIPFRAG,
            event=event, subscription_state=state, **headers,
        )  # fmt: skip
        return self.peer.statuses[-1]

    def accept(self, **headers):
        self.peer.reply(self.refer, 202, contact=f"<{self.peer.uri}>", **headers)


@pytest.fixture
def transferring(sip):
    call = Transferring(sip)
    yield call
    call.call.hangup()


def subscriptions(call):
    return [*call.dialog.usages[1:]]


# ---- we ask for a transfer


@pytest.mark.rfc("3515 2.4.1", "3892 2.1")
def test_transfer_sends_a_refer_within_the_call(transferring):
    refer = transferring.refer
    assert refer.call_id == transferring.call.dialog.call_id
    assert str(refer.refer_to.uri) == SALES
    assert refer.referred_by.uri == transferring.call.dialog.local.uri
    assert "Refer-Sub" not in refer.headers
    assert "Contact" in refer.headers  # RFC 3515 §2.2
    transferring.accept()
    transferring.notify("200 OK", "terminated;reason=noresource")


@pytest.mark.rfc("3515 2.4.4", "3515 2.4.7")
def test_transfer_returns_when_the_target_has_answered(transferring):
    transferring.accept()
    assert transferring.notify("100 Trying") == 200
    assert transferring.notify("180 Ringing") == 200
    assert not transferring.outcome.ready()
    assert transferring.notify("200 OK", "terminated;reason=noresource") == 200
    assert transferring.outcome.get() is None
    assert not transferring.call.ended.is_set()
    assert subscriptions(transferring.call) == []


@pytest.mark.rfc("3515 2.4.4")
def test_notify_may_come_before_the_202(transferring):
    assert transferring.notify("100 Trying") == 200
    transferring.accept()
    transferring.notify("200 OK", "terminated;reason=noresource")
    assert transferring.outcome.get() is None


@pytest.mark.rfc("3515 2.4.5")
@pytest.mark.parametrize("line", ["100 Trying", "180 Ringing"])
def test_transfer_whose_last_notify_has_no_final_status_is_no_success(transferring, line):
    transferring.accept()
    assert transferring.notify(line, "terminated;reason=noresource") == 200
    with pytest.raises(TransactionTimeout):
        transferring.outcome.get()
    assert not transferring.call.ended.is_set()


@pytest.mark.rfc("5359 2.4")
def test_transfer_whose_call_we_hang_up_returns(transferring):
    transferring.accept()
    transferring.call.hangup()
    transferring.sip.settle()
    assert transferring.outcome.get() is None
    transferring.notify("200 OK", "terminated;reason=noresource")


@pytest.mark.rfc("3515 2.4.5", "3261 12.2.1.2")
def test_transfer_whose_call_fails_has_no_outcome(transferring):
    transferring.accept()
    asking = start(transferring.sip, transferring.call.request, "INFO")
    transferring.peer.reply(transferring.peer.last("INFO"), 481)
    assert asking.get().status == 481
    with pytest.raises(TransactionStateError):
        transferring.outcome.get()
    transferring.notify("200 OK", "terminated;reason=noresource")


@pytest.mark.rfc("3515 2.4.5")
def test_transfer_that_fails_raises_the_status_of_the_target_and_the_call_goes_on(transferring):
    transferring.accept()
    transferring.notify("486 Busy Here", "terminated;reason=noresource")
    with pytest.raises(Reject) as refused:
        transferring.outcome.get()
    assert (refused.value.status, refused.value.reason) == (486, "Busy Here")
    assert not transferring.call.ended.is_set()


def test_peer_that_refuses_the_refer_raises_its_status(transferring):
    transferring.peer.reply(transferring.refer, 603)
    with pytest.raises(Reject) as refused:
        transferring.outcome.get()
    assert refused.value.status == 603
    assert subscriptions(transferring.call) == []
    assert transferring.notify("200 OK") == 481


@pytest.mark.rfc("6665 4.1.2.4")
def test_peer_that_never_notifies_is_given_up_with_timer_n(transferring):
    transferring.accept()
    transferring.sip.advance(33)
    with pytest.raises(TransactionTimeout):
        transferring.outcome.get()
    assert transferring.notify("200 OK") == 481
    assert not transferring.call.ended.is_set()


def test_transfer_takes_a_timeout(sip):
    transferring = Transferring(sip, timeout=5)
    transferring.accept()
    transferring.notify("100 Trying")
    sip.advance(6)
    with pytest.raises(TransactionTimeout):
        transferring.outcome.get()
    assert transferring.notify("200 OK", "terminated;reason=noresource") == 200  # it is known still
    transferring.call.hangup()


def test_progress_is_told_to_a_function_and_as_events(sip):
    seen = []
    transferring = Transferring(sip, on_progress=lambda fragment: seen.append(fragment.status))
    transferring.accept()
    transferring.notify("100 Trying")
    transferring.notify("180 Ringing")
    transferring.notify("200 OK", "terminated;reason=noresource")
    transferring.call.hangup()
    events = list(transferring.call.events())
    assert seen == [100, 180, 200]
    assert [(event.kind, event.status) for event in events] == [
        ("progress", 100), ("progress", 180), ("progress", 200), ("end", 0),
    ]  # fmt: skip


def test_peer_that_hangs_up_after_accepting_has_taken_the_transfer(transferring):
    transferring.accept()
    transferring.notify("100 Trying")
    transferring.ask("BYE")
    assert transferring.outcome.get() is None
    assert subscriptions(transferring.call) == []


@pytest.mark.rfc("4488 4")
def test_peer_that_creates_no_subscription_ends_the_wait(transferring):
    transferring.accept(refer_sub="false")
    assert transferring.outcome.get() is None
    assert subscriptions(transferring.call) == []


@pytest.mark.rfc("4488 4")
def test_transfer_without_subscription_asks_for_none(sip):
    transferring = Transferring(sip, subscribe=False)
    assert transferring.refer.headers["Refer-Sub"] == "false"
    assert "norefersub" in transferring.refer.supported
    transferring.accept()
    assert transferring.outcome.get() is None
    # the peer has created one anyway
    assert transferring.notify("200 OK", "terminated;reason=noresource") == 200
    assert subscriptions(transferring.call) == []
    transferring.call.hangup()


@pytest.mark.rfc("3515 2.4.6")
def test_second_transfer_gets_the_notify_with_its_id(transferring):
    transferring.accept()
    transferring.notify("486 Busy Here", "terminated;reason=noresource")
    again = start(transferring.sip, transferring.call.transfer, SALES)
    refer = transferring.peer.last("REFER")
    transferring.peer.reply(refer, 202, contact=f"<{transferring.peer.uri}>")
    number = refer.cseq.number
    assert transferring.notify("200 OK", event="refer;id=1") == 481
    event = f"refer;id={number}"
    assert transferring.notify("200 OK", "terminated;reason=noresource", event=event) == 200
    assert again.get() is None
    with pytest.raises(Reject):
        transferring.outcome.get()


@pytest.mark.rfc("6665 4.1.3")
@pytest.mark.parametrize(
    ("line", "state", "event", "status"),
    [
        ("200 OK", None, "refer", 400),
        ("", "active", "refer", 400),
        ("garbage", "active", "refer", 400),
        ("200 OK", "active", "refer;id=77", 481),
    ],
)
def test_notify_that_cannot_be_used_is_refused(transferring, line, state, event, status):
    transferring.accept()
    assert transferring.notify(line, state, event) == status
    transferring.notify("200 OK", "terminated;reason=noresource")
    assert transferring.outcome.get() is None


# ---- the peer asks for a transfer


class Referred(Taken):
    """A call that our stack has taken, whose peer asks for a transfer."""

    def __init__(self, sip, core):
        super().__init__(sip, core)
        self.target = Peer(sip, "10.0.0.70")
        self.peer.answer = lambda request: 200

    def refer(self, to=SALES, **headers):
        headers.setdefault("refer_to", f"<{to}>")
        headers.setdefault("contact", f"<{self.peer.uri}>")
        self.ask("REFER", **headers)
        return self.peer.responses[-1]

    @property
    def notifies(self):
        """The first line and the state that each NOTIFY told."""
        return [
            (request.body.decode().split("\r\n")[0].partition(" ")[2], request.headers["Subscription-State"].partition(";")[0])
            for request in self.peer.requests
            if request.method == "NOTIFY"
        ]  # fmt: skip


def following(request, tx):
    if request.method == "REFER":
        tx.referral.follow(body="offer 2").hangup()
        return None
    return 501


@pytest.mark.rfc("3515 2.4.2", "3515 2.4.4", "3892 2.2")
def test_referral_is_followed_with_notifies(sip):
    referred = Referred(sip, following)
    response = referred.refer(referred_by="<sip:peer@10.0.0.50>")
    assert response.status == 202
    assert "Contact" in response.headers
    assert referred.notifies == [("100 Trying", "active")]
    invite = referred.target.last("INVITE")
    assert str(invite.uri) == SALES
    assert (invite.body, str(invite.referred_by)) == (b"offer 2", "<sip:peer@10.0.0.50>")
    referred.target.reply(invite, 180)
    assert referred.notifies[1:] == [("180 Ringing", "active")]
    referred.target.reply(invite, 200, contact=f"<{referred.target.uri}>")
    assert referred.notifies[2:] == [("200 OK", "terminated")]
    last = referred.peer.last("NOTIFY")
    assert last.headers["Subscription-State"] == "terminated;reason=noresource"
    assert (last.headers["Event"], last.headers["Content-Type"]) == ("refer", SIPFRAG)
    assert not referred.call.ended.is_set()
    assert len(referred.call.dialog.usages) == 1
    referred.call.hangup()


@pytest.mark.rfc("3515 2.4.5")
def test_target_that_refuses_is_told_to_the_referrer(sip):
    referred = Referred(sip, following)
    referred.refer()
    referred.target.reply(referred.target.last("INVITE"), 486)
    assert referred.notifies[-1] == ("486 Busy Here", "terminated")
    referred.call.hangup()


def test_referrer_that_hangs_up_at_once_is_told_still(sip):
    referred = Referred(sip, following)
    referred.refer()
    referred.ask("BYE")
    assert referred.call.ended.is_set()
    referred.target.reply(referred.target.last("INVITE"), 200, contact=f"<{referred.target.uri}>")
    assert referred.notifies[-1] == ("200 OK", "terminated")


@pytest.mark.rfc("5589 7.1", "3891 4")
def test_attended_transfer_sends_replaces_to_the_target(sip):
    referred = Referred(sip, following)
    referred.refer("sip:sales@10.0.0.70?Replaces=abc%40h%3Bto-tag%3D1%3Bfrom-tag%3D2")
    invite = referred.target.last("INVITE")
    assert str(invite.uri) == SALES
    assert invite.headers["Replaces"] == "abc@h;to-tag=1;from-tag=2"
    referred.target.reply(invite, 486)
    referred.call.hangup()


@pytest.mark.rfc("5589 7.5")
@pytest.mark.parametrize(
    ("require", "sent"), [("replaces", "replaces"), ("REPLACES%2Cx", "replaces"), ("x", None)]
)
def test_replaces_is_required_of_the_target_if_the_referrer_says_so(sip, require, sent):
    referred = Referred(sip, following)
    replaces = "abc%40h%3Bto-tag%3D1%3Bfrom-tag%3D2"
    referred.refer(f"sip:sales@10.0.0.70?Replaces={replaces}&Require={require}")
    invite = referred.target.last("INVITE")
    assert invite.headers.get("Require") == sent
    referred.target.reply(invite, 486)
    referred.call.hangup()


@pytest.mark.rfc("4488 4")
def test_referrer_that_wants_no_subscription_gets_none(sip):
    referred = Referred(sip, following)
    response = referred.refer(refer_sub="false")
    assert (response.status, response.headers["Refer-Sub"]) == (202, "false")
    referred.target.reply(referred.target.last("INVITE"), 486)
    assert referred.notifies == []
    referred.call.hangup()


@pytest.mark.rfc("3515 2.4.2")
@pytest.mark.parametrize("values", [[], ["<sip:a@h>", "<sip:b@h>"], ["<"]])
def test_refer_without_one_refer_to_gets_400(sip, values):
    referred = Referred(sip, following)
    request = referred.peer.within(
        referred.invite, referred.response, "REFER", number=referred.number + 1
    )
    for value in values:
        request.headers.add("Refer-To", value)
    referred.peer.send(request)
    assert referred.peer.statuses[-1] == 400
    referred.call.hangup()


@pytest.mark.parametrize("to", ["sip:sales@10.0.0.70;method=BYE", "http://www.example.com"])
def test_referral_to_something_else_than_a_call_is_refused(sip, to):
    referred = Referred(sip, following)
    assert referred.refer(to).status == 501
    referred.call.hangup()


def test_referral_is_refused_by_the_application(sip):
    referred = Referred(sip, lambda request, tx: tx.referral.refuse())
    assert referred.refer().status == 603
    assert referred.notifies == []
    referred.call.hangup()


@pytest.mark.rfc("3515 2.4.6")
def test_notify_of_a_second_refer_has_its_number(sip):
    referred = Referred(sip, following)
    referred.refer()
    referred.target.reply(referred.target.last("INVITE"), 486)
    referred.refer()
    assert referred.peer.last("NOTIFY").headers["Event"] == f"refer;id={referred.number}"
    referred.target.reply(referred.target.last("INVITE"), 486)
    referred.call.hangup()


@pytest.mark.rfc("3515 2.4.4", "6665 4.2.1.4")
def test_referrer_may_end_its_subscription_and_the_call_to_the_target_goes_on(sip):
    referred = Referred(sip, following)
    referred.refer()
    referred.ask("SUBSCRIBE", event="refer", expires=0, contact=f"<{referred.peer.uri}>")
    assert (referred.peer.responses[-1].status, referred.peer.responses[-1].expires) == (200, 0)
    assert referred.notifies[-1] == ("100 Trying", "terminated")
    invite = referred.target.last("INVITE")
    referred.target.reply(invite, 200, contact=f"<{referred.target.uri}>")
    assert "CANCEL" not in referred.target.methods
    assert len(referred.notifies) == 2
    referred.call.hangup()


@pytest.mark.rfc("6665 3.1", "6665 3.2")
@pytest.mark.parametrize("method", ["SUBSCRIBE", "NOTIFY"])
def test_subscribe_and_notify_refresh_the_remote_target(sip, method):
    if method == "SUBSCRIBE":
        asked = Referred(sip, lambda request, tx: tx.referral.accept())
        asked.refer()
        asked.ask("SUBSCRIBE", event="refer", contact="<sip:desk@10.0.0.50:5060>")
    else:
        asked = Transferring(sip)
        asked.accept()
        asked.notify("100 Trying", contact="<sip:desk@10.0.0.50:5060>")
    assert asked.call.dialog.remote_target.user == "desk"
    asked.call.hangup()


@pytest.mark.rfc("6665 4.2.2")
def test_no_notify_follows_the_last_one(sip):
    referrals = []

    def accepting(request, tx):
        tx.referral.accept()
        referrals.append(tx.referral)

    referred = Referred(sip, accepting)
    referred.refer()
    (subscription,) = referred.call.dialog.usages[1:]
    start(sip, referrals[0].finish, 200)
    start(sip, subscription._try)  # as a SUBSCRIBE that came just before has planned
    assert referred.notifies == [("100 Trying", "active"), ("200 OK", "terminated")]
    referred.call.hangup()


@pytest.mark.rfc("3515 2.4.4")
def test_subscribe_to_a_refer_that_does_not_exist_gets_403(sip):
    referred = Referred(sip, following)
    referred.ask("SUBSCRIBE", event="refer", contact=f"<{referred.peer.uri}>")
    assert referred.peer.statuses[-1] == 403
    referred.call.hangup()


@pytest.mark.rfc("6665 4.2.1.4")
def test_subscription_of_a_referrer_ends_with_timeout(sip):
    def accepting(request, tx):
        tx.referral.accept()

    referred = Referred(sip, accepting)
    referred.refer()
    sip.advance(REFER.longest + 1)
    assert referred.notifies == [("100 Trying", "active"), ("100 Trying", "terminated")]
    assert referred.peer.last("NOTIFY").subscription_state.reason == "timeout"
    referred.call.hangup()


@pytest.mark.rfc("6665 4.2.2")
@pytest.mark.parametrize("status", [481, 404, 489])
def test_notify_that_is_refused_ends_the_subscription(sip, status):
    referred = Referred(sip, following)
    referred.peer.answer = lambda request: status if request.method == "NOTIFY" else 200
    referred.refer()
    referred.target.reply(referred.target.last("INVITE"), 486)
    assert referred.notifies == [("100 Trying", "active")]
    referred.call.hangup()


# ---- events


def test_refer_is_an_event_that_the_application_follows(sip):
    placed = Placed(sip)
    target = Peer(sip, "10.0.0.70")
    placed.peer.answer = lambda request: 200
    seen = []

    def read():
        for event in placed.call.events():
            seen.append(event.kind)
            if event.kind == "transfer":
                event.referral.follow(body="offer 2").hangup()

    reading = start(sip, read)
    placed.ask("REFER", refer_to=f"<{SALES}>", contact=f"<{placed.peer.uri}>")
    target.reply(target.last("INVITE"), 200, contact=f"<{target.uri}>")
    placed.ask("BYE")
    reading.get()
    assert seen == ["transfer", "end"]
    assert [label for label in sent(sip, CALLEE) if label == "202"] == []
    assert placed.peer.statuses[0] == 202


# ---- two stacks and a target, RFC 5589 §7


@pytest.mark.rfc("5589 7.1")
def test_refer_to_of_a_call_names_its_dialog_as_the_target_sees_it(sip):
    call = Placed(sip)
    found = refer_to(call.call)
    assert found.uri.host == CALLEE
    assert found.replaces.call_id == call.call.dialog.call_id
    assert (found.replaces.to_tag, found.replaces.from_tag) == (
        call.call.dialog.remote.tag, call.call.dialog.local.tag,
    )  # fmt: skip
    call.call.hangup()


def test_rule_is_in_each_call(sip):
    taken = Taken(sip)
    assert Refer in taken.call.plan.classes
    assert isinstance(taken.call.rule_of(Refer), Refer)
    assert CALLER in str(taken.call.dialog.remote_target)
    taken.call.hangup()


# ---- three stacks, RFC 5589


HOSTS = {"transferor": "10.0.0.11", "transferee": "10.0.0.12", "target": "10.0.0.13"}


class Three:
    """Transferor, transferee and target: three stacks that place and answer calls."""

    def __init__(self, sip):
        self.sip = sip
        self.calls = {name: [] for name in HOSTS}
        self.stacks = {name: sip.stack(self.core(name), host) for name, host in HOSTS.items()}

    def core(self, name):
        def core(request, tx):
            if request.method == "REFER":
                self.calls[name].append(tx.referral.follow(body="offer 3"))
                return None
            if request.method != "INVITE":
                return 501
            tx.respond(180)
            self.calls[name].append(tx.accept(body="answer"))
            return None

        return core

    def invite(self, name, callee):
        call = self.sip.run(self.stacks[name].invite, f"sip:{callee}@{HOSTS[callee]}", body="offer")
        self.sip.settle()
        return call

    def between(self, first, second):
        """What two of them have sent each other, with the sender's initials."""
        hosts = {host: name for name, host in HOSTS.items()}
        return [
            f"{'>' if hosts[carried.source[0]] == first else '<'}{_label(carried.data)}"
            for carried in self.sip.network.trace
            if {hosts[carried.source[0]], hosts[carried.destination[0]]} == {first, second}
        ]

    @property
    def open_calls(self):
        self.sip.settle()
        return {name: len(stack.dialogs) for name, stack in self.stacks.items()}


def _label(data):
    first, second = data.split(b" ", 2)[:2]
    return (second if first == b"SIP/2.0" else first).decode()


@pytest.mark.rfc("5589 6.1", "3515 4.1")
def test_blind_transfer_between_three_stacks(sip):
    three = Three(sip)
    call = three.invite("transferor", "transferee")
    sip.network.trace.clear()
    with call:
        sip.run(call.transfer, f"sip:target@{HOSTS['target']}")
    sip.settle()
    messages = three.between("transferor", "transferee")
    assert messages.count(">200") == 3  # to the NOTIFYs, which may cross
    assert [message for message in messages if message != ">200"] == [
        ">REFER", "<202", "<NOTIFY", "<NOTIFY", "<NOTIFY", ">BYE", "<200",
    ]  # fmt: skip
    assert three.between("transferee", "target") == [">INVITE", "<180", "<200", ">ACK"]
    assert three.open_calls == {"transferor": 0, "transferee": 1, "target": 1}
    three.calls["target"][0].hangup()
    assert set(three.open_calls.values()) == {0}


@pytest.mark.rfc("5589 7.1", "3891 3")
def test_attended_transfer_between_three_stacks(sip):
    three = Three(sip)
    call = three.invite("transferor", "transferee")
    consultation = three.invite("transferor", "target")
    sip.network.trace.clear()
    with call:
        sip.run(call.transfer, consultation)
    sip.settle()
    assert three.between("transferee", "target") == [">INVITE", "<180", "<200", ">ACK"]
    assert three.between("transferor", "target") == ["<BYE", ">200"]  # it was replaced
    assert consultation.ended.is_set()
    replaced, new = three.calls["target"]
    assert replaced.end.cause == "replaced"
    assert new.remote_body == b"offer 3"
    assert three.open_calls == {"transferor": 0, "transferee": 1, "target": 1}
    new.hangup()
    assert set(three.open_calls.values()) == {0}


@pytest.mark.rfc("5589 6.3.1")
def test_transfer_to_a_busy_target_leaves_the_first_call(sip):
    three = Three(sip)
    call = three.invite("transferor", "transferee")
    three.stacks["target"].core = lambda request, tx: 486
    with pytest.raises(Reject) as refused:
        sip.run(call.transfer, f"sip:target@{HOSTS['target']}")
    assert refused.value.status == 486
    assert three.open_calls == {"transferor": 1, "transferee": 1, "target": 0}
    call.hangup()
    assert set(three.open_calls.values()) == {0}


@pytest.mark.parametrize("seed", range(10))
def test_transfer_on_a_lossy_network_ends_as_on_a_good_one(sip, seed):
    three = Three(sip)
    call = three.invite("transferor", "transferee")
    sip.lossy(loss=0.2, seed=seed)
    with call:
        sip.run(call.transfer, f"sip:target@{HOSTS['target']}")
    sip.advance(40)
    sip.lossy(loss=0.0)
    assert three.open_calls == {"transferor": 0, "transferee": 1, "target": 1}
    three.calls["target"][0].hangup()
    sip.advance(40)
    assert set(three.open_calls.values()) == {0}
