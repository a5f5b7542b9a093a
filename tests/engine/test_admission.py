"""Limits: each is tried at the limit and after it, and never refuses what would free it, RFC 3261 §21.5.4."""

from __future__ import annotations

import logging
import tracemalloc

import gevent
import pytest
from gevent.event import Event

from sippet_gevent import Core, Limits, RegistrarProxy, ResponseContext, TransactionTimeout, forward
from sippet_gevent.engine.refused import RefusedLately

from ..core.wire import Peer

CALLER = "10.0.0.50"
PHONE = "10.0.0.61"


@pytest.fixture
def caller(sip):
    return Peer(sip, CALLER)


@pytest.fixture
def phone(sip):
    return Peer(sip, PHONE)


def answer(request, tx):
    """The core of the README: it holds its greenlet for as long as the call exists."""
    if request.method != "INVITE":
        return 200
    with tx.accept() as call:
        call.wait()


class Caller:
    """Calls of one peer to the server: INVITE, ACK, and BYE when told."""

    def __init__(self, sip, peer):
        self.sip, self.peer = sip, peer
        self.calls = []

    def call(self):
        """Call, acknowledge a 200, and return the final status."""
        invite = self.peer.ask("INVITE")
        self.sip.settle()
        response = self.final(invite)
        if response.status == 200:
            self.peer.send(self.peer.within(invite, response, "ACK"))
            self.calls.append((invite, response))
        return response.status

    def final(self, request):
        mine = [
            r
            for r in self.peer.responses
            if r.call_id == request.call_id and r.cseq.method == request.method
        ]
        return next(r for r in mine if r.status >= 200)

    def hang_up(self):
        """Send the BYE of the oldest call, and return its status."""
        invite, response = self.calls.pop(0)
        bye = self.peer.within(invite, response, "BYE")
        self.peer.send(bye)
        self.sip.settle()
        return self.final(bye).status


# ---- calls


def test_bye_is_200_while_more_calls_are_held_than_handlers(sip, caller):
    stack = sip.serve(answer, limits=Limits(handlers=3))
    callers = Caller(sip, caller)
    assert [callers.call() for _ in range(10)] == [200] * 10
    assert (stack.stats()["handlers"], stack.stats()["calls"], stack.stats()["overdue"]) == (
        0,
        10,
        0,
    )
    assert [callers.hang_up() for _ in range(10)] == [200] * 10
    assert (stack.stats()["calls"], stack.engine.workers.busy) == (0, 0)


def test_invite_at_the_limit_of_calls_is_503_until_a_bye(sip, caller):
    stack = sip.serve(answer, limits=Limits(calls=2, retry_after=(7, 7)))
    callers = Caller(sip, caller)
    assert [callers.call() for _ in range(4)] == [200, 200, 503, 503]
    assert [r.retry_after.seconds for r in caller.responses if r.status == 503] == [7, 7]
    assert callers.hang_up() == 200
    assert callers.call() == 200
    assert stack.stats()["refused"] == {"calls": 2}
    assert [callers.hang_up() for _ in range(2)] == [200, 200]


def test_bye_is_200_while_cores_that_ring_take_all_handlers(sip, caller):
    def core(request, tx):
        if request.method == "INVITE" and request.uri.user == "ring":
            tx.respond(180)
            tx.wait(20)
            return 486
        return answer(request, tx)

    stack = sip.serve(core, limits=Limits(handlers=2))
    callers = Caller(sip, caller)
    assert callers.call() == 200
    for _ in range(2):
        caller.ask("INVITE", "sip:ring@10.0.0.1")
    refused = caller.ask("OPTIONS")
    assert callers.final(refused).status == 503
    assert callers.hang_up() == 200
    assert stack.stats()["refused"] == {"handlers": 1}
    sip.advance(21)
    assert callers.final(caller.ask("OPTIONS")).status == 200


def test_ack_of_a_call_is_taken_while_the_reserve_of_handlers_is_used_up(sip, caller):
    def core(request, tx):
        if request.uri.user == "ring" or request.method == "INFO":
            tx.wait(20)
            return 486
        return answer(request, tx)

    stack = sip.serve(core, limits=Limits(handlers=2, reserve=0.5))
    callers = Caller(sip, caller)
    assert callers.call() == 200
    invite = caller.ask("INVITE")
    accepted = callers.final(invite)
    for _ in range(2):
        caller.ask("INVITE", "sip:ring@10.0.0.1")
    caller.send(caller.within(*callers.calls[0], "INFO"))
    sip.settle()
    assert stack.stats()["handlers"] == 3
    caller.send(caller.within(invite, accepted, "ACK"))
    sip.settle()
    assert (stack.stats()["dropped"], len(stack.dialogs)) == ({}, 2)
    assert all(call.acknowledged for call in stack.dialogs._calls.values())
    callers.calls.append((invite, accepted))
    bye = caller.within(*callers.calls.pop(0), "BYE", number=3)  # 2 is the INFO
    caller.send(bye)
    assert (callers.final(bye).status, callers.hang_up()) == (200, 200)


@pytest.mark.rfc("3262 3")
def test_prack_that_a_core_waits_for_is_taken_while_the_reserve_is_used_up(sip, caller):
    def core(request, tx):
        if request.uri.user == "reliable":
            tx.respond(183, reliable=True)
            tx.respond(180, reliable=True)  # waits for the PRACK to the 183
            return 486
        if request.uri.user == "ring" or request.method == "INFO":
            tx.wait(20)
            return 486
        return answer(request, tx)

    stack = sip.serve(core, limits=Limits(handlers=2, reserve=0.5))
    callers = Caller(sip, caller)
    assert callers.call() == 200
    invite = caller.ask(
        "INVITE",
        "sip:reliable@10.0.0.1",
        supported="100rel",
        body="offer",
        content_type="application/sdp",
    )
    progress = caller.responses[-1]
    assert progress.status == 183
    caller.ask("INVITE", "sip:ring@10.0.0.1")
    caller.send(caller.within(*callers.calls[0], "INFO"))
    assert stack.stats()["handlers"] == 3
    rack = f"{progress.headers['RSeq']} {invite.cseq.number} INVITE"
    prack = caller.within(invite, progress, "PRACK", rack=rack)
    caller.send(prack)
    sip.settle()
    assert callers.final(prack).status == 200
    ringing = next(each for each in caller.responses if each.status == 180)
    rack = f"{ringing.headers['RSeq']} {invite.cseq.number} INVITE"
    caller.send(caller.within(invite, ringing, "PRACK", rack=rack, number=3))
    assert callers.final(invite).status == 486
    caller.send(invite.ack(callers.final(invite)))
    bye = caller.within(*callers.calls.pop(0), "BYE", number=3)  # 2 is the INFO
    caller.send(bye)
    assert callers.final(bye).status == 200


def test_request_within_a_call_is_served_at_the_limit_of_transactions(sip, caller):
    sip.serve(answer, limits=Limits(transactions=2, reserve=2.0))
    callers = Caller(sip, caller)
    assert callers.call() == 200  # its transaction lingers for timer L
    assert callers.final(caller.ask("OPTIONS")).status == 200
    assert callers.final(caller.ask("OPTIONS")).status == 503
    assert callers.hang_up() == 200


def test_bye_with_a_made_up_to_tag_is_503_at_the_limit_of_handlers(sip, caller):
    sip.serve(lambda request, tx: tx.wait(5) or 200, limits=Limits(handlers=1))
    caller.ask("OPTIONS")
    bye = caller.ask("BYE", to="<sip:bob@10.0.0.1>;tag=nobody")
    assert Caller(sip, caller).final(bye).status == 503


def test_cancel_is_200_and_its_invite_487_at_every_limit(sip, caller):
    def core(request, tx):
        tx.respond(180)
        tx.wait(20)

    sip.serve(core, limits=Limits(handlers=1, transactions=1, reserve=0.0))
    invite = caller.ask("INVITE")
    caller.send(invite.cancel())
    sip.settle()
    assert [(r.status, r.cseq.method) for r in caller.responses if r.status >= 200] == [
        (200, "CANCEL"),
        (487, "INVITE"),
    ]


@pytest.mark.rfc("3261 8.2.7")
def test_repeated_refused_invite_is_refused_again_when_there_is_room(sip, caller):
    stack = sip.serve(lambda request, tx: tx.wait(1) or 486, limits=Limits(handlers=1))
    caller.ask("INVITE")
    invite = caller.ask("INVITE")
    first = Caller(sip, caller).final(invite)
    sip.advance(2)
    assert stack.stats()["handlers"] == 0
    caller.received.clear()
    caller.send(invite)
    sip.advance(2)
    again = Caller(sip, caller).final(invite)
    assert (again.status, again.to.tag, again.retry_after) == (503, first.to.tag, first.retry_after)


def test_request_refused_at_a_limit_is_logged_with_its_call_id(sip, caller, caplog):
    sip.serve(lambda request, tx: 200, limits=Limits(handlers=0))
    options = caller.ask("OPTIONS")
    sip.settle()
    assert caller.responses[-1].status == 503
    line = f"request refused at a limit: method=OPTIONS limit=handlers answered=503 call_id={options.call_id}"
    assert line in caplog.messages


def test_refused_requests_with_long_branches_take_no_memory():
    lately = RefusedLately(32.0)
    tracemalloc.start()
    for number in range(100):
        lately.add([f"z9hG4bK{number}" + "x" * 7000], 5, 0.0)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert [lately.get(f"z9hG4bK{number}" + "x" * 7000, 1.0) for number in (0, 99, 100)] == [
        5,
        5,
        None,
    ]
    assert taken < 50_000


def test_another_request_is_served_right_after_one_was_refused(sip, caller):
    sip.serve(lambda request, tx: tx.wait(1) or 486, limits=Limits(handlers=1))
    caller.ask("INVITE")
    caller.ask("INVITE")
    sip.advance(2)
    caller.received.clear()
    invite = caller.ask("INVITE")
    sip.advance(2)
    assert Caller(sip, caller).final(invite).status == 486


# ---- large requests


def large(peer, method, size, **headers):
    """Make a request of about so many bytes, as a peer may that wants to use up memory."""
    return peer.request(method, body="x" * (size - 400), content_type="text/plain", **headers)


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE", "REGISTER", "OPTIONS"])
def test_large_requests_beyond_their_bytes_are_503_and_small_ones_are_served(sip, caller, method):
    stack = sip.serve(lambda request, tx: 486, limits=Limits(large_bytes=20_000))
    callers = Caller(sip, caller)
    requests = [large(caller, method, 8000) for _ in range(4)]
    caller.send(*requests)
    assert [callers.final(request).status for request in requests] == [486, 486, 503, 503]
    assert callers.final(caller.ask("OPTIONS")).status == 486
    assert stack.stats()["refused"] == {"large_bytes": 2}
    assert 15_000 < stack.stats()["large_bytes"] < 17_000
    sip.advance(40)
    assert stack.stats()["large_bytes"] == 0
    again = large(caller, method, 8000)
    caller.send(again)
    assert callers.final(again).status == 486


def test_call_that_a_large_invite_has_begun_counts_its_bytes_until_its_bye(sip, caller):
    stack = sip.serve(answer, limits=Limits(large_bytes=20_000))
    callers = Caller(sip, caller)
    invite = large(caller, "INVITE", 8000)
    caller.send(invite)
    response = callers.final(invite)
    caller.send(caller.within(invite, response, "ACK"))
    sip.advance(40)
    assert 7500 < stack.stats()["large_bytes"] < 8500
    bye = caller.within(invite, response, "BYE", body="y" * 30_000)
    caller.send(bye)
    assert callers.final(bye).status == 503  # larger than all reserves
    caller.received.clear()
    bye = caller.within(invite, response, "BYE", body="y" * 18_000, number=3)
    caller.send(bye)
    assert callers.final(bye).status == 200
    sip.advance(40)
    assert stack.stats()["large_bytes"] == 0


def test_stack_that_stops_counts_no_large_request_any_more(sip, caller):
    stack = sip.serve(answer, limits=Limits(large_bytes=20_000))
    caller.send(large(caller, "INVITE", 8000))
    assert stack.stats()["large_bytes"] > 7500
    stack.stop()
    assert stack.stats()["large_bytes"] == 0


# ---- forwarding


def proxy(request, tx):
    if tx.take_route():
        return forward(request, tx)
    if request.method in ("INVITE", "MESSAGE"):
        return forward(request, tx, f"sip:bob@{PHONE}", record_route=request.method == "INVITE")
    return 200


def test_options_is_served_while_more_forwarded_invites_ring_than_handlers(sip, caller, phone):
    stack = sip.serve(proxy, limits=Limits(handlers=2))
    for _ in range(5):
        caller.ask("INVITE")
    assert (stack.stats()["forwarding"], stack.stats()["handlers"]) == (5, 0)
    assert Caller(sip, caller).final(caller.ask("OPTIONS")).status == 200
    for invite in phone.requests:
        phone.reply(invite, 486)
    assert stack.stats()["forwarding"] == 0


def test_invite_at_the_limit_of_forwarding_is_503_unlike_message(sip, caller, phone):
    stack = sip.serve(proxy, limits=Limits(forwarding=2, retry_after=(7, 7)))
    callers = Caller(sip, caller)
    for _ in range(2):
        caller.ask("INVITE")
    refused = callers.final(caller.ask("INVITE"))
    assert (refused.status, refused.retry_after.seconds) == (503, 7)
    message = caller.ask("MESSAGE")
    phone.reply(phone.last("MESSAGE"), 200)
    assert callers.final(message).status == 200
    for invite in [request for request in phone.requests if request.method == "INVITE"]:
        phone.reply(invite, 486)
    caller.ask("INVITE")
    phone.reply(phone.last("INVITE"), 486)
    assert stack.stats()["refused"] == {"forwarding": 1}


def test_bye_along_our_route_is_forwarded_at_both_limits(sip, caller, phone):
    stack = sip.serve(proxy, limits=Limits(forwarding=1, handlers=1))
    invite = caller.ask("INVITE")
    accepted = phone.reply(
        phone.last("INVITE"),
        200,
        contact=f"<sip:bob@{PHONE}>",
        to=f"{phone.last('INVITE').to};tag=bob",
    )
    route = phone.last("INVITE").record_route
    caller.send(caller.within(invite, accepted, "ACK", route=route))
    caller.ask("INVITE")  # it rings, and takes what may be forwarded
    message = caller.request("MESSAGE")
    caller.send(message)  # as many of the other methods
    refused = caller.ask("MESSAGE")
    bye = caller.within(invite, accepted, "BYE", route=route)
    caller.send(bye)
    assert phone.requests[-1].method == "BYE"
    phone.reply(phone.last("BYE"), 200)
    callers = Caller(sip, caller)
    assert (callers.final(bye).status, callers.final(refused).status) == (200, 503)
    phone.reply(phone.last("MESSAGE"), 200)
    phone.reply(phone.last("INVITE"), 486)
    sip.advance(40)
    assert stack.stats()["forwarding"] == 0


def test_thousand_ringing_invites_refuse_no_bye_options_or_register(sip, caller, phone):
    stack = sip.serve(RegistrarProxy())
    callers = Caller(sip, caller)
    phone.ask("REGISTER", "sip:10.0.0.1", to="<sip:bob@10.0.0.1>", contact=f"<{phone.uri}>")
    established = []
    for number in range(10):
        invite = caller.ask("INVITE")
        received = phone.last("INVITE")
        accepted = phone.reply(
            received, 200, contact=f"<{phone.uri}>", to=f"{received.to};tag=bob{number}"
        )
        caller.send(caller.within(invite, accepted, "ACK", route=received.record_route))
        established.append((invite, accepted, received.record_route))
    before = len(phone.requests)
    caller.send(*[caller.request("INVITE") for _ in range(1000)])
    assert stack.stats()["forwarding"] == 1000
    for number in range(20):
        registered = caller.ask(
            "REGISTER", "sip:10.0.0.1", to=f"<sip:a{number}@10.0.0.1>", contact=f"<{caller.uri}>"
        )
        assert callers.final(registered).status == 200
        assert callers.final(caller.ask("OPTIONS", "sip:10.0.0.1")).status == 200
    for invite, accepted, route in established:
        bye = caller.within(invite, accepted, "BYE", route=route)
        caller.send(bye)
        phone.reply(phone.last("BYE"), 200)
        assert callers.final(bye).status == 200
    for invite in [request for request in phone.requests[before:] if request.method == "INVITE"]:
        phone.reply(invite, 486)
    assert (stack.stats()["forwarding"], stack.stats()["refused"]) == (0, {})


def test_default_server_serves_register_while_invites_ring(sip, caller, phone):
    stack = sip.serve(RegistrarProxy(), limits=Limits(handlers=2))
    phone.ask("REGISTER", "sip:10.0.0.1", to="<sip:bob@10.0.0.1>", contact=f"<{phone.uri}>")
    for _ in range(5):
        caller.ask("INVITE")
    registered = caller.ask(
        "REGISTER", "sip:10.0.0.1", to="<sip:alice@10.0.0.1>", contact=f"<{caller.uri}>"
    )
    assert Caller(sip, caller).final(registered).status == 200
    for invite in [request for request in phone.requests if request.method == "INVITE"]:
        phone.reply(invite, 486)
    assert stack.stats()["forwarding"] == 0


# ---- cores that never end


def test_core_that_hangs_is_overdue_after_its_500_and_takes_no_handler(sip, caller, caplog):
    release = Event()

    def core(request, tx):
        if request.method == "MESSAGE":
            release.wait()
        return 200

    stack = sip.serve(core, limits=Limits(handlers=10))
    hung = [caller.ask("MESSAGE") for _ in range(10)]
    callers = Caller(sip, caller)
    assert callers.final(caller.ask("OPTIONS")).status == 503
    with caplog.at_level(logging.WARNING, "sippet_gevent.core"):
        sip.advance(31)
    assert [callers.final(request).status for request in hung] == [500] * 10
    assert (stack.stats()["handlers"], stack.stats()["overdue"]) == (0, 10)
    lines = [
        record.getMessage() for record in caplog.records if "core overdue" in record.getMessage()
    ]
    assert len(lines) == 10
    assert "method=MESSAGE answered=500" in lines[0] and "release.wait()" in lines[0]
    assert callers.final(caller.ask("OPTIONS")).status == 200
    release.set()
    sip.settle()
    assert (stack.stats()["overdue"], stack.engine.workers.busy) == (0, 0)


def test_new_request_beyond_the_limit_of_overdue_cores_is_503(sip, caller):
    release = Event()

    def core(request, tx):
        tx.respond(200)
        release.wait()

    stack = sip.serve(core, limits=Limits(overdue=2))
    for _ in range(2):
        caller.ask("MESSAGE")
    callers = Caller(sip, caller)
    assert callers.final(caller.ask("OPTIONS")).status == 503
    release.set()
    sip.settle()
    assert callers.final(caller.ask("OPTIONS")).status == 200
    assert stack.stats()["refused"] == {"overdue": 1}


def test_core_that_tidies_up_after_its_answer_is_told_about_once_and_late(sip, caller, caplog):
    release = Event()

    def core(request, tx):
        tx.respond(200)
        release.wait()

    sip.serve(core)
    caller.ask("MESSAGE")
    with caplog.at_level(logging.WARNING, "sippet_gevent.core"):
        sip.advance(31)
        assert not caplog.records
        sip.advance(200)
    assert len([record for record in caplog.records if "answered=200" in record.getMessage()]) == 1
    release.set()


def test_core_that_waits_for_its_own_call_is_neither_handler_nor_overdue(sip, caller, phone):
    def core(request, tx):
        tx.respond(202)
        with tx.stack.invite(f"sip:bob@{PHONE}") as call:
            call.wait()

    stack = sip.serve(core)
    caller.ask("REFER", refer_to=f"<sip:bob@{PHONE}>")
    assert stack.stats()["overdue"] == 1  # answered, and the call is still to be made
    invite = phone.last("INVITE")
    accepted = phone.reply(invite, 200, contact=f"<sip:bob@{PHONE}>", to=f"{invite.to};tag=bob")
    assert (stack.stats()["overdue"], stack.stats()["handlers"], stack.stats()["calls"]) == (
        0,
        0,
        1,
    )
    phone.send(phone.back(invite, accepted, "BYE"))
    sip.settle()
    assert stack.engine.workers.busy == 0


def test_core_that_is_stuck_at_an_ack_is_overdue_after_a_transactions_life(sip, caller):
    release = Event()

    def core(request, tx):
        if request.method == "ACK":
            release.wait()
        return 200

    stack = sip.serve(core)
    caller.ask("ACK", to="<sip:bob@10.0.0.1>;tag=x")
    assert stack.stats()["handlers"] == 1
    sip.advance(70)
    assert (stack.stats()["handlers"], stack.stats()["overdue"]) == (0, 1)
    release.set()
    sip.settle()
    assert stack.stats()["overdue"] == 0


def test_stray_acks_start_no_more_cores_than_handlers(sip, caller):
    release = Event()

    def core(request, tx):
        release.wait()

    stack = sip.serve(core, limits=Limits(handlers=2))
    for _ in range(5):
        caller.ask("ACK", to="<sip:bob@10.0.0.1>;tag=x")
    assert (stack.stats()["handlers"], stack.stats()["dropped"]) == (2, {"stray_ack": 3})
    release.set()


def test_core_that_is_killed_is_counted_no_longer(sip, caller):
    greenlets = []

    def core(request, tx):
        greenlets.append(gevent.getcurrent())
        tx.wait(10)
        return 200

    stack = sip.serve(core)
    caller.ask("MESSAGE")
    assert stack.stats()["handlers"] == 1
    gevent.get_hub().loop.run_callback(greenlets[0].throw, gevent.GreenletExit)
    sip.settle()
    assert (stack.stats()["handlers"], stack.stats()["overdue"]) == (0, 0)


def test_core_whose_200_was_never_acknowledged_is_counted_no_longer(sip, caller):
    raised = []

    def core(request, tx):
        try:
            tx.accept()
        except TransactionTimeout as error:
            raised.append(error)

    stack = sip.serve(core)
    caller.ask("INVITE")
    assert stack.stats()["calls"] == 1
    sip.advance(40)
    assert raised and (
        stack.stats()["calls"],
        stack.stats()["overdue"],
        stack.engine.workers.busy,
    ) == (0, 0, 0)


@pytest.mark.parametrize("method", ["MESSAGE", "ACK"])
def test_core_that_hangs_is_no_handler_when_the_stack_starts_again(sip, caller, method):
    release = Event()

    def core(request, tx):
        if request.uri.user == "hang":
            release.wait()
        return 200

    stack = sip.serve(core, limits=Limits(handlers=2))
    for _ in range(2):
        caller.ask(method, "sip:hang@10.0.0.1", to="<sip:bob@10.0.0.1>;tag=x")
    stack.stop()
    stack.start()
    assert (stack.stats()["handlers"], stack.stats()["overdue"]) == (0, 2)
    caller.ask("OPTIONS")
    assert caller.statuses[-1] == 200
    release.set()
    sip.settle()
    assert (stack.stats()["overdue"], stack.engine.workers.busy) == (0, 0)


def test_core_that_hangs_with_a_forwarded_request_is_overdue_after_its_500(sip, caller, phone):
    release = Event()

    def core(request, tx):
        with ResponseContext(tx) as context:
            context.fork(phone.uri)
            if request.uri.user == "hang":
                release.wait()
            for response in context:
                context.forward(response)

    phone.answer = lambda request: 200
    stack = sip.serve(core, limits=Limits(forwarding=2))
    for _ in range(2):
        caller.ask("MESSAGE", "sip:hang@10.0.0.1")
    assert (stack.stats()["forwarding"], stack.stats()["overdue"]) == (2, 0)
    sip.advance(40)
    assert (stack.stats()["forwarding"], stack.stats()["overdue"]) == (0, 2)
    caller.received.clear()
    caller.ask("MESSAGE")
    assert caller.statuses == [200]
    release.set()
    sip.settle()
    assert (stack.stats()["overdue"], stack.engine.workers.busy) == (0, 0)


def test_core_that_is_killed_at_an_ack_leaves_the_message_counted(sip, caller):
    greenlets = []

    def core(request, tx):
        greenlets.append(gevent.getcurrent())
        tx.wait(10)

    stack = sip.serve(core)
    caller.ask("ACK", to="<sip:bob@10.0.0.1>;tag=x")
    gevent.get_hub().loop.run_callback(greenlets[0].throw, gevent.GreenletExit)
    sip.settle()
    assert (stack.engine.counters.balance, stack.stats()["handlers"]) == (0, 0)


def test_stray_responses_run_no_more_callbacks_than_handlers(sip, caller):
    release = Event()

    class Waits(Core):
        def receive_response(self, response, tx):
            release.wait()

    stack = sip.serve(Waits(), limits=Limits(handlers=2))
    for _ in range(5):
        caller.send(caller.request("OPTIONS").response(200))
    assert (stack.engine.workers.busy, stack.stats()["dropped"]) == (2, {"stray_response": 3})
    release.set()
    sip.settle()
    caller.send(caller.request("OPTIONS").response(200))
    assert (stack.engine.workers.busy, stack.stats()["dropped"]) == (0, {"stray_response": 3})
