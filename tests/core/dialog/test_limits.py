"""Limits at the limit: what is beyond it is refused or dropped, and calls that exist are served."""

from __future__ import annotations

import pytest

from sippet_gevent import Limits, Reject, Request, ResponseContext, forward
from sippet_gevent.core.client import transaction
from sippet_gevent.core.client.transaction import FORKS, UNREAD
from sippet_gevent.core.dialog import ended
from sippet_gevent.core.dialog.events import EVENTS
from sippet_gevent.core.dialog.referral import REFERRALS
from sippet_gevent.core.dialog.reliable import PRACKS

from ..wire import Peer, start
from .test_early import BOB, CALLEE, CALLER, Calling
from .test_refer import Referred

# ---- early dialogs of one INVITE


def forked(sip, number):
    return Calling(sip, *(f"t{place}" for place in range(number)))


@pytest.mark.rfc("3261 13.2.2.4", "3261 15.1.2")
def test_bye_in_each_early_dialog_is_served_at_the_limit(sip):
    sip.client.core = lambda request, tx: 481
    calling = forked(sip, FORKS + 1)
    assert calling.dialogs.early == FORKS
    for place in range(FORKS):
        calling.ask("BYE", f"t{place}")
        assert calling.peer.statuses[-1] == 200
    calling.ask("BYE", f"t{FORKS}")
    assert calling.peer.statuses[-1] == 481  # it is no dialog of ours
    calling.reply(486, "t0")
    assert calling.dialogs.early == 0


@pytest.mark.rfc("3261 13.2.2.4")
def test_early_dialog_beyond_the_limit_may_win(sip):
    calling = forked(sip, FORKS + 1)
    calling.reply(200, f"t{FORKS}")
    call = calling.greenlet.get()
    assert call.dialog.remote.tag == f"t{FORKS}" and calling.peer.methods[-1] == "ACK"
    calling.ask("BYE", f"t{FORKS}")
    assert call.end.cause == "bye"
    sip.advance(33)
    assert calling.dialogs.early == 0


@pytest.mark.rfc("3261 9.1")
def test_cancel_is_sent_at_the_limit_of_early_dialogs(sip):
    calling = forked(sip, FORKS + 1)
    calling.greenlet.kill(block=False)
    sip.settle()
    cancel = calling.peer.last("CANCEL")
    calling.peer.reply(cancel, 200)
    calling.reply(487, "t0")
    assert calling.dialogs.early == 0


@pytest.mark.rfc("3262 4")
def test_reliable_response_beyond_the_limit_of_early_dialogs_is_not_acknowledged(sip):
    calling = forked(sip, FORKS)
    calling.reply(183, "late", require="100rel", rseq=1)
    assert "PRACK" not in calling.peer.methods
    calling.reply(183, "t0", require="100rel", rseq=1)
    assert calling.peer.methods[-1] == "PRACK"
    calling.peer.reply(calling.peer.last("PRACK"), 200)
    calling.reply(486, "t0")


# ---- provisional responses that nobody reads


@pytest.mark.parametrize("number", [UNREAD, UNREAD + 1, 3 * UNREAD])
def test_provisional_responses_that_nobody_reads_are_bounded(sip, number):
    peer = Peer(sip, CALLEE)
    tx = sip.client.send(Request("INVITE", BOB))
    sip.settle()
    invite = peer.last("INVITE")
    for _ in range(number):
        peer.reply(invite, 180)
    peer.reply(invite, 486)  # a final one is always delivered
    responses = sip.run(lambda: [response.status for response in tx])
    assert responses == [180] * min(number, UNREAD) + [486]


def test_bound_counts_what_waits_and_not_what_was_read(sip, monkeypatch):
    monkeypatch.setattr(transaction, "UNREAD", 2)
    calling = Calling(sip)
    seen = []
    for number in range(10):
        calling.reply(180, f"t{number % 3}")
        seen.append(calling.dialogs.early)
    assert seen[-1] == 3
    calling.reply(486, "t0")
    assert isinstance(calling.greenlet.exception, Reject)


@pytest.mark.rfc("3261 16.7")
def test_proxy_core_that_reads_no_responses_is_bounded(sip):
    statuses = []

    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(BOB)
            tx.wait(1)
            statuses.extend(response.status for response in context)
            context.forward(context.best())

    peer = Peer(sip, CALLEE)
    sip.serve(core)
    caller = Peer(sip, CALLER)
    caller.ask("INVITE", BOB)
    invite = peer.last("INVITE")
    for _ in range(UNREAD + 50):
        peer.reply(invite, 180)
    peer.reply(invite, 486)
    sip.advance(1.1)
    assert statuses == [180] * UNREAD + [486]
    assert caller.statuses[-1] == 486


def test_forwarded_ringing_is_not_bounded(sip):
    peer, caller = Peer(sip, CALLEE), Peer(sip, CALLER)
    sip.serve(lambda request, tx: forward(request, tx))
    caller.ask("INVITE", BOB)
    for _ in range(UNREAD + 50):
        peer.reply(peer.last("INVITE"), 180)
    peer.reply(peer.last("INVITE"), 486)
    assert caller.statuses.count(180) == UNREAD + 50
    assert caller.statuses[-1] == 486


# ---- reliable responses


@pytest.mark.rfc("3262 4")
def test_pracks_that_the_peer_does_not_answer_are_bounded(sip):
    calling = Calling(sip)
    for number in range(1, PRACKS + 4):
        calling.responses["one"] = calling.reply(183, "one", require="100rel", rseq=number)
    pracks = [r for r in calling.peer.requests if r.method == "PRACK"]
    assert [prack.rack.response for prack in pracks] == list(range(1, PRACKS + 1))
    calling.peer.reply(pracks[0], 200)
    calling.reply(183, "one", require="100rel", rseq=PRACKS + 1)  # repeated, as the UAS does
    assert calling.peer.last("PRACK").rack.response == PRACKS + 1
    calling.ask("BYE", "one")
    assert calling.peer.statuses[-1] == 200
    calling.reply(487, "one")
    sip.advance(33)


@pytest.mark.rfc("3262 4")
def test_pracks_that_are_answered_have_no_limit(sip):
    calling = Calling(sip)
    for number in range(1, 3 * PRACKS):
        calling.reply(183, "one", require="100rel", rseq=number)
        calling.peer.reply(calling.peer.last("PRACK"), 200)
    assert calling.peer.methods.count("PRACK") == 3 * PRACKS - 1
    calling.reply(486, "one")


@pytest.mark.rfc("3262 3", "3261 15.1.2")
@pytest.mark.parametrize("method", ["BYE", "CANCEL"])
def test_call_ends_while_a_reliable_response_waits_for_another(sip, method):
    errors = []

    def core(request, tx):
        tx.respond(183, reliable=True)
        try:
            tx.respond(183, reliable=True)  # waits for the PRACK of the first (§3)
        except Exception as error:
            errors.append(error)
            raise

    stack = sip.serve(core)
    peer = Peer(sip, CALLER)
    invite = peer.ask("INVITE", supported="100rel", body="offer", content_type="application/sdp")
    assert peer.statuses == [183]
    peer.send(
        invite.cancel() if method == "CANCEL" else peer.within(invite, peer.responses[0], "BYE")
    )
    assert {(r.cseq.method, r.status) for r in peer.responses[1:]} == {
        (method, 200), ("INVITE", 487),
    }  # fmt: skip
    assert errors and stack.dialogs.early == 0


# ---- events of a call


@pytest.fixture
def full(sip):
    """A call whose core reads no events, and has as many as it may have."""

    def core(request, tx):
        if request.to.tag is not None:
            return 200 if request.method == "UPDATE" else 501
        with tx.accept() as call:
            calls.append(call)
            stack.clock.sleep(60)
            read.extend(event.digit for event in call.events(timeout=1))

    calls, read = [], []
    stack = sip.serve(core)
    peer = Peer(sip, CALLER)
    invite = peer.ask("INVITE", body="offer", content_type="application/sdp")
    ok = peer.responses[-1]
    peer.send(peer.within(invite, ok, "ACK"))

    def ask(method, number, **headers):
        peer.send(peer.within(invite, ok, method, number=number, **headers))
        return peer.responses[-1].status

    peer.press = lambda number, digit: ask(
        "INFO", number, body=f"Signal={digit}\r\n", content_type="application/dtmf-relay"
    )
    for number in range(EVENTS):
        peer.press(2 + number, number % 10)
    assert stack.stats()["call_events_dropped"] == 0
    yield stack, peer, calls[0], ask, read


@pytest.mark.rfc("3261 12.2.2", "3261 15.1.2")
def test_requests_within_a_call_are_served_when_its_events_are_at_the_limit(sip, full):
    stack, peer, call, ask, read = full
    number = EVENTS + 2
    peer.press(number, "#")
    assert stack.stats()["call_events_dropped"] == 1
    assert ask("UPDATE", number + 1) == 200
    assert ask("INVITE", number + 2) == 200
    ask("ACK", number + 2)
    assert call.acknowledged
    assert ask("BYE", number + 3) == 200
    assert call.ended.is_set()
    sip.advance(61)
    assert (len(read), read[0], read[-2], read[-1]) == (EVENTS + 1, "1", "#", "")


# ---- transfers


def accepting(request, tx):
    if request.method == "REFER":
        tx.referral.accept()
        return None
    return 501


@pytest.mark.rfc("3515 2.4.4", "5057 5.1")
def test_transfers_of_one_call_are_bounded_and_the_call_is_served(sip):
    referred = Referred(sip, accepting)
    for _ in range(REFERRALS):
        assert referred.refer().status == 202
    refused = referred.refer()
    assert refused.status == 503 and "Retry-After" in refused.headers
    assert len(referred.call.dialog.usages) == 1 + REFERRALS
    subscriptions = referred.call.dialog.usages[1:]
    subscriptions[0].notify(b"SIP/2.0 200 OK\r\n", reason="noresource")
    sip.settle()
    assert referred.refer().status == 202  # there is room again
    referred.ask("INVITE", body="offer", content_type="application/sdp")
    assert referred.peer.statuses[-1] == 200
    referred.ask("ACK", number=referred.number)
    referred.ask("BYE")
    assert referred.peer.statuses[-1] == 200 and referred.call.ended.is_set()
    for subscription in [*referred.call.dialog.usages]:
        if hasattr(subscription, "notify"):
            subscription.notify(b"SIP/2.0 487 Gone\r\n", reason="noresource")
    sip.settle()
    sip.advance(33)


# ---- calls, and cores


@pytest.mark.rfc("3261 21.5.4", "3261 12.2.2")
def test_calls_at_their_limit_are_served_and_further_ones_get_503(sip):
    def core(request, tx):
        if request.to.tag is not None:
            return 200
        tx.respond(180)
        with tx.accept() as call:
            call.wait()

    stack = sip.serve(core, limits=Limits(calls=2))
    peers = [Peer(sip, f"10.0.0.{50 + place}") for place in range(4)]
    for peer in peers[:3]:
        peer.invite = peer.ask("INVITE")
        peer.ok = peer.responses[-1]
        if peer.ok.status == 200:
            peer.send(peer.within(peer.invite, peer.ok, "ACK"))
    assert [peer.statuses[-1] for peer in peers[:3]] == [200, 200, 503]
    assert "Retry-After" in peers[2].ok.headers
    assert (len(stack.dialogs), stack.dialogs.early) == (2, 0)
    first, second = peers[:2]
    first.send(first.within(first.invite, first.ok, "INFO", number=2))
    assert first.statuses[-1] == 200
    first.send(first.within(first.invite, first.ok, "INVITE", number=3))
    assert first.statuses[-1] == 200
    first.send(first.within(first.invite, first.ok, "ACK", number=3))
    first.send(first.within(first.invite, first.ok, "BYE", number=4))
    assert first.statuses[-1] == 200
    last = peers[3]
    invite = last.ask("INVITE")
    assert last.statuses[-1] == 200
    last.send(last.within(invite, last.responses[-1], "ACK"))
    for peer, asked in ((second, second.invite), (last, invite)):
        peer.send(peer.within(asked, peer.responses[-1], "BYE", number=9))
    assert len(stack.dialogs) == 0


@pytest.mark.rfc("3261 9.2", "3261 15.1.2")
@pytest.mark.parametrize(
    ("method", "status"), [("CANCEL", 200), ("BYE", 200), ("INFO", 200), ("PRACK", 200)]
)
def test_request_of_a_ringing_call_is_served_at_the_limit_of_cores(sip, method, status):
    def core(request, tx):
        if request.to.tag is not None:
            return 200
        tx.respond(180)
        tx.wait(60)
        return 486

    stack = sip.serve(core, limits=Limits(handlers=1))
    peer, other = Peer(sip, CALLER), Peer(sip, "10.0.0.51")
    invite = peer.ask("INVITE")
    ringing = peer.responses[-1]
    other.ask("INVITE")
    assert other.statuses[-1] == 503
    rack = {"rack": "1 1 INVITE"} if method == "PRACK" else {}
    cancel = invite.cancel()
    peer.send(cancel if method == "CANCEL" else peer.within(invite, ringing, method, **rack))
    if method in ("INFO", "PRACK"):
        peer.send(cancel)
    got = {(response.cseq.method, response.status) for response in peer.responses[1:]}
    assert {(method, status), ("INVITE", 487)} <= got
    again = other.ask("INVITE")
    assert other.statuses[-1] == 180 and stack.dialogs.early == 1
    other.send(again.cancel())


# ---- dialogs that have ended


@pytest.mark.rfc("5407 3.2.1")
def test_oldest_ended_dialog_is_forgotten_at_the_limit_and_the_newest_is_known(sip, monkeypatch):
    monkeypatch.setattr(ended, "ENDED", 2)
    sip.client.core = lambda request, tx: 481
    byes = []
    for number in range(3):
        calling = Calling(sip, f"t{number}") if not byes else None
        peer = byes[0].peer if calling is None else calling.peer
        if calling is None:
            calling = object.__new__(Calling)
            calling.sip, calling.peer = sip, peer
            calling.greenlet = start(sip, sip.client.invite, BOB, body="offer")
            calling.invite = peer.last("INVITE")
            calling.responses = {}
        calling.responses[f"t{number}"] = calling.reply(200, f"t{number}")
        calling.hangup(calling.greenlet.get())
        byes.append(calling)
    statuses = []
    for number, calling in enumerate(byes):
        calling.ask("BYE", f"t{number}")
        statuses.append(calling.peer.statuses[-1])
    assert statuses == [481, 200, 200]
