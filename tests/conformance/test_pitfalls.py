"""Bugs of other stacks, with the tests that prove that this one has none of them.

| rule | tests |
|---|---|
| each path of each state machine leaves empty tables | here: test_tables_are_empty_after_cycles |
| no handler waits for timer J or H | core/proxy/test_forwarded_request.py: test_forwarded_request_keeps_no_greenlet; here: test_core_ends_before_the_timers_of_its_transaction |
| failed sends end their transaction | here: test_send_that_fails_leaves_nothing |
| BYE in a re-INVITE, CANCEL twice, UPDATE in an INVITE | core/dialog/test_interleavings.py: test_two_requests_of_the_peer_in_a_confirmed_dialog, test_request_of_the_peer_crosses_our_cancel_of_a_reinvite; conformance/test_cancel.py: test_repeated_cancel_gets_200_again_and_raises_nothing |
| what a peer can fill is bounded | core/dialog/test_limits.py: test_provisional_responses_that_nobody_reads_are_bounded, test_pracks_that_the_peer_does_not_answer_are_bounded, test_transfers_of_one_call_are_bounded_and_the_call_is_served |
| subscriptions end though the watcher has vanished | core/dialog/test_subscription.py: test_peer_that_is_gone_has_no_subscription_any_more, test_peer_that_refuses_a_notify_has_no_subscription_any_more |
| route set on each request within a dialog | core/dialog/test_dialog.py: test_request_follows_the_route_set; here: test_reinvite_and_its_ack_follow_the_route_set; conformance/test_cancel.py: test_ack_and_bye_follow_the_record_route |
| the ACK to a refusal has the Route of its INVITE | message/test_builders.py: test_ack_has_uri_call_id_from_and_route_of_its_invite |
| the ACK opens no connection, and does not delay the 2xx | here: test_2xx_is_delivered_while_the_name_of_its_ack_is_resolved, test_call_over_tcp_takes_one_connection |
| CANCEL has the branch of its INVITE and goes where it went | conformance/test_cancel.py: test_cancel_is_made_of_its_invite, test_cancel_that_arrives_with_its_invite_is_raised_at_the_first_wait; core/client/test_targets.py: test_cancel_goes_to_the_target_that_has_the_request_now |
| 2xx after CANCEL: ACK, then BYE | conformance/test_cancel.py: test_200_that_crosses_with_cancel_gets_ack_and_bye_in_this_order, test_200_after_a_refusal_is_acknowledged_and_hung_up |
| BYE between 2xx and ACK is accepted | core/test_server.py: test_bye_before_the_ack_ends_the_call |
| losing branches with 2xx get ACK and BYE, or all are forwarded | core/dialog/test_early.py: test_later_2xx_of_an_early_dialog_gets_ack_and_bye; core/proxy/test_context.py: test_second_2xx_of_another_branch_goes_to_the_caller_too |
| a failure made here never outranks a real answer | core/proxy/test_context.py: test_silent_branch_never_outranks_a_received_response, test_received_5xx_goes_before_the_408_of_a_silent_branch |
| legs of a B2BUA repeat what is lost, and are not doubled by a challenge | core/b2bua/test_lossy.py; here: test_challenge_of_the_callee_begins_no_further_leg |
| an INVITE repeated before the 100 is absorbed | here: test_invite_repeated_before_any_response_is_absorbed |
| PRACK ends neither the INVITE nor is it ended by it | core/dialog/test_reliable.py: test_prack_stops_the_repetition |
| target refresh only if accepted, 491 and the second try | core/dialog/test_dialog.py: test_refresh_takes_the_new_target_or_keeps_the_old_one; core/dialog/test_hold.py: test_request_that_gets_491_is_sent_once_more_after_a_while |
| session timers | core/dialog/test_session_timer.py: test_accept_chooses_the_refresher_if_the_caller_has_not, test_min_se_of_the_peer_s_refresh_is_repeated_in_ours, test_small_interval_in_a_refresh_gets_422_and_the_session_stays, test_session_that_no_refresh_extends_ends_with_a_reason |
| our own URI behind our Route is no loop | core/proxy/test_context.py: test_own_route_is_removed_and_the_request_uri_stays |
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gevent.event import Event

from sippet_gevent import Cancelled, Credentials, Reject, SIPError, Stack, TransportError
from sippet_gevent.transport.memory import MemoryFlow

from ..core.b2bua.phones import Phones, body, describe
from ..core.wire import Peer, start

TESTS = Path(__file__).parent.parent
BOB = "sip:bob@10.0.0.60"
ROUTES = {
    "none": [],
    "one": ["<sip:10.0.0.60;lr>"],
    "two": ["<sip:10.0.0.60;lr>", "<sip:10.9.0.2;lr>"],
    "strict": ["<sip:10.0.0.60>", "<sip:10.9.0.2>"],
}


def test_each_test_of_the_table_exists():
    count = 0
    for part in re.split(r"; |\|", __doc__):
        path, _, names = part.strip().partition(": ")
        for name in re.findall(r"test_\w+", names):
            where = Path(__file__) if path == "here" else TESTS / path
            assert f"def {name}(" in where.read_text(), f"{path}: {name}"
            count += 1
    assert count > 35


# ---- lifecycle


def phone(sip):
    """A stack that serves calls in each way, by the user of the Request-URI."""

    def core(request, tx):
        how = request.uri.user
        if request.method != "INVITE" or how == "busy":
            return 200 if request.method == "OPTIONS" else 486
        if how == "rings":
            tx.respond(180)
            tx.wait(300)
            return 480
        with tx.accept(body=b"answer") as call:
            call.wait(30)
        return None

    return sip.serve(core)


def cycle(sip, stack):
    """Play each path of the state machines once: answered, refused, cancelled, lost."""
    client, host = sip.client, stack.engine.transports[0].local[0]

    def play():
        client.request("OPTIONS", f"sip:x@{host}")
        for how in ("busy", "rings", "gone"):
            with pytest.raises(SIPError):
                at = "10.7.7.7" if how == "gone" else host
                client.invite(f"sip:{how}@{at}", body=b"offer", timeout=2)
        with client.invite(f"sip:answers@{host}", body=b"offer") as call:
            call.request("INFO")
            call.reinvite()

    sip.run(play)


def test_tables_are_empty_after_cycles(sip):
    stack = phone(sip)
    for _ in range(20):
        cycle(sip, stack)
    sip.advance(70)
    for each in (stack, sip.client):
        assert (len(each.engine.servers), len(each.engine.clients)) == (0, 0)
        assert (len(each.dialogs), each.dialogs.early, len(each.dialogs.ended)) == (0, 0, 0)


def test_core_ends_before_the_timers_of_its_transaction(sip):
    """Timers H, I and J run without a greenlet of the core."""
    ended = []

    def core(request, tx):
        ended.append(request.method)
        return 486 if request.method == "INVITE" else 200

    stack = sip.serve(core)
    peer = Peer(sip, "10.0.0.50")
    peer.ask("INVITE")
    peer.ask("OPTIONS")
    assert ended == ["INVITE", "OPTIONS"]
    assert stack.stats()["handlers"] == 0
    assert len(stack.engine.servers) == 2  # and they last
    sip.advance(70)
    assert len(stack.engine.servers) == 0


@pytest.mark.parametrize("side", ["caller", "callee"])
@pytest.mark.parametrize("failing", range(1, 12))
def test_send_that_fails_leaves_nothing(sip, monkeypatch, side, failing):
    """The nth message of one side cannot be written. Everything ends, with an error or without."""
    send, count, armed = MemoryFlow.send, [0], [True]

    def core(request, tx):
        if request.method != "INVITE" or tx.call is not None:
            return 200
        tx.respond(183, body=b"early", reliable=True)
        with tx.accept(body=b"answer") as call:
            call.wait(30)
        return None

    stack = sip.serve(core)
    host = {"caller": sip.client, "callee": stack}[side].engine.transports[0].local[0]

    def sending(flow, data):
        if armed and flow.sent_by[0] == host:
            count[0] += 1
            if count[0] == failing:
                raise TransportError("the wire is cut")
        send(flow, data)

    monkeypatch.setattr(MemoryFlow, "send", sending)

    def play():
        to = stack.engine.transports[0].local[0]
        with sip.client.invite(f"sip:bob@{to}", body=b"offer", timeout=40) as call:
            call.request("INFO")
            call.reinvite()

    try:
        sip.run(play)
    except SIPError:
        pass
    sip.advance(120)
    armed.clear()
    for each in (stack, sip.client):
        assert (len(each.engine.servers), len(each.engine.clients)) == (0, 0)
        assert (len(each.dialogs), each.dialogs.early) == (0, 0)


# ---- ACK, CANCEL, forking


@pytest.mark.rfc("3261 12.2.1.1", "3261 13.2.2.4", "3261 12.1.1", "3261 12.1.2")
@pytest.mark.parametrize("role", ["UAC", "UAS"])
@pytest.mark.parametrize("routes", ROUTES)
def test_reinvite_and_its_ack_follow_the_route_set(sip, role, routes):
    """The set is reversed for a UAC, and in order for a UAS."""
    peer = Peer(sip, "10.0.0.60")
    record = ROUTES[routes]
    headers = {"record_route": (record if role == "UAS" else record[::-1])} if record else {}
    if role == "UAC":
        calling = start(sip, sip.client.invite, BOB, body=b"offer")
        invite = peer.last("INVITE")
        peer.reply(invite, 200, contact=f"<{peer.uri}>", body=b"answer", **headers)
        call = calling.get()
    else:
        calls = []

        def core(request, tx):
            tx.respond(200, body=b"answer")
            calls.append(tx.call)

        sip.serve(core)
        invite = peer.ask("INVITE", body=b"offer", content_type="application/sdp", **headers)
        peer.send(peer.within(invite, peer.responses[-1], "ACK"))
        call = calls[0]
    changing = start(sip, call.request, "INVITE", body=b"offer 2")
    peer.reply(peer.last("INVITE"), 200, contact=f"<{peer.uri}>", body=b"answer 2")
    assert changing.get().status == 200
    hanging_up = start(sip, call.hangup)
    sip.settle()
    hanging_up.get()
    for method in ("INVITE", "ACK", "BYE"):
        sent = peer.last(method)
        found = [str(route) for route in sent.route]
        if routes == "strict":
            assert str(sent.uri) == "sip:10.0.0.60"
            assert found == ["<sip:10.9.0.2>", f"<{peer.uri}>"]
        else:
            assert str(sent.uri) == peer.uri
            assert found == record
    peer.reply(peer.last("BYE"), 200)


@pytest.mark.rfc("3261 13.2.2.4")
def test_2xx_is_delivered_while_the_name_of_its_ack_is_resolved(sip, monkeypatch):
    peer = Peer(sip, "10.0.0.60")
    resolved = Event()
    acknowledge = sip.client.sender.acknowledge

    def slow(*arguments):
        resolved.wait()
        return acknowledge(*arguments)

    monkeypatch.setattr(sip.client.sender, "acknowledge", slow)
    calling = start(sip, sip.client.invite, BOB, body=b"offer")
    invite = peer.last("INVITE")
    invite.flow.send(bytes(invite.response(200, contact=f"<{peer.uri}>", body=b"answer")))
    sip.settle()
    assert calling.ready() and calling.get().is_confirmed
    assert "ACK" not in peer.methods
    resolved.set()
    sip.settle()
    assert peer.methods == ["INVITE", "ACK"]
    calling.get().hangup()
    sip.settle()
    peer.reply(peer.last("BYE"), 200)


@pytest.mark.rfc("3261 18.1.1", "3261 13.2.2.4")
def test_call_over_tcp_takes_one_connection():
    """INVITE, ACK, re-INVITE and BYE use the same one."""
    taking, placing = Stack("tcp:127.0.0.1:0"), Stack("tcp:127.0.0.1:0")
    flows = set()

    @taking.on("INVITE")
    def core(request, tx):
        flows.add(id(request.flow))
        with tx.accept(body=b"answer") as call:
            call.wait(30)

    with taking, placing:
        host, port = taking.engine.transports[0].local
        with placing.invite(f"sip:bob@{host}:{port};transport=tcp", body=b"offer") as call:
            call.reinvite()
            opened = placing.stats()["connections"], taking.stats()["connections"]
        call.ended.wait(5)
    assert opened == (1, 1)
    assert len(flows) == 1


@pytest.mark.rfc("3261 22.2", "3261 22.3")
def test_challenge_of_the_callee_begins_no_further_leg(sip):
    """The INVITE with credentials takes the place of the first one, in the same call."""
    phones = Phones(sip, credentials=Credentials("b2bua", "secret"))
    challenge = 'Digest realm="bob", nonce="abc", algorithm=SHA-256, qop="auth"'
    first = phones.callee.last("INVITE")
    phones.callee.reply(first, 401, www_authenticate=challenge)
    again = phones.callee.last("INVITE")
    assert again is not first
    assert again.call_id == first.call_id and again.cseq.number == first.cseq.number + 1
    assert 'nonce="abc"' in again.headers["Authorization"]
    phones.inner_response = phones.callee.reply(
        again, 200, contact=f"<{phones.callee.uri}>", **body(describe("10.0.0.60"))
    )
    phones.ack()
    assert phones.heard == [200]
    assert len(phones.stack.dialogs) == 2
    phones.end()
    assert phones.callee.methods == ["INVITE", "ACK", "INVITE", "ACK", "BYE"]


@pytest.mark.rfc("3261 17.2.1")
def test_invite_repeated_before_any_response_is_absorbed(sip):
    """The core has not answered, and the 100 was lost."""
    served, ends = [], []

    def core(request, tx):
        served.append(request.call_id)
        try:
            tx.wait(60)
        except Cancelled:
            ends.append("cancelled")
            raise
        return Reject(480)

    stack = sip.serve(core)
    peer = Peer(sip, "10.0.0.50")
    invite = peer.request("INVITE")
    peer.send(invite, invite)
    peer.send(invite)
    assert len(served) == 1
    assert len(stack.engine.servers) == 1
    peer.send(invite.cancel())
    assert ends == ["cancelled"]
    assert 487 in peer.statuses
