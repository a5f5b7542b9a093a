"""ClientTransaction, Stack.request and Stack.invite: outcomes and leftovers, RFC 3261 §8.1, §9.1 and §13.2."""

from __future__ import annotations

import gevent
import pytest

from sippet_gevent import (
    Cancelled,
    InvalidValue,
    ParseError,
    Reject,
    Request,
    Timers,
    TransactionTimeout,
    TransportError,
)

from ..wire import Peer, start

CALLEE = "10.0.0.60"
BOB = f"sip:bob@{CALLEE}"


@pytest.fixture
def peer(sip):
    """A callee whose responses the test sends."""
    return Peer(sip, CALLEE)


def leftover(stack):
    """Return the number of client transactions."""
    return stack.stats()["client_transactions"]


# ---- a request


@pytest.mark.rfc("3261 8.1.1")
def test_request_gets_the_mandatory_header_fields(sip, peer):
    peer.answer = lambda request: 200
    sip.run(sip.client.request, "OPTIONS", BOB)
    request = peer.last("OPTIONS")
    assert str(request.to.uri) == BOB and request.to.tag is None
    assert request.from_.tag and request.call_id and request.cseq.number > 0
    assert request.max_forwards == 70
    assert request.via[0].branch.startswith("z9hG4bK")


@pytest.mark.rfc("3261 8.1.1.8")
@pytest.mark.parametrize(
    ("method", "count"), [("INVITE", 1), ("SUBSCRIBE", 1), ("OPTIONS", 0), ("MESSAGE", 0)]
)
def test_request_that_makes_a_dialog_has_one_contact(sip, peer, method, count):
    peer.answer = lambda request: 404
    sip.run(sip.client.send(Request(method, BOB)).final)
    assert len(peer.last(method).contact) == count


def test_request_returns_any_final_response(sip, peer):
    peer.answer = lambda request: 404
    assert sip.run(sip.client.request, "OPTIONS", BOB).status == 404


def test_provisional_responses_are_shown_as_they_come(sip, peer):
    shown = []
    greenlet = start(
        sip,
        sip.client.request,
        "OPTIONS",
        BOB,
        on_provisional=lambda response: shown.append(response.status),
    )
    peer.reply(peer.requests[0], 100)
    peer.reply(peer.requests[0], 200)
    assert (shown, greenlet.get().status) == ([100], 200)


def test_responses_can_be_iterated_over(sip, peer):
    tx = sip.client.send(Request("INVITE", BOB))
    sip.settle()
    for status in (100, 180, 486):
        peer.reply(peer.requests[0], status)
    assert [response.status for response in tx] == [100, 180, 486]


@pytest.mark.rfc("3261 8.1.3.1")
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_silence_is_a_timeout_after_64_t1(sip, peer, method):
    greenlet = start(sip, sip.client.send(Request(method, BOB)).final)
    sip.advance(31.9)
    assert not greenlet.ready()
    sip.advance(0.2)
    with pytest.raises(TransactionTimeout):
        greenlet.get()
    assert leftover(sip.client) == 0


@pytest.mark.rfc("3261 8.1.3.1")
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_request_that_cannot_be_sent_is_a_transport_error(sip, method):
    sip.client.engine.transports[0].failure = "network is unreachable"
    with pytest.raises(TransportError, match="unreachable"):
        sip.run(sip.client.send(Request(method, BOB)).final)
    assert leftover(sip.client) == 0


def test_uri_without_a_way_is_a_transport_error(sip):
    with pytest.raises(TransportError):
        sip.client.request("OPTIONS", "tel:+15551234")


def test_stack_that_stops_ends_its_requests(sip, peer):
    greenlet = start(sip, sip.client.request, "OPTIONS", BOB)
    sip.client.stop()
    sip.settle()
    with pytest.raises(TransportError, match="stopped"):
        greenlet.get()


# ---- deadlines of the user's own


@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "INVITE"])
def test_request_with_a_timeout_ends_then(sip, peer, method):
    greenlet = start(sip, sip.client.send(Request(method, BOB)).final, timeout=3)
    sip.advance(2.9)
    assert not greenlet.ready()
    sip.advance(0.2)
    with pytest.raises(TransactionTimeout, match="3 seconds"):
        greenlet.get()


def within(stack, seconds, function, *arguments, **options):
    """Call a function under a gevent.Timeout of the stack's clock."""
    timeout = stack.clock.timeout(seconds)
    try:
        return function(*arguments, **options)
    finally:
        timeout.close()


def test_gevent_timeout_round_a_request_leaves_no_transaction_behind(sip, peer):
    with pytest.raises(gevent.Timeout):
        sip.run(within, sip.client, 3, sip.client.request, "OPTIONS", BOB)
    assert leftover(sip.client) == 0


def test_gevent_timeout_of_a_silent_invite_leaves_no_transaction(sip, peer):
    with pytest.raises(gevent.Timeout):
        sip.run(within, sip.client, 3, sip.client.invite, BOB)
    sip.advance(33)
    assert leftover(sip.client) == 0


@pytest.mark.rfc("3261 9.1")
def test_gevent_timeout_round_an_invite_that_rings_cancels_it(sip, peer):
    greenlet = start(sip, within, sip.client, 3, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    peer.reply(invite, 180)
    sip.advance(3)
    assert peer.methods == ["INVITE", "CANCEL"]
    peer.reply(peer.last("CANCEL"), 200)
    peer.reply(invite, 487)
    with pytest.raises(gevent.Timeout):
        greenlet.get()
    sip.advance(33)
    assert leftover(sip.client) == 0


def test_killing_a_greenlet_that_waits_cancels_its_invite(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    peer.reply(peer.last("INVITE"), 180)
    gevent.kill(greenlet)
    sip.settle()
    assert peer.methods == ["INVITE", "CANCEL"]


def test_answer_after_the_user_has_left_is_dropped(sip, peer):
    greenlet = start(sip, sip.client.request, "OPTIONS", BOB, timeout=1)
    sip.advance(1.1)
    peer.reply(peer.requests[0], 200)
    assert sip.client.stats()["dropped"] == {"stray_response": 1}
    assert isinstance(greenlet.exception, TransactionTimeout)


def test_answer_at_the_last_moment_is_in_time(sip, peer):
    # Both are due at one moment: the response is there when the deadline strikes.
    greenlet = gevent.spawn(sip.client.request, "OPTIONS", BOB, timeout=1)
    sip.clock.settle()
    sip.clock.alarm(1, lambda: peer.requests[0].flow.send(bytes(peer.requests[0].response(200))))
    sip.advance(0.5)
    sip.network.delay = 0.0
    sip.advance(1)
    assert greenlet.ready()


def test_exception_in_on_provisional_cancels_the_invite(sip, peer):
    def ringing(response):
        raise RuntimeError("bug")

    greenlet = start(sip, sip.client.invite, BOB, on_provisional=ringing)
    peer.reply(peer.last("INVITE"), 180)
    assert peer.methods == ["INVITE", "CANCEL"]
    assert isinstance(greenlet.exception, RuntimeError)


# ---- an invite that is answered


def call(sip, peer, **options):
    """Call the peer, which answers at once, and return the Call, the INVITE and its 200."""
    greenlet = start(sip, sip.client.invite, BOB, **options)
    invite = peer.last("INVITE")
    response = peer.reply(invite, 200, contact=f"<{peer.uri}>", body="answer")
    return greenlet.get(), invite, response


def test_invite_returns_the_call_with_the_peer_s_body(sip, peer):
    answered, invite, _ = call(sip, peer, body="offer")
    assert (invite.body, answered.remote_body) == (b"offer", b"answer")
    answered.hangup()


@pytest.mark.rfc("3261 13.2.2.4")
def test_ack_to_200_has_the_number_of_the_invite_and_its_own_branch(sip, peer):
    answered, invite, response = call(sip, peer)
    ack = peer.last("ACK")
    assert str(ack.cseq) == f"{invite.cseq.number} ACK"
    assert ack.uri == response.contact[0].uri
    assert (ack.to.tag, ack.from_.tag, ack.call_id) == (
        response.to.tag,
        invite.from_.tag,
        invite.call_id,
    )
    assert ack.via[0].branch != invite.via[0].branch
    answered.hangup()


@pytest.mark.rfc("3261 13.2.2.4")
def test_ack_carries_the_credentials_of_the_invite(sip, peer):
    credentials = 'Digest username="alice", realm="r", nonce="n", uri="sip:x", response="0"'
    answered, _, _ = call(sip, peer, authorization=credentials, proxy_authorization=credentials)
    ack = peer.last("ACK")
    assert (len(ack.authorization), len(ack.proxy_authorization)) == (1, 1)
    answered.hangup()


@pytest.mark.rfc("3261 13.2.2.4")
def test_repeated_200_gets_the_same_ack_again(sip, peer):
    answered, invite, response = call(sip, peer)
    for _ in range(3):
        peer.reply(invite, response)
    acks = [bytes(request) for request in peer.requests if request.method == "ACK"]
    assert len(acks) == 4
    assert len(set(acks)) == 1
    answered.hangup()


@pytest.mark.rfc("3261 13.2.2.4")
def test_repeated_200_after_the_call_gets_its_ack_and_no_second_bye(sip, peer):
    answered, invite, response = call(sip, peer)
    answered.hangup()
    sip.settle()
    peer.reply(peer.last("BYE"), 200)
    peer.reply(invite, response)
    assert peer.methods == ["INVITE", "ACK", "BYE", "ACK"]


@pytest.mark.rfc("3261 15.1.2")
def test_bye_right_behind_the_200_finds_the_call(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    response = invite.response(200, contact=f"<{peer.uri}>")
    bye = peer.back(invite, response, "BYE")
    invite.flow.send(bytes(response))
    invite.flow.send(bytes(bye))  # both arrive before the caller's greenlet runs
    sip.settle()
    assert greenlet.get().ended.is_set()
    assert peer.statuses == [200]


@pytest.mark.rfc("3261 12.1.2")
def test_200_without_contact_is_acknowledged_to_where_we_have_asked(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    peer.reply(peer.last("INVITE"), 200)
    assert str(peer.last("ACK").uri) == BOB
    greenlet.get().hangup()


@pytest.mark.rfc("3261 17.1.3")
@pytest.mark.parametrize("line", [b"", b"From: <broken\r\n"])
def test_200_without_a_readable_from_belongs_to_its_request(sip, peer, line):
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    response = bytes(invite.response(200, contact=f"<{peer.uri}>"))
    invite.flow.send(response.replace(f"From: {invite.headers['From']}\r\n".encode(), line))
    sip.settle()
    assert peer.methods == ["INVITE", "ACK"]
    greenlet.get().hangup()


@pytest.mark.rfc("3261 25.1", "3261 13.2.2.4")
def test_200_with_an_unbracketed_contact_and_a_urn_is_acknowledged(sip, peer):
    phone = Peer(sip, "10.0.0.77")
    greenlet = start(sip, sip.client.invite, BOB)
    response = peer.last("INVITE").response(200)
    response.headers["Contact"] = (
        f'{phone.uri};+sip.instance="<urn:uuid:00000000-0000-4000-8000-000000000001>"'
    )
    peer.reply(peer.last("INVITE"), response)
    assert (phone.methods, phone.last("ACK").uri_text) == (["ACK"], phone.uri)
    greenlet.get().hangup()


@pytest.mark.parametrize("contact", ["<sip:@@@>", "<sip:bob@example..com>", "<sip:bob@[1::2::3]>"])
def test_200_with_an_unreadable_contact_is_acknowledged(sip, peer, contact):
    greenlet = start(sip, sip.client.invite, BOB)
    response = peer.last("INVITE").response(200)
    response.headers["Contact"] = contact
    peer.reply(peer.last("INVITE"), response)
    assert peer.methods == ["INVITE", "ACK"]
    greenlet.get().hangup()


def answer_with_route(peer, *routes, contact=None):
    """Let the peer answer the INVITE with these Record-Route lines, readable or not."""
    response = peer.last("INVITE").response(200, contact=contact or f"<{peer.uri}>")
    response.headers["Record-Route"] = routes
    return peer.reply(peer.last("INVITE"), response)


UNREADABLE = ["<<>>", "<sip:@@@>", "<sip:a", '"x <sip:10.0.0.60;lr>', "nonsense"]


@pytest.mark.rfc("3261 13.2.2.4")
@pytest.mark.parametrize("route", UNREADABLE)
def test_200_with_an_unreadable_record_route_gets_ack_and_bye(sip, peer, route):
    greenlet = start(sip, sip.client.invite, BOB)
    answer_with_route(peer, route)
    assert peer.methods == ["INVITE", "ACK", "BYE"]
    with pytest.raises(ParseError, match="Record-Route") as raised:
        greenlet.get()
    assert raised.value.status == 502
    assert sip.client.stats()["calls"] == 0


@pytest.mark.rfc("3261 13.2.2.4")
@pytest.mark.parametrize(
    "routes",
    [
        ("<sip:@@@>", f"<sip:{CALLEE};lr>"),
        (f"<sip:@@@>, <sip:{CALLEE};lr>",),
        (f"<sip:{CALLEE};lr>", "<<>>"),
    ],
)
def test_ack_and_bye_follow_the_readable_part_of_a_record_route(sip, peer, routes):
    greenlet = start(sip, sip.client.invite, BOB)
    answer_with_route(peer, *routes, contact="<sip:bob@10.0.0.99>")
    assert [(request.method, str(request.uri)) for request in peer.requests[1:]] == [
        ("ACK", "sip:bob@10.0.0.99"),
        ("BYE", "sip:bob@10.0.0.99"),
    ]
    assert [str(route) for route in peer.last("BYE").route] == [f"<sip:{CALLEE};lr>"]
    with pytest.raises(ParseError):
        greenlet.get()


@pytest.mark.rfc("3261 13.2.2.4")
def test_repeated_200_with_an_unreadable_record_route_gets_its_ack_again(sip, peer):
    peer.answer = lambda request: 200 if request.method == "BYE" else None
    greenlet = start(sip, sip.client.invite, BOB)
    response = answer_with_route(peer, "<<>>")
    peer.reply(peer.last("INVITE"), response)
    assert peer.methods == ["INVITE", "ACK", "BYE", "ACK"]
    assert isinstance(greenlet.exception, ParseError)


@pytest.mark.rfc("3261 13.2.2.4")
def test_second_branch_with_unreadable_record_route_gets_ack_and_bye(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    peer.reply(invite, 200, contact=f"<{peer.uri}>")
    other = invite.response(200, contact=f"<{peer.uri}>")
    other.to = f"{invite.to};tag=other"
    other.headers["Record-Route"] = "<<>>"
    peer.reply(invite, other)
    assert peer.methods == ["INVITE", "ACK", "ACK", "BYE"]
    assert peer.last("BYE").to.tag == "other"
    greenlet.get().hangup()


@pytest.mark.rfc("3261 13.2.2.4")
def test_b2bua_answers_502_for_a_broken_record_route_of_the_callee(sip, peer):
    sip.serve(lambda request, tx: tx.stack.invite(BOB))
    caller = Peer(sip, "10.0.0.50")
    caller.ask("INVITE")
    answer_with_route(peer, "<<>>")
    assert caller.statuses == [502]
    assert peer.methods == ["INVITE", "ACK", "BYE"]


def test_refusal_is_raised_with_its_response(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    peer.reply(peer.last("INVITE"), 486, reason="Busy Bee")
    with pytest.raises(Reject) as raised:
        greenlet.get()
    assert (raised.value.status, raised.value.reason, raised.value.response.status) == (
        486,
        "Busy Bee",
        486,
    )


@pytest.mark.rfc("3261 17.1.1.3")
def test_refusal_is_acknowledged_with_the_invite_s_branch(sip, peer):
    start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    response = peer.reply(invite, 486)
    ack = peer.last("ACK")
    assert ack.via[0].branch == invite.via[0].branch
    assert (ack.uri, ack.to.tag) == (invite.uri, response.to.tag)


# ---- a fork that answers more than once


@pytest.mark.rfc("3261 13.2.2.4")
def test_second_branch_that_answers_gets_ack_and_bye_in_this_order(sip, peer):
    answered, invite, _ = call(sip, peer)
    other = invite.copy().response(200, contact=f"<{peer.uri}>")
    other.to = "<sip:bob@10.0.0.60>;tag=other"
    peer.reply(invite, other)
    assert peer.methods == ["INVITE", "ACK", "ACK", "BYE"]
    assert [request.to.tag for request in peer.requests[2:]] == ["other", "other"]
    assert not answered.ended.is_set()
    answered.hangup()


@pytest.mark.rfc("3261 13.2.2.4")
def test_repeated_200_of_a_second_branch_gets_ack_and_no_second_bye(sip, peer):
    answered, invite, _ = call(sip, peer)
    other = invite.copy().response(200, contact=f"<{peer.uri}>")
    other.to = "<sip:bob@10.0.0.60>;tag=other"
    for _ in range(3):
        peer.reply(invite, other)
    assert peer.methods == ["INVITE", "ACK", "ACK", "BYE", "ACK", "ACK"]
    answered.hangup()


def test_branches_that_answer_are_bounded(sip, peer):
    answered, invite, _ = call(sip, peer)
    for number in range(100):
        other = invite.copy().response(200, contact=f"<{peer.uri}>")
        other.to = f"<sip:bob@10.0.0.60>;tag=other{number}"
        peer.reply(invite, other)
    assert peer.methods.count("BYE") == 31
    answered.hangup()


# ---- provisional responses and time


@pytest.mark.rfc("3261 16.6")
def test_ringing_that_never_ends_is_cancelled_by_timer_c(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    peer.reply(invite, 180)
    sip.advance(180.9)
    assert "CANCEL" not in peer.methods
    sip.advance(0.2)
    assert "CANCEL" in peer.methods
    with pytest.raises(TransactionTimeout, match="timer C"):
        greenlet.get()
    peer.reply(invite, 487)


@pytest.mark.rfc("3261 16.7")
def test_timer_c_starts_anew_with_each_provisional_response_but_100(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    for status in (180, 183, 180):
        peer.reply(invite, status)
        sip.advance(100)
    assert not greenlet.ready()
    peer.reply(invite, 486)
    assert isinstance(greenlet.exception, Reject)


@pytest.mark.rfc("3261 16.7")
def test_100_does_not_start_timer_c_anew(sip, peer):
    greenlet = start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    for status in (180, 100):
        peer.reply(invite, status)
        sip.advance(100)
    assert isinstance(greenlet.exception, TransactionTimeout)
    peer.reply(invite, 487)


def test_flood_of_provisional_responses_makes_no_more_deadlines(sip, peer):
    start(sip, sip.client.invite, BOB)
    invite = peer.last("INVITE")
    for _ in range(50):
        peer.reply(invite, 180)
    assert len(sip.client.deadlines) == 1
    peer.reply(invite, 486)


def test_timers_may_be_the_stack_s_own(sip, peer):
    caller = sip.stack(timers=Timers(t1=0.1))
    greenlet = start(sip, caller.request, "OPTIONS", BOB)
    sip.advance(6.5)
    assert isinstance(greenlet.exception, TransactionTimeout)


# ---- requests of a core that serves a request


def test_cancelled_leaves_a_request_of_a_core_whose_caller_gives_up(sip, peer):
    errors = []

    def core(request, tx):
        try:
            stack.request("OPTIONS", BOB)
        except Cancelled as error:
            errors.append(error)
            raise

    stack = sip.serve(core)
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(0.3)
    asked.cancel()
    assert asked.statuses == [100, 487]
    assert len(errors) == 1
    assert leftover(stack) == 0


def test_answered_invite_of_a_core_whose_caller_gave_up_is_hung_up(sip, peer):
    # 200 and CANCEL arrive at one moment, before the core runs again.
    stack = sip.serve(lambda request, tx: stack.invite(BOB) and 200)
    asked = sip.ask(stack, "INVITE sip:bob@example.com")
    sip.advance(0.3)
    invite = peer.last("INVITE")
    invite.flow.send(bytes(invite.response(200, contact=f"<{peer.uri}>")))
    asked.cancel()
    assert asked.statuses == [100, 487]
    assert peer.methods == ["INVITE", "ACK", "BYE"]


@pytest.mark.rfc("3261 8.1.1.7")
def test_branches_are_never_used_twice(sip, peer):
    peer.answer = lambda request: 200
    for _ in range(20):
        sip.run(sip.client.request, "OPTIONS", BOB)
    assert len({request.via[0].branch for request in peer.requests}) == 20


# ---- one Request object sent several times


@pytest.mark.rfc("3261 8.1.1")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE", "REGISTER"])
def test_request_object_is_as_it_was_made_after_it_was_sent(sip, peer, method):
    peer.answer = lambda request: 404
    request = Request(method, BOB, route=f"<sip:{CALLEE}>", subject="hi")
    before = bytes(request)
    tx = sip.client.send(request)
    sip.run(tx.final)
    assert (bytes(request), request.flow, request.sent_via) == (before, None, None)
    assert bytes(tx.request) == bytes(peer.last(method))


@pytest.mark.rfc("3261 8.1.1.4")
def test_request_sent_again_is_a_new_request_and_is_no_merged_one(sip):
    seen = []
    sip.stack(lambda request, tx: seen.append(request) or 200)
    request = Request("OPTIONS", "sip:x@10.0.0.2")
    assert [sip.run(sip.client.send(request).final).status for _ in range(2)] == [200, 200]
    first, second = seen
    assert (len(first.via), len(second.via)) == (1, 1)
    assert first.call_id != second.call_id and first.from_.tag != second.from_.tag
    assert first.via[0].branch != second.via[0].branch


@pytest.mark.rfc("3261 8.1.2", "3261 12.2.1.1")
def test_register_sent_again_goes_through_its_strict_router_again(sip, peer):
    peer.answer = lambda request: 200
    request = Request(
        "REGISTER", "sip:10.0.0.99", to="<sip:bob@10.0.0.99>", route=f"<sip:{CALLEE}>"
    )
    for number in (1, 2):
        request.cseq = f"{number} REGISTER"
        assert sip.run(sip.client.send(request).final, timeout=2).status == 200
    assert [(r.uri_text, str(r.route[-1].uri)) for r in peer.requests] == [
        (f"sip:{CALLEE}", "sip:10.0.0.99")
    ] * 2


@pytest.mark.rfc("3261 9.1", "3261 17.1.1.3")
def test_cancel_and_ack_of_an_invite_sent_to_two_have_the_branch_of_each(sip, peer):
    other = Peer(sip, "10.0.0.61")
    request = Request("INVITE", BOB)
    sent = [sip.client.send(request, f"sip:{host}") for host in (CALLEE, "10.0.0.61")]
    sip.settle()
    for callee, tx in zip((peer, other), sent):
        callee.reply(callee.last("INVITE"), 180)
        tx.cancel()
        sip.settle()
        callee.reply(callee.last("CANCEL"), 200)
        callee.reply(callee.last("INVITE"), 487)
    for callee in (peer, other):
        assert callee.methods == ["INVITE", "CANCEL", "ACK"]
        assert (
            len({r.via[0].branch for r in callee.requests})
            == len({r.call_id for r in callee.requests})
            == 1
        )
    assert peer.last("INVITE").via[0].branch != other.last("INVITE").via[0].branch


@pytest.mark.parametrize("copied", [False, True])
def test_request_that_has_left_is_not_sent_again(sip, peer, copied):
    peer.answer = lambda request: 200
    tx = sip.client.send(Request("OPTIONS", BOB))
    sip.run(tx.final)
    with pytest.raises(InvalidValue, match="was sent already"):
        sip.client.send(tx.request.copy() if copied else tx.request)


# ---- misrouted responses


@pytest.mark.rfc("3261 8.1.3.3")
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
@pytest.mark.parametrize("joined", [True, False])
def test_response_with_a_second_via_is_dropped_and_the_next_counts(sip, peer, method, joined):
    asking = start(sip, sip.client.request, method, BOB)
    request = peer.last(method)
    misrouted = request.response(404)
    further = "SIP/2.0/UDP 10.0.0.99:5060;branch=z9hG4bKfurther"
    if joined:
        misrouted.headers["Via"] = f"{misrouted.headers['Via']}, {further}"
    else:
        misrouted.headers.add("Via", further)
    peer.reply(request, misrouted)
    assert (asking.ready(), sip.client.stats()["dropped"]) == (
        False,
        {"response_via_mismatch": 1},
    )
    peer.reply(request, 486)
    assert asking.get().status == 486


@pytest.mark.rfc("3261 8.1.3.3")
def test_comma_in_quotes_makes_no_second_via(sip, peer):
    peer.answer = lambda request: request.response(200, via=f'{request.headers["Via"]};x="a, b"')
    assert sip.run(sip.client.request, "OPTIONS", BOB).status == 200


def test_request_that_had_a_second_via_may_have_it_in_its_response(sip, peer):
    peer.answer = lambda request: 200
    via = "SIP/2.0/UDP 10.0.0.99:5060;branch=z9hG4bKbelow"
    headers = {"from_": "<sip:a@b>;tag=1", "to": "<sip:b@b>", "call_id": "1", "cseq": "1 OPTIONS"}
    assert len(sip.run(sip.client.request, "OPTIONS", BOB, via=via, **headers).via) == 2
