"""Proxies: forward(), ResponseContext and RegistrarProxy, as callers, callees and the wire see them, RFC 3261 §16."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import Cancelled, RegistrarProxy, Reject, ResponseContext, forward
from sippet_gevent.core.proxy.context import BRANCHES
from sippet_gevent.testing import SERVER

from ..wire import Peer, sent

CALLER = "10.0.0.50"
PHONES = ["10.0.0.61", "10.0.0.62", "10.0.0.63"]
TARGETS = [f"sip:bob@{phone}" for phone in PHONES]


def to_all(request, tx):
    """A core that forks to three phones. An ACK, or a request within a dialog, goes along its route."""
    if request.mandatory.to_tag is not None:
        return forward(request, tx)
    return forward(request, tx, *TARGETS, record_route=True)


def to_first(request, tx):
    if request.mandatory.to_tag is not None:
        return forward(request, tx)
    return forward(request, tx, *TARGETS[:1], record_route=True)


@pytest.fixture
def caller(sip):
    return Peer(sip, CALLER)


@pytest.fixture
def phones(sip):
    """Three phones that send nothing by themselves."""
    return [Peer(sip, phone) for phone in PHONES]


def once(seen):
    """Leave out retransmissions of messages without an ACK or response."""
    return list(dict.fromkeys(seen))


class Fork:
    """An INVITE at a proxy, forked to phones that record it."""

    def __init__(self, sip, caller, phones, core=to_all, **headers):
        self.sip, self.caller, self.phones = sip, caller, phones
        self.stack = sip.serve(core)
        self.invite = caller.ask("INVITE", **headers)

    def reply(self, phone, status, **headers):
        """One phone answers the INVITE."""
        return self.phones[phone].reply(self.phones[phone].last("INVITE"), status, **headers)

    def accept(self, phone, status=200, **headers):
        """One phone answers the call with 200."""
        return self.reply(phone, status, contact=f"<{self.phones[phone].uri}>", **headers)

    @property
    def finals(self):
        """The final statuses of the caller's INVITE, without retransmissions."""
        responses = [
            r for r in self.caller.responses if r.status >= 200 and r.cseq.method == "INVITE"
        ]
        return [r.status for r in responses if r.is_success] + once(
            r.status for r in responses if not r.is_success
        )

    @property
    def got(self):
        """The methods that each phone has received."""
        return [once(phone.methods) for phone in self.phones]


@pytest.fixture
def fork(sip, caller, phones):
    return Fork(sip, caller, phones)


@pytest.fixture
def one(sip, caller, phones):
    """An INVITE at a proxy that sends it to one phone."""
    return Fork(sip, caller, phones[:1], to_first)


# ---- forking


@pytest.mark.rfc("3261 16.6")
def test_request_is_forked_to_all_targets_at_once(fork):
    assert fork.got == [["INVITE"]] * 3


@pytest.mark.rfc("3261 16.6")
def test_each_branch_has_a_branch_parameter_of_its_own(fork):
    assert len({phone.last("INVITE").via[0].branch for phone in fork.phones}) == 3


@pytest.mark.rfc("3261 16.5")
def test_target_given_twice_gets_one_branch(sip, caller, phones):
    Fork(sip, caller, phones, lambda request, tx: forward(request, tx, TARGETS[0], TARGETS[0]))
    assert phones[0].methods == ["INVITE"]


@pytest.mark.rfc("3261 16.6")
def test_copy_has_one_hop_less_and_our_via_above_that_of_the_caller(fork):
    copy = fork.phones[0].last("INVITE")
    assert copy.max_forwards == 69
    assert [via.host for via in copy.via] == [SERVER, CALLER]


@pytest.mark.rfc("3261 16.6")
def test_request_without_max_forwards_gets_70(sip, caller, phones):
    Fork(sip, caller, phones, max_forwards=None)
    assert phones[0].last("INVITE").max_forwards == 70


@pytest.mark.rfc("3261 16.7")
def test_provisional_responses_except_100_go_to_the_caller(fork):
    fork.reply(0, 180)
    fork.reply(1, 183)
    fork.reply(2, 100)
    assert fork.caller.statuses[-2:] == [180, 183]
    fork.reply(0, 603)


@pytest.mark.rfc("3261 16.7")
def test_our_via_is_removed_from_the_response(fork):
    fork.reply(0, 180)
    assert [via.host for via in fork.caller.responses[-1].via] == [CALLER]
    fork.reply(0, 603)


@pytest.mark.rfc("3261 16.7")
def test_first_2xx_wins_and_the_others_are_cancelled(fork):
    for phone in range(3):
        fork.reply(phone, 180)
    fork.accept(1)
    assert fork.finals == [200]
    assert fork.got == [["INVITE", "CANCEL"], ["INVITE"], ["INVITE", "CANCEL"]]


@pytest.mark.rfc("3261 16.7")
def test_487_of_cancelled_branches_is_acknowledged_and_not_forwarded(fork):
    for phone in range(3):
        fork.reply(phone, 180)
    fork.accept(1)
    fork.reply(0, 487)
    assert fork.finals == [200]
    assert fork.got[0] == ["INVITE", "CANCEL", "ACK"]


@pytest.mark.rfc("3261 16.7")
def test_second_2xx_of_another_branch_goes_to_the_caller_too(fork):
    fork.accept(0)
    fork.accept(1)
    assert fork.finals == [200, 200]


@pytest.mark.rfc("3261 16.7")
def test_repeated_2xx_goes_to_the_caller_each_time(one):
    response = one.accept(0)
    one.sip.advance(0.5)
    one.phones[0].reply(one.phones[0].last("INVITE"), response)
    assert one.finals == [200, 200]


@pytest.mark.rfc("3261 16.7")
def test_2xx_that_crosses_our_cancel_goes_to_the_caller(one):
    one.reply(0, 180)
    one.caller.send(one.invite.cancel())
    one.accept(0)
    assert one.finals == [200]


@pytest.mark.rfc("3261 16.7")
def test_2xx_of_a_branch_that_has_refused_goes_to_the_caller(one):
    """A forking proxy behind us answers 486 for one branch, then 200 for another."""
    one.reply(0, 486)
    one.caller.send(one.invite.ack(one.caller.responses[-1]))
    one.accept(0)
    assert one.finals == [200, 486]


@pytest.mark.rfc("3261 16.7", "6026 8.2")
def test_2xx_after_the_end_of_the_client_transaction_is_not_forwarded(one):
    one.reply(0, 486)
    one.sip.advance(33)
    one.accept(0)
    assert (one.finals, one.stack.stats()["dropped"]) == ([486], {"stray_response": 1})


@pytest.mark.rfc("3261 16.7", "3261 13.2.2.4")
def test_late_2xx_passes_a_chain_of_proxies_and_the_caller_hangs_up(sip, phones):
    near = sip.stack(
        lambda request, tx: forward(request, tx, next_hop=f"sip:{SERVER}", record_route=True),
        "10.0.0.2",
    )
    sip.stack(to_first, SERVER)
    asked = sip.ask(near, "INVITE sip:bob@example.com")
    phone = phones[0]
    phone.reply(phone.last("INVITE"), 486)
    phone.reply(phone.last("INVITE"), 200, contact=f"<{phone.uri}>")
    assert (asked.statuses[-1], once(phone.methods)) == (486, ["INVITE", "ACK", "BYE"])
    phone.reply(phone.last("BYE"), 200)


# ---- Reason (RFC 3326)

ELSEWHERE = ['SIP;cause=200;text="Call completed elsewhere"']


@pytest.mark.rfc("3326 2", "3326 3.1")
def test_cancel_has_the_reason_call_completed_elsewhere(fork):
    for phone in range(3):
        fork.reply(phone, 180)
    fork.accept(1)
    assert [fork.phones[n].last("CANCEL").headers.all("Reason") for n in (0, 2)] == [ELSEWHERE] * 2


@pytest.mark.rfc("3326 2")
def test_cancel_that_waits_for_the_first_response_has_that_reason_too(fork):
    fork.accept(1)
    fork.reply(0, 180)
    assert fork.phones[0].last("CANCEL").headers.all("Reason") == ELSEWHERE


@pytest.mark.rfc("3326 2")
def test_cancel_after_a_6xx_has_its_status_as_reason(fork):
    fork.reply(1, 180)
    fork.reply(0, 603)
    assert fork.phones[1].last("CANCEL").headers.all("Reason") == ['SIP;cause=603;text="Decline"']


@pytest.mark.rfc("3326 2")
@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([ELSEWHERE[0]], ELSEWHERE),
        (
            ['SIP;cause=200;text="a, b", Q.850;cause=16'],
            ['SIP;cause=200;text="a, b", Q.850;cause=16'],
        ),
        (["Q.850;cause=16", "SIP;cause=487"], ["Q.850;cause=16, SIP;cause=487"]),
        ([], []),
        ([";;"], []),
    ],
)
def test_reason_of_the_callers_cancel_is_in_our_cancels(fork, given, passed):
    fork.reply(0, 180)
    cancel = fork.invite.cancel()
    cancel.headers["Reason"] = given
    fork.caller.send(cancel)
    fork.reply(1, 180)
    assert [phone.last("CANCEL").headers.all("Reason") for phone in fork.phones[:2]] == [passed] * 2


@pytest.mark.rfc("3326 2")
def test_core_gives_the_reason_of_its_cancel(sip, caller, phones):
    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(TARGETS[0])
            next(iter(context))
            context.cancel(reason_header="SIP;cause=408")
            context.forward(next(iter(context)))

    fork = Fork(sip, caller, phones, core)
    fork.reply(0, 180)
    assert phones[0].last("CANCEL").headers["Reason"] == "SIP;cause=408"
    fork.reply(0, 487)
    assert fork.finals == [487]


@pytest.mark.rfc("3261 16.10")
def test_expires_of_an_invite_is_left_to_the_callee(sip, caller, phones):
    one = Fork(sip, caller, phones[:1], to_first, expires=5)
    one.reply(0, 180)
    sip.advance(60)
    assert (one.finals, one.got, phones[0].last("INVITE").expires) == ([], [["INVITE"]], 5)
    one.accept(0)
    assert one.finals == [200]


@pytest.mark.rfc("3261 16.7")
def test_6xx_cancels_the_others_and_is_sent_after_their_responses(fork):
    for phone in range(3):
        fork.reply(phone, 180)
    fork.reply(0, 603)
    assert (fork.finals, fork.got[1]) == ([], ["INVITE", "CANCEL"])
    fork.reply(1, 487)
    fork.reply(2, 487)
    assert fork.finals == [603]


@pytest.mark.rfc("3261 16.7")
def test_2xx_after_a_6xx_goes_to_the_caller(fork):
    fork.reply(0, 603)
    fork.accept(1)
    assert fork.finals == [200]


@pytest.mark.rfc("3261 16.7")
@pytest.mark.parametrize(
    ("answers", "best"),
    [
        ((486, 404, 480), 486),  # among equals, the first
        ((500, 404, 302), 302),  # the lowest class
        ((404, 604, 302), 604),  # 6xx first
        ((404, 407, 486), 407),  # statuses that help the caller to try again
        ((404, 420, 486), 420),
        ((503, 500, 502), 500),  # 503 last in its class
        ((503, 503, 503), 500),  # and never forwarded
    ],
)
def test_best_of_the_final_responses_goes_to_the_caller(fork, answers, best):
    for phone, status in enumerate(answers):
        fork.reply(phone, status)
    assert fork.finals == [best]


@pytest.mark.rfc("3261 16.7")
def test_nothing_final_is_sent_before_every_branch_has_answered(fork):
    fork.reply(0, 404)
    fork.reply(1, 486)
    assert fork.finals == []
    fork.reply(2, 486)


@pytest.mark.rfc("3261 16.7")
def test_final_response_keeps_the_to_tag_of_the_callee(one):
    assert one.reply(0, 486).to.tag == one.caller.responses[-1].to.tag


@pytest.mark.rfc("3261 16.7")
def test_challenges_of_all_branches_are_in_the_answer(fork):
    fork.reply(0, 401, www_authenticate='Digest realm="a", nonce="1"')
    fork.reply(1, 407, proxy_authenticate='Digest realm="b", nonce="2"')
    fork.reply(2, 401, www_authenticate='Digest realm="c", nonce="3"')
    answer = fork.caller.responses[-1]
    assert answer.status == 401
    assert answer.headers.all("WWW-Authenticate") == [
        'Digest realm="a", nonce="1"',
        'Digest realm="c", nonce="3"',
    ]
    assert answer.headers.all("Proxy-Authenticate") == ['Digest realm="b", nonce="2"']


# ---- branches that do not answer


@pytest.mark.rfc("3261 16.8")
def test_silent_branch_never_outranks_a_received_response(fork):
    fork.reply(0, 500)
    fork.reply(1, 486)
    fork.sip.advance(33)
    assert fork.finals == [486]


@pytest.mark.rfc("3261 16.7")
def test_received_5xx_goes_before_the_408_of_a_silent_branch(fork):
    fork.reply(0, 500)
    fork.reply(1, 580)
    fork.sip.advance(33)
    assert fork.finals == [500]


@pytest.mark.rfc("3261 16.8")
def test_silence_of_all_branches_is_408(fork):
    fork.sip.advance(33)
    assert fork.finals == [408]


@pytest.mark.rfc("3261 16.9")
def test_branch_that_cannot_be_sent_is_503_and_500_for_the_caller(sip, caller):
    def core(request, tx):
        forward(request, tx, "sip:bob@10.0.0.61;transport=tcp")

    sip.serve(core)
    caller.ask("INVITE")
    assert caller.statuses == [500]


@pytest.mark.rfc("3261 16.9")
def test_branch_that_cannot_be_sent_does_not_delay_the_others(sip, caller, phones):
    fork = Fork(
        sip,
        caller,
        phones,
        lambda request, tx: forward(request, tx, "sip:x@10.0.0.9;transport=tcp", TARGETS[0]),
    )
    fork.reply(0, 486)
    assert fork.finals == [486]


@pytest.mark.rfc("3261 16.8")
def test_endless_ringing_is_cancelled_by_timer_c_and_is_487(one):
    one.reply(0, 180)
    one.sip.advance(180)
    assert one.got == [["INVITE"]]
    one.sip.advance(2)
    assert (one.got, one.finals) == ([["INVITE", "CANCEL"]], [])
    one.reply(0, 487)
    assert one.finals == [487]


@pytest.mark.rfc("3261 16.8")
def test_callee_that_answers_as_timer_c_fires_is_connected(one):
    one.reply(0, 180)
    one.sip.advance(182)
    assert one.got == [["INVITE", "CANCEL"]]
    one.accept(0)
    assert one.finals == [200]
    one.caller.send(
        one.caller.within(
            one.invite, one.caller.responses[-1], "ACK", route=one.caller.responses[-1].record_route
        )
    )
    assert one.got == [["INVITE", "CANCEL", "ACK"]]


@pytest.mark.rfc("3261 16.8", "3261 9.1")
def test_callee_that_ignores_the_cancel_of_timer_c_is_408_after_64_t1(one):
    one.reply(0, 180)
    one.sip.advance(181 + 31.9)
    assert one.finals == []
    one.sip.advance(0.2)
    assert one.finals == [408]


@pytest.mark.rfc("3261 16.8")
def test_timer_c_of_one_branch_leaves_the_others_ringing(fork):
    fork.reply(0, 180)
    fork.sip.advance(20)
    fork.reply(1, 180)
    fork.sip.advance(30)
    fork.reply(1, 183)
    fork.sip.advance(135)
    assert fork.got[:2] == [["INVITE", "CANCEL"], ["INVITE"]]
    fork.reply(0, 487)
    fork.accept(1)
    assert fork.finals == [200]


@pytest.mark.rfc("3261 16.7")
def test_timer_c_restarts_with_each_provisional_response(one):
    one.reply(0, 180)
    one.sip.advance(170)
    one.reply(0, 183)
    one.sip.advance(170)
    assert one.got == [["INVITE"]]
    one.reply(0, 486)


@pytest.mark.rfc("3261 16.7")
def test_response_without_a_via_below_ours_is_not_forwarded(one):
    phone = one.phones[0]
    response = phone.last("INVITE").response(180)
    response.via = response.via[:1]
    phone.reply(phone.last("INVITE"), response)
    assert 180 not in one.caller.statuses
    one.reply(0, 486)
    assert one.finals == [486]


@pytest.mark.rfc("3261 16.6", "3261 9.1")
def test_ringing_without_a_way_back_can_be_cancelled(one):
    response = one.phones[0].last("INVITE").response(180)
    response.headers.delete_header_back("Via")
    one.phones[0].reply(one.phones[0].last("INVITE"), response)
    one.caller.send(one.invite.cancel())
    assert one.got == [["INVITE", "CANCEL"]]
    one.reply(0, 487)
    assert one.finals == [487]


@pytest.mark.rfc("3261 16.6", "3261 16.8")
def test_ringing_without_a_way_back_is_cancelled_by_timer_c(one):
    response = one.phones[0].last("INVITE").response(180)
    response.headers.delete_header_back("Via")
    one.phones[0].reply(one.phones[0].last("INVITE"), response)
    one.sip.advance(182)
    assert one.got == [["INVITE", "CANCEL"]]


@pytest.mark.rfc("3261 16.7", "3261 13.2.2.4")
@pytest.mark.parametrize("times", [1, 2])
def test_2xx_without_a_way_back_is_hung_up_and_is_502_for_the_caller(one, times):
    phone = one.phones[0]
    response = phone.last("INVITE").response(200, contact=f"<{phone.uri}>")
    response.headers.delete_header_back("Via")
    for _ in range(times):
        phone.reply(phone.last("INVITE"), response)
    assert (one.finals, phone.methods) == ([502], ["INVITE", "ACK", "BYE", "ACK"][: times + 2])
    assert (phone.last("ACK").to.tag, "Route" in phone.last("BYE").headers) == (
        response.to.tag,
        False,
    )
    phone.reply(phone.last("BYE"), 200)


@pytest.mark.rfc("3261 16.7", "3261 12.1.2")
def test_ack_to_2xx_without_a_way_back_passes_the_proxies_behind_us(sip, caller, phones):
    behind = Peer(sip, "10.0.0.80")
    one = Fork(
        sip, caller, phones, to_first, record_route=["<sip:10.0.0.90;lr>", "<sip:10.0.0.91;lr>"]
    )
    response = phones[0].last("INVITE").response(200, contact=f"<{phones[0].uri}>")
    response.record_route = ("<sip:10.0.0.80;lr>", *response.record_route)
    response.headers.delete_header_back("Via")
    phones[0].reply(phones[0].last("INVITE"), response)
    assert (one.finals, behind.methods) == ([502], ["ACK", "BYE"])
    behind.reply(behind.last("BYE"), 200)


BELOW = {
    "IPv6 without brackets": ["SIP/2.0/UDP 2001:db8::8:5060;branch=0"],
    "a semicolon at the end": ["SIP/2.0/UDP 10.0.0.98;branch=z9hG4bK1;"],
    "a comment": ["SIP/2.0/UDP 10.0.0.98;branch=z9hG4bK1 (first)"],
    "port 0": ["SIP/2.0/UDP 10.0.0.98:0;branch=z9hG4bK1"],
    "an unclosed quote": ['SIP/2.0/UDP 10.0.0.98;x=", SIP/2.0/UDP 10.0.0.97'],
    "100 good ones": [f"SIP/2.0/UDP 10.0.0.98;branch=z9hG4bK{number}" for number in range(100)],
}


@pytest.mark.rfc("3261 16.3", "3261 16.7")
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("below", BELOW.values(), ids=BELOW)
def test_vias_below_the_top_one_pass_unparsed(sip, caller, phones, below, joined):
    sip.serve(to_first)
    invite = caller.request("INVITE")
    top = invite.headers["Via"]
    invite.headers["Via"] = [", ".join((top, *below))] if joined else [top, *below]
    caller.send(invite)
    phone = phones[0]
    phone.reply(phone.last("INVITE"), 180)
    phone.reply(phone.last("INVITE"), 200, contact=f"<{phone.uri}>")
    came, went = invite.headers.all("Via"), phone.last("INVITE").headers.all("Via")
    assert (went[1:], caller.statuses) == (came, [180, 200])
    assert [response.headers.all("Via") for response in caller.responses] == [came, came]


ROUTES_BELOW = [
    "<sip:10.0.0.98:0>",
    "<sip:10.0.0.98",
    'x" <sip:10.0.0.98>',
    ", ".join(["<sip:10.0.0.98;lr>"] * 100),
]


@pytest.mark.rfc("3261 16.4", "3261 16.6")
@pytest.mark.parametrize("below", ROUTES_BELOW)
@pytest.mark.parametrize("parameter", [";lr", ""])
def test_routes_below_the_top_one_pass_unparsed(sip, caller, phones, below, parameter):
    """The Route of the phone, a loose or a strict router, is below ours."""
    sip.serve(lambda request, tx: forward(request, tx))
    bye = caller.request("BYE", "sip:bob@10.0.0.99", to="<sip:bob@10.0.0.99>;tag=1")
    bye.headers["Route"] = [f"<sip:{SERVER};lr>", f"<sip:10.0.0.61{parameter}>", below]
    caller.send(bye)
    left = phones[0].last("BYE").headers.all("Route")
    assert left == (
        [f"<sip:10.0.0.61{parameter}>", below] if parameter else [below, "<sip:bob@10.0.0.99>"]
    )
    phones[0].reply(phones[0].last("BYE"), 200)


@pytest.mark.rfc("4320 4.2")
def test_silent_target_of_a_non_invite_is_not_answered(sip, caller, phones):
    sip.serve(to_all)
    caller.ask("MESSAGE")
    sip.advance(40)
    assert caller.statuses == [100]


def test_response_to_a_non_invite_may_take_as_long_as_timer_f(sip, caller):
    phone = Peer(sip, "10.0.0.70")
    sip.serve(lambda request, tx: forward(request, tx, phone.uri))
    caller.ask("MESSAGE")
    sip.advance(31.9)
    phone.reply(phone.last("MESSAGE"), 202)
    assert caller.statuses == [100, 202]


def test_branches_are_bounded(sip, caller):
    targets = [f"sip:bob@10.0.1.{n}" for n in range(BRANCHES + 1)]
    sip.serve(lambda request, tx: forward(request, tx, *targets))
    caller.ask("OPTIONS")
    assert caller.statuses == [440]


# ---- CANCEL


@pytest.mark.rfc("3261 16.10")
def test_cancel_goes_to_every_branch_and_is_answered_hop_by_hop(fork):
    for phone in range(3):
        fork.reply(phone, 180)
    fork.caller.send(fork.invite.cancel())
    assert fork.got == [["INVITE", "CANCEL"]] * 3
    assert fork.caller.responses[-1].cseq.method == "CANCEL"


@pytest.mark.rfc("3261 16.10")
def test_487_of_the_callees_goes_to_the_caller_once(fork):
    for phone in range(3):
        fork.reply(phone, 180)
    fork.caller.send(fork.invite.cancel())
    for phone in range(3):
        fork.reply(phone, 487)
    assert fork.finals == [487]
    assert fork.got == [["INVITE", "CANCEL", "ACK"]] * 3


@pytest.mark.rfc("3261 9.1")
def test_cancel_of_a_silent_branch_waits_for_its_first_response(fork):
    fork.caller.send(fork.invite.cancel())
    assert fork.got == [["INVITE"]] * 3
    fork.reply(1, 180)
    assert fork.got == [["INVITE"], ["INVITE", "CANCEL"], ["INVITE"]]


@pytest.mark.rfc("3261 16.10")
def test_cancelled_branches_that_never_answer_are_487_in_the_end(fork):
    fork.reply(0, 180)
    fork.caller.send(fork.invite.cancel())
    fork.sip.advance(40)
    assert fork.finals == [487]


@pytest.mark.rfc("3261 16.10")
def test_cancel_after_the_final_response_reaches_no_phone(one):
    one.reply(0, 180)
    one.reply(0, 486)
    one.caller.send(one.invite.cancel())
    assert "CANCEL" not in one.got[0]


# ---- refusals


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"max_forwards": 0}, 483, id="Max-Forwards 0"),
        pytest.param({"proxy_require": ("magic",)}, 420, id="Proxy-Require"),
    ],
)
def test_request_that_must_not_be_forwarded_is_refused(sip, caller, phones, headers, status):
    fork = Fork(sip, caller, phones, **headers)
    assert (fork.finals, fork.got) == ([status], [[]] * 3)


@pytest.mark.rfc("3261 16.3")
def test_proxy_require_is_refused_with_what_is_not_supported(sip, caller, phones):
    Fork(sip, caller, phones, proxy_require=("magic", "more"))
    assert list(caller.responses[0].unsupported) == ["magic", "more"]


@pytest.mark.rfc("3261 16.3")
def test_require_is_for_the_callee_and_passes(sip, caller, phones):
    Fork(sip, caller, phones, require=("100rel",))
    assert list(phones[0].last("INVITE").require) == ["100rel"]


@pytest.mark.rfc("3261 16.3")
def test_max_forwards_of_one_becomes_zero(sip, caller, phones):
    Fork(sip, caller, phones, max_forwards=1)
    assert phones[0].last("INVITE").max_forwards == 0


@pytest.mark.rfc("3261 16.5")
def test_request_for_the_proxy_itself_without_targets_is_404(sip, caller):
    sip.serve(lambda request, tx: forward(request, tx))
    caller.ask("OPTIONS")
    assert caller.statuses == [404]


@pytest.mark.rfc("3261 16.6")
def test_unknown_header_fields_and_the_body_pass_unchanged(sip, caller, phones):
    sip.serve(to_first)
    request = caller.request("MESSAGE", body=b"hello", content_type="text/plain")
    request.headers.add("X-Odd", "just  so;;")
    caller.send(request)
    copy = phones[0].last("MESSAGE")
    assert (copy.headers["X-Odd"], copy.body) == ("just  so;;", b"hello")


# ---- routes


@pytest.fixture
def talking(one):
    """An answered call through the proxy, before its ACK."""
    one.answer = one.accept(0)
    one.answer = one.caller.responses[-1]
    return one


def within(talking, method, **headers):
    """Make the caller's request within the dialog."""
    route = tuple(reversed(talking.answer.record_route))
    return talking.caller.within(talking.invite, talking.answer, method, route=route, **headers)


@pytest.mark.rfc("3261 16.6")
def test_record_route_names_the_proxy_as_a_loose_router(talking):
    (route,) = talking.answer.record_route
    assert (route.uri.host, route.uri.is_loose_router) == (SERVER, True)


@pytest.mark.rfc("3261 16.6")
def test_ack_to_the_2xx_passes_the_proxy(talking):
    talking.caller.send(within(talking, "ACK"))
    assert talking.phones[0].methods == ["INVITE", "ACK"]


@pytest.mark.rfc("3261 16.4")
def test_own_route_is_removed_and_the_request_uri_stays(talking):
    talking.caller.send(within(talking, "BYE"))
    bye = talking.phones[0].last("BYE")
    assert (bye.uri_text, len(bye.route)) == (talking.phones[0].uri, 0)


@pytest.mark.rfc("3261 16.7")
def test_response_within_the_dialog_returns(talking):
    talking.caller.send(within(talking, "BYE"))
    talking.phones[0].reply(talking.phones[0].last("BYE"), 200)
    assert talking.caller.responses[-1].cseq.method == "BYE"


@pytest.mark.rfc("3261 16.4")
def test_request_of_the_callee_passes_the_proxy(talking):
    phone = talking.phones[0]
    invite = phone.last("INVITE")
    phone.send(phone.back(invite, talking.answer, "BYE", route=invite.record_route))
    assert talking.caller.methods == ["BYE"]


@pytest.mark.rfc("3261 16.6")
def test_other_routes_stay_and_lead_on(talking, sip):
    other = Peer(sip, "10.0.0.80")
    bye = within(talking, "BYE")
    bye.route = (*bye.route, "<sip:10.0.0.80;lr>")
    talking.caller.send(bye)
    assert other.last("BYE").route[0].uri.host == "10.0.0.80"


@pytest.mark.rfc("3261 16.4")
def test_strict_router_before_us_is_understood(talking):
    """The router has moved our URI to the Request-URI, and the phone's URI to the last Route."""
    bye = within(talking, "BYE")
    bye.uri, bye.route = bye.route[0].uri, (f"<{talking.phones[0].uri}>",)
    talking.caller.send(bye)
    copy = talking.phones[0].last("BYE")
    assert (copy.uri_text, len(copy.route)) == (talking.phones[0].uri, 0)


@pytest.mark.rfc("3261 16.6")
def test_strict_router_behind_us_gets_its_uri_in_the_request_uri(talking, sip):
    strict = Peer(sip, "10.0.0.80")
    bye = within(talking, "BYE")
    bye.route = (*bye.route, "<sip:10.0.0.80>")
    talking.caller.send(bye)
    copy = strict.last("BYE")
    assert copy.uri_text == "sip:10.0.0.80"
    assert [str(route.uri) for route in copy.route] == [talking.phones[0].uri]


@pytest.mark.rfc("3261 16.4")
def test_maddr_of_ours_is_removed_from_the_request_uri(sip, caller, phones):
    sip.serve(lambda request, tx: forward(request, tx))
    caller.ask("OPTIONS", f"sip:bob@10.0.0.61:5060;maddr={SERVER}")
    assert phones[0].last("OPTIONS").uri_text == "sip:bob@10.0.0.61"


def test_next_hop_changes_nothing_in_the_request(sip, caller, phones):
    sip.serve(lambda request, tx: forward(request, tx, next_hop="sip:10.0.0.61"))
    caller.ask("OPTIONS", "sip:bob@example.com")
    copy = phones[0].last("OPTIONS")
    assert (copy.uri_text, "Route" in copy.headers) == ("sip:bob@example.com", False)


# ---- ResponseContext by hand


def test_targets_are_tried_one_after_the_other(sip, caller, phones):
    def core(request, tx):
        with ResponseContext(tx) as context:
            for target in TARGETS:
                context.fork(target)
                for response in context:
                    if response.is_success:
                        return context.forward(response)
            context.forward(context.best())

    fork = Fork(sip, caller, phones, core)
    fork.reply(0, 486)
    assert fork.got == [["INVITE", "ACK"], ["INVITE"], []]
    fork.accept(1)
    assert fork.finals == [200]


def test_leaving_the_block_cancels_pending_branches(sip, caller, phones):
    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(TARGETS[0])
            next(iter(context))
        return 480

    fork = Fork(sip, caller, phones, core)
    fork.reply(0, 180)
    assert (fork.finals, fork.got[0]) == ([480], ["INVITE", "CANCEL"])


def test_cancelled_is_raised_after_the_branches_have_answered(sip, caller, phones):
    met = []

    def core(request, tx):
        try:
            forward(request, tx, TARGETS[0]).wait()
        except Cancelled as error:
            met.append(type(error))
            raise

    fork = Fork(sip, caller, phones, core)
    fork.reply(0, 180)
    caller.send(fork.invite.cancel())
    assert met == []
    fork.reply(0, 487)
    assert met == [Cancelled]


def test_context_of_a_core_that_crashes_cancels_its_branches(sip, caller, phones):
    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(TARGETS[0])
            next(iter(context))
            raise LookupError("a bug of the core's")

    fork = Fork(sip, caller, phones, core)
    fork.reply(0, 180)
    assert (fork.finals, fork.got[0]) == ([500], ["INVITE", "CANCEL"])


def test_core_may_refuse_before_it_forwards(sip, caller, phones):
    def core(request, tx):
        with ResponseContext(tx):
            raise Reject(403)

    assert Fork(sip, caller, phones, core).finals == [403]


# ---- RegistrarProxy


DOMAIN = "example.com"


class Office:
    """A RegistrarProxy, alice and bob registered at it."""

    def __init__(self, sip):
        self.sip = sip
        self.stack = sip.stack(RegistrarProxy(), SERVER, domains=(DOMAIN,))
        self.alice = Peer(sip, "10.0.0.71")
        self.bob = Peer(sip, "10.0.0.72")
        for name, phone in (("alice", self.alice), ("bob", self.bob)):
            aor = f"<sip:{name}@{DOMAIN}>"
            phone.ask(
                "REGISTER",
                f"sip:{DOMAIN}",
                to=aor,
                from_=aor + ";tag=1",
                contact=f"<sip:{name}@{phone.host}:5060>",
            )
            assert phone.statuses == [200]
            phone.received.clear()

    def call(self):
        return self.alice.ask("INVITE", f"sip:bob@{DOMAIN}", from_=f"<sip:alice@{DOMAIN}>;tag=1")

    def answer(self, status, **headers):
        return self.bob.reply(self.bob.last("INVITE"), status, **headers)

    @property
    def finals(self):
        return once(
            r.status for r in self.alice.responses if r.status >= 200 and r.cseq.method == "INVITE"
        )


@pytest.fixture
def office(sip):
    return Office(sip)


def test_registered_phone_gets_the_call_at_its_contact(office):
    office.call()
    assert office.bob.last("INVITE").uri_text == "sip:bob@10.0.0.72:5060"
    office.answer(486)


def test_two_phones_call_each_other_and_either_may_hang_up(office):
    invite = office.call()
    office.answer(180)
    office.answer(200, contact="<sip:bob@10.0.0.72:5060>")
    answer = office.alice.responses[-1]
    route = tuple(reversed(answer.record_route))
    office.alice.send(office.alice.within(invite, answer, "ACK", route=route))
    theirs = office.bob.last("INVITE")
    office.bob.send(office.bob.back(theirs, answer, "BYE", route=theirs.record_route))
    office.alice.reply(office.alice.last("BYE"), 200)
    assert office.bob.methods == ["INVITE", "ACK"]
    assert office.bob.statuses == [200]
    assert office.finals == [200]


def test_busy_callee_is_486_for_the_caller(office):
    office.call()
    office.answer(486)
    assert office.finals == [486]


def test_cancel_while_ringing_ends_the_call_on_both_sides(office):
    invite = office.call()
    office.answer(180)
    office.alice.send(invite.cancel())
    office.answer(487)
    assert office.finals == [487]
    assert office.bob.methods == ["INVITE", "CANCEL", "ACK"]


def test_silent_callee_is_408(office):
    office.call()
    office.sip.advance(33)
    assert office.finals == [408]


@pytest.mark.rfc("3261 16.8")
def test_callee_that_never_answers_is_cancelled_by_timer_c(office):
    office.call()
    office.answer(180)
    office.sip.advance(182)
    assert once(office.bob.methods) == ["INVITE", "CANCEL"]
    office.answer(487)
    assert office.finals == [487]


@pytest.mark.rfc("3261 16.5")
def test_unregistered_user_is_404(office):
    office.alice.ask("INVITE", f"sip:carol@{DOMAIN}")
    assert office.finals == [404]


def test_user_with_an_expired_registration_is_404(office):
    office.sip.advance(3601)
    office.call()
    assert office.finals == [404]


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "MESSAGE"])
def test_request_for_another_domain_is_not_forwarded(office, method):
    stranger = Peer(office.sip, "10.0.0.99")
    office.alice.ask(method, "sip:victim@10.0.0.99")
    assert (stranger.received, office.alice.statuses) == ([], [404])


def test_route_to_a_stranger_is_not_followed(office):
    stranger = Peer(office.sip, "10.0.0.99")
    office.alice.ask("INVITE", "sip:victim@10.0.0.99", route="<sip:10.0.0.99;lr>")
    assert stranger.received == []


def test_own_route_outside_a_dialog_opens_no_relay(office):
    stranger = Peer(office.sip, "10.0.0.99")
    office.alice.ask("INVITE", "sip:victim@10.0.0.99", route=f"<sip:{SERVER};lr>")
    assert (stranger.received, office.alice.statuses) == ([], [404])


def test_request_in_a_dialog_without_our_route_is_not_forwarded(office):
    stranger = Peer(office.sip, "10.0.0.99")
    office.alice.ask("BYE", "sip:victim@10.0.0.99", to="<sip:victim@10.0.0.99>;tag=9")
    assert (stranger.received, office.alice.statuses) == ([], [481])


@pytest.mark.rfc("3261 11.2")
def test_options_for_the_proxy_itself_is_answered(office):
    office.alice.ask("OPTIONS", f"sip:{DOMAIN}")
    assert office.alice.statuses == [200]


def test_message_to_a_registered_phone_passes_without_record_route(office):
    office.alice.ask("MESSAGE", f"sip:bob@{DOMAIN}", body=b"hello", content_type="text/plain")
    message = office.bob.last("MESSAGE")
    assert (message.body, "Record-Route" in message.headers) == (b"hello", False)
    office.bob.reply(message, 200)


def test_proxy_sends_its_own_100_and_forwards_the_180(office):
    office.call()
    office.sip.advance(0.3)
    office.answer(180)
    assert sent(office.sip, SERVER, office.alice.host)[-2:] == ["100", "180"]
    office.answer(486)


@pytest.mark.rfc("5393 4.2")
@pytest.mark.parametrize(("contacts", "status"), [(1, 482), (10, 440)])
def test_contacts_that_lead_back_to_the_proxy_end_soon(office, contacts, status):
    loops = ", ".join(f"<sip:loop@{SERVER};n={n}>" for n in range(contacts))
    office.alice.ask("REGISTER", f"sip:{SERVER}", to=f"<sip:loop@{SERVER}>", contact=loops)
    office.alice.received.clear()
    office.alice.ask("MESSAGE", f"sip:loop@{SERVER}")
    office.sip.advance(40)
    assert office.alice.statuses == [status]
    assert len(sent(office.sip, SERVER, SERVER)) <= 2 * contacts * (
        contacts + 1
    )  # requests and their responses


# ---- invalid hosts


INVALID_HOSTS = [
    "example..com",
    "[1::2::3]",
    "[12345::1]",
    "[1:2:3]",
    "1.2.3",
    "192.0.2.300",
    "a." + "b" * 64,
    "a." * 127 + "a",
]


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize("host", INVALID_HOSTS)
def test_request_uri_with_an_invalid_host_gets_400_from_a_proxy(sip, caller, host):
    stack = sip.serve(lambda request, tx: forward(request, tx))
    caller.send(
        bytes(caller.request("OPTIONS")).replace(
            f"bob@{SERVER} SIP".encode(), f"bob@{host} SIP".encode()
        )
    )
    assert caller.statuses == [400]
    assert stack.stats()["core_errors"] == 0


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize("host", INVALID_HOSTS)
def test_route_with_an_invalid_host_gets_400_from_a_proxy(sip, caller, host):
    sip.serve(lambda request, tx: forward(request, tx))
    caller.ask("OPTIONS", "sip:bob@10.0.0.61", route=f"<sip:{host};lr>")
    assert caller.statuses == [400]


@pytest.mark.rfc("3261 16.3")
@pytest.mark.parametrize("host", INVALID_HOSTS)
def test_invalid_hosts_for_other_hops_pass_a_proxy_unchanged(sip, caller, phones, host):
    sip.serve(lambda request, tx: forward(request, tx))
    lines = [
        f"sip:bob@{host}",
        f"<sip:bob@{host}>;tag=1",
        f"<sip:carol@{host}>",
        f"<sip:bob@{host}:5070>",
    ]
    caller.ask(
        "INVITE",
        lines[0],
        from_=lines[1],
        to=lines[2],
        contact=lines[3],
        route=f"<sip:{PHONES[0]};lr>",
    )
    got = phones[0].last("INVITE")
    assert [got.uri_text, *(got.headers[name] for name in ("From", "To", "Contact"))] == lines


@pytest.mark.rfc("5118 4.10")
def test_request_uri_with_three_colons_before_ipv4_is_reached(sip, caller):
    sip.serve(lambda request, tx: forward(request, tx))
    phone = Peer(sip, "2001:db8::c000:201")
    caller.ask("OPTIONS", "sip:bob@[2001:db8:::192.0.2.1]")
    assert phone.last("OPTIONS").uri_text == "sip:bob@[2001:db8:::192.0.2.1]"


def test_branch_given_up_while_its_name_resolves_is_not_awaited(sip, caller, phones, monkeypatch):
    def impatient(request, tx):
        with ResponseContext(tx) as context:
            with gevent.Timeout(0.01, False):
                context.fork("sip:bob@slow.example")
            context.fork(TARGETS[0])
            for response in context:
                context.forward(response)

    stack = sip.serve(impatient)
    resolve = stack.sender.resolve

    def slow(uri, *listener):
        return gevent.sleep(5) if uri.host == "slow.example" else resolve(uri, *listener)

    monkeypatch.setattr(stack.sender, "resolve", slow)
    phones[0].answer = lambda request: 200
    caller.ask("MESSAGE")
    gevent.sleep(0.05)
    sip.settle()
    assert caller.statuses == [200]
    assert stack.engine.workers.busy == 0


@pytest.mark.rfc("3261 16.3")
def test_request_at_max_forwards_0_is_483_from_a_response_context(sip, caller, phones, caplog):
    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(TARGETS[0])
            for response in context:
                context.forward(response)

    sip.serve(core)
    caller.ask("MESSAGE", max_forwards=0)
    assert (caller.statuses, phones[0].received, caplog.records) == ([483], [], [])
