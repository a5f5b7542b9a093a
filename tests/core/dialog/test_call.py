"""Call: requests within it, re-INVITE, glare and BYE, RFC 3261 §12.2, §14 and §15."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import URI, InvalidValue, TransactionStateError, TransactionTimeout
from sippet_gevent.core.dialog import ended
from sippet_gevent.core.dialog.glare import Pending, glare
from sippet_gevent.observe.ladder import _label

from ..wire import Peer, sent, start

CALLEE = "10.0.0.60"
CALLER = "10.0.0.50"
BOB = f"sip:bob@{CALLEE}"
SERVED = "10.0.0.1"


class Placed:
    """A call that our stack has placed to a peer."""

    def __init__(self, sip, **options):
        self.sip = sip
        self.peer = Peer(sip, CALLEE)
        greenlet = start(sip, sip.client.invite, BOB, body="offer", **options)
        self.invite = self.peer.last("INVITE")
        self.response = self.peer.reply(
            self.invite,
            200,
            contact=f"<{self.peer.uri}>",
            body="answer",
            content_type="application/sdp",
        )
        self.call = greenlet.get()
        self.number = 0

    def ask(self, method, **headers):
        """The peer sends a request within the call."""
        self.number = headers.pop("number", self.number + 1)
        request = self.peer.back(self.invite, self.response, method, number=self.number, **headers)
        self.peer.send(request, to=self.sip.client.engine.transports[0].local[0])
        return request


class Taken:
    """A call that our stack has taken from a peer."""

    def __init__(self, sip, core=None):
        self.sip = sip
        self.calls = []

        def accepting(request, tx):
            if tx.call is not None:
                return core(request, tx) if core is not None else 501
            if request.method != "INVITE":
                return 481
            tx.respond(200, body="answer")
            self.calls.append(tx.call)
            return None

        self.stack = sip.serve(accepting)
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.ask("INVITE", body="offer", content_type="application/sdp")
        self.response = self.peer.responses[-1]
        self.peer.send(self.peer.within(self.invite, self.response, "ACK"))
        self.call = self.calls[0]
        self.number = self.invite.cseq.number

    def ask(self, method, **headers):
        """The peer sends a request within the call."""
        self.number = headers.pop("number", self.number + (method != "ACK"))
        request = self.peer.within(
            self.invite, self.response, method, number=self.number, **headers
        )
        self.peer.send(request)
        return request

    def acknowledge(self):
        """The peer acknowledges the last 200."""
        self.ask("ACK", number=self.number)


@pytest.fixture(params=[Placed, Taken])
def two(request, sip):
    """A call between our stack and a peer: each test runs with the peer as callee and as caller."""
    two = request.param(sip)
    yield two
    if not two.call.ended.is_set():
        two.call.hangup()


@pytest.fixture
def taken(sip):
    """A call that our stack has taken."""
    return Taken(sip)


@pytest.fixture
def placed(sip):
    """A call that our stack has placed."""
    return Placed(sip)


# ---- BYE


@pytest.mark.rfc("3261 15.1.1")
def test_hangup_sends_bye_and_the_call_has_ended_at_once(two):
    two.call.hangup()
    assert two.call.ended.is_set()
    two.sip.settle()
    assert two.peer.methods[-1] == "BYE"


def test_hanging_up_twice_sends_one_bye(two):
    two.call.hangup()
    two.call.hangup()
    two.sip.settle()
    assert two.peer.methods.count("BYE") == 1


def test_leaving_the_block_hangs_up(two):
    with two.call:
        pass
    two.sip.settle()
    assert two.peer.methods[-1] == "BYE"


@pytest.mark.rfc("3261 15.1.1")
def test_bye_of_the_user_s_own_ends_the_call(two):
    greenlet = start(two.sip, two.call.request, "BYE")
    assert two.call.ended.is_set()
    two.peer.reply(two.peer.last("BYE"), 200)
    assert greenlet.get().status == 200
    two.call.hangup()
    assert two.peer.methods.count("BYE") == 1


@pytest.mark.rfc("3261 15.1.2")
def test_bye_of_the_peer_is_answered_and_ends_the_call(two):
    two.ask("BYE")
    assert two.peer.statuses[-1] == 200
    assert two.call.ended.is_set()


def test_wait_returns_when_the_peer_hangs_up(two):
    greenlet = start(two.sip, two.call.wait, 60)
    assert not greenlet.ready()
    two.ask("BYE")
    assert greenlet.get() is True


def test_wait_returns_false_when_time_is_up(two):
    assert two.sip.run(two.call.wait, 5) is False


def test_wait_returns_false_when_until_is_ready(two):
    free = Event()
    greenlet = gevent.spawn(two.call.wait, 60, until=free)
    two.sip.settle()
    assert not greenlet.ready()
    free.set()
    two.sip.settle()
    assert greenlet.get() is False
    assert two.sip.run(two.call.wait, until=free) is False


def test_wait_until_something_returns_true_when_the_peer_hangs_up(two):
    free = Event()
    greenlet = gevent.spawn(two.call.wait, until=free)
    two.sip.settle()
    two.ask("BYE")
    free.set()
    assert greenlet.get() is True


def test_wait_until_something_returns_false_when_time_is_up(two):
    greenlet = gevent.spawn(two.call.wait, 5, until=Event())
    two.sip.advance(5)
    assert greenlet.get() is False


def test_wait_until_something_that_cannot_be_waited_for_is_a_type_error(two):
    with pytest.raises(TypeError, match="until must be an Event"):
        two.call.wait(5, until=True)


@pytest.mark.rfc("3261 15.1.2")
def test_second_bye_belongs_to_no_call(taken):
    taken.ask("BYE")
    taken.ask("BYE")
    assert taken.peer.statuses[-2:] == [200, 481]


@pytest.mark.rfc("3261 15.1.2")
def test_requests_pending_when_bye_comes_are_answered_with_487(sip):
    taken = Taken(sip, core=lambda request, tx: tx.wait(20) or 200)
    taken.ask("INFO")
    taken.ask("BYE")
    assert sorted(taken.peer.statuses[-2:]) == [200, 487]


@pytest.mark.rfc("5407 3.2.1")
def test_bye_that_crosses_ours_is_answered_200(two):
    two.call.hangup()
    two.ask("BYE")
    assert two.call.ended.is_set()
    assert two.peer.statuses[-1] == 200
    two.peer.reply(two.peer.last("BYE"), 481)


@pytest.mark.rfc("5407 3.2.1")
def test_bye_that_crosses_a_bye_of_the_user_s_own_is_answered_200(two):
    greenlet = start(two.sip, two.call.request, "BYE")
    two.ask("BYE")
    assert two.peer.statuses[-1] == 200
    two.peer.reply(two.peer.last("BYE"), 200)
    assert greenlet.get().status == 200


@pytest.mark.rfc("5407 3.2.1")
def test_bye_long_after_ours_belongs_to_no_call(two):
    two.call.hangup()
    two.sip.advance(31)
    two.ask("BYE")
    assert two.peer.statuses[-1] == 200
    two.sip.advance(2)
    two.ask("BYE")
    assert two.peer.statuses[-1] == 481
    assert len(two.call.stack.dialogs.ended) == 0


@pytest.mark.rfc("5407 3.2.2", "5407 3.3.3")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "PRACK", "REFER"])
def test_request_that_crosses_our_bye_is_481_and_no_core_sees_it(sip, method):
    seen = []
    taken = Taken(sip, core=lambda request, tx: seen.append(request.method) or 200)
    taken.stack.core = lambda request, tx: seen.append(request.method) or 200
    taken.call.hangup()
    taken.ask(method)
    assert (taken.peer.statuses[-1], seen) == (481, [])


@pytest.mark.rfc("5407 3.2.1", "3261 8.2.2.3")
def test_bye_that_crosses_ours_and_requires_what_we_lack_is_420(two):
    two.call.hangup()
    two.ask("BYE", require="nosuch")
    assert two.peer.statuses[-1] == 420


def test_dialogs_remembered_after_our_bye_are_bounded(two, monkeypatch):
    monkeypatch.setattr(ended, "ENDED", 2)
    dialogs = two.call.stack.dialogs.ended
    two.call.hangup()
    for number in range(5):
        dialogs.add((str(number), "a", "b"))
    assert len(dialogs) == 2
    two.sip.advance(33)
    assert len(dialogs) == 0


@pytest.mark.rfc("5407 B", "3261 15.1.2")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "PRACK", "REFER", "BYE"])
def test_request_that_the_peer_had_sent_before_its_bye_is_481_and_no_core_sees_it(sip, method):
    seen = []
    taken = Taken(sip)
    taken.stack.core = lambda request, tx: seen.append(request.method) or 200
    taken.ask("BYE")
    taken.ask(method)
    assert (taken.peer.statuses[-1], seen) == (481, [])


def test_call_that_the_peer_has_ended_is_remembered_for_64_t1(taken):
    taken.ask("BYE")
    assert len(taken.stack.dialogs.ended) == 1
    taken.sip.advance(33)
    assert len(taken.stack.dialogs.ended) == 0


def test_unanswered_bye_leaves_nothing_behind(two):
    two.call.hangup()
    two.sip.advance(40)
    assert two.call.stack.stats()["client_transactions"] == 0


def test_bye_that_cannot_be_sent_ends_the_call(two):
    two.call.stack.engine.transports[0].failure = "network is unreachable"
    two.call.hangup()
    assert two.call.ended.is_set()
    two.call.stack.engine.transports[0].failure = None


@pytest.mark.rfc("3261 15")
def test_peer_that_hangs_up_before_the_ack_spares_us_our_bye(sip):
    peer = Peer(sip, CALLER)
    sip.serve(lambda request, tx: tx.respond(200) or tx.call.hangup())
    invite = peer.ask("INVITE")
    peer.send(peer.within(invite, peer.responses[0], "BYE"))
    sip.advance(40)
    assert peer.methods == []


# ---- other requests within the call


@pytest.mark.rfc("3261 12.2.1.1")
def test_request_within_the_call_has_its_tags_call_id_and_the_next_number(placed):
    greenlet = start(placed.sip, placed.call.request, "INFO")
    info = placed.peer.last("INFO")
    placed.peer.reply(info, 200)
    assert greenlet.get().status == 200
    assert (info.call_id, info.from_.tag, info.to.tag) == (
        placed.invite.call_id,
        placed.invite.from_.tag,
        placed.response.to.tag,
    )
    assert info.cseq.number == placed.invite.cseq.number + 1
    assert info.uri == placed.response.contact[0].uri


@pytest.mark.rfc("3261 12.2.1.1")
def test_request_of_the_callee_has_the_tags_the_other_way_round(taken):
    start(taken.sip, taken.call.request, "INFO")
    info = taken.peer.last("INFO")
    taken.peer.reply(info, 200)
    assert (info.from_.tag, info.to.tag) == (taken.response.to.tag, taken.invite.from_.tag)
    assert info.uri == taken.invite.contact[0].uri


@pytest.mark.rfc("3261 12.2.1.2")
@pytest.mark.parametrize("status", [408, 481])
def test_request_answered_with_408_or_481_ends_the_call_with_bye(two, status):
    greenlet = start(two.sip, two.call.request, "INFO")
    two.peer.reply(two.peer.last("INFO"), status)
    assert greenlet.get().status == status
    assert two.peer.methods[-1] == "BYE"


@pytest.mark.rfc("3261 12.2.1.2")
def test_request_answered_with_another_error_leaves_the_call_up(two):
    greenlet = start(two.sip, two.call.request, "INFO")
    two.peer.reply(two.peer.last("INFO"), 500)
    assert greenlet.get().status == 500
    assert not two.call.ended.is_set()


@pytest.mark.rfc("3261 12.2.1.2")
def test_unanswered_request_ends_the_call_with_bye(two):
    greenlet = start(two.sip, two.call.request, "INFO")
    two.sip.advance(33)
    assert isinstance(greenlet.exception, TransactionTimeout)
    assert two.peer.methods[-1] == "BYE"


def test_request_that_the_user_stops_waiting_for_leaves_the_call_up(two):
    greenlet = start(two.sip, two.call.request, "INFO", timeout=2)
    two.sip.advance(2.1)
    assert isinstance(greenlet.exception, TransactionTimeout)
    assert not two.call.ended.is_set()


def test_request_of_the_peer_goes_to_the_core_with_its_call(sip):
    seen = []
    taken = Taken(sip, core=lambda request, tx: seen.append((request.method, tx.call)) or 200)
    taken.ask("INFO")
    assert (seen, taken.peer.statuses[-1]) == ([("INFO", taken.call)], 200)


def test_core_that_raises_within_the_call_leaves_the_call_up(sip):
    taken = Taken(sip, core=lambda request, tx: 1 / 0)
    taken.ask("INFO")
    assert taken.peer.statuses[-1] == 500
    assert not taken.call.ended.is_set()
    taken.call.hangup()


@pytest.mark.rfc("3261 12.2.2")
def test_request_with_an_older_number_is_refused_with_500(sip):
    taken = Taken(sip, core=lambda request, tx: 200)
    taken.ask("INFO", number=9)
    taken.ask("INFO", number=8)
    assert taken.peer.statuses[-2:] == [200, 500]


@pytest.mark.rfc("3261 12.2.2")
def test_request_may_skip_numbers(sip):
    taken = Taken(sip, core=lambda request, tx: 200)
    taken.ask("INFO", number=900)
    assert taken.peer.statuses[-1] == 200


@pytest.mark.rfc("3261 12.2.2")
def test_first_request_of_the_callee_may_have_any_number(placed):
    placed.ask("BYE", number=1)
    assert placed.peer.statuses[-1] == 200


@pytest.mark.parametrize("by_the_core", [True, False])
def test_update_that_is_accepted_moves_the_remote_target(sip, by_the_core):
    taken = Taken(sip, core=lambda request, tx: 200)
    if by_the_core:
        taken.call.on_reinvite = lambda request, tx: 200
    taken.ask("UPDATE", contact="<sip:moved@10.0.0.50:5070>")
    assert str(taken.call.dialog.remote_target) == "sip:moved@10.0.0.50:5070"


def test_update_that_is_refused_does_not_move_the_remote_target(sip):
    taken = Taken(sip, core=lambda request, tx: 488)
    taken.call.on_reinvite = lambda request, tx: 488
    taken.ask("UPDATE", contact="<sip:moved@10.0.0.50:5070>")
    assert str(taken.call.dialog.remote_target) == "sip:10.0.0.50:5060"


@pytest.mark.rfc("3261 12.2")
def test_request_that_refreshes_no_target_does_not_move_it(sip):
    taken = Taken(sip, core=lambda request, tx: 200)
    taken.ask("INFO", contact="<sip:moved@10.0.0.50:5070>")
    assert str(taken.call.dialog.remote_target) == "sip:10.0.0.50:5060"


# ---- requests that are refused


REFUSABLE = (
    "BYE",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "REFER",
    "SUBSCRIBE",
    "UPDATE",
    "FROBNICATE",
)


def state_of(call):
    """Return everything that a request may change in a call, except the remote sequence number (§12.2.2)."""
    dialog = call.dialog
    return (
        call.ended.is_set(), call.local_body, call.remote_body, call.flow, call.acknowledged, list(call._serving),
        dialog.remote_target, dialog.route_set, dialog.local_cseq, len(call.stack.dialogs), len(call.stack.dialogs.ended),
    )  # fmt: skip


@pytest.mark.rfc("3261 8.2", "3261 8.2.2.3", "3261 12.2.2")
@pytest.mark.parametrize("method", REFUSABLE)
def test_request_that_requires_what_we_lack_is_420_and_changes_nothing(sip, method):
    seen = []
    taken = Taken(sip, core=lambda request, tx: seen.append(request) or 200)
    before = state_of(taken.call)
    taken.ask(
        method,
        require="nosuch",
        body="other",
        content_type="application/sdp",
        contact="<sip:moved@10.0.0.99>",
    )
    assert (taken.peer.statuses[-1], taken.peer.responses[-1].unsupported) == (420, ("nosuch",))
    assert (seen, state_of(taken.call)) == ([], before)
    taken.ask("BYE")
    assert taken.peer.statuses[-1] == 200


@pytest.mark.rfc("3261 8.2")
@pytest.mark.parametrize("method", REFUSABLE)
def test_request_with_unreadable_require_is_400_and_changes_nothing(sip, method):
    seen = []
    taken = Taken(sip, core=lambda request, tx: seen.append(request) or 200)
    before = state_of(taken.call)
    taken.number += 1
    request = taken.peer.within(taken.invite, taken.response, method, number=taken.number)
    request.headers["Require"] = "no such"
    taken.peer.send(request)
    assert (taken.peer.statuses[-1], seen, state_of(taken.call)) == (400, [], before)
    taken.ask("BYE")
    assert taken.peer.statuses[-1] == 200


@pytest.mark.rfc("3261 12.2.2")
@pytest.mark.parametrize("method", REFUSABLE)
def test_request_out_of_order_is_500_and_changes_nothing(sip, method):
    seen = []
    taken = Taken(sip, core=lambda request, tx: seen.append(request) or 200)
    taken.ask("INFO", number=9)
    before = state_of(taken.call)
    taken.ask(
        method,
        number=8,
        body="other",
        content_type="application/sdp",
        contact="<sip:moved@10.0.0.99>",
    )
    assert (taken.peer.statuses[-1], len(seen), state_of(taken.call)) == (500, 1, before)
    taken.number = 9
    taken.ask("BYE")
    assert taken.peer.statuses[-1] == 200


@pytest.mark.rfc("3261 12.2.2")
def test_refused_request_leaves_its_sequence_number_behind(sip):
    taken = Taken(sip, core=lambda request, tx: 200)
    taken.ask("INFO", number=9, require="nosuch")
    taken.ask("INFO", number=8)
    taken.ask("INFO", number=10)
    assert taken.peer.statuses[-3:] == [420, 500, 200]


@pytest.mark.rfc("3261 8.2")
@pytest.mark.parametrize("method", ["INFO", "UPDATE", "NOTIFY", "PRACK", "FROBNICATE"])
@pytest.mark.parametrize("status", [400, 403, 405, 415, 421, 488, 491, 500, 503])
def test_request_that_the_core_refuses_changes_nothing(sip, method, status):
    taken = Taken(sip, core=lambda request, tx: status)
    taken.call.on_reinvite = lambda request, tx: status  # so that the core gets UPDATE
    before = state_of(taken.call)
    taken.ask(method, body="other", content_type="application/sdp", contact="<sip:moved@10.0.0.99>")
    taken.call._serving = ()
    assert (taken.peer.statuses[-1], state_of(taken.call)) == (status, before)
    taken.ask("BYE")


@pytest.mark.rfc("3261 8.2.1")
@pytest.mark.parametrize(("method", "status"), [("INFO", 405), ("FROBNICATE", 501)])
def test_unserved_method_is_refused_before_anything_else(placed, method, status):
    placed.ask(method, require="nosuch")
    assert placed.peer.statuses[-1] == status
    placed.ask("BYE")


@pytest.mark.rfc("3261 8.2.3")
def test_reinvite_with_an_unknown_content_type_is_415_with_accept(two):
    before = state_of(two.call)
    two.ask("INVITE", body="<x/>", content_type="application/xml", contact="<sip:moved@10.0.0.99>")
    assert two.peer.statuses[-1] == 415
    assert two.peer.responses[-1].headers["Accept"] == "application/sdp"
    assert state_of(two.call) == before
    two.ask("BYE")


@pytest.mark.rfc("3261 8.2.2.3")
def test_reinvite_that_requires_what_we_lack_is_not_shown_to_its_core(taken):
    seen = []
    taken.call.on_reinvite = lambda request, tx: seen.append(request) or 200
    taken.ask("INVITE", require="nosuch")
    assert (taken.peer.statuses[-1], seen) == (420, [])
    taken.ask("BYE")


# ---- INVITE and UPDATE that get in each other's way

INVITES = (Pending.OUR_INVITE, Pending.OUR_UPDATE, Pending.OUR_OFFER)
THEIRS = (Pending.THEIR_INVITE, Pending.THEIR_UPDATE)


@pytest.mark.rfc("3261 14.2", "3311 5.2", "5407 3.3.2", "6337 4.3")
@pytest.mark.parametrize(
    ("method", "has_offer", "pending", "status"),
    [
        *(("INVITE", offer, (what,), 491) for what in INVITES for offer in (True, False)),
        *(("UPDATE", True, (what,), 491) for what in INVITES),
        *(("UPDATE", False, (what,), None) for what in (*INVITES, Pending.THEIR_INVITE)),
        *(("INVITE", offer, (what,), 500) for what in THEIRS for offer in (True, False)),
        *(("UPDATE", True, (what,), 500) for what in THEIRS),
        ("UPDATE", False, (Pending.THEIR_UPDATE,), 500),
        # RFC 5407 §3.3.2
        *(("INVITE", offer, (Pending.OUR_REFRESH,), None) for offer in (True, False)),
        ("UPDATE", True, (Pending.OUR_REFRESH,), 491),
        ("UPDATE", False, (Pending.OUR_REFRESH,), None),
        ("INVITE", True, (), None),
        ("UPDATE", True, (), None),
        ("INVITE", True, (Pending.OUR_INVITE, Pending.THEIR_INVITE), 491),
    ],
)
def test_colliding_invite_or_update_gets_its_status(method, has_offer, pending, status):
    assert glare(method, has_offer, set(pending)) == status


@pytest.fixture
def offered(sip):
    """A call in which our 200 had the offer, and whose ACK with the answer has not come."""
    peer = Peer(sip, CALLER)
    stack = sip.serve(
        lambda request, tx: tx.respond(200, body="our offer") if tx.call is None else 200
    )
    invite = peer.ask("INVITE")
    (call,) = stack.dialogs._calls.values()
    yield (
        lambda method, **headers: peer.send(
            peer.within(invite, peer.responses[0], method, **headers)
        ),
        peer,
        call,
    )
    call._leave()


@pytest.mark.rfc("5407 3.1.5")
@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("INVITE", "offer", 491), ("INVITE", "", 491), ("UPDATE", "offer", 491), ("UPDATE", "", 200)],
)
def test_offer_before_the_answer_to_ours_is_491(offered, method, body, status):
    ask, peer, call = offered
    ask(method, body=body, content_type="application/sdp" if body else None)
    assert peer.statuses[-1] == status
    assert (call.local_body, call.remote_body) == (b"our offer", b"")


@pytest.mark.rfc("5407 3.1.5")
def test_offer_after_the_answer_to_ours_is_served(offered):
    ask, peer, call = offered
    ask("ACK", number=1, body="answer", content_type="application/sdp")
    ask("INVITE", body="answer", content_type="application/sdp")
    assert peer.statuses[-1] == 200
    ask("ACK", number=2)


@pytest.mark.rfc("5407 3.1.4")
def test_reinvite_before_the_ack_alone_is_missing_is_served(sip):
    peer = Peer(sip, CALLER)
    sip.serve(lambda request, tx: tx.respond(200, body="answer"))
    invite = peer.ask("INVITE", body="offer", content_type="application/sdp")
    peer.send(
        peer.within(
            invite, peer.responses[0], "INVITE", body="offer", content_type="application/sdp"
        )
    )
    assert peer.statuses == [200, 200]
    peer.send(peer.within(invite, peer.responses[0], "ACK", number=2))
    peer.send(peer.within(invite, peer.responses[0], "BYE", number=3))


@pytest.mark.rfc("3311 5.2")
def test_update_with_an_offer_that_crosses_our_reinvite_is_491(two):
    _, invite = reinvite(two, body="new offer")
    two.ask("UPDATE", body="other", content_type="application/sdp")
    assert two.peer.statuses[-1] == 491
    two.peer.reply(invite, 488)


@pytest.mark.rfc("6337 4.3")
def test_reinvite_that_crosses_our_update_is_491(two):
    greenlet = start(
        two.sip, two.call.request, "UPDATE", body="new", content_type="application/sdp"
    )
    two.ask("INVITE")
    assert two.peer.statuses[-1] == 491
    two.peer.reply(two.peer.last("UPDATE"), 200)
    assert greenlet.get().status == 200
    two.ask("INVITE")
    assert two.peer.statuses[-1] == 200
    two.ask("ACK", number=two.number)


@pytest.mark.rfc("6337 4.3")
@pytest.mark.parametrize(
    ("first", "second", "body", "waits"),
    [
        ("INVITE", "UPDATE", "offer", True),
        ("INVITE", "UPDATE", "", False),
        ("UPDATE", "INVITE", "", True),
        ("UPDATE", "UPDATE", "", True),
    ],
)
def test_our_request_that_would_collide_with_ours_is_not_sent(two, first, second, body, waits):
    greenlet = start(two.sip, two.call.request, first)
    other = start(two.sip, two.call.request, second, body=body)
    assert isinstance(other.exception, TransactionStateError) == waits
    for method in [first] if waits else [first, second]:
        two.peer.reply(two.peer.last(method), 488)
    assert greenlet.get().status == 488


@pytest.mark.rfc("3311 5.1", "6337 4.3")
def test_our_update_with_an_offer_waits_for_the_reinvite_of_the_peer(taken):
    taken.call.on_reinvite = lambda request, tx: tx.wait(1) or 488
    taken.ask("INVITE")
    with pytest.raises(TransactionStateError):
        taken.call.request("UPDATE", body="offer")


@pytest.mark.rfc("3311 5.2")
def test_second_update_before_the_first_answer_is_500_with_retry_after(sip):
    taken = Taken(sip, core=lambda request, tx: tx.wait(1) or 200)
    taken.call.on_reinvite = lambda request, tx: 200  # so that the core gets UPDATE
    taken.ask("UPDATE")
    taken.ask("UPDATE")
    assert taken.peer.statuses[-1] == 500
    assert 0 <= taken.peer.responses[-1].retry_after.seconds <= 10
    sip.advance(1.1)
    taken.ask("BYE")


# ---- where our requests go after a target refresh


def bye_goes_to(two):
    """Hang up and return the address that the BYE was sent to."""
    two.call.hangup()
    two.sip.settle()
    return next(
        carried.destination
        for carried in reversed(two.sip.network.trace)
        if _label(carried.data).startswith("BYE")
    )


def with_rport(method, port=5060):
    """A Via of the peer's that asks for rport."""
    return f"SIP/2.0/UDP {CALLER}:{port};rport;branch=z9hG4bK{method}{port}"


class Rport(Taken):
    """A call of a peer that sends from one port, has another one in its Contact, and asks for rport."""

    def __init__(self, sip):
        self.sip = sip
        self.stack = sip.serve(
            lambda request, tx: tx.respond(200, body="answer") if tx.call is None else 200
        )
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.ask(
            "INVITE", via=with_rport("a"), contact=f"<sip:peer@{CALLER}:5090>"
        )
        self.response = self.peer.responses[-1]
        self.peer.send(self.peer.within(self.invite, self.response, "ACK"))
        (self.call,) = self.stack.dialogs._calls.values()
        self.number = 1


def test_peer_with_rport_is_reached_at_its_source_address(sip):
    assert bye_goes_to(Rport(sip)) == (CALLER, 5060)


@pytest.mark.rfc("3261 12.2.1.1", "3581 4")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_target_refresh_with_another_port_outranks_rport(sip, method):
    two = Rport(sip)
    two.ask(method, via=with_rport("b"), contact=f"<sip:peer@{CALLER}:5070>")
    if method == "INVITE":
        two.ask("ACK", number=two.number)
    assert bye_goes_to(two) == (CALLER, 5070)


@pytest.mark.rfc("3261 12.2")
def test_target_refresh_with_the_same_contact_leaves_the_way_as_it_was(sip):
    two = Rport(sip)
    two.ask("INVITE", via=with_rport("b"), contact=f"<sip:peer@{CALLER}:5090>")
    two.ask("ACK", number=two.number)
    assert bye_goes_to(two) == (CALLER, 5060)


@pytest.mark.rfc("3261 12.2.2")
def test_target_refresh_that_is_refused_leaves_the_way_as_it_was(sip):
    two = Rport(sip)
    two.ask(
        "INVITE",
        via=with_rport("b"),
        contact=f"<sip:peer@{CALLER}:5070>",
        body="other",
        content_type="application/sdp",
    )
    assert two.peer.statuses[-1] == 488
    assert bye_goes_to(two) == (CALLER, 5060)


@pytest.mark.rfc("5626 5.3", "7118 5.2")
def test_target_refresh_that_cannot_be_dialled_is_reached_by_its_flow(sip):
    two = Rport(sip)
    two.ask("INVITE", via=with_rport("b"), contact="<sip:peer@df7jal23ls0d.invalid;transport=ws>")
    two.ask("ACK", number=two.number)
    assert bye_goes_to(two) == (CALLER, 5060)


@pytest.mark.rfc("3261 12.2.1.2")
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_2xx_to_our_target_refresh_moves_the_remote_target(sip, method):
    two = Rport(sip)
    greenlet = start(sip, two.call.request, method)
    two.peer.reply(two.peer.last(method), 200, contact=f"<sip:peer@{CALLER}:5070>")
    assert greenlet.get().status == 200
    assert bye_goes_to(two) == (CALLER, 5070)


# ---- re-INVITE from the peer


def test_reinvite_that_changes_nothing_gets_the_previous_body(taken):
    taken.ask("INVITE", body="offer", content_type="application/sdp")
    assert (taken.peer.statuses[-1], taken.peer.responses[-1].body) == (200, b"answer")
    taken.acknowledge()


def test_reinvite_without_a_body_gets_the_previous_body(two):
    two.ask("INVITE")
    assert (two.peer.statuses[-1], two.peer.responses[-1].body) == (200, two.call.local_body)
    two.ask("ACK", number=two.number)


@pytest.mark.rfc("3261 14.2")
def test_reinvite_that_changes_the_session_is_refused_with_488(two):
    two.ask("INVITE", body="other", content_type="application/sdp")
    assert two.peer.statuses[-1] == 488
    assert two.peer.responses[-1].warning[0].code == 399
    assert not two.call.ended.is_set()
    two.ask("BYE")


@pytest.mark.parametrize(
    "answering",
    [
        lambda r, tx: 200,
        lambda r, tx: tx.respond(200, body="new"),
        lambda r, tx: tx.accept() and None,
    ],
)
@pytest.mark.rfc("3261 12.2.2")
def test_reinvite_that_is_accepted_moves_the_remote_target(taken, answering):
    taken.call.on_reinvite = answering
    taken.ask(
        "INVITE", body="other", content_type="application/sdp", contact="<sip:moved@10.0.0.50:5070>"
    )
    taken.acknowledge()
    assert str(taken.call.dialog.remote_target) == "sip:moved@10.0.0.50:5070"
    assert taken.call.remote_body == b"other"


@pytest.mark.rfc("3261 12.2.2")
def test_reinvite_that_is_refused_changes_nothing(taken):
    taken.call.on_reinvite = lambda request, tx: 603
    taken.ask(
        "INVITE", body="other", content_type="application/sdp", contact="<sip:moved@10.0.0.50:5070>"
    )
    assert str(taken.call.dialog.remote_target) == "sip:10.0.0.50:5060"
    assert taken.call.remote_body == b"offer"


@pytest.mark.rfc("3261 13.3.1.4")
def test_200_to_a_reinvite_is_repeated_until_its_ack(taken):
    before = len(taken.peer.responses)
    taken.ask("INVITE")
    taken.sip.advance(1.6)
    assert taken.peer.statuses[before:] == [200, 200, 200]
    taken.acknowledge()
    taken.sip.advance(10)
    assert taken.peer.statuses[before:] == [200, 200, 200]


def test_late_ack_to_the_first_200_does_not_stop_the_second(taken):
    first = taken.number
    before = len(taken.peer.responses)
    taken.ask("INVITE")
    taken.peer.send(taken.peer.within(taken.invite, taken.response, "ACK", number=first))
    taken.sip.advance(0.6)
    assert taken.peer.statuses[before:] == [200, 200]
    taken.acknowledge()


@pytest.mark.rfc("3261 14.2")
def test_reinvite_without_ack_ends_the_call_with_bye(taken):
    taken.peer.answer = lambda request: 200
    taken.ask("INVITE")
    taken.sip.advance(33)
    assert taken.peer.methods == ["BYE"]


@pytest.mark.rfc("3261 14.2")
def test_second_reinvite_before_the_first_answer_is_500_with_retry_after(taken):
    taken.call.on_reinvite = lambda request, tx: tx.wait(1) or 488
    taken.ask("INVITE")
    taken.ask("INVITE")
    assert taken.peer.statuses[-1] == 500
    assert 0 <= taken.peer.responses[-1].retry_after.seconds <= 10


@pytest.mark.rfc("3261 14.2")
def test_reinvites_that_cross_are_refused_with_491(two):
    greenlet = start(two.sip, two.call.request, "INVITE")
    two.ask("INVITE")
    assert two.peer.statuses[-1] == 491
    two.peer.reply(two.peer.last("INVITE"), 491)
    assert greenlet.get().status == 491


@pytest.mark.rfc("3261 14.2")
def test_reinvite_after_one_that_was_refused_with_491_is_served(two):
    start(two.sip, two.call.request, "INVITE")
    two.ask("INVITE")
    two.peer.reply(two.peer.last("INVITE"), 491)
    two.ask("INVITE")
    assert two.peer.statuses[-1] == 200
    two.ask("ACK", number=two.number)


@pytest.mark.rfc("3261 15.1.2")
def test_bye_during_a_reinvite_of_the_peer_ends_both(taken):
    taken.call.on_reinvite = lambda request, tx: tx.wait(20) or 200
    taken.ask("INVITE")
    taken.ask("BYE")
    assert sorted(taken.peer.statuses[-2:]) == [200, 487]
    assert taken.stack.stats()["calls"] == 0


def test_cancel_of_a_reinvite_leaves_the_call_up(taken):
    taken.call.on_reinvite = lambda request, tx: tx.wait(20) or 200
    reinvite = taken.ask("INVITE")
    taken.peer.send(reinvite.cancel())
    assert taken.peer.statuses[-2:] == [200, 487]
    assert not taken.call.ended.is_set()
    taken.call.hangup()


# ---- re-INVITE of ours


def reinvite(two, **options):
    greenlet = start(two.sip, two.call.request, "INVITE", **options)
    return greenlet, two.peer.last("INVITE")


@pytest.mark.rfc("3261 14.1")
def test_reinvite_of_ours_is_acknowledged_and_changes_the_session(two):
    greenlet, invite = reinvite(two, body="new offer")
    two.peer.reply(invite, 200, contact=f"<sip:moved@{two.peer.host}>", body="new answer")
    assert greenlet.get().status == 200
    assert two.peer.methods[-1] == "ACK"
    assert two.peer.last("ACK").cseq.number == invite.cseq.number
    assert (two.call.local_body, two.call.remote_body) == (b"new offer", b"new answer")
    assert str(two.call.dialog.remote_target) == f"sip:moved@{two.peer.host}"


@pytest.mark.rfc("3261 14.1")
def test_reinvite_of_ours_that_is_refused_changes_nothing(two):
    before = (two.call.local_body, two.call.remote_body, two.call.dialog.remote_target)
    greenlet, invite = reinvite(two, body="new offer")
    two.peer.reply(invite, 488, contact="<sip:moved@10.0.0.99>", body="no")
    assert greenlet.get().status == 488
    assert (two.call.local_body, two.call.remote_body, two.call.dialog.remote_target) == before


@pytest.mark.rfc("3261 13.2.2.4")
def test_repeated_200_to_a_reinvite_gets_the_same_ack_again(two):
    greenlet, invite = reinvite(two)
    response = two.peer.reply(invite, 200, contact=f"<{two.peer.uri}>")
    two.peer.reply(invite, response)
    acks = [
        bytes(request)
        for request in two.peer.requests
        if request.method == "ACK" and request.cseq.number == invite.cseq.number
    ]
    assert len(acks) == 2
    assert acks[0] == acks[1]


@pytest.mark.rfc("3261 14.1")
def test_reinvite_while_one_is_under_way_is_refused_here(two):
    _, invite = reinvite(two)
    with pytest.raises(TransactionStateError):
        two.call.request("INVITE")
    two.peer.reply(invite, 488)


@pytest.mark.rfc("3261 14.1")
def test_reinvite_while_the_peer_s_is_under_way_is_refused_here(taken):
    taken.call.on_reinvite = lambda request, tx: tx.wait(1) or 488
    taken.ask("INVITE")
    with pytest.raises(TransactionStateError):
        taken.call.request("INVITE")


@pytest.mark.rfc("3261 14.1")
def test_reinvite_before_the_ack_is_refused_here(sip):
    calls = []
    peer = Peer(sip, CALLER)
    sip.serve(lambda request, tx: tx.respond(200) or calls.append(tx.call))
    peer.ask("INVITE")
    with pytest.raises(TransactionStateError):
        calls[0].request("INVITE")


def test_abandoned_reinvite_is_cancelled_and_leaves_the_call_up(two):
    greenlet, invite = reinvite(two, timeout=2)
    two.peer.reply(invite, 180)
    two.sip.advance(2.1)
    assert two.peer.methods[-1] == "CANCEL"
    two.peer.reply(two.peer.last("CANCEL"), 200)
    two.peer.reply(invite, 487)
    assert not two.call.ended.is_set()
    assert isinstance(greenlet.exception, TransactionTimeout)


def test_abandoned_reinvite_that_is_answered_is_acknowledged_and_counts(two):
    _, invite = reinvite(two, timeout=2, body="new offer")
    two.peer.reply(invite, 180)
    two.sip.advance(2.1)
    two.peer.reply(invite, 200, contact=f"<{two.peer.uri}>", body="new answer")
    assert two.peer.methods[-1] == "ACK"
    assert (two.call.local_body, two.call.remote_body) == (b"new offer", b"new answer")
    assert not two.call.ended.is_set()


@pytest.mark.rfc("3311 5.3")
@pytest.mark.parametrize("status", [200, 488])
def test_abandoned_update_that_is_answered_late_counts(two, status):
    before = two.call.local_body, two.call.remote_body
    greenlet = start(two.sip, two.call.request, "UPDATE", timeout=2, body="new offer")
    update = two.peer.last("UPDATE")
    two.sip.advance(2.1)
    assert isinstance(greenlet.exception, TransactionTimeout)
    two.ask("UPDATE", body="offer", content_type="application/sdp")
    assert two.peer.statuses[-1] == 491  # RFC 3311 §5.2: the peer may have our offer
    answer = {"body": "new answer"} if status == 200 else {}
    two.peer.reply(update, status, contact=f"<{two.peer.uri}>", **answer)
    agreed = (b"new offer", b"new answer") if status == 200 else before
    assert (two.call.local_body, two.call.remote_body) == agreed
    assert not two.call.ended.is_set() and two.call._pending() == set()


@pytest.mark.rfc("3261 12.2.1.2")
def test_abandoned_update_without_any_answer_ends_the_call_with_bye(two):
    start(two.sip, two.call.request, "UPDATE", timeout=2, body="new offer")
    two.sip.advance(33)
    assert two.peer.methods.count("UPDATE") > 3
    assert two.peer.methods[-1] == "BYE"


@pytest.mark.rfc("3261 12.2.1.2")
def test_unanswered_reinvite_ends_the_call_with_bye(two):
    greenlet, _ = reinvite(two)
    two.sip.advance(33)
    assert isinstance(greenlet.exception, TransactionTimeout)
    assert two.peer.methods[-1] == "BYE"


def test_reinvite_with_a_body_says_what_it_is(two):
    _, invite = reinvite(two, body="new offer")
    assert str(invite.content_type) == "application/sdp"
    two.peer.reply(invite, 488)


def test_bye_of_the_peer_during_our_reinvite_ends_the_call(two):
    greenlet, invite = reinvite(two)
    two.ask("BYE")
    two.peer.reply(invite, 487)
    assert greenlet.get().status == 487
    assert two.call.ended.is_set()


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_request_left_while_its_name_is_resolved_is_not_pending(taken, monkeypatch, method):
    monkeypatch.setattr(taken.stack.sender, "resolve", lambda uri, listener: gevent.sleep(5))
    taken.call.flow = None

    def impatient():
        with gevent.Timeout(0.01, False):
            taken.call.request(method, body="offer")

    gevent.spawn(impatient).join()
    assert taken.call._pending() == set()
    taken.ask("INVITE", body="offer", content_type="application/sdp")
    assert taken.peer.statuses[-1] == 200


def test_call_that_begins_while_the_stack_stops_is_ended(sip, monkeypatch):
    ended = []

    def core(request, tx):
        if request.uri.user == "ring":
            tx.respond(180)
            tx.wait(1)
        with tx.accept() as call:
            ended.append(call.wait())

    stack = sip.serve(core)
    caller = Peer(sip, CALLER)
    caller.ask("INVITE", contact="<sip:peer@slow.example>")
    caller.ask("INVITE", "sip:ring@10.0.0.1")
    resolve = stack.sender.resolve

    def slow(uri, *listener):
        if uri.host == "slow.example":
            sip.clock.sleep(2)
            uri = URI.parse(caller.uri)
        return resolve(uri, *listener)

    monkeypatch.setattr(stack.sender, "resolve", slow)
    next(iter(stack.dialogs._calls.values())).flow = None
    stopping = start(sip, stack.stop)
    caller.ask("INVITE")
    sip.advance(3)
    stopping.join(5)
    sip.settle()
    assert (caller.statuses[:4], caller.methods) == ([200, 180, 503, 200], ["BYE", "BYE"])
    assert (ended, stack.stats()["calls"], stack.engine.workers.busy) == ([True, True], 0, 0)


# ---- two stacks of ours


def test_call_between_two_stacks_ends_where_either_side_hangs_up(sip):
    ends = []
    bob = sip.stack(lambda request, tx: ends.append(tx.accept(body="b").wait(100)))
    host = bob.engine.transports[0].local[0]
    call = sip.run(sip.client.invite, f"sip:bob@{host}", body="a")
    call.hangup()
    sip.settle()
    assert ends == [True]
    assert bob.stats()["calls"] == sip.client.stats()["calls"] == 0


def test_call_is_acknowledged_over_a_network_with_delay(sip):
    sip.lossy(delay=0.1)
    bob = sip.stack(lambda request, tx: tx.accept().wait(5) and None)
    call = sip.run(sip.client.invite, f"sip:bob@{bob.engine.transports[0].local[0]}")
    assert not call.ended.is_set()
    sip.advance(1)
    assert sent(sip).count("ACK") == 1
    call.hangup()


@pytest.mark.rfc("3261 13.3.1.4", "5407 3.1.4")
@pytest.mark.parametrize("is_lost", [False, True], ids=["behind the ACK", "the ACK is lost"])
def test_accept_returns_with_its_ack_and_waits_for_none_of_a_reinvite(sip, is_lost):
    """A re-INVITE may come right behind the ACK, or show that a lost ACK was sent."""
    returned = []

    def core(request, tx):
        with tx.accept(body="answer") as call:
            returned.append(call.acknowledged)
            call.wait(5)

    peer = Peer(sip, CALLER, lambda request: 200)
    sip.serve(core)
    invite = peer.ask("INVITE", body="offer", content_type="application/sdp")
    ok = peer.responses[-1]
    ack = [] if is_lost else [peer.within(invite, ok, "ACK")]
    again = peer.within(
        invite, ok, "INVITE", number=2, body="offer", content_type="application/sdp"
    )
    peer.send(*ack, again)
    assert returned == [False]  # the ACK of the re-INVITE is missing still
    peer.send(peer.within(invite, ok, "ACK", number=2))
    sip.advance(6)
    assert peer.methods == ["BYE"]


# ---- what made it


def test_call_has_the_invite_and_the_2xx_that_made_it(two):
    call = two.call
    assert str(call.invite.call_id) == str(two.invite.call_id)
    assert call.invite.method == "INVITE"
    assert (call.response.status, call.response.body) == (200, b"answer")
    first = call.response
    two.ask("INVITE", body="again", content_type="application/sdp", contact=f"<{two.peer.uri}>")
    assert call.response is first


@pytest.mark.rfc("3261 13.2.2.4", "3261 9.1")
@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_request_refuses_the_methods_that_the_call_sends_by_itself(placed, method):
    """Nothing answers an ACK, so the call waited for ever."""
    sequence = placed.call.dialog.local_cseq
    with pytest.raises(InvalidValue, match=method):
        placed.call.request(method)
    assert placed.call.dialog.local_cseq == sequence
    assert placed.peer.methods == ["INVITE", "ACK"]
