"""SessionTimer: refreshes in both roles, and the end of calls whose peer is gone, RFC 4028."""

from __future__ import annotations

import gc
import weakref

import pytest

from sippet_gevent import InvalidValue, ParseError, Reject, Stack, sdp
from sippet_gevent.core.dialog.rules import RULES
from sippet_gevent.core.dialog.session_timer import EXPIRED, NOT_REFRESHED, SessionTimer

from ..wire import Peer, start

CALLEE = "10.0.0.60"
CALLER = "10.0.0.50"
BOB = f"sip:bob@{CALLEE}"
HALF, MARGIN = 900, 32
DEAD = 31 * 60
OFFER = (
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.60\r\ns=-\r\nc=IN IP4 10.0.0.60\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\n"
)


def timer_of(call):
    return next(rule for rule in call.rules if isinstance(rule, SessionTimer))


def names(message):
    return {
        name: message.headers.get(name)
        for name in ("Session-Expires", "Min-SE", "Require", "Supported")
        if name in message.headers
    }


class Placed:
    """A call that our stack has placed. `ok` are header fields of the peer's 200."""

    def __init__(self, sip, ok=(), peer=None, **headers):
        self.sip = sip
        self.peer = peer or Peer(sip, CALLEE)
        self.peer.answer = None
        greenlet = start(sip, sip.client.invite, BOB, body="offer", **headers)
        self.invite = self.peer.last("INVITE")
        self.response = self.peer.reply(
            self.invite, 200, contact=f"<{self.peer.uri}>", body="answer",
            content_type="application/sdp", **dict(ok),
        )  # fmt: skip
        self.call = greenlet.get()
        self.number = 100
        self.peer.answer = self.answer
        self.status = 200
        self.headers = dict(ok)

    def answer(self, request):
        """Answer a refresh with `status`, and everything else with 200."""
        if request.method not in ("INVITE", "UPDATE"):
            return 200
        if self.status is None:
            return None
        if self.status >= 300:
            return self.status
        return request.response(self.status, contact=f"<{self.peer.uri}>", **self.headers)

    def ask(self, method, **headers):
        """The peer sends a request within the call."""
        self.number += 1
        request = self.peer.back(self.invite, self.response, method, number=self.number, **headers)
        self.peer.send(request, to=self.sip.client.engine.transports[0].local[0])
        return self.peer.responses[-1]

    def refreshes(self):
        """The session refreshes that the peer has received, without the first INVITE."""
        return [r for r in self.peer.requests if r.method in ("INVITE", "UPDATE")][1:]

    def advance(self, seconds):
        self.sip.clock.advance(seconds)

    @property
    def bye(self):
        return self.peer.last("BYE") if "BYE" in self.peer.methods else None


class Taken(Placed):
    """A call that our stack has taken. `ok` are header fields of the peer's INVITE."""

    def __init__(self, sip, ok=(), stack_options=(), **headers):
        self.sip = sip
        calls = []

        def core(request, tx):
            if tx.call is not None:
                return 200 if request.method == "UPDATE" else 501
            tx.respond(200, body="answer", **headers)
            calls.append(tx.call)
            return None

        self.stack = sip.serve(core, **dict(stack_options))
        self.peer = Peer(sip, CALLER)
        self.invite = self.peer.ask(
            "INVITE", body="offer", content_type="application/sdp", **dict(ok)
        )
        self.response = self.peer.responses[-1]
        if self.response.status == 200:
            self.peer.send(self.peer.within(self.invite, self.response, "ACK"))
            self.call = calls[0]
        self.number = self.invite.cseq.number
        self.peer.answer = self.answer
        self.status = 200
        self.headers = {}

    def ask(self, method, **headers):
        self.number += 1
        request = self.peer.within(
            self.invite, self.response, method, number=self.number, **headers
        )
        self.peer.send(request)
        response = self.peer.responses[-1]
        if method == "INVITE" and response.status == 200:
            self.peer.send(self.peer.within(self.invite, response, "ACK", number=self.number))
        return response

    def refreshes(self):
        return [r for r in self.peer.requests if r.method in ("INVITE", "UPDATE")]


OURS = {"session_expires": "1800;refresher=uac", "require": "timer"}
"""Of a peer's 200 that lets us refresh."""

THEIRS = {"session_expires": "1800;refresher=uas", "require": "timer"}

TIMER = {"supported": "timer"}


ASKS = {"session_expires": "1800;refresher=uac", **TIMER}

CALLS = {
    "alone placed": lambda sip: Placed(sip),
    "alone taken": lambda sip: Taken(sip),
    "ours placed": lambda sip: Placed(sip, OURS),
    "ours taken": lambda sip: Taken(sip, TIMER),
    "theirs placed": lambda sip: Placed(sip, THEIRS),
    "theirs taken": lambda sip: Taken(sip, ASKS),
}


def calls_of(role):
    """Return a fixture: a call in which `role` refreshes, placed and taken."""

    @pytest.fixture(params=[name for name in CALLS if role in name], name=role or "each")
    def call(request, sip):
        call = CALLS[request.param](sip)
        yield call
        call.call.hangup()

    return call


alone = calls_of("alone")
ours = calls_of("ours")
theirs = calls_of("theirs")
each = calls_of("")


# ---- what the messages say


@pytest.mark.rfc("4028 7.1")
def test_our_invite_asks_for_a_session_timer(sip):
    placed = Placed(sip)
    found = names(placed.invite)
    assert found.pop("Supported") == ", ".join(sorted(RULES.option_tags))
    assert found == {"Session-Expires": "1800"}
    placed.call.hangup()


@pytest.mark.rfc("4028 7.1")
@pytest.mark.parametrize(("wanted", "line"), [(600, "600"), ("90;refresher=uac", None), (0, None)])
def test_one_call_has_another_interval_or_none(sip, wanted, line):
    placed = Placed(sip, session_expires=wanted)
    expected = str(wanted) if wanted else None
    assert names(placed.invite).get("Session-Expires") == expected
    placed.call.hangup()


@pytest.mark.rfc("4028 9")
@pytest.mark.parametrize(
    ("asked", "answered", "required"),
    [
        ({}, "1800;refresher=uas", None),
        ({"session_expires": "600"}, "600;refresher=uas", None),  # of a proxy
        (TIMER, "1800;refresher=uas", "timer"),
        ({"session_expires": "600", **TIMER}, "600;refresher=uac", "timer"),
        ({"session_expires": "600;refresher=uas", **TIMER}, "600;refresher=uas", "timer"),
        ({"session_expires": "9999", "min_se": "2400", **TIMER}, "2400;refresher=uac", "timer"),
    ],
)
def test_our_2xx_says_who_refreshes(sip, asked, answered, required):
    taken = Taken(sip, asked)
    found = names(taken.response)
    assert (found["Session-Expires"], found.get("Require")) == (answered, required)
    taken.call.hangup()


@pytest.mark.rfc("4028 9")
def test_accept_takes_another_interval_for_one_call(sip):
    taken = Taken(sip, TIMER, session_expires=300)
    assert names(taken.response)["Session-Expires"] == "300;refresher=uas"
    taken.call.hangup()


@pytest.mark.rfc("4028 9")
@pytest.mark.parametrize(
    ("asked", "wanted", "answered"),
    [
        (TIMER, "300;refresher=uac", "300;refresher=uac"),
        ({"session_expires": "600", **TIMER}, "600;refresher=uas", "600;refresher=uas"),
        ({"session_expires": "600", **TIMER}, "600;refresher=uac", "600;refresher=uac"),
        # the caller has chosen
        (
            {"session_expires": "600;refresher=uas", **TIMER},
            "600;refresher=uac",
            "600;refresher=uas",
        ),
        # the caller could not refresh
        ({}, "300;refresher=uac", "300;refresher=uas"),
    ],
)
def test_accept_chooses_the_refresher_if_the_caller_has_not(sip, asked, wanted, answered):
    taken = Taken(sip, asked, session_expires=wanted)
    assert names(taken.response)["Session-Expires"] == answered
    taken.advance(HALF)
    assert bool(taken.refreshes()) == answered.endswith("uas")
    taken.call.hangup()


@pytest.mark.parametrize(
    ("asked", "answered"),
    [(TIMER, None), ({"session_expires": "600", **TIMER}, "600;refresher=uac")],
)
def test_stack_without_session_timer_grants_that_of_the_peer(sip, asked, answered):
    taken = Taken(sip, asked, stack_options={"session_expires": 0})
    assert names(taken.response).get("Session-Expires") == answered
    taken.call.hangup()


@pytest.mark.rfc("4028 9")
def test_small_interval_is_refused_with_422_before_anything_rings(sip):
    taken = Taken(sip, {"session_expires": "60", **TIMER})
    assert (taken.response.status, names(taken.response)["Min-SE"]) == (422, "90")


@pytest.mark.parametrize("value", [60, -1, 89])
def test_stack_refuses_an_interval_below_90_seconds(value):
    with pytest.raises(InvalidValue, match="at least 90"):
        Stack(session_expires=value)


@pytest.mark.parametrize("value", ["1800", 1800.0, True, None])
def test_stack_refuses_an_interval_that_is_no_int(value):
    with pytest.raises(TypeError, match="whole number"):
        Stack(session_expires=value)


# ---- refreshes of ours


@pytest.mark.rfc("4028 7.2", "4028 9", "4028 10")
def test_call_with_a_peer_without_timer_is_refreshed_by_us(alone):
    alone.advance(HALF - 1)
    assert alone.refreshes() == []
    alone.advance(2)
    refresh = alone.refreshes()[0]
    assert refresh.method == "INVITE"  # its Allow does not name UPDATE
    assert refresh.body == alone.call.local_body
    assert names(refresh)["Session-Expires"] == "1800;refresher=uac"
    alone.advance(HALF + 1)
    assert len(alone.refreshes()) == 2
    assert not alone.call.ended.is_set()


@pytest.mark.rfc("4028 7.4")
def test_refresh_is_an_update_without_offer_if_allow_names_it(sip):
    placed = Placed(sip, {**OURS, "allow": "INVITE, ACK, BYE, CANCEL, UPDATE"})
    placed.advance(HALF + 1)
    refresh = placed.refreshes()[0]
    assert (refresh.method, refresh.body) == ("UPDATE", b"")
    assert names(refresh)["Session-Expires"] == "1800;refresher=uac"
    placed.call.hangup()


@pytest.mark.rfc("4028 7.4")
def test_allow_in_the_peer_s_invite_counts_too(sip):
    taken = Taken(sip, {**TIMER, "allow": "INVITE, ACK, BYE, CANCEL, UPDATE"})
    taken.advance(HALF + 1)
    assert [request.method for request in taken.refreshes()] == ["UPDATE"]
    taken.call.hangup()


@pytest.mark.parametrize("status", [405, 501])
def test_update_that_is_not_served_is_followed_by_an_invite(sip, status):
    placed = Placed(sip, {**OURS, "allow": "INVITE, UPDATE"})
    placed.peer.answer = lambda request: (
        status if request.method == "UPDATE" else placed.answer(request)
    )
    placed.advance(HALF + 1)
    assert [request.method for request in placed.refreshes()] == ["UPDATE", "INVITE"]
    placed.advance(HALF + 1)
    assert [request.method for request in placed.refreshes()][2:] == ["INVITE"]
    placed.call.hangup()


@pytest.mark.rfc("4028 10")
@pytest.mark.parametrize("status", [408, 481])
def test_refresh_answered_408_or_481_ends_the_call(ours, status):
    ours.status = status
    ours.advance(HALF + 1)
    assert ours.call.ended.is_set()
    assert ours.bye.headers["Reason"] == NOT_REFRESHED
    assert (ours.call.end.by, ours.call.end.cause) == ("us", "expired")


@pytest.mark.rfc("4028 10")
def test_phone_that_loses_power_in_a_call_leaves_nothing_after_31_minutes(each):
    stack = each.call.stack
    each.peer.answer = None
    each.advance(DEAD)
    assert each.call.ended.is_set()
    assert each.call.end.cause == "expired"
    assert each.bye.headers["Reason"] in (NOT_REFRESHED, EXPIRED)
    assert len(stack.dialogs) == 0
    assert stack.active == 0


@pytest.mark.rfc("4028 10")
def test_refresh_that_is_refused_is_tried_again_until_the_session_expires(ours):
    ours.status = 500
    ours.advance(HALF + 1)
    assert len(ours.refreshes()) == 1
    ours.status = 200
    ours.advance(HALF)
    assert len(ours.refreshes()) == 2
    assert not ours.call.ended.is_set()


@pytest.mark.rfc("4028 10")
def test_session_that_no_refresh_extends_ends_with_a_reason(ours):
    ours.status = 500
    ours.advance(2 * HALF)
    assert ours.call.ended.is_set()
    assert 2 < len(ours.refreshes()) < 10  # not continuously
    assert ours.bye.headers["Reason"] == NOT_REFRESHED


def test_peer_without_timer_that_refuses_the_refresh_lives(alone):
    alone.status = 488
    alone.advance(10 * HALF)
    assert not alone.call.ended.is_set()
    assert 8 <= len(alone.refreshes()) <= 10


@pytest.mark.rfc("4028 7.4")
def test_refresh_after_422_asks_for_min_se(ours):
    def answer(request):
        if request.method == "INVITE" and "Min-SE" not in request.headers:
            return request.response(422, min_se="3600")
        return ours.answer(request)

    ours.peer.answer = answer
    ours.advance(HALF + 1)
    again = ours.refreshes()[1]
    assert names(again)["Min-SE"] == "3600"
    assert names(again)["Session-Expires"] == "3600;refresher=uac"
    assert again.cseq.number == ours.refreshes()[0].cseq.number + 1
    ours.headers = {}
    ours.advance(5 * HALF)
    assert names(ours.refreshes()[-1])["Min-SE"] == "3600"  # it is remembered


@pytest.mark.rfc("4028 7.3", "4028 7.4")
def test_invite_that_gets_422_is_sent_again_with_min_se(sip):
    peer = Peer(sip, CALLEE)
    greenlet = start(sip, sip.client.invite, BOB, body="offer")
    first = peer.last("INVITE")
    peer.reply(first, 422, min_se="7200")
    again = peer.last("INVITE")
    assert (again.call_id, str(again.from_), str(again.to)) == (
        first.call_id, str(first.from_), str(first.to),
    )  # fmt: skip
    assert again.cseq.number == first.cseq.number + 1
    assert (names(again)["Session-Expires"], names(again)["Min-SE"]) == ("7200", "7200")
    peer.reply(again, 200, contact=f"<{peer.uri}>", body="answer")
    greenlet.get().hangup()


@pytest.mark.rfc("4028 10")
@pytest.mark.parametrize("least", [None, "100", "1800"])
def test_422_that_asks_for_no_more_is_not_repeated(sip, least):
    peer = Peer(sip, CALLEE)
    greenlet = start(sip, sip.client.invite, BOB)
    peer.reply(peer.last("INVITE"), 422, min_se=least)
    with pytest.raises(Reject) as refused:
        greenlet.get()
    assert refused.value.status == 422
    assert peer.methods == ["INVITE", "ACK"]


@pytest.mark.rfc("3261 13.2.1")
def test_offer_in_the_2xx_to_a_refresh_of_a_call_without_session_gets_an_answer(sip):
    peer = Peer(sip, CALLEE)
    peer.answer = None
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    peer.reply(invite, 200, contact=f"<{peer.uri}>")
    call = greenlet.get()
    peer.answer = lambda request: request.response(
        200, contact=f"<{peer.uri}>",
        **({"body": OFFER, "content_type": "application/sdp"} if request.method == "INVITE" else {}),
    )  # fmt: skip
    sip.advance(HALF + 40)  # longer than 64*T1, after which an offer without answer ends a call
    assert peer.last("INVITE").body == b""
    answer = peer.last("ACK").body
    assert [each.port for each in sdp.SDP.parse(answer).media] == [0]
    sip.advance(HALF)
    assert peer.last("INVITE").body == answer  # what is agreed since then
    assert not call.ended.is_set()
    start(sip, call.hangup)


def test_refresh_waits_for_an_invite_that_is_under_way(ours):
    ours.advance(HALF - 1)
    ours.status = None
    pending = start(ours.sip, ours.call.request, "INVITE", body="offer 2")
    invite = ours.refreshes()[0]
    ours.peer.reply(invite, 180)
    ours.advance(10)
    assert len(ours.refreshes()) == 1
    ours.peer.reply(invite, 200, contact=f"<{ours.peer.uri}>", **ours.headers)
    assert pending.get().status == 200
    ours.status = 200
    ours.advance(HALF - 5)
    assert len(ours.refreshes()) == 1  # the re-INVITE was a session refresh
    ours.advance(10)
    assert len(ours.refreshes()) == 2


@pytest.mark.rfc("4028 7.4")
def test_invite_of_the_application_keeps_the_roles(theirs):
    start(theirs.sip, theirs.call.request, "INVITE", body="offer 2")
    assert names(theirs.refreshes()[0])["Session-Expires"] == "1800;refresher=uas"


# ---- refreshes of the peer


@pytest.mark.rfc("4028 10")
def test_call_that_the_peer_does_not_refresh_ends_before_it_expires(theirs):
    theirs.advance(2 * HALF - MARGIN - 1)
    assert not theirs.call.ended.is_set()
    theirs.advance(2)
    assert theirs.call.ended.is_set()
    assert theirs.bye.headers["Reason"] == EXPIRED
    assert theirs.refreshes() == []


@pytest.mark.rfc("4028 9", "4028 10")
def test_refresh_of_the_peer_extends_the_session(theirs):
    for _ in range(4):
        theirs.advance(HALF)
        response = theirs.ask(
            "INVITE", session_expires="1800;refresher=uac", supported="timer",
            body=theirs.call.remote_body, content_type="application/sdp",
        )  # fmt: skip
        assert response.status == 200
        assert names(response)["Session-Expires"] == "1800;refresher=uac"
        assert names(response)["Require"] == "timer"
        if not isinstance(theirs, Taken):
            theirs.peer.send(
                theirs.peer.back(theirs.invite, theirs.response, "ACK", number=theirs.number),
                to=theirs.sip.client.engine.transports[0].local[0],
            )
    assert not theirs.call.ended.is_set()


@pytest.mark.rfc("4028 9")
def test_small_interval_in_a_refresh_gets_422_and_the_session_stays(theirs):
    response = theirs.ask("INVITE", session_expires="30", supported="timer")
    assert (response.status, response.headers["Min-SE"]) == (422, "90")
    assert timer_of(theirs.call)._agreed.interval == 1800


@pytest.mark.rfc("4028 7.4")
def test_min_se_of_the_peer_s_refresh_is_repeated_in_ours(sip):
    taken = Taken(sip, {"session_expires": "1800;refresher=uas", "min_se": "1200", **TIMER})
    taken.advance(HALF + 1)
    assert names(taken.refreshes()[0])["Min-SE"] == "1200"
    taken.call.hangup()


@pytest.mark.rfc("4028 7.2")
def test_response_without_session_expires_to_a_call_without_timer_turns_nothing_on(sip):
    placed = Placed(sip, session_expires=0)
    placed.advance(10 * HALF)
    assert placed.refreshes() == []
    assert not placed.call.ended.is_set()
    placed.call.hangup()


@pytest.mark.rfc("4028 7.2")
def test_timer_that_only_the_callee_wants_is_obeyed(sip):
    placed = Placed(sip, OURS, session_expires=0)
    placed.advance(HALF + 1)
    assert len(placed.refreshes()) == 1
    placed.call.hangup()


# ---- nothing is left


def test_ended_call_is_not_kept_by_its_deadline(sip):
    placed = Placed(sip, OURS)
    placed.call.hangup()
    placed.advance(40)
    call = weakref.ref(placed.call)
    placed.call = None
    gc.collect()
    assert call() is None


def test_calls_of_one_second_share_one_deadline(sip):
    peer = Peer(sip, CALLEE)
    calls = [Placed(sip, OURS, peer) for _ in range(5)]
    due = {timer_of(placed.call)._deadline.due for placed in calls}
    assert len(due) == 1
    for placed in calls:
        placed.call.hangup()


# ---- two stacks


@pytest.mark.rfc("3311 4", "4028 7.4")
@pytest.mark.parametrize("refresher", ["uac", "uas"])
def test_two_stacks_refresh_by_update_because_their_allow_names_it(sip, refresher):
    def core(request, tx):
        with tx.accept(body="answer") as call:
            call.wait()

    served = sip.serve(core)
    greenlet = start(
        sip, sip.client.invite, f"sip:bob@{served.engine.transports[0].local[0]}", body="offer",
        session_expires=f"1800;refresher={refresher}",
    )  # fmt: skip
    call = greenlet.get()
    for _ in range(3):  # and again after each of them
        sip.clock.advance(HALF + 1)
    ladder = sip.ladder()
    assert (ladder.count("INVITE sip:"), ladder.count("UPDATE")) == (1, 3)
    assert not call.ended.is_set()
    call.hangup()


@pytest.mark.rfc("4028 10")
def test_call_that_ends_at_its_2xx_leaves_no_deadline(sip):
    """The 2xx had no answer, so the call ended, and began its session timer after that."""
    peer = Peer(sip, CALLEE)
    audio = sdp.MediaStream("audio", 4000, (sdp.PCMU,))
    greenlet = start(sip, sip.client.invite, BOB, media=[audio])
    interval = "4294967295;refresher=uas"
    peer.reply(
        peer.last("INVITE"), 200, contact=f"<{peer.uri}>", session_expires=interval, require="timer"
    )
    assert peer.methods == ["INVITE", "ACK", "BYE"]
    peer.reply(peer.last("BYE"), 200)
    with pytest.raises(ParseError):
        greenlet.get()
    sip.advance(250)
    assert len(sip.client.deadlines) == 0
