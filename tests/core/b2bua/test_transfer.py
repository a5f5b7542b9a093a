"""REFER and Replaces at a bridge, RFC 3515, RFC 3891, RFC 5589."""

from __future__ import annotations

import pytest

from sippet_gevent import (
    Authenticator,
    BridgePolicy,
    Credentials,
    Limits,
    Reject,
    TransportError,
    bridge,
)
from sippet_gevent.core.b2bua.crossing import renumbered
from sippet_gevent.core.dialog.negotiation import same_session
from sippet_gevent.core.dialog.state import DialogState

from ..wire import Peer, sent
from .phones import BOB, CALLEE, CALLER, OURS, PHONE, TARGET, Phones, Relay, body, describe

CAROL = f"<sip:carol@{TARGET}>"


@pytest.fixture
def carol(sip):
    return Peer(sip, TARGET)


def connected(sip, **options):
    phones = Phones(sip, **options)
    phones.answer()
    return phones


def bodies(peer):
    """Return the status lines of the NOTIFYs that a peer has received."""
    return [request.body for request in peer.requests if request.method == "NOTIFY"]


def confirm_notifies(peer):
    for request in [r for r in peer.requests if r.method == "NOTIFY" and not hasattr(r, "done")]:
        peer.reply(request, 200)


# ---- passed on


@pytest.mark.rfc("3515 2.4.6")
@pytest.mark.parametrize("number", ["7" * 5000, "\u0667", "x", ""])
def test_event_with_a_strange_id_is_passed_on_as_it_is(number):
    line = ("Event", "Event", f"refer;id={number}")
    assert renumbered(line, {7: 8}) == line


@pytest.mark.rfc("3515 2.4.6")
def test_refer_and_its_notify_are_passed_on_with_the_id_of_each_leg(sip):
    phones = connected(sip)
    phones.ask("REFER", refer_to=CAROL)
    first = phones.callee.last("REFER")
    assert first.headers["Refer-To"] == CAROL
    phones.callee.reply(first, 202, contact=f"<{phones.callee.uri}>")
    assert phones.last.status == 202
    asked = phones.ask("REFER", refer_to=CAROL)
    second = phones.callee.last("REFER")
    phones.callee.reply(second, 202, contact=f"<{phones.callee.uri}>")
    phones.ask_back(
        "NOTIFY", event=f"refer;id={second.cseq.number}", body="SIP/2.0 200 OK\r\n",
        content_type="message/sipfrag", subscription_state="terminated;reason=noresource",
        contact=f"<{phones.callee.uri}>",
    )  # fmt: skip
    got = phones.caller.last("NOTIFY")
    assert got.headers["Event"] == f"refer;id={asked.cseq.number}"
    assert got.body == b"SIP/2.0 200 OK\r\n"
    assert got.headers["Subscription-State"] == "terminated;reason=noresource"
    phones.caller.reply(got, 200)
    assert phones.callee.responses[-1].status == 200
    phones.end()


def test_refer_is_refused_by_policy(sip):
    phones = connected(sip, policy=BridgePolicy(refer="refuse"))
    phones.ask("REFER", refer_to=CAROL)
    assert phones.last.status == 603
    assert "REFER" not in phones.callee.methods
    phones.end()


# ---- carried out


class Office:
    """A bridge that asks callers for a password, with phones that answer. Alice has called Bob.

    Args:
        sip: The fixture.
        exempt: The host of a carrier that needs no password.
        asks: True if REFERs are asked for a password.
        bob: The password that Bob's phone knows; none by default.
    """

    def __init__(self, sip, exempt=None, *, asks=False, bob=None):
        self.sip, self.users, self.calls = sip, [], []
        gate = Authenticator(
            realm="office", users={"alice": "a", "bob": "b"},
            owns=lambda user, uri: user == "alice",
            exempt=lambda request, tx: tx.flow.remote[0] == exempt,
        )  # fmt: skip

        policy = BridgePolicy(refer="follow", authenticator=gate if asks else None)

        def core(request, tx):
            self.users.append(tx.authenticate(gate))
            place = CALLEE if request.uri.user == "bob" else TARGET
            bridge(request, tx, f"sip:{place}", policy=policy)

        def phone(request, tx):
            with tx.accept(media=[PHONE]) as call:
                self.calls.append(call)
                call.wait()

        self.server = sip.stack(core, OURS)
        known = None if bob is None else Credentials("bob", bob, hosts=(OURS,))
        for host in (CALLEE, TARGET):
            sip.stack(phone, host, credentials=known)
        alice = sip.stack(host=CALLER)
        mine = None if exempt == CALLER else Credentials("alice", "a", hosts=(OURS,))
        self.calls.append(sip.run(alice.invite, f"sip:bob@{OURS}", media=[PHONE], credentials=mine))
        self.calls.reverse()  # alice, bob

    def transfer(self, transferor):
        """One of both transfers the other to Carol, and hangs up after a success."""
        call = self.calls[transferor]
        try:
            self.sip.run(call.transfer, f"sip:carol@{OURS}")
        finally:
            for each in reversed(self.calls):
                self.sip.run(each.hangup)
            self.sip.advance(40)


@pytest.mark.rfc("3261 22.3", "3515 2.4.2")
@pytest.mark.parametrize("transferor", [0, 1], ids=["caller", "callee"])
def test_transfer_to_a_user_of_this_server_needs_no_second_password(sip, transferor):
    office = Office(sip)
    office.transfer(transferor)
    assert office.users == ["alice", "alice"]
    assert sent(sip, OURS).count("401") == 1
    assert not office.server.engine.counters.core_errors


@pytest.mark.parametrize("transferor", [0, 1], ids=["caller", "callee"])
def test_transfer_of_a_caller_without_a_password_calls_nobody_at_this_server(sip, transferor):
    office = Office(sip, exempt=CALLER)
    with pytest.raises(Reject) as refused:
        office.transfer(transferor)
    assert refused.value.status == 401
    assert office.users == [None]


@pytest.mark.rfc("3515 5.2", "3261 22.2")
def test_user_that_a_carrier_has_called_transfers_it_by_a_password(sip):
    office = Office(sip, exempt=CALLER, asks=True, bob="b")
    office.transfer(1)
    assert office.users == [None, "bob"]
    assert sent(sip, OURS).count("401") == 1
    assert not office.server.engine.counters.core_errors


@pytest.mark.rfc("3515 5.2")
@pytest.mark.parametrize(
    ("exempt", "transferor", "bob"), [(CALLER, 0, None), (CALLEE, 1, None), (CALLER, 1, "wrong")]
)
def test_refer_without_a_password_is_not_followed_if_the_policy_asks(sip, exempt, transferor, bob):
    office = Office(sip, exempt=exempt, asks=True, bob=bob)
    with pytest.raises(Reject) as refused:
        office.transfer(transferor)
    assert refused.value.status == 401
    assert office.users == [None if exempt == CALLER else "alice"]
    assert "NOTIFY" not in sent(sip, OURS)


@pytest.mark.rfc("3515 5.2")
def test_caller_that_has_proved_its_password_transfers_without_another(sip):
    office = Office(sip, asks=True)
    office.transfer(0)
    assert office.users == ["alice", "alice"]
    assert sent(sip, OURS).count("401") == 1


@pytest.mark.rfc("5589 6.1")
def test_blind_transfer_is_carried_out(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL, referred_by="<sip:alice@example.com>")
    assert 202 in phones.caller.statuses
    assert "REFER" not in phones.callee.methods
    invite = carol.last("INVITE")
    assert invite.body == b""
    assert invite.headers["Referred-By"] == "<sip:alice@example.com>"
    assert invite.from_.uri == phones.inner.to.uri
    confirm_notifies(phones.caller)
    carol.reply(invite, 180, contact=f"<{carol.uri}>")
    offer = describe(TARGET)
    carol.reply(invite, 200, contact=f"<{carol.uri}>", **body(offer))
    moved = phones.callee.last("INVITE")
    assert same_session(moved.body, offer)
    assert carol.methods == ["INVITE"]
    answer = describe(CALLEE, version=2)
    phones.callee.reply(moved, 200, contact=f"<{phones.callee.uri}>", **body(answer))
    assert carol.methods == ["INVITE", "ACK"]
    assert carol.last("ACK").body == answer
    confirm_notifies(phones.caller)
    assert bodies(phones.caller)[0] == b"SIP/2.0 100 Trying\r\n"
    assert bodies(phones.caller)[-1] == b"SIP/2.0 200 OK\r\n"
    phones.ask("BYE")
    assert "BYE" not in phones.callee.methods
    phones.ask_back("INFO", body=b"1", content_type="text/plain")
    carol.reply(carol.last("INFO"), 200)
    phones.ask_back("BYE")
    carol.reply(carol.last("BYE"), 200)
    sip.settle()
    assert phones.results


@pytest.mark.rfc("5589 7.5", "6228 4")
def test_invite_to_the_target_requires_replaces_and_has_no_signature_of_the_refer(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    elsewhere = "call-elsewhere%3Bto-tag%3D7%3Bfrom-tag%3D8"
    phones.ask(
        "REFER", refer_to=f"<sip:carol@{TARGET}?Replaces={elsewhere}&Require=replaces>",
        identity="signed;info=<https://a.example/cert>", date="Sat, 28 Nov 2026 10:00:00 GMT",
        subject="a transfer",
    )  # fmt: skip
    invite = carol.last("INVITE")
    assert "replaces" in invite.require
    assert invite.headers["Replaces"] == "call-elsewhere;to-tag=7;from-tag=8"
    assert not {"Identity", "Date"} & set(invite.headers.fields)
    assert invite.headers["Subject"] == "a transfer"
    confirm_notifies(phones.caller)
    carol.reply(invite, 199, contact=f"<{carol.uri}>")
    carol.reply(invite, 180, contact=f"<{carol.uri}>")
    confirm_notifies(phones.caller)
    assert [text for text in bodies(phones.caller) if b" 199 " in text] == []
    carol.reply(invite, 486)
    confirm_notifies(phones.caller)
    phones.end()


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize("side", ["caller", "callee"])
def test_refer_that_names_a_side_of_its_own_bridge_is_refused(sip, side):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    if side == "caller":
        call_id, ours, theirs = (
            phones.invite.call_id,
            phones.response.to.tag,
            phones.invite.from_.tag,
        )
    else:
        call_id, ours = phones.inner.call_id, phones.inner.from_.tag
        theirs = phones.inner_response.to.tag
    dialog = f"{call_id}%3Bto-tag%3D{ours}%3Bfrom-tag%3D{theirs}"
    phones.ask("REFER", refer_to=f"<sip:x@{OURS}?Replaces={dialog}>")
    assert phones.last.status == 480
    phones.end()


@pytest.mark.rfc("5589 6.1")
def test_transferor_that_does_not_hang_up_is_hung_up(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    invite = carol.last("INVITE")
    carol.reply(invite, 200, contact=f"<{carol.uri}>", **body(describe(TARGET)))
    moved = phones.callee.last("INVITE")
    phones.callee.reply(moved, 200, contact=f"<{phones.callee.uri}>", **body(describe(CALLEE)))
    assert phones.caller.methods == []
    sip.advance(32.1)
    assert phones.caller.methods == ["BYE"]
    phones.caller.reply(phones.caller.last("BYE"), 200)
    phones.ask_back("BYE")
    carol.reply(carol.last("BYE"), 200)


def test_second_refer_is_refused_while_the_first_is_carried_out(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    carol.reply(carol.last("INVITE"), 180, contact=f"<{carol.uri}>")
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    assert phones.last.status == 491
    phones.ask_back("REFER", refer_to=CAROL, refer_sub="false")
    assert phones.callee.statuses[-1] == 491
    assert carol.methods == ["INVITE"]
    carol.reply(carol.last("INVITE"), 486)
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    assert phones.last.status == 202
    carol.reply(carol.last("INVITE"), 486)
    phones.end()


def test_second_refer_is_refused_while_the_first_notify_resolves_a_name(sip, carol, monkeypatch):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    send, asked = DialogState.send, []

    def slow(dialog, request, *args, **options):
        if request.method == "NOTIFY" and not asked:
            asked.append(phones.ask("REFER", refer_to=CAROL, refer_sub="false"))
        return send(dialog, request, *args, **options)

    monkeypatch.setattr(DialogState, "send", slow)
    phones.ask("REFER", refer_to=CAROL)
    sip.settle()
    statuses = {r.cseq.number: r.status for r in phones.caller.responses}
    assert statuses[asked[0].cseq.number] == 491
    assert carol.methods == ["INVITE"]
    confirm_notifies(phones.caller)
    carol.reply(carol.last("INVITE"), 486)
    confirm_notifies(phones.caller)
    phones.end()


def test_transfer_whose_first_notify_has_no_room_leaves_the_call(sip, carol):
    phones = connected(
        sip, policy=BridgePolicy(refer="follow"), stack={"limits": Limits(subscriptions=0)}
    )
    for _ in range(2):
        phones.ask("REFER", refer_to=CAROL)
        assert phones.last.status == 503
    assert carol.methods == []
    phones.end()


@pytest.mark.rfc("5589 6.2")
def test_transfer_that_fails_leaves_the_call(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL)
    confirm_notifies(phones.caller)
    carol.reply(carol.last("INVITE"), 486)
    assert bodies(phones.caller)[-1] == b"SIP/2.0 486 Busy Here\r\n"
    confirm_notifies(phones.caller)
    phones.ask("INFO", body="1", content_type="text/plain")
    phones.callee.reply(phones.callee.last("INFO"), 200)
    assert phones.last.status == 200
    phones.end()


@pytest.mark.rfc("5589 6.1")
@pytest.mark.parametrize("succeeds", [True, False])
def test_transferor_may_hang_up_while_the_target_rings(sip, carol, succeeds):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    invite = carol.last("INVITE")
    carol.reply(invite, 180, contact=f"<{carol.uri}>")
    phones.ask("BYE")
    assert "BYE" not in phones.callee.methods
    if not succeeds:
        carol.reply(invite, 486)
        assert phones.callee.methods[-1] == "BYE"
        phones.callee.reply(phones.callee.last("BYE"), 200)
        assert phones.results
        return
    carol.reply(invite, 200, contact=f"<{carol.uri}>", **body(describe(TARGET)))
    moved = phones.callee.last("INVITE")
    phones.callee.reply(moved, 200, contact=f"<{phones.callee.uri}>", **body(describe(CALLEE)))
    assert carol.methods == ["INVITE", "ACK"]
    phones.ask_back("BYE")
    carol.reply(carol.last("BYE"), 200)
    assert phones.results


def test_target_rings_no_longer_when_the_other_side_hangs_up(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    invite = carol.last("INVITE")
    carol.reply(invite, 180, contact=f"<{carol.uri}>")
    phones.ask_back("BYE")
    assert carol.methods == ["INVITE", "CANCEL"]
    carol.reply(invite, 487)
    assert phones.caller.methods == ["BYE"]
    phones.caller.reply(phones.caller.last("BYE"), 200)
    assert phones.results


def test_target_does_not_ring_when_the_other_side_has_hung_up_before(sip, carol, monkeypatch):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    send = phones.stack.sender.send

    def slow(request, *args, **options):
        if request.method == "INVITE":
            phones.ask_back("BYE")  # while the name of the target is resolved
        return send(request, *args, **options)

    monkeypatch.setattr(phones.stack.sender, "send", slow)
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    sip.settle()
    invite = carol.last("INVITE")
    carol.reply(invite, 180, contact=f"<{carol.uri}>")
    assert carol.methods == ["INVITE", "CANCEL"]
    carol.reply(invite, 487)
    phones.caller.reply(phones.caller.last("BYE"), 200)
    assert phones.results


def test_target_is_hung_up_when_the_other_side_refuses_its_session(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    carol.reply(carol.last("INVITE"), 200, contact=f"<{carol.uri}>", **body(describe(TARGET)))
    phones.callee.reply(phones.callee.last("INVITE"), 488)
    assert carol.methods == ["INVITE", "ACK", "BYE"]
    carol.reply(carol.last("BYE"), 200)
    phones.end()


@pytest.mark.rfc("5589 6.2", "3261 14.2")
def test_transfer_whose_media_relay_fails_puts_the_session_back(sip, carol):
    class Failing(Relay):
        def answer(self, call_id, from_tag, to_tag, description):
            if len(self.tags) > 2:
                raise TransportError("the media relay does not answer")
            return self.offer(call_id, from_tag, to_tag, description)

    phones = connected(sip, policy=BridgePolicy(refer="follow"), media=Failing())
    phones.ask("REFER", refer_to=CAROL)
    confirm_notifies(phones.caller)
    invite = carol.last("INVITE")
    carol.reply(invite, 200, contact=f"<{carol.uri}>", **body(describe(TARGET)))
    moved = phones.callee.last("INVITE")
    answer = body(describe(CALLEE, version=2))
    phones.callee.reply(moved, 200, contact=f"<{phones.callee.uri}>", **answer)
    assert carol.methods == ["INVITE", "ACK", "BYE"]
    carol.reply(carol.last("BYE"), 200)
    assert bodies(phones.caller)[-1].startswith(b"SIP/2.0 5")
    confirm_notifies(phones.caller)
    again = phones.callee.last("INVITE")
    assert same_session(again.body, phones.offer)
    phones.callee.reply(again, 200, contact=f"<{phones.callee.uri}>", **answer)
    phones.end()


def test_everybody_may_hang_up_while_the_target_rings(sip, carol):
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=CAROL, refer_sub="false")
    carol.reply(carol.last("INVITE"), 180, contact=f"<{carol.uri}>")
    phones.ask("BYE")
    phones.ask_back("BYE")
    carol.reply(carol.last("INVITE"), 200, contact=f"<{carol.uri}>", **body(describe(TARGET)))
    assert carol.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    carol.reply(carol.last("BYE"), 200)
    assert phones.results


# ---- Replaces


def replaces(dialog_request, response):
    """Return Refer-To's Replaces of the dialog that a phone has with the bridge."""
    return f"{dialog_request.call_id};to-tag={response.to.tag};from-tag={dialog_request.from_.tag}"


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize("offer", [describe(TARGET), b""])
def test_invite_with_replaces_takes_the_place_of_one_side(sip, carol, offer):
    phones = connected(sip)
    named = replaces(phones.invite, phones.response)
    invite = carol.ask("INVITE", replaces=named, **body(offer))
    moved = phones.callee.last("INVITE")
    assert same_session(moved.body, offer)
    answer = describe(CALLEE, version=2)
    phones.callee.reply(moved, 200, contact=f"<{phones.callee.uri}>", **body(answer))
    response = carol.responses[-1]
    assert (response.status, response.body) == (200, answer)
    late = body(describe(TARGET)) if not offer else {}
    carol.send(carol.within(invite, response, "ACK", number=invite.cseq.number, **late))
    if not offer:
        assert same_session(phones.callee.last("ACK").body, describe(TARGET))
    assert phones.caller.methods == ["BYE"]
    phones.caller.reply(phones.caller.last("BYE"), 200)
    assert "BYE" not in phones.callee.methods
    ((caller, callee),) = phones.results
    assert (caller.cause, callee) == ("replaced", None)
    carol.send(carol.within(invite, response, "INFO", number=9))
    phones.callee.reply(phones.callee.last("INFO"), 200)
    carol.send(carol.within(invite, response, "BYE", number=10))
    phones.callee.reply(phones.callee.last("BYE"), 200)
    assert len(phones.results) == 2


@pytest.mark.rfc("3891 3", "3261 13.2.1")
def test_invite_with_replaces_whose_ack_has_no_answer_ends_both_sides(sip, carol, caplog):
    phones = connected(sip)
    invite = carol.ask("INVITE", replaces=replaces(phones.invite, phones.response))
    moved = phones.callee.last("INVITE")
    offer = describe(CALLEE, version=2)
    phones.callee.reply(moved, 200, contact=f"<{phones.callee.uri}>", **body(offer))
    carol.send(carol.within(invite, carol.responses[-1], "ACK", number=invite.cseq.number))
    assert phones.callee.methods[-2:] == ["ACK", "BYE"]
    for peer in (phones.caller, phones.callee, carol):
        peer.reply(peer.last("BYE"), 200)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(phones.stack.dialogs) == 0


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize("offer", [describe(TARGET), b""])
def test_invite_with_replaces_that_fails_leaves_the_call(sip, carol, offer):
    phones = connected(sip)
    named = replaces(phones.invite, phones.response)
    carol.ask("INVITE", replaces=named, **body(offer))
    phones.callee.reply(phones.callee.last("INVITE"), 488)
    assert carol.statuses[-1] == 488
    assert "BYE" not in phones.caller.methods + phones.callee.methods
    phones.ask("INFO", body="1", content_type="text/plain")
    phones.callee.reply(phones.callee.last("INFO"), 200)
    assert phones.last.status == 200
    phones.end()
    ((caller, callee),) = phones.results
    assert (caller.by, caller.cause, callee.by, callee.cause) == ("peer", "bye", "us", "bye")


@pytest.mark.rfc("3891 3")
def test_invite_with_replaces_that_is_cancelled_leaves_the_call_and_its_session(sip, carol):
    phones = connected(sip)
    named = replaces(phones.invite, phones.response)
    invite = carol.ask("INVITE", replaces=named, **body(describe(TARGET)))
    moved = phones.callee.last("INVITE")
    carol.send(invite.cancel())
    assert 487 in carol.statuses
    phones.callee.reply(
        moved, 200, contact=f"<{phones.callee.uri}>", **body(describe(CALLEE, version=2))
    )
    sip.advance(5)
    assert "BYE" not in phones.caller.methods + phones.callee.methods
    back = phones.callee.last("INVITE")
    assert same_session(back.body, describe())
    phones.callee.reply(
        back, 200, contact=f"<{phones.callee.uri}>", **body(describe(CALLEE, version=3))
    )
    phones.ask("INFO", body="1", content_type="text/plain")
    phones.callee.reply(phones.callee.last("INFO"), 200)
    assert phones.last.status == 200
    phones.end()


@pytest.mark.rfc("3891 3")
def test_caller_that_hangs_up_while_it_is_replaced_ends_both_if_that_fails(sip, carol):
    phones = connected(sip)
    named = replaces(phones.invite, phones.response)
    carol.ask("INVITE", replaces=named, **body(describe(TARGET)))
    phones.ask("BYE")
    assert "BYE" not in phones.callee.methods
    phones.callee.reply(phones.callee.last("INVITE"), 488)
    assert carol.statuses[-1] == 488
    assert phones.callee.methods[-1] == "BYE"
    phones.callee.reply(phones.callee.last("BYE"), 200)
    assert len(phones.results) == 1


@pytest.mark.rfc("3891 3")
def test_side_that_was_replaced_cannot_transfer_the_other_any_more(sip, carol):
    dave = Peer(sip, "10.0.0.71")
    phones = connected(sip, policy=BridgePolicy(refer="follow"))
    phones.ask("REFER", refer_to=f"<{dave.uri}>", refer_sub="false")
    dave.reply(dave.last("INVITE"), 180, contact=f"<{dave.uri}>")
    named = replaces(phones.invite, phones.response)
    invite = carol.ask("INVITE", replaces=named, **body(describe(TARGET)))
    moved = phones.callee.last("INVITE")
    phones.callee.reply(
        moved, 200, contact=f"<{phones.callee.uri}>", **body(describe(CALLEE, version=2))
    )
    response = carol.responses[-1]
    carol.send(carol.within(invite, response, "ACK", number=invite.cseq.number))
    phones.caller.reply(phones.caller.last("BYE"), 200)
    dave.reply(dave.last("INVITE"), 200, contact=f"<{dave.uri}>", **body(describe("10.0.0.71")))
    assert dave.methods == ["INVITE", "ACK", "BYE"]
    dave.reply(dave.last("BYE"), 200)
    assert phones.callee.methods.count("INVITE") == 2
    carol.send(carol.within(invite, response, "BYE", number=10))
    phones.callee.reply(phones.callee.last("BYE"), 200)
    assert len(phones.results) == 2


def test_replaces_of_an_unknown_call_is_refused(sip, carol):
    phones = connected(sip)
    carol.ask("INVITE", replaces="other;to-tag=a;from-tag=b", **body(describe(TARGET)))
    assert carol.statuses[-1] == 481
    phones.end()


class Consulting(Phones):
    """The caller has two calls through the bridge: with the callee, and with Carol."""

    def __init__(self, sip, carol, relay=None, **options):
        def core(request, tx):
            if request.to.tag is not None:
                return 481
            target = BOB if request.uri.user == "bob" else f"sip:carol@{TARGET}"
            bridge(request, tx, target, policy=BridgePolicy(refer="follow"), media=relay)
            return None

        super().__init__(sip, core=core, stack=options)
        self.answer()
        self.second = second = self.caller.ask(
            "INVITE", f"sip:carol@{OURS}", **body(describe(version=5))
        )
        self.to_carol = carol.last("INVITE")
        self.of_carol = carol.reply(
            self.to_carol, 200, contact=f"<{carol.uri}>", **body(describe(TARGET))
        )
        self.second_response = response = self.last
        self.caller.send(self.caller.within(second, response, "ACK", number=second.cseq.number))

    def connect(self, **headers):
        """The caller connects the callee with Carol."""
        named = replaces(self.second, self.second_response)
        named = named.replace(";", "%3B").replace("=", "%3D")
        contact = self.second_response.contact[0].uri
        self.ask("REFER", refer_to=f"<{contact}?Replaces={named}>", refer_sub="false", **headers)


@pytest.mark.rfc("3891 3")
@pytest.mark.parametrize("may", [True, False])
def test_refer_that_replaces_a_bridged_call_asks_may_replace(sip, carol, may):
    asked = []

    def may_replace(request, call):
        asked.append((request.method, call.dialog.remote.tag))
        return may

    phones = Consulting(sip, carol, may_replace=may_replace)
    phones.connect()
    assert asked == [("REFER", phones.second.from_.tag)]
    assert phones.last.status == (202 if may else 403)
    assert carol.methods == ["INVITE", "ACK"] + ["INVITE"] * may
    if may:
        carol.reply(carol.last("INVITE"), 488)
    phones.end()
    phones.caller.send(phones.caller.within(phones.second, phones.second_response, "BYE", number=9))
    carol.reply(carol.last("BYE"), 200)


def test_refer_that_replaces_a_call_that_is_being_transferred_is_refused(sip, carol):
    phones = Consulting(sip, carol)
    transfer = phones.caller.within(
        phones.second, phones.second_response, "REFER", number=8, refer_to=CAROL,
        contact=f"<{phones.caller.uri}>", refer_sub="false",
    )  # fmt: skip
    phones.caller.send(transfer)
    ringing = carol.last("INVITE")
    carol.reply(ringing, 180, contact=f"<{carol.uri}>")
    phones.connect()
    assert phones.last.status == 491
    carol.reply(ringing, 486)
    phones.end()
    phones.caller.send(phones.caller.within(phones.second, phones.second_response, "BYE", number=9))
    carol.reply(carol.last("BYE"), 200)


@pytest.mark.rfc("5589 7.3")
@pytest.mark.parametrize("relay", [None, Relay()])
def test_attended_transfer_is_carried_out(sip, carol, relay):
    """The caller has two calls through the bridge, and connects their other sides."""
    phones = Consulting(sip, carol, relay)
    invite, inner = phones.to_carol, phones.of_carol
    phones.connect()
    asked = carol.last("INVITE")
    assert asked.body == b""
    offer = describe(TARGET, version=2)
    carol.reply(asked, 200, contact=f"<{carol.uri}>", **body(offer))
    moved = phones.callee.last("INVITE")
    assert same_session(moved.body, offer)
    answer = describe(CALLEE, version=2)
    phones.callee.reply(moved, 200, contact=f"<{phones.callee.uri}>", **body(answer))
    assert same_session(carol.last("ACK").body, answer)
    # the second call of the caller is hung up, the first by itself
    byes = [request for request in phones.caller.requests if request.method == "BYE"]
    assert len(byes) == 1
    phones.caller.reply(byes[0], 200)
    phones.ask("BYE")
    assert "BYE" not in phones.callee.methods + carol.methods
    carol.send(carol.back(invite, inner, "BYE", number=5))
    phones.callee.reply(phones.callee.last("BYE"), 200)
    if relay is not None:
        first, second = relay.tags[0][0], relay.tags[2][0]
        assert relay.tags == [
            (first, "caller", "callee"), (first, "caller", "callee"),
            (second, "caller", "callee"), (second, "caller", "callee"),
            (first, "leg3", "callee"), (first, "leg3", "callee"),
        ]  # fmt: skip
