"""Replaces and Join: which call an INVITE takes over or enters, RFC 3891 §3 and RFC 3911 §4."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sippet_gevent import Reject
from sippet_gevent.core.dialog.end import End
from sippet_gevent.core.dialog.refer import replaces_of
from sippet_gevent.core.dialog.replaces import dialog_of, refusal
from sippet_gevent.message.fields.replaces import Join, Replaces, TargetDialog

from ..wire import Peer, start
from .test_call import CALLEE, CALLER, Placed

ANOTHER = "10.0.0.51"


def call(*, confirmed=True, caller=False, ended=False):
    return SimpleNamespace(
        end=End("us", "bye") if ended else None, is_confirmed=confirmed, is_caller=caller
    )


# ---- which call, and whether it may be replaced


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize(
    ("found", "has_ended", "early_only", "status"),
    [
        (None, False, False, 481),
        (None, True, False, 603),
        (call(ended=True), False, False, 603),
        (call(), False, False, None),
        (call(), False, True, 486),
        (call(caller=True), False, False, None),
        (call(confirmed=False, caller=True), False, False, None),
        (call(confirmed=False, caller=True), False, True, None),
        (call(confirmed=False), False, False, 481),
        (call(confirmed=False), False, True, 481),
    ],
)
def test_refusal_by_the_state_of_the_call(found, has_ended, early_only, status):
    assert refusal(found, has_ended=has_ended, early_only=early_only) == status


@pytest.mark.rfc("3891 3", "3911 4", "4538 7")
@pytest.mark.parametrize(
    "named",
    [
        Replaces.parse("abc@h;to-tag=ours;from-tag=theirs"),
        Join.parse("abc@h;from-tag=theirs;to-tag=ours"),
        TargetDialog.parse("abc@h;local-tag=theirs;remote-tag=ours"),
    ],
    ids=["Replaces", "Join", "Target-Dialog"],
)
def test_our_tag_is_that_of_the_receiver(named):
    assert dialog_of(named) == ("abc@h", "ours", "theirs")


# ---- on the wire


class Desk:
    """A stack with one call that it has taken, and a second caller."""

    def __init__(self, sip, *, ring=False, **options):
        self.sip = sip
        self.calls = []
        self.rings = ring

        def core(request, tx):
            if request.method != "INVITE" or tx.call is not None:
                return 501
            if self.rings:
                tx.respond(180)
                self.calls.append(tx.call)
                tx.wait(60)
                return 486
            tx.respond(200, body="answer")
            self.calls.append(tx.call)
            return None

        self.stack = sip.serve(core, **options)
        self.peer = Peer(sip, CALLER, lambda request: 200)
        self.invite = self.peer.ask("INVITE")
        self.response = self.peer.responses[-1]
        if not ring:
            self.peer.send(self.peer.within(self.invite, self.response, "ACK"))
        self.rings = False
        self.other = Peer(sip, ANOTHER, lambda request: 200)

    def replaces(self, flag="", **changed):
        """The Replaces that names the first call, as the second caller writes it."""
        ids = {
            "call_id": self.invite.call_id,
            "to": self.response.to.tag,
            "from_": self.invite.from_.tag,
            **changed,
        }
        return f"{ids['call_id']};to-tag={ids['to']};from-tag={ids['from_']}{flag}"

    def ask(self, method="INVITE", **headers):
        """The second caller sends a request. Returns its response."""
        request = self.other.ask(method, **headers)
        response = self.other.responses[-1]
        if method == "INVITE" and response.status == 200:
            self.other.send(self.other.within(request, response, "ACK"))
        return response

    def end(self):
        for each in self.calls:
            each.hangup()
        self.sip.settle()


@pytest.fixture
def desk(sip):
    desk = Desk(sip)
    yield desk
    desk.end()


@pytest.mark.rfc("3891 3")
def test_2xx_to_an_invite_with_replaces_ends_the_replaced_call(desk):
    assert desk.ask(replaces=desk.replaces(), require="replaces").status == 200
    assert desk.peer.methods == ["BYE"]
    replaced, new = desk.calls
    assert (replaced.end.by, replaced.end.cause) == ("us", "replaced")
    assert not new.ended.is_set()


@pytest.mark.rfc("3891 6.2")
def test_replaces_is_announced(desk):
    assert "replaces" in desk.response.supported


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize("changed", [{"call_id": "x"}, {"to": "x"}, {"from_": "x"}])
def test_replaces_that_matches_no_call_gets_481(desk, changed):
    assert desk.ask(replaces=desk.replaces(**changed)).status == 481
    assert not desk.calls[0].ended.is_set()
    assert len(desk.calls) == 1


@pytest.mark.rfc("3891 3")
def test_early_only_replaces_of_a_confirmed_call_gets_486(desk):
    assert desk.ask(replaces=desk.replaces(";early-only")).status == 486
    assert not desk.calls[0].ended.is_set()


@pytest.mark.rfc("3891 3")
def test_replaces_of_a_call_that_has_just_ended_gets_603(desk):
    desk.calls[0].hangup()
    desk.sip.settle()
    assert desk.ask(replaces=desk.replaces()).status == 603


@pytest.mark.rfc("3891 3")
def test_replaces_of_a_call_that_rings_here_gets_481(sip):
    desk = Desk(sip, ring=True)
    assert desk.ask(replaces=desk.replaces()).status == 481
    desk.peer.send(desk.invite.cancel())
    assert desk.peer.statuses[-1] == 487


@pytest.mark.rfc("3891 3")
def test_update_while_it_rings_does_not_end_the_replaced_call(desk):
    desk.rings = True
    invite = desk.other.ask("INVITE", replaces=desk.replaces())
    ringing = desk.other.responses[-1]
    assert ringing.status == 180
    desk.other.send(desk.other.within(invite, ringing, "UPDATE", number=2))
    assert desk.other.statuses[-1] == 200
    assert not desk.calls[0].ended.is_set()
    desk.other.send(invite.cancel())
    assert desk.other.statuses[-1] == 487
    assert not desk.calls[0].ended.is_set()


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "SUBSCRIBE"])
def test_replaces_outside_a_call_is_for_invite_alone(desk, method):
    desk.stack.core = lambda request, tx: 200
    headers = {"event": "presence"} if method == "SUBSCRIBE" else {}
    assert desk.ask(method, **headers).status == 200
    assert desk.ask(method, replaces=desk.replaces(), **headers).status == 400
    assert not desk.calls[0].ended.is_set()


@pytest.mark.rfc("3891 3")
def test_two_replaces_get_400(desk):
    request = desk.other.request("INVITE")
    for _ in range(2):
        request.headers.add("Replaces", desk.replaces())
    desk.other.send(request)
    assert desk.other.statuses[-1] == 400


@pytest.mark.rfc("3891 3")
def test_replaces_with_join_gets_400(desk):
    assert desk.ask(replaces=desk.replaces(), join=desk.replaces()).status == 400


def test_core_that_refuses_leaves_the_call_that_was_to_be_replaced(sip):
    desk = Desk(sip)
    desk.stack.core = lambda request, tx: 488
    assert desk.ask(replaces=desk.replaces()).status == 488
    assert not desk.calls[0].ended.is_set()
    desk.end()


@pytest.mark.rfc("3891 3")
def test_application_decides_who_may_replace(sip):
    asked = []

    def may_replace(request, call):
        asked.append(call)
        return False

    desk = Desk(sip, may_replace=may_replace)
    assert desk.ask(replaces=desk.replaces()).status == 403
    assert asked == [desk.calls[0]]
    assert not desk.calls[0].ended.is_set()
    desk.end()


def test_find_call_returns_the_call_that_is_named(desk):
    named = Replaces.parse(desk.replaces())
    assert desk.stack.find_call(named) is desk.calls[0]
    assert desk.stack.find_call(None) is None
    assert desk.stack.find_call(Replaces.parse(desk.replaces(to="x"))) is None


@pytest.mark.rfc("3891 3", "3891 7.1")
def test_replaces_of_our_ringing_invite_cancels_it(sip):
    """Call pickup: another phone of the callee takes the call that rings at the first one."""

    def core(request, tx):
        tx.respond(200)
        taken.append(tx.call)

    taken = []
    caller = sip.serve(core)
    desk = Peer(sip, CALLEE)
    greenlet = start(sip, caller.invite, f"sip:bob@{CALLEE}")
    invite = desk.last("INVITE")
    ringing = desk.reply(invite, 180, contact=f"<{desk.uri}>")
    lab = Peer(sip, ANOTHER, lambda request: 200)
    ids = f"{invite.call_id};to-tag={invite.from_.tag};from-tag={ringing.to.tag};early-only"
    pickup = lab.ask("INVITE", replaces=ids)
    assert lab.statuses == [200]
    lab.send(lab.within(pickup, lab.responses[-1], "ACK"))
    assert desk.methods == ["INVITE", "CANCEL"]
    desk.reply(desk.last("CANCEL"), 200)
    desk.reply(invite, 487)
    with pytest.raises(Reject) as refused:
        greenlet.get()
    assert refused.value.status == 487
    taken[0].hangup()


@pytest.mark.rfc("3891 4")
def test_replaces_of_a_call_names_it_as_the_peer_sees_it(sip):
    placed = Placed(sip)
    named = replaces_of(placed.call.dialog)
    assert (named.to_tag, named.from_tag) == (placed.response.to.tag, placed.invite.from_.tag)
    placed.call.hangup()


# ---- Join


@pytest.mark.rfc("3911 4")
@pytest.mark.parametrize(
    ("may", "changed", "status"), [(True, {}, 200), (True, {"to": "x"}, 481), (False, {}, 403)]
)
def test_join_needs_a_call_and_authorization(sip, may, changed, status):
    desk = Desk(sip, supported=("join",), may_replace=lambda request, call: may)
    assert desk.ask(join=desk.replaces(**changed)).status == status
    assert not desk.calls[0].ended.is_set()
    desk.end()


@pytest.mark.rfc("3911 4")
def test_join_without_the_application_s_consent_is_refused(sip):
    desk = Desk(sip, supported=("join",))
    assert desk.ask(join=desk.replaces()).status == 403
    desk.end()


def test_join_is_ignored_by_a_stack_that_does_not_support_it(desk):
    assert desk.ask(join=desk.replaces()).status == 200
    assert desk.ask(join=desk.replaces(), require="join").status == 420
